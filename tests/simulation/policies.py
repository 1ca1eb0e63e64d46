"""The policies of these worlds in the form that the program reads: only this module knows that form."""

from __future__ import annotations

from decimal import Decimal
from functools import cache

from reconciler.core.policy import Loosening, Policy, PolicyInForce
from tests.simulation.scenario import PolicyState


def policy_in_force(state: PolicyState | None, readable: PolicyState | None) -> PolicyInForce:
    """Return the policy file of this moment as ``PassOptions.policy`` returns it.

    ``state``: the file as it is, None: there is none. ``readable``: the last one that could be read.
    """
    policy = _policy(readable)
    unreadable = state is not None and state.unreadable
    return PolicyInForce(policy, unreadable)


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
