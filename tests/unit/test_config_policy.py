"""Policies: a corpus in which each file says its problems in its name, and how files are found.

``good`` files have no problem, ``warn`` files are accepted with the warnings their name lists, and
``bad`` files are refused with exactly the codes before the two dashes.
"""

from __future__ import annotations

import os
import re
import time
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
import yaml
from jsonschema.validators import Draft202012Validator

from reconciler.config.policy import POLICY_FORMAT, PolicyReading, load_policy, policy_for, read_policy
from reconciler.config.policy_values import window_of
from reconciler.config.yaml_nodes import MAX_FILE_BYTES, InvalidNode, read_nodes
from reconciler.core.accepted_settings import MAX_WINDOW
from reconciler.core.exposure import Figure
from reconciler.core.model import Family, Field
from reconciler.core.policy import Bound, Floor, Loosening, Policy
from reconciler.core.problems import Code
from reconciler.schema_files import load_schema
from tests.support.config_documents import complete_document
from tests.unit.test_config_corpus import NEVER_IN_SCHEMA, expected_codes, name_of

pytestmark = pytest.mark.unmeasured

CORPUS = Path(__file__).parents[1] / "corpus" / "policy"
FILES = sorted(CORPUS.glob("*/*.yaml"))
ACCEPTED = [file for file in FILES if file.parent.name != "bad"]
REFUSED = [file for file in FILES if file.parent.name == "bad"]

NOT_ALWAYS_IN_SCHEMA = {
    Code.BAD_INTERVAL,  # more than 10 digits only after the unit is multiplied in
    Code.BAD_QUANTITY,  # more than 20 digits of a plain fraction
    Code.BAD_FACTOR,
}
"""What the schema sees in most files, and the reader in all."""

BESIDE_THE_SCHEMA = {Code.MIN_OVER_MAX}
"""What a schema cannot compare."""


def read(text: str) -> PolicyReading:
    return read_policy(text.encode(), "mmp-policy.yaml")


def accepted(text: str) -> Policy:
    policy = read(text).policy
    assert policy is not None
    return policy


def schema_refuses(file: Path) -> bool | None:
    """Ask the schema about the whole document; None when the file does not become one."""
    root = read_nodes(file.read_bytes(), file.name).root
    if root is None or isinstance(root, InvalidNode):
        return None
    return not Draft202012Validator(load_schema(POLICY_FORMAT.schema)).is_valid(
        complete_document(root, POLICY_FORMAT)
    )


def test_the_corpus_is_large_and_has_both_kinds() -> None:
    assert len(ACCEPTED) >= 30
    assert len(REFUSED) >= 80


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_a_file_has_exactly_the_problems_its_name_says(file: Path) -> None:
    reading = read_policy(file.read_bytes(), file.name)
    assert {each.code.value for each in reading.problems} == expected_codes(file)
    assert (reading.policy is None) == (file.parent.name == "bad")
    assert list(reading.problems) == sorted(reading.problems, key=lambda each: (each.line, each.column))


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_each_problem_is_at_a_place_of_the_file_and_says_what_to_do(file: Path) -> None:
    reading = read_policy(file.read_bytes(), file.name)
    lines = reading.text.split("\n")
    for each in reading.problems:
        assert 1 <= each.line <= len(lines)
        assert 1 <= each.column <= len(lines[each.line - 1]) + 1
        assert each.message.isprintable()
        assert each.hint.isprintable()
        assert each.hint
        # The messages about mmp.yaml do not appear for a policy.
        assert not re.search(
            "schema mmp|mmp init|nothing desired|one account", f"{each.message} {each.hint}"
        )


@pytest.mark.parametrize("file", ACCEPTED, ids=name_of)
def test_what_the_reader_accepts_is_valid_by_the_schema_and_in_an_editor(file: Path) -> None:
    assert schema_refuses(file) is False
    document = yaml.safe_load(file.read_text(encoding="utf-8-sig"))
    assert list(Draft202012Validator(load_schema("policy")).iter_errors(document)) == []


def test_what_only_the_reader_sees_is_enumerated() -> None:
    unseen = {code for file in REFUSED if not schema_refuses(file) for code in expected_codes(file)}
    assert unseen == NEVER_IN_SCHEMA - {Code.TOO_DEEP} | NOT_ALWAYS_IN_SCHEMA | BESIDE_THE_SCHEMA


@pytest.mark.parametrize("code", sorted(NOT_ALWAYS_IN_SCHEMA))
def test_the_schema_sees_most_of_what_it_can_see(code: Code) -> None:
    assert any(schema_refuses(file) for file in REFUSED if expected_codes(file) == {code})


def test_every_code_about_policies_is_shown_by_a_file() -> None:
    shown = {code for file in FILES for code in expected_codes(file)}
    listed = list(Code)
    about_policies = set(listed[listed.index(Code.BAD_PATTERN) : listed.index(Code.TWO_POLICIES)])
    assert about_policies <= {Code(code) for code in shown}


