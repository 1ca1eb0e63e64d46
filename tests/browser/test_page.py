"""The status page in a real Chromium, under the content security policy it is served with."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from enum import Enum

import pytest
from playwright.async_api import Page

from reconciler.core.monitoring.account_runtime import RecentError
from reconciler.core.problems import Problem
from reconciler.web.page.account_view import Headline
from reconciler.web.page.labels import truncated
from reconciler.web.page.view_model import page_view
from tests.support.browser import Browser, Scheme, violations
from tests.support.example_accounts import HOSTILE, LATEST_STATES, NOW, WALL, calm, large, troubled
from tests.support.page_server import Site, site

NARROW = {"width": 390, "height": 844}
UNWRITTEN = {"anchor", "picture", "timeline", "legend"}
"""Fields of the view that are drawn or refer to a place, and are not text."""

IN_EVERY_RUN = {"calm", "troubled", "hostile", "shared"}
"""What ``make test`` looks at; the other boards are slow only because there are many."""
each_latest = pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in IN_EVERY_RUN else pytest.mark.slow) for name in LATEST_STATES],
)


def texts(value: object) -> list[str]:
    """Return every text of a view; the sign of a headline is its sentence once more."""
    if isinstance(value, Headline):
        return [value.sentence]
    if isinstance(value, Problem):
        return texts((truncated(value.path), truncated(value.message), truncated(value.hint or "")))
    if isinstance(value, RecentError):
        return texts((value.family or "account", truncated(value.code), truncated(value.message)))
    if is_dataclass(value):
        inner = [getattr(value, one.name) for one in fields(value) if one.name not in UNWRITTEN]
        return [text for each in inner for text in texts(each)]
    if isinstance(value, tuple):
        return [text for each in value for text in texts(each)]
    return [value] if isinstance(value, str) and value and not isinstance(value, Enum) else []


async def rest(page: Page) -> None:
    """Look at nothing."""


@each_latest
def test_nothing_goes_wrong_and_everyone_can_use_it_in_light_and_dark(chromium: Browser, name: str) -> None:
    async def look(page: Page) -> list[str]:
        found = []
        schemes: tuple[Scheme, ...] = ("light", "dark")
        for scheme in schemes:
            await page.emulate_media(color_scheme=scheme)
            found += [f"{scheme}: {one}" for one in await violations(page)]
        return found

    with site(LATEST_STATES[name]()) as here:
        found, wrong = chromium.visit(here.url, look)
    assert found == []
    assert wrong == []


@each_latest
def test_nothing_has_to_be_scrolled_sideways(chromium: Browser, name: str) -> None:
    async def look(page: Page) -> list[int]:
        widths = []
        for width in (320, 390, 768, 1280):
            await page.set_viewport_size({"width": width, "height": 844})
            await page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
            beyond = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            widths.append(await page.evaluate(beyond))
        return widths

    with site(LATEST_STATES[name]()) as here:
        beyond, _ = chromium.visit(here.url, look)
    assert beyond == [0, 0, 0, 0]


@each_latest
def test_every_fact_is_there_without_javascript(chromium: Browser, name: str) -> None:
    async def look(page: Page) -> str:
        for summary in await page.locator("summary").all():
            await summary.click()
        return await page.locator("body").inner_text()

    shared_state = LATEST_STATES[name]()
    with site(shared_state) as here:
        message, _ = chromium.visit(here.url, look, java_script_enabled=False)
    seen = " ".join(message.split())
    facts = texts(page_view(shared_state, now=NOW, wall=WALL))
    title, others = facts[0], facts[1:]
    assert title.endswith("mmp")
    assert [fact for fact in others if " ".join(fact.split()) not in seen] == []


def test_without_javascript_the_page_loads_itself_again(chromium: Browser) -> None:
    async def look(page: Page) -> str | None:
        return await page.locator("meta[http-equiv=refresh]").get_attribute("content")

    with site(calm()) as here:
        seconds, _ = chromium.visit(here.url, look, java_script_enabled=False)
    assert seconds == "10"


def test_what_comes_from_outside_stays_text(chromium: Browser) -> None:
    async def look(page: Page) -> tuple[int, int, str]:
        scripts = await page.locator("script").count()
        images = await page.locator("img").count()
        return scripts, images, await page.locator("body").inner_text()

    with site(LATEST_STATES["hostile"]()) as here:
        (scripts, images, message), wrong = chromium.visit(here.url, look)
    assert (scripts, images, wrong) == (1, 0, [])
    assert HOSTILE.split("\x1b")[0] in message
    assert "\\x1b[31m\\u202e{{ 7 * 7 }}" in message


def test_names_of_hosts_and_words_of_the_database_stay_text(chromium: Browser) -> None:
    async def look(page: Page) -> tuple[int, int, str]:
        card = page.locator("section[aria-labelledby=elsewhere]")
        message = await card.inner_text()
        return await page.locator("script").count(), await page.locator("img").count(), message

    with site(LATEST_STATES["hostile hosts"]()) as here:
        (scripts, images, message), wrong = chromium.visit(here.url, look, viewport=NARROW)
    assert (scripts, images, wrong) == (1, 0, [])
    assert message.count("run by " + HOSTILE.split("\x1b")[0]) == 7
    assert "The state cannot be reached: " + HOSTILE.split("\x1b")[0] in message


def test_accounts_of_other_replicas_do_not_push_down_those_of_this_one(chromium: Browser) -> None:
    async def look(page: Page) -> tuple[bool, bool, bool]:
        kept_here = page.get_by_role("heading", name="What differs")
        at = await kept_here.evaluate("one => one.getBoundingClientRect().top")
        one = page.locator("#elsewhere-more li").first
        before = await one.is_visible()
        await page.locator("#elsewhere-more-sum").click()
        return at < NARROW["height"], before, await one.is_visible()

    with site(LATEST_STATES["shared, hundreds"]()) as here:
        seen, wrong = chromium.visit(here.url, look, viewport=NARROW)
    assert (seen, wrong) == ((True, False, True), [])


# ---- by keyboard ---------------------------------------------------------------------------------


FOCUSED = """(() => {
    const one = document.activeElement, style = getComputedStyle(one);
    return [one.id || one.className || one.tagName, style.outlineStyle, parseFloat(style.outlineWidth)];
})()"""


def test_everything_is_reached_by_keyboard_and_seen_to_be(chromium: Browser) -> None:
    async def look(page: Page) -> tuple[list[list[object]], list[str], bool]:
        stops = []
        for _ in range(30):
            await page.keyboard.press("Tab")
            stop = await page.evaluate(FOCUSED)
            if stop[0] == "BODY":
                break
            stops.append(stop)
        wanted = await page.evaluate("[...document.querySelectorAll('a, summary')].map(one => one.id)")
        await page.locator("summary").first.focus()
        await page.keyboard.press("Enter")
        return stops, wanted, await page.locator("details").first.evaluate("one => one.open")

    with site(troubled()) as here:
        (stops, wanted, opened), _ = chromium.visit(here.url, look)
    assert [name for name, *_ in stops] == ["skip", *wanted[1:]]
    assert [stop for stop in stops if stop[1] != "solid" or float(str(stop[2])) < 2] == []
    assert opened


def test_the_first_stop_leads_to_the_answer(chromium: Browser) -> None:
    async def look(page: Page) -> object:
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        return await page.evaluate("document.activeElement.id")

    with site(troubled()) as here:
        focused, _ = chromium.visit(here.url, look)
    assert focused == "main"


# ---- the script that keeps it fresh ----------------------------------------------------------------


async def later(page: Page, seconds: float) -> None:
    """Let the page's time go by, second by second, and what it asks for arrive."""
    for _ in range(round(seconds)):
        await page.clock.run_for(1000)
        await page.wait_for_timeout(60)


