"""A file that has a configured secret in it: nothing of it is quoted, neither in messages nor in excerpts.

A message may quote the first or last part of a secret, in whatever form, so masking it afterwards would not
be certain. Where a secret is in the file, problems keep their code and place and get the code's own title.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reconciler.core.problems import CATALOGUE, Problem
from reconciler.secret import blanked, has_secret

HINT = "nothing of the file is quoted, because a configured secret is in it: remove it, and replace the key"


def unquoted(text: str, problems: Sequence[Problem]) -> tuple[str, tuple[Problem, ...]]:
    """Return a file's text and problems, without what may show a secret that this process was given."""
    if not has_secret(text):
        return text, tuple(problems)
    titled = (replace(each, message=CATALOGUE[each.code].title, hint=HINT) for each in problems)
    return blanked(text), tuple(titled)
