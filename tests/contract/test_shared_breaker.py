"""The address of the exchange, shared by many accounts: who connects while it fails, and what ends that."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from itertools import pairwise
from typing import Any, TypeVar

import pytest

from reconciler.clock import SystemClock
from reconciler.core.circuit_breaker import CircuitBreaker
from reconciler.core.model import AccountInfo, Environment, LiveRead
from reconciler.core.reply import Reply, ReplyClass
from reconciler.okx.client import OkxTradingClient
from reconciler.okx.exchange_clock import ClockOffset, ExchangeClock
from reconciler.okx.transport import TransportFailure
from reconciler.okx.wire import parse_base_url
from tests.contract.test_okx_client import (
    ACCOUNT,
    CREDENTIALS,
    FAMILY,
    SETTING,
    HandClock,
    Server,
    envelope,
    reset,
    say,
    settle,
    silent,
)

CONFIG = "GET /api/v5/account/config"
LIVE = "GET /api/v5/account/mmp-config"
OWN = say(envelope(ACCOUNT))
PAGE = say(b"<html>Bad gateway</html>", "502 Bad Gateway")
ACCOUNTS = 100
PROBE_EVERY_S = 0.3
"""Shorter than in the program, to keep the tests short."""

T = TypeVar("T")


class Fleet:
    """Many accounts of one process on one server, with the exchange's clock measured already."""

    def __init__(self, server: Server, port: int) -> None:
        self.server = server
        self.clock = SystemClock()
        self.exchange_clock = ExchangeClock()
        self.exchange_clock.offset = ClockOffset(time.time(), self.clock.now(), 0.0)
        self.base = parse_base_url(f"http://127.0.0.1:{port}", frozenset())

    def client(self) -> OkxTradingClient:
        return OkxTradingClient(
            self.base,
            Environment.LIVE,
            CREDENTIALS,
            self.clock,
            timeout_s=3.0,
            exchange_clock=self.exchange_clock,
        )

    @property
    def health(self) -> CircuitBreaker:
        return self.exchange_clock.address.health

    def on(self, target: str, *scripts: Any) -> None:
        self.server.scripts[target] = list(scripts)

    async def fail_once(self) -> Reply:
        """Let a request of one account fail because of the address."""
        self.on(CONFIG, PAGE)
        reply = await self.client().account()
        assert isinstance(reply, Reply)
        return reply

    async def ask_all(self, number: int = ACCOUNTS) -> list[AccountInfo | Reply]:
        return list(await asyncio.gather(*(self.client().account() for _ in range(number))))


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reconciler.core.circuit_breaker.PROBE_EVERY_S", PROBE_EVERY_S)


def play(scenario: Callable[[Fleet], Coroutine[Any, Any, None]], *, dead: bool = False) -> None:
    """Run ``story`` with a server that answers as OKX does, or with a closed port."""

    async def run() -> None:
        server = Server(HandClock())
        listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        if dead:
            listener.close()
            await listener.wait_closed()
        try:
            async with asyncio.timeout(60.0):
                await scenario(Fleet(server, port))
        finally:
            listener.close()
            await settle()

    asyncio.run(run())


