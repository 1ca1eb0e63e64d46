"""The records of the exchange: arrivals, settings put in force, and violations by the caller.

The records are the exact history for tests and demonstrations. The rate that is *judged* here is the
documented one, no matter how the limit itself is counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import assert_never

from reconciler.simulator.http_messages import (
    Disconnect,
    HtmlPage,
    ReplyBody,
    ReplyEnvelope,
    TruncatedReply,
)
from reconciler.simulator.limits import LIMITS
from reconciler.simulator.request_parsing import Endpoint, MmpSetting

MAX_RECORDS = 100_000
"""Older records are removed: two days of Set MMP at full rate are 34,560 of them."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request that reached the exchange, at ``at`` on its clock.

    ``verdict`` is the reply to the caller: a code, ``html-502``, ``truncated`` or ``silence``. ``applied``:
    it was executed successfully, whatever the reply was. ``frozen``: its family was frozen at that moment.
    ``setting`` is None if it is missing or could not be read; ``uid`` is empty for an unknown key.
    """

    number: int
    uid: str
    endpoint: Endpoint
    at: float
    family: str | None
    setting: MmpSetting | None
    verdict: str
    applied: bool
    frozen: bool


@dataclass(frozen=True, slots=True)
class InForce:
    """A setting put in force; ``cause`` is set, or control for a change without a request."""

    at: float
    uid: str
    family: str
    setting: MmpSetting | None
    cause: str


@dataclass(frozen=True, slots=True)
class Violation:
    """Something a correct caller never does; ``kind`` is rate, frozen or malformed."""

    kind: str
    uid: str
    at: float
    detail: str


def verdict_of(reply: ReplyBody) -> str:
    """Return the reply in one word."""
    match reply:
        case ReplyEnvelope(code=code):
            return code
        case TruncatedReply():
            return "truncated"
        case HtmlPage(status):
            return f"html-{status}"
        case Disconnect():
            return "silence"
        case _ as never:
            assert_never(never)


def find_violations(arrivals: Iterable[Arrival]) -> tuple[Violation, ...]:
    """Return all violations by the callers, in order of time."""
    writes = sorted(
        (one for one in arrivals if one.endpoint is Endpoint.SET), key=attrgetter("uid", "at", "number")
    )
    by_uid = [list(group) for uid, group in groupby(writes, key=attrgetter("uid")) if uid]
    found = [one for group in by_uid for one in _rate_violations(group)]
    found += [_violation(one, "frozen", "written while frozen") for one in writes if one.frozen]
    found += [_violation(one, "malformed", one.verdict) for one in writes if one.setting is None]
    return tuple(sorted(found, key=attrgetter("at", "kind")))


def _rate_violations(writes: Sequence[Arrival]) -> list[Violation]:
    """Return one violation for every write that makes three within a window."""
    limit = LIMITS[Endpoint.SET]
    pairs = zip(writes, writes[limit.count :], strict=False)
    return [
        _violation(last, "rate", f"{limit.count + 1} Set MMP within {last.at - first.at:.6f} s")
        for first, last in pairs
        if last.at - first.at < limit.window_s
    ]


def _violation(arrival: Arrival, kind: str, detail: str) -> Violation:
    where = f" ({arrival.family})" if arrival.family else ""
    return Violation(kind, arrival.uid, arrival.at, f"arrival {arrival.number}: {detail}{where}")
