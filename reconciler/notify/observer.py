"""How ``run --notify`` is wired: vitals become notices, notices go to webhooks.

The loops' thread decides what is told; the notifier's thread does the talking.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reconciler import logs
from reconciler.controller.account_worker import AccountWorker
from reconciler.core.events import Event
from reconciler.core.monitoring.runtime import AccountRuntime
from reconciler.core.monitoring.unloaded_files import NONE, UnloadedFiles
from reconciler.core.replica_assignment import LeaseName
from reconciler.notify.account_notifier import TRIGGERS, AccountNotifier, FileNotifier, PolicyDeduper
from reconciler.notify.target import Target
from reconciler.notify.webhook_sender import WebhookSender
from reconciler.okx.hints import hint_for
from reconciler.okx.wire import BaseUrl
from reconciler.ports import Clock
from reconciler.web.latest_state import ReplicaStatus


class WebhookObserver:
    """Whoever is to be told, by webhook."""

    def __init__(self, targets: Sequence[Target], base: BaseUrl, clock: Clock) -> None:
        self._clock = clock
        self._notifier = WebhookSender(targets, _say)
        self._tellers: dict[str, AccountNotifier] = {}
        self._policies = PolicyDeduper()
        self._unkept = NONE
        self._files = FileNotifier(self._notifier.post, host=base.host, simulator=base.is_simulator)
        for target in targets:
            logs.log("info", "notifying", to=target.shown)

    def start(self) -> None:
        """Begin to deliver, in a thread of its own."""
        self._notifier.start()

    def stop(self) -> None:
        """Deliver what is left, for a bounded time."""
        self._notifier.stop()

    def keep(self, keeper: AccountWorker, vitals: AccountRuntime) -> None:
        """Begin to tell of an account."""
        del vitals  # as it begins there is nothing to tell
        interval_s = keeper.standing.interval_s
        self._tellers[keeper.name] = AccountNotifier(
            self._notifier.post, hint_for, interval_s=interval_s, policies=self._policies
        )

    def drop(self, keeper: AccountWorker) -> None:
        """Tell no more of an account: another process does."""
        self._tellers.pop(keeper.name, None)

    def share(self, together: ReplicaStatus) -> None:
        """Tell nothing: who keeps what is on the page."""

    def widen(self, keeps: frozenset[LeaseName]) -> None:
        """Tell nothing, for the same reason."""

    def hear(self, event: Event, keeper: AccountWorker, vitals: AccountRuntime) -> None:
        """Tell what an account has turned to by ``event``."""
        now, wall = self._clock.now(), self._clock.wall()
        self._tellers[keeper.name].on_event(event, vitals, now=now, wall=wall)
        if isinstance(event, TRIGGERS):
            self._hear_of_files(event)

    def miss(self, unkept: UnloadedFiles, event: Event) -> None:
        """Tell of files by which no account is kept."""
        self._unkept = unkept
        self._hear_of_files(event)

    def hear_of_none(self, event: Event) -> None:
        """Take it that a policy turned; what else happened to no account is in the log."""
        self._policies.on_event(event)

    def _hear_of_files(self, event: Event) -> None:
        """Go on with the stories of files; what came and went too often is told as time goes by."""
        self._files.on_event(self._unkept, event, now=self._clock.now(), wall=self._clock.wall())


def _say(level: str, event: str, values: Mapping[str, object]) -> None:
    logs.log(level, event, **values)
