"""``mmp diff`` in a git repository: what its arguments mean, whose policy counts, what it exits with."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from reconciler.cli.main import main
from reconciler.config import git
from reconciler.config.git import find_revision, split_ref_path
from reconciler.errors import Exit, InvalidInput
from tests.e2e.processes import hold_to_schema
from tests.support.repository import Repository

pytestmark = pytest.mark.unmeasured

POLICY = "mmp-policy.yaml"


def config(account: str = "main", **families: str) -> str:
    """Return a file of desired settings; ``BTC=100`` is BTC-USD with that quantity, 0 is disabled."""
    lines = [
        f"  {name}-USD: {{timeInterval: {'disabled' if quantity == '0' else '5s'}, "
        f"frozenInterval: 2s, qtyLimit: {quantity if quantity != '0' else '1'}}}\n"
        for name, quantity in families.items()
    ]
    return f"version: 1\naccount: {account}\nenvironment: live\nfamilies:\n" + "".join(lines)


def policy(factor: int = 2) -> str:
    return f"version: 1\nloosening: {{maxFactor: {factor}}}\n"


@dataclass(frozen=True)
class Ended:
    """What came of one command."""

    status: int
    stdout: str
    stderr: str

    @property
    def document(self) -> Any:
        document = json.loads(self.stdout)
        hold_to_schema(document)
        return document

    @property
    def changes(self) -> dict[str, str]:
        """The action of each changed family, of all accounts."""
        plans = self.document.get("plans") or [self.document]
        return {change["family"]: change["action"] for plan in plans for change in plan["changes"]}

    @property
    def error(self) -> str:
        """The code of the error on stderr."""
        return self.stderr.partition("error[")[2].partition("]")[0]


class Desk:
    """A repository one stands in, and the command."""

    def __init__(self, repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
        self.repository = repository
        self._capsys = capsys

    def commit(self, files: Mapping[str, str | None]) -> str:
        return self.repository.commit(files)

    def diff(self, *arguments: str, output: str = "json") -> Ended:
        with pytest.raises(SystemExit) as ended:
            main(["diff", "--output", output, *arguments])
        message = self._capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Ended(ended.value.code, message.out, message.err)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Desk:
    repository = Repository(tmp_path / "desk")
    monkeypatch.chdir(repository.folder)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    for name in ("MMP_CONFIG", "MMP_POLICY"):
        monkeypatch.delenv(name, raising=False)
    return Desk(repository, capsys)


@pytest.fixture
def two(desk: Desk) -> Desk:
    """Two commits between which BTC-USD gets looser."""
    desk.commit({"mmp.yaml": config(BTC="100", ETH="5")})
    desk.commit({"mmp.yaml": config(BTC="150", ETH="5")})
    return desk


def put(desk: Desk, name: str, **families: str) -> None:
    """Put a file of desired settings among the working files, uncommitted."""
    path = desk.repository.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(config(**families), encoding="utf-8")


def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a git of our own before the real one, which it becomes at its end."""
    fake = tmp_path / "bin" / "git"
    fake.parent.mkdir()
    fake.write_text(f'#!/bin/sh\n{script}\nexec {shutil.which("git")} "$@"\n', encoding="utf-8")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")


# ---- what the arguments mean ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("HEAD~1", "HEAD"),
        ("HEAD~1:mmp.yaml", "HEAD:mmp.yaml"),
        ("HEAD~1", "mmp.yaml"),
        ("HEAD^:./mmp.yaml", "main:mmp.yaml"),
        ("main~1", "HEAD^{commit}"),
        ("HEAD~1", "."),
        ("HEAD~1:", "HEAD:."),
        ("HEAD^{/as it: is}~1", "HEAD"),
        ("HEAD~1:///mmp.yaml", "HEAD"),
    ],
)
def test_a_side_is_a_file_a_folder_a_revision_or_a_path_in_one(two: Desk, old: str, new: str) -> None:
    if "as it: is" in old:
        two.repository.git("commit", "--quiet", "--amend", "--message", "as it: is")
    message = two.diff(old, new)
    assert (message.status, message.changes) == (0, {"BTC-USD": "set"}), message.stderr


def test_paths_and_places_name_the_revision(two: Desk) -> None:
    document = two.diff("HEAD~1", "HEAD").document
    assert document["config"]["path"] == "HEAD:mmp.yaml"
    assert document["old"] == {
        "path": "HEAD~1:mmp.yaml",
        "account": "main",
        "environment": "live",
        "policy": None,
        "policy_changed": False,
        "policy_change": None,
        "not_compared": [],
        "share_unproven": False,
        "per_not_checked": [],
        "identity": [],
    }
    assert document["changes"][0]["source"] == {"path": "HEAD:mmp.yaml", "line": 5, "column": 3}
    assert (document["host"], document["basis"]) == (None, "file")


@pytest.mark.parametrize(
    "name", ["HEAD", "HEAD^1", "HEAD~1", "main", "origin/main", "v1", "@", "release.yaml"]
)
@pytest.mark.parametrize("is_folder", [False, True])
def test_a_word_that_is_both_a_path_and_a_revision_is_refused(
    two: Desk, name: str, is_folder: bool
) -> None:
    two.repository.git("update-ref", "refs/remotes/origin/main", "HEAD~1")
    two.repository.git("tag", "v1", "HEAD~1")
    two.repository.git("branch", "release.yaml", "HEAD~1")
    put(two, f"{name}/mmp.yaml" if is_folder else name, BTC="7", ETH="5")
    for arguments in ((name, "HEAD^2~0"), ("HEAD^{}", name), (name, name)):
        message = two.diff(*arguments)
        if message.error != "unknown-revision":
            assert (message.status, message.error) == (Exit.INVALID, "ambiguous-name"), message.stderr
            assert f"./{name} for the path" in message.stderr
            assert f"{name}:mmp.yaml" in message.stderr
    assert two.diff(f"./{name}", "main:mmp.yaml").document["changes"][0]["before"]["qtyLimit"] == "7"
    assert two.diff(f"{name}:mmp.yaml", "./mmp.yaml").status == 0


def test_a_word_that_may_be_a_revision_is_a_path_only_by_its_form(two: Desk) -> None:
    """A branch that was not fetched must not be the folder of this name that a pull request brings."""
    put(two, "origin/main/mmp.yaml", BTC="7", ETH="5")
    message = two.diff("origin/main", "HEAD")
    assert (message.status, message.error) == (Exit.INVALID, "ambiguous-name")
    for path in ("./origin/main", "origin/main/", str(two.repository.folder / "origin/main")):
        assert two.diff(path, "HEAD").document["changes"][0]["before"]["qtyLimit"] == "7"


