"""Every mistake that was made on purpose is found, so what is not found is probably not there."""

from __future__ import annotations

import pytest

from tests.simulation.mutants import BOUND, MUTANTS, hunt

pytestmark = pytest.mark.unmeasured


@pytest.mark.proof
@pytest.mark.parametrize("name", [mutant.name for mutant in MUTANTS])
def test_each_mutant_is_caught(name: str) -> None:
    found = hunt(name, BOUND)
    print(found.line())

    assert found.violation is not None, f"{name}: not caught within {BOUND} seeds"


def test_a_mutant_ends_with_its_hunt() -> None:
    first, *_ = MUTANTS
    patch = first.patches[0]
    before = getattr(patch.target, patch.attribute)

    with first.in_force():
        assert getattr(patch.target, patch.attribute) is patch.instead

    assert getattr(patch.target, patch.attribute) is before
