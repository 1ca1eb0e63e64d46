"""The sample file, changed in one place at a time: no change escapes as an exception or out of the file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.config.schema_check import schema_errors
from reconciler.config.settings import SETTINGS_FORMAT, Reading, read_config
from reconciler.config.yaml_nodes import read_nodes
from reconciler.documents.problems import problems_document
from reconciler.render.problems import problems_github, problems_text
from tests.support.config_documents import complete_document

pytestmark = pytest.mark.unmeasured

SAMPLE = (Path(__file__).parents[2] / "mmp.yaml").read_text(encoding="utf-8")
TOKEN = re.compile(r"[A-Za-z0-9_.$/-]+|[^\sA-Za-z0-9_.$/-]|\n|[ ]+")
REPLACEMENTS = (
    *(
        "",
        "~",
        "null",
        "0",
        "-1",
        "010",
        "1e3",
        "yes",
        "x",
        "é日本",
        '"',
        "'",
        '"a"',
        "[",
        "]",
        "{",
        "}",
        "[]",
        "{}",
    ),
    *(
        ":",
        ": ",
        ",",
        "-",
        "- ",
        "&a",
        "*a",
        "!t",
        "<<",
        "|",
        ">",
        "%",
        "@",
        "`",
        "#",
        "?",
        "\t",
        "\n",
        "\r",
        "\0",
    ),
    *("---", "...", "\ufeff", "\x1b[31m", "BTC-USD", "5s", "9" * 50, "a: b", "\u2028", "{a: {b: {c: 1}}}"),
)


def mutants() -> Iterator[str]:
    for token in TOKEN.finditer(SAMPLE):
        for replacement in REPLACEMENTS:
            yield SAMPLE[: token.start()] + replacement + SAMPLE[token.end() :]
    for cut in range(len(SAMPLE)):
        yield SAMPLE[:cut]
        yield SAMPLE[:cut] + SAMPLE[cut + 1 :]


@pytest.mark.slow
def test_no_mutant_escapes() -> None:
    count = 0
    for text in dict.fromkeys(mutants()):
        reading = read_config(text.encode(), "mmp.yaml")
        _holds_together(reading)
        count += 1
    assert count > 3000


def test_every_prefix_of_bytes_and_every_broken_byte_is_read() -> None:
    content = SAMPLE.replace("main", "é日").encode()
    for place in range(len(content)):
        _holds_together(read_config(content[:place], "mmp.yaml"))
        _holds_together(read_config(content[:place] + b"\xff" + content[place + 1 :], "mmp.yaml"))


@pytest.mark.slow
def test_the_schema_refuses_no_mutant_the_reader_would_accept() -> None:
    accepted = 0
    for text in dict.fromkeys(mutants()):
        reading = read_config(text.encode(), "mmp.yaml")
        if reading.desired is None:
            continue
        root = read_nodes(text.encode(), "mmp.yaml").root
        assert root is not None
        assert (
            list(schema_errors(root, complete_document(root, SETTINGS_FORMAT), SETTINGS_FORMAT.schema))
            == []
        )
        accepted += 1
    assert accepted > 100


def _holds_together(reading: Reading) -> None:
    errors = [each for each in reading.problems if each.is_error]
    assert (reading.desired is None) == bool(errors)
    lines = reading.text.split("\n")
    for each in reading.problems:
        assert 1 <= each.line <= len(lines), each
        assert 1 <= each.column <= len(lines[each.line - 1]) + 1, each
    found = [(each.code, each.line, each.column, each.message) for each in reading.problems]
    assert len(set(found)) == len(found)
    text = problems_text([reading])
    assert all(line.isprintable() for line in text.splitlines())
    assert len(problems_document(reading.problems)["problems"]) == len(reading.problems)
    assert all(line.isprintable() for line in problems_github(reading.problems).splitlines())
