"""Settings files: from the paths on the command line to their contents.

This file decides which files of a folder are settings files. It also makes sure that there is only one
file for each account and environment. It never writes.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from reconciler.config.secret_redaction import without_secrets
from reconciler.config.settings import Reading, read_config
from reconciler.config.yaml_nodes import MAX_FILE_BYTES, problem_at
from reconciler.core.model import Environment
from reconciler.core.problems import Code, Collected, Problem, escape_unprintable, problem
from reconciler.regular_file import PIPES, NotRegularFile, read_regular
from reconciler.regular_file import REGULAR_FILE_HINT as NOT_REGULAR_HINT

__all__ = ["Files", "Reading", "load_configs", "read_config"]

SUFFIXES = (".yaml", ".yml")
POLICY_NAMES = frozenset({"mmp-policy.yaml", "mmp-policy.yml"})
"""Files of a folder that are policies, not settings files."""


SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO})
"""Errors of a read that are not about the file: the same read may succeed a moment later."""


class Files(Protocol):
    """Where files are read from: the disk, or a git revision."""

    def names(self, folder: str) -> list[str] | None:
        """Return the names of the files in ``folder``; None if it is not a folder. Raises OSError."""

    def file_id(self, path: str) -> str:
        """Return an identifier that is equal for two paths to the same file."""

    def content(self, path: str, limit: int) -> bytes:
        """Return at most ``limit`` bytes of the file. Raises OSError, or ValueError for its name."""


class OnDisk:
    """The files of this machine."""

    def names(self, folder: str) -> list[str] | None:
        """Return the names of the files in ``folder``; None if it is not a folder."""
        if PIPES.has(folder) or not os.path.isdir(folder):
            return None
        return [name for name in os.listdir(folder) if not os.path.isdir(os.path.join(folder, name))]

    def file_id(self, path: str) -> str:
        """Return the path with its links resolved."""
        return file_id(path)

    def content(self, path: str, limit: int) -> bytes:
        """Return at most ``limit`` bytes of the file."""
        return read_regular(path, limit)


def load_configs(paths: Sequence[str], files: Files | None = None) -> tuple[Reading, ...]:
    """Read the files and folders of ``paths``, in that order, a folder's files sorted by name.

    Hidden files, policy files and folders within a folder are not read. A file that is reached twice, also
    through links, is read once. If two files name the same account, that is an error in the later file.
    ``files`` is where the files are; None means on disk.
    """
    places = files or OnDisk()
    once: dict[str, Reading] = {}
    for reading in (reading for path in paths for reading in _load(path, places)):
        once.setdefault(places.file_id(reading.path), reading)
    return tuple(_with_duplicate_accounts(once.values()))


def _load(path: str, files: Files) -> Iterator[Reading]:
    try:
        names = files.names(path)
    except OSError as error:
        yield failed_reading(unreadable_reading(path, error))
        return
    if names is None:
        yield _load_file(path, files)
        return
    chosen = sorted(filter(is_config_name, names))
    if not chosen:
        hint = "name another folder, or the file itself; folders inside it are not looked at"
        yield failed_reading(
            problem(Code.NO_CONFIG_FILES, path, "the folder has no *.yaml or *.yml file", hint)
        )
    for name in chosen:
        yield _load_file(os.path.join(path, name), files)


def _load_file(path: str, files: Files) -> Reading:
    content = read_content(path, files)
    return failed_reading(content) if isinstance(content, Problem) else read_config(content, path)


def read_content(
    path: str,
    files: Files,
    failure: Callable[[str, Exception], Problem] | None = None,
    missing: str = "the file does not exist; this never means “nothing desired”",
) -> bytes | Problem:
    """Return the content of a file, at most MAX_FILE_BYTES + 1 bytes, or the problem of reading it.

    ``failure`` turns an error into a problem or raises it; None means ``unreadable``. ``missing`` is the
    message for a file that does not exist.
    """
    try:
        # One byte more than the limit is enough to find that the file is too large.
        return files.content(path, MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return problem(Code.FILE_MISSING, path, missing, "check the path and the folder you are in")
    except (OSError, ValueError) as error:
        return (failure or unreadable_reading)(path, error)


def _with_duplicate_accounts(readings: Iterable[Reading]) -> Iterator[Reading]:
    first: dict[tuple[str, Environment], str] = {}
    for reading in readings:
        owner, other = reading.owner, reading.path
        if owner is not None:
            other = first.setdefault((owner.account, owner.environment), reading.path)
        yield reading if other == reading.path else _as_duplicate(reading, other)


def _as_duplicate(reading: Reading, other: str) -> Reading:
    problems = Collected((duplicate_account(reading, other), *reading.problems)).problems()
    return replace(reading, desired=None, problems=without_secrets(problems, reading.quotable))


def duplicate_account(reading: Reading, other: str) -> Problem:
    """Return the problem of a file whose account is already in the file ``other``."""
    assert reading.owner is not None
    owner = reading.owner
    where = escape_unprintable(other)
    message = f"account {owner.account} in {owner.environment} is already set in {where}"
    hint = "merge the two files, or correct the account of one of them"
    return problem_at(owner.position, Code.DUPLICATE_ACCOUNT, reading.path, message, hint)


def failed_reading(found: Problem) -> Reading:
    """Return the reading of a file that could not be read at all."""
    return Reading(found.path, "", None, (found,))


def unreadable_reading(path: str, error: Exception) -> Problem:
    """Return the problem of a file that exists but cannot be read."""
    why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    readable = "check the path, and that the user who runs mmp may read it"
    hint = NOT_REGULAR_HINT if isinstance(error, NotRegularFile) else readable
    return problem(Code.FILE_UNREADABLE, path, f"cannot be read: {why}", hint)


def unreadable_unless_shortage(path: str, error: Exception) -> Problem:
    """Return the problem of a file that cannot be read. Raises an error that is not about the file."""
    if is_shortage(error):
        raise error
    return unreadable_reading(path, error)


def is_shortage(error: Exception) -> bool:
    """Return whether an error of a read is not about the file."""
    return isinstance(error, OSError) and error.errno in SHORTAGES


def is_absent(reading: Reading) -> bool:
    """Return whether the file does not exist."""
    absent = (Code.FILE_MISSING, Code.NO_CONFIG_FILES)
    return reading.desired is None and all(each.code in absent for each in reading.problems)


def is_config_name(name: str) -> bool:
    """Return whether a file with this name in a folder is a settings file."""
    return name.endswith(SUFFIXES) and not name.startswith(".") and name not in POLICY_NAMES


def file_id(path: str) -> str:
    """Return an identifier that is equal for two paths to the same file."""
    try:
        return os.path.realpath(path)
    except ValueError:
        return path
