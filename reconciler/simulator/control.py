"""The control endpoint: reads and changes the simulated exchange, over HTTP on loopback.

It is not part of the OKX API; its paths begin with ``/_control/``. Control requests are never delayed,
counted, recorded or refused by the rules. This file turns payloads into calls on the exchange and values
into JSON; it does not use HTTP. The docstrings of COMMANDS are in ``docs/reference/simulator.md``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

from reconciler.simulator.accounts import PERMISSIONS, SimAccount
from reconciler.simulator.arrival_log import Arrival, InForce
from reconciler.simulator.behaviour_options import changed_options
from reconciler.simulator.exchange import SimulatedExchange
from reconciler.simulator.faults import parse_fault
from reconciler.simulator.request_parsing import SETTING_FIELDS, setting_from
from reconciler.simulator.unusual_rows import RowForm

CONTROL_PREFIX = "/_control/"
MAX_OUTAGE_S = 3600.0

Payload = Mapping[str, Any]
Command = Callable[[SimulatedExchange, Payload, float], object]


class ControlError(Exception):
    """The control request is invalid; the message has the reason."""


def control(exchange: SimulatedExchange, method: str, name: str, payload: Payload, now: float) -> object:
    """Execute ``method`` ``/_control/name`` and return a JSON value.

    Raises ControlError for an unknown command or a payload that does not fit it.
    """
    command = CONTROL_COMMANDS.get((method, name))
    if command is None:
        known = ", ".join(f"{verb} {path}" for verb, path in CONTROL_COMMANDS)
        raise ControlError(f"no such control command: {method} {name}; there are {known}")
    try:
        return command(exchange, payload, now)
    except KeyError as missing:
        raise ControlError(f"missing or unknown: {missing.args[0]}") from None
    except (TypeError, ValueError, OverflowError) as wrong:
        raise ControlError(str(wrong)) from None


def _arrivals(exchange: SimulatedExchange, _payload: Payload, _now: float) -> object:
    """Return every request that reached the exchange, with its time, verdict and effect."""
    return [_record(one) for one in exchange.arrivals()]


def _settings(exchange: SimulatedExchange, _payload: Payload, now: float) -> object:
    """Return what is in force, by User ID and family, and whether it is frozen."""
    return {
        account.uid: {
            family: {**setting.wire(), "frozen": _frozen(exchange.frozen_until(account.uid, family, now))}
            for family, setting in exchange.settings(account.uid).items()
        }
        for account in exchange.accounts
    }


def _history(exchange: SimulatedExchange, _payload: Payload, _now: float) -> object:
    """Return every setting that was ever in force, by a request or a control request."""
    return [_record(one) for one in exchange.history()]


def _violations(exchange: SimulatedExchange, _payload: Payload, _now: float) -> object:
    """Return three Set MMP requests of one User ID within 10 s, writes while frozen, malformed writes."""
    return [asdict(one) for one in exchange.violations()]


def _rules(exchange: SimulatedExchange, _payload: Payload, _now: float) -> object:
    """Return the options in force."""
    return asdict(exchange.options)


def _accounts(exchange: SimulatedExchange, _payload: Payload, _now: float) -> object:
    """Return the accounts and the permissions of their keys."""
    return [_account_row(account) for account in exchange.accounts]


def _faults(exchange: SimulatedExchange, _payload: Payload, _now: float) -> object:
    """Return how many faults are queued. A fault with ``:always`` counts once."""
    return exchange.faults.pending()


def _forms(exchange: SimulatedExchange, _payload: Payload, _now: float) -> object:
    """Return the families whose rows are not ``plain``, with the form of their rows."""
    return {family: form.value for family, form in exchange.forms().items()}


def _change_forms(exchange: SimulatedExchange, payload: Payload, now: float) -> object:
    """Write the row of ``family`` in ``form`` from now on; ``plain`` is as OKX writes it."""
    form = _text(_only(payload, "family", "form")["form"], "form", tuple(RowForm))
    exchange.set_form(_family(exchange, payload), RowForm(form))
    return _forms(exchange, {}, now)


def _change_settings(exchange: SimulatedExchange, payload: Payload, now: float) -> object:
    """Set ``timeInterval``, ``frozenInterval`` and ``qtyLimit`` of ``family``, or ``"remove": true`` it."""
    fields = _only(payload, "uid", "family", "remove", *SETTING_FIELDS)
    uid, family = _uid(exchange, payload), _family(exchange, payload)
    setting = None
    if fields.get("remove") is not True:
        setting = setting_from({name: fields[name] for name in SETTING_FIELDS})
    exchange.drift(uid, family, setting, now)
    return _settings(exchange, {}, now)


def _freeze(exchange: SimulatedExchange, payload: Payload, now: float) -> object:
    """Freeze ``family`` for ``ms``, 0 until a reset; without ``ms`` for its frozenInterval."""
    ms = _only(payload, "uid", "family", "ms").get("ms")
    if ms is not None and (type(ms) is not int or ms < 0):
        raise ValueError("ms is a whole number of milliseconds; 0 is until reset")
    exchange.freeze(_uid(exchange, payload), _family(exchange, payload), now, ms=ms)
    return _settings(exchange, {}, now)


def _unfreeze(exchange: SimulatedExchange, payload: Payload, now: float) -> object:
    """Unfreeze ``family``."""
    _only(payload, "uid", "family")
    exchange.unfreeze(_uid(exchange, payload), _family(exchange, payload))
    return _settings(exchange, {}, now)


def _fault(exchange: SimulatedExchange, payload: Payload, now: float) -> object:
    """Add a ``fault`` in the syntax of ``--fault``, or remove all with ``"clear": true``."""
    fields = _only(payload, "fault", "clear")
    if fields.get("clear") is True:
        exchange.faults.clear()
    else:
        exchange.inject(parse_fault(fields["fault"]))
    return _faults(exchange, {}, now)


def _outage(exchange: SimulatedExchange, payload: Payload, now: float) -> object:
    """Close every connection without a reply for ``seconds``."""
    seconds = seconds_of(_only(payload, "seconds"))
    exchange.outage(now + seconds)
    return {"seconds": seconds}


def _reset_counters(exchange: SimulatedExchange, payload: Payload, _now: float) -> object:
    """Remove arrivals, history and violations. The rate limits keep their state."""
    _only(payload)
    exchange.forget_records()
    return {}


def _change_rules(exchange: SimulatedExchange, payload: Payload, now: float) -> object:
    """Change the options given by their names."""
    exchange.options = changed_options(exchange.options, payload)
    return _rules(exchange, {}, now)


def _change_accounts(exchange: SimulatedExchange, payload: Payload, now: float) -> object:
    """Change ``level``, ``mmp_privilege``, ``environment``, ``permissions``, ``ip`` or ``passphrase``."""
    fields = _only(payload, "uid", *_ACCOUNT_READERS, *_KEY_READERS)
    account = next(one for one in exchange.accounts if one.uid == _uid(exchange, payload))
    exchange.put_account(_changed_account(account, fields))
    return _accounts(exchange, {}, now)


CONTROL_COMMANDS: dict[tuple[str, str], Command] = {
    ("GET", "arrivals"): _arrivals,
    ("GET", "settings"): _settings,
    ("GET", "history"): _history,
    ("GET", "violations"): _violations,
    ("GET", "rules"): _rules,
    ("GET", "accounts"): _accounts,
    ("GET", "fault"): _faults,
    ("GET", "rows"): _forms,
    ("POST", "settings"): _change_settings,
    ("POST", "freeze"): _freeze,
    ("POST", "unfreeze"): _unfreeze,
    ("POST", "fault"): _fault,
    ("POST", "rows"): _change_forms,
    ("POST", "outage"): _outage,
    ("POST", "reset-counters"): _reset_counters,
    ("POST", "rules"): _change_rules,
    ("POST", "accounts"): _change_accounts,
}


def seconds_of(payload: Payload) -> float:
    """Return ``payload["seconds"]``, 0 to an hour; raises KeyError or ValueError."""
    seconds = payload["seconds"]
    if type(seconds) not in (int, float) or not 0 <= seconds <= MAX_OUTAGE_S:
        raise ValueError(f"seconds is a number from 0 to {MAX_OUTAGE_S:.0f}")
    return float(seconds)


def _changed_account(account: SimAccount, fields: Mapping[str, Any]) -> SimAccount:
    of_key = {name: read(fields[name]) for name, read in _KEY_READERS.items() if name in fields}
    changes = {name: read(fields[name]) for name, read in _ACCOUNT_READERS.items() if name in fields}
    return replace(account, keys=tuple(replace(key, **of_key) for key in account.keys), **changes)


def _texts(value: object, name: str, allowed: tuple[str, ...] = ()) -> list[str]:
    if not isinstance(value, list):
        raise ValueError(f"{name} is a list of strings")
    return [_text(one, name, allowed) for one in value]


def _text(value: object, name: str, allowed: tuple[str, ...] = ()) -> str:
    if not isinstance(value, str) or (allowed and value not in allowed):
        raise ValueError(f"{name}: one of {', '.join(allowed)}" if allowed else f"{name} is a string")
    return value


_KEY_READERS: Mapping[str, Callable[[object], Any]] = {
    "permissions": lambda value: frozenset(_texts(value, "permissions", PERMISSIONS)),
    "ip": lambda value: tuple(_texts(value, "ip")),
    "passphrase": lambda value: _text(value, "passphrase"),
}
_ACCOUNT_READERS: Mapping[str, Callable[[object], Any]] = {
    "level": lambda value: _text(value, "level", ("1", "2", "3", "4")),
    "mmp_privilege": lambda value: value is True,
    "environment": lambda value: _text(value, "environment", ("live", "demo")),
}
"""How the fields of a change of accounts are read: those of each key, and those of the account."""


def _only(payload: Payload, *names: str) -> dict[str, Any]:
    if unknown := sorted(set(payload) - set(names)):
        raise ValueError(f"unknown: {', '.join(unknown)}; there are {', '.join(names) or 'none'}")
    return dict(payload)


def _uid(exchange: SimulatedExchange, payload: Payload) -> str:
    """Return the uid: the named one, or the first that exists."""
    uids = [account.uid for account in exchange.accounts]
    uid = payload.get("uid", uids[0])
    if uid not in uids:
        raise ValueError(f"no such uid: {uid!r}; there are {', '.join(uids)}")
    return str(uid)


def _family(exchange: SimulatedExchange, payload: Payload) -> str:
    family = payload["family"]
    if family not in exchange.families:
        raise ValueError(f"no such family: {family!r}; there are {', '.join(sorted(exchange.families))}")
    return str(family)


def _frozen(until: float | None) -> object:
    if until is None:
        return False
    return "until-reset" if until == math.inf else {"until": until}


def _record(one: Arrival | InForce) -> object:
    return {**asdict(one), "setting": one.setting.wire() if one.setting else None}


def _account_row(account: SimAccount) -> object:
    """Return the account with its keys' rights; secrets are left out although they are fake."""
    keys = [
        {"key_id": key.key_id, "permissions": sorted(key.permissions), "ip": list(key.ip)}
        for key in account.keys
    ]
    return {**asdict(account), "keys": keys}
