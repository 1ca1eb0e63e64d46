"""Asks the exchange for the account of the key, and checks the state against the answer."""

from __future__ import annotations

from reconciler.core import account_check as accounts
from reconciler.core.events import Identified, KeyMayWithdraw, Observe
from reconciler.core.model import AccountInfo, Desired
from reconciler.core.reply import Reply
from reconciler.ports import Exchange, Store


async def identify(
    desired: Desired,
    *,
    store: Store,
    exchange: Exchange,
    host: str | None,
    observe: Observe,
    reviewed_uid: str | None = None,
) -> AccountInfo | Reply:
    """Ask for the account of the key, and record it in the state or check it, before any write.

    ``host`` is where the exchange is reached, for the record; None: check the state and change nothing.
    ``reviewed_uid`` is the User ID that an applied plan file was made for, None without a plan file.
    Raises AccountProblem when the account must not be written to, StateAccountMismatch when the state
    belongs to another account. A Reply means that the exchange did not answer.
    """
    info = await exchange.account()
    if isinstance(info, Reply):
        return info
    problem = accounts.why_unusable(info, desired, writing=True, reviewed_uid=reviewed_uid)
    if problem is not None:
        raise problem
    previous = None
    if host is None:
        await store.check_identity(info.uid)
    else:
        previous = await store.identify(info.uid, host)
    observe(Identified(info.uid, previous))
    if accounts.may_withdraw(info):
        observe(KeyMayWithdraw(info.uid))
    return info
