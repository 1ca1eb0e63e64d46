"""The auditor watches the program's actions and reports and compares them with the true state."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from reconciler.core.drift_resolution import DriftPolicy
from reconciler.core.events import Compared, Event, HealBreakerTripped, RequestSettled, SettingRejected
from reconciler.core.live_evidence import last_proof
from reconciler.core.model import Confirmed, Family, Known, NeverApplied, Setting, Uncertain
from reconciler.core.plan import Plan, Reason
from reconciler.core.reply import AttemptStatus
from reconciler.core.reservation import Reservation, SignedRequest
from reconciler.errors import MmpError
from tests.simulation import checkers, guard_checkers
from tests.simulation.ground_truth import Attempt, Proof
from tests.simulation.ports import Basis
from tests.simulation.process import Process
from tests.simulation.scenario import CHECKS, PERMISSIVE, Check, ListFault, PolicyState, Role, owner

if TYPE_CHECKING:
    from tests.simulation.world import World


CLOCK_CODE = "50102"
NOT_SENT_CODE = "connect"

SUPERSEDED = "superseded"
"""The status of an attempt that a read ended: live differs from what the attempt carries."""

SPACED_SENDS = 15
"""For so many sends after a 50011 the even spacing certainly still applies."""

SEEN_WITHIN_S = 1.2
"""How late processes see the file of a measured history."""

BEGUN_WITHIN_S = 3.0
"""The latest start of the processes of a history."""


@dataclass(frozen=True, slots=True)
class Tries:
    """Tries of one setting in a row without success; ``last_at`` in true time, ``boot`` of its process.

    ``limited``: the last one was refused for its rate, which is not a fault of the family.
    """

    setting: Setting
    count: int
    last_at: float
    boot: tuple[str, int]
    limited: bool = False


class Auditor:
    """The auditor of one world. ``unsettled`` maps each process to its attempt without a verdict."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._awaiting: set[str] = set()
        self._limited_at: float | None = None  # when the newest request refused for its rate was reserved
        self._sent_since: list[float] = []
        self._tries: dict[Family, Tries] = {}
        self._before: dict[Family, Tries | None] = {}  # the newest reservation of each, should it not count
        self._succeeded_at = float("-inf")
        self._unsent_at: dict[Family, float] = {}
        self._last_sent: Attempt | None = None
        self._when_written: dict[int, list[Callable[[], object]]] = {}
        # checks of reservations that are taken back where the file or the policy changed meanwhile
        self.unsettled: dict[str, Attempt] = {}
        self._failed_commits: dict[str, list[float]] = {}

    # -- requests --------------------------------------------------------------------------------

    def reserved(
        self, process: Process, request: SignedRequest, slot: Reservation, basis: Basis
    ) -> Attempt:
        """Check and record a reservation."""
        now, truth = self._world.scheduler.now, self._world.truth
        attempt = Attempt(slot.attempt, process.name, process.account, request, now, slot.reserved_at)
        proof = truth.proofs.get(request.family)
        # Under an older file, a heal is no looser than the newer file, and stays the newer file's.
        if proof is None or request.setting == basis.wanted:
            attempt.file_number = process.file_number
        else:
            attempt.file_number = proof.file_number
        self._world.trace(
            process, "reserved attempt %d: %s", slot.attempt, (request.family, request.setting)
        )
        self._world.news += 1
        self._world.verify(checkers.one_reservation_per_request, request, truth.attempts)
        truth.attempts.append(attempt)
        truth.open_by_family.setdefault(request.family, []).append(attempt)
        self.unsettled[process.name] = attempt
        if basis.accepting is not None:
            accepted = truth.accepted.setdefault(request.family, [])
            self._check_accepted(request.family, basis.accepting, basis.policy)
            accepted.append((basis.accepting, attempt))
        self._check_need(attempt, basis, process.true_time(slot.reserved_at))
        self._check_permission(process, attempt, basis)
        self._check_guards(process, attempt, basis)
        self._check_turn(process, attempt, basis)
        if scenario_is_simple(self._world):
            self._check_retry(process, attempt, basis)
            self._check_controller(process)
        return attempt

    def reserved_in_postgres(
        self, process: Process, request: SignedRequest, slot: Reservation, basis: Basis, taker: str | None
    ) -> None:
        """Check and record a reservation that the server made durable; its process may not know it yet."""
        attempt = self.reserved(process, request, slot, basis)
        self._check_failed_commits(process, attempt)
        attempt.reserved_at = min(attempt.reserved_at, process.true_time(slot.reserved_at))
        if process.name not in self._awaiting:
            del self.unsettled[process.name]  # the process learned of the failure first
        self._world.verify(checkers.reserved_by_the_holder, process.name, taker)
        lost_at = self._world.history_lost_at
        self._world.verify(checkers.waits_out_a_lost_history, attempt.reserved_at, lost_at)

    @contextmanager
    def answer_awaited(self, process: Process) -> Iterator[None]:
        """Let a process wait for the state's answer about its request; on an error it drops the request."""
        self._awaiting.add(process.name)
        try:
            yield
        except MmpError:
            self.unsettled.pop(process.name, None)
            raise
        finally:
            self._awaiting.discard(process.name)

    def commit_failed(self, process: Process) -> None:
        """Record that a process learned that the COMMIT of its reservation failed."""
        self._failed_commits.setdefault(process.name, []).append(self._world.scheduler.now)

    def _check_failed_commits(self, process: Process, attempt: Attempt) -> None:
        """Check that reservations of the same process count whose COMMIT failed."""
        others = [
            one.arrived_by if one.arrived_by is not None else one.reserved_at + checkers.LANDS_WITHIN_S
            for one in self._world.truth.attempts[-12:]
            if one is not attempt and one.written
        ]
        facts = attempt.reserved_at, self._failed_commits.get(process.name, ()), others
        self._world.verify(checkers.failed_commits_count, *facts)

    def answered(self, process: Process) -> None:
        """Record that a process learned that its reservation is durable."""
        self.unsettled[process.name].answered = True

    def _check_need(self, attempt: Attempt, basis: Basis, reserved_at: float) -> None:
        """Check that the request is wanted and rests on fresh evidence."""
        verify, scenario = self._world.verify, self._world.scenario
        family, setting, known = attempt.family, attempt.setting, basis.known.get(attempt.family)
        proof = last_proof(known or NeverApplied())
        may_stay = (basis.last_rows.get(family), proof.setting if proof else None)
        accepted = [one for one, _ in self._world.truth.accepted.get(family, ())]
        wanted = (family, setting), basis.wanted, may_stay, accepted
        self._when_written[attempt.number] = [lambda: verify(checkers.only_accepted_settings, *wanted)]
        if scenario.live:
            newest = basis.reads[0] if basis.reads else None
            verify(checkers.read_before_write, reserved_at, newest)
        if scenario.lock_works:
            facts = (family, setting, known, basis.reads, attempt.reserved_local)
            own_read = basis.family_reads.get(family)
            last_row = basis.last_rows.get(family)
            verify(checkers.no_request_without_difference, *facts, own_read, last_row)

    def _check_permission(self, process: Process, attempt: Attempt, basis: Basis) -> None:
        """Check that nothing forbids the request."""
        verify, scenario = self._world.verify, self._world.scenario
        family, setting, known = attempt.family, attempt.setting, basis.known.get(attempt.family)
        newest = basis.reads[0] if basis.reads else None
        if scenario.live:
            verify(checkers.frozen_not_written, family, newest)
        if scenario.guarded and basis.policy is None:
            own_read = basis.family_reads.get(family)
            verify(checkers.disabling_is_guarded, family, setting, known, basis.reads, own_read)
            if isinstance(known, Confirmed) and known.setting != setting:
                references = self._references(attempt, basis)
                verify(guard_checkers.near_off_is_guarded, family, setting, references)
        if scenario.lock_works and process.role is Role.RUN:
            verify(checkers.drift_policy_obeyed, family, setting, known, newest, scenario.drift)

    def _check_guards(self, process: Process, attempt: Attempt, basis: Basis) -> None:
        """Check what files, policies, pauses, reviews and lists forbid."""
        world, family, setting = self._world, attempt.family, attempt.setting
        verify, truth, extras = world.verify, world.truth, world.scenario.extras
        verify(guard_checkers.pause_respected, family, truth.paused_at.get(family), basis.asked_at)
        if process.role is Role.RUN and world.history_lost_at == float("-inf"):
            newer = list(self.may_be_in_force(family, but=attempt))
            live = self._live_for_certain(family, basis)
            if self._gone_for_certain(family, basis) or (
                live is not None and not guard_checkers.looser(live, setting)
            ):
                newer = []  # live became looser still, which is healed
            numbers = truth.files.numbers  # another process may have made this content the newest
            own = max(process.file_number, numbers.get(basis.file.sha256, 0))
            verify(guard_checkers.stale_file_never_loosens, family, setting, own, newer)
        if process.role is Role.RUN and world.scenario.drift is not DriftPolicy.HEAL:
            self._check_fields(attempt, basis)
        if world.scenario.live:
            self._check_early(attempt, basis)
        if extras.policies and world.scenario.live:
            self._when_written[attempt.number].append(lambda: self._check_policy(attempt, basis))
        if process.reviewed is not None:
            live = self._live_for_certain(family, basis)
            verify(
                guard_checkers.nothing_outside_the_review_is_sent, family, setting, live, process.reviewed
            )
        if world.scenario.live and basis.reads:
            self._check_reads(process, attempt, basis)

    def may_be_in_force(self, family: Family, but: Attempt | None = None) -> Iterator[tuple[Setting, int]]:
        """Yield each mmp setting that may be in force for the family, with the number of its file."""
        proof = self._world.truth.proofs.get(family)
        if proof is not None:
            yield proof.setting, proof.file_number
        for other in self._doubts(family):
            if other is not but:
                yield other.setting, other.file_number

    def _check_fields(self, attempt: Attempt, basis: Basis) -> None:
        live = self._live_for_certain(attempt.family, basis)
        if Check.FIELD_BY_FIELD in CHECKS and live is not None and self._world.scenario.lock_works:
            accepted = [one for one, _ in self._world.truth.accepted.get(attempt.family, ())]
            facts = attempt.family, attempt.setting, live, accepted
            self._world.verify(guard_checkers.loosens_only_what_was_accepted, *facts)

    def _check_early(self, attempt: Attempt, basis: Basis) -> None:
        """Check what is sent while a read need not show the family's last proof yet."""
        known, newest = basis.known.get(attempt.family), basis.reads[0] if basis.reads else None
        if not isinstance(known, Confirmed) or newest is None:
            return
        after_s = newest.read.begun_at - known.at
        row = newest.read.rows.get(attempt.family)
        is_early = guard_checkers.TICK_S < after_s < checkers.SETTLING_S - guard_checkers.TICK_S
        if is_early and row is not None and row.setting != known.setting:
            facts = attempt.family, attempt.setting, known.setting, row.setting
            self._world.verify(guard_checkers.goes_early_only_to_protect, *facts)

    def _check_policy(self, attempt: Attempt, basis: Basis) -> None:
        verify, family, setting = self._world.verify, attempt.family, attempt.setting
        known, newest = basis.known.get(family), basis.reads[0] if basis.reads else None
        if not isinstance(known, Confirmed) or newest is None:
            return
        references = self._references(attempt, basis)
        policy = basis.policy or PERMISSIVE
        if policy.unreadable:
            both = [known.setting, *references]
            verify(guard_checkers.nothing_loosens_under_an_unreadable_policy, family, setting, both)
            return
        is_change = known.setting != setting  # restoring the accepted setting is not limited
        if is_change:
            verify(guard_checkers.factor_within_limit, family, setting, references, policy.max_factor)
            loosened = [one for one in basis.file.families if self._is_loosened(one, basis)]
            verify(guard_checkers.families_within_limit, family, loosened, policy.max_families)

    def _references(self, attempt: Attempt, basis: Basis) -> list[Setting]:
        """Return the settings that may be in force: what a settled read shows, else the proof as well."""
        known, newest = basis.known.get(attempt.family), basis.reads[0] if basis.reads else None
        if not isinstance(known, Confirmed) or newest is None:
            return []
        row = newest.read.rows.get(attempt.family)
        seen = row.setting if row is not None and newest.read.begun_at > known.at else None
        if seen is None:
            return [known.setting]
        is_settled = newest.read.begun_at >= known.at + checkers.SETTLING_S
        return [seen] if is_settled else [known.setting, seen]

    def _is_loosened(self, family: Family, basis: Basis) -> bool:
        """Tell whether the file certainly loosens a family: nothing drifted, and nothing is uncertain."""
        known, wanted = basis.known.get(family), basis.file.families[family].setting
        if wanted.disabled and not self._world.scenario.guarded:
            return False  # an overridden family is not counted
        live = self._live_for_certain(family, basis)
        return (
            isinstance(known, Confirmed) and live == known.setting and guard_checkers.looser(live, wanted)
        )

    def _check_reads(self, process: Process, attempt: Attempt, basis: Basis) -> None:
        verify, family, setting, newest = (
            self._world.verify,
            attempt.family,
            attempt.setting,
            basis.reads[0],
        )
        facts = newest.begun_at, process.host.resumed_at, basis.asked_at
        verify(guard_checkers.reads_are_of_this_side_of_a_suspension, *facts)
        refused_at = process.clock_refused_at
        verify(guard_checkers.reads_again_after_a_clock_error, newest.begun_at, refused_at)
        if family not in newest.odd:
            return
        own = basis.family_reads.get(family)
        own_is_newer = own is not None and own.begun_at > newest.begun_at - checkers.STALE_AFTER_S
        faults = set(self._world.scenario.extras.list_faults)
        if faults <= {ListFault.SIMILAR_NAME, ListFault.UNREADABLE}:
            verify(guard_checkers.unreadable_is_held, family, not own_is_newer)
        is_recent = own is not None and own.begun_at > newest.begun_at - checkers.GONE_FOR_S
        confirmed = own is not None and (own_is_newer if family in own.read.rows else is_recent)
        last_seen = basis.last_rows.get(family)
        verify(guard_checkers.missing_is_not_gone, family, setting, last_seen, confirmed)

    def _check_retry(self, process: Process, attempt: Attempt, basis: Basis) -> None:
        """Check and record one more try, or the first one of a setting."""
        verify, family, now = self._world.verify, attempt.family, attempt.reserved_at
        before = self._tries.get(family)
        again = before is not None and before.setting == attempt.setting
        if before is not None and again:
            may_at_once = before.limited or self._succeeded_at > before.last_at
            verify(
                guard_checkers.tried_again_in_time, family, before.count, now - before.last_at, may_at_once
            )
            last = None if self._last_sent is None else now - self._last_sent.reserved_at
            if not before.limited:  # that was a definite reply
                verify(guard_checkers.retry_leaves_a_slot, family, last, self._slot_is_for(attempt, basis))
        self._before[family] = before
        count = before.count + 1 if before is not None and again else 1
        self._tries[family] = Tries(attempt.setting, count, now, _boot(process))
        self._last_sent = attempt

    def _slot_is_for(self, attempt: Attempt, basis: Basis) -> str | None:
        """Return for what a retry has to leave a slot free; None: nothing, as far as is certain."""
        known, newest = basis.known.get(attempt.family), basis.reads[0] if basis.reads else None
        row = newest.read.rows.get(attempt.family) if newest is not None else None
        proof = last_proof(known or NeverApplied())
        unresolved = known.unresolved if isinstance(known, Uncertain) else ()
        may_be = [row.setting if row else None, *(one.setting for one in unresolved)]
        may_be += [proof.setting] if proof is not None else []
        if all(
            one is not None and not guard_checkers.protects_more(one, attempt.setting) for one in may_be
        ):
            return "an emergency"
        waiting = [
            one
            for one in sorted(basis.file.families)
            if one != attempt.family and self._waits_for_a_slot(one, basis)
        ]
        return waiting[0] if waiting else None

    def _check_controller(self, process: Process) -> None:
        if process.role is not Role.RUN:
            return
        process.has_written = True
        others = [
            other.name
            for other in self._world.processes.values()
            if other is not process
            and other.account == process.account
            and other.stored_as == process.stored_as
            and not other.dead
            and other.has_written
        ]
        self._world.verify(guard_checkers.one_controller, process.name, others)

    def compared(self, process: Process, event: Compared) -> None:
        """Check that a plan delays no setting that may be tried again.

        Only within one boot of a machine: the ages of records of other boots cannot be compared.
        """
        if not scenario_is_simple(self._world):
            return
        for change in event.plan.requests:
            tries = self._tries.get(change.family)
            ours = tries is not None and tries.boot == _boot(process)
            if ours and tries is not None and tries.setting == change.after:
                left_s = change.not_before - process.clock.now()
                failed_at = max(tries.last_at, self._unsent_at.get(change.family, tries.last_at))
                facts = change.family, left_s, self._succeeded_at > failed_at
                self._world.verify(guard_checkers.success_ends_back_off, *facts)

    def begins_read(self, process: Process, begun_local: float) -> None:
        """Check that no family waits for one more read that only others need."""
        world, newest = self._world, process.reads[0] if process.reads else None
        if process.role is not Role.RUN or newest is None or not scenario_is_simple(world):
            return
        if process.host.resumed_at > newest.begun_at:
            return  # what was read before that is forgotten
        soon = begun_local - newest.read.ended_at < checkers.FRESH_S - guard_checkers.SLACK_S
        own = process.in_pass and process.reads_of_pass > 0 and process.exchange.failed_at < newest.ended_at
        if not (soon and own and self._has_a_slot()):
            return
        basis = Basis.of(process, world.scenario.families[0], process.store.known_last())
        waiting = [one for one in sorted(basis.file.families) if self._waits_for_protection(one, basis)]
        doubtful = [one for one in sorted(basis.file.families) if one not in waiting]
        world.verify(guard_checkers.doubt_holds_only_itself, doubtful, waiting)

    def _has_a_slot(self) -> bool:
        """Tell whether the rate limit certainly allows a request now."""
        world, now = self._world, self._world.scheduler.now
        sent = [one for one in world.truth.attempts if one.settled_as != AttemptStatus.NOT_SENT.value]
        counting = [
            one
            for one in sent[-12:]
            if now
            - (one.reserved_at + checkers.LANDS_WITHIN_S if one.arrived_by is None else one.arrived_by)
            < guard_checkers.WINDOW_S + guard_checkers.SLACK_S
        ]
        same_boot = len(world.hosts) == 1 and world.hosts[0].boots == 1
        known = world.scenario.assume_idle or bool(sent)
        return same_boot and known and len(counting) < 2 and self._limited_at is None

    def _live_for_certain(self, family: Family, basis: Basis) -> Setting | None:
        """Return what a read shows that began long enough after all that is known; None: not sure."""
        known, newest = basis.known.get(family), basis.reads[0] if basis.reads else None
        row = newest.read.rows.get(family) if newest is not None else None
        if newest is None or row is None or isinstance(known, Uncertain):
            return None
        if isinstance(known, Confirmed) and newest.read.begun_at < known.at + checkers.SETTLING_S:
            return None
        return row.setting

    def _gone_for_certain(self, family: Family, basis: Basis) -> bool:
        """Tell whether reads that began long enough after the last proof show that no row is left."""
        known, newest = basis.known.get(family), basis.reads[0] if basis.reads else None
        if newest is None or not isinstance(known, Confirmed):
            return False
        own_read = basis.family_reads.get(family)
        settled = newest.read.begun_at >= known.at + checkers.SETTLING_S
        return settled and checkers.is_gone(family, newest.read, own_read)

    def _check_turn(self, process: Process, attempt: Attempt, basis: Basis) -> None:
        """Check that the request is the one to send now."""
        verify, now = self._world.verify, attempt.reserved_at
        if Check.SPACING in CHECKS and self._world.history_lost_at == float("-inf"):
            last = self._sent_since[-1] if self._sent_since else None
            soon = len(self._sent_since) < SPACED_SENDS
            verify(guard_checkers.spaced_after_limited, now, self._limited_at if soon else None, last)
        known, live = basis.known.get(attempt.family), self._live_for_certain(attempt.family, basis)
        is_known = isinstance(known, Confirmed) and live is not None
        if Check.PROTECTION_FIRST in CHECKS and is_known and guard_checkers.looser(live, attempt.setting):
            waiting = [one for one in sorted(basis.file.families) if self._waits_for_protection(one, basis)]
            verify(guard_checkers.protection_goes_first, attempt.family, attempt.setting, waiting)

    def _waits_for_protection(self, family: Family, basis: Basis) -> bool:
        """Tell whether a family must certainly be tightened now, without a known reason to hold it."""
        live = self._live_for_certain(family, basis)
        is_looser = live is not None and guard_checkers.looser(live, basis.file.families[family].setting)
        return not is_looser and self._waits_for_a_slot(family, basis)

    def _waits_for_a_slot(self, family: Family, basis: Basis) -> bool:
        """Tell whether a family must certainly be written now, without a known reason to hold it."""
        known, wanted = basis.known.get(family), basis.file.families[family].setting
        live, truth, extras = (
            self._live_for_certain(family, basis),
            self._world.truth,
            self._world.scenario.extras,
        )
        if live is None or not isinstance(known, Confirmed):
            return False
        newest = max((number for _, number in self.may_be_in_force(family)), default=0)
        if guard_checkers.looser(live, wanted) and (wanted.disabled or newest > basis.file_number):
            return False
        accepted = [one for one, _ in truth.accepted.get(family, ())]
        is_left = not guard_checkers.protects_more(live, wanted) and live not in accepted
        if is_left and self._world.scenario.drift is not DriftPolicy.HEAL:
            return False  # some fields are tighter outside of what was accepted: they stay
        if self._world.scenario.drift is DriftPolicy.WARN and accepted[-1:] == [wanted]:
            return False  # nothing changes, and a difference alone is only reported
        references = (live, known.setting)
        if self._world.scenario.guarded and any(
            guard_checkers.as_good_as_off(one, wanted) for one in references
        ):
            return False
        tried = any(one.family == family and one.setting == wanted for one in truth.attempts)
        frozen = basis.reads[0].read.rows[family].frozen
        held = (
            family in truth.paused_at
            or bool(extras.policies)
            or extras.review is not None
            or extras.narrowed
        )
        is_change = known.setting != wanted or self._world.scenario.drift is DriftPolicy.HEAL
        contested_setting = self._world.scenario.fighter_s is not None
        return live != wanted and is_change and not (tried or frozen or held or contested_setting)

    # -- sending -----------------------------------------------------------------------------------

    def written(self, process: Process, attempt: Attempt | None) -> None:
        """Check and record that the bytes of a request are sent now."""
        if attempt is None:
            return
        now = self._world.scheduler.now
        for check in self._when_written.pop(attempt.number, ()):
            check()
        self._sent_since.append(attempt.reserved_at)
        after_s = now - process.true_time(attempt.reserved_local)
        if Check.WRITTEN_SOON in CHECKS:
            self._world.verify(guard_checkers.written_soon, attempt, after_s)
        facts = attempt, process.host.resumed_at, now
        self._world.verify(guard_checkers.not_written_after_a_suspension, *facts)

    def published(self, version: int) -> None:
        """In a measured history, check that the other families do not wait for the failing one."""
        world = self._world
        if not world.scenario.extras.measured:
            return
        soon = world.scheduler.now + (SEEN_WITHIN_S if version else BEGUN_WITHIN_S)
        world.scheduler.at(soon + guard_checkers.OTHERS_WITHIN_S, self._check_starving, version)
        settings, lasting = world.scenario.versions[version][1], world.scenario.extras.lasting
        assert lasting is not None
        fails_to_loosen = guard_checkers.looser(
            world.scenario.extras.begin[lasting.family] if world.scenario.extras.begin else None,
            settings[lasting.family],
        )
        urgent = [
            family
            for family, setting in settings.items()
            if family != lasting.family
            and (live := world.truth.now_in_force(family)) != setting
            and not guard_checkers.looser(live, setting)
        ]
        if fails_to_loosen and urgent:
            within = guard_checkers.URGENT_WITHIN_S + (len(urgent) - 1) * guard_checkers.SLOT_S
            world.scheduler.at(soon + within, self._check_urgent, version, urgent, within)

    def _check_starving(self, version: int) -> None:
        world = self._world
        lasting, late = world.scenario.extras.lasting, guard_checkers.OTHERS_WITHIN_S
        if world.files.version != version or lasting is None:
            return
        waiting = [
            family
            for family, setting in world.scenario.versions[version][1].items()
            if family != lasting.family and world.truth.now_in_force(family) != setting
        ]
        world.verify(guard_checkers.no_family_starves, late, waiting)

    def _check_urgent(self, version: int, urgent: list[Family], within_s: float) -> None:
        settings = self._world.scenario.versions[version][1]
        reserved = {(attempt.family, attempt.setting) for attempt in self._world.truth.attempts}
        waiting = [family for family in urgent if (family, settings[family]) not in reserved]
        self._world.verify(guard_checkers.urgent_does_not_wait, within_s, waiting)

    # -- verdicts --------------------------------------------------------------------------------

    def settled(
        self, process: Process, status: AttemptStatus, known: Mapping[Family, Known], *, limited: bool
    ) -> None:
        """Check and record a verdict."""
        attempt, proven = self.unsettled[process.name], status is AttemptStatus.APPLIED
        self.recorded(process, attempt, status, known, proven=proven, limited=limited)

    def judged(self, process: Process, *, definite: bool, tried: bool, code: str) -> None:
        """Record the verdict that a process is about to store, and what it does not count."""
        attempt, now = self.unsettled.get(process.name), self._world.scheduler.now
        if attempt is not None and definite:
            attempt.arrived_by = now
        if attempt is not None and not tried and attempt.family in self._before:
            before = self._before.pop(attempt.family)
            self._tries.pop(attempt.family, None)
            if before is not None:
                self._tries[attempt.family] = before
        if code == CLOCK_CODE:
            process.clock_refused_at = now
        if code == NOT_SENT_CODE and attempt is not None:
            self._unsent_at[attempt.family] = now
        if code == NOT_SENT_CODE and self._last_sent is attempt:
            self._last_sent = None

    def recorded(
        self,
        process: Process,
        attempt: Attempt,
        status: AttemptStatus,
        known: Mapping[Family, Known],
        *,
        proven: bool,
        limited: bool,
    ) -> None:
        """Check and record a verdict; ``proven``: it also proves that its setting is in force."""
        if status is not AttemptStatus.UNKNOWN or attempt.settled_as != SUPERSEDED:
            attempt.settled_as = status.value  # else a read ended the attempt before its process knew more
        self.check_effect(attempt)
        self._world.truth.take_back_acceptance(attempt)
        if proven:
            self._tries.pop(attempt.family, None)
            self._succeeded_at = max(self._succeeded_at, attempt.reserved_at)
        tries = self._tries.get(attempt.family)
        if limited and tries is not None:
            self._tries[attempt.family] = replace(tries, limited=True)
        if limited:
            self._limited_at, self._sent_since = attempt.reserved_at, []
        self._world.news += 1
        if self.unsettled.get(process.name) is attempt:
            del self.unsettled[process.name]
        self._world.trace(process, "settled attempt %d: %s", attempt.number, status)
        if proven:
            message = attempt.reserved_at, attempt.file_number, process.name
            self._proved(attempt.family, attempt.setting, *message)
        self._check_settled(known, attempt.family)

    def check_effect(self, attempt: Attempt) -> None:
        """Check that an attempt recorded as refused or not sent changed nothing."""
        refused = attempt.settled_as in (AttemptStatus.REJECTED.value, AttemptStatus.NOT_SENT.value)
        log = self._world.truth.in_force.get(attempt.family, ())
        took_effect = any(entry.by is attempt and entry.setting == attempt.setting for entry in log)
        self._world.verify(checkers.refused_changes_nothing, attempt, refused, took_effect)

    def adopted(
        self,
        process: Process,
        settings: Mapping[Family, Setting],
        begun_at: float,
        known: Mapping[Family, Known],
    ) -> None:
        """Check and record an adoption, by a read begun at ``begun_at``."""
        for family, setting in settings.items():
            if Check.ADOPTION in CHECKS:
                overtaken = self._overtaken(process, family, begun_at)
                self._world.verify(guard_checkers.adopts_nothing_overtaken, family, begun_at, overtaken)
            tries = self._tries.get(family)
            if tries is not None and tries.setting == setting:
                del self._tries[family]
            since = begun_at - self._world.scenario.read_delay_s
            self._proved(family, setting, since, process.file_number)
            self._check_settled(known, family)

    def accepted_live(self, process: Process, settings: Mapping[Family, Setting]) -> None:
        """Check and record that live became the accepted setting of families."""
        for family, setting in settings.items():
            self._world.truth.accepted_at.setdefault(family, []).append(self._world.scheduler.now)
            self._check_accepted(family, setting, process.asked_policy)
            self._world.truth.accepted.setdefault(family, []).append((setting, None))

    def _check_accepted(self, family: Family, setting: Setting, policy: PolicyState | None) -> None:
        """Check that the accepted setting moves by no more than the policy allows, whatever is live."""
        world = self._world
        before = [one for one, _ in world.truth.accepted.get(family, ())]
        if not before or world.history_lost_at > float("-inf") or not world.scenario.lock_works:
            return
        facts = family, before[-1], setting
        if policy is not None and policy.unreadable:
            world.verify(guard_checkers.accepts_nothing_looser, *facts)
        elif policy is not None:
            world.verify(
                guard_checkers.factor_within_limit, family, setting, before[-1:], policy.max_factor
            )

    def _overtaken(self, process: Process, family: Family, begun_at: float) -> list[float]:
        """Return when other processes reserved something for a family since a read of it began."""
        return [
            attempt.reserved_at
            for attempt in self._world.truth.open_by_family.get(family, ())
            if attempt.process != process.name and attempt.reserved_at > begun_at
        ]

    def attempts_ended(
        self, families: Iterable[Family], begun_at: float, known: Mapping[Family, Known]
    ) -> None:
        """Check and record that a read begun at ``begun_at`` resolved an uncertain attempt."""
        shown_until = begun_at - checkers.SETTLING_S
        for family in families:
            one = known.get(family)
            still = {left.attempt for left in one.unresolved} if isinstance(one, Uncertain) else set()
            for attempt in self._doubts(family):
                if attempt.number not in still:
                    facts = attempt, shown_until, checkers.LANDS_WITHIN_S
                    self._world.verify(guard_checkers.ended_when_over, *facts)
                    attempt.settled_as = SUPERSEDED
            self._check_settled(known, family)
        self._world.news += 1

    def _proved(
        self, family: Family, setting: Setting, since: float, file_number: int, to: str | None = None
    ) -> None:
        self._world.verify(checkers.applied_implies_live, family, setting, since, self._world.truth)
        self._world.news += 1
        proof = Proof(setting, since, self._world.scheduler.now, file_number, to)
        self._world.truth.proofs[family] = proof

    def _check_settled(self, known: Mapping[Family, Known], family: Family) -> None:
        if self._world.scenario.lock_works:
            flights = [
                attempt
                for attempt in self._world.truth.open_by_family.get(family, ())
                if self._world.network.may_take_effect(attempt)
            ]
            self._world.verify(checkers.settled_stays_settled, family, known.get(family), flights)

    # -- recorded state, and reports -------------------------------------------------------------

    def check_record(self, account: str, known: Mapping[Family, Known]) -> None:
        """Check what the store reports for an account against what it was given."""
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
        """Check what a plan reports as in sync."""
        newest = process.reads[0] if process.reads else None
        delay_s, truth = self._world.scenario.read_delay_s, self._world.truth
        for family in plan.unchanged if self._world.scenario.lock_works else ():
            wanted = process.message.families.get(family)
            if wanted is not None:
                meanwhile = truth.changed_by_another(process.name, family, process.known_at)
                facts = (family, wanted.setting, truth, newest, delay_s, meanwhile)
                if not self._may_be_left_out(family, wanted.setting):
                    self._world.verify(checkers.in_sync_is_true, *facts)
                self._check_overtaken(process, family)
        if self._world.listening:
            self.spoken(process, repr(plan))

    def _may_be_left_out(self, family: Family, setting: Setting) -> bool:
        """Tell whether a list may omit the row of a disabled family: such a family has no own read."""
        extras = self._world.scenario.extras
        hides = ListFault.MISSING_ROW in extras.list_faults and extras.list_family == family
        return hides and setting.disabled

    def _check_overtaken(self, process: Process, family: Family) -> None:
        """Check that a family in sync rests on a read begun after what others were acknowledged."""
        proof, newest = self._world.truth.proofs.get(family), process.reads[0] if process.reads else None
        if proof is None or newest is None or self._world.history_lost_at > float("-inf"):
            return
        by_another = proof.acknowledged_to not in (None, process.name)
        if by_another and proof.recorded_at < process.known_at < float("inf"):
            facts = family, newest.begun_at, proof.recorded_at
            self._world.verify(checkers.rests_on_a_later_read, *facts)

    def on_event(self, process: Process, event: Event) -> None:
        """Count how often one life of ``run`` heals a family, until it gives up; record rejections."""
        match event:
            case SettingRejected(family, setting):
                self._world.truth.rejected.add((family, setting))
            case RequestSettled(status=AttemptStatus.APPLIED, reason=Reason.DRIFTED):
                what = event.family, event.setting
                process.put_back[what] = process.put_back.get(what, 0) + 1
                if process.role is Role.RUN:
                    self._world.verify(checkers.no_endless_contested, event.family, process.put_back[what])
            case HealBreakerTripped():
                self._world.verify(checkers.no_early_end, process.put_back, event.family, event.setting)
                process.put_back.pop((event.family, event.setting), None)
            case _:
                pass

    def spoken(self, process: Process, text: str) -> None:
        """Check a text that is shown to people or written to logs."""
        self._world.verify(checkers.no_secret, text, self._world.secrets)

    def check_state(self) -> None:
        """Check that the state contains no secret, reported or not."""
        image = self._world.keeping.image()  # everything on the disk, reported or not
        self._world.verify(checkers.no_secret, image.decode("latin-1"), self._world.secrets)


def scenario_is_simple(world: World) -> bool:
    """Tell whether the state is one file with a lock that works: its records are then certain."""
    scenario = world.scenario
    return scenario.database is None and scenario.extras.file is None and scenario.lock_works


def _boot(process: Process) -> tuple[str, int]:
    return process.host.name, process.boot
