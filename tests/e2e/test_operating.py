"""Getting started and operating, with the installed command, and every exit status it can end with."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path

import pexpect
import pytest

from reconciler.clock import SystemClock
from reconciler.core.model import Environment, ExchangeKind, Family, Quantity, Setting
from reconciler.store.engine import StateOptions
from reconciler.store.sqlite.state import open_state
from tests.e2e.processes import MMP, Desk, Ended, Exchange, eventually, simulator

pytestmark = pytest.mark.e2e

BTC = {"BTC-USD": "5s/2s/100"}
APPLY = ("apply", "--yes", "--assume-idle")


def resets(exchange: Exchange) -> list[str]:
    return [one["family"] for one in exchange.arrivals("reset")]


# Starting -------------------------------------------------------------------------------------


def test_a_starter_file_holds_and_is_never_overwritten(desk: Desk) -> None:
    assert desk.mmp("init").status == 0
    assert desk.mmp("validate").stdout == "no problems in mmp.yaml\n"
    text = desk.config.read_text()
    again = desk.mmp("init", "--environment", "live", "--output", "json")
    assert (again.status, again.document["problems"][0]["code"]) == (4, "file-exists")
    assert desk.config.read_text() == text
    assert desk.mmp("init", "-").stdout == text
    assert [path.name for path in desk.folder.iterdir()] == ["mmp.yaml"]


def test_what_cannot_be_written_is_a_runtime_failure(desk: Desk) -> None:
    ended = desk.mmp("init", "no-such-folder/mmp.yaml")
    assert (ended.status, ended.error_code) == (1, "file-unwritable")


IMPORTED = "BTC-USD=5000/2000/100,ETH-USD=1500/0/100.0,SOL-USD_UM=0/2000/0.5,XAU-USD_UM,BTC-USD_UM=7/7/7"


@pytest.mark.parametrize(
    "flags", [(), ("--decimals",), ("--list-unconfigured",), ("--missing-when-disabled",)]
)
def test_after_an_import_there_is_nothing_to_do(tmp_path: Path, flags: tuple[str, ...]) -> None:
    with simulator(*flags, families=IMPORTED) as exchange:
        desk = Desk(tmp_path / "desk", exchange.variables)
        exchange.control("freeze", family="BTC-USD")
        ended = desk.mmp("import", "--output", "json")
        assert ended.status == 0, ended.stderr
        listed = {"BTC-USD", "BTC-USD_UM", "ETH-USD"}
        assert {*ended.document["families"]} - {"SOL-USD_UM"} == listed
        plan = desk.mmp("plan", "--detailed-exitcode", "--output", "json")
        assert (plan.status, plan.document["changes"]) == (0, []), "not even anything to adopt"
        offline = desk.mmp("plan", "--no-live", "--output", "json", env={"OKX_API_KEY": None})
        assert offline.document["changes"] == []
        assert exchange.written() == []
        assert exchange.arrivals("reset") == []
        desk.close()


def test_an_import_overwrites_nothing_and_sends_nothing_when_it_could_not_write(
    desk: Desk, exchange: Exchange
) -> None:
    desk.wants(BTC)
    ended = desk.mmp("import")
    assert (ended.status, ended.error_code) == (4, "file-exists")
    assert exchange.arrivals("account") == []


@pytest.mark.slow
@pytest.mark.parametrize("wanted", [{"BTC-USD": "5s/2s/60"}, {"ETH-USD": "5s/2s/70"}], ids=["other", "new"])
def test_an_import_believes_no_read_that_lags_behind_the_record(
    wanted: dict[str, str], tmp_path: Path
) -> None:
    with simulator(families="BTC-USD=5000/2000/100,ETH-USD") as exchange:
        desk = Desk(tmp_path / "desk", exchange.variables)
        exchange.control("rules", read_delay_s=3.0)
        desk.wants({"BTC-USD": "5s/2s/100"} | wanted)
        (written,) = wanted
        assert desk.mmp(*APPLY, "--output", "json").outcomes[written] == "applied"
        ended = desk.mmp("import", "--out", "other.yaml")
        assert ended.status == 0, ended.stderr
        (quantity,) = (value.rpartition("/")[2] for value in wanted.values())
        assert f"qtyLimit: {quantity}" in (desk.folder / "other.yaml").read_text()
        offline = desk.mmp("plan", "--no-live", "--output", "json")
        assert offline.document["changes"] == [], "the record still tells what was acknowledged"
        desk.close()


@pytest.mark.slow
def test_an_import_takes_the_place_of_no_record(tmp_path: Path) -> None:
    """A tightening by the desk stays drift, and the record of a newer file stays."""
    with simulator(families="BTC-USD=5000/2000/100") as exchange:
        desk = Desk(tmp_path / "desk", exchange.variables)
        desk.wants(BTC)
        assert desk.mmp(*APPLY).status == 0
        exchange.change("BTC-USD", "5000/2000/20")
        ended = desk.mmp("import", "--out", "other.yaml")
        assert ended.status == 0, ended.stderr
        assert "mmp plan shows what differs from the record of BTC-USD." in ended.stdout
        assert "qtyLimit: 20" in (desk.folder / "other.yaml").read_text(), "live"
        (change,) = desk.mmp("plan", "--output", "json").document["changes"]
        assert (change["reason"], change["before"]["qtyLimit"]) == ("drifted", "20")
        desk.close()


@pytest.mark.slow
def test_a_plan_knows_what_was_in_force_under_another_account_name(tmp_path: Path) -> None:
    """A list that omits a family does not lift the limit of the policy, in plan as in apply."""
    with simulator(families="BTC-USD=5000/2000/100") as exchange:
        desk = Desk(tmp_path / "desk", exchange.variables)
        (desk.folder / "mmp-policy.yaml").write_text("version: 1\nloosening: {maxFactor: 2}\n")
        desk.wants({"BTC-USD": "5s/2s/1000"})
        assert desk.mmp(*APPLY).status == 3, "refused, so nothing but the read is on record"
        exchange.control("settings", family="BTC-USD", remove=True)
        for account in ("main", "renamed"):
            desk.wants({"BTC-USD": "5s/2s/1000"}, account=account)
            assert desk.mmp(*APPLY).status == 3
            assert desk.mmp("plan", "--fail-on", "policy").status == 3
        assert exchange.written() == []
        desk.close()


def test_an_import_to_stdout_leaves_no_trace(tmp_path: Path) -> None:
    with simulator(families=IMPORTED) as exchange:
        desk = Desk(tmp_path / "desk", exchange.variables)
        ended = desk.mmp("import", "--out", "-", "--account", "desk-2")
        assert ended.status == 0, ended.stderr
        assert list(desk.folder.iterdir()) == []
        desk.config.write_text(ended.stdout)
        assert desk.mmp("validate").status == 0
        plan = desk.mmp("plan", "--output", "json").document
        assert {change["action"] for change in plan["changes"]} == {"adopt"}
        assert desk.mmp("import", "--out", "-", "--output", "json").status == 64
        desk.close()


def test_an_import_of_nothing_says_what_to_do_instead(desk: Desk) -> None:
    ended = desk.mmp("import")
    assert (ended.status, ended.error_code) == (1, "nothing-live")
    assert "mmp init" in ended.stderr
    assert list(desk.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("form", "named", "why"),
    [
        ("lower-case", "eth-usd", "not a family name"),
        ("blanks", "ETH-USD", "the exchange sent its name with blanks around it"),
        ("nameless", "a row without a name", "the exchange sent 1 of them"),
        ("twice", "ETH-USD", "listed 2 times"),
        ("unreadable", "ETH-USD", "qtyLimit"),
    ],
)
def test_an_import_leaves_odd_rows_out_and_names_them(
    desk: Desk, exchange: Exchange, form: str, named: str, why: str
) -> None:
    for family in ("BTC-USD", "ETH-USD"):
        exchange.change(family, "5000/2000/100")
    exchange.control("rows", family="ETH-USD", form=form)
    ended = desk.mmp("import", "--output", "json")
    assert ended.status == 0, ended.stderr
    assert ended.document["families"] == ["BTC-USD"]
    (left_out,) = ended.document["left_out"]
    assert left_out["family"] == named
    assert why in left_out["reason"]
    assert f"warning[left-out] {named} is not in the file: " in ended.stderr
    assert f"# {named} was left out: " in desk.config.read_text()
    assert desk.mmp("validate").status == 0


def test_an_import_with_a_key_of_the_other_environment_writes_no_file(desk: Desk) -> None:
    ended = desk.mmp("import", "--environment", "demo")
    assert (ended.status, ended.error_code) == (8, "okx-50101")
    assert list(desk.folder.iterdir()) == []


# The doctor -----------------------------------------------------------------------------------


def marks(ended: Ended) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for one in ended.document["results"]:
        found.setdefault(one["check"], set()).add(one["status"])
    return found


def test_a_desk_in_good_order_gets_advice_at_most(desk: Desk, exchange: Exchange) -> None:
    desk.wants(BTC, expect=f'{{uid: "{exchange.uid}"}}')
    (desk.folder / "mmp-policy.yaml").write_text("version: 1\nprotected: [BTC-USD]\n")
    assert desk.mmp(*APPLY).status == 0
    exchange.control("accounts", ip=["127.0.0.1"])
    ended = desk.mmp("doctor", "--output", "json")
    assert ended.status == 0, ended.stdout
    assert set().union(*marks(ended).values()) == {"ok"}
    assert len(ended.document["results"]) == 15
    assert [one["endpoint"] for one in exchange.arrivals("reset")] == []
    assert exchange.written() == ["BTC-USD"]
    text = desk.mmp("doctor").stdout
    assert text.count("✓") == 15
    assert text.endswith("\nNo problem found.\n")


def test_the_doctor_reports_that_a_group_may_use_the_state(desk: Desk, exchange: Exchange) -> None:
    desk.wants(BTC)
    desk.uses_state(exchange)
    assert marks(desk.mmp("doctor", "--output", "json"))["state"] == {"ok"}
    desk.state.parent.chmod(0o2770)
    desk.state.chmod(0o660)
    ended = desk.mmp("doctor", "--output", "json")
    assert (ended.status, marks(ended)["state"]) == (0, {"ok", "advice"})
    (advice,) = (
        one["message"]
        for one in ended.document["results"]
        if one["status"] == "advice" and one["check"] == "state"
    )
    assert f"group {desk.state.stat().st_gid} " in advice
    desk.state.parent.chmod(0o2775)
    ended = desk.mmp("doctor", "--output", "json")
    assert (ended.status, marks(ended)["state"]) == (1, {"failed"})


def test_the_doctor_leaves_no_trace(desk: Desk) -> None:
    desk.wants(BTC)
    ended = desk.mmp("doctor", "--output", "json")
    assert (ended.status, marks(ended)["address"]) == (0, {"advice"})
    assert [path.name for path in desk.folder.iterdir()] == ["mmp.yaml"]


@dataclass(frozen=True)
class Ill:
    """An error, the checks that fail for it, and the exit status of the doctor."""

    fails: str
    status: int
    says: str
    flags: tuple[str, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()
    top: tuple[tuple[str, str], ...] = ()


ILL = {
    "file": Ill("config", 4, "unknown key", top=(("enviroment", "live"),)),
    "passphrase": Ill("account", 8, "50105", variables=(("OKX_PASSPHRASE", "a-wrong-passphrase"),)),
    "region": Ill("account", 8, "https://eea.okx.com", variables=(("OKX_API_KEY", "of-another-region"),)),
    "environment": Ill("account", 8, "50101", top=(("environment", "demo"),)),
    "expect": Ill("account", 8, "expects 123", top=(("expect", '{uid: "123"}'),)),
    "keys": Ill("credentials", 8, "OKX_PASSPHRASE", variables=(("OKX_PASSPHRASE", ""),)),
    "trade": Ill("permissions", 8, "Trade", flags=("--permissions", "read_only")),
    "withdraw": Ill(
        "permissions", 8, "--allow-withdraw", flags=("--permissions", "read_only,trade,withdraw")
    ),
    "mode": Ill("mode mmp", 8, "acctLv is 2", flags=("--account-level", "2")),
    "privilege": Ill("mmp", 8, "50030", flags=("--no-privilege",)),
    "silence": Ill("host", 1, "--base-url", flags=("--fault", "time/lost-before:always")),
    "page": Ill("mmp", 1, "HTTP 502", flags=("--fault", "get/html-502:always")),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ILL)
def test_what_is_in_the_way_is_named_with_what_to_do(name: str, tmp_path: Path) -> None:
    ill = ILL[name]
    with simulator(*ill.flags) as exchange:
        desk = Desk(tmp_path / "desk", {**exchange.variables, **dict(ill.variables)})
        desk.wants(BTC, **dict(ill.top))
        ended = desk.mmp("doctor", "--output", "json")
        assert ended.status == ill.status, ended.stdout
        failed = [one for one in ended.document["results"] if one["status"] == "failed"]
        assert [one["check"] for one in failed] == ill.fails.split()
        assert any(ill.says in f"{one['message']} {one['hint']}" for one in failed), failed
        assert all(one["hint"] for one in failed if one["check"] != "mmp"), failed
        desk.close()


def test_a_key_for_plans_alone_passes_with_the_flag_for_it(tmp_path: Path) -> None:
    with simulator("--permissions", "read_only,withdraw") as exchange:
        desk = Desk(tmp_path / "desk", exchange.variables)
        desk.wants({**BTC, "DOGE-USD": "5s/2s/1"})
        ended = desk.mmp("doctor", "--for", "plan", "--allow-withdraw", "--output", "json")
        assert ended.status == 0, ended.stdout
        assert marks(ended)["families"] == {"advice"}
        desk.close()


def test_a_state_that_cannot_be_used_is_in_the_way(desk: Desk, exchange: Exchange) -> None:
    desk.wants(BTC)
    assert desk.mmp(*APPLY).status == 0
    desk.mmp("pause", "--family", "BTC-USD", "--reason", "by hand")
    exchange.control("freeze", family="BTC-USD", ms=0)
    fine = desk.mmp("doctor", "--output", "json")
    assert (fine.status, marks(fine)["pause"], marks(fine)["frozen"]) == (0, {"advice"}, {"advice"})
    desk.state.write_bytes(b"")
    ended = desk.mmp("doctor", "--output", "json")
    assert (ended.status, marks(ended)["state"]) == (1, {"failed"})


def test_the_process_that_holds_the_state_is_named_and_blocks_no_check(
    desk: Desk, exchange: Exchange
) -> None:
    desk.wants({**BTC, "ETH-USD": "5s/2s/100", "SOL-USD_UM": "5s/2s/100"})
    holder = desk.start(*APPLY)
    exchange.wait_for_requests(2)
    ended = desk.mmp("doctor", "--output", "json")
    (lock,) = [one for one in ended.document["results"] if one["check"] == "lock"]
    assert (ended.status, lock["status"]) == (0, "advice")
    assert f"pid {holder.pid}" in lock["message"]
    holder.kill()


def test_a_state_of_another_account_is_in_the_way(desk: Desk, exchange: Exchange) -> None:
    desk.wants(BTC)
    desk.state.parent.mkdir()
    state = open_state(str(desk.state), StateOptions(SystemClock(), "another", lock_timeout_s=0.0))
    asyncio.run(state.account("main", Environment.LIVE, ExchangeKind.SIMULATOR).identify("1", "127.0.0.1"))
    state.close_now()
    ended = desk.mmp("doctor", "--output", "json")
    (found,) = [one for one in ended.document["results"] if one["check"] == "state"]
    assert (ended.status, found["status"]) == (8, "failed")
    assert "belongs to User ID 1" in found["message"]
    exchange.change("BTC-USD", "5000/2000/100")
    imported = desk.mmp("import", "--out", "other.yaml")
    assert (imported.status, imported.error_code) == (8, "state-foreign-uid")
    assert not (desk.folder / "other.yaml").exists()


# Resetting ------------------------------------------------------------------------------------


@pytest.fixture
def frozen(desk: Desk, exchange: Exchange) -> Desk:
    """A desk whose BTC-USD is in force and frozen until a manual reset."""
    exchange.change("BTC-USD", "5000/0/100")
    exchange.control("freeze", family="BTC-USD")
    desk.wants({"BTC-USD": "5s/until-reset/100", "ETH-USD": "5s/2s/100"})
    return desk


def test_a_frozen_family_is_reset_once_and_only_it(frozen: Desk, exchange: Exchange) -> None:
    exchange.change("ETH-USD", "5000/0/100")
    exchange.control("freeze", family="ETH-USD")
    ended = frozen.mmp("reset", "BTC-USD", "--yes")
    assert ended.status == 0, ended.stderr
    assert ended.stdout.startswith("SIMULATOR BTC-USD was reset.")
    assert resets(exchange) == ["BTC-USD"]
    assert exchange.written() == []
    again = frozen.mmp("reset", "BTC-USD", "--yes", "--output", "json")
    assert (again.status, again.document["outcome"]) == (0, "not-frozen")
    assert resets(exchange) == ["BTC-USD"]
    assert not frozen.state.exists(), "nothing is recorded"


def test_a_reset_needs_approval_only_when_there_is_something_to_reset(
    frozen: Desk, exchange: Exchange
) -> None:
    assert frozen.mmp("reset", "ETH-USD").status == 0
    ended = frozen.mmp("reset", "BTC-USD")
    assert (ended.status, ended.error_code) == (64, "not-approved")
    assert "--yes" in ended.stderr
    assert resets(exchange) == []


def test_a_mistyped_family_is_not_reported_as_in_sync(frozen: Desk, exchange: Exchange) -> None:
    ended = frozen.mmp("reset", "BTC-USD_UM", "--yes")
    assert (ended.status, ended.error_code) == (64, "no-family"), ended.stdout
    exchange.change("SOL-USD_UM", "5000/0/100")
    unmanaged = frozen.mmp("reset", "SOL-USD_UM", "--yes", "--output", "json")
    assert (unmanaged.status, unmanaged.document["outcome"]) == (0, "not-frozen")
    assert resets(exchange) == []


@pytest.mark.parametrize(("answer", "status", "sent"), [("y", 0, ["BTC-USD"]), ("n", 1, []), ("", 1, [])])
def test_on_a_terminal_a_reset_asks(
    frozen: Desk, exchange: Exchange, answer: str, status: int, sent: list[str]
) -> None:
    child = pexpect.spawn(
        MMP, ["reset", "BTC-USD"], cwd=str(frozen.folder), env=frozen.environment_with(None), timeout=30
    )
    child.expect("BTC-USD is frozen until a manual reset")
    child.expect(r"\[y/N\]")
    child.sendline(answer)
    child.expect(pexpect.EOF)
    child.close()
    assert (child.exitstatus, resets(exchange)) == (status, sent)


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("reset/wrong-echo", 1, "reset-refused"),
        ("reset/59509", 8, "okx-59509"),
        ("reset/50011", 1, "okx-50011"),
        ("reset/lost-after", 1, "reset-unconfirmed"),
        ("reset/50004-applied", 1, "reset-unconfirmed"),
    ],
)
def test_a_reset_that_was_not_confirmed_is_a_failure_and_never_repeated(
    frozen: Desk, exchange: Exchange, fault: str, status: int, code: str
) -> None:
    exchange.control("fault", fault=fault)
    ended = frozen.mmp("reset", "BTC-USD", "--yes")
    assert (ended.status, ended.error_code) == (status, code), ended.stderr
    assert len(resets(exchange)) == 1


@pytest.mark.parametrize(
    ("form", "why"),
    [
        ("lower-case", "a row is named 'btc-usd', which is almost this family's name"),
        ("blanks", "a row is named 'BTC-USD' with blanks around it, which is almost this family's name"),
        ("full-width", "which is almost this family's name"),
        ("nameless", "it names no family"),
        ("twice", "listed 2 times"),
        ("unreadable", "qtyLimit"),
    ],
)
def test_nothing_is_reset_where_the_family_s_own_row_cannot_be_read(
    frozen: Desk, exchange: Exchange, form: str, why: str
) -> None:
    exchange.control("rows", family="BTC-USD", form=form)
    ended = frozen.mmp("reset", "BTC-USD", "--yes")
    assert (ended.status, ended.error_code) == (1, "bad-row"), ended.stdout
    assert "the live row of BTC-USD cannot be understood: " in ended.stderr
    assert why in ended.stderr
    assert resets(exchange) == []


@pytest.mark.parametrize("form", ["unlisted", "json-numbers", "exponents", "nulls"])
def test_a_row_that_is_only_written_oddly_is_reset(frozen: Desk, exchange: Exchange, form: str) -> None:
    exchange.control("rows", family="BTC-USD", form=form)
    ended = frozen.mmp("reset", "BTC-USD", "--yes")
    assert ended.status == 0, ended.stderr
    assert resets(exchange) == ["BTC-USD"]


@pytest.mark.parametrize("family", ["btc-usd", "BTC-USD-240628-60000-C", "BTC-*", ""])
def test_a_reset_takes_exactly_one_family(frozen: Desk, exchange: Exchange, family: str) -> None:
    ended = frozen.mmp("reset", family, "--yes")
    assert (ended.status, ended.error_code) == (64, "bad-family")
    assert exchange.arrivals("account") == []


def test_a_reset_wants_the_right_account_and_a_trade_key(tmp_path: Path) -> None:
    with simulator("--permissions", "read_only") as exchange:
        desk = Desk(tmp_path / "desk", exchange.variables)
        desk.wants(BTC)
        assert desk.mmp("reset", "BTC-USD", "--yes").error_code == "no-trade-permission"
        desk.wants(BTC, expect='{uid: "1"}')
        assert desk.mmp("reset", "BTC-USD", "--yes").error_code == "wrong-account"
        desk.close()


# Pausing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["pause", "resume"])
def test_a_state_that_was_never_used_has_nothing_to_pause(
    desk: Desk, exchange: Exchange, verb: str
) -> None:
    desk.wants(BTC)
    missing = desk.mmp(verb, "--family", "BTC-USD")
    assert (missing.status, missing.error_code) == (1, "state-unused")
    assert not desk.state.exists()
    desk.uses_state(exchange, "other")
    unused = desk.mmp(verb, "--family", "BTC-USD")
    assert (unused.status, unused.error_code) == (1, "state-unused")
    assert "main" in unused.stderr


@pytest.mark.parametrize("fault", ["set/slow@6:1", "set/lost-before:1"], ids=["in flight", "not answered"])
def test_a_pause_names_a_request_that_may_still_take_effect(
    desk: Desk, exchange: Exchange, fault: str
) -> None:
    exchange.control("fault", fault=fault)
    desk.wants(BTC)
    running = desk.start("run", "--assume-idle", "--interval", "30s")
    exchange.wait_for_requests(1)
    if "lost" in fault:
        running.wait_for_log("request")
    ended = desk.mmp("pause", "--family", "BTC-USD", "--output", "json")
    assert [one["family"] for one in ended.document["in_flight"]] == ["BTC-USD"]
    assert "may still take effect" in desk.mmp("pause", "--family", "BTC-USD").stdout
    assert desk.mmp("resume", "--family", "*", "--output", "json").document["in_flight"] == []


@pytest.mark.slow
def test_a_pause_finds_a_renamed_account_by_the_user_id_of_its_file(desk: Desk, exchange: Exchange) -> None:
    """While run still uses the old name, and only if the account is unambiguous."""
    desk.wants(BTC, account="old")
    running = desk.start("run", "--assume-idle", "--interval", "1s")
    running.wait_for_log("request applied")
    desk.wants(BTC, account="new")
    guess = desk.mmp("pause", "--family", "BTC-USD")
    assert (guess.status, guess.error_code) == (1, "state-unused")
    assert "account new (live), only for old" in guess.stderr
    assert "expect.uid" in guess.stderr
    desk.wants(BTC, account="new", expect=f'{{uid: "{exchange.uid}"}}')
    assert desk.mmp("pause", "--family", "BTC-USD").status == 0
    exchange.change("BTC-USD", "5000/2000/900")
    running.wait_for_log("held")
    assert exchange.written() == ["BTC-USD"]
    resumed = desk.mmp("resume", "--family", "BTC-USD")
    assert (resumed.status, resumed.stdout) == (0, "new (live) · no family is paused\n")
    exchange.wait_for_requests(2)


def test_a_pause_follows_an_account_that_is_renamed(desk: Desk, exchange: Exchange) -> None:
    desk.uses_state(exchange)
    desk.wants(BTC)
    assert desk.mmp("pause", "--family", "BTC-USD").status == 0
    desk.wants(BTC, account="renamed")
    (change,) = desk.mmp("plan", "--output", "json").document["changes"]
    assert (change["action"], change["because"]) == ("hold", "paused")
    assert (desk.mmp(*APPLY).status, exchange.written()) == (9, [])
    assert desk.mmp("resume", "--family", "BTC-USD").status == 0
    assert (desk.mmp(*APPLY).status, exchange.written()) == (0, ["BTC-USD"])


@pytest.mark.slow
def test_a_pause_works_before_anything_is_applied_and_is_shown_everywhere(
    desk: Desk, exchange: Exchange
) -> None:
    desk.uses_state(exchange)
    desk.wants({**BTC, "ETH-USD": "5s/2s/100"})
    paused = desk.mmp("pause", "--family", "BTC-*", "--for", "10m", "--reason", "by hand")
    assert paused.status == 0, paused.stderr
    (pause,) = desk.mmp("status", "--output", "json").document["pauses"]
    assert (pause["family"], pause["reason"]) == ("BTC-USD", "by hand")
    assert "): by hand" in desk.mmp("status").stdout
    plan = desk.mmp("plan", "--output", "json").document
    held = {change["family"]: change["because"] for change in plan["changes"]}
    assert held == {"ETH-USD": None, "BTC-USD": "paused"}


@pytest.mark.slow
def test_a_pause_by_the_breaker_counts_for_every_command_until_the_file_changes(
    desk: Desk, exchange: Exchange
) -> None:
    desk.wants(BTC)
    desk.uses_state(exchange)
    state = open_state(str(desk.state), StateOptions(SystemClock(), "another", lock_timeout_s=0.0))
    store = state.account("main", Environment.LIVE, ExchangeKind.SIMULATOR)
    contested_setting = {Family("BTC-USD"): Setting(5000, 2000, Quantity("100"))}
    asyncio.run(
        store.pause(contested_setting, until=None, reason="put back", contested_setting=contested_setting)
    )
    state.close_now()
    (pause,) = desk.mmp("status", "--output", "json").document["pauses"]
    assert (pause["by"], pause["contested"]["qtyLimit"]) == ("breaker", "100")
    (change,) = desk.mmp("plan", "--output", "json").document["changes"]
    assert (change["action"], change["because"]) == ("hold", "paused")
    assert "paused by mmp" in desk.mmp("doctor").stdout
    assert (desk.mmp(*APPLY).status, exchange.written()) == (9, [])
    desk.wants({"BTC-USD": "5s/2s/101"})
    assert desk.mmp("status", "--output", "json").document["pauses"] == []
    assert (desk.mmp(*APPLY).status, exchange.written()) == (0, ["BTC-USD"])


@pytest.mark.slow
def test_what_is_paused_is_not_written_until_it_is_resumed(desk: Desk, exchange: Exchange) -> None:
    desk.uses_state(exchange)
    desk.wants(BTC)
    desk.mmp("pause", "--family", "*", "--until-resumed")
    ended = desk.mmp(*APPLY)
    assert (ended.status, exchange.written()) == (9, [])
    resumed = desk.mmp("resume", "--family", "*", "--output", "json")
    assert resumed.document["pauses"] == []
    assert (desk.mmp(*APPLY).status, exchange.written()) == (0, ["BTC-USD"])


@pytest.mark.slow
def test_a_running_loop_leaves_a_paused_family_alone_and_heals_it_afterwards(
    desk: Desk, exchange: Exchange
) -> None:
    desk.wants(BTC)
    running = desk.start("run", "--assume-idle", "--interval", "1s")
    exchange.wait_for_requests(1)
    running.wait_for_log("request applied")
    desk.mmp("pause", "--family", "BTC-USD")
    exchange.change("BTC-USD", "5000/2000/900")
    running.wait_for_log("held")
    reads = len(exchange.arrivals("get"))
    eventually(lambda: len(exchange.arrivals("get")) > reads + 1, 10.0, "two more reads")
    assert exchange.written() == ["BTC-USD"]
    desk.mmp("resume", "--family", "BTC-USD")
    exchange.wait_for_requests(2)
    assert exchange.live()["BTC-USD"] == "5000/2000/100"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("pause", "--family", "DOGE-*"), "no-family"),
        (("resume", "--family", "DOGE-*"), "no-family"),
        (("pause", "--family", "BTC-USD", "--for", "0s"), "pause-span"),
        (("pause", "--family", "BTC-USD", "--for", "31d"), "pause-span"),
        (("pause", "--family", "BTC-USD", "--for", "soon"), "usage"),
        (("pause",), "usage"),
    ],
)
def test_a_pause_that_cannot_be_meant_is_a_usage_error(
    desk: Desk, arguments: tuple[str, ...], code: str
) -> None:
    desk.wants(BTC)
    ended = desk.mmp(*arguments, "--output", "json")
    assert ended.status == 64
    assert [one["code"] for one in json.loads(ended.stdout)["problems"]] == [code]


# Explaining and completing --------------------------------------------------------------------


def test_the_code_of_a_message_can_be_explained_without_file_and_state(desk: Desk) -> None:
    desk.wants(BTC)
    said = desk.mmp("plan", env={"OKX_API_KEY": None}).error_code
    nothing = dict.fromkeys(("OKX_API_KEY", "OKX_SECRET_KEY", "OKX_PASSPHRASE", "MMP_BASE_URL"))
    for name in (said, "okx-50119", "frozenInterval", "8"):
        ended = desk.mmp("explain", name, "--output", "json", env=nothing)
        assert ended.status == 0, ended.stderr
        assert ended.document["terms"][0]["meaning"]


def test_a_family_is_explained_from_its_file(desk: Desk) -> None:
    desk.config.write_text(
        "version: 1\nenvironment: live\ndefaults: {timeInterval: 5s, frozenInterval: 2s}\n"
        "families:\n  BTC-USD: {qtyLimit: 100}\n"
    )
    (desk.folder / "mmp-policy.yaml").write_text("version: 1\nprotected: [BTC-USD]\n")
    text = desk.mmp("explain", "BTC-USD").stdout
    assert "timeInterval    5s           from defaults, mmp.yaml:3:26" in text
    assert "qtyLimit        100          its own, mmp.yaml:5:23" in text
    assert "protected" in text
    assert "unmanaged" in desk.mmp("explain", "DOGE-USD").stdout


@pytest.mark.parametrize(("term", "near"), [("tmeInterval", "timeInterval"), ("btc-usd", "BTC-USD")])
def test_an_unknown_term_gets_a_suggestion(desk: Desk, term: str, near: str) -> None:
    ended = desk.mmp("explain", term)
    assert (ended.status, ended.error_code) == (64, "unknown-term")
    assert near in ended.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands_and_flags(desk: Desk, shell: str) -> None:
    script = desk.mmp("completion", shell)
    assert script.status == 0
    assert f"_MMP_COMPLETE={shell}_complete" in script.stdout
    asked = desk.mmp(env={"_MMP_COMPLETE": "bash_complete", "COMP_WORDS": "mmp doc", "COMP_CWORD": "1"})
    assert asked.stdout == "plain,doctor\n"
