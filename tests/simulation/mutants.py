"""Production code broken on purpose: each mutant is one plausible mistake, or one that was made.

If no history within the bound distinguishes a mutant from the real program, the world or its checkers
miss that mistake. The name of each mutant describes its mistake.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from unittest import mock

from reconciler.controller import loop, pass_planning, pass_reading, pass_sending, pass_values, reconcile
from reconciler.core import (
    family_decision,
    family_facts,
    live_evidence,
    pacing,
    pass_step,
    pauses,
    plan,
    planning,
    retry,
)
from reconciler.core import reply as reply_rules
from reconciler.core.accepted_settings import may_be_live
from reconciler.core.change_direction import Direction, direction, is_protective
from reconciler.core.drift_resolution import DriftPolicy, target
from reconciler.core.failover_loss import SeenTable
from reconciler.core.live_evidence import Reads
from reconciler.core.model import Family, Known, LiveRead, RateBudget, Setting, Uncertain
from reconciler.core.pacing import Ledger
from reconciler.core.plan import Change, PlanConstraints
from reconciler.core.reply import AttemptStatus, Reply, ReplyClass, ReplyHandling, ReplyVerdict
from reconciler.core.reservation import (
    AttemptResult,
    Reservation,
    ReserveOptions,
    ReserveResult,
    SignedRequest,
)
from reconciler.core.retry import RetryRecord
from reconciler.errors import MmpError, StateUnavailable, StateUnusable
from reconciler.okx import codes, live_rows, replies
from reconciler.okx.strict_json import UnreadableReply
from reconciler.store import (
    attempt_resolution,
    ledger_mapping,
    proofs,
    queries,
    reservations,
    row_clock,
    row_mapping,
    select_query,
)
from reconciler.store.account_locks import AccountLocks
from reconciler.store.account_session import AccountSession
from reconciler.store.ledger_mapping import RateHistory
from reconciler.store.postgres import locks as leases
from reconciler.store.postgres import schema, state
from reconciler.store.postgres.locks import LeaseLocks
from reconciler.store.postgres.state import PostgresState
from reconciler.store.proofs import Proofs
from reconciler.store.queries import FamilyRows
from reconciler.store.reservations import Reservations
from reconciler.store.row_clock import BootInstant, FirstSeen, RowClock
from reconciler.store.rows import AttemptRow, LossRow
from reconciler.store.select_query import SelectQuery
from reconciler.store.sqlite import errors
from reconciler.store.sqlite import file as sqlite_file
from reconciler.store.sqlite.state import SqliteState
from reconciler.store.table_access import Tables, WriteScope
from tests.simulation.checkers import no_slip
from tests.simulation.host import Host
from tests.simulation.list_replies import forget_parsed
from tests.simulation.ports import ANSWER_WITHIN_S
from tests.simulation.postgres import SimulatedState
from tests.simulation.postgres_server import Server
from tests.simulation.runner import without_collector
from tests.simulation.scenario import Feature, WorldKind
from tests.simulation.world import Violation, play

BOUND = 2000
"""Every mutant has to be caught within this many seeds."""

NEVER = float("-inf")
FOREVER = float("inf")


@dataclass(frozen=True, slots=True)
class Patch:
    """One attribute of production code and what it is replaced with."""

    target: Any
    attribute: str
    instead: Any


@dataclass(frozen=True, slots=True)
class Mutant:
    """One mistake: its name, and the attributes that make it."""

    name: str
    patches: tuple[Patch, ...]
    kind: WorldKind = WorldKind.SQLITE
    """The worlds that have to distinguish it from the real program."""
    first_seed: int = 0
    """The first seed of its hunt: most show within a few histories, a few in one of ten thousand."""
    feature: Feature | None = None
    """The feature of the histories that have to detect it, and no other; None: those of the seed."""

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """Break the production code for a while."""
        with ExitStack() as stack:
            stack.callback(forget_parsed)
            forget_parsed()
            for patch in self.patches:
                stack.enter_context(mock.patch.object(patch.target, patch.attribute, patch.instead))
            yield


@dataclass(frozen=True, slots=True)
class Hunt:
    """How a mutant was caught: the first seed that caught it; ``violation`` None when none did.

    ``slip``: how the mutant itself is broken, so that nothing was shown about the rule.
    """

    name: str
    seeds: int
    violation: Violation | None
    slip: str = ""

    def line(self) -> str:
        """Return one line that describes it."""
        if self.slip:
            return f"ESCAPED  {self.name:34} seed {self.seeds - 1:<5} is itself broken: {self.slip}"
        if self.violation is None:
            return f"ESCAPED  {self.name:34} {self.seeds} seeds"
        return f"caught   {self.name:34} seed {self.seeds - 1:<5} by {self.violation.checker}"


def mutant_named(name: str) -> Mutant:
    """Return the mutant of that name."""
    return next(mutant for mutant in MUTANTS if mutant.name == name)


def hunt(name: str, seeds: int = BOUND) -> Hunt:
    """Play histories with the mutant of that name in force until a checker objects."""
    return hunted(mutant_named(name), seeds)


def hunted(mutant: Mutant, seeds: int = BOUND) -> Hunt:
    """Play histories with the mutant in force until a checker objects, or its own code fails."""
    with mutant.in_force(), without_collector():
        for seed in range(mutant.first_seed, mutant.first_seed + seeds):
            violation = play(seed, mutant.kind, feature=mutant.feature).violation
            if violation is not None and is_slip(violation):
                return Hunt(mutant.name, seed + 1, None, violation.detail)
            if violation is not None:
                return Hunt(mutant.name, seed + 1, violation)
    return Hunt(mutant.name, seeds, None)


def is_slip(violation: Violation) -> bool:
    """Tell whether a mutant's own code failed, as the program's never does; it showed nothing else."""
    return violation.checker == no_slip.__name__


def hunt_all(kinds: Collection[WorldKind], seeds: int, jobs: int) -> Iterator[Hunt]:
    """Hunt every mutant of those worlds, in the order of the list."""
    names = [(mutant.name, seeds) for mutant in MUTANTS if mutant.kind in kinds]
    if jobs <= 1:
        yield from (hunt(*name) for name in names)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap(_hunt_one, names)


def _hunt_one(asked: tuple[str, int]) -> Hunt:
    return hunt(*asked)


# -- pacing ----------------------------------------------------------------------------------------


def _from_sending(reserved_at: float, answered_at: float | None) -> float:
    return reserved_at


def _short_l(reserved_at: float, answered_at: float | None) -> float:
    return reserved_at + 2.0 if answered_at is None else answered_at


def _leaky_bucket(ledger: Ledger, *, assume_idle: bool, keep_free: int = 0) -> Sequence[float]:
    """Two tokens, one more every 5 s: a standard rate limiter."""
    empty_at, tokens_since = 0.0, NEVER
    for sent in sorted(ledger.sent, key=lambda sent: sent.latest_arrival):
        empty_at = max(empty_at, sent.latest_arrival) + 5.0
        tokens_since = max(tokens_since, empty_at - 5.0)
    bounds = [tokens_since if len(ledger.sent) >= 2 else NEVER]
    if ledger.empty_since is not None and not assume_idle:
        bounds.append(ledger.empty_since + pacing.GUARD_S)
    return bounds


_real_ledger = ledger_mapping.ledger_from_rows


def _ledger_of_this_life(history: RateHistory, row_clock: RowClock) -> Ledger:
    """Count only what this process sent itself."""
    newest = max((row.id for row in history.counting), default=0)
    before = row_clock.first_seen.first("newest at the start", newest)
    mine = tuple(row for row in history.counting if row.id > before)
    return _real_ledger(replace(history, counting=mine), row_clock)


def _ledger_of_answered(history: RateHistory, row_clock: RowClock) -> Ledger:
    answered = tuple(row for row in history.counting if row.status != AttemptStatus.PENDING)
    return _real_ledger(replace(history, counting=answered), row_clock)


def _own_instant(self: FirstSeen, what: object, stamp: BootInstant, now: float) -> float:
    return stamp.instant


def _long_ago(self: FirstSeen, what: object, stamp: BootInstant, now: float) -> float:
    return stamp.instant if stamp.boot == self.boot else NEVER


def _slot_not_checked_again(ledger: Ledger, now: float, **_: Any) -> float:
    return now


class _RowClockOfAccount(RowClock):
    """The ages of rows, and the account whose ledger is built from them."""

    def __init__(self, first_seen: FirstSeen, now: float, account: str) -> None:
        super().__init__(first_seen, now)
        object.__setattr__(self, "account", account)


def _row_clock_of_account(self: Any) -> RowClock:
    return _RowClockOfAccount(self.engine.first_seen, self.engine.clock.now(), self.account)


_real_ledger = ledger_mapping.ledger_from_rows


def _ledger_of_account(history: RateHistory, row_clock: RowClock) -> Ledger:
    account: str = object.__getattribute__(row_clock, "account")
    counting = tuple(row for row in history.counting if row.account == account)
    return _real_ledger(replace(history, counting=counting), row_clock)


_BY_ACCOUNT = (
    Patch(AccountSession, "row_clock", _row_clock_of_account),
    Patch(ledger_mapping, "ledger_from_rows", _ledger_of_account),
)


def _wall_as_monotonic(self: Host, now: float) -> float:
    return self.wall(now).timestamp()


def _wall_to_true_time(self: Host, instant: float, boot: int | None = None) -> float:
    return instant - self.wall(0.0).timestamp()


# -- what is known ---------------------------------------------------------------------------------

_real_open = queries.select_open


def _open_without_pending(budget: RateBudget, family: str | None = None) -> SelectQuery[list[AttemptRow]]:
    query = _real_open(budget, family)
    return replace(
        query,
        parse=lambda found: [row for row in query.parse(found) if row.status != AttemptStatus.PENDING],
    )


_real_need_uncertain = family_facts._need_uncertain


def _uncertain_equals_last(after: Setting, known: Uncertain, *rest: Any) -> Any:
    if known.last is not None and known.last.setting == after:
        return None
    return _real_need_uncertain(after, known, *rest)


def _no_effect_window(after: Setting, known: Uncertain, *rest: Any) -> Any:
    landed = tuple(replace(attempt, effect_until=NEVER) for attempt in known.unresolved)
    return _real_need_uncertain(after, replace(known, unresolved=landed), *rest)


def _no_late_effect(self: RowClock, row: AttemptRow | LossRow) -> float:
    return self.reserved_at(row) + 2.0


def _shown_at_once(begun_at: float) -> float:
    return begun_at


def _everything_ended(
    open_attempts: Sequence[AttemptRow], begun_at: float, row_clock: RowClock
) -> list[AttemptRow]:
    return [row._replace(resolved=1) for row in open_attempts]


def _any_acceptance(family: object, sent: object, reply: Reply) -> ReplyVerdict:
    if reply.reply_class is ReplyClass.ACCEPTED:
        return reply_rules._APPLIED
    return reply_rules._BY_CLASS[reply.reply_class]


def _table_with(reply_class: ReplyClass, instead: ReplyVerdict) -> Mapping[ReplyClass, ReplyVerdict]:
    return {**reply_rules._BY_CLASS, reply_class: instead}


def _family_of_echo_ignored(family: Family, sent: Setting, reply: Reply) -> ReplyVerdict:
    settings = [setting for _, setting in reply.echo or ()]
    return reply_rules._APPLIED if settings == [sent] else _real_judge(family, sent, reply)


def _any_row_of_echo(family: Family, sent: Setting, reply: Reply) -> ReplyVerdict:
    is_among = (family, sent) in (reply.echo or ())
    return reply_rules._APPLIED if is_among else _real_judge(family, sent, reply)


_real_judge = reply_rules.interpret_reply


# -- the plan --------------------------------------------------------------------------------------

_real_file_changes = planning._Planner._file_changes


def _judged_after_narrowing(self: Any) -> Any:
    return [one for one in _real_file_changes(self) if self.rules.includes(one.family)]


def _whatever_was_before(change: Change, seen: Any, reads: Any, reviewed: Any) -> bool:
    promised = reviewed.get(change.family)
    return promised is not None and change.after == promised[1]


_real_rank = plan._sending_rank


def _loosen_first(change: Change) -> Any:
    return _real_rank(replace(change, protective=not change.protective))


_real_target = target


def _mixed_left(wanted: Setting, live: Setting | None, *rest: Any, **more: Any) -> Setting | None:
    """Treat a setting looser in one field and tighter in another as tighter."""
    if live is not None and direction(wanted, live) is Direction.MIXED:
        return live
    return _real_target(wanted, live, *rest, **more)


def _restored_as_one(
    wanted: Setting, live: Setting | None, accepted: Any, drift: DriftPolicy, *, is_change: bool
) -> Setting | None:
    """Send the desired setting where any field became looser, and loosen what became tighter with it."""
    sent = _real_target(wanted, live, accepted, drift, is_change=is_change)
    return wanted if sent != live else sent


_real_may_be_live = may_be_live


def _only_the_newest(*facts: Any) -> tuple[Setting, ...]:
    return _real_may_be_live(*facts)[:1]


_real_facts = family_facts.family_facts


def _measured_from_live(*sources: Any) -> Any:
    facts = _real_facts(*sources)
    return replace(facts, accepted=facts.live) if facts.accepted is not None else facts


_real_unconfirmed_target = planning._Planner._target


def _unconfirmed_is_no_drift(self: Any, facts: Any, **how: Any) -> Any:
    seen = live_evidence.NotRead() if isinstance(facts.seen, live_evidence.MissingTooLong) else facts.seen
    return _real_unconfirmed_target(self, replace(facts, seen=seen), **how)


_real_rules = pass_planning._rules


def _no_policy_in_run(self: Any, now: float) -> PlanConstraints:
    rules = _real_rules(self, now)
    return rules if self.options.wait_in_pass else replace(rules, policy=None)


# -- the pass --------------------------------------------------------------------------------------

_real_send = pass_sending.send
_real_reserve = Reservations.reserve


async def _send_marking_first(self: Any, following: Any) -> Any:
    with mock.patch.object(self, "store", _MarkingFirst(self.store)):
        return await _real_send(self, following)


async def _reserve_whenever(self: Any, request: SignedRequest, options: ReserveOptions) -> Any:
    return await _real_reserve(self, request, replace(options, by=FOREVER))


class _MarkingFirst:
    """A store in which an attempt is applied as soon as it is reserved."""

    def __init__(self, store: Any) -> None:
        self._store = store

    async def reserve(self, request: SignedRequest, options: ReserveOptions) -> ReserveResult:
        slot: ReserveResult = await self._store.reserve(request, options)
        if isinstance(slot, Reservation):
            applied = AttemptStatus.APPLIED
            await self._store.settle(
                slot.attempt, AttemptResult(applied, definite=True, limited=False, code="0", message="")
            )
        return slot

    async def settle(self, attempt: int, result: AttemptResult) -> None:
        """Do nothing: the attempt was settled when it was reserved."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


