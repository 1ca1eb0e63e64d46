"""The latest state as gauges: one row per metric, each a function from a ``GaugeInput`` to samples.

An unknown value has no sample: 0 would be wrong, and an alert can use ``absent()``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from reconciler.core.model import PausedBy, Uncertain
from reconciler.core.monitoring.protection import Protection, frozen_until_reset
from reconciler.core.monitoring.runtime import AccountRuntime, FileState, alive
from reconciler.core.monitoring.status import FamilyState, PacingStatus
from reconciler.web.latest_state import AccountSnapshot
from reconciler.web.status_api import AccountStatus, account_status

Labels = tuple[str, ...]
Sample = tuple[Labels, float]

ACCOUNT = ("account", "environment")

REJECTED_AT = "mmp_config_rejected_timestamp_seconds"
"""Also has a sample without account labels, for files that were never valid: their account is unknown."""


@dataclass(frozen=True, slots=True)
class GaugeInput:
    """One account as of ``now`` and ``wall``."""

    watched: AccountSnapshot
    look: AccountStatus
    now: float
    wall: datetime

    @property
    def runtime(self) -> AccountRuntime:
        """The runtime state of the account's loop."""
        return self.watched.runtime

    @property
    def labels(self) -> Labels:
        """The values of the ACCOUNT labels."""
        return labels_of(self.runtime)


@dataclass(frozen=True, slots=True)
class Gauge:
    """One metric: name, help, labels beside ACCOUNT, and the function that gives one account's samples."""

    name: str
    help: str
    labels: Labels
    samples: Callable[[GaugeInput], Iterable[Sample]]


def labels_of(runtime: AccountRuntime) -> Labels:
    """Return the values of the ACCOUNT labels of an account."""
    return runtime.desired.account, runtime.desired.environment.value


def gauge_input(watched: AccountSnapshot, *, now: float, wall: datetime) -> GaugeInput:
    """Return the input of every gauge for one account."""
    return GaugeInput(watched, account_status(watched, now=now, wall=wall), now, wall)


def _one(value: float | None) -> list[Sample]:
    return [] if value is None else [((), float(value))]


def _once_compared(of: Callable[[GaugeInput], list[Sample]]) -> Callable[[GaugeInput], list[Sample]]:
    """Give no samples before the first comparison: until then the state was not read."""
    return lambda seen: of(seen) if seen.runtime.compared is not None else []


def _once_read(of: Callable[[GaugeInput], list[Sample]]) -> Callable[[GaugeInput], list[Sample]]:
    """Give no samples before live was read and compared: only a read shows what the exchange has."""
    return _once_compared(lambda seen: of(seen) if seen.runtime.read_at is not None else [])


def _states(seen: GaugeInput) -> list[Sample]:
    found = Counter(family.state for family in seen.look.status.families)
    return [((state.value,), float(found[state])) for state in FamilyState]


def _family_states(seen: GaugeInput) -> list[Sample]:
    return [((family.family, family.state.value), 1.0) for family in seen.look.status.families]


def _standing(seen: GaugeInput) -> list[Sample]:
    return [((one.value,), float(one is seen.look.protection.protection)) for one in Protection]


def _pending(seen: GaugeInput) -> list[Sample]:
    changes = (family.change for family in seen.look.status.families)
    return _one(sum(change is not None and change.order is not None for change in changes))


def _frozen(seen: GaugeInput) -> list[Sample]:
    return _one(sum(bool(family.live and family.live.frozen) for family in seen.look.status.families))


def _until_reset(seen: GaugeInput) -> list[Sample]:
    return _one(sum(frozen_until_reset(family) for family in seen.look.status.families))


def _paused(seen: GaugeInput) -> list[Sample]:
    found = Counter(pause.by for pause in seen.look.status.pauses)
    return [((by.value,), float(found[by])) for by in PausedBy]


def _unresolved(seen: GaugeInput) -> list[Sample]:
    compared = seen.runtime.compared
    if compared is None:
        return []
    known = (compared.known.get(family) for family in compared.desired.families)
    return _one(sum(len(one.unresolved) for one in known if isinstance(one, Uncertain)))


def _pacing(of: Callable[[PacingStatus], float]) -> Callable[[GaugeInput], list[Sample]]:
    def samples(seen: GaugeInput) -> list[Sample]:
        pacing = seen.look.status.pacing
        return [] if pacing is None else _one(of(pacing))

    return samples


def _at(of: Callable[[GaugeInput], datetime | None]) -> Callable[[GaugeInput], list[Sample]]:
    def samples(seen: GaugeInput) -> list[Sample]:
        wall = of(seen)
        return [] if wall is None else _one(wall.timestamp())

    return samples


def _in_sync_at(seen: GaugeInput) -> datetime | None:
    return _wall(seen, seen.runtime.in_sync_at)


def _wall(seen: GaugeInput, instant: float | None) -> datetime | None:
    return None if instant is None else seen.wall + timedelta(seconds=instant - seen.now)


def _accepted(file: FileState | None) -> datetime | None:
    return file.accepted_at if file else None


