"""One family of four always fails, with every kind of reply: the others never wait for it.

The real loop, pass and store run in virtual time against an exchange that fails one family.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise

import pytest

from reconciler.controller.pass_values import Approval, InMemoryState, TimedOut
from reconciler.core.events import ExchangeFailed, RequestReserved, RequestSettled
from reconciler.core.model import Family, LiveRow, Setting
from reconciler.core.reply import Reply, ReplyClass
from reconciler.core.reservation import SignedRequest
from reconciler.core.retry import MAX_BACK_OFF_S
from reconciler.ports import Connection
from tests.support.slow import mostly_slow
from tests.unit.builders import BTC, ETH, SOL, desired, setting
from tests.unit.test_loop import INFO, A, B, Exchange, Wire, World
from tests.unit.test_review import at_once

XAU = Family("XAU-USD_UM")
FOUR = (BTC, ETH, SOL, XAU)
LOOSER, EVEN_LOOSER, TIGHTER = B, setting("5000/2000/500"), setting("5000/2000/50")

FAILURES = {
    "unknown code": Reply(ReplyClass.AMBIGUOUS, "59999", "?"),
    "50004": Reply(ReplyClass.AMBIGUOUS, "50004", "timeout"),
    "50026": Reply(ReplyClass.AMBIGUOUS, "50026", "system error"),
    "wrong echo": Reply(ReplyClass.ACCEPTED, "0", "", ((ETH, A),)),
    "50001": Reply(ReplyClass.BUSY, "50001", "unavailable"),
    "50013": Reply(ReplyClass.BUSY, "50013", "busy"),
    "maintenance": Reply(ReplyClass.UNAVAILABLE, "50005", "inactive"),
    "dropped": Reply(ReplyClass.NO_ANSWER, "broken", "the connection broke"),
    "page": Reply(ReplyClass.NO_ANSWER, "not-okx", "HTTP 502"),
    "timeout": Reply(ReplyClass.NO_ANSWER, "timeout", "no complete reply within 10 s"),
    "limited": Reply(ReplyClass.RATE_LIMITED, "50011", "Too Many Requests"),
    "wrapped": Reply(ReplyClass.WRONG_SETTINGS, "51000", "code 1", wrapper="1"),
    "refused": Reply(ReplyClass.WRONG_SETTINGS, "51155", "not allowed"),
    "frozen contract": Reply(ReplyClass.NOT_OPEN, "50017", "frozen"),
    "not sent": Reply(ReplyClass.NOT_SENT, "late", "the slot had passed"),
}


@dataclass
class Broken(Exchange):
    """An exchange that answers every write of one family in the same way, and applies none of them."""

    family: Family = BTC
    failure: Reply = field(default_factory=lambda: FAILURES["timeout"])
    answers_after_s: float = 0.05

    async def open(self) -> Connection | Reply:
        opened = await super().open()
        return opened if isinstance(opened, Reply) else BrokenWire(self)


@dataclass
class BrokenWire(Wire):
    """A connection to it."""

    async def send(self, request: SignedRequest, *, deadline: float) -> Reply:
        broken = self.exchange
        assert isinstance(broken, Broken)
        if request.family != broken.family:
            return await super().send(request, deadline=deadline)
        broken.sent.append((broken.clock.now(), request.family, request.setting))
        broken.clock.pass_by(broken.answers_after_s)
        return broken.failure


def world(wanted: dict[Family, Setting], failure: str, *, answers_after_s: float = 0.05) -> World:
    here = World(desired(wanted))
    here.exchange = Broken(here.clock, failure=FAILURES[failure], answers_after_s=answers_after_s)
    here.exchange.live = dict.fromkeys(wanted, LiveRow(A))
    return here


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("wanted", [LOOSER, TIGHTER], ids=["loosening", "tightening"])
@pytest.mark.parametrize("answers_after_s", mostly_slow([10.0, 0.05], first=1))
def test_the_other_three_are_in_force_within_75_seconds(
    failure: str, wanted: Setting, answers_after_s: float
) -> None:
    here = world(dict.fromkeys(FOUR, wanted), failure, answers_after_s=answers_after_s)
    here.run(75.0)
    assert {family: here.exchange.live[family].setting for family in FOUR[1:]} == dict.fromkeys(
        FOUR[1:], wanted
    )


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failing_family_is_tried_at_growing_intervals_and_one_failure_is_not_the_account_s(
    failure: str,
) -> None:
    here = world(dict.fromkeys(FOUR, TIGHTER), failure)
    here.run(600.0)
    tried = [at for at, family, _ in here.exchange.sent if family == BTC]
    waits = [round(later - early) for early, later in pairwise(tried)]
    if failure in ("refused", "frozen contract", "wrapped"):
        assert waits == []
    elif failure == "limited":
        assert set(waits[1:]) == {10}, "the rate is no fault of the family: the pacing alone holds it"
    elif failure == "not sent":
        assert waits[-1] == MAX_BACK_OFF_S, "nothing on record counts, so the process does"
    else:
        assert 10 <= waits[0] <= 45, "the others go first"
        assert waits[1:4] == [45, 90, 120]
    assert not here.times_of(ExchangeFailed)


EDITED_AT = [1000.0 + 3.7 * number for number in range(30)]


@pytest.mark.slow
@pytest.mark.parametrize("edited_at", EDITED_AT)
@pytest.mark.parametrize("failure", ["timeout", "50004", "50013", "limited", "not sent"])
def test_an_emergency_beside_a_failing_loosening_leaves_within_11_seconds(
    failure: str, edited_at: float
) -> None:
    slow = 10.0 if failure == "timeout" else 0.05
    here = world({BTC: LOOSER, ETH: A}, failure, answers_after_s=slow)
    here.clock.at(edited_at, lambda: here.want({BTC: LOOSER, ETH: TIGHTER}))
    here.run(edited_at - 1000.0 + 40.0)
    left = [at for at, family, _ in here.exchange.sent if family == ETH]
    assert left[0] - edited_at <= 11.0


@dataclass
class BrokenMany(Broken):
    """One that fails several families."""

    failing: frozenset[Family] = frozenset()

    async def open(self) -> Connection | Reply:
        opened = await super().open()
        return opened if isinstance(opened, Reply) else BrokenManyWire(self)


@dataclass
class BrokenManyWire(BrokenWire):
    """A connection to it."""

    async def send(self, request: SignedRequest, *, deadline: float) -> Reply:
        broken = self.exchange
        assert isinstance(broken, BrokenMany)
        broken.family = request.family if request.family in broken.failing else Family("NONE-USD")
        return await super().send(request, deadline=deadline)


@pytest.mark.parametrize("edited_at", [1000.0 + 3.7 * number for number in range(1, 16)])
def test_an_emergency_beside_two_failing_loosenings_leaves_within_11_seconds(edited_at: float) -> None:
    """The second one leaves the last slot free while the first one is unanswered."""
    wanted = {BTC: LOOSER, ETH: LOOSER, SOL: A}
    here = World(desired(wanted))
    here.exchange = BrokenMany(here.clock, failing=frozenset((BTC, ETH)))
    here.exchange.live = dict.fromkeys(wanted, LiveRow(A))
    here.clock.at(edited_at, lambda: here.want({**wanted, SOL: TIGHTER}))
    here.run(edited_at - 1000.0 + 40.0)
    left = [at for at, family, _ in here.exchange.sent if family == SOL]
    assert left[0] - edited_at <= 11.0


def test_the_end_of_an_outage_is_noticed_at_once() -> None:
    """A success of any family lets every other one be tried again."""
    here = world(dict.fromkeys(FOUR, TIGHTER), "50004")
    broken = here.exchange
    assert isinstance(broken, Broken)
    here.clock.at(1300.0, lambda: setattr(broken, "family", Family("NONE-USD")))
    here.clock.at(1301.0, lambda: here.want(dict.fromkeys(FOUR, TIGHTER) | {ETH: setting("5000/2000/49")}))
    here.run(400.0)
    applied = [event for _, event in here.events if isinstance(event, RequestSettled)]
    assert [(event.family, event.status.value) for event in applied[-2:]] == [
        (ETH, "applied"),
        (BTC, "applied"),
    ]
    (last,) = [at for at, family, _ in here.exchange.sent if family == BTC and at > 1301.0]
    assert last < 1320.0


@pytest.mark.parametrize("first", ["not sent", "50004", "limited", "timeout"])
def test_a_family_whose_requests_cannot_be_sent_lets_the_others_go_first(first: str) -> None:
    """BTC-USD adds protection and so goes first, whatever came of its earlier tries."""
    here = world({BTC: TIGHTER, ETH: LOOSER}, first)
    broken = here.exchange
    assert isinstance(broken, Broken)
    here.clock.at(1005.0, lambda: setattr(broken, "failure", FAILURES["not sent"]))
    here.clock.at(1100.0, lambda: here.want({BTC: TIGHTER, ETH: EVEN_LOOSER}))
    here.run(100.0 + 2 * MAX_BACK_OFF_S)
    assert broken.live[ETH].setting == EVEN_LOOSER
    assert sum(family == BTC for _, family, _ in broken.sent) > 5, "it is tried all the time"


@pytest.mark.parametrize(("others", "tried_at"), [({}, 1061.0), ({ETH: TIGHTER}, 1011.0)])
def test_a_family_waits_as_long_as_the_exchange_asks_unless_another_has_a_success(
    others: dict[Family, Setting], tried_at: float
) -> None:
    here = world({BTC: TIGHTER, **others}, "50013")
    broken = here.exchange
    assert isinstance(broken, Broken)
    broken.failure = replace(FAILURES["50013"], retry_after_s=60.0)
    here.run(70.0)
    first, second = [at for at, family, _ in broken.sent if family == BTC][:2]
    assert first < 1001.0
    assert second == pytest.approx(tried_at, abs=1.5)


def test_a_restart_forgets_no_back_off() -> None:
    here = world({BTC: TIGHTER}, "50004")
    here.run(5.0)
    first = len(here.exchange.sent)
    here.run(4.0)
    assert (first, len(here.exchange.sent)) == (1, 1), "a restarted process waits as well"


def test_an_apply_ends_partly() -> None:
    here, memory = world(dict.fromkeys(FOUR, TIGHTER), "50004"), InMemoryState()
    at_once(here.store.identify(INFO.uid, "openapi.okx.com"))
    result = here.one_pass(memory, review=lambda plan: Approval(here.clock.now() + plan.eta_s + 300.0))
    assert isinstance(result.end, TimedOut)
    assert set(memory.done) == set(FOUR[1:])


def test_two_families_that_fail_in_a_row_back_the_account_off() -> None:
    here = world(dict.fromkeys(FOUR, TIGHTER), "50013")
    here.exchange.writing = FAILURES["50013"]
    here.run(60.0)
    assert here.times_of(ExchangeFailed) != []


def test_a_new_value_begins_without_tries() -> None:
    here = world({BTC: TIGHTER}, "50004")
    here.clock.at(1030.0, lambda: here.want({BTC: setting("5000/2000/49")}))
    here.run(50.0)
    reserved = [
        (at, event.setting.qty_limit.text)
        for at, event in here.events
        if isinstance(event, RequestReserved)
    ]
    assert [quantity for _, quantity in reserved] == ["50", "50", "49"]
    assert reserved[-1][0] < 1046.0, "as soon as there is a slot"
