"""The simulated exchange over real sockets: arrivals, faults on the wire, and the control endpoint."""

from __future__ import annotations

import asyncio
import socket
import time
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from yarl import URL

from reconciler.simulator.exchange import SimulatedExchange
from reconciler.simulator.faults import parse_fault
from reconciler.simulator.server import MAX_BODY_BYTES, Network, running_simulator
from tests.support.simulator import ACCOUNT, BTC, SET, SETTING, TIME, UID, as_body, exchange, headers_for

Scenario = Callable[[aiohttp.ClientSession, str], Awaitable[Any]]


def play(world: SimulatedExchange, scenario: Scenario, network: Network | None = None) -> Any:
    """Serve ``world`` on a free port, let ``story`` talk to it, and return what it returns."""

    async def run() -> Any:
        async with (
            running_simulator(world, network=network or Network()) as url,
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session,
        ):
            return await scenario(session, url)

    return asyncio.run(run())


async def call(
    session: aiohttp.ClientSession, url: str, method: str, target: str, body: bytes = b"", **more: Any
) -> tuple[int, Any]:
    """Send one signed request, ``more`` headers put over it; return the status and the document."""
    headers = headers_for(method, target, body, time.time()) | more
    async with session.request(method, url + target, data=body, headers=headers) as response:
        assert response.headers["x-simulator"] == "true"
        return response.status, await response.json()


def test_a_signed_conversation_goes_through() -> None:
    world = exchange()

    async def scenario(session: aiohttp.ClientSession, url: str) -> list[tuple[int, Any]]:
        return [
            await call(session, url, "GET", ACCOUNT),
            await call(session, url, "POST", SET, as_body(BTC)),
            await call(session, url, "GET", SET + "?instFamily=BTC-USD"),
            await call(session, url, "GET", SET),
        ]

    account, written, one, every = play(world, scenario)
    assert account[1]["data"][0]["uid"] == UID
    assert written == (200, {"code": "0", "msg": "", "data": [BTC]})
    assert one == every
    assert one[1]["data"] == [{**BTC, "mmpFrozen": False, "mmpFrozenUntil": ""}]
    assert world.settings(UID) == {"BTC-USD": SETTING}


def test_the_target_is_checked_as_it_was_on_the_wire() -> None:
    async def scenario(session: aiohttp.ClientSession, url: str) -> list[str]:
        signed = headers_for("GET", SET + "?instFamily=BTC%2DUSD", b"", time.time())
        codes = []
        for target in (SET + "?instFamily=BTC%2DUSD", SET + "?instFamily=BTC-USD"):
            async with session.get(URL(url + target, encoded=True), headers=signed) as response:
                codes.append((await response.json())["code"])
        return codes

    assert play(exchange(), scenario) == ["0", "50113"]


def test_a_compressed_body_is_taken_as_it_was_sent() -> None:
    async def scenario(session: aiohttp.ClientSession, url: str) -> Any:
        body = zlib.compress(as_body(BTC))
        return await call(session, url, "POST", SET, body, **{"Content-Encoding": "deflate"})

    assert play(exchange(), scenario)[1]["code"] == "50002"


def test_a_wrong_caller_hears_a_code() -> None:
    async def scenario(session: aiohttp.ClientSession, url: str) -> list[Any]:
        return [
            await call(session, url, "GET", ACCOUNT, b"", **{"OK-ACCESS-KEY": "other"}),
            await call(session, url, "GET", ACCOUNT, b"", **{"OK-ACCESS-PASSPHRASE": "other"}),
            await call(session, url, "GET", "/api/v5/elsewhere"),
        ]

    replies = play(exchange(), scenario)
    assert [(status, reply["code"]) for status, reply in replies] == [
        (401, "50119"),
        (401, "50105"),
        (404, "404"),
    ]


def test_the_clock_is_the_wall_clock_plus_the_skew() -> None:
    async def scenario(session: aiohttp.ClientSession, url: str) -> tuple[float, Any]:
        _, document = await call(session, url, "GET", TIME)
        return float(document["data"][0]["ts"]) / 1000 - time.time(), await call(
            session, url, "GET", ACCOUNT
        )

    ahead, (_, refused) = play(exchange(clock_skew_s=40.0), scenario)
    assert ahead == pytest.approx(40, abs=1)
    assert refused["code"] == "50102"


DROPPED = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)


