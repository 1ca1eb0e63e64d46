"""The texts about refusals in every rendering of a plan: the policy that refuses, and the override command.

A refusal in a plan file comes from the policy at that time, so it is shown with the hash of that policy and
never as final: ``apply`` evaluates again. An override command names its families and the digest of the plan
as shown, so that it sends nothing else and nothing for another family.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import replace

from reconciler.core.model import Family
from reconciler.core.outcome import tighter_words
from reconciler.core.plan import Basis, Plan
from reconciler.core.policy import Refusal
from reconciler.documents.plan import PlanContext
from reconciler.render.identity_warnings import Quote

DEFAULT_CONFIG = "mmp.yaml"
"""The file that commands read by default."""

DIGEST_HINT = "DIGEST is what mmp plan prints with the same --family."
"""Printed once if commands are printed and live is unknown."""

SHA_SHOWN = 12
"""Digits of a sha256 that people compare; the documents have all digits."""


def refused_by(context: PlanContext, quote: Quote) -> str:
    """Return the heading of the refusals of a plan, without a colon."""
    policy = context.policy
    if context.kept is None:
        if context.old and context.old.policy_change:
            return "Refused by the policy before or after"
        return f"Refused by {quote(policy.path) if policy else 'the policy'}"
    judge = (
        f"{quote(policy.path)} (sha256 {quote(policy.sha256[:SHA_SHOWN])})" if policy else "no policy file"
    )
    return f"Refused, as the plan file says of {judge}; mmp apply judges again"


def left_tighter_by(context: PlanContext, quote: Quote) -> str:
    """Return the heading of the fields that stay tighter than in the file, without a colon."""
    policy = quote(context.policy.path) if context.policy else "the guard"
    if context.kept is not None:
        return f"Stays tighter, as the plan file says of {policy}; mmp apply judges again"
    return f"Stays tighter, as live has it: {policy} refuses to undo that"


def override_command(plan: Plan, families: Iterable[Family], path: str) -> str:
    """Return the command that sends the refused changes of ``families``, and only these.

    A refusal of a family that is not in the file blocks every loosening, so it is overridden as well.
    A comparison of two files has no digest that ``apply`` knows: see ``DIGEST_HINT``.
    """
    changed = {change.family for change in plan.changes}
    named = sorted(changed.intersection(families))
    refused = [one for one in plan.refusals if one.family in families or one.family not in changed]
    return _command(plan, named, path, f' {allow_flags(refused)} --reason "…"')


def override_commands(plan: Plan, path: str) -> dict[Family, str]:
    """Return the command of :func:`override_command` for each refused family, in one pass over the plan.

    Empty for a family whose refusal cannot be overridden.
    """
    changes = {change.family: change for change in plan.changes}
    gone = [one for one in plan.refusals if one.family not in changes]
    of_gone = override_command(plan, (), path) if gone else ""
    refused: dict[Family, list[Refusal]] = {}
    for one in plan.refusals:
        refused.setdefault(one.family, []).append(one)
    found: dict[Family, str] = {}
    for family, own in refused.items():
        if not all(one.overridable for one in own):
            found[family] = ""
            continue
        if family not in changes:
            found[family] = of_gone  # no change can be named, so all share one command
            continue
        refusals = sorted([*own, *gone], key=lambda one: one.family)
        narrow = replace(plan, changes=(changes[family],), refusals=tuple(refusals))
        found[family] = override_command(narrow, (family,), path)
    return found


def tighter_commands(plan: Plan, path: str) -> dict[Family, str]:
    """Return, for each family whose loosening to the file is refused, the command that sends it anyway.

    A family has no entry if its refusal cannot be overridden, or while the policy cannot be read or is
    missing.

    A refusal of a family that is not in the file blocks every loosening, so it is overridden as well.
    """
    changes = {change.family for change in plan.changes}
    gone = [one for one in plan.refusals if one.family not in changes]
    refused: dict[Family, list[Refusal]] = {}
    for one in plan.left_tighter:
        refused.setdefault(one.family, []).append(one)
    return {
        family: _command(plan, [family], path, f' {allow_flags([*own, *gone])} --reason "…"')
        for family, own in refused.items()
        if all(one.overridable for one in own)
    }


def tighter_lines(plan: Plan) -> dict[Family, list[str]]:
    """Return for each family the fields that stay tighter than in the file, and each rule that refuses."""
    changes = {change.family: change for change in plan.changes}
    lines: dict[Family, list[str]] = {}
    for one in plan.left_tighter:
        change = changes.get(one.family)
        stays = (change and tighter_words(change)) or "stays tighter, as live has it"
        lines.setdefault(one.family, []).append(f"{stays}: refused from live: {one.sentence}")
    return lines


def protection_command(plan: Plan, path: str) -> str:
    """Return the command that sends only what adds protection, beside refusals; empty if nothing does."""
    named = sorted(change.family for change in plan.protection)
    return _command(plan, named, path, "") if named else ""


def allow_flags(refusals: Iterable[Refusal]) -> str:
    """Return the flags that override ``refusals``, each once."""
    return " ".join(dict.fromkeys(refusal.allow for refusal in refusals))


def _command(plan: Plan, families: Sequence[Family], path: str, flags: str) -> str:
    only = "".join(f" --family {family}" for family in families)
    if plan.basis is Basis.FILE:
        return f"mmp apply{only} --expect DIGEST{flags}"
    config = "" if path == DEFAULT_CONFIG else f" -c {shlex.quote(path)}"
    digest = plan.digest_of(frozenset(families)) if families else plan.digest
    return f"mmp apply{config}{only} --expect {digest}{flags}"