_real_pass_settle = pass_sending._settle


async def _settled_after_the_lock(self: Any, *text: Any) -> Any:
    """Release the lock as soon as the reply arrives."""
    self.store._store._session.engine.locks.close()
    return await _real_pass_settle(self, *text)


async def _send_again(self: Any, following: Any) -> Any:
    with mock.patch.object(self, "exchange", _Insisting(self.exchange)):
        return await _real_send(self, following)


class _Insisting:
    """An exchange whose connections send once more when no reply came."""

    def __init__(self, exchange: Any) -> None:
        self._exchange = exchange
        self._connection: Any = None
        self.sign = exchange.sign
        self.key_changed = exchange.key_changed

    async def open(self) -> Any:
        self._connection = await self._exchange.open()
        return self._connection if isinstance(self._connection, Reply) else self

    async def send(self, request: Any, *, deadline: float) -> Reply:
        reply: Reply = await self._connection.send(request, deadline=deadline)
        if reply.reply_class is ReplyClass.NO_ANSWER and not isinstance(await self.open(), Reply):
            reply = await self._connection.send(request, deadline=deadline + ANSWER_WITHIN_S)
        return reply

    async def close(self) -> None:
        if not isinstance(self._connection, Reply):
            await self._connection.close()


async def _send_what_was(self: Any, following: Any) -> Any:
    """Send what was in force before the change; that it is another change is not noticed."""
    change = following.change
    before = replace(change, after=change.before or change.after)
    return await _real_send(self, replace(following, change=before))


