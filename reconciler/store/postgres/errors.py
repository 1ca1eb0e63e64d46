"""Translates errors of PostgreSQL and of its library into errors of mmp.

No message contains a secret of the address. A temporary error is StateUnavailable: ``run`` retries. An
error that a person must fix is StateAccessDenied. It ends a command at its start only, because rights and
tables can return, as a server can. Only a damaged row or page is StateUnusable."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors as pg

from reconciler.errors import MmpError, StateAccessDenied, StateUnavailable, StateUnusable
from reconciler.store.postgres.conninfo import Address
from reconciler.store.rows import RowDamaged

MAX_SERVER_MESSAGE = 300
"""Maximum length, in characters, of a server message; the rest adds nothing."""


class NotCommitted(Exception):
    """The server did not confirm, or not without a warning, that the transaction is durable."""


_REFUSALS = re.compile(
    "|".join(
        (
            r"authentication failed",
            r"no password supplied",
            r"no pg_hba\.conf entry|pg_hba\.conf rejects",
            r'(role|database) ".*" does not exist',
            r"is not permitted to log in",
            r"permission denied for database",
            r"requires a valid client certificate",
            # messages of PgBouncer
            r"no such (user|database)",
            r"unsupported startup parameter",
            # messages of libpq about TLS and the address
            r"but (SSL|channel binding|GSSAPI encryption) was required",
            r"certificate verify failed|does not match host name",
            r"(certificate|key) file \".*\" (does not exist|has group or world access)",
            r"could not (read|load) (root |)(certificate|private key) file",
            r"invalid \w+ value: ",
        )
    )
)
"""Messages of a denied connection. The library passes on no error code for them, so the English text is
matched. A server with messages in another language counts as unavailable, and its message says why."""


@contextmanager
def translated_postgres_errors(address: Address) -> Iterator[None]:
    """Translate errors of the library, the server or a row's check inside into errors of mmp."""
    try:
        yield
    except (psycopg.Error, TimeoutError, NotCommitted, RowDamaged) as error:
        raise to_error(address, error) from None


def to_error(address: Address, error: Exception) -> MmpError:
    """Return ``error`` as an error of mmp, which says what to do."""
    place, detail = f"the state {address.shown}", _message_of(address, error)
    match error:
        case RowDamaged():
            return _damaged(f"{place} is damaged: {error}")
        case pg.DataCorrupted() | pg.IndexCorrupted():
            return _damaged(f"{place} is damaged: {detail}")
        case pg.ReadOnlySqlTransaction() | pg.FeatureNotSupported():
            hint = "name the primary, or all hosts with target_session_attrs=read-write"
            return StateUnavailable("state-standby", f"{place} cannot be written there: {detail}", hint)
        case pg.InsufficientPrivilege():
            hint = "use a role that owns the schema mmp or may create it (GRANT CREATE ON DATABASE)"
            return StateAccessDenied("state-unwritable", f"access to {place} is denied: {detail}", hint)
        case pg.UndefinedTable() | pg.UndefinedColumn() | pg.InvalidSchemaName() | pg.UndefinedObject():
            hint = "restore the schema mmp from a backup, or grant the role USAGE on it"
            message = f"{place} has tables missing, or hidden from this role: {detail}"
            return StateAccessDenied("state-tables-missing", message, hint)
        case pg.DiskFull():
            hint = "free some space on the server; what was recorded before is safe"
            return StateUnavailable("state-disk-full", f"no space left for {place}", hint)
        case pg.LockNotAvailable() | pg.QueryCanceled() | pg.DeadlockDetected() | pg.SerializationFailure():
            hint = "find out why the server is busy (pg_stat_activity), and try again"
            return StateUnavailable("state-busy", f"{place} is busy: {detail}", hint)
        case psycopg.OperationalError() if refusal := _refusal(error):
            hint = "check the user, password, database, TLS and access rules (pg_hba.conf)"
            detail = address.masked(refusal)[:MAX_SERVER_MESSAGE]
            return StateAccessDenied("state-refused", f"access to {place} is denied: {detail}", hint)
        case psycopg.OperationalError() | psycopg.InterfaceError() | TimeoutError() | NotCommitted():
            hint = "check that the server is running and reachable"
            return StateUnavailable("state-unavailable", f"{place} cannot be used now: {detail}", hint)
        case pg.IdleInTransactionSessionTimeout() | pg.TransactionTimeout():
            hint = "it is safe to try again"
            message = f"the server aborted the transaction on {place}: {detail}"
            return StateUnavailable("state-unavailable", message, hint)
        case _:
            hint = "read the log of the server; nothing that failed was recorded"
            return StateAccessDenied("state-failed", f"{place} cannot be used: {detail}", hint)


def _damaged(message: str) -> StateUnusable:
    hint = "find out what happened first; then restore the database from a backup"
    return StateUnusable("state-damaged", message, hint)


def _refusal(error: psycopg.OperationalError) -> str:
    """Return the line in which any of the servers denies access; "" where none does."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line.removeprefix("- ") for line in lines if _REFUSALS.search(line)), "")


def _message_of(address: Address, error: Exception) -> str:
    """Return the first line of the error message, masked; a timeout has no message of its own."""
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return address.masked(lines[0])[:MAX_SERVER_MESSAGE]