@pytest.mark.parametrize("name", ["HEAD:mmp.yaml", "HEAD^1:mmp.yaml", "nothing:mmp.yaml"])
def test_a_word_with_a_colon_is_a_revision_whatever_files_there_are(two: Desk, name: str) -> None:
    put(two, name, BTC="7", ETH="5")
    message = two.diff(name, "./mmp.yaml")
    if name.startswith("nothing"):
        assert (message.error, "./PATH" in message.stderr) == ("unknown-revision", True)
    else:
        assert "7" not in {change["before"]["qtyLimit"] for change in message.document["changes"]}
    assert two.diff(f"./{name}", "./mmp.yaml").document["changes"][0]["before"]["qtyLimit"] == "7"


def test_without_git_only_what_can_be_no_revision_is_a_path(
    two: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    put(two, "HEAD^1", BTC="7", ETH="5")
    stand_in(tmp_path, monkeypatch, 'echo "fatal: detected dubious ownership in repository" >&2; exit 128')
    for named, error in (("HEAD^1", "git-failed"), ("./HEAD^1", ""), ("mmp.yaml", "")):
        assert two.diff(named, "mmp.yaml").error == error
    monkeypatch.setenv("PATH", "/nonexistent")
    assert two.diff("HEAD^1", "mmp.yaml").error == "git-missing"


def test_outside_of_a_repository_a_word_is_a_path(
    two: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plain" / "accounts").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "plain")
    Path("accounts/a.yaml").write_text(config(BTC="1"), encoding="utf-8")
    Path("HEAD").write_text(config(BTC="2"), encoding="utf-8")
    assert two.diff("accounts", "HEAD").changes == {"BTC-USD": "set"}


def test_a_link_among_the_working_files_hides_no_file_of_a_revision(desk: Desk) -> None:
    """Files of a revision are told as REF:path, and such paths can be links on the disk."""
    desk.commit({"accounts/a.yaml": config("a", BTC="1"), "accounts/b.yaml": config("b", BTC="1")})
    desk.commit({"accounts/b.yaml": config("b", BTC="9")})
    for ref in ("HEAD", "HEAD~1"):
        folder = desk.repository.folder / f"{ref}:accounts"
        folder.mkdir()
        (folder / "b.yaml").symlink_to("a.yaml")
    assert desk.diff("HEAD~1:accounts", "HEAD:accounts", "--fail-on", "loosen").status == 3


def test_a_folder_that_became_a_link_hides_no_change(desk: Desk) -> None:
    """The deployment follows the link, so comparing what it leads to with itself shows nothing."""
    desk.commit({"accounts/mmp.yaml": config(BTC="1"), "decoy/mmp.yaml": config(BTC="9")})
    (desk.repository.folder / "accounts/mmp.yaml").unlink()
    (desk.repository.folder / "accounts").rmdir()
    (desk.repository.folder / "accounts").symlink_to("decoy")
    desk.repository.commit_all()
    for old, new in (("HEAD~1", "HEAD"), ("HEAD", "HEAD~1"), ("HEAD", "HEAD:decoy/mmp.yaml")):
        message = desk.diff(old, new, "-c", "accounts/mmp.yaml")
        assert (message.status, message.error) == (Exit.INVALID, "not-a-file"), message.stderr
        assert "accounts is a symbolic link in that revision" in message.stderr
    assert desk.diff("HEAD~1", "./accounts/mmp.yaml", "-c", "accounts/mmp.yaml").changes == {
        "BTC-USD": "set"
    }


def test_a_config_is_found_where_the_way_to_the_repository_is_a_link(
    two: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to(two.repository.folder)
    assert two.diff("HEAD~1", "HEAD", "-c", str(tmp_path / "link" / "mmp.yaml")).changes == {
        "BTC-USD": "set"
    }
    monkeypatch.chdir(tmp_path / "link")
    assert two.diff("HEAD~1", "HEAD", "-c", "mmp.yaml").changes == {"BTC-USD": "set"}


def test_a_revision_alone_is_the_config_at_that_revision(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"accounts/a.yaml": config("a", BTC="1"), "accounts/b.yml": config("b", BTC="1")}
    desk.commit({**files, "mmp.yaml": config(BTC="1")})
    desk.commit({"accounts/b.yml": config("b", BTC="2"), "mmp.yaml": config(BTC="1", ETH="1")})
    assert desk.diff("HEAD~1", "HEAD").changes == {"ETH-USD": "set"}
    assert desk.diff("HEAD~1", "HEAD", "-c", "accounts").changes == {"BTC-USD": "set"}
    assert desk.diff("HEAD~1", "HEAD", "-c", str(desk.repository.folder / "accounts")).changes == {
        "BTC-USD": "set"
    }
    both = desk.diff("HEAD~1", "HEAD", "-c", "mmp.yaml", "-c", "accounts/")
    assert both.changes == {"ETH-USD": "set", "BTC-USD": "set"}
    monkeypatch.chdir(desk.repository.folder / "accounts")
    assert desk.diff("HEAD~1", "HEAD", "-c", ".").changes == {"BTC-USD": "set"}
    assert desk.diff("HEAD~1", "HEAD", "-c", "../mmp.yaml").changes == {"ETH-USD": "set"}
    assert desk.diff("HEAD~1:../mmp.yaml", "HEAD:mmp.yaml").changes == {"ETH-USD": "set"}


def test_the_repository_may_lie_elsewhere(
    two: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert two.diff("HEAD~1", "HEAD").error == "not-a-repository"
    monkeypatch.setenv("GIT_DIR", str(two.repository.folder / ".git"))
    assert two.diff("HEAD~1:mmp.yaml", "HEAD:mmp.yaml").changes == {"BTC-USD": "set"}


def test_accounts_are_matched_wherever_their_files_are(desk: Desk) -> None:
    desk.commit({"accounts/a.yaml": config("a", BTC="1"), "accounts/b.yaml": config("b", BTC="1", ETH="1")})
    desk.commit({"accounts/a.yaml": None, "accounts/z.yaml": config("a", BTC="2")})
    desk.commit({"accounts/b.yaml": None, "accounts/c.yaml": config("c", SOL="1")})
    plans = desk.diff("HEAD~2:accounts", "HEAD:accounts").document["plans"]
    found = [(plan["account"], plan["summary"]["set"], plan["summary"]["unmanaged"]) for plan in plans]
    assert found == [("c", 1, 0), ("a", 1, 0), ("b", 0, 2)]
    assert [plan["config"]["path"] for plan in plans][2] == "HEAD~2:accounts/b.yaml"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("HEAD", ("HEAD", None)),
        ("HEAD:a", ("HEAD", "a")),
        ("HEAD:a:b", ("HEAD", "a:b")),
        ("HEAD:", ("HEAD", "")),
        (":a", ("", "a")),
        ("HEAD@{2026-03-01 10:00}", ("HEAD@{2026-03-01 10:00}", None)),
        ("HEAD^{/fix: it}:a", ("HEAD^{/fix: it}", "a")),
    ],
)
def test_the_path_begins_behind_the_first_colon_outside_of_braces(
    text: str, parts: tuple[str, str | None]
) -> None:
    assert split_ref_path(text) == parts


# ---- what it exits with --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "flags", "status"),
    [
        ("HEAD~1", "HEAD", (), 0),
        ("HEAD~1", "HEAD", ("--exit-code",), 2),
        ("HEAD", "HEAD", ("--exit-code",), 0),
        ("HEAD~1", "HEAD", ("--fail-on", "loosen"), 3),
        ("HEAD~1", "HEAD", ("--fail-on", "disable,mixed,drift,policy"), 0),
        ("HEAD~1", "HEAD", ("--fail-on", "disable,mixed", "--exit-code"), 2),
        ("HEAD", "HEAD~1", ("--fail-on", "loosen,policy"), 0),
        ("HEAD~1", "HEAD", ("--fail-on", "louder"), 64),
        ("HEAD~1", "HEAD", ("--exit-cod",), 64),
    ],
)
@pytest.mark.parametrize("output", ["text", "json", "markdown", "gitlab"])
def test_the_exit_status(
    two: Desk, old: str, new: str, flags: tuple[str, ...], status: int, output: str
) -> None:
    message = two.diff(old, new, *flags, output=output)
    assert message.status == status, message.stderr
    if output in ("json", "gitlab") and status != Exit.USAGE:
        assert isinstance(message.document, dict)


def test_a_family_that_is_no_longer_managed_is_a_change(desk: Desk) -> None:
    desk.commit({"mmp.yaml": config(BTC="1", ETH="1")})
    desk.commit({"mmp.yaml": config(BTC="1")})
    message = desk.diff("HEAD~1", "HEAD", "--exit-code")
    assert (message.status, message.changes) == (2, {})
    assert message.document["unmanaged"][0]["family"] == "ETH-USD"


def test_a_comment_is_no_change(desk: Desk) -> None:
    desk.commit({"mmp.yaml": config(BTC="100")})
    desk.commit({"mmp.yaml": "# new\n" + config(BTC="100.0")})
    assert desk.diff("HEAD~1", "HEAD", "--exit-code").status == 0


def test_problems_of_both_sides_are_reported_with_their_places(desk: Desk) -> None:
    desk.commit({"mmp.yaml": config(BTC="x")})
    desk.commit({"mmp.yaml": config(ETH="y")})
    message = desk.diff("HEAD~1", "HEAD")
    assert message.status == Exit.INVALID
    places = [(each["path"], each["line"]) for each in message.document["problems"]]
    assert places == [("HEAD~1:mmp.yaml", 5), ("HEAD:mmp.yaml", 5)]
    text = desk.diff("HEAD~1", "HEAD", output="markdown")
    assert (text.status, text.stdout) == (4, "")
    assert "HEAD~1:mmp.yaml:5:" in text.stderr


def test_the_same_account_twice_in_one_revision_is_refused(desk: Desk) -> None:
    desk.commit({"a/x.yaml": config(BTC="1"), "a/y.yaml": config(BTC="1")})
    message = desk.diff("HEAD:a", "HEAD:a")
    assert message.status == 4
    assert {each["code"] for each in message.document["problems"]} == {"duplicate-account"}


def test_only_warnings_of_the_newer_side_are_reported(desk: Desk) -> None:
    short = config(BTC="1").replace("5s", "50ms")
    desk.commit({"mmp.yaml": short})
    desk.commit({"mmp.yaml": short.replace("qtyLimit: 1", "qtyLimit: 2")})
    message = desk.diff("HEAD~1", "HEAD")
    assert message.stderr.count("warning[short-interval] HEAD:mmp.yaml:5") == 1
    assert "HEAD~1" not in message.stderr


# ---- what cannot be read --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "code"),
    [
        ("no-such-branch", "unknown-revision"),
        ("no-such-file.yaml", "unknown-revision"),
        ("", "unknown-revision"),
        (":mmp.yaml", "unknown-revision"),
        ("^HEAD", "unknown-revision"),
        ("HEAD~1..HEAD", "unknown-revision"),
        ("HEAD HEAD", "unknown-revision"),
        ("HEAD^{tree}", "unknown-revision"),
        ("HEAD\nHEAD", "unknown-revision"),
        ("HEAD~7", "unknown-revision"),
        ("0" * 40, "unknown-revision"),
        ("HEAD^{}junk", "unknown-revision"),
        ("HEAD:missing.yaml", "not-in-revision"),
        ("HEAD:missing/mmp.yaml", "not-in-revision"),
        ("HEAD:mmp.yaml/mmp.yaml", "not-in-revision"),
        ("HEAD:MMP.YAML", "not-in-revision"),
        ("HEAD:*.yaml", "not-in-revision"),
        ("HEAD::(glob)*.yaml", "not-in-revision"),
        ("HEAD:--help", "not-in-revision"),
        ("HEAD:../mmp.yaml", "outside-repository"),
        ("HEAD:./../../mmp.yaml", "outside-repository"),
        ("HEAD:link.yaml", "not-a-file"),
        ("HEAD:links", "not-a-file"),
    ],
)
def test_whatever_is_missing_is_reported_with_status_4(two: Desk, side: str, code: str) -> None:
    folder = two.repository.folder
    (folder / "link.yaml").symlink_to("mmp.yaml")
    (folder / "links").mkdir()
    (folder / "links" / "mmp.yaml").symlink_to("../mmp.yaml")
    two.repository.commit_all()
    for arguments in ((side, "HEAD"), ("HEAD", side)):
        message = two.diff(*arguments)
        assert (message.status, message.error) == (Exit.INVALID, code), message.stderr
        assert message.document["problems"][0]["code"] == code
        assert message.document["problems"][0]["hint"]
        about_a_file = code in ("not-in-revision", "not-a-file")
        assert (message.document["problems"][0]["path"] is not None) == about_a_file


