"""The files of an API key: reports when their content changes. Their content is never shown."""

from __future__ import annotations

import os

from reconciler.errors import AccountProblem
from reconciler.okx.credentials import Credentials, credential_files, load_credentials
from reconciler.secret import remember
from reconciler.secrets_to_mask import configured_secrets
from reconciler.watch.symlinks import WatchPath, resolve_path, union
from reconciler.watch.write_completion import ReadConfidence


class KeyFiles:
    """The files of one account's key, and whether they changed. Their content is never shown."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._last = self.read()

    def watch_path(self) -> WatchPath:
        """Return the watch path of the files; it is empty if the key is in variables."""
        return union(resolve_path(path) for path in credential_files(self._prefix, os.environ))

    def read(self) -> Credentials | str:
        """Return the key as it is now, or the message of its problem."""
        remember(configured_secrets(os.environ))
        try:
            return load_credentials(self._prefix, os.environ)
        except AccountProblem as problem:
            return problem.message

    def decide(self, found: Credentials | str, confidence: ReadConfidence, now: float) -> bool | None:
        """Return True if the key differs from the last read, else None."""
        del confidence, now  # an incomplete key gives no access, and is read again
        before, self._last = self._last, found
        return None if found == before else True
