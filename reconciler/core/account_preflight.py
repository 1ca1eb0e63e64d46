"""Whether the account behind a key may be written to, decided from the pre-flight's answer."""

from __future__ import annotations

from collections.abc import Sequence, Set

from reconciler.core.model import AccountInfo, Desired, Family
from reconciler.errors import AccountProblem

PORTFOLIO_MARGIN = "4"
"""acctLv of portfolio margin, the only mode in which Set MMP works [doc]."""


def why_unusable(
    info: AccountInfo, desired: Desired, *, writing: bool, reviewed_uid: str | None = None
) -> AccountProblem | None:
    """Return why this account must not be used for ``desired``; None when it may.

    Reading needs the right account only; writing needs portfolio margin and the Trade permission.
    ``reviewed_uid`` is the User ID that an applied plan file was made for, None when there is none.
    """
    if desired.expected_uid is not None and info.uid != desired.expected_uid:
        return AccountProblem(
            "wrong-account",
            f"the key belongs to User ID {info.uid}, but {desired.path} expects {desired.expected_uid}",
            "use the key of that account, or correct expect.uid",
        )
    if reviewed_uid is not None and info.uid != reviewed_uid:
        return AccountProblem(
            "wrong-account",
            f"the key belongs to User ID {info.uid}, but the plan file was made for {reviewed_uid}",
            "use the key of that account, or make a new plan with this one",
        )
    if not writing:
        return None
    if info.level != PORTFOLIO_MARGIN:
        return AccountProblem(
            "not-portfolio-margin",
            f"account {info.uid} is in account mode {info.level or '(none)'}, not in portfolio margin (4)",
            "switch the account to portfolio margin mode at OKX; Set MMP works in no other",
        )
    if "trade" not in info.permissions:
        return AccountProblem(
            "no-trade-permission",
            "the key has no Trade permission, so it cannot call Set MMP",
            "give the key the Trade permission at OKX, or use one that has it",
        )
    return None


def may_withdraw(info: AccountInfo) -> bool:
    """Tell whether the key may withdraw funds: this program never needs that, and a stolen key could."""
    return "withdraw" in info.permissions


def remote_claim_conflict(
    uid: str, desired: Desired, rivals: Sequence[tuple[str, frozenset[Family], str]]
) -> AccountProblem | None:
    """Return why accounts of other replicas forbid this one; None when none does.

    ``rivals``: those of the same environment and User ID that claimed before, each with its families
    and the replica that runs it.
    """
    found = (
        _claimed_twice(
            uid, desired.path, f"the account {account}, run by {where},", families & desired.families.keys()
        )
        for account, families, where in rivals
    )
    return next(filter(None, found), None)


def claim_conflict(owned: Sequence[tuple[str, Desired]]) -> AccountProblem | None:
    """Return why two files must not be used together; None when they may. Each with its User ID.

    Two names for one account are allowed. Two files with settings for the same family are not: each would
    undo the other's work for ever.
    """
    found = (
        _claimed_twice(uid, first.path, second.path, first.families.keys() & second.families.keys())
        for place, (uid, first) in enumerate(owned)
        for other, second in owned[place + 1 :]
        if uid == other and first.environment is second.environment
    )
    return next(filter(None, found), None)


def _claimed_twice(uid: str, one: str, other: str, shared: Set[Family]) -> AccountProblem | None:
    if not shared:
        return None
    more = f" and {len(shared) - 1} more" if len(shared) > 1 else ""
    return AccountProblem(
        "claimed-twice",
        f"{one} and {other} belong to one User ID, {uid}, and both have {min(shared)}{more}",
        "list each family in only one of them, or use another key for one of them",
    )
