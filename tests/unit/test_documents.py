"""The JSON documents are what the published schemas say, and the schemas let nothing else through."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from functools import cache
from itertools import takewhile
from typing import Any

import pytest
from jsonschema.validators import Draft202012Validator

from reconciler.cli.output import Output
from reconciler.core.change_direction import Direction
from reconciler.core.model import Field
from reconciler.core.monitoring.status import FamilyState
from reconciler.core.plan import Action, HoldReason, Reason
from reconciler.core.policy import RefusalKind
from reconciler.documents.history import AccountHistory, history_document
from reconciler.documents.plan import (
    Document,
    PlanContext,
    PolicyFile,
    apply_document,
    one_or_list,
    plan_document,
    plan_summary,
)
from reconciler.documents.status import status_document
from reconciler.errors import MmpError
from reconciler.render.plan_text import plan_text
from reconciler.schema_files import load_schema
from tests.unit.builders import BTC, ETH, SOL, confirmed, desired, plan_of, setting
from tests.unit.report_samples import large_plans, refused_plan, result_sets, small_plans, status, statuses

pytestmark = pytest.mark.unmeasured

CONTEXT = PlanContext("openapi.okx.com", "mmp.yaml", "0" * 64, PolicyFile("mmp-policy.yaml", "1" * 64))
KINDS = ("plan", "apply", "status")
FREE_TEXT = {"message", "path", "host", "rule", "measured", "limit", "source"}
"""Keys whose text may be anything but the wrong type."""

NULLABLE = {
    *("before", "desired", "measured_from", "live", "accepted", "applied"),
    *("pending", "source", "pacing", "policy"),
}
"""Keys whose object may be null as far as a type goes; what null contradicts is tested on its own."""


@cache
def validator(kind: str) -> Draft202012Validator:
    return Draft202012Validator(load_schema(kind))


def plan_documents() -> Iterator[Document]:
    for plan in (*small_plans(), *large_plans()):
        yield plan_document(plan, CONTEXT)
    yield plan_document(plan_of({BTC: setting("5000/2000/100")}), PlanContext(None, "mmp.yaml", "a" * 64))


def apply_documents() -> Iterator[Document]:
    plan = plan_of({BTC: setting("5000/2000/100")})
    for text in result_sets():
        yield apply_document(plan, text, plan.digest)


def status_documents() -> Iterator[Document]:
    yield from map(status_document, statuses())


DOCUMENTS: dict[str, Callable[[], Iterator[Document]]] = {
    "plan": plan_documents,
    "apply": apply_documents,
    "status": status_documents,
}


def properties(schema: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every property that is described where it stands, not by reference or as a condition."""
    if not isinstance(schema, dict):
        return
    if "additionalProperties" in schema:
        yield from schema["properties"].items()
    for name, value in schema.items():
        yield from (
            (found for each in value for found in properties(each))
            if isinstance(value, list)
            else properties(value)
            if name != "then"
            else ()
        )


@pytest.mark.parametrize("kind", KINDS)
def test_a_schema_is_valid_and_every_property_has_a_title(kind: str) -> None:
    schema = load_schema(kind)
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"] == f"urn:mmp-reconciler:schema:{kind}:1"
    assert schema["title"]
    assert schema["description"]
    found = list(properties(schema))
    assert len(found) > 15
    assert [key for key, value in found if "title" not in value and "$ref" not in value] == []
    assert [name for name, one in schema["$defs"].items() if not one.get("title")] == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_document_the_program_can_make_is_as_the_schema_says(kind: str) -> None:
    count = 0
    for document in DOCUMENTS[kind]():
        assert [error.message for error in validator(kind).iter_errors(document)] == [], document
        count += 1
    assert count >= 10


def test_the_samples_hold_every_word_a_document_can_say() -> None:
    changes = [change for document in plan_documents() for change in document["changes"]]
    assert {change["action"] for change in changes} == {*Action}
    assert {change["reason"] for change in changes} == {*Reason}
    assert {change["direction"] for change in changes} == {*Direction, None}
    assert {change["because"] for change in changes} == {*HoldReason, None} - {HoldReason.STALE}
    refusals = [refusal for document in plan_documents() for refusal in document["refusals"]]
    assert {refusal["kind"] for refusal in refusals} == {*RefusalKind}
    assert {refusal["field"] for refusal in refusals} == {*Field, None}
    states = {family["state"] for document in status_documents() for family in document["families"]}
    assert states == {*FamilyState} - {FamilyState.HELD}
    outcomes = {text["outcome"] for document in apply_documents() for text in document["results"]}
    assert outcomes == {"applied", "adopted", "rejected", "unknown", "held", "skipped"}


