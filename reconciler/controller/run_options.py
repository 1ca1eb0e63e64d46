"""The options of ``run``, valid until it stops."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.core.missing_policy import GivenUp
from reconciler.core.target import DriftPolicy
from reconciler.okx.wire import BaseUrl
from reconciler.store.location import StateLocation


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What the command line of ``run`` asks for. ``config`` are the files and folders to watch."""

    config: tuple[str, ...]
    policy_file: str | None
    state: StateLocation
    base: BaseUrl
    lock_timeout_s: float
    interval_s: float
    drift: DriftPolicy
    assume_idle: bool
    live: bool
    given_up: GivenUp | None = None
