"""The status and history of an account: documents and text of the same values.

Text is read at 3 a.m.: one sentence first, then one line per family with everything that is wrong. Text
from outside (paths, hosts, the exchange's messages) is escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from reconciler.core.apply_result import hold_words
from reconciler.core.change_direction import changed_fields, direction
from reconciler.core.history_records import AcceptedRecord, AttemptRecord, ProofKind, StateCheck
from reconciler.core.model import Family, LiveRow, Pause, Setting, format_setting
from reconciler.core.monitoring.status import FamilyState, FamilyStatus, Status
from reconciler.core.plan import Action, Reason
from reconciler.core.problems import escape_unprintable
from reconciler.core.reply import AttemptStatus
from reconciler.documents.history import AccountHistory, PolicyLine
from reconciler.render import values
from reconciler.render.color import Paint, Tone, plain
from reconciler.render.policy_refusals import SHA_SHOWN


def status_text(status: Status, *, paint: Paint = plain) -> str:
    """Return the status as text: one sentence, one line per family, then the pacing window."""
    paused = (pause.family for pause in status.pauses)
    width = max(map(len, (*(family.family for family in status.families), *status.unmanaged, *paused)))
    lines = [_place(status, paint), _sentence(status, paint), ""]
    lines += [_family_line(family, width, paint) for family in status.families]
    lines += [
        paint(
            f"  {values.pad_label('·', 'unmanaged')}{family:<{width}}  {format_setting(row.setting)}",
            Tone.QUIET,
        )
        for family, row in status.unmanaged.items()
    ]
    lines += [_pause_line(pause, status.asked_at, width, paint) for pause in status.pauses]
    return "\n".join([*lines, "", *_damaged_line(status.damaged, paint), _pacing_line(status)]) + "\n"


def pauses_text(
    account: str,
    environment: str,
    pauses: Sequence[Pause],
    now: datetime,
    *,
    in_flight: Sequence[AttemptRecord] = (),
    paint: Paint = plain,
) -> str:
    """Return one line per pause in force at ``now``, or one line if there is none.

    Each request of a paused family is named that is ``in_flight`` or has no definite answer.
    """
    summary = f"{values.families(len(pauses))} paused" if pauses else "no family is paused"
    width = max((len(pause.family) for pause in pauses), default=0)
    place = paint(f"{account} ({environment})", Tone.STRONG)
    lines = [f"{place} · {summary}", *(_pause_line(pause, now, width, paint) for pause in pauses)]
    lines += [
        f"  a request for {attempt.family} ({format_setting(attempt.setting)})"
        f" {_without_answer(attempt)} and may still take effect"
        for attempt in in_flight
    ]
    return "\n".join(lines) + "\n"


def _without_answer(attempt: AttemptRecord) -> str:
    return "is in flight" if attempt.status is AttemptStatus.PENDING else "has no definite answer"


def history_text(account: str, environment: str, history: AccountHistory, *, paint: Paint = plain) -> str:
    """Return one line per attempt, adoption, override and change of the policy, newest first."""
    lines, overrides, policies = history.attempts, history.overrides, history.policies
    # No attempt shows the adoption of a new setting.
    adopted = [
        line for line in history.accepted if line.how is ProofKind.ADOPTED and line.before != line.setting
    ]
    banner = paint("SIMULATOR ", Tone.WARN) if history.simulator else ""
    numbers = {
        "attempt": len(lines),
        "adoption": len(adopted),
        "override": len(overrides),
        "policy change": len(policies),
    }
    counted = [values.count(number, thing) for thing, number in numbers.items() if number]
    summary = ", ".join([*counted, "newest first"]) if counted else "no attempt on record"
    # Policies and overrides come before the requests that they allow, so after them in newest-first order.
    rows = [(line.reserved_wall, 2, line.family, line.status.value, _attempt_words(line)) for line in lines]
    rows += [(line.at, 2, line.family, "adopted", _adoption_words(line)) for line in adopted]
    rows += [(one.at, 1, one.family, "allowed", f"{one.refusal}: {one.reason}") for one in overrides]
    rows += [(one.at, 0, Family(""), "policy", _policy_words(one)) for one in policies]
    rows.sort(key=lambda row: row[:2], reverse=True)
    width = max((len(family) for _, _, family, *_ in rows), default=0)
    output = [f"{banner}{paint(f'{account} ({environment})', Tone.STRONG)} · {summary}"]
    for at, _, family, word, text in rows:
        shown = paint(f"{word:<9}", _WORD_TONES[word]) if word in _WORD_TONES else f"{word:<9}"
        when = f"{at:%Y-%m-%d %H:%M:%S}Z"
        output.append(f"  {when}  {family:<{width}}  {shown}  {escape_unprintable(text)}")
    return "\n".join([*output, *_damaged_line(history.damaged, paint)]) + "\n"


def _damaged_line(damaged: int, paint: Paint) -> list[str]:
    return [paint(f"! {values.damaged_records(damaged)}", Tone.BAD)] if damaged else []


def check_text(state: str, found: StateCheck, now: datetime, *, paint: Paint = plain) -> str:
    """Return one line per damaged record of a state, the number of records, and the pauses at ``now``.

    If records are damaged, people must set these pauses again in a new state.
    """
    lines = [paint(f"! {escape_unprintable(sentence)}", Tone.BAD) for sentence in found.damaged]
    rows = values.count(sum(found.rows.values()), "record")
    damaged = f"{len(found.damaged)} damaged" if found.damaged else "all as they were written"
    lines.append(f"{escape_unprintable(state)} · {rows}, {damaged}")
    if found.damaged:
        width = max((len(pause.family) for *_, pause in found.paused), default=0)
        lines += [
            f"{_pause_line(pause, now, width, paint)} · {escape_unprintable(account)} ({environment})"
            for account, environment, pause in found.paused
        ]
    return "\n".join(lines) + "\n"


def frozen_words(live: LiveRow) -> str:
    """Write how long a frozen family stays frozen, according to the exchange."""
    if live.setting.until_reset:
        return "frozen until a manual reset"
    until = f" (OKX says until {escape_unprintable(live.frozen_until)})" if live.frozen_until else ""
    return f"frozen{until}"


_LOOK = {
    FamilyState.IN_SYNC: ("✓", Tone.GOOD),
    FamilyState.PENDING: ("▸", Tone.WARN),
    FamilyState.DRIFTED: ("≠", Tone.BAD),
    FamilyState.UNCERTAIN: ("?", Tone.BAD),
    FamilyState.FROZEN: ("■", Tone.BAD),
    FamilyState.HELD: ("!", Tone.WARN),
}


_UNRESOLVED = (AttemptStatus.PENDING, AttemptStatus.UNKNOWN)
_WORD_TONES = {
    "applied": Tone.GOOD,
    "rejected": Tone.BAD,
    "unknown": Tone.BAD,
    "adopted": Tone.WARN,
    "allowed": Tone.WARN,
    "policy": Tone.WARN,
}
"""The tone of a word of the history; any other word has none."""


def _place(status: Status, paint: Paint) -> str:
    simulator = paint("SIMULATOR ", Tone.WARN) if status.simulator else ""
    place = paint(f"{status.desired.account} ({status.desired.environment.value})", Tone.STRONG)
    who = " · nothing on record yet"
    if status.uid is not None:
        who = f" · uid {escape_unprintable(status.uid)} at {escape_unprintable(status.host or '?')}"
    return f"{simulator}{place}{who} · {escape_unprintable(status.desired.path)} · {_controller(status)}"


def _controller(status: Status) -> str:
    """Write which process controls the account, if any."""
    if status.owner is not None:
        return f"run by {escape_unprintable(str(status.owner))}"
    if status.controller is not None:
        return f"controlled by {escape_unprintable(str(status.controller))}"
    return "no controller runs"


def _sentence(status: Status, paint: Paint) -> str:
    behind = sum(family.change is not None for family in status.families)
    frozen = sum(family.state is FamilyState.FROZEN for family in status.families)
    rest = f"; {values.families(frozen)} frozen" if frozen else ""
    rest += f"; {_live_words(status)}."
    if behind:
        return paint(
            f"{behind} of {values.families(len(status.families))} not known to be as desired{rest}",
            Tone.BAD,
        )
    return paint(f"As desired, as far as is on record{rest}", Tone.WARN if frozen else Tone.GOOD)


def _live_words(status: Status) -> str:
    if status.live_at is None:
        return "live was never read"
    return f"live was read {_age(status.asked_at - status.live_at)}"


def _family_line(family: FamilyStatus, width: int, paint: Paint) -> str:
    symbol, tone = _LOOK[family.state]
    line = f"  {paint(values.pad_label(symbol, family.state.value), tone)}{family.family:<{width}}"
    line += f"  desired {format_setting(family.desired)}"
    line += _other_words(family)
    if family.live is not None and family.live.frozen:
        line += f" · {frozen_words(family.live)}"
    return line + _pending_words(family)


def _other_words(family: FamilyStatus) -> str:
    """Write where applied and live differ from desired, only the differing fields."""
    applied, live = family.applied, family.live.setting if family.live else None
    if applied == live != family.desired and live is not None:
        return f" · applied and live {_difference(live, family.desired)}"
    words = " · never applied" if applied is None else ""
    if applied is not None and applied != family.desired:
        words += f" · applied {_difference(applied, family.desired)}"
    if family.live is None and family.change is not None and family.change.reason is Reason.DRIFTED:
        words += " · live has no row"
    if live is not None and live != family.desired:
        words += f" · live {_difference(live, family.desired)}"
    return words


def _difference(setting: Setting, desired: Setting) -> str:
    differing = changed_fields(desired, setting)
    return ", ".join(f"{field.value} {setting.field_text(field)}" for field in differing)


def _pending_words(family: FamilyStatus) -> str:
    """Write what a plan made now would do about the family, and when."""
    change = family.change
    if change is None:
        return ""
    if change.because is not None:
        words = "" if family.live is not None and family.live.frozen else hold_words(change)
        return words and f" · held: {words}"
    if change.action is Action.ADOPT and change.known_at is None:
        return " · live is already as desired: to be recorded, no request"
    if change.eta_s is None:
        return ""
    again = "sent again" if change.reason is Reason.UNCERTAIN else "due"
    return f" · {'known' if change.action is Action.ADOPT else again} {values.format_due(change.eta_s)}"


def _pacing_line(status: Status) -> str:
    if status.pacing is None:
        return "Pacing: no request of this User ID is on record; the first one waits for one window."
    spaced = ", evenly spaced since the exchange answered 50011" if status.pacing.spaced else ""
    slot = values.format_due(status.pacing.next_slot_s)
    return f"Pacing: {status.pacing.counting} of 2 requests count, next slot {slot}{spaced}."


def _pause_line(pause: Pause, now: datetime, width: int, paint: Paint) -> str:
    until = "until it is resumed"
    if pause.until is not None:
        left_s = (pause.until - now).total_seconds()
        until = f"until {pause.until:%Y-%m-%d %H:%M:%S}Z ({values.format_due(left_s)})"
    if pause.contested is not None:
        until = f"by mmp, {until} or the file has another value"
    reason = escape_unprintable(pause.reason) or "no reason given"
    return (
        f"  {paint(values.pad_label('‖', 'paused'), Tone.WARN)}{pause.family:<{width}}  {until}: {reason}"
    )


def _attempt_words(line: AttemptRecord) -> str:
    """Write the setting, the exchange's message, and whether the setting in force is still unknown."""
    reply = f"[{line.code}] {line.message}".strip() if line.code not in ("", "0") else ""
    doubt = "not known what is in force" if line.is_open and line.status in _UNRESOLVED else ""
    result = "; ".join(filter(None, (reply, doubt)))
    return "  ".join(filter(None, (format_setting(line.setting), result)))


def _adoption_words(line: AcceptedRecord) -> str:
    if line.before is None:
        return f"{format_setting(line.setting)}  (no accepted setting before it is on record)"
    way = direction(line.before, line.setting)
    assert way is not None, "only what differs is shown"
    why = f"({way.value} from the accepted setting; live already had this value, no request)"
    return f"{values.format_moves(line.before, line.setting)}  {why}"


def _age(age: timedelta) -> str:
    seconds = age.total_seconds()
    return "just now" if seconds < 1 else f"{values.format_duration(seconds)} ago"


def _policy_words(policy: PolicyLine) -> str:
    file = f"{policy.path} (sha256 {policy.sha256[:SHA_SHOWN]})"
    if policy.reason is not None:
        return f"given up: {file}: {policy.reason}"
    return f"in use: {file}" + (
        f", replaces sha256 {policy.replaces[:SHA_SHOWN]}" if policy.replaces is not None else ""
    )
