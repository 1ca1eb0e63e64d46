"""What came of an apply, and its exit status: a table over every combination, in the contract's words."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from itertools import combinations, product

import pytest

from reconciler.core.apply_result import (
    HOLD_WORDS,
    LIVE_UNKNOWN,
    SETTLED,
    UNCONFIRMED,
    FamilyResult,
    Outcome,
    hold_words,
    results,
    results_exit_status,
    tighter_words,
)
from reconciler.core.model import Environment, Family
from reconciler.core.plan import Action, Basis, Change, HoldReason, Plan, Reason
from reconciler.core.policy import Refusal, RefusalKind
from reconciler.core.reply import Reply, ReplyClass
from reconciler.errors import PRECEDENCE, Exit, overall_status
from tests.unit.builders import BTC, ETH, SOL, setting

A = setting("5000/2000/100")
REFUSAL = Reply(ReplyClass.WRONG_SETTINGS, "51000", "Parameter qtyLimit error")


def change(family: Family, because: HoldReason | None = None, action: Action | None = None) -> Change:
    """Return a change that is still to be sent, or is held."""
    return Change(
        family, action or (Action.HOLD if because else Action.SET), Reason.CHANGED, None, A, because=because
    )


def left(*changes: Change) -> Plan:
    return Plan("main", Environment.LIVE, Basis.LIVE, changes, (), {})


def text(
    plan: Plan | None,
    *,
    done: dict[Family, Outcome] | None = None,
    uncertain: frozenset[Family] = frozenset(),
    refusals: dict[Family, Reply] | None = None,
    ended: str = "",
    chosen: frozenset[Family] = frozenset(),
) -> tuple[FamilyResult, ...]:
    return results(
        done=done or {},
        left=plan,
        uncertain=uncertain,
        refusals=refusals or {},
        attempts={BTC: 2},
        ended=ended,
        chosen=chosen,
    )


def held_as(because: HoldReason) -> tuple[Outcome, str, str]:
    """Return outcome, code and message of a hold; a family no plan file names is stale."""
    if because is HoldReason.STALE:
        return Outcome.STALE, "stale", "not a change of the plan file: skipped"
    if because is HoldReason.GUARD:  # the change does not disable the family
        return Outcome.HELD, "guard", "would be as good as switching protection off"
    return Outcome.HELD, because.value, HOLD_WORDS[because]


# ---- one family ----------------------------------------------------------------------------------

ONE_FAMILY = [
    # held because, action, uncertain, refused → outcome, code, message
    (None, Action.SET, False, None, Outcome.SKIPPED, "not-reached", "stopped"),
    (None, Action.SET, False, REFUSAL, Outcome.SKIPPED, "not-reached", "stopped"),
    (None, Action.SET, True, None, Outcome.UNKNOWN, "unconfirmed", UNCONFIRMED),
    (None, Action.ADOPT, True, None, Outcome.UNKNOWN, "unconfirmed", UNCONFIRMED),
    (None, Action.ADOPT, False, None, Outcome.SKIPPED, "not-reached", "stopped"),
    *(
        (because, Action.HOLD, uncertain, None, *held_as(because))
        for because, uncertain in product(HoldReason, (False, True))
    ),
    *(
        (because, Action.HOLD, False, REFUSAL, *held_as(because))
        for because in HoldReason
        if because is not HoldReason.REJECTED
    ),
    (HoldReason.REJECTED, Action.HOLD, False, REFUSAL, Outcome.REJECTED, "51000", REFUSAL.message),
    (HoldReason.REJECTED, Action.HOLD, True, REFUSAL, Outcome.REJECTED, "51000", REFUSAL.message),
]


@pytest.mark.parametrize(
    ("because", "action", "uncertain", "refusal", "outcome", "code", "message"), ONE_FAMILY
)
def test_a_remaining_family_is_reported_with_its_reason(
    because: HoldReason | None,
    action: Action,
    uncertain: bool,
    refusal: Reply | None,
    outcome: Outcome,
    code: str,
    message: str,
) -> None:
    found = text(
        left(change(BTC, because, action)),
        uncertain=frozenset({BTC} if uncertain else ()),
        refusals={BTC: refusal} if refusal else {},
        ended="stopped",
    )
    assert found == (FamilyResult(BTC, outcome, code, message, 2),)


def test_settled_families_that_are_in_sync_are_reported_by_name() -> None:
    found = text(left(), done={SOL: Outcome.ADOPTED, BTC: Outcome.APPLIED})
    assert found == (
        FamilyResult(BTC, Outcome.APPLIED, "0", "", 2),
        FamilyResult(SOL, Outcome.ADOPTED, "0", "", 0),
    )


def test_what_was_settled_and_is_left_again_is_not_settled() -> None:
    """Applied, then changed behind our back before the end: applied would be a lie."""
    found = text(left(change(BTC)), done={BTC: Outcome.APPLIED}, ended="too late")
    assert [result.outcome for result in found] == [Outcome.SKIPPED]


STAYS = Refusal(RefusalKind.LOOSEN, BTC, "loosening.maxFactor", "×10", "×2")


def left_tighter(because: HoldReason = HoldReason.POLICY) -> Plan:
    """Return the plan of a family whose quantity stays 10, because 100 is refused from there."""
    tight = setting("5000/2000/10")
    held = replace(change(BTC, because), before=tight, is_live=False)
    return replace(left(held), left_tighter=(STAYS, replace(STAYS, family=ETH)))


@pytest.mark.parametrize("because", [HoldReason.POLICY, HoldReason.GUARD])
def test_a_field_that_stays_tighter_is_reported_with_the_rule(because: HoldReason) -> None:
    words = (
        "qtyLimit stays 10 (live), the file says 100: refused from live: loosening.maxFactor: ×10, limit ×2"
    )
    assert text(left_tighter(because)) == (FamilyResult(BTC, Outcome.HELD, because.value, words, 2),)
    paused = left_tighter(HoldReason.PAUSED)
    assert text(paused)[0].message == HOLD_WORDS[HoldReason.PAUSED]


def test_what_stays_tighter_is_a_refusal_alone_and_partly_beside_anything_sent() -> None:
    plan = left_tighter()
    assert results_exit_status(text(plan), plan) is Exit.REFUSED
    assert results_exit_status(text(plan, done={ETH: Outcome.APPLIED}), plan) is Exit.PARTLY
    for settled in sorted(SETTLED):
        found = text(plan, done={BTC: settled})
        assert [(one.outcome, one.partly) for one in found] == [(Outcome.HELD, True)]
        assert results_exit_status(found, plan) is Exit.PARTLY
    found = text(plan, done={BTC: Outcome.REJECTED})
    assert results_exit_status(found, plan) is Exit.REFUSED


def test_words_name_the_fields_that_stay_tighter() -> None:
    now, then = setting("5000/2000/10"), setting("5000/1000/100")
    sent = replace(change(BTC), before=now, after=setting("5000/1000/10"), desired=then)
    words = "qtyLimit stays 10 (live), the file says 100"
    assert tighter_words(sent) == words
    assert tighter_words(replace(sent, action=Action.HOLD, because=HoldReason.FROZEN)) == words
    assert tighter_words(change(BTC)) == tighter_words(change(BTC, HoldReason.POLICY)) == ""
    held = replace(change(BTC, HoldReason.POLICY), before=now, after=then)
    assert tighter_words(held) == (
        "frozenInterval stays 2s (live), the file says 1s, qtyLimit stays 10 (live), the file says 100"
    )


@pytest.mark.parametrize(
    ("because", "who"),
    [(HoldReason.POLICY, "policy"), (HoldReason.GUARD, "guard"), (HoldReason.PAUSED, None)],
)
def test_a_refused_adoption_and_a_refused_return_have_words_of_their_own(
    because: HoldReason, who: str | None
) -> None:
    held = replace(change(BTC, because), is_live=True)
    if who is None:
        assert hold_words(held) == hold_words(held, stays_tighter=True) == "paused"
        return
    assert hold_words(held) == f"live already has this value, but the {who} refuses to accept it"
    assert hold_words(held, stays_tighter=True) == f"live stays tighter: the {who} refuses to loosen it"


def test_without_a_plan_only_what_was_settled_is_reported() -> None:
    assert text(None) == ()
    assert text(None, done={BTC: Outcome.APPLIED}) == (FamilyResult(BTC, Outcome.APPLIED, "0", "", 2),)


@pytest.mark.parametrize(
    ("plan", "done", "outcomes"),
    [
        # Never a whole picture: nothing is known of any family that was chosen.
        (None, {}, {BTC: Outcome.UNKNOWN, ETH: Outcome.UNKNOWN}),
        (None, {BTC: Outcome.APPLIED}, {BTC: Outcome.APPLIED, ETH: Outcome.UNKNOWN}),
        # In sync as far as a whole plan says, in doubt, or left: only the first is no result.
        (left(), {}, {BTC: Outcome.UNKNOWN, ETH: Outcome.UNKNOWN}),
        (replace(left(), unchanged=(BTC, ETH)), {}, {}),
        (replace(left(), unchanged=(BTC, ETH), doubtful=(ETH,)), {}, {ETH: Outcome.UNKNOWN}),
        (replace(left(change(BTC)), unchanged=(ETH,)), {}, {BTC: Outcome.SKIPPED}),
    ],
)
def test_a_chosen_family_is_a_result_unless_a_complete_plan_says_it_is_in_sync(
    plan: Plan | None, done: dict[Family, Outcome], outcomes: dict[Family, Outcome]
) -> None:
    found = text(plan, done=done, chosen=frozenset({BTC, ETH}), ended="no answer")
    assert {result.family: result.outcome for result in found} == outcomes
    unknown = [result for result in found if result.outcome is Outcome.UNKNOWN]
    assert {(result.code, result.message) for result in unknown} <= {("live-unknown", LIVE_UNKNOWN)}


def test_every_hold_has_words() -> None:
    assert set(HOLD_WORDS) == set(HoldReason)
    off = replace(change(BTC, HoldReason.GUARD, Action.HOLD), after=setting("0/2000/100"))
    assert hold_words(off) == HOLD_WORDS[HoldReason.GUARD] == "would switch protection off"


@pytest.mark.parametrize(
    ("at", "when"), [(None, ""), (datetime(2026, 3, 1, 3, 0, tzinfo=UTC), " at 2026-03-01 03:00:00")]
)
def test_a_hold_under_an_older_file_says_when_the_newer_one_was_applied(
    at: datetime | None, when: str
) -> None:
    held = replace(change(BTC, HoldReason.DRIFT_POLICY, Action.HOLD), other_file=True, other_file_at=at)
    words = hold_words(held)
    assert words.startswith(f"a newer settings file was applied{when}")
    assert words.endswith("not loosened until a new mmp apply confirms this file")


# ---- the exit status -----------------------------------------------------------------------------

SETTLED_FAMILY, LEFT_FAMILY, OTHER_FAMILY = ETH, BTC, SOL

LEFT_ALONE: dict[str, tuple[FamilyResult, Change, Exit]] = {
    "rejected": (
        FamilyResult(BTC, Outcome.REJECTED, "51000", "no", 1),
        change(BTC, HoldReason.REJECTED),
        Exit.FAILED,
    ),
    "unknown": (FamilyResult(BTC, Outcome.UNKNOWN, "unconfirmed", "", 1), change(BTC), Exit.FAILED),
    "skipped": (FamilyResult(BTC, Outcome.SKIPPED, "not-reached", "", 0), change(BTC), Exit.FAILED),
    "stale": (FamilyResult(BTC, Outcome.STALE, "stale", "", 0), change(BTC, HoldReason.STALE), Exit.STALE),
    "frozen": (FamilyResult(BTC, Outcome.HELD, "frozen", "", 0), change(BTC, HoldReason.FROZEN), Exit.HELD),
    "paused": (FamilyResult(BTC, Outcome.HELD, "paused", "", 0), change(BTC, HoldReason.PAUSED), Exit.HELD),
    "policy": (
        FamilyResult(BTC, Outcome.HELD, "policy", "", 0),
        change(BTC, HoldReason.POLICY),
        Exit.REFUSED,
    ),
    "guard": (FamilyResult(BTC, Outcome.HELD, "guard", "", 0), change(BTC, HoldReason.GUARD), Exit.REFUSED),
    "drift-policy": (
        FamilyResult(BTC, Outcome.HELD, "drift-policy", "", 0),
        change(BTC, HoldReason.DRIFT_POLICY),
        Exit.REFUSED,
    ),
}
"""What one unsettled family alone makes of the exit status of an apply that ended by itself."""

ENDINGS = (
    Exit.DONE,
    Exit.FAILED,
    Exit.REFUSED,
    Exit.INVALID,
    Exit.STALE,
    Exit.LOCKED,
    Exit.ACCOUNT,
    Exit.USAGE,
    Exit.HANGUP,
    Exit.INTERRUPTED,
    Exit.TERMINATED,
)
CONTRACT_ORDER = (64, 4, 8, 7, 5, 3, 1, 9, 2, 0)
SIGNALS = (Exit.HANGUP, Exit.INTERRUPTED, Exit.TERMINATED)


def expected(settled: bool, names: tuple[str, ...], ended: Exit) -> int:
    """Return the exit status in the contract's words: signals, then partly, then by precedence."""
    if ended in SIGNALS:
        return ended
    if settled and names:
        return 6
    candidates = {int(ended), *(int(LEFT_ALONE[name][2]) for name in names)}
    return next(status for status in CONTRACT_ORDER if status in candidates)


