"""Redacts a file that contains a configured secret: neither messages nor excerpts quote it.

A message may quote a part of a secret in any form, so masking the message afterwards is not safe. If a file
contains a secret, the message of each problem is the summary of its code. Codes and positions stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reconciler.config.yaml_nodes import Tree
from reconciler.core.problems import Problem
from reconciler.secret import blanked, has_secret

REDACTION_HINT = (
    "the file is not quoted, because a configured secret is in it: remove the secret, and replace the key"
)


def redacted(tree: Tree, problems: Sequence[Problem]) -> tuple[str, tuple[Problem, ...], bool]:
    """Return the text and problems of a file without configured secrets, and whether it may be quoted.

    A secret may also be written with escapes. Then only the decoded text contains it.
    """
    quotable = not (has_secret(tree.text) or has_secret(tree.decoded) or any(map(_shows_secret, problems)))
    return blanked(tree.text), without_secrets(problems, quotable), quotable


def without_secrets(problems: Sequence[Problem], quotable: bool) -> tuple[Problem, ...]:
    """Return problems, with the summary of the code as the message if a secret may be visible.

    In a file that is not ``quotable`` this applies to all problems.
    """
    return tuple(
        each if quotable and not _shows_secret(each) else _with_summary_only(each) for each in problems
    )


def _with_summary_only(each: Problem) -> Problem:
    return replace(each, message=each.code.summary, hint=REDACTION_HINT)


def _shows_secret(each: Problem) -> bool:
    return has_secret(each.message) or has_secret(each.hint)
