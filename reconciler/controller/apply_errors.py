"""The errors that end an apply: what was not sent, why, and what to do."""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.core.plan import HoldReason, Plan
from reconciler.core.policy import GUARD_RULE, Policy
from reconciler.core.reply import Reply
from reconciler.core.saved_plan import AppliedChanges, Reviewed, describe_moved
from reconciler.errors import ChangeRefused, MmpError, PlanStale, UsageError
from reconciler.render.policy_refusals import override_command, protection_command
from reconciler.render.values import count

STOPPED = MmpError("stopped", "stopped by a signal; nothing is in flight", "run it again to continue")
"""The message of an apply that was asked to stop; its exit status is the signal's."""

PLAN_MOVED = PlanStale(
    "plan-moved",
    "nothing was sent: state or live changed after the plan was shown, so other requests would be sent",
    "run it again and review the new plan",
)
"""The message when the first plan under the lock would not send what was approved."""


def join_errors(problems: Sequence[MmpError]) -> MmpError | None:
    """Return one failure with all of ``problems``, and the code of the first; None without any."""
    if not problems:
        return None
    first = problems[0]
    message = "; and ".join(problem.message for problem in problems)
    hint = "; ".join(problem.hint for problem in problems if problem.hint)
    return type(first)(first.code, message, hint, path=first.path)


def stale_plan(plan: Plan, promised: Reviewed, applied: AppliedChanges) -> PlanStale | None:
    """Name the families that are no longer as in the plan file; None when all are."""
    text = "; ".join(
        f"{change.family}: {describe_moved(change, promised, applied)}"
        for change in plan.changes
        if change.because is HoldReason.STALE
    )
    return (
        PlanStale("plan-moved", text, "make a new plan for the families that changed, and review it")
        if text
        else None
    )


def unexpected_digest(plan: Plan, expected: str) -> PlanStale:
    """Return the failure of an apply whose plan has another digest than expected."""
    return PlanStale(
        "unexpected-plan",
        f"the plan's digest is {plan.digest}, not the expected {expected}",
        "review the new plan and pass its digest",
    )


def not_approved(plan: Plan) -> UsageError:
    """Return the failure of an apply that needs an approval and cannot ask for it."""
    requests = count(len(plan.requests), "request")
    return UsageError(
        "not-approved",
        f"nothing was sent: {requests} to send, and no terminal to ask on",
        "pass --yes to apply without being asked",
    )


def reason_missing(plan: Plan) -> UsageError:
    """Ask for the reason of the required overrides, which the history records."""
    text = "; ".join(f"{refusal.family}: {refusal.sentence}" for refusal in plan.overridden)
    return UsageError(
        "no-reason",
        f"nothing was sent, because --allow needs a --reason: {text}",
        'add --reason "…" with visible text; the history records it',
    )


def timed_out(failing: Reply | None) -> MmpError:
    """Return the failure of an apply that timed out, with its last failed reply."""
    last = f"; the last error was: {failing.message or failing.code}" if failing else ""
    return MmpError(
        "timed-out", f"not everything was settled in time{last}", "run it again, or raise --timeout"
    )


def policy_refusal(
    plan: Plan, policy: Policy | None, path: str, outcome: str = "nothing was sent"
) -> ChangeRefused:
    """Name every refused change, the rule and the numbers, and the commands that send it."""
    text = "; ".join(f"{refusal.family}: {refusal.sentence}" for refusal in plan.refusals)
    guard = all(refusal.rule == GUARD_RULE for refusal in plan.refusals)
    families = frozenset(refusal.family for refusal in plan.refusals)
    hint = f"if this is intended: {override_command(plan, families, path)}"
    if protection := protection_command(plan, path):
        hint += f"; to send only what adds protection: {protection}"
    if any(change.is_live and change.family in families for change in plan.changes):
        hint += "; to restore the accepted setting, write it into the file and apply the file"
    return ChangeRefused(
        "guard-disable" if guard else "policy",
        f"{outcome}, because the {'guard' if guard else 'policy'} refuses {text}",
        hint,
        path=policy.path if policy else None,
    )
