"""Requests to the exchange with one account's key: the ports ``Exchange`` and ``TradingExchange``.

This file decides when the exchange's clock is measured, how a transport failure is classified, and that a
Set MMP request is sent at most once on its own connection. A dry run uses an OkxClient, which cannot
write. Nothing is logged here and no reply raises: the result is a value.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import TypeVar

from reconciler.core.model import AccountInfo, Environment, Family, LiveRead, Setting
from reconciler.core.reply import Reply, ReplyClass
from reconciler.core.reservation import SignedRequest
from reconciler.errors import AccountProblem
from reconciler.okx import replies, wire
from reconciler.okx.credentials import Credentials
from reconciler.okx.exchange_clock import ClockOffset, ExchangeClock
from reconciler.okx.replies import LIVE_REPLY_LIMIT_BYTES, REPLY_LIMIT_BYTES
from reconciler.okx.reply_fields import Scrub
from reconciler.okx.transport import TOTAL_TIMEOUT_S, SingleUseConnection, TransportFailure
from reconciler.okx.wire import BaseUrl, Headers, Request
from reconciler.ports import Clock

CLOCK_MAX_AGE_S = 600.0
"""A measured offset is measured again after this time, in the background: at 500 ppm it drifts 0.3 s."""

CLOCK_MAX_AGE_FOR_WRITES_S = 3600.0
"""The oldest offset with which a write is signed: at 500 ppm it drifts 1.8 s in that time, and pacing
allows clock errors of 3 s. A read is signed with an older offset, too: OKX refuses a signature that is 30 s
off, and then the clock is measured and the read is repeated."""

CLOCK_SUSPENSION_S = 0.1
"""The shortest suspension that is detected: two clocks are compared, and the reads are not simultaneous. No
machine suspends and resumes faster."""

MAX_UNDERLYINGS = 20
"""Queried in one call: OKX allows 20 queries in 2 s, and options have fewer underlyings [doc]."""

WARN_OFFSET_S = 1.0
"""The offset of a local clock from which there is a warning."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Answer:
    """A complete reply: ``parts`` are its status and body, and what masks secrets in its text.

    ``begun_at`` is before the first byte of the request, ``ended_at`` when the reply was complete.
    """

    parts: tuple[int, bytes, Scrub]
    begun_at: float
    ended_at: float

    @property
    def took_s(self) -> float:
        """How long the request took."""
        return self.ended_at - self.begun_at


