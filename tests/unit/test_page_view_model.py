"""What the status page says: a row for every state, every standing, and every reason to wait."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from enum import Enum

import pytest

from reconciler.core.change_direction import Direction
from reconciler.core.drift_resolution import DriftPolicy
from reconciler.core.events import READING_LIVE, ControlledElsewhere, ExchangeFailed, StateLockTimedOut
from reconciler.core.history_records import LockHolder
from reconciler.core.model import LiveRow, Pause, PausedBy
from reconciler.core.monitoring.account_runtime import SILENCE_S, AccountRuntime, FileInForce, RecentError
from reconciler.core.monitoring.protection import WORST_FIRST, Protection
from reconciler.core.monitoring.status import FamilyState
from reconciler.core.monitoring.unloaded_files import UnloadedFiles
from reconciler.core.plan import HoldReason, PlanConstraints, Reason
from reconciler.core.reply import READ_AGAIN, AttemptStatus, Reply, ReplyClass
from reconciler.core.retry import Rejection
from reconciler.render.error_catalogue import ERRORS
from reconciler.web.latest_state import LatestState
from reconciler.web.page import labels
from reconciler.web.page.account_view import DAYS_SHOWN, MAX_PROBLEMS_SHOWN, AccountView
from reconciler.web.page.families import PageTime, differing_lines
from reconciler.web.page.render import page_html
from reconciler.web.page.view_model import PageView, page_view
from tests.support.example_accounts import (
    BTC,
    ETH,
    FILE,
    LATEST_STATES,
    NOW,
    OFF,
    SHAPES,
    SIX,
    WALL,
    Shape,
    all_of,
    bad_quantity,
    failed,
    file_state,
    large,
    latest_of,
    runtime,
)
from tests.unit.builders import setting
from tests.unit.report_samples import status
from tests.unit.runtime_world import having


def page(shared_state: LatestState, *, later_s: float = 0.0) -> PageView:
    """Return the view of ``board``, ``later_s`` seconds after it was made."""
    return page_view(shared_state, now=NOW + later_s, wall=WALL + timedelta(seconds=later_s))


def account(one: AccountRuntime, *, later_s: float = 0.0) -> AccountView:
    """Return the view of a single account."""
    (found,) = page(latest_of(one), later_s=later_s).accounts
    return found


def of(shape: str, **more: object) -> AccountView:
    """Return the view of an account whose one family has the shape of that name."""
    return account(runtime({BTC: SHAPES[shape]}, **more))  # type: ignore[arg-type] # a test names what it is about


# ---- every family state --------------------------------------------------------------------------

HEALED = "It was changed outside mmp: it is being restored."
AT_ONCE = "As desired by 03:00:00 UTC (now)."

DIFFERING = [
    ("never applied", "✗ no protection", AT_ONCE, "Not set yet."),
    (
        "to be adopted",
        "✓ as the file says",
        "Already as desired; recorded next, without a request.",
        "The file was changed.",
    ),
    ("changed", "▲ more protection", AT_ONCE, "The file was changed."),
    ("changed, looser live", "▼ less protection", AT_ONCE, "The file was changed."),
    ("drifted looser", "▼ less protection", AT_ONCE, HEALED),
    ("drifted tighter", "▲ more protection", AT_ONCE, HEALED),
    ("drifted mixed", "◆ partly less protection", AT_ONCE, HEALED),
    ("drifted off", "✗ switched off", AT_ONCE, HEALED),
    ("row gone", "✗ no protection", AT_ONCE, HEALED),
    ("frozen and drifted", "▼ less protection", "Held.", labels.HOLDS[HoldReason.FROZEN]),
    (
        # Frozen, too; but it is the guard that a person has to answer first.
        "frozen until reset",
        "▲ more protection",
        "Held.",
        f"{labels.NEAR_OFF} guard: unlimited, limit less than ×1000",
    ),
    (
        "uncertain",
        "? not known",
        "Sent again at 03:00:00 UTC (now).",
        "A request has no definite answer: what is in force is not known.",
    ),
    (
        "uncertain from the start",
        "? not known",
        "Sent again at 03:00:00 UTC (now).",
        "A request has no definite answer: what is in force is not known.",
    ),
    (
        "acknowledged, but",
        "? not known",
        "Known at 03:00:25 UTC (in 25 s).",
        "A request has no definite answer: what is in force is not known.",
    ),
]


@pytest.mark.parametrize(("shape", "sign", "when", "why"), DIFFERING, ids=lambda value: value[:20])
def test_a_family_that_differs_is_shown_with_direction_due_time_and_reason(
    shape: str, sign: str, when: str, why: str
) -> None:
    (line,) = of(shape).differing
    assert (f"{line.sign.symbol} {line.sign.word}", line.when, line.why) == (sign, when, why)


@pytest.mark.parametrize("shape", ["in sync", "frozen"])
def test_a_family_in_sync_is_not_listed_as_differing(shape: str) -> None:
    view = of(shape)
    assert (view.differing, view.differing_text) == (
        (),
        "Nothing differs, as read from the exchange 4 s ago.",
    )


def test_the_rows_are_all_the_shapes_there_are() -> None:
    assert {row[0] for row in DIFFERING} | {"in sync", "frozen"} == set(SHAPES)


def test_the_example_states_have_every_family_state() -> None:
    signs = {
        day.sign
        for make in LATEST_STATES.values()
        for one in page(make()).accounts
        for day in (*one.days, *one.calm_days)
    }
    assert signs == set(labels.STATES.values())


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (labels.PROTECTIONS, Protection),
        (labels.STATES, FamilyState),
        (labels.STRENGTHS, Direction),
        (labels.ATTEMPTS, AttemptStatus),
        (labels.HOLDS, HoldReason),
        (labels.PAUSED, PausedBy),
        (labels.REASONS, Reason),
    ],
)
def test_every_word_has_its_sign(table: dict[object, object], words: type[Enum]) -> None:
    assert set(table) == set(words)


@pytest.mark.parametrize("table", [labels.PROTECTIONS, labels.STATES, labels.ATTEMPTS])
def test_no_two_signs_look_the_same_without_colour(table: dict[object, labels.StatusLabel]) -> None:
    looks = [(sign.symbol, sign.word) for sign in table.values()]
    assert len({symbol for symbol, _ in looks}) == len({word for _, word in looks}) == len(looks)


@pytest.mark.parametrize(
    ("shape", "values", "in_force"),
    [
        ("drifted mixed", "frozenInterval 9s → 2s, qtyLimit 900 → 100", "900 per 5s, freeze 9s"),
        ("drifted off", "timeInterval disabled → 5s", "disabled"),
        ("never applied", "nothing → timeInterval 5s, frozenInterval 2s, qtyLimit 100", "nothing"),
        ("uncertain", "last known qtyLimit 40 → 100", "last known 40 per 5s, freeze 2s"),
        (
            "uncertain from the start",
            "not known → timeInterval 5s, frozenInterval 2s, qtyLimit 100",
            "not known",
        ),
        (
            "acknowledged, but",
            "last known timeInterval 5s, frozenInterval 2s, qtyLimit 100",
            "last known 100 per 5s, freeze 2s",
        ),
    ],
)
def test_a_difference_is_shown_as_in_force_and_as_in_the_file(
    shape: str, values: str, in_force: str
) -> None:
    view = of(shape)
    assert (view.differing[0].values, view.days[0].in_force) == (values, in_force)


def test_the_least_protected_come_first() -> None:
    view = account(
        runtime(
            dict(
                zip(
                    SIX,
                    (SHAPES[name] for name in ("changed", "uncertain", "row gone", "changed", "frozen")),
                    strict=False,
                )
            )
        )
    )
    assert [line.family for line in view.differing] == ["ETH-USD", "BTC-USD", "ADA-USD", "SOL-USD"]
    assert view.differing_text == (
        "4 of 5 families. The last one is due in 20 s. What is in force → what the file says:"
    )


# ---- every standing ------------------------------------------------------------------------------

STANDINGS = [
    (
        Protection.EXPOSED,
        "drifted looser",
        "No: 1 of 1 family has less protection than the file says: BTC-USD.",
    ),
    (Protection.UNKNOWN, "uncertain", "Not known: a request for BTC-USD has no definite answer."),
    (
        Protection.FROZEN,
        "frozen until reset",
        "Frozen until a manual reset: BTC-USD. Settings are no looser than desired.",
    ),
    (Protection.TIGHTER, "drifted tighter", "Yes, and tighter than desired: BTC-USD."),
    (Protection.PROTECTED, "in sync", "Yes: the 1 family is as the file says."),
]


@pytest.mark.parametrize(("standing", "shape", "sentence"), STANDINGS)
def test_an_account_is_described_in_one_sentence(standing: Protection, shape: str, sentence: str) -> None:
    view = page(latest_of(runtime({BTC: SHAPES[shape]})))
    assert view.headline.sentence == sentence
    assert view.headline == view.accounts[0].headline
    assert view.headline.sign == labels.PROTECTIONS[standing]
    assert view.title.startswith(f"{view.headline.sign.symbol} {view.headline.sign.word} · main (live)")


def standing_together(*shapes: str) -> PageView:
    """Return the page of one account for each shape."""
    return page(
        latest_of(
            *(runtime({BTC: SHAPES[shape]}, account=f"a{place}") for place, shape in enumerate(shapes))
        )
    )


OVERALL = [
    ("No: 2 of 3 accounts have less protection than the file says.", ["row gone", "uncertain", "row gone"]),
    ("No: 1 of 2 accounts has less protection than the file says.", ["in sync", "drifted off"]),
    ("Not known for 1 of 3 accounts.", ["frozen until reset", "uncertain", "in sync"]),
    (
        "Frozen until a manual reset: 1 of 2 accounts. Settings are no looser than desired.",
        ["frozen until reset", "changed"],
    ),
    ("Yes, and tighter than desired in 1 of 2 accounts.", ["in sync", "changed"]),
    ("Yes: all 2 accounts as their files say.", ["in sync", "in sync"]),
]


@pytest.mark.parametrize(("sentence", "shapes"), OVERALL)
def test_several_accounts_have_the_worst_protection_and_are_sorted_worst_first(
    sentence: str, shapes: list[str]
) -> None:
    view = standing_together(*shapes)
    assert view.headline.sentence == sentence
    order = [labels.PROTECTIONS[standing] for standing in WORST_FIRST]
    places = [order.index(one.headline.sign) for one in view.accounts]
    assert places == sorted(places)
    assert view.headline.sign == view.accounts[0].headline.sign


def test_without_an_account_the_page_does_not_say_protected() -> None:
    assert page(latest_of()).headline.sentence == "Not known yet: no settings were accepted so far."
    awaiting = page(LATEST_STATES["empty"]())
    assert awaiting.headline.sentence == "Not known: 1 missing settings file."
    assert awaiting.missing == ("accounts/main.yaml",)


def test_with_a_missing_file_the_page_never_says_protected_but_still_says_exposed() -> None:
    for shape, word in [("in sync", "Not known"), ("drifted looser", "Not protected")]:
        shared_state = latest_of(runtime({BTC: SHAPES[shape]}))
        shared_state.unloaded = UnloadedFiles(missing=("b.yaml",))
        assert page(shared_state).headline.sign.word == word
        assert page(shared_state).accounts[0].headline.sentence in page_html(
            shared_state, now=NOW, wall=WALL
        )


@pytest.mark.parametrize("live", [True, False])
def test_a_loop_that_fell_silent_is_never_called_protected(live: bool) -> None:
    one = runtime({BTC: SHAPES["in sync"]}, live=live, read_ago_s=1)
    assert "Yes" in account(one, later_s=SILENCE_S - 2).headline.sentence
    silent = account(one, later_s=SILENCE_S + 2)
    assert silent.headline.sentence == "Not known: the program has made no progress for 93 s."
    assert silent.notices[0] == (
        "The program last made progress at 02:59:59 UTC (1 min 33 s ago). Restart it. "
        "Everything below is from that time."
    )


def test_content_below_a_newer_invalid_file_is_marked_as_of_the_one_before() -> None:
    newer = replace(runtime({BTC: SHAPES["in sync"]}), config=FileInForce("mmp.yaml", "1" * 64, WALL))
    view = account(newer)
    assert view.headline.sign == labels.PROTECTIONS[Protection.UNKNOWN]
    assert view.notices == ("A newer file is in use. Everything below is about the previous file.",)
    assert view.files[0].sha256 == "1" * 12


def test_states_of_an_old_read_are_shown_with_their_age() -> None:
    (view,) = page(LATEST_STATES["old read"]()).accounts
    assert view.headline.sign == labels.PROTECTIONS[Protection.UNKNOWN]
    assert view.days_text == "State and settings, as read from the exchange 8 min 20 s ago."
    assert of("in sync", live=False).days_text == "State and settings from what was last applied."


def test_a_silent_loop_has_no_due_times_but_still_shows_exposure() -> None:
    silent = account(runtime({BTC: SHAPES["drifted looser"]}), later_s=SILENCE_S + 2)
    assert silent.headline.sign == labels.PROTECTIONS[Protection.EXPOSED]
    assert silent.differing[0].when == "Not known: the program makes no progress."


def test_an_outage_is_shown_and_every_due_time_waits_for_its_end() -> None:
    view = of("drifted looser", then=[failed(1), failed(3)])
    assert view.notices == (
        "Reading live settings has failed 2 times since 02:59:57 UTC (3 s ago). "
        "Next try 03:00:08 UTC (in 8 s).",
    )
    assert view.differing[0].when == ("After the exchange answers again; next try 03:00:08 UTC (in 8 s).")
    given_up = of("drifted looser", then=[failed(3, retry_in_s=None)])
    assert given_up.notices[0].endswith("(3 s ago). mmp tries again within a minute.")
    assert given_up.differing[0].when == "After the exchange answers again."


def test_a_lock_and_an_exchange_that_is_not_read_are_shown() -> None:
    locked = account(
        replace(runtime({BTC: SHAPES["changed"]}), state_locked=StateLockTimedOut("locked by pid 7"))
    )
    assert locked.notices == ("Waiting for another process: locked by pid 7",)
    assert locked.differing[0].when == "After the other process releases the state."
    elsewhere = ControlledElsewhere(LockHolder(7, "desk-1", "run", "2026-03-01T02:00:00Z"))
    standby = account(replace(runtime({BTC: SHAPES["changed"]}), controller=elsewhere))
    assert standby.notices == (
        "Standby, this process writes nothing: the account is controlled by pid 7 on desk-1 (run, "
        "since 2026-03-01T02:00:00Z).",
    )
    assert standby.differing[0].when == "When the process that controls the account decides."
    blind = of("in sync", live=False)
    assert "never read" in blind.notices[0]
    assert blind.frozen_text == "Not known: live settings have not been read."
    assert blind.differing_text == "Nothing differs from what was last applied."


def test_before_the_first_comparison_nothing_is_claimed() -> None:
    (view,) = page(LATEST_STATES["starting"]()).accounts
    assert view.headline.sentence == "Not known yet: live settings have not been read."
    assert (view.frozen_text, view.differing_text) == (
        "Not known: live settings have not been read.",
        "Not known yet.",
    )
    assert view.pacing.text == "Not known yet. Two requests can be sent in 10 s."
    assert view.place == "User ID not known yet at openapi.okx.com"


# ---- frozen --------------------------------------------------------------------------------------


def test_a_freeze_until_reset_needs_a_person_and_comes_first() -> None:
    shapes = {BTC: SHAPES["frozen"], ETH: SHAPES["frozen until reset"]}
    first, second = account(runtime(shapes)).frozen
    assert (first.family, first.needs_person) == (ETH, True)
    assert first.advice is not None
    assert first.advice.command == "mmp reset ETH-USD"
    assert (second.needs_person, second.advice) == (False, None)
    assert second.text == "Frozen (the exchange says until 1772420405000). It ends by itself."
    assert account(runtime(shapes)).frozen_text == "1 family needs a manual reset."
    both = all_of("frozen until reset", (BTC, ETH))
    assert account(runtime(both)).frozen_text == "2 families need a manual reset."
    assert of("frozen").frozen_text == "No action is needed."
    assert of("in sync").frozen_text == "Nothing is frozen, as read from the exchange 4 s ago."


@pytest.mark.parametrize(
    ("path", "command"),
    [
        ("mmp.yaml", "mmp reset BTC-USD"),
        ("accounts/a.yaml", "mmp reset BTC-USD -c accounts/a.yaml"),
        ("my desk/a;b.yaml", "mmp reset BTC-USD -c 'my desk/a;b.yaml'"),
        ("$(rm -rf ~).yaml", "mmp reset BTC-USD -c '$(rm -rf ~).yaml'"),
    ],
)
def test_a_command_can_be_copied_whatever_the_path(path: str, command: str) -> None:
    line = of("frozen until reset", path=path).frozen[0]
    assert line.advice is not None
    assert line.advice.command == command


# ---- held ----------------------------------------------------------------------------------------


def held(one: AccountView) -> tuple[str, str, str]:
    """Return why the one family is held, what to do, and the command."""
    (line,) = one.differing
    assert line.when == "Held."
    return line.why, line.advice.text if line.advice else "", line.advice.command if line.advice else ""


def test_each_hold_has_a_reason_and_a_hint() -> None:
    assert held(of("drifted tighter", rules=PlanConstraints(drift=DriftPolicy.HEAL_LOOSENED))) == (
        "Tighter than the file says, changed outside mmp: reported, not changed back.",
        "To restore the file's settings, run:",
        "mmp apply --family BTC-USD",
    )
    pause = Pause(BTC, "desk is moving", WALL, WALL + timedelta(minutes=20))
    assert held(of("changed", pauses=(pause,))) == (
        "Paused by hand: not written, not even restored. "
        "Paused until 03:20:00 UTC (in 20 min): desk is moving.",
        "To resume earlier, run:",
        "mmp resume --family BTC-USD",
    )
    contested_family = Pause(BTC, "put back 3 times within 10 minutes", WALL, None, setting(FILE))
    assert held(of("changed", pauses=(contested_family,))) == (
        "Paused by mmp: not written, not even restored. Left until the file changes "
        "its setting or it is resumed: put back 3 times within 10 minutes.",
        "Find out who changes it, then run:",
        "mmp resume --family BTC-USD",
    )
    assert held(of("frozen and drifted")) == (
        "Frozen by the exchange: written after the freeze ends.",
        "",
        "",
    )


def test_under_a_policy_that_cannot_be_read_no_override_is_offered() -> None:
    why, what, command = held(of("changed", rules=PlanConstraints(policy_unreadable=True)))
    assert why.endswith("policy: loosen while the policy file cannot be read, limit enable and tighten")
    assert (what, command) == ("Correct the policy file; mmp validate says where.", "")


def test_a_rejection_is_shown_in_the_words_of_the_exchange() -> None:
    (view,) = page(LATEST_STATES["troubled"]()).accounts
    (line,) = [line for line in view.differing if line.family == "LTC-USD"]
    assert line.why == "The exchange rejected these settings. [51000] qtyLimit must be greater than 0"
    assert line.advice is not None
    assert line.advice.text == "Correct this family's entry in the file. Other families are not affected."


def test_what_policy_and_guard_refuse_names_rule_and_override() -> None:
    (view,) = page(LATEST_STATES["guarded"]()).accounts
    line = view.differing[0]
    assert line.why.startswith("The policy refuses the change. ")
    assert "100, limit" in line.why
    assert line.advice is not None
    assert line.advice.command == 'mmp apply --family ADA-USD --allow bounds:ADA-USD --reason "…"'
    (view,) = page(LATEST_STATES["unguarded"]()).accounts
    line = view.differing[0]
    assert line.why.startswith("The change would switch protection off. guard:")
    assert line.sign.word == "on, but should be off"
    assert line.advice is not None
    assert "--allow disable:BTC-USD" in line.advice.command


# ---- files, problems, the rest ---------------------------------------------------------------------


def test_the_file_in_force_and_the_problems_of_a_newer_one_are_shown() -> None:
    one = runtime({BTC: SHAPES["in sync"]})
    (plain,) = account(one).files
    assert (plain.path, plain.sha256, plain.refused) == ("mmp.yaml", "4aff09264aff", "")
    many = tuple(replace(bad_quantity(), line=line) for line in range(1, MAX_PROBLEMS_SHOWN + 6))
    policy = file_state("mmp-policy.yaml", ago_s=86_400 * 90)
    view = account(replace(one, config=file_state(problems=many), policy=policy))
    settings, guard = view.files
    assert settings.accepted == "accepted 02:10:00 UTC (50 min ago)"
    assert settings.refused.startswith("A newer version is invalid since 02:55:00 UTC (5 min ago).")
    assert settings.problems == many[:MAX_PROBLEMS_SHOWN]
    assert settings.more == "and 5 more: mmp validate lists them"
    assert guard.accepted == "accepted 2025-12-02 03:00:00 UTC (90 days ago)"
    assert (account(one).no_policy, view.no_policy) == (True, False)


def test_recent_errors_have_hints() -> None:
    codes = [("timeout", BTC), ("51000", None), ("", None)]
    one = replace(
        runtime({BTC: SHAPES["in sync"]}),
        errors=tuple(RecentError(WALL, code, "went wrong", family) for code, family in codes),
    )
    ours, okx, none = (hint for _, hint in account(one).errors)
    assert ours.startswith("Nothing to do: a request to set counts as sent")
    assert okx == "mmp explain 51000 explains it and says what to do."
    assert none == ""
    message = page_view(latest_of(one), now=NOW, wall=WALL, hint_for=lambda one: f"fix {one.code}")
    assert message.accounts[0].errors[1] == (one.errors[1], "fix 51000")


def test_a_failed_read_is_not_shown_as_counting_as_sent() -> None:
    lost, cut = Reply(ReplyClass.NO_ANSWER, "timeout"), Reply(ReplyClass.NO_ANSWER, "not-okx")
    failed = (ExchangeFailed(READING_LIVE, lost, NOW + 1), ExchangeFailed(READING_LIVE, cut, NOW + 1))
    (_, cut_off), (_, timeout) = account(having(runtime({BTC: SHAPES["in sync"]}), *failed)).errors
    assert timeout == READ_AGAIN
    assert cut_off == ERRORS["not-okx"].remedy


def test_the_pace_is_shown_in_words() -> None:
    (view,) = page(LATEST_STATES["troubled"]()).accounts
    assert view.pacing.text == "2 of 2 requests count now. The next can be sent in 4 s."
    assert view.pacing.minute == (
        "5 requests in the last minute: 1 ○ waiting for its reply, 2 ● applied, 1 ✗ rejected, "
        "1 ? outcome unknown."
    )
    assert [line.at for line in view.pacing.requests][:2] == ["02:59:58 UTC", "02:59:51 UTC"]
    assert len(view.pacing.picture.dots) == 5


def test_unmanaged_families_are_listed_and_frozen_ones_named() -> None:
    unmanaged = {family: LiveRow(setting(FILE), frozen=family == ETH) for family in SIX if family != BTC}
    assert of("in sync", unmanaged=unmanaged).unmanaged == (
        "Live, but not in the file and never changed: ADA-USD, ETH-USD, SOL-USD, XAU-USD_UM, XRP-USD_UM. "
        "Frozen of these: ETH-USD."
    )


def test_a_pause_of_a_family_that_is_in_sync_is_shown_too() -> None:
    pause = Pause(BTC, "", WALL, None)
    contested_family = replace(pause, contested=setting(FILE))
    message = {one: of("in sync", pauses=(one,)).pauses for one in (pause, contested_family)}
    assert message == {
        pause: ((BTC, "paused by hand until it is resumed: no reason given"),),
        contested_family: (
            (BTC, "paused by mmp until the file changes its setting or it is resumed: no reason given"),
        ),
    }
    assert of("changed", pauses=(pause,)).pauses == ()


def test_of_many_families_the_calm_ones_are_folded_away_and_none_is_left_out() -> None:
    few = account(runtime(all_of("in sync")))
    assert (len(few.days), few.calm_days, few.calm_text) == (6, (), "")
    (many,) = page(large(40)).accounts
    assert len(many.days) + len(many.calm_days) == 40 > DAYS_SHOWN
    assert all(day.calm for day in many.calm_days)
    states = [day.in_sync for day in many.days]
    assert states == sorted(states)


def test_texts_from_outside_are_cut_and_cannot_break_a_line() -> None:
    shape: Shape = SHAPES["in sync"]
    one = replace(runtime({BTC: shape}), state_locked=StateLockTimedOut("x" * 5000 + "\n"))
    assert len(account(one).notices[0]) < 340


@pytest.mark.parametrize(
    ("seconds", "message"),
    [
        (0, "now"),
        (0.4, "now"),
        (5, "in 5 s"),
        (-5, "5 s ago"),
        (-86_400, "24 h ago"),
        (-200_000, "2 days ago"),
    ],
)
def test_relative_times_are_shown_in_the_largest_sufficient_unit(seconds: float, message: str) -> None:
    assert labels.relative_time(seconds) == message


def test_two_names_never_have_one_anchor() -> None:
    pairs = [
        ("a.b", "live"),
        ("a-b", "live"),
        ("a b", "live"),
        ("a", "b-live"),
        ("a_20_b", "live"),
        ("a_2d_b", "live"),
    ]
    assert len({labels.anchor(*pair) for pair in pairs}) == len(pairs)
    assert all(anchor.isascii() and " " not in anchor for anchor in (labels.anchor(*one) for one in pairs))


def test_a_rejected_family_and_a_missing_row_are_shown_even_without_the_reply() -> None:
    rejected_setting = held(
        of("changed", rules=PlanConstraints(rejected={BTC: Rejection(setting(FILE), float("inf"))}))
    )
    assert rejected_setting[0] == "The exchange rejected these settings."
    stopping = of("changed", rules=PlanConstraints(reviewed={}))
    assert held(stopping)[0] == labels.HOLDS[HoldReason.STALE]


def test_what_is_only_to_be_off_and_is_not_there_at_all_is_no_danger() -> None:
    (line,) = of("row gone", wanted={BTC: setting(OFF)}).differing
    assert line.sign.color is not labels.ColorRole.BAD


def test_without_a_record_of_requests_no_time_is_promised() -> None:
    record = status("nothing", "nothing", None)
    message = differing_lines(record, runtime({BTC: SHAPES["never applied"]}), PageTime(NOW, WALL))
    assert {line.when for line in message} == {"When a request slot is free."}
