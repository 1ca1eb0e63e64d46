"""The installed ``mmp`` command and ``mmp simulator``, each a real process, as the tests use them.

Every command runs in a folder of its own. Its environment contains only what the test gave it. The tests
check at once that whatever a command writes contains no traceback, no secret and no key id. They ask the
simulated exchange over its control endpoint what it received.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from jsonschema import Draft202012Validator

from reconciler.clock import SystemClock
from reconciler.core.model import Environment, ExchangeKind
from reconciler.okx.wire import parse_base_url
from reconciler.schema_files import load_schema
from reconciler.store.engine import StateOptions
from reconciler.store.sqlite.state import open_state
from tests.support.forked_command import run_forked
from tests.support.forked_simulator import forked_simulator

MMP = str(Path(sys.executable).parent / "mmp")
"""The command as it was installed beside the interpreter that runs the tests."""

PATIENCE_S = 90.0
"""How long any one command may take before the test gives up: far more than all of them take."""

LIVE = "5000/2000/100"
"""What a family is configured with where a test does not care."""

FAMILIES = ("BTC-USD", "BTC-USD_UM", "ETH-USD", "ETH-USD_UM", "SOL-USD_UM", "XAU-USD_UM")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ended:
    """The result of one command: exit status, all output, start time (wall) and duration."""

    status: int
    stdout: str
    stderr: str
    began_at: float
    seconds: float

    @property
    def document(self) -> Any:
        """The one JSON document on stdout, validated against its published schema where it has one."""
        document = json.loads(self.stdout)
        hold_to_schema(document)
        return document

    @property
    def log(self) -> list[dict[str, Any]]:
        """The JSON log lines of stderr."""
        return log_lines(self.stderr)

    @property
    def outcomes(self) -> dict[str, str]:
        """The outcome of every family of an apply's document."""
        return {result["family"]: result["outcome"] for result in self.document["results"]}

    @property
    def error_code(self) -> str:
        """The code of the last ``error[code]: …`` line on stderr; empty when there is none."""
        lines = [line for line in self.stderr.splitlines() if line.startswith("error[")]
        return lines[-1][len("error[") :].partition("]")[0] if lines else ""


