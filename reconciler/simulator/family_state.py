"""One family of one account: its past and present settings, and its freeze.

A read may lag behind the writes [unknown], so past settings are stored with the instants from which they
were in force. All instants are the exchange's, in seconds.
"""

from __future__ import annotations

import math

from reconciler.simulator.request_parsing import MmpSetting

MAX_READ_DELAY_S = 3600.0
"""Settings replaced longer ago than this are removed: no read lags that far."""


class SimulatedFamily:
    """The mutable state of one family; None means it was never configured, or that it was removed."""

    __slots__ = ("_frozen_until", "_states")

    def __init__(self, setting: MmpSetting | None = None) -> None:
        self._states: list[tuple[float, MmpSetting | None]] = [(-math.inf, setting)]
        self._frozen_until = -math.inf

    @property
    def in_force(self) -> MmpSetting | None:
        """The setting in force now."""
        return self._states[-1][1]

    def change(self, setting: MmpSetting | None, at: float) -> None:
        """Put ``setting`` in force from ``at`` on; ``at`` never decreases."""
        self._states.append((at, setting))
        while len(self._states) > 1 and self._states[1][0] < at - MAX_READ_DELAY_S:
            del self._states[0]

    def seen(self, at: float) -> MmpSetting | None:
        """Return the setting that was in force at ``at``."""
        return next((setting for since, setting in reversed(self._states) if since <= at), None)

    def freeze(self, until: float) -> None:
        """Freeze until ``until``; infinity: until reset."""
        self._frozen_until = until

    def unfreeze(self) -> None:
        """End the freeze, as Reset MMP Status does."""
        self._frozen_until = -math.inf

    def frozen_until(self, at: float) -> float | None:
        """Return when the freeze in force at ``at`` ends (infinity: at a reset), None when not frozen."""
        return self._frozen_until if self._frozen_until > at else None
