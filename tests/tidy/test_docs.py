"""What the documentation says of flags, statuses, formats and codes is what the code says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import click
import pytest
from jsonschema.validators import Draft202012Validator

from reconciler.cli.main import VERBS, cli
from reconciler.cli.showing import FAIL_ON
from reconciler.cli.turns import LONGEST_WAIT_S
from reconciler.core.direction import Direction
from reconciler.core.outcome import Outcome
from reconciler.core.pacing import EPS_S, LATEST_ARRIVAL_S, SEND_DEADLINE_S, SPACING_S, WINDOW_S
from reconciler.core.plan import Because, Reason
from reconciler.core.policy import Kind
from reconciler.core.problems import CATALOGUE, WARNINGS, any_error
from reconciler.core.retry import LONG_BACK_OFF_S
from reconciler.core.status import FamilyState
from reconciler.core.target import DriftPolicy
from reconciler.core.verdict import AttemptStatus
from reconciler.core.vitals import SILENCE_S
from reconciler.desired.reader import read_config
from reconciler.errors import PRECEDENCE, Exit
from reconciler.loop import BURST_S, STOPPED_RETRY_S
from reconciler.report.documents import several
from reconciler.report.text import _LOOK
from reconciler.schema_files import load_schema, schema_text
from reconciler.sidecar.routes import ANSWER_COUNTS_S, PULSE_WITHIN_S
from tests.tidy.document_examples import BLOCK, examples, written
from tests.unit.test_logs import ROWS as LOG_ROWS

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


EVERY_FLAG = {flag for verb in VERBS for flag in flags(verb)} | {"--help", "--version"}

FLAGS_OF_OTHERS = {"--init"}
"""Flags of other programs: of ``docker run``."""


# ---- commands ------------------------------------------------------------------------------------


def test_every_command_has_a_section_and_a_line_and_there_are_no_others() -> None:
    headings = re.findall(r"^## mmp (\w+)$", text("commands"), re.MULTILINE)
    assert headings == list(VERBS)
    assert [row[0] for row in tables(text("commands"))[0]] == [
        f"[`mmp {verb}`](#mmp-{verb})" for verb in VERBS
    ]


@pytest.mark.parametrize("verb", VERBS)
def test_every_flag_of_a_command_is_told_where_it_belongs(verb: str) -> None:
    shared = {
        flag
        for names, commands, _ in tables(section("commands", "Flags of several commands"))[0]
        for flag in re.findall(r"`(-[^`]+)`", names)
        if verb in commands.split(", ")
    }
    own = {
        flag
        for table in tables(section("commands", f"mmp {verb}"))
        for names, *_ in table
        for flag in re.findall(r"`(--?[a-z][^`]*)`", names)
    }
    assert shared & own == set()
    assert shared | own == flags(verb)


@pytest.mark.parametrize("verb", VERBS)
def test_every_command_has_an_example_here_and_in_its_help(verb: str) -> None:
    shown = re.findall(rf"^\$ .*mmp {verb}\b", section("commands", f"mmp {verb}"), re.MULTILINE)
    assert shown
    assert "Example" in (command(verb).help or "")


@pytest.mark.parametrize(
    ("verb", "flag", "words"),
    [
        ("run", "--drift", [policy.value for policy in DriftPolicy]),
        ("plan", "--fail-on", FAIL_ON),
        ("apply", "--allow", tuple(Kind)),
    ],
)
def test_the_words_a_flag_takes_are_told(verb: str, flag: str, words: list[str]) -> None:
    (row,) = [
        row for table in tables(section("commands", f"mmp {verb}")) for row in table if flag in row[0]
    ]
    assert [word for word in words if f"`{word}`" not in row[1]] == []


def test_the_signs_of_a_plan_are_told() -> None:
    shown = {(row[0].strip("`"), row[1]) for row in tables(section("commands", "mmp plan"))[1]}
    assert {(sign, direction.value) for direction, (sign, _) in _LOOK.items()} <= shown


def test_the_environment_twins_are_told() -> None:
    twins = {
        param.envvar
        for verb in VERBS
        for param in command(verb).params
        if isinstance(param, click.Option) and isinstance(param.envvar, str)
    }
    assert [twin for twin in twins if f"`{twin}`" not in text("commands")] == []


# ---- exit codes ----------------------------------------------------------------------------------


def test_every_exit_status_is_told_and_no_other() -> None:
    told = [(row[0], row[1]) for row in tables(text("exit-codes"))[0]]
    assert told == [(str(int(status)), status.name.lower()) for status in Exit]


def test_the_order_of_statuses_is_the_code_s() -> None:
    assert ", ".join(str(int(status)) for status in PRECEDENCE) in text("exit-codes")


def test_the_readme_tells_every_exit_status_and_no_other() -> None:
    (told,) = [rows for rows in tables(text("../README")) if rows[0][0] == "0"]
    assert [int(one) for row in told for one in row[0].split(", ")] == [int(status) for status in Exit]


# ---- the file ------------------------------------------------------------------------------------


def test_the_example_of_the_file_holds_without_a_warning() -> None:
    (example,) = YAML.findall(text("file-format"))
    reading = read_config(example.encode(), "mmp.yaml")
    assert reading.problems == ()
    assert reading.desired is not None


def test_every_key_of_the_schema_is_told() -> None:
    told = [row[0].strip("`") for row in tables(section("file-format", "Keys"))[0]]
    properties = load_schema("mmp")["properties"]
    nested = [
        [key, *(f"{key}.{inner}" for inner in one.get("properties", ()))] for key, one in properties.items()
    ]
    assert told == [key for keys in nested for key in keys]
    fields = [row[0].strip("`") for row in tables(section("file-format", "The three fields"))[0]]
    assert fields == list(load_schema("mmp")["$defs"]["fields"]["properties"])


def test_what_is_written_means_what_is_said() -> None:
    for written_, means in tables(section("file-format", "The three fields"))[1]:
        name, _, value = written_.strip("`").partition(": ")
        fields = {"timeInterval": "1s", "frozenInterval": "1s", "qtyLimit": "1"} | {name: value}
        lines = "".join(f"    {key}: {one}\n" for key, one in fields.items())
        content = f"version: 1\nenvironment: live\nfamilies:\n  BTC-USD:\n{lines}"
        reading = read_config(content.encode(), "mmp.yaml")
        assert reading.desired is not None
        assert bool(reading.problems) == ("warning" in means), written_
        assert not any_error(reading.problems)


def test_every_code_is_told_with_its_reason() -> None:
    told = [
        (row[0].strip("`"), row[1], row[2].replace("\\|", "|"))
        for row in tables(section("file-format", "What is refused, and why"))[0]
    ]
    assert told == [(code.value, one.title, one.meaning) for code, one in CATALOGUE.items()]
    assert {code for code, title, _ in told if "(warning)" in title} == {code.value for code in WARNINGS}


# ---- documents -----------------------------------------------------------------------------------


def test_every_example_is_what_the_code_makes() -> None:
    shown = {block["name"]: block["text"] for block in BLOCK.finditer(text("documents"))}
    assert shown == {name: written(one) for name, one in examples().items()}, (
        "python -m tests.tidy.document_examples"
    )


@pytest.mark.parametrize(
    ("example", "schema"),
    [
        ("plan", "plan"),
        ("apply", "apply"),
        ("several", "apply"),
        ("status", "status"),
        ("problems", "problems"),
    ],
)
def test_every_example_is_as_its_schema_says(example: str, schema: str) -> None:
    shown = {block["name"]: block["text"] for block in BLOCK.finditer(text("documents"))}
    validator = Draft202012Validator(load_schema(schema))
    assert list(validator.iter_errors(json.loads(shown[example]))) == []


@pytest.mark.parametrize("words", [Outcome, Reason, Because, Direction, FamilyState, AttemptStatus])
def test_every_word_of_a_document_is_told(words: type[Outcome]) -> None:
    assert [word for word in words if f"`{word}`" not in text("documents")] == []


@pytest.mark.parametrize("name", ["plan", "apply", "status", "problems"])
def test_every_field_of_a_document_is_told(name: str) -> None:
    told = text("documents")
    assert [
        one for one in fields_of(load_schema(name)) if f'"{one}"' not in told and f"`{one}`" not in told
    ] == []


def fields_of(schema: object) -> set[str]:
    """Return every name that any object of ``schema`` may have."""
    if isinstance(schema, list):
        return {name for one in schema for name in fields_of(one)}
    if not isinstance(schema, dict):
        return set()
    own = schema.get("properties", {})
    return set(own) | {name for one in schema.values() for name in fields_of(one)}


def test_every_format_is_told_with_the_one_of_several_accounts() -> None:
    package = DOCS.parent / "reconciler"
    source = "\n".join(file.read_text(encoding="utf-8") for file in package.rglob("*.py"))
    formats = set(re.findall(r'"format": "(mmp/[a-z]+/1)"', source))
    formats |= {several(kind, [{}, {}])["format"] for kind in re.findall(r'several\(\s*"([a-z]+)"', source)}
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


def test_every_event_of_the_log_is_told_with_its_level() -> None:
    told = {
        (level, event) for level, events, _ in log_table() for event in re.findall(r"`([^`]+)`", events)
    }
    for _, level, message, _ in LOG_ROWS:
        assert (level, re.sub(r"^failed: .*", "failed: …", message)) in told
    said = SAID.findall(said_elsewhere())
    assert len(said) > 6
    assert [one for one in said if one not in told] == []


def said_elsewhere() -> str:
    """Return the code of what logs something without an event, or beside one."""
    package = DOCS.parent / "reconciler"
    files = [package / "logs.py", *sorted((package / "cli").glob("*.py"))]
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


def test_the_bounds_of_a_hang_are_the_code_s() -> None:
    told = " ".join(text("sidecar").split())
    assert f"`/livez` fails {SILENCE_S:.0f} s after that" in told
    assert f"`--lock-timeout` and {BURST_S + LONGEST_WAIT_S:.0f} s later" in told
    assert f"a retry of at most {max(STOPPED_RETRY_S, LONG_BACK_OFF_S):.0f} s" in told
    assert f"the whole program hangs is seen within {ANSWER_COUNTS_S + PULSE_WITHIN_S:.0f} s" in told


def log_table() -> list[list[str]]:
    return tables(section("operating", "Logs"))[0]


def test_the_numbers_of_the_proof_are_the_code_s() -> None:
    safety = text("safety")
    assert f"hi + {WINDOW_S + EPS_S:.3f} s > t" in safety
    assert f"reservation + {LATEST_ARRIVAL_S:.0f} s" in safety
    assert f"{SEND_DEADLINE_S:.0f} s from the reservation to the\nfirst byte" in safety
    assert f"requests go {SPACING_S:.0f} s apart" in safety.replace("\n", " ")


# ---- all of them ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*MINE, "policy", "reviewed-changes", "../README", "../CHANGELOG"])
def test_only_flags_and_commands_that_exist_are_named(name: str) -> None:
    prose = text(name)
    ours = "\n".join(
        line for line in prose.splitlines() if "mmp" in line or not line.startswith((" ", "$"))
    )
    assert set(FLAG.findall(ours)) - EVERY_FLAG - FLAGS_OF_OTHERS == set()
    commands = re.findall(r"(?:`|\$ |run: )mmp ([a-z]+)\b", prose)
    assert set(commands) - set(VERBS) == set()


@pytest.mark.parametrize("name", MINE)
def test_every_unit_starts_run_again_and_every_image_has_an_init(name: str) -> None:
    """A usage error is the one end that starting again cannot mend."""
    prose = text(name)
    for unit in re.findall(r"^\[Service\]\n.*?```", prose, re.DOTALL | re.MULTILINE):
        assert f"\nRestart=always\nRestartPreventExitStatus={Exit.USAGE:d}\n" in unit
    if re.search(r"^ +image: \S+/mmp$", prose, re.MULTILINE):
        assert "an init](operating.md#2-sidecar)" in prose or '"tini", "--", "mmp"' in prose


def test_every_file_of_the_core_is_told_in_the_architecture() -> None:
    told = section("../ARCHITECTURE", "The core, file by file")
    files = {file.name for file in (DOCS.parent / "reconciler" / "core").glob("*.py")} - {"__init__.py"}
    assert set(re.findall(r"`(\w+\.py)`", told)) == files


@pytest.mark.parametrize("name", MINE)
def test_lines_can_be_read_in_a_terminal(name: str) -> None:
    body = re.sub(r"^```.*?^```$", "", text(name), flags=re.MULTILINE | re.DOTALL)
    long = [line for line in body.splitlines() if len(line) > 115 and not line.startswith("|")]
    assert long == []
