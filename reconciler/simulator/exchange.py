"""The rules of the simulated exchange: no sockets, no threads, no clock.

This is one mutable object. Every method that needs the time receives ``now``: seconds since the epoch by
a true clock that never goes back (the exchange's own UTC is ``now + clock_skew_s``). The same calls in
the same order give the same replies, so a seed determines the history.
:meth:`SimulatedExchange.handle` takes HTTP requests with every check; the methods named after endpoints
skip only the signature.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from operator import itemgetter
from typing import assert_never

from reconciler.simulator.accounts import KeyOwner, SimAccount
from reconciler.simulator.arrival_log import (
    MAX_RECORDS,
    Arrival,
    InForce,
    Violation,
    find_violations,
    verdict_of,
)
from reconciler.simulator.authentication import authenticate, authorise
from reconciler.simulator.behaviour_options import LimitStatus, NumberForm, Options
from reconciler.simulator.codes import refuse
from reconciler.simulator.family_state import SimulatedFamily
from reconciler.simulator.faults import NO_FAULT, OUTAGE, FaultScript, ScriptedFault, apply_fault
from reconciler.simulator.http_messages import (
    ReplyEnvelope,
    SimOutcome,
    SimReply,
    SimRequest,
    SimRow,
    render,
)
from reconciler.simulator.limits import Rates
from reconciler.simulator.request_parsing import (
    PUBLIC,
    Endpoint,
    MmpSetting,
    ParsedRequest,
    find_endpoint,
    parse,
    set_request,
)
from reconciler.simulator.unusual_rows import RowForm, numbers_in, rows_in

DEFAULT_FAMILIES = ("BTC-USD", "BTC-USD_UM", "ETH-USD", "ETH-USD_UM", "SOL-USD_UM", "XAU-USD_UM")
"""The option families seen in 2026 [seen]."""

UNCONFIGURED = MmpSetting("0", "0", "0")
"""How a never-configured family is listed, where it is listed at all [unknown]."""


@dataclass(frozen=True, slots=True)
class RequestContext:
    """One request while the rules process it. ``refusal`` is that of its authentication."""

    parsed: ParsedRequest
    owner: KeyOwner | None
    refusal: ReplyEnvelope | None
    at: float
    remote: str = "127.0.0.1"

    @property
    def uid(self) -> str:
        """The caller's User ID, empty when the key is unknown."""
        return self.owner.account.uid if self.owner else ""