@pytest.mark.parametrize(("text", "applied"), [("lost-before", False), ("lost-after", True)])
def test_a_lost_request_is_a_dead_connection(text: str, applied: bool) -> None:
    world = exchange()
    world.inject(parse_fault(text))

    async def scenario(session: aiohttp.ClientSession, url: str) -> Any:
        with pytest.raises(DROPPED):
            await call(session, url, "POST", SET, as_body(BTC))
        return await call(session, url, "GET", ACCOUNT)

    assert play(world, scenario)[0] == 200
    assert (world.settings(UID) == {"BTC-USD": SETTING}) is applied
    assert [one.verdict for one in world.arrivals()] == ["silence", "0"]


def test_a_truncated_reply_ends_before_its_announced_length() -> None:
    world = exchange()
    world.inject(parse_fault("truncated"))

    async def scenario(session: aiohttp.ClientSession, url: str) -> None:
        headers = headers_for("POST", SET, as_body(BTC), time.time())
        async with session.post(url + SET, data=as_body(BTC), headers=headers) as response:
            assert response.status == 200
            assert response.headers["x-simulator"] == "true"
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()

    play(world, scenario)
    assert world.settings(UID) == {"BTC-USD": SETTING}


def test_a_gateway_page_is_not_json() -> None:
    world = exchange()
    world.inject(parse_fault("time/html-502"))

    async def scenario(session: aiohttp.ClientSession, url: str) -> tuple[int, str, str]:
        async with session.get(url + TIME) as response:
            return response.status, response.content_type, response.headers["x-simulator"]

    assert play(world, scenario) == (502, "text/html", "true")


def test_slow_replies_and_latency_take_their_time() -> None:
    world = exchange()
    world.inject(parse_fault("time/slow@0.1"))

    async def scenario(session: aiohttp.ClientSession, url: str) -> list[float]:
        took = []
        for _ in range(2):
            begun = time.monotonic()
            await call(session, url, "GET", TIME)
            took.append(time.monotonic() - begun)
        return took

    slow, normal = play(world, scenario, Network(latency_s=0.05, jitter_s=0.01, seed=7))
    assert slow >= 0.15
    assert 0.05 <= normal < slow


