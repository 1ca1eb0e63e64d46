"""``--allow-filesystem``: every command with a state takes it, and it reaches the state."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest

from reconciler.cli.main import cli, main
from reconciler.cli.options import CommandOptions
from reconciler.store.location import StateFile
from reconciler.store.sqlite import mounts
from tests.e2e.processes import desired_text
from tests.unit.test_store_files import opened

UNKNOWN = "30 22 0:30 / / rw - fuse.mergerfs pool rw\n"

READING = {"history": (), "status": (), "plan": ("--no-live",)}
WRITING = {
    "pause": ("--family", "BTC-USD", "--for", "1m", "--reason", "a test"),
    "resume": ("--family", "BTC-USD"),
}


def commands() -> dict[str, click.Command]:
    """Return every command that opens a state."""
    with click.Context(cli) as context:
        every = {name: cli.get_command(context, name) for name in cli.list_commands(context)}
    copy = every["state"]
    assert isinstance(copy, click.Group)
    return {
        name: command
        for name, command in {**every, "state copy": copy.commands["copy"]}.items()
        if command is not None and ({"state", "source"} & {parameter.name for parameter in command.params})
    }


def test_every_command_that_opens_a_state_takes_the_flag() -> None:
    found = commands()
    assert {"apply", "doctor", "history", "import", "pause", "plan", "reset", "resume", "run"} < set(found)
    for name, command in found.items():
        assert "allow_filesystems" in {parameter.name for parameter in command.params}, name


def test_a_command_opens_its_state_with_the_allowed_file_systems() -> None:
    for state in (None, "elsewhere.db"):
        options = CommandOptions(state=state, allow_filesystems=("ntfs3", "9p"))
        location = options.location()
        assert isinstance(location, StateFile)
        assert location.allow_filesystems == {"ntfs3", "9p"}


@pytest.mark.parametrize("verb", [*READING, *WRITING])
def test_an_unknown_file_system_is_refused_until_it_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mmp.yaml").write_text(desired_text({"BTC-USD": "5s/2s/100"}))
    opened(tmp_path / ".mmp" / "state.db").close_now()
    monkeypatch.setattr(mounts, "read_mountinfo", lambda: UNKNOWN)

    def codes(*more: str) -> list[str]:
        arguments = [verb, *(READING | WRITING)[verb], *more, "--output", "json"]
        with pytest.raises(SystemExit):
            main(arguments)
        document = json.loads(capsys.readouterr().out)
        return [problem["code"] for problem in document.get("problems", [])]

    assert codes() == ["state-unknown-fs"]
    assert codes("--allow-filesystem", "ntfs3") == ["state-unknown-fs"]
    assert "state-unknown-fs" not in codes(
        "--allow-filesystem", "ntfs3", "--allow-filesystem", "fuse.mergerfs"
    )


def test_the_doctor_looks_at_the_file_system_before_there_is_a_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mmp.yaml").write_text(desired_text({"BTC-USD": "5s/2s/100"}))
    monkeypatch.setattr(mounts, "read_mountinfo", lambda: UNKNOWN)

    def mark_of_the_state(*more: str) -> str:
        with pytest.raises(SystemExit):
            main(["doctor", *more, "--output", "json"])
        findings = json.loads(capsys.readouterr().out)["results"]
        (mark,) = (one["status"] for one in findings if one["check"] == "state")
        return str(mark)

    assert mark_of_the_state() == "failed"
    assert mark_of_the_state("--allow-filesystem", "fuse.mergerfs") == "ok"
    assert mark_of_the_state("--for", "plan") == "ok"
