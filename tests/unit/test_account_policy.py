"""Which policy applies to an account: its file, or the one that the state has on record."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from reconciler.config.policy import recorded_policy
from reconciler.controller.account_policy import AccountPolicy, refuse_other
from reconciler.core.missing_policy import GivenUp
from reconciler.core.model import Environment, ExchangeKind
from reconciler.core.policy import PolicyInForce
from reconciler.errors import ChangeRefused
from reconciler.store.account_store import SqlAccountStore
from reconciler.store.engine import StateOptions
from reconciler.watch.last_valid_content import WatchedPolicy
from reconciler.watch.write_completion import ReadConfidence
from tests.contract.stores import HOST, UID, ScriptedClock
from tests.support.memory_state import MemoryDisk

ONE = "version: 1\nprotected: [BTC-USD]\n"
TWO = "version: 1\nprotected: [ETH-USD]\n"
SHA_ONE, SHA_TWO = "1" * 64, "2" * 64


@dataclass
class Desk:
    """A folder for the policy file, and a state that has one policy on record."""

    folder: Path
    disk: MemoryDisk = field(default_factory=MemoryDisk)

    def store(self) -> SqlAccountStore:
        state = self.disk.open(StateOptions(ScriptedClock(), "boot-1", lock_timeout_s=30.0))
        store = state.account("main", Environment.LIVE, ExchangeKind.OKX)
        asyncio.run(store.identify(UID, HOST))
        return store

    def policy(self, *, given_up: GivenUp | None = None) -> AccountPolicy:
        file = WatchedPolicy(None, str(self.folder / "mmp.yaml"), None)
        return AccountPolicy(file, self.store(), given_up)

    def write(self, content: str) -> None:
        (self.folder / "mmp-policy.yaml").write_text(content, encoding="utf-8")


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    desk = Desk(tmp_path)
    asyncio.run(desk.store().record_policy(SHA_ONE, "mmp-policy.yaml", ONE))
    return desk


def look_up(policy: AccountPolicy) -> PolicyInForce:
    asyncio.run(policy.look_up())
    return policy.in_force


def look(policy: AccountPolicy) -> None:
    """Let a policy file that appeared count."""
    file = policy._file  # the watcher's part
    file.decide(file.read(), ReadConfidence.COMPLETE, 0.0)


def on_record(desk: Desk) -> list[tuple[str, str | None]]:
    return [(one.sha256, one.given_up) for one in asyncio.run(desk.store().policies(10))]


def test_without_a_record_there_is_no_policy(tmp_path: Path) -> None:
    policy = Desk(tmp_path).policy()
    assert look_up(policy) == PolicyInForce()
    assert (policy.missing, policy.problem) == (None, None)
    asyncio.run(policy.record())


def test_the_policy_on_record_is_missing_where_there_is_no_file(desk: Desk) -> None:
    policy = desk.policy()
    assert policy.in_force == PolicyInForce(), "nothing is known before the state was asked"
    assert look_up(policy) == PolicyInForce(
        recorded_policy(SHA_ONE, "mmp-policy.yaml", ONE), unreadable=True, missing=True
    )
    assert policy.problem is not None
    asyncio.run(policy.record())
    assert on_record(desk) == [(SHA_ONE, None)]


def test_rules_that_this_version_cannot_read_refuse_as_well(desk: Desk) -> None:
    asyncio.run(desk.store().record_policy(SHA_TWO, "mmp-policy.yaml", "version: 1\nnewer: 1\n"))
    policy = desk.policy()
    assert look_up(policy) == PolicyInForce(None, unreadable=True, missing=True)
    assert policy.problem is not None
    assert "cannot be read by this version" in policy.problem.message


def test_a_file_that_appears_counts_and_is_recorded(desk: Desk) -> None:
    policy = desk.policy()
    look_up(policy)
    desk.write(TWO)
    look(policy)
    assert policy.missing is None
    assert not policy.in_force.unreadable
    asyncio.run(policy.record())
    asyncio.run(policy.record())
    assert len(on_record(desk)) == 2
    recorded = asyncio.run(desk.store().policy_on_record())
    assert recorded is not None
    assert recorded.document == TWO


def test_the_rules_on_record_count_beside_an_invalid_file_that_appears(desk: Desk) -> None:
    policy = desk.policy()
    remembered = look_up(policy).policy
    desk.write("version: 1\nbroken: 1\n")
    look(policy)
    assert policy.in_force == PolicyInForce(remembered, unreadable=True)
    assert policy.missing is None


def test_a_record_that_another_process_makes_or_ends_is_seen_while_it_is_missing(desk: Desk) -> None:
    policy = desk.policy()
    look_up(policy)
    asyncio.run(desk.store().record_policy(SHA_TWO, "mmp-policy.yaml", TWO))
    newer = look_up(policy).policy
    assert newer is not None
    assert newer.sha256 == SHA_TWO
    asyncio.run(desk.store().give_up_policy(SHA_TWO, "closed"))
    assert look_up(policy) == PolicyInForce()


def test_it_is_given_up_before_the_first_request(desk: Desk) -> None:
    policy = desk.policy(given_up=GivenUp(SHA_ONE[:12], "closed"))
    assert look_up(policy) == PolicyInForce()
    assert on_record(desk) == [(SHA_ONE, None)], "a plan alone records nothing"
    asyncio.run(policy.record())
    asyncio.run(policy.record())
    assert on_record(desk) == [(SHA_ONE, "closed"), (SHA_ONE, None)]
    assert look_up(policy) == PolicyInForce()


def test_giving_up_is_void_if_another_policy_was_recorded_meanwhile(desk: Desk) -> None:
    policy = desk.policy(given_up=GivenUp(SHA_ONE, "closed"))
    look_up(policy)
    asyncio.run(desk.store().record_policy(SHA_TWO, "mmp-policy.yaml", TWO))
    asyncio.run(policy.record())
    assert policy.in_force.missing
    assert on_record(desk) == [(SHA_TWO, None), (SHA_ONE, None)]
    assert policy.problem is not None
    assert "names another policy" in policy.problem.message
    with pytest.raises(ChangeRefused, match=SHA_TWO):
        refuse_other(policy.missing, GivenUp(SHA_ONE, "closed"))
