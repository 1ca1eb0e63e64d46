"""A saved plan survives its file value for value, and every edit to that file shows."""

from __future__ import annotations

import copy
import json
import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import click
import pytest
from jsonschema.validators import Draft202012Validator

from reconciler.cli.main import cli
from reconciler.core.live_evidence import Reads
from reconciler.core.plan import Basis, Plan, PlanConstraints
from reconciler.core.policy import Loosening, Policy
from reconciler.documents.plan import Document, PlanContext, PolicyFile, StatusSource, plan_document
from reconciler.documents.saved_plan import Origin, context_of, integrity, read_saved, saved_document
from reconciler.documents.saved_plan_file import LoadedPlan, load_plan, stale_reasons
from reconciler.documents.status import status_document
from reconciler.documents.status_snapshot import read_snapshots
from reconciler.documents.strict_reader import MAX_DOCUMENT_BYTES, read_document
from reconciler.errors import InvalidInput
from reconciler.render.plan_markdown import MAX_COMMENT_BYTES, plans_markdown
from reconciler.render.plan_text import plan_text
from reconciler.schema_files import load_schema
from tests.support.slow import mostly_slow
from tests.unit.builders import BTC, ETH, NOW, confirmed, plan_of, read, row, setting
from tests.unit.report_samples import HOSTILE, large_plans, refused_plan, small_plans, statuses
from tests.unit.test_documents import mutants

pytestmark = pytest.mark.unmeasured

WALL = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)
HOST = "openapi.okx.com"
CONTEXTS = (
    PlanContext(HOST, "mmp.yaml", "a" * 64),
    PlanContext(
        HOST,
        HOSTILE,
        "a" * 64,
        policy=PolicyFile("mmp-policy.yaml", "b" * 64),
        against=StatusSource("https://desk.example/status", WALL - timedelta(minutes=2), 120.0),
    ),
)


def plans() -> Iterator[Plan]:
    """Yield every plan that can be saved: ``plan`` knows no overrides, and two files are not applied."""
    for plan in (*small_plans(), *large_plans(40)):
        if plan.basis is not Basis.FILE and plan.without_overrides is None:
            yield plan


def saved(plan: Plan, context: PlanContext = CONTEXTS[0], origin: Origin = Origin(False, "7")) -> Document:  # noqa: B008 a value
    """Return the document of ``plan`` as it is saved at WALL, through its bytes."""
    document = saved_document(
        plan_document(plan, context, simulator=origin.simulator),
        origin,
        plan_id="a" * 32,
        made_at=WALL,
        expires_at=WALL + timedelta(hours=24),
    )
    read: Document = json.loads(json.dumps(document, indent=2))
    return read


@pytest.mark.parametrize("context", CONTEXTS, ids=["plain", "everything"])
@pytest.mark.parametrize(
    "origin", mostly_slow([Origin(False, "7"), Origin(True, None)], first=1), ids=["okx", "simulator"]
)
def test_a_plan_comes_back_as_it_was_saved(context: PlanContext, origin: Origin) -> None:
    validator = Draft202012Validator(load_schema("plan"))
    count = 0
    for plan in plans():
        document = saved(plan, context, origin)
        assert validator.is_valid(document)
        back = read_saved(document, "plan.json")
        again = context_of(document, back)
        assert saved(back.plan, again, Origin(back.target.simulator, back.uid)) == document
        assert back.plan.digest == plan.digest
        assert back.plan.requests == tuple(rounded(change) for change in plan.requests)
        assert (back.made_at, back.expires_at) == (WALL, WALL + timedelta(hours=24))
        count += 1
    assert count > 50


def rounded(change: Any) -> Any:
    """Return a change with its eta as documents have it."""
    return change if change.eta_s is None else replace(change, eta_s=round(change.eta_s, 1))


