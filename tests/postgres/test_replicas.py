"""Several ``run`` processes on one state in PostgreSQL: which runs what, and which takes over when."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.processes import eventually
from tests.e2e.web_client import Sidecar
from tests.postgres.many_accounts import BTC, Fleet, fleet, owned
from tests.support.postgres import Server
from tests.support.relay import relay

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

TAKEN_OVER_S = 15.0
"""The promise after a death; it does not include how soon the exchange is queried then."""


@pytest.fixture
def six(postgres: Server, tmp_path: Path) -> Iterator[Fleet]:
    """Six accounts of one family each."""
    with fleet(postgres, tmp_path / "desk", 6, families=(BTC,)) as made:
        yield made


def shared_evenly(*replicas: Sidecar) -> bool:
    kept = [owned(one) for one in replicas]
    every = sorted(account for accounts in kept for account in accounts)
    return len(every) == len(set(every)) == 6 and max(map(len, kept)) - min(map(len, kept)) <= 1


def accounts_of_other(asked: Sidecar, other: Sidecar) -> list[str]:
    """Return the accounts that ``asked`` reports as run by the other replica."""
    elsewhere = json.loads(asked.ask("/api/v1/status")[1])["other_accounts"]
    assert len(elsewhere) + len(owned(asked)) >= 6
    return [each["account"] for each in elsewhere if (each["owner"] or {}).get("pid") == other.process.pid]


def pair(six: Fleet) -> tuple[Sidecar, Sidecar]:
    """Return two replicas that share the accounts evenly, when everything matches the files."""
    one, two = six.listening(), six.listening()
    for sidecar in (one, two):
        sidecar.wait_for("/startupz", 20.0)
    eventually(lambda: shared_evenly(one, two), 12.0, "both to have their share")
    return one, two


def test_replicas_share_the_accounts_and_take_over_from_a_dead_one(six: Fleet) -> None:
    one, two = pair(six)
    six.wait_until_right(1.0)
    assert len(six.exchange.arrivals()) == 6

    dead = owned(one)
    one.process.kill()
    for account in dead:
        six.wants(account, {BTC: 90})
    assert six.wait_until_right(TAKEN_OVER_S + 3.0) < TAKEN_OVER_S
    assert two.metric("mmp_takeovers_total", account=dead[0]) == 1
    assert owned(two) == six.accounts
    assert (two.metric("mmp_leases"), two.metric("mmp_replicas")) == (6, 1)
    assert len(six.exchange.arrivals()) == 9
    assert set(six.owners().values()) == {two.process.pid}


def refused(asked: Sidecar) -> list[str]:
    """Return the accounts run by ``asked`` for which it reports that a newer file is rejected."""
    statuses = json.loads(asked.ask("/api/v1/status")[1])["statuses"]
    configs = {one["account"]: one["watch"]["config"] for one in statuses}
    # Null for the moment in which the account was taken and its file is not reported yet.
    return [account for account, config in configs.items() if config and config["invalid_at"]]


def test_who_takes_over_says_that_a_newer_file_is_refused_and_all_do_of_a_new_one(six: Fleet) -> None:
    one, two = pair(six)
    account = owned(one)[0]
    file = six.desk.folder / "accounts" / f"{account}.yaml"
    file.write_text(file.read_text().replace("/100", "/1e3").replace("qtyLimit: 100", "qtyLimit: 1e3"))
    eventually(lambda: refused(one) == [account], 10.0, "the owner to say so")
    one.process.kill()
    eventually(lambda: refused(two) == [account], TAKEN_OVER_S + 5.0, "who took over to say so")
    assert two.ask("/readyz")[0] == 200
    (six.desk.folder / "accounts" / "new.yaml").write_text("version: 1\n")
    eventually(lambda: two.ask("/readyz")[0] == 503, 10.0, "the new file to be told of")
    assert two.metric("mmp_invalid_files") == 1


def test_who_is_stopped_leaves_at_once_and_a_newcomer_gets_its_share(six: Fleet) -> None:
    one = six.listening()
    one.wait_for("/startupz", 20.0)
    assert owned(one) == six.accounts
    two = six.listening()
    eventually(lambda: shared_evenly(one, two), 12.0, "the newcomer to have its share")
    eventually(lambda: accounts_of_other(one, two) == owned(two), 6.0, "one to know what the other keeps")
    assert f"(pid {two.process.pid})" in one.ask("/")[1]

    began = time.monotonic()
    one.process.signal(signal.SIGTERM)
    assert one.process.wait().status == 0
    eventually(lambda: owned(two) == six.accounts, 6.0, "the other to have everything")
    assert time.monotonic() - began < 6.0
    assert two.ask("/readyz")[0] == 200


def test_a_pipeline_enters_between_the_passes_of_a_replica(six: Fleet) -> None:
    sidecar = six.listening()
    sidecar.wait_for("/startupz", 20.0)
    six.wants("desk-003", {BTC: 70})
    ended = six.desk.mmp("apply", "-c", "accounts", "--yes", "--output", "json")
    assert ended.status == 0, ended.stderr
    assert six.different() == []
    assert len(six.exchange.arrivals()) == 7, "either of them, once"


def test_replicas_wait_for_a_server_that_is_away_and_lose_no_account(six: Fleet, postgres: Server) -> None:
    one, two = pair(six)
    before = owned(one), owned(two)
    postgres.stop()
    eventually(lambda: one.ask("/readyz")[0] == 503, 15.0, "the probe to say that the state is away")
    assert "cannot be used now" in one.ask("/readyz")[1]
    assert one.ask("/livez")[0] == 200
    six.wants("desk-001", {BTC: 60})
    postgres.start()
    for sidecar in (one, two):
        sidecar.wait_for("/readyz", 15.0)
    six.wait_until_right(10.0)
    assert (owned(one), owned(two)) == before
    assert len(six.exchange.arrivals()) == 7
    assert one.metric("mmp_state_failures_total") > 0


def test_a_replica_whose_file_comes_late_has_not_started_before_the_account_is_owned(
    six: Fleet, postgres: Server
) -> None:
    early, late = six.desk.folder / "accounts" / "desk-006.yaml", six.desk.folder / "late.yaml"
    text = early.read_text()
    early.unlink()
    six.listening().wait_for("/startupz", 20.0)
    process = six.desk.start("run", "--listen", "127.0.0.1:0", "-c", "late.yaml")
    sidecar = Sidecar(process, process.wait_for_log("listening")["url"])
    eventually(lambda: sidecar.ask("/readyz")[1] == "settings: waiting for late.yaml\n", 10.0, "the wait")
    postgres.stop()
    late.write_text(text)
    process.wait_for_log("config accepted")
    status, message = sidecar.ask("/startupz")
    assert (status, "leases: " in message) == (503, True)
    postgres.start()
    sidecar.wait_for("/startupz", 30.0)
    assert owned(sidecar) == ["desk-006"]


def test_one_that_was_stopped_for_long_finds_its_accounts_taken_and_sends_nothing(six: Fleet) -> None:
    one, two = pair(six)
    lost = owned(one)
    one.process.signal(signal.SIGSTOP)
    for account in lost:
        six.wants(account, {BTC: 80})
    assert six.wait_until_right(TAKEN_OVER_S + 3.0) < TAKEN_OVER_S
    arrived = len(six.exchange.arrivals())
    one.process.signal(signal.SIGCONT)
    eventually(lambda: shared_evenly(one, two), 25.0, "both to have their share again")
    time.sleep(3.0)
    assert len(six.exchange.arrivals()) == arrived
    assert six.different() == []


def test_names_for_one_user_id_do_not_contest_a_family_across_replicas(six: Fleet) -> None:
    """One new name on each replica, with the key of the first account: held on either replica."""
    one, two = pair(six)
    for name in ("desk-007", "desk-008"):
        top = {"account": name, "credentials": "{prefix: A1_}"}
        six.desk.wants({BTC: "5s/2s/33"}, name=f"accounts/{name}.yaml", **top)

    def lines() -> list[str]:
        every = [line for each in (one, two) for line in each.process.log()]
        return [line["account"] for line in every if line.get("code") == "claimed-twice"]

    def reported_accounts() -> set[str]:
        return set(lines())

    eventually(lambda: reported_accounts() == {"desk-007", "desk-008"}, 60.0, "both to be notified")
    time.sleep(10.0)  # accounts still move, and the conflict may be with another one then
    count = len(lines())
    time.sleep(8.0)
    assert six.exchange.live_of_all()["999000000001"][BTC] == "5000/2000/100"
    assert len(lines()) == count, "told once, and held for good"


def test_a_damaged_row_of_one_account_holds_that_account_and_ends_no_process(
    six: Fleet, postgres: Server
) -> None:
    one, two = pair(six)
    keeps, other = (one, two) if "desk-001" in owned(one) else (two, one)

    def change_row(quantity: int) -> None:
        row = "account = 'desk-001'"
        postgres.ask(f"UPDATE mmp.applied SET qty_limit = '{quantity}' WHERE {row}", six.database)

    change_row(999)
    eventually(lambda: keeps.ask("/readyz")[0] == 503, 15.0, "the probe to say so")
    assert "state-desk-001-live: " in keeps.ask("/readyz")[1]
    assert keeps.metric("mmp_key_problem", account="desk-001") == 1
    assert keeps.process.wait_for_log("account loop failed: will restart")["code"] == "state-damaged"
    for account in six.accounts:
        six.wants(account, {BTC: 60})
    eventually(lambda: six.different() == ["desk-001"], 15.0, "all others to be as their files say")
    assert shared_evenly(one, two)
    assert other.ask("/readyz")[0] == 200
    change_row(100)
    keeps.process.signal(signal.SIGHUP)
    six.wait_until_right(10.0)
    keeps.wait_for("/readyz", 10.0)


CANNOT = "lease released: this replica cannot serve the account"
MOVED_S = 45.0
"""20 s of failed reads, the heartbeat of the other one, and the time to release and to take leases."""


def with_env(six: Fleet, env: dict[str, str]) -> Sidecar:
    """Start one more replica with variables of its own."""
    flags = ("--assume-idle", "--interval", "5s", "--listen", "127.0.0.1:0")
    process = six.desk.start(
        "run",
        "-c",
        "accounts",
        "--assume-idle",
        "--interval",
        "5s",
        "--listen",
        "127.0.0.1:0",
        *flags,
        env=env,
    )
    return Sidecar(process, process.wait_for_log("listening")["url"])


def test_the_accounts_of_one_that_is_cut_off_from_the_exchange_move_to_the_healthy_one(six: Fleet) -> None:
    port = int(six.exchange.url.rsplit(":", 1)[1])
    with relay(port) as way:
        one, two = with_env(six, {"MMP_BASE_URL": f"http://127.0.0.1:{way.port}"}), six.listening()
        for sidecar in (one, two):
            sidecar.wait_for("/startupz", 20.0)
        eventually(lambda: shared_evenly(one, two), 15.0, "both to have their share")
        way.cut = True
        for account in owned(one):
            six.wants(account, {BTC: 80})
        eventually(lambda: owned(two) == six.accounts, MOVED_S, "the healthy one to have everything")
        six.wait_until_right(10.0)
        assert owned(one) == []
        assert one.process.wait_for_log(CANNOT)["account"] in six.accounts
        assert one.metric("mmp_unable_accounts") == 6
        assert "cannot serve 6 accounts" in one.ask("/")[1]
        time.sleep(10.0)
        assert owned(two) == six.accounts, "nothing goes to and fro"
        assert two.metric("mmp_unable_accounts") == 0
        six.check_pace()


def test_one_that_gave_everything_up_has_it_again_when_the_other_one_is_cut_off(six: Fleet) -> None:
    port = int(six.exchange.url.rsplit(":", 1)[1])
    with relay(port) as way, relay(port) as other_way:
        one = with_env(six, {"MMP_BASE_URL": f"http://127.0.0.1:{way.port}"})
        two = with_env(six, {"MMP_BASE_URL": f"http://127.0.0.1:{other_way.port}"})
        eventually(lambda: shared_evenly(one, two), 30.0, "both to have their share")
        way.cut = True
        eventually(lambda: owned(two) == six.accounts, MOVED_S, "the healthy one to have everything")
        way.cut, other_way.cut = False, True
        eventually(lambda: owned(one) == six.accounts, 120.0, "the first to have everything again")


def test_while_the_exchange_is_away_for_all_nothing_moves(six: Fleet) -> None:
    one, two = pair(six)
    before = owned(one), owned(two)
    six.exchange.control("fault", fault="get/lost-before:always")
    eventually(lambda: one.metric("mmp_unable_accounts") > 0, 40.0, "the accounts to be reported")
    time.sleep(10.0)
    assert (owned(one), owned(two)) == before


def test_an_account_whose_key_is_refused_at_one_replica_is_the_other_ones(six: Fleet) -> None:
    wrong = with_env(six, {"A3_PASSPHRASE": "not-its-passphrase"})
    wrong.wait_for("/livez", 10.0)
    eventually(lambda: owned(wrong) == six.accounts, 20.0, "it to have everything")
    right = six.listening()
    eventually(lambda: "desk-003" in owned(right), 30.0, "the account to move")
    six.wait_until_right(20.0)
    eventually(lambda: shared_evenly(wrong, right), 20.0, "both to have their share")
    assert "desk-003" in owned(right)
    time.sleep(5.0)
    assert "desk-003" in owned(right)
    assert six.exchange.violations() == []