async def _same(_: Any, change: Change) -> Change:
    return change


async def _decided_before(self: Any, change: Change) -> Change:
    """Continue with the decision, whatever the file says by now."""
    self.wanted = self.desired()
    return change


_real_ask_for_review = reconcile._ask_for_review


def _answer_forgotten(self: Any, shown: Any) -> Any:
    end = _real_ask_for_review(self, shown)
    self.reviewed = self.options.reviewed
    return end


def _ignores_cancellation(self: Any) -> Any:
    return pass_values.TimedOut() if self.clock.now() >= self.deadline else None


async def _not_recorded(
    self: Proofs, tables: Tables, rows: FamilyRows, row: AttemptRow, row_clock: RowClock
) -> AttemptRow:
    return row._replace(resolved=1)


@asynccontextmanager
async def _unlocked(
    self: AccountLocks, purpose: str, *, timeout_s: float | None = None
) -> AsyncIterator[None]:
    yield


_really_keeps_lock = pass_reading._keeps_lock


def _lock_held_while_waiting(self: Any, *wait: Any) -> bool:
    return self.options.wait_in_pass or _really_keeps_lock(self, *wait)


_real_run = loop.Loop.run


async def _first_file_for_ever(self: loop.Loop) -> None:
    first = self.desired()
    self.desired = lambda: first
    await _real_run(self)


_real_record = Reservations._record_attempt


async def _headers_on_record(
    self: Reservations, tables: Tables, budget: Any, request: Any, *rest: Any
) -> AttemptRow:
    signed = replace(request, timestamp=str(request.headers))
    return await _real_record(self, tables, budget, signed, *rest)


# -- the state in PostgreSQL -----------------------------------------------------------------------


def _believed(self: LeaseLocks, name: str, found: object) -> None:
    """Assume that a lock taken once is still held."""


_UNEXPIRED_AS_BEFORE = leases._TAKE.replace(leases._UNEXPIRED, "(held.expires_at > clock_timestamp())")


