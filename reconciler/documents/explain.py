"""What ``mmp explain`` explains, a term or a family, and its document ``mmp/explain/1``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

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
    """One field of a family: its value as people write it, whether the family has it itself, and where.

    ``policy``: the values that the policy allows; None: it has no bound.
    """

    field: Field
    value: str
    own: bool
    source: FilePosition
    policy: str | None


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


def explain_document(terms: Sequence[Term] = (), families: Sequence[FamilyTerm] = ()) -> Document:
    """Return the ``mmp/explain/1`` document; a word can have several meanings.

    ``families``: one family in each account that was read.
    """
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
        "families": [asdict(family) for family in families],
    }
