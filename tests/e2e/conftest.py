"""What every end-to-end test starts from: a simulated exchange, and a desk that has its keys."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.processes import Desk, Exchange, simulator


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    """A simulated exchange with six families, none of them configured."""
    with simulator() as running:
        yield running


@pytest.fixture
def desk(exchange: Exchange, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Desk]:
    """A folder and an environment with the keys of ``exchange``."""
    here = Desk(tmp_path / "desk", exchange.variables)
    here.installed = request.node.get_closest_marker("installed") is not None
    yield here
    here.close()
