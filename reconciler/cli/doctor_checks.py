"""Runs the checks of the doctor: from the file to the state, each check once. No check writes.

``core.doctor`` decides what a check means. This file only collects the results. A check that cannot be
made because an earlier one failed is reported as unchecked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from reconciler import factories
from reconciler.cli.recorded_state import open_recorded_state
from reconciler.clock import SystemClock
from reconciler.config.load import Reading
from reconciler.config.policy import PolicyReading, policy_for
from reconciler.controller.account_policy import missing_error
from reconciler.core import doctor
from reconciler.core.doctor import CheckResult, Purpose
from reconciler.core.model import AccountInfo, Desired
from reconciler.core.pauses import active_pauses
from reconciler.core.problems import Problem
from reconciler.core.reply import Reply
from reconciler.documents.doctor import DoctorReport
from reconciler.errors import InvalidInput, MmpError
from reconciler.okx.client import OkxClient
from reconciler.okx.hints import exchange_error
from reconciler.okx.retrying_reads import RetryingReads
from reconciler.okx.wire import BaseUrl
from reconciler.ports import AccountStore
from reconciler.render.values import count, families
from reconciler.store.location import StateFile, StateLocation
from reconciler.store.sqlite.file_access import group_of

if TYPE_CHECKING:
    from reconciler.cli.doctor import DoctorOptions

ASKED_WITH_THE_KEY = ("host", "clock", "account", "permissions", "mode", "address", "mmp", "families")
"""The queries to the exchange, in this order; after one fails, the rest stay unchecked."""


async def examine(
    reading: Reading, options: DoctorOptions, base: BaseUrl, place: StateLocation
) -> DoctorReport:
    """Examine the account of one file; a problem is a result, never an exception."""
    findings = [_config(reading)]
    if reading.desired is None:
        findings += doctor.skipped(
            ("policy", "credentials", *ASKED_WITH_THE_KEY, "state"), "the file is invalid"
        )
    else:
        findings += await _AccountChecks(reading.desired, options, base, place).results()
    owner = reading.owner
    return DoctorReport(
        path=reading.path,
        account=owner.account if owner else None,
        environment=owner.environment.value if owner else None,
        host=base.host,
        simulator=base.is_simulator,
        findings=tuple(findings),
    )


class _AccountChecks:
    """The checks of one account: the results so far, and the owner of the key once it is known."""

    def __init__(
        self, desired: Desired, options: DoctorOptions, base: BaseUrl, place: StateLocation
    ) -> None:
        self.desired = desired
        self.options = options
        self.base = base
        self.place = place
        self.purpose = Purpose(options.purpose)
        self.clock = SystemClock()
        self.findings: list[CheckResult] = []
        self.info: AccountInfo | None = None
        self._has_policy_file = False

    async def results(self) -> list[CheckResult]:
        """Make every check that can be made."""
        policy = policy_for(self.desired.path, self.options.policy_file)
        self._has_policy_file = policy is not None
        self.findings.append(_policy(policy))
        client = self._client()
        if client is not None:
            await self._ask(client, factories.retrying_reads(client, self.clock))
        try:
            await self._state()
        except MmpError as problem:
            self.findings.append(doctor.failed("state", problem))
        return self.findings

    @property
    def _is_to_be_written(self) -> bool:
        """Whether the state has to be writable: a plan only reads it."""
        return self.purpose is Purpose.APPLY

    def _client(self) -> OkxClient | None:
        try:
            client = factories.reading_client(self.desired, self.base, self.clock)
        except MmpError as problem:
            self._failed("credentials", problem, "there is no usable key", ASKED_WITH_THE_KEY)
            return None
        prefix = self.desired.credentials_prefix
        self.findings.append(doctor.ok("credentials", f"the variables {prefix}… contain a key"))
        return client

    async def _ask(self, client: OkxClient, reads: RetryingReads) -> None:
        """Run the checks that read from the exchange."""
        if await self._host(client, reads):
            await self._account(reads)
            await self._families(client, reads)

    async def _host(self, client: OkxClient, reads: RetryingReads) -> bool:
        host = self.base.host
        unsynced = await reads.sync_clock()
        if unsynced is not None:
            problem = _unreachable(host, unsynced)
            self._failed("host", problem, "the exchange does not answer", ASKED_WITH_THE_KEY[1:])
            return False
        assert client.clock_offset_s is not None, "it was just measured"
        self.findings += [doctor.ok("host", f"{host} answers"), doctor.clock_off(client.clock_offset_s)]
        return True

    async def _account(self, reads: RetryingReads) -> None:
        info = await reads.account()
        if isinstance(info, Reply):
            problem = exchange_error("the account of the key could not be read", info)
            self._failed("account", problem, "the account is not known", ASKED_WITH_THE_KEY[3:-1])
            return
        self.info = info
        may = doctor.permissions(info, purpose=self.purpose, allow_withdraw=self.options.allow_withdraw)
        self.findings += [doctor.ownership(info, self.desired), *may]
        self.findings += [doctor.account_mode(info), doctor.address_binding(info)]
        read = await reads.read_live()
        if isinstance(read, Reply):
            self._failed("mmp", exchange_error("live settings could not be read", read))
        else:
            self.findings += doctor.live_readable(read, self.desired)

    async def _families(self, client: OkxClient, reads: RetryingReads) -> None:
        listed = await reads.retry(client.listed_families)
        if isinstance(listed, Reply):
            sentence = f"not known which exist: {listed.message or listed.code}"
            self.findings.append(doctor.advice("families", sentence))
        else:
            self.findings.append(doctor.families_listed(self.desired, listed))

    async def _state(self) -> None:
        """Check the state without changing it. Raises MmpError if it cannot be used."""
        async with open_recorded_state(self.place, self.clock) as state:
            if self._is_to_be_written:
                await factories.check_state_writable(self.place)
            if state is None:
                self.findings.append(
                    doctor.ok("state", f"none yet at {self.place}; the first apply creates it")
                )
            elif self._is_to_be_written and (moved := await state.moved()) is not None:
                raise moved
            else:
                account, environment = self.desired.account, self.desired.environment
                await self._existing_state(state.account(account, environment, self.base.kind))

    async def _existing_state(self, store: AccountStore) -> None:
        """Report an existing state: its owner, the holder of its lock, and the paused families."""
        if self.info is not None:
            await store.identify(self.info.uid, self.base.host)
        usable = "is undamaged and can be written" if self._is_to_be_written else "is undamaged"
        self.findings.append(doctor.ok("state", f"{self.place} {usable}"))
        if isinstance(self.place, StateFile) and (group := group_of(str(self.place))) is not None:
            self.findings.append(doctor.group_access(group))
        await self._policy_on_record(store)
        holder = await store.lock_holder()
        self.findings.append(doctor.lock_held(None if holder is None else str(holder)))
        pauses = active_pauses(await store.pauses(), self.desired)
        self.findings += doctor.pauses_in_force(pauses, self.clock.wall())

    async def _policy_on_record(self, store: AccountStore) -> None:
        """Replace the result that there is no policy file if a policy is missing."""
        record = None if self._has_policy_file else await store.policy_on_record()
        if record is not None:
            missing = doctor.failed("policy", missing_error(record))
            self.findings = [missing if one.check == "policy" else one for one in self.findings]

    def _failed(self, check: str, problem: MmpError, why: str = "", unchecked: Sequence[str] = ()) -> None:
        self.findings += [doctor.failed(check, problem), *doctor.skipped(unchecked, why)]


def _config(reading: Reading) -> CheckResult:
    path, problems = reading.path, reading.problems
    if reading.desired is None:
        return _broken("config", path, problems)
    sentence = f"{path} is valid: {families(len(reading.desired.families))}"
    if problems:
        warned = f"{sentence}, {count(len(problems), 'warning')}"
        return doctor.advice("config", warned, f"mmp validate {path} shows them")
    return doctor.ok("config", sentence)


def _policy(reading: PolicyReading | None) -> CheckResult:
    if reading is not None and reading.policy is None:
        return _broken("policy", reading.path, reading.problems)
    return doctor.policy_found(reading.policy if reading else None)


def _broken(check: str, path: str, problems: Sequence[Problem]) -> CheckResult:
    errors = [problem for problem in problems if problem.is_error]
    message = f"{path} has {count(len(errors), 'error')}; line {errors[0].line}: {errors[0].message}"
    return doctor.failed(check, InvalidInput(errors[0].code, message, "mmp validate shows all of them"))


def _unreachable(host: str, reply: Reply) -> MmpError:
    problem = exchange_error(f"{host} does not answer as OKX does", reply)
    problem.hint = problem.hint or "check the network, its firewalls, and --base-url"
    return problem
