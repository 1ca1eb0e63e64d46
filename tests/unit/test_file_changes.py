"""A settings file that changes at the last moment, and one that another, newer file has overtaken.

Time is virtual; loop, pass and store are the real ones. A store that is slow to reserve is the real one,
and something happens before it answers.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import replace

import pytest

from reconciler.core.apply_result import hold_words
from reconciler.core.drift_resolution import DriftPolicy
from reconciler.core.events import (
    FilesStillWritten,
    HealBreakerTripped,
    Planned,
    RequestReserved,
    RequestSettled,
)
from reconciler.core.live_evidence import newest_file
from reconciler.core.model import Accepting, FileVersion, LiveRow, Setting
from reconciler.core.pacing import earliest_slot
from reconciler.core.plan import Action, Change, HoldReason, Reason
from reconciler.core.policy import Loosening, Policy, PolicyInForce
from reconciler.core.reply import AttemptStatus
from reconciler.core.reservation import (
    AttemptResult,
    Reservation,
    ReserveOptions,
    ReserveResult,
    SignedRequest,
)
from tests.unit.builders import BTC, ETH
from tests.unit.test_loop import INFO, A, B, C, World
from tests.unit.test_loop_faults import Odd, file_of, go, world
from tests.unit.test_review import at_once

TIGHTER = C
FORBIDDEN = PolicyInForce(Policy("p", "0" * 64, loosening=Loosening(max_families=0)))


# -- what changes while a slot is reserved -----------------------------------------------------------------


def while_reserving(here: World, *happens: Callable[[], object]) -> None:
    """Let one thing happen during each reservation: it is on record, and the pass does not know of it."""
    left, real = list(happens), here.store.reserve

    async def reserve(request: SignedRequest, options: ReserveOptions) -> ReserveResult:
        slot = await real(request, options)
        if left and isinstance(slot, Reservation):
            left.pop(0)()
        return slot

    here.store.reserve = reserve


def edit(here: World, wanted: Setting, sha256: str) -> Callable[[], object]:
    return lambda: setattr(here, "desired", file_of({BTC: wanted}, sha256))


def looked_at(live: Setting = A) -> tuple[World, Odd]:
    """Return a world whose file wants B of BTC-USD, where something else is in force."""
    here, odd = world({BTC: B})
    here.desired = file_of({BTC: B}, "1")
    odd.live[BTC] = LiveRow(live)
    at_once(here.store.identify(INFO.uid, "openapi.okx.com"))
    return here, odd


@pytest.mark.parametrize("times", [1, 2, 3])
def test_what_was_reserved_for_an_older_file_is_taken_back_and_the_newer_one_goes_at_once(
    times: int,
) -> None:
    """However often that happens within a window, no slot is lost over it."""
    here, odd = looked_at()
    edits = [edit(here, B, str(n)) for n in range(2, 1 + times)]
    while_reserving(here, *edits, edit(here, TIGHTER, "9"))
    go(here, 3.0)
    assert [wanted for _, _, wanted in odd.sent] == [TIGHTER]
    assert odd.sent[0][0] < 1002.0, "none of the reservations before it counts"
    *_, first = records = at_once(here.store.history(9)).attempts
    assert [record.code for record in records] == ["0", *["changed"] * times]
    assert (first.setting, first.status) == (B, AttemptStatus.NOT_SENT)
    assert first.message == "file or policy changed, or the machine was suspended, before it was sent"


@pytest.mark.parametrize("what", ["file", "policy"])
def test_what_was_taken_back_counts_neither_against_the_rate_nor_as_a_try(what: str) -> None:
    policy = PolicyInForce()
    here, odd = looked_at()
    here.options = replace(here.options, policy=lambda: policy)

    def forbid() -> None:
        nonlocal policy
        policy = FORBIDDEN

    before = at_once(here.store.recorded_inputs())
    while_reserving(here, forbid if what == "policy" else edit(here, A, "2"))
    go(here, 3.0)
    after, now = at_once(here.store.recorded_inputs()), here.clock.now()
    assert odd.sent == []
    assert [record.code for record in at_once(here.store.history(9)).attempts] == ["changed"]
    assert dict(after.retries.tries) == {}
    ledgers = [replace(one.ledger, empty_since=None) for one in (before, after)]
    assert [earliest_slot(ledger, now, keep_free=1) for ledger in ledgers] == [now, now]
    assert here.times_of(RequestReserved) == [], "no event reports a request that was not made"
    assert here.times_of(RequestSettled) == []


def test_a_file_rewritten_with_the_same_content_takes_nothing_back() -> None:
    here, odd = looked_at()
    while_reserving(here, edit(here, B, "1"))
    go(here, 3.0)
    assert [wanted for _, _, wanted in odd.sent] == [B]
    assert [record.code for record in at_once(here.store.history(9)).attempts] == ["0"]


# -- what changes while a connection opens -----------------------------------------------------------------


@pytest.mark.parametrize(
    "wanted",
    [
        pytest.param(TIGHTER, id="tighter"),
        pytest.param(Setting(9000, 2000, B.qty_limit), id="mixed"),
        pytest.param(B, id="only its other content is new"),
    ],
)
def test_a_file_that_changes_while_the_connection_opens_is_what_is_sent_and_recorded(
    wanted: Setting,
) -> None:
    here, odd = looked_at()
    odd.while_opening = [edit(here, wanted, "2")]
    go(here, 5.0)
    assert [sent for _, _, sent in odd.sent] == [wanted]
    proof = at_once(here.store.recorded_inputs()).known[BTC]
    assert newest_file(proof) == FileVersion("2" * 64, 2), "the file that it came from"


# -- what is found when file and policy are looked at right before a request -------------------------------


def found_before_sending(here: World, *finds: Callable[[], object]) -> list[float]:
    """Let each look before a request find one thing more; returns when was looked, as it comes."""
    left, looks = list(finds), list[float]()

    async def files_settled() -> bool:
        looks.append(here.clock.now())
        found = left.pop(0)() if left else None
        return found is not False

    here.options = replace(here.options, files_settled=files_settled)
    return looks


@pytest.mark.parametrize("wanted", [TIGHTER, Setting(9000, 2000, B.qty_limit)], ids=["tighter", "mixed"])
def test_a_file_change_without_an_event_is_found_before_the_request(wanted: Setting) -> None:
    here, odd = looked_at()
    looks = found_before_sending(here, edit(here, wanted, "2"))
    go(here, 5.0)
    assert [sent for _, _, sent in odd.sent] == [wanted]
    assert len(looks) == 2, "once for each connection"


def test_a_policy_change_without_an_event_is_found_before_the_request() -> None:
    policy = PolicyInForce()
    here, odd = looked_at()
    here.options = replace(here.options, policy=lambda: policy)

    def forbid() -> None:
        nonlocal policy
        policy = FORBIDDEN

    found_before_sending(here, forbid)
    go(here, 5.0)
    assert odd.sent == []


def test_while_what_was_found_is_not_decided_on_nothing_is_loosened() -> None:
    here, odd = looked_at()
    looks = found_before_sending(here, *[lambda: False] * 3, edit(here, A, "2"))
    go(here, 8.0)
    assert odd.sent == []
    assert len(looks) == 4
    waits = [later - at for at, later in itertools.pairwise(looks)]
    assert all(wait_s <= waited < wait_s + 0.5 for wait_s, waited in zip((1, 2, 4), waits, strict=True)), (
        waits
    )
    assert [event.wait_s for _, event in here.events if isinstance(event, FilesStillWritten)] == [1, 2, 4]


def test_what_is_decided_on_again_is_loosened_a_second_later() -> None:
    here, odd = looked_at()
    looks = found_before_sending(here, lambda: False)
    go(here, 8.0)
    assert [sent for _, _, sent in odd.sent] == [B]
    assert odd.sent[0][0] < looks[0] + 2.0


def test_protection_never_waits_for_a_file_that_is_being_written() -> None:
    here, odd = looked_at()
    here.desired = file_of({BTC: TIGHTER}, "1")
    found_before_sending(here, *[lambda: False] * 9)
    go(here, 3.0)
    assert [sent for _, _, sent in odd.sent] == [TIGHTER]
    assert odd.sent[0][0] < 1002.0


# -- a change of the file is on record before anything is waited for --------------------------------------


def applied_elsewhere(here: World, wanted: Setting, sha256: str) -> None:
    """Apply a newer file as a process on another host does that has no lock any more, all at once."""
    store = here.process()
    at_once(store.identify(INFO.uid, "openapi.okx.com"))
    file = at_once(store.accept_file(sha256 * 64, changed=True))
    request, accepting = SignedRequest(BTC, wanted, "", b"{}", {}), Accepting(wanted)
    slot = at_once(store.reserve(request, ReserveOptions(assume_idle=True, file=file, accepting=accepting)))
    assert isinstance(slot, Reservation)
    status = AttemptStatus.APPLIED
    at_once(
        store.settle(
            slot.attempt, AttemptResult(status, definite=True, limited=False, code="0", message="")
        )
    )
    here.exchange.live[BTC] = LiveRow(wanted)


def waits_for_its_turn(here: World) -> None:
    """Let no pass that begins from 1040 to 1060 go on before that."""

    @asynccontextmanager
    async def late() -> AsyncIterator[None]:
        while here.clock.now() < 1060.0:
            await here.clock.sleep_until(1060.0)
        yield

    def turn() -> AbstractAsyncContextManager[None]:
        return late() if here.clock.now() >= 1040.0 else nullcontext()

    here.turn = turn


def waits_for_the_lock(here: World) -> None:
    """Let another process have the lock from 1035 to 1060."""

    async def holds() -> None:
        async with here.process().locked("apply"):
            while here.clock.now() < 1060.0:
                await asyncio.sleep(0)

    here.clock.at(1035.0, lambda: asyncio.get_running_loop().create_task(holds()))


@pytest.mark.parametrize("waits", [waits_for_its_turn, waits_for_the_lock])
@pytest.mark.parametrize(
    ("applied_at", "in_force"), [(1050.0, TIGHTER), (1038.0, B)], ids=["after it", "before it"]
)
def test_a_change_of_the_file_is_older_than_what_is_applied_while_it_waits(
    waits: Callable[[World], None], applied_at: float, in_force: Setting
) -> None:
    """The file changes at 1042 from A to B, which is looser; another process tightens before or after."""
    here, odd = world({BTC: A})
    here.desired = file_of({BTC: A}, "1")
    waits(here)

    def changes() -> None:
        here.desired = file_of({BTC: B}, "2")
        here.clock.wake()

    here.clock.at(1042.0, changes)
    here.clock.at(applied_at, lambda: applied_elsewhere(here, TIGHTER, "3"))
    go(here, 200.0)
    assert odd.live[BTC].setting == in_force


# -- drift that is left to another file --------------------------------------------------------------------


def overtaken(wanted: Setting) -> tuple[World, Odd]:
    """Return a world whose controller has an older file, wanting A, than the one that set ``wanted``."""
    here, odd = world({BTC: A, ETH: A}, drift=DriftPolicy.HEAL)
    here.desired = file_of({BTC: A, ETH: A}, "1")
    odd.live = dict.fromkeys((BTC, ETH), LiveRow(A))
    go(here, 5.0)
    applied_elsewhere(here, wanted, "2")
    return here, odd


def test_a_family_contested_under_an_older_file_is_paused_as_any_other() -> None:
    """What is restored is the newer file's value; the pause ends when this file wants another one."""
    here, odd = overtaken(TIGHTER)
    here.options = replace(here.options, heal_breaker=True)
    until = here.clock.now() + 600.0

    def loosens() -> None:
        odd.live[BTC] = LiveRow(B)
        if here.clock.now() < until:
            here.clock.at(here.clock.now() + 20.0, loosens)

    here.clock.at(here.clock.now() + 1.0, loosens)
    go(here, 640.0)
    assert [wanted for _, family, wanted in odd.sent if family == BTC] == [TIGHTER] * 3
    assert len(here.times_of(HealBreakerTripped)) == 1


