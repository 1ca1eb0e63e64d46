"""What a saved plan lets through and what makes it stale; what a published status proves, and how long."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from reconciler.core.account_preflight import why_unusable
from reconciler.core.apply_result import FamilyResult, Outcome, results, results_exit_status
from reconciler.core.live_evidence import Reads
from reconciler.core.model import (
    AccountInfo,
    Confirmed,
    Environment,
    Family,
    Known,
    LiveRow,
    NeverApplied,
    Pause,
    Setting,
    Uncertain,
)
from reconciler.core.pacing import GUARD_S, earliest_slot
from reconciler.core.plan import Action, Change, HoldReason, Plan, PlanConstraints, Reason
from reconciler.core.planning import make_plan
from reconciler.core.policy import Refusal, RefusalKind
from reconciler.core.saved_plan import (
    APPLIED_CHANGES_RETENTION,
    CLOCK_TOLERANCE,
    MAX_EXPIRY,
    PlanTarget,
    SavedPlan,
    describe_moved,
    expired,
    families_in_scope,
    in_sending_order,
    reviewed,
    target_mismatches,
)
from reconciler.core.status_snapshot import (
    PublishedFamily,
    Snapshot,
    accepted_from,
    known_from,
    ledger_from,
    paused_from,
    reads_from,
    too_old,
)
from reconciler.errors import Exit
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
    VALUES,
    Answer,
    Situation,
    expected,
    known_of,
    proven,
    rules_of,
    situations,
)
from tests.unit.one_family_world import reads_of as world_reads_of

WALL = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)
A, B, C = (setting(f"5000/2000/{quantity}") for quantity in (100, 200, 300))

# ---- what is let through -----------------------------------------------------------------------

Review = tuple[str | None, str] | None

REVIEWS: list[Review] = [None, *((before, after) for before in (None, *SETTINGS) for after in DESIRED)]
"""What the plan file says of the family: nothing, or before and after of its change."""


def reviews(case: Situation) -> Iterator[Review]:
    """Yield what can be said of the family: of another value than is wanted now only from two sides.

    Such a change is stale whatever it began with: from nothing, and from what is in force, is enough.
    """
    now = expected(case).before
    for one in REVIEWS:
        if one is None or one[1] == case.wanted or one[0] is None or VALUES[one[0]] == now:
            yield one


def simple_situations() -> Iterator[Situation]:
    """Yield the situations with at most one unresolved attempt."""
    for wanted in DESIRED:
        yield from (case for case in situations(wanted) if len(case.record.attempts) <= 1)


def lets_through(case: Situation, answer: Answer, review: Review) -> bool:
    """Tell from the words whether the change of ``answer`` is the one that was reviewed."""
    if review is None or review[1] != case.wanted:
        return False
    is_partial = answer.after != VALUES[case.wanted] and answer.because in (None, "frozen", "rejected")
    if answer.action in ("set", "hold") and is_partial:
        return False  # some fields stay tighter, which is not what was reviewed
    not_read_yet = proven(case.record, case.sight) == "unread" and case.sight.how != "none"
    before = VALUES[review[0]] if review[0] else None
    return not_read_yet or answer.before in (before, VALUES[case.wanted])


@pytest.mark.slow
@pytest.mark.unmeasured
def test_a_change_that_was_not_reviewed_is_stale_and_every_other_answer_is_as_ever() -> None:
    seen = set()
    for case in simple_situations():
        planned = _planner(case)
        unreviewed = planned(rules_of(case))
        answer = expected(case)
        for review in reviews(case):
            promised = {} if review is None else {BTC: (_setting(review[0]), SETTINGS[review[1]])}
            plan = planned(replace(rules_of(case), reviewed=promised))
            because = _because(plan)
            if answer.action == "adopt" and answer.after != VALUES[case.wanted]:
                continue  # what stays tighter: recorded, or named as stale, and never sent
            if answer.action in ("set", "hold") and not lets_through(case, answer, review):
                # what cannot be read, or is refused, is held whatever was reviewed
                held = (HoldReason.STALE, HoldReason.UNREADABLE, HoldReason.GUARD)
                assert because in held or plan.doubtful, (case, review)
            else:
                assert because is not HoldReason.STALE, (case, review)
                assert plan.changes == unreviewed.changes, (case, review)
            seen.add(because)
    assert {None, HoldReason.STALE, HoldReason.FROZEN, HoldReason.GUARD} <= seen


def _setting(name: str | None) -> Setting | None:
    return None if name is None else SETTINGS[name]


def _known(case: Situation) -> dict[Family, Known]:
    known = known_of(case.record)
    return {} if isinstance(known, NeverApplied) else {BTC: known}


def _planner(case: Situation) -> Callable[[PlanConstraints], Plan]:
    """Return what plans ``case`` under rules; all else is the same for each of its reviews."""
    wanted, known = desired({BTC: SETTINGS[case.wanted]}), _known(case)
    reads = world_reads_of(case.record, case.sight)
    return lambda rules: make_plan(wanted, known, reads, rules, NOW)


def _because(plan: Plan) -> HoldReason | None:
    return plan.changes[0].because if plan.changes else None


def change(before: Setting | None = A, after: Setting = B, **more: object) -> Change:
    """Return a change of BTC-USD that is stale, unless said."""
    values = {"action": Action.HOLD, "reason": Reason.CHANGED, "because": HoldReason.STALE, **more}
    return replace(Change(BTC, Action.SET, Reason.CHANGED, before, after), **values)  # type: ignore[arg-type] # a builder


def test_a_review_approves_requests_and_what_is_held_but_nothing_that_needs_no_request() -> None:
    plan = plan_of(
        {BTC: B, ETH: B, SOL: setting("0/2000/100")},
        {BTC: confirmed("5000/2000/100"), ETH: confirmed("5000/2000/200"), SOL: confirmed("1/1/1")},
    )
    assert [one.because for one in plan.changes] == [None, HoldReason.GUARD]
    adopted = replace(
        plan,
        changes=(
            *plan.changes,
            replace(change(because=None), family=Family("X-Y"), action=Action.ADOPT, before=B),
            replace(change(because=None), family=Family("Y-Z"), action=Action.ADOPT),
            replace(change(), family=Family("Z-A")),
        ),
    )
    assert set(reviewed(adopted)) == {BTC, SOL, Family("Y-Z")}
    assert reviewed(adopted)[BTC] == (A, B)
    assert families_in_scope(adopted) == {BTC, ETH, SOL, Family("X-Y"), Family("Y-Z"), Family("Z-A")}


def test_an_override_approves_what_the_file_says_where_a_field_stays_tighter() -> None:
    stays = replace(change(A, B, because=HoldReason.POLICY), desired=C)
    refusal = Refusal(RefusalKind.LOOSEN, BTC, "loosening.maxFactor", "×10", "×2")
    plan = replace(plan_of({BTC: B}), changes=(stays,), left_tighter=(refusal,))
    assert reviewed(plan) == {BTC: (A, B)}
    assert reviewed(plan, frozenset({BTC})) == {BTC: (A, C)}
    assert reviewed(replace(plan, left_tighter=()), frozenset({BTC})) == {BTC: (A, B)}


def request(name: str, before: Setting | None, after: Setting, reason: Reason = Reason.CHANGED) -> Change:
    return Change(Family(f"{name}-USD"), Action.SET, reason, before, after)


@pytest.mark.parametrize(
    ("changes", "order"),
    [
        ([request("A", B, C), request("B", B, A)], "BA"),
        ([request("B", B, A), request("A", None, A)], "AB"),
        ([request("A", B, A), request("B", B, C, Reason.UNCERTAIN), request("C", B, A)], "ACB"),
        ([request("A", B, A), request("C", B, C), request("B", B, A, Reason.UNCERTAIN)], "ACB"),
        ([request("B", B, A), request("A", B, A, Reason.UNCERTAIN)], "BA"),
        ([request("B", B, A, Reason.UNCERTAIN), request("A", B, A, Reason.UNCERTAIN)], "BA"),
        ([replace(request("A", B, A), action=Action.HOLD), request("B", B, C)], "BA"),
    ],
)
def test_the_order_of_a_plan_file_follows_from_before_and_after(changes: list[Change], order: str) -> None:
    """An uncertain family stands where the file has it, where it can stand there."""
    assert "".join(change.family[0] for change in in_sending_order(changes)) == order


@pytest.mark.parametrize(("wanted", "because"), [(B, None), (C, HoldReason.STALE)])
def test_what_a_request_of_ours_left_open_is_not_stale_until_a_new_read_tells(
    wanted: Setting, because: HoldReason | None
) -> None:
    known = Uncertain(confirmed("5000/2000/900"), (unresolved("5000/2000/200"),))
    before_the_request = Reads(read(900.0, {BTC: row("5000/2000/900")}))
    rules = PlanConstraints(reviewed={BTC: (A, B)})
    plan = plan_of({BTC: wanted}, {BTC: known}, before_the_request, rules)
    assert [one.because for one in plan.changes] == [because]


@pytest.mark.parametrize(
    ("now", "promised", "says"),
    [
        (A, {}, "not a change of the plan file: skipped"),
        (A, {BTC: (A, C)}, "the plan file has another value: skipped"),
        (A, {BTC: (None, B)}, "the plan file found nothing in force, now one is: skipped"),
        (None, {BTC: (A, B)}, "the plan file found a setting in force, now none is: skipped"),
        (C, {BTC: (A, B)}, "changed since the plan file was made: qtyLimit is 300, not 100: skipped"),
        (
            setting("0/0/100.0"),
            {BTC: (A, B)},
            "changed since the plan file was made: "
            "timeInterval is 0, not 5000, frozenInterval is 0, not 2000: skipped",
        ),
    ],
)
def test_a_family_that_has_changed_is_reported_with_its_changed_fields(
    now: Setting | None, promised: dict[Family, tuple[Setting | None, Setting]], says: str
) -> None:
    assert describe_moved(change(now), promised) == says
    left = replace(plan_of({BTC: B}), changes=(change(now),))
    (message,) = results(
        done={}, left=left, uncertain=frozenset(), refusals={}, attempts={}, ended="", reviewed=promised
    )
    assert message == FamilyResult(BTC, Outcome.STALE, "stale", says, 0)


@pytest.mark.parametrize(
    ("outcomes", "status"),
    [
        ([("stale", 0)], Exit.STALE),
        ([("stale", 0), ("stale", 0)], Exit.STALE),
        ([("stale", 0), ("applied", 1)], Exit.PARTLY),
        ([("stale", 0), ("adopted", 0)], Exit.PARTLY),
        ([("stale", 1)], Exit.FAILED),
        ([("stale", 0), ("rejected", 1)], Exit.FAILED),
        ([("stale", 0), ("rejected", 0)], Exit.STALE),
    ],
)
def test_stale_promises_that_nothing_was_sent(outcomes: list[tuple[str, int]], status: Exit) -> None:
    message = tuple(
        FamilyResult(Family(f"F{place}-USD"), Outcome(outcome), "", "", attempts)
        for place, (outcome, attempts) in enumerate(outcomes)
    )
    assert results_exit_status(message, None) is status


@pytest.mark.parametrize(
    ("because", "ended", "status"),
    [
        (HoldReason.FROZEN, Exit.DONE, Exit.HELD),
        (HoldReason.PAUSED, Exit.DONE, Exit.HELD),
        (HoldReason.POLICY, Exit.DONE, Exit.REFUSED),
        (HoldReason.FROZEN, Exit.FAILED, Exit.FAILED),
        (HoldReason.STALE, Exit.LOCKED, Exit.LOCKED),
        (HoldReason.STALE, Exit.TERMINATED, Exit.TERMINATED),
        (HoldReason.STALE, Exit.INTERRUPTED, Exit.INTERRUPTED),
    ],
)
def test_what_ended_an_apply_outweighs_what_was_held(
    because: HoldReason, ended: Exit, status: Exit
) -> None:
    left = replace(plan_of({BTC: B}), changes=(change(because=because),))
    message = results(done={}, left=left, uncertain=frozenset(), refusals={}, attempts={}, ended="")
    assert results_exit_status(message, left, ended) is status


# ---- here and now ------------------------------------------------------------------------------

PLACE = PlanTarget("main", Environment.LIVE, "openapi.okx.com", False, "0" * 64)


@pytest.mark.parametrize(
    ("here", "says"),
    [
        (PLACE, ()),
        (replace(PLACE, account="spare"), ("its account is main, not spare",)),
        (replace(PLACE, environment=Environment.DEMO), ("its environment is live, not demo",)),
        (replace(PLACE, host="eea.okx.com"), ("its host is openapi.okx.com, not eea.okx.com",)),
        (replace(PLACE, simulator=True), ("its host is openapi.okx.com, not openapi.okx.com (simulator)",)),
        (replace(PLACE, sha256="1" * 64), ("the config has changed since (another sha256)",)),
    ],
)
def test_a_plan_is_for_one_place(here: PlanTarget, says: tuple[str, ...]) -> None:
    assert target_mismatches(PLACE, here) == says


def test_every_difference_of_place_is_reported() -> None:
    other = PlanTarget("spare", Environment.DEMO, "127.0.0.1", True, "1" * 64)
    assert len(target_mismatches(PLACE, other)) == 4


MOMENT = timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("wall", "says"),
    [
        (WALL, None),
        (WALL + timedelta(hours=24) - MOMENT, None),
        (WALL + timedelta(hours=24), "it expired at 2026-03-02 03:00:00Z"),
        (WALL - CLOCK_TOLERANCE, None),
        (
            WALL - CLOCK_TOLERANCE - MOMENT,
            "it was made at 2026-03-01 03:00:00Z, which is in the future by this machine's clock",
        ),
    ],
)
def test_a_plan_has_its_time(wall: datetime, says: str | None) -> None:
    saved = SavedPlan("a" * 32, plan_of({BTC: A}), PLACE, WALL, WALL + timedelta(hours=24), None, "0.1.0")
    assert expired(saved, wall) == says


def test_no_plan_may_be_applied_for_longer_than_its_changes_are_remembered() -> None:
    saved = SavedPlan("a" * 32, plan_of({BTC: A}), PLACE, WALL, WALL + 2 * MAX_EXPIRY, None, "0.1.0")
    assert expired(saved, WALL + MAX_EXPIRY - MOMENT) is None
    assert expired(saved, WALL + MAX_EXPIRY) == "it expired at 2026-03-31 03:00:00Z"
    assert APPLIED_CHANGES_RETENTION > MAX_EXPIRY + CLOCK_TOLERANCE


@pytest.mark.parametrize(("uid", "code"), [("7", None), ("8", "wrong-account"), (None, None)])
def test_a_plan_is_for_one_user_id(uid: str | None, code: str | None) -> None:
    info = AccountInfo("7", "7", "4", frozenset({"read_only", "trade"}))
    problem = why_unusable(info, desired({BTC: A}), writing=True, reviewed_uid=uid)
    assert (problem.code if problem else None) == code


# ---- a published status ------------------------------------------------------------------------


def snapshot(**more: object) -> Snapshot:
    """Return a published status in which BTC-USD is as applied, unless said."""
    values: dict[str, object] = {
        "source": "status.json",
        "account": "main",
        "environment": Environment.LIVE,
        "uid": "7",
        "host": "openapi.okx.com",
        "simulator": False,
        "live_at": WALL,
        "families": {BTC: PublishedFamily(A, A, LiveRow(A), False)},
        "unmanaged": {},
        "pauses": (),
        "paced": True,
        "spaced": False,
        **more,
    }
    return Snapshot(**values)  # type: ignore[arg-type] # a builder


@pytest.mark.parametrize(
    ("more", "age", "says"),
    [
        ({}, timedelta(0), None),
        ({}, timedelta(minutes=5), None),
        ({}, timedelta(minutes=5) + MOMENT, "its live read was at 2026-03-01 03:00:00Z"),
        ({}, -CLOCK_TOLERANCE, None),
        (
            {},
            -CLOCK_TOLERANCE - MOMENT,
            "its live read was at 2026-03-01 03:00:00Z, in the future by this machine's clock",
        ),
        ({"live_at": None}, timedelta(0), "it has no live read"),
        ({"host": None}, timedelta(0), "it has no live read"),
    ],
)
def test_a_snapshot_is_as_good_as_its_age(
    more: dict[str, object], age: timedelta, says: str | None
) -> None:
    assert too_old(snapshot(**more), WALL + age, timedelta(minutes=5)) == says


SEEN = {
    # what is published of the family: what a plan that wants B then does, and from what
    "as applied": (PublishedFamily(A, A, LiveRow(A), False), ("set", "changed", A)),
    "drifted elsewhere": (PublishedFamily(A, A, LiveRow(C), False), ("set", "changed", C)),
    "as wanted now": (PublishedFamily(A, A, LiveRow(B), False), ("adopt", "changed", A)),
    "accepted, and as wanted now": (PublishedFamily(A, A, LiveRow(B), False, B), ("adopt", "changed", B)),
    "accepted other than applied": (PublishedFamily(A, A, LiveRow(B), False, C), ("adopt", "changed", C)),
    "in sync, and another is accepted": (
        PublishedFamily(B, B, LiveRow(B), False, C),
        ("adopt", "changed", C),
    ),
    "drifted from what is wanted": (PublishedFamily(B, B, LiveRow(A), False), ("set", "drifted", A)),
    "in sync": (PublishedFamily(B, B, LiveRow(B), False), None),
    "not read since": (PublishedFamily(A, A, None, False), ("set", "changed", A)),
    "in sync, not read since": (PublishedFamily(B, B, None, False), None),
    "never applied": (PublishedFamily(B, None, LiveRow(A), False), ("set", "changed", A)),
    "nothing there": (PublishedFamily(B, None, None, False), ("set", "new", None)),
    "frozen": (PublishedFamily(A, A, LiveRow(A, frozen=True), False), ("hold", "changed", A)),
    "uncertain, and the other value": (PublishedFamily(A, A, LiveRow(B), True), ("set", "uncertain", B)),
    "uncertain, and not read since": (PublishedFamily(B, B, None, True), ("set", "uncertain", B)),
    "uncertain, and shown": (PublishedFamily(B, A, LiveRow(B), True), ("adopt", "uncertain", B)),
    "uncertain, and never proven": (PublishedFamily(B, None, None, True), ("set", "uncertain", None)),
}


@pytest.mark.parametrize("name", SEEN)
def test_a_snapshot_gives_the_plan_that_its_account_would(name: str) -> None:
    seen, wanted = SEEN[name]
    published = snapshot(families={BTC: seen})
    rules = PlanConstraints(accepted=accepted_from(published))
    plan = make_plan(desired({BTC: B}), known_from(published, NOW), reads_from(published, NOW), rules, NOW)
    message = [(one.action.value, one.reason.value, one.before) for one in plan.changes]
    assert message == ([] if wanted is None else [wanted])
    assert plan.basis == "live"
    assert plan.doubtful == ()


def test_families_that_come_and_go_are_taken_from_all_that_was_live() -> None:
    published = snapshot(unmanaged={ETH: row("5000/2000/200")})
    plan = make_plan(
        desired({ETH: B, SOL: A}),
        known_from(published, NOW),
        reads_from(published, NOW),
        PlanConstraints(),
        NOW,
    )
    assert [(one.family, one.action.value) for one in plan.changes] == [(SOL, "set"), (ETH, "adopt")]
    assert plan.unmanaged == {BTC: A}


def test_a_snapshot_that_knows_nothing_of_a_family_says_nothing() -> None:
    assert known_from(snapshot(families={BTC: PublishedFamily(A, None, None, False)}), NOW) == {}
    known = known_from(snapshot(families={BTC: PublishedFamily(A, A, LiveRow(A), True)}), NOW)[BTC]
    assert isinstance(known, Uncertain)
    assert isinstance(known.last, Confirmed)


def test_a_pause_counts_until_its_end() -> None:
    ends = {BTC: None, ETH: WALL, SOL: WALL + MOMENT}
    published = snapshot(pauses=tuple(Pause(family, "", WALL, until) for family, until in ends.items()))
    assert paused_from(published, desired({BTC: A}), WALL) == {BTC, SOL}


@pytest.mark.parametrize(("contested_setting", "held"), [(A, {BTC}), (B, set())])
def test_a_published_contested_family_counts_for_its_own_setting_only(
    contested_setting: Setting, held: set[Family]
) -> None:
    published = snapshot(pauses=(Pause(BTC, "", WALL, None, contested_setting),))
    assert paused_from(published, desired({BTC: A}), WALL) == held


@pytest.mark.parametrize(("paced", "spaced"), list(product((True, False), repeat=2)))
def test_times_are_as_after_a_quiet_window_unless_nothing_is_known(paced: bool, spaced: bool) -> None:
    ledger = ledger_from(snapshot(paced=paced, spaced=spaced), NOW)
    assert earliest_slot(ledger, NOW) == pytest.approx(NOW if paced else NOW + GUARD_S)
    assert ledger.throttled is (paced and spaced)
