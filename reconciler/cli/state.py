"""``mmp state``: copy a state from a file into PostgreSQL, and verify a state."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

import click

from reconciler import factories
from reconciler.cli import flags
from reconciler.cli.options import CommandOptions, state_location, with_options
from reconciler.core.history_records import StateCheck
from reconciler.documents.status import paused_document
from reconciler.errors import Exit, MmpError, UsageError
from reconciler.render.status import check_text
from reconciler.store.location import PostgresUrl, StateFile, StateLocation

WRONG_WAY = UsageError(
    "copy-direction",
    "a state can be copied only from a file into PostgreSQL",
    "write it like: mmp state copy .mmp/state.db postgresql://user@host/database",
)
"""The message when the locations have another form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyOptions(CommandOptions):
    """The options of ``state copy``."""

    source: str = field(repr=False)
    target: str = field(repr=False)
    undo: bool


@click.group()
def state() -> None:
    """Copy a state to PostgreSQL, or verify every record of a state.

    \b
    Examples:
      mmp state copy .mmp/state.db postgresql://desk@db.internal/mmp
      mmp state check
    """


@state.command()
@click.argument("source", metavar="SQLITE")
@click.argument("target", metavar="POSTGRES")
@flags.filesystem_option
@flags.lock_timeout_option
@click.option("--undo", is_flag=True, help="Use the file again after a copy that was not completed.")
@flags.output_option("text", "json")
@with_options(CopyOptions)
def copy(options: CopyOptions) -> None:
    """Copy a state file into a PostgreSQL state, and retire the file.

    Copies all records or none. Refused if PostgreSQL already has one of the accounts or User IDs. Requests
    that count against the rate still count. Nothing is written to the file any more (state-moved). The
    same command completes a copy that was interrupted; with --undo the file is used again if the copy is
    not complete.

    \b
    Examples:
      mmp state copy .mmp/state.db postgresql://desk@db.internal/mmp
      mmp state copy .mmp/state.db "$MMP_STATE" --output json
    """
    import asyncio  # late: help texts and usage errors need no event loop

    out = options.out
    file, database = _places(options)
    counts = dict(asyncio.run(_copy(options, file, database)))
    if options.undo:
        result = f"{file} is in use again: {database} has none of its records"
    else:
        rows = ", ".join(f"{count} {table}" for table, count in counts.items())
        result = f"copied {file} to {database}: {rows}"
    if out.json:
        copied = {"source": str(file), "target": str(database), "rows": counts}
        out.document({"format": "mmp/state-copy/1", **copied})
        return
    out.result(f"{result}\n")
    if not options.undo:
        out.info(f"use --state {database} from now on: nothing is written to {file} any more")


@state.command()
@flags.config_option
@flags.state_options
@flags.output_option("text", "json")
@with_options(CommandOptions)
def check(options: CommandOptions) -> None:
    """Verify every record of a state, and that none is missing; changes nothing.

    Exit status 1 if something is damaged; each damaged record is named. In a state file the number of
    records that decide is verified too; in PostgreSQL the server's own checksums do that.

    \b
    Examples:
      mmp state check
      mmp state check --state postgresql://desk@db.internal/mmp --output json
    """
    import asyncio  # late: help texts and usage errors need no event loop

    from reconciler.clock import SystemClock

    out, place = options.out, options.location()
    found = asyncio.run(_check(place))
    if out.json:
        document = {"state": str(place), "rows": dict(found.rows), "damaged": list(found.damaged)}
        paused = [paused_document(*one) for one in found.paused]
        out.document({"format": "mmp/state-check/1", **document, "paused": paused})
    else:
        out.result(check_text(str(place), found, SystemClock().wall(), paint=out.paint()))
    if found.damaged:
        raise click.exceptions.Exit(Exit.FAILED)


async def _check(place: StateLocation) -> StateCheck:
    from reconciler.clock import SystemClock

    async with factories.open_state_readonly(place, SystemClock(), verify_rows=False) as state:
        if state is None:
            raise MmpError("state-missing", f"there is no state {place}", "name the state with --state")
        return await state.check()


def _places(options: CopyOptions) -> tuple[StateFile, PostgresUrl]:
    """Return the two locations, or raise UsageError; MmpError if there is no file to copy."""
    source = state_location(options.source, (), options.allow_filesystems)
    match source, state_location(options.target, ()):
        case (StateFile() as file, PostgresUrl() as database):
            if not os.path.exists(file.path):  # Path.exists raises for a path that this user may not reach
                raise MmpError(
                    "state-missing",
                    f"there is no state at {file}, or this user may not reach it",
                    "name the file to be copied",
                )
            return file, database
        case _:
            raise WRONG_WAY


async def _copy(options: CopyOptions, file: StateFile, database: PostgresUrl) -> Mapping[str, int]:
    """Copy the file, or undo a copy; returns the number of copied rows of each table."""
    from reconciler.clock import SystemClock

    clock = SystemClock()
    async with (
        factories.open_state(database, clock, options.lock_timeout_s) as target,
        factories.open_state(file, clock, options.lock_timeout_s) as source,
    ):
        # Imported only after the store is known to be available.
        from reconciler.store.copy_to_postgres import copy_state, undo

        if options.undo:
            await undo(source, target)  # type: ignore[arg-type]  # opened by their locations
            return {}
        return await copy_state(source, target)  # type: ignore[arg-type]  # opened by their locations
