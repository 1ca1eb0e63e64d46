"""The status page as text: its order, its size, and that nothing from outside becomes markup."""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser

import pytest
from jinja2 import UndefinedError

from reconciler.web.page import render
from reconciler.web.page.render import assets, page_html
from tests.support.example_accounts import HOSTILE, LATEST_STATES, NOW, WALL, large

pytestmark = pytest.mark.unmeasured

VOID = {"meta", "link", "br", "img", "input"}
MAX_BYTES = 200_000
MAX_SCRIPT_LINES = 60


class Seen(HTMLParser):
    """Everything a parser finds: tags with their attributes, and whether each one is closed."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def html(name: str) -> str:
    return page_html(LATEST_STATES[name](), now=NOW, wall=WALL)


@pytest.mark.parametrize("name", LATEST_STATES)
def test_the_markup_is_complete_and_no_id_is_there_twice(name: str) -> None:
    seen = Seen(html(name))
    assert seen.open == []
    ids = Counter(attributes["id"] for _, attributes in seen.tags if "id" in attributes)
    assert [one for one, times in ids.items() if times > 1] == []
    ends = [attributes["href"] for tag, attributes in seen.tags if tag == "a"]
    inside = [end[1:] for end in ends if end and end.startswith("#")]
    assert [end for end in inside if end not in ids] == []


@pytest.mark.parametrize("name", LATEST_STATES)
def test_no_inline_content_breaks_the_content_security_policy(name: str) -> None:
    for tag, attributes in Seen(html(name)).tags:
        assert tag != "style"
        assert tag != "script" or attributes.keys() == {"src", "defer"}
        assert not [one for one in attributes if one == "style" or one.startswith("on")]


def test_the_most_urgent_section_comes_first() -> None:
    text = html("troubled")
    assert re.findall(r"<h1[^>]*>.*?<span>(.*?)</span></h1>", text) == [
        'No: 1 of 8 families has less protection than the file says: <span class="word">BTC-USD.</span>'
    ]
    assert re.findall(r"<h2>(.*?)</h2>", text) == [
        "Frozen",
        "What differs",
        "Files in use",
        "Pace",
        "Families, last 24 hours",
        "Last problems",
    ]
    assert text.index("<h1") < text.index("<h2")


def test_a_message_of_the_simulator_is_marked_as_one_first() -> None:
    text = html("simulator")
    assert text.index("SIMULATOR") < text.index('id="answer"')
    assert "SIMULATOR" not in html("troubled")


def test_several_accounts_have_an_index_first() -> None:
    text = html("several")
    assert text.index('aria-label="Accounts"') < text.index('class="account"')
    assert re.findall(r'class="account" id="([^"]+)"', text) == [
        "hedge-live",
        "spare-live",
        "arb-demo",
        "main-live",
    ]
    assert 'aria-label="Accounts"' not in html("troubled")


def test_no_text_from_outside_becomes_markup() -> None:
    text = html("hostile")
    plain = Counter(tag for tag, _ in Seen(text).tags)
    assert plain["script"] == 1
    assert plain["img"] == 0
    assert HOSTILE[:20] not in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "{{ 7 * 7 }}" in text


def test_the_template_trusts_nothing_and_misses_nothing() -> None:
    source = (render.ASSETS_FOLDER / "template.html").read_text(encoding="utf-8")
    assert not re.search(r"\|\s*safe|autoescape|Markup", source)
    template = render._template()
    assert template.environment.autoescape is True
    with pytest.raises(UndefinedError):
        template.render(page=object(), height=1, refresh_s=1)


@pytest.mark.parametrize("differing", [0.1, 1.0])
@pytest.mark.parametrize("restless", [False, True])
def test_two_hundred_families_stay_within_two_hundred_kilobytes(differing: float, restless: bool) -> None:
    shared_state = large(200, differing=differing, restless=restless)
    assert len(page_html(shared_state, now=NOW, wall=WALL).encode()) < MAX_BYTES


@pytest.mark.parametrize("name", LATEST_STATES)
def test_the_same_state_at_the_same_time_gives_the_same_page(name: str) -> None:
    assert html(name) == html(name)


def test_the_files_it_loads_are_there_under_the_paths_it_names() -> None:
    named = {
        f"/{value}"
        for _, attributes in Seen(html("calm")).tags
        for name, value in attributes.items()
        if name in ("src", "href") and value and value.startswith("assets/")
    }
    assert named == set(assets())
    assert {asset.content_type for asset in assets().values()} == {
        "text/css; charset=utf-8",
        "text/javascript; charset=utf-8",
        "image/svg+xml; charset=utf-8",
    }


def test_the_script_is_short_and_requests_only_from_its_own_server() -> None:
    script = assets()["/assets/refresh.js"].body.decode()
    assert len(script.splitlines()) <= MAX_SCRIPT_LINES
    assert not re.search(r"https?:|innerHTML|eval|document\.write", script)


def test_the_style_sheet_loads_nothing() -> None:
    assert not re.search(r"url\(|@import|@font-face", assets()["/assets/style.css"].body.decode())