# ---- what is read --------------------------------------------------------------------------------


def test_the_sample_is_read_completely() -> None:
    file = CORPUS / "good" / "all.yaml"
    policy = load_policy(str(file)).policy
    assert policy is not None
    assert policy == Policy(
        path=str(file),
        sha256=policy.sha256,
        default={
            Field.TIME_INTERVAL: Bound(Decimal(500), Decimal(60_000), False),
            Field.FROZEN_INTERVAL: Bound(Decimal(1000), None, True),
            Field.QTY_LIMIT: Bound(None, Decimal(1000), None),
        },
        families={
            "BTC-USD": {Field.QTY_LIMIT: Bound(None, Decimal(200), None)},
            "ETH-*": {Field.QTY_LIMIT: Bound(None, Decimal(500), None)},
        },
        loosening=Loosening(Decimal(2), 3, Decimal("0.5"), timedelta(hours=24), True),
        disable_allowed=False,
        protected=frozenset({Family("BTC-USD")}),
        default_exposure={
            Figure.PER_TRIP: Decimal(1000),
            Figure.PER_SECOND: Decimal(200),
            Figure.PER_MINUTE: Decimal("20000.5"),
        },
        family_exposures={"ETH-*": {Figure.PER_SECOND: Decimal(50)}},
        floor=Floor(200, Decimal(500)),
    )
    assert len(policy.sha256) == 64


def test_a_policy_that_says_nothing_denies_disabling_as_the_guard_does() -> None:
    assert accepted("version: 1\n") == Policy("mmp-policy.yaml", accepted("version: 1\n").sha256)
    assert accepted("version: 1\n").disable_allowed is False
    assert accepted("version: 1\ndisable: allow\n").disable_allowed is True


@pytest.mark.parametrize(
    ("text", "share"), [("0%", "0"), ("50%", "0.5"), ("12.5%", "0.125"), ("'0.1%'", "0.001"), ("100%", "1")]
)
def test_a_share_is_read_from_percent(text: str, share: str) -> None:
    policy = accepted(f"version: 1\nloosening: {{maxShare: {text}}}\n")
    assert policy.loosening.max_share == Decimal(share)


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("1m", timedelta(minutes=1)),
        ("90m", timedelta(minutes=90)),
        ("'24h'", timedelta(hours=24)),
        ("1d", timedelta(days=1)),
        ("7d", MAX_WINDOW),
        ("168h", MAX_WINDOW),
        ("10080m", MAX_WINDOW),
    ],
)
def test_a_window_is_a_number_and_a_unit_up_to_the_longest_that_is_on_record(
    text: str, window: timedelta
) -> None:
    assert accepted(f"version: 1\nloosening: {{maxFactor: 2, per: {text}}}\n").loosening.per == window


def test_reader_and_schema_agree_on_every_window_around_the_limits() -> None:
    pattern = load_schema("policy")["properties"]["loosening"]["properties"]["per"]["pattern"]
    texts = [f"{number}{unit}" for unit in ("m", "h", "d") for number in range(10_100)]
    by_schema = {text for text in texts if re.search(pattern, text)}
    assert by_schema == {text for text in texts if window_of(text) is not None}
    assert len(by_schema) == 10_080 + 168 + 7


def test_the_unknown_is_denied_unless_the_policy_allows_it() -> None:
    assert accepted("version: 1\n").loosening == Loosening()
    assert Loosening().unknown_allowed is False
    for word, allowed in (("deny", False), ("allow", True)):
        policy = accepted(f"version: 1\nloosening: {{maxFactor: 2, unknown: {word}}}\n")
        assert policy.loosening == Loosening(Decimal(2), unknown_allowed=allowed)


def test_a_window_without_a_factor_is_an_error_that_says_so() -> None:
    reading = read("version: 1\nloosening:\n  per: 24h\n")
    (found,) = reading.problems
    assert reading.policy is None
    assert found.code is Code.MISSING_KEY
    assert found.message == "loosening.per limits nothing without loosening.maxFactor"
    assert found.hint == "add maxFactor: 2, or delete per"
    assert found.line == 3


# ---- what was meant ------------------------------------------------------------------------------