@pytest.mark.parametrize(
    "name", ["-x", "--help", "--git-dir", "--output=x", "--all", "-c", "--upload-pack=touch x", "--"]
)
def test_a_name_that_begins_with_a_dash_never_reaches_git(
    two: Desk, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen = tmp_path / "seen"
    stand_in(tmp_path, monkeypatch, f'printf "%s\\n" "$@" >> {seen}')
    with pytest.raises(InvalidInput) as refused:
        find_revision(name)
    assert refused.value.code == "unknown-revision"
    assert name not in seen.read_text(encoding="utf-8").splitlines()
    assert not (two.repository.folder / "x").exists()


def test_a_name_with_a_nul_is_no_revision(two: Desk) -> None:
    with pytest.raises(InvalidInput):
        find_revision("HEAD\0")


def test_a_config_outside_of_the_repository_is_refused(two: Desk, tmp_path: Path) -> None:
    message = two.diff("HEAD~1", "HEAD", "-c", str(tmp_path / "mmp.yaml"))
    assert (message.status, message.error) == (4, "outside-repository")


def test_without_a_repository_files_are_compared_and_revisions_are_not(
    two: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plain").mkdir()
    monkeypatch.chdir(tmp_path / "plain")
    for name, quantity in (("a.yaml", "1"), ("b.yaml", "2")):
        Path(name).write_text(config(BTC=quantity), encoding="utf-8")
    assert two.diff("a.yaml", "b.yaml").changes == {"BTC-USD": "set"}
    message = two.diff("HEAD", "b.yaml")
    assert (message.status, message.error) == (4, "not-a-repository")


def test_without_git_files_are_compared_and_revisions_are_not(
    two: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert two.diff("mmp.yaml", "mmp.yaml").status == 0
    message = two.diff("HEAD", "mmp.yaml")
    assert (message.status, message.error) == (4, "git-missing")


def test_the_message_for_a_shallow_clone_says_what_to_set(
    two: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two.repository.git(
        "clone", "--quiet", "--depth=1", f"file://{two.repository.folder}", str(tmp_path / "s")
    )
    monkeypatch.chdir(tmp_path / "s")
    assert two.diff("HEAD", "mmp.yaml").status == 0
    for named in ("HEAD~1", "HEAD^2~3", "origin/other", "v1.2", "a" * 40, "main@{1}^{commit}"):
        message = two.diff(named, "HEAD")
        assert (message.status, message.error) == (4, "shallow-clone"), named
        assert "fetch-depth: 0" in message.stderr


@pytest.mark.parametrize(
    "named",
    [
        "",
        "^HEAD",
        "HEAD~1..HEAD",
        "HEAD HEAD",
        "HEAD^{tree}",
        "-x",
        "nmp.yaml",
        "accounts/",
        ".hidden",
        "a.lock",
    ],
)
def test_a_shallow_clone_is_not_blamed_for_what_no_clone_would_have(
    two: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    shallow = str(tmp_path / "s")
    two.repository.git("clone", "--quiet", "--depth=1", f"file://{two.repository.folder}", shallow)
    monkeypatch.chdir(shallow)
    with pytest.raises(InvalidInput) as refused:
        find_revision(named)
    assert refused.value.code == "unknown-revision"


def test_a_clone_without_its_objects_fetches_nothing(
    two: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = two.repository
    origin.git("config", "uploadpack.allowFilter", "true")
    flags = ("--quiet", "--filter=blob:none", "--no-checkout")
    origin.git("clone", *flags, f"file://{origin.folder}", str(tmp_path / "p"))
    monkeypatch.chdir(tmp_path / "p")
    message = two.diff("HEAD~1", "HEAD")
    assert (message.status, message.error) == (4, "git-failed")
    assert "--filter" in message.stderr


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("fatal: detected dubious ownership in repository at '/desk'", "safe.directory"),
        ("fatal: index file corrupt", "index file corrupt"),
        ("", "exit status 128"),
    ],
)
def test_the_error_of_git_is_reported(
    two: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, words: str
) -> None:
    stand_in(tmp_path, monkeypatch, f'echo "{said}" >&2; exit 128')
    message = two.diff("HEAD~1", "HEAD")
    assert (message.status, message.error) == (4, "git-failed")
    assert words in message.stderr


def test_a_git_that_fails_later_is_reported_as_well(
    two: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, monkeypatch, 'case "$*" in *ls-tree*) exit 1;; esac')
    message = two.diff("HEAD~1", "HEAD")
    assert (message.status, message.error) == (4, "git-failed")


def test_a_git_that_does_not_answer_is_not_waited_for(
    two: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git, "GIT_TIMEOUT_S", 0.05)
    stand_in(tmp_path, monkeypatch, "exec sleep 60")
    message = two.diff("HEAD~1", "HEAD")
    assert (message.status, message.error) == (4, "git-failed")


def test_a_file_beyond_the_limit_is_not_read_completely(desk: Desk) -> None:
    desk.commit({"mmp.yaml": config(BTC="1") + "#" * 3_000_000})
    message = desk.diff("HEAD", "HEAD")
    assert message.status == 4
    assert {each["code"] for each in message.document["problems"]} == {"too-large"}


# ---- files that come and go ------------------------------------------------------------------------


def test_a_config_that_only_the_newer_revision_has_is_new_in_every_family(desk: Desk) -> None:
    desk.commit({"README.md": "desk"})
    desk.commit({"mmp.yaml": config(BTC="100")})
    message = desk.diff("HEAD~1", "HEAD")
    assert (message.status, message.changes) == (0, {"BTC-USD": "set"})
    assert message.stderr == (
        "account main (live) is new: HEAD~1:mmp.yaml does not have it, "
        "so every family is new here and nothing counts as looser\n"
    )
    assert message.document["old"]["account"] is None
    assert message.document["changes"][0]["reason"] == "new"
    assert desk.diff("HEAD~1", "HEAD", "--exit-code").status == 2
    for output in ("text", "markdown"):
        assert "is new: " in desk.diff("HEAD~1", "HEAD", output=output).stdout
    assert desk.diff("HEAD~1", "mmp.yaml").changes == {"BTC-USD": "set"}, "what is being edited"
    assert desk.diff("HEAD~1", ".", "-c", ".").changes == {"BTC-USD": "set"}


def test_a_config_that_only_the_older_revision_has_is_removed_in_every_family(desk: Desk) -> None:
    desk.commit({"mmp.yaml": config(BTC="100")})
    desk.commit({"mmp.yaml": None})
    message = desk.diff("HEAD~1", "HEAD")
    assert (message.status, message.changes) == (0, {})
    assert message.stderr == "account main (live) was removed: 1 family will no longer be managed\n"
    assert message.document["summary"]["unmanaged"] == 1
    assert desk.diff("HEAD~1", "HEAD", "--exit-code").status == 2
    for output in ("text", "markdown"):
        assert "1 family will no longer be managed" in desk.diff("HEAD~1", "HEAD", output=output).stdout


def test_of_several_configs_each_may_come_or_go(desk: Desk) -> None:
    desk.commit({"a.yaml": config("a", BTC="1"), "b.yaml": config("b", BTC="1")})
    desk.commit({"a.yaml": None, "b.yaml": config("b", BTC="2"), "sub/c.yaml": config("c", ETH="1")})
    flags = ("-c", "a.yaml", "-c", "b.yaml", "-c", "sub")
    plans = desk.diff("HEAD~1", "HEAD", *flags).document["plans"]
    assert {plan["account"]: plan["summary"]["set"] for plan in plans} == {"a": 0, "b": 1, "c": 1}
    assert desk.diff("HEAD~1:sub", "HEAD:sub").changes == {"ETH-USD": "set"}


def test_a_folder_without_a_config_is_a_config_that_is_not_there_yet(desk: Desk) -> None:
    desk.commit({f"accounts/{POLICY}": policy()})
    desk.commit({"accounts/main.yaml": config(BTC="100")})
    message = desk.diff("HEAD~1:accounts", "HEAD:accounts")
    assert (message.status, message.changes) == (0, {"BTC-USD": "set"})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("HEAD~1", "HEAD"),
        ("HEAD~1:nmp.yaml", "HEAD:nmp.yaml"),
        ("HEAD~1:mmp.yml", "HEAD:there.yaml"),
        ("HEAD:there.yaml", "HEAD:mmp.yml"),
        ("HEAD~1:mmp.yml", "there.yaml"),
        ("HEAD~1:empty", "HEAD:empty"),
    ],
)
def test_a_path_that_neither_side_has_is_mistyped(desk: Desk, old: str, new: str) -> None:
    desk.commit({"there.yaml": config(BTC="1"), "empty/README.md": ""})
    desk.commit({"there.yaml": config(BTC="2")})
    message = desk.diff(old, new)
    assert (message.status, message.error) == (Exit.INVALID, "not-in-revision")
    assert any(name in message.stderr for name in ("mmp.yaml", "nmp.yaml", "mmp.yml", "empty"))


def test_a_file_outside_of_the_repository_does_not_stand_in_for_a_missing_one(
    desk: Desk, tmp_path: Path
) -> None:
    desk.commit({"README.md": "desk"})
    (tmp_path / "mmp.yaml").write_text(config(BTC="1"), encoding="utf-8")
    assert desk.diff("HEAD", str(tmp_path / "mmp.yaml")).error == "not-in-revision"


# ---- accounts that are called otherwise ------------------------------------------------------------


def renamed(text: str, account: str = "spare", environment: str = "live") -> str:
    return text.replace("account: main", f"account: {account}").replace(
        "environment: live", f"environment: {environment}"
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("HEAD~1", "HEAD"),
        ("HEAD~1", "mmp.yaml"),
        ("HEAD~1:mmp.yaml", "HEAD:."),
        ("HEAD~1", "."),
        ("old.yaml", "new.yaml"),
    ],
)
def test_a_renamed_account_hides_no_loosening(desk: Desk, old: str, new: str) -> None:
    desk.commit({"mmp.yaml": config(BTC="100", ETH="5"), POLICY: policy(2)})
    desk.commit({"mmp.yaml": renamed(config(BTC="400", SOL="5"))})
    if new == "new.yaml":
        for name, text in (("old", config(BTC="100")), ("new", renamed(config(BTC="400", SOL="5")))):
            (desk.repository.folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    message = desk.diff(old, new, "--fail-on", "policy")
    assert (message.status, message.changes) == (3, {"BTC-USD": "hold", "SOL-USD": "set"})
    assert message.document["old"]["account"] == "main"
    assert message.document["account"] == "spare"
    assert "account renamed main → spare: " in desk.diff(old, new, output="text").stdout
    assert "account renamed `main` → `spare`: " in desk.diff(old, new, output="markdown").stdout


def test_an_account_in_a_folder_is_known_by_its_file_whatever_the_folder_is_called(desk: Desk) -> None:
    desk.commit({"accounts/a.yaml": config("a", BTC="1"), "accounts/b.yaml": config("b", ETH="1")})
    desk.commit(
        {
            **{f"accounts/{name}.yaml": None for name in "ab"},
            "desks/a.yaml": config("z", BTC="2", SOL="1"),
            "desks/b.yaml": config("b", ETH="1"),
        }
    )
    plans = desk.diff("HEAD~1:accounts", "HEAD:desks").document["plans"]
    assert {plan["account"]: plan["old"]["account"] for plan in plans} == {"b": "b", "z": "a"}


def test_another_environment_is_reported_and_its_settings_are_compared(desk: Desk) -> None:
    desk.commit({"mmp.yaml": config(BTC="100")})
    desk.commit({"mmp.yaml": renamed(config(BTC="400"), "main", "demo")})
    message = desk.diff("HEAD~1", "HEAD", "--fail-on", "loosen")
    assert (message.status, message.changes) == (3, {"BTC-USD": "set"})
    assert (
        "environment changed live → demo: the other environment has"
        in desk.diff("HEAD~1", "HEAD", output="text").stdout
    )


def test_a_name_alone_is_a_change_worth_an_exit_code(desk: Desk) -> None:
    desk.commit({"mmp.yaml": config(BTC="100")})
    desk.commit({"mmp.yaml": renamed(config(BTC="100"))})
    assert desk.diff("HEAD~1", "HEAD", "--exit-code").status == 2
    assert desk.diff("HEAD", "HEAD", "--exit-code").status == 0


UID, KEYS = "environment: live\nexpect: {uid: '%s'}", "environment: live\ncredentials: {prefix: %s}"


@pytest.mark.parametrize(
    ("before", "after", "message", "document"),
    [
        (UID % 111, UID % 222, "expect.uid changed 111 → 222: mmp writes", ("expect.uid", "111", "222")),
        (UID % 111, None, "expect.uid 111 is removed: mmp writes", ("expect.uid", "111", None)),
        (None, UID % 222, "expect.uid is 222 now: mmp writes", ("expect.uid", None, "222")),
        (
            KEYS % "DESK_",
            KEYS % "OTHER_",
            "credentials.prefix changed DESK_ → OTHER_: other keys",
            ("credentials.prefix", "DESK_", "OTHER_"),
        ),
        (
            None,
            KEYS % "OTHER_",
            "credentials.prefix changed OKX_ → OTHER_: other keys",
            ("credentials.prefix", "OKX_", "OTHER_"),
        ),
    ],
)
def test_whose_account_is_written_to_does_not_change_unseen(
    desk: Desk,
    before: str | None,
    after: str | None,
    message: str,
    document: tuple[str, str | None, str | None],
) -> None:
    for instead in (before, after):
        desk.commit(
            {"mmp.yaml": config(BTC="100").replace("environment: live", instead or "environment: live")}
        )
    moved = desk.diff("HEAD~1", "HEAD", "--exit-code")
    assert moved.status == 2
    assert moved.document["old"]["identity"] == [
        dict(zip(("key", "before", "after"), document, strict=True))
    ]
    for output in ("text", "markdown"):
        assert message in desk.diff("HEAD~1", "HEAD", output=output).stdout.replace("`", "")
    assert message in desk.diff("HEAD~1", "HEAD", output="gitlab").stderr
    assert desk.diff("HEAD", "HEAD").document["old"]["identity"] == []


def test_the_user_id_tells_a_renamed_account_before_its_file_does(desk: Desk) -> None:
    decoy = config("decoy", BTC="100").replace("environment: live", UID % 222)
    desk.commit({"accounts/a.yaml": config("main", BTC="100").replace("environment: live", UID % 111)})
    desk.commit(
        {
            "accounts/a.yaml": decoy,
            "accounts/b.yaml": config("spare", BTC="400").replace("environment: live", UID % 111),
        }
    )
    plans = desk.diff("HEAD~1:accounts", "HEAD:accounts").document["plans"]
    assert {plan["account"]: plan["old"]["account"] for plan in plans} == {"decoy": None, "spare": "main"}


def test_who_is_written_to_is_in_the_headline_and_can_be_failed_on(desk: Desk) -> None:
    desk.commit({"mmp.yaml": config(BTC="100").replace("environment: live", KEYS % "DESK_")})
    desk.commit({"mmp.yaml": config(BTC="100").replace("environment: live", KEYS % "OTHER_")})
    headline = "credentials.prefix changes: DESK_ → OTHER_."
    message = desk.diff("HEAD~1", "HEAD", output="markdown").stdout.splitlines()[1]
    assert f"**{headline}** **No setting changes.**" in message.replace("`", "")
    assert f"{headline} No setting changes." in desk.diff("HEAD~1", "HEAD", output="text").stdout
    assert desk.diff("HEAD~1", "HEAD", "--fail-on", "identity").status == Exit.REFUSED
    assert desk.diff("HEAD", "HEAD", "--fail-on", "identity").status == 0


def test_kinds_to_fail_on_add_up(desk: Desk) -> None:
    """The last one alone counted: a flag in a script took the guard of another away."""
    desk.commit({"mmp.yaml": config(BTC="100")})
    desk.commit({"mmp.yaml": config(BTC="400")})
    for kinds in (("loosen", "disable"), ("disable", "loosen"), ("disable,loosen", "mixed")):
        flags = [word for kind in kinds for word in ("--fail-on", kind)]
        assert desk.diff("HEAD~1", "HEAD", *flags).status == Exit.REFUSED
    assert desk.diff("HEAD~1", "HEAD", "--fail-on", "disable", "--fail-on", "mixed").status == 0


def test_accounts_that_may_be_several_are_not_compared_and_nothing_is_claimed(desk: Desk) -> None:
    """Two accounts are renamed at once, and each gets ten times looser, or a tenth: unclear which."""
    desk.commit({"a/one.yaml": config("one", BTC="100"), "a/two.yaml": config("two", BTC="10")})
    desk.commit(
        {
            "a/one.yaml": None,
            "a/two.yaml": None,
            "a/three.yaml": config("three", BTC="100"),
            "a/four.yaml": config("four", BTC="1000"),
        }
    )
    message = desk.diff("HEAD~1", "HEAD", "-c", "a", "--fail-on", "identity")
    assert message.status == Exit.REFUSED
    come = {plan["account"]: plan["old"] for plan in message.document["plans"]}
    assert come["four"]["not_compared"] == ["one (live)", "two (live)"]
    assert come["four"]["account"] is None
    text = desk.diff("HEAD~1", "HEAD", "-c", "a", output="text").stdout
    assert "account four (live) is not compared: it may be a removed account under a new name" in text
    assert "Not compared: whether anything gets looser is not known. Plan: 1 to set" in text
    markdown = desk.diff("HEAD~1", "HEAD", "-c", "a", output="markdown").stdout
    assert "**Not compared in 2 accounts.**" in markdown
    assert "gets looser.**" not in markdown


# ---- refusals without a change ---------------------------------------------------------------------


def test_a_protected_family_that_is_taken_out_is_not_called_no_changes(desk: Desk) -> None:
    guard = "version: 1\nprotected: [ETH-USD]\n"
    desk.commit({"mmp.yaml": config(BTC="1"), POLICY: guard})
    message = desk.diff("HEAD", "HEAD", "--exit-code", output="text")
    assert message.status == 2
    assert "Refused: nothing would be sent. 1 family is as desired." in message.stdout
    assert "No changes" not in message.stdout
    assert desk.diff("HEAD", "HEAD", output="gitlab").document == {"create": 0, "update": 0, "delete": 1}


# ---- whose policy counts ---------------------------------------------------------------------------

HELD, PASSES = {"BTC-USD": "hold"}, {"BTC-USD": "set"}


@pytest.mark.parametrize(
    ("before", "after", "changes", "changed"),
    [
        (None, None, PASSES, False),
        (policy(2), policy(2), HELD, False),
        (policy(8), policy(8), PASSES, False),
        (policy(2), policy(8), HELD, True),
        (policy(8), policy(2), HELD, True),
        (policy(2), None, HELD, True),
        (None, policy(2), HELD, True),
        (None, policy(8), PASSES, True),
        (policy(8), policy(8) + "# same, but for this\n", PASSES, True),
    ],
)
def test_a_change_has_to_pass_the_policies_of_both_revisions(
    desk: Desk, before: str | None, after: str | None, changes: dict[str, str], changed: bool
) -> None:
    desk.commit(
        {"accounts/mmp.yaml": config(BTC="100"), **({f"accounts/{POLICY}": before} if before else {})}
    )
    removed = {f"accounts/{POLICY}": None} if before and not after else {}
    added = {f"accounts/{POLICY}": after} if after else {}
    desk.commit({"accounts/mmp.yaml": config(BTC="400"), **removed, **added})
    for side in ("accounts", "accounts/mmp.yaml"):
        message = desk.diff("HEAD~1", "HEAD", "-c", side)
        assert message.changes == changes
        assert message.document["old"]["policy_changed"] == changed
    flagged = "What the policy of either side refuses is held."
    changed = changed and "# same" not in str(after)
    assert (flagged in desk.diff("HEAD~1", "HEAD", "-c", "accounts", output="markdown").stdout) == changed
    assert (flagged in desk.diff("HEAD~1", "HEAD", "-c", "accounts", output="text").stdout) == changed


LOOSER = "loosening.maxFactor 2 → none: looser"


@pytest.mark.parametrize(
    ("before", "after", "file", "says", "rules"),
    [
        (policy(2), "version: 1\n", "edited", f"Policy file {POLICY} changes.", [LOOSER]),
        (policy(2), policy(4), "edited", f"Policy file {POLICY} changes.", [LOOSER.replace("none", "4")]),
        (policy(2), None, "deleted", f"Policy file {POLICY} is deleted.", [LOOSER]),
        (
            None,
            policy(2),
            "added",
            f"Policy file {POLICY} is new.",
            ["loosening.maxFactor none → 2: tighter"],
        ),
    ],
)
def test_a_change_of_the_policy_alone_is_a_change(
    desk: Desk, before: str | None, after: str | None, file: str, says: str, rules: list[str]
) -> None:
    """Committed, and in the working files as well: all of them read ``No changes``."""
    desk.commit({"mmp.yaml": config(BTC="100"), **({POLICY: before} if before else {})})
    path = desk.repository.folder / POLICY
    path.unlink(missing_ok=True)
    if after:
        path.write_text(after, encoding="utf-8")
    working = [("HEAD", "mmp.yaml"), ("HEAD", ".")]
    for is_committed, sides in ((False, working), (True, [("HEAD~1", "HEAD")])):
        if is_committed:
            desk.repository.commit_all()
        for side in sides:
            for output in ("text", "markdown"):
                message = desk.diff(*side, output=output).stdout.replace("`", "")
                assert says in message
                assert all(rule in message for rule in rules)
                assert "No setting changes." in message
                assert "No changes" not in message
            assert desk.diff(*side, "--exit-code").status == 2
            assert desk.diff(*side, "--fail-on", "policy-change").status == Exit.REFUSED
            change = desk.diff(*side).document["old"]["policy_change"]
            assert change["file"] == file
            assert [rule["rule"] for rule in change["rules"]] == ["loosening.maxFactor"]
            assert says in desk.diff(*side, output="gitlab").stderr
    assert desk.diff("HEAD", "HEAD", "--exit-code", "--fail-on", "policy-change").status == 0


def test_a_change_of_comments_says_so_and_is_none(desk: Desk) -> None:
    desk.commit({"mmp.yaml": config(BTC="100"), POLICY: policy(2)})
    desk.commit({POLICY: "# why\n" + policy(2)})
    message = desk.diff("HEAD~1", "HEAD", "--exit-code", "--fail-on", "policy-change", output="text")
    assert message.status == 0
    assert (
        f"Policy file {POLICY} changes in comments or layout only: its rules are the same."
        in message.stdout
    )
    assert "No changes." in message.stdout


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("mmp-policy.yml", f"Policy file renamed {POLICY} → mmp-policy.yml."),
        (
            "guard.yaml",
            f"Policy file {POLICY} is deleted; guard.yaml has its content now, and is read only",
        ),
    ],
)
def test_another_name_of_the_policy_file_is_reported(desk: Desk, name: str, says: str) -> None:
    desk.commit({"mmp.yaml": config(BTC="100"), POLICY: policy(2)})
    (desk.repository.folder / POLICY).rename(desk.repository.folder / name)
    assert says in desk.diff("HEAD", "mmp.yaml", "--exit-code", output="text").stdout
    desk.repository.commit_all()
    for output in ("text", "markdown"):
        assert says in desk.diff("HEAD~1", "HEAD", output=output).stdout.replace("`", "")
    assert desk.diff("HEAD~1", "HEAD", "--exit-code").status == 2


