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


def test_a_suspended_machine_has_a_clock_that_stands_still() -> None:
    host = Host("host", rate=1.0, uptime=40.0, wall_offset_s=0.0)
    before = host.monotonic(3.0)

    host.suspend(4.0, 60.0)
    after = host.monotonic(65.0)

    assert host.suspended_s() == 60.0
    assert after - before == pytest.approx(2.0, abs=1e-5)
    assert host.true_time(before) == pytest.approx(3.0, abs=1e-5)
    assert host.true_time(after) == pytest.approx(65.0, abs=1e-5)
    assert host.resumed_at == host.suspended_until == 64.0


def test_a_suspension_ends_with_the_boot_and_is_not_counted_twice() -> None:
    host = Host("host", rate=1.0, uptime=40.0, wall_offset_s=0.0)

    host.suspend(1.0, 10.0)
    host.suspend(2.0, 10.0)
    assert host.suspended_s() == 10.0

    host.reboot(5.0, uptime=2.0)
    assert host.suspended_s() == 0.0
    assert host.suspended_until == 5.0
    assert host.monotonic(6.0) == pytest.approx(3.0, abs=1e-5)
