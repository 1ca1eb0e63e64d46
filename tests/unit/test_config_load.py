"""Files and folders of settings: what is read, the limits, and the problem of each failure."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from reconciler.config.load import Reading, load_configs, read_config
from reconciler.core.model import (
    Desired,
    DesiredFamily,
    Environment,
    Family,
    FilePosition,
    Quantity,
    Setting,
)
from reconciler.core.problems import Code

pytestmark = pytest.mark.unmeasured

ROOT = Path(__file__).parents[2]
HEAD = "version: 1\nenvironment: live\n"
FIELDS = "{timeInterval: 5s, frozenInterval: 2s, qtyLimit: 100}"
GOOD = f"{HEAD}families:\n  BTC-USD: {FIELDS}\n"


def codes(reading: Reading) -> list[Code]:
    return [each.code for each in reading.problems]


def read(text: str) -> Reading:
    return read_config(text.encode(), "mmp.yaml")


def accepted(text: str) -> Desired:
    desired = read(text).desired
    assert desired is not None
    return desired


def setting(window_ms: int, freeze_ms: int, limit: str) -> Setting:
    return Setting(window_ms, freeze_ms, Quantity(limit))


def families_file(count: int) -> str:
    return HEAD + "families:\n" + "".join(f"  F{number}-USD: {FIELDS}\n" for number in range(count))


def test_the_sample_reads_clean_and_says_what_it_says() -> None:
    content = (ROOT / "mmp.yaml").read_bytes()
    reading = read_config(content, "mmp.yaml")
    assert reading.problems == ()
    assert reading.desired == Desired(
        account="main",
        environment=Environment.LIVE,
        families={
            Family("BTC-USD"): DesiredFamily(setting(5000, 2000, "100"), FilePosition("mmp.yaml", 9, 3)),
            Family("ETH-USD"): DesiredFamily(setting(1000, 0, "500"), FilePosition("mmp.yaml", 10, 3)),
            Family("SOL-USD_UM"): DesiredFamily(setting(0, 2000, "10"), FilePosition("mmp.yaml", 11, 3)),
        },
        path="mmp.yaml",
        sha256=sha256(content).hexdigest(),
    )


def test_optional_parts_have_the_documented_defaults() -> None:
    desired = accepted(GOOD)
    assert (desired.account, desired.credentials_prefix, desired.expected_uid) == ("main", "OKX_", None)
    desired = accepted(GOOD + 'account: desk-2\nexpect: {uid: "0123"}\ncredentials: {prefix: D2_}\n')
    assert (desired.account, desired.credentials_prefix, desired.expected_uid) == ("desk-2", "D2_", "0123")


@pytest.mark.parametrize("spelling", ["100", '"100"', '"100.0"', "100.00"])
def test_a_quantity_keeps_its_text_and_its_value(spelling: str) -> None:
    desired = accepted(GOOD.replace("100", spelling))
    limit = desired.families[Family("BTC-USD")].setting.qty_limit
    assert limit.text == spelling.strip('"')
    assert limit == Quantity("100")


def test_a_family_s_own_field_wins_over_defaults() -> None:
    desired = accepted(
        f"{HEAD}defaults: {{timeInterval: 5s, frozenInterval: 2s, qtyLimit: 7}}\n"
        "families: {A-B: {}, C-D: {frozenInterval: until-reset}, E-F: {timeInterval: 1, qtyLimit: 0.5}}\n"
    )
    assert [each.setting for each in desired.families.values()] == [
        setting(5000, 2000, "7"),
        setting(5000, 0, "7"),
        setting(1, 2000, "0.5"),
    ]


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("qtylimit: 1", 'unknown key "qtylimit" in family BTC-USD', "did you mean qtyLimit?"),
        ("window: 5s", 'unknown key "window" in family BTC-USD', "did you mean timeInterval?"),
        ("freeze: 5s", 'unknown key "freeze" in family BTC-USD', "did you mean frozenInterval?"),
        ("limit: 5", 'unknown key "limit" in family BTC-USD', "did you mean qtyLimit?"),
        ("qty: 5", 'unknown key "qty" in family BTC-USD', "did you mean qtyLimit?"),
        (
            "frozen_interval: 5s",
            'unknown key "frozen_interval" in family BTC-USD',
            "did you mean frozenInterval?",
        ),
        (
            "delta: 5",
            'unknown key "delta" in family BTC-USD',
            "the keys here are: timeInterval, frozenInterval, qtyLimit",
        ),
    ],
)
def test_an_unknown_field_is_named_with_what_was_meant(line: str, message: str, hint: str) -> None:
    (found,) = read(f"{HEAD}defaults: {FIELDS}\nfamilies:\n  BTC-USD:\n    {line}\n").problems
    assert (found.code, found.line, found.column) == (Code.UNKNOWN_KEY, 6, 5)
    assert (found.message, found.hint) == (message, hint)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("btc-usd", "did you mean BTC-USD?"),
        ("BTCUSD", "did you mean BTC-USD?"),
        ("btcusd_um", "did you mean BTC-USD_UM?"),
        ("BTC_USD", "did you mean BTC-USD?"),
        ("BTC/USD", "did you mean BTC-USD?"),
        ("SOL-USD-UM", "did you mean SOL-USD_UM?"),
        ("BTC-USD-240628-60000-C", "did you mean BTC-USD?"),
        ("BTC-USD_UM-240628", "did you mean BTC-USD_UM?"),
        ("bitcoin", "name it as OKX does, in capitals: BTC-USD or SOL-USD_UM"),
    ],
)
def test_a_wrong_family_is_named_with_what_was_meant(name: str, hint: str) -> None:
    (found,) = read(f"{HEAD}families:\n  {name}: {FIELDS}\n").problems
    assert (found.code, found.line, found.column, found.hint) == (Code.BAD_FAMILY, 4, 3, hint)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        (GOOD.replace("live", "prod"), "did you mean live?"),
        (GOOD.replace("live", "paper"), "did you mean demo?"),
        (GOOD.replace("live", "dmeo"), "did you mean demo?"),
        (GOOD.replace("live", "moon"), "write environment: live or environment: demo"),
        (GOOD + "env: live\n", "did you mean environment?"),
        (GOOD + "qtyLimit: 5\n", "the three fields belong to a family, or under defaults for all families"),
        (GOOD + "ETH-USD: {}\n", "families are listed under families: {ETH-USD: …}"),
        (GOOD + "expect: {uid: 446556540}\n", 'write uid: "446556540"'),
        (GOOD + "credentials: {prefix: DESK}\n", "end it with an underscore: prefix: DESK_"),
        (GOOD + "account: 007\n", 'put it in quotes if it is text: "007"'),
        (GOOD + "account: 7\n", 'put it in quotes: "7"'),
        (GOOD.replace("version: 1", 'version: "1"'), "write version: 1 without quotes"),
        (GOOD.replace("version: 1", "version: 01"), "write version: 1"),
        (GOOD.replace("5s", "off"), "to switch the protection off, write timeInterval: disabled"),
        (GOOD.replace("100", "1_000"), "did you mean 1000?"),
        (GOOD.replace("100", "on"), "write the number of contracts in plain digits, such as 100 or 0.5"),
        (
            GOOD.replace("2s", "off"),
            "write whole milliseconds or a number and a unit, such as 5s, or until-reset",
        ),
        ("<<<<<<< HEAD\n" + GOOD, "line 1 begins a merge conflict that has not been resolved"),
        (HEAD + "families:\n\tBTC-USD: 1\n", "indent with spaces; YAML does not allow tabs"),
        (HEAD + "account: a: b\n", "check the line above, the indentation, and quotes around a colon"),
        (
            HEAD + "families: {qtyLimit: {}}\n",
            "the three fields belong to a family: {BTC-USD: {qtyLimit: 100}}; "
            "for all families use defaults",
        ),
    ],
)
def test_a_slip_is_answered_with_what_to_write(text: str, hint: str) -> None:
    assert hint in [each.hint for each in read(text).problems]


def test_missing_fields_are_named_at_the_family() -> None:
    (found,) = read(f"{HEAD}families:\n  BTC-USD: {{frozenInterval: 2s}}\n").problems
    assert (found.code, found.line, found.column) == (Code.MISSING_KEY, 4, 3)
    assert found.message == "BTC-USD has no timeInterval and no qtyLimit, neither its own nor from defaults"


def test_a_broken_default_is_not_also_missing_everywhere() -> None:
    reading = read(
        f"{HEAD}defaults: {{timeInterval: soon, freeze: 2s}}\nfamilies: {{A-B: {{qtyLimit: 1}}}}\n"
    )
    assert codes(reading) == [Code.BAD_INTERVAL, Code.UNKNOWN_KEY]


def test_a_broken_family_hides_nothing_of_the_others() -> None:
    names = [f"F{number}-USD" for number in range(33)]
    reading = read(HEAD + "families:\n" + "".join(f"  {name}: {{qtyLimit: 0, x: 1}}\n" for name in names))
    assert [each.line for each in reading.problems] == [line for line in range(4, 37) for _ in range(3)]
    assert set(codes(reading)) == {Code.MISSING_KEY, Code.BAD_QUANTITY, Code.UNKNOWN_KEY}


@pytest.mark.parametrize(
    ("text", "places"),
    [
        (f'families: {{"日本語": {FIELDS}}}\n', [(3, 12)]),
        (f"families: {{BTC-USD: {FIELDS}}} # 日本語\naccount: Ä\n", [(4, 10)]),
        (f"expect: {{日: 1, uid: x}}\nfamilies: {{BTC-USD: {FIELDS}}}\n", [(3, 10), (3, 21)]),
        (f"expect: {{𝔸: 1, uid: x}}\r\nfamilies: {{BTC-USD: {FIELDS}}}\r\n", [(3, 10), (3, 21)]),
    ],
)
def test_columns_count_characters(text: str, places: list[tuple[int, int]]) -> None:
    for start in ("", "\ufeff"):
        assert [(each.line, each.column) for each in read(start + HEAD + text).problems] == places


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "wanted"), [(10_000, []), (10_001, [Code.TOO_MANY_FAMILIES])], ids=["at the limit", "beyond"]
)
def test_at_most_ten_thousand_families(count: int, wanted: list[Code]) -> None:
    reading = read(families_file(count))
    assert codes(reading) == wanted
    assert (reading.desired is None) == bool(wanted)


def test_ten_thousand_families_are_read_in_reasonable_time() -> None:
    content = families_file(10_000).encode()
    began = time.process_time()
    read_config(content, "mmp.yaml")
    assert time.process_time() - began < 5.0  # 0.6 s on a small machine; more means not linear


def test_at_most_one_mebibyte() -> None:
    padding = "#" * (1024 * 1024 - len(GOOD) - 1) + "\n"
    assert codes(read(GOOD + padding)) == []
    assert codes(read(GOOD + "#" + padding)) == [Code.TOO_LARGE]


@pytest.mark.parametrize(
    "text", ["[" * 500_000, "{a: " * 250_000, "- " * 500_000, "? " * 300_000, "a: [" * 5]
)
def test_deep_nesting_ends_early(text: str) -> None:
    assert codes(read(text)) in ([Code.TOO_DEEP], [Code.YAML_SYNTAX])


@pytest.mark.parametrize(
    "text", ["a: " + "9" * 100_000, "{" + "a" * 100_000 + ": 1}", "x" * 1_000_000, "&" * 1000]
)
def test_long_values_are_shown_short(text: str) -> None:
    for each in read(text).problems:
        assert len(each.message) < 300
        assert len(each.hint) < 300


def test_a_folder_s_files_are_read_by_name_and_the_rest_passed_over(tmp_path: Path) -> None:
    for name in (
        "b.yml",
        "a.yaml",
        ".hidden.yaml",
        "mmp-policy.yaml",
        "mmp-policy.yml",
        "notes.txt",
        "c.yaml.bak",
    ):
        (tmp_path / name).write_text(GOOD + f"account: {name[0].replace('.', 'h')}\n")
    (tmp_path / "folder.yaml").mkdir()
    readings = load_configs([str(tmp_path)])
    assert [os.path.basename(each.path) for each in readings] == ["a.yaml", "b.yml"]
    assert all(each.desired for each in readings)


def test_files_come_in_the_order_they_were_named(tmp_path: Path) -> None:
    paths = [str(tmp_path / name) for name in ("z.yaml", "a.yaml")]
    for number, path in enumerate(paths):
        Path(path).write_text(GOOD + f"account: a{number}\n")
    assert [each.path for each in load_configs(paths)] == paths


def test_a_file_reached_twice_is_read_once(tmp_path: Path) -> None:
    file = tmp_path / "mmp.yaml"
    file.write_text(GOOD)
    (tmp_path / "link.yaml").symlink_to(file)
    (reading,) = load_configs([str(file), str(tmp_path), f"{tmp_path}/./mmp.yaml"])
    assert reading.path == str(file)
    assert reading.desired is not None


@pytest.mark.parametrize(
    ("second", "place"),
    [(GOOD, (2, 14)), (GOOD + "account: main\n", (5, 10)), (GOOD.replace("5s", "soon"), (2, 14))],
    ids=["by default", "by name", "broken besides"],
)
def test_the_same_account_and_environment_twice_is_an_error_of_the_second(
    tmp_path: Path, second: str, place: tuple[int, int]
) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "b.yaml").write_text(second)
    first, later = load_configs([str(tmp_path)])
    assert first.desired is not None
    assert later.desired is None
    (found,) = (each for each in later.problems if each.code is Code.DUPLICATE_ACCOUNT)
    assert (found.line, found.column) == place
    assert str(tmp_path / "a.yaml") in found.message


def test_the_same_account_in_two_environments_is_two(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "b.yaml").write_text(GOOD.replace("live", "demo"))
    assert all(each.desired for each in load_configs([str(tmp_path)]))


def _missing(folder: Path) -> Path:
    return folder / "none.yaml"


def _dangling(folder: Path) -> Path:
    (folder / "link.yaml").symlink_to(folder / "none.yaml")
    return folder / "link.yaml"


def _empty_folder(folder: Path) -> Path:
    return folder


def _nul(folder: Path) -> Path:
    return folder / "a\0b.yaml"


def _under_a_file(folder: Path) -> Path:
    (folder / "file").write_text("")
    return folder / "file" / "mmp.yaml"


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (_missing, Code.FILE_MISSING),
        (_dangling, Code.FILE_MISSING),
        (_empty_folder, Code.NO_CONFIG_FILES),
        (_nul, Code.FILE_UNREADABLE),
        (_under_a_file, Code.FILE_UNREADABLE),
    ],
)
def test_a_path_that_gives_no_file_is_a_problem_at_1_1(
    tmp_path: Path, make: Callable[[Path], Path], code: Code
) -> None:
    path = str(make(tmp_path))
    (reading,) = load_configs([path])
    (found,) = reading.problems
    assert (found.code, found.path, found.line, found.column) == (code, path, 1, 1)
    assert reading.desired is None
    assert found.hint


def test_a_folder_that_cannot_be_listed_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str) -> list[str]:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "listdir", refuse)
    (reading,) = load_configs([str(tmp_path)])
    assert codes(reading) == [Code.FILE_UNREADABLE]
    assert reading.problems[0].message == "cannot be read: Permission denied"


def test_a_dangling_link_in_a_folder_is_a_missing_file(tmp_path: Path) -> None:
    _dangling(tmp_path)
    (reading,) = load_configs([str(tmp_path)])
    assert codes(reading) == [Code.FILE_MISSING]


def test_reading_needs_no_library_of_other_parts() -> None:
    program = (
        "import sys; from reconciler.config.load import load_configs; early = set(sys.modules);"
        "load_configs(['mmp.yaml']);"
        "unwanted = {'aiohttp', 'asyncio', 'sqlite3', 'rich', 'structlog', 'difflib'};"
        "found = (unwanted & set(sys.modules)) | ({'jsonschema'} & early);"
        "sys.exit(str(found) if found else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
