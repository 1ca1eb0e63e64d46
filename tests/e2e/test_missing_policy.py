"""A policy file that disappears: the installed command reports it as missing, which is not "no policy"."""

from __future__ import annotations

import hashlib
import json
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.processes import (
    Desk,
    Ended,
    Exchange,
    Running,
    configured,
    eventually,
    put_in_place,
    simulator,
)
from tests.support.webhook import webhook

pytestmark = pytest.mark.e2e

TWO = ("BTC-USD", "ETH-USD")
APPLY = ("apply", "--yes", "--assume-idle", "--output", "json")
RUN = ("run", "--assume-idle", "--interval", "1s")
POLICY = "version: 1\nloosening: {maxFactor: 2}\nbounds: {default: {qtyLimit: {max: 1000}}}\n"
SHA = hashlib.sha256(POLICY.encode()).hexdigest()
OTHER = "version: 1\nloosening: {maxFactor: 3}\n"
AS_LIVE = dict.fromkeys(TWO, "5s/2s/100")
MIXED_UP = {"BTC-USD": "5s/2s/150", "ETH-USD": "5s/2s/50"}
"""One family a little looser, within the policy, and one tighter."""
GIVE_UP = ("--no-policy", SHA, "--reason", "the desk moved")
MISSING = "the policy file mmp-policy.yaml is missing: it was in use since "


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    """A simulated exchange with two families configured alike."""
    with simulator(families=configured(*TWO)) as running:
        yield running


def policies(desk: Desk) -> list[tuple[str, str, str | None]]:
    document = desk.mmp("history", "--output", "json").document
    return [(one["change"], one["sha256"], one["reason"]) for one in document["policies"]]


@pytest.fixture
def lost(desk: Desk, exchange: Exchange) -> Desk:
    """A desk that applied under a policy whose file is gone, and that now wants other settings."""
    desk.wants(AS_LIVE)
    put_in_place(desk.folder / "mmp-policy.yaml", POLICY)
    ended = desk.mmp(*APPLY)
    assert ended.status == 0, ended.stderr
    assert exchange.written() == []
    (desk.folder / "mmp-policy.yaml").unlink()
    desk.wants(MIXED_UP)
    return desk


def refusals(document: Any) -> dict[str, tuple[str, str | None]]:
    return {one["family"]: (one["rule"], one["allow"]) for one in document["refusals"]}


# ---- output ----------------------------------------------------------------------------------------


def test_a_plan_refuses_to_loosen_and_says_what_is_missing(lost: Desk) -> None:
    ended = lost.mmp("plan", "--output", "json")
    assert ended.status == 0, ended.stderr
    plan = ended.document
    assert plan["policy"] == {"path": "mmp-policy.yaml", "sha256": SHA, "missing": True}
    assert {one["family"]: one["because"] for one in plan["changes"]} == {
        "BTC-USD": "policy",
        "ETH-USD": None,
    }
    assert refusals(plan) == {"BTC-USD": ("policy", None)}
    assert f"warning[policy-missing]: SIMULATOR {MISSING}" in ended.stderr
    assert f"(sha256 {SHA})" in ended.stderr
    assert "restore the file, name it with --policy FILE, or give the policy up:" in ended.stderr
    assert f"--no-policy {SHA[:12]} --reason" in ended.stderr
    assert lost.mmp("plan", "--fail-on", "policy").status == 3
    assert refusals(lost.mmp("plan", "--no-live", "--output", "json").document) == refusals(plan)


def test_text_and_markdown_say_so_and_name_no_override(lost: Desk) -> None:
    text, markdown = lost.mmp("plan").stdout, lost.mmp("plan", "--output", "markdown").stdout
    for shown in (text, markdown):
        assert "is missing (sha256 " in shown
        assert "changes that loosen or disable are refused" in shown
        assert "--allow" not in shown


def test_a_saved_plan_says_so_too(lost: Desk) -> None:
    assert lost.mmp("plan", "--out", "plan.json").status == 0
    shown = lost.mmp("show", "plan.json")
    assert shown.status == 0, shown.stderr
    assert "is missing (sha256 " in shown.stdout
    ended = lost.mmp("apply", "plan.json", *APPLY[1:])
    assert (ended.status, ended.error_code) == (4, "policy-missing"), ended.stderr
    assert ended.outcomes == {"BTC-USD": "held", "ETH-USD": "applied"}


