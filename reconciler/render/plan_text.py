"""Plans and results as text, one family a line: old, new, why.

Every line has a symbol and a word beside any colour, families are aligned in a column, and the worst change
is first. Nothing is cut or hidden; values come from the same plan as the JSON document. Text from outside
(paths, the exchange's messages) is escaped: it must never reach the terminal raw.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import assert_never

from reconciler.core.apply_result import SETTLED, FamilyResult, Outcome, hold_words, tighter_words
from reconciler.core.change_direction import Direction
from reconciler.core.model import Family, format_setting
from reconciler.core.plan import Action, Basis, Change, HoldReason, Plan, Reason, format_change
from reconciler.core.policy import GUARD_RULE
from reconciler.core.problems import escape_unprintable
from reconciler.documents.plan import PlanContext, plan_summary
from reconciler.render import policy_refusals, risk_order, values
from reconciler.render.color import Paint, Tone, plain
from reconciler.render.identity_warnings import account_sentences
from reconciler.render.plan_headline import compared_with, headlines, policy_lines, record_sentences

_LOOK: dict[Direction, tuple[str, Tone]] = {
    Direction.ENABLE: ("+", Tone.GOOD),
    Direction.TIGHTEN: ("▲", Tone.GOOD),
    Direction.MIXED: ("◆", Tone.WARN),
    Direction.LOOSEN: ("▼", Tone.WARN),
    Direction.DISABLE: ("-", Tone.BAD),
}

_REASONS = {
    Reason.NEW: "new",
    Reason.CHANGED: "changed",
    Reason.DRIFTED: "drifted: changed outside mmp",
    Reason.UNCERTAIN: "uncertain: an earlier request has no definite answer",
}

_COMPARED = {
    Basis.LIVE: "live",
    Basis.LAST_APPLIED: "last applied only (live was not read)",
    Basis.FILE: "another file",
}

_UNMANAGED = {
    Basis.LIVE: "not in the file: not touched",
    Basis.LAST_APPLIED: "not in the file: not touched",
    Basis.FILE: "no longer in the file: left as it is",
}


def plans_text(pages: Sequence[tuple[Plan, PlanContext]], *, simulator: bool, paint: Paint = plain) -> str:
    """Return the plans of one or more accounts; with several, the worst changes of all come first."""
    notes = [paint(line, Tone.WARN) for line in record_sentences(context for _, context in pages)]
    if len(pages) == 1:
        return "\n".join(_plan_lines(*pages[0], simulator, paint, notes)) + "\n"
    needs_record = ["".join(f"{line}\n" for line in notes)] if notes else []
    worst = _worst_of_all([plan for plan, _ in pages], paint)
    texts = ("\n".join(_plan_lines(*page, simulator, paint)) + "\n" for page in pages)
    return "\n".join([*needs_record, *worst, *texts])


def plan_text(plan: Plan, context: PlanContext, *, simulator: bool, paint: Paint = plain) -> str:
    """Return the plan as text, ending in a newline."""
    return plans_text([(plan, context)], simulator=simulator, paint=paint)


def results_text(
    outcomes: tuple[FamilyResult, ...],
    *,
    finished: bool = True,
    place: str = "",
    simulator: bool = False,
    paint: Paint = plain,
) -> str:
    """Return one line per result and a summary, ending in a newline.

    ``finished`` False: the apply did not complete, so an empty result does not mean success. ``place``
    names the account if it must be shown; empty if it is clear.
    """
    width = max((len(result.family) for result in outcomes), default=0)
    lines = [_result_line(result, width, paint) for result in outcomes]
    summary = _results_summary(outcomes, finished)
    return "\n".join([*_results_heading(place, simulator, paint), *lines, summary]) + "\n"


def plan_sentence(plan: Plan, *, only_settings: bool = False) -> str:
    """Return the one sentence that sums up a plan.

    ``only_settings``: something else changes too, so no sentence may make a claim about all changes.
    """
    summary = plan_summary(plan)
    if not plan.changes:
        return _without_changes(plan, "No setting changes" if only_settings else "No changes")
    parts = [f"{summary['set']} to set{_directions(plan.requests)}"]
    parts += (
        [f"{summary['adopt']} to adopt{_directions(plan.of(Action.ADOPT))}"] if summary["adopt"] else []
    )
    parts += [f"{summary['hold']} held"] if summary["hold"] else []
    parts.append(f"{summary['unchanged']} unchanged")
    parts += [f"{summary['unmanaged']} unmanaged"] if summary["unmanaged"] else []
    parts += [f"{summary['left_tighter']} left tighter"] if summary["left_tighter"] else []
    return f"Plan: {', '.join(parts)}.{_takes(plan)}"


def _without_changes(plan: Plan, nothing: str) -> str:
    """Sum up a plan that sends, records and holds nothing; a refusal still counts."""
    dropped, unchanged = len(plan.unmanaged) if plan.basis is Basis.FILE else 0, len(plan.unchanged)
    text = ["Refused: nothing would be sent." if plan.refusals else f"{nothing}."]
    if dropped:
        but = f"{values.families(dropped)} will no longer be managed."
        text = [*text, but] if plan.refusals else [f"{nothing}, but {but}"]
    if unchanged or not dropped:
        text.append(f"{values.families(unchanged)} {'is' if unchanged == 1 else 'are'} as desired.")
    return " ".join(text)


def _plan_lines(
    plan: Plan, context: PlanContext, simulator: bool, paint: Paint, notes: Iterable[str] = ()
) -> Iterator[str]:
    """Yield the lines of one plan; ``notes`` follow the sentences about account and policy."""
    place = f"{plan.account} ({plan.environment.value})"
    at = f" at {escape_unprintable(context.host)}" if context.host else ""
    banner = paint("SIMULATOR ", Tone.WARN) if simulator else ""
    compared = compared_with(context, escape_unprintable) or _COMPARED[plan.basis]
    if context.saved and context.saved.stale:
        yield paint(context.saved.banner, Tone.BAD)
    yield (
        banner
        + paint(place, Tone.STRONG)
        + f"{at} · {escape_unprintable(context.path)} · compared with {compared}"
    )
    if context.saved:
        yield paint(context.saved.words, Tone.QUIET)
    for sentence in account_sentences(plan, context, escape_unprintable):
        yield paint(f"{sentence}.", Tone.WARN)
    yield from (paint(line, Tone.WARN) for line in policy_lines(context, escape_unprintable))
    yield from notes
    if worst := risk_order.worst_words([plan], escape_unprintable):
        yield paint(worst, Tone.WARN)
    yield ""
    width = max(map(len, (*(change.family for change in plan.changes), *plan.unmanaged)), default=0)
    refused = policy_refusals.refused_families(plan, context.path)
    for _, change in risk_order.worst_first([plan]):
        stays = change.family in plan.stays_tighter
        yield f"  {_change_line(change, width, paint, stays_tighter=stays)}"
        own = refused.get(change.family)
        if own and own.command and change.because is HoldReason.GUARD:
            indent = f"    {'':<{values.HEAD_WORD_CELLS}}  {'':<{width}}"
            yield f"{indent}  if this is intended: {escape_unprintable(own.command)}"
    for family, live in plan.unmanaged.items():
        text = f"{family:<{width}}  {format_setting(live)}  ({_UNMANAGED[plan.basis]})"
        yield paint(f"  {values.pad_label('·', 'unmanaged')}{text}", Tone.QUIET)
    yield from _refused_lines(plan, context, refused, paint)
    if plan.refusals and plan.basis is Basis.FILE:
        yield f"  {policy_refusals.DIGEST_HINT}"
    if plan.changes or plan.unmanaged or plan.refusals:
        yield ""
    beside = headlines(context, escape_unprintable)
    yield " ".join([*beside, plan_sentence(plan, only_settings=bool(beside))]) + (
        " Refused: apply would send nothing." if plan.changes and plan.refusals else ""
    )
    if plan.changes:
        yield paint(f"digest {plan.digest}", Tone.QUIET)


def _worst_of_all(plans: Sequence[Plan], paint: Paint) -> Iterator[str]:
    """Return the worst changes over all accounts as one block; empty if no change has a risk."""
    rows = [
        (f"{plan.account} ({plan.environment.value})", change)
        for plan, change in risk_order.shown_first(plans)
    ]
    if not rows:
        return
    account_width = max(len(account) for account, _ in rows)
    width = max(len(change.family) for _, change in rows)
    lines = [paint(f"The worst changes of {len(plans)} accounts:", Tone.WARN)]
    for account, change in rows:
        symbol, word, tone = _look(change)
        text = f"{account:<{account_width}}  {change.family:<{width}}  {format_change(change)}"
        lines.append(
            f"  {paint(values.pad_label(symbol, word), tone)}{text}  {risk_order.risk_words(change)}"
        )
    yield "\n".join(lines) + "\n"


def _refused_lines(
    plan: Plan, context: PlanContext, refused: Mapping[Family, policy_refusals.RefusedFamily], paint: Paint
) -> Iterator[str]:
    """Yield what the policy refuses and what stays tighter; the guard's rules are with the change."""
    by_policy = {
        family: replace(one, sentences=sentences)
        for family, one in refused.items()
        if (sentences := tuple(each.sentence for each in one.refusals if each.rule != GUARD_RULE))
    }
    if by_policy:
        if plan.changes or plan.unmanaged:
            yield ""
        heading = policy_refusals.refused_by(context, escape_unprintable)
        yield from _refused_block(heading, by_policy, "if this is intended", paint)
    if tighter := policy_refusals.tighter_families(plan, context.path):
        yield ""
        heading = policy_refusals.left_tighter_by(context, escape_unprintable)
        yield from _refused_block(heading, tighter, "to set the file's values", paint)


