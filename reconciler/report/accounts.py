"""Whose settings are compared with whose: what a reviewer must not take for a change like any other.

An account that is called otherwise than before looks new in every family, and nothing new is looser;
so does one of which nothing is on record. These sentences say so above every rendering of a plan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from reconciler.core.plan import Basis, Plan, Reason
from reconciler.report.documents import Context, OldSide
from reconciler.report.words import families

Quote = Callable[[str], str]
"""Makes text from outside harmless where it will stand."""


def account_sentences(plan: Plan, context: Context, quote: Quote) -> tuple[str, ...]:
    """Return what has to be said of the account before its changes; nothing when all is as usual."""
    if context.old is not None:
        return tuple(_since(plan, context.old, quote))
    return (_unrecorded(plan, quote),) if is_unrecorded(plan) else ()


def renamed(plan: Plan, context: Context) -> bool:
    """Tell whether two files are compared in which the account is called, or lives, otherwise."""
    old = context.old
    return old is not None and (old.account, old.environment) != (plan.account, plan.environment.value)


def is_gone(plan: Plan) -> bool:
    """Tell whether the newer of two files has nothing of the account any more: a file is never empty."""
    return plan.basis is Basis.FILE and not plan.changes and not plan.unchanged


def is_unrecorded(plan: Plan) -> bool:
    """Tell whether a plan that did not read live found nothing on record to compare with."""
    reasons = {change.reason for change in plan.changes}
    return plan.basis is Basis.LAST_APPLIED and not plan.unchanged and reasons == {Reason.NEW}


def _since(plan: Plan, old: OldSide, quote: Quote) -> Iterator[str]:
    environment = plan.environment.value
    if old.account is None or old.environment is None:
        yield (
            f"account {quote(plan.account)} ({environment}) is new: {quote(old.path)} does not have it, "
            "so every family is new here and nothing counts as looser"
        )
        return
    if is_gone(plan):
        yield (
            f"account {quote(plan.account)} ({environment}) is gone: {families(len(plan.unmanaged))} "
            "will no longer be managed"
        )
        return
    if old.account != plan.account:
        yield (
            f"account renamed {quote(old.account)} → {quote(plan.account)}: compared with what "
            f"{quote(old.account)} wants; nothing is on record under the new name yet"
        )
    if old.environment != environment:
        yield (
            f"environment changed {quote(old.environment)} → {environment}: another exchange world with "
            f"settings of its own; what is in force in {quote(old.environment)} stays as it is, and "
            "nobody watches it any more"
        )


def _unrecorded(plan: Plan, quote: Quote) -> str:
    return (
        f"nothing is on record of account {quote(plan.account)} ({plan.environment.value}): "
        "every family is new here and nothing counts as looser"
    )
