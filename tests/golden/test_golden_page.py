"""The status page of an account in which much is wrong at once, byte for byte."""

from __future__ import annotations

from tests.golden.pages import FILE, made


def test_the_page_is_what_was_agreed() -> None:
    kept = FILE.read_text(encoding="utf-8")
    assert made() == kept, "if this is intended: python -m tests.golden.pages"


def test_no_line_has_trailing_blanks() -> None:
    assert [line for line in made().split("\n") if line != line.rstrip() or not line] == []
