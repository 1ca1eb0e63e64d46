"""What is written beside the code holds: links lead somewhere, locks are whole, the sample is valid."""

from __future__ import annotations

import re
import tomllib
from itertools import pairwise

import pytest

from tests.tidy.source import ROOT, files

DOCUMENTS = sorted(path for path in files() if path.endswith(".md"))
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)
CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.MULTILINE | re.DOTALL)


def anchors(document: str) -> set[str]:
    """Return the anchors of a document's headings, as GitHub makes them."""
    kept = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in HEADING.findall(document)]
    return {heading.strip().replace(" ", "-") for heading in kept}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_relative_link_leads_to_a_file_and_every_anchor_to_a_heading(document: str) -> None:
    for target in LINK.findall(CODE.sub("", files()[document])):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (ROOT / document).parent / path if path else ROOT / document
        assert there.exists(), target
        assert not anchor or anchor in anchors(there.read_text(encoding="utf-8")), target


@pytest.mark.parametrize("lock", ["requirements/dev.lock", "requirements/run.lock"])
def test_a_lock_pins_everything_by_hash_and_names_no_address(lock: str) -> None:
    text = files()[lock]
    assert "://" not in text
    assert not re.search(r"^-", text, re.MULTILINE)
    starts = [place.start() for place in re.finditer(r"^[a-zA-Z0-9]", text, re.MULTILINE)]
    blocks = [text[start:end] for start, end in pairwise([*starts, len(text)])]
    assert blocks
    assert [block.splitlines()[0] for block in blocks if "--hash=sha256:" not in block] == []


def pins(lock: str) -> dict[str, str]:
    """Return version by name of a lock."""
    return dict(re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", files()[lock], re.MULTILINE))


def test_the_locks_agree_and_hold_what_the_project_asks_for() -> None:
    project = tomllib.loads(files()["pyproject.toml"])
    run, dev = pins("requirements/run.lock"), pins("requirements/dev.lock")
    assert run.items() <= dev.items()
    assert names(project["project"]["dependencies"]) <= run.keys()
    assert names(project["dependency-groups"]["dev"]) <= dev.keys()


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=!~ \[;]", requirement)[0] for requirement in requirements}
