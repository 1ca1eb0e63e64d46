"""Proofs: what is known to be in force, from a live read or from an acknowledged request."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from reconciler.core.history_records import ProofKind
from reconciler.core.live_evidence import SeenRow, reflects_until
from reconciler.core.model import (
    NO_FILE,
    Accepting,
    Family,
    FileVersion,
    Known,
    LiveRead,
    LiveRow,
    RateBudget,
    Setting,
)
from reconciler.ports import NO_ACCEPTING, NO_ROWS
from reconciler.store import attempt_resolution, history_mapping, queries, row_mapping, select_query
from reconciler.store.accepted_settings import AcceptanceSteps, SavedPlanChanges
from reconciler.store.account_session import AccountSession
from reconciler.store.queries import FamilyRows
from reconciler.store.row_clock import RowClock
from reconciler.store.rows import (
    AppliedRow,
    AttemptRow,
    LiveReadRow,
    LossRow,
    budget_key,
    file_of,
    setting_columns,
    setting_of,
)
from reconciler.store.table_access import Tables, WriteScope


class Proofs:
    """What is in force of the families of one account's User ID."""

    def __init__(
        self, session: AccountSession, acceptance: AcceptanceSteps, saved_plan: SavedPlanChanges
    ) -> None:
        self._session = session
        self._acceptance = acceptance
        self._saved_plan = saved_plan

    async def known(self) -> Mapping[Family, Known]:
        """Return what is known of every family on record (a family without a record is left out)."""
        budget = await self._session.found(any_kind=False)
        if budget is None:
            return {}
        found = await self._session.decide(queries.known(budget))
        return row_mapping.known_from_rows(*found, self._session.row_clock())

    async def adopt(
        self,
        settings: Mapping[Family, Setting],
        *,
        read_begun_at: float,
        file: FileVersion = NO_FILE,
        accepting: Mapping[Family, Accepting] = NO_ACCEPTING,
    ) -> frozenset[Family]:
        """Record settings a live read proved in force; returns the families recorded.

        Attempts that may still take effect stay open; with another value, they make the family uncertain.
        Families attempted or proven since the read began are not changed: the read may not show that. If
        the lock was lost, another process may have written since the read: nothing is adopted, raises
        StateLocked.
        """
        budget = self._session.identified()
        query = select_query.together(
            queries.known(budget),
            queries.tries(budget),
            queries.newest_attempts(budget),
            queries.select_accepted(budget),
        )
        async with self._session.writing(query, held=self._session.lock_name) as (tables, found):
            row_clock = self._session.row_clock()
            (applied, attempts, losses), tries, newest, all_accepted = found
            later = attempt_resolution.changed_since(
                [*attempts, *losses], applied, read_begun_at, row_clock
            )
            adopted = {family: setting for family, setting in settings.items() if family not in later}
            accepted = await self._acceptance.rows_of_read(
                tables, all_accepted, adopted, accepting, newest, file
            )
            since = reflects_until(read_begun_at)
            await self._mark_first_adoptions_uncertain(tables, losses, adopted, since, row_clock)
            changed = await _resolve(tables, attempts, losses, adopted, since, row_clock)
            changed += attempt_resolution.tries_resolved_by(tries, adopted)
            await tables.update(attempt_resolution.merged(changed))
            for family, setting in adopted.items():
                number = newest.get(family, 0)
                row = self._proof(family, setting, ProofKind.ADOPTED, number, file, read_begun_at)
                await tables.upsert(row)
            await self._acceptance.record(tables, *accepted)
            await self._saved_plan.record(tables, budget, attempts, adopted, ProofKind.ADOPTED)
        return frozenset(adopted)

    async def end_attempts(self, families: Collection[Family], *, read_begun_at: float) -> None:
        """End the open attempts of families that a live read shows to have been superseded."""
        budget = self._session.identified()
        query, since = queries.known(budget), reflects_until(read_begun_at)
        async with self._session.writing(query, held=self._session.lock_name) as (tables, found):
            _, attempts, losses = found
            row_clock = self._session.row_clock()
            await tables.update(await _resolve(tables, attempts, losses, families, since, row_clock))

    async def record_live(self, read: LiveRead, *, last_seen: Mapping[Family, LiveRow] = NO_ROWS) -> None:
        """Record the latest live read, and the last rows of families that it leaves out."""
        wall = self._session.wall()
        async with self._session.engine.writing(WriteScope(self._session.key)) as tables:
            await tables.upsert(
                LiveReadRow("", *self._session.key, history_mapping.live_document(read, last_seen), wall)
            )

    async def last_rows(self) -> Mapping[Family, SeenRow]:
        """Return the rows last read of the User ID; a row older than a proof gets a very old instant."""
        found = await self._session.read_of_user(queries.live_reads_and_proofs, any_kind=False)
        return {} if found is None else history_mapping.seen_rows(*found, self._session.row_clock())

    async def _mark_first_adoptions_uncertain(
        self,
        tables: Tables,
        losses: Collection[LossRow],
        families: Iterable[Family],
        since: float,
        row_clock: RowClock,
    ) -> None:
        """Mark families uncertain whose first record is this adoption, if an earlier record may
        have been lost.

        Until the doubt ends, no request is possible: the lost requests also use up the rate.
        """
        for family in families if losses else ():
            doubt = attempt_resolution.loss_for(losses, self._session.account, family, since, row_clock)
            if doubt is not None and not await _is_recorded(tables, self._session.identified(), family):
                await tables.insert_losses([doubt])

    async def acknowledge(
        self, tables: Tables, rows: FamilyRows, row: AttemptRow, row_clock: RowClock
    ) -> AttemptRow:
        """Make the attempt's setting the confirmed one, if its acknowledgement proves that."""
        changed = [one._replace(tries=0) for one in rows.tries if one.id != row.id]
        row, family = row._replace(tries=0), Family(row.family)
        setting = {family: setting_of(row)}
        await self._saved_plan.record(
            tables, self._session.identified(), [row, *rows.open], setting, ProofKind.APPLIED
        )
        if attempt_resolution.proves_in_force(row, rows.applied):
            since = row_clock.reserved_at(row)
            changed += await _resolve(tables, rows.open, rows.losses, setting, since, row_clock)
            proven = (family, setting[family], ProofKind.APPLIED, rows.newest, file_of(row))
            await tables.upsert(self._proof(*proven, row_clock.now))
            row = row._replace(resolved=1)
        await tables.update(attempt_resolution.merged(changed))
        return row

    def _proof(
        self, family: str, setting: Setting, how: ProofKind, newest: int, file: FileVersion, at: float
    ) -> AppliedRow:
        """Return the row of a proof: ``setting`` was in force at ``at``, ``newest`` is the last attempt."""
        session = self._session
        whose = (*budget_key(session.identified()), family, session.account)
        found = (*setting_columns(setting), how.value, newest, session.engine.first_seen.boot, float(at))
        return AppliedRow(*("", *whose, *found, session.wall(), file.sha256, file.number))


async def _resolve(
    tables: Tables,
    attempts: Iterable[AttemptRow],
    losses: Iterable[LossRow],
    families: Collection[str],
    since: float,
    row_clock: RowClock,
) -> list[AttemptRow]:
    """Return the open attempts that a proof as of ``since`` resolves, changed.

    Delete the losses that it resolves, too.
    """
    lost = [row for row in losses if row.family in families]
    await tables.delete(LossRow, attempt_resolution.losses_resolved_by(lost, since, row_clock))
    return attempt_resolution.resolved_by(
        (row for row in attempts if row.family in families), since, row_clock
    )


async def _is_recorded(tables: Tables, budget: RateBudget, family: Family) -> bool:
    query = select_query.together(queries.newest_attempt(budget, family), queries.applied(budget, family))
    attempt, proof = await tables.select(query)
    return bool(attempt) or proof is not None
