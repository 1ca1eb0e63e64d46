"""Replies that are lost, late, broken or wrong: never reported as applied, then resolved in time."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.e2e.processes import LIVE, Desk, Exchange, configured, eventually, simulator

pytestmark = pytest.mark.e2e

APPLY = ("apply", "--yes", "--assume-idle", "--output", "json")

WITH_EFFECT = ("lost-after", "50004-applied", "wrong-echo", "truncated", "html-502-applied")
WITHOUT_EFFECT = ("lost-before", "50004-unapplied", "50026", "html-502", "truncated-unapplied")


def first_attempt(desk: Desk) -> dict[str, str]:
    """Return the oldest attempt on record."""
    attempts = desk.mmp("history", "--output", "json").document["attempts"]
    oldest: dict[str, str] = attempts[-1]
    return oldest


@pytest.mark.parametrize("fault", WITH_EFFECT)
def test_a_lost_success_is_read_back_and_not_sent_again(desk: Desk, exchange: Exchange, fault: str) -> None:
    exchange.control("fault", fault=fault)
    desk.wants({"BTC-USD": "5s/2s/100"})
    ended = desk.mmp(*APPLY)
    assert (ended.status, ended.outcomes) == (0, {"BTC-USD": "adopted"})
    assert ended.document["results"][0]["attempts"] == 1
    assert exchange.written() == ["BTC-USD"]
    assert ended.seconds < 9, "no window had to be waited out"
    assert first_attempt(desk)["outcome"] == "unknown", "the attempt itself was never told as applied"
    events = [line["event"] for line in ended.log]
    assert events.index("request unknown") < events.index("adopted")


@pytest.mark.slow
@pytest.mark.parametrize("fault", WITHOUT_EFFECT)
def test_what_had_no_effect_is_sent_again_in_the_next_free_slot(
    desk: Desk, exchange: Exchange, fault: str
) -> None:
    exchange.control("fault", fault=fault)
    desk.wants({"BTC-USD": "5s/2s/100"})
    ended = desk.mmp(*APPLY)
    assert (ended.status, ended.outcomes) == (0, {"BTC-USD": "applied"})
    assert ended.document["results"][0]["attempts"] == 2
    assert exchange.live() == {"BTC-USD": "5000/2000/100"}
    assert 9 < ended.seconds < 30, "the family's own back-off of 10 s, and the second slot of the window"
    assert first_attempt(desk)["outcome"] == "unknown"


@pytest.mark.slow
def test_a_slow_reply_is_waited_for(desk: Desk, exchange: Exchange) -> None:
    exchange.control("fault", fault="slow")
    desk.wants({"BTC-USD": "5s/2s/100"})
    ended = desk.mmp(*APPLY)
    assert (ended.status, exchange.written()) == (0, ["BTC-USD"])
    assert first_attempt(desk)["outcome"] == "applied"


@pytest.mark.slow
def test_an_unread_success_is_unknown_as_long_as_live_cannot_be_read(
    desk: Desk, exchange: Exchange
) -> None:
    """The reply is lost, and so is every read after it: no output may report the setting as applied."""
    desk.wants({"BTC-USD": "5s/2s/100"})
    assert desk.mmp(*APPLY).status == 0
    exchange.control("fault", fault="set/lost-after@1")
    desk.wants({"BTC-USD": "5s/2s/90"})
    running = desk.start(*APPLY, "--timeout", "4s")
    exchange.wait_for_requests(2)
    exchange.control("fault", fault="get/50001:50")
    ended = running.wait()
    assert (ended.status, ended.outcomes) == (1, {"BTC-USD": "unknown"})
    assert "not everything was settled in time" in ended.stderr
    status = desk.mmp("status", "--output", "json").document
    assert (status["in_sync"], status["families"][0]["state"]) == (False, "uncertain")
    assert "uncertain" in desk.mmp("plan", "--no-live").stdout, "also with the file as it was sent"
    exchange.control("fault", clear=True)
    after = desk.mmp(*APPLY)
    assert (after.status, after.outcomes) == (0, {"BTC-USD": "adopted"}), "a read shows it: no request"
    assert exchange.written() == ["BTC-USD"] * 2


def reverted_meanwhile(desk: Desk, exchange: Exchange) -> None:
    """Adopt A, kill an apply of B in flight so that its result is unknown, and restore the file to A."""
    exchange.change("BTC-USD", LIVE)
    desk.wants({"BTC-USD": "5s/2s/100"})
    assert desk.mmp(*APPLY).outcomes == {"BTC-USD": "adopted"}
    exchange.control("fault", fault="set/lost-after@5")
    desk.wants({"BTC-USD": "5s/2s/9999"})
    running = desk.start(*APPLY)
    exchange.wait_for_requests(1)
    running.kill()
    assert exchange.live()["BTC-USD"] == "5000/2000/9999"
    desk.wants({"BTC-USD": "5s/2s/100"})


@pytest.mark.slow
def test_a_file_reverted_meanwhile_is_sent_at_once_and_stays_unconfirmed(
    desk: Desk, exchange: Exchange
) -> None:
    reverted_meanwhile(desk, exchange)
    plan = desk.mmp("plan", "--no-live", "--output", "json").document
    assert plan["changes"][0]["reason"] == "uncertain", "A on record and A desired are not equal"
    ended = desk.mmp(*APPLY, "--timeout", "4s")
    assert exchange.live()["BTC-USD"] == "5000/2000/100"
    assert (ended.status, ended.outcomes) == (1, {"BTC-USD": "unknown"})
    assert "may still take effect: known in " in desk.mmp("plan").stdout


@pytest.mark.proof
def test_a_file_reverted_meanwhile_is_settled_once_the_lost_attempt_cannot_land(
    desk: Desk, exchange: Exchange
) -> None:
    reverted_meanwhile(desk, exchange)
    ended = desk.mmp(*APPLY)
    assert ended.status == 0
    assert 30 < ended.seconds < 50
    assert exchange.live()["BTC-USD"] == "5000/2000/100"
    assert exchange.written() == ["BTC-USD"] * 2


def test_a_rejected_family_is_reported_and_the_others_are_applied(desk: Desk, exchange: Exchange) -> None:
    exchange.control("fault", fault="54009")
    desk.wants({"BTC-USD": "5s/2s/100", "ETH-USD": "5s/2s/100"})
    ended = desk.mmp(*APPLY)
    assert ended.status == 6
    assert ended.outcomes == {"BTC-USD": "rejected", "ETH-USD": "applied"}
    assert ended.document["results"][0]["code"] == "54009"
    assert exchange.live() == {"ETH-USD": "5000/2000/100"}


def test_a_family_the_exchange_does_not_know_is_exit_1_when_there_is_no_other(
    desk: Desk, exchange: Exchange
) -> None:
    desk.wants({"NOPE-USD": "5s/2s/100"})
    ended = desk.mmp("apply", "--yes", "--assume-idle")
    assert ended.status == 1
    assert re.search(r"✗ rejected +NOPE-USD .*\[51001\]", ended.stdout)


@pytest.mark.slow
def test_a_rate_limit_of_the_exchange_is_waited_out(desk: Desk, exchange: Exchange) -> None:
    """A 50011 means that other clients share the budget: a full quiet window, then requests continue."""
    exchange.control("fault", fault="50011")
    desk.wants({"BTC-USD": "5s/2s/100"})
    ended = desk.mmp(*APPLY)
    assert (ended.status, ended.outcomes) == (0, {"BTC-USD": "applied"})
    first, second = exchange.arrivals()
    assert second["at"] - first["at"] > 10.0


@pytest.mark.slow
def test_a_read_that_lags_behind_does_not_cause_a_second_request(desk: Desk, exchange: Exchange) -> None:
    exchange.control("rules", read_delay_s=1.2)
    desk.wants({"BTC-USD": "5s/2s/100"})
    sidecar = desk.start("run", "--assume-idle", "--interval", "1s", "--log-level", "debug")
    sidecar.wait_for_log("request applied")
    reads = len(exchange.arrivals("get"))
    eventually(lambda: len(exchange.arrivals("get")) >= reads + 4, 15.0, "four more reads")
    assert exchange.written() == ["BTC-USD"]


@pytest.mark.slow
def test_questions_that_fail_are_asked_again(desk: Desk, exchange: Exchange) -> None:
    for fault in ("time/html-502", "account/lost-before", "get/html-502"):
        exchange.control("fault", fault=fault)
    desk.wants({"BTC-USD": "5s/2s/100"})
    ended = desk.mmp(*APPLY)
    assert (ended.status, exchange.written()) == (0, ["BTC-USD"])


@pytest.mark.parametrize(
    "form",
    ["lower-case", "blanks", "full-width", "unreadable", "twice", "json-numbers", "exponents", "nulls"],
)
def test_the_odd_row_of_another_family_stops_nothing(form: str, tmp_path_factory: Any) -> None:
    with simulator("--row", f"ETH-USD={form}", families=configured("ETH-USD")) as exchange:
        desk = Desk(tmp_path_factory.mktemp("rows") / "desk", exchange.variables)
        desk.wants({"BTC-USD": "5s/2s/100"})
        ended = desk.mmp(*APPLY)
        assert (ended.status, ended.outcomes) == (0, {"BTC-USD": "applied"})
        assert exchange.written() == ["BTC-USD"]
        desk.close()


@pytest.mark.parametrize(
    ("form", "names", "nameless"), [("lower-case", ["eth-usd"], 0), ("nameless", [], 1)]
)
@pytest.mark.parametrize("output", ["text", "json", "markdown"])
def test_a_plan_warns_once_of_rows_that_it_leaves_out(
    form: str, names: list[str], nameless: int, output: str, tmp_path_factory: Any
) -> None:
    with simulator("--row", f"ETH-USD={form}", families=configured("BTC-USD", "ETH-USD")) as exchange:
        desk = Desk(tmp_path_factory.mktemp("rows") / "desk", exchange.variables)
        desk.wants({"BTC-USD": "5s/2s/100"})
        ended = desk.mmp("plan", "--output", output, "--log-format", "json")
        (warning,) = [line for line in ended.log if "left out" in line["event"]]
        assert (ended.status, warning["level"], warning["account"]) == (0, "warning", "main")
        assert (warning["names"], warning["without_name"]) == (names, nameless)
        assert "left out" not in ended.stdout
        desk.close()


@pytest.mark.parametrize("form", ["json-numbers", "exponents", "nulls"])
def test_a_setting_is_the_same_however_its_numbers_are_written(form: str, tmp_path_factory: Any) -> None:
    with simulator("--row", f"BTC-USD={form}") as exchange:
        desk = Desk(tmp_path_factory.mktemp("numbers") / "desk", exchange.variables)
        desk.wants({"BTC-USD": "5s/2s/100.5"})
        assert desk.mmp(*APPLY).outcomes == {"BTC-USD": "applied"}
        assert first_attempt(desk)["outcome"] == "applied", "the echo was understood"
        assert desk.mmp("plan", "--detailed-exitcode").status == 0
        assert exchange.written() == ["BTC-USD"]
        desk.close()


def test_headers_that_a_gateway_adds_stop_nothing(desk: Desk, exchange: Exchange) -> None:
    for endpoint in ("time", "account", "get", "set"):
        exchange.control("fault", fault=f"{endpoint}/large-headers:always")
    desk.wants({"BTC-USD": "5s/2s/100"})
    ended = desk.mmp(*APPLY)
    assert (ended.status, first_attempt(desk)["outcome"]) == (0, "applied")


def test_headers_beyond_all_measure_are_named(desk: Desk, exchange: Exchange) -> None:
    exchange.control("fault", fault="set/endless-headers")
    desk.wants({"BTC-USD": "5s/2s/100"})
    assert desk.mmp(*APPLY).outcomes == {"BTC-USD": "adopted"}, "a read showed what the reply did not"
    attempt = first_attempt(desk)
    assert (attempt["outcome"], attempt["code"]) == ("unknown", "headers-too-large")


def test_a_wrapped_refusal_is_shown_with_both_codes(desk: Desk, exchange: Exchange) -> None:
    exchange.control("fault", fault="wrapped-54009")
    desk.wants({"BTC-USD": "5s/2s/100"})
    desk.mmp(*APPLY, "--timeout", "4s")
    attempt = first_attempt(desk)
    assert attempt["code"] == "54009"
    assert attempt["message"] == "code 1 with sCode 54009: All operations failed; Refused by script"


def test_a_family_that_may_not_be_traded_here_does_not_stop_the_others(
    desk: Desk, exchange: Exchange
) -> None:
    exchange.control("fault", fault="BTC-USD/51155:always")
    desk.wants({"BTC-USD": "5s/2s/100", "ETH-USD": "5s/2s/100"})
    ended = desk.mmp(*APPLY)
    assert (ended.status, ended.outcomes) == (6, {"BTC-USD": "rejected", "ETH-USD": "applied"})


@pytest.mark.parametrize("flags", [("--decimals",), ("--missing-when-disabled",), ("--list-unconfigured",)])
def test_however_the_exchange_writes_it_the_second_apply_is_empty(
    flags: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> None:
    with simulator(*flags, families=configured("ETH-USD")) as exchange:
        desk = Desk(tmp_path_factory.mktemp("forms") / "desk", exchange.variables)
        desk.wants({"BTC-USD": "5s/2s/100.50", "SOL-USD_UM": "disabled/2s/10"})
        assert desk.mmp(*APPLY).status == 0
        again = desk.mmp("plan", "--detailed-exitcode")
        assert again.status == 0, again.stdout
        assert sorted(exchange.written()) == ["BTC-USD", "SOL-USD_UM"]
        desk.close()
