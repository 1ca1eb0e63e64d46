"""Every command from the outside: exit statuses, usage, documents, help, environment variables of flags."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest

from tests.e2e.processes import MMP, Desk, Exchange, configured, simulator

pytestmark = pytest.mark.e2e

COMMANDS = ("validate", "plan", "apply", "run", "status", "history", "schema", "simulator", "demo")
BTC = {"BTC-USD": "5s/2s/100"}
APPLY = ("apply", "--yes", "--assume-idle")


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Desk]:
    """A folder without keys and without an exchange."""
    here = Desk(tmp_path / "alone", {})
    yield here
    here.close()


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_has_an_example(alone: Desk, command: str) -> None:
    ended = alone.mmp(command, "--help")
    assert (ended.status, ended.stderr) == (0, "")
    assert re.search(rf"Examples?:\n +mmp {command}", ended.stdout)


def test_the_help_of_all_names_every_command(alone: Desk) -> None:
    ended = alone.mmp("--help")
    assert all(f"\n  {command} " in ended.stdout for command in COMMANDS)
    assert alone.mmp("--version").stdout.startswith("mmp ")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("bogus",), "there is no command 'bogus'"),
        (("aply",), "did you mean 'apply'?"),
        (("plan", "--detailed-exitcodes"), "--detailed-exitcode"),
        (("plan", "--fail-on", "everything"), "unknown kind 'everything'"),
        (("apply", "--lock-timeout", "soon"), "write it like 500ms"),
        (("apply", "--allow", "disable"), "is not KIND:FAMILY"),
        (("apply", "--allow", "anything:BTC-USD"), "is not KIND:FAMILY"),
        (("plan", "--output", "xml"), "'xml' is not one of"),
        (("plan", "--state", "mysql://here"), "neither the path of a file nor postgresql:"),
        (("schema", "nothing"), "'nothing' is not one of"),
        (("plan", "--base-url", "http://example.com"), "http"),
        (("simulator", "--families", "btc"), "not an instrument family"),
        (("simulator", "--host", "0.0.0.0"), "loopback only"),
        (("plan", "surplus"), "surplus"),
        (("run", "--interval", "0"), "at least 1s"),
        (("run", "--interval", "999ms"), "at least 1s"),
        (("history", "--limit", "99999999999999999999"), "1<=x<=10000"),
        (("simulator", "--log-format", "xml"), "'xml' is not one of"),
        ((), "Usage"),
    ],
    ids=" ".join,
)
def test_a_slip_on_the_command_line_is_64_and_one_message(
    alone: Desk, arguments: tuple[str, ...], says: str
) -> None:
    alone.wants(BTC)
    ended = alone.mmp(*arguments)
    assert ended.status == 64
    assert says in ended.stderr + ended.stdout
    if arguments:
        assert len(ended.stderr.splitlines()) <= 2
        assert ended.stdout == ""


def test_a_family_that_matches_nothing_is_a_slip(desk: Desk) -> None:
    desk.wants(BTC)
    for command in ("plan", "apply"):
        ended = desk.mmp(command, "--family", "ETH-*")
        assert ended.status == 64
        assert "no desired family matches ETH-*" in ended.stderr


def test_family_globs_choose(desk: Desk, exchange: Exchange) -> None:
    desk.wants({"BTC-USD": "5s/2s/100", "BTC-USD_UM": "5s/2s/100", "ETH-USD": "5s/2s/100"})
    plan = desk.mmp("plan", "--family", "BTC-*", "--output", "json").document
    assert [change["family"] for change in plan["changes"]] == ["BTC-USD", "BTC-USD_UM"]
    assert plan["unmanaged"] == []
    assert desk.mmp(*APPLY, "--family", "*_UM").status == 0
    assert exchange.written() == ["BTC-USD_UM"]


@pytest.mark.slow
def test_a_plan_sends_nothing_and_leaves_no_trace(desk: Desk, exchange: Exchange) -> None:
    desk.wants(BTC)
    before = sorted(desk.folder.rglob("*"))
    assert desk.mmp("plan").status == 0
    assert sorted(desk.folder.rglob("*")) == before, "no state comes into being"
    assert desk.mmp(*APPLY).status == 0
    kept = desk.state.read_bytes()
    desk.wants({"BTC-USD": "5s/2s/90"})
    first, second = (desk.mmp("plan", "--output", "json", "--family", "*").document for _ in range(2))
    assert first["digest"] == second["digest"]
    assert desk.state.read_bytes() == kept
    assert exchange.written() == ["BTC-USD"]


@pytest.mark.slow
def test_exit_statuses_of_a_plan(desk: Desk, exchange: Exchange) -> None:
    exchange.change("BTC-USD", "5000/2000/100")
    desk.wants(BTC)
    assert desk.mmp("plan", "--detailed-exitcode").status == 0, "to adopt is no change"
    desk.wants({"BTC-USD": "5s/2s/200"})
    assert desk.mmp("plan").status == 0
    changed = desk.mmp("plan", "--detailed-exitcode")
    assert changed.status == 2
    assert "▼ loosen     BTC-USD  qtyLimit 100 → 200" in changed.stdout
    refused = desk.mmp("plan", "--detailed-exitcode", "--fail-on", "mixed,loosen")
    assert (refused.status, refused.error_code) == (3, "fail-on")
    assert "loosen" in refused.stderr.splitlines()[-1]
    assert "Plan: 1 to set" in refused.stdout, "the plan itself is shown all the same"
    assert desk.mmp("plan", "--fail-on", "mixed,disable,drift,policy").status == 0


def test_no_live_needs_no_keys(desk: Desk, exchange: Exchange) -> None:
    desk.wants(BTC)
    assert desk.mmp(*APPLY).status == 0
    desk.wants({"BTC-USD": "5s/2s/90"})
    keyless = dict.fromkeys(("OKX_API_KEY", "OKX_SECRET_KEY", "OKX_PASSPHRASE"))
    ended = desk.mmp("plan", "--no-live", env=keyless)
    assert ended.status == 0
    assert "compared with last applied only (live was not read)" in ended.stdout
    assert "▲ tighten    BTC-USD  qtyLimit 100 → 90" in ended.stdout
    assert len(exchange.arrivals("account")) == 1, "asked by the apply only"
    assert desk.mmp("plan", env=keyless).status == 8
    assert desk.mmp("apply", "--yes", "--no-live").status == 0
    assert exchange.live()["BTC-USD"] == "5000/2000/90"


@pytest.mark.slow
def test_switching_protection_off_is_refused_completely(desk: Desk, exchange: Exchange) -> None:
    exchange.change("BTC-USD", "5000/2000/100")
    desk.wants({"BTC-USD": "disabled/2s/100", "ETH-USD": "5s/2s/100"})
    plan = desk.mmp("plan")
    assert plan.status == 0
    assert '--allow disable:BTC-USD --reason "…"' in plan.stdout
    assert desk.mmp("plan", "--fail-on", "policy").status == 3
    refused = desk.mmp(*APPLY, "--output", "json")
    assert (refused.status, refused.error_code) == (3, "guard-disable")
    assert refused.outcomes == {"BTC-USD": "held", "ETH-USD": "skipped"}
    assert "--allow disable:BTC-USD" in refused.stderr
    seen = ("--expect", desk.mmp("plan", "--output", "json").document["digest"])
    other = desk.mmp(*APPLY, *seen, "--allow", "disable:ETH-USD")
    assert other.status == 3, "another family's does not do"
    assert exchange.written() == []
    allowed = desk.mmp(*APPLY, *seen, "--allow", "disable:BTC-USD", "--reason", "delisted")
    assert allowed.status == 0
    assert exchange.written() == ["ETH-USD", "BTC-USD"], "what switches off goes last"
    assert exchange.live()["BTC-USD"].startswith("0/")
    assert any(line.get("reason") == "delisted" for line in allowed.log)


def test_frozen_alone_is_9_and_beside_something_done_6(desk: Desk, exchange: Exchange) -> None:
    exchange.change("BTC-USD", "5000/2000/100")
    exchange.control("freeze", family="BTC-USD", ms=0)
    desk.wants({"BTC-USD": "5s/2s/90"})
    held = desk.mmp(*APPLY)
    assert held.status == 9
    assert "frozen by the exchange: not written until the freeze ends" in held.stdout
    desk.wants({"BTC-USD": "5s/2s/90", "ETH-USD": "5s/2s/100"})
    partly = desk.mmp(*APPLY, "--output", "json")
    assert (partly.status, partly.outcomes) == (6, {"BTC-USD": "held", "ETH-USD": "applied"})
    assert exchange.written() == ["ETH-USD"]


def test_without_yes_and_without_a_terminal_nothing_is_sent(desk: Desk, exchange: Exchange) -> None:
    exchange.change("BTC-USD", "5000/2000/100")
    desk.wants(BTC)
    assert desk.mmp("apply").status == 0, "nothing to send: nothing to ask"
    desk.wants({"BTC-USD": "5s/2s/90"})
    ended = desk.mmp("apply")
    assert (ended.status, ended.error_code) == (64, "not-approved")
    assert "1 request" in ended.stderr
    assert "--yes" in ended.stderr
    assert exchange.written() == []


def test_expect_wants_the_digest_that_was_reviewed(desk: Desk, exchange: Exchange) -> None:
    desk.wants(BTC)
    digest = desk.mmp("plan", "--output", "json").document["digest"]
    assert desk.mmp(*APPLY, "--expect", digest).status == 0
    desk.wants({"BTC-USD": "5s/2s/90"})
    stale = desk.mmp(*APPLY, "--expect", digest)
    assert (stale.status, stale.error_code) == (5, "unexpected-plan")
    assert exchange.written() == ["BTC-USD"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGHUP, 129), (signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_a_stopped_apply_settles_what_is_in_flight(
    desk: Desk, exchange: Exchange, number: signal.Signals, status: int
) -> None:
    exchange.control("fault", fault="set/slow@1")
    desk.wants({"BTC-USD": "5s/2s/100", "ETH-USD": "5s/2s/100"})
    running = desk.start(*APPLY, "--output", "json")
    exchange.wait_for_requests(1)
    running.signal(number)
    ended = running.wait()
    assert ended.status == status
    assert ended.outcomes == {"BTC-USD": "applied", "ETH-USD": "skipped"}
    assert "stopped by a signal" in ended.stderr
    assert exchange.written() == ["BTC-USD"]
    (attempt,) = desk.mmp("history", "--output", "json").document["attempts"]
    assert attempt["outcome"] == "applied"


def test_a_stopped_apply_does_not_wait_for_its_slot(desk: Desk, exchange: Exchange) -> None:
    desk.wants(BTC)
    running = desk.start("apply", "--yes")
    running.wait_for_log("planned")
    running.signal(signal.SIGTERM)
    ended = running.wait()
    assert (ended.status, exchange.written()) == (143, [])
    assert ended.seconds < 8


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("empty", b"", "state-empty"),
        ("text", b"this is my shopping list, and it is longer than a header " * 4, "state-not-sqlite"),
        ("truncated", None, "state-truncated"),
    ],
)
def test_a_damaged_state_is_refused_with_what_to_do(
    desk: Desk, exchange: Exchange, name: str, content: bytes | None, code: str
) -> None:
    desk.wants(BTC)
    if content is None:
        exchange.change("BTC-USD", "5000/2000/100")
        assert desk.mmp("apply").status == 0
        content = desk.state.read_bytes()[:5000]
    desk.state.parent.mkdir(mode=0o700, exist_ok=True)
    for path in desk.state.parent.iterdir():
        path.unlink()
    desk.state.write_bytes(content)
    desk.state.chmod(0o600)
    for command in ("apply", "plan", "status", "history", "run"):
        ended = desk.mmp(command, *(("--yes",) if command == "apply" else ()))
        assert (ended.status, ended.error_code) == (1, code), (command, ended.stderr)
        assert "help: " in ended.stderr
    assert desk.state.read_bytes() == content, "never silently recreated"
    assert exchange.written() == []


@pytest.mark.slow
def test_an_exchange_that_is_not_there_is_exit_1(alone: Desk) -> None:
    alone.wants(BTC)
    keys: dict[str, str | None] = {
        "OKX_API_KEY": "k-e-y-1",
        "OKX_SECRET_KEY": "s-e-c-r-e-t-1",
        "OKX_PASSPHRASE": "p-h-r-a-s-e-1",
    }
    flags = ("--base-url", "http://127.0.0.1:9")
    assert alone.mmp("plan", *flags, env=keys).status == 1
    ended = alone.mmp(*APPLY, *flags, "--timeout", "1s", "--output", "json", env=keys)
    assert ended.status == 1
    assert "could not connect" in ended.document["problems"][0]["message"]


def test_validate_checks_what_is_named_either_way(alone: Desk) -> None:
    for name in ("a", "b", "c"):
        alone.wants({"BTC-USD": "5s/2s/0"}, name=f"{name}.yaml", account=name)

    def checked(*arguments: str) -> list[str]:
        ended = alone.mmp("validate", *arguments, "--output", "json", env={"MMP_CONFIG": "c.yaml"})
        assert ended.status == 4
        return [problem["path"] for problem in ended.document["problems"]]

    assert checked("a.yaml", "-c", "b.yaml") == ["a.yaml", "b.yaml"]
    assert checked("a.yaml", "-c", "a.yaml") == ["a.yaml"], "the same file once"
    assert checked("a.yaml") == ["a.yaml"], "the variable is what is checked where nothing is named"
    assert checked() == ["c.yaml"]


def test_json_lines_are_all_of_stderr_where_they_were_asked_for(desk: Desk, exchange: Exchange) -> None:
    desk.wants({"BTC-USD": "0/2s/100"})
    exchange.change("BTC-USD", "5000/2000/100")
    json_lines = ("--log-format", "json")
    refused = desk.mmp(*APPLY, *json_lines)
    lines = [json.loads(line) for line in refused.stderr.splitlines()]
    assert (refused.status, lines[0]["level"], lines[0]["code"]) == (3, "warning", "bare-zero")
    assert (lines[-1]["level"], lines[-1]["code"]) == ("error", "guard-disable")
    assert (lines[-1]["exchange"], bool(lines[-1]["hint"])) == ("SIMULATOR", True)
    slip = desk.mmp("plan", "--mistyped", env={"MMP_LOG_FORMAT": "json"})
    assert [json.loads(line)["code"] for line in slip.stderr.splitlines()] == ["usage"]
    desk.config.write_text(BROKEN)
    broken = desk.mmp("plan", *json_lines)
    assert "unknown-key" in {json.loads(line)["code"] for line in broken.stderr.splitlines()}


def test_a_failure_at_the_simulator_says_so(desk: Desk, exchange: Exchange) -> None:
    desk.wants(BTC, expect='{uid: "1"}')
    for command in (("plan",), APPLY):
        assert "error[wrong-account]: SIMULATOR " in desk.mmp(*command).stderr
    assert "SIMULATOR" not in desk.mmp("validate", "--mistyped").stderr


BROKEN = "version: 1\nenvironment: live\nfamilies:\n  BTC-USD: {qtyLimt: 1}\n"


@pytest.mark.parametrize("command", ["validate", "plan", "apply", "run", "status", "history"])
def test_a_file_that_does_not_hold_is_4_and_a_document_of_its_problems(alone: Desk, command: str) -> None:
    alone.config.write_text(BROKEN)
    ended = alone.mmp(command, "--output", "json")
    assert ended.status == 4
    assert ended.document["format"] == "mmp/problems/1"
    codes = {problem["code"] for problem in ended.document["problems"]}
    assert {"unknown-key", "missing-key"} <= codes
    assert all(problem["path"] == "mmp.yaml" for problem in ended.document["problems"])
    as_text = alone.mmp(command)
    message = as_text.stdout if command == "validate" else as_text.stderr
    assert "error[unknown-key] mmp.yaml:4:13" in message
    assert "did you mean qtyLimit?" in message


@pytest.mark.parametrize(
    "command", ["plan", "apply", "run", "status", "history", "validate", "schema", "demo"]
)
def test_a_usage_error_is_a_document_too(alone: Desk, command: str) -> None:
    ended = alone.mmp(command, "--output", "json", "--mistyped")
    assert ended.status == 64
    assert [problem["code"] for problem in ended.document["problems"]] == ["usage"]


@pytest.mark.slow
def test_every_document_is_as_its_schema_says_and_all_of_stdout(desk: Desk, exchange: Exchange) -> None:
    exchange.change("ETH-USD", "5000/2000/100")
    desk.wants({"BTC-USD": "5s/2s/100", "ETH-USD": "5s/2s/100"})

    def held(schema: str, *arguments: str) -> str:
        document = desk.mmp(*arguments, "--output", "json").document
        jsonschema.validate(document, json.loads(desk.mmp("schema", schema).stdout))
        found: str = document["format"]
        return found

    assert held("problems", "validate") == "mmp/problems/1"
    assert held("status", "status") == "mmp/status/1"
    assert held("plan", "plan") == "mmp/plan/1"
    assert held("apply", *APPLY) == "mmp/apply/1"
    assert held("plan", "plan") == "mmp/plan/1"
    assert held("status", "status") == "mmp/status/1"
    assert held("problems", "plan", "--state", "pg://") == "mmp/problems/1"
    history = desk.mmp("history", "--output", "json").document
    assert history["format"] == "mmp/history/1"
    assert json.loads(desk.mmp("schema", "mmp").stdout)["$schema"].endswith("2020-12/schema")


def test_flags_have_twins_in_the_environment(desk: Desk, exchange: Exchange) -> None:
    desk.wants(BTC, name="other.yaml")
    twins: dict[str, str | None] = {
        "MMP_CONFIG": "other.yaml",
        "MMP_STATE": "elsewhere/mmp.db",
        "MMP_LOG_FORMAT": "console",
    }
    ended = desk.mmp(*APPLY, env=twins)
    assert ended.status == 0
    assert (desk.folder / "elsewhere" / "mmp.db").exists()
    assert "[info     ] request applied" in ended.stderr
    assert not desk.state.exists()
    assert desk.mmp("plan").status == 4, "without the twin there is no mmp.yaml"
    flag_wins = desk.mmp("plan", "-c", "missing.yaml", env=twins)
    assert "missing.yaml" in flag_wins.stderr


def test_files_are_closed_to_others(desk: Desk) -> None:
    desk.wants(BTC)
    assert desk.mmp(*APPLY).status == 0
    assert desk.state.parent.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in desk.state.parent.iterdir()} == {0o600}


@pytest.mark.parametrize(
    ("env", "flags", "colored"),
    [
        ({}, (), False),
        ({"FORCE_COLOR": "1"}, (), True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, (), False),
        ({"NO_COLOR": "1"}, ("--color", "always"), True),
        ({"FORCE_COLOR": "1"}, ("--color", "never"), False),
    ],
)
def test_colour_is_only_where_it_may_be(
    alone: Desk, env: dict[str, str | None], flags: tuple[str, ...], colored: bool
) -> None:
    alone.config.write_text(BROKEN)
    ended = alone.mmp("validate", *flags, env=env)
    assert ("\x1b[" in ended.stdout) is colored


@pytest.mark.parametrize("command", [("history",), ("status",), ("schema", "mmp"), ("validate",)])
def test_a_reader_that_closes_the_pipe_is_no_error(alone: Desk, command: tuple[str, ...]) -> None:
    alone.wants({f"AAA-USD_{number}": "5s/2s/100" for number in range(2000)})
    with subprocess.Popen(
        [MMP, *command],
        cwd=alone.folder,
        env=alone.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""


def test_several_accounts_are_refused_completely_when_one_is_wrong(tmp_path: Path) -> None:
    with simulator(families=configured("BTC-USD")) as exchange:
        desk = Desk(tmp_path / "desk", exchange.variables)
        (desk.folder / "all").mkdir()
        desk.wants({"BTC-USD": "disabled/2s/100"}, name="all/a.yaml", account="first")
        desk.wants({"ETH-USD": "5s/2s/100"}, name="all/b.yaml", account="second")
        refused = desk.mmp(*APPLY, "-c", "all", "--output", "json")
        assert (refused.status, exchange.written()) == (3, [])
        outcomes = [one["results"][0]["outcome"] for one in refused.document["applies"]]
        assert outcomes == ["held", "skipped"]
        desk.wants({"ETH-USD": "5s/2s/100"}, name="all/b.yaml", account="second", expect='{uid: "1"}')
        foreign = desk.mmp(*APPLY, "-c", "all", "--output", "json")
        assert (foreign.status, exchange.written()) == (8, [])
        assert foreign.document["problems"][0]["code"] == "wrong-account"
        desk.wants({"ETH-USD": "5s/2s/100"}, name="all/b.yaml", account="first")
        twice = desk.mmp("plan", "-c", "all")
        assert (twice.status, "duplicate-account" in twice.stderr) == (4, True)
        desk.close()
