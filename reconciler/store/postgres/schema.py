"""The tables of the PostgreSQL state, in the schema ``mmp``, and their migrations.

``mmp.version`` counts the migrations. A migration is never edited once released. A process that opens the
state for writing migrates it, one process at a time (a lock that ends with the transaction). A process that
only reads creates nothing. A state is valid only if its tables have the columns that ``rows`` expects, in
their order. Nothing depends on the collation of the database: rows are sorted where order matters.
"""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.errors import StateAccessDenied, StateUnavailable, StateUnusable
from reconciler.store.postgres.connections import PostgresTransaction
from reconciler.store.rows import (
    KEYS,
    TABLES,
    RowKind,
    StateRow,
    fields,
    is_numbered,
    new_state,
    new_state_id,
)
from reconciler.store.table_layout import column_lines, create_indexes

SCHEMA = "mmp"

OLDEST_SERVER = 120_000
"""``server_version_num`` of PostgreSQL 12: older versions get no updates and are not tested."""

MIGRATION_LOCK = 0x4D4D5053
"""The four bytes ``MMPS``: one process migrates at a time."""

HISTORY = "system_identifier::text || '/' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)"
"""The name of a server's history: the identifier of the cluster, and its timeline, which a promotion or a
point-in-time restore changes. Any role may read it. A column of ``pg_control_system()``."""

USABLE = "(SELECT max(usable_from) FROM mmp.version)"
"""The version that a running program compares with its own; see USABLE_FROM."""

Migration = tuple[str, ...]

_TYPES: Mapping[type, str] = {str: "text", int: "bigint", float: "double precision"}


def _create_table(kind: RowKind) -> str:
    """Return the statement that creates the table of a row kind."""
    lines = [*column_lines(kind, _TYPES), f"PRIMARY KEY ({', '.join(KEYS[kind])})"]
    body = ",\n    ".join(lines)
    return f"CREATE TABLE mmp.{TABLES[kind]} (\n    {body}\n)"


_FIRST: Migration = (
    # `history` names the history that the state was created in: a budget without a row counts as last
    # seen in it. `usable_from` is how many migrations a program has to know to use the state.
    """CREATE TABLE mmp.version (
        migrations integer NOT NULL,
        usable_from integer NOT NULL,
        history text NOT NULL
    )""",
    " ".join(
        (
            "INSERT INTO mmp.version (migrations, usable_from, history) SELECT 0, 0,",
            HISTORY,
            "FROM pg_control_system()",
        )
    ),
    # Every reservation locks its row. `history` names the history of the server it was last seen on.
    """CREATE TABLE mmp.budgets (
        kind text NOT NULL,
        environment text NOT NULL,
        uid text NOT NULL,
        history text NOT NULL,
        PRIMARY KEY (kind, environment, uid)
    )""",
    # Which process works on an account. These and the replicas' are the only times of day that decide
    # anything, and they decide nothing about the rate.
    """CREATE TABLE mmp.locks (
        name text PRIMARY KEY,
        generation bigint NOT NULL,
        holder text NOT NULL,
        expires_at timestamptz NOT NULL
    )""",
    *map(_create_table, TABLES),
    *(
        f"CREATE SEQUENCE mmp.{name}_id AS bigint MINVALUE 1 CACHE 1"
        for kind, name in TABLES.items()
        if is_numbered(kind)
    ),
    *create_indexes("mmp.", ", id"),
    "CREATE INDEX overrides_of_user ON mmp.overrides (kind, environment, uid, id)",
    # A replica: the accounts that it has settings for, those that it cannot serve (with the seconds
    # since the first failed read), the age of its newest live read, the accounts that it released and
    # does not take for a while, and until when it counts as live.
    """CREATE TABLE mmp.replicas (
        id text PRIMARY KEY,
        host text NOT NULL,
        pid bigint NOT NULL,
        keeps text[] NOT NULL,
        unable jsonb NOT NULL,
        read_age_s double precision,
        resting jsonb NOT NULL,
        expires_at timestamptz NOT NULL
    )""",
    # The owner of an account and how many times it was acquired; and the families that are written for
    # it, numbered in the order in which they were claimed.
    """CREATE TABLE mmp.leases (
        name text PRIMARY KEY,
        replica text REFERENCES mmp.replicas (id) ON DELETE SET NULL,
        generation bigint NOT NULL,
        uid text NOT NULL,
        families text[] NOT NULL,
        claimed bigint NOT NULL
    )""",
    "CREATE SEQUENCE mmp.leases_claimed AS bigint MINVALUE 1 CACHE 1",
    "CREATE INDEX leases_of_replica ON mmp.leases (replica)",
)

MIGRATIONS: tuple[Migration, ...] = (_FIRST,)
"""All migrations in order. Their number is the newest version that this program knows."""

USABLE_FROM = 1
"""How many migrations a program has to know to use a state that has had them all. A migration that the
previous version cannot work with raises this to its own number. That version then waits (``state-newer``)
and does not read or write rows that it does not understand. This need not rise for a migration that only
adds a table, an index, or a column with a default that no row's checksum covers."""


