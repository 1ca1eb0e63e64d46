"""Plans as one comment on a merge request: the verdict first, then what gets looser, then the rest.

The first line is a hidden marker, so that a pipeline finds its comment again and updates it in place.
The comment is always shorter than the platforms allow: rows are left out and counted, never the verdict
and never the foot. The same inputs give the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from decimal import ROUND_CEILING, Decimal
from decimal import Context as Precision
from typing import assert_never

from reconciler import __version__
from reconciler.core.direction import LESS_SAFE, Direction
from reconciler.core.model import Family, Field, Setting
from reconciler.core.outcome import hold_words
from reconciler.core.plan import Action, Basis, Change, Plan
from reconciler.core.policy import loosening_factors
from reconciler.report.accounts import account_sentences
from reconciler.report.documents import Context
from reconciler.report.headline import (
    SHARE_UNPROVEN,
    changes_identity,
    changes_policy,
    headlines,
    headlines_of_all,
    is_not_compared,
    policy_sentence,
)
from reconciler.report.markup import Piece, Rows, cell, code, fenced, fitted, least, size
from reconciler.report.refusals import DIGEST_HINT, SHA_SHOWN, override_command, refused_by
from reconciler.report.words import (
    EITHER_POLICY,
    age,
    count,
    due,
    duration,
    families,
    field_value,
    setting_words,
)

MAX_BYTES = 59_999
"""Fewer than 60,000: GitHub takes 65,536 characters, and a pipeline may want to add a line."""

MAX_ACCOUNT = 63
"""Characters of an account's name, as the file format has it."""

Page = tuple[Plan, Context]
"""One account's plan and where it belongs."""

_TABLE = (
    "| Family | Field | Old → new | Factor | Rate | Direction | Why and when |\n"
    "|---|---|---|---|---|---|---|\n"
)

_LOOKS = {
    Direction.DISABLE: "✗ disable",
    Direction.LOOSEN: "▼ loosen",
    Direction.MIXED: "◆ mixed",
    Direction.ENABLE: "+ enable",
    Direction.TIGHTEN: "▲ tighten",
}
"""Symbol and word of each direction, in the order in which a reviewer should see them."""

_IN_VERDICT = {
    Direction.DISABLE: "disabled",
    Direction.LOOSEN: "looser",
    Direction.MIXED: "looser in one field and tighter in another",
    Direction.ENABLE: "enabled",
    Direction.TIGHTEN: "tighter",
}

_MORE_SAFE = frozenset(Direction) - LESS_SAFE

_COMPARED = {
    Basis.LIVE: "what is live",
    Basis.LAST_APPLIED: "what was last applied (live was not read)",
    Basis.FILE: "another file",
}

_PRECISE = Precision(prec=100)
"""More digits than a factor of two quantities can have."""

_POLICY_RANK, _LESS_RANK, _HELD_RANK, _OTHER_RANK, _UNMANAGED_RANK, _DIFF_RANK = range(6)
"""Which blocks keep their rows longest, over all accounts."""


def plans_markdown(pages: Sequence[Page], *, simulator: bool = False) -> str:
    """Return the comment on ``pages``, at least one, in fewer than 60,000 bytes."""
    banner = "**SIMULATOR** " if simulator else ""
    if len(pages) == 1:
        ((plan, context),) = pages
        if context.kept and context.kept.stale:
            banner = f"> **{context.kept.banner}**\n\n{banner}"
        begin = f"{_marker(plan.account, plan.environment)}{banner}{_name(plan)}: "
        return fitted([begin, *_section(plan, context)], MAX_BYTES)
    begin = f"{_marker('*', '*')}{banner}{_verdict(pages)}"
    sections = [[f"\n### {_name(plan)}\n\n", *_section(plan, context)] for plan, context in pages]
    return _several(begin, sections, [_weight(*page) for page in pages])


def _several(begin: str, sections: list[list[Piece]], concerns: list[int]) -> str:
    """Join what fits of ``sections``; where even their summaries do not, the quietest are left out."""
    end = (
        "\n… and {} more accounts, left out to fit a comment; the counts at the top are of all accounts.\n"
    )
    room = MAX_BYTES - size(begin) - size(end) - len(str(len(sections)))
    kept: set[int] = set()
    for place in sorted(range(len(sections)), key=lambda place: (concerns[place], place)):
        if least(sections[place]) <= room:
            kept.add(place)
            room -= least(sections[place])
    pieces = [piece for place in sorted(kept) for piece in sections[place]]
    left = len(sections) - len(kept)
    return fitted([begin, *pieces, end.format(left) if left else ""], MAX_BYTES)


