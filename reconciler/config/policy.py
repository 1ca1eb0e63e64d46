"""mmp-policy.yaml → Policy, or every problem it has at once; and where the file is found.

This file decides whether a policy is accepted, and never half accepts one: with an error anywhere
there is no Policy, and whoever needs one stops. A policy that is there and cannot be read is an
error, never "no policy". The published schema is asked about everything; a test holds that what it
accepts and what is read here agree.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from functools import partial
from itertools import chain
from typing import Any, TypeVar, assert_never

from reconciler.config.load import POLICY_NAMES, unreadable
from reconciler.config.messages import null_value, surprise_complaint
from reconciler.config.policy_values import Value, bad_family, example_of, reader_of
from reconciler.config.schema_check import Fault, Path, fault_place, faults, node_at, place_of, to_document
from reconciler.config.secret_redaction import unquoted
from reconciler.config.suggest import nearest_key
from reconciler.config.values import Complaint
from reconciler.config.yaml_ambiguity import Surprise, resolve
from reconciler.config.yaml_nodes import (
    MAX_BYTES,
    Node,
    Opaque,
    Place,
    Scalar,
    Sequence,
    Table,
    Tree,
    read_nodes,
)
from reconciler.core.exposure import Figure
from reconciler.core.model import Family, Field, interval_text
from reconciler.core.policy import Bound, Bounds, Exposures, Floor, Loosening, Policy, format_decimal
from reconciler.core.problems import (
    Code,
    Collected,
    Problem,
    any_error,
    escape_unprintable,
    problem,
    quoted,
)
from reconciler.regular_file import read_regular

SCHEMA = "policy"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PolicyReading:
    """What came of one policy file. ``policy`` is None exactly when one of ``problems`` is an error.

    ``problems`` go from top to bottom. ``text`` is the file's content for excerpts ("" if it could
    not be read). A file with a configured secret in it is not ``quotable``.
    """

    path: str
    text: str
    policy: Policy | None
    problems: tuple[Problem, ...]
    quotable: bool = True


Failure = Callable[[str, Exception], Problem]
"""Makes a problem of the error with which a path could not be read, or raises that."""


def policy_for(
    config_path: str,
    named: str | None,
    load: Callable[[str], PolicyReading] | None = None,
    failure: Failure = unreadable,
) -> PolicyReading | None:
    """Read the policy that is ``named``, else the one beside ``config_path``; None: there is none.

    A named file that is missing is an error; so are two policies in one folder. ``load`` reads the
    one that was found, None: from disk.
    """
    load = load or partial(load_policy, failure=failure)
    if named is not None:
        return load(named)
    folder = os.path.dirname(config_path)
    try:
        names = os.listdir(folder or os.curdir)
    except OSError as error:
        return _failed(failure(folder or os.curdir, error))
    return policy_among({name: os.path.join(folder, name) for name in names}, load)


def policy_among(paths: Mapping[str, str], load: Callable[[str], PolicyReading]) -> PolicyReading | None:
    """Read the policy among the files of one folder, paths by name, with ``load``; None: there is none."""
    present = sorted(POLICY_NAMES & paths.keys())
    if len(present) > 1:
        message = f"there is {present[0]}, too, and only one policy can hold"
        hint = "merge the two files into one"
        return _failed(problem(Code.TWO_POLICIES, paths[present[1]], message, hint))
    return load(paths[present[0]]) if present else None


def load_policy(
    path: str, read: Callable[[bytes, str], PolicyReading] | None = None, failure: Failure = unreadable
) -> PolicyReading:
    """Read the policy file at ``path``; ``read`` makes a reading of its content, None: read_policy."""
    try:
        # One byte more than is allowed is enough to know that it is too large.
        content = read_regular(path, MAX_BYTES + 1)
    except FileNotFoundError:
        message = "there is no such file; without it nothing would be held to its policy"
        return _failed(
            problem(Code.FILE_MISSING, path, message, "check the path and the folder you are in")
        )
    except (OSError, ValueError) as error:
        return _failed(failure(path, error))
    return (read or read_policy)(content, path)


def read_policy(content: bytes, path: str) -> PolicyReading:
    """Read one policy's ``content``; ``path`` names it in problems. Never raises for content."""
    tree = read_nodes(content, path)
    reading = _read(tree, content, path)
    text, problems, quotable = unquoted(tree, reading.problems)
    return replace(reading, text=text, problems=problems, quotable=quotable)


def _read(tree: Tree, content: bytes, path: str) -> PolicyReading:
    collected = Collected(_in_words_of_a_policy(each) for each in tree.problems)
    if tree.root is None or isinstance(tree.root, Opaque):
        return PolicyReading(path, tree.text, None, collected.problems())
    values: dict[Path, Value] = {}
    explained: set[Path | None] = set()
    for each in _findings(tree.root, values, explained):
        collected.add(_problem(each, path))
        if collected.is_full():
            break
    problems = collected.problems()
    policy = None if any_error(problems) else _policy(values, path, content)
    return PolicyReading(path, tree.text, policy, problems)


