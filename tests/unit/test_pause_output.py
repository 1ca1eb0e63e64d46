"""Pauses in what people see: the status as value, document and text, and what pause and resume print."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from jsonschema.validators import Draft202012Validator

from reconciler.core.history_records import AttemptRecord
from reconciler.core.model import Family, Pause
from reconciler.core.monitoring.status import FamilyState, Status, StatusInputs, recorded_status
from reconciler.core.plan import HoldReason
from reconciler.core.reply import AttemptStatus
from reconciler.documents.plan import one_or_list
from reconciler.documents.status import pauses_document, status_document
from reconciler.render.status import pauses_text, status_text
from reconciler.schema_files import load_schema
from tests.unit.builders import BTC, ETH, NOW, confirmed, desired, setting
from tests.unit.report_samples import HOSTILE, WALL

GONE = Family("GONE-USD_UM")


def pause(family: Family, ends_in_s: float | None = 90.0, reason: str = "by hand") -> Pause:
    until = None if ends_in_s is None else WALL + timedelta(seconds=ends_in_s)
    return Pause(family, reason, WALL - timedelta(seconds=60), until)


CONTESTED = Pause(ETH, "put back 3 times", WALL - timedelta(seconds=60), None, setting("1000/0/500.0"))
"""A fight over the setting of ETH-USD that status_with wants."""


def status_with(*pauses: Pause) -> Status:
    """Return a status of BTC-USD, in sync, and ETH-USD, which is to be changed."""
    wanted = desired({BTC: setting("5000/2000/100"), ETH: setting("1000/0/500")})
    known = {BTC: confirmed("5000/2000/100"), ETH: confirmed("1000/0/900")}
    record = StatusInputs("7", "openapi.okx.com", known, None, {}, None, pauses)
    return recorded_status(wanted, record, simulator=False, now=NOW, wall=WALL)


@pytest.mark.parametrize(("ends_in_s", "holds"), [(None, True), (0.001, True), (0.0, False), (-1.0, False)])
def test_a_pause_is_in_force_until_its_end(ends_in_s: float | None, holds: bool) -> None:
    assert pause(BTC, ends_in_s).is_active(WALL) is holds
    assert bool(status_with(pause(BTC, ends_in_s)).pauses) is holds


def test_what_would_be_done_about_a_paused_family_is_held() -> None:
    in_sync, held = status_with(pause(BTC), pause(ETH)).families
    assert (in_sync.state, in_sync.change) == (FamilyState.IN_SYNC, None)
    assert held.state is FamilyState.HELD
    assert held.change is not None
    assert held.change.because is HoldReason.PAUSED


def test_a_pause_by_the_breaker_for_another_setting_than_the_desired_one_holds_nothing() -> None:
    other = replace(CONTESTED, contested=setting("1000/0/501"))
    status = status_with(other)
    assert status.pauses == ()
    assert {family.state for family in status.families} == {FamilyState.IN_SYNC, FamilyState.PENDING}
    assert status_with(CONTESTED).families[1].state is FamilyState.HELD


def test_the_document_shows_pauses_and_is_as_published() -> None:
    status = status_with(pause(BTC), CONTESTED, pause(GONE, None, ""))
    document = status_document(status)
    assert document["pauses"] == [
        {
            "family": "BTC-USD",
            "since": "2026-03-01T02:59:00.000Z",
            "until": "2026-03-01T03:01:30.000Z",
            "by": "manual",
            "contested": None,
            "reason": "by hand",
        },
        {
            "family": "ETH-USD",
            "since": "2026-03-01T02:59:00.000Z",
            "until": None,
            "by": "breaker",
            "contested": {"timeInterval": "1000", "frozenInterval": "0", "qtyLimit": "500.0"},
            "reason": "put back 3 times",
        },
        {
            "family": "GONE-USD_UM",
            "since": "2026-03-01T02:59:00.000Z",
            "until": None,
            "by": "manual",
            "contested": None,
            "reason": "",
        },
    ]
    assert list(Draft202012Validator(load_schema("status")).iter_errors(document)) == []


def test_the_text_names_family_end_and_reason() -> None:
    text = status_text(status_with(pause(BTC), pause(GONE, None, "")))
    assert "  ‖ paused     BTC-USD      until 2026-03-01 03:01:30Z (in 1 min 30 s): by hand\n" in text
    assert "  ‖ paused     GONE-USD_UM  until it is resumed: no reason given\n" in text


def test_the_text_shows_that_the_breaker_paused_a_family() -> None:
    lasting = "until it is resumed or the file has another value: put back 3 times"
    assert f"  ‖ paused     ETH-USD  by mmp, {lasting}\n" in status_text(status_with(CONTESTED))


def test_what_people_wrote_cannot_reach_the_terminal_raw() -> None:
    hostile = replace(pause(BTC), reason=HOSTILE)
    for text in (status_text(status_with(hostile)), pauses_text("main", "live", [hostile], WALL)):
        assert all(line.isprintable() for line in text.splitlines())


def test_pause_and_resume_show_the_pauses_in_force() -> None:
    assert pauses_text("main", "live", [], WALL) == "main (live) · no family is paused\n"
    assert pauses_text("main", "live", [pause(BTC)], WALL).startswith("main (live) · 1 family paused\n  ‖ ")
    document = pauses_document("main", "live", [pause(BTC)])
    assert (document["format"], document["in_flight"]) == ("mmp/pause/1", [])
    assert one_or_list("pause", [document, document])["format"] == "mmp/pauses/1"


def test_a_request_that_may_still_take_effect_is_named() -> None:
    attempt = AttemptRecord(
        7, BTC, setting("5000/0/100"), AttemptStatus.PENDING, False, True, "", "", WALL, None
    )
    said = "a request for BTC-USD (timeInterval 5s, frozenInterval until-reset, qtyLimit 100) is in flight"
    text = pauses_text("main", "live", [pause(BTC)], WALL, in_flight=[attempt])
    assert text.splitlines()[-1].strip() == f"{said} and may still take effect"
    unknown = replace(attempt, status=AttemptStatus.UNKNOWN)
    text = pauses_text("main", "live", [pause(BTC)], WALL, in_flight=[unknown])
    assert text.endswith("qtyLimit 100) has no definite answer and may still take effect\n")
    assert pauses_document("main", "live", [pause(BTC)], [attempt])["in_flight"] == [
        {
            "family": "BTC-USD",
            "setting": {"timeInterval": "5000", "frozenInterval": "0", "qtyLimit": "100"},
            "reserved_at": "2026-03-01T03:00:00.000Z",
        }
    ]
