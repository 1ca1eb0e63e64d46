"""What is asked of the tables, as values: the text of one SELECT and its values.

A question is a value so that a step can say beforehand what it will ask: an engine that is far away
answers all of it in one round trip. The SQL is SQLite's, like that of ``tables``, which puts the
questions and makes typed rows of the answers.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from reconciler.core.model import RateBudget
from reconciler.core.pacing import BURST_AGAIN_AFTER
from reconciler.store.rows import (
    TABLES,
    AcceptedRow,
    AppliedRow,
    AttemptRow,
    FileRow,
    IdentityRow,
    LiveReadRow,
    ObservedPeriodRow,
    OverrideRow,
    PauseRow,
    PlanChangeRow,
    PolicyRow,
    RowKind,
    StateChangeRow,
    StateRow,
    fields,
)

Value = str | int | float | None

AccountKey = tuple[str, str, str]
"""Account, environment and kind of exchange."""


class SelectQuery(NamedTuple):
    """One SELECT."""

    text: str
    values: tuple[Value, ...]


def every(kind: RowKind) -> SelectQuery:
    """Ask for all rows of a kind."""
    return SelectQuery(_select(kind), ())


def newest_id(kind: RowKind) -> SelectQuery:
    """Ask for the highest id of a kind of rows that has ids, of all accounts."""
    return SelectQuery(f"SELECT coalesce(max(id), 0) FROM {TABLES[kind]}", ())


def between(kind: RowKind, first: int, last: int) -> SelectQuery:
    """Ask for the rows of a kind that has ids, from one id to another."""
    return SelectQuery(f"{_select(kind)} WHERE id BETWEEN ? AND ?", (first, last))


@lru_cache
def _select(kind: RowKind) -> str:
    """Return how rows of a kind are read, every column by its name."""
    return f"SELECT {', '.join(fields(kind))} FROM {TABLES[kind]}"


_IDENTITY = _select(IdentityRow)
_ATTEMPTS = _select(AttemptRow)
_APPLIED = _select(AppliedRow)
_ACCEPTED = _select(AcceptedRow)
_PLAN_CHANGES = _select(PlanChangeRow)
_POLICIES = _select(PolicyRow)
_FILES = _select(FileRow)
_LIVE = _select(LiveReadRow)
_PAUSES = _select(PauseRow)
_OVERRIDES = _select(OverrideRow)
_PRESENCE = _select(ObservedPeriodRow)
_TURNS = _select(StateChangeRow)

_OF_ACCOUNT = "account=? AND environment=? AND kind=?"
_OF_USER = "kind=? AND environment=? AND uid=?"


def state() -> SelectQuery:
    """Select the one row of the state itself."""
    return SelectQuery(_select(StateRow), ())


# -- one account -----------------------------------------------------------------------------------


def identity(account: str, environment: str) -> SelectQuery:
    """Ask whose account it is."""
    return SelectQuery(f"{_IDENTITY} WHERE account=? AND environment=?", (account, environment))


def identities(environment: str) -> SelectQuery:
    """Ask for all accounts of one environment, by name."""
    return SelectQuery(f"{_IDENTITY} WHERE environment=? ORDER BY account", (environment,))


def live(key: AccountKey) -> SelectQuery:
    """Ask for the last live read."""
    return SelectQuery(f"{_LIVE} WHERE {_OF_ACCOUNT}", key)


# -- one User ID -----------------------------------------------------------------------------------


def budget_key(budget: RateBudget) -> tuple[str, str, str]:
    """Return what names a User ID of one kind of exchange, in one environment, in a row."""
    return budget.kind.value, budget.environment.value, budget.uid


def live_reads(budget: RateBudget) -> SelectQuery:
    """Select the last live read of every account name of the User ID, the newest one last."""
    text = (
        f"{_LIVE} WHERE kind=? AND environment=? AND account IN"
        f" (SELECT account FROM {TABLES[IdentityRow]} WHERE {_OF_USER}) ORDER BY read_wall"
    )
    key = budget_key(budget)
    return SelectQuery(text, (*key[:2], *key))


def all_applied(budget: RateBudget) -> SelectQuery:
    """Ask for the last proofs."""
    return SelectQuery(f"{_APPLIED} WHERE {_OF_USER}", budget_key(budget))


def applied(budget: RateBudget, family: str) -> SelectQuery:
    """Ask for the last proof of one family."""
    return SelectQuery(f"{_APPLIED} WHERE {_OF_USER} AND family=?", (*budget_key(budget), family))


def all_accepted(budget: RateBudget) -> SelectQuery:
    """Select the settings that passed the guard, of all families, in the order they did."""
    return SelectQuery(f"{_ACCEPTED} WHERE {_OF_USER} ORDER BY id", budget_key(budget))


def accepted_of(budget: RateBudget, family: str) -> SelectQuery:
    """Select those of one family, in the order they passed the guard."""
    text = f"{_ACCEPTED} WHERE {_OF_USER} AND family=? ORDER BY id"
    return SelectQuery(text, (*budget_key(budget), family))


def plan_changes(budget: RateBudget, plan: str) -> SelectQuery:
    """Select the changes of a saved plan that were applied."""
    return SelectQuery(f"{_PLAN_CHANGES} WHERE {_OF_USER} AND plan=?", (*budget_key(budget), plan))


def plan_change(budget: RateBudget, plan: str, family: str) -> SelectQuery:
    """Select the change of one family."""
    key = (*budget_key(budget), plan, family)
    return SelectQuery(f"{_PLAN_CHANGES} WHERE {_OF_USER} AND plan=? AND family=?", key)


def newest_policy(budget: RateBudget) -> SelectQuery:
    """Select the policy that was recorded last."""
    return SelectQuery(f"{_POLICIES} WHERE {_OF_USER} ORDER BY id DESC LIMIT 1", budget_key(budget))


def policies(budget: RateBudget) -> SelectQuery:
    """Select all policies on record, newest first."""
    return SelectQuery(f"{_POLICIES} WHERE {_OF_USER} ORDER BY id DESC", budget_key(budget))


def all_open(budget: RateBudget) -> SelectQuery:
    """Ask for the open attempts, in the order of their ids."""
    text = f"{_ATTEMPTS} INDEXED BY attempts_open WHERE {_OF_USER} AND resolved=0 ORDER BY id"
    return SelectQuery(text, budget_key(budget))


def open_of(budget: RateBudget, family: str) -> SelectQuery:
    """Ask for the open attempts of one family, in the order of their ids."""
    text = f"{_ATTEMPTS} INDEXED BY attempts_open WHERE {_OF_USER} AND family=? AND resolved=0 ORDER BY id"
    return SelectQuery(text, (*budget_key(budget), family))


def all_tries(budget: RateBudget) -> SelectQuery:
    """Ask for the attempts that count as tries without success, in the order of their ids."""
    text = f"{_ATTEMPTS} INDEXED BY attempts_tries WHERE {_OF_USER} AND tries > 0 ORDER BY id"
    return SelectQuery(text, budget_key(budget))


def tries_of(budget: RateBudget, family: str) -> SelectQuery:
    """Ask for those of one family, in the order of their ids."""
    text = f"{_ATTEMPTS} INDEXED BY attempts_tries WHERE {_OF_USER} AND family=? AND tries > 0 ORDER BY id"
    return SelectQuery(text, (*budget_key(budget), family))


def newest_acknowledged(budget: RateBudget) -> SelectQuery:
    """Ask for the newest acknowledged attempt."""
    text = (
        f"{_ATTEMPTS} INDEXED BY attempts_sent WHERE {_OF_USER}"
        " AND status <> 'not-sent' AND status = 'applied' ORDER BY id DESC LIMIT 1"
    )
    return SelectQuery(text, budget_key(budget))


def attempt(budget: RateBudget, number: int) -> SelectQuery:
    """Ask for one attempt."""
    return SelectQuery(f"{_ATTEMPTS} WHERE id=? AND {_OF_USER}", (number, *budget_key(budget)))


def newest_attempt(budget: RateBudget, family: str) -> SelectQuery:
    """Ask for the id of the family's newest attempt."""
    text = f"SELECT max(id) FROM attempts WHERE {_OF_USER} AND family=?"
    return SelectQuery(text, (*budget_key(budget), family))


