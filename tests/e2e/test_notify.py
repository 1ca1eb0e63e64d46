"""``mmp run --notify``: every notification arrives once, and its address stays secret."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema.validators import Draft202012Validator

from reconciler.schema_files import load_schema
from tests.e2e.processes import Desk, Exchange, Running, configured, eventually, put_in_place, simulator
from tests.e2e.web_client import started
from tests.support.webhook import Reply, Webhook, webhook

pytestmark = pytest.mark.e2e

TOKEN = "s3cr3t-token"
VALIDATOR = Draft202012Validator(load_schema("notification"))
WANTED = {"BTC-USD": "5s/2s/100", "ETH-USD": "5s/until-reset/100"}


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    """An exchange where both families match WANTED."""
    families = configured("BTC-USD").replace("ETH-USD,", "ETH-USD=5000/0/100,")
    with simulator(families=families) as running:
        yield running


def begun(desk: Desk, hook: Webhook) -> Running:
    desk.wants(WANTED)
    sidecar = desk.start("run", "--assume-idle", "--interval", "1s", env={"MMP_NOTIFY": hook.url()})
    arrives(hook, "protected", "firing")
    return sidecar


def arrives(hook: Webhook, kind: str, turn: str) -> dict[str, Any]:
    """Return the notification of that kind and status, which has to arrive within 15 s."""

    def found() -> list[dict[str, Any]]:
        return [one for one in hook.documents() if (one["kind"], one["status"]) == (kind, turn)]

    return eventually(found, 15.0, f"{kind} {turn}")[0]


def ended(sidecar: Running) -> None:
    sidecar.signal(signal.SIGTERM)
    done = sidecar.wait()
    assert (done.status, done.stdout) == (0, "")
    assert TOKEN not in done.stderr
    notifying = next(line for line in done.log if line["event"] == "notifying")
    assert notifying["to"].startswith("http://127.0.0.1:")


def words(hook: Webhook) -> list[tuple[str, str, str | None]]:
    for one in hook.documents():
        assert list(VALIDATOR.iter_errors(one)) == []
        assert one["text"].startswith("SIMULATOR main (live): ")
        assert TOKEN not in str(one)
    return [(one["kind"], one["status"], one["family"]) for one in hook.documents()]


@pytest.mark.slow
def test_drift_and_a_freeze_arrive_once_each_with_their_end(desk: Desk, exchange: Exchange) -> None:
    with webhook() as hook:
        sidecar = begun(desk, hook)
        exchange.change("BTC-USD", "5000/2000/9999")
        drifted = arrives(hook, "out-of-sync", "firing")
        assert (drifted["details"]["code"], drifted["severity"]) == ("drifted", "critical")
        arrives(hook, "out-of-sync", "resolved")
        exchange.control("freeze", family="ETH-USD", ms=0)
        assert "mmp reset ETH-USD" in arrives(hook, "frozen", "firing")["details"]["hint"]
        exchange.control("unfreeze", family="ETH-USD")
        arrives(hook, "frozen", "resolved")
        ended(sidecar)
        assert words(hook) == [
            ("protected", "firing", None),
            ("out-of-sync", "firing", "BTC-USD"),
            ("out-of-sync", "resolved", "BTC-USD"),
            ("frozen", "firing", "ETH-USD"),
            ("frozen", "resolved", "ETH-USD"),
        ]


def test_a_rejected_file_and_policy_arrive_once_each_with_their_end(desk: Desk, exchange: Exchange) -> None:
    with webhook() as hook:
        sidecar = begun(desk, hook)
        good = desk.config.read_text()
        desk.config.write_text(good.replace("qtyLimit: 100", "qtyLimit: 1e3", 1))
        rejected = arrives(hook, "config-invalid", "firing")
        assert f"{desk.config.name}:" in rejected["text"]
        desk.config.write_text(good)
        arrives(hook, "config-invalid", "resolved")
        policy = desk.config.parent / "mmp-policy.yaml"
        policy.write_text("version: 2\n")
        arrives(hook, "policy-invalid", "firing")
        policy.write_text("version: 1\n")
        arrives(hook, "policy-invalid", "resolved")
        ended(sidecar)
        assert [(kind, turn) for kind, turn, _ in words(hook)[1:]] == [
            ("config-invalid", "firing"),
            ("config-invalid", "resolved"),
            ("policy-invalid", "firing"),
            ("policy-invalid", "resolved"),
        ]


@pytest.mark.slow
def test_a_contested_family_is_paused_and_reported_and_resumed_by_hand(
    desk: Desk, exchange: Exchange
) -> None:
    healed = "5000/2000/100"

    def loosen_and_see(heals: int) -> None:
        exchange.change("BTC-USD", "5000/2000/9999")
        exchange.wait_for_requests(heals)
        eventually(lambda: exchange.live()["BTC-USD"] == healed, 15.0, "it to be put back")

    with webhook() as hook:
        sidecar = begun(desk, hook)
        for heals in (1, 2, 3):
            loosen_and_see(heals)
        exchange.change("BTC-USD", "5000/2000/9999")
        contested_family = arrives(hook, "contested", "firing")
        assert "mmp resume --family BTC-USD" in contested_family["text"]
        assert sidecar.wait_for_log("another writer keeps changing")["heals"] == 3
        (pause,) = desk.mmp("status", "--output", "json").document["pauses"]
        assert (pause["family"], pause["by"]) == ("BTC-USD", "breaker")
        assert exchange.live()["BTC-USD"] == "5000/2000/9999"
        assert desk.mmp("resume", "--family", "BTC-USD").status == 0
        exchange.wait_for_requests(4)
        arrives(hook, "out-of-sync", "resolved")
        ended(sidecar)
        assert exchange.written() == ["BTC-USD"] * 4


@pytest.mark.slow
def test_a_webhook_that_hangs_delays_neither_a_heal_nor_the_end(desk: Desk, exchange: Exchange) -> None:
    with webhook(Reply(hangs=True)) as hook:
        sidecar = begun(desk, hook)
        exchange.change("BTC-USD", "5000/2000/9999")
        eventually(lambda: exchange.live()["BTC-USD"] == "5000/2000/100", 15.0, "drift to be put back")
        began = time.monotonic()
        ended(sidecar)
        assert time.monotonic() - began < 5.0


@pytest.mark.parametrize("by", ["flag", "variable"])
def test_an_address_that_will_not_do_is_a_usage_error_that_does_not_repeat_it(
    desk: Desk, exchange: Exchange, by: str
) -> None:
    desk.wants(WANTED)
    url = f"http://chat.example/{TOKEN}"
    done = desk.mmp(
        *("run", *(("--notify", url) if by == "flag" else ())),
        env={"MMP_NOTIFY": f"https://good.example/{TOKEN} {url}"} if by == "variable" else {},
    )
    assert done.status == 64
    assert "plain http is for a loopback address only" in done.stderr
    assert TOKEN not in done.stderr
    assert exchange.arrivals("account") == []


def test_a_file_name_that_is_not_text_is_escaped_in_every_report_and_stops_nothing(
    desk: Desk, exchange: Exchange
) -> None:
    name, message = os.fsdecode(b"accounts/main\xff.yaml"), "accounts/main\\udcff.yaml"
    (desk.folder / "accounts").mkdir()
    desk.wants(WANTED, name=name)
    with webhook() as hook:
        desk.environment["MMP_NOTIFY"] = hook.url()
        sidecar = started(desk, "-c", "accounts/", "--interval", "1s", "--log-format", "json")
        arrives(hook, "protected", "firing")
        put_in_place(desk.folder / name, "version: 1\nnonsense: 1\n")
        rejected = arrives(hook, "config-invalid", "firing")
        assert message in rejected["text"]
        assert message in rejected["details"]["reason"]
        assert sidecar.status()["config"]["path"] == message
        assert message in sidecar.ask("/")[1]
        assert sidecar.ask("/metrics")[0] == 200
        desk.wants({**WANTED, "BTC-USD": "5s/2s/300"}, name=name)
        assert message in arrives(hook, "config-invalid", "resolved")["text"]
        eventually(lambda: exchange.live()["BTC-USD"] == "5000/2000/300", 15.0, "the file to be in force")
        ended(sidecar.process)
        log = sidecar.process.log()
        assert [line["path"] for line in log if line["event"] == "config accepted"] == [message, message]
        assert any(line.get("at", "").startswith(f"{message}:") for line in log)
        words(hook)


def test_a_plan_of_a_file_whose_name_is_no_text_is_saved_shown_and_applied(
    desk: Desk, exchange: Exchange
) -> None:
    name = os.fsdecode(b"main\xff.yaml")
    desk.wants({**WANTED, "BTC-USD": "5s/2s/300"}, name=name)
    assert desk.mmp("plan", "-c", name, "--out", "plan.json").status == 0
    assert "main\\udcff.yaml" in desk.mmp("show", "plan.json").stdout
    assert (
        desk.mmp("status", "-c", name, "--output", "json").document["config"]["path"] == "main\\udcff.yaml"
    )
    assert desk.mmp("apply", "-c", name, "--yes", "--assume-idle", "plan.json").status == 0
    assert exchange.live()["BTC-USD"] == "5000/2000/300"
