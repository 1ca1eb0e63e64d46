"""Invalid keys, accounts and clocks: exit 8, one sentence on what to fix, no secret anywhere."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.processes import Desk, Exchange, eventually, simulator

pytestmark = pytest.mark.e2e

APPLY = ("apply", "--yes", "--assume-idle")
BTC = {"BTC-USD": "5s/2s/100"}


@dataclass(frozen=True)
class Case:
    """An error and its expected report: the code, words of the message, words of the help."""

    code: str
    says: str
    help: str
    flags: tuple[str, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()
    top: tuple[tuple[str, str], ...] = ()


CASES = {
    "no trade permission": Case(
        "no-trade-permission", "no Trade permission", "give the key", flags=("--permissions", "read_only")
    ),
    "wrong passphrase": Case(
        "okx-50105", "passphrase", "passphrase", variables=(("OKX_PASSPHRASE", "a-wrong-passphrase"),)
    ),
    "wrong secret key": Case(
        "okx-50113", "signature", "secret key", variables=(("OKX_SECRET_KEY", "a-wrong-secret-key"),)
    ),
    "wrong region": Case(
        "okx-50119", "50119", "eea.okx.com", variables=(("OKX_API_KEY", "a-key-of-another-region"),)
    ),
    "wrong environment": Case("okx-50101", "50101", "environment", top=(("environment", "demo"),)),
    "not in portfolio margin": Case(
        "not-portfolio-margin", "portfolio margin", "switch the account", flags=("--account-level", "2")
    ),
    "no MMP privilege": Case("okx-50030", "50030", "MMP", flags=("--no-privilege",)),
    "another account": Case(
        "wrong-account", "User ID 999000000001", "expect.uid", top=(("expect", '{uid: "123"}'),)
    ),
}


@pytest.fixture(params=CASES, ids=lambda name: name.replace(" ", "-"))
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def test_what_is_wrong_is_exit_8_with_what_to_fix(case: Case, tmp_path: Path) -> None:
    with simulator(*case.flags) as exchange:
        desk = Desk(tmp_path / "desk", {**exchange.variables, **dict(case.variables)})
        desk.wants(BTC, **dict(case.top))
        ended = desk.mmp(*APPLY)
        assert (ended.status, ended.error_code) == (8, case.code), ended.stderr
        problem, *more = [line for line in ended.stderr.splitlines() if not line.startswith("{")]
        assert case.says.lower() in problem.lower(), problem
        assert case.help in "\n".join(more), more
        assert len(more) == 1, "one sentence on what to do"
        assert exchange.written() == []
        as_json = desk.mmp(*APPLY, "--output", "json")
        assert as_json.status == 8
        assert [one["code"] for one in as_json.document["problems"]] == [case.code]
        desk.close()


@pytest.mark.parametrize("skew", ["40s", "-40s"])
def test_a_clock_far_off_is_compensated_with_a_warning(skew: str, tmp_path: Path) -> None:
    with simulator("--clock-skew", skew) as exchange:
        desk = Desk(tmp_path / "desk", exchange.variables)
        desk.wants(BTC)
        ended = desk.mmp(*APPLY)
        assert (ended.status, exchange.written()) == (0, ["BTC-USD"])
        (warning,) = [line for line in ended.log if line["level"] == "warning"]
        way = "behind" if skew == "40s" else "ahead of"
        assert f"s {way} the exchange's: compensated" in warning["event"]
        assert 39 < abs(warning["offset_s"]) < 41
        desk.close()


def test_a_plan_warns_of_the_clock_also_when_live_cannot_be_read(tmp_path: Path) -> None:
    with simulator("--clock-skew", "40s", "--fault", "get/50120:always") as exchange:
        desk = Desk(tmp_path / "desk", exchange.variables)
        desk.wants(BTC)
        ended = desk.mmp("plan")
        assert ended.error_code == "okx-50120"
        assert "s behind the exchange's: compensated" in ended.stderr
        desk.close()


def test_a_clock_that_goes_wrong_while_running_is_measured_again(desk: Desk, exchange: Exchange) -> None:
    exchange.change("BTC-USD", "5000/2000/100")
    desk.wants(BTC)
    sidecar = desk.start("run", "--assume-idle", "--interval", "1s")
    sidecar.wait_for_log("adopted")
    exchange.control("rules", clock_skew_s=40.0)
    desk.wants({"BTC-USD": "5s/2s/90"})
    eventually(lambda: exchange.live()["BTC-USD"] == "5000/2000/90", 20.0, "the new setting")


def test_a_key_bound_to_other_addresses_is_reported_without_its_id(desk: Desk, exchange: Exchange) -> None:
    """OKX's own message for this contains the key id; the rig searches all output for it."""
    exchange.control("accounts", ip=["192.0.2.1"])
    desk.wants(BTC)
    ended = desk.mmp(*APPLY, "--log-level", "debug", env={"MMP_TRACEBACK": "1"})
    assert (ended.status, ended.error_code) == (8, "okx-50110")
    assert "***" in ended.stderr


