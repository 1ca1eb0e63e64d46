"""Reads files from git revisions, without network access, prompts or a pager. Never writes.

This file decides what ``REF`` and ``REF:path`` mean, and which words may be a path instead. No argument of
git begins with the user's text if that begins with a dash: such text is rejected. After the first query,
every query names the commit that git returned. Git gets only the environment variables that locate the
repository, never an API key.
"""

from __future__ import annotations

import os
import posixpath
import re
import subprocess
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from reconciler.errors import InvalidInput

GIT_TIMEOUT_S = 30.0
"""The timeout of one git command. Each reads a few objects from the local disk."""

_FLAGS = ("--no-pager", "--no-optional-locks", "--no-replace-objects", "--literal-pathspecs")

_PASSED_ENVIRONMENT = frozenset(
    {
        "PATH",
        "HOME",
        "XDG_CONFIG_HOME",
        "GIT_DIR",
        "GIT_WORK_TREE",
        "GIT_COMMON_DIR",
        "GIT_OBJECT_DIRECTORY",
        "GIT_ALTERNATE_OBJECT_DIRECTORIES",
        "GIT_CEILING_DIRECTORIES",
        "GIT_DISCOVERY_ACROSS_FILESYSTEM",
    }
)
"""Variables that are passed to git: they locate things. ``GIT_CONFIG…`` too, for ``safe.directory``."""

_ADDED_ENVIRONMENT = {
    "LC_ALL": "C",
    "GIT_TERMINAL_PROMPT": "0",
    # A clone without all of its objects must not fetch them.
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "none",
}

_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?", re.ASCII)
_REVISION = re.compile(
    r"(?![-./])(?!.*(?:\.\.|//|/\.|\.lock\b))[^\x00-\x20\x7f~^:?*\[\\{}]+(?<![./])(?:@\{[^{}]+\})?"
    r"(?:[~^][0-9]*|\^\{(?:commit)?\})*"
)
"""What git may accept as the name of a commit: a valid name, and steps to its ancestors."""

_FILE_MODE = "100"
_FOLDER_MODE = "040000"
_OTHER_MODES = {"120000": "a symbolic link", "160000": "a submodule"}


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """An entry of a git tree: mode and object."""

    mode: str
    object: str

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return self.mode == _FOLDER_MODE


@dataclass(frozen=True)
class Revision:
    """One commit, under the name the user gave it; paths are from the repository's top folder."""

    name: str
    commit: str
    _folders: dict[str, dict[str, TreeEntry]] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def prefix(self) -> str:
        """The current folder, from the repository's top: empty or ``a/b/``."""
        return _git_output("rev-parse", "--show-prefix").removesuffix("\n")

    def path(self, written: str) -> str:
        """Return the path from the top for a path written in ``REF:path``, as git reads it.

        ``./`` and ``../`` begin at the current folder. Raises InvalidInput beyond the repository.
        """
        relative = written in (".", "..") or written.startswith(("./", "../"))
        return self._normal(self.prefix + written if relative else written, written)

    def path_of_file(self, path: str) -> str:
        """Return the path from the top of a file or folder as the system names it.

        No link within the repository is followed: the working files may have another link than the
        revision, and then another file would be read.
        """
        top = Path(os.path.realpath(os.curdir))
        for _ in range(self.prefix.count("/")):
            top = top.parent
        named = Path(os.path.abspath(path))
        for ancestor in reversed((named, *named.parents)):
            real = Path(os.path.realpath(ancestor))
            if real.is_relative_to(top):
                return self._normal((real.relative_to(top) / named.relative_to(ancestor)).as_posix(), path)
        raise self._outside(path)

    def display_path(self, path: str) -> str:
        """Return how a path of this revision is displayed: ``REF:path``."""
        return f"{self.name}:{path or '.'}"

    def parse_display_path(self, display_path: str) -> str:
        """Return the path from the top that is displayed as ``display_path``."""
        path = posixpath.normpath(display_path.removeprefix(f"{self.name}:"))
        return "" if path == "." else path

    def entry(self, path: str) -> TreeEntry | None:
        """Return what is at ``path`` ("" is the top folder); None when nothing is.

        Raises InvalidInput where a folder of ``path`` is a link or a submodule: its target is not read.
        """
        if not path:
            return TreeEntry(_FOLDER_MODE, self.commit)
        parent, name = posixpath.split(path)
        above = self.entry(parent)
        if above is not None and above.mode in _OTHER_MODES:
            raise _not_a_file(above, self.display_path(parent))
        return self.folder(parent).get(name)

    def folder(self, path: str) -> dict[str, TreeEntry]:
        """Return the entries of the folder at ``path``, by name; nothing if it is not a folder."""
        if path not in self._folders:
            found = self.entry(path)
            self._folders[path] = _entries(found.object) if found and found.is_folder else {}
        return self._folders[path]

    def _normal(self, path: str, written: str) -> str:
        normal = posixpath.normpath(path.lstrip("/")) if path else "."
        if normal == ".." or normal.startswith("../"):
            raise self._outside(written)
        return "" if normal == "." else normal

    def _outside(self, written: str) -> InvalidInput:
        return InvalidInput(
            "outside-repository",
            f"{written} is not in the git repository here",
            "a revision has only what is in its repository; run mmp in there, or name a file instead",
        )


