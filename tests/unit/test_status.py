"""The status: one word per family, from the record alone, and when what is pending is due."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import pytest

from reconciler.core.model import Family, Known, LiveRow, Setting, Uncertain
from reconciler.core.monitoring.status import (
    FamilyState,
    FamilyStatus,
    Status,
    StatusInputs,
    recorded_status,
)
from reconciler.core.pacing import EPS_S, GUARD_S, CountedRequest, Ledger
from reconciler.core.plan import Action, HoldReason, Reason
from tests.unit.builders import BTC, ETH, NOW, confirmed, desired, row, setting, unresolved
from tests.unit.report_samples import KNOWN, LEDGERS, LIVE, WALL, XAU, status

A, B, D = "5000/2000/100", "5000/2000/400", "0/2000/100"
IDLE = Ledger(sent=(CountedRequest(1, NOW - 60),))
UNCERTAIN_A = Uncertain(confirmed(A), (unresolved(A),))
UNCERTAIN_ONLY = Uncertain(None, (unresolved(A),))
FROZEN_A = LiveRow(setting(A), frozen=True)


def status_of(
    known: Known | None,
    live: LiveRow | None = None,
    *,
    wanted: str = A,
    was_read: bool = True,
    age_s: float = 5.0,
    ledger: Ledger | None = IDLE,
) -> Status:
    """Return the status of BTC-USD; ``live`` None with ``was_read`` means that it had no row."""
    record = StatusInputs(
        uid="446556540",
        host="openapi.okx.com",
        known={} if known is None else {BTC: known},
        ledger=ledger,
        live_rows={} if live is None or not was_read else {BTC: live},
        live_at=WALL - timedelta(seconds=age_s) if was_read else None,
    )
    return recorded_status(desired({BTC: setting(wanted)}), record, simulator=False, now=NOW, wall=WALL)


def only(made: Status) -> FamilyStatus:
    (family,) = made.families
    return family


STATES = [
    # what is known, the last read's row (None: no row; "unread": never read), desired, the word
    (None, "unread", A, FamilyState.PENDING),
    (None, None, A, FamilyState.PENDING),
    (None, row(A), A, FamilyState.PENDING),
    (None, row(B), A, FamilyState.PENDING),
    (None, "unread", D, FamilyState.PENDING),
    (None, row(A), D, FamilyState.HELD),
    (None, FROZEN_A, B, FamilyState.FROZEN),
    (confirmed(A), "unread", A, FamilyState.IN_SYNC),
    (confirmed(A), row(A), A, FamilyState.IN_SYNC),
    (confirmed(A), row("5000/2000/100.0"), A, FamilyState.IN_SYNC),
    (confirmed(A), FROZEN_A, A, FamilyState.FROZEN),
    (confirmed(A), row(B), A, FamilyState.DRIFTED),
    (confirmed(A), None, A, FamilyState.DRIFTED),  # nothing acts on one read without a row; it is told
    (confirmed(D), None, D, FamilyState.IN_SYNC),
    (confirmed(D), row(B), D, FamilyState.DRIFTED),  # held by the guard, and drift is what presses
    (confirmed(A), row(A), B, FamilyState.PENDING),
    (confirmed(A), None, B, FamilyState.PENDING),
    (confirmed(A), row(B), B, FamilyState.PENDING),
    (confirmed(A), row(A), D, FamilyState.HELD),
    (confirmed(A), "unread", D, FamilyState.HELD),
    (confirmed(A), FROZEN_A, B, FamilyState.FROZEN),
    (UNCERTAIN_A, "unread", A, FamilyState.UNCERTAIN),
    (UNCERTAIN_A, row(A), A, FamilyState.UNCERTAIN),
    (UNCERTAIN_A, FROZEN_A, B, FamilyState.UNCERTAIN),
    (UNCERTAIN_ONLY, "unread", A, FamilyState.UNCERTAIN),
]


@pytest.mark.parametrize(("known", "live", "wanted", "state"), STATES)
def test_a_family_s_word_is_the_most_pressing_thing_about_it(
    known: Known | None, live: LiveRow | str | None, wanted: str, state: FamilyState
) -> None:
    unread = isinstance(live, str)
    made = status_of(known, None if isinstance(live, str) else live, wanted=wanted, was_read=not unread)
    assert only(made).state is state


def test_the_table_has_every_word() -> None:
    assert {state for *_, state in STATES} == set(FamilyState)


@pytest.mark.parametrize(
    ("known", "applied"),
    [
        (None, None),
        (confirmed(B), B),
        (Uncertain(confirmed(B), (unresolved(A),)), B),
        (UNCERTAIN_ONLY, None),
    ],
)
def test_applied_is_the_last_proof(known: Known | None, applied: str | None) -> None:
    assert only(status_of(known)).applied == (None if applied is None else setting(applied))


def test_a_read_from_before_the_last_request_is_not_shown_as_live() -> None:
    """Confirmed at 900, read begun at 895: what it showed is older than what was written."""
    late, soon, early = (status_of(confirmed(A), row(B), age_s=age_s) for age_s in (90.0, 99.0, 105.0))
    assert only(late).live == row(B)
    assert only(late).state is FamilyState.DRIFTED
    assert only(soon).live == row(B)
    assert only(soon).state is FamilyState.UNCERTAIN, "it may still show the time before the write"
    assert only(early).live is None
    assert only(early).state is FamilyState.IN_SYNC


def test_in_sync_means_that_nothing_is_left_to_do() -> None:
    assert status_of(confirmed(A), row(A)).in_sync
    assert status_of(confirmed(A), FROZEN_A).in_sync, "frozen, and exactly as desired"
    assert not status_of(confirmed(A), row(B)).in_sync
    assert not status_of(None, row(A)).in_sync, "live is as desired, and not on record"
    assert not status_of(UNCERTAIN_A, row(B)).in_sync


@pytest.mark.parametrize("known", KNOWN)
@pytest.mark.parametrize("live", LIVE)
def test_families_in_sync_have_no_change_and_others_have_one(known: str, live: str) -> None:
    for family in status(known, live).families:
        if family.state is FamilyState.IN_SYNC:
            assert family.change is None
        elif family.state is not FamilyState.FROZEN:
            assert family.change is not None


def test_a_change_is_what_a_plan_from_the_record_would_do() -> None:
    change = only(status_of(confirmed(A), row(B))).change
    assert change is not None
    assert (change.action, change.reason, change.before) == (Action.SET, Reason.DRIFTED, setting(B))
    guarded = only(status_of(confirmed(A), row(A), wanted=D)).change
    assert guarded is not None
    assert guarded.because is HoldReason.GUARD


def test_what_is_pending_is_due_at_its_slot() -> None:
    full = Ledger(sent=(CountedRequest(1, NOW - 4), CountedRequest(2, NOW - 3)))
    made = status_of(confirmed(A), row(B), ledger=full)
    change = only(made).change
    assert change is not None
    assert change.eta_s == pytest.approx(GUARD_S - 4)
    assert made.eta_s == change.eta_s


def test_without_a_ledger_no_times_are_shown() -> None:
    made = status_of(confirmed(A), row(B), ledger=None)
    change = only(made).change
    assert change is not None
    assert change.eta_s is None
    assert made.pacing is None
    assert made.eta_s == 0.0


PACING = [
    # ledger, requests that count, seconds to the next slot, evenly spaced
    (LEDGERS["free"], 0, 0.0, False),
    (LEDGERS["full"], 2, GUARD_S - 4, False),
    (LEDGERS["unknown"], 0, GUARD_S - 1, False),
    (LEDGERS["spaced"], 1, GUARD_S - 4, True),
    (Ledger(sent=(CountedRequest(1, NOW - 1),)), 1, 0.0, False),
    (
        Ledger(sent=(CountedRequest(1, NOW - 1),), sends_since_limited=2, limited_latest_arrival=NOW - 30),
        1,
        4 + EPS_S,
        True,
    ),
    (Ledger(sent=(CountedRequest(1, NOW - 1), CountedRequest(2, NOW + 35))), 2, GUARD_S - 1, False),
]


@pytest.mark.parametrize(("ledger", "counting", "next_slot_s", "spaced"), PACING)
def test_the_pacing_window_is_shown(
    ledger: Ledger, counting: int, next_slot_s: float, spaced: bool
) -> None:
    pacing = status_of(confirmed(A), row(A), ledger=ledger).pacing
    assert pacing is not None
    assert (pacing.counting, pacing.spaced) == (counting, spaced)
    assert pacing.next_slot_s == pytest.approx(next_slot_s)


def test_unmanaged_families_are_the_read_s_others_by_name() -> None:
    made = status("in sync", "as desired")
    assert list(made.unmanaged) == [XAU]
    assert [family.family for family in made.families] == [BTC, ETH]


def test_nothing_on_record_is_a_status_too() -> None:
    rows: Mapping[Family, LiveRow] = {}
    record = StatusInputs(None, None, {}, None, rows, None)
    wanted: dict[Family, Setting] = {BTC: setting(A)}
    made = recorded_status(desired(wanted), record, simulator=True, now=NOW, wall=WALL)
    assert (made.uid, made.host, made.live_at, made.pacing) == (None, None, None, None)
    assert made.simulator
    assert not made.in_sync