async def _not_renewed(self: LeaseLocks) -> None:
    """Let the leases end."""


def _counted_by_one() -> int:
    return 1


async def _loss_ignored(self: AccountSession, tables: Tables, budget: RateBudget) -> None:
    """Continue as if nothing could be lost."""


_real_losses = row_mapping.loss_rows


def _doubts_not_lost(*asked: Any) -> list[LossRow]:
    return [row for row in _real_losses(*asked) if row.family is None]


def _requests_not_lost(*asked: Any) -> list[LossRow]:
    return [row for row in _real_losses(*asked) if row.family is not None]


async def _newcomers_believed(self: Proofs, *_: object) -> None:
    """Adopt a family that is new to the record as if it had always been."""


class _RowClockOfDatabase(RowClock):
    """Rows of other hosts age by the database's clock, which is the same for all of them."""

    def __init__(self, first_seen: FirstSeen, now: float, server: Server) -> None:
        super().__init__(first_seen, now)
        object.__setattr__(self, "server", server)

    def reserved_at(self, row: AttemptRow | LossRow) -> float:
        if row.boot == self.first_seen.boot:
            return row.reserved_at
        server: Server = object.__getattribute__(self, "server")
        return self.now - server.clock() + server.stamped.get((row.boot, row.reserved_at), server.clock())


def _row_clock_by_database(self: Any) -> RowClock:
    engine = self.engine
    if not isinstance(engine, SimulatedState):
        return RowClock(engine.first_seen, engine.clock.now())
    return _RowClockOfDatabase(engine.first_seen, engine.clock.now(), engine.connections.server)


async def _reserved_if_unanswered(
    self: Reservations, request: SignedRequest, options: ReserveOptions
) -> Any:
    """Treat a missing answer to COMMIT as success."""
    rows: list[AttemptRow] = []

    async def noting(*asked: Any) -> AttemptRow:
        rows.append(await _real_record(*asked))
        return rows[-1]

    with mock.patch.object(Reservations, "_record_attempt", noting):
        try:
            return await _real_reserve(self, request, options)
        except StateUnavailable:
            if not rows:
                raise
            return Reservation(rows[-1].id, rows[-1].reserved_at)


_real_sqlite_error = errors.sqlite_error


def _busy_is_unusable(path: str, error: Any) -> MmpError:
    problem = _real_sqlite_error(path, error)
    return StateUnusable(problem.code, problem.message) if problem.code == errors.BUSY else problem


def _unusable(path: str) -> MmpError:
    return StateUnusable("state-disk-full", f"no space left for the state {path}")


def _only_rolled_back(self: SqliteState, error: BaseException) -> None:
    """Leave a transaction without closing the connection that failed."""
    self._db.rollback()
    if (problem := errors.state_error(self.place, error)) is not None:
        raise problem


async def _reserved_again(self: Reservations, request: SignedRequest, options: ReserveOptions) -> Any:
    """Treat a missing answer to COMMIT as failure."""
    for _ in range(3):
        with suppress(StateUnavailable):
            return await _real_reserve(self, request, options)
    return await _real_reserve(self, request, options)


_real_claim = PostgresState._claim


async def _asked_before_locked(self: PostgresState, transaction: Any, claim: WriteScope, **how: Any) -> Any:
    """Send the prefetched queries, and only then wait for the locks."""
    found = await transaction.query_batch(*map(state._statement, claim.ahead.statements))
    statements, *rest = await _real_claim(
        self, transaction, replace(claim, ahead=select_query.NOTHING), **how
    )
    statements._answers.update(zip(claim.ahead.statements, found, strict=True))
    return statements, *rest


async def _run_and_remembered(self: Any, query: str, values: Any) -> None:
    """Write, and continue to answer prefetched queries as if nothing were written."""
    await self._transaction.run(state.translated(query), values)


async def _run_each_and_remembered(self: Any, query: str, many: Any) -> None:
    await self._transaction.run_each(state.translated(query), many)


async def _losses_left_to_others(self: Any, query: SelectQuery[Any]) -> Any:
    """Read the inputs of a decision without recording that something may have been lost."""
    async with self.engine.reading(self.budget, query) as tables:
        return await tables.select(query)


_real_settle = Reservations.settle


async def _settled_again(self: Reservations, attempt: int, result: AttemptResult) -> None:
    try:
        await _real_settle(self, attempt, result)
    except StateUnavailable:
        await _real_settle(self, attempt, result)


async def _settled_by_the_holder(self: Reservations, attempt: int, result: AttemptResult) -> None:
    """Record the result of a request only while the lock is held."""
    session = self._session
    with mock.patch.object(session, "writing", partial(session.writing, held=session.lock_name)):
        await _real_settle(self, attempt, result)


_real_adopt = Proofs.adopt


async def _adopted_by_anybody(self: Proofs, *text: Any, **more: Any) -> Any:
    """Adopt what was read while the lock was held, even if another process wrote since."""
    real = self._session.writing

    def of_anybody(query: SelectQuery[Any], **_: object) -> Any:
        return real(query)

    with mock.patch.object(self._session, "writing", of_anybody):
        return await _real_adopt(self, *text, **more)


async def _adopted_as_of_now(self: Proofs, settings: Any, *, read_begun_at: float, **more: Any) -> Any:
    return await _real_adopt(self, settings, read_begun_at=self._session.engine.clock.now(), **more)


_real_overrides = pass_sending._record_overrides


async def _overrides_take_no_time(self: Any) -> bool:
    """Record overrides, however long it takes, and send by the earlier decision."""
    await _real_overrides(self)
    return False


# -- one slow or failing call ----------------------------------------------------------------------


def _fresh_from_its_beginning(reads: Reads, known: Known, now: float) -> bool:
    latest = reads.latest
    return (
        latest is not None
        and latest.begun_at > live_evidence.valid_after(known)
        and latest.begun_at > now - pass_step.FRESH_S
    )


def _first_in_order(made: plan.Plan, *, now: float, slots: pass_step.Slots) -> pass_step.Next | None:
    """Take the first change of the plan, and wait for it, whatever else could be sent."""
    for change in made.requests:
        keep_free = change.slots_left(others=False, unanswered=slots.unanswered)
        return pass_step.Next(change, max(now, change.not_before, slots.leaving(keep_free)), keep_free)
    return None


