"""The registry of a machine: real folders, real locks, real processes, two states for one User ID."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from reconciler.core.model import Environment, ExchangeKind, RateBudget
from reconciler.core.reservation import Reservation, ReserveOptions
from reconciler.core.state_registry_rules import IN_USE_S, RegisteredState
from reconciler.errors import AccountProblem, StateUnusable
from reconciler.store import state_registry as registries
from reconciler.store.account_store import SqlAccountStore
from reconciler.store.engine import StateOptions
from reconciler.store.sqlite.state import SqliteState, open_state
from reconciler.store.state_registry import StateRegistry, runtime_folder
from tests.contract.stores import HOST, UID, ScriptedClock, signed

BUDGET = RateBudget(ExchangeKind.OKX, Environment.LIVE, UID)
ENTRY = f"okx.live.{UID}"


@dataclass
class Machine:
    """One machine with one user; its processes share the folder of the registry and the clock."""

    folder: Path
    clock: ScriptedClock = field(default_factory=ScriptedClock)
    notices: list[str] = field(default_factory=list)
    states: list[SqliteState] = field(default_factory=list)

    def registry(self) -> StateRegistry:
        """Return the registry as a process sees it that was not there before."""
        return StateRegistry(str(self.folder), self.clock, "boot-1", self.notices.append)

    def state(self, name: str) -> SqliteState:
        """Return a state file as a process opens it."""
        path = str(self.folder.parent / name / "state.db")
        state = open_state(
            path, StateOptions(self.clock, "boot-1", lock_timeout_s=0.0, registry=self.registry())
        )
        self.states.append(state)
        return state

    def account(
        self, name: str, *, kind: ExchangeKind = ExchangeKind.OKX, account: str = "main"
    ) -> SqlAccountStore:
        return self.state(name).account(account, Environment.LIVE, kind)

    @property
    def entry(self) -> dict[str, object]:
        found: dict[str, object] = json.loads((self.folder / ENTRY).read_text())
        return found


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "run")


def identify(store: SqlAccountStore, uid: str = UID) -> None:
    asyncio.run(store.identify(uid, HOST))


def reserve(store: SqlAccountStore) -> None:
    assert isinstance(asyncio.run(store.reserve(signed(), ReserveOptions(assume_idle=True))), Reservation)


async def unknown(_boot: str, _at: float) -> bool:
    """Tell of a state that has no request on record."""
    return False


def refused(work: Callable[[], object], code: str = "state-second") -> AccountProblem:
    with pytest.raises(AccountProblem) as problem:
        work()
    assert (problem.value.code, problem.value.exit_status) == (code, 8)
    return problem.value


def stop(machine: Machine) -> None:
    """End the processes that have a state open."""
    for state in machine.states:
        state.close_now()


# ---- two states ---------------------------------------------------------------------------------


def test_a_second_state_is_refused_while_the_first_is_in_use_and_names_it(machine: Machine) -> None:
    first = machine.account("first")
    identify(first)
    second = machine.account("second")
    problem = refused(lambda: identify(second))
    assert f"{machine.folder.parent}/first/state.db is in use for User ID {UID} (live)" in problem.message
    assert problem.hint.startswith(f"end the process that uses {machine.folder.parent}/first/state.db ")
    assert f"or use --state {machine.folder.parent}/first/state.db" in problem.hint
    assert asyncio.run(second.snapshot()).uid is None, "nothing was written to it"
    identify(machine.account("first", account="another.name"))
    identify(machine.account("third"), uid="7")
    identify(machine.account("fourth", kind=ExchangeKind.SIMULATOR))
    assert machine.notices == []


def test_a_state_that_is_not_in_use_is_replaced_with_a_notice(machine: Machine) -> None:
    first = machine.account("first")
    identify(first)
    reserve(first)
    asyncio.run(first.release_control())
    second = machine.account("second")
    machine.clock.time += IN_USE_S - 4.5
    problem = refused(lambda: identify(second), "state-behind")
    assert f"was reserved in {machine.folder.parent}/first/state.db, is not on record" in problem.message
    assert "wait 5 s" in problem.hint
    assert problem.wait_s == pytest.approx(4.5)
    assert machine.notices == []
    machine.clock.time += 4.499
    refused(lambda: identify(second), "state-behind")
    machine.clock.time += 0.002
    identify(second)
    [notice] = machine.notices
    assert "first/state.db was used on this machine" in notice
    assert "second/state.db replaces it" in notice
    refused(lambda: reserve(first))
    assert machine.entry["place"] == f"{machine.folder.parent}/second/state.db"
    assert len(list(machine.folder.iterdir())) == 2, "the entry, and the lock of the state in use"


def test_a_state_is_in_use_until_every_account_of_its_process_has_released_it(machine: Machine) -> None:
    state = machine.state("first")
    accounts = [state.account(name, Environment.LIVE, ExchangeKind.OKX) for name in ("main", "other")]
    for one in accounts:
        identify(one)
    asyncio.run(accounts[0].release_control())
    refused(lambda: identify(machine.account("second")))
    for _ in range(2):
        asyncio.run(accounts[1].release_control())
    identify(machine.account("second"))


def test_another_process_of_the_same_state_keeps_it_in_use(machine: Machine) -> None:
    stores = [machine.account("first") for _ in range(2)]
    for store in stores:
        identify(store)
    asyncio.run(stores[0].release_control())
    refused(lambda: identify(machine.account("second")))


def test_a_reservation_in_the_registered_state_is_recorded_and_survives_a_look(machine: Machine) -> None:
    first = machine.account("first")
    identify(first)
    before = machine.entry
    reserve(first)
    after = machine.entry
    identify(machine.account("first"))
    assert (before["reserved_at"], after["reserved_at"]) == (None, machine.clock.time)
    assert machine.entry == after


def test_a_moved_state_is_itself_and_a_copy_is_another(machine: Machine) -> None:
    first = machine.account("first")
    identify(first)
    reserve(first)
    for state in machine.states:
        state.close_now()
    asyncio.run(first.release_control())
    home = machine.folder.parent
    (home / "first").rename(home / "moved")
    moved = machine.account("moved")
    identify(moved)
    assert machine.notices == []
    assert machine.entry["place"] == f"{home}/moved/state.db"
    assert machine.entry["reserved_at"] == machine.clock.time
    (home / "copy").mkdir(mode=0o700)
    content = (home / "moved" / "state.db").read_bytes()
    (home / "copy" / "state.db").write_bytes(content)
    (home / "copy" / "state.db").chmod(0o600)
    refused(lambda: identify(machine.account("copy")))


@pytest.mark.parametrize("how", ["restored", "moved without its write-ahead log", "moved away"])
def test_a_state_without_the_newest_request_waits_until_that_does_not_count_any_more(
    machine: Machine, how: str
) -> None:
    home, first = machine.folder.parent, machine.account("first")
    identify(first)
    reserve(first)
    machine.states[-1]._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    backup = (home / "first" / "state.db").read_bytes()
    machine.clock.time += IN_USE_S
    reserve(first)
    if how == "restored":
        stop(machine)
        (home / "first" / "state.db").unlink()
        (home / "first" / "state.db").write_bytes(backup)
        (home / "first" / "state.db").chmod(0o600)
        name = "first"
    elif how == "moved away":
        stop(machine)
        (home / "first").rename(home / "aside")
        name = "second"
    else:
        (home / "killed").mkdir(mode=0o700)
        (home / "killed" / "state.db").write_bytes((home / "first" / "state.db").read_bytes())
        (home / "killed" / "state.db").chmod(0o600)
        stop(machine)
        (home / "first" / "state.db").unlink()
        name = "killed"
    used = machine.account(name)
    problem = refused(lambda: identify(used), "state-behind")
    assert problem.wait_s == pytest.approx(IN_USE_S)
    machine.clock.time += IN_USE_S
    identify(used)
    reserve(used)
    reserve(used)


def test_a_copy_with_the_newest_request_takes_the_place_at_once_and_the_original_has_to_wait_then(
    machine: Machine,
) -> None:
    home, first = machine.folder.parent, machine.account("first")
    identify(first)
    reserve(first)
    stop(machine)
    (home / "copy").mkdir(mode=0o700)
    (home / "copy" / "state.db").write_bytes((home / "first" / "state.db").read_bytes())
    (home / "copy" / "state.db").chmod(0o600)
    copy = machine.account("copy")
    machine.clock.time += 1
    identify(copy)
    reserve(copy)
    stop(machine)
    refused(lambda: identify(machine.account("first")), "state-behind")


def test_another_name_of_the_same_file_is_the_same_state(machine: Machine, tmp_path: Path) -> None:
    async def claim(registry: StateRegistry, path: Path) -> None:
        await registry.claim(
            BUDGET, "main", RegisteredState("a" * 32, str(path), True, registry.boot), unknown
        )

    (tmp_path / "state.db").touch()
    (tmp_path / "link.db").hardlink_to(tmp_path / "state.db")
    first, second, third = (machine.registry() for _ in range(3))
    asyncio.run(claim(first, tmp_path / "state.db"))
    asyncio.run(claim(second, tmp_path / "link.db"))
    (tmp_path / "other.db").touch()
    first.release(BUDGET, "main")
    refused(lambda: asyncio.run(claim(third, tmp_path / "other.db")))
    second.close()
    (tmp_path / "link.db").unlink()
    asyncio.run(claim(third, tmp_path / "state.db"))
    assert machine.notices == [], "the other name is gone, and the state is not"
    third.close()
    asyncio.run(claim(first, tmp_path / "other.db"))
    assert len(machine.notices) == 1


def test_a_database_is_known_by_its_id_whatever_its_address(machine: Machine) -> None:
    async def claim(state_id: str, place: str, *, is_file: bool = False) -> StateRegistry:
        registry = machine.registry()
        await registry.claim(
            BUDGET, "main", RegisteredState(state_id, place, is_file, registry.boot), unknown
        )
        return registry

    first = asyncio.run(claim("a" * 32, "postgresql://db/mmp"))
    second = asyncio.run(claim("a" * 32, "postgresql://10.0.0.1/mmp"))
    refused(lambda: asyncio.run(claim("b" * 32, "postgresql://db/other")))
    refused(lambda: asyncio.run(claim("a" * 32, "postgresql://db/mmp", is_file=True)))
    first.release(BUDGET, "main")
    second.release(BUDGET, "main")
    asyncio.run(claim("b" * 32, "postgresql://db/other"))
    assert "postgresql://10.0.0.1/mmp was used" in machine.notices[0]


@pytest.mark.parametrize("kind", ExchangeKind)
def test_the_copy_of_a_state_takes_the_place_of_the_one_that_is_registered(
    machine: Machine, kind: ExchangeKind
) -> None:
    store = machine.account("first", kind=kind)
    identify(store)
    budget, registry = RateBudget(kind, Environment.LIVE, UID), machine.registry()
    asyncio.run(registry.hand_over(budget, "c" * 32, "b" * 32, "postgresql://db/mmp"))
    if kind is ExchangeKind.SIMULATOR:
        assert not machine.folder.exists()
        return
    assert machine.entry["place"] == f"{machine.folder.parent}/first/state.db", "another one is registered"
    before = str(machine.entry["id"])
    asyncio.run(registry.hand_over(budget, before, "b" * 32, "postgresql://db/mmp"))
    asyncio.run(
        registry.claim(
            budget, "main", RegisteredState("b" * 32, "postgresql://db/mmp", False, registry.boot), unknown
        )
    )
    refused(lambda: identify(store))


def test_a_reservation_says_nothing_about_the_state_that_took_its_place(machine: Machine) -> None:
    registry = machine.registry()
    asyncio.run(registry.reserved(BUDGET, "a" * 32, 1.0))
    asyncio.run(
        registry.claim(
            BUDGET, "main", RegisteredState("b" * 32, "postgresql://db/mmp", False, registry.boot), unknown
        )
    )
    asyncio.run(registry.reserved(BUDGET, "a" * 32, 1.0))
    assert machine.entry["reserved_at"] is None
    asyncio.run(registry.reserved(RateBudget(ExchangeKind.SIMULATOR, Environment.LIVE, UID), "b" * 32, 1.0))


@pytest.mark.parametrize(
    "damage", ["DELETE FROM state", "INSERT INTO state SELECT checksum, 'b', '', '', '', '' FROM state"]
)
def test_a_state_that_does_not_say_which_one_it_is_is_damaged(machine: Machine, damage: str) -> None:
    store = machine.account("first")
    machine.states[-1]._db.execute(damage)
    with pytest.raises(StateUnusable) as refused:
        identify(store)
    assert refused.value.code == "state-damaged"


# ---- what cannot be trusted never stops protection ----------------------------------------------


def damaged(text: bytes) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        folder.mkdir(mode=0o700)
        (folder / ENTRY).write_bytes(text)
        (folder / ENTRY).chmod(0o600)

    return damage


DAMAGE = {
    "no json": damaged(b"{"),
    "too deep": damaged(b"[" * 8000),
    "a list": damaged(b"[]"),
    "a name missing": damaged(b'{"id": "a", "place": "/x", "is_file": true, "reserved_at": null}'),
    "a number": damaged(b'{"id": 1, "place": "/x", "boot": "b", "is_file": true, "reserved_at": null}'),
    "a time": damaged(b'{"id": "a", "place": "/x", "boot": "b", "is_file": true, "reserved_at": "x"}'),
    "no text": damaged(b"\xff\xfe"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_entry_is_reported_and_made_again(machine: Machine, name: str) -> None:
    DAMAGE[name](machine.folder)
    first = machine.account("first")
    identify(first)
    reserve(first)
    [notice] = machine.notices
    assert "is damaged: mmp creates it again" in notice
    refused(lambda: identify(machine.account("second")))


def a_file(folder: Path) -> None:
    folder.touch(mode=0o600)


def a_link(folder: Path) -> None:
    (folder.parent / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to(folder.parent / "elsewhere")


def open_to_others(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o777)


def of_another_user(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    os.chown(folder, 12345, 12345)


def with_a_pipe(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    os.mkfifo(folder / ENTRY, 0o600)


def with_a_link(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    (folder / ENTRY).symlink_to(folder.parent / "elsewhere")


def in_no_folder(folder: Path) -> None:
    folder.parent.rmdir()


UNTRUSTED: dict[str, Callable[[Path], None]] = {
    "a file": a_file,
    "a link": a_link,
    "open to others": open_to_others,
    "with a pipe": with_a_pipe,
    "with a link": with_a_link,
    "in no folder": in_no_folder,
}
if os.geteuid() == 0:
    UNTRUSTED["of another user"] = of_another_user


@pytest.mark.parametrize("name", UNTRUSTED)
def test_a_registry_that_cannot_be_used_is_reported_once_and_stops_nothing(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "runtime").mkdir()
    machine = Machine(tmp_path / "runtime" / "mmp")
    UNTRUSTED[name](machine.folder)
    registry = machine.registry()
    for _ in range(2):
        asyncio.run(
            registry.claim(BUDGET, "main", RegisteredState("a" * 32, "/x", True, registry.boot), unknown)
        )
        asyncio.run(registry.reserved(BUDGET, "a" * 32, 1.0))
        asyncio.run(registry.hand_over(BUDGET, "a" * 32, "b" * 32, "postgresql://db/mmp"))
        registry.release(BUDGET, "main")
    [notice] = machine.notices
    assert notice.startswith(f"the registry of states in {machine.folder} cannot be used (")
    assert "would not be noticed" in notice
    assert not (tmp_path / "runtime" / "elsewhere" / ENTRY).exists()


def test_an_entry_that_a_stopped_process_has_locked_is_not_waited_for_without_end(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registries, "REGISTRY_LOCK_TRY_S", 0.0)
    identify(machine.account("first"))
    with (machine.folder / ENTRY).open() as stopped:
        fcntl.flock(stopped, fcntl.LOCK_EX)
        identify(machine.account("second"))
    assert "is locked by another process" in machine.notices[0]


def test_a_registry_that_was_removed_meanwhile_is_made_again(machine: Machine) -> None:
    """The runtime directory of a user is removed when the last session ends."""
    first = machine.account("first")
    identify(first)
    for one in machine.folder.iterdir():
        one.unlink()
    machine.folder.rmdir()
    reserve(first)
    refused(lambda: identify(machine.account("second")))
    assert stat.S_IMODE(machine.folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(one.stat().st_mode) for one in machine.folder.iterdir()} == {0o600}


# ---- where it is ---------------------------------------------------------------------------------


def test_the_folder_is_in_the_runtime_directory_of_the_user(tmp_path: Path) -> None:
    named = {"XDG_RUNTIME_DIR": str(tmp_path)}
    assert runtime_folder(0, named) == "/run/mmp", "one for all sessions of root"
    assert runtime_folder(4711, named) == f"{tmp_path}/mmp"
    for nothing in ({}, {"XDG_RUNTIME_DIR": "relative"}, {"XDG_RUNTIME_DIR": "/no/such/folder"}):
        assert runtime_folder(4711, nothing) == "/dev/shm/mmp-4711"


# ---- real processes ------------------------------------------------------------------------------

CLAIM = """
import asyncio, sys
from reconciler.clock import SystemClock
from reconciler.core.model import Environment, ExchangeKind, RateBudget
from reconciler.core.state_registry_rules import RegisteredState
from reconciler.errors import AccountProblem
from reconciler.store.state_registry import StateRegistry

