"""Random damage to a state file, and what a process then reads from it.

The state has two User IDs, a filled ledger, open and failed attempts, proofs, accepted settings, pauses,
policies, overrides and a timeline. A mutation is *silent* if a process reads, without an error, something
other than what was recorded; an *internal error* if anything but MmpError is raised.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from reconciler.core.history_records import AttemptLog, StateSnapshot
from reconciler.core.live_evidence import SeenRow
from reconciler.core.model import Accepting, Environment, ExchangeKind, Family, LiveRead, LiveRow
from reconciler.core.monitoring.state_timeline import Timeline
from reconciler.core.reply import AttemptStatus
from reconciler.core.reservation import AttemptResult, Reservation, ReserveOptions
from reconciler.errors import MmpError
from reconciler.store.account_store import SqlAccountStore
from reconciler.store.engine import StateOptions
from reconciler.store.sqlite.state import SqliteState, open_existing, open_state
from tests.contract.stores import BTC, ETH, HOST, NOON, UID, ScriptedClock, setting, signed

ACCOUNTS = (("main", UID), ("other", "77"))
START = 1000.0
END = START + 5000.0
"""When the state is opened again: all slots are free, and no open attempt has ended."""

Content = dict[str, object]


@dataclass(frozen=True, slots=True)
class Shown:
    """The other records of one account that people see: each part may lack records if it reports that."""

    log: AttemptLog
    snapshot: StateSnapshot
    last_rows: Mapping[Family, SeenRow]
    timeline: Timeline

    def agrees_with(self, good: Shown) -> bool:
        """Tell whether everything is as recorded, except what is reported as damaged."""
        attempts = set(good.log.attempts) if self.log.damaged else good.log.attempts
        live_lost = self.snapshot.damaged == 1 and self.snapshot.live is None
        whole = replace(self.snapshot, live=good.snapshot.live, damaged=0) if live_lost else self.snapshot
        return (
            (attempts.issuperset(self.log.attempts) if isinstance(attempts, set) else self.log == good.log)
            and whole == good.snapshot
            and (live_lost or self.last_rows == good.last_rows)
            and (self.timeline.damaged > 0 or self.timeline == good.timeline)
        )


def build(path: Path) -> None:
    """Create a state at ``path``; in the end one file contains all of it."""
    clock = ScriptedClock(START)
    state = open_state(str(path), StateOptions(clock, "boot-1", lock_timeout_s=0.0))
    for name, uid in ACCOUNTS:
        store = state.account(name, Environment.LIVE, ExchangeKind.OKX)
        asyncio.run(_fill(store, uid, clock))
    state.close_now()
    db = sqlite3.connect(path)
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()


async def _fill(store: SqlAccountStore, uid: str, clock: ScriptedClock) -> None:
    await store.identify(uid, HOST)
    await store.record_policy("a" * 64, "mmp-policy.yaml", "version: 1\n")
    await store.record_policy("b" * 64, "mmp-policy.yaml", "version: 1\nprotected: [BTC-USD]\n")
    await store.record_override(BTC, refusal="loosening.maxFactor", reason="agreed with the desk")
    version = await store.accept_file("c" * 64, changed=True)
    for number in range(60):
        family = (BTC, ETH)[number % 2]
        accepting = Accepting(setting(str(number + 1)), "sha256:1", "")
        slot = await store.reserve(
            signed(str(number + 1), family),
            ReserveOptions(assume_idle=True, file=version, accepting=accepting),
        )
        assert isinstance(slot, Reservation)
        status = AttemptStatus.APPLIED if number % 3 else AttemptStatus.REJECTED
        await store.settle(
            slot.attempt,
            AttemptResult(
                status, definite=True, limited=number == 30, code="0", message="x" * (number % 40)
            ),
        )
        await store.record_states({BTC: ("in-sync", "drifted")[number % 2], ETH: "in-sync"})
        clock.time += 12
    slot = await store.reserve(signed("9", ETH), ReserveOptions(assume_idle=True, file=version))
    assert isinstance(slot, Reservation)
    await store.pause([BTC], until=None, reason="by hand")
    await store.pause([ETH], until=None, reason="contested", contested_setting={ETH: setting("1")})
    store.apply_plan("plan-1", {BTC: setting("2")})
    await store.record_in_force([BTC])
    row = LiveRow(setting("60"), frozen=True, frozen_until="17")
    await store.record_live(LiveRead(clock.time, {BTC: row}, {ETH: "odd"}))


async def read(state: SqliteState) -> tuple[Content, dict[str, Shown]]:
    """Return the inputs of decisions, and the other records that people see."""
    decisions: Content = {}
    shown: dict[str, Shown] = {}
    for name, uid in ACCOUNTS:
        store = state.account(name, Environment.LIVE, ExchangeKind.OKX)
        await store.check_identity(uid)
        decisions[name] = (
            await store.names(),
            await store.recorded_inputs(),
            await store.pauses(),
            await store.policy_on_record(),
            await store.policies(10),
            await store.overrides(10),
        )
        draw = await store.read_timeline(NOON + timedelta(seconds=END - 86_000))
        log, snapshot = await store.history(1000), await store.snapshot()
        shown[name] = Shown(log, snapshot, await store.last_rows(), draw())
    return decisions, shown


async def work(state: SqliteState) -> None:
    """Do what a pass does: another attempt of each account, acknowledged."""
    for name, uid in ACCOUNTS:
        store = state.account(name, Environment.LIVE, ExchangeKind.OKX)
        await store.identify(uid, HOST)
        await store.accept_file("d" * 64, changed=True)
        await store.resume([BTC])
        accepting = Accepting(setting("77"), "sha256:1", "")
        slot = await store.reserve(signed("77", BTC), ReserveOptions(assume_idle=True, accepting=accepting))
        assert isinstance(slot, Reservation)
        await store.settle(
            slot.attempt,
            AttemptResult(AttemptStatus.APPLIED, definite=True, limited=False, code="0", message=""),
        )
        await store.record_live(LiveRead(END, {BTC: LiveRow(setting("77"))}))
        await store.record_states({BTC: "in-sync"})


# -- mutations ------------------------------------------------------------------------------------

Mutation = Callable[[bytearray, random.Random], None]


def flip_a_bit(image: bytearray, chance: random.Random) -> None:
    """Flip one bit."""
    image[chance.randrange(len(image))] ^= 1 << chance.randrange(8)


def flip_a_bit_of_a_cell(image: bytearray, chance: random.Random) -> None:
    """Flip one bit of a byte that is not zero: most pages are mostly empty."""
    places = [place for place in (chance.randrange(len(image)) for _ in range(40)) if image[place]]
    image[places[0] if places else 0] ^= 1 << chance.randrange(8)


def write_a_byte(image: bytearray, chance: random.Random) -> None:
    """Write any value over one byte."""
    image[chance.randrange(len(image))] = chance.randrange(256)


def clear_a_run(image: bytearray, chance: random.Random) -> None:
    """Write zeros over up to a sector."""
    begin, length = chance.randrange(len(image)), chance.randrange(1, 513)
    image[begin : begin + length] = bytes(len(image[begin : begin + length]))


def lose_a_page(image: bytearray, chance: random.Random) -> None:
    """Write one page over another: an older version of a page looks like that."""
    pages = len(image) // 4096
    to, of = (chance.randrange(pages) * 4096 for _ in range(2))
    image[to : to + 4096] = image[of : of + 4096]


def cut_off(image: bytearray, chance: random.Random) -> None:
    """Cut the file off."""
    del image[chance.randrange(len(image)) :]


MUTATIONS: tuple[Mutation, ...] = (
    flip_a_bit,
    flip_a_bit_of_a_cell,
    flip_a_bit_of_a_cell,
    flip_a_bit_of_a_cell,
    write_a_byte,
    clear_a_run,
    lose_a_page,
    cut_off,
)


# -- results --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one mutation; ``fault`` is "" unless it was silent or an internal error."""

    refused: str = ""
    fault: str = ""


