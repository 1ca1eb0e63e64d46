"""The doors: configuration files in, exchange and state opened, each with one clear failure."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING

import click

from reconciler.cli.options import PostgresUrl, StateFile, StateLocation, config_paths
from reconciler.cli.output import Output, current_stderr_style
from reconciler.core.model import AccountInfo, Desired, ExchangeKind, Family, Known, Pause
from reconciler.core.monitoring.state_timeline import MAX_GAP_S
from reconciler.core.reply import STOPPING, Reply, ReplyClass
from reconciler.errors import AccountProblem, Exit, MmpError, UsageError

if TYPE_CHECKING:
    from reconciler.config.policy import PolicyReading
    from reconciler.config.settings import Reading
    from reconciler.core.accepted_settings import History
    from reconciler.core.events import ExchangeFailed, RequestSettled
    from reconciler.core.evidence import SeenRow
    from reconciler.core.missing_policy import GivenUp
    from reconciler.core.pacing import Ledger
    from reconciler.core.policy import Policy
    from reconciler.core.state_records import NameRecord, PolicyRecord
    from reconciler.okx.client import OkxClient, OkxTradingClient
    from reconciler.okx.exchange_clock import ExchangeClock
    from reconciler.okx.wire import BaseUrl
    from reconciler.ports import AccountStore, Clock, Exchange, StateBackend, Store
    from reconciler.reads import RetryingReads
    from reconciler.render.problems import Excerptable
    from reconciler.store.registry import StateRegistry
    from reconciler.watch.config_files import WatchedPolicy

RUN_AGAIN = "run it again in a while"
"""The advice when a command ends because the exchange did not answer for a while."""

NO_POSTGRES = UsageError(
    "no-postgres",
    "this installation cannot keep a state in PostgreSQL",
    "install mmp-reconciler[postgres]",
)
"""What is told of a ``postgresql://`` address where the extra that it takes is missing."""


def read_desired(config: Sequence[str], out: Output) -> tuple[Desired, ...]:
    """Read all configs; on any error tell every problem and exit 4, warnings only go to stderr."""
    from reconciler.config.load import load_configs

    return _all_good(load_configs(config_paths(tuple(config))), out)


def read_present(config: Sequence[str], out: Output) -> tuple[Desired, ...]:
    """Read the configs that are there, as ``read_desired`` does; those that are missing may come yet."""
    from reconciler.config.load import is_absent, load_configs

    readings = load_configs(config_paths(tuple(config)))
    return _all_good([reading for reading in readings if not is_absent(reading)], out)


def _all_good(readings: Sequence[Reading], out: Output) -> tuple[Desired, ...]:
    if any(reading.desired is None for reading in readings):
        print_problems(readings, out)
        raise click.exceptions.Exit(Exit.INVALID)
    print_warnings(readings, out)
    return tuple(reading.desired for reading in readings if reading.desired is not None)


def read_policies(desired: Sequence[Desired], named: str | None, out: Output) -> tuple[Policy | None, ...]:
    """Read each account's policy: the one named, else the one beside its config, else None.

    On any error every problem of every policy is told and the status is 4.
    """
    return tuple(reading.policy if reading else None for reading in _valid_policies(desired, named, out))


def watched_policies(
    desired: Sequence[Desired], named: str | None, out: Output
) -> tuple[WatchedPolicy, ...]:
    """Read each account's policy as ``read_policies`` does, to be read again later."""
    from reconciler.watch.config_files import WatchedPolicy

    found = _valid_policies(desired, named, out)
    return tuple(WatchedPolicy(each, one.path, named) for one, each in zip(desired, found, strict=True))


def _valid_policies(
    desired: Sequence[Desired], named: str | None, out: Output
) -> tuple[PolicyReading | None, ...]:
    from reconciler.config.policy_check import with_unmatched

    found = read_policy_files(desired, named)
    readings = [
        with_unmatched(reading, accounts_under(reading, desired, found, named))
        for reading in {each.path: each for each in found if each is not None}.values()
    ]
    if any(reading.policy is None for reading in readings):
        print_problems(readings, out)
        raise click.exceptions.Exit(Exit.INVALID)
    print_warnings(readings, out)
    return found


def read_policy_files(desired: Sequence[Desired], named: str | None) -> tuple[PolicyReading | None, ...]:
    """Read each account's policy, valid or not: the one named, else the one beside its config, or None."""
    from reconciler.config.policy import policy_for

    return tuple(policy_for(one.path, named) for one in desired)


