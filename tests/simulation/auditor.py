"""Who listens to the program and holds what it does and says against the truth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from reconciler.core.events import Event, FightBroken, RequestSettled
from reconciler.core.model import Family, Known, Setting
from reconciler.core.plan import Plan, Reason
from reconciler.core.verdict import AttemptStatus
from reconciler.errors import MmpError
from reconciler.ports import Reserved, Signed
from tests.simulation import checkers
from tests.simulation.ports import Basis
from tests.simulation.process import Process
from tests.simulation.scenario import Role, owner
from tests.simulation.truth import Attempt, Proof

if TYPE_CHECKING:
    from tests.simulation.world import World


class Auditor:
    """The auditor of one world. ``unsettled`` holds each process's attempt without a verdict."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._awaiting: set[str] = set()
        self.unsettled: dict[str, Attempt] = {}

    # -- requests --------------------------------------------------------------------------------

    def reserved(self, process: Process, request: Signed, slot: Reserved, basis: Basis) -> Attempt:
        """Check and note a reservation on record."""
        now, truth = self._world.scheduler.now, self._world.truth
        attempt = Attempt(slot.attempt, process.name, process.account, request, now, slot.reserved_at)
        self._world.trace(
            process, "reserved attempt %d: %s", slot.attempt, (request.family, request.setting)
        )
        self._world.news += 1
        self._world.verify(checkers.one_reservation_per_request, request, truth.attempts)
        truth.attempts.append(attempt)
        truth.open_by_family.setdefault(request.family, []).append(attempt)
        self.unsettled[process.name] = attempt
        self._check_need(attempt, basis, process.true_time(slot.reserved_at))
        self._check_permission(process, attempt, basis)
        return attempt

    def reserved_in_postgres(
        self, process: Process, request: Signed, slot: Reserved, basis: Basis, taker: str | None
    ) -> None:
        """Check and note a reservation that the server made durable; its process may not know it yet."""
        attempt = self.reserved(process, request, slot, basis)
        attempt.reserved_at = min(attempt.reserved_at, process.true_time(slot.reserved_at))
        if process.name not in self._awaiting:
            del self.unsettled[process.name]  # it was told that this failed, before it happened
        self._world.verify(checkers.reserved_by_the_holder, process.name, taker)
        lost_at = self._world.history_lost_at
        self._world.verify(checkers.waits_out_a_lost_history, attempt.reserved_at, lost_at)

    @contextmanager
    def answer_awaited(self, process: Process) -> Iterator[None]:
        """Let a process wait for what the state says of its request; failing, it gives the request up."""
        self._awaiting.add(process.name)
        try:
            yield
        except MmpError:
            self.unsettled.pop(process.name, None)
            raise
        finally:
            self._awaiting.discard(process.name)

    def answered(self, process: Process) -> None:
        """Note that a process was told that its reservation is durable."""
        self.unsettled[process.name].answered = True

    def _check_need(self, attempt: Attempt, basis: Basis, reserved_at: float) -> None:
        """Check that the request is wanted and rests on fresh evidence."""
        verify, scenario = self._world.verify, self._world.scenario
        family, setting, known = attempt.family, attempt.setting, basis.known.get(attempt.family)
        verify(checkers.only_accepted_settings, (family, setting), basis.wanted)
        if scenario.live:
            newest = basis.reads[0] if basis.reads else None
            verify(checkers.read_before_write, reserved_at, newest)
        if scenario.lock_works:
            facts = (family, setting, known, basis.reads, attempt.reserved_local)
            verify(checkers.no_request_without_difference, *facts)

    def _check_permission(self, process: Process, attempt: Attempt, basis: Basis) -> None:
        """Check that nothing forbids the request."""
        verify, scenario = self._world.verify, self._world.scenario
        family, setting, known = attempt.family, attempt.setting, basis.known.get(attempt.family)
        newest = basis.reads[0] if basis.reads else None
        if scenario.live:
            verify(checkers.frozen_not_written, family, newest)
        if scenario.guarded:
            verify(checkers.disabling_is_guarded, family, setting, known, basis.reads)
        if scenario.lock_works and process.role is Role.RUN:
            verify(checkers.drift_policy_kept, family, setting, known, newest, scenario.drift)

    # -- verdicts --------------------------------------------------------------------------------

    def settled(self, process: Process, status: AttemptStatus, known: Mapping[Family, Known]) -> None:
        """Check and note a verdict on record."""
        attempt = self.unsettled[process.name]
        self.recorded(process, attempt, status, known, proven=status is AttemptStatus.APPLIED)

    def recorded(
        self,
        process: Process,
        attempt: Attempt,
        status: AttemptStatus,
        known: Mapping[Family, Known],
        *,
        proven: bool,
    ) -> None:
        """Check and note a verdict on record; ``proven``: with it, that its setting is in force."""
        attempt.settled_as = status.value
        self._world.news += 1
        if self.unsettled.get(process.name) is attempt:
            del self.unsettled[process.name]
        self._world.trace(process, "settled attempt %d: %s", attempt.number, status)
        if proven:
            self._proved(attempt.family, attempt.setting, attempt.reserved_at)
        self._check_settled(known, attempt.family)

    def adopted(
        self, settings: Mapping[Family, Setting], begun_at: float, known: Mapping[Family, Known]
    ) -> None:
        """Check and note an adoption on record, by a read begun at ``begun_at``."""
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

    # -- what is on record, and what is said -----------------------------------------------------

    def check_record(self, account: str, known: Mapping[Family, Known]) -> None:
        """Check what the store says of an account against what it was told."""
        if not self._world.scenario.lock_works:
            return
        forgotten = self._world.history_lost_at > float("-inf")
        for family in self._world.scenario.families:
            if owner(self._world.scenario, family) == account:
                one = known.get(family)
                proof = self._world.truth.proofs.get(family)
                if proof is not None:
                    self._world.verify(checkers.proof_survives, family, one, proof)
                doubts = self._doubts(family)
                self._world.verify(checkers.doubt_survives, family, one, doubts, forgotten)

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
        delay_s, truth = self._world.scenario.read_delay_s, self._world.truth
        for family in plan.unchanged if self._world.scenario.lock_works else ():
            wanted = process.told.families.get(family)
            if wanted is not None:
                meanwhile = truth.changed_by_another(process.name, family, process.known_at)
                facts = (family, wanted.setting, truth, newest, delay_s, meanwhile)
                self._world.verify(checkers.in_sync_is_true, *facts)
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
        image = self._world.keeping.image()  # all that is on the disk, said nowhere or not
        self._world.verify(checkers.no_secret, image.decode("latin-1"), self._world.secrets)
