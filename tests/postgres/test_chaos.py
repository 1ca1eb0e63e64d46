"""Three replicas and pipelines over thirty accounts, while a seed kills, stops, cuts and restarts.

``CHAOS_SECONDS`` is how long (default 120), ``CHAOS_SEED`` which history. Run it alone: it measures how
long things take.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from tests.postgres.chaos import Chaos
from tests.postgres.many_accounts import fleet
from tests.support.postgres import server

pytestmark = [pytest.mark.e2e, pytest.mark.chaos]

SECONDS = float(os.environ.get("CHAOS_SECONDS", "120"))
SEED = int(os.environ.get("CHAOS_SEED", "1"))

ACCOUNTS = 30
TAKEN_OVER_S = 15.0
AT_REST_S = 90.0
"""After the last disturbance: a takeover, what may have arrived unseen (45 s), and the pace."""

LONG_S = 60.0
"""In so many seconds every kind of disturbance happens, and each dead replica is replaced."""

KINDS = {"kill", "stop", "cut", "restart"}


def test_whatever_is_killed_stopped_or_cut_every_account_ends_as_its_file_says(tmp_path: Path) -> None:
    with server() as postgres, fleet(postgres, tmp_path / "desk", ACCOUNTS) as desks:
        chaos = Chaos(desks, postgres, desks.database, SEED)
        chaos.begin()
        try:
            chaos.run(SECONDS)
            desks.wait_until_right(AT_REST_S)
        finally:
            chaos.end()
        arrived = len(desks.exchange.arrivals())
        statuses = Counter(ended.status for ended in chaos.pipelines)
        message = (
            f"seed {SEED}: {dict(chaos.disturbed)} disturbed, {chaos.differences} differences, "
            f"{arrived} requests, pipelines by status {dict(statuses)}, "
            f"{len(chaos.orphans.taken_over)} takeovers, the longest {chaos.orphans.message}"
        )
        print(message)
        assert desks.exchange.violations() == [], message
        assert desks.most_in_ten_seconds() <= 2, message
        assert chaos.orphans.longest_s <= TAKEN_OVER_S, f"{message}\n{chaos.log}"
        assert arrived <= chaos.differences + chaos.disturbances, f"{message}\n{chaos.log}"
        assert statuses.keys() <= {0, 1, 5, 6, 7}, message
        assert statuses[0] > 0, f"no pipeline did all its work: {message}"
        if SECONDS >= LONG_S:
            assert chaos.disturbed.keys() == KINDS, message
            assert chaos.orphans.taken_over, message
