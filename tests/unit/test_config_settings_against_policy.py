"""A file held to a policy: each refusal at its place; and a policy that changes while it is in force."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.config.policy import policy_for, read_policy
from reconciler.config.settings import Reading, read_config
from reconciler.config.settings_against_policy import CODES, with_policy_problems, with_unmatched_entries
from reconciler.core.events import PolicyAccepted, PolicyRejected
from reconciler.core.policy import PolicyInForce, RefusalKind
from reconciler.core.problems import Code
from reconciler.watch.last_valid_content import Undecided, WatchedPolicy
from reconciler.watch.write_completion import SECOND_READ_S, ReadConfidence

CONFIG = """\
version: 1
environment: live
defaults:
  timeInterval: 5s
  frozenInterval: 2s
families:
  BTC-USD: {qtyLimit: 100}
  ETH-USD:
    frozenInterval: until-reset
    qtyLimit: "500"
  SOL-USD_UM: {timeInterval: disabled, qtyLimit: 10}
"""


def held(policy: str, config: str = CONFIG) -> Reading:
    read = read_policy(f"version: 1\n{policy}\n".encode(), "mmp-policy.yaml").policy
    assert read is not None
    return with_policy_problems(read, read_config(config.encode(), "mmp.yaml"))


def bounds(inner: str) -> str:
    return f"bounds: {{default: {{{inner}}}}}"


@pytest.mark.parametrize(
    ("policy", "places"),
    [
        ("disable: deny", []),
        (bounds("qtyLimit: {max: 100}"), [("policy-bounds", 10, 15)]),
        (bounds("timeInterval: {disabled: deny}"), [("policy-bounds", 11, 30)]),
        (bounds("frozenInterval: {until-reset: deny}"), [("policy-bounds", 9, 21)]),
        # A value from defaults is at its place there, once for every family that has it.
        (bounds("timeInterval: {min: 6s}"), [("policy-bounds", 4, 17)] * 2),
        ("protected: [BTC-USD, XAU-USD]", [("policy-protected", 6, 1)]),
        ("protected: [SOL-USD_UM]", [("policy-protected", 11, 30)]),
        (bounds("qtyLimit: {min: 50, max: 100}"), [("policy-bounds", 10, 15), ("policy-bounds", 11, 50)]),
    ],
)
def test_each_refusal_is_at_the_value_it_is_about(policy: str, places: list[tuple[str, int, int]]) -> None:
    reading = held(policy)
    assert reading.desired is not None, "a refusal is no error of the file"
    assert [(each.code.value, each.line, each.column) for each in reading.problems] == places


@pytest.mark.parametrize(
    ("policy", "own", "places"),
    [
        ("floor: {timeInterval: 5s}", "", []),
        ("floor: {timeInterval: 5001ms}", "", [(4, 17), (4, 17)]),
        ("floor: {timeInterval: 6s}", "7s", [(4, 17)]),
        ("floor: {timeInterval: 6s}", "4s", [(4, 17), (9, 19)]),
    ],
)
def test_a_window_below_the_floor_is_a_warning_at_its_place(
    policy: str, own: str, places: list[tuple[int, int]]
) -> None:
    config = CONFIG.replace("ETH-USD:", f"ETH-USD:\n    timeInterval: {own}") if own else CONFIG
    found = held(policy, config).problems
    assert [(each.line, each.column) for each in found] == places
    assert {each.code for each in found} <= {Code.POLICY_FLOOR}
    assert not any(each.is_error for each in found)


def test_a_window_is_warned_about_once() -> None:
    """Under 100 ms the reader has warned already; a disabled family has no window."""
    config = CONFIG.replace("timeInterval: 5s", "timeInterval: 99ms")
    found = held("floor: {timeInterval: 200ms}", config).problems
    assert [each.code for each in found] == [Code.SHORT_INTERVAL]
    first, _ = held("floor: {timeInterval: 6s}").problems
    assert first.message == "BTC-USD: timeInterval 5s is below the floor of mmp-policy.yaml, 6s"


@pytest.mark.parametrize(
    "limit", ["perTrip: {max: 499}", "perSecond: {max: 99.9}", "perMinute: {max: 6499.9}"]
)
def test_an_exposure_above_its_bound_is_refused_at_the_family(limit: str) -> None:
    found = held(bounds(f"exposure: {{{limit}}}")).problems
    assert [
        (each.code, each.line, each.column) for each in found if each.message.startswith("ETH-USD")
    ] == [(Code.POLICY_BOUNDS, 8, 3)]


def test_a_family_disabled_by_defaults_is_refused_at_the_word_or_at_the_family() -> None:
    config = CONFIG.replace("timeInterval: 5s", "timeInterval: disabled")
    assert [(each.line, each.column) for each in held("protected: [BTC-USD]", config).problems] == [(7, 3)]


def test_a_refusal_names_family_policy_numbers_and_the_way_out() -> None:
    (found,) = held(bounds("qtyLimit: {max: 100}")).problems
    assert found.is_error
    assert found.message == (
        "ETH-USD is refused by mmp-policy.yaml: bounds.qtyLimit.max: qtyLimit 500, limit 100"
    )
    assert found.hint == (
        "change one of the two, or override it once: mmp apply --family ETH-USD --expect DIGEST "
        '--allow bounds:ETH-USD --reason "…" (mmp plan --family ETH-USD prints the DIGEST)'
    )


NAMED = """\
version: 1
bounds:
  families:
    BTC-USD: {qtyLimit: {max: 100}}
    BTC-EUR: {qtyLimit: {max: 100}}
    "SOL-*": {qtyLimit: {max: 100}}
    "XAU-*": {qtyLimit: {max: 100}}
