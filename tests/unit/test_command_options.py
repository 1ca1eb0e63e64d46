"""The values of flags, and the one value that a command gets for all of them."""

from __future__ import annotations

import inspect
from dataclasses import MISSING, dataclass, fields
from typing import Any, get_type_hints

import click
import pytest
from click.testing import CliRunner

from reconciler.cli import flags
from reconciler.cli.flag_types import (
    ACCOUNT_NAME,
    DURATION,
    OVERRIDE,
    POLICY_HASH,
    WEBHOOK,
    Parsed,
    duration,
)
from reconciler.cli.main import cli
from reconciler.cli.options import CommandOptions, with_options
from reconciler.core.policy import Override, RefusalKind
from reconciler.errors import Exit, UsageError
from tests.unit.builders import BTC


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeUpOptions(CommandOptions):
    """A command with one flag of its own."""

    limit: int


def options_of(*arguments: str) -> MadeUpOptions:
    """Return what a command gets for these arguments."""
    found: list[MadeUpOptions] = []

    @click.command()
    @flags.config_option
    @flags.state_options
    @flags.family_option
    @click.option("--limit", type=int, default=5)
    @flags.output_option("text", "json")
    @with_options(MadeUpOptions)
    def made_up(options: MadeUpOptions) -> None:
        """Do nothing."""
        found.append(options)

    CliRunner().invoke(made_up, arguments, catch_exceptions=False)
    return found[0]


def all_commands() -> dict[str, click.Command]:
    """Return every command and those below it."""
    with click.Context(cli) as context:
        found = {name: cli.get_command(context, name) for name in cli.list_commands(context)}
    below = {
        f"{name} {verb}": command
        for name, group in found.items()
        if isinstance(group, click.Group)
        for verb, command in group.commands.items()
    }
    return {name: command for name, command in {**found, **below}.items() if command is not None}


def options_kinds() -> dict[str, type[CommandOptions]]:
    """Return the class of the options of every command that takes its flags as one value."""
    hints = {
        name: get_type_hints(inspect.unwrap(command.callback)).get("options")
        for name, command in all_commands().items()
        if command.callback is not None
    }
    return {name: kind for name, kind in hints.items() if kind is not None}


@pytest.mark.parametrize("name", options_kinds())
def test_the_options_of_a_command_have_a_field_for_each_of_its_flags(name: str) -> None:
    kind = options_kinds()[name]
    required = {each.name for each in fields(kind) if each.default is MISSING}
    given = {each.name for each in all_commands()[name].params}
    assert required <= given <= {each.name for each in fields(kind)}


def test_the_commands_with_many_flags_take_them_as_one_value() -> None:
    assert {name for name, command in all_commands().items() if len(command.params) > 10} <= {
        *options_kinds(),
        "simulator",
    }


def test_a_command_gets_the_defaults_of_its_flags_and_of_those_that_it_lacks() -> None:
    options = options_of()
    assert (options.limit, options.lock_timeout_s, options.output_format, options.config) == (
        5,
        30.0,
        "text",
        (),
    )
    assert (options.policy_file, options.yes, options.base_url) == (None, False, flags.DEFAULT_BASE_URL)
    assert options.paths == ("mmp.yaml",)


def test_a_command_gets_the_given_values() -> None:
    options = options_of(
        *("-c", "a.yaml", "-c", "b", "--family", "BTC-*", "--limit", "7"),
        *("--lock-timeout", "2m", "--output", "json", "--color", "never"),
    )
    assert (options.paths, options.globs, options.limit) == (("a.yaml", "b"), ("BTC-*",), 7)
    assert (options.lock_timeout_s, options.out.json, options.out.color) == (120.0, True, "never")


def test_a_command_keeps_its_name_and_help() -> None:
    @with_options(CommandOptions)
    def made_up(options: CommandOptions) -> int:
        """Do it."""
        return 7

    assert (made_up.__name__, made_up.__doc__, made_up(config=())) == ("made_up", "Do it.", 7)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("30s", 30.0),
        ("5m", 300.0),
        ("1.5h", 5400.0),
        ("2d", 172_800.0),
        ("7", 7.0),
        ("0", 0.0),
    ],
)
def test_a_time_span_is_read_into_seconds(text: str, seconds: float) -> None:
    assert DURATION.convert(text, None, None) == seconds


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (ACCOUNT_NAME, "desk-2.main", "desk-2.main"),
        (POLICY_HASH, "ABCDEF012345", "abcdef012345"),
        (OVERRIDE, "disable:BTC-USD", Override(RefusalKind.DISABLE, BTC)),
    ],
)
def test_a_value_is_read_and_a_value_that_was_read_stays_as_it_is(
    kind: Parsed[Any], text: str, value: object
) -> None:
    assert kind.convert(text, None, None) == value
    assert kind.convert(value, None, None) == value


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (DURATION, "soon", "'soon' is not a time span"),
        (DURATION, "-1s", "'-1s' is not a time span"),
        (DURATION, "1 s", "'1 s' is not a time span"),
        (duration(least_s=1.0), "999ms", "'999ms' is too short: it must be at least 1s"),
        (ACCOUNT_NAME, "Main", "'Main' is not an account name"),
        (ACCOUNT_NAME, "a" * 64, "is not an account name"),
        (POLICY_HASH, "12ab", "'12ab' does not name a policy by its sha256"),
        (OVERRIDE, "disable", "'disable' is not KIND:FAMILY with KIND one of loosen"),
        (OVERRIDE, "drift:BTC-USD", "'drift:BTC-USD' is not KIND:FAMILY"),
    ],
)
def test_a_value_that_cannot_be_read_is_a_usage_error(kind: Parsed[Any], text: str, message: str) -> None:
    with pytest.raises(click.BadParameter) as caught:
        kind.convert(text, None, None)
    assert message in caught.value.message


def test_the_message_about_a_webhook_does_not_repeat_its_address() -> None:
    with pytest.raises(click.BadParameter) as caught:
        WEBHOOK.convert("ftp://hooks.example/secret-token", None, None)
    assert "secret-token" not in caught.value.message


@pytest.mark.parametrize(
    "arguments",
    [["plan"], ["apply"], ["run"], ["pause", "--family", "*"], ["resume", "--family", "*"], ["status"]],
)
def test_an_invalid_state_flag_comes_before_a_missing_file(arguments: list[str]) -> None:
    ended = CliRunner().invoke(cli, [*arguments, "-c", "missing.yaml", "--state", "mysql://host/mmp"])
    assert isinstance(ended.exception, UsageError)
    assert ended.exception.code == "unknown-state"


@pytest.mark.parametrize("command", ["plan", "apply", "run", "status"])
def test_a_path_that_the_system_refuses_is_a_file_that_cannot_be_read(command: str) -> None:
    ended = CliRunner().invoke(cli, [command, "-c", f"{'a' * 300}.yaml"])
    assert ended.exit_code == Exit.INVALID, ended.output
    assert "[file-unreadable]" in ended.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["status", "--state", "postgresql://desk:hunter2@db/mmp"],
        ["state", "copy", "desk:hunter2@db", "postgresql://desk:hunter2@db/mmp"],
        ["plan", "--against", "https://desk:hunter2@host/status.json"],
        ["run", "--notify", "https://hooks.example/hunter2"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_options_that_are_printed_show_no_password(arguments: list[str]) -> None:
    name = " ".join(arguments[: 2 if arguments[0] == "state" else 1])
    context = all_commands()[name].make_context(name, arguments[len(name.split()) :])
    options = options_kinds()[name](**context.params)
    assert "hunter2" not in repr(options)
