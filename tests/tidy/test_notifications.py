"""What docs/notifications.md states is what the code does."""

from __future__ import annotations

import re

from reconciler.core.monitoring.alerts import (
    LATE_AFTER_S,
    LOCKED_AFTER_S,
    STATE_LOST_AFTER_S,
    UNREACHABLE_AFTER_S,
    AlertKind,
)
from reconciler.core.monitoring.notifications import GROUP_ABOVE, REPEAT_INTERVAL_S
from reconciler.documents.notification import MAX_NAMED
from reconciler.notify.retry import MAX_TRIES, MAX_WAIT_S, RETRIED, DeliveryResult, retry_delay_s
from reconciler.notify.webhook_sender import FLUSH_S, MAX_WAITING, TRY_TIMEOUT_S
from reconciler.schema_files import load_schema
from tests.tidy.test_docs import section, tables
from tests.unit.report_samples import WALL

DOC = "notifications"


def test_every_kind_is_documented_and_no_other() -> None:
    message = [row[0].strip("`") for row in tables(section(DOC, "What is sent"))[0]]
    assert message == [kind.value for kind in AlertKind]


def test_documented_bounds_are_those_of_the_code() -> None:
    message, delivered = section(DOC, "What is sent"), section(DOC, "Delivery")
    waits = [retry_delay_s(tries, DeliveryResult(None), WALL) for tries in range(1, MAX_TRIES)]
    *first, last = [f"{wait:.0f}" for wait in waits if wait is not None]
    for words in (
        f"{LATE_AFTER_S:.0f} s after it should be",
        f"not answered for {UNREACHABLE_AFTER_S:.0f} s",
        f"held the lock of the state for {LOCKED_AFTER_S:.0f} s",
        f"could not be used for {STATE_LOST_AFTER_S:.0f} s",
        f"More than {GROUP_ABOVE} families",
        f"within {REPEAT_INTERVAL_S / 60:.0f} minutes",
    ):
        assert words in message.replace("\n", " ")
    for words in (
        f"queue of {MAX_WAITING} messages",
        f"up to {MAX_TRIES} times, with {', '.join(first)} and {last} s between",
        f"at most {MAX_WAIT_S:.0f} s. Each try takes at most {TRY_TIMEOUT_S:.0f} s",
        f"No answer, {', '.join(map(str, sorted(RETRIED)))} and 5xx",
        f"unsent messages have {FLUSH_S:.0f} s",
    ):
        assert words in re.sub(r"\s+", " ", delivered), words
    assert (
        load_schema("notification")["properties"]["details"]["properties"]["families"]["maxItems"]
        == MAX_NAMED
    )