def test_an_arrival_is_stamped_when_the_head_is_there_not_the_body() -> None:
    world = exchange()

    async def scenario(_session: aiohttp.ClientSession, url: str) -> tuple[float, float]:
        host, port = url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        body = as_body(BTC)
        headers = headers_for("POST", SET, body, time.time()) | {
            "Host": host,
            "Content-Length": str(len(body)),
        }
        lines = [f"POST {SET} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        sent_head = time.time()
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        await asyncio.sleep(0.2)
        writer.write(body)
        assert b"200 OK" in await reader.readline()
        writer.close()
        await writer.wait_closed()
        return sent_head, world.arrivals()[0].at

    sent, arrived = play(world, scenario)
    assert arrived - sent < 0.15
    assert world.arrivals()[0].applied


def test_a_caller_that_gives_up_does_not_undo_what_arrived() -> None:
    world = exchange()

    async def scenario(session: aiohttp.ClientSession, url: str) -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(call(session, url, "POST", SET, as_body(BTC)), 0.05)
        await asyncio.sleep(0.3)

    play(world, scenario, Network(latency_s=0.3))
    assert world.settings(UID) == {"BTC-USD": SETTING}


def test_far_too_large_a_body_is_not_looked_at() -> None:
    async def scenario(session: aiohttp.ClientSession, url: str) -> None:
        with pytest.raises(DROPPED):
            await call(session, url, "POST", SET, b" " * (MAX_BODY_BYTES + 1))

    world = exchange()
    play(world, scenario)
    assert world.arrivals() == ()


def test_a_request_that_stays_incomplete_has_no_effect() -> None:
    world = exchange()

    async def scenario(session: aiohttp.ClientSession, url: str) -> Any:
        host, port = url.removeprefix("http://").split(":")
        _reader, writer = await asyncio.open_connection(host, int(port))
        head = f"POST {SET} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 100\r\n\r\n"
        writer.write(head.encode() + as_body(BTC)[:50])
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.close()
        await writer.wait_closed()
        return await call(session, url, "GET", ACCOUNT)

    assert play(world, scenario)[0] == 200
    assert [one.endpoint.value for one in world.arrivals()] == ["account"]


async def control(
    session: aiohttp.ClientSession, url: str, name: str, payload: Any = None
) -> tuple[int, Any]:
    """Use the control endpoint: read without a payload, change with one."""
    method = "GET" if payload is None else "POST"
    async with session.request(method, f"{url}/_control/{name}", json=payload) as response:
        assert response.headers["x-simulator"] == "true"
        return response.status, await response.json()


def test_the_control_endpoint_shows_and_changes_the_world() -> None:
    async def scenario(session: aiohttp.ClientSession, url: str) -> list[Any]:
        await call(session, url, "POST", SET, as_body(BTC))
        return [
            await control(session, url, "arrivals"),
            await control(session, url, "freeze", {"family": "BTC-USD", "ms": 0}),
            await control(
                session, url, "settings", {"family": "BTC-USD", **SETTING.wire(), "qtyLimit": "9"}
            ),
            await control(session, url, "fault", {"fault": "50013"}),
            await control(session, url, "rules", {"rate": "fixed"}),
            await control(session, url, "violations"),
            await call(session, url, "GET", SET),
        ]

    arrivals, frozen, drifted, faults, rules, violations, read = play(exchange(), scenario)
    assert [one["family"] for one in arrivals[1]] == ["BTC-USD"]
    assert frozen[1][UID]["BTC-USD"]["frozen"] == "until-reset"
    assert drifted[1][UID]["BTC-USD"]["qtyLimit"] == "9"
    assert faults[1]["set"] == 1
    assert rules[1]["rate"] == "fixed"
    assert violations == (200, [])
    assert read[1]["data"][0]["mmpFrozen"] is True


@pytest.mark.parametrize(
    ("name", "body"),
    [("nope", b"{}"), ("fault", b"{"), ("fault", b"[]"), ("unplug", b"{}"), ("unplug", b'{"seconds":-1}')],
)
def test_a_wrong_control_request_says_what_is_wrong(name: str, body: bytes) -> None:
    async def scenario(session: aiohttp.ClientSession, url: str) -> tuple[int, Any]:
        async with session.post(f"{url}/_control/{name}", data=body) as response:
            return response.status, await response.json()

    status, document = play(exchange(), scenario)
    assert status == 400
    assert document["error"]


def test_an_outage_kills_connections_and_the_control_endpoint_stays() -> None:
    async def scenario(session: aiohttp.ClientSession, url: str) -> Any:
        await control(session, url, "outage", {"seconds": 0.2})
        with pytest.raises(DROPPED):
            await call(session, url, "GET", ACCOUNT)
        assert (await control(session, url, "rules"))[0] == 200
        await asyncio.sleep(0.2)
        return await call(session, url, "GET", ACCOUNT)

    assert play(exchange(), scenario)[0] == 200


def test_an_unplugged_exchange_refuses_connections_and_comes_back_on_the_same_port() -> None:
    async def scenario(session: aiohttp.ClientSession, url: str) -> Any:
        await control(session, url, "unplug", {"seconds": 0.2})
        async with aiohttp.ClientSession() as fresh:
            await asyncio.sleep(0.05)
            with pytest.raises(aiohttp.ClientConnectorError):
                await call(fresh, url, "GET", ACCOUNT)
            await asyncio.sleep(0.3)
            return await call(fresh, url, "GET", ACCOUNT)

    assert play(exchange(), scenario)[0] == 200


def test_stopping_while_unplugged_is_clean() -> None:
    async def scenario(session: aiohttp.ClientSession, url: str) -> Any:
        return await control(session, url, "unplug", {"seconds": 60})

    assert play(exchange(), scenario) == (200, {"seconds": 60.0})


def test_only_loopback_is_served() -> None:
    async def run() -> None:
        async with running_simulator(exchange(), host="0.0.0.0"):
            pass

    with pytest.raises(ValueError, match="loopback only"):
        asyncio.run(run())


def test_a_taken_port_is_an_error() -> None:
    async def run(port: int) -> None:
        async with running_simulator(exchange(), port=port):
            pass

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError):
            asyncio.run(run(taken.getsockname()[1]))


def test_three_at_once_are_one_too_many() -> None:
    world = exchange()

    async def scenario(session: aiohttp.ClientSession, url: str) -> list[Any]:
        calls = [call(session, url, "POST", SET, as_body(BTC)) for _ in range(3)]
        return [document["code"] for _, document in await asyncio.gather(*calls)]

    assert sorted(play(world, scenario)) == ["0", "0", "50011"]
    assert [one.kind for one in world.violations()] == ["rate"]
