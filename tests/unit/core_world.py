"""The small world of one family, and what the contract wants done in each of its situations.

A situation is written in words, not in the core's values: what is desired, what is on record, what
the reads showed. ``expected`` answers from the words alone, following the contract and rules 2 and 3
of the architecture; it shares no code with the planner and knows nothing of instants.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import combinations_with_replacement, product

from reconciler.core.evidence import MissingRow, Reads
from reconciler.core.model import (
    Confirmed,
    Family,
    Known,
    LiveRead,
    LiveRow,
    Never,
    Uncertain,
    Unresolved,
)
from reconciler.core.plan import Rules
from reconciler.core.policy import Allow, Kind
from reconciler.core.retry import Rejection
from reconciler.core.target import DriftPolicy
from tests.unit.core_builders import BTC, setting

SETTINGS = {
    "A": setting("5000/2000/100"),
    "B": setting("5000/2000/400"),
    "D": setting("0/2000/100"),
    "C": setting("9000/2000/400"),
}
"""By name: B is looser than A, D is disabled, C is mixed against A and tighter than B."""

WAY: dict[tuple[str | None, str], str] = {
    ("A", "B"): "loosen",
    ("B", "A"): "tighten",
    ("A", "C"): "mixed",
    ("C", "A"): "mixed",
    ("B", "C"): "tighten",
    ("C", "B"): "loosen",
    **{(on, "D"): "disable" for on in "ABC"},
    **{("D", on): "enable" for on in "ABC"},
    **{(None, on): "enable" for on in "ABC"},
    (None, "D"): "disable",
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
    parked: str | None = None


@dataclass(frozen=True)
class Answer:
    """What the contract wants: ``action`` is nothing, doubtful, adopt, await, set or hold."""

    action: str
    reason: str | None = None
    before: str | None = None
    direction: str | None = None
    because: str | None = None


# ---- the oracle: from words to the answer ------------------------------------------------------


PROTECTIVE = ("enable", "tighten")


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


def in_force(record: Record, seen: str) -> str | None:
    """Return live where it was read, else last applied; a missing row after disabled is disabled."""
    if seen in ("unread", "doubt", "unconfirmed"):
        return record.proof
    if seen == "missing":
        return "D" if record.proof == "D" else None
    return seen


def expected(case: Situation) -> Answer:
    """Return what the contract wants done in this situation."""
    seen = proven(case.record, case.sight)
    if seen == "unconfirmed":
        return _unconfirmed(case)
    before = in_force(case.record, seen)
    attempts = bool(case.record.attempts) and not _superseded(case, seen, before)
    action, reason = (_uncertain if attempts else _certain)(case, seen, before)
    because = _hold(case, before, reason, attempts) if action == "set" else None
    if (seen == "doubt" or case.sight.how == "overtaken") and not _at_once(case, seen, action, because):
        return Answer("doubtful")
    if action != "set":
        return Answer(action, reason, {"nothing": None, "adopt": case.wanted, "await": before}[action])
    return Answer("hold" if because else "set", reason, before, WAY.get((before, case.wanted)), because)


def _at_once(case: Situation, seen: str, action: str, because: str | None) -> bool:
    """Tell whether a request need not wait for a doubt to end: it only adds protection."""
    if action != "set" or because not in (None, "guard"):
        return False
    if seen == "doubt" and case.sight.now is None and case.sight.how in ("calm", "early", "asked-before"):
        return False  # it is read alone first
    may_be: set[str | None] = {case.record.proof}
    if any(attempt.value != case.wanted for attempt in case.record.attempts):
        may_be.discard(case.wanted)
    if seen == "doubt" and case.sight.now is not None:
        may_be.add(case.sight.now.rstrip("*"))
    if seen == "doubt" and case.sight.how == "gone-early":
        may_be.add(None)
    return bool(may_be) and all(WAY.get((one, case.wanted)) in PROTECTIVE for one in may_be)


def _unconfirmed(case: Situation) -> Answer:
    """Whether the row is gone is unknown: only a setting no looser than the last seen is sent, once."""
    last = case.record.proof
    way = WAY.get((last, case.wanted))
    sent_since = last == case.wanted and case.sight.how == "unconfirmed-since"
    if sent_since or (last != case.wanted and way not in PROTECTIVE):
        return Answer("hold", "uncertain", last, way, "unreadable")
    before = None if last == case.wanted else last
    because = _hold(case, before, "uncertain", False)
    return Answer("hold" if because else "set", "uncertain", before, way or "enable", because)


def _superseded(case: Situation, seen: str, before: str | None) -> bool:
    """Tell whether no attempt can land any more, and live shows what none of them carries."""
    values = {attempt.value for attempt in case.record.attempts}
    was_read = seen not in ("unread", "doubt")
    over = all(attempt.spent for attempt in case.record.attempts)
    carried = before in values or (before is None and "D" in values)  # disabled may show no row
    return was_read and over and before != case.wanted and not carried


def _certain(case: Situation, seen: str, before: str | None) -> tuple[str, str | None]:
    wanted, applied = case.wanted, case.record.proof
    if before == wanted:
        return ("nothing", None) if applied == wanted else ("adopt", "changed")
    if applied == wanted:
        return "set", "drifted"
    return "set", "new" if applied is None and before is None else "changed"


def _uncertain(case: Situation, seen: str, before: str | None) -> tuple[str, str | None]:
    others = [attempt for attempt in case.record.attempts if attempt.value != case.wanted]
    all_spent = all(attempt.spent for attempt in others)
    was_read = seen not in ("unread", "doubt")
    shows_wanted = was_read and before == case.wanted
    if shows_wanted and all_spent:
        return "adopt", "uncertain"
    if not others:
        return "set", "uncertain"
    if not (case.record.acked_after and case.record.proof == case.wanted):
        return "set", "uncertain"
    if was_read and not shows_wanted:
        return "set", "uncertain"
    if case.sight.how == "none" and all_spent:
        return "set", "uncertain"
    return "await", "uncertain"


def _hold(case: Situation, before: str | None, reason: str | None, attempts: bool) -> str | None:
    might_be_on = {before}
    values = {attempt.value for attempt in case.record.attempts}
    if case.record.attempts:
        might_be_on |= {case.record.proof, *values}
    seen = proven(case.record, case.sight)
    carried = before in {case.wanted, *values} or (before is None and "D" in values)
    third = attempts and seen not in ("unread", "doubt") and not carried
    unconfirmed = seen == "unconfirmed" and not case.record.attempts
    is_drift = reason == "drifted" or ((third or unconfirmed) and case.record.proof == case.wanted)
    frozen = case.sight.how not in UNREAD and (case.sight.now or "").endswith("*")
    became = "disable" if before is None else WAY.get((case.wanted, before))
    left_alone = {
        DriftPolicy.HEAL: set[str](),
        DriftPolicy.HEAL_LOOSENED: {"tighten", "enable"},
        DriftPolicy.WARN: {"tighten", "enable", "loosen", "mixed", "disable"},
    }[case.drift]
    holds = {
        "paused": case.paused,
        "drift-policy": is_drift and became in left_alone,
        "guard": case.wanted == "D" and bool(might_be_on & set("ABC")) and not case.disable_allowed,
        "frozen": frozen,
        "rejected": case.parked == case.wanted,
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
        return proof or Never()
    return Uncertain(
        proof,
        tuple(
            Unresolved(
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
        "gone": MissingRow(950.0, 1, gone_at=950.5, asked_at=950.5),
        "gone-early": MissingRow(903.0, 1, gone_at=903.5, asked_at=903.5),
        "asked-before": MissingRow(880.0, 2, gone_at=too_old, asked_at=too_old),
        "asked-in-vain": MissingRow(949.0, 2, asked_at=950.5),
        "unconfirmed": MissingRow(945.0, 3, asked_at=950.5),
        "unconfirmed-since": MissingRow(899.0, 30, asked_at=950.5),
    }.get(sight.how)
    return Reads(latest, missing={} if missing is None else {BTC: missing})


def last_act(record: Record) -> float:
    """Return the instant of the last proof or attempt: a read begun then does not count yet."""
    acts = [reserved_at(record, place) for place in range(len(record.attempts))]
    return max(acts + ([] if record.proof is None else [PROOF_AT]), default=PROOF_AT)


def rules_of(case: Situation, family: Family = BTC) -> Rules:
    """Return the rules of a situation, for one family."""
    return _rules(case.drift, case.paused, case.disable_allowed, case.parked, family)


@cache
def _rules(drift: DriftPolicy, paused: bool, allowed: bool, parked: str | None, family: Family) -> Rules:
    return Rules(
        drift=drift,
        rejected={family: Rejection(SETTINGS[parked], retry_at=float("inf"))} if parked else {},
        paused=frozenset({family} if paused else ()),
        allowed=frozenset({Allow(Kind.DISABLE, family)} if allowed else ()),
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


def held_situations(wanted: str) -> Iterator[Situation]:
    """Yield every record of at most one attempt, seen in few ways, under every combination of rules."""
    few = [Sight("none"), Sight("early", "B")]
    too_old = [Sight("too-old", "A*"), Sight("too-old", "B")]
    overtaken = [Sight("overtaken", "A*"), Sight("overtaken", "B")]
    few += [Sight("calm", shown) for shown in SHOWN if shown]
    few += [Sight("calm"), Sight("gone"), Sight("unconfirmed")]
    parked = dict.fromkeys((None, "A", wanted))
    rules = list(product(DriftPolicy, (False, True), (False, True), parked))
    for record in records():
        if len(record.attempts) > 1:
            continue
        seen = [sight for sight in few if record.proof or sight.how not in ("gone", "unconfirmed")]
        seen += too_old if record != Record(None) else []
        seen += overtaken if record == Record(record.proof) != Record(None) else []
        for sight, (drift, paused, allowed, parked) in product(seen, rules):
            yield Situation(wanted, record, sight, drift, paused, allowed, parked)
