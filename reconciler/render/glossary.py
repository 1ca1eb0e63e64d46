"""What the program's own words mean: error codes, fields, the words of plans and results, statuses.

The texts behind ``mmp explain``, beside the problems of files (``problems.CATALOGUE``) and OKX's
codes (``okx.codes``). Facts only; tests hold that every code and word the program can say is here.
"""

from __future__ import annotations

from reconciler.core.problems import Explanation
from reconciler.core.reply import ReplyClass
from reconciler.errors import Exit


def _row(title: str, meaning: str, remedy: str = "") -> Explanation:
    return Explanation(title, meaning, remedy)


_ANEW = (
    "Run mmp state check to see what is still readable: pauses are lost with the file. Then move the file "
    "away and find out what happened. Let mmp create a new one, a minute after the last request: it waits "
    "10 s and adopts what is live. Pause again the families that must stay paused before you apply."
)
_OTHER_STATE = "Correct --state. The present content is not changed."
_COPY = "Copy the value again from OKX, without quotes or blanks around it."
_NETWORK = "Check the network and its firewalls. mmp continues by itself."
READ_BACK = "Nothing to do: a request to set counts as sent, and mmp reads its effect; a read is repeated."
READ_AGAIN = "Nothing to do: a read changes nothing, and mmp repeats it after a pause."
"""Instead of READ_BACK, of what is known to have been a read."""
_WITHIN = "Check the proxies and gateways between this machine and OKX."
_OVERRIDE = "If meant: run the command that mmp plan prints ({}:FAMILY), or change the policy."
_FLAGS = _row(
    "Flags that cannot be combined",
    "The message names the flags. An invalid command line exits 64, never 2.",
    "Leave one out. See mmp COMMAND --help.",
)
_GIT = _row(
    "git could not show the revision",
    "mmp diff reads files of revisions with the git command. The message has git's output.",
    "Check the revision, the path and the repository. In CI fetch the full history.",
)

