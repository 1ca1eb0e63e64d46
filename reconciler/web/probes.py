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


def live_checks(shared_state: LatestState, *, answers: bool, now: float) -> tuple[ProbeCheck, ...]:
    """Check the heartbeats: of the event loop (``answers``: it did just now), and of every account."""
    loop = ProbeCheck("event-loop", answers, "" if answers else DEAD_LOOP)
    return (loop, *(_heard(watched.runtime, now) for watched in shared_state.accounts()))


def ready_checks(shared_state: LatestState, *, answers: bool, now: float) -> tuple[ProbeCheck, ...]:
    """Check that every file is accepted and the state open, and the heartbeats."""
    accounts = [watched.runtime for watched in shared_state.accounts()]
    settings = (*_unloaded(shared_state), *map(_settings, accounts))
    begun = tuple(check for check in map(_startable, accounts) if not check.passed)
    heartbeats = live_checks(shared_state, answers=answers, now=now)
    standing_by = tuple(_standby(one) for one in accounts if one.controller is not None)
    return (
        *settings,
        *begun,
        *standing_by,
        _state(shared_state),
        *_sharing(shared_state, now),
        *heartbeats,
    )


def startup_checks(shared_state: LatestState, *, now: float) -> tuple[ProbeCheck, ...]:
    """Check that every account once had all its families in sync, or tighter, and none uncertain.

    Where accounts are shared out, those that others keep are theirs to answer for; none may be nobody's.
    """
    # A file that comes moves on while this looks: it is waited for, somebody's to keep, kept. Looked for
    # in this order it is met at least once.
    unloaded, replica = _unloaded(shared_state), shared_state.replica
    shared = () if replica is None else (_shared_out(shared_state, replica, now),)
    accounts = shared_state.accounts()
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


def _state(shared_state: LatestState) -> ProbeCheck:
    """Check that the state is open and can be used."""
    replica = shared_state.replica
    message_of = (
        bool(shared_state.accounts()) or shared_state.unloaded != NONE
    )  # nothing is looked for before it is open
    opened = message_of or (replica is not None and replica.leases is not None)
    lost = next((one.runtime.state_lost for one in shared_state.accounts() if one.runtime.state_lost), "")
    sentence = escape_unprintable(lost if opened else shared_state.error or "it is not open yet")
    return ProbeCheck("state", not sentence, sentence)


def _sharing(shared_state: LatestState, now: float) -> tuple[ProbeCheck, ...]:
    """Check that the state has been heard of lately enough for this process to keep its accounts."""
    replica = shared_state.replica
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


def _shared_out(shared_state: LatestState, replica: ReplicaStatus, now: float) -> ProbeCheck:
    """Check that every account has an owner, by what was heard lately enough."""
    if replica.leases is None or now >= replica.safe_until:
        return ProbeCheck("leases", False, _unheard(replica))
    free = sum(owner is None for *_, owner in shared_state.remote_accounts())
    return ProbeCheck("leases", not free, f"{count(free, 'account')} not assigned yet" if free else "")


def _heard(runtime: AccountRuntime, now: float) -> ProbeCheck:
    """Check that an account's loop was heard of as recently as it should have been."""
    silent_s = now - runtime.last_step_at
    sentence = "" if alive(runtime, now) else f"no progress for {silent_s:.0f} s"
    return ProbeCheck(_name("loop", runtime), not sentence, sentence)


def _startable(runtime: AccountRuntime) -> ProbeCheck:
    """Check that an account's loop could begin: not without a key, nor on damaged rows."""
    terminal = runtime.terminal_error
    what = "state" if terminal is not None and terminal.reply.code.startswith("state-") else "key"
    return ProbeCheck(_name(what, runtime), not runtime.failed, escape_unprintable(runtime.failed))


def _settings(runtime: AccountRuntime) -> ProbeCheck:
    """Check that there is a valid policy, if any; a newer invalid file is only reported."""
    config, policy = runtime.config, runtime.policy
    sentence = []
    if config is not None and config.rejected_at is not None:
        sentence.append("a newer file was rejected, the last valid version stays in use")
    if policy is not None and policy.rejected_at is not None:
        held = "the policy cannot be read, changes that loosen or disable are held"
        sentence.append(f"{held}: {_first_problem(policy)}")
    return ProbeCheck(_name("settings", runtime), policy is None or not policy.stops, "; ".join(sentence))


def _standby(runtime: AccountRuntime) -> ProbeCheck:
    """Report that another process controls the account; a standby passes this check."""
    assert runtime.controller is not None
    return ProbeCheck(
        _name("standby", runtime), True, f"controlled by {escape_unprintable(runtime.controller.who)}"
    )


def _protected(runtime: AccountRuntime) -> ProbeCheck:
    sentence = "" if runtime.started else "not every family has been as desired, or tighter, yet"
    return ProbeCheck(_name("protected", runtime), runtime.started, sentence)


def _unloaded(shared_state: LatestState) -> tuple[ProbeCheck, ...]:
    """Tell of every file that is not there yet, and of every one that never held."""
    awaited = (f"waiting for {escape_unprintable(path)}" for path in shared_state.unloaded.missing)
    refused = (_first_problem(file) for file in shared_state.unloaded.rejected)
    return tuple(ProbeCheck("settings", False, sentence) for sentence in (*awaited, *refused))


def _first_problem(file: FileState) -> str:
    """Write what is wrong with a refused file, in one line."""
    first = first_error(file.problems)
    place = f"{first.path}:{first.line}:{first.column}: {first.message}" if first else file.path
    return escape_unprintable(place)


def _name(what: str, runtime: AccountRuntime) -> str:
    desired = runtime.desired
    return f"{what}-{desired.account}-{desired.environment.value}"
