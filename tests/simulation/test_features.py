"""Histories with a feature are reproducible: one per seed, and histories without one do not change."""

from __future__ import annotations

import pytest

from tests.simulation import scenario
from tests.simulation.features import draw
from tests.simulation.scenario import NO_EXTRAS, Feature, WorldKind, draw_usual
from tests.simulation.world import play

pytestmark = pytest.mark.unmeasured


@pytest.mark.parametrize("kind", WorldKind)
@pytest.mark.parametrize("feature", Feature)
def test_a_seed_with_a_feature_is_one_history(feature: Feature, kind: WorldKind) -> None:
    for seed in (1, 2):
        first = play(seed, kind, tracing=True, feature=feature)

        assert first == play(seed, kind, tracing=True, feature=feature)
        assert first.lines


@pytest.mark.parametrize("kind", WorldKind)
def test_most_seeds_have_no_feature(kind: WorldKind) -> None:
    drawn = [draw(seed, kind) for seed in range(1000)]
    usual = [one for one in drawn if one.extras == NO_EXTRAS]

    assert len(usual) == 600
    assert all(one == draw_usual(one.seed, kind) for one in usual)
    found = {feature for one in drawn for feature in one.extras.features}
    assert found == set(Feature) - scenario.HUNTED_ONLY


def test_without_features_every_seed_is_a_usual_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenario, "FEATURES", set())

    assert all(draw(seed) == draw_usual(seed) for seed in range(200))


@pytest.mark.parametrize("feature", Feature)
def test_a_feature_switched_off_is_not_drawn(feature: Feature, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenario, "FEATURES", set(Feature) - {feature})

    assert not any(feature in draw(seed).extras.features for seed in range(500))
