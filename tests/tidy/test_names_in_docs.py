"""Metrics, error codes and log messages that a hand-written document names are those of the code."""

from __future__ import annotations

import re

import pytest

from reconciler.core.monitoring.alerts import AlertKind
from reconciler.render.error_catalogue import ERRORS
from tests.reference_docs.log_meanings import MEANINGS
from tests.tidy.test_docs import DOCS, text
from tests.unit.test_web_metrics import exported

NAMES = sorted([file.stem for file in DOCS.glob("*.md")] + ["../README"])
METRIC = re.compile(r"\bmmp_[a-z_]+")
STATE_CODE = re.compile(r"`(state-[a-z-]+)`")
NOT_METRICS = {"mmp_privilege"}
"""A field of the control endpoint of the simulated exchange."""

LOG_MESSAGES = (
    ("operating", "another writer keeps changing this family: paused"),
    ("operating", "state cannot be used"),
    ("operating", "state is locked"),
    ("replicas", "lease released: this replica cannot serve the account"),
    ("state", "state cannot be used"),
)


def test_every_metric_that_is_named_is_exported() -> None:
    named = {metric for name in NAMES for metric in METRIC.findall(text(name))}
    assert len(named) > 5
    assert named - NOT_METRICS - set(exported()) == set()


def test_every_error_of_the_state_that_is_named_exists() -> None:
    named = {code for name in NAMES for code in STATE_CODE.findall(text(name))}
    assert len(named) > 10
    assert named - set(ERRORS) - {kind.value for kind in AlertKind} == set()


@pytest.mark.parametrize(("name", "message"), LOG_MESSAGES)
def test_a_log_message_that_is_quoted_is_logged(name: str, message: str) -> None:
    assert f"`{message}`" in " ".join(text(name).split())
    assert message in {logged for _, logged in MEANINGS}
