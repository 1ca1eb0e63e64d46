"""What every Markdown comment must be, whatever it says; and the two files most tests compare."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal
from itertools import chain

from markdown_it import MarkdownIt
from markdown_it.token import Token

from reconciler.core.file_diff import compare
from reconciler.core.model import Family, Setting
from reconciler.core.plan import Plan
from reconciler.core.policy import Loosening, Policy
from reconciler.core.policy_change import FileChange, PolicyChange, RuleChange
from reconciler.documents.plan import DiffBase, PlanContext, PolicyFile
from tests.unit.builders import BTC, ETH, SOL, desired, setting

LIMIT_BYTES = 60_000
XAU = Family("XAU-USD_UM")

POLICY = Policy("mmp-policy.yaml", "1" * 64, loosening=Loosening(max_factor=Decimal(2)))
CHANGE = PolicyChange(
    FileChange.EDITED,
    "mmp-policy.yaml",
    "mmp-policy.yaml",
    (
        RuleChange("loosening.maxFactor", "4", "2", looser=False),
        RuleChange("protected", "yes", "no", looser=True, families=(XAU,), others=False),
    ),
)
OLD = DiffBase(
    "HEAD~1:mmp.yaml",
    PolicyFile("HEAD~1:mmp-policy.yaml", "2" * 64),
    CHANGE,
    "main",
    "live",
    share_unproven=True,
    per_not_checked=(timedelta(hours=24), timedelta(days=7)),
)
BETWEEN = PlanContext(
    None, "HEAD:mmp.yaml", "0" * 64, PolicyFile("HEAD:mmp-policy.yaml", "1" * 64), old=OLD
)

BEFORE = {
    BTC: setting("5000/2000/100"),
    ETH: setting("1000/0/500"),
    SOL: setting("5000/2000/10"),
    XAU: setting("5000/2000/10"),
    Family("ADA-USD"): setting("0/2000/10"),
    Family("BNB-USD"): setting("5000/2000/10"),
    Family("DOT-USD"): setting("5000/2000/10"),
    Family("LTC-USD"): setting("5000/2000/10"),
}
AFTER = {
    BTC: setting("5000/2000/400"),
    ETH: setting("2000/5000/500"),
    SOL: setting("0/2000/10"),
    XAU: setting("5000/2000/9"),
    Family("ADA-USD"): setting("5000/2000/10"),
    Family("BNB-USD"): setting("5000/1999/10"),
    Family("DOT-USD"): setting("5000/2000/10.0"),
    Family("NEW-USD"): setting("120000/0/1"),
}


def pairs(*names: str) -> set[str]:
    """Return the opening and closing token types of ``names``."""
    return {f"{name}_{end}" for name in names for end in ("open", "close")}


EXPECTED = {
    *pairs("paragraph", "heading", "strong", "blockquote", "bullet_list", "list_item"),
    *pairs("table", "thead", "tbody", "tr", "th", "td"),
    *("inline", "text", "code_inline", "fence", "html_block", "hr", "softbreak"),
}
"""All that a comment is made of; no link, no image, no inline HTML."""

MARKER = re.compile(r"<!-- mmp-plan account=([a-z0-9._*-]+) environment=(live|demo|\*) -->\n")
OUR_HTML = re.compile(
    rf"{MARKER.pattern}|<details><summary>Diff of (1 family|[0-9]+ families)</summary>\n|</details>\n"
)


def between(
    before: dict[Family, Setting] | None = None, after: dict[Family, Setting] | None = None
) -> Plan:
    """Return the comparison of two files of the same account, held against POLICY."""
    return compare(desired(before or BEFORE), desired(after or AFTER), [POLICY])


def parsed(document: str) -> list[Token]:
    """Return every token of ``document`` as a CommonMark parser with tables reads it, inline ones too."""
    blocks = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(document)
    return list(chain.from_iterable((token, *(token.children or ())) for token in blocks))


def hold_to_the_form(document: str) -> list[Token]:
    """Fail unless ``document`` is well formed and fits; return its tokens."""
    assert len(document.encode()) < LIMIT_BYTES
    assert document.endswith("\n")
    assert MARKER.match(document)
    tokens = parsed(document)
    assert {token.type for token in tokens} <= EXPECTED
    html = [token.content for token in tokens if token.type == "html_block"]
    assert [block for block in html if not OUR_HTML.fullmatch(block)] == []
    assert sum("<details>" in block for block in html) == sum("</details>" in block for block in html)
    assert all(token.info == "diff" for token in tokens if token.type == "fence")
    return tokens


def code_spans(tokens: list[Token]) -> list[str]:
    """Return the content of every code span."""
    return [token.content for token in tokens if token.type == "code_inline"]


def sections(document: str) -> dict[str, str]:
    """Return what stands under each heading of a block."""
    found = re.split(r"^#### (.+)\n\n", document, flags=re.MULTILINE)
    return dict(zip(found[1::2], found[2::2], strict=True))
