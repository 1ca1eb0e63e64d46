"""The latest state as gauges: the help text of each gauge, and its values at one moment.

An unknown value has no sample: 0 would be wrong, and an alert can use ``absent()``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime, timedelta

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, Sample

from reconciler.core.model import PausedBy, Uncertain
from reconciler.core.monitoring.account_runtime import alive, content_in_force, rejection
from reconciler.core.monitoring.protection import Protection, frozen_until_reset
from reconciler.core.monitoring.status import FamilyState, Status
from reconciler.web.latest_state import AccountSnapshot, LatestState
from reconciler.web.status_api import account_status

DROPPED = "mmp_log_lines_dropped"
"""The one counter here: the process counts it, not a loop."""

HELP = {
    "mmp_build_info": "The program's version.",
    "mmp_start_timestamp_seconds": "When the process began.",
    DROPPED: "Log lines that could not be written.",
    "mmp_replicas": "Healthy replicas that share the accounts; no sample without replicas.",
    "mmp_leases": "Accounts that this replica runs; no sample without replicas.",
    "mmp_unable_accounts": (
        "Accounts that this replica cannot serve now: not read live for 20 s, or key rejected here."
    ),
    "mmp_missing_files": "Files or folders of settings that are not there yet.",
    "mmp_invalid_files": "Settings files without a valid version: no account runs from them.",
    "mmp_families": f"Desired families by state: {', '.join(FamilyState)}.",
    "mmp_family_state": "1 for the state that a desired family is in; the other states have no sample.",
    "mmp_protection": (
        f"1 for the protection of the account, else 0. Worst first: {', '.join(Protection)}."
    ),
    "mmp_startup_complete": (
        "1 once every family was as desired or tighter and none was uncertain; then always 1."
    ),
    "mmp_in_sync_timestamp_seconds": "When every family was last proven as desired.",
    "mmp_pending_requests": "Requests still to be sent.",
    "mmp_eta_seconds": "Seconds until the last pending request can go out or the last outcome is known.",
    "mmp_frozen_families": "Families whose quotes the exchange has frozen.",
    "mmp_frozen_until_reset_families": "Families frozen until a manual reset.",
    "mmp_paused_families": (
        f"Paused families: by {PausedBy.MANUAL}, or by {PausedBy.BREAKER} because another writer keeps "
        "changing them."
    ),
    "mmp_unresolved_attempts": "Requests whose outcome is not known now.",
    "mmp_slots_counting": "Requests that count against the next slot, 2 at the most.",
    "mmp_next_slot_seconds": "Seconds until the next slot.",
    "mmp_slots_spaced": "1 while requests are spaced evenly because the exchange answered 50011.",
    "mmp_config_accepted_timestamp_seconds": "When the file in use was accepted.",
    "mmp_config_invalid_timestamp_seconds": (
        "When a newer file was found to be invalid; no sample if none is. For files without a valid "
        "version: one sample with empty labels."
    ),
    "mmp_policy_accepted_timestamp_seconds": "When the policy in use was accepted.",
    "mmp_policy_invalid_timestamp_seconds": (
        "When a newer policy was found to be invalid; no sample if none is."
    ),
    "mmp_live_read_timestamp_seconds": "When live settings were last read.",
    "mmp_exchange_failing": "1 while requests to the exchange fail.",
    "mmp_key_problem": (
        "1 while key, account, environment or clock is not accepted, or rows of the account in PostgreSQL "
        "are damaged: nothing can be written."
    ),
    "mmp_clock_offset_seconds": (
        "How far the exchange's clock is ahead of this machine's; no sample until it was measured."
    ),
    "mmp_loop_last_step_timestamp_seconds": "When the account's loop last reported progress.",
    "mmp_loop_alive": "1 while the account's loop reports progress in time.",
    "mmp_state_locked": "1 while another process has locked the account's state.",
    "mmp_standby": "1 while another process controls the account and this one writes nothing.",
}
"""Every metric that is read from the latest state, in the order of the response."""

Value = tuple[str, float | datetime | None, Mapping[str, str]]
"""A metric's name, its value (None: not known), and the labels of the value."""


def gauges(latest: LatestState, *, now: float, wall: datetime) -> Collection[Metric]:
    """Return every metric of HELP as of ``now`` (the process's clock) and ``wall`` (UTC)."""
    metrics: dict[str, Metric] = {name: GaugeMetricFamily(name, text) for name, text in HELP.items()}
    metrics[DROPPED] = CounterMetricFamily(DROPPED, HELP[DROPPED], latest.dropped_log_lines())
    for name, value, labels in (*_process_values(latest), *_all_account_values(latest, now, wall)):
        number = value.timestamp() if isinstance(value, datetime) else value
        if number is not None:
            metrics[name].samples.append(Sample(name, dict(labels), float(number)))
    return metrics.values()


