"""The planner, tested exhaustively over a small world and by what must hold everywhere in it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from itertools import islice, product

import pytest

from reconciler.core.change_direction import Direction, changed_fields
from reconciler.core.drift_resolution import DriftPolicy
from reconciler.core.live_evidence import MissingRow, Reads, SeenRow
from reconciler.core.model import (
    NO_FILE,
    Acceptance,
    Confirmed,
    Environment,
    Family,
    FileVersion,
    Known,
    LiveRead,
    LiveRow,
    OpenAttempt,
    Setting,
    Uncertain,
)
from reconciler.core.pacing import GUARD_S, Ledger
from reconciler.core.plan import (
    Action,
    Basis,
    Change,
    Doubts,
    HoldReason,
    Plan,
    PlanConstraints,
    Reason,
    in_order,
    with_schedule,
)
from reconciler.core.planning import make_plan
from reconciler.core.policy import Loosening, Override, Policy, RefusalKind
from reconciler.core.retry import Rejection, RetryRecord, Tries
from tests.unit.builders import (
    BTC,
    ETH,
    NOW,
    SOL,
    confirmed,
    desired,
    plan_of,
    read,
    row,
    setting,
    unresolved,
)
from tests.unit.one_family_world import (
    DESIRED,
    SETTINGS,
    UNREAD,
    Answer,
    Situation,
    Value,
    accepted_situations,
    expected,
    held_situations,
    known_of,
    reads_of,
    rules_of,
    situations,
)

World = Callable[[str], Iterator[Situation]]
WORLDS: list[World] = [situations, held_situations, accepted_situations]
everywhere = pytest.mark.parametrize("world", WORLDS)
each_desired = pytest.mark.parametrize("wanted", DESIRED)


def plan_for(case: Situation) -> Plan:
    return plan_of(
        {BTC: SETTINGS[case.wanted]},
        {BTC: known_of(case.record)},
        reads_of(case.record, case.sight),
        rules_of(case),
    )


def value_of(one: Setting) -> Value:
    return one.time_interval_ms, one.frozen_interval_ms, int(one.qty_limit.value)


def answer_of(plan: Plan) -> Answer:
    """Return a plan for one family in the oracle's words."""
    if plan.doubtful:
        assert (plan.doubtful, plan.changes, plan.unchanged) == ((BTC,), (), ())
        return Answer("doubtful")
    if not plan.changes:
        assert plan.unchanged == (BTC,)
        return Answer("nothing")
    (change,) = plan.changes
    assert plan.unchanged == ()
    return Answer(
        "await" if change.known_at is not None else change.action.value,
        change.reason.value,
        value_of(change.before) if change.before else None,
        value_of(change.after),
        change.direction.value if change.direction else None,
        change.because.value if change.because else None,
    )


@pytest.mark.slow
@pytest.mark.unmeasured
@pytest.mark.parametrize(
    ("world", "step"), [(situations, 1), (held_situations, 3), (accepted_situations, 5)]
)
@each_desired
def test_situations_get_what_the_contract_wants_and_what_must_hold_holds(
    world: World, wanted: str, step: int
) -> None:
    """All of the smallest world and a part of the others; ``make proof`` tries all."""
    hold_against_the_contract(world(wanted), step)


@pytest.mark.proof
@pytest.mark.unmeasured
@everywhere
@each_desired
def test_every_situation_gets_what_the_contract_wants_and_what_must_hold_holds(
    world: World, wanted: str
) -> None:
    hold_against_the_contract(world(wanted), 1)


def hold_against_the_contract(situations: Iterator[Situation], step: int) -> None:
    """Compare the plan of every ``step``-th situation with the oracle's, and with the invariants."""
    for case in islice(situations, 0, None, step):
        plan = plan_for(case)
        assert answer_of(plan) == expected(case), case
        read_counts = case.sight.how not in UNREAD
        frozen = read_counts and (case.sight.now or "").endswith("*")
        assert not (plan.requests and (frozen or case.paused)), case
        assert not (case.record.attempts and plan.unchanged), case
        for change in plan.changes:
            assert_sound(change, case)


@everywhere
@each_desired
def test_so_does_every_211th_of_them(world: World, wanted: str) -> None:
    """Few enough to measure which lines they reach."""
    for case in islice(world(wanted), 0, None, 211):
        assert answer_of(plan_for(case)) == expected(case), case


@everywhere
@each_desired
def test_nothing_of_a_reviewed_change_that_was_applied_is_sent_again(world: World, wanted: str) -> None:
    for case in islice(world(wanted), 0, None, 211):
        for before in SETTINGS.values():
            rules = replace(
                rules_of(case), reviewed={BTC: (before, SETTINGS[wanted])}, applied_before=frozenset({BTC})
            )
            plan = plan_of(
                {BTC: SETTINGS[wanted]},
                {BTC: known_of(case.record)},
                reads_of(case.record, case.sight),
                rules,
            )
            assert plan.requests == (), case


def assert_sound(change: Change, case: Situation) -> None:
    """Hold one change against the invariants of its action."""
    assert (change.because is not None) == (change.action is Action.HOLD), case
    assert change.order == (1 if change.action is Action.SET else None), case
    assert change.wanted == SETTINGS[case.wanted], case
    assert change.fields == changed_fields(change.before, change.after), case
    if change.action is Action.ADOPT and change.known_at is None:
        shown = (case.sight.now or "D").rstrip("*")
        assert change.after == SETTINGS[shown], case
        assert change.accepts in (None, SETTINGS[case.wanted]), case
    elif change.action is not Action.ADOPT:
        assert change.reason is Reason.UNCERTAIN or change.direction is not None, case


@pytest.mark.slow
@pytest.mark.unmeasured
@each_desired
def test_the_worlds_are_not_empty_and_reach_every_answer(wanted: str) -> None:
    answers = [expected(case) for world in WORLDS for case in world(wanted)]
    reached = {answer.because for answer in answers} | {answer.action for answer in answers}
    guards = {"guard"} if wanted == "D" else set()
    everything = {"nothing", "doubtful", "adopt", "await", "set", "hold"}
    everything |= {"paused", "drift-policy", "frozen", "rejected", "unreadable"}
    assert len(answers) > 15_000
    assert reached == everything | guards | {None}


# ---- instants at their edges -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("begun_at", "reason"),
    [(100.0, None), (100.001, "doubtful"), (104.999, "doubtful"), (105.0, "drifted"), (200.0, "drifted")],
)
def test_a_single_read_that_differs_counts_from_five_seconds_after_the_proof(
    begun_at: float, reason: str | None
) -> None:
    plan = plan_of(
        {BTC: SETTINGS["A"]},
        {BTC: confirmed("5000/2000/100", at=100.0)},
        Reads(read(begun_at, {BTC: row("5000/2000/400")})),
    )
    seen = "doubtful" if plan.doubtful else plan.changes[0].reason.value if plan.changes else None
    assert seen == reason


