"""Whether the record of a User ID's requests may lack some, decided from the histories of its server.

A history identifies a server's past: the cluster, and its timeline as eight hexadecimal digits, which a
promotion raises. What a standby had not received when it was promoted is on no record. Nor is what came
after the backup that a dropped table was restored from; the restored table is another one of the same name.
"""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.core.pacing import GUARD_S, LATEST_ARRIVAL_S


@dataclass(frozen=True, slots=True)
class SeenTimeline:
    """Server history and table in which a process saw a User ID's record; ``at`` that time, in seconds."""

    history: str
    at: float
    table: int = 0


@dataclass(frozen=True, slots=True)
class SeenTable:
    """The table of the records as a process saw it last, whatever the User ID.

    ``since``: when it first saw this table in place of another one; minus infinity if it saw no other.
    """

    table: int
    since: float = float("-inf")

    def then(self, table: int, at: float) -> SeenTable:
        """Return the sight after the process saw ``table`` at the instant ``at``."""
        return self if table == self.table else SeenTable(table, at)

    def may_lack_requests(self, now: float, seen_at: float | None) -> bool:
        """Tell whether requests of a User ID may be missing that were on record in the table before.

        ``seen_at``: when the process last saw the record of this User ID, None if it never did. What was
        reserved in the earlier table was so before ``since``, and no longer matters once it cannot count.
        """
        if seen_at is not None and seen_at >= self.since:
            return False
        return now < self.since + LATEST_ARRIVAL_S + GUARD_S


def may_have_lost(recorded: str, current: SeenTimeline, seen: SeenTimeline | None) -> bool:
    """Tell whether requests may be missing that were not counted as lost yet.

    ``recorded``: the history that the record names, written with a counted loss; ``current``: what is
    seen now; ``seen``: what this process saw last, None without it, by the same clock.

    If the record names another history than the server's, the loss was not counted. If they agree, it was,
    unless an old primary came back, which agrees with its own record: a process that saw a later timeline
    knows that. A process that saw an earlier timeline may have reserved there after that timeline had
    ended, unseen by the process that counted; that matters while such a request counts. Another table
    says nothing of that.
    """
    if recorded != current.history:
        return True
    if seen is None:
        return False
    if seen.table != current.table:
        return True
    if seen.history == current.history:
        return False
    counts_until = seen.at + LATEST_ARRIVAL_S + GUARD_S
    return not _follows(current.history, seen.history) or current.at < counts_until


def _follows(history: str, earlier: str) -> bool:
    """Tell whether a history is of a later timeline of the same cluster."""
    (cluster, timeline), (earlier_cluster, earlier_timeline) = history.split("/"), earlier.split("/")
    return cluster == earlier_cluster and timeline > earlier_timeline
