"""The cost of the status page: 200 families, half of them differing, beside their status as JSON."""

from __future__ import annotations

import json

from bench.measure import Ratio, compare
from reconciler.core.monitoring.account_runtime import runtime_status
from reconciler.documents.status import status_document
from reconciler.web.page.render import page_html
from tests.support.example_accounts import NOW, WALL, large

FAMILIES = 200


def rendering(*, rounds: int) -> tuple[Ratio, int]:
    """Compare the page with the JSON status of the same account; return the page's bytes, too."""
    shared_state = large(FAMILIES, differing=0.5)
    (watched,) = shared_state.accounts()

    def as_json() -> str:
        status = runtime_status(watched.runtime, now=NOW, wall=WALL)
        assert status is not None
        return json.dumps(status_document(status))

    def as_page() -> str:
        return page_html(shared_state, now=NOW, wall=WALL)

    return compare(as_page, as_json, rounds=rounds), len(as_page().encode())
