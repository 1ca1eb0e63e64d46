"""The address of a state in PostgreSQL: what is passed to libpq, and which part may be shown.

A password may be in the address, in PGPASSWORD or in a password file; none of them is ever shown. libpq
takes what the address omits from the PG variables. ``sslmode`` and the related parameters configure TLS,
and nothing here weakens it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from reconciler.store.location import bad_address, check_address

DEFAULTS: Mapping[str, str] = {
    "application_name": "mmp",
    "connect_timeout": "5",
    # A host that disappears without closing the connection is detected within about ten seconds.
    "keepalives_idle": "4",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}
"""Used unless the address or the environment sets them. They do not choose between primary and standby."""

SECRET = frozenset({"password", "sslpassword", "oauth_client_secret"})
"""Parameters whose values are never shown."""

_ENVIRONMENT = {"application_name": "PGAPPNAME", "connect_timeout": "PGCONNECT_TIMEOUT"}


@dataclass(frozen=True, slots=True)
class Address:
    """Where the state is. ``conninfo`` may contain a password; ``shown`` never does."""

    conninfo: str = field(repr=False)
    shown: str
    secrets: tuple[str, ...] = field(repr=False)

    def masked(self, text: str) -> str:
        """Return a message of the library with every secret of this address removed."""
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text


def parse_address(text: str) -> Address:
    """Read ``postgresql://…``. Raises UsageError, which quotes no part: it may contain a password."""
    check_address(text)
    try:
        given = {name: str(value) for name, value in conninfo_to_dict(text).items()}
    except psycopg.Error:
        raise bad_address() from None
    unless = {name for name, variable in _ENVIRONMENT.items() if variable in os.environ}
    chosen = {name: value for name, value in DEFAULTS.items() if name not in unless} | given
    # This program's text is UTF-8 whatever the environment sets.
    conninfo = make_conninfo("", **chosen | {"client_encoding": "utf8"})
    secrets = [given[name] for name in sorted(SECRET & given.keys())]
    secrets += [os.environ["PGPASSWORD"]] if os.environ.get("PGPASSWORD") else []
    return Address(conninfo, _shown(given), tuple(secret for secret in secrets if secret))


def _shown(given: Mapping[str, str]) -> str:
    """Return the address with user, host, port and database, and nothing else."""
    user = f"{given['user']}@" if "user" in given else ""
    port = f":{given['port']}" if "port" in given else ""
    return f"postgresql://{user}{given.get('host', '')}{port}/{given.get('dbname', '')}"
