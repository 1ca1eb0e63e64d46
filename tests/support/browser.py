"""A real headless Chromium: where it is, what is left out without one, and how tests use it.

Chromium is the system's own (Debian's ``chromium``); nothing is downloaded. The event loop runs only
during calls to the browser, so that other tests may run loops of their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from typing import Any, Literal, TypeVar

from playwright.async_api import Browser as Chromium
from playwright.async_api import Page, async_playwright

from tests.support.requirements import chromium as find_chromium

FLAGS = (
    "--no-sandbox",  # as root, as in a pipeline's container, there is no other way
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
Scheme = Literal["light", "dark"]
Seen = TypeVar("Seen")


class Browser:
    """A running Chromium; every visit has a profile of its own."""

    def __init__(self, runner: asyncio.Runner, chromium: Chromium) -> None:
        self._runner = runner
        self._chromium = chromium

    def visit(
        self, url: str, look: Callable[[Page], Awaitable[Seen]], **context: Any
    ) -> tuple[Seen, list[str]]:
        """Open ``url`` and return what ``look`` saw, and what went wrong in the page meanwhile."""
        return self._runner.run(self._visit(url, look, context))

    async def _visit(
        self, url: str, look: Callable[[Page], Awaitable[Seen]], context: dict[str, Any]
    ) -> tuple[Seen, list[str]]:
        profile = await self._chromium.new_context(**context)
        page = await profile.new_page()
        wrong: list[str] = []
        page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: wrong.append(f"dialog: {dialog.message}"))
        await page.goto(url)
        seen = await look(page)
        await profile.close()
        return seen, wrong


@contextmanager
def browser() -> Iterator[Browser]:
    """Start Chromium for the block; raises FileNotFoundError where there is none."""
    path = find_chromium()
    if path is None:
        raise FileNotFoundError("no Chromium is on the PATH")
    with asyncio.Runner() as runner:
        playwright = runner.run(async_playwright().start())
        chromium = runner.run(playwright.chromium.launch(executable_path=path, args=list(FLAGS)))
        try:
            yield Browser(runner, chromium)
        finally:
            runner.run(chromium.close())
            runner.run(playwright.stop())


async def violations(page: Page) -> list[str]:
    """Return what axe finds wrong with the page as it is: rule, and each place with what is wrong there."""
    source = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    await page.evaluate(source)
    found = await page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{violation['id']}: {node['html'][:120]}: {node['failureSummary']}"
        for violation in found["violations"]
        for node in violation["nodes"]
    ]
