"""The network between the processes and the exchange: latency, losses, late arrivals, garbled replies."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from reconciler.core.model import Family, Quantity, Setting
from reconciler.core.reply import Reply
from reconciler.core.reservation import SignedRequest
from reconciler.simulator.faults import Fault, FaultKind, ScriptedFault
from reconciler.simulator.http_messages import HtmlPage, ReplyBody, ReplyEnvelope
from reconciler.simulator.request_parsing import Endpoint, MmpSetting
from tests.simulation import checkers
from tests.simulation.ground_truth import Attempt
from tests.simulation.ports import ANSWER_WITHIN_S, TIMEOUT, reply_of, set_reply_of
from tests.simulation.process import Process
from tests.simulation.scenario import Fate

if TYPE_CHECKING:
    from tests.simulation.world import World

LATEST_LANDING_S = 34.95
"""No request reaches the exchange later than this after its reservation: L, clocks that differ aside."""

_EXCHANGE_FAULTS = {
    Fate.REPLY_LOST: Fault(FaultKind.LOST, effect=True),
    Fate.PAGE: Fault(FaultKind.PAGE, effect=False, status=502),
    Fate.PAGE_AFTER: Fault(FaultKind.PAGE, effect=True, status=502),
    Fate.TRUNCATED: Fault(FaultKind.TRUNCATED, effect=True),
    Fate.WRONG_ECHO: Fault(FaultKind.WRONG_ECHO, effect=True),
    Fate.WRONG_ECHO_BEFORE: Fault(FaultKind.WRONG_ECHO, effect=False),
    Fate.TIMEOUT_CODE: Fault(FaultKind.CODE, effect=False, code="50004"),
    Fate.TIMEOUT_CODE_AFTER: Fault(FaultKind.CODE, effect=True, code="50004"),
    Fate.SYSTEM_ERROR: Fault(FaultKind.CODE, effect=False, code="50026"),
    Fate.BUSY: Fault(FaultKind.CODE, effect=False, code="50013"),
    Fate.UNAVAILABLE: Fault(FaultKind.CODE, effect=False, code="50009"),
    Fate.BUSY_AFTER: Fault(FaultKind.CODE, effect=True, code="50013"),
    Fate.UNKNOWN_CODE: Fault(FaultKind.CODE, effect=False, code="59999"),
    Fate.CONTRACT: Fault(FaultKind.CODE, effect=False, code="51155"),
    Fate.WRAPPED: Fault(FaultKind.LOST, effect=False),
    Fate.WRAPPED_AFTER: Fault(FaultKind.LOST, effect=True),
    Fate.REFUSED_ROW: Fault(FaultKind.LOST, effect=False),
    Fate.OTHER_ECHO: Fault(FaultKind.LOST, effect=False),
    Fate.TWO_ECHOES: Fault(FaultKind.LOST, effect=False),
}

_REFUSED = {"sCode": "51000", "sMsg": "Parameter qtyLimit error"}


def _reply_in_place(fate: Fate, attempt: Attempt) -> ReplyBody | None:
    """Return the reply that a fate puts in place of the exchange's; None: no reply."""
    row = {"instFamily": str(attempt.family), **attempt.setting.wire()}
    other = {**row, "instFamily": "XRP-USD"}
    match fate:
        case Fate.WRAPPED | Fate.WRAPPED_AFTER:
            return ReplyEnvelope(
                "1", "All operations failed", ({"instFamily": str(attempt.family), **_REFUSED},)
            )
        case Fate.REFUSED_ROW:
            return ReplyEnvelope("0", "", ({**row, **_REFUSED},))
        case Fate.OTHER_ECHO:
            return ReplyEnvelope("0", "", (other,))
        case Fate.TWO_ECHOES:
            return ReplyEnvelope("0", "", (other, row))
        case _:
            return None


