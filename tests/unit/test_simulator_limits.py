"""The rate limits against a brute-force oracle, and what the record calls a breach."""

from __future__ import annotations

from collections import Counter
from itertools import accumulate, product

import pytest

from reconciler.simulator.behaviour_options import LimitStatus, RateMode
from reconciler.simulator.http_messages import ReplyEnvelope, SimRequest, render
from reconciler.simulator.limits import LIMITS, Rates
from reconciler.simulator.request_parsing import Endpoint, MmpSetting
from tests.support.simulator import (
    INSTRUMENTS,
    KEY,
    RESET,
    SET,
    SETTING,
    T0,
    TIME,
    UID,
    UNDERLYING,
    as_body,
    exchange,
    request,
)

pytestmark = pytest.mark.unmeasured

GAPS = (0.0, 1.0, 4.0, 5.0, 6.0, 10.0)
PATTERNS = tuple(tuple(accumulate(gaps, initial=T0)) for gaps in product(GAPS, repeat=4))
OFFSET_PATTERNS = tuple(tuple(at + 7 for at in pattern) for pattern in PATTERNS)


def refused(mode: RateMode, count_refused: bool, arrivals: tuple[float, ...]) -> list[bool]:
    rates = Rates()
    return [rates.arrive(Endpoint.SET, UID, at, mode=mode, count_refused=count_refused) for at in arrivals]


def oracle(mode: RateMode, count_refused: bool, arrivals: tuple[float, ...]) -> list[bool]:
    """Decide by looking at every window there is, in whole seconds."""
    counted: list[int] = []
    verdicts = []
    for at in (int(one - T0) for one in arrivals):
        over = {
            RateMode.SLIDING: any(
                sum(start <= one < start + 10 for one in [*counted, at]) > 2
                for start in range(at - 9, at + 1)
            ),
            RateMode.FIXED: Counter(one // 10 for one in [*counted, at])[at // 10] > 2,
            RateMode.NO_BURST: any(at - 5 < one for one in counted),
        }[mode]
        if count_refused or not over:
            counted.append(at)
        verdicts.append(over)
    return verdicts


@pytest.mark.parametrize("mode", RateMode)
@pytest.mark.parametrize("count_refused", [True, False])
def test_every_way_of_counting_agrees_with_brute_force(mode: RateMode, count_refused: bool) -> None:
    for arrivals in PATTERNS + OFFSET_PATTERNS:
        assert refused(mode, count_refused, arrivals) == oracle(mode, count_refused, arrivals), arrivals


def test_a_caller_within_the_sliding_limit_is_within_the_fixed_one() -> None:
    for arrivals in PATTERNS + OFFSET_PATTERNS:
        if not any(refused(RateMode.SLIDING, True, arrivals)):
            assert not any(refused(RateMode.FIXED, True, arrivals))


@pytest.mark.parametrize(
    ("mode", "arrivals", "expected"),
    [
        (RateMode.SLIDING, (0, 0, 9.999), [False, False, True]),
        (RateMode.SLIDING, (0, 0, 10.0), [False, False, False]),
        (RateMode.SLIDING, (0, 9.5, 10.0, 10.1), [False, False, False, True]),
        (RateMode.FIXED, (9.9, 9.9, 10.0, 10.0, 10.1), [False, False, False, False, True]),
        (RateMode.NO_BURST, (0, 4.999), [False, True]),
        (RateMode.NO_BURST, (0, 5.0, 10.0), [False, False, False]),
    ],
)
def test_the_edges_of_a_window(mode: RateMode, arrivals: tuple[float, ...], expected: list[bool]) -> None:
    assert refused(mode, True, tuple(T0 + at for at in arrivals)) == expected


def test_calls_over_the_limit_push_the_next_slot_away_only_when_they_count() -> None:
    arrivals = (T0, T0, T0 + 8, T0 + 9, T0 + 11)
    assert refused(RateMode.SLIDING, True, arrivals) == [False, False, True, True, True]
    assert refused(RateMode.SLIDING, False, arrivals) == [False, False, True, True, False]


def test_a_long_history_is_forgotten() -> None:
    rates = Rates()
    for one in range(1000):
        rates.arrive(Endpoint.SET, UID, T0 + one, mode=RateMode.SLIDING, count_refused=True)
    assert len(rates._counted[Endpoint.SET, UID]) <= 21


REQUESTS: dict[Endpoint, SimRequest] = {
    Endpoint.SET: request("POST", SET, as_body({"instFamily": "BTC-USD"} | SETTING.wire())),
    Endpoint.GET: request("GET", SET),
    Endpoint.RESET: request("POST", RESET, as_body({"instFamily": "BTC-USD"})),
    Endpoint.ACCOUNT: request("GET", "/api/v5/account/config"),
    Endpoint.TIME: SimRequest("GET", TIME),
    Endpoint.UNDERLYING: SimRequest("GET", f"{UNDERLYING}?instType=OPTION"),
    Endpoint.INSTRUMENTS: SimRequest("GET", f"{INSTRUMENTS}?instType=OPTION"),
}
DOCUMENTED = {"set": (2, 10), "time": (10, 2), "underlying": (20, 2), "instruments": (20, 2)}


@pytest.mark.parametrize("endpoint", Endpoint)
def test_each_endpoint_has_its_documented_limit_of_its_own(endpoint: Endpoint) -> None:
    world = exchange(limit_status=LimitStatus.AS_429)
    count, window_s = LIMITS[endpoint].count, LIMITS[endpoint].window_s
    statuses = [world.handle(REQUESTS[endpoint], T0).status for _ in range(count + 1)]
    assert statuses == [200] * count + [429]
    assert (count, window_s) == DOCUMENTED.get(endpoint.value, (5, 2))
    others = [world.handle(REQUESTS[other], T0).status for other in Endpoint if other is not endpoint]
    assert others == [200] * (len(Endpoint) - 1)


def test_public_time_is_counted_by_address() -> None:
    world = exchange()
    replies = [world.public_time(T0, f"10.0.0.{one % 2}").reply for one in range(20)]
    assert {reply.code for reply in replies if isinstance(reply, ReplyEnvelope)} == {"0"}


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (LimitStatus.AS_200, [200, 200, 200]),
        (LimitStatus.AS_429, [429, 429, 429]),
        (LimitStatus.ALTERNATE, [200, 429, 200]),
    ],
)
def test_50011_comes_with_either_status(status: LimitStatus, expected: list[int]) -> None:
    world = exchange(limit_status=status)
    replies = [render(world.set_mmp(KEY, "BTC-USD", SETTING, T0)) for _ in range(5)][2:]
    assert [reply.status for reply in replies] == expected
    assert all(b'"code":"50011"' in reply.body and b'"data"' not in reply.body for reply in replies)


