"""The reference documents ``docs/reference/*.md``, generated from the code.

``python -m tests.reference_docs.write`` (``make docs``) writes them; ``tests/tidy/test_reference.py``
compares them with what is generated here. Facts belong in the code: help texts, schemas, catalogues.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import click

from reconciler.cli.main import COMMANDS, cli
from reconciler.core.problems import Code, Explanation
from reconciler.errors import PRECEDENCE, Exit
from reconciler.okx.codes import TABLE
from reconciler.render.error_catalogue import ERRORS
from reconciler.render.glossary import FIELDS, REPLY_CLASSES, STATUSES, WORDS
from reconciler.render.problem_catalogue import CATALOGUE
from reconciler.schema_files import load_schema
from reconciler.simulator.behaviour_sources import BEHAVIOURS
from reconciler.simulator.codes import REFUSALS
from reconciler.simulator.control import CONTROL_COMMANDS as CONTROL
from reconciler.simulator.server import SimulatorServer
from tests.reference_docs.document_examples import examples, written
from tests.reference_docs.log_meanings import MEANINGS
from tests.tidy.source import ROOT
from tests.unit.test_policy_docs import FAMILIES_IN_FORCE, SHARES, most_passing, shown_factor
from tests.unit.test_web_metrics import exported

FOLDER = ROOT / "docs" / "reference"
GENERATED = "Generated from the code by `make docs`. Do not edit: change the text in the code."
WIDTH = 110

Row = tuple[str, ...]


def table(head: Row, rows: Iterable[Row]) -> str:
    """Return a Markdown table; cells may have any text."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def plain(text: str) -> str:
    """Return ``text`` on one line, its stars shown as stars."""
    return " ".join(text.split()).replace("*", "\\*")


def code(text: str) -> str:
    """Return ``text`` as inline code, empty for nothing."""
    return f"`{text}`" if text else ""


def document(title: str, *blocks: str) -> str:
    """Return a generated document."""
    return "\n\n".join([f"# {title}", GENERATED, *blocks]) + "\n"


# ---- commands ------------------------------------------------------------------------------------


def commands() -> str:
    """Return every command with its help, its examples and its flags."""
    found = {verb: cli.get_command(click.Context(cli), verb) for verb in COMMANDS}
    blocks = [
        table(
            ("command", "does"), ((f"[`mmp {verb}`](#mmp-{verb})", does) for verb, does in COMMANDS.items())
        )
    ]
    for verb, command in found.items():
        assert command is not None
        blocks += command_blocks(f"mmp {verb}", command)
    return document("Commands and flags", *blocks)


def command_blocks(name: str, command: click.Command) -> Iterator[str]:
    """Yield what describes one command, and those below it."""
    context = click.Context(command, info_name=name)
    yield f"## {name}"
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"```text\n{name} {usage}\n```"
    yield from help_blocks(command.help or "")
    options = [param for param in command.params if isinstance(param, click.Option)]
    if options:
        yield table(("flag", "meaning", "variable"), (flag_row(option, context) for option in options))
    if isinstance(command, click.Group):
        for below in command.commands.values():
            yield from command_blocks(f"{name} {below.name}", below)


def flag_row(option: click.Option, context: click.Context) -> Row:
    """Return the row of one flag as ``--help`` describes it."""
    record = option.get_help_record(context)
    assert record is not None
    names, meaning = record
    variable = option.envvar if isinstance(option.envvar, str) else ""
    return code(names), plain(meaning), code(variable)


def help_blocks(text: str) -> Iterator[str]:
    """Yield the paragraphs of a help text; those that click does not wrap are code."""
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        if not paragraph.startswith("\b\n"):
            yield textwrap.fill(plain(paragraph), WIDTH, break_long_words=False, break_on_hyphens=False)
            continue
        first, _, rest = paragraph.removeprefix("\b\n").partition("\n")
        if first.startswith("Example"):
            lines = "\n".join(f"$ {line}" for line in textwrap.dedent(rest).splitlines())
            yield f"```console\n{lines}\n```"
        else:
            yield "```text\n" + f"{first}\n{rest}".strip() + "\n```"


# ---- files and documents ---------------------------------------------------------------------------