@dataclass(eq=False, repr=False)
class OkxClient:
    """Reads from the exchange. It cannot change anything there.

    ``exchange_clock`` is shared by the clients of one process; else the client measures for itself.
    """

    base_url: BaseUrl
    environment: Environment
    credentials: Credentials
    clock: Clock
    _: KW_ONLY
    timeout_s: float = TOTAL_TIMEOUT_S
    exchange_clock: ExchangeClock = field(default_factory=ExchangeClock)

    @property
    def clock_offset_s(self) -> float | None:
        """How far the exchange's clock is ahead of this machine's time of day; None until measured."""
        offset = self.exchange_clock.offset
        return None if offset is None else offset.wall_error_s

    async def account(self) -> AccountInfo | Reply:
        """Query the owner and the permissions of the key."""
        request = wire.account_config()
        return await self._read_signed(
            lambda: self._ask(request, lambda got: replies.parse_account(*got.parts))
        )

    async def read_live(self) -> LiveRead | Reply:
        """Read every configured family at once."""
        return await self._read_signed(lambda: self._live_once(None))

    async def read_family(self, family: Family) -> LiveRead | Reply:
        """Read one family: its row, or no row where the exchange lists none or answers without data."""
        return await self._read_signed(lambda: self._live_once(family))

    async def listed_families(self) -> frozenset[Family] | Reply:
        """Return every family with listed options, queried by underlying; needs no key."""
        underlyings = await self._ask(
            wire.public_underlyings(), lambda got: replies.parse_underlyings(*got.parts)
        )
        if isinstance(underlyings, Reply):
            return underlyings
        if len(underlyings) > MAX_UNDERLYINGS:
            return replies.no_answer("too-many", f"{len(underlyings)} underlyings are too many to read")
        found: set[Family] = set()
        for underlying in underlyings:
            families = await self._ask(
                wire.public_instruments(underlying),
                lambda got: replies.parse_families(*got.parts),
                LIVE_REPLY_LIMIT_BYTES,
            )
            if isinstance(families, Reply):
                return families
            found |= families
        return frozenset(found)

    async def sync_clock(self) -> Reply | None:
        """Measure the offset to the exchange's clock; None when it was measured."""
        return await self.exchange_clock.measure(self._measure_clock)

    async def _measure_clock(self) -> ClockOffset | Reply:
        return await self._measure_over(await self._connect())

    async def _measure_clock_apart(self) -> ClockOffset | Reply:
        """Measure without the shared circuit breaker: no other request waits for this one.

        While the address fails, a request through it is the probe that others wait for.
        """
        connection = await SingleUseConnection.open(self.base_url.url, self.timeout_s)
        if isinstance(connection, TransportFailure):
            return _as_reply(connection, self._epoch_s())
        return await self._measure_over(connection)

    async def _measure_over(self, connection: SingleUseConnection | Reply) -> ClockOffset | Reply:
        if isinstance(connection, Reply):
            return connection
        measured = await self._ask_over(connection, wire.public_time(), self._offset)
        return _about_the_time(measured) if isinstance(measured, Reply) else measured

    def _offset(self, got: _Answer) -> ClockOffset | Reply:
        wall_s, time_ms = self.clock.wall().timestamp(), replies.parse_time(*got.parts)
        if isinstance(time_ms, Reply):
            return time_ms
        # The exchange read its clock before its reply arrived, so this never exceeds its clock: a signature
        # expires no later than pacing assumes, however long the reply took.
        epoch_s = time_ms / 1000
        return ClockOffset(epoch_s, got.ended_at, _wall_error_s(epoch_s, wall_s, got.took_s))

    async def _live_once(self, family: Family | None) -> LiveRead | Reply:
        def parse(got: _Answer) -> LiveRead | Reply:
            return replies.parse_live(*got.parts, begun_at=got.begun_at, took_s=got.took_s, asked=family)

        return await self._ask(wire.get_mmp(family), parse, LIVE_REPLY_LIMIT_BYTES)

    async def _ask(
        self, request: Request, parse: Callable[[_Answer], T | Reply], limit_bytes: int = REPLY_LIMIT_BYTES
    ) -> T | Reply:
        """Send one request on a connection of its own; return the parsed reply, or why there is none."""
        connection = await self._connect()
        if isinstance(connection, Reply):
            return connection
        return await self._ask_over(connection, request, parse, limit_bytes)

    async def _ask_over(
        self,
        connection: SingleUseConnection,
        request: Request,
        parse: Callable[[_Answer], T | Reply],
        limit_bytes: int = REPLY_LIMIT_BYTES,
    ) -> T | Reply:
        headers = self._headers(request)
        begun_at = self.clock.now()
        raw = await connection.send(
            request.method, request.target, request.body, headers, limit_bytes=limit_bytes
        )
        if isinstance(raw, TransportFailure):
            return _as_reply(raw, self._epoch_s())
        parts = raw.status, raw.body, self.credentials.scrub
        result = parse(_Answer(parts, begun_at, self.clock.now()))
        if isinstance(result, Reply):
            return _asking_to_wait(result, raw.retry_after, self._epoch_s())
        return result

    async def _read_signed(self, read: Callable[[], Awaitable[T | Reply]]) -> T | Reply:
        """Read; if the exchange refuses the time of the signature, measure its clock and try again."""
        if self.exchange_clock.offset is None:
            unsynced = await self.sync_clock()
            if unsynced is not None:
                return unsynced
        self._refresh_clock()
        answer = await read()
        if isinstance(answer, Reply) and answer.reply_class is ReplyClass.CLOCK:
            unsynced = await self.sync_clock()
            return await read() if unsynced is None else unsynced
        if not isinstance(answer, Reply) and self._clock_age_s() > CLOCK_MAX_AGE_FOR_WRITES_S:
            self._refresh_clock()  # this read may have been the first one after an outage
            await self.exchange_clock.refreshed()
        return answer

    def _clock_age_s(self) -> float:
        """Return how long ago the exchange's clock was measured; infinite before the first time."""
        offset = self.exchange_clock.offset
        return float("inf") if offset is None else self.clock.now() - offset.at

    def _refresh_clock(self) -> None:
        """Start a measurement of the exchange's clock in the background if one is due."""
        if self._clock_age_s() > CLOCK_MAX_AGE_S:
            self.exchange_clock.refresh(self._measure_clock_apart, self.clock)

    async def _connect(self) -> SingleUseConnection | Reply:
        url, timeout_s = self.base_url.url, self.timeout_s
        connection = await self.exchange_clock.address.open(url, timeout_s, self.clock, self._epoch_s)
        if isinstance(connection, TransportFailure):
            return _as_reply(connection, self._epoch_s())
        return connection

    def _epoch_s(self) -> float:
        """Return the exchange's clock as far as it is known, else this machine's time of day."""
        offset = self.exchange_clock.offset
        return self.clock.wall().timestamp() if offset is None else offset.epoch_at(self.clock.now())

    def _headers(self, request: Request) -> Headers:
        if not request.signed:
            return wire.public_headers(self.environment)
        return wire.signed_headers(request, self.credentials, self.environment, self._timestamp())

    def _timestamp(self) -> str:
        # The wall clock is no substitute: with a fast one a request would stay valid for longer than
        # pacing assumes, so signing before the first measurement is a bug of ours.
        offset = self.exchange_clock.offset
        assert offset is not None, "the exchange's clock was never measured"
        return wire.format_timestamp(offset.epoch_at(self.clock.now()))


