"""A file that has a configured secret in it: nothing of it is quoted, neither in messages nor in excerpts.

A message may quote the first or last part of a secret, in whatever form, so masking it afterwards would not
be certain. Where a secret is in the file, problems keep their code and place and get the code's own title.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reconciler.config.yaml_nodes import Tree
from reconciler.core.problem_catalogue import CATALOGUE
from reconciler.core.problems import Problem
from reconciler.secret import blanked, has_secret

HINT = "nothing of the file is quoted, because a configured secret is in it: remove it, and replace the key"


def unquoted(tree: Tree, problems: Sequence[Problem]) -> tuple[str, tuple[Problem, ...], bool]:
    """Return a file's text and problems without what may show a configured secret, and whether to quote it.

    A secret may also be written with escapes: then only what YAML makes of it has the secret.
    """
    quotable = not (has_secret(tree.text) or has_secret(tree.decoded) or any(map(_shows_secret, problems)))
    return blanked(tree.text), without_secrets(problems, quotable), quotable


def without_secrets(problems: Sequence[Problem], quotable: bool) -> tuple[Problem, ...]:
    """Return problems, with their code's title as message where a secret may show.

    That is all of them in a file that is not to be quoted.
    """
    return tuple(each if quotable and not _shows_secret(each) else _titled(each) for each in problems)


def _titled(each: Problem) -> Problem:
    return replace(each, message=CATALOGUE[each.code].title, hint=HINT)


def _shows_secret(each: Problem) -> bool:
    return has_secret(each.message) or has_secret(each.hint)
