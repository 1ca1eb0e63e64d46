"""The small world of one family, and what the contract wants done in each of its situations.

A situation is written in words, not in the core's values: what is desired, accepted and on record, and
what the reads showed. ``expected`` answers from the words alone, following the contract, rules 2 and 3 of
the architecture, and the rules of issue 12 about accepted settings and targets. It shares no code with the
planner and knows nothing of instants.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations_with_replacement, permutations, product

from reconciler.core.drift_resolution import DriftPolicy
from reconciler.core.live_evidence import MissingRow, Reads
from reconciler.core.model import (
    Acceptance,
    Confirmed,
    Family,
    Known,
    LiveRead,
    LiveRow,
    NeverApplied,
    OpenAttempt,
    Uncertain,
)
from reconciler.core.plan import PlanConstraints
from reconciler.core.policy import Override, RefusalKind
from reconciler.core.retry import Rejection
from tests.unit.builders import BTC, setting

SETTINGS = {
    "A": setting("5000/2000/100"),
    "B": setting("5000/2000/400"),
    "D": setting("0/2000/100"),
    "C": setting("9000/2000/400"),
}
"""By name: B is looser than A, D is disabled, C is mixed against A and tighter than B."""

Value = tuple[int, int, int]
"""A setting as the oracle sees it: window, freeze and quantity. No freeze of this world is until reset."""

VALUES: dict[str, Value] = {
    "A": (5000, 2000, 100),
    "B": (5000, 2000, 400),
    "D": (0, 2000, 100),
    "C": (9000, 2000, 400),
}

DESIRED = ("A", "B", "D")
MISSING = None
SHOWN = (MISSING, "A", "B", "C", "D", "A*", "B*")
"""What one read can show of the family; a star marks a frozen row."""


@dataclass(frozen=True)
class Attempt:
    """One unresolved attempt: its value, and whether all of its L is shown by the last read.

    Where none is read, whether its L has passed.
    """

    value: str
    spent: bool


@dataclass(frozen=True)
class Record:
    """What is on record: the last proof (None: never), and attempts nobody knows the end of.

    ``acked_after`` tells that the proof is an acknowledged write sent after all of the attempts.
    """

    proof: str | None
    attempts: tuple[Attempt, ...] = ()
    acked_after: bool = False
    accepted: tuple[str, ...] | None = None
    """The accepted settings, the second one since the first open attempt; None: only what the proof and the
    attempts imply is on record."""


@dataclass(frozen=True)
class Sight:
    """What the reads showed, and how: ``how`` is one of HOWS."""

    how: str
    now: str | None = MISSING


HOWS = {
    "none": "live is not read in this pass",
    "too-old": "the only read began no later than the last proof or attempt",
    "overtaken": "somebody else's proof was first seen after the only read began",
    "calm": "one read, begun more than 5 s after the proof",
    "early": "one read, begun within 5 s after the proof",
    "gone": "a calm read left the family out, and a read of it alone showed no row",
    "gone-early": "the same within 5 s after the proof",
    "asked-before": "a calm read left it out; the read of it alone began before the last proof or attempt",
    "asked-in-vain": "a calm read left it out, and the read of it alone failed",
    "unconfirmed": "three lists over 5 s left it out, and every read of it alone failed",
    "unconfirmed-since": "the same, and the first of the lists began before the last proof",
}


UNREAD = ("none", "too-old", "overtaken")
UNCONFIRMED = ("unconfirmed", "unconfirmed-since")


@dataclass(frozen=True)
class Situation:
    """Everything the planner is told of one family."""

    wanted: str
    record: Record
    sight: Sight
    drift: DriftPolicy = DriftPolicy.HEAL
    paused: bool = False
    disable_allowed: bool = False
    rejected_setting: str | None = None
    controller: bool = False


@dataclass(frozen=True)
class Answer:
    """What the contract wants: ``action`` is nothing, doubtful, adopt, await, set or hold.

    ``after`` is what is sent or recorded; of a hold without a request what the file says.
    """

    action: str
    reason: str | None = None
    before: Value | None = None
    after: Value | None = None
    direction: str | None = None
    because: str | None = None


# ---- the oracle: from words to the answer ------------------------------------------------------


PROTECTIVE = ("enable", "tighten")


def way(before: Value | None, after: Value) -> str | None:
    """Return which way a change goes, in words."""
    if before == after:
        return None
    off, on = before is None or before[0] == 0, after[0] > 0
    if off != (not on) or before is None:
        return "enable" if on else "disable"
    gains, losses = _fields_tighter(after, before), _fields_tighter(before, after)
    if gains and losses:
        return "mixed"
    return "tighten" if gains else "loosen"


def _fields_tighter(one: Value, other: Value) -> set[int]:
    """Return in which fields ``one`` is tighter."""
    signs = (1, 1, -1)  # a longer window and freeze, a smaller quantity
    return {place for place in range(3) if signs[place] * (one[place] - other[place]) > 0}


def _mixed_of(wanted: Value, live: Value, of_live: set[int]) -> Value:
    window, freeze, quantity = (live[place] if place in of_live else wanted[place] for place in range(3))
    return window, freeze, quantity


def proven(record: Record, sight: Sight) -> str:
    """Return what the reads prove: unread, doubt, unconfirmed, missing, or the name of a setting."""
    if sight.how in UNREAD:
        return "unread"
    shown = sight.now.rstrip("*") if sight.now else "missing"
    if record.proof is None:
        return shown
    if shown == "missing" and record.proof != "D":
        return "missing" if sight.how == "gone" else "unconfirmed" if sight.how in UNCONFIRMED else "doubt"
    calm = sight.how not in ("early", "gone-early")
    return shown if shown == "missing" or calm or shown == record.proof else "doubt"


@dataclass(frozen=True)
class Facts:
    """What follows from a situation before anything is decided."""

    case: Situation
    seen: str
    wanted: Value
    live: Value | None
    """Live where a read counts, else what was proven last; a missing row after disabled is disabled."""
    record: tuple[Value, ...]
    """What the open attempts carry."""
    accepted: Value | None
    ours: tuple[Value, ...]
    """The accepted settings that may be live without anyone else having set them."""

    @property
    def was_read(self) -> bool:
        return self.seen not in ("unread", "doubt", "unconfirmed")

    @property
    def proof(self) -> Value | None:
        return VALUES[self.case.record.proof] if self.case.record.proof else None

    @property
    def is_change(self) -> bool:
        return self.accepted != self.wanted

    @property
    def unproven(self) -> bool:
        """Whether nothing proves that a request of the accepted setting took effect: it is tried again."""
        record = self.case.record
        if record.accepted is None:
            return False
        return record.proof is None or (not record.acked_after and len(record.accepted) > 1)

    @property
    def superseded(self) -> bool:
        """Whether no attempt can land any more, and live shows what none of them carries."""
        attempts = self.case.record.attempts
        over = bool(attempts) and all(attempt.spent for attempt in attempts)
        off = any(value[0] == 0 for value in self.record)  # disabled may show no row
        carried = self.live in self.record or (self.live is None and off)
        return self.was_read and over and self.live != self.wanted and not carried

    @property
    def uncertain(self) -> bool:
        return bool(self.case.record.attempts) and not self.superseded

    @property
    def last_sent(self) -> Value | None:
        """What the newest request carries, answered or not."""
        return self.proof if self.case.record.acked_after or not self.record else self.record[-1]

    @property
    def basis(self) -> Value | None:
        """What the target starts from: live, or the newest request until a read counts."""
        return self.live if self.was_read else self.last_sent


def facts(case: Situation) -> Facts:
    """Return what follows from the record and the reads."""
    record, seen = case.record, proven(case.record, case.sight)
    live: str | None = seen
    if seen in ("unread", "doubt", "unconfirmed"):
        live = record.proof
    elif seen == "missing":
        live = "D" if record.proof == "D" else None
    attempts = [attempt.value for attempt in record.attempts]
    if record.accepted is not None:
        names = list(record.accepted)
        # The first counts until something proves that a request of the second one took effect.
        ours = names if not record.acked_after else names[-1:]
    else:
        # What was sent or proven must have been accepted, and any of it may take effect yet.
        proof = [record.proof] if record.proof else []
        ours = names = attempts + proof if record.acked_after else proof + attempts
    return Facts(
        case,
        seen,
        VALUES[case.wanted],
        VALUES[live] if live else None,
        tuple(VALUES[value] for value in attempts),
        VALUES[names[-1]] if names else None,
        tuple(VALUES[name] for name in ours),
    )


def expected(case: Situation) -> Answer:
    """Return what the contract wants done in this situation."""
    about = facts(case)
    refused = _change_refused(about)
    aim = about.accepted if refused else about.wanted
    if refused and (not case.controller or aim is None):
        # An apply sends nothing at all; nothing is accepted that could be restored.
        return _while_doubtful(about, _report(about, "guard"))
    assert aim is not None
    target = _target(about, aim)
    stays = target is not None and _return_refused(about, target)
    if stays:
        assert target is not None
        assert about.basis is not None
        assert about.accepted is not None
        # What live has tighter than accepted stays; the other fields are sent.
        tighter = _fields_tighter(about.basis, target) & _fields_tighter(about.basis, about.accepted)
        target = about.basis if target[0] == 0 else _mixed_of(target, about.basis, tighter)
    why = "guard" if refused or stays else "drift-policy"
    if target is None:
        return _while_doubtful(about, _report(about, why))
    settles = target == about.wanted and not refused
    return _while_doubtful(about, _answer(about, target, why, settles=settles))


def _change_refused(about: Facts) -> bool:
    """Tell whether the guard refuses what the file changes: here it can only be that it disables."""
    case = about.case
    if case.wanted != "D" or case.disable_allowed or not about.is_change:
        return False
    if case.paused and about.live != about.wanted:
        return False  # a pause stops the request, and no adoption
    if about.accepted is None and (about.live == about.wanted or about.seen == "doubt"):
        return False  # it is recorded as it is, or another read comes first
    if _was_sent_since(about):
        return False
    known = (about.live, about.accepted, about.proof, *about.record)
    is_known = any(value is not None for value in known)
    return (not is_known and about.seen == "unread") or any(value and value[0] > 0 for value in known)


def _was_sent_since(about: Facts) -> bool:
    """Tell whether a request, newer than what is accepted, made live as desired: it is only recorded."""
    record = about.case.record
    if record.accepted is None or len(record.accepted) > 1 or about.wanted not in about.record:
        return False
    if about.live != about.wanted:
        return False
    return _uncertain(about, about.wanted)[0] in ("adopt", "await")


def _target(about: Facts, aim: Value) -> Value | None:
    """Return what is to be in force; None: nothing is sent because of a difference alone."""
    case, live = about.case, about.basis
    is_change = about.is_change and aim == about.wanted
    if case.drift is DriftPolicy.HEAL:
        return aim
    reports = case.drift is DriftPolicy.WARN and not (is_change or (aim == about.wanted and about.unproven))
    if about.seen == "unconfirmed" and reports:
        return None
    if live == aim:
        return aim
    if live is None or (live[0] == 0 and live not in about.ours):
        return None if reports else aim
    comparable = [one for one in about.ours if (one[0] == 0) == (live[0] == 0)]
    as_accepted = {place for place in range(3) if live[place] in [one[place] for one in comparable]}
    if reports and all(live[place] == aim[place] for place in as_accepted):
        return None
    if aim[0] == 0 and live[0] > 0:
        return aim if 0 in as_accepted else live  # the other fields of what is off protect nothing
    return _mixed_of(aim, live, _fields_tighter(live, aim) - as_accepted)


def _return_refused(about: Facts, target: Value) -> bool:
    """Tell whether the guard refuses to undo what live has tighter than accepted: here, that it is on."""
    live, accepted = about.basis, about.accepted
    if about.case.disable_allowed or about.case.paused or live is None or accepted is None:
        return False
    is_tighter = live[0] > 0 and bool(_fields_tighter(live, accepted))
    return is_tighter and target[0] == 0


def _report(about: Facts, because: str) -> Answer:
    """Return the answer of a family that is left as it is, though it is not as the file says."""
    before = about.accepted if about.live == about.wanted else about.live
    reason = "changed" if about.is_change else "drifted"
    if about.accepted is None and about.live is None and about.case.record.proof is None:
        reason = "new"
    if about.uncertain or about.seen == "unconfirmed":
        reason = "uncertain"
    because = "paused" if about.case.paused else because
    return Answer("hold", reason, before, about.wanted, way(before, about.wanted), because)


def _answer(about: Facts, target: Value, why: str, *, settles: bool) -> Answer:
    """Return what is done so that ``target`` is in force; ``settles``: it is desired, and may be so."""
    if about.seen == "unconfirmed":
        return _unconfirmed(about, target)
    before = about.live
    action, reason = (_uncertain if about.uncertain else _certain)(about, target)
    is_change = about.is_change and settles
    if action == "nothing" and is_change:
        action, reason = ("adopt", "changed") if about.was_read else ("set", "uncertain")
    if action == "nothing":
        return Answer("nothing") if settles else _report(about, why)
    if not settles and (action == "await" or (action == "adopt" and not about.uncertain)):
        return _report(about, why)
    if action == "set" and about.was_read and target == about.live != about.wanted:
        return _report(about, why)  # what is left as live has it is not sent again
    if action == "await":
        return Answer("await", reason, before, target)
    if action == "adopt":
        was = about.accepted if is_change and about.accepted else target
        return Answer("adopt", reason, was, target, way(was, target))
    because = _hold(about, target)
    if reason in ("changed", "drifted"):
        # While the change is refused, what is sent restores what was accepted.
        reason = "changed" if about.is_change and not _change_refused(about) else "drifted"
    return Answer("hold" if because else "set", reason, before, target, way(before, target), because)


def _while_doubtful(about: Facts, answer: Answer) -> Answer:
    """Return the answer if it need not wait for a doubt to end: then it only adds protection."""
    if about.seen != "doubt" and about.case.sight.how != "overtaken":
        return answer
    case, target = about.case, answer.after
    if answer.action != "set":
        return Answer("doubtful")
    if (
        about.seen == "doubt"
        and case.sight.now is None
        and case.sight.how in ("calm", "early", "asked-before")
    ):
        return Answer("doubtful")  # it is read alone first
    may_be: set[Value | None] = {about.proof}
    if any(value != target for value in about.record):
        may_be.discard(target)
    if about.seen == "doubt" and case.sight.now is not None:
        may_be.add(VALUES[case.sight.now.rstrip("*")])
    if about.seen == "doubt" and case.sight.how == "gone-early":
        may_be.add(None)
    assert target is not None
    at_once = bool(may_be) and all(way(one, target) in PROTECTIVE for one in may_be)
    return answer if at_once else Answer("doubtful")


def _unconfirmed(about: Facts, target: Value) -> Answer:
    """Whether the row is gone is unknown: only a setting no looser than the last seen is sent, once."""
    last = about.proof
    sent_since = last == target and about.case.sight.how == "unconfirmed-since"
    if sent_since or (last != target and way(last, target) not in PROTECTIVE):
        return Answer("hold", "uncertain", last, about.wanted, way(last, about.wanted), "unreadable")
    before = None if last == target else last
    because = _hold(about, target)
    return Answer("hold" if because else "set", "uncertain", before, target, way(before, target), because)


def _certain(about: Facts, target: Value) -> tuple[str, str | None]:
    if about.live == target:
        return ("nothing", None) if about.proof == target else ("adopt", "changed")
    return "set", "new" if about.proof is None and about.live is None else "changed"


def _uncertain(about: Facts, target: Value) -> tuple[str, str | None]:
    attempts = about.case.record.attempts
    others = [attempt for attempt in attempts if VALUES[attempt.value] != target]
    all_spent = all(attempt.spent for attempt in others)
    shows_target = about.was_read and about.live == target
    if shows_target and all_spent:
        return "adopt", "uncertain"
    if not others:
        return "set", "uncertain"
    if not (about.case.record.acked_after and about.proof == target):
        return "set", "uncertain"
    if about.was_read and not shows_target:
        return "set", "uncertain"
    if about.case.sight.how == "none" and all_spent:
        return "set", "uncertain"
    return "await", "uncertain"


def _hold(about: Facts, target: Value) -> str | None:
    case = about.case
    holds = {
        "paused": case.paused,
        "frozen": case.sight.how not in UNREAD and (case.sight.now or "").endswith("*"),
        "rejected": case.rejected_setting is not None and VALUES[case.rejected_setting] == target,
    }
    return next((name for name, holds_now in holds.items() if holds_now), None)


# ---- the same situation in the core's values ---------------------------------------------------

PROOF_AT = 900.0
READ_AT = {
    "calm": 950.0,
    "gone": 950.0,
    "asked-before": 950.0,
    "asked-in-vain": 950.0,
    "unconfirmed": 950.0,
    "unconfirmed-since": 950.0,
    "early": 903.0,
    "gone-early": 903.0,
}
SPENT_AT, UNSPENT_AT = 897.9, 2000.0


def reserved_at(record: Record, place: int) -> float:
    """Return when an attempt was reserved: after the proof, or before a proof that came later."""
    return (890.0 if record.acked_after else 901.0) + place


@cache
def known_of(record: Record) -> Known:
    """Return the record as a store would give it."""
    proof: Confirmed | None = None
    if record.proof is not None:
        proof = Confirmed(SETTINGS[record.proof], PROOF_AT, 9 if record.acked_after else 1)
    if not record.attempts:
        return proof or NeverApplied()
    return Uncertain(
        proof,
        tuple(
            OpenAttempt(
                5 + place,
                SETTINGS[attempt.value],
                reserved_at(record, place),
                SPENT_AT if attempt.spent else UNSPENT_AT,
            )
            for place, attempt in enumerate(record.attempts)
        ),
    )


@cache
def reads_of(record: Record, sight: Sight) -> Reads:
    """Return the reads of a pass that saw ``sight``."""
    if sight.how == "none":
        return Reads()
    too_old = last_act(record)
    latest = _read(READ_AT.get(sight.how, too_old), sight.now)
    if sight.how == "overtaken":
        return Reads(latest, overtaken=frozenset({BTC}))
    missing = {
        "gone": MissingRow(950.0, 1, gone_at=950.5, single_read_at=950.5),
        "gone-early": MissingRow(903.0, 1, gone_at=903.5, single_read_at=903.5),
        "asked-before": MissingRow(880.0, 2, gone_at=too_old, single_read_at=too_old),
        "asked-in-vain": MissingRow(949.0, 2, single_read_at=950.5),
        "unconfirmed": MissingRow(945.0, 3, single_read_at=950.5),
        "unconfirmed-since": MissingRow(899.0, 30, single_read_at=950.5),
    }.get(sight.how)
    return Reads(latest, missing={} if missing is None else {BTC: missing})


def last_act(record: Record) -> float:
    """Return the instant of the last proof or attempt: a read begun then does not count yet."""
    acts = [reserved_at(record, place) for place in range(len(record.attempts))]
    return max(acts + ([] if record.proof is None else [PROOF_AT]), default=PROOF_AT)


def rules_of(case: Situation, family: Family = BTC) -> PlanConstraints:
    """Return the rules of a situation, for one family."""
    of = case.drift, case.paused, case.disable_allowed, case.rejected_setting, case.controller
    return _rules(*of, case.record.accepted, family)


@cache
def _rules(
    drift: DriftPolicy,
    paused: bool,
    allowed: bool,
    rejected_setting: str | None,
    controller: bool,
    accepted: tuple[str, ...] | None,
    family: Family,
) -> PlanConstraints:
    numbers = (1, 5)  # of the proof, unless that came later, and of the first open attempt
    history = tuple(
        Acceptance(SETTINGS[name], number) for name, number in zip(accepted or (), numbers, strict=False)
    )
    return PlanConstraints(
        drift=drift,
        controller=controller,
        accepted={family: history},
        rejected={family: Rejection(SETTINGS[rejected_setting], retry_at=float("inf"))}
        if rejected_setting
        else {},
        paused=frozenset({family} if paused else ()),
        allowed=frozenset({Override(RefusalKind.DISABLE, family)} if allowed else ()),
    )


def _read(begun_at: float, shown: str | None) -> LiveRead:
    if shown is None:
        return LiveRead(begun_at, {})
    return LiveRead(begun_at, {BTC: LiveRow(SETTINGS[shown.rstrip("*")], frozen=shown.endswith("*"))})


# ---- the whole world ---------------------------------------------------------------------------


def records() -> Iterator[Record]:
    """Yield every record: never, three proofs, and each with every one or two unresolved attempts."""
    attempts = [Attempt(value, spent) for value, spent in product(DESIRED, (True, False))]
    doubts = [(one,) for one in attempts] + list(combinations_with_replacement(attempts, 2))
    for proof in (None, *DESIRED):
        yield Record(proof)
        for doubt in doubts:
            yield Record(proof, doubt)
            if proof is not None:
                yield Record(proof, doubt, acked_after=True)


def sights(record: Record) -> Iterator[Sight]:
    """Yield every way live can have been read, as far as it makes a difference for ``record``."""
    yield Sight("none")
    for shown in SHOWN:
        yield Sight("calm", shown)
        if record == Record(record.proof) != Record(None):
            yield Sight("overtaken", shown)
        yield Sight("early", shown)
        if record != Record(None):
            yield Sight("too-old", shown)
    if record.proof is not None:
        for how in ("gone", "gone-early", "asked-before", "asked-in-vain", *UNCONFIRMED):
            yield Sight(how, MISSING)


def situations(wanted: str) -> Iterator[Situation]:
    """Yield every record seen in every way, under rules that hold nothing back."""
    for record in records():
        for sight in sights(record):
            yield Situation(wanted, record, sight)


ACCEPTED = [*((name,) for name in DESIRED), *permutations(DESIRED, 2)]
"""Accepted settings that differ from what the proof and the attempts imply.

