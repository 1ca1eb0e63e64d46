"""Text from outside stays text: nothing breaks out of Markdown, HTML, a table or a terminal."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from markdown_it.token import Token

from reconciler.core.model import Family
from reconciler.core.policy_change import FileChange, PolicyChange
from reconciler.core.problems import escape_unprintable
from reconciler.documents.plan import IdentityChange, PlanContext, PolicyFile
from reconciler.render.markdown_escape import MAX_CELL_TEXT, cell, code
from reconciler.render.plan_markdown import plans_markdown
from tests.unit.builders import setting
from tests.unit.markdown_checks import BETWEEN, OLD, between, code_spans, hold_to_the_form, parsed

pytestmark = pytest.mark.unmeasured

MARKUP: list[str] = json.loads(
    (Path(__file__).parents[1] / "golden" / "markdown-payloads.json").read_text(encoding="utf-8")
)
"""What breaks out of Markdown, HTML, GitHub's and GitLab's extensions, terminals and log commands."""


def test_there_are_a_hundred_payloads() -> None:
    assert len(set(MARKUP)) >= 120


def shown(payload: str) -> str:
    """Return how a payload must read: control characters spelled out, cut when it is very long."""
    text = escape_unprintable(payload)
    return (text if len(text) <= MAX_CELL_TEXT else f"{text[: MAX_CELL_TEXT - 1]}…") or "(empty)"


@pytest.mark.slow
@pytest.mark.parametrize("payload", MARKUP, ids=repr)
def test_hostile_text_stays_text_wherever_it_comes_from_outside(payload: str) -> None:
    policy = PolicyFile(payload, "1" * 64)
    known = (
        IdentityChange("expect.uid", payload, payload),
        IdentityChange("credentials.prefix", payload, payload),
    )
    old = replace(
        OLD,
        path=payload,
        policy=policy,
        policy_change=PolicyChange(FileChange.RENAMED, payload, payload),
        account=f"{payload}x",
        environment=payload,
        identity=known,
    )
    context = PlanContext(payload, payload, payload[:64], policy, old=old)
    plan = replace(between(), account=payload)
    harmless = replace(
        BETWEEN,
        host="x",
        path="x",
        sha256="x",
        old=replace(
            OLD,
            path="x",
            account="x",
            environment="demo",
            policy_change=PolicyChange(FileChange.RENAMED, "x", "x"),
            identity=tuple(replace(each, before="x", after="x") for each in known),
        ),
    )
    for pages in ([(plan, context)], [(plan, context), (between(), BETWEEN)]):
        tokens = hold_to_the_form(plans_markdown(pages))
        usual = hold_to_the_form(plans_markdown([(between(), harmless), *pages[1:]]))
        assert shape(tokens) == shape(usual)
        # Account, host, path, sha256, the other path and the policy; sha256 is cut to twelve digits.
        assert code_spans(tokens).count(shown(payload)) >= 5


def shape(tokens: list[Token]) -> list[str]:
    """Return the kinds of tokens in order: what the document is made of, whatever it says."""
    return [token.type for token in tokens]


@pytest.mark.parametrize("payload", MARKUP, ids=repr)
def test_hostile_text_in_the_held_list_and_in_the_table_stays_in_its_place(payload: str) -> None:
    plan, family = between(), Family(payload)
    refused = tuple(replace(one, family=family, measured=payload, limit=payload) for one in plan.refusals)
    changes = tuple(replace(change, family=family) for change in plan.changes)
    hostile = replace(plan, refusals=refused, changes=changes, unmanaged={family: setting("1/1/1")})
    tokens = hold_to_the_form(plans_markdown([(hostile, BETWEEN)]))
    usual = hold_to_the_form(plans_markdown([(replace(plan, refusals=refused[:1]), BETWEEN)]))
    assert cells(tokens) == cells(usual)
    assert sum(token.type == "fence" for token in tokens) == 1


def cells(tokens: list[Token]) -> list[str]:
    """Return the kinds of tokens that make the tables."""
    return [token.type for token in tokens if token.type in ("tr_open", "th_open", "td_open")]


@pytest.mark.parametrize("payload", MARKUP, ids=repr)
def test_a_code_span_reads_as_the_text_it_was_made_of(payload: str) -> None:
    (paragraph,) = [token for token in parsed(f"a {code(payload)} b") if token.type == "inline"]
    assert [token.type for token in paragraph.children or ()] == ["text", "code_inline", "text"]
    assert code_spans(paragraph.children or []) == [shown(payload)]


@pytest.mark.parametrize(("left", "right"), list(product("`|\\ a", repeat=2)))
def test_a_cell_stays_in_its_column_whatever_its_neighbours(left: str, right: str) -> None:
    row = f"| {cell(left + 'x' + right)} | {cell(right + left)} |"
    tokens = parsed(f"| A | B |\n|---|---|\n{row}\n")
    assert sum(token.type == "td_open" for token in tokens) == 2
    message = [text.replace("\\x7c", "|") for text in code_spans(tokens)]
    assert message == [f"{left}x{right}", f"{right}{left}"]
