"""Plans are applied as reviewed: changes that moved are skipped, unreviewed ones are refused."""

from __future__ import annotations

import json
import signal
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from reconciler.cli import plan_against
from reconciler.documents.saved_plan import integrity
from tests.e2e.processes import LIVE, Desk, Ended, Exchange, configured, eventually, simulator

pytestmark = pytest.mark.e2e

THREE = ("BTC-USD", "ETH-USD", "SOL-USD_UM")
TIGHTER = dict.fromkeys(THREE, "5s/2s/90")
APPLY = ("apply", "plan.json", "--yes", "--assume-idle", "--output", "json")


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    """A simulated exchange with three families configured alike."""
    with simulator(families=configured(*THREE)) as running:
        yield running


@pytest.fixture
def planned(desk: Desk) -> Desk:
    """A desk with a plan for three families in plan.json."""
    desk.wants(TIGHTER)
    assert desk.mmp("plan", "--out", "plan.json").status == 0
    return desk


def codes(ended: Ended) -> dict[str, str]:
    """Return the code of each family's result."""
    return {result["family"]: result["code"] for result in ended.document["results"]}


def edit(desk: Desk, change: Callable[[dict[str, Any]], None], *, sealed: bool = False) -> None:
    """Change the document in plan.json; ``sealed`` makes the integrity fit again."""
    path = desk.folder / "plan.json"
    document = json.loads(path.read_text())
    change(document)
    if sealed:
        document["saved"]["integrity"] = integrity(document)
    path.write_text(json.dumps(document))


# ---- applied as reviewed -----------------------------------------------------------------------


@pytest.mark.slow
def test_a_family_that_has_moved_is_skipped_and_the_others_proceed(
    planned: Desk, exchange: Exchange
) -> None:
    exchange.change("ETH-USD", "5000/2000/300")
    ended = planned.mmp(*APPLY)
    assert ended.status == 6, ended.stderr
    assert ended.outcomes == {"BTC-USD": "applied", "ETH-USD": "stale", "SOL-USD_UM": "applied"}
    message = {result["family"]: result["message"] for result in ended.document["results"]}
    assert message["ETH-USD"] == "changed since the plan file was made: qtyLimit is 300, not 100: skipped"
    assert sorted(exchange.written()) == ["BTC-USD", "SOL-USD_UM"], "nothing else was written"
    assert exchange.live()["ETH-USD"] == "5000/2000/300"
    again = planned.mmp(*APPLY)
    assert (again.status, again.outcomes) == (5, ended.outcomes), "nothing is left but what moved"
    assert codes(again) == {
        "BTC-USD": "already-applied",
        "ETH-USD": "stale",
        "SOL-USD_UM": "already-applied",
    }


@pytest.mark.slow
def test_when_everything_has_moved_nothing_is_sent(planned: Desk, exchange: Exchange) -> None:
    for family in THREE:
        exchange.change(family, "5000/2000/300")
    ended = planned.mmp(*APPLY)
    assert (ended.status, set(ended.outcomes.values())) == (5, {"stale"})
    assert exchange.written() == []


def test_a_change_since_the_plan_is_reported_beside_a_refusal(planned: Desk, exchange: Exchange) -> None:
    """By precedence the status is that of the stale plan. Without the refusal the rest would be sent."""
    exchange.change("ETH-USD", "5000/2000/300")
    (planned.folder / "mmp-policy.yaml").write_text(
        "version: 1\nbounds: {default: {qtyLimit: {min: 99}}}\n"
    )
    ended = planned.mmp(*APPLY)
    assert (ended.status, ended.error_code) == (5, "plan-moved"), ended.stderr
    assert "ETH-USD: changed since the plan file was made: qtyLimit is 300, not 100" in ended.stderr
    assert "the policy refuses BTC-USD: bounds.qtyLimit.min" in ended.stderr
    assert "--allow bounds:BTC-USD" in ended.stderr
    assert exchange.written() == []


def test_the_digest_of_an_applied_plan_file_is_the_file_s(planned: Desk, exchange: Exchange) -> None:
    digest = json.loads((planned.folder / "plan.json").read_text())["digest"]
    exchange.change("ETH-USD", "5000/2000/300")
    assert planned.mmp(*APPLY).document["digest"] == digest


