"""A small world that the guard has to get through: events of one family, 40 s apart, then calm.

Where a reply was lost, the next events come after 4 s. Loop, pass, planner, store and renderings are the
real ones; time and the exchange are not. Everything that the exchange sees goes to the oracle.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from fractions import Fraction
from typing import Any, TypeVar

from reconciler.controller.loop import Loop
from reconciler.controller.pass_values import Approval, PassOptions
from reconciler.controller.reconcile import reconcile
from reconciler.core.drift_resolution import DriftPolicy
from reconciler.core.events import Event, Planned
from reconciler.core.live_evidence import Reads
from reconciler.core.model import (
    Desired,
    Environment,
    ExchangeKind,
    Family,
    Field,
    LiveRead,
    LiveRow,
    Setting,
)
from reconciler.core.plan import Doubts, HoldReason, Plan, PlanConstraints
from reconciler.core.planning import make_plan
from reconciler.core.policy import Bound, Loosening, Override, Policy, PolicyInForce
from reconciler.core.policy import RefusalKind as RefusalKind
from reconciler.core.reply import Reply, ReplyClass
from reconciler.core.reservation import SignedRequest
from reconciler.documents.plan import PlanContext
from reconciler.errors import StateLocked
from reconciler.ports import Connection
from reconciler.render.plan_markdown import plans_markdown
from reconciler.render.plan_text import plan_text
from reconciler.store.account_store import SqlAccountStore
from reconciler.store.engine import StateOptions
from tests.support.memory_state import MemoryDisk
from tests.unit.builders import BTC, desired, setting
from tests.unit.policy_oracle import Limits, Model, S, rises
from tests.unit.test_loop import Clock, Exchange, Wire

GAP_S = 40.0
CALM_S = 80.0
CALM_AFTER_LOST_S = 120.0

SOON_S = 4.0
"""Between two events where a reply was lost just before: nothing is certain yet."""

FIRST = S(2000, 5000, 100)
HOST = "openapi.okx.com"
UID = "446556540"

T = TypeVar("T")


class Killed(BaseException):
    """The process died."""


def to_setting(one: S) -> Setting:
    return setting(f"{one.window}/{one.freeze}/{one.quantity}")


def of_setting(one: Setting) -> S:
    return S(one.time_interval_ms, one.frozen_interval_ms, int(one.qty_limit.value))


def of_live(live: dict[Family, LiveRow]) -> S | None:
    return of_setting(live[BTC].setting) if BTC in live else None


def file_of(one: S) -> Desired:
    sha256 = hashlib.sha256(repr(one).encode()).hexdigest()
    return replace(desired({BTC: to_setting(one)}), sha256=sha256)


def policy_of(limits: Limits) -> PolicyInForce:
    factor = limits.max_factor
    most = None if factor is None else Decimal(factor.numerator) / Decimal(factor.denominator)
    bounds = {
        Field.QTY_LIMIT: Bound(maximum=Decimal(limits.largest)),
        Field.TIME_INTERVAL: Bound(minimum=Decimal(limits.shortest)),
    }
    sha256 = hashlib.sha256(repr(replace(limits, readable=True)).encode()).hexdigest()
    policy = Policy("mmp-policy.yaml", sha256, default=bounds, loosening=Loosening(max_factor=most))
    return PolicyInForce(policy, unreadable=not limits.readable)


def driven(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that waits for virtual time alone."""
    while True:
        try:
            work.send(None)
        except StopIteration as done:
            answer: T = done.value
            return answer


# -- renderings --------------------------------------------------------------------------------------------

CLAIM = re.compile(r"(Nothing|No setting) (gets|is known to get) looser|No (setting )?changes")


