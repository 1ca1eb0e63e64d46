"""``mmp import``: writes the live settings to a file and adopts them. Writes nothing to the exchange."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import click

from reconciler import factories
from reconciler.atomic_create import STDOUT, fail_if_exists
from reconciler.cli import flags
from reconciler.cli.flag_types import Parsed
from reconciler.cli.options import CommandOptions, state_location, with_options
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions(CommandOptions):
    """The options of ``import``."""

    path: str
    account: str
    environment: str
    prefix: str
    adopt: bool

    @property
    def naming(self) -> Naming:
        """The names that the file gives the account."""
        return Naming(self.account, Environment(self.environment), self.prefix)


def _prefix(text: str) -> str:
    """Return the prefix. No message repeats the text: it may be a key."""
    if not re.fullmatch("[A-Z][A-Z0-9_]{0,61}_", text, re.ASCII):
        raise ValueError("capitals, digits and underscores, ending with an underscore, as OKX_")
    return text


@click.command("import")
@click.option(
    "--out",
    "path",
    default=flags.DEFAULT_CONFIG,
    show_default=True,
    type=click.Path(),
    help="The file to write; '-' is stdout, and then nothing is recorded.",
)
@flags.naming_options(Environment.LIVE)
@click.option(
    "--prefix",
    type=Parsed("prefix_", _prefix),
    default=DEFAULT_PREFIX,
    show_default=True,
    help="Prefix of the key variables.",
)
@click.option(
    "--adopt",
    is_flag=True,
    help="Also record live for families that have a record, if the policy allows it.",
)
@flags.policy_option
@flags.state_options
@flags.exchange_options
@flags.output_option("text", "json")
@with_options(ImportOptions)
def import_(options: ImportOptions) -> None:
    """Write live settings as a minimal file: common values under defaults, a comment on each line.

    Needs a key with Read permission and sends nothing. Families without a record are recorded as
    adopted, so that mmp plan shows no changes for them afterwards. Never overwrites a file.

    With --adopt, families that have a record are recorded too, like an adoption in mmp plan: the policy
    or guard measures live from the accepted setting. If it refuses one, nothing is written or recorded
    (exit 3). Without --adopt the file is written, and mmp plan shows the refusal and its --allow.

    A read that fails is repeated for 30 s, then the command fails. A rejected key is not retried.

    \b
    Examples:
      mmp import && mmp plan
      mmp import --environment demo --account paper --out accounts/paper.yaml
      mmp import --adopt --out new.yaml
      mmp import --out -
    """
    import asyncio  # late: help texts and usage errors need no event loop

    from reconciler.config.policy import policy_for

    path, out = options.path, options.out
    if path == STDOUT and out.json:
        raise UsageError("one-stdout", "--out - and --output json both write to stdout", "leave one out")
    options.configure_logging()
    state = state_location(options.state, () if path == STDOUT else (path,), options.allow_filesystems)
    base = options.exchange_address()
    policy = None if path == STDOUT else valid_policy(policy_for(path, options.policy_file), out)
    if options.adopt and path == STDOUT:
        raise UsageError("adopt-stdout", "--adopt needs a file, but --out - writes none")
    fail_if_exists(path)
    _show(options, base, asyncio.run(_import(options, base, state, policy)), out)


async def _import(
    options: ImportOptions, base: BaseUrl, place: StateLocation, policy: Policy | None
) -> ImportResult:
    """Read live, write the file, and record what was read as applied."""
    from reconciler.clock import SystemClock
    from reconciler.controller.account_preflight import verify_key_owner, warn_of_clock
    from reconciler.controller.live_import import ImportResult, import_live, read_live

    clock, naming = SystemClock(), options.naming
    without_file = Desired(naming.account, naming.environment, {}, "", "", naming.prefix)
    client = factories.reading_client(without_file, base, clock)
    reads = factories.retrying_reads(client, clock)
    info = await verify_key_owner(without_file, base, reads, None, writing=False)
    warn_of_clock(client)
    read = await read_live(reads)
    file_of = partial(_file_of, options, base.host, info, clock)
    file = file_of(read)
    if options.path == STDOUT:
        return ImportResult(file)
    async with factories.open_state(place, clock, options.lock_timeout_s) as state:
        store = state.account(naming.account, naming.environment, base.kind)
        async with store.locked("import"):
            await store.identify(info.uid, base.host)
            return await import_live(store, reads, clock, read, file_of, policy=policy, adopt=options.adopt)


def _file_of(
    options: ImportOptions, host: str, info: AccountInfo, clock: Clock, read: LiveRead
) -> ImportedFile:
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
    text = import_text(live, options.naming, info, host=host, wall=clock.wall())
    reading = read_config(text.encode(), options.path)
    assert reading.desired is not None, reading.problems
    settings = {family: wanted.setting for family, wanted in reading.desired.families.items()}
    assert settings == live.settings, "the file does not have the settings that were read"
    return ImportedFile(options.path, text, reading.desired, live.left_out)


def _show(options: ImportOptions, base: BaseUrl, result: ImportResult, out: Output) -> None:
    file, naming = result.file, options.naming
    for family, why in file.left_out.items():
        out.info(f"warning[left-out] {family} is not in the file: {escape_unprintable(why)}")
    warn_of_first_records(result.unfit, out)
    if options.path == STDOUT:
        out.result(file.text)
    elif out.json:
        out.document(
            {
                "format": "mmp/import/1",
                "path": options.path,
                "account": naming.account,
                "environment": naming.environment.value,
                "families": list(file.desired.families),
                "left_out": [{"family": family, "reason": why} for family, why in file.left_out.items()],
            }
        )
    else:
        simulator = "SIMULATOR " if base.is_simulator else ""
        differing = f"what differs from the record of {', '.join(result.differing)}"
        shown = differing if result.differing else "no changes now"
        written = f"Wrote {escape_unprintable(options.path)}: {families(len(file.desired.families))}."
        out.result(f"{simulator}{written} mmp plan shows {shown}.\n")