class Exchange:
    """The simulator's process: its address, its keys, and the requests it received."""

    def __init__(self, announced: Mapping[str, Any]) -> None:
        self.url: str = announced["url"]
        self.uid: str = announced["uid"]
        self.variables: dict[str, str] = announced["variables"]

    def arrivals(self, endpoint: str = "set") -> list[dict[str, Any]]:
        """Return the requests to ``endpoint`` that reached the exchange, oldest first."""
        return [one for one in self._ask("arrivals") if one["endpoint"] == endpoint]

    def written(self) -> list[str]:
        """Return the families of the Set MMP requests that arrived, in order."""
        return [one["family"] for one in self.arrivals()]

    def live(self) -> dict[str, str]:
        """Return what is truly in force, as ``timeInterval/frozenInterval/qtyLimit`` by family."""
        rows = self._ask("settings")[self.uid]
        return {
            family: f"{row['timeInterval']}/{row['frozenInterval']}/{row['qtyLimit']}"
            for family, row in rows.items()
        }

    def live_of_all(self) -> dict[str, dict[str, str]]:
        """Return what is truly in force for every User ID, as :meth:`live` does for one."""
        return {
            uid: {
                family: f"{row['timeInterval']}/{row['frozenInterval']}/{row['qtyLimit']}"
                for family, row in rows.items()
            }
            for uid, rows in self._ask("settings").items()
        }

    def violations(self) -> list[Any]:
        """Return the violations the exchange saw: of the rate, of a freeze, of the format."""
        found: list[Any] = self._ask("violations")
        return found

    def control(self, endpoint: str, **payload: object) -> None:
        """Make the exchange behave in a given way."""
        self._ask(endpoint, payload)

    def change(self, family: str, setting: str) -> None:
        """Change a setting at the exchange without mmp."""
        window, freeze, quantity = setting.split("/")
        self.control(
            "settings", family=family, timeInterval=window, frozenInterval=freeze, qtyLimit=quantity
        )

    def wait_for_requests(self, number: int, within_s: float = 30.0) -> None:
        """Wait until ``number`` Set MMP requests have arrived in all."""
        eventually(lambda: len(self.arrivals()) >= number, within_s, f"{number} Set MMP requests")

    def _ask(self, endpoint: str, payload: Mapping[str, object] | None = None) -> Any:
        """Ask once it listens: the test may have stopped it before."""
        message = eventually(lambda: self._try_to_ask(endpoint, payload), 15.0, "the simulator to listen")
        assert message is not None
        return message[0]

    def _try_to_ask(self, endpoint: str, payload: Mapping[str, object] | None) -> tuple[Any] | None:
        request = urllib.request.Request(
            f"{self.url}/_control/{endpoint}",
            data=None if payload is None else json.dumps(payload).encode(),
            headers={} if payload is None else {"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as reply:
                answer = json.load(reply)
        except urllib.error.HTTPError:
            raise
        except (urllib.error.URLError, ConnectionError):
            return None
        return (answer[endpoint] if isinstance(answer, dict) and endpoint in answer else answer,)


@dataclass
class Running:
    """A command that was started and still runs."""

    process: subprocess.Popen[bytes]
    out: Path
    err: Path
    secrets: tuple[str, ...]
    began: float = field(default_factory=time.monotonic)
    began_at: float = field(default_factory=time.time)

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid

    def signal(self, number: signal.Signals) -> None:
        """Send the process a signal."""
        self.process.send_signal(number)

    def log(self) -> list[dict[str, Any]]:
        """Return the JSON log lines written so far."""
        return log_lines(self.err.read_text(encoding="utf-8"))

    def wait_for_log(self, words: str, within_s: float = 30.0, number: int = 1) -> dict[str, Any]:
        """Wait until ``number`` log lines contain ``words``; returns the last of them."""

        def matching() -> list[dict[str, Any]]:
            assert self.process.poll() is None, self.err.read_text(encoding="utf-8")
            return [line for line in self.log() if words in line["event"]]

        eventually(lambda: len(matching()) >= number, within_s, f"the log to say {words!r}")
        return matching()[number - 1]

    def kill(self) -> Ended:
        """Send SIGKILL and wait."""
        self.signal(signal.SIGKILL)
        return self.wait()

    def wait(self, within_s: float = PATIENCE_S) -> Ended:
        """Wait for the end, and check the output for tracebacks, secrets and key ids."""
        try:
            status = self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(
                f"still running after {within_s} s: {self.err.read_text(encoding='utf-8')}"
            ) from None
        seconds = time.monotonic() - self.began
        stdout, stderr = (path.read_text(encoding="utf-8") for path in (self.out, self.err))
        ended = Ended(status, stdout, stderr, self.began_at, seconds)
        _hold(ended, self.secrets)
        return ended


class Desk:
    """One folder with its files and its environment, in which ``mmp`` runs.

    ``installed``: :meth:`mmp` starts the installed command; otherwise it forks the same command from a
    process that has imported everything already, which takes a tenth of the time.
    """

    installed = False

    def __init__(self, folder: Path, variables: Mapping[str, str]) -> None:
        self.folder = folder
        self.folder.mkdir()
        self._written = folder.with_name(folder.name + ".written")
        self._written.mkdir()
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "TERM": "xterm-256color",
            **variables,
        }
        self.secrets = secrets_of(variables)
        self.started: list[Running] = []
        self._forked = 0

    @property
    def config(self) -> Path:
        """The settings file."""
        return self.folder / "mmp.yaml"

    @property
    def state(self) -> Path:
        """The state file."""
        return self.folder / ".mmp" / "state.db"

    def uses_state(self, exchange: Exchange, account: str = "main") -> None:
        """Create a state that was used for an account, without anything applied."""
        self.state.parent.mkdir(mode=0o700, exist_ok=True)
        base = parse_base_url(exchange.variables["MMP_BASE_URL"], frozenset())
        state = open_state(str(self.state), StateOptions(SystemClock(), "another", lock_timeout_s=0.0))
        store = state.account(account, Environment.LIVE, ExchangeKind.SIMULATOR)
        asyncio.run(store.identify(exchange.uid, base.host))
        state.close_now()

    def wants(self, families: Mapping[str, str], *, name: str = "mmp.yaml", **top: str) -> None:
        """Write a settings file, each value ``timeInterval/frozenInterval/qtyLimit`` of the file."""
        put_in_place(self.folder / name, desired_text(families, **top))

    def start(
        self,
        *arguments: str,
        env: Mapping[str, str | None] | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        under: Sequence[str] = (),
    ) -> Running:
        """Start ``mmp`` with ``arguments``; ``env`` adds variables, None takes one away.

        ``stdout`` and ``stderr`` are descriptors to write to instead of files. ``under``: a command
        before it that becomes ``mmp`` in the end, such as ``unshare``.
        """
        number = len(self.started)
        out, err = self._written / f"{number}.out", self._written / f"{number}.err"
        with out.open("wb") as to_out, err.open("wb") as to_err:
            process = subprocess.Popen(
                [*under, MMP, *arguments],
                cwd=self.folder,
                env=self.environment_with(env),
                stdin=subprocess.DEVNULL,
                stdout=to_out if stdout is None else stdout,
                stderr=to_err if stderr is None else stderr,
            )
        running = Running(process, out, err, self.secrets + secrets_of(env or {}))
        self.started.append(running)
        return running

    def mmp(self, *arguments: str, env: Mapping[str, str | None] | None = None) -> Ended:
        """Run ``mmp`` with ``arguments`` to its end."""
        if self.installed:
            return self.start(*arguments, env=env).wait()
        self._forked += 1
        files = [self._written / f"forked-{self._forked}.{name}" for name in ("out", "err")]
        began, began_at = time.monotonic(), time.time()
        status = run_forked(
            arguments,
            folder=self.folder,
            environment=self.environment_with(env),
            stdout=files[0],
            stderr=files[1],
            within_s=PATIENCE_S,
        )
        seconds = time.monotonic() - began
        stdout, stderr = (path.read_text(encoding="utf-8") for path in files)
        assert status is not None, f"still running after {PATIENCE_S} s: {stderr}"
        ended = Ended(status, stdout, stderr, began_at, seconds)
        _hold(ended, self.secrets + secrets_of(env or {}))
        return ended

    def environment_with(self, env: Mapping[str, str | None] | None) -> dict[str, str]:
        """Return the environment, updated with ``env``."""
        merged: dict[str, str | None] = {**self.environment, **(env or {})}
        return {name: value for name, value in merged.items() if value is not None}

    def close(self) -> None:
        """End the processes that still run, and check that no file contains a secret."""
        for running in self.started:
            if running.process.poll() is None:
                running.process.kill()
                running.process.wait()
        for path in self.folder.rglob("*"):
            if path.is_file() and path.suffix != ".secret":
                content = path.read_bytes()
                found = [secret for secret in self.secrets if secret.encode() in content]
                assert not found, f"{path.name} holds a secret"


@contextmanager
def simulator(*flags: str, families: str = "", latency: str = "10ms") -> Iterator[Exchange]:
    """Run ``mmp simulator`` as a process; at the end it must have seen no violation.

    ``families`` as its flag takes them; by default the six of FAMILIES, none of them configured.
    """
    usual = ["--output", "json", "--latency", latency, "--families", families or ",".join(FAMILIES)]
    with forked_simulator([*usual, *flags]) as announced:
        exchange = Exchange(json.loads(announced))
        yield exchange
        violations = exchange.violations()
        assert not violations, violations


def desired_text(families: Mapping[str, str], **top: str) -> str:
    """Return a settings file; ``top`` sets or replaces top-level lines."""
    lines = {"version": "1", "account": "main", "environment": "live", **top}
    text = "".join(f"{name}: {value}\n" for name, value in lines.items()) + "families:\n"
    for family, setting in families.items():
        window, freeze, quantity = setting.split("/")
        text += f"  {family}: {{timeInterval: {window}, frozenInterval: {freeze}, qtyLimit: {quantity}}}\n"
    return text


def put_in_place(path: Path, text: str) -> None:
    """Replace a file atomically, as a careful editor does."""
    aside = path.with_name(path.name + ".new")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)


