"""``mmp explain``: the meaning of a code, a field, a word or a family. Offline."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import click

from reconciler.cli import flags
from reconciler.cli.options import CommandOptions, with_options
from reconciler.cli.read_files import read_desired, read_policies
from reconciler.core.model import FAMILY_PATTERN, Family
from reconciler.core.problems import Code, Explanation, escape_unprintable
from reconciler.documents.explain import FamilyTerm, Term, explain_document
from reconciler.errors import UsageError
from reconciler.render.error_catalogue import ERRORS
from reconciler.render.explain import families_text, family_term, terms_text
from reconciler.render.glossary import FIELDS, REPLY_CLASSES, STATUSES, WORDS
from reconciler.render.problem_catalogue import CATALOGUE

MAX_TERM = 100
"""The most characters of a term; every existing one is shorter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainOptions(CommandOptions):
    """The options of ``explain``."""

    term: str


@click.command()
@click.argument("term", metavar="CODE|FIELD|WORD|FAMILY")
@flags.config_option
@flags.policy_option
@flags.output_option("text", "json")
@with_options(ExplainOptions)
def explain(options: ExplainOptions) -> None:
    """Explain a code of mmp or OKX, a field of the file, a word of a plan, or an exit status.

    For a FAMILY: its effective values, their positions, and what the policy allows.

    \b
    Examples:
      mmp explain zero-with-unit
      mmp explain 50011
      mmp explain frozenInterval
      mmp explain BTC-USD
    """
    term, out = options.term, options.out
    found = list(find_terms(term)) if len(term) <= MAX_TERM else []
    if not found and re.fullmatch(FAMILY_PATTERN, term, re.ASCII):
        families = _families(Family(term), options)
        if out.json:
            out.document(explain_document(families=families))
        else:
            out.result(families_text(families, paint=out.paint()))
        return
    if not found:
        raise UsageError(
            "unknown-term", f"mmp explain does not know {escape_unprintable(term)!r}", _suggestion(term)
        )
    if out.json:
        out.document(explain_document(found))
    else:
        out.result(terms_text(found, paint=out.paint()))


def find_terms(name: str) -> Iterator[Term]:
    """Yield every meaning of ``name``; a number can be an exit status and a code of OKX's."""
    for kind, table in _tables().items():
        if name in table:
            yield Term(name, kind, table[name])
    if match := re.fullmatch(r"(?:exit-)?([0-9]{1,3})", name, re.ASCII):
        for status, explanation in STATUSES.items():
            if status == int(match[1]):
                yield Term(f"exit status {int(status)}", "status", explanation)
    if match := re.fullmatch(r"(?:okx-)?(0|[0-9]{5,6}(?:_[0-9]{1,6})?)", name, re.ASCII):
        yield _okx(match[1])


def _tables() -> dict[str, dict[str, Explanation]]:
    return {
        "problem": {code.value: CATALOGUE[code] for code in Code},
        "error": ERRORS,
        "field": FIELDS,
        "word": WORDS,
    }


def _okx(code: str) -> Term:
    from reconciler.okx.codes import lookup

    known = lookup(code)
    note = f"class {known.reply_class.value}, {known.source.value}"
    explanation = Explanation(known.meaning, REPLY_CLASSES[known.reply_class], known.advice)
    return Term(f"okx-{code}", "okx", explanation, (note,))


def _families(family: Family, options: ExplainOptions) -> list[FamilyTerm]:
    """Explain ``family`` in every account whose file manages it; in all of them when none does."""
    from reconciler.config.load import load_configs
    from reconciler.config.settings import value_sources

    desired = read_desired(options)
    policies = read_policies(desired, options)
    readings = load_configs(options.paths)
    terms = []
    for reading, one, policy in zip(readings, desired, policies, strict=True):
        managed = family in one.families
        places = value_sources(reading, family) if managed else {}
        by_field = {name: (origin.own, origin.source) for name, origin in places.items()}
        terms.append(family_term(family, one, by_field, policy))
    return [term for term in terms if term.values] or terms


def _suggestion(term: str) -> str:
    from difflib import get_close_matches

    from reconciler.config.suggest import nearest_family

    names = [name for table in _tables().values() for name in table]
    near = get_close_matches(term[:MAX_TERM], names, n=3)
    family = nearest_family(term[:MAX_TERM])
    if family is not None and not near:
        near = [family]
    if near:
        return f"did you mean {' or '.join(near)}?"
    return "in messages, codes are in brackets: error[CODE], [OKX CODE]"
