"""The result of an apply, family by family, and its exit status.

Decided from what was settled and from the remaining plan. A family counts as settled when this
run applied or adopted it; a family that was in sync all along is not a result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from reconciler.core.change_direction import changed_fields
from reconciler.core.model import Family
from reconciler.core.plan import Action, Change, HoldReason, Plan
from reconciler.core.reply import Reply
from reconciler.core.saved_plan import NONE_APPLIED, AppliedChanges, Reviewed, describe_moved, format_utc
from reconciler.errors import Exit, overall_status


class Outcome(StrEnum):
    """The result of one family."""

    APPLIED = "applied"
    ADOPTED = "adopted"
    REJECTED = "rejected"
    UNKNOWN = "unknown"
    HELD = "held"
    STALE = "stale"
    SKIPPED = "skipped"


SETTLED = frozenset({Outcome.APPLIED, Outcome.ADOPTED})

WAITING_HOLDS = frozenset({HoldReason.FROZEN, HoldReason.PAUSED})
"""Holds that end by themselves or by hand; if there is nothing else, nothing failed."""


@dataclass(frozen=True, slots=True)
class FamilyResult:
    """The result of one family. ``code`` is OKX's if it answered, else this program's.

    ``partly``: some of its fields were settled, and the others are held. ``earlier``: the change
    was settled by an earlier apply of the same plan file.
    """

    family: Family
    outcome: Outcome
    code: str
    message: str
    attempts: int
    partly: bool = False
    earlier: bool = False

    @property
    def settled_now(self) -> bool:
        """Whether this apply settled the family."""
        return self.outcome in SETTLED and not self.earlier


def results(
    *,
    done: Mapping[Family, Outcome],
    left: Plan | None,
    uncertain: frozenset[Family],
    refusals: Mapping[Family, Reply],
    attempts: Mapping[Family, int],
    ended: str,
    chosen: frozenset[Family] = frozenset(),
    reviewed: Reviewed | None = None,
    applied: AppliedChanges = NONE_APPLIED,
) -> tuple[FamilyResult, ...]:
    """Return one result for every family touched or left, by name.

    ``left`` is the plan at the end, ``refusals`` the exchange's replies on rejected families, ``ended``
    why the pass ended, for families that it did not reach. ``chosen`` are the families in scope: one
    that was neither settled nor shown to be in sync is unknown, never left out. ``reviewed`` is what
    an applied plan file approves, None when there is none, and ``applied`` the changes of it that were
    applied before.
    """
    remaining = {change.family: change for change in left.changes} if left else {}
    found = {
        family: FamilyResult(family, Outcome(one.how.value), ALREADY_APPLIED, one.sentence, 0, earlier=True)
        for family, one in applied.items()
        if family in _in_sync(left) & chosen
    }
    found |= {
        family: FamilyResult(family, outcome, "0", "", attempts.get(family, 0))
        for family, outcome in done.items()
    }
    for family, change in remaining.items():
        tries = attempts.get(family, 0)
        stays = _left_tighter(change, left)
        if stays:
            assert change.because is not None, "it is held"
            code, partly = change.because.value, done.get(family) in SETTLED
            found[family] = FamilyResult(family, Outcome.HELD, code, stays, tries, partly)
        elif change.because is HoldReason.STALE:
            why = describe_moved(change, reviewed or {}, applied)
            found[family] = FamilyResult(family, Outcome.STALE, "stale", why, tries)
        else:
            found[family] = _unsettled(change, family in uncertain, refusals.get(family), tries, ended)
    for family in chosen - _in_sync(left) - set(found):
        tries = attempts.get(family, 0)
        found[family] = FamilyResult(family, Outcome.UNKNOWN, "live-unknown", LIVE_UNKNOWN, tries)
    return tuple(found[family] for family in sorted(found))


def results_exit_status(
    outcomes: tuple[FamilyResult, ...], left: Plan | None, ended: Exit = Exit.DONE
) -> Exit:
    """Return the exit status of an apply that ended with ``ended`` (DONE when by itself)."""
    if ended in (Exit.HANGUP, Exit.INTERRUPTED, Exit.TERMINATED):
        return ended
    unsettled = [result for result in outcomes if result.outcome not in SETTLED]
    if unsettled and any(result.settled_now or result.partly for result in outcomes):
        return Exit.PARTLY
    waiting = (
        {change.family for change in left.changes if change.because in WAITING_HOLDS} if left else set()
    )
    sent = any(result.attempts for result in outcomes)
    return overall_status([ended, *(_status_of(result, waiting, sent) for result in unsettled)])


def _left_tighter(change: Change, left: Plan | None) -> str:
    """Return what stays tighter of a family that is held for that alone, and why; empty for any other."""
    if left is None or change.because not in _REFUSERS:
        return ""
    refused = "; ".join(one.sentence for one in left.left_tighter if one.family == change.family)
    return refused and f"{tighter_words(change)}: refused from live: {refused}"


def _in_sync(left: Plan | None) -> set[Family]:
    """Return the families a plan says are as desired; one in doubt is not, and without a plan none is."""
    return set(left.unchanged) - set(left.doubtful) if left else set()


def _unsettled(
    change: Change, uncertain: bool, refusal: Reply | None, attempts: int, ended: str
) -> FamilyResult:
    family = change.family
    if change.because is HoldReason.REJECTED and refusal is not None:
        return FamilyResult(family, Outcome.REJECTED, refusal.code, refusal.message, attempts)
    if change.action is Action.HOLD and change.because is not None:
        return FamilyResult(family, Outcome.HELD, change.because.value, hold_words(change), attempts)
    if uncertain:
        return FamilyResult(family, Outcome.UNKNOWN, "unconfirmed", UNCONFIRMED, attempts)
    return FamilyResult(family, Outcome.SKIPPED, "not-reached", ended, attempts)


def _status_of(result: FamilyResult, waiting: set[Family], sent: bool) -> Exit:
    """Return the status of one unsettled family; "stale" promises that nothing at all was sent."""
    if result.outcome is Outcome.HELD and result.family in waiting:
        return Exit.HELD
    if result.outcome is Outcome.STALE:
        return Exit.FAILED if sent else Exit.STALE
    refused = result.outcome is Outcome.HELD and result.code != HoldReason.UNREADABLE.value
    return Exit.REFUSED if refused else Exit.FAILED


ALREADY_APPLIED = "already-applied"
"""Code of a change that an earlier apply of the same plan file settled, and that is in force."""

UNCONFIRMED = "a request has no definite answer, so what is in force is not known for certain"

LIVE_UNKNOWN = "live settings were not read, so what is in force is not known"

HOLD_WORDS = {
    HoldReason.FROZEN: "frozen by the exchange: not written until the freeze ends",
    HoldReason.PAUSED: "paused",
    HoldReason.POLICY: "refused by the policy",
    HoldReason.GUARD: "would switch protection off",
    HoldReason.DRIFT_POLICY: "drifted tighter: reported, not changed back",
    HoldReason.REJECTED: "rejected by the exchange",
    HoldReason.STALE: "not as reviewed: skipped",
    HoldReason.UNREADABLE: "its live setting could not be read reliably: not written",
}
"""Why a family is held, as people read it; :func:`hold_words` adds details."""


_REFUSERS = {HoldReason.POLICY: "policy", HoldReason.GUARD: "guard"}


def tighter_words(change: Change) -> str:
    """Return which fields stay as live has them: ``qtyLimit stays 10 (live), the file says 100``.

    Empty where all fields become as the file says.
    """
    now = change.after if change.desired is not None or change.action is not Action.HOLD else change.before
    if now is None:
        return ""
    return ", ".join(
        f"{name.value} stays {now.field_text(name)} (live), the file says {change.wanted.field_text(name)}"
        for name in changed_fields(now, change.wanted)
    )


def hold_words(change: Change, *, stays_tighter: bool = False) -> str:
    """Return why a held change is held, as people read it.

    ``stays_tighter``: what is refused is only to undo what live has tighter.
    """
    assert change.because is not None, "the change is held"
    if change.because in _REFUSERS and (stays_tighter or change.is_live):
        refuser = _REFUSERS[change.because]
        if stays_tighter:
            return f"live stays tighter: the {refuser} refuses to loosen it"
        return f"live already has this value, but the {refuser} refuses to accept it"
    if change.because is HoldReason.GUARD and not change.after.disabled:
        return "would be as good as switching protection off"
    if change.because is not HoldReason.DRIFT_POLICY or not change.other_file:
        return HOLD_WORDS[change.because]
    when = "" if change.other_file_at is None else f" at {format_utc(change.other_file_at)}"
    return f"a newer settings file was applied{when}: not loosened until a new mmp apply confirms this file"