def given_up(no_policy: str | None, reason: str | None) -> GivenUp | None:
    """Return the policy that ``--no-policy`` names, with the reason. Raises UsageError without one."""
    from reconciler.core.missing_policy import GivenUp
    from reconciler.core.problems import has_visible_text

    if no_policy is None:
        return None
    if reason is None or not has_visible_text(reason):
        raise UsageError(
            "no-reason",
            "--no-policy needs a reason",
            'add --reason "…" with text that people can read; it is recorded in the history',
        )
    return GivenUp(no_policy, reason)


def refuse_needless_no_policy(
    no_policy: str | None, named: str | None, found: Sequence[Policy | PolicyReading | None]
) -> None:
    """Raise UsageError where ``--no-policy`` is given and there is a policy file, or one is named."""
    if no_policy is None:
        return
    if named is not None:
        raise UsageError(
            "no-policy-named",
            f"--no-policy is for a policy file that is missing, and --policy (or MMP_POLICY) names {named}",
            "give one of the two",
        )
    for reading in found:
        if reading is not None:
            raise UsageError(
                "no-policy-found",
                f"--no-policy is for a policy file that is missing, and {reading.path} was found",
                "leave out --no-policy, or remove the file first",
            )


def accounts_under(
    policy: PolicyReading,
    desired: Sequence[Desired | None],
    policies: Sequence[PolicyReading | None],
    named: str | None,
) -> tuple[Desired, ...]:
    """Return the accounts that ``policy`` applies to; ``policies`` are those of ``desired``, one each.

    One that lies beside configs applies to every config of its folder, also to those that were not named.
    None where a config that it applies to is invalid: which families that has is not known.
    """
    from reconciler.config.load import load_configs

    under = [
        one
        for one, its in zip(desired, policies, strict=True)
        if its is not None and its.path == policy.path
    ]
    if policy.policy is None or not policy.policy.families:
        return ()
    if named is None:
        folder = os.path.join(os.path.dirname(policy.path), "")
        under += [reading.desired for reading in load_configs((folder or os.curdir,))]
    known = {(one.account, one.environment): one for one in under if one is not None}
    return () if None in under else tuple(known.values())


def print_problems(readings: Sequence[Excerptable], out: Output) -> None:
    """Write every problem: to stderr for people, to stdout as a document when one was asked for."""
    import sys

    from reconciler.render.problems import problems_document, problems_text

    problems = [problem for reading in readings for problem in reading.problems]
    if out.json:
        out.document(problems_document(problems))
    elif out.style.json_lines:
        for problem in problems:
            out.problem(problem)
    else:
        out.info(problems_text(readings, paint=out.paint(sys.stderr)).rstrip("\n"))


def print_warnings(readings: Sequence[Excerptable], out: Output) -> None:
    """Write warnings to stderr, one line each."""
    for reading in readings:
        for problem in reading.problems:
            out.problem(problem)


def base_url(text: str, allow_hosts: Sequence[str]) -> BaseUrl:
    """Return the exchange's address, or raise UsageError."""
    from reconciler.okx.wire import parse_base_url

    base = parse_base_url(text, frozenset(allow_hosts))
    current_stderr_style().simulator = is_simulator(base)
    return base


def reading_client(
    desired: Desired, base: BaseUrl, clock: Clock, timing: ExchangeClock | None = None
) -> OkxClient:
    """Return a client that cannot send Set MMP, for a dry run; clients of one verb share ``timing``."""
    from reconciler.okx.client import OkxClient
    from reconciler.okx.credentials import load_credentials

    credentials = load_credentials(desired.credentials_prefix, os.environ)
    return OkxClient(base, desired.environment, credentials, clock, timing=timing)


def trading_client(
    desired: Desired, base: BaseUrl, clock: Clock, timing: ExchangeClock | None = None
) -> OkxTradingClient:
    """Return a client that can send Set MMP; clients of one verb share ``timing``."""
    from reconciler.okx.client import OkxTradingClient
    from reconciler.okx.credentials import load_credentials

    credentials = load_credentials(desired.credentials_prefix, os.environ)
    return OkxTradingClient(base, desired.environment, credentials, clock, timing=timing)


def retrying_reads(exchange: Exchange, clock: Clock, *, timeout_s: float | None = None) -> RetryingReads:
    """Return the reads of ``exchange``, each repeated for a while when it fails, with a log line each.

    No try begins more than ``timeout_s`` from now; None: each read is repeated for about 30 s.
    """
    from reconciler.reads import RetryingReads

    return RetryingReads(exchange, clock, on_retry=_log_retry, timeout_s=timeout_s)


def _log_retry(reply: Reply) -> None:
    from reconciler import logs

    code = {"code": reply.code} if reply.code.isdigit() else {}
    logs.log("warning", "read failed, trying again", reason=reply.message or reply.code, **code)


