"""Every deliberate mistake is found, so a kind of mistake that is never found is probably absent."""

from __future__ import annotations

import pytest

from reconciler.core import family_decision
from reconciler.store.sqlite.file_locks import StoreMisuse
from tests.simulation.mutants import BOUND, MUTANTS, Mutant, Patch, hunt, hunted, mutant_named

pytestmark = pytest.mark.unmeasured


@pytest.mark.proof
@pytest.mark.parametrize("name", [mutant.name for mutant in MUTANTS])
def test_each_mutant_is_caught(name: str) -> None:
    found = hunt(name, BOUND)
    print(found.line())

    assert found.violation is not None, found.line()


def test_a_mutant_ends_with_its_hunt() -> None:
    first, *_ = MUTANTS
    patch = first.patches[0]
    before = getattr(patch.target, patch.attribute)

    with first.in_force():
        assert getattr(patch.target, patch.attribute) is patch.instead

    assert getattr(patch.target, patch.attribute) is before


@pytest.mark.parametrize("name", [mutant.name for mutant in MUTANTS])
def test_what_a_mutant_replaces_is_there(name: str) -> None:
    with mutant_named(name).in_force():
        pass


def test_every_mutant_has_a_name_of_its_own() -> None:
    names = [mutant.name for mutant in MUTANTS]

    assert len(set(names)) == len(names)


@pytest.mark.parametrize("slip", [TypeError, AttributeError, NameError, UnboundLocalError])
def test_a_mutant_whose_own_code_fails_is_not_caught(slip: type[Exception]) -> None:
    found = hunted(_raising(slip), 5)

    assert found.violation is None
    assert found.line().startswith("ESCAPED")
    assert f"is itself broken: {slip.__name__}: as made" in found.line()


def test_a_mutant_that_ends_a_process_by_what_the_program_raises_is_caught() -> None:
    found = hunted(_raising(StoreMisuse), 5)

    assert found.violation is not None
    assert (found.violation.checker, found.violation.detail) == ("no_crash", "StoreMisuse: as made")


def _raising(error: type[Exception]) -> Mutant:
    def crash(*_: object) -> bool:
        raise error("as made")

    return Mutant("crashing", (Patch(family_decision, "_frozen", crash),))
