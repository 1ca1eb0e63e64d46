"""The long-running loop: passes, one after another, until someone stops it.

A pass starts when the file changed, when the interval is over, when a slot or a retry is due, or on a
nudge; nothing else is remembered than what a fresh pass may lose. The loop never ends because of the
exchange or of a state that cannot be reached, never spins, and never holds the lock while it waits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from reconciler.core.events import ExchangeFailed, LockAwaited, Observe, StateAwaited
from reconciler.core.model import Desired
from reconciler.core.verdict import Reply, ReplyClass
from reconciler.errors import AccountProblem, StateForeign, StateLocked, StateUnavailable
from reconciler.ports import Clock, Store, TradingExchange
from reconciler.reconcile import (
    Finished,
    Interrupted,
    Later,
    Memory,
    Options,
    PassResult,
    Stopped,
    TimedOut,
    Vetoed,
    back_off_s,
    identify,
    reconcile,
    retry_after_s,
    stop_for,
)

DEFAULT_INTERVAL_S = 30.0
"""Between two live reads when nothing else happens."""

STOPPED_RETRY_S = 60.0
"""After the account or key was refused: ask again whether someone has put it right."""

LOCKED_RETRY_S = 1.0
"""After the lock was not had within the lock timeout."""


@dataclass(frozen=True, slots=True)
class _Identified:
    """The key's account was checked against this ``expect.uid``; another one is checked anew."""

    expected_uid: str | None


@dataclass(slots=True)
class Loop:
    """One account's loop. Whose key it is, is asked again whenever the exchange objected to it."""

    desired: Callable[[], Desired]
    store: Store
    exchange: TradingExchange
    clock: Clock
    observe: Observe
    host: str
    options: Options
    interval_s: float = DEFAULT_INTERVAL_S
    stopping: Callable[[], bool] = lambda: False

    async def run(self) -> None:
        """Reconcile until asked to stop. Raises StateUnusable when the state cannot be relied on."""
        self.options = replace(self.options, patient=False)
        memory = Memory()
        identified: _Identified | None = None
        while not self.stopping():
            expected = _Identified(self.desired().expected_uid)
            try:
                if identified != expected:
                    wait_until = await self._identify(memory)
                    identified = expected if wait_until is None else None
                else:
                    wait_until, trusted = await self._one_pass(memory)
                    identified = expected if trusted else None
                memory.state_failures = 0
            except StateUnavailable as problem:
                wait_until = self._await_state(problem, memory)
            if wait_until is not None and not self.stopping():
                await self.clock.pause(wait_until)

    async def _identify(self, memory: Memory) -> float | None:
        """Learn whose key this is; None when it may be written with, else when to ask again."""
        try:
            answer = await identify(
                self.desired(),
                store=self.store,
                exchange=self.exchange,
                host=self.host,
                observe=self.observe,
            )
        except (AccountProblem, StateForeign) as problem:
            told = f"{problem.message}; {problem.hint}" if problem.hint else problem.message
            answer = Reply(ReplyClass.ACCOUNT, problem.code, told)
        if not isinstance(answer, Reply):
            memory.failures = 0
            return None
        stopped = stop_for(answer) is not None
        wait_s = STOPPED_RETRY_S if stopped else retry_after_s(answer, memory.failures)
        memory.failures += 1
        retry_at = self.clock.now() + wait_s
        self.observe(ExchangeFailed("asking whose key this is", answer, retry_at))
        return retry_at

    async def _one_pass(self, memory: Memory) -> tuple[float | None, bool]:
        """Run one pass. Returns when the next is due, and whether the key is still trusted."""
        try:
            result = await reconcile(
                self.desired,
                store=self.store,
                exchange=self.exchange,
                clock=self.clock,
                observe=self.observe,
                options=self.options,
                memory=memory,
                stopping=self.stopping,
            )
        except StateLocked as locked:
            self.observe(LockAwaited(locked.message))
            return self.clock.now() + LOCKED_RETRY_S, True
        return self._next_due(result), not isinstance(result.end, Stopped)

    def _await_state(self, problem: StateUnavailable, memory: Memory) -> float:
        """Tell that the state cannot be used now; returns when to try again."""
        retry_at = self.clock.now() + back_off_s(memory.state_failures)
        memory.state_failures += 1
        self.observe(StateAwaited(problem.code, problem.message, retry_at))
        return retry_at

    def _next_due(self, result: PassResult) -> float | None:
        interval_end = self.clock.now() + self.interval_s
        match result.end:
            case Later(until=until):
                return min(until, interval_end)
            case Stopped():
                return self.clock.now() + STOPPED_RETRY_S
            case Finished():
                return interval_end
            case Interrupted() | TimedOut() | Vetoed():
                return None
