"""The probes: the checks of each probe, and how they are written.

A probe reports only what a supervisor needs. ``/livez``: whether a restart would help. ``/readyz``: whether
this process does its work. ``/startupz``: whether protection was in force once. No probe checks the
exchange: a restart does not end its outage. Decided from values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reconciler.core.monitoring.account_runtime import AccountRuntime, NeverValid, RejectedFile, alive
from reconciler.core.monitoring.unloaded_files import NO_UNLOADED_FILES
from reconciler.core.problems import escape_unprintable, first_error
from reconciler.core.replica_assignment import ReplicaStatus
from reconciler.render.values import count
from reconciler.web.latest_state import LatestState
from reconciler.web.responses import Response, text_response

DEAD_LOOP = "the program's event loop does not answer"


@dataclass(frozen=True, slots=True)
class ProbeCheck:
    """One check of a probe. ``message``: why it failed, or a note although it passed; "" if none."""

    name: str
    passed: bool
    message: str = ""

    @property
    def line(self) -> str:
        """The check in the format of Kubernetes' own checks."""
        if self.passed:
            return f"[+]{self.name} ok" + (f": {self.message}" if self.message else "")
        return f"[-]{self.name} failed: {self.message}"


def live_checks(latest: LatestState, *, answers: bool, now: float) -> tuple[ProbeCheck, ...]:
    """Check the heartbeats of the event loop (``answers``: it answered just now) and of every account."""
    loop = ProbeCheck("event-loop", answers, "" if answers else DEAD_LOOP)
    return (loop, *(_heartbeat(snapshot.runtime, now) for snapshot in latest.accounts()))


def ready_checks(latest: LatestState, *, answers: bool, now: float) -> tuple[ProbeCheck, ...]:
    """Check that every file is accepted and the state is open, and check the heartbeats."""
    accounts = [snapshot.runtime for snapshot in latest.accounts()]
    settings = (*_unloaded(latest), *map(_settings, accounts))
    failed = tuple(check for check in map(_startable, accounts) if not check.passed)
    heartbeats = live_checks(latest, answers=answers, now=now)
    standing_by = tuple(_standby(one) for one in accounts if one.controller is not None)
    return (*settings, *failed, *standing_by, _state(latest), *_lease_freshness(latest, now), *heartbeats)


def startup_checks(latest: LatestState, *, now: float) -> tuple[ProbeCheck, ...]:
    """Check that every account once had all its families in sync, or tighter, and none uncertain.

    If replicas share the accounts, each replica checks its own accounts. Every account must have an owner.
    """
    # A new file moves on during this check: it is missing, then assigned, then its account runs. In this
    # order the check finds it at least once.
    unloaded, replica = _unloaded(latest), latest.replica
    shared = () if replica is None else (_assignment(latest, replica, now),)
    accounts = latest.accounts()
    some = accounts or unloaded or (replica is not None and _has_accounts(replica))
    none = () if some else (ProbeCheck("settings", False, "no file is accepted yet"),)
    return (*unloaded, *none, *shared, *(_protected(snapshot.runtime) for snapshot in accounts))


def probe_response(checks: Sequence[ProbeCheck], *, verbose: bool) -> Response:
    """Return the response of a probe: 200 if every check passed, else 503 and the reasons."""
    failed = [check for check in checks if not check.passed]
    if verbose:
        lines = [check.line for check in checks]
        text = "\n".join([*lines, "check failed" if failed else "check passed"])
    else:
        text = "\n".join(f"{check.name}: {check.message}" for check in failed) or "ok"
    return text_response(503 if failed else 200, text)


def _state(latest: LatestState) -> ProbeCheck:
    """Check that the state is open and can be used."""
    replica = latest.replica
    # No file is read before the state is open.
    reads_files = bool(latest.accounts()) or latest.unloaded != NO_UNLOADED_FILES
    opened = reads_files or (replica is not None and replica.leases is not None)
    failures = (one.runtime.state_failed for one in latest.accounts())
    lost = next((failed.message for failed in failures if failed is not None), "")
    sentence = escape_unprintable(lost if opened else latest.error or "it is not open yet")
    return ProbeCheck("state", not sentence, sentence)