@pytest.mark.parametrize("ended", ENDINGS)
def test_the_exit_status_over_every_combination(ended: Exit) -> None:
    mixes = [names for size in range(4) for names in combinations(LEFT_ALONE, size)]
    assert len(mixes) == 130
    for settled, names in product((False, True), mixes):
        families = [Family(f"L{place}-USD") for place in range(len(names))]
        outcomes: list[FamilyResult] = []
        changes: list[Change] = []
        for family, name in zip(families, names, strict=True):
            result, kept, _ = LEFT_ALONE[name]
            outcomes.append(FamilyResult(family, result.outcome, result.code, "", 0))
            changes.append(change(family, kept.because))
        if settled:
            outcomes.append(FamilyResult(SETTLED_FAMILY, Outcome.APPLIED, "0", "", 1))
        assert results_exit_status(tuple(outcomes), left(*changes), ended) == expected(
            settled, names, ended
        ), names


@pytest.mark.parametrize("outcome", sorted(SETTLED))
def test_all_settled_is_done_whatever_was_settled(outcome: Outcome) -> None:
    assert results_exit_status((FamilyResult(BTC, outcome, "0", "", 1),), left()) is Exit.DONE
    assert results_exit_status((), left()) is Exit.DONE
    assert results_exit_status((), None) is Exit.DONE


