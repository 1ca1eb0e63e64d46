"""What one seed draws: how large the world is, how it behaves, and which faults it has.

Each fault is switched on or off per seed and then given a strength: histories with few kinds of faults
reach further than histories in which everything fails a little.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from random import Random

from reconciler.core.drift_resolution import DriftPolicy
from reconciler.core.model import Family, Quantity, Setting, parse_family
from reconciler.simulator.behaviour_options import NumberForm, RateMode

ALL_FAMILIES = tuple(
    parse_family(text) for text in ("BTC-USD", "BTC-USD_UM", "ETH-USD", "SOL-USD_UM", "XAU-USD_UM")
)
UNKNOWN_FAMILY = parse_family("DOGE-USD")
"""A family the file may name and the exchange does not have: refused, rejected, never in sync."""

SETTINGS = (
    Setting(5000, 2000, Quantity("100")),
    Setting(5000, 2000, Quantity("400")),
    Setting(1000, 0, Quantity("50.0")),
    Setting(8000, 5000, Quantity("100")),
)
DISABLED = Setting(0, 2000, Quantity("100"))

FIGHTERS_SETTING = Setting(1000, 1000, Quantity("9999"))
"""What a competing writer sets a family to: looser in every field than any desired setting."""

READ_DELAYS_S = (0.0, 0.0, 0.4, 2.0, 4.5)
"""How long a read may show the time before a write [unknown]. The program accepts no difference for
5 s after a write, so the world stays below that.
"""


class Role(StrEnum):
    """What a process runs."""

    APPLY = "apply"
    RUN = "run"


class Fate(StrEnum):
    """The fate of one Set MMP request on its way out and back."""

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
    BUSY_AFTER = "50013-applied"
    UNKNOWN_CODE = "59999"
    CONTRACT = "51155"
    WRAPPED = "wrapped-51000"
    WRAPPED_AFTER = "wrapped-51000-applied"
    REFUSED_ROW = "row-51000"
    OTHER_ECHO = "other-family-echo"
    TWO_ECHOES = "two-echoes"


ODD_FATES = (
    Fate.BUSY_AFTER,
    Fate.UNKNOWN_CODE,
    Fate.CONTRACT,
    Fate.WRAPPED,
    Fate.WRAPPED_AFTER,
    Fate.REFUSED_ROW,
    Fate.OTHER_ECHO,
    Fate.TWO_ECHOES,
)
"""Replies that only some histories have; every history may have the others."""


REFUSING = (Fate.CONTRACT, Fate.WRAPPED, Fate.WRAPPED_AFTER)
"""Those after which the setting itself counts as refused."""


class Feature(StrEnum):
    """A kind of fault that a history may have besides the usual ones."""

    LASTING_FATE = "lasting-fate"
    """Every request of one family meets the same fate."""
    ODD_REPLIES = "odd-replies"
    SLOW = "slow"
    """Reads, writes or both take longer than 2 s, always."""
    LAGGING_FILES = "lagging-files"
    """Some processes see an older settings file than others."""
    EDITS_WHILE_OPENING = "edits-while-opening"
    """The file changes while a connection is opened."""
    POLICIES = "policies"
    """A policy appears, changes, and cannot be read for a while."""
    PAUSES = "pauses"
    """A person pauses families and resumes them later."""
    REVIEWS = "reviews"
    """``apply`` sends only what was reviewed; drift follows the review."""
    RENAMES = "renames"
    """The account gets another name in the file; its User ID stays."""
    SUSPENSION = "suspension"
    """Machines are suspended: their monotonic clocks stop, true time does not."""
    ODD_LISTS = "odd-lists"
    """Get MMP Config omits rows, or lists odd ones."""
    RAISING_OBSERVERS = "raising-observers"
    CANCELLATION = "cancellation"
    """Processes are cancelled at an await instead of killed."""
    FILE_FAILURE = "file-trouble"
    """The state file is busy, its disk full, or a write or a COMMIT fails; of SQLite worlds only."""
    DRIFT_IN_DOUBT = "drift-in-doubt"
    """Many requests are not answered, and live is changed from outside meanwhile."""
    TABLES_MADE_ANEW = "tables-made-anew"
    """The schema is dropped and recreated while processes run; in PostgreSQL worlds only."""


HUNTED_ONLY = {Feature.DRIFT_IN_DOUBT, Feature.TABLES_MADE_ANEW}
"""Features that no seed draws by itself: only hunts request them."""

FEATURES: set[Feature] = set(Feature)
"""Those that may be drawn; without them every seed is the history it was before there were any."""


class Check(StrEnum):
    """A checker that applies a rule of the newer program to every history."""

    READ_REASONS = "read-reasons"
    WRITTEN_SOON = "written-soon"
    SPACING = "spacing"
    FIELD_BY_FIELD = "field-by-field"
    PROTECTION_FIRST = "protection-first"
    ADOPTION = "adoption"
    NEWEST_FILE = "newest-file"


CHECKS: set[Check] = set(Check)
"""Those in use."""


class ListFault(StrEnum):
    """An error in a list of Get MMP Config."""

    MISSING_ROW = "missing-row"
    """A configured family is omitted; its own read shows it."""
    UNKNOWN_NAME = "unknown-name"
    """One row more, of a name that is no family's."""
    SIMILAR_NAME = "similar-name"
    """A family's row names it in another way of writing."""
    NAMELESS = "nameless"
    """A row without a name."""
    UNREADABLE = "unreadable"
    """A value of a family's row is invalid."""
    JSON_NUMBERS = "json-numbers"
    """Values are JSON numbers instead of texts."""


