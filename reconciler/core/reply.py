"""What a reply to Set MMP means: for the record, for the rate, and for what happens next.

This file decides by the class of a reply; which OKX code is of which class is a table of facts in
``okx/codes.py``. Only an acceptance that echoes exactly what was sent is *applied*; whatever is not
provably applied or provably refused stays unknown.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from reconciler.core.model import Family, Setting


class ReplyClass(StrEnum):
    """The classes of reply, authentic envelopes first, then replies that are not from OKX."""

    ACCEPTED = "accepted"
    RATE_LIMITED = "rate-limited"
    BUSY = "busy"
    AMBIGUOUS = "ambiguous"
    CLOCK = "clock"
    WRONG_SETTINGS = "wrong-settings"
    NOT_OPEN = "not-open"
    ACCOUNT = "account"
    ENVIRONMENT = "environment"
    UNAVAILABLE = "unavailable"
    OUR_BUG = "our-bug"
    NO_ANSWER = "no-answer"
    NOT_SENT = "not-sent"


STOPPING = frozenset({ReplyClass.ACCOUNT, ReplyClass.ENVIRONMENT, ReplyClass.CLOCK, ReplyClass.OUR_BUG})
"""Replies after which waiting does not help: a person has to act."""

READ_BACK = "Nothing to do: a request to set counts as sent, and mmp reads its effect; a read is repeated."
"""What to do about a reply after which nothing is known of the request."""

READ_AGAIN = "Nothing to do: a read changes nothing, and mmp repeats it after a pause."
"""Instead of READ_BACK, of what is known to have been a read."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One classified reply, already free of secrets.

    ``code`` is OKX's, or this program's if there is none (``timeout``, ``not-json``, …).
    ``echo`` is the accepted rows' settings by family; None unless the class is ACCEPTED and the
    rows could be read. More than one row, or none, is left as received.
    """

    reply_class: ReplyClass
    code: str
    message: str = ""
    echo: tuple[tuple[Family, Setting], ...] | None = None
    retry_after_s: float | None = None
    """What a Retry-After header asked for, at most 60 s; None without one."""
    wrapper: str | None = None
    """The envelope's code where ``code`` is that of its one row (OKX's wrapper, code 1 or 2)."""

    @property
    def text(self) -> str:
        """The message; without one the class."""
        return self.message or self.reply_class.value


class AttemptStatus(StrEnum):
    """What is on record of one attempt. PENDING and UNKNOWN leave the family uncertain."""

    PENDING = "pending"
    APPLIED = "applied"
    REJECTED = "rejected"
    UNKNOWN = "unknown"
    NOT_SENT = "not-sent"


class ReplyHandling(StrEnum):
    """What the pass does after a reply."""

    PROCEED = "proceed"
    BACK_OFF = "back-off"
    REJECT = "park"
    REJECT_AND_RETRY = "park-and-retry"
    SYNC_CLOCK = "sync-clock"
    STOP_ACCOUNT = "stop-account"
    STOP_ENVIRONMENT = "stop-environment"
    STOP_BUG = "stop-bug"


@dataclass(frozen=True, slots=True)
class ReplyVerdict:
    """The meaning of a reply. ``proves_arrival``: the reply bounds the request's latest arrival."""

    status: AttemptStatus
    proves_arrival: bool
    next: ReplyHandling


_BY_CLASS: dict[ReplyClass, ReplyVerdict] = {
    ReplyClass.RATE_LIMITED: ReplyVerdict(AttemptStatus.REJECTED, True, ReplyHandling.PROCEED),
    # The exchange itself replies busy, so the request has arrived; whether it took effect is unknown.
    ReplyClass.BUSY: ReplyVerdict(AttemptStatus.UNKNOWN, True, ReplyHandling.BACK_OFF),
    ReplyClass.AMBIGUOUS: ReplyVerdict(AttemptStatus.UNKNOWN, False, ReplyHandling.PROCEED),
    ReplyClass.CLOCK: ReplyVerdict(AttemptStatus.REJECTED, True, ReplyHandling.SYNC_CLOCK),
    ReplyClass.WRONG_SETTINGS: ReplyVerdict(AttemptStatus.REJECTED, True, ReplyHandling.REJECT),
    ReplyClass.NOT_OPEN: ReplyVerdict(AttemptStatus.REJECTED, True, ReplyHandling.REJECT_AND_RETRY),
    ReplyClass.ACCOUNT: ReplyVerdict(AttemptStatus.REJECTED, True, ReplyHandling.STOP_ACCOUNT),
    ReplyClass.ENVIRONMENT: ReplyVerdict(AttemptStatus.REJECTED, True, ReplyHandling.STOP_ENVIRONMENT),
    ReplyClass.UNAVAILABLE: ReplyVerdict(AttemptStatus.REJECTED, True, ReplyHandling.BACK_OFF),
    ReplyClass.OUR_BUG: ReplyVerdict(AttemptStatus.REJECTED, True, ReplyHandling.STOP_BUG),
    ReplyClass.NO_ANSWER: ReplyVerdict(AttemptStatus.UNKNOWN, False, ReplyHandling.PROCEED),
    ReplyClass.NOT_SENT: ReplyVerdict(AttemptStatus.NOT_SENT, False, ReplyHandling.BACK_OFF),
}

_APPLIED = ReplyVerdict(AttemptStatus.APPLIED, True, ReplyHandling.PROCEED)
_WRONG_ECHO = ReplyVerdict(AttemptStatus.UNKNOWN, False, ReplyHandling.PROCEED)


def interpret_reply(family: Family, sent: Setting, reply: Reply) -> ReplyVerdict:
    """Return the verdict on the ``reply`` to setting ``family`` to ``sent``."""
    if reply.reply_class is ReplyClass.ACCEPTED:
        return _APPLIED if reply.echo == ((family, sent),) else _WRONG_ECHO
    verdict = _BY_CLASS[reply.reply_class]
    if reply.wrapper is None or verdict.status is not AttemptStatus.REJECTED:
        return verdict
    # OKX wrapped the refusal. It is not documented that Set MMP does so: a read has to show the effect.
    return replace(verdict, status=AttemptStatus.UNKNOWN)


def terminal_action(reply: Reply) -> ReplyHandling | None:
    """Return how a failed question to the exchange stops the writing; None when it is retried."""
    match reply.reply_class:
        case ReplyClass.ACCOUNT | ReplyClass.CLOCK:
            return ReplyHandling.STOP_ACCOUNT
        case ReplyClass.ENVIRONMENT:
            return ReplyHandling.STOP_ENVIRONMENT
        case ReplyClass.OUR_BUG:
            return ReplyHandling.STOP_BUG
        case _:
            return None


def is_account_error(reply: Reply) -> bool:
    """Tell whether a reply is about the account, the key or the environment."""
    return terminal_action(reply) in (ReplyHandling.STOP_ACCOUNT, ReplyHandling.STOP_ENVIRONMENT)
