"""A git repository for a test: commits with a fixed author and date, without any user's configuration."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "desk",
    "GIT_AUTHOR_EMAIL": "desk@example.com",
    "GIT_AUTHOR_DATE": "2026-03-01T03:00:00Z",
    "GIT_COMMITTER_NAME": "desk",
    "GIT_COMMITTER_EMAIL": "desk@example.com",
    "GIT_COMMITTER_DATE": "2026-03-01T03:00:00Z",
}


class Repository:
    """A repository in ``folder``, which is made for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.git("init", "--quiet", "--initial-branch=main", ".")

    def git(self, *arguments: str) -> str:
        """Run git in the repository and return what it wrote."""
        done = subprocess.run(
            ["git", *arguments],
            cwd=self.folder,
            env={**ENVIRONMENT, "HOME": str(self.folder)},
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    def commit(self, files: Mapping[str, str | None]) -> str:
        """Write ``files`` (None: remove), commit everything, and return the commit."""
        for name, text in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink() if text is None else path.write_text(text, encoding="utf-8")
        return self.commit_all()

    def commit_all(self) -> str:
        """Commit the folder as it is, and return the commit."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "as it is")
        return self.git("rev-parse", "HEAD")
