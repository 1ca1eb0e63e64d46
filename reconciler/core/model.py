"""The values that all other modules use: families, settings, what is desired, live and known.

This file decides when two settings are equal (decimal value, never text) and what the two zeroes
mean. It never reads anything: values are parsed at the edges (``config``, ``okx``, ``store``) and
trusted from here on. All instants are seconds on this process's own monotonic clock.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import NewType, assert_never

Family = NewType("Family", str)
"""An instrument family such as ``BTC-USD`` or ``SOL-USD_UM``; made by :func:`parse_family` only."""

FAMILY_PATTERN = r"[A-Z0-9]+-[A-Z0-9]+(_[A-Z0-9]+)*"
QUANTITY_PATTERN = r"(0|[1-9][0-9]*)(\.[0-9]+)?"
ACCOUNT_PATTERN = r"[a-z0-9][a-z0-9._-]{0,62}"
MAX_INTERVAL_DIGITS = 10
MAX_QUANTITY_DIGITS = 20

_FAMILY = re.compile(FAMILY_PATTERN, re.ASCII)
_QUANTITY = re.compile(QUANTITY_PATTERN, re.ASCII)
_UNITS_MS = (("h", 3_600_000), ("m", 60_000), ("s", 1_000))
_DAY_MINUTES = 24 * 60


class Environment(StrEnum):
    """Which of OKX's two environments an account trades in."""

    LIVE = "live"
    DEMO = "demo"


class ExchangeKind(StrEnum):
    """The kind of exchange: the real one, or the simulated one on loopback."""

    OKX = "okx"
    SIMULATOR = "simulator"


class Field(StrEnum):
    """The three fields of a setting, named as in the file format (and OKX's API)."""

    TIME_INTERVAL = "timeInterval"
    FROZEN_INTERVAL = "frozenInterval"
    QTY_LIMIT = "qtyLimit"


def parse_family(text: str) -> Family:
    """Return ``text`` as a Family, or raise ValueError if it is not the shape of one."""
    if not _FAMILY.fullmatch(text):
        raise ValueError(f"not an instrument family: {text!r}")
    return Family(text)


@dataclass(frozen=True, slots=True, eq=False)
class Quantity:
    """A decimal number of contracts, stored as the text it was written in.

    Equality, order and hash go by value: ``100``, ``"100"`` and ``"100.0"`` are equal everywhere.
    """

    text: str

    def __post_init__(self) -> None:
        """Refuse text that is not a plain decimal (ValueError)."""
        if not _QUANTITY.fullmatch(self.text):
            raise ValueError(f"not a plain decimal number: {self.text!r}")

    @property
    def canonical(self) -> str:
        """The shortest text of the same value (``100.0`` gives ``100``)."""
        if "." not in self.text:
            return self.text
        return self.text.rstrip("0").rstrip(".")

    @property
    def value(self) -> Decimal:
        """The exact value; construction from text never rounds."""
        return Decimal(self.text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Quantity) and self.canonical == other.canonical

    def __hash__(self) -> int:
        return hash(self.canonical)

    def __lt__(self, other: Quantity) -> bool:
        return self.value < other.value

    def __str__(self) -> str:
        return self.text


def interval_text(milliseconds: int) -> str:
    """Format an interval as in a settings file: ``5s``, ``1500ms``, ``2m``. Zero is ``0``."""
    for unit, size in _UNITS_MS:
        if milliseconds and milliseconds % size == 0:
            return f"{milliseconds // size}{unit}"
    return f"{milliseconds}ms" if milliseconds else "0"


def window_text(window: timedelta) -> str:
    """Format a time of full minutes as in a policy file: ``90m``, ``24h``, ``7d``."""
    minutes = window // timedelta(minutes=1)
    if minutes % _DAY_MINUTES == 0 and minutes > _DAY_MINUTES:
        return f"{minutes // _DAY_MINUTES}d"
    return f"{minutes // 60}h" if minutes % 60 == 0 else f"{minutes}m"