@pytest.mark.parametrize(
    ("begun_at", "previous_at", "agreed"),
    [(105.0, 104.0, True), (105.0, 99.0, True), (104.9, 104.0, False), (104.0, 100.001, False)],
)
def test_a_difference_is_believed_from_five_seconds_after_the_proof_on(
    begun_at: float, previous_at: float, agreed: bool
) -> None:
    rows = {BTC: row("5000/2000/50")}
    plan = plan_of(
        {BTC: SETTINGS["A"]},
        {BTC: confirmed("5000/2000/100", at=100.0)},
        Reads().push(read(previous_at, rows)).push(read(begun_at, rows)),
    )
    assert bool(plan.requests) == agreed
    assert bool(plan.doubtful) != agreed


@pytest.mark.parametrize(
    ("begun_at", "adopted"), [(936.001, False), (940.999, False), (941.0, False), (941.001, True)]
)
def test_an_attempt_of_another_value_binds_until_a_read_shows_all_of_its_l(
    begun_at: float, adopted: bool
) -> None:
    known = Uncertain(
        confirmed("5000/2000/100", at=910.0, attempt=6),
        (unresolved("5000/2000/400", attempt=5, effect_until=936.0),),
    )
    plan = plan_of({BTC: SETTINGS["A"]}, {BTC: known}, Reads(read(begun_at, {BTC: row("5000/2000/100")})))
    (change,) = plan.changes
    assert change.action is Action.ADOPT
    assert change.known_at == (None if adopted else 941.0)


@pytest.mark.parametrize(("begun_at", "action"), [(936.001, "set"), (941.001, "adopt")])
def test_until_then_the_desired_value_is_sent_even_if_a_read_shows_it(begun_at: float, action: str) -> None:
    known = Uncertain(
        confirmed("5000/2000/100", at=890.0, attempt=4),
        (unresolved("5000/2000/400", attempt=5, effect_until=936.0),),
    )
    plan = plan_of({BTC: SETTINGS["A"]}, {BTC: known}, Reads(read(begun_at, {BTC: row("5000/2000/100")})))
    (change,) = plan.changes
    assert change.action.value == action


@pytest.mark.parametrize(
    ("begun_at", "action", "reason"),
    [(936.2, "set", "uncertain"), (940.0, "set", "uncertain"), (940.001, "adopt", "changed")],
)
def test_an_attempt_of_the_proven_value_binds_too_where_live_has_left_that_value(
    begun_at: float, action: str, reason: str
) -> None:
    """What the proof showed may have landed after that read began: one that lags shows the value before."""
    known = confirmed("5000/2000/400", at=931.0, attempt=5, lands_until=935.0)
    plan = plan_of({BTC: SETTINGS["A"]}, {BTC: known}, Reads(read(begun_at, {BTC: row("5000/2000/100")})))
    (change,) = plan.changes
    assert (change.action.value, change.reason.value) == (action, reason)


def test_protection_that_may_come_into_force_yet_is_guarded() -> None:
    known = confirmed("5000/2000/400", at=931.0, attempt=5, lands_until=935.0)
    plan = plan_of({BTC: SETTINGS["D"]}, {BTC: known}, Reads(read(936.2, {BTC: row("0/2000/100")})))
    (change,) = plan.changes
    assert change.because is HoldReason.GUARD


@pytest.mark.parametrize(("now", "action"), [(935.9, "adopt"), (936.0, "adopt"), (936.1, "set")])
def test_without_reads_it_binds_until_one_more_write_after_its_l(now: float, action: str) -> None:
    known = Uncertain(
        confirmed("5000/2000/100", at=910.0, attempt=6),
        (unresolved("5000/2000/400", attempt=5, effect_until=936.0),),
    )
    (change,) = plan_of({BTC: SETTINGS["A"]}, {BTC: known}, now=now).changes
    assert change.action.value == action


def test_the_latest_l_of_the_other_values_is_waited_for() -> None:
    known = Uncertain(
        confirmed("5000/2000/100", at=910.0, attempt=9),
        (
            unresolved("5000/2000/400", attempt=5, effect_until=936.0),
            unresolved("5000/2000/500", attempt=6, effect_until=940.0),
            unresolved("5000/2000/100", attempt=7, effect_until=990.0),
        ),
    )
    (change,) = plan_of({BTC: SETTINGS["A"]}, {BTC: known}, now=920.0).changes
    assert change.known_at == 940.0


@pytest.mark.parametrize(
    ("others", "counts"), [((5,), True), ((6,), False), ((7,), False), ((4, 5), True), ((5, 7), False)]
)
def test_an_acknowledgement_counts_only_if_its_attempt_is_newer_than_every_other_value(
    others: tuple[int, ...], counts: bool
) -> None:
    known = Uncertain(
        confirmed("5000/2000/100", at=910.0, attempt=6),
        tuple(unresolved("5000/2000/400", attempt=other, reserved_at=905.0) for other in others),
    )
    (change,) = plan_of({BTC: SETTINGS["A"]}, {BTC: known}).changes
    assert (change.action is Action.ADOPT) == counts


def test_a_lost_reply_and_a_reverted_file_do_not_look_in_sync() -> None:
    known = Uncertain(confirmed("5000/2000/100"), (unresolved("5000/2000/400"),))
    plan = plan_of({BTC: SETTINGS["A"]}, {BTC: known}, Reads(read(950.0, {BTC: row("5000/2000/100")})))
    (change,) = plan.requests
    assert (change.reason, change.direction) == (Reason.UNCERTAIN, None)


# ---- drift policies, by direction of the drift --------------------------------------------------


@pytest.mark.parametrize(
    ("live", "healed"),
    [
        ("5000/2000/400", True),
        ("1000/2000/100", True),
        ("5000/1000/100", True),
        ("9000/2000/400", True),
        ("0/2000/100", True),
        (None, True),
        ("5000/2000/50", False),
        ("9000/2000/100", False),
        ("5000/0/100", False),
    ],
)
def test_heal_loosened_puts_back_only_what_became_less_safe(live: str | None, healed: bool) -> None:
    rows = {} if live is None else {BTC: row(live)}
    gone = {} if live else {BTC: MissingRow(950.0, 1, gone_at=950.5)}
    reads = Reads(read(950.0, rows), missing=gone)
    known: dict[Family, Known] = {BTC: confirmed("5000/2000/100")}
    # Leaving until-reset is as good as switching off, also where that is what the file says: by name only.
    allowed = frozenset({Override(RefusalKind.DISABLE, BTC)} if live == "5000/0/100" else ())
    plans = {
        policy: plan_of({BTC: SETTINGS["A"]}, known, reads, PlanConstraints(drift=policy, allowed=allowed))
        for policy in DriftPolicy
    }
    assert plans[DriftPolicy.HEAL].requests
    assert bool(plans[DriftPolicy.HEAL_LOOSENED].requests) == healed
    assert not plans[DriftPolicy.WARN].requests
    assert [change.because for change in plans[DriftPolicy.WARN].changes] == [HoldReason.DRIFT_POLICY]


