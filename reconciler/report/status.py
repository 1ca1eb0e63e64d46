"""The status and history of an account: documents and text of the same values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from reconciler.core.model import LiveRow, Setting
from reconciler.core.status import FamilyState, FamilyStatus, Status
from reconciler.report.documents import ETA_DIGITS, Document
from reconciler.report.tone import Paint, Tone, plain
from reconciler.report.words import count, duration, setting_words


@dataclass(frozen=True, slots=True)
class HistoryLine:
    """One attempt as people see it; ``settled_at`` None while nothing came of it yet."""

    attempt: int
    family: str
    setting: Setting
    outcome: str
    code: str
    message: str
    reserved_at: datetime
    settled_at: datetime | None
    open: bool


def status_document(status: Status) -> Document:
    """Return the ``mmp/status/1`` document."""
    return {
        "format": "mmp/status/1",
        "account": status.desired.account,
        "environment": status.desired.environment.value,
        "uid": status.uid,
        "host": status.host,
        "simulator": status.simulator,
        "config": {"path": status.desired.path, "sha256": status.desired.sha256},
        "asked_at": _iso(status.asked_at),
        "live_at": _iso(status.live_at),
        "in_sync": status.in_sync,
        "eta_seconds": round(status.eta_s, ETA_DIGITS),
        "families": [_family_document(family, status.asked_at) for family in status.families],
        "unmanaged": [{"family": family, "live": _live(row)} for family, row in status.unmanaged.items()],
        "pacing": None
        if status.pacing is None
        else {
            "counting": status.pacing.counting,
            "next_slot_seconds": round(status.pacing.next_slot_s, ETA_DIGITS),
            "spaced": status.pacing.spaced,
        },
    }


def status_text(status: Status, *, paint: Paint = plain) -> str:
    """Return the status as text: one sentence, one line per family, then the pacing window."""
    width = max(len(family.family) for family in status.families)
    lines = [_head(status, paint), _sentence(status, paint), ""]
    lines += [_family_line(family, width, paint) for family in status.families]
    lines += [
        paint(f"  · unmanaged  {family}: {setting_words(row.setting)}", Tone.QUIET)
        for family, row in status.unmanaged.items()
    ]
    return "\n".join([*lines, "", _pacing_line(status)]) + "\n"


def history_document(account: str, environment: str, lines: Sequence[HistoryLine]) -> Document:
    """Return the ``mmp/history/1`` document, newest attempt first."""
    return {
        "format": "mmp/history/1",
        "account": account,
        "environment": environment,
        "attempts": [
            {
                "attempt": line.attempt,
                "family": line.family,
                "setting": line.setting.wire(),
                "outcome": line.outcome,
                "code": line.code,
                "message": line.message,
                "reserved_at": _iso(line.reserved_at),
                "settled_at": _iso(line.settled_at),
                "open": line.open,
            }
            for line in lines
        ],
    }


def history_text(account: str, environment: str, lines: Sequence[HistoryLine]) -> str:
    """Return one line per attempt, newest first."""
    head = f"{account} ({environment}) · {count(len(lines), 'attempt')}, newest first"
    width = max((len(line.family) for line in lines), default=0)
    return "\n".join([head, *(_history_line(line, width) for line in lines)]) + "\n"


_LOOK = {
    FamilyState.IN_SYNC: ("✓", Tone.GOOD),
    FamilyState.PENDING: ("▸", Tone.WARN),
    FamilyState.DRIFTED: ("≠", Tone.BAD),
    FamilyState.UNCERTAIN: ("?", Tone.BAD),
    FamilyState.FROZEN: ("■", Tone.BAD),
    FamilyState.HELD: ("!", Tone.WARN),
}


def _head(status: Status, paint: Paint) -> str:
    simulator = paint("SIMULATOR ", Tone.WARN) if status.simulator else ""
    place = paint(f"{status.desired.account} ({status.desired.environment.value})", Tone.STRONG)
    who = f" · uid {status.uid} at {status.host}" if status.uid else " · nothing on record yet"
    return f"{simulator}{place}{who} · {status.desired.path}"


def _sentence(status: Status, paint: Paint) -> str:
    behind = [family for family in status.families if family.state is not FamilyState.IN_SYNC]
    told = _live_words(status)
    if not behind:
        return paint(f"As desired, as far as is on record; {told}.", Tone.GOOD)
    number = f"{len(behind)} of {count(len(status.families), 'family').replace('familys', 'families')}"
    return paint(f"{number} not known to be as desired; {told}.", Tone.BAD)


def _live_words(status: Status) -> str:
    if status.live_at is None:
        return "live was never read"
    return f"live was read {_age(status.asked_at - status.live_at)}"


def _family_line(family: FamilyStatus, width: int, paint: Paint) -> str:
    symbol, tone = _LOOK[family.state]
    line = f"  {paint(f'{symbol} {family.state.value:<9}', tone)}  {family.family:<{width}}"
    line += f"  desired {setting_words(family.desired)}"
    if family.applied is None:
        line += " · never applied"
    elif family.applied != family.desired:
        line += f" · applied {setting_words(family.applied)}"
    if family.live is not None and family.live.setting != family.desired:
        line += f" · live {setting_words(family.live.setting)}"
    return line + _frozen_words(family.live) + _due_words(family)


def _frozen_words(live: LiveRow | None) -> str:
    if live is None or not live.frozen:
        return ""
    if live.setting.until_reset:
        return " · frozen until someone resets it"
    return " · frozen" + (f" (until {live.frozen_until})" if live.frozen_until else "")


def _due_words(family: FamilyStatus) -> str:
    change = family.change
    if change is None or change.eta_s is None:
        return ""
    return f" · due {'now' if change.eta_s < 0.5 else 'in ' + duration(change.eta_s)}"


def _pacing_line(status: Status) -> str:
    if status.pacing is None:
        return "Pacing: no request of this User ID is on record; the first one waits for one window."
    next_slot = duration(status.pacing.next_slot_s)
    spaced = ", evenly spaced since the exchange said 50011" if status.pacing.spaced else ""
    slot = "now" if next_slot == "now" else f"in {next_slot}"
    return f"Pacing: {status.pacing.counting} of 2 requests count, next slot {slot}{spaced}."


def _history_line(line: HistoryLine, width: int) -> str:
    told = f"[{line.code}] {line.message}".strip() if line.outcome != "applied" and line.code else ""
    doubt = "; not known what is in force" if line.open and line.outcome in ("pending", "unknown") else ""
    when = f"{line.reserved_at:%Y-%m-%d %H:%M:%S}Z"
    text = f"  {when}  {line.family:<{width}}  {line.outcome:<9} {setting_words(line.setting)}"
    return f"{text}  {told}{doubt}".rstrip()


def _family_document(family: FamilyStatus, asked_at: datetime) -> Document:
    change = family.change
    return {
        "family": family.family,
        "state": family.state.value,
        "desired": family.desired.wire(),
        "applied": family.applied.wire() if family.applied else None,
        "live": _live(family.live),
        "pending": None
        if change is None
        else {
            "action": change.action.value,
            "reason": change.reason.value,
            "direction": change.direction.value if change.direction else None,
            "because": change.because.value if change.because else None,
            "due_at": _due_at(change.eta_s, asked_at),
        },
    }


def _live(row: LiveRow | None) -> Document | None:
    if row is None:
        return None
    return {**row.setting.wire(), "mmpFrozen": row.frozen, "mmpFrozenUntil": row.frozen_until}


def _due_at(eta_s: float | None, asked_at: datetime) -> str | None:
    return None if eta_s is None else _iso(asked_at + timedelta(seconds=eta_s))


def _iso(wall: datetime | None) -> str | None:
    if wall is None:
        return None
    return wall.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _age(age: timedelta) -> str:
    seconds = age.total_seconds()
    return "just now" if seconds < 1 else f"{duration(seconds)} ago"
