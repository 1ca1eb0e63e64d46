"""The flag ``--no-policy``, and the warning about a policy whose file is missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from reconciler.cli.options import CommandOptions
from reconciler.cli.output import Output
from reconciler.core.missing_policy import GivenUp
from reconciler.core.problems import has_visible_text
from reconciler.core.state_records import PolicyRecord
from reconciler.errors import UsageError

if TYPE_CHECKING:
    from reconciler.config.policy import PolicyReading


def given_up(options: CommandOptions) -> GivenUp | None:
    """Return the policy that ``--no-policy`` names, with the reason. Raises UsageError without one."""
    if options.no_policy is None:
        return None
    if options.reason is None or not has_visible_text(options.reason):
        raise UsageError(
            "no-reason",
            "--no-policy needs a reason",
            'add --reason "…" with visible text; the history records it',
        )
    return GivenUp(options.no_policy, options.reason)


def refuse_needless_no_policy(options: CommandOptions, found: Sequence[PolicyReading | None]) -> None:
    """Raise UsageError where ``--no-policy`` is given and there is a policy file, or one is named."""
    if options.no_policy is None:
        return
    if (named := options.policy_file) is not None:
        raise UsageError(
            "no-policy-named",
            f"--no-policy is for a policy file that is missing, and --policy (or MMP_POLICY) names {named}",
            "give one of the two",
        )
    for reading in found:
        if reading is not None:
            raise UsageError(
                "no-policy-found",
                f"--no-policy is for a policy file that is missing, and {reading.path} was found",
                "leave out --no-policy, or remove the file first",
            )


def warn_of_missing(record: PolicyRecord, out: Output) -> None:
    """Warn on stderr that a policy is missing; for commands that only read."""
    from reconciler.controller.account_policy import missing_error  # late: it imports the log

    out.error(missing_error(record), warning=True)
