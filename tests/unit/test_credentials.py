"""Credentials are found where the contract says, refused with one clear message, and never shown."""

from __future__ import annotations

import copy
import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from reconciler.errors import AccountProblem, Exit
from reconciler.okx import credentials
from reconciler.okx.credentials import (
    KEY_READS,
    MAX_SCRUBBED_CHARS,
    Credentials,
    credential_files,
    load_credentials,
    load_stable,
)
from reconciler.secret import Secret

KEY = "0b7c9c1e-5f0a-4a52-9d7e-0123456789ab"
SECRET = "22582BD0CFF14C41EDBF1AB98506286D"
PHRASE = "Sesame-Open!9"
ALL = {"OKX_API_KEY": KEY, "OKX_SECRET_KEY": SECRET, "OKX_PASSPHRASE": PHRASE}
CREDENTIALS = Credentials(Secret(KEY), Secret(SECRET), Secret(PHRASE))

FileMaker = Callable[..., Path]


@pytest.fixture
def secret_file(tmp_path: Path) -> FileMaker:
    def make(content: str | bytes, *, mode: int = 0o600, name: str = "secret") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(mode)
        return path

    return make


def refusal(environ: Mapping[str, str], prefix: str = "OKX_") -> AccountProblem:
    with pytest.raises(AccountProblem) as caught:
        load_credentials(prefix, environ)
    assert caught.value.exit_status is Exit.ACCOUNT
    assert caught.value.__cause__ is None
    said = f"{caught.value} {caught.value.hint} {caught.value.args!r}"
    assert not any(secret in said for secret in (KEY, SECRET, PHRASE))
    return caught.value


def with_file(path: Path) -> dict[str, str]:
    return {"OKX_API_KEY": KEY, "OKX_PASSPHRASE": PHRASE, "OKX_SECRET_KEY_FILE": str(path)}


def test_variables_are_read() -> None:
    assert load_credentials("OKX_", ALL) == CREDENTIALS


def test_another_prefix_is_used_as_it_stands() -> None:
    environ = {f"DESK2_{name.removeprefix('OKX_')}": value for name, value in ALL.items()}
    assert load_credentials("DESK2_", environ) == CREDENTIALS


def test_a_file_is_read_without_its_last_newline(secret_file: FileMaker) -> None:
    for content in (SECRET, SECRET + "\n"):
        assert load_credentials("OKX_", with_file(secret_file(content))) == CREDENTIALS


def test_a_replaced_file_is_seen_by_the_next_load(secret_file: FileMaker) -> None:
    environ = with_file(secret_file("first"))
    assert load_credentials("OKX_", environ).secret_key == Secret("first")
    secret_file("second")
    assert load_credentials("OKX_", environ).secret_key == Secret("second")


def test_a_mounted_link_is_followed(secret_file: FileMaker, tmp_path: Path) -> None:
    target = secret_file(SECRET, mode=0o440)
    (tmp_path / "..data").symlink_to(target)
    (tmp_path / "link").symlink_to(tmp_path / "..data")
    assert load_credentials("OKX_", with_file(tmp_path / "link")) == CREDENTIALS


def test_every_missing_one_is_named_at_once() -> None:
    problem = refusal({"OKX_SECRET_KEY": SECRET})
    assert problem.code == "credentials-missing"
    assert "OKX_API_KEY, OKX_PASSPHRASE are not set" in problem.message
    assert "OKX_SECRET_KEY" not in problem.message
    assert "OKX_API_KEY_FILE, OKX_PASSPHRASE_FILE" in problem.hint


def test_both_forms_of_one_are_refused(secret_file: FileMaker) -> None:
    problem = refusal({**ALL, "OKX_PASSPHRASE_FILE": str(secret_file(PHRASE))})
    assert problem.code == "credentials-twice"
    assert problem.message == "both OKX_PASSPHRASE and OKX_PASSPHRASE_FILE are set"


@pytest.mark.parametrize(
    ("mode", "accepted"),
    [
        (0o400, True),
        (0o600, True),
        (0o440, True),
        (0o640, True),
        (0o604, False),
        (0o644, False),
        (0o602, False),
        (0o601, False),
        (0o666, False),
        (0o777, False),
    ],
)
def test_a_file_open_to_others_is_refused(secret_file: FileMaker, mode: int, accepted: bool) -> None:
    path = secret_file(SECRET, mode=mode)
    if accepted:
        assert load_credentials("OKX_", with_file(path)) == CREDENTIALS
        return
    problem = refusal(with_file(path))
    assert problem.code == "credentials-file"
    assert f"{mode:04o}" in problem.message
    assert f"chmod 600 {path}" in problem.hint


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"abc\n\n", "line break"),
        (b"abc\r\n", "line break"),
        (b" abc", "a space"),
        (b"abc ", "a space"),
        (b"a\tc", "control character"),
        (b"a\x00c", "control character"),
        ("schlüssel".encode(), "not ASCII"),
        (b"\xff\xfe", "not ASCII"),
        (b"\xef\xbb\xbfabc", "not ASCII"),
        (b"x" * 257, "longer than 256"),
        (b"x" * 100_000, "longer than 256"),
    ],
)
def test_a_value_no_key_can_have_is_refused(secret_file: FileMaker, content: bytes, why: str) -> None:
    path = secret_file(content)
    problem = refusal(with_file(path))
    assert problem.code == "credentials-value"
    assert why in problem.message
    assert str(path) in problem.message


