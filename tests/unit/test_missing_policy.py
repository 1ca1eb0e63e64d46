"""A policy that is on record while its file is missing: how it is named, and what people read about it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from reconciler.core.history_records import PolicyRecord
from reconciler.core.missing_policy import GivenUp, missing_problem, parse_sha256
from reconciler.core.problems import Code

SHA = "0123456789abcdef" * 4
RECORD = PolicyRecord(SHA, "mmp-policy.yaml", "version: 1\n", None, datetime(2026, 3, 1, 3, tzinfo=UTC))


@pytest.mark.parametrize(
    ("text", "digits"), [(SHA, SHA), (SHA[:12], SHA[:12]), (SHA.upper(), SHA), (f"sha256:{SHA}", SHA)]
)
def test_a_policy_is_named_by_its_hash_or_the_first_digits(text: str, digits: str) -> None:
    assert parse_sha256(text) == digits
    assert GivenUp(digits).names(RECORD)


@pytest.mark.parametrize("text", ["", SHA[:11], SHA + "0", "x" * 12, SHA[:12] + "\n", "sha256:"])
def test_nothing_else_names_a_policy(text: str) -> None:
    with pytest.raises(ValueError, match="12 to 64 hex digits"):
        parse_sha256(text)


def test_another_hash_names_another_policy() -> None:
    assert not GivenUp("f" * 12).names(RECORD)
    assert not GivenUp(SHA[1:13]).names(RECORD)


def test_the_problem_says_where_since_when_and_what_to_do() -> None:
    problem = missing_problem(RECORD)
    assert (problem.code, problem.path, problem.is_error) == (Code.POLICY_MISSING, "mmp-policy.yaml", True)
    assert problem.message == (
        "the policy file mmp-policy.yaml is missing: it was in use since 2026-03-01 03:00:00Z"
        f" (sha256 {SHA})"
    )
    assert problem.hint == (
        "restore the file, name it with --policy FILE, or give the policy up:"
        ' --no-policy 0123456789ab --reason "…"'
    )


def test_it_says_what_makes_it_worse() -> None:
    other = missing_problem(RECORD, other=GivenUp("f" * 12), judged=False)
    assert "--no-policy names another policy (ffffffffffff), so it has no effect" in other.message
    assert other.message.endswith("its rules cannot be read by this version of mmp")
