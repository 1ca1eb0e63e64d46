"""Paths that are not regular files: each is opened without blocking, and refused."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from reconciler.config.load import load_configs
from reconciler.config.policy import load_policy, policy_for
from reconciler.core.problems import Code
from reconciler.documents.saved_plan_file import read_bounded
from reconciler.errors import InvalidInput
from reconciler.regular_file import NotRegularFile, read_regular
from reconciler.watch.last_valid_content import WatchedFile, WatchedPolicy

WHY = "cannot be read: it is not a regular file"
T = TypeVar("T")
HINT = "name a regular file; to use what another program writes, save it to a file first"


@pytest.fixture(params=["pipe", "link to a pipe", "socket", "device"])
def no_file(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """The path of something that is no file, under the name of a policy."""
    path, kind = tmp_path / "mmp-policy.yaml", request.param
    listening = socket.socket(socket.AF_UNIX)
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "link to a pipe":
            os.mkfifo(tmp_path / "pipe")
            path.symlink_to("pipe")
        case "socket":
            monkeypatch.chdir(tmp_path)  # the path of a socket has to be short
            listening.bind(path.name)
        case "device":
            path.symlink_to("/dev/zero")
    yield str(path)
    listening.close()


def at_once(ask: Callable[[], T]) -> T:
    """Return what ``ask`` does, in a thread of its own: a reader that waits must not stop the tests."""
    answers: list[T | BaseException] = []

    def work() -> None:
        try:
            answers.append(ask())
        except BaseException as error:
            answers.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(5.0)
    assert answers, "it waits for a writer"
    (answer,) = answers
    if isinstance(answer, BaseException):
        raise answer
    return answer


def test_settings_are_refused(no_file: str) -> None:
    (reading,) = at_once(lambda: load_configs([no_file]))
    (problem,) = reading.problems
    assert (problem.code, problem.message, problem.hint) == (Code.FILE_UNREADABLE, WHY, HINT)
    assert reading.desired is None
    watched = WatchedFile(no_file)
    assert at_once(watched.read) == reading


def test_a_policy_is_refused_named_or_beside_the_settings(no_file: str) -> None:
    beside = str(Path(no_file).parent / "mmp.yaml")
    for read in (
        lambda: load_policy(no_file),
        lambda: policy_for(beside, no_file),
        lambda: policy_for(beside, None),
        lambda: WatchedPolicy(None, beside, None).read(),
    ):
        reading = at_once(read)
        assert reading is not None
        (problem,) = reading.problems
        assert (problem.code, problem.message, problem.hint) == (Code.FILE_UNREADABLE, WHY, HINT)


@pytest.mark.parametrize("kind", ["plan", "status"])
def test_a_document_is_refused(no_file: str, kind: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        at_once(lambda: read_bounded(no_file, kind))
    assert (caught.value.code, caught.value.hint) == (f"{kind}-unreadable", HINT)
    assert caught.value.message.endswith(WHY)


def test_reading_what_is_no_regular_file_is_a_system_error(no_file: str) -> None:
    with pytest.raises(NotRegularFile):
        at_once(lambda: read_regular(no_file, 10))


def test_a_file_is_read_up_to_the_limit_also_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    (tmp_path / "link").symlink_to("file")
    assert read_regular(str(tmp_path / "link"), 4) == b"0123"
    assert read_regular(str(tmp_path / "file"), 100) == b"0123456789"


def test_a_folder_is_called_one(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        read_regular(str(tmp_path), 10)
