"""Where a command writes, and that nothing it was told or runs in can make the writing fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from jsonschema.validators import Draft202012Validator

from reconciler.cli.main import main
from reconciler.cli.output import Output, raw_flag_value
from reconciler.errors import MmpError
from reconciler.schema_files import load_schema
from tests.unit.report_samples import HOSTILE

pytestmark = pytest.mark.unmeasured

GOOD = (
    "version: 1\nenvironment: live\nfamilies:\n"
    "  BTC-USD: {timeInterval: 5s, frozenInterval: 2s, qtyLimit: 100}\n"
)


def test_a_failure_says_what_and_what_next_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    Output().failure(MmpError("okx-50119", "no such key", "name the region's host"))
    assert capsys.readouterr() == ("", "error[okx-50119]: no such key\n  help: name the region's host\n")


def test_a_failure_without_a_hint_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    Output(color="always").failure(MmpError("x", "no"))
    assert capsys.readouterr().err == "\x1b[31merror\x1b[0m[x]: no\n"


def test_text_of_the_exchange_never_reaches_the_terminal_raw(capsys: pytest.CaptureFixture[str]) -> None:
    Output().failure(MmpError("okx-1", HOSTILE, HOSTILE))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)
    assert "\\x1b[2J" in lines[0]


def test_a_failure_is_a_document_where_one_was_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    Output("json").failure(MmpError("okx-1", HOSTILE, ""))
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    assert (problem["code"], problem["message"], problem["hint"]) == ("okx-1", HOSTILE, None)


@pytest.mark.parametrize("path", [None, "plan.json"])
def test_a_failure_about_a_file_is_reported_at_its_beginning(
    path: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    failure = MmpError("plan-edited", "edited", path=path)
    Output("json").failure_document(failure, failure.prefixed("main (live)", path="mmp.yaml"))
    document = json.loads(capsys.readouterr().out)
    Draft202012Validator(load_schema("problems")).validate(document)
    places = [(one["path"], one["line"], one["column"]) for one in document["problems"]]
    start = (path, 1, 1) if path else (None, None, None)
    assert places == [start, (path or "mmp.yaml", 1, 1)]
    assert document["problems"][1]["message"] == "main (live): edited"


@pytest.mark.parametrize(
    ("place", "holds"),
    [
        ((None, None, None), True),
        (("mmp.yaml", 1, 1), True),
        ((None, 1, 1), False),
        ((None, None, 1), False),
        (("mmp.yaml", None, None), False),
    ],
)
def test_a_failure_without_a_file_has_no_place_and_one_with_a_file_has(
    place: tuple[str | None, int | None, int | None], holds: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    Output("json").failure(MmpError("okx-1", "no"))
    document = json.loads(capsys.readouterr().out)
    schema = Draft202012Validator(load_schema("problems"))
    assert schema.is_valid(document)
    document["problems"][0] |= dict(zip(("path", "line", "column"), place, strict=True))
    assert schema.is_valid(document) is holds


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        (["plan"], "text"),
        (["plan", "--output", "json"], "json"),
        (["plan", "--output=json", "--nonsense"], "json"),
        (["plan", "--output"], "text"),
        (["plan", "--output", "json", "--output", "text"], "text"),
        (["plan", "--output=text", "--output", "json", "--nonsense"], "json"),
        (["plan", "--output=json", "--output"], "json"),
        (["apply", "--", "--output=json"], "text"),
    ],
)
def test_the_wanted_output_is_found_on_a_line_that_is_wrong(arguments: list[str], value: str) -> None:
    assert raw_flag_value("--output", arguments, "text") == value


def run(*arguments: str | bytes, encoding: str = "utf-8") -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    command: list[str | bytes] = [sys.executable, "-m", "reconciler", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, check=False, timeout=60)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_terminal_that_lacks_a_sign_gets_it_spelled_out(encoding: str, tmp_path: Path) -> None:
    file = tmp_path / "mmp.yaml"
    file.write_text(GOOD, encoding="utf-8")
    state = str(tmp_path / "state.db")
    done = run("status", "-c", str(file), "--state", state, encoding=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    assert ("▸" if encoding == "utf-8" else "\\u25b8").encode() in done.stdout


def test_a_file_name_that_is_no_utf8_is_no_bug(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/\xff.yaml"
    try:
        Path(os.fsdecode(name)).write_text(GOOD, encoding="utf-8")
    except OSError:
        assert sys.platform == "darwin", "file systems of macOS refuse such names"
        return
    done = run("status", "-c", name, "--state", str(tmp_path / "state.db"), "--output", "json")
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout)["config"]["path"].endswith("/\\udcff.yaml")
    assert b"udcff" in run("status", "-c", name, "--state", str(tmp_path / "state.db")).stdout


def test_a_usage_mistake_is_reported_on_one_line() -> None:
    done = run("schema")
    assert done.returncode == 64
    first, second = done.stderr.decode().splitlines()
    assert first.startswith("error[usage]: ")
    assert second == "  help: see 'mmp schema --help'"


@pytest.mark.parametrize(
    ("arguments", "unbuffered"),
    [
        (("--help",), ""),
        (("schema", "mmp"), ""),
        (("schema", "mmp"), "1"),
        (("validate",), ""),
        (("validate",), "1"),
        (("validate", "--output", "json", "--nonsense"), ""),
    ],
)
@pytest.mark.parametrize(
    ("stdout", "why"), [("/dev/full", "No space left on device"), ("&-", "it is closed")]
)
def test_a_result_that_cannot_be_written_is_one_sentence(
    arguments: tuple[str, ...], unbuffered: str, stdout: str, why: str, tmp_path: Path
) -> None:
    (tmp_path / "mmp.yaml").write_text(GOOD, encoding="utf-8")
    if sys.platform == "darwin" and stdout != "&-":
        return  # macOS has no device that is full
    script = f'exec "$@" >{stdout}'
    done = subprocess.run(
        ["/bin/sh", "-c", script, "sh", sys.executable, "-m", "reconciler", *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        capture_output=True,
        check=False,
        timeout=60,
    )
    lines = done.stderr.decode().splitlines()[-2:]
    assert (done.returncode, lines[0]) == (
        1,
        f"error[output-lost]: the result could not be written to stdout: {why}",
    )
    assert lines[1].startswith("  help: ")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("stderr", ["/dev/full", "&-"])
def test_a_complaint_that_cannot_be_written_changes_no_status(
    stderr: str, unbuffered: str, tmp_path: Path
) -> None:
    if sys.platform == "darwin" and stderr != "&-":
        return  # macOS has no device that is full
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" 2>{stderr}', "sh", sys.executable, "-m", "reconciler", "status"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        check=False,
        timeout=60,
    )
    assert done.returncode == 4


@pytest.mark.parametrize("as_json", [False, True])
def test_an_interrupt_is_reported_like_any_failure(
    as_json: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("reconciler.schema_files.schema_text", interrupt)
    monkeypatch.setattr("reconciler.cli.schema.schema_text", interrupt)
    with pytest.raises(SystemExit) as ended:
        main(["schema", "mmp", *(["--output", "json"] if as_json else [])])
    out, err = capsys.readouterr()
    assert ended.value.code == 130
    assert "error[interrupted]: interrupted before the end\n" in err
    codes = [problem["code"] for problem in json.loads(out)["problems"]] if as_json else out
    assert codes == (["interrupted"] if as_json else "")


def test_the_bare_command_shows_the_help() -> None:
    done = run()
    lines = done.stderr.decode().splitlines()
    assert (done.returncode, done.stdout) == (64, b"")
    assert lines[0].startswith("Usage: mmp ")
    assert len(lines) > 20