@pytest.mark.parametrize(
    ("kind", "plural"), [("plan", "plans"), ("apply", "applies"), ("status", "statuses")]
)
def test_several_accounts_are_wrapped_and_one_is_not(kind: str, plural: str) -> None:
    first, second = next(DOCUMENTS[kind]()), next(DOCUMENTS[kind]())
    assert one_or_list(kind, [first]) is first
    many = one_or_list(kind, [first, second])
    assert many == {"format": f"mmp/{plural}/1", plural: [first, second]}
    assert validator(kind).is_valid(many)
    assert not validator(kind).is_valid({**many, plural: [first]})
    assert not validator(kind).is_valid({**many, plural: [first, {**second, "account": "Main"}]})
    assert not validator(kind).is_valid({**many, "more": 1})
    assert not validator(kind).is_valid({"format": f"mmp/{plural}/2", plural: [first, second]})


# ---- mutants: whatever is changed about a document, the schema has to see it ---------------------

Mutant = tuple[str, Document]
Part = Callable[[tuple[Any, ...]], bool]


def mutants(document: Document, part: Part = lambda path: True) -> Iterator[Mutant]:
    """Yield ``document`` with one thing wrong each: a key gone, a key too many, a value of no kind."""
    for path, value in nodes(document):
        if not part(path):
            continue
        if isinstance(value, dict):
            yield f"{path}: a key too many", changed(document, path, {**value, "extra": 1})
            for key in value:
                less = {name: one for name, one in value.items() if name != key}
                yield f"{path}: without {key}", changed(document, path, less)
        for wrong in wrong_values(path, value):
            yield f"{path}: {wrong!r}", changed(document, path, wrong)


