"""docs/simulator.md has every fault and form of the code; the table of behaviours is consistent."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from reconciler.simulator.behaviour_options import Options
from reconciler.simulator.behaviour_sources import BEHAVIOURS, DocStatus
from reconciler.simulator.codes import REFUSALS
from reconciler.simulator.faults import NAMED, SLOW_S, SYNTAX, parse_fault
from reconciler.simulator.request_parsing import Endpoint
from reconciler.simulator.unusual_rows import RowForm

TEXT = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text(encoding="utf-8")


def table(heading: str) -> list[list[str]]:
    """Return the rows of the first table after ``heading``, without its head."""
    section = TEXT.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def test_the_documentation_has_every_kind_of_fault_with_its_effect() -> None:
    shown = {
        kind: effect for kinds, _, effect in table("Faults") for kind in re.findall(r"`([^`]+)`", kinds)
    }
    assert {kind: shown.pop(kind) for kind in NAMED} == {
        kind: "yes" if fault.effect else "no" for kind, fault in NAMED.items()
    }
    assert shown
    for kind, effect in shown.items():
        assert parse_fault(kind).fault.effect == (effect == "yes"), kind


def test_the_documentation_has_every_part_of_a_fault() -> None:
    assert f"`{SYNTAX}`" in TEXT
    assert [one for one in Endpoint if f"`{one.value}`" not in TEXT] == []
    assert f"the reply {SLOW_S:.0f} s late" in TEXT


def test_the_faults_of_the_documentation_can_be_given() -> None:
    section = TEXT.split("\n## Faults\n", 1)[1].split("\n## ", 1)[0]
    examples = re.findall(r"`([a-z]+/\S+:always)`", section)
    assert len(examples) > 1
    for example in examples:
        assert parse_fault(example).count is None


def test_the_documentation_has_every_form_of_a_row() -> None:
    shown = [form for forms, _ in table("Rows") for form in re.findall(r"`([^`]+)`", forms)]
    assert shown == list(RowForm)


def test_behaviours_are_named_once_and_cells_hold_no_bars() -> None:
    names = [one.name for one in BEHAVIOURS]
    assert len(set(names)) == len(names)
    assert not [one for one in BEHAVIOURS if "|" in one.name + one.simulated]


def test_every_option_plays_one_behaviour_and_only_open_questions_are_unknown() -> None:
    played = [one.option for one in BEHAVIOURS if one.option]
    assert sorted(played) == sorted(field.name for field in fields(Options))
    assert {one.status for one in BEHAVIOURS} == set(DocStatus)


def test_every_code_a_behaviour_names_is_in_the_table() -> None:
    named = {code for one in BEHAVIOURS for code in re.findall(r"\b5\d{4}\b", one.simulated + one.name)}
    assert named <= set(REFUSALS)