One alone: what was sent since was definitely rejected, or is a target that heals parts of live, or was set
by hand. Two: the second was reserved with the first open attempt, or its request was answered since.
"""

RUNS = [(DriftPolicy.HEAL_LOOSENED, True), (DriftPolicy.WARN, True), (DriftPolicy.HEAL, True)]
APPLIES = [(DriftPolicy.HEAL, False)]


def allowances(wanted: str) -> tuple[bool, ...]:
    """Return whether disabling is allowed, as far as it makes a difference for what is desired."""
    return (False, True) if wanted == "D" else (False,)


def accepted_situations(wanted: str) -> Iterator[Situation]:
    """Yield records of at most one attempt with every accepted setting, under ``run`` and ``apply``."""
    few = [Sight("none"), Sight("early", "B"), Sight("calm"), Sight("gone"), Sight("unconfirmed")]
    few += [Sight("calm", shown) for shown in SHOWN if shown]
    for record in records():
        if len(record.attempts) > 1:
            continue
        seen = [sight for sight in few if record.proof or sight.how not in ("gone", "unconfirmed")]
        for accepted, sight, mode, allowed in product(ACCEPTED, seen, RUNS + APPLIES, allowances(wanted)):
            drift, controller = mode
            of = replace(record, accepted=accepted)
            yield Situation(wanted, of, sight, drift, disable_allowed=allowed, controller=controller)


def held_situations(wanted: str) -> Iterator[Situation]:
    """Yield every record of at most one attempt, seen in few ways, under every combination of rules."""
    few = [Sight("none"), Sight("early", "B")]
    too_old = [Sight("too-old", "A*"), Sight("too-old", "B")]
    overtaken = [Sight("overtaken", "A*"), Sight("overtaken", "B")]
    few += [Sight("calm", shown) for shown in SHOWN if shown]
    few += [Sight("calm"), Sight("gone"), Sight("unconfirmed")]
    rejected_setting = dict.fromkeys((None, "A", wanted))
    rules = list(product(RUNS + APPLIES, (False, True), allowances(wanted), rejected_setting))
    for record in records():
        if len(record.attempts) > 1:
            continue
        seen = [sight for sight in few if record.proof or sight.how not in ("gone", "unconfirmed")]
        seen += too_old if record != Record(None) else []
        seen += overtaken if record == Record(record.proof) != Record(None) else []
        for sight, ((drift, controller), paused, allowed, rejected_setting) in product(seen, rules):
            yield Situation(wanted, record, sight, drift, paused, allowed, rejected_setting, controller)