@pytest.fixture
def no_interval_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the interval between probes longer than the test lasts."""
    monkeypatch.setattr("reconciler.core.circuit_breaker.PROBE_EVERY_S", 600.0)


async def timed(work: Awaitable[T]) -> tuple[T, float]:
    begun_at = time.monotonic()
    answer = await work
    return answer, time.monotonic() - begun_at


async def keep_asking(client: OkxTradingClient, until: float) -> None:
    while time.monotonic() < until:
        assert isinstance(await client.account(), Reply)
        await asyncio.sleep(0.02)


# ---- while it fails ------------------------------------------------------------------------------


@pytest.mark.parametrize("fails_by", ["page", "reset", "refused"])
def test_a_hundred_accounts_probe_a_failing_address_one_at_a_time(
    monkeypatch: pytest.MonkeyPatch, fails_by: str
) -> None:
    tries: list[float] = []
    begin = CircuitBreaker.begun

    def counted(health: CircuitBreaker, now: float) -> CircuitBreaker:
        tries.append(now)
        return begin(health, now)

    monkeypatch.setattr(CircuitBreaker, "begun", counted)

    async def scenario(fleet: Fleet) -> None:
        script = reset if fails_by == "reset" else PAGE
        fleet.on(CONFIG, *[script] * 1000)
        assert isinstance(await fleet.client().account(), Reply)
        tries.clear()
        lasts_s = 4 * PROBE_EVERY_S
        until = time.monotonic() + lasts_s
        await asyncio.gather(*(keep_asking(fleet.client(), until) for _ in range(ACCOUNTS)))
        assert 4 <= len(tries) <= 7, "one at once, and then one in each interval"
        gaps = [after - before for before, after in pairwise(tries)]
        assert min(gaps) >= PROBE_EVERY_S
        if fails_by != "refused":
            assert fleet.server.connections == 1 + len(tries)

    play(scenario, dead=fails_by == "refused")


@pytest.mark.usefixtures("no_interval_ends")
def test_who_waits_takes_the_result_of_the_probe() -> None:
    async def scenario(fleet: Fleet) -> None:
        await fleet.fail_once()
        fleet.on(CONFIG, PAGE)
        answers = await fleet.ask_all()
        failed = [answer for answer in answers if isinstance(answer, Reply)]
        assert len(failed) == ACCOUNTS
        assert [reply.reply_class for reply in failed].count(ReplyClass.NOT_SENT) == ACCOUNTS - 1
        assert {reply.code for reply in failed} == {"not-okx"}
        assert fleet.server.connections == 2

    play(scenario)


@pytest.mark.parametrize("hangs", [True, False])
def test_a_slow_probe_delays_no_other_account(hangs: bool) -> None:
    async def scenario(fleet: Fleet) -> None:
        await fleet.fail_once()
        fleet.on(CONFIG, silent, *[silent if hangs else OWN] * 3, *[OWN] * ACCOUNTS)
        probing = asyncio.create_task(fleet.client().account())
        await asyncio.sleep(0.05)
        answers, seconds = await timed(fleet.ask_all(ACCOUNTS - 1))
        if hangs:
            # The first ones that try for themselves hang as well: one in each interval.
            answered = [answer for answer in answers if isinstance(answer, AccountInfo)]
            assert len(answered) == ACCOUNTS - 4
        else:
            assert all(isinstance(answer, AccountInfo) for answer in answers)
            assert seconds < 2.5, "sooner than the probe gives up"
        await asyncio.gather(probing)

    play(scenario)


def test_a_probe_that_was_cancelled_is_replaced() -> None:
    async def scenario(fleet: Fleet) -> None:
        await fleet.fail_once()
        fleet.on(CONFIG, silent, *[OWN] * 20)
        probing = asyncio.create_task(fleet.client().account())
        await asyncio.sleep(0.05)
        waiting = asyncio.create_task(fleet.ask_all(20))
        await asyncio.sleep(0.05)
        probing.cancel()
        answers, seconds = await timed(waiting)
        assert all(isinstance(answer, AccountInfo) for answer in answers)
        assert seconds < 2.5, "sooner than the probe gives up"
        await asyncio.gather(probing, return_exceptions=True)

    play(scenario)


def test_what_a_gateway_asks_for_holds_for_all_accounts() -> None:
    async def scenario(fleet: Fleet) -> None:
        page = say(b"<html></html>", "429 Too Many Requests", "Retry-After: 1")
        fleet.on(CONFIG, page, page)
        for _ in range(2):  # a single one may be about one account's request only
            reply = await fleet.client().account()
            assert isinstance(reply, Reply)
            assert reply.retry_after_s == 1.0
        fleet.server.scripts[CONFIG] = [OWN] * ACCOUNTS
        refused = await fleet.ask_all()
        assert fleet.server.connections == 2
        for one in refused:
            assert isinstance(one, Reply)
            assert (one.reply_class, one.code) == (ReplyClass.NOT_SENT, "not-okx")
            assert one.retry_after_s is not None
            assert 0.0 < one.retry_after_s <= 1.0
        await asyncio.sleep(1.0)
        assert all(isinstance(answer, AccountInfo) for answer in await fleet.ask_all())

    play(scenario)


# ---- when it works again -------------------------------------------------------------------------


@pytest.mark.usefixtures("no_interval_ends")
@pytest.mark.parametrize(
    "own",
    [
        OWN,
        say(envelope(code="50111", msg="Invalid OK-ACCESS-KEY"), "401 Unauthorized"),
        say(envelope(code="50013", msg="Systems are busy"), "429 Too Many Requests"),
        say(envelope(code="50001", msg="Service unavailable"), "503 Service Unavailable"),
        say(envelope(code="50030", msg="No permission"), "403 Forbidden"),
    ],
    ids=["data", "401", "429", "503", "403"],
)
def test_any_reply_of_okxs_own_lets_everyone_go_on(own: Any) -> None:
    async def scenario(fleet: Fleet) -> None:
        await fleet.fail_once()
        fleet.on(CONFIG, own, *[OWN] * ACCOUNTS)
        answers = await fleet.ask_all()
        refused = [answer for answer in answers if isinstance(answer, Reply)]
        assert len(refused) <= 1, "only the account that was refused itself"
        assert fleet.health == CircuitBreaker()

    play(scenario)


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden", "429 Too Many Requests"])
def test_a_bad_key_of_one_account_affects_no_other(status: str) -> None:
    async def scenario(fleet: Fleet) -> None:
        fleet.on(CONFIG, *[say(envelope(code="50111", msg="Invalid OK-ACCESS-KEY"), status)] * 50)
        bad = await fleet.client().account()
        assert isinstance(bad, Reply)
        assert bad.reply_class is ReplyClass.ACCOUNT
        assert fleet.health == CircuitBreaker()
        before = fleet.server.connections
        reads = await asyncio.gather(*(fleet.client().read_live() for _ in range(20)))
        assert all(isinstance(read, LiveRead) for read in reads)
        assert fleet.server.connections == before + 20

    play(scenario)


@pytest.mark.parametrize("status", ["404 Not Found", "200 OK", "302 Found"])
def test_other_pages_say_nothing_of_the_address_by_themselves(status: str) -> None:
    async def scenario(fleet: Fleet) -> None:
        fleet.on(CONFIG, say(b"<html></html>", status))
        assert isinstance(await fleet.client().account(), Reply)
        assert fleet.health == CircuitBreaker()

    play(scenario)


@pytest.mark.parametrize("status", ["404 Not Found", "200 OK", "302 Found"])
def test_but_they_do_not_prove_that_it_works(status: str) -> None:
    async def scenario(fleet: Fleet) -> None:
        await fleet.fail_once()
        fleet.on(CONFIG, say(b"<html></html>", status))
        assert isinstance(await fleet.client().account(), Reply)
        assert fleet.health.failures == 2

    play(scenario)


@pytest.mark.parametrize(("failures", "calls"), [(1, 0), (2, 1), (5, 1)])
def test_the_end_of_an_outage_is_reported_once(failures: int, calls: int) -> None:
    async def scenario(fleet: Fleet) -> None:
        called: list[bool] = []
        fleet.on(CONFIG, *[PAGE] * failures, OWN, OWN)
        with fleet.exchange_clock.address.on_recovery(lambda: called.append(True)):
            for _ in range(failures + 2):
                await fleet.client().account()
        assert len(called) == calls
        await fleet.fail_once()
        await fleet.fail_once()
        fleet.on(CONFIG, OWN)
        await fleet.client().account()
        assert len(called) == calls, "a call is not made after its block has ended"

    play(scenario)


# ---- requests to set -----------------------------------------------------------------------------


@pytest.mark.usefixtures("no_interval_ends")
def test_a_request_whose_connection_is_open_is_never_delayed() -> None:
    async def scenario(fleet: Fleet) -> None:
        client = fleet.client()
        connection = await client.open()
        assert not isinstance(connection, Reply | TransportFailure)
        await fleet.fail_once()
        blocked = asyncio.create_task(fleet.ask_all(10))
        await asyncio.sleep(0)
        request = client.sign(FAMILY, SETTING)
        reply = await connection.send(request, deadline=fleet.clock.now() + 2.0)
        assert reply.reply_class is ReplyClass.ACCEPTED
        await blocked
        assert fleet.health == CircuitBreaker(), "its reply proves that the address works"

    play(scenario)


def test_a_connection_that_was_not_tried_was_not_sent() -> None:
    async def scenario(fleet: Fleet) -> None:
        await fleet.fail_once()
        fleet.on(CONFIG, PAGE)
        probing = asyncio.create_task(fleet.client().account())
        await asyncio.sleep(0)
        reply = await fleet.client().open()
        assert isinstance(reply, Reply)
        assert (reply.reply_class, reply.code) == (ReplyClass.NOT_SENT, "not-okx")
        assert "not tried" in reply.message
        await probing

    play(scenario)
