"""Plans as GitLab's widget for infrastructure reports shows them: three counts, nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.core.direction import Direction
from reconciler.core.model import Family
from reconciler.core.plan import Change, Plan, Reason


def plans_gitlab(plans: Sequence[Plan]) -> dict[str, int]:
    """Return the requests of ``plans`` counted: ``create`` is new or enabled, ``delete`` is disabled.

    ``update`` is every other request. What is held, recorded or not managed is not a request. A family
    that must not be taken out of the file, and is, counts as ``delete``: no change stands for it.
    """
    kinds = [_kind(change) for plan in plans for change in plan.requests]
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