@pytest.mark.parametrize("policy", DriftPolicy)
def test_a_changed_desired_value_is_always_applied(policy: DriftPolicy) -> None:
    plan = plan_of(
        {BTC: SETTINGS["B"]},
        {BTC: confirmed("5000/2000/100")},
        Reads(read(950.0, {BTC: row("5000/1000/100")})),
        PlanConstraints(drift=policy),
    )
    assert [(change.reason, change.after) for change in plan.requests] == [(Reason.CHANGED, SETTINGS["B"])]


# ---- several families --------------------------------------------------------------------------


def change_of(family: str, way: str) -> tuple[Family, Setting, Known | None, LiveRow | None]:
    """Return a family, its desired setting, its record and its live row that make for ``way``."""
    wanted = SETTINGS["D"] if way == "disable" else SETTINGS["A"]
    before = {
        "enable": "0/2000/100",
        "tighten": "5000/2000/400",
        "mixed": "9000/2000/400",
        "loosen": "5000/2000/50",
        "disable": "5000/2000/100",
        "hold": "5000/2000/400",
        "uncertain": "5000/2000/400",
        "adopt": "5000/2000/100.0",
        "unchanged": "5000/2000/100",
    }[way]
    known: Known | None = confirmed(before) if way != "adopt" else None
    if way == "uncertain":
        known = Uncertain(confirmed(before), (unresolved("5000/2000/100"),))
    return Family(family), wanted, known, row(before, frozen=way == "hold")


def plan_of_ways(ways: dict[str, str], shuffle: random.Random | None = None) -> Plan:
    built = [change_of(family, way) for family, way in ways.items()]
    if shuffle:
        shuffle.shuffle(built)
    rules = PlanConstraints(
        allowed=frozenset(Override(RefusalKind.DISABLE, family) for family, *_ in built)
    )
    return plan_of(
        {family: wanted for family, wanted, _, _ in built},
        {family: known for family, _, known, _ in built if known},
        Reads(read(950.0, {family: live for family, _, _, live in built if live})),
        rules,
    )


IN_ORDER = ["uncertain", "enable", "tighten", "mixed", "loosen", "disable", "adopt", "hold"]
RANK = {
    "uncertain": 1,
    "enable": 1,
    "tighten": 1,
    "mixed": 2,
    "loosen": 2,
    "disable": 2,
    "adopt": 3,
    "hold": 4,
}
"""What only adds protection goes first, an unanswered tightening included."""


def test_protection_goes_out_first_whatever_the_families_are_called() -> None:
    for seed in range(200):
        names = random.Random(seed).sample("PQRSTUVW", len(IN_ORDER))
        ways = dict(zip([f"{name}-USD" for name in names], IN_ORDER, strict=True))
        plan = plan_of_ways(ways)
        found = [
            (RANK[ways[change.family]], change.reason is Reason.UNCERTAIN, change.family)
            for change in plan.changes
        ]
        assert found == sorted(found)
        assert [change.order for change in plan.changes] == [1, 2, 3, 4, 5, 6, None, None]


@pytest.mark.parametrize("way", IN_ORDER)
def test_within_one_direction_families_go_by_name(way: str) -> None:
    plan = plan_of_ways({"ZZ-USD": way, "AA-USD": way, "AA-USDC": way, "AA-USD_UM": way})
    assert [change.family for change in plan.changes] == ["AA-USD", "AA-USDC", "AA-USD_UM", "ZZ-USD"]


def test_neither_plan_nor_digest_depend_on_the_order_of_the_inputs() -> None:
    ways = {f"F{place}-USD": way for place, way in enumerate([*IN_ORDER, "unchanged"])}
    first = plan_of_ways(ways)
    for seed in range(50):
        again = plan_of_ways(ways, random.Random(seed))
        assert again.digest == first.digest
        assert [change.family for change in again.changes] == [change.family for change in first.changes]
        assert again.unchanged == first.unchanged == (Family("F8-USD"),)


def test_families_the_file_does_not_name_are_listed_and_never_touched() -> None:
    known: dict[Family, Known] = {
        ETH: confirmed("5000/2000/400"),
        SOL: Uncertain(None, (unresolved("1/1/1"),)),
    }
    rows = {SOL: row("1/1/1"), ETH: row("5000/2000/100", frozen=True)}
    plan = plan_of({BTC: SETTINGS["A"]}, known, Reads(read(950.0, rows)))
    assert [change.family for change in plan.changes] == [BTC]
    assert list(plan.unmanaged.items()) == [(ETH, setting("5000/2000/100")), (SOL, setting("1/1/1"))]
    assert plan_of({BTC: SETTINGS["A"]}, known).unmanaged == {}


def test_only_the_chosen_families_are_looked_at_and_the_rest_is_not_called_unmanaged() -> None:
    rows = {family: row("5000/2000/400") for family in (BTC, ETH, SOL)}
    plan = plan_of(
        {BTC: SETTINGS["A"], ETH: SETTINGS["A"]},
        {},
        Reads(read(950.0, rows)),
        PlanConstraints(only=frozenset({ETH})),
    )
    assert [change.family for change in plan.changes] == [ETH]
    assert plan.unchanged == ()
    assert list(plan.unmanaged) == [SOL]


def test_the_plan_says_whose_it_is_and_what_it_was_compared_with() -> None:
    wanted = desired({BTC: SETTINGS["A"]}, account="desk-2", environment=Environment.DEMO)
    without = make_plan(wanted, {}, Reads(), PlanConstraints(), NOW)
    with_live = make_plan(wanted, {}, Reads(read(950.0, {})), PlanConstraints(), NOW)
    assert (without.account, without.environment) == ("desk-2", Environment.DEMO)
    assert (without.basis, with_live.basis) == (Basis.LAST_APPLIED, Basis.LIVE)
    (change,) = without.changes
    assert change.source == wanted.families[BTC].source


# ---- equal by value, everywhere ----------------------------------------------------------------


