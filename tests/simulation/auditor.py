"""Who listens to the program and holds what it does and says against the truth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from reconciler.core.events import Event, FightBroken, RequestSettled
from reconciler.core.model import Family, Known, Setting
from reconciler.core.plan import Plan, Reason
from reconciler.core.verdict import AttemptStatus
from reconciler.ports import Reserved, Signed
from tests.simulation import checkers
from tests.simulation.process import Process
from tests.simulation.scenario import Role, owner
from tests.simulation.truth import Attempt, Proof

if TYPE_CHECKING:
    from tests.simulation.world import World


class Auditor:
    """The auditor of one world. ``unsettled`` holds each process's attempt without a verdict."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.unsettled: dict[str, Attempt] = {}

    def reserved(
        self, process: Process, request: Signed, slot: Reserved, known: Mapping[Family, Known]
    ) -> None:
        """Check and note a reservation."""
        now = self._world.scheduler.now
        attempt = Attempt(slot.attempt, process.name, process.account, request, now, slot.reserved_at)
        self._world.trace(
            process, "reserved attempt %d: %s", slot.attempt, (request.family, request.setting)
        )
        self._world.news += 1
        self._world.truth.attempts[slot.attempt] = attempt
        self._world.truth.open_by_family.setdefault(request.family, []).append(attempt)
        self.unsettled[process.name] = attempt
        self._check_need(process, attempt, known.get(request.family))
        self._check_permission(process, attempt, known.get(request.family))

    def _check_need(self, process: Process, attempt: Attempt, known: Known | None) -> None:
        """Check that the request is wanted and rests on fresh evidence."""
        verify, scenario = self._world.verify, self._world.scenario
        family, setting, reads = attempt.family, attempt.setting, tuple(process.reads)
        wanted = process.told.families.get(family)
        verify(checkers.only_accepted_settings, (family, setting), wanted and wanted.setting)
        if scenario.live:
            newest = reads[0] if reads else None
            verify(checkers.read_before_write, attempt.reserved_at, newest, process.held_up_s)
        if scenario.lock_works:
            facts = (family, setting, known, reads, attempt.reserved_local)
            verify(checkers.no_request_without_difference, *facts)

    def _check_permission(self, process: Process, attempt: Attempt, known: Known | None) -> None:
        """Check that nothing forbids the request."""
        verify, scenario = self._world.verify, self._world.scenario
        family, setting, reads = attempt.family, attempt.setting, tuple(process.reads)
        newest = reads[0] if reads else None
        if scenario.live:
            verify(checkers.frozen_not_written, family, newest)
        if scenario.guarded:
            verify(checkers.disabling_is_guarded, family, setting, known, reads)
        if scenario.lock_works and process.role is Role.RUN:
            verify(checkers.drift_policy_kept, family, setting, known, newest, scenario.drift)

    def settled(
        self, process: Process, number: int, status: AttemptStatus, known: Mapping[Family, Known]
    ) -> None:
        """Check and note a verdict on record."""
        attempt = self._world.truth.attempts[number]
        attempt.settled_as = status.value
        self._world.news += 1
        self.unsettled.pop(process.name, None)
        self._world.trace(process, "settled attempt %d: %s", number, status)
        if status is AttemptStatus.APPLIED:
            self._proved(attempt.family, attempt.setting, attempt.reserved_at)
        self._check_settled(known, attempt.family)

    def adopted(
        self, process: Process, settings: Mapping[Family, Setting], known: Mapping[Family, Known]
    ) -> None:
        """Check and note an adoption on record."""
        begun_at = process.reads[0].begun_at if process.reads else float("inf")
        for family, setting in settings.items():
            self._proved(family, setting, begun_at - self._world.scenario.read_delay_s)
            self._check_settled(known, family)

    def _proved(self, family: Family, setting: Setting, since: float) -> None:
        self._world.verify(checkers.applied_implies_live, family, setting, since, self._world.truth)
        self._world.news += 1
        self._world.truth.proofs[family] = Proof(setting, since, self._world.scheduler.now)

    def _check_settled(self, known: Mapping[Family, Known], family: Family) -> None:
        if self._world.scenario.lock_works:
            flights = [
                attempt
                for attempt in self._world.truth.open_by_family.get(family, ())
                if self._world.network.may_take_effect(attempt)
            ]
            self._world.verify(checkers.settled_stays_settled, family, known.get(family), flights)

    def check_record(self, account: str, known: Mapping[Family, Known]) -> None:
        """Check what the store says of an account against what it was told."""
        if not self._world.scenario.lock_works:
            return
        for family in self._world.scenario.families:
            if owner(self._world.scenario, family) == account:
                proof = self._world.truth.proofs.get(family)
                if proof is not None:
                    self._world.verify(checkers.proof_survives, family, known.get(family), proof)
                self._world.verify(checkers.doubt_survives, family, known.get(family), self._doubts(family))

    def _doubts(self, family: Family) -> list[Attempt]:
        """Return the attempts that had no verdict yet when the family's last proof was made."""
        proof = self._world.truth.proofs.get(family)
        return [
            attempt
            for attempt in self._world.truth.open_by_family.get(family, ())
            if attempt.settled_as in (None, AttemptStatus.UNKNOWN.value)
            and (proof is None or attempt.reserved_at > proof.recorded_at)
        ]

    def claimed(self, process: Process, plan: Plan) -> None:
        """Check what a plan says is in sync."""
        newest = process.reads[0] if process.reads else None
        delay_s = self._world.scenario.read_delay_s
        for family in plan.unchanged if self._world.scenario.lock_works else ():
            wanted = process.told.families.get(family)
            if wanted is not None:
                facts = (family, wanted.setting, self._world.truth, newest)
                self._world.verify(checkers.in_sync_is_true, *facts, delay_s)
        if self._world.listening:
            self.spoken(process, repr(plan))

    def heard(self, process: Process, event: Event) -> None:
        """Count how often one life of ``run`` puts a family back, until it says that it gives up."""
        match event:
            case RequestSettled(status=AttemptStatus.APPLIED, reason=Reason.DRIFTED):
                what = event.family, event.setting
                process.put_back[what] = process.put_back.get(what, 0) + 1
                if process.role is Role.RUN:
                    self._world.verify(checkers.no_endless_fight, event.family, process.put_back[what])
            case FightBroken():
                self._world.verify(checkers.no_early_end, process.put_back, event.family, event.setting)
                process.put_back.pop((event.family, event.setting), None)
            case _:
                pass

    def spoken(self, process: Process, text: str) -> None:
        """Check a text that people or logs get to see."""
        self._world.verify(checkers.no_secret, text, self._world.secrets)

    def check_state(self) -> None:
        """Check that the state holds no secret, said or not."""
        image = self._world.disk._db.serialize()  # all that is on the disk, said nowhere or not
        self._world.verify(checkers.no_secret, image.decode("latin-1"), self._world.secrets)
