"""A file that changes while it is in force: what replaces it, what is refused, what is said once."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import pytest

from reconciler.config.load import load_configs
from reconciler.core.events import ConfigAccepted, ConfigMissing, ConfigRejected
from reconciler.core.model import Desired
from reconciler.core.problems import Code, Problem, problem
from reconciler.watch.last_valid_content import (
    FilesFound,
    Undecided,
    WatchedFile,
    WatchedPath,
    WatchedPolicy,
)
from reconciler.watch.write_completion import SECOND_READ_S, ReadConfidence
from tests.unit.builders import BTC

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
        self.watched = WatchedFile(str(path), reading.desired)
        self.now = 1000.0

    def write(self, content: str | bytes | None) -> None:
        if content is None:
            self.path.unlink()
        else:
            self.path.write_bytes(content.encode() if isinstance(content, str) else content)

    def look(
        self, *contents: str | bytes | None, trust: ReadConfidence = ReadConfidence.NEEDS_TWO_READS
    ) -> list[str]:
        """Write each content and look once, a second apart; return what each look said, in a word."""
        said = []
        for content in contents:
            self.write(content)
            said.append(self.again(trust))
        return said

    def again(
        self, trust: ReadConfidence = ReadConfidence.NEEDS_TWO_READS, after_s: float = SECOND_READ_S
    ) -> str:
        self.now += after_s
        match self.watched.decide(self.watched.read(), trust, self.now):
            case ConfigAccepted(path, sha256):
                assert (path, sha256) == (str(self.path), self.desired.sha256)
                return "accepted"
            case ConfigRejected(_, problems):
                return "+".join(problem.code for problem in problems)
            case Undecided():
                return "unsure"
            case ConfigMissing():
                return "awaited"
            case None:
                return ""

    @property
    def desired(self) -> Desired:
        """What is in force."""
        assert self.watched.desired is not None
        return self.watched.desired

    @property
    def quantity(self) -> str:
        """The quantity in force."""
        return self.desired.families[BTC].setting.qty_limit.text


@pytest.fixture
def file(tmp_path: Path) -> File:
    return File(tmp_path / "mmp.yaml")


def test_an_unchanged_file_is_not_reported(file: File) -> None:
    assert [file.again() for _ in range(3)] == ["", "", ""]


def test_new_content_is_accepted_after_two_equal_reads(file: File) -> None:
    assert file.look(SECOND) == ["unsure"]
    assert file.quantity == "100"
    assert file.again() == "accepted"
    assert file.quantity == "400"
    assert file.again() == ""


def test_a_half_written_file_that_parses_is_never_in_force(file: File) -> None:
    assert file.look(HALF, SECOND) == ["unsure", "unsure"]
    assert file.quantity == "100"
    assert file.again() == "accepted"
    assert len(file.desired.families) == 2


def test_content_that_keeps_changing_is_never_in_force(file: File) -> None:
    contents = [FIRST + f"# {number}\n" for number in range(20)]
    assert file.look(*contents) == ["unsure"] * 20
    assert file.again() == "accepted"


def test_one_read_decides_when_the_file_is_known_to_be_complete(file: File) -> None:
    assert file.look(SECOND, trust=ReadConfidence.COMPLETE) == ["accepted"]
    assert file.look(BROKEN, trust=ReadConfidence.COMPLETE) == ["duplicate-key"]
    assert file.look(SECOND, trust=ReadConfidence.COMPLETE) == ["accepted"], "good again, which is news"
    assert file.look(SECOND, trust=ReadConfidence.COMPLETE) == [""]


INVALID: list[tuple[str | bytes | None, Code]] = [
    (BROKEN, Code.DUPLICATE_KEY),
    (EMPTY, Code.EMPTY_FILE),
    (None, Code.FILE_MISSING),
    (b"\xff\xfe\x00", Code.NOT_UTF8),
    (GOOD + "  {}\n", Code.NO_FAMILIES),
    (FIRST.replace("100", "0"), Code.BAD_QUANTITY),
]


@pytest.mark.parametrize(("content", "code"), INVALID)
def test_an_invalid_file_is_reported_once_and_the_last_valid_one_stays(
    file: File, content: str | bytes | None, code: Code
) -> None:
    before = file.desired
    assert file.look(content) == ["unsure"]
    assert file.again() == code
    assert [file.again() for _ in range(3)] == ["", "", ""]
    assert file.desired is before


@pytest.mark.parametrize("content", [None, BROKEN])
def test_the_file_in_force_is_reported_when_it_is_back_after_an_invalid_one(
    file: File, content: str | None
) -> None:
    file.look(content)
    assert file.again() != ""
    assert file.look(FIRST, FIRST) == ["accepted", ""]


def test_a_file_missing_in_one_read_is_not_reported(file: File) -> None:
    assert file.look(None, FIRST, None, FIRST) == ["unsure", "", "unsure", ""]


@pytest.mark.parametrize("trust", list(ReadConfidence))
def test_one_read_never_shows_that_a_file_is_gone(file: File, trust: ReadConfidence) -> None:
    assert file.look(None, trust=trust) == ["unsure"]


def test_a_file_missing_again_is_reported_again(file: File) -> None:
    file.look(None)
    assert file.again() == "file-missing"
    assert file.look(FIRST) == ["accepted"]
    file.look(None)
    assert file.again() == "file-missing", "gone again: reported again"


def test_a_file_reverted_before_it_was_accepted_is_no_change(file: File) -> None:
    assert file.look(SECOND, FIRST, SECOND, FIRST) == ["unsure", "", "unsure", ""]
    assert file.quantity == "100"
    assert file.look(SECOND) == ["unsure"], "and two equal looks are wanted again"


def test_a_file_reverted_after_it_was_accepted_is_a_change(file: File) -> None:
    file.look(SECOND)
    assert file.again() == "accepted"
    assert file.look(FIRST) == ["unsure"]
    assert file.again() == "accepted"
    assert file.quantity == "100"


def test_another_mistake_is_reported_too(file: File) -> None:
    assert file.look(BROKEN) == ["unsure"]
    assert file.again() == "duplicate-key"
    assert file.look(EMPTY) == ["unsure"]
    assert file.again() == "empty-file"


def test_a_corrected_file_is_accepted_after_a_refusal(file: File) -> None:
    file.look(BROKEN)
    assert file.again() == "duplicate-key"
    assert file.look(SECOND) == ["unsure"]
    assert file.again() == "accepted"


@pytest.mark.parametrize(
    "line", ["account: desk-2\n", "credentials: {prefix: OKX_DESK2_}\n", "environment: demo\n"]
)
def test_a_file_of_another_account_is_refused_and_reported_once(file: File, line: str) -> None:
    other = line + SECOND.replace(
        "environment: live\n", "" if "environment" in line else "environment: live\n"
    )
    before = file.desired
    assert file.look(other) == ["unsure"]
    assert file.again() == "bad-account"
    assert file.again() == ""
    assert file.desired is before


def test_another_expected_uid_is_no_other_account(file: File) -> None:
    """It is checked again by the loop, against the key."""
    file.look('expect: {uid: "7"}\n' + SECOND)
    assert file.again() == "accepted"
    assert file.desired.expected_uid == "7"


def test_a_warning_does_not_keep_content_out(file: File) -> None:
    file.look(FIRST.replace("5s", "5"))
    assert file.again() == "accepted"


# ---- what a look is worth ------------------------------------------------------------------------


def test_two_reads_count_only_a_second_apart(file: File) -> None:
    file.write(SECOND)
    assert [file.again(after_s=0.3) for _ in range(4)] == ["unsure"] * 4
    assert file.again(after_s=0.3) == "accepted"


def test_equal_reads_decide_nothing_while_the_file_is_being_written(file: File) -> None:
    assert file.look(*[HALF] * 20, trust=ReadConfidence.WRITING) == ["unsure"] * 20
    assert file.look(HALF) == ["unsure"], "the first of two, after the writer fell silent"
    assert file.again() == "accepted"


def test_a_file_that_is_being_written_is_not_reported_as_valid_again(file: File) -> None:
    file.look(BROKEN, trust=ReadConfidence.COMPLETE)
    assert file.look(FIRST, trust=ReadConfidence.WRITING) == ["unsure"]
    assert file.look(FIRST, trust=ReadConfidence.COMPLETE) == ["accepted"]


def test_unchanged_content_is_not_parsed_again(file: File) -> None:
    file.write(SECOND)
    assert file.watched.read() is file.watched.read()


# ---- a file that was never in force --------------------------------------------------------------


def newcomer(path: Path, refused: Problem | None = None) -> WatchedFile:
    return WatchedFile(str(path), refuse=lambda _: refused)


def looked(file: WatchedFile, *trusts: ReadConfidence) -> list[object]:
    return [file.decide(file.read(), trust, float(now)) for now, trust in enumerate(trusts)]


def test_a_file_that_does_not_exist_yet_is_no_problem(tmp_path: Path) -> None:
    assert looked(newcomer(tmp_path / "mmp.yaml"), *[ReadConfidence.NEEDS_TWO_READS] * 3) == [None] * 3


@pytest.mark.parametrize(
    "trusts", [(ReadConfidence.COMPLETE,), (ReadConfidence.NEEDS_TWO_READS, ReadConfidence.NEEDS_TWO_READS)]
)
def test_the_first_valid_content_is_in_force(tmp_path: Path, trusts: tuple[ReadConfidence, ...]) -> None:
    file = newcomer(tmp_path / "mmp.yaml")
    (tmp_path / "mmp.yaml").write_text(FIRST)
    *before, last = looked(file, *trusts)
    assert before == [Undecided()] * (len(trusts) - 1)
    assert file.desired is not None
    assert last == ConfigAccepted(file.path, file.desired.sha256)


def test_the_first_content_may_be_refused_for_an_account_of_another_file(tmp_path: Path) -> None:
    taken = problem(Code.DUPLICATE_ACCOUNT, "mmp.yaml", "another file has it")
    file = newcomer(tmp_path / "mmp.yaml", taken)
    (tmp_path / "mmp.yaml").write_text(FIRST)
    assert looked(file, ReadConfidence.COMPLETE, ReadConfidence.COMPLETE) == [
        ConfigRejected(file.path, (taken,), in_force=False),
        None,
    ]
    assert file.desired is None


def test_a_new_file_that_never_was_valid_and_is_removed_is_not_reported(tmp_path: Path) -> None:
    file = newcomer(tmp_path / "mmp.yaml")
    (tmp_path / "mmp.yaml").write_text(BROKEN)
    assert isinstance(looked(file, ReadConfidence.COMPLETE)[0], ConfigRejected)
    (tmp_path / "mmp.yaml").unlink()
    assert looked(file, *[ReadConfidence.NEEDS_TWO_READS] * 3) == [None] * 3
    (tmp_path / "mmp.yaml").write_text(BROKEN)
    assert isinstance(looked(file, ReadConfidence.COMPLETE)[0], ConfigRejected), (
        "back again: reported again"
    )


def test_a_new_broken_link_is_awaited_and_reported_once(tmp_path: Path) -> None:
    link, target = tmp_path / "mmp.yaml", tmp_path / "elsewhere.yaml"
    link.symlink_to(target)
    file = newcomer(link)
    awaited: list[object] = [ConfigMissing((file.path,)), None, None]
    assert looked(file, *ReadConfidence) == awaited
    target.write_text(BROKEN)
    assert isinstance(looked(file, ReadConfidence.COMPLETE)[0], ConfigRejected)
    target.unlink()
    assert looked(file, *ReadConfidence) == awaited, "awaited again"
    link.unlink()
    assert looked(file, *ReadConfidence) == [None] * 3, "nothing asks for it any more"
    link.symlink_to(target)
    assert looked(file, *ReadConfidence) == awaited
    target.write_text(FIRST)
    assert isinstance(looked(file, ReadConfidence.COMPLETE)[0], ConfigAccepted)


def test_a_rejection_is_remembered_for_a_later_observer(file: File) -> None:
    remembered = []
    for content in (FIRST, BROKEN, FIRST, BROKEN, SECOND):
        file.look(content, trust=ReadConfidence.COMPLETE)
        remembered.append(file.watched.refused)
    assert [bool(one and one.in_force) for one in remembered] == [False, True, False, True, False]


def test_a_rejected_policy_is_remembered_too(tmp_path: Path) -> None:
    policy, remembered = tmp_path / "mmp-policy.yaml", []
    watched = WatchedPolicy(None, str(tmp_path / "mmp.yaml"), None)
    for text in ("version: 9\n", "version: 1\n", "version: 9\n", "version: 1\n"):
        policy.write_text(text)
        watched.decide(watched.read(), ReadConfidence.COMPLETE, 0.0)
        remembered.append(watched.refused and watched.refused.in_force)
    assert remembered == [False, None, True, None], "there is a good one from the second on"


# ---- a place named on the command line -----------------------------------------------------------


def test_a_path_leads_to_the_settings_files_of_a_folder(tmp_path: Path) -> None:
    place = WatchedPath(str(tmp_path / "accounts"))
    assert place.read() == ()
    (tmp_path / "accounts").mkdir()
    for name in ("b.yaml", "a.yml", "mmp-policy.yaml", ".c.yaml", "notes.txt"):
        (tmp_path / "accounts" / name).write_text("")
    assert [Path(path).name for path in place.read()] == ["a.yml", "b.yaml"]


def test_a_place_is_reported_when_it_leads_elsewhere(tmp_path: Path) -> None:
    place = WatchedPath("mmp.yaml")
    paths = [(), ("mmp.yaml",), ("mmp.yaml",), ()]
    said = [place.decide(found, ReadConfidence.COMPLETE, 0.0) for found in paths]
    assert said == [None, FilesFound(("mmp.yaml",), complete=True), None, FilesFound((), complete=False)]


def test_a_complete_file_says_nothing_about_the_others_in_its_folder() -> None:
    place = WatchedPath("accounts")
    assert place.decide(("accounts/a.yaml",), ReadConfidence.COMPLETE, 0.0) == FilesFound(
        ("accounts/a.yaml",), complete=False
    )


# ---- what says nothing about a file --------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO])
def test_a_shortage_or_a_failing_disk_is_not_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    file = File(tmp_path / "mmp.yaml")
    named = WatchedPolicy(None, str(file.path), str(file.path))
    monkeypatch.setattr(os, "open", fail)
    monkeypatch.setattr(os, "listdir", fail)
    watched = (file.watched, named, WatchedPolicy(None, str(file.path), None), WatchedPath(str(tmp_path)))
    for each in watched:
        with pytest.raises(OSError, match=re.escape(os.strerror(number))):
            each.read()


def test_a_file_that_must_not_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "no")

    file = File(tmp_path / "mmp.yaml")
    monkeypatch.setattr(os, "open", fail)
    assert [found.code for found in file.watched.read().problems] == [Code.FILE_UNREADABLE]
