"""The status page kept whole, as it is sent: ``python -m tests.golden.pages`` writes it again."""

from __future__ import annotations

from pathlib import Path

from reconciler.web.page.render import page_html
from tests.support.example_accounts import NOW, WALL, troubled

FILE = Path(__file__).with_name("page-troubled.html")


def made() -> str:
    """Return the page of an account in which much is wrong at once."""
    return page_html(troubled(), now=NOW, wall=WALL)


if __name__ == "__main__":
    FILE.write_text(made(), encoding="utf-8", newline="\n")
