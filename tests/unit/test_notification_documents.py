"""Notices as documents: every kind and turn is as the schema says, and harmless to a chat."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta

import pytest
from jsonschema.validators import Draft202012Validator

from reconciler.controller.pass_planning import CONTESTED_SETTING
from reconciler.core.drift_resolution import DriftPolicy
from reconciler.core.events import ControlledElsewhere, SettingRejected, StateFailed, StateLockTimedOut
from reconciler.core.history_records import LockHolder
from reconciler.core.model import Family, Pause
from reconciler.core.monitoring.account_runtime import (
    AccountRuntime,
    FileInForce,
    NeverValid,
    NewerRejected,
    TerminalError,
)
from reconciler.core.monitoring.alerts import Alert, AlertKind, AlertSeverity, AlertSubject, active_alerts
from reconciler.core.monitoring.notifications import Notification, Transition, advance
from reconciler.core.monitoring.protection import Protection, status_protection
from reconciler.core.plan import PlanConstraints
from reconciler.core.problems import Code, problem
from reconciler.core.reply import Reply, ReplyClass
from reconciler.core.retry import Rejection
from reconciler.documents.notification import MAX_NAMED, MAX_TEXT_CHARS, notification_document
from reconciler.documents.plan import Document
from reconciler.schema_files import load_schema
from tests.unit.builders import BTC, ETH, NOW, confirmed, row, setting, unresolved
from tests.unit.report_samples import HOSTILE, WALL
from tests.unit.runtime_builders import BAD_KEY, outage, runtime_of

VALIDATOR = Draft202012Validator(load_schema("notification"))
A = setting("5000/2000/100")
APPLIED = {BTC: confirmed("5000/2000/100", at=NOW - 60)}
LOOSER = {BTC: row("5000/2000/9999")}
REFUSED = Reply(ReplyClass.WRONG_SETTINGS, "51000", "Parameter qtyLimit error")
CALM = runtime_of({BTC: A}, APPLIED, {BTC: row("5000/2000/100")})
WRONG = (
    problem(
        Code.UNKNOWN_KEY, "mmp.yaml", 'unknown key "qtylimit"', "did you mean qtyLimit?", line=5, column=9
    ),
    problem(Code.MISSING_KEY, "mmp.yaml", "version is missing"),
)
DISK_FULL = StateFailed("state-disk-full", "no space left for the state .mmp/state.db", NOW + 1)
IN_FORCE = FileInForce("mmp.yaml", "0" * 64, WALL)
FILE = NewerRejected("mmp.yaml", IN_FORCE, WALL, WRONG)


def advice(reply: Reply) -> str:
    return "Create a new key." if reply.code == "50119" else ""


def documents(before: AccountRuntime, runtime: AccountRuntime) -> list[Document]:
    """Return what is sent when ``before`` becomes ``runtime``, ten minutes of patience later."""
    scenarios, _ = advance({}, active_alerts(before), now=NOW, wall=WALL)
    scenarios, _ = advance(scenarios, active_alerts(before), now=NOW + 600, wall=WALL)
    scenarios, at_once = advance(scenarios, active_alerts(runtime), now=NOW + 600, wall=WALL)
    _, later = advance(
        scenarios, active_alerts(runtime), now=NOW + 1300, wall=WALL + timedelta(seconds=700)
    )
    return [valid_document(notice, runtime) for notice in (*at_once, *later)]


def calm(runtime: AccountRuntime, *, simulator: bool = False) -> AccountRuntime:
    """Return runtime in sync, of a process whose start is as far on as in ``runtime``."""
    policy = IN_FORCE if runtime.policy else None
    return replace(CALM, started=runtime.started, simulator=simulator, policy=policy)


def valid_document(notice: Notification, runtime: AccountRuntime) -> Document:
    judged = status_protection(None, live=True, interval_s=30.0)
    document = notification_document(notice, runtime, judged, at=WALL, advice=advice)
    assert list(VALIDATOR.iter_errors(document)) == []
    assert set(document) == set(load_schema("notification")["required"])
    assert set(document["details"]) == set(load_schema("notification")["properties"]["details"]["required"])
    assert len(document["text"]) <= MAX_TEXT_CHARS
    assert document["text"].isprintable()
    assert not set(document["text"]) & set("<>@&`")
    return document


UNSURE = {BTC: unresolved("5000/2000/400", reserved_at=NOW - 5, effect_until=NOW + 30)}

SENTENCES: list[tuple[AccountRuntime, str, str]] = [
    (
        runtime_of({BTC: A}, APPLIED, LOOSER),
        "BTC-USD: changed outside mmp; being restored (qtyLimit 9999 → 100). Less protection than "
        "the file says.",
        "BTC-USD is as the file says again.",
    ),
    (
        runtime_of(
            {BTC: A},
            APPLIED,
            {BTC: row("5000/2000/50")},
            rules=PlanConstraints(drift=DriftPolicy.HEAL_LOOSENED),
        ),
        "BTC-USD: changed outside mmp; reported, not changed back (qtyLimit 50 → 100).",
        "BTC-USD is as the file says again.",
    ),
    (
        runtime_of({BTC: A}, APPLIED, LOOSER, rules=PlanConstraints(paused=frozenset({BTC}))),
        "BTC-USD: changed outside mmp; held: paused (qtyLimit 9999 → 100). Less protection "
        "than the file says.",
        "BTC-USD is as the file says again.",
    ),
    (
        runtime_of({BTC: setting("0/2000/100")}, APPLIED, {BTC: row("5000/2000/100")}),
        "BTC-USD: not as the file says; held: would switch protection off (timeInterval 5s → disabled).",
        "BTC-USD is as the file says again.",
    ),
    (
        runtime_of({BTC: A}, {}, {}),
        "BTC-USD: not as the file says, although it was due (timeInterval 5s, frozenInterval 2s, qtyLimit "
        "100). Less protection than the file says.",
        "BTC-USD is as the file says again.",
    ),
    (
        runtime_of({BTC: A}, APPLIED, {BTC: row("5000/0/100", frozen=True)}),
        "BTC-USD: frozen until a manual reset. → Find out why, then: mmp reset BTC-USD",
        "BTC-USD is not frozen any more, and as the file says.",
    ),
    (
        replace(
            runtime_of(
                {BTC: A},
                {},
                {BTC: row("5000/2000/50")},
                rules=PlanConstraints(rejected={BTC: Rejection(A, float("inf"))}),
            ),
            rejected={BTC: SettingRejected(BTC, A, REFUSED, None)},
        ),
        "BTC-USD: rejected by the exchange (timeInterval 5s, frozenInterval 2s, qtyLimit 100): Parameter "
        "qtyLimit error [OKX 51000].",
        "BTC-USD is as the file says again.",
    ),
    (
        replace(CALM, pauses=(Pause(BTC, CONTESTED_SETTING, WALL, None, A),)),
        "BTC-USD: restored 3 times within 10 minutes, and changed again by another writer; not written "
        "until the file changes or the family is resumed. → Find out who changes it, then: mmp resume "
        "--family BTC-USD",
        "BTC-USD is as the file says again.",
    ),
    (
        replace(CALM, terminal_error=TerminalError(BAD_KEY, writing=False)),
        "Nothing can be written: API key doesn't exist [OKX 50119]. → Create a new key.",
        "Key and account are accepted again, or nothing is left to write.",
    ),
    (
        replace(CALM, outage=outage()),
        "The exchange has failed for a minute (reading live settings: no complete reply within 10 s).",
        "The exchange answers again, or no family differs from the file any more.",
    ),
    (
        replace(CALM, config=FILE),
        "A newer settings file is invalid, the last valid version stays in use: mmp.yaml:5:9: unknown "
        'key "qtylimit" (and 1 more). → did you mean qtyLimit?',
        "mmp.yaml is valid again and in use.",
    ),
    (
        replace(CALM, policy=replace(FILE, problems=())),
        "The policy cannot be used. Changes that loosen or disable are held; the last valid policy checks "
        "other changes.",
        "The policy is valid again and in use.",
    ),
    (
        replace(CALM, state_locked=StateLockTimedOut("the state is locked by mmp apply (pid 7)")),
        "Another process has locked the state for more than a minute: the state is locked by mmp apply "
        "(pid 7).",
        "The state is no longer locked by another process.",
    ),
    (
        replace(CALM, state_failed=DISK_FULL),
        "Nothing is sent, because the state could not be used for a minute: no space left for the state "
        ".mmp/state.db. → Free space, or check the disk or the server. mmp retries automatically.",
        "The state can be used again.",
    ),
    (
        replace(
            CALM, controller=ControlledElsewhere(LockHolder(7, "desk-1", "run", "2026-03-01T02:00:00Z"))
        ),
        "Another process has controlled this account for more than a minute: pid 7 on desk-1 (run, since "
        "2026-03-01T02:00:00Z). → This process writes nothing until the other one ends. Stop one of the "
        "two.",
        "This process is no longer a standby.",
    ),
    (
        replace(CALM, policy=NeverValid("mmp.yaml", WALL, ())),
        "The policy cannot be used. Changes that loosen or disable are held; only the guard checks other "
        "changes.",
        "The policy is valid again and in use.",
    ),
]


@pytest.mark.parametrize(("runtime", "began", "over"), SENTENCES, ids=range(len(SENTENCES)))
def test_an_alert_and_its_end_are_described_in_one_sentence(
    runtime: AccountRuntime, began: str, over: str
) -> None:
    (document,) = documents(calm(runtime), runtime)
    assert (document["text"], document["status"]) == (f"main (live): {began}", "firing")
    (document,) = documents(runtime, calm(runtime))
    assert (document["text"], document["status"]) == (f"main (live): {over}", "resolved")
    assert document["severity"] == "info"


DRIFTED = runtime_of({BTC: A}, APPLIED, {BTC: row("5000/0/100")})
FROZEN = runtime_of({BTC: A}, APPLIED, {BTC: row("5000/0/100", frozen=True)})
UNREACHABLE, KEYLESS = (
    replace(CALM, outage=outage()),
    replace(CALM, terminal_error=TerminalError(BAD_KEY, writing=False)),
)

TURNED = [
    (DRIFTED, FROZEN, "BTC-USD: out-of-sync before, frozen now."),
    (FROZEN, DRIFTED, "BTC-USD: frozen before, out-of-sync now."),
    (UNREACHABLE, KEYLESS, "The exchange: unreachable before, key-problem now."),
]


@pytest.mark.parametrize(("before", "after", "message"), TURNED)
def test_what_turns_into_something_else_is_never_called_right(
    before: AccountRuntime, after: AccountRuntime, message: str
) -> None:
    over = [one["text"] for one in documents(before, after) if one["status"] == "resolved"]
    assert over == [f"main (live): {message}"]


def test_every_kind_has_its_sentences() -> None:
    seen = {one.kind for runtime, _, _ in SENTENCES for one in active_alerts(runtime).values()}
    assert seen == set(AlertKind)


def test_being_protected_for_the_first_time_is_good_news() -> None:
    (document,) = documents(replace(CALM, started=False), CALM)
    assert document["text"] == (
        "main (live): Protected: the 1 family is as the file says or tighter, for the first time since "
        "this process started to run the account."
    )
    assert (document["kind"], document["severity"], document["family"]) == ("protected", "info", None)


def test_the_facts_stand_beside_the_sentence() -> None:
    (document,) = documents(calm(SENTENCES[0][0]), SENTENCES[0][0])
    assert document["family"] == "BTC-USD"
    assert document["details"] == {
        "code": "drifted",
        "reason": "changed outside mmp; being restored",
        "hint": None,
        "before": {"timeInterval": "5000", "frozenInterval": "2000", "qtyLimit": "9999"},
        "after": {"timeInterval": "5000", "frozenInterval": "2000", "qtyLimit": "100"},
        "families": ["BTC-USD"],
        "more_families": 0,
        "protection": Protection.UNKNOWN.value,
        "protection_text": "Not known yet: live settings have not been read.",
    }


def test_a_notification_says_what_to_do_if_there_is_something() -> None:
    hints = {
        document["kind"]: document["details"]["hint"]
        for runtime, _, _ in SENTENCES
        for document in documents(calm(runtime), runtime)
    }
    assert hints["frozen"] == "Find out why, then: mmp reset BTC-USD"
    assert hints["key-problem"] == "Create a new key."
    assert hints["config-invalid"] == "did you mean qtyLimit?"


def test_the_simulator_is_named_first() -> None:
    drifted = replace(SENTENCES[0][0], simulator=True)
    (document,) = documents(calm(drifted, simulator=True), drifted)
    assert document["text"].startswith("SIMULATOR main (live): ")
    assert document["simulator"] is True


def test_many_families_are_counted_and_not_all_named() -> None:
    families = [Family(f"F{number:03}-USD") for number in range(MAX_NAMED + 7)]
    known = dict.fromkeys(families, confirmed("5000/2000/100", at=NOW - 60))
    for rows in (
        dict.fromkeys(families, row("5000/2000/9999")),
        dict.fromkeys(families, row("5000/0/100", frozen=True)),
    ):
        runtime = runtime_of(dict.fromkeys(families, A), known, rows)
        calm = runtime_of(dict.fromkeys(families, A), known, dict.fromkeys(families, row("5000/2000/100")))
        for document in (
            *documents(replace(calm, started=runtime.started), runtime),
            *documents(runtime, replace(calm, started=runtime.started)),
        ):
            assert document["family"] is None
            assert document["text"].startswith("main (live): F000-USD, F001-USD, F002-USD and 104 more")
            assert len(document["details"]["families"]) == MAX_NAMED
            assert document["details"]["more_families"] == 7


def test_a_family_taken_out_of_the_file_is_not_called_in_sync() -> None:
    gone = runtime_of({ETH: A}, {ETH: confirmed("5000/2000/100", at=NOW - 60)}, {ETH: row("5000/2000/100")})
    (document,) = documents(SENTENCES[0][0], replace(gone, started=SENTENCES[0][0].started))
    assert document["text"] == ("main (live): BTC-USD is no longer in the file, and no longer managed.")


def test_of_many_families_those_taken_out_of_the_file_are_not_called_in_sync() -> None:
    many = [Family(f"F{number}-USD") for number in range(4)]
    known = dict.fromkeys(many, APPLIED[BTC])
    differing = runtime_of(dict.fromkeys(many, A), known, dict.fromkeys(many, LOOSER[BTC]))
    for left, gone in ((1, "3 of them are"), (3, "1 of them is")):
        rest = many[:left]
        calm = runtime_of(dict.fromkeys(rest, A), known, dict.fromkeys(rest, row("5000/2000/100")))
        (document,) = documents(differing, replace(calm, started=differing.started))
        assert document["text"] == (
            f"main (live): F0-USD, F1-USD, F2-USD and 1 more: {gone} no longer in the file, and no longer "
            "managed; the rest is as the file says again."
        )


def test_a_policy_that_is_gone_is_not_called_in_force() -> None:
    before = replace(CALM, policy=replace(FILE, problems=()))
    (document,) = documents(before, replace(calm(before), policy=None))
    assert document["text"] == (
        "main (live): There is no policy any more. Only the guard against switching protection off applies."
    )


def test_no_link_from_outside_is_one_in_a_chat() -> None:
    reply = Reply(ReplyClass.ACCOUNT, "1", "see https://x.example/ or [this](https://x.example)")
    (document,) = documents(CALM, replace(CALM, terminal_error=TerminalError(reply, writing=False)))
    assert "see https: //x.example/ or [this] (https: //x.example)" in document["text"]


def test_a_notification_has_its_count() -> None:
    drifted = active_alerts(SENTENCES[0][0])
    ((_, condition),) = drifted.items()
    notice = Notification(condition, Transition.FIRING, (BTC,), WALL, 7)
    assert valid_document(notice, CALM)["text"].endswith(
        " It happened 7 times since the last notification."
    )


def test_what_came_from_outside_can_neither_call_nor_link_nor_break_a_line() -> None:
    words = f"<!channel> @here <https://evil|click> `x` & {HOSTILE} " + "x" * 900
    everything: tuple[AlertSubject, ...] = (
        Reply(ReplyClass.ACCOUNT, "50119", words),
        SettingRejected(BTC, A, Reply(ReplyClass.WRONG_SETTINGS, "51000", words), None),
        Pause(BTC, words, WALL, None, A),
        outage(Reply(ReplyClass.NO_ANSWER, "timeout", words)),
        replace(FILE, problems=(problem(Code.UNKNOWN_KEY, f"<!here>{HOSTILE}.yaml", words, words),)),
        StateLockTimedOut(words),
        StateFailed("state-disk-full", words, NOW + 1),
    )
    for about in everything:
        condition = Alert(AlertKind.KEY_PROBLEM, AlertSeverity.CRITICAL, "x", about)
        notice = Notification(condition, Transition.FIRING, (), WALL)
        assert valid_document(notice, CALM)["text"].endswith("…")


def test_a_notice_has_one_id_and_every_other_has_another() -> None:
    found = [document for runtime, _, _ in SENTENCES for document in documents(calm(runtime), runtime)]
    found += [document for runtime, _, _ in SENTENCES for document in documents(runtime, calm(runtime))]
    ids = [document["id"] for document in found]
    texts = {
        (document["id"], document["kind"], document["status"], document["family"]) for document in found
    }
    assert len(set(ids)) == len(texts)
    assert [one["id"] for one in documents(calm(SENTENCES[0][0]), SENTENCES[0][0])] == [
        one["id"] for one in documents(calm(SENTENCES[0][0]), SENTENCES[0][0])
    ]


def test_the_words_of_the_schema_are_the_code_s() -> None:
    properties = load_schema("notification")["properties"]
    assert properties["kind"]["enum"] == [kind.value for kind in AlertKind]
    assert properties["status"]["enum"] == [turn.value for turn in Transition]
    assert properties["severity"]["enum"] == [severity.value for severity in AlertSeverity]
    assert properties["details"]["properties"]["protection"]["enum"] == [one.value for one in Protection]
    assert properties["text"]["maxLength"] == MAX_TEXT_CHARS
    assert properties["details"]["properties"]["families"]["maxItems"] == MAX_NAMED
    message_of = set(re.findall(r"([a-z-]+)(?:, [a-z-]+)*:", properties["kind"]["description"]))
    assert message_of <= set(properties["kind"]["enum"])
