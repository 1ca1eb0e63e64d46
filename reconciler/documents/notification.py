"""Notifications as JSON documents for a webhook: one sentence for a chat, and the facts beside it.

Slack and Mattermost display ``text``, so input from outside must not become markup: no mention, no link.
Values are the wire strings. The same notification gives the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import assert_never

from reconciler.core.apply_result import UNCONFIRMED, hold_words
from reconciler.core.events import ControlledElsewhere, SettingRejected, StateFailed, StateLockTimedOut
from reconciler.core.model import Desired, LiveRow, Pause, first_names, format_setting
from reconciler.core.monitoring.account_runtime import (
    AccountRuntime,
    NeverValid,
    NewerRejected,
    Outage,
    RejectedFile,
)
from reconciler.core.monitoring.alerts import Alert, AlertKind
from reconciler.core.monitoring.notifications import Notification, Transition
from reconciler.core.monitoring.protection import Protection, ProtectionResult
from reconciler.core.plan import Action, Change, HoldReason, Reason, format_change
from reconciler.core.problems import escape_unprintable, first_error
from reconciler.core.reply import Reply
from reconciler.documents.plan import Document, format_utc_ms

MAX_NAMED = 100
"""Families that a document names; the rest are counted. It limits a message to a few kilobytes."""

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
    """The subject of a notification: an account, or (None) a file from which no account runs."""

    account: Desired | None
    path: str
    host: str
    simulator: bool


NO_ACCOUNT = ProtectionResult(Protection.UNKNOWN, "Not known: no account runs from this file.")
"""The protection of the unknown account of a file that was never valid."""

_RESOLVED = {
    AlertKind.KEY_PROBLEM: "Key and account are accepted again, or nothing is left to write.",
    AlertKind.UNREACHABLE: "The exchange answers again, or no family differs from the file any more.",
    AlertKind.POLICY_INVALID: "The policy is valid again and in use.",
    AlertKind.STATE_LOCKED: "The state is no longer locked by another process.",
    AlertKind.STATE_UNAVAILABLE: "The state can be used again.",
    AlertKind.STANDBY: "This process is no longer a standby.",
    AlertKind.PROTECTED: "It is not known to be protected any more.",
}
"""The sentences of alerts about an account that have ended; others depend on the family or the file."""

_NO_POLICY = "There is no policy any more. Only the guard against switching protection off applies."


def notification_document(
    notice: Notification, runtime: AccountRuntime, judged: ProtectionResult, *, at: datetime, advice: Advice
) -> Document:
    """Return the ``mmp/notification/1`` document of a notification that is sent ``at`` that time of day."""
    firing = notice.status is Transition.FIRING
    text = _firing(notice, advice) if firing else NoticeText(_resolved(notice, runtime))
    subject = NoticeSubject(runtime.desired, runtime.desired.path, runtime.host, runtime.simulator)
    return _document(notice, text, subject, judged, at)


def file_notification_document(
    notice: Notification, path: str, *, gone: bool, host: str, simulator: bool, at: datetime
) -> Document:
    """Return the ``mmp/notification/1`` document of a settings file from which no account runs.

    ``gone``: the alert is resolved because the file was removed, not because the file is valid.
    """
    ended = f"{path} is gone." if gone else f"{path} is valid and in force."
    firing = notice.status is Transition.FIRING
    text = _firing(notice, lambda _: "") if firing else NoticeText(ended)
    return _document(notice, text, NoticeSubject(None, path, host, simulator), NO_ACCOUNT, at)


def _document(
    notice: Notification, text: NoticeText, subject: NoticeSubject, judged: ProtectionResult, at: datetime
) -> Document:
    account, alert, families = subject.account, notice.alert, notice.families
    alone = len(families) == 1
    return {
        "format": "mmp/notification/1",
        "id": _id(notice, subject, at),
        "kind": alert.kind.value,
        "status": notice.status.value,
        "severity": notice.severity.value,
        "account": account.account if account else None,
        "environment": account.environment.value if account else None,
        "simulator": subject.simulator,
        "host": subject.host,
        "family": families[0] if alone else None,
        "text": _text(text, notice, subject),
        "since": format_utc_ms(notice.since),
        "at": format_utc_ms(at),
        "count": notice.count,
        "details": {
            "code": alert.code,
            "reason": text.reason,
            "hint": text.hint,
            "before": text.before if alone else None,
            "after": text.after if alone else None,
            "families": list(families[:MAX_NAMED]),
            "more_families": max(0, len(families) - MAX_NAMED),
            "protection": judged.protection.value,
            "protection_text": judged.sentence,
        },
    }


def _id(notice: Notification, subject: NoticeSubject, at: datetime) -> str:
    """Return an id that is the same for every delivery of one notification, and different for any other."""
    account = subject.account
    name = (account.account, account.environment.value) if account else (subject.path, "")
    facts = (*name, subject.host, notice.alert.kind, notice.status, at.isoformat(), *notice.families)
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:32]


def _text(text: NoticeText, notice: Notification, subject: NoticeSubject) -> str:
    """Write the text in one line: a chat shows only this line."""
    account = subject.account
    banner = "SIMULATOR " if subject.simulator else ""
    whom = f"{account.account} ({account.environment.value}): " if account else ""
    often = f" It happened {notice.count} times since the last notification." if notice.count > 1 else ""
    hint = f" → {text.hint}" if text.hint else ""
    line = escape_unprintable(f"{banner}{whom}{text.sentence}{often}{hint}").translate(_HARMLESS)
    for link, none in _NO_LINKS:
        line = line.replace(link, none)
    return line if len(line) <= MAX_TEXT_CHARS else line[: MAX_TEXT_CHARS - 1] + "…"


def _resolved(notice: Notification, runtime: AccountRuntime) -> str:
    kind = notice.alert.kind
    if notice.instead is not None:
        whose = first_names(notice.families) or "The exchange"
        return f"{whose}: {kind.value} before, {notice.instead.value} now."
    if notice.families:
        return _resolved_families(notice, runtime)
    if kind is AlertKind.CONFIG_INVALID:
        return f"{runtime.desired.path} is valid again and in use."
    if kind is AlertKind.POLICY_INVALID and runtime.policy is None:
        return _NO_POLICY
    return _RESOLVED[kind]


def _resolved_families(notice: Notification, runtime: AccountRuntime) -> str:
    names, are = first_names(notice.families), "is" if len(notice.families) == 1 else "are"
    gone = [family for family in notice.families if family not in runtime.desired.families]
    if len(gone) == len(notice.families):
        return f"{names} {are} no longer in the file, and no longer managed."
    if gone:
        left = f"{len(gone)} of them {'is' if len(gone) == 1 else 'are'} no longer in the file"
        return f"{names}: {left}, and no longer managed; the rest is as the file says again."
    if notice.alert.kind is AlertKind.FROZEN:
        return f"{names} {are} not frozen any more, and as the file says."
    return f"{names} {are} as the file says again."


def _firing(notice: Notification, advice: Advice) -> NoticeText:
    names, about = first_names(notice.families), notice.alert.about
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
            hint = "Free space, or check the disk or the server. mmp retries automatically."
            return NoticeText(f"{sentence}: {about.message}.", about.message, hint)
        case StateLockTimedOut(message):
            sentence = "Another process has locked the state for more than a minute"
            return NoticeText(f"{sentence}: {message}.", message)
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


def _file(alert: Alert, file: RejectedFile) -> NoticeText:
    is_settings = alert.kind is AlertKind.CONFIG_INVALID
    sentence = _settings_sentence(file) if is_settings else _policy_sentence(file)
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
    return f"{reply.text} [OKX {reply.code}]" if reply.code.isdigit() else reply.text