folder, state, place = sys.argv[1:]
async def unknown(_boot, _at):
    return False


registry = StateRegistry(folder, SystemClock(), "boot-1", lambda text: print(text, file=sys.stderr))
sys.stdin.readline()
try:
    asyncio.run(
        registry.claim(
            RateBudget(ExchangeKind.OKX, Environment.LIVE, "1"),
            "main",
            RegisteredState(state, place, True, registry.boot),
            unknown,
        )
    )
except AccountProblem as problem:
    print(problem.code, flush=True)
else:
    print("registered", flush=True)
sys.stdin.readline()
"""


@pytest.mark.slow
def test_of_many_processes_with_states_of_their_own_exactly_one_registers(tmp_path: Path) -> None:
    places = [tmp_path / f"{number}.db" for number in range(6)]
    for place in places:
        place.touch()
    started = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIM, str(tmp_path / "mmp"), f"{number:032}", str(place)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number, place in enumerate(places)
    ]
    sentence = []
    try:
        for process in started:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in started:
            assert process.stdout is not None
            sentence.append(process.stdout.readline().strip())
    finally:
        errors = [process.communicate("end\n", timeout=30)[1] for process in started]
    assert sorted(sentence) == ["registered", *["state-second"] * 5]
    assert "".join(errors) == ""
