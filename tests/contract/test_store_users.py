"""Records per User ID, in every implementation: proofs, open attempts, files, and tries without success."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from reconciler.core.history_records import NameRecord
from reconciler.core.live_evidence import READ_LAG_S
from reconciler.core.model import (
    Confirmed,
    Environment,
    ExchangeKind,
    Family,
    FileVersion,
    OpenAttempt,
    Uncertain,
)
from reconciler.core.pacing import EPS_S, GUARD_S, LATEST_ARRIVAL_S, SPACING_S
from reconciler.core.reply import AttemptStatus
from reconciler.core.reservation import AttemptResult, NoSlotUntil, Reservation, ReserveOptions
from reconciler.core.retry import NO_TRIES, RetryRecord, Tries
from reconciler.store import accepted_settings
from reconciler.store.sqlite.file_locks import StoreMisuse
from tests.contract.stores import BTC, ETH, HOST, NOON, PLACES, UID, Place, ScriptedClock, setting, signed
from tests.contract.test_store_contract import Process

L = LATEST_ARRIVAL_S
START = 1000.0
OLD, NEW = FileVersion("old", 1), FileVersion("new", 2)


@pytest.fixture(params=sorted(PLACES))
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with PLACES[request.param](tmp_path) as opened:
        yield opened


@pytest.fixture
def clock() -> ScriptedClock:
    return ScriptedClock(START)


# -- names and User IDs ---------------------------------------------------------------------------


def test_a_renamed_account_finds_its_proofs_and_doubts(place: Place, clock: ScriptedClock) -> None:
    before = Process(place, clock)
    before.applied("1", BTC)
    before.unknown("2", ETH)
    renamed = Process(place, clock, account="renamed")
    assert asyncio.run(renamed.store.known()) == asyncio.run(before.store.known())
    assert isinstance(renamed.known(ETH), Uncertain)
    assert asyncio.run(renamed.store.history(10)) == asyncio.run(before.store.history(10))
    assert asyncio.run(place.open(clock, account="never-used").known()) == {}
    assert Process(place, clock, account="other", uid="2").known() is None


def test_the_state_tells_which_accounts_it_knows(place: Place, clock: ScriptedClock) -> None:
    asker = place.open(clock, account="never-used", kind=ExchangeKind.SIMULATOR)
    assert asyncio.run(asker.names()) == ()
    used = [("twin", "live", UID), ("other", "live", "2"), ("elsewhere", "demo", "3")]
    for name, environment, uid in used:
        store = place.open(clock, account=name, environment=Environment(environment))
        asyncio.run(store.identify(uid, HOST))
    assert asyncio.run(asker.names()) == (
        NameRecord("other", ExchangeKind.OKX, "2"),
        NameRecord("twin", ExchangeKind.OKX, UID),
    )


def test_a_proof_of_one_name_ends_the_doubts_of_the_other(place: Place, clock: ScriptedClock) -> None:
    one, two = Process(place, clock), Process(place, clock, account="twin")
    attempt = one.unknown("1")
    two.applied("1")
    assert isinstance(one.known(), Confirmed)
    two.applied("2", at=START + 100)
    assert one.known() == Confirmed(setting("2"), START + 100, attempt + 2)


# -- proofs, and the files they came from ---------------------------------------------------------


def reserve(one: Process, quantity: str, file: FileVersion) -> int:
    slot = asyncio.run(one.store.reserve(signed(quantity), ReserveOptions(assume_idle=True, file=file)))
    assert isinstance(slot, Reservation)
    return slot.attempt


def proof(one: Process) -> Confirmed:
    known = asyncio.run(one.store.known())[BTC]
    assert isinstance(known, Confirmed)
    return known


def test_attempts_and_proofs_name_the_file_they_came_from(place: Place, clock: ScriptedClock) -> None:
    one = Process(place, clock)
    attempt = reserve(one, "1", OLD)
    doubt = OpenAttempt(attempt, setting("1"), START, START + L, OLD)
    assert one.known() == Uncertain(None, (doubt,))
    one.settle(attempt, AttemptStatus.APPLIED, at=START + 1)
    assert proof(one) == Confirmed(
        setting("1"),
        START + 1,
        attempt,
        file=OLD,
        acknowledged=True,
        recorded_at=NOON + timedelta(seconds=START + 1),
    )
    clock.time = START + 20
    adopted = asyncio.run(one.store.adopt({BTC: setting("1")}, read_begun_at=START + 10, file=NEW))
    assert adopted == {BTC}
    assert proof(one) == Confirmed(
        setting("1"), START + 10, attempt, file=NEW, recorded_at=NOON + timedelta(seconds=START + 20)
    )


def test_content_gets_a_number_when_it_is_accepted_first(place: Place, clock: ScriptedClock) -> None:
    one, renamed = Process(place, clock), Process(place, clock, account="renamed")
    other = Process(place, clock, account="other", uid="2")

    def accept(by: Process, sha256: str, *, changed: bool = False) -> FileVersion:
        return asyncio.run(by.store.accept_file(sha256, changed=changed))

    assert accept(one, "a") == FileVersion("a", 1)
    assert accept(renamed, "b") == FileVersion("b", 2)
    assert accept(one, "a") == FileVersion("a", 1), "a restart with old content makes it no newer"
    assert accept(one, "b", changed=True) == FileVersion("b", 2), "it is the newest already"
    assert accept(one, "a", changed=True) == FileVersion("a", 3), "the file was seen to change back"
    assert accept(one, "b") == FileVersion("b", 2)
    assert accept(one, "c", changed=True) == FileVersion("c", 4)
    assert accept(other, "b") == FileVersion("b", 1)
    with pytest.raises(StoreMisuse):
        asyncio.run(place.open(clock).accept_file("a", changed=False))


@pytest.mark.parametrize("settled", [True, False])
def test_content_accepted_next_is_newer_than_every_record(
    place: Place, clock: ScriptedClock, settled: bool
) -> None:
    """A failover may lose that a file was accepted, and be followed by a record that came from it."""
    one, lost = Process(place, clock), FileVersion("lost", 7)
    attempt = reserve(one, "1", lost)
    if settled:
        one.settle(attempt, AttemptStatus.APPLIED)
    assert asyncio.run(one.store.accept_file("next", changed=True)) == FileVersion("next", 8)


def test_content_that_comes_back_is_newer_than_a_record_of_a_lost_file(
    place: Place, clock: ScriptedClock
) -> None:
    one = Process(place, clock)
    assert asyncio.run(one.store.accept_file("a", changed=True)) == FileVersion("a", 1)
    reserve(one, "1", FileVersion("lost", 7))
    assert asyncio.run(one.store.accept_file("a", changed=False)) == FileVersion("a", 1), "a restart"
    assert asyncio.run(one.store.accept_file("a", changed=True)) == FileVersion("a", 8)


def test_what_was_accepted_long_ago_is_forgotten(
    place: Place, clock: ScriptedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accepted_settings, "KEEP_FILES", 2)
    one = Process(place, clock)
    for number, sha256 in enumerate("abc", start=1):
        assert asyncio.run(one.store.accept_file(sha256, changed=False)).number == number
    assert asyncio.run(one.store.accept_file("b", changed=False)).number == 2
    assert asyncio.run(one.store.accept_file("a", changed=False)).number == 4


# -- adoptions beside what others did -------------------------------------------------------------


@pytest.mark.parametrize(
    ("begun_at", "adopted"), [(START + 5, False), (START + 10, True), (START + 11, True)]
)
def test_a_family_attempted_since_the_read_began_is_not_adopted(
    place: Place, clock: ScriptedClock, begun_at: float, adopted: bool
) -> None:
    one, two = Process(place, clock), Process(place, clock, account="twin")
    lost = two.unknown("1", BTC, at=START + 10)
    clock.time = START + 12
    both = {BTC: setting("1"), ETH: setting("1")}
    recorded = asyncio.run(one.store.adopt(both, read_begun_at=begun_at))
    assert recorded == ({BTC, ETH} if adopted else {ETH})
    assert isinstance(one.known(BTC), Confirmed if adopted else Uncertain)
    assert one.known(ETH) == Confirmed(setting("1"), begun_at)
    assert lost


@pytest.mark.parametrize(("begun_at", "adopted"), [(START + 9, False), (START + 10, True)])
def test_a_family_proven_since_the_read_began_is_not_adopted(
    place: Place, clock: ScriptedClock, begun_at: float, adopted: bool
) -> None:
    one, two = Process(place, clock), Process(place, clock, account="twin")
    attempt = two.applied("2", at=START + 10)
    clock.time = START + 12
    assert one.adopt("1", read_begun_at=begun_at) == ({BTC} if adopted else frozenset())
    expected = Confirmed(setting("1"), begun_at, attempt)
    assert one.known() == (expected if adopted else Confirmed(setting("2"), START + 10, attempt))


def test_a_proof_of_another_boot_is_as_new_as_its_first_sight(place: Place, clock: ScriptedClock) -> None:
    Process(place, clock).applied("2")
    later = ScriptedClock(50.0)
    after = Process(place, later, boot="boot-2")
    assert after.adopt("1", read_begun_at=49.0) == frozenset()
    assert after.adopt("1", read_begun_at=51.0) == {BTC}


# -- attempts that were superseded ----------------------------------------------------------------


@pytest.mark.parametrize("shown", [False, True])
def test_attempts_end_by_a_read_that_shows_all_that_took_effect(
    place: Place, clock: ScriptedClock, shown: bool
) -> None:
    one = Process(place, clock)
    first = one.applied("1")
    one.unknown("2", at=START + 20)
    one.unknown("2", ETH, at=START + 21)
    begun_at = START + 20 + L + READ_LAG_S
    clock.time = begun_at + 1
    asyncio.run(one.store.end_attempts([BTC], read_begun_at=begun_at - (0 if shown else 0.001)))
    known = one.known()
    assert isinstance(known, Confirmed if shown else Uncertain)
    if shown:
        assert known == Confirmed(setting("1"), START, first)
    assert isinstance(one.known(ETH), Uncertain), "another family's stays"


def test_a_family_without_a_proof_is_not_known_once_its_attempts_ended(
    place: Place, clock: ScriptedClock
) -> None:
    one = Process(place, clock)
    one.unknown("1")
    clock.time = START + 100
    asyncio.run(one.store.end_attempts([BTC], read_begun_at=START + L + READ_LAG_S))
    assert one.known() is None


# -- tries without success ------------------------------------------------------------------------


def retries(one: Process) -> RetryRecord:
    return asyncio.run(one.store.recorded_inputs()).retries


def tries(one: Process, family: Family = BTC) -> Tries | None:
    return retries(one).tries.get(family)


def test_nothing_was_tried_at_first(place: Place, clock: ScriptedClock) -> None:
    assert retries(Process(place, clock)) == NO_TRIES


@pytest.mark.parametrize(
    ("status", "tried", "counts"),
    [
        (AttemptStatus.UNKNOWN, True, True),
        (AttemptStatus.REJECTED, True, True),
        (AttemptStatus.REJECTED, False, False),
        (AttemptStatus.NOT_SENT, False, False),
        (AttemptStatus.APPLIED, True, False),
        (None, True, True),
    ],
)
def test_an_attempt_counts_as_a_try_unless_it_was_applied_or_says_nothing_of_its_family(
    place: Place, clock: ScriptedClock, status: AttemptStatus | None, tried: bool, counts: bool
) -> None:
    one = Process(place, clock)
    attempt = one.send("1")
    if status is not None:
        settled = one.store.settle(
            attempt, AttemptResult(status, definite=True, limited=False, code="", message="", tried=tried)
        )
        asyncio.run(settled)
    assert tries(one) == (Tries(setting("1"), 1, START) if counts else None)
    assert tries(Process(place, clock, account="renamed")) == tries(one)
    assert tries(Process(place, clock, account="other", uid="2")) is None


def test_tries_are_counted_on_and_another_setting_begins_anew(place: Place, clock: ScriptedClock) -> None:
    one = Process(place, clock)
    for number in range(1, 5):
        at = START + 100 * number
        one.unknown("1.0" if number % 2 else "1", at=at)
        assert tries(one) == Tries(setting("1"), number, at)
    one.unknown("2", at=START + 500)
    assert tries(one) == Tries(setting("2"), 1, START + 500)
    one.unknown("1", at=START + 600)
    assert tries(one) == Tries(setting("1"), 1, START + 600)
    assert tries(one, ETH) is None


def test_an_attempt_that_does_not_count_leaves_the_count_as_it_was(
    place: Place, clock: ScriptedClock
) -> None:
    one = Process(place, clock)
    one.unknown("1", at=START + 100)
    one.unknown("1", at=START + 200)
    for quantity in ("1", "2"):
        clock.time += 100
        one.settle(one.send(quantity), AttemptStatus.NOT_SENT)
        assert tries(one) == Tries(setting("1"), 2, START + 200)
    one.unknown("1", at=START + 500)
    assert tries(one) == Tries(setting("1"), 3, START + 500)


def test_a_definite_success_ends_the_count_whatever_it_proves(place: Place, clock: ScriptedClock) -> None:
    one = Process(place, clock)
    one.unknown("1", at=START)
    one.unknown("1", ETH, at=START + 1)
    one.applied("2", at=START + 100)
    assert tries(one) is None
    assert tries(one, ETH) == Tries(setting("1"), 1, START + 1, ended_at=START + 100)
    first, second = one.send("3", at=START + 200), one.send("4", at=START + 201)
    one.settle(first, AttemptStatus.APPLIED)
    one.settle(second, AttemptStatus.APPLIED)
    assert isinstance(one.known(), Uncertain), "which came last is unknown"
    assert tries(one) is None


def test_an_adoption_ends_the_count_of_its_setting_alone(place: Place, clock: ScriptedClock) -> None:
    one = Process(place, clock)
    one.unknown("1")
    clock.time = START + 100
    one.adopt("2", read_begun_at=START + 99)
    assert tries(one) == Tries(setting("1"), 1, START)
    one.adopt("1", read_begun_at=START + 100)
    assert tries(one) is None
    one.unknown("1", at=START + 200)
    assert tries(one) == Tries(setting("1"), 1, START + 200)


def test_the_newest_acknowledgement_of_any_family_is_the_last_success(
    place: Place, clock: ScriptedClock
) -> None:
    one = Process(place, clock)
    one.unknown("1", at=START)
    assert tries(one) == Tries(setting("1"), 1, START)
    one.applied("1", ETH, at=START + 1)
    clock.time = START + 20
    one.adopt("2", ETH, read_begun_at=START + 19)
    assert tries(one) == Tries(setting("1"), 1, START, ended_at=START + 1), "an adoption hides no success"
    one.unknown("1", at=START + 100)
    assert tries(one) == Tries(setting("1"), 2, START + 100)
    one.applied("3", ETH, at=START + 101)
    later = Process(place, ScriptedClock(7.0), boot="boot-2")
    assert tries(later) == Tries(setting("1"), 2, 7.0, ended_at=7.0), "whatever the clocks of the boots"


def test_the_attempts_that_count_are_few_however_many_there_were(
    place: Place, clock: ScriptedClock
) -> None:
    clock.time = 0.0
    one = Process(place, clock)
    for number in range(30):
        one.unknown("1", at=100.0 * number)
    assert tries(one) == Tries(setting("1"), 30, 2900.0)


# -- slots that are kept free ---------------------------------------------------------------------


def test_a_slot_can_be_reserved_for_more_urgent_requests(place: Place, clock: ScriptedClock) -> None:
    one = Process(place, clock)
    one.applied("1")
    assert one.reserve(keep_free=1) == NoSlotUntil(START + GUARD_S)
    assert isinstance(one.reserve(), Reservation)
    clock.time = START + 200
    assert isinstance(one.reserve(keep_free=1), Reservation)


def test_a_reserved_slot_does_not_change_the_even_spacing(place: Place, clock: ScriptedClock) -> None:
    one = Process(place, clock)
    one.limited(at=START)
    one.applied("1", at=START + GUARD_S)
    after = START + GUARD_S
    assert one.reserve(keep_free=1) == NoSlotUntil(after + GUARD_S)
    assert one.reserve() == NoSlotUntil(after + SPACING_S + EPS_S)
