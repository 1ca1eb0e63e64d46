"""A running ``mmp run --listen``, and the HTTP requests of a test to it."""

from __future__ import annotations

import json
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.processes import Desk, Running, eventually, hold_to_schema


@dataclass(frozen=True)
class Sidecar:
    """A running ``mmp run --listen``."""

    process: Running
    url: str

    def ask(self, path: str) -> tuple[int, str]:
        """Return status and body of what is at ``path``."""
        try:
            with urllib.request.urlopen(f"{self.url}{path}", timeout=10) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, refused.read().decode()

    def wait_for(self, path: str, within_s: float) -> None:
        """Wait until a probe passes."""
        eventually(lambda: self.ask(path)[0] == 200, within_s, f"{path} to be 200")

    def status(self) -> Any:
        """Return the status document, validated against its schema."""
        status, body = self.ask("/api/v1/status")
        assert status == 200
        document = json.loads(body)
        hold_to_schema(document)
        return document

    def metric(self, name: str, **labels: str) -> float:
        """Return the one sample of a metric with at least these labels."""
        (value,) = self.samples(name, **labels)
        return value

    def samples(self, name: str, **labels: str) -> list[float]:
        """Return every sample of a metric with at least these labels."""
        return [
            sample.value
            for family in text_string_to_metric_families(self.ask("/metrics")[1])
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]


def started(desk: Desk, *flags: str, under: Sequence[str] = ()) -> Sidecar:
    """Start a sidecar on a free port; ``under``: a command before it that becomes ``mmp`` in the end."""
    process = desk.start("run", "--assume-idle", "--listen", "127.0.0.1:0", *flags, under=under)
    return Sidecar(process, process.wait_for_log("listening")["url"])


def ends_well(sidecar: Sidecar) -> None:
    began = time.monotonic()
    sidecar.process.signal(signal.SIGTERM)
    assert sidecar.process.wait().status == 0
    assert time.monotonic() - began < 4.0
