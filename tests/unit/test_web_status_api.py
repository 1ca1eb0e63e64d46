"""``/api/v1/status``: as ``mmp status`` writes it, by its schema, in every state there can be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import product
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from reconciler.core.events import (
    ControlledElsewhere,
    ControlTaken,
    Event,
    ExchangeFailed,
    Identified,
    LiveReadDone,
    SettingRejected,
    StateLockTimedOut,
)
from reconciler.core.history_records import LockHolder
from reconciler.core.live_evidence import Reads
from reconciler.core.model import Family, Known, LiveRead, LiveRow, Pause
from reconciler.core.monitoring.account_runtime import AccountRuntime, FileInForce, NewerRejected
from reconciler.core.monitoring.status import FamilyState
from reconciler.core.plan import PlanConstraints
from reconciler.core.problems import Code, problem
from reconciler.core.reply import Reply, ReplyClass
from reconciler.core.status_snapshot import too_old
from reconciler.documents.status import status_document
from reconciler.documents.status_snapshot import read_snapshots
from reconciler.documents.strict_reader import read_document
from reconciler.schema_files import load_schema
from reconciler.web.latest_state import LatestState
from reconciler.web.status_api import account_status, status_response
from tests.unit.builders import BTC, ETH, NOW, confirmed
from tests.unit.report_samples import HOSTILE, KNOWN, LEDGERS, LIVE
from tests.unit.runtime_world import WALL, A, compared, fresh, having, shared_state, wall_at

pytestmark = pytest.mark.unmeasured

DOWN = ExchangeFailed("reading live settings", Reply(ReplyClass.NO_ANSWER, "timeout", HOSTILE), NOW + 4)
STOPPED = ExchangeFailed("reading the account of the key", Reply(ReplyClass.ACCOUNT, "50119"), None)
REJECTED_SETTING = SettingRejected(BTC, A, Reply(ReplyClass.WRONG_SETTINGS, "51000", HOSTILE), None)
WRONG = problem(Code.UNKNOWN_KEY, "mmp.yaml", HOSTILE.replace("\r\n", " "), "did you mean it?", line=3)
CONTENT = FileInForce("mmp.yaml", "1" * 64, WALL)
FILE = NewerRejected("mmp.yaml", CONTENT, WALL + timedelta(seconds=9), (WRONG,))

FAILURES: list[tuple[Event, ...]] = [
    (),
    (DOWN,),
    (STOPPED, StateLockTimedOut(HOSTILE)),
    (REJECTED_SETTING, DOWN, DOWN),
]


def states() -> Iterator[AccountRuntime]:
    """Yield an account in every combination of what is on record, live, and gone wrong."""
    for known, rows, ledger, failures in product(KNOWN, LIVE, LEDGERS, FAILURES):
        shown = LIVE[rows]
        reads: tuple[Event, ...] = ()
        if shown is not None:
            reads = (LiveReadDone(LiveRead(NOW - 1, shown)),)
        rules = PlanConstraints(paused=frozenset({ETH}))
        event = compared(KNOWN[known], shown, ledger=LEDGERS[ledger], rules=rules)
        runtime = having(fresh(), Identified("446556540", None), *reads, event, *failures)
        yield replace(runtime, pauses=(Pause(ETH, HOSTILE, WALL, None),), config=FILE, policy=FILE)


def served(made: LatestState, *, now: float = NOW + 2) -> tuple[int, Any]:
    answer = status_response(made, now=now, wall=wall_at(now))
    return answer.status, json.loads(answer.body)


def errors(document: Any) -> list[str]:
    name = "problems" if document["format"] == "mmp/problems/1" else "status"
    found = Draft202012Validator(load_schema(name)).iter_errors(document)
    return [f"{list(one.absolute_path)}: {one.message}" for one in found]


@pytest.mark.slow
def test_every_state_is_by_the_schema_and_as_the_command_writes_it() -> None:
    seen = set()
    for runtime in states():
        status, document = served(shared_state(runtime))
        assert (status, errors(document)) == (200, [])
        watch = document.pop("watch")
        assert watch["errors"] or not runtime.errors
        (watched,) = shared_state(runtime).accounts()
        there = account_status(watched, now=NOW + 2, wall=wall_at(NOW + 2))
        assert document.pop("in_sync") == (there.status.in_sync and watch["protection"] != "unknown")
        written = json.loads(json.dumps(status_document(there.status)))
        assert document == {key: value for key, value in written.items() if key != "in_sync"}
        seen |= {family["state"] for family in document["families"]}
    assert seen == set(FamilyState)


def test_a_read_that_proves_nothing_yet_leaves_nothing_to_do_and_is_by_the_schema() -> None:
    rows = {BTC: LiveRow(A), ETH: LiveRow(A)}
    known: dict[Family, Known] = {BTC: confirmed("5000/2000/100", at=NOW), ETH: confirmed("5000/2000/100")}
    reads = Reads(LiveRead(NOW - 1, rows), frozenset({BTC}))
    event = compared(known, rows, reads=reads)
    status, document = served(shared_state(having(fresh(), LiveReadDone(LiveRead(NOW - 1, rows)), event)))
    assert (status, errors(document)) == (200, [])
    assert [(one["state"], one["pending"]) for one in document["families"]] == [
        ("uncertain", None),
        ("in-sync", None),
    ]


def test_before_the_first_comparison_every_family_is_listed_as_uncertain() -> None:
    status, document = served(shared_state(fresh()))
    assert (status, errors(document)) == (200, [])
    assert document["families"] == [
        {
            "family": family,
            "state": "uncertain",
            "desired": A.wire(),
            "accepted": None,
            "applied": None,
            "live": None,
            "pending": None,
        }
        for family in (BTC, ETH)
    ]
    assert (document["in_sync"], document["watch"]["protection"]) == (False, "unknown")
    assert (document["pacing"], document["eta_seconds"], document["pauses"]) == (None, 0, [])


def test_several_accounts_are_wrapped() -> None:
    status, document = served(shared_state(fresh(), fresh(account="other")))
    assert (status, errors(document)) == (200, [])
    assert (document["format"], len(document["statuses"])) == ("mmp/statuses/1", 2)


@pytest.mark.parametrize("awaited", [(), ("mmp.yaml", "b.yaml")])
def test_without_an_account_the_status_names_the_missing_files(awaited: tuple[str, ...]) -> None:
    status, document = served(shared_state(awaited=awaited))
    assert (status, errors(document)) == (503, [])
    assert [one["path"] for one in document["problems"]] == list(awaited or (None,))


def test_a_plan_can_be_made_against_it() -> None:
    row = LiveRow(A)
    event = compared(KNOWN["in sync"], {BTC: row, ETH: row})
    runtime = having(fresh(), Identified("1", None), LiveReadDone(LiveRead(NOW - 1, {BTC: row})), event)
    body = status_response(shared_state(runtime), now=NOW + 2, wall=wall_at(NOW + 2)).body
    (snapshot,) = read_snapshots(read_document(body, "it", "status", "statuses"), "it")
    assert too_old(snapshot, wall_at(NOW + 3), timedelta(minutes=1)) is None
    assert snapshot.families[BTC].live == row
    body = status_response(shared_state(fresh()), now=NOW, wall=WALL).body
    (snapshot,) = read_snapshots(read_document(body, "it", "status", "statuses"), "it")
    assert too_old(snapshot, WALL, timedelta(minutes=1)) is not None


def test_times_are_the_walls_of_their_instants() -> None:
    runtime = having(fresh(), compared(KNOWN["in sync"], LIVE["as desired"]), DOWN)
    _, document = served(shared_state(having(runtime, STOPPED, now=NOW + 1)), now=NOW + 61)
    watch = document["watch"]
    assert document["asked_at"] == "2026-03-01T03:01:01.000Z"
    assert watch["loop"] == {
        "alive": True,
        "last_step_at": "2026-03-01T03:00:01.000Z",
        "state_locked": None,
    }
    assert watch["outage"]["since"] == "2026-03-01T03:00:00.000Z"
    assert (watch["outage"]["failures"], watch["outage"]["retry_at"]) == (2, None)


def test_another_process_that_controls_the_account_is_named() -> None:
    elsewhere = ControlledElsewhere(LockHolder(7, "desk-1", "run", "2026-03-01T02:00:00Z"))
    event = compared(KNOWN["in sync"], LIVE["as desired"])
    _, document = served(shared_state(having(fresh(), elsewhere, event)))
    assert (errors(document), document["controller"]) == (
        [],
        {"host": "desk-1", "pid": 7, "purpose": "run", "since": "2026-03-01T02:00:00Z"},
    )
    _, document = served(shared_state(having(fresh(), elsewhere, ControlTaken(), event)))
    assert document["controller"] is None
