"""What the documentation says of flags, statuses, formats and codes is what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from reconciler.cli.main import COMMANDS, cli
from reconciler.config.settings import read_config
from reconciler.controller.loop import BURST_S, STOPPED_RETRY_S
from reconciler.controller.pass_limiter import LONGEST_WAIT_S
from reconciler.core.live_evidence import READ_LAG_S
from reconciler.core.monitoring.account_runtime import SILENCE_S
from reconciler.core.pacing import (
    BURST_AGAIN_AFTER,
    EPS_S,
    GUARD_S,
    LATEST_ARRIVAL_S,
    SEND_DEADLINE_S,
    SPACING_S,
    WINDOW_S,
)
from reconciler.core.problems import any_error
from reconciler.core.retry import LONG_BACK_OFF_S, LOOSENING_RETRY_S, PROTECTIVE_RETRY_S
from reconciler.documents.plan import one_or_list
from reconciler.errors import Exit
from reconciler.render.plan_text import _LOOK
from reconciler.schema_files import schema_text
from reconciler.web.routes import ANSWER_COUNTS_S, PING_TIMEOUT_S

DOCS = Path(__file__).parents[2] / "docs"
MINE = (
    "commands",
    "documents",
    "exit-codes",
    "file-format",
    "operating",
    "safety",
    "sidecar",
    "metrics",
    "replicas",
)
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
YAML = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SAID = re.compile(r'(?:log\(\s*"|_say\(\s*"|logger\.)(debug|info|warning|error)(?:",\s*|\()"([^"]+)"')


def text(name: str) -> str:
    return (DOCS / f"{name}.md").read_text(encoding="utf-8")


def section(name: str, heading: str) -> str:
    """Return what stands under a second-level heading."""
    return text(name).split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


def tables(markdown: str) -> list[list[list[str]]]:
    """Return every table as rows of cells, without head and rule."""
    blocks = re.findall(r"(?:^\|.*\n)+", markdown, re.MULTILINE)
    cells = re.compile(r"(?<!\\)\|")
    return [
        [[cell.strip() for cell in cells.split(line.strip()[1:-1])] for line in block.splitlines()[2:]]
        for block in blocks
    ]


def command(verb: str) -> click.Command:
    found = cli.get_command(click.Context(cli), verb)
    assert found is not None
    return found


def flags(verb: str) -> set[str]:
    found = command(verb)
    below = list(found.commands.values()) if isinstance(found, click.Group) else []
    options = [param for one in [found, *below] for param in one.params if isinstance(param, click.Option)]
    return {name for option in options for name in (*option.opts, *option.secondary_opts)}


EVERY_FLAG = {flag for verb in COMMANDS for flag in flags(verb)} | {"--help", "--version"}

FLAGS_OF_OTHERS = {"--init"}
"""Flags of other programs: of ``docker run``."""


# ---- commands ------------------------------------------------------------------------------------


def test_every_command_has_a_line_and_there_are_no_others() -> None:
    assert [row[0] for row in tables(text("commands"))[0]] == [
        f"[`mmp {verb}`](reference/commands.md#mmp-{verb})" for verb in COMMANDS
    ]
    assert set(re.findall(r"^## mmp (\w+)$", text("commands"), re.MULTILINE)) <= set(COMMANDS)


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_command_has_an_example_in_its_help(verb: str) -> None:
    shown = re.findall(rf"^\$ .*mmp {verb}\b", section("reference/commands", f"mmp {verb}"), re.MULTILINE)
    assert shown
    assert "Example" in (command(verb).help or "")


def test_the_signs_of_a_plan_are_documented() -> None:
    shown = {(row[0].strip("`"), row[1]) for row in tables(section("commands", "mmp plan"))[0]}
    assert {(sign, direction.value) for direction, (sign, _) in _LOOK.items()} <= shown


# ---- exit codes ----------------------------------------------------------------------------------


def test_the_readme_tells_every_exit_status_and_no_other() -> None:
    (message,) = [rows for rows in tables(text("../README")) if rows[0][0] == "0"]
    assert [int(one) for row in message for one in row[0].split(", ")] == [int(status) for status in Exit]


# ---- the file ------------------------------------------------------------------------------------


def test_the_example_of_the_file_holds_without_a_warning() -> None:
    (example,) = YAML.findall(text("file-format"))
    reading = read_config(example.encode(), "mmp.yaml")
    assert reading.problems == ()
    assert reading.desired is not None


def test_documented_values_mean_what_the_document_states() -> None:
    for written_, means in tables(section("file-format", "The three fields"))[1]:
        name, _, value = written_.strip("`").partition(": ")
        fields = {"timeInterval": "1s", "frozenInterval": "1s", "qtyLimit": "1"} | {name: value}
        lines = "".join(f"    {key}: {one}\n" for key, one in fields.items())
        content = f"version: 1\nenvironment: live\nfamilies:\n  BTC-USD:\n{lines}"
        reading = read_config(content.encode(), "mmp.yaml")
        assert reading.desired is not None
        assert bool(reading.problems) == ("warning" in means), written_
        assert not any_error(reading.problems)


# ---- documents -----------------------------------------------------------------------------------


def test_every_format_is_documented_with_the_one_of_several_accounts() -> None:
    package = DOCS.parent / "reconciler"
    source = "\n".join(file.read_text(encoding="utf-8") for file in package.rglob("*.py"))
    formats = set(re.findall(r'"format": "(mmp/[a-z]+/1)"', source))
    formats |= {
        one_or_list(kind, [{}, {}])["format"] for kind in re.findall(r'several\(\s*"([a-z]+)"', source)
    }
    assert len(formats) > 12
    assert [one for one in sorted(formats) if f"`{one}`" not in text("documents")] == []


def test_every_schema_that_is_named_is_there() -> None:
    named = re.findall(r"`mmp schema ([a-z]+)`", text("documents"))
    listed = section("commands", "mmp schema").split("of a document:")[1]
    names = re.findall(r"`([a-z]+)`", listed)
    assert set(named) < set(names)
    for name in names:
        assert schema_text(name)


# ---- operating and safety ------------------------------------------------------------------------


def test_the_bounds_of_a_hang_are_the_code_s() -> None:
    message = " ".join(text("sidecar").split())
    assert f"`/livez` fails {SILENCE_S:.0f} s after the loop was due" in message
    assert f"after `--lock-timeout` and {BURST_S + LONGEST_WAIT_S:.0f} s" in message
    assert f"a retry of at most {max(STOPPED_RETRY_S, LONG_BACK_OFF_S):.0f} s" in message
    assert f"the process hangs | `/livez` fails within {ANSWER_COUNTS_S + PING_TIMEOUT_S:.0f} s" in message


def test_the_numbers_of_the_proof_are_the_code_s() -> None:
    safety = " ".join(text("safety").split())
    assert f"hi + {WINDOW_S + EPS_S:.3f} s > t" in safety
    assert f"reservation + {LATEST_ARRIVAL_S:.0f} s" in safety
    assert f"{SEND_DEADLINE_S:.0f} s from the reservation to the first byte" in safety
    assert f"requests are sent {SPACING_S:.0f} s apart until {BURST_AGAIN_AFTER} in a row" in safety
    assert f"nothing is sent for {LATEST_ARRIVAL_S + GUARD_S:.0f} s" in safety
    assert f"a read that began {LATEST_ARRIVAL_S + READ_LAG_S:.0f} s later" in safety
    waits = ", ".join(f"{wait:.0f}" for wait in PROTECTIVE_RETRY_S)
    assert f"waits {waits} s; a change that loosens up to {LOOSENING_RETRY_S[-1]:.0f} s" in safety


# ---- all of them ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*MINE, "policy", "reviewed-changes", "../README", "../CHANGELOG"])
def test_only_flags_and_commands_that_exist_are_named(name: str) -> None:
    prose = text(name)
    ours = "\n".join(
        line for line in prose.splitlines() if "mmp" in line or not line.startswith((" ", "$"))
    )
    assert set(FLAG.findall(ours)) - EVERY_FLAG - FLAGS_OF_OTHERS == set()
    commands = re.findall(r"(?:`|\$ |run: )mmp ([a-z]+)\b", prose)
    assert set(commands) - set(COMMANDS) == set()


def test_every_path_in_the_architecture_exists() -> None:
    root = DOCS.parent
    named = re.findall(r"`([\w/]+(?:\.py|/))`", text("../ARCHITECTURE"))
    assert len(named) > 50
    places = ("", "reconciler/")
    assert [path for path in named if not any((root / place / path).exists() for place in places)] == []


def test_every_safety_rule_names_the_tests_that_hold_it() -> None:
    (rules,) = tables(section("../ARCHITECTURE", "Rules that make it safe"))
    assert [rule.split()[0] for rule, _, _ in rules] == [str(number) for number in range(1, 9)]
    assert all(re.fullmatch(r"`tests/[\w/]+\.py`(, `tests/[\w/]+\.py`)*", held) for _, _, held in rules)


@pytest.mark.parametrize("name", MINE)
def test_lines_can_be_read_in_a_terminal(name: str) -> None:
    body = re.sub(r"^```.*?^```$", "", text(name), flags=re.MULTILINE | re.DOTALL)
    long = [line for line in body.splitlines() if len(line) > 115 and not line.startswith("|")]
    assert long == []
