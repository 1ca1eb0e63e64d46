"""Rules for files, policies, pauses, reviews, lists and suspension when a request is reserved.

As in ``checkers``, each returns None, or one sentence that describes the error. They share no rule with
the production code: they define again what is looser.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from reconciler.core.model import Family, Setting
from tests.simulation.ground_truth import Attempt

SEND_WITHIN_S = 2.0
"""From the reservation to the first byte."""

WINDOW_S = 10.0
QUIET_AFTER_LIMITED_S = 10.0
SPACED_S = 5.0
"""After a 50011: a quiet window, and then requests this far apart."""

OTHERS_WITHIN_S = 75.0
"""While one family of four always fails, the others are in force within this time."""

URGENT_WITHIN_S = 11.0
"""While one family fails to be loosened, a protective change of another is reserved within this time:
the window of one request that just took the slot, and the way to the reservation."""

TRIED_AGAIN_S = (10.0, 45.0, 90.0, 120.0)
"""How long after the first, second, … try without a success a setting is tried again, at least."""

SLOT_S = 10.1
"""The pace at which further ones follow where one of two slots is taken."""

TICK_S = 0.01
"""How much two clocks of these worlds may differ over such short times."""

SLACK_S = 0.2
"""The same for times of minutes."""


def ranks(setting: Setting) -> tuple[float, float, float]:
    """Return how tight each field is: window, freeze (0: until reset, the longest), fewer contracts."""
    freeze = float("inf") if setting.until_reset else float(setting.frozen_interval_ms)
    return float(setting.time_interval_ms), freeze, -float(setting.qty_limit.value)


def looser(before: Setting | None, after: Setting) -> bool:
    """Tell whether ``after`` protects less than ``before`` in any respect; None protects nothing."""
    if before is None or (before.disabled and not after.disabled):
        return False
    if after.disabled and not before.disabled:
        return True
    return any(now < was for was, now in zip(ranks(before), ranks(after), strict=True))


def protects_more(before: Setting, after: Setting) -> bool:
    """Tell whether ``after`` protects more than ``before`` in any respect."""
    if after.disabled:
        return False
    return before.disabled or any(now > was for was, now in zip(ranks(before), ranks(after), strict=True))


def tightest(*settings: Setting) -> tuple[float, float, float]:
    """Return the tightest of each field."""
    window, freeze, quantity = zip(*map(ranks, settings), strict=True)
    return max(window), max(freeze), max(quantity)


def mixed_of(setting: Setting, wanted: Setting, others: Iterable[Setting | None]) -> bool:
    """Tell whether each field is as wanted, or a tighter one of another of these settings."""
    sources = [ranks(one) for one in (wanted, *others) if one is not None]
    return not looser(wanted, setting) and all(
        any(field == source[number] for source in sources) for number, field in enumerate(ranks(setting))
    )


# -- files -----------------------------------------------------------------------------------------


def stale_file_never_loosens(
    family: Family, setting: Setting, own_number: int, newer: Iterable[tuple[Setting, int]]
) -> str | None:
    """A controller loosens nothing that was set from a settings file accepted after its own."""
    for other, number in newer:
        if number > own_number and looser(other, setting):
            return f"{family}: {setting} of file {own_number} loosens {other} of file {number}"
    return None


def loosens_only_what_was_accepted(
    family: Family, setting: Setting, live: Setting, accepted: Sequence[Setting]
) -> str | None:
    """``run`` makes no field looser than live, unless live is there as it once was accepted.

    A disabled family protects in no field: of a request that disables only the window counts.
    """
    if live.disabled:
        return None
    fields = list(zip(ranks(setting), ranks(live), strict=True))
    for place, (now, was) in enumerate(fields[:1] if setting.disabled else fields):
        if now < was and not any(ranks(one)[place] == was for one in accepted):
            return f"{family}: {setting} loosens a field of {live}, which was never accepted"
    return None


def accepts_nothing_looser(family: Family, before: Setting, setting: Setting) -> str | None:
    """While the policy cannot be read no looser setting becomes the accepted one."""
    if not looser(before, setting):
        return None
    return f"{family}: {setting} is accepted after {before} while the policy cannot be read"


# -- policies, pauses, reviews ---------------------------------------------------------------------


def nothing_loosens_under_an_unreadable_policy(
    family: Family, setting: Setting, references: Sequence[Setting | None]
) -> str | None:
    """While the policy cannot be read nothing becomes looser than both the last proof and live."""
    if references and all(looser(one, setting) for one in references):
        return f"{family}: {setting} loosens {references[0]} while the policy cannot be read"
    return None


def factor_within_limit(
    family: Family, setting: Setting, references: Sequence[Setting | None], limit: float | None
) -> str | None:
    """Nothing gets looser by more than the policy's factor, from any value that may be in force."""
    for before in references if limit is not None else ():
        if before is None or before.disabled or setting.disabled or not looser(before, setting):
            continue
        found = times_looser(before, setting)
        if limit is not None and found > limit * (1.0 + ROUNDING):
            return (
                f"{family}: {setting} is {found:g} times looser than {before}, the policy allows {limit:g}"
            )
    return None


