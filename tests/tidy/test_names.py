"""Names and words: a public name has one meaning, and words of this project alone stay out."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

import pytest

from reconciler.cli import flags
from reconciler.config import settings
from reconciler.okx import wire
from reconciler.render import config_file, policy_refusals
from tests.tidy.source import Module, files, module, modules

SEVERAL_MEANINGS = {
    "DEFAULT_BASE_URL": "a command's help must not wait for the import of okx; a test holds the two equal",
    "DEFAULT_CONFIG": "the same for render, which must not import cli",
    "DEFAULT_PREFIX": "the same for render, which must not import config",
    "DEMO_HEADER": "the simulator shares no constant with the program it tests",
    "MIGRATIONS": "the same in each engine of the state",
    "Migration": "the same in each engine of the state",
    "PORTFOLIO_MARGIN": "the simulator shares no constant with the program it tests",
    "main": "the entry point, and the command that it starts",
    "migrate": "the same in each engine of the state",
    "open_existing": "the same in each engine of the state",
    "open_state": "the same in each engine of the state, and what chooses the engine",
    "version_of": "the same in each engine of the state",
}
"""Public names that are defined more than once in the package, each with the reason."""

RETIRED_NAMES = {
    "board",
    "deaf",
    "everybody",
    "fight",
    "fights",
    "fought",
    "grounds",
    "hear",
    "keeper",
    "keepers",
    "lookout",
    "nobody",
    "nudge",
    "nudged",
    "objection",
    "onlooker",
    "onlookers",
    "parked",
    "somebody",
    "stories",
    "story",
    "strips",
    "teller",
    "told",
    "trouble",
    "troubles",
    "unkept",
    "vitals",
    "whoever",
}
"""Parts of identifiers that had a meaning in this project only; terms of the field have replaced them."""

RETIRED_WORDS = re.compile(
    r"\b(told|whoever|somebody|nobody|behind our back|puts? right|lets? in|goes on"
    r"|is whole|kept by|do(es)? not hold|makes? no sense|two ledgers)\b",
    re.IGNORECASE,
)
"""Words and phrases that stood for a more exact one."""

PLAIN = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "docs/", "schemas/", "reconciler/")
"""Where no retired word is: a file, or everything in a folder."""


def public_names(one: Module) -> Iterator[str]:
    """Yield the public classes, functions and constants that a module defines at its top."""
    for node in one.tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names = [node.name]
        elif isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names = [node.target.id]
        else:
            continue
        yield from (name for name in names if not name.startswith("_") and len(name) > 1)


def defined_twice(all_modules: Iterable[Module]) -> dict[str, list[str]]:
    """Return the places of every public name that more than one module defines."""
    places = defaultdict(list)
    for one in all_modules:
        for name in set(public_names(one)):
            places[name].append(one.place)
    return {name: where for name, where in sorted(places.items()) if len(where) > 1}


def test_a_public_name_has_one_meaning() -> None:
    twice = defined_twice(modules())
    assert {name: where for name, where in twice.items() if name not in SEVERAL_MEANINGS} == {}
    assert set(SEVERAL_MEANINGS) <= set(twice), "an exception that nothing needs"
    assert len(SEVERAL_MEANINGS) <= 15


def test_what_is_written_twice_is_equal() -> None:
    assert flags.DEFAULT_BASE_URL == wire.DEFAULT_BASE_URL
    assert flags.DEFAULT_CONFIG == policy_refusals.DEFAULT_CONFIG
    assert settings.DEFAULT_PREFIX == config_file.DEFAULT_PREFIX


def test_a_public_name_that_is_defined_twice_is_caught() -> None:
    first = module("class Answer: ...\ndef _private(): ...\nLIMIT = 1\n", "web/a.py")
    second = module("Answer: int = 1\ndef _private(): ...\nasync def LIMIT(): ...\n", "notify/b.py")
    assert defined_twice([first, second]) == {
        "Answer": ["web/a.py", "notify/b.py"],
        "LIMIT": ["web/a.py", "notify/b.py"],
    }


def retired_names(text: str) -> set[str]:
    """Return the identifiers of Python code that have a retired part."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        names = [getattr(node, field, None) for field in ("id", "attr", "arg", "name", "asname")]
        found |= {name for name in names if isinstance(name, str) and RETIRED_NAMES & parts_of(name)}
    return found


def parts_of(name: str) -> set[str]:
    """Return the words of an identifier, in lower case: ``HeldFamily`` and ``held_family`` have two."""
    return {part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}


def is_code(path: str) -> bool:
    return path.startswith(("reconciler/", "tests/", "bench/")) and path.endswith(".py")


@pytest.mark.parametrize("path", [path for path in files() if is_code(path)])
def test_no_identifier_has_a_retired_word(path: str) -> None:
    assert retired_names(files()[path]) == set()


@pytest.mark.parametrize(
    "source",
    ["told = 1", "x.vitals", "def keeper_of(): ...", "f(fought=1)", "class Onlooker: ...", "TROUBLES = 1"],
)
def test_an_identifier_with_a_retired_word_is_caught(source: str) -> None:
    assert retired_names(source)


def retired_words(text: str) -> list[str]:
    """Return every retired word of a text with what stands around it."""
    return [text[max(0, found.start() - 30) : found.end() + 30] for found in RETIRED_WORDS.finditer(text)]


@pytest.mark.parametrize(
    "path", [path for path in files() if path.startswith(PLAIN) and not path.endswith(".png")]
)
def test_no_text_has_a_retired_word(path: str) -> None:
    assert retired_words(files()[path]) == []


@pytest.mark.parametrize(
    "text",
    [
        "You are told so.",
        "Whoever reads it",
        "it goes on",
        "changed behind our back",
        "the file does not hold",
    ],
)
def test_a_retired_word_is_caught(text: str) -> None:
    assert retired_words(text)
