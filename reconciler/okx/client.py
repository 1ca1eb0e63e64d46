"""Requests to the exchange with one account's key: the ports ``Exchange`` and ``TradingExchange``.

This file decides when the exchange's clock is measured, how a transport failure is classified, and that a
Set MMP request is sent at most once on its own connection. A dry run uses an OkxClient, which cannot
write. Nothing is logged here and no reply raises: the result is a value.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from reconciler.core.model import AccountInfo, Environment, Family, LiveRead, Setting
from reconciler.core.reply import Reply, ReplyClass
from reconciler.core.requests import SignedRequest
from reconciler.errors import AccountProblem
from reconciler.okx import replies, wire
from reconciler.okx.credentials import Credentials
from reconciler.okx.exchange_clock import ClockOffset, ExchangeClock
from reconciler.okx.replies import LIVE_REPLY_LIMIT_BYTES, REPLY_LIMIT_BYTES
from reconciler.okx.reply_fields import Scrub
from reconciler.okx.transport import TOTAL_TIMEOUT_S, RawReply, SingleUseConnection, TransportFailure
from reconciler.okx.wire import BaseUrl, Headers, Request
from reconciler.ports import Clock

CLOCK_MAX_AGE_S = 600.0
"""A measured offset is measured again after this time, in the background: at 500 ppm it drifts 0.3 s."""

CLOCK_LAST_AGE_S = 3600.0
"""How long requests that change something are signed with it: at 500 ppm it drifts 1.8 s in that time, and
pacing allows clock errors of 3 s. Reads are signed with an older one too: OKX refuses a signature that is
30 s off. Then the clock is measured before the read is repeated."""

CLOCK_SUSPENSION_S = 0.1
"""The shortest suspension that is detected: the two clocks that measure it are read one after the other,
and no machine suspends and resumes faster."""

MAX_UNDERLYINGS = 20
"""Queried in one call: OKX allows 20 queries in 2 s, and options have fewer underlyings [doc]."""

WARN_OFFSET_S = 1.0
"""The offset of a local clock from which there is a warning."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Answer:
    """A complete reply, and when: ``begun_at`` is before the first byte of the request."""

    raw: RawReply
    begun_at: float
    took_s: float


