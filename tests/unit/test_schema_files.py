"""The published schemas and the catalogue of codes: complete, valid, found, and usable in an editor."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema.validators import Draft202012Validator

from reconciler import schema_files
from reconciler.core.problems import (
    MAX_SHOWN,
    WARNINGS,
    Code,
    Severity,
    escape_unprintable,
    json_text,
    problem,
    quoted,
)
from reconciler.render.problem_catalogue import CATALOGUE
from reconciler.schema_files import SCHEMA_NAMES, load_schema, schema_text

MINE = ("mmp", "policy", "problems", "notification")


def properties(schema: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every named property of ``schema``, however deep."""
    if isinstance(schema, dict):
        yield from (
            schema.get("properties", {}).items() if isinstance(schema.get("properties"), dict) else ()
        )
        for value in schema.values():
            yield from properties(value)


@pytest.mark.parametrize("name", MINE)
def test_a_schema_is_valid_and_names_itself(name: str) -> None:
    schema = load_schema(name)
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"]
    assert schema["description"]


@pytest.mark.parametrize("name", MINE)
def test_every_property_has_a_title_to_hover_over(name: str) -> None:
    found = list(properties(load_schema(name)))
    assert found
    assert [key for key, value in found if not value.get("title")] == []


@pytest.mark.parametrize("name", ["mmp", "policy"])
def test_every_property_of_a_file_people_write_is_described(name: str) -> None:
    assert [key for key, value in properties(load_schema(name)) if not value.get("description")] == []


@pytest.mark.parametrize("name", ["mmp", "policy"])
def test_every_example_is_valid_where_it_stands(name: str) -> None:
    schema = load_schema(name)
    for key, value in (("", schema), *properties(schema)):
        validator = Draft202012Validator({"$defs": schema["$defs"], **value})
        for example in value.get("examples", ()):
            assert list(validator.iter_errors(example)) == [], key


def test_a_schema_that_does_not_exist_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="no schema is called 'nope'; there are: mmp, policy, plan"):
        schema_text("nope")


def test_a_broken_installation_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(schema_files, "_FOLDERS", (tmp_path,))
    with pytest.raises(FileNotFoundError, match="lacks the schema mmp"):
        schema_text("mmp")


def test_a_wheel_s_own_folder_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "mmp.schema.json").write_text("{}", encoding="utf-8")
    monkeypatch.setattr(schema_files, "_FOLDERS", (tmp_path, *schema_files._FOLDERS))
    assert schema_text("mmp") == "{}"
    assert schema_text("problems") != "{}"
    assert set(MINE) < set(SCHEMA_NAMES)


@pytest.mark.parametrize("code", Code)
def test_every_code_is_explained_and_fits_the_document(code: Code) -> None:
    explanation = CATALOGUE[code]
    assert explanation.title
    assert explanation.meaning.endswith(".")
    assert explanation.remedy.endswith(".")
    found = problem(code, "mmp.yaml", "wrong")
    assert (found.severity is Severity.WARNING) == (code in WARNINGS)
    assert found.is_error == (code not in WARNINGS)


def test_the_catalogue_has_nothing_else() -> None:
    assert list(CATALOGUE) == list(Code)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("a", '"a"'),
        ('a"b\\', '"a\\"b\\\\"'),
        ("a\nb", '"a\\nb"'),
        ("\x1b[2J", '"\\u001b[2J"'),
        ("\u202ex", '"\\u202ex"'),
        ("é日", '"é日"'),
        ("x" * 61, '"' + "x" * (MAX_SHOWN - 1) + '…"'),
    ],
)
def test_a_value_is_shown_quoted_short_and_harmless(text: str, result: str) -> None:
    assert quoted(text) == result


def test_only_what_is_not_printable_is_escaped() -> None:
    assert escape_unprintable("a: é日 ✓") == "a: é日 ✓"
    assert json_text({"a": "é\ud800"}) == '{"a": "é\\\\ud800"}'
    assert escape_unprintable("a\x1b\t\u200b\ud800") == "a\\x1b\\t\\u200b\\ud800"
