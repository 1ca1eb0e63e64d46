"""Reads documents of our own formats: saved plans, published statuses.

This file decides whether a file is such a document: strict JSON (no duplicate key, no NaN, bounded
nesting), of a format and version this program knows, and valid by its published schema. Any other file is
rejected (exit 4) with a code that begins with the expected kind.
"""

from __future__ import annotations

import json
import re
from itertools import islice
from typing import Any, NoReturn

from reconciler.core.problems import MAX_PROBLEMS, MAX_SHOWN, escape_unprintable
from reconciler.errors import InvalidInput
from reconciler.schema_files import load_schema
from reconciler.secret import has_secret

MAX_DOCUMENT_BYTES = 16 * 1024 * 1024
"""A plan of 10,000 changed families, indented for people, takes 5.5 MiB."""

_FORMAT = re.compile(r"mmp/([a-z]{1,20})/([0-9]{1,9})", re.ASCII)
_VERSION = 1

_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.ASCII)


def read_document(content: bytes, source: str, *kinds: str) -> dict[str, Any]:
    """Parse ``content`` as a document of one of ``kinds`` (``plan``, or ``status`` and ``statuses``).

    The schema is that of the first kind. Messages name the file ``source``. Raises InvalidInput:
    ``<kind>-too-large``, ``-not-json``, ``-foreign`` (another format), ``-too-new``, ``-malformed``.
    """
    try:
        return _read(content, source, kinds)
    except InvalidInput as refused:
        text = content.decode("utf-8", "replace")
        if has_secret(text) or has_secret(_ESCAPE.sub(_unescaped, text)) or has_secret(refused.message):
            raise InvalidInput(
                refused.code,
                f"{source} is invalid; its content is not shown, because it contains a configured secret",
                "remove the secret from the file, and replace the key",
            ) from None
        raise


def _unescaped(escape: re.Match[str]) -> str:
    return chr(int(escape[1], 16)) if escape[1] else str(escape[2])


def _read(content: bytes, source: str, kinds: tuple[str, ...]) -> dict[str, Any]:
    kind = kinds[0]
    if len(content) > MAX_DOCUMENT_BYTES:
        raise _refused(kind, "too-large", source, f"is larger than {MAX_DOCUMENT_BYTES >> 20} MiB")
    try:
        document = json.loads(
            content.decode("utf-8"), object_pairs_hook=_no_duplicates, parse_constant=_no_constant
        )
    except (ValueError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise _refused(kind, "not-json", source, f"is not strict JSON: {_cut(why)}") from None
    _check_format(document, source, kinds)
    _check_schema(document, source, kind)
    assert isinstance(document, dict)
    return document


def _check_format(document: object, source: str, kinds: tuple[str, ...]) -> None:
    kind = kinds[0]
    named = document.get("format") if isinstance(document, dict) else None
    match = _FORMAT.fullmatch(named) if isinstance(named, str) else None
    if match is None or match[1] not in kinds:
        sentence = "has no format" if named is None else f"has the format {_cut(json.dumps(named))}"
        wanted = " or ".join(f"mmp/{name}/{_VERSION}" for name in kinds)
        raise _refused(kind, "foreign", source, f"{sentence}; expected is {wanted}")
    if int(match[2]) != _VERSION:
        raise _refused(kind, "too-new", source, f"has format {match[0]}, which this version does not know")


def _check_schema(document: object, source: str, kind: str) -> None:
    from jsonschema.exceptions import best_match  # late: it costs more than all the rest
    from jsonschema.validators import Draft202012Validator

    errors = Draft202012Validator(load_schema(kind)).iter_errors(document)
    error = best_match(islice(errors, MAX_PROBLEMS))
    if error is not None:
        place = "".join(
            f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.absolute_path
        )
        position = _cut(place.lstrip(".") or "its top")
        message = f"does not match the schema at {position}: {_cut(error.message)}"
        raise _refused(kind, "malformed", source, message)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a key occurs twice")
    return table


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _cut(text: str) -> str:
    """Return text from outside, cut to a maximum length, safe for a terminal."""
    return escape_unprintable(text if len(text) <= 2 * MAX_SHOWN else text[: 2 * MAX_SHOWN - 1] + "…")


def _refused(kind: str, what: str, source: str, message: str) -> InvalidInput:
    return InvalidInput(f"{kind}-{what}", f"{source} {message}", _HINTS.get(kind, ""))


_HINTS = {
    "plan": "make it again: mmp plan --out FILE",
    "status": "publish it again: mmp status --output json",
}
