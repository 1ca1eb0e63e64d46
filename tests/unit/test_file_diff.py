"""Two files against each other: what is a change, what is not, and what the policies of both refuse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from reconciler.core.change_direction import Direction, direction
from reconciler.core.file_diff import (
    compare,
    is_share_judged,
    match_accounts,
    other_uid,
    removed_account_plan,
    windows_not_asked,
)
from reconciler.core.model import Desired, Environment, Family, Field, Setting
from reconciler.core.pacing import GUARD_S
from reconciler.core.plan import Action, Basis, HoldReason, Plan, Reason
from reconciler.core.policy import Loosening, Policy
from tests.unit.builders import BTC, ETH, SOL, desired, setting
from tests.unit.one_family_world import SETTINGS


def file_of(account: str = "main", environment: Environment = Environment.LIVE, **families: str) -> Desired:
    """Return a file; families are BTC, ETH, SOL with a setting as text."""
    names = {"BTC": BTC, "ETH": ETH, "SOL": SOL}
    wanted = {names[name]: setting(text) for name, text in families.items()}
    return desired(wanted, account=account, environment=environment)


def policy(
    *, factor: str | None = None, disable: bool = False, protected: tuple[Family, ...] = ()
) -> Policy:
    return Policy(
        path="mmp-policy.yaml",
        sha256="1" * 64,
        loosening=Loosening(max_factor=Decimal(factor) if factor else None),
        disable_allowed=disable,
        protected=frozenset(protected),
    )


def because(plan: Plan) -> dict[Family, HoldReason | None]:
    return {change.family: change.because for change in plan.changes}


@pytest.mark.parametrize("was", SETTINGS)
@pytest.mark.parametrize("now", SETTINGS)
def test_a_family_in_both_files_is_changed_exactly_if_its_value_differs(was: str, now: str) -> None:
    before, after = SETTINGS[was], SETTINGS[now]
    plan = compare(desired({BTC: before}), desired({BTC: after}), [policy(disable=True)])
    if was == now:
        assert (plan.changes, plan.unchanged) == ((), (BTC,))
        return
    (change,) = plan.changes
    assert (change.before, change.after, change.reason) == (before, after, Reason.CHANGED)
    assert (change.action, change.direction) == (Action.SET, direction(before, after))
    assert change.source is not None


def test_numbers_are_compared_by_value_and_fields_are_named() -> None:
    same = compare(file_of(BTC="5000/2000/100"), file_of(BTC="5000/2000/100.0"))
    assert same.unchanged == (BTC,)
    changed = compare(file_of(BTC="5000/2000/100"), file_of(BTC="6000/2000/50"))
    assert changed.changes[0].fields == (Field.TIME_INTERVAL, Field.QTY_LIMIT)


def test_a_family_that_has_come_is_new_and_one_that_has_gone_is_unmanaged() -> None:
    plan = compare(
        file_of(BTC="1/1/1", ETH="0/1/1"), file_of(BTC="1/1/1", SOL="2/2/2"), [policy(disable=True)]
    )
    (change,) = plan.changes
    assert (change.family, change.reason, change.direction) == (SOL, Reason.NEW, Direction.ENABLE)
    assert change.before is None
    assert plan.unchanged == (BTC,)
    assert plan.unmanaged == {ETH: setting("0/1/1")}
    assert (plan.basis, plan.account, plan.environment) == (Basis.FILE, "main", Environment.LIVE)


def test_an_account_that_has_come_is_all_new() -> None:
    plan = compare(None, file_of(BTC="1/1/1", ETH="0/1/1"))
    assert [(change.family, change.direction) for change in plan.changes] == [
        (BTC, Direction.ENABLE),
        (ETH, Direction.DISABLE),
    ]
    assert {change.reason for change in plan.changes} == {Reason.NEW}
    assert (plan.unmanaged, plan.refusals) == ({}, ())


def test_an_account_that_has_gone_is_all_unmanaged() -> None:
    plan = removed_account_plan(file_of(BTC="1/1/1", ETH="0/1/1"))
    assert (plan.changes, plan.unchanged, plan.refusals) == ((), (), ())
    assert list(plan.unmanaged) == [BTC, ETH]
    assert plan.basis is Basis.FILE


def nowhere(_was: Desired, _now: Desired) -> bool:
    return False


def test_accounts_are_matched_by_name_and_environment_in_the_order_of_the_newer_side() -> None:
    old_a, old_b = file_of("a", BTC="1/1/1"), file_of("b", BTC="2/2/2")
    new_b = file_of("b", BTC="3/3/3")
    demo = file_of("a", Environment.DEMO, ETH="4/4/4")
    pairs, dropped = match_accounts([old_a, old_b], [new_b, demo], nowhere)
    assert pairs == ((old_b, new_b), (None, demo))
    assert dropped == (old_a,)


def at(path: str, one: Desired, uid: str | None = None) -> Desired:
    return replace(one, path=path, expected_uid=uid)


def keys(prefix: str, one: Desired) -> Desired:
    return replace(one, credentials_prefix=prefix)


def same_path(was: Desired, now: Desired) -> bool:
    return was.path == now.path


OLD_ONE = at("a.yaml", file_of("one", BTC="1/1/1", ETH="1/1/1"), "111")
OLD_TWO = at("b.yaml", file_of("two", SOL="1/1/1"), "222")


@pytest.mark.parametrize(
    ("come", "was"),
    [
        (at("a.yaml", file_of("new", SOL="2/2/2")), OLD_ONE),
        (at("b.yaml", file_of("new", BTC="2/2/2", ETH="2/2/2"), "999"), OLD_TWO),
        # The User ID is held against the key before anything is sent; a path is only a path.
        (at("a.yaml", file_of("new", BTC="2/2/2", ETH="2/2/2"), "222"), OLD_TWO),
        (at("c.yaml", file_of("new", SOL="2/2/2"), "111"), OLD_ONE),
        (at("c.yaml", file_of("new", SOL="2/2/2")), OLD_TWO),
        (at("c.yaml", file_of("new", ETH="2/2/2", BTC="2/2/2")), OLD_ONE),
        (at("c.yaml", file_of("new", ETH="2/2/2", BTC="2/2/2"), "999"), None),
        (keys("OTHER_", at("c.yaml", file_of("new", ETH="2/2/2", BTC="2/2/2"))), None),
        (at("c.yaml", file_of("new", ETH="2/2/2")), None),
        (at("c.yaml", file_of("one", Environment.DEMO, SOL="2/2/2"), "111"), OLD_ONE),
        # What is called as it was is what it was, whatever else it looks like.
        (at("b.yaml", file_of("one", SOL="2/2/2"), "222"), OLD_ONE),
    ],
    ids=[
        "path",
        "other path",
        "uid, another path",
        "uid",
        "families",
        "families",
        "families, another uid",
        "families, other keys",
        "new",
        "environment",
        "name",
    ],
)
def test_an_account_that_was_renamed_is_known_by_its_file_its_user_or_its_families(
    come: Desired, was: Desired | None
) -> None:
    pairs, dropped = match_accounts([OLD_ONE, OLD_TWO], [come], same_path)
    assert pairs == ((was, come),)
    assert set(map(id, dropped)) == {id(one) for one in (OLD_ONE, OLD_TWO) if one is not was}


@pytest.mark.parametrize(("old", "new"), [("a", "bc"), ("ab", "c"), ("ab", "cd")])
@pytest.mark.parametrize("uid", [None, "111"])
def test_where_more_than_one_account_could_be_meant_none_is(old: str, new: str, uid: str | None) -> None:
    """Taking the first one could show a loosening of one account as a tightening of another."""
    went = [at("x.yaml", file_of(name, BTC="1/1/1"), uid) for name in old]
    come = [at("y.yaml", file_of(name, BTC="2/2/2"), uid) for name in new]
    pairs, dropped = match_accounts(went, come, nowhere)
    assert (pairs, dropped) == (tuple((None, one) for one in come), tuple(went))


def test_what_one_sign_leaves_open_another_may_tell() -> None:
    old = [at(f"{name}.yaml", file_of(name, BTC="1/1/1"), "111") for name in "ab"]
    new = [at(f"{name}.yaml", file_of(f"{name}2", BTC="2/2/2"), "111") for name in "ba"]
    pairs, dropped = match_accounts(old, new, same_path)
    assert (pairs, dropped) == (((old[1], new[0]), (old[0], new[1])), ())


@pytest.mark.parametrize(
    ("now", "uid", "other"),
    [("111", None, False), (None, "111", False), ("111", "111", False), ("111", "222", True)],
)
def test_two_expected_user_ids_are_two_accounts(now: str | None, uid: str | None, other: bool) -> None:
    assert other_uid(at("a", file_of(BTC="1/1/1"), now), at("a", file_of(BTC="1/1/1"), uid)) is other


@pytest.mark.parametrize(
    ("before", "after", "share", "judged"),
    [
        ("5000/2000/100", "5000/2000/101", "0.5", True),
        ("5000/2000/100", "5000/2000/101", None, False),
        ("5000/2000/100", "5000/2000/99", "0.5", False),
        ("0/2000/100", "0/2000/101", "0.5", False),
    ],
)
def test_a_share_is_judged_where_something_enabled_gets_looser(
    before: str, after: str, share: str | None, judged: bool
) -> None:
    limit = replace(policy(), loosening=Loosening(max_share=Decimal(share) if share else None))
    plan = compare(file_of(BTC=before), file_of(BTC=after), [None, limit])
    assert is_share_judged(plan, [None, limit]) is judged


@pytest.mark.parametrize(
    ("before", "after", "is_open"),
    [
        ("5000/2000/100", "5000/2000/101", True),
        ("5000/2000/100", "6000/2000/101", True),
        # An enable is measured from an enabled setting on record, and that may be of this window.
        ("0/2000/100", "5000/2000/100", True),
        ("5000/2000/100", "5000/2000/99", False),
        ("5000/2000/100", "0/2000/100", False),
        ("5000/2000/100", "5000/2000/100", False),
        (None, "5000/2000/100", True),
    ],
)
def test_a_window_is_not_asked_where_the_record_may_refuse_the_change(
    before: str | None, after: str, is_open: bool
) -> None:
    day, week = (
        replace(policy(), loosening=Loosening(Decimal(2), per=timedelta(days=days))) for days in (1, 7)
    )
    old = file_of(BTC=before, ETH="1/1/1") if before else file_of(ETH="1/1/1")
    plan = compare(old, file_of(BTC=after, ETH="1/1/1"))
    assert windows_not_asked(plan, [None, policy(factor="2")]) == ()
    assert windows_not_asked(plan, [None, day]) == ((timedelta(days=1),) if is_open else ())
    both = (timedelta(days=1), timedelta(days=7)) if is_open else ()
    assert windows_not_asked(plan, [week, day]) == both
    assert windows_not_asked(plan, [day, day]) == both[:1]


def test_a_renamed_account_is_held_to_the_policy_as_any_other() -> None:
    plan = compare(file_of("a", BTC="1/1/100"), file_of("b", BTC="1/1/400"), [policy(factor="2")])
    assert because(plan) == {BTC: HoldReason.POLICY}
    assert (plan.account, plan.changes[0].direction) == ("b", Direction.LOOSEN)


def test_leaving_an_environment_leaves_its_protected_families_unwatched() -> None:
    guard = policy(protected=(BTC,))
    old, demo = (
        file_of(BTC="1/1/1", ETH="1/1/1"),
        file_of("main", Environment.DEMO, BTC="1/1/1", ETH="1/1/2"),
    )
    plan = compare(old, demo, [guard])
    assert [(one.family, one.rule) for one in plan.refusals] == [(BTC, "protected")]
    assert because(plan) == {ETH: None}
    assert compare(old, file_of("other", BTC="1/1/1", ETH="1/1/1"), [guard]).refusals == ()


def test_times_are_those_of_an_apply_that_begins_with_a_free_budget() -> None:
    families: Mapping[Family, Setting] = {Family(f"F{n}-USD"): setting("1/1/1") for n in range(5)}
    plan = compare(None, desired(families))
    assert [change.order for change in plan.changes] == [1, 2, 3, 4, 5]
    assert [change.eta_s for change in plan.changes] == [0, 0, GUARD_S, GUARD_S, 2 * GUARD_S]


def test_more_protection_is_sent_first() -> None:
    old = file_of(BTC="5000/2000/100", ETH="5000/2000/100", SOL="0/2000/100")
    plan = compare(old, file_of(BTC="5000/2000/400", ETH="5000/2000/50", SOL="5000/2000/100"))
    assert [change.family for change in plan.changes] == [ETH, SOL, BTC]


def test_without_a_policy_the_guard_holds_whatever_disables() -> None:
    plan = compare(file_of(BTC="5000/2000/100", ETH="1/1/1"), file_of(BTC="0/2000/100", ETH="1/1/2"))
    assert because(plan) == {BTC: HoldReason.GUARD, ETH: None}
    assert [refusal.rule for refusal in plan.refusals] == ["guard"]


def test_a_policy_holds_what_it_refuses() -> None:
    plan = compare(file_of(BTC="1/1/100"), file_of(BTC="1/1/400"), [policy(factor="2")])
    assert because(plan) == {BTC: HoldReason.POLICY}
    assert plan.refusals[0].sentence == "loosening.maxFactor: ×4, limit ×2"


STRICT, LAX = policy(factor="2"), policy(factor="8", disable=True)


@pytest.mark.parametrize(
    ("policies", "held"),
    [
        ([STRICT], {BTC: HoldReason.POLICY, ETH: HoldReason.POLICY}),
        ([LAX], {BTC: None, ETH: None}),
        ([STRICT, LAX], {BTC: HoldReason.POLICY, ETH: HoldReason.POLICY}),
        ([LAX, STRICT], {BTC: HoldReason.POLICY, ETH: HoldReason.POLICY}),
        ([None, LAX], {BTC: None, ETH: HoldReason.GUARD}),
        ([LAX, None], {BTC: None, ETH: HoldReason.GUARD}),
        ([None, STRICT], {BTC: HoldReason.POLICY, ETH: HoldReason.POLICY}),
    ],
)
def test_a_change_has_to_pass_the_policy_before_and_the_policy_after(
    policies: list[Policy | None], held: dict[Family, HoldReason | None]
) -> None:
    old = file_of(BTC="5000/2000/100", ETH="5000/2000/100")
    plan = compare(old, file_of(BTC="5000/2000/400", ETH="0/2000/100"), policies)
    assert because(plan) == held


def test_what_both_policies_refuse_in_the_same_words_is_reported_once() -> None:
    plan = compare(file_of(BTC="1/1/1"), file_of(BTC="0/1/1"), [policy(), policy()])
    assert len(plan.refusals) == 1


def test_a_protected_family_that_is_removed_is_refused_though_there_is_no_change_to_hold() -> None:
    guard = policy(protected=(ETH,))
    plan = compare(file_of(BTC="1/1/1", ETH="1/1/1"), file_of(BTC="1/1/1"), [guard])
    assert plan.changes == ()
    assert [(refusal.family, refusal.rule) for refusal in plan.refusals] == [(ETH, "protected")]


def test_removing_an_account_is_refused_for_its_own_protected_families_alone() -> None:
    guard = policy(protected=(ETH, SOL))
    plan = removed_account_plan(file_of(BTC="1/1/1", ETH="1/1/1"), [guard, None])
    assert [refusal.family for refusal in plan.refusals] == [ETH]


def test_the_same_files_give_the_same_digest_wherever_they_are() -> None:
    old, new = file_of(BTC="1/1/1", ETH="2/2/2"), file_of(ETH="3/3/3", BTC="1/1/4")
    turned = file_of(BTC="1/1/4", ETH="3/3/3")
    assert compare(old, new).digest == compare(old, turned).digest


@pytest.mark.parametrize("padding", ["0/2000/100", "5000/2000/100"])
def test_families_that_only_the_newer_file_has_do_not_enlarge_a_share(padding: str) -> None:
    share = replace(policy(), loosening=Loosening(max_share=Decimal("0.34")))
    old, new = file_of(BTC="5000/2000/100"), file_of(BTC="5000/2000/101", ETH=padding, SOL=padding)
    assert [one.measured for one in compare(old, new, [share]).refusals] == ["1 of 1 at once"]


def test_families_that_leave_the_file_or_were_disabled_do_not_enlarge_a_share() -> None:
    share = replace(policy(), loosening=Loosening(max_share=Decimal("0.5")))
    old = file_of(BTC="5000/2000/100", ETH="5000/2000/100", SOL="0/2000/100")
    new = file_of(BTC="5000/2000/101", SOL="5000/2000/100")
    assert [one.measured for one in compare(old, new, [share]).refusals] == ["1 of 1 at once"]
