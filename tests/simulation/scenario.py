"""What one seed draws: how large the world is, how it behaves, and which troubles it knows.

Each trouble is switched on or off per seed and then given a strength: histories with few kinds of
trouble reach further than histories in which everything fails a little.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from random import Random

from reconciler.core.model import Family, Quantity, Setting, parse_family
from reconciler.core.plan import DriftPolicy
from reconciler.simulator.options import NumberForm, RateMode

ALL_FAMILIES = tuple(
    parse_family(text) for text in ("BTC-USD", "BTC-USD_UM", "ETH-USD", "SOL-USD_UM", "XAU-USD_UM")
)
UNKNOWN_FAMILY = parse_family("DOGE-USD")
"""A family the file may name and the exchange does not have: refused, parked, never in sync."""

SETTINGS = (
    Setting(5000, 2000, Quantity("100")),
    Setting(5000, 2000, Quantity("400")),
    Setting(1000, 0, Quantity("50.0")),
    Setting(8000, 5000, Quantity("100")),
)
DISABLED = Setting(0, 2000, Quantity("100"))

FIGHTERS_SETTING = Setting(1000, 1000, Quantity("9999"))
"""What somebody who fights sets a family to: looser in every respect than whatever is wanted."""

READ_DELAYS_S = (0.0, 0.0, 0.4, 2.0, 4.5)
"""How long a read may show the time before a write [unknown]. The program believes no difference for
5 s after a write, so the world stays below that."""


class Role(StrEnum):
    """What a process runs."""

    APPLY = "apply"
    RUN = "run"


class Fate(StrEnum):
    """What becomes of one Set MMP request on its way out and back."""

    FINE = "fine"
    NOT_WRITTEN = "not-written"
    LOST = "lost"
    REPLY_LOST = "reply-lost"
    LATE = "late"
    SLOW = "slow"
    PAGE = "page"
    PAGE_AFTER = "page-after"
    TRUNCATED = "truncated"
    WRONG_ECHO = "wrong-echo"
    WRONG_ECHO_BEFORE = "wrong-echo-before"
    TIMEOUT_CODE = "50004"
    TIMEOUT_CODE_AFTER = "50004-applied"
    SYSTEM_ERROR = "50026"
    BUSY = "50013"
    UNAVAILABLE = "50009"


Version = Mapping[Family, Setting]


@dataclass(frozen=True, slots=True)
class Scenario:
    """One seed's draw. Chances are per request or port call; times in true seconds."""

    seed: int
    families: tuple[Family, ...]
    accounts: int
    hosts: int
    roles: tuple[Role, ...]
    versions: tuple[tuple[float, Version], ...]
    trouble_s: float
    fates: tuple[tuple[Fate, float], ...]
    read_trouble: float
    open_trouble: float
    kill_chance: float
    pause_chance: float
    latency_s: float
    kills_at: tuple[float, ...]
    reboots_at: tuple[float, ...]
    stops_at: tuple[float, ...]
    drifts_at: tuple[float, ...]
    freezes_at: tuple[float, ...]
    outages: tuple[tuple[float, float], ...]
    key_troubles: tuple[tuple[float, float], ...]
    wall_steps_at: tuple[float, ...]
    clock_jumps_at: tuple[float, ...]
    foreign_at: tuple[float, ...]
    foreign_mode: RateMode
    read_delay_s: float
    list_disabled: bool
    numbers: NumberForm
    count_refused: bool
    bad_clock: bool
    live: bool
    guarded: bool
    assume_idle: bool
    earlier_arrivals: bool
    lock_works: bool
    drift: DriftPolicy
    interval_s: float
    fighter_s: float | None = None
    """How often somebody sets the first family to something else; None: nobody does."""


def owner(scenario: Scenario, family: Family) -> str:
    """Return the account that manages a family: all of them are of one User ID."""
    if scenario.accounts == 1 or family not in scenario.families:
        return "desk-0"
    return f"desk-{scenario.families.index(family) % scenario.accounts}"


