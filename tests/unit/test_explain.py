"""Everything the program says can be looked up, and a family's values are traced to their places."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal

import pytest

from reconciler.cli.explain import find_terms
from reconciler.config.settings import read_config, value_sources
from reconciler.core.apply_result import Outcome
from reconciler.core.change_direction import Direction
from reconciler.core.exposure import Figure
from reconciler.core.model import Family, Field
from reconciler.core.monitoring.status import FamilyState
from reconciler.core.plan import Action, HoldReason, Reason
from reconciler.core.policy import GUARD_RULE, ZERO_WORDS, Bound, Loosening, Policy, RefusalKind
from reconciler.core.problems import Code
from reconciler.core.reply import ReplyClass
from reconciler.documents.explain import FamilyTerm, explain_document
from reconciler.errors import Exit
from reconciler.okx.codes import TABLE
from reconciler.render.error_catalogue import ERRORS
from reconciler.render.explain import bound_words, families_text, family_term, terms_text
from reconciler.render.glossary import FIELDS, REPLY_CLASSES, STATUSES, WORDS
from reconciler.render.problem_catalogue import CATALOGUE
from reconciler.schema_files import load_schema
from tests.tidy.source import modules

pytestmark = pytest.mark.unmeasured

SAYS_A_CODE = {
    "MmpError",
    "UsageError",
    "InvalidInput",
    "AccountProblem",
    "StateLocked",
    "PlanStale",
    "ChangeRefused",
    "StateUnusable",
    "StateAccessDenied",
    "StateUnavailable",
    "StateAccountMismatch",
    "TransportFailure",
    "Reply",
    "no_answer",
}
"""Whatever is made with a code among its first two arguments."""


def codes_shown() -> Iterator[str]:
    """Yield every code in the package that an error or a reply of ours is made with."""
    for one in modules():
        for node in ast.walk(one.tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in SAYS_A_CODE:
                parts = [part for argument in node.args[:2] for part in ast.walk(argument)]
                texts = [part.value for part in parts if isinstance(part, ast.Constant)]
                yield from (
                    text
                    for text in texts
                    if isinstance(text, str) and re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", text)
                )


@pytest.mark.slow
def test_every_code_that_the_program_can_print_is_explained() -> None:
    shown = set(codes_shown())
    assert len(shown) > 60
    assert sorted(code for code in shown if not list(find_terms(code))) == []


def test_every_explained_code_is_used() -> None:
    assert sorted(set(ERRORS) - set(codes_shown())) == []


@pytest.mark.parametrize(
    "words", [Action, Reason, Direction, HoldReason, Outcome, FamilyState, RefusalKind]
)
def test_every_word_of_plans_and_results_is_explained(words: type[Action]) -> None:
    assert [word.value for word in words if word.value not in WORDS] == []


def test_every_key_of_the_file_every_status_and_every_class_is_explained() -> None:
    schema = load_schema("mmp")
    keys = set(schema["properties"]) | {name.value for name in Field}
    assert keys | {"uid", "prefix"} == set(FIELDS)
    assert set(STATUSES) == set(Exit)
    assert set(REPLY_CLASSES) == set(ReplyClass)


def test_every_rule_of_the_policy_and_every_zero_word_is_explained() -> None:
    limits = {
        f"bounds.{field.value}.{limit}"
        for field in Field
        for limit in ("min", "max", ZERO_WORDS.get(field, "max"))
    }
    loosening = {
        f"loosening.{key}" for key in load_schema("policy")["properties"]["loosening"]["properties"]
    }
    schema = load_schema("policy")
    floor = {f"floor.{key}" for key in schema["properties"]["floor"]["properties"]}
    figures = schema["$defs"]["bounds"]["properties"]["exposure"]["properties"]
    exposures = {f"bounds.exposure.{figure}.max" for figure in figures}
    assert {
        *limits,
        *loosening,
        *floor,
        *exposures,
        *ZERO_WORDS.values(),
        GUARD_RULE,
        "disable",
        "protected",
    } <= set(WORDS)


@pytest.mark.parametrize("code", TABLE)
def test_every_code_of_okx_is_explained_with_class_and_source(code: str) -> None:
    (term,) = [term for term in find_terms(f"okx-{code}") if term.kind == "okx"]
    assert term.explanation.remedy == TABLE[code].advice
    assert term.notes == (f"class {TABLE[code].reply_class}, {TABLE[code].source}",)


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("zero-with-unit", ["problem"]),
        ("state-locked", ["error"]),
        ("qtyLimit", ["field"]),
        ("frozen", ["word"]),
        ("8", ["status"]),
        ("exit-143", ["status"]),
        ("0", ["status", "okx"]),
        ("50011", ["okx"]),
        ("51008_1000", ["okx"]),
        ("7777", []),
        ("5", ["status"]),
        ("999", []),
        ("BTC-USD", []),
        ("", []),
    ],
)
def test_a_name_has_these_meanings(name: str, kinds: list[str]) -> None:
    assert [term.kind for term in find_terms(name)] == kinds


def test_a_term_reads_as_title_meaning_and_what_to_do() -> None:
    terms = list(find_terms(Code.ZERO_WITH_UNIT))
    message = CATALOGUE[Code.ZERO_WITH_UNIT]
    assert terms_text(terms) == (
        f"zero-with-unit · {message.title}\n  {message.meaning}\n  → {message.remedy}\n"
    )
    (document,) = explain_document(terms)["terms"]
    assert (document["name"], document["meaning"]) == ("zero-with-unit", message.meaning)
    assert terms_text(list(find_terms("0"))).count("\n\n") == 1


FILE = b"""\
version: 1
environment: live
defaults:
  timeInterval: 5s
  frozenInterval: 2s
