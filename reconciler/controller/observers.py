"""Whoever looks at a ``run`` from outside: events fold into vitals once, and all onlookers get them.

An onlooker is handed values and cannot hold up a loop: each has a thread of its own for what takes long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from reconciler.core.monitoring.runtime import AccountRuntime, FileState, apply_event, initial
from reconciler.core.monitoring.unloaded_files import NONE, UnloadedFiles, with_event

if TYPE_CHECKING:
    from reconciler.controller.account_worker import AccountWorker, RunOptions
    from reconciler.core.events import Event
    from reconciler.core.replica_assignment import LeaseName
    from reconciler.ports import Clock
    from reconciler.web.latest_state import ReplicaStatus


class AccountObserver(Protocol):
    """One who follows every account of this process."""

    def start(self) -> None:
        """Begin; call it in the loops' event loop. Raises MmpError if it cannot be."""
        ...

    def stop(self) -> None:
        """End, within a bounded time."""
        ...

    def keep(self, keeper: AccountWorker, vitals: AccountRuntime) -> None:
        """Take it that an account is kept from now on."""
        ...

    def drop(self, keeper: AccountWorker) -> None:
        """Take it that another process keeps an account from now on."""
        ...

    def share(self, together: ReplicaStatus) -> None:
        """Take how the accounts are shared out with other processes now."""
        ...

    def widen(self, keeps: frozenset[LeaseName]) -> None:
        """Take for which accounts there are settings by now, of those that are shared out."""
        ...

    def miss(self, unkept: UnloadedFiles, event: Event) -> None:
        """Take by which settings no account is kept since ``event``."""
        ...

    def hear(self, event: Event, keeper: AccountWorker, vitals: AccountRuntime) -> None:
        """Take what happened to an account, and what it is like since."""
        ...

    def hear_of_none(self, event: Event) -> None:
        """Take what happened to no account."""
        ...


class AccountObservers:
    """All who look; none where nobody asked to."""

    def __init__(self, standing: RunOptions, clock: Clock) -> None:
        self._clock = clock
        self._all = _onlookers(standing, clock)
        self._vitals: dict[str, AccountRuntime] = {}
        self._unkept = NONE

    def start(self) -> None:
        """Let them look from now on. Raises MmpError where one of them cannot."""
        for one in self._all:
            one.start()

    def stop(self) -> None:
        """Send them away; waits a bounded time."""
        for one in self._all:
            one.stop()

    def keep(self, keeper: AccountWorker) -> None:
        """Show an account from now on."""
        policy = keeper.policy.policy
        self._vitals[keeper.name] = initial(
            keeper.desired,
            host=keeper.standing.base.host,
            simulator=keeper.standing.base.is_simulator,
            live=keeper.standing.live,
            now=self._clock.now(),
            policy=FileState(policy.path, policy.sha256, self._clock.wall()) if policy else None,
        )
        for one in self._all:
            one.keep(keeper, self._vitals[keeper.name])

    def drop(self, keeper: AccountWorker) -> None:
        """Show an account no more: another process keeps it."""
        if self._vitals.pop(keeper.name, None) is not None:
            for one in self._all:
                one.drop(keeper)

    def vitals(self, keeper: AccountWorker) -> AccountRuntime | None:
        """Return what an account is like; None while it does not run here."""
        return self._vitals.get(keeper.name)

    def share(self, together: ReplicaStatus) -> None:
        """Show how the accounts are shared out now."""
        for one in self._all:
            one.share(together)

    def widen(self, keeps: frozenset[LeaseName]) -> None:
        """Show for which accounts there are settings by now."""
        for one in self._all:
            one.widen(keeps)

    def hear(self, event: Event, keeper: AccountWorker | None) -> None:
        """Show what happened, to one account or to none."""
        self._miss(event)
        if keeper is None:
            for one in self._all:
                one.hear_of_none(event)
        elif keeper.name in self._vitals:
            vitals = apply_event(
                self._vitals[keeper.name], event, now=self._clock.now(), wall=self._clock.wall()
            )
            self._vitals[keeper.name] = vitals
            for one in self._all:
                one.hear(event, keeper, vitals)

    def _miss(self, event: Event) -> None:
        """Show by which settings no account is kept, where that changes."""
        unkept = with_event(self._unkept, event, wall=self._clock.wall())
        if unkept != self._unkept:
            self._unkept = unkept
            for one in self._all:
                one.miss(unkept, event)


def _onlookers(standing: RunOptions, clock: Clock) -> list[AccountObserver]:
    """Return who was asked for; what they need is imported only then."""
    found: list[AccountObserver] = []
    if standing.listen is not None:
        from reconciler.web.observer import HttpObserver

        found.append(HttpObserver(standing.listen, clock))
    if standing.notify:
        from reconciler.notify.observer import WebhookObserver

        found.append(WebhookObserver(standing.notify, standing.base, clock))
    return found
