"""OKX's reply codes: what each one means for a request of ours, and what the user can do.

One row per code. The class states the conclusion: certainly refused, or not known. A code that is not in
the table is AMBIGUOUS: it is treated as if the request had taken effect, because nothing proves that it did
not. This file has facts only; ``core/reply.py`` decides what follows from a class.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from reconciler.core.reply import READ_AGAIN, READ_BACK, ReplyClass

ACCEPTED_CODE = "0"

REGION_HOSTS = ("openapi.okx.com", "eea.okx.com", "us.okx.com", "tr.okx.com")
"""The hosts of OKX's regions; a key of one region does not exist at the hosts of another [doc]."""


class FactSource(StrEnum):
    """Where a code's class comes from."""

    DOCUMENTED = "documented"
    """OKX's error table states it explicitly."""
    ASSUMED = "assumed"
    """OKX documents the code; the class is our cautious reading."""


@dataclass(frozen=True, slots=True)
class CodeFact:
    """One code: its class, its meaning in our words, what to fix, and where the class comes from."""

    code: str
    reply_class: ReplyClass
    meaning: str
    advice: str
    source: FactSource

    @property
    def advice_on_reads(self) -> str:
        """What to do if a read gets this code: a read changes nothing, whatever a write may have done."""
        return READ_AGAIN if self.reply_class is ReplyClass.AMBIGUOUS else self.advice


def lookup(code: str) -> CodeFact:
    """Return the row of ``code``; an unknown one is AMBIGUOUS.

    OKX refines some codes with a sub-code (``51008_1000``) [doc]: the part before ``_`` decides. Only
    a plain 0 is an acceptance.
    """
    base = code.partition("_")[0]
    return TABLE.get(code) or (TABLE.get(base) if base != ACCEPTED_CODE else None) or _unknown(code)


_WAIT = "Nothing to do: mmp tries again after a pause."
_SETTINGS = "Correct this family in the settings file. Other families are not affected."
_COUNTRY = "Remove the family from the file, or use another account. Other families are not affected."
_HELD = (
    "Look at the family's positions at OKX. mmp tries again at long intervals; other families "
    "are not affected."
)
_LISTING = "Wait until the family's instruments trade. mmp tries again at long intervals."
_KEY = (
    "Check the API key, secret key and passphrase: all three must be of the same key, without "
    "extra characters."
)
_SUPPORT = "Ask OKX support what restricts the account. Nothing is written until then."
_COMPLIANCE = "Complete the steps that OKX requires on its website or app, or use another account."
_FROZEN = "Look at the account's positions: OKX restricts it for a time. mmp tries again at long intervals."
_MAINTENANCE = "See OKX's status page. mmp tries again at long intervals."
_DEMO_KEY = "Use a key of the environment (`environment:` live or demo) of the settings file."
_BUG = "This is a bug in mmp: please report it, with the code and the version."
_PERMISSION = (
    "Give the key Read and Trade permission; the account must be in portfolio margin mode and OKX must "
    "have granted it the MMP privilege."
)
_REGION = (
    "Check the key, and the region of the account: set --base-url to the host of its region, one of "
    + ", ".join(f"https://{host}" for host in REGION_HOSTS)
    + "."
)

_DOC, _ASSUMED = FactSource.DOCUMENTED, FactSource.ASSUMED

_Rows = tuple[tuple[str, str, str, FactSource], ...]