@pytest.mark.slow
def test_what_was_no_change_in_the_review_is_not_made_one(desk: Desk, exchange: Exchange) -> None:
    """One family is unchanged in the plan and one only to be recorded; both move before the apply."""
    desk.wants({"BTC-USD": "5s/2s/100"})
    assert desk.mmp("apply", "--yes", "--assume-idle").status == 0
    desk.wants({"BTC-USD": "5s/2s/100", "ETH-USD": "5s/2s/100", "SOL-USD_UM": "5s/2s/90"})
    desk.mmp("plan", "--out", "plan.json")
    for family in ("BTC-USD", "ETH-USD"):
        exchange.change(family, "5000/2000/300")
    ended = desk.mmp(*APPLY)
    assert ended.outcomes == {"BTC-USD": "stale", "ETH-USD": "stale", "SOL-USD_UM": "applied"}
    assert (ended.status, exchange.written()) == (6, ["SOL-USD_UM"])


def test_what_is_as_desired_by_now_is_adopted(planned: Desk, exchange: Exchange) -> None:
    exchange.change("BTC-USD", "5000/2000/90")
    ended = planned.mmp(*APPLY)
    assert (ended.status, ended.outcomes["BTC-USD"]) == (0, "adopted")
    assert sorted(exchange.written()) == ["ETH-USD", "SOL-USD_UM"]


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "outcome"), [("lost-after", "adopted"), ("lost-before", "applied")])
def test_a_reply_of_our_own_that_is_lost_makes_nothing_stale(
    desk: Desk, exchange: Exchange, fault: str, outcome: str
) -> None:
    """The last applied setting is not the one the review found in force: the family had drifted."""
    desk.wants({"BTC-USD": "5s/2s/100"})
    assert desk.mmp("apply", "--yes", "--assume-idle").status == 0
    exchange.change("BTC-USD", "5000/2000/300")
    desk.mmp("plan", "--out", "plan.json")
    exchange.control("fault", fault=fault)
    ended = desk.mmp(*APPLY)
    assert (ended.status, ended.outcomes) == (0, {"BTC-USD": outcome}), ended.stderr
    assert exchange.live()["BTC-USD"] == LIVE


# ---- applied once -------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_rerun_of_a_plan_never_sends_again_what_the_desk_has_put_back(
    desk: Desk, exchange: Exchange
) -> None:
    desk.wants({"BTC-USD": "5s/2s/400", "ETH-USD": "5s/2s/90"})
    assert desk.mmp("plan", "--out", "plan.json").status == 0
    assert desk.mmp(*APPLY).status == 0
    sent = exchange.written()
    rerun = desk.mmp("apply", "plan.json", "--yes")
    assert (rerun.status, exchange.written()) == (0, sent)
    assert "BTC-USD  already applied at 20" in rerun.stdout
    assert "Done: 2 already applied." in rerun.stdout
    exchange.change("BTC-USD", LIVE)
    moved = desk.mmp(*APPLY)
    assert (moved.status, exchange.written()) == (5, sent), moved.stdout
    assert moved.outcomes == {"BTC-USD": "stale", "ETH-USD": "applied"}
    message = {result["family"]: result["message"] for result in moved.document["results"]}
    assert message["BTC-USD"].startswith("already applied at 20")
    assert message["BTC-USD"].endswith("changed since: qtyLimit is 100, not 400: not sent again")
    assert exchange.live()["BTC-USD"] == LIVE
    desk.mmp("plan", "--out", "plan.json")
    assert desk.mmp(*APPLY).outcomes == {"BTC-USD": "applied"}, "a new plan is a new review"


@pytest.mark.slow
def test_a_rerun_sends_only_what_was_never_acknowledged(planned: Desk, exchange: Exchange) -> None:
    assert planned.mmp(*APPLY, "--family", "BTC-*").outcomes == {"BTC-USD": "applied"}
    rest = planned.mmp(*APPLY)
    assert (rest.status, rest.outcomes) == (0, dict.fromkeys(THREE, "applied")), rest.stderr
    assert codes(rest) == {"BTC-USD": "already-applied", "ETH-USD": "0", "SOL-USD_UM": "0"}
    assert sorted(exchange.written()) == sorted(THREE)


