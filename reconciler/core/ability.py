"""Which accounts this replica cannot serve: it cannot read them live, or their key is refused here.

A replica that is cut off from the exchange would otherwise run its accounts for ever beside a healthy one.
What it cannot serve it reports with its heartbeat; ``sharing`` decides who should have it then. An account
that is not run here cannot be known to be readable: it counts as readable until the contrary was seen, and
after that again once a growing time is over. So an account that moved because of this comes back late, and
later each time. A replica whose newest reads all failed takes nothing, and then one account to try.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

from reconciler.core.retry import MAX_BACK_OFF_S
from reconciler.core.sharing import Ability, AccountKey
from reconciler.core.verdict import ReplyClass
from reconciler.core.vitals import Vitals

UNREAD_S = 20.0
"""An account whose reads have failed for so long is not served. One timeout is no reason to move it."""

TRY_AGAIN_S = (60.0, 120.0, 240.0, 480.0, 960.0, 1800.0)
"""How long an account that was given up is not taken again; the next one where that fails soon after."""

RECOVERING_S = MAX_BACK_OFF_S + 5.0
"""After an outage of all accounts nothing is taken for so long: the exchange may have been away for every
replica, and the others notice its return when their own back-off ends."""

CALM_S = 3600.0
"""After so long without being given up again the first wait is the shortest once more. Longer than the
longest waits of two replicas, so that no account goes to and fro between them for ever."""

REFUSED = frozenset({ReplyClass.ACCOUNT, ReplyClass.ENVIRONMENT})
"""Replies about the key or from where it is used, which may be others at another replica."""

SAME_EVERYWHERE = ("state-", "claimed-twice")
"""Codes of what is no better at another replica: it is about the state, or about the settings files."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How the live reads of an account go in this process; instants in seconds.

    ``failing_since``: the first failure since the newest success; None: it succeeded, or there was none.
    ``read_at``: the newest success. ``refused``: its key is refused, or cannot be used here.
    """

    failing_since: float | None = None
    read_at: float | None = None
    refused: bool = False


@dataclass(frozen=True, slots=True)
class GivenUp:
    """When something was last given up, and how often in a row."""

    at: float
    times: int = 1

    @property
    def until(self) -> float:
        """From when on it may be tried again."""
        return self.at + TRY_AGAIN_S[min(self.times, len(TRY_AGAIN_S)) - 1]

    def counts(self, now: float) -> bool:
        """Tell whether one that is given up now is given up once more in a row."""
        return now < self.until + CALM_S


@dataclass(frozen=True, slots=True)
class Experience:
    """What a replica remembers: its newest read of any account, and what it gave up.

    ``failed_at``: when last none could be read; ``exchange``: when it last gave up accounts then.
    """

    read_at: float | None = None
    failed_at: float | None = None
    accounts: Mapping[AccountKey, GivenUp] = field(default_factory=dict)
    exchange: GivenUp | None = None


def reading_of(vitals: Vitals) -> Reading:
    """Return how the live reads of an account go, from its runtime state."""
    outage, objection = vitals.outage, vitals.objection
    refused = (
        objection is not None
        and objection.reply.reply_class in REFUSED
        and not objection.reply.code.startswith(SAME_EVERYWHERE)
    )
    return Reading(None if outage is None else outage.since, vitals.read_at, refused)


def learned(experience: Experience, readings: Mapping[AccountKey, Reading], now: float) -> Experience:
    """Return the experience once the newest reads of the accounts that run are known."""
    reads = (experience.read_at, *(reading.read_at for reading in readings.values()))
    newest = replace(experience, read_at=max((at for at in reads if at is not None), default=None))
    return replace(newest, failed_at=now) if _reads_fail(newest, readings) else newest


def ability(
    experience: Experience,
    readings: Mapping[AccountKey, Reading],
    keeps: Collection[AccountKey],
    now: float,
) -> Ability:
    """Return what to report: ``readings`` of the accounts that run here, of all that ``keeps`` names."""
    unable: dict[AccountKey, float | None] = {}
    for account, reading in readings.items():
        if reading.refused:
            unable[account] = None
        elif reading.failing_since is not None and now >= reading.failing_since + UNREAD_S:
            unable[account] = now - reading.failing_since
    unable |= dict.fromkeys(_not_to_take(experience, readings, keeps, now))
    age = None if experience.read_at is None else max(0.0, now - experience.read_at)
    return Ability(unable, age)


def gave_up(
    experience: Experience,
    accounts: Collection[AccountKey],
    readings: Mapping[AccountKey, Reading],
    now: float,
) -> Experience:
    """Return the experience once accounts that cannot be served were given up."""
    given = {account: _again(experience.accounts.get(account), now) for account in accounts}
    recent = {account: one for account, one in experience.accounts.items() if one.counts(now)}
    exchange = experience.exchange
    if accounts and _reads_fail(experience, readings):
        exchange = _again(exchange, now)
    return replace(experience, accounts={**recent, **given}, exchange=exchange)


def _not_to_take(
    experience: Experience,
    readings: Mapping[AccountKey, Reading],
    keeps: Collection[AccountKey],
    now: float,
) -> Iterator[AccountKey]:
    """Return the accounts that do not run here and are not to either."""
    given, exchange = experience.accounts, experience.exchange
    others = sorted(account for account in keeps if account not in readings)
    waiting = [account for account in others if account in given and now < given[account].until]
    yield from waiting
    failed = experience.failed_at is not None and now < experience.failed_at + RECOVERING_S
    if failed or (exchange is not None and now < exchange.until):
        yield from others
    elif exchange is not None and (experience.read_at is None or experience.read_at <= exchange.at):
        # Nothing was read since: one account is tried, the others wait for what comes of it.
        trying = any(not reading.refused for reading in readings.values())
        yield from [account for account in others if account not in waiting][0 if trying else 1 :]


def _reads_fail(experience: Experience, readings: Mapping[AccountKey, Reading]) -> bool:
    """Tell whether no account could be read since the newest of the failures began."""
    failing = [one.failing_since for one in readings.values() if one.failing_since is not None]
    return bool(failing) and (experience.read_at is None or experience.read_at < max(failing))


def _again(before: GivenUp | None, now: float) -> GivenUp:
    return GivenUp(now, before.times + 1 if before is not None and before.counts(now) else 1)
