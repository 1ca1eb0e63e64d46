"""Each guard checker objects to its own rule only: rows of facts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from reconciler.core.model import Family, Quantity, Setting, parse_family
from reconciler.core.reservation import SignedRequest
from tests.simulation import checkers, guard_checkers
from tests.simulation.ground_truth import Attempt, FileOrder
from tests.simulation.scenario import DISABLED, SETTINGS

FAMILY, OTHER = parse_family("BTC-USD"), parse_family("ETH-USD")
TIGHT, LOOSE, MIXED, TIGHTEST = SETTINGS
HEALED = Setting(5000, 0, Quantity("50"))
QTY = TIGHT.qty_limit
FASTER = Setting(2500, 1000, Quantity("200"))
SOONER = Setting(5000, 1000, Quantity("100"))
SHORTER = Setting(2500, 2000, Quantity("50"))
"""MIXED, with TIGHT's value where it is looser."""

REVIEWED: Mapping[Family, tuple[Setting | None, Setting]] = {FAMILY: (LOOSE, TIGHT)}


def attempt(reserved_at: float) -> Attempt:
    request = SignedRequest(FAMILY, TIGHT, "", b"", {})
    return Attempt(1, "run", "desk", request, reserved_at, reserved_at)


@pytest.mark.parametrize(
    ("before", "after", "is_looser"),
    [
        (TIGHT, LOOSE, True),
        (LOOSE, TIGHT, False),
        (TIGHT, TIGHT, False),
        (TIGHT, MIXED, True),
        (MIXED, TIGHT, True),
        (TIGHT, TIGHTEST, False),
        (TIGHT, DISABLED, True),
        (DISABLED, LOOSE, False),
        (None, DISABLED, False),
        (DISABLED, DISABLED, False),
    ],
)
def test_looser_in_any_respect(before: Setting | None, after: Setting, is_looser: bool) -> None:
    assert guard_checkers.looser(before, after) is is_looser


@pytest.mark.parametrize(
    ("setting", "wanted", "others", "is_mixed"),
    [
        (HEALED, TIGHT, (MIXED,), True),
        (TIGHT, TIGHT, (), True),
        (LOOSE, TIGHT, (LOOSE,), False),
        (Setting(6000, 2000, Quantity("100")), TIGHT, (MIXED, None), False),
        (TIGHTEST, TIGHT, (None, TIGHTEST), True),
    ],
)
def test_a_mixture_is_nowhere_looser_than_desired(
    setting: Setting, wanted: Setting, others: tuple[Setting | None, ...], is_mixed: bool
) -> None:
    assert guard_checkers.mixed_of(setting, wanted, others) is is_mixed


Checker = Callable[..., str | None]


def answered(reserved_at: float) -> Attempt:
    """Return an attempt to which a definite reply came a second later."""
    return replace(attempt(reserved_at), arrived_by=reserved_at + 1.0)