@pytest.mark.slow
def test_what_was_found_in_force_is_not_sent_by_a_rerun_either(desk: Desk, exchange: Exchange) -> None:
    """Once it is adopted, once another apply of the file has applied it before the plan."""
    desk.wants({"BTC-USD": "5s/2s/400", "ETH-USD": "5s/2s/400"})
    assert desk.mmp("plan", "--out", "plan.json").status == 0
    exchange.change("BTC-USD", "5000/2000/400")
    assert desk.mmp("apply", "--yes", "--assume-idle", "--family", "ETH-*").status == 0
    ended = desk.mmp(*APPLY)
    assert (ended.status, set(ended.outcomes.values())) == (0, {"adopted"})
    sent = exchange.written()
    for family in ("BTC-USD", "ETH-USD"):
        exchange.change(family, LIVE)
    moved = desk.mmp(*APPLY)
    assert (moved.status, set(moved.outcomes.values())) == (5, {"stale"})
    assert (sent, exchange.written()) == (["ETH-USD"], ["ETH-USD"])


@pytest.mark.slow
def test_a_controller_that_finds_the_change_of_a_killed_apply_applies_it_for_good(
    desk: Desk, exchange: Exchange
) -> None:
    desk.wants({"BTC-USD": "5s/2s/400"})
    assert desk.mmp("plan", "--out", "plan.json").status == 0
    exchange.control("fault", fault="set/slow@30")
    applying = desk.start(*APPLY)
    eventually(lambda: exchange.live()["BTC-USD"] != LIVE, 30.0, "the request to take effect")
    applying.kill()
    running = desk.start("run", "--interval", "1s", "--assume-idle")
    eventually(lambda: "adopted" in running.err.read_text(), 60.0, "run to find what was applied")
    running.signal(signal.SIGTERM)
    running.wait()
    exchange.change("BTC-USD", LIVE)
    sent = exchange.written()
    assert (desk.mmp(*APPLY).status, exchange.written()) == (5, sent)


def test_a_plan_of_some_families_says_nothing_about_the_others(desk: Desk, exchange: Exchange) -> None:
    desk.wants(TIGHTER)
    desk.mmp("plan", "--family", "BTC-*", "--out", "plan.json")
    ended = desk.mmp(*APPLY)
    assert (ended.status, ended.outcomes) == (0, {"BTC-USD": "applied"})
    assert desk.mmp(*APPLY, "--family", "ETH-*").error_code == "no-family"


def test_family_and_expect_narrow_a_plan_down(planned: Desk, exchange: Exchange) -> None:
    digest = json.loads((planned.folder / "plan.json").read_text())["digest"]
    refused = planned.mmp(*APPLY, "--expect", "sha256:0")
    assert (refused.status, refused.error_code) == (5, "plan-stale")
    exchange.change("ETH-USD", "5000/2000/300")
    ended = planned.mmp(*APPLY, "--expect", digest, "--family", "B*", "--family", "E*")
    assert (ended.status, ended.outcomes) == (6, {"BTC-USD": "applied", "ETH-USD": "stale"})


def test_a_plan_is_asked_about_like_any_other_apply(planned: Desk, exchange: Exchange) -> None:
    ended = planned.mmp("apply", "plan.json")
    assert (ended.status, ended.error_code) == (64, "not-approved")
    assert exchange.written() == []


def test_the_policy_of_the_day_judges_what_the_plan_recorded(desk: Desk, exchange: Exchange) -> None:
    desk.wants({"BTC-USD": "5s/2s/400", "ETH-USD": "5s/2s/90"})
    policy = desk.folder / "mmp-policy.yaml"
    policy.write_text("version: 1\nloosening: {maxFactor: 2}\n")
    planned = desk.mmp("plan", "--out", "plan.json", "--output", "json")
    assert [refusal["allow"] for refusal in planned.document["refusals"]] == ["loosen:BTC-USD"]
    refused = desk.mmp(*APPLY)
    assert (refused.status, exchange.written()) == (3, []), "nothing at all is sent"
    policy.write_text("version: 1\nloosening: {maxFactor: 4}\n")
    ended = desk.mmp(*APPLY)
    assert (ended.status, set(ended.outcomes.values())) == (0, {"applied"})