@pytest.mark.parametrize("value", ["", " ", "abc\n", "ké"])
def test_a_variable_is_not_trimmed_into_shape(value: str) -> None:
    problem = refusal({**ALL, "OKX_PASSPHRASE": value})
    assert problem.code == "credentials-value"
    assert problem.message.startswith("OKX_PASSPHRASE ")


@pytest.mark.parametrize("kind", ["absent", "directory", "pipe", "null byte"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "thing"
    if kind == "directory":
        path.mkdir()
    if kind == "pipe":
        os.mkfifo(path, 0o600)
    problem = refusal(with_file(Path(f"{path}\0" if kind == "null byte" else path)))
    assert problem.code == "credentials-file"
    assert "OKX_SECRET_KEY_FILE" in problem.message


def test_a_secret_prints_as_stars_in_every_way() -> None:
    secret = Secret(SECRET)
    shown = [str(secret), repr(secret), f"{secret}", f"{secret:>40}", f"{secret!r}", f"{[secret]}"]
    shown += [str(CREDENTIALS), repr(CREDENTIALS), "%s" % secret, "{}".format(secret)]  # noqa: UP031, UP032 - the ways are the point
    assert not any(value in text for text in shown for value in (KEY, SECRET, PHRASE))
    assert str(secret) == "***"


@pytest.mark.parametrize(
    "leak", [pickle.dumps, copy.copy, copy.deepcopy, vars], ids=["pickle", "copy", "deepcopy", "vars"]
)
def test_a_secret_does_not_leave_by_the_back_door(leak: Callable[[object], object]) -> None:
    with pytest.raises(TypeError) as caught:
        leak(Secret(SECRET))
    assert SECRET not in str(caught.value)


def test_secrets_compare_by_value_and_do_not_change() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a")}) == 1
    with pytest.raises(AttributeError):
        Secret("a")._value = "b"


@pytest.mark.parametrize(
    ("message", "scrubbed"),
    [
        ("", ""),
        ("Parameter qtyLimit error", "Parameter qtyLimit error"),
        (f"Your IP 203.0.113.9 is not in {KEY}'s list", "Your IP 203.0.113.9 is not in ***'s list"),
        (f"key {KEY.upper()}!", "key ***!"),
        (f"secret {SECRET.lower()}.", "secret ***."),
        (f"phrase {PHRASE}.", "phrase ***."),
        (f"phrase {PHRASE.upper()}.", "phrase ***."),
        ("another 7f0c9c1e-5f0a-4a52-9d7e-abcdefabcdef here", "another *** here"),
        ("hex deadbeefdeadbeef here", "hex *** here"),
        ("sign Iidrjjf0Rw/qC5xDC4pBYLiwXUHPIAG+iC/vqFd96kU= here", "sign *** here"),
        ("family XAU-USD_UM-260327-60000-C", "family XAU-USD_UM-260327-60000-C"),
        ("one\r\ntwo\x1b[31mred\u202e", "one  two [31mred "),
    ],
)
def test_messages_are_scrubbed(message: str, scrubbed: str) -> None:
    assert CREDENTIALS.scrub(message) == scrubbed


def test_a_long_message_is_cut_after_scrubbing() -> None:
    for length in range(MAX_SCRUBBED_CHARS - 60, MAX_SCRUBBED_CHARS + 5):
        text = CREDENTIALS.scrub("x y " * (length // 4) + KEY + " end" * 100)
        assert len(text) == MAX_SCRUBBED_CHARS
        assert KEY[:4] not in text


# ---- a key in files that is replaced -------------------------------------------------------------


@pytest.mark.parametrize(
    ("readings", "taken", "asked"),
    [("aa", "a", 2), ("abb", "b", 3), ("aba", "a", KEY_READS), ("abc", "c", KEY_READS)],
)
def test_a_key_is_read_until_two_readings_agree_but_not_for_ever(
    readings: str, taken: str, asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = list(readings)

    def load(*_: object) -> Credentials:
        return Credentials(Secret(left.pop(0)), Secret("s"), Secret("p"))

    monkeypatch.setattr(credentials, "load_credentials", load)
    assert load_stable("OKX_", {}).api_key == Secret(taken)
    assert len(readings) - len(left) == asked


def test_the_files_of_a_key_are_named_and_variables_are_no_files() -> None:
    environ = {"OKX_API_KEY": KEY, "OKX_SECRET_KEY_FILE": "/s", "OKX_PASSPHRASE_FILE": "/p", "X_FILE": "/x"}
    assert credential_files("OKX_", environ) == ("/s", "/p")
    assert credential_files("OTHER_", environ) == ()
