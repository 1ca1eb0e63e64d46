"""What passes and commands need from outside: a state, an exchange, a clock. Nothing else.

Each port is small and named for its purpose; implementations are in ``store``, ``okx``, ``clock`` and
the simulation in the tests. Every method may raise :class:`reconciler.errors.MmpError` where
its docstring says so; whatever an exchange answers is a value, never an exception.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from types import MappingProxyType
from typing import Protocol

from reconciler.core.history_records import (
    AcceptedRecord,
    AttemptLog,
    LockHolder,
    NameRecord,
    OverrideRecord,
    PolicyRecord,
    StateCheck,
    StateSnapshot,
)
from reconciler.core.live_evidence import SeenRow
from reconciler.core.model import (
    NO_FILE,
    Accepting,
    AccountInfo,
    Environment,
    ExchangeKind,
    Family,
    FileVersion,
    Known,
    LiveRead,
    LiveRow,
    Pause,
    Setting,
)
from reconciler.core.monitoring.state_timeline import Timeline
from reconciler.core.pacing import Ledger
from reconciler.core.replica_assignment import (
    ABLE,
    Ability,
    AccountClaim,
    LeaseName,
    LeaseTable,
    Replica,
    ReplicaId,
)
from reconciler.core.reply import Reply
from reconciler.core.reservation import (
    AttemptResult,
    RecordedInputs,
    ReserveOptions,
    ReserveResult,
    SignedRequest,
)
from reconciler.errors import MmpError

NO_ROWS: Mapping[Family, LiveRow] = MappingProxyType({})
"""Rows of no family."""

NO_ACCEPTING: Mapping[Family, Accepting] = MappingProxyType({})
"""No setting becomes the accepted one."""


class Clock(Protocol):
    """Time as a pass needs it: one monotonic clock for decisions, the wall clock only for people."""

    def now(self) -> float:
        """Return seconds on the monotonic raw clock of this boot."""

    def wall(self) -> datetime:
        """Return the time of day, UTC, for display and records only."""

    def suspended_s(self) -> float:
        """Return for how many seconds this machine has been suspended since it booted.

        0.0 if the system cannot report it. Only differences are meaningful.
        """

    async def sleep_until(self, until: float) -> None:
        """Return at instant ``until``, or earlier when something changed; callers check again."""


class Connection(Protocol):
    """An open connection to the exchange, for one Set MMP request."""

    async def send(self, request: SignedRequest, *, deadline: float) -> Reply:
        """Write ``request`` once and return the classified reply; closes the connection.

        Past the instant ``deadline`` nothing is written and the reply is NOT_SENT.
        """

    async def close(self) -> None:
        """Close without sending; harmless when already closed."""


class Exchange(Protocol):
    """The exchange as seen with one account's key. Replies that are not data are ``Reply`` values."""

    async def account(self) -> AccountInfo | Reply:
        """Ask which account the key belongs to and what it may do."""

    async def read_live(self) -> LiveRead | Reply:
        """Read every configured family at once."""

    async def read_family(self, family: Family) -> LiveRead | Reply:
        """Read one family: its row, or no row where the exchange lists none or answers without data."""

    async def sync_clock(self) -> Reply | None:
        """Measure the offset to the exchange's clock; None when it was measured."""


class TradingExchange(Exchange, Protocol):
    """An exchange that can also write. A dry run never has one."""

    def key_changed(self) -> bool:
        """Tell whether the key is no longer the one that ``account`` used last.

        Until ``account`` is called, the old key is used and nothing must be sent: the new key may be of
        another account. ``account`` takes the new key, and raises AccountProblem if that cannot be read.
        """

    async def open(self) -> Connection | Reply:
        """Open a fresh connection, writing no byte of a request; a failure is NOT_SENT."""

    def sign(self, family: Family, setting: Setting) -> SignedRequest:
        """Build and sign one request with the current time of the exchange's clock."""


