"""What every Store must do, over every implementation, against the port alone."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.core.live_evidence import READ_LAG_S
from reconciler.core.model import (
    Confirmed,
    Environment,
    ExchangeKind,
    Family,
    LiveRead,
    LiveRow,
    OpenAttempt,
    Uncertain,
)
from reconciler.core.pacing import (
    BURST_AGAIN_AFTER,
    EPS_S,
    GUARD_S,
    LATEST_ARRIVAL_S,
    SPACING_S,
    CountedRequest,
    Ledger,
)
from reconciler.core.reply import AttemptStatus
from reconciler.core.reservation import (
    AttemptResult,
    NoSlotUntil,
    Reservation,
    ReserveOptions,
    ReserveResult,
)
from reconciler.errors import Exit, StateAccountMismatch, StateLocked
from reconciler.ports import AccountStore
from reconciler.store.sqlite.file_locks import StoreMisuse
from tests.contract.stores import BTC, ETH, HOST, PLACES, UID, Place, ScriptedClock, bare, setting, signed

L = LATEST_ARRIVAL_S
SHOWN_S = L + READ_LAG_S
START = 1000.0


@pytest.fixture(params=sorted(PLACES))
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with PLACES[request.param](tmp_path) as opened:
        yield opened


@pytest.fixture
def clock() -> ScriptedClock:
    return ScriptedClock(START)


class Process:
    """One process with an identified store, in the short words of these tests."""

    def __init__(self, place: Place, clock: ScriptedClock, *, boot: str = "boot-1", **names: str) -> None:
        self.clock = clock
        self.store: AccountStore = place.open(
            clock,
            boot=boot,
            account=names.get("account", "main"),
            environment=Environment(names.get("environment", "live")),
            kind=ExchangeKind(names.get("kind", "okx")),
        )
        asyncio.run(self.store.identify(names.get("uid", UID), HOST))

    def send(self, quantity: str = "100", family: Family = BTC, *, at: float | None = None) -> int:
        """Reserve at ``at`` (default: as soon as there is a slot) and return the attempt."""
        if at is not None:
            self.clock.time = at
        slot = self.reserve(quantity, family)
        if isinstance(slot, NoSlotUntil):
            assert at is None, f"no slot at {at}, only at {slot.until}"
            self.clock.time = slot.until
            slot = self.reserve(quantity, family)
        assert isinstance(slot, Reservation)
        assert slot.reserved_at == self.clock.time
        return slot.attempt

    def reserve(
        self, quantity: str = "100", family: Family = BTC, *, assume_idle: bool = True, keep_free: int = 0
    ) -> ReserveResult:
        request = signed(quantity, family)
        return asyncio.run(
            self.store.reserve(request, ReserveOptions(assume_idle=assume_idle, keep_free=keep_free))
        )

    def settle(self, attempt: int, status: AttemptStatus, *, at: float | None = None) -> None:
        """Settle as a verdict would: applied and rejected are definite."""
        if at is not None:
            self.clock.time = at
        definite = status in (AttemptStatus.APPLIED, AttemptStatus.REJECTED)
        asyncio.run(
            self.store.settle(
                attempt,
                AttemptResult(
                    status,
                    definite=definite,
                    limited=False,
                    code="1",
                    message="so",
                    tried=status is not AttemptStatus.NOT_SENT,
                ),
            )
        )

    def applied(self, quantity: str = "100", family: Family = BTC, *, at: float | None = None) -> int:
        attempt = self.send(quantity, family, at=at)
        self.settle(attempt, AttemptStatus.APPLIED)
        return attempt

    def unknown(self, quantity: str = "100", family: Family = BTC, *, at: float | None = None) -> int:
        attempt = self.send(quantity, family, at=at)
        self.settle(attempt, AttemptStatus.UNKNOWN)
        return attempt

    def limited(self, *, at: float | None = None) -> int:
        attempt = self.send(at=at)
        asyncio.run(
            self.store.settle(
                attempt,
                AttemptResult(
                    AttemptStatus.REJECTED, definite=True, limited=True, code="50011", message=""
                ),
            )
        )
        return attempt

    def adopt(self, quantity: str, family: Family = BTC, *, read_begun_at: float) -> frozenset[Family]:
        return asyncio.run(self.store.adopt({family: setting(quantity)}, read_begun_at=read_begun_at))

    def known(self, family: Family = BTC) -> object:
        return bare(asyncio.run(self.store.known()).get(family))

    def ledger(self) -> Ledger:
        return asyncio.run(self.store.ledger())

    def hi(self, attempt: int) -> float | None:
        return {sent.attempt: sent.latest_arrival for sent in self.ledger().sent}.get(attempt)


# -- identity ----------------------------------------------------------------------------------


def test_the_first_key_stamps_the_account_and_the_same_key_is_welcome(
    place: Place, clock: ScriptedClock
) -> None:
    store = place.open(clock)
    assert asyncio.run(store.identify(UID, HOST)) is None
    assert asyncio.run(store.identify(UID, HOST)) is None
    assert asyncio.run(place.open(clock, boot="boot-2").identify(UID, HOST)) is None


def test_another_host_is_reported_once_and_then_recorded(place: Place, clock: ScriptedClock) -> None:
    store = place.open(clock)
    asyncio.run(store.identify(UID, HOST))
    assert asyncio.run(store.identify(UID, "eea.okx.com")) == HOST
    assert asyncio.run(store.identify(UID, "eea.okx.com")) is None
    assert asyncio.run(place.open(clock).identify(UID, HOST)) == "eea.okx.com"


@pytest.mark.parametrize(
    ("kind", "uid", "code"),
    [
        (ExchangeKind.OKX, "1", "state-foreign-uid"),
        (ExchangeKind.SIMULATOR, UID, "state-foreign-kind"),
        (ExchangeKind.SIMULATOR, "1", "state-foreign-kind"),
    ],
)
def test_another_uid_or_kind_is_refused_and_changes_nothing(
    place: Place, clock: ScriptedClock, kind: ExchangeKind, uid: str, code: str
) -> None:
    asyncio.run(place.open(clock).identify(UID, HOST))
    stranger = place.open(clock, kind=kind)
    with pytest.raises(StateAccountMismatch) as refused:
        asyncio.run(stranger.identify(uid, "elsewhere"))
    assert (refused.value.code, refused.value.exit_status) == (code, Exit.ACCOUNT)
    assert "main" in refused.value.message
    assert refused.value.hint
    with pytest.raises(StoreMisuse):
        asyncio.run(stranger.ledger())
    assert asyncio.run(place.open(clock).identify(UID, HOST)) is None


def test_environments_and_accounts_are_stamped_apart(place: Place, clock: ScriptedClock) -> None:
    Process(place, clock)
    Process(place, clock, environment="demo", uid="2")
    Process(place, clock, account="other", uid="3", kind="simulator")


def test_nothing_is_paced_before_the_uid_is_known(place: Place, clock: ScriptedClock) -> None:
    store = place.open(clock)
    with pytest.raises(StoreMisuse):
        asyncio.run(store.ledger())
    with pytest.raises(StoreMisuse):
        asyncio.run(store.reserve(signed(), ReserveOptions(assume_idle=True)))


# -- pacing ------------------------------------------------------------------------------------


def test_unknown_history_is_waited_out_once_from_the_first_look(place: Place, clock: ScriptedClock) -> None:
    one = Process(place, clock)
    assert one.ledger() == Ledger(empty_since=START)
    clock.time += 3
    assert one.reserve(assume_idle=False) == NoSlotUntil(START + GUARD_S)
    clock.time = START + GUARD_S
    assert isinstance(one.reserve(assume_idle=False), Reservation)
    assert one.ledger().empty_since is None


def test_another_process_has_its_own_first_look_at_an_empty_history(
    place: Place, clock: ScriptedClock
) -> None:
    Process(place, clock).ledger()
    clock.time += 5
    assert Process(place, clock).ledger().empty_since == START + 5


def test_assuming_idle_waives_unknown_history_and_nothing_else(place: Place, clock: ScriptedClock) -> None:
    one = Process(place, clock)
    one.applied("1", at=START)
    one.applied("2", at=START + 1)
    assert one.reserve(assume_idle=True) == NoSlotUntil(START + GUARD_S)


def test_a_request_never_sent_is_no_history_and_costs_no_slot(place: Place, clock: ScriptedClock) -> None:
    one = Process(place, clock)
    one.ledger()
    for _ in range(5):
        one.settle(one.send(), AttemptStatus.NOT_SENT)
    assert one.ledger() == Ledger(empty_since=START)
    assert one.reserve(assume_idle=False) == NoSlotUntil(START + GUARD_S)


@pytest.mark.parametrize("status", [AttemptStatus.APPLIED, AttemptStatus.REJECTED])
def test_an_answered_request_counts_from_its_answer(
    place: Place, clock: ScriptedClock, status: AttemptStatus
) -> None:
    one = Process(place, clock)
    attempt = one.send(at=START)
    one.settle(attempt, status, at=START + 1.5)
    assert one.ledger() == Ledger(sent=(CountedRequest(attempt, START + 1.5),))
    clock.time = START + 1.5 + GUARD_S
    assert one.ledger() == Ledger()


@pytest.mark.parametrize("settled", [False, True])
def test_an_unanswered_request_counts_from_the_end_of_its_l(
    place: Place, clock: ScriptedClock, settled: bool
) -> None:
    one = Process(place, clock)
    attempt = one.send(at=START)
    if settled:
        one.settle(attempt, AttemptStatus.UNKNOWN, at=START + 1)
    assert one.ledger() == Ledger(sent=(CountedRequest(attempt, START + L),))


@pytest.mark.parametrize(("by", "reserved"), [(START, True), (START + 1, True), (START - 0.001, False)])
def test_a_reservation_that_comes_too_late_is_none(
    place: Place, clock: ScriptedClock, by: float, reserved: bool
) -> None:
    one = Process(place, clock)
    slot = asyncio.run(one.store.reserve(signed(), ReserveOptions(assume_idle=True, by=by)))
    assert isinstance(slot, Reservation) is reserved
    assert len(asyncio.run(one.store.ledger()).sent) == reserved


def test_the_third_request_waits_for_the_first_and_all_processes_agree(
    place: Place, clock: ScriptedClock
) -> None:
    one, two = Process(place, clock), Process(place, clock)
    one.applied("1", at=START)
    two.applied("2", at=START + 2)
    assert one.reserve() == two.reserve() == NoSlotUntil(START + GUARD_S)
    clock.time = START + GUARD_S - 0.001
    assert isinstance(two.reserve(), NoSlotUntil)
    clock.time = START + GUARD_S
    assert isinstance(two.reserve(), Reservation)
    assert isinstance(one.reserve(), NoSlotUntil)


def test_accounts_of_one_uid_share_a_budget_and_others_do_not(place: Place, clock: ScriptedClock) -> None:
    one = Process(place, clock)
    one.send("1")
    one.send("2")
    same = Process(place, clock, account="twin")
    assert isinstance(same.reserve(), NoSlotUntil)
    assert same.known() == one.known()
    for names in ({"uid": "2"}, {"environment": "demo"}, {"kind": "simulator"}):
        assert isinstance(
            Process(place, clock, account="other" + str(names), **names).reserve(), Reservation
        )


def test_rows_of_another_boot_age_from_the_first_sight_of_them(place: Place, clock: ScriptedClock) -> None:
    before = Process(place, clock, boot="boot-1")
    answered, lost = before.applied("1", at=START), before.send("2", ETH, at=START + 1)
    later = ScriptedClock(7.0)
    after = Process(place, later, boot="boot-2")
    assert (after.hi(answered), after.hi(lost)) == (7.0, 7.0 + L)
    later.time = 12.0
    assert (after.hi(answered), after.hi(lost)) == (7.0, 7.0 + L)
    assert after.reserve() == NoSlotUntil(7.0 + GUARD_S)


def test_an_instant_in_the_future_is_not_believed(place: Place, clock: ScriptedClock) -> None:
    attempt = Process(place, clock).applied(at=START)
    early = ScriptedClock(5.0)
    assert Process(place, early).hi(attempt) == 5.0


@pytest.mark.parametrize("answered_after_s", [0.0, 4.0])
def test_an_answer_seen_later_ages_from_its_own_first_sight(
    place: Place, clock: ScriptedClock, answered_after_s: float
) -> None:
    """Seen pending at 7 and answered at 20: it may have arrived until 20, never only until 7."""
    other = Process(place, clock, boot="boot-1")
    attempt = other.send(at=START)
    mine = ScriptedClock(7.0)
    watcher = Process(place, mine, boot="boot-2")
    assert watcher.hi(attempt) == 7.0 + L
    other.settle(attempt, AttemptStatus.APPLIED, at=START + answered_after_s)
    mine.time = 20.0
    assert watcher.hi(attempt) == 20.0


def test_a_request_once_over_stays_over_for_every_process(place: Place, clock: ScriptedClock) -> None:
    one = Process(place, clock)
    old = one.applied("1", at=START)
    new = one.applied("2", at=START + GUARD_S)
    reborn = Process(place, ScriptedClock(3.0), boot="boot-2")
    assert reborn.hi(old) is None
    assert reborn.hi(new) == 3.0


def test_an_answer_after_l_counts_from_then(place: Place, clock: ScriptedClock) -> None:
    """A process that slept between reserving and writing: the answer is the newest evidence."""
    sleeper, other = Process(place, clock), Process(place, clock)
    attempt = sleeper.send(at=START)
    other.settle(other.send(at=START + L + GUARD_S), AttemptStatus.NOT_SENT)
    assert other.hi(attempt) is None
    sleeper.settle(attempt, AttemptStatus.REJECTED, at=START + 60)
    assert other.hi(attempt) == START + 60


def test_a_rate_refusal_means_a_quiet_window_then_even_spacing(place: Place, clock: ScriptedClock) -> None:
    one = Process(place, clock)
    limited = one.limited(at=START)
    assert one.ledger() == Ledger(
        (CountedRequest(limited, START),), sends_since_limited=0, limited_latest_arrival=START
    )
    assert one.reserve() == NoSlotUntil(START + GUARD_S)
    clock.time = START + GUARD_S
    one.settle(one.send(), AttemptStatus.NOT_SENT)
    assert one.ledger().sends_since_limited == 0
    one.applied()
    assert one.reserve() == NoSlotUntil(START + GUARD_S + SPACING_S + EPS_S)
    assert one.ledger().sends_since_limited == 1
    assert one.ledger().limited_latest_arrival is None


def test_enough_sends_without_a_refusal_end_the_spacing(place: Place, clock: ScriptedClock) -> None:
    one = Process(place, clock)
    one.limited(at=START)
    for done in range(BURST_AGAIN_AFTER):
        assert one.ledger().sends_since_limited == done
        one.applied()
    assert one.ledger().sends_since_limited is None
    one.limited()
    assert one.ledger().sends_since_limited == 0


def test_a_reservation_is_on_record_before_it_returns(place: Place, clock: ScriptedClock) -> None:
    attempt = Process(place, clock).send("7", at=START)
    other = Process(place, clock)
    assert other.ledger() == Ledger(sent=(CountedRequest(attempt, START + L),))
    assert other.known() == Uncertain(None, (OpenAttempt(attempt, setting("7"), START, START + L),))


def test_old_attempts_are_dropped_once_nothing_depends_on_them(place: Place, clock: ScriptedClock) -> None:
    store = place.open(clock, keep_attempts=3)
    asyncio.run(store.identify(UID, HOST))
    one = Process(place, clock)
    lost = one.unknown("1", at=START)
    clock.time += 100
    for _ in range(6):
        slot = asyncio.run(store.reserve(signed("2", ETH), ReserveOptions(assume_idle=False)))
        assert isinstance(slot, Reservation)
        one.settle(slot.attempt, AttemptStatus.APPLIED)
        clock.time += 20
    assert isinstance(one.known(), Uncertain)
    one.adopt("1", read_begun_at=clock.time)
    assert one.known() == Confirmed(setting("1"), clock.time, lost)
    for _ in range(5):
        asyncio.run(store.reserve(signed("2", ETH), ReserveOptions(assume_idle=False)))
        clock.time += 100
    one.adopt("9", read_begun_at=clock.time)
    assert one.known() == Confirmed(setting("9"), clock.time, 0)


def test_an_attempt_that_still_counts_is_never_dropped(place: Place, clock: ScriptedClock) -> None:
    store = place.open(clock, keep_attempts=1)
    asyncio.run(store.identify(UID, HOST))
    one = Process(place, clock)
    for _ in range(2):
        slot = asyncio.run(store.reserve(signed(), ReserveOptions(assume_idle=True)))
        assert isinstance(slot, Reservation)
        one.settle(slot.attempt, AttemptStatus.APPLIED)
    assert one.reserve() == NoSlotUntil(START + GUARD_S)


# -- what is known -----------------------------------------------------------------------------


def test_nothing_is_known_at_first(place: Place, clock: ScriptedClock) -> None:
    assert asyncio.run(Process(place, clock).store.known()) == {}


def test_an_acknowledged_write_is_confirmed_with_the_text_that_was_sent(
    place: Place, clock: ScriptedClock
) -> None:
    one = Process(place, clock)
    attempt = one.send("100.50", at=START)
    one.settle(attempt, AttemptStatus.APPLIED, at=START + 1)
    known = one.known()
    assert known == Confirmed(setting("100.5"), START + 1, attempt)
    assert isinstance(known, Confirmed)
    assert known.setting.qty_limit.text == "100.50"


@pytest.mark.parametrize("status", [AttemptStatus.REJECTED, AttemptStatus.NOT_SENT])
def test_a_refused_or_unsent_request_leaves_the_family_as_it_was(
    place: Place, clock: ScriptedClock, status: AttemptStatus
) -> None:
    one = Process(place, clock)
    one.settle(one.send("1"), status)
    assert one.known() is None
    first = one.applied("2")
    at = clock.time
    one.settle(one.send("3"), status)
    assert one.known() == Confirmed(setting("2"), at, first)


def test_a_lost_reply_then_the_old_value_again_is_never_equal_to_it(
    place: Place, clock: ScriptedClock
) -> None:
    """Send B, lose the reply, the file goes back to A: A may not look confirmed."""
    one = Process(place, clock)
    first = one.applied("1", at=START)
    lost = one.unknown("2", at=START + 1)
    doubt = OpenAttempt(lost, setting("2"), START + 1, START + 1 + L)
    assert one.known() == Uncertain(Confirmed(setting("1"), START, first), (doubt,))
    again = one.applied("1", at=START + GUARD_S)
    last = Confirmed(setting("1"), START + GUARD_S, again)
    assert one.known() == Uncertain(last, (doubt,))


def test_an_attempt_of_the_confirmed_value_itself_is_a_doubt_until_acknowledged(
    place: Place, clock: ScriptedClock
) -> None:
    one = Process(place, clock)
    one.applied("1", at=START)
    one.unknown("1.0", at=START + 1)
    assert isinstance(one.known(), Uncertain)
    again = one.applied("1", at=START + GUARD_S)
    assert one.known() == Confirmed(setting("1"), START + GUARD_S, again, lands_until=START + 1 + L)


def test_a_read_that_shows_the_only_doubtful_value_settles_at_once(
    place: Place, clock: ScriptedClock
) -> None:
    one = Process(place, clock)
    lost = one.unknown("1", at=START)
    clock.time = START + 3
    one.adopt("1.00", read_begun_at=START + 2)
    assert one.known() == Confirmed(setting("1"), START + 2, lost, lands_until=START + L)


def test_an_overtaken_attempt_of_the_confirmed_value_matters_again_once_another_is_written(
    place: Place, clock: ScriptedClock
) -> None:
    """Lost 1, acknowledged 1, acknowledged 2: the lost 1 may still land and undo the 2."""
    one = Process(place, clock)
    lost = one.unknown("1", at=START)
    one.applied("1", at=START + 1)
    assert isinstance(one.known(), Confirmed)
    newer = one.applied("2", at=START + 1 + GUARD_S)
    last = Confirmed(setting("2"), START + 1 + GUARD_S, newer)
    assert one.known() == Uncertain(last, (OpenAttempt(lost, setting("1"), START, START + L),))
    clock.time = START + SHOWN_S + 1
    one.adopt("2", read_begun_at=START + SHOWN_S)
    assert one.known() == Confirmed(setting("2"), START + SHOWN_S, newer)


def test_a_write_reserved_after_the_doubt_is_over_settles_without_a_read(
    place: Place, clock: ScriptedClock
) -> None:
    one = Process(place, clock)
    one.unknown("1", at=START)
    one.applied("2", at=START + L - 0.5)
    assert isinstance(one.known(), Uncertain)
    last = one.applied("2", at=START + L + GUARD_S)
    assert one.known() == Confirmed(setting("2"), START + L + GUARD_S, last)


def test_a_write_reserved_before_the_doubt_is_over_does_not_settle_however_late_its_answer(
    place: Place, clock: ScriptedClock
) -> None:
    one = Process(place, clock)
    one.unknown("1", at=START)
    one.settle(one.send("2", at=START + L - 0.5), AttemptStatus.APPLIED, at=START + L + 3)
    assert isinstance(one.known(), Uncertain)


@pytest.mark.parametrize(
    ("read_begun_at", "settled"),
    [(START + L, False), (START + SHOWN_S - 0.001, False), (START + SHOWN_S, True)],
)
def test_a_read_settles_another_value_only_if_it_shows_all_of_its_l(
    place: Place, clock: ScriptedClock, read_begun_at: float, settled: bool
) -> None:
    one = Process(place, clock)
    lost = one.unknown("1", at=START)
    clock.time = START + SHOWN_S + 1
    one.adopt("2", read_begun_at=read_begun_at)
    last = Confirmed(setting("2"), read_begun_at, lost)
    doubt = OpenAttempt(lost, setting("1"), START, START + L)
    assert one.known() == (last if settled else Uncertain(last, (doubt,)))


def test_two_acknowledged_values_in_flight_together_prove_neither(
    place: Place, clock: ScriptedClock
) -> None:
    """Which of the two the exchange took last nobody knows, whatever order the answers come in."""
    for first, second in ((0, 1), (1, 0)):
        one, two = Process(place, clock), Process(place, clock)
        clock.time += 100
        sent = [one.send("1"), two.send("2")]
        one.settle(sent[first], AttemptStatus.APPLIED)
        two.settle(sent[second], AttemptStatus.APPLIED)
        assert isinstance(one.known(), Uncertain)
        shown = ("1", "2")[first]
        clock.time += READ_LAG_S - 0.001
        one.adopt(shown, read_begun_at=clock.time)
        assert isinstance(one.known(), Uncertain), "the other may have come later, and not be shown yet"
        clock.time += 0.001
        one.adopt(shown, read_begun_at=clock.time)
        assert one.known() == Confirmed(setting(shown), clock.time, sent[1])


def test_an_answer_that_later_proof_overtook_changes_nothing(place: Place, clock: ScriptedClock) -> None:
    sleeper, other = Process(place, clock), Process(place, clock)
    late = sleeper.send("1", at=START)
    newer = other.applied("2", at=START + L)
    sleeper.settle(late, AttemptStatus.APPLIED, at=START + L + 1)
    assert other.known() == Confirmed(setting("2"), START + L, newer)
    assert isinstance(sleeper.reserve(), NoSlotUntil)


def test_families_do_not_touch_each_other(place: Place, clock: ScriptedClock) -> None:
    one = Process(place, clock)
    one.applied("1", BTC, at=START)
    lost = one.unknown("1", ETH, at=START + 1)
    assert isinstance(one.known(BTC), Confirmed)
    assert one.known(ETH) == Uncertain(None, (OpenAttempt(lost, setting("1"), START + 1, START + 1 + L),))
    clock.time = START + 3
    asyncio.run(one.store.adopt({BTC: setting("2"), ETH: setting("1")}, read_begun_at=START + 2))
    assert list(asyncio.run(one.store.known())) == [BTC, ETH]
    assert one.known(BTC) == Confirmed(setting("2"), START + 2, 1)
    assert one.known(ETH) == Confirmed(setting("1"), START + 2, lost, lands_until=START + 1 + L)


def test_environments_do_not_see_each_others_settings(place: Place, clock: ScriptedClock) -> None:
    Process(place, clock).applied("1")
    assert Process(place, clock, environment="demo").known() is None


def test_a_simulators_settings_are_never_taken_for_the_exchanges(
    place: Place, clock: ScriptedClock
) -> None:
    Process(place, clock, kind="simulator").applied("1")
    assert asyncio.run(place.open(clock, kind=ExchangeKind.OKX).known()) == {}


def test_proof_of_another_boot_ages_from_its_first_sight(place: Place, clock: ScriptedClock) -> None:
    before = Process(place, clock, boot="boot-1")
    proven = before.applied("1", BTC, at=START)
    lost = before.unknown("2", ETH, at=START + 1)
    later = ScriptedClock(7.0)
    after = Process(place, later, boot="boot-2")
    for now in (7.0, 30.0):
        later.time = now
        assert after.known(BTC) == Confirmed(setting("1"), 7.0, proven)
        assert after.known(ETH) == Uncertain(None, (OpenAttempt(lost, setting("2"), 7.0, 7.0 + L),))
    before.applied("3", BTC, at=START + 50)
    later.time = 60.0
    assert after.known(BTC) == Confirmed(setting("3"), 60.0, lost + 1)


@pytest.mark.parametrize("status", list(AttemptStatus)[1:])
def test_an_attempt_is_settled_once_and_under_its_own_user_id(
    place: Place, clock: ScriptedClock, status: AttemptStatus
) -> None:
    one = Process(place, clock)
    attempt = one.send()
    with pytest.raises(StoreMisuse):
        Process(place, clock, account="other", uid="2").settle(attempt, status)
    one.settle(attempt, status)
    before = (one.known(), one.ledger())
    for number in (attempt, attempt + 1):
        with pytest.raises(StoreMisuse):
            one.settle(number, status)
    assert (one.known(), one.ledger()) == before


def test_whatever_an_exchange_says_can_be_recorded(place: Place, clock: ScriptedClock) -> None:
    one = Process(place, clock)
    for text in ("\x00nul", "\ud800 lone", "x" * 100_000, "π' OR 1=1 --", "\u0378"):
        clock.time += 100
        attempt = one.send()
        asyncio.run(
            one.store.settle(
                attempt,
                AttemptResult(
                    AttemptStatus.UNKNOWN, definite=False, limited=False, code=text, message=text
                ),
            )
        )
        assert isinstance(Process(place, clock).known(), Uncertain)


def test_a_live_read_is_stored_and_decides_nothing(place: Place, clock: ScriptedClock) -> None:
    one = Process(place, clock)
    one.applied("1", at=START)
    before = one.known()
    for _ in range(2):
        read = LiveRead(START + 1, {BTC: LiveRow(setting("9"), frozen=True)}, {ETH: "qtyLimit is odd"})
        asyncio.run(one.store.record_live(read))
    assert one.known() == before


def test_the_rows_last_seen_are_of_the_user_id_frozen_or_not(place: Place, clock: ScriptedClock) -> None:
    """They prevent writes, so they survive a new account name, and lists that leave families out."""
    one = Process(place, clock, account="old")
    assert asyncio.run(one.store.last_rows()) == {}
    asyncio.run(
        one.store.record_live(LiveRead(START, {BTC: LiveRow(setting("1")), ETH: LiveRow(setting("2"))}))
    )
    clock.time += 10
    frozen = LiveRow(setting("3"), frozen=True, frozen_until="until-reset")
    renamed, stranger = Process(place, clock, account="new"), Process(place, clock, account="x", uid="2")
    asyncio.run(renamed.store.record_live(LiveRead(clock.time, {}), last_seen={BTC: frozen}))
    for process in (one, renamed, Process(place, clock, boot="boot-2", account="new")):
        rows = asyncio.run(process.store.last_rows())
        assert {family: seen.row for family, seen in rows.items()} == {
            BTC: frozen,
            ETH: LiveRow(setting("2")),
        }
        assert {seen.at for seen in rows.values()} == {clock.time}
    assert asyncio.run(stranger.store.last_rows()) == {}
    assert asyncio.run(place.open(clock, account="new").last_rows()).keys() == {BTC, ETH}
    assert asyncio.run(place.open(clock, account="nobody").last_rows()) == {}
    clock.time += 10
    one.applied("7")
    assert asyncio.run(renamed.store.last_rows())[BTC].at == float("-inf"), "older than the proof"


# -- the lock ----------------------------------------------------------------------------------


def test_a_held_lock_names_its_holder_and_is_given_up_on_after_the_timeout(
    place: Place, clock: ScriptedClock
) -> None:
    async def both() -> None:
        holder, waiter = place.open(clock), place.open(clock, lock_timeout_s=2.0)
        async with holder.locked("apply"):
            with pytest.raises(StateLocked) as refused:
                async with waiter.locked("run"):
                    raise AssertionError("both got in")
        assert clock.time == START + 2.0
        assert max(b - a for a, b in zip(clock.pauses, clock.pauses[1:], strict=False)) < 0.1
        assert (refused.value.code, refused.value.exit_status) == ("state-locked", Exit.LOCKED)
        assert "pid " in refused.value.message
        assert "(apply, since 2026-01-02T12:" in refused.value.message
        assert refused.value.hint
        async with waiter.locked("run"):
            pass

    asyncio.run(both())


def test_a_caller_may_wait_for_the_lock_for_another_time(place: Place, clock: ScriptedClock) -> None:
    async def both() -> None:
        holder, waiter = place.open(clock), place.open(clock, lock_timeout_s=30.0)
        for timeout_s in (0.0, 1.0):
            began_at = clock.time
            async with holder.locked("apply"):
                with pytest.raises(StateLocked):
                    await waiter.locked("run", timeout_s=timeout_s).__aenter__()
            assert clock.time == began_at + timeout_s
        async with waiter.locked("run", timeout_s=0.0):
            pass

    asyncio.run(both())


def test_a_waiter_gets_in_when_the_lock_is_given_back(place: Place, clock: ScriptedClock) -> None:
    async def both() -> list[str]:
        order: list[str] = []
        holder, waiter = place.open(clock), place.open(clock, lock_timeout_s=5.0)

        async def wait() -> None:
            async with waiter.locked("run"):
                order.append("waiter")

        async with holder.locked("apply"):
            task = asyncio.create_task(wait())
            order.append("holder")
        await task
        return order

    assert asyncio.run(both()) == ["holder", "waiter"]


def test_the_lock_is_given_back_when_a_pass_fails(place: Place, clock: ScriptedClock) -> None:
    async def twice() -> None:
        store = place.open(clock)
        with pytest.raises(RuntimeError, match="pass"):
            async with store.locked("apply"):
                raise RuntimeError("pass")
        async with place.open(clock, lock_timeout_s=0.0).locked("apply"):
            pass

    asyncio.run(twice())


def test_locking_twice_is_a_bug_and_accounts_have_locks_of_their_own(
    place: Place, clock: ScriptedClock
) -> None:
    async def nested() -> None:
        store = place.open(clock)
        async with store.locked("apply"):
            with pytest.raises(StoreMisuse):
                async with store.locked("apply"):
                    raise AssertionError("reentered")
            for other in (
                place.open(clock, account="twin"),
                place.open(clock, environment=Environment.DEMO),
                place.open(clock, kind=ExchangeKind.SIMULATOR),
            ):
                async with other.locked("apply"):
                    pass

    asyncio.run(nested())


# -- the controller ----------------------------------------------------------------------------


def test_one_process_controls_an_account_and_is_named_until_it_releases_it(
    place: Place, clock: ScriptedClock
) -> None:
    async def both() -> None:
        first, second = place.open(clock), place.open(clock)
        assert await first.controller() is None
        assert [await first.try_control("run"), await first.try_control("run")] == [True, True]
        if await second.try_control("run"):
            assert await second.controller() is None, "leases assign the accounts"
            return
        for asked in (first, second):
            holder = await asked.controller()
            assert holder is not None
            assert (holder.pid, holder.purpose) == (os.getpid(), "run")
        await second.release_control()
        assert not await second.try_control("run"), "only the controller releases control"
        await first.release_control()
        await first.release_control()
        assert await second.controller() is None
        assert await second.try_control("run")
        assert not await first.try_control("run")

    asyncio.run(both())


def test_control_is_of_one_account_and_blocks_no_pass(place: Place, clock: ScriptedClock) -> None:
    async def several() -> None:
        controller = place.open(clock)
        assert await controller.try_control("run")
        for other in (
            place.open(clock, account="twin"),
            place.open(clock, environment=Environment.DEMO),
            place.open(clock, kind=ExchangeKind.SIMULATOR),
        ):
            assert await other.try_control("run")
        async with place.open(clock, lock_timeout_s=0.0).locked("apply"):
            assert await controller.try_control("run")

    asyncio.run(several())


def test_an_identity_is_checked_without_being_stamped(place: Place, clock: ScriptedClock) -> None:
    async def several() -> None:
        first, second, third = (place.open(clock) for _ in range(3))
        await first.check_identity("1")
        assert (await first.recorded_inputs()).known == {}, "the User ID is known, so the ledger is"
        assert (await second.snapshot()).uid is None
        await second.identify("2", "openapi.okx.com")
        with pytest.raises(StateAccountMismatch):
            await third.check_identity("1")
        await third.check_identity("2")
        assert (await third.snapshot()).host == "openapi.okx.com"

    asyncio.run(several())
