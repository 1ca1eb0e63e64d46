"""``plan --against``: a published status, from a file or an address, in place of a live read.

This file decides where a status may be fetched from, how many bytes are read, how long a fetch waits, and
that it is of the right account. No key is ever sent there: the request contains nothing of ours.
"""

from __future__ import annotations

import re
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import SplitResult, urlsplit

from reconciler.core.model import Desired
from reconciler.core.plan import Plan, PlanConstraints, with_schedule
from reconciler.core.planning import make_plan
from reconciler.core.problems import escape_unprintable
from reconciler.core.status_snapshot import (
    Snapshot,
    accepted_from,
    known_from,
    ledger_from,
    paused_from,
    reads_from,
    too_old,
)
from reconciler.documents.plan import StatusSource
from reconciler.documents.saved_plan_file import read_bounded, with_path
from reconciler.errors import AccountProblem, MmpError, PlanStale, UsageError
from reconciler.okx.wire import is_loopback
from reconciler.render.values import format_duration

TIMEOUT_S = 10.0
"""For a complete fetch, from the lookup of the name to the last byte: as long as for the exchange."""

MAX_STATUS_HEADERS = 1000
"""Bound on the number of headers of a reply: gateways add more than the 100 of Python's library. Its
limit on the length of one, 64 KiB, is far above what they add."""


def load_snapshots(source: str) -> tuple[Snapshot, ...]:
    """Return every account's status published at ``source``, a path or an http(s) address.

    Raises UsageError for an address that is not allowed, MmpError when it does not answer, and
    InvalidInput for anything but a status.
    """
    from reconciler.documents.status_snapshot import read_snapshots
    from reconciler.documents.strict_reader import read_document

    if "://" in source or _has_password(source):
        address = _address(source)
        named = address._replace(query="", fragment="").geturl()
        content = _fetch(source, named)
        return read_snapshots(read_document(content, named, "status", "statuses"), named)
    named = escape_unprintable(source)
    with with_path(source):
        document = read_document(read_bounded(source, "status"), named, "status", "statuses")
        return read_snapshots(document, named)


def snapshot_for(desired: Desired, snapshots: tuple[Snapshot, ...], max_age_s: float) -> Snapshot:
    """Return the status of the account ``desired`` is about.

    Raises AccountProblem when there is none, or when it is of another User ID; PlanStale when its
    live read is older than ``max_age_s``.
    """
    wanted = desired.account, desired.environment
    found = [one for one in snapshots if (one.account, one.environment) == wanted]
    if not found:
        there = ", ".join(sorted(f"{one.account} ({one.environment})" for one in snapshots))
        message = f"{snapshots[0].source} is of {there}, not of {desired.account} ({desired.environment})"
        raise AccountProblem("another-account", message, "name the status of this account")
    snapshot = found[0]
    if desired.expected_uid is not None and snapshot.uid not in (None, desired.expected_uid):
        text = f"{snapshot.source} is of User ID {snapshot.uid}, but {desired.path} expects"
        raise AccountProblem("wrong-account", f"{text} {desired.expected_uid}", "name its own status")
    why = too_old(snapshot, datetime.now(UTC), timedelta(seconds=max_age_s))
    if why is not None:
        allowed = f"--max-age is {format_duration(max_age_s)}"
        text = f"{snapshot.source} cannot be used for a plan: {why}, and {allowed}"
        raise PlanStale("status-too-old", text, "publish a newer one, or allow more with --max-age")
    return snapshot


def plan_against(desired: Desired, snapshot: Snapshot, rules: PlanConstraints) -> Plan:
    """Return the plan that follows from the snapshot's record, live read and pauses under ``rules``."""
    now = time.monotonic()
    wall = datetime.now(UTC)
    paused = paused_from(snapshot, desired, wall)
    rules = replace(rules, paused=paused, accepted=accepted_from(snapshot), wall=wall)
    plan = make_plan(desired, known_from(snapshot, now), reads_from(snapshot, now), rules, now)
    return with_schedule(plan, ledger_from(snapshot, now), now, assume_idle=False)


def published(snapshot: Snapshot) -> StatusSource:
    """Return where the snapshot is and the present age of its live read."""
    assert snapshot.live_at is not None
    age_s = (datetime.now(UTC) - snapshot.live_at).total_seconds()
    return StatusSource(snapshot.source, snapshot.live_at, max(0.0, age_s))


def _address(source: str) -> SplitResult:
    """Return the parts of an allowed address: https, or plain http on loopback."""
    try:
        parts = urlsplit(source)
        host = parts.hostname or ""
        _ = parts.port  # the port is parsed only on access; the library's own message repeats it
    except ValueError:
        raise _not_asked("it cannot be read") from None
    if not source.isascii() or not source.isprintable() or " " in source:
        raise _not_asked("it has blanks, control characters or characters that are not ASCII")
    if "@" in source.partition("?")[0]:
        # The message omits the address, because it has a password.
        raise _not_asked("it has a user name or password in it")
    if parts.scheme not in ("http", "https") or not host:
        raise _not_asked("it is neither a path nor an http(s) address")
    if parts.scheme == "http" and not is_loopback(host):
        raise _not_asked(f"plain http is for loopback addresses only, and {host} is not one")
    return parts


def _has_password(source: str) -> bool:
    """Return whether a source has the form ``user:password@host``, also after ``//``.

    A path of this form begins with ``./``.
    """
    return re.match(r"(?://|[^/]+:)[^@]*@", source) is not None


def _fetch(source: str, named: str) -> bytes:
    """Return the reply of an address, of bounded size and within TIMEOUT_S.

    The library bounds only each single read: with a byte now and then, or with endless ``100 Continue``, a
    server could block it forever. So a thread reads, and is abandoned after the timeout.
    """
    from reconciler.daemon_threads import DaemonThreadExecutor

    reading = DaemonThreadExecutor(1).submit(_request, source, named)
    try:
        return reading.result(TIMEOUT_S)
    except TimeoutError:
        raise _no_answer(named, f"no complete reply within {TIMEOUT_S:g} s") from None


def _request(source: str, named: str) -> bytes:
    """Return the reply of an address, of bounded size."""
    import http.client
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

    from reconciler.documents.strict_reader import MAX_DOCUMENT_BYTES

    class _NoRedirect(HTTPRedirectHandler):
        """Follow no redirect: a status at another address is not the one that was meant."""

        def redirect_request(self, *_: Any) -> None:
            return None

    vars(http.client)["_MAXHEADERS"] = MAX_STATUS_HEADERS  # the library offers no other way to set it
    opener = build_opener(ProxyHandler({}), _NoRedirect)
    request = Request(source, headers={"Accept": "application/json"})  # noqa: S310 the scheme was checked
    try:
        with opener.open(request, timeout=TIMEOUT_S) as reply:
            content: bytes = reply.read(MAX_DOCUMENT_BYTES + 1)
            return content
    except HTTPError as error:
        raise _no_answer(named, f"it answered with status {error.code}") from None
    except (OSError, HTTPException, ValueError) as error:
        raise _no_answer(named, str(getattr(error, "reason", error)) or type(error).__name__) from None


def _not_asked(why: str) -> UsageError:
    return UsageError("against", f"the address of --against cannot be used: {why}")


def _no_answer(named: str, why: str) -> MmpError:
    where = escape_unprintable(named)
    message = f"the published status at {where} could not be fetched: {escape_unprintable(why)}"
    return MmpError("status-unreachable", message, "download it by other means and name the file")
