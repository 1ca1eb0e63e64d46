"""What the doctor makes of what it found, and how that reads."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from reconciler.core import doctor
from reconciler.core.doctor import CheckResult, CheckStatus, Purpose, doctor_exit_status
from reconciler.core.model import AccountInfo, Family, LiveRead, LiveRow, Pause
from reconciler.core.policy import Policy
from reconciler.documents.doctor import DoctorReport, doctor_document
from reconciler.errors import AccountProblem, Exit, InvalidInput, MmpError
from reconciler.render.doctor import doctor_text
from tests.unit.builders import BTC, ETH, SOL, desired, row, setting
from tests.unit.report_samples import HOSTILE, WALL

INFO = AccountInfo("7", "7", "4", frozenset({"read_only", "trade"}), ("203.0.113.9",), "desk")
WANTED = desired({BTC: setting("5000/2000/100"), ETH: setting("1000/0/500")})


def marks(*findings: CheckResult) -> list[CheckStatus]:
    return [finding.mark for finding in findings]


@pytest.mark.parametrize(
    ("permissions", "purpose", "allow_withdraw", "expected"),
    [
        ("read_only,trade", Purpose.APPLY, False, [CheckStatus.OK, CheckStatus.OK, CheckStatus.OK]),
        ("read_only", Purpose.APPLY, False, [CheckStatus.OK, CheckStatus.FAILED, CheckStatus.OK]),
        ("trade", Purpose.APPLY, False, [CheckStatus.FAILED, CheckStatus.OK, CheckStatus.OK]),
        ("read_only", Purpose.PLAN, False, [CheckStatus.OK, CheckStatus.OK]),
        ("", Purpose.PLAN, False, [CheckStatus.FAILED, CheckStatus.OK]),
        (
            "read_only,trade,withdraw",
            Purpose.APPLY,
            False,
            [CheckStatus.OK, CheckStatus.OK, CheckStatus.FAILED],
        ),
        (
            "read_only,trade,withdraw",
            Purpose.APPLY,
            True,
            [CheckStatus.OK, CheckStatus.OK, CheckStatus.ADVICE],
        ),
    ],
)
def test_a_key_needs_what_it_is_for_and_no_more(
    permissions: str, purpose: Purpose, allow_withdraw: bool, expected: list[CheckStatus]
) -> None:
    info = replace(INFO, permissions=frozenset(permissions.split(",")))
    found = doctor.permissions(info, purpose=purpose, allow_withdraw=allow_withdraw)
    assert marks(*found) == expected
    assert doctor_exit_status(found) is (Exit.ACCOUNT if CheckStatus.FAILED in expected else Exit.DONE)


@pytest.mark.parametrize(
    ("offset_s", "mark", "says"),
    [
        (0.0, CheckStatus.OK, "within"),
        (-1.0, CheckStatus.OK, "within"),
        (1.1, CheckStatus.ADVICE, "1.1 s behind"),
        (-40, CheckStatus.ADVICE, "40.0 s ahead"),
    ],
)
def test_a_clock_that_is_off_is_advice_because_it_is_compensated(
    offset_s: float, mark: CheckStatus, says: str
) -> None:
    finding = doctor.clock_off(offset_s)
    assert finding.mark is mark
    assert says in finding.message


@pytest.mark.parametrize(
    ("expected_uid", "mark"), [("7", CheckStatus.OK), (None, CheckStatus.ADVICE), ("8", CheckStatus.FAILED)]
)
def test_the_key_is_held_to_the_account_the_file_expects(
    expected_uid: str | None, mark: CheckStatus
) -> None:
    finding = doctor.ownership(INFO, replace(WANTED, expected_uid=expected_uid))
    assert finding.mark is mark
    assert "User ID 7" in finding.message
    assert finding.status is (Exit.ACCOUNT if mark is CheckStatus.FAILED else Exit.DONE)


def test_a_key_without_a_label_is_named_by_its_account_alone() -> None:
    sentence = doctor.ownership(replace(INFO, label=""), replace(WANTED, expected_uid="7")).message
    assert sentence == "User ID 7, as the file expects"


@pytest.mark.parametrize(
    ("level", "mark"), [("4", CheckStatus.OK), ("3", CheckStatus.FAILED), ("", CheckStatus.FAILED)]
)
def test_only_portfolio_margin_will_do(level: str, mark: CheckStatus) -> None:
    finding = doctor.account_mode(replace(INFO, level=level))
    assert (finding.mark, finding.status) == (mark, Exit.DONE if mark is CheckStatus.OK else Exit.ACCOUNT)


def test_a_key_bound_to_no_address_expires() -> None:
    assert doctor.address_binding(INFO).message == "the key is bound to 1 address"
    assert doctor.address_binding(replace(INFO, ip=("a", "b"))).message.endswith("2 addresses")
    unbound = doctor.address_binding(replace(INFO, ip=()))
    assert unbound.mark is CheckStatus.ADVICE
    assert "14 days" in unbound.message


def test_live_is_judged_for_desired_families_only() -> None:
    rows = {BTC: LiveRow(setting("5000/2000/100"), frozen=True), SOL: row("5000/2000/1", frozen=True)}
    read = LiveRead(0.0, rows, {ETH: "listed 2 times", Family("XAU-USD_UM"): "odd"})
    configured, frozen, senseless = doctor.live_readable(read, WANTED)
    assert configured.message == "live is readable: 1 of 2 desired families are configured"
    assert (frozen.mark, frozen.check) == (CheckStatus.ADVICE, "frozen")
    assert frozen.message.endswith("BTC-USD")
    assert (senseless.mark, senseless.status) == (CheckStatus.FAILED, Exit.FAILED)
    assert "ETH-USD" in senseless.message
    assert len(doctor.live_readable(LiveRead(0.0, {}), WANTED)) == 1


def test_a_family_that_is_not_listed_is_advice_and_many_are_counted() -> None:
    assert doctor.families_listed(WANTED, {BTC, ETH, SOL}).mark is CheckStatus.OK
    missing = doctor.families_listed(WANTED, {BTC})
    assert (missing.mark, missing.status) == (CheckStatus.ADVICE, Exit.DONE)
    assert missing.message == "OKX lists no options of ETH-USD"
    many = desired({Family(f"F{number}-USD"): setting("1/1/1") for number in range(7)})
    assert doctor.families_listed(many, ()).message.endswith("F4-USD and 2 more")


def test_the_policy_is_reported_and_its_absence_is_advice() -> None:
    assert doctor.policy_found(None).mark is CheckStatus.ADVICE
    assert doctor.policy_found(Policy("p.yaml", "0" * 64)).message == "p.yaml is valid"
    assert doctor.policy_found(Policy("p.yaml", "0" * 64, protected=frozenset({BTC}))).message.endswith(
        "1 protected"
    )


def test_pauses_in_force_are_reported_with_what_ends_them() -> None:
    pauses = [
        Pause(BTC, "by hand", WALL, WALL + timedelta(seconds=60)),
        Pause(ETH, "", WALL, None),
        Pause(SOL, "over", WALL, WALL),
        Pause(SOL, "put back 3 times", WALL, None, setting("1/1/1")),
    ]
    found = doctor.pauses_in_force(pauses, WALL)
    assert [finding.message for finding in found] == [
        "BTC-USD is paused until 2026-03-01 03:01:00Z: by hand",
        "ETH-USD is paused until it is resumed",
        "SOL-USD_UM is paused by mmp until it is resumed: put back 3 times",
    ]
    assert found[0].remedy == "mmp resume --family BTC-USD ends it"
    assert doctor_exit_status(found) is Exit.DONE


def test_a_group_that_may_use_the_state_is_advice() -> None:
    finding = doctor.group_access(30003)
    assert (finding.check, finding.mark, finding.status) == ("state", CheckStatus.ADVICE, Exit.DONE)
    assert "30003" in finding.message
    assert "chmod 600" in finding.remedy


def test_who_holds_the_state_is_reported() -> None:
    assert doctor.lock_held(None).mark is CheckStatus.OK
    assert doctor.lock_held("pid 7 on desk").message == "locked by pid 7 on desk"


@pytest.mark.parametrize(
    ("problems", "status"),
    [
        ([], Exit.DONE),
        ([MmpError("a", "b")], Exit.FAILED),
        ([MmpError("a", "b"), AccountProblem("a", "b")], Exit.ACCOUNT),
        ([AccountProblem("a", "b"), InvalidInput("a", "b")], Exit.INVALID),
    ],
)
def test_the_exit_status_goes_by_precedence_and_advice_is_none(
    problems: list[MmpError], status: Exit
) -> None:
    findings = [doctor.failed("check", problem) for problem in problems]
    rest = [doctor.ok("a", "b"), doctor.advice("a", "b", "c"), *doctor.skipped(["a"], "b")]
    assert doctor_exit_status([*rest, *findings]) is status


FINDINGS = (
    doctor.ok("config", "mmp.yaml is valid"),
    doctor.advice("clock", "off", "set it"),
    doctor.failed("mode", AccountProblem("x", f"acctLv {HOSTILE}", "switch it")),
    *doctor.skipped(["mmp"], "no key"),
)


def checkup(*findings: CheckResult) -> DoctorReport:
    return DoctorReport("mmp.yaml", "main", "live", "openapi.okx.com", False, findings)


def test_every_finding_is_a_line_with_what_to_do_under_it() -> None:
    text = doctor_text(checkup(*FINDINGS))
    lines = text.splitlines()
    assert lines[0] == "main (live) at openapi.okx.com · mmp.yaml"
    assert [line[2] for line in lines if line[:3].strip() and line.startswith("  ")] == ["✓", "!", "✗", "-"]
    assert sum("→" in line for line in lines) == 2
    assert lines[-1] == "1 problem to fix, 1 not checked."
    assert all(line.isprintable() for line in lines)


def test_the_summary_counts_problems_and_advice() -> None:
    assert doctor_text(checkup(FINDINGS[0])).endswith("\nNo problem found.\n")
    assert doctor_text(checkup(FINDINGS[1])).endswith("No problem found; 1 recommendation.\n")
    assert doctor_text(checkup(FINDINGS[2])).endswith("1 problem to fix.\n")
    without_account = replace(checkup(FINDINGS[3]), account=None, simulator=True)
    assert doctor_text(without_account).startswith("SIMULATOR unknown account at openapi.okx.com")


def test_the_document_has_the_same_results() -> None:
    document = doctor_document(checkup(*FINDINGS))
    assert (document["format"], document["exit_status"]) == ("mmp/doctor/1", 8)
    assert [(one["check"], one["status"], one["hint"]) for one in document["results"]] == [
        ("config", "ok", None),
        ("clock", "advice", "set it"),
        ("mode", "failed", "switch it"),
        ("mmp", "skipped", None),
    ]
