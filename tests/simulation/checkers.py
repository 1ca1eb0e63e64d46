"""Invariants of every moment of every history, one small function each.

A checker returns None, or one sentence that describes the error. The checkers know the documented
promises and the truth of the world. They share no rule with the production code: its constants are
restated here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from reconciler.core.drift_resolution import DriftPolicy
from reconciler.core.model import (
    Confirmed,
    Family,
    Known,
    LiveRead,
    LiveRow,
    OpenAttempt,
    Setting,
    Uncertain,
)
from reconciler.core.reservation import SignedRequest
from tests.simulation.ground_truth import Attempt, Proof, SeenRead, Truth, same_effect
from tests.simulation.guard_checkers import mixed_of

WINDOW_S = 10.0
LANDS_WITHIN_S = 35.0
SETTLING_S = 5.0
GONE_FOR_S = 30.0
VALID_S = 30.0
"""The exchange refuses a signature that is older."""

CLOCKS_DIFFER_S = 0.1
"""By how much a time of this world and one of a process's clock may differ within a minute."""

MAX_CALLS_IN_A_SECOND = 80
MAX_ASKS_IN_TEN_SECONDS = 32
"""Twice the most that any of 20,000 histories needed."""

STALE_AFTER_S = 13.5
"""How long ago the read behind a request may have ended when it is reserved: 2 s when it was decided on,
1 s of waiting for the slot, and 10 s that opening a connection may take."""

READ_WITHIN_S = 10.0
"""How long a read may take at the most."""

FRESH_S = 2.0
"""How long ago a read may have ended when something is decided on it."""

SECOND_READ_AFTER_S = 1.0
MOST_READS_IN_A_ROW = 12
"""One read a second for as long as a read may lag, and some more."""

MOST_HEALS = 3

STOPS_WITHIN_S = 15.0
"""A request in flight may take 10 s to be given up, and 2 s to be written."""

SLIPS = TypeError, AttributeError, NameError
"""What code raises when it calls a function with the wrong signature."""


def rate(arrivals: Sequence[float]) -> str | None:
    """The exchange never sees three Set MMP requests of one User ID within 10 s."""
    if len(arrivals) < 3:
        return None
    last = sorted(arrivals[-12:])
    for first, third in zip(last, last[2:], strict=False):
        if third - first < WINDOW_S:
            return f"three requests arrived within {third - first:.3f} s"
    return None


def one_transmission_per_reservation(attempt: Attempt | None) -> str | None:
    """What is written was reserved, and not written before."""
    if attempt is None:
        return "a request was written without a reservation on record"
    return f"attempt {attempt.number} was written twice" if attempt.written else None


def sent_once_durable(attempt: Attempt | None) -> str | None:
    """A request is written only after the state confirmed that its reservation is durable."""
    if attempt is None or attempt.answered:
        return None
    return f"attempt {attempt.number} was written before the COMMIT of its reservation was answered"


def failed_commits_count(
    reserved_at: float, failed_at: Sequence[float], others: Sequence[float]
) -> str | None:
    """A reservation whose COMMIT failed counts for its process as one without an answer.

    ``failed_at``: when that happened. ``others``: when other requests had arrived at the latest.
    """
    latest = [at + LANDS_WITHIN_S for at in failed_at]
    counting = [one for one in latest if one + WINDOW_S - CLOCKS_DIFFER_S > reserved_at]
    if not counting:
        return None
    counting += [one for one in others if one + WINDOW_S - CLOCKS_DIFFER_S > reserved_at]
    return (
        f"reserved while {len(counting)} count, one by a COMMIT that failed" if len(counting) > 1 else None
    )


def opened_again_after_a_failure(process: str, has_failed: bool) -> str | None:
    """Nothing is read or written on a connection whose write or sync failed."""
    return f"{process} goes on with a connection that failed" if has_failed else None


def nothing_ends_a_run(process: str, error: BaseException) -> str | None:
    """Neither an error of the exchange nor one of the state ends a ``run``."""
    return f"{process} ended: {error}"


