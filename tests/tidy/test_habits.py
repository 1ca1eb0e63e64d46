"""What no module does: read a clock in the core, weaken TLS, hide an unfinished end, grow too long."""

from __future__ import annotations

import ast
import re
from collections import Counter
from statistics import median, quantiles

import pytest

from tests.tidy.source import ROOT, Function, Module, files, module, modules

LONGEST_MEDIAN = 8
LONGEST_NINTH_DECILE = 30
LONGEST_FUNCTION = 60
LONGEST_FILE = 500
LONGEST_COMMAND_FILE = 250

CLOCKS = {"now", "utcnow", "today", "fromtimestamp"}
OUTSIDE = {"print", "open", "input", "breakpoint", "exec", "eval"}
TLS_SWITCHES = {"ssl", "verify", "verify_ssl", "check_hostname", "server_hostname"}
TLS_OFF = {"CERT_NONE", "_create_unverified_context"}


def impurities(one: Module) -> list[str]:
    """Return every use of a clock or of the outside world in a module of the core."""
    names = [node.id for node in ast.walk(one.tree) if isinstance(node, ast.Name)]
    members = [node.attr for node in ast.walk(one.tree) if isinstance(node, ast.Attribute)]
    return sorted(
        {name for name in names if name in OUTSIDE} | {name for name in members if name in CLOCKS}
    )


def weakened_tls(one: Module) -> list[str]:
    """Return every place that switches certificate checks off."""
    found = []
    for node in ast.walk(one.tree):
        if isinstance(node, ast.keyword) and node.arg in TLS_SWITCHES and _is_off(node.value):
            found.append(f"{node.arg}= in line {node.value.lineno}")
        if isinstance(node, ast.Assign) and _is_off(node.value):
            members = [each.attr for each in node.targets if isinstance(each, ast.Attribute)]
            found += [f".{name} in line {node.lineno}" for name in members if name in TLS_SWITCHES]
        if isinstance(node, ast.Attribute) and node.attr in TLS_OFF:
            found.append(f"{node.attr} in line {node.lineno}")
    return found


