"""Behaviour that OKX does not document, as options: the simulated exchange can show either one.

Every field is one open question; the defaults are the stricter answer where one is stricter. The table in
``behaviour_sources`` names the field that selects each behaviour.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any


class RateMode(StrEnum):
    """How "2 requests per 10 s" on Set MMP is counted [unknown]."""

    SLIDING = "sliding"
    FIXED = "fixed"
    NO_BURST = "no-burst"


class LimitStatus(StrEnum):
    """The HTTP status of a 50011; both are documented and seen."""

    AS_200 = "200"
    AS_429 = "429"
    ALTERNATE = "alternate"


class NumberForm(StrEnum):
    """How a quantity comes back in echoes and reads [unknown]: "100" as "100" or as "100.0"."""

    AS_SENT = "as-sent"
    SHORTEST = "shortest"
    DECIMAL = "decimal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """One choice of answers to the open questions. Times in seconds."""

    rate: RateMode = RateMode.SLIDING
    count_refused: bool = True
    limit_status: LimitStatus = LimitStatus.ALTERNATE
    read_delay_s: float = 0.0
    list_disabled: bool = True
    list_unconfigured: bool = False
    numbers: NumberForm = NumberForm.AS_SENT
    set_unfreezes: bool = False
    account_mode_code: str = "51010"
    no_privilege_code: str = "50030"
    clock_skew_s: float = 0.0


def changed_options(options: Options, changes: Mapping[str, object]) -> Options:
    """Return ``options`` with ``changes`` by field name.

    Raises ValueError for an unknown name or a value that is not of the field's type.
    """
    known = {field.name for field in fields(Options)}
    if unknown := sorted(set(changes) - known):
        raise ValueError(f"no such option: {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    # The type of each value was just checked, which a dict cannot express.
    values: dict[str, Any] = {
        name: _like(getattr(options, name), value, name) for name, value in changes.items()
    }
    return replace(options, **values)


def _like(current: object, value: object, name: str) -> bool | float | str:
    match current, value:
        case bool(), bool():
            return value
        case float(), int() | float() if not isinstance(value, bool):
            return float(value)
        case StrEnum(), str():
            return type(current)(value)
        case str(), str():
            return value
        case _:
            raise ValueError(f"{name} cannot be {value!r}")
