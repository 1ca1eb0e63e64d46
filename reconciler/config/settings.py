"""mmp.yaml → Desired, or every problem it has at once.

This file decides whether a settings file is accepted. It is never accepted in part: with an error anywhere
there is no Desired. The reader of nodes reads the fields and asks the published schema about everything but
the families whose fields are all valid (a test checks that the two agree on those). This file combines each
family with the defaults.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from typing import Any

from reconciler.config.messages import field_ambiguity, field_not_single, missing_fields, schema_message
from reconciler.config.reader import (
    ABSENT,
    NO_READERS,
    Format,
    NodeReader,
    TooManyProblems,
    ValueReaders,
    collector_paused,
)
from reconciler.config.schema_check import KeyPath, node_at, position_at
from reconciler.config.secret_redaction import redacted
from reconciler.config.suggest import nearest_key
from reconciler.config.values import read_interval, read_quantity
from reconciler.config.yaml_nodes import InvalidNode, Node, Position, Table, Tree, read_nodes
from reconciler.core.model import (
    ACCOUNT_PATTERN,
    FAMILY_PATTERN,
    Desired,
    DesiredFamily,
    Environment,
    Family,
    Field,
    FilePosition,
    Setting,
)
from reconciler.core.problems import MAX_PROBLEMS, Collected, Problem, any_error

MAX_FAMILIES = 10_000
DEFAULT_ACCOUNT = "main"
DEFAULT_PREFIX = "OKX_"

MOST_UNKNOWN = 20
"""Unknown keys of one table that are compared with the fields; with more, any field may be meant."""

_FAMILY = re.compile(FAMILY_PATTERN)
_ACCOUNT = re.compile(ACCOUNT_PATTERN)

_FIELDS: ValueReaders = {
    Field.TIME_INTERVAL.value: lambda node: read_interval(Field.TIME_INTERVAL, node.text),
    Field.FROZEN_INTERVAL.value: lambda node: read_interval(Field.FROZEN_INTERVAL, node.text),
    Field.QTY_LIMIT.value: lambda node: read_quantity(node.text),
}


_DEFAULTS = ("defaults",)


def _value_readers(path: KeyPath) -> ValueReaders:
    """Return the value readers of a table: the three fields in defaults and in each family."""
    is_fields = (len(path) == 2 and path[0] == "families") or path == _DEFAULTS
    return _FIELDS if is_fields else NO_READERS


SETTINGS_FORMAT = Format(
    schema="mmp",
    value_readers=_value_readers,
    name=lambda path: str(path[-1]),
    ambiguity=lambda path, text, ambiguous: field_ambiguity(Field(str(path[-1])), text, ambiguous),
    not_single=lambda path: field_not_single(Field(str(path[-1]))),
    schema_message=schema_message,
    null_at_key=True,
)


@dataclass(frozen=True, slots=True)
class AccountRef:
    """The account and environment of a settings file, and where the file names them."""

    account: str
    environment: Environment
    position: Position


@dataclass(frozen=True, slots=True)
class Reading:
    """The result of reading one settings file. ``desired`` is None if and only if a problem is an error.

    ``problems`` are in the order of the file. ``text`` is the file's content for excerpts, without
    configured secrets ("" if it could not be read). ``owner`` is None if the account or the environment is
    invalid. A file that contains a configured secret is not ``quotable``.
    """

    path: str
    text: str
    desired: Desired | None
    problems: tuple[Problem, ...]
    owner: AccountRef | None = None
    quotable: bool = True


@collector_paused()
def read_config(content: bytes, path: str) -> Reading:
    """Read one file's ``content``; ``path`` names it in problems and sources. Never raises for content."""
    tree = read_nodes(content, path)
    reading = _read(tree, content, path)
    text, problems, quotable = redacted(tree, reading.problems)
    return replace(reading, text=text, problems=problems, quotable=quotable)


def _read(tree: Tree, content: bytes, path: str) -> Reading:
    found, root = Collected(tree.problems), tree.root
    if root is None or isinstance(root, InvalidNode):
        return Reading(path, tree.text, None, found.problems())
    reader = _SettingsReader(root, path, found)
    owner = None
    try:
        document = reader.document()
        owner = _account_ref(root, document)
        reader.check_schema(document)
    except TooManyProblems:
        pass
    problems = found.problems()
    if any_error(problems) or owner is None:
        return Reading(path, tree.text, None, problems, owner)
    desired = Desired(
        account=owner.account,
        environment=owner.environment,
        families=reader.families,
        path=path,
        sha256=hashlib.sha256(content).hexdigest(),
        credentials_prefix=document.get("credentials", {}).get("prefix", DEFAULT_PREFIX),
        expected_uid=document.get("expect", {}).get("uid"),
    )
    return Reading(path, tree.text, desired, problems, owner)


