"""A new account that cannot start because of its file or its key: every output reports it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.processes import Desk, Exchange, configured, eventually, simulator
from tests.e2e.web_client import Sidecar, ends_well
from tests.support.webhook import Webhook, webhook

pytestmark = pytest.mark.e2e

PREFIX = "{prefix: SECOND_}"


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    """An exchange with two accounts, where BTC-USD matches the first file."""
    with simulator("--accounts", "2", families=configured("BTC-USD", "ETH-USD")) as running:
        yield running


def begun(desk: Desk, hook: Webhook, **env: str) -> Sidecar:
    """Return a sidecar that runs the first account of a folder."""
    (desk.folder / "accounts").mkdir()
    desk.wants({"BTC-USD": "5s/2s/100"}, name="accounts/a.yaml")
    process = desk.start(
        *("run", "--assume-idle", "--interval", "1s", "--listen", "127.0.0.1:0", "-c", "accounts"),
        env={"MMP_NOTIFY": hook.url(), **env},
    )
    sidecar = Sidecar(process, process.wait_for_log("listening")["url"])
    sidecar.wait_for("/readyz", 15.0)
    return sidecar


def notification_of(hook: Webhook, kind: str, turn: str) -> dict[str, Any]:
    """Return the one notification of that kind and status, which has to arrive within 15 s."""

    def found() -> list[dict[str, Any]]:
        return [one for one in hook.documents() if (one["kind"], one["status"]) == (kind, turn)]

    (one,) = eventually(found, 15.0, f"{kind} {turn}")
    return dict(one)


def second_key(exchange: Exchange) -> dict[str, str]:
    """Return the key of the second account under a prefix of its own."""
    return {
        name.replace("OKX_", "SECOND_"): value.replace("-1", "-2")
        for name, value in exchange.variables.items()
        if name.startswith("OKX_")
    }


def test_a_broken_file_of_a_new_account_is_reported_everywhere_until_it_is_mended(
    desk: Desk, exchange: Exchange
) -> None:
    with webhook() as hook:
        sidecar = begun(desk, hook, **second_key(exchange))
        desk.wants({"ETH-USD": "5s/2s/1e3"}, name="accounts/b.yaml", account="second", credentials=PREFIX)
        began = notification_of(hook, "config-invalid", "firing")
        assert (began["account"], began["severity"]) == (None, "critical")
        assert "accounts/b.yaml:" in began["text"]
        status, body = sidecar.ask("/readyz")
        assert (status, "settings: accounts/b.yaml:" in body) == (503, True)
        assert sidecar.ask("/livez")[0] == 200
        page = sidecar.ask("/")[1]
        assert "Not known: 1 invalid settings file." in page.replace('<span class="word">', "")
        assert "accounts/b.yaml" in page
        (invalid,) = sidecar.status()["invalid_files"]
        assert (invalid["path"], invalid["accepted_at"]) == ("accounts/b.yaml", None)
        assert sidecar.metric("mmp_invalid_files") == 1
        assert sidecar.metric("mmp_config_invalid_timestamp_seconds", account="") > 0

        desk.wants({"ETH-USD": "5s/2s/70"}, name="accounts/b.yaml", account="second", credentials=PREFIX)
        assert notification_of(hook, "config-invalid", "resolved")["text"].endswith(
            "is valid and in force."
        )
        sidecar.wait_for("/readyz", 5.0)
        document = sidecar.status()
        assert [one["account"] for one in document["statuses"]] == ["main", "second"]
        assert "invalid_files" not in document
        assert sidecar.metric("mmp_invalid_files") == 0
        ends_well(sidecar)


@pytest.mark.slow
def test_a_broken_file_that_goes_away_is_over_too(desk: Desk, exchange: Exchange) -> None:
    with webhook() as hook:
        sidecar = begun(desk, hook)
        (desk.folder / "accounts" / "b.yaml").write_text("version: 1\n")
        notification_of(hook, "config-invalid", "firing")
        (desk.folder / "accounts" / "b.yaml").unlink()
        assert notification_of(hook, "config-invalid", "resolved")["text"].endswith(
            "accounts/b.yaml is gone."
        )
        sidecar.wait_for("/readyz", 5.0)
        ends_well(sidecar)


def test_a_missing_file_that_arrives_invalid_is_not_reported_as_missing(
    desk: Desk, exchange: Exchange
) -> None:
    process = desk.start("run", "--listen", "127.0.0.1:0", "-c", "late.yaml", "--state", str(desk.state))
    sidecar = Sidecar(process, process.wait_for_log("listening")["url"])
    eventually(lambda: "waiting for" in sidecar.ask("/readyz")[1], 5.0, "the wait to be told")
    (desk.folder / "late.yaml").write_text("version: 1\n")
    eventually(lambda: "settings: late.yaml:1:1" in sidecar.ask("/readyz")[1], 5.0, "what is wrong")
    assert "waiting" not in sidecar.ask("/readyz")[1]
    (desk.folder / "late.yaml").unlink()
    eventually(lambda: "waiting for late.yaml" in sidecar.ask("/readyz")[1], 5.0, "the wait again")
    ends_well(sidecar)


@pytest.mark.parametrize(
    ("place", "name", "file"),
    [
        ("late.yaml", "late.yaml", "nowhere.yaml"),
        ("late", "late/late.yaml", "nowhere.yaml"),
        ("late", "late", "nowhere/mmp.yaml"),
    ],
)
def test_a_link_to_nowhere_is_waited_for(
    place: str, name: str, file: str, desk: Desk, exchange: Exchange
) -> None:
    link, target = desk.folder / name, desk.folder / file
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(target.parent if target.name == "mmp.yaml" else target)
    process = desk.start("run", "--listen", "127.0.0.1:0", "-c", place, "--state", str(desk.state))
    sidecar = Sidecar(process, process.wait_for_log("listening")["url"])
    eventually(lambda: f"waiting for {name}" in sidecar.ask("/readyz")[1], 5.0, "the wait to be told")
    assert f"waiting for {name}" in sidecar.ask("/startupz")[1]
    target.parent.mkdir(exist_ok=True)
    desk.wants({"BTC-USD": "5s/2s/100"}, name=file)
    sidecar.wait_for("/readyz", 20.0)
    ends_well(sidecar)


def test_an_account_without_a_key_is_reported_everywhere(desk: Desk, exchange: Exchange) -> None:
    with webhook() as hook:
        sidecar = begun(desk, hook)
        desk.wants({"ETH-USD": "5s/2s/70"}, name="accounts/b.yaml", account="second", credentials=PREFIX)
        began = notification_of(hook, "key-problem", "firing")
        assert (began["account"], began["details"]["code"]) == ("second", "credentials-missing")
        status, body = sidecar.ask("/readyz")
        assert (status, "key-second-live: SECOND_API_KEY" in body) == (503, True)
        second = next(one for one in sidecar.status()["statuses"] if one["account"] == "second")
        assert second["watch"]["terminal_error"]["code"] == "credentials-missing"
        assert (second["watch"]["protection"], second["in_sync"]) == ("unknown", False)
        assert sidecar.metric("mmp_key_problem", account="second") == 1
        assert sidecar.metric("mmp_key_problem", account="main") == 0
        ends_well(sidecar)
