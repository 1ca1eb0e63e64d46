"""What the documentation says of notifications is what the code does, and its example is what it makes."""

from __future__ import annotations

import json
import re
from datetime import timedelta

from jsonschema.validators import Draft202012Validator

from reconciler.core.conditions import (
    LATE_AFTER_S,
    LOCKED_AFTER_S,
    STATE_LOST_AFTER_S,
    UNREACHABLE_AFTER_S,
    Kind,
    Severity,
    conditions,
)
from reconciler.core.notices import APART, CALM_S, Turn, tell
from reconciler.core.standing import Standing, judge_standing
from reconciler.core.vitals import status_of
from reconciler.report.notices import MAX_NAMED, notice_document
from reconciler.schema_files import load_schema
from reconciler.sidecar.delivery import MAX_TRIES, MAX_WAIT_S, RETRIED, Answer, next_wait_s
from reconciler.sidecar.notifier import FLUSH_S, MAX_WAITING, TRY_TIMEOUT_S
from tests.tidy.document_examples import BLOCK, written
from tests.tidy.test_docs import section, tables, text
from tests.unit.core_builders import BTC, ETH, NOW, confirmed, row, setting
from tests.unit.notice_builders import vitals_of
from tests.unit.report_samples import WALL

DOC = "notifications"


def example() -> str:
    """Return the document that is told when somebody loosens BTC-USD, as the documentation shows it."""
    wanted = {BTC: setting("5000/2000/100"), ETH: setting("1000/0/500")}
    known = {
        BTC: confirmed("5000/2000/100", at=NOW - 60),
        ETH: confirmed("1000/0/500", at=NOW - 60),
    }
    calm = vitals_of(wanted, known, {BTC: row("5000/2000/100"), ETH: row("1000/0/500")})
    drifted = vitals_of(wanted, known, {BTC: row("5000/2000/400"), ETH: row("1000/0/500")})
    stories, _ = tell({}, conditions(calm), now=NOW, wall=WALL)
    _, (notice, *_) = tell(stories, conditions(drifted), now=NOW + 30, wall=WALL + timedelta(seconds=30))
    judged = judge_standing(status_of(drifted, now=NOW, wall=WALL), live=True, interval_s=30.0)
    at = WALL + timedelta(seconds=30)
    return written(notice_document(notice, drifted, judged, at=at, advice=lambda _: ""))


def shown() -> str:
    (block,) = BLOCK.finditer(text(DOC))
    assert block["name"] == "notice"
    return block["text"]


def test_the_example_is_what_the_code_makes() -> None:
    assert shown() == example()


def test_the_example_is_as_the_schema_says() -> None:
    validator = Draft202012Validator(load_schema("notice"))
    assert list(validator.iter_errors(json.loads(shown()))) == []


def test_every_field_is_told_and_no_other() -> None:
    schema = load_schema("notice")["properties"]
    fields = [name for name in schema if name != "details"]
    fields += [f"details.{name}" for name in schema["details"]["properties"]]
    told = [
        name for row in tables(section(DOC, "The document"))[0] for name in re.findall(r"`([^`]+)`", row[0])
    ]
    assert told == fields


def test_every_kind_is_told_and_no_other() -> None:
    told = [row[0].strip("`") for row in tables(section(DOC, "What is told"))[0]]
    assert told == [kind.value for kind in Kind]


def test_every_word_is_told() -> None:
    words = [*Turn, *Severity, *Standing]
    assert [word.value for word in words if f"`{word.value}`" not in section(DOC, "The document")] == []


def test_the_bounds_that_are_told_are_the_code_s() -> None:
    told, delivered = section(DOC, "What is told"), section(DOC, "How it is delivered")
    waits = [next_wait_s(tries, Answer(None), WALL) for tries in range(1, MAX_TRIES)]
    *first, last = [f"{wait:.0f}" for wait in waits if wait is not None]
    for words in (
        f"{LATE_AFTER_S:.0f} s after it should",
        f"not answered for {UNREACHABLE_AFTER_S:.0f} s",
        f"held the state for {LOCKED_AFTER_S:.0f} s",
        f"could not be used for {STATE_LOST_AFTER_S:.0f} s",
        f"More than {APART} families",
        f"within {CALM_S / 60:.0f} minutes",
    ):
        assert words in told.replace("\n", " ")
    for words in (
        f"queue of {MAX_WAITING} messages",
        f"up to {MAX_TRIES} times, with {', '.join(first)} and {last} s between",
        f"at most {MAX_WAIT_S:.0f} s. Each try takes at most {TRY_TIMEOUT_S:.0f} s",
        f"No answer, {', '.join(map(str, sorted(RETRIED)))} and 5xx",
        f"what is left has {FLUSH_S:.0f} s",
    ):
        assert words in re.sub(r"\s+", " ", delivered), words
    assert f"first {MAX_NAMED}" in section(DOC, "The document")


if __name__ == "__main__":
    from tests.tidy.document_examples import DOCS

    file = DOCS.with_name(f"{DOC}.md")
    new = BLOCK.sub(lambda at: f"```json {at['name']}\n{example()}```", file.read_text(encoding="utf-8"))
    file.write_text(new, encoding="utf-8")
