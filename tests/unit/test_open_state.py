"""Where the state is kept, and the engine that keeps it: chosen by the form of --state."""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from reconciler import factories, logs
from reconciler.cli.options import state_location
from reconciler.core.model import Environment, ExchangeKind
from reconciler.errors import (
    AccountProblem,
    Exit,
    MmpError,
    StateAccountMismatch,
    StateUnusable,
    UsageError,
)
from reconciler.ports import StateBackend
from reconciler.store import state_registry
from reconciler.store.location import PostgresUrl, StateFile, StateLocation
from reconciler.store.sqlite import mounts
from tests.contract.stores import ScriptedClock

URL = "postgresql://desk:hunter2@db.internal/mmp"


@pytest.mark.parametrize(
    ("state", "config", "place"),
    [
        (None, (), StateFile(Path(".mmp/state.db"))),
        (None, ("a/mmp.yaml", "b/mmp.yaml"), StateFile(Path("a/.mmp/state.db"))),
        ("here.db", ("a/mmp.yaml",), StateFile(Path("here.db"))),
        ("postgresql/state.db", (), StateFile(Path("postgresql/state.db"))),
        ("a=b/c:d.db", (), StateFile(Path("a=b/c:d.db"))),
        (URL, (), PostgresUrl(URL)),
        ("postgresql://", (), PostgresUrl("postgresql://")),
    ],
)
def test_the_form_of_the_state_says_who_keeps_it(
    state: str | None, config: tuple[str, ...], place: StateLocation
) -> None:
    assert state_location(state, config) == place


def test_a_folder_of_configs_has_its_state_inside(tmp_path: Path) -> None:
    assert state_location(None, (str(tmp_path),)) == StateFile(tmp_path / ".mmp" / "state.db")


def test_file_systems_that_are_allowed_go_with_the_file() -> None:
    allowed = frozenset({"fuse.mergerfs", "ntfs3"})
    for state in ("here.db", None):
        place = state_location(state, (), ("fuse.mergerfs", "ntfs3"))
        assert isinstance(place, StateFile)
        assert place.allow_filesystems == allowed
    assert state_location(URL, (), ("ntfs3",)) == PostgresUrl(URL)


@pytest.mark.parametrize("door", [lambda place: opened(place), lambda place: existing(place)])
def test_both_doors_allow_the_file_systems_that_were_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    door: Callable[[StateLocation], Coroutine[None, None, object]],
) -> None:
    path = tmp_path / "state.db"
    asyncio.run(opened(StateFile(path)))
    monkeypatch.setattr(mounts, "read_mountinfo", lambda: "30 22 0:30 / / rw - fuse.mergerfs pool rw")
    with pytest.raises(StateUnusable) as refused:
        asyncio.run(door(StateFile(path)))
    assert refused.value.code == "state-unknown-fs"
    asyncio.run(door(StateFile(path, frozenset({"fuse.mergerfs"}))))


@pytest.mark.parametrize(
    "state",
    [
        "mysql://u:hunter2@here",
        "postgres+x://u:hunter2@here",
        "://hunter2",
        "postgresql:",
        "postgresql:/u:hunter2@here/db",
        "postgresql:u:hunter2",
        "POSTGRESQL://u:hunter2@here/db",
        "postgres://u:hunter2@here/db",
        " postgresql://u:hunter2@here/db",
        "'postgresql://u:hunter2@here/db'",
        "jdbc:postgresql://here/db?user=u&password=hunter2",
        "postgresql//u:hunter2@here/db",
        "u:hunter2@here/db",
        "u:hun/ter2@here/db",
        "host=here password=hunter2",
        "password = hunter2",
    ],
)
def test_any_other_address_is_a_usage_error_that_repeats_no_password(state: str) -> None:
    with pytest.raises(UsageError) as refused:
        state_location(state, ())
    assert (refused.value.code, refused.value.exit_status) == ("unknown-state", Exit.USAGE)
    assert "hunter2" not in f"{refused.value.message}{refused.value.hint}"


async def opened(place: StateLocation) -> None:
    async with factories.open_state(place, ScriptedClock(), 1.0):
        pass


async def existing(place: StateLocation) -> bool:
    async with factories.open_state_readonly(place, ScriptedClock()) as state:
        return state is not None


@pytest.mark.parametrize("door", [opened, existing])
def test_postgresql_names_the_extra_it_takes_and_never_the_password(
    monkeypatch: pytest.MonkeyPatch, door: object
) -> None:
    for module in [name for name in sys.modules if name.startswith("reconciler.store.postgres")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.delattr("reconciler.store.postgres", raising=False)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MmpError) as refused:
        asyncio.run(door(PostgresUrl(URL)))  # type: ignore[operator]  # either of the two doors above
    assert (refused.value.code, refused.value.exit_status) == ("no-postgres", Exit.USAGE)
    assert "mmp-reconciler[postgres]" in refused.value.hint
    message = "".join(traceback.format_exception(refused.value)) + repr(PostgresUrl(URL))
    assert "hunter2" not in message


