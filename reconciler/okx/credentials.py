"""The three secrets of an API key: where they are read from, and how every output masks them.

This file decides which secret files are trusted, and what is masked in text from the exchange. It never
writes a value anywhere, and its errors name variables and paths, never contents. Loading is cheap and can
be repeated at any time.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.errors import AccountProblem
from reconciler.regular_file import NotRegularFile, read_with_status
from reconciler.secret import MASK, Secret

KEY_READS = 3
"""The most readings of a key in files until two agree: the files may be replaced during one reading."""

MAX_SECRET_CHARS = 256
"""Bound on a secret; OKX's own are 32 to 36 characters."""

MAX_SCRUBBED_CHARS = 200
"""Bound on a message of the exchange's in our outputs; OKX's own are shorter."""

_PARTS = ("API_KEY", "SECRET_KEY", "PASSPHRASE")
_KEY_LIKE = re.compile(
    r"[a-z0-9+/=_-]{32,}"  # a key id (a UUID of 36 characters) or a signature (44 of Base64)
    r"|[0-9a-f]{16,}",  # a secret key is 32 hexadecimal digits, and a part of one is too much
    re.IGNORECASE | re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Credentials:
    """One API key: its id, its secret key and its passphrase."""

    api_key: Secret
    secret_key: Secret
    passphrase: Secret

    def scrub(self, text: str) -> str:
        """Return ``text`` fit for output: one printable line of at most MAX_MESSAGE_CHARS.

        These three secrets and whatever looks like a key or a signature are masked before the text is cut,
        so that no part of one remains. OKX's message for 50110 contains the API key id [doc].
        """
        text = "".join(char if char.isprintable() else " " for char in text)
        for secret in sorted(self._revealed(), key=len, reverse=True):
            text = re.sub(re.escape(secret), MASK, text, flags=re.IGNORECASE)
        text = _KEY_LIKE.sub(MASK, text)
        return text if len(text) <= MAX_SCRUBBED_CHARS else text[: MAX_SCRUBBED_CHARS - 1] + "…"

    def _revealed(self) -> set[str]:
        return {self.api_key.reveal(), self.secret_key.reveal(), self.passphrase.reveal()}


def load_credentials(prefix: str, environ: Mapping[str, str]) -> Credentials:
    """Return the credentials named by ``prefix`` in ``environ``, each a variable or a ``…_FILE``.

    Raises AccountProblem: some are missing (all of them named), both forms are set, a file cannot be
    trusted or read, or a value is empty or has characters no key of OKX's has.
    """
    names = [prefix + part for part in _PARTS]
    missing = [name for name in names if name not in environ and _file_variable(name) not in environ]
    if missing:
        raise _missing(missing)
    api_key, secret_key, passphrase = (_load(name, environ) for name in names)
    return Credentials(api_key, secret_key, passphrase)


def load_stable(prefix: str, environ: Mapping[str, str]) -> Credentials:
    """Return the credentials as ``load_credentials`` does, read until two consecutive readings agree.

    The three files of a key are replaced together, but read one after another. After KEY_READS the last
    reading is returned: a mixed key is not accepted, and the account reads it again.
    """
    found = load_credentials(prefix, environ)
    for _ in range(KEY_READS - 1):
        before, found = found, load_credentials(prefix, environ)
        if found == before:
            break
    return found


def credential_files(prefix: str, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the paths of the files of a key; empty when it is in variables."""
    variables = (_file_variable(prefix + part) for part in _PARTS)
    return tuple(environ[variable] for variable in variables if variable in environ)


def _load(name: str, environ: Mapping[str, str]) -> Secret:
    file_variable = _file_variable(name)
    if name not in environ:
        path = environ[file_variable]
        # Without the one newline at the end that an editor adds; a second one is a mistake and stays.
        text = _read(path, file_variable).removesuffix("\n")
        return _checked(text, f"the file of {file_variable}, {path},")
    if file_variable in environ:
        raise AccountProblem(
            "credentials-twice",
            f"both {name} and {file_variable} are set",
            "Unset one of the two; an empty variable counts as set.",
        )
    return _checked(environ[name], name)


def _read(path: str, variable: str) -> str:
    """Return the text of a secret file; symbolic links are followed (Kubernetes mounts are links).

    Any access for others is refused. Group access is allowed: with ``fsGroup`` Kubernetes mounts secrets
    readable by the pod's group.
    """

    def bad_file(why: str, hint: str) -> AccountProblem:
        return AccountProblem("credentials-file", f"{path} (named by {variable}) {why}", hint)

    try:
        status, content = read_with_status(path, MAX_SECRET_CHARS + 2)
    except NotRegularFile:
        raise bad_file("is not a regular file", "Name a file that contains the secret.") from None
    except (OSError, ValueError) as error:
        raise bad_file(_why(error), "Check the path and who may read it.") from None
    if status.st_mode & stat.S_IRWXO:
        mode = stat.S_IMODE(status.st_mode)
        raise bad_file(
            f"is open to every user of this machine (mode {mode:04o})",
            f"Run: chmod 600 {path} (in Kubernetes: defaultMode 0440 or 0400).",
        )
    try:
        return content.decode("ascii")
    except UnicodeDecodeError:
        raise _bad_value(f"the file of {variable}, {path},", "has characters that are not ASCII") from None


def _checked(value: str, where: str) -> Secret:
    if not value:
        raise _bad_value(where, "is empty")
    if len(value) > MAX_SECRET_CHARS:
        raise _bad_value(where, f"is longer than {MAX_SECRET_CHARS} characters")
    if not value.isascii():
        raise _bad_value(where, "has characters that are not ASCII")
    if not all("!" <= char <= "~" for char in value):
        raise _bad_value(where, "has a space, a line break or a control character")
    return Secret(value)


def _file_variable(name: str) -> str:
    return f"{name}_FILE"


def _missing(names: list[str]) -> AccountProblem:
    noun = "is" if len(names) == 1 else "are"
    return AccountProblem(
        "credentials-missing",
        f"{', '.join(names)} {noun} not set",
        "Set them, or name files that contain them in " + ", ".join(map(_file_variable, names)) + ".",
    )


def _bad_value(where: str, why: str) -> AccountProblem:
    hint = "Copy the value again from where the key was created, without quotes or blanks around it."
    return AccountProblem("credentials-value", f"{where} {why}", hint)


def _why(error: OSError | ValueError) -> str:
    reason = error.strerror if isinstance(error, OSError) else None
    return f"cannot be read: {reason or 'not a path'}"