_GREAT, _SOME, _NONE = range(3)


def _concern(plan: Plan, context: Context) -> int:
    """Return how much a plan asks for a reviewer: less protection or a refusal, any change, or nothing."""
    less = any(change.direction in LESS_SAFE for change in plan.changes)
    if plan.refusals or less or changes_identity(plan, context):
        return _GREAT
    dropped = plan.basis is Basis.FILE and plan.unmanaged
    return _SOME if plan.changes or dropped or changes_policy(context) else _NONE


def _weight(plan: Plan, context: Context) -> int:
    """Return how long a page is kept where not all of them fit: what is said of an account stays."""
    return min(_concern(plan, context), _SOME if account_sentences(plan, context, code) else _NONE)


def _section(plan: Plan, context: Context) -> list[Piece]:
    less = [change for change in plan.changes if change.direction in LESS_SAFE]
    other = [change for change in plan.changes if change.direction not in LESS_SAFE]
    held = _held(plan, context.path)
    diff = tuple(_diff(plan))
    found: list[Piece] = [_verdict([(plan, context)]), _warnings(plan, context)]
    if rules := _policy_rules(context):
        found.append(Rows(_POLICY_RANK, "\n#### Policy\n\n", rules))
    if less:
        found.append(_table(_LESS_RANK, "Less protection", less))
    if held:
        said = f"{refused_by(context, code)}:\n\n" if context.kept and plan.refusals else ""
        said += f"{DIGEST_HINT}\n\n" if plan.basis is Basis.FILE and plan.refusals else ""
        found.append(Rows(_HELD_RANK, f"\n#### Held: not sent\n\n{said}", held))
    if other:
        found.append(_table(_OTHER_RANK, "Other changes" if less else "Changes", other))
    if plan.unmanaged:
        found.append(_unmanaged(plan))
    if diff:
        begin = f"\n<details><summary>Diff of {families(len(diff))}</summary>\n\n```diff\n"
        found.append(Rows(_DIFF_RANK, begin, diff, "```\n", "\n</details>\n"))
    return [*found, _foot(plan, context)]


def _marker(account: str, environment: str) -> str:
    """Return the hidden first line, the same for every plan of an account (``*``: of several)."""
    name = re.sub(r"[^a-z0-9._*-]", "_", account[:MAX_ACCOUNT]) or "_"
    return f"<!-- mmp-plan account={name} environment={environment} -->\n"


def _name(plan: Plan) -> str:
    return f"{code(plan.account)} ({plan.environment.value})"


# ---- the verdict -------------------------------------------------------------------------------


def _verdict(pages: Sequence[Page]) -> str:
    plans = [plan for plan, _ in pages]
    beside = headlines_of_all(pages) if len(pages) > 1 else headlines(pages[0][1], code)
    refused = "Refused: nothing would be sent." if any(plan.refusals for plan in plans) else ""
    headline = _headline(plans, only_settings=bool(beside), compared=not any(map(_is_uncompared, pages)))
    told = [f"**{sentence}**" for sentence in (*beside, headline, refused) if sentence]
    if len(plans) > 1:
        changed = sum(_concern(*page) < _NONE for page in pages)
        told.append(f"Changes in {changed} of {len(plans)} accounts.")
    if more := _counted(plans, _MORE_SAFE):
        told.append(f"More protection: {more}.")
    if rest := ", ".join(f"{number} {word}" for word, number in _others(plans).items() if number):
        told.append(f"{rest}.")
    return " ".join(told) + "\n"


def _is_uncompared(page: Page) -> bool:
    return is_not_compared(page[1])


def _headline(plans: Sequence[Plan], *, only_settings: bool, compared: bool) -> str:
    """Return what a reviewer has to know first of the settings; empty where something else says it.

    ``only_settings``: something else changes as well. ``compared``: every account was.
    """
    less = _counted(plans, LESS_SAFE)
    if less:
        return f"Less protection: {less}."
    if any(plan.changes for plan in plans):
        return ("No setting gets looser." if only_settings else "Nothing gets looser.") if compared else ""
    dropped = sum(len(plan.unmanaged) for plan in plans if plan.basis is Basis.FILE)
    gone = f"{families(dropped)} will no longer be managed." if dropped else ""
    if any(plan.refusals for plan in plans):
        return gone
    nothing = "No setting changes" if only_settings else "No changes"
    return f"{nothing}, but {gone}" if gone else f"{nothing}."