def test_every_missing_variable_is_named(desk: Desk) -> None:
    desk.wants(BTC)
    ended = desk.mmp(*APPLY, env={"OKX_API_KEY": None, "OKX_PASSPHRASE": None})
    assert (ended.status, ended.error_code) == (8, "credentials-missing")
    assert "OKX_API_KEY, OKX_PASSPHRASE are not set" in ended.stderr
    assert "OKX_SECRET_KEY" not in ended.stderr, "only what is missing is named"


def test_another_prefix_names_other_variables(desk: Desk, exchange: Exchange) -> None:
    desk.wants(BTC, credentials="{prefix: DESK_A_}")
    assert "DESK_A_API_KEY, DESK_A_SECRET_KEY" in desk.mmp("plan").stderr
    renamed = {name.replace("OKX_", "DESK_A_"): value for name, value in exchange.variables.items()}
    assert desk.mmp("plan", env=renamed).status == 0


def secret_files(desk: Desk, variables: Mapping[str, str], mode: int) -> dict[str, str | None]:
    """Put every key into a file of ``mode``; returns the environment that names the files."""
    environment: dict[str, str | None] = {}
    for name, value in variables.items():
        if name.startswith("OKX_"):
            path = desk.folder / f"{name}.secret"
            path.write_text(value + "\n")
            path.chmod(mode)
            environment |= {name: None, f"{name}_FILE": str(path)}
    return environment


@pytest.mark.parametrize(("mode", "status"), [(0o600, 0), (0o440, 0), (0o644, 8), (0o604, 8)])
def test_secret_files_are_read_unless_others_may_read_them(
    desk: Desk, exchange: Exchange, mode: int, status: int
) -> None:
    desk.wants(BTC)
    ended = desk.mmp("plan", env=secret_files(desk, exchange.variables, mode))
    assert ended.status == status
    if status:
        assert "OKX_API_KEY.secret (named by OKX_API_KEY_FILE)" in ended.stderr
        assert f"mode {mode:04o}" in ended.stderr
        assert "chmod 600" in ended.stderr
        assert exchange.arrivals("account") == []


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://openapi.okx.com", "http"),
        ("https://evil.example.com", "--allow-host"),
        ("https://openapi.okx.com.evil.example", "--allow-host"),
        ("ftp://127.0.0.1", "https"),
    ],
)
def test_addresses_that_are_not_okx_are_refused_before_any_key_is_used(
    desk: Desk, url: str, says: str
) -> None:
    desk.wants(BTC)
    ended = desk.mmp("plan", "--base-url", url)
    assert ended.status == 64
    assert says in ended.stderr


MAY_WITHDRAW = "the key may withdraw: use one without the Withdraw permission"


@pytest.mark.slow
def test_apply_and_run_warn_once_of_a_key_that_may_withdraw(tmp_path: Path) -> None:
    with simulator("--permissions", "read_only,trade,withdraw") as exchange:
        desk = Desk(tmp_path / "desk", exchange.variables)
        desk.wants(BTC)
        applied = desk.mmp(*APPLY, "--log-format", "json")
        assert applied.status == 0
        (warning,) = [line for line in applied.log if line["event"] == MAY_WITHDRAW]
        assert (warning["level"], warning["account"]) == ("warning", "main")
        sidecar = desk.start("run", "--interval", "1s", "--log-format", "json")
        sidecar.wait_for_log(MAY_WITHDRAW)
        exchange.control("accounts", permissions=["read_only", "trade"])
        eventually(lambda: len(exchange.arrivals("get")) > 4, 20.0, "some rounds")
        sidecar.signal(signal.SIGTERM)
        ended = sidecar.wait()
        assert ended.status == 0
        assert len([line for line in ended.log if line["event"] == MAY_WITHDRAW]) == 1
        desk.close()


def test_no_warning_of_a_key_that_may_not_withdraw(tmp_path: Path) -> None:
    with simulator() as exchange:
        desk = Desk(tmp_path / "desk", exchange.variables)
        desk.wants(BTC)
        assert MAY_WITHDRAW not in desk.mmp(*APPLY, "--log-format", "json").stderr
        desk.close()