def test_a_named_pipe_beside_a_removed_policy_is_not_waited_for(desk: Desk) -> None:
    desk.commit({"mmp.yaml": config(BTC="100"), POLICY: policy()})
    (desk.repository.folder / POLICY).unlink()
    os.mkfifo(desk.repository.folder / "zz.yaml")
    with ends_within(5):
        ended = desk.diff("HEAD", "./mmp.yaml", output="text")
    assert ended.status == 0
    assert f"Policy file {POLICY} is deleted." in ended.stdout


@contextmanager
def ends_within(seconds: int) -> Iterator[None]:
    """Fail what takes longer, also in a call of the system that waits."""

    def late(*_: object) -> None:
        pytest.fail(f"not ended within {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_a_policy_is_missed_where_two_folders_are_compared_and_not_beside_a_lone_file(
    desk: Desk, tmp_path: Path
) -> None:
    for side in ("old", "new"):
        (tmp_path / side).mkdir()
        (tmp_path / side / "mmp.yaml").write_text(config(BTC="100"), encoding="utf-8")
    (tmp_path / "old" / POLICY).write_text(policy(2), encoding="utf-8")
    folders = desk.diff(str(tmp_path / "old"), str(tmp_path / "new"))
    assert folders.document["old"]["policy_change"]["file"] == "deleted"
    files = desk.diff(str(tmp_path / "old" / "mmp.yaml"), str(tmp_path / "new" / "mmp.yaml"))
    assert files.document["old"]["policy_change"] is None


