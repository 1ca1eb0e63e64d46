"""The tour of ``mmp demo``: each step runs a real command and checks its results.

The steps are data of ``demo_steps``. The tour fails if a result differs from them, or if the simulated
exchange saw a violation of the pace.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reconciler.cli.demo_steps import CONFIG, LIVE_BEFORE, STEPS, TourStep
from reconciler.cli.output import Output
from reconciler.errors import Exit, MmpError
from reconciler.render.color import Tone
from reconciler.render.values import count


class Tour:
    """One tour in a temporary folder; ``pauses`` waits for Enter between steps on a terminal."""

    def __init__(self, out: Output, *, pauses: bool) -> None:
        self._out = out
        self._paint = out.paint()
        self._pauses = pauses and sys.stdin.isatty()
        self._failures: list[str] = []
        self._report: list[dict[str, Any]] = []

    def run(self) -> Exit:
        """Run every step; DONE when all of them had the expected results."""
        with _temporary_folder() as folder, _simulator() as exchange:
            self._print(f"SIMULATOR at {exchange.url}. Nothing here reaches OKX. mmp.yaml:\n\n{CONFIG}")
            for number, step in enumerate(STEPS, 1):
                self._step(number, step, folder, exchange)
            self._check(not exchange.violations(), "the exchange saw no violation of the pace")
        return self._end()

    def _step(self, number: int, step: TourStep, folder: Path, exchange: _Exchange) -> None:
        if self._pauses and number > 1:
            input("\n[Enter] ")
        self._print(self._paint(f"\n── SIMULATOR {number}/{len(STEPS)} · {step.title}", Tone.STRONG))
        self._prepare(step, folder, exchange)
        sent_before = exchange.sets()
        begun = time.monotonic()
        status, text = self._command(step, folder, exchange)
        took = time.monotonic() - begun
        sent = exchange.sets() - sent_before
        self._print(self._paint(f"(exit {status}, {count(sent, 'request')}, {took:.1f} s)", Tone.QUIET))
        self._report.append({"step": step.title, "exit": status, "requests": sent})
        self._check(status == step.status, f"step {number}: exit {status}, expected {step.status.value}")
        self._check(sent == step.requests, f"step {number}: {sent} requests, expected {step.requests}")
        for words in step.output:
            self._check(words in text, f"step {number}: {words!r} is in the output")

    def _prepare(self, step: TourStep, folder: Path, exchange: _Exchange) -> None:
        for endpoint, payload in step.control:
            exchange.post(endpoint, payload)
            self._print(self._paint(f"(at the exchange: {endpoint} {json.dumps(payload)})", Tone.QUIET))
        if step.edit is not None:
            file = folder / "mmp.yaml"
            file.write_text(file.read_text(encoding="utf-8").replace(*step.edit), encoding="utf-8")
            self._print(self._paint(f"(in mmp.yaml: {step.edit[0]} → {step.edit[1]})", Tone.QUIET))

    def _command(self, step: TourStep, folder: Path, exchange: _Exchange) -> tuple[int, str]:
        self._print(f"$ mmp {' '.join(step.command)}")
        command = [sys.executable, "-m", "reconciler", *step.command]
        flags = [] if step.command[0] == "validate" else ["--log-format", "console"]
        if step.command[0] in ("plan", "apply", "run"):
            flags += ["--log-level", "info" if step.command[0] == "run" else "warning"]
        with subprocess.Popen(  # noqa: S603  # our own program, our own arguments
            [*command, *flags],
            cwd=folder,
            env={**_clean_environment(), **exchange.variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            if step.seconds is not None:
                exchange.wait_for_set(step.seconds)
                process.terminate()
            text, _ = process.communicate()
        self._print(_indented(text))
        return process.returncode, text

    def _check(self, passed: bool, what: str) -> None:
        if not passed:
            self._failures.append(what)

    def _print(self, text: str) -> None:
        if not self._out.json:
            self._out.result(text.rstrip("\n") + "\n")

    def _end(self) -> Exit:
        if self._out.json:
            self._out.document({"format": "mmp/demo/1", "steps": self._report, "failures": self._failures})
        for failure in self._failures:
            self._out.info(f"✗ {failure}")
        if self._failures:
            return Exit.FAILED
        self._print(self._paint("\n✓ Everything came out as expected. Nothing was sent to OKX.", Tone.GOOD))
        return Exit.DONE


class _Exchange:
    """The simulator's process as the tour uses it: its address, keys and control endpoint."""

    def __init__(self, announced: dict[str, Any]) -> None:
        self.url: str = announced["url"]
        self.variables: dict[str, str] = announced["variables"]
        self._control: str = announced["control"]

    def sets(self) -> int:
        """Return how many Set MMP requests have arrived so far."""
        return sum(arrival["endpoint"] == "set" for arrival in self._get("arrivals"))

    def violations(self) -> list[Any]:
        """Return the violations the exchange saw."""
        return list(self._get("violations"))

    def wait_for_set(self, seconds: float) -> None:
        """Wait until one more Set MMP has arrived, and a moment for it to be recorded."""
        before, give_up_at = self.sets(), time.monotonic() + seconds
        while self.sets() == before and time.monotonic() < give_up_at:
            time.sleep(0.2)
        time.sleep(0.5)

    def post(self, endpoint: str, payload: dict[str, str]) -> None:
        """Send a control request to the simulated exchange."""
        request = urllib.request.Request(  # noqa: S310  # our own loopback address
            f"{self._control}/{endpoint}",
            data=json.dumps(payload).encode(),
            headers={"Content-Type": "application/json"},
        )
        urllib.request.urlopen(request, timeout=5).close()  # noqa: S310  # as above

    def _get(self, endpoint: str) -> Any:
        with urllib.request.urlopen(f"{self._control}/{endpoint}", timeout=5) as reply:  # noqa: S310  # as above
            answer = json.load(reply)
        return answer[endpoint] if isinstance(answer, dict) else answer


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    """Create a folder with the tour's file, removed at the end. Raises MmpError if none can be written."""
    try:
        temporary = tempfile.TemporaryDirectory(prefix="mmp-demo-")
        (Path(temporary.name) / "mmp.yaml").write_text(CONFIG, encoding="utf-8")
    except OSError as error:
        message = f"no temporary folder can be written to: {error.strerror}"
        raise MmpError("file-unwritable", message, "set TMPDIR to a folder with space in it") from None
    with temporary as folder:
        yield Path(folder)


@contextmanager
def _simulator() -> Iterator[_Exchange]:
    """Run the simulated exchange as a process of its own, as ``mmp simulator`` does."""
    command = [sys.executable, "-m", "reconciler", "simulator", "--output", "json"]
    with subprocess.Popen(  # noqa: S603  # our own program, our own arguments
        [*command, "--families", ",".join(LIVE_BEFORE), "--latency", "50ms", "--jitter", "20ms"],
        env=_clean_environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield _Exchange(json.loads(process.stdout.readline()))
        finally:
            process.terminate()
            process.wait(timeout=10)


def _clean_environment() -> dict[str, str]:
    """Return the environment without anything that points at a real account or configuration."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OKX_", "MMP_")) and name not in ("FORCE_COLOR",)
    }


def _indented(text: str) -> str:
    return "".join(f"  {line}\n" for line in text.splitlines())
