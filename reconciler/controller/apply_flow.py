"""How an apply runs: identify every account, review every first plan, then reconcile.

With one account the review happens inside the pass, under the lock. With several, or when a person must
confirm, all plans are made first: if one is refused, nothing is sent. If the plan of an account is
different under the lock, nothing is sent for that account.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractContextManager, aclosing
from typing import Protocol

from reconciler import factories, logs
from reconciler.controller import apply_errors
from reconciler.controller.account_policy import AccountPolicy, refuse_other
from reconciler.controller.account_preflight import verify_key_owner, warn_of_clock
from reconciler.controller.apply_state import AccountApply, ApplyOptions
from reconciler.controller.dry_run import plan_dry_run
from reconciler.controller.family_globs import no_match
from reconciler.controller.pass_values import Approval, Completed, PassOptions
from reconciler.controller.reconcile import reconcile
from reconciler.controller.shutdown import GracefulShutdown
from reconciler.core import events
from reconciler.core.account_preflight import claim_conflict
from reconciler.core.events import Event, Observe
from reconciler.core.model import Desired
from reconciler.core.plan import Plan, PlanConstraints, digest
from reconciler.core.problems import has_visible_text
from reconciler.core.saved_plan import Reviewed, reviewed
from reconciler.errors import PRECEDENCE, Exit, MmpError
from reconciler.okx.client import OkxTradingClient
from reconciler.okx.exchange_clock import ExchangeClock
from reconciler.ports import StateBackend
from reconciler.watch.last_valid_content import Undecided, WatchedPolicy
from reconciler.watch.write_completion import ReadConfidence


class ApplyView(Protocol):
    """What an apply shows, and the person that it asks."""

    def has_terminal(self) -> bool:
        """Whether a person can be asked."""

    def show_plan(self, run: AccountApply, plan: Plan, *, to_confirm: bool) -> None:
        """Show the first plan of an account; ``to_confirm``: a person is asked about it."""

    def confirm(self, runs: Sequence[AccountApply]) -> bool:
        """Ask whether the first plans of all accounts may be sent."""

    def progress(self, run: AccountApply, log: Observe, *, alone: bool) -> AbstractContextManager[Observe]:
        """Show the progress of an account, from its events; ``alone``: there is no other account."""


class ApplyCommand:
    """One ``mmp apply`` over one or several accounts."""

    def __init__(
        self,
        desired: tuple[Desired, ...],
        policies: tuple[WatchedPolicy, ...],
        options: ApplyOptions,
        view: ApplyView,
    ) -> None:
        self.options = options
        self.view = view
        self.stop = GracefulShutdown()
        self.desired = desired
        self.policies = policies
        self.runs: list[AccountApply] = []
        self.approved = options.yes
        self.answered = False
        """Whether a person was asked and confirmed."""

    async def run(self) -> Exit | None:
        """Apply everything; returns None if there are results, else the exit status: nothing was sent."""
        options, clock = self.options, self.stop.clock
        if options.globs and not any(options.only(one) for one in self.desired):
            what = "desired family" if options.saved is None else "family of the plan"
            raise no_match(options.globs, what=what)
        log = logs.shielded(logs.observer(simulator=options.base.is_simulator))
        async with aclosing(ExchangeClock(log)) as exchange_clock:
            clients = [
                factories.trading_client(one, options.base, clock, exchange_clock) for one in self.desired
            ]
            async with factories.open_state(options.state, clock, options.lock_timeout_s) as state:
                parts = zip(self.desired, self.policies, clients, strict=True)
                self.runs = [self._account(state, *each) for each in parts]
                self.stop.install()
                return await self.stop.run(self._all())

    def _account(
        self, state: StateBackend, desired: Desired, policy: WatchedPolicy, client: OkxTradingClient
    ) -> AccountApply:
        options, clock, environment = self.options, self.stop.clock, desired.environment
        store = state.account(desired.account, environment, options.base.kind)
        if options.saved is not None:
            changes = (options.reviewed or {}).items()
            store.apply_plan(options.saved.id, {family: after for family, (_, after) in changes})
        return AccountApply(
            desired,
            policy,
            AccountPolicy(policy, store, options.given_up),
            clock,
            store,
            client,
            factories.retrying_reads(client, clock, timeout_s=options.timeout_s),
            options.only(desired),
            logs.observer(desired.account, environment.value, simulator=options.base.is_simulator),
        )

    async def _all(self) -> Exit | None:
        if not await self._each(self._identify) or self._claimed_twice():
            return None
        if len(self.runs) > 1 or self._may_ask():
            if not await self._each(self._survey):
                return None
            if (ended := self._ask()) is not None:
                return ended
        await self._each(self._reconcile)
        return None

    def _claimed_twice(self) -> bool:
        """Return whether two files want the same family of one account; then nothing may be sent."""
        problem = claim_conflict([(run.uid, run.desired) for run in self.runs])
        self.runs[0].problem = self.runs[0].problem or problem
        return problem is not None

    async def _each(self, step: Callable[[AccountApply], Coroutine[None, None, None]]) -> bool:
        """Take one step of every account concurrently; True when none of them failed."""
        await asyncio.gather(*(self._guarded(run, step) for run in self.runs))
        return not any(run.problem for run in self.runs)

    async def _guarded(
        self, run: AccountApply, step: Callable[[AccountApply], Coroutine[None, None, None]]
    ) -> None:
        """Take one step of one account; its failure does not affect the other accounts."""
        try:
            await step(run)
        except MmpError as problem:
            run.problem = problem

    async def _identify(self, run: AccountApply) -> None:
        """Ask the exchange which account the key belongs to; then read its policy from the state."""
        saved = self.options.saved
        owner = await verify_key_owner(
            run.desired,
            self.options.base,
            run.reads,
            run.store,
            writing=True,
            observe=run.observe,
            reviewed_uid=saved.uid if saved else None,
        )
        run.uid = owner.uid
        warn_of_clock(run.exchange)
        await run.rules.look_up()
        refuse_other(run.rules.missing, self.options.given_up)
        if run.policy.policy is not None:
            await run.rules.record()

    async def _survey(self, run: AccountApply) -> None:
        """Make one account's plan before any account is written to, and check it against the options."""
        recorded, in_force = await run.store.recorded_inputs(), run.rules.in_force
        run.memory.applied = recorded.applied
        constraints = PlanConstraints(
            policy=in_force.policy,
            policy_unreadable=in_force.unreadable,
            allowed=self.options.allowed,
            only=run.only,
            reviewed=self.options.reviewed,
        )
        plan = await plan_dry_run(
            run.desired,
            recorded,
            await run.store.last_rows(),
            constraints,
            exchange=run.reads if self.options.live else None,
            clock=run.clock,
            assume_idle=self.options.assume_idle,
        )
        self._show(run, plan)
        run.shown = plan
        run.problem = self._check(run, plan)
        run.approved = requests_digest(plan)

    async def _reconcile(self, run: AccountApply) -> None:
        with self.view.progress(run, run.observe, alone=len(self.runs) == 1) as observe:
            run.result = await reconcile(
                lambda: run.desired,
                store=run.store,
                exchange=run.exchange,
                clock=run.clock,
                observe=self._tracked(run, observe),
                options=self._options(run),
                memory=run.memory,
                review=lambda plan: self._review(run, plan),
                stopping=self.stop.requested,
            )
        if isinstance(run.result.end, Completed):
            await run.rules.record()

    def _options(self, run: AccountApply) -> PassOptions:
        return PassOptions(
            purpose="apply",
            live=self.options.live,
            assume_idle=self.options.assume_idle,
            policy=lambda: run.rules.in_force,
            files_settled=lambda: self._files_settled(run),
            allowed=self.options.allowed,
            reason=self.options.reason or "",
            reviewed=self.options.reviewed,
            from_saved_plan=self.options.saved is not None,
            only=run.only,
            timeout_s=self.options.limit_s(eta_s=0.0),
            review_binds=self.answered or self.options.expect is not None,
        )

    async def _files_settled(self, run: AccountApply) -> bool:
        """Read the policy again; False: it has content that is not in force, or may have."""
        try:
            found = run.policy.read()
        except OSError:  # it is no evidence about the policy
            return False
        seen = run.policy.decide(found, ReadConfidence.NEEDS_TWO_READS, run.clock.now())
        if isinstance(seen, events.PolicyAccepted | events.PolicyRejected):
            run.observe(seen)
        await run.rules.record()
        return not isinstance(seen, Undecided | events.PolicyRejected)

    def _review(self, run: AccountApply, plan: Plan) -> Approval | None:
        """Check the first plan against the options; None declines it."""
        if run.first is None:
            self._show(run, plan)
        run.first, run.begun = plan, True
        run.problem = self._check(run, plan, run.approved)
        if run.problem is not None:
            return None
        deadline = run.clock.now() + self.options.limit_s(eta_s=plan.eta_s)
        return Approval(deadline, self._reviewed(run, plan))

    def _reviewed(self, run: AccountApply, plan: Plan) -> Reviewed | None:
        """Return the plan that was reviewed, which limits what is sent; None without a review."""
        if self.answered and run.shown is not None:
            return reviewed(run.shown)
        return None if self.options.expect is None else reviewed(plan)

    def _show(self, run: AccountApply, plan: Plan) -> None:
        run.first = plan
        self.view.show_plan(run, plan, to_confirm=self._may_ask())

    def _check(self, run: AccountApply, plan: Plan, approved: str | None = None) -> MmpError | None:
        """Return why this plan must not be applied with these options; None when it may.

        ``approved`` is the digest of the approved requests, None when none are approved yet. With several
        reasons all are reported, under the code and status of the first. A stale family is a reason only
        beside others: by itself it is skipped.
        """
        found = list(self._problems(run, plan, approved))
        stale = apply_errors.stale_plan(plan, self.options.reviewed or {}, run.memory.applied)
        if found and stale is not None:
            found.append(stale)
        found.sort(key=lambda problem: PRECEDENCE.index(problem.exit_status))
        return apply_errors.join_errors(found)

    def _problems(self, run: AccountApply, plan: Plan, approved: str | None) -> Iterator[MmpError]:
        if plan.overridden and not has_visible_text(self.options.reason or ""):
            yield apply_errors.reason_missing(plan)
        if plan.refusals and run.rules.missing is None:
            yield apply_errors.policy_refusal(plan, run.policy.policy, run.desired.path)
        if self.options.expect is not None and plan.digest != self.options.expect:
            yield apply_errors.unexpected_digest(plan, self.options.expect)
        if approved is not None and requests_digest(plan) != approved:
            yield apply_errors.PLAN_MOVED
        if plan.requests and not self.approved and not self._may_ask():
            yield apply_errors.not_approved(plan)

    def _may_ask(self) -> bool:
        return not self.approved and self.view.has_terminal()

    def _ask(self) -> Exit | None:
        """Ask once for all accounts; returns the exit status if nothing may be sent."""
        if self.stop.status is not None:
            return self.stop.status
        if not self.approved and any(run.first and run.first.requests for run in self.runs):
            if not self.view.confirm(self.runs):
                return Exit.FAILED
            self.answered = True
        self.approved = True
        return None

    def _tracked(self, run: AccountApply, observe: Observe) -> Observe:
        whose, shielded = f"{run.desired.account}/{run.desired.environment}", logs.shielded(observe)

        def track(event: Event) -> None:
            self.stop.track(whose, event)
            shielded(event)

        return track


def requests_digest(plan: Plan) -> str:
    """Hash the requests only. What is merely recorded may be recorded before they are sent."""
    return digest(plan.account, plan.environment, plan.requests)
