"""Whether a state may be the record of requests on a machine: every combination, and the limits of time."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from reconciler.core.pacing import EPS_S, LATEST_ARRIVAL_S, WINDOW_S
from reconciler.core.registered_state import IN_USE_S, RegisteredState, Registration, Sighting, register

NOW = 5000.0
OURS = RegisteredState("a" * 32, "/ours/state.db", True, "boot-1")
OTHER = RegisteredState("b" * 32, "/other/state.db", True, "boot-1")
COPY = replace(OURS, place="/copy/state.db")
CASES = list(product((OTHER, COPY), (True, False), (True, False), (True, False)))


def test_where_nothing_is_registered_the_state_is_new() -> None:
    assert register(OURS, None, Sighting(True, False, True), NOW) is Registration.NEW


@pytest.mark.parametrize(("registered", "exists", "is_held", "lately"), CASES)
def test_another_state_in_use_is_never_replaced_and_one_that_is_not_always_is(
    registered: RegisteredState, exists: bool, is_held: bool, lately: bool
) -> None:
    """A copy is another state: it has the same id, and none of what was sent since."""
    registered = replace(registered, reserved_at=NOW - 10.0 if lately else NOW - 100.0)
    found = register(OURS, registered, Sighting(exists, False, is_held), NOW)
    if not exists:
        expected = Registration.MOVED if registered.id == OURS.id else Registration.REPLACED
    elif is_held or lately:
        expected = Registration.REFUSED
    else:
        expected = Registration.REPLACED
    assert found is expected


@pytest.mark.parametrize(("registered", "exists", "is_held", "lately"), CASES)
def test_a_state_under_another_name_is_itself(
    registered: RegisteredState, exists: bool, is_held: bool, lately: bool
) -> None:
    registered = replace(registered, reserved_at=NOW - 1.0 if lately else None)
    assert register(OURS, registered, Sighting(exists, True, is_held), NOW) is Registration.KEPT


@pytest.mark.parametrize(
    ("reserved_at", "boot", "found"),
    [
        (None, "boot-1", Registration.REPLACED),
        (NOW - IN_USE_S + 0.001, "boot-1", Registration.REFUSED),
        (NOW - IN_USE_S, "boot-1", Registration.REPLACED),
        (NOW - 1.0, "boot-0", Registration.REPLACED),
    ],
)
def test_a_state_is_in_use_for_as_long_as_its_last_request_may_count(
    reserved_at: float | None, boot: str, found: Registration
) -> None:
    registered = replace(OTHER, reserved_at=reserved_at, boot=boot)
    assert register(OURS, registered, Sighting(True, False, False), NOW) is found
    assert IN_USE_S >= LATEST_ARRIVAL_S + WINDOW_S + EPS_S
