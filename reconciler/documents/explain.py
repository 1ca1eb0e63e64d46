"""What ``mmp explain`` explains, a term or a family, and its document ``mmp/explain/1``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reconciler.core.model import Family, Field, FilePosition
from reconciler.core.problems import Explanation
from reconciler.documents.plan import Document


@dataclass(frozen=True, slots=True)
class Term:
    """One term explained. ``kind``: problem, error, okx, field, word or status. ``notes``: more facts."""

    name: str
    kind: str
    explanation: Explanation
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ExplainedValue:
    """One field of a family: its value as people write it, the value's source, and the allowed values."""

    field: Field
    text: str
    source: FilePosition
    own: bool
    allowed: str


@dataclass(frozen=True, slots=True)
class FamilyTerm:
    """A family of one account, explained. ``values`` is empty if the file does not manage the family."""

    family: Family
    account: str
    environment: str
    path: str
    meaning: str
    values: tuple[ExplainedValue, ...]
    notes: tuple[str, ...]


def terms_document(terms: Sequence[Term]) -> Document:
    """Return the ``mmp/explain/1`` document; a word can have several meanings."""
    return {
        "format": "mmp/explain/1",
        "terms": [
            {
                "name": term.name,
                "kind": term.kind,
                "title": term.explanation.title,
                "meaning": term.explanation.meaning,
                "notes": list(term.notes),
                "remedy": term.explanation.remedy or None,
            }
            for term in terms
        ],
        "families": [],
    }


def families_document(terms: Sequence[FamilyTerm]) -> Document:
    """Return the ``mmp/explain/1`` document of a family, in each account that was read."""
    return {
        "format": "mmp/explain/1",
        "terms": [],
        "families": [
            {
                "family": term.family,
                "account": term.account,
                "environment": term.environment,
                "path": term.path,
                "meaning": term.meaning,
                "values": [_value_document(value) for value in term.values],
                "notes": list(term.notes),
            }
            for term in terms
        ],
    }


def _value_document(value: ExplainedValue) -> Document:
    source = value.source
    return {
        "field": value.field.value,
        "value": value.text,
        "own": value.own,
        "source": {"path": source.path, "line": source.line, "column": source.column},
        "policy": value.allowed or None,
    }
