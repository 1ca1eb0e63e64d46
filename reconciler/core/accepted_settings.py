"""The accepted settings of one family: what last passed the guard, and what passed it before.

This file decides what the record of accepted settings means: which one counts now, which of the earlier
ones may still be what is live, and what was accepted a while ago. It does not decide what passes the
guard. A change of the file is measured from the accepted setting, never from a value that was set outside
of this program.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from reconciler.core.live_evidence import last_proof, open_attempts
from reconciler.core.model import Acceptance, Known, Setting

History = tuple[Acceptance, ...]
"""The accepted settings of one family, oldest first."""

MAX_WINDOW = timedelta(days=7)
"""The longest time for which a policy may look back."""

RETENTION = MAX_WINDOW + timedelta(days=1)
"""Every accepted setting stays on record for so long: a day more than MAX_WINDOW, since clocks differ."""

MIN_RETAINED = 5
"""So many of a family stay on record whatever their age, for the history."""


def accepted(history: History, known: Known) -> Setting | None:
    """Return the accepted setting; None: none is on record."""
    entries = history or _implied(known)
    return entries[-1].setting if entries else None


def may_be_live(history: History, known: Known) -> tuple[Setting, ...]:
    """Return the accepted settings that may be live although only this program wrote.

    The newest one; earlier ones, as long as nothing proved that a request of a later one took effect; and
    those of which a request has no definite answer, because it may take effect late.
    """
    entries, proof = history or _implied(known), last_proof(known)
    proven = -1 if proof is None else proof.attempt
    unanswered = [one.attempt for one in open_attempts(known)]
    found = [entries[-1].setting] if entries else []
    for number, one in enumerate(entries[:-1]):
        later = entries[number + 1]
        is_unproven = later.attempt > proven
        last = later.attempt - 1 if later.requested else later.attempt
        is_open = any(one.attempt <= attempt <= last for attempt in unanswered)
        if is_unproven or is_open:
            found.append(one.setting)
    return tuple(found)


def is_unproven(history: History, known: Known) -> bool:
    """Tell whether nothing has proved yet that a request of the accepted setting took effect."""
    proof = last_proof(known)
    return bool(history) and (proof is None or proof.attempt < history[-1].attempt)


def is_sent_later(history: History, known: Known, setting: Setting) -> bool:
    """Tell whether a request of ``setting`` without a definite answer is newer than the accepted setting.

    This happens after a definite rejection of a later request of the same value withdrew its acceptance.
    """
    entries = history or _implied(known)
    return bool(entries) and any(
        one.setting == setting and one.attempt > entries[-1].attempt for one in open_attempts(known)
    )


def was_accepted(history: History, known: Known, setting: Setting) -> bool:
    """Tell whether a setting is, or was, an accepted one; others are targets that heal parts of live."""
    return any(one.setting == setting for one in history or _implied(known))


def last_enabled(history: History, known: Known) -> Setting | None:
    """Return the newest accepted setting that is enabled: an enable is measured from it."""
    settings = [one.setting for one in history or _implied(known)]
    return next((one for one in reversed(settings) if not one.disabled), None)


def at_start(history: History, wall: datetime | None, window: timedelta) -> Setting | None:
    """Return the setting that was accepted at the beginning of the last ``window``; None: nothing ever was.

    An entry whose age is unknown, or in the future, counts as within the window. A family that came on
    record within it began with its first entry. If that setting is disabled, the enabled one before it
    counts, else the one after it.
    """
    before = [number for number, one in enumerate(history) if _is_older(one, wall, window)]
    first = before[-1] if before else 0
    enabled = [*reversed(history[: first + 1]), *history[first + 1 :]]
    settings = [one.setting for one in enabled]
    return next((one for one in settings if not one.disabled), settings[0] if settings else None)


def enabled_throughout(history: History, wall: datetime | None, window: timedelta) -> bool:
    """Tell whether the family was accepted as enabled during all of the last ``window``."""
    before = [number for number, one in enumerate(history) if _is_older(one, wall, window)]
    return bool(before) and not any(one.setting.disabled for one in history[before[-1] :])


def needed(history: History, wall: datetime) -> frozenset[int]:
    """Return the places in ``history`` that must stay on record; the others can be dropped."""
    recent = {number for number, one in enumerate(history) if not _is_older(one, wall, RETENTION)}
    older = [number for number in range(len(history)) if number not in recent]
    enabled = [number for number, one in enumerate(history) if not one.setting.disabled]
    retained = set(range(max(0, len(history) - MIN_RETAINED), len(history)))
    return frozenset(recent | retained | set(older[-1:]) | set(enabled[-1:]))


def _implied(known: Known) -> History:
    """Return what must have been accepted if only a proof and open attempts are on record.

    A published status has no more than these.
    """
    proof = last_proof(known)
    entries = [
        Acceptance(one.setting, one.attempt) for one in open_attempts(known) if one.setting is not None
    ]
    if proof is not None:
        entries.append(Acceptance(proof.setting, proof.attempt, requested=False))
    return tuple(sorted(entries, key=lambda one: (one.attempt, not one.requested)))


def _is_older(one: Acceptance, wall: datetime | None, window: timedelta) -> bool:
    return one.at is not None and wall is not None and one.at <= wall - window
