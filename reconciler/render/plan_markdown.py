"""Plans as one comment on a merge request: the verdict first, then the changes, the worst first.

The first line is a hidden marker, so that a pipeline finds its comment again and updates it in place.
The comment is always shorter than the platforms allow: the least risky rows of all accounts are left out
and counted, never the verdict or the footer. The same inputs give the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import assert_never

from reconciler import __version__
from reconciler.core.apply_result import hold_words, tighter_words
from reconciler.core.change_direction import LESS_SAFE, Direction
from reconciler.core.exposure import Figure
from reconciler.core.model import Family, Field, Setting, format_setting
from reconciler.core.plan import Action, Basis, Change, HoldReason, Plan, format_change
from reconciler.documents.plan import PlanContext
from reconciler.render import plan_headline, policy_refusals, risk_order, values
from reconciler.render.identity_warnings import account_sentences
from reconciler.render.markdown_escape import (
    Piece,
    TableRow,
    block,
    cell,
    code,
    fenced,
    fit,
    min_size,
    size,
)

MAX_COMMENT_BYTES = 59_999
"""Fewer than 60,000: GitHub accepts 65,536 characters, and a pipeline may add a line."""

MAX_ACCOUNT = 63
"""Maximum characters of an account's name in the file format."""

Page = tuple[Plan, PlanContext]
"""One account's plan and its context."""

_COLUMNS = "| Factor | Per trip | Per second | Per minute | Direction |"
_TABLE = f"| Family | Old → new {_COLUMNS} Why and when |\n|---|---|---|---|---|---|---|---|\n"
_WORST_TABLE = f"| Account | Family | Old → new {_COLUMNS}\n|---|---|---|---|---|---|---|---|\n"

_LOOKS = {
    Direction.DISABLE: ("✗ disable", "disabled"),
    Direction.LOOSEN: ("▼ loosen", "looser"),
    Direction.MIXED: ("◆ mixed", "looser in one field and tighter in another"),
    Direction.ENABLE: ("+ enable", "enabled"),
    Direction.TIGHTEN: ("▲ tighten", "tighter"),
}
"""Each direction in a table and in the verdict, in the order in which the verdict counts them."""

_MORE_SAFE = frozenset(Direction) - LESS_SAFE

_COMPARED = {
    Basis.LIVE: "what is live",
    Basis.LAST_APPLIED: "what was last applied (live was not read)",
    Basis.FILE: "another file",
}

_POLICY_LAYER, _WORST_LAYER, _CHANGE_LAYER, _HELD_LAYER = 0, 1, 2, 2
_UNMANAGED_LAYER, _DIFF_LAYER, _GONE_LAYER = 3, 4, 5
"""Rows are left out from the highest layer down, over all accounts; in a layer the worst stay longest."""


def plans_markdown(pages: Sequence[Page], *, simulator: bool = False) -> str:
    """Return the comment on ``pages``, at least one, in fewer than 60,000 bytes."""
    banner = "**SIMULATOR** " if simulator else ""
    if len(pages) == 1:
        ((plan, context),) = pages
        if context.saved and context.saved.stale:
            banner = f"> **{context.saved.banner}**\n\n{banner}"
        begin = f"{_marker(plan.account, plan.environment)}{banner}{_name(plan)}: "
        verdict, warnings, *rest = _section(plan, context)
        return fit([begin, verdict, warnings, _needs_record(pages), *rest], MAX_COMMENT_BYTES)
    plans = [plan for plan, _ in pages]
    begin = f"{_marker('*', '*')}{banner}{_verdict(pages)}{_needs_record(pages)}"
    sections = [[f"\n### {_name(plan)}\n\n", *_section(plan, context)] for plan, context in pages]
    return _several([begin, *_worst(plans)], sections, [_weight(*page) for page in pages])


def _several(begin: list[Piece], sections: list[list[Piece]], concerns: list[int]) -> str:
    """Join the ``sections`` that fit; if even their summaries do not, leave out those of least concern."""
    end = (
        "\n… and {} more accounts, left out to fit a comment; the counts at the top are of all accounts.\n"
    )
    room = MAX_COMMENT_BYTES - min_size(begin) - size(end) - len(str(len(sections)))
    fitting: set[int] = set()
    for place in sorted(range(len(sections)), key=lambda place: (concerns[place], place)):
        if min_size(sections[place]) <= room:
            fitting.add(place)
            room -= min_size(sections[place])
    pieces = [piece for place in sorted(fitting) for piece in sections[place]]
    left = len(sections) - len(fitting)
    return fit([*begin, *pieces, end.format(left) if left else ""], MAX_COMMENT_BYTES)


