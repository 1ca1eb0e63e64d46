"""A process that shares its accounts out: what probes, metrics, status and page say of it and of others."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import combinations_with_replacement, count
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from prometheus_client.parser import text_string_to_metric_families

from reconciler.core.events import Event, LeaseEnded, LeaseTaken, StateFailed, StateLockTimedOut
from reconciler.core.model import Environment, ExchangeKind
from reconciler.core.monitoring.account_runtime import AccountRuntime
from reconciler.core.monitoring.unloaded_files import NO_UNLOADED_FILES, UnloadedFiles
from reconciler.core.problems import escape_unprintable
from reconciler.core.replica_assignment import (
    LEASE_TTL_S,
    Ability,
    LeaseTable,
    Replica,
    ReplicaStatus,
    lease_name,
)
from reconciler.render.status import status_text
from reconciler.schema_files import load_schema
from reconciler.web.latest_state import AccountSnapshot, LatestState
from reconciler.web.metrics import Metrics
from reconciler.web.page.render import page_html
from reconciler.web.page.view_model import UNASSIGNED, page_view
from reconciler.web.probes import ready_checks, startup_checks
from reconciler.web.status_api import account_status, status_response
from tests.support.example_accounts import NOW as SHARED_NOW
from tests.support.example_accounts import WALL as SHARED_WALL
from tests.support.example_accounts import shared
from tests.unit.builders import NOW
from tests.unit.report_samples import HOSTILE
from tests.unit.runtime_world import INTERVAL_S, WALL, compared, fresh, having, shared_state, wall_at

ME, OTHER = Replica("1", "pod-1", 7), Replica("2", "pod-2", 8)
MAIN, DESK, NEW = (lease_name(name, Environment.LIVE, ExchangeKind.OKX) for name in ("main", "desk", "new"))
KEEPS = frozenset({MAIN, DESK, NEW})
BOTH = {"1": KEEPS, "2": KEEPS}
STARTED = replace(fresh(), started=True)
AWAY = StateFailed("state-unavailable", "the connection was lost", NOW + 1)


def sharing(
    *mine: AccountRuntime, owners: dict[str, str], received: bool = True, failing: str = ""
) -> LatestState:
    """Return the board of a process that keeps ``mine``, of what it heard just now."""
    made = shared_state()
    roster = LeaseTable({"1": ME, "2": OTHER}, BOTH, owners)
    good_until = NOW + LEASE_TTL_S if received else float("-inf")
    made.replica = ReplicaStatus(ME, KEEPS, roster if received else None, good_until, failing)
    for one in mine:
        made.put(f"{one.desired.account}/live", AccountSnapshot(one, INTERVAL_S, owner=ME))
    return made


SHARED = sharing(STARTED, owners={MAIN: "1", DESK: "2"})
ALL_ELSEWHERE = sharing(owners={MAIN: "2", DESK: "2", NEW: "2"})
UNHEARD = sharing(owners={}, received=False)


def failed(made: LatestState, *, now: float = NOW) -> dict[str, str]:
    checks = (*ready_checks(made, answers=True, now=now), *startup_checks(made, now=now))
    return {check.name: check.message for check in checks if not check.passed}


def test_a_replica_without_accounts_is_ready_and_started_if_others_run_all() -> None:
    assert failed(ALL_ELSEWHERE) == {}


def test_with_an_unassigned_account_a_replica_has_not_started() -> None:
    assert failed(SHARED) == {"leases": "1 account not assigned yet"}
    assert failed(sharing(STARTED, owners={MAIN: "1", DESK: "2", NEW: "2"})) == {}
    assert failed(sharing(fresh(), owners={MAIN: "1", DESK: "2", NEW: "2"})).keys() == {
        "protected-main-live"
    }


def test_nothing_is_ready_before_the_first_cluster_view() -> None:
    assert failed(UNHEARD) == {
        "state": "it is not open yet",
        "sharing": "the state has not been reached",
        "leases": "the state has not been reached",
    }


def test_a_state_that_does_not_reply_is_reported_with_the_reason() -> None:
    silent = sharing(owners={MAIN: "2", DESK: "2", NEW: "2"}, failing="the server is away")
    assert failed(silent) == {}, "one lost beat is nothing"
    output = dict.fromkeys(("sharing", "leases"), "the server is away")
    assert failed(silent, now=NOW + LEASE_TTL_S) == output, "who keeps what is not known any more"


@pytest.mark.parametrize(
    ("keeps", "owners", "expected"),
    [
        ((), {}, {"settings": "no file is accepted yet"}),
        ((MAIN,), {}, {"leases": "1 account not assigned yet"}),
        ((MAIN,), {MAIN: "1"}, {"leases": "1 account not assigned yet"}),
        ((MAIN,), {MAIN: "2"}, {}),
        ((), {MAIN: "2"}, {}),
    ],
)
def test_without_any_running_account_nothing_is_protected(
    keeps: tuple[str, ...], owners: dict[str, str], expected: dict[str, str]
) -> None:
    made = sharing(owners=owners)
    assert made.replica is not None
    made.replica = replace(made.replica, configured=frozenset(keeps))
    assert failed(made) == expected


class Racing(LatestState):
    """A board that is written to while it is read: before its n-th read whatever is due by then."""

    def __getattribute__(self, name: str) -> Any:
        if name in ("unloaded", "replica", "_accounts"):
            clock = super().__getattribute__("version")
            clock()
        return super().__getattribute__(name)


@pytest.mark.parametrize("due", list(combinations_with_replacement(range(9), 3)))
def test_a_file_that_comes_while_a_probe_looks_lets_it_never_pass(due: tuple[int, int, int]) -> None:
    """A run shows the account's settings, then that nobody waits for them, then the account."""
    waiting = sharing(owners={DESK: "2"})
    assert waiting.replica is not None
    before = replace(waiting.replica, configured=frozenset({DESK}))
    unprotected = {"main/live": AccountSnapshot(fresh(), INTERVAL_S, owner=ME)}
    steps: list[tuple[str, object]] = [
        ("replica", replace(before, configured=frozenset({DESK, MAIN}))),
        ("unloaded", NO_UNLOADED_FILES),
        ("_accounts", unprotected),
    ]
    reads = count()

    def write() -> None:
        at = next(reads)
        for when, (name, value) in zip(due, steps, strict=True):
            if when == at:
                object.__setattr__(made, name, value)

    made = Racing("", WALL, UnloadedFiles(("mmp.yaml",)), replica=before)
    object.__setattr__(made, "version", write)
    assert not all(check.passed for check in startup_checks(made, now=NOW))


