"""The exchange, spoken to with one account's key: the ports ``Exchange`` and ``TradingExchange``.

This file decides when the exchange's clock is measured, what a failure of transport amounts to, and
that a Set MMP request goes out at most once on its own connection. A dry run is given an OkxClient,
which has no way to write. Nothing is logged here and no reply raises: what happened is a value.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from reconciler.core.model import AccountInfo, Environment, Family, LiveRead, Setting
from reconciler.core.verdict import Reply, ReplyClass
from reconciler.errors import AccountProblem
from reconciler.okx import replies, wire
from reconciler.okx.credentials import Credentials
from reconciler.okx.replies import LIVE_REPLY_LIMIT_BYTES, REPLY_LIMIT_BYTES
from reconciler.okx.timing import ClockOffset, ExchangeClock
from reconciler.okx.transport import TOTAL_TIMEOUT_S, Failed, OneShot, RawReply
from reconciler.okx.wire import BaseUrl, Headers, Request
from reconciler.ports import Clock, Signed

CLOCK_MAX_AGE_S = 600.0
"""How long a measured offset is used: at 500 ppm it drifts 0.3 s in this time."""

CLOCK_MAX_ROUND_TRIP_S = 4.0
"""A slower measurement is refused: its error, half the round trip, must stay within 2 s. Pacing
allows 3 s between a signature's timestamp and the exchange's clock."""

MAX_UNDERLYINGS = 20
"""Asked about in one go: OKX allows 20 questions in 2 s, and options have fewer underlyings [doc]."""

LARGE_OFFSET_S = 1.0
"""From here on a local clock's offset deserves a warning."""

T = TypeVar("T")


class OkxClient:
    """Reads from the exchange. It has no means to change anything there.

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
        """Ask who the key belongs to and what it may do."""
        return await self._read_signed(self._account_once)

    async def read_live(self) -> LiveRead | Reply:
        """Read every configured family at once."""
        return await self._read_signed(self._live_once)

    async def listed_families(self) -> frozenset[Family] | Reply:
        """Return every family that has options listed, asked underlying by underlying; needs no key."""
        answer = await self._ask_public(wire.public_underlyings(), REPLY_LIMIT_BYTES)
        if isinstance(answer, Reply):
            return answer
        underlyings = replies.parse_underlyings(answer.status, answer.body, self._credentials.scrub)
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
        connection = await self._connect()
        if isinstance(connection, Reply):
            return connection
        begun_at = self._clock.now()
        answer = await self._ask(
            connection, wire.public_time(), wire.public_headers(self._environment), REPLY_LIMIT_BYTES
        )
        ended_at, wall_s = self._clock.now(), self._clock.wall().timestamp()
        if isinstance(answer, Reply):
            return answer
        time_ms = replies.parse_time(answer.status, answer.body, self._credentials.scrub)
        if isinstance(time_ms, Reply):
            return time_ms
        round_trip_s = ended_at - begun_at
        if round_trip_s > CLOCK_MAX_ROUND_TRIP_S:
            return replies.no_answer("slow-clock", f"asking for the time took {round_trip_s:.1f} s")
        # The exchange read its clock somewhere within the round trip: the middle errs the least.
        epoch_s, half_s = time_ms / 1000, round_trip_s / 2
        return ClockOffset(epoch_s, ended_at - half_s, epoch_s - (wall_s - half_s))

    async def _account_once(self) -> AccountInfo | Reply:
        connection = await self._connect()
        if isinstance(connection, Reply):
            return connection
        request = wire.account_config()
        answer = await self._ask(connection, request, self._signed_headers(request), REPLY_LIMIT_BYTES)
        if isinstance(answer, Reply):
            return answer
        return replies.parse_account(answer.status, answer.body, self._credentials.scrub)

    async def _live_once(self) -> LiveRead | Reply:
        connection = await self._connect()
        if isinstance(connection, Reply):
            return connection
        request = wire.get_mmp()
        headers = self._signed_headers(request)
        begun_at = self._clock.now()
        answer = await self._ask(connection, request, headers, LIVE_REPLY_LIMIT_BYTES)
        if isinstance(answer, Reply):
            return answer
        return replies.parse_live(answer.status, answer.body, self._credentials.scrub, begun_at=begun_at)

    async def _families_of(self, underlying: str) -> frozenset[Family] | Reply:
        answer = await self._ask_public(wire.public_instruments(underlying), LIVE_REPLY_LIMIT_BYTES)
        if isinstance(answer, Reply):
            return answer
        return replies.parse_families(answer.status, answer.body, self._credentials.scrub)

    async def _ask_public(self, request: Request, limit_bytes: int) -> RawReply | Reply:
        connection = await self._connect()
        if isinstance(connection, Reply):
            return connection
        return await self._ask(connection, request, wire.public_headers(self._environment), limit_bytes)

    async def _read_signed(self, read: Callable[[], Awaitable[T | Reply]]) -> T | Reply:
        """Read with a fresh clock; if the exchange still objects to the time, measure and try once more."""
        unsynced = await self._ensure_clock()
        if unsynced is not None:
            return unsynced
        answer = await read()
        if not isinstance(answer, Reply) or answer.reply_class is not ReplyClass.CLOCK:
            return answer
        unsynced = await self.sync_clock()
        return await read() if unsynced is None else unsynced

    async def _ensure_clock(self) -> Reply | None:
        """Measure the exchange's clock unless that was done lately."""
        offset = self._timing.offset
        if offset is not None and self._clock.now() - offset.at <= CLOCK_MAX_AGE_S:
            return None
        return await self.sync_clock()

    async def _connect(self) -> OneShot | Reply:
        connection = await self._timing.address.open(self._base_url.url, self._timeout_s, self._clock)
        return _as_reply(connection) if isinstance(connection, Failed) else connection

    async def _ask(
        self, connection: OneShot, request: Request, headers: Headers, limit_bytes: int
    ) -> RawReply | Reply:
        answer = await connection.send(
            request.method, request.target, request.body, headers, limit_bytes=limit_bytes
        )
        return _as_reply(answer) if isinstance(answer, Failed) else answer

    def _signed_headers(self, request: Request) -> Headers:
        return wire.signed_headers(request, self._credentials, self._environment, self._timestamp())

    def _timestamp(self) -> str:
        # The wall clock is no substitute: with a fast one a request would stay valid for longer than
        # pacing believes, so signing before the first measurement is a fault of ours.
        offset = self._timing.offset
        assert offset is not None, "the exchange's clock was never measured"
        return wire.format_timestamp(offset.epoch_at(self._clock.now()))


