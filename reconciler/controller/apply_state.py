"""The options of an apply, the state of the apply of one account, and its results and exit status."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from reconciler.clock import SystemClock
from reconciler.controller import pass_values
from reconciler.controller.account_policy import AccountPolicy, missing_error
from reconciler.controller.apply_errors import policy_refusal, timed_out
from reconciler.controller.family_globs import matching_families
from reconciler.core.apply_result import FamilyResult, results, results_exit_status
from reconciler.core.events import Observe
from reconciler.core.missing_policy import GivenUp
from reconciler.core.model import Desired, Family
from reconciler.core.plan import Plan
from reconciler.core.policy import Override
from reconciler.core.problems import escape_unprintable
from reconciler.core.saved_plan import Reviewed, SavedPlan, families_in_scope, reviewed
from reconciler.errors import Exit, InvalidInput, MmpError, overall_status
from reconciler.okx.client import OkxTradingClient
from reconciler.okx.hints import exchange_error
from reconciler.okx.retrying_reads import RetryingReads
from reconciler.okx.wire import BaseUrl
from reconciler.ports import AccountStore
from reconciler.store.location import StateLocation
from reconciler.watch.last_valid_content import WatchedPolicy

DEFAULT_TIMEOUT_EXTRA_S = 300.0
"""Added to a plan's ETA for the default --timeout: room for a few lost replies and back-offs."""


@dataclass(frozen=True, slots=True)
class ApplyOptions:
    """The options on the command line of ``apply``. ``timeout_s`` None means ETA + 5 min.

    ``saved`` is the plan file to be applied as it was reviewed, None when there is none.
    """

    state: StateLocation
    base: BaseUrl
    lock_timeout_s: float
    live: bool
    assume_idle: bool
    yes: bool
    expect: str | None
    timeout_s: float | None
    globs: tuple[str, ...]
    allowed: frozenset[Override]
    reason: str | None
    saved: SavedPlan | None = None
    given_up: GivenUp | None = None

    @property
    def reviewed(self) -> Reviewed | None:
        """The changes that the plan file permits; None when there is none."""
        if self.saved is None:
            return None
        return reviewed(self.saved.plan, frozenset(allow.family for allow in self.allowed))

    def limit_s(self, *, eta_s: float) -> float:
        """Return how long an apply may take whose requests take ``eta_s``."""
        return eta_s + DEFAULT_TIMEOUT_EXTRA_S if self.timeout_s is None else self.timeout_s

    def only(self, desired: Desired) -> frozenset[Family] | None:
        """Return the families to look at; None for all that are desired."""
        named = matching_families(desired, self.globs)
        if self.saved is None:
            return named
        planned = families_in_scope(self.saved.plan)
        return planned if named is None else planned & named


