"""The corpus of files, good and bad: what each says of itself in its name, and reader and schema agree.

``good`` files have no problem, ``warn`` files are accepted with the warnings their name lists, and
``bad`` files are refused with exactly the codes before the two dashes.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from jsonschema.validators import Draft202012Validator

from reconciler.config import settings, yaml_nodes
from reconciler.config.schema_check import schema_errors, validator
from reconciler.config.settings import SETTINGS_FORMAT, read_config
from reconciler.config.yaml_nodes import InvalidNode, read_nodes
from reconciler.core.problems import Code
from reconciler.schema_files import load_schema
from tests.support.config_documents import complete_document

pytestmark = pytest.mark.unmeasured

CORPUS = Path(__file__).parents[1] / "corpus"
FILES = sorted(CORPUS.glob("*/*.yaml"))
ACCEPTED = [file for file in FILES if file.parent.name != "bad"]
REFUSED = [file for file in FILES if file.parent.name == "bad"]

NEVER_IN_SCHEMA = {
    Code.BAD_CHARACTER,
    Code.DUPLICATE_KEY,
    Code.EMPTY_FILE,
    Code.MULTIPLE_DOCUMENTS,
    Code.NON_STRING_KEY,
    Code.NOT_UTF8,
    Code.TOO_DEEP,
    Code.YAML_ANCHOR,
    Code.YAML_BLOCK,
    Code.YAML_MERGE,
    Code.YAML_NUMBER,
    Code.YAML_SYNTAX,
    Code.YAML_TAG,
}
"""What a schema cannot see, because it is gone once YAML has become a document."""

NOT_ALWAYS_IN_SCHEMA = {
    Code.BAD_INTERVAL,  # more than 10 digits only after the unit is multiplied in
    Code.BAD_QUANTITY,  # more than 20 digits of a plain fraction
    Code.MISSING_KEY,  # a field neither the family nor the defaults have
}
"""What a schema sees in most files, and the reader in all."""

BY_OTHER_MEANS = {
    Code.FILE_MISSING,
    Code.FILE_UNREADABLE,
    Code.NO_CONFIG_FILES,
    Code.DUPLICATE_ACCOUNT,
    Code.TOO_LARGE,
    Code.TOO_MANY_FAMILIES,
    Code.BAD_PATTERN,
    Code.BAD_CHOICE,
    Code.BAD_FACTOR,
    Code.BAD_COUNT,
    Code.BAD_SHARE,
    Code.BAD_WINDOW,
    Code.MIN_OVER_MAX,
    Code.POLICY_FLOOR,
    Code.DUPLICATE_FAMILY,
    Code.TWO_POLICIES,
    Code.POLICY_BOUNDS,
    Code.POLICY_PROTECTED,
    Code.POLICY_UNMATCHED,
    Code.POLICY_MISSING,
    Code.MORE_PROBLEMS,
}
"""Codes that are not about one small file, or about policies; ``test_config_load.py`` and
``test_config_policy.py`` have them."""


def name_of(file: Path) -> str:
    return f"{file.parent.name}/{file.stem}"


def expected_codes(file: Path) -> set[str]:
    return set() if file.parent.name == "good" else set(file.stem.partition("--")[0].split("+"))


def schema_refuses(file: Path) -> bool | None:
    """Ask the schema about the whole document; None when the file does not become one."""
    root = read_nodes(file.read_bytes(), file.name).root
    if root is None or isinstance(root, InvalidNode):
        return None
    return any(
        True for _ in schema_errors(root, complete_document(root, SETTINGS_FORMAT), SETTINGS_FORMAT.schema)
    )


def test_the_corpus_is_large_and_has_both_kinds() -> None:
    assert len(FILES) >= 150
    assert len(ACCEPTED) >= 60
    assert len(REFUSED) >= 200


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_a_file_has_exactly_the_problems_its_name_says(file: Path) -> None:
    reading = read_config(file.read_bytes(), file.name)
    assert {each.code.value for each in reading.problems} == expected_codes(file)
    assert (reading.desired is None) == (file.parent.name == "bad")


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_each_problem_is_at_a_place_of_the_file(file: Path) -> None:
    reading = read_config(file.read_bytes(), file.name)
    lines = reading.text.split("\n")
    for each in reading.problems:
        assert 1 <= each.line <= len(lines)
        assert 1 <= each.column <= len(lines[each.line - 1]) + 1
        assert each.message
        assert each.message.isprintable()
        assert each.hint.isprintable()


@pytest.mark.parametrize("file", ACCEPTED, ids=name_of)
def test_what_the_reader_accepts_is_valid_by_the_schema(file: Path) -> None:
    assert schema_refuses(file) is False


@pytest.mark.parametrize("file", ACCEPTED, ids=name_of)
def test_an_editor_with_the_schema_accepts_it_too(file: Path) -> None:
    document = yaml.safe_load(file.read_text(encoding="utf-8-sig"))
    assert list(Draft202012Validator(load_schema("mmp")).iter_errors(document)) == []


def test_what_only_the_reader_sees_is_enumerated() -> None:
    unseen = {code for file in REFUSED if not schema_refuses(file) for code in expected_codes(file)}
    assert unseen == NEVER_IN_SCHEMA | NOT_ALWAYS_IN_SCHEMA


@pytest.mark.parametrize("code", sorted(NOT_ALWAYS_IN_SCHEMA))
def test_the_schema_sees_most_of_what_it_can_see(code: Code) -> None:
    assert any(schema_refuses(file) for file in REFUSED if expected_codes(file) == {code})


def test_the_schema_is_checked_as_by_jsonschema_itself() -> None:
    by_jsonschema = Draft202012Validator(load_schema("mmp"))
    for file in FILES:
        root = read_nodes(file.read_bytes(), file.name).root
        document = None if root is None else complete_document(root, SETTINGS_FORMAT)
        errors = [
            sorted((str(each.absolute_path), str(each.validator)) for each in one.iter_errors(document))
            for one in (by_jsonschema, validator("mmp"))
        ]
        assert errors[0] == errors[1], file.name


def test_every_code_is_shown_by_a_file_or_by_a_test_of_its_own() -> None:
    shown = {Code(code) for file in FILES for code in expected_codes(file)}
    assert shown | BY_OTHER_MEANS == set(Code)
    assert not shown & BY_OTHER_MEANS


def test_leaving_valid_families_out_of_the_document_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    contents = [(file.read_bytes(), file.name) for file in FILES]
    without = [read_config(*each) for each in contents]
    monkeypatch.setattr(settings, "MAX_FAMILIES", 0)  # with more families than this, none is left out
    assert [read_config(*each) for each in contents] == without


def test_the_parser_without_libyaml_reads_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    contents = [(file.read_bytes(), file.name) for file in FILES]
    with_libyaml = [_gist(*each) for each in contents]
    monkeypatch.setattr(yaml_nodes, "_LOADER", yaml.SafeLoader)
    assert [_gist(*each) for each in contents] == with_libyaml


def _gist(content: bytes, name: str) -> object:
    """Everything but the words and the place of a syntax error, which are the parser's own."""
    reading = read_config(content, name)
    places = [
        (each.code, each.code is not Code.YAML_SYNTAX and (each.line, each.column))
        for each in reading.problems
    ]
    return name, places, reading.desired
