"""``mmp diff`` as a reviewer's pipeline runs it: no key, no variable, no network, two commits."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from jsonschema.validators import Draft202012Validator

from reconciler.schema_files import load_schema
from tests.e2e.processes import MMP, desired_text
from tests.support.repository import Repository

pytestmark = pytest.mark.e2e

BEFORE = {
    "BTC-USD": "5s/2s/100",
    "ETH-USD": "1s/until-reset/500",
    "SOL-USD_UM": "5s/2s/10",
    "XAU-USD_UM": "5s/2s/10",
}
AFTER = {
    "BTC-USD": "5s/2s/50",
    "ETH-USD": "1s/5s/500",
    "SOL-USD_UM": "5s/2s/40",
    "XAU-USD_UM": "5s/2s/10.0",
}
"""Tightened, loosened, loosened by a factor of four, the same."""

NAMESPACE = ("unshare", "--user", "--map-root-user", "--net")
"""A network namespace of its own, in which there is no interface but a loopback that is down."""


def without_network() -> tuple[str, ...]:
    """Return what a command is run under; nothing where the kernel gives no namespaces to its users.

    There, that no socket is made is shown by the unit tests alone.
    """
    tried = subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False)
    return NAMESPACE if tried.returncode == 0 else ()


def mmp(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``mmp`` with an environment that contains only PATH."""
    return subprocess.run(
        [*without_network(), MMP, *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"]},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A repository with two commits that change three families."""
    made = Repository(tmp_path / "desk")
    made.commit({"mmp.yaml": desired_text(BEFORE)})
    made.commit({"mmp.yaml": desired_text(AFTER)})
    return made


def test_a_reviewer_sees_exactly_the_changed_fields_the_worst_first(repository: Repository) -> None:
    message = mmp(repository.folder, "diff", "HEAD~1", "HEAD", "--output", "markdown")
    assert (message.returncode, message.stderr) == (0, "")
    rows = re.findall(r"^\| `([^`]+)` \| ([^|]+) \| ([^|]*) \| ([^|]+) \|", message.stdout, re.MULTILINE)
    assert [tuple(cell.strip() for cell in row) for row in rows] == [
        ("ETH-USD", "frozenInterval until-reset → 5s", "unlimited", "500"),
        ("SOL-USD_UM", "qtyLimit 10 → 40", "×4", "10 → 40"),
        ("BTC-USD", "qtyLimit 100 → 50", "", "100 → 50"),
    ]
    assert "**Worst: `ETH-USD` of `main` (live), unlimited.**" in message.stdout
    assert "`guard: unlimited, limit less than ×1000`" in message.stdout
    assert "| 2 → 8 |" in message.stdout
    assert "XAU-USD" not in message.stdout
    assert not list(repository.folder.glob(".mmp*"))


@pytest.mark.slow
def test_changes_are_2_if_asked_for_and_a_refusal_is_3(repository: Repository) -> None:
    assert mmp(repository.folder, "diff", "HEAD~1", "HEAD", "--exit-code").returncode == 2
    assert mmp(repository.folder, "diff", "HEAD", "HEAD", "--exit-code").returncode == 0
    assert mmp(repository.folder, "diff", "HEAD~1", "HEAD", "--fail-on", "loosen").returncode == 3
    unknown = mmp(repository.folder, "diff", "HEAD~9", "HEAD")
    assert (unknown.returncode, unknown.stdout) == (4, "")
    assert "unknown-revision" in unknown.stderr


@pytest.mark.slow
def test_every_output_tells_the_same_changes(repository: Repository) -> None:
    document = json.loads(mmp(repository.folder, "diff", "HEAD~1", "HEAD", "--output", "json").stdout)
    Draft202012Validator(load_schema("plan")).validate(document)
    # Leaving until-reset is as good as switching off: held by the policy.
    assert (document["summary"]["set"], document["summary"]["hold"]) == (2, 1)
    assert [one["factor"] for one in document["changes"]] == ["1", "4", "unlimited"]
    counts = json.loads(mmp(repository.folder, "diff", "HEAD~1", "HEAD", "--output", "gitlab").stdout)
    assert counts == {"create": 0, "update": 2, "delete": 0}
    text = mmp(repository.folder, "diff", "HEAD~1", "HEAD").stdout
    assert document["digest"] in text
    assert "▼ loosen     SOL-USD_UM  qtyLimit 10 → 40" in text


def test_a_change_of_settings_and_policy_in_one_revision_is_flagged(repository: Repository) -> None:
    repository.commit({"mmp-policy.yaml": "version: 1\nloosening: {maxFactor: 2}\n"})
    relaxed = "version: 1\nloosening: {maxFactor: 10}\n"
    repository.commit(
        {"mmp-policy.yaml": relaxed, "mmp.yaml": desired_text({**AFTER, "BTC-USD": "5s/2s/400"})}
    )
    message = mmp(
        repository.folder, "diff", "HEAD~1", "HEAD", "--output", "markdown", "--fail-on", "policy"
    )
    assert message.returncode == 3
    assert "What the policy of either side refuses is held." in message.stdout
    assert "`loosening.maxFactor: ×8, limit ×2`" in message.stdout
    assert '--expect DIGEST --allow loosen:BTC-USD --reason "…"`' in message.stdout
