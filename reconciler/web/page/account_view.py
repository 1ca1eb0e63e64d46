"""The content of the status page for one account: every sentence, number and command, in page order.

The wording is decided here and in ``families.py``. Unknown values are never shown as good, and every
statement about the future names its conditions. Nothing here is markup.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from reconciler.core.monitoring.account_runtime import (
    SHOWN_S,
    AccountRuntime,
    FileInForce,
    FileState,
    NeverValid,
    Outage,
    RecentError,
    RecentRequest,
    RejectedFile,
    alive,
    content_in_force,
    is_current,
    rejection,
)
from reconciler.core.monitoring.protection import ProtectionResult
from reconciler.core.monitoring.status import Status
from reconciler.core.plan import HoldReason
from reconciler.core.problems import Problem
from reconciler.core.reply import READ_AGAIN, READ_BACK, Reply
from reconciler.render.error_catalogue import ERRORS
from reconciler.render.values import count, damaged_records, families, format_due
from reconciler.web.latest_state import AccountSnapshot
from reconciler.web.page import labels
from reconciler.web.page.charts import PacingPicture, pacing_picture
from reconciler.web.page.families import (
    DayLine,
    DifferingLine,
    FrozenLine,
    PageTime,
    day_lines,
    differing_lines,
    frozen_lines,
    pause_line,
)

MAX_PROBLEMS_SHOWN = 20
"""Problems of a rejected file that are listed; mmp validate lists them all."""

POLICY = "Policy"
"""The name of the policy file on the page."""

DAYS_SHOWN = 12
"""Families whose timeline is always shown; with more families, the calm ones are folded."""

PageHintFor = Callable[[RecentError], str]
"""Returns what to do about a problem, empty if there is no hint for its code."""


@dataclass(frozen=True, slots=True)
class Headline:
    """The answer to "am I protected right now?"."""

    sign: labels.StatusLabel
    sentence: str


@dataclass(frozen=True, slots=True)
class FileView:
    """A file in force, and what is wrong with a newer one (``refused`` is empty if nothing is).

    ``sha256`` and ``accepted`` are empty if no file was ever in force.
    """

    name: str
    path: str
    sha256: str
    accepted: str
    refused: str
    problems: tuple[Problem, ...]
    more: str


@dataclass(frozen=True, slots=True)
class RequestLine:
    """One request of the last minute."""

    at: str
    family: str
    sign: labels.StatusLabel


@dataclass(frozen=True, slots=True)
class PacingView:
    """The pacing window in words and as a chart."""

    text: str
    minute: str
    requests: tuple[RequestLine, ...]
    picture: PacingPicture


@dataclass(frozen=True, slots=True)
class AccountView:
    """The complete content of the page for one account."""

    anchor: str
    name: str
    place: str
    simulator: bool
    headline: Headline
    notices: tuple[str, ...]
    frozen: tuple[FrozenLine, ...]
    frozen_text: str
    differing: tuple[DifferingLine, ...]
    differing_text: str
    pauses: tuple[tuple[str, str], ...]
    unmanaged: str
    files: tuple[FileView, ...]
    no_policy: bool
    pacing: PacingView
    days_text: str
    days: tuple[DayLine, ...]
    calm_days: tuple[DayLine, ...]
    calm_text: str
    errors: tuple[tuple[RecentError, str], ...]


def hint_from_glossary(error: RecentError) -> str:
    """Return what to do about an error: ours from the glossary, for the exchange's a pointer to explain."""
    code, known = error.code, ERRORS.get(error.code)
    if known is not None:
        return READ_AGAIN if error.asked and known.remedy == READ_BACK else known.remedy
    return f"mmp explain {code} explains it and says what to do." if code.isalnum() else ""


def account_view(
    snapshot: AccountSnapshot,
    status: Status | None,
    protection: ProtectionResult,
    *,
    moment: PageTime,
    hint_for: PageHintFor,
) -> AccountView:
    """Return the content of the page for one account, from its ``status`` and ``protection``."""
    runtime, wall = snapshot.runtime, moment.wall
    moment = replace(moment, delay=_delay(runtime, moment))
    account, environment = runtime.desired.account, runtime.desired.environment.value
    frozen = frozen_lines(status) if status else ()
    differing = differing_lines(status, runtime, moment) if status else ()
    days = day_lines(status, snapshot.timeline.spans, wall) if status else ()
    shown_days, folded = _folded(days)
    return AccountView(
        anchor=labels.anchor(account, environment),
        name=labels.truncated(f"{account} ({environment})"),
        place=_place(snapshot),
        simulator=runtime.simulator,
        headline=Headline(labels.PROTECTIONS[protection.protection], protection.sentence),
        notices=tuple(_notices(runtime, moment)),
        frozen=frozen,
        frozen_text=_frozen_words(status, frozen),
        differing=differing,
        differing_text=_differing_words(status, differing, moment),
        pauses=_other_pauses(status, wall),
        unmanaged=_unmanaged(status),
        files=tuple(_files(runtime, wall)),
        no_policy=runtime.policy is None,
        pacing=_pacing(runtime, status, moment),
        days_text=_days_sentence(status, snapshot.timeline.damaged),
        days=shown_days,
        calm_days=folded,
        calm_text=f"{families(len(folded))} always in sync while observed" if folded else "",
        errors=tuple((error, hint_for(error)) for error in runtime.errors),
    )


