"""A review sees the first whole plan of a pass before anything of it is recorded or sent."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from reconciler.controller.pass_values import Approval, Completed, InMemoryState
from reconciler.core.model import Confirmed, Known, LiveRow, NeverApplied
from reconciler.core.plan import Action, Plan
from tests.unit.builders import BTC, ETH, desired
from tests.unit.test_loop import A as AS_DESIRED
from tests.unit.test_loop import B as LOOSER
from tests.unit.test_loop import World

T = TypeVar("T")


def doubted() -> World:
    """Return a world in which ETH was written a moment ago and shows otherwise; BTC is as desired."""
    here = World(desired({ETH: AS_DESIRED}))
    here.run(0.5)
    here.exchange.live.update({ETH: LiveRow(LOOSER), BTC: LiveRow(AS_DESIRED)})
    here.want({BTC: AS_DESIRED, ETH: AS_DESIRED})
    return here


def at_once(asked: Coroutine[Any, Any, T]) -> T:
    """Return what a store in memory answers: it never waits, so a review may ask it, too."""
    try:
        asked.send(None)
    except StopIteration as done:
        answer: T = done.value
        return answer
    raise AssertionError("it waited")


def passed(here: World, answer: Approval | None) -> tuple[list[Plan], list[Known], object]:
    """Run one pass; return the plans it had reviewed, what was on record of BTC then, and its end."""
    plans: list[Plan] = []
    on_record: list[Known] = []

    def review(plan: Plan) -> Approval | None:
        plans.append(plan)
        on_record.append(at_once(here.store.snapshot()).known.get(BTC, NeverApplied()))
        return answer

    return plans, on_record, here.one_pass(InMemoryState(), review=review).end


def test_nothing_is_recorded_before_the_first_complete_plan_was_reviewed() -> None:
    here = doubted()
    (plan,), on_record, end = passed(here, answer=Approval(9_999.0))
    assert {change.family: change.action for change in plan.changes} == {BTC: Action.ADOPT, ETH: Action.SET}
    assert on_record == [NeverApplied()]
    assert isinstance(end, Completed)
    assert isinstance(at_once(here.store.snapshot()).known[BTC], Confirmed)
