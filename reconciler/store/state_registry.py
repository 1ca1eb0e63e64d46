"""The registry of this machine: which state was used last for each User ID of the exchange.

It is a folder of small files in the runtime directory of the user, which exists until the next boot. The
entry of a User ID is one file: its reader or writer has locked it. Beside it each state has a file
that is locked by every process that may write with that state. ``core.state_registry_rules`` decides.

A folder or file that belongs to another user, or that others may write to, is not trusted. Whatever is
wrong with the registry is reported, and the work continues without it: protection must not depend on it.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import math
import os
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any
from urllib.parse import quote

from reconciler.core.model import ExchangeKind, RateBudget
from reconciler.core.state_registry_rules import (
    RegisteredState,
    Registration,
    Sighting,
    counts_for_s,
    register,
)
from reconciler.errors import AccountProblem
from reconciler.ports import Clock

ROOTS_FOLDER = "/run"
REGISTRY_FOLDER = "mmp"

SHARED_MEMORY = "/dev/shm"  # noqa: S108 - what is in it has to be this user's alone
"""Used if there is no runtime directory, as for a service without a login: it exists until the next boot
and is the same in every session of the user."""

MAX_ENTRY_BYTES = 8192
"""More than an entry takes with the longest path there can be; bounds what is read of a damaged file."""

LOCK_TRIES = 50
REGISTRY_LOCK_TRY_S = 0.02
"""An entry is locked for microseconds; a process that needs a second is stopped, and is not waited for."""

_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH

Notice = Callable[[str], None]
"""Reports something to people."""

IsOnRecord = Callable[[str, float], Awaitable[bool]]
"""Tells whether the request that was reserved in this boot, at this instant, is on record in a state."""


def runtime_folder(user: int, environment: Mapping[str, str]) -> str:
    """Return the folder of the registry of a user, whether or not it exists.

    Root has one for all sessions. Others: in the runtime directory; in shared memory without one.
    """
    if user == 0:
        return f"{ROOTS_FOLDER}/{REGISTRY_FOLDER}"
    named = environment.get("XDG_RUNTIME_DIR", "")
    for folder in (named if os.path.isabs(named) else "", f"{ROOTS_FOLDER}/user/{user}"):
        if folder and os.path.isdir(folder):
            return f"{folder}/{REGISTRY_FOLDER}"
    return f"{SHARED_MEMORY}/{REGISTRY_FOLDER}-{user}"


@dataclass(slots=True)
class StateRegistry:
    """The registry as one process sees it. ``boot`` names the monotonic clock that ``clock`` shows."""

    folder: str
    clock: Clock
    boot: str
    notice: Notice
    _held: dict[RateBudget, int] = field(default_factory=dict)
    _users: set[tuple[RateBudget, str]] = field(default_factory=set)
    _found: dict[tuple[RateBudget, str], float] = field(default_factory=dict)
    _reported: set[str] = field(default_factory=set)

    async def claim(
        self, budget: RateBudget, user: str, ours: RegisteredState, is_on_record: IsOnRecord
    ) -> None:
        """Register a state for a User ID before it is used for writing, or refuse that.

        From then on it is in use until :meth:`release` of every ``user`` in this process, or its end.
        Raises AccountProblem while another state is in use for this User ID, and while the newest request
        may count and is not on record in this state.
        """
        if budget.kind is not ExchangeKind.OKX:
            return
        with self._carrying_on():
            while (behind := await self._claimed(budget, user, ours)) is not None:
                # The state may be remote: the entry is not locked during the query.
                at = behind.reserved_at
                if at is None or not await is_on_record(behind.boot, at):
                    raise _behind(budget, behind, ours, counts_for_s(behind, self.boot, self.clock.now()))
                self._found[budget, ours.id] = at

    async def _claimed(
        self, budget: RateBudget, user: str, ours: RegisteredState
    ) -> RegisteredState | None:
        """Register a state; returns the entry instead if its newest request may be unknown to the state."""
        async with self._entry(budget) as entry:
            behind = self._claim(entry, ours)
            if behind is None:
                self._users.add((budget, user))
            return behind

    async def reserved(self, budget: RateBudget, state_id: str, at: float) -> None:
        """Record that a request was reserved in the registered state; ``at`` as it is on record."""
        self._found[budget, state_id] = at
        await self._update(budget, state_id, boot=self.boot, reserved_at=at)

    async def hand_over(self, budget: RateBudget, before: str, state_id: str, place: str) -> None:
        """Register the database to which the rows of the state with the id ``before`` were copied.

        Nothing changes where that state is not the one registered: its copy is registered when it is used.
        """
        await self._update(budget, before, id=state_id, place=place, is_file=False)

    async def _update(self, budget: RateBudget, state_id: str, **changes: Any) -> None:
        """Change the entry of a User ID, if it names this state."""
        if budget.kind is not ExchangeKind.OKX:
            return
        with self._carrying_on():
            async with self._entry(budget) as entry:
                registered = entry.read()
                if registered is not None and registered.id == state_id:
                    entry.write(replace(registered, **changes))

    def release(self, budget: RateBudget, user: str) -> None:
        """Stop using the registered state; harmless where it is not used."""
        self._users.discard((budget, user))
        if budget in self._held and budget not in {one for one, _ in self._users}:
            os.close(self._held.pop(budget))

    def close(self) -> None:
        """Stop using every state that this process registered; harmless when done before."""
        for budget, user in tuple(self._users):
            self.release(budget, user)

    def _claim(self, entry: _Entry, ours: RegisteredState) -> RegisteredState | None:
        registered = entry.read()
        found = Registration.NEW if registered is None else self._decide(entry, ours, registered)
        if found is Registration.REFUSED and registered is not None:
            raise _in_use(entry.budget, registered, ours)
        if found is Registration.BEHIND:
            return registered
        if found is Registration.REPLACED and registered is not None:
            entry.forget_holders(registered)
            self._report(
                f"the state {registered.place} was used on this machine for User ID {entry.budget.uid};"
                f" it is not in use, and {ours.place} replaces it"
            )
        self._hold(entry, ours)
        if registered is not None:
            ours = replace(ours, boot=registered.boot, reserved_at=registered.reserved_at)
        if ours != registered:
            entry.write(ours)
        return None

    def _decide(self, entry: _Entry, ours: RegisteredState, registered: RegisteredState) -> Registration:
        is_same = _is_same(ours, registered)
        seen = Sighting(
            exists=not registered.is_file or os.path.lexists(registered.place),
            is_same=is_same,
            is_held=not is_same and entry.is_held(registered),
            has_newest=self._found.get((entry.budget, ours.id)) == registered.reserved_at,
        )
        return register(ours, registered, seen, self.clock.now())

    def _hold(self, entry: _Entry, ours: RegisteredState) -> None:
        """Lock the state's file, until release; the folder may have been removed and created again."""
        descriptor, before = entry.open(entry.holders(ours)), self._held.get(entry.budget)
        if before is not None and os.path.sameopenfile(before, descriptor):
            os.close(descriptor)
            return
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        self._held[entry.budget] = descriptor
        if before is not None:
            os.close(before)

    @asynccontextmanager
    async def _entry(self, budget: RateBudget) -> AsyncIterator[_Entry]:
        """Yield the locked entry of a User ID."""
        folder = _open_folder(self.folder)
        try:
            entry = _Entry(folder, budget, self._report)
            try:
                await entry.lock()
                yield entry
            finally:
                entry.close()
        finally:
            os.close(folder)

    @contextmanager
    def _carrying_on(self) -> Iterator[None]:
        """Report what is wrong with the registry, and continue without it."""
        try:
            yield
        except OSError as problem:
            why = problem.strerror or str(problem)
            self._report(
                f"the registry of states in {self.folder} cannot be used ({why}): a second state for the"
                " same User ID on this machine would not be noticed"
            )

    def _report(self, text: str) -> None:
        """Report something, once while this process runs."""
        if text not in self._reported:
            self._reported.add(text)
            self.notice(text)