@pytest.mark.parametrize("other_text", ["5000/2000/100.0", "5000/2000/100.00000"])
def test_another_spelling_of_a_quantity_is_no_difference_anywhere(other_text: str) -> None:
    spelled = setting(other_text)
    seen = Reads(read(950.0, {BTC: row(other_text)}))
    known = confirmed("5000/2000/100")
    assert plan_of({BTC: spelled}, {BTC: known}, seen).unchanged == (BTC,)
    assert plan_of({BTC: spelled}, {}, seen).of(Action.ADOPT)
    doubts = Uncertain(known, (unresolved(other_text),))
    assert plan_of({BTC: SETTINGS["A"]}, {BTC: doubts}, seen).of(Action.ADOPT)
    rejected = PlanConstraints(rejected={BTC: Rejection(spelled, retry_at=NOW + 1)})
    assert plan_of({BTC: SETTINGS["A"]}, {}, None, rejected).changes[0].because is HoldReason.REJECTED


def test_the_digest_is_of_values_not_of_spellings() -> None:
    plain = plan_of({BTC: SETTINGS["A"]}, {BTC: confirmed("5000/2000/400")})
    spelled = plan_of({BTC: setting("5000/2000/100.0")}, {BTC: confirmed("5000/2000/400.00")})
    assert plain.digest == spelled.digest


def test_the_digest_covers_what_a_review_approves() -> None:
    plan = plan_of({BTC: SETTINGS["A"]}, {BTC: confirmed("5000/2000/400")})
    (change,) = plan.changes
    other = setting("1/2/3")
    variants = [
        replace(plan, account="other"),
        replace(plan, environment=Environment.DEMO),
        replace(plan, changes=()),
        *(
            replace(plan, changes=(replaced,))
            for replaced in (
                replace(change, family=ETH),
                replace(change, action=Action.HOLD),
                replace(change, before=other),
                replace(change, before=None),
                replace(change, after=other),
            )
        ),
    ]
    digests = {plan.digest, *(variant.digest for variant in variants)}
    assert len(digests) == len(variants) + 1
    assert all(text.startswith("sha256:") and len(text) == 71 for text in digests)


def test_the_digest_leaves_out_order_times_and_places() -> None:
    plan = plan_of({BTC: SETTINGS["A"], ETH: SETTINGS["B"]})
    moved = tuple(
        replace(change, order=9, eta_s=7.5, known_at=1.0, source=None) for change in reversed(plan.changes)
    )
    assert replace(plan, changes=moved, basis=Basis.FILE, unchanged=(SOL,)).digest == plan.digest


# ---- etas --------------------------------------------------------------------------------------


def test_requests_are_given_their_slots_and_unknowns_the_time_they_will_be_known() -> None:
    waiting = Uncertain(
        confirmed("5000/2000/100", attempt=9), (unresolved("5000/2000/400", effect_until=1030.0),)
    )
    past = Uncertain(
        confirmed("5000/2000/100", attempt=9), (unresolved("5000/2000/400", effect_until=910.0),)
    )
    wanted = {Family(f"F{place}-USD"): SETTINGS["A"] for place in range(3)}
    reads = Reads(read(899.0, {}))
    plan = plan_of(wanted | {BTC: SETTINGS["A"], ETH: SETTINGS["A"]}, {BTC: waiting, ETH: past}, reads)
    timed = with_schedule(plan, Ledger(), NOW, assume_idle=False)
    etas = {change.family: change.eta_s for change in timed.changes}
    assert [etas[family] for family in wanted] == [0.0, 0.0, pytest.approx(GUARD_S)]
    assert (etas[BTC], etas[ETH]) == (35.0, 0.0)
    assert timed.eta_s == 35.0
    assert timed.digest == plan.digest


def test_what_is_held_or_adopted_has_no_eta() -> None:
    plan = plan_of_ways({"AA-USD": "adopt", "BB-USD": "hold"})
    timed = with_schedule(plan, Ledger(), NOW, assume_idle=False)
    assert [change.eta_s for change in timed.changes] == [None, None]
    assert timed.eta_s == 0.0


def test_numbering_starts_anew_for_every_plan() -> None:
    changes = [
        replace(change, order=None)
        for change in plan_of_ways({"AA-USD": "loosen", "BB-USD": "enable"}).changes
    ]
    for given in (changes, list(reversed(changes))):
        assert [(change.family, change.order) for change in in_order(given)] == [
            ("BB-USD", 1),
            ("AA-USD", 2),
        ]


def test_every_subset_of_directions_is_numbered_without_gaps() -> None:
    for chosen in product((True, False), repeat=len(IN_ORDER)):
        ways = {f"F{place}-USD": way for place, way in enumerate(IN_ORDER) if chosen[place]}
        if ways:
            orders = [change.order for change in plan_of_ways(ways).requests]
            assert orders == list(range(1, len(orders) + 1))


# -- a record that was lost --------------------------------------------------------------------------

A, B = setting("5000/2000/100"), setting("5000/2000/200")


@pytest.mark.parametrize(
    ("live", "begun_at", "action", "known_at"),
    [
        ("5000/2000/100", NOW, Action.ADOPT, NOW + 35),  # as desired: wait for what may land yet
        ("5000/2000/100", NOW + 31, Action.ADOPT, NOW + 35),  # or has, and is not shown
        ("5000/2000/100", NOW + 36, Action.ADOPT, None),  # and adopt once nothing can
        ("5000/2000/200", NOW, Action.SET, None),
        ("5000/2000/200", NOW + 36, Action.SET, None),
        (None, 0.0, Action.SET, None),  # without a read nothing on record is believed
    ],
)
def test_a_record_that_was_lost_costs_a_request_only_where_live_is_not_seen_to_be_as_desired(
    live: str | None, begun_at: float, action: Action, known_at: float | None
) -> None:
    lost = OpenAttempt(7, None, reserved_at=NOW - 5, effect_until=NOW + 30)
    known = {BTC: Uncertain(confirmed("5000/2000/100", attempt=6), (lost,))}
    reads = Reads(read(begun_at, {BTC: row(live)})) if live else Reads()
    (change,) = plan_of({BTC: A}, known, reads, now=max(NOW, begun_at)).changes
    assert (change.action, change.known_at) == (action, known_at)


def test_a_lost_record_beside_an_attempt_of_another_value_does_not_hide_that() -> None:
    lost = OpenAttempt(7, None, reserved_at=NOW - 5, effect_until=NOW + 30)
    other = OpenAttempt(8, B, reserved_at=NOW - 4, effect_until=NOW + 31)
    known = {BTC: Uncertain(confirmed("5000/2000/100", attempt=6), (lost, other))}
    reads = Reads(read(NOW, {BTC: row("5000/2000/100")}))
    (change,) = plan_of({BTC: A}, known, reads).changes
    assert change.action is Action.SET


