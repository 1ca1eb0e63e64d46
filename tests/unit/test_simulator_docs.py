"""docs/simulator.md shows the tables of the code, and the code's tables hold together."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from reconciler.cli.simulator import simulator
from reconciler.simulator.behaviours import BEHAVIOURS, Standing
from reconciler.simulator.codes import REFUSALS
from reconciler.simulator.control import COMMANDS
from reconciler.simulator.options import Options

DOCS = Path(__file__).parents[2] / "docs" / "simulator.md"


def table(heading: str) -> list[list[str]]:
    """Return the rows of the first table after ``heading``, without its head."""
    section = DOCS.read_text(encoding="utf-8").split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def test_the_documentation_names_every_control_command() -> None:
    shown = {tuple(row[0].strip("`").split(" /_control/")) for row in table("The control endpoint")}
    assert shown == {*COMMANDS, ("POST", "unplug")}


def test_the_documentation_names_every_flag() -> None:
    text = DOCS.read_text(encoding="utf-8")
    flags = {opt for param in simulator.params for opt in (*param.opts, *param.secondary_opts)}
    assert [flag for flag in sorted(flags) if f"`{flag}" not in text] == []


def test_behaviours_are_named_once_and_cells_hold_no_bars() -> None:
    names = [one.name for one in BEHAVIOURS]
    assert len(set(names)) == len(names)
    assert not [one for one in BEHAVIOURS if "|" in one.name + one.simulated]


def test_every_option_plays_one_behaviour_and_only_open_questions_are_unknown() -> None:
    played = [one.option for one in BEHAVIOURS if one.option]
    assert sorted(played) == sorted(field.name for field in fields(Options))
    assert {one.standing for one in BEHAVIOURS} == set(Standing)


def test_every_code_a_behaviour_names_is_in_the_table() -> None:
    named = {code for one in BEHAVIOURS for code in re.findall(r"\b5\d{4}\b", one.simulated + one.name)}
    assert named <= set(REFUSALS)