def _last_slot_for_loosening(self: Change, *, others: bool, **_: bool) -> int:
    return int(self.tries > 0 and others)


def _last_slot_before_others(self: Change, **_: bool) -> int:
    return int(self.tries > 0 and not self.protective)


_real_retries = row_mapping.retries_from_rows


def _successes_forgotten(tries: Any, _acknowledged: int, row_clock: Any) -> RetryRecord:
    return _real_retries(tries, None, row_clock)


def _account_backs_off(self: Any, change: Change, reply: Reply) -> Any:
    return pass_reading.back_off(self, f"setting {change.family}", reply)


_real_family_failed = pass_sending._family_failed


def _unsent_is_nothing(self: Any, change: Change, reply: Reply) -> Any:
    """Continue as if nothing had happened where a request could not be written."""
    return None if reply.reply_class is ReplyClass.NOT_SENT else _real_family_failed(self, change, reply)


def _unsent_holds_the_account(self: Any, change: Change, reply: Reply) -> Any:
    """Make the account wait for a family whose request could not be sent, and the family 1 s longer."""
    if reply.reply_class is not ReplyClass.NOT_SENT:
        return _real_family_failed(self, change, reply)
    self.memory.failures = max(self.memory.failures, pass_sending._count_unsent(self, change.family))
    end = pass_reading.back_off(self, f"setting {change.family}", reply)
    self.memory.wait_until[change.family, change.after] = self.memory.not_before + 1.0
    return end


_real_suspension = pass_values.PassContext.notice_suspension


def _suspension_changes_no_step(self: Any) -> bool:
    _real_suspension(self)
    return False


_real_is_unset = live_rows._is_unset


def _off_is_unset(row: Mapping[str, object]) -> bool:
    """Treat a row with protection off as no row, even if its other values are invalid."""
    try:
        return _real_is_unset(row)
    except UnreadableReply:
        return True


_real_next_request = pass_step.next_request


def _nothing_while_in_doubt(made: plan.Plan, **how: Any) -> pass_step.Next | None:
    return None if made.doubtful else _real_next_request(made, **how)


_real_parse_live = replies.parse_live


def _only_complete_lists(*text: Any, begun_at: float, asked: Family | None = None, **more: Any) -> Any:
    """Treat a list with one odd row as no answer."""
    read = _real_parse_live(*text, begun_at=begun_at, asked=asked, **more)
    odd = isinstance(read, LiveRead) and (read.odd_names or read.nameless or read.unreadable)
    return replies.no_answer("bad-data", "an odd row") if odd else read


def _without_wrapper(family: Family, sent: Setting, reply: Reply) -> ReplyVerdict:
    return _real_judge(family, sent, replace(reply, wrapper=None))


_CONTRACT = {**codes.TABLE, "51155": replace(codes.TABLE["51155"], reply_class=ReplyClass.ACCOUNT)}

# -- what was not reviewed -------------------------------------------------------------------------


def _unreadable_is_none(self: Any, now: float) -> PlanConstraints:
    rules = _real_rules(self, now)
    return replace(rules, policy=None, policy_unreadable=False) if rules.policy_unreadable else rules


def _goes_at_once(change: Change, *_: object) -> bool:
    return change.action is plan.Action.SET


def _protects_by_the_read(change: Change, case: Any, reads: Reads) -> bool:
    """Ask only the newest read whether a change only adds protection."""
    seen = case.seen
    if (
        change.action is not plan.Action.SET
        or not isinstance(seen, live_evidence.NeedsSecondRead)
        or seen.row is None
    ):
        return False
    return is_protective(seen.row.setting, change.after)


_real_view_of_missing = live_evidence._view_of_missing


def _gone_at_once(family: Family, known: Known, reads: Reads, latest: LiveRead) -> Any:
    return live_evidence.Absent()


def _failed_is_gone(self: Reads, family: Family, at: float) -> Reads:
    """Treat a failed read of one family as one that showed no row."""
    return self._after_single_read(family, at, at)


def _superseded_early(known: Uncertain, seen: Any, reads: Reads) -> bool:
    return family_facts.shows_no_attempt(known, seen)


async def _always_changed(self: Any) -> None:
    """Treat the settings file at the start of a process as one that it saw change."""
    file = self.memory.file
    if self.options.controller and (file is None or file.sha256 != self.wanted.sha256):
        self.memory.file = await self.store.accept_file(self.wanted.sha256, changed=True)


async def _every_process_controls(self: AccountLocks, purpose: str) -> bool:
    return True


_real_known_from_rows = row_mapping.known_from_rows


def _known_of_account(applied: Any, attempts: Any, losses: Any, row_clock: RowClock) -> Any:
    account: str = object.__getattribute__(row_clock, "account")
    return _real_known_from_rows(
        [row for row in applied if row.account == account],
        [row for row in attempts if row.account == account],
        [row for row in losses if row.account == account],
        row_clock,
    )


def _nothing() -> None:
    """Do nothing."""


async def _synced_and_remembered(self: Any, reply: Reply) -> Any:
    """Measure the exchange's clock and continue with what was read before."""
    with mock.patch.object(self, "forget_reads", _nothing):
        return await _real_sync_clock(self, reply)


_real_sync_clock = pass_sending._sync_clock


def _of_feature(name: str, feature: Feature, *patches: Patch, first_seed: int = 0) -> Mutant:
    return Mutant(name, patches, first_seed=first_seed, feature=feature)


def _of_postgres(name: str, *patches: Patch, first_seed: int = 0) -> Mutant:
    return Mutant(name, patches, WorldKind.POSTGRES, first_seed)


_BORN_NOW = state._NEW_BUDGET.replace(" history FROM", f" {schema.HISTORY} FROM")
"""A new row of a budget claims that it was always seen on the present history."""

