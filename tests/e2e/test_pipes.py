"""Settings, policies, plans and statuses from pipes, as a shell passes them, except to ``run``."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from reconciler import regular_file
from reconciler.config.load import load_configs
from reconciler.config.yaml_nodes import MAX_FILE_BYTES
from reconciler.core.problems import Code
from reconciler.errors import Exit
from reconciler.regular_file import accept_pipes, read_regular
from tests.e2e.processes import MMP, Desk, Exchange, eventually

pytestmark = pytest.mark.e2e

BTC = {"BTC-USD": "5s/2s/100"}
WRONG = "version: 1\nenvironment: live\nfamilies: {BTC-USD: {qtyLimit: x}}\n"


def shell(desk: Desk, command: str) -> subprocess.CompletedProcess[str]:
    """Run a command line in the desk's folder; ``mmp`` is the installed one."""
    path = f"{Path(MMP).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-c", command],
        cwd=desk.folder,
        env={**desk.environment, "PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("command", "status", "says"),
    [
        ("cat mmp.yaml | mmp validate -", 0, "no problems in -"),
        ("mmp validate - < mmp.yaml", 0, "no problems in -"),
        ("mmp validate <(cat mmp.yaml)", 0, "no problems in /dev/fd/"),
        ("mmp validate /dev/stdin < mmp.yaml", 0, "no problems"),
        ("cat wrong.yaml | mmp validate -", 4, "error[bad-quantity] -:3:32"),
        ("mmp validate - < /dev/null", 4, "empty-file"),
        ("mmp validate - < /dev/zero", 4, "too-large"),
        ("yes | mmp validate -", 4, "too-large"),
        ("mmp validate - <&-", 4, "cannot be read"),
        ("mmp validate /dev/zero", 4, "it is not a regular file"),
        ("mmp validate /proc/self/environ", 4, "kernel's own"),
        ("mmp validate mmp.yaml --policy <(echo 'version: 1')", 0, "no problems"),
        ("cat tighter.yaml | mmp diff mmp.yaml - --exit-code", 2, "qtyLimit 100 → 90"),
        ("mmp diff <(cat mmp.yaml) <(cat tighter.yaml) --exit-code", 2, "qtyLimit 100 → 90"),
        ("cat mmp.yaml | mmp plan -c -", 0, "BTC-USD"),
        ("mmp plan -c <(cat mmp.yaml) --policy <(echo 'version: 1')", 0, "BTC-USD"),
        ("mmp plan --out plan.json > /dev/null && cat plan.json | mmp show -", 0, "BTC-USD"),
        ("mmp plan --out plan.json > /dev/null && cat plan.json | mmp apply - --yes --assume-idle", 0, ""),
        ("cat mmp.yaml | mmp apply -c - --policy <(echo 'version: 1') --yes --assume-idle", 0, ""),
        ("mmp status --output json | mmp plan --against -", 5, "status-too-old"),
        ("echo '{}' | mmp plan --against -", 4, "status-foreign"),
    ],
)
def test_what_a_shell_pipes_in_is_read(
    desk: Desk, exchange: Exchange, command: str, status: int, says: str
) -> None:
    desk.wants(BTC)
    desk.wants({"BTC-USD": "5s/2s/90"}, name="tighter.yaml")
    (desk.folder / "wrong.yaml").write_text(WRONG)
    ended = shell(desk, command)
    assert ended.returncode == status, ended.stderr
    assert says in ended.stdout + ended.stderr
    if "apply" in command:
        assert exchange.written() == ["BTC-USD"]


@pytest.mark.slow
def test_run_takes_no_pipe(desk: Desk, exchange: Exchange) -> None:
    desk.wants(BTC)
    for named in ("mmp run -c <(cat mmp.yaml)", "mmp run --policy <(echo 'version: 1') --no-live"):
        ended = shell(desk, f"timeout 20 {named}")
        if "-c" in named:
            assert ended.returncode == Exit.INVALID
        assert "it is not a regular file" in ended.stdout + ended.stderr
    assert exchange.written() == []


def test_a_wait_for_a_pipe_can_be_interrupted(desk: Desk) -> None:
    os.mkfifo(desk.folder / "pipe")
    running = desk.start("validate", "pipe")
    time.sleep(2.0)
    running.signal(signal.SIGINT)
    assert running.wait().status == Exit.INTERRUPTED


def test_a_pipe_without_data_and_without_end_times_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regular_file, "PIPE_DEADLINE_S", 0.3)
    path = tmp_path / "pipe"
    os.mkfifo(path)
    accept_pipes(True)
    try:
        for content in (None, b"version: 1\n"):
            writing = os.open(path, os.O_RDWR)
            if content is not None:
                os.write(writing, content)
            begun = time.monotonic()
            (problem,) = load_configs([str(path)])[0].problems
            assert (problem.code, "did not end within" in problem.message) == (Code.FILE_UNREADABLE, True)
            assert time.monotonic() - begun < 5.0
            os.close(writing)
    finally:
        accept_pipes(False)


def test_a_pipe_is_read_once_within_its_bound(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    accept_pipes(True)
    try:
        writer = subprocess.Popen(["sh", "-c", f"yes > {path}"], stderr=subprocess.DEVNULL)
        first = read_regular(str(path), MAX_FILE_BYTES + 1)
        assert (len(first), read_regular(str(path), MAX_FILE_BYTES + 1)) == (MAX_FILE_BYTES + 1, first)
        eventually(lambda: writer.poll() is not None, 10.0, "the writer to end")
    finally:
        accept_pipes(False)