class ReviewBy(StrEnum):
    """How an ``apply`` was reviewed."""

    PLAN = "plan"
    """A plan was made before, and is applied."""
    ANSWER = "answer"
    """The first plan of the pass was shown and approved."""


class WorldKind(StrEnum):
    """The store of the state of a world."""

    SQLITE = "sqlite"
    POSTGRES = "postgres"


Version = Mapping[Family, Setting]


@dataclass(frozen=True, slots=True)
class DatabaseFaults:
    """Faults of the state server and of the network to it. Chances are per transaction or statement.

    ``failovers``: when, how much of the newest is lost, and how long the server is down. The server that
    takes over has a clock of its own, off by the last number. ``restarts``: when, and how long they take.
    """

    latency_s: float
    slow_statements: float
    connect_failure: float
    statement_failure: float
    commit_failure: float
    failovers: tuple[tuple[float, float, float, float], ...]
    restarts: tuple[tuple[float, float], ...]
    clock_steps: tuple[tuple[float, float], ...]
    clock_rate: float

    @property
    def quiet(self) -> bool:
        """Tell whether the server and the way to it never fail."""
        chances = self.connect_failure + self.statement_failure + self.commit_failure
        return not (chances or self.failovers or self.restarts or self.clock_steps)


@dataclass(frozen=True, slots=True)
class FileFaults:
    """What happens to the state file. ``busy``, ``full``: from when to when. Chances are per statement,
    COMMIT, or opening after a failure."""

    busy: tuple[tuple[float, float], ...]
    full: tuple[tuple[float, float], ...]
    statement_failure: float
    commit_failure: float
    open_failure: float


NO_FAILURES = DatabaseFaults(0.0005, 0.0, 0.0, 0.0, 0.0, (), (), (), 1.0)


@dataclass(frozen=True, slots=True)
class LastingFate:
    """The fate of every request of one family: until the faults end, or always."""

    family: Family
    fate: Fate
    for_ever: bool


@dataclass(frozen=True, slots=True)
class PolicyState:
    """The policy file for a while. ``max_factor`` and ``max_families`` None: no such limit."""

    max_factor: int | None = None
    max_families: int | None = None
    unreadable: bool = False


PERMISSIVE = PolicyState()
"""A policy that allows everything that these worlds do."""


@dataclass(frozen=True, slots=True)
class Extras:
    """The features of one history. Chances are per request, read or port call.

    ``measured``: nothing else fails, so how long the other families wait for a failing one is bounded.
    ``begin``: what is in force at the start, None: anything. ``lags_s``: by process, how late it sees a
    new file. ``policies``, ``pauses``, ``suspensions``: when, and what or for how long.
    """

    features: frozenset[Feature] = frozenset()
    measured: bool = False
    begin: Mapping[Family, Setting] | None = None
    lasting: LastingFate | None = None
    read_round_trip_s: float | None = None
    write_round_trip_s: float | None = None
    lags_s: tuple[float, ...] = ()
    edit_chance: float = 0.0
    policies: tuple[tuple[float, PolicyState], ...] = ()
    narrowed: bool = False
    """Whether ``apply`` is about one family only."""
    pauses: tuple[tuple[float, Family, float], ...] = ()
    review: ReviewBy | None = None
    renames_at: tuple[float, ...] = ()
    suspensions: tuple[tuple[float, float], ...] = ()
    list_faults: tuple[ListFault, ...] = ()
    list_fault_chance: float = 0.0
    list_family: Family | None = None
    list_faults_last: bool = False
    observer_raises: float = 0.0
    cancel_chance: float = 0.0
    file: FileFaults | None = None
    tables_made_anew_after_s: float | None = None
    """How long after the last process opened the state its tables are recreated; None: never."""


NO_EXTRAS = Extras()