class OkxTradingClient(OkxClient):
    """Reads and writes. Its key may be replaced while it is in use, where ``reload`` says what it is now.

    The key in use changes in ``account`` alone: whatever else is signed, is signed with a key whose
    account was asked for before.
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

    def rekeyed(self) -> bool:
        """Tell whether the key is no longer the one in use, or cannot be read any more."""
        if self._reload is None:
            return False
        try:
            return self._reload() != self._credentials
        except AccountProblem:
            return True

    async def account(self) -> AccountInfo | Reply:
        """Take the key as it is now, and ask who it belongs to and what it may do.

        Raises AccountProblem where the key cannot be read.
        """
        if self._reload is not None:
            self._credentials = self._reload()
        return await super().account()

    async def open(self) -> OkxConnection | Reply:
        """Open a fresh connection, writing no byte of a request; a failure is NOT_SENT.

        The exchange's clock is measured first where that is due, so that signing needs no wait.
        """
        unsynced = await self._ensure_clock()
        if unsynced is not None:
            return Reply(ReplyClass.NOT_SENT, unsynced.code, unsynced.message)
        connection = await self._connect()
        return (
            connection
            if isinstance(connection, Reply)
            else OkxConnection(self._clock, self._credentials, connection)
        )

    def sign(self, family: Family, setting: Setting) -> Signed:
        """Build and sign one request with the current time of the exchange's clock."""
        request = wire.set_mmp(family, setting)
        timestamp = self._timestamp()
        headers = wire.signed_headers(request, self._credentials, self._environment, timestamp)
        return Signed(family, setting, timestamp, request.body, headers)

    async def reset(self, family: Family) -> bool | Reply:
        """Reset one family's MMP status, once; False means that the exchange did not do it.

        A reply that is no data leaves open whether it did, unless its class says otherwise.
        """
        unsynced = await self._ensure_clock()
        if unsynced is not None:
            return Reply(ReplyClass.NOT_SENT, unsynced.code, unsynced.message)
        connection = await self._connect()
        if isinstance(connection, Reply):
            return connection
        request = wire.reset_mmp(family)
        answer = await self._ask(connection, request, self._signed_headers(request), REPLY_LIMIT_BYTES)
        if isinstance(answer, Reply):
            return answer
        return replies.parse_reset(answer.status, answer.body, self._credentials.scrub)


class OkxConnection:
    """An open connection, good for one Set MMP request; the port ``Connection``."""

    def __init__(self, clock: Clock, credentials: Credentials, connection: OneShot) -> None:
        self._clock = clock
        self._credentials = credentials
        self._connection = connection

    async def send(self, request: Signed, *, deadline: float) -> Reply:
        """Write ``request`` once and return the classified reply; closes the connection.

        Past the instant ``deadline`` nothing is written and the reply is NOT_SENT.
        """
        lost = await self._connection.lost()
        if lost is None and self._clock.now() > deadline:
            lost = Failed(False, "late", "the slot had passed before the request could be written")
        if lost is not None:
            await self._connection.close()
            return _as_reply(lost)
        answer = await self._connection.send(
            "POST", wire.MMP_CONFIG_PATH, request.body, request.headers, limit_bytes=REPLY_LIMIT_BYTES
        )
        if isinstance(answer, Failed):
            return _as_reply(answer)
        return replies.parse_set(answer.status, answer.body, self._credentials.scrub)

    async def close(self) -> None:
        """Close without sending; harmless when already closed."""
        await self._connection.close()


def _as_reply(failed: Failed) -> Reply:
    reply_class = ReplyClass.NO_ANSWER if failed.sent else ReplyClass.NOT_SENT
    return Reply(reply_class, failed.code, failed.message)
