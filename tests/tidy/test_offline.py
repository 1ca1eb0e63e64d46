"""Offline commands stay light: they import neither network, nor event loop, nor the state."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from reconciler.documents.plan import PlanContext, plan_document
from reconciler.documents.saved_plan import Origin, saved_document
from tests.tidy.source import ROOT
from tests.unit.builders import BTC, plan_of, setting

HEAVY = (
    "aiohttp",
    "asyncio",
    "sqlite3",
    "structlog",
    "rich",
    "jinja2",
    "reconciler.web.server",
    "reconciler.store.engine",
    "reconciler.store.sqlite.state",
    "reconciler.store.account",
    "reconciler.store.postgres",
    "reconciler.okx.client",
    "reconciler.okx.transport",
    "reconciler.okx.credentials",
    "reconciler.simulator",
)
"""What an offline command must never have imported when it is done."""

RUN = """
import json, sys
from reconciler.cli.main import main
try:
    main()
except SystemExit as done:
    status = done.code or 0
print(json.dumps({"status": status, "modules": sorted(sys.modules)}), file=sys.stderr)
"""

# The coverage tool would import sqlite3 itself into a process it measures.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("COV")}

MADE_AT = datetime(2026, 3, 1, tzinfo=UTC)
SAVED_PLAN = saved_document(
    plan_document(
        plan_of({BTC: setting("5000/2000/100")}), PlanContext("openapi.okx.com", "mmp.yaml", "0" * 64)
    ),
    Origin(simulator=False, uid=None),
    plan_id="a" * 32,
    made_at=MADE_AT,
    expires_at=MADE_AT + timedelta(hours=1),
)
"""What is in plan.json: a plan that has expired, which is shown all the same."""

OFFLINE = [
    (["--help"], 0),
    (["--version"], 0),
    (["validate", str(ROOT / "mmp.yaml")], 0),
    (["validate", "--output", "json", str(ROOT / "mmp.yaml")], 0),
    (["validate", str(ROOT / "mmp.yaml"), "--policy", str(ROOT / "tests/corpus/policy/good/all.yaml")], 3),
    (["validate", "missing.yaml"], 4),
    (["validate", "--help"], 0),
    (["diff", str(ROOT / "mmp.yaml"), str(ROOT / "mmp.yaml")], 0),
    (["diff", "--output", "markdown", str(ROOT / "mmp.yaml"), str(ROOT / "mmp.yaml")], 0),
    (["diff", "--help"], 0),
    (["apply", "--help"], 0),
    (["plan", "--help"], 0),
    (["run", "--help"], 0),
    (["schema", "mmp"], 0),
    (["init", "-"], 0),
    (["show", "plan.json"], 0),
    (["show", "plan.json", "--output", "markdown"], 0),
    (["show", "--help"], 0),
    (["explain", "zero-with-unit"], 0),
    (["explain", "50011"], 0),
    (["explain", "BTC-USD", "-c", str(ROOT / "mmp.yaml")], 0),
    (["completion", "bash"], 0),
    *((([verb, "--help"], 0)) for verb in ("import", "doctor", "reset", "pause", "resume")),
    (["no-such-command"], 64),
]


@pytest.mark.parametrize(
    ("arguments", "status"), OFFLINE, ids=lambda value: " ".join(value) if isinstance(value, list) else None
)
def test_an_offline_command_imports_nothing_heavy(
    arguments: list[str], status: int, tmp_path: Path
) -> None:
    (tmp_path / "plan.json").write_text(json.dumps(SAVED_PLAN))
    done = subprocess.run(
        [sys.executable, "-c", RUN, *arguments],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    message = json.loads(done.stderr.splitlines()[-1])
    assert message["status"] == status
    assert [name for name in HEAVY if name in message["modules"]] == []


@pytest.mark.slow
def test_a_sidecar_whose_page_is_not_opened_has_neither_rich_nor_jinja2_in_memory() -> None:
    wired = (
        "import json, sys, reconciler.controller.run_process, reconciler.web.observer\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    message = subprocess.run(
        [sys.executable, "-c", wired],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert {"rich", "rich.console", "jinja2"} & set(json.loads(message.stdout)) == set()
