"""Whatever happens to a running account: page, status, metrics and /readyz say one thing, and no lie.

The loop and the store are the real ones, in virtual time; a row says what happens and what is true then.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NoReturn

import pytest
from prometheus_client.parser import text_string_to_metric_families

from reconciler.core.drift_resolution import DriftPolicy
from reconciler.core.events import ConfigAccepted, ConfigRejected, Event, LoopFailed, PolicyRejected
from reconciler.core.model import Field, LiveRow
from reconciler.core.monitoring.account_runtime import apply_event, initial
from reconciler.core.monitoring.protection import Protection
from reconciler.core.monitoring.unloaded_files import with_event
from reconciler.core.policy import Bound, Policy, PolicyInForce
from reconciler.core.problems import Code, problem
from reconciler.errors import StateUnavailable
from reconciler.web.latest_state import AccountSnapshot, LatestState
from reconciler.web.metrics import Metrics
from reconciler.web.page import labels
from reconciler.web.page.view_model import page_view
from reconciler.web.probes import live_checks, ready_checks
from reconciler.web.status_api import status_response
from tests.unit.builders import BTC, desired, setting
from tests.unit.test_loop import BAD_KEY, DOWN, A, B, Clock, World

pytestmark = pytest.mark.unmeasured

HAPPENS_AT = 1100.0
HOUR_S = 3600.0
ENDLESS = setting("5000/0/100")
AT_MOST, AT_LEAST = Bound(maximum=Decimal(120)), Bound(minimum=Decimal(50))


@dataclass
class Walls(Clock):
    """A clock whose time of day can be set."""

    ahead_s: float = 0.0

    def wall(self) -> datetime:
        return super().wall() + timedelta(seconds=self.ahead_s)


@dataclass
class Scene:
    """A world with somebody who looks at it."""

    here: World
    live: bool = True
    shared_state: LatestState = field(init=False)
    policy: PolicyInForce = field(default_factory=PolicyInForce)

    def __post_init__(self) -> None:
        here, clock = self.here, self.here.clock
        self.shared_state = LatestState("1.2.3", clock.wall())
        self._runtime = initial(
            here.desired, host="openapi.okx.com", simulator=False, live=self.live, now=clock.now()
        )
        self.on_event(ConfigAccepted("mmp.yaml", here.desired.sha256))
        here.listeners.append(self.on_event)

    def on_event(self, event: Event) -> None:
        """Take an event of the account."""
        now, wall = self.here.clock.now(), self.here.clock.wall()
        self._runtime = apply_event(self._runtime, event, now=now, wall=wall)
        self.shared_state.put("main/live", AccountSnapshot(self._runtime, self.here.interval_s))

    def on_process_event(self, event: Event) -> None:
        """Take an event of no account."""
        self.shared_state.unloaded = with_event(
            self.shared_state.unloaded, event, wall=self.here.clock.wall()
        )

    def want(self, sha256: str, quantity: str) -> None:
        """Replace the file, as the watcher does."""
        self.here.desired = replace(desired({BTC: setting(f"5000/2000/{quantity}")}), sha256=sha256)
        self.on_event(ConfigAccepted("mmp.yaml", sha256))
        self.here.clock.wake()


Happens = Callable[[Scene], object]
"""What happens at HAPPENS_AT."""


def nothing(_: Scene) -> None:
    pass


def state_is_lost(scene: Scene) -> None:
    async def recorded_inputs() -> NoReturn:
        raise StateUnavailable("state-unavailable", "the connection was lost", "wait")

    scene.here.store.recorded_inputs = recorded_inputs  # type: ignore[method-assign] # the state is away from now on


def is_locked(scene: Scene) -> None:
    async def hold() -> None:
        async with scene.here.process().locked("apply"):
            while not scene.here.stopped:
                await asyncio.sleep(0)

    scene.here.clock.script.append(
        (scene.here.clock.now(), lambda: asyncio.get_running_loop().create_task(hold()))
    )


def is_locked_and_changed(scene: Scene) -> None:
    is_locked(scene)
    scene.here.clock.at(HAPPENS_AT + 1, lambda: scene.want("1" * 64, "100"))


def key_is_refused(scene: Scene) -> None:
    scene.here.exchange.reading = scene.here.exchange.identity = BAD_KEY


def key_is_refused_to_a_write(scene: Scene) -> None:
    scene.here.exchange.writing = BAD_KEY
    scene.want("1" * 64, "7")


def key_is_refused_and_file_changed(scene: Scene) -> None:
    key_is_refused(scene)
    scene.here.clock.at(HAPPENS_AT + 40, lambda: scene.want("1" * 64, "100"))


def reads_fail(scene: Scene) -> None:
    scene.here.exchange.reading = DOWN


def drifts(text: str) -> Happens:
    return lambda scene: scene.here.exchange.live.update({BTC: LiveRow(setting(text))})


def freezes(scene: Scene) -> None:
    scene.here.exchange.live[BTC] = LiveRow(ENDLESS, frozen=True)


def file_is(code: Code) -> Happens:
    wrong = (problem(code, "mmp.yaml", "it does not hold"),)
    return lambda scene: scene.on_event(ConfigRejected("mmp.yaml", wrong))


def another_file(scene: Scene) -> None:
    wrong = (problem(Code.DUPLICATE_ACCOUNT, "b.yaml", "mmp.yaml is for the same account"),)
    scene.on_process_event(ConfigRejected("b.yaml", wrong, in_force=False))


def clock_goes(seconds: float, then: Happens = nothing) -> Happens:
    def step(scene: Scene) -> None:
        then(scene)
        scene.here.clock.ahead_s += seconds  # type: ignore[attr-defined] # of Walls

    return step


def policy_wants(bound: Bound, quantity: str) -> Happens:
    def change(scene: Scene) -> None:
        policy = Policy("mmp-policy.yaml", "1" * 64, default={Field.QTY_LIMIT: bound})
        scene.policy = PolicyInForce(policy)
        scene.want("1" * 64, quantity)

    return change


def is_paused(scene: Scene) -> None:
    async def pause() -> None:
        await scene.here.store.pause([BTC], until=None, reason="by hand")

    scene.here.clock.script.append(
        (scene.here.clock.now(), lambda: asyncio.get_running_loop().create_task(pause()))
    )
    scene.here.exchange.live[BTC] = LiveRow(B)


def is_unanswered(scene: Scene) -> None:
    scene.here.exchange.writing = DOWN
    scene.here.exchange.reading = None
    scene.want("1" * 64, "7")


def has_no_key(scene: Scene) -> None:
    scene.here.stop()
    failed = LoopFailed("credentials-missing", "OKX_API_KEY is not set", "set it", HAPPENS_AT + 30)
    scene.here.clock.at(HAPPENS_AT + 1, lambda: scene.on_event(failed))


def hangs(scene: Scene) -> None:
    scene.here.stop()


def policy_never_held(scene: Scene) -> None:
    wrong = (problem(Code.UNKNOWN_KEY, "mmp-policy.yaml", "unknown key"),)
    scene.policy = PolicyInForce(unreadable=True)
    scene.on_event(PolicyRejected("mmp-policy.yaml", wrong, in_force=False))


def policy_never_held_and_file_changed(quantity: str) -> Happens:
    def happens(scene: Scene) -> None:
        policy_never_held(scene)
        scene.want("1" * 64, quantity)

    return happens


SITUATIONS: list[tuple[str, Happens, float, Protection, bool]] = [
    ("all is well", nothing, 5, Protection.PROTECTED, True),
    ("all is well for an hour", nothing, HOUR_S, Protection.PROTECTED, True),
    ("state lost a moment ago", state_is_lost, 60, Protection.PROTECTED, False),
    ("state lost an hour ago", state_is_lost, HOUR_S, Protection.UNKNOWN, False),
    ("state locked for an hour", is_locked, HOUR_S, Protection.UNKNOWN, True),
    ("file changed while locked", is_locked_and_changed, 20, Protection.UNKNOWN, True),
    ("key refused for an hour", key_is_refused, HOUR_S, Protection.UNKNOWN, True),
    ("key refused to a write", key_is_refused_to_a_write, 50, Protection.EXPOSED, True),
    (
        "file changed while the key is refused",
        key_is_refused_and_file_changed,
        45,
        Protection.UNKNOWN,
        True,
    ),
    ("reads fail for a minute", reads_fail, 60, Protection.PROTECTED, True),
    ("reads fail for an hour", reads_fail, HOUR_S, Protection.UNKNOWN, True),
    (
        "reads fail, then the clock goes back",
        clock_goes(-HOUR_S, reads_fail),
        600,
        Protection.UNKNOWN,
        True,
    ),
    ("the clock goes back", clock_goes(-HOUR_S), 5, Protection.PROTECTED, True),
    ("the clock goes ahead", clock_goes(HOUR_S), 5, Protection.PROTECTED, True),
    ("drifted looser, left alone", drifts("5000/2000/400"), 60, Protection.EXPOSED, True),
    ("drifted tighter, left alone", drifts("5000/2000/50"), 60, Protection.TIGHTER, True),
    ("drifted looser, then reads fail", drifts("5000/2000/400"), HOUR_S, Protection.EXPOSED, True),
    ("paused and drifted looser", is_paused, 60, Protection.EXPOSED, True),
    ("frozen until reset", freezes, 60, Protection.FROZEN, True),
    ("file emptied", file_is(Code.EMPTY_FILE), 60, Protection.PROTECTED, True),
    ("file removed", file_is(Code.FILE_MISSING), 60, Protection.PROTECTED, True),
    ("two files with one account", another_file, 60, Protection.PROTECTED, False),
    ("policy holds a looser value", policy_wants(AT_MOST, "400"), 60, Protection.TIGHTER, True),
    ("policy holds a tighter value", policy_wants(AT_LEAST, "7"), 60, Protection.EXPOSED, True),
    ("a request is not answered", is_unanswered, 15, Protection.UNKNOWN, True),
    ("no key", has_no_key, 20, Protection.PROTECTED, False),
    ("no key for an hour", has_no_key, HOUR_S, Protection.UNKNOWN, False),
    ("policy that never held", policy_never_held, 5, Protection.PROTECTED, False),
    (
        "policy that was never valid, looser file",
        policy_never_held_and_file_changed("400"),
        60,
        Protection.TIGHTER,
        False,
    ),
    (
        "policy that was never valid, tighter file",
        policy_never_held_and_file_changed("7"),
        60,
        Protection.PROTECTED,
        False,
    ),
    ("hangs", hangs, 300, Protection.UNKNOWN, False),
]


def scene(*, live: bool = True) -> Scene:
    """Return an account in sync, of which drift is only reported."""
    here = World(desired({BTC: A}), clock=Walls())
    here.options = replace(here.options, live=live, drift=DriftPolicy.WARN)
    here.exchange.live[BTC] = LiveRow(A)
    made = Scene(here, live)
    here.options = replace(here.options, policy=lambda: made.policy)
    return made


def played(made: Scene, happens: Happens, later_s: float) -> Scene:
    """Let it happen to an account that began 100 s before, and stop the world ``later_s`` after."""
    clock = made.here.clock
    clock.at(HAPPENS_AT, lambda: happens(made))
    made.here.run(HAPPENS_AT + later_s - clock.now())
    clock.pass_by(max(0.0, HAPPENS_AT + later_s - clock.now()))
    return made


@dataclass(frozen=True)
class ReportedProtection:
    """How the account stands by each who says so."""

    page: str
    status: str
    metric: str
    ready: bool
    alive: bool


def reported_protection(made: Scene) -> ReportedProtection:
    now, wall, shared_state = made.here.clock.now(), made.here.clock.wall(), made.shared_state
    (account,) = page_view(shared_state, now=now, wall=wall).accounts
    signs = {sign: standing for standing, sign in labels.PROTECTIONS.items()}
    document = json.loads(status_response(shared_state, now=now, wall=wall).body)
    (document,) = document.get("statuses", [document])
    assert not (document["in_sync"] and document["watch"]["protection"] == "unknown")
    return ReportedProtection(
        page=signs[account.headline.sign].value,
        status=document["watch"]["protection"],
        metric=metric(Metrics(shared_state, now=lambda: now, wall=lambda: wall)),
        ready=all(check.passed for check in ready_checks(shared_state, answers=True, now=now)),
        alive=all(check.passed for check in live_checks(shared_state, answers=True, now=now)),
    )


def metric(made: Metrics) -> str:
    """Return the one standing whose sample is 1."""
    (found,) = (
        sample.labels["protection"]
        for family in text_string_to_metric_families(made.answer().body.decode())
        for sample in family.samples
        if sample.name == "mmp_protection" and sample.value == 1
    )
    return found


@pytest.mark.parametrize(
    ("happens", "later_s", "standing", "ready"),
    [row[1:] for row in SITUATIONS],
    ids=[row[0] for row in SITUATIONS],
)
def test_all_say_the_same_and_what_is_true(
    happens: Happens, later_s: float, standing: Protection, ready: bool
) -> None:
    made = played(scene(), happens, later_s)
    hanging = happens is hangs or (happens is has_no_key and later_s == HOUR_S)
    assert reported_protection(made) == ReportedProtection(
        standing.value, standing.value, standing.value, ready, alive=not hanging
    )


@pytest.mark.slow
@pytest.mark.parametrize("happens", [state_is_lost, is_locked])
def test_without_live_reads_a_record_of_an_hour_ago_proves_nothing(happens: Happens) -> None:
    made = scene(live=False)
    asyncio.run(_apply(made))
    assert reported_protection(played(made, happens, 5)).page == "protected"
    made = scene(live=False)
    asyncio.run(_apply(made))
    assert reported_protection(played(made, happens, HOUR_S)).page == "unknown"


async def _apply(made: Scene) -> None:
    """Put on record that the setting was applied."""
    store = made.here.store
    await store.identify("446556540", "openapi.okx.com")
    async with store.locked("test"):
        await store.adopt({BTC: A}, read_begun_at=made.here.clock.now())