def newest_attempts(budget: RateBudget) -> SelectQuery:
    """Ask for the id of each family's newest attempt."""
    text = f"SELECT family, max(id) FROM attempts WHERE {_OF_USER} GROUP BY family"
    return SelectQuery(text, budget_key(budget))


def reserved_then(budget: RateBudget, boot: str, at: float) -> SelectQuery:
    """Ask whether a request was reserved at this instant of a boot."""
    text = f"SELECT count(*) FROM attempts WHERE {_OF_USER} AND boot=? AND reserved_at=?"
    return SelectQuery(text, (*budget_key(budget), boot, at))


def history(budget: RateBudget) -> SelectQuery:
    """Ask for all attempts, newest first."""
    return SelectQuery(f"{_ATTEMPTS} WHERE {_OF_USER} ORDER BY id DESC", budget_key(budget))


def overrides(budget: RateBudget) -> SelectQuery:
    """Ask for all overrides, newest first."""
    return SelectQuery(f"{_OVERRIDES} WHERE {_OF_USER} ORDER BY id DESC", budget_key(budget))


def pauses(budget: RateBudget) -> SelectQuery:
    """Ask for the pauses, whether or not their time is over."""
    return SelectQuery(f"{_PAUSES} WHERE {_OF_USER}", budget_key(budget))