ERRORS: dict[str, Explanation] = {
    # Command line
    "usage": _row(
        "Invalid command line",
        "A flag or argument is unknown, missing or malformed. Nothing was done.",
        "See mmp COMMAND --help.",
    ),
    "base-url": _row(
        "The address of the exchange is not allowed",
        "Keys are sent only over https and only to hosts that OKX documents. Plain http is for "
        "loopback addresses only.",
        "Correct --base-url. Another https host needs --allow-host NAME.",
    ),
    "no-family": _row(
        "No family matches",
        "No pattern of --family matches a family of the file (or of the saved plan). For mmp "
        "reset: neither the file nor the exchange knows the family.",
        "Put the pattern in quotes, and compare it with the families of the file.",
    ),
    "one-account": _row(
        "Exactly one account is required",
        "The command or its flag (--out, PLAN, --expect, reset) works for a single account.",
        "Name one file with -c.",
    ),
    "not-approved": _row(
        "Not approved",
        "There is something to send, and no terminal for the question. Nothing was sent.",
        "Add --yes if the plan is approved.",
    ),
    "declined": _row(
        "Declined",
        "The answer to the question on the terminal was no. Nothing was sent.",
        "Run it again.",
    ),
    "allow-unseen": _row(
        "An override without a reviewed plan",
        "Without a prompt, --allow applies to one plan: the one of --expect DIGEST, or of a plan file.",
        "Run mmp plan, and use its digest or the command that it prints with the refusal.",
    ),
    "no-reason": _row(
        "No reason given",
        "The history records each override and each policy that was given up, with a reason in "
        "visible text.",
        'Add --reason "…".',
    ),
    "no-policy-other": _row(
        "--no-policy names another policy",
        "The policy on record, whose file is missing, has another hash. Nothing was sent.",
        "Restore the file, or name the policy that the message shows.",
    ),
    "no-policy-found": _row(
        "A policy file exists",
        "--no-policy is for a policy whose file is missing, and a policy file was found.",
        "Leave out --no-policy, or remove the file first.",
    ),
    "no-policy-named": _row(
        "--no-policy with --policy",
        "--policy or MMP_POLICY names a policy file, but --no-policy is for a missing file.",
        "Use one of the two.",
    ),
    "no-policy-against": _row(
        "--no-policy with --against",
        "--no-policy needs the policy on record in the state, but --against does not use the state.",
        "Leave out one of the two.",
    ),
    "pause-span": _row(
        "Invalid length of a pause",
        "A pause is longer than 0 and at most 30 days.",
        "Write --for 30m, or --until-resumed.",
    ),
    "unknown-term": _row(
        "Unknown word",
        "mmp explain knows codes, fields, words of plans and results, exit statuses and families.",
        "In messages, codes are in brackets: error[CODE], [OKX CODE].",
    ),
    "unknown-state": _row(
        "Invalid --state",
        "The state is a file or a PostgreSQL database. The value is neither. It is not printed, "
        "because it may contain a password.",
        "Use the path of a file (without : and @), or postgresql://user@host/database.",
    ),
    "no-postgres": _row(
        "PostgreSQL support is not installed",
        "A state in PostgreSQL needs the extra postgres.",
        "Install mmp-reconciler[postgres].",
    ),
    "simulator-host": _row(
        "The simulator serves loopback only",
        "Its control endpoint can change everything, so no other address is allowed.",
        "Use 127.0.0.1.",
    ),
    "simulator-address": _row(
        "The simulator cannot listen there", "The port is in use or not allowed.", "Choose another --port."
    ),
    "listen-address": _row(
        "Invalid --listen or --listen-name",
        "--listen is HOST:PORT, :PORT or PORT, with an IPv6 address in brackets. --listen-name is "
        "a host name without a port.",
        "Example: 127.0.0.1:9464.",
    ),
    "listen-failed": _row(
        "Cannot listen at the address",
        "The port is in use, or the address is not one of this machine. Nothing was started.",
        "Stop the other program or choose another address. Port 0 is any free port.",
    ),
    # Plans, policies, revisions
    "guard-disable": _row(
        "A family would be switched off",
        "Without a policy there is one guard: disabling an enabled family needs an explicit "
        "override. apply sent nothing at all.",
        "If the change is meant: run the command that mmp plan prints with the refusal (--allow "
        "disable:FAMILY).",
    ),
    "fail-on": _row(
        "The plan has a kind of --fail-on",
        "The plan was printed. It contains one of the kinds.",
        "Review the plan, or remove the kind from --fail-on.",
    ),
    "plan-moved": _row(
        "Not the plan that was approved",
        "State or live changed after the plan was shown, so other requests would be sent. Nothing "
        "was sent.",
        "Run it again and review the new plan.",
    ),
    "unexpected-plan": _row(
        "Not the plan that was expected",
        "The digest of the plan differs from --expect: file, state or live changed since the review. "
        "Nothing was sent.",
        "Review the new plan and pass its digest.",
    ),
    "plan-stale": _row(
        "The saved plan is stale",
        "Account, environment, host or config differ from those of the plan, or the plan has "
        "expired. Nothing was sent.",
        "Make a new plan with mmp plan --out, and review it.",
    ),
    "plan-edited": _row(
        "The plan file was changed",
        "Its content does not match its digest, so it is not the reviewed plan.",
        "Make a new plan. Do not edit plan files.",
    ),
    "plan-not-saved": _row(
        "Not a saved plan",
        "The file was not written by mmp plan --out.",
        "Name a file written by mmp plan --out.",
    ),
    "no-such-day": _row(
        "A time that does not exist",
        "A date or time in the file has the right form but does not exist.",
        "Make a new plan. Do not edit plan files.",
    ),
    "out-unwritable": _row(
        "The plan cannot be written",
        "The file of --out cannot be created.",
        "Check the folder and its permissions.",
    ),
    "status-too-old": _row(
        "The published status is too old",
        "The live read of the status is older than --max-age.",
        "Publish a fresh mmp status --output json.",
    ),
    "status-unreachable": _row(
        "The published status could not be read",
        "The file or address of --against gave no document.",
        "Check the address.",
    ),
    "another-account": _row(
        "The status belongs to another account",
        "Account or environment of the published status differ from those of the file.",
        "Publish and name the status of this account.",
    ),
    "shallow-clone": _row(
        "The clone is shallow",
        "The revision may not have been fetched: by default CI systems fetch only the newest commit.",
        "Set the checkout's depth to 0 (GitHub: fetch-depth: 0; GitLab: GIT_DEPTH: 0).",
    ),
    "ambiguous-name": _row(
        "A word may be a path and a revision",
        "A file or folder has the name of a git revision, or of one that this clone may not have. "
        "mmp diff compares neither, because a branch could add such a file to hide its changes.",
        "Write ./NAME for the path, or NAME:PATH (such as HEAD:mmp.yaml) for a file of the revision.",
    ),
    **dict.fromkeys(
        (
            "git-failed",
            "git-missing",
            "not-a-file",
            "not-a-repository",
            "not-in-revision",
            "outside-repository",
            "unknown-revision",
        ),
        _GIT,
    ),
    **dict.fromkeys(
        (
            "against",
            "expires",
            "expires-alone",
            "max-age-alone",
            "no-live-against",
            "no-live-plan",
            "adopt-stdout",
            "one-stdout",
            "out-one",
            "out-stdout",
        ),
        _FLAGS,
    ),
    # Files
    "file-exists": _row(
        "The file already exists",
        "init and import never overwrite a file.",
        "Choose another file, or move that one away.",
    ),
    "file-unwritable": _row(
        "The file cannot be written",
        "The operating system refuses it: no such folder, no permission, no space, or a read-only "
        "file system.",
        "Check the folder, its permissions and the free space.",
    ),
    "nothing-live": _row(
        "Nothing to import",
        "The exchange lists no family with settings that a file can express.",
        "Write a starter file with mmp init.",
    ),
    # Keys and accounts
    "credentials-missing": _row(
        "Keys are not set",
        "mmp reads OKX_API_KEY, OKX_SECRET_KEY and OKX_PASSPHRASE (or another prefix: "
        "credentials.prefix) from the environment, never from the file or a flag.",
        "Set them, or set …_FILE to the paths of files.",
    ),
    "credentials-twice": _row(
        "A key is set twice",
        "Both a variable and its …_FILE are set; an empty variable counts as set.",
        "Unset one of the two.",
    ),
    "credentials-file": _row(
        "A key file cannot be used",
        "It cannot be read, is not a regular file, or every user of the machine can read it.",
        "chmod 600 the file (in Kubernetes: defaultMode 0440).",
    ),
    "credentials-value": _row(
        "Invalid key", "It is empty, too long, or has characters that OKX's keys never have.", _COPY
    ),
    "wrong-account": _row(
        "The key belongs to another account",
        "expect.uid of the file, or the saved plan, has another User ID. Nothing was written.",
        "Use the key of that account, or correct expect.uid.",
    ),
    "claimed-twice": _row(
        "Two files for one User ID have the same family",
        "Their keys belong to one User ID, so each would undo the other's changes. Nothing was written.",
        "List each family in one of the files only, or use another key for one.",
    ),
    "not-portfolio-margin": _row(
        "The account is not in portfolio margin mode",
        "Set MMP requires account mode 4.",
        "Change the account's mode at OKX.",
    ),
    "no-trade-permission": _row(
        "The key has no Trade permission",
        "Set MMP and Reset MMP Status need the Trade permission. Plans need Read only.",
        "Give the key Trade permission at OKX, or use another key.",
    ),
    # Runs
    "timed-out": _row(
        "Not everything was settled in time",
        "apply ended at its --timeout. The records are correct, and no request is in flight.",
        "Run it again, or use a longer --timeout. The message has the last error.",
    ),
    "stopped": _row(
        "Stopped by a signal",
        "The request in flight was settled first. The records are correct.",
        "Run it again to continue.",
    ),
    "interrupted": _row(
        "Interrupted (SIGINT)",
        "Ctrl-C or a cancelled pipeline ended the command early.",
        "Run it again.",
    ),
    "output-lost": _row(
        "The result could not be written",
        "stdout is closed, or its disk is full. The command itself did its work.",
        "Correct stdout. mmp status and mmp history show what was done.",
    ),
    "internal-error": _row(
        "A bug in mmp",
        "The program failed unexpectedly. The records stay correct.",
        "Report it, with the traceback that MMP_TRACEBACK=1 prints.",
    ),
    "reset-refused": _row(
        "The exchange did not reset",
        "Reset MMP Status answered code 0 and result false: OKX accepted the request but did not reset.",
        "Look at the family at OKX.",
    ),
    "reset-unconfirmed": _row(
        "It is not known whether the family was reset",
        "The request has no definite answer. mmp reads live before it sends again.",
        "Run mmp reset again: it first reads whether the family is still frozen.",
    ),
    # State
    "state-locked": _row(
        "Another process has locked the state",
        "Only one process at a time works on an account. The message names the process.",
        "Wait, or use a longer --lock-timeout.",
    ),
    "state-foreign-uid": _row(
        "The state belongs to another User ID",
        "It belongs to the User ID of the first key that was used with it.",
        "Use the key of that account, or give this User ID its own account name in its file.",
    ),
    "state-foreign-kind": _row(
        "The state belongs to the simulator, or to OKX",
        "It cannot be used with the other one.",
        "Name the state that is used with this exchange (--state).",
    ),
    "state-missing": _row(
        "There is no state yet",
        "A command that only reads found no state.",
        "mmp apply and mmp run create it.",
    ),
    "state-unused": _row(
        "The state was never used for this account",
        "Pauses are stored by User ID, which the state knows only after mmp apply or mmp run.",
        "Run mmp apply or mmp run first. Nothing is written for the account until then.",
    ),
    "state-second": _row(
        "Another state is in use for this User ID on this machine",
        "Two states do not know each other's requests, so together they would exceed the rate. A "
        "state is in use while a process that can write with it runs.",
        "Use the state that the message names (--state, MMP_STATE). Or stop the process that uses it.",
    ),
    "state-behind": _row(
        "The state does not have the newest request of this machine",
        "A request for the User ID was reserved in another state, or in this one before it was restored, "
        "moved or copied. It may count against the rate for 45 s, and this state does not know it.",
        "Wait as long as the message says, then try again; mmp run does so by itself.",
    ),
    "state-newer": _row(
        "The state is used by a newer mmp",
        "Its tables are of a version that this program cannot use. A command ends with it at its start; a "
        "run that used the state before waits, is not ready and sends nothing.",
        "Use that newer version.",
    ),
    "state-exposed": _row(
        "The state is open to other users",
        "Others may have read or changed it. A group is accepted if this process is in it, the "
        "state's folder belongs to that group, and the folder is closed to all others.",
        "Make sure that no other user changed the file, then chmod 600. In Kubernetes move the "
        "state, with the files beside it, to its own folder below the root of the volume.",
    ),
    "state-owner": _row(
        "The state belongs to another user",
        "The owner could not use the files that this user creates beside the state, or a file "
        "beside the state belongs to another user.",
        "Run mmp as the owner of the state, or change the owner (chown) of the state, its folder and all "
        "files beside it.",
    ),
    "state-unknown-fs": _row(
        "The state is on a file system of an unknown type",
        "SQLite's locks and shared memory are known to work on the usual local file systems only.",
        "Move the state to a local disk; or add --allow-filesystem TYPE if only this host uses it.",
    ),
    "state-network-fs": _row(
        "The state is on a file system that several hosts can use",
        "Locks and shared memory do not work across hosts, so there would be two records of requests.",
        "Move the state to a local disk. For several hosts use PostgreSQL.",
    ),
    "state-linked": _row(
        "The state has another link",
        "SQLite's log and the locks use the file's name, so each name would be a separate record "
        "of requests.",
        "Remove the other link (find / -xdev -samefile FILE). A running mmp run then continues. "
        "To use the state in another place, mount its folder.",
    ),
    "state-mounted": _row(
        "The state is mounted by itself, without its folder",
        "SQLite's log and the locks use the file's name, so each name would be a separate record "
        "of requests.",
        "Mount the folder of the state, not the file. In Kubernetes do not use a subPath that "
        "names a file.",
    ),
    "state-replaced": _row(
        "The state was removed or replaced while in use",
        "To continue would mean a second record of requests.",
        "Start again: the present file, or a new one, is then used.",
    ),
    "state-disk-full": _row(
        "No space left for the state",
        "Space, inodes or a quota are used up. Nothing is sent. Earlier records are safe.",
        "Free some space. mmp run tries again by itself.",
    ),
    "state-io-error": _row(
        "The disk of the state failed",
        "The system could not read or write. Nothing is sent. Earlier records are safe.",
        "Check the disk. mmp run opens the file again and continues.",
    ),
    "state-busy": _row(
        "The state is busy",
        "A transaction of another process did not end in time. mmp run tries again by itself.",
        "Find out which process has the file open (fuser, lsof) or why the server is busy, and try again.",
    ),
    "state-failed": _row(
        "The state could not be used",
        "SQLite or the server failed unexpectedly. What failed was not recorded.",
        "Read the message, and check the disk.",
    ),
    **dict.fromkeys(
        ("state-unreadable", "state-unwritable"),
        _row(
            "No permission for the state",
            "This user cannot read or write the file, its folder or the schema mmp. With a file, "
            "mmp run ends at its start; later it waits, because a disk may be read-only for a "
            "time.",
            "Run mmp as the owner of the state, or give this user the permission.",
        ),
    ),
    **dict.fromkeys(
        ("state-damaged", "state-empty", "state-incomplete", "state-truncated"),
        _row(
            "The state is damaged",
            "It is empty or truncated, a table was changed, or a row does not match its checksum. "
            "mmp never repairs it silently.",
            _ANEW,
        ),
    ),
    **dict.fromkeys(
        ("state-foreign-file", "state-not-a-file", "state-not-sqlite"),
        _row("Not a state of mmp", "The path has something else.", _OTHER_STATE),
    ),
    # State in PostgreSQL
    "bad-postgres-address": _row(
        "Not an address that PostgreSQL understands",
        "The value is not printed, because it may contain a password. With an unescaped / ? or @, "
        "a part of the password would be read as port, database or host.",
        "Example: postgresql://user@host:5432/database?sslmode=verify-full. In a password write "
        "%2F for /, %3F for ? and %40 for @; or set PGPASSWORD.",
    ),
    "copy-direction": _row(
        "A state is copied from a file into PostgreSQL",
        "Other directions are not supported.",
        "Example: mmp state copy .mmp/state.db postgresql://user@host/database.",
    ),
    "state-not-empty": _row(
        "The target of the copy already has records of these accounts",
        "Two histories of one account or User ID must not be mixed.",
        "Copy into another database.",
    ),
    "state-moved": _row(
        "The state was moved to another place",
        "mmp state copy is complete: all records are there, and there is one record of requests. Nothing "
        "is written to the file; it can be read.",
        "Use the state that the message names (--state, MMP_STATE).",
    ),
    "state-moving": _row(
        "A copy of the state is under way, or was interrupted",
        "mmp state copy retires the file before its records are complete in the database. Nothing "
        "is written to the file, and the database may not have its pauses and requests yet.",
        "Do not use the database yet. Wait until the copy is complete. If it was interrupted, run "
        "the same mmp state copy again; with --undo the file is used again if the copy is not "
        "complete.",
    ),
    "state-copy-failed": _row(
        "The copy differs from the source",
        "The copy was verified before the commit. Nothing was copied.",
        "Read the server's log.",
    ),
    "state-unavailable": _row(
        "The state cannot be reached now",
        "The connection was lost, or the server is restarting, failing over or not running. For a "
        "file: the system has too few resources, such as file descriptors. Every request that "
        "was sent is on record.",
        "Read the message. mmp run tries again by itself.",
    ),
    "state-refused": _row(
        "The database refused the connection",
        "Wrong password, missing role or database, TLS not available, or an access rule "
        "(pg_hba.conf). mmp run ends at its start; later it waits, because a password may be "
        "being replaced.",
        "Check role, password, database, TLS and access rules.",
    ),
    "state-tables-missing": _row(
        "Tables of the state are missing or hidden",
        "The schema mmp, one of its tables or a column was dropped or renamed, or the role has no "
        "USAGE on the schema. mmp run ends at its start; later it waits until they are back.",
        "Restore the schema from a backup, or GRANT USAGE ON SCHEMA mmp to the role.",
    ),
    "state-standby": _row(
        "The server is a standby",
        "A standby cannot be written, and its data may be old.",
        "Name the primary, or all hosts with target_session_attrs=read-write.",
    ),
    "state-record-lost": _row(
        "The server lost the record of a request",
        "The server failed over to a standby without the newest records. Requests that may have "
        "been lost count against the rate, and mmp reads the result.",
        "Nothing to do. A synchronous standby prevents it.",
    ),
    "state-lock-lost": _row(
        "The lock of the account was lost to another process",
        "This process did not renew its lock for nine seconds. It sends nothing without the lock.",
        "If it happens often, find out what stops the process or the connection.",
    ),
    "state-older": _row(
        "The state was written by an older mmp",
        "A command that only reads does not update it.",
        "Run mmp apply or mmp run of this version.",
    ),
    "state-old-server": _row(
        "The PostgreSQL server is too old", "It is not supported.", "Use PostgreSQL 12 or newer."
    ),
    "state-encoding": _row(
        "The database is not in UTF8",
        "Reasons and messages could not be stored.",
        "Create a database with ENCODING 'UTF8'.",
    ),
    "state-foreign-schema": _row(
        "The schema mmp belongs to another program",
        "It has other tables and no version of mmp. mmp does not change it.",
        "Use another database, or rename that schema.",
    ),
    # What is no answer of OKX's
    "timeout": _row("No complete reply in time", "No complete reply within 10 s.", READ_BACK),
    "broken": _row("The connection broke", "The HTTP reply is not complete.", READ_BACK),
    "not-okx": _row("Not a reply from OKX", "The reply is not in OKX's JSON format.", _WITHIN),
    "redirect": _row(
        "A redirect", "OKX's API has no redirects. Following one would disclose keys.", _WITHIN
    ),
    "encoded": _row(
        "A compressed reply", "The reply is compressed, although mmp does not accept that.", _WITHIN
    ),
    "too-large": _row("A reply that is too large", "The reply is longer than the limit.", _WITHIN),
    "headers-too-large": _row(
        "A reply with headers that are too large",
        "Headers are read up to 256 KiB; OKX's are about 2 KiB. A gateway or proxy adds the rest.",
        _WITHIN,
    ),
    "bad-status": _row("Status and code contradict each other", "Neither is used.", READ_BACK),
    "bad-data": _row(
        "A reply that cannot be understood", "The reply is in OKX's format, but its data is not.", READ_BACK
    ),
    "bad-row": _row(
        "A live row that cannot be understood",
        "The family is not written.",
        "Look at the family at OKX. Report it if the row is correct.",
    ),
    "too-many": _row("Too many items", "A list has more items than the rate allows to read."),
    "suspended": _row(
        "This machine was suspended",
        "It was suspended between signing and sending, so the signature is too old. Nothing was sent.",
        "Nothing to do: mmp reads live and sends again.",
    ),
    "late": _row("Too late to send", "The time of the slot had passed. Nothing was sent.", _NETWORK),
    "clock-old": _row(
        "The exchange's clock was measured too long ago",
        "Requests that change something are signed with a clock measured within the last hour. Nothing was "
        "written; reads continue.",
        "Allow this machine to reach GET /api/v5/public/time. A firewall, proxy or gateway may block it.",
    ),
    "closed-early": _row("Closed before the request", "Nothing was written.", _NETWORK),
    **dict.fromkeys(
        ("connect", "connect-timeout", "dns"),
        _row("No connection", "The host was not reached. Nothing was written.", _NETWORK),
    ),
    "tls": _row(
        "No trusted connection",
        "The host's certificate is not trusted. The check cannot be switched off.",
        "Check --base-url, this machine's certificates, and whether a proxy opens TLS.",
    ),
}
"""Every error code of the program's own, save the problems of files."""

