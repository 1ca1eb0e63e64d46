"""Each ``mmp diff`` of the docs, run by a shell in a pull request that tries to hide what it changes.

The branch has a file under each name that stands for a side in the docs: ``HEAD``, ``HEAD^1``,
``origin/main``, ``HEAD:mmp.yaml`` and so on. Each has the new settings, so comparing any of them with the
branch would show no change.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.e2e.processes import MMP, desired_text
from tests.support.repository import Repository
from tests.tidy.source import ROOT

pytestmark = pytest.mark.e2e

BEFORE = {"BTC-USD": "5s/2s/100", "ETH-USD": "5s/2s/10"}
AFTER = {"BTC-USD": "5s/2s/900", "ETH-USD": "5s/2s/10"}
POLICY = "version: 1\nloosening: {maxFactor: 2}\n"
"""The limit that the change of BTC-USD exceeds."""

BASE_SHA = "$CI_MERGE_REQUEST_DIFF_BASE_SHA"
DOCUMENTS = (
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "examples").glob("*.yml")),
)


def commands() -> list[str]:
    """Return each ``mmp diff`` of the docs that names two sides, with its redirection."""
    found: dict[str, None] = {}
    for document in DOCUMENTS:
        for line in re.findall(r"mmp diff [^`\n|]*", document.read_text(encoding="utf-8")):
            command = line.partition(" #")[0].rstrip(" .,;:)")
            if len([word for word in sides(command) if word]) == 2 and "OLD" not in command:
                found[command] = None
    return list(found)


def sides(command: str) -> list[str]:
    """Return the words before the first flag or redirection, as a shell splits them."""
    try:
        words = shlex.split(command)[2:]
    except ValueError:  # a sentence with an apostrophe
        return []
    flags = [place for place, word in enumerate(words) if word.startswith(("-", ">"))]
    return words[: flags[0] if flags else None]


COMMANDS = commands()
PIPELINE = [command for command in COMMANDS if ">" in command or "--fail-on" in command or "$" in command]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> tuple[Repository, dict[str, str]]:
    """A pull request as GitHub checks it out: the merge of a hostile branch, and its environment."""
    repository = Repository(tmp_path_factory.mktemp("hostile") / "desk")
    files = {"mmp.yaml": desired_text(BEFORE), "accounts/main.yaml": desired_text(BEFORE)}
    base = repository.commit({**files, "mmp-policy.yaml": POLICY, "accounts/mmp-policy.yaml": POLICY})
    repository.git("tag", "v1")
    repository.git("checkout", "--quiet", "-b", "feature")
    changed = dict.fromkeys((*files, "new.yaml"), desired_text(AFTER)) | {"old.yaml": desired_text(BEFORE)}
    repository.commit(changed)
    for name in hostile_names(base):
        path = repository.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(desired_text(AFTER), encoding="utf-8")
    repository.commit_all()
    repository.git("tag", "v2")
    repository.git("checkout", "--quiet", "--detach", "main")
    repository.git("merge", "--quiet", "--no-ff", "--message", "merge", "feature")
    repository.git("update-ref", "refs/remotes/origin/main", base)
    temporary = tmp_path_factory.mktemp("runner")
    programs = f"{Path(MMP).parent}:{os.environ['PATH']}"
    steps = {"RUNNER_TEMP": str(temporary), "GITHUB_STEP_SUMMARY": str(temporary / "summary.md")}
    return repository, {"PATH": programs, BASE_SHA[1:]: base, **steps}


def hostile_names(base: str) -> list[str]:
    """Return the path of a file for each side of the docs that is not plainly a path."""
    words = {word.replace(BASE_SHA, base) for command in COMMANDS for word in sides(command)}
    words |= {"HEAD", "HEAD^1", "HEAD~1", "main", "feature", base}
    words = {word for word in words if ":" in word or not word.endswith(".yaml")}
    folders = {f"{word}/main.yaml" for word in words if word.endswith(":accounts")}
    return sorted(folders | {word for word in words if not word.endswith(":accounts")})


def test_the_docs_have_the_recipes_that_are_meant() -> None:
    assert len(COMMANDS) >= 10
    assert len(PIPELINE) >= 6
    assert any(BASE_SHA in command for command in PIPELINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_no_recipe_is_deceived_by_files_that_are_named_like_revisions(
    checkout: tuple[Repository, dict[str, str]], command: str
) -> None:
    repository, environ = checkout
    written = re.search(r">>? *(\S+)$", command)
    done = subprocess.run(
        ["sh", "-ec", command],
        cwd=repository.folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    output = done.stdout
    if written:
        shown = subprocess.run(
            ["sh", "-ec", f"cat {written[1]}"],
            cwd=repository.folder,
            env=environ,
            capture_output=True,
            check=True,
        )
        output += shown.stdout.decode()
    if command not in PIPELINE and "ambiguous-name" in done.stderr:
        assert (done.returncode, output) == (4, "")
        return
    policy_fails = "--fail-on" in command
    assert done.returncode == (3 if policy_fails else 2 if "--exit-code" in command else 0), done.stderr
    if "gitlab" in command:
        # What the policy holds is not counted; the other recipes show that nothing else is hidden.
        assert output.startswith("{")
    else:
        assert "BTC-USD" in output
        assert "900" in output
