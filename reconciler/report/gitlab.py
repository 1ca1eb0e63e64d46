"""Plans as GitLab's widget for infrastructure reports shows them: three counts, nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.core.direction import Direction
from reconciler.core.plan import Change, Plan, Reason


def plans_gitlab(plans: Sequence[Plan]) -> dict[str, int]:
    """Return the requests of ``plans`` counted: ``create`` is new or enabled, ``delete`` is disabled.

    ``update`` is every other request. What is held, recorded or not managed is not a request.
    """
    kinds = [_kind(change) for plan in plans for change in plan.requests]
    return {kind: kinds.count(kind) for kind in ("create", "update", "delete")}


def _kind(change: Change) -> str:
    if change.direction is Direction.DISABLE:
        return "delete"
    created = change.reason is Reason.NEW or change.direction is Direction.ENABLE
    return "create" if created else "update"
