"""Proofs: what is known to be in force, from a live read or from an acknowledged request."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from reconciler.core.evidence import SeenRow, reflects_until
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
from reconciler.core.state_records import ProofKind
from reconciler.ports import NO_ACCEPTING, NO_ROWS
from reconciler.store import queries, record_mapping, row_mapping, select_query
from reconciler.store.acceptance import AcceptanceSteps
from reconciler.store.live_document import live_document
from reconciler.store.queries import FamilyRows
from reconciler.store.row_clock import RowClock
from reconciler.store.rows import (
    AppliedRow,
    AttemptRow,
    LiveReadRow,
    LossRow,
    budget_key,
    file_of,
    setting_of,
    wall_text,
)
from reconciler.store.saved_plan_changes import SavedPlanChanges
from reconciler.store.table_access import Tables, WriteScope


class Proofs(AcceptanceSteps, SavedPlanChanges):
    """What is in force of the families of one account's User ID."""

    async def known(self) -> Mapping[Family, Known]:
        """Return what is known of every family on record (none is NeverApplied)."""
        budget = await self._found(any_kind=False)
        if budget is None:
            return {}
        found = await self._decide(queries.known(budget))
        return row_mapping.known_from_rows(*found, self._row_clock())

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
        budget = self._identified()
        query = select_query.together(
            queries.known(budget),
            queries.all_tries(budget),
            queries.newest_attempts(budget),
            queries.all_accepted(budget),
        )
        async with self._writing(query, held=self._lock_name) as (tables, found):
            row_clock = self._row_clock()
            (applied, attempts, losses), tries, newest, all_accepted = found
            later = row_mapping.changed_since([*attempts, *losses], applied, read_begun_at, row_clock)
            adopted = {family: setting for family, setting in settings.items() if family not in later}
            accepted = await self._accepted_by_read(tables, all_accepted, adopted, accepting, newest, file)
            since = reflects_until(read_begun_at)
            await self._doubt_newcomers(tables, losses, adopted, since, row_clock)
            of_adopted = [loss for loss in losses if loss.family in adopted]
            await tables.delete(LossRow, row_mapping.losses_resolved_by(of_adopted, since, row_clock))
            changed = row_mapping.resolved_by(
                (row for row in attempts if row.family in adopted), since, row_clock
            )
            changed += row_mapping.tries_resolved_by(tries, adopted)
            for row in row_mapping.merged(changed):
                await tables.update_attempt(row)
            for family, setting in adopted.items():
                proof = self._proof(
                    family,
                    setting,
                    ProofKind.ADOPTED,
                    newest.get(family, 0),
                    file,
                    row_clock,
                    at=read_begun_at,
                )
                await tables.upsert(proof)
            await self._accept_setting(tables, *accepted)
            await self._record_plan_changes(tables, budget, attempts, adopted, ProofKind.ADOPTED)
        return frozenset(adopted)

    async def end_attempts(self, families: Collection[Family], *, read_begun_at: float) -> None:
        """End the open attempts of families that a live read shows to have been superseded."""
        budget = self._identified()
        query, since = queries.known(budget), reflects_until(read_begun_at)
        async with self._writing(query, held=self._lock_name) as (tables, (_, open_rows, losses)):
            row_clock = self._row_clock()
            attempts = [row for row in open_rows if row.family in families]
            of_families = [loss for loss in losses if loss.family in families]
            for row in row_mapping.resolved_by(attempts, since, row_clock):
                await tables.update_attempt(row)
            await tables.delete(LossRow, row_mapping.losses_resolved_by(of_families, since, row_clock))

    async def record_live(self, read: LiveRead, *, last_seen: Mapping[Family, LiveRow] = NO_ROWS) -> None:
        """Record the latest live read, and the last rows of families that it leaves out."""
        wall = wall_text(self._engine.clock.wall())
        async with self._engine.writing(WriteScope(self._key)) as tables:
            await tables.upsert(LiveReadRow("", *self._key, live_document(read, last_seen), wall))

    async def last_rows(self) -> Mapping[Family, SeenRow]:
        """Return the rows last read of the User ID; older than a proof, they count as seen long ago."""
        budget = await self._found(any_kind=False)
        if budget is None:
            return {}
        query = select_query.together(queries.live_reads(budget), queries.all_applied(budget))
        reads, applied = await self._read(query)
        return record_mapping.seen_rows(reads, applied, self._row_clock())

    async def _doubt_newcomers(
        self,
        tables: Tables,
        losses: Collection[LossRow],
        families: Iterable[Family],
        since: float,
        row_clock: RowClock,
    ) -> None:
        """Mark families uncertain whose first record is this adoption, if an earlier one may have been
        lost.

        No request of such a family is possible before that is over: the same loss counts for the rate.
        """
        for family in families if losses else ():
            doubt = row_mapping.loss_for(losses, self._account, family, since, row_clock)
            if doubt is not None and not await _is_recorded(tables, self._identified(), family):
                await tables.insert_losses([doubt])

    async def _acknowledge(
        self, tables: Tables, rows: FamilyRows, row: AttemptRow, row_clock: RowClock
    ) -> AttemptRow:
        """Make the attempt's setting the confirmed one, if its acknowledgement proves that."""
        changed = [one._replace(tries=0) for one in rows.tries if one.id != row.id]
        row, proof = row._replace(tries=0), None
        setting = {Family(row.family): setting_of(row)}
        await self._record_plan_changes(
            tables, self._identified(), [row, *rows.open], setting, ProofKind.APPLIED
        )
        if row_mapping.proves_in_force(row, rows.applied):
            since = row_clock.reserved_at(row)
            changed += row_mapping.resolved_by(rows.open, since, row_clock)
            await tables.delete(LossRow, row_mapping.losses_resolved_by(rows.losses, since, row_clock))
            file = file_of(row)
            proof = self._proof(
                row.family,
                setting_of(row),
                ProofKind.APPLIED,
                rows.newest,
                file,
                row_clock,
                at=row_clock.now,
            )
        for one in row_mapping.merged(changed):
            await tables.update_attempt(one)
        if proof is None:
            return row
        await tables.upsert(proof)
        return row._replace(resolved=1)

    def _proof(
        self,
        family: str,
        setting: Setting,
        how: ProofKind,
        newest: int,
        file: FileVersion,
        row_clock: RowClock,
        *,
        at: float,
    ) -> AppliedRow:
        """Return the row of a proof: ``setting`` was in force at ``at``, ``newest`` is the last attempt."""
        return AppliedRow(
            "",
            *budget_key(self._identified()),
            family,
            self._account,
            time_interval_ms=setting.time_interval_ms,
            frozen_interval_ms=setting.frozen_interval_ms,
            qty_limit=setting.qty_limit.text,
            how=how.value,
            attempt=newest,
            boot=row_clock.first_seen.boot,
            at=float(at),
            at_wall=wall_text(self._engine.clock.wall()),
            file_sha256=file.sha256,
            file_number=file.number,
        )


async def _is_recorded(tables: Tables, budget: RateBudget, family: Family) -> bool:
    query = select_query.together(queries.newest_attempt(budget, family), queries.applied(budget, family))
    attempt, proof = await tables.select(query)
    return bool(attempt) or proof is not None
