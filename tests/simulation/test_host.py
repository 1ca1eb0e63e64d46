"""The clocks of simulated machines: each boot has one of its own."""

from __future__ import annotations

import pytest

from tests.simulation.host import Host


def test_an_instant_of_an_earlier_boot_stays_the_time_it_was() -> None:
    host = Host("host", rate=1.0005, uptime=40.0, wall_offset_s=0.0)
    instant = host.monotonic(3.0)

    host.reboot(5.0, uptime=2.0)

    assert host.true_time(instant, boot=1) == pytest.approx(3.0, abs=1e-5)
    assert host.true_time(host.monotonic(6.0)) == pytest.approx(6.0, abs=1e-5)
