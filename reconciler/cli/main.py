"""The ``mmp`` command: finds the verb, and turns every failure into one message and one status.

Verbs are imported only when used, so that offline commands start fast and ``mmp --help`` imports
none of them.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from importlib import import_module
from io import TextIOWrapper
from keyword import iskeyword

import click

from reconciler import __version__
from reconciler.background_writer import DRAIN_TIMEOUT_S
from reconciler.cli.output import (
    Output,
    StderrStyle,
    raw_flag_value,
    raw_flag_values,
    silence_stdout,
    stdout_error,
    stdout_failed,
    take_stderr,
)
from reconciler.errors import Exit, MmpError, UsageError, internal_error
from reconciler.process_signals import SIGNALS
from reconciler.regular_file import accept_pipes
from reconciler.secret import configure_masking, without_addresses, without_arguments
from reconciler.secrets_to_mask import configured_secrets

COMMANDS = {
    "init": "Write a commented starter file.",
    "import": "Write live settings as a file, and record them.",
    "doctor": "Check file, key, account, host, clock and state, with what to do.",
    "validate": "Check files: every problem, with its position.",
    "diff": "Show the changes between two files or revisions. Offline.",
    "plan": "Show what apply would do, and when. Sends nothing.",
    "show": "Show a saved plan, and whether it is stale.",
    "apply": "Make live settings equal to the file, once.",
    "run": "Keep live settings equal to the file, until stopped.",
    "status": "Show desired, applied and live settings, and what is pending.",
    "history": "Show every request and its result.",
    "pause": "Stop writes to families for a time.",
    "resume": "End a pause.",
    "state": "Copy a state file to PostgreSQL, or verify a state.",
    "reset": "End the freeze of one family.",
    "explain": "Explain a code, a field, a word, or the values of a family. Offline.",
    "schema": "Print a published JSON Schema.",
    "simulator": "Run the simulated exchange on loopback.",
    "demo": "Show the main functions on the simulated exchange.",
    "completion": "Print the completion script of a shell.",
}
"""Every verb, in the order of use, with its line in ``mmp --help``."""

SENDING = {"run", "apply", "reset"}
"""Verbs that write to the exchange: they end even if nothing reads their stderr. The others wait for its
reader, as commands in a pipeline do: stderr may be all of their output."""


class LazyCommands(click.Group):
    """The group of verbs; each is in ``reconciler.cli.<verb>`` under its own name."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the verb; ``main`` reports an interrupt, without click's empty line before it."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise click.Abort from None

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Return the verbs in the order of use."""
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one verb; None when there is no such verb."""
        if cmd_name not in COMMANDS:
            return None
        place = f"{cmd_name}_" if iskeyword(cmd_name) else cmd_name
        command = getattr(import_module(f"reconciler.cli.{place}"), place)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of verbs without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb, suggesting the nearest one for a mistyped name."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise click.UsageError(f"there is no command {args[0]!r}{_nearest(args[0])}", ctx)
        return super().resolve_command(ctx, args)


@click.group(
    cls=LazyCommands, invoke_without_command=False, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, prog_name="mmp", message="%(prog)s %(version)s")
def cli() -> None:
    """Keep OKX Market Maker Protection settings equal to mmp.yaml.

    \b
    Examples:
      mmp validate                check the file, offline
      mmp plan                    what would change, and when
      mmp apply --yes             once, for pipelines
      mmp run                     the sidecar
      mmp demo                    a tour on the simulated exchange

    Results go to stdout, everything else to stderr.
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its status. Never returns."""
    argv = sys.argv[1:] if arguments is None else arguments
    _prepare_streams()
    configure_masking(configured_secrets(os.environ, argv, raw_flag_values("--notify", argv)))
    drain_timeout_s = DRAIN_TIMEOUT_S if SENDING & set(argv[:1]) else None
    stderr = take_stderr(waits_for_reader=drain_timeout_s is None)
    if stderr is not None:
        SIGNALS.before_end = partial(stderr.writer.drain, DRAIN_TIMEOUT_S)
    text = StderrStyle(
        json_lines=raw_flag_value("--log-format", argv, os.environ.get("MMP_LOG_FORMAT", "")) == "json"
    )
    accept_pipes(argv[:1] != ["run"])
    try:
        status = _status(argv, text)
        sys.stdout.flush()
    except BrokenPipeError:
        silence_stdout()
        status = Exit.FAILED
    except MmpError as lost:  # the failure's own document could not be written
        Output(style=text).error(lost)
        status = lost.exit_status
    finally:
        accept_pipes(False)
    try:
        if stderr is not None:
            stderr.writer.close(drain_timeout_s)
    except KeyboardInterrupt:
        status = Exit.INTERRUPTED
    SIGNALS.ignore()
    sys.exit(int(status))


def _status(argv: list[str], text: StderrStyle) -> int:
    """Run the verb and report its failure; returns the exit status. Raises MmpError if stdout fails."""
    out = Output(raw_flag_value("--output", argv, "text"), style=text)
    try:
        SIGNALS.let_interrupts_raise()  # not before: only here an interrupt is reported without a traceback
        status = cli.main(args=argv, prog_name="mmp", standalone_mode=False, obj=text)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.exceptions.NoArgsIsHelpError as bare:
        Output().info(bare.format_message())
        return Exit.USAGE
    except click.ClickException as mistake:
        message = without_addresses(without_arguments(_in_one_line(mistake), argv))
        return _fail(out, UsageError("usage", message, _usage_hint(mistake)))
    except UsageError as mistake:
        return _fail(out, UsageError(mistake.code, without_arguments(mistake.message, argv), mistake.hint))
    except MmpError as problem:
        return _fail(out, problem)
    except (KeyboardInterrupt, click.Abort):
        _fail(out, MmpError("interrupted", "interrupted before the end", "run it again"))
        return Exit.INTERRUPTED
    except BrokenPipeError:
        raise
    except Exception as bug:
        lost = isinstance(bug, OSError) and stdout_failed()  # a help text is click's own to write
        return _fail(out, stdout_error(bug) if lost else internal_error(bug))
    return status if isinstance(status, int) else Exit.DONE


def _fail(out: Output, problem: MmpError) -> Exit:
    SIGNALS.limit_result_wait()
    out.failure(problem)
    return problem.exit_status


def _usage_hint(mistake: click.ClickException) -> str:
    context = mistake.ctx if isinstance(mistake, click.UsageError) else None
    return f"see '{context.command_path} --help'" if context else "see 'mmp --help'"


def _in_one_line(mistake: click.ClickException) -> str:
    """Return click's message on one line: it lists choices on lines of their own."""
    return " ".join(mistake.format_message().split())


def _nearest(name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, COMMANDS, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _prepare_streams() -> None:
    """Escape what stdout's encoding lacks, as stderr does: a result must not fail for its characters.

    A closed stream becomes one that refuses writing (stdout) or swallows it (stderr), so that no other
    file gets its number.
    """
    if sys.stdout is None:
        sys.stdout = open(os.devnull, encoding="utf-8")  # noqa: SIM115 - open until the end
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - open until the end
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
