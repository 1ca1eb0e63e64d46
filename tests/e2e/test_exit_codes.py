"""Every exit status of the contract, each caused on purpose with the installed command."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable

import pytest

from reconciler.errors import Exit
from tests.e2e.processes import Desk, Ended, Exchange

pytestmark = [pytest.mark.e2e, pytest.mark.installed]

BTC = {"BTC-USD": "5s/2s/100"}
TWO = {**BTC, "ETH-USD": "5s/2s/100"}
THREE = {**TWO, "SOL-USD_UM": "5s/2s/100"}
APPLY = ("apply", "--yes", "--assume-idle")

Scene = Callable[[Desk, Exchange], Ended]


def done(desk: Desk, exchange: Exchange) -> Ended:
    desk.wants(BTC)
    return desk.mmp(*APPLY)


def changes_without_opting_in(desk: Desk, exchange: Exchange) -> Ended:
    desk.wants(BTC)
    return desk.mmp("plan")


def only_to_adopt(desk: Desk, exchange: Exchange) -> Ended:
    exchange.change("BTC-USD", "5000/2000/100")
    desk.wants(BTC)
    return desk.mmp("plan", "--detailed-exitcode")


def run_stopped(desk: Desk, exchange: Exchange) -> Ended:
    desk.wants(BTC)
    running = desk.start("run", "--assume-idle")
    exchange.wait_for_requests(1)
    running.signal(signal.SIGTERM)
    return running.wait()


def exchange_out(desk: Desk, exchange: Exchange) -> Ended:
    desk.wants(BTC)
    exchange.control("outage", seconds=60)
    return desk.mmp("plan")


def setting_refused(desk: Desk, exchange: Exchange) -> Ended:
    exchange.control("fault", fault="set/51000:9")
    desk.wants(BTC)
    return desk.mmp(*APPLY)


def changes_asked_about(desk: Desk, exchange: Exchange) -> Ended:
    desk.wants(BTC)
    return desk.mmp("plan", "--detailed-exitcode")


def guarded(desk: Desk, exchange: Exchange) -> Ended:
    exchange.change("BTC-USD", "5000/2000/100")
    desk.wants({"BTC-USD": "disabled/2s/100"})
    return desk.mmp(*APPLY)


def failed_on(desk: Desk, exchange: Exchange) -> Ended:
    exchange.change("BTC-USD", "5000/2000/10")
    desk.wants(BTC)
    return desk.mmp("plan", "--fail-on", "loosen")


def protected(desk: Desk, exchange: Exchange) -> Ended:
    desk.wants(BTC)
    (desk.folder / "mmp-policy.yaml").write_text("version: 1\nprotected: [BTC-USD]\n")
    return desk.mmp("pause", "--family", "BTC-USD")


def invalid(desk: Desk, exchange: Exchange) -> Ended:
    desk.config.write_text("families: {}\n")
    return desk.mmp("validate")


def unexpected(desk: Desk, exchange: Exchange) -> Ended:
    desk.wants(BTC)
    return desk.mmp(*APPLY, "--expect", "sha256:" + "0" * 64)


def partly(desk: Desk, exchange: Exchange) -> Ended:
    exchange.change("ETH-USD", "5000/2000/100")
    exchange.control("fault", fault="set/51000:9")
    desk.wants(TWO)
    return desk.mmp(*APPLY)


def locked(desk: Desk, exchange: Exchange) -> Ended:
    desk.wants(THREE)
    holder = desk.start(*APPLY)
    exchange.wait_for_requests(2)
    ended = desk.mmp(*APPLY, "--lock-timeout", "200ms")
    holder.kill()
    return ended


def wrong_key(desk: Desk, exchange: Exchange) -> Ended:
    desk.wants(BTC)
    return desk.mmp("plan", env={"OKX_PASSPHRASE": "wrong-on-purpose"})


def frozen(desk: Desk, exchange: Exchange) -> Ended:
    exchange.change("BTC-USD", "5000/0/900")
    exchange.control("freeze", family="BTC-USD")
    desk.wants({"BTC-USD": "5s/until-reset/100"})
    return desk.mmp(*APPLY)


def paused(desk: Desk, exchange: Exchange) -> Ended:
    desk.uses_state(exchange)
    desk.wants(BTC)
    assert desk.mmp("pause", "--family", "*").status == 0
    return desk.mmp(*APPLY)


def mistyped(desk: Desk, exchange: Exchange) -> Ended:
    desk.wants(BTC)
    return desk.mmp("plan", "--detailed-exit-code")


def unapproved(desk: Desk, exchange: Exchange) -> Ended:
    desk.wants(BTC)
    return desk.mmp("apply")


def signalled(number: signal.Signals) -> Scene:
    def scene(desk: Desk, exchange: Exchange) -> Ended:
        desk.wants(THREE)
        running = desk.start(*APPLY)
        exchange.wait_for_requests(2)
        running.signal(number)
        return running.wait()

    return scene


SCENES: list[tuple[str, Exit, Scene]] = [
    ("done", Exit.DONE, done),
    ("changes nobody opted into", Exit.DONE, changes_without_opting_in),
    ("only to adopt", Exit.DONE, only_to_adopt),
    ("run stopped by SIGTERM", Exit.DONE, run_stopped),
    ("the exchange is out", Exit.FAILED, exchange_out),
    ("the only setting is refused", Exit.FAILED, setting_refused),
    ("changes asked about", Exit.CHANGES, changes_asked_about),
    ("held by the guard", Exit.REFUSED, guarded),
    ("named by --fail-on", Exit.REFUSED, failed_on),
    ("protected from a pause", Exit.REFUSED, protected),
    ("the file is invalid", Exit.INVALID, invalid),
    ("another plan than expected", Exit.STALE, unexpected),
    ("one adopted, one refused", Exit.PARTLY, partly),
    ("held by another process", Exit.LOCKED, locked),
    ("a wrong key", Exit.ACCOUNT, wrong_key),
    ("all frozen", Exit.HELD, frozen),
    ("all paused", Exit.HELD, paused),
    ("a mistyped flag", Exit.USAGE, mistyped),
    ("nobody approved", Exit.USAGE, unapproved),
    ("apply stopped by SIGHUP", Exit.HANGUP, signalled(signal.SIGHUP)),
    ("apply stopped by SIGINT", Exit.INTERRUPTED, signalled(signal.SIGINT)),
    ("apply stopped by SIGTERM", Exit.TERMINATED, signalled(signal.SIGTERM)),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "scene"), [(status, scene) for _, status, scene in SCENES], ids=[one[0] for one in SCENES]
)
def test_a_command_ends_with_the_status_of_what_happened(
    desk: Desk, exchange: Exchange, status: Exit, scene: Scene
) -> None:
    ended = scene(desk, exchange)
    assert ended.status == status, ended.stdout + ended.stderr


def test_every_status_of_the_contract_is_brought_about() -> None:
    assert {status for _, status, _ in SCENES} == set(Exit)


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("plan", "--output", "json"), Exit.INVALID),
        (("doctor", "--output", "json"), Exit.INVALID),
        (("pause", "--family", "*", "--output", "json"), Exit.INVALID),
        (("reset", "BTC-USD", "--output", "json"), Exit.INVALID),
        (("reset", "nonsense", "--output", "json"), Exit.USAGE),
        (("init", "mmp.yaml", "--output", "json"), Exit.INVALID),
        (("import", "--output", "json"), Exit.INVALID),
        (("explain", "nonsense", "--output", "json"), Exit.USAGE),
        (("completion", "powershell", "--output", "json"), Exit.USAGE),
        (("nonsense", "--output", "json"), Exit.USAGE),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else None,
)
def test_a_failure_is_a_document_too_where_one_was_asked_for(
    desk: Desk, arguments: tuple[str, ...], status: Exit
) -> None:
    desk.config.write_text("families: {}\n")
    ended = desk.mmp(*arguments)
    assert ended.status == status, ended.stderr
    assert json.loads(ended.stdout)["format"].startswith("mmp/")
