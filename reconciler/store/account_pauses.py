"""The pauses of the families of one account's User ID."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from reconciler.core.model import Family, Pause, Setting
from reconciler.core.pauses import replaces
from reconciler.store import queries, row_mapping
from reconciler.store.account_session import AccountSession
from reconciler.store.rows import PauseRow
from reconciler.store.select_query import NOTHING


class AccountPauses:
    """Manual pauses, and pauses by the heal breaker."""

    def __init__(self, session: AccountSession) -> None:
        self._session = session

    async def pauses(self) -> tuple[Pause, ...]:
        """Return the pauses that have not expired at this moment, by family."""
        rows = await self._session.read_of_user(queries.pauses) or ()
        return in_force(rows, self._session.engine.clock.wall())

    async def pause(
        self,
        families: Iterable[Family],
        *,
        until: datetime | None,
        reason: str,
        contested_setting: Mapping[Family, Setting] | None = None,
    ) -> None:
        """Pause families until a time of day (None: until resumed).

        A family in ``contested_setting`` is paused by the heal breaker. A reservation claims the same
        User ID, so after this has returned, no request of these families is reserved.
        """
        budget, wall = await self._session.used(), self._session.engine.clock.wall()
        async with self._session.writing(queries.pauses(budget), budget=budget) as (tables, rows):
            before = _by_family(rows)
            for family in families:
                pause = Pause(family, reason, wall, until, (contested_setting or {}).get(family))
                if replaces(pause, before.get(family), wall):
                    await tables.upsert(row_mapping.pause_row(pause, budget, self._session.account))

    async def clear_heal_breakers(self, contested_setting: Mapping[Family, Setting]) -> None:
        """End the heal breaker's pauses of families that are about exactly these settings."""
        budget = self._session.identified()
        async with self._session.writing(queries.pauses(budget)) as (tables, rows):
            before = _by_family(rows)
            for family, setting in contested_setting.items():
                if family in before and before[family].contested == setting:
                    await tables.delete_pause(budget, family)

    async def resume(self, families: Iterable[Family]) -> None:
        """End the pauses of families; harmless where there is none."""
        budget = await self._session.used()
        async with self._session.writing(NOTHING, budget=budget) as (tables, _):
            for family in families:
                await tables.delete_pause(budget, family)


def in_force(rows: Iterable[PauseRow], wall: datetime) -> tuple[Pause, ...]:
    """Return the pauses that have not expired at ``wall``, by family."""
    return tuple(pause for _, pause in sorted(_by_family(rows).items()) if pause.is_active(wall))


def _by_family(rows: Iterable[PauseRow]) -> dict[Family, Pause]:
    """Return the recorded pause of each family, expired or not."""
    return {Family(row.family): row_mapping.pause_of(row) for row in rows}
