"""What counts as text that people can see, and how many problems of a file are listed."""

from __future__ import annotations

import pytest

from reconciler.core.problems import (
    MAX_MESSAGE_CHARS,
    MAX_PROBLEMS,
    Code,
    Collected,
    Problem,
    has_visible_text,
    problem,
)


@pytest.mark.parametrize(
    ("text", "visible"),
    [
        ("agreed with risk", True),
        ("  x", True),
        ("!", True),
        ("限", True),
        ("", False),
        (" \t\n", False),
        ("\u200b\u00ad\ufeff", False),
        ("\u3164\u115f\u2800", False),
        ("\u0301", False),
    ],
)
def test_text_is_visible_where_it_shows_a_letter_digit_or_sign(text: str, visible: bool) -> None:
    assert has_visible_text(text) is visible


# ---- more than are listed ----------------------------------------------------------------------


def wrong(number: int, code: Code = Code.BAD_INTERVAL) -> Problem:
    return problem(code, "mmp.yaml", f"number {number}", line=number + 1)


def test_a_hundred_problems_are_listed_and_one_more_is_only_known_to_be_there() -> None:
    exactly = Collected(wrong(number) for number in range(MAX_PROBLEMS))
    assert len(exactly.problems()) == MAX_PROBLEMS
    assert not exactly.is_full()
    exactly.add(wrong(5))
    assert len(exactly.problems()) == MAX_PROBLEMS, "each once"
    exactly.add(wrong(200))
    assert exactly.is_full()
    *listed, more = exactly.problems()
    assert [each.line for each in listed] == list(range(1, MAX_PROBLEMS + 1))
    assert (more.code, more.is_error, more.line) == (Code.MORE_PROBLEMS, False, MAX_PROBLEMS)
    assert Collected(exactly.problems()).problems() == exactly.problems()


def test_errors_are_listed_before_warnings_and_warnings_hide_no_error() -> None:
    found = Collected(wrong(number, Code.BARE_ZERO) for number in range(MAX_PROBLEMS + 50))
    assert not found.is_full(), "an error may follow"
    for number in range(1000, 1003):
        found.add(wrong(number))
    *listed, more = found.problems()
    assert (len(listed), sum(each.is_error for each in listed)) == (MAX_PROBLEMS, 3)
    assert more.code is Code.MORE_PROBLEMS


def test_a_message_and_a_hint_are_cut_where_they_are_too_long() -> None:
    found = problem(Code.BAD_FAMILY, "mmp.yaml", "x" * 10_000, "y" * 10_000)
    assert found.message == "x" * (MAX_MESSAGE_CHARS - 1) + "…"
    assert len(found.hint) == MAX_MESSAGE_CHARS