def test_status_shows_what_is_held_and_why(lost: Desk) -> None:
    ended = lost.mmp("status", "--output", "json")
    assert ended.status == 0, ended.stderr
    states = {one["family"]: one["state"] for one in ended.document["families"]}
    assert states == {"BTC-USD": "held", "ETH-USD": "pending"}
    assert MISSING in ended.stderr


def test_the_doctor_finds_it(lost: Desk) -> None:
    ended = lost.mmp("doctor", "--output", "json")
    assert ended.status == 4
    (finding,) = [one for one in ended.document["results"] if one["check"] == "policy"]
    assert MISSING in json.dumps(finding)
    assert lost.mmp("apply", *APPLY[1:], *GIVE_UP).status == 0
    assert lost.mmp("doctor").status == 0


def test_a_family_that_the_remembered_policy_protects_cannot_be_paused(
    desk: Desk, exchange: Exchange
) -> None:
    desk.wants(AS_LIVE)
    put_in_place(desk.folder / "mmp-policy.yaml", "version: 1\nprotected: [BTC-USD]\n")
    assert desk.mmp(*APPLY).status == 0
    (desk.folder / "mmp-policy.yaml").unlink()
    ended = desk.mmp("pause", "--family", "BTC-USD")
    assert (ended.status, ended.error_code) == (3, "policy")
    assert desk.mmp("pause", "--family", "ETH-USD").status == 0


# ---- apply -----------------------------------------------------------------------------------------


def test_apply_sends_what_protects_and_exits_4(lost: Desk, exchange: Exchange) -> None:
    ended = lost.mmp(*APPLY)
    assert (ended.status, ended.error_code) == (4, "policy-missing"), ended.stderr
    assert exchange.written() == ["ETH-USD"]
    assert ended.outcomes == {"BTC-USD": "held", "ETH-USD": "applied"}
    assert MISSING in ended.stderr
    assert "were not sent: BTC-USD" in ended.stderr
    again = lost.mmp(*APPLY)
    assert (again.status, exchange.written()) == (4, ["ETH-USD"])


@pytest.mark.slow
def test_apply_heals_enables_and_never_disables(lost: Desk, exchange: Exchange) -> None:
    exchange.change("BTC-USD", "5000/2000/90000")
    exchange.change("ETH-USD", "0/2000/100")
    lost.wants(AS_LIVE)
    assert lost.mmp(*APPLY).status == 4
    assert exchange.live() == dict.fromkeys(TWO, "5000/2000/100")
    lost.wants({**AS_LIVE, "ETH-USD": "disabled/2s/100"})
    before = exchange.written()
    ended = lost.mmp(*APPLY, "--allow", "disable:ETH-USD", "--reason", "x", *expect(lost))
    assert (ended.status, exchange.written()) == (4, before), "nothing overrides it"


def expect(desk: Desk) -> tuple[str, str]:
    return "--expect", desk.mmp("plan", "--output", "json").document["digest"]


def test_apply_exits_4_where_there_is_nothing_to_do(lost: Desk, exchange: Exchange) -> None:
    lost.wants(AS_LIVE)
    ended = lost.mmp(*APPLY)
    assert (ended.status, ended.error_code, exchange.written()) == (4, "policy-missing", [])


@pytest.mark.slow
def test_the_remembered_rules_judge_what_enables(lost: Desk, exchange: Exchange) -> None:
    exchange.change("ETH-USD", "0/2000/100")
    lost.wants({"BTC-USD": "5s/2s/100", "ETH-USD": "5s/2s/5000"})
    ended = lost.mmp(*APPLY)
    assert (ended.status, exchange.written()) == (4, ["ETH-USD"])
    assert exchange.live()["ETH-USD"] == "5000/2000/100", "the accepted setting is restored"
    refused = lost.mmp("plan", "--output", "json").document["refusals"]
    assert [(one["rule"], one["allow"]) for one in refused] == [
        ("bounds.qtyLimit.max", "bounds:ETH-USD"),
        ("loosening.maxFactor", "loosen:ETH-USD"),
        ("policy", None),
    ]


