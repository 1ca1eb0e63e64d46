"""One account of a ``run``: its file, its policy, its key, its part of the state, and its loop.

Accounts are independent. A failure, even a bug, ends the loop of its own account only, and that loop is
started again. Only a state file that cannot be relied on ends the process. In a state that replicas share,
damage stops only the account it concerns: otherwise all replicas would end, one after the other.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from functools import partial

from reconciler.controller.account_policy import AccountPolicy
from reconciler.controller.family_claims import ClaimOwner
from reconciler.controller.loop import STOPPED_RETRY_S, Loop
from reconciler.controller.pass_limiter import LONGEST_WAIT_S
from reconciler.controller.pass_values import PassOptions, unwatched
from reconciler.controller.run_context import RunContext
from reconciler.core.events import Event, LoopFailed, LoopIdle, PolicyAccepted, PolicyRejected
from reconciler.core.model import Desired
from reconciler.core.policy import PolicyInForce
from reconciler.core.replica_assignment import LeaseName, lease_name
from reconciler.core.reply import Reply
from reconciler.core.retry import MAX_BACK_OFF_S, back_off_s
from reconciler.errors import MmpError, StateUnusable, internal_error
from reconciler.okx.client import OkxTradingClient
from reconciler.okx.credentials import credential_files, load_stable
from reconciler.store.location import PostgresUrl
from reconciler.watch.last_valid_content import WatchedFile, WatchedPolicy


class AccountWorker:
    """Runs one account from its settings file. ``report`` is called with every event."""

    def __init__(
        self, file: WatchedFile, policy: WatchedPolicy, context: RunContext, report: Callable[[Event], None]
    ) -> None:
        self.file = file
        self.policy = policy
        self.client: OkxTradingClient | None = None
        """The client with the account's key; None before its loop started."""
        self.options = context.options
        desired, kind = self.desired, context.options.base.kind
        self.store = context.state.account(desired.account, desired.environment, kind)
        self.rules = AccountPolicy(policy, self.store, context.options.given_up)
        self.clock = context.stop.new_clock()
        """The account's own clock: a change of one file wakes no other account."""
        self._context = context
        self._report = report
        self._reported: str | None = None
        self._reported_policy: PolicyRejected | None = None
        self.owned: Callable[[], bool] = lambda: True
        """Whether the account may send: where replicas share the accounts, another may have the lease."""
        self.read_before_sending: Callable[[], Awaitable[bool]] = unwatched
        """Reads file and policy now; returns False if one of them has content that is not in force."""
        self.task: asyncio.Task[None] | None = None
        """The task that runs the account; None while it does not run."""
        self._stop_requested = False

    @property
    def running(self) -> bool:
        """Whether the account runs."""
        return self.task is not None

    @property
    def key(self) -> LeaseName:
        """The name of the account's lease, where there are leases."""
        return lease_name(*self.owner, self.options.base.kind)

    @property
    def desired(self) -> Desired:
        """The content in force."""
        assert self.file.desired is not None, "a worker starts with the first valid file"
        return self.file.desired

    @property
    def clock_offset_s(self) -> float | None:
        """How far the exchange's clock is ahead of this machine's; None until it was measured."""
        return None if self.client is None else self.client.clock_offset_s

    @property
    def owner(self) -> ClaimOwner:
        """The account and its environment, which never change."""
        return (self.desired.account, self.desired.environment)

    @property
    def name(self) -> str:
        """The account and its environment in one word, for tables of accounts."""
        return f"{self.desired.account}/{self.desired.environment.value}"

    @property
    def blocked_by_claim(self) -> bool:
        """Whether another account has claimed a family that this one wants."""
        return self.owner in self._context.claims.denied

    async def read_on_trial(self) -> Reply | None:
        """Read the account live once, without its loop; returns the failure, None if it succeeded.

        Raises AccountProblem if the key cannot be used.
        """
        read = await self._client().read_live()
        return read if isinstance(read, Reply) else None

    def request_stop(self) -> None:
        """Ask the worker to stop; the request in flight is settled first."""
        self._stop_requested = True
        self.clock.wake()

    def should_stop(self) -> bool:
        """Tell whether to stop: the process ends, or another replica has the lease."""
        return self._stop_requested or self._context.stop.requested()

    async def run(self, begin_at: float = float("-inf")) -> None:
        """Run the account from ``begin_at`` until asked to stop. Raises StateUnusable of a state file."""
        failures, self._stop_requested, self._reported, self._reported_policy = 0, False, None, None
        while self.clock.now() < begin_at and not self.should_stop():
            await self._rest(begin_at)
        while not self.should_stop():
            begun_at = self.clock.now()
            try:
                await self._once()
            except MmpError as error:
                if self._ends_everything(error):
                    raise
                failed = error
            except Exception as bug:
                failed = internal_error(bug)
            else:
                continue
            if self.clock.now() - begun_at > MAX_BACK_OFF_S:
                failures, self._reported = 0, None
            await self._wait_after(failed, failures)
            failures += 1

    async def _once(self) -> None:
        """Run the loop; a recovery of the exchange's address ends a wait for it."""
        loop = self._loop()
        with self._context.exchange_clock.address.on_recovery(lambda: self._address_recovered(loop)):
            await loop.run()

    def _address_recovered(self, loop: Loop) -> None:
        """Wake the account if it waits only for the address to work again."""
        if loop.address_recovered():
            self.clock.wake()

    def _ends_everything(self, error: MmpError) -> bool:
        return isinstance(error, StateUnusable) and not isinstance(self.options.state, PostgresUrl)

    async def _wait_after(self, error: MmpError, failures: int) -> None:
        """Back off; the same failure is reported once."""
        # Damage has to be repaired by a person.
        wait_s = STOPPED_RETRY_S if isinstance(error, StateUnusable) else back_off_s(failures)
        retry_at = self.clock.now() + wait_s
        if self._reported != error.message:
            self._report(LoopFailed(error.code, error.message, error.hint, retry_at))
            self._reported = error.message
        await self._rest(retry_at)

    def _observe(self, event: Event) -> None:
        """Report an event of the loop; a failure after it is reported again."""
        self._reported = None
        self._report(event)

    async def _rest(self, until: float) -> None:
        """Wait, and report the time until which no event is expected."""
        self._report(LoopIdle(until))
        await self.clock.sleep_until(until)

    def _loop(self) -> Loop:
        options = self.options
        self.client = self._client()
        return Loop(
            desired=lambda: self.desired,
            store=self.store,
            exchange=self.client,
            clock=self.clock,
            observe=self._observe,
            host=options.base.host,
            options=PassOptions(
                purpose="run",
                heal_breaker=True,
                controller=True,
                live=options.live,
                assume_idle=options.assume_idle,
                drift=options.drift,
                policy=lambda: self.rules.in_force,
                files_settled=self._files_settled,
            ),
            interval_s=options.interval_s,
            stopping=self.should_stop,
            may_start=self.owned,
            pass_permit=self._context.limiter.permit,
            max_start_delay_s=LONGEST_WAIT_S + options.lock_timeout_s,
            claim_families=lambda uid: self._context.claims.claim_families(uid, self.desired),
            prepare=self._look_up_policy,
        )

    async def _files_settled(self) -> bool:
        settled = await self.read_before_sending()
        await self.rules.record()
        return settled

    async def _look_up_policy(self, writing: bool) -> None:
        """Read the policy on record if there is no file; record the one in force if ``writing``."""
        await self.rules.look_up()
        if writing:
            await self.rules.record()
        failing, before = self._policy_failure(), self._reported_policy
        if failing == before:
            return
        self._reported_policy = failing
        if failing is not None:
            self._report(failing)
        elif before is not None and self.rules.in_force == PolicyInForce():
            self._report(PolicyAccepted(before.path, None))

    def _policy_failure(self) -> PolicyRejected | None:
        """Return the problem by the state: a missing policy, or an invalid file with rules on record."""
        refused, judged = self.policy.refused, self.rules.in_force.policy is not None
        if (missing := self.rules.problem) is not None:
            return PolicyRejected(missing.path, (missing,), in_force=judged)
        if refused is not None and not refused.in_force and judged:
            return PolicyRejected(refused.path, refused.problems, in_force=True)
        return None

    def _client(self) -> OkxTradingClient:
        """Return a client that reads its key files again; a key in variables cannot change."""
        desired = self.desired
        load = partial(load_stable, desired.credentials_prefix, os.environ)
        in_files = credential_files(desired.credentials_prefix, os.environ)
        return OkxTradingClient(
            self.options.base,
            desired.environment,
            load(),
            self.clock,
            exchange_clock=self._context.exchange_clock,
            reload=load if in_files else None,
        )