def _rejected(file: FileState | None) -> datetime | None:
    return file.rejected_at if file else None


def _flag(of: Callable[[GaugeInput], bool]) -> Callable[[GaugeInput], list[Sample]]:
    return lambda seen: _one(of(seen))


GAUGES = (
    Gauge(
        "mmp_families",
        "Desired families by state: " + ", ".join(FamilyState) + ".",
        ("state",),
        _once_compared(_states),
    ),
    Gauge(
        "mmp_family_state",
        "1 for the state that a desired family is in; the other states have no sample.",
        ("family", "state"),
        _once_compared(_family_states),
    ),
    Gauge(
        "mmp_protection",
        "1 for the protection of the account, else 0. Worst first: " + ", ".join(Protection) + ".",
        ("protection",),
        _standing,
    ),
    Gauge(
        "mmp_startup_complete",
        "1 once every family was as desired or tighter and none was uncertain; then always 1.",
        (),
        _flag(lambda seen: seen.runtime.started),
    ),
    Gauge(
        "mmp_in_sync_timestamp_seconds",
        "When every family was last proven as desired.",
        (),
        _at(_in_sync_at),
    ),
    Gauge("mmp_pending_requests", "Requests still to be sent.", (), _once_compared(_pending)),
    Gauge(
        "mmp_eta_seconds",
        "Seconds until the last pending request can go out or the last outcome is known.",
        (),
        _once_compared(lambda seen: _one(seen.look.status.eta_s)),
    ),
    Gauge("mmp_frozen_families", "Families whose quotes the exchange has frozen.", (), _once_read(_frozen)),
    Gauge(
        "mmp_frozen_until_reset_families",
        "Families frozen until a manual reset.",
        (),
        _once_read(_until_reset),
    ),
    Gauge(
        "mmp_paused_families",
        f"Paused families: by {PausedBy.MANUAL}, or by {PausedBy.BREAKER} because another writer keeps "
        "changing them.",
        ("by",),
        _once_compared(_paused),
    ),
    Gauge("mmp_unresolved_attempts", "Requests whose outcome is not known now.", (), _unresolved),
    Gauge(
        "mmp_slots_counting",
        "Requests that count against the next slot, 2 at the most.",
        (),
        _pacing(lambda pacing: pacing.counting),
    ),
    Gauge(
        "mmp_next_slot_seconds",
        "Seconds until the next slot.",
        (),
        _pacing(lambda pacing: pacing.next_slot_s),
    ),
    Gauge(
        "mmp_slots_spaced",
        "1 while requests are spaced evenly because the exchange answered 50011.",
        (),
        _pacing(lambda pacing: pacing.spaced),
    ),
    Gauge(
        "mmp_config_accepted_timestamp_seconds",
        "When the file in force was accepted.",
        (),
        _at(lambda seen: _accepted(seen.runtime.config)),
    ),
    Gauge(
        REJECTED_AT,
        "When a newer file was rejected; no sample if none was. For files without a valid version: "
        "one sample with empty labels.",
        (),
        _at(lambda seen: _rejected(seen.runtime.config)),
    ),
    Gauge(
        "mmp_policy_accepted_timestamp_seconds",
        "When the policy in force was accepted.",
        (),
        _at(lambda seen: _accepted(seen.runtime.policy)),
    ),
    Gauge(
        "mmp_policy_rejected_timestamp_seconds",
        "When a newer policy was rejected; no sample if none was.",
        (),
        _at(lambda seen: _rejected(seen.runtime.policy)),
    ),
    Gauge(
        "mmp_live_read_timestamp_seconds",
        "When live settings were last read.",
        (),
        _at(lambda seen: _wall(seen, seen.runtime.read_at)),
    ),
    Gauge(
        "mmp_exchange_failing",
        "1 while requests to the exchange fail.",
        (),
        _flag(lambda seen: seen.runtime.outage is not None),
    ),
    Gauge(
        "mmp_key_problem",
        "1 while key, account, environment or clock is not accepted, or rows of the account in PostgreSQL "
        "are damaged: nothing can be written.",
        (),
        _flag(lambda seen: seen.runtime.terminal_error is not None),
    ),
    Gauge(
        "mmp_clock_offset_seconds",
        "How far the exchange's clock is ahead of this machine's; no sample until it was measured.",
        (),
        lambda seen: _one(seen.watched.clock_offset_s),
    ),
    Gauge(
        "mmp_loop_heard_timestamp_seconds",
        "When the account's loop last reported progress.",
        (),
        _at(lambda seen: _wall(seen, seen.runtime.last_step_at)),
    ),
    Gauge(
        "mmp_loop_alive",
        "1 while the account's loop reports progress in time.",
        (),
        _flag(lambda seen: alive(seen.runtime, seen.now)),
    ),
    Gauge(
        "mmp_state_locked",
        "1 while another process has locked the account's state.",
        (),
        _flag(lambda seen: bool(seen.runtime.locked_out)),
    ),
    Gauge(
        "mmp_standby",
        "1 while another process controls the account and this one writes nothing.",
        (),
        _flag(lambda seen: seen.runtime.controller is not None),
    ),
)