@dataclass(frozen=True, slots=True)
class Setting:
    """One family's complete MMP setting; a write always replaces all three fields.

    ``time_interval_ms`` 0 means MMP is disabled (no protection); ``frozen_interval_ms`` 0 means
    frozen until a manual reset (the longest freeze). The two zeroes mean opposite things [doc].
    """

    time_interval_ms: int
    frozen_interval_ms: int
    qty_limit: Quantity

    @property
    def disabled(self) -> bool:
        """Whether this setting switches the family's protection off."""
        return self.time_interval_ms == 0

    @property
    def until_reset(self) -> bool:
        """Whether a freeze under this setting lasts until Reset MMP Status is called."""
        return self.frozen_interval_ms == 0

    def field_text(self, field: Field) -> str:
        """Return one field as people read it, with the words for the two zeroes."""
        match field:
            case Field.TIME_INTERVAL:
                return "disabled" if self.disabled else interval_text(self.time_interval_ms)
            case Field.FROZEN_INTERVAL:
                return "until-reset" if self.until_reset else interval_text(self.frozen_interval_ms)
            case Field.QTY_LIMIT:
                return self.qty_limit.canonical
            case _:
                assert_never(field)

    def wire(self) -> dict[str, str]:
        """Return the three strings of OKX's API, by field name."""
        return {
            Field.TIME_INTERVAL.value: str(self.time_interval_ms),
            Field.FROZEN_INTERVAL.value: str(self.frozen_interval_ms),
            Field.QTY_LIMIT.value: self.qty_limit.text,
        }

    def canonical(self) -> dict[str, str]:
        """Return the three strings in their one canonical spelling, for digests."""
        return {**self.wire(), Field.QTY_LIMIT.value: self.qty_limit.canonical}


@dataclass(frozen=True, slots=True)
class FilePosition:
    """A position in a file, 1-based."""

    path: str
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class DesiredFamily:
    """The desired setting of one family, and its position in the file."""

    setting: Setting
    source: FilePosition


@dataclass(frozen=True, slots=True)
class Desired:
    """One account's valid settings file. ``families`` is never empty.

    ``expected_uid`` is None when the file does not name one. ``sha256`` is of the file's bytes.
    """

    account: str
    environment: Environment
    families: Mapping[Family, DesiredFamily]
    path: str
    sha256: str
    credentials_prefix: str = "OKX_"
    expected_uid: str | None = None


@dataclass(frozen=True, slots=True)
class LiveRow:
    """One family as Get MMP Config showed it.

    ``frozen_until`` is only shown, never used in a calculation: its unit is contradictory in OKX's docs.
    """

    setting: Setting
    frozen: bool = False
    frozen_until: str = ""


def fold_name(text: str) -> str:
    """Return ``text`` trimmed, in capitals and in plain width: names that look alike become equal."""
    return unicodedata.normalize("NFKC", text).strip().upper()


@dataclass(frozen=True, slots=True)
class LiveRead:
    """One answer of Get MMP Config: of every configured family, or of the one ``asked`` about.

    ``begun_at`` is the instant before the first byte of the request, ``took_s`` the time until its
    answer was complete. A family without a row is missing from ``rows``. ``unreadable`` has the rows that
    name a family but whose values cannot be read, with what is wrong: such a family must not be
    written. ``odd_names`` has the instFamily of each row that is text but not a family's name, by its
    :func:`fold_name`: a family of that folded name must not be written either. ``nameless`` counts rows
    without a usable instFamily: while there is one, no family counts as absent.
    """

    begun_at: float
    rows: Mapping[Family, LiveRow]
    unreadable: Mapping[Family, str] = field(default_factory=dict)
    took_s: float = 0.0
    odd_names: Mapping[str, str] = field(default_factory=dict)
    nameless: int = 0
    asked: Family | None = None

    @property
    def ended_at(self) -> float:
        """The instant at which the answer was complete."""
        return self.begun_at + self.took_s


@dataclass(frozen=True, slots=True)
class FileVersion:
    """The content of a settings file, and the order in which the state accepted it.

    ``number`` grows with each acceptance of other content, per exchange, environment and User ID; 0:
    never accepted. Of two versions the one with the greater number is newer. A restart with content that
    was accepted before keeps its number.
    """

    sha256: str = ""
    number: int = 0


NO_FILE = FileVersion()
"""The version in a record that names no file."""


