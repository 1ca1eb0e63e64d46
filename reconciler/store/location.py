"""Where a state is: a SQLite file or a PostgreSQL database. The form of ``--state`` decides which."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from reconciler.store.postgres_url import SCHEME, check_address


@dataclass(frozen=True, slots=True)
class PostgresUrl:
    """The address of a state in PostgreSQL; it may contain a password, so it is never shown.

    Raises UsageError if any part could belong to a password.
    """

    text: str = field(repr=False)

    def __post_init__(self) -> None:
        check_address(self.text)

    def __str__(self) -> str:
        """Return host and database, without user, password and parameters."""
        before, _, _ = self.text.partition("?")
        return f"{SCHEME}://{before.partition('://')[2].rpartition('@')[2]}"


@dataclass(frozen=True, slots=True)
class StateFile:
    """The path of a state file, and the types of file systems allowed besides the usual local ones."""

    path: Path
    allow_filesystems: frozenset[str] = frozenset()

    def __str__(self) -> str:
        """Return the path."""
        return str(self.path)


StateLocation = StateFile | PostgresUrl
"""Where a state is stored."""
