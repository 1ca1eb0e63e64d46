"""Errors and hints about replies of the exchange, for people."""

from __future__ import annotations

from reconciler.core.events import ExchangeFailed, RequestSettled
from reconciler.core.reply import STOPPING, Reply, ReplyClass, is_account_error
from reconciler.errors import AccountProblem, MmpError
from reconciler.okx.codes import lookup

RUN_AGAIN = "run it again in a while"
"""The hint when a command ends because the exchange did not answer for some time."""


def exchange_error(what: str, reply: Reply) -> MmpError:
    """Return the failure of a read that is no longer repeated, with what to do."""
    kind = AccountProblem if is_account_error(reply) else MmpError
    if not reply.code.isdigit():
        return kind(reply.code, f"{what}: {reply.text}")
    known = lookup(reply.code)
    quoted = f' ("{reply.message}")' if reply.message else ""
    # The table's advice on the other classes is for run, which tries again.
    hint = known.advice if reply.reply_class in STOPPING else RUN_AGAIN
    return kind(f"okx-{reply.code}", f"{what}: {known.meaning} [OKX {reply.code}{quoted}]", hint)


def hint_for(reply: Reply) -> str:
    """Return what to do about a refusal by OKX; "" for acceptances and for codes that are not OKX's."""
    if not reply.code.isdigit() or reply.reply_class is ReplyClass.ACCEPTED:
        return ""
    return lookup(reply.code).advice


def hint_for_event(event: ExchangeFailed | RequestSettled) -> str:
    """Return what to do about a failure, as ``hint_for`` does; a refused query had no effect."""
    text, asked = hint_for(event.reply), isinstance(event, ExchangeFailed)
    return lookup(event.reply.code).advice_on_reads if text and asked else text


def hint_for_code(code: str, read: bool) -> str:
    """Return what to do about a code of OKX; ``read``: it answered a read, so nothing was changed."""
    known = lookup(code)
    return known.advice_on_reads if read else known.advice
