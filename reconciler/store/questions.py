"""What is asked of the tables, as values: the text of one SELECT and its values.

A question is a value so that a step can say beforehand what it will ask: an engine that is far away
answers all of it in one round trip. The SQL is SQLite's, like that of ``tables``, which puts the
questions and makes typed rows of the answers.
"""

from __future__ import annotations

from typing import NamedTuple

from reconciler.core.model import Budget
from reconciler.core.pacing import CALM_SENDS

Value = str | int | float | None

AccountKey = tuple[str, str, str]
"""Account, environment and kind of exchange."""


class Question(NamedTuple):
    """One SELECT."""

    text: str
    values: tuple[Value, ...]


# -- one account -----------------------------------------------------------------------------------


def identity(account: str, environment: str) -> Question:
    """Ask whose account it is."""
    return Question("SELECT * FROM identity WHERE account=? AND environment=?", (account, environment))


def live(key: AccountKey) -> Question:
    """Ask for the last live read."""
    return Question("SELECT * FROM live WHERE account=? AND environment=? AND kind=?", key)


def all_applied(key: AccountKey) -> Question:
    """Ask for the last proofs."""
    return Question("SELECT * FROM applied WHERE account=? AND environment=? AND kind=?", key)


def applied(key: AccountKey, family: str) -> Question:
    """Ask for the last proof of one family."""
    text = "SELECT * FROM applied WHERE account=? AND environment=? AND kind=? AND family=?"
    return Question(text, (*key, family))


def all_open(key: AccountKey) -> Question:
    """Ask for the open attempts, in the order of their ids."""
    text = (
        "SELECT * FROM attempts INDEXED BY attempts_open"
        " WHERE account=? AND environment=? AND kind=? AND resolved=0 ORDER BY id"
    )
    return Question(text, key)


def open_of(key: AccountKey, family: str) -> Question:
    """Ask for the open attempts of one family, in the order of their ids."""
    text = (
        "SELECT * FROM attempts INDEXED BY attempts_open"
        " WHERE account=? AND environment=? AND kind=? AND family=? AND resolved=0 ORDER BY id"
    )
    return Question(text, (*key, family))


def attempt(key: AccountKey, number: int) -> Question:
    """Ask for one attempt of the account."""
    text = "SELECT * FROM attempts WHERE id=? AND account=? AND environment=? AND kind=?"
    return Question(text, (number, *key))


def newest_attempt(key: AccountKey, family: str) -> Question:
    """Ask for the id of the family's newest attempt."""
    text = "SELECT max(id) FROM attempts WHERE account=? AND environment=? AND kind=? AND family=?"
    return Question(text, (*key, family))


def newest_attempts(key: AccountKey) -> Question:
    """Ask for the id of each family's newest attempt."""
    text = (
        "SELECT family, max(id) FROM attempts WHERE account=? AND environment=? AND kind=? GROUP BY family"
    )
    return Question(text, key)


def history(key: AccountKey) -> Question:
    """Ask for all attempts, newest first."""
    text = "SELECT * FROM attempts WHERE account=? AND environment=? AND kind=? ORDER BY id DESC"
    return Question(text, key)


def overrides(account: str, environment: str) -> Question:
    """Ask for all overrides, newest first."""
    text = "SELECT * FROM overrides WHERE account=? AND environment=? ORDER BY id DESC"
    return Question(text, (account, environment))


def pauses(account: str, environment: str) -> tuple[Question, Question]:
    """Ask for the pauses by hand, and for those of fights."""
    key = (account, environment)
    return (
        Question("SELECT * FROM pauses WHERE account=? AND environment=?", key),
        Question("SELECT * FROM fights WHERE account=? AND environment=?", key),
    )


# -- one budget ------------------------------------------------------------------------------------


def budget_key(budget: Budget) -> tuple[str, str, str]:
    """Return what names a budget in a row."""
    return budget.kind.value, budget.environment.value, budget.uid


def rate(budget: Budget) -> tuple[Question, Question, Question]:
    """Ask what bears on the budget's next slot: what counts, what was limited last, and how many sends.

    The sends, which were or may have been sent: those after the newest limited one, up to CALM_SENDS,
    and whether there is any at all.
    """
    key = budget_key(budget)
    counting = (
        "SELECT * FROM attempts INDEXED BY attempts_counting"
        " WHERE kind=? AND environment=? AND uid=? AND retired=0"
    )
    limited = (
        "SELECT * FROM attempts INDEXED BY attempts_limited"
        " WHERE kind=? AND environment=? AND uid=? AND limited=1"
        " ORDER BY id DESC LIMIT 1"
    )
    after = (
        "SELECT count(*) FROM (SELECT 1 FROM attempts INDEXED BY attempts_sent"
        " WHERE kind=? AND environment=? AND uid=? AND status <> 'not-sent' AND status <> 'lost'"
        " AND id > coalesce((SELECT id FROM attempts INDEXED BY attempts_limited"
        " WHERE kind=? AND environment=? AND uid=? AND limited=1 ORDER BY id DESC LIMIT 1), 0)"
        " LIMIT ?) sends"
    )
    at_all = (
        "SELECT count(*) FROM (SELECT 1 FROM attempts INDEXED BY attempts_sent"
        " WHERE kind=? AND environment=? AND uid=? AND status <> 'not-sent' AND status <> 'lost'"
        " LIMIT 1) sends"
    )
    sends = f"SELECT ({after}), ({at_all})"
    return (
        Question(counting, key),
        Question(limited, key),
        Question(sends, (*key, *key, CALM_SENDS, *key)),
    )


def lost_attempts(budget: Budget) -> Question:
    """Ask for the lost attempts that still count against the budget."""
    text = (
        "SELECT * FROM attempts INDEXED BY attempts_counting"
        " WHERE kind=? AND environment=? AND uid=? AND retired=0 AND status='lost'"
    )
    return Question(text, budget_key(budget))


def on_record(budget: Budget) -> Question:
    """Ask for account and family of whatever is on record of a budget."""
    kind, environment, uid = key = budget_key(budget)
    text = (
        "SELECT account, family FROM attempts"
        " WHERE kind=? AND environment=? AND uid=? AND family <> '*'"
        " UNION SELECT applied.account, applied.family FROM applied JOIN identity"
        " ON identity.account = applied.account AND identity.environment = applied.environment"
        " WHERE applied.kind=? AND applied.environment=? AND identity.uid=?"
    )
    return Question(text, (*key, kind, environment, uid))


# -- strips ----------------------------------------------------------------------------------------


def presence(key: AccountKey) -> Question:
    """Ask for all watches, in the order they were recorded in."""
    return Question("SELECT * FROM presence WHERE account=? AND environment=? AND kind=? ORDER BY id", key)


def newest_presence(key: AccountKey) -> Question:
    """Ask for the newest watch."""
    text = "SELECT * FROM presence WHERE account=? AND environment=? AND kind=? ORDER BY id DESC LIMIT 1"
    return Question(text, key)


def turns(key: AccountKey) -> Question:
    """Ask for all turns, in the order they were recorded in."""
    return Question("SELECT * FROM turns WHERE account=? AND environment=? AND kind=? ORDER BY id", key)


def last_turns(key: AccountKey) -> Question:
    """Ask for the newest turn of each family."""
    text = (
        "SELECT * FROM turns WHERE id IN (SELECT max(id) FROM turns"
        " WHERE account=? AND environment=? AND kind=? GROUP BY family)"
    )
    return Question(text, key)
