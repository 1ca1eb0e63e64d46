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


def schema_message(error: SchemaError, node: Node | None) -> ValueProblem:
    """Return the problem for an error of the schema; ``node`` is the value concerned, None for a key."""
    if error.key is not None:
        return _key_message(error, error.key)
    if error.keyword == "maxProperties":
        return ValueProblem(
            Code.TOO_MANY_FAMILIES, "more than 10,000 families", "check how the file was made"
        )
    if error.path == ("families",) and (error.keyword == "minProperties" or _is_null(node)):
        return _no_families()
    if _is_null(node):
        return null_value(place_name(error.path))
    if isinstance(node, Scalar) and error.path in _VALUE_ERRORS:
        return _VALUE_ERRORS[error.path](node)
    return _wrong_type(error.path, node)


def ambiguity_message(path: KeyPath, text: str, ambiguous: AmbiguousScalar) -> ValueProblem:
    """Return the problem of an ambiguous plain value outside the three fields."""
    hint = f"put it in quotes if it is text: {quoted(text)}"
    if path == ("version",):
        hint = "write version: 1"
    return ValueProblem(Code.YAML_NUMBER, _ambiguity_text(text, ambiguous), hint)


def field_ambiguity(name: Field, text: str, ambiguous: AmbiguousScalar) -> ValueProblem:
    """Return the problem of an ambiguous plain value of a field."""
    return ValueProblem(
        Code.YAML_NUMBER, _ambiguity_text(text, ambiguous), _field_hint(name, text, ambiguous)
    )


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
        return _bad_family(key)
    return _missing_key(error, key) if error.keyword == "required" else _unknown_key(error, key)


def _unknown_key(error: SchemaError, key: str) -> ValueProblem:
    where = f" in {place_name(error.path)}" if error.path else ""
    return ValueProblem(Code.UNKNOWN_KEY, f"unknown key {quoted(key)}{where}", _unknown_hint(error, key))


def _unknown_hint(error: SchemaError, key: str) -> str:
    if meant := nearest_key(key, error.allowed):
        return f"did you mean {meant}?"
    if not error.path and nearest_key(key, Field):
        return "the three fields belong to a family, or under defaults for all families"
    if not error.path and (family := nearest_family(key)):
        return f"families are listed under families: {{{family}: …}}"
    return f"the keys here are: {', '.join(error.allowed)}"


def _missing_key(error: SchemaError, key: str) -> ValueProblem:
    example = _EXAMPLES.get((*error.path, key), f"{key}: …")
    return ValueProblem(Code.MISSING_KEY, f"{place_name(error.path)} has no {key}", f"add {example}")


def _bad_family(key: str) -> ValueProblem:
    message = f"{quoted(key)} is not the name of an instrument family"
    if (meant := nearest_family(key)) and _FAMILY.fullmatch(meant):
        return ValueProblem(Code.BAD_FAMILY, message, f"did you mean {meant}?")
    if nearest_key(key, Field):
        hint = (
            "the three fields belong to a family: {BTC-USD: {qtyLimit: 100}}; for all families use defaults"
        )
        return ValueProblem(Code.BAD_FAMILY, message, hint)
    return ValueProblem(Code.BAD_FAMILY, message, "name it as OKX does, in capitals: BTC-USD or SOL-USD_UM")


def _bad_version(node: Scalar) -> ValueProblem:
    hint = "write version: 1 without quotes" if node.text == "1" else "this program reads version: 1 only"
    return ValueProblem(Code.BAD_VERSION, f"version must be 1, not {_as_written(node)}", hint)


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
    return ValueProblem(
        Code.BAD_ENVIRONMENT, f"environment must be live or demo, not {_as_written(node)}", hint
    )


def _bad_uid(node: Scalar) -> ValueProblem:
    if node.plain and re.fullmatch("[0-9]{1,20}", node.text):
        message = "the uid must be in quotes: YAML changes plain numbers (0123 is not 123)"
        return ValueProblem(Code.BAD_UID, message, f'write uid: "{node.text}"')
    return ValueProblem(
        Code.BAD_UID, f"{_as_written(node)} is not a User ID", 'digits in quotes, as in uid: "446556540"'
    )


def _bad_prefix(node: Scalar) -> ValueProblem:
    # The message does not repeat the value, because it may be an API key.
    message = "this is not a prefix of environment variables"
    if re.fullmatch("[A-Z][A-Z0-9_]{0,15}", node.text):
        return ValueProblem(Code.BAD_PREFIX, message, f"end it with an underscore: prefix: {node.text}_")
    return ValueProblem(
        Code.BAD_PREFIX, message, "capitals, digits and underscores, ending with one: prefix: OKX_"
    )


def _no_families() -> ValueProblem:
    message = "families is empty; this never means “nothing desired”"
    return ValueProblem(Code.NO_FAMILIES, message, "list at least one, as in BTC-USD: {qtyLimit: 100}")


def _wrong_type(path: KeyPath, node: Node | None) -> ValueProblem:
    wanted = "a single value" if path in _VALUE_ERRORS else "a mapping of keys to values"
    kind = (
        "a single value"
        if isinstance(node, Scalar)
        else "a mapping"
        if isinstance(node, Table)
        else "a list"
    )
    example = _EXAMPLES.get(
        path, "BTC-USD: {qtyLimit: 100}" if path else "version: 1, environment: live, …"
    )
    return ValueProblem(
        Code.WRONG_TYPE, f"{place_name(path)} must be {wanted}, not {kind}", f"write it as {example}"
    )


_VALUE_ERRORS: dict[KeyPath, Callable[[Scalar], ValueProblem]] = {
    ("version",): _bad_version,
    ("account",): _bad_account,
    ("environment",): _bad_environment,
    ("expect", "uid"): _bad_uid,
    ("credentials", "prefix"): _bad_prefix,
}


def _ambiguity_text(text: str, ambiguous: AmbiguousScalar) -> str:
    return f"YAML programs do not agree on plain {quoted(text)}: it can be {ambiguous.taken_for}"


def _field_hint(name: Field, text: str, ambiguous: AmbiguousScalar) -> str:
    if ambiguous.instead:
        minutes = (
            f"; for a duration of {quoted(text)} write it in seconds or minutes, such as 90s"
            if ":" in text
            else ""
        )
        return f"did you mean {ambiguous.instead}?{minutes}"
    if name is Field.TIME_INTERVAL and text.casefold() in ("n", "no", "off", "false"):
        return "to switch the protection off, write timeInterval: disabled"
    if name is Field.QTY_LIMIT:
        return "write the number of contracts in plain digits, such as 100 or 0.5"
    return f"write whole milliseconds or a number and a unit, such as 5s, or {ZERO_WORDS[name]}"


def _as_written(node: Scalar) -> str:
    return quoted(node.text) if not node.plain else quoted(node.text)[1:-1]


def _is_null(node: Node | None) -> bool:
    return isinstance(node, Scalar) and node.plain and resolve_scalar(node.text) is None


def _plainly(name: str) -> str:
    return name if _FAMILY.fullmatch(name) and len(name) <= 40 else quoted(name)
