"""docs/diff.md says what the command does: its flags, its failures, its pipelines."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from reconciler.cli.diff import diff
from reconciler.cli.plan_output import FAIL_ON, PLAN_FORMATS
from tests.tidy.source import PACKAGE, ROOT

DOCUMENT = (ROOT / "docs" / "diff.md").read_text(encoding="utf-8")
PIPELINES = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", DOCUMENT, re.DOTALL)]
COMMANDS = re.findall(r"mmp diff ([^`\n>#]+)", DOCUMENT)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_that_is_shown_exists_and_there_are_two_sides(command: str) -> None:
    words = command.split()
    flags = [word for word in words if word.startswith("--")]
    known = {name for parameter in diff.params for name in parameter.opts}
    assert [flag for flag in flags if flag not in known] == []
    assert not any(word.startswith("-") for word in words[:2])
    assert len(words) >= 2


def test_the_failures_of_revisions_are_all_documented() -> None:
    source = (PACKAGE / "config" / "git.py").read_text(encoding="utf-8")
    codes = set(re.findall(r'InvalidInput\(\s*"([a-z-]+)"', source))
    assert set(re.findall(r"^\| `([a-z-]+)` \|", DOCUMENT, re.MULTILINE)) == codes


def test_every_output_and_every_kind_to_fail_on_is_documented() -> None:
    assert [
        name for name in PLAN_FORMATS if f"`{name}`" not in DOCUMENT and f"--output {name}" not in DOCUMENT
    ] == []
    # A comparison of two files knows of no drift.
    assert [kind for kind in FAIL_ON if f"`{kind}`" not in DOCUMENT] == ["drift"]


def runs(value: Any) -> list[str]:
    """Return every shell line of a pipeline."""
    if isinstance(value, dict):
        return [line for each in value.values() for line in runs(each)]
    if isinstance(value, list):
        return [line for each in value for line in runs(each)]
    return [line for line in str(value).splitlines() if line.startswith("mmp ")]


def test_the_pipelines_fetch_the_history_and_compare_with_what_is_merged_into() -> None:
    github, gitlab = PIPELINES
    (checkout,) = [step for step in github["jobs"]["diff"]["steps"] if "uses" in step]
    assert checkout["with"] == {"fetch-depth": 0}
    assert gitlab["settings"]["variables"] == {"GIT_DEPTH": 0}
    assert gitlab["settings"]["artifacts"]["reports"] == {"terraform": "mmp.json"}
    for pipeline in PIPELINES:
        lines = runs(pipeline)
        assert any("--output markdown" in line for line in lines)
        assert any("--fail-on policy,identity" in line for line in lines)