# ---- edits -------------------------------------------------------------------------------------


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the place of every value in a document, and of every table and list."""
    if path:
        yield path
    items: Any = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, child in items:
        yield from leaves(child, (*path, key))


def edits(document: Document) -> Iterator[tuple[tuple[Any, ...], Document]]:
    """Yield the document with one value changed or taken away."""
    for path in leaves(document):
        for edit in (_other, None):
            edited = copy.deepcopy(document)
            place: Any = edited
            for step in path[:-1]:
                place = place[step]
            if edit is None:
                del place[path[-1]]
            else:
                place[path[-1]] = edit(place[path[-1]])
            yield path, edited


def _other(value: Any) -> Any:
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case str():
            return value[:-1] + ("1" if value[-1:] != "1" else "2")
        case None:
            return "drifted"
        case dict():
            return {**value, "more": 1}
        case _:
            return [*value, *value[:1]] if value else ["BTC-USD"]


def read_back(document: Document) -> Any:
    """Read a document as a file of it is read."""
    return read_saved(read_document(json.dumps(document).encode(), "plan.json", "plan"), "plan.json")


SAMPLE = plan_of({BTC: setting("5000/2000/400")}, {BTC: confirmed("5000/2000/100")})


@pytest.mark.slow
def test_whatever_is_edited_shows() -> None:
    count = 0
    for document in (
        saved(SAMPLE, CONTEXTS[1]),
        saved([plan for plan in large_plans(12) if plan.basis is not Basis.FILE][-1]),
    ):
        read_back(document)
        for path, edited in edits(document):
            with pytest.raises(InvalidInput) as refused:
                read_back(edited)
            known = ("plan-edited", "plan-malformed", "plan-foreign", "plan-too-new", "plan-not-saved")
            assert refused.value.code in known, path
            count += 1
    assert count > 200


def test_a_digest_that_is_not_the_plan_s_own_shows_even_under_a_fitting_seal() -> None:
    document = saved(SAMPLE)
    document["changes"][0]["after"]["qtyLimit"] = "500"
    document["saved"]["integrity"] = integrity(document)
    with pytest.raises(InvalidInput) as refused:
        read_back(document)
    assert refused.value.code == "plan-edited"


def reversed_order(plan: Any) -> None:
    plan["changes"].reverse()
    for number, change in enumerate(plan["changes"], 1):
        change["order"] = number


FORGED: dict[str, Any] = {
    "direction": lambda plan: plan["changes"][1].update(direction="tighten"),
    "fields": lambda plan: plan["changes"][1].update(fields=["frozenInterval"]),
    "order": reversed_order,
    "numbers": lambda plan: plan["changes"][1].update(order=1),
    "counts": lambda plan: plan["summary"].update(loosen=0, tighten=2),
    "actions": lambda plan: plan["summary"].update(set=0, hold=2),
    "waiting": lambda plan: plan["summary"].update(eta_seconds=0.1),
    "simulator": lambda plan: plan.update(simulator=True),
    "factor": lambda plan: plan["changes"][1].update(factor="1"),
    "no factor": lambda plan: plan["changes"][1].update(factor=None),
    "exposure": lambda plan: plan["changes"][1]["exposure"]["after"].update(per_trip="100"),
}


@pytest.mark.parametrize("name", FORGED)
def test_what_follows_from_before_and_after_cannot_be_forged(name: str) -> None:
    """Hash and digest fit, as who can write the file can write them: the values decide, not the file."""
    plan = plan_of(
        {BTC: setting("5000/2000/400"), ETH: setting("5000/2000/50")},
        {BTC: confirmed("5000/2000/100"), ETH: confirmed("5000/2000/100")},
    )
    document = saved(plan)
    assert [change["direction"] for change in document["changes"]] == ["tighten", "loosen"]
    FORGED[name](document)
    document["saved"]["integrity"] = integrity(document)
    assert document["digest"] == plan.digest
    with pytest.raises(InvalidInput) as refused:
        read_back(document)
    assert refused.value.code == "plan-edited"


@pytest.mark.parametrize(
    ("live", "base", "factor"),
    [
        ("0/2000/100", "5000/2000/50", 8),  # another proof than the plan's: nothing in the file says so
        ("0/2000/100", "0/2000/400", None),
        ("5000/2000/100", "5000/2000/400", 4),
        ("5000/2000/100", "5000/2000/99999", 4),
        ("5000/2000/100", "0/2000/100", 4),
        ("5000/2000/100", "5000/2000/50", 8),
    ],
)
def test_a_forged_base_never_makes_a_factor_smaller(live: str, base: str, factor: int | None) -> None:
    """Otherwise a plan file could show a loosening as raising nothing, though hash and digest fit."""
    reads = Reads(read(NOW, {BTC: row(live)}))
    plan = plan_of({BTC: setting("5000/2000/400")}, {BTC: confirmed("5000/2000/100")}, reads)
    forged = replace(plan, changes=(replace(plan.changes[0], measured_from=setting(base)),))
    assert read_back(saved(forged)).plan.changes[0].factor == factor


def test_the_override_of_a_forged_refusal_is_the_one_of_its_kind_and_family() -> None:
    document = saved(refused_plan())
    document["refusals"][0]["allow"] = "loosen:XRP-USD"
    document["saved"]["integrity"] = integrity(document)
    with pytest.raises(InvalidInput) as refused:
        read_back(document)
    assert refused.value.code == "plan-edited"


def test_refusals_of_a_plan_file_are_shown_as_its_policy_s_and_not_as_final() -> None:
    context = replace(CONTEXTS[0], policy=PolicyFile("mmp-policy.yaml", "b" * 64))
    document = saved(refused_plan(), context)
    back = read_back(document)
    text = plan_text(back.plan, context_of(document, back), simulator=False)
    said = "by mmp-policy.yaml (sha256 bbbbbbbbbbbb) when the plan was saved; mmp apply checks it again:"
    assert f"\nRefused {said}\n" in text
    markdown = plans_markdown([(back.plan, context_of(document, back))])
    assert said.replace(
        "mmp-policy.yaml (sha256 bbbbbbbbbbbb)", "`mmp-policy.yaml` (sha256 `bbbbbbbbbbbb`)"
    ) in (markdown)
    assert "when the plan was saved" not in plan_text(back.plan, context, simulator=False)


def test_a_sealed_plan_from_elsewhere_cannot_break_out_of_its_text() -> None:
    """Who can write the file can write the seal: what it says for people is text from outside."""
    rules = PlanConstraints(
        policy=Policy("mmp-policy.yaml", "b" * 64, loosening=Loosening(max_factor=Decimal(2)))
    )
    plan = plan_of({BTC: setting("5000/2000/400")}, {BTC: confirmed("5000/2000/100")}, rules=rules)
    sentence = 0
    for path in leaves(saved(plan, CONTEXTS[1])):
        document = saved(plan, CONTEXTS[1])
        place: Any = document
        for step in path[:-1]:
            place = place[step]
        if not isinstance(place[path[-1]], str) or path[-1] == "integrity":
            continue
        place[path[-1]] = "\x1b[31m\r\n::error::\u202e"
        document["saved"]["integrity"] = integrity(document)
        with suppress(InvalidInput):
            back = read_back(document)
            text = plan_text(back.plan, context_of(document, back), simulator=False)
            assert all(line.isprintable() for line in text.split("\n")), path
            assert not any(line.startswith("::") for line in text.split("\n")), path
            sentence += 1
    assert sentence >= 6


@pytest.mark.parametrize("name", ["made_at", "expires_at"])
def test_a_day_that_does_not_exist_is_no_moment(name: str) -> None:
    document = saved(SAMPLE)
    document["saved"][name] = "2026-02-30T00:00:00.000Z"
    document["saved"]["integrity"] = integrity(document)
    with pytest.raises(InvalidInput, match="a day that does not exist"):
        read_back(document)


def test_another_layout_of_the_same_document_is_no_edit() -> None:
    document = saved(SAMPLE, CONTEXTS[1])
    turned = json.loads(json.dumps(document, sort_keys=True), parse_float=lambda text: int(float(text)))
    assert json.dumps(turned) != json.dumps(document)
    assert read_back(turned) == read_back(document)


@pytest.mark.parametrize(
    ("change", "fits"),
    [({"host": None}, False), ({"basis": "file"}, False), ({"basis": "last-applied"}, True)],
)
def test_what_two_files_differ_in_is_no_plan_to_be_saved(change: Document, fits: bool) -> None:
    validator = Draft202012Validator(load_schema("plan"))
    assert validator.is_valid({**saved(SAMPLE), **change}) is fits
    bare = {name: value for name, value in saved(SAMPLE).items() if name != "saved"}
    assert validator.is_valid({**bare, **change})


def test_the_schema_is_strict_about_what_is_saved_with_a_plan() -> None:
    document = saved(SAMPLE, CONTEXTS[1])
    validator = Draft202012Validator(load_schema("plan"))
    count = 0
    for name, mutant in mutants(document):
        if any(key in mutant and mutant[key] != document[key] for key in ("saved", "against")):
            assert not validator.is_valid(mutant), name
            count += 1
    assert count > 30


# ---- what is no document of ours -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "code", "says"),
    [
        (b"", "plan-not-json", "is not strict JSON"),
        (b"\xff", "plan-not-json", "is not strict JSON"),
        (b"\xef\xbb\xbf{}", "plan-not-json", "is not strict JSON"),
        (b'{"a": NaN}', "plan-not-json", "NaN is not a JSON number"),
        (b'{"a": {"b": 1, "b": 2}}', "plan-not-json", "a key occurs twice"),
        (b"[" * 100_000, "plan-not-json", "it is nested too deeply"),
        (b"1" * 5000, "plan-not-json", "is not strict JSON"),
        (b" " * (MAX_DOCUMENT_BYTES + 1), "plan-too-large", "larger than 16 MiB"),
        (b"[]", "plan-foreign", "has no format"),
        (b"{}", "plan-foreign", "has no format; expected is mmp/plan/1"),
        (b'{"format": 1}', "plan-foreign", "has the format 1"),
        (b'{"format": "\\u001b[2J"}', "plan-foreign", "\\u001b[2J"),
        (b'{"format": "mmp/apply/1"}', "plan-foreign", "mmp/apply/1"),
        (b'{"format": "mmp/plan/2"}', "plan-too-new", "mmp/plan/2"),
        (b'{"format": "mmp/plan/1"}', "plan-malformed", "at its top: "),
    ],
)
def test_what_is_no_document_of_ours_is_refused_by_name(content: bytes, code: str, says: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_document(content, "plan.json", "plan")
    assert refused.value.code == code
    assert refused.value.message.startswith("plan.json ")
    assert says in refused.value.message
    assert refused.value.message.isprintable()
    assert len(refused.value.message) < 400


def test_the_place_of_what_does_not_fit_is_named() -> None:
    document = saved(SAMPLE)
    document["changes"][0]["after"]["qtyLimit"] = "0"
    with pytest.raises(InvalidInput, match=r"at changes\[0\]\.after\.qtyLimit: "):
        read_back(document)


# ---- shown ---------------------------------------------------------------------------------------


def loaded(path: Path, document: Document) -> LoadedPlan:
    """Write ``document`` to ``path`` and load it."""
    path.write_text(json.dumps(document))
    return load_plan(str(path))


def test_a_plan_is_stale_by_its_config_only_where_that_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The config is looked for from here and beside the plan; one that fits is enough."""
    folder, elsewhere = tmp_path / "plans", tmp_path / "elsewhere"
    for each in (folder, elsewhere):
        each.mkdir()
    monkeypatch.chdir(elsewhere)
    made_at = datetime.now(UTC)
    document = saved_document(
        plan_document(SAMPLE, PlanContext(HOST, "mmp.yaml", _sha256(b"as planned"))),
        Origin(False, None),
        plan_id="a" * 32,
        made_at=made_at,
        expires_at=made_at + timedelta(hours=1),
    )
    plan = loaded(folder / "plan.json", document)
    assert stale_reasons(plan) == ()
    (folder / "mmp.yaml").write_bytes(b"changed")
    assert stale_reasons(plan) == ("the config has changed since",)
    (elsewhere / "mmp.yaml").write_bytes(b"as planned")
    assert stale_reasons(plan) == ()
    (elsewhere / "mmp.yaml").write_bytes(b"changed, too")
    assert stale_reasons(plan) == ("the config has changed since",)


