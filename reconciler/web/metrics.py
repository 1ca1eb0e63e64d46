"""``/metrics``: the loops as Prometheus metrics, with names and units by its conventions.

Counters are folded from the loops' events, in the loops' thread. Everything else is read from the latest
state at each scrape. Every label has a bounded number of values: families come from the files, and codes
beyond MAX_CODES are counted together, since an exchange could send any number of them. A time is exported
as a timestamp, never as an age: ``time() - timestamp`` is also right between two scrapes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import datetime

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from reconciler.core.events import (
    READING_LIVE,
    Compared,
    Event,
    ExchangeFailed,
    LeaseTaken,
    PassEnded,
    RequestReserved,
    RequestSettled,
    StateFailed,
    Waiting,
    WaitReason,
)
from reconciler.core.model import Family
from reconciler.core.plan import Reason
from reconciler.core.reply import AttemptStatus
from reconciler.web.gauges import ACCOUNT, GAUGES, REJECTED_AT, Labels, Sample, gauge_input
from reconciler.web.latest_state import LatestState
from reconciler.web.responses import Response

CONTENT_TYPE = prometheus_client.CONTENT_TYPE_PLAIN_0_0_4
"""The format that every Prometheus reads. There is no content negotiation, so no Accept header can fail."""

MAX_CODES = 100
"""Codes with their own label value, per account: OKX documents fewer that can occur here."""

OTHER_CODE = "other"
_CODE = re.compile(r"[a-z0-9_-]{1,32}")

PASS_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""A pass that only reads takes one or two round trips; a pass that sends also waits for its slot."""


class Metrics:
    """All metrics of this process. ``observe`` and ``answer`` may run in two threads."""

    def __init__(
        self, shared_state: LatestState, *, now: Callable[[], float], wall: Callable[[], datetime]
    ) -> None:
        self._now = now
        # Not wanted: a second time series per counter, with when it was first counted.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call] # it has none
        self.registry = CollectorRegistry()
        self._tallies: dict[Labels, _EventCounter] = {}
        self._counters = _Counters(self.registry)
        self.registry.register(_Gauges(shared_state, now, wall))
        ProcessCollector(registry=self.registry)

    def observe(self, labels: Labels, event: Event) -> None:
        """Count an event of the account with ``labels`` (its name and environment)."""
        self.observe_process(event)
        if labels not in self._tallies:
            self._tallies[labels] = _EventCounter(self._counters, labels)
        self._tallies[labels].count(event, self._now())

    def observe_process(self, event: Event) -> None:
        """Count an event of any account, or of none."""
        if isinstance(event, StateFailed):
            self._counters.state_failures.inc()

    def answer(self) -> Response:
        """Return all metrics as of now."""
        return Response(200, prometheus_client.generate_latest(self.registry), CONTENT_TYPE)