def _is_off(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value is False


@pytest.mark.parametrize(
    "one", [one for one in modules() if one.layer == "core"], ids=lambda one: one.place
)
def test_the_core_reads_no_clock_and_touches_nothing(one: Module) -> None:
    assert impurities(one) == []


@pytest.mark.parametrize("source", ["datetime.now()", "date.today()", "print(1)", "open('x')"])
def test_a_clock_or_a_print_in_the_core_is_caught(source: str) -> None:
    assert impurities(module(source))


@pytest.mark.parametrize("one", modules(), ids=lambda one: one.place)
def test_certificates_are_always_checked(one: Module) -> None:
    assert weakened_tls(one) == []


@pytest.mark.parametrize(
    "source",
    [
        "Session(ssl=False)",
        "get(verify=False)",
        "context.check_hostname = False",
        "c.verify_mode = ssl.CERT_NONE",
    ],
)
def test_weakened_tls_is_caught(source: str) -> None:
    assert weakened_tls(module(source))


def test_every_module_says_in_its_own_words_what_it_is_for() -> None:
    said = {one.place: ast.get_docstring(one.tree) for one in modules()}
    assert [place for place, text in said.items() if not text or len(text) < 20] == []
    repeated = [text for text, times in Counter(said.values()).items() if times > 1]
    assert repeated == []


def changeable(one: Module) -> list[str]:
    """Return the dataclasses of a module that are not both frozen and slotted."""
    found = []
    for node in ast.walk(one.tree):
        marks = node.decorator_list if isinstance(node, ast.ClassDef) else []
        written = [ast.unparse(mark) for mark in marks]
        if any(
            mark.startswith("dataclass")
            and not {"frozen=True", "slots=True"} <= set(re.split(r"[(), ]", mark))
            for mark in written
        ):
            found.append(ast.unparse(node).splitlines()[1])
    return found


@pytest.mark.parametrize(
    "one", [one for one in modules() if one.layer == "core"], ids=lambda one: one.place
)
def test_every_value_of_the_core_is_frozen_and_slotted(one: Module) -> None:
    assert changeable(one) == []


@pytest.mark.parametrize(
    "mark", ["dataclass", "dataclass(frozen=True)", "dataclass(frozen=False, slots=True)"]
)
def test_a_changeable_value_in_the_core_is_caught(mark: str) -> None:
    assert changeable(module(f"@{mark}\nclass Value:\n    x: int"))


# ---- functions stay short ----------------------------------------------------------------------


def length(function: Function) -> int:
    """Return the lines of a function's body, its docstring left out."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def test_functions_stay_short() -> None:
    lengths = {f"{one.place}: {each.name}": length(each) for one in modules() for each in one.functions()}
    worst = sorted(lengths.items(), key=lambda item: -item[1])[:10]
    assert median(lengths.values()) <= LONGEST_MEDIAN, worst
    assert quantiles(lengths.values(), n=10)[8] <= LONGEST_NINTH_DECILE, worst


def long_functions(one: Module) -> dict[str, int]:
    """Return each function of a module that is too long, with its lines from ``def`` to its end."""
    lines = {
        f"{one.place}:{each.lineno} {each.name}": (each.end_lineno or 0) - each.lineno + 1
        for each in one.functions()
    }
    return {name: number for name, number in lines.items() if number > LONGEST_FUNCTION}


def test_no_function_is_long() -> None:
    assert [long_functions(one) for one in modules() if long_functions(one)] == []


@pytest.mark.parametrize(("lines", "caught"), [(LONGEST_FUNCTION - 2, False), (LONGEST_FUNCTION - 1, True)])
def test_a_long_function_is_caught_by_all_its_lines_but_the_decorators(lines: int, caught: bool) -> None:
    decorators, body = "@decorated\n" * 5, "    call()\n" * lines
    source = f'{decorators}async def made_up() -> None:\n    """Do it."""\n{body}'
    assert bool(long_functions(module(source))) == caught


def long_files(lines: dict[str, int]) -> dict[str, int]:
    """Return the files of the package that are too long; those of the command line may be less long."""
    limits = {
        path: LONGEST_COMMAND_FILE if path.startswith("reconciler/cli/") else LONGEST_FILE for path in lines
    }
    return {path: number for path, number in lines.items() if number > limits[path]}


def test_no_file_is_long() -> None:
    lines = {
        path: text.count("\n") for path, text in files().items() if re.fullmatch(r"reconciler/.*\.py", path)
    }
    assert long_files(lines) == {}


def test_a_long_file_is_caught() -> None:
    lines = {"reconciler/core/plan.py": 500, "reconciler/cli/plan.py": 250, "reconciler/clients.py": 251}
    assert long_files(lines) == {}
    assert set(long_files({path: number + 250 for path, number in lines.items()})) == {
        "reconciler/core/plan.py",
        "reconciler/cli/plan.py",
        "reconciler/clients.py",
    }
    assert set(long_files({path: number + 1 for path, number in lines.items()})) == {
        "reconciler/core/plan.py",
        "reconciler/cli/plan.py",
    }


# ---- nothing unfinished, nothing switched off without a reason -----------------------------------

# Split, so that this file does not find itself.
UNFINISHED = re.compile(
    r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "X" + "XX", "NotImplemented" + "Error"]) + r")\b"
)
SWITCHED_OFF = re.compile(r"pytest\.(mark\.)?(sk" + r"ip|xf" + "ail|importorsk" + "ip)")
IGNORE_WITH_REASON = r"type: ignore\[[\w, -]+\] +(# |- )?\w|noqa: [A-Z]+\d+(, ?[A-Z]+\d+)* +(# |- )?\w"
BARE_IGNORE = re.compile(rf"# (?=type: ignore|noqa)(?!{IGNORE_WITH_REASON})")
NO_COVER = re.compile("pragma: no " + r"(cover|branch)(?! # \w)")


def found(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{path}:{number}: {line.strip()[:80]}"
        for path, text in files().items()
        if not path.startswith("requirements/")
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


@pytest.mark.parametrize("pattern", [UNFINISHED, SWITCHED_OFF], ids=["unfinished", "switched off"])
def test_nothing_is_left_unfinished_or_switched_off(pattern: re.Pattern[str]) -> None:
    assert found(pattern) == []


@pytest.mark.parametrize("pattern", [BARE_IGNORE, NO_COVER], ids=["ignore", "no cover"])
def test_whatever_silences_a_tool_says_why(pattern: re.Pattern[str]) -> None:
    assert found(pattern) == []


@pytest.mark.parametrize(
    ("line", "bare"),
    [
        ("type: ignore", True),
        ("type: ignore[arg-type]", True),
        ("type: ignore[arg-type] # the stub is wrong", False),
        ("noqa", True),
        ("noqa: S603", True),
        ("noqa: S603 # our own interpreter", False),
        ("noqa: S603 our own interpreter", False),
    ],
)
def test_a_bare_ignore_is_caught(line: str, bare: bool) -> None:
    assert bool(BARE_IGNORE.search(f"x = f()  # {line}")) == bare


def test_no_file_names_the_place_it_was_written_in() -> None:
    here = re.compile(re.escape(f"{ROOT}/"))
    assert len(ROOT.parts) < 3 or found(here) == []


# ---- no hint offers a second state file ----------------------------------------------------------

SECOND_STATE = re.compile(
    r"\b(another|other|new|own|different)\b[^.;:]*--state|--state[^.;:]*\b(another|other|new|different)\b"
)


def offers_a_second_state(one: Module) -> list[str]:
    """Return every text of a module that offers a state file beside the one that is there."""
    texts = [node.value for node in ast.walk(one.tree) if isinstance(node, ast.Constant)]
    return [text for text in texts if isinstance(text, str) and SECOND_STATE.search(text)]


@pytest.mark.parametrize("one", modules(), ids=lambda one: one.place)
def test_no_text_offers_a_second_state_file_which_would_be_a_second_ledger(one: Module) -> None:
    assert offers_a_second_state(one) == []


@pytest.mark.parametrize(
    "hint",
    [
        "give this user the right, or name another file with --state",
        "use that newer version, or another state (--state)",
        "or use another --state",
        "give --state another file",
    ],
)
def test_a_hint_that_offers_a_second_state_file_is_caught(hint: str) -> None:
    assert offers_a_second_state(module(f"hint = {hint!r}"))


# ---- files whose path a user gives are read in one place -----------------------------------------

READS_OF_ITS_OWN = {
    "regular_file.py": "the place where such files are read",
    "clock.py": "files of the kernel, at fixed paths",
    "store/sqlite/mounts.py": "a file of the kernel, at a fixed path",
    "schema_files.py": "files of the package",
    "web/page/render.py": "files of the package",
    "cli/main.py": "the null device",
    "cli/output.py": "the null device",
    "atomic_create.py": "makes a file that must not exist before",
    "cli/demo_tour.py": "a file that the tour itself wrote, in a folder of its own",
    "store/sqlite/file_access.py": "folders, and a scratch file that must not exist before",
    "store/sqlite/file_locks.py": "lock files: opened without waiting, and checked when open",
    "store/state_registry.py": "folders, and lock files: opened without waiting, and checked when open",
    "store/sqlite/file.py": "the state, once it was seen to be a regular file; a folder; a new file",
    "store/sqlite/connection.py": "the state, once it was seen to be a regular file",
    "store/sqlite/wal_check.py": "the log beside a state, after SQLite itself opened the state",
}
"""The only modules that open or read files without ``read_regular``, and what they read."""


def plain_reads(one: Module) -> list[str]:
    """Return every call of a module that opens or reads a file at a path, and so waits at a named pipe."""
    calls = [node.func for node in ast.walk(one.tree) if isinstance(node, ast.Call)]
    return [ast.unparse(call) for call in calls if _opens(call)]


def _opens(call: ast.expr) -> bool:
    if isinstance(call, ast.Name):
        return call.id == "open"
    if not isinstance(call, ast.Attribute):
        return False
    if call.attr == "open":
        return isinstance(call.value, ast.Name) and call.value.id in ("os", "io", "Path")
    return call.attr in ("read_bytes", "read_text")


@pytest.mark.parametrize("one", modules(), ids=lambda one: one.place)
def test_what_a_user_names_is_read_without_waiting_at_a_named_pipe(one: Module) -> None:
    assert bool(plain_reads(one)) == (one.place in READS_OF_ITS_OWN), plain_reads(one)


@pytest.mark.parametrize(
    "source",
    ["open(path)", "os.open(path, 0)", "Path(path).read_text()", "path.read_bytes()", "io.open(p)"],
)
def test_a_plain_read_is_caught(source: str) -> None:
    assert plain_reads(module(source))