@dataclass(slots=True)
class AccountApply:
    """One account's apply: its parts, the plan it began with, and how it ended.

    ``approved`` is the digest of the requests that a person or --yes approved before the pass began;
    None when the first plan within the pass is the reviewed one. ``begun``: the pass has had its first
    complete plan. ``uid`` is empty until the exchange has returned the owner of the key.
    """

    desired: Desired
    policy: WatchedPolicy
    rules: AccountPolicy
    clock: SystemClock
    store: AccountStore
    exchange: OkxTradingClient
    reads: RetryingReads
    only: frozenset[Family] | None
    observe: Observe
    uid: str = ""
    approved: str | None = None
    begun: bool = False
    memory: pass_values.InMemoryState = field(default_factory=pass_values.InMemoryState)
    first: Plan | None = None
    shown: Plan | None = None
    result: pass_values.PassResult | None = None
    problem: MmpError | None = None

    @property
    def place(self) -> str:
        """The name of the account for people."""
        return f"{self.desired.account} ({self.desired.environment.value})"

    @property
    def remaining_plan(self) -> Plan | None:
        """The last complete plan. The plans of a pass before its first complete one are not sufficient."""
        return self.result.plan if self.result and self.begun else self.first

    @property
    def failure(self) -> MmpError | None:
        """Why this apply did not finish; None when it did, or was stopped by a signal."""
        return self.problem or _pass_error(self)

    @property
    def finished(self) -> bool:
        """Whether everything that could be settled is settled."""
        ended = self.result is not None and isinstance(self.result.end, pass_values.Completed)
        return ended and self.problem is None

    def results(self, signalled: Exit | None, reviewed: Reviewed | None) -> tuple[FamilyResult, ...]:
        """Return the result of every family; ``signalled`` is the status of the signal that stopped it."""
        ended = self.failure.message if self.failure else ""
        return results(
            done=self.memory.done,
            left=self.remaining_plan,
            uncertain=self.result.uncertain if self.result else frozenset(),
            refusals={family: one.reply for family, one in self.memory.rejected.items()},
            attempts=self.memory.attempts,
            ended=ended if signalled is None else "stopped by a signal before its turn",
            chosen=frozenset(self.desired.families) if self.only is None else self.only,
            reviewed=reviewed,
            applied=self.memory.applied,
        )

    def exit_status(self, outcomes: tuple[FamilyResult, ...]) -> Exit:
        """Return the exit status of this account."""
        ended = self.failure.exit_status if self.failure else Exit.DONE
        if self.finished and self.rules.missing is not None:
            return Exit.INVALID  # even after some requests were sent: the policy needs attention first
        return results_exit_status(outcomes, self.remaining_plan, ended)


def _pass_error(run: AccountApply) -> MmpError | None:
    """Return the error of a pass that did not settle everything; None where there is none to report."""
    if run.result is None:
        return None
    match run.result.end:
        case pass_values.Stopped(reply=reply):
            return exchange_error("writing was stopped", reply)
        case pass_values.TimedOut():
            return timed_out(run.result.failing)
        case pass_values.Completed() if (missing := run.rules.missing) is not None:
            return missing_error(missing, _refused_families(run.result.plan))
        case pass_values.Completed():
            return _refused_meanwhile(run, run.result.plan)
        case pass_values.RequeueAt() | pass_values.NotApproved() | pass_values.Interrupted():
            return None


def _refused_meanwhile(run: AccountApply, left: Plan | None) -> MmpError | None:
    """Return what the policy refuses now and did not refuse at the start; None without such a refusal."""
    known = () if run.first is None else run.first.refusals
    if left is None or not set(left.refusals) - set(known):
        return None
    policy = run.policy
    if policy.refused is None:
        if run.only is not None and not left.changes:
            return None  # every refused change is gone from the file, and delayed no request
        return policy_refusal(left, policy.policy, run.desired.path, "some changes were not sent")
    wrong = policy.refused.problems[0]
    held = _refused_families(left)
    return InvalidInput(
        wrong.code,
        f"{escape_unprintable(wrong.path)}:{wrong.line}:{wrong.column}: {wrong.message}; the policy became"
        f" invalid during the run, so changes that loosen or disable were not sent: {held}",
        wrong.hint,
        path=wrong.path,
    )


def _refused_families(plan: Plan | None) -> str:
    """Return the names of the families that the policy refuses to change."""
    return ", ".join(dict.fromkeys(refusal.family for refusal in plan.refusals)) if plan else ""


def combined_status(runs: Sequence[AccountApply], outcomes: Sequence[tuple[FamilyResult, ...]]) -> Exit:
    """Return the status of all accounts: partly, once one settled a family and another is not done.

    It is the status of an invalid file if policies are missing and nothing else is wrong.
    """
    statuses = [run.exit_status(results) for run, results in zip(runs, outcomes, strict=True)]
    if len(statuses) == 1:
        return statuses[0]
    missing = all(run.rules.missing for run in runs if run.exit_status(()) is Exit.INVALID)
    if missing and Exit.INVALID in statuses and set(statuses) <= {Exit.DONE, Exit.INVALID}:
        return Exit.INVALID
    settled = any(result.settled_now for of_account in outcomes for result in of_account)
    if Exit.PARTLY in statuses or (settled and set(statuses) != {Exit.DONE}):
        return Exit.PARTLY
    return overall_status(statuses)