async def migrate(transaction: PostgresTransaction, place: str) -> None:
    """Migrate the state to the newest version, or create the schema; does nothing if it is up to date.

    Raises StateUnusable for a schema of another program, StateAccessDenied for one that this program is
    too old for.
    """
    await transaction.run("SELECT pg_advisory_xact_lock(%s)", (MIGRATION_LOCK,))
    version = await version_of(transaction, place)
    if version is not None and version > len(MIGRATIONS):
        return
    if version is None:
        await transaction.run(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
    for statement in (s for migration in MIGRATIONS[version or 0 :] for s in migration):
        await transaction.run(statement)
    if version is None:
        columns = ", ".join(fields(StateRow))
        await transaction.run(
            " ".join(("INSERT INTO mmp.state (", columns, ") VALUES (%s, %s, %s, %s, %s, %s)")),
            new_state(new_state_id()),
        )
    versions = (len(MIGRATIONS), USABLE_FROM)
    await transaction.run("UPDATE mmp.version SET migrations = %s, usable_from = %s", versions)


async def version_of(transaction: PostgresTransaction, place: str) -> int | None:
    """Return how many migrations the state has had; None where there is no state.

    Raises StateUnusable for a schema ``mmp`` of another program, StateAccessDenied for a newer one that
    this program must not use. A newer one may be usable."""
    made = await transaction.row(
        "SELECT count(c.oid), count(c.oid) FILTER (WHERE c.relname = 'version' AND c.relkind = 'r')"
        " FROM pg_namespace n LEFT JOIN pg_class c ON c.relnamespace = n.oid WHERE n.nspname = %s",
        (SCHEMA,),
    )
    relations, versions = made or (0, 0)
    if not relations:
        return None
    if not versions:
        hint = "give mmp a database of its own, or rename that schema"
        raise StateUnusable(
            "state-foreign-schema", f"the schema mmp in {place} belongs to another program", hint
        )
    found = await transaction.rows("SELECT migrations, usable_from FROM mmp.version")
    version, usable_from = found[0] if len(found) == 1 else (-1, 0)
    if version < 0:
        raise incomplete(place, "version")
    refuse_newer(place, usable_from)
    return int(version)


def refuse_newer(place: str, usable_from: int | None) -> None:
    """Raise StateAccessDenied for a state that a newer version changed so that this one must not use it.

    ``usable_from`` is None where the table has no row: another check reports that.
    """
    if usable_from is not None and usable_from > len(MIGRATIONS):
        hint = "use that newer version; what this one had reserved before is on record"
        raise StateAccessDenied("state-newer", f"the state {place} is used by a newer mmp", hint)


async def check_usable(transaction: PostgresTransaction, place: str, version: int) -> None:
    """Raise MmpError (State…) unless the server and the tables can be used for a state of ``version``."""
    server, encoding, standby = await transaction.row(
        "SELECT current_setting('server_version_num')::int, current_setting('server_encoding'),"
        " pg_is_in_recovery()"
    ) or (0, "", False)
    if standby:
        hint = "name the primary, or all hosts with target_session_attrs=read-write"
        raise StateUnavailable("state-standby", f"the server of the state {place} is a standby", hint)
    if server < OLDEST_SERVER:
        hint = f"use PostgreSQL {OLDEST_SERVER // 10_000} or newer"
        raise StateUnusable("state-old-server", f"the server of the state {place} is too old", hint)
    if encoding != "UTF8":
        hint = "create a database for it with ENCODING 'UTF8'"
        raise StateUnusable("state-encoding", f"the state {place} is in {encoding}, not in UTF8", hint)
    if version < len(MIGRATIONS):
        hint = "`mmp apply` or `mmp run` of this version upgrades it"
        raise StateUnusable("state-older", f"the state {place} was written by an older mmp", hint)
    found = await _columns(transaction)
    for name, expected in expected_columns().items():
        # A newer version may have added columns that this one does not need.
        known = found.get(name, []) if version == len(MIGRATIONS) else found.get(name, [])[: len(expected)]
        if known != expected:
            raise incomplete(place, name)


async def table_of_budgets(transaction: PostgresTransaction) -> int:
    """Return the object id of the table in which every reservation locks a row; 0 if there is none."""
    found = await transaction.row("SELECT coalesce(to_regclass('mmp.budgets')::oid::bigint, 0)")
    return int(found[0]) if found else 0


def expected_columns() -> dict[str, list[str]]:
    """Return the columns of each table of ``rows``, in their order."""
    return {name: list(fields(row)) for row, name in TABLES.items()}


def incomplete(place: str, table: str) -> StateAccessDenied:
    """Return the error for a state whose tables do not match its version."""
    hint = "find out what happened; then restore the complete database from a backup"
    message = f"the state {place} has no valid table {table}: it is missing or was changed"
    return StateAccessDenied("state-incomplete", message, hint)


async def _columns(transaction: PostgresTransaction) -> dict[str, list[str]]:
    rows = await transaction.rows(
        "SELECT c.relname, a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
        " JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = %s AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped"
        " ORDER BY c.relname, a.attnum",
        (SCHEMA,),
    )
    found: dict[str, list[str]] = {}
    for table, column in rows:
        found.setdefault(table, []).append(column)
    return found