FIELDS: dict[str, Explanation] = {
    "timeInterval": _row(
        "The monitoring window",
        "Fills are counted over this time. Milliseconds (5000), or a number and a unit (500ms, "
        "5s, 2m, 1h). disabled (0 at OKX) switches the family's protection off. Longer is "
        "tighter.",
        "0 means no protection: write disabled if that is meant.",
    ),
    "frozenInterval": _row(
        "The freeze",
        "How long quotes stay frozen after the limit is hit. Milliseconds, or a number and a "
        "unit. until-reset (0 at OKX) means until a manual reset (mmp reset). Longer is tighter.",
        "0 is the longest freeze: write until-reset if that is meant.",
    ),
    "qtyLimit": _row(
        "The quantity limit",
        "Contracts filled within the window that freeze the quotes. A plain decimal greater than "
        "0, at most 20 digits. Less is tighter.",
    ),
    "version": _row("The version of the file's format", "1; a number without quotes."),
    "account": _row(
        "Your own name for the account",
        "Lower-case letters, digits, dots, dashes and underscores. Used in the state. Default: main.",
    ),
    "environment": _row("OKX's environment", "live or demo. The key must belong to the same one."),
    "expect": _row(
        "The account that is expected",
        'With expect: {uid: "446556540"} mmp writes to no other User ID. The digits are in quotes.',
    ),
    "uid": _row("A User ID of OKX", "Digits in quotes. mmp doctor shows that of the key."),
    "credentials": _row(
        "Where mmp finds the keys",
        "credentials: {prefix: OKX_} means OKX_API_KEY, OKX_SECRET_KEY and OKX_PASSPHRASE in the "
        "environment, each also as …_FILE. The keys are never in the file.",
    ),
    "prefix": _row(
        "The prefix of the key variables", "Capitals, digits and underscores, ending with an underscore."
    ),
    "defaults": _row(
        "Values for all families",
        "Any of the three fields. A family's own value wins. There are no built-in values.",
    ),
    "families": _row(
        "The managed families",
        "By OKX's name, such as BTC-USD or SOL-USD_UM. A family that is not listed is unmanaged: "
        "never written, never disabled. If you remove a family, its setting at OKX stays.",
    ),
}
"""The keys of mmp.yaml."""

