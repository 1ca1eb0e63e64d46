"""Whether a state may be the record of requests on a machine: every combination, and the limits of time."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from reconciler.core.pacing import EPS_S, LATEST_ARRIVAL_S, WINDOW_S
from reconciler.core.state_registry_rules import IN_USE_S, RegisteredState, Registration, Sighting, register

NOW = 5000.0
OURS = RegisteredState("a" * 32, "/ours/state.db", True, "boot-1")
OTHER = RegisteredState("b" * 32, "/other/state.db", True, "boot-1")
COPY = replace(OURS, place="/copy/state.db")
CASES = list(product((OTHER, COPY), (True, False), (True, False), (True, False), (True, False)))
NAMES = ("registered", "exists", "is_held", "lately", "has_newest")


def test_where_nothing_is_registered_the_state_is_new() -> None:
    assert register(OURS, None, Sighting(True, False, True, False), NOW) is Registration.NEW


@pytest.mark.parametrize(NAMES, CASES)
def test_another_state_in_use_or_with_a_request_that_is_not_on_record_is_never_replaced(
    registered: RegisteredState, exists: bool, is_held: bool, lately: bool, has_newest: bool
) -> None:
    """A copy is another state: it has the same id, and perhaps none of what was sent since."""
    registered = replace(registered, reserved_at=NOW - 10.0 if lately else NOW - 100.0)
    found = register(OURS, registered, Sighting(exists, False, is_held, has_newest), NOW)
    if exists and is_held:
        expected = Registration.REFUSED
    elif lately and not has_newest:
        expected = Registration.BEHIND
    elif not exists and registered.id == OURS.id:
        expected = Registration.MOVED
    else:
        expected = Registration.REPLACED
    assert found is expected


@pytest.mark.parametrize(NAMES, CASES)
def test_a_state_under_another_name_is_itself_unless_it_was_restored(
    registered: RegisteredState, exists: bool, is_held: bool, lately: bool, has_newest: bool
) -> None:
    registered = replace(registered, reserved_at=NOW - 1.0 if lately else None)
    expected = Registration.BEHIND if lately and not has_newest else Registration.UNCHANGED
    assert register(OURS, registered, Sighting(exists, True, is_held, has_newest), NOW) is expected


@pytest.mark.parametrize(
    ("reserved_at", "boot", "found"),
    [
        (None, "boot-1", Registration.REPLACED),
        (NOW - IN_USE_S + 0.001, "boot-1", Registration.BEHIND),
        (NOW - IN_USE_S, "boot-1", Registration.REPLACED),
        (NOW - 1.0, "boot-0", Registration.REPLACED),
    ],
)
def test_a_request_that_is_not_on_record_is_waited_for_as_long_as_it_may_count(
    reserved_at: float | None, boot: str, found: Registration
) -> None:
    registered = replace(OTHER, reserved_at=reserved_at, boot=boot)
    assert register(OURS, registered, Sighting(True, False, False, False), NOW) is found
    assert IN_USE_S >= LATEST_ARRIVAL_S + WINDOW_S + EPS_S