class Store(Protocol):
    """The durable state of one account in one environment, shared with other processes.

    All methods raise StateUnusable when the state is damaged. Instants of rows of this boot are returned
    on this process's clock; for rows of another boot, host or unknown age, it is when this process first
    saw them.
    """

    def locked(self, purpose: str, *, timeout_s: float | None = None) -> AbstractAsyncContextManager[None]:
        """Hold the account's lock; raises StateLocked, naming the holder, after ``timeout_s``.

        ``timeout_s`` None: the state's lock timeout.
        """

    async def identify(self, uid: str, host: str) -> str | None:
        """Stamp or check the owner. Raises StateAccountMismatch for another uid or kind.

        Returns the host used before when it was another one (a warning), else None.
        Must be called before ``recorded_inputs`` and ``reserve``.
        """

    async def check_identity(self, uid: str) -> None:
        """Check the owner and change nothing. Raises StateAccountMismatch for another uid or kind.

        After it ``recorded_inputs`` may be called, as after ``identify``.
        """

    async def record_in_force(self, families: Collection[Family]) -> None:
        """Record, durably, that changes of the saved plan were already in force, so nothing is sent."""

    async def try_control(self, purpose: str) -> bool:
        """Become the account's controller, or return False at once if another process is.

        A state has one controller per account, until it releases control or ends. Calling again is
        harmless. If leases assign the accounts, there is no such lock and the answer is True.
        """

    async def release_control(self) -> None:
        """Stop being the account's controller; harmless if this process is not."""

    async def controller(self) -> LockHolder | None:
        """Return the account's controller; None when there is none, or none that can be named."""

    async def recorded_inputs(self) -> RecordedInputs:
        """Return what is known of each family on record (never NeverApplied), the pauses and the ledger."""

    async def accept_file(self, sha256: str, *, changed: bool) -> FileVersion:
        """Record, durably, that this content of the settings file is in force; returns its version.

        Content that was never accepted for this User ID, in the file of any account, gets the next number.
        Content that was accepted before keeps its number, unless ``changed``: this process saw its file
        change to it, or a person applies it. Then it gets the next number, unless it has the newest.
        """

    async def reserve(self, request: SignedRequest, options: ReserveOptions) -> ReserveResult:
        """Reserve a slot now and record the attempt, in one durable transaction, or say why not.

        A pause of the family that is in force by now, and of this setting if the breaker set it, is seen in
        the same transaction. A change of a saved plan that was applied is not reserved again.
        """

    async def settle(self, attempt: int, result: AttemptResult) -> None:
        """Record the result of an attempt, durably.

        APPLIED makes the attempt's setting the confirmed one, unless another value was confirmed while it
        was in flight. Attempts of the same setting then leave no doubt while it stays the confirmed one;
        any attempt has ended for good if it can last have arrived before this one was reserved. REJECTED
        and NOT_SENT leave the family as it was: the setting that this attempt made the accepted one is no
        longer accepted, unless an earlier request for it is open or it was proven in force. An attempt is
        settled once.
        """

    async def adopt(
        self,
        settings: Mapping[Family, Setting],
        *,
        read_begun_at: float,
        file: FileVersion = NO_FILE,
        accepting: Mapping[Family, Accepting] = NO_ACCEPTING,
    ) -> frozenset[Family]:
        """Record settings a live read proved in force; returns the families recorded.

        A family with an open attempt reserved, or a proof recorded, after the read began is left out.
        ``accepting``: the desired settings that become the accepted ones at the same time.

        Attempts of the same setting leave no doubt while it stays the confirmed one; any
        attempt has ended for good if the read shows all that took effect by its latest arrival
        (:func:`~reconciler.core.live_evidence.reflects_until`). Others still leave their family uncertain.
        Raises StateLocked if the lock was taken and lost: another process may have written since the read.
        """

    async def end_attempts(self, families: Collection[Family], *, read_begun_at: float) -> None:
        """End the open attempts of families that a live read shows to have been superseded, durably.

        Only those end whose effects by their latest arrival the read shows completely; proofs stay.
        Raises StateLocked as ``adopt`` does.
        """

    async def pause(
        self,
        families: Iterable[Family],
        *,
        until: datetime | None,
        reason: str,
        contested_setting: Mapping[Family, Setting] | None = None,
    ) -> None:
        """Pause families until a time of day (None: until resumed), durably.

        ``contested_setting``: the setting of each family that the heal breaker pauses; the others are
        paused by hand. A newer pause replaces an older one of any kind, with one exception: the breaker
        never replaces a pause by hand that is in force.
        """

    async def clear_heal_breakers(self, contested_setting: Mapping[Family, Setting]) -> None:
        """End the heal breaker's pauses of these families for exactly these settings, durably.

        A pause that has replaced it meanwhile stays.
        """

    async def record_override(self, family: Family, *, refusal: str, reason: str) -> None:
        """Record for the history, durably, that a refusal was overridden by name, and why."""

    async def record_live(self, read: LiveRead, *, last_seen: Mapping[Family, LiveRow] = NO_ROWS) -> None:
        """Record the latest live read for ``mmp status``, and for :meth:`last_rows`.

        ``last_seen`` are the last rows of families that the read leaves out, and that are not known to
        be gone.
        """

    async def last_rows(self) -> Mapping[Family, SeenRow]:
        """Return the rows of the latest live read on record, for a process that has not read yet.

        Each counts as seen now, or as seen long ago if the family's proof was recorded later. They can only
        prevent a write: if a list leaves a family out, the setting last seen must not be loosened.
        """

    async def record_states(self, states: Mapping[Family, str]) -> None:
        """Record that the account is observed now, and the state of each desired family.

        Only the timeline uses it; cheap while nothing changes. A family that is no longer in ``states``
        changes to unmanaged.
        """