# ---- refused ------------------------------------------------------------------------------------


EDITS: dict[str, Callable[[dict[str, Any]], None]] = {
    "another value": lambda plan: plan["changes"][0]["after"].update(qtyLimit="95"),
    "a later expiry": lambda plan: plan["saved"].update(expires_at="2999-01-01T00:00:00.000Z"),
    "another config": lambda plan: plan["config"].update(sha256="0" * 64),
    "a change less": lambda plan: plan["changes"].pop(),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_plan_is_refused(planned: Desk, exchange: Exchange, name: str) -> None:
    asked = len(exchange.arrivals("account"))
    edit(planned, EDITS[name])
    ended = planned.mmp(*APPLY)
    assert (ended.status, ended.error_code) == (4, "plan-edited")
    assert ended.document["problems"][0]["code"] == "plan-edited"
    assert (exchange.written(), len(exchange.arrivals("account"))) == ([], asked), "nobody was asked"
    assert planned.mmp("show", "plan.json").status == 4


def as_tightening(plan: dict[str, Any]) -> None:
    plan["changes"][0]["direction"] = "tighten"
    plan["summary"].update(loosen=0, tighten=1)


def test_a_loosening_that_is_forged_into_a_tightening_is_neither_shown_nor_applied(
    desk: Desk, exchange: Exchange
) -> None:
    """Integrity and digest are valid: a person who can write the file can compute both."""
    desk.wants({"BTC-USD": "5s/2s/90000"})
    assert desk.mmp("plan", "--out", "plan.json").status == 0
    edit(desk, as_tightening, sealed=True)
    for verb in (APPLY, ("show", "plan.json", "--output", "json")):
        ended = desk.mmp(*verb)
        assert (ended.status, ended.error_code) == (4, "plan-edited"), ended.stderr
    assert exchange.written() == []


BROKEN = {
    "no such file": (None, "plan-unreadable"),
    "not json": ("{", "plan-not-json"),
    "a key twice": ('{"format": "mmp/plan/1", "format": "mmp/plan/1"}', "plan-not-json"),
    "not a plan": ('{"format": "mmp/status/1"}', "plan-foreign"),
    "several plans": ('{"format": "mmp/plans/1", "plans": []}', "plan-foreign"),
    "too new": ('{"format": "mmp/plan/2"}', "plan-too-new"),
    "half a plan": ('{"format": "mmp/plan/1", "account": "main"}', "plan-malformed"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_saved_plan_is_refused(tmp_path: Path, name: str) -> None:
    content, code = BROKEN[name]
    desk = Desk(tmp_path / "desk", {})
    desk.wants(TIGHTER)
    if content is not None:
        (desk.folder / "plan.json").write_text(content)
    for verb in (("apply", "plan.json", "--yes"), ("show", "plan.json")):
        ended = desk.mmp(*verb, "--output", "json")
        assert (ended.status, ended.error_code) == (4, code)
        (problem,) = ended.document["problems"]
        assert (problem["code"], problem["path"], problem["line"]) == (code, "plan.json", 1)


def test_a_plan_that_was_only_printed_is_no_saved_plan(desk: Desk) -> None:
    desk.wants(TIGHTER)
    printed = desk.mmp("plan", "--output", "json")
    (desk.folder / "plan.json").write_text(printed.stdout)
    assert desk.mmp(*APPLY).error_code == "plan-not-saved"


def other_host(plan: dict[str, Any]) -> None:
    plan["host"] = "openapi.okx.com"


def other_kind(plan: dict[str, Any]) -> None:
    plan["simulator"] = plan["saved"]["simulator"] = False


def expired(plan: dict[str, Any]) -> None:
    plan["saved"].update(made_at="2026-01-01T00:00:00.000Z", expires_at="2026-01-02T00:00:00.000Z")


def from_the_future(plan: dict[str, Any]) -> None:
    plan["saved"].update(made_at="2999-01-01T00:00:00.000Z", expires_at="2999-01-02T00:00:00.000Z")


ELSEWHERE: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "host": (other_host, "its host is openapi.okx.com (simulator), not 127.0.0.1 (simulator)"),
    "kind": (other_kind, "its host is 127.0.0.1, not 127.0.0.1 (simulator)"),
    "expired": (expired, "it expired at 2026-01-02 00:00:00Z"),
    "future": (from_the_future, "in the future"),
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_plan_for_another_host_or_time_is_refused(planned: Desk, exchange: Exchange, name: str) -> None:
    change, says = ELSEWHERE[name]
    asked = len(exchange.arrivals("account"))
    edit(planned, change, sealed=True)
    ended = planned.mmp(*APPLY)
    assert (ended.status, ended.error_code) == (5, "plan-stale"), ended.stderr
    assert says in ended.stderr
    assert ended.document["problems"][0]["code"] == "plan-stale"
    assert (exchange.written(), len(exchange.arrivals("account"))) == ([], asked), "nobody was asked"


@pytest.mark.parametrize(
    ("top", "says"),
    [
        ({"account": "spare"}, "its account is main, not spare"),
        ({"environment": "demo"}, "its environment is live, not demo"),
        ({"defaults": "{timeInterval: 7s}"}, "the config has changed since"),
    ],
    ids=["account", "environment", "config"],
)
def test_a_plan_of_another_account_environment_or_config_is_refused(
    planned: Desk, exchange: Exchange, top: dict[str, str], says: str
) -> None:
    planned.wants(TIGHTER, **top)
    ended = planned.mmp(*APPLY)
    assert (ended.status, ended.error_code) == (5, "plan-stale")
    assert says in ended.stderr
    assert exchange.written() == []


def test_a_plan_of_another_user_id_is_refused(planned: Desk, exchange: Exchange) -> None:
    edit(planned, lambda plan: plan["saved"].update(uid="123"), sealed=True)
    ended = planned.mmp(*APPLY)
    assert (ended.status, ended.error_code) == (8, "wrong-account")
    assert "the plan file was made for 123" in ended.stderr
    assert exchange.written() == []


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("plan", "-c", "accounts", "--out", "plan.json"), "out-one"),
        (("apply", "plan.json", "-c", "accounts", "--yes"), "one-account"),
        (("plan", "--out", "plan.json", "--expires", "0s"), "expires"),
        (("plan", "--out", "plan.json", "--expires", "31d"), "expires"),
        (("plan", "--expires", "1h"), "expires-alone"),
        (("plan", "--out", "-"), "out-stdout"),
        (("plan", "--max-age", "1h"), "max-age-alone"),
        (("plan", "--no-live", "--against", "status.json"), "no-live-against"),
        (("apply", "plan.json", "--yes", "--no-live"), "no-live-plan"),
        (("plan", "--against", "http://example.com/status"), "against"),
        (("plan", "--against", "https://user:word@example.com/status"), "against"),
    ],
)
def test_flags_that_cannot_be_meant_so_are_usage_errors(
    planned: Desk, exchange: Exchange, arguments: tuple[str, ...], code: str
) -> None:
    (planned.folder / "accounts").mkdir()
    for account in ("first", "second"):
        planned.wants(TIGHTER, name=f"accounts/{account}.yaml", account=account)
    ended = planned.mmp(*arguments, "--output", "json")
    assert (ended.status, ended.error_code) == (64, code)
    assert ended.document["problems"][0]["code"] == code
    assert exchange.written() == []


