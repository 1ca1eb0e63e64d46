"""The policies of these worlds as the program is given them: the one place that knows how it asks."""

from __future__ import annotations

from decimal import Decimal
from functools import cache
from typing import Any

from reconciler.controller import reconcile
from reconciler.core import policy as policies
from reconciler.core.policy import Loosening, Policy
from tests.simulation.scenario import PolicyState


def policy_in_force(state: PolicyState | None, readable: PolicyState | None) -> Any:
    """Return the policy file of this moment as ``Options.policy`` is to say it.

    ``state``: the file as it is, None: there is none. ``readable``: the last one that could be read.
    """
    policy = _policy(readable)
    unreadable = state is not None and state.unreadable
    in_force = getattr(policies, "PolicyInForce", None) or getattr(reconcile, "PolicyInForce", None)
    return policy if in_force is None else in_force(policy, unreadable)


@cache
def _policy(state: PolicyState | None) -> Policy | None:
    if state is None:
        return None
    factor = None if state.max_factor is None else Decimal(state.max_factor)
    return Policy(
        "mmp-policy.yaml",
        repr(state),
        loosening=Loosening(max_factor=factor, max_families=state.max_families),
        disable_allowed=True,
    )
