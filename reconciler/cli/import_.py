"""``mmp import``: writes the live settings to a file and adopts them. Writes nothing to the exchange."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import click

from reconciler import factories
from reconciler.atomic_create import STDOUT, fail_if_exists, write_new
from reconciler.cli.account_options import naming_options
from reconciler.cli.exchange_checks import verify_key_owner, warn_of_clock
from reconciler.cli.options import (
    DEFAULT_CONFIG,
    exchange_options,
    output_option,
    parse_exchange_address,
    policy_option,
    state_location,
    state_options,
)
from reconciler.cli.output import Output
from reconciler.cli.plan_output import warn_of_first_records
from reconciler.cli.read_files import print_problems
from reconciler.core.evidence import SECOND_READ_AFTER_S, SURVEY_READS, Absent, Reads, evidence_of
from reconciler.core.model import (
    Accepting,
    Confirmed,
    Desired,
    Environment,
    Family,
    Known,
    LiveRead,
    LiveRow,
    NeverApplied,
    Uncertain,
)
from reconciler.core.plan import Action, Doubts, PlanConstraints
from reconciler.core.planning import make_plan
from reconciler.core.policy import GUARD_RULE
from reconciler.core.policy_rules import unfit
from reconciler.core.problems import escape_unprintable
from reconciler.core.reply import Reply
from reconciler.errors import ChangeRefused, Exit, MmpError, UsageError
from reconciler.okx.hints import exchange_error
from reconciler.render.config_file import DEFAULT_PREFIX, Naming
from reconciler.render.values import families
from reconciler.store.location import StateLocation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reconciler.core.model import AccountInfo, Setting
    from reconciler.core.plan import Plan
    from reconciler.core.policy import Policy, Refusal
    from reconciler.core.requests import RecordedInputs
    from reconciler.okx.wire import BaseUrl
    from reconciler.ports import AccountStore, Clock, Exchange
    from reconciler.render.config_file import Imported


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

    out = Output(output_format, color)
    if path == STDOUT and out.json:
        raise UsageError("one-stdout", "--out - and --output json both want stdout", "leave one out")
    logs.configure_logging(log_format=log_format, level=log_level, color=out.colored_stderr())
    asked = ImportOptions(
        path=path,
        naming=Naming(account, Environment(environment), prefix),
        state=state_location(state, () if path == STDOUT else (path,), allow_filesystems),
        lock_timeout_s=lock_timeout,
        base=parse_exchange_address(base_url, allow_hosts),
        adopt=adopt,
        policy=None if path == STDOUT else _policy(path, policy_file, out),
    )
    if adopt and path == STDOUT:
        raise UsageError("adopt-stdout", "--adopt records what the file says, and --out - writes no file")
    fail_if_exists(path)
    _tell(asked, asyncio.run(_import(asked)), out)


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


@dataclass(frozen=True, slots=True)
class ImportResult:
    """The result of the reads, and the file's text; ``differing`` families have another recorded value.

    ``desired`` is the content of the file. ``unfit``: what the policy refuses among the first records.
    """

    found: Imported
    text: str
    desired: Desired
    differing: tuple[Family, ...] = ()
    unfit: tuple[Refusal, ...] = ()


async def _import(asked: ImportOptions) -> ImportResult:
    """Read live, write the file, and record what was read as applied."""
    from reconciler.clock import SystemClock

    clock = SystemClock()
    nobody_yet = _desired(asked.naming)
    client = factories.reading_client(nobody_yet, asked.base, clock)
    reads = factories.retrying_reads(client, clock)
    info = await verify_key_owner(nobody_yet, asked.base, reads, None, writing=False)
    warn_of_clock(client)
    read = await _read(reads)
    written = _written(asked, info, read, clock)
    if asked.path == STDOUT:
        return written
    async with factories.open_state(asked.state, clock, asked.lock_timeout_s) as state:
        store = state.account(asked.naming.account, asked.naming.environment, asked.base.kind)
        async with store.locked("import"):
            await store.identify(info.uid, asked.base.host)
            return await _keep(asked, info, store, reads, clock, read)


async def _keep(
    asked: ImportOptions,
    info: AccountInfo,
    store: AccountStore,
    exchange: Exchange,
    clock: Clock,
    read: LiveRead,
) -> ImportResult:
    """Write the file, and record what the read proves, beside the existing records, under the lock."""
    read_inputs = await store.recorded_inputs()
    known = read_inputs.known
    reads = Reads(read)
    for _ in range(SURVEY_READS):
        if _proven(reads, known) == read.rows.keys() | known.keys():
            break
        # Written since, or so recently that the read may lag behind it.
        await clock.sleep_until(read.begun_at + SECOND_READ_AFTER_S)
        read = await _read(exchange)
        reads = reads.push(read)
    written = _written(asked, info, read, clock)
    proven = _proven(reads, known)
    settings = {
        family: one
        for family, one in written.found.settings.items()
        if family in proven and _is_unrecorded(family, read_inputs)
    }
    asked, missing = await _with_policy_on_record(asked, store)
    first, digest = unfit(settings, asked.policy), ""
    if asked.adopt:
        plan = _adoptions(written.desired, read_inputs, reads, asked, clock, missing=missing)
        digest = plan.digest
        settings |= {one.family: one.after for one in plan.of(Action.ADOPT) if one.known_at is None}
    write_new(asked.path, written.text)
    last_rows = (await store.last_rows()).items()
    await store.record_live(
        read, last_seen={one: seen.row for one, seen in last_rows if one not in read.rows}
    )
    accepting = {family: Accepting(setting, digest) for family, setting in settings.items()}
    await store.adopt(settings, read_begun_at=read.begun_at, accepting=accepting)
    others = {family: one for family, one in written.found.settings.items() if family not in settings}
    return replace(written, differing=_differing(others, known), unfit=first)


def _is_unrecorded(family: Family, read_inputs: RecordedInputs) -> bool:
    """Return whether a family has no record: no request, no proof, no accepted setting."""
    return (
        isinstance(read_inputs.known.get(family, NeverApplied()), NeverApplied)
        and family not in read_inputs.accepted
    )


async def _with_policy_on_record(asked: ImportOptions, store: AccountStore) -> tuple[ImportOptions, bool]:
    """Return the options with the recorded policy if the policy file is missing, and whether it is."""
    from reconciler.controller.account_policy import remembered

    record = await store.policy_on_record() if asked.policy is None else None
    if record is None:
        return asked, False
    return replace(asked, policy=remembered(record)), True


def _adoptions(
    desired: Desired,
    read_inputs: RecordedInputs,
    reads: Reads,
    asked: ImportOptions,
    clock: Clock,
    *,
    missing: bool,
) -> Plan:
    """Return the plan of a file with the live settings. Raises Refused if an adoption is refused."""
    rules = PlanConstraints(
        policy=asked.policy,
        policy_unreadable=missing,
        accepted=read_inputs.accepted,
        wall=clock.wall(),
        doubts=Doubts.LEAVE_OUT,
    )
    plan = make_plan(desired, read_inputs.known, reads, rules, clock.now())
    refused = [one for one in plan.refusals if one.family in desired.families]
    if refused:
        refusals = "; ".join(f"{one.family}: {one.sentence}" for one in refused)
        raise ChangeRefused(
            "guard-disable" if all(one.rule == GUARD_RULE for one in refused) else "policy",
            f"nothing was written or recorded, because the {'policy' if asked.policy else 'guard'} refuses"
            f" to accept what is live: {refusals}",
            "leave out --adopt: then the file is written, and mmp plan shows each refusal and its --allow",
            path=asked.policy.path if asked.policy else None,
        )
    return plan


def _policy(path: str, named: str | None, out: Output) -> Policy | None:
    """Return the policy that is named, or that is beside the file; None without one."""
    from reconciler.config.policy import policy_for

    found = policy_for(path, named)
    if found is not None and found.policy is None:
        print_problems([found], out)
        raise click.exceptions.Exit(Exit.INVALID)
    return None if found is None else found.policy


def _differing(settings: Mapping[Family, Setting], known: Mapping[Family, Known]) -> tuple[Family, ...]:
    """Return the families whose record is uncertain or differs from live: the record is not changed."""
    records = ((family, known.get(family, NeverApplied())) for family in settings)
    return tuple(
        family
        for family, one in records
        if isinstance(one, Uncertain) or (isinstance(one, Confirmed) and one.setting != settings[family])
    )


async def _read(exchange: Exchange) -> LiveRead:
    read = await exchange.read_live()
    if isinstance(read, Reply):
        raise exchange_error("live settings could not be read", read)
    return read


def _proven(reads: Reads, known: Mapping[Family, Known]) -> set[Family]:
    """Return the families for which the reads prove what is in force, or that nothing is."""
    assert reads.latest is not None
    return {
        family
        for family in reads.latest.rows.keys() | known.keys()
        if isinstance(evidence_of(family, known.get(family, NeverApplied()), reads), LiveRow | Absent)
    }


def _written(asked: ImportOptions, info: AccountInfo, read: LiveRead, clock: Clock) -> ImportResult:
    from reconciler.render.config_file import import_text, imported

    found = imported(read)
    if not found.settings:
        raise _nothing(found)
    text = import_text(found, asked.naming, info, host=asked.base.host, wall=clock.wall())
    return ImportResult(found, text, _checked(text, asked, found))


def _checked(text: str, asked: ImportOptions, found: Imported) -> Desired:
    """Return the settings of the file, after checking that they are the ones that were read."""
    from reconciler.config.settings import read_config

    reading = read_config(text.encode(), asked.path)
    assert reading.desired is not None, reading.problems
    said = {family: wanted.setting for family, wanted in reading.desired.families.items()}
    assert said == found.settings, "the file does not say what was read"
    return reading.desired


def _desired(naming: Naming) -> Desired:
    """Return the account as it is before its file: named, without desired settings."""
    return Desired(naming.account, naming.environment, {}, "", "", naming.prefix)


def _nothing(found: Imported) -> MmpError:
    message = "; ".join(f"{family}: {why}" for family, why in found.left_out.items())
    return MmpError(
        "nothing-live",
        "the exchange lists no family that a file could hold" + (f" ({message})" if message else ""),
        "write a starter file with mmp init, and put your families in",
    )


def _tell(asked: ImportOptions, written: ImportResult, out: Output) -> None:
    found, naming = written.found, asked.naming
    for family, why in found.left_out.items():
        out.info(f"warning[left-out] {family} is not in the file: {escape_unprintable(why)}")
    warn_of_first_records(written.unfit, out)
    if asked.path == STDOUT:
        out.result(written.text)
    elif out.json:
        left_out = [{"family": family, "reason": why} for family, why in found.left_out.items()]
        out.document(
            {
                "format": "mmp/import/1",
                "path": asked.path,
                "account": naming.account,
                "environment": naming.environment.value,
                "families": list(found.settings),
                "left_out": left_out,
            }
        )
    else:
        message = families(len(found.settings))
        simulator = "SIMULATOR " if asked.base.is_simulator else ""
        shown = f"what differs from the record of {', '.join(written.differing)}"
        shown = shown if written.differing else "no changes now"
        out.result(
            f"{simulator}Wrote {escape_unprintable(asked.path)}: {message}. mmp plan shows {shown}.\n"
        )
