"""The recorded timeline of an account: when it was observed, and in which state each family was."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta

from reconciler.core.model import Family
from reconciler.core.monitoring.state_timeline import (
    KEEP_S,
    UNMANAGED,
    Timeline,
    build_timeline,
    changed_states,
    continues,
    monotonic_wall,
)
from reconciler.store import history_mapping, queries, select_query
from reconciler.store.account_session import AccountSession
from reconciler.store.rows import ObservedPeriodRow, StateChangeRow, sanitized, wall_text
from reconciler.store.table_access import Tables, WriteScope

CHANGES_AT_ONCE = 1000
"""State changes that are read without a pause: some 5 ms."""


class AccountTimeline:
    """The timeline of one account."""

    def __init__(self, session: AccountSession) -> None:
        self._session = session
        self._engine = session.engine
        self._key = session.key
        self._max_gap_s = session.engine.options.max_gap_s
        self._period: int | None = None

    async def record_states(self, states: Mapping[Family, str]) -> None:
        """Record that the account is observed, and which families are in another state than before."""
        newest_period = queries.newest_observed_period(self._key)
        last = queries.last_state_changes(self._key)
        scope = WriteScope(self._key, ahead=select_query.together(newest_period, last))
        async with self._engine.writing(scope) as tables:
            at, newest = await self._observed_at(tables, self._engine.clock.wall())
            before = {Family(row.family): row.state for row in await tables.select(last)}
            period = await self._record_observation(tables, newest, at)
            changed = changed_states(before, states)
            numbers = await tables.next_ids(StateChangeRow, len(changed)) if changed else ()
            await tables.insert_all(
                [
                    StateChangeRow("", number, *self._key, family, sanitized(state), wall_text(at))
                    for number, (family, state) in zip(numbers, changed.items(), strict=True)
                ]
            )
            if period != self._period or changed:
                oldest = wall_text(at - timedelta(seconds=KEEP_S))
                await tables.prune_timeline(
                    self._key, oldest, UNMANAGED, self._engine.options.keep_state_changes
                )
        self._period = period

    async def read_timeline(
        self, since: datetime, pause: Callable[[], Awaitable[None]] | None = None
    ) -> Callable[[], Timeline]:
        """Read the rows of the timeline; returns a function that builds it from them in any thread."""
        changes = queries.state_changes_after(self._key, "", 0, CHANGES_AT_ONCE)
        query = select_query.together(queries.observed_periods(self._key), changes)
        (periods, damaged), newest = await self._session.read(query)
        rows, now = newest, self._engine.clock.wall()
        observing = bool(periods) and periods[-1].id == self._period
        while len(newest) == CHANGES_AT_ONCE:
            if pause is not None:
                await pause()
            last = newest[-1]
            newest = await self._session.read(
                queries.state_changes_after(self._key, last.family, last.id, CHANGES_AT_ONCE)
            )
            rows = rows + newest

        def draw() -> Timeline:
            changes = select_query.readable(rows)
            spans = build_timeline(
                [history_mapping.observed_period_of(row) for row in periods],
                [history_mapping.state_change_of(row) for row in changes.rows],
                since=since,
                now=now,
                watching=observing,
                max_gap_s=self._max_gap_s,
            )
            return Timeline(spans, damaged + changes.damaged)

        return draw

    async def _observed_at(
        self, tables: Tables, wall: datetime
    ) -> tuple[datetime, ObservedPeriodRow | None]:
        """Return the time of an observation at ``wall``, and the newest period; deletes later rows."""
        newest = await tables.select(queries.newest_observed_period(self._key))
        until = None if newest is None else history_mapping.observed_period_of(newest).until
        at = monotonic_wall(until, wall, self._max_gap_s)
        if until is not None and at < until:
            newest = await self._delete_after(tables, at)
        return at, newest

    async def _record_observation(
        self, tables: Tables, newest: ObservedPeriodRow | None, at: datetime
    ) -> int:
        """Record an observation of this process at ``at``; returns the id of its observed period.

        A period of another process, or of an earlier run of this one, is never extended.
        """
        ours = newest if newest is not None and newest.id == self._period else None
        if ours and continues(history_mapping.observed_period_of(ours), at, self._max_gap_s):
            await tables.update([ours._replace(until_wall=wall_text(at))])
            return ours.id
        number = await tables.next_id(ObservedPeriodRow)
        await tables.insert(ObservedPeriodRow("", number, *self._key, wall_text(at), wall_text(at)))
        return number

    async def _delete_after(self, tables: Tables, at: datetime) -> ObservedPeriodRow | None:
        """Delete what was recorded later than ``at``; returns the newest observed period that remains."""
        await tables.delete_after(self._key, wall_text(at))
        newest = await tables.select(queries.newest_observed_period(self._key))
        if newest is None or history_mapping.observed_period_of(newest).until <= at:
            return newest
        newest = newest._replace(until_wall=wall_text(at))
        await tables.update([newest])
        return newest
