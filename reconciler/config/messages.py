"""The messages and hints for problems in a settings file: what is wrong, why, and what to do.

This file decides only codes and wording. Whether something is wrong is decided by the schema
(:mod:`reconciler.config.schema_check`) or by the reader of the value (:mod:`reconciler.config.values`).
"""

from __future__ import annotations

import re
from collections.abc import Callable

from reconciler.config.schema_check import KeyPath, SchemaError
from reconciler.config.suggest import nearest_environment, nearest_family, nearest_key
from reconciler.config.values import ValueProblem
from reconciler.config.yaml_ambiguity import AmbiguousScalar, resolve_scalar
from reconciler.config.yaml_nodes import Node, Scalar, Table
from reconciler.core.model import FAMILY_PATTERN, Field
from reconciler.core.policy import ZERO_WORDS
from reconciler.core.problems import Code, quoted

_FAMILY = re.compile(FAMILY_PATTERN)
_FIELD_EXAMPLES = {Field.TIME_INTERVAL: "5s", Field.FROZEN_INTERVAL: "2s", Field.QTY_LIMIT: "100"}
_EXAMPLES: dict[KeyPath, str] = {
    ("version",): "version: 1",
    ("account",): "account: main",
    ("environment",): "environment: live",
    ("expect",): 'expect: {uid: "446556540"}',
    ("expect", "uid"): 'uid: "446556540"',
    ("credentials",): "credentials: {prefix: OKX_}",
    ("credentials", "prefix"): "prefix: OKX_",
    ("defaults",): "defaults: {timeInterval: 5s, frozenInterval: 2s}",
    ("families",): "families: {BTC-USD: {qtyLimit: 100}}",
}


TOO_MANY_FAMILIES = ValueProblem(
    Code.TOO_MANY_FAMILIES, "more than 10,000 families", "check how the file was made"
)


def schema_message(error: SchemaError, node: Node | None) -> ValueProblem:
    """Return the problem for an error of the schema; ``node`` is the value concerned, None for a key."""
    if error.key is not None:
        return _key_message(error, error.key)
    if error.keyword == "maxProperties":
        return TOO_MANY_FAMILIES
    if error.path == ("families",) and (error.keyword == "minProperties" or is_null(node)):
        message = "families is empty; this never means “nothing desired”"
        return ValueProblem(Code.NO_FAMILIES, message, "list at least one, as in BTC-USD: {qtyLimit: 100}")
    if is_null(node):
        return null_value(place_name(error.path))
    if isinstance(node, Scalar) and error.path in _VALUE_ERRORS:
        return _VALUE_ERRORS[error.path](node)
    return _wrong_type(error.path, node)


def ambiguity_message(path: KeyPath, text: str, ambiguous: AmbiguousScalar) -> ValueProblem:
    """Return the problem of an ambiguous plain value outside the three fields."""
    hint = "write version: 1" if path == ("version",) else f"put it in quotes if it is text: {quoted(text)}"
    return ValueProblem(Code.YAML_NUMBER, _ambiguity_text(text, ambiguous), hint)


def field_ambiguity(name: Field, text: str, ambiguous: AmbiguousScalar) -> ValueProblem:
    """Return the problem of an ambiguous plain value of a field."""
    hint = _field_hint(name, text, ambiguous)
    return ValueProblem(Code.YAML_NUMBER, _ambiguity_text(text, ambiguous), hint)


def field_not_single(name: Field) -> ValueProblem:
    """Return the problem of a list or mapping in place of the value of a field."""
    message = f"{name} is a single value, not a list or mapping"
    return ValueProblem(Code.WRONG_TYPE, message, f"write it as {name}: {_FIELD_EXAMPLES[name]}")


def null_value(name: str) -> ValueProblem:
    """Return the problem of a key without a value."""
    message = f"{name} has no value; an empty value never means zero, disabled or a default"
    return ValueProblem(Code.NULL_VALUE, message, "write the value, or delete the key")


def missing_fields(family: str, missing: tuple[Field, ...]) -> ValueProblem:
    """Return the problem of a family with fields that neither it nor the defaults have."""
    message = f"{_plainly(family)} has no {' and no '.join(missing)}, neither its own nor from defaults"
    hint = f"add {' and '.join(missing)} to the family, or under defaults for all"
    return ValueProblem(Code.MISSING_KEY, message, hint)


def place_name(path: KeyPath) -> str:
    """Return the name of a path in messages: the key, and the table that it is in."""
    if not path:
        return "the file"
    *parents, last = path
    if parents == ["families"]:
        return f"family {_plainly(str(last))}"
    return f"{_plainly(str(last))} of {place_name(tuple(parents))}" if parents else str(last)


def _key_message(error: SchemaError, key: str) -> ValueProblem:
    if error.keyword == "propertyNames":
        fields = "the three fields belong to a family: {BTC-USD: {qtyLimit: 100}}"
        hint = f"{fields}; for all families use defaults" if nearest_key(key, Field) else ""
        return bad_family(key, hint)
    if error.keyword == "required":
        return missing_key(place_name(error.path), key, _EXAMPLES.get((*error.path, key), f"{key}: …"))
    hint = ""
    if not error.path and not nearest_key(key, error.allowed):
        if nearest_key(key, Field):
            hint = "the three fields belong to a family, or under defaults for all families"
        elif family := nearest_family(key):
            hint = f"families are listed under families: {{{family}: …}}"
    return unknown_key(error, key, place_name(error.path), hint)