HINTS = [
    ("disable: forbid", "did you mean deny?"),
    ("disable: permitted", "did you mean allow?"),
    ("disable: yes", "write it as disable: deny"),
    ("disable: 7", "write deny or allow"),
    ("loosening: {maxFactor: 2x}", "did you mean 2?"),
    ("loosening: {maxFactor: x1.5}", "did you mean 1.5?"),
    ("loosening: {maxFactor: half}", "write a plain number such as 2 or 1.5; with 1 no exposure may rise"),
    ("floor: {factor: half}", "write a plain number such as 1000 or 500"),
    ("floor: {timeInterval: none}", "to forbid disabled, write disabled: deny"),
    ("floor: []", "write it as floor: {timeInterval: 100ms, factor: 1000}"),
    (
        "bounds: {default: {exposure: 5}}",
        "write it as exposure: {perSecond: {max: 200}, perMinute: {max: 20000}}",
    ),
    ("bounds: {default: {exposure: {perTrip: 5}}}", "write it as perTrip: {max: 1000}"),
    ("bounds: {default: {exposure: {perhour: {}}}}", "the keys here are: perTrip, perSecond, perMinute"),
    ("loosening: {maxFactor: 0x2}", "did you mean 2?"),
    ("loosening: {maxFamilies: '3'}", "write it without quotes"),
    ("loosening: {maxFamilies: few}", "write a whole number such as 3; 0 allows none"),
    ("loosening: {maxShare: 50}", "did you mean 50%?"),
    ("loosening: {maxShare: 0.5}", "did you mean 50%?"),
    ("loosening: {maxShare: 0.125}", "did you mean 12.5%?"),
    ("loosening: {maxShare: 50 %}", "did you mean 50%?"),
    ("loosening: {maxShare: 200}", "write a percentage such as 50% or 12.5%"),
    ("loosening: {maxShare: half}", "write a percentage such as 50% or 12.5%"),
    ("loosening: {maxFactr: 2}", "did you mean maxFactor?"),
    ("loosening: {x: 2}", "the keys here are: maxFactor, maxFamilies, maxShare, per, unknown"),
    ("loosening: {unknown: forbid}", "did you mean deny?"),
    ("loosening: {unknown: []}", "write it as unknown: deny"),
    ("loosening: {maxFactor: 2, per: []}", "write it as per: 24h"),
    ("loosening: {maxFactor: 2, per: 24}", "write a number and a unit, such as 90m, 24h or 7d"),
    ("loosening: {maxFactor: 2, per: day}", "write a number and a unit, such as 90m, 24h or 7d"),
    ("loosening: {maxFactor: 2, per: 24 h}", "did you mean 24h?"),
    ("loosening: {maxFactor: 2, per: 24 Hours}", "did you mean 24h?"),
    ("loosening: {maxFactor: 2, per: 7 days}", "did you mean 7d?"),
    ("loosening: {maxFactor: 2, per: 1h30m}", "did you mean 90m?"),
    ("loosening: {maxFactor: 2, per: 1d12h}", "did you mean 36h?"),
    ("loosening: {maxFactor: 2, per: 86400s}", "did you mean 24h?"),
    ("loosening: {maxFactor: 2, per: 604800000ms}", "did you mean 7d?"),
    ("loosening: {maxFactor: 2, per: 0d}", "the shortest is 1m"),
    ("loosening: {maxFactor: 2, per: 59s}", "the shortest is 1m"),
    ("loosening: {maxFactor: 2, per: 90s}", "write whole minutes, such as 90m"),
    ("loosening: {maxFactor: 2, per: 30d}", "the longest is 7d"),
    ("loosening: {maxFactor: 2, per: 10081m}", "the longest is 7d"),
    ("loosening: {maxFactor: 2, per: 99999999999d}", "the longest is 7d"),
    ("protected: [BTC-*]", "patterns are not for this: name each family"),
    ("protected: [btc-usd]", "did you mean BTC-USD?"),
    ("protected: [everything!]", "name it as OKX does, in capitals: BTC-USD or SOL-USD_UM"),
    ("protected: {}", "write it as protected: [BTC-USD]"),
    ("protected: [[BTC-USD]]", "write it as BTC-USD"),
    ("bounds: {families: {BTC-USD: 5}}", "write it as {qtyLimit: {max: 200}}"),
    ("bounds: {families: {BTCUSD: {qtyLimit: {max: 5}}}}", "did you mean BTC-USD?"),
    ("bounds: {default: {qtyLimit: {max: 0}}}", "leave the limit out"),
    ("bounds: {default: {qtyLimit: {max: '1,000'}}}", "did you mean 1000?"),
    ("bounds: {default: {qtyLimit: []}}", "write it as qtyLimit: {max: 1000}"),
    ("bounds: {default: {timeInterval: {min: 5 s}}}", "did you mean 5s?"),
    ("bounds: {default: {timeInterval: {min: none}}}", "to forbid disabled, write disabled: deny"),
    ("bounds: {default: {frozenInterval: {max: 0}}}", "to forbid until-reset, write until-reset: deny"),
    (
        "bounds: {default: {timeInterval: {min: quick}}}",
        "write whole milliseconds (5000) or a number and a unit (500ms, 5s, 2m, 1h)",
    ),
    ("version: '1'", "write version: 1 without quotes"),
    ("version: 3", "mmp reads version: 1 only"),
]


