"""SIGKILL at any moment, then a restart: the rate limit is respected, nothing is sent twice needlessly."""

from __future__ import annotations

import random
import time

import pytest

from tests.e2e.processes import FAMILIES, Desk, Exchange, gaps, simulator

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

APPLY = ("apply", "--yes", "--assume-idle", "--lock-timeout", "5s")


def confirmed(desk: Desk) -> dict[str, str]:
    """Return the setting of every family whose newest attempt is on record as applied."""
    history = desk.mmp("history", "--output", "json")
    if history.status:
        return {}
    newest = {attempt["family"]: attempt for attempt in reversed(history.document["attempts"])}
    return {
        family: "/".join(
            attempt["setting"][name] for name in ("timeInterval", "frozenInterval", "qtyLimit")
        )
        for family, attempt in newest.items()
        if attempt["outcome"] == "applied"
    }


class Kills:
    """One apply after another, each killed, with what was on record after each."""

    def __init__(self, desk: Desk, exchange: Exchange) -> None:
        self.desk = desk
        self.exchange = exchange
        self.on_record: list[tuple[int, dict[str, str]]] = []

    def kill_in_flight(self, requests: int) -> None:
        """Kill an apply as soon as ``requests`` have arrived in all, before a reply can be back."""
        running = self.desk.start(*APPLY)
        self.exchange.wait_for_requests(requests)
        running.kill()
        self._note()

    def kill_after(self, seconds: float) -> None:
        """Kill an apply that many seconds after its start, whatever it does then."""
        running = self.desk.start(*APPLY)
        time.sleep(seconds)
        running.kill()
        self._note()

    def finish(self, desired: dict[str, str]) -> None:
        """Let one apply run to its end and check the entire history against the promises."""
        ended = self.desk.mmp(*APPLY)
        assert ended.status == 0, ended.stderr
        assert self.exchange.live() == desired
        assert self.exchange.violations() == []
        assert all(gap > 10.0 for gap in gaps(self.exchange.arrivals()))
        arrivals = self.exchange.arrivals()
        for before, known in self.on_record:
            sent_again = {one["family"] for one in arrivals[before:]} & set(known)
            assert not sent_again, "a family that was confirmed was sent again"

    def _note(self) -> None:
        known = confirmed(self.desk)
        self.on_record.append((len(self.exchange.arrivals()), known))


def test_killed_before_during_and_between_requests(tmp_path_factory: pytest.TempPathFactory) -> None:
    desired = dict.fromkeys(FAMILIES[:3], "5000/2000/100")
    with simulator(latency="800ms") as exchange:
        desk = Desk(tmp_path_factory.mktemp("kills") / "desk", exchange.variables)
        desk.wants(desired)
        kills = Kills(desk, exchange)
        kills.kill_after(random.Random(1).uniform(0.2, 0.9))
        kills.kill_in_flight(requests=1)
        kills.kill_after(random.Random(2).uniform(1.0, 2.5))
        kills.finish(desired)
        assert sorted(set(exchange.written())) == sorted(desired)
        desk.close()


@pytest.mark.proof
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_thirty_kills_in_a_row(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    chance = random.Random(seed)
    desired = dict.fromkeys(FAMILIES, "5000/2000/100")
    with simulator("--jitter", "100ms", latency="300ms") as exchange:
        desk = Desk(tmp_path_factory.mktemp("kills") / "desk", exchange.variables)
        desk.wants(desired)
        kills = Kills(desk, exchange)
        for _ in range(30):
            kills.kill_after(chance.uniform(0.2, 4.0))
        kills.finish(desired)
        desk.close()