OBJECTIONS: list[tuple[Checker, tuple[Any, ...]]] = [
    (guard_checkers.stale_file_never_loosens, (FAMILY, LOOSE, 1, [(TIGHT, 2)])),
    (guard_checkers.loosens_only_what_was_accepted, (FAMILY, TIGHT, MIXED, [])),
    (guard_checkers.accepts_nothing_looser, (FAMILY, TIGHT, LOOSE)),
    (guard_checkers.nothing_loosens_under_an_unreadable_policy, (FAMILY, LOOSE, [TIGHT, TIGHT])),
    (guard_checkers.factor_within_limit, (FAMILY, LOOSE, [TIGHT], 2)),
    (guard_checkers.factor_within_limit, (FAMILY, LOOSE, [LOOSE, TIGHT], 2)),
    (guard_checkers.factor_within_limit, (FAMILY, TIGHT, [MIXED], 4)),  # from until-reset to 2 s
    (guard_checkers.factor_within_limit, (FAMILY, FASTER, [TIGHT], 3.9)),  # each field by 2
    (guard_checkers.factor_within_limit, (FAMILY, SOONER, [TIGHT], 1.9)),  # the freeze alone
    (guard_checkers.near_off_is_guarded, (FAMILY, TIGHT, [MIXED])),  # from until-reset to 2 s
    (guard_checkers.near_off_is_guarded, (FAMILY, TIGHT, [TIGHT, Setting(5000, 2000, Quantity("0.1"))])),
    (guard_checkers.near_off_is_guarded, (FAMILY, Setting(99, 2000, Quantity("1")), [TIGHT])),
    (guard_checkers.families_within_limit, (FAMILY, [FAMILY, OTHER], 1)),
    (guard_checkers.pause_respected, (FAMILY, 1.0, 1.1)),
    (guard_checkers.nothing_outside_the_review_is_sent, (FAMILY, TIGHT, LOOSE, {})),
    (guard_checkers.nothing_outside_the_review_is_sent, (FAMILY, TIGHT, MIXED, REVIEWED)),
    (guard_checkers.nothing_outside_the_review_is_sent, (FAMILY, MIXED, LOOSE, REVIEWED)),
    (guard_checkers.missing_is_not_gone, (FAMILY, LOOSE, TIGHT, False)),
    (guard_checkers.unreadable_is_held, (FAMILY, True)),
    (guard_checkers.adopts_nothing_overtaken, (FAMILY, 1.0, [2.0])),
    (guard_checkers.reads_are_of_this_side_of_a_suspension, (1.0, 2.0, 3.0)),
    (guard_checkers.not_written_after_a_suspension, (attempt(1.0), 2.0, 2.0)),
    (guard_checkers.written_soon, (attempt(1.0), 2.5)),
    (guard_checkers.spaced_after_limited, (19.0, 10.0, None)),
    (guard_checkers.spaced_after_limited, (24.0, 10.0, 20.5)),
    (guard_checkers.protection_goes_first, (FAMILY, LOOSE, [OTHER])),
    (guard_checkers.no_family_starves, (75.0, [FAMILY])),
    (guard_checkers.urgent_does_not_wait, (11.0, [FAMILY])),
    (guard_checkers.ended_when_over, (attempt(1.0), 35.0, 35.0)),
    (guard_checkers.tried_again_in_time, (FAMILY, 1, 9.0, False)),
    (guard_checkers.tried_again_in_time, (FAMILY, 2, 44.0, False)),
    (guard_checkers.tried_again_in_time, (FAMILY, 9, 119.0, False)),
    (guard_checkers.success_ends_back_off, (FAMILY, 5.0, True)),
    (guard_checkers.retry_leaves_a_slot, (FAMILY, 9.0, OTHER)),
    (guard_checkers.doubt_holds_only_itself, ([FAMILY], [OTHER])),
    (guard_checkers.one_controller, ("run-0.1", ["run-1.2"])),
    (guard_checkers.reads_again_after_a_clock_error, (1.0, 2.0)),
    (guard_checkers.as_old_as_its_read, (FAMILY, 2.0, 1.0)),
    (guard_checkers.goes_early_only_to_protect, (FAMILY, LOOSE, LOOSE, TIGHT)),
    (guard_checkers.goes_early_only_to_protect, (FAMILY, LOOSE, TIGHT, LOOSE)),
    (checkers.refused_changes_nothing, (attempt(1.0), True, True)),
    (checkers.rests_on_a_later_read, (FAMILY, 1.0, 2.0)),
    (checkers.reads_have_a_reason, (1, None)),
    (checkers.reads_have_a_reason, (13, "doubt")),
    (checkers.only_accepted_settings, ((FAMILY, LOOSE), TIGHT)),
    (checkers.only_accepted_settings, ((FAMILY, TIGHT), None)),
]

