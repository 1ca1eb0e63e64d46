"""Accounts and API keys of the simulated exchange; all of them obviously fake."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

DEMO_HEADER = "x-simulated-trading"
PORTFOLIO_MARGIN = "4"
PERMISSIONS = ("read_only", "trade", "withdraw")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One API key. ``ip`` is the bound addresses; empty: not bound to an address."""

    key_id: str
    secret: str = field(repr=False)
    passphrase: str = field(repr=False)
    permissions: frozenset[str] = frozenset({"read_only", "trade"})
    ip: tuple[str, ...] = ()
    label: str = "simulator"


@dataclass(frozen=True, slots=True)
class SimAccount:
    """One User ID. ``level`` is acctLv ("4" is portfolio margin), ``environment`` live or demo."""

    uid: str
    keys: tuple[ApiKey, ...]
    main_uid: str
    level: str = PORTFOLIO_MARGIN
    mmp_privilege: bool = True
    environment: str = "live"


@dataclass(frozen=True, slots=True)
class KeyOwner:
    """A key together with the account it belongs to."""

    key: ApiKey
    account: SimAccount


def fake_account(
    number: int = 1,
    *,
    environment: str = "live",
    level: str = PORTFOLIO_MARGIN,
    mmp_privilege: bool = True,
    permissions: Iterable[str] = ("read_only", "trade"),
    ip: Iterable[str] = (),
) -> SimAccount:
    """Return the simulator's account ``number`` (1 to 999); its key and uid are obviously fake."""
    key = ApiKey(
        key_id=f"simulator-key-{number}",
        secret=f"simulator-secret-{number}",
        passphrase=f"simulator-passphrase-{number}",
        permissions=frozenset(permissions),
        ip=tuple(ip),
    )
    uid = f"999000000{number:03d}"
    return SimAccount(uid, (key,), uid, level, mmp_privilege, environment)
