"""Explanations for people and programs: of a term, and of a family's effective values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal

from reconciler.core.model import Desired, Family, Field, FilePosition, interval_text, window_text
from reconciler.core.policy import (
    Bound,
    Floor,
    Policy,
    effective_bounds,
    effective_exposure,
    format_decimal,
)
from reconciler.core.problems import escape_unprintable
from reconciler.documents.explain import ExplainedValue, FamilyTerm, Term
from reconciler.render.color import Paint, Tone, plain
from reconciler.render.config_file import describe_setting


def family_term(
    family: Family, desired: Desired, places: dict[Field, tuple[bool, FilePosition]], policy: Policy | None
) -> FamilyTerm:
    """Return the explanation of ``family``; ``places`` is (own or not, source) by field."""
    owner = (family, desired.account, desired.environment.value, desired.path)
    wanted = desired.families.get(family)
    if wanted is None:
        meaning = "not in the file, so it is unmanaged: never written, never disabled"
        return FamilyTerm(*owner, meaning, (), _policy_notes(family, policy))
    bounds = effective_bounds(family, policy) if policy else {}
    values = tuple(
        ExplainedValue(
            name, wanted.setting.field_text(name), *places[name], bound_words(name, bounds.get(name))
        )
        for name in Field
    )
    return FamilyTerm(*owner, describe_setting(wanted.setting), values, _policy_notes(family, policy))


def bound_words(name: Field, bound: Bound | None) -> str | None:
    """Write the values that a policy allows for one field; None if it has no bound."""
    if bound is None:
        return None
    least, most = bound.minimum, bound.maximum
    parts = [f"at least {_number(name, least)}"] if least is not None else []
    parts += [f"at most {_number(name, most)}"] if most is not None else []
    if bound.zero_allowed is not None and name in _ZEROES:
        parts.append(f"{'may' if bound.zero_allowed else 'may not'} be {_ZEROES[name]}")
    return ", ".join(parts) or None


def terms_text(terms: Sequence[Term], *, paint: Paint = plain) -> str:
    """Return each term's name and title, meaning, facts, and what to do."""
    return "\n".join("\n".join([*_term_lines(term, paint), ""]) for term in terms)


def families_text(terms: Sequence[FamilyTerm], *, paint: Paint = plain) -> str:
    """Return a line per field: value, where it comes from, what the policy allows."""
    return "\n".join("\n".join([*_family_lines(term, paint), ""]) for term in terms)


def _term_lines(term: Term, paint: Paint) -> Iterator[str]:
    yield f"{paint(escape_unprintable(term.name), Tone.STRONG)} · {term.explanation.title}"
    yield from (f"  {text}" for text in (term.explanation.meaning, *term.notes))
    if term.explanation.remedy:
        yield f"  → {term.explanation.remedy}"


def _family_lines(term: FamilyTerm, paint: Paint) -> Iterator[str]:
    place = f"{term.account} ({term.environment}) · {escape_unprintable(term.path)}"
    yield f"{paint(term.family, Tone.STRONG)} in {place}"
    yield f"  {term.meaning}"
    yield from map(_value_line, term.values)
    yield from (f"  {note}" for note in term.notes)


_ZEROES = {Field.TIME_INTERVAL: "disabled", Field.FROZEN_INTERVAL: "until-reset"}
_FIELD_WIDTH = max(len(name.value) for name in Field)
_VALUE_WIDTH = len("until-reset")


def _value_line(value: ExplainedValue) -> str:
    source = value.source
    place = f"{escape_unprintable(source.path)}:{source.line}:{source.column}"
    origin = f"{'its own' if value.own else 'from defaults'}, {place}"
    allowed = f"; policy: {value.policy}" if value.policy else ""
    return f"  {value.field.value:<{_FIELD_WIDTH}}  {value.value:<{_VALUE_WIDTH}}  {origin}{allowed}"


def _policy_notes(family: Family, policy: Policy | None) -> tuple[str, ...]:
    if policy is None:
        return (f"policy: none; {_guarded(Floor())}",)
    notes = ["policy: protected, so it may not be removed, disabled or paused"]
    output = notes if family in policy.protected else []
    if policy.loosening.max_factor is not None:
        most = format_decimal(policy.loosening.max_factor)
        output.append(f"policy: one change may raise its exposure by a factor of {most}")
        if policy.loosening.per is not None:
            window = window_text(policy.loosening.per)
            output.append(f"policy: all changes within {window} together may raise it by no more")
        if policy.loosening.unknown_allowed:
            output.append("policy: it may be changed even if nothing is known of it (--no-live)")
    output += [
        f"policy: exposure {name.value} at most {format_decimal(limit)}"
        for name, limit in effective_exposure(family, policy).items()
    ]
    if not policy.disable_allowed:
        output.append(f"policy: {_guarded(policy.floor)}")
    return tuple(output)


def _guarded(floor: Floor) -> str:
    least, most = interval_text(floor.time_interval_ms), format_decimal(floor.factor)
    return f"disabling it, a timeInterval below {least}, or a factor of {most} or more needs --allow"


def _number(name: Field, value: Decimal) -> str:
    return format_decimal(value) if name is Field.QTY_LIMIT else interval_text(int(value))