def _days_sentence(status: Status | None, damaged: int) -> str:
    if status is None:
        return "Not known yet."
    left_out = f" {damaged_records(damaged)}." if damaged else ""
    return f"State and settings{_as_of(status)}.{left_out}"


def _folded(days: tuple[DayLine, ...]) -> tuple[tuple[DayLine, ...], tuple[DayLine, ...]]:
    """Return the days always shown, those not in sync first, and the folded days; few are all shown."""
    if len(days) <= DAYS_SHOWN:
        return days, ()
    eventful = sorted((day for day in days if not day.calm), key=lambda day: day.in_sync)
    return tuple(eventful), tuple(day for day in days if day.calm)


def _place(snapshot: AccountSnapshot) -> str:
    runtime = snapshot.runtime
    owner = f", run by {labels.truncated(str(snapshot.owner))}" if snapshot.owner else ""
    who = f"User ID {labels.truncated(runtime.uid)}" if runtime.uid else "User ID not known yet"
    return f"{who} at {labels.truncated(runtime.host)}{owner}"


def _delay(runtime: AccountRuntime, moment: PageTime) -> str:
    """Write what must happen before any request is sent; empty if nothing must."""
    if not alive(runtime, moment.now):
        return "Not known: the program makes no progress."
    if runtime.outage is not None:
        return f"After the exchange answers again{_next_try(runtime.outage, moment, '; next try ')}."
    if runtime.state_failed is not None:
        return "After the state can be used again."
    if runtime.controller is not None:
        return "When the process that controls the account decides."
    if runtime.state_locked is not None:
        return "After the other process releases the state."
    return ""


def _next_try(outage: Outage, moment: PageTime, words: str) -> str:
    retry_at = outage.failed.retry_at
    return "" if retry_at is None else f"{words}{moment.words(retry_at)}"


def _notices(runtime: AccountRuntime, moment: PageTime) -> list[str]:
    """Return the notices that limit how far the rest of the page is valid."""
    notices = []
    if not alive(runtime, moment.now):
        at = moment.words(runtime.last_step_at)
        notices.append(
            f"The program last made progress at {at}. Restart it. Everything below is from that time."
        )
    if not is_current(runtime):
        notices.append("A newer file is in use. Everything below is about the previous file.")
    if runtime.outage is not None:
        notices.append(_outage_words(runtime.outage, moment))
    if runtime.terminal_error is not None:
        notices.append(f"Nothing can be written: {_reply_words(runtime.terminal_error.reply)}.")
    if runtime.state_failed is not None:
        notices.append(state_unavailable_words(runtime.state_failed.message))
    if runtime.state_locked is not None:
        notices.append(f"Waiting for another process: {labels.truncated(runtime.state_locked.message)}")
    if runtime.controller is not None:
        who = labels.truncated(runtime.controller.who)
        notices.append(f"Standby, this process writes nothing: the account is controlled by {who}.")
    if not runtime.live:
        notices.append(
            "The exchange is never read here. Everything below is based on the last applied settings."
        )
    return notices


def state_unavailable_words(why: str) -> str:
    """Write that the state cannot be used and why; empty if ``why`` is empty."""
    return f"The state cannot be used now, so nothing is sent: {labels.truncated(why)}" if why else ""


def _reply_words(reply: Reply) -> str:
    code = f" [OKX {reply.code}]" if reply.code.isdigit() else ""
    return f"{labels.truncated(reply.text)}{code}"


def _outage_words(outage: Outage, moment: PageTime) -> str:
    times = "once" if outage.failures == 1 else f"{outage.failures} times"
    since = labels.moment_words(outage.since_wall, moment.wall)
    again = _next_try(outage, moment, " Next try ") or " mmp tries again within a minute"
    return f"{labels.truncated(outage.failed.doing).capitalize()} has failed {times} since {since}.{again}."


def _frozen_words(status: Status | None, frozen: Sequence[FrozenLine]) -> str:
    if status is None or (status.live_at is None and not frozen):
        return "Not known: live settings have not been read."
    needs = sum(line.needs_person for line in frozen)
    if not frozen:
        return f"Nothing is frozen{_as_of(status)}."
    if not needs:
        return "No action is needed."
    return f"{families(needs)} {'needs' if needs == 1 else 'need'} a manual reset."