class _Counters:
    """Every counter and histogram."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, message: str, *labels: str) -> Counter:
            return Counter(name, message, (*ACCOUNT, *labels), registry=registry)

        self.requests = counter(
            "mmp_requests",
            "Set MMP requests by outcome (applied, rejected, unknown, not-sent) and reply code.",
            "outcome",
            "code",
        )
        self.slots = counter("mmp_slots_used", "Slots reserved, each for one Set MMP request.")
        self.waited = counter("mmp_slot_wait_seconds", "Seconds that requests waited for a slot.")
        self.uncertain = counter(
            "mmp_uncertain_attempts", "Requests that got no answer, or none that could be understood."
        )
        self.drift_found = counter("mmp_drift_found", "Families whose settings were changed outside mmp.")
        self.drift_healed = counter("mmp_drift_healed", "Families restored after drift.")
        self.read_failures = counter(
            "mmp_live_read_failures", "Live reads that failed, by reply code.", "code"
        )
        self.takeovers = counter(
            "mmp_takeovers",
            "Times the lease of the account was taken over from a replica that stopped renewing it.",
        )
        self.state_failures = Counter(
            "mmp_state_failures", "Times the state could not be used.", registry=registry
        )
        self.failures = counter(
            "mmp_exchange_failures", "Other requests to the exchange that failed, by reply code.", "code"
        )
        self.passes = Histogram(
            "mmp_pass_duration_seconds",
            "Duration of passes, waiting within them included.",
            ACCOUNT,
            registry=registry,
            buckets=PASS_BUCKETS_S,
        )


class _EventCounter:
    """Folds one account's events into the counters."""

    def __init__(self, counters: _Counters, labels: Labels) -> None:
        self._labels = labels
        self._counters = counters
        self._codes: set[str] = set()
        self._drifted: frozenset[Family] = frozenset()
        self._waiting_since: float | None = None
        self._slots = counters.slots.labels(*labels)
        self._waited = counters.waited.labels(*labels)
        self._uncertain = counters.uncertain.labels(*labels)
        self._found = counters.drift_found.labels(*labels)
        self._healed = counters.drift_healed.labels(*labels)
        self._takeovers = counters.takeovers.labels(*labels)
        self._passes = counters.passes.labels(*labels)

    def count(self, event: Event, now: float) -> None:
        """Count one event that happened at ``now``."""
        match event:
            case Compared():
                self._compare(event)
            case Waiting(cause=WaitReason.SLOT):
                self._waiting_since = now if self._waiting_since is None else self._waiting_since
            case RequestReserved(at=at):
                self._reserve(at)
            case RequestSettled():
                self._settle(event)
            case ExchangeFailed(doing=doing):
                counter = self._counters.read_failures if doing == READING_LIVE else self._counters.failures
                counter.labels(*self._labels, self._code(event.reply.code)).inc()
            case LeaseTaken(before=before) if before:
                self._takeovers.inc()
            case PassEnded(took_s=took_s):
                self._passes.observe(took_s)
            case _:
                pass

    def _compare(self, event: Compared) -> None:
        """Count the families that have newly drifted; an uncertain comparison proves nothing new."""
        if not event.plan.requests:
            self._waiting_since = None
        if event.whole:
            drifted = frozenset(one.family for one in event.plan.changes if one.reason is Reason.DRIFTED)
            self._found.inc(len(drifted - self._drifted))
            self._drifted = drifted

    def _reserve(self, at: float) -> None:
        self._slots.inc()
        if self._waiting_since is not None:
            self._waited.inc(max(0.0, at - self._waiting_since))
        self._waiting_since = None

    def _settle(self, event: RequestSettled) -> None:
        code = self._code(event.reply.code)
        self._counters.requests.labels(*self._labels, event.status.value, code).inc()
        if event.status is AttemptStatus.UNKNOWN:
            self._uncertain.inc()
        if event.status is AttemptStatus.APPLIED and event.reason is Reason.DRIFTED:
            self._healed.inc()

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

    def __init__(
        self, shared_state: LatestState, now: Callable[[], float], wall: Callable[[], datetime]
    ) -> None:
        self._latest = shared_state
        self._now = now
        self._wall = wall

    def collect(self) -> Iterable[Metric]:
        """Return every gauge of every account."""
        now, wall = self._now(), self._wall()
        seen = [gauge_input(watched, now=now, wall=wall) for watched in self._latest.accounts()]
        began = self._latest.began_at.timestamp()
        yield _family(
            "mmp_build_info", "The program's version.", ("version",), [((self._latest.version,), 1.0)]
        )
        yield _family("mmp_start_timestamp_seconds", "When the process began.", (), [((), began)])
        dropped = CounterMetricFamily("mmp_log_lines_dropped", "Log lines that could not be written.")
        dropped.add_metric((), self._latest.dropped_log_lines())
        yield dropped
        yield from _shared(self._latest)
        yield from _unloaded(self._latest)
        for gauge in GAUGES:
            samples = [(one.labels + more, value) for one in seen for more, value in gauge.samples(one)]
            samples += _of_no_account(self._latest) if gauge.name == REJECTED_AT else []
            yield _family(gauge.name, gauge.help, ACCOUNT + gauge.labels, samples)

    def describe(self) -> Iterable[Metric]:
        """Return nothing, or the registry would collect now; a test checks the names."""
        return ()


def _shared(shared_state: LatestState) -> Iterable[Metric]:
    """Return how replicas share the accounts; nothing if they do not, or before the leases were read."""
    together = shared_state.replica
    roster = None if together is None else together.leases
    living = [] if roster is None else [len(roster.replicas)]
    kept = [] if roster is None else [len(shared_state.accounts())]
    unable = [] if together is None or roster is None else [len(together.unable)]
    for name, message, numbers in (
        ("mmp_replicas", "Healthy replicas that share the accounts; no sample without replicas.", living),
        ("mmp_leases", "Accounts that this replica runs; no sample without replicas.", kept),
        (
            "mmp_unable_accounts",
            "Accounts that this replica cannot serve now: not read live for 20 s, or key refused here.",
            unable,
        ),
    ):
        yield _family(name, message, (), [((), float(number)) for number in numbers])


def _unloaded(shared_state: LatestState) -> Iterable[Metric]:
    """Return the number of settings files from which no account runs."""
    awaited, refused = len(shared_state.unloaded.missing), len(shared_state.unloaded.rejected)
    for name, message, number in (
        ("mmp_awaited_files", "Files or folders of settings that are not there yet.", awaited),
        (
            "mmp_refused_files",
            "Settings files without a valid version: no account runs from them.",
            refused,
        ),
    ):
        yield _family(name, message, (), [((), float(number))])


def _of_no_account(shared_state: LatestState) -> list[Sample]:
    """Return when a file that was never valid was last rejected: a sample whose labels are empty."""
    times = [file.rejected_at.timestamp() for file in shared_state.unloaded.rejected if file.rejected_at]
    return [(("", ""), max(times))] if times else []


def _family(name: str, message: str, labels: Labels, samples: Iterable[Sample]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, message, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family