families:
  BTC-USD: {qtyLimit: 100}
  ETH-USD:
    timeInterval: disabled
    qtyLimit: 7
"""


def explained(family: str, policy: Policy | None = None) -> FamilyTerm:
    reading = read_config(FILE, "mmp.yaml")
    assert reading.desired is not None
    name = Family(family)
    places = value_sources(reading, name) if name in reading.desired.families else {}
    by_field = {field: (origin.own, origin.source) for field, origin in places.items()}
    return family_term(name, reading.desired, by_field, policy)


GUARDED = "disabling it, a timeInterval below 100ms, or a factor of 1000 or more needs --allow"


def test_values_are_traced_to_the_line_they_come_from() -> None:
    text = families_text([explained("BTC-USD"), explained("ETH-USD")])
    assert text == (
        "BTC-USD in main (live) · mmp.yaml\n"
        "  100 contracts within 5s freeze the quotes for 2s\n"
        "  timeInterval    5s           from defaults, mmp.yaml:4:17\n"
        "  frozenInterval  2s           from defaults, mmp.yaml:5:19\n"
        "  qtyLimit        100          its own, mmp.yaml:7:23\n"
        f"  policy: none; {GUARDED}\n"
        "\n"
        "ETH-USD in main (live) · mmp.yaml\n"
        "  protection is switched off\n"
        "  timeInterval    disabled     its own, mmp.yaml:9:19\n"
        "  frozenInterval  2s           from defaults, mmp.yaml:5:19\n"
        "  qtyLimit        7            its own, mmp.yaml:10:15\n"
        f"  policy: none; {GUARDED}\n"
    )


def test_an_unmanaged_family_is_reported_as_one() -> None:
    term = explained("XAU-USD_UM")
    assert term.values == ()
    assert "unmanaged" in families_text([term])


def test_the_explanation_of_a_family_has_what_its_policy_allows() -> None:
    policy = Policy(
        "mmp-policy.yaml",
        "0" * 64,
        default={Field.QTY_LIMIT: Bound(None, Decimal("500"))},
        families={"BTC-*": {Field.TIME_INTERVAL: Bound(Decimal(1000), Decimal(60_000), False)}},
        loosening=Loosening(max_factor=Decimal(2)),
        protected=frozenset({Family("BTC-USD")}),
        default_exposure={Figure.PER_SECOND: Decimal(50), Figure.PER_MINUTE: Decimal(900)},
        family_exposures={"BTC-*": {Figure.PER_SECOND: Decimal("20.5")}},
    )
    term = explained("BTC-USD", policy)
    allowed = [value.policy for value in term.values]
    assert allowed == ["at least 1s, at most 1m, may not be disabled", None, "at most 500"]
    assert term.notes == (
        "policy: protected, so it may not be removed, disabled or paused",
        "policy: one change may raise its exposure by a factor of 2",
        "policy: exposure perSecond at most 20.5",
        "policy: exposure perMinute at most 900",
        "policy: disabling it, a timeInterval below 100ms, or a factor of 1000 or more needs --allow",
    )
    (document,) = explain_document(families=[term])["families"]
    assert [value["policy"] for value in document["values"]] == [allowed[0], None, allowed[2]]
    assert document["values"][2]["source"] == {"path": "mmp.yaml", "line": 7, "column": 23}
    limits = Loosening(Decimal(2), per=timedelta(days=7), unknown_allowed=True)
    assert explained("BTC-USD", Policy("p.yaml", "0" * 64, loosening=limits)).notes[:3] == (
        "policy: one change may raise its exposure by a factor of 2",
        "policy: all changes within 7d together may raise it by no more",
        "policy: it may be changed even if nothing is known of it (--no-live)",
    )
    lax = Policy("p.yaml", "0" * 64, disable_allowed=True)
    assert explained("BTC-USD", lax).notes == ()


def test_a_bound_is_shown_in_the_units_of_its_field() -> None:
    assert bound_words(Field.FROZEN_INTERVAL, Bound(None, None, True)) == "may be until-reset"
    assert bound_words(Field.QTY_LIMIT, Bound(Decimal("0.5"), None)) == "at least 0.5"
    assert bound_words(Field.QTY_LIMIT, None) is None
