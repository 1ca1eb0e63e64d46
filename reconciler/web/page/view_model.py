"""The status page as a value: every sentence, number and command, in page order.

The wording is decided here, in ``account_view.py`` and in ``families.py``; the template places it and
writes the times. Unknown values are never shown as good, and every statement about the future names its
conditions. Nothing here is markup.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import assert_never

from reconciler.core.monitoring.protection import WORST_FIRST, Protection, ProtectionResult, worst_of
from reconciler.core.monitoring.unloaded_files import NO_UNLOADED_FILES, UnloadedFiles
from reconciler.render.values import count
from reconciler.web.latest_state import LatestState
from reconciler.web.page.account_view import (
    AccountView,
    FileView,
    Headline,
    PageHintFor,
    account_view,
    file_view,
    hint_from_glossary,
    state_unavailable_words,
)
from reconciler.web.page.charts import ALWAYS_SHOWN, MIDDLES, TimelineMark
from reconciler.web.page.families import SHARE_WORDS, PageTime
from reconciler.web.page.labels import PROTECTIONS, names, truncated
from reconciler.web.status_api import known_status

LEGEND = tuple(
    (mark.value, MIDDLES.get(mark), SHARE_WORDS[mark])
    for mark in (TimelineMark.IN_SYNC, *ALWAYS_SHOWN, TimelineMark.UNWATCHED)
)
"""The meaning of each mark of a timeline and the height of its line (None: no line), calmest first."""

REMOTE_SHOWN = 12
"""Accounts of other replicas that are all shown. With more, only unassigned ones are; others are folded."""

UNASSIGNED = "unassigned: a healthy replica will take it within seconds"
"""The text of an account whose owner is gone, or that is new."""

RUN_HERE = " run here"
"""Added to accounts of this process if other replicas run others."""


@dataclass(frozen=True, slots=True)
class RemoteLine:
    """One account that this process does not run, and its owner."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class PageView:
    """The page. ``accounts`` are sorted worst first; ``simulated`` names those at the simulator.

    ``alone``: the headline is that of the one account; else each account has its own.
    ``error``: why no account is started at all; empty if there is no error.
    """

    title: str
    headline: Headline
    error: str
    alone: bool
    accounts: tuple[AccountView, ...]
    missing: tuple[str, ...]
    rejected: tuple[FileView, ...]
    remote: tuple[RemoteLine, ...]
    remote_more: tuple[RemoteLine, ...]
    remote_more_text: str
    remote_text: str
    simulated: str
    version: str
    began: datetime
    wall: datetime


def page_view(
    latest: LatestState, *, now: float, wall: datetime, hint_for: PageHintFor = hint_from_glossary
) -> PageView:
    """Return the page as of ``now`` (the process's clock) and ``wall`` (UTC)."""
    statuses = [(snapshot, *known_status(snapshot, now=now, wall=wall)) for snapshot in latest.accounts()]
    statuses.sort(key=lambda one: WORST_FIRST.index(one[2].protection))
    accounts = tuple(account_view(*one, moment=PageTime(now, wall), hint_for=hint_for) for one in statuses)
    remote = _remote_lines(latest)
    error = "" if accounts else state_unavailable_words(latest.error)
    headline = _overall([one[2] for one in statuses], accounts, latest.unloaded, remote, error)
    lines, more = _folded_remote(remote)
    whose = accounts[0].name if len(accounts) == 1 else count(len(accounts), "account")
    here = RUN_HERE if remote else ""
    return PageView(
        title=f"{headline.sign.symbol} {headline.sign.word} · {whose}{here} · mmp",
        headline=headline,
        error=error,
        alone=len(accounts) == 1 and latest.unloaded == NO_UNLOADED_FILES,
        accounts=accounts,
        missing=tuple(truncated(path) for path in latest.unloaded.missing),
        rejected=tuple(file_view("Settings", file, wall) for file in latest.unloaded.rejected),
        remote=lines,
        remote_more=more,
        remote_more_text=_more_words(more),
        remote_text=_replica_words(latest, now),
        simulated=names([one.name for one in accounts if one.simulator]),
        version=truncated(latest.version),
        began=latest.began_at,
        wall=wall,
    )


