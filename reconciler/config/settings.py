"""mmp.yaml → Desired, or every problem it has at once.

This file decides whether a file is accepted, and never half accepts one: with an error anywhere there
is no Desired. The published schema is asked about everything but the families already read without a
complaint (a test holds that the two agree on those); what a schema cannot see is checked beside it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from reconciler.config.fields import ALL_BROKEN, FIELD_NAMES, Fields, merged, read_fields
from reconciler.config.messages import fault_complaint, missing_fields, surprise_complaint
from reconciler.config.schema_check import (
    Document,
    Path,
    fault_place,
    faults,
    node_at,
    place_of,
    to_document,
)
from reconciler.config.secret_redaction import unquoted
from reconciler.config.values import Complaint
from reconciler.config.yaml_nodes import Entry, Node, Opaque, Place, Table, Tree, read_nodes
from reconciler.core.model import (
    ACCOUNT_PATTERN,
    FAMILY_PATTERN,
    Desired,
    DesiredFamily,
    Environment,
    Family,
    FilePosition,
    Setting,
)
from reconciler.core.problems import MAX_PROBLEMS, Collected, Problem, any_error, problem

SCHEMA = "mmp"
MAX_FAMILIES = 10_000
DEFAULT_ACCOUNT = "main"
DEFAULT_PREFIX = "OKX_"

_FAMILY = re.compile(FAMILY_PATTERN)
_ACCOUNT = re.compile(ACCOUNT_PATTERN)


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose settings a file says it holds, and where it says so."""

    account: str
    environment: Environment
    at: Place


@dataclass(frozen=True, slots=True)
class Reading:
    """What came of one file. ``desired`` is None exactly when one of ``problems`` is an error.

    ``problems`` go from top to bottom. ``text`` is the file's content for excerpts, without configured
    secrets ("" if it could not be read). ``owner`` is None when account or environment are not readable.
    A file with a configured secret in it is not ``quotable``.
    """

    path: str
    text: str
    desired: Desired | None
    problems: tuple[Problem, ...]
    owner: Owner | None = None
    quotable: bool = True


@dataclass(frozen=True, slots=True)
class _Found:
    """A complaint with its place; ``path`` is the value it is about, None if about a key."""

    at: Place
    complaint: Complaint
    path: Path | None = None


@dataclass(frozen=True, slots=True)
class _Families:
    """The families section as read: complete settings, what was found, and who needs no schema.

    Not ``whole``: reading it ended early, because what the schema will refuse is more than is listed.
    """

    settings: dict[Family, DesiredFamily]
    found: tuple[_Found, ...]
    accepted: frozenset[str]
    whole: bool


def read_config(content: bytes, path: str) -> Reading:
    """Read one file's ``content``; ``path`` names it in problems and sources. Never raises for content."""
    tree = read_nodes(content, path)
    reading = _read(tree, content, path)
    text, problems, quotable = unquoted(tree, reading.problems)
    return replace(reading, text=text, problems=problems, quotable=quotable)


def _read(tree: Tree, content: bytes, path: str) -> Reading:
    found = Collected(tree.problems)
    if tree.root is None or isinstance(tree.root, Opaque):
        return Reading(path, tree.text, None, found.problems())
    families = _read_families(tree.root, path, found)
    if found.is_full():
        return Reading(path, tree.text, None, found.problems())
    rest = _without(tree.root, families.accepted)
    document = to_document(rest)
    # Of one value the schema may refuse two things that are said in the same words.
    for each in _schema_findings(rest, document, families.found):
        found.add(_problem(each, path))
        if found.is_full():
            break
    problems = found.problems()
    owner = _owner(tree.root, document.value)
    if any_error(problems) or not families.whole or owner is None:
        return Reading(path, tree.text, None, problems, owner)
    desired = _desired(document.value, families.settings, owner, path, content)
    return Reading(path, tree.text, desired, problems, owner)


