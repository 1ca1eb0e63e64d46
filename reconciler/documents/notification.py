"""Notifications as JSON documents for a webhook: one sentence for a chat, and the facts beside it.

Slack and Mattermost display ``text``, so input from outside must not become markup: no mention, no link.
Values are the wire strings. The same notification gives the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import assert_never

from reconciler.core.events import ControlledElsewhere, SettingRejected, StateFailed, StateLockTimedOut
from reconciler.core.model import LiveRow, Pause, format_setting
from reconciler.core.monitoring.alerts import Alert, AlertKind
from reconciler.core.monitoring.notifications import Notification, Transition
from reconciler.core.monitoring.protection import Protection, ProtectionResult
from reconciler.core.monitoring.runtime import (
    AccountRuntime,
    NeverValid,
    NewerRejected,
    Outage,
    RejectedFile,
)
from reconciler.core.outcome import UNCONFIRMED, hold_words
from reconciler.core.plan import Action, Change, HoldReason, Reason, format_change
from reconciler.core.problems import escape_unprintable, first_error
from reconciler.core.reply import Reply
from reconciler.documents.plan import Document

MAX_NAMED = 100
"""Families that a document names; the rest are counted. It limits a message to a few kilobytes."""

MAX_NAMES_IN_TEXT = 3
"""Families that a sentence names."""

MAX_TEXT_CHARS = 600
"""Maximum length of the sentence: chats cut off or reject longer ones."""

_HARMLESS = str.maketrans({"<": "‹", ">": "›", "@": "＠", "&": "＆", "`": "'"})
"""Characters that a chat reads as a mention or emphasis, and their replacements."""

_NO_LINKS = (("://", ": //"), ("](", "] ("))
"""Matches what a chat reads as a link: bare, or with its own text."""

Advice = Callable[[Reply], str]
"""Returns what to do about a reply, one sentence, "" when there is nothing."""


@dataclass(frozen=True, slots=True)
class NoticeText:
    """The text about one alert: a sentence, the reason, and what to do next."""

    sentence: str
    reason: str | None = None
    hint: str | None = None
    before: dict[str, str] | None = None
    after: dict[str, str] | None = None


@dataclass(frozen=True, slots=True)
class NoticeSubject:
    """The subject of a notification: an account, or (both None) a file from which no account runs."""

    account: str | None
    environment: str | None
    host: str
    simulator: bool
    path: str


NO_ACCOUNT = ProtectionResult(Protection.UNKNOWN, "Not known: no account runs from this file.")
"""The protection of the unknown account of a file that was never valid."""


def notification_document(
    notice: Notification, runtime: AccountRuntime, judged: ProtectionResult, *, at: datetime, advice: Advice
) -> Document:
    """Return the ``mmp/notice/1`` document of a notification that is sent ``at`` that time of day."""
    said = _over(notice, runtime) if notice.status is Transition.RESOLVED else _began(notice, advice)
    return _document(notice, said, _whose(runtime), judged, at)


def file_notification_document(
    notice: Notification, path: str, *, gone: bool, host: str, simulator: bool, at: datetime
) -> Document:
    """Return the ``mmp/notice/1`` document of a settings file from which no account runs.

    ``gone``: the alert is resolved because the file was removed, not because the file is valid.
    """
    ended = f"{path} is gone." if gone else f"{path} is valid and in force."
    said = NoticeText(ended) if notice.status is Transition.RESOLVED else _began(notice, lambda _: "")
    return _document(notice, said, NoticeSubject(None, None, host, simulator, path), NO_ACCOUNT, at)


def _document(
    notice: Notification, said: NoticeText, whose: NoticeSubject, judged: ProtectionResult, at: datetime
) -> Document:
    document: Document = {
        "format": "mmp/notice/1",
        "id": _id(notice, whose, at),
        "kind": notice.kind.value,
        "status": notice.status.value,
        "severity": notice.severity.value,
        "account": whose.account,
        "environment": whose.environment,
        "simulator": whose.simulator,
        "host": whose.host,
        "family": notice.families[0] if len(notice.families) == 1 else None,
        "text": _text(said, notice, whose),
        "since": _iso(notice.since),
        "at": _iso(at),
        "count": notice.count,
    }
    return document | {"details": _details(notice, said, judged)}


def _whose(runtime: AccountRuntime) -> NoticeSubject:
    desired = runtime.desired
    environment = desired.environment.value
    return NoticeSubject(desired.account, environment, runtime.host, runtime.simulator, desired.path)


def _details(notice: Notification, said: NoticeText, judged: ProtectionResult) -> Document:
    alone = len(notice.families) == 1
    return {
        "code": notice.alert.code,
        "reason": said.reason,
        "hint": said.hint,
        "before": said.before if alone else None,
        "after": said.after if alone else None,
        "families": list(notice.families[:MAX_NAMED]),
        "more_families": max(0, len(notice.families) - MAX_NAMED),
        "protection": judged.protection.value,
        "protection_text": judged.sentence,
    }


def _id(notice: Notification, whose: NoticeSubject, at: datetime) -> str:
    """Return an id that is the same for every delivery of one notification, and different for any other."""
    account = (whose.account, whose.environment or "") if whose.account else (whose.path, "")
    facts = (*account, whose.host, notice.kind, notice.status, at.isoformat())
    return hashlib.sha256("\n".join((*facts, *notice.families)).encode()).hexdigest()[:32]


def _text(said: NoticeText, notice: Notification, whose: NoticeSubject) -> str:
    """Write the text in one line: a chat shows only this line."""
    banner = "SIMULATOR " if whose.simulator else ""
    whom = f"{whose.account} ({whose.environment}): " if whose.account else ""
    often = f" It happened {notice.count} times since the last notification." if notice.count > 1 else ""
    hint = f" → {said.hint}" if said.hint else ""
    text = f"{banner}{whom}{said.sentence}{often}{hint}"
    text = escape_unprintable(text).translate(_HARMLESS)
    for link, none in _NO_LINKS:
        text = text.replace(link, none)
    return text if len(text) <= MAX_TEXT_CHARS else text[: MAX_TEXT_CHARS - 1] + "…"


def _over(notice: Notification, runtime: AccountRuntime) -> NoticeText:
    if notice.instead is not None:
        whose = _names(notice) if notice.families else "The exchange"
        return NoticeText(f"{whose}: {notice.kind.value} before, {notice.instead.value} now.")
    match notice.kind:
        case AlertKind.OUT_OF_SYNC | AlertKind.FROZEN | AlertKind.REJECTED | AlertKind.CONTESTED:
            return NoticeText(_over_family(notice, runtime))
        case AlertKind.KEY_PROBLEM:
            return NoticeText("Key and account are accepted again, or nothing is left to write.")
        case AlertKind.UNREACHABLE:
            return NoticeText("The exchange answers again, or there is nothing left to ask it.")
        case AlertKind.CONFIG_REJECTED:
            return NoticeText(f"{runtime.desired.path} is valid again and in force.")
        case AlertKind.POLICY_REJECTED:
            if runtime.policy is None:
                return NoticeText(
                    "There is no policy any more. Only the guard against switching protection off applies."
                )
            return NoticeText("The policy is valid again and in force.")
        case AlertKind.STATE_LOCKED:
            return NoticeText("Another process no longer locks the state.")
        case AlertKind.STATE_UNAVAILABLE:
            return NoticeText("The state can be used again.")
        case AlertKind.STANDBY:
            return NoticeText("This process does not stand by any more.")
        case AlertKind.PROTECTED:
            return NoticeText("It is not known to be protected any more.")
        case _:
            assert_never(notice.kind)


def _over_family(notice: Notification, runtime: AccountRuntime) -> str:
    names, are = _names(notice), "is" if len(notice.families) == 1 else "are"
    gone = [family for family in notice.families if family not in runtime.desired.families]
    if len(gone) == len(notice.families):
        return f"{names} {are} no longer in the file, and no longer managed."
    if gone:
        left = f"{len(gone)} of them {'is' if len(gone) == 1 else 'are'} no longer in the file"
        return f"{names}: {left}, and no longer managed; the rest is as the file says again."
    if notice.kind is AlertKind.FROZEN:
        return f"{names} {are} not frozen any more, and as the file says."
    return f"{names} {are} as the file says again."


def _began(notice: Notification, advice: Advice) -> NoticeText:
    names, about = _names(notice), notice.alert.about
    match about:
        case Change():
            return _differs(names, about, alone=len(notice.families) == 1)
        case LiveRow():
            hint = f"Find out why, then: mmp reset {names}" if len(notice.families) == 1 else None
            return NoticeText(f"{names}: frozen until a manual reset.", hint=hint)
        case SettingRejected():
            return _refused(names, about, advice)
        case Pause():
            return _contested(names, about, alone=len(notice.families) == 1)
        case Outage():
            doing, words = about.failed.doing, _words(about.failed.reply)
            return NoticeText(f"The exchange has failed for a minute ({doing}: {words}).", words)
        case Reply():
            words, hint = _words(about), advice(about) or None
            return NoticeText(f"Nothing can be written: {words}.", words, hint)
        case NewerRejected() | NeverValid():
            return _file(notice.alert, about)
        case ControlledElsewhere():
            sentence = f"Another process has controlled this account for more than a minute: {about.who}."
            hint = "This process writes nothing until the other one ends. Stop one of the two."
            return NoticeText(sentence, about.who, hint)
        case StateFailed():
            sentence = "Nothing is sent, because the state could not be used for a minute"
            hint = "Free space, or see to the disk or the server. mmp retries automatically."
            return NoticeText(f"{sentence}: {about.message}.", about.message, hint)
        case StateLockTimedOut(message):
            return NoticeText(
                f"Another process has locked the state for more than a minute: {message}.", message
            )
        case int():
            every = "the 1 family is" if about == 1 else f"all {about} families are"
            first = "for the first time since this process started to run the account"
            return NoticeText(f"Protected: {every} as the file says or tighter, {first}.")
        case _:
            assert_never(about)


def _differs(names: str, change: Change, *, alone: bool) -> NoticeText:
    exposed = " Less protection than the file says." if change.is_exposed else ""
    what = f" ({format_change(change)})" if alone else ""
    before = change.before.wire() if change.before else None
    reason = _why(change)
    return NoticeText(f"{names}: {reason}{what}.{exposed}", reason, None, before, change.after.wire())


def _why(change: Change) -> str:
    """Write why a family differs, and what happens next."""
    drifted = change.reason is Reason.DRIFTED
    if change.because is HoldReason.DRIFT_POLICY and not change.other_file:
        return "changed outside mmp; reported, not changed back"
    if change.because is not None:
        differs = "changed outside mmp" if drifted else "not as the file says"
        return f"{'not as the file says' if change.other_file else differs}; held: {hold_words(change)}"
    if drifted:
        return "changed outside mmp; being restored"
    if change.reason is Reason.UNCERTAIN or change.action is Action.ADOPT:
        return UNCONFIRMED
    return "not as the file says, although it was due"


def _refused(names: str, rejected: SettingRejected, advice: Advice) -> NoticeText:
    words = _words(rejected.reply)
    sentence = f"{names}: rejected by the exchange ({format_setting(rejected.setting)}): {words}."
    return NoticeText(sentence, words, advice(rejected.reply) or None, None, rejected.setting.wire())


def _contested(names: str, pause: Pause, *, alone: bool) -> NoticeText:
    hint = f"Find out who changes it, then: mmp resume --family {names}" if alone else None
    left = "not written until the file changes or the family is resumed"
    after = pause.contested.wire() if pause.contested else None
    return NoticeText(f"{names}: {pause.reason}; {left}.", pause.reason, hint, None, after)


def _file(condition: Alert, file: RejectedFile) -> NoticeText:
    sentence = (
        _settings_sentence(file) if condition.kind is AlertKind.CONFIG_REJECTED else _policy_sentence(file)
    )
    first, more = first_error(file.problems), len(file.problems) - 1
    if first is None:
        return NoticeText(f"{sentence}.")
    further = f" (and {more} more)" if more else ""
    words = f"{first.path}:{first.line}:{first.column}: {first.message}{further}"
    return NoticeText(f"{sentence}: {words}.", words, first.hint or None)


def _settings_sentence(file: RejectedFile) -> str:
    if isinstance(file, NeverValid):
        return "The settings file is invalid and there is no earlier valid version, so nothing is written"
    return "A newer settings file is invalid, the last valid version stays in use"


def _policy_sentence(file: RejectedFile) -> str:
    checks = "only the guard checks" if isinstance(file, NeverValid) else "the last valid policy checks"
    return f"The policy cannot be used. Changes that loosen or disable are held; {checks} other changes"


def _words(reply: Reply) -> str:
    """Write a reply, with OKX's code if it has one."""
    said = reply.message or reply.reply_class.value
    return f"{said} [OKX {reply.code}]" if reply.code.isdigit() else said


def _names(notice: Notification) -> str:
    more = len(notice.families) - MAX_NAMES_IN_TEXT
    output = ", ".join(notice.families[:MAX_NAMES_IN_TEXT])
    return f"{output} and {more} more" if more > 0 else output


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
