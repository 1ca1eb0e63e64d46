"""Accepted settings beside live ones: adoptions, fields that stay tighter, the history, imports."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.processes import Desk, Ended, Exchange, configured, put_in_place, simulator

pytestmark = pytest.mark.e2e

TWO = ("BTC-USD", "ETH-USD")
APPLY = ("apply", "--yes", "--assume-idle", "--output", "json")
FACTOR_2 = "version: 1\nloosening: {maxFactor: 2}\n"
SAME = {"BTC-USD": "5s/2s/100", "ETH-USD": "5s/2s/100"}


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    """A simulated exchange with two families configured alike."""
    with simulator(families=configured(*TWO)) as running:
        yield running


@pytest.fixture
def accepted(desk: Desk) -> Desk:
    """A desk whose accepted setting 5s/2s/100 is in force for both families."""
    desk.wants(SAME)
    assert desk.mmp(*APPLY).status == 0
    return desk


def under(desk: Desk, policy: str) -> None:
    put_in_place(desk.folder / "mmp-policy.yaml", policy)


def changes(desk: Desk) -> dict[str, Any]:
    return {one["family"]: one for one in desk.mmp("plan", "--output", "json").document["changes"]}


def printed(ended: Ended, words: str) -> tuple[str, ...]:
    """Return the arguments of the command that is printed after ``words``."""
    text = ended.stderr[ended.stderr.index(words) + len(words) :].partition("\n")[0].partition(";")[0]
    name, *arguments = shlex.split(text)
    assert name == "mmp"
    return *arguments, "--yes", "--assume-idle", "--output", "json"


# ---- adoptions ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_adoption_that_loosens_is_shown_counted_and_in_the_history(
    accepted: Desk, exchange: Exchange
) -> None:
    assert accepted.mmp("plan", "--detailed-exitcode").status == 0
    exchange.change("BTC-USD", "5000/2000/300")
    accepted.wants({**SAME, "BTC-USD": "5s/2s/300"})
    change = changes(accepted)["BTC-USD"]
    assert (change["action"], change["direction"], change["is_live"]) == ("adopt", "loosen", True)
    assert (change["before"]["qtyLimit"], change["after"]["qtyLimit"], change["factor"]) == (
        "100",
        "300",
        "3",
    )
    assert accepted.mmp("plan", "--detailed-exitcode").status == 2
    assert accepted.mmp("plan", "--fail-on", "loosen").status == 3
    assert accepted.mmp("plan", "--fail-on", "mixed,disable,drift,policy").status == 0
    assert "Less protection: 1 looser." in accepted.mmp("plan", "--output", "markdown").stdout
    assert accepted.mmp("plan", "--output", "gitlab").document["update"] == 1
    text = accepted.mmp("plan").stdout
    assert (
        "▼ adopt      BTC-USD  qtyLimit 100 → 300  (loosen from the accepted setting; live is already"
        in text
    )
    ended = accepted.mmp(*APPLY)
    assert (ended.status, ended.outcomes) == (0, {"BTC-USD": "adopted"}), ended.stderr
    assert exchange.written() == []
    newest = accepted.mmp("history", "--output", "json").document["accepted"][0]
    assert (newest["family"], newest["how"], newest["direction"]) == ("BTC-USD", "adopted", "loosen")
    assert (newest["before"]["qtyLimit"], newest["after"]["qtyLimit"]) == ("100", "300")
    assert "adopted    qtyLimit 100 → 300  (loosen from the accepted" in accepted.mmp("history").stdout
    assert changes(accepted) == {}


@pytest.mark.slow
def test_a_refused_adoption_stops_an_apply_until_it_is_allowed(accepted: Desk, exchange: Exchange) -> None:
    under(accepted, FACTOR_2)
    exchange.change("BTC-USD", "5000/2000/300")
    accepted.wants({"BTC-USD": "5s/2s/300", "ETH-USD": "5s/2s/50"})
    ended = accepted.mmp(*APPLY)
    assert (ended.status, ended.error_code) == (3, "policy")
    assert "BTC-USD: loosening.maxFactor: ×3, limit ×2" in ended.stderr
    assert "to restore the accepted setting" in ended.stderr
    assert exchange.written() == []
    assert changes(accepted)["BTC-USD"]["because"] == "policy"
    assert accepted.mmp("plan", "--fail-on", "policy").status == 3
    allowed = accepted.mmp(*printed(ended, "if this is intended: "))
    assert (allowed.status, allowed.outcomes) == (0, {"BTC-USD": "adopted"}), allowed.stderr
    assert exchange.written() == []
    newest = accepted.mmp("history", "--output", "json").document["accepted"][0]
    assert newest["override"] == "loosen:BTC-USD"


@pytest.mark.slow
def test_a_paused_family_is_not_adopted_unjudged(accepted: Desk, exchange: Exchange) -> None:
    under(accepted, FACTOR_2)
    assert accepted.mmp("pause", "--family", "BTC-USD", "--for", "30m", "--reason", "testing").status == 0
    exchange.change("BTC-USD", "5000/2000/300")
    accepted.wants({**SAME, "BTC-USD": "5s/2s/300"})
    assert accepted.mmp(*APPLY).status == 3


@pytest.mark.slow
def test_a_reviewed_adoption_is_judged_again(accepted: Desk, exchange: Exchange) -> None:
    exchange.change("BTC-USD", "5000/2000/300")
    accepted.wants({**SAME, "BTC-USD": "5s/2s/300"})
    assert accepted.mmp("plan", "--out", "plan.json").status == 0
    assert "loosen from the accepted setting" in accepted.mmp("show", "plan.json").stdout
    under(accepted, FACTOR_2)
    ended = accepted.mmp("apply", "plan.json", "--yes", "--assume-idle", "--output", "json")
    assert ended.status == 3, ended.stderr
    (accepted.folder / "mmp-policy.yaml").write_text("version: 1\nloosening: {maxFactor: 4}\n")
    ended = accepted.mmp("apply", "plan.json", "--yes", "--assume-idle", "--output", "json")
    assert (ended.status, ended.outcomes) == (0, {"BTC-USD": "adopted"}), ended.stderr


def test_what_is_recorded_with_nothing_on_record_is_reported_if_the_policy_forbids_it(
    desk: Desk, exchange: Exchange
) -> None:
    under(desk, "version: 1\nbounds: {default: {qtyLimit: {max: 50}}}\n")
    desk.wants(SAME)
    message = "BTC-USD: nothing is on record, so live is recorded as it is"
    plan = desk.mmp("plan", "--detailed-exitcode")
    assert (plan.status, message in plan.stderr) == (0, True)
    ended = desk.mmp(*APPLY)
    assert ended.status == 0, ended.stderr
    assert "BTC-USD: bounds.qtyLimit.max: qtyLimit 100, limit 50" in ended.stderr


# ---- what stays tighter ------------------------------------------------------------------------


@pytest.mark.slow
def test_what_stays_tighter_stops_nothing_else_and_has_its_own_command(
    accepted: Desk, exchange: Exchange
) -> None:
    under(accepted, FACTOR_2)
    exchange.change("BTC-USD", "5000/2000/10")
    accepted.wants({**SAME, "ETH-USD": "5s/2s/150"})
    document = accepted.mmp("plan", "--output", "json").document
    assert [one["allow"] for one in document["left_tighter"]] == ["loosen:BTC-USD"]
    assert (document["refusals"], document["summary"]["left_tighter"]) == ([], 1)
    assert accepted.mmp("plan", "--fail-on", "policy").status == 3
    ended = accepted.mmp(*APPLY)
    assert (ended.status, ended.outcomes) == (6, {"BTC-USD": "held", "ETH-USD": "applied"}), ended.stderr
    (held,) = [one for one in ended.document["results"] if one["family"] == "BTC-USD"]
    assert held["code"] == "policy"
    assert held["message"] == (
        "qtyLimit stays 10 (live), the file says 100: refused from live: loosening.maxFactor: ×10, limit ×2"
    )
    alone = accepted.mmp("apply", "--yes", "--assume-idle")
    assert alone.status == 3, "nothing else was to be done"
    sent = accepted.mmp(*printed(alone, "to set the file's values: "))
    assert (sent.status, sent.outcomes) == (0, {"BTC-USD": "applied"}), sent.stderr
    assert exchange.live()["BTC-USD"].endswith("/100")


@pytest.mark.slow
def test_a_family_of_which_some_fields_are_sent_is_partly_done(accepted: Desk, exchange: Exchange) -> None:
    under(accepted, FACTOR_2)
    exchange.change("BTC-USD", "5000/2000/10")
    accepted.wants({**SAME, "BTC-USD": "5s/1500ms/100"})
    change = changes(accepted)["BTC-USD"]
    assert change["after"] == {"timeInterval": "5000", "frozenInterval": "1500", "qtyLimit": "10"}
    assert change["desired"] == {"timeInterval": "5000", "frozenInterval": "1500", "qtyLimit": "100"}
    assert accepted.mmp("plan", "--out", "plan.json").status == 0
    assert "qtyLimit stays 10 (live), the file says 100" in accepted.mmp("show", "plan.json").stdout
    ended = accepted.mmp("apply", "plan.json", "--yes", "--assume-idle", "--output", "json")
    assert (ended.status, ended.outcomes) == (6, {"BTC-USD": "held"}), ended.stderr
    assert [one["attempts"] for one in ended.document["results"]] == [1]
    assert exchange.live()["BTC-USD"] == "5000/1500/10"


@pytest.mark.slow
def test_a_plan_file_and_an_override_set_what_stayed_tighter(accepted: Desk, exchange: Exchange) -> None:
    under(accepted, FACTOR_2)
    exchange.change("BTC-USD", "5000/2000/10")
    accepted.wants({**SAME, "BTC-USD": "5s/1500ms/100"})
    assert accepted.mmp("plan", "--out", "plan.json").status == 0
    more = ("--allow", "loosen:BTC-USD", "--reason", "agreed", "--yes", "--assume-idle", "--output", "json")
    ended = accepted.mmp("apply", "plan.json", *more)
    assert (ended.status, ended.outcomes) == (0, {"BTC-USD": "applied"}), ended.stderr
    assert exchange.live()["BTC-USD"] == "5000/1500/100"


# ---- a published status ------------------------------------------------------------------------


@pytest.mark.slow
def test_a_plan_from_a_status_is_that_of_the_account(accepted: Desk, exchange: Exchange) -> None:
    exchange.change("BTC-USD", "5000/2000/10")
    accepted.wants({"BTC-USD": "5s/2s/300", "ETH-USD": "5s/2s/50"})
    under(accepted, FACTOR_2)
    assert accepted.mmp(*APPLY).status == 3, "refused, and live is on record"
    status = accepted.mmp("status", "--output", "json")
    families = {one["family"]: one["accepted"]["qtyLimit"] for one in status.document["families"]}
    assert families == {"BTC-USD": "100", "ETH-USD": "100"}
    (accepted.folder / "status.json").write_text(json.dumps(status.document))
    ours = accepted.mmp("plan", "--output", "json").document
    theirs = accepted.mmp("plan", "--against", "status.json", "--output", "json").document
    assert theirs["digest"] == ours["digest"]
    assert theirs["refusals"] == ours["refusals"]


# ---- imports -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_import_adopts_what_is_on_record_only_if_it_is_asked_and_the_policy_lets_it(
    accepted: Desk, exchange: Exchange
) -> None:
    under(accepted, FACTOR_2)
    exchange.change("BTC-USD", "5000/2000/300")
    refused = accepted.mmp("import", "--adopt", "--out", "other.yaml")
    assert (refused.status, refused.error_code) == (3, "policy"), refused.stderr
    assert "BTC-USD: loosening.maxFactor: ×3, limit ×2" in refused.stderr
    assert not (accepted.folder / "other.yaml").exists()
    plain = accepted.mmp("import", "--out", "plain.yaml")
    assert plain.status == 0, plain.stderr
    assert changes(accepted)["BTC-USD"]["reason"] == "drifted", "its record is as before"
    exchange.change("BTC-USD", "5000/2000/20")
    adopted = accepted.mmp("import", "--adopt", "--out", "other.yaml")
    assert (adopted.status, "no changes now" in adopted.stdout) == (0, True), adopted.stderr
    newest = accepted.mmp("history", "--output", "json").document["accepted"][0]
    assert (newest["before"]["qtyLimit"], newest["after"]["qtyLimit"]) == ("100", "20")
    plan = accepted.mmp("plan", "-c", "other.yaml", "--state", ".mmp/state.db", "--output", "json")
    assert plan.document["changes"] == []
    assert accepted.mmp("import", "--adopt", "--out", "-").status == 64


@pytest.mark.slow
def test_an_import_into_another_folder_asks_the_policy_on_record(
    accepted: Desk, exchange: Exchange
) -> None:
    under(accepted, FACTOR_2)
    assert accepted.mmp(*APPLY).status == 0, "the policy is on record"
    exchange.change("BTC-USD", "5000/2000/300")
    (accepted.folder / "elsewhere").mkdir()
    state = str(accepted.folder / ".mmp" / "state.db")
    elsewhere = ("import", "--adopt", "--out", "elsewhere/new.yaml", "--state", state)
    refused = accepted.mmp(*elsewhere)
    assert (refused.status, refused.error_code) == (3, "policy"), refused.stderr
    assert not (accepted.folder / "elsewhere" / "new.yaml").exists()


def test_an_import_reports_what_the_policy_would_refuse(desk: Desk) -> None:
    under(desk, "version: 1\nbounds: {default: {qtyLimit: {max: 50}}}\n")
    ended = desk.mmp("import")
    assert ended.status == 0, ended.stderr
    assert "bounds.qtyLimit.max: qtyLimit 100, limit 50" in ended.stderr
    under(desk, "version: 1\nbounds: nonsense\n")
    assert desk.mmp("import", "--out", "other.yaml").status == 4