def _refused_block(
    heading: str, refused: Mapping[Family, policy_refusals.RefusedFamily], hint: str, paint: Paint
) -> Iterator[str]:
    """Name each rule with its numbers, and the override command after ``hint``."""
    width = max(map(len, refused))
    yield paint(f"{heading}:", Tone.WARN)
    for family, one in refused.items():
        # The numbers of a saved plan come from its file.
        yield from (f"  {family:<{width}}  {escape_unprintable(text)}" for text in one.sentences)
        if one.command:
            yield f"  {'':<{width}}  {hint}: {escape_unprintable(one.command)}"


def _change_line(change: Change, width: int, paint: Paint, *, stays_tighter: bool) -> str:
    symbol, word, tone = _look(change)
    family = f"{change.family:<{width}}"
    match change.action:
        case Action.SET:
            when = values.format_due(change.eta_s or 0.0)
            stays = f"; {words}" if (words := tighter_words(change)) else ""
            why = f"{_REASONS[change.reason]}; request {change.order}, {when}{stays}"
            text = f"{format_change(change)}  ({why})"
        case Action.ADOPT if change.fields:
            text = f"{format_change(change)}  ({word} from the accepted setting; {values.LIVE_IS_SO})"
            word = "adopt"
        case Action.ADOPT:
            symbol, word, tone = "=", "adopt", Tone.QUIET
            text = f"{format_setting(change.after)}  ({_why_no_request(change)})"
        case Action.HOLD:
            assert change.because is not None
            held = hold_words(change, stays_tighter=stays_tighter)
            base = " from the accepted setting" if change.is_live else ""
            text = f"{format_change(change)}  ({word}{base}; {held})"
            symbol, word, tone = "!", "hold", Tone.WARN
        case _:
            assert_never(change.action)
    return f"{paint(values.pad_label(symbol, word), tone)}{family}  {text}  {risk_order.risk_words(change)}"


