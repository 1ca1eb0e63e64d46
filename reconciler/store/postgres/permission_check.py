"""Whether this role could write a state in a database: a trial that leaves no trace.

For checks before a database is used. Writes are tried in a transaction that is never committed. For tables
that another role created, the rights on each table are read.
"""

from __future__ import annotations

from contextlib import suppress

from reconciler.errors import StateUnusable
from reconciler.store.postgres import schema
from reconciler.store.postgres.connections import Connections, PostgresTransaction
from reconciler.store.postgres.conninfo import parse_address

_LACKING = """
SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND CASE c.relkind
    WHEN 'r' THEN NOT (has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT')
        AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE'))
    WHEN 'S' THEN NOT has_sequence_privilege(c.oid, 'USAGE')
    ELSE false END
ORDER BY c.relname LIMIT 1
"""


class _Undone(Exception):
    """The trial succeeded, and its transaction must be rolled back."""


async def refuse_unwritable(text: str) -> None:
    """Raise unless a state could be created, migrated and written at ``text``; leaves no trace.

    Raises UsageError for an invalid address, StateAccessDenied, StateUnusable and StateUnavailable.
    """
    connections = Connections(parse_address(text))
    try:
        with suppress(_Undone):
            async with connections.transaction() as transaction:
                await _try(transaction, connections.address.shown)
                raise _Undone
    finally:
        await connections.close()


async def _try(transaction: PostgresTransaction, place: str) -> None:
    await schema.migrate(transaction, place)
    version = await schema.version_of(transaction, place)
    await schema.check_usable(transaction, place, version or 0)
    lacking = await transaction.row(_LACKING, (schema.SCHEMA,))
    if lacking is not None:
        hint = "use a role that owns the schema mmp, or grant this role all rights in the schema"
        message = f"this role does not have all rights to {lacking[0]} in the state {place}"
        raise StateUnusable("state-unwritable", message, hint)