class Network:
    """The network of one world."""

    def __init__(self, world: World) -> None:
        self._world = world

    def latency(self, process: Process) -> float:
        """Return how long one way takes this time."""
        draw = process.rng.random()
        slow = 8.0 if draw > 0.97 else 1.0
        return self._world.scenario.latency_s * (0.3 + draw) * slow

    def read_latency(self, process: Process) -> float:
        """Return how long one way of a read takes this time."""
        return self._slow(process, self._world.scenario.extras.read_round_trip_s)

    def write_latency(self, process: Process) -> float:
        """Return how long one way of a request takes this time, once its connection is open."""
        return self._slow(process, self._world.scenario.extras.write_round_trip_s)

    def _slow(self, process: Process, round_trip_s: float | None) -> float:
        usual = self.latency(process)
        return usual if round_trip_s is None else round_trip_s / 2 * process.rng.uniform(1.0, 1.1)

    def draw_fate(self, process: Process, family: Family) -> Fate:
        """Return the fate of the next request, which is for ``family``."""
        lasting = self._world.scenario.extras.lasting
        if lasting is not None and lasting.family == family and (lasting.for_ever or not self._world.calm):
            return lasting.fate
        left = process.rng.random()
        for fate, chance in () if self._world.calm else self._world.scenario.fates:
            left -= chance
            if left < 0:
                return fate
        return Fate.FINE

    def write(
        self, process: Process, request: SignedRequest, fate: Fate, wake: Callable[[Any], None]
    ) -> None:
        """Send a request's bytes on their way; ``wake`` is given the reply, sooner or later."""
        attempt = self._world.auditor.unsettled.get(process.name)
        if attempt is None or attempt.request is not request:
            attempt = None
        self._world.verify(checkers.one_transmission_per_reservation, attempt)
        self._world.verify(checkers.sent_once_durable, attempt)
        self._world.auditor.written(process, attempt)
        if self._world.scenario.lock_works:
            waiting = [
                other.name
                for other in self._world.processes.values()
                if other.account == process.account and self._was_written(other) and other.has_the_lock()
            ]
            self._world.verify(checkers.one_request_in_flight, waiting, process.name)
        if attempt is None:
            return
        attempt.written = True
        now = self._world.scheduler.now
        self._world.trace(process, "wrote attempt %d, %s", attempt.number, fate)
        self._world.scheduler.at(
            now + self._gives_up_after(process, fate), wake, self._result_without_reply(process, fate)
        )
        if fate is Fate.LOST:
            return
        attempt.lands_at = self._lands_at(process, attempt, fate)
        attempt.signed_for = float(request.timestamp)
        self._world.scheduler.at(
            attempt.lands_at, self._land, attempt, fate, self.write_latency(process), wake
        )

    def _was_written(self, process: Process) -> bool:
        attempt = self._world.auditor.unsettled.get(process.name)
        return attempt is not None and attempt.written

    def _gives_up_after(self, process: Process, fate: Fate) -> float:
        if fate in (Fate.LOST, Fate.LATE, Fate.REPLY_LOST):
            return process.rng.choice((0.05, process.rng.uniform(0.1, 9.0), ANSWER_WITHIN_S))
        return ANSWER_WITHIN_S

    def _result_without_reply(self, process: Process, fate: Fate) -> Reply:
        """Return the client's result without a reply; a gateway may have dropped a late request."""
        if fate is Fate.LATE and process.rng.random() < 0.5:
            return reply_of(process.rng.choice((HtmlPage(504), ReplyEnvelope("50004", "timeout", None))))
        return TIMEOUT

    def _lands_at(self, process: Process, attempt: Attempt, fate: Fate) -> float:
        now = self._world.scheduler.now
        if fate is not Fate.LATE:
            return now + self.write_latency(process)
        latest = attempt.reserved_at + LATEST_LANDING_S
        soon = now + process.rng.uniform(0.05, 12.0)
        still_valid = attempt.reserved_at + process.rng.uniform(15.0, checkers.VALID_S)
        return min(latest, process.rng.choice((soon, still_valid, latest)))

    def _land(self, attempt: Attempt, fate: Fate, back: float, wake: Callable[[Any], None]) -> None:
        attempt.landed = True
        now = self._world.scheduler.now
        self._world.stats.requests += 1
        self._world.truth.arrivals.append(now)
        self._world.verify(checkers.rate, self._world.truth.arrivals)
        reply = self._answer(attempt, fate)
        self._world.trace(None, "attempt %d landed: %s", attempt.number, reply.code)
        if fate in (Fate.LATE, Fate.REPLY_LOST):
            return
        if fate is Fate.SLOW:
            back += 1.5 * ANSWER_WITHIN_S * self._world.rng.random()
        self._world.scheduler.after(back, wake, reply)

    def _answer(self, attempt: Attempt, fate: Fate) -> Reply:
        world, wanted = self._world, wire(attempt.setting)
        if not self._signature_is_valid(attempt):
            return reply_of(ReplyEnvelope("50102", "Timestamp request expired.", None))
        if fate in _EXCHANGE_FAULTS and not world.is_out:
            world.exchange.inject(ScriptedFault(Endpoint.SET, _EXCHANGE_FAULTS[fate]))
        now = world.scheduler.now
        reply: ReplyBody = world.exchange.set_mmp(world.key_id, attempt.family, wanted, now).reply
        self.note_in_force(attempt.family, own=True, by=attempt)
        self._world.auditor.check_effect(attempt)
        instead = None if world.is_out else _reply_in_place(fate, attempt)
        return set_reply_of(reply if instead is None else instead, attempt.family, attempt.setting)

    def may_take_effect(self, attempt: Attempt) -> bool:
        """Tell whether a request of mmp is on its way that the exchange will accept."""
        on_its_way = attempt.lands_at is not None and not attempt.landed
        return on_its_way and self._signature_is_valid(attempt)

    def _signature_is_valid(self, attempt: Attempt) -> bool:
        landed_at = attempt.lands_at or 0.0
        return abs(landed_at - attempt.signed_for) <= checkers.VALID_S

    def note_in_force(self, family: Family, *, own: bool, by: Attempt | None = None) -> None:
        """Record a family's present setting; ``own``: a request of mmp may have changed it, ``by``."""
        found = self._world.exchange.settings(self._world.uid).get(family)
        setting = None if found is None else _from_wire(found)
        self._world.truth.put_in_force(self._world.scheduler.now, family, setting, own=own, by=by)


@cache
def wire(setting: Setting) -> MmpSetting:
    """Return a setting of this world as the exchange takes it."""
    quantity = setting.qty_limit.text
    return MmpSetting(str(setting.time_interval_ms), str(setting.frozen_interval_ms), quantity)


@cache
def _from_wire(found: MmpSetting) -> Setting:
    """Return the setting that the exchange has, as a setting of this world."""
    return Setting(int(found.time_interval), int(found.frozen_interval), Quantity(found.qty_limit))