CONSENTS: list[tuple[Checker, tuple[Any, ...]]] = [
    (guard_checkers.stale_file_never_loosens, (FAMILY, TIGHT, 1, [(LOOSE, 2)])),
    (guard_checkers.stale_file_never_loosens, (FAMILY, LOOSE, 2, [(TIGHT, 2)])),
    (guard_checkers.loosens_only_what_was_accepted, (FAMILY, HEALED, MIXED, [])),
    (guard_checkers.loosens_only_what_was_accepted, (FAMILY, TIGHT, MIXED, [MIXED])),
    (guard_checkers.loosens_only_what_was_accepted, (FAMILY, TIGHT, LOOSE, [])),
    (guard_checkers.loosens_only_what_was_accepted, (FAMILY, TIGHT, DISABLED, [])),
    (guard_checkers.accepts_nothing_looser, (FAMILY, LOOSE, TIGHT)),
    (guard_checkers.nothing_loosens_under_an_unreadable_policy, (FAMILY, LOOSE, [LOOSE, TIGHT])),
    (guard_checkers.nothing_loosens_under_an_unreadable_policy, (FAMILY, LOOSE, [])),
    (guard_checkers.factor_within_limit, (FAMILY, LOOSE, [TIGHT], 4)),
    (guard_checkers.factor_within_limit, (FAMILY, LOOSE, [TIGHT], None)),
    (guard_checkers.factor_within_limit, (FAMILY, LOOSE, [None, DISABLED], 1)),
    (guard_checkers.factor_within_limit, (FAMILY, FASTER, [TIGHT], 4)),
    (guard_checkers.factor_within_limit, (FAMILY, SOONER, [TIGHT], 2)),
    (
        guard_checkers.factor_within_limit,
        (FAMILY, SHORTER, [TIGHT], 1),
    ),  # half the time, half the contracts
    (guard_checkers.near_off_is_guarded, (FAMILY, LOOSE, [TIGHT, None, DISABLED])),
    (guard_checkers.near_off_is_guarded, (FAMILY, DISABLED, [TIGHT])),
    (guard_checkers.near_off_is_guarded, (FAMILY, Setting(99, 2000, QTY), [Setting(98, 2000, QTY)])),
    (guard_checkers.families_within_limit, (FAMILY, [FAMILY], 1)),
    (guard_checkers.families_within_limit, (FAMILY, [FAMILY, OTHER], None)),
    (guard_checkers.pause_respected, (FAMILY, 1.0, 1.0)),
    (guard_checkers.pause_respected, (FAMILY, None, 1.0)),
    (guard_checkers.nothing_outside_the_review_is_sent, (FAMILY, TIGHT, LOOSE, REVIEWED)),
    (guard_checkers.nothing_outside_the_review_is_sent, (FAMILY, TIGHT, None, REVIEWED)),
    (guard_checkers.missing_is_not_gone, (FAMILY, LOOSE, TIGHT, True)),
    (guard_checkers.missing_is_not_gone, (FAMILY, TIGHT, LOOSE, False)),
    (guard_checkers.missing_is_not_gone, (FAMILY, LOOSE, None, False)),
    (guard_checkers.unreadable_is_held, (FAMILY, False)),
    (guard_checkers.adopts_nothing_overtaken, (FAMILY, 1.0, [])),
    (guard_checkers.reads_are_of_this_side_of_a_suspension, (2.0, 2.0, 3.0)),
    (guard_checkers.reads_are_of_this_side_of_a_suspension, (1.0, 4.0, 3.0)),  # while it is reserved
    (guard_checkers.not_written_after_a_suspension, (attempt(2.1), 2.0, 2.2)),
    (guard_checkers.written_soon, (attempt(1.0), 2.0)),
    (guard_checkers.spaced_after_limited, (21.0, 10.0, None)),
    (guard_checkers.spaced_after_limited, (24.0, None, 23.0)),
    (guard_checkers.protection_goes_first, (FAMILY, LOOSE, [])),
    (guard_checkers.no_family_starves, (75.0, [])),
    (guard_checkers.urgent_does_not_wait, (11.0, [])),
    (guard_checkers.ended_when_over, (attempt(1.0), 36.0, 35.0)),
    (guard_checkers.ended_when_over, (answered(1.0), 2.0 + guard_checkers.SLACK_S, 35.0)),
    (guard_checkers.tried_again_in_time, (FAMILY, 0, 1.0, False)),
    (guard_checkers.tried_again_in_time, (FAMILY, 2, 45.0, False)),
    (guard_checkers.tried_again_in_time, (FAMILY, 2, 1.0, True)),
    (guard_checkers.success_ends_back_off, (FAMILY, 5.0, False)),
    (guard_checkers.success_ends_back_off, (FAMILY, -1.0, True)),
    (guard_checkers.retry_leaves_a_slot, (FAMILY, 9.0, None)),
    (guard_checkers.retry_leaves_a_slot, (FAMILY, 10.0, OTHER)),
    (guard_checkers.retry_leaves_a_slot, (FAMILY, None, OTHER)),
    (guard_checkers.doubt_holds_only_itself, ([FAMILY], [])),
    (guard_checkers.one_controller, ("run-0.1", [])),
    (guard_checkers.reads_again_after_a_clock_error, (2.0, 1.0)),
    (guard_checkers.as_old_as_its_read, (FAMILY, 1.0, 1.0)),
    (guard_checkers.goes_early_only_to_protect, (FAMILY, TIGHT, LOOSE, None)),
    (checkers.refused_changes_nothing, (attempt(1.0), True, False)),
    (checkers.rests_on_a_later_read, (FAMILY, 2.0, 2.0)),
    (checkers.refused_changes_nothing, (attempt(1.0), False, True)),
    (checkers.reads_have_a_reason, (1, "first")),
    (checkers.only_accepted_settings, ((FAMILY, TIGHT), TIGHT)),
    (checkers.only_accepted_settings, ((FAMILY, TIGHTEST), TIGHT, [TIGHTEST])),
]


def _name(value: Any) -> str | None:
    return str(value.__name__) if callable(value) else None


@pytest.mark.parametrize(("checker", "facts"), OBJECTIONS, ids=_name)
def test_a_broken_promise_is_seen(checker: Checker, facts: tuple[Any, ...]) -> None:
    assert checker(*facts) is not None


@pytest.mark.parametrize(("checker", "facts"), CONSENTS, ids=_name)
def test_a_promise_that_was_met_is_no_violation(checker: Checker, facts: tuple[Any, ...]) -> None:
    assert checker(*facts) is None


def test_files_are_numbered_in_the_order_of_acceptance() -> None:
    files = FileOrder()

    assert [files.accept(name, changed=False) for name in ("a", "b", "a")] == [1, 2, 1]
    assert files.accept("a", changed=True) == 3
    assert files.accept("a", changed=True) == 3
    assert files.accept("b", changed=False) == 2
