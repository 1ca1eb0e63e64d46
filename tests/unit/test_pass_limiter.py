"""Turns: so many at once, first come first served, and nobody waits without end."""

from __future__ import annotations

import asyncio

from reconciler.controller.pass_limiter import PassLimiter


def test_so_many_are_at_it_at_once_and_who_came_first_goes_first() -> None:
    async def scenario() -> None:
        turns, begun, most, busy = PassLimiter(3), list[int](), 0, 0

        async def work(number: int) -> None:
            nonlocal most, busy
            async with turns.permit():
                begun.append(number)
                busy += 1
                most = max(most, busy)
                await asyncio.sleep(0.001)
                busy -= 1

        await asyncio.gather(*(work(number) for number in range(20)))
        assert (most, begun) == (3, list(range(20)))

    asyncio.run(scenario())


def test_no_pass_waits_longer_than_the_limit_and_no_permit_is_released_twice() -> None:
    async def scenario() -> None:
        turns, slow = PassLimiter(1, longest_wait_s=0.02), asyncio.Event()

        async def hang() -> None:
            async with turns.permit():
                await slow.wait()

        hanging = asyncio.create_task(hang())
        await asyncio.sleep(0)
        async with turns.permit():
            assert not hanging.done()
        slow.set()
        await hanging
        assert turns._free._value == 1

    asyncio.run(scenario())


def test_who_gives_up_waiting_or_fails_takes_no_turn_along() -> None:
    async def scenario() -> None:
        turns, slow = PassLimiter(1), asyncio.Event()

        async def hang() -> None:
            async with turns.permit():
                await slow.wait()
                raise ValueError

        first, second = asyncio.create_task(hang()), asyncio.create_task(hang())
        await asyncio.sleep(0)
        second.cancel()
        slow.set()
        found = await asyncio.gather(first, second, return_exceptions=True)
        assert [type(one) for one in found] == [ValueError, asyncio.CancelledError]
        async with asyncio.timeout(1.0), turns.permit():
            pass

    asyncio.run(scenario())