def _why_no_request(change: Change) -> str:
    if change.desired is not None:
        return f"live is recorded, no request; {tighter_words(change)}"
    if change.known_at is None:
        return "live is already as desired: recorded, no request"
    return f"an earlier request may still take effect: known {values.format_due(change.eta_s or 0.0)}"


def _look(change: Change) -> tuple[str, str, Tone]:
    if change.direction is None:
        return "?", "resend", Tone.WARN
    symbol, tone = _LOOK[change.direction]
    return symbol, change.direction.value, tone


def _directions(changes: Sequence[Change]) -> str:
    counts = {name: sum(change.direction is name for change in changes) for name in Direction}
    text = [f"{number} {name.value}" for name, number in counts.items() if number]
    return f" ({', '.join(text)})" if text else ""


def _takes(plan: Plan) -> str:
    takes = values.format_duration(plan.eta_s)
    if takes != "now":
        return f" Takes about {takes}."
    return " No waiting." if plan.requests else ""


_RESULT_LOOK = {
    Outcome.APPLIED: ("✓", Tone.GOOD),
    Outcome.ADOPTED: ("=", Tone.GOOD),
    Outcome.REJECTED: ("✗", Tone.BAD),
    Outcome.UNKNOWN: ("?", Tone.BAD),
    Outcome.HELD: ("!", Tone.WARN),
    Outcome.STALE: ("~", Tone.WARN),
    Outcome.SKIPPED: ("-", Tone.WARN),
}


def _results_heading(place: str, simulator: bool, paint: Paint) -> list[str]:
    """Name the account of the results, if it is not clear."""
    words = [paint("SIMULATOR", Tone.WARN)] if simulator else []
    words += [paint(place, Tone.STRONG)] if place else []
    return [" ".join(words)] if words else []


def _result_line(result: FamilyResult, width: int, paint: Paint) -> str:
    symbol, tone = _RESULT_LOOK[result.outcome]
    line = f"{paint(values.pad_label(symbol, result.outcome.value), tone)}{result.family:<{width}}"
    if result.earlier:
        return f"{line}  {result.message}"
    if result.outcome in SETTLED:
        tries = f"  ({values.count(result.attempts, 'attempt')})" if result.attempts > 1 else ""
        return (line + tries).rstrip()
    code = f"[{result.code}]" if result.code[:1].isdigit() or not result.message else ""
    return f"{line}  {escape_unprintable(f'{code} {result.message}'.strip())}"


def _results_summary(outcomes: tuple[FamilyResult, ...], finished: bool) -> str:
    if not outcomes and not finished:
        return "Nothing was settled, and live is not known for certain."
    if not outcomes:
        return "Nothing to do: everything is as desired."
    now = [result for result in outcomes if not result.earlier]
    counts = {name.value: sum(result.outcome is name for result in now) for name in Outcome}
    counts["already applied"] = len(outcomes) - len(now)
    text = ", ".join(f"{number} {words}" for words, number in counts.items() if number)
    partly = any(result.settled_now or result.partly for result in outcomes)
    if all(result.outcome in SETTLED for result in outcomes):
        return f"Done: {text}."
    return f"{'Partly done' if partly else 'Nothing done'}: {text}."
