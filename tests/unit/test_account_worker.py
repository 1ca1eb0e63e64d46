"""One account of a run: a failure of its own is reported once, backs off and ends nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.clock import SystemClock
from reconciler.config.policy import read_policy
from reconciler.controller.account_policy import AccountPolicy
from reconciler.controller.account_worker import AccountWorker
from reconciler.controller.loop import STOPPED_RETRY_S
from reconciler.controller.run_context import RunContext, RunOptions
from reconciler.controller.shutdown import GracefulShutdown
from reconciler.core.drift_resolution import DriftPolicy
from reconciler.core.events import Event, LoopFailed, LoopIdle, PolicyAccepted, PolicyRejected
from reconciler.core.policy import PolicyInForce
from reconciler.core.problems import Code
from reconciler.core.retry import MAX_BACK_OFF_S
from reconciler.errors import AccountProblem, MmpError, StateUnusable
from reconciler.okx.wire import parse_base_url
from reconciler.store.engine import StateOptions
from reconciler.store.location import PostgresUrl, StateFile
from reconciler.watch.key_files import KeyFiles
from reconciler.watch.last_valid_content import WatchedFile, WatchedPolicy
from reconciler.watch.write_completion import ReadConfidence
from tests.support.memory_state import MemoryDisk
from tests.unit.builders import BTC, desired, setting

OPTIONS = RunOptions(
    config=(),
    policy_file=None,
    state=StateFile(Path("state.db")),
    base=parse_base_url("http://127.0.0.1:1", frozenset()),
    lock_timeout_s=0.0,
    interval_s=30.0,
    drift=DriftPolicy.HEAL,
    assume_idle=True,
    live=True,
)
NO_KEY = AccountProblem("credentials-missing", "OKX_API_KEY is not set", "set it")


class VirtualClock(SystemClock):
    """A clock whose pauses take no time."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 0.0
        self.pauses: list[float] = []

    def now(self) -> float:
        return self.time

    def suspended_s(self) -> float:
        return 0.0

    async def sleep_until(self, until: float) -> None:
        self.pauses.append(until - self.time)
        self.time = until


class Account:
    """A worker whose loop does what the test says, run after run, until the script is over."""

    def __init__(self, lives: list[Callable[[], None]]) -> None:
        self.events: list[Event] = []
        self.lives = lives
        self.stop = GracefulShutdown()
        self.clock = VirtualClock()
        self.loops = 0
        self.policy = WatchedPolicy(None, "mmp.yaml", None)
        state = MemoryDisk().open(StateOptions(self.clock, "boot-1", lock_timeout_s=30.0))
        file = WatchedFile("mmp.yaml", desired({BTC: setting("5000/2000/100")}))
        context = RunContext(OPTIONS, state, self.stop)
        self.worker = AccountWorker(file, self.policy, context, self.events.append)
        self.worker.clock = self.clock

    def live(self) -> None:
        self.loops += 1
        self.lives.pop(0)()


def failing(error: Exception) -> Callable[[], None]:
    def life() -> None:
        raise error

    return life


def run(monkeypatch: pytest.MonkeyPatch, account: Account) -> Account:
    """Run the worker until the script is over."""

    class Loop:
        async def run(self) -> None:
            account.live()

    monkeypatch.setattr(account.worker, "_loop", Loop)
    monkeypatch.setattr(account.stop, "requested", lambda: not account.lives)
    asyncio.run(account.worker.run())
    return account


def run_lives(monkeypatch: pytest.MonkeyPatch, *lives: Callable[[], None]) -> Account:
    return run(monkeypatch, Account(list(lives)))


def test_a_failure_is_reported_once_and_waited_out_longer_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    account = run_lives(monkeypatch, *[failing(NO_KEY)] * 7)
    assert [(event.code, event.hint) for event in account.events if isinstance(event, LoopFailed)] == [
        ("credentials-missing", "set it")
    ]
    assert account.clock.pauses == [1, 2, 4, 8, 16, MAX_BACK_OFF_S, MAX_BACK_OFF_S]


