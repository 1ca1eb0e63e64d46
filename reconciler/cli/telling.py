"""How ``run --notify`` is wired: events fold into vitals, vitals into notices, notices go to webhooks.

The loops' thread does the folding; the notifier's thread does the talking.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reconciler import logs
from reconciler.cli import doors
from reconciler.core.events import Event, Observe
from reconciler.core.vitals import Vitals, after
from reconciler.ports import Clock
from reconciler.sidecar.notifier import Notifier
from reconciler.sidecar.target import Target
from reconciler.sidecar.teller import Teller


class Telling:
    """Whoever is to be told, by webhook."""

    def __init__(self, targets: Sequence[Target], clock: Clock) -> None:
        self._clock = clock
        self._notifier = Notifier(targets, _say)
        for target in targets:
            logs.log("info", "notifying", to=target.shown)

    def start(self) -> None:
        """Begin to deliver, in a thread of its own."""
        self._notifier.start()

    def stop(self) -> None:
        """Deliver what is left, for a bounded time."""
        self._notifier.stop()

    def observer(self, begun: Vitals, *, interval_s: float) -> Observe:
        """Return what tells of one account, event by event."""
        teller = Teller(self._notifier.post, doors.advice, interval_s=interval_s)
        vitals = begun

        def observe(event: Event) -> None:
            nonlocal vitals
            now, wall = self._clock.now(), self._clock.wall()
            vitals = after(vitals, event, now=now, wall=wall)
            teller.hear(event, vitals, now=now, wall=wall)

        return observe


def _say(level: str, event: str, values: Mapping[str, object]) -> None:
    logs.log(level, event, **values)
