"""Whether an account is protected right now: one word and one sentence per account.

The worst known state of a family counts, and what is not known is never reported as fine. This file
decides what counts as less protection than desired, when a live read is too old to rely on, and whether
a freeze needs a person. Nothing here decides what to write.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from reconciler.core.model import Family, first_names
from reconciler.core.monitoring.account_runtime import AccountRuntime, alive, is_current
from reconciler.core.monitoring.status import FamilyState, FamilyStatus, Status

MIN_FRESH_S = 90.0
"""A live read may always be this old: three drift checks of the default interval."""

MISSED_READS = 3
"""After this many intervals without a live read, the last one is too old to rely on."""


NOT_JUDGED = "Not known: the file that was accepted was not compared yet."


class Protection(StrEnum):
    """The protection of an account, worst first.

    EXPOSED: some family has less protection than desired, or none. UNKNOWN: live was not read lately, or an
    attempt is unanswered. FROZEN: quotes of some family stay pulled until a person resets it. TIGHTER:
    all that differs is tighter than desired. PROTECTED: all as desired.
    """

    EXPOSED = "exposed"
    UNKNOWN = "unknown"
    FROZEN = "frozen"
    TIGHTER = "tighter"
    PROTECTED = "protected"


WORST_FIRST = tuple(Protection)


@dataclass(frozen=True, slots=True)
class ProtectionResult:
    """An account's protection, the sentence that describes it, and the families it is about."""

    protection: Protection
    sentence: str
    families: tuple[Family, ...] = ()


def status_protection(status: Status | None, *, live: bool, interval_s: float) -> ProtectionResult:
    """Return the protection of an account. ``status`` None: nothing was compared yet.

    ``live`` False: the exchange is never read, so only what was last applied is known.
    ``interval_s`` is the time between two live reads.
    """
    if status is None:
        return _unknown("Not known yet: live settings have not been read.")
    unread = live and status.live_at is None
    exposed = _names(status, lambda family: exposed_family(family) and not (unread and _unheard_of(family)))
    if exposed:
        return ProtectionResult(Protection.EXPOSED, _exposed_words(exposed, status), exposed)
    doubt = _doubt(status, live=live, interval_s=interval_s)
    if doubt:
        return _unknown(f"Not known: {doubt}.")
    uncertain = _names(status, lambda family: family.state is FamilyState.UNCERTAIN)
    if uncertain:
        return _unknown(_uncertain_words(status), uncertain)
    frozen = _names(status, frozen_until_reset)
    if frozen:
        names = first_names(frozen)
        message = f"Frozen until a manual reset: {names}. Settings are no looser than desired."
        return ProtectionResult(Protection.FROZEN, message, frozen)
    differing = _names(status, _differs)
    if differing:
        return ProtectionResult(
            Protection.TIGHTER, f"Yes, and tighter than desired: {first_names(differing)}.", differing
        )
    return ProtectionResult(Protection.PROTECTED, f"Yes: {_all(len(status.families))} as the file says.")


def runtime_protection(
    runtime: AccountRuntime, status: Status | None, *, now: float, interval_s: float
) -> ProtectionResult:
    """Return the protection of a running account ``now``, for page, status, metrics and notifications.

    ``status`` is what the loop knows, None before its first comparison. A status of another file than the
    one in force is ignored. If the loop makes no progress, or did not compare lately, the result is
    UNKNOWN, but EXPOSED if that was seen last.
    """
    if status is not None and not is_current(runtime):
        return _unknown(NOT_JUDGED)
    found = status_protection(status, live=runtime.live, interval_s=interval_s)
    if found.protection is Protection.EXPOSED:
        return found
    if not alive(runtime, now):
        silent = _ago(timedelta(seconds=now - runtime.last_step_at))
        return _unknown(f"Not known: the program has made no progress for {silent}.")
    compared = timedelta(seconds=now - runtime.compared_at if runtime.compared_at is not None else 0.0)
    if found.protection is not Protection.UNKNOWN and compared > _fresh(interval_s):
        return _unknown(f"Not known: nothing was compared for {_ago(compared)}.")
    return found


def _unknown(sentence: str, families: tuple[Family, ...] = ()) -> ProtectionResult:
    return ProtectionResult(Protection.UNKNOWN, sentence, families)


def worst_of(judged: Sequence[ProtectionResult]) -> Protection:
    """Return the worst protection of several accounts; UNKNOWN where there is none."""
    found = {one.protection for one in judged}
    return next((one for one in WORST_FIRST if one in found), Protection.UNKNOWN)


def exposed_family(family: FamilyStatus) -> bool:
    """Tell whether a family is known to have less protection than desired, or none at all.

    If no read counts, what was last applied is used. A family never applied, and one whose row is gone, has
    no protection.
    """
    change = family.change
    return change is not None and family.state is not FamilyState.UNCERTAIN and change.is_exposed


def frozen_until_reset(family: FamilyStatus) -> bool:
    """Tell whether a family is frozen by a setting under which only a reset ends the freeze."""
    live = family.live
    return live is not None and live.frozen and live.setting.until_reset


def _unheard_of(family: FamilyStatus) -> bool:
    """Tell whether nothing is known of a family: this program never set it either."""
    return family.applied is None and family.live is None


def _differs(family: FamilyStatus) -> bool:
    """Tell whether what is in force is not as desired; a setting that is only to be recorded is."""
    return family.change is not None and family.change.in_force != family.desired


def _doubt(status: Status, *, live: bool, interval_s: float) -> str:
    if not live:
        return ""
    if status.live_at is None:
        return "live settings have not been read yet"
    age = status.asked_at - status.live_at
    if age > _fresh(interval_s):
        return f"live settings were last read {_ago(age)} ago"
    return ""


def _fresh(interval_s: float) -> timedelta:
    """Return how old the evidence of a protection may be."""
    return timedelta(seconds=max(MIN_FRESH_S, MISSED_READS * interval_s))


def _names(status: Status, matches: Callable[[FamilyStatus], bool]) -> tuple[Family, ...]:
    return tuple(family.family for family in status.families if matches(family))


def _uncertain_words(status: Status) -> str:
    unanswered = _names(status, lambda one: one.state is FamilyState.UNCERTAIN and not one.doubtful)
    if unanswered:
        return f"Not known: a request for {first_names(unanswered)} has no definite answer."
    doubtful = _names(status, lambda one: one.doubtful)
    return f"Not known: the last read of {first_names(doubtful)} is not proof yet; mmp reads again."


def _exposed_words(exposed: tuple[Family, ...], status: Status) -> str:
    verb = "has" if len(exposed) == 1 else "have"
    of = f"{len(exposed)} of {len(status.families)}"
    thing = "family" if len(status.families) == 1 else "families"
    return f"No: {of} {thing} {verb} less protection than the file says: {first_names(exposed)}."


def _all(number: int) -> str:
    return "the 1 family is" if number == 1 else f"all {number} families are"


def _ago(age: timedelta) -> str:
    seconds = round(age.total_seconds())
    return f"{seconds} s" if seconds < 120 else f"{seconds // 60} min"
