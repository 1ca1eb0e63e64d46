"""How problems look: whole outputs, terminal safety, wide characters, long lines, GitHub's rules."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from jsonschema.validators import Draft202012Validator

from reconciler.config.settings import Reading, read_config
from reconciler.core.problems import Code, Problem, json_text, problem
from reconciler.documents.problems import problems_document
from reconciler.render.color import Tone
from reconciler.render.problems import EXCERPT_CELLS, MAX_ANNOTATIONS, problems_github, problems_text
from reconciler.schema_files import load_schema

GOLDEN = Path(__file__).parents[1] / "golden"


@dataclass(frozen=True)
class File:
    text: str
    problems: tuple[Problem, ...]
    path: str = "mmp.yaml"
    quotable: bool = True


def golden_reading() -> Reading:
    return read_config((GOLDEN / "problems.yaml").read_bytes(), "mmp.yaml")


def one(text: str, column: int, line: int = 1, message: str = "wrong", path: str = "mmp.yaml") -> File:
    found = problem(Code.UNKNOWN_KEY, path, message, "mend it", line=line, column=column)
    return File(text, (found,), path)


def excerpt(text: str, column: int) -> tuple[str, str]:
    """Return the shown line and the caret line, without their rails."""
    lines = problems_text([one(text, column)]).splitlines()
    return lines[1].removeprefix("  1 | "), lines[2].removeprefix("    | ")


def test_text_is_as_the_golden_file() -> None:
    assert problems_text([golden_reading()]) == (GOLDEN / "problems.txt").read_text(encoding="utf-8")


def test_json_is_as_the_golden_file_and_fits_its_schema() -> None:
    document = problems_document(golden_reading().problems)
    assert document == json.loads((GOLDEN / "problems.json").read_text(encoding="utf-8"))
    Draft202012Validator(load_schema("problems")).validate(document)


def test_github_is_as_the_golden_file() -> None:
    assert problems_github(golden_reading().problems) == (GOLDEN / "problems.github").read_text(
        encoding="utf-8"
    )


def test_text_of_one_problem_is_laid_out_as_documented() -> None:
    content = (
        b"version: 1\nenvironment: live\ndefaults: {timeInterval: 5s, frozenInterval: 2s}\nfamilies:\n"
    )
    content += b"  BTC-USD:\n    qtylimit: 100\n"
    assert problems_text([read_config(content, "mmp.yaml")]) == (
        "error[unknown-key] mmp.yaml:6:5\n"
        "  6 |     qtylimit: 100\n"
        "    |     ^^^^^^^^\n"
        '    = unknown key "qtylimit" in family BTC-USD\n'
        "    help: did you mean qtyLimit?\n"
        "\n"
        "1 error in mmp.yaml\n"
    )


def test_files_without_problems_are_reported_in_one_line() -> None:
    assert problems_text([File("", ())]) == "no problems in mmp.yaml\n"
    assert problems_text([File("", ()), File("", (), "b.yaml")]) == "no problems in 2 files\n"
    assert problems_github(()) == ""


def test_colours_change_no_visible_character() -> None:
    def marked(text: str, tone: Tone) -> str:
        return f"\x01{tone.value}\x02{text}\x03"

    painted = problems_text([golden_reading()], paint=marked)
    for tone in Tone:
        painted = painted.replace(f"\x01{tone.value}\x02", "")
    assert painted.replace("\x03", "") == problems_text([golden_reading()])


@pytest.mark.parametrize(
    ("text", "column", "carets"),
    [
        ("a: b", 4, "   ^"),
        ("qtylimit: 100", 1, "^^^^^^^^"),
        ('a: "b c" # d', 4, "   ^^^^^"),
        ("a: 'it''s' x", 4, "   ^^^^^^^"),
        ("{a: 1:30, b: 1}", 5, "    ^^^^"),
        ("{a: {b: 1}}", 5, "    ^"),
        ("a:", 9, "  ^"),
        ("{a: 5 s, b: 1}", 5, "    ^^^"),
        ("a: 100 contracts # d", 4, "   ^^^^^^^^^^^^^"),
        ("a: &b 100", 4, "   ^^"),
        ("a: !!str 100", 4, "   ^^^^^"),
        ("日本: x", 5, "      ^"),
        ("a: 日本", 4, "   ^^^^"),
        ("cafe\u0301: x", 8, "      ^"),
        ("\tx: 1", 2, "  ^"),
    ],
)
def test_the_caret_is_under_what_is_meant(text: str, column: int, carets: str) -> None:
    assert excerpt(text, column)[1] == carets


@pytest.mark.parametrize("before", [0, 10, 99, 100, 1000, 100_000])
@pytest.mark.parametrize("after", [0, 10, 1000, 100_000])
@pytest.mark.parametrize("filling", ["x", "日"])
def test_a_long_line_is_cut_around_the_caret(before: int, after: int, filling: str) -> None:
    line = filling * before + " here: " + filling * after
    text, carets = excerpt(line, before + 2)
    assert " here" in text
    assert carets.strip() == "^^^^"
    cells = sum(2 if each == "日" else 1 for each in text)
    assert cells <= EXCERPT_CELLS
    before_caret = text[: text.index("here")]
    assert sum(2 if each == "日" else 1 for each in before_caret) == len(carets) - 4


def test_a_long_token_is_cut() -> None:
    text, carets = excerpt("a: " + "x" * 5000, 4)
    assert len(text) == EXCERPT_CELLS
    assert text.endswith("…")
    assert len(carets) == EXCERPT_CELLS


@pytest.mark.parametrize(
    "hostile", ["\x1b[2J", "\x07", "\x00", "\x9b31m", "\u202e", "\r", "\x7f", "\ud800"]
)
def test_no_control_character_reaches_a_terminal(hostile: str) -> None:
    file = one(f"a: {hostile}b", 1, message=f"wrong {hostile}", path=f"m{hostile}.yaml")
    assert all(line.isprintable() for line in problems_text([file]).split("\n"))
    assert all(line.isprintable() for line in problems_github(file.problems).split("\n"))
    named = one("a", 1, path=f"m{hostile}.yaml")
    json_text(problems_document(named.problems)).encode()


def test_a_problem_beyond_the_text_or_on_an_empty_line_has_no_excerpt() -> None:
    for file in (one("a: 1\n", 1, line=9), one("\n \n", 1, line=2), one("", 1)):
        assert "|" not in problems_text([file])
        assert "= wrong\n" in problems_text([file])


def test_files_are_listed_separately_and_counted() -> None:
    text = problems_text([one("a: 1", 1), one("b: 1", 1, path="b.yaml")])
    assert text.index("mmp.yaml:1:1\n  1 | a: 1") < text.index("b.yaml:1:1\n  1 | b: 1")
    assert text.endswith("\n2 errors in 2 files\n")


def test_github_properties_and_messages_are_escaped() -> None:
    file = one("a", 1, message="50% of, x: y\nz", path="a,b:c%.yaml")
    assert problems_github(file.problems) == (
        "::error file=a%2Cb%3Ac%25.yaml,line=1,col=1,title=unknown-key::50%25 of, x: y%0Az (mend it)\n"
    )


@pytest.mark.parametrize(
    ("count", "left"), [(10, ""), (11, "and 1 more error; "), (25, "and 15 more errors; ")]
)
def test_github_gets_ten_annotations_a_level_and_the_rest_is_counted(count: int, left: str) -> None:
    errors = tuple(problem(Code.UNKNOWN_KEY, "a", "wrong", line=line) for line in range(1, count + 1))
    warnings = tuple(problem(Code.BARE_ZERO, "a", "hm", line=line) for line in range(1, 13))
    lines = problems_github(errors + warnings).splitlines()
    assert sum(line.startswith("::error ") for line in lines) == MAX_ANNOTATIONS
    assert sum(line.startswith("::warning ") for line in lines) == MAX_ANNOTATIONS
    assert [line for line in lines if line.startswith(left or "-")] == (
        [f"{left}mmp validate shows them all"] if left else []
    )
    assert lines[-1] == "and 2 more warnings; mmp validate shows them all"
