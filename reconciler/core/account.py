"""Whether the account behind a key may be written to, decided from the pre-flight's answer."""

from __future__ import annotations

from reconciler.core.model import AccountInfo, Desired
from reconciler.errors import AccountProblem

PORTFOLIO_MARGIN = "4"
"""acctLv of portfolio margin, the only mode in which Set MMP works [doc]."""


def refusal(
    info: AccountInfo, desired: Desired, *, writing: bool, reviewed_uid: str | None = None
) -> AccountProblem | None:
    """Return why this account must not be used for ``desired``; None when it may.

    Reading needs the right account only; writing needs portfolio margin and the Trade permission.
    ``reviewed_uid`` is whom an applied plan file was made for, None when there is none.
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