def _differing_words(status: Status | None, differing: Sequence[DifferingLine], moment: PageTime) -> str:
    if status is None:
        return "Not known yet."
    if not differing:
        doubtful = [one.family for one in status.families if one.doubtful]
        read_again = f"Not known for {labels.names(doubtful)}: it is read again."
        return read_again if doubtful else f"Nothing differs{_as_of(status)}."
    held = sum(line.advice is not None or line.when == "Held." for line in differing)
    text = f"{len(differing)} of {families(len(status.families))}."
    if held < len(differing) and not moment.delay and status.eta_s >= 1:
        text += f" The last one is due {format_due(status.eta_s)}."
    return f"{text} What is in force → what the file says:"


def _as_of(status: Status) -> str:
    if status.live_at is None:
        return " from what was last applied"
    age = (status.asked_at - status.live_at).total_seconds()
    return f", as read from the exchange {labels.relative_time(-age)}" if age >= 1 else ", as read just now"


def _other_pauses(status: Status | None, wall: datetime) -> tuple[tuple[str, str], ...]:
    """Return the pauses that are not shown beside a family that differs."""
    if status is None:
        return ()
    differing = {
        one.family for one in status.families if one.change and one.change.because is HoldReason.PAUSED
    }
    return tuple(
        (one.family, pause_line(one, wall)) for one in status.pauses if one.family not in differing
    )


def _unmanaged(status: Status | None) -> str:
    if status is None or not status.unmanaged:
        return ""
    frozen = [family for family, row in status.unmanaged.items() if row.frozen]
    text = f"Live, but not in the file and never changed: {labels.names(list(status.unmanaged))}."
    return f"{text} Frozen of these: {labels.names(frozen)}." if frozen else text


def _files(runtime: AccountRuntime, wall: datetime) -> list[FileView]:
    desired, policy = runtime.desired, runtime.policy
    settings = runtime.config or FileInForce(desired.path, desired.sha256)
    return [file_view("Settings", settings, wall), *([file_view(POLICY, policy, wall)] if policy else [])]


def file_view(name: str, file: FileState, wall: datetime) -> FileView:
    """Return the content of the page for one file, as of ``wall``."""
    content, rejected = content_in_force(file), rejection(file)
    accepted_at = content.accepted_at if content else None
    problems = rejected.problems if rejected else ()
    more = len(problems) - MAX_PROBLEMS_SHOWN
    return FileView(
        name=name,
        path=labels.truncated(file.path),
        sha256=content.sha256[:12] if content else "",
        accepted=f"accepted {labels.moment_words(accepted_at, wall)}" if accepted_at else "",
        refused=_rejected(name, rejected, wall) if rejected else "",
        problems=problems[:MAX_PROBLEMS_SHOWN],
        more=f"and {more} more: mmp validate lists them" if more > 0 else "",
    )


def _rejected(name: str, file: RejectedFile, wall: datetime) -> str:
    """Write that a file was rejected and when, and what applies until it is corrected."""
    at = labels.moment_words(file.rejected_at, wall)
    if name == POLICY:
        checks = "Only the guard" if isinstance(file, NeverValid) else "The policy above"
        return (
            f"Cannot be used since {at}. Changes that loosen or disable are held until this is corrected. "
            f"{checks} checks other changes:"
        )
    if isinstance(file, NeverValid):
        return f"Invalid since {at}. Nothing is written for it until this is corrected:"
    return f"A newer version is invalid since {at}. The version above stays in use until this is corrected:"


def _pacing(runtime: AccountRuntime, status: Status | None, moment: PageTime) -> PacingView:
    recent = [request for request in runtime.requests if request.at > moment.now - SHOWN_S]
    at = [labels.clock(moment.wall_of(one.at), moment.wall) for one in recent]
    lines = [
        RequestLine(time, one.family, labels.ATTEMPTS[one.status])
        for time, one in zip(at, recent, strict=True)
    ]
    dots = [
        (one.at - moment.now, one.status.value, f"{line.at} {line.family}: {line.sign.word}")
        for one, line in zip(recent, lines, strict=True)
    ]
    slot_s = status.pacing.next_slot_s if status and status.pacing else None
    picture = pacing_picture(dots, slot_s=slot_s)
    return PacingView(_pacing_words(status), _minute_words(recent), tuple(reversed(lines)), picture)


def _pacing_words(status: Status | None) -> str:
    if status is None or status.pacing is None:
        return "Not known yet. Two requests can be sent in 10 s."
    pacing = status.pacing
    free = "The next can be sent now"
    if pacing.next_slot_s >= 1:
        free = f"The next can be sent {format_due(pacing.next_slot_s)}"
    spaced = " The exchange answered 50011: requests are sent 5 s apart." if pacing.spaced else ""
    return f"{pacing.counting} of 2 requests count now. {free}.{spaced}"


def _minute_words(recent: Sequence[RecentRequest]) -> str:
    if not recent:
        return "No request in the last minute."
    counts = Counter(labels.ATTEMPTS[request.status] for request in recent)
    found = [(counts[label], label) for label in labels.ATTEMPTS.values() if counts[label]]
    by_status = ", ".join(f"{number} {label.symbol} {label.word}" for number, label in found)
    return f"{count(len(recent), 'request')} in the last minute: {by_status}."
