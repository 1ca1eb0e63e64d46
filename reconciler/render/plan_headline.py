"""Headlines about changes that are not settings: the account's identity and the policy.

A changed User ID, other keys, an account that could not be compared, or a looser policy can each be the
only change. So the headline of every rendering names them, and a rendering that has one never says that
there are no changes, or that nothing gets looser.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from reconciler.core.model import window_text
from reconciler.core.plan import Plan
from reconciler.core.policy_change import FileChange, PolicyChange
from reconciler.documents.plan import PlanContext
from reconciler.render.identity_warnings import Quote, is_renamed
from reconciler.render.policy_refusals import SHA_SHOWN
from reconciler.render.values import EITHER_POLICY, count, format_age

SHARE_UNPROVEN = "maxShare is judged over the families that the older file enables: this base is not proven"
"""The text about a share when two files are compared: only a record proves what was in force for 24 h."""


def is_not_compared(context: PlanContext) -> bool:
    """Tell whether the account may be another one under a new name, so that nothing was compared."""
    return context.old is not None and bool(context.old.not_compared)


def changes_identity(plan: Plan, context: PlanContext) -> bool:
    """Tell whether the plan writes, or may write, to a different account than before."""
    old = context.old
    if old is None:
        return False
    return bool(old.not_compared) or (old.account is not None and is_renamed(plan, context))


def changes_policy(context: PlanContext) -> bool:
    """Tell whether the policy changes in more than comments."""
    change = context.old.policy_change if context.old else None
    return change is not None and change.counts


def headlines(context: PlanContext, quote: Quote) -> list[str]:
    """Return a short sentence for each change that is not a setting, for one account."""
    old, output = context.old, []
    if old is None:
        return []
    if old.not_compared:
        output.append("Not compared: whether anything gets looser is not known.")
    for each in old.identity:
        values = [quote(value) if value is not None else "none" for value in (each.before, each.after)]
        output.append(f"{each.key} changes: {' → '.join(values)}.")
    if old.policy_change is not None and old.policy_change.counts:
        looser, tighter = _rules(context)
        rules = [f"{count(looser, 'rule')} looser"] if looser else []
        rules += [f"{count(tighter, 'rule')} tighter"] if tighter else []
        sentence = policy_sentence(old.policy_change, quote)
        output.append(f"Policy: {', '.join(rules)}." if rules else f"{sentence}.")
    return output


def headlines_of_all(pages: Sequence[tuple[Plan, PlanContext]]) -> tuple[str, ...]:
    """Return a sentence for each change that is not a setting, counted over several accounts."""
    contexts = [context for _, context in pages]
    counted = {
        "Not compared": sum(map(is_not_compared, contexts)),
        "Identity changes": sum(bool(each.old and each.old.identity) for each in contexts),
        "The policy gets looser": sum(_rules(each)[0] > 0 for each in contexts),
        "The policy changes": sum(map(changes_policy, contexts)),
    }
    if counted["The policy changes"] == counted["The policy gets looser"]:
        del counted["The policy changes"]
    return tuple(f"{what} in {count(number, 'account')}." for what, number in counted.items() if number)


def policy_sentence(change: PolicyChange, quote: Quote) -> str:
    """Return what changed about the policy file, without a full stop."""
    old, new = quote(change.old_name or ""), quote(change.new_name or "")
    match change.file:
        case FileChange.ADDED:
            return f"Policy file {new} is new"
        case FileChange.DELETED:
            now = (
                f"; {new} has its content now, and is read only where --policy names it"
                if change.new_name
                else ""
            )
            return f"Policy file {old} is deleted{now}"
        case FileChange.RENAMED:
            return f"Policy file renamed {old} → {new}"
        case FileChange.COMMENTS:
            return f"Policy file {new} changes in comments or layout only: its rules are the same"
        case FileChange.EDITED if not change.rules:
            return f"Policy file {new} changes, and no rule that applies gets looser or tighter"
        case FileChange.EDITED:
            return f"Policy file {new} changes"


def policy_lines(context: PlanContext, quote: Quote) -> tuple[str, ...]:
    """Return the sentences about a missing policy, or about the changes between two policies."""
    old = context.old
    if old is None:
        return (f"{missing}.",) if (missing := missing_sentence(context, quote)) else ()
    if old.policy_change is None:
        return ()
    either = f" {EITHER_POLICY}" if old.policy_change.counts else ""
    rules = (f"  policy: {rule.words}" for rule in old.policy_change.rules)
    return f"{policy_sentence(old.policy_change, quote)}.{either}", *rules


def compared_with(context: PlanContext, quote: Quote) -> str:
    """Return the file or the status that a plan was compared with; empty if it was neither."""
    if context.old:
        return quote(context.old.path)
    against = context.against
    return f"what {quote(against.source)} says is live, {format_age(against.age_s)}" if against else ""


def record_sentences(contexts: Iterable[PlanContext]) -> tuple[str, ...]:
    """Return the sentences about what only a record proves: a share, and limits of consecutive steps."""
    olds = [context.old for context in contexts if context.old]
    windows = sorted({window for old in olds for window in old.per_not_checked})
    sentences = [f"{SHARE_UNPROVEN}."] if any(old.share_unproven for old in olds) else []
    if windows:
        limits = " and ".join(map(window_text, windows))
        which = f"limit per {limits} was" if len(windows) == 1 else f"limits per {limits} were"
        sentences.append(
            f"The {which} not checked, because mmp diff has no record; mmp plan and mmp apply have one."
        )
    return tuple(sentences)


def missing_sentence(context: PlanContext, quote: Quote) -> str:
    """Return that the policy file is missing, without a full stop; empty if it is not missing."""
    policy = context.policy
    if policy is None or not policy.missing:
        return ""
    return (
        f"Policy file {quote(policy.path)} is missing (sha256 {quote(policy.sha256[:SHA_SHOWN])}):"
        " changes that loosen or disable are refused"
    )


def _rules(context: PlanContext) -> tuple[int, int]:
    """Return how many rules get looser, and how many get tighter."""
    change = context.old.policy_change if context.old else None
    if change is None or not change.counts:
        return 0, 0
    return change.looser, len(change.rules) - change.looser