def _counted(plans: Sequence[Plan], directions: frozenset[Direction]) -> str:
    found = [change.direction for plan in plans for change in plan.changes]
    counts = {name: found.count(name) for name in _LOOKS if name in directions}
    return ", ".join(f"{number} {_IN_VERDICT[name]}" for name, number in counts.items() if number)


def _others(plans: Sequence[Plan]) -> dict[str, int]:
    """Count the changes that are held, and what is no change of a setting, by the words for it."""
    changes = [change for plan in plans for change in plan.changes]
    unmanaged = "no longer managed" if plans[0].basis is Basis.FILE else "not managed"
    return {
        "held": sum(change.action is Action.HOLD for change in changes),
        "to send again": sum(
            change.action is Action.SET and change.direction is None for change in changes
        ),
        "to record without a request": sum(change.action is Action.ADOPT for change in changes),
        "unchanged": sum(len(plan.unchanged) for plan in plans),
        unmanaged: sum(len(plan.unmanaged) for plan in plans),
    }


def _policy_rules(context: Context) -> tuple[str, ...]:
    change = context.old.policy_change if context.old else None
    return tuple(f"- {code(rule.words)}\n" for rule in change.rules) if change else ()


def _warnings(plan: Plan, context: Context) -> str:
    told = [f"{sentence}." for sentence in account_sentences(plan, context, code)]
    old = context.old
    if old and old.policy_change:
        told.append(f"{policy_sentence(old.policy_change, code)}.")
        told += [EITHER_POLICY] if old.policy_change.counts else []
    told += [f"{SHARE_UNPROVEN}."] if old and old.share_unproven else []
    return "".join(f"\n> **{sentence}**\n" for sentence in told)


# ---- the blocks --------------------------------------------------------------------------------


def _table(rank: int, title: str, changes: list[Change]) -> Rows:
    ordered = sorted(changes, key=lambda change: (_place(change), change.family))
    rows = tuple("".join(_rows(change)) for change in ordered)
    return Rows(rank, f"\n#### {title}\n\n{_TABLE}", rows)


def _place(change: Change) -> int:
    return list(_LOOKS).index(change.direction) if change.direction else len(_LOOKS)


def _rows(change: Change) -> Iterator[str]:
    """Yield one line of the table per changed field; the rate stands in the first."""
    name, look, why = cell(change.family), _look(change), _why(change)
    if not change.fields:
        value, rate = setting_words(change.after), _rate(change.after)
        yield f"| {name} | all | {value} | | {rate} | {look} | {why} |\n"
    factors, rate = _factors(change), _rates(change)
    for field in change.fields:
        old = field_value(change.before, field) if change.before else "—"
        moved = f"{old} → {field_value(change.after, field)}"
        yield f"| {name} | {field.value} | {moved} | {factors.get(field, '')} | {rate} | {look} | {why} |\n"
        rate = ""


def _look(change: Change) -> str:
    if change.direction is not None:
        return _LOOKS[change.direction]
    return "= adopt" if change.action is Action.ADOPT else "? resend"


def _why(change: Change) -> str:
    match change.action:
        case Action.SET:
            return f"{change.reason.value}; request {change.order}, {due(change.eta_s or 0.0)}"
        case Action.ADOPT:
            return f"{change.reason.value}; no request"
        case Action.HOLD:
            assert change.because is not None
            return f"{change.reason.value}; held: {hold_words(change)}"
        case _:
            assert_never(change.action)


def _factors(change: Change) -> dict[Field, str]:
    """Return how much looser or tighter each field gets; the word alone where that is no number."""
    if change.before is None:
        return {}
    looser = loosening_factors(change.before, change.after)
    tighter = loosening_factors(change.after, change.before)
    return {
        field: word if factor is None else f"×{_shown(factor)} {word}"
        for word, factors in (("looser", looser), ("tighter", tighter))
        for field, factor in factors.items()
    }


def _shown(factor: Decimal) -> str:
    """Write a factor to three places at most, rounded up: one above 1 is never told as 1."""
    return f"{factor.quantize(Decimal('0.001'), ROUND_CEILING, _PRECISE):f}".rstrip("0").rstrip(".")