@asynccontextmanager
async def open_state(
    place: StateLocation, clock: Clock, lock_timeout_s: float, *, max_gap_s: float = MAX_GAP_S
) -> AsyncIterator[StateBackend]:
    """Open the state for writing, bringing it into being when there is none; closed in the end.

    ``max_gap_s``: how far apart two looks of one watch may be (``run``).
    """
    state = await _open_state(place, clock, lock_timeout_s, max_gap_s)
    try:
        yield state
    finally:
        await state.close()


@asynccontextmanager
async def open_state_readonly(
    place: StateLocation, clock: Clock, *, verify_rows: bool = True
) -> AsyncIterator[StateBackend | None]:
    """Give the state for reading only, leaving it alone; None when there is none.

    What is read of a state that was moved is old, and that is said. ``verify_rows=False`` opens one with
    damaged rows as well, for the check that reports them.
    """
    state = await _open_existing(place, clock, verify_rows=verify_rows)
    try:
        if verify_rows and state is not None and (moved := await state.moved()) is not None:
            click.echo(f"warning: {moved.message}; {moved.hint}", err=True)
        yield state
    finally:
        if state is not None:
            await state.close()


async def _open_state(
    place: StateLocation, clock: Clock, lock_timeout_s: float, max_gap_s: float
) -> StateBackend:
    from reconciler.clock import boot_identity

    boot = boot_identity()
    registry = _state_registry(clock, boot)
    match place:
        case StateFile(path, allow_filesystems):
            from reconciler.store.sqlite import open_waiting

            return await open_waiting(
                str(path),
                allow_filesystems=allow_filesystems,
                clock=clock,
                boot=boot,
                lock_timeout_s=lock_timeout_s,
                max_gap_s=max_gap_s,
                registry=registry,
            )
        case PostgresUrl(text):
            engine = postgres()
            state: StateBackend = await engine.open_state(
                text,
                clock=clock,
                boot=boot,
                lock_timeout_s=lock_timeout_s,
                max_gap_s=max_gap_s,
                registry=registry,
            )
            return state


def _state_registry(clock: Clock, boot: str) -> StateRegistry:
    """Return the registry of the states that this user writes with on this machine."""
    from reconciler import logs
    from reconciler.store.registry import StateRegistry, runtime_folder

    folder = runtime_folder(os.geteuid(), os.environ)
    return StateRegistry(folder, clock, boot, lambda text: logs.log("warning", text))


async def _open_existing(place: StateLocation, clock: Clock, *, verify_rows: bool) -> StateBackend | None:
    from reconciler.clock import boot_identity

    boot = boot_identity()
    match place:
        case StateFile(path, allow_filesystems):
            from reconciler.store.sqlite import open_existing as open_sqlite

            return open_sqlite(
                str(path),
                clock=clock,
                boot=boot,
                allow_filesystems=allow_filesystems,
                verify_rows=verify_rows,
            )
        case PostgresUrl(text):
            state: StateBackend | None = await postgres().open_existing(text, clock=clock, boot=boot)
            return state


async def check_state_writable(text: str) -> None:
    """Raise MmpError unless a state could be kept at this address; what is tried is undone."""
    postgres()
    from reconciler.store.postgres import write_check

    await write_check.refuse_unwritable(text)


def postgres() -> ModuleType:
    """Return the PostgreSQL engine; raises UsageError where the extra that it takes is not installed."""
    try:
        from reconciler.store.postgres import state
    except ModuleNotFoundError as missing:
        if missing.name not in ("psycopg", "psycopg_binary"):
            raise
        raise NO_POSTGRES from None
    from reconciler import logs

    # Of a statement that could not be cancelled it would say so on stderr, in words of its own.
    logs.silence_logger("psycopg")
    return state


async def recorded_store(
    state: StateBackend | None, desired: Desired
) -> tuple[AccountStore, ExchangeKind] | None:
    """Return the account's store, and which kind of exchange it is stamped with.

    A renamed account is found by the User ID that its file expects. None when there is no state, or nothing
    on record of this account.
    """
    if state is None:
        return None
    kind = (await state.account(desired.account, desired.environment, ExchangeKind.OKX).snapshot()).kind
    if kind is not None:
        return state.account(desired.account, desired.environment, kind), kind
    before = await recorded_name(state, desired)
    if before is None:
        return None
    return state.account(before.account, desired.environment, before.kind), before.kind


async def recorded_name(state: StateBackend, desired: Desired) -> NameRecord | None:
    """Return another name that the state has for the User ID the file expects; None without a clear one."""
    names = await state.account(desired.account, desired.environment, ExchangeKind.OKX).names()
    if desired.account in {name.account for name in names}:
        return None
    same = [name for name in names if name.uid == desired.expected_uid]
    return same[0] if len({name.kind for name in same}) == 1 else None


