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
    """The classes of reply, authentic envelopes first, then what is no answer of OKX's."""

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
"""Replies that nothing gets better by waiting for: somebody has to do something."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One classified reply, already free of secrets.

    ``code`` is OKX's, or a word of ours where there is none (``timeout``, ``not-json``, …).
    ``echo`` is the accepted rows' settings by family; None unless the class is ACCEPTED and the
    rows could be read. More than one row, or none, is kept as it came.
    """

    reply_class: ReplyClass
    code: str
    message: str = ""
    echo: tuple[tuple[Family, Setting], ...] | None = None
    retry_after_s: float | None = None
    """What a Retry-After header asked for, at most 60 s; None without one."""
    wrapper: str | None = None
    """The envelope's code where ``code`` is that of its one row (OKX's wrapper, code 1 or 2)."""


class AttemptStatus(StrEnum):
    """What is on record of one attempt. PENDING and UNKNOWN leave the family uncertain."""

    PENDING = "pending"
    APPLIED = "applied"
    REJECTED = "rejected"
    UNKNOWN = "unknown"
    NOT_SENT = "not-sent"


class Next(StrEnum):
    """What the pass does after a verdict."""

    PROCEED = "proceed"
    BACK_OFF = "back-off"
    PARK = "park"
    PARK_AND_RETRY = "park-and-retry"
    SYNC_CLOCK = "sync-clock"
    STOP_ACCOUNT = "stop-account"
    STOP_ENVIRONMENT = "stop-environment"
    STOP_BUG = "stop-bug"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A reply, judged. ``definite``: the reply proves the request had arrived by then (bounds ``hi``)."""

    status: AttemptStatus
    definite: bool
    next: Next


_BY_CLASS: dict[ReplyClass, Verdict] = {
    ReplyClass.RATE_LIMITED: Verdict(AttemptStatus.REJECTED, True, Next.PROCEED),
    # The exchange itself replies busy, so the request has arrived; whether it took effect is unknown.
    ReplyClass.BUSY: Verdict(AttemptStatus.UNKNOWN, True, Next.BACK_OFF),
    ReplyClass.AMBIGUOUS: Verdict(AttemptStatus.UNKNOWN, False, Next.PROCEED),
    ReplyClass.CLOCK: Verdict(AttemptStatus.REJECTED, True, Next.SYNC_CLOCK),
    ReplyClass.WRONG_SETTINGS: Verdict(AttemptStatus.REJECTED, True, Next.PARK),
    ReplyClass.NOT_OPEN: Verdict(AttemptStatus.REJECTED, True, Next.PARK_AND_RETRY),
    ReplyClass.ACCOUNT: Verdict(AttemptStatus.REJECTED, True, Next.STOP_ACCOUNT),
    ReplyClass.ENVIRONMENT: Verdict(AttemptStatus.REJECTED, True, Next.STOP_ENVIRONMENT),
    ReplyClass.UNAVAILABLE: Verdict(AttemptStatus.REJECTED, True, Next.BACK_OFF),
    ReplyClass.OUR_BUG: Verdict(AttemptStatus.REJECTED, True, Next.STOP_BUG),
    ReplyClass.NO_ANSWER: Verdict(AttemptStatus.UNKNOWN, False, Next.PROCEED),
    ReplyClass.NOT_SENT: Verdict(AttemptStatus.NOT_SENT, False, Next.BACK_OFF),
}

_APPLIED = Verdict(AttemptStatus.APPLIED, True, Next.PROCEED)
_WRONG_ECHO = Verdict(AttemptStatus.UNKNOWN, False, Next.PROCEED)


def judge(family: Family, sent: Setting, reply: Reply) -> Verdict:
    """Return the verdict on the ``reply`` to setting ``family`` to ``sent``."""
    if reply.reply_class is ReplyClass.ACCEPTED:
        return _APPLIED if reply.echo == ((family, sent),) else _WRONG_ECHO
    verdict = _BY_CLASS[reply.reply_class]
    if reply.wrapper is None or verdict.status is not AttemptStatus.REJECTED:
        return verdict
    # OKX wrapped the refusal. It is not documented that Set MMP does so: a read has to show the effect.
    return replace(verdict, status=AttemptStatus.UNKNOWN)
