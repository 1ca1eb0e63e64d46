"""The door of desired settings: files and folders named on the command line → their readings.

This file decides which files of a folder are desired settings, and that one account in one
environment has one file. It only reads.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace

from reconciler.core.model import Environment
from reconciler.core.problems import Code, Problem, printable, problem
from reconciler.desired.nodes import MAX_BYTES
from reconciler.desired.reader import Reading, read_config

__all__ = ["Reading", "load_configs", "read_config"]

SUFFIXES = (".yaml", ".yml")
POLICY_NAMES = frozenset({"mmp-policy.yaml", "mmp-policy.yml"})
"""Files of a folder that hold the policy, not desired settings."""


def load_configs(paths: Sequence[str]) -> tuple[Reading, ...]:
    """Read the files and folders of ``paths``, in that order, a folder's files sorted by name.

    A folder's hidden files, its policy file and the folders in it are passed over. A file reached
    twice, also through links, is read once. An account named twice is an error of the later file.
    """
    readings = (reading for path in paths for reading in _load(path))
    seen: set[str] = set()
    once: list[Reading] = []
    for reading in readings:
        identity = _identity(reading.path)
        if identity not in seen:
            seen.add(identity)
            once.append(reading)
    return tuple(_one_file_an_account(once))


def _load(path: str) -> Iterator[Reading]:
    if not os.path.isdir(path):
        yield _load_file(path)
        return
    try:
        names = sorted(filter(_is_config_name, os.listdir(path)))
    except OSError as error:
        yield _failed(_unreadable(path, error))
        return
    files = [file for file in (os.path.join(path, name) for name in names) if not os.path.isdir(file)]
    if not files:
        hint = "name another folder, or the file itself; folders inside it are not looked at"
        yield _failed(problem(Code.NO_CONFIG_FILES, path, "the folder has no *.yaml or *.yml file", hint))
    for file in files:
        yield _load_file(file)


def _load_file(path: str) -> Reading:
    try:
        with open(path, "rb") as file:
            # One byte more than is allowed is enough to know that it is too large.
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        hint = "check the path and the folder you are in"
        message = "there is no such file; that never means “nothing desired”"
        return _failed(problem(Code.FILE_MISSING, path, message, hint))
    except (OSError, ValueError) as error:
        return _failed(_unreadable(path, error))
    return read_config(content, path)


def _one_file_an_account(readings: Sequence[Reading]) -> Iterator[Reading]:
    first: dict[tuple[str, Environment], str] = {}
    for reading in readings:
        if reading.owner is None:
            yield reading
            continue
        key = (reading.owner.account, reading.owner.environment)
        other = first.setdefault(key, reading.path)
        yield reading if other == reading.path else _refused(reading, other)


def _refused(reading: Reading, other: str) -> Reading:
    assert reading.owner is not None
    owner = reading.owner
    found = problem(
        Code.DUPLICATE_ACCOUNT,
        reading.path,
        f"account {owner.account} in {owner.environment} is already set in {printable(other)}",
        "merge the two files, or correct the account of one of them",
        line=owner.at.line,
        column=owner.at.column,
    )
    problems = sorted((*reading.problems, found), key=lambda each: (each.line, each.column))
    return replace(reading, desired=None, problems=tuple(problems))


def _failed(found: Problem) -> Reading:
    return Reading(found.path, "", None, (found,))


def _unreadable(path: str, error: Exception) -> Problem:
    why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    hint = "check the path, and that the user who runs mmp may read it"
    return problem(Code.FILE_UNREADABLE, path, f"cannot be read: {why}", hint)


def _is_config_name(name: str) -> bool:
    return name.endswith(SUFFIXES) and not name.startswith(".") and name not in POLICY_NAMES


def _identity(path: str) -> str:
    try:
        return os.path.realpath(path)
    except ValueError:
        return path