def test_without_live_a_plan_made_without_live_can_be_applied(desk: Desk, exchange: Exchange) -> None:
    desk.wants({"BTC-USD": "5s/2s/90"})
    assert desk.mmp("plan", "--no-live", "--out", "plan.json").status == 0
    ended = desk.mmp(*APPLY, "--no-live")
    assert (ended.status, ended.outcomes) == (0, {"BTC-USD": "applied"})


# ---- the file, and how it is shown --------------------------------------------------------------


def test_a_plan_is_saved_completely_and_for_its_owner_alone(desk: Desk) -> None:
    desk.wants(TIGHTER)
    path = desk.folder / "plan.json"
    path.write_text("an older file that everybody may read")
    path.chmod(0o644)
    ended = desk.mmp("plan", "--out", "plan.json", "--output", "json", "--expires", "2h")
    assert ended.status == 0
    saved = json.loads(path.read_text())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert {name: value for name, value in saved.items() if name != "saved"} == ended.document
    assert saved["saved"]["simulator"] is True
    assert saved["saved"]["uid"] == "999000000001"
    assert [each.name for each in desk.folder.iterdir() if "plan" in each.name] == ["plan.json"]


def test_a_plan_that_cannot_be_saved_is_a_failure(desk: Desk) -> None:
    desk.wants(TIGHTER)
    for place in ("missing/plan.json", "."):
        ended = desk.mmp("plan", "--out", place, "--output", "json")
        assert (ended.status, ended.error_code) == (1, "out-unwritable")
        assert ended.document["problems"][0]["code"] == "out-unwritable"


