"""Take the pictures of the status page that the documentation shows: ``make screenshots``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from playwright.async_api import Page

from tests.support.browser import browser
from tests.support.example_accounts import showcase
from tests.support.page_server import site

DOCS = Path(__file__).resolve().parents[2] / "docs"
MAX_BYTES = 150_000

WIDE = {"viewport": {"width": 1100, "height": 1420}, "device_scale_factor": 0.7}
NARROW = {"viewport": {"width": 390, "height": 1600}}

PICTURES: dict[str, dict[str, Any]] = {
    "status-page.png": {**WIDE, "color_scheme": "light"},
    "status-page-dark.png": {**WIDE, "color_scheme": "dark"},
    "status-page-narrow.png": {**NARROW, "color_scheme": "light"},
}
"""Each shows the top of the page, within ``MAX_BYTES``: a checkout contains the pictures permanently."""


def main() -> None:
    """Take every picture anew."""

    async def take(page: Page) -> bytes:
        return await page.screenshot()

    with browser() as chromium, site(showcase()) as here:
        for name, context in PICTURES.items():
            picture, _ = chromium.visit(here.url, take, **context)
            assert len(picture) <= MAX_BYTES, f"{name} has {len(picture):,} bytes"
            (DOCS / name).write_bytes(picture)
            print(f"docs/{name}: {len(picture):,} bytes")


if __name__ == "__main__":
    main()