# -- what may be in force decides who goes first ------------------------------------------------------

LOOSER, TIGHTER = setting("5000/2000/400"), setting("5000/2000/50")


@pytest.mark.parametrize(
    ("wanted", "proof", "attempts", "live", "protective"),
    [
        (A, LOOSER, [A], LOOSER, True),  # a tightening without an answer
        (LOOSER, A, [LOOSER], A, False),  # a loosening without an answer
        (A, A, [LOOSER], A, True),  # a loosening that may land yet, taken back
        (A, TIGHTER, [A, LOOSER], TIGHTER, True),  # the loosest that may be in force counts
        (A, TIGHTER, [A], TIGHTER, False),
        (setting("0/2000/100"), A, [A], A, False),
        (A, setting("0/2000/100"), [A], setting("0/2000/100"), True),
    ],
)
def test_an_uncertain_family_is_ranked_by_the_loosest_value_that_may_be_in_force(
    wanted: Setting, proof: Setting, attempts: list[Setting], live: Setting, protective: bool
) -> None:
    unanswered = tuple(OpenAttempt(5 + n, one, 901.0 + n, 2000.0) for n, one in enumerate(attempts))
    known = {BTC: Uncertain(Confirmed(proof, 900.0, 1), unanswered)}
    rules = PlanConstraints(allowed=frozenset({Override(RefusalKind.DISABLE, BTC)}))
    plan = plan_of({BTC: wanted}, known, Reads(read(950.0, {BTC: LiveRow(live)})), rules)
    assert [change.protective for change in plan.requests] == [protective]


def test_fewer_tries_go_first_and_a_new_value_starts_at_none() -> None:
    tries = {BTC: Tries(A, 3, NOW - 1000), ETH: Tries(A, 1, NOW - 1000), SOL: Tries(B, 9, NOW)}
    plan = plan_of({BTC: A, ETH: A, SOL: A}, rules=PlanConstraints(retries=RetryRecord(tries)))
    assert [(change.family, change.tries) for change in plan.requests] == [(SOL, 0), (ETH, 1), (BTC, 3)]


# -- a settings file that is older than what another process applied ------------------------------------

OLD_FILE, NEW_FILE = FileVersion("old", 1), FileVersion("new", 2)
OLDER = PlanConstraints(DriftPolicy.HEAL_LOOSENED, file=OLD_FILE, controller=True)
STRICT = Policy("p", "0" * 64, loosening=Loosening(max_factor=Decimal(2)))


@pytest.mark.parametrize(
    ("live", "because", "after"),
    [
        ("5000/2000/50", HoldReason.DRIFT_POLICY, "5000/2000/100"),  # what the newer file tightened stays
        ("5000/2000/400", None, "5000/2000/50"),  # a setting looser than both is reverted
        ("9000/2000/400", None, "9000/2000/50"),  # mixed: the looser field is reverted
        ("0/2000/100", None, "5000/2000/50"),
    ],
)
@pytest.mark.parametrize("unanswered", [False, True])
def test_an_older_file_loosens_nothing_that_a_newer_one_set(
    live: str, because: HoldReason | None, after: str, unanswered: bool
) -> None:
    proof = Confirmed(TIGHTER, 900.0, 1, file=NO_FILE if unanswered else NEW_FILE)
    attempt = OpenAttempt(5, TIGHTER, 901.0, 936.0, file=NEW_FILE)
    known: Known = Uncertain(proof, (attempt,)) if unanswered else proof
    reads = Reads(read(940.9, {BTC: row(live)}))
    (change,) = plan_of({BTC: A}, {BTC: known}, reads, OLDER).changes
    assert (change.because, change.after) == (because, setting(after))


@pytest.mark.parametrize("file", [None, NEW_FILE, FileVersion("newer", 3), FileVersion("new", 1)])
def test_a_newer_file_the_same_content_and_an_explicit_act_do(file: FileVersion | None) -> None:
    known = {BTC: Confirmed(TIGHTER, 900.0, 1, file=NEW_FILE)}
    reads = Reads(read(950.0, {BTC: row("5000/2000/50")}))
    (change,) = plan_of({BTC: A}, known, reads, PlanConstraints(file=file)).requests
    assert change.reason is Reason.CHANGED


@pytest.mark.parametrize("rules", [OLDER, PlanConstraints(file=OLD_FILE)])
def test_under_an_older_file_live_as_it_says_is_not_recorded(rules: PlanConstraints) -> None:
    known = {BTC: Confirmed(TIGHTER, 900.0, 1, file=NEW_FILE)}
    reads = Reads(read(950.0, {BTC: row("5000/2000/100")}))
    (change,) = plan_of({BTC: A}, known, reads, rules).changes
    restored = (Action.SET, Reason.DRIFTED, None, TIGHTER)
    reported = (Action.HOLD, Reason.CHANGED, HoldReason.DRIFT_POLICY, A)
    assert (change.action, change.reason, change.because, change.after) == (
        restored if rules.controller else reported
    )
    assert change.other_file, "the newer file is tighter, which has to be reported"


def test_under_an_older_file_live_as_it_says_and_tighter_than_the_newer_is_as_it_should_be() -> None:
    known = {BTC: Confirmed(LOOSER, 900.0, 1, file=NEW_FILE)}
    reads = Reads(read(950.0, {BTC: row("5000/2000/100")}))
    plan = plan_of({BTC: A}, known, reads, OLDER)
    assert (plan.changes, plan.unchanged) == ((), (BTC,))


@pytest.mark.parametrize("drift", [*DriftPolicy])
def test_under_an_older_file_that_agrees_with_the_record_drift_is_plain_drift(drift: DriftPolicy) -> None:
    """What is restored is what the newer file says, too."""
    for live in ("5000/2000/50", "5000/2000/400", "9000/2000/400", "0/2000/100"):
        reads = Reads(read(950.0, {BTC: row(live)}))
        plans = [
            plan_of(
                {BTC: A},
                {BTC: Confirmed(A, 900.0, 1, file=file)},
                reads,
                PlanConstraints(drift, file=OLD_FILE, controller=True),
            )
            for file in (OLD_FILE, NEW_FILE)
        ]
        assert plans[0].changes == plans[1].changes


def test_an_older_file_that_wants_what_the_newer_one_s_open_request_carries_may_repeat_it() -> None:
    attempt = OpenAttempt(5, A, 901.0, 936.0, file=NEW_FILE)
    known = {BTC: Uncertain(Confirmed(TIGHTER, 900.0, 1, file=OLD_FILE), (attempt,))}
    reads = Reads(read(940.9, {BTC: row("5000/2000/50")}))
    (change,) = plan_of({BTC: A}, known, reads, OLDER).changes
    assert (change.action, change.after) == (Action.SET, A)


