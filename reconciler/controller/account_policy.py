"""The policy of one account: its watched file, and the policy on record in the state.

The file counts as long as there is one. Without a file, the policy on record counts as missing: its rules
apply, and nothing is loosened. ``--no-policy`` gives up that policy and no other.
"""

from __future__ import annotations

from reconciler import logs
from reconciler.config.policy import recorded_policy
from reconciler.core.history_records import PolicyRecord
from reconciler.core.missing_policy import GivenUp, missing_hint, missing_message, missing_problem
from reconciler.core.policy import Policy, PolicyInForce
from reconciler.core.problems import Problem
from reconciler.errors import ChangeRefused, InvalidInput
from reconciler.ports import AccountStore
from reconciler.watch.last_valid_content import WatchedPolicy


class AccountPolicy:
    """Which policy applies to an account. Nothing is on record before ``look_up``."""

    def __init__(self, file: WatchedPolicy, store: AccountStore, given_up: GivenUp | None = None) -> None:
        self._file = file
        self._store = store
        self._given_up = given_up
        self._recorded: str | None = None
        self._found: PolicyRecord | None = None
        """The policy on record; None: no policy on record applies."""
        self._remembered: Policy | None = None

    @property
    def in_force(self) -> PolicyInForce:
        """The policy that applies now, and whether its file cannot be read or is missing."""
        file = self._file.in_force
        record = self._on_record()
        if file.policy is not None or record is None:
            return file
        return PolicyInForce(self._remembered, unreadable=True, missing=not file.unreadable)

    @property
    def missing(self) -> PolicyRecord | None:
        """The policy on record whose file is missing; None: no policy is missing."""
        return self._found if self.in_force.missing else None

    @property
    def problem(self) -> Problem | None:
        """The problem to report while the policy is missing; None: it is not missing."""
        if (record := self.missing) is None:
            return None
        return missing_problem(record, other=self._given_up, judged=self._remembered is not None)

    async def look_up(self) -> None:
        """Read the policy on record if there is no policy file; on each call while the file is missing."""
        if self._file.policy is not None:
            return
        self._found = await self._store.policy_on_record()
        self._remembered = remembered(self._found)

    async def record(self) -> None:
        """Record the policy in force, or that it was given up, unless that is on record already."""
        file = self._file
        if file.policy is not None:
            if file.refused is None and self._recorded != file.policy.sha256:
                await self._store.record_policy(file.policy.sha256, file.policy.path, file.document)
                self._recorded, self._found, self._remembered = file.policy.sha256, None, None
        elif self._found is not None and self._on_record() is None:
            await self._give_up(self._found)

    async def _give_up(self, record: PolicyRecord) -> None:
        assert self._given_up is not None, "else the policy counts"
        if await self._store.give_up_policy(record.sha256, self._given_up.reason):
            reason = self._given_up.reason
            logs.log("warning", "policy given up", path=record.path, sha256=record.sha256, reason=reason)
            self._found = None
        else:
            await self.look_up()

    def _on_record(self) -> PolicyRecord | None:
        """Return the policy on record, unless ``--no-policy`` names it."""
        found, given_up = self._found, self._given_up
        return None if found is not None and given_up is not None and given_up.names(found) else found


def remembered(record: PolicyRecord | None) -> Policy | None:
    """Return the rules of a policy on record; None if this version cannot read them."""
    return None if record is None else recorded_policy(record.sha256, record.path, record.document)


def missing_error(record: PolicyRecord, held: str = "") -> InvalidInput:
    """Return the failure of a command that found no policy file, naming the families that are ``held``."""
    refused = f", and changes that the policy refuses were not sent: {held}" if held else ""
    hint = missing_hint(record)
    return InvalidInput("policy-missing", missing_message(record) + refused, hint, path=record.path)


def refuse_other(record: PolicyRecord | None, given_up: GivenUp | None) -> None:
    """Raise ChangeRefused if ``--no-policy`` names another policy than the missing one."""
    if record is None or given_up is None or given_up.names(record):
        return
    raise ChangeRefused(
        "no-policy-other",
        f"nothing was sent: --no-policy names {given_up.sha256}, but {missing_message(record)}",
        missing_hint(record),
        path=record.path,
    )
