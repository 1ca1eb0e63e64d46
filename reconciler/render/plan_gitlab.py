"""Plans for GitLab's infrastructure report widget: three counts, nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.core.change_direction import Direction
from reconciler.core.model import Family
from reconciler.core.plan import Action, Change, Plan, Reason


def plans_gitlab(plans: Sequence[Plan]) -> dict[str, int]:
    """Return the counts of changes in ``plans``: ``create`` is new or enabled, ``delete`` is disabled.

    ``update`` is every other change. Requests count, and adoptions that change the accepted setting.
    Changes that are held, only recorded or unmanaged do not count. A family whose removal from the file is
    refused counts as ``delete``: the plan has no change for it.
    """
    changes = (change for plan in plans for change in plan.changes)
    kinds = [_kind(one) for one in changes if one.action is not Action.HOLD and one.is_changed]
    kinds += ["delete" for plan in plans for _ in _refused_without_change(plan)]
    return {kind: kinds.count(kind) for kind in ("create", "update", "delete")}


def _refused_without_change(plan: Plan) -> set[Family]:
    """Return the families that are refused and have no change in the plan."""
    return {refusal.family for refusal in plan.refusals} - {change.family for change in plan.changes}


def _kind(change: Change) -> str:
    if change.direction is Direction.DISABLE:
        return "delete"
    created = change.reason is Reason.NEW or change.direction is Direction.ENABLE
    return "create" if created else "update"