@pytest.mark.parametrize(
    ("live", "healed_to"),
    [("5000/2000/400", "5000/2000/50"), ("0/2000/100", "5000/2000/50"), ("5000/2000/20", None)],
)
def test_under_an_older_file_what_became_looser_is_healed_to_what_the_newer_file_says(
    live: str, healed_to: str | None
) -> None:
    known = {BTC: Confirmed(TIGHTER, 900.0, 1, file=NEW_FILE)}
    (change,) = plan_of({BTC: A}, known, Reads(read(950.0, {BTC: row(live)})), OLDER).changes
    assert change.other_file
    sent = change.after if change.action is Action.SET else None
    assert sent == (setting(healed_to) if healed_to else None)


@pytest.mark.parametrize("after", ["5000/2000/100", "0/2000/100", "5000/2000/400"])
def test_of_a_family_that_is_unconfirmed_and_was_never_seen_nothing_is_sent(after: str) -> None:
    nameless = LiveRead(950.0, {}, nameless=1)
    reads = Reads(nameless, missing={BTC: MissingRow(940.0, 3, single_read_at=950.5)})
    (change,) = plan_of({BTC: setting(after)}, {}, reads).changes
    assert (change.action, change.because) == (Action.HOLD, HoldReason.UNREADABLE)


@pytest.mark.parametrize(("since", "sent"), [(899.0, False), (901.0, True)])
def test_a_family_that_is_unconfirmed_is_sent_its_setting_once(since: float, sent: bool) -> None:
    reads = Reads(read(950.0, {}), missing={BTC: MissingRow(since, 30, single_read_at=950.5)})
    plan = plan_of({BTC: A}, {BTC: confirmed("5000/2000/100", at=900.0)}, reads)
    assert [one.because for one in plan.changes] == [None if sent else HoldReason.UNREADABLE]
    assert bool(plan.requests) == sent


def test_an_older_file_may_repeat_what_is_in_force_while_a_newer_one_s_request_is_open() -> None:
    """Without live reads only one more acknowledged request can settle that."""
    attempt = OpenAttempt(5, LOOSER, 901.0, 936.0, file=NEW_FILE)
    known = {BTC: Uncertain(Confirmed(A, 940.0, 6, file=OLD_FILE), (attempt,))}
    (change,) = plan_of({BTC: A}, known, Reads(), OLDER, now=937.0).changes
    assert (change.before, change.after) == (A, A)
    assert change.because is None


def test_what_an_older_file_would_change_in_parts_is_left_to_the_newer_one() -> None:
    wanted = setting("9000/2000/100")
    known = {BTC: Confirmed(TIGHTER, 900.0, 1, file=NEW_FILE)}
    reads = Reads(read(950.0, {BTC: row("1000/1000/9999")}))
    (change,) = plan_of({BTC: wanted}, known, reads, OLDER).requests
    assert change.after == TIGHTER
    as_the_newer_says = Reads(read(950.0, {BTC: row("5000/2000/50")}))
    (held,) = plan_of({BTC: wanted}, known, as_the_newer_says, OLDER).changes
    assert (held.action, held.after) == (Action.HOLD, wanted), "that is no drift"


@pytest.mark.parametrize("live", ["5000/2000/400", "5000/2000/50", "5000/2000/20", "0/2000/100"])
def test_an_explicit_act_that_waited_leaves_what_a_newer_file_set(live: str) -> None:
    known = {BTC: Confirmed(TIGHTER, 900.0, 1, file=NEW_FILE)}
    rules = PlanConstraints(file=OLD_FILE)
    (change,) = plan_of({BTC: A}, known, Reads(read(950.0, {BTC: row(live)})), rules).changes
    assert (change.action, change.after) == (Action.HOLD, A)


@pytest.mark.parametrize("effect_until", [902.0, 2000.0])
def test_an_explicit_act_that_waited_does_not_record_what_a_newer_file_has_tightened(
    effect_until: float,
) -> None:
    """The request of the newer file was not answered, and live is still as the older file says."""
    attempt = OpenAttempt(5, TIGHTER, 901.0, effect_until, file=NEW_FILE)
    known = {BTC: Uncertain(Confirmed(A, 890.0, 1, file=OLD_FILE), (attempt,))}
    history = (Acceptance(A, 1, file=OLD_FILE), Acceptance(TIGHTER, 5, file=NEW_FILE))
    rules = PlanConstraints(policy=STRICT, file=OLD_FILE, accepted={BTC: history})
    reads = Reads(read(950.0, {BTC: row("5000/2000/100")}))
    (change,) = plan_of({BTC: A}, known, reads, rules).changes
    assert (change.action, change.because) == (Action.HOLD, HoldReason.DRIFT_POLICY)
    (healed,) = plan_of({BTC: A}, known, reads, replace(rules, controller=True)).changes
    assert (healed.action, healed.after) == (Action.SET, TIGHTER)


# -- what was reviewed ------------------------------------------------------------------------------------


@pytest.mark.parametrize("begun_at", [880.0, 950.0], ids=["too old to count", "counts"])
@pytest.mark.parametrize(
    ("reviewed", "live", "judged"),
    [
        ({BTC: (A, LOOSER)}, "5000/2000/100", True),
        ({BTC: (A, LOOSER)}, "5000/2000/400", True),
        ({}, "5000/2000/100", False),
        ({ETH: (A, LOOSER)}, "5000/2000/100", False),
        ({BTC: (A, LOOSER)}, "5000/2000/99", None),
    ],
)
def test_only_what_was_reviewed_is_judged_and_sent(
    begun_at: float, reviewed: dict[Family, tuple[Setting | None, Setting]], live: str, judged: bool | None
) -> None:
    """None: stale only if the read counts. Without one that counts the value alone is compared."""
    known: dict[Family, Known] = {BTC: confirmed("5000/2000/100")}
    reads = Reads(read(begun_at, {BTC: row(live)}))
    counts = begun_at > 900.0
    for policy in (STRICT, None):
        plan = plan_of({BTC: LOOSER}, known, reads, PlanConstraints(reviewed=reviewed, policy=policy))
        expected_to_be_judged = not counts if judged is None else judged
        assert bool(plan.refusals) == (expected_to_be_judged and policy is not None)
        is_settled = counts and live == "5000/2000/400"
        if not expected_to_be_judged:
            assert plan.requests == ()
            assert [one.because for one in plan.changes] == [HoldReason.STALE]
        elif policy is None:
            assert len(plan.requests) == (not is_settled)


