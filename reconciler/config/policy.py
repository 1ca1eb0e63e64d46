"""The policy file: where it is found, and mmp-policy.yaml → Policy or all of its problems.

This file decides whether a policy is valid. It never accepts a policy in part: if there is an error
anywhere, there is no Policy. A policy file that exists but cannot be read is an error, never "no policy".
The published schema checks the complete file. A test checks that the schema and this file agree.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from typing import Any

from reconciler.config.load import POLICY_NAMES, OnDisk, read_content, unreadable_reading
from reconciler.config.messages import (
    TOO_MANY_FAMILIES,
    ambiguity_message,
    bad_version,
    is_null,
    missing_key,
    null_value,
    unknown_key,
)
from reconciler.config.policy_values import bad_pattern, example_of, value_readers
from reconciler.config.reader import Format, NodeReader, TooManyProblems, collector_paused
from reconciler.config.schema_check import KeyPath, SchemaError, position_at
from reconciler.config.secret_redaction import redacted
from reconciler.config.values import ValueProblem
from reconciler.config.yaml_ambiguity import AmbiguousScalar
from reconciler.config.yaml_nodes import InvalidNode, Node, Scalar, Tree, read_nodes
from reconciler.core.exposure import Figure
from reconciler.core.model import Field, interval_text
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


@dataclass(frozen=True, slots=True)
class PolicyReading:
    """The result of reading a policy file. ``policy`` is None if and only if a problem is an error.

    ``problems`` are in the order of the file. ``text`` is the file's content for excerpts ("" if it could
    not be read). A file that contains a configured secret is not ``quotable``.
    """

    path: str
    text: str
    policy: Policy | None
    problems: tuple[Problem, ...]
    quotable: bool = True


Failure = Callable[[str, Exception], Problem]
"""Turns the error of reading a path into a problem, or raises the error."""


def policy_for(
    config_path: str,
    named: str | None,
    load: Callable[[str], PolicyReading] | None = None,
    failure: Failure = unreadable_reading,
) -> PolicyReading | None:
    """Read the policy file ``named``, else the one in the folder of ``config_path``; None if there is none.

    A named file that does not exist is an error. Two policies in one folder are an error. ``load`` reads
    the file that was found; None means from disk.
    """
    load = load or partial(load_policy, failure=failure)
    if named is not None:
        return load(named)
    folder = os.path.dirname(config_path)
    try:
        names = os.listdir(folder or os.curdir)
    except OSError as error:
        return _failed_reading(failure(folder or os.curdir, error))
    return find_policy({name: os.path.join(folder, name) for name in names}, load)


def find_policy(paths: Mapping[str, str], load: Callable[[str], PolicyReading]) -> PolicyReading | None:
    """Find the policy in a folder's files (paths by name) and ``load`` it; None if there is none."""
    present = sorted(POLICY_NAMES & paths.keys())
    if len(present) > 1:
        message = f"{present[0]} exists too, and only one policy file is allowed"
        hint = "merge the two files into one"
        return _failed_reading(problem(Code.TWO_POLICIES, paths[present[1]], message, hint))
    return load(paths[present[0]]) if present else None


def load_policy(
    path: str,
    read: Callable[[bytes, str], PolicyReading] | None = None,
    failure: Failure = unreadable_reading,
) -> PolicyReading:
    """Read the policy file at ``path``; ``read`` parses its content, None means read_policy."""
    missing = "the policy file does not exist, so there would be no limits"
    content = read_content(path, OnDisk(), failure, missing)
    if isinstance(content, Problem):
        return _failed_reading(content)
    return (read or read_policy)(content, path)


@collector_paused()
def read_policy(content: bytes, path: str) -> PolicyReading:
    """Read one policy's ``content``; ``path`` names it in problems. Never raises for content."""
    tree = read_nodes(content, path)
    reading = _read(tree, content, path)
    text, problems, quotable = redacted(tree, reading.problems)
    return replace(reading, text=text, problems=problems, quotable=quotable)


def _read(tree: Tree, content: bytes, path: str) -> PolicyReading:
    found, root = Collected(_with_policy_wording(each) for each in tree.problems), tree.root
    if root is None or isinstance(root, InvalidNode):
        return PolicyReading(path, tree.text, None, found.problems())
    reader = NodeReader(root, POLICY_FORMAT, path, found)
    with suppress(TooManyProblems):
        document = reader.read(root, ())
        _check_limits(root, reader)
        _check_protected(root, reader)
        reader.check_schema(document)
    problems = found.problems()
    policy = None if any_error(problems) else _policy(reader.values, path, content)
    return PolicyReading(path, tree.text, policy, problems)


def recorded_policy(sha256: str, path: str, document: str) -> Policy | None:
    """Return the recorded policy, parsed from the text of its file; None if that is no longer valid.

    ``sha256`` is that of the file, whose bytes may differ from its text.
    """
    policy = read_policy(document.encode("utf-8", "replace"), path).policy
    return None if policy is None else replace(policy, sha256=sha256)


Values = Mapping[KeyPath, Mapping[str | int, Any]]
"""The valid single values of the file, by the path of their table or list and their key or index."""


def _ambiguity(path: KeyPath, text: str, ambiguous: AmbiguousScalar) -> ValueProblem:
    found = ambiguity_message(path, text, ambiguous)
    hint = f"did you mean {ambiguous.instead}?" if ambiguous.instead else f"write it as {example_of(path)}"
    return replace(found, hint=hint)