def schema_blocks(name: str) -> Iterator[str]:
    """Yield a table of fields for every object of the schema ``name``."""
    schema = load_schema(name)
    yield f"`mmp schema {name}` prints the JSON Schema. " + plain(schema["description"])
    yield from object_blocks(schema, schema["$defs"], "")
    for one in schema["$defs"].values():
        yield from object_blocks(one, schema["$defs"], one.get("title", ""))


def object_blocks(schema: Mapping[str, Any], defs: Mapping[str, Any], title: str) -> Iterator[str]:
    """Yield the table of one object under its title; nothing for what is no object."""
    if (title or "$defs" in schema) and (rows := list(field_rows(schema, defs))):
        yield from [f"## {title}"] if title else []
        yield table(("field", "value", "meaning"), rows)


def field_rows(schema: Mapping[str, Any], defs: Mapping[str, Any], prefix: str = "") -> Iterator[Row]:
    """Yield a row for every property of ``schema``, and of the objects written within it."""
    for name, field in schema.get("properties", {}).items():
        target = referenced(field, defs)
        title, description = (field.get(key) or target.get(key, "") for key in ("title", "description"))
        if title:
            value = value_words(field, defs) + ("" if name in schema.get("required", ()) else ", optional")
            default = f" Default: {field['default']}." if "default" in field else ""
            yield code(f"{prefix}{name}"), value, plain(f"{title}. {description}".strip() + default)
        yield from inner_rows(field if "title" in target else {**target, **field}, defs, f"{prefix}{name}")


