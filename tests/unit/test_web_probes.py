"""What each probe is made of: enumerated over what can be wrong, and how it is told."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import product

import pytest

from reconciler.core.events import ControlledElsewhere, ExchangeFailed, LoopFailed, StateLockTimedOut
from reconciler.core.history_records import LockHolder
from reconciler.core.monitoring.account_runtime import SILENCE_S, AccountRuntime, NewerRejected
from reconciler.core.monitoring.unloaded_files import UnloadedFiles
from reconciler.core.reply import Reply, ReplyClass
from reconciler.web.latest_state import LatestState
from reconciler.web.metrics import Metrics
from reconciler.web.probes import live_checks, probe_response, ready_checks, startup_checks
from reconciler.web.responses import Query, Response, text_response
from reconciler.web.routes import (
    ANSWER_COUNTS_S,
    CHEAP_S,
    MAX_REUSE_S,
    PING_TIMEOUT_S,
    RENDER_SHARE,
    REUSE_S,
    Endpoints,
    LoopPing,
    Rendered,
    Renderer,
)
from tests.unit.builders import NOW
from tests.unit.runtime_world import WALL, fresh, having, shared_state

ALIVE = fresh()
SILENT = replace(fresh(account="other"), last_step_at=NOW - SILENCE_S - 7, next_step_by=0.0)
STARTED = replace(fresh(), started=True)
REJECTED = replace(ALIVE, config=NewerRejected("mmp.yaml", None, WALL, ()))
IN_FAILURE = having(
    ALIVE,
    StateLockTimedOut("pid 9"),
    ExchangeFailed("connecting", Reply(ReplyClass.ACCOUNT, "50119"), None),
)
"""A key that is refused and a state somebody else holds: nothing a restart would mend."""


def passes(checks: object) -> bool:
    return all(check.passed for check in checks)  # type: ignore[attr-defined] # a tuple of checks


@pytest.mark.parametrize(
    ("accounts", "answers", "awaited"),
    list(
        product(
            [(), (ALIVE,), (SILENT,), (ALIVE, SILENT), (REJECTED,), (IN_FAILURE,), (STARTED,)],
            [True, False],
            [(), ("mmp.yaml",)],
        )
    ),
)
def test_livez_and_readyz_check_what_they_document(
    accounts: tuple[AccountRuntime, ...], answers: bool, awaited: tuple[str, ...]
) -> None:
    made = shared_state(*accounts, awaited=awaited)
    live = answers and SILENT not in accounts
    assert passes(live_checks(made, answers=answers, now=NOW)) == live
    ready = live and bool(accounts) and not awaited
    assert passes(ready_checks(made, answers=answers, now=NOW)) == ready


@pytest.mark.parametrize(
    ("accounts", "awaited", "expected"),
    [
        ((), (), False),
        ((), ("mmp.yaml",), False),
        ((ALIVE,), (), False),
        ((STARTED,), (), True),
        ((STARTED,), ("desk-2.yaml",), False),
        ((STARTED, fresh(account="other")), (), False),
        ((STARTED, replace(fresh(account="other"), started=True)), (), True),
    ],
)
def test_started_is_every_account(
    accounts: tuple[AccountRuntime, ...], awaited: tuple[str, ...], expected: bool
) -> None:
    assert passes(startup_checks(shared_state(*accounts, awaited=awaited), now=NOW)) == expected


def test_a_failed_probe_has_one_line_for_each_reason() -> None:
    checks = ready_checks(shared_state(REJECTED, SILENT, awaited=("a\nb.yaml",)), answers=False, now=NOW)
    text = probe_response(checks, verbose=False)
    assert (text.status, text.body.decode()) == (
        503,
        "settings: waiting for a\\nb.yaml\n"
        "event-loop: the program's event loop does not answer\n"
        "loop-other-live: no progress for 97 s\n",
    )
    verbose = probe_response(checks, verbose=True)
    assert (verbose.status, verbose.body.decode()) == (
        503,
        "[-]settings failed: waiting for a\\nb.yaml\n"
        "[+]settings-main-live ok: a newer file is invalid, the last valid version stays in use\n"
        "[+]settings-other-live ok\n"
        "[+]state ok\n"
        "[-]event-loop failed: the program's event loop does not answer\n"
        "[+]loop-main-live ok\n"
        "[-]loop-other-live failed: no progress for 97 s\n"
        "check failed\n",
    )


@pytest.mark.parametrize(("code", "check"), [("credentials-missing", "key"), ("state-damaged", "state")])
def test_an_account_that_cannot_run_is_not_ready_and_has_the_reason(code: str, check: str) -> None:
    made = shared_state(ALIVE, having(fresh(account="other"), LoopFailed(code, "no", "mend it", NOW + 60)))
    text = probe_response(ready_checks(made, answers=True, now=NOW), verbose=False)
    assert (text.status, text.body.decode()) == (503, f"{check}-other-live: no; mend it\n")


def test_a_passed_probe_answers_ok() -> None:
    checks = live_checks(shared_state(ALIVE), answers=True, now=NOW)
    assert probe_response(checks, verbose=False).body == b"ok\n"
    assert (
        probe_response(checks, verbose=True).body
        == b"[+]event-loop ok\n[+]loop-main-live ok\ncheck passed\n"
    )
    assert probe_response(checks, verbose=False).status == 200


# ---- the pulse of a loop in another thread -------------------------------------------------------


async def ask(loop: asyncio.AbstractEventLoop) -> bool:
    return await LoopPing(loop).responds()


def with_other_loop(ask: Callable[[asyncio.AbstractEventLoop], bool]) -> bool:
    """Run ``ask`` beside an event loop in a thread of its own."""
    other = asyncio.new_event_loop()
    thread = threading.Thread(target=other.run_forever)
    thread.start()
    try:
        return ask(other)
    finally:
        other.call_soon_threadsafe(other.stop)
        thread.join()
        other.close()


def test_a_loop_that_turns_answers() -> None:
    assert with_other_loop(lambda other: asyncio.run(ask(other)))


def test_a_loop_that_hangs_does_not_reply_and_a_late_reply_does_no_harm() -> None:
    def hang_and_ask(other: asyncio.AbstractEventLoop) -> bool:
        other.call_soon_threadsafe(time.sleep, PING_TIMEOUT_S + 0.3)
        return asyncio.run(ask(other))

    began = time.monotonic()
    assert not with_other_loop(hang_and_ask)
    assert time.monotonic() - began < PING_TIMEOUT_S + 2.0


def test_a_loop_that_has_ended_does_not_answer() -> None:
    ended = asyncio.new_event_loop()
    ended.close()
    assert not asyncio.run(ask(ended))


def test_askers_at_once_share_one_question() -> None:
    questions = []

    class Counting:
        def call_soon_threadsafe(self, answer: Callable[[], None]) -> None:
            questions.append(answer)
            answer()

    async def ask_often() -> list[bool]:
        pulse = LoopPing(Counting())  # type: ignore[arg-type] # as much of a loop as is asked
        found = await asyncio.gather(*(pulse.responds() for _ in range(100)))
        return [*found, await pulse.responds()]

    assert asyncio.run(ask_often()) == [True] * 101
    assert len(questions) == 1, "it has just answered"


def test_a_loop_that_hangs_after_an_answer_is_soon_found_out() -> None:
    def ask_hang_and_ask(other: asyncio.AbstractEventLoop) -> bool:
        async def ask_again() -> bool:
            pulse = LoopPing(other)
            assert await pulse.responds()
            other.call_soon_threadsafe(time.sleep, ANSWER_COUNTS_S + PING_TIMEOUT_S + 0.5)
            await asyncio.sleep(ANSWER_COUNTS_S + 0.1)
            return await pulse.responds()

        return asyncio.run(ask_again())

    assert not with_other_loop(ask_hang_and_ask)


# ---- startup stays ---------------------------------------------------------------------------------


async def beats() -> bool:
    return True


def site(on: LatestState) -> Endpoints:
    metrics = Metrics(on, now=lambda: NOW, wall=lambda: WALL)
    return Endpoints(on, metrics, responds=beats, now=lambda: NOW, wall=lambda: WALL)


def statuses(served: Endpoints, path: str) -> int:
    async def status() -> int:
        return (await served.routes()[path](Query())).status

    return asyncio.run(status())


def test_once_started_it_stays_so_whatever_comes_after() -> None:
    made = shared_state(ALIVE)
    served = site(made)
    assert statuses(served, "/startupz") == 503
    made = shared_state(STARTED)
    served = site(made)
    assert statuses(served, "/startupz") == 200
    made.put("other/live", replace(made.accounts()[0], runtime=fresh(account="other")))
    made.unloaded = UnloadedFiles(missing=("more.yaml",))
    assert statuses(served, "/startupz") == 200


@pytest.mark.parametrize("path", ["/livez", "/healthz", "/readyz"])
def test_a_process_that_cannot_reach_the_exchange_is_live_and_ready(path: str) -> None:
    assert statuses(site(shared_state(IN_FAILURE)), path) == 200


def test_healthz_is_livez() -> None:
    routes = site(shared_state(ALIVE)).routes()
    assert routes["/healthz"] == routes["/livez"]


def test_a_slow_response_is_made_once_for_all_clients_and_delays_no_probe() -> None:
    begun, released = threading.Event(), threading.Event()
    made = []

    def make() -> Response:
        made.append(1)
        begun.set()
        assert released.wait(5.0)
        return text_response(200, f"{len(made)}")

    async def ask_all() -> list[bytes]:
        shown = shared_state(ALIVE)
        route = Renderer(shown, lambda: NOW).route(make)
        asking = [asyncio.ensure_future(route(Query())) for _ in range(20)]
        assert await asyncio.to_thread(begun.wait, 5.0)
        assert (await site(shared_state(ALIVE)).routes()["/livez"](Query())).status == 200
        released.set()
        answers = [*(await asyncio.gather(*asking)), await route(Query())]
        shown.error = "something has changed"
        return [one.body for one in [*answers, await route(Query())]]

    assert asyncio.run(ask_all()) == [b"1\n"] * 21 + [b"2\n"]


def test_answers_of_all_kinds_are_made_one_at_a_time() -> None:
    making, most = [], []

    def make() -> Response:
        making.append(1)
        most.append(len(making))
        time.sleep(0.02)
        making.pop()
        return text_response(200, "ok")

    async def ask_all() -> None:
        renderer = Renderer(shared_state(ALIVE), lambda: NOW)
        await asyncio.gather(*(renderer.route(make)(Query()) for _ in range(5)))

    asyncio.run(ask_all())
    assert most == [1] * 5


def test_making_an_answer_starts_no_garbage_collection_that_would_stop_the_loops() -> None:
    seen = []

    def make() -> Response:
        seen.append(gc.isenabled())
        raise RuntimeError("a bug")

    async def ask() -> None:
        await Renderer(shared_state(ALIVE), lambda: NOW).route(make)(Query())

    with pytest.raises(RuntimeError, match="a bug"):
        asyncio.run(ask())
    assert seen == [False]
    assert gc.isenabled()


def test_a_response_that_failed_is_made_again_for_the_next_request() -> None:
    failures = [RuntimeError("a bug")]

    def make() -> Response:
        if failures:
            raise failures.pop()
        return text_response(200, "ok")

    async def ask_twice() -> bytes:
        route = Renderer(shared_state(ALIVE), lambda: NOW).route(make)
        with pytest.raises(RuntimeError, match="a bug"):
            await route(Query())
        return (await route(Query())).body

    assert asyncio.run(ask_twice()) == b"ok\n"


OLD, NEW = object(), object()
PAUSE_S = 0.2 / RENDER_SHARE - 0.2
"""After an answer that cost 0.2 s of a core; made from 9.5 to 10 here."""


@pytest.mark.parametrize(
    ("cost_s", "value", "now", "reusable"),
    [
        (CHEAP_S, OLD, 9.5 + REUSE_S - 0.01, True),
        (CHEAP_S, OLD, 9.5 + REUSE_S, False),
        (CHEAP_S, NEW, 10.0, False),
        (0.2, OLD, 9.5 + REUSE_S, True),
        (0.2, NEW, 10.0 + PAUSE_S - 0.01, True),
        (0.2, NEW, 10.0 + PAUSE_S, False),
        (0.2, OLD, 10.0 + max(PAUSE_S, REUSE_S), False),
        (100.0, NEW, 10.0 + MAX_REUSE_S - 0.01, True),
        (100.0, NEW, 10.0 + MAX_REUSE_S, False),
    ],
)
def test_an_answer_is_shared_while_nothing_changed_and_while_making_it_again_would_cost_too_much(
    cost_s: float, value: object, now: float, reusable: bool
) -> None:
    made = Rendered(text_response(200, "ok"), (OLD,), began=9.5, ended=10.0, cost_s=cost_s)
    assert made.reusable((value,), now) == reusable


def test_a_standby_is_ready_and_reports_it() -> None:
    made = shared_state(having(fresh(), ControlledElsewhere(LockHolder(7, "desk-1", "run", "now"))))
    checks = ready_checks(made, answers=True, now=NOW)
    assert all(check.passed for check in checks)
    text = {check.name: check.message for check in checks}
    assert text["standby-main-live"] == "controlled by pid 7 on desk-1 (run, since now)"