@dataclass
class Renderings:
    """Which sentence of a rendering claims that nothing gets looser; the same plan is rendered once."""

    seen: dict[object, str] = field(default_factory=dict)

    def claim(self, plan: Plan, policy: Policy | None) -> str:
        changes = tuple((each, each.accepts, each.is_live) for each in plan.changes)
        under = policy.sha256 if policy else ""
        key = changes, plan.unchanged, plan.refusals, plan.left_tighter, plan.basis, under
        if key not in self.seen:
            context = PlanContext("openapi.okx.com", "mmp.yaml", "0" * 64)
            text = plan_text(plan, context, simulator=False) + plans_markdown([(plan, context)])
            found = CLAIM.search(text)
            self.seen[key] = found.group() if found else ""
        return self.seen[key]


RENDERINGS = Renderings()


# -- the exchange ------------------------------------------------------------------------------------------


class GuardWire(Wire):
    """A connection on which the next request may get lost."""

    exchange: GuardExchange

    async def send(self, request: SignedRequest, *, deadline: float) -> Reply:
        exchange = self.exchange
        fate, exchange.fate = exchange.fate, ""
        sent, clock, model = of_setting(request.setting), exchange.clock, exchange.model
        exchange.sent.append((clock.now(), request.family, request.setting))
        model.is_sent(clock.now(), sent, by_run=not exchange.applying)
        clock.pass_by(exchange.latency_s)
        if fate:
            model.is_unanswered(clock.now(), sent)
        match fate:
            case "late":
                clock.at(clock.now() + 20.0, lambda: exchange.set_live(request.setting))
            case "before":
                pass
            case _:
                exchange.set_live(request.setting)
        if fate == "killed":
            raise Killed
        if fate:
            return Reply(ReplyClass.NO_ANSWER, "timeout", "no reply")
        model.is_answered()
        return Reply(ReplyClass.ACCEPTED, "0", "", ((request.family, request.setting),))


@dataclass
class GuardExchange(Exchange):
    """An exchange that shows the oracle each read, each request and each change of what is in force.

    ``fate`` is what becomes of the next request: "" is acknowledged, "after" loses the reply, "before" the
    request, "late" lets it take effect after 20 s, "killed" ends the process after it took effect.
    """

    model: Model = field(kw_only=True)
    fate: str = ""
    applying: bool = False

    async def read_live(self) -> LiveRead | Reply:
        read = await super().read_live()
        self.model.is_read(self.clock.now())
        return read

    async def read_family(self, family: Family) -> LiveRead | Reply:
        read = await super().read_family(family)
        self.model.is_read(self.clock.now())
        return read

    async def open(self) -> Connection | Reply:
        self._ask("connect")
        return GuardWire(self)

    def set_live(self, live: Setting | None) -> None:
        if live is None:
            self.live.pop(BTC, None)
        else:
            self.live[BTC] = LiveRow(live)
        self.model.becomes_live(self.clock.now(), of_live(self.live))


# -- the world ---------------------------------------------------------------------------------------------