def one_reservation_per_request(request: SignedRequest, before: Iterable[Attempt]) -> str | None:
    """A signed request is reserved once: if its reservation may be on record, it is decided again."""
    twice = [attempt.number for attempt in before if attempt.request is request]
    return (
        f"{request.family}: reserved again, after attempt {twice[0]} of the same request" if twice else None
    )


def reserved_by_the_holder(process: str, taker: str | None) -> str | None:
    """Nothing is reserved by a process that is not the newest to have taken the account's lock."""
    return None if process == taker else f"{process} reserved, but {taker} has the lock of the account"


def adopted_by_the_holder(process: str, taker: str | None) -> str | None:
    """Nothing is adopted on a read that another process may have written after."""
    return None if process == taker else f"{process} adopted, but {taker} has the lock of the account"


def waits_out_a_lost_history(reserved_at: float, lost_at: float) -> str | None:
    """After a failover nothing is reserved before two requests reserved just before it cannot count."""
    after = reserved_at - lost_at
    if after >= LANDS_WITHIN_S + WINDOW_S:
        return None
    return f"reserved {after:.2f} s after a failover that may have lost two requests"


def lock_held_while_healthy(before: str, now: str) -> str | None:
    """While nothing fails, a living process has the lock until it releases it."""
    return f"{now} took the lock of {before}, which was alive and well"


def verdicts_are_recorded(process: str, attempt: int) -> str | None:
    """The result of a request is recorded even if another process has the lock by then."""
    return f"{process} was refused to record what came of attempt {attempt}: its lock was lost"


def only_accepted_settings(
    request: tuple[Family, Setting],
    wanted: Setting | None,
    may_stay: Sequence[Setting | None] = (),
    accepted: Sequence[Setting] = (),
) -> str | None:
    """Only what the newest file says is reserved, or the last accepted setting while that file is refused.

    Some fields may stay as they are where live is tighter already.
    """
    family, setting = request
    if any(wanted == setting or mixed_of(setting, one, may_stay) for one in (wanted, *accepted) if one):
        return None
    return f"{family}: {setting} was reserved, but {wanted} is desired"


def reads_have_a_reason(count: int, reason: str | None) -> str | None:
    """Two reads without an action or a wait between them need a reason: something new or unclear."""
    if reason is None:
        return "a read directly follows a read, for no reason"
    return f"{count} reads in a row" if count > MOST_READS_IN_A_ROW else None


def one_request_in_flight(unsettled: Iterable[str], process: str) -> str | None:
    """While a living process waits for its reply, no other one of that account sends."""
    others = sorted(set(unsettled) - {process})
    return f"{process} sends while {others} wait for a reply" if others else None


def frozen_not_written(family: Family, seen: SeenRead | None) -> str | None:
    """A family that the newest read shows frozen is not written."""
    row = seen.read.rows.get(family) if seen else None
    return f"{family} is frozen in the newest read" if row is not None and row.frozen else None


def read_before_write(reserved_at: float, seen: SeenRead | None) -> str | None:
    """A request rests on a fresh read of live settings, however long its reservation took."""
    if seen is None:
        return "a request without any read of live settings"
    age, duration = reserved_at - seen.begun_at, seen.ended_at - seen.begun_at
    too_old = age > STALE_AFTER_S + min(duration, READ_WITHIN_S)
    return f"the newest read is {age:.2f} s old, and took {duration:.2f} s" if too_old else None


def disabling_is_guarded(
    family: Family,
    setting: Setting,
    known: Known | None,
    reads: Sequence[SeenRead],
    own_read: SeenRead | None = None,
) -> str | None:
    """Nothing that is or may be enabled is disabled without permission.

    ``own_read``: the newest read of the family alone, None without one.
    """
    row = reads[0].read.rows.get(family) if reads else None
    before: list[Setting | None] = [row.setting if row else None]
    match known:
        case Confirmed():
            before = [_evidence(family, known, reads, own_read)]
        case Uncertain():
            before += [attempt.setting for attempt in known.unresolved]
            before += [known.last.setting] if known.last else []
    enabled = [one for one in before if one is not None and not one.disabled]
    if setting.disabled and enabled:
        return f"{family} is disabled without permission; it may be {enabled[0]}"
    return None