def configured(*families: str, setting: str = LIVE) -> str:
    """Return a ``--families`` value with ``families`` configured and the others known."""
    return ",".join(f"{name}={setting}" if name in families else name for name in FAMILIES)


def eventually(holds: Callable[[], T], within_s: float, what: str) -> T:
    """Return the first true value of ``holds``; fails after ``within_s`` seconds."""
    give_up_at = time.monotonic() + within_s
    while not (value := holds()):
        assert time.monotonic() < give_up_at, f"waited {within_s} s in vain for {what}"
        time.sleep(0.05)
    return value


SCHEMA_OF = {
    **dict.fromkeys(("plan", "plans"), "plan"),
    **dict.fromkeys(("apply", "applies"), "apply"),
    **dict.fromkeys(("status", "statuses"), "status"),
    "problems": "problems",
}
"""Which published schema a document of the format ``mmp/NAME/1`` has to satisfy."""


def hold_to_schema(document: Any) -> None:
    """Fail when a document of a published format does not match its schema."""
    if not isinstance(document, dict):
        return
    _, name, _ = document.get("format", "//").split("/", 2)
    if name in SCHEMA_OF:
        validator(SCHEMA_OF[name]).validate(document)


@cache
def validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(load_schema(name))


def log_lines(text: str) -> list[dict[str, Any]]:
    """Return the lines of ``text`` that are JSON objects; the last one may still be half written."""
    lines = [line for line in text.splitlines() if line.startswith("{") and line.endswith("}")]
    return [json.loads(line) for line in lines]


def gaps(arrivals: list[dict[str, Any]]) -> list[float]:
    """Return the seconds from each arrival to the one after the next: none may be below 10."""
    times = [one["at"] for one in arrivals]
    return [later - earlier for earlier, later in zip(times, times[2:], strict=False)]


def secrets_of(variables: Mapping[str, str | None]) -> tuple[str, ...]:
    """Return the values among ``variables`` that no output may show: key ids, keys, passphrases."""
    parts = ("API_KEY", "SECRET_KEY", "PASSPHRASE")
    return tuple(value for name, value in variables.items() if name.endswith(parts) and value)


def _hold(ended: Ended, secrets: tuple[str, ...]) -> None:
    message = ended.stdout + ended.stderr
    assert "Traceback" not in message, message
    assert "Unclosed" not in message, message
    assert "internal-error" not in message, message
    for secret in secrets:
        assert secret not in message, f"a secret was written: {message}"
