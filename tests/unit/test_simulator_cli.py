"""``mmp simulator``: its flags as values, its announcement, and the command as a real process."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
import pytest
from click.testing import CliRunner

from reconciler.cli.simulator import announcement, build_exchange, simulator
from reconciler.cli.simulator_options import (
    FamilySpec,
    parse_family_specs,
    parse_form,
    parse_permissions,
    parse_skew,
)
from reconciler.errors import MmpError, UsageError
from reconciler.simulator.accounts import fake_account
from reconciler.simulator.behaviour_options import Options
from reconciler.simulator.faults import parse_fault
from reconciler.simulator.unusual_rows import RowForm
from tests.support.simulator import SETTING, UID

URL = "http://127.0.0.1:1234"


def test_families_are_configured_where_there_is_an_equals_sign() -> None:
    assert parse_family_specs("BTC-USD=5000/2000/100, SOL-USD_UM") == (
        FamilySpec("BTC-USD", SETTING),
        FamilySpec("SOL-USD_UM", None),
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not an instrument family"),
        ("btc-usd", "not an instrument family"),
        ("BTC-USD=5000/2000", "BTC-USD: write timeInterval/frozenInterval/qtyLimit"),
        ("BTC-USD=", "write timeInterval"),
        ("BTC-USD=5s/2000/100", "BTC-USD: Parameter timeInterval error"),
        ("BTC-USD=5000/2000/0", "qtyLimit"),
        ("BTC-USD,ETH-USD,BTC-USD", "named twice: BTC-USD"),
    ],
)
def test_families_that_cannot_be_meant_are_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_family_specs(text)


def test_permissions_are_those_okx_has() -> None:
    assert parse_permissions("read_only,trade") == ("read_only", "trade")
    assert parse_permissions("") == ()
    with pytest.raises(ValueError, match="no such permission: fly"):
        parse_permissions("trade,fly")


def test_a_row_is_written_in_a_form_there_is() -> None:
    assert parse_form("BTC-USD=lower-case") == ("BTC-USD", RowForm.LOWER_CASE)
    for text in ("", "BTC-USD", "BTC-USD=", "BTC-USD=round", "btc-usd=nulls", "=nulls"):
        with pytest.raises(ValueError, match="write FAMILY=FORM; forms are plain, unlisted"):
            parse_form(text)


@pytest.mark.parametrize(("text", "seconds"), [("40s", 40.0), ("-40s", -40.0), ("500ms", 0.5)])
def test_a_skew_may_be_negative(text: str, seconds: float) -> None:
    assert parse_skew(text) == seconds


def test_the_exchange_is_built_from_the_flags() -> None:
    world = build_exchange(
        fake_account(),
        parse_family_specs("BTC-USD=5000/2000/100,ETH-USD"),
        [parse_fault("50013:2")],
        Options(),
    )
    assert world.settings(UID) == {"BTC-USD": SETTING}
    assert world.families == {"BTC-USD", "ETH-USD"}
    assert world.faults.pending()["set"] == 2


def test_the_text_announcement_is_shell_and_says_simulator() -> None:
    text = announcement(fake_account(), URL, "text")
    shell = f"set -eu; {text}\nenv"
    shown = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=True).stdout
    assert f"MMP_BASE_URL={URL}\n" in shown
    assert "OKX_API_KEY=simulator-key-1\n" in shown
    assert "SIMULATOR" in text.splitlines()[0]


def test_the_json_announcement_is_one_line() -> None:
    text = announcement(fake_account(environment="demo"), URL, "json")
    document = json.loads(text)
    assert "\n" not in text
    assert document["variables"]["OKX_PASSPHRASE"] == "simulator-passphrase-1"
    assert (document["format"], document["environment"]) == ("mmp/simulator/1", "demo")
    assert document["control"] == f"{URL}/_control"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--families", "btc"],
        ["--fault", "nope"],
        ["--row", "BTC-USD=round"],
        ["--latency", "fast"],
        ["--permissions", "fly"],
        ["--clock-skew", "later"],
        ["--rate", "leaky"],
        ["--account-level", "5"],
        ["--port", "70000"],
    ],
)
def test_a_mistyped_flag_is_a_usage_error(arguments: list[str]) -> None:
    result = CliRunner().invoke(simulator, arguments, standalone_mode=False)
    assert isinstance(result.exception, click.UsageError)


def test_a_host_that_is_not_loopback_is_a_usage_error() -> None:
    result = CliRunner().invoke(simulator, ["--host", "0.0.0.0"])
    assert isinstance(result.exception, UsageError)
    assert "loopback only" in str(result.exception)


def test_a_taken_port_is_reported_without_a_traceback() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = CliRunner().invoke(simulator, ["--port", str(taken.getsockname()[1])])
    assert isinstance(result.exception, MmpError)
    assert "cannot listen" in result.exception.message


def test_the_help_has_an_example() -> None:
    shown = CliRunner().invoke(simulator, ["--help"])
    assert shown.exit_code == 0
    assert "mmp simulator --families BTC-USD=5000/2000/100" in shown.output


COMMAND = [sys.executable, "-c", "from reconciler.cli.simulator import simulator; simulator()"]


@contextmanager
def process(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Start the command as a process; it is ended whatever happens."""
    environment = {**os.environ, "PYTHONUNBUFFERED": ""}  # the command must flush by itself
    with subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as running:
        try:
            yield running
        finally:
            running.kill()


