"""The policy as the installed command applies it: in validate, plan, apply, run, status and history."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from pathlib import Path

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
from tests.e2e.web_client import Sidecar
from tests.support.webhook import webhook

pytestmark = pytest.mark.e2e

TWO = ("BTC-USD", "ETH-USD")
APPLY = ("apply", "--yes", "--assume-idle", "--output", "json")
RUN = ("run", "--assume-idle", "--interval", "1s")
FACTOR_2 = "version: 1\nloosening: {maxFactor: 2}\n"
LOOSER = {"BTC-USD": "5s/2s/400", "ETH-USD": "5s/2s/150"}
ALLOWED = ("--allow", "loosen:BTC-USD", "--reason", "new client, agreed with risk")


def digest(desk: Desk, *flags: str) -> tuple[str, str]:
    """Return the flag for the plan as it is now, as a reviewer passes it on."""
    return "--expect", desk.mmp("plan", *flags, "--output", "json").document["digest"]


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    """A simulated exchange with two families configured alike."""
    with simulator(families=configured(*TWO)) as running:
        yield running


def under(desk: Desk, policy: str, name: str = "mmp-policy.yaml") -> None:
    put_in_place(desk.folder / name, policy)


def overrides(desk: Desk) -> list[tuple[str, str, str]]:
    document = desk.mmp("history", "--output", "json").document
    return [(one["family"], one["refusal"], one["reason"]) for one in document["overrides"]]


def command(desk: Desk) -> str:
    """Return the command that is printed for the override of BTC-USD."""
    _, seen = digest(desk, "--family", "BTC-USD")
    return f'mmp apply --family BTC-USD --expect {seen} --allow loosen:BTC-USD --reason "…"'


# ---- a factor of four where two is allowed -------------------------------------------------------


@pytest.fixture
def looser(desk: Desk) -> Desk:
    """A desk that wants BTC-USD four times as loose, under a policy that allows twice."""
    desk.wants(LOOSER)
    under(desk, FACTOR_2)
    return desk


def test_a_plan_holds_it_with_rule_value_limit_and_the_override(looser: Desk) -> None:
    ended = looser.mmp("plan", "--output", "json")
    assert ended.status == 0, ended.stderr
    plan = ended.document
    assert plan["policy"]["path"] == "mmp-policy.yaml"
    assert {change["family"]: change["because"] for change in plan["changes"]} == {
        "BTC-USD": "policy",
        "ETH-USD": None,
    }
    assert plan["refusals"] == [
        {
            "kind": "loosen",
            "family": "BTC-USD",
            "rule": "loosening.maxFactor",
            "field": None,
            "measured": "×4",
            "limit": "×2",
            "allow": "loosen:BTC-USD",
        }
    ]
    text = looser.mmp("plan")
    message = (
        "Refused by mmp-policy.yaml:\n  BTC-USD  loosening.maxFactor: ×4, limit ×2\n"
        f"           if this is intended: {command(looser)}\n"
    )
    assert message in text.stdout
    assert looser.mmp("plan", "--fail-on", "policy").status == 3
    offline = looser.mmp("plan", "--no-live", "--fail-on", "policy")
    assert (offline.status, "loosening.unknown" in offline.stdout) == (3, True), "nothing is on record yet"


def test_apply_sends_nothing_at_all_and_names_the_override(looser: Desk, exchange: Exchange) -> None:
    ended = looser.mmp(*APPLY)
    assert ended.status == 3
    assert ended.error_code == "policy"
    assert "BTC-USD: loosening.maxFactor: ×4, limit ×2" in ended.stderr
    assert command(looser) in ended.stderr
    assert exchange.written() == []
    assert overrides(looser) == []


def printed(ended: Ended, words: str) -> tuple[str, ...]:
    """Return the arguments of the command that is printed after ``words``."""
    text = ended.stderr[ended.stderr.index(words) + len(words) :].partition("\n")[0].partition(";")[0]
    name, *arguments = shlex.split(text)
    assert name == "mmp"
    return *arguments, "--yes", "--assume-idle", "--output", "json"


def test_the_printed_override_sends_that_family_and_no_other(looser: Desk, exchange: Exchange) -> None:
    text = looser.mmp("apply", "--yes", "--assume-idle")
    ended = looser.mmp(*printed(text, "if this is intended: "))
    assert (ended.status, exchange.written()) == (0, ["BTC-USD"]), ended.stderr
    looser.wants({**LOOSER, "BTC-USD": "5s/2s/4000"})
    stale = looser.mmp(*printed(text, "if this is intended: "))
    assert (stale.status, stale.error_code) == (5, "unexpected-plan"), "it was for the plan that was seen"


def test_a_refusal_names_the_command_that_sends_what_adds_protection(
    desk: Desk, exchange: Exchange
) -> None:
    """A protected family that is removed from the file does not delay protection either."""
    exchange.change("XAU-USD_UM", "5000/2000/100")
    desk.wants({"BTC-USD": "5s/2s/400", "ETH-USD": "5s/2s/50", "SOL-USD_UM": "5s/2s/7"})
    under(desk, FACTOR_2 + "protected: [XRP-USD]\n")
    text = desk.mmp("apply", "--yes", "--assume-idle")
    assert (text.status, exchange.written()) == (3, [])
    ended = desk.mmp(*printed(text, "to send only what adds protection: "))
    assert (ended.status, sorted(exchange.written())) == (0, ["ETH-USD", "SOL-USD_UM"]), ended.stderr
    assert desk.mmp(*APPLY, "--family", "BTC-USD").status == 3


def test_a_refusal_where_nothing_adds_protection_names_no_command_for_it(
    desk: Desk, exchange: Exchange
) -> None:
    desk.wants({"BTC-USD": "5s/2s/400"})
    under(desk, FACTOR_2)
    assert "adds protection" not in desk.mmp("apply", "--yes", "--assume-idle").stderr


def test_an_override_is_for_a_plan_that_was_seen(looser: Desk, exchange: Exchange) -> None:
    ended = looser.mmp(*APPLY, *ALLOWED)
    assert (ended.status, ended.error_code) == (64, "allow-unseen")
    wrong = looser.mmp(*APPLY, *ALLOWED, "--expect", "sha256:" + "0" * 64)
    assert (wrong.status, wrong.error_code) == (5, "unexpected-plan")
    assert exchange.written() == []
    assert looser.mmp("plan", "--out", "plan.json").status == 0
    assert looser.mmp("apply", "plan.json", *APPLY[1:], *ALLOWED).status == 0


def test_an_override_is_for_one_account(looser: Desk, exchange: Exchange) -> None:
    """Otherwise an override meant for one account would allow a family of the same name in another."""
    looser.wants({"BTC-USD": "5s/2s/90000"}, name="other.yaml", account="other")
    ended = looser.mmp(*APPLY, "-c", "mmp.yaml", "-c", "other.yaml", *ALLOWED, *digest(looser))
    assert (ended.status, ended.error_code) == (64, "one-account")
    assert exchange.written() == []


def test_every_field_and_value_that_is_overridden_is_recorded(desk: Desk, exchange: Exchange) -> None:
    desk.wants({"BTC-USD": "1s/2s/400"})
    under(desk, FACTOR_2)
    ended = desk.mmp(*APPLY, *digest(desk), "--allow", "loosen:BTC-USD", "--reason", "x")
    assert ended.status == 0, ended.stderr
    recorded = " ".join(refusal for _, refusal, _ in overrides(desk))
    assert "timeInterval 5s → 1s, qtyLimit 100 → 400" in recorded
    assert "loosening.maxFactor: ×20, limit ×2" in recorded


def test_with_the_override_it_passes_and_history_shows_the_reason(looser: Desk, exchange: Exchange) -> None:
    ended = looser.mmp(*APPLY, *digest(looser), *ALLOWED)
    assert ended.status == 0, ended.stderr
    assert ended.outcomes == {"BTC-USD": "applied", "ETH-USD": "applied"}
    assert exchange.live()["BTC-USD"] == "5000/2000/400"
    refusal = "loosen: loosening.maxFactor: ×4, limit ×2 (qtyLimit 100 → 400)"
    assert overrides(looser) == [("BTC-USD", refusal, "new client, agreed with risk")]
    lines = looser.mmp("history").stdout.splitlines()
    assert lines[0].endswith("2 attempts, 1 override, 1 policy change, newest first")
    # Written before the first request: the oldest of the three.
    assert lines[3].endswith(f"BTC-USD  allowed    {refusal}: new client, agreed with risk")


@pytest.mark.parametrize(
    "reason", [(), ("--reason", "  "), ("--reason", "\u200b\u3164\u00ad")], ids=["none", "blank", "unseen"]
)
def test_an_override_that_is_needed_needs_a_reason(
    looser: Desk, exchange: Exchange, reason: tuple[str, ...]
) -> None:
    ended = looser.mmp(*APPLY, *digest(looser), "--allow", "loosen:BTC-USD", *reason)
    assert (ended.status, ended.error_code) == (64, "no-reason")
    assert "--reason" in ended.stderr
    assert exchange.written() == []


def test_an_override_that_is_not_needed_is_harmless_and_leaves_no_record(
    looser: Desk, exchange: Exchange
) -> None:
    looser.wants({"BTC-USD": "5s/2s/200"})
    ended = looser.mmp(*APPLY, *digest(looser), "--allow", "loosen:BTC-USD", "--allow", "disable:ETH-USD")
    assert ended.status == 0, ended.stderr
    assert exchange.written() == ["BTC-USD"]
    assert overrides(looser) == []


def test_the_override_of_one_family_does_not_let_another_pass(looser: Desk, exchange: Exchange) -> None:
    others = ("--allow", "loosen:ETH-USD", "--allow", "bounds:BTC-USD", "--reason", "x")
    ended = looser.mmp(*APPLY, *digest(looser), *others)
    assert ended.status == 3
    assert exchange.written() == []


@pytest.mark.parametrize(
    "allow", ["loosen", "loosen:", "loosen:BTC-*", "everything:BTC-USD", "loosen:btc-usd"]
)
def test_an_override_names_a_kind_and_one_family(looser: Desk, allow: str) -> None:
    ended = looser.mmp(*APPLY, "--allow", allow, "--reason", "x")
    assert ended.status == 64


def test_the_guard_s_override_is_recorded_too(desk: Desk, exchange: Exchange) -> None:
    desk.wants({"BTC-USD": "disabled/2s/100"})
    assert desk.mmp(*APPLY).status == 3
    ended = desk.mmp(*APPLY, *digest(desk), "--allow", "disable:BTC-USD", "--reason", "delisted")
    assert ended.status == 0, ended.stderr
    message = "disable: guard: would switch protection off, limit deny (timeInterval 5s → disabled)"
    assert overrides(desk) == [("BTC-USD", message, "delisted")]


@pytest.mark.parametrize("verb", [("plan", "--fail-on", "policy"), APPLY], ids=["plan", "apply"])
def test_too_much_at_once_does_not_pass_in_slices(
    desk: Desk, exchange: Exchange, verb: tuple[str, ...]
) -> None:
    under(desk, "version: 1\nloosening: {maxFamilies: 1}\n")
    desk.wants(dict.fromkeys(TWO, "5s/2s/101"))
    for family in TWO:
        ended = desk.mmp(*verb, "--family", family)
        assert ended.status == 3, ended.stderr
        assert "loosening.maxFamilies: 2 at once, limit 1" in ended.stdout + ended.stderr
    assert exchange.written() == []


def test_a_protected_family_that_is_gone_is_refused_where_nothing_changes(
    desk: Desk, exchange: Exchange
) -> None:
    desk.wants({"BTC-USD": "5s/2s/100"})
    assert desk.mmp(*APPLY).status == 0
    under(desk, "version: 1\nprotected: [ETH-USD]\n")
    ended = desk.mmp("plan", "--detailed-exitcode")
    assert ended.status == 2
    assert "Refused: nothing would be sent. 1 family is as desired." in ended.stdout
    assert desk.mmp(*APPLY, "--family", "BTC-USD").status == 3
    assert desk.mmp("plan", "--output", "gitlab").document == {"create": 0, "update": 0, "delete": 1}
    assert exchange.written() == []


def test_a_renamed_account_has_nothing_on_record_and_no_live_says_so(
    desk: Desk, exchange: Exchange
) -> None:
    desk.wants({"BTC-USD": "5s/2s/100"})
    assert desk.mmp(*APPLY).status == 0
    assert "on record" not in desk.mmp("plan", "--no-live", "--output", "json").stderr
    desk.wants({"BTC-USD": "5s/2s/400"}, account="spare")
    under(desk, FACTOR_2)
    message = "there is no record of account spare (live): every family is new here"
    as_json = desk.mmp("plan", "--no-live", "--output", "json")
    assert as_json.status == 0
    assert message in as_json.stderr
    assert message in desk.mmp("plan", "--no-live").stdout


def test_what_was_planned_is_expected_and_let_pass_at_once(looser: Desk, exchange: Exchange) -> None:
    """The digest is of the plan as printed, in which a change without an override is held."""
    digest = looser.mmp("plan", "--output", "json").document["digest"]
    ended = looser.mmp(*APPLY, "--expect", digest, *ALLOWED)
    assert (ended.status, ended.document["digest"]) == (0, digest), ended.stderr
    assert sorted(exchange.written()) == sorted(TWO)


def test_a_digest_of_another_plan_is_not_let_pass(looser: Desk, exchange: Exchange) -> None:
    digest = looser.mmp("plan", "--output", "json").document["digest"]
    looser.wants({**LOOSER, "ETH-USD": "5s/2s/151"})
    ended = looser.mmp(*APPLY, "--expect", digest, *ALLOWED)
    assert (ended.status, ended.error_code, exchange.written()) == (5, "unexpected-plan", [])


# ---- run -----------------------------------------------------------------------------------------


def in_force(exchange: Exchange, family: str, setting: str) -> None:
    eventually(lambda: exchange.live().get(family) == setting, 30.0, f"{family} to be {setting}")


def accepted(desk: Desk) -> None:
    """Make the live setting the accepted one: at its first contact ``run`` makes no field looser."""
    desk.wants(dict.fromkeys(TWO, "5s/2s/100"))
    assert desk.mmp(*APPLY).status == 0


def ends_well(sidecar: Running) -> None:
    sidecar.process.terminate()
    assert sidecar.wait().status == 0


@pytest.mark.slow
def test_run_holds_it_goes_on_with_the_rest_and_obeys_a_new_policy(
    looser: Desk, exchange: Exchange
) -> None:
    accepted(looser)
    looser.wants(LOOSER)
    sidecar = looser.start(*RUN)
    in_force(exchange, "ETH-USD", "5000/2000/150")
    assert sidecar.wait_for_log("held")["reason"] == "refused by the policy"
    assert "held: refused by the policy" in looser.mmp("status").stdout
    under(looser, "version: 1\nloosening: {maxFactr: 9}\n")
    assert sidecar.wait_for_log("policy invalid")["code"] == "unknown-key"
    (looser.folder / "mmp-policy.yaml").unlink()
    assert sidecar.wait_for_log("policy invalid", number=2)["code"] == "file-missing"
    time.sleep(1.5)
    assert exchange.written() == ["ETH-USD"], "the last good policy stays in force"
    under(looser, "version: 1\nloosening: {maxFactor: 4}\n")
    sidecar.wait_for_log("policy accepted")
    in_force(exchange, "BTC-USD", "5000/2000/400")
    ends_well(sidecar)


@pytest.mark.slow
def test_run_heals_back_towards_the_bounds(desk: Desk, exchange: Exchange) -> None:
    desk.wants({"BTC-USD": "5s/2s/100"})
    under(desk, "version: 1\nbounds: {default: {qtyLimit: {max: 50}}}\n")
    sidecar = desk.start(*RUN)
    sidecar.wait_for_log("adopted")
    exchange.change("BTC-USD", "5000/2000/9999")
    in_force(exchange, "BTC-USD", "5000/2000/100")
    ends_well(sidecar)


TYPO = "version: 1\nlosening: {maxFactor: 2}\n"


@pytest.mark.slow
@pytest.mark.parametrize("named", [(), ("--policy", "guard.yaml")], ids=["beside", "named"])
def test_run_starts_under_a_policy_that_cannot_be_read_and_holds_what_loosens(
    desk: Desk, exchange: Exchange, named: tuple[str, ...]
) -> None:
    policy = named[1] if named else "mmp-policy.yaml"
    accepted(desk)
    desk.wants({"BTC-USD": "5s/2s/400", "ETH-USD": "5s/2s/70"})
    under(desk, TYPO, policy)
    with webhook() as hook:
        process = desk.start(*RUN, "--listen", "127.0.0.1:0", *named, env={"MMP_NOTIFY": hook.url()})
        sidecar = Sidecar(process, process.wait_for_log("listening")["url"])
        assert process.wait_for_log("policy invalid; no valid version yet")["code"] == "unknown-key"
        in_force(exchange, "ETH-USD", "5000/2000/70")
        status, body = sidecar.ask("/readyz")
        assert (status, "the policy cannot be read" in body, policy in body) == (503, True, True)
        (held,) = (one for one in sidecar.status()["families"] if one["family"] == "BTC-USD")
        assert (held["state"], held["pending"]["because"]) == ("held", "policy")
        began = eventually(
            lambda: [one for one in hook.documents() if one["kind"] == "policy-invalid"], 15.0, "the alert"
        )
        assert (began[0]["severity"], began[0]["status"]) == ("critical", "firing")
        exchange.change("ETH-USD", "5000/2000/9000")
        in_force(exchange, "ETH-USD", "5000/2000/70")
        assert exchange.written() == ["ETH-USD", "ETH-USD"], "a looser setting is reverted"
        under(desk, "version: 1\nloosening: {maxFactor: 4}\n", policy)
        in_force(exchange, "BTC-USD", "5000/2000/400")
        sidecar.wait_for("/readyz", 5.0)
        ends_well(process)


@pytest.mark.slow
def test_run_holds_what_loosens_while_its_policy_cannot_be_read_or_is_gone(
    desk: Desk, exchange: Exchange
) -> None:
    desk.wants({"BTC-USD": "5s/2s/100", "ETH-USD": "5s/2s/100"})
    under(desk, FACTOR_2)
    process = desk.start(*RUN)
    process.wait_for_log("adopted")
    under(desk, TYPO)
    process.wait_for_log("policy invalid, the last valid version stays in use")
    desk.wants({"BTC-USD": "5s/2s/150", "ETH-USD": "5s/2s/90"})
    in_force(exchange, "ETH-USD", "5000/2000/90")
    (desk.folder / "mmp-policy.yaml").unlink()
    process.wait_for_log("policy invalid", number=2)
    time.sleep(1.5)
    assert exchange.written() == ["ETH-USD"], "the last valid policy would allow to loosen by a half"
    under(desk, FACTOR_2)
    in_force(exchange, "BTC-USD", "5000/2000/150")
    ends_well(process)


# ---- files ---------------------------------------------------------------------------------------


def test_bounds_that_match_no_family_of_the_folder_are_warned_of(desk: Desk) -> None:
    """A bound for a family of another account gets no warning, although that account is not named."""
    desk.wants({"BTC-USD": "5s/2s/100"})
    desk.wants({"ETH-USD": "5s/2s/100"}, name="other.yaml", account="other")
    under(
        desk,
        "version: 1\nbounds: {families: {ETH-USD: {qtyLimit: {max: 9}}, XUA-USD: {qtyLimit: {max: 1}}}}\n",
    )
    for verb in (("validate", "mmp.yaml"), ("plan", "-c", "mmp.yaml")):
        ended = desk.mmp(*verb)
        assert ended.status == 0, ended.stderr
        assert (
            "bounds.families.XUA-USD matches no family of any of 2 accounts" in ended.stdout + ended.stderr
        )
        assert "bounds.families.ETH-USD" not in ended.stdout + ended.stderr


SHARE = "version: 1\nloosening: {maxShare: 50%}\n"


def test_a_share_is_of_the_families_that_were_in_force_for_a_day(desk: Desk, exchange: Exchange) -> None:
    """No setting is recorded as accepted, so every loosening is too much and every tightening passes."""
    under(desk, SHARE)
    desk.wants({"BTC-USD": "5s/2s/101", "ETH-USD": "5s/2s/101"})
    ended = desk.mmp(*APPLY)
    assert ended.status == 3
    assert "loosening.maxShare: 2 of 0 at once, limit 50%" in ended.stderr
    desk.wants({"BTC-USD": "5s/2s/99", "ETH-USD": "5s/2s/100"})
    assert desk.mmp(*APPLY).status == 0
    assert exchange.written() == ["BTC-USD"]


def test_a_named_policy_comes_instead_and_one_that_is_missing_is_exit_4(
    looser: Desk, exchange: Exchange
) -> None:
    under(looser, "version: 1\n", "open.yaml")
    assert looser.mmp(*APPLY, env={"MMP_POLICY": "none.yaml"}).status == 4
    assert looser.mmp("plan", "--policy", "none.yaml").status == 4
    assert exchange.arrivals("account") == []
    assert looser.mmp(*APPLY, "--policy", "open.yaml").status == 0


FIVE = ("BTC-USD", "BTC-USD_UM", "ETH-USD", "ETH-USD_UM", "SOL-USD_UM")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("policy", "code", "said"),
    [
        ("version: 1\nloosening: {maxFactor: 2}\n", "policy", "limit ×2"),
        ("version: 1\nloosenin: {maxFactor: 9}\n", "unknown-key", "became invalid during the run"),
        (None, "file-missing", "the policy file was deleted"),
    ],
    ids=["stricter", "broken", "deleted"],
)
def test_apply_heeds_a_policy_that_changes_while_it_runs(
    tmp_path: Path, policy: str | None, code: str, said: str
) -> None:
    """Two requests are sent in the first window; later changes that loosen are held."""
    with simulator(families=configured(*FIVE)) as exchange:
        desk = Desk(tmp_path / "desk", exchange.variables)
        desk.wants(dict.fromkeys(FIVE[:4], "5s/2s/400") | {"SOL-USD_UM": "5s/2s/90"})
        under(desk, "version: 1\nloosening: {maxFactor: 9}\n")
        applying = desk.start(*APPLY)
        exchange.wait_for_requests(2)
        if policy is None:
            (desk.folder / "mmp-policy.yaml").unlink()
        else:
            under(desk, policy)
        ended = applying.wait()
        assert exchange.written() == ["SOL-USD_UM", "BTC-USD"], "what protects goes first"
        assert (ended.status, ended.error_code) == (6, code), ended.stderr
        assert said in ended.stderr
        assert ended.outcomes == dict.fromkeys(FIVE[1:4], "held") | {
            "BTC-USD": "applied",
            "SOL-USD_UM": "applied",
        }
        assert {one["code"] for one in ended.document["results"]} == {"0", "policy"}


@pytest.mark.slow
@pytest.mark.parametrize(("status", "policy"), [(3, FACTOR_2), (4, "version: 2\n"), (0, "version: 1\n")])
def test_apply_reads_the_policy_again_before_its_first_request(
    desk: Desk, exchange: Exchange, status: int, policy: str
) -> None:
    desk.wants({"BTC-USD": "5s/2s/400"})
    under(desk, "version: 1\nloosening: {maxFactor: 9}\n")
    applying = desk.start("apply", "--yes", "--output", "json")
    applying.wait_for_log("planned")  # it waits for one window, as the history is unknown
    under(desk, policy)
    ended = applying.wait()
    assert ended.status == status, ended.stderr
    assert len(exchange.written()) == (status == 0)


@pytest.mark.parametrize("verb", [("plan",), APPLY, ("status",), ("pause", "--family", "*"), ("validate",)])
def test_a_policy_that_does_not_hold_is_exit_4_everywhere_but_in_run(
    looser: Desk, exchange: Exchange, verb: tuple[str, ...]
) -> None:
    under(looser, "version: 1\ndisable: perhaps\n")
    ended = looser.mmp(*verb)
    assert ended.status == 4
    assert "bad-choice" in ended.stdout + ended.stderr
    assert exchange.arrivals("account") == []


def test_a_policy_of_a_folder_holds_for_the_files_in_it_and_no_other(
    desk: Desk, exchange: Exchange
) -> None:
    for folder in ("one", "two"):
        (desk.folder / folder).mkdir()
    desk.wants({"BTC-USD": "5s/2s/400"}, name="one/mmp.yaml", account="one")
    desk.wants({"ETH-USD": "5s/2s/400"}, name="two/mmp.yaml", account="two")
    under(desk, FACTOR_2, "two/mmp-policy.yaml")
    for order in (("one", "two"), ("two", "one")):
        files = [part for name in order for part in ("-c", f"{name}/mmp.yaml")]
        plans = desk.mmp("plan", *files, "--output", "json").document["plans"]
        message = {plan["account"]: (plan["policy"] is not None, len(plan["refusals"])) for plan in plans}
        assert message == {"one": (False, 0), "two": (True, 1)}


# ---- validate ------------------------------------------------------------------------------------


def test_validate_refuses_values_beyond_their_bounds_at_their_place(desk: Desk, exchange: Exchange) -> None:
    under(desk, "version: 1\nbounds: {default: {qtyLimit: {max: 100}}}\nprotected: [SOL-USD_UM]\n")
    desk.wants({"BTC-USD": "5s/2s/100", "ETH-USD": "5s/2s/101"})
    ended = desk.mmp("validate", "--output", "json")
    assert ended.status == 3
    message = [(one["code"], one["line"], one["column"]) for one in ended.document["problems"]]
    assert message == [("policy-protected", 4, 1), ("policy-bounds", 6, 61)]
    assert (
        '--family ETH-USD --expect DIGEST --allow bounds:ETH-USD --reason "…"'
        in ended.document["problems"][1]["hint"]
    )
    desk.wants({"BTC-USD": "5s/2s/100", "SOL-USD_UM": "5s/2s/10"})
    assert desk.mmp("validate").status == 0
    desk.wants({"BTC-USD": "5 s/2s/1000"})
    assert desk.mmp("validate").status == 4, "an error of the file comes before a refusal"
