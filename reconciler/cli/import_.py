"""``mmp import``: writes the live settings to a file and adopts them. Writes nothing to the exchange."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import click

from reconciler import factories
from reconciler.atomic_create import STDOUT, fail_if_exists
from reconciler.cli.flags import (
    DEFAULT_CONFIG,
    exchange_options,
    naming_options,
    output_option,
    policy_option,
    state_options,
)
from reconciler.cli.options import parse_exchange_address, state_location
from reconciler.cli.output import Output
from reconciler.cli.plan_output import warn_of_first_records
from reconciler.cli.read_files import valid_policy
from reconciler.core.model import Desired, Environment
from reconciler.core.problems import escape_unprintable
from reconciler.errors import MmpError, UsageError
from reconciler.render.config_file import DEFAULT_PREFIX, Naming
from reconciler.render.values import families
from reconciler.store.location import StateLocation

if TYPE_CHECKING:
    from reconciler.controller.live_import import ImportedFile, ImportResult
    from reconciler.core.model import AccountInfo, LiveRead
    from reconciler.core.policy import Policy
    from reconciler.okx.wire import BaseUrl
    from reconciler.ports import Clock


class PrefixType(click.ParamType[str]):
    """A prefix of environment variables, as the file format takes it."""

    name = "prefix_"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the prefix, or fail as a usage error that does not repeat it: it may be a key."""
        if not re.fullmatch("[A-Z][A-Z0-9_]{0,61}_", str(value), re.ASCII):
            self.fail("capitals, digits and underscores, ending with an underscore, as OKX_", param, ctx)
        return str(value)


@click.command("import")
@click.option(
    "--out",
    "path",
    default=DEFAULT_CONFIG,
    show_default=True,
    type=click.Path(),
    help="The file to write; '-' is stdout, and then nothing is recorded.",
)
@naming_options(Environment.LIVE)
@click.option(
    "--prefix",
    type=PrefixType(),
    default=DEFAULT_PREFIX,
    show_default=True,
    help="Prefix of the key variables.",
)
@click.option(
    "--adopt",
    is_flag=True,
    help="Also record live for families that have a record, if the policy allows it.",
)
@policy_option
@state_options
@exchange_options
@output_option("text", "json")
def import_(
    path: str,
    account: str,
    environment: str,
    prefix: str,
    adopt: bool,
    policy_file: str | None,
    state: str | None,
    allow_filesystems: tuple[str, ...],
    lock_timeout: float,
    base_url: str,
    allow_hosts: tuple[str, ...],
    output_format: str,
    color: str,
    log_format: str | None,
    log_level: str,
) -> None:
    """Write live settings as a minimal file: common values under defaults, a comment on each line.

    Needs a key with Read permission and sends nothing. Families without a record are recorded as
    adopted, so that mmp plan shows no changes for them afterwards. Never overwrites a file.

    With --adopt, families that have a record are recorded too, like an adoption in mmp plan: the policy
    or guard measures live from the accepted setting. If it refuses one, nothing is written or recorded
    (exit 3). Without --adopt the file is written, and mmp plan shows the refusal and its --allow.

    A read that fails is repeated for 30 s, then the command fails. A refused key is not retried.

    \b
    Examples:
      mmp import && mmp plan
      mmp import --environment demo --account paper --out accounts/paper.yaml
      mmp import --adopt --out new.yaml
      mmp import --out -
    """
    import asyncio  # late: help texts and usage errors need no event loop

    from reconciler import logs
    from reconciler.config.policy import policy_for

    out = Output(output_format, color)
    if path == STDOUT and out.json:
        raise UsageError("one-stdout", "--out - and --output json both write to stdout", "leave one out")
    logs.configure_logging(log_format=log_format, level=log_level, color=out.colored_stderr())
    asked = ImportOptions(
        path=path,
        naming=Naming(account, Environment(environment), prefix),
        state=state_location(state, () if path == STDOUT else (path,), allow_filesystems),
        lock_timeout_s=lock_timeout,
        base=parse_exchange_address(base_url, allow_hosts),
        adopt=adopt,
        policy=None if path == STDOUT else valid_policy(policy_for(path, policy_file), out),
    )
    if adopt and path == STDOUT:
        raise UsageError("adopt-stdout", "--adopt needs a file, but --out - writes none")
    fail_if_exists(path)
    _show(asked, asyncio.run(_import(asked)), out)


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """The options on the command line of ``import``."""

    path: str
    naming: Naming
    state: StateLocation
    lock_timeout_s: float
    base: BaseUrl
    adopt: bool
    policy: Policy | None


