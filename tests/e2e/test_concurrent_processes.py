"""Several processes on one state: one budget, one writer at a time, nothing sent twice."""

from __future__ import annotations

import time

import pytest

from tests.e2e.processes import Desk, Exchange, gaps

pytestmark = pytest.mark.e2e

APPLY = ("apply", "--yes", "--assume-idle")
JSON = ("--output", "json")
THREE = {"BTC-USD": "5s/2s/100", "ETH-USD": "1s/until-reset/500", "SOL-USD_UM": "5s/2s/10"}
FIVE = {**THREE, "BTC-USD_UM": "5s/2s/20", "XAU-USD_UM": "5s/2s/30"}


@pytest.mark.slow
def test_two_applies_at_once_send_every_family_once(desk: Desk, exchange: Exchange) -> None:
    desk.wants(THREE)
    both = [desk.start(*APPLY, "--output", "json") for _ in range(2)]
    ended = [one.wait() for one in both]
    assert [one.status for one in ended] == [0, 0]
    assert sorted(exchange.written()) == sorted(THREE)
    assert min(gaps(exchange.arrivals())) > 10.0
    message = [list(one.outcomes.values()) for one in ended]
    assert sorted(message, key=len) == [[], ["applied"] * 3], "one did it all, the other found it done"


@pytest.mark.slow
def test_a_start_within_ten_seconds_of_another_keeps_the_pace(desk: Desk, exchange: Exchange) -> None:
    desk.wants({"BTC-USD": "5s/2s/100", "ETH-USD": "5s/2s/100"})
    assert desk.mmp(*APPLY).status == 0
    desk.wants({"BTC-USD": "5s/2s/90", "ETH-USD": "5s/2s/100"})
    assert desk.mmp(*APPLY).status == 0
    assert exchange.written() == ["BTC-USD", "ETH-USD", "BTC-USD"]
    assert min(gaps(exchange.arrivals())) > 10.0


@pytest.mark.slow
def test_a_lock_not_had_in_time_is_exit_7_and_names_who_has_it(desk: Desk, exchange: Exchange) -> None:
    desk.wants(FIVE)
    holder = desk.start(*APPLY)
    exchange.wait_for_requests(2)  # the fifth is 20 s after the first, so the lock is taken until then
    began = time.monotonic()
    both = [desk.start(*APPLY, "--lock-timeout", "1s"), desk.start(*APPLY, "--lock-timeout", "0s", *JSON)]
    late, as_json = (one.wait() for one in both)
    assert time.monotonic() - began < 15, "they do not wait for the other process to end"
    assert (late.status, late.error_code) == (7, "state-locked")
    assert f"pid {holder.pid} " in late.stderr
    assert "(apply, since " in late.stderr
    assert as_json.status == 7
    assert as_json.document["problems"][0]["code"] == "state-locked"
    readers = [desk.mmp(name).status for name in ("status", "history", "plan")]
    assert readers == [0, 0, 0], "who only reads never waits for the lock"
    assert holder.wait().status == 0
    assert sorted(exchange.written()) == sorted(FIVE)


@pytest.mark.slow
def test_an_idle_run_lets_a_pipeline_in(desk: Desk, exchange: Exchange) -> None:
    desk.wants({"BTC-USD": "5s/2s/100"})
    sidecar = desk.start("run", "--assume-idle", "--interval", "20s")
    sidecar.wait_for_log("request applied")
    ended = desk.mmp("apply", "--yes", "--lock-timeout", "2s")
    assert ended.status == 0
    assert exchange.written() == ["BTC-USD"]


@pytest.mark.slow
def test_accounts_of_one_user_id_share_its_budget(desk: Desk, exchange: Exchange) -> None:
    folder = desk.folder / "accounts"
    folder.mkdir()
    desk.wants({"BTC-USD": "5s/2s/100", "ETH-USD": "5s/2s/100"}, name="accounts/a.yaml", account="first")
    desk.wants({"SOL-USD_UM": "5s/2s/100"}, name="accounts/b.yml", account="second")
    ended = desk.mmp(*APPLY, "-c", "accounts", "--output", "json")
    assert ended.status == 0, ended.stderr
    assert ended.document["format"] == "mmp/applies/1"
    assert [one["account"] for one in ended.document["applies"]] == ["first", "second"]
    assert sorted(exchange.written()) == ["BTC-USD", "ETH-USD", "SOL-USD_UM"]
    assert min(gaps(exchange.arrivals())) > 10.0
    plans = desk.mmp("plan", "-c", "accounts", "--output", "json", "--detailed-exitcode")
    assert plans.status == 0
    assert plans.document["format"] == "mmp/plans/1"
    statuses = desk.mmp("status", "-c", "accounts", "--output", "json").document
    assert [one["in_sync"] for one in statuses["statuses"]] == [True, True]
    assert desk.mmp(*APPLY, "-c", "accounts", "--expect", "sha256:0").status == 64
