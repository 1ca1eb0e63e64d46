"""The content of the page for each family: freezes, differences with the time of the fix, and the timeline.

Values in, plain strings out. An entry that needs a person has the command to run.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import assert_never

from reconciler.core.apply_result import hold_words
from reconciler.core.change_direction import direction
from reconciler.core.model import Family, Field, Pause, PausedBy, Setting, format_setting
from reconciler.core.monitoring.account_runtime import AccountRuntime
from reconciler.core.monitoring.protection import exposed_family, frozen_until_reset
from reconciler.core.monitoring.state_timeline import Segment
from reconciler.core.monitoring.status import FamilyState, FamilyStatus, Status
from reconciler.core.plan import Action, Change, HoldReason, Reason
from reconciler.core.problems import escape_unprintable
from reconciler.render.policy_refusals import DEFAULT_CONFIG, allow_flags
from reconciler.render.values import format_moves
from reconciler.web.page import labels
from reconciler.web.page.charts import Share, TimelineMark, TimelinePath, columns_for, paths, shares

SHARE_WORDS = {
    TimelineMark.FAILED: "failed or not known",
    TimelineMark.DIFFERS: "differed",
    TimelineMark.FROZEN: "frozen",
    TimelineMark.IN_SYNC: "in sync",
    TimelineMark.UNWATCHED: "not observed",
}


@dataclass(frozen=True, slots=True)
class PageHint:
    """What to do, and the command for it; empty if there is none."""

    text: str
    command: str = ""


@dataclass(frozen=True, slots=True)
class FrozenLine:
    """One frozen family; ``needs_person``: it stays frozen until a manual reset."""

    family: str
    needs_person: bool
    text: str
    advice: PageHint | None


@dataclass(frozen=True, slots=True)
class DifferingLine:
    """One family that differs: the direction, the fields, and when it will be in sync or why it is held."""

    family: str
    sign: labels.StatusLabel
    values: str
    when: str
    why: str
    advice: PageHint | None


@dataclass(frozen=True, slots=True)
class DayLine:
    """One family's current state, the setting in force, and the last 24 hours as a timeline and in words.

    ``calm``: in sync now, and during all watched time.
    """

    family: str
    sign: labels.StatusLabel
    in_force: str
    columns: int
    timeline: tuple[TimelinePath, ...]
    text: str
    in_sync: bool
    calm: bool


@dataclass(frozen=True, slots=True)
class PageTime:
    """The time of the page, on the process's clock and in UTC.

    ``delay`` says what prevents the planned times; empty if nothing does.
    """

    now: float
    wall: datetime
    delay: str = ""

    def words(self, instant: float) -> str:
        """Write the time of day of an instant of the process's clock, and its distance."""
        return labels.moment_words(self.wall_of(instant), self.wall)

    def wall_of(self, instant: float) -> datetime:
        """Return the time of day of an instant of the process's clock."""
        return self.wall + timedelta(seconds=instant - self.now)


def frozen_lines(status: Status) -> tuple[FrozenLine, ...]:
    """Return the frozen families of the file, those that need a person first."""
    lines = [_frozen(family, status) for family in status.families if family.state is FamilyState.FROZEN]
    return tuple(sorted(lines, key=lambda line: not line.needs_person))


def differing_lines(status: Status, runtime: AccountRuntime, moment: PageTime) -> tuple[DifferingLine, ...]:
    """Return the families that are not proven to be as desired: least protected first, then by name."""
    differing = [family for family in status.families if family.change is not None]
    return tuple(_differing(family, status, runtime, moment) for family in sorted(differing, key=_urgency))


def day_lines(
    status: Status, timelines: Mapping[Family, tuple[Segment, ...]], wall: datetime
) -> tuple[DayLine, ...]:
    """Return a line for every family of the file, by name."""
    columns = columns_for(len(status.families))
    return tuple(
        _day(family, timelines.get(family.family, ()), wall, columns) for family in status.families
    )


def pause_line(pause: Pause, wall: datetime) -> str:
    """Write a pause for display beside the family's name: by whom, until when, and why."""
    by = labels.PAUSED[pause.by]
    return f"{by[0].lower()}{by[1:]} {_pause_words(pause, wall)}"


