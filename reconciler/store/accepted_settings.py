"""The accepted settings of each family and the accepted settings files."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from fnmatch import fnmatchcase

from reconciler.core.history_records import AcceptedRecord, ProofKind
from reconciler.core.model import Accepting, Family, FileVersion, RateBudget, Setting
from reconciler.core.saved_plan import APPLIED_CHANGES_RETENTION
from reconciler.store import attempt_resolution, history_mapping, queries, row_mapping, select_query
from reconciler.store.account_session import AccountSession
from reconciler.store.queries import FamilyRows
from reconciler.store.rows import (
    AcceptedRow,
    AttemptRow,
    FileRow,
    PlanChangeRow,
    budget_key,
    sanitized,
    setting_columns,
    wall_text,
)
from reconciler.store.select_query import NOTHING
from reconciler.store.table_access import Tables

KEEP_FILES = 10_000
"""Contents of settings files remembered per User ID: enough for a file edited every minute for a week.
Forgotten content that returns counts as new."""


class AcceptanceSteps:
    """Accepted settings and files of one account's User ID."""

    def __init__(self, session: AccountSession) -> None:
        self._session = session

    async def accept_file(self, sha256: str, *, changed: bool) -> FileVersion:
        """Record that this content of the settings file is in force; writes only if that is new."""
        budget = self._session.identified()
        query = select_query.together(queries.file(budget, sha256), queries.newest_number(budget))
        version = _version(sha256, *await self._session.read(query), changed=changed)
        if version is not None:
            return version
        async with self._session.writing(query) as (tables, (found, newest)):
            return _version(sha256, found, newest, changed=changed) or await self._accept(
                tables, sha256, newest + 1
            )

    async def _accept(self, tables: Tables, sha256: str, number: int) -> FileVersion:
        """Assign the next number to content of the settings file."""
        budget, wall = self._session.identified(), self._session.wall()
        row = FileRow("", *budget_key(budget), sanitized(sha256), number, self._session.account, wall)
        await tables.upsert(row)
        if number > KEEP_FILES:
            await tables.prune_files(budget, number - KEEP_FILES)
        return FileVersion(sha256, number)

    async def accepted_log(self, limit: int, family: str = "*") -> list[AcceptedRecord]:
        """Return at most ``limit`` accepted settings of families matching the glob, newest first."""
        rows = await self._session.read_of_user(queries.select_accepted) or ()
        return history_mapping.accepted_log([row for row in rows if fnmatchcase(row.family, family)])[
            :limit
        ]

    def row(
        self,
        number: int,
        family: str,
        accepting: Accepting,
        how: ProofKind,
        attempt: int,
        file: FileVersion,
    ) -> AcceptedRow:
        """Return the row of a setting that becomes the accepted one; ``attempt`` is the newest request."""
        whose = (*budget_key(self._session.identified()), family, self._session.account)
        proof = (*setting_columns(accepting.setting), how.value, attempt, file.sha256, file.number)
        review = (sanitized(accepting.digest), sanitized(accepting.override))
        return AcceptedRow(*("", number, *whose, *proof, *review, self._session.wall()))

    async def rows_of_read(
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
            self.row(number, family, accepting[family], ProofKind.ADOPTED, newest.get(family, 0), file)
            for number, family in zip(numbers, families, strict=True)
        ]
        return rows, [row for row in recorded if row.family in accepting]

    async def record(self, tables: Tables, rows: list[AcceptedRow], earlier: list[AcceptedRow]) -> None:
        """Record accepted settings, and delete older ones that nothing depends on."""
        await tables.insert_all(rows)
        wall = self._session.engine.clock.wall()
        of: dict[str, list[AcceptedRow]] = {row.family: [] for row in rows}
        for one in (*earlier, *rows):
            of[one.family].append(one)
        old = [number for of_family in of.values() for number in row_mapping.needless(of_family, wall)]
        await tables.delete(AcceptedRow, old)

    async def take_back(self, tables: Tables, rows: FamilyRows, row: AttemptRow) -> None:
        """Delete the newest accepted setting if this attempt, which definitely failed, was its only
        request.

        Otherwise a change that the exchange rejected would count as the setting to restore.
        """
        if not rows.accepted:
            return
        newest = rows.accepted[-1]
        others = [one.id for one in rows.open if one.id != row.id] + [one.attempt for one in rows.losses]
        if attempt_resolution.is_only_request_of(row, newest, rows.applied, others):
            await tables.delete(AcceptedRow, [newest.id])


class SavedPlanChanges:
    """What is recorded of the saved plan that is being applied."""

    def __init__(self, session: AccountSession) -> None:
        self._session = session
        self.plan = ""
        self._plan_changes: Mapping[Family, Setting] = {}

    def apply_plan(self, plan: str, changes: Mapping[Family, Setting]) -> None:
        """Record requests and adoptions as changes of the saved plan with this id from now on."""
        self.plan, self._plan_changes = plan, changes

    async def record_in_force(self, families: Collection[Family]) -> None:
        """Record that changes of the saved plan were found in force, with nothing to be sent."""
        budget = self._session.identified()
        found = {family: self._plan_changes[family] for family in families}
        async with self._session.writing(NOTHING, held=self._session.lock_name) as (tables, _):
            await self.record(tables, budget, [], found, ProofKind.ADOPTED)

    async def record(
        self,
        tables: Tables,
        budget: RateBudget,
        attempts: Iterable[AttemptRow],
        in_force: Mapping[Family, Setting],
        how: ProofKind,
    ) -> None:
        """Record the changes of saved plans that are now in force, by a request or by adoption."""
        plans = row_mapping.plan_changes_of(attempts, in_force)
        if how is ProofKind.ADOPTED:
            for family, setting in in_force.items():
                if self._plan_changes.get(family) == setting:
                    plans.setdefault(family, set()).add(self.plan)
        if not plans:
            return
        wall = self._session.engine.clock.wall()
        for family, of in plans.items():
            for plan in sorted(of):
                applied = (plan, family, self._session.account, how.value, wall_text(wall))
                await tables.upsert(PlanChangeRow("", *budget_key(budget), *applied))
        await tables.prune_plan_changes(budget, wall_text(wall - APPLIED_CHANGES_RETENTION))


def _version(sha256: str, found: FileRow | None, newest: int, *, changed: bool) -> FileVersion | None:
    """Return the version that content of the settings file has already; None: it gets the next number."""
    if found is None or (changed and found.number < newest):
        return None
    return FileVersion(sha256, found.number)
