"""Scripted faults: what goes wrong with a request, and whether it took effect all the same.

A fault is a value. Without effect the rules never see the request, though it has arrived and counts
against the rate; with effect they answer it and the fault changes what the caller gets to see.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import assert_never

from reconciler.simulator.asks import Ask, Endpoint
from reconciler.simulator.codes import refuse
from reconciler.simulator.messages import CutShort, Envelope, Outcome, Page, Row, Silence


class FaultKind(StrEnum):
    """What the caller gets instead of the genuine reply."""

    LOST = "lost"
    SLOW = "slow"
    CODE = "code"
    HTML_502 = "html-502"
    WRONG_ECHO = "wrong-echo"
    TRUNCATED = "truncated"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. ``effect``: the request is acted on; ``code`` is only CODE's; ``delay_s`` any kind's."""

    kind: FaultKind
    effect: bool
    delay_s: float = 0.0
    code: str = ""


@dataclass(frozen=True, slots=True)
class ScriptedFault:
    """A fault for the next ``count`` requests to ``endpoint``."""

    endpoint: Endpoint
    fault: Fault
    count: int = 1


SLOW_S = 3.0
"""How slow ``slow`` is unless told: longer than a round trip, shorter than any deadline."""

MAX_COUNT = 100_000
MAX_DELAY_S = 3600.0

NAMED: dict[str, Fault] = {
    "lost-before": Fault(FaultKind.LOST, effect=False),
    "lost-after": Fault(FaultKind.LOST, effect=True),
    "slow": Fault(FaultKind.SLOW, effect=True, delay_s=SLOW_S),
    "html-502": Fault(FaultKind.HTML_502, effect=False),
    "wrong-echo": Fault(FaultKind.WRONG_ECHO, effect=True),
    "truncated": Fault(FaultKind.TRUNCATED, effect=True),
}

NO_FAULT = Fault(FaultKind.SLOW, effect=True)
"""The genuine reply, not late at all."""

OUTAGE = Fault(FaultKind.LOST, effect=False)
"""What happens to every request while the exchange is out."""

SYNTAX = "[ENDPOINT/]KIND[-applied|-unapplied][@SECONDS][:COUNT]"
_SCRIPTED = re.compile(
    r"(?:(?P<endpoint>[a-z]+)/)?(?P<kind>[a-z0-9-]+?)(?P<effect>-applied|-unapplied)?"
    r"(?:@(?P<delay>[0-9]{1,4}(?:\.[0-9]{1,3})?))?(?::(?P<count>[0-9]{1,6}))?"
)


def parse_fault(text: str) -> ScriptedFault:
    """Return the fault written as ``[ENDPOINT/]KIND[-applied|-unapplied][@SECONDS][:COUNT]``.

    KIND is a name of ``NAMED`` or any five-digit code of OKX (without effect unless ``-applied``);
    ENDPOINT is set (default) or the value of another ``Endpoint``. Raises ValueError saying what is wrong.
    """
    match = _SCRIPTED.fullmatch(text)
    if match is None:
        raise ValueError(f"not a fault: {text!r}; write {SYNTAX}")
    count, delay_s = int(match["count"] or 1), float(match["delay"] or 0)
    if not (1 <= count <= MAX_COUNT and delay_s <= MAX_DELAY_S):
        raise ValueError(f"{text!r}: count 1 to {MAX_COUNT}, at most {MAX_DELAY_S:.0f} seconds")
    fault = _kind(match["kind"])
    if match["effect"]:
        fault = replace(fault, effect=match["effect"] == "-applied")
    if delay_s:
        fault = replace(fault, delay_s=delay_s)
    return ScriptedFault(_endpoint(match["endpoint"] or "set"), fault, count)


class FaultScript:
    """The faults still to come, in order, by endpoint."""

    def __init__(self) -> None:
        self._queues: dict[Endpoint, deque[Fault]] = {endpoint: deque() for endpoint in Endpoint}

    def add(self, scripted: ScriptedFault) -> None:
        """Queue a fault behind those of its endpoint."""
        self._queues[scripted.endpoint].extend([scripted.fault] * scripted.count)

    def take(self, endpoint: Endpoint) -> Fault | None:
        """Return the fault of this request to ``endpoint``, None when nothing goes wrong."""
        queue = self._queues[endpoint]
        return queue.popleft() if queue else None

    def clear(self) -> None:
        """Forget all faults still to come."""
        for queue in self._queues.values():
            queue.clear()

    def pending(self) -> dict[str, int]:
        """Return how many faults are queued, by endpoint."""
        return {endpoint.value: len(queue) for endpoint, queue in self._queues.items()}


def disguise(fault: Fault, genuine: Envelope | None, ask: Ask) -> Outcome:
    """Return what the caller sees of ``genuine`` (None: the request was not acted on)."""
    return Outcome(_said(fault, genuine, ask), fault.delay_s)


def _said(fault: Fault, genuine: Envelope | None, ask: Ask) -> Envelope | CutShort | Page | Silence:
    match fault.kind:
        case FaultKind.LOST:
            return Silence()
        case FaultKind.SLOW:
            return genuine or Silence()
        case FaultKind.CODE:
            return refuse(fault.code, "(scripted)", "(scripted)")
        case FaultKind.HTML_502:
            return Page(502)
        case FaultKind.WRONG_ECHO:
            return _wrong(genuine or _pretended(ask))
        case FaultKind.TRUNCATED:
            return CutShort(genuine or _pretended(ask))
        case _ as never:
            assert_never(never)


def _wrong(envelope: Envelope) -> Envelope:
    """Return an acceptance with other values than the true ones; refusals stay as they are."""
    if not envelope.data:
        return envelope
    return replace(envelope, data=tuple(_wrong_row(row) for row in envelope.data))


def _wrong_row(row: Row) -> Row:
    changed = dict(row)
    if "qtyLimit" in changed:
        changed["qtyLimit"] = f"9{changed['qtyLimit']}"
    if "result" in changed:
        changed["result"] = False
    return changed


def _pretended(ask: Ask) -> Envelope:
    """Return the acceptance a request would have got, had it been acted on."""
    if ask.refusal is not None or ask.setting is None:
        return ask.refusal or Envelope("0")
    return Envelope("0", data=({"instFamily": ask.family, **ask.setting.wire()},))


def _kind(name: str) -> Fault:
    if re.fullmatch(r"[0-9]{5}", name):
        return Fault(FaultKind.CODE, effect=False, code=name)
    if name not in NAMED:
        raise ValueError(f"no such fault: {name!r}; there are {', '.join(NAMED)} and five-digit codes")
    return NAMED[name]


def _endpoint(name: str) -> Endpoint:
    try:
        return Endpoint(name)
    except ValueError:
        raise ValueError(f"no such endpoint: {name!r}; there are {', '.join(Endpoint)}") from None