def test_the_file_counts_again_once_it_is_back(lost: Desk, exchange: Exchange) -> None:
    put_in_place(lost.folder / "mmp-policy.yaml", POLICY)
    assert lost.mmp(*APPLY).status == 0
    assert sorted(exchange.written()) == list(TWO)
    assert policies(lost) == [("in-use", SHA, None)]


def test_an_invalid_or_named_file_that_is_missing_sends_nothing(lost: Desk, exchange: Exchange) -> None:
    named = lost.mmp(*APPLY, "--policy", "mmp-policy.yaml")
    assert (named.status, exchange.written()) == (4, [])
    put_in_place(lost.folder / "mmp-policy.yaml", "version: 1\nbroken: 1\n")
    assert (lost.mmp(*APPLY).status, exchange.written()) == (4, [])


def test_several_accounts_end_with_4_too(lost: Desk, exchange: Exchange) -> None:
    lost.wants({"SOL-USD_UM": "5s/2s/7"}, name="other.yaml", account="other")
    ended = lost.mmp(*APPLY, "-c", "mmp.yaml", "-c", "other.yaml")
    assert ended.status == 4, ended.stderr
    assert sorted(exchange.written()) == ["ETH-USD", "SOL-USD_UM"]


# ---- removing the policy ---------------------------------------------------------------------------


@pytest.mark.slow
def test_no_policy_names_the_policy_that_is_given_up_and_is_recorded_once(
    lost: Desk, exchange: Exchange
) -> None:
    seen = lost.mmp("plan", "--no-policy", SHA[:12], "--output", "json")
    assert (seen.status, seen.document["policy"], seen.document["refusals"]) == (0, None, [])
    assert policies(lost) == [("in-use", SHA, None)], "a plan records nothing"
    ended = lost.mmp(*APPLY, *GIVE_UP)
    assert ended.status == 0, ended.stderr
    assert sorted(exchange.written()) == list(TWO)
    given_up = [("given-up", SHA, "the desk moved"), ("in-use", SHA, None)]
    assert policies(lost) == given_up
    lost.wants({"BTC-USD": "5s/2s/900", "ETH-USD": "5s/2s/50"})
    assert lost.mmp(*APPLY).status == 0
    assert lost.mmp(*APPLY, *GIVE_UP).status == 0
    assert policies(lost) == given_up
    text = lost.mmp("history").stdout
    assert f"policy     in use: mmp-policy.yaml (sha256 {SHA[:12]})" in text
    assert f"policy     given up: mmp-policy.yaml (sha256 {SHA[:12]}): the desk moved" in text


def test_a_file_that_is_found_again_counts_again(lost: Desk, exchange: Exchange) -> None:
    assert lost.mmp(*APPLY, *GIVE_UP).status == 0
    put_in_place(lost.folder / "mmp-policy.yaml", POLICY)
    assert lost.mmp(*APPLY).status == 0
    assert [change for change, *_ in policies(lost)] == ["in-use", "given-up", "in-use"]
    (lost.folder / "mmp-policy.yaml").unlink()
    assert lost.mmp(*APPLY).status == 4


def test_no_policy_is_void_for_any_other(lost: Desk, exchange: Exchange) -> None:
    other = hashlib.sha256(OTHER.encode()).hexdigest()
    ended = lost.mmp(*APPLY, "--no-policy", other, "--reason", "x")
    assert (ended.status, ended.error_code) == (3, "no-policy-other")
    assert f"(sha256 {SHA})" in ended.stderr
    assert exchange.written() == []
    assert lost.mmp("plan", "--no-policy", other).status == 3
    assert [change for change, *_ in policies(lost)] == ["in-use"]


def test_a_plan_that_is_not_approved_gives_nothing_up(lost: Desk, exchange: Exchange) -> None:
    ended = lost.mmp(*APPLY, *GIVE_UP, "--expect", "sha256:" + "0" * 64)
    assert (ended.status, exchange.written()) == (5, [])
    assert [change for change, *_ in policies(lost)] == ["in-use"]