_GREAT, _SOME, _NONE = range(3)


def _concern(plan: Plan, context: PlanContext) -> int:
    """Return a plan's concern for a reviewer: less protection or a refusal, any change, or nothing."""
    less = any(change.direction in LESS_SAFE or risk_order.raises(change) for change in plan.changes)
    if plan.refusals or less or plan_headline.changes_identity(plan, context):
        return _GREAT
    dropped = plan.basis is Basis.FILE and plan.unmanaged
    return _SOME if plan.changes or dropped or plan_headline.changes_policy(context) else _NONE


def _weight(plan: Plan, context: PlanContext) -> int:
    """Return a page's weight if not all pages fit: pages with warnings about an account stay longest."""
    return min(_concern(plan, context), _SOME if account_sentences(plan, context, code) else _NONE)


def _section(plan: Plan, context: PlanContext) -> list[Piece]:
    why = f"{policy_refusals.refused_by(context, code)}:\n\n" if context.saved and plan.refusals else ""
    why += f"{policy_refusals.DIGEST_HINT}\n\n" if plan.basis is Basis.FILE and plan.refusals else ""
    stays = f"{policy_refusals.left_tighter_by(context, code)}:\n\n"
    unmanaged = "No longer managed" if plan.basis is Basis.FILE else "Not managed"
    diff = tuple(_diff(plan))
    return [
        _verdict([(plan, context)]),
        _warnings(plan, context),
        *block("\n#### Policy\n\n", _policy_rules(plan, context)),
        *block(f"\n#### Changes, the worst first\n\n{_TABLE}", _changes(plan)),
        *block(f"\n#### Held: not sent\n\n{why}", _held(plan, context.path)),
        *block(f"\n#### Stays tighter than the file\n\n{stays}", _stays_tighter(plan, context.path)),
        *block(f"\n#### {unmanaged}: left as it is\n\n", _unmanaged(plan)),
        *block(
            f"\n<details><summary>Diff of {values.families(len(diff))}</summary>\n\n```diff\n",
            diff,
            "```\n",
            "\n</details>\n",
        ),
        _foot(plan, context),
    ]


def _marker(account: str, environment: str) -> str:
    """Return the hidden first line, the same for every plan of an account (``*``: of several)."""
    name = re.sub(r"[^a-z0-9._*-]", "_", account[:MAX_ACCOUNT]) or "_"
    return f"<!-- mmp-plan account={name} environment={environment} -->\n"


def _name(plan: Plan) -> str:
    return f"{code(plan.account)} ({plan.environment.value})"


# ---- the verdict -------------------------------------------------------------------------------


def _verdict(pages: Sequence[Page]) -> str:
    plans = [plan for plan, _ in pages]
    beside = (
        plan_headline.headlines_of_all(pages)
        if len(pages) > 1
        else plan_headline.headlines(pages[0][1], code)
    )
    refused = "Refused: nothing would be sent." if any(plan.refusals for plan in plans) else ""
    headline = _headline(plans, only_settings=bool(beside), compared=not any(map(_is_uncompared, pages)))
    sentences = (*beside, headline, risk_order.worst_words(plans, code), refused)
    output = [f"**{sentence}**" for sentence in sentences if sentence]
    if len(plans) > 1:
        changed = sum(_concern(*page) < _NONE for page in pages)
        output.append(f"Changes in {changed} of {len(plans)} accounts.")
    if more := _counted(plans, _MORE_SAFE):
        output.append(f"More protection: {more}.")
    if rest := ", ".join(f"{number} {word}" for word, number in _others(plans).items() if number):
        output.append(f"{rest}.")
    return " ".join(output) + "\n"


def _is_uncompared(page: Page) -> bool:
    return plan_headline.is_not_compared(page[1])


def _headline(plans: Sequence[Plan], *, only_settings: bool, compared: bool) -> str:
    """Return the headline about the settings; empty if another headline says it.

    ``only_settings``: something else changes as well. ``compared``: every account was compared.
    """
    less = _counted(plans, LESS_SAFE)
    changes = [(plan, change) for plan in plans for change in plan.changes]
    rising = [
        change for _, change in changes if risk_order.raises(change) and change.direction not in LESS_SAFE
    ]
    enabled = sum(change.direction is Direction.ENABLE for change in rising)
    sentences = [f"Less protection: {less}."] if less else []
    sentences += (
        [f"Enabled with more exposure than when last enabled: {values.families(enabled)}."]
        if enabled
        else []
    )
    if others := len(rising) - enabled:
        sentences.append(f"More exposure than accepted: {values.families(others)}.")
    if sentences:
        return " ".join(sentences)
    if changes:
        nothing = "No setting" if only_settings else "Nothing"
        unknown = any(
            risk_order.is_uncompared(*each) or each[1].because is HoldReason.UNREADABLE for each in changes
        )
        known = " is known to get looser" if unknown else " gets looser"
        return f"{nothing}{known}." if compared else ""
    dropped = sum(len(plan.unmanaged) for plan in plans if plan.basis is Basis.FILE)
    gone = f"{values.families(dropped)} will no longer be managed." if dropped else ""
    if any(plan.refusals for plan in plans):
        return gone
    nothing = "No setting changes" if only_settings else "No changes"
    return f"{nothing}, but {gone}" if gone else f"{nothing}."