def test_another_failure_is_reported_too(monkeypatch: pytest.MonkeyPatch) -> None:
    account = run_lives(monkeypatch, failing(NO_KEY), failing(MmpError("other", "something else")))
    assert [event.code for event in account.events if isinstance(event, LoopFailed)] == [
        "credentials-missing",
        "other",
    ]


def test_after_a_long_loop_the_same_failure_is_reported_again(monkeypatch: pytest.MonkeyPatch) -> None:
    account = Account([])

    def long() -> None:
        account.clock.time += 1000.0
        raise NO_KEY

    account.lives = [long, long]
    run(monkeypatch, account)
    failures = [event for event in account.events if isinstance(event, LoopFailed)]
    assert (len(failures), account.clock.pauses) == (2, [1.0, 1.0])
    rests = [event for event in account.events if isinstance(event, LoopIdle)]
    assert len(rests) == 2, "each wait says until when silence is no sign of death"


def test_in_another_lease_the_same_failure_is_reported_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks forgot the account in between: it begins anew, without what was wrong before."""
    account = Account([])
    text = []
    for _ in range(3):
        account.lives = [failing(NO_KEY)] * 3
        run(monkeypatch, account)
        text.append(sum(isinstance(event, LoopFailed) for event in account.events))
    assert text == [1, 2, 3]


def test_a_bug_is_reported_once_as_one_and_waited_out(monkeypatch: pytest.MonkeyPatch) -> None:
    account = run_lives(monkeypatch, *[failing(RuntimeError("can't start new thread"))] * 3)
    (failed,) = [event for event in account.events if isinstance(event, LoopFailed)]
    assert (failed.code, failed.message) == ("internal-error", "this is a bug in mmp: RuntimeError")
    assert "MMP_TRACEBACK=1" in failed.hint
    assert (account.loops, account.clock.pauses) == (3, [1.0, 2.0, 4.0])


DAMAGED = StateUnusable("state-damaged", "applied row BTC-USD does not match its checksum", "look into it")


def test_a_state_file_that_cannot_be_relied_on_ends_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StateUnusable):
        run_lives(monkeypatch, failing(DAMAGED), failing(NO_KEY))


def test_damage_in_a_shared_state_stops_only_its_account(monkeypatch: pytest.MonkeyPatch) -> None:
    account = Account([failing(DAMAGED)] * 3)
    account.worker.options = replace(OPTIONS, state=PostgresUrl("postgresql://db/mmp"))
    run(monkeypatch, account)
    assert [event for event in account.events if isinstance(event, LoopFailed)] == [
        LoopFailed(DAMAGED.code, DAMAGED.message, DAMAGED.hint, STOPPED_RETRY_S)
    ]
    assert account.clock.pauses == [STOPPED_RETRY_S] * 3


def test_the_loop_runs_under_an_unreadable_policy_that_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    for part in ("API_KEY", "SECRET_KEY", "PASSPHRASE"):
        monkeypatch.setenv(f"OKX_{part}", part)
    account = Account([])
    asked = account.worker._loop().options.policy
    assert asked() == PolicyInForce(None, unreadable=False)
    broken = read_policy(b"version: 9\n", "mmp-policy.yaml")
    account.policy.decide(broken, ReadConfidence.COMPLETE, 0.0)
    assert asked() == PolicyInForce(None, unreadable=True)


def test_a_key_is_reported_when_it_changes_whatever_it_becomes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in ("API_KEY", "SECRET_KEY", "PASSPHRASE"):
        (tmp_path / part).write_text(part)
        (tmp_path / part).chmod(0o600)
        monkeypatch.setenv(f"DESK_{part}_FILE", str(tmp_path / part))
    key = KeyFiles("DESK_")

    def looked() -> bool | None:
        return key.decide(key.read(), ReadConfidence.COMPLETE, 0.0)

    assert looked() is None
    (tmp_path / "PASSPHRASE").write_text("another")
    assert [looked(), looked()] == [True, None]
    (tmp_path / "PASSPHRASE").unlink()
    assert [looked(), looked()] == [True, None]
    assert key.watch_path().directories == {str(tmp_path)}


def test_a_key_in_variables_has_no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    for part in ("API_KEY", "SECRET_KEY", "PASSPHRASE"):
        monkeypatch.setenv(f"DESK_{part}", part)
    assert KeyFiles("DESK_").watch_path().directories == frozenset()


# ---- a policy that only the state has ------------------------------------------------------------

POLICY = "version: 1\nprotected: [BTC-USD]\n"


def under_a_policy(folder: Path, document: str = POLICY) -> Account:
    """Return an account whose state has a policy on record, in a folder without a policy file."""
    account = Account([])
    worker = account.worker
    account.policy = worker.policy = WatchedPolicy(None, str(folder / "mmp.yaml"), None)
    worker.rules = AccountPolicy(account.policy, worker.store)
    asyncio.run(worker.store.identify("1", "host"))
    asyncio.run(worker.store.record_policy("1" * 64, "mmp-policy.yaml", document))
    return account


def look_up(account: Account, *, writing: bool = True) -> list[Event]:
    """Let the loop prepare a pass; returns what is new."""
    before = len(account.events)
    asyncio.run(account.worker._look_up_policy(writing))
    return account.events[before:]


def test_a_missing_policy_is_reported_once_and_again_when_it_is_given_up(tmp_path: Path) -> None:
    account = under_a_policy(tmp_path)
    (rejected,) = look_up(account)
    assert isinstance(rejected, PolicyRejected)
    assert (rejected.path, rejected.in_force) == ("mmp-policy.yaml", True)
    assert [problem.code for problem in rejected.problems] == [Code.POLICY_MISSING]
    assert look_up(account) == []
    asyncio.run(account.worker.store.give_up_policy("1" * 64, "closed"))
    assert look_up(account) == [PolicyAccepted("mmp-policy.yaml", None)]
    assert look_up(account) == []


def test_a_missing_policy_without_readable_rules_counts_as_never_valid(tmp_path: Path) -> None:
    (rejected,) = look_up(under_a_policy(tmp_path, "version: 1\nnewer: 1\n"))
    assert isinstance(rejected, PolicyRejected)
    assert not rejected.in_force


def test_rules_on_record_count_beside_a_file_that_is_invalid(tmp_path: Path) -> None:
    account = under_a_policy(tmp_path)
    look_up(account)
    (tmp_path / "mmp-policy.yaml").write_text("version: 1\nbroken: 1\n", encoding="utf-8")
    account.policy.decide(account.policy.read(), ReadConfidence.COMPLETE, 0.0)
    (rejected,) = look_up(account)
    assert isinstance(rejected, PolicyRejected)
    assert (rejected.path, rejected.in_force) == (str(tmp_path / "mmp-policy.yaml"), True)
    assert look_up(account) == []


def test_the_watcher_reports_a_file_that_is_back(tmp_path: Path) -> None:
    account = under_a_policy(tmp_path)
    look_up(account)
    (tmp_path / "mmp-policy.yaml").write_text(POLICY, encoding="utf-8")
    account.policy.decide(account.policy.read(), ReadConfidence.COMPLETE, 0.0)
    assert look_up(account, writing=False) == []
    assert len(asyncio.run(account.worker.store.policies(9))) == 1, "a standby records nothing"
    assert look_up(account) == []
    assert len(asyncio.run(account.worker.store.policies(9))) == 2


def test_a_policy_that_changes_is_recorded_right_before_a_request(tmp_path: Path) -> None:
    account = under_a_policy(tmp_path)
    look_up(account)
    (tmp_path / "mmp-policy.yaml").write_text(POLICY, encoding="utf-8")

    async def look() -> bool:
        account.policy.decide(account.policy.read(), ReadConfidence.COMPLETE, 0.0)
        return True

    account.worker.read_before_sending = look
    assert asyncio.run(account.worker._files_settled())
    assert len(asyncio.run(account.worker.store.policies(9))) == 2