class AccountStore(Store, Protocol):
    """All that the state has on record of one account: for passes and for commands."""

    def apply_plan(self, plan: str, changes: Mapping[Family, Setting]) -> None:
        """Apply the saved plan with this id from now on: ``changes`` are the settings that it leads to.

        Requests and adoptions are recorded as changes of that plan. Each is recorded as applied together
        with its proof: the acknowledgement of the request, a proof of the same setting while the
        request is open (recorded by any process), or the adoption.
        """

    async def known(self) -> Mapping[Family, Known]:
        """Return what is known of every family on record (never NeverApplied)."""

    async def ledger(self) -> Ledger:
        """Return the pacing ledger of this account's User ID."""

    async def pauses(self) -> tuple[Pause, ...]:
        """Return the pauses whose time is not over at this moment, by family."""

    async def snapshot(self) -> StateSnapshot:
        """Return all that is on record of the account; changes nothing."""

    async def names(self) -> tuple[NameRecord, ...]:
        """Return every account of this environment that is on record, by name."""

    async def history(self, limit: int, family: str = "*") -> AttemptLog:
        """Return at most ``limit`` attempts of families matching the glob ``family``, newest first."""

    async def overrides(self, limit: int, family: str = "*") -> Sequence[OverrideRecord]:
        """Return at most ``limit`` overrides of families matching the glob, newest first."""

    async def policy_on_record(self) -> PolicyRecord | None:
        """Return the policy that was recorded last; None where none was, or a person gave it up."""

    async def policies(self, limit: int) -> Sequence[PolicyRecord]:
        """Return at most ``limit`` policies that were in force or given up, newest first."""

    async def record_policy(self, sha256: str, path: str, document: str) -> None:
        """Record, durably, that a policy is in force; ``document`` is the text of its file.

        Writes only if another policy was recorded last, or if this one was given up since.
        """

    async def give_up_policy(self, sha256: str, reason: str) -> bool:
        """Record, durably and once, that a person gives up the policy on record, and why.

        Returns False and records nothing if another policy is on record, or none that counts.
        """

    async def accepted_log(self, limit: int, family: str = "*") -> Sequence[AcceptedRecord]:
        """Return at most ``limit`` accepted settings of families matching the glob, newest first."""

    async def resume(self, families: Iterable[Family]) -> None:
        """End the pauses of families; harmless where there is none."""

    async def read_timeline(
        self, since: datetime, pause: Callable[[], Awaitable[None]] | None = None
    ) -> Callable[[], Timeline]:
        """Read the data of the timelines from ``since`` to this moment; return a function that builds them.

        The data is read in parts, with ``pause`` awaited between two, so that a request never waits for
        all of them: 12,000 rows take 50 ms.

        Building is most of the work, does not use the state, and may run in any thread.
        """

    async def lock_holder(self) -> LockHolder | None:
        """Return the holder of the account's lock; None when it is not locked, or by an unknown holder."""

    async def owner(self) -> Replica | None:
        """Return the replica that runs the account; None when none does, or the state has no leases."""


class LeaseStore(Protocol):
    """The leases of a state as one replica sees them: which accounts it owns.

    Leases do not make a request safe: a replica that wrongly believes that it owns an account costs time,
    but never breaks the rate limit. Methods raise StateUnavailable and StateUnusable, and may have taken
    effect all the same.
    """

    async def heartbeat(
        self, keeps: frozenset[LeaseName], claims: Mapping[LeaseName, AccountClaim], ability: Ability = ABLE
    ) -> LeaseTable:
        """Report that this replica is alive and what it has settings for; return the lease table.

        ``claims``: what it writes for the accounts it owns; ``ability``: how well it can serve accounts.
        It counts as alive for LEASE_TTL_S from some moment after the call on.
        """

    async def take(self, accounts: Collection[LeaseName]) -> Mapping[LeaseName, ReplicaId | None]:
        """Become the owner of accounts; returns those it really became the owner of.

        It can take only accounts that are free or whose owner is dead, and only while it is alive itself.
        Each is returned with its dead owner; None: it was free.
        """

    async def release(self, accounts: Collection[LeaseName]) -> None:
        """Release accounts; harmless for one that this replica no longer owns."""

    async def leave(self) -> None:
        """Release all accounts, leave the group and close; others need not wait for leases to expire."""


class StateBackend(Protocol):
    """An open state, of any engine; all accounts of one process share it."""

    def account(self, account: str, environment: Environment, kind: ExchangeKind) -> AccountStore:
        """Return the store of one account; makes no request to the engine."""

    async def moved(self) -> MmpError | None:
        """Return an error if the state was moved, so that nothing is written to it; None: it was not."""

    def sharing(self, replica: Replica) -> LeaseStore | None:
        """Return the leases as ``replica`` sees them; None if a state has none: it runs all accounts."""

    async def check(self) -> StateCheck:
        """Verify every row of all accounts; changes nothing."""

    async def close(self) -> None:
        """Release all locks and close; harmless when done before."""