class OkxClient:
    """Reads from the exchange. It cannot change anything there.

    ``timing`` is shared by the clients of one process; None: the client measures for itself.
    """

    def __init__(
        self,
        base_url: BaseUrl,
        environment: Environment,
        credentials: Credentials,
        clock: Clock,
        *,
        timeout_s: float = TOTAL_TIMEOUT_S,
        timing: ExchangeClock | None = None,
    ) -> None:
        self._base_url = base_url
        self._environment = environment
        self._credentials = credentials
        self._clock = clock
        self._timeout_s = timeout_s
        self._timing = timing or ExchangeClock()

    @property
    def clock_offset_s(self) -> float | None:
        """How far the exchange's clock is ahead of this machine's time of day; None until measured."""
        offset = self._timing.offset
        return None if offset is None else offset.wall_error_s

    async def account(self) -> AccountInfo | Reply:
        """Query the owner and the permissions of the key."""
        return await self._read_signed(self._account_once)

    async def read_live(self) -> LiveRead | Reply:
        """Read every configured family at once."""
        return await self._read_signed(self._live_once)

    async def read_family(self, family: Family) -> LiveRead | Reply:
        """Read one family: its row, or no row where the exchange lists none or answers without data."""
        return await self._read_signed(lambda: self._live_once(family))

    async def listed_families(self) -> frozenset[Family] | Reply:
        """Return every family with listed options, queried by underlying; needs no key."""
        answer = await self._ask_public(wire.public_underlyings(), REPLY_LIMIT_BYTES)
        if isinstance(answer, Reply):
            return answer
        underlyings = self._with_wait(answer, replies.parse_underlyings(*self._parts(answer)))
        if isinstance(underlyings, Reply):
            return underlyings
        if len(underlyings) > MAX_UNDERLYINGS:
            return replies.no_answer(
                "too-many", f"{len(underlyings)} underlyings are too many to ask about"
            )
        found: set[Family] = set()
        for underlying in underlyings:
            families = await self._families_of(underlying)
            if isinstance(families, Reply):
                return families
            found |= families
        return frozenset(found)

    async def sync_clock(self) -> Reply | None:
        """Measure the offset to the exchange's clock; None when it was measured."""
        return await self._timing.measure(self._measure_clock)

    async def _measure_clock(self) -> ClockOffset | Reply:
        return await self._measure_over(await self._connect())

    async def _measure_clock_apart(self) -> ClockOffset | Reply:
        """Measure without the shared health of the address: no other request waits for this one.

        While the address fails, a request through it is the probe that others wait for.
        """
        connection = await SingleUseConnection.open(self._base_url.url, self._timeout_s)
        if isinstance(connection, TransportFailure):
            return _as_reply(connection, self._epoch_s())
        return await self._measure_over(connection)

    async def _measure_over(self, connection: SingleUseConnection | Reply) -> ClockOffset | Reply:
        if isinstance(connection, Reply):
            return connection
        headers = wire.public_headers(self._environment)
        answer = await self._timed(connection, wire.public_time(), headers, REPLY_LIMIT_BYTES)
        ended_at, wall_s = self._clock.now(), self._clock.wall().timestamp()
        if isinstance(answer, Reply):
            return _about_the_time(answer)
        time_ms = self._with_wait(answer.raw, replies.parse_time(*self._parts(answer.raw)))
        if isinstance(time_ms, Reply):
            return _about_the_time(time_ms)
        # The exchange read its clock before its reply arrived, so this never exceeds its clock: a signature
        # expires no later than pacing assumes, however long the reply took.
        epoch_s = time_ms / 1000
        return ClockOffset(epoch_s, ended_at, _wall_error_s(epoch_s, wall_s, answer.took_s))

    async def _account_once(self) -> AccountInfo | Reply:
        answer = await self._ask_signed(wire.account_config(), REPLY_LIMIT_BYTES)
        if isinstance(answer, Reply):
            return answer
        return self._with_wait(answer.raw, replies.parse_account(*self._parts(answer.raw)))

    async def _live_once(self, family: Family | None = None) -> LiveRead | Reply:
        answer = await self._ask_signed(wire.get_mmp(family), LIVE_REPLY_LIMIT_BYTES)
        if isinstance(answer, Reply):
            return answer
        read = replies.parse_live(
            *self._parts(answer.raw), begun_at=answer.begun_at, took_s=answer.took_s, asked=family
        )
        return self._with_wait(answer.raw, read)

    async def _families_of(self, underlying: str) -> frozenset[Family] | Reply:
        answer = await self._ask_public(wire.public_instruments(underlying), LIVE_REPLY_LIMIT_BYTES)
        if isinstance(answer, Reply):
            return answer
        return self._with_wait(answer, replies.parse_families(*self._parts(answer)))

    async def _ask_public(self, request: Request, limit_bytes: int) -> RawReply | Reply:
        connection = await self._connect()
        if isinstance(connection, Reply):
            return connection
        headers = wire.public_headers(self._environment)
        answer = await self._timed(connection, request, headers, limit_bytes)
        return answer if isinstance(answer, Reply) else answer.raw

    async def _ask_signed(self, request: Request, limit_bytes: int) -> _Answer | Reply:
        connection = await self._connect()
        if isinstance(connection, Reply):
            return connection
        return await self._timed(connection, request, self._signed_headers(request), limit_bytes)

    async def _read_signed(self, read: Callable[[], Awaitable[T | Reply]]) -> T | Reply:
        """Read; if the exchange refuses the time of the signature, measure its clock and try again."""
        if self._timing.offset is None:
            unsynced = await self.sync_clock()
            if unsynced is not None:
                return unsynced
        self._refresh_clock()
        answer = await read()
        if isinstance(answer, Reply) and answer.reply_class is ReplyClass.CLOCK:
            unsynced = await self.sync_clock()
            return await read() if unsynced is None else unsynced
        if not isinstance(answer, Reply) and self._clock_age_s() > CLOCK_LAST_AGE_S:
            self._refresh_clock()  # this read may have been the first one after an outage
            await self._timing.refreshed()
        return answer

    def _clock_age_s(self) -> float:
        """Return how long ago the exchange's clock was measured; infinite before the first time."""
        offset = self._timing.offset
        return float("inf") if offset is None else self._clock.now() - offset.at

    def _refresh_clock(self) -> None:
        """Start a measurement of the exchange's clock in the background if one is due."""
        if self._clock_age_s() > CLOCK_MAX_AGE_S:
            self._timing.refresh(self._measure_clock_apart, self._clock)

    async def _connect(self) -> SingleUseConnection | Reply:
        url, timeout_s = self._base_url.url, self._timeout_s
        connection = await self._timing.address.open(url, timeout_s, self._clock, self._epoch_s)
        return (
            _as_reply(connection, self._epoch_s())
            if isinstance(connection, TransportFailure)
            else connection
        )

    async def _timed(
        self, connection: SingleUseConnection, request: Request, headers: Headers, limit_bytes: int
    ) -> _Answer | Reply:
        begun_at = self._clock.now()
        answer = await connection.send(
            request.method, request.target, request.body, headers, limit_bytes=limit_bytes
        )
        if isinstance(answer, TransportFailure):
            return _as_reply(answer, self._epoch_s())
        return _Answer(answer, begun_at, self._clock.now() - begun_at)

    def _parts(self, raw: RawReply) -> tuple[int, bytes, Scrub]:
        return raw.status, raw.body, self._credentials.scrub

    def _with_wait(self, raw: RawReply, result: T | Reply) -> T | Reply:
        """Return the parsed reply, with the wait that it asks for unless it is an acceptance."""
        return (
            _asking_to_wait(result, raw.retry_after, self._epoch_s())
            if isinstance(result, Reply)
            else result
        )

    def _epoch_s(self) -> float:
        """Return the exchange's clock as far as it is known, else this machine's time of day."""
        offset = self._timing.offset
        return self._clock.wall().timestamp() if offset is None else offset.epoch_at(self._clock.now())

    def _signed_headers(self, request: Request) -> Headers:
        return wire.signed_headers(request, self._credentials, self._environment, self._timestamp())

    def _timestamp(self) -> str:
        # The wall clock is no substitute: with a fast one a request would stay valid for longer than
        # pacing assumes, so signing before the first measurement is a bug of ours.
        offset = self._timing.offset
        assert offset is not None, "the exchange's clock was never measured"
        return wire.format_timestamp(offset.epoch_at(self._clock.now()))


