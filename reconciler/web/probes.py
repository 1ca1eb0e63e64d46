"""The probes: which checks each is made of, and how they are told.

A probe says what a supervisor has to know and nothing else: ``/livez`` whether restarting would help,
``/readyz`` whether this process does its work, ``/startupz`` whether protection was in force once. None
of them is about the exchange: restarting the sidecar mends no outage. Decided from values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reconciler.core.monitoring.runtime import AccountRuntime, FileState, alive
from reconciler.core.monitoring.unloaded_files import NONE
from reconciler.core.problems import escape_unprintable, first_error
from reconciler.core.replica_assignment import ReplicaStatus
from reconciler.render.values import count
from reconciler.web.latest_state import LatestState
from reconciler.web.responses import Response, text_response

DEAD_LOOP = "the program's event loop does not answer"


@dataclass(frozen=True, slots=True)
class ProbeCheck:
    """One check of a probe. ``told``: why it failed, or what to know although it passed; "" nothing."""

    name: str
    passed: bool
    message: str = ""

    @property
    def line(self) -> str:
        """The check as Kubernetes writes its own."""
        if self.passed:
            return f"[+]{self.name} ok" + (f": {self.message}" if self.message else "")
        return f"[-]{self.name} failed: {self.message}"


def live_checks(board: LatestState, *, answers: bool, now: float) -> tuple[ProbeCheck, ...]:
    """Check the heartbeats: of the event loop (``answers``: it did just now), and of every account."""
    loop = ProbeCheck("event-loop", answers, "" if answers else DEAD_LOOP)
    return (loop, *(_heard(watched.runtime, now) for watched in board.accounts()))


def ready_checks(board: LatestState, *, answers: bool, now: float) -> tuple[ProbeCheck, ...]:
    """Check that every file is accepted and the state open, and the heartbeats."""
    accounts = [watched.runtime for watched in board.accounts()]
    settings = (*_unloaded(board), *map(_settings, accounts))
    begun = tuple(check for check in map(_startable, accounts) if not check.passed)
    heartbeats = live_checks(board, answers=answers, now=now)
    standing_by = tuple(_standby(one) for one in accounts if one.controller is not None)
    return (*settings, *begun, *standing_by, _state(board), *_sharing(board, now), *heartbeats)


def startup_checks(board: LatestState, *, now: float) -> tuple[ProbeCheck, ...]:
    """Check that every account once had all its families in sync, or tighter, and none uncertain.

    Where accounts are shared out, those that others keep are theirs to answer for; none may be nobody's.
    """
    # A file that comes moves on while this looks: it is waited for, somebody's to keep, kept. Looked for
    # in this order it is met at least once.
    unloaded, replica = _unloaded(board), board.replica
    shared = () if replica is None else (_shared_out(board, replica, now),)
    accounts = board.accounts()
    some = accounts or unloaded or (replica is not None and _known(replica))
    nobody = () if some else (ProbeCheck("settings", False, "none is in force yet"),)
    return (*unloaded, *nobody, *shared, *(_protected(watched.runtime) for watched in accounts))


def probe_response(checks: Sequence[ProbeCheck], *, verbose: bool) -> Response:
    """Return what a probe answers: 200 when every check passed, else 503 and why."""
    failed = [check for check in checks if not check.passed]
    if verbose:
        lines = [check.line for check in checks]
        text = "\n".join([*lines, "check failed" if failed else "check passed"])
    else:
        text = "\n".join(f"{check.name}: {check.message}" for check in failed) or "ok"
    return text_response(503 if failed else 200, text)


def _state(board: LatestState) -> ProbeCheck:
    """Check that the state is open and can be used."""
    replica = board.replica
    told_of = bool(board.accounts()) or board.unloaded != NONE  # nothing is looked for before it is open
    opened = told_of or (replica is not None and replica.leases is not None)
    lost = next((one.runtime.state_lost for one in board.accounts() if one.runtime.state_lost), "")
    told = escape_unprintable(lost if opened else board.error or "it is not open yet")
    return ProbeCheck("state", not told, told)


def _sharing(board: LatestState, now: float) -> tuple[ProbeCheck, ...]:
    """Check that the state has been heard of lately enough for this process to keep its accounts."""
    replica = board.replica
    if replica is None:
        return ()
    sure = now < replica.safe_until
    return (ProbeCheck("sharing", sure, "" if sure else _unheard(replica)),)


def _known(replica: ReplicaStatus) -> bool:
    """Tell whether anybody has an account that is shared out."""
    return bool(replica.configured or (replica.leases is not None and replica.leases.owners))


def _unheard(replica: ReplicaStatus) -> str:
    """Write why nothing is known of the others."""
    return escape_unprintable(replica.error) or "the state has not been reached"


def _shared_out(board: LatestState, replica: ReplicaStatus, now: float) -> ProbeCheck:
    """Check that every account has an owner, by what was heard lately enough."""
    if replica.leases is None or now >= replica.safe_until:
        return ProbeCheck("leases", False, _unheard(replica))
    free = sum(owner is None for *_, owner in board.remote_accounts())
    return ProbeCheck("leases", not free, f"{count(free, 'account')} not assigned yet" if free else "")


def _heard(runtime: AccountRuntime, now: float) -> ProbeCheck:
    """Check that an account's loop was heard of as recently as it should have been."""
    silent_s = now - runtime.last_step_at
    told = "" if alive(runtime, now) else f"no progress for {silent_s:.0f} s"
    return ProbeCheck(_name("loop", runtime), not told, told)