MUTANTS = (
    Mutant("counted from the moment of sending", (Patch(row_clock, "latest_arrival", _from_sending),)),
    Mutant("unanswered counts for 2 s only", (Patch(row_clock, "latest_arrival", _short_l),)),
    Mutant("leaky bucket", (Patch(pacing, "_bounds", _leaky_bucket),)),
    Mutant("no slack on the window", (Patch(pacing, "GUARD_S", pacing.WINDOW_S),)),
    Mutant(
        "ledger forgotten at restart", (Patch(ledger_mapping, "ledger_from_rows", _ledger_of_this_life),)
    ),
    Mutant("pending not in the ledger", (Patch(ledger_mapping, "ledger_from_rows", _ledger_of_answered),)),
    Mutant("foreign rows keep their instants", (Patch(FirstSeen, "local", _own_instant),)),
    Mutant("foreign rows are long past", (Patch(FirstSeen, "local", _long_ago),)),
    Mutant("no history means idle", (Patch(FirstSeen, "empty_since", lambda *_: NEVER),)),
    Mutant(
        "slot not checked in reserving", (Patch(reservations, "earliest_slot", _slot_not_checked_again),)
    ),
    Mutant("one ledger per account name", _BY_ACCOUNT),
    Mutant(
        "wall clock",
        (Patch(Host, "monotonic", _wall_as_monotonic), Patch(Host, "true_time", _wall_to_true_time)),
    ),
    Mutant("pending attempts unknown", (Patch(queries, "select_open", _open_without_pending),)),
    Mutant(
        "uncertain equals last applied", (Patch(family_facts, "_need_uncertain", _uncertain_equals_last),)
    ),
    Mutant(
        "other values settled before L",
        (
            Patch(family_facts, "_need_uncertain", _no_effect_window),
            Patch(proofs, "reflects_until", lambda begun_at: FOREVER),  # the state checks this, too
        ),
        first_seed=1_290,
    ),
    Mutant("late effects after 2 s ignored", (Patch(RowClock, "effect_until", _no_late_effect),)),
    _of_postgres(
        "reads that lag end doubts",
        Patch(family_facts, "reflects_until", _shown_at_once),
        Patch(proofs, "reflects_until", _shown_at_once),
        first_seed=130,
    ),
    Mutant(
        "a proof ends every doubt",
        (Patch(attempt_resolution, "resolved_by", _everything_ended),),
        first_seed=1_130,
    ),
    Mutant("no echo check", (Patch(pass_sending, "interpret_reply", _any_acceptance),)),
    Mutant(
        "no answer means refused",
        (
            Patch(
                reply_rules,
                "_BY_CLASS",
                _table_with(
                    ReplyClass.NO_ANSWER, ReplyVerdict(AttemptStatus.REJECTED, False, ReplyHandling.PROCEED)
                ),
            ),
        ),
    ),
    Mutant(
        "no answer means not sent",
        (
            Patch(
                reply_rules,
                "_BY_CLASS",
                _table_with(
                    ReplyClass.NO_ANSWER,
                    ReplyVerdict(AttemptStatus.NOT_SENT, False, ReplyHandling.BACK_OFF),
                ),
            ),
        ),
    ),
    Mutant(
        "50004 means refused",
        (
            Patch(
                reply_rules,
                "_BY_CLASS",
                _table_with(
                    ReplyClass.AMBIGUOUS, ReplyVerdict(AttemptStatus.REJECTED, True, ReplyHandling.PROCEED)
                ),
            ),
        ),
    ),
    Mutant("applied before the reply", (Patch(reconcile, "send", _send_marking_first),)),
    Mutant("sent again on one reservation", (Patch(reconcile, "send", _send_again),)),
    Mutant("lock not taken", (Patch(AccountLocks, "locked", _unlocked),)),
    Mutant("frozen ignored", (Patch(family_decision, "_frozen", lambda *_: False),)),
    Mutant("guard ignored", (Patch(planning, "may_be_enabled", lambda *_: False),)),
    Mutant(
        "every drift healed", (Patch(planning, "target", lambda wanted, *_, **__: wanted),), first_seed=910
    ),
    Mutant(
        "decided long ago, sent all the same", (Patch(pass_sending, "TOO_LATE_S", FOREVER),), first_seed=610
    ),
    Mutant(
        "reserved however long it took",
        (Patch(Reservations, "reserve", _reserve_whenever),),
        first_seed=1_260,
    ),
    Mutant("an old read is fresh enough", (Patch(pass_step, "_is_fresh", lambda *_: True),)),
    Mutant(
        "reads count whenever they began",
        (
            Patch(live_evidence, "valid_after", lambda known: NEVER),
            Patch(live_evidence, "_settled", lambda *_: True),
        ),
    ),
    Mutant("one doubtful read is enough", (Patch(live_evidence, "_one_read_is_enough", lambda *_: True),)),
    Mutant("no pause after a failure", (Patch(retry, "back_off_s", lambda failures: 0.0),)),
    Mutant("changes of the file unnoticed", (Patch(loop.Loop, "run", _first_file_for_ever),)),
    Mutant(
        "sends what was there before",
        (Patch(reconcile, "send", _send_what_was), Patch(pass_sending, "_replanned_request", _same)),
    ),
    Mutant("deaf to being stopped", (Patch(reconcile, "_called_off", _ignores_cancellation),)),
    Mutant("acknowledgement not recorded", (Patch(Proofs, "acknowledge", _not_recorded),)),
    Mutant("fights go on for ever", (Patch(pauses, "MOST_HEALS", 1_000_000),)),
    Mutant("headers on record", (Patch(Reservations, "_record_attempt", _headers_on_record),)),
    Mutant("send deadline not passed", (Patch(pass_sending, "SEND_DEADLINE_S", FOREVER),)),
    Mutant(
        "echo's family ignored",
        (Patch(pass_sending, "interpret_reply", _family_of_echo_ignored),),
        feature=Feature.ODD_REPLIES,
        first_seed=100,
    ),
    Mutant(
        "any of several echoed rows",
        (Patch(pass_sending, "interpret_reply", _any_row_of_echo),),
        feature=Feature.ODD_REPLIES,
        first_seed=16,
    ),
    Mutant("adopted as of now", (Patch(Proofs, "adopt", _adopted_as_of_now),)),
    Mutant("no spacing after 50011", (Patch(Ledger, "throttled", property(lambda ledger: False)),)),
    Mutant(
        "policy judged after narrowing",
        (Patch(planning._Planner, "_file_changes", _judged_after_narrowing),),
        feature=Feature.POLICIES,
        first_seed=150,
    ),
    Mutant(
        "policy not asked in run",
        (Patch(pass_planning, "_rules", _no_policy_in_run),),
        feature=Feature.POLICIES,
    ),
    Mutant(
        "reviewed with another before",
        (Patch(family_decision, "_as_reviewed", _whatever_was_before),),
        feature=Feature.REVIEWS,
        first_seed=3,
    ),
    Mutant(
        "pauses ignored", (Patch(pass_planning, "active_pauses", lambda *_: ()),), feature=Feature.PAUSES
    ),
    Mutant("loosen first", (Patch(plan, "_sending_rank", _loosen_first),)),
    Mutant("mixed drift not healed", (Patch(planning, "target", _mixed_left),), first_seed=190),
    Mutant("restored as one", (Patch(planning, "target", _restored_as_one),)),
    Mutant(
        "what was accepted before is forgotten", (Patch(family_facts, "may_be_live", _only_the_newest),)
    ),
    _of_feature(
        "measured from live", Feature.POLICIES, Patch(planning, "family_facts", _measured_from_live)
    ),
    Mutant("lock released before settling", (Patch(pass_sending, "_settle", _settled_after_the_lock),)),
    _of_feature(
        "a read is as old as its beginning",
        Feature.SLOW,
        Patch(pass_step, "_is_fresh", _fresh_from_its_beginning),
    ),
    Mutant("reads follow reads at once", (Patch(pass_step, "repeat_after_s", lambda repeated: 0.0),)),
    _of_feature(
        "a family has no back-off",
        Feature.LASTING_FATE,
        Patch(RetryRecord, "not_before", lambda *_, **__: NEVER),
    ),
    _of_feature(
        "an apply keeps the lock while it retries",
        Feature.LASTING_FATE,
        Patch(pass_reading, "_keeps_lock", _lock_held_while_waiting),
    ),
    _of_feature(
        "a retried loosening takes the last slot",
        Feature.LASTING_FATE,
        Patch(Change, "slots_left", _last_slot_for_loosening),
    ),
    _of_feature(
        "a retry takes the last slot",
        Feature.LASTING_FATE,
        Patch(Change, "slots_left", _last_slot_before_others),
        first_seed=195,
    ),
    _of_feature(
        "the first in order is waited for",
        Feature.LASTING_FATE,
        Patch(pass_step, "next_request", _first_in_order),
        Patch(pass_sending, "next_request", _first_in_order),
    ),
    Mutant("a success ends no back-off", (Patch(row_mapping, "retries_from_rows", _successes_forgotten),)),
    _of_feature(
        "the account backs off with a family",
        Feature.LASTING_FATE,
        Patch(pass_sending, "_family_failed", _account_backs_off),
    ),
    _of_feature(
        "no back-off of what was not sent",
        Feature.LASTING_FATE,
        Patch(pass_sending, "_family_failed", _unsent_is_nothing),
    ),
    Mutant(
        "what was not sent holds the account",
        (Patch(pass_sending, "_family_failed", _unsent_holds_the_account),),
        first_seed=22_933,
    ),
    Mutant(
        "an unconfirmed row is no drift",
        (Patch(planning._Planner, "_target", _unconfirmed_is_no_drift),),
        first_seed=6_150,
    ),
    _of_feature(
        "protection off is no row", Feature.ODD_LISTS, Patch(live_rows, "_is_unset", _off_is_unset)
    ),
    _of_feature(
        "codes about a contract stop the account", Feature.LASTING_FATE, Patch(codes, "TABLE", _CONTRACT)
    ),
    Mutant(
        "a doubtful family holds all",
        (
            Patch(pass_step, "next_request", _nothing_while_in_doubt),
            Patch(pass_sending, "next_request", _nothing_while_in_doubt),
        ),
        first_seed=1_456,
    ),
    _of_feature(
        "an odd row makes a list no answer",
        Feature.ODD_LISTS,
        Patch(replies, "parse_live", _only_complete_lists),
    ),
    _of_feature(
        "almost a family's name is another's",
        Feature.ODD_LISTS,
        Patch(live_evidence, "why_unreadable", lambda *_: None),
    ),
    _of_feature(
        "a wrapped refusal is definite",
        Feature.ODD_REPLIES,
        Patch(pass_sending, "interpret_reply", _without_wrapper),
    ),
    _of_feature(
        "a row's sCode is not looked at", Feature.ODD_REPLIES, Patch(replies, "_refusals", lambda _: ())
    ),
    _of_feature(
        "rejected for ever",
        Feature.ODD_REPLIES,
        Patch(pass_sending, "rejected_again_after_s", lambda times: FOREVER),
        Patch(pass_planning, "_forget_rejections", lambda self: None),
    ),
    _of_feature(
        "busy means rejected",
        Feature.ODD_REPLIES,
        Patch(
            reply_rules,
            "_BY_CLASS",
            _table_with(
                ReplyClass.BUSY, ReplyVerdict(AttemptStatus.REJECTED, True, ReplyHandling.BACK_OFF)
            ),
        ),
    ),
    _of_feature(
        "decided once only",
        Feature.EDITS_WHILE_OPENING,
        Patch(pass_sending, "_replanned_request", _decided_before),
        first_seed=2_700,
    ),
    _of_feature(
        "pauses not seen in reserving",
        Feature.PAUSES,
        Patch(row_mapping, "pauses_request", lambda *_: False),
    ),
    _of_feature(
        "an answer is no review", Feature.REVIEWS, Patch(reconcile, "_ask_for_review", _answer_forgotten)
    ),
    _of_feature(
        "an unreadable policy is none",
        Feature.POLICIES,
        Patch(pass_planning, "_rules", _unreadable_is_none),
    ),
    Mutant(
        "anything goes at once after a proof",
        (Patch(planning, "protects_at_once", _goes_at_once),),
        first_seed=180,
    ),
    Mutant(
        "protective by the read alone",
        (Patch(planning, "protects_at_once", _protects_by_the_read),),
        first_seed=5_113,
    ),
    _of_feature(
        "a missing row is gone at once",
        Feature.ODD_LISTS,
        Patch(live_evidence, "_view_of_missing", _gone_at_once),
    ),
    _of_feature(
        "a failed read shows that a family is gone",
        Feature.ODD_LISTS,
        Patch(Reads, "without_answer", _failed_is_gone),
    ),
    _of_feature(
        "superseded attempts never end",
        Feature.DRIFT_IN_DOUBT,
        Patch(family_facts, "_superseded", lambda *_: False),
    ),
    Mutant(
        "superseded attempts end at once",
        (
            Patch(family_facts, "_superseded", _superseded_early),
            Patch(proofs, "reflects_until", lambda begun_at: FOREVER),
        ),
    ),
    _of_feature(
        "a stale file loosens",
        Feature.LAGGING_FILES,
        Patch(family_facts, "is_other_file", lambda *_, **__: False),
        Patch(family_decision, "is_other_file", lambda *_, **__: False),
    ),
    _of_feature(
        "a restart is a change of the file",
        Feature.LAGGING_FILES,
        Patch(pass_planning, "_accept_file", _always_changed),
        first_seed=7_070,
    ),
    _of_feature(
        "two controllers",
        Feature.LAGGING_FILES,
        Patch(AccountLocks, "try_control", _every_process_controls),
    ),
    _of_feature(
        "proofs of an account name",
        Feature.RENAMES,
        Patch(AccountSession, "row_clock", _row_clock_of_account),
        Patch(row_mapping, "known_from_rows", _known_of_account),
    ),
    _of_feature(
        "suspension not compared",
        Feature.SUSPENSION,
        Patch(pass_values.PassContext, "notice_suspension", lambda self: False),
    ),
    Mutant(
        "reads outlive a clock error",
        (Patch(pass_sending, "_sync_clock", _synced_and_remembered),),
        first_seed=1_165,
    ),
    _of_feature(
        "a failed COMMIT is forgotten by the rate",
        Feature.FILE_FAILURE,
        Patch(FirstSeen, "remember_uncommitted", lambda *_: None),
    ),
    _of_feature(
        "a failed COMMIT is a yes",
        Feature.FILE_FAILURE,
        Patch(Reservations, "reserve", _reserved_if_unanswered),
    ),
    _of_feature(
        "a busy file ends the loop",
        Feature.FILE_FAILURE,
        Patch(errors, "sqlite_error", _busy_is_unusable),
        first_seed=1_850,
    ),
    _of_feature(
        "a full disk ends the loop", Feature.FILE_FAILURE, Patch(sqlite_file, "disk_full", _unusable)
    ),
    _of_feature(
        "a connection is used on after a failure",
        Feature.FILE_FAILURE,
        Patch(SqliteState, "_undo", _only_rolled_back),
    ),
    _of_postgres("no generation check", Patch(LeaseLocks, "assert_held", _believed)),
    _of_postgres("generations counted by one", Patch(leases, "_stride", _counted_by_one)),
    _of_postgres("locks not renewed", Patch(LeaseLocks, "_renew", _not_renewed)),
    _of_postgres("locks of the far future kept", Patch(leases, "_TAKE", _UNEXPIRED_AS_BEFORE)),
    _of_postgres("pass lock instead of row lock", Patch(state, "_LOCKED_HISTORY", state._HISTORY)),
    _of_postgres("another timeline ignored", Patch(AccountSession, "_record_loss", _loss_ignored)),
    _of_postgres("first requests cannot be lost", Patch(state, "_NEW_BUDGET", _BORN_NOW)),
    Mutant(
        "other tables have every request of a User ID that was not seen",
        (Patch(SeenTable, "may_lack_requests", lambda *_: False),),
        WorldKind.POSTGRES,
        feature=Feature.TABLES_MADE_ANEW,
    ),
    _of_postgres("one request lost at the most", Patch(ledger_mapping, "BURST", 1)),
    _of_postgres(
        "a loss leaves no doubt", Patch(row_mapping, "loss_rows", _doubts_not_lost), first_seed=320
    ),
    _of_postgres("a loss takes no slot", Patch(row_mapping, "loss_rows", _requests_not_lost)),
    _of_postgres(
        "newcomers not doubted",
        Patch(Proofs, "_mark_first_adoptions_uncertain", _newcomers_believed),
        first_seed=635,
    ),
    _of_postgres(
        "numbers trusted after a loss",
        Patch(ledger_mapping, "same_attempt", lambda *_: True),
        first_seed=1_150,
    ),
    _of_postgres(
        "aged by the database's clock", Patch(AccountSession, "row_clock", _row_clock_by_database)
    ),
    _of_postgres("other hosts' rows at face value", Patch(FirstSeen, "local", _own_instant)),
    _of_postgres("other hosts' rows long past", Patch(FirstSeen, "local", _long_ago)),
    _of_postgres("no answer to COMMIT is a yes", Patch(Reservations, "reserve", _reserved_if_unanswered)),
    _of_postgres(
        "no answer to COMMIT is a no", Patch(Reservations, "reserve", _reserved_again), first_seed=260
    ),
    _of_postgres("verdicts said twice", Patch(Reservations, "settle", _settled_again), first_seed=220),
    _of_postgres(
        "verdicts need the lock", Patch(Reservations, "settle", _settled_by_the_holder), first_seed=190
    ),
    _of_postgres("adoptions without the lock", Patch(Proofs, "adopt", _adopted_by_anybody), first_seed=55),
    _of_postgres(
        "overrides take no time",
        Patch(pass_sending, "_record_overrides", _overrides_take_no_time),
        Patch(Reservations, "reserve", _reserve_whenever),
        first_seed=375,
    ),
    _of_postgres(
        "no read after others' proofs", Patch(Reads, "with_record", lambda reads, *_: reads), first_seed=45
    ),
    _of_postgres("reads ahead said before the locks", Patch(PostgresState, "_claim", _asked_before_locked)),
    _of_postgres(
        "not forgotten after own writes",
        Patch(state._Statements, "run", _run_and_remembered),
        Patch(state._Statements, "run_each", _run_each_and_remembered),
        Patch(AccountSession, "decide", _losses_left_to_others),  # else a plan records each loss before
    ),
    _of_postgres("one ledger per account, on hosts", *_BY_ACCOUNT),
    _of_postgres(
        "one family read after a suspension",
        Patch(pass_values.PassContext, "notice_suspension", _suspension_changes_no_step),
        first_seed=3_965,
    ),
)