def _process_values(latest: LatestState) -> Iterator[Value]:
    yield "mmp_build_info", 1, {"version": latest.version}
    yield "mmp_start_timestamp_seconds", latest.began_at, {}
    yield "mmp_missing_files", len(latest.unloaded.missing), {}
    yield "mmp_invalid_files", len(latest.unloaded.rejected), {}
    if latest.replica is not None and latest.replica.leases is not None:
        yield "mmp_replicas", len(latest.replica.leases.replicas), {}
        yield "mmp_leases", len(latest.accounts()), {}
        yield "mmp_unable_accounts", len(latest.replica.unable), {}


def _all_account_values(latest: LatestState, now: float, wall: datetime) -> Iterator[Value]:
    for snapshot in latest.accounts():
        desired = snapshot.runtime.desired
        labels = {"account": desired.account, "environment": desired.environment.value}
        for name, value, more in _account_values(snapshot, now, wall):
            yield name, value, {**labels, **more}
    # For files that were never valid the account is unknown.
    times = [file.rejected_at for file in latest.unloaded.rejected]
    if times:
        yield "mmp_config_invalid_timestamp_seconds", max(times), {"account": "", "environment": ""}


def _account_values(snapshot: AccountSnapshot, now: float, wall: datetime) -> Iterator[Value]:
    runtime, seen = snapshot.runtime, account_status(snapshot, now=now, wall=wall)

    def at(instant: float | None) -> datetime | None:
        return None if instant is None else wall + timedelta(seconds=instant - now)

    for one in Protection:
        yield "mmp_protection", one is seen.protection.protection, {"protection": one.value}
    yield "mmp_startup_complete", runtime.started, {}
    yield "mmp_in_sync_timestamp_seconds", at(runtime.in_sync_at), {}
    for kind, file in (("config", runtime.config), ("policy", runtime.policy)):
        content, rejected = content_in_force(file), rejection(file)
        yield f"mmp_{kind}_accepted_timestamp_seconds", content.accepted_at if content else None, {}
        yield f"mmp_{kind}_invalid_timestamp_seconds", rejected.rejected_at if rejected else None, {}
    yield "mmp_live_read_timestamp_seconds", at(runtime.read_at), {}
    yield "mmp_exchange_failing", runtime.outage is not None, {}
    yield "mmp_key_problem", runtime.terminal_error is not None, {}
    yield "mmp_clock_offset_seconds", snapshot.clock_offset_s, {}
    yield "mmp_loop_last_step_timestamp_seconds", at(runtime.last_step_at), {}
    yield "mmp_loop_alive", alive(runtime, now), {}
    yield "mmp_state_locked", runtime.state_locked is not None, {}
    yield "mmp_standby", runtime.controller is not None, {}
    if runtime.compared is not None:  # until then the state was not read
        known = (runtime.compared.known.get(family) for family in runtime.compared.desired.families)
        unresolved = sum(len(one.unresolved) for one in known if isinstance(one, Uncertain))
        yield "mmp_unresolved_attempts", unresolved, {}
        yield from _status_values(seen.status, was_read=runtime.read_at is not None)


def _status_values(status: Status, *, was_read: bool) -> Iterator[Value]:
    """Yield the values of a compared account; only a live read shows what the exchange has frozen."""
    states = Counter(family.state for family in status.families)
    for state in FamilyState:
        yield "mmp_families", states[state], {"state": state.value}
    for family in status.families:
        yield "mmp_family_state", 1, {"family": family.family, "state": family.state.value}
    changes = [family.change for family in status.families if family.change]
    yield "mmp_pending_requests", sum(change.order is not None for change in changes), {}
    yield "mmp_eta_seconds", status.eta_s, {}
    paused = Counter(pause.by for pause in status.pauses)
    for by in PausedBy:
        yield "mmp_paused_families", paused[by], {"by": by.value}
    if status.pacing is not None:
        yield "mmp_slots_counting", status.pacing.counting, {}
        yield "mmp_next_slot_seconds", status.pacing.next_slot_s, {}
        yield "mmp_slots_spaced", status.pacing.spaced, {}
    if was_read:
        lives = [family.live for family in status.families if family.live]
        yield "mmp_frozen_families", sum(live.frozen for live in lives), {}
        yield "mmp_frozen_until_reset_families", sum(map(frozen_until_reset, status.families)), {}