def referenced(field: Mapping[str, Any], defs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the definition that ``field`` refers to, empty if none."""
    found: Mapping[str, Any] = defs[field["$ref"].rpartition("/")[2]] if "$ref" in field else {}
    return found


def inner_rows(field: Mapping[str, Any], defs: Mapping[str, Any], place: str) -> Iterator[Row]:
    """Yield the rows of an object, or of the objects of a list, that is written within ``field``."""
    yield from field_rows(field, defs, f"{place}.")
    yield from field_rows(field.get("items", {}), defs, f"{place}[].")
    for choice in field.get("anyOf", ()):
        yield from field_rows(choice, defs, f"{place}.")
    if isinstance(more := field.get("additionalProperties"), dict):
        yield from field_rows(more, defs, f"{place}.NAME.")


def value_words(field: Mapping[str, Any], defs: Mapping[str, Any]) -> str:
    """Return which values a field takes."""
    if "$ref" in field:
        target = referenced(field, defs)
        if "properties" in target and "title" in target:
            return link(field["$ref"].rpartition("/")[2], target["title"])
        return value_words(target, defs)
    if "const" in field:
        return word(field["const"])
    if "enum" in field:
        return ", ".join(word(value) for value in field["enum"])
    if "anyOf" in field or "oneOf" in field:
        choices = field.get("anyOf") or field["oneOf"]
        return " or ".join(dict.fromkeys(value_words(one, defs) for one in choices))
    if field.get("type") == "array":
        return f"list of: {value_words(field.get('items', {}), defs)}"
    kind = field.get("type", "any")
    return " or ".join([kind] if isinstance(kind, str) else kind)


def link(name: str, title: str) -> str:
    """Return a link to the table of the object ``name``, which stands under ``title``."""
    anchor = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
    return f"[{name}](#{anchor})"


def word(value: object) -> str:
    """Return a value of an enum as it stands in JSON."""
    return "null" if value is None else f"`{str(value).lower() if isinstance(value, bool) else value}`"


def settings_file() -> str:
    """Return the keys of mmp.yaml."""
    return document("Keys of mmp.yaml", *schema_blocks("mmp"))


FACTORS = (
    ("5s, 2s, 100", "5s, 2s, 200", "twice as many contracts per trip"),
    ("10s, 60s, 100", "5s, 30s, 200", "10 → 40 contracts per second"),
    ("10s, 2s, 100", "5s, 2s, 50", "half the window with half the contracts: no figure rises"),
    ("5s, 2s, 100", "5s, 1s, 100", "half the freeze; per minute it is 3100 → 6100"),
    ("5s, 60s, 100", "5s, 30s, 100", "half the freeze; no figure rises"),
    ("5s, until-reset, 100", "5s, 1h, 100", "quoting resumes without a manual reset"),
    ("5s, 2s, 100", "5s, 2s, 50", "tighter; the freeze is as before"),
    ("5s, 2s, 100", "10s, 4s, 50", "tighter in every field"),
    ("5s, 2s, 100", "disabled, 2s, 100", "only the rule disable judges this"),
    ("disabled, 2s, 100", "disabled, 2s, 300", "qtyLimit and frozenInterval are compared"),
    ("disabled, 2s, 100", "5s, 2s, 100", "measured from the last accepted setting that was enabled"),
)
"""Changes of timeInterval, frozenInterval and qtyLimit, with the reason for their factor."""


def policy_file() -> str:
    """Return the keys of mmp-policy.yaml, and examples of factors and shares."""
    rows = ((before, after, shown_factor(before, after), why) for before, after, why in FACTORS)
    shares = (
        (code(share), *(str(most_passing(share, of)) for of in FAMILIES_IN_FORCE)) for share in SHARES
    )
    return document(
        "Keys of mmp-policy.yaml",
        *schema_blocks("policy"),
        "## Examples of factors",
        table(("before", "after", "factor", "why"), rows),
        "## Examples of shares",
        "How many families may get looser at once.",
        table(("`maxShare`", *(f"of {of} families in force" for of in FAMILIES_IN_FORCE)), shares),
    )


def json_document(title: str, name: str, *shown: str) -> str:
    """Return the fields of a document, where it has a schema, and examples."""
    made = examples()
    fields = schema_blocks(name) if name else ()
    blocks = [f"```json {example}\n{written(made[example])}```" for example in shown]
    return document(title, *fields, *(["## Example", *blocks] if blocks else []))


# ---- codes and words -------------------------------------------------------------------------------


def explanation_rows(rows: Mapping[str, Explanation]) -> Iterator[Row]:
    """Yield name, what it is, what it means, what to do."""
    for name, one in rows.items():
        yield code(name), plain(one.title), plain(one.meaning), plain(one.remedy)


EXPLAINED = ("code", "what", "meaning", "what to do")


def problem_codes() -> str:
    """Return the codes of problems of files."""
    rows = {one.value: CATALOGUE[one] for one in Code}
    intro = (
        "Problems of settings files and policies. A code marked (warning) does not make the file invalid."
    )
    return document("Problem codes", intro, table(EXPLAINED, explanation_rows(rows)))


def exit_codes() -> str:
    """Return the exit statuses."""
    rows = [
        (
            str(int(status)),
            status.name.lower(),
            plain(STATUSES[status].meaning),
            plain(STATUSES[status].remedy),
        )
        for status in Exit
    ]
    order = ", ".join(str(int(status)) for status in PRECEDENCE)
    precedence = f"If several apply and no family was settled, the first of these is returned: {order}."
    head = ("status", "name", "meaning", "what to do")
    return document("Exit statuses", table(head, rows), precedence)


def error_codes() -> str:
    """Return the codes of failures of commands."""
    intro = "Failures of commands. The code is in the message, in the log and in the JSON document."
    return document("Error codes", intro, table(EXPLAINED, explanation_rows(ERRORS)))


def okx_codes() -> str:
    """Return OKX's reply codes."""
    source = textwrap.fill(
        "Source says where the *class* of a code comes from: **documented** in OKX's error table, **seen** "
        "in replies, or **assumed**, the cautious reading of a documented code. A code that is not listed "
        "is *ambiguous*: a request to set counts as sent, and its effect is read back. It is not known "
        "which code a missing MMP privilege or an account outside portfolio margin gets; 50030, 50041, "
        "50120 and 51010 are candidates.",
        WIDTH,
    )
    rows = [
        (row.code, row.reply_class.value, plain(row.meaning), plain(row.advice), row.source.value)
        for row in TABLE.values()
    ]
    return document(
        "OKX's reply codes", source, table(("code", "class", "meaning", "what to do", "source"), rows)
    )


def glossary() -> str:
    """Return the words of plans, results and statuses."""
    replies = {kind.value: text for kind, text in REPLY_CLASSES.items()}
    return document(
        "Glossary",
        "Words of plans, results, statuses and files. `mmp explain WORD` prints one of them.",
        "## Words of plans and results",
        table(("word", "what", "meaning", "what to do"), explanation_rows(WORDS)),
        "## Fields of mmp.yaml",
        table(("field", "what", "meaning", "note"), explanation_rows(FIELDS)),
        "## Classes of OKX's replies",
        table(("class", "what follows"), ((code(name), plain(text)) for name, text in replies.items())),
    )


# ---- what a running process shows --------------------------------------------------------------------


def log_events() -> str:
    """Return every log line with its level."""
    rows = [
        (level, code(message), MEANINGS[level, message])
        for level, message in sorted(MEANINGS, key=by_level)
    ]
    return document("Log events", table(("level", "event", "meaning, and what to do"), rows))


def by_level(line: tuple[str, str]) -> tuple[int, str]:
    """Return what sorts the most important lines first."""
    return ("error", "warning", "info", "debug").index(line[0]), line[1]


def metrics() -> str:
    """Return every metric of the registry."""
    rows = [
        (code(name), one.kind, ", ".join(sorted(one.labels)), plain(one.help))
        for name, one in exported().items()
    ]
    intro = (
        "Metrics about an account have the labels `account` and `environment` too. "
        "A value that is not known has no sample."
    )
    return document("Metrics", intro, table(("metric", "kind", "labels", "meaning"), rows))


def simulator() -> str:
    """Return what the simulated exchange does, its codes and its control requests."""
    behaviours = [
        (plain(one.name), one.status.value, plain(one.simulated), code(one.option)) for one in BEHAVIOURS
    ]
    refusals = [(name, str(row.status), plain(row.message)) for name, row in sorted(REFUSALS.items())]
    read_inputs = textwrap.fill(
        "**documented**: OKX's documentation says so. **assumed**: OKX does not document it; other clients "
        "saw it, or something had to be chosen. **unknown**: it matters and is not documented; the option "
        "selects the other behaviour.",
        WIDTH,
    )
    status = textwrap.fill(
        "HTTP statuses and messages are OKX's, except 404 (assumed), the status of 50119 and 50120 "
        "(documented as 200, seen as 401) and the wording of 59509. Every other code can be scripted.",
        WIDTH,
    )
    return document(
        "Behaviour of the simulated exchange",
        read_inputs,
        table(("behaviour", "source", "simulated", "option"), behaviours),
        "## Reply codes",
        status,
        table(("code", "HTTP", "message"), refusals),
        "## Control requests",
        textwrap.fill(
            "JSON under `/_control/` on the same address, for tests and demonstrations. The optional field "
            "`uid` names the account; the default is the first. The simulator never delays, counts or "
            "records these requests.",
            WIDTH,
        ),
        table(("request", "does"), control_rows()),
    )


def control_rows() -> Iterator[Row]:
    """Yield every control request with the docstring of its function."""
    unplug = {("POST", "unplug"): SimulatorServer._unplug}
    for (method, name), function in ({**CONTROL, **unplug}).items():
        yield code(f"{method} /_control/{name}"), plain(inspect.getdoc(function) or "").replace("``", "`")


FILES: dict[str, Callable[[], str]] = {
    "commands": commands,
    "document-apply": lambda: json_document("Results of apply: mmp/apply/1", "apply", "apply", "several"),
    "document-history": lambda: json_document("History: mmp/history/1", "", "history"),
    "document-notification": lambda: json_document(
        "Notification: mmp/notification/1", "notification", "notification"
    ),
    "document-plan": lambda: json_document("Plan: mmp/plan/1", "plan", "plan"),
    "document-problems": lambda: json_document("Problems: mmp/problems/1", "problems", "problems"),
    "document-status": lambda: json_document("Status: mmp/status/1", "status", "status"),
    "error-codes": error_codes,
    "exit-codes": exit_codes,
    "glossary": glossary,
    "log-events": log_events,
    "metrics": metrics,
    "okx-codes": okx_codes,
    "policy-file": policy_file,
    "problem-codes": problem_codes,
    "settings-file": settings_file,
    "simulator": simulator,
}
"""What generates each file of ``docs/reference``, by its name without suffix."""


def main() -> None:
    """Write every reference document."""
    FOLDER.mkdir(exist_ok=True)
    for name, generate in FILES.items():
        (FOLDER / f"{name}.md").write_text(generate(), encoding="utf-8")


if __name__ == "__main__":
    main()
