"""The reader of nodes: what it does to the garbage collector, and which problems it lists of very many."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from reconciler.config import settings
from reconciler.config.policy import read_policy
from reconciler.config.settings import read_config
from reconciler.core.problems import MAX_PROBLEMS

HEAD = "version: 1\nenvironment: live\nfamilies:\n"
FIELDS = "{timeInterval: 5s, frozenInterval: 2s, qtyLimit: 100}"
GOOD = f"{HEAD}  BTC-USD: {FIELDS}\n".encode()


@pytest.fixture(autouse=True)
def _collecting() -> Iterator[None]:
    gc.enable()
    yield
    gc.enable()


def test_the_collector_is_enabled_again_after_a_file() -> None:
    for content in (GOOD, b"[", b"\xff", b""):
        read_config(content, "mmp.yaml")
        assert gc.isenabled()
        read_policy(content, "mmp-policy.yaml")
        assert gc.isenabled()


def test_a_disabled_collector_stays_disabled() -> None:
    gc.disable()
    read_config(GOOD, "mmp.yaml")
    assert not gc.isenabled()


def test_the_collector_is_paused_while_a_file_is_read_and_enabled_after_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []

    def fail(content: bytes, path: str) -> None:
        seen.append((content, path, gc.isenabled()))
        raise RuntimeError

    monkeypatch.setattr(settings, "read_nodes", fail)
    with pytest.raises(RuntimeError):
        read_config(GOOD, "mmp.yaml")
    assert seen == [(GOOD, "mmp.yaml", False)]
    assert gc.isenabled()


@pytest.mark.parametrize("line", ["k#: 1", "a#: {qtyLimit: 1}"])
def test_of_very_many_problems_the_first_are_listed(line: str) -> None:
    head = "" if line.startswith("k") else HEAD.replace("families", "defaults: " + FIELDS + "\nfamilies")
    lines = [f"  {line}" if head else line for _ in range(3 * MAX_PROBLEMS)]
    text = head + "\n".join(each.replace("#", str(number)) for number, each in enumerate(lines))
    found = read_config(text.encode(), "mmp.yaml").problems
    named = {each.line - head.count("\n") for each in found}
    assert set(range(1, 91)) <= named
    assert max(named) <= MAX_PROBLEMS
