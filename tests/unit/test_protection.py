"""How an account stands: every small situation against an oracle that knows only words and numbers."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import product

import pytest

from reconciler.core.drift_resolution import DriftPolicy
from reconciler.core.events import ConfigAccepted, ConfigRejected, Event, LiveReadDone, PolicyAccepted
from reconciler.core.live_evidence import Reads
from reconciler.core.model import Family, Known, LiveRead, LiveRow, Uncertain
from reconciler.core.monitoring.account_runtime import SILENCE_S, AccountRuntime
from reconciler.core.monitoring.account_runtime import runtime_status as watched_status
from reconciler.core.monitoring.protection import (
    MIN_FRESH_S,
    MISSED_READS,
    WORST_FIRST,
    Protection,
    ProtectionResult,
    runtime_protection,
    status_protection,
    worst_of,
)
from reconciler.core.monitoring.status import Status, StatusInputs, make_status, recorded_status
from reconciler.core.plan import PlanConstraints
from reconciler.core.planning import make_plan
from tests.unit.builders import BTC, ETH, NOW, SOL, confirmed, desired, setting, unresolved
from tests.unit.runtime_world import IDLE, WALL, compared, fresh, having, wall_at

TEXT = {
    "A": "5000/2000/100",
    "B": "5000/2000/400",
    "C": "9000/2000/400",
    "D": "0/2000/100",
    "R": "5000/0/100",
}
"""B is looser than A, C mixed against it, D disabled, R as A but frozen until reset."""

LOOSER_THAN = {"A": {"B", "C", "D"}, "B": {"D"}, "D": set(), "R": {"A", "B", "C", "D"}}
"""By what is desired: what protects less than that in at least one respect."""

WANTED = tuple(LOOSER_THAN)
PROVEN = (None, "A", "B", "C", "D", "R", "A?")
"""What is on record: never, or the last proof; a question mark: and a request was not answered."""
SHOWN = ("unread", "missing", "A", "B", "C", "D", "R", "A*", "R*")
"""What the last read showed; a star: frozen."""


def oracle(wanted: str, proven: str | None, shown: str, *, live: bool, stale: bool) -> Protection:
    """Return the standing of one family's account, from the words alone."""
    uncertain = proven == "A?"
    row = None if shown in ("unread", "missing") else shown.rstrip("*")
    in_force = row or (None if shown == "missing" and proven != "D" else proven)
    never_seen = shown == "unread" and live
    if not uncertain:
        if in_force is None and wanted != "D" and not never_seen:
            return Protection.EXPOSED
        if in_force in LOOSER_THAN[wanted]:
            return Protection.EXPOSED
    if live and (shown == "unread" or stale):
        return Protection.UNKNOWN
    if uncertain:
        return Protection.UNKNOWN
    if shown == "R*":
        return Protection.FROZEN
    return Protection.PROTECTED if in_force == wanted else Protection.TIGHTER


def known_as(proven: str | None) -> dict[Family, Known]:
    if proven is None:
        return {}
    proof = confirmed(TEXT[proven[0]])
    return {BTC: Uncertain(proof, (unresolved(TEXT["A"]),)) if proven.endswith("?") else proof}


def rows_of(shown: str) -> dict[Family, LiveRow] | None:
    """Return the rows of the last read; None: live was not read."""
    if shown in ("unread", "missing"):
        return None if shown == "unread" else {}
    return {BTC: LiveRow(setting(TEXT[shown[0]]), frozen=shown.endswith("*"))}


