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

from reconciler.core.evidence import Reads
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
from reconciler.core.plan import DriftPolicy, Rules
from reconciler.core.policy import Allow, Kind
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
    """What the reads showed, and how: ``how`` is one of HOWS, ``before`` what the read before showed."""

    how: str
    now: str | None = MISSING
    before: str | None = MISSING


HOWS = {
    "none": "live is not read in this pass",
    "too-old": "the only read began no later than the last proof or attempt",
    "overtaken": "somebody else's proof was first seen after the only read began",
    "calm": "one read, begun more than 5 s after the proof",
    "early": "one read, begun within 5 s after the proof",
    "early-twice": "two reads within 5 s after the proof, both counting",
    "calm-twice": "two reads more than 5 s after the proof",
    "early-and-too-old": "a read within 5 s after the proof; the one before it does not count",
}


UNREAD = ("none", "too-old", "overtaken")


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
    """What the contract wants: ``action`` is nothing, adopt, await, set or hold."""

    action: str
    reason: str | None = None
    before: str | None = None
    direction: str | None = None
    because: str | None = None
    doubtful: bool = False


# ---- the oracle: from words to the answer ------------------------------------------------------


def proven(record: Record, sight: Sight) -> str:
    """Return what the reads prove: unread, doubt, missing, or the name of a setting."""
    if sight.how in UNREAD:
        return "unread"
    shown = sight.now.rstrip("*") if sight.now else "missing"
    shown_before = sight.before.rstrip("*") if sight.before else "missing"
    two_agree = sight.how == "calm-twice" and shown == shown_before
    settled = sight.how in ("calm", "calm-twice")
    if record.proof is None:
        return shown
    if shown == "missing":
        return shown if two_agree or record.proof == "D" else "doubt"
    return shown if settled or shown == record.proof else "doubt"


def in_force(record: Record, seen: str) -> str | None:
    """Return live where it was read, else last applied; a missing row after disabled is disabled."""
    if seen in ("unread", "doubt"):
        return record.proof
    if seen == "missing":
        return "D" if record.proof == "D" else None
    return seen


def expected(case: Situation) -> Answer:
    """Return what the contract wants done in this situation."""
    seen = proven(case.record, case.sight)
    before = in_force(case.record, seen)
    decide = _uncertain if case.record.attempts else _certain
    action, reason = decide(case, seen, before)
    doubtful = seen == "doubt" or case.sight.how == "overtaken"
    if action != "set":
        shown_before = {"nothing": None, "adopt": case.wanted, "await": before}[action]
        return Answer(action, reason, shown_before, doubtful=doubtful)
    because = _hold(case, before, reason)
    way = WAY.get((before, case.wanted))
    # Protection the record calls for goes out at once. Only switching off waits for the doubt to
    # end, and what may be as desired already.
    as_desired = seen == "doubt" and (case.sight.now or "").rstrip("*") == case.wanted
    doubtful = doubtful and (because is not None or case.wanted == "D" or as_desired)
    return Answer("hold" if because else "set", reason, before, way, because, doubtful)


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


def _hold(case: Situation, before: str | None, reason: str | None) -> str | None:
    might_be_on = {before}
    if case.record.attempts:
        might_be_on |= {case.record.proof, *(attempt.value for attempt in case.record.attempts)}
    frozen = case.sight.how not in UNREAD and (case.sight.now or "").endswith("*")
    became = "disable" if before is None else WAY.get((case.wanted, before))
    left_alone = {
        DriftPolicy.HEAL: set[str](),
        DriftPolicy.HEAL_LOOSENED: {"tighten", "enable"},
        DriftPolicy.WARN: {"tighten", "enable", "loosen", "mixed", "disable"},
    }[case.drift]
    holds = {
        "paused": case.paused,
        "drift-policy": reason == "drifted" and became in left_alone,
        "guard": case.wanted == "D" and bool(might_be_on & set("ABC")) and not case.disable_allowed,
        "frozen": frozen,
        "parked": case.parked == case.wanted,
    }
    return next((name for name, holds_now in holds.items() if holds_now), None)


# ---- the same situation in the core's values ---------------------------------------------------

PROOF_AT = 900.0
PREVIOUS_READ_AT = {"early-twice": 902.5, "calm-twice": 949.0}
READ_AT = {
    "calm": 950.0,
    "early": 903.0,
    "early-and-too-old": 903.0,
    "early-twice": 903.0,
    "calm-twice": 950.0,
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
    if sight.how == "early-and-too-old":
        return Reads(latest, _read(too_old, sight.before))
    if sight.how in PREVIOUS_READ_AT:
        return Reads(latest, _read(PREVIOUS_READ_AT[sight.how], sight.before))
    return Reads(latest)


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
        parked={family: SETTINGS[parked]} if parked else {},
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
        yield Sight("early-twice", shown, shown)
        yield Sight("calm-twice", shown, shown)
        if record != Record(None):
            yield Sight("too-old", shown)
            yield Sight("early-and-too-old", shown, shown)
    for shown, before in ((MISSING, "A"), ("B", MISSING), ("A", "B"), ("B", "A*"), ("B", "B*"), ("C", "D")):
        yield Sight("early-twice", shown, before)
        yield Sight("calm-twice", shown, before)


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
    few += [Sight("calm-twice", shown, shown) for shown in SHOWN]
    parked = dict.fromkeys((None, "A", wanted))
    rules = list(product(DriftPolicy, (False, True), (False, True), parked))
    for record in records():
        if len(record.attempts) > 1:
            continue
        seen = few + (too_old if record != Record(None) else [])
        seen += overtaken if record == Record(record.proof) != Record(None) else []
        for sight, (drift, paused, allowed, parked) in product(seen, rules):
            yield Situation(wanted, record, sight, drift, paused, allowed, parked)