_BY_CLASS: Mapping[ReplyClass, _Rows] = {
    ReplyClass.ACCEPTED: (
        ("0", "accepted; applied if the reply repeats exactly what was sent", "Nothing to do.", _DOC),
    ),
    ReplyClass.RATE_LIMITED: (
        ("50011", "too many requests", _WAIT, _DOC),
        ("50040", "operations are too close together", _WAIT, _DOC),
        ("50061", "the account's own request limit is used up", _WAIT, _DOC),
    ),
    ReplyClass.BUSY: (
        ("50001", "the service is unavailable for a moment", _WAIT, _ASSUMED),
        ("50013", "the exchange is overloaded", _WAIT, _ASSUMED),
    ),
    ReplyClass.AMBIGUOUS: (
        ("50004", "timed out inside the exchange, with or without effect", READ_BACK, _DOC),
        ("50026", "internal error of the exchange", READ_BACK, _ASSUMED),
        ("50042", "the same request was seen before", READ_BACK, _ASSUMED),
        ("51054", "the exchange timed out while it looked something up", READ_BACK, _ASSUMED),
    ),
    ReplyClass.CLOCK: (
        (
            "50102",
            "the request's timestamp is more than 30 s from the exchange's clock",
            "Set this machine's clock by NTP. mmp measures the offset once more before it stops.",
            _DOC,
        ),
    ),
    ReplyClass.WRONG_SETTINGS: (
        ("51000", "a field's value is not acceptable", _SETTINGS, _DOC),
        ("54009", "a field's value is outside its allowed range", _SETTINGS, _DOC),
        ("50014", "a required field is empty", _SETTINGS, _DOC),
        ("50015", "one of two alternative fields is required", _SETTINGS, _DOC),
        ("50016", "two fields contradict each other", _SETTINGS, _DOC),
        ("50024", "two fields exclude each other", _SETTINGS, _DOC),
        ("50025", "a field lists too many values", _SETTINGS, _DOC),
        ("51001", "the instrument does not exist", _SETTINGS, _DOC),
        ("51014", "the index does not exist", _SETTINGS, _DOC),
        ("51015", "the instrument is not of the given type", _SETTINGS, _DOC),
        ("51026", "the instrument type has no such underlying", _SETTINGS, _DOC),
        ("51069", "there are no option contracts of that name", _SETTINGS, _DOC),
        (
            "50032",
            "the account's own settings forbid this currency",
            "Allow the currency in the account's settings at OKX, or take the family out.",
            _DOC,
        ),
        (
            "50033",
            "the account's own settings block this instrument",
            "Allow the instrument in the account's settings at OKX, or take the family out.",
            _DOC,
        ),
        ("50052", "this crypto is not allowed in the account's country", _COUNTRY, _DOC),
        ("51155", "this contract is not allowed in the account's country", _COUNTRY, _DOC),
    ),
    ReplyClass.NOT_OPEN: (
        ("51021", "the contract is not listed yet", _LISTING, _DOC),
        ("51022", "trading of the contract is suspended", _LISTING, _DOC),
        ("51027", "the contract has expired", _LISTING, _DOC),
        ("51028", "the contract is being delivered", _LISTING, _DOC),
        ("51029", "the contract is being settled", _LISTING, _DOC),
        ("50017", "a position of the contract is frozen by auto-deleveraging", _HELD, _ASSUMED),
        ("50018", "a currency of the contract is frozen by auto-deleveraging", _HELD, _ASSUMED),
        ("50020", "a position of the contract is frozen by a liquidation", _HELD, _ASSUMED),
        ("50021", "a currency of the contract is frozen by a liquidation", _HELD, _ASSUMED),
    ),
    ReplyClass.ACCOUNT: (
        ("50100", "API access is frozen", _SUPPORT, _DOC),
        ("50103", "no API key arrived", _KEY, _ASSUMED),
        ("50104", "no passphrase arrived", _KEY, _ASSUMED),
        (
            "50105",
            "the passphrase is wrong",
            "Use the passphrase that was chosen when this key was created.",
            _DOC,
        ),
        ("50106", "no signature arrived", _KEY, _ASSUMED),
        ("50107", "no timestamp arrived", _KEY, _ASSUMED),
        (
            "50110",
            "the address of this machine is not on the key's list",
            "Add the public address of this machine to the key's IP list at OKX.",
            _DOC,
        ),
        ("50111", "the API key is not valid", _KEY, _DOC),
        ("50113", "the signature is wrong", "Check the secret key: it must belong to this API key.", _DOC),
        ("50114", "the authorisation is not valid", _KEY, _DOC),
        ("50116", "a Fast API key exists already", _SUPPORT, _ASSUMED),
        (
            "50118",
            "the broker linked to the key must have its addresses listed",
            "Use your own key, or have the broker's addresses listed.",
            _DOC,
        ),
        ("50119", "the API key does not exist here (often: the wrong region's host)", _REGION, _DOC),
        ("50120", "the key lacks the permission for this call", _PERMISSION, _DOC),
        (
            "50121",
            "OKX rejects the address of this machine",
            "Run from an address in a region OKX serves.",
            _DOC,
        ),
        ("50030", "no permission to use this endpoint", _PERMISSION, _DOC),
        (
            "50035",
            "this endpoint requires a key that is bound to addresses",
            "Bind the key to the public address of this machine.",
            _DOC,
        ),
        ("50041", "the user is not on OKX's list for this feature", _PERMISSION, _DOC),
        ("51010", "not possible in the account's present mode", _PERMISSION, _DOC),
        ("50007", "the user is blocked", _SUPPORT, _DOC),
        ("50008", "the user does not exist", _KEY, _DOC),
        ("50010", "no user belongs to the request", _KEY, _ASSUMED),
        ("50027", "the account may not trade", _SUPPORT, _DOC),
        ("50028", "OKX does not accept the request from this account", _SUPPORT, _DOC),
        ("50029", "OKX's risk control restricts the account", _SUPPORT, _DOC),
        ("50051", "not allowed in the account's country", _COMPLIANCE, _DOC),
        ("50059", "the local regulator requires further steps", _COMPLIANCE, _DOC),
        ("50060", "identity verification is required", _COMPLIANCE, _DOC),
        ("51024", "the trading account is blocked", _SUPPORT, _DOC),
        (
            "59509",
            "the account has no permission to reset its MMP status",
            "Ask OKX for the MMP privilege; a frozen family stays frozen until then.",
            _DOC,
        ),
    ),
    ReplyClass.ENVIRONMENT: (
        ("50101", "the key belongs to the other environment", _DEMO_KEY, _DOC),
        ("50038", "not available in the demo environment", _DEMO_KEY, _DOC),
        ("50053", "available in the demo environment only", _DEMO_KEY, _DOC),
        ("50108", "no such exchange", "Check --base-url.", _DOC),
        ("50109", "no such exchange domain", "Check --base-url.", _DOC),
        ("50067", "the key cannot be used across OKX's sites", _REGION, _ASSUMED),
    ),
    ReplyClass.UNAVAILABLE: (
        ("50009", "the account is frozen by a stop-out", _FROZEN, _DOC),
        ("50012", "the account's status does not allow it", _FROZEN, _DOC),
        ("50019", "the account is frozen by auto-deleveraging", _FROZEN, _DOC),
        ("50022", "the account is frozen by a liquidation", _FROZEN, _DOC),
        ("50023", "frozen while funding fees are settled", _FROZEN, _DOC),
        ("50005", "the endpoint is switched off", _MAINTENANCE, _DOC),
        ("50046", "the feature is under maintenance", _MAINTENANCE, _DOC),
        ("50062", "the feature is unavailable at present", _MAINTENANCE, _DOC),
    ),
    ReplyClass.OUR_BUG: (
        ("50000", "the request had no body", _BUG, _DOC),
        ("50002", "the request's JSON is broken", _BUG, _DOC),
        ("50006", "the request's content type is wrong", _BUG, _DOC),
        ("50112", "the request's timestamp is malformed", _BUG, _DOC),
        ("50115", "the request's method is wrong", _BUG, _DOC),
    ),
}

TABLE: Mapping[str, CodeFact] = MappingProxyType(
    {
        code: CodeFact(code, reply_class, meaning, advice, source)
        for reply_class, rows in _BY_CLASS.items()
        for code, meaning, advice, source in rows
    }
)
"""Every known code, in the order of the classes."""


def _unknown(code: str) -> CodeFact:
    meaning = "a code that mmp does not know"
    return CodeFact(code, ReplyClass.AMBIGUOUS, meaning, READ_BACK, FactSource.ASSUMED)
