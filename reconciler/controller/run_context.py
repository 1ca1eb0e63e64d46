"""What the accounts of a ``run`` share: its options, the state, the shutdown and the exchange's clock."""

from __future__ import annotations

from dataclasses import dataclass, field

from reconciler.controller.family_claims import FamilyClaims
from reconciler.controller.pass_limiter import PassLimiter
from reconciler.controller.shutdown import GracefulShutdown
from reconciler.core.drift_resolution import DriftPolicy
from reconciler.core.missing_policy import GivenUp
from reconciler.okx.exchange_clock import ExchangeClock
from reconciler.okx.wire import BaseUrl
from reconciler.ports import StateBackend
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


@dataclass(frozen=True, slots=True)
class RunContext:
    """What all accounts of a ``run`` use together."""

    options: RunOptions
    state: StateBackend
    stop: GracefulShutdown
    exchange_clock: ExchangeClock = field(default_factory=ExchangeClock)
    claims: FamilyClaims = field(default_factory=FamilyClaims)
    limiter: PassLimiter = field(default_factory=PassLimiter)