def _startable(runtime: AccountRuntime) -> ProbeCheck:
    """Check that an account's loop could begin: not without a key, nor on damaged rows."""
    objection = runtime.terminal_error
    what = "state" if objection is not None and objection.reply.code.startswith("state-") else "key"
    return ProbeCheck(_name(what, runtime), not runtime.failed, escape_unprintable(runtime.failed))


def _settings(runtime: AccountRuntime) -> ProbeCheck:
    """Check that there is a valid policy, if any; a newer invalid file is only reported."""
    config, policy = runtime.config, runtime.policy
    told = []
    if config is not None and config.rejected_at is not None:
        told.append("a newer file was rejected, the last valid version stays in use")
    if policy is not None and policy.rejected_at is not None:
        held = "the policy cannot be read, changes that loosen or disable are held"
        told.append(f"{held}: {_first_problem(policy)}")
    return ProbeCheck(_name("settings", runtime), policy is None or not policy.stops, "; ".join(told))


def _standby(runtime: AccountRuntime) -> ProbeCheck:
    """Report that another process controls the account; a standby passes this check."""
    assert runtime.controller is not None
    return ProbeCheck(
        _name("standby", runtime), True, f"controlled by {escape_unprintable(runtime.controller.who)}"
    )


def _protected(runtime: AccountRuntime) -> ProbeCheck:
    told = "" if runtime.started else "not every family has been as desired, or tighter, yet"
    return ProbeCheck(_name("protected", runtime), runtime.started, told)


def _unloaded(board: LatestState) -> tuple[ProbeCheck, ...]:
    """Tell of every file that is not there yet, and of every one that never held."""
    awaited = (f"waiting for {escape_unprintable(path)}" for path in board.unloaded.missing)
    refused = (_first_problem(file) for file in board.unloaded.rejected)
    return tuple(ProbeCheck("settings", False, told) for told in (*awaited, *refused))


def _first_problem(file: FileState) -> str:
    """Write what is wrong with a refused file, in one line."""
    first = first_error(file.problems)
    place = f"{first.path}:{first.line}:{first.column}: {first.message}" if first else file.path
    return escape_unprintable(place)


def _name(what: str, runtime: AccountRuntime) -> str:
    desired = runtime.desired
    return f"{what}-{desired.account}-{desired.environment.value}"
