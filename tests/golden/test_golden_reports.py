"""Plans, results, statuses and histories, whole, as a trader reads them; kept beside this file."""

from __future__ import annotations

import re
import unicodedata

import pytest

from tests.golden.reports import CASES, file_of, golden_names

COLOUR = re.compile(r"\x1b\[[0-9]+m")


@pytest.mark.parametrize("name", CASES)
def test_an_output_is_what_was_agreed(name: str) -> None:
    kept_text = file_of(name).read_text(encoding="utf-8")
    assert CASES[name]() == kept_text, "if this is intended: python -m tests.golden.reports"


def test_no_other_golden_file_exists() -> None:
    assert sorted(golden_names()) == sorted(CASES)


@pytest.mark.parametrize("name", CASES)
def test_nothing_reaches_the_terminal_but_text_and_our_own_colours(name: str) -> None:
    text = COLOUR.sub("", CASES[name]()) if "colour" in name or "simulator" in name else CASES[name]()
    assert text.endswith("\n")
    categories = {unicodedata.category(character) for character in text.replace("\n", "")}
    assert categories.isdisjoint({"Cc", "Cf", "Zl", "Zp", "Cs"})
    assert [line for line in text.split("\n") if line != line.rstrip()] == []


@pytest.mark.parametrize(
    "name", [name for name in CASES if name.endswith("-colour") and name[:-7] in CASES]
)
def test_colour_only_decorates(name: str) -> None:
    plain = CASES[name.removesuffix("-colour")]()
    decorated = COLOUR.sub("", CASES[name]())
    assert decorated.replace("SIMULATOR ", "").replace("127.0.0.1", "openapi.okx.com") == plain
    assert COLOUR.search(CASES[name]())
    assert all(line.count("\x1b[") % 2 == 0 for line in CASES[name]().split("\n"))


@pytest.mark.parametrize("name", [name for name in CASES if "simulator" in name])
def test_a_message_of_the_simulator_is_marked_as_one_first(name: str) -> None:
    assert COLOUR.sub("", CASES[name]()).startswith("SIMULATOR ")
