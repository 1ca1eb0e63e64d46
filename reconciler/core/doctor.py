"""The results of ``mmp doctor``: one per check, with what to do about it.

This file decides what is all right, what is only worth knowing (advice) and what is a failure,
and the exit status. The caller collects the facts; nothing here makes a request.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from reconciler.core import live_evidence
from reconciler.core.account_preflight import PORTFOLIO_MARGIN, may_withdraw, why_unusable
from reconciler.core.model import AccountInfo, Desired, Family, LiveRead, Pause, PausedBy, first_names
from reconciler.core.policy import Policy
from reconciler.errors import Exit, MmpError, overall_status

LARGE_OFFSET_S = 1.0
"""A local clock's offset is reported from this size on; it is compensated."""

MOST_NAMED = 5
"""Families named in one result; the rest are counted."""

UNBOUND_KEY_EXPIRY_DAYS = 14
"""A trade key bound to no address expires after so long without an authenticated call [doc]."""


class CheckStatus(StrEnum):
    """The status of a check."""

    OK = "ok"
    ADVICE = "advice"
    FAILED = "failed"
    SKIPPED = "skipped"


class Purpose(StrEnum):
    """What the key is meant for."""

    PLAN = "plan"
    APPLY = "apply"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What one check found. ``remedy`` says what to do, empty when nothing is; ``status`` is FAILED's."""

    check: str
    mark: CheckStatus
    message: str
    remedy: str = ""
    status: Exit = Exit.DONE


def doctor_exit_status(findings: Iterable[CheckResult]) -> Exit:
    """Return the exit status of all results: advice and skipped checks are no failure."""
    return overall_status([finding.status for finding in findings if finding.mark is CheckStatus.FAILED])


def ok(check: str, text: str) -> CheckResult:
    """Return a result without a problem."""
    return CheckResult(check, CheckStatus.OK, text)


def advice(check: str, text: str, remedy: str = "") -> CheckResult:
    """Return a result that is worth knowing and no failure."""
    return CheckResult(check, CheckStatus.ADVICE, text, remedy)


def failed(check: str, problem: MmpError) -> CheckResult:
    """Return the result that ``problem`` makes the check fail."""
    return CheckResult(check, CheckStatus.FAILED, problem.message, problem.hint, problem.exit_status)


def skipped(checks: Sequence[str], why: str) -> tuple[CheckResult, ...]:
    """Return a result for each of ``checks`` that could not be made."""
    return tuple(CheckResult(check, CheckStatus.SKIPPED, f"not checked: {why}") for check in checks)


def policy_found(policy: Policy | None) -> CheckResult:
    """Check whether a policy applies to changes."""
    if policy is not None:
        protected = f", {len(policy.protected)} protected" if policy.protected else ""
        return ok("policy", f"{policy.path} is valid{protected}")
    return advice(
        "policy",
        "no policy file: the only guard is that disabling a family needs --allow",
        "write mmp-policy.yaml beside the config; mmp schema policy prints its format",
    )


def clock_off(offset_s: float) -> CheckResult:
    """Check how far the exchange's clock is ahead of this machine's time of day."""
    if abs(offset_s) <= LARGE_OFFSET_S:
        return ok("clock", f"within {LARGE_OFFSET_S:g} s of the exchange's")
    way = "behind" if offset_s > 0 else "ahead of"
    text = f"this machine's clock is {abs(offset_s):.1f} s {way} the exchange's; that is compensated"
    return advice("clock", text, "set it by NTP all the same: times in logs are this machine's")


def ownership(info: AccountInfo, desired: Desired) -> CheckResult:
    """Check whether the key belongs to the account in the file."""
    problem = why_unusable(info, desired, writing=False)
    if problem is not None:
        return failed("account", problem)
    label = f", key {info.label!r}" if info.label else ""
    whose = f"User ID {info.uid}{label}"
    if desired.expected_uid is None:
        remedy = (
            f'add expect: {{uid: "{info.uid}"}} to {desired.path}, so that no other account is written to'
        )
        return advice("account", f"{whose}; the file has no expect.uid", remedy)
    return ok("account", f"{whose}, as the file expects")


def permissions(info: AccountInfo, *, purpose: Purpose, allow_withdraw: bool) -> tuple[CheckResult, ...]:
    """Check what the key may do: Read for plans, Trade for applying, and preferably not Withdraw."""
    return (
        *_granted(info, "read_only", "Read", "mmp plan and every other command that reads"),
        *(
            _granted(info, "trade", "Trade", "mmp apply and run; for plans alone say --for plan")
            if purpose is Purpose.APPLY
            else ()
        ),
        _withdrawal(may_withdraw(info), allow_withdraw),
    )