def missing_key(place: str, key: str, example: str) -> ValueProblem:
    """Return the problem of a table without a key that it must have."""
    return ValueProblem(Code.MISSING_KEY, f"{place} has no {key}", f"add {example}")


def unknown_key(error: SchemaError, key: str, place: str, hint: str = "") -> ValueProblem:
    """Return the problem of a key that a table must not have; ``place`` is the name of the table."""
    meant = nearest_key(key, error.allowed)
    hint = f"did you mean {meant}?" if meant else hint or f"the keys here are: {', '.join(error.allowed)}"
    where = f" in {place}" if error.path else ""
    return ValueProblem(Code.UNKNOWN_KEY, f"unknown key {quoted(key)}{where}", hint)


def bad_family(name: str, hint: str = "") -> ValueProblem:
    """Return the problem of a name that is not a family's; ``hint`` applies if no family is similar."""
    meant = nearest_family(name)
    if meant and _FAMILY.fullmatch(meant):
        hint = f"did you mean {meant}?"
    message = f"{quoted(name)} is not the name of an instrument family"
    hint = hint or "name it as OKX does, in capitals: BTC-USD or SOL-USD_UM"
    return ValueProblem(Code.BAD_FAMILY, message, hint)


def bad_version(node: Scalar, shown: str) -> ValueProblem:
    """Return the problem of a version that is not 1."""
    hint = "write version: 1 without quotes" if node.text == "1" else "mmp reads version: 1 only"
    return ValueProblem(Code.BAD_VERSION, f"version must be 1, not {shown}", hint)


def _bad_account(node: Scalar) -> ValueProblem:
    if node.plain and not isinstance(resolve_scalar(node.text), str):
        message = f"account must be text, and {node.text[:40]} is a number to YAML"
        return ValueProblem(Code.BAD_ACCOUNT, message, f"put it in quotes: {quoted(node.text)}")
    message = f"{quoted(node.text)} is not an account name"
    hint = "1 to 63 lower-case letters, digits, dots, dashes and underscores, such as main or desk-2"
    return ValueProblem(Code.BAD_ACCOUNT, message, hint)


def _bad_environment(node: Scalar) -> ValueProblem:
    meant = nearest_environment(node.text)
    hint = f"did you mean {meant}?" if meant else "write environment: live or environment: demo"
    message = f"environment must be live or demo, not {_as_written(node)}"
    return ValueProblem(Code.BAD_ENVIRONMENT, message, hint)


def _bad_uid(node: Scalar) -> ValueProblem:
    if node.plain and re.fullmatch("[0-9]{1,20}", node.text):
        message = "the uid must be in quotes: YAML changes plain numbers (0123 is not 123)"
        return ValueProblem(Code.BAD_UID, message, f'write uid: "{node.text}"')
    message = f"{_as_written(node)} is not a User ID"
    return ValueProblem(Code.BAD_UID, message, 'digits in quotes, as in uid: "446556540"')


def _bad_prefix(node: Scalar) -> ValueProblem:
    # The message does not repeat the value, because it may be an API key.
    message = "this is not a prefix of environment variables"
    hint = "capitals, digits and underscores, ending with one: prefix: OKX_"
    if re.fullmatch("[A-Z][A-Z0-9_]{0,15}", node.text):
        hint = f"end it with an underscore: prefix: {node.text}_"
    return ValueProblem(Code.BAD_PREFIX, message, hint)


def _wrong_type(path: KeyPath, node: Node | None) -> ValueProblem:
    wanted = "a single value" if path in _VALUE_ERRORS else "a mapping of keys to values"
    kind = {Scalar: "a single value", Table: "a mapping"}.get(type(node), "a list")
    usual = "BTC-USD: {qtyLimit: 100}" if path else "version: 1, environment: live, …"
    message = f"{place_name(path)} must be {wanted}, not {kind}"
    return ValueProblem(Code.WRONG_TYPE, message, f"write it as {_EXAMPLES.get(path, usual)}")


_VALUE_ERRORS: dict[KeyPath, Callable[[Scalar], ValueProblem]] = {
    ("version",): lambda node: bad_version(node, _as_written(node)),
    ("account",): _bad_account,
    ("environment",): _bad_environment,
    ("expect", "uid"): _bad_uid,
    ("credentials", "prefix"): _bad_prefix,
}


def _ambiguity_text(text: str, ambiguous: AmbiguousScalar) -> str:
    return f"YAML programs do not agree on plain {quoted(text)}: it can be {ambiguous.taken_for}"


def _field_hint(name: Field, text: str, ambiguous: AmbiguousScalar) -> str:
    if ambiguous.instead:
        duration = f"; for a duration of {quoted(text)} write it in seconds or minutes, such as 90s"
        return f"did you mean {ambiguous.instead}?{duration if ':' in text else ''}"
    if name is Field.TIME_INTERVAL and text.casefold() in ("n", "no", "off", "false"):
        return "to switch the protection off, write timeInterval: disabled"
    if name is Field.QTY_LIMIT:
        return "write the number of contracts in plain digits, such as 100 or 0.5"
    return f"write whole milliseconds or a number and a unit, such as 5s, or {ZERO_WORDS[name]}"


def _as_written(node: Scalar) -> str:
    return quoted(node.text) if not node.plain else quoted(node.text)[1:-1]


def is_null(node: Node | None) -> bool:
    """Return whether a value means null to YAML."""
    return isinstance(node, Scalar) and node.plain and resolve_scalar(node.text) is None


def _plainly(name: str) -> str:
    return name if _FAMILY.fullmatch(name) and len(name) <= 40 else quoted(name)