class _Entry:
    """The files of one User ID in the open folder of the registry."""

    def __init__(self, folder: int, budget: RateBudget, report: Notice) -> None:
        self.budget = budget
        self._folder = folder
        self._report = report
        self._name = ".".join((budget.kind.value, budget.environment.value, quote(budget.uid, safe="")))
        self._descriptor = self.open(self._name)

    def close(self) -> None:
        os.close(self._descriptor)

    async def lock(self) -> None:
        """Lock the entry against other readers and writers. Raises OSError."""
        for _ in range(LOCK_TRIES):
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                await asyncio.sleep(REGISTRY_LOCK_TRY_S)
            else:
                return
        raise OSError(f"{self._name} is locked by another process")

    def open(self, name: str) -> int:
        """Open or create a file of the folder. Raises OSError where it is not trusted."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NONBLOCK
        return _open_trusted(name, flags, stat.S_ISREG, folder=self._folder)

    def read(self) -> RegisteredState | None:
        """Return what is registered; a damaged entry is reported and counts as none."""
        text = os.pread(self._descriptor, MAX_ENTRY_BYTES, 0)
        if not text:
            return None
        try:
            return _parsed(json.loads(text))
        except (ValueError, TypeError, KeyError, RecursionError):
            self._report(
                f"the entry {self._name} of the registry of states is damaged: mmp creates it again"
            )
            return None

    def write(self, registered: RegisteredState) -> None:
        """Register a state."""
        text = json.dumps(asdict(registered)).encode("ascii")
        os.pwrite(self._descriptor, text, 0)
        os.ftruncate(self._descriptor, len(text))

    def holders(self, registered: RegisteredState) -> str:
        """Return the name of the file that is locked by the processes that may write with a state."""
        return f"{self._name}.{_file_id(registered)}.used"

    def is_held(self, registered: RegisteredState) -> bool:
        """Tell whether a process that may write with a state is running."""
        descriptor = self.open(self.holders(registered))
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def forget_holders(self, registered: RegisteredState) -> None:
        """Remove the file of a state that is not in use."""
        with suppress(FileNotFoundError):
            os.unlink(self.holders(registered), dir_fd=self._folder)


def _open_folder(path: str) -> int:
    """Open or create the folder of the registry. Raises OSError where it is not trusted."""
    with suppress(FileExistsError):
        os.mkdir(path, 0o700)
    return _open_trusted(path, os.O_RDONLY | os.O_DIRECTORY, stat.S_ISDIR)


def _open_trusted(
    name: str, flags: int, is_kind: Callable[[int], bool], *, folder: int | None = None
) -> int:
    """Open or create a file or folder. Raises OSError where it is not trusted."""
    descriptor = os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
    try:
        _check_trust(descriptor, name, is_kind)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check_trust(descriptor: int, name: str, is_kind: Callable[[int], bool]) -> None:
    """Raise OSError unless a file or folder is this user's, and no other user may write to it."""
    info = os.fstat(descriptor)
    if not is_kind(info.st_mode):
        raise OSError(f"{name} is not of the expected type")
    if info.st_uid != os.geteuid():
        raise OSError(f"{name} belongs to another user")
    if info.st_mode & _OTHERS_MAY_WRITE:
        raise OSError(f"others may write to {name}")


