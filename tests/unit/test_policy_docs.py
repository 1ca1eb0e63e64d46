"""docs/policy.md agrees with the code: its sample is valid, and its tables are what the core computes."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal

import pytest

from reconciler.config.policy import read_policy
from reconciler.core.exposure import Amount, amount_text, factor, is_above
from reconciler.core.model import Setting
from reconciler.core.policy import Policy, ProposedChange, RefusalKind
from reconciler.core.policy_rules import evaluate
from tests.tidy.source import ROOT
from tests.unit.builders import desired, setting
from tests.unit.test_policy import looser, policy, proposal

TEXT = (ROOT / "docs" / "policy.md").read_text(encoding="utf-8")


def test_the_sample_holds_and_says_everything_a_policy_can_say() -> None:
    (sample,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    read = read_policy(sample.encode(), "mmp-policy.yaml").policy
    assert read is not None
    assert read.default
    assert read.families
    assert None not in (read.loosening.max_factor, read.loosening.max_families, read.loosening.max_share)
    assert read.loosening.per == timedelta(hours=24)
    assert "unknown: deny" in sample
    assert read.protected
    assert read.default_exposure
    assert read.family_exposures


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the table that begins with ``heading``, its rule left out."""
    lines = TEXT[TEXT.index(heading) :].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "---" not in line]


SHARES = {"10%": (0, 0, 0, 1), "34%": (0, 1, 2, 3), "50%": (1, 1, 3, 5), "100%": (2, 3, 6, 10)}
"""How many of 2, 3, 6 and 10 families in force may get looser, by ``maxShare``."""

FAMILIES_IN_FORCE = (2, 3, 6, 10)


@pytest.mark.parametrize("share", SHARES)
def test_a_share_lets_so_many_families_get_looser(share: str) -> None:
    assert tuple(most_passing(share, of) for of in FAMILIES_IN_FORCE) == SHARES[share]


def most_passing(share: str, of: int) -> int:
    """Return how many of ``of`` families in force may get looser at once, with a ``maxShare``."""
    under = policy(share=str(Decimal(share.rstrip("%")) / 100))
    return max(changed for changed in range(of + 1) if not refused(changed, of, under))


def refused(changed: int, of: int, under: Policy) -> bool:
    changes = looser(of)
    wanted = desired({family: setting(after) for family, (_, after) in changes.items()})
    proposals: list[ProposedChange] = [
        proposal(family, *changes[family]) for family in list(changes)[:changed]
    ]
    return bool(evaluate(proposals, wanted, under, frozenset(), in_force=of).refusals)


def test_the_steps_in_a_row_are_what_the_limit_makes_of_them() -> None:
    """Each row is measured from the accepted setting and from the one at the start of the day."""
    start = setting("5000/2000/100")
    for _, change, result, _ in rows("| time | qtyLimit")[1:]:
        before, after = (setting(f"5000/2000/{value}") for value in change.split(" → "))
        passes = not is_above(found(start, after), Decimal(1)) or all(
            not is_above(found(one, after), Decimal(2)) for one in (start, before)
        )
        assert (result == "passes") is passes, change


def found(before: Setting, after: Setting) -> Amount:
    amount = factor(before, after)
    assert amount is not None
    return amount


def test_every_kind_of_override_is_in_the_table_of_rules() -> None:
    message = " ".join(row[2] for row in rows("| rule |")[1:])
    assert {kind.value for kind in RefusalKind} <= set(re.findall(r"`(\w+)`", message))


def text_of(cell: str) -> str:
    """Return ``5s, 2s, 100`` as the tests write a setting."""
    window, freeze, quantity = (part.strip() for part in cell.split(","))
    return "/".join([*(str(read_ms(part)) for part in (window, freeze)), quantity])


def read_ms(text: str) -> int:
    if text in ("disabled", "until-reset"):
        return 0
    return int(text[:-1]) * {"s": 1000, "h": 3_600_000}[text[-1]]


def shown_factor(before: str, after: str) -> str:
    """Return the factor of a change between two settings as ``text_of`` takes them."""
    computed = factor(setting(text_of(before)), setting(text_of(after)))
    return "not known" if computed is None else amount_text(computed)


@pytest.mark.parametrize(
    ("before", "after", "shown"), [row[:3] for row in rows("| before | after | factor")[1:]]
)
def test_the_table_of_examples_is_what_is_computed(before: str, after: str, shown: str) -> None:
    assert shown_factor(before, after) == shown


def test_every_rule_of_a_policy_is_in_the_table_of_rules() -> None:
    message = " ".join(row[0] for row in rows("| rule |")[1:])
    for rule in ("bounds.exposure.FIGURE.max", "loosening.maxFactor", "floor.timeInterval", "floor.factor"):
        assert f"`{rule}`" in message
