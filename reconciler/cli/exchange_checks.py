"""What commands check of the exchange before they use it: the owner of the key, and the clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reconciler.core.model import AccountInfo, Desired
from reconciler.core.reply import Reply
from reconciler.okx.hints import exchange_error

if TYPE_CHECKING:
    from reconciler.okx.client import OkxClient
    from reconciler.okx.wire import BaseUrl
    from reconciler.ports import Exchange, Store


async def verify_key_owner(
    desired: Desired, base: BaseUrl, exchange: Exchange, store: Store | None, *, writing: bool
) -> AccountInfo:
    """Return the owner of the key, checked against the file and, if there is one, the state.

    Raises MmpError if the account must not be used so, or the exchange did not answer.
    """
    from reconciler.core.account_check import why_unusable

    info = await exchange.account()
    if isinstance(info, Reply):
        raise exchange_error("the exchange did not say whose key this is", info)
    problem = why_unusable(info, desired, writing=writing)
    if problem is not None:
        raise problem
    if store is not None:
        await store.identify(info.uid, base.host)
    return info


def warn_of_clock(exchange: OkxClient) -> None:
    """Warn when this machine's clock is off; the difference is compensated."""
    from reconciler import logs
    from reconciler.okx.client import WARN_OFFSET_S

    offset_s = exchange.clock_offset_s
    if offset_s is not None and abs(offset_s) > WARN_OFFSET_S:
        way = "behind" if offset_s > 0 else "ahead of"
        logs.log(
            "warning",
            f"this machine's clock is {abs(offset_s):.1f} s {way} the exchange's: compensated",
            offset_s=round(offset_s, 1),
        )
