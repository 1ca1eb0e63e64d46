"""Files that are not there yet, as probes are told of them: each until its own account is kept."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from reconciler.cli.watching import Watching
from reconciler.clock import SystemClock
from reconciler.core.events import ConfigAwaited
from reconciler.sidecar.guard import Listen
from tests.unit.watch_world import fresh


def keeper(path: str) -> Any:
    return SimpleNamespace(
        name=path,
        file=SimpleNamespace(path=path),
        client=None,
        standing=SimpleNamespace(interval_s=30.0),
    )


@pytest.mark.parametrize(
    ("awaited", "kept", "left"),
    [
        (["a.yaml", "b.yaml"], ["a.yaml"], ("b.yaml",)),
        (["a.yaml", "b.yaml"], ["b.yaml", "a.yaml"], ()),
        (["accounts", "b.yaml"], ["accounts/one.yaml"], ("b.yaml",)),
        (["b.yaml", "b.yaml"], [], ("b.yaml",)),
        (["a.yaml"], ["c.yaml"], ("a.yaml",)),
    ],
)
def test_a_file_that_comes_ends_the_wait_for_itself_alone(
    awaited: list[str], kept: list[str], left: tuple[str, ...]
) -> None:
    watching = Watching(Listen("127.0.0.1", 0), cast(Any, SystemClock()))
    for path in awaited:
        watching.hear_of_none(ConfigAwaited((path,)))
    for path in kept:
        watching.keep(keeper(path), fresh())
    assert watching._board.awaited == left