ROUNDING = 1e-9
"""These checkers compute with floating point numbers: a factor of exactly the limit is within it."""


def times_looser(before: Setting, after: Setting) -> float:
    """Return the worst of: contracts until it trips, within a second, within a minute; and the freeze.

    Both settings are enabled. A freeze until reset lasts longer than any minute.
    """
    (window, freeze, _), (window_now, freeze_now, _) = ranks(before), ranks(after)
    contracts = float(after.qty_limit.value) / float(before.qty_limit.value)
    rounds = 1.0 + 60_000.0 / min(window, freeze)
    rounds_now = 1.0 + 60_000.0 / min(window_now, freeze_now)
    shorter = 1.0 if freeze == freeze_now else freeze / freeze_now
    return max(contracts, contracts * window / window_now, contracts * rounds_now / rounds, shorter)


def as_good_as_off(before: Setting, after: Setting) -> bool:
    """Tell whether a change of an enabled family leaves next to no protection: it needs an override."""
    if before.disabled or after.disabled:
        return False
    is_short = after.time_interval_ms < min(100, before.time_interval_ms)
    return is_short or times_looser(before, after) >= 1000.0 * (1.0 - ROUNDING)


def near_off_is_guarded(
    family: Family, setting: Setting, references: Sequence[Setting | None]
) -> str | None:
    """Without an override nothing changes to what is as good as disabled, whatever may be in force."""
    for before in references:
        if before is not None and as_good_as_off(before, setting):
            return f"{family}: {setting} is as good as off after {before}, without permission"
    return None


def goes_early_only_to_protect(
    family: Family, setting: Setting, proven: Setting, shown: Setting | None
) -> str | None:
    """While a read soon after a proof shows something else, only what tightens both goes.

    ``shown`` None: no row, which protects nothing.
    """
    for before in (proven, shown):
        if before is not None and looser(before, setting):
            return f"{family}: {setting} loosens {before}, and whether that is in force is in doubt"
    return None


def families_within_limit(family: Family, loosened: Sequence[Family], limit: int | None) -> str | None:
    """A file that loosens more families than the policy allows loosens none, also not a few at a time."""
    if limit is None or family not in loosened or len(loosened) <= limit:
        return None
    return f"{family} is loosened, one of {len(loosened)} families of its file; the policy allows {limit}"


def pause_respected(family: Family, paused_at: float | None, asked_at: float) -> str | None:
    """After a manual pause has returned, nothing of its family is reserved."""
    if paused_at is None or paused_at >= asked_at:
        return None
    return f"{family} is reserved {asked_at - paused_at:.2f} s after it was paused"


def nothing_outside_the_review_is_sent(
    family: Family,
    setting: Setting,
    live: Setting | None,
    reviewed: Mapping[Family, tuple[Setting | None, Setting]],
) -> str | None:
    """After a review only its changes are sent, from the reviewed settings; ``live`` None: not known."""
    if family not in reviewed:
        return f"{family} is sent, which the review does not name"
    before, after = reviewed[family]
    if setting != after:
        return f"{family}: {setting} is sent, reviewed was {after}"
    if live is not None and live not in (before, after):
        return f"{family}: {live} is in force, reviewed was the change from {before} to {after}"
    return None


# -- lists, reads and suspension -------------------------------------------------------------------


def missing_is_not_gone(
    family: Family, setting: Setting, last_seen: Setting | None, confirmed: bool
) -> str | None:
    """A family missing from a list counts as removed only when its own read shows that.

    Until then only a setting at least as tight as the last seen one is sent.
    """
    if confirmed or last_seen is None or not looser(last_seen, setting):
        return None
    return f"{family}: {setting} loosens {last_seen}, which a list left out and nothing else did"


def unreadable_is_held(family: Family, odd: bool) -> str | None:
    """A family whose row is invalid, or spells its name in another way, is not written."""
    return f"{family} is written, though its row in the newest list cannot be used" if odd else None


def adopts_nothing_overtaken(family: Family, begun_at: float, reserved_at: Sequence[float]) -> str | None:
    """Nothing is adopted on a read that began before another process's newest request, lock or no lock."""
    late = [at for at in reserved_at if at > begun_at + TICK_S]
    return (
        f"{family} was adopted, read {late[-1] - begun_at:.2f} s before another request" if late else None
    )


def as_old_as_its_read(family: Family, proven_at: float, begun_at: float) -> str | None:
    """What a read proves is proven as of its beginning, not as of its recording."""
    if proven_at <= begun_at + TICK_S:
        return None
    return f"{family} was adopted as of {proven_at - begun_at:.2f} s after the read that showed it"