def protection_sign(family: FamilyStatus) -> labels.StatusLabel:
    """Return how the setting in force compares with the desired setting."""
    if family.state is FamilyState.UNCERTAIN:
        return labels.NOT_KNOWN_LABEL
    in_force = _in_force(family)
    if in_force is None:
        return labels.NO_PROTECTION if exposed_family(family) else labels.SAME_STRENGTH
    way = direction(family.desired, in_force)
    return labels.AS_DESIRED if way is None else labels.STRENGTHS[way]


def _urgency(family: FamilyStatus) -> tuple[int, Family]:
    exposed, unknown = exposed_family(family), family.state is FamilyState.UNCERTAIN
    return (0 if exposed else 1 if unknown else 2), family.family


def _frozen(family: FamilyStatus, status: Status) -> FrozenLine:
    if frozen_until_reset(family):
        command = _command("reset", family.family, status.desired.path)
        advice = PageHint("Find out first why it froze. Then run:", command)
        return FrozenLine(family.family, True, "Frozen until a manual reset.", advice)
    end = family.live.frozen_until if family.live else ""
    until = f" (the exchange says until {labels.truncated(end)})" if end else ""
    return FrozenLine(family.family, False, f"Frozen{until}. It ends by itself.", None)


def _in_force(family: FamilyStatus) -> Setting | None:
    """Return the setting in force, as far as known: live if a read counts, else the applied setting.

    A drifted family without a live row has no setting in force.
    """
    if family.live is not None:
        return family.live.setting
    return None if family.state is FamilyState.DRIFTED else family.applied


def _differing(
    family: FamilyStatus, status: Status, runtime: AccountRuntime, moment: PageTime
) -> DifferingLine:
    change = family.change
    assert change is not None
    when, why, advice = _when(change, moment), labels.REASONS[change.reason], None
    if change.because is not None:
        when = "Held."
        why, advice = _held(change, change.because, status, runtime, moment)
    return DifferingLine(family.family, protection_sign(family), _values(family), when, why, advice)


def _values(family: FamilyStatus) -> str:
    """Write each differing field with its value in force and its desired value."""
    in_force, wanted = _in_force(family), family.desired
    if in_force is None:
        return f"{_nothing(family)} → {format_setting(wanted)}"
    last = "last known " if family.state is FamilyState.UNCERTAIN else ""
    return f"{last}{format_moves(in_force, wanted) or format_setting(wanted)}"


def _nothing(family: FamilyStatus) -> str:
    return "not known" if family.state is FamilyState.UNCERTAIN else "nothing"


def _when(change: Change, moment: PageTime) -> str:
    if moment.delay:
        return moment.delay
    if change.action is Action.ADOPT and change.known_at is None:
        return "Already as desired; recorded next, without a request."
    if change.eta_s is None:
        return "When a request slot is free."
    by = labels.moment_words(moment.wall + timedelta(seconds=change.eta_s), moment.wall)
    if change.action is Action.ADOPT:
        return f"Known at {by}."
    return f"Sent again at {by}." if change.reason is Reason.UNCERTAIN else f"As desired by {by}."


def _held(
    change: Change, because: HoldReason, status: Status, runtime: AccountRuntime, moment: PageTime
) -> tuple[str, PageHint | None]:
    """Return why a family is held, and what to do about it."""
    family, path = change.family, status.desired.path
    match because:
        case HoldReason.PAUSED:
            pause = next((one for one in status.pauses if one.family == family), None)
            return _paused(pause, moment.wall), _resume(pause, family, path)
        case HoldReason.POLICY | HoldReason.GUARD:
            near_off = because is HoldReason.GUARD and not change.after.disabled
            why = labels.NEAR_OFF if near_off else labels.HOLDS[because]
            return _refused(family, why, runtime, path)
        case HoldReason.DRIFT_POLICY:
            why = f"Left as it is: {hold_words(change)}." if change.other_file else labels.HOLDS[because]
            command = _command("apply", f"--family {family}", path)
            return why, PageHint("To restore the file's settings, run:", command)
        case HoldReason.REJECTED:
            return _rejected(family, runtime, moment)
        case HoldReason.FROZEN | HoldReason.STALE | HoldReason.UNREADABLE:
            return labels.HOLDS[because], None
        case _:
            assert_never(because)