def fetch(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=5) as response:
        return json.load(response)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_says_where_it_is_and_stops_on_a_signal(number: signal.Signals) -> None:
    with process("--families", "BTC-USD=5000/2000/100", "--rate", "fixed", "--output", "json") as running:
        assert running.stdout is not None
        document = json.loads(running.stdout.readline())
        settings = fetch(document["control"] + "/settings")
        rules = fetch(document["control"] + "/rules")
        running.send_signal(number)
        rest, complaints = running.communicate(timeout=10)
    assert settings[document["uid"]]["BTC-USD"]["qtyLimit"] == "100"
    assert rules["rate"] == "fixed"
    assert (running.returncode, rest, complaints) == (0, "", "")


FLAGS: list[tuple[list[str], str, object]] = [
    (["--read-delay", "2s"], "read_delay_s", 2.0),
    (["--missing-when-disabled"], "list_disabled", False),
    (["--list-disabled"], "list_disabled", True),
    (["--list-unconfigured"], "list_unconfigured", True),
    (["--decimals"], "numbers", "decimal"),
    (["--set-unfreezes"], "set_unfreezes", True),
    (["--limit-status", "429"], "limit_status", "429"),
    (["--clock-skew", "-40s"], "clock_skew_s", -40.0),
]


@pytest.mark.parametrize(("arguments", "option", "value"), FLAGS)
def test_every_flag_reaches_the_rules(
    arguments: list[str], option: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[Options] = []
    monkeypatch.setattr(
        "reconciler.cli.simulator._run", lambda world, *_args, **_more: built.append(world.options)
    )
    CliRunner().invoke(simulator, arguments, catch_exceptions=False)
    assert getattr(built[0], option) == value


def test_the_account_and_network_flags_reach_the_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}
    monkeypatch.setattr(
        "reconciler.cli.simulator._run", lambda world, account, **more: seen.update(more, account=account)
    )
    arguments = "--permissions read_only --account-level 2 --no-privilege --environment demo"
    network = "--latency 50ms --jitter 20ms --seed 3 --port 8080"
    CliRunner().invoke(simulator, f"{arguments} {network}".split(), catch_exceptions=False)
    account = seen["account"]
    assert (account.level, account.mmp_privilege, account.environment) == ("2", False, "demo")
    assert account.keys[0].permissions == frozenset({"read_only"})
    found = (seen["network"].latency_s, seen["network"].jitter_s, seen["network"].seed, seen["port"])
    assert found == (0.05, 0.02, 3, 8080)


def test_importing_the_command_imports_no_server() -> None:
    check = "import sys, reconciler.cli.simulator; print({'aiohttp', 'asyncio'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "set()"
