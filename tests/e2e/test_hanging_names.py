"""A process whose DNS lookup hangs still stops in time on a signal, and logs that it stopped."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.e2e.processes import LIVE, Desk, Exchange, eventually

pytestmark = pytest.mark.e2e

ENDS_WITHIN_S = 5.0
"""For the end after SIGTERM: a second for the loops, two for notifications, and a busy machine."""

HANG = """
import pathlib, socket, time

_real = socket.getaddrinfo

def getaddrinfo(host, *args, **options):
    if host in ("openapi.okx.com", "hooks.example"):
        (pathlib.Path(__file__).parent / host).touch()
        time.sleep(60)
        raise socket.gaierror(socket.EAI_AGAIN, "no answer")
    return _real(host, *args, **options)

socket.getaddrinfo = getaddrinfo
"""
"""The interpreter's own ``sitecustomize``: a resolver that does not answer for two names."""


@pytest.fixture
def hung(tmp_path: Path) -> Path:
    """Return a folder that makes lookups hang when it is on PYTHONPATH; it records the names looked up."""
    folder = tmp_path / "hung"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(HANG, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("host", "flags", "base"),
    [
        ("openapi.okx.com", (), "https://openapi.okx.com"),
        ("hooks.example", ("--notify", "https://hooks.example/secret"), None),
    ],
    ids=["the exchange's", "a webhook's"],
)
def test_a_lookup_that_hangs_holds_up_no_stop(
    exchange: Exchange, desk: Desk, hung: Path, host: str, flags: tuple[str, ...], base: str | None
) -> None:
    desk.wants({"BTC-USD": LIVE})
    env = {"PYTHONPATH": str(hung)} | ({"MMP_BASE_URL": base} if base else {})
    running = desk.start("run", "--assume-idle", "--log-format", "json", *flags, env=env)
    eventually((hung / host).exists, 30.0, f"a lookup of {host}")
    running.signal(signal.SIGTERM)
    ended = running.wait(ENDS_WITHIN_S)
    assert ended.status == 0
    assert ended.log[-1]["event"] == "stopped"