def _file_id(registered: RegisteredState) -> str:
    """Return an identifier of a state that does not depend on its path: of its file, or its database."""
    if not registered.is_file:
        return registered.id
    with suppress(OSError):
        info = os.stat(registered.place)
        return f"{info.st_dev}-{info.st_ino}"
    return "missing"


def _is_same(ours: RegisteredState, registered: RegisteredState) -> bool:
    """Tell whether two names are of one state: one file, or one database, which may have many addresses."""
    if not ours.is_file or not registered.is_file:
        return ours.is_file == registered.is_file and ours.id == registered.id
    try:
        return os.path.samefile(ours.place, registered.place)
    except OSError:
        return False


def _parsed(entry: Mapping[str, object]) -> RegisteredState:
    """Return an entry as it was written. Raises ValueError, TypeError or KeyError."""
    texts = [entry[name] for name in ("id", "place", "boot")]
    at = entry["reserved_at"]
    if not all(isinstance(text, str) for text in texts) or not isinstance(at, float | int | None):
        raise ValueError("not an entry")
    state_id, place, boot = map(str, texts)
    return RegisteredState(state_id, place, bool(entry["is_file"]), boot, None if at is None else float(at))


def _in_use(budget: RateBudget, registered: RegisteredState, ours: RegisteredState) -> AccountProblem:
    whose = f"User ID {budget.uid} ({budget.environment.value})"
    message = (
        f"nothing is written with the state {ours.place}: {registered.place} is in use for {whose} on this"
        " machine, and two states do not know each other's requests"
    )
    hint = (
        f"end the process that uses {registered.place} (it may wait at a question); or use --state"
        f" {registered.place} if that is the right one"
    )
    return AccountProblem("state-second", message, hint)


def _behind(
    budget: RateBudget, registered: RegisteredState, ours: RegisteredState, left_s: float
) -> AccountProblem:
    whose = f"User ID {budget.uid} ({budget.environment.value})"
    message = (
        f"nothing is written with the state {ours.place} yet: the newest request for {whose} on this"
        f" machine was reserved in {registered.place}, is not on record in this state, and may still count"
        " against the rate"
    )
    hint = f"wait {math.ceil(left_s)} s and try again; or use the state that has that request on record"
    problem = AccountProblem("state-behind", message, hint)
    problem.wait_s = left_s
    return problem