def _sha256(content: bytes) -> str:
    import hashlib

    return hashlib.sha256(content).hexdigest()


def test_a_stale_plan_in_markdown_is_as_short_as_any_other() -> None:
    document = saved(max(plans(), key=lambda plan: len(plan.changes)), CONTEXTS[1])
    back = read_saved(document, "plan.json")
    context = context_of(document, back)
    assert context.saved is not None
    stale = replace(context, saved=replace(context.saved, stale=("it expired", "the config has changed")))
    text = plans_markdown([(back.plan, stale)])
    assert text.splitlines()[1].startswith("> **STALE: it expired; the config has changed. ")
    assert len(text.encode()) <= MAX_COMMENT_BYTES


# ---- statuses ------------------------------------------------------------------------------------


def test_every_status_comes_back_as_it_was_published() -> None:
    count = 0
    for status in statuses():
        document = json.loads(json.dumps(status_document(status)))
        (back,) = read_snapshots(read_document(json.dumps(document).encode(), "s", "status"), "s")
        assert (back.account, back.environment, back.uid) == (
            status.desired.account,
            status.desired.environment,
            status.uid,
        )
        assert back.live_at == status.live_at
        assert back.unmanaged == status.unmanaged
        assert {
            family: (seen.wanted, seen.applied, seen.live, seen.uncertain)
            for family, seen in back.families.items()
        } == {
            one.family: (one.desired, one.applied, one.live, one.state == "uncertain")
            for one in status.families
        }
        assert back.paced is (status.pacing is not None)
        count += 1
    assert count > 10
    several = {"format": "mmp/statuses/1", "statuses": [document, document]}
    content = json.dumps(several).encode()
    assert len(read_snapshots(read_document(content, "s", "status", "statuses"), "s")) == 2


# ---- the documentation ---------------------------------------------------------------------------

DOCUMENTATION = Path(__file__).resolve().parents[2] / "docs" / "reviewed-changes.md"


def blocks(language: str) -> list[str]:
    """Return the fenced blocks of the documentation in ``language``."""
    return re.findall(rf"^```{language}\n(.*?)^```", DOCUMENTATION.read_text(), re.DOTALL | re.MULTILINE)


def test_the_saved_object_of_the_documentation_is_as_the_schema_says() -> None:
    (example,) = blocks("json")
    assert Draft202012Validator(load_schema("plan")).is_valid({**saved(SAMPLE), **json.loads(example)})


def test_every_command_of_the_documentation_can_be_given() -> None:
    lines = [line.partition(" #")[0] for block in blocks("sh") for line in block.splitlines()]
    commands = [shlex.split(line)[1:] for line in lines if line.startswith("mmp ")]
    assert len(commands) > 7
    for verb, *arguments in commands:
        command = cli.get_command(click.Context(cli), verb)
        assert command is not None
        command.make_context(verb, arguments)