class OkxTradingClient(OkxClient):
    """Reads and writes. Its key may be replaced while it is in use; ``reload`` returns the present one.

    The key in use changes only in ``account``: every other request is signed with a key whose account was
    queried before.
    """

    def __init__(
        self,
        base_url: BaseUrl,
        environment: Environment,
        credentials: Credentials,
        clock: Clock,
        *,
        timeout_s: float = TOTAL_TIMEOUT_S,
        timing: ExchangeClock | None = None,
        reload: Callable[[], Credentials] | None = None,
    ) -> None:
        super().__init__(base_url, environment, credentials, clock, timeout_s=timeout_s, timing=timing)
        self._reload = reload

    def key_changed(self) -> bool:
        """Return whether the key is no longer the one in use, or cannot be read any more."""
        if self._reload is None:
            return False
        try:
            return self._reload() != self._credentials
        except AccountProblem:
            return True

    async def account(self) -> AccountInfo | Reply:
        """Load the present key, and query its owner and permissions.

        Raises AccountProblem where the key cannot be read.
        """
        if self._reload is not None:
            self._credentials = self._reload()
        return await super().account()

    async def open(self) -> OkxConnection | Reply:
        """Open a fresh connection, writing no byte of a request; a failure is NOT_SENT.

        Once the exchange's clock was measured, this waits for no further measurement.
        """
        refused = await self._refuse_without_clock()
        if refused is not None:
            return refused
        connection = await self._connect()
        return (
            connection
            if isinstance(connection, Reply)
            else OkxConnection(self._clock, self._credentials, connection, self._epoch_s)
        )

    def sign(self, family: Family, setting: Setting) -> SignedRequest:
        """Build and sign one request with the current time of the exchange's clock."""
        request = wire.set_mmp(family, setting)
        timestamp = self._timestamp()
        headers = wire.signed_headers(request, self._credentials, self._environment, timestamp)
        return SignedRequest(family, setting, timestamp, request.body, headers)

    async def reset(self, family: Family) -> bool | Reply:
        """Reset one family's MMP status, once; False means that the exchange did not do it.

        A reply without data leaves that unknown, unless its class decides it.
        """
        refused = await self._refuse_without_clock()
        if refused is not None:
            return refused
        answer = await self._ask_signed(wire.reset_mmp(family), REPLY_LIMIT_BYTES)
        if isinstance(answer, Reply):
            return answer
        return self._with_wait(answer.raw, replies.parse_reset(*self._parts(answer.raw), family))

    async def _refuse_without_clock(self) -> Reply | None:
        """Return why the known clock of the exchange forbids a write; None if it does not."""
        if self._timing.offset is None:
            unsynced = await self.sync_clock()
            return None if unsynced is None else replace(unsynced, reply_class=ReplyClass.NOT_SENT)
        self._refresh_clock()
        age_s = self._clock_age_s()
        return None if age_s <= CLOCK_LAST_AGE_S else _clock_too_old(age_s, self._timing.last_failure)


