"""The files of ``docs/examples`` can be deployed as they are: they are valid, and their commands exist."""

from __future__ import annotations

import configparser
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from reconciler.cli.main import COMMANDS, cli
from reconciler.errors import Exit
from tests.tidy.source import files

FOLDER = Path(__file__).parents[2] / "docs" / "examples"
UNIT = FOLDER / "mmp.service"
WORKFLOWS = sorted(FOLDER.glob("github-*.yml"))
MANIFESTS = sorted(FOLDER.glob("kubernetes-*.yaml"))
PROBES = ("startupProbe", "livenessProbe", "readinessProbe")


def parsed(file: Path) -> Any:
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def refuse_unknown(words: list[str]) -> None:
    """Fail unless ``words`` are a command of mmp with flags and arguments that it takes."""
    verb, *arguments = words
    assert verb in COMMANDS
    command = cli.get_command(click.Context(cli), verb)
    assert command is not None
    parser = command.make_parser(click.Context(command))
    parser.parse_args(arguments)


def containers(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the containers that run mmp."""
    pod = manifest["spec"]["template"]["spec"]
    every = [*pod.get("initContainers", ()), *pod["containers"]]
    return [one for one in every if one["name"] == "mmp"]


def test_every_example_is_tested() -> None:
    """``tests/unit/test_web_metrics.py`` tests the alerts."""
    assert set(FOLDER.iterdir()) == {UNIT, *WORKFLOWS, *MANIFESTS, FOLDER / "prometheus-alerts.yaml"}
    assert len(WORKFLOWS) == len(MANIFESTS) == 2


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_the_commands_of_a_workflow_exist(file: Path) -> None:
    (job,) = parsed(file)["jobs"].values()
    commands = [step["run"].partition(" >>")[0] for step in job["steps"] if "run" in step]
    assert len(commands) >= 2
    for command in commands:
        program, *words = shlex.split(command)
        assert program == "mmp"
        refuse_unknown(words)


def test_a_command_that_does_not_exist_is_noticed() -> None:
    with pytest.raises(AssertionError):
        refuse_unknown(["aply"])
    with pytest.raises(click.UsageError):
        refuse_unknown(["run", "--polcy", "mmp-policy.yaml"])


@pytest.mark.parametrize("file", MANIFESTS, ids=lambda file: file.name)
def test_a_manifest_runs_mmp_and_mounts_what_it_names(file: Path) -> None:
    (container,) = containers(parsed(file))
    refuse_unknown(container["args"])
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
    named = [word for word in container["args"] if word.startswith("/")]
    named += [one["value"] for one in container["env"] if one["name"].endswith("_FILE")]
    assert len(named) > 4
    assert [path for path in named if not any(f"{path}/".startswith(f"{one}/") for one in mounts)] == []


@pytest.mark.parametrize("file", MANIFESTS, ids=lambda file: file.name)
def test_the_probes_of_a_manifest_are_served(file: Path) -> None:
    (container,) = containers(parsed(file))
    (port,) = container["ports"]
    assert f"0.0.0.0:{port['containerPort']}" in container["args"]
    probes = [container[name]["httpGet"] for name in PROBES if name in container]
    assert len(probes) >= 2
    assert {probe["port"] for probe in probes} == {port["name"]}
    assert {probe["path"] for probe in probes} <= set(served())


def served() -> Iterator[str]:
    """Yield every path that the HTTP server serves."""
    (source,) = (text for path, text in files().items() if path.endswith("/routes.py"))
    yield from re.findall(r'^ +"(/\S*)": self\._', source, re.MULTILINE)


@pytest.mark.parametrize("file", MANIFESTS, ids=lambda file: file.name)
def test_a_manifest_asks_for_an_image_with_an_init(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert "image: registry.example/mmp\n" in text
    assert "must have an init" in text
    assert "docs/operating.md#2-sidecar" in text
    assert '"tini", "--", "mmp"' in (FOLDER.parent / "operating.md").read_text(encoding="utf-8")


def test_the_unit_starts_run_again_unless_the_command_line_is_invalid() -> None:
    unit = configparser.ConfigParser(interpolation=None, strict=False)  # a key may be repeated
    unit.optionxform = str  # type: ignore[assignment,method-assign] # systemd's keys have capital letters
    unit.read_string(UNIT.read_text(encoding="utf-8").replace("\\\n", " "))
    service = unit["Service"]
    program, *words = shlex.split(service["ExecStart"])
    assert program.endswith("/mmp")
    refuse_unknown(words)
    assert service["Restart"] == "always"
    assert service["RestartPreventExitStatus"] == f"{Exit.USAGE:d}"
