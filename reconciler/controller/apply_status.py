"""The results and the exit status of an apply, of one account and of all."""

from __future__ import annotations

from reconciler.controller.apply_account import AccountApply
from reconciler.core.outcome import FamilyResult, results, results_exit_status
from reconciler.core.saved_plan import Reviewed
from reconciler.errors import Exit, overall_status


def apply_exit_status(run: AccountApply, outcomes: tuple[FamilyResult, ...]) -> Exit:
    """Return the exit status of one account's apply."""
    ended = run.failure.exit_status if run.failure else Exit.DONE
    if run.finished and run.rules.missing is not None:
        return Exit.INVALID  # even after some requests were sent: the policy needs attention first
    return results_exit_status(outcomes, run.remaining_plan, ended)


def combined_status(
    statuses: list[Exit], outcomes: list[tuple[FamilyResult, ...]], *, missing: bool = False
) -> Exit:
    """Return the status of all accounts: partly, once one settled a family and another is not done.

    ``missing``: a policy is missing, and that is all that is wrong with the accounts that are invalid.
    """
    if len(statuses) == 1:
        return statuses[0]
    if missing and Exit.INVALID in statuses and set(statuses) <= {Exit.DONE, Exit.INVALID}:
        return Exit.INVALID
    settled = any(result.settled_now for text in outcomes for result in text)
    if Exit.PARTLY in statuses or (settled and set(statuses) != {Exit.DONE}):
        return Exit.PARTLY
    return overall_status(statuses)


def account_results(
    run: AccountApply, signalled: Exit | None, promised: Reviewed | None
) -> tuple[FamilyResult, ...]:
    """Return the result of every family of one account."""
    memory = run.memory
    return results(
        done=memory.done,
        left=run.remaining_plan,
        uncertain=run.result.uncertain if run.result else frozenset(),
        refusals={family: one.reply for family, one in memory.rejected.items()},
        attempts=memory.attempts,
        ended=_why_not_reached(run, signalled),
        chosen=run.chosen,
        reviewed=promised,
        applied=memory.applied,
    )


def _why_not_reached(run: AccountApply, signalled: Exit | None) -> str:
    if signalled is not None:
        return "stopped by a signal before its turn"
    return run.failure.message if run.failure else ""