"""


def test_bounds_that_match_no_family_are_a_warning_at_their_name() -> None:
    read, desired = (
        read_policy(NAMED.encode(), "mmp-policy.yaml"),
        read_config(CONFIG.encode(), "mmp.yaml").desired,
    )
    assert desired is not None
    checked = with_unmatched_entries(read, [desired])
    assert checked.policy is read.policy, "a warning is no error of the policy"
    assert [(each.code, each.line, each.is_error) for each in checked.problems] == [
        (Code.POLICY_UNMATCHED, 5, False),
        (Code.POLICY_UNMATCHED, 7, False),
    ]
    assert checked.problems[0].message == (
        "bounds.families.BTC-EUR matches no family of account main, so it limits nothing"
    )
    assert with_unmatched_entries(read, []) is read, "of no account nothing is known"
    xau = read_config(CONFIG.replace("BTC-USD", "XAU-USD").encode(), "other.yaml").desired
    assert xau is not None
    (left,) = with_unmatched_entries(read, [desired, xau]).problems
    assert "BTC-EUR matches no family of any of 2 accounts" in left.message


def test_refusals_stand_among_the_warnings_in_the_order_of_the_file() -> None:
    config = CONFIG.replace("qtyLimit: 10}", "qtyLimit: 10, frozenInterval: 50}")
    codes = [each.code for each in held(bounds("qtyLimit: {max: 9}"), config).problems]
    assert codes == [Code.POLICY_BOUNDS, Code.POLICY_BOUNDS, Code.POLICY_BOUNDS, Code.SHORT_INTERVAL]


def test_a_file_with_errors_is_not_held_to_anything() -> None:
    reading = held(bounds("qtyLimit: {max: 1}"), CONFIG.replace("500", "many"))
    assert [each.code for each in reading.problems] == [Code.BAD_QUANTITY]


def test_without_a_policy_a_reading_stays_as_it_is() -> None:
    reading = read_config(CONFIG.encode(), "mmp.yaml")
    assert with_policy_problems(None, reading) is reading
    assert {kind for kind in RefusalKind if kind not in CODES} == {
        RefusalKind.LOOSEN,
        RefusalKind.MIXED,
        RefusalKind.DISABLE,
    }


# ---- a policy that is watched --------------------------------------------------------------------

FIRST, SECOND = "version: 1\nloosening: {maxFactor: 2}\n", "version: 1\nloosening: {maxFactor: 4}\n"
BROKEN = "version: 1\nloosening: {maxFactor: 0}\n"


class File:
    """A policy that is written, looked at and rewritten."""

    def __init__(self, path: Path, content: str | None) -> None:
        self.path = path
        self.write(content)
        config = str(path.parent / "mmp.yaml")
        self.watched = WatchedPolicy(policy_for(config, None), config, None)
        self.now = 0.0

    def write(self, content: str | None) -> None:
        if content is None:
            self.path.unlink(missing_ok=True)
        else:
            self.path.write_text(content, encoding="utf-8")

    def look(self, content: str | None, trust: ReadConfidence = ReadConfidence.NEEDS_TWO_READS) -> str:
        """Write and look once, a second later; return what the look said, in a word."""
        self.write(content)
        self.now += SECOND_READ_S
        match self.watched.decide(self.watched.read(), trust, self.now):
            case PolicyAccepted(_, sha256):
                assert sha256 == (self.watched.policy and self.watched.policy.sha256)
                return "accepted"
            case PolicyRejected(_, problems):
                return "+".join(problem.code for problem in problems)
            case Undecided():
                return "unsure"
            case None:
                return ""

    @property
    def unreadable(self) -> bool:
        """Whether the policy in force cannot be read now."""
        return self.watched.in_force.unreadable

    @property
    def factor(self) -> str:
        """The factor in force."""
        return str(self.watched.policy.loosening.max_factor) if self.watched.policy else "none"


def test_a_new_policy_is_accepted_after_two_equal_reads(tmp_path: Path) -> None:
    file = File(tmp_path / "mmp-policy.yaml", FIRST)
    assert [file.look(FIRST), file.look(SECOND)] == ["", "unsure"]
    assert file.factor == "2"
    assert [file.look(SECOND), file.look(SECOND)] == ["accepted", ""]
    assert file.factor == "4"
    assert file.look(FIRST, ReadConfidence.COMPLETE) == "accepted"


@pytest.mark.parametrize(
    ("content", "code"), [(BROKEN, "bad-factor"), (None, "file-missing"), ("", "empty-file")]
)
def test_an_invalid_or_missing_policy_is_reported_once_and_the_last_valid_one_stays(
    content: str | None, code: str, tmp_path: Path
) -> None:
    file = File(tmp_path / "mmp-policy.yaml", FIRST)
    assert [file.look(content) for _ in range(4)] == ["unsure", code, "", ""]
    assert (file.factor, file.unreadable) == ("2", True)
    assert [file.look(FIRST), file.look(content), file.look(content)] == ["accepted", "unsure", code]


def test_a_policy_that_comes_later_is_accepted(tmp_path: Path) -> None:
    file = File(tmp_path / "mmp-policy.yaml", None)
    assert [file.look(None), file.look(None), file.look(FIRST)] == ["", "", "unsure"]
    assert file.factor == "none"
    assert file.look(FIRST) == "accepted"
    assert file.factor == "2"
    assert (file.factor, file.unreadable) == ("2", False)
    assert [file.look(None) for _ in range(3)] == ["unsure", "file-missing", ""]
    assert (file.factor, file.unreadable) == ("2", True)


def test_a_first_policy_that_does_not_hold_leaves_the_guard_in_force(tmp_path: Path) -> None:
    file = File(tmp_path / "mmp-policy.yaml", None)
    assert [file.look(BROKEN), file.look(BROKEN), file.look(BROKEN)] == ["unsure", "bad-factor", ""]
    assert (file.factor, file.unreadable) == ("none", True)


@pytest.mark.parametrize(
    ("content", "said", "factor"),
    [
        (FIRST, ["unsure", "accepted", ""], "2"),
        (None, ["unsure", "file-missing", ""], "none"),
        (BROKEN, ["", "", ""], "none"),
    ],
)
def test_a_policy_that_is_not_valid_at_the_start_is_unreadable_until_one_is(
    content: str | None, said: list[str], factor: str, tmp_path: Path
) -> None:
    file = File(tmp_path / "mmp-policy.yaml", BROKEN)
    assert (file.unreadable, file.watched.refused is not None) == (True, True)
    assert [file.look(content) for _ in said] == said
    assert (file.factor, file.unreadable) == (factor, content != FIRST)


def test_a_policy_that_was_never_valid_and_is_gone_is_not_no_policy(tmp_path: Path) -> None:
    file = File(tmp_path / "mmp-policy.yaml", None)
    assert (file.look(BROKEN, ReadConfidence.COMPLETE), file.look(None), file.look(None)) == (
        "bad-factor",
        "unsure",
        "file-missing",
    )
    assert file.unreadable
    assert file.watched.refused is not None
    assert file.watched.refused.path == str(file.path), "the one that was there is named"


def test_a_folder_that_cannot_be_listed_for_a_while_leaves_no_policy_behind(tmp_path: Path) -> None:
    folder = tmp_path / "desk"
    folder.mkdir()
    file = File(folder / "mmp-policy.yaml", None)
    folder.rmdir()
    found = [
        file.watched.decide(file.watched.read(), ReadConfidence.NEEDS_TWO_READS, now)
        for now in (0.0, SECOND_READ_S)
    ]
    assert (type(found[1]), file.unreadable) == (PolicyRejected, True), "one may be there by now"
    folder.mkdir()
    assert (file.look(None), file.unreadable) == ("accepted", False)


def test_a_named_policy_that_is_missing_cannot_be_read(tmp_path: Path) -> None:
    named = tmp_path / "named.yaml"
    watched = WatchedPolicy(policy_for("mmp.yaml", str(named)), "mmp.yaml", str(named))
    assert watched.in_force == PolicyInForce(None, unreadable=True)
    named.write_text(FIRST)
    assert isinstance(watched.decide(watched.read(), ReadConfidence.COMPLETE, 0.0), PolicyAccepted)
    assert watched.in_force == PolicyInForce(watched.policy, unreadable=False)


def test_a_policy_in_force_is_reported_when_it_is_back(tmp_path: Path) -> None:
    file = File(tmp_path / "mmp-policy.yaml", FIRST)
    assert [file.look(BROKEN, ReadConfidence.COMPLETE), file.look(FIRST), file.look(FIRST)] == [
        "bad-factor",
        "accepted",
        "",
    ]
