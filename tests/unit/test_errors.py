"""The error tree: every leaf's exit status, and which status wins."""

from __future__ import annotations

from itertools import permutations

import pytest

from reconciler import errors
from reconciler.errors import Exit, MmpError, overall_status

STATUS = {
    "MmpError": 1,
    "UsageError": 64,
    "InvalidInput": 4,
    "AccountProblem": 8,
    "StateLocked": 7,
    "PlanStale": 5,
    "ChangeRefused": 3,
    "StateUnusable": 1,
    "StateUnavailable": 1,
    "StateAccessDenied": 1,
    "StateAccountMismatch": 8,
}

WINS = [64, 4, 8, 7, 5, 3, 1, 9, 2, 0]


def test_every_error_of_the_tree_has_the_status_the_contract_gives() -> None:
    tree = {
        name: int(thing.exit_status)
        for name, thing in vars(errors).items()
        if isinstance(thing, type) and issubclass(thing, MmpError)
    }
    assert tree == STATUS


@pytest.mark.parametrize("name", STATUS)
def test_an_error_carries_its_code_its_message_and_what_to_do_next(name: str) -> None:
    error = getattr(errors, name)("some-code", "what is wrong", "what to do")
    assert (error.code, error.message, error.hint) == ("some-code", "what is wrong", "what to do")
    assert str(error) == "what is wrong"


def test_statuses_win_in_the_order_of_the_contract() -> None:
    assert list(errors.PRECEDENCE) == WINS
    for first, second in permutations(WINS, 2):
        winner = min(first, second, key=WINS.index)
        assert overall_status([Exit(first), Exit(second)]) == winner
    assert overall_status([]) is Exit.DONE


def test_the_numbers_are_those_of_the_contract() -> None:
    assert {status.name: status.value for status in Exit} == {
        "DONE": 0,
        "FAILED": 1,
        "CHANGES": 2,
        "REFUSED": 3,
        "INVALID": 4,
        "STALE": 5,
        "PARTLY": 6,
        "LOCKED": 7,
        "ACCOUNT": 8,
        "HELD": 9,
        "USAGE": 64,
        "HANGUP": 129,
        "INTERRUPTED": 130,
        "TERMINATED": 143,
    }