def _counted(plans: Sequence[Plan], directions: frozenset[Direction]) -> str:
    found = [change.direction for plan in plans for change in plan.changes]
    counts = {name: found.count(name) for name in _LOOKS if name in directions}
    return ", ".join(f"{number} {_LOOKS[name][1]}" for name, number in counts.items() if number)


def _others(plans: Sequence[Plan]) -> dict[str, int]:
    """Count the held changes, and what changes no setting, by the words for each."""
    changes = [change for plan in plans for change in plan.changes]
    unmanaged = "no longer managed" if plans[0].basis is Basis.FILE else "not managed"
    return {
        "held": sum(change.action is Action.HOLD for change in changes),
        "to send again": sum(
            change.action is Action.SET and change.direction is None for change in changes
        ),
        "to record without a request": sum(change.action is Action.ADOPT for change in changes),
        "left tighter": sum(len(plan.stays_tighter) for plan in plans),
        "unchanged": sum(len(plan.unchanged) for plan in plans),
        unmanaged: sum(len(plan.unmanaged) for plan in plans),
    }


def _policy_rules(plan: Plan, context: PlanContext) -> tuple[TableRow, ...]:
    """Return the rules that differ, in their order; over all accounts, the first stay longest."""
    change = context.old.policy_change if context.old else None
    return tuple(
        TableRow(
            (_POLICY_LAYER, False, place, Fraction(0), plan.account, plan.environment.value, ""),
            f"- {code(rule.words)}\n",
        )
        for place, rule in enumerate(change.rules if change else ())
    )


def _warnings(plan: Plan, context: PlanContext) -> str:
    warnings = [f"{sentence}." for sentence in account_sentences(plan, context, code)]
    old = context.old
    if old and old.policy_change:
        warnings.append(f"{plan_headline.policy_sentence(old.policy_change, code)}.")
        warnings += [values.EITHER_POLICY] if old.policy_change.counts else []
    warnings += [f"{missing}."] if (missing := plan_headline.missing_sentence(context, code)) else []
    return _quoted(warnings)


def _needs_record(pages: Sequence[Page]) -> str:
    """Return once, for all accounts, the sentences about what only a record proves."""
    return _quoted(plan_headline.record_sentences(context for _, context in pages))


def _quoted(sentences: Iterable[str]) -> str:
    return "".join(f"\n> **{sentence}**\n" for sentence in sentences)


# ---- the blocks --------------------------------------------------------------------------------


def _worst(plans: Sequence[Plan]) -> Sequence[Piece]:
    """Return the worst rows over all accounts, in one table before the sections; empty without a risk."""
    rows = (
        _row(_WORST_LAYER, plan, change.family, change, f"| {_name_in_cell(plan)} {_cells(change)}\n")
        for plan, change in risk_order.shown_first(plans)
    )
    return block(f"\n#### The worst of all accounts\n\n{_WORST_TABLE}", rows)


def _changes(plan: Plan) -> Iterator[TableRow]:
    for change in plan.changes:
        yield _row(_CHANGE_LAYER, plan, change.family, change, f"{_cells(change)} {_why(plan, change)} |\n")


def _row(layer: int, plan: Plan, family: Family, change: Change | None, text: str) -> TableRow:
    return TableRow((layer, *risk_order.rank(plan, family, change)), text)


def _name_in_cell(plan: Plan) -> str:
    return f"{cell(plan.account)} ({plan.environment.value})"


def _cells(change: Change) -> str:
    """Write the cells that all tables have: family, fields, factor, figures, direction."""
    figures = risk_order.figure_moves(change)
    cells = [
        cell(change.family),
        format_change(change),
        risk_order.factor_of(change),
        *(figures[name] for name in Figure),
    ]
    return f"| {' | '.join(cells)} | {_look(change)} |"


def _look(change: Change) -> str:
    if change.direction is not None:
        return _LOOKS[change.direction][0]
    return "= adopt" if change.action is Action.ADOPT else "? resend"