@dataclass(frozen=True, slots=True)
class GitFiles:
    """The files of a revision, under their display paths: ``REF:path``."""

    revision: Revision

    def names(self, folder: str) -> list[str] | None:
        """Return the names of the files in ``folder``; None if it is not a folder."""
        path = self.revision.parse_display_path(folder)
        found = self.revision.entry(path)
        if found is None or not found.is_folder:
            return None
        return [name for name, entry in self.revision.folder(path).items() if not entry.is_folder]

    def file_id(self, path: str) -> str:
        """Return the path itself: a revision has each file under one name."""
        return path

    def content(self, path: str, limit: int) -> bytes:
        """Return at most ``limit`` bytes of the file ``path``. Raises InvalidInput for a link."""
        entry = self.revision.entry(self.revision.parse_display_path(path))
        assert entry is not None, "only what a folder lists is read"
        return _content(entry, path, limit)


def split_ref_path(text: str) -> tuple[str, str | None]:
    """Return ``REF`` and the path behind its colon, None without one; a colon in braces is REF's."""
    depth = 0
    for place, character in enumerate(text):
        if character == ":" and not depth:
            return text[:place], text[place + 1 :]
        depth += {"{": 1, "}": -1}.get(character, 0)
    return text, None


def is_plainly_a_path(word: str) -> bool:
    """Return whether ``word`` can only be a path: no revision of git has such a beginning or end."""
    return word.startswith(("/", "./", "../")) or word.endswith("/") or word in (".", "..")


def reject_ambiguous(word: str) -> None:
    """Raise InvalidInput if ``word``, which exists as a path, is or may be a revision, too.

    It may be a revision that this clone does not have: then it is a path only by its form, or as the name
    of a YAML file. Without a repository, it is a path.
    """
    if is_plainly_a_path(word):
        return
    is_yaml = word.endswith((".yaml", ".yml"))
    try:
        commit = _commit(word)
        is_repository = commit is not None or is_yaml or _is_shallow() is not None
    except InvalidInput:
        if is_yaml:  # without git there is no revision of this name
            return
        raise
    if commit is not None:
        raise InvalidInput(
            "ambiguous-name",
            f"{word} is both a path here and a git revision; nothing was compared",
            f"write ./{word} for the path, or {word}:PATH for a file of the revision, "
            f"such as {word}:mmp.yaml",
        )
    if is_repository and not is_yaml:
        raise InvalidInput(
            "ambiguous-name",
            f"{word} is a path here, and may be a git revision that this clone does not have",
            f"write ./{word} for the path; for the revision, fetch it first and write {word}:PATH",
        )


def find_revision(ref: str) -> Revision:
    """Return the commit that ``ref`` names here. Raises InvalidInput, with what to do."""
    commit = _commit(ref)
    if commit is None:
        raise _unknown_revision(ref)
    return Revision(ref, commit)


def _commit(ref: str) -> str | None:
    """Return the commit that ``ref`` names here, None if git knows none."""
    if not ref or ref.startswith(("-", "^")) or "\0" in ref:
        return None
    answer = _git("rev-parse", "--verify", "--quiet", "--end-of-options", ref + "^{commit}")
    commit = answer.stdout.decode("ascii", "replace").strip()
    return commit if answer.returncode == 0 and _COMMIT.fullmatch(commit) else None


def _is_shallow() -> bool | None:
    """Return whether the git repository here is a shallow clone; None: there is no repository.

    Raises InvalidInput if git fails.
    """
    answer = _git("rev-parse", "--is-shallow-repository")
    if b"not a git repository" in answer.stderr:
        return None
    if answer.returncode:
        raise _failed(answer)
    return answer.stdout.strip() == b"true"


