"""Plans and results as text, one family a line: old, new, why.

Every line carries a symbol and a word beside any colour. Nothing is cut and nothing is hidden; values
come from the same plan the JSON document is made of.
"""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.core.direction import Direction
from reconciler.core.model import Field
from reconciler.core.outcome import HOLD_WORDS, SETTLED, Outcome, Result
from reconciler.core.plan import Action, Basis, Because, Change, Plan, Reason
from reconciler.report.documents import Context, plan_summary
from reconciler.report.tone import Paint, Tone, plain
from reconciler.report.words import count, duration, field_value

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
    Reason.DRIFTED: "drifted: was changed behind our back",
    Reason.UNCERTAIN: "uncertain: an earlier attempt was not answered",
}

_BASIS = {
    Basis.LIVE: "compared with live",
    Basis.LAST_APPLIED: "compared with last applied only (live was not read)",
    Basis.FILE: "compared with another file",
}


def plan_text(plan: Plan, context: Context, *, simulator: bool, paint: Paint = plain) -> str:
    """Return the plan as text, ending in a newline."""
    return "\n".join(_plan_lines(plan, context, simulator, paint)) + "\n"


def results_text(outcomes: tuple[Result, ...], *, paint: Paint = plain) -> str:
    """Return one line per result and a summary, ending in a newline."""
    width = max((len(result.family) for result in outcomes), default=0)
    lines = [_result_line(result, width, paint) for result in outcomes]
    return "\n".join([*lines, _results_summary(outcomes)]) + "\n"


def plan_sentence(plan: Plan) -> str:
    """Return the one sentence that says what a plan comes to."""
    summary = plan_summary(plan)
    if not plan.changes:
        return f"No changes. {_families(summary['unchanged'])} as desired."
    parts = [f"{summary['set']} to set{_directions(plan)}"]
    parts += [f"{summary['adopt']} to adopt"] if summary["adopt"] else []
    parts += [f"{summary['hold']} held"] if summary["hold"] else []
    parts.append(f"{summary['unchanged']} unchanged")
    parts += [f"{summary['unmanaged']} unmanaged"] if summary["unmanaged"] else []
    return f"Plan: {', '.join(parts)}.{_takes(plan)}"


def _plan_lines(plan: Plan, context: Context, simulator: bool, paint: Paint) -> Iterator[str]:
    place = f"{plan.account} ({plan.environment.value})"
    at = f" at {context.host}" if context.host else ""
    banner = paint("SIMULATOR ", Tone.WARN) if simulator else ""
    yield banner + paint(place, Tone.STRONG) + f"{at} · {context.path} · {_BASIS[plan.basis]}"
    yield ""
    width = max((len(change.family) for change in plan.changes), default=0)
    for change in plan.changes:
        yield f"  {_change_line(change, width, paint)}"
    for family, live in plan.unmanaged.items():
        words = ", ".join(f"{field.value} {field_value(live, field)}" for field in Field)
        yield paint(f"  · unmanaged {family}: {words} (not in the file, not touched)", Tone.QUIET)
    if plan.changes or plan.unmanaged:
        yield ""
    yield plan_sentence(plan)
    if plan.changes:
        yield paint(f"digest {plan.digest}", Tone.QUIET)


def _change_line(change: Change, width: int, paint: Paint) -> str:
    match change.action:
        case Action.ADOPT:
            return _adopt_line(change, width, paint)
        case Action.HOLD:
            return _hold_line(change, width, paint)
        case Action.SET:
            symbol, word, tone = _look(change)
            head = paint(f"{symbol} {word:<8}", tone)
            when = f"request {change.order}" + (
                f", in {duration(change.eta_s)}" if change.eta_s and change.eta_s >= 0.5 else ", now"
            )
            return f"{head} {change.family:<{width}}  {_moves(change)}  ({_REASONS[change.reason]}; {when})"


def _adopt_line(change: Change, width: int, paint: Paint) -> str:
    if change.known_at is None:
        why = "live is already as desired: recorded, no request"
    else:
        why = f"acknowledged; an older attempt may still land, known in {duration(change.eta_s or 0.0)}"
    head = paint(f"= {'adopt':<8}", Tone.QUIET)
    return f"{head} {change.family:<{width}}  ({why})"


def _hold_line(change: Change, width: int, paint: Paint) -> str:
    assert change.because is not None
    _, word, _ = _look(change)
    head = paint(f"! {'hold':<8}", Tone.WARN)
    line = f"{head} {change.family:<{width}}  {_moves(change)}  ({word}; {HOLD_WORDS[change.because]})"
    if change.because is Because.GUARD:
        line += f'; to do it: --allow disable:{change.family} --reason "…"'
    return line


def _look(change: Change) -> tuple[str, str, Tone]:
    if change.direction is None:
        return "?", "resend", Tone.WARN
    symbol, tone = _LOOK[change.direction]
    return symbol, change.direction.value, tone


def _moves(change: Change) -> str:
    """Write the changed fields as ``old → new``; the whole setting when nothing was there before."""
    if change.before is None:
        return ", ".join(f"{field.value} {field_value(change.after, field)}" for field in Field)
    fields = change.fields or tuple(Field)
    if change.before == change.after:
        return ", ".join(f"{field.value} {field_value(change.after, field)}" for field in fields)
    return ", ".join(
        f"{field.value} {field_value(change.before, field)} → {field_value(change.after, field)}"
        for field in fields
    )


def _directions(plan: Plan) -> str:
    counts = {name: sum(change.direction is name for change in plan.requests) for name in Direction}
    told = [f"{number} {name.value}" for name, number in counts.items() if number]
    return f" ({', '.join(told)})" if told else ""


def _takes(plan: Plan) -> str:
    if not plan.requests and plan.eta_s < 0.5:
        return ""
    return " Takes no waiting." if plan.eta_s < 0.5 else f" Takes about {duration(plan.eta_s)}."


def _families(number: int) -> str:
    return "1 family is" if number == 1 else f"{number} families are"


_RESULT_LOOK = {
    Outcome.APPLIED: ("✓", Tone.GOOD),
    Outcome.ADOPTED: ("=", Tone.GOOD),
    Outcome.REJECTED: ("✗", Tone.BAD),
    Outcome.UNKNOWN: ("?", Tone.BAD),
    Outcome.HELD: ("!", Tone.WARN),
    Outcome.STALE: ("~", Tone.WARN),
    Outcome.SKIPPED: ("-", Tone.WARN),
}


def _result_line(result: Result, width: int, paint: Paint) -> str:
    symbol, tone = _RESULT_LOOK[result.outcome]
    head = paint(f"{symbol} {result.outcome.value:<8}", tone)
    line = f"{head} {result.family:<{width}}"
    if result.outcome in SETTLED:
        tries = f"  ({count(result.attempts, 'attempt')})" if result.attempts > 1 else ""
        return (line + tries).rstrip()
    code = f" [{result.code}]" if result.code.isdigit() else ""
    return f"{line}  {result.message}{code}"


def _results_summary(outcomes: tuple[Result, ...]) -> str:
    if not outcomes:
        return "Nothing to do: everything is as desired."
    counts = {name: sum(result.outcome is name for result in outcomes) for name in Outcome}
    return "Done: " + ", ".join(f"{number} {name.value}" for name, number in counts.items() if number) + "."