def account_mode(info: AccountInfo) -> CheckResult:
    """Check the account's mode: Set MMP works in portfolio margin only [doc]."""
    if info.level == PORTFOLIO_MARGIN:
        return ok("mode", "portfolio margin (acctLv 4)")
    return CheckResult(
        "mode",
        CheckStatus.FAILED,
        f"acctLv is {info.level}, not portfolio margin (4)",
        "switch the account to portfolio margin mode at OKX; Set MMP works in no other",
        Exit.ACCOUNT,
    )


def address_binding(info: AccountInfo) -> CheckResult:
    """Check whether the key is bound to addresses."""
    if info.ip:
        number = len(info.ip)
        return ok("address", f"the key is bound to {number} {'address' if number == 1 else 'addresses'}")
    return advice(
        "address",
        f"the key is not bound to an IP address: such a trade key expires after {UNBOUND_KEY_EXPIRY_DAYS} "
        "days without an authenticated call, and works from anywhere if it leaks",
        "bind it at OKX to the public addresses of your machines",
    )


def live_readable(read: LiveRead, desired: Desired) -> tuple[CheckResult, ...]:
    """Check what a live read showed of the desired families."""
    configured = len(desired.families.keys() & read.rows.keys())
    text = f"live is readable: {configured} of {len(desired.families)} desired families are configured"
    frozen = [family for family in sorted(desired.families) if _is_frozen(family, read)]
    unreadable = sorted(family for family in desired.families if live_evidence.why_unreadable(family, read))
    return (
        ok("mmp", text),
        *([_frozen(frozen)] if frozen else ()),
        *([_senseless(unreadable)] if unreadable else ()),
    )


def families_listed(desired: Desired, listed: Collection[Family]) -> CheckResult:
    """Check whether the desired families exist. Advice only: a delisted one must stay manageable."""
    missing = sorted(desired.families.keys() - set(listed))
    if not missing:
        return ok("families", "every desired family has options listed")
    return advice(
        "families",
        f"OKX lists no options of {first_names(missing, MOST_NAMED)}",
        "check the spelling; a family that was delisted can stay in the file",
    )


def pauses_in_force(pauses: Sequence[Pause], wall: datetime) -> tuple[CheckResult, ...]:
    """Report every pause that is in force at ``wall``."""
    return tuple(
        advice("pause", _pause_words(pause), f"mmp resume --family {pause.family} ends it")
        for pause in pauses
        if pause.is_active(wall)
    )


def group_access(gid: int) -> CheckResult:
    """Report that a group may use the state file as well as its owner."""
    return advice(
        "state",
        f"the group {gid} can use it too",
        f"correct if group {gid} is the fsGroup of a pod; else chmod 600 the state and the files beside it",
    )


def lock_held(holder: str | None) -> CheckResult:
    """Report the holder of the account's lock; ``holder`` None: it is not locked."""
    if holder is None:
        return ok("lock", "no process has locked the state")
    return advice("lock", f"locked by {holder}", "wait until it ends; apply waits for --lock-timeout")


def _granted(info: AccountInfo, permission: str, name: str, needed_by: str) -> tuple[CheckResult, ...]:
    if permission in info.permissions:
        return (ok("permissions", f"the key may {name}"),)
    text = f"the key has no {name} permission"
    remedy = f"give it {name} at OKX, which is needed by {needed_by}"
    return (CheckResult("permissions", CheckStatus.FAILED, text, remedy, Exit.ACCOUNT),)


def _withdrawal(may: bool, allowed: bool) -> CheckResult:
    if not may:
        return ok("permissions", "the key has no Withdraw permission")
    text, remedy = "the key has the Withdraw permission, which mmp never needs", "use a key without it"
    if allowed:
        return advice("permissions", text, remedy)
    return CheckResult(
        "permissions",
        CheckStatus.FAILED,
        text,
        f"{remedy}, or waive this with --allow-withdraw",
        Exit.ACCOUNT,
    )


def _is_frozen(family: Family, read: LiveRead) -> bool:
    return family in read.rows and read.rows[family].frozen


def _frozen(frozen: Sequence[Family]) -> CheckResult:
    remedy = "find out why; mmp reset FAMILY ends a freeze that does not end by itself"
    return advice("frozen", f"frozen now, so not written: {first_names(frozen, MOST_NAMED)}", remedy)


def _senseless(unreadable: Sequence[Family]) -> CheckResult:
    names = first_names(unreadable, MOST_NAMED)
    text = f"the live rows of {names} cannot be understood: nothing is written for these families"
    return CheckResult("mmp", CheckStatus.FAILED, text, "look at them at OKX", Exit.FAILED)


def _pause_words(pause: Pause) -> str:
    by = "" if pause.by is PausedBy.MANUAL else " by mmp"
    until = "until it is resumed" if pause.until is None else f"until {pause.until:%Y-%m-%d %H:%M:%S}Z"
    return f"{pause.family} is paused{by} {until}{f': {pause.reason}' if pause.reason else ''}"