def status_of(wanted: str, proven: str | None, shown: str, age_s: float = 5.0) -> Status:
    rows = rows_of(shown)
    live_at = None if rows is None else WALL - timedelta(seconds=age_s)
    record = StatusInputs("1", "openapi.okx.com", known_as(proven), IDLE, rows or {}, live_at)
    return recorded_status(
        desired({BTC: setting(TEXT[wanted])}), record, simulator=False, now=NOW + 2000, wall=WALL
    )


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("age_s", [5.0, MIN_FRESH_S + 1])
@pytest.mark.parametrize("shown", SHOWN)
def test_an_account_stands_as_the_oracle_says(shown: str, age_s: float, live: bool) -> None:
    for wanted, proven in product(WANTED, PROVEN):
        judged = status_protection(status_of(wanted, proven, shown, age_s), live=live, interval_s=30.0)
        expected = oracle(wanted, proven, shown, live=live, stale=age_s > MIN_FRESH_S)
        assert judged.protection is expected, (wanted, proven, shown, judged)
        assert judged.sentence.startswith("Yes") == (expected in (Protection.PROTECTED, Protection.TIGHTER))
        assert judged.sentence.startswith("No:") == (expected is Protection.EXPOSED)


RULES = (
    PlanConstraints(),
    PlanConstraints(drift=DriftPolicy.WARN),
    PlanConstraints(controller=True, policy_unreadable=True),
)


@pytest.mark.parametrize("wanted", WANTED)
def test_page_startup_probe_and_alerts_agree_about_less_protection(wanted: str) -> None:
    """Whatever is desired, recorded and read, under every rule, with and without live reads."""
    file = desired({BTC: setting(TEXT[wanted])})
    for proven, shown, live, rules in product(PROVEN, SHOWN, (True, False), RULES):
        rows = rows_of(shown)
        read = () if rows is None else (LiveReadDone(LiveRead(NOW - 1, rows)),)
        whole = rows is not None or not live
        event = compared(known_as(proven), rows, wanted=file, rules=rules, complete=whole)
        runtime = having(fresh(file, live=live), *read, event)
        status = watched_status(runtime, now=NOW, wall=WALL)
        found = status_protection(status, live=live, interval_s=30.0).protection
        case = (proven, shown, live, rules)
        assert runtime.started == (whole and found not in (Protection.EXPOSED, Protection.UNKNOWN)), case
        if whole and found is not Protection.UNKNOWN:
            less = any(change.is_exposed for change in event.plan.changes)
            assert less == (found is Protection.EXPOSED), case


def test_the_oracle_gives_every_word() -> None:
    given = {
        oracle(*case, live=live, stale=False)
        for case in product(WANTED, PROVEN, SHOWN)
        for live in (True, False)
    }
    assert given == set(Protection)


SENTENCES = [
    ("A", "A", "A", Protection.PROTECTED, "Yes: the 1 family is as the file says."),
    (
        "A",
        "B",
        "B",
        Protection.EXPOSED,
        "No: 1 of 1 family has less protection than the file says: BTC-USD.",
    ),
    ("B", "A", "A", Protection.TIGHTER, "Yes, and tighter than desired: BTC-USD."),
    ("A", "A?", "A", Protection.UNKNOWN, "Not known: a request for BTC-USD has no definite answer."),
    ("A", "A", "unread", Protection.UNKNOWN, "Not known: live settings have not been read yet."),
    (
        "R",
        "R",
        "R*",
        Protection.FROZEN,
        "Frozen until a manual reset: BTC-USD. Settings are no looser than desired.",
    ),
]


@pytest.mark.parametrize(("wanted", "proven", "shown", "standing", "sentence"), SENTENCES)
def test_the_sentence_says_the_standing(
    wanted: str, proven: str, shown: str, standing: Protection, sentence: str
) -> None:
    judged = status_protection(status_of(wanted, proven, shown), live=True, interval_s=30.0)
    assert (judged.protection, judged.sentence) == (standing, sentence)


def doubted(*unanswered: Family) -> Status:
    """Return a status where one read, moments after a write, shows another value of every family."""
    before = {family: confirmed(TEXT["A"], at=NOW - 2) for family in (BTC, ETH)}
    lost = {family: Uncertain(before[family], (unresolved(TEXT["A"]),)) for family in unanswered}
    rows = dict.fromkeys((BTC, ETH), LiveRow(setting(TEXT["B"])))
    wanted = desired(dict.fromkeys((BTC, ETH), setting(TEXT["A"])))
    record = StatusInputs("1", "openapi.okx.com", {**before, **lost}, IDLE, rows, WALL)
    seen = LiveRead(NOW - 1, rows)
    reads = Reads(seen)
    plan = make_plan(wanted, record.known, reads, PlanConstraints(), NOW)
    return make_status(wanted, record, plan, reads, simulator=False, now=NOW, wall=WALL)