def recorded_policy(sha256: str, path: str, document: str) -> Policy | None:
    """Return a policy that is on record, by the text of its file; None where that is not valid any more.

    ``sha256`` is that of the file, whose bytes may differ from its text.
    """
    policy = read_policy(document.encode("utf-8", "replace"), path).policy
    return None if policy is None else replace(policy, sha256=sha256)


@dataclass(frozen=True, slots=True)
class _Found:
    """A complaint with its place; ``path`` is the value it is about, None if about a key."""

    at: Place
    complaint: Complaint
    path: Path | None = None


Values = Mapping[Path, Value]
"""The single values of the file that hold, by where they are."""


def _findings(root: Node, values: dict[Path, Value], explained: set[Path | None]) -> Iterator[_Found]:
    """Yield everything that is wrong; ``values`` are filled on the way, as are the paths ``explained``."""
    for found in chain(_read_values(root, values), _crossed(root, values), _twice(root, values)):
        explained.add(found.path)
        yield found
    yield from _schema_findings(root, explained)


def _read_values(root: Node, values: dict[Path, Value]) -> Iterator[_Found]:
    for path, node in _scalars(root, ()):
        reader = reader_of(path)
        if reader is None:
            continue
        refused = _refused(path, node)
        value, complaint = (None, refused) if refused else reader(node)
        if value is not None:
            values[path] = value
        if complaint is not None:
            at = place_of(root, path) if complaint.code is Code.NULL_VALUE else node.at
            yield _Found(at, complaint, path)


def _scalars(node: Node, path: Path) -> Iterator[tuple[Path, Scalar]]:
    match node:
        case Scalar():
            yield path, node
        case Table(entries=entries):
            for key, entry in entries.items():
                yield from _scalars(entry.value, (*path, key))
        case Sequence(items=items):
            for place, item in enumerate(items):
                yield from _scalars(item, (*path, place))
        case Opaque():
            return
        case _:
            assert_never(node)


def _refused(path: Path, node: Scalar) -> Complaint | None:
    """Complain of a plain value YAML makes nothing of, or something else by version."""
    resolved = resolve(node.text) if node.plain else node.text
    if resolved is None:
        return null_value(_name(path))
    if not isinstance(resolved, Surprise):
        return None
    complaint = surprise_complaint(path, node.text, resolved)
    hint = f"did you mean {resolved.instead}?" if resolved.instead else f"write it as {example_of(path)}"
    return Complaint(complaint.code, complaint.message, hint)


def _crossed(root: Node, values: Values) -> Iterator[_Found]:
    """Find a min above its max: no value could be within the two."""
    for path, least in values.items():
        most = values.get((*path[:-1], "max"))
        if path[-1] == "min" and isinstance(least, Decimal) and isinstance(most, Decimal) and least > most:
            told = [_told(path, value) for value in (least, most)]
            message = f"{_name(path)} is {told[0]}, which is more than the max of {told[1]}"
            yield _Found(
                place_of(root, path), Complaint(Code.MIN_OVER_MAX, message, "nothing fits between"), path
            )


def _told(path: Path, value: Decimal) -> str:
    return format_decimal(value) if path[-2] == Field.QTY_LIMIT else interval_text(int(value))


def _twice(root: Node, values: Values) -> Iterator[_Found]:
    """Find a protected family that is listed twice."""
    seen: set[Value] = set()
    for path, value in values.items():
        if path[0] == "protected" and value in seen:
            complaint = Complaint(
                Code.DUPLICATE_FAMILY, f"{value} is listed already", "delete one of the two"
            )
            yield _Found(place_of(root, path), complaint, path)
        if path[0] == "protected":
            seen.add(value)


def _schema_findings(root: Node, explained: set[Path | None]) -> Iterator[_Found]:
    """Yield what the schema refuses, and surprises, except of values already complained about."""
    document = to_document(root)
    for path, scalar, surprise in document.surprises:
        if path not in explained:
            yield _Found(scalar.at, surprise_complaint(path, scalar.text, surprise))
    for fault in faults(root, document, SCHEMA):
        if fault.key is not None or fault.path not in explained:
            yield _Found(fault_place(root, fault), _fault_complaint(fault, node_at(root, fault.path)))


def _fault_complaint(fault: Fault, node: Node | None) -> Complaint:
    if fault.key is not None:
        return _key_complaint(fault, fault.key)
    if isinstance(node, Scalar) and node.plain and resolve(node.text) is None:
        return null_value(_name(fault.path))
    if fault.path == ("version",) and isinstance(node, Scalar):
        hint = (
            "write version: 1 without quotes" if node.text == "1" else "this program reads version: 1 only"
        )
        return Complaint(Code.BAD_VERSION, f"version must be 1, not {quoted(node.text)}", hint)
    if fault.keyword == "maxItems":
        return Complaint(Code.TOO_MANY_FAMILIES, "more than 10,000 families", "check how the file was made")
    message = f"{_name(fault.path)} must be {_kind_of(fault.path)}"
    return Complaint(Code.WRONG_TYPE, message, f"write it as {example_of(fault.path)}")