async def _import(asked: ImportOptions) -> ImportResult:
    """Read live, write the file, and record what was read as applied."""
    from reconciler.clock import SystemClock
    from reconciler.controller.identify import verify_key_owner, warn_of_clock
    from reconciler.controller.live_import import ImportResult, import_live, read_live

    clock, naming = SystemClock(), asked.naming
    without_file = Desired(naming.account, naming.environment, {}, "", "", naming.prefix)
    client = factories.reading_client(without_file, asked.base, clock)
    reads = factories.retrying_reads(client, clock)
    info = await verify_key_owner(without_file, asked.base, reads, None, writing=False)
    warn_of_clock(client)
    read = await read_live(reads)
    file_of = partial(_file_of, asked, info, clock)
    file = file_of(read)
    if asked.path == STDOUT:
        return ImportResult(file)
    async with factories.open_state(asked.state, clock, asked.lock_timeout_s) as state:
        store = state.account(naming.account, naming.environment, asked.base.kind)
        async with store.locked("import"):
            await store.identify(info.uid, asked.base.host)
            return await import_live(
                store, reads, clock, read, file_of, policy=asked.policy, adopt=asked.adopt
            )


def _file_of(asked: ImportOptions, info: AccountInfo, clock: Clock, read: LiveRead) -> ImportedFile:
    """Return the file of a live read, after checking that it has the settings that were read."""
    from reconciler.config.settings import read_config
    from reconciler.controller.live_import import ImportedFile
    from reconciler.render.config_file import import_text, imported

    live = imported(read)
    if not live.settings:
        message = "; ".join(f"{family}: {why}" for family, why in live.left_out.items())
        raise MmpError(
            "nothing-live",
            "the exchange lists no family that a file can express" + (f" ({message})" if message else ""),
            "write a starter file with mmp init, and add your families",
        )
    text = import_text(live, asked.naming, info, host=asked.base.host, wall=clock.wall())
    reading = read_config(text.encode(), asked.path)
    assert reading.desired is not None, reading.problems
    settings = {family: wanted.setting for family, wanted in reading.desired.families.items()}
    assert settings == live.settings, "the file does not have the settings that were read"
    return ImportedFile(asked.path, text, reading.desired, live.left_out)


def _show(asked: ImportOptions, result: ImportResult, out: Output) -> None:
    file, naming = result.file, asked.naming
    for family, why in file.left_out.items():
        out.info(f"warning[left-out] {family} is not in the file: {escape_unprintable(why)}")
    warn_of_first_records(result.unfit, out)
    if asked.path == STDOUT:
        out.result(file.text)
    elif out.json:
        out.document(
            {
                "format": "mmp/import/1",
                "path": asked.path,
                "account": naming.account,
                "environment": naming.environment.value,
                "families": list(file.desired.families),
                "left_out": [{"family": family, "reason": why} for family, why in file.left_out.items()],
            }
        )
    else:
        simulator = "SIMULATOR " if asked.base.is_simulator else ""
        differing = f"what differs from the record of {', '.join(result.differing)}"
        shown = differing if result.differing else "no changes now"
        written = f"Wrote {escape_unprintable(asked.path)}: {families(len(file.desired.families))}."
        out.result(f"{simulator}{written} mmp plan shows {shown}.\n")
