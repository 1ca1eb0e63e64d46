"""Scripted faults: what goes wrong with a request, and whether the request takes effect.

A fault is a value. It may apply to requests about one family only, and it may last. Without effect the
rules never receive the request, but it has arrived and counts against the rate. With effect the rules
answer it and the fault changes what the caller receives.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import assert_never

from reconciler.simulator.codes import refuse, wrap
from reconciler.simulator.http_messages import (
    Disconnect,
    HtmlPage,
    ReplyBody,
    ReplyEnvelope,
    SimOutcome,
    TruncatedReply,
)
from reconciler.simulator.request_parsing import Endpoint, ParsedRequest


class FaultKind(StrEnum):
    """What the caller receives instead of the genuine reply."""

    LOST = "lost"
    SLOW = "slow"
    CODE = "code"
    WRAPPED = "wrapped"
    PAGE = "page"
    HEADERS = "headers"
    WRONG_ECHO = "wrong-echo"
    TRUNCATED = "truncated"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. ``effect``: the request is executed; ``delay_s`` and ``headers`` apply to any kind.

    ``code`` is for CODE and WRAPPED only; ``wrapper`` is the envelope's code of WRAPPED. ``status`` is that
    of a PAGE.
    """

    kind: FaultKind
    effect: bool
    delay_s: float = 0.0
    code: str = ""
    wrapper: str = ""
    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ScriptedFault:
    """A fault for the next ``count`` requests to ``endpoint``; None: for every one until it is cleared.

    ``family``: only for requests about that one.
    """

    endpoint: Endpoint
    fault: Fault
    count: int | None = 1
    family: str | None = None


SLOW_S = 3.0
"""The default delay of ``slow``: longer than a round trip, shorter than any deadline."""

MAX_COUNT = 100_000
MAX_DELAY_S = 3600.0

RETRY_AFTER = (("Retry-After", "3"),)
"""A header of pages of 429 and 503."""

_LARGE = (("X-Policy", "x" * 100_000), *((f"X-Hop-{number}", "y") for number in range(300)))
"""Headers beyond the usual bounds of HTTP libraries: 8 KiB a line, 100 headers."""

_ENDLESS = tuple((f"X-Policy-{number}", "x" * 50_000) for number in range(40))
"""Headers of 2 MB: more than any client must accept."""

NAMED: dict[str, Fault] = {
    "lost-before": Fault(FaultKind.LOST, effect=False),
    "lost-after": Fault(FaultKind.LOST, effect=True),
    "slow": Fault(FaultKind.SLOW, effect=True, delay_s=SLOW_S),
    "html-403": Fault(FaultKind.PAGE, effect=False, status=403),
    "html-429": Fault(FaultKind.PAGE, effect=False, status=429, headers=RETRY_AFTER),
    "html-502": Fault(FaultKind.PAGE, effect=False, status=502),
    "html-503": Fault(FaultKind.PAGE, effect=False, status=503, headers=RETRY_AFTER),
    "large-headers": Fault(FaultKind.HEADERS, effect=True, headers=_LARGE),
    "endless-headers": Fault(FaultKind.HEADERS, effect=True, headers=_ENDLESS),
    "wrong-echo": Fault(FaultKind.WRONG_ECHO, effect=True),
    "truncated": Fault(FaultKind.TRUNCATED, effect=True),
}

NO_FAULT = Fault(FaultKind.SLOW, effect=True)
"""The genuine reply without a delay."""

OUTAGE = Fault(FaultKind.LOST, effect=False)
"""What happens to every request during an outage of the exchange."""

_WRONG: Mapping[str, Callable[[object], object]] = {
    "qtyLimit": lambda quantity: f"9{quantity}",
    "result": lambda _: False,
}
"""What a wrong echo has in place of a value."""

ALWAYS = "always"
SYNTAX = "[ENDPOINT/][FAMILY/]KIND[-applied|-unapplied][@SECONDS][:COUNT|:always]"
_SCRIPTED = re.compile(
    r"(?:(?P<endpoint>[a-z]+)/)?(?:(?P<family>[A-Z0-9]+-[A-Z0-9_]+)/)?"
    r"(?P<kind>[a-z0-9-]+?)(?P<effect>-applied|-unapplied)?"
    r"(?:@(?P<delay>[0-9]{1,4}(?:\.[0-9]{1,3})?))?(?::(?P<count>[0-9]{1,6}|always))?"
)
_WRAPPED = re.compile(r"wrapped(?P<wrapper>[012]?)-(?P<code>[0-9]{1,5})")


