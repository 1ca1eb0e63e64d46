"""Warnings about which accounts are compared: a reviewer must not mistake them for ordinary changes.

A renamed account looks new in every family, and a new setting never counts as looser. The same is true of
an account without recorded state. An account whose User ID or keys change may be a different account, even
if no setting changes. These sentences appear above every rendering of a plan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from reconciler.core.plan import Basis, Plan, Reason
from reconciler.documents.plan import EXPECTED_UID, DiffBase, IdentityChange, PlanContext
from reconciler.render.values import families

Quote = Callable[[str], str]
"""Escapes text from outside for the output format."""

SHOWN_ACCOUNTS = 5
"""Maximum names in one sentence; documents have all names."""


def account_sentences(plan: Plan, context: PlanContext, quote: Quote) -> tuple[str, ...]:
    """Return the warnings about the account, to show before its changes; empty if there are none."""
    if context.old is not None:
        return tuple(_identity_sentences(plan, context.old, quote))
    return (_unrecorded_sentence(plan, quote),) if is_unrecorded(plan) else ()


def is_renamed(plan: Plan, context: PlanContext) -> bool:
    """Tell whether the account's name, environment or identity differs between two compared files."""
    old = context.old
    if old is None:
        return False
    return bool(old.identity) or (old.account, old.environment) != (plan.account, plan.environment.value)


def is_removed(plan: Plan) -> bool:
    """Tell whether the newer of two files no longer has the account: a file is never empty."""
    return plan.basis is Basis.FILE and not plan.changes and not plan.unchanged


def is_unrecorded(plan: Plan) -> bool:
    """Tell whether a plan without a live read found no recorded state to compare with."""
    reasons = {change.reason for change in plan.changes}
    return plan.basis is Basis.LAST_APPLIED and not plan.unchanged and reasons == {Reason.NEW}


def _identity_sentences(plan: Plan, old: DiffBase, quote: Quote) -> Iterator[str]:
    environment, name = plan.environment.value, quote(plan.account)
    if old.not_compared:
        shown = [quote(other) for other in old.not_compared[:SHOWN_ACCOUNTS]]
        if more := len(old.not_compared) - len(shown):
            shown.append(f"{more} more")
        yield (
            f"account {name} ({environment}) is not compared: it may be a removed account "
            f"under a new name ({', '.join(shown)}); whether anything gets looser is not known"
        )
        return
    if old.account is None or old.environment is None:
        yield (
            f"account {name} ({environment}) is new: {quote(old.path)} does not have it, "
            "so every family is new here and nothing counts as looser"
        )
        return
    if is_removed(plan):
        gone = families(len(plan.unmanaged))
        yield f"account {name} ({environment}) was removed: {gone} will no longer be managed"
        return
    if old.account != plan.account:
        yield (
            f"account renamed {quote(old.account)} → {name}: compared with the "
            f"settings of {quote(old.account)}; there is no record under the new name yet"
        )
    if old.environment != environment:
        yield (
            f"environment changed {quote(old.environment)} → {environment}: the other environment has "
            f"its own settings; what is in force in {quote(old.environment)} stays as it is, and "
            "mmp no longer reads it"
        )
    yield from (_identity_sentence(each, quote) for each in old.identity)


def _identity_sentence(moved: IdentityChange, quote: Quote) -> str:
    if moved.key != EXPECTED_UID:
        change = f"{moved.key} changed {quote(moved.before or '')} → {quote(moved.after or '')}"
        return f"{change}: other keys are used; they may belong to another account"
    if moved.before is None:
        return f"{moved.key} is {quote(moved.after or '')} now: mmp writes to no other account"
    if moved.after is None:
        gone = f"{moved.key} {quote(moved.before)} is removed"
        return f"{gone}: mmp writes to whichever account the keys belong to"
    change = f"{moved.key} changed {quote(moved.before)} → {quote(moved.after)}"
    return f"{change}: mmp writes to another account, and what is in force there is not shown here"


def _unrecorded_sentence(plan: Plan, quote: Quote) -> str:
    return (
        f"there is no record of account {quote(plan.account)} ({plan.environment.value}): "
        "every family is new here and nothing counts as looser"
    )