def draw(seed: int) -> Scenario:
    """Return the scenario of ``seed``."""
    rng = Random(f"scenario {seed}")
    trouble_s = rng.uniform(8.0, 45.0)
    families = ALL_FAMILIES[: rng.choice((1, 2, 2, 3, 3, 4, 5))]
    live = rng.random() > 0.15
    accounts = 2 if len(families) > 1 and rng.random() < 0.15 else 1
    assume_idle = rng.random() < 0.3

    def sometimes(chance: float, most: int = 3) -> tuple[float, ...]:
        if rng.random() >= chance:
            return ()
        return tuple(sorted(rng.uniform(0.0, trouble_s) for _ in range(rng.randint(1, most))))

    def periods(chance: float, longest: float) -> tuple[tuple[float, float], ...]:
        return tuple((at, at + rng.uniform(1.0, longest)) for at in sometimes(chance, 2))

    scenario = Scenario(
        seed=seed,
        families=families,
        accounts=accounts,
        hosts=2 if rng.random() < 0.15 else 1,
        roles=_roles(rng, accounts),
        versions=_versions(rng, families, accounts, trouble_s),
        trouble_s=trouble_s,
        fates=_fates(rng),
        read_trouble=rng.choice((0.0, 0.0, 0.05, 0.2)),
        open_trouble=rng.choice((0.0, 0.0, 0.05, 0.2)),
        kill_chance=rng.choice((0.0, 0.001, 0.004, 0.02)),
        pause_chance=rng.choice((0.0, 0.0, 0.003, 0.015)),
        latency_s=rng.choice((0.0005, 0.005, 0.03, 0.15)),
        kills_at=sometimes(0.5),
        reboots_at=sometimes(0.15, 2),
        stops_at=sometimes(0.2, 2),
        drifts_at=sometimes(0.4) if live else (),
        freezes_at=sometimes(0.3, 2) if live else (),
        outages=periods(0.15, 20.0),
        key_troubles=periods(0.07, 10.0),
        wall_steps_at=sometimes(0.3),
        clock_jumps_at=sometimes(0.1, 2),
        foreign_at=sometimes(0.2, 12),
        foreign_mode=rng.choice((RateMode.SLIDING, RateMode.SLIDING, RateMode.FIXED, RateMode.NO_BURST)),
        read_delay_s=rng.choice(READ_DELAYS_S),
        list_disabled=rng.random() < 0.5,
        numbers=rng.choice(tuple(NumberForm)),
        count_refused=rng.random() < 0.5,
        bad_clock=rng.random() < 0.1,
        live=live,
        guarded=rng.random() < 0.15,
        assume_idle=assume_idle,
        earlier_arrivals=not assume_idle and rng.random() < 0.4,
        lock_works=rng.random() > 0.04,
        drift=rng.choice(tuple(DriftPolicy)) if live else DriftPolicy.HEAL,
        interval_s=rng.choice((5.0, 15.0, 30.0)),
    )
    return _with_fighter(rng, scenario) if live and rng.random() < 0.06 else scenario


def _with_fighter(rng: Random, scenario: Scenario) -> Scenario:
    """Return the scenario with a fight that somebody takes up and that lasts long enough to be one."""
    if rng.random() < 0.6:  # little else happens
        scenario = replace(scenario, fates=(), kill_chance=0.0, kills_at=(), versions=scenario.versions[:1])
    return replace(
        scenario,
        fighter_s=rng.uniform(1.0, 6.0),
        roles=(Role.RUN,) * len(scenario.roles),
        drift=rng.choice((DriftPolicy.HEAL, DriftPolicy.HEAL_LOOSENED)),
        trouble_s=75.0,
        interval_s=5.0,
    )


def _roles(rng: Random, accounts: int) -> tuple[Role, ...]:
    count = max(accounts, rng.choice((1, 1, 1, 2, 2, 3)))
    return tuple(rng.choice(tuple(Role)) for _ in range(count))


def _versions(
    rng: Random, families: tuple[Family, ...], accounts: int, trouble_s: float
) -> tuple[tuple[float, Version], ...]:
    """Return the files of this history, oldest first; the last one names every family again."""
    pool = (*SETTINGS, DISABLED) if rng.random() < 0.4 else SETTINGS[: rng.choice((2, 3, 4))]
    unknown = {UNKNOWN_FAMILY: SETTINGS[0]} if rng.random() < 0.08 and accounts == 1 else {}
    first: Version = {family: rng.choice(pool) for family in families} | unknown
    found: list[tuple[float, Version]] = [(0.0, first)]
    at = rng.uniform(0.5, trouble_s / 2)
    for _ in range(rng.choice((0, 1, 2, 4))):
        before = found[-1][1]
        if len(found) > 1 and rng.random() < 0.5:
            found.append((at, found[-2][1]))
        else:
            found.append(
                (at, {f: rng.choice(pool) if rng.random() < 0.7 else s for f, s in before.items()})
            )
        at += rng.choice((rng.uniform(0.2, 4.0), rng.uniform(4.0, 12.0), rng.uniform(1.0, 30.0)))
    return tuple((when, version) for when, version in found if when < trouble_s)


def _fates(rng: Random) -> tuple[tuple[Fate, float], ...]:
    """Return what happens to requests and how likely each is, beside being fine."""
    if rng.random() < 0.15:
        return ()
    if rng.random() < 0.2:
        return ((Fate.LATE, 0.5),)
    known = [fate for fate in Fate if fate is not Fate.FINE]
    some = rng.sample(known, rng.randint(0, 3))
    some += [fate for fate in (Fate.LATE, Fate.REPLY_LOST) if fate not in some and rng.random() < 0.3]
    return tuple((fate, rng.choice((0.1, 0.25, 0.5)) / (1 + len(some) / 3)) for fate in some)