def _rates(change: Change) -> str:
    """Write before and after as ``100 → 400 contracts per 5 s``; empty where neither has moved."""
    before, after = change.before, change.after
    if before is None:
        return _rate(after)
    if change.fields == (Field.FROZEN_INTERVAL,):
        return ""
    if before.time_interval_ms == after.time_interval_ms and not after.disabled:
        return f"{before.qty_limit.canonical} → {_rate(after)}"
    return f"{_rate(before)} → {_rate(after)}"


def _rate(setting: Setting) -> str:
    if setting.disabled:
        return "no limit"
    contracts = setting.qty_limit.canonical
    thing = "contract" if contracts == "1" else "contracts"
    return f"{contracts} {thing} per {_spaced(field_value(setting, Field.TIME_INTERVAL))}"


def _spaced(interval: str) -> str:
    number = interval.rstrip("hms")
    unit = interval.removeprefix(number)
    return f"{number} {'min' if unit == 'm' else unit}"


def _held(plan: Plan, path: str) -> tuple[str, ...]:
    """Return what is held and by what, a family a row: refusals first, with the command to override."""
    rules: dict[Family, list[str]] = {}
    for one in plan.refusals:
        rules.setdefault(one.family, []).append(f"- {code(one.family)} {code(one.sentence)}")
    refused = [
        "\n".join(lines) + f"; if that is meant: {code(override_command(plan, (family,), path))}\n"
        for family, lines in rules.items()
    ]
    others = [
        f"- {code(change.family)} {hold_words(change)}\n"
        for change in plan.changes
        if change.because is not None and change.family not in rules
    ]
    return (*refused, *others)


def _unmanaged(plan: Plan) -> Rows:
    title = "No longer managed" if plan.basis is Basis.FILE else "Not managed"
    rows = tuple(f"- {code(family)} {setting_words(live)}\n" for family, live in plan.unmanaged.items())
    begin = f"\n#### {title}: left as it is\n\n"
    return Rows(_UNMANAGED_RANK, begin, rows)


def _diff(plan: Plan) -> Iterator[str]:
    """Yield what changes as lines with − and +, a family a row, by name."""
    for change in sorted(plan.changes, key=lambda change: change.family):
        if change.before is None:
            yield f"+{fenced(change.family)}:\n" + "".join(_lines("+", change.after, change.fields))
        elif change.fields:
            pairs = (
                (*_lines("-", change.before, (field,)), *_lines("+", change.after, (field,)))
                for field in change.fields
            )
            yield f" {fenced(change.family)}:\n" + "".join(line for pair in pairs for line in pair)
    if plan.basis is Basis.FILE:
        for family, setting in plan.unmanaged.items():
            yield f"-{fenced(family)}:\n" + "".join(_lines("-", setting, tuple(Field)))


def _lines(sign: str, setting: Setting, fields: tuple[Field, ...]) -> Iterator[str]:
    return (f"{sign}  {field.value}: {field_value(setting, field)}\n" for field in fields)


def _foot(plan: Plan, context: Context) -> str:
    at = f" at {code(context.host)}" if context.host is not None else ""
    told = [
        f"{plan.environment.value}{at}",
        f"{code(context.path)} (sha256 {code(context.sha256[:SHA_SHOWN])})",
        f"compared with {_compared(plan, context)}",
        f"policy {code(context.policy.path)}" if context.policy else "no policy file",
        _takes(plan),
        *([context.kept.words] if context.kept else []),
        f"digest {code(plan.digest)}",
        f"mmp {__version__}",
    ]
    return f"\n---\n\n{' · '.join(told)}\n"


def _compared(plan: Plan, context: Context) -> str:
    if context.old:
        return code(context.old.path)
    if context.against:
        return f"what {code(context.against.source)} says is live, {age(context.against.age_s)}"
    return _COMPARED[plan.basis]


def _takes(plan: Plan) -> str:
    """Say how long the requests take; two files know no history, so theirs begin with a free budget."""
    requests, waiting = count(len(plan.requests), "request"), duration(plan.eta_s)
    if waiting == "now":
        return f"{requests}, no waiting" if plan.requests else requests
    idle = " from an idle start" if plan.basis is Basis.FILE else ""
    return f"{requests} in about {waiting}{idle}"
