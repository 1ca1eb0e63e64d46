"""The texts about refusals in every rendering of a plan: the policy that refuses, and the override command.

A refusal in a plan file comes from the policy at that time, so it is shown with the hash of that policy and
never as final: ``apply`` evaluates again. An override command names its families and the digest of the plan
as shown, so that it sends nothing else and nothing for another family.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from reconciler.core.apply_result import tighter_words
from reconciler.core.model import Family
from reconciler.core.plan import Basis, Change, Plan
from reconciler.core.policy import Refusal
from reconciler.documents.plan import PlanContext
from reconciler.render.identity_warnings import Quote

DEFAULT_CONFIG = "mmp.yaml"
"""The file that commands read by default."""

DIGEST_HINT = "DIGEST is what mmp plan prints with the same --family."
"""Printed once if commands are printed and live is unknown."""

SHA_SHOWN = 12
"""Digits of a sha256 that people compare; the documents have all digits."""


@dataclass(frozen=True, slots=True)
class RefusedFamily:
    """One family with refusals: a sentence for each, and the command that overrides them.

    ``command`` is empty if they cannot be overridden.
    """

    refusals: tuple[Refusal, ...]
    sentences: tuple[str, ...]
    command: str


def refused_by(context: PlanContext, quote: Quote) -> str:
    """Return the heading of the refusals of a plan, without a colon."""
    policy = context.policy
    if context.saved is None:
        if context.old and context.old.policy_change:
            return "Refused by the policy before or after"
        return f"Refused by {quote(policy.path) if policy else 'the policy'}"
    judge = (
        f"{quote(policy.path)} (sha256 {quote(policy.sha256[:SHA_SHOWN])})" if policy else "no policy file"
    )
    return f"Refused by {judge} when the plan was saved; mmp apply checks it again"


def left_tighter_by(context: PlanContext, quote: Quote) -> str:
    """Return the heading of the fields that stay tighter than in the file, without a colon."""
    policy = quote(context.policy.path) if context.policy else "the guard"
    if context.saved is not None:
        return f"Stays tighter by {policy} when the plan was saved; mmp apply checks it again"
    return f"Stays tighter than the file: {policy} refuses to loosen live"


def override_command(plan: Plan, families: Iterable[Family], path: str) -> str:
    """Return the command that sends the refused changes of ``families``, and only these.

    A refusal of a family that is not in the file blocks every loosening, so it is overridden as well.
    A comparison of two files has no digest that ``apply`` knows: see ``DIGEST_HINT``.
    """
    changed = {change.family for change in plan.changes}
    named = sorted(changed.intersection(families))
    refused = [one for one in plan.refusals if one.family in families or one.family not in changed]
    return _command(plan, named, path, refused)


def refused_families(plan: Plan, path: str) -> dict[Family, RefusedFamily]:
    """Return each refused family, with the command of :func:`override_command` for it alone.

    Families that are not in the file cannot be named in a command, so they share one.
    """
    changes, gone = _changes_and_gone(plan)
    of_gone = _command(plan, (), path, gone)
    found: dict[Family, RefusedFamily] = {}
    for family, own in _by_family(plan.refusals).items():
        command = of_gone
        if change := changes.get(family):
            refused = sorted([*own, *gone], key=lambda one: one.family)
            command = _command(replace(plan, changes=(change,)), [family], path, refused)
        found[family] = _refused(own, [one.sentence for one in own], command)
    return found


def tighter_families(plan: Plan, path: str) -> dict[Family, RefusedFamily]:
    """Return each family with fields that stay tighter than in the file, since loosening them is refused.

    A refusal of a family that is not in the file blocks every loosening, so it is overridden as well.
    """
    changes, gone = _changes_and_gone(plan)
    found: dict[Family, RefusedFamily] = {}
    for family, own in _by_family(plan.left_tighter).items():
        change = changes.get(family)
        stays = (change and tighter_words(change)) or "stays tighter than the file"
        sentences = [f"{stays}: refused from live: {one.sentence}" for one in own]
        found[family] = _refused(own, sentences, _command(plan, [family], path, [*own, *gone]))
    return found


def protection_command(plan: Plan, path: str) -> str:
    """Return the command that sends only what adds protection, all of it; empty if nothing does."""
    named = sorted(change.family for change in plan.protection)
    return _command(plan, named, path) if named else ""


def allow_flags(refusals: Iterable[Refusal]) -> str:
    """Return the flags that override ``refusals``, each once."""
    return " ".join(dict.fromkeys(refusal.allow for refusal in refusals))


def _changes_and_gone(plan: Plan) -> tuple[dict[Family, Change], list[Refusal]]:
    """Return the changes by family, and the refusals of families that have no change."""
    changes = {change.family: change for change in plan.changes}
    return changes, [one for one in plan.refusals if one.family not in changes]


def _by_family(refusals: Iterable[Refusal]) -> dict[Family, list[Refusal]]:
    found: dict[Family, list[Refusal]] = {}
    for one in refusals:
        found.setdefault(one.family, []).append(one)
    return found


def _refused(refusals: Sequence[Refusal], sentences: Iterable[str], command: str) -> RefusedFamily:
    overridable = all(one.overridable for one in refusals)
    return RefusedFamily(tuple(refusals), tuple(sentences), command if overridable else "")


def _command(plan: Plan, families: Sequence[Family], path: str, refused: Sequence[Refusal] = ()) -> str:
    only = "".join(f" --family {family}" for family in families)
    flags = f' {allow_flags(refused)} --reason "…"' if refused else ""
    if plan.basis is Basis.FILE:
        return f"mmp apply{only} --expect DIGEST{flags}"
    config = "" if path == DEFAULT_CONFIG else f" -c {shlex.quote(path)}"
    digest = plan.digest_of(frozenset(families)) if families else plan.digest
    return f"mmp apply{config}{only} --expect {digest}{flags}"