@pytest.mark.parametrize("outcome", sorted(set(Outcome) - SETTLED))
def test_one_settled_and_one_not_is_partly_whatever_else(outcome: Outcome) -> None:
    mixed = (FamilyResult(BTC, outcome, "x", "", 1), FamilyResult(ETH, Outcome.ADOPTED, "0", "", 0))
    assert results_exit_status(mixed, None, Exit.ACCOUNT) is Exit.PARTLY


def test_a_hold_that_no_plan_explains_is_a_refusal() -> None:
    """Waiting must be proven by the plan that was left; else the stricter status is taken."""
    assert results_exit_status((FamilyResult(BTC, Outcome.HELD, "frozen", "", 0),), None) is Exit.REFUSED


def test_a_problem_after_everything_was_settled_is_the_problem_s_status() -> None:
    settled = (FamilyResult(BTC, Outcome.APPLIED, "0", "", 1),)
    assert results_exit_status(settled, left(), Exit.FAILED) is Exit.FAILED


def test_the_precedence_is_the_contract_s() -> None:
    assert tuple(map(int, PRECEDENCE)) == CONTRACT_ORDER
    for first, second in product(PRECEDENCE, repeat=2):
        wanted = first if PRECEDENCE.index(first) <= PRECEDENCE.index(second) else second
        assert overall_status([first, second]) is wanted
