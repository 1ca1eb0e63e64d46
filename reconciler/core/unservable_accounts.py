"""Which accounts this replica cannot serve: it cannot read them live, or their key is refused here.

A replica that is cut off from the exchange would otherwise run its accounts for ever beside a healthy one.
It reports the accounts that it cannot serve with its heartbeat; ``replica_assignment`` decides which
replica should have them then. An account that this replica does not run counts as readable until a read
fails. An account that was given up rests after that: it is taken again once a growing time is over and a
trial read showed that it can be read, or earlier if its owner cannot read it. So an account that moved
because of this returns late, and later each time. A replica whose newest reads all failed takes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from reconciler.core.replica_assignment import HEARTBEAT_S, Ability, LeaseName
from reconciler.core.reply import ReplyClass
from reconciler.core.retry import MAX_BACK_OFF_S

UNREAD_S = 20.0
"""An account whose reads fail for so long is not served. One timeout is no reason to move it."""

TRY_AGAIN_S = (60.0, 120.0, 240.0, 480.0, 960.0, 1800.0)
"""For how long an account that was given up is not taken again; if it soon fails again, the next value."""

RECOVERING_S = MAX_BACK_OFF_S + 5.0
"""After an outage of all accounts nothing is taken for so long: the exchange may have failed for every
replica, and the others notice its recovery when their own back-off ends."""

CALM_S = 3600.0
"""After so long without being given up again the first wait is the shortest once more. Longer than the
longest waits of two replicas, so that no account moves back and forth between them for ever."""

TRY_EVERY_S = 30.0
"""How often an account that rests is read here on trial."""

TRY_SOON_S = 10.0
"""The same while its owner cannot read it."""

REFUSED = frozenset({ReplyClass.ACCOUNT, ReplyClass.ENVIRONMENT})
"""Replies about the key or the address it is used from, which may differ at another replica."""

SAME_EVERYWHERE = ("state-", "claimed-twice")
"""Codes of errors that another replica would have too: of the state, or of the settings files."""


@dataclass(frozen=True, slots=True)
class ReadState:
    """Whether the live reads of an account succeed in this process; instants in seconds.

    ``failing_since``: the first failure since the newest success; None: it succeeded, or there was none.
    ``read_at``: the newest success. ``refused``: its key is refused, or cannot be used here.
    """

    failing_since: float | None = None
    read_at: float | None = None
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Trial:
    """When an account that does not run here was last read on trial, and the result."""

    at: float
    succeeded: bool
    refused: bool = False


Readings = Mapping[LeaseName, ReadState]
"""The newest reads of the accounts that run here."""

Trials = Mapping[LeaseName, Trial]
"""The newest reads on trial of accounts that do not run here."""


@dataclass(frozen=True, slots=True)
class Released:
    """When something was last given up, and how often in a row.

    ``alone``: other accounts could be read, so that only a read of this one shows that it can be served.
    """

    at: float
    times: int = 1
    alone: bool = True

    @property
    def until(self) -> float:
        """The instant from which it may be tried again."""
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
    accounts: Mapping[LeaseName, Released] = field(default_factory=dict)
    exchange: Released | None = None


def learned(experience: Experience, readings: Readings, trials: Trials, now: float) -> Experience:
    """Return the experience once the newest reads of the accounts are known, those on trial too."""
    tried = [trial.at for trial in trials.values() if trial.succeeded]
    reads = (experience.read_at, *(reading.read_at for reading in readings.values()), *tried)
    newest = replace(experience, read_at=max((at for at in reads if at is not None), default=None))
    if _reads_fail(newest, readings):
        return replace(newest, failed_at=now)
    failed = [trial.at for trial in trials.values() if not trial.succeeded and not trial.refused]
    if readings or not failed or (newest.read_at is not None and newest.read_at >= max(failed)):
        return newest
    return replace(newest, failed_at=min(now, max(failed) + TRY_EVERY_S))


def serving_ability(
    experience: Experience, readings: Readings, trials: Trials, keeps: Collection[LeaseName], now: float
) -> Ability:
    """Return what to report: ``readings`` of the accounts that run here, of all that ``keeps`` names."""
    unable = _cannot_serve(readings, now)
    if experience.failed_at is not None and now < experience.failed_at + RECOVERING_S:
        unable |= dict.fromkeys(account for account in keeps if account not in readings)
    age = None if experience.read_at is None else max(0.0, now - experience.read_at)
    return Ability(unable, age, _resting(experience, readings, trials, keeps, now))


def released(
    experience: Experience, accounts: Collection[LeaseName], readings: Readings, now: float
) -> Experience:
    """Return the experience once accounts that cannot be served were given up."""
    given = {account: _again(experience.accounts.get(account), now) for account in accounts}
    learnt = replace(experience, accounts={**experience.accounts, **given})
    if not accounts or not _all_fail(readings):
        return learnt
    read_at, exchange = experience.read_at, experience.exchange
    # What was given up since the newest read, and is not refused, was given up for the same reason.
    refused = {account for account, one in readings.items() if one.refused}
    together = {
        account: replace(one, alone=False)
        for account, one in learnt.accounts.items()
        if account not in refused and (read_at is None or one.at > read_at)
    }
    continues = (
        exchange is not None and exchange.counts(now) and (read_at is None or read_at <= exchange.at)
    )
    again = replace(exchange, at=now) if exchange is not None and continues else _again(exchange, now)
    return replace(learnt, accounts={**learnt.accounts, **together}, exchange=again)


def to_try(
    ability: Ability, readings: Readings, trials: Trials, awaited: Collection[LeaseName], now: float
) -> LeaseName | None:
    """Return the account to read on trial now; ``awaited``: those whose owner cannot read them."""

    def tried_at(account: LeaseName) -> float:
        return trials[account].at if account in trials else float("-inf")

    resting = ability.resting
    urgent = {account for account in awaited if account in resting or not readings}
    wanted = urgent | resting.keys()
    newest = max(map(tried_at, wanted), default=float("-inf"))
    waits = {account: TRY_SOON_S if account in urgent else TRY_EVERY_S for account in wanted}
    due = [account for account in wanted if now >= tried_at(account) + waits[account]]
    if not due or now < newest + HEARTBEAT_S:
        return None
    return min(due, key=lambda account: (account not in urgent, tried_at(account), account))


def _cannot_serve(readings: Readings, now: float) -> dict[LeaseName, float | None]:
    """Return the accounts that run here and cannot be served, as in ``Ability.unable``."""
    unable: dict[LeaseName, float | None] = {}
    for account, reading in readings.items():
        if reading.refused:
            unable[account] = None
        elif reading.failing_since is not None and now >= reading.failing_since + UNREAD_S:
            unable[account] = now - reading.failing_since
    return unable


def _resting(
    experience: Experience, readings: Readings, trials: Trials, keeps: Collection[LeaseName], now: float
) -> dict[LeaseName, float | None]:
    """Return the accounts that rest, as in ``Ability.resting``."""
    resting: dict[LeaseName, float | None] = {}
    for account in sorted(account for account in keeps if account not in readings):
        given, trial = experience.accounts.get(account), trials.get(account)
        reads = [trial.at] if trial is not None and trial.succeeded else []
        if experience.read_at is not None and (given is None or not given.alone):
            reads.append(experience.read_at)
        since = [one for one in (given, experience.exchange) if one is not None]
        if not since:
            continue
        read_at = max((at for at in reads if at > max(one.at for one in since)), default=None)
        if read_at is None:
            resting[account] = None
        elif now < max(one.until for one in since):
            resting[account] = max(0.0, now - read_at)
    return resting


def _reads_fail(experience: Experience, readings: Readings) -> bool:
    """Tell whether no account could be read since the newest of the failures began."""
    failing = [one.failing_since for one in readings.values() if one.failing_since is not None]
    return bool(failing) and (experience.read_at is None or experience.read_at < max(failing))


def _all_fail(readings: Readings) -> bool:
    """Tell whether the reads of every account that runs here fail, but for those whose key is refused."""
    failing = [one.failing_since is not None for one in readings.values() if not one.refused]
    return bool(failing) and all(failing)


def _again(before: Released | None, now: float) -> Released:
    return Released(now, before.times + 1 if before is not None and before.counts(now) else 1)
