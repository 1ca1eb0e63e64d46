"""The queries of the state's tables, each with its typed result.

The SQL is SQLite's; an engine with another dialect translates it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from reconciler.core.model import RateBudget
from reconciler.core.pacing import BURST_AGAIN_AFTER
from reconciler.store.ledger_mapping import RateHistory
from reconciler.store.rows import (
    TABLES,
    AcceptedRow,
    AccountKey,
    AppliedRow,
    AttemptRow,
    FileRow,
    IdentityRow,
    LiveReadRow,
    LossRow,
    ObservedPeriodRow,
    OverrideRow,
    PauseRow,
    PlanChangeRow,
    PolicyRow,
    Row,
    RowDamaged,
    RowKind,
    StateChangeRow,
    StateRow,
    budget_key,
    is_numbered,
)
from reconciler.store.select_query import (
    OF_ACCOUNT,
    OF_USER,
    RawRows,
    Readable,
    SelectQuery,
    Statement,
    first,
    select_number,
    select_readable,
    select_row,
    select_rows,
    select_unchecked,
    then,
    together,
)

# -- any table -------------------------------------------------------------------------------------


def all_rows(kind: type[Row]) -> SelectQuery[list[Row]]:
    """Select all rows of a kind, of all accounts; those with an id in its order."""
    return select_rows(kind, " ORDER BY id" if is_numbered(kind) else "")


def all_readable(kind: type[Row]) -> SelectQuery[list[Row]]:
    """Select the rows of a kind that are not damaged, of all accounts."""
    return then(select_readable(kind), lambda found: found.rows)


def newest_id(kind: RowKind) -> SelectQuery[int]:
    """Select the highest id of a kind of rows that has ids, of all accounts."""
    return select_number(f"SELECT max(id) FROM {TABLES[kind]}", ())


def in_id_range(kind: type[Row], lowest: int, highest: int) -> SelectQuery[list[Row]]:
    """Select the rows of a kind from one id to another, of all accounts, without checking them."""
    return select_unchecked(kind, " WHERE id BETWEEN ? AND ?", (lowest, highest))


def has_rows(kind: RowKind, budget: RateBudget) -> SelectQuery[int]:
    """Select whether a table has rows of a User ID."""
    return select_number(
        f"SELECT count(*) FROM (SELECT 1 FROM {TABLES[kind]} WHERE {OF_USER} LIMIT 1) found",
        budget_key(budget),
    )


def select_state() -> SelectQuery[StateRow]:
    """Select the row of the state itself. Raises RowDamaged unless there is exactly one."""

    def only(rows: list[StateRow]) -> StateRow:
        if len(rows) != 1:
            raise RowDamaged("the row with the id of the state is missing, or there is another")
        return rows[0]

    return then(select_rows(StateRow), only)


# -- one account -----------------------------------------------------------------------------------


def identity(account: str, environment: str) -> SelectQuery[IdentityRow | None]:
    """Select the User ID of an account; None while none is recorded."""
    return select_row(IdentityRow, " WHERE account=? AND environment=?", (account, environment))


def identities(environment: str) -> SelectQuery[list[IdentityRow]]:
    """Select all accounts of one environment, by name."""
    return select_rows(IdentityRow, " WHERE environment=? ORDER BY account", (environment,))


def live(key: AccountKey) -> SelectQuery[Readable[LiveReadRow]]:
    """Select the last live read."""
    return select_readable(LiveReadRow, f" WHERE {OF_ACCOUNT}", key)


# -- one User ID -----------------------------------------------------------------------------------


def live_reads(budget: RateBudget) -> SelectQuery[list[LiveReadRow]]:
    """Select the last live read of every account name of the User ID, the newest one last."""
    key = budget_key(budget)
    query = select_readable(
        LiveReadRow,
        " WHERE kind=? AND environment=? AND account IN"
        f" (SELECT account FROM {TABLES[IdentityRow]} WHERE {OF_USER}) ORDER BY read_wall",
        (*key[:2], *key),
    )
    return then(query, lambda found: found.rows)


def live_reads_and_proofs(budget: RateBudget) -> SelectQuery[tuple[list[LiveReadRow], list[AppliedRow]]]:
    """Select the last live reads of the User ID, and its last proofs."""
    return together(live_reads(budget), all_applied(budget))


def _of_user(
    kind: type[Row], budget: RateBudget, rest: str = "", *, family: str | None = None, index: str = ""
) -> SelectQuery[list[Row]]:
    """Select rows of a User ID, or of one of its families."""
    of_family, values = ("", ()) if family is None else (" AND family=?", (family,))
    text = f"{index and f' INDEXED BY {index}'} WHERE {OF_USER}{of_family}{rest}"
    return select_rows(kind, text, (*budget_key(budget), *values))


def all_applied(budget: RateBudget) -> SelectQuery[list[AppliedRow]]:
    """Select the last proofs, by family."""
    return then(_of_user(AppliedRow, budget), lambda rows: sorted(rows, key=lambda row: row.family))


def applied(budget: RateBudget, family: str) -> SelectQuery[AppliedRow | None]:
    """Select the last proof of one family."""
    return first(_of_user(AppliedRow, budget, family=family))


KnownRows = tuple[list[AppliedRow], list[AttemptRow], list[LossRow]]


def known(budget: RateBudget) -> SelectQuery[KnownRows]:
    """Select what is known of every family: the last proofs, the open attempts and the losses."""
    return together(all_applied(budget), select_open(budget), losses(budget))


def select_accepted(budget: RateBudget, family: str | None = None) -> SelectQuery[list[AcceptedRow]]:
    """Select the settings that passed the policy guard, of a family or all, in order."""
    return _of_user(AcceptedRow, budget, " ORDER BY id", family=family)


def plan_changes(budget: RateBudget, plan: str) -> SelectQuery[list[PlanChangeRow]]:
    """Select the applied changes of a saved plan."""
    return select_rows(PlanChangeRow, f" WHERE {OF_USER} AND plan=?", (*budget_key(budget), plan))


def plan_change(budget: RateBudget, plan: str, family: str) -> SelectQuery[PlanChangeRow | None]:
    """Select the applied change of one family; None while it is not applied."""
    values = (*budget_key(budget), plan, family)
    return select_row(PlanChangeRow, f" WHERE {OF_USER} AND plan=? AND family=?", values)


def newest_policy(budget: RateBudget) -> SelectQuery[PolicyRow | None]:
    """Select the policy that was recorded last."""
    return first(_of_user(PolicyRow, budget, " ORDER BY id DESC LIMIT 1"))


def policies(budget: RateBudget) -> SelectQuery[list[PolicyRow]]:
    """Select all recorded policies, newest first."""
    return _of_user(PolicyRow, budget, " ORDER BY id DESC")


def select_open(budget: RateBudget, family: str | None = None) -> SelectQuery[list[AttemptRow]]:
    """Select the open attempts, of one family or all, in the order of their ids."""
    rest = " AND resolved=0 ORDER BY id"
    return _of_user(AttemptRow, budget, rest, family=family, index="attempts_open")


def tries(budget: RateBudget, family: str | None = None) -> SelectQuery[list[AttemptRow]]:
    """Select the attempts that count as tries without success, of one family or all, by their ids."""
    rest = " AND tries > 0 ORDER BY id"
    return _of_user(AttemptRow, budget, rest, family=family, index="attempts_tries")


def newest_acknowledged(budget: RateBudget) -> SelectQuery[AttemptRow | None]:
    """Select the newest acknowledged attempt."""
    rest = " AND status <> 'not-sent' AND status = 'applied' ORDER BY id DESC LIMIT 1"
    return first(_of_user(AttemptRow, budget, rest, index="attempts_sent"))


def attempt(budget: RateBudget, number: int) -> SelectQuery[AttemptRow | None]:
    """Select one attempt."""
    return select_row(AttemptRow, f" WHERE id=? AND {OF_USER}", (number, *budget_key(budget)))


def newest_attempt(budget: RateBudget, family: str) -> SelectQuery[int]:
    """Select the id of the newest attempt of a family, or of the newest one before a loss; 0 without
    one."""
    key = (*budget_key(budget), family)
    text = (
        f"SELECT max(id) FROM (SELECT max(id) AS id FROM attempts WHERE {OF_USER} AND family=?"
        f" UNION ALL SELECT max(attempt) FROM losses WHERE {OF_USER} AND family=?) newest"
    )
    return select_number(text, (*key, *key))


def newest_attempts(budget: RateBudget) -> SelectQuery[dict[str, int]]:
    """Select the id of the newest attempt of each family that has one."""
    key = budget_key(budget)
    text = (
        "SELECT family, max(id) FROM"
        f" (SELECT family, max(id) AS id FROM attempts WHERE {OF_USER} GROUP BY family"
        f" UNION ALL SELECT family, attempt FROM losses WHERE {OF_USER} AND family IS NOT NULL) newest"
        " GROUP BY family"
    )
    return SelectQuery((Statement(text, (*key, *key)),), lambda found: dict(found[0]))


class FamilyRows(NamedTuple):
    """What is recorded of one family: its tries, proof, open attempts, newest attempt, accepted
    settings."""

    tries: list[AttemptRow]
    applied: AppliedRow | None
    open: list[AttemptRow]
    losses: list[LossRow]
    newest: int
    accepted: list[AcceptedRow]


def family_rows(budget: RateBudget, family: str) -> SelectQuery[FamilyRows]:
    """Select what is recorded of one family."""
    query = together(
        together(tries(budget, family), applied(budget, family), select_open(budget, family)),
        together(losses(budget, family), newest_attempt(budget, family), select_accepted(budget, family)),
    )
    return then(query, lambda found: FamilyRows(*found[0], *found[1]))


class AttemptAndFamily(NamedTuple):
    """An attempt, and what is recorded of its family if that was selected too."""

    attempt: AttemptRow | None
    family: FamilyRows | None


def attempt_and_family(
    budget: RateBudget, number: int, family: str | None
) -> SelectQuery[AttemptAndFamily]:
    """Select one attempt, and what is recorded of its family if that is named."""
    if family is None:
        return then(attempt(budget, number), lambda row: AttemptAndFamily(row, None))
    query = together(attempt(budget, number), family_rows(budget, family))
    return then(query, lambda found: AttemptAndFamily(*found))


def reserved_then(budget: RateBudget, boot: str, at: float) -> SelectQuery[int]:
    """Select how many requests were reserved at this instant of a boot."""
    text = f"SELECT count(*) FROM attempts WHERE {OF_USER} AND boot=? AND reserved_at=?"
    return select_number(text, (*budget_key(budget), boot, at))


def select_history(budget: RateBudget) -> SelectQuery[Readable[AttemptRow]]:
    """Select all attempts, newest first."""
    return select_readable(AttemptRow, f" WHERE {OF_USER} ORDER BY id DESC", budget_key(budget))


def overrides(budget: RateBudget) -> SelectQuery[list[OverrideRow]]:
    """Select all overrides, newest first."""
    return _of_user(OverrideRow, budget, " ORDER BY id DESC")


def pauses(budget: RateBudget) -> SelectQuery[list[PauseRow]]:
    """Select the pauses, expired or not."""
    return _of_user(PauseRow, budget)


def select_pause(budget: RateBudget, family: str) -> SelectQuery[PauseRow | None]:
    """Select the pause of one family."""
    return first(_of_user(PauseRow, budget, family=family))


def file(budget: RateBudget, sha256: str) -> SelectQuery[FileRow | None]:
    """Select the acceptance of this content of a settings file; None: it never was accepted."""
    return select_row(FileRow, f" WHERE {OF_USER} AND sha256=?", (*budget_key(budget), sha256))


def newest_number(budget: RateBudget) -> SelectQuery[int]:
    """Select the highest number of a settings file: of the accepted files and of the records that name one.

    A failover may lose the acceptance of a file, while a record that names it remains or is written later.
    """
    key = budget_key(budget)
    text = (
        f"SELECT max(number) FROM (SELECT max(number) AS number FROM files WHERE {OF_USER}"
        f" UNION ALL SELECT max(file_number) FROM applied WHERE {OF_USER}"
        f" UNION ALL SELECT max(file_number) FROM attempts WHERE {OF_USER} AND resolved=0) numbers"
    )
    return select_number(text, (*key, *key, *key))


def rate(budget: RateBudget) -> SelectQuery[RateHistory]:
    """Select the attempts that affect the next slot of the budget.

    That is: those that still count, the newest one that was rejected for its rate, and the number of later
    sends, up to BURST_AGAIN_AFTER. A send is a request that was sent or may have been.
    """
    key = budget_key(budget)
    counting = _of_user(AttemptRow, budget, " AND retired=0", index="attempts_counting")
    newest = " AND limited=1 ORDER BY id DESC LIMIT 1"
    limited = first(_of_user(AttemptRow, budget, newest, index="attempts_limited"))
    after = (
        f"SELECT count(*) FROM (SELECT 1 FROM attempts INDEXED BY attempts_sent WHERE {OF_USER}"
        " AND status <> 'not-sent'"
        " AND id > coalesce((SELECT id FROM attempts INDEXED BY attempts_limited"
        f" WHERE {OF_USER}{newest}), 0)"
        " LIMIT ?) sends"
    )
    at_all = (
        f"SELECT count(*) FROM (SELECT 1 FROM attempts INDEXED BY attempts_sent WHERE {OF_USER}"
        " AND status <> 'not-sent' LIMIT 1) sends"
    )
    losses_query = losses(budget)
    sends = Statement(f"SELECT ({after}), ({at_all})", (*key, *key, BURST_AGAIN_AFTER, *key))

    def parse(found: Sequence[RawRows]) -> RateHistory:
        rows, newest_limited = counting.parse(found[:1]), limited.parse(found[1:2])
        [(since, any_sent)] = found[2]
        lost = [row for row in losses_query.parse(found[3:]) if row.family is None]
        return RateHistory(
            budget=budget,
            counting=tuple(rows),
            losses=tuple(lost),
            limited=newest_limited,
            sends_since=since if newest_limited else 0,
            empty=not rows and not lost and not any_sent,
        )

    return SelectQuery((*counting.statements, *limited.statements, sends, *losses_query.statements), parse)


def losses(budget: RateBudget, family: str | None = None) -> SelectQuery[list[LossRow]]:
    """Select the losses that may still matter, of one family or all, in the order of their ids."""
    return _of_user(LossRow, budget, " ORDER BY id", family=family)


def newest_of_user(budget: RateBudget) -> SelectQuery[int]:
    """Select the id of the newest attempt of the User ID, 0 without one."""
    return select_number(f"SELECT max(id) FROM attempts WHERE {OF_USER}", budget_key(budget))


def recorded_families(budget: RateBudget) -> SelectQuery[list[str]]:
    """Select the families that have an attempt or a proof, in order."""
    key = budget_key(budget)
    text = f"SELECT family FROM attempts WHERE {OF_USER} UNION SELECT family FROM applied WHERE {OF_USER}"
    return SelectQuery(
        (Statement(text, (*key, *key)),), lambda found: sorted(family for (family,) in found[0])
    )


# -- timeline --------------------------------------------------------------------------------------


def observed_periods(key: AccountKey) -> SelectQuery[Readable[ObservedPeriodRow]]:
    """Select all observed periods, in the order of their ids."""
    return select_readable(ObservedPeriodRow, f" WHERE {OF_ACCOUNT} ORDER BY id", key)


def newest_observed_period(key: AccountKey) -> SelectQuery[ObservedPeriodRow | None]:
    """Select the newest observed period; None if there is none, or it is damaged."""
    query = select_readable(ObservedPeriodRow, f" WHERE {OF_ACCOUNT} ORDER BY id DESC LIMIT 1", key)
    return then(query, lambda found: found.rows[0] if found.rows else None)


def state_changes_after(
    key: AccountKey, family: str, number: int, limit: int
) -> SelectQuery[list[StateChangeRow]]:
    """Select the next state changes, by family and id, without checking them."""
    rest = f" WHERE {OF_ACCOUNT} AND (family, id) > (?, ?) ORDER BY family, id LIMIT ?"
    return select_unchecked(StateChangeRow, rest, (*key, family, number, limit))


def last_state_changes(key: AccountKey) -> SelectQuery[list[StateChangeRow]]:
    """Select the newest state change of each family, unless it is damaged."""
    table = TABLES[StateChangeRow]
    rest = f" WHERE id IN (SELECT max(id) FROM {table} WHERE {OF_ACCOUNT} GROUP BY family)"
    query = select_readable(StateChangeRow, rest, key)
    return then(query, lambda found: found.rows)