WORDS: dict[str, Explanation] = {
    # Actions
    "set": _row("To be set", "One request makes live as desired."),
    "adopt": _row("To be adopted", "Live is already as desired: it is recorded, without a request."),
    "hold": _row("Held", "It differs, but is not written now; the plan shows the reason."),
    # Reasons
    "new": _row("New", "The family is neither applied nor live."),
    "changed": _row("Changed", "The file has other values than were last applied."),
    "drifted": _row(
        "Drifted",
        "Live differs from what the file says and mmp applied: it was changed outside mmp.",
        "apply restores it. run restores what became looser; see --drift.",
    ),
    "uncertain": _row(
        "Uncertain",
        "An earlier request has no definite answer, so the setting in force is not known. It "
        "never counts as equal to desired.",
        "Nothing to do: mmp sends it again, or reads it when the request can no longer arrive. "
        "mmp status shows when.",
    ),
    # Directions
    "enable": _row("Enable", "Protection is switched on."),
    "tighten": _row("Tighten", "At least one field protects more, none less."),
    "mixed": _row("Mixed", "One field protects more and another less."),
    "loosen": _row("Loosen", "At least one field protects less, none more."),
    "disable": _row(
        "Disable",
        "Protection is switched off (timeInterval 0). The policy or an override must allow it.",
    ),
    # Why a family is held
    "frozen": _row(
        "Frozen",
        "The exchange froze the family's quotes. The family is not written until the freeze ends, "
        "because the effect of a write on a freeze is not documented.",
        "Find out why. If the freeze lasts until a reset: mmp reset FAMILY.",
    ),
    "paused": _row(
        "Paused",
        "A person paused the family, or mmp did because another writer keeps changing it.",
        "mmp resume --family FAMILY ends it.",
    ),
    "policy": _row(
        "Refused by the policy",
        "A rule of mmp-policy.yaml refuses the change; rule, value and limit are shown. Or the "
        "policy is missing or cannot be read: until it is back, changes that loosen or disable "
        "are held.",
        "If the change is meant: run the command that mmp plan prints with the refusal, with a reason.",
    ),
    "guard": _row(
        "Held by the guard",
        "The change would switch the family's protection off, or nearly off (a timeInterval below "
        "100 ms, a factor of 1000 or more), and no policy allows it.",
        "If the change is meant: run the command that mmp plan prints with the refusal (--allow "
        "disable:FAMILY).",
    ),
    "drift-policy": _row(
        "Drift that is only reported",
        "The family became tighter outside mmp, or run has --drift warn: reported, not changed.",
        "mmp apply restores it.",
    ),
    "unreadable": _row(
        "Not readable",
        "The live setting of the family could not be read reliably, so the family is not written.",
        "Run mmp plan to read again, and look at the family at OKX. Ask OKX support about the row.",
    ),
    "stale": _row(
        "Stale",
        "The change is not the reviewed one, so it was skipped.",
        "Make a new plan and review it.",
    ),
    # Outcomes
    "applied": _row("Applied", "The exchange acknowledged exactly what was sent."),
    "adopted": _row("Adopted", "A read showed the setting in force; no request was needed."),
    "rejected": _row(
        "Rejected",
        "OKX rejected this setting; see its code. run tries it again every 10 minutes, later "
        "every hour, while live is looser. Another value is tried at once.",
        "Run mmp explain CODE, and correct the family in the file.",
    ),
    "unknown": _row(
        "Unknown",
        "A request has no definite answer, so the setting in force is not known.",
        "Run it again: a read or an acknowledged request settles it.",
    ),
    "held": _row("Held", "Not written: frozen, paused, refused, or only reported."),
    "skipped": _row("Skipped", "The command ended before it reached the family.", "Run it again."),
    # States, and kinds of refusal
    "in-sync": _row("In sync", "As desired, as far as recorded."),
    "pending": _row("Pending", "To be applied or recorded; mmp status shows when."),
    "bounds": _row("Bounds", "A desired value is outside the policy's bounds for the family."),
    "protected": _row(
        "Protected", "The policy protects the family: it may not be removed, disabled or paused."
    ),
    # Rules of the policy, as refusals name them
    **{
        f"bounds.{field}.{limit}": _row(
            "A limit of the policy",
            f"{field} of a family is {told} bounds.{field}.{limit} of mmp-policy.yaml. A change back "
            "towards the limit passes.",
            _OVERRIDE.format("bounds"),
        )
        for field in ("timeInterval", "frozenInterval", "qtyLimit")
        for limit, told in (("min", "less than"), ("max", "more than"))
    },
    **{
        rule: _row("A word that the policy denies", f"{said} is not allowed.", _OVERRIDE.format("bounds"))
        for rule, said in (
            ("bounds.timeInterval.disabled", "disabled, which switches the family's protection off,"),
            ("bounds.frozenInterval.until-reset", "until-reset, a freeze that only a manual reset ends,"),
        )
    },
    **{
        f"bounds.exposure.{figure}.max": _row(
            "A limit of the exposure",
            f"A family may trade more contracts {told} than bounds.exposure.{figure}.max of "
            "mmp-policy.yaml. A change that lowers the figure passes.",
            _OVERRIDE.format("bounds"),
        )
        for figure, told in (
            ("perTrip", "before it trips (qtyLimit)"),
            ("perSecond", "per second within the window (qtyLimit / timeInterval)"),
            ("perMinute", "per minute at worst (it trips again after each freeze)"),
        )
    },
    "floor.timeInterval": _row(
        "Nearly disabled",
        "The change sets a timeInterval that is shorter than floor.timeInterval of "
        "mmp-policy.yaml and shorter than before. So short a window protects very little.",
        _OVERRIDE.format("disable"),
    ),
    "floor.factor": _row(
        "Nearly disabled",
        "The factor of the change is floor.factor of mmp-policy.yaml or more.",
        _OVERRIDE.format("disable"),
    ),
    "loosening.maxFactor": _row(
        "Too far at once",
        "The factor of the change is larger than the limit. The factor is the worst of four "
        "ratios: contracts per trip, per second and per minute at worst (after/before), and "
        "frozenInterval (before/after). A change away from until-reset is unlimited.",
        _OVERRIDE.format("loosen (or mixed, disable)"),
    ),
    "loosening.maxFamilies": _row(
        "Too many at once",
        "The file loosens or disables more families than the limit. Paused families, and families "
        "that --family leaves out, count too.",
        _OVERRIDE.format("loosen (or mixed, disable)"),
    ),
    "loosening.maxShare": _row(
        "Too large a share at once",
        "The file loosens or disables a larger share of the families than the limit. The share is "
        "of the families that were in force for 24 hours on record. In the first 24 hours of a "
        "state no share is proven. mmp diff has no record: it counts the families that the older "
        "file enables.",
        _OVERRIDE.format("loosen (or mixed, disable)"),
    ),
    "loosening.per": _row(
        "Too far in several steps",
        "loosening.maxFactor also applies from the setting that was accepted at the start of this "
        "time. Several changes within it may not loosen more than one change may. A change that "
        "is no looser than that setting passes.",
        "Wait until the steps are older than this time. " + _OVERRIDE.format("loosen (or mixed)"),
    ),
    "loosening.unknown": _row(
        "Nothing is known of the family",
        "Live was not read (--no-live) and there is no record. So it is not known whether the "
        "change loosens more than loosening.maxFactor allows.",
        "Run the command without --no-live. If the change is meant: --allow loosen:FAMILY, or for mmp run "
        "loosening: {unknown: allow} in the policy.",
    ),
    # Words of the file
    "disabled": _row("Disabled", "timeInterval: disabled (0 at OKX): no protection for the family."),
    "until-reset": _row(
        "Until reset",
        "frozenInterval: until-reset (0 at OKX): quotes stay frozen until a manual reset.",
        "mmp reset FAMILY ends such a freeze.",
    ),
    "unmanaged": _row("Unmanaged", "Live at the exchange and not in the file: never written."),
}
"""The words of plans, results and statuses."""

