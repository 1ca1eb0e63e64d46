"""Opens the state and builds the clients of the exchange. It decides nothing else."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar

from reconciler.core.model import Desired
from reconciler.core.monitoring.state_timeline import MAX_GAP_S
from reconciler.core.reply import Reply
from reconciler.errors import StateUnusable, UsageError
from reconciler.store.location import PostgresUrl, StateFile, StateLocation

if TYPE_CHECKING:
    from reconciler.okx.client import OkxClient, OkxTradingClient
    from reconciler.okx.exchange_clock import ExchangeClock
    from reconciler.okx.retrying_reads import RetryingReads
    from reconciler.okx.wire import BaseUrl
    from reconciler.ports import Clock, Exchange, StateBackend

AnyClient = TypeVar("AnyClient", bound="OkxClient")

NO_POSTGRES = UsageError(
    "no-postgres", "PostgreSQL support is not installed", "install mmp-reconciler[postgres]"
)
"""The error for a ``postgresql://`` address when the extra for PostgreSQL is not installed."""


def reading_client(
    desired: Desired, base: BaseUrl, clock: Clock, exchange_clock: ExchangeClock | None = None
) -> OkxClient:
    """Return a client that cannot send Set MMP, for a dry run.

    The clients of one command share ``exchange_clock``.
    """
    from reconciler.okx.client import OkxClient

    return _client(OkxClient, desired, base, clock, exchange_clock)


def trading_client(
    desired: Desired, base: BaseUrl, clock: Clock, exchange_clock: ExchangeClock | None = None
) -> OkxTradingClient:
    """Return a client that can send Set MMP; the clients of one command share ``exchange_clock``."""
    from reconciler.okx.client import OkxTradingClient

    return _client(OkxTradingClient, desired, base, clock, exchange_clock)


def _client(
    kind: type[AnyClient],
    desired: Desired,
    base: BaseUrl,
    clock: Clock,
    exchange_clock: ExchangeClock | None,
) -> AnyClient:
    from reconciler.okx.credentials import load_credentials
    from reconciler.okx.exchange_clock import ExchangeClock

    credentials = load_credentials(desired.credentials_prefix, os.environ)
    return kind(
        base, desired.environment, credentials, clock, exchange_clock=exchange_clock or ExchangeClock()
    )


def retrying_reads(exchange: Exchange, clock: Clock, *, timeout_s: float | None = None) -> RetryingReads:
    """Return the reads of ``exchange``; a failed read is retried for a while, with a log line each time.

    No try starts later than ``timeout_s`` from now; None: each read is retried for about 30 s.
    """
    from reconciler.okx.retrying_reads import RetryingReads

    return RetryingReads(exchange, clock, on_retry=_log_retry, timeout_s=timeout_s)


def _log_retry(reply: Reply) -> None:
    from reconciler import logs

    code = {"code": reply.code} if reply.code.isdigit() else {}
    logs.log("warning", "read failed, trying again", reason=reply.message or reply.code, **code)


@asynccontextmanager
async def open_state(
    place: StateLocation, clock: Clock, lock_timeout_s: float, *, max_gap_s: float = MAX_GAP_S
) -> AsyncIterator[StateBackend]:
    """Open the state for writing, and create it if there is none; it is closed at the end.

    ``max_gap_s``: the longest time between two observations of one observed period (``run``).
    """
    from reconciler import logs
    from reconciler.clock import boot_identity
    from reconciler.store.engine import StateOptions
    from reconciler.store.state_registry import StateRegistry, runtime_folder

    folder, boot = runtime_folder(os.geteuid(), os.environ), boot_identity()
    # The states that this user writes to on this machine.
    registry = StateRegistry(folder, clock, boot, lambda text: logs.log("warning", text))
    options = StateOptions(clock, boot, lock_timeout_s, max_gap_s=max_gap_s, registry=registry)
    match place:
        case StateFile(path, allow_filesystems):
            from reconciler.store.sqlite.state import open_waiting

            opening: Awaitable[StateBackend] = open_waiting(
                str(path), options, allow_filesystems=allow_filesystems
            )
        case PostgresUrl(text):
            opening = postgres().open_state(text, options)
    state = await opening
    try:
        yield state
    finally:
        await state.close()


@asynccontextmanager
async def open_state_readonly(
    place: StateLocation, clock: Clock, *, verify_rows: bool = True
) -> AsyncIterator[StateBackend | None]:
    """Open the state read-only; None when there is none.

    ``verify_rows=False`` also opens a state with damaged rows, for the check that reports them.
    """
    from reconciler.clock import boot_identity

    boot = boot_identity()
    match place:
        case StateFile(path, allow_filesystems):
            from reconciler.store.sqlite.state import open_existing

            state: StateBackend | None = open_existing(
                str(path),
                clock=clock,
                boot=boot,
                allow_filesystems=allow_filesystems,
                verify_rows=verify_rows,
            )
        case PostgresUrl(text):
            state = await postgres().open_existing(text, clock=clock, boot=boot)
    try:
        yield state
    finally:
        if state is not None:
            await state.close()


async def check_state_writable(place: StateLocation) -> None:
    """Raise MmpError unless the state could be written, or created if there is none; changes nothing."""
    if isinstance(place, PostgresUrl):
        postgres()
        from reconciler.store.postgres import permission_check

        await permission_check.refuse_unwritable(place.text)
    else:
        _check_file_writable(place)


def _check_file_writable(place: StateFile) -> None:
    """Raise MmpError unless a state file, and files beside it, could be written."""
    from reconciler.store.sqlite import mounts
    from reconciler.store.sqlite.file import WRITE_THERE, failure_beside

    real = Path(os.path.realpath(place.path))
    mounts.refuse_unfit(str(real), mounts.read_mountinfo(), place.allow_filesystems)
    # os.path.exists: Path.exists raises for a path that this user may not reach.
    folder = next(folder for folder in real.parents if os.path.exists(folder))
    for path in (real, folder) if os.path.exists(real) else (folder,):
        if not os.access(path, os.W_OK):
            raise StateUnusable(
                "state-unwritable",
                f"the state {place.path} cannot be written: no right to write {path}",
                WRITE_THERE,
            )
    if (failing := failure_beside(str(folder / real.name))) is not None:
        raise failing


def postgres() -> ModuleType:
    """Return the PostgreSQL engine; raises UsageError if the extra for it is not installed."""
    try:
        from reconciler.store.postgres import state
    except ModuleNotFoundError as missing:
        if missing.name not in ("psycopg", "psycopg_binary"):
            raise
        raise NO_POSTGRES from None
    from reconciler import logs

    # psycopg would write its own message to stderr when a statement could not be cancelled.
    logs.silence_logger("psycopg")
    return state