def drift_policy_obeyed(
    family: Family, setting: Setting, known: Known | None, seen: SeenRead | None, policy: DriftPolicy
) -> str | None:
    """Drift is written only where the policy says so.

    So is an uncertain family whose last proof was of this setting, when live is neither that nor what any
    open request carries.
    """
    if isinstance(known, Uncertain) and _is_third_value(family, known, setting, seen):
        known = known.last
    if not isinstance(known, Confirmed) or known.setting != setting or policy is DriftPolicy.HEAL:
        return None
    row = seen.read.rows.get(family) if seen else None
    if policy is DriftPolicy.WARN:
        return f"{family} drifted and was written, though only to be reported"
    if row is not None and _only_tighter(setting, row.setting):
        return f"{family} became tighter and was written, though only to be reported"
    return None


def no_request_without_difference(
    family: Family,
    setting: Setting,
    known: Known | None,
    reads: Sequence[SeenRead],
    local_now: float,
    own_read: SeenRead | None = None,
    last_row: Setting | None = None,
) -> str | None:
    """A request is reserved only where the newest evidence differs from it, or is uncertain.

    ``own_read``: the newest read of the family alone, None without one. ``last_row``: the last row seen of
    the family; where a list omits the family, that row may still be in force.
    """
    newest = reads[0] if reads else None
    match known:
        case Confirmed():
            shown = _evidence(family, known, reads, own_read)
            missing = newest is not None and family not in newest.read.rows
            needed = shown != setting or _may_be_undone(known, setting, newest)
            needed = needed or (missing and last_row not in (None, setting))
        case Uncertain():
            needed = _doubt_needs_a_write(family, setting, known, reads, local_now, own_read)
        case _:
            row = newest.read.rows.get(family) if newest else None
            needed = row is None or row.setting != setting
    return None if needed else f"{family}: {setting} was already in force, by all that is known: {known}"


def doubt_survives(
    family: Family, known: Known | None, doubts: Iterable[Attempt], forgotten: bool = False
) -> str | None:
    """An attempt without a verdict leaves its family uncertain until something is proven.

    ``forgotten``: a failover may have lost every record of the family. It is newly managed then.
    """
    unsettled = [attempt.number for attempt in doubts]
    if unsettled and not isinstance(known, Uncertain) and not (known is None and forgotten):
        return f"{family}: attempts {unsettled} have no verdict, yet it counts as {known}"
    return None


def proof_survives(family: Family, known: Known | None, proof: Proof) -> str | None:
    """An acknowledged or adopted setting stays on record, whatever is killed."""
    last = known if isinstance(known, Confirmed) else known.last if isinstance(known, Uncertain) else None
    if last is not None and last.setting == proof.setting:
        return None
    return f"{family}: {proof.setting} was proven, but {last} is on record"


def applied_implies_live(family: Family, setting: Setting, since: float, truth: Truth) -> str | None:
    """A setting recorded as applied was in force at some time since its request."""
    if truth.was_in_force(family, setting, since):
        return None
    return f"{family}: {setting} is recorded, but was never in force since {since:.3f}"


def refused_changes_nothing(attempt: Attempt, refused: bool, took_effect: bool) -> str | None:
    """An attempt recorded as refused, or as not sent, has no effect, then or later."""
    if not (refused and took_effect):
        return None
    return f"attempt {attempt.number} is on record as {attempt.settled_as}, and took effect"


def settled_stays_settled(family: Family, known: Known | None, flights: Iterable[Attempt]) -> str | None:
    """While a request from mmp can still change a family, the family is not settled."""
    if not isinstance(known, Confirmed):
        return None
    for attempt in flights:
        if attempt.setting != known.setting:
            return f"{family} counts as settled while attempt {attempt.number} is still under way"
    return None