@pytest.mark.parametrize(
    ("unanswered", "sentence"),
    [
        ((), "Not known: the last read of BTC-USD, ETH-USD is not proof yet; mmp reads again."),
        ((ETH,), "Not known: a request for ETH-USD has no definite answer."),
    ],
)
def test_an_unexpected_read_is_not_reported_as_a_request_without_a_reply(
    unanswered: tuple[Family, ...], sentence: str
) -> None:
    judged = status_protection(doubted(*unanswered), live=True, interval_s=30.0)
    assert judged == ProtectionResult(Protection.UNKNOWN, sentence, (BTC, ETH))


def test_nothing_compared_yet_is_not_known() -> None:
    judged = status_protection(None, live=True, interval_s=30.0)
    assert judged == ProtectionResult(
        Protection.UNKNOWN, "Not known yet: live settings have not been read."
    )


@pytest.mark.parametrize(
    ("interval_s", "age_s", "message"),
    [
        (1.0, MIN_FRESH_S, ""),
        (1.0, MIN_FRESH_S + 1, "91 s ago"),
        (60.0, MISSED_READS * 60.0, ""),
        (60.0, MISSED_READS * 60.0 + 1, "3 min ago"),
    ],
)
def test_a_read_too_old_for_the_interval_proves_nothing(
    interval_s: float, age_s: float, message: str
) -> None:
    judged = status_protection(status_of("A", "A", "A", age_s), live=True, interval_s=interval_s)
    expected = f"Not known: live settings were last read {message}." if message else SENTENCES[0][4]
    assert judged.sentence == expected


def test_the_first_names_are_listed_and_the_others_counted() -> None:
    names = (BTC, ETH, SOL, Family("XAU-USD_UM"), Family("XRP-USD"))
    wanted = desired(dict.fromkeys(names, setting(TEXT["A"])))
    record = StatusInputs("1", "openapi.okx.com", {}, IDLE, {}, WALL)
    made = recorded_status(wanted, record, simulator=False, now=NOW, wall=WALL)
    judged = status_protection(made, live=True, interval_s=30.0)
    assert judged.families == tuple(sorted(names))
    assert judged.sentence == (
        "No: 5 of 5 families have less protection than the file says:"
        " BTC-USD, ETH-USD, SOL-USD_UM and 2 more."
    )
    known: dict[Family, Known] = dict.fromkeys(names, confirmed(TEXT["A"]))
    rows = dict.fromkeys(names, LiveRow(setting(TEXT["A"])))
    made = recorded_status(
        wanted, StatusInputs("1", "h", known, IDLE, rows, WALL), simulator=False, now=NOW, wall=WALL
    )
    assert status_protection(made, live=True, interval_s=30.0).sentence == (
        "Yes: all 5 families are as the file says."
    )


def test_the_worst_of_several_accounts_is_theirs() -> None:
    for one, other in product(WORST_FIRST, WORST_FIRST):
        worst = min(one, other, key=WORST_FIRST.index)
        assert worst_of([ProtectionResult(one, ""), ProtectionResult(other, "")]) is worst
    assert worst_of([]) is Protection.UNKNOWN


# ---- the one rule of a watched account ------------------------------------------------------------