def test_a_state_that_an_account_cannot_use_is_not_ready_until_it_can() -> None:
    away = having(STARTED, AWAY)
    assert failed(shared_state(away)) == {"state": "the connection was lost"}
    assert failed(shared_state(having(away, StateLockTimedOut("pid 7 holds it")))) == {}


def test_a_state_that_was_never_open_is_reported_with_the_reason() -> None:
    made = shared_state()
    assert failed(made)["state"] == "it is not open yet"
    made.error = "the server is away"
    assert failed(made)["state"] == "the server is away"


def test_the_message_of_a_server_is_shown_in_one_line() -> None:
    made = shared_state()
    made.error = HOSTILE
    silent = sharing(owners={MAIN: "2", DESK: "2", NEW: "2"}, failing=HOSTILE)
    unheard = sharing(owners={}, received=False, failing=HOSTILE)
    lost = shared_state(having(STARTED, replace(AWAY, message=HOSTILE)))
    for one in (made, silent, unheard, lost):
        output = failed(one, now=NOW + LEASE_TTL_S)
        assert escape_unprintable(HOSTILE) in output.values()
        assert [line for line in output.values() if not line.isprintable()] == []


# ---- the status ------------------------------------------------------------------------------------


def served(made: LatestState) -> Any:
    answer = status_response(made, now=NOW + 2, wall=wall_at(NOW + 2))
    assert answer.status == 200
    document = json.loads(answer.body)
    Draft202012Validator(load_schema("status")).validate(document)
    return document


def test_a_status_has_the_accounts_of_this_replica_and_the_owners_of_the_others() -> None:
    document = served(SHARED)
    assert [one["account"] for one in document["statuses"]] == ["main"]
    assert document["statuses"][0]["owner"] == {"host": "pod-1", "pid": 7, "replica": "1"}
    assert document["other_accounts"] == [
        {"account": "desk", "environment": "live", "owner": {"host": "pod-2", "pid": 8, "replica": "2"}},
        {"account": "new", "environment": "live", "owner": None},
    ]


