"""Two files that turn out to be for one User ID: who may write which family, and when that changes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.controller.family_claims import FamilyClaims, RecordedClaims
from reconciler.core.model import Desired, Environment, Family
from reconciler.core.replica_assignment import AccountClaim
from tests.unit.builders import BTC, ETH, desired, setting

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
    claims = FamilyClaims()
    assert claims.claim_families("1", file("a", BTC)) is None
    problem = claims.claim_families(uid, other)
    assert (problem is not None) == refused
    assert (("b", other.environment) in claims.denied) == refused
    assert claims.claim_families("1", file("a", BTC)) is None, "the first to claim keeps the family"
    assert problem is None or (problem.code, "b.yaml" in problem.message) == ("claimed-twice", True)


def test_an_account_that_claims_families_of_another_loses_its_own() -> None:
    claims = FamilyClaims()
    assert claims.claim_families("1", file("a", BTC)) is None
    assert claims.claim_families("1", file("b", ETH)) is None
    assert claims.claim_families("1", file("a", BTC, ETH)) is not None
    assert claims.claim_families("1", file("b", ETH, BTC)) is None, "a is held as a whole"
    assert claims.claim_families("1", file("a", BTC)) is not None


def test_a_family_that_was_let_go_can_be_claimed() -> None:
    claims = FamilyClaims()
    assert claims.claim_families("1", file("a", BTC)) is None
    assert claims.claim_families("1", file("b", BTC)) is not None
    assert claims.claim_families("1", file("a", ETH)) is None
    assert claims.claim_families("1", file("b", BTC)) is None
    assert claims.denied == {}


def test_a_key_of_another_user_id_claims_there() -> None:
    claims = FamilyClaims()
    assert claims.claim_families("1", file("a", BTC)) is None
    assert claims.claim_families("2", file("a", BTC)) is None
    assert claims.claim_families("1", file("b", BTC)) is None


# ---- claims of other replicas --------------------------------------------------------------------


def other(uid: str, *families: Family, number: int = 5) -> tuple[AccountClaim, str]:
    return AccountClaim(uid, frozenset(families), number), "pod-2 (pid 7)"


A_OWNER, B_OWNER = ("a", Environment.LIVE), ("b", Environment.LIVE)


@pytest.mark.parametrize(
    ("claim", "environment", "number", "refused"),
    [
        (other("1", BTC), Environment.LIVE, None, True),
        (other("1", BTC), Environment.LIVE, 6, True),
        (other("1", BTC), Environment.LIVE, 4, False),
        (other("1", ETH), Environment.LIVE, None, False),
        (other("2", BTC), Environment.LIVE, None, False),
        (other("1", BTC), Environment.DEMO, None, False),
    ],
)
def test_who_claimed_a_family_before_elsewhere_has_it(
    claim: tuple[AccountClaim, str], environment: Environment, number: int | None, refused: bool
) -> None:
    ours = (
        {} if number is None else {A_OWNER: (AccountClaim("1", frozenset({BTC}), number), "pod-1 (pid 7)")}
    )
    claims = FamilyClaims(recorded=RecordedClaims(rivals={("b", environment): claim, **ours}))
    problem = claims.claim_families("1", file("a", BTC))
    assert (problem is not None) == refused
    assert problem is None or "run by pod-2 (pid 7)" in problem.message
    assert claims.claims_to_publish() == {
        A_OWNER: AccountClaim("1", frozenset() if refused else frozenset({BTC}))
    }


def test_a_claim_counts_once_it_is_recorded_and_new_claims_are_reported() -> None:
    text: list[str] = []
    claims = FamilyClaims(recorded=RecordedClaims(), on_new_claim=lambda: text.append("news"))
    assert claims.on_record(A_OWNER), "who claims nothing has nothing to wait for"
    assert claims.claim_families("1", file("a", BTC, ETH)) is None
    assert (claims.on_record(A_OWNER), text) == (False, ["news"])
    claims.recorded = RecordedClaims(ours=claims.claims_to_publish())
    assert claims.on_record(A_OWNER)
    assert claims.claim_families("1", file("a", BTC)) is None
    assert (claims.on_record(A_OWNER), text) == (True, ["news"]), "less than what is on record is"
    assert claims.claim_families("2", file("a", BTC)) is None
    assert not claims.on_record(A_OWNER)


def test_a_claim_without_other_replicas_is_granted_at_once() -> None:
    claims = FamilyClaims()
    assert claims.claim_families("1", file("a", BTC)) is None
    assert claims.on_record(A_OWNER)


def test_an_account_that_does_not_run_here_any_more_claims_nothing() -> None:
    claims = FamilyClaims()
    assert claims.claim_families("1", file("a", BTC)) is None
    assert claims.claim_families("1", file("b", BTC)) is not None
    claims.release(A_OWNER)
    assert claims.claims_to_publish() == {B_OWNER: AccountClaim("1", frozenset())}
    claims.release(B_OWNER)
    assert claims.claims_to_publish() == {}


def on_record(*accounts: tuple[str, int], families: frozenset[Family] = frozenset({BTC})) -> RecordedClaims:
    """Return what is on record of accounts of one User ID that want the same, each with its number."""
    return RecordedClaims(
        rivals={
            (name, Environment.LIVE): (AccountClaim("1", families, number), "no replica at this moment")
            for name, number in accounts
        }
    )


@pytest.mark.parametrize("first", ["a", "b"])
def test_the_account_that_claimed_first_keeps_its_families_whichever_asks_first(first: str) -> None:
    """Both accounts have just come here, in whatever order their loops begin: who wins stays the same."""
    claims = FamilyClaims(recorded=on_record(("a", 9), ("b", 4)))
    for name in (first, "a", "b", "a", "b"):
        claims.claim_families("1", file(name, BTC))
    assert (set(claims.denied), set(claims.claims_to_publish())) == ({A_OWNER}, {A_OWNER, B_OWNER})
    assert claims.claims_to_publish()[B_OWNER].families == {BTC}


def test_an_account_is_no_rival_of_its_own() -> None:
    """Just taken over: in the newest lease table it is unassigned."""
    claims = FamilyClaims(recorded=on_record(("a", 4)))
    assert claims.claim_families("1", file("a", BTC)) is None
    claims.recorded = on_record(("a", 4), ("b", 7))
    assert claims.claim_families("1", file("a", BTC)) is None
    assert claims.claim_families("1", file("a", BTC, ETH)) is not None, (
        "more than it claimed before the other"
    )


def test_a_newcomer_here_yields_to_what_is_on_record_even_if_it_was_granted_first() -> None:
    claims = FamilyClaims(recorded=on_record(("a", 4)))
    assert claims.claim_families("1", file("b", BTC)) is not None
    claims.recorded = RecordedClaims()
    assert claims.claim_families("1", file("b", BTC)) is None
    claims.recorded = on_record(("a", 4))
    assert claims.claim_families("1", file("a", BTC)) is None
    assert claims.claim_families("1", file("b", BTC)) is not None
