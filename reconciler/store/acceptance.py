"""The accepted settings of each family and the accepted settings files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from reconciler.core.model import Accepting, Family, FileVersion, Setting
from reconciler.core.state_records import AcceptedRecord, ProofKind
from reconciler.store import queries, record_mapping, row_mapping, select_query
from reconciler.store.account_session import AccountSession
from reconciler.store.queries import FamilyRows
from reconciler.store.rows import AcceptedRow, AttemptRow, FileRow, budget_key, sanitized, wall_text
from reconciler.store.table_access import Tables

KEEP_FILES = 10_000
"""Contents of settings files remembered per User ID: enough for a file edited every minute for a week.
Forgotten content that returns counts as new."""


class AcceptanceSteps(AccountSession):
    """Accepted settings and files of one account's User ID."""

    async def accept_file(self, sha256: str, *, changed: bool) -> FileVersion:
        """Record that this content of the settings file is in force; writes only if that is new."""
        budget = self._identified()
        query = select_query.together(queries.file(budget, sha256), queries.newest_number(budget))
        version = _version(sha256, *await self._read(query), changed=changed)
        if version is not None:
            return version
        async with self._writing(query) as (tables, (found, newest)):
            return _version(sha256, found, newest, changed=changed) or await self._accept(
                tables, sha256, newest + 1
            )

    async def _accept(self, tables: Tables, sha256: str, number: int) -> FileVersion:
        """Assign the next number to content of the settings file."""
        budget, wall = self._identified(), wall_text(self._engine.clock.wall())
        row = FileRow("", *budget_key(budget), sanitized(sha256), number, self._account, wall)
        await tables.upsert(row)
        if number > KEEP_FILES:
            await tables.prune_files(budget, number - KEEP_FILES)
        return FileVersion(sha256, number)

    async def accepted_log(self, limit: int, family: str = "*") -> list[AcceptedRecord]:
        """Return at most ``limit`` accepted settings of families matching the glob, newest first."""
        budget = await self._found()
        if budget is None:
            return []
        rows = await self._read(queries.all_accepted(budget))
        return record_mapping.accepted_log([row for row in rows if fnmatchcase(row.family, family)])[:limit]

    def _accepted(
        self,
        number: int,
        family: str,
        accepting: Accepting,
        how: ProofKind,
        attempt: int,
        file: FileVersion,
    ) -> AcceptedRow:
        setting = accepting.setting
        return AcceptedRow(
            "",
            number,
            *budget_key(self._identified()),
            family,
            self._account,
            time_interval_ms=setting.time_interval_ms,
            frozen_interval_ms=setting.frozen_interval_ms,
            qty_limit=setting.qty_limit.text,
            how=how.value,
            attempt=attempt,
            file_sha256=file.sha256,
            file_number=file.number,
            digest=sanitized(accepting.digest),
            override=sanitized(accepting.override),
            at_wall=wall_text(self._engine.clock.wall()),
        )

    async def _accepted_by_read(
        self,
        tables: Tables,
        recorded: Iterable[AcceptedRow],
        adopted: Mapping[Family, Setting],
        accepting: Mapping[Family, Accepting],
        newest: Mapping[str, int],
        file: FileVersion,
    ) -> tuple[list[AcceptedRow], list[AcceptedRow]]:
        """Return the rows of settings that become accepted without a request, and all earlier rows."""
        families = [family for family in adopted if family in accepting]
        if not families:
            return [], []
        numbers = await tables.next_ids(AcceptedRow, len(families))
        rows = [
            self._accepted(
                number, family, accepting[family], ProofKind.ADOPTED, newest.get(family, 0), file
            )
            for number, family in zip(numbers, families, strict=True)
        ]
        return rows, [row for row in recorded if row.family in accepting]

    async def _accept_setting(
        self, tables: Tables, rows: list[AcceptedRow], earlier: list[AcceptedRow]
    ) -> None:
        """Record accepted settings, and delete older ones that nothing depends on."""
        await tables.insert_all(rows)
        wall = self._engine.clock.wall()
        of: dict[str, list[AcceptedRow]] = {row.family: [] for row in rows}
        for one in (*earlier, *rows):
            of[one.family].append(one)
        old = [number for of_family in of.values() for number in row_mapping.needless(of_family, wall)]
        await tables.delete(AcceptedRow, old)

    async def _take_back_acceptance(self, tables: Tables, rows: FamilyRows, row: AttemptRow) -> None:
        """Delete the newest accepted setting if this attempt, which definitely failed, was its only
        request.

        Otherwise a change that the exchange rejected would count as the setting to restore.
        """
        if not rows.accepted:
            return
        newest = rows.accepted[-1]
        others = [one.id for one in rows.open if one.id != row.id] + [one.attempt for one in rows.losses]
        if row_mapping.is_only_request_of(row, newest, rows.applied, others):
            await tables.delete(AcceptedRow, [newest.id])


def _version(sha256: str, found: FileRow | None, newest: int, *, changed: bool) -> FileVersion | None:
    """Return the version that content of the settings file has already; None: it gets the next number."""
    if found is None or (changed and found.number < newest):
        return None
    return FileVersion(sha256, found.number)
