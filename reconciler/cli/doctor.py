"""``mmp doctor``: checks everything that can prevent a run, and shows what to do about each problem."""

from __future__ import annotations

import click

from reconciler.cli.options import (
    config_option,
    config_paths,
    exchange_options,
    output_option,
    parse_exchange_address,
    policy_option,
    state_location,
    state_options,
)
from reconciler.cli.output import Output
from reconciler.core.doctor import Purpose


@click.command()
@config_option
@policy_option
@state_options
@exchange_options
@click.option(
    "--for",
    "purpose",
    type=click.Choice([purpose.value for purpose in Purpose]),
    default=Purpose.APPLY.value,
    show_default=True,
    help="What the key is for: plan needs Read, apply needs Read and Trade.",
)
@click.option("--allow-withdraw", is_flag=True, help="Do not refuse a key that may withdraw.")
@output_option("text", "json")
@click.pass_context
def doctor(
    ctx: click.Context,
    /,
    config: tuple[str, ...],
    policy_file: str | None,
    state: str | None,
    allow_filesystems: tuple[str, ...],
    base_url: str,
    allow_hosts: tuple[str, ...],
    purpose: str,
    allow_withdraw: bool,
    output_format: str,
    color: str,
    log_format: str | None,
    log_level: str,
    **_unused: object,
) -> None:
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

    from reconciler import logs
    from reconciler.cli.doctor_checks import DoctorOptions, examine
    from reconciler.config.load import load_configs
    from reconciler.core.doctor import doctor_exit_status
    from reconciler.documents.doctor import doctor_document
    from reconciler.documents.plan import one_or_list
    from reconciler.errors import overall_status
    from reconciler.render.doctor import doctor_text

    out = Output(output_format, color)
    logs.configure_logging(log_format=log_format, level=log_level, color=out.colored_stderr())
    examination = DoctorOptions(
        base=parse_exchange_address(base_url, allow_hosts),
        state=state_location(state, config, allow_filesystems),
        policy_file=policy_file,
        purpose=Purpose(purpose),
        allow_withdraw=allow_withdraw,
    )
    readings = load_configs(config_paths(config))
    checkups = [asyncio.run(examine(reading, examination)) for reading in readings]
    if out.json:
        out.document(one_or_list("doctor", [doctor_document(checkup) for checkup in checkups]))
    else:
        out.result("\n".join(doctor_text(checkup, paint=out.paint()) for checkup in checkups))
    ctx.exit(overall_status([doctor_exit_status(checkup.findings) for checkup in checkups]))
