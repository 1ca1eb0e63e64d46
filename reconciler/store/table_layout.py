"""The SQL of what the tables of both engines have alike: columns, from the row types, and indexes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args, get_type_hints

from reconciler.store.rows import RowKind

_INDEXES = (
    # Partial indexes, so that a slot, a family's open attempts and its failed tries are found without
    # reading the history; the queries name them, because without statistics SQLite takes a wider one.
    "attempts_counting ON {schema}attempts (kind, environment, uid) WHERE retired = 0",
    "attempts_sent ON {schema}attempts (kind, environment, uid, id) WHERE status <> 'not-sent'",
    "attempts_limited ON {schema}attempts (kind, environment, uid, id) WHERE limited = 1",
    "attempts_open ON {schema}attempts (kind, environment, uid, family) WHERE resolved = 0",
    "attempts_tries ON {schema}attempts (kind, environment, uid, family) WHERE tries > 0",
    "attempts_of_family ON {schema}attempts (kind, environment, uid, family{id})",
    "losses_of_user ON {schema}losses (kind, environment, uid)",
    "accepted_of_family ON {schema}accepted (kind, environment, uid, family{id})",
    "policies_of_user ON {schema}policies (kind, environment, uid{id})",
    "files_by_number ON {schema}files (kind, environment, uid, number)",
    "periods_of_account ON {schema}observed_periods (account, environment, kind{id})",
    "state_changes_of_family ON {schema}state_changes (account, environment, kind, family)",
)


def column_lines(kind: RowKind, types: Mapping[type, str]) -> list[str]:
    """Return the SQL of the columns of a table, in the order of the fields of its row kind.

    ``types``: the engine's name for each type of a field. A field that may be None is nullable.
    """
    lines: list[str] = []
    for name, hint in get_type_hints(kind).items():
        [of, *none] = get_args(hint) or [hint]
        lines.append(f"{name} {types[of]}{'' if none else ' NOT NULL'}")
    return lines


def create_indexes(schema: str = "", then_id: str = "") -> tuple[str, ...]:
    """Return the statements that create the indexes of the tables.

    ``then_id``: added to the columns where SQLite's indexes end with the id of the row anyway.
    """
    return tuple(f"CREATE INDEX {index.format(schema=schema, id=then_id)}" for index in _INDEXES)
