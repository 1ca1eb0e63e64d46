"""One side of ``mmp diff``: a file or folder on this machine, or files and folders of a git revision.

This file decides where each side is read from, and whether a missing policy means that there is none.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
from contextlib import suppress
from dataclasses import dataclass

from reconciler.config.git import (
    GitFiles,
    Revision,
    find_revision,
    is_plainly_a_path,
    missing_in_revision,
    reject_ambiguous,
    split_ref_path,
)
from reconciler.config.load import SUFFIXES, Reading, is_config_name, load_configs
from reconciler.config.policy import PolicyReading, find_policy, policy_for, read_policy
from reconciler.config.yaml_nodes import MAX_FILE_BYTES
from reconciler.core.model import Desired
from reconciler.core.policy import Policy
from reconciler.errors import InvalidInput
from reconciler.regular_file import STANDARD_INPUT, read_with_status


def diff_side(written: str, config: tuple[str, ...]) -> DiffSide:
    """Return the side ``written`` on the command line; ``config`` are the paths of a revision without one.

    Raises InvalidInput when it names nothing, or when it may be a path and a revision: a person who can add
    files to a branch must not decide which of the two is compared.
    """
    if written == STANDARD_INPUT:
        return DiffSide((written,))
    ref, path = split_ref_path(written)
    if os.path.lexists(written) and (path is None or is_plainly_a_path(written)):
        reject_ambiguous(written)
        return DiffSide((written,))
    revision = find_revision(ref)
    if path is not None:
        return DiffSide((revision.path(path),), revision)
    return DiffSide(tuple(map(revision.path_of_file, config)), revision)


@dataclass(frozen=True, slots=True)
class DiffSide:
    """The files that are compared: one path on this machine, or paths from the top of a ``revision``."""

    paths: tuple[str, ...]
    revision: Revision | None = None

    @property
    def name(self) -> str:
        """The display name of the first path."""
        return self._display_path(self.paths[0])

    @property
    def is_one_file(self) -> bool:
        """Whether only one path was named, and it is a file."""
        return len(self.paths) == 1 and not self._is_folder(self.paths[0])

    def reject_missing(self, other: DiffSide) -> None:
        """Raise InvalidInput for a path in a revision that only this side names, or that neither side has.

        A config that the other side has at the same path is new or was removed. A path on this machine
        exists, else it was taken for a revision.
        """
        if self.revision is not None:
            for path in self.paths:
                if not self._exists(path) and not other._has(path, self.revision):
                    raise missing_in_revision(self.revision, path)

    def readings(self) -> tuple[Reading, ...]:
        """Read the desired settings."""
        if self.revision is None:
            return load_configs(self.paths)
        existing = filter(self._exists, self.paths)
        return load_configs(tuple(map(self._display_path, existing)), GitFiles(self.revision))

    def policy(self, desired: Desired | None) -> PolicyReading | None:
        """Read the policy beside the file of ``desired``; None means beside the first named path."""
        folder = self._policy_folder(desired)
        if self.revision is None:
            return policy_for(os.path.join(folder, ""), None)
        names = self.revision.folder(folder)
        paths = {name: self._display_path(posixpath.join(folder, name)) for name in names}
        return find_policy(paths, lambda path: read_policy(self._content(path), path))

    def name_of_content(self, policy: Policy, desired: Desired | None) -> str | None:
        """Return the YAML file that has the content of ``policy``, in the folder of the policy."""
        folder = self._policy_folder(desired)
        names = os.listdir(folder or os.curdir) if self.revision is None else self.revision.folder(folder)
        for name in sorted(names):
            if name.endswith(SUFFIXES):
                with suppress(OSError, InvalidInput):  # only a regular file is a policy; no wait for others
                    content = self._content(self._display_path(os.path.join(folder, name)))
                    if hashlib.sha256(content).hexdigest() == policy.sha256:
                        return name
        return None

    def has_every_policy(self, other: DiffSide) -> bool:
        """Return whether a missing policy means that there is none; a single file may have none beside it.

        A revision has everything that was committed. Files on this machine do if they are the working files
        of what ``other`` names in a revision, or if both sides are folders.
        """
        if self.revision is not None:
            return True
        if other.revision is None:
            return not self.is_one_file and not other.is_one_file
        path = self._path_in(other.revision)
        folder = posixpath.dirname(path) if path is not None and self.is_one_file else path
        return folder in {one if other._is_folder(one) else posixpath.dirname(one) for one in other.paths}

    def relative_path(self, path: str) -> str:
        """Return the path of a file within the named path; from the top where several were named."""
        path = self._parse_path(path)
        if self.is_one_file:
            return os.path.basename(path)
        return os.path.relpath(path, self.paths[0] or os.curdir) if len(self.paths) == 1 else path

    def _has(self, path: str, revision: Revision) -> bool:
        """Return whether ``path``, from the top of the repository of ``revision``, was named and exists."""
        if self.revision is None:
            return self._path_in(revision) == path
        return path in self.paths and self._exists(path)

    def _path_in(self, revision: Revision) -> str | None:
        """Return the path on this machine from the top of the repository; None outside of it."""
        try:
            return revision.path_of_file(self.paths[0])
        except InvalidInput:
            return None

    def _policy_folder(self, desired: Desired | None) -> str:
        """Return the folder that is searched for the policy."""
        if desired is not None:
            return os.path.dirname(self._parse_path(desired.path))
        return self.paths[0] if self._is_folder(self.paths[0]) else os.path.dirname(self.paths[0])

    def _is_folder(self, path: str) -> bool:
        if self.revision is None:
            return os.path.isdir(path)
        found = self.revision.entry(path)
        return found is not None and found.is_folder

    def _exists(self, path: str) -> bool:
        """Return whether a revision has a config at ``path``: a file, or a folder with settings files."""
        assert self.revision is not None
        if self._is_folder(path):
            return any(map(is_config_name, self.revision.folder(path)))
        return self.revision.entry(path) is not None

    def _content(self, path: str) -> bytes:
        if self.revision is None:
            return read_with_status(path, MAX_FILE_BYTES + 1)[1]
        return GitFiles(self.revision).content(path, MAX_FILE_BYTES + 1)

    def _display_path(self, path: str) -> str:
        return path if self.revision is None else self.revision.display_path(path)

    def _parse_path(self, display_path: str) -> str:
        return display_path if self.revision is None else self.revision.parse_display_path(display_path)
