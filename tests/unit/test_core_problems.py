"""What counts as text that people can see."""

from __future__ import annotations

import pytest

from reconciler.core.problems import has_visible_text


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
