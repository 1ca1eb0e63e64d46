"""Two files that turn out to be for one User ID: who may write which family, and when that changes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.cli.claims import Claims
from reconciler.core.model import Desired, Environment, Family
from tests.unit.core_builders import BTC, ETH, desired, setting

A = setting("5000/2000/100")


def file(account: str, *families: Family) -> Desired:
    return replace(desired(dict.fromkeys(families, A)), account=account, path=f"{account}.yaml")


@pytest.mark.parametrize(
    ("other", "uid", "refused"),
    [
        (file("b", BTC), "1", True),
        (file("b", BTC, ETH), "1", True),
        (file("b", ETH), "1", False),
        (file("b", BTC), "2", False),
        (replace(file("b", BTC), environment=Environment.DEMO), "1", False),
    ],
)
def test_the_first_to_claim_a_family_of_an_account_has_it(other: Desired, uid: str, refused: bool) -> None:
    claims = Claims()
    assert claims.refusal("1", file("a", BTC)) is None
    problem = claims.refusal(uid, other)
    assert (problem is not None) == refused
    assert (("b", other.environment) in claims.held) == refused
    assert claims.refusal("1", file("a", BTC)) is None, "whoever came first stays"
    assert problem is None or (problem.code, "b.yaml" in problem.message) == ("claimed-twice", True)


def test_whoever_takes_what_another_has_loses_what_it_had() -> None:
    claims = Claims()
    assert claims.refusal("1", file("a", BTC)) is None
    assert claims.refusal("1", file("b", ETH)) is None
    assert claims.refusal("1", file("a", BTC, ETH)) is not None
    assert claims.refusal("1", file("b", ETH, BTC)) is None, "a is held as a whole"
    assert claims.refusal("1", file("a", BTC)) is not None


def test_a_family_that_was_let_go_can_be_claimed() -> None:
    claims = Claims()
    assert claims.refusal("1", file("a", BTC)) is None
    assert claims.refusal("1", file("b", BTC)) is not None
    assert claims.refusal("1", file("a", ETH)) is None
    assert claims.refusal("1", file("b", BTC)) is None
    assert claims.held == set()


def test_a_key_of_another_user_id_claims_there() -> None:
    claims = Claims()
    assert claims.refusal("1", file("a", BTC)) is None
    assert claims.refusal("2", file("a", BTC)) is None
    assert claims.refusal("1", file("b", BTC)) is None