@dataclass(frozen=True, slots=True)
class Scenario:
    """One seed's draw. Chances are per request or port call; times in true seconds."""

    seed: int
    families: tuple[Family, ...]
    accounts: int
    hosts: int
    roles: tuple[Role, ...]
    versions: tuple[tuple[float, Version], ...]
    failure_s: float
    fates: tuple[tuple[Fate, float], ...]
    read_failure: float
    open_failure: float
    kill_chance: float
    pause_chance: float
    latency_s: float
    kills_at: tuple[float, ...]
    reboots_at: tuple[float, ...]
    stops_at: tuple[float, ...]
    drifts_at: tuple[float, ...]
    freezes_at: tuple[float, ...]
    outages: tuple[tuple[float, float], ...]
    key_failures: tuple[tuple[float, float], ...]
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
    """How often another writer sets the first family to something else; None: never."""
    database: DatabaseFaults | None = None
    places: tuple[int, ...] = ()
    """Of each process, the number of its host; empty: one after the other."""
    extras: Extras = NO_EXTRAS


def owner(scenario: Scenario, family: Family) -> str:
    """Return the account that manages a family: all of them are of one User ID."""
    if scenario.accounts == 1 or family not in scenario.families:
        return "desk-0"
    return f"desk-{scenario.families.index(family) % scenario.accounts}"


def draw_usual(seed: int, kind: WorldKind = WorldKind.SQLITE) -> Scenario:
    """Return the scenario of ``seed`` without features; in PostgreSQL it is another one, on more hosts."""
    scenario = _draw(seed)
    return scenario if kind is WorldKind.SQLITE else _in_postgres(scenario)


def _in_postgres(scenario: Scenario) -> Scenario:
    """Return a scenario changed for a state in PostgreSQL: hosts, replicas, faults of a server."""
    rng = Random(f"postgres {scenario.seed}")
    several = len(scenario.families) > 1
    accounts = 2 if several and rng.random() < 0.45 else 1
    forgetful = rng.random() < 0.15  # a failover that forgets what still is on its way
    roles = tuple(rng.choice(tuple(Role)) for _ in range(max(accounts, rng.choice((1, 2, 2, 3, 3)))))
    hosts = rng.choice((2, 2, 3))
    return replace(
        scenario,
        accounts=accounts,
        roles=roles,
        hosts=hosts,
        places=tuple(rng.randrange(hosts) for _ in roles),
        versions=tuple((when, _owned(version, accounts)) for when, version in scenario.versions),
        kill_chance=rng.choice((0.0, 0.0, 0.0005, 0.002, 0.01)),
        pause_chance=rng.choice((0.0, 0.0, 0.001, 0.004)),
        lock_works=True,
        fates=((Fate.LATE, 0.5),) if forgetful else scenario.fates,
        database=_database_failures(rng, scenario.failure_s, forgetful=forgetful),
    )


def _owned(version: Version, accounts: int) -> Version:
    """Return a file without the family that the exchange does not have, where two accounts share it."""
    return {family: one for family, one in version.items() if accounts == 1 or family in ALL_FAMILIES}


def _database_failures(rng: Random, failure_s: float, *, forgetful: bool) -> DatabaseFaults:
    def times(chance: float, most: int) -> list[float]:
        if rng.random() >= chance:
            return []
        return sorted(rng.uniform(1.0, failure_s) for _ in range(rng.randint(1, most)))

    def lost_s(at: float) -> float:
        if forgetful:
            return at
        return rng.choice((0.0, 0.05, rng.uniform(0.05, 3.0), rng.uniform(3.0, 20.0), rng.uniform(0.0, at)))

    def down_s() -> float:
        return rng.choice((0.05, rng.uniform(0.1, 3.0), rng.uniform(3.0, 12.0)))

    def step_s() -> float:
        return rng.choice((-3600.0, -20.0, -3.0, 3.0, 20.0, 3600.0))

    return DatabaseFaults(
        latency_s=rng.choice((0.0005, 0.002, 0.01, 0.05)),
        slow_statements=rng.choice((0.0, 0.2, 1.0)),
        connect_failure=rng.choice((0.0, 0.0, 0.005, 0.02)),
        statement_failure=rng.choice((0.0, 0.0, 0.001, 0.005)),
        commit_failure=rng.choice((0.0, 0.0, 0.05, 0.2)),
        failovers=tuple(
            (at, lost_s(at), down_s(), step_s()) for at in times(1.0 if forgetful else 0.35, 2)
        ),
        restarts=tuple((at, down_s()) for at in times(0.2, 2)),
        clock_steps=tuple((at, step_s()) for at in times(0.25, 2)),
        clock_rate=1.0 + rng.choice((0.0, 0.0, rng.uniform(-0.02, 0.02))),
    )