def _paused(pause: Pause | None, wall: datetime) -> str:
    if pause is None:
        return labels.HOLDS[HoldReason.PAUSED]
    left = "Paused" if pause.by is PausedBy.MANUAL else "Left"
    text = f"{labels.PAUSED[pause.by]}: not written, not even restored."
    return f"{text} {left} {_pause_words(pause, wall)}."


def _pause_words(pause: Pause, wall: datetime) -> str:
    """Write until when a pause lasts, and why; the breaker's also ends when the file's setting changes."""
    until = "it is resumed" if pause.until is None else labels.moment_words(pause.until, wall)
    if pause.by is PausedBy.BREAKER:
        until = f"the file changes its setting or {until}"
    return f"until {until}: {labels.truncated(pause.reason) or 'no reason given'}"


def _resume(pause: Pause | None, family: Family, path: str) -> PageHint:
    contested_setting = pause is not None and pause.by is PausedBy.BREAKER
    text = "Find out who changes it, then run:" if contested_setting else "To resume earlier, run:"
    return PageHint(text, _command("resume", f"--family {family}", path))


def _refused(
    family: Family, reason: str, runtime: AccountRuntime, path: str
) -> tuple[str, PageHint | None]:
    plan = runtime.compared.plan if runtime.compared else None
    refusals = [refusal for refusal in (plan.refusals if plan else ()) if refusal.family == family]
    why = f"{reason} {'; '.join(labels.truncated(refusal.sentence) for refusal in refusals)}".strip()
    if not all(refusal.overridable for refusal in refusals):
        return why, PageHint("Correct the policy file; mmp validate says where.")
    allows = allow_flags(refusals)
    command = _command("apply", f'--family {family} {allows} --reason "…"', path) if allows else ""
    return why, PageHint("Revert the change in the file. If it is intended, run:", command)


def _rejected(family: Family, runtime: AccountRuntime, moment: PageTime) -> tuple[str, PageHint | None]:
    why = labels.HOLDS[HoldReason.REJECTED]
    if rejected := runtime.rejected.get(family):
        why += f" {labels.truncated(f'[{rejected.reply.code}] {rejected.reply.message}'.strip())}"
        if rejected.retry_at is not None:
            why += f" Tried again at {moment.words(rejected.retry_at)}."
    return why, PageHint("Correct this family's entry in the file. Other families are not affected.")


def _day(family: FamilyStatus, spans: Sequence[Segment], wall: datetime, columns: int) -> DayLine:
    spent = shares(spans, wall)
    in_force = _in_force(family)
    last = "last known " if family.state is FamilyState.UNCERTAIN else ""
    return DayLine(
        family=family.family,
        sign=labels.STATES[family.state],
        in_force=_nothing(family) if in_force is None else last + _brief(in_force),
        columns=columns,
        timeline=paths(spans, wall, columns) if spans else (),
        text=_day_words(spent) if spans else "no record yet",
        in_sync=family.state is FamilyState.IN_SYNC,
        calm=family.state is FamilyState.IN_SYNC and _calm(spent),
    )


def _calm(spent: Sequence[Share]) -> bool:
    return all(stretch.mark in (TimelineMark.IN_SYNC, TimelineMark.UNWATCHED) for stretch in spent)


def _brief(setting: Setting) -> str:
    """Write a setting in short form, for a row among many: ``100 per 5s, freeze 2s``."""
    window, freeze, quantity = (setting.field_text(field) for field in Field)
    return "disabled" if setting.disabled else f"{quantity} per {window}, freeze {freeze}"


def _day_words(spent: Sequence[Share]) -> str:
    """Write the shares of the day: ``differed 12 min (2 times), in sync 23 h 48 min``."""
    return ", ".join(
        f"{SHARE_WORDS[stretch.mark]} {labels.long_duration(max(1.0, stretch.seconds))}{_times(stretch)}"
        for stretch in spent
    )


def _times(stretch: Share) -> str:
    counted = stretch.mark not in (TimelineMark.IN_SYNC, TimelineMark.UNWATCHED) and stretch.times > 1
    return f" ({stretch.times} times)" if counted else ""


def _command(verb: str, arguments: str, path: str) -> str:
    """Return a command to copy; the path is omitted if it is the default path."""
    config = "" if path == DEFAULT_CONFIG else f" -c {shlex.quote(escape_unprintable(path))}"
    return f"mmp {verb} {arguments}{config}"