REPLY_CLASSES: dict[ReplyClass, str] = {
    ReplyClass.ACCEPTED: "The request was accepted.",
    ReplyClass.RATE_LIMITED: "Not applied. mmp waits a full window, then spaces requests evenly.",
    ReplyClass.BUSY: "It is not known whether it took effect. Each further try uses a slot of the rate.",
    ReplyClass.AMBIGUOUS: "It is not known whether it took effect. A request to set counts as sent.",
    ReplyClass.CLOCK: "Not applied: the timestamp was rejected.",
    ReplyClass.WRONG_SETTINGS: "Not applied: the setting is rejected. Other families are written.",
    ReplyClass.NOT_OPEN: "Not applied. The family is tried again at long intervals.",
    ReplyClass.ACCOUNT: "Not applied. Writing stops until account or key are corrected.",
    ReplyClass.ENVIRONMENT: "Not applied. Writing stops: live and demo were mixed up.",
    ReplyClass.UNAVAILABLE: "Not applied: the account or the service is not available for a longer time.",
    ReplyClass.OUR_BUG: "Not applied: the request was malformed. Writing stops.",
    ReplyClass.NO_ANSWER: "No answer from OKX. A request to set counts as sent.",
    ReplyClass.NOT_SENT: "Nothing was sent.",
}
"""What may be concluded from a reply of each class."""

