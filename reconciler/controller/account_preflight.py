"""Asks the exchange for the account of the key, checks file and state against the answer, and the clock."""

from __future__ import annotations

from reconciler import logs
from reconciler.core import account_preflight
from reconciler.core.events import Identified, KeyMayWithdraw, Observe
from reconciler.core.model import AccountInfo, Desired
from reconciler.core.reply import Reply
from reconciler.okx.client import WARN_OFFSET_S, OkxClient
from reconciler.okx.hints import exchange_error
from reconciler.okx.wire import BaseUrl
from reconciler.ports import Exchange, Store


async def identify(
    desired: Desired,
    *,
    store: Store | None,
    exchange: Exchange,
    host: str | None,
    observe: Observe,
    writing: bool = True,
    reviewed_uid: str | None = None,
) -> AccountInfo | Reply:
    """Ask for the account of the key, and record it in the state, if there is one, or check it.

    ``host`` is where the exchange is reached, for the record; None: check the state and change nothing.
    ``writing``: the account is to be written to. ``reviewed_uid`` is the User ID that an applied plan file
    was made for, None without a plan file. Raises AccountProblem when the account must not be used so,
    StateAccountMismatch when the state belongs to another account. A Reply means that the exchange did not
    answer.
    """
    info = await exchange.account()
    if isinstance(info, Reply):
        return info
    problem = account_preflight.why_unusable(info, desired, writing=writing, reviewed_uid=reviewed_uid)
    if problem is not None:
        raise problem
    if store is not None and host is not None:
        observe(Identified(info.uid, await store.identify(info.uid, host)))
    elif store is not None:
        await store.check_identity(info.uid)
        observe(Identified(info.uid, None))
    if account_preflight.may_withdraw(info):
        observe(KeyMayWithdraw(info.uid))
    return info


async def verify_key_owner(
    desired: Desired,
    base: BaseUrl,
    exchange: Exchange,
    store: Store | None,
    *,
    writing: bool,
    observe: Observe = lambda _: None,
    reviewed_uid: str | None = None,
) -> AccountInfo:
    """Return the owner of the key as ``identify`` does. Raises MmpError if the exchange did not answer."""
    info = await identify(
        desired,
        store=store,
        exchange=exchange,
        host=base.host,
        observe=observe,
        writing=writing,
        reviewed_uid=reviewed_uid,
    )
    if isinstance(info, Reply):
        raise exchange_error("the account of the key could not be read", info)
    return info


def warn_of_clock(exchange: OkxClient) -> None:
    """Warn when this machine's clock is off; the difference is compensated."""
    offset_s = exchange.clock_offset_s
    if offset_s is not None and abs(offset_s) > WARN_OFFSET_S:
        way = "behind" if offset_s > 0 else "ahead of"
        logs.log(
            "warning",
            f"this machine's clock is {abs(offset_s):.1f} s {way} the exchange's: compensated",
            offset_s=round(offset_s, 1),
        )