@pytest.mark.parametrize("unreadable", [True, False])
def test_what_live_has_tighter_is_not_judged_where_nothing_is_done_about_it(unreadable: bool) -> None:
    """Its row cannot be read, or live is not as it was reviewed."""
    known = {BTC: Uncertain(confirmed("5000/2000/100"), (unresolved("5000/2000/1"),))}
    history = {BTC: (Acceptance(A, 1),)}
    latest = LiveRead(950.0, {}, {BTC: "qtyLimit is missing"})
    if not unreadable:
        latest = read(950.0, {BTC: row("5000/2000/1")})
    reviewed = None if unreadable else {BTC: (LOOSER, A)}
    rules = PlanConstraints(policy=STRICT, accepted=history, reviewed=reviewed)
    plan = plan_of({BTC: A}, known, Reads(latest), rules)
    assert (plan.refusals, plan.left_tighter, plan.requests) == ((), (), ())
    (change,) = plan.changes
    assert change.because is (HoldReason.UNREADABLE if unreadable else HoldReason.STALE)


@pytest.mark.parametrize(
    ("change", "factor"),
    [
        (Change(BTC, Action.SET, Reason.CHANGED, A, LOOSER), 4),
        (Change(BTC, Action.SET, Reason.CHANGED, LOOSER, B, measured_from=A), 2),
        # The worse of accepted, and of what live has tighter.
        (Change(BTC, Action.SET, Reason.DRIFTED, TIGHTER, B, measured_from=A), 4),
        (Change(BTC, Action.SET, Reason.DRIFTED, setting("0/2000/1"), LOOSER, measured_from=A), 4),
        (Change(BTC, Action.SET, Reason.NEW, None, A), None),
        (Change(BTC, Action.SET, Reason.CHANGED, setting("0/2000/1"), A), None),
        # Enabled by hand while the accepted setting is off: from live alone.
        (Change(BTC, Action.SET, Reason.CHANGED, A, LOOSER, measured_from=setting("0/2000/1")), 4),
    ],
)
def test_a_factor_is_measured_from_accepted_and_from_what_live_has_tighter(
    change: Change, factor: int | None
) -> None:
    assert change.factor == factor


@pytest.mark.parametrize(
    ("change", "in_force", "wanted"),
    [
        (Change(BTC, Action.SET, Reason.CHANGED, A, LOOSER), A, LOOSER),
        (Change(BTC, Action.SET, Reason.CHANGED, A, TIGHTER, desired=LOOSER), A, LOOSER),
        (Change(BTC, Action.ADOPT, Reason.CHANGED, A, LOOSER, is_live=True), LOOSER, LOOSER),
        (Change(BTC, Action.SET, Reason.NEW, None, A), None, A),
    ],
)
def test_what_is_in_force_and_what_the_file_says_are_known_of_each_change(
    change: Change, in_force: Setting | None, wanted: Setting
) -> None:
    assert (change.in_force, change.wanted) == (in_force, wanted)


# -- what the exchange refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("retry_at", "only_if_looser", "live", "sent"),
    [
        (NOW + 1, True, "5000/2000/400", False),
        (NOW, True, "5000/2000/400", True),
        (NOW, True, "5000/2000/50", False),
        (NOW, True, "0/2000/100", True),
        (NOW, False, "5000/2000/50", True),
    ],
)
def test_a_refused_setting_is_tried_again_at_its_time_while_live_is_looser(
    retry_at: float, only_if_looser: bool, live: str, sent: bool
) -> None:
    rules = PlanConstraints(rejected={BTC: Rejection(A, retry_at, only_if_looser)})
    plan = plan_of({BTC: A}, {}, Reads(read(950.0, {BTC: row(live)})), rules)
    assert bool(plan.requests) == sent


# -- rows that cannot be read ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "live",
    [
        LiveRead(950.0, {ETH: row("5000/2000/400")}, {BTC: "qtyLimit is missing"}),
        LiveRead(950.0, {ETH: row("5000/2000/400")}, odd_names={"BTC-USD": "btc-usd "}),
    ],
)
@pytest.mark.parametrize("known", [{}, {BTC: confirmed("5000/2000/100")}])
def test_a_row_that_cannot_be_read_holds_its_family_alone(
    live: LiveRead, known: dict[Family, Known]
) -> None:
    plan = plan_of({BTC: A, ETH: A}, known, Reads(live))
    assert [change.family for change in plan.requests] == [ETH]
    assert [(change.family, change.because) for change in plan.of(Action.HOLD)] == [
        (BTC, HoldReason.UNREADABLE)
    ]


def test_a_row_without_a_name_lets_no_family_count_as_gone() -> None:
    nameless = LiveRead(950.0, {}, nameless=1)
    plan = plan_of({BTC: A}, {}, Reads(nameless))
    assert (plan.doubtful, plan.missing, plan.requests) == ((BTC,), (BTC,), ())


MISSED = {
    "not read alone yet": (MissingRow(945.0, 1), HoldReason.UNREADABLE),
    "its own read failed": (MissingRow(945.0, 1, single_read_at=950.5), None),
    "three lists, its own read failed": (MissingRow(945.0, 3, single_read_at=950.5), None),
}


@pytest.mark.parametrize("missed", MISSED)
@pytest.mark.parametrize("frozen", [False, True])
def test_a_family_that_the_list_leaves_out_is_read_alone_and_stays_frozen(
    missed: str, frozen: bool
) -> None:
    """A request that adds protection to all that is known may still loosen a setting that was not read."""
    missing, because = MISSED[missed]
    last = SeenRow(row("5000/2000/400", frozen=frozen), 944.0)
    reads = Reads(read(950.0, {}), rows={BTC: last}, missing={BTC: missing})
    plan = plan_of({BTC: A}, {BTC: confirmed("5000/2000/400")}, reads)
    if because is HoldReason.UNREADABLE:
        assert (plan.requests, plan.doubtful, plan.missing) == ((), (BTC,), (BTC,))
    elif frozen:
        assert [(one.action, one.because) for one in plan.changes] in (
            [(Action.HOLD, HoldReason.FROZEN)],
            [],
        )
        assert plan.requests == ()
    else:
        assert [one.family for one in plan.requests] == [BTC]


def test_of_families_with_as_many_tries_one_with_an_open_attempt_goes_last() -> None:
    """It may be in force already, and beside it an urgent change may need the last slot."""
    known: dict[Family, Known] = {
        BTC: Uncertain(confirmed("5000/2000/100"), (unresolved("5000/2000/400"),))
    }
    rows = {BTC: row("5000/2000/100"), ETH: row("5000/2000/400")}
    plan = plan_of({BTC: A, ETH: A}, known, Reads(read(950.0, rows)))
    assert [(one.family, one.protective) for one in plan.requests] == [(ETH, True), (BTC, True)]