@pytest.mark.parametrize(("line", "hint"), HINTS)
def test_what_does_not_hold_is_answered_with_what_was_meant(line: str, hint: str) -> None:
    reading = read(line if line.startswith("version") else f"version: 1\n{line}\n")
    assert [each.hint for each in reading.problems] == [hint]


def test_a_place_is_called_as_refusals_call_their_rules() -> None:
    (found,) = read("version: 1\nbounds: {default: {qtyLimit: {max: []}}}\n").problems
    assert found.message == "bounds.default.qtyLimit.max must be a single value"
    (found,) = read("version: 1\nprotected: [BTC-USD, ~]\n").problems
    assert found.message.startswith("protected.2 has no value")
    long = read(f"version: 1\nbounds: {{families: {{{'B' * 90}: 1}}}}\n").problems
    assert [each.message for each in long if each.code is Code.WRONG_TYPE] == [
        f"bounds.families.{'B' * 40} must be a mapping of keys to values"
    ]


def test_more_families_than_there_can_be_are_too_many() -> None:
    names = ", ".join(f"F{number}-USD" for number in range(10_001))
    (found,) = read(f"version: 1\nprotected: [{names}]\n").problems
    assert found.code is Code.TOO_MANY_FAMILIES


@pytest.mark.slow
def test_ten_thousand_bounds_of_families_are_read_in_time() -> None:
    bounds = "".join(f"    F{number}-USD: {{qtyLimit: {{max: 5}}}}\n" for number in range(10_000))
    begun = time.process_time()
    policy = accepted(f"version: 1\nbounds:\n  families:\n{bounds}")
    assert time.process_time() - begun < 30
    assert len(policy.families) == 10_000


def test_a_deep_file_ends_the_reading() -> None:
    assert [each.code for each in read("version: " + "[" * 40).problems] == [Code.TOO_DEEP]


def test_a_large_file_is_not_looked_at(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_bytes(b"version: 1\n" + b"#" * MAX_FILE_BYTES)
    assert [each.code for each in load_policy(str(file)).problems] == [Code.TOO_LARGE]


# ---- where the file is found ---------------------------------------------------------------------


def test_no_policy_beside_the_config_is_no_policy(tmp_path: Path) -> None:
    assert policy_for(str(tmp_path / "mmp.yaml"), None) is None


@pytest.mark.parametrize("name", ["mmp-policy.yaml", "mmp-policy.yml"])
def test_the_policy_beside_the_config_is_found(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).write_text("version: 1\n", encoding="utf-8")
    found = policy_for(str(tmp_path / "mmp.yaml"), None)
    assert found is not None
    assert found.policy is not None
    assert found.path == str(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    here = policy_for("mmp.yaml", None)
    assert here is not None
    assert here.path == name


def test_a_named_policy_comes_instead_of_the_one_beside_the_config(tmp_path: Path) -> None:
    (tmp_path / "mmp-policy.yaml").write_text("version: 2\n", encoding="utf-8")
    named = tmp_path / "other.yaml"
    named.write_text("version: 1\n", encoding="utf-8")
    found = policy_for(str(tmp_path / "mmp.yaml"), str(named))
    assert found is not None
    assert found.policy is not None


def codes(reading: PolicyReading | None) -> list[Code]:
    assert reading is not None
    assert reading.policy is None
    return [each.code for each in reading.problems]


def test_a_named_policy_that_is_missing_is_an_error(tmp_path: Path) -> None:
    found = policy_for(str(tmp_path / "mmp.yaml"), str(tmp_path / "none.yaml"))
    assert codes(found) == [Code.FILE_MISSING]


def test_two_policies_in_a_folder_are_an_error(tmp_path: Path) -> None:
    for name in ("mmp-policy.yaml", "mmp-policy.yml"):
        (tmp_path / name).write_text("version: 1\n", encoding="utf-8")
    assert codes(policy_for(str(tmp_path / "mmp.yaml"), None)) == [Code.TWO_POLICIES]


def test_a_policy_that_cannot_be_read_is_never_no_policy(tmp_path: Path) -> None:
    policy = tmp_path / "mmp-policy.yaml"
    policy.symlink_to(tmp_path / "nowhere")
    assert codes(policy_for(str(tmp_path / "mmp.yaml"), None)) == [Code.FILE_MISSING]
    policy.unlink()
    policy.mkdir()
    assert codes(policy_for(str(tmp_path / "mmp.yaml"), None)) == [Code.FILE_UNREADABLE]
    assert codes(policy_for(str(tmp_path / "gone" / "mmp.yaml"), None)) == [Code.FILE_UNREADABLE]
    assert codes(load_policy("a\0b")) == [Code.FILE_UNREADABLE]
    assert os.path.isdir(policy)