def test_a_saved_plan_is_shown_as_it_was_made_and_a_stale_one_under_a_banner(planned: Desk) -> None:
    first = planned.mmp("plan").stdout.splitlines()
    shown = planned.mmp("show", "plan.json", env={"OKX_API_KEY": None})
    assert shown.status == 0
    assert "may be applied until" in shown.stdout.splitlines()[1]
    assert [line for line in shown.stdout.splitlines() if line not in first] == shown.stdout.splitlines()[
        1:2
    ]
    assert json.loads(planned.mmp("show", "plan.json", "--output", "json").stdout) == json.loads(
        (planned.folder / "plan.json").read_text()
    )
    edit(planned, expired, sealed=True)
    planned.wants({"BTC-USD": "5s/2s/80"})
    banner = "STALE: it expired at 2026-01-02 00:00:00Z; the config has changed since."
    assert planned.mmp("show", "plan.json").stdout.startswith(banner)
    marker, notice = planned.mmp("show", "plan.json", "--output", "markdown").stdout.splitlines()[:2]
    assert marker.startswith("<!-- mmp-plan")
    assert banner in notice
    as_json = planned.mmp("show", "plan.json", "--output", "json")
    assert (as_json.status, as_json.document["format"]) == (0, "mmp/plan/1")
    assert as_json.stderr.startswith(banner)


# ---- without keys -------------------------------------------------------------------------------


def without_keys(desk: Desk) -> dict[str, str | None]:
    """Return an environment without keys and without an exchange."""
    return {name: None for name in desk.environment if name.startswith(("OKX_", "MMP_"))}


@pytest.fixture
def published(desk: Desk, exchange: Exchange) -> Desk:
    """A desk in sync whose status is published in status.json; the file then wants less of BTC-USD."""
    desk.wants(dict.fromkeys(THREE, "5s/2s/100"))
    assert desk.mmp("apply", "--yes", "--assume-idle").status == 0
    (desk.folder / "status.json").write_text(desk.mmp("status", "--output", "json").stdout)
    desk.wants({**dict.fromkeys(THREE, "5s/2s/100"), "BTC-USD": "5s/2s/90"})
    return desk


def test_a_plan_against_a_published_status_is_the_plan_with_keys(
    published: Desk, exchange: Exchange
) -> None:
    ended = published.mmp(
        *("plan", "--against", "status.json", "--out", "plan.json", "--output", "json"),
        env=without_keys(published),
    )
    assert ended.status == 0, ended.stderr
    with_keys = published.mmp("plan", "--output", "json").document
    for name in ("digest", "basis", "host", "config", "unchanged", "unmanaged"):
        assert ended.document[name] == with_keys[name]
    assert ended.document["against"]["source"] == "status.json"
    assert 0 <= ended.document["against"]["age_seconds"] < 60
    text = published.mmp("plan", "--against", "status.json", env=without_keys(published)).stdout
    assert text.startswith("SIMULATOR main (live) at 127.0.0.1")
    assert "compared with what status.json says is live, " in text.splitlines()[0]
    assert " s old" in text.splitlines()[0]
    applied = published.mmp(*APPLY)
    assert (applied.status, exchange.written()) == (0, ["BTC-USD"])