@dataclass(eq=False, repr=False)
class OkxTradingClient(OkxClient):
    """Reads and writes. Its key may be replaced while it is in use; ``reload`` returns the present one.

    The key in use changes only in ``account``: every other request is signed with a key whose account was
    queried before.
    """

    reload: Callable[[], Credentials] | None = field(default=None, kw_only=True)

    def key_changed(self) -> bool:
        """Return whether the key is no longer the one in use, or cannot be read any more."""
        if self.reload is None:
            return False
        try:
            return self.reload() != self.credentials
        except AccountProblem:
            return True

    async def account(self) -> AccountInfo | Reply:
        """Load the present key, and query its owner and permissions.

        Raises AccountProblem where the key cannot be read.
        """
        if self.reload is not None:
            self.credentials = self.reload()
        return await super().account()

    async def open(self) -> OkxConnection | Reply:
        """Open a fresh connection, writing no byte of a request; a failure is NOT_SENT.

        Once the exchange's clock was measured, this waits for no further measurement.
        """
        refused = await self._write_block_reason()
        if refused is not None:
            return refused
        connection = await self._connect()
        if isinstance(connection, Reply):
            return connection
        return OkxConnection(self.clock, self.credentials, connection, self._epoch_s)

    def sign(self, family: Family, setting: Setting) -> SignedRequest:
        """Build and sign one request with the current time of the exchange's clock."""
        request = wire.set_mmp(family, setting)
        timestamp = self._timestamp()
        headers = wire.signed_headers(request, self.credentials, self.environment, timestamp)
        return SignedRequest(family, setting, timestamp, request.body, headers)

    async def reset(self, family: Family) -> bool | Reply:
        """Reset one family's MMP status, once; False means that the exchange did not do it.

        A reply without data leaves that unknown, unless its class decides it.
        """
        refused = await self._write_block_reason()
        if refused is not None:
            return refused
        return await self._ask(wire.reset_mmp(family), lambda got: replies.parse_reset(*got.parts, family))

    async def _write_block_reason(self) -> Reply | None:
        """Return why the known clock of the exchange forbids a write; None if it does not."""
        if self.exchange_clock.offset is None:
            unsynced = await self.sync_clock()
            return None if unsynced is None else replace(unsynced, reply_class=ReplyClass.NOT_SENT)
        self._refresh_clock()
        age_s = self._clock_age_s()
        if age_s <= CLOCK_MAX_AGE_FOR_WRITES_S:
            return None
        return _clock_too_old(age_s, self.exchange_clock.last_failure)