def test_another_module_that_is_missing_is_a_bug_and_not_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    factories.postgres()
    monkeypatch.delattr("reconciler.store.postgres.state")
    monkeypatch.setitem(sys.modules, "reconciler.store.postgres.state", None)
    with pytest.raises(ModuleNotFoundError):
        factories.postgres()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (URL, "postgresql://db.internal/mmp"),
        ("postgresql://db.internal:5432/mmp?password=hunter2", "postgresql://db.internal:5432/mmp"),
        (
            "postgresql://desk:hun%2Fter2@a:1,[::1]:2,c/mmp?sslmode=require&x=/y",
            "postgresql://a:1,[::1]:2,c/mmp",
        ),
        ("postgresql://", "postgresql://"),
        ("postgresql:///mmp?host=/tmp", "postgresql:///mmp"),
        ("postgresql://hün ter".replace(" ", ":") + "@db/mmp", "postgresql://db/mmp"),
    ],
)
def test_what_is_shown_of_an_address_holds_no_password(text: str, shown: str) -> None:
    assert str(PostgresUrl(text)) == shown


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://desk:hun/ter2@db.internal/mmp",
        "postgresql://desk:hun/hunter2@db.internal/mmp",
        "postgresql:///mmp?user=desk&password=hun@ter2",
        "postgresql://desk:hun?ter2@db.internal/mmp",
        "postgresql://desk:1234?hun=ter2@db.internal/mmp",
        "postgresql://desk:h@nter2@db.internal/mmp",
        "postgresql://desk:hunter2",
        "postgresql://desk:hunter2/mmp",
        "postgresql://db/mmp/hunter2",
        "postgresql://db/mmp?a=b?hunter2",
        "postgresql://[::1/hunter2",
        "postgresql://desk:hun ter2@db/mmp",
        "postgresql://desk:hun\nter2@db/mmp",
    ],
)
def test_an_address_with_an_ambiguous_password_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        state_location(text, ())
    assert (refused.value.code, refused.value.exit_status) == ("bad-postgres-address", Exit.USAGE)
    shown = "".join(traceback.format_exception(refused.value)) + refused.value.hint
    assert "ter2" not in shown
    assert "%2F for /" in refused.value.hint


def test_a_file_comes_into_being_by_writing_only(tmp_path: Path) -> None:
    path = StateFile(tmp_path / "state.db")
    assert not asyncio.run(existing(path))
    asyncio.run(opened(path))
    assert asyncio.run(existing(path))


def test_two_states_for_one_user_id_of_okx_are_not_used_on_one_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_registry, "ROOTS_FOLDER", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    said: list[str] = []
    monkeypatch.setattr(logs, "log", lambda _, text: said.append(text))

    async def identified(
        state: StateBackend, account: str = "main", kind: ExchangeKind = ExchangeKind.OKX
    ) -> None:
        await state.account(account, Environment.LIVE, kind).identify("7", "openapi.okx.com")

    async def scenario() -> None:
        first, second = (
            factories.open_state(StateFile(tmp_path / name), ScriptedClock(), 0.0) for name in "ab"
        )
        async with second as other:
            async with first as state:
                await identified(state)
                await identified(other, "simulated", ExchangeKind.SIMULATOR)
                with pytest.raises(AccountProblem, match=f"{tmp_path}/a is in use for User ID 7"):
                    await identified(other)
                with pytest.raises(StateAccountMismatch):
                    await identified(other, "simulated")
            assert said == []
            await identified(other)

    asyncio.run(scenario())
    assert [f"{tmp_path}/b replaces it" in text for text in said] == [True]
    assert (tmp_path / "mmp" / "okx.live.7").is_file()


def test_a_door_closes_the_state_whatever_happens(tmp_path: Path) -> None:
    path = StateFile(tmp_path / "state.db")
    asyncio.run(opened(path))
    through: list[StateBackend] = []

    async def fail(door: AbstractAsyncContextManager[StateBackend | None]) -> None:
        async with door as state:
            assert state is not None
            through.append(state)
            raise ZeroDivisionError

    for door in (
        factories.open_state(path, ScriptedClock(), 0.0),
        factories.open_state_readonly(path, ScriptedClock()),
    ):
        with pytest.raises(ZeroDivisionError):
            asyncio.run(fail(door))
    for state in through:
        with pytest.raises(StateUnusable):
            asyncio.run(state.account("main", Environment.LIVE, ExchangeKind.OKX).snapshot())
        asyncio.run(state.close())