def test_a_looser_policy_beside_a_tighter_setting_is_in_the_headline(desk: Desk) -> None:
    desk.commit({"mmp.yaml": config(BTC="100"), POLICY: policy(2)})
    desk.commit({"mmp.yaml": config(BTC="50"), POLICY: policy(4)})
    message = desk.diff("HEAD~1", "HEAD", output="markdown").stdout.splitlines()[1]
    assert "**Policy: 1 rule looser.** **No setting gets looser.**" in message


def test_every_account_of_a_folder_counts_for_the_policy_of_all(desk: Desk) -> None:
    accounts = {f"a/{name}.yaml": config(name, BTC="1") for name in "bc"}
    desk.commit({**accounts, f"a/{POLICY}": policy(2)})
    desk.commit({f"a/{POLICY}": policy(3)})
    message = desk.diff("HEAD~1", "HEAD", "-c", "a", output="markdown").stdout.splitlines()[1]
    assert message.startswith("**The policy gets looser in 2 accounts.** **No setting changes.**")


def test_a_share_over_what_the_older_file_enables_is_reported_as_unproven(desk: Desk) -> None:
    share = "version: 1\nloosening: {maxShare: 100%}\n"
    desk.commit({"mmp.yaml": config(BTC="100", ETH="1"), POLICY: share})
    desk.commit({"mmp.yaml": config(BTC="101", ETH="1")})
    says = "maxShare is judged over the families that the older file enables: this base is not proven."
    for output in ("text", "markdown"):
        assert says in desk.diff("HEAD~1", "HEAD", output=output).stdout
    assert desk.diff("HEAD~1", "HEAD").document["old"]["share_unproven"]
    assert not desk.diff("HEAD", "HEAD~1").document["old"]["share_unproven"]