def _draw(seed: int) -> Scenario:
    rng = Random(f"scenario {seed}")
    failure_s = rng.uniform(8.0, 45.0)
    families = ALL_FAMILIES[: rng.choice((1, 2, 2, 3, 3, 4, 5))]
    live = rng.random() > 0.15
    accounts = 2 if len(families) > 1 and rng.random() < 0.15 else 1
    assume_idle = rng.random() < 0.3

    def sometimes(chance: float, most: int = 3) -> tuple[float, ...]:
        if rng.random() >= chance:
            return ()
        return tuple(sorted(rng.uniform(0.0, failure_s) for _ in range(rng.randint(1, most))))

    def periods(chance: float, longest: float) -> tuple[tuple[float, float], ...]:
        return tuple((at, at + rng.uniform(1.0, longest)) for at in sometimes(chance, 2))

    scenario = Scenario(
        seed=seed,
        families=families,
        accounts=accounts,
        hosts=2 if rng.random() < 0.15 else 1,
        roles=_roles(rng, accounts),
        versions=_versions(rng, families, accounts, failure_s),
        failure_s=failure_s,
        fates=_fates(rng),
        read_failure=rng.choice((0.0, 0.0, 0.05, 0.2)),
        open_failure=rng.choice((0.0, 0.0, 0.05, 0.2)),
        kill_chance=rng.choice((0.0, 0.001, 0.004, 0.02)),
        pause_chance=rng.choice((0.0, 0.0, 0.003, 0.015)),
        latency_s=rng.choice((0.0005, 0.005, 0.03, 0.15)),
        kills_at=sometimes(0.5),
        reboots_at=sometimes(0.15, 2),
        stops_at=sometimes(0.2, 2),
        drifts_at=sometimes(0.4) if live else (),
        freezes_at=sometimes(0.3, 2) if live else (),
        outages=periods(0.15, 20.0),
        key_failures=periods(0.07, 10.0),
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
    """Return the scenario with another writer that keeps changing a family long enough to contest it."""
    if rng.random() < 0.6:  # little else happens
        scenario = replace(scenario, fates=(), kill_chance=0.0, kills_at=(), versions=scenario.versions[:1])
    return replace(
        scenario,
        fighter_s=rng.uniform(1.0, 6.0),
        roles=(Role.RUN,) * len(scenario.roles),
        drift=rng.choice((DriftPolicy.HEAL, DriftPolicy.HEAL_LOOSENED)),
        failure_s=75.0,
        interval_s=5.0,
    )


def _roles(rng: Random, accounts: int) -> tuple[Role, ...]:
    count = max(accounts, rng.choice((1, 1, 1, 2, 2, 3)))
    return tuple(rng.choice(tuple(Role)) for _ in range(count))


def _versions(
    rng: Random, families: tuple[Family, ...], accounts: int, failure_s: float
) -> tuple[tuple[float, Version], ...]:
    """Return the files of this history, oldest first; the last one names every family again."""
    pool = (*SETTINGS, DISABLED) if rng.random() < 0.4 else SETTINGS[: rng.choice((2, 3, 4))]
    unknown = {UNKNOWN_FAMILY: SETTINGS[0]} if rng.random() < 0.08 and accounts == 1 else {}
    first: Version = {family: rng.choice(pool) for family in families} | unknown
    found: list[tuple[float, Version]] = [(0.0, first)]
    at = rng.uniform(0.5, failure_s / 2)
    for _ in range(rng.choice((0, 1, 2, 4))):
        before = found[-1][1]
        if len(found) > 1 and rng.random() < 0.5:
            found.append((at, found[-2][1]))
        else:
            found.append(
                (at, {f: rng.choice(pool) if rng.random() < 0.7 else s for f, s in before.items()})
            )
        at += rng.choice((rng.uniform(0.2, 4.0), rng.uniform(4.0, 12.0), rng.uniform(1.0, 30.0)))
    return tuple((when, version) for when, version in found if when < failure_s)


def _fates(rng: Random) -> tuple[tuple[Fate, float], ...]:
    """Return what happens to requests and how likely each is, beside being fine."""
    if rng.random() < 0.15:
        return ()
    if rng.random() < 0.2:
        return ((Fate.LATE, 0.5),)
    known = [fate for fate in Fate if fate is not Fate.FINE and fate not in ODD_FATES]
    some = rng.sample(known, rng.randint(0, 3))
    some += [fate for fate in (Fate.LATE, Fate.REPLY_LOST) if fate not in some and rng.random() < 0.3]
    return tuple((fate, rng.choice((0.1, 0.25, 0.5)) / (1 + len(some) / 3)) for fate in some)
