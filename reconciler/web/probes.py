"""The probes: which checks each is made of, and how they are told.

A probe says what a supervisor has to know and nothing else: ``/livez`` whether restarting would help,
``/readyz`` whether this process does its work, ``/startupz`` whether protection was in force once. None
of them is about the exchange: restarting the sidecar mends no outage. Decided from values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reconciler.core.monitoring.runtime import FileState, Vitals, alive
from reconciler.core.monitoring.unloaded_files import NOTHING
from reconciler.core.problems import foremost, printable
from reconciler.render.values import count
from reconciler.web.latest_state import Board, Together
from reconciler.web.responses import Answer, text_answer

DEAD_LOOP = "the program's event loop does not answer"


@dataclass(frozen=True, slots=True)
class Check:
    """One check of a probe. ``told``: why it failed, or what to know although it passed; "" nothing."""

    name: str
    passed: bool
    told: str = ""

    @property
    def line(self) -> str:
        """The check as Kubernetes writes its own."""
        if self.passed:
            return f"[+]{self.name} ok" + (f": {self.told}" if self.told else "")
        return f"[-]{self.name} failed: {self.told}"


def live_checks(board: Board, *, answers: bool, now: float) -> tuple[Check, ...]:
    """Check the heartbeats: of the event loop (``answers``: it did just now), and of every account."""
    loop = Check("event-loop", answers, "" if answers else DEAD_LOOP)
    return (loop, *(_heard(watched.vitals, now) for watched in board.accounts()))


def ready_checks(board: Board, *, answers: bool, now: float) -> tuple[Check, ...]:
    """Check that every file is accepted and the state open, and the heartbeats."""
    accounts = [watched.vitals for watched in board.accounts()]
    settings = (*_unkept(board), *map(_settings, accounts))
    begun = tuple(check for check in map(_begun, accounts) if not check.passed)
    heartbeats = live_checks(board, answers=answers, now=now)
    standing_by = tuple(_standby(one) for one in accounts if one.controller is not None)
    return (*settings, *begun, *standing_by, _state(board), *_sharing(board, now), *heartbeats)


def startup_checks(board: Board, *, now: float) -> tuple[Check, ...]:
    """Check that every account once had all its families in sync, or tighter, and none uncertain.

    Where accounts are shared out, those that others keep are theirs to answer for; none may be nobody's.
    """
    # A file that comes moves on while this looks: it is waited for, somebody's to keep, kept. Looked for
    # in this order it is met at least once.
    unkept, together = _unkept(board), board.together
    shared = () if together is None else (_shared_out(board, together, now),)
    accounts = board.accounts()
    some = accounts or unkept or (together is not None and _known(together))
    nobody = () if some else (Check("settings", False, "none is in force yet"),)
    return (*unkept, *nobody, *shared, *(_protected(watched.vitals) for watched in accounts))


def probe_answer(checks: Sequence[Check], *, verbose: bool) -> Answer:
    """Return what a probe answers: 200 when every check passed, else 503 and why."""
    failed = [check for check in checks if not check.passed]
    if verbose:
        lines = [check.line for check in checks]
        text = "\n".join([*lines, "check failed" if failed else "check passed"])
    else:
        text = "\n".join(f"{check.name}: {check.told}" for check in failed) or "ok"
    return text_answer(503 if failed else 200, text)


def _state(board: Board) -> Check:
    """Check that the state is open and can be used."""
    together = board.together
    told_of = bool(board.accounts()) or board.unkept != NOTHING  # nothing is looked for before it is open
    opened = told_of or (together is not None and together.roster is not None)
    lost = next((one.vitals.state_lost for one in board.accounts() if one.vitals.state_lost), "")
    told = printable(lost if opened else board.trouble or "it is not open yet")
    return Check("state", not told, told)


def _sharing(board: Board, now: float) -> tuple[Check, ...]:
    """Check that the state has been heard of lately enough for this process to keep its accounts."""
    together = board.together
    if together is None:
        return ()
    sure = now < together.good_until
    return (Check("sharing", sure, "" if sure else _unheard(together)),)


def _known(together: Together) -> bool:
    """Tell whether anybody has an account that is shared out."""
    return bool(together.keeps or (together.roster is not None and together.roster.owners))


def _unheard(together: Together) -> str:
    """Write why nothing is known of the others."""
    return printable(together.trouble) or "the state has not been heard of"


def _shared_out(board: Board, together: Together, now: float) -> Check:
    """Check that every account has an owner, by what was heard lately enough."""
    if together.roster is None or now >= together.good_until:
        return Check("leases", False, _unheard(together))
    free = sum(owner is None for *_, owner in board.elsewhere())
    return Check("leases", not free, f"{count(free, 'account')} nobody's yet" if free else "")


def _heard(vitals: Vitals, now: float) -> Check:
    """Check that an account's loop was heard of as recently as it should have been."""
    silent_s = now - vitals.heard_at
    told = "" if alive(vitals, now) else f"nothing was heard of it for {silent_s:.0f} s"
    return Check(_name("loop", vitals), not told, told)


def _begun(vitals: Vitals) -> Check:
    """Check that an account's loop could begin: not without a key, nor on damaged rows."""
    objection = vitals.objection
    what = "state" if objection is not None and objection.reply.code.startswith("state-") else "key"
    return Check(_name(what, vitals), not vitals.failed, printable(vitals.failed))


def _settings(vitals: Vitals) -> Check:
    """Check that there is a valid policy, if any; a newer invalid file is only reported."""
    config, policy = vitals.config, vitals.policy
    told = []
    if config is not None and config.rejected_at is not None:
        told.append("a newer file was rejected, the last good one stays in force")
    if policy is not None and policy.rejected_at is not None:
        held = "the policy cannot be read, changes that loosen or disable are held"
        told.append(f"{held}: {_first_problem(policy)}")
    return Check(_name("settings", vitals), policy is None or not policy.stops, "; ".join(told))


def _standby(vitals: Vitals) -> Check:
    """Report that another process controls the account; a standby passes this check."""
    assert vitals.controller is not None
    return Check(_name("standby", vitals), True, f"controlled by {printable(vitals.controller.who)}")


def _protected(vitals: Vitals) -> Check:
    told = "" if vitals.started else "not every family has been as desired, or tighter, yet"
    return Check(_name("protected", vitals), vitals.started, told)


def _unkept(board: Board) -> tuple[Check, ...]:
    """Tell of every file that is not there yet, and of every one that never held."""
    awaited = (f"waiting for {printable(path)}" for path in board.unkept.awaited)
    refused = (_first_problem(file) for file in board.unkept.refused)
    return tuple(Check("settings", False, told) for told in (*awaited, *refused))


def _first_problem(file: FileState) -> str:
    """Write what is wrong with a refused file, in one line."""
    first = foremost(file.problems)
    place = f"{first.path}:{first.line}:{first.column}: {first.message}" if first else file.path
    return printable(place)


def _name(what: str, vitals: Vitals) -> str:
    desired = vitals.desired
    return f"{what}-{desired.account}-{desired.environment.value}"
