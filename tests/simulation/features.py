"""Draws the features of one history: kinds of faults that most histories do not have.

Two seeds in five have one or more features. Half of those have none of the usual faults, to show the
effect of a feature alone. A disabled feature changes nothing in the histories of the others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

from reconciler.core.drift_resolution import DriftPolicy
from reconciler.simulator.behaviour_options import RateMode
from tests.simulation import scenario as scenarios
from tests.simulation.scenario import (
    ALL_FAMILIES,
    NO_FAILURES,
    ODD_FATES,
    PERMISSIVE,
    SETTINGS,
    Extras,
    Fate,
    Feature,
    FileFaults,
    LastingFate,
    ListFault,
    PolicyState,
    ReviewBy,
    Role,
    Scenario,
    Version,
    WorldKind,
    draw_usual,
)

FEATURED_REMAINDERS = (0, 3)
"""Seeds with such a remainder by 5 have features. The seeds of past failures have others."""

ROUND_TRIPS_S = (2.5, 5.0)

FILE_FAILURE_CHANCE = 0.25
"""How many of the seeds with features have faults of the state file, with others or alone."""

MEASURED_S = 100.0
"""How long the faults of a measured history last: longer than two tries of a failing family."""


def draw(seed: int, kind: WorldKind = WorldKind.SQLITE, only: Feature | None = None) -> Scenario:
    """Return the scenario of ``seed`` in a world of that kind, with its features.

    ``only``: it has this feature and no other, whatever the seed says.
    """
    scenario = draw_usual(seed, kind)
    if only is None and seed % 5 not in FEATURED_REMAINDERS:
        return scenario
    rng = Random(f"features {seed} {kind}")
    count = rng.choice((1, 1, 1, 2, 2, 3))
    every = sorted(set(Feature) - scenarios.HUNTED_ONLY - {Feature.FILE_FAILURE})
    drawn = rng.sample(every, count)
    # A random generator of its own, so that histories from before this feature do not change.
    if Random(f"file trouble {seed} {kind}").random() < FILE_FAILURE_CHANCE:
        drawn.append(Feature.FILE_FAILURE)
    drawn = [feature for feature in drawn if feature in scenarios.FEATURES] if only is None else [only]
    if not drawn:
        return scenario
    if rng.random() < 0.5:
        scenario = _quiet(scenario)
    scenario = replace(scenario, extras=Extras(features=frozenset(drawn)))
    for feature in drawn:
        scenario = _DRAWN[feature](Random(f"{feature} {seed} {kind}"), scenario)
    return scenario


def _quiet(scenario: Scenario) -> Scenario:
    """Return the scenario without its usual faults."""
    return replace(
        scenario,
        fates=(),
        read_failure=0.0,
        open_failure=0.0,
        kill_chance=0.0,
        pause_chance=0.0,
        kills_at=(),
        reboots_at=(),
        stops_at=(),
        drifts_at=(),
        freezes_at=(),
        outages=(),
        key_failures=(),
        wall_steps_at=(),
        clock_jumps_at=(),
        foreign_at=(),
        bad_clock=False,
        lock_works=True,
        fighter_s=None,
        database=None if scenario.database is None else NO_FAILURES,
    )


def _with(scenario: Scenario, **extras: object) -> Scenario:
    return replace(scenario, extras=replace(scenario.extras, **extras))  # type: ignore[arg-type]  # fields of Extras


def _lasting_fate(rng: Random, scenario: Scenario) -> Scenario:
    fate = rng.choice([fate for fate in Fate if fate is not Fate.FINE])
    if len(scenario.extras.features) == 1 and rng.random() < 0.6:
        return _measured(rng, _quiet(scenario), fate)
    family = rng.choice(scenario.families)
    return _with(scenario, lasting=LastingFate(family, fate, for_ever=rng.random() < 0.4))


def _measured(rng: Random, scenario: Scenario, fate: Fate) -> Scenario:
    """Return a scenario in which one family always fails, and nothing else does.

    In half of them the failing change loosens, and the others are to be tightened at some moment. In half
    of these an apply, too, fails to loosen it, and waits.
    """
    families = ALL_FAMILIES[: rng.choice((2, 3, 4, 4))]
    failing, loose, tight = rng.choice(families), SETTINGS[1], SETTINGS[0]
    emergency = rng.random() < 0.5
    begin = dict.fromkeys(families, loose) | {failing: tight if emergency else loose}
    first: Version = dict.fromkeys(families, loose if emergency else tight)
    versions: tuple[tuple[float, Version], ...] = ((0.0, first),)
    if emergency:
        others = [family for family in families if family != failing]
        urgent = rng.sample(others, rng.choice((1, len(others))))
        versions += ((rng.uniform(3.0, MEASURED_S), {**first, **dict.fromkeys(urgent, tight)}),)
    scenario = replace(
        scenario,
        families=families,
        accounts=1,
        roles=(Role.RUN,) * rng.choice((1, 1, 2)),
        places=(),
        versions=versions,
        failure_s=MEASURED_S,
        foreign_mode=RateMode.SLIDING,
        latency_s=min(scenario.latency_s, 0.03),
        assume_idle=True,
        earlier_arrivals=False,
        live=True,
        guarded=False,
        drift=DriftPolicy.HEAL_LOOSENED,
    )
    lasting = LastingFate(failing, fate, for_ever=True)
    if emergency and rng.random() < 0.5:
        scenario = replace(scenario, roles=(*scenario.roles, Role.APPLY))
    return _with(scenario, measured=True, begin=begin, lasting=lasting)


def _odd_replies(rng: Random, scenario: Scenario) -> Scenario:
    fates = rng.sample(ODD_FATES, rng.choice((1, 1, 2)))
    return replace(scenario, fates=(*scenario.fates, *((fate, rng.choice((0.1, 0.25))) for fate in fates)))


def _slow(rng: Random, scenario: Scenario) -> Scenario:
    what, round_trip_s = rng.choice(("reads", "writes", "both")), rng.choice(ROUND_TRIPS_S)
    return _with(
        scenario,
        read_round_trip_s=None if what == "writes" else round_trip_s,
        write_round_trip_s=None if what == "reads" else round_trip_s,
    )


def _lagging_files(rng: Random, scenario: Scenario) -> Scenario:
    """Return the scenario with controllers that see files late, mostly beside an ``apply``."""
    roles = [Role.RUN, *scenario.roles[1:]]
    if len(roles) == 1:
        roles.append(rng.choice((Role.APPLY, Role.APPLY, Role.RUN)))
    lags = tuple(
        rng.choice((0.0, rng.uniform(2.0, 60.0), 60.0)) if role is Role.RUN else 0.0 for role in roles
    )
    places = () if not scenario.places else tuple(rng.randrange(scenario.hosts) for _ in roles)
    return _with(replace(scenario, roles=tuple(roles), places=places), lags_s=lags)


def _edits_while_opening(rng: Random, scenario: Scenario) -> Scenario:
    return _with(scenario, edit_chance=rng.choice((0.3, 0.7)))


def _policies(rng: Random, scenario: Scenario) -> Scenario:
    at, states = rng.choice((0.0, rng.uniform(0.0, scenario.failure_s))), []
    while at < scenario.failure_s:
        states.append((at, _policy(rng)))
        at += rng.uniform(1.0, scenario.failure_s)
    narrowed = rng.random() < 0.3
    if narrowed and rng.random() < 0.5:
        # An apply of one family, while the policy counts the families that the entire file loosens.
        states = [(0.0, PolicyState(max_families=1))]
        scenario = replace(scenario, roles=(Role.APPLY, *scenario.roles[1:]))
    states.append((scenario.failure_s, PERMISSIVE))
    return _with(scenario, policies=tuple(states), narrowed=narrowed)


def _policy(rng: Random) -> PolicyState:
    if rng.random() < 0.3:
        return PolicyState(unreadable=True)
    return PolicyState(max_factor=rng.choice((None, 1, 2, 4)), max_families=rng.choice((None, None, 1)))


def _pauses(rng: Random, scenario: Scenario) -> Scenario:
    return _with(
        scenario,
        pauses=tuple(
            (rng.uniform(0.0, scenario.failure_s), rng.choice(scenario.families), rng.uniform(1.0, 30.0))
            for _ in range(rng.randint(1, 5))
        ),
    )


def _reviews(rng: Random, scenario: Scenario) -> Scenario:
    roles = tuple(rng.choice((Role.APPLY, Role.APPLY, role)) for role in scenario.roles)
    return _with(
        replace(scenario, roles=(Role.APPLY, *roles[1:]), live=True), review=rng.choice(tuple(ReviewBy))
    )


def _renames(rng: Random, scenario: Scenario) -> Scenario:
    return _with(
        scenario,
        renames_at=tuple(
            sorted(rng.uniform(1.0, scenario.failure_s) for _ in range(rng.choice((1, 1, 2))))
        ),
    )


def _suspension(rng: Random, scenario: Scenario) -> Scenario:
    def length_s() -> float:
        return rng.choice((rng.uniform(0.2, 4.0), rng.uniform(4.0, 60.0), rng.uniform(60.0, 600.0)))

    return _with(
        scenario,
        suspensions=tuple(
            sorted((rng.uniform(0.0, scenario.failure_s), length_s()) for _ in range(rng.randint(1, 8)))
        ),
    )


def _odd_lists(rng: Random, scenario: Scenario) -> Scenario:
    lasting = rng.random() < 0.4
    return _with(
        replace(scenario, live=True),
        list_faults=tuple(rng.sample(tuple(ListFault), 1 if lasting else rng.choice((1, 2)))),
        list_fault_chance=1.0 if lasting else rng.choice((0.1, 0.3, 0.7)),
        list_family=rng.choice(scenario.families),
        list_faults_last=lasting,
    )


def _raising_observers(rng: Random, scenario: Scenario) -> Scenario:
    return _with(scenario, observer_raises=rng.choice((0.01, 0.05)))


def _cancellation(rng: Random, scenario: Scenario) -> Scenario:
    return _with(scenario, cancel_chance=rng.choice((0.005, 0.02, 0.05)))


def _file_failure(rng: Random, scenario: Scenario) -> Scenario:
    """Return the scenario with one or two kinds of faults; in PostgreSQL there is no file."""
    if scenario.database is not None:
        return scenario

    def periods(longest_s: float) -> tuple[tuple[float, float], ...]:
        begins = (rng.uniform(0.0, scenario.failure_s) for _ in range(rng.randint(1, 3)))
        return tuple((at, at + rng.uniform(0.5, longest_s)) for at in begins)

    kinds = rng.sample(("busy", "full", "statement", "commit", "commit"), rng.choice((1, 1, 2)))
    failures = FileFaults(
        busy=periods(25.0) if "busy" in kinds else (),
        full=periods(20.0) if "full" in kinds else (),
        statement_failure=rng.choice((0.01, 0.05)) if "statement" in kinds else 0.0,
        commit_failure=rng.choice((0.05, 0.2, 0.5)) if "commit" in kinds else 0.0,
        open_failure=rng.choice((0.0, 0.0, 0.3)),
    )
    return _with(replace(scenario, lock_works=True), file=failures)


def _drift_in_doubt(rng: Random, scenario: Scenario) -> Scenario:
    unanswered = (Fate.LOST, Fate.REPLY_LOST, Fate.LATE, Fate.PAGE_AFTER, Fate.TIMEOUT_CODE_AFTER)
    failure_s = rng.uniform(90.0, 180.0)
    families = ALL_FAMILIES[:2]
    return replace(
        _quiet(scenario),
        families=families,
        versions=((0.0, dict.fromkeys(families, SETTINGS[0])),),
        places=(),
        roles=(Role.RUN,),
        accounts=1,
        assume_idle=True,
        earlier_arrivals=False,
        live=True,
        drift=rng.choice((DriftPolicy.HEAL_LOOSENED, DriftPolicy.HEAL_LOOSENED, DriftPolicy.WARN)),
        fates=tuple((fate, 0.15) for fate in rng.sample(unanswered, 3)),
        drifts_at=tuple(sorted(rng.uniform(5.0, failure_s) for _ in range(rng.randint(6, 16)))),
        failure_s=failure_s,
    )


def _tables_made_anew(rng: Random, scenario: Scenario) -> Scenario:
    """Return a scenario in which no process starts afterwards: none learns of the earlier requests."""
    families = ALL_FAMILIES[: rng.choice((2, 3, 4))]
    accounts = rng.choice((1, 2))
    roles = (Role.RUN,) * rng.choice((2, 2, 3))
    scenario = replace(
        _quiet(scenario),
        families=families,
        accounts=accounts,
        roles=roles,
        places=tuple(rng.randrange(scenario.hosts) for _ in roles) if scenario.places else (),
        versions=((0.0, dict.fromkeys(families, SETTINGS[0])),),
        assume_idle=True,
        earlier_arrivals=False,
        live=True,
        guarded=False,
        drift=DriftPolicy.HEAL,
        interval_s=5.0,
    )
    begin = dict.fromkeys(families, SETTINGS[1])
    return _with(scenario, begin=begin, tables_made_anew_after_s=rng.uniform(0.0, 0.5))


_DRAWN: dict[Feature, Callable[[Random, Scenario], Scenario]] = {
    Feature.LASTING_FATE: _lasting_fate,
    Feature.ODD_REPLIES: _odd_replies,
    Feature.SLOW: _slow,
    Feature.LAGGING_FILES: _lagging_files,
    Feature.EDITS_WHILE_OPENING: _edits_while_opening,
    Feature.POLICIES: _policies,
    Feature.PAUSES: _pauses,
    Feature.REVIEWS: _reviews,
    Feature.RENAMES: _renames,
    Feature.SUSPENSION: _suspension,
    Feature.ODD_LISTS: _odd_lists,
    Feature.RAISING_OBSERVERS: _raising_observers,
    Feature.CANCELLATION: _cancellation,
    Feature.FILE_FAILURE: _file_failure,
    Feature.DRIFT_IN_DOUBT: _drift_in_doubt,
    Feature.TABLES_MADE_ANEW: _tables_made_anew,
}
