"""What a person at a terminal sees: the question before anything is sent, the bar while it is paced."""

from __future__ import annotations

import io
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pexpect
import pytest

from tests.e2e.processes import MMP, Desk, Exchange

pytestmark = pytest.mark.e2e

ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@contextmanager
def at_a_terminal(desk: Desk, *arguments: str) -> Iterator[pexpect.spawn[str]]:
    """Run ``mmp`` on a terminal of its own; nothing it shows may contain a secret."""
    child: pexpect.spawn[str] = pexpect.spawn(
        MMP,
        list(arguments),
        cwd=str(desk.folder),
        env=desk.environment,
        encoding="utf-8",
        timeout=30,
        dimensions=(40, 160),
    )
    shown = io.StringIO()
    child.logfile_read = shown
    try:
        yield child
    finally:
        child.close(force=True)
    assert not [secret for secret in desk.secrets if secret in shown.getvalue()]


def ended(child: pexpect.spawn[str]) -> tuple[int | None, str]:
    """Wait for the end; returns the exit status and what was still shown, without colours."""
    child.expect(pexpect.EOF)
    child.wait()
    return child.exitstatus, ANSI.sub("", child.before or "")


@pytest.mark.slow
def test_a_yes_is_asked_for_and_the_bar_says_when_it_will_be_done(desk: Desk, exchange: Exchange) -> None:
    desk.wants({"BTC-USD": "5s/2s/100", "ETH-USD": "5s/2s/100", "SOL-USD_UM": "5s/2s/100"})
    with at_a_terminal(desk, "apply", "--assume-idle") as child:
        child.expect("Plan: 3 to set")
        child.expect(r"Send 3 requests to the SIMULATOR at 127.0.0.1\? \[y/N\]")
        assert exchange.written() == []
        child.sendline("y")
        child.expect("applied BTC-USD")
        child.expect("applied ETH-USD")
        child.expect(r"next SOL-USD_UM at \d\d:\d\d:\d\d, done at \d\d:\d\d:\d\d")
        status, shown = ended(child)
    assert status == 0
    assert "Done: 3 applied." in shown
    assert exchange.written() == ["BTC-USD", "ETH-USD", "SOL-USD_UM"]


@pytest.mark.parametrize(("answer", "status"), [("n\r", 1), ("\r", 1), ("\x03", 130), ("\x04", 130)])
def test_anything_but_a_yes_sends_nothing(desk: Desk, exchange: Exchange, answer: str, status: int) -> None:
    desk.wants({"BTC-USD": "5s/2s/100"})
    with at_a_terminal(desk, "apply", "--assume-idle") as child:
        child.expect(r"Send 1 request to the SIMULATOR at 127.0.0.1\? \[y/N\]")
        child.send(answer)
        came_to, shown = ended(child)
    assert (came_to, exchange.written()) == (status, [])
    assert "Nothing was sent." in shown


def test_a_plan_that_moved_while_it_was_asked_about_is_not_sent(desk: Desk, exchange: Exchange) -> None:
    desk.wants({"BTC-USD": "5s/2s/100", "ETH-USD": "5s/2s/100"})
    exchange.change("ETH-USD", "5000/2000/100")
    with at_a_terminal(desk, "apply", "--assume-idle") as child:
        child.expect(r"Send 1 request to the SIMULATOR at 127.0.0.1\? \[y/N\]")
        exchange.change("ETH-USD", "5000/2000/900")
        child.sendline("y")
        status, shown = ended(child)
    assert (status, exchange.written()) == (5, [])
    assert "error[plan-moved]" in shown
    assert "run it again" in shown


def test_a_yes_to_a_saved_plan_does_not_send_a_family_that_was_shown_as_stale(
    desk: Desk, exchange: Exchange
) -> None:
    for family in ("BTC-USD", "ETH-USD"):
        exchange.change(family, "5000/2000/100")
    desk.wants({"BTC-USD": "5s/2s/90", "ETH-USD": "5s/2s/400"})
    assert desk.mmp("plan", "--out", "plan.json").status == 0
    exchange.change("ETH-USD", "5000/2000/50")
    with at_a_terminal(desk, "apply", "plan.json", "--assume-idle") as child:
        child.expect(r"Send 1 request to the SIMULATOR at 127.0.0.1\? \[y/N\]")
        child.sendline("y")
        status, shown = ended(child)
    assert (status, exchange.written()) == (6, ["BTC-USD"])
    assert "changed since the plan file was made: qtyLimit is 50, not 100: skipped" in shown