async def renewed(page: Page, here: Site, seconds: float = 3) -> None:
    """Let the page's time go by until it has asked again."""
    before = len(here.asked)
    await later(page, seconds)
    assert len(here.asked) > before


def test_a_change_shows_within_five_seconds_in_real_time(chromium: Browser) -> None:
    with site(calm()) as here:

        async def look(page: Page) -> tuple[str, str]:
            here.shared_state = troubled()
            await page.get_by_role("heading", name="No: 1 of 8").wait_for(timeout=5000)
            return await page.title(), await page.locator("#said").inner_text()

        (title, said), wrong = chromium.visit(here.url, look)
    assert title == "✗ Not protected · main (live) · mmp"
    assert "No: 1 of 8 families" in said
    assert wrong == []


def test_a_fresh_page_takes_nothing_from_who_reads_it(chromium: Browser) -> None:
    with site(troubled()) as here:

        async def look(page: Page) -> tuple[object, ...]:
            await page.clock.install()
            await page.reload()
            await page.locator("summary").first.click()
            await page.locator("#to-metrics").focus()
            await page.evaluate("scrollTo(0, 700)")
            await page.evaluate("document.getElementById('main').dataset.old = 'yes'")
            here.shared_state = LATEST_STATES["simulator"]()
            await renewed(page, here)
            return (
                await page.locator("details[open] > summary").count(),
                await page.evaluate("document.activeElement.id"),
                await page.evaluate("Math.round(scrollY)"),
                await page.locator("main[data-old]").count(),
                await page.locator("#stale").is_visible(),
            )

        seen, wrong = chromium.visit(here.url, look, viewport=NARROW)
    assert seen == (1, "to-metrics", 700, 0, False)
    assert wrong == []