def reads_are_of_this_side_of_a_suspension(
    begun_at: float, resumed_at: float, asked_at: float
) -> str | None:
    """No request rests on a read from before the machine was suspended."""
    if begun_at >= resumed_at or resumed_at > asked_at:
        return None
    return f"a request rests on a read begun {resumed_at - begun_at:.1f} s before a suspension ended"


def not_written_after_a_suspension(attempt: Attempt, resumed_at: float, now: float) -> str | None:
    """A reservation from before the machine was suspended is not written any more."""
    if attempt.reserved_at >= resumed_at or resumed_at > now:
        return None
    return f"attempt {attempt.number} was reserved before a suspension and written after it"


def written_soon(attempt: Attempt, after_s: float) -> str | None:
    """Nothing is written later than 2 s after its reservation."""
    if after_s <= SEND_WITHIN_S + TICK_S:
        return None
    return f"attempt {attempt.number} was written {after_s:.2f} s after its reservation"


def spaced_after_limited(
    reserved_at: float, limited_at: float | None, last_sent_at: float | None
) -> str | None:
    """After a 50011 one window is quiet, and then requests go 5 s apart."""
    if limited_at is None:
        return None
    if reserved_at - limited_at < QUIET_AFTER_LIMITED_S - TICK_S:
        return f"reserved {reserved_at - limited_at:.2f} s after a request that was refused for its rate"
    if last_sent_at is not None and reserved_at - last_sent_at < SPACED_S - TICK_S:
        return f"reserved {reserved_at - last_sent_at:.2f} s after another one, soon after a 50011"
    return None


def reads_again_after_a_clock_error(begun_at: float, refused_at: float) -> str | None:
    """After the exchange refused a timestamp nothing rests on a read from before that."""
    if begun_at >= refused_at:
        return None
    return f"a request rests on a read begun {refused_at - begun_at:.2f} s before a timestamp was refused"


# -- order of requests -----------------------------------------------------------------------------


def protection_goes_first(family: Family, setting: Setting, waiting: Sequence[Family]) -> str | None:
    """No change that loosens is sent while another family's protection waits for a slot."""
    if not waiting:
        return None
    return f"{family}: {setting} loosens, and goes before the protection of {', '.join(waiting)}"


def tried_again_in_time(family: Family, tries: int, after_s: float, succeeded: bool) -> str | None:
    """A setting that was tried without success waits, unless any family had a success since.

    ``tries``: so many in a row before this one, the last ``after_s`` ago.
    """
    if succeeded or tries == 0:
        return None
    least = TRIED_AGAIN_S[min(tries, len(TRIED_AGAIN_S)) - 1]
    return (
        None
        if after_s >= least - SLACK_S
        else f"{family}: tried again after {after_s:.1f} s, try {tries + 1}"
    )


def success_ends_back_off(family: Family, left_s: float, succeeded: bool) -> str | None:
    """Once any family had a success, every other one may be tried again at once."""
    if not succeeded or left_s <= 0.0:
        return None
    return f"{family} is to wait {left_s:.1f} s more, though another family had a success"


def retry_leaves_a_slot(family: Family, after_s: float | None, waiting: str | None) -> str | None:
    """A retry leaves one slot of the window free while another family waits, one that loosens always.

    ``after_s``: since the request before it, None without one. ``waiting``: for what the slot is left.
    """
    if waiting is None or after_s is None or after_s >= WINDOW_S - TICK_S:
        return None
    return (
        f"{family} is tried again {after_s:.1f} s after another request, which leaves no slot for {waiting}"
    )


def doubt_holds_only_itself(doubtful: Sequence[Family], waiting: Sequence[Family]) -> str | None:
    """A family with a slot and without uncertainty does not wait for reads that another one needs."""
    if not waiting:
        return None
    return f"{', '.join(waiting)} could go, and live is read once more for {', '.join(doubtful)}"


def one_controller(name: str, others: Sequence[str]) -> str | None:
    """Of several ``run`` on one state file one writes, until it ends."""
    return f"{name} writes, and so does {', '.join(others)}" if others else None


def no_family_starves(late_s: float, waiting: Sequence[Family]) -> str | None:
    """While one family always fails, every other one comes into force within a bound."""
    return f"{late_s:.0f} s after it was due not in force: {', '.join(waiting)}" if waiting else None


def urgent_does_not_wait(late_s: float, waiting: Sequence[Family]) -> str | None:
    """While one family fails to be loosened, a protective change of another leaves within a bound."""
    return f"{late_s:.1f} s after the file said so not reserved: {', '.join(waiting)}" if waiting else None


def ended_when_over(attempt: Attempt, shown_until: float, lands_within_s: float) -> str | None:
    """A read ends an attempt only if it shows every effect that the attempt can have had."""
    over_at = attempt.reserved_at + lands_within_s if attempt.arrived_by is None else attempt.arrived_by
    if over_at <= shown_until + SLACK_S:
        return None
    return f"attempt {attempt.number} was ended by a read that need not show what it does"
