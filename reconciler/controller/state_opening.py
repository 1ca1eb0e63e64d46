"""Opens the state of a ``run``: a state that cannot be reached is tried again with back-off."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from itertools import count

from reconciler import factories
from reconciler.controller.run_options import RunOptions
from reconciler.core.events import StateFailed
from reconciler.core.monitoring.state_timeline import max_gap_s
from reconciler.core.retry import back_off_s
from reconciler.errors import StateAccessDenied, StateUnavailable
from reconciler.ports import Clock, StateBackend


async def open_when_available(
    options: RunOptions, clock: Clock, stack: AsyncExitStack, report: Callable[[StateFailed], None]
) -> StateBackend:
    """Return the state, closed with ``stack``; ``report`` gets every failure that is tried again.

    Raises StateAccessDenied and StateUnusable at once: a person has to repair what is wrong.
    """
    for failures in count():
        opening = factories.open_state(
            options.state, clock, options.lock_timeout_s, max_gap_s=max_gap_s(options.interval_s)
        )
        try:
            return await stack.enter_async_context(opening)
        except StateAccessDenied:
            raise
        except StateUnavailable as problem:
            retry_at = clock.now() + back_off_s(failures)
            report(StateFailed(problem.code, problem.message, retry_at))
            await clock.sleep_until(retry_at)
    raise AssertionError("count() never ends")