@pytest.mark.parametrize(
    ("flags", "code"),
    [
        (("--no-policy", SHA), "no-reason"),
        (("--no-policy", SHA, "--reason", " "), "no-reason"),
        ((*GIVE_UP, "--policy", "x.yaml"), "no-policy-named"),
    ],
)
@pytest.mark.parametrize("verb", ["apply", "run"])
def test_what_no_policy_cannot_be_given_with(
    lost: Desk, exchange: Exchange, verb: str, flags: tuple[str, ...], code: str
) -> None:
    put_in_place(lost.folder / "x.yaml", POLICY)
    ended = lost.mmp(verb, *flags)
    assert (ended.status, ended.error_code, exchange.written()) == (64, code, [])


@pytest.mark.parametrize("words", ["12ab", "z" * 64, SHA + "0", ""])
def test_a_hash_that_is_none(lost: Desk, words: str) -> None:
    ended = lost.mmp("apply", "--no-policy", words, "--reason", "x")
    assert ended.status == 64
    assert "12 to 64 hex digits" in ended.stderr


@pytest.mark.parametrize("verb", ["apply", "run", "plan"])
def test_a_policy_that_is_found_is_not_given_up(lost: Desk, exchange: Exchange, verb: str) -> None:
    put_in_place(lost.folder / "mmp-policy.yaml", POLICY)
    ended = lost.mmp(verb, *(GIVE_UP if verb != "plan" else GIVE_UP[:2]))
    assert (ended.status, ended.error_code, exchange.written()) == (64, "no-policy-found", [])


# ---- run -------------------------------------------------------------------------------------------


def stopped(running: Running) -> Ended:
    running.signal(signal.SIGTERM)
    return running.wait()


@pytest.mark.slow
def test_run_without_the_file_holds_what_loosens_until_the_file_is_back(
    lost: Desk, exchange: Exchange
) -> None:
    with webhook() as hook:
        running = lost.start(*RUN, env={"MMP_NOTIFY": hook.url()})
        line = running.wait_for_log("policy invalid")
        assert (line["code"], line["level"]) == ("policy-missing", "error")
        assert MISSING in line["reason"]
        exchange.wait_for_requests(1)
        time.sleep(2.5)
        assert exchange.written() == ["ETH-USD"]
        exchange.change("BTC-USD", "5000/2000/90000")
        eventually(lambda: exchange.live()["BTC-USD"] == "5000/2000/100", 15.0, "the accepted setting")
        put_in_place(lost.folder / "mmp-policy.yaml", POLICY)
        running.wait_for_log("policy accepted")
        ended = stopped(running)
        assert ended.status == 0
        assert len([one for one in ended.log if "policy invalid" in one["event"]]) == 1
        turns = [one["status"] for one in hook.documents() if one["kind"] == "policy-invalid"]
        assert turns == ["firing", "resolved"]
    assert policies(lost) == [("in-use", SHA, None)]


def test_run_gives_up_the_policy_it_names_and_no_other(lost: Desk, exchange: Exchange) -> None:
    running = lost.start(*RUN, "--no-policy", "0" * 64, "--reason", "x")
    line = running.wait_for_log("policy invalid")
    assert "--no-policy names another policy" in line["reason"]
    exchange.wait_for_requests(1)
    stopped(running)
    assert exchange.written() == ["ETH-USD"]
    running = lost.start(*RUN, *GIVE_UP)
    running.wait_for_log("policy given up")
    exchange.wait_for_requests(2)
    ended = stopped(running)
    assert sorted(exchange.written()) == list(TWO)
    assert "policy invalid" not in ended.stderr
    assert [change for change, *_ in policies(lost)] == ["given-up", "in-use"]


@pytest.mark.slow
def test_run_records_the_policy_it_is_under_and_each_that_follows(desk: Desk, exchange: Exchange) -> None:
    desk.wants(AS_LIVE)
    put_in_place(desk.folder / "mmp-policy.yaml", POLICY)
    running = desk.start(*RUN)
    running.wait_for_log("policy accepted")
    eventually(lambda: len(policies(desk)) == 1, 15.0, "the policy to be on record")
    put_in_place(desk.folder / "mmp-policy.yaml", OTHER)
    eventually(lambda: len(policies(desk)) == 2, 15.0, "the next policy to be on record")
    (desk.folder / "mmp-policy.yaml").unlink()
    running.wait_for_log("policy invalid")
    stopped(running)
    assert [change for change, *_ in policies(desk)] == ["in-use", "in-use"]
