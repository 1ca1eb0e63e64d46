"""``mmp doctor``: checks everything that can prevent a run, and shows what to do about each problem."""

from __future__ import annotations

from dataclasses import dataclass

import click

from reconciler.cli import flags
from reconciler.cli.options import CommandOptions, with_options
from reconciler.core.doctor import Purpose
from reconciler.errors import Exit, overall_status


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorOptions(CommandOptions):
    """The options of ``doctor``."""

    purpose: str
    allow_withdraw: bool


@click.command()
@flags.config_option
@flags.policy_option
@flags.state_options
@flags.exchange_options
@click.option(
    "--for",
    "purpose",
    type=click.Choice([purpose.value for purpose in Purpose]),
    default=Purpose.APPLY.value,
    show_default=True,
    help="What the key is for: plan needs Read, apply needs Read and Trade.",
)
@click.option("--allow-withdraw", is_flag=True, help="Do not refuse a key that may withdraw.")
@flags.output_option("text", "json")
@with_options(DoctorOptions)
def doctor(options: DoctorOptions) -> Exit:
    """Check file, policy, keys, host, clock, account, MMP and state: one line each, with what to do.

    Changes nothing, neither at the exchange nor in the state. Marks: ✓ good, ! advice, ✗ must be
    corrected, - could not be checked. A failed read is repeated for 30 s; a refused key is not
    retried.

    \b
    Exit status: 0 nothing to correct, 8 account or key, 4 a file is invalid, 1 host or state.

    \b
    Examples:
      mmp doctor
      mmp doctor --for plan --output json
    """
    import asyncio  # late: help texts and usage errors need no event loop

    from reconciler.cli.doctor_checks import examine
    from reconciler.config.load import load_configs
    from reconciler.core.doctor import doctor_exit_status
    from reconciler.documents.doctor import doctor_document
    from reconciler.documents.plan import one_or_list
    from reconciler.render.doctor import doctor_text

    out = options.out
    options.configure_logging()
    base, place = options.exchange_address(), options.location()
    readings = load_configs(options.paths)
    checkups = [asyncio.run(examine(reading, options, base, place)) for reading in readings]
    if out.json:
        out.document(one_or_list("doctor", [doctor_document(checkup) for checkup in checkups]))
    else:
        out.result("\n".join(doctor_text(checkup, paint=out.paint()) for checkup in checkups))
    return overall_status([doctor_exit_status(checkup.findings) for checkup in checkups])
