"""Where a state is: a SQLite file or a PostgreSQL database. The form of ``--state`` decides which.

libpq splits a password with an unescaped ``/``, ``?`` or ``@``: a part becomes the port, the database or
the host, which errors and results name. So an address is valid only if no part can belong to a password.
This file imports no library of PostgreSQL.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from reconciler.errors import UsageError

SCHEME = "postgresql"

POSTGRES_URL_HINT = (
    "write it like postgresql://user@host:5432/database?sslmode=verify-full, and inside of a name or "
    "password %2F for /, %3F for ?, %40 for @, %3A for :, %25 for %; or set PGPASSWORD instead"
)

_HOST = r"(?:\[[0-9A-Fa-f:.%]*\]|[^\[\]:,/?@]*)(?::[0-9]{0,5})?"
_ADDRESS = re.compile(rf"{SCHEME}://(?:[^/?@]*@)?{_HOST}(?:,{_HOST})*(?:/[^/?@]*)?(?:\?[^?@]*)?")

_MAY_BE_ONE = re.compile(
    # the scheme, also if mistyped
    r"[\s'\"]*(?:[a-z]+:)?p(?:ost)?g(?:res(?:ql)?)?(?:\+[a-z0-9]+)?\s*:"
    r"|.*@"  # user:password@host, or a password@host that remains after shell expansion
    r"|[^/]+:[^/]+\Z"  # user:password
    # the other form that libpq accepts
    r"|(?:.*\s)?(?:host|hostaddr|port|dbname|user|pass(?:word|wd)?|service)\s*=",
    re.IGNORECASE | re.DOTALL,
)


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


def check_address(text: str) -> None:
    """Raise UsageError, which repeats nothing of ``text``, unless it has the form of an address."""
    if not _ADDRESS.fullmatch(text) or not text.isprintable() or " " in text:
        raise bad_address()


def bad_address() -> UsageError:
    """Return the error for an invalid address. It quotes nothing, because a password may be in it."""
    message = "the address given to --state is not one that PostgreSQL understands; it is not shown here"
    return UsageError("bad-postgres-address", message, POSTGRES_URL_HINT)


def may_be_an_address(text: str) -> bool:
    """Tell whether ``text`` may be meant as an address: then it is no file name, and no error shows it."""
    return _MAY_BE_ONE.match(text) is not None