@dataclass(eq=False, repr=False)
class OkxConnection:
    """An open connection, good for one Set MMP request; the port ``Connection``."""

    clock: Clock
    credentials: Credentials
    connection: SingleUseConnection
    epoch_s: Callable[[], float]

    def __post_init__(self) -> None:
        self._suspended_s = self.clock.suspended_s()

    async def send(self, request: SignedRequest, *, deadline: float) -> Reply:
        """Write ``request`` once and return the classified reply; closes the connection.

        Past the instant ``deadline``, or if this machine was suspended since the connection was opened,
        nothing is written and the reply is NOT_SENT.
        """
        failed = await self.connection.lost() or self._too_late(deadline)
        if failed is not None:
            await self.connection.close()
            return _as_reply(failed, self.epoch_s())
        answer = await self.connection.send(
            "POST", wire.MMP_CONFIG_PATH, request.body, request.headers, limit_bytes=REPLY_LIMIT_BYTES
        )
        if isinstance(answer, TransportFailure):
            return _as_reply(answer, self.epoch_s())
        reply = replies.parse_set(
            answer.status, answer.body, self.credentials.scrub, request.family, request.setting
        )
        return _asking_to_wait(reply, answer.retry_after, self.epoch_s())

    async def close(self) -> None:
        """Close without sending; harmless when already closed."""
        await self.connection.close()

    def _too_late(self, deadline: float) -> TransportFailure | None:
        """Return why the request must not be written any more; None when it may be.

        The deadline's clock stops while suspended; the signature keeps getting older. A request written
        after a suspension could arrive later than pacing allows for.
        """
        if self.clock.now() > deadline:
            return TransportFailure(
                False, "late", "the slot had passed before the request could be written"
            )
        if self.clock.suspended_s() - self._suspended_s > CLOCK_SUSPENSION_S:
            return TransportFailure(
                False, "suspended", "this machine was suspended before the request was written"
            )
        return None


def _as_reply(failed: TransportFailure, epoch_s: float) -> Reply:
    reply_class = ReplyClass.NO_ANSWER if failed.sent else ReplyClass.NOT_SENT
    return _asking_to_wait(Reply(reply_class, failed.code, failed.message), failed.retry_after, epoch_s)


def _about_the_time(failed: Reply) -> Reply:
    """Return why the exchange's clock was not measured, with the name of the query."""
    return replace(failed, message=f"{wire.PUBLIC_TIME_PATH}: {failed.text}")


def _clock_too_old(age_s: float, failed: Reply | None) -> Reply:
    """Return why nothing is written ``age_s`` after the exchange's clock was last measured."""
    why = f", and measuring it failed ({failed.message})" if failed is not None else ""
    message = (
        f"the exchange's clock was last measured {age_s / 60:.0f} min ago{why}; mmp sends a"
        f" change only within {CLOCK_MAX_AGE_FOR_WRITES_S / 60:.0f} min of a measurement: allow this"
        f" machine to reach GET {wire.PUBLIC_TIME_PATH}"
    )
    return Reply(ReplyClass.NOT_SENT, "clock-old", message)


def _asking_to_wait(reply: Reply, retry_after: str, epoch_s: float) -> Reply:
    """Return ``reply`` with the wait of its Retry-After header; an acceptance has none."""
    if reply.reply_class is ReplyClass.ACCEPTED:
        return reply
    return replace(reply, retry_after_s=replies.parse_retry_after(retry_after, epoch_s))


def _wall_error_s(epoch_s: float, wall_s: float, took_s: float) -> float:
    """Return the least amount by which the exchange's clock is ahead of this machine's.

    The exchange read its clock at an unknown instant within the last ``took_s``. The result is 0 if the two
    clocks agree for any of these instants, so a slow reply does not count as a wrong clock.
    """
    least, most = epoch_s - wall_s, epoch_s - (wall_s - took_s)
    return max(least, min(most, 0.0))