def test_a_status_that_is_too_old_or_of_another_account_is_no_basis(published: Desk) -> None:
    env = without_keys(published)
    late = published.mmp("plan", "--against", "status.json", "--max-age", "0s", "--output", "json", env=env)
    assert (late.status, late.error_code) == (5, "status-too-old")
    assert late.document["problems"][0]["code"] == "status-too-old"
    for top, code in (
        ({"account": "spare"}, "another-account"),
        ({"environment": "demo"}, "another-account"),
        ({"expect": '{uid: "123"}'}, "wrong-account"),
    ):
        published.wants(TIGHTER, **top)
        ended = published.mmp("plan", "--against", "status.json", env=env)
        assert (ended.status, ended.error_code) == (8, code)
    (published.folder / "status.json").write_text('{"format": "mmp/plan/1"}')
    assert published.mmp("plan", "--against", "status.json", env=env).error_code == "status-foreign"


@contextmanager
def web(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """Serve what ``answer`` writes, on loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_a_status_can_be_fetched_and_nothing_but_what_was_named_is_asked(published: Desk) -> None:
    content = (published.folder / "status.json").read_bytes()
    env = without_keys(published)
    asked: list[tuple[str, str | None]] = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        asked.append((request.path, request.headers.get("OK-ACCESS-KEY")))
        name = request.path.partition("?")[0]
        request.send_response({"/moved": 302, "/gone": 404}.get(name, 200))
        request.send_header("Location", "/status")
        for number in range(500):
            request.send_header(f"X-Hop-{number}", "as gateways add them")
        request.end_headers()
        request.wfile.write(content if name == "/status" else b"{}")

    with web(answer) as url:
        ended = published.mmp(
            "plan", "--against", f"{url}/status?token=hidden", "--output", "json", env=env
        )
        assert ended.status == 0, ended.stderr
        assert ended.document["against"]["source"] == f"{url}/status"
        moved, gone, other = (
            published.mmp("plan", "--against", f"{url}/{name}", env=env)
            for name in ("moved", "gone", "other")
        )
    assert asked == [("/status?token=hidden", None), ("/moved", None), ("/gone", None), ("/other", None)]
    assert (moved.status, moved.error_code, gone.status) == (1, "status-unreachable", 1)
    assert (other.status, other.error_code) == (4, "status-foreign")
    unreachable = published.mmp("plan", "--against", f"{url}/status", env=env)
    assert (unreachable.status, unreachable.error_code) == (1, "status-unreachable")


Drip = Callable[[socket.socket], None]
"""Writes to a client for as long as that listens; raises OSError when it has gone."""


def slow_headers(client: socket.socket) -> None:
    client.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while True:
        client.sendall(b"a")
        time.sleep(0.2)


def endless_continue(client: socket.socket) -> None:
    while True:
        client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        time.sleep(0.01)


def slow_body(client: socket.socket) -> None:
    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while True:
        client.sendall(b" ")
        time.sleep(0.2)


def silence(client: socket.socket) -> None:
    while client.recv(1024):
        pass


@contextmanager
def dripping(drip: Drip) -> Iterator[str]:
    """Serve one client after the other as ``drip`` does."""

    def serve(client: socket.socket) -> None:
        with client, suppress(OSError):
            client.recv(65536)
            drip(client)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/status"


@pytest.mark.slow
@pytest.mark.parametrize("drip", [slow_headers, endless_continue, slow_body, silence])
def test_a_fetch_has_one_deadline_whatever_the_server_sends(published: Desk, drip: Drip) -> None:
    with dripping(drip) as url:
        begun = time.monotonic()
        ended = published.mmp("plan", "--against", url, env=without_keys(published))
        took_s = time.monotonic() - begun
    assert (ended.status, ended.error_code) == (1, "status-unreachable")
    assert plan_against.TIMEOUT_S <= took_s < plan_against.TIMEOUT_S + 5.0


@pytest.mark.slow
def test_a_fetch_can_be_interrupted(published: Desk) -> None:
    with dripping(slow_headers) as url:
        running = published.start("plan", "--against", url, env=without_keys(published))
        time.sleep(3.0)
        begun = time.monotonic()
        running.signal(signal.SIGINT)
        assert running.wait().status == 130
        assert time.monotonic() - begun < 2.0
