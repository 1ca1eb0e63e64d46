"""``/metrics``: the loops as Prometheus metrics, with names and units by its conventions.

Counters are folded from the loops' events, in the loops' thread. Everything else is read from the latest
state at each scrape. Every label has a bounded number of values: families come from the files, and codes
beyond MAX_CODES are counted together, since an exchange could send any number of them. A time is exported
as a timestamp, never as an age: ``time() - timestamp`` is also right between two scrapes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from reconciler.core import events
from reconciler.core.model import Family
from reconciler.core.plan import Reason
from reconciler.core.reply import AttemptStatus
from reconciler.web.gauges import gauges
from reconciler.web.latest_state import LatestState
from reconciler.web.responses import Response

CONTENT_TYPE = prometheus_client.CONTENT_TYPE_PLAIN_0_0_4
"""The format that every Prometheus reads. There is no content negotiation, so no Accept header can fail."""

MAX_CODES = 100
"""Codes with their own label value, per account: OKX documents fewer that can occur here."""

OTHER_CODE = "other"
_CODE = re.compile(r"[a-z0-9_-]{1,32}")

ACCOUNT = ("account", "environment")

COUNTERS = {
    "mmp_requests": "Set MMP requests by outcome (applied, rejected, unknown, not-sent) and reply code.",
    "mmp_slots_used": "Slots reserved, each for one Set MMP request.",
    "mmp_slot_wait_seconds": "Seconds that requests waited for a slot.",
    "mmp_uncertain_attempts": "Requests that got no answer, or none that could be understood.",
    "mmp_drift_found": "Families whose settings were changed outside mmp.",
    "mmp_drift_healed": "Families restored after drift.",
    "mmp_live_read_failures": "Live reads that failed, by reply code.",
    "mmp_takeovers": (
        "Times the lease of the account was taken over from a replica that stopped renewing it."
    ),
    "mmp_state_failures": "Times the state could not be used.",
    "mmp_exchange_failures": "Other requests to the exchange that failed, by reply code.",
}
"""The help text of each counter."""

COUNTER_LABELS = {
    "mmp_requests": (*ACCOUNT, "outcome", "code"),
    "mmp_live_read_failures": (*ACCOUNT, "code"),
    "mmp_exchange_failures": (*ACCOUNT, "code"),
    "mmp_state_failures": (),
}
"""The labels of a counter, if they are not those of an account."""

PASS_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""A pass that only reads takes one or two round trips; a pass that sends also waits for its slot."""


class Metrics:
    """All metrics of this process. ``observe`` and ``answer`` may run in two threads."""

    def __init__(
        self, latest: LatestState, *, now: Callable[[], float], wall: Callable[[], datetime]
    ) -> None:
        self._now = now
        # Not wanted: a second time series per counter, with when it was first counted.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call] # it has none
        self.registry = CollectorRegistry()
        self._accounts: dict[tuple[str, ...], _EventCounter] = {}
        self._counters = {
            name: Counter(name, text, COUNTER_LABELS.get(name, ACCOUNT), registry=self.registry)
            for name, text in COUNTERS.items()
        }
        self._passes = Histogram(
            "mmp_pass_duration_seconds",
            "Duration of passes, waiting within them included.",
            ACCOUNT,
            registry=self.registry,
            buckets=PASS_BUCKETS_S,
        )
        self.registry.register(_Gauges(lambda: gauges(latest, now=now(), wall=wall())))
        ProcessCollector(registry=self.registry)

    def observe(self, labels: tuple[str, str], event: events.Event) -> None:
        """Count an event of the account with ``labels`` (its name and environment)."""
        self.observe_process(event)
        if labels not in self._accounts:
            self._accounts[labels] = _EventCounter(self._counters, self._passes, labels)
        self._accounts[labels].count(event, self._now())

    def observe_process(self, event: events.Event) -> None:
        """Count an event of any account, or of none."""
        if isinstance(event, events.StateFailed):
            self._counters["mmp_state_failures"].inc()

    def answer(self) -> Response:
        """Return all metrics as of now."""
        return Response(200, prometheus_client.generate_latest(self.registry), CONTENT_TYPE)


class _EventCounter:
    """Folds one account's events into the counters, which begin at zero."""

    def __init__(self, counters: Mapping[str, Counter], passes: Histogram, labels: tuple[str, str]) -> None:
        self._labels = labels
        self._counters = counters
        self._passes = passes.labels(*labels)
        self._codes: set[str] = set()
        self._drifted: frozenset[Family] = frozenset()
        self._waiting_since: float | None = None
        for name in COUNTERS.keys() - COUNTER_LABELS.keys():
            self._add(name, 0)

    def count(self, event: events.Event, now: float) -> None:
        """Count one event that happened at ``now``."""
        match event:
            case events.Compared():
                self._compare(event)
            case events.Waiting(cause=events.WaitReason.SLOT):
                self._waiting_since = now if self._waiting_since is None else self._waiting_since
            case events.RequestReserved(at=at):
                self._add("mmp_slots_used")
                if self._waiting_since is not None:
                    self._add("mmp_slot_wait_seconds", max(0.0, at - self._waiting_since))
                self._waiting_since = None
            case events.RequestSettled():
                self._settle(event)
            case events.ExchangeFailed(doing=doing):
                kind = "live_read" if doing == events.READING_LIVE else "exchange"
                self._add(f"mmp_{kind}_failures", 1, self._code(event.reply.code))
            case events.LeaseTaken(before=before) if before:
                self._add("mmp_takeovers")
            case events.PassEnded(took_s=took_s):
                self._passes.observe(took_s)
            case _:
                pass

    def _add(self, name: str, amount: float = 1, *labels: str) -> None:
        self._counters[name].labels(*self._labels, *labels).inc(amount)

    def _compare(self, event: events.Compared) -> None:
        """Count the families that have newly drifted; an uncertain comparison proves nothing new."""
        if not event.plan.requests:
            self._waiting_since = None
        if event.complete:
            drifted = frozenset(one.family for one in event.plan.changes if one.reason is Reason.DRIFTED)
            self._add("mmp_drift_found", len(drifted - self._drifted))
            self._drifted = drifted

    def _settle(self, event: events.RequestSettled) -> None:
        self._add("mmp_requests", 1, event.status.value, self._code(event.reply.code))
        if event.status is AttemptStatus.UNKNOWN:
            self._add("mmp_uncertain_attempts")
        if event.status is AttemptStatus.APPLIED and event.reason is Reason.DRIFTED:
            self._add("mmp_drift_healed")

    def _code(self, code: str) -> str:
        """Return a code as a label value: one of a bounded number, in a safe format."""
        if code in self._codes:
            return code
        if len(self._codes) >= MAX_CODES or not _CODE.fullmatch(code):
            return OTHER_CODE
        self._codes.add(code)
        return code


class _Gauges(Collector):
    """Collects the gauges from the latest state at each scrape."""

    def __init__(self, read: Callable[[], Iterable[Metric]]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        """Return every gauge of every account."""
        return self._read()

    def describe(self) -> Iterable[Metric]:
        """Return nothing, or the registry would collect now; a test checks the names."""
        return ()