class OkxConnection:
    """An open connection, good for one Set MMP request; the port ``Connection``."""

    def __init__(
        self,
        clock: Clock,
        credentials: Credentials,
        connection: SingleUseConnection,
        epoch_s: Callable[[], float],
    ) -> None:
        self._clock = clock
        self._credentials = credentials
        self._connection = connection
        self._epoch_s = epoch_s
        self._suspended_s = clock.suspended_s()

    async def send(self, request: SignedRequest, *, deadline: float) -> Reply:
        """Write ``request`` once and return the classified reply; closes the connection.

        Past the instant ``deadline``, or if this machine was suspended since the connection was opened,
        nothing is written and the reply is NOT_SENT.
        """
        failed = await self._connection.lost() or self._too_late(deadline)
        if failed is not None:
            await self._connection.close()
            return _as_reply(failed, self._epoch_s())
        answer = await self._connection.send(
            "POST", wire.MMP_CONFIG_PATH, request.body, request.headers, limit_bytes=REPLY_LIMIT_BYTES
        )
        if isinstance(answer, TransportFailure):
            return _as_reply(answer, self._epoch_s())
        reply = replies.parse_set(
            answer.status, answer.body, self._credentials.scrub, request.family, request.setting
        )
        return _asking_to_wait(reply, answer.retry_after, self._epoch_s())

    async def close(self) -> None:
        """Close without sending; harmless when already closed."""
        await self._connection.close()

    def _too_late(self, deadline: float) -> TransportFailure | None:
        """Return why the request must not be written any more; None when it may be.

        The deadline is on a clock that stops during a suspension, the signature's age is not: a request
        that was written after one could arrive later than pacing allows for.
        """
        if self._clock.now() > deadline:
            return TransportFailure(
                False, "late", "the slot had passed before the request could be written"
            )
        if self._clock.suspended_s() - self._suspended_s > CLOCK_SUSPENSION_S:
            return TransportFailure(
                False, "suspended", "this machine was suspended before the request was written"
            )
        return None


def _as_reply(failed: TransportFailure, epoch_s: float) -> Reply:
    reply_class = ReplyClass.NO_ANSWER if failed.sent else ReplyClass.NOT_SENT
    return _asking_to_wait(Reply(reply_class, failed.code, failed.message), failed.retry_after, epoch_s)


def _about_the_time(failed: Reply) -> Reply:
    """Return why the exchange's clock was not measured, with the name of the query."""
    return replace(failed, message=f"{wire.PUBLIC_TIME_PATH}: {failed.message or failed.reply_class.value}")


def _clock_too_old(age_s: float, failed: Reply | None) -> Reply:
    """Return why nothing is written ``age_s`` after the exchange's clock was last measured."""
    why = f", and measuring it failed ({failed.message})" if failed is not None else ""
    message = (
        f"the exchange's clock was last measured {age_s / 60:.0f} min ago{why}; requests that change"
        f" something are sent within {CLOCK_LAST_AGE_S / 60:.0f} min of a measurement: let this machine"
        f" reach GET {wire.PUBLIC_TIME_PATH}"
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