def outcome_of(seed: int, good: bytes, folder: Path) -> Outcome:
    """Damage the state ``good`` by the seed, in ``folder``, and open it as processes would."""
    chance = random.Random(seed)
    image = bytearray(good)
    chance.choice(MUTATIONS)(image, chance)
    if image == good:
        return Outcome()
    path = folder / "mutated.db"
    try:
        _write(path, image)
        return _opened(path, expected(good, folder))
    finally:
        for name in ("", "-wal", "-shm", "-journal"):
            with suppress(FileNotFoundError):
                (folder / f"mutated.db{name}").unlink()


_EXPECTED: dict[int, tuple[Content, dict[str, Shown]]] = {}


def expected(good: bytes, folder: Path) -> tuple[Content, dict[str, Shown]]:
    """Return the records of the undamaged state."""
    if hash(good) not in _EXPECTED:
        path = folder / "good.db"
        _write(path, good)
        state = open_existing(str(path), clock=ScriptedClock(END), boot="boot-1")
        assert state is not None
        _EXPECTED[hash(good)] = asyncio.run(read(state))
        state.close_now()
    return _EXPECTED[hash(good)]


def _write(path: Path, image: bytes | bytearray) -> None:
    path.write_bytes(image)
    path.chmod(0o600)


def _opened(path: Path, good: tuple[Content, dict[str, Shown]]) -> Outcome:
    clock = ScriptedClock(END)
    try:
        reading = open_existing(str(path), clock=clock, boot="boot-1")
        assert reading is not None
        decisions, shown = asyncio.run(read(reading))
        reading.close_now()
        if decisions != good[0]:
            return Outcome(fault=f"silent: {_difference(decisions, good[0])}")
        if wrong := [name for name, one in shown.items() if not one.agrees_with(good[1][name])]:
            return Outcome(fault=f"silent: {shown[wrong[0]]!r:.600}")
        writing = open_state(str(path), StateOptions(clock, "boot-1", lock_timeout_s=0.0))
        try:
            asyncio.run(work(writing))
        finally:
            writing.close_now()
    except MmpError as error:
        return Outcome(refused=error.code)
    except Exception as error:
        return Outcome(fault=f"internal error: {type(error).__name__}: {error}")
    return Outcome()


def _difference(found: Content, good: Content) -> str:
    return next(f"{name}: {found[name]!r:.300}" for name in good if found[name] != good[name])