def test_every_rendering_notes_once_that_a_limit_within_a_time_is_not_checked(desk: Desk) -> None:
    limit = "version: 1\nloosening: {maxFactor: 2, per: 24h}\n"
    desk.commit({"mmp.yaml": config(BTC="100", ETH="1"), POLICY: limit})
    desk.commit({"mmp.yaml": config(BTC="150", ETH="1")})
    says = (
        "The limit per 24h was not checked, because mmp diff has no record; mmp plan and mmp apply have "
        "one."
    )
    for output in ("text", "markdown"):
        assert desk.diff("HEAD~1", "HEAD", output=output).stdout.count(says) == 1
    ended = desk.diff("HEAD~1", "HEAD")
    assert ended.document["old"]["per_not_checked"] == ["24h"]
    assert ended.stderr.count(says) == 1
    assert desk.diff("HEAD~1", "HEAD", output="gitlab").stderr.count(says) == 1
    # A tightening is refused by no record.
    assert desk.diff("HEAD", "HEAD~1").document["old"]["per_not_checked"] == []


def test_the_windows_of_both_policies_are_named(desk: Desk) -> None:
    limit = "version: 1\nloosening: {maxFactor: 2, per: 7d}\n"
    desk.commit({"mmp.yaml": config(BTC="100"), POLICY: limit})
    desk.commit({"mmp.yaml": config(BTC="150"), POLICY: limit.replace("7d", "24h")})
    message = desk.diff("HEAD~1", "HEAD", output="markdown").stdout
    assert "The limits per 24h and 7d were not checked, because mmp diff has no record" in message
    assert desk.diff("HEAD~1", "HEAD").document["old"]["per_not_checked"] == ["24h", "7d"]


