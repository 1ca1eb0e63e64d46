"""Plans as GitLab's widget for infrastructure reports shows them: three counts, nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.core.change_direction import Direction
from reconciler.core.model import Family
from reconciler.core.plan import Action, Change, Plan, Reason


def plans_gitlab(plans: Sequence[Plan]) -> dict[str, int]:
    """Return the changes of ``plans`` counted: ``create`` is new or enabled, ``delete`` is disabled.

    ``update`` is every other one. Counted are requests, and adoptions that change what is accepted; what is
    held, only recorded or not managed is not counted. A family that must not be taken out of the file, and
    is, counts as ``delete``: no change stands for it.
    """
    changes = (change for plan in plans for change in plan.changes)
    kinds = [_kind(one) for one in changes if one.action is not Action.HOLD and one.is_changed]
    kinds += ["delete" for plan in plans for _ in _refused_alone(plan)]
    return {kind: kinds.count(kind) for kind in ("create", "update", "delete")}


def _refused_alone(plan: Plan) -> set[Family]:
    """Return the families that are refused without a change of theirs to hold."""
    return {refusal.family for refusal in plan.refusals} - {change.family for change in plan.changes}


def _kind(change: Change) -> str:
    if change.direction is Direction.DISABLE:
        return "delete"
    created = change.reason is Reason.NEW or change.direction is Direction.ENABLE
    return "create" if created else "update"