def _why(plan: Plan, change: Change) -> str:
    stays = f"; {words}" if (words := tighter_words(change)) else ""
    match change.action:
        case Action.SET:
            due = values.format_due(change.eta_s or 0.0)
            return f"{change.reason.value}; request {change.order}, {due}{stays}"
        case Action.ADOPT if change.fields:
            return f"{change.reason.value}; adopt: old is what was accepted, {values.LIVE_IS_SO}"
        case Action.ADOPT:
            return f"{change.reason.value}; no request{stays}"
        case Action.HOLD:
            assert change.because is not None
            held = hold_words(change, stays_tighter=change.family in plan.stays_tighter)
            old = "; old is what was accepted" if change.is_live else ""
            return f"{change.reason.value}; held: {held}{old}"
        case _:
            assert_never(change.action)


def _held(plan: Plan, path: str) -> Iterator[TableRow]:
    """Yield the held changes with reasons, one family a row; a refusal has its command."""
    refused = policy_refusals.refused_families(plan, path)
    changes = {change.family: change for change in plan.changes}
    for family, one in refused.items():
        text = _refused(family, one, "if this is intended")
        yield _row(_HELD_LAYER, plan, family, changes.get(family), text)
    for family, change in changes.items():
        if change.because is not None and family not in plan.stays_tighter and family not in refused:
            text = f"- {code(family)} {hold_words(change)}\n"
            yield _row(_HELD_LAYER, plan, family, change, text)


def _stays_tighter(plan: Plan, path: str) -> Iterator[TableRow]:
    """Yield the fields that stay as they are live, one family a row, and the command that undoes this."""
    changes = {change.family: change for change in plan.changes}
    for family, one in policy_refusals.tighter_families(plan, path).items():
        text = _refused(family, one, "to set the file's values")
        yield _row(_HELD_LAYER, plan, family, changes.get(family), text)


def _refused(family: Family, one: policy_refusals.RefusedFamily, hint: str) -> str:
    command = f"; {hint}: {code(one.command)}" if one.command else ""
    return "\n".join(f"- {code(family)} {code(sentence)}" for sentence in one.sentences) + f"{command}\n"


def _unmanaged(plan: Plan) -> Iterator[TableRow]:
    for family, live in plan.unmanaged.items():
        yield _row(_UNMANAGED_LAYER, plan, family, None, f"- {code(family)} {format_setting(live)}\n")


def _diff(plan: Plan) -> Iterator[TableRow]:
    """Yield the changes as lines with − and +, one family a row; then removed families."""
    for change in plan.changes:
        if text := _lines_of(change):
            yield _row(_DIFF_LAYER, plan, change.family, change, text)
    if plan.basis is Basis.FILE:
        for family, setting in plan.unmanaged.items():
            text = f"-{fenced(family)}:\n" + "".join(_lines("-", setting, tuple(Field)))
            yield _row(_GONE_LAYER, plan, family, None, text)


def _lines_of(change: Change) -> str:
    """Write one change as lines with − and +; empty if no field differs."""
    before, after = change.before, change.after
    if before is None:
        return f"+{fenced(change.family)}:\n" + "".join(_lines("+", after, change.fields))
    pairs = (
        line
        for field in change.fields
        for line in (*_lines("-", before, (field,)), *_lines("+", after, (field,)))
    )
    text = "".join(pairs)
    return f" {fenced(change.family)}:\n{text}" if text else ""


def _lines(sign: str, setting: Setting, fields: tuple[Field, ...]) -> Iterator[str]:
    return (f"{sign}  {field.value}: {setting.field_text(field)}\n" for field in fields)


def _foot(plan: Plan, context: PlanContext) -> str:
    at = f" at {code(context.host)}" if context.host is not None else ""
    parts = [
        f"{plan.environment.value}{at}",
        f"{code(context.path)} (sha256 {code(context.sha256[: policy_refusals.SHA_SHOWN])})",
        f"compared with {plan_headline.compared_with(context, code) or _COMPARED[plan.basis]}",
        f"policy {code(context.policy.path)}" if context.policy else "no policy file",
        _takes(plan),
        *([context.saved.words] if context.saved else []),
        f"digest {code(plan.digest)}",
        f"mmp {__version__}",
    ]
    return f"\n---\n\n{' · '.join(parts)}\n"


def _takes(plan: Plan) -> str:
    """Write how long the requests take; two files have no history, so theirs start with a full budget."""
    requests, waiting = values.count(len(plan.requests), "request"), values.format_duration(plan.eta_s)
    if waiting == "now":
        return f"{requests}, no waiting" if plan.requests else requests
    idle = " from an idle start" if plan.basis is Basis.FILE else ""
    return f"{requests} in about {waiting}{idle}"