@dataclass
class World:
    """One sequence of events and all that happens in it; ``found`` are the violations."""

    events: Sequence[str]
    mode: DriftPolicy = DriftPolicy.HEAL_LOOSENED
    clock: Clock = field(default_factory=Clock)
    limits: Limits = field(default_factory=Limits)
    stopped: bool = False
    over: bool = False
    done: int = 0
    gap_s: float = GAP_S
    log: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.disk = MemoryDisk()
        self.eye = self.process()
        self.model = Model(FIRST, self.mode.value, self.recorded, accepted=[FIRST], live=FIRST)
        self.exchange = GuardExchange(self.clock, {BTC: LiveRow(to_setting(FIRST))}, model=self.model)
        self.files = [FIRST]
        self.desired = file_of(FIRST)
        self.policy = policy_of(self.limits)

    @property
    def found(self) -> list[str]:
        return self.model.found

    def process(self) -> SqlAccountStore:
        state = self.disk.open(StateOptions(self.clock, "boot-1", lock_timeout_s=0.2))
        return state.account("main", Environment.LIVE, ExchangeKind.OKX)

    def recorded(self) -> list[S]:
        """Return the accepted settings that are on record, oldest first."""
        history = driven(self.eye.recorded_inputs()).accepted.get(BTC, ())
        return [of_setting(one.setting) for one in history]

    def play(self) -> list[str]:
        """Play the sequence; return the violations."""
        driven(self.eye.identify(UID, HOST))
        self.clock.at(self.clock.now() + 6.0, self.next_event)
        while not self.over:
            self.stopped = False
            self.run()
        self.model.is_settled(self.clock.now())
        self.disk.close()
        return self.found

    def next_event(self) -> None:
        """Let the next event happen, and plan the one after it; after the last one comes a calm."""
        now = self.clock.now()
        if self.gap_s == GAP_S:
            self.model.is_settled(now)
        name, before = self.events[self.done], self.events[self.done - 1 : self.done]
        try:
            EVENTS[name](self)
        except StateLocked:
            self.clock.at(now + 1.0, self.next_event)
            return
        self.done += 1
        self.log.append(f"{now - 1000:.0f} s {name}")
        self.look_at_plan()
        now = self.clock.now()
        if self.done < len(self.events):
            self.gap_s = SOON_S if LOST & {name, *before} else GAP_S
            self.clock.at(now + self.gap_s, self.next_event)
        else:
            self.clock.at(now + (CALM_AFTER_LOST_S if LOST & {*self.events} else CALM_S), self.end)

    def run(self) -> None:
        """Run one process until it is stopped or killed."""
        options = PassOptions(
            purpose="run",
            assume_idle=True,
            drift=self.mode,
            controller=True,
            heal_breaker=True,
            policy=lambda: self.policy,
        )
        loop = Loop(
            desired=lambda: self.desired,
            store=self.process(),
            exchange=self.exchange,
            clock=self.clock,
            observe=self.observe,
            host=HOST,
            options=options,
            stopping=lambda: self.stopped,
            max_start_delay_s=0.2,
        )
        try:
            driven(loop.run())
        except Killed:
            driven(self.clock.sleep_until(self.clock.now() + 2.0))

    def end(self) -> None:
        self.over = True
        self.stop()

    def stop(self) -> None:
        self.stopped = True
        self.clock.wake()

    # -- what people see -----------------------------------------------------------------------------------

    def observe(self, event: Event) -> None:
        if isinstance(event, Planned):
            self.look_at(event.plan, self.model.live, self.model.read)

    def look_at_plan(self) -> None:
        """Look at what ``mmp plan`` shows at this moment."""
        read_inputs = driven(self.eye.recorded_inputs())
        read = LiveRead(self.clock.now(), dict(self.exchange.live))
        rules = PlanConstraints(
            policy=self.policy.policy,
            policy_unreadable=self.policy.unreadable,
            accepted=read_inputs.accepted,
            wall=self.clock.wall(),
            doubts=Doubts.HOLD,
        )
        reads = Reads(read, display=True)
        plan = make_plan(self.desired, read_inputs.known, reads, rules, self.clock.now())
        self.look_at(plan, self.model.live)

    def look_at(self, plan: Plan, *live: S | None) -> None:
        """Check invariant (d) of a plan, in text and Markdown.

        ``live`` is what is in force, and what was last read: a request that takes effect late changes the
        one, and nobody can know it before the next read.
        """
        claim = RENDERINGS.claim(plan, self.policy.policy)
        if not claim or self.model.is_unread:
            return
        if self.model.file != self.model.now_accepted:
            self.model.look_at_record(self.clock.now())
        known = [each for each in plan.changes if each.because is not HoldReason.UNREADABLE]
        model, ends = self.model, {of_setting(each.after) for each in known}
        for end in ends if plan.changes else {model.file}:
            base = model.now_accepted if end.off else model.last_on
            if rises(base, end) or all(rises(one, end) for one in live):
                why = f"{claim!r}, but {model.now_accepted}, live {live[0]} -> {end}"
                model.fail("d", self.clock.now(), why)

    # -- apply ---------------------------------------------------------------------------------------------

    def apply(self, *, allow: bool) -> None:
        """Run ``apply`` as a process of its own; with an unreadable policy it ends with 4."""
        if not self.limits.readable:
            return
        kinds = RefusalKind if allow else ()
        options = PassOptions(
            assume_idle=True,
            policy=lambda: self.policy,
            allowed=frozenset(Override(kind, BTC) for kind in kinds),
            reason="tested" if allow else "",
        )
        model, store = self.model, self.process()
        driven(store.identify(UID, HOST))
        self.exchange.applying, model.allowed = True, allow
        work = reconcile(
            lambda: self.desired,
            store=store,
            exchange=self.exchange,
            clock=self.clock,
            observe=self.observe,
            options=options,
            review=self.review,
        )
        try:
            driven(work)
            model.look_at_record(self.clock.now())
        except Killed:
            self.log.append("apply was killed")
        finally:
            self.exchange.applying = model.allowed = False

    def review(self, plan: Plan) -> Approval | None:
        """Answer as the command does: a refusal vetoes everything."""
        model, now = self.model, self.clock.now()
        if now >= model.doubt_until and bool(plan.refusals) == model.step_passes():
            model.fail("apply", now, f"refusals {plan.refusals}, expected passes={model.step_passes()}")
        self.look_at(plan, model.live, model.read)
        return None if plan.refusals else Approval(now + 100.0)