# -- doubt holds only its own family --------------------------------------------------------------------


def test_a_doubtful_family_waits_by_itself_and_can_be_named_as_held() -> None:
    known = {BTC: confirmed("5000/2000/100", at=100.0), ETH: confirmed("5000/2000/400", at=100.0)}
    reads = Reads(read(102.0, {BTC: row("5000/2000/50"), ETH: row("5000/2000/400")}))
    plan = plan_of({BTC: A, ETH: A}, known, reads, now=103.0)
    assert ([change.family for change in plan.requests], plan.doubtful) == ([ETH], (BTC,))
    shown = plan_of({BTC: A, ETH: A}, known, reads, PlanConstraints(doubts=Doubts.HOLD), now=103.0)
    assert (shown.doubtful, shown.unchanged) == ((), ())
    (held,) = shown.of(Action.HOLD)
    assert (held.family, held.because) == (BTC, HoldReason.UNREADABLE)


@pytest.mark.parametrize(
    ("proof", "live", "at_once"),
    [
        ("5000/2000/400", "5000/2000/200", True),
        ("5000/2000/400", "5000/2000/50", False),  # it would loosen what the read shows
        ("5000/2000/50", "5000/2000/400", False),  # it would loosen what is on record
        ("5000/2000/400", "5000/2000/100", False),  # it may be as desired already
        ("0/2000/400", "5000/2000/400", True),
    ],
)
def test_within_five_seconds_of_a_proof_only_what_protects_against_both_goes_at_once(
    proof: str, live: str, at_once: bool
) -> None:
    known = {BTC: confirmed(proof, at=100.0)}
    plan = plan_of({BTC: A}, known, Reads(read(102.0, {BTC: row(live)})), now=103.0)
    assert (bool(plan.requests), bool(plan.doubtful)) == (at_once, not at_once)
    shown = plan_of(
        {BTC: A},
        known,
        Reads(read(102.0, {BTC: row(live)})),
        PlanConstraints(doubts=Doubts.LEAVE_OUT),
        now=103.0,
    )
    assert (shown.requests, shown.doubtful) == ((), (BTC,)), "a plan for people waits for every family"


# -- a row that is gone does not lift a limit -------------------------------------------------------------


@pytest.mark.parametrize(("proof", "refused"), [("5000/2000/10", True), ("5000/2000/100", False)])
def test_a_missing_row_does_not_lift_the_limit_on_a_change(proof: str, refused: bool) -> None:
    policy = Policy("p", "0" * 64, loosening=Loosening(max_factor=Decimal(2)))
    reads = Reads(read(950.0, {}), missing={BTC: MissingRow(950.0, 1, gone_at=950.5)})
    plan = plan_of({BTC: A}, {BTC: confirmed(proof)}, reads, PlanConstraints(policy=policy))
    (change,) = plan.changes
    assert (change.before, change.direction) == (None, Direction.ENABLE)
    assert (change.because is HoldReason.POLICY) == refused


@pytest.mark.parametrize(("attempt", "refused"), [("5000/2000/50", True), ("5000/2000/400", False)])
def test_under_an_unreadable_policy_what_was_sent_last_is_restored_and_not_loosened(
    attempt: str, refused: bool
) -> None:
    """What an open attempt carries was accepted: that is sent again, because it is tighter than live."""
    known = {BTC: Uncertain(confirmed("5000/2000/400"), (unresolved(attempt),))}
    reads = Reads(read(950.0, {BTC: row("5000/2000/400")}))
    plan = plan_of({BTC: A}, known, reads, PlanConstraints(policy_unreadable=True))
    assert [one.after for one in plan.requests] == [setting(attempt) if refused else A]
    assert [refusal.rule for refusal in plan.refusals] == ["policy"] * refused


# ---- what no refusal holds up, and the plan of some families --------------------------------------


MIXED = setting("5000/1000/50")
"""Against A: the freeze protects less, the quantity more."""


@pytest.mark.parametrize(
    ("change", "adds"),
    [
        (Change(BTC, Action.SET, Reason.CHANGED, None, SETTINGS["A"]), True),
        (Change(BTC, Action.SET, Reason.CHANGED, SETTINGS["B"], SETTINGS["A"]), True),
        (Change(BTC, Action.SET, Reason.DRIFTED, SETTINGS["A"], MIXED), True),
        (Change(BTC, Action.SET, Reason.CHANGED, SETTINGS["A"], MIXED), False),
        (Change(BTC, Action.SET, Reason.DRIFTED, SETTINGS["A"], SETTINGS["B"]), False),
        (Change(BTC, Action.SET, Reason.UNCERTAIN, SETTINGS["A"], SETTINGS["A"], protective=True), True),
        (Change(BTC, Action.SET, Reason.UNCERTAIN, SETTINGS["A"], SETTINGS["A"]), False),
        (Change(BTC, Action.HOLD, Reason.CHANGED, SETTINGS["B"], SETTINGS["A"]), False),
    ],
)
def test_what_adds_protection_is_known_of_each_request(change: Change, adds: bool) -> None:
    plan = Plan("main", Environment.LIVE, Basis.LIVE, (change,), (), {})
    assert plan.protection == ((change,) if adds else ())


def test_the_digest_of_some_families_is_that_of_their_own_plan() -> None:
    wanted = {BTC: setting("5000/2000/400"), ETH: setting("5000/2000/50"), SOL: setting("0/2000/100")}
    known: dict[Family, Known] = {family: confirmed("5000/2000/100") for family in wanted}
    whole = plan_of(wanted, known)
    for families in ({BTC}, {ETH, SOL}, {SOL}, set(wanted)):
        narrow = plan_of(wanted, known, rules=PlanConstraints(only=frozenset(families)))
        assert whole.digest_of(frozenset(families)) == narrow.digest


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("5000/2000/100", "5000/2000/400", "qtyLimit 100 → 400"),
        ("0/2000/100", "1500/0/100.0", "timeInterval disabled → 1500ms, frozenInterval 2s → until-reset"),
        (None, "5000/2000/1", "timeInterval 5s, frozenInterval 2s, qtyLimit 1"),
        ("5000/2000/1", "5000/2000/1", ""),
    ],
)
def test_a_change_is_reported_field_by_field(before: str | None, after: str, words: str) -> None:
    was, now = setting(before) if before else None, setting(after)
    change = Change(BTC, Action.SET, Reason.CHANGED, was, now)
    assert change.field_words == words
