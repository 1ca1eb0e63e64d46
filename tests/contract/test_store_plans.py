"""Changes of saved plans on record, over every implementation: what applies one, and who may not again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from reconciler.core.history_records import ProofKind
from reconciler.core.model import Environment, ExchangeKind, Family
from reconciler.core.reply import AttemptStatus
from reconciler.core.reservation import (
    AppliedMeanwhile,
    AttemptResult,
    Reservation,
    ReserveOptions,
    SignedRequest,
)
from reconciler.core.saved_plan import APPLIED_CHANGES_RETENTION, AppliedChange
from reconciler.ports import AccountStore
from tests.contract.stores import BTC, ETH, HOST, PLACES, UID, Place, ScriptedClock, setting

PLAN, OTHER = "a" * 32, "b" * 32
CHANGES = {BTC: setting("400"), ETH: setting("9")}


@pytest.fixture(params=sorted(PLACES))
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with PLACES[request.param](tmp_path) as opened:
        yield opened


@pytest.fixture
def clock() -> ScriptedClock:
    return ScriptedClock(1000.0)


def opened(
    place: Place, clock: ScriptedClock, plan: str = PLAN, *, account: str = "main", uid: str = UID
) -> AccountStore:
    """Return the store as a process sees it that applies ``plan``; "" for none."""
    store = place.open(clock, account=account, environment=Environment.LIVE, kind=ExchangeKind.OKX)
    asyncio.run(store.identify(uid, HOST))
    if plan:
        store.apply_plan(plan, CHANGES)
    return store


def send(store: AccountStore, clock: ScriptedClock, quantity: str = "400", family: Family = BTC) -> int:
    """Reserve a request that is alone in its window; return its number."""
    clock.time += 100.0
    request = SignedRequest(family, setting(quantity), "", b"{}", {})
    slot = asyncio.run(store.reserve(request, ReserveOptions(assume_idle=True)))
    assert isinstance(slot, Reservation)
    return slot.attempt


def settle(store: AccountStore, attempt: int, status: AttemptStatus) -> None:
    definite = status is not AttemptStatus.UNKNOWN
    asyncio.run(
        store.settle(attempt, AttemptResult(status, definite=definite, limited=False, code="", message=""))
    )


def adopt(store: AccountStore, clock: ScriptedClock, quantity: str, family: Family = BTC) -> None:
    clock.time += 1.0
    asyncio.run(store.adopt({family: setting(quantity)}, read_begun_at=clock.time - 0.5))


def applied(store: AccountStore) -> dict[Family, ProofKind]:
    return {family: one.how for family, one in asyncio.run(store.recorded_inputs()).applied.items()}


def test_an_acknowledged_change_is_on_record_and_is_not_reserved_again(
    place: Place, clock: ScriptedClock
) -> None:
    store = opened(place, clock)
    attempt = send(store, clock)
    assert applied(store) == {}, "a request without an answer may be sent again"
    settle(store, attempt, AttemptStatus.APPLIED)
    again = opened(place, clock)
    found = asyncio.run(again.recorded_inputs()).applied
    assert found == {BTC: AppliedChange(ProofKind.APPLIED, clock.wall())}
    clock.time += 100.0
    request = SignedRequest(BTC, setting("400"), "", b"{}", {})
    assert asyncio.run(again.reserve(request, ReserveOptions(assume_idle=True))) == AppliedMeanwhile()
    assert isinstance(send(again, clock, "9", ETH), int), "another family of the plan"
    assert isinstance(send(opened(place, clock, OTHER), clock), int), "another plan"
    assert isinstance(send(opened(place, clock, ""), clock), int), "no plan"


@pytest.mark.parametrize(
    "status", [AttemptStatus.UNKNOWN, AttemptStatus.REJECTED, AttemptStatus.NOT_SENT, None]
)
def test_a_change_that_was_never_acknowledged_may_be_sent_again(
    place: Place, clock: ScriptedClock, status: AttemptStatus | None
) -> None:
    store = opened(place, clock)
    attempt = send(store, clock)
    if status is not None:
        settle(store, attempt, status)
    assert applied(store) == {}
    assert isinstance(send(opened(place, clock), clock), int)


def test_changes_belong_to_the_user_id_whatever_its_accounts_are_called(
    place: Place, clock: ScriptedClock
) -> None:
    store = opened(place, clock)
    settle(store, send(store, clock), AttemptStatus.APPLIED)
    assert applied(opened(place, clock, account="another.name")) == {BTC: ProofKind.APPLIED}
    assert applied(opened(place, clock, account="other", uid="7")) == {}
    assert applied(opened(place, clock, OTHER)) == {}
    assert applied(opened(place, clock, "")) == {}


@pytest.mark.parametrize("prove", ["read", "request"])
def test_a_proof_by_another_process_applies_a_change_whose_request_has_no_answer(
    place: Place, clock: ScriptedClock, prove: str
) -> None:
    """The apply was killed, and a controller found or sent the same setting: it did take effect."""
    settle(opened(place, clock), send(opened(place, clock), clock), AttemptStatus.UNKNOWN)
    controller = opened(place, clock, "")
    if prove == "read":
        adopt(controller, clock, "400")
    else:
        settle(controller, send(controller, clock, "400"), AttemptStatus.APPLIED)
    how = ProofKind.ADOPTED if prove == "read" else ProofKind.APPLIED
    assert applied(opened(place, clock)) == {BTC: how}


def test_a_proof_of_another_setting_applies_nothing(place: Place, clock: ScriptedClock) -> None:
    settle(opened(place, clock), send(opened(place, clock), clock), AttemptStatus.UNKNOWN)
    controller = opened(place, clock, "")
    adopt(controller, clock, "100")
    settle(controller, send(controller, clock, "100"), AttemptStatus.APPLIED)
    assert applied(opened(place, clock)) == {}


def test_what_the_plan_finds_as_it_wants_it_is_applied_and_nothing_else(
    place: Place, clock: ScriptedClock
) -> None:
    store = opened(place, clock)
    adopt(store, clock, "100")
    assert applied(store) == {}, "it is not what the plan leads to"
    adopt(store, clock, "400")
    assert applied(store) == {BTC: ProofKind.ADOPTED}
    asyncio.run(store.record_in_force([ETH]))
    assert applied(store) == {BTC: ProofKind.ADOPTED, ETH: ProofKind.ADOPTED}


def test_changes_are_remembered_for_as_long_as_their_plan_may_be_applied(
    place: Place, clock: ScriptedClock
) -> None:
    first = opened(place, clock)
    settle(first, send(first, clock), AttemptStatus.APPLIED)
    neighbour = opened(place, clock, account="other", uid="7")
    settle(neighbour, send(neighbour, clock), AttemptStatus.APPLIED)
    clock.time += (APPLIED_CHANGES_RETENTION - timedelta(minutes=5)).total_seconds()
    adopt(opened(place, clock, OTHER), clock, "400")
    assert applied(first) == {BTC: ProofKind.APPLIED}
    clock.time += 600.0
    adopt(opened(place, clock, OTHER), clock, "400")
    assert applied(first) == {}
    assert applied(opened(place, clock, OTHER)) == {BTC: ProofKind.ADOPTED}
    assert applied(neighbour) == {BTC: ProofKind.APPLIED}, "it recorded nothing since"
