"""What each log line means and what to do about it, for ``docs/reference/log-events.md``.

``logged()`` finds the lines in the code; ``test_reference.py`` checks that ``MEANINGS`` has exactly these.
"""

from __future__ import annotations

import re

from tests.tidy.source import PACKAGE
from tests.unit.test_logs import ROWS

CALL = re.compile(r'(?:\w\(\s*"|logger\.)(debug|info|warning|error)(?:",\s*|\()f?"([^"]+)"')
"""A line that is logged without an event, or beside one."""

MEANINGS: dict[tuple[str, str], str] = {
    ("error", "a request could not be answered: this is a bug in mmp"): (
        "An HTTP request to `--listen` failed. The loops are not affected. Please report it."
    ),
    ("error", "config invalid, the last valid version stays in use"): (
        "The new content of the settings file is invalid; `at` and `reason` say where and why. "
        "The last valid version stays in use. Correct the file."
    ),
    ("error", "config invalid; no valid version yet, account not started"): (
        "The settings file is invalid and never was valid. Correct the file; the account then starts."
    ),
    ("error", "account loop failed: will restart"): (
        "The loop of one account failed, for example because its key is missing. Other accounts continue. "
        "Follow `hint`; mmp tries again."
    ),
    ("error", "failed: …"): (
        "Account, key, environment or clock is not accepted, or mmp has a bug. Follow `hint`. `run` stays "
        "alive and tries again every minute."
    ),
    ("error", "another writer keeps changing this family: paused"): (
        "Another writer keeps changing the family. mmp paused it. Find the other writer, "
        "then run `mmp resume`."
    ),
    (
        "error",
        "policy invalid, the last valid version stays in use: changes that loosen or disable are held",
    ): (
        "The new content of the policy is invalid; `at` and `reason` say where and why. Correct it. With "
        "`policy-missing`: restore the file, or give the policy up with `--no-policy`."
    ),
    ("error", "policy invalid; no valid version yet: changes that loosen or disable are held"): (
        "The policy is invalid and never was valid. Correct it."
    ),
    ("error", "setting rejected by the exchange"): (
        "OKX rejected the family's setting; `code` and `reason` are from OKX. Correct the file. "
        "Other families are not affected."
    ),
    ("error", "state cannot be used"): (
        "The file is busy, or its disk is full or failing; or PostgreSQL is not reachable. "
        "Nothing is sent. mmp tries again after 1, 2, 4 … 30 s."
    ),
    ("warning", "adopted with nothing on record: the policy would refuse it"): (
        "Live settings were recorded although they break the policy; `breaks` names the rules. "
        "Correct the file or the policy."
    ),
    ("warning", "change waits: settings file or policy is being written, or is invalid"): (
        "A change that loosens waits until it is clear which content of the files applies. "
        "Tried again after 1, 2, 4 … 15 s. If this repeats, look at the files."
    ),
    ("warning", "clock measured again"): "OKX rejected the timestamp. Set this machine's clock by NTP.",
    ("warning", "drift: will be restored"): (
        "Someone changed the setting outside mmp. mmp restores it. Find out who did it."
    ),
    ("warning", "failed: measuring the exchange's clock (public/time)"): (
        "Logged once until it works again. No request waits for it. One hour after the last measurement "
        "mmp sends no more requests to set. Allow access to `public/time`."
    ),
    ("warning", "failed: …"): (
        "The step that is named failed. mmp tries again with back-off. `reading one family`: it is not "
        "confirmed yet whether OKX still has a setting of a family that its list leaves out."
    ),
    ("warning", "held"): (
        "The family differs from the file and is not written; `reason` says why. Logged once for each "
        "reason."
    ),
    ("warning", "host changed"): "Another OKX host is used than last time. Check `--base-url`.",
    ("warning", "lease released: this replica cannot serve the account"): (
        "The account's live reads fail here, or its key is rejected here. Another replica takes it."
    ),
    ("warning", "lines dropped: stderr could not be written"): (
        "`lines` log lines are missing here, because stderr was not read or its disk was full."
    ),
    (
        "warning",
        "notification not delivered",
    ): "A webhook did not accept a notification; `reason` says why.",
    ("warning", "notifications dropped"): (
        "The webhook was not reachable for too long; `number` notifications will not be sent."
    ),
    ("warning", "overrides given"): (
        "The command was started with `--allow`; `reason` is recorded. `mmp history` shows which refusals "
        "were overridden."
    ),
    ("warning", "policy given up"): (
        "The command was started with `--no-policy`: from now on only the guard applies. "
        "Leave the flag out next time."
    ),
    ("warning", "read failed, trying again"): (
        "A read of `plan`, `apply`, `import`, `doctor` or `reset` failed and is repeated for 30 s; "
        "`reason` says how it failed."
    ),
    ("warning", "request not sent: too late, live is read again first"): (
        "Opening the connection or the state took more than 10 s. mmp reads live again and decides again. "
        "If this repeats, look at the network and the state."
    ),
    ("warning", "request not-sent"): "No byte left this machine. mmp tries again.",
    ("warning", "request rejected"): "OKX rejected the request; `code` and `reason` are from OKX.",
    ("warning", "request unknown"): (
        "There was no answer from OKX. The family is uncertain until a read or another request settles it; "
        "mmp does this by itself."
    ),
    ("warning", "rows of the list of live settings are left out"): (
        "OKX listed rows without a usable family name. If such a name is almost the name of a family in "
        "your file, that family is held (`unreadable`)."
    ),
    ("warning", "standby: another process controls the account, this one writes nothing"): (
        "Two `mmp run` use one state file; `controller` names the other process. Stop one of them."
    ),
    ("warning", "state is locked"): "Another process has locked the state; `reason` names it.",
    ("warning", "lease lost: another replica took it over"): (
        "This process did not renew its lease: it was stopped, swapping, or cut off from the state."
    ),
    ("warning", "the key may withdraw: use one without the Withdraw permission"): (
        "`apply` and `run` need Read and Trade only. Replace the key by one without Withdraw; "
        "`mmp doctor` checks it."
    ),
    ("warning", "this machine's clock is …"): (
        "The clock is off by more than 1 s. mmp compensates for it. Set the clock by NTP."
    ),
    ("warning", "this process controls the account now: the controller has ended"): (
        "This process was a standby. It now writes."
    ),
    ("info", "invalid config file removed"): (
        "The file was removed; no account ran from it. Nothing is left to correct."
    ),
    ("info", "account identified"): "The key's User ID agrees with the file and the state.",
    ("info", "adopted"): "Live was already as desired; this is recorded without a request.",
    ("info", "applying a reviewed plan"): (
        "A saved plan passed its checks; `made_at` and `digest` are of that plan."
    ),
    ("info", "config accepted"): (
        "This content is used. Logged at the start, after a change and after an invalid version."
    ),
    ("info", "files are read every second"): "inotify cannot be used; `reason` says why.",
    ("info", "lease acquired"): "This replica acquired the lease of the account.",
    ("info", "key replaced: asking the exchange for its account"): (
        "The key files changed. Nothing is sent until OKX has confirmed the User ID."
    ),
    ("info", "lease released to another replica"): "Another replica with fewer accounts takes this one.",
    ("info", "listening"): "Probes, metrics and status are served at `url`.",
    ("info", "notifying"): "Notifications go to this webhook. The rest of its address is a secret.",
    ("info", "planned"): "The requests that follow, and the digest of the plan.",
    ("info", "policy accepted"): (
        "This content is used. Logged at the start, after a change and after an invalid version."
    ),
    ("info", "request applied"): "OKX acknowledged exactly what was sent, and this is recorded.",
    ("info", "still waiting"): "Heartbeat of `apply`: the next family, its time, and the expected end.",
    ("info", "stopped"): "`run` ended.",
    ("info", "lease taken over from a dead replica"): (
        "This replica took the lease of a replica that no longer renewed it; `from` names that replica."
    ),
    ("info", "the exchange answers again"): "The outage is over.",
    ("info", "the exchange's clock can be measured again"): (
        "Ends `failed: measuring the exchange's clock (public/time)`."
    ),
    ("info", "unanswered requests can no longer take effect: live shows another value"): (
        "Live is compared with the last proven setting."
    ),
    ("info", "waiting for a settings file"): "There is no file at `paths` yet.",
    ("debug", "live read"): "One read of live settings ended.",
    ("debug", "notification delivered"): "A webhook accepted a notification.",
    ("debug", "notification tried again"): "A notification is sent again; `reason` says why.",
    ("debug", "pass ended"): "One pass ended.",
    ("debug", "request reserved"): "A request has its slot and is recorded; it is sent next.",
    ("debug", "waiting"): "The loop waits for a slot or a time.",
}
"""By level and event. ``…`` stands for words that differ."""


def logged() -> set[tuple[str, str]]:
    """Return level and event of each line: of the translated events, and of the calls in the code."""
    events = {(level, re.sub(r"^failed: .*", "failed: …", event)) for _, level, event, _ in ROWS}
    return events | {(level, re.sub(r"\{.*", "…", event)) for level, event in CALL.findall(source())}


def source() -> str:
    """Return the code of the package."""
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py")))
