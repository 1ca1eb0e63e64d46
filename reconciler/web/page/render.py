"""Renders the status page to HTML from a view, with one template, and returns the files the page loads.

Autoescape is on and the template marks nothing as safe, so input from outside stays text. The server's
content security policy allows neither inline script nor inline style; there is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.web.latest_state import LatestState
from reconciler.web.page.account_view import PageHintFor, hint_from_glossary
from reconciler.web.page.charts import TIMELINE_HEIGHT
from reconciler.web.page.labels import clock, moment_words, truncated
from reconciler.web.page.view_model import LEGEND, page_view
from reconciler.web.responses import Response

if TYPE_CHECKING:
    from jinja2 import Template

ASSETS_FOLDER = Path(__file__).resolve().parent

REFRESH_S = 10
"""How often the page reloads without JavaScript."""


def page_html(
    latest: LatestState, *, now: float, wall: datetime, hint_for: PageHintFor = hint_from_glossary
) -> str:
    """Return the page at ``/`` as of ``now`` (the process's clock) and ``wall`` (UTC).

    ``hint_for`` returns what to do about an error; without it the page points to
    mmp explain for errors of the exchange.
    """
    return _template().render(
        page=page_view(latest, now=now, wall=wall, hint_for=hint_for),
        height=TIMELINE_HEIGHT,
        legend=LEGEND,
        refresh_s=REFRESH_S,
    )


@cache
def assets() -> Mapping[str, Response]:
    """Return the response for every file the page loads, by its path."""
    types = {"style.css": "text/css", "refresh.js": "text/javascript", "icon.svg": "image/svg+xml"}
    return {
        f"/assets/{name}": Response(
            200, (ASSETS_FOLDER / name).read_bytes(), f"{media_type}; charset=utf-8"
        )
        for name, media_type in types.items()
    }


@cache
def _template() -> Template:
    # Imported late: a process whose page is never opened does not need it (2 MB).
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(ASSETS_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"truncated": truncated, "clock": clock, "moment": moment_words}
    return environment.get_template("template.html")
