"""A file that changes while it is in force: what replaces it, what is refused, what is said once."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.core.problems import Code
from reconciler.desired.config import load_configs
from reconciler.desired.watch import Accepted, Rejected, WatchedFile
from tests.unit.core_builders import BTC

GOOD = "version: 1\nenvironment: live\ndefaults: {timeInterval: 5s, frozenInterval: 2s}\nfamilies:\n"
FIRST = GOOD + "  BTC-USD: {qtyLimit: 100}\n"
SECOND = GOOD + "  BTC-USD: {qtyLimit: 400}\n  ETH-USD: {qtyLimit: 500}\n"
HALF = GOOD + "  BTC-USD: {qtyLimit: 400}\n"
"""The first half of SECOND, which parses."""

BROKEN = FIRST + "  BTC-USD: {qtyLimit: 1}\n"
EMPTY = ""


class File:
    """A file on disk, and the program's look at it."""

    def __init__(self, path: Path, content: str = FIRST) -> None:
        self.path = path
        self.write(content)
        (reading,) = load_configs([str(path)])
        assert reading.desired is not None
        self.watched = WatchedFile(reading.desired)

    def write(self, content: str | bytes | None) -> None:
        if content is None:
            self.path.unlink()
        else:
            self.path.write_bytes(content.encode() if isinstance(content, str) else content)

    def look(self, *contents: str | bytes | None, at_once: bool = False) -> list[str]:
        """Write each content and look once; return what each look said, in a word."""
        said = []
        for content in contents:
            self.write(content)
            said.append(self.again(at_once=at_once))
        return said

    def again(self, *, at_once: bool = False) -> str:
        match self.watched.look(at_once=at_once):
            case Accepted(desired):
                assert desired is self.watched.desired
                return "accepted"
            case Rejected(problems):
                return "+".join(problem.code for problem in problems)
            case None:
                return ""

    @property
    def quantity(self) -> str:
        """The quantity in force."""
        return self.watched.desired.families[BTC].setting.qty_limit.text


@pytest.fixture
def file(tmp_path: Path) -> File:
    return File(tmp_path / "mmp.yaml")


def test_an_unchanged_file_says_nothing(file: File) -> None:
    assert [file.again() for _ in range(3)] == ["", "", ""]


def test_new_content_is_accepted_after_two_equal_looks(file: File) -> None:
    assert file.look(SECOND) == [""]
    assert file.quantity == "100"
    assert file.again() == "accepted"
    assert file.quantity == "400"
    assert file.again() == ""


def test_a_half_written_file_that_parses_is_never_in_force(file: File) -> None:
    assert file.look(HALF, SECOND) == ["", ""]
    assert file.quantity == "100"
    assert file.again() == "accepted"
    assert len(file.watched.desired.families) == 2


def test_content_that_keeps_changing_is_never_in_force(file: File) -> None:
    contents = [FIRST + f"# {number}\n" for number in range(20)]
    assert file.look(*contents) == [""] * 20
    assert file.again() == "accepted"


def test_when_someone_says_that_the_file_is_whole_one_look_decides(file: File) -> None:
    assert file.look(SECOND, at_once=True) == ["accepted"]
    assert file.look(BROKEN, at_once=True) == ["duplicate-key"]
    assert file.look(SECOND, at_once=True) == [""]


INVALID: list[tuple[str | bytes | None, Code]] = [
    (BROKEN, Code.DUPLICATE_KEY),
    (EMPTY, Code.EMPTY_FILE),
    (None, Code.FILE_MISSING),
    (b"\xff\xfe\x00", Code.NOT_UTF8),
    (GOOD + "  {}\n", Code.NO_FAMILIES),
    (FIRST.replace("100", "0"), Code.BAD_QUANTITY),
]


@pytest.mark.parametrize(("content", "code"), INVALID)
def test_what_does_not_hold_keeps_the_last_good_one_and_is_told_once(
    file: File, content: str | bytes | None, code: Code
) -> None:
    before = file.watched.desired
    assert file.look(content) == [""]
    assert file.again() == code
    assert [file.again() for _ in range(3)] == ["", "", ""]
    assert file.watched.desired is before


def test_a_missing_file_that_comes_back_as_it_was_is_no_news(file: File) -> None:
    file.look(None)
    assert file.again() == "file-missing"
    assert file.look(FIRST) == [""]
    assert file.again() == ""
    file.look(None)
    assert file.again() == "file-missing", "gone again: told again"


def test_a_file_reverted_before_it_was_accepted_is_no_change(file: File) -> None:
    assert file.look(SECOND, FIRST, SECOND, FIRST) == ["", "", "", ""]
    assert file.quantity == "100"
    assert file.look(SECOND) == [""], "and two equal looks are wanted again"


def test_a_file_reverted_after_it_was_accepted_is_a_change(file: File) -> None:
    file.look(SECOND)
    assert file.again() == "accepted"
    assert file.look(FIRST) == [""]
    assert file.again() == "accepted"
    assert file.quantity == "100"


def test_another_mistake_is_told_too(file: File) -> None:
    assert file.look(BROKEN) == [""]
    assert file.again() == "duplicate-key"
    assert file.look(EMPTY) == [""]
    assert file.again() == "empty-file"


def test_a_corrected_file_is_accepted_after_a_refusal(file: File) -> None:
    file.look(BROKEN)
    assert file.again() == "duplicate-key"
    assert file.look(SECOND) == [""]
    assert file.again() == "accepted"


@pytest.mark.parametrize(
    "line",
    ["account: desk-2\n", "credentials: {prefix: OKX_DESK2_}\n", "environment: demo\n"],
)
def test_a_file_of_another_account_is_refused_and_told_once(file: File, line: str) -> None:
    other = line + SECOND.replace(
        "environment: live\n", "" if "environment" in line else "environment: live\n"
    )
    before = file.watched.desired
    assert file.look(other) == [""]
    assert file.again() == "bad-account"
    assert file.again() == ""
    assert file.watched.desired is before


def test_another_expected_uid_is_no_other_account(file: File) -> None:
    """It is checked again by the loop, against the key."""
    file.look('expect: {uid: "7"}\n' + SECOND)
    assert file.again() == "accepted"
    assert file.watched.desired.expected_uid == "7"


def test_a_warning_does_not_keep_content_out(file: File) -> None:
    file.look(FIRST.replace("5s", "5"))
    assert file.again() == "accepted"