def _unknown_revision(named: str) -> InvalidInput:
    """Return why ``named`` is not a commit here: each cause has its own remedy."""
    ref, is_shallow = named or "an empty name", _is_shallow()
    if is_shallow is None:
        return InvalidInput(
            "not-a-repository",
            f"{ref} is not a file or folder, and there is no git repository here",
            "check the path (one with a colon is written ./PATH), or run mmp inside the repository",
        )
    if is_shallow and _is_plausible(named):
        return InvalidInput(
            "shallow-clone",
            f"{ref} is not in this clone, which is shallow",
            "clone the complete history: fetch-depth: 0 for actions/checkout, GIT_DEPTH: 0 in GitLab CI, "
            "git fetch --unshallow by hand",
        )
    return InvalidInput(
        "unknown-revision",
        f"{ref} is neither a file or folder nor a revision of the git repository here",
        "check the name; a branch of the remote is known after git fetch, as origin/NAME; "
        "a path with a colon is written ./PATH",
    )


def _is_plausible(named: str) -> bool:
    """Return whether a complete clone could have a commit of this name; not if it is a typing error."""
    return _REVISION.fullmatch(named) is not None and not named.endswith((".yaml", ".yml"))


def missing_in_revision(revision: Revision, path: str) -> InvalidInput:
    """Return the failure for a path that ``revision`` does not have."""
    return InvalidInput(
        "not-in-revision",
        f"{revision.name} has no {path}; this never means “nothing desired”",
        "name the file with --config; if it had another path then, write REF:path (from the top folder)",
        path=revision.display_path(path),
    )


def _entries(tree: str) -> dict[str, TreeEntry]:
    """Return the entries of a tree, by name."""
    answer = _git_output("ls-tree", "-z", "--full-tree", tree)
    found = {}
    for line in filter(None, answer.split("\0")):
        about, _, name = line.partition("\t")
        mode, _, identity = about.split(" ")
        found[name] = TreeEntry(mode, identity)
    return found


def _content(entry: TreeEntry, display_path: str, limit: int) -> bytes:
    if not entry.mode.startswith(_FILE_MODE):
        raise _not_a_file(entry, display_path)
    with _start("cat-file", "blob", entry.object) as process:
        assert process.stdout is not None
        # Output beyond the limit is not read: git ends on the closed pipe.
        content = process.stdout.read(limit)
    if process.returncode and len(content) < limit:
        raise InvalidInput(
            "git-failed",
            f"git cannot read the content of {display_path}",
            "in a clone without all objects (--filter) fetch them first; git fsck shows what is damaged",
            path=display_path,
        )
    return content


def _not_a_file(entry: TreeEntry, display_path: str) -> InvalidInput:
    what = _OTHER_MODES.get(entry.mode, "a folder")
    return InvalidInput(
        "not-a-file",
        f"{display_path} is {what} in that revision",
        "name the file itself, as REF:path",
        path=display_path,
    )


def _git_output(*arguments: str) -> str:
    """Return the output of a git command. Raises InvalidInput with git's message if it fails."""
    answer = _git(*arguments)
    if answer.returncode:
        raise _failed(answer)
    return os.fsdecode(answer.stdout)


def _failed(answer: subprocess.CompletedProcess[bytes]) -> InvalidInput:
    message = os.fsdecode(answer.stderr).strip().partition("\n")[0]
    if "dubious ownership" in message:
        return InvalidInput(
            "git-failed",
            "git does not trust this repository: it belongs to another user",
            "git config --global --add safe.directory PATH, with the path of the repository",
        )
    return InvalidInput("git-failed", f"git failed: {message or f'exit status {answer.returncode}'}")


def _git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    with _start(*arguments) as process:
        try:
            stdout, stderr = process.communicate(timeout=GIT_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise InvalidInput("git-failed", f"git did not answer within {GIT_TIMEOUT_S:.0f} s") from None
    return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)


def _start(*arguments: str) -> subprocess.Popen[bytes]:
    passed = {
        name: value
        for name, value in os.environ.items()
        if name in _PASSED_ENVIRONMENT or name.startswith("GIT_CONFIG")
    }
    try:
        return subprocess.Popen(  # noqa: S603  # no shell, and no argument begins with the user's text
            ["git", *_FLAGS, *arguments],  # noqa: S607  # git is found on PATH
            env={**passed, **_ADDED_ENVIRONMENT},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    except OSError as error:
        raise InvalidInput(
            "git-missing",
            f"git cannot be started: {error.strerror}",
            "install git for comparing revisions; two files or folders are compared without it",
        ) from None
