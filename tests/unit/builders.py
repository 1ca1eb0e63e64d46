"""Short words for the values of the core: a builder gives defaults, a test says what it is about."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.core.live_evidence import Reads
from reconciler.core.model import (
    Confirmed,
    Desired,
    DesiredFamily,
    Environment,
    Family,
    FilePosition,
    Known,
    LiveRead,
    LiveRow,
    OpenAttempt,
    Quantity,
    Setting,
)
from reconciler.core.plan import Plan, PlanConstraints
from reconciler.core.planning import make_plan

BTC = Family("BTC-USD")
ETH = Family("ETH-USD")
SOL = Family("SOL-USD_UM")

NOW = 1000.0


def setting(text: str) -> Setting:
    """Return the setting written as ``window/freeze/quantity``, both intervals in ms."""
    window, freeze, quantity = text.split("/")
    return Setting(int(window), int(freeze), Quantity(quantity))


def desired(
    families: Mapping[Family, Setting],
    *,
    account: str = "main",
    environment: Environment = Environment.LIVE,
    expected_uid: str | None = None,
) -> Desired:
    """Return an accepted file wanting ``families``, each on a line of its own from line 6."""
    return Desired(
        account=account,
        environment=environment,
        families={
            family: DesiredFamily(wanted, FilePosition("mmp.yaml", line, 3))
            for line, (family, wanted) in enumerate(families.items(), 6)
        },
        path="mmp.yaml",
        sha256="0" * 64,
        expected_uid=expected_uid,
    )


def row(text: str, *, frozen: bool = False) -> LiveRow:
    """Return the live row of the setting written as ``text``."""
    return LiveRow(setting(text), frozen=frozen)


def read(begun_at: float, rows: Mapping[Family, LiveRow]) -> LiveRead:
    """Return a live read begun at ``begun_at`` that showed ``rows`` and nothing else."""
    return LiveRead(begun_at, dict(rows))


def confirmed(
    text: str, *, at: float = 900.0, attempt: int = 1, lands_until: float = float("-inf")
) -> Confirmed:
    """Return a proof that the setting written as ``text`` was in force."""
    return Confirmed(setting(text), at, attempt, lands_until)


def unresolved(
    text: str, *, attempt: int = 5, reserved_at: float = 901.0, effect_until: float = 2000.0
) -> OpenAttempt:
    """Return an attempt at the setting written as ``text`` that nobody knows the end of."""
    return OpenAttempt(attempt, setting(text), reserved_at, effect_until)


def plan_of(
    wanted: Mapping[Family, Setting],
    known: Mapping[Family, Known] | None = None,
    reads: Reads | None = None,
    rules: PlanConstraints | None = None,
    *,
    now: float = NOW,
) -> Plan:
    """Return the plan for ``wanted``; nothing is known and nothing was read unless said."""
    return make_plan(desired(wanted), known or {}, reads or Reads(), rules or PlanConstraints(), now)