def _lease_freshness(latest: LatestState, now: float) -> tuple[ProbeCheck, ...]:
    """Check that the leases were read recently enough for this process to run its accounts."""
    replica = latest.replica
    if replica is None:
        return ()
    sure = now < replica.safe_until
    return (ProbeCheck("sharing", sure, "" if sure else _why_unknown(replica)),)


def _has_accounts(replica: ReplicaStatus) -> bool:
    """Tell whether any replica has a shared account."""
    return bool(replica.configured or (replica.leases is not None and replica.leases.owners))


def _why_unknown(replica: ReplicaStatus) -> str:
    """Write why nothing is known of the other replicas."""
    return escape_unprintable(replica.error) or "the state has not been reached"


def _assignment(latest: LatestState, replica: ReplicaStatus, now: float) -> ProbeCheck:
    """Check that every account has an owner, from leases that were read recently enough."""
    if replica.leases is None or now >= replica.safe_until:
        return ProbeCheck("leases", False, _why_unknown(replica))
    free = sum(owner is None for *_, owner in latest.remote_accounts())
    return ProbeCheck("leases", not free, f"{count(free, 'account')} not assigned yet" if free else "")


def _heartbeat(runtime: AccountRuntime, now: float) -> ProbeCheck:
    """Check that an account's loop has sent its heartbeat in time."""
    silent_s = now - runtime.last_step_at
    sentence = "" if alive(runtime, now) else f"no progress for {silent_s:.0f} s"
    return ProbeCheck(_name("loop", runtime), not sentence, sentence)


def _startable(runtime: AccountRuntime) -> ProbeCheck:
    """Check that an account's loop could start: it needs a key and undamaged rows."""
    terminal = runtime.terminal_error
    what = "state" if terminal is not None and terminal.reply.code.startswith("state-") else "key"
    failed = runtime.loop_failed.text if runtime.loop_failed is not None else ""
    return ProbeCheck(_name(what, runtime), not failed, escape_unprintable(failed))


def _settings(runtime: AccountRuntime) -> ProbeCheck:
    """Check that there is a valid policy, if any; a newer invalid file is only reported."""
    config, policy = runtime.config, runtime.policy
    sentence = []
    if isinstance(config, RejectedFile):
        sentence.append("a newer file is invalid, the last valid version stays in use")
    if isinstance(policy, RejectedFile):
        held = "the policy cannot be read, changes that loosen or disable are held"
        sentence.append(f"{held}: {_first_problem(policy)}")
    return ProbeCheck(_name("settings", runtime), not isinstance(policy, NeverValid), "; ".join(sentence))


def _standby(runtime: AccountRuntime) -> ProbeCheck:
    """Report that another process controls the account; a standby passes this check."""
    assert runtime.controller is not None
    return ProbeCheck(
        _name("standby", runtime), True, f"controlled by {escape_unprintable(runtime.controller.who)}"
    )


def _protected(runtime: AccountRuntime) -> ProbeCheck:
    sentence = "" if runtime.started else "not every family has been as desired, or tighter, yet"
    return ProbeCheck(_name("protected", runtime), runtime.started, sentence)


def _unloaded(latest: LatestState) -> tuple[ProbeCheck, ...]:
    """Report every file that is missing so far, and every file that was never valid."""
    missing = (f"waiting for {escape_unprintable(path)}" for path in latest.unloaded.missing)
    invalid = (_first_problem(file) for file in latest.unloaded.rejected)
    return tuple(ProbeCheck("settings", False, sentence) for sentence in (*missing, *invalid))


def _first_problem(file: RejectedFile) -> str:
    """Write what is wrong with a rejected file, in one line."""
    first = first_error(file.problems)
    place = f"{first.path}:{first.line}:{first.column}: {first.message}" if first else file.path
    return escape_unprintable(place)


def _name(what: str, runtime: AccountRuntime) -> str:
    desired = runtime.desired
    return f"{what}-{desired.account}-{desired.environment.value}"
