"""Settings that no account is kept by: they are told of everywhere an account's trouble would be."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from prometheus_client.parser import text_string_to_metric_families

from reconciler.core.events import (
    ConfigAccepted,
    ConfigMissing,
    ConfigRejected,
    Event,
    LoopFailed,
    LoopIdle,
    PolicyAccepted,
    PolicyRejected,
    RejectedConfigRemoved,
)
from reconciler.core.monitoring.account_runtime import AccountRuntime, FileState, NeverValid
from reconciler.core.monitoring.unloaded_files import NO_UNLOADED_FILES, UnloadedFiles, with_event
from reconciler.core.problems import Code, problem
from reconciler.notify.observer import FileNotifier
from reconciler.schema_files import load_schema
from reconciler.web.latest_state import LatestState
from reconciler.web.metrics import Metrics
from reconciler.web.page.render import page_html
from reconciler.web.page.view_model import page_view
from reconciler.web.probes import ready_checks, startup_checks
from reconciler.web.status_api import status_response
from tests.unit.builders import NOW
from tests.unit.report_samples import HOSTILE
from tests.unit.runtime_world import WALL, fresh, having, shared_state, wall_at

WRONG = (
    problem(Code.SHORT_INTERVAL, "b.yaml", "seconds meant?", line=7),
    problem(Code.BAD_QUANTITY, "b.yaml", "1e3 is not a plain number", "write 1000", line=11, column=15),
)
BROKEN = ConfigRejected("b.yaml", WRONG, in_force=False)
REFUSED = NeverValid("b.yaml", WALL, WRONG)
HOLDS = ConfigAccepted("b.yaml", "1" * 64)
GONE = RejectedConfigRemoved("b.yaml")


def having_met(*events: Event) -> UnloadedFiles:
    """Return what nobody keeps after ``events``."""
    not_loaded = NO_UNLOADED_FILES
    for event in events:
        not_loaded = with_event(not_loaded, event, wall=WALL)
    return not_loaded


# ---- the fold --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("awaited", "kept", "left"),
    [
        (["a.yaml", "b.yaml"], ["a.yaml"], ("b.yaml",)),
        (["a.yaml", "b.yaml"], ["b.yaml", "a.yaml"], ()),
        (["accounts", "b.yaml"], ["accounts/one.yaml"], ("b.yaml",)),
        (["accounts/"], ["accounts/one.yaml"], ()),
        (["acc"], ["accounts/one.yaml"], ("acc",)),
        (["b.yaml", "b.yaml"], [], ("b.yaml",)),
        (["a.yaml"], ["c.yaml"], ("a.yaml",)),
    ],
)
@pytest.mark.parametrize("holds", [True, False])
def test_a_file_that_comes_ends_the_wait_for_itself_alone(
    awaited: list[str], kept: list[str], left: tuple[str, ...], holds: bool
) -> None:
    come: list[Event] = [
        ConfigAccepted(path, "1" * 64) if holds else ConfigRejected(path, WRONG, in_force=False)
        for path in kept
    ]
    not_loaded = having_met(*(ConfigMissing((path,)) for path in awaited), *come)
    assert not_loaded.missing == left
    assert [file.path for file in not_loaded.rejected] == ([] if holds else sorted(kept))


def test_a_file_that_is_withdrawn_is_waited_for_no_longer() -> None:
    waiting = having_met(ConfigMissing(("b.yaml", "accounts")))
    assert with_event(waiting, GONE, wall=WALL).missing == ("accounts",)
    inside = with_event(waiting, RejectedConfigRemoved("accounts/b.yaml"), wall=WALL)
    assert inside == waiting, "the folder still is"


@pytest.mark.parametrize(
    ("events", "refused"),
    [
        ([BROKEN], (REFUSED,)),
        ([BROKEN, replace(BROKEN, problems=WRONG[1:])], (replace(REFUSED, problems=WRONG[1:]),)),
        ([replace(BROKEN, path="c.yaml"), BROKEN], (REFUSED, replace(REFUSED, path="c.yaml"))),
        ([BROKEN, HOLDS], ()),
        ([BROKEN, GONE], ()),
        ([BROKEN, ConfigMissing(("b.yaml",))], ()),
        ([BROKEN, ConfigMissing(("c.yaml",))], (REFUSED,)),
        ([BROKEN, LoopIdle(NOW), replace(HOLDS, path="c.yaml")], (REFUSED,)),
        ([replace(BROKEN, in_force=True)], ()),
    ],
)
def test_a_file_is_refused_until_it_holds_or_is_gone(
    events: list[Event], refused: tuple[FileState, ...]
) -> None:
    assert having_met(*events).rejected == refused


# ---- everywhere ------------------------------------------------------------------------------------


def served(*accounts: AccountRuntime, not_loaded: UnloadedFiles) -> LatestState:
    made = shared_state(*accounts)
    made.unloaded = not_loaded
    return made


ALONE = served(not_loaded=having_met(BROKEN))
BESIDE = served(replace(fresh(), started=True), not_loaded=having_met(BROKEN))
MESSAGE = "b.yaml:11:15: 1e3 is not a plain number"


def document(made: LatestState) -> tuple[int, Any]:
    answer = status_response(made, now=NOW, wall=WALL)
    found = json.loads(answer.body)
    name = "problems" if found["format"] == "mmp/problems/1" else "status"
    Draft202012Validator(load_schema(name)).validate(found)
    return answer.status, found


def samples(made: LatestState) -> dict[str, list[tuple[dict[str, str], float]]]:
    text = Metrics(made, now=lambda: NOW, wall=lambda: WALL).answer().body.decode()
    return {
        family.name: [(sample.labels, sample.value) for sample in family.samples]
        for family in text_string_to_metric_families(text)
    }


@pytest.mark.parametrize("made", [ALONE, BESIDE])
def test_a_file_that_never_held_makes_the_process_neither_ready_nor_started(made: LatestState) -> None:
    for checks in (ready_checks(made, answers=True, now=NOW), startup_checks(made, now=NOW)):
        failed = {check.name: check.message for check in checks if not check.passed}
        assert failed["settings"] == MESSAGE, "the first error, whatever is warned of before"
        assert "state" not in failed, "it is open, or nobody would have looked for files"


def test_the_status_has_it_beside_the_accounts_or_instead_of_them() -> None:
    status, found = document(ALONE)
    assert (status, [one["line"] for one in found["problems"]]) == (503, [one.line for one in WRONG])
    status, found = document(BESIDE)
    assert (status, found["format"], len(found["statuses"])) == (200, "mmp/statuses/1", 1)
    (refused,) = found["invalid_files"]
    assert (refused["path"], refused["sha256"], refused["accepted_at"]) == ("b.yaml", None, None)
    assert refused["invalid_at"] == "2026-03-01T03:00:00.000Z"
    assert refused["problems"][1]["hint"] == "write 1000"
    _, found = document(served(fresh(), not_loaded=having_met(ConfigMissing(("c.yaml",)))))
    assert (found["missing_files"], found["invalid_files"]) == (["c.yaml"], [])
    _, found = document(served(fresh(), not_loaded=NO_UNLOADED_FILES))
    assert found["format"] == "mmp/status/1"


@pytest.mark.parametrize("made", [ALONE, BESIDE])
def test_the_metrics_say_when_and_how_many(made: LatestState) -> None:
    found = samples(made)
    assert found["mmp_invalid_files"] == [({}, 1)]
    assert found["mmp_missing_files"] == [({}, 0)]
    assert ({"account": "", "environment": ""}, WALL.timestamp()) in found[
        "mmp_config_invalid_timestamp_seconds"
    ]


def test_without_one_the_metrics_have_no_sample_of_no_account() -> None:
    found = samples(shared_state(fresh()))
    assert found["mmp_invalid_files"] == [({}, 0)]
    assert found["mmp_config_invalid_timestamp_seconds"] == []


def test_the_page_says_where_it_is_wrong_and_calls_nothing_protected() -> None:
    for made in (ALONE, BESIDE):
        view = page_view(made, now=NOW, wall=WALL)
        assert view.headline.sentence == "Not known: 1 invalid settings file."
        (file,) = view.rejected
        assert (file.path, file.sha256, file.accepted) == ("b.yaml", "", "")
        assert file.refused.startswith("Invalid since 03:00:00 UTC (now). Nothing is written for it")
        html = page_html(made, now=NOW, wall=WALL)
        assert "Invalid settings files" in html
        assert "1e3 is not a plain number" in html
        assert "sha256 <code></code>" not in html
    both = having_met(ConfigMissing(("c.yaml",)), BROKEN, replace(BROKEN, path="d.yaml"))
    output = page_view(served(not_loaded=both), now=NOW, wall=WALL).headline.sentence
    assert output == "Not known: 1 missing settings file, 2 invalid settings files."


def test_hostile_words_stay_text() -> None:
    evil = problem(Code.UNKNOWN_KEY, "<script>b.yaml", HOSTILE, "<img src=x>")
    made = served(not_loaded=having_met(ConfigRejected("<script>b.yaml", (evil,), in_force=False)))
    html = page_html(made, now=NOW, wall=WALL)
    assert "<script>b" not in html
    assert "<img" not in html
    assert all("\n" not in check.line for check in ready_checks(made, answers=True, now=NOW))


# ---- a policy that never held, and a key that is not there -----------------------------------------


HELD = "the policy cannot be read, changes that loosen or disable are held"


def test_a_policy_that_never_held_under_an_account_makes_it_not_ready() -> None:
    begun = having(fresh(), PolicyRejected("p.yaml", WRONG, in_force=False))
    (failed,) = (
        check for check in ready_checks(shared_state(begun), answers=True, now=NOW) if not check.passed
    )
    assert (failed.name, failed.message) == ("settings-main-live", f"{HELD}: {MESSAGE}")
    (_, policy) = page_view(shared_state(begun), now=NOW, wall=WALL).accounts[0].files
    assert policy.refused.endswith("Only the guard checks other changes:")
    _, found = document(shared_state(begun))
    assert (found["watch"]["policy"]["sha256"], found["watch"]["policy"]["accepted_at"]) == (None, None)


def test_a_policy_that_cannot_be_read_any_more_holds_and_leaves_the_account_ready() -> None:
    begun = having(fresh(), PolicyAccepted("p.yaml", "1" * 64), PolicyRejected("p.yaml", WRONG))
    (_, policy) = page_view(shared_state(begun), now=NOW, wall=WALL).accounts[0].files
    assert policy.refused.endswith(
        "Changes that loosen or disable are held until this is corrected. The policy above checks other "
        "changes:"
    )
    checks = ready_checks(shared_state(begun), answers=True, now=NOW)
    assert all(check.passed for check in checks)
    assert HELD in next(check.message for check in checks if check.name == "settings-main-live")


NO_KEY = LoopFailed("credentials-missing", "OKX_API_KEY is not set", "set it", NOW + 30)


def test_an_account_without_a_key_is_reported_everywhere() -> None:
    made = shared_state(having(fresh(), NO_KEY, LoopIdle(NOW + 30)))
    (failed,) = (check for check in ready_checks(made, answers=True, now=NOW) if not check.passed)
    assert (failed.name, failed.message) == ("key-main-live", "OKX_API_KEY is not set; set it")
    (account,) = page_view(made, now=NOW, wall=WALL).accounts
    assert "Nothing can be written: OKX_API_KEY is not set; set it." in account.notices
    _, found = document(made)
    assert found["watch"]["terminal_error"]["code"] == "credentials-missing"
    assert samples(made)["mmp_key_problem"] == [({"account": "main", "environment": "live"}, 1)]


# ---- notices ---------------------------------------------------------------------------------------

NOTICE = Draft202012Validator(load_schema("notification"))


def notices(*happened: tuple[float, Event]) -> list[dict[str, Any]]:
    """Return what is told of files while ``happened``, each at its second."""
    output: list[dict[str, Any]] = []
    dispatcher = FileNotifier(output.append, host="openapi.okx.com", simulator=False)
    not_loaded = NO_UNLOADED_FILES
    for at, event in happened:
        not_loaded = with_event(not_loaded, event, wall=wall_at(NOW + at))
        dispatcher.on_event(not_loaded, event, now=NOW + at, wall=wall_at(NOW + at))
    assert [list(NOTICE.iter_errors(one)) for one in output] == [[]] * len(output)
    return output


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (HOLDS, "b.yaml is valid and in force."),
        (GONE, "b.yaml is gone."),
        (ConfigMissing(("b.yaml",)), "b.yaml is gone."),
    ],
)
def test_a_file_that_was_never_valid_is_reported_once_with_its_end(end: Event, words: str) -> None:
    again = replace(BROKEN, problems=(WRONG[0], replace(WRONG[1], message="another")))
    began, over = notices((0, BROKEN), (5, again), (9, LoopIdle(NOW)), (60, end), (70, LoopIdle(NOW)))
    assert (began["kind"], began["status"], began["severity"]) == ("config-invalid", "firing", "critical")
    assert (began["account"], began["environment"], began["family"]) == (None, None, None)
    assert began["text"].startswith(
        "The settings file is invalid and there is no earlier valid version, so nothing is written"
    )
    assert "b.yaml:" in began["text"]
    assert (over["status"], over["severity"], over["text"]) == ("resolved", "info", words)


def test_two_files_are_two_alerts_and_one_that_flaps_is_counted() -> None:
    other = replace(BROKEN, path="c.yaml")
    output = notices(
        (0, BROKEN), (0, other), (10, GONE), (20, BROKEN), (30, GONE), (900, BROKEN), (910, GONE)
    )
    assert [(one["status"], one["count"]) for one in output] == [
        ("firing", 1),
        ("firing", 1),
        ("resolved", 1),
        ("firing", 2),
        ("resolved", 1),
    ]
    assert len({one["id"] for one in output}) == 5
    assert output[-1]["text"] == "b.yaml is gone."