def test_accounts_that_a_replica_cannot_serve_are_reported_everywhere() -> None:
    made = sharing(STARTED, owners={MAIN: "1", DESK: "2", NEW: "2"})
    assert made.replica is not None
    assert made.replica.leases is not None
    assert "unable" not in served(made)
    assert counted(made)["mmp_unable_accounts"] == 0
    abilities = {"1": Ability({NEW: None, DESK: 21.0}), "2": Ability({MAIN: None})}
    made.replica = replace(made.replica, leases=replace(made.replica.leases, abilities=abilities))
    assert served(made)["unable"] == [
        {"account": "desk", "environment": "live"},
        {"account": "new", "environment": "live"},
    ]
    assert counted(made)["mmp_unable_accounts"] == 2
    output = page_view(made, now=NOW, wall=WALL).remote_text
    assert output.endswith("It cannot serve 2 accounts now: not read live, or its key is rejected here.")


def test_a_replica_without_accounts_still_reports_the_owners() -> None:
    document = served(ALL_ELSEWHERE)
    assert (document["statuses"], len(document["other_accounts"])) == ([], 3)
    assert status_response(UNHEARD, now=NOW, wall=WALL).status == 503


def test_an_account_on_its_way_from_here_is_unassigned() -> None:
    """The newest roster still has it as ours, and it is not kept any more."""
    leaving = sharing(owners={MAIN: "1", DESK: "2", NEW: "2"})
    assert leaving.remote_accounts() == (
        ("desk", "live", OTHER),
        ("main", "live", None),
        ("new", "live", OTHER),
    )


def test_the_status_text_names_the_owner_of_the_account() -> None:
    (watched,) = SHARED.accounts()
    status = account_status(watched, now=NOW, wall=WALL).status
    assert "run by pod-1 (pid 7)" in status_text(status)
    assert "kept by" not in status_text(replace(status, owner=None))
    hostile = replace(status, owner=Replica("1", HOSTILE, 7))
    assert "\n" not in status_text(hostile).splitlines()[0]
    assert "\x1b" not in status_text(hostile)


# ---- the metrics -----------------------------------------------------------------------------------


def values(made: Metrics) -> dict[str, float]:
    found = text_string_to_metric_families(made.answer().body.decode())
    return {sample.name: sample.value for family in found for sample in family.samples}


def counted(made: LatestState, *events: Event) -> dict[str, float]:
    metrics = Metrics(made, now=lambda: NOW, wall=lambda: WALL)
    for event in events:
        metrics.observe(("main", "live"), event)
    return values(metrics)


def test_leases_and_replicas_are_counted_where_accounts_are_shared_out() -> None:
    found = counted(SHARED)
    assert (found["mmp_leases"], found["mmp_replicas"]) == (1, 2)
    assert "mmp_leases" not in counted(shared_state(STARTED))
    assert "mmp_replicas" not in counted(UNHEARD)


@pytest.mark.parametrize(
    ("event", "takeovers", "failures"),
    [
        (LeaseTaken("pod-2 (pid 8)"), 1, 0),
        (LeaseTaken(""), 0, 0),
        (LeaseEnded(lost=True), 0, 0),
        (AWAY, 0, 1),
    ],
)
def test_takeovers_and_failures_of_the_state_are_counted(
    event: Event, takeovers: int, failures: int
) -> None:
    found = counted(SHARED, event)
    assert found["mmp_takeovers_total"] == takeovers
    assert found["mmp_state_failures_total"] == failures


def test_a_failure_that_is_about_no_account_is_counted_too() -> None:
    metrics = Metrics(SHARED, now=lambda: NOW, wall=lambda: WALL)
    metrics.observe_process(AWAY)
    assert values(metrics)["mmp_state_failures_total"] == 1


# ---- the page --------------------------------------------------------------------------------------


def test_the_page_shows_the_owner_of_each_account_with_unassigned_ones_first() -> None:
    page = page_view(SHARED, now=NOW, wall=WALL)
    assert page.accounts[0].place.endswith("run by pod-1 (pid 7)")
    assert [line.name for line in page.remote] == ["new (live)", "desk (live)"]
    assert page.remote[1].text == "run by pod-2 (pid 8)"
    assert page.remote_text == "This is pod-1 (pid 7): it runs 1 account. 2 replicas share the accounts."


