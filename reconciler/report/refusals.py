"""What is said of refusals in every rendering of a plan: who refuses, and the command that overrides it.

A refusal in a plan file was judged by the policy of that day, so it is shown with the hash of that policy
and never as final: ``apply`` judges again.
"""

from __future__ import annotations

from collections.abc import Callable

from reconciler.report.documents import Context

Quote = Callable[[str], str]
"""Makes text from outside harmless where it will stand."""

SHA_SHOWN = 12
"""Digits of a sha256 that people compare; the documents hold all of them."""


def refused_by(context: Context, quote: Quote) -> str:
    """Return the words that come before the refusals of a plan, without a colon."""
    policy = context.policy
    if context.kept is None:
        if context.old and context.old.policy_changed:
            return "Refused by the policy before or after"
        return f"Refused by {quote(policy.path) if policy else 'the policy'}"
    judge = (
        f"{quote(policy.path)} (sha256 {quote(policy.sha256[:SHA_SHOWN])})" if policy else "no policy file"
    )
    return f"Refused, as the plan file says of {judge}; mmp apply judges again"