_AGAIN = "Run it again."

STATUSES: dict[Exit, Explanation] = {
    Exit.DONE: _row(
        "Done", "Everything was done. Also when there are changes and no flag asked for status 2."
    ),
    Exit.FAILED: _row(
        "Runtime failure",
        "The exchange does not answer, a setting was rejected, the state is damaged, or time ran out.",
        "Read the message, then run it again.",
    ),
    Exit.CHANGES: _row(
        "Changes present",
        "With plan --detailed-exitcode and diff --exit-code only: something would be sent, is held or "
        "refused, an adoption changes what is accepted, or an account has another name. A plan that only "
        "records what was accepted is 0.",
        "Review the plan.",
    ),
    Exit.REFUSED: _row(
        "Refused",
        "The policy, the guard or --fail-on refused. apply sent nothing at all. validate: the policy "
        "refuses a value of the file. pause: a family is protected.",
        "The message names the rule, the limit and, for apply, the --allow that overrides it.",
    ),
    Exit.INVALID: _row(
        "Invalid input",
        "Settings, policy, plan file, published status or git revision is invalid, or init or import "
        "would overwrite a file. Also apply where the policy file is missing.",
        "The message names the place; mmp validate lists every one in settings and policy.",
    ),
    Exit.STALE: _row(
        "The plan is stale",
        "The plan is not the one that was reviewed: another digest; a plan file that has expired or is of "
        "another account, environment, host or config; everything left of it has moved; or a published "
        "status that is too old. Nothing was sent.",
        "Make a new plan and review it.",
    ),
    Exit.PARTLY: _row(
        "Partly",
        "At least one family was settled, and at least one was not.",
        "Look at the results, then run it again or make a new plan.",
    ),
    Exit.LOCKED: _row(
        "Locked",
        "Another process has locked the state; the message names it.",
        "Wait, or give a longer --lock-timeout.",
    ),
    Exit.ACCOUNT: _row(
        "Account, key or environment",
        "Account, key or environment is not accepted; writing was stopped.",
        "The message says what to correct.",
    ),
    Exit.HELD: _row(
        "Nothing done",
        "Everything that differs is held, because it is frozen or paused.",
        "Wait, or use mmp reset or mmp resume.",
    ),
    Exit.USAGE: _row(
        "Usage",
        "The command line is invalid. A mistyped flag is never status 2.",
        "See mmp COMMAND --help.",
    ),
    Exit.HANGUP: _row(
        "Hung up",
        "SIGHUP, as when the terminal is gone. apply settled the request in flight and wrote its results.",
        _AGAIN,
    ),
    Exit.INTERRUPTED: _row("Interrupted", "SIGINT. apply settled the request in flight.", _AGAIN),
    Exit.TERMINATED: _row("Terminated", "SIGTERM. apply settled the request in flight.", _AGAIN),
}
"""Every exit status."""
