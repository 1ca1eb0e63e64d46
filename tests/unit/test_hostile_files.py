"""Files that are made to cost time, memory or output, or to make an error show a secret."""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler import secret
from reconciler.cli.main import main
from reconciler.config.policy import PolicyReading, load_policy, read_policy
from reconciler.config.settings import Reading, read_config
from reconciler.config.settings_against_policy import with_policy_problems, with_unmatched_entries
from reconciler.config.yaml_nodes import MAX_FILE_BYTES
from reconciler.core.problems import MAX_MESSAGE_CHARS, MAX_PROBLEMS, Code, json_text
from reconciler.documents.problems import problems_document
from reconciler.documents.strict_reader import read_document
from reconciler.errors import InvalidInput
from reconciler.regular_file import NotRegularFile, read_regular
from reconciler.render.problems import MAX_EXCERPT_CHARS, problems_github, problems_text, summary
from reconciler.secrets_to_mask import configured_secrets

pytestmark = pytest.mark.unmeasured

HEAD = "version: 1\nenvironment: live\n"
FULL = "{timeInterval: 5s, frozenInterval: 2s, qtyLimit: 1}"


def many(line: str, head: str = HEAD + "families:\n") -> str:
    """Return a file of 1 MiB with a line for each number."""
    lines = (line.replace("#", str(number)) for number in range(MAX_FILE_BYTES // (len(line) - 1)))
    return (head + "".join(lines))[:MAX_FILE_BYTES].rpartition("\n")[0] + "\n"


CONFIGS = {
    "values": many("  A#: {qtyLimit: x}\n"),
    "values of families": many(f"  A#-B: {FULL.replace('5s', '5 s')}\n"),
    "names": many("  a#: 1\n"),
    "unknown keys": many("k#: 1\n", ""),
    "unknown fields": many("  A#-USD: {qtyLimits: 1}\n"),
    "unknown fields of one family": HEAD + "families: {BTC-USD: {" + many("k#: 1,\n", "") + "}}\n",
    "one key again and again": many("  A: 1\n"),
    "numbers": many("  A#: 010\n"),
    "lists": many("  A#: [1]\n"),
    "empty values": many("  A#:\n"),
    "nothing in it": many("  A#: {}\n"),
    "flow list": HEAD + "families: [" + "1," * 500_000 + "]\n",
    "list that is not closed": "[" + "x," * 500_000,
    "nesting": "[" * MAX_FILE_BYTES,
    "nesting of mappings": "{a: " * (MAX_FILE_BYTES // 4),
    "aliases": "a: &a x\n" + many("b#: *a\n", ""),
    "anchors": "families: [" + "&a x," * 200_000 + "]\n",
    "tags": "families: [" + "!a x," * 200_000 + "]\n",
    "long anchor": "a: &" + "a" * (MAX_FILE_BYTES - 10) + " x\n",
    "one line": HEAD + "families: " + "x" * (MAX_FILE_BYTES - 100),
    "long name": HEAD + "families:\n  ? " + "A" * 500_000 + "-B\n  : 1\n",
    "combining characters": HEAD + "families: a" + "\u0301" * 400_000,
    "long keys": many(f"  {'k' * 900}#: 1\n"),
    "keys that are no text": many("  #: 1\n"),
    "merge keys": many("  <<: b\n"),
    "blocks": many("  A#: |\n   x\n"),
    "NUL": "\0" * MAX_FILE_BYTES,
    "direction marks": "\u202e" * (MAX_FILE_BYTES // 3),
    "documents": "---\n" * (MAX_FILE_BYTES // 4),
    "escapes": HEAD + 'families: "' + "\\x41" * 250_000 + '"\n',
}
POLICIES = {
    "unknown keys": many("k#: 1\n", "version: 1\n"),
    "bounds": many("    a#: {qtyLimit: {max: x}}\n", "version: 1\nbounds:\n  families:\n"),
    "protected, not a family": "version: 1\nprotected: [" + "a," * 500_000 + "]\n",
    "protected of two types": "version: 1\nprotected: [1, "
    + ", ".join(f"A{n}-B" for n in range(50_000))
    + "]\n",
    "protected twice": "version: 1\nprotected: [" + "A-B, " * 100_000 + "]\n",
    "least above most": many(
        "    A#-B: {qtyLimit: {min: 2, max: 1}}\n", "version: 1\nbounds:\n  families:\n"
    ),
}
FILES: list[tuple[Callable[[bytes, str], Reading | PolicyReading], str, str]] = [
    *((read_config, name, text) for name, text in CONFIGS.items()),
    *((read_policy, name, text) for name, text in POLICIES.items()),
]

MANY = HEAD + "defaults: {timeInterval: 5s, frozenInterval: 2s}\nfamilies:\n"
LARGEST = MANY + "".join(f"  F{number:05d}-USD: {{qtyLimit: {number + 1}}}\n" for number in range(10_000))


@pytest.fixture(scope="module")
def most_s() -> float:
    """How long a hostile file may take on this machine, now: thrice what the largest valid one takes."""
    begun = time.process_time()
    assert read_config(LARGEST.encode(), "mmp.yaml").desired is not None
    return max(1.0, 3 * (time.process_time() - begun))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("read", "name", "text"), FILES, ids=[f"{read.__name__}-{name}" for read, name, _ in FILES]
)
def test_a_hostile_file_costs_a_bounded_time_and_output(
    read: Callable[[bytes, str], Reading | PolicyReading], name: str, text: str, most_s: float
) -> None:
    begun = time.process_time()
    reading = read(text.encode()[:MAX_FILE_BYTES], "mmp.yaml")
    shown = problems_text([reading])
    assert time.process_time() - begun < most_s
    assert 1 <= len(reading.problems) <= MAX_PROBLEMS + 1
    assert (len(reading.problems) > MAX_PROBLEMS) == (reading.problems[-1].code is Code.MORE_PROBLEMS)
    assert all(len(each.message) <= MAX_MESSAGE_CHARS for each in reading.problems)
    assert len(shown) < 100_000
    # A line is an excerpt or a message, with what stands before it.
    assert max(map(len, shown.splitlines())) <= max(MAX_EXCERPT_CHARS, MAX_MESSAGE_CHARS) + 20
    assert all(character.isprintable() or character == "\n" for character in shown)


def test_excerpts_have_at_most_two_hundred_characters() -> None:
    for line in ("x" * 10_000, "a" + "\u0301" * 10_000, "\U000e0001" * 5_000, "日" * 5_000):
        text = problems_text([read_config(f"{HEAD}families: {line}".encode(), "mmp.yaml")])
        excerpts = [part for part in text.splitlines() if part.startswith("  3 | ")]
        assert excerpts
        assert all(len(excerpt.removeprefix("  3 | ")) <= MAX_EXCERPT_CHARS for excerpt in excerpts)


# ---- more than a hundred -----------------------------------------------------------------------


def test_a_file_with_many_warnings_is_accepted_completely() -> None:
    text = MANY + "".join(
        f"  F{number}-USD: {{qtyLimit: 1, timeInterval: 50ms}}\n" for number in range(500)
    )
    reading = read_config(text.encode(), "mmp.yaml")
    assert reading.desired is not None
    assert len(reading.desired.families) == 500
    assert reading.problems[-1].code is Code.MORE_PROBLEMS
    broken = read_config((text + "  X-USD: {qtyLimit: 0}\n").encode(), "mmp.yaml")
    assert broken.desired is None
    assert [each.line for each in broken.problems if each.is_error] == [505]


def test_every_output_says_that_there_are_more() -> None:
    families = "".join(f"  A{number}-B: {FULL.replace('5s', '5 s')}\n" for number in range(500))
    reading = read_config(f"{HEAD}families:\n{families}".encode(), "mmp.yaml")
    text = problems_text([reading])
    assert text.endswith("100 errors and more in mmp.yaml\n")
    assert "and more: only 100 problems of a file are listed" in text
    assert summary([reading]) == "100 errors and more in mmp.yaml"
    document = problems_document(reading.problems)
    assert (len(document["problems"]), document["problems"][-1]["code"]) == (101, "more-problems")
    github = problems_github(reading.problems)
    assert "and 90 more errors; mmp validate shows the first 100 problems" in github
    assert "::warning" in github


@pytest.mark.slow
def test_what_a_policy_refuses_of_a_file_is_bounded_too() -> None:
    reading = read_config(LARGEST.encode(), "mmp.yaml")
    policy = read_policy(
        b"version: 1\nbounds: {default: {qtyLimit: {max: 5}}}\nfloor: {timeInterval: 6s}\n", "p"
    )
    held = with_policy_problems(policy.policy, reading)
    assert (held.desired is not None, len(held.problems)) == (True, MAX_PROBLEMS + 1)
    names = "".join(f"    G{number}-USD: {{qtyLimit: {{max: 5}}}}\n" for number in range(500))
    unmatched = read_policy(f"version: 1\nbounds:\n  families:\n{names}".encode(), "p")
    assert reading.desired is not None
    assert len(with_unmatched_entries(unmatched, [reading.desired]).problems) == MAX_PROBLEMS + 1


# ---- secrets -----------------------------------------------------------------------------------

KEY, PASSPHRASE = "4c2f7a90-1111-2222-3333-abcdefabcdef", 'pass"{phrase'


@pytest.fixture
def configured() -> Iterator[None]:
    secret.configure_masking([KEY, PASSPHRASE])
    yield
    secret.configure_masking([])


def shown_of(*readings: Reading | PolicyReading) -> str:
    problems = [each for reading in readings for each in reading.problems]
    return (
        problems_text(readings)
        + json_text(problems_document(problems))
        + problems_github(problems)
        + "".join(reading.text for reading in readings)
        + repr(problems)
    )


@pytest.mark.parametrize(
    "value", [KEY, KEY.upper(), "x" * 40 + KEY, PASSPHRASE, f'"{PASSPHRASE}', KEY + "z" * 100]
)
@pytest.mark.parametrize(
    "text",
    [
        "{}: 1\n",
        "version: {}\n",
        "version: 1\naccount: {}\n",
        "credentials: {{prefix: {}}}\n",
        "families: {{{}: 1}}\n",
        "families: {{BTC-USD: {{qtyLimit: {}, timeInterval: {}}}}}\n",
        "protected: [{}]\n",
        "bounds: {{{}: 1}}\n",
        "a: &{} 1\n",
        "a: !{} 1\n",
        "? [{}]\n: 1\n",
        "# {}\na: [\n",
        "\0OKX_SECRET_KEY={}\0\n",
        "a: 1\n{}",
    ],
)
@pytest.mark.usefixtures("configured")
def test_no_output_shows_a_configured_secret_or_a_part_of_it(text: str, value: str) -> None:
    content = text.format(*[value] * text.count("{}")).encode()
    shown = shown_of(read_config(content, "mmp.yaml"), read_policy(content, "mmp-policy.yaml")).casefold()
    for whole in (KEY, PASSPHRASE):
        assert whole[:8].casefold() not in shown
        assert whole[-8:].casefold() not in shown


@pytest.mark.usefixtures("configured")
def test_places_stay_as_they_are_and_titles_say_what_is_wrong() -> None:
    reading = read_config(f"{HEAD}families: {{BTC-USD: {{qtyLimit: {KEY}}}}}\n".encode(), "mmp.yaml")
    (missing, bad) = reading.problems
    assert (missing.message, bad.message) == (missing.code.summary, bad.code.summary)
    assert (bad.code, bad.line, bad.column) == (Code.BAD_QUANTITY, 3, 32)
    assert "configured secret" in bad.hint
    shown = problems_text([reading])
    assert "qtyLimit" not in shown, "the hint says that nothing of the file is quoted"
    assert "mmp.yaml:3:32" in shown


@pytest.mark.usefixtures("configured")
def test_a_valid_file_with_a_secret_stays_valid_and_shows_none() -> None:
    text = f"{HEAD}families:\n  BTC-USD: {FULL} # {KEY}\n"
    reading = read_config(text.encode(), "mmp.yaml")
    assert reading.desired is not None
    limits = "version: 1\nbounds: {default: {qtyLimit: {max: 0.5}}}\n"
    held = with_policy_problems(read_policy(limits.encode(), "p").policy, reading)
    assert [each.line for each in held.problems] == [4]
    assert KEY not in shown_of(held)
    # Where blanking changes what the file is, only the place is lost.
    secret.configure_masking(["5s, frozenInterval: 2s, qty", "families:\n  BTC"])
    lost = with_policy_problems(
        read_policy(limits.encode(), "p").policy, read_config(text.encode(), "mmp.yaml")
    )
    assert len(lost.problems) == 1


@pytest.mark.usefixtures("configured")
@pytest.mark.parametrize(
    "content", [f'{{"format": "{KEY}"}}', f'{{"format": "mmp/plan/1", "{KEY}": 1}}', f'{{"{KEY}": NaN, x']
)
def test_a_document_that_is_refused_shows_no_secret(content: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_document(content.encode(), "plan.json", "plan")
    assert KEY[:8] not in refused.value.message + refused.value.hint
    assert "configured secret" in refused.value.message


ESCAPED = f"\\x{ord(KEY[3]):02x}".join((KEY[:3], KEY[4:]))


@pytest.mark.parametrize(
    "value", [f'"{ESCAPED}"', f'"{KEY[:9]}\\\n    {KEY[9:]}"', f'"{KEY[:9]}\n    {KEY[9:]}"']
)
@pytest.mark.parametrize(
    "text",
    [
        "families: {{BTC-USD: {{qtyLimit: {}}}}}\n",
        "families: {{BTC-USD: {{{}: 1}}}}\n",
        "version: {}\n",
        "protected: [{}]\n",
        "bounds: {{{}: 1}}\n",
    ],
)
@pytest.mark.usefixtures("configured")
def test_a_secret_written_with_escapes_or_over_two_lines_is_not_shown(text: str, value: str) -> None:
    content = text.format(value).encode()
    readings = (read_config(content, "mmp.yaml"), read_policy(content, "mmp-policy.yaml"))
    problems = [each for reading in readings for each in reading.problems]
    for shown in (
        problems_text(readings),
        json_text(problems_document(problems)),
        problems_github(problems),
    ):
        together = "".join(shown.split())
        assert KEY[-8:] not in together
        assert KEY[4:12] not in together


@pytest.mark.usefixtures("configured")
def test_a_secret_with_escapes_in_a_document_is_not_shown() -> None:
    escaped = f"\\u{ord(KEY[3]):04x}".join((KEY[:3], KEY[4:]))
    with pytest.raises(InvalidInput) as refused:
        read_document(f'{{"format": "{escaped}"}}'.encode(), "plan.json", "plan")
    assert KEY[-8:] not in refused.value.message
    assert "configured secret" in refused.value.message


def test_secrets_are_taken_from_variables_files_and_addresses(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("in-a-file\n")
    hook = "https://hooks.example.com/services/T0000000/abcdefghijklmnop"
    environ = {
        "OKX_API_KEY": "in-a-variable",
        "DESK_PASSPHRASE_FILE": str(tmp_path / "key"),
        "OKX_SECRET_KEY_FILE": str(tmp_path / "missing"),
        "PGPASSWORD": "of-the-database",
        "MMP_STATE": "postgresql://u:p%2Fw@h/db?sslpassword=of-tls",
        "MMP_NOTIFY": f"{hook} https://alerts.example.com",
        "HOME": "/no/secret",
    }
    arguments = ["run", "--state=postgresql://u:in-an-argument@h/db"]
    assert list(
        configured_secrets(environ, arguments, ["http://localhost/?key=of%20a%20long-webhook"])
    ) == [
        *("in-a-variable", "in-a-file", "of-the-database"),
        *("p%2Fw", "p/w", "of-tls", "in-an-argument"),
        *(hook, "services/T0000000/abcdefghijklmnop", "abcdefghijklmnop"),
        *("http://localhost/?key=of%20a%20long-webhook", "key=of%20a%20long-webhook"),
        *("key=of a long-webhook", "of%20a%20long-webhook", "of a long-webhook"),
    ]


@pytest.mark.parametrize("output", ["text", "json", "github"])
def test_validate_shows_no_webhook_and_no_password_of_a_state_that_a_flag_replaces(
    output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hook = "https://hooks.example.com/services/T0000000/abcdefghijklmnop"
    monkeypatch.setenv("MMP_NOTIFY", hook)
    monkeypatch.setenv("MMP_STATE", "postgresql://u:pass%2Dword-of-it@h/db")
    file = tmp_path / "mmp.yaml"
    for content in (f"{HEAD}notify: {hook}\n", f"{HEAD}note: pass-word-of-it\n"):
        file.write_text(content)
        with pytest.raises(SystemExit) as ended:
            main(["validate", str(file), "--output", output])
        assert ended.value.code == 4
        sentence = capsys.readouterr()
        assert "services" not in sentence.out + sentence.err
        assert "word-of-it" not in sentence.out + sentence.err
    secret.configure_masking([])


def test_short_values_are_not_looked_for() -> None:
    secret.configure_masking(["live", ""])
    try:
        assert not secret.has_secret("environment: live")
        assert secret.masked("environment: live") == "environment: live"
    finally:
        secret.configure_masking([])


@pytest.mark.parametrize("output", ["text", "json", "github"])
def test_validate_and_its_neighbours_mask_keys_of_variables_and_files(
    output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    key_file = tmp_path / "key"
    key_file.write_text(f"{KEY}\n")
    monkeypatch.setenv("OKX_SECRET_KEY_FILE", str(key_file))
    monkeypatch.setenv("OKX_PASSPHRASE", PASSPHRASE)
    (tmp_path / "mmp.yaml").write_text(f"{HEAD}{KEY}: 1\nfamilies: {PASSPHRASE}\n")
    for named in ("mmp.yaml", "key"):
        with pytest.raises(SystemExit) as ended:
            main(["validate", str(tmp_path / named), "--output", output])
        assert ended.value.code == 4
        sentence = capsys.readouterr()
        assert KEY[:8] not in sentence.out + sentence.err
        assert PASSPHRASE[:6] not in sentence.out + sentence.err
    secret.configure_masking([])


# ---- files of the kernel ------------------------------------------------------------------------


OF_THE_KERNEL = ("/proc/self/environ", "/proc/cpuinfo", "/sys/kernel/uevent_seqnum", "/sys/power/state")


@pytest.mark.parametrize("path", [path for path in OF_THE_KERNEL if os.path.exists(path)])
def test_files_of_the_kernel_are_not_read_through_a_link_either(path: str, tmp_path: Path) -> None:
    link = tmp_path / "mmp-policy.yaml"
    link.symlink_to(path)
    with pytest.raises(NotRegularFile, match="of the kernel's own"):
        read_regular(str(link), 100)
    (found,) = load_policy(str(link)).problems
    assert (found.code, "of the kernel's own" in found.message) == (Code.FILE_UNREADABLE, True)


def test_a_link_to_the_environment_shows_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OKX_SECRET_KEY", KEY)
    (tmp_path / "mmp.yaml").symlink_to("/proc/self/environ")
    with pytest.raises(SystemExit):
        main(["validate", str(tmp_path / "mmp.yaml"), "--output", "json"])
    sentence: Any = capsys.readouterr()
    (found,) = json.loads(io.StringIO(sentence.out).read())["problems"]
    assert found["code"] == "file-unreadable"
    assert KEY not in sentence.out + sentence.err
    secret.configure_masking([])
