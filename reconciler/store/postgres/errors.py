"""What PostgreSQL and its library say, told as errors of ours: what may pass, and what will not.

No text gets out that holds a secret of the address. What may pass is StateUnavailable, which ``run`` waits
out. What a person has to mend is StateAccessDenied, which ends a command at its start only: rights and
tables come back as a server does. Only a damaged row or page is StateUnusable."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors as pg

from reconciler.errors import MmpError, StateAccessDenied, StateUnavailable, StateUnusable
from reconciler.store.postgres.address import Address
from reconciler.store.rows import RowDamaged

MAX_SAID = 300
"""Of the server's words; more says nothing more."""


class NotCommitted(Exception):
    """The server did not say without reserve that the transaction is durable."""


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
            # PgBouncer's own words
            r"no such (user|database)",
            r"unsupported startup parameter",
            # libpq's own words, of TLS and of the address
            r"but (SSL|channel binding|GSSAPI encryption) was required",
            r"certificate verify failed|does not match host name",
            r"(certificate|key) file \".*\" (does not exist|has group or world access)",
            r"could not (read|load) (root |)(certificate|private key) file",
            r"invalid \w+ value: ",
        )
    )
)
"""What is said to one who is not let in. No code of it comes through the library, so the words have to do:
English ones. A server that speaks another language is taken for one that is away, and says itself why."""


@contextmanager
def translated_postgres_errors(address: Address) -> Iterator[None]:
    """Turn what the library, the server or a row's check says inside into StateUn… errors."""
    try:
        yield
    except (psycopg.Error, TimeoutError, NotCommitted, RowDamaged) as error:
        raise to_error(address, error) from None


def to_error(address: Address, error: Exception) -> MmpError:
    """Return ``error`` as an error of ours, which says what to do."""
    place, said = f"the state {address.shown}", _said(address, error)
    match error:
        case RowDamaged():
            return _damaged(f"{place} is damaged: {error}")
        case pg.DataCorrupted() | pg.IndexCorrupted():
            return _damaged(f"{place} is damaged: {said}")
        case pg.ReadOnlySqlTransaction() | pg.FeatureNotSupported():
            hint = "name the primary, or all hosts with target_session_attrs=read-write"
            return StateUnavailable("state-standby", f"{place} cannot be written there: {said}", hint)
        case pg.InsufficientPrivilege():
            hint = "use a role that owns the schema mmp or may create it (GRANT CREATE ON DATABASE)"
            return StateAccessDenied("state-unwritable", f"access to {place} is denied: {said}", hint)
        case pg.UndefinedTable() | pg.UndefinedColumn() | pg.InvalidSchemaName() | pg.UndefinedObject():
            hint = (
                "restore the schema mmp or the role's USAGE on it; a backup of the database is the way back"
            )
            message = f"{place} has tables missing, or hidden from this role: {said}"
            return StateAccessDenied("state-tables-missing", message, hint)
        case pg.DiskFull():
            hint = "free some space on the server; what was recorded before is safe"
            return StateUnavailable("state-disk-full", f"no space left for {place}", hint)
        case pg.LockNotAvailable() | pg.QueryCanceled() | pg.DeadlockDetected() | pg.SerializationFailure():
            hint = "find what keeps the server busy (pg_stat_activity); it is safe to try again"
            return StateUnavailable("state-busy", f"{place} is busy: {said}", hint)
        case psycopg.OperationalError() if refusal := _refusal(error):
            hint = "check the user, password, database, TLS and access rules (pg_hba.conf)"
            said = address.masked(refusal)[:MAX_SAID]
            return StateAccessDenied("state-refused", f"access to {place} is denied: {said}", hint)
        case psycopg.OperationalError() | psycopg.InterfaceError() | TimeoutError() | NotCommitted():
            hint = "check that the server is running and reachable"
            return StateUnavailable("state-unavailable", f"{place} cannot be used now: {said}", hint)
        case pg.IdleInTransactionSessionTimeout() | pg.TransactionTimeout():
            hint = "it is safe to try again"
            message = f"the server aborted the transaction on {place}: {said}"
            return StateUnavailable("state-unavailable", message, hint)
        case _:
            hint = "read the log of the server; nothing that failed was recorded"
            return StateAccessDenied("state-failed", f"{place} cannot be used: {said}", hint)


def _damaged(message: str) -> StateUnusable:
    hint = "look into what happened to it before anything else; a backup of the database is the way back"
    return StateUnusable("state-damaged", message, hint)


def _refusal(error: psycopg.OperationalError) -> str:
    """Return the line that says that we are not let in, by any of the servers asked; "" where none does."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line.removeprefix("- ") for line in lines if _REFUSALS.search(line)), "")


def _said(address: Address, error: Exception) -> str:
    """Return the first line of what was said, masked; a timeout says nothing by itself."""
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return address.masked(lines[0])[:MAX_SAID]