def test_selected_text_is_left_alone(chromium: Browser) -> None:
    with site(troubled()) as here:

        async def look(page: Page) -> tuple[str, str]:
            await page.clock.install()
            await page.reload()
            await page.evaluate("getSelection().selectAllChildren(document.querySelector('.command'))")
            here.shared_state = calm()
            await later(page, 9)
            kept = await page.evaluate("getSelection().toString()")
            return kept, await page.locator("#stale").inner_text()

        (kept, message), _ = chromium.visit(here.url, look)
    assert kept == "mmp reset ETH-USD"
    assert "It waits while text is selected." in message


def test_a_program_that_does_not_answer_is_reported_plainly_until_it_does(chromium: Browser) -> None:
    with site(calm()) as here:

        async def look(page: Page) -> tuple[str, bool]:
            await page.clock.install()
            await page.reload()
            here.down = True
            await later(page, 20)
            message = await page.locator("#stale").inner_text()
            here.down = False
            await later(page, 4)
            return message, await page.locator("#stale").is_visible()

        (message, still), _ = chromium.visit(here.url, look)
    assert message.startswith("This page is ")
    assert "The program does not answer: do not rely on it." in message
    assert 15 <= int(message.split()[3]) <= 21
    assert not still


def test_a_hidden_page_requests_nothing(chromium: Browser) -> None:
    hide = "Object.defineProperty(document, 'hidden', {get: () => window.away, configurable: true})"
    with site(calm()) as here:

        async def look(page: Page) -> tuple[int, int]:
            await page.clock.install()
            await page.reload()
            await page.evaluate(f"window.away = true; {hide}")
            await page.wait_for_timeout(100)
            before = len(here.asked)
            await later(page, 10)
            meanwhile = len(here.asked) - before
            await page.evaluate(
                "window.away = false; document.dispatchEvent(new Event('visibilitychange'))"
            )
            await page.wait_for_timeout(200)
            return meanwhile, len(here.asked) - before

        asked, _ = chromium.visit(here.url, look)
    assert asked == (0, 1)


@pytest.mark.slow
def test_who_comes_back_is_warned_only_if_the_program_is_gone(chromium: Browser) -> None:
    hide = "Object.defineProperty(document, 'hidden', {get: () => window.away, configurable: true})"
    back = "window.away = false; document.dispatchEvent(new Event('visibilitychange'))"
    with site(calm()) as here:

        async def look(page: Page) -> list[bool]:
            shown = []
            await page.clock.install()
            for down in (False, True):
                here.down = False
                await page.reload()
                await page.evaluate(f"window.away = true; {hide}")
                await later(page, 60)
                here.down = down
                await page.evaluate(back)
                await page.wait_for_timeout(200)
                shown.append(await page.locator("#stale").is_visible())
            return shown

        shown, _ = chromium.visit(here.url, look)
    assert shown == [False, True]


# ---- manners ---------------------------------------------------------------------------------------


def test_nothing_moves_for_those_who_asked_for_that(chromium: Browser) -> None:
    async def look(page: Page) -> list[object]:
        message = []
        await page.emulate_media(reduced_motion="no-preference")
        message.append(await page.evaluate("getComputedStyle(document.documentElement).scrollBehavior"))
        await page.emulate_media(reduced_motion="reduce")
        message.append(await page.evaluate("getComputedStyle(document.documentElement).scrollBehavior"))
        return message

    with site(calm()) as here:
        message, _ = chromium.visit(here.url, look)
    assert message == ["smooth", "auto"]


def test_on_paper_everything_is_unfolded_and_dark_on_light(chromium: Browser) -> None:
    async def look(page: Page) -> tuple[bool, str]:
        await page.emulate_media(media="print", color_scheme="dark")
        unfolded = await page.locator("details .days li").first.is_visible()
        return unfolded, await page.evaluate("getComputedStyle(document.body).backgroundColor")

    with site(large(40)) as here:
        seen, _ = chromium.visit(here.url, look)
    assert seen == (True, "rgb(255, 255, 255)")