def last_change(here: World) -> Change | None:
    plans = [event.plan for _, event in here.events if isinstance(event, Planned)]
    return next((change for change in plans[-1].changes if change.family == BTC), None)


def test_what_a_newer_file_tightened_is_left_and_reported_with_its_words() -> None:
    here, odd = overtaken(TIGHTER)
    applied_at = here.clock.wall()
    go(here, 100.0)
    assert odd.sent == []
    change = last_change(here)
    assert change is not None
    assert (change.action, change.reason, change.because) == (
        Action.HOLD,
        Reason.CHANGED,
        HoldReason.DRIFT_POLICY,
    )
    assert hold_words(change) == (
        f"a newer settings file was applied at {applied_at:%Y-%m-%d %H:%M:%S}Z: "
        "not loosened until a new mmp apply confirms this file"
    )
    assert newest_file(at_once(here.store.recorded_inputs()).known[BTC]).sha256 == "2" * 64


def test_what_a_newer_file_loosened_and_live_shows_as_the_older_one_wants_is_no_drift() -> None:
    here, odd = overtaken(B)
    odd.live[BTC] = LiveRow(A)
    go(here, 100.0)
    assert odd.sent == []
    assert last_change(here) is None
    assert newest_file(at_once(here.store.recorded_inputs()).known[BTC]).sha256 == "2" * 64, (
        "nothing is adopted"
    )


@pytest.mark.parametrize("live", [A, B], ids=["as the older file wants", "looser"])
def test_what_is_put_back_under_an_older_file_stays_the_newer_one_s_on_record(live: Setting) -> None:
    here, odd = overtaken(TIGHTER)
    odd.live[BTC] = LiveRow(live)
    go(here, 40.0)
    assert [wanted for _, _, wanted in odd.sent] == [TIGHTER]
    assert newest_file(at_once(here.store.recorded_inputs()).known[BTC]).sha256 == "2" * 64