def in_sync_is_true(
    family: Family,
    setting: Setting,
    truth: Truth,
    newest: SeenRead | None,
    read_delay_s: float,
    changed_meanwhile: bool = False,
) -> str | None:
    """A family reported in sync is in sync, unless another writer changed it since the last read.

    ``changed_meanwhile``: a process that took over after this one last read the record changed it.
    """
    live = truth.now_in_force(family)
    if same_effect(live, setting) or changed_meanwhile:
        return None
    seen_until = newest.begun_at - read_delay_s if newest else float("-inf")
    if truth.last_change_behind.get(family, float("-inf")) > seen_until:
        return None
    return f"{family} is reported in sync, but {live} is in force, not {setting}"


def rests_on_a_later_read(family: Family, begun_at: float, proven_at: float) -> str | None:
    """A family that another process wrote is in sync only by a read that began after that."""
    if begun_at >= proven_at:
        return None
    return (
        f"{family} is reported in sync by a read begun {proven_at - begun_at:.2f} s before another's proof"
    )


def no_endless_contested(family: Family, put_back: int) -> str | None:
    """A family that another writer changes repeatedly is healed three times within ten minutes, then left.

    No history is longer than ten minutes.
    """
    return f"{family} was put back {put_back} times" if put_back > MOST_HEALS else None


def no_early_end(
    put_back: Mapping[tuple[Family, Setting], int], family: Family, setting: Setting
) -> str | None:
    """No process gives up before it healed the family that often."""
    times = put_back.get((family, setting), 0)
    return f"{family} was given up after {times} times" if times < MOST_HEALS else None


def no_busy_loop(calls_in_second: int, asks_in_ten: int) -> str | None:
    """Nothing is repeated without time passing."""
    if calls_in_second > MAX_CALLS_IN_A_SECOND:
        return f"{calls_in_second} port calls within a second"
    if asks_in_ten > MAX_ASKS_IN_TEN_SECONDS:
        return f"{asks_in_ten} questions to the exchange within ten seconds"
    return None


def no_secret(text: str, secrets: Iterable[str]) -> str | None:
    """No output of any kind contains a secret or a key id."""
    return f"a secret in: {text[:200]}" if any(secret in text for secret in secrets) else None


def stop_leaves_nothing_pending(unsettled: Mapping[str, Attempt], process: str) -> str | None:
    """A process that ends by itself has settled its request in flight."""
    attempt = unsettled.get(process)
    return f"{process} ended while attempt {attempt.number} has no verdict" if attempt else None


def stops_soon(name: str, took_s: float) -> str | None:
    """A process that is asked to stop does so as soon as its request in flight is settled."""
    return f"{name} still runs {took_s:.0f} s after it was asked to stop"


def no_crash(error: BaseException) -> str | None:
    """No error but the expected ones ends a process."""
    return f"{type(error).__name__}: {error}"


def no_slip(error: BaseException) -> str | None:
    """No call with a wrong signature ends a process: such code was never run before.

    A mutant that does this is broken itself, and shows nothing about the rule it is to break.
    """
    return f"{type(error).__name__}: {error}" if isinstance(error, SLIPS) else None


def converges(late_s: float, waiting: Sequence[str]) -> str | None:
    """Once nothing fails any more, everything is in sync within a bound."""
    return f"{late_s:.0f} s after the last fault not in sync: {', '.join(waiting)}" if waiting else None


def _only_tighter(before: Setting, after: Setting) -> bool:
    """Tell whether no field protects less: window, freeze (0: the longest) and quantity."""
    freeze = [float("inf") if one.until_reset else one.frozen_interval_ms for one in (before, after)]
    return (
        after.time_interval_ms >= before.time_interval_ms
        and (before.disabled == after.disabled)
        and freeze[1] >= freeze[0]
        and after.qty_limit.value <= before.qty_limit.value
    )


