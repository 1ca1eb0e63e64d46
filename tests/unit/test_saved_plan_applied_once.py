"""Each change of a saved plan is applied once: every combination of two families, against an oracle.

A family of the plan was never sent, was sent without an answer, or was applied; live is as before the
change, as after it, or something else. What a rerun sends, what it reports and its exit status follow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import Enum, auto
from itertools import product

import pytest

from reconciler.core.apply_result import (
    ALREADY_APPLIED,
    FamilyResult,
    Outcome,
    results,
    results_exit_status,
)
from reconciler.core.history_records import ProofKind
from reconciler.core.live_evidence import Reads
from reconciler.core.model import Family, Known, Setting, Uncertain
from reconciler.core.plan import Action, HoldReason, Plan, PlanConstraints
from reconciler.core.saved_plan import (
    AppliedChange,
    describe_moved,
    in_force_already,
    not_applied_yet,
    reviewed,
)
from reconciler.errors import Exit
from tests.unit.builders import BTC, ETH, confirmed, plan_of, read, row, setting, unresolved

BEFORE, AFTER, OTHER = "5000/2000/100", "5000/2000/400", "5000/2000/250"
APPLIED_AT = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)
PROMISED = {family: (setting(BEFORE), setting(AFTER)) for family in (BTC, ETH)}
SAID = "already applied at 2026-03-01 03:00:00Z"


class Sent(Enum):
    """What the state has of one change of the plan."""

    NEVER = auto()
    UNANSWERED = auto()
    APPLIED = auto()


@dataclass(frozen=True)
class Case:
    """One family: what became of its change, and what is live now."""

    sent: Sent
    live: str

    @property
    def known(self) -> Known:
        match self.sent:
            case Sent.NEVER:
                return confirmed(BEFORE)
            case Sent.UNANSWERED:
                return Uncertain(confirmed(BEFORE), (unresolved(AFTER),))
            case Sent.APPLIED:
                return confirmed(AFTER, at=950.0, attempt=2)

    @property
    def expected(self) -> Action | HoldReason | None:
        """What the plan does of it, by the words of the issue; None: nothing, it is in force."""
        if self.live == AFTER:
            # Only the record may be behind; nothing is sent.
            return None if self.sent is Sent.APPLIED else Action.ADOPT
        if self.sent is Sent.APPLIED or self.live == OTHER:
            return HoldReason.STALE
        return Action.SET


CASES = [Case(sent, live) for sent, live in product(Sent, (BEFORE, AFTER, OTHER))]


PAIRS = list(product(CASES, CASES))


def rerun(btc: Case, eth: Case) -> Plan:
    """Return the plan of a rerun that reads live after everything on record."""
    reads = Reads(read(1000.0, {BTC: row(btc.live), ETH: row(eth.live)}))
    rules = PlanConstraints(reviewed=not_applied_yet(PROMISED, applied(btc, eth)))
    wanted = {BTC: setting(AFTER), ETH: setting(AFTER)}
    return plan_of(wanted, {BTC: btc.known, ETH: eth.known}, reads, rules)


def applied(btc: Case, eth: Case) -> dict[Family, AppliedChange]:
    cases = {BTC: btc, ETH: eth}
    return {
        family: AppliedChange(ProofKind.APPLIED, APPLIED_AT)
        for family, case in cases.items()
        if case.sent is Sent.APPLIED
    }


@pytest.mark.parametrize(("btc", "eth"), PAIRS)
def test_a_rerun_sends_what_was_never_applied_and_is_as_reviewed_and_nothing_else(
    btc: Case, eth: Case
) -> None:
    found = {change.family: change.because or change.action for change in rerun(btc, eth).changes}
    expected = {BTC: btc.expected, ETH: eth.expected}
    assert found == {family: one for family, one in expected.items() if one is not None}


def settled(plan: Plan) -> dict[Family, Outcome]:
    """Return what an exchange that answers lets the rerun settle."""
    outcomes = {Action.SET: Outcome.APPLIED, Action.ADOPT: Outcome.ADOPTED}
    return {one.family: outcomes[one.action] for one in plan.changes if one.action in outcomes}


@pytest.mark.parametrize(("btc", "eth"), PAIRS)
def test_a_rerun_ends_with_0_when_all_is_in_force_and_with_5_when_something_moved_since(
    btc: Case, eth: Case
) -> None:
    plan, before = rerun(btc, eth), applied(btc, eth)
    done = settled(plan)
    after = [change for change in plan.changes if change.family not in done]
    in_sync = tuple(sorted({BTC, ETH} - {change.family for change in after}))
    left = replace(plan, changes=tuple(after), unchanged=in_sync)
    outcomes = results(
        done=done,
        left=left,
        uncertain=frozenset(),
        refusals={},
        attempts={family: 1 for family, outcome in done.items() if outcome is Outcome.APPLIED},
        ended="",
        chosen=frozenset({BTC, ETH}),
        reviewed=PROMISED,
        applied=before,
    )
    status = results_exit_status(outcomes, left)
    stale = [one for one in (btc, eth) if one.expected is HoldReason.STALE]
    acts = [one for one in (btc, eth) if isinstance(one.expected, Action)]
    assert status is (Exit.DONE if not stale else Exit.PARTLY if acts else Exit.STALE)
    for family, case in ((BTC, btc), (ETH, eth)):
        if case.sent is not Sent.APPLIED:
            continue
        [sentence] = [one for one in outcomes if one.family == family]
        assert sentence.message.startswith(SAID)
        assert sentence.attempts == 0
        if case.live == AFTER:
            assert sentence == FamilyResult(family, Outcome.APPLIED, ALREADY_APPLIED, SAID, 0, earlier=True)
        else:
            assert (sentence.outcome, sentence.code) == (Outcome.STALE, "stale")
            assert sentence.message.endswith("not sent again")


def test_what_another_apply_put_in_force_is_found_once() -> None:
    plan = plan_of({BTC: setting(AFTER), ETH: setting(AFTER)}, _both(AFTER), _shown(AFTER, BEFORE))
    assert in_force_already(plan, PROMISED, {}) == {BTC}
    assert (
        in_force_already(plan, PROMISED, {BTC: AppliedChange(ProofKind.ADOPTED, APPLIED_AT)}) == frozenset()
    )
    assert in_force_already(plan, {}, {}) == frozenset(), "it is no change of the plan"
    doubtful = replace(plan, doubtful=(BTC,))
    assert in_force_already(doubtful, PROMISED, {}) == frozenset()


def _both(text: str) -> dict[Family, Known]:
    return dict.fromkeys((BTC, ETH), confirmed(text))


def _shown(btc: str, eth: str) -> Reads:
    return Reads(read(1000.0, {BTC: row(btc), ETH: row(eth)}))


def moves() -> Iterator[tuple[Setting | None, str]]:
    yield setting(BEFORE), "changed since: qtyLimit is 100, not 400"
    yield None, "no setting is in force now"
    yield setting(AFTER), "another request may have changed it"


@pytest.mark.parametrize(("now", "says"), list(moves()))
def test_a_family_that_changed_since_is_reported_with_what_changed(now: Setting | None, says: str) -> None:
    [change] = plan_of({BTC: setting(OTHER)}).changes
    applied_then = {BTC: AppliedChange(ProofKind.APPLIED, APPLIED_AT)}
    assert (
        describe_moved(replace(change, before=now), PROMISED, applied_then)
        == f"{SAID}, {says}: not sent again"
    )


def test_a_review_that_shows_a_change_as_stale_does_not_approve_it() -> None:
    """A person who answers yes to a plan with a stale family has not approved that family."""
    reads = Reads(read(1000.0, {BTC: row(OTHER), ETH: row(BEFORE)}))
    known = _both(BEFORE)
    wanted = {BTC: setting(AFTER), ETH: setting(AFTER)}
    shown = plan_of(wanted, known, reads, PlanConstraints(reviewed=PROMISED))
    again = plan_of(wanted, known, reads, PlanConstraints(reviewed=reviewed(shown)))
    assert {one.family: one.because for one in again.changes} == {BTC: HoldReason.STALE, ETH: None}
