"""The rows of the state, the same for every engine, and the checksum of each row.

Rows are tuples because engines read and write tuples, and the checksum covers a tuple: a row is valid only
if its checksum fits. Nothing here decides what a row means (``row_mapping`` does), and nothing here uses
an engine.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from typing import Any, NamedTuple, TypeVar, cast

from reconciler.core.model import FileVersion, Quantity, RateBudget, Setting

MAX_ROW_TEXT = 500
"""Longest code, message or purpose of other programs that is recorded, in characters."""

MAX_DOCUMENT = 1 << 20
"""Longest text of a policy file that is recorded, in characters: a longer file is never valid."""

CHECK_DIGITS = 16
"""64 bits: a torn or edited row passes by chance once in 10^19 cases."""

CACHED_CHECKSUMS = 4096
"""Rows whose verification is cached: a few megabytes, and more than the deciding rows of most states."""


class StateRow(NamedTuple):
    """The state itself, in one row: its id, where its rows were copied to, and which states' rows it has.

    ``state_id`` is random and created with the state. ``moved_to`` is the place of the copy, without a
    password, and ``moved_to_id`` its id: both are "" while this state is in use. ``moved_wall`` is when
    the copy was found to be complete; "" until then. ``copied_from`` has the ids of the states whose rows
    were copied into this one, with a space between them.
    """

    checksum: str
    state_id: str
    moved_to: str
    moved_to_id: str
    moved_wall: str
    copied_from: str


class IdentityRow(NamedTuple):
    """The User ID of an (account, environment), and the host it was last used with."""

    checksum: str
    account: str
    environment: str
    kind: str
    uid: str
    host: str
    stamped_wall: str


class AttemptRow(NamedTuple):
    """One request: its reservation in the pacing ledger, and the record of its result.

    ``account`` is the name it was sent under, for people: the User ID decides.
    ``boot`` and ``reserved_at`` are the instant of the reservation, seconds on that boot's monotonic
    clock; ``answered_boot`` and ``answered_at`` that of a definite answer, None without one.
    ``limited``: the exchange rejected it for its rate. ``retired``: it affects no slot any more.
    ``resolved``: it no longer makes its family uncertain. ``tries``: the consecutive attempts at this
    setting without a definite success, up to this one; 0 where it does not count, or not any more.
    ``file_sha256`` and ``file_number``: the version of the settings file it came from. ``plan``: the id of
    the saved plan that it is a change of, "" without one. Flags are 0 or 1, walls ISO 8601 UTC.
    """

    checksum: str
    id: int
    kind: str
    environment: str
    uid: str
    account: str
    family: str
    time_interval_ms: int
    frozen_interval_ms: int
    qty_limit: str
    signed_at: str
    boot: str
    reserved_at: float
    reserved_wall: str
    status: str
    definite: int = 0
    code: str = ""
    message: str = ""
    answered_boot: str | None = None
    answered_at: float | None = None
    settled_wall: str | None = None
    limited: int = 0
    retired: int = 0
    resolved: int = 0
    tries: int = 0
    file_sha256: str = ""
    file_number: int = 0
    plan: str = ""


class LossRow(NamedTuple):
    """The server may have lost the newest records of a User ID, in a failover or a restore.

    ``family`` None: the lost requests count for the rate as reserved at the instant of ``boot`` and
    ``reserved_at``, when the loss was found. Else they may have written this family, with any value.
    ``attempt`` is the newest attempt that was on record then. ``account`` is the name under which the loss
    was found, for people. The row is deleted when it can no longer matter.
    """

    checksum: str
    id: int
    kind: str
    environment: str
    uid: str
    account: str
    family: str | None
    attempt: int
    boot: str
    reserved_at: float
    at_wall: str


class AppliedRow(NamedTuple):
    """The last setting of a family that was proven in force; ``attempt`` and the file as in ``Confirmed``.

    ``account`` is the name it was proven under, for people.
    """

    checksum: str
    kind: str
    environment: str
    uid: str
    family: str
    account: str
    time_interval_ms: int
    frozen_interval_ms: int
    qty_limit: str
    how: str
    attempt: int
    boot: str
    at: float
    at_wall: str
    file_sha256: str
    file_number: int


class AcceptedRow(NamedTuple):
    """A desired setting that passed the guard, as in ``Acceptance``; the newest of a family is in force.

    ``how`` says whether a request or a read recorded it, ``digest`` is that of the plan, ``override`` names
    the refusals that were overridden. ``account`` is the name it was accepted under, for people.
    """

    checksum: str
    id: int
    kind: str
    environment: str
    uid: str
    family: str
    account: str
    time_interval_ms: int
    frozen_interval_ms: int
    qty_limit: str
    how: str
    attempt: int
    file_sha256: str
    file_number: int
    digest: str
    override: str
    at_wall: str


class PlanChangeRow(NamedTuple):
    """A change of a saved plan was applied: acknowledged, or found in force. It is never sent again.

    ``how`` says which. ``account`` is the name it was applied under, for people.
    """

    checksum: str
    kind: str
    environment: str
    uid: str
    plan: str
    family: str
    account: str
    how: str
    at_wall: str


class PolicyRow(NamedTuple):
    """A policy that was in force, or given up; the newest counts.

    ``document`` is the text of its file. ``given_up`` is a person's reason to continue without it, None
    while it counts. ``account`` is the name it was used under, for people.
    """

    checksum: str
    id: int
    kind: str
    environment: str
    uid: str
    account: str
    sha256: str
    path: str
    document: str
    given_up: str | None
    at_wall: str


class FileRow(NamedTuple):
    """Content of a settings file that was accepted, and its place in the order of acceptance.

    ``account`` is the name in the file, for people.
    """

    checksum: str
    kind: str
    environment: str
    uid: str
    sha256: str
    number: int
    account: str
    at_wall: str


class LiveReadRow(NamedTuple):
    """The last live read of an account, for people: one JSON document and its wall time."""

    checksum: str
    account: str
    environment: str
    kind: str
    document: str
    read_wall: str


class PauseRow(NamedTuple):
    """A paused family; ``until_wall`` None is until it is resumed.

    The setting is the one that another writer keeps changing, for a pause by the breaker; else None.
    ``account`` is the name it was paused under, for people.
    """

    checksum: str
    kind: str
    environment: str
    uid: str
    family: str
    account: str
    time_interval_ms: int | None
    frozen_interval_ms: int | None
    qty_limit: str | None
    reason: str
    since_wall: str
    until_wall: str | None


class OverrideRow(NamedTuple):
    """A refusal that a person overrode by name, with the reason given; ``refusal`` is its rule's sentence.

    ``account`` is the name it was overridden under, for people.
    """

    checksum: str
    id: int
    kind: str
    environment: str
    uid: str
    family: str
    account: str
    refusal: str
    reason: str
    at_wall: str


class ObservedPeriodRow(NamedTuple):
    """A period in which an account was observed; it grows while the observations are close enough."""

    checksum: str
    id: int
    account: str
    environment: str
    kind: str
    from_wall: str
    until_wall: str


class StateChangeRow(NamedTuple):
    """A family was found in another state than before."""

    checksum: str
    id: int
    account: str
    environment: str
    kind: str
    family: str
    state: str
    at_wall: str


Numbered = AttemptRow | LossRow | AcceptedRow | PolicyRow | OverrideRow | ObservedPeriodRow | StateChangeRow
"""Rows with an id."""

AnyRow = Numbered | StateRow | IdentityRow | AppliedRow | PlanChangeRow | FileRow | LiveReadRow | PauseRow

Row = TypeVar("Row", bound=AnyRow)

RowKind = type[tuple[Any, ...]]
"""One of the classes above, where the type checker cannot know which."""

TABLES: Mapping[RowKind, str] = {
    StateRow: "state",
    IdentityRow: "identity",
    AttemptRow: "attempts",
    LossRow: "losses",
    AppliedRow: "applied",
    AcceptedRow: "accepted",
    PlanChangeRow: "plan_changes",
    PolicyRow: "policies",
    FileRow: "files",
    LiveReadRow: "live",
    PauseRow: "pauses",
    OverrideRow: "overrides",
    ObservedPeriodRow: "observed_periods",
    StateChangeRow: "state_changes",
}


_OTHER_KEYS: Mapping[RowKind, tuple[str, ...]] = {
    StateRow: ("state_id",),
    IdentityRow: ("account", "environment"),
    AppliedRow: ("kind", "environment", "uid", "family"),
    PlanChangeRow: ("kind", "environment", "uid", "plan", "family"),
    FileRow: ("kind", "environment", "uid", "sha256"),
    LiveReadRow: ("account", "environment", "kind"),
    PauseRow: ("kind", "environment", "uid", "family"),
}

KEYS: Mapping[RowKind, tuple[str, ...]] = {kind: _OTHER_KEYS.get(kind, ("id",)) for kind in TABLES}
"""The primary key of each table."""


def is_numbered(kind: RowKind) -> bool:
    """Report whether rows of a kind have an id that the engine assigns."""
    return KEYS[kind] == ("id",)


AccountKey = tuple[str, str, str]
"""Account, environment and kind of exchange."""


def budget_key(budget: RateBudget) -> tuple[str, str, str]:
    """Return the columns that name a User ID of one kind of exchange, in one environment."""
    return budget.kind.value, budget.environment.value, budget.uid


def setting_columns(setting: Setting) -> tuple[int, int, str]:
    """Return the columns of a setting; inverse of :func:`setting_of`."""
    return setting.time_interval_ms, setting.frozen_interval_ms, setting.qty_limit.text


def new_state_id() -> str:
    """Return an id that no other state has: 128 random bits."""
    return secrets.token_hex(16)


def new_state(state_id: str) -> StateRow:
    """Return the row of a new state."""
    return with_checksum(StateRow("", state_id, "", "", "", ""))


def fields(kind: RowKind) -> tuple[str, ...]:
    """Return the columns of a kind of row, in their order."""
    return tuple(getattr(kind, "_fields"))  # noqa: B009 - every kind is a NamedTuple, which typing cannot say


class RowDamaged(Exception):
    """A row is not as it was written, or is missing; the text says which."""


def check_row(row: AnyRow) -> str:
    """Return the checksum of a row: 16 hex digits over its table's name and all its other columns.

    The encoding is the ASCII literal of a tuple of text, numbers and None. It is the same in every version
    of Python, whichever characters that version calls printable, and three times as fast as JSON.
    """
    sentence = ascii((TABLES[type(row)], *row[1:]))
    return sha256(sentence.encode("ascii")).hexdigest()[:CHECK_DIGITS]


def with_checksum(row: Row) -> Row:
    """Return ``row`` with its checksum."""
    return cast("Row", row._replace(checksum=check_row(row)))


def check_checksum(row: Row) -> Row:
    """Return ``row``, or raise RowDamaged if its checksum does not fit."""
    if not _fits(row):
        key = "/".join(str(getattr(row, name)) for name in KEYS[type(row)])
        raise RowDamaged(f"{TABLES[type(row)]} row {key} does not match its checksum")
    return row


def combined(sum_of_rows: str, checksum: str) -> str:
    """Return the sum of some rows' checksums with one more, or with one of them removed again.

    Neither the order nor the grouping matters: an exclusive or of their 16 hex digits.
    """
    return f"{int(sum_of_rows, 16) ^ int(checksum, 16):0{CHECK_DIGITS}x}"


NO_ROWS_SUM = "0" * CHECK_DIGITS
"""The sum of no rows."""


@lru_cache(maxsize=CACHED_CHECKSUMS, typed=True)
def _fits(row: AnyRow) -> bool:
    """Tell whether a row fits its checksum. Cached, because the same rows are read repeatedly.

    The cache does not distinguish 1 and 1.0, the checksum does; but a column contains one of the two only.
    """
    return row[0] == check_row(row)


def setting_of(row: AttemptRow | AppliedRow | AcceptedRow) -> Setting:
    """Return the setting of a row; the quantity has the text in which it was sent."""
    return Setting(row.time_interval_ms, row.frozen_interval_ms, Quantity(row.qty_limit))


def file_of(row: AttemptRow | AppliedRow | AcceptedRow) -> FileVersion:
    """Return the version of the settings file that a row names."""
    return FileVersion(row.file_sha256, row.file_number)


def wall_text(wall: datetime) -> str:
    """Return a time of day as ISO 8601 UTC with milliseconds, ``2026-01-02T03:04:05.678Z``."""
    return wall.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def sanitized(text: str) -> str:
    """Return foreign text in a form that every engine can store: bounded, no NUL, no lone surrogate."""
    return storable(text[:MAX_ROW_TEXT])


def storable(text: str) -> str:
    """Return text without the characters that no engine can store: NUL and lone surrogates."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")
