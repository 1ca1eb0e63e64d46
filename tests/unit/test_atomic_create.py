"""A new file comes into being whole or not at all, and why it could not is said with a code."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.cli.main import main


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def failure(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[object, str, str]]:
    """Run a command that fails; gives exit status, code and hint."""

    def run(*arguments: str) -> tuple[object, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "--output", "json"])
        (problem,) = json.loads(capsys.readouterr().out)["problems"]
        return ended.value.code, problem["code"], problem["hint"]

    return run


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("no-such-folder/mmp.yaml", "make the folder first"),
        ("no-such-folder/", "make the folder first"),
        ("", "make the folder first"),
        ("a-file/mmp.yaml", "name a file in a folder"),
        ("a" * 300, "use a shorter name"),
        ("a" * 300 + "/mmp.yaml", "use a shorter name"),
        ("/proc/mmp.yaml", "make the folder first"),
    ],
)
def test_a_place_that_takes_no_file_is_a_runtime_failure_with_what_to_do(
    here: Path, failure: Callable[..., tuple[object, str, str]], name: str, hint: str
) -> None:
    (here / "a-file").touch()
    assert failure("init", name) == (1, "file-unwritable", hint)
    assert os.listdir(here) == ["a-file"]


@pytest.mark.parametrize("name", ["a-folder", "a-folder/"])
def test_a_folder_is_not_written_over(
    here: Path, failure: Callable[..., tuple[object, str, str]], name: str
) -> None:
    (here / "a-folder").mkdir()
    assert failure("init", name) == (4, "file-exists", "name a file in that folder")
    assert os.listdir(here / "a-folder") == []


def test_a_name_as_long_as_the_file_system_takes_is_written(here: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["init", "a" * 250 + ".yaml"])
    assert ended.value.code == 0
    assert os.listdir(here) == ["a" * 250 + ".yaml"]


def refuse(number: int) -> Callable[..., None]:
    def call(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return call


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("calls", [("link",), ("link", "unlink"), ("fsync", "unlink")])
def test_a_failed_write_is_reported_even_if_nothing_can_be_removed(
    failure: Callable[..., tuple[object, str, str]],
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    calls: tuple[str, ...],
) -> None:
    for name in calls:
        monkeypatch.setattr(os, name, refuse(number))
    assert failure("init")[:2] == (1, "file-unwritable")


def test_a_file_that_comes_meanwhile_is_not_written_over(
    here: Path, failure: Callable[..., tuple[object, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.link

    def beaten(source: str, target: str) -> None:
        (here / target).write_text("theirs")
        real(source, target)

    monkeypatch.setattr(os, "link", beaten)
    assert failure("init")[:2] == (4, "file-exists")
    assert (here / "mmp.yaml").read_text() == "theirs"
    assert os.listdir(here) == ["mmp.yaml"]


def test_the_demo_says_that_it_has_no_temporary_folder(
    failure: Callable[..., tuple[object, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "mkdtemp", refuse(errno.EROFS))
    status, code, hint = failure("demo", "--check")
    assert (status, code) == (1, "file-unwritable")
    assert "TMPDIR" in hint
