"""Worst first: the order of rows, against an oracle, and the one-sentence summary of a plan."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import permutations, product

import pytest

from reconciler.core.exposure import UNLIMITED
from reconciler.core.file_diff import compare
from reconciler.core.model import Environment, Family
from reconciler.core.plan import Action, Basis, Change, HoldReason, Plan, Reason, in_order
from reconciler.documents.plan import PlanContext, plan_document
from reconciler.render.plan_markdown import plans_markdown
from reconciler.render.plan_text import plan_text, plans_text
from reconciler.render.risk_order import MOST_SHOWN, figure_moves, risk_words, shown_first, worst_first
from tests.unit.builders import BTC, ETH, SOL, desired, setting
from tests.unit.report_samples import large_plans, small_plans

CONTEXT = PlanContext("openapi.okx.com", "mmp.yaml", "0" * 64)

KINDS: dict[str, tuple[str | None, str, HoldReason | None]] = {
    "refused off": ("5000/2000/100", "0/2000/100", HoldReason.GUARD),
    "refused unknown": (None, "5000/2000/100", HoldReason.POLICY),
    "refused x4": ("5000/2000/100", "5000/2000/400", HoldReason.POLICY),
    "refused x2": ("5000/2000/100", "5000/2000/200", HoldReason.POLICY),
    "off": ("5000/2000/100", "0/2000/100", None),
    "unlimited": ("5000/0/100", "5000/2000/100", HoldReason.PAUSED),
    "unknown": (None, "5000/2000/100", None),
    "x9": ("5000/2000/100", "5000/2000/900", HoldReason.FROZEN),
    "x1.5": ("5000/2000/100", "5000/2000/150", None),
    "x1": ("5000/2000/100", "5000/2000/50", None),
    "x0.5": ("5000/2000/100", "10000/4000/50", None),
}
"""From worst to best; off and unlimited are alike."""

ALIKE = ({"off", "unlimited"},)


def change(family: Family, kind: str) -> Change:
    before, after, because = KINDS[kind]
    was, now = setting(before) if before else None, setting(after)
    return Change(
        family,
        Action.HOLD if because else Action.SET,
        Reason.CHANGED if was else Reason.NEW,
        was,
        now,
        because=because,
    )


def plan(kinds: dict[Family, str], account: str = "main") -> Plan:
    changes = in_order([change(family, kind) for family, kind in kinds.items()])
    return Plan(account, Environment.LIVE, Basis.FILE, changes, (), {})


def names(plans: list[Plan]) -> list[tuple[str, str]]:
    return [(one.account, each.family) for one, each in worst_first(plans)]


@pytest.mark.parametrize(("worse", "better"), [*product(KINDS, repeat=2)])
def test_any_two_kinds_are_sorted_as_in_the_table(worse: str, better: str) -> None:
    """The name decides only between alike kinds, and of two accounts the account before the family."""
    order = list(KINDS)
    alike = worse == better or {worse, better} in ALIKE
    if order.index(worse) > order.index(better) and not alike:
        return
    for first, second in ((BTC, SOL), (SOL, BTC)):
        expected = sorted([first, second]) if alike else [first, second]
        assert [name for _, name in names([plan({first: worse, second: better})])] == expected
        two = [plan({first: worse}, "z"), plan({second: better}, "a")]
        assert names(two) == ([("a", second), ("z", first)] if alike else [("z", first), ("a", second)])


def test_the_order_does_not_depend_on_the_order_of_requests() -> None:
    families = [Family(f"F{number}-USD") for number in range(4)]
    for kinds in permutations(("x9", "x1", "unknown", "refused x2")):
        found = plan(dict(zip(families, kinds, strict=True)))
        message = [kinds[families.index(each.family)] for _, each in worst_first([found])]
        assert message == ["refused x2", "unknown", "x9", "x1"]


def shown(text: str) -> list[str]:
    """Return the families of the rows of a plan as text."""
    return re.findall(r"^  \S (?:enable|tighten|mixed|loosen|disable|resend|adopt|hold) +(\S+)", text, re.M)


def test_rows_show_the_request_number_and_documents_are_in_request_order() -> None:
    found = plan({BTC: "x1", ETH: "x1.5", SOL: "off"})
    text = plan_text(found, CONTEXT, simulator=False)
    assert shown(text) == [SOL, ETH, BTC]
    document = plan_document(found, CONTEXT)
    sent = [one["family"] for one in document["changes"]]
    assert sent == [each.family for each in found.changes]
    for each in found.changes:
        (line,) = (
            line for line in text.splitlines() if line.startswith("  ") and f" {each.family} " in line
        )
        assert f"request {each.order}," in line
    message = plans_markdown([(found, CONTEXT)])
    assert re.findall(r"^\| `(\S+)` .* request (\d)", message, re.MULTILINE) == [
        (each.family, str(each.order)) for _, each in worst_first([found])
    ]


def test_the_headline_names_account_family_and_factor() -> None:
    for kind, factor in (("off", "off"), ("unlimited", "unlimited"), ("x9", "×9"), ("x1.5", "×1.5")):
        found = plan({BTC: "unknown", ETH: kind, SOL: "x1"})
        assert plan_text(found, CONTEXT, simulator=False).splitlines()[1] == (
            f"Worst: ETH-USD of main (live), {factor}."
        )
        assert f"**Worst: `ETH-USD` of `main` (live), {factor}.**" in plans_markdown([(found, CONTEXT)])
    harmless = plan({BTC: "unknown", SOL: "x1"})
    assert "Worst" not in plan_text(harmless, CONTEXT, simulator=False)


def test_of_several_accounts_one_table_of_the_worst_precedes_the_sections() -> None:
    first = plan({Family(f"F{number}-USD"): "x1.5" for number in range(12)}, "a")
    second = plan({BTC: "x9", ETH: "x1", SOL: "x0.5"}, "b")
    pages = [(first, CONTEXT), (second, CONTEXT)]
    rows = [(one.account, each.family) for one, each in shown_first([first, second])]
    assert rows[0] == ("b", BTC)
    assert rows[1:] == [("a", f"F{number}-USD") for number in (0, 1, 10, 11, 2, 3, 4, 5, 6)]
    assert len(rows) == MOST_SHOWN
    table, *plans = plans_text(pages, simulator=False).split("\n\n")[0].splitlines()
    assert table == "The worst changes of 2 accounts:"
    assert plans[0] == (
        "  ▼ loosen     b (live)  BTC-USD  qtyLimit 100 → 900  "
        "×9: 100 → 900 per trip, 20 → 180 per second, 3100 → 27900 per minute"
    )
    assert plans_text(pages[:1], simulator=False) == plan_text(*pages[0], simulator=False)
    calm = [(plan({SOL: "x1"}, name), CONTEXT) for name in "ab"]
    assert plans_text(calm, simulator=False) == "\n".join(plan_text(*one, simulator=False) for one in calm)
    assert "The worst" not in plans_markdown(calm)


def every_pair() -> Iterator[Plan]:
    """Return the comparison of every two settings of a small world, and plans of every shape."""
    world = [setting("/".join(parts)) for parts in product(("0", "50", "5000"), ("0", "900"), ("1", "2.5"))]
    for before, after in product((None, *world), world):
        old = None if before is None else desired({BTC: before})
        yield compare(old, desired({BTC: after}))
    yield from (*small_plans(), *large_plans())


@pytest.mark.slow
@pytest.mark.unmeasured
def test_a_change_is_not_called_no_looser_while_any_exposure_rises_or_is_unknown() -> None:
    calm = "Nothing gets looser"
    for found in every_pair():
        message = plans_markdown([(found, CONTEXT)])
        text = plan_text(found, CONTEXT, simulator=False)
        factors = [each.factor for each in found.changes]
        rises = any(one is UNLIMITED or (one is not None and one > 1) for one in factors)
        unseen = found.basis is not Basis.LIVE and any(each.before is None for each in found.changes)
        assert not (calm in message and (rises or unseen))
        assert ("Worst: " in text) == ("Worst: " in message)
        assert not rises or "Worst: " in text
        for each in found.changes:
            figures = " | ".join(figure_moves(each).values())
            assert figures in message
            assert risk_words(each) in text


def test_each_figure_is_written_once_where_it_does_not_move() -> None:
    freeze = replace(change(BTC, "x1"), before=setting("5000/2000/100"), after=setting("5000/1000/100"))
    assert list(figure_moves(freeze).values()) == ["100", "20", "3100 → 6100"]
    assert freeze.factor == Fraction(2)
    assert risk_words(freeze) == "×2: 100 per trip, 20 per second, 3100 → 6100 per minute"