def _read_families(root: Node, path: str, collected: Collected) -> _Families:
    """Read the families, adding what is wrong to ``collected``, until that is full."""
    defaults, found = _read_defaults(root)
    table = node_at(root, ("families",))
    settings: dict[Family, DesiredFamily] = {}
    accepted: set[str] = set()
    told = refused = 0
    for name, entry in table.entries.items() if isinstance(table, Table) else ():
        for each in found[told:]:
            collected.add(_problem(each, path))
        told = len(found)
        if collected.is_full() or refused > MAX_PROBLEMS:
            break
        if not isinstance(entry.value, Table):
            continue
        own = read_fields(entry.value)
        refused += not entry.value.entries.keys() <= FIELD_NAMES
        found.extend(_of_fields(own, ("families", name)))
        match merged(own, defaults):
            case Setting() as setting:
                settings[Family(name)] = DesiredFamily(
                    setting, FilePosition(path, entry.key.at.line, entry.key.at.column)
                )
            case missing if missing:
                found.append(_Found(entry.key.at, missing_fields(name, missing)))
        if own.accepted and _FAMILY.fullmatch(name) and entry.value.entries.keys() <= FIELD_NAMES:
            accepted.add(name)
    for each in found[told:]:
        collected.add(_problem(each, path))
    return _Families(settings, tuple(found), frozenset(accepted), refused <= MAX_PROBLEMS)


def _read_defaults(root: Node) -> tuple[Fields, list[_Found]]:
    node = node_at(root, ("defaults",))
    if node is None:
        return Fields(), []
    if not isinstance(node, Table):
        return ALL_BROKEN, []
    fields = read_fields(node)
    return fields, list(_of_fields(fields, ("defaults",)))


def _of_fields(fields: Fields, table: Path) -> Iterator[_Found]:
    for name, at, complaint in fields.complaints:
        yield _Found(at, complaint, (*table, name.value))


def _without(root: Node, accepted: frozenset[str]) -> Node:
    """Return ``root`` with all but one of the accepted families left out: the schema knows none better.

    One stays, so that the section is not empty; beyond the limit all stay, so that the schema says so.
    """
    families = node_at(root, ("families",))
    if (
        not isinstance(root, Table)
        or not isinstance(families, Table)
        or len(families.entries) > MAX_FAMILIES
    ):
        return root
    keep = next(iter(accepted), None)
    left = {name: entry for name, entry in families.entries.items() if name == keep or name not in accepted}
    section = root.entries["families"]
    fewer = Table(left, families.at, families.whole)
    return Table({**root.entries, "families": Entry(section.key, fewer)}, root.at, root.whole)


def _schema_findings(root: Node, document: Document, found: tuple[_Found, ...]) -> Iterator[_Found]:
    """Yield what the schema refuses, and surprises, except of values already complained about."""
    explained = {each.path for each in found}
    for path, scalar, surprise in document.surprises:
        if path not in explained:
            yield _Found(scalar.at, surprise_complaint(path, scalar.text, surprise))
    for fault in faults(root, document, SCHEMA):
        if fault.key is None and fault.path in explained:
            continue
        yield _Found(fault_place(root, fault), fault_complaint(fault, node_at(root, fault.path)))


def _owner(root: Node, value: Any) -> Owner | None:
    if not isinstance(root, Table) or not isinstance(value, dict):
        return None
    environment = value.get("environment")
    written = "account" in root.entries
    account = value.get("account") if written else DEFAULT_ACCOUNT
    if (
        environment not in list(Environment)
        or not isinstance(account, str)
        or not _ACCOUNT.fullmatch(account)
    ):
        return None
    at = place_of(root, ("account",) if written else ("environment",))
    return Owner(account, Environment(environment), at)


def _desired(
    value: dict[str, Any], settings: dict[Family, DesiredFamily], owner: Owner, path: str, content: bytes
) -> Desired:
    return Desired(
        account=owner.account,
        environment=owner.environment,
        families=settings,
        path=path,
        sha256=hashlib.sha256(content).hexdigest(),
        credentials_prefix=value.get("credentials", {}).get("prefix", DEFAULT_PREFIX),
        expected_uid=value.get("expect", {}).get("uid"),
    )


def _problem(found: _Found, path: str) -> Problem:
    complaint, at = found.complaint, found.at
    return problem(complaint.code, path, complaint.message, complaint.hint, line=at.line, column=at.column)
