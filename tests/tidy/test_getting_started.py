"""docs/getting-started.md shows commands and flags there are, and the starter file as it is written."""

from __future__ import annotations

import re

import click
import pytest

from reconciler.cli.main import COMMANDS, cli
from reconciler.core.model import Environment
from reconciler.render.config_file import Naming, starter_text
from tests.tidy.source import files

TEXT = files()["docs/getting-started.md"]
SHOWN = re.findall(
    r"\bmmp ([a-z]+)((?: +(?:--?[a-z][a-z-]*|'[^']*'|\"[^\"]*\"|[^\s`#);-][^\s`#);]*))*)", TEXT
)


def flags(verb: str) -> set[str]:
    command = cli.get_command(click.Context(cli), verb)
    assert command is not None, verb
    return {name for param in command.params if isinstance(param, click.Option) for name in param.opts}


def test_every_command_shown_is_there_with_its_flags() -> None:
    assert len(SHOWN) > 20
    for verb, rest in SHOWN:
        assert verb in COMMANDS, verb
        used = set(re.findall(r"(?<!\S)--[a-z-]+", rest))
        assert used <= flags(verb), (verb, used)


@pytest.mark.parametrize(
    "verb", ["init", "import", "doctor", "pause", "resume", "reset", "explain", "completion"]
)
def test_every_verb_it_is_about_is_shown(verb: str) -> None:
    assert verb in {shown for shown, _ in SHOWN}


def test_the_starter_file_is_shown_as_it_is_written() -> None:
    (shown,) = re.findall(r"^```yaml\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    assert shown == starter_text(Naming("main", Environment.DEMO))