# -- the events --------------------------------------------------------------------------------------------


def write(one: S) -> Callable[[World], None]:
    def event(here: World) -> None:
        if here.files[-1] != one:
            here.files.append(one)
        here.desired, here.model.file = file_of(one), one
        here.clock.wake()

    return event


def by_hand(change: Callable[[World, S], S | None]) -> Callable[[World], None]:
    def event(here: World) -> None:
        live = change(here, here.model.live or FIRST)
        here.exchange.set_live(None if live is None else to_setting(live))

    return event


def judge_by(**change: Any) -> Callable[[World], None]:
    def event(here: World) -> None:
        here.limits = here.model.limits = replace(here.limits, **change)
        here.policy = policy_of(here.limits)
        here.clock.wake()

    return event


def lose(fate: str) -> Callable[[World], None]:
    return lambda here: setattr(here.exchange, "fate", fate)


def previous(here: World, _: S) -> S:
    return here.files[-2] if len(here.files) > 1 else UP


UP = S(2000, 5000, 150)
FAR = S(2000, 5000, 300)

EVENTS: dict[str, Callable[[World], None]] = {
    "file: up": write(UP),
    "file: far": write(FAR),
    "file: down": write(S(2000, 5000, 50)),
    "file: freeze": write(S(2000, 4000, 100)),
    "file: mixed": write(S(4000, 5000, 140)),
    "file: off": write(S(0, 5000, 100)),
    "file: first": write(FIRST),
    "hand: open": by_hand(lambda _, live: live._replace(quantity=99_999)),
    "hand: tight": by_hand(lambda _, live: live._replace(quantity=1)),
    "hand: mixed": by_hand(lambda *_: S(1, 1, 49)),
    "hand: off": by_hand(lambda _, live: live._replace(window=0)),
    "hand: far": by_hand(lambda *_: FAR),
    "hand: previous": by_hand(previous),
    "hand: gone": by_hand(lambda *_: None),
    "policy: none": judge_by(max_factor=None),
    "policy: strict": judge_by(max_factor=Fraction(6, 5), largest=60),
    "policy: unreadable": judge_by(readable=False),
    "policy: back": judge_by(max_factor=Fraction(2), largest=1000, readable=True),
    "lost: reply": lose("after"),
    "lost: request": lose("before"),
    "lost: late": lose("late"),
    "killed": lose("killed"),
    "restart": lambda here: here.stop(),
    "apply": lambda here: here.apply(allow=False),
    "apply --allow": lambda here: here.apply(allow=True),
}

LOST = {"lost: reply", "lost: request", "lost: late", "killed"}