def test_refused_calls_of_a_known_key_use_up_its_limit() -> None:
    world = exchange()
    for _ in range(2):
        world.set_mmp(KEY, "BTC-USD", MmpSetting("5000", "2000", "0"), T0)
    refusal = world.set_mmp(KEY, "BTC-USD", SETTING, T0).reply
    assert isinstance(refusal, ReplyEnvelope)
    assert refusal.code == "50011"


def test_calls_of_an_unknown_key_use_up_no_limit() -> None:
    world = exchange()
    for _ in range(5):
        world.set_mmp("nobody", "BTC-USD", SETTING, T0)
    reply = world.set_mmp(KEY, "BTC-USD", SETTING, T0).reply
    assert isinstance(reply, ReplyEnvelope)
    assert reply.accepted
    assert world.violations() == ()


@pytest.mark.parametrize("mode", RateMode)
def test_a_breach_is_three_arrivals_within_10_s_however_the_limit_is_counted(mode: RateMode) -> None:
    for arrivals in PATTERNS:
        world = exchange(rate=mode)
        for at in arrivals:
            world.set_mmp(KEY, "BTC-USD", SETTING, at)
        breaches = [one.at for one in world.violations() if one.kind == "rate"]
        expected = [last for first, last in zip(arrivals, arrivals[2:], strict=False) if last - first < 10]
        assert breaches == expected, arrivals
