"""A saved plan's file: written atomically, readable only by its owner, and read with every defect reported.

Used by ``plan --out``, ``show`` and ``apply PLAN``. Offline: it imports neither network nor state.
"""

from __future__ import annotations

import hashlib
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from reconciler.atomic_create import write_aside, write_hint
from reconciler.core.model import Desired
from reconciler.core.plan import Plan
from reconciler.core.problems import escape_unprintable, json_text
from reconciler.core.saved_plan import MAX_EXPIRY, PlanTarget, SavedPlan, expired, target_mismatches
from reconciler.documents.plan import Document, PlanContext, SavedInfo, plan_document
from reconciler.documents.saved_plan import (
    DEFAULT_EXPIRY,
    Origin,
    context_of,
    new_plan_id,
    read_saved,
    saved_document,
)
from reconciler.documents.strict_reader import MAX_DOCUMENT_BYTES, read_document
from reconciler.errors import InvalidInput, MmpError, PlanStale, UsageError
from reconciler.regular_file import REGULAR_FILE_HINT as NOT_REGULAR_HINT
from reconciler.regular_file import NotRegularFile, read_regular, read_with_status

PRIVATE = stat.S_IRUSR | stat.S_IWUSR
"""0600: a plan shows which protection a desk has, and when it is about to change."""


@dataclass(frozen=True, slots=True)
class LoadedPlan:
    """A saved plan as read from a file: the plan, its context, and the document itself."""

    path: str
    saved: SavedPlan
    context: PlanContext
    document: Document

    @property
    def saved_info(self) -> SavedInfo:
        """When the plan was saved and until when it may be applied."""
        assert self.context.saved is not None
        return self.context.saved


def save_plan(
    path: Path, plan: Plan, context: PlanContext, origin: Origin, *, expires_s: float | None
) -> None:
    """Save ``plan`` to ``path`` so that it can be applied as reviewed, by default for 24 h.

    Raises UsageError for an invalid time span, MmpError if the file cannot be written.
    """
    span = DEFAULT_EXPIRY if expires_s is None else timedelta(seconds=min(expires_s, 2**31))
    if not timedelta(0) < span <= MAX_EXPIRY:
        raise UsageError("expires", f"--expires is more than 0 and at most {MAX_EXPIRY.days} days")
    now = datetime.now(UTC)
    printed = plan_document(plan, context, simulator=origin.simulator)
    document = saved_document(printed, origin, plan_id=new_plan_id(), made_at=now, expires_at=now + span)
    _write(path, document)


def load_plan(path: str) -> LoadedPlan:
    """Read a saved plan. Raises InvalidInput: unreadable, foreign, too new, malformed, edited."""
    source = escape_unprintable(path)
    with with_path(path):
        document = read_document(read_bounded(path, "plan"), source, "plan")
        saved = read_saved(document, source)
    return LoadedPlan(path, saved, context_of(document, saved), document)


def load_fresh_plan(
    path: str, desired: Desired, host: str, expect: str | None, *, simulator: bool
) -> LoadedPlan:
    """Read a saved plan that is about to be applied to ``desired`` at ``host``; reads no state.

    Raises InvalidInput as :func:`load_plan` does. Raises PlanStale if the plan has expired, is for another
    account, environment, host or config, or does not have the digest ``expect``.
    """
    loaded = load_plan(path)
    here = PlanTarget(desired.account, desired.environment, host, simulator, desired.sha256)
    late = expired(loaded.saved, datetime.now(UTC))
    digest = loaded.saved.plan.digest
    other = () if expect in (None, digest) else (f"its digest is {digest}, not the expected {expect}",)
    reasons = (*((late,) if late else ()), *target_mismatches(loaded.saved.target, here), *other)
    if reasons:
        raise PlanStale(
            "plan-stale",
            f"nothing was sent, because {escape_unprintable(path)} cannot be applied here and now: "
            + "; ".join(reasons),
            f"make a new plan and review it; the config read was {escape_unprintable(desired.path)}",
            path=path,
        )
    return loaded


@contextmanager
def with_path(path: str) -> Iterator[None]:
    """Add to every error inside that it is about the file at ``path``."""
    try:
        yield
    except MmpError as problem:
        problem.path = path
        raise


def read_bounded(path: str, kind: str) -> bytes:
    """Return a file's bytes, up to one more than allowed. Raises InvalidInput ``<kind>-unreadable``."""
    try:
        return read_regular(path, MAX_DOCUMENT_BYTES + 1)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        message = f"{escape_unprintable(path)} cannot be read: {why}"
        hint = NOT_REGULAR_HINT if isinstance(error, NotRegularFile) else "check the path"
        raise InvalidInput(f"{kind}-unreadable", message, hint) from None


def stale_reasons(loaded: LoadedPlan) -> tuple[str, ...]:
    """Return every reason, known offline, why ``apply`` would refuse the plan; empty if it is fresh."""
    late = expired(loaded.saved, datetime.now(UTC))
    changed = "the config has changed since" if _config_has_changed(loaded) else None
    return tuple(reason for reason in (late, changed) if reason is not None)


def _config_has_changed(loaded: LoadedPlan) -> bool:
    """Tell whether a config can be read, here or beside the plan, and none is the plan's own."""
    named = Path(loaded.context.path)
    found = [_sha256(place) for place in {named, Path(loaded.path).parent / named}]
    hashes = {sha256 for sha256 in found if sha256 is not None}
    return bool(hashes) and loaded.context.sha256 not in hashes


def _sha256(path: Path) -> str | None:
    try:
        return hashlib.sha256(read_with_status(str(path), MAX_DOCUMENT_BYTES)[1]).hexdigest()
    except (OSError, ValueError):
        return None


def _write(path: Path, document: Document) -> None:
    """Write ``document`` to a temporary file, then rename it to ``path``, readable only by its owner."""
    text = json_text(document, indent=2) + "\n"
    aside = path.parent / f".{path.name}.{secrets.token_hex(4)}.new"
    try:
        if path.exists() and not path.is_file():
            raise _unwritable(path, "it exists and is not a file", "name a file with --out")
        write_aside(str(aside), text.encode(), PRIVATE)
        aside.replace(path)
    except OSError as error:
        with suppress(OSError):
            aside.unlink()
        raise _unwritable(path, error.strerror or "it cannot be written", write_hint(error)) from None


def _unwritable(path: Path, why: str, hint: str) -> MmpError:
    message = f"the plan was not saved to {escape_unprintable(str(path))}: {why}"
    return MmpError("out-unwritable", message, hint, path=str(path))