def _remote_lines(latest: LatestState) -> tuple[RemoteLine, ...]:
    """Return the accounts that are not run here; unassigned first."""
    lines = [
        RemoteLine(
            truncated(f"{account} ({environment})"),
            f"run by {truncated(str(owner))}" if owner else UNASSIGNED,
        )
        for account, environment, owner in latest.remote_accounts()
    ]
    return tuple(sorted(lines, key=lambda line: line.text != UNASSIGNED))


def _folded_remote(lines: tuple[RemoteLine, ...]) -> tuple[tuple[RemoteLine, ...], tuple[RemoteLine, ...]]:
    """Return the accounts of other replicas that are always shown, and the folded ones."""
    if len(lines) <= REMOTE_SHOWN:
        return lines, ()
    free = sum(line.text == UNASSIGNED for line in lines[:REMOTE_SHOWN])
    return lines[:free], lines[free:]


def _more_words(more: tuple[RemoteLine, ...]) -> str:
    if any(line.text == UNASSIGNED for line in more):
        return count(len(more), "more account")
    return f"{count(len(more), 'account')} run by other replicas" if more else ""


def _replica_words(latest: LatestState, now: float) -> str:
    """Write which replicas share the accounts, and whether that is current; "" without replicas."""
    replica = latest.replica
    if replica is None:
        return ""
    if now >= replica.safe_until:
        why = f": {truncated(replica.error)}" if replica.error else ""
        stale = " The assignment is the last known one." if replica.leases else ""
        return f"The state cannot be reached{why}. No account is started here until it is.{stale}"
    living = len(replica.leases.replicas) if replica.leases else 0
    here = f"This is {truncated(str(replica.me))}: it runs {count(len(latest.accounts()), 'account')}."
    unable = len(replica.unable)
    cannot = f" It cannot serve {count(unable, 'account')} now: not read live, or its key is rejected here."
    return (
        f"{here} {count(living, 'replica')} share{'s' if living == 1 else ''} the accounts."
        f"{cannot if unable else ''}"
    )


def _overall(
    results: Sequence[ProtectionResult],
    accounts: Sequence[AccountView],
    unloaded: UnloadedFiles,
    remote: Sequence[RemoteLine],
    error: str,
) -> Headline:
    worst = worst_of(results)
    unknown = ""
    if error:
        unknown = "Not known yet: the state cannot be reached."
    elif unloaded != NO_UNLOADED_FILES and worst is not Protection.EXPOSED:
        unknown = f"Not known: {_unloaded_words(unloaded)}."
    elif not accounts:
        unknown = "Not known yet: no settings were accepted so far."
        if remote:
            unknown = "Not known here: this replica runs no account."
    if unknown:
        return Headline(PROTECTIONS[Protection.UNKNOWN], unknown)
    if len(accounts) == 1:
        headline = accounts[0].headline
        # It does not cover the accounts that this replica does not run.
        more = " This replica runs no other account." if remote else ""
        return Headline(headline.sign, f"{headline.sentence}{more}")
    number = sum(one.protection is worst for one in results)
    here = RUN_HERE if remote else ""
    return Headline(PROTECTIONS[worst], _overall_words(worst, number, len(results), here))


def _unloaded_words(unloaded: UnloadedFiles) -> str:
    missing, invalid = len(unloaded.missing), len(unloaded.rejected)
    parts = [count(missing, "missing settings file")] if missing else []
    parts += [count(invalid, "invalid settings file")] if invalid else []
    return ", ".join(parts)


def _overall_words(worst: Protection, number: int, of: int, here: str) -> str:
    some = f"{number} of {of} accounts{here}"
    has = "has" if number == 1 else "have"
    match worst:
        case Protection.EXPOSED:
            return f"No: {some} {has} less protection than the file says."
        case Protection.UNKNOWN:
            return f"Not known for {some}."
        case Protection.FROZEN:
            return f"Frozen until a manual reset: {some}. Settings are no looser than desired."
        case Protection.TIGHTER:
            return f"Yes, and tighter than desired in {some}."
        case Protection.PROTECTED:
            return f"Yes: all {of} accounts{here} as their files say."
        case _:
            assert_never(worst)