def nodes(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if path:
        yield path, value
    else:
        yield (), value
    if isinstance(value, dict | list):
        for key, child in value.items() if isinstance(value, dict) else enumerate(value):
            yield from nodes(child, (*path, key))


def wrong_values(path: tuple[Any, ...], value: Any) -> Iterator[Any]:
    """Yield values that cannot stand where ``value`` does."""
    yield [[]] if not isinstance(value, list) else {}
    if not isinstance(value, bool):
        yield True
    if isinstance(value, str):
        yield 1
        if not FREE_TEXT & set(path[-1:]):
            yield value + "\n"
            yield value + " x"
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield -1
        yield str(value)
    elif isinstance(value, dict | list) and not NULLABLE & set(path[-1:]):
        yield None


def changed(document: Document, path: tuple[Any, ...], value: Any) -> Document:
    """Return ``document`` with ``value`` at ``path``, new along that path only."""
    if not path:
        return value if isinstance(value, dict) else {"document": value}
    copied = copy.copy(document)
    place: Any = copied
    for step in path[:-1]:
        place[step] = copy.copy(place[step])
        place = place[step]
    place[path[-1]] = value
    return copied


def telling(kind: str) -> Iterator[Document]:
    """Yield a few documents that together show every shape."""
    if kind == "plan":
        plans = {
            (each.action, each.reason, each.before): plan for plan in small_plans() for each in plan.changes
        }
        yield from (plan_document(plan, CONTEXT) for plan in plans.values())
        yield plan_document(list(large_plans(4))[-1], CONTEXT)
    elif kind == "apply":
        yield from list(apply_documents())[1::3]
    else:
        yield from (status_document(status(known, "drifted")) for known in ("changed", "uncertain"))
        yield status_document(status("in sync", "frozen"))


LISTS = ("changes", "refusals", "left_tighter", "results", "families")
"""What documents differ in. No schema looks from one element to another, or to what is around it."""


def singled(kind: str) -> Iterator[tuple[Document, Part]]:
    """Yield documents of one element at most in each list, and the part of each that none before had."""
    seen: set[str] = set()
    for document in telling(kind):
        lists = [name for name in LISTS if document.get(name)]
        for name in lists:
            for element in document[name]:
                if _is_new(seen, name, element):
                    yield {**document, name: [element]}, _in_the_first_of(name)
        if _is_new(seen, "", {**document, **dict.fromkeys(lists), **_without_counts(document)}):
            firsts = {name: document[name][:1] for name in lists}
            yield {**document, **firsts}, _around_the_lists


def _in_the_first_of(name: str) -> Part:
    return lambda path: path[:2] == (name, 0)


def _around_the_lists(path: tuple[Any, ...]) -> bool:
    return len(path) < 2 or path[0] not in LISTS


def _is_new(seen: set[str], place: str, value: Any) -> bool:
    text = f"{place} {json.dumps(value)}"
    new = text not in seen
    seen.add(text)
    return new


def _without_counts(document: Document) -> Document:
    """Return what differs from document to document in nothing but a number or a digest, without these."""
    counted = {name: str(type(number)) for name, number in document.get("summary", {}).items()}
    return {"summary": counted, "digest": None}


@pytest.mark.parametrize(
    ("kind", "least"), [pytest.param("plan", 4000, marks=pytest.mark.slow), ("apply", 200), ("status", 500)]
)
def test_a_schema_refuses_a_document_with_one_thing_wrong(kind: str, least: int) -> None:
    count, valid = 0, validator(kind).is_valid
    for document, part in singled(kind):
        assert valid(document)
        for name, mutant in mutants(document, part):
            assert not valid(mutant), name
            count += 1
    assert count > least


CHANGE_RULES = [
    ("set", {"order": None}),
    ("set", {"because": "guard"}),
    ("adopt", {"order": 1}),
    ("adopt", {"because": "frozen"}),
    ("adopt", {"direction": "tighten", "fields": []}),
    ("adopt", {"direction": None, "fields": ["qtyLimit"]}),
    ("adopt", {"is_live": None}),
    ("hold", {"because": None}),
    ("hold", {"order": 1}),
    ("hold", {"eta_seconds": 1.0}),
    ("set", {"reason": "new", "before": {"timeInterval": "1", "frozenInterval": "1", "qtyLimit": "1"}}),
    ("set", {"after": {"timeInterval": "0", "frozenInterval": "0", "qtyLimit": "0.0"}}),
    ("set", {"after": {"timeInterval": "05", "frozenInterval": "0", "qtyLimit": "1"}}),
    ("set", {"after": {"timeInterval": "5s", "frozenInterval": "0", "qtyLimit": "1"}}),
    ("set", {"after": {"timeInterval": "0", "frozenInterval": "0", "qtyLimit": "1e3"}}),
    ("set", {"fields": ["qtyLimit", "qtyLimit"]}),
    ("set", {"order": 0}),
]


@pytest.mark.parametrize(("action", "wrong"), CHANGE_RULES)
def test_a_change_that_contradicts_itself_is_refused(action: str, wrong: dict[str, Any]) -> None:
    for document in plan_documents():
        for place, change in enumerate(document["changes"]):
            if change["action"] == action:
                assert not validator("plan").is_valid(changed(document, ("changes", place), change | wrong))
                return
    pytest.fail(f"no {action} among the samples")


def test_a_result_that_contradicts_itself_is_refused() -> None:
    text = {"family": "BTC-USD", "outcome": "applied", "code": "0", "message": "", "attempts": 1}
    document = next(apply_documents()) | {"results": [text]}
    assert validator("apply").is_valid(document)
    for wrong in (
        {"code": "51000"},
        {"message": "no"},
        {"outcome": "held"},
        {"outcome": "held", "code": "0"},
    ):
        assert not validator("apply").is_valid({**document, "results": [text | wrong]})


def test_a_status_that_contradicts_itself_is_refused() -> None:
    document = status_document(status("changed", "never read"))
    pending = document["families"][0]
    assert pending["pending"] is not None
    for wrong in ({"state": "in-sync"}, {"pending": None}):
        assert not validator("status").is_valid({**document, "families": [pending | wrong]})


# ---- what the documents say ----------------------------------------------------------------------


def test_a_plan_document_has_the_promised_fields_in_the_promised_order() -> None:
    document = plan_document(
        plan_of(
            {BTC: setting("5000/2000/400"), ETH: setting("1000/0/500")},
            {BTC: confirmed("5000/2000/100.0"), ETH: confirmed("1000/0/500")},
        ),
        CONTEXT,
    )
    assert list(document) == [
        "format", "account", "environment", "host", "simulator", "basis", "config", "policy", "digest",
        "summary", "changes", "refusals", "left_tighter", "unchanged", "unmanaged",
    ]  # fmt: skip
    assert list(document["summary"]) == [
        "set", "adopt", "hold", "unchanged", "unmanaged", "left_tighter",
        "tighten", "loosen", "mixed", "enable", "disable", "eta_seconds",
    ]  # fmt: skip
    assert document["simulator"] is False
    assert document["changes"] == [
        {
            "family": "BTC-USD",
            "action": "set",
            "reason": "changed",
            "direction": "loosen",
            "fields": ["qtyLimit"],
            "before": {"timeInterval": "5000", "frozenInterval": "2000", "qtyLimit": "100.0"},
            "after": {"timeInterval": "5000", "frozenInterval": "2000", "qtyLimit": "400"},
            "is_live": False,
            "desired": None,
            "measured_from": None,
            "factor": "4",
            "exposure": {
                "before": {"per_trip": "100", "per_second": "20", "per_minute": "3100"},
                "after": {"per_trip": "400", "per_second": "80", "per_minute": "12400"},
            },
            "order": 1,
            "eta_seconds": None,
            "source": {"path": "mmp.yaml", "line": 6, "column": 3},
            "because": None,
        }
    ]
    assert document["unchanged"] == ["ETH-USD"]


@pytest.mark.parametrize("simulator", [False, True])
def test_a_document_says_whether_it_was_the_simulator(simulator: bool) -> None:
    plan = plan_of({BTC: setting("5000/2000/100")})
    text = {
        "plan": plan_document(plan, CONTEXT, simulator=simulator),
        "apply": apply_document(plan, (), plan.digest, simulator=simulator),
    }
    for kind, document in text.items():
        assert document["simulator"] is simulator
        assert validator(kind).is_valid(document)
        assert not validator(kind).is_valid({**document, "simulator": None})


def test_a_summary_counts_what_the_plan_holds() -> None:
    for plan in (*small_plans(), *large_plans(50)):
        text = plan_summary(plan)
        assert text["set"] + text["adopt"] + text["hold"] == len(plan.changes)
        assert text["unchanged"] == len(plan.unchanged)
        directions = sum(text[name] for name in ("tighten", "loosen", "mixed", "enable", "disable"))
        assert directions == sum(change.direction is not None for change in plan.changes)
        assert text["eta_seconds"] == round(plan.eta_s, 1)


def test_the_summary_of_an_apply_counts_its_results() -> None:
    for document in apply_documents():
        assert sum(document["summary"].values()) == len(document["results"])


@pytest.mark.slow
def test_the_same_inputs_give_the_same_bytes() -> None:
    for documents in DOCUMENTS.values():
        first, second = (json.dumps(list(documents())) for _ in range(2))
        assert first == second


def test_a_history_of_nothing_is_a_document_too() -> None:
    assert history_document("main", "live", AccountHistory()) == {
        "format": "mmp/history/1",
        "account": "main",
        "environment": "live",
        "damaged": 0,
        "attempts": [],
        "overrides": [],
        "policies": [],
        "accepted": [],
    }


def test_times_are_utc_to_the_millisecond() -> None:
    document = status_document(status("in sync", "as desired"))
    assert document["asked_at"] == "2026-03-01T03:00:00.000Z"
    assert document["live_at"] == "2026-03-01T02:59:55.000Z"


def test_a_pending_change_says_when_it_is_due() -> None:
    (btc, eth) = status_document(status("changed", "never read", "full"))["families"]
    assert (btc["pending"]["direction"], eth["pending"]["direction"]) == ("tighten", "enable")
    assert btc["pending"]["due_at"] == "2026-03-01T03:00:06.055Z"
    assert eth["pending"]["due_at"] == "2026-03-01T03:00:07.055Z"


def test_a_failure_without_a_document_of_its_own_is_a_problems_document(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Output("json").failure(MmpError("okx-50119", "no such key", "name the region's host"))
    document = json.loads(capsys.readouterr().out)
    assert Draft202012Validator(load_schema("problems")).is_valid(document)
    assert document["problems"][0]["path"] is None


def test_the_digest_is_the_reviewed_plan_s() -> None:
    plan = plan_of({BTC: setting("5000/2000/100")})
    other = plan_of({BTC: setting("5000/2000/101")})
    document = apply_document(other, (), plan.digest)
    assert document["digest"] == plan.digest != other.digest


def test_a_name_of_a_file_never_decides_what_is_planned() -> None:
    """Places are told, and are no part of the digest."""
    plan = plan_of({SOL: setting("5000/2000/100")})
    moved = plan_document(plan, PlanContext(None, "elsewhere/mmp.yml", "f" * 64))
    assert moved["digest"] == plan_document(plan, CONTEXT)["digest"]
    assert desired({SOL: setting("5000/2000/100")}).path == "mmp.yaml"


def test_a_text_plan_names_what_the_policy_refuses_beneath_the_changes() -> None:
    lines = plan_text(refused_plan(), CONTEXT, simulator=False).splitlines()
    place = lines.index("Refused by mmp-policy.yaml:")
    refused = list(takewhile(bool, lines[place + 1 :]))
    plan = refused_plan()
    commands = [line for line in refused if line.strip().startswith("if this is intended: mmp apply ")]
    assert len(refused) - len(commands) == len(plan.refusals) > 5
    assert len(commands) == len({refusal.family for refusal in plan.refusals})
    text = "qtyLimit 400, limit 300.5"
    assert refused[0].split(maxsplit=1)[0] == "ADA-USD"
    refused, commands = refused[2:], commands[1:]
    assert refused[0].split(maxsplit=1) == ["BTC-USD", f"bounds.qtyLimit.max: {text}"]
    digest, allowed = plan.digest_of(frozenset({BTC})), "--allow bounds:BTC-USD --allow loosen:BTC-USD"
    assert commands[0].endswith(f'mmp apply --family BTC-USD --expect {digest} {allowed} --reason "…"')
    guarded = plan_of({BTC: setting("0/2000/100")}, {BTC: confirmed("5000/2000/100")})
    assert "Refused by" not in plan_text(guarded, CONTEXT, simulator=False)