class _SettingsReader(NodeReader):
    """Reads the nodes of a settings file; ``families`` are those with all three fields."""

    def __init__(self, root: Node, path: str, problems: Collected) -> None:
        super().__init__(root, SETTINGS_FORMAT, path, problems)
        self.families: dict[Family, DesiredFamily] = {}

    def document(self) -> Any:
        """Read the file and return its document, without the families that the schema need not see."""
        if not isinstance(self._root, Table):
            return self.read(self._root, ())
        nodes = self._root.values
        # The defaults are read first, because each family is combined with them.
        read = {"defaults": self.read(nodes["defaults"], ("defaults",))} if "defaults" in nodes else {}
        for key, node in nodes.items():
            if key == "families" and isinstance(node, Table):
                read[key] = self._families(node, nodes.get("defaults"))
            elif key != "defaults":
                read[key] = self.read(node, (key,))
        return {key: read[key] for key in nodes if read[key] is not ABSENT}

    def _families(self, table: Table, defaults: Node | None) -> dict[str, Any]:
        """Read the families and return their document; of those that are valid it has only the first.

        One stays, so that the section is not empty. If there are too many families, all of them stay.
        """
        document: dict[str, Any] = {}
        with_unknown_keys, leave_out = 0, False
        default_values = self.values.get(_DEFAULTS, {})
        for name, node in table.values.items():
            if not isinstance(node, Table) or with_unknown_keys > MAX_PROBLEMS:
                value = self.read(node, ("families", name))
                if value is not ABSENT:
                    document[name] = value
                continue
            value, own = self.read_table(node, ("families", name))
            values = {**default_values, **own}
            if len(values) == len(_FIELDS):
                mark = table.key_marks[name]
                source = FilePosition(self._file, mark.line + 1, mark.column + 1)
                setting = Setting(values["timeInterval"], values["frozenInterval"], values["qtyLimit"])
                self.families[Family(name)] = DesiredFamily(setting, source)
            elif missing := tuple(
                each for each in Field if each not in _written(node) | _written(defaults)
            ):
                self.add(table.key_position(name), missing_fields(name, missing))
            if len(own) == len(node.values) and _FAMILY.fullmatch(name):
                if not leave_out:
                    document[name] = value
                leave_out = len(table.values) <= MAX_FAMILIES
            else:
                document[name] = value
                with_unknown_keys += not node.values.keys() <= _FIELDS.keys()
                if with_unknown_keys > MAX_PROBLEMS:  # more than are listed, so the schema refuses the file
                    self.read_no_more_values()
        return document


def _written(node: Node | None) -> set[str]:
    """Return the fields that a table has, valid or not, and those that its unknown keys may stand for."""
    if node is None:
        return set()
    unknown = [key for key in node.values if key not in _FIELDS] if isinstance(node, Table) else []
    if not isinstance(node, Table) or not node.complete or len(unknown) > MOST_UNKNOWN:
        return set(Field)
    meant = {nearest_key(key, Field) for key in unknown}
    return {field for field in Field if field in node.values or field in meant}


def _account_ref(root: Node, document: Any) -> AccountRef | None:
    if not isinstance(root, Table) or not isinstance(document, dict):
        return None
    environment, is_written = document.get("environment"), "account" in root.values
    account = document.get("account") if is_written else DEFAULT_ACCOUNT
    if not (isinstance(account, str) and _ACCOUNT.fullmatch(account) and environment in list(Environment)):
        return None
    position = position_at(root, ("account",) if is_written else ("environment",))
    return AccountRef(account, Environment(environment), position)


@dataclass(frozen=True, slots=True)
class ValueSource:
    """The position of one value; ``own`` is False if the value comes from the defaults."""

    source: FilePosition
    own: bool


def value_sources(reading: Reading, family: Family) -> dict[Field, ValueSource]:
    """Return where a valid file sets each field of a family: on its own line, or in the defaults."""
    assert reading.desired is not None, "only a valid file has values"
    root = read_nodes(reading.text.encode(), reading.path).root
    assert root is not None, "a valid file can be read again"
    found: dict[Field, ValueSource] = {}
    for name in Field:
        own = ("families", family, name.value)
        is_own = node_at(root, own) is not None
        position = position_at(root, own if is_own else ("defaults", name.value))
        found[name] = ValueSource(FilePosition(reading.path, position.line, position.column), is_own)
    return found
