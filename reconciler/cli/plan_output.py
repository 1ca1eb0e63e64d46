"""How every verb writes plans: one rendering for each format, and one exit status."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import click

from reconciler.cli.flag_types import Parsed
from reconciler.cli.output import Output
from reconciler.core.change_direction import Direction, direction
from reconciler.core.plan import Basis, Change, Plan, Reason
from reconciler.core.problems import escape_unprintable
from reconciler.errors import ChangeRefused, Exit

if TYPE_CHECKING:
    from reconciler.core.policy import Refusal
    from reconciler.documents.plan import PlanContext

PLAN_FORMATS = ("text", "json", "markdown", "gitlab")
"""What ``--output`` of a plan may be."""

FAIL_ON = ("loosen", "mixed", "disable", "drift", "policy", "policy-change", "identity")


PlanPage = tuple["Plan", "PlanContext"]
"""The plan of one account and its context."""


def _fail_on_kinds(text: str) -> frozenset[str]:
    kinds = frozenset(text.split(","))
    if unknown := sorted(kinds - set(FAIL_ON)):
        raise ValueError(f"unknown kind {unknown[0]!r}; the kinds are {', '.join(FAIL_ON)}")
    return kinds


def _union(_ctx: click.Context, _param: click.Parameter, given: Iterable[frozenset[str]]) -> frozenset[str]:
    """Return the kinds of all uses of the flag: a later one in a script removes none."""
    return frozenset().union(*given)


fail_on_option = click.option(
    "--fail-on",
    type=Parsed("kind,…", _fail_on_kinds),
    multiple=True,
    callback=_union,
    help=f"Exit 3 on any of {', '.join(FAIL_ON)}; may be repeated; the kinds add up.",
)


def show_plans(pages: Sequence[PlanPage], out: Output, *, simulator: bool = False) -> None:
    """Write the plans, at least one, in the requested format."""
    if out.format in ("json", "gitlab"):
        _print_accounts(pages, out)
    match out.format:
        case "json":
            from reconciler.documents.plan import one_or_list, plan_document

            out.document(one_or_list("plan", [plan_document(*page, simulator=simulator) for page in pages]))
        case "markdown":
            from reconciler.render.plan_markdown import plans_markdown

            out.result(plans_markdown(pages, simulator=simulator))
        case "gitlab":
            from reconciler.render.plan_gitlab import plans_gitlab

            out.document(plans_gitlab([plan for plan, _ in pages]))
        case _:
            from reconciler.render.plan_text import plans_text

            out.result(plans_text(pages, simulator=simulator, paint=out.paint()))


def warn_of_first_records(unfit: Sequence[Refusal], out: Output) -> None:
    """Warn on stderr of first records: settings that the policy would refuse as a change."""
    for one in unfit:
        out.info(
            f"warning[first-record] {one.family}: nothing is on record, so live is recorded as it is; "
            f"the policy would refuse such a change: {escape_unprintable(one.sentence)}"
        )


def _print_accounts(pages: Sequence[PlanPage], out: Output) -> None:
    """Write to stderr what other documents have in fields or not at all: the owner and the policy."""
    from reconciler.render.identity_warnings import account_sentences
    from reconciler.render.plan_headline import policy_lines, record_sentences

    for page in pages:
        for sentence in (
            *account_sentences(*page, escape_unprintable),
            *policy_lines(page[1], escape_unprintable),
        ):
            out.info(sentence)
    for sentence in record_sentences(context for _, context in pages):
        out.info(sentence)


def plans_exit_status(
    pages: Sequence[PlanPage], out: Output, *, fail_on: frozenset[str], changes_count: bool
) -> Exit:
    """Return the exit status of plans that were shown; a refusal is explained on stderr."""
    found = [kind for kind in sorted(fail_on) if any(_has(kind, *page) for page in pages)]
    if found:
        # The document is already written, and stdout may have only one.
        out.error(ChangeRefused("fail-on", f"the plan has a kind of --fail-on: {', '.join(found)}"))
        return Exit.REFUSED
    if changes_count and any(_changes(*page) for page in pages):
        return Exit.CHANGES
    return Exit.DONE


def _has(kind: str, plan: Plan, context: PlanContext) -> bool:
    from reconciler.render.plan_headline import changes_identity, changes_policy

    match kind:
        case "policy-change":
            return changes_policy(context)
        case "identity":
            return changes_identity(plan, context)
        case "drift":
            return any(change.reason is Reason.DRIFTED for change in plan.changes)
        case "policy":
            return bool(plan.refusals or plan.left_tighter)
        case _:
            return any(kind in _directions(change) for change in plan.changes)


def _directions(change: Change) -> tuple[Direction | None, ...]:
    """Return the direction of a change, and that from the accepted setting if it is different."""
    base = change.measured_from
    return (change.direction, *(() if base is None else (direction(base, change.wanted),)))


def _changes(plan: Plan, context: PlanContext) -> bool:
    """Return whether a reviewer must see something: a change, a refusal, another identity or policy."""
    from reconciler.render.identity_warnings import is_renamed
    from reconciler.render.plan_headline import changes_policy

    if plan.refusals or is_renamed(plan, context) or changes_policy(context):
        return True
    if plan.basis is Basis.FILE and plan.unmanaged:
        return True
    return any(change.is_changed for change in plan.changes)
