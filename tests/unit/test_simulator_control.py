"""The control endpoint as values: every command, and what it does not take."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.simulator.control import CONTROL_COMMANDS, ControlError, control
from reconciler.simulator.exchange import SimulatedExchange
from reconciler.simulator.http_messages import ReplyEnvelope
from tests.support.simulator import KEY, SETTING, T0, UID, exchange

WIRE = SETTING.wire()


def ask(world: SimulatedExchange, method: str, name: str, **payload: object) -> Any:
    return control(world, method, name, payload, T0)


def test_what_was_seen_can_be_read() -> None:
    world = exchange()
    world.set_mmp(KEY, "BTC-USD", SETTING, T0)
    assert ask(world, "GET", "settings") == {UID: {"BTC-USD": {**WIRE, "frozen": False}}}
    assert ask(world, "GET", "history") == [
        {"at": T0, "uid": UID, "family": "BTC-USD", "setting": WIRE, "cause": "set"}
    ]
    (arrival,) = ask(world, "GET", "arrivals")
    assert (arrival["uid"], arrival["endpoint"], arrival["at"], arrival["setting"]) == (
        UID,
        "set",
        T0,
        WIRE,
    )
    assert (arrival["verdict"], arrival["applied"], arrival["frozen"]) == ("0", True, False)
    assert ask(world, "GET", "violations") == []
    assert ask(world, "GET", "rules")["rate"] == "sliding"


def test_violations_can_be_read() -> None:
    world = exchange()
    for _ in range(3):
        world.set_mmp(KEY, "BTC-USD", SETTING, T0)
    (one,) = ask(world, "GET", "violations")
    assert (one["kind"], one["uid"], one["at"]) == ("rate", UID, T0)
    assert ask(world, "POST", "reset-counters") == {}
    assert ask(world, "GET", "violations") == ask(world, "GET", "arrivals") == []


def test_settings_change_behind_the_caller_s_back() -> None:
    world = exchange()
    ask(world, "POST", "settings", family="BTC-USD", **WIRE)
    assert world.settings(UID) == {"BTC-USD": SETTING}
    ask(world, "POST", "settings", family="BTC-USD", uid=UID, remove=True)
    assert world.settings(UID) == {}
    assert [one.cause for one in world.history()] == ["control", "control"]
    assert world.arrivals() == ()


def test_families_freeze_and_unfreeze() -> None:
    world = exchange()
    ask(world, "POST", "settings", family="BTC-USD", **WIRE)

    def frozen() -> object:
        return ask(world, "GET", "settings")[UID]["BTC-USD"]["frozen"]

    ask(world, "POST", "freeze", family="BTC-USD")
    assert frozen() == {"until": T0 + 2}
    ask(world, "POST", "freeze", family="BTC-USD", ms=0)
    assert frozen() == "until-reset"
    ask(world, "POST", "unfreeze", family="BTC-USD")
    assert frozen() is False


def test_faults_and_outages_are_scripted() -> None:
    world = exchange()
    assert ask(world, "POST", "fault", fault="get/50026:2")["get"] == 2
    assert ask(world, "POST", "fault", clear=True)["get"] == 0
    assert ask(world, "POST", "outage", seconds=5) == {"seconds": 5.0}
    world.get_mmp(KEY, T0 + 4.9)
    world.get_mmp(KEY, T0 + 5)
    assert [one.verdict for one in world.arrivals()] == ["silence", "0"]


def test_rows_are_written_oddly_until_they_are_plain_again() -> None:
    world = exchange()
    assert ask(world, "GET", "rows") == {}
    assert ask(world, "POST", "rows", family="BTC-USD", form="nameless") == {"BTC-USD": "nameless"}
    assert ask(world, "GET", "rows") == {"BTC-USD": "nameless"}
    assert ask(world, "POST", "rows", family="BTC-USD", form="plain") == {}


def test_rules_change() -> None:
    world = exchange()
    assert ask(world, "POST", "rules", rate="no-burst", limit_status="429")["rate"] == "no-burst"
    codes = [world.set_mmp(KEY, "BTC-USD", SETTING, T0 + one).reply for one in (0, 4)]
    assert [(one.code, one.status) for one in codes if isinstance(one, ReplyEnvelope)] == [
        ("0", 200),
        ("50011", 429),
    ]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"permissions": ["read_only"]}, "50120"),
        ({"level": "3"}, "51010"),
        ({"mmp_privilege": False}, "50030"),
        ({"ip": ["10.0.0.1"]}, "0"),
        ({"environment": "demo", "passphrase": "other"}, "0"),
    ],
)
def test_accounts_change(changes: dict[str, object], code: str) -> None:
    world = exchange()
    (row,) = ask(world, "POST", "accounts", **changes)
    reply = world.set_mmp(KEY, "BTC-USD", SETTING, T0).reply
    assert isinstance(reply, ReplyEnvelope)
    assert reply.code == code
    flat = {**row, **row["keys"][0]}
    assert all(flat[name] == value for name, value in changes.items() if name != "passphrase")
    assert "simulator-secret" not in repr(row)
    assert "other" not in repr(row)


@pytest.mark.parametrize(
    ("name", "payload", "why"),
    [
        ("nope", {}, "no such control command"),
        ("settings", {}, "family"),
        ("settings", {"family": "DOGE-USD", **WIRE}, "no such family"),
        ("settings", {"family": "BTC-USD", "timeInterval": "1"}, "frozenInterval"),
        ("settings", {"family": "BTC-USD", **WIRE, "qtyLimit": "0"}, "qtyLimit"),
        ("settings", {"family": "BTC-USD", **WIRE, "uid": "1"}, "no such uid"),
        ("settings", {"family": "BTC-USD", **WIRE, "qty": "1"}, "unknown: qty"),
        ("freeze", {"family": "BTC-USD", "ms": -1}, "whole number"),
        ("freeze", {"family": "BTC-USD", "ms": True}, "whole number"),
        ("freeze", {"family": ["BTC-USD"]}, "unhashable"),
        ("fault", {}, "fault"),
        ("fault", {"fault": "nope"}, "no such fault"),
        ("fault", {"fault": 1}, "expected string"),
        ("rows", {"family": "BTC-USD"}, "form"),
        ("rows", {"family": "BTC-USD", "form": "round"}, "form: one of plain"),
        ("rows", {"family": "DOGE-USD", "form": "plain"}, "no such family"),
        ("outage", {}, "seconds"),
        ("outage", {"seconds": -1}, "seconds"),
        ("outage", {"seconds": True}, "seconds"),
        ("outage", {"seconds": 1e9}, "seconds"),
        ("reset-counters", {"x": 1}, "unknown: x"),
        ("rules", {"rate": "leaky"}, "leaky"),
        ("accounts", {"permissions": "trade"}, "list"),
        ("accounts", {"permissions": ["fly"]}, "permissions"),
        ("accounts", {"level": 4}, "level"),
        ("accounts", {"passphrase": 1}, "passphrase"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_says_why(name: str, payload: dict[str, Any], why: str) -> None:
    world = exchange()
    with pytest.raises(ControlError, match=why):
        control(world, "POST", name, payload, T0)
    assert world.settings(UID) == {}


def test_every_reading_command_answers_on_an_empty_world() -> None:
    world = exchange()
    for method, name in CONTROL_COMMANDS:
        if method == "GET":
            control(world, method, name, {}, T0)
