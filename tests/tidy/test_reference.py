"""The reference documents are what the code generates, and nothing in them lacks its meaning."""

from __future__ import annotations

import json
import re

import pytest
from jsonschema.validators import Draft202012Validator

from reconciler.core.problems import WARNINGS
from reconciler.render.problem_catalogue import CATALOGUE
from reconciler.schema_files import load_schema
from tests.reference_docs.document_examples import examples, written
from tests.reference_docs.log_meanings import MEANINGS, logged, source
from tests.reference_docs.write import FILES, FOLDER
from tests.tidy.source import files

WORDS_AT_MOST = 22_000
"""Of all documents written by hand. The reference is not counted."""


@pytest.mark.parametrize("name", FILES)
def test_a_reference_document_is_what_the_code_generates(name: str) -> None:
    assert (FOLDER / f"{name}.md").read_text(encoding="utf-8") == FILES[name](), "run: make docs"


def test_there_is_no_other_file_among_the_reference_documents() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {f"{name}.md" for name in FILES}


@pytest.mark.parametrize("example", ["plan", "apply", "several", "status", "problems", "notification"])
def test_an_example_is_as_its_schema_says(example: str) -> None:
    validator = Draft202012Validator(load_schema("apply" if example == "several" else example))
    made = json.loads(written(examples()[example]))
    assert list(validator.iter_errors(made)) == []


def test_the_codes_that_are_warnings_are_marked() -> None:
    marked = {code for code, one in CATALOGUE.items() if "(warning)" in one.title}
    assert marked == WARNINGS


def test_every_log_line_has_a_meaning() -> None:
    assert len(logged()) > 50
    assert logged() - MEANINGS.keys() == set()


def test_no_meaning_is_of_a_log_line_that_does_not_exist() -> None:
    literals = source()
    rest = {event.removesuffix("…") for _, event in MEANINGS.keys() - logged()}
    assert [event for event in sorted(rest) if f'"{event}' not in literals] == []


def test_hand_written_documents_are_short() -> None:
    words = {path: len(text.split()) for path, text in files().items() if is_hand_written(path)}
    assert words["README.md"] > 0
    assert sum(words.values()) <= WORDS_AT_MOST, words


def is_hand_written(path: str) -> bool:
    """Whether ``path`` is a document that people write: at the top, or directly in docs/."""
    top = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")
    return path in top or re.fullmatch(r"docs/[^/]+\.md", path) is not None