def test_a_person_who_is_asked_sees_what_an_override_is_for(desk: Desk, exchange: Exchange) -> None:
    exchange.change("BTC-USD", "5000/2000/100")
    desk.wants({"BTC-USD": "disabled/2s/100"})
    override = ("--allow", "disable:BTC-USD", "--reason", "delisted")
    with at_a_terminal(desk, "apply", "--assume-idle", "--yes", *override) as child:
        status, shown = ended(child)
    assert (status, "allow-unseen" in shown) == (64, True), "nobody is asked"
    with at_a_terminal(desk, "apply", "--assume-idle", *override) as child:
        child.expect(r"Send 1 request to the SIMULATOR at 127.0.0.1\? \[y/N\]")
        child.sendline("y")
        status, _ = ended(child)
    assert (status, exchange.written()) == (0, ["BTC-USD"])


def test_what_is_only_recorded_may_have_moved(desk: Desk, exchange: Exchange) -> None:
    desk.wants({"BTC-USD": "5s/2s/100", "ETH-USD": "5s/2s/100"})
    exchange.change("ETH-USD", "5000/2000/100")
    with at_a_terminal(desk, "apply", "--assume-idle") as child:
        child.expect(r"\[y/N\]")
        assert desk.mmp("apply", "--family", "ETH-USD").status == 0
        child.sendline("y")
        status, _ = ended(child)
    assert (status, exchange.written()) == (0, ["BTC-USD"])


def test_sigterm_is_an_answer_to_the_question(desk: Desk, exchange: Exchange) -> None:
    desk.wants({"BTC-USD": "5s/2s/100"})
    with at_a_terminal(desk, "apply", "--assume-idle") as child:
        child.expect(r"\[y/N\]")
        child.kill(signal.SIGTERM)
        child.timeout = 5
        status, shown = ended(child)
    assert (status, exchange.written()) == (143, [])
    assert "Nothing was sent." in shown


@pytest.mark.parametrize(
    ("flags", "variables", "colored"),
    [
        (("--color", "never"), {}, False),
        (("--color", "never"), {"FORCE_COLOR": "1"}, False),
        ((), {"NO_COLOR": "1"}, False),
        (("--color", "always"), {"NO_COLOR": "1"}, True),
        ((), {"FORCE_COLOR": "1"}, True),
    ],
)
def test_the_bar_is_coloured_as_everything_else_is(
    desk: Desk, exchange: Exchange, flags: tuple[str, ...], variables: dict[str, str], colored: bool
) -> None:
    desk.wants({"BTC-USD": "5s/2s/100", "ETH-USD": "5s/2s/100"})
    desk.environment.update(variables)
    with at_a_terminal(desk, "apply", "--yes", "--assume-idle", "--output", "json", *flags) as child:
        child.expect(pexpect.EOF)
        shown = child.before or ""
    assert "applied ETH-USD" in shown
    assert bool(COLOUR.search(shown)) is colored


def test_who_is_asked_sees_the_plan_also_where_a_document_is_wanted(desk: Desk, exchange: Exchange) -> None:
    desk.wants({"BTC-USD": "5s/2s/100"})
    with at_a_terminal(desk, "apply", "--output", "json") as child:
        child.expect("Plan: 1 to set")
        child.expect(r"\[y/N\]")
        child.sendline("n")
        _, shown = ended(child)
    assert '"code": "declined"' in shown
    assert exchange.written() == []


def test_nothing_to_send_is_nothing_to_ask(desk: Desk, exchange: Exchange) -> None:
    exchange.change("BTC-USD", "5000/2000/100")
    desk.wants({"BTC-USD": "5s/2s/100"})
    with at_a_terminal(desk, "apply") as child:
        status, shown = ended(child)
    assert (status, "[y/N]" in shown) == (0, False)
    assert "adopted" in shown


def test_ctrl_c_while_waiting_for_a_slot_is_130(desk: Desk, exchange: Exchange) -> None:
    desk.wants({"BTC-USD": "5s/2s/100", "ETH-USD": "5s/2s/100", "SOL-USD_UM": "5s/2s/100"})
    with at_a_terminal(desk, "apply", "--yes", "--assume-idle") as child:
        child.expect("next SOL-USD_UM at")
        child.send("\x03")
        status, shown = ended(child)
    assert status == 130
    assert "stopped by a signal; nothing is in flight" in shown
    assert exchange.written() == ["BTC-USD", "ETH-USD"]


def test_a_terminal_gets_colours_unless_they_are_switched_off(desk: Desk) -> None:
    desk.wants({"BTC-USD": "5s/2s/100"})
    with at_a_terminal(desk, "plan") as child:
        child.expect(pexpect.EOF)
        assert "\x1b[32m" in (child.before or "")
    desk.environment["NO_COLOR"] = "1"
    with at_a_terminal(desk, "plan") as child:
        child.expect(pexpect.EOF)
        assert "\x1b[" not in (child.before or "")