@dataclass(frozen=True, slots=True)
class Acceptance:
    """A desired setting of one family that passed the guard: it is *accepted* until another one follows.

    ``attempt`` is the first request that was reserved for it; for one that was not ``requested`` (an
    adoption) the newest attempt of the family at that moment, 0 without one. ``at`` is the time of day of
    the record, by the clock of the machine that made it.
    """

    setting: Setting
    attempt: int = 0
    at: datetime | None = None
    file: FileVersion = NO_FILE
    requested: bool = True


@dataclass(frozen=True, slots=True)
class Accepting:
    """What is recorded when a request or an adoption makes a desired setting the accepted one.

    ``digest`` is the plan's; ``override`` names the refusals that were overridden, "" without any.
    """

    setting: Setting
    digest: str = ""
    override: str = ""


@dataclass(frozen=True, slots=True)
class NeverApplied:
    """Nothing is known of the family: never written, never adopted."""


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The last setting proven in force, by an acknowledged write or by a read (adopted).

    ``at`` is the local instant of the proof (for a row of another boot: its first sight), and
    ``attempt`` the newest attempt of the family at that moment (0: there was none). Until
    ``lands_until`` unanswered attempts of the same setting may still take effect: harmless as long as
    it is the one in force. ``file`` is the settings file it came from, ``acknowledged`` is True for a write
    and False for an adoption, ``recorded_at`` is the time of day of the record, for people.
    """

    setting: Setting
    at: float
    attempt: int = 0
    lands_until: float = float("-inf")
    file: FileVersion = NO_FILE
    acknowledged: bool = False
    recorded_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class OpenAttempt:
    """An attempt whose effect is not known: pending, unanswered or with an unintelligible answer.

    Until ``effect_until`` (reservation + L) it may still take effect at the exchange. ``setting`` None:
    an attempt that may exist, of any value: the state lost its newest records. ``file`` is the
    settings file it came from.
    """

    attempt: int
    setting: Setting | None
    reserved_at: float
    effect_until: float
    file: FileVersion = NO_FILE


@dataclass(frozen=True, slots=True)
class Uncertain:
    """The family has unresolved attempts (at least one); ``last`` is the proof before or beside them."""

    last: Confirmed | None
    unresolved: tuple[OpenAttempt, ...]


Known = NeverApplied | Confirmed | Uncertain


class PausedBy(StrEnum):
    """What paused a family: a person, or the heal breaker because another writer keeps changing it."""

    MANUAL = "manual"
    BREAKER = "breaker"


@dataclass(frozen=True, slots=True)
class Pause:
    """A paused family: it is neither written nor healed. ``until`` None: until it is resumed.

    ``contested``: set by the heal breaker, and active only while this setting is the desired one;
    None: paused by hand. :mod:`reconciler.core.pauses` decides whether it applies to the desired setting.
    """

    family: Family
    reason: str
    since: datetime
    until: datetime | None
    contested: Setting | None = None

    @property
    def by(self) -> PausedBy:
        """What paused it."""
        return PausedBy.MANUAL if self.contested is None else PausedBy.BREAKER

    def is_active(self, wall: datetime) -> bool:
        """Tell whether the pause's time is not over at ``wall``."""
        return self.until is None or wall < self.until


@dataclass(frozen=True, slots=True)
class AccountInfo:
    """What the account/config pre-flight reports of the key in use.

    ``level`` is OKX's acctLv ("4" is portfolio margin); ``permissions`` a set of read_only, trade
    and withdraw; ``ip`` the bound addresses, empty when the key is bound to none.
    """

    uid: str
    main_uid: str
    level: str
    permissions: frozenset[str]
    ip: tuple[str, ...] = ()
    label: str = ""


@dataclass(frozen=True, slots=True)
class RateBudget:
    """The key of a pacing ledger: two account names with one uid share it."""

    kind: ExchangeKind
    environment: Environment
    uid: str


def format_setting(setting: Setting) -> str:
    """Write a complete setting on one line."""
    return ", ".join(f"{field.value} {setting.field_text(field)}" for field in Field)


def first_names(names: Sequence[str], most: int = 3) -> str:
    """Write the first ``most`` of ``names``; the rest are counted."""
    more = len(names) - most
    text = ", ".join(names[:most])
    return f"{text} and {more} more" if more > 0 else text