class SimulatedExchange:
    """The exchange: accounts, families, their settings and freezes, and the record of what happened."""

    def __init__(
        self,
        accounts: Iterable[SimAccount],
        *,
        families: Iterable[str] = DEFAULT_FAMILIES,
        options: Options = Options(),  # noqa: B008 - immutable
    ) -> None:
        self.options = options
        self.families = set(families)
        self.faults = FaultScript()
        self._forms: dict[str, RowForm] = {}
        self._accounts: dict[str, SimAccount] = {}
        self._owners: dict[str, KeyOwner] = {}
        self._family_states: dict[tuple[str, str], SimulatedFamily] = {}
        self._rates = Rates()
        self._arrivals: deque[Arrival] = deque(maxlen=MAX_RECORDS)
        self._in_force: deque[InForce] = deque(maxlen=MAX_RECORDS)
        self._number = 0
        self._limited = 0
        self._latest = -math.inf
        self._outage_until = -math.inf
        for account in accounts:
            self.put_account(account)

    # The OKX API -----------------------------------------------------------------------------

    def handle(self, request: SimRequest, now: float) -> SimReply:
        """Answer one HTTP request that arrived at ``now``, with every check, as bytes."""
        endpoint = find_endpoint(request.method, request.path)
        if isinstance(endpoint, ReplyEnvelope):
            return render(SimOutcome(endpoint))
        parsed, owner, refusal = parse(endpoint, request), None, None
        if endpoint not in PUBLIC:
            owner = self._owners.get(request.header("OK-ACCESS-KEY"))
            refusal = authenticate(request, owner, now + self.options.clock_skew_s)
        return render(self._serve(RequestContext(parsed, owner, refusal, now, request.remote)))

    def set_mmp(self, key_id: str, family: str, setting: MmpSetting, now: float) -> SimOutcome:
        """Set MMP without the signature: the same limits, faults, checks and effects."""
        return self._serve_unsigned(key_id, set_request(family, setting), now)

    def get_mmp(self, key_id: str, now: float, family: str | None = None) -> SimOutcome:
        """Get MMP Config without the signature; every configured family, or the one named."""
        return self._serve_unsigned(key_id, ParsedRequest(Endpoint.GET, family), now)

    def reset_mmp(self, key_id: str, family: str, now: float) -> SimOutcome:
        """Reset MMP Status without the signature."""
        return self._serve_unsigned(key_id, ParsedRequest(Endpoint.RESET, family), now)

    def account_config(self, key_id: str, now: float) -> SimOutcome:
        """Account configuration without the signature."""
        return self._serve_unsigned(key_id, ParsedRequest(Endpoint.ACCOUNT), now)

    def public_time(self, now: float, remote: str = "127.0.0.1") -> SimOutcome:
        """Return the exchange's time; counted by address."""
        return self._serve(RequestContext(ParsedRequest(Endpoint.TIME), None, None, now, remote))

    # The state behind the API ----------------------------------------------------------------

    @property
    def accounts(self) -> tuple[SimAccount, ...]:
        """Every account, by uid."""
        return tuple(self._accounts[uid] for uid in sorted(self._accounts))

    def put_account(self, account: SimAccount) -> None:
        """Add an account, or replace the one with the same uid and all its keys."""
        self._accounts[account.uid] = account
        others = {key: one for key, one in self._owners.items() if one.account.uid != account.uid}
        self._owners = others | {key.key_id: KeyOwner(key, account) for key in account.keys}

    def seed_setting(self, uid: str, family: str, setting: MmpSetting) -> None:
        """Put ``setting`` in force from the beginning: the state before the first event."""
        self.families.add(family)
        self._family_states[uid, family] = SimulatedFamily(setting)

    def drift(self, uid: str, family: str, setting: MmpSetting | None, now: float) -> None:
        """Change a setting without a request; None removes it, as demo resets do [doc]."""
        self._put_in_force(uid, family, setting, self._tick(now), "control")

    def freeze(self, uid: str, family: str, now: float, *, ms: int | None = None) -> None:
        """Freeze a family for ``ms`` from ``now``; 0 is until reset, None the interval of its setting."""
        state = self._family_state(uid, family)
        if ms is None:
            ms = int(state.in_force.frozen_interval) if state.in_force else 0
        state.freeze(self._tick(now) + ms / 1000 if ms else math.inf)

    def unfreeze(self, uid: str, family: str) -> None:
        """End a freeze without a request, as at the end of its interval."""
        self._family_state(uid, family).unfreeze()

    def set_form(self, family: str, form: RowForm) -> None:
        """Write the family's row in ``form`` from now on, for every account."""
        self._forms[family] = form

    def forms(self) -> dict[str, RowForm]:
        """Return the families whose rows are not plain, and how they are written."""
        odd = {family: form for family, form in self._forms.items() if form is not RowForm.PLAIN}
        return dict(sorted(odd.items()))

    def inject(self, scripted: ScriptedFault) -> None:
        """Queue a fault."""
        self.faults.add(scripted)

    def outage(self, until: float) -> None:
        """Answer nothing before ``until``; requests until then still count as arrived."""
        self._outage_until = until

    # The record ------------------------------------------------------------------------------

    def arrivals(self) -> tuple[Arrival, ...]:
        """Return every request that reached the exchange, in the order of processing."""
        return tuple(self._arrivals)

    def history(self) -> tuple[InForce, ...]:
        """Return every setting put in force since the beginning, oldest first."""
        return tuple(self._in_force)

    def settings(self, uid: str) -> dict[str, MmpSetting]:
        """Return what is really in force, by family; never-configured families are missing."""
        owned = ((family, state) for (owner, family), state in self._family_states.items() if owner == uid)
        in_force = ((family, state.in_force) for family, state in sorted(owned, key=itemgetter(0)))
        return {family: setting for family, setting in in_force if setting is not None}

    def frozen_until(self, uid: str, family: str, now: float) -> float | None:
        """Return when the family's freeze ends (infinity: at a reset), None when it is not frozen."""
        state = self._family_states.get((uid, family))
        return state.frozen_until(now) if state else None

    def violations(self) -> tuple[Violation, ...]:
        """Return the violations in the record."""
        return find_violations(self._arrivals)

    def forget_records(self) -> None:
        """Clear the record. The rate limits keep their state: clearing must not relax them."""
        self._arrivals.clear()
        self._in_force.clear()

    # One request through the rules -----------------------------------------------------------

    def _serve_unsigned(self, key_id: str, parsed: ParsedRequest, now: float) -> SimOutcome:
        owner = self._owners.get(key_id)
        return self._serve(RequestContext(parsed, owner, None if owner else refuse("50119"), now))

    def _serve(self, context: RequestContext) -> SimOutcome:
        parsed, now = context.parsed, self._tick(context.at)
        family, uid = parsed.family, context.uid
        frozen = family is not None and self.frozen_until(uid, family, now) is not None
        over = self._count(context)
        fault = OUTAGE if now < self._outage_until else self.faults.take(parsed.endpoint, family)
        genuine = None
        if fault is None or fault.effect:
            genuine = self._refusal(context, over=over) or self._execute(context, now)
        outcome = apply_fault(fault or NO_FAULT, genuine, parsed)
        self._record(context, outcome, applied=genuine is not None and genuine.accepted, frozen=frozen)
        return outcome

    def _refusal(self, context: RequestContext, *, over: bool) -> ReplyEnvelope | None:
        parsed, owner, family = context.parsed, context.owner, context.parsed.family
        return (
            context.refusal
            or (owner and authorise(parsed.endpoint, owner, self.options))
            or (self._too_many() if over else None)
            or parsed.refusal
            or (refuse("51001") if family is not None and family not in self.families else None)
        )

    def _too_many(self) -> ReplyEnvelope:
        self._limited += 1
        as_429 = self.options.limit_status is LimitStatus.AS_429 or (
            self.options.limit_status is LimitStatus.ALTERNATE and self._limited % 2 == 0
        )
        return refuse("50011", status=429 if as_429 else 200)

    def _count(self, context: RequestContext) -> bool:
        """Count the arrival against its budget; return whether it is over the limit."""
        endpoint, options = context.parsed.endpoint, self.options
        budget = context.remote if endpoint in PUBLIC else context.uid
        # An unknown key has no User ID whose budget could be used up.
        return bool(budget) and self._rates.arrive(
            endpoint, budget, context.at, mode=options.rate, count_refused=options.count_refused
        )

    def _execute(self, context: RequestContext, now: float) -> ReplyEnvelope:
        parsed = context.parsed
        match parsed.endpoint:
            case Endpoint.SET:
                return self._set(context.uid, parsed, now)
            case Endpoint.RESET:
                self._family_state(context.uid, parsed.family or "").unfreeze()
                return ReplyEnvelope("0", data=({"result": True},))
            case Endpoint.GET:
                return ReplyEnvelope("0", data=self._rows(context.uid, parsed.family, now))
            case Endpoint.ACCOUNT:
                assert context.owner is not None, "authentication admits only known keys"
                return ReplyEnvelope("0", data=(_account_row(context.owner),))
            case Endpoint.TIME:
                return ReplyEnvelope("0", data=({"ts": self._milliseconds(context.at)},))
            case Endpoint.UNDERLYING:
                return ReplyEnvelope("0", names=tuple(sorted({*map(underlying_of, self.families)})))
            case Endpoint.INSTRUMENTS:
                return ReplyEnvelope("0", data=self._instruments(parsed.underlying))
            case _ as never:
                assert_never(never)

    def _set(self, uid: str, parsed: ParsedRequest, now: float) -> ReplyEnvelope:
        assert parsed.family is not None, "a Set without refusal has both"
        assert parsed.setting is not None, "a Set without refusal has both"
        self._put_in_force(uid, parsed.family, parsed.setting, now, "set")
        if self.options.set_unfreezes:
            self._family_state(uid, parsed.family).unfreeze()
        row = self._setting_row(parsed.family, parsed.setting)
        return ReplyEnvelope("0", data=(numbers_in(self._form(parsed.family), row),))

    def _rows(self, uid: str, only: str | None, now: float) -> tuple[SimRow, ...]:
        families = sorted(self.families) if only is None else [only]
        rows = ((family, self._row(uid, family, now)) for family in families)
        return tuple(
            written
            for family, row in rows
            if row is not None
            for written in rows_in(self._form(family), row, of_all=only is None)
        )

    def _form(self, family: str) -> RowForm:
        return self._forms.get(family, RowForm.PLAIN)

    def _row(self, uid: str, family: str, now: float) -> SimRow | None:
        state = self._family_states.get((uid, family)) or SimulatedFamily()
        setting = state.seen(now - self.options.read_delay_s)
        if setting is None and self.options.list_unconfigured:
            setting = UNCONFIGURED
        elif setting is None or (setting.time_interval == "0" and not self.options.list_disabled):
            return None
        until = state.frozen_until(now)
        return {
            **self._setting_row(family, setting),
            "mmpFrozen": until is not None,
            "mmpFrozenUntil": "" if until is None or until == math.inf else self._milliseconds(until),
        }

    def _instruments(self, underlying: str | None) -> tuple[SimRow, ...]:
        """Return one option of every family of ``underlying`` (None: of all)."""
        return tuple(
            {
                "instFamily": family,
                "instId": f"{family}-271231-100000-C",
                "instType": "OPTION",
                "state": "live",
                "uly": underlying_of(family),
            }
            for family in sorted(self.families)
            if underlying in (None, underlying_of(family))
        )

    def _setting_row(self, family: str, setting: MmpSetting) -> SimRow:
        return {
            "frozenInterval": setting.frozen_interval,
            "instFamily": family,
            "qtyLimit": format_number(setting.qty_limit, self.options.numbers),
            "timeInterval": setting.time_interval,
        }

    # State -----------------------------------------------------------------------------------

    def _tick(self, now: float) -> float:
        """Return the exchange's time for effects, which never goes back even if arrivals do."""
        self._latest = max(self._latest, now)
        return self._latest

    def _family_state(self, uid: str, family: str) -> SimulatedFamily:
        return self._family_states.setdefault((uid, family), SimulatedFamily())

    def _put_in_force(
        self, uid: str, family: str, setting: MmpSetting | None, at: float, cause: str
    ) -> None:
        self._family_state(uid, family).change(setting, at)
        self._in_force.append(InForce(at, uid, family, setting, cause))

    def _record(self, context: RequestContext, outcome: SimOutcome, *, applied: bool, frozen: bool) -> None:
        self._number += 1
        parsed, verdict = context.parsed, verdict_of(outcome.reply)
        setting, at = parsed.setting, context.at
        arrival = Arrival(
            self._number, context.uid, parsed.endpoint, at, parsed.family, setting, verdict, applied, frozen
        )
        self._arrivals.append(arrival)

    def _milliseconds(self, at: float) -> str:
        return str(round((at + self.options.clock_skew_s) * 1000))


def underlying_of(family: str) -> str:
    """Return the underlying of a family: ``BTC-USD_UM`` is of ``BTC-USD``, as far as observed."""
    return family.partition("_")[0]


def format_number(quantity: str, form: NumberForm) -> str:
    """Return ``quantity`` in the form in which the exchange returns it."""
    if form is NumberForm.AS_SENT:
        return quantity
    shortest = format(Decimal(quantity), "f")
    if "." in shortest:
        shortest = shortest.rstrip("0").rstrip(".")
    return shortest if form is NumberForm.SHORTEST or "." in shortest else f"{shortest}.0"


def _account_row(owner: KeyOwner) -> SimRow:
    account, key = owner.account, owner.key
    return {
        "acctLv": account.level,
        "ip": ",".join(key.ip),
        "label": key.label,
        "mainUid": account.main_uid,
        "perm": ",".join(sorted(key.permissions)),
        "uid": account.uid,
    }
