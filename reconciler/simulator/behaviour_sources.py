"""Everything the simulated exchange does, and the source of each behaviour.

documented: OKX documents it. assumed: OKX does not document it; other clients observed it, or a choice was
necessary and the program does not depend on it. unknown: it matters and is not documented; the option
selects the other behaviour. ``docs/reference/simulator.md`` shows this table.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class DocStatus(StrEnum):
    """The source of a simulated behaviour."""

    DOCUMENTED = "documented"
    ASSUMED = "assumed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Behaviour:
    """One row. ``option`` is the field of ``Options`` that selects another behaviour; empty: none."""

    name: str
    status: DocStatus
    simulated: str
    option: str = ""


_DOC, _ASSUMED, _UNKNOWN = DocStatus.DOCUMENTED, DocStatus.ASSUMED, DocStatus.UNKNOWN

BEHAVIOURS: tuple[Behaviour, ...] = (
    Behaviour("unknown path", _ASSUMED, "HTTP 404, code 404"),
    Behaviour("wrong method", _DOC, "50115"),
    Behaviour("missing key header", _DOC, "50103"),
    Behaviour("unknown key or wrong region", _DOC, "50119 with HTTP 401, before the signature is checked"),
    Behaviour("missing signature, timestamp or passphrase header", _DOC, "50106, 50107, 50104"),
    Behaviour("live key with x-simulated-trading: 1, or demo key without", _DOC, "50101"),
    Behaviour("x-simulated-trading neither 1, 0 nor missing", _ASSUMED, "50101"),
    Behaviour("malformed timestamp", _DOC, "50112; only the form 2020-12-08T09:08:57.715Z is accepted"),
    Behaviour("timestamp more than 30 s off", _DOC, "50102, either way, by the exchange's own clock"),
    Behaviour("the exchange's clock is off", _ASSUMED, "a fixed number of seconds", "clock_skew_s"),
    Behaviour("caller's address not bound to the key", _DOC, "50110, with the key id in the message"),
    Behaviour("wrong passphrase", _DOC, "50105"),
    Behaviour("wrong signature", _DOC, "50113, over exactly the bytes sent"),
    Behaviour("content type not JSON on a POST", _DOC, "50006"),
    Behaviour("order of the checks", _ASSUMED, "as in this table"),
    Behaviour("key without the permission", _DOC, "50120; seen with HTTP 401"),
    Behaviour(
        "not in portfolio margin", _UNKNOWN, "51010, on all three MMP endpoints", "account_mode_code"
    ),
    Behaviour("no MMP privilege", _UNKNOWN, "50030 on Set and Get", "no_privilege_code"),
    Behaviour("no MMP privilege on Reset", _DOC, "59509"),
    Behaviour("Set MMP: 2 per 10 s per User ID", _DOC, "50011 beyond; by arrival time"),
    Behaviour("how the 2 per 10 s are counted", _UNKNOWN, "in a sliding window", "rate"),
    Behaviour("whether calls over the limit count", _UNKNOWN, "they count", "count_refused"),
    Behaviour("whether calls refused for another reason count", _UNKNOWN, "they count, always"),
    Behaviour("HTTP status of 50011", _DOC, "200 and 429 in turn", "limit_status"),
    Behaviour("Get, Reset, account config: 5 per 2 s per User ID", _DOC, "50011 beyond; sliding"),
    Behaviour("public time: 10 per 2 s per address", _DOC, "50011 beyond; sliding"),
    Behaviour(
        "public underlying and instruments: 20 per 2 s per address", _DOC, "50011 beyond; sliding each"
    ),
    Behaviour("public underlying", _DOC, "a list of the families' underlyings inside the list of data"),
    Behaviour("public instruments", _DOC, "one option of every family; uly narrows to one underlying"),
    Behaviour("the underlying of a family", _ASSUMED, "the part before _: BTC-USD_UM is of BTC-USD"),
    Behaviour("public instruments of an unknown underlying", _UNKNOWN, "empty data"),
    Behaviour("empty body", _DOC, "50000"),
    Behaviour("body not one strict JSON object", _DOC, "50002; duplicate keys and NaN too"),
    Behaviour("field missing or empty", _DOC, "50014"),
    Behaviour("value not a string, or a field too many", _ASSUMED, "51000"),
    Behaviour("interval not a whole number of at most 10 digits", _ASSUMED, "51000"),
    Behaviour("qtyLimit not a decimal greater than 0", _DOC, "51000"),
    Behaviour("family unknown", _DOC, "51001"),
    Behaviour("whether Set accepts _UM families", _UNKNOWN, "it does, if --families has them"),
    Behaviour("query on an endpoint that has none", _ASSUMED, "51000"),
    Behaviour("Set replaces the family's complete setting", _DOC, "at once; other families are untouched"),
    Behaviour("Set echoes the setting", _DOC, "one row in data"),
    Behaviour("how numbers come back", _UNKNOWN, "as they were sent", "numbers"),
    Behaviour("how soon a read sees a write", _UNKNOWN, "at once", "read_delay_s"),
    Behaviour("a disabled family in Get", _UNKNOWN, "listed with timeInterval 0", "list_disabled"),
    Behaviour(
        "a never-configured family in Get", _UNKNOWN, "missing; listed as zeroes", "list_unconfigured"
    ),
    Behaviour("Get of one family without a row", _UNKNOWN, "empty data"),
    Behaviour("frozenInterval 0 freezes until Reset", _DOC, "mmpFrozenUntil is then empty"),
    Behaviour("mmpFrozenUntil otherwise", _ASSUMED, "milliseconds since the epoch"),
    Behaviour("what makes a family freeze", _ASSUMED, "the control endpoint; there are no trades"),
    Behaviour("Set on a frozen family", _UNKNOWN, "takes effect and does not unfreeze", "set_unfreezes"),
    Behaviour("Reset MMP Status", _DOC, "unfreezes; result true, also when nothing was frozen"),
    Behaviour("settings change outside mmp", _DOC, "on a control request; demo resets delete them"),
    Behaviour("gateway errors have no data", _DOC, "codes 50xxx"),
    Behaviour("outcome unknown after 50004", _DOC, "scripted, with or without effect"),
    Behaviour(
        "outcome unknown after 50026 and broken replies", _ASSUMED, "scripted, with or without effect"
    ),
    Behaviour("a request that fails by script has arrived", _ASSUMED, "it counts against the rate"),
    Behaviour(
        "whether Set wraps refusals in code 1 or 2",
        _UNKNOWN,
        "it does not; scripted, with the family in the row where it took effect, without where not",
    ),
    Behaviour(
        "whether a list of all families can leave out one that its own read shows",
        _UNKNOWN,
        "it does not; a control request makes it do so",
    ),
    Behaviour(
        "names in another case or width, rows without a name, JSON numbers, exponents, null",
        _UNKNOWN,
        "never sent; a control request selects each, one family at a time",
    ),
    Behaviour("Retry-After", _ASSUMED, "3 s, on scripted pages of 429 and 503 only"),
    Behaviour("headers that gateways add", _ASSUMED, "none; scripted: 100 KiB in a line, 300 lines, 2 MB"),
)