def parse_fault(text: str) -> ScriptedFault:
    """Return the fault written as in SYNTAX.

    KIND is a name of ``NAMED``, any five-digit code of OKX (without effect unless ``-applied``), or such
    a code in a wrapper: ``wrapped-51000`` in code 1, ``wrapped2-51000`` in code 2. ENDPOINT is set
    (default) or the value of another ``Endpoint``. Raises ValueError saying what is wrong.
    """
    match = _SCRIPTED.fullmatch(text)
    if match is None:
        raise ValueError(f"not a fault: {text!r}; write {SYNTAX}")
    count = None if match["count"] == ALWAYS else int(match["count"] or 1)
    delay_s = float(match["delay"] or 0)
    if not ((count is None or 1 <= count <= MAX_COUNT) and delay_s <= MAX_DELAY_S):
        raise ValueError(f"{text!r}: count 1 to {MAX_COUNT}, at most {MAX_DELAY_S:.0f} seconds")
    fault = _kind(match["kind"])
    if match["effect"]:
        fault = replace(fault, effect=match["effect"] == "-applied")
    if delay_s:
        fault = replace(fault, delay_s=delay_s)
    return ScriptedFault(_endpoint(match["endpoint"] or "set"), fault, count, match["family"])


class FaultScript:
    """The remaining faults, in order."""

    def __init__(self) -> None:
        self._queue: list[ScriptedFault] = []

    def add(self, scripted: ScriptedFault) -> None:
        """Queue a fault behind the others."""
        self._queue.append(scripted)

    def take(self, endpoint: Endpoint, family: str | None) -> Fault | None:
        """Return the fault of a request to ``endpoint`` about ``family``; None: no fault."""
        for place, scripted in enumerate(self._queue):
            if scripted.endpoint is endpoint and scripted.family in (None, family):
                if scripted.count is not None:
                    rest = replace(scripted, count=scripted.count - 1)
                    self._queue[place : place + 1] = [rest] if rest.count else []
                return scripted.fault
        return None

    def clear(self) -> None:
        """Remove all remaining faults."""
        self._queue.clear()

    def pending(self) -> dict[str, int]:
        """Return how many faults are queued, by endpoint; a lasting one counts once."""
        pending = {endpoint.value: 0 for endpoint in Endpoint}
        for scripted in self._queue:
            pending[scripted.endpoint] += scripted.count or 1
        return pending


def apply_fault(fault: Fault, genuine: ReplyEnvelope | None, parsed: ParsedRequest) -> SimOutcome:
    """Return what the caller receives for ``genuine`` (None: the request was not executed)."""
    return SimOutcome(_reply(fault, genuine, parsed), fault.delay_s, fault.headers)


def _reply(fault: Fault, genuine: ReplyEnvelope | None, parsed: ParsedRequest) -> ReplyBody:
    match fault.kind:
        case FaultKind.LOST:
            return Disconnect()
        case FaultKind.SLOW:
            return genuine or Disconnect()
        case FaultKind.CODE:
            return refuse(fault.code, "(scripted)", "(scripted)")
        case FaultKind.WRAPPED:
            return wrap(fault.wrapper, fault.code, (genuine.data if genuine else None) or ({},))
        case FaultKind.PAGE:
            return HtmlPage(fault.status)
        case FaultKind.HEADERS:
            return genuine or _acceptance_of(parsed)
        case FaultKind.WRONG_ECHO:
            return _wrong(genuine or _acceptance_of(parsed))
        case FaultKind.TRUNCATED:
            return TruncatedReply(genuine or _acceptance_of(parsed))
        case _ as never:
            assert_never(never)


def _wrong(envelope: ReplyEnvelope) -> ReplyEnvelope:
    """Return an acceptance with wrong values; refusals stay unchanged."""
    rows = tuple(
        {name: _WRONG[name](value) if name in _WRONG else value for name, value in row.items()}
        for row in envelope.data or ()
    )
    return replace(envelope, data=rows or envelope.data)


def _acceptance_of(parsed: ParsedRequest) -> ReplyEnvelope:
    """Return the acceptance that a request would have got if it had been executed."""
    if parsed.refusal is not None or parsed.setting is None:
        return parsed.refusal or ReplyEnvelope("0")
    return ReplyEnvelope("0", data=({"instFamily": parsed.family, **parsed.setting.wire()},))


def _kind(name: str) -> Fault:
    if re.fullmatch(r"[0-9]{5}", name):
        return Fault(FaultKind.CODE, effect=False, code=name)
    if wrapped := _WRAPPED.fullmatch(name):
        return Fault(
            FaultKind.WRAPPED, effect=False, code=wrapped["code"], wrapper=wrapped["wrapper"] or "1"
        )
    if name not in NAMED:
        known = f"{', '.join(NAMED)}, five-digit codes and wrapped-CODE"
        raise ValueError(f"no such fault: {name!r}; there are {known}")
    return NAMED[name]


def _endpoint(name: str) -> Endpoint:
    if name not in tuple(Endpoint):
        raise ValueError(f"no such endpoint: {name!r}; there are {', '.join(Endpoint)}")
    return Endpoint(name)