def _evidence(
    family: Family, known: Confirmed, reads: Sequence[SeenRead], own_read: SeenRead | None
) -> Setting | None:
    """Return what is in force by all evidence; within 5 s of a proof it takes two equal reads."""
    counting = [seen.read for seen in reads if seen.read.begun_at > known.at]
    if not counting:
        return known.setting
    counting[0] = _with_own_row(family, counting[0], own_read)
    if counting[0].begun_at >= known.at + SETTLING_S and is_gone(family, counting[0], own_read):
        return _shown(None, known)
    shown = [_shown(read.rows.get(family), known) for read in counting]
    missing = family not in counting[0].rows
    settled = counting[0].begun_at >= known.at + SETTLING_S and not missing
    agreed = len(shown) > 1 and shown[0] == shown[1]
    return shown[0] if shown[0] == known.setting or settled or agreed else known.setting


def _with_own_row(family: Family, newest: LiveRead, own_read: SeenRead | None) -> LiveRead:
    """Return the list with the row that a later read of the family alone showed, if the list has none."""
    if own_read is None or family in newest.rows or own_read.read.begun_at <= newest.begun_at:
        return newest
    return replace(newest, rows={**newest.rows, **own_read.read.rows})


def _is_third_value(family: Family, known: Uncertain, setting: Setting, seen: SeenRead | None) -> bool:
    row = seen.read.rows.get(family) if seen else None
    carried = [attempt.setting for attempt in known.unresolved]
    newest = max(attempt.reserved_at for attempt in known.unresolved)
    if row is None or seen is None or None in carried or known.last is None:
        return False
    counts = seen.read.begun_at > max(newest, known.last.at) + SETTLING_S
    return counts and known.last.setting == setting and row.setting not in (setting, *carried)


def is_gone(family: Family, newest: LiveRead, own_read: SeenRead | None) -> bool:
    """Tell whether a list omits a family, and then the family's own read shows no row either."""
    if own_read is None or family in newest.rows or family in own_read.read.rows:
        return False
    return own_read.read.begun_at > newest.begun_at - GONE_FOR_S and not own_read.read.nameless


def _may_be_undone(known: Confirmed, setting: Setting, newest: SeenRead | None) -> bool:
    """Tell whether an attempt of the proven setting may land yet, or has, after a read showed another."""
    if newest is None or known.setting == setting:
        return False
    return newest.read.begun_at <= known.lands_until + SETTLING_S


def _shown(row: LiveRow | None, known: Confirmed) -> Setting | None:
    if row is not None:
        return row.setting
    return known.setting if known.setting.disabled else None


def _doubt_needs_a_write(
    family: Family,
    setting: Setting,
    known: Uncertain,
    reads: Sequence[SeenRead],
    local_now: float,
    own_read: SeenRead | None,
) -> bool:
    others = [attempt for attempt in known.unresolved if attempt.setting != setting]
    until = max((attempt.effect_until for attempt in others), default=float("-inf"))
    after = max(attempt.reserved_at for attempt in known.unresolved)
    if known.last is not None:
        after = max(after, known.last.at)
    counting = [seen.read for seen in reads if seen.read.begun_at > after]
    shown = [row.setting if (row := read.rows.get(family)) else None for read in counting]
    if shown and shown[0] == setting and counting[0].begun_at > until + SETTLING_S:
        return False
    if shown and shown[0] == setting and all(attempt.setting is None for attempt in others):
        return False  # only the record was lost
    if counting and is_gone(family, counting[0], own_read):
        return True
    if shown and shown[0] != setting and (shown[0] or shown == [None, None]):
        return True
    due_without_reads = not reads and local_now > until
    return due_without_reads or not others or not _written_since(setting, known, others)


def _written_since(setting: Setting, known: Uncertain, others: Sequence[OpenAttempt]) -> bool:
    newest = max(attempt.attempt for attempt in others)
    return known.last is not None and known.last.setting == setting and known.last.attempt > newest