def _kind_of(path: Path) -> str:
    if path == ("protected",):
        return "a list"
    return "a single value" if reader_of(path) or path == ("version",) else "a mapping of keys to values"


def _key_complaint(fault: Fault, key: str) -> Complaint:
    if fault.keyword == "propertyNames":
        return bad_family(key, patterns=True)
    if fault.keyword == "required":
        return Complaint(Code.MISSING_KEY, f"{_name(fault.path)} has no {key}", f"add {example_of((key,))}")
    if fault.keyword == "dependentRequired":
        name, needed = _name((*fault.path, key)), fault.needed[0]
        message = f"{name} limits nothing without {_name((*fault.path, needed))}"
        return Complaint(Code.MISSING_KEY, message, f"add {example_of((needed,))}, or delete {key}")
    where = f" in {_name(fault.path)}" if fault.path else ""
    meant = nearest_key(key, fault.allowed)
    hint = f"did you mean {meant}?" if meant else f"the keys here are: {', '.join(fault.allowed)}"
    return Complaint(Code.UNKNOWN_KEY, f"unknown key {quoted(key)}{where}", hint)


def _name(path: Path) -> str:
    """Return how a place of the file is called, as its refusals call rules: ``loosening.maxFactor``."""
    steps = (str(step + 1) if isinstance(step, int) else escape_unprintable(step[:40]) for step in path)
    return ".".join(steps) or "the file"


def _policy(values: Values, path: str, content: bytes) -> Policy:
    named = dict.fromkeys(place[2] for place in values if place[:2] == ("bounds", "families"))
    return Policy(
        path=path,
        sha256=hashlib.sha256(content).hexdigest(),
        default=_bounds(values, ("bounds", "default")),
        families={str(name): _bounds(values, ("bounds", "families", name)) for name in named},
        loosening=Loosening(
            _said(values, Decimal, "loosening", "maxFactor"),
            _said(values, int, "loosening", "maxFamilies"),
            _said(values, Decimal, "loosening", "maxShare"),
            per=_said(values, timedelta, "loosening", "per"),
            unknown_allowed=_said(values, bool, "loosening", "unknown") or False,
        ),
        disable_allowed=_said(values, bool, "disable") or False,
        protected=frozenset(
            Family(str(value)) for place, value in values.items() if place[0] == "protected"
        ),
        default_exposure=_exposures(values, ("bounds", "default")),
        family_exposures={
            str(name): limits
            for name in named
            if (limits := _exposures(values, ("bounds", "families", name)))
        },
        floor=Floor(
            int(_said(values, Decimal, "floor", "timeInterval") or Floor().time_interval_ms),
            _said(values, Decimal, "floor", "factor") or Floor().factor,
        ),
    )


def _exposures(values: Values, table: Path) -> Exposures:
    return {
        name: most
        for name in Figure
        if (most := _said(values, Decimal, *table, "exposure", name.value, "max")) is not None
    }


def _bounds(values: Values, table: Path) -> Bounds:
    return {
        name: Bound(
            _said(values, Decimal, *table, name.value, "min"),
            _said(values, Decimal, *table, name.value, "max"),
            _said(values, bool, *table, name.value, _ZERO_KEYS[name]),
        )
        for name in Field
        if any(place[: len(table) + 1] == (*table, name.value) for place in values)
    }


_ZERO_KEYS = {Field.TIME_INTERVAL: "disabled", Field.FROZEN_INTERVAL: "until-reset", Field.QTY_LIMIT: ""}


def _said(values: Values, kind: type[T], *path: Any) -> T | None:
    value = values.get(path)
    return value if isinstance(value, kind) else None


_OTHER_WORDS = {
    Code.EMPTY_FILE: (
        "the file has no content; that never means “no policy”",
        "restore it, or delete it if there shall be none",
    ),
    Code.MULTIPLE_DOCUMENTS: ("a second document begins here", "a policy is one document: merge the two"),
}
"""What the reader of nodes says of mmp.yaml and is said otherwise of a policy."""


def _in_words_of_a_policy(found: Problem) -> Problem:
    message, hint = _OTHER_WORDS.get(found.code, (found.message, found.hint))
    hint = hint.replace("mmp schema mmp", "mmp schema policy")
    return problem(found.code, found.path, message, hint, line=found.line, column=found.column)


def _problem(found: _Found, path: str) -> Problem:
    complaint, at = found.complaint, found.at
    return problem(complaint.code, path, complaint.message, complaint.hint, line=at.line, column=at.column)


def _failed(found: Problem) -> PolicyReading:
    return PolicyReading(found.path, "", None, (found,))
