"""The guard through every sequence of up to three events: of file, people, policy, failures and processes.

Each sequence is played with the real loop, store, planner and renderings, and judged by an oracle that sees
events, reads and requests alone. The invariants:

a. no field stays looser than accepted for more than 75 s because of any policy;
b. accepted never moves by more than the limit without a named override, whatever live was meanwhile;
c. ``run`` makes no field looser than live unless live was accepted there;
d. no rendering says that nothing gets looser while any exposure rises.

And after a calm, everything is as the rules say, field by field.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import product
from typing import Any

import pytest

from reconciler.core import accepted_settings, family_facts, planning, policy_rules
from reconciler.core.change_direction import is_no_looser
from reconciler.core.drift_resolution import DriftPolicy
from reconciler.core.exposure import Figure, exposure, ratio, worst
from reconciler.core.family_decision import FamilyDecision
from reconciler.core.live_evidence import last_proof
from reconciler.core.model import Acceptance, Known, Setting
from reconciler.core.plan import Change
from reconciler.core.policy import ProposedChange
from reconciler.render import plan_markdown
from tests.unit.policy_oracle import S, factor, rises
from tests.unit.policy_world import EVENTS, LOST, RENDERINGS, World

Events = Sequence[str]

LEFT_OUT = {
    "file: mixed",
    "file: freeze",
    "file: off",
    "hand: previous",
    "hand: gone",
    "policy: none",
    "policy: back",
    "lost: request",
}
"""Events that are played in pairs; in sequences of three only by the long proof."""

THREE = [name for name in EVENTS if name not in LEFT_OUT]

ONCE_IN_A_ROW = {"restart", "apply", "apply --allow"}


def is_telling(events: Events) -> bool:
    """Tell whether no event of a sequence is without effect, so that a shorter one is the same."""
    file, rules = "file: first", "policy: back"
    for place, name in enumerate(events):
        if name in (file, rules):
            return False
        file = name if name.startswith("file") else file
        rules = name if name.startswith("policy") else rules
        following = events[place + 1] if place + 1 < len(events) else ""
        if name in LOST and (not following or following in LOST):
            return False
        if name in ONCE_IN_A_ROW and following == name:
            return False
    return True


def play(every: Iterable[Events], mode: DriftPolicy) -> None:
    """Play sequences; show the first few in which something is wrong."""
    wrong, played = [], 0
    for events in filter(is_telling, every):
        played += 1
        found = World(events, mode).play()
        if found:
            wrong.append(f"{', '.join(events)}: {found[0]}")
    assert wrong[:5] == [], f"{len(wrong)} of {played} sequences"


# -- all sequences -----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.unmeasured
@pytest.mark.parametrize("first", EVENTS)
@pytest.mark.parametrize("mode", DriftPolicy)
def test_every_pair_of_events(first: str, mode: DriftPolicy) -> None:
    play([(first,), *product([first], EVENTS)], mode)


@pytest.mark.slow
@pytest.mark.unmeasured
@pytest.mark.parametrize("first", THREE)
def test_every_three_of_the_most_telling_events(first: str) -> None:
    play(product([first], THREE, THREE), DriftPolicy.HEAL_LOOSENED)


@pytest.mark.proof
@pytest.mark.parametrize(("first", "second"), [*product(EVENTS, EVENTS)])
@pytest.mark.parametrize("mode", DriftPolicy)
def test_every_three_events(first: str, second: str, mode: DriftPolicy) -> None:
    play(product([first], [second], EVENTS), mode)


# -- faults that were found so -----------------------------------------------------------------------------


@pytest.mark.parametrize("events", [("file: far", "hand: far"), ("hand: off", "file: off")], ids=", ".join)
@pytest.mark.parametrize("mode", DriftPolicy)
def test_what_the_policy_refuses_is_not_adopted_either(events: Events, mode: DriftPolicy) -> None:
    """Where drift is only reported, the refused value is live and desired, and still not accepted."""
    here = World(events, mode)
    assert here.play() == []
    assert here.model.now_accepted == S(2000, 5000, 100)


def test_a_return_that_is_refused_does_not_stop_what_the_file_changes_beside_it() -> None:
    """The quantity stays as it was tightened by hand; the freeze becomes as the file says."""
    here = World(("hand: tight", "file: freeze"), DriftPolicy.HEAL)
    assert here.play() == []
    assert here.model.live == S(2000, 4000, 1)
    assert here.model.now_accepted == S(2000, 4000, 100)


# -- the oracle itself -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (S(5000, 2000, 100), S(5000, 2000, 200), 2),
        (S(10_000, 60_000, 100), S(5000, 30_000, 200), 4),
        (S(10_000, 2000, 100), S(5000, 2000, 50), 1),
        (S(5000, 2000, 100), S(5000, 1000, 100), 2),
        (S(5000, 60_000, 100), S(5000, 30_000, 100), 2),
        (S(5000, 0, 100), S(5000, 3_600_000, 100), None),
        (S(5000, 2000, 100), S(5000, 2000, 50), 1),
        (S(5000, 2000, 100), S(10_000, 4000, 50), Fraction(1, 2)),
    ],
)
def test_the_oracle_measures_as_the_page_on_the_policy_says(
    before: S, after: S, expected: Fraction | None
) -> None:
    assert factor(before, after) == expected
    assert rises(before, after) == (expected is None or expected > 1)


def test_events_without_effect_are_left_out() -> None:
    assert not is_telling(("file: first",))
    assert not is_telling(("file: up", "restart", "file: up"))
    assert not is_telling(("file: up", "lost: reply"))
    assert is_telling(("file: up", "file: first"))
    assert is_telling(("policy: strict", "policy: back"))


# -- the tests can fail ------------------------------------------------------------------------------------

History = tuple[Acceptance, ...]
Patch = pytest.MonkeyPatch


def measured_from_live(patch: Patch) -> None:
    base = property(lambda facts: facts.accepted if facts.live is None else facts.live)
    patch.setattr(family_facts.FamilyFacts, "base", base)


def last_proof_alone(patch: Patch) -> None:
    real = family_facts.family_facts

    def without_history(wanted: Any, family: Any, known: Known, *rest: Any) -> Any:
        found = real(wanted, family, known, *rest)
        return replace(found, history=(), accepted=accepted_settings.accepted((), known))

    patch.setattr(planning, "family_facts", without_history)


def unanswered_does_not_count(patch: Patch) -> None:
    def older(history: History, known: Known) -> Setting | None:
        proof = last_proof(known)
        is_open = proof is not None and len(history) > 1 and history[-1].attempt > proof.attempt
        return history[-2 if is_open else -1].setting if history else None

    patch.setattr(family_facts, "accepted", older)


def newest_alone_may_be_live(patch: Patch) -> None:
    patch.setattr(
        family_facts,
        "may_be_live",
        lambda history, known: accepted_settings.may_be_live(history, known)[:1],
    )


def all_may_be_live(patch: Patch) -> None:
    patch.setattr(family_facts, "may_be_live", lambda history, _: tuple(one.setting for one in history))


def heals_judged(patch: Patch) -> None:
    real = planning._Planner._target

    def target(self: Any, facts: Any, *, refused: bool) -> Setting | None:
        found = real(self, facts, refused=refused)
        if found is None or facts.live is None or (facts.is_change and not refused):
            return found
        judged = self._judgement([ProposedChange(facts.family, facts.live, found, True)])
        return None if judged.refusals else found

    patch.setattr(planning._Planner, "_target", target)


def no_heal_while_refused(patch: Patch) -> None:
    patch.setattr(planning._Planner, "_heals_refused", lambda _: False)


def all_fields_at_once(patch: Patch) -> None:
    def target(wanted: Setting, live: Setting | None, *_: Any, is_change: bool) -> Setting | None:
        stays = not is_change and live is not None and is_no_looser(wanted, live)
        return live if stays else wanted

    patch.setattr(planning, "target", target)


def adoptions_not_judged(patch: Patch) -> None:
    real = planning._Planner._is_proposed
    patch.setattr(
        planning._Planner,
        "_is_proposed",
        lambda self, facts: real(self, facts) and facts.live != facts.desired,
    )


def enable_resets(patch: Patch) -> None:
    for module in (planning, family_facts):
        patch.setattr(module, "last_enabled", lambda *_: None)


def returns_not_judged(patch: Patch) -> None:
    patch.setattr(planning._Planner, "_loosening_of_live", lambda *_: None)


def target_is_accepted(patch: Patch) -> None:
    real = FamilyDecision._write

    def write(*args: Any, **how: Any) -> Change:
        change = real(*args, **how)
        return replace(change, accepts=change.accepts and change.after)

    patch.setattr(FamilyDecision, "_write", write)


def heal_accepts_the_file(patch: Patch) -> None:
    real = FamilyDecision._write
    patch.setattr(
        FamilyDecision, "_write", lambda self, *args: replace(real(self, *args), accepts=self.facts.desired)
    )


def freeze_is_free(patch: Patch) -> None:
    def without(before: Setting | None, after: Setting) -> Any:
        if before is None or before.disabled or after.disabled:
            return None
        was, now = exposure(before), exposure(after)
        return worst(*(ratio(was[name], now[name]) for name in Figure))

    patch.setattr(policy_rules, "factor", without)


def says_nothing_gets_looser(patch: Patch) -> None:
    patch.setattr(plan_markdown, "_headline", lambda *_, **__: "Nothing gets looser.")


@pytest.mark.parametrize(
    ("broken", "events", "rule"),
    [
        (measured_from_live, ("file: far", "hand: open"), "target"),
        (last_proof_alone, ("file: down", "hand: mixed"), "c"),
        (unanswered_does_not_count, ("lost: request", "file: down", "file: far"), "a"),
        (newest_alone_may_be_live, ("lost: request", "file: up"), "end"),
        (all_may_be_live, ("file: up", "hand: previous"), "c"),
        (heals_judged, ("policy: strict", "hand: off"), "a"),
        (no_heal_while_refused, ("file: far", "hand: open"), "a"),
        (all_fields_at_once, ("policy: none", "hand: mixed"), "c"),
        (adoptions_not_judged, ("file: far", "hand: far"), "b"),
        (enable_resets, ("file: off", "apply --allow", "file: far"), "target"),
        (returns_not_judged, ("hand: tight", "apply"), "target"),
        (target_is_accepted, ("hand: tight", "file: freeze"), "accepted"),
        (heal_accepts_the_file, ("file: far", "hand: open"), "b"),
        (freeze_is_free, ("policy: strict", "file: freeze"), "target"),
        (says_nothing_gets_looser, ("file: up",), "d"),
    ],
)
def test_a_broken_program_is_caught(
    monkeypatch: pytest.MonkeyPatch, broken: Any, events: Events, rule: str
) -> None:
    RENDERINGS.seen.clear()
    assert World(events).play() == []
    broken(monkeypatch)
    RENDERINGS.seen.clear()
    found = World(events).play()
    RENDERINGS.seen.clear()
    assert f"({rule})" in {one.split()[0] for one in found}, found
