"""Checks a valid settings file against a policy, and a policy against the families it applies to.

This file decides only positions and wording. The core decides what is refused. The positions of single
fields are not stored when a file is read, so the file is parsed again if something is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

from reconciler.config.policy import PolicyReading
from reconciler.config.schema_check import KeyPath, node_at, position_at
from reconciler.config.secret_redaction import without_secrets
from reconciler.config.settings import Reading
from reconciler.config.values import SHORT_INTERVAL_MS
from reconciler.config.yaml_nodes import START, Node, Position, problem_at, read_nodes
from reconciler.core.model import Desired, Family, Field, interval_text
from reconciler.core.policy import Policy, Refusal, RefusalKind, unmatched_entries
from reconciler.core.policy_rules import check_file
from reconciler.core.problems import MAX_PROBLEMS, Code, Collected, Problem, escape_unprintable

CODES = {RefusalKind.BOUNDS: Code.POLICY_BOUNDS, RefusalKind.PROTECTED: Code.POLICY_PROTECTED}
"""The refusals that depend on the file alone, with their codes; the others depend on what is in force."""


def with_policy_problems(policy: Policy | None, reading: Reading) -> Reading:
    """Return ``reading`` with a problem for each refusal of the policy; None means that there is no policy.

    The file stays valid: a refusal is not an error in the file.
    """
    if reading.desired is None or policy is None:
        return reading
    refusals = check_file(reading.desired, policy)
    short = _below_floor(reading.desired, policy)
    if not refusals and not short:
        return reading
    root = _root(reading)
    collected = Collected(reading.problems)
    for refusal in refusals:
        collected.add(_problem(refusal, root, reading.desired, policy))
        if collected.is_full():
            break
    for family, ms in islice(short.items(), MAX_PROBLEMS + 1):
        collected.add(_warning(family, ms, root, reading.path, policy))
    return replace(reading, problems=without_secrets(collected.problems(), reading.quotable))


def _below_floor(desired: Desired, policy: Policy) -> dict[Family, int]:
    """Return the windows below the policy's floor for which there is no warning yet."""
    windows = {family: wanted.setting.time_interval_ms for family, wanted in desired.families.items()}
    least = policy.floor.time_interval_ms
    return {family: ms for family, ms in windows.items() if SHORT_INTERVAL_MS <= ms < least}


def _warning(family: Family, ms: int, root: Node | None, path: str, policy: Policy) -> Problem:
    position = _first_position(root, _field_places(family, Field.TIME_INTERVAL))
    path_text, floor = escape_unprintable(policy.path), interval_text(policy.floor.time_interval_ms)
    message = f"{family}: timeInterval {interval_text(ms)} is below the floor of {path_text}, {floor}"
    hint = "a longer timeInterval protects more; if this one is intended, change nothing"
    return problem_at(position, Code.POLICY_FLOOR, path, message, hint)


def with_unmatched_entries(reading: PolicyReading, accounts: Sequence[Desired]) -> PolicyReading:
    """Return ``reading`` with a warning for each entry that matches no family of ``accounts``.

    ``accounts`` are all accounts that the policy applies to. Without accounts there are no warnings.
    """
    families = {family for one in accounts for family in one.families}
    if reading.policy is None or not accounts:
        return reading
    unmatched = unmatched_entries(reading.policy, families)
    if not unmatched:
        return reading
    root = _root(reading)
    of = f"account {accounts[0].account}" if len(accounts) == 1 else f"any of {len(accounts)} accounts"
    collected = Collected(reading.problems)
    for name in islice(unmatched, MAX_PROBLEMS + 1):
        collected.add(_unmatched(name, of, position_at(root, ("bounds", "families", name)), reading.path))
    return replace(reading, problems=without_secrets(collected.problems(), reading.quotable))


def _root(reading: Reading | PolicyReading) -> Node | None:
    """Return the nodes of a valid file; None if a masked secret was part of its structure."""
    return read_nodes(reading.text.encode(), reading.path).root


def _unmatched(name: str, of: str, position: Position, path: str) -> Problem:
    message = f"bounds.families.{name} matches no family of {of}, so it limits nothing"
    hint = "correct the name, or delete the entry"
    return problem_at(position, Code.POLICY_UNMATCHED, path, message, hint)


def _problem(refusal: Refusal, root: Node | None, desired: Desired, policy: Policy) -> Problem:
    message = f"{refusal.family} is refused by {escape_unprintable(policy.path)}: {refusal.sentence}"
    hint = f"change one of the two, or override it once: {_override(refusal, desired)}"
    return problem_at(_position(refusal, root), CODES[refusal.kind], desired.path, message, hint)


def _override(refusal: Refusal, desired: Desired) -> str:
    """Return the command that overrides a refusal; --family accepts only families of the file."""
    only = f" --family {refusal.family}" if refusal.family in desired.families else ""
    command = f'mmp apply{only} --expect DIGEST {refusal.allow} --reason "…"'
    return f"{command} (mmp plan{only} prints the DIGEST)"


def _position(refusal: Refusal, root: Node | None) -> Position:
    """Return the position of the value in the family or in defaults, else that of the family."""
    places: list[KeyPath] = [("families", refusal.family), ("families",)]
    if refusal.kind is RefusalKind.PROTECTED:
        places.insert(0, ("families", refusal.family, "timeInterval"))
    if refusal.field is not None:
        places = _field_places(refusal.family, refusal.field)
    return _first_position(root, places)


def _field_places(family: Family, name: Field) -> list[KeyPath]:
    return [("families", family, name.value), ("defaults", name.value)]


def _first_position(root: Node | None, places: list[KeyPath]) -> Position:
    """Return the position of the first of ``places`` that exists in the file."""
    return next((position_at(root, path) for path in places if node_at(root, path) is not None), START)
