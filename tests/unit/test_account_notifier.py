"""What people are told while the real loop runs through drift, freezes, refusals and outages.

Time is virtual; the loop and store are the real ones, the exchange is a small one that behaves.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest
from jsonschema.validators import Draft202012Validator

from reconciler.core.drift_resolution import DriftPolicy
from reconciler.core.events import Event, LeaseTaken, LoopIdle, PolicyAccepted, PolicyRejected
from reconciler.core.model import LiveRow
from reconciler.core.monitoring.account_runtime import AccountRuntime, apply_event, initial
from reconciler.core.problems import Code, problem
from reconciler.core.reply import Reply, ReplyClass
from reconciler.notify.observer import AccountNotifier, PolicyDeduper, WebhookObserver
from reconciler.notify.webhook_address import parse_target
from reconciler.notify.webhook_sender import WebhookSender
from reconciler.observer_port import RunningAccount
from reconciler.okx.hints import hint_for
from reconciler.schema_files import load_schema
from tests.contract.stores import ScriptedClock
from tests.support.webhook import Reply as HookReply
from tests.support.webhook import webhook
from tests.unit.builders import BTC, ETH, NOW, desired, setting
from tests.unit.runtime_world import fresh, wall_at
from tests.unit.test_loop import BAD_KEY, DOWN, INFO, A, B, World, world

pytestmark = pytest.mark.unmeasured

VALIDATOR = Draft202012Validator(load_schema("notification"))


class Listener:
    """Everything that was told, with the virtual time it was told at; ``post`` may take it instead."""

    def __init__(self, here: World, post: Callable[[Mapping[str, Any]], None] | None = None) -> None:
        self.message: list[tuple[float, Mapping[str, Any]]] = []
        self._clock = here.clock
        self._runtime = initial(
            here.desired, host="openapi.okx.com", simulator=False, live=True, now=self._clock.now()
        )
        self._notifier = AccountNotifier(
            post or self._take, hint_for, interval_s=here.interval_s, policies=PolicyDeduper()
        )
        here.listeners.append(self.on_event)

    def on_event(self, event: Event) -> None:
        now, wall = self._clock.now(), self._clock.wall()
        self._runtime = apply_event(self._runtime, event, now=now, wall=wall)
        self._notifier.on_event(event, self._runtime, now=now, wall=wall)

    def _take(self, document: Mapping[str, Any]) -> None:
        assert list(VALIDATOR.iter_errors(document)) == []
        self.message.append((self._clock.now(), document))

    def words(self) -> list[tuple[str, str, str | None]]:
        return [(one["kind"], one["status"], one["family"]) for _, one in self.message]

    def at(self, kind: str, turn: str) -> list[float]:
        return [at for at, one in self.message if (one["kind"], one["status"]) == (kind, turn)]


def started(**changes: Any) -> tuple[World, Listener]:
    """Return a world in sync, and who listens to it."""
    here = replace(world(), **changes) if changes else world()
    here.exchange.live[BTC] = LiveRow(A)
    return here, Listener(here)


PROTECTED = ("protected", "firing", None)


def test_an_account_that_stays_in_sync_is_reported_once() -> None:
    here, listener = started()
    here.run(3600.0)
    assert listener.words() == [PROTECTED]


@pytest.mark.parametrize(("before", "protected"), [("", 1), ("pod-2 (pid 8)", 0)])
def test_an_account_taken_over_from_another_is_no_news_until_something_is_wrong(
    before: str, protected: int
) -> None:
    here, listener = started()
    listener.on_event(LeaseTaken(before))
    here.clock.at(here.clock.now() + 100.0, lambda: here.exchange.live.update({BTC: LiveRow(B)}))
    here.run(300.0)
    drift = [("out-of-sync", "firing", BTC), ("out-of-sync", "resolved", BTC)]
    assert listener.words() == [PROTECTED] * protected + drift


def test_a_fresh_exchange_is_reported_when_the_last_family_is_confirmed() -> None:
    here = World(desired(dict.fromkeys((BTC, ETH), A)))
    listener = Listener(here)
    here.run(100.0)
    assert listener.words() == [PROTECTED]
    assert listener.message[0][0] >= here.exchange.sent[-1][0]


def test_a_changed_file_that_is_applied_in_time_is_nothing_to_tell() -> None:
    here, listener = started()
    for second in range(8):
        newer = {BTC: setting(f"5000/2000/{90 - second}")}
        here.clock.at(1100.0 + second, partial(here.want, newer))
    here.run(600.0)
    assert len(here.exchange.sent) >= 2
    assert listener.words() == [PROTECTED]


def test_drift_that_is_healed_is_reported_with_its_end() -> None:
    here, listener = started()
    here.clock.at(1050.0, lambda: here.exchange.live.update({BTC: LiveRow(B)}))
    here.run(200.0)
    drifted = ("out-of-sync", "firing", "BTC-USD")
    assert listener.words() == [PROTECTED, drifted, ("out-of-sync", "resolved", "BTC-USD")]
    message_at, first = listener.message[1]
    ((sent_at, _, _),) = here.exchange.sent
    assert message_at <= sent_at, "notified before it is restored, which may have to wait for a slot"
    assert (first["severity"], first["details"]["code"]) == ("critical", "drifted")
    assert first["details"]["protection"] == "exposed"
    assert listener.message[2][1]["details"]["protection"] == "protected"


def test_drift_that_is_only_reported_is_reported_once_however_long_it_lasts() -> None:
    here, listener = started()
    here.clock.at(1050.0, lambda: here.exchange.live.update({BTC: LiveRow(setting("5000/2000/50"))}))
    here.clock.at(5000.0, lambda: here.exchange.live.update({BTC: LiveRow(A)}))
    here.run(5000.0)
    (began,), (over,) = listener.at("out-of-sync", "firing"), listener.at("out-of-sync", "resolved")
    assert 1050.0 <= began <= 1081.0
    assert 5000.0 <= over <= 5031.0


def test_a_freeze_until_reset_is_reported_although_nothing_differs() -> None:
    here, listener = started()
    endless = setting("5000/0/100")
    here.desired = desired({BTC: endless})
    here.exchange.live[BTC] = LiveRow(endless)
    here.clock.at(1100.0, lambda: here.exchange.live.update({BTC: LiveRow(endless, frozen=True)}))
    here.clock.at(1500.0, lambda: here.exchange.live.update({BTC: LiveRow(endless)}))
    here.run(900.0)
    assert listener.words() == [
        PROTECTED,
        ("frozen", "firing", "BTC-USD"),
        ("frozen", "resolved", "BTC-USD"),
    ]


def test_a_rejected_value_is_reported_until_the_file_is_fixed() -> None:
    here, listener = started()
    refused = Reply(ReplyClass.WRONG_SETTINGS, "51000", "Parameter error")
    here.clock.at(1100.0, lambda: setattr(here.exchange, "writing", refused))
    here.clock.at(1101.0, lambda: here.want({BTC: B}))
    here.clock.at(1500.0, lambda: setattr(here.exchange, "writing", None))
    here.clock.at(1501.0, lambda: here.want({BTC: A}))
    here.run(900.0)
    rejected = [("rejected", "firing", "BTC-USD"), ("rejected", "resolved", "BTC-USD")]
    assert listener.words() == [PROTECTED, *rejected]


def test_a_short_outage_is_nothing_to_tell_and_a_long_one_is() -> None:
    here, listener = started()
    for begin, end in ((1100.0, 1140.0), (2000.0, 2300.0)):
        here.clock.at(begin, lambda: setattr(here.exchange, "reading", DOWN))
        here.clock.at(end, lambda: setattr(here.exchange, "reading", None))
    here.run(2000.0)
    assert listener.words() == [
        PROTECTED,
        ("unreachable", "firing", None),
        ("unreachable", "resolved", None),
    ]
    (began,), (over,) = listener.at("unreachable", "firing"), listener.at("unreachable", "resolved")
    assert 2060.0 <= began <= 2125.0
    assert 2300.0 <= over <= 2335.0


def cannot_read(here: World) -> None:
    here.exchange.reading = BAD_KEY


def cannot_write(here: World) -> None:
    here.exchange.writing = BAD_KEY
    here.want({BTC: B})


def may_not_trade(here: World) -> None:
    here.exchange.identity = replace(INFO, permissions=frozenset({"read_only"}))
    here.exchange.reading = BAD_KEY
    here.clock.at(1170.0, lambda: setattr(here.exchange, "reading", None))


def mended(here: World) -> None:
    here.exchange.reading = here.exchange.writing = None
    here.exchange.identity = INFO


@pytest.mark.parametrize("break_it", [cannot_read, cannot_write, may_not_trade])
def test_a_key_problem_is_reported_once_and_so_is_its_end(break_it: Callable[[World], None]) -> None:
    here, listener = started()
    here.clock.at(1100.0, lambda: break_it(here))
    here.clock.at(1500.0, lambda: mended(here))
    here.run(900.0)
    message = [words for words in listener.words() if words[0] == "key-problem"]
    assert message[0] == ("key-problem", "firing", None)
    assert message[-1] == ("key-problem", "resolved", None)
    assert 1500.0 <= listener.at("key-problem", "resolved")[-1] <= 1570.0
    assert len(message) <= 3, "another code is another notification; none is sent twice"


@pytest.mark.slow
def test_a_flapping_family_is_reported_within_bounds_and_counted() -> None:
    here, listener = started(options=replace(world(drift=DriftPolicy.WARN).options), interval_s=5.0)
    for number in range(90):
        shown = LiveRow(B if number % 2 == 0 else A)
        here.clock.at(1100.0 + 10 * number, partial(here.exchange.live.update, {BTC: shown}))
    for later_s, shown in ((900.0, LiveRow(B)), (950.0, LiveRow(A))):
        here.clock.at(2000.0 + later_s, partial(here.exchange.live.update, {BTC: shown}))
    here.run(2700.0)
    began, over = listener.at("out-of-sync", "firing"), listener.at("out-of-sync", "resolved")
    assert len(began) <= 5, "the last one has the count of those that were not sent"
    assert len(over) <= 5
    assert listener.words()[-1] == ("out-of-sync", "resolved", "BTC-USD")
    assert sum(one["count"] for _, one in listener.message if one["kind"] == "out-of-sync") >= 45


def test_a_webhook_that_hangs_makes_no_pass_late() -> None:
    """The very same history, told to nobody and told to a webhook that never answers."""

    def history(here: World) -> list[tuple[float, str]]:
        for number in range(30):
            drift = LiveRow(setting(f"5000/2000/{200 + number}"))
            here.clock.at(1050.0 + 40 * number, partial(here.exchange.live.update, {BTC: drift}))
        began = time.monotonic()
        here.run(1300.0)
        assert time.monotonic() - began < 10.0
        return here.exchange.asked

    alone = history(started()[0])
    with webhook(HookReply(hangs=True)) as hook:
        notifier = WebhookSender([parse_target(hook.url())], lambda *_: None)
        notifier.start()
        here = started()[0]
        Listener(here, notifier.post)
        assert history(here) == alone
        notifier.stop(0.1)
        assert len(hook.arrived) == 1


@pytest.mark.slow
def test_a_contested_family_is_reported_once_and_over_when_it_is() -> None:
    here, listener = started(interval_s=5.0)
    here.options = replace(here.options, drift=DriftPolicy.HEAL_LOOSENED, heal_breaker=True)
    for number in range(60):
        here.clock.at(1050.0 + 10 * number, partial(here.exchange.live.update, {BTC: LiveRow(B)}))
    here.clock.at(2000.0, lambda: here.want({BTC: setting("5000/2000/90")}))
    here.run(1200.0)
    assert [words for words in listener.words() if words[0] == "contested"] == [
        ("contested", "firing", "BTC-USD"),
        ("contested", "resolved", "BTC-USD"),
    ]
    (began,), (over,) = listener.at("contested", "firing"), listener.at("contested", "resolved")
    assert began < 1050.0 + 4 * 20.0
    assert 2000.0 < over < 2002.0
    assert len(listener.at("out-of-sync", "firing")) == 1, "the other heals are counted, not sent"


# ---- one policy over many accounts ---------------------------------------------------------------


POLICY, OTHER = "mmp-policy.yaml", "other-policy.yaml"
WRONG = PolicyRejected(POLICY, (problem(Code.FILE_MISSING, POLICY, "it is gone", ""),))
WORSE = replace(WRONG, problems=(problem(Code.UNKNOWN_KEY, POLICY, "it is odd", ""),))
HOLDS = PolicyAccepted(POLICY, "1" * 64)
BEGAN, OVER = ("firing", "policy-invalid"), ("resolved", "policy-invalid")


class Many:
    """Accounts under one policy, those at the end of another, and what is told of them."""

    def __init__(self, number: int = 30) -> None:
        self.message: list[tuple[str, str, str]] = []
        self._policies = PolicyDeduper()
        self._number = 0
        self._under: dict[str, list[tuple[AccountNotifier, AccountRuntime]]] = {POLICY: [], OTHER: []}
        for _ in range(number):
            self.one_more()
        self.one_more(path=OTHER)

    def one_more(self, *begins_with: Event, path: str = POLICY) -> None:
        """Take one more account, which hears what is wrong with its policy as it begins."""
        dispatcher = AccountNotifier(self._post, hint_for, interval_s=30.0, policies=self._policies)
        self._under[path].append((dispatcher, fresh(account=f"desk-{self._number}")))
        self._number += 1
        for event in begins_with:
            self._on_event(event, path, len(self._under[path]) - 1, NOW)

    def on_event(self, event: PolicyAccepted | PolicyRejected, *, at: float) -> None:
        """Take what happened to a policy as the program does: once for itself, then for each account."""
        self._policies.on_event(event)
        for place in range(len(self._under[event.path])):
            self._on_event(event, event.path, place, NOW + at)

    def leave(self) -> None:
        """Let another process keep every account."""
        self._under = {path: [] for path in self._under}

    def look(self, *, at: float) -> None:
        """Let every account look, as it does at the end of a pass."""
        for path, accounts in self._under.items():
            for place in range(len(accounts)):
                self._on_event(LoopIdle(NOW + at + 30), path, place, NOW + at)

    def _on_event(self, event: Event, path: str, place: int, now: float) -> None:
        dispatcher, runtime = self._under[path][place]
        runtime = apply_event(runtime, event, now=now, wall=wall_at(now))
        dispatcher.on_event(event, runtime, now=now, wall=wall_at(now))
        self._under[path][place] = dispatcher, runtime

    def _post(self, document: Mapping[str, Any]) -> None:
        assert list(VALIDATOR.iter_errors(document)) == []
        self.message.append((document["status"], document["kind"], document["account"]))

    def words(self) -> list[tuple[str, str]]:
        return [(turn, kind) for turn, kind, _ in self.message]


@pytest.mark.parametrize(
    ("happened", "message"),
    [
        ([(0, WRONG), (60, HOLDS)], [BEGAN, OVER]),
        ([(0, WRONG), (10, WORSE), (60, HOLDS)], [BEGAN, BEGAN, OVER]),
        ([(0, WRONG), (10, WRONG), (60, HOLDS)], [BEGAN, OVER]),
        ([(0, WRONG), (60, HOLDS), (600, WRONG), (660, HOLDS)], [BEGAN, OVER] * 2),
        ([(0, WRONG), (60, HOLDS), (70, WRONG), (80, HOLDS)], [BEGAN, OVER]),
        ([(0, WRONG), (10, WORSE), (20, WRONG)], [BEGAN, BEGAN, BEGAN]),
        ([(0, WRONG), (10, replace(WRONG, path=OTHER))], [BEGAN, BEGAN]),
    ],
)
def test_a_policy_over_many_accounts_is_reported_as_often_as_one_over_one(
    happened: list[tuple[float, PolicyAccepted | PolicyRejected]], message: list[tuple[str, str]]
) -> None:
    for number in (1, 30):
        here = Many(number)
        for at, event in happened:
            here.on_event(event, at=at)
            here.look(at=at + 1)
        here.look(at=2000)
        assert here.words() == message, number


def test_an_account_that_starts_under_a_reported_policy_does_not_report_it_again() -> None:
    here = Many()
    here.on_event(WRONG, at=0)
    here.one_more(WRONG)
    assert here.message == [(*BEGAN, "desk-0")]


def test_a_policy_fixed_while_no_account_is_under_it_is_reported_when_it_is_invalid_again() -> None:
    here = Many(1)
    here.on_event(WRONG, at=0)
    here.leave()
    here.on_event(HOLDS, at=60)
    here.one_more(WRONG)
    assert here.words() == [BEGAN, BEGAN]


def test_a_program_with_many_accounts_tells_once_what_is_wrong_with_their_policy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    message: list[tuple[str, str, str]] = []

    def post(_: WebhookSender, document: Mapping[str, Any]) -> None:
        message.append((document["status"], document["kind"], document["account"]))

    monkeypatch.setattr(WebhookSender, "post", post)
    observer = WebhookObserver(
        [parse_target("http://127.0.0.1:9/hook")],
        host="openapi.okx.com",
        simulator=False,
        interval_s=30.0,
        clock=ScriptedClock(),
        hint_for=hint_for,
    )
    observer.start()
    for event, names in ((WRONG, ("a", "b")), (HOLDS, ()), (WRONG, ("c", "d"))):
        observer.on_event(None, event, None)
        for name in names:
            runtime = fresh(account=name)
            account = cast(RunningAccount, SimpleNamespace(name=name))
            observer.account_acquired(account, runtime)
            observer.on_event(account, event, apply_event(runtime, event, now=NOW, wall=wall_at(NOW)))
    observer.stop()
    assert message == [(*BEGAN, "a"), (*BEGAN, "c")]