def _check_limits(root: Node, reader: NodeReader) -> None:
    """Add a problem for each min above its max, because no value is between the two."""
    for path, values in reader.values.items():
        least, most = values.get("min"), values.get("max")
        if isinstance(least, Decimal) and isinstance(most, Decimal) and least > most:
            place = (*path, "min")
            least_text, most_text = _limit_text(path, least), _limit_text(path, most)
            message = f"{_place_name(place)} is {least_text}, which is above the max of {most_text}"
            found = ValueProblem(Code.MIN_OVER_MAX, message, "no value is allowed between them")
            reader.add(position_at(root, place), found, place)


def _limit_text(path: KeyPath, value: Decimal) -> str:
    return format_decimal(value) if path[-1] == Field.QTY_LIMIT else interval_text(int(value))


def _check_protected(root: Node, reader: NodeReader) -> None:
    """Add a problem for each protected family that is listed twice."""
    seen = set()
    for index, family in reader.values.get(("protected",), {}).items():
        if family in seen:
            place, message = ("protected", index), f"{family} is already listed"
            found = ValueProblem(Code.DUPLICATE_FAMILY, message, "delete one of the two")
            reader.add(position_at(root, place), found, place)
        seen.add(family)


def _schema_message(error: SchemaError, node: Node | None) -> ValueProblem:
    place = _place_name(error.path)
    if error.key is not None:
        return _key_message(error, error.key, place)
    if is_null(node):
        return null_value(place)
    if error.path == ("version",) and isinstance(node, Scalar):
        return bad_version(node, quoted(node.text))
    if error.keyword == "maxItems":
        return TOO_MANY_FAMILIES
    kind, path = "a mapping of keys to values", error.path
    if path == ("protected",):
        kind = "a list"
    elif path == ("version",) or (
        path and (None if isinstance(path[-1], int) else path[-1]) in value_readers(path[:-1])
    ):
        kind = "a single value"
    return ValueProblem(Code.WRONG_TYPE, f"{place} must be {kind}", f"write it as {example_of(path)}")


def _key_message(error: SchemaError, key: str, place: str) -> ValueProblem:
    if error.keyword == "propertyNames":
        return bad_pattern(key)
    if error.keyword == "required":
        return missing_key(place, key, example_of((key,)))
    if error.keyword == "dependentRequired":
        name, needed = _place_name((*error.path, key)), error.needed[0]
        message = f"{name} limits nothing without {_place_name((*error.path, needed))}"
        return ValueProblem(Code.MISSING_KEY, message, f"add {example_of((needed,))}, or delete {key}")
    return unknown_key(error, key, place)


def _place_name(path: KeyPath) -> str:
    """Return the name of a path in messages, such as ``loosening.maxFactor``."""
    steps = (str(step + 1) if isinstance(step, int) else escape_unprintable(step[:40]) for step in path)
    return ".".join(steps) or "the file"


def _policy(values: Values, path: str, content: bytes) -> Policy:
    named = dict.fromkeys(table[2] for table in values if table[:2] == ("bounds", "families"))
    loosening, floor = values.get(("loosening",), {}), values.get(("floor",), {})
    return Policy(
        path=path,
        sha256=hashlib.sha256(content).hexdigest(),
        default=_bounds(values, ("bounds", "default")),
        families={str(name): _bounds(values, ("bounds", "families", name)) for name in named},
        loosening=Loosening(
            loosening.get("maxFactor"),
            loosening.get("maxFamilies"),
            loosening.get("maxShare"),
            per=loosening.get("per"),
            unknown_allowed=loosening.get("unknown", False),
        ),
        disable_allowed=values.get((), {}).get("disable", False),
        protected=frozenset(values.get(("protected",), {}).values()),
        default_exposure=_exposures(values, ("bounds", "default")),
        family_exposures={
            str(name): limits
            for name in named
            if (limits := _exposures(values, ("bounds", "families", name)))
        },
        floor=Floor(
            int(floor.get("timeInterval", Floor().time_interval_ms)), floor.get("factor", Floor().factor)
        ),
    )


def _exposures(values: Values, table: KeyPath) -> Exposures:
    limits = {name: values.get((*table, "exposure", name.value)) for name in Figure}
    return {name: limit["max"] for name, limit in limits.items() if limit}


def _bounds(values: Values, table: KeyPath) -> Bounds:
    bounds = {name: values.get((*table, name.value)) for name in Field}
    return {
        name: Bound(bound.get("min"), bound.get("max"), bound.get(_ZERO_KEYS[name]))
        for name, bound in bounds.items()
        if bound
    }


_ZERO_KEYS = {Field.TIME_INTERVAL: "disabled", Field.FROZEN_INTERVAL: "until-reset", Field.QTY_LIMIT: ""}

POLICY_FORMAT = Format(
    schema="policy",
    value_readers=value_readers,
    name=_place_name,
    ambiguity=_ambiguity,
    not_single=lambda _: None,
    schema_message=_schema_message,
    null_at_key=False,
)

_POLICY_WORDING = {
    Code.EMPTY_FILE: (
        "the file has no content; this never means “no policy”",
        "restore it, or delete it if you want no policy",
    ),
    Code.MULTIPLE_DOCUMENTS: ("a second document begins here", "a policy is one document: merge the two"),
}
"""Messages and hints for a policy in place of those for mmp.yaml."""


def _with_policy_wording(found: Problem) -> Problem:
    message, hint = _POLICY_WORDING.get(found.code, (found.message, found.hint))
    return replace(found, message=message, hint=hint.replace("mmp schema mmp", "mmp schema policy"))


def _failed_reading(found: Problem) -> PolicyReading:
    return PolicyReading(found.path, "", None, (found,))