def test_a_new_account_may_be_on_record(desk: Desk) -> None:
    limit = "version: 1\nloosening: {maxFactor: 2, per: 24h}\n"
    desk.commit({"a/b.yaml": config("b", BTC="1"), f"a/{POLICY}": limit})
    desk.commit({"a/c.yaml": config("c", BTC="1")})
    documents = desk.diff("HEAD~1", "HEAD", "-c", "a").document["plans"]
    assert {one["account"]: one["old"]["per_not_checked"] for one in documents} == {"b": [], "c": ["24h"]}


def test_checks_that_need_a_record_are_noted_once_for_all_accounts(desk: Desk) -> None:
    limit = "version: 1\nloosening: {maxFactor: 2, maxShare: 100%, per: 24h}\n"
    desk.commit({"a/b.yaml": config("b", BTC="1"), "a/c.yaml": config("c", BTC="1"), f"a/{POLICY}": limit})
    desk.commit({"a/b.yaml": config("b", BTC="2"), "a/c.yaml": config("c", BTC="2")})
    for output in ("text", "markdown", "json", "gitlab"):
        ended = desk.diff("HEAD~1", "HEAD", "-c", "a", output=output)
        message = ended.stdout if output in ("text", "markdown") else ended.stderr
        assert message.count("The limit per 24h was not checked") == 1
        assert message.count("this base is not proven") == 1


