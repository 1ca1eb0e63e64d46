"""What is measured, and in which order workers run the tests.

Measuring makes Python code take two to three times as long. An enumeration that runs the same lines a
thousand times shows nothing new to the coverage, so it is marked ``unmeasured``, and smaller tests must
reach every branch of ``core`` and ``store`` without it: ``make test`` fails otherwise. ``make test`` leaves
out the tests marked ``slow`` and reaches every branch, so those are not measured where they run.

End-to-end tests mostly wait. Side by side with tests that compute they cost next to nothing; one after
the other at one end of the run they would leave the cores idle.
"""

from __future__ import annotations

import gc
import signal
from collections.abc import Generator, Iterator
from operator import itemgetter

import coverage
import pytest

# A pipeline may run in the background or under nohup: the program leaves ignored what its caller ignores,
# and so would every process that a test starts.
for number, action in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, action)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect no garbage while tests are collected: what they are made of stays to the end.

    Otherwise the collector visits thousands of tests again and again, then and later.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Spread what waits evenly among what computes, for workers; alone, tests keep their order."""
    if not hasattr(config, "workerinput"):
        return
    waiting = [item for item in items if item.get_closest_marker("e2e")]
    computing = [item for item in items if not item.get_closest_marker("e2e")]
    placed = [
        (place / len(group), item) for group in (waiting, computing) for place, item in enumerate(group)
    ]
    items[:] = [item for _, item in sorted(placed, key=itemgetter(0))]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Stop measuring for the time of an unmeasured or slow test; without coverage nothing happens."""
    if not any(item.get_closest_marker(mark) for mark in ("unmeasured", "slow")):
        return (yield)
    stopped = list(_stop_measuring())
    try:
        return (yield)
    finally:
        for measured in reversed(stopped):
            measured.start()


def _stop_measuring() -> Iterator[coverage.Coverage]:
    """Stop whatever measures: in a worker the plugin starts two, and one that stops resumes the other."""
    while (measured := coverage.Coverage.current()) is not None:
        measured.stop()
        yield measured
