"""A state whose rows were copied to another state: it is no longer written."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from reconciler.core.saved_plan import format_utc
from reconciler.errors import StateUnavailable
from reconciler.store.rows import StateRow


@dataclass(frozen=True, slots=True)
class MoveTarget:
    """Where the rows of a state are copied to: the place, its id, and when the copy was complete.

    ``at`` is None while it is not known to be complete.
    """

    place: str
    id: str
    at: datetime | None = None


def move_target(row: StateRow) -> MoveTarget | None:
    """Return where the rows of a state are copied to; None while it is in use."""
    if not row.moved_to_id:
        return None
    at = datetime.fromisoformat(row.moved_wall) if row.moved_wall else None
    return MoveTarget(row.moved_to, row.moved_to_id, at)


def state_moved(place: str, moved: MoveTarget) -> StateUnavailable:
    """Return the error for a write to a state that was moved, or whose copy is not complete yet."""
    if moved.at is None:
        message = (
            f"a copy of the state {place} to {moved.place} is under way or was interrupted: nothing is"
            " written to the file, and what is there may not be complete"
        )
        hint = (
            "wait until the copy is complete; if it was interrupted, run the same `mmp state copy` again to"
            " complete it, or with --undo to use the file again"
        )
        return StateUnavailable("state-moving", message, hint)
    message = (
        f"the state {place} was moved to {moved.place} at {format_utc(moved.at)}: nothing is written to it"
    )
    return StateUnavailable("state-moved", message, f"use --state {moved.place}")