def test_the_policy_of_a_revision_is_that_of_the_revision(desk: Desk) -> None:
    desk.commit({"mmp.yaml": config(BTC="100"), POLICY: policy(2)})
    desk.commit({"mmp.yaml": config(BTC="400")})
    (desk.repository.folder / POLICY).write_text(policy(99), encoding="utf-8")
    message = desk.diff("HEAD~1", "HEAD")
    assert message.changes == HELD
    assert message.document["policy"]["path"] == f"HEAD:{POLICY}"
    assert message.document["old"]["policy"]["path"] == f"HEAD~1:{POLICY}"
    assert desk.diff("HEAD~1", "HEAD", "--fail-on", "policy").status == Exit.REFUSED


def test_a_named_policy_counts_alone(desk: Desk, tmp_path: Path) -> None:
    desk.commit({"mmp.yaml": config(BTC="100"), POLICY: policy(2)})
    desk.commit({"mmp.yaml": config(BTC="400"), POLICY: policy(3)})
    (tmp_path / "own.yaml").write_text(policy(8), encoding="utf-8")
    message = desk.diff("HEAD~1", "HEAD", "--policy", str(tmp_path / "own.yaml"))
    assert message.changes == PASSES
    assert not message.document["old"]["policy_changed"]
    missing = desk.diff("HEAD~1", "HEAD", "--policy", str(tmp_path / "missing.yaml"))
    assert missing.status == Exit.INVALID


def test_a_file_of_its_own_need_not_have_a_policy_beside_it(desk: Desk, tmp_path: Path) -> None:
    desk.commit({"mmp.yaml": config(BTC="100"), POLICY: policy(2)})
    rendered = tmp_path / "rendered.yaml"
    rendered.write_text(config(BTC="400"), encoding="utf-8")
    for arguments in (("HEAD", str(rendered)), (str(rendered), "HEAD")):
        message = desk.diff(*arguments)
        assert not message.document["old"]["policy_changed"]
        assert message.changes == (HELD if arguments[0] == "HEAD" else PASSES)
    beside = desk.repository.folder / "new.yaml"
    beside.write_text(config(BTC="400"), encoding="utf-8")
    assert desk.diff("mmp.yaml", "new.yaml").changes == HELD


def test_a_policy_that_does_not_hold_ends_the_command(desk: Desk) -> None:
    desk.commit({"mmp.yaml": config(BTC="100"), POLICY: "version: 2\n"})
    message = desk.diff("HEAD", "HEAD")
    assert message.status == Exit.INVALID
    assert message.document["problems"][0]["path"] == f"HEAD:{POLICY}"
    desk.commit({"mmp-policy.yml": policy(), POLICY: policy()})
    assert desk.diff("HEAD", "HEAD").document["problems"][0]["code"] == "two-policies"
    desk.commit({"mmp-policy.yml": None, POLICY: None})
    (desk.repository.folder / POLICY).symlink_to("elsewhere.yaml")
    desk.repository.commit_all()
    assert desk.diff("HEAD", "HEAD").error == "not-a-file"


def test_a_protected_family_is_missed_when_its_account_goes(desk: Desk) -> None:
    guard = "version: 1\nprotected: [BTC-USD]\n"
    desk.commit({"a/b.yaml": config("b", BTC="1"), "a/c.yaml": config("c", BTC="1"), f"a/{POLICY}": guard})
    desk.commit({"a/c.yaml": None})
    message = desk.diff("HEAD~1", "HEAD", "-c", "a", "--fail-on", "policy")
    assert message.status == Exit.REFUSED
    (gone,) = [plan for plan in message.document["plans"] if plan["account"] == "c"]
    assert [refusal["allow"] for refusal in gone["refusals"]] == ["protected:BTC-USD"]


# ---- what it leaves alone --------------------------------------------------------------------------


def test_git_gets_no_key_and_no_helper_runs(
    two: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen = tmp_path / "environment"
    stand_in(tmp_path, monkeypatch, f"env >> {seen}")
    monkeypatch.setenv("OKX_SECRET_KEY", "a-secret")
    monkeypatch.setenv("GIT_PAGER", "touch paged")
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", "touch diffed")
    monkeypatch.setenv("GIT_TRACE", "1")
    assert two.diff("HEAD~1", "HEAD").status == 0
    given = seen.read_text(encoding="utf-8")
    assert "a-secret" not in given
    names = {line.partition("=")[0] for line in given.splitlines()}
    assert not names & {"GIT_PAGER", "GIT_EXTERNAL_DIFF", "GIT_TRACE"}


def test_no_socket_is_made_and_no_file_is_written(two: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    watching = True

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if watching and (event.startswith("socket.") or (event == "open" and _writes(arguments))):
            seen.append(f"{event} {arguments}")

    sys.addaudithook(watch)
    try:
        assert two.diff("HEAD~1", "HEAD", output="markdown").status == 0
    finally:
        watching = False
    assert seen == []


def _writes(arguments: tuple[Any, ...]) -> bool:
    path, mode, flags = arguments
    in_cache = "__pycache__" in str(path)
    return not in_cache and (any(sign in str(mode or "") for sign in "wxa+") or bool(flags & os.O_WRONLY))


def test_the_same_inputs_give_the_same_bytes(two: Desk) -> None:
    for output in ("text", "json", "markdown", "gitlab"):
        assert len({two.diff("HEAD~1", "HEAD", output=output).stdout for _ in range(3)}) == 1
