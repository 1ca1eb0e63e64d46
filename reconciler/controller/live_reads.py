"""One read of live settings, of all families or of one, and the reads that are known after it."""

from __future__ import annotations

from reconciler.core.events import OddRowsSeen
from reconciler.core.evidence import Reads
from reconciler.core.model import LiveRead
from reconciler.core.pass_step import ReadFamily, ReadLive
from reconciler.core.reply import Reply
from reconciler.ports import Exchange


async def read_for(step: ReadLive | ReadFamily, exchange: Exchange) -> LiveRead | Reply:
    """Return the exchange's answer to the read that ``step`` asks for."""
    if isinstance(step, ReadFamily):
        return await exchange.read_family(step.family)
    return await exchange.read_live()


def with_answer(reads: Reads, step: ReadLive | ReadFamily, answer: LiveRead | Reply, now: float) -> Reads:
    """Return the reads with one more answer, or with the failure of one family's read."""
    match step, answer:
        case ReadFamily(family), LiveRead():
            return reads.with_family(family, answer)
        case ReadFamily(family), _:
            return reads.without_answer(family, now)
        case ReadLive(repeated), LiveRead():
            return reads.push(answer, repeated=repeated)
        case _:
            return reads


def odd_rows(read: LiveRead) -> OddRowsSeen:
    """Return the rows of a read that the plan leaves out."""
    return OddRowsSeen(tuple(sorted(read.odd_names.values())), read.nameless)
