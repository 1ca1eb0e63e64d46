"""The page of a real ``mmp run --listen`` over the simulator, open in a real Chromium.

The page is opened once and refreshed by its own script; whatever happens at the exchange or to the file
has to be on it within seconds, under the headers the sidecar really sends.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from reconciler.core.live_evidence import READ_LAG_S
from tests.e2e.processes import Desk, Exchange, configured, put_in_place, simulator
from tests.e2e.web_client import Sidecar, ends_well, started
from tests.support.browser import Browser, Scheme, violations

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

WITHIN_MS = 5000
BTC, ETH = "BTC-USD", "ETH-USD"
WANTED = {BTC: "5s/2s/100", ETH: "5s/until-reset/100"}


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    """An exchange where both families are as WANTED says."""
    with simulator(families=configured(BTC).replace(f"{ETH},", f"{ETH}=5000/0/100,")) as running:
        yield running


@pytest.fixture
def desk(exchange: Exchange, tmp_path: Path) -> Iterator[Desk]:
    """A folder with the keys of ``exchange`` and a file of WANTED."""
    here = Desk(tmp_path / "desk", exchange.variables)
    here.wants(WANTED)
    yield here
    here.close()


@pytest.fixture
def sidecar(desk: Desk) -> Iterator[Sidecar]:
    """A sidecar in sync that only tells of drift, so that what differs stays until a test looks."""
    running = started(desk, "--interval", "1s", "--drift", "warn")
    running.wait_for("/startupz", 15.0)
    time.sleep(READ_LAG_S)  # what differs so soon after the start is not known yet, and said to be
    yield running
    ends_well(running)


async def shows(page: Page, *texts: str) -> None:
    """Wait until the page says each of ``texts``; it has five seconds for all of them."""
    for text in texts:
        await expect(page.locator("#main")).to_contain_text(text, timeout=WITHIN_MS)


async def says(page: Page, answer: str) -> None:
    """Wait until the one sentence at the top is about ``answer``."""
    await expect(page.locator("#answer")).to_contain_text(answer, timeout=WITHIN_MS)


async def in_turn(page: Page, desk: Desk, exchange: Exchange) -> None:
    """Let one thing after another happen, and look for it on the page."""
    await says(page, "Yes")
    desk.wants({**WANTED, BTC: "5s/2s/90"})
    await shows(page, "90 per 5s")
    await says(page, "Yes")

    exchange.change(ETH, "5000/0/9999")
    await says(page, "No")
    await shows(page, "9999 → 100", "less protection")
    exchange.change(ETH, "5000/0/100")
    await says(page, "Yes")

    exchange.control("freeze", family=ETH, ms=0)
    await says(page, "Frozen")
    await shows(page, "Frozen until a manual reset.", "mmp reset ETH-USD")
    exchange.control("unfreeze", family=ETH)
    await says(page, "Yes")

    whole = desk.config.read_text()
    put_in_place(desk.config, whole.replace("qtyLimit: 90", "qtyLimt: 90"))
    await shows(page, "A newer version is invalid", "mmp.yaml:5:51", "qtyLimit")
    await says(page, "Yes")
    put_in_place(desk.config, whole)
    await expect(page.locator("#main")).not_to_contain_text("was refused", timeout=WITHIN_MS)

    assert await page.locator("main[data-first]").count() == 0, "its script has replaced it"


async def loaded_once(page: Page) -> bool:
    """Tell whether the page was never loaded anew: the script alone kept it fresh."""
    return bool(
        await page.evaluate("performance.getEntriesByType('navigation').length === 1 && window.mark")
    )


def test_a_change_a_drift_a_freeze_and_a_refused_file_each_show_within_five_seconds(
    chromium: Browser, sidecar: Sidecar, desk: Desk, exchange: Exchange
) -> None:
    async def look(page: Page) -> object:
        await page.evaluate("window.loadedOnce = true")
        await in_turn(page, desk, exchange)
        return await page.evaluate("window.loadedOnce")

    loaded_once, wrong = chromium.visit(f"{sidecar.url}/", look)
    assert loaded_once is True, "its script alone kept it fresh"
    assert wrong == []


def test_everyone_can_use_the_real_page_in_light_and_dark_and_on_a_phone(
    chromium: Browser, sidecar: Sidecar, desk: Desk, exchange: Exchange
) -> None:
    """Everything at once: one family drifted, one frozen until reset, and a newer file refused."""
    exchange.change(BTC, "5000/2000/9999")
    exchange.control("freeze", family=ETH, ms=0)
    put_in_place(desk.config, desk.config.read_text() + "x: 1\n")
    schemes: tuple[Scheme, ...] = ("light", "dark")

    async def look(page: Page) -> tuple[list[str], int]:
        await shows(page, "9999 → 100", "Frozen until a manual reset.", "A newer version is invalid")
        found: list[str] = []
        for scheme in schemes:
            await page.emulate_media(color_scheme=scheme)
            found += [f"{scheme}: {one}" for one in await violations(page)]
        await page.set_viewport_size({"width": 390, "height": 844})
        beyond = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        return found, await page.evaluate(beyond)

    (found, beyond), wrong = chromium.visit(f"{sidecar.url}/", look)
    assert found == []
    assert beyond == 0
    assert wrong == []
