"""Where a state is: a SQLite file or a PostgreSQL database, told apart by the form of ``--state``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from reconciler.store.postgres_url import SCHEME, check_address


@dataclass(frozen=True, slots=True)
class PostgresUrl:
    """The address of a state in PostgreSQL; it may hold a password, so it is never shown.

    Raises UsageError unless each of its pieces can be told from a password.
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
    """The path of a state file, and the types of file systems it may be on beside the usual local ones."""

    path: Path
    allow_filesystems: frozenset[str] = frozenset()

    def __str__(self) -> str:
        """Return the path."""
        return str(self.path)


StateLocation = StateFile | PostgresUrl
"""Where a state is kept: the form of ``--state`` says which engine keeps it."""