def pause(budget: RateBudget, family: str) -> SelectQuery:
    """Ask for the pause of one family."""
    return SelectQuery(f"{_PAUSES} WHERE {_OF_USER} AND family=?", (*budget_key(budget), family))


def file(budget: RateBudget, sha256: str) -> SelectQuery:
    """Ask when content of a settings file was accepted."""
    return SelectQuery(f"{_FILES} WHERE {_OF_USER} AND sha256=?", (*budget_key(budget), sha256))


def newest_file(budget: RateBudget) -> SelectQuery:
    """Ask for the content that was accepted last."""
    return SelectQuery(f"{_FILES} WHERE {_OF_USER} ORDER BY number DESC LIMIT 1", budget_key(budget))


def newest_number(budget: RateBudget) -> SelectQuery:
    """Ask for the highest number of a settings file, of those accepted and of those a record came from.

    A failover may lose that a file was accepted and leave, or be followed by, a record that came from it.
    """
    key = budget_key(budget)
    text = (
        f"SELECT max(number) FROM (SELECT max(number) AS number FROM files WHERE {_OF_USER}"
        f" UNION ALL SELECT max(file_number) FROM applied WHERE {_OF_USER}"
        f" UNION ALL SELECT max(file_number) FROM attempts WHERE {_OF_USER} AND resolved=0) numbers"
    )
    return SelectQuery(text, (*key, *key, *key))


def rate(budget: RateBudget) -> tuple[SelectQuery, SelectQuery, SelectQuery]:
    """Ask what bears on the budget's next slot: what counts, what was limited last, and how many sends.

    The sends, which were or may have been sent: those after the newest limited one, up to CALM_SENDS,
    and whether there is any at all.
    """
    key = budget_key(budget)
    counting = f"{_ATTEMPTS} INDEXED BY attempts_counting WHERE {_OF_USER} AND retired=0"
    limited = (
        f"{_ATTEMPTS} INDEXED BY attempts_limited WHERE {_OF_USER} AND limited=1 ORDER BY id DESC LIMIT 1"
    )
    after = (
        f"SELECT count(*) FROM (SELECT 1 FROM attempts INDEXED BY attempts_sent WHERE {_OF_USER}"
        " AND status <> 'not-sent' AND status <> 'lost'"
        " AND id > coalesce((SELECT id FROM attempts INDEXED BY attempts_limited"
        f" WHERE {_OF_USER} AND limited=1 ORDER BY id DESC LIMIT 1), 0)"
        " LIMIT ?) sends"
    )
    at_all = (
        f"SELECT count(*) FROM (SELECT 1 FROM attempts INDEXED BY attempts_sent WHERE {_OF_USER}"
        " AND status <> 'not-sent' AND status <> 'lost' LIMIT 1) sends"
    )
    sends = f"SELECT ({after}), ({at_all})"
    return (
        SelectQuery(counting, key),
        SelectQuery(limited, key),
        SelectQuery(sends, (*key, *key, BURST_AGAIN_AFTER, *key)),
    )


def lost_attempts(budget: RateBudget) -> SelectQuery:
    """Ask for the lost attempts that still count against the budget."""
    text = f"{_ATTEMPTS} INDEXED BY attempts_counting WHERE {_OF_USER} AND retired=0 AND status='lost'"
    return SelectQuery(text, budget_key(budget))


def on_record(budget: RateBudget) -> SelectQuery:
    """Ask for the families of which there is an attempt or a proof."""
    key = budget_key(budget)
    text = (
        f"SELECT family FROM attempts WHERE {_OF_USER} AND family <> '*'"
        f" UNION SELECT family FROM applied WHERE {_OF_USER}"
    )
    return SelectQuery(text, (*key, *key))


# -- strips ----------------------------------------------------------------------------------------


def presence(key: AccountKey) -> SelectQuery:
    """Ask for all watches, in the order they were recorded in."""
    return SelectQuery(f"{_PRESENCE} WHERE {_OF_ACCOUNT} ORDER BY id", key)


def newest_presence(key: AccountKey) -> SelectQuery:
    """Ask for the newest watch."""
    return SelectQuery(f"{_PRESENCE} WHERE {_OF_ACCOUNT} ORDER BY id DESC LIMIT 1", key)


def turns_after(key: AccountKey, family: str, number: int, most: int) -> SelectQuery:
    """Ask for the next turns, by family and then by id, at most so many."""
    text = f"{_TURNS} WHERE {_OF_ACCOUNT} AND (family, id) > (?, ?) ORDER BY family, id LIMIT ?"
    return SelectQuery(text, (*key, family, number, most))


def last_turns(key: AccountKey) -> SelectQuery:
    """Ask for the newest turn of each family."""
    text = f"{_TURNS} WHERE id IN (SELECT max(id) FROM turns WHERE {_OF_ACCOUNT} GROUP BY family)"
    return SelectQuery(text, key)