@pytest.mark.parametrize(
    ("theirs", "free", "shown", "folded", "output"),
    [
        (12, 0, 12, 0, ""),
        (9, 3, 12, 0, ""),
        (13, 0, 0, 13, "13 accounts run by other replicas"),
        (240, 3, 3, 240, "240 accounts run by other replicas"),
        (0, 20, 12, 8, "8 more accounts"),
    ],
)
def test_of_many_remote_accounts_the_unassigned_are_shown_and_the_rest_is_folded(
    theirs: int, free: int, shown: int, folded: int, output: str
) -> None:
    page = page_view(shared(2, theirs, free), now=SHARED_NOW, wall=SHARED_WALL)
    assert (len(page.remote), len(page.remote_more)) == (shown, folded)
    assert page.remote_more_text == output
    assert all(line.text == UNASSIGNED for line in page.remote[:free])


def test_a_response_for_several_accounts_has_those_of_this_replica() -> None:
    page = page_view(shared(2, 7, 1), now=SHARED_NOW, wall=SHARED_WALL)
    assert page.headline.sentence == "Yes: all 2 accounts run here as their files say."
    assert page.title == "✓ Protected · 2 accounts run here · mmp"


def test_the_headline_of_one_account_says_that_others_run_elsewhere() -> None:
    page = page_view(shared(1, 7, 1), now=SHARED_NOW, wall=SHARED_WALL)
    (one,) = page.accounts
    assert page.headline.sentence == f"{one.headline.sentence} This replica runs no other account."
    assert page.title == f"✓ Protected · {one.name} run here · mmp"
    only = page_view(shared(1, 0, 0), now=SHARED_NOW, wall=SHARED_WALL)
    assert (only.headline, "run here" in only.title) == (only.accounts[0].headline, False)


def test_the_page_of_a_replica_without_accounts_makes_no_claim() -> None:
    page = page_view(ALL_ELSEWHERE, now=NOW, wall=WALL)
    assert page.headline.sentence == "Not known here: this replica runs no account."


def test_the_page_shows_that_the_state_cannot_be_reached() -> None:
    made = sharing(STARTED, owners={MAIN: "1"}, failing="the server is away")
    output = page_view(made, now=NOW + LEASE_TTL_S, wall=WALL).remote_text
    assert output == (
        "The state cannot be reached: the server is away. No account is started here until it is."
        " The assignment is the last known one."
    )
    away = having(STARTED, compared(), AWAY)
    notices = page_view(shared_state(away), now=NOW, wall=WALL).accounts[0].notices
    assert "The state cannot be used now, so nothing is sent: the connection was lost" in notices


def test_the_page_shows_why_the_state_could_not_be_opened() -> None:
    made = shared_state()
    made.error = f"the server {HOSTILE}"
    page = page_view(made, now=NOW, wall=WALL)
    assert page.headline.sentence == "Not known yet: the state cannot be reached."
    assert page.error.startswith("The state cannot be used now, so nothing is sent: the server ")
    html = page_html(made, now=NOW, wall=WALL)
    assert "\x1b" not in html
    assert "The state cannot be used now" in html
    assert page_view(shared_state(STARTED), now=NOW, wall=WALL).error == ""


def test_without_sharing_the_page_does_not_speak_of_it() -> None:
    page = page_view(shared_state(STARTED), now=NOW, wall=WALL)
    assert (page.remote, page.remote_text) == ((), "")
    assert "Who keeps what" not in page_html(shared_state(STARTED), now=NOW, wall=WALL)
    assert "kept by" not in page.accounts[0].place


def test_hostile_names_of_hosts_stay_text() -> None:
    made = sharing(STARTED, owners={MAIN: "1", DESK: "2"}, failing=HOSTILE)
    assert made.replica is not None
    assert made.replica.leases is not None
    evil = {"1": ME, "2": Replica("2", "<script>alert(1)</script>", 8)}
    made.replica = replace(made.replica, leases=replace(made.replica.leases, replicas=evil))
    html = page_html(made, now=NOW, wall=WALL)
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt; (pid 8)" in html