@dataclass(frozen=True, slots=True)
class DryRunInputs:
    """What a dry run starts from; ``uid`` None: neither the exchange nor the state has it.

    ``pauses`` are those whose time is not over. ``policy`` is the one on record, None if none counts.
    """

    known: Mapping[Family, Known]
    ledger: Ledger
    uid: str | None
    pauses: tuple[Pause, ...] = ()
    last_rows: Mapping[Family, SeenRow] = field(default_factory=dict)
    accepted: Mapping[Family, History] = field(default_factory=dict)
    policy: PolicyRecord | None = None


async def load_dry_run_inputs(
    state: StateBackend | None, desired: Desired, base: BaseUrl, exchange: Exchange | None, clock: Clock
) -> DryRunInputs:
    """Return what a dry run knows, its pacing ledger and whose account it is; writes nothing anywhere.

    With an exchange the key's account is checked against the file and the state. Raises MmpError.
    """
    from reconciler.core.pacing import Ledger

    store = state.account(desired.account, desired.environment, base.kind) if state else None
    uid = None
    if exchange is not None:
        uid = (await verify_key_owner(desired, base, exchange, store, writing=False)).uid
    nothing_sent = Ledger(empty_since=clock.now())
    if store is None:
        return DryRunInputs({}, nothing_sent, uid)
    snapshot = await store.snapshot()
    ledger = snapshot.ledger or nothing_sent
    return DryRunInputs(
        await store.known(),
        ledger,
        uid or snapshot.uid,
        await store.pauses(),
        await store.last_rows(),
        snapshot.accepted,
        await store.policy_on_record(),
    )


async def verify_key_owner(
    desired: Desired, base: BaseUrl, exchange: Exchange, store: Store | None, *, writing: bool
) -> AccountInfo:
    """Return whose key this is, checked against the file and, where there is one, the state.

    Raises MmpError where the account must not be used so, or the exchange did not tell.
    """
    from reconciler.core.account_check import why_unusable

    info = await exchange.account()
    if isinstance(info, Reply):
        raise exchange_error("the exchange did not say whose key this is", info)
    problem = why_unusable(info, desired, writing=writing)
    if problem is not None:
        raise problem
    if store is not None:
        await store.identify(info.uid, base.host)
    return info


def is_simulator(base: BaseUrl) -> bool:
    """Tell whether the other end is the simulated exchange."""
    return base.kind is ExchangeKind.SIMULATOR


def exchange_error(what: str, reply: Reply) -> MmpError:
    """Return the failure of a read that is not repeated any more, with what to do about it."""
    from reconciler.controller.reconcile import is_account_error
    from reconciler.okx.codes import lookup

    kind = AccountProblem if is_account_error(reply) else MmpError
    if not reply.code.isdigit():
        return kind(reply.code, f"{what}: {reply.message or reply.reply_class.value}")
    known = lookup(reply.code)
    said = f' ("{reply.message}")' if reply.message else ""
    # The table's advice on the other classes is for run: that the program tries it again.
    hint = known.advice if reply.reply_class in STOPPING else RUN_AGAIN
    return kind(f"okx-{reply.code}", f"{what}: {known.meaning} [OKX {reply.code}{said}]", hint)


def hint_for(reply: Reply) -> str:
    """Return what to do about a refusal of OKX's; "" for acceptances and for what is not OKX's code."""
    from reconciler.okx.codes import lookup

    if not reply.code.isdigit() or reply.reply_class is ReplyClass.ACCEPTED:
        return ""
    return lookup(reply.code).advice


def hint_for_event(event: ExchangeFailed | RequestSettled) -> str:
    """Return what to do about a failure, as ``advice``; a question that was refused had no effect."""
    from reconciler.core import events
    from reconciler.okx.codes import lookup

    told, asked = hint_for(event.reply), isinstance(event, events.ExchangeFailed)
    return lookup(event.reply.code).advice_on_reads if told and asked else told


def timed_out(trouble: Reply | None) -> MmpError:
    """Return the failure of an apply that gave up, with the last trouble it had."""
    last = f"; the last trouble was: {trouble.message or trouble.code}" if trouble else ""
    return MmpError(
        "timed-out", f"not everything was settled in time{last}", "run it again, or raise --timeout"
    )


def warn_of_clock(exchange: OkxClient) -> None:
    """Warn when this machine's clock is off; the difference is compensated."""
    from reconciler import logs
    from reconciler.okx.client import LARGE_OFFSET_S

    offset_s = exchange.clock_offset_s
    if offset_s is not None and abs(offset_s) > LARGE_OFFSET_S:
        way = "behind" if offset_s > 0 else "ahead of"
        logs.log(
            "warning",
            f"this machine's clock is {abs(offset_s):.1f} s {way} the exchange's: compensated",
            offset_s=round(offset_s, 1),
        )