def watched(
    wanted: str = "A", shown: str = "A", *, live: bool = True, silent_s: float = 0.0
) -> tuple[AccountRuntime, Status]:
    """Return an account that compared what a read showed, and has said nothing since."""
    rows = {BTC: LiveRow(setting(TEXT[shown]))}
    known: dict[Family, Known] = {BTC: confirmed(TEXT[shown])}
    runtime = fresh({BTC: setting(TEXT[wanted])}, live=live)
    read = [LiveReadDone(LiveRead(NOW - 1, rows))] if live else []
    event = compared(known, rows if live else None, wanted={BTC: setting(TEXT[wanted])}, complete=True)
    runtime = having(runtime, *read, event)
    status = watched_status(runtime, now=NOW + silent_s, wall=wall_at(NOW + silent_s))
    assert status is not None
    return runtime, status


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("shown", ["A", "B"])
@pytest.mark.parametrize("silent_s", [SILENCE_S, SILENCE_S + 1, 7200.0])
def test_a_loop_that_fell_silent_is_nothing_to_stand_on_but_hides_no_exposure(
    silent_s: float, shown: str, live: bool
) -> None:
    runtime, status = watched(shown=shown, live=live, silent_s=silent_s)
    judged = runtime_protection(runtime, status, now=NOW + silent_s, interval_s=3600.0)
    if shown == "B":
        assert judged.protection is Protection.EXPOSED
    elif silent_s <= SILENCE_S:
        assert judged.protection is Protection.PROTECTED
    else:
        message = "91 s" if silent_s < 120 else "120 min"
        assert judged == ProtectionResult(
            Protection.UNKNOWN, f"Not known: the program has made no progress for {message}."
        )


@pytest.mark.parametrize("shown", ["A", "B"])
@pytest.mark.parametrize("age_s", [MIN_FRESH_S, MIN_FRESH_S + 1])
def test_what_was_compared_long_ago_is_nothing_to_stand_on_though_the_loop_goes_round(
    age_s: float, shown: str
) -> None:
    runtime, status = watched(shown=shown, live=False, silent_s=age_s)
    judged = runtime_protection(
        replace(runtime, last_step_at=NOW + age_s), status, now=NOW + age_s, interval_s=1.0
    )
    if shown == "B":
        assert judged.protection is Protection.EXPOSED
    elif age_s <= MIN_FRESH_S:
        assert judged.protection is Protection.PROTECTED
    else:
        assert judged == ProtectionResult(Protection.UNKNOWN, "Not known: nothing was compared for 91 s.")


NEWER = ConfigAccepted("mmp.yaml", "2" * 64)
SHA = desired({}).sha256


@pytest.mark.parametrize("shown", ["A", "B"])
def test_a_file_that_was_accepted_is_not_judged_before_it_was_compared(shown: str) -> None:
    """What the file before wanted says nothing of this one, not even that there is too little."""
    runtime, status = watched(shown=shown)
    newer = having(runtime, NEWER)
    judged = runtime_protection(newer, status, now=NOW, interval_s=30.0)
    assert judged == ProtectionResult(
        Protection.UNKNOWN, "Not known: the file that was accepted was not compared yet."
    )
    rejected = having(newer, ConfigRejected("mmp.yaml", ()))
    assert runtime_protection(rejected, status, now=NOW, interval_s=30.0) == judged


@pytest.mark.parametrize(
    "event",
    [ConfigAccepted("mmp.yaml", SHA), ConfigRejected("mmp.yaml", ()), PolicyAccepted("p.yaml", "3")],
)
def test_what_is_in_force_still_is_judged_as_it_was(event: Event) -> None:
    runtime, status = watched()
    newer = having(runtime, event)
    assert runtime_protection(newer, status, now=NOW, interval_s=30.0).protection is Protection.PROTECTED


def test_the_comparison_judges_the_newer_file() -> None:
    runtime, _ = watched()
    file = replace(desired({BTC: setting(TEXT["B"])}), sha256=NEWER.sha256)
    event = compared({BTC: confirmed(TEXT["A"])}, {BTC: LiveRow(setting(TEXT["A"]))}, wanted=file)
    newer = having(runtime, NEWER, event)
    status = watched_status(newer, now=NOW, wall=WALL)
    assert runtime_protection(newer, status, now=NOW, interval_s=30.0).protection is Protection.TIGHTER
