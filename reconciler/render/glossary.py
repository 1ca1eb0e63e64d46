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
    "See what mmp state check still reads: pauses are lost with the file. Then keep the file aside, find "
    "out what happened, and let a new one be made a minute after the last request: that waits one window "
    "and adopts what live already shows. Pause again what has to stay paused before you apply."
)
_OTHER_STATE = "Correct --state: it names the state of mmp. What is there now is left as it is."
_COPY = "Copy the value again from where the key was created, without quotes or blanks around it."
_NETWORK = "Look at the network and its firewalls; the program goes on by itself once it can."
READ_BACK = "Nothing to fix: a request to set counts as sent and is read back; a read is done again."
READ_AGAIN = "Nothing to fix: a read changes nothing, and is done again after a pause."
"""Instead of READ_BACK, of what is known to have been a read."""
_WITHIN = "Look at what stands between this machine and OKX: proxies and gateways answer like that."
_OVERRIDE = "If it is meant: run the command that mmp plan prints ({}:FAMILY), or change the policy."
_FLAGS = _row(
    "Flags that do not go together",
    "The message names them. A mistyped command line exits 64 and never 2, which means changes.",
    "Leave one out; mmp COMMAND --help shows what goes with what.",
)
_GIT = _row(
    "git could not show the revision",
    "mmp diff reads files out of revisions with the git command; the message has what git said.",
    "Check the revision, the path and that this is the repository; in CI fetch the whole history.",
)

ERRORS: dict[str, Explanation] = {
    # Command line
    "usage": _row(
        "The command line cannot be meant that way",
        "A flag or argument is unknown, missing or malformed. Nothing was done.",
        "See mmp COMMAND --help.",
    ),
    "base-url": _row(
        "The exchange's address cannot be used",
        "Keys are sent to https and the hosts OKX documents only; plain http to a loopback address only.",
        "Correct --base-url; another https host needs --allow-host NAME.",
    ),
    "no-family": _row(
        "No family matches",
        "None of the globs of --family matches a family of the file (or of the saved plan); for mmp reset: "
        "neither the file nor the exchange knows the family.",
        "Put a glob in quotes, and compare it with the families of the file.",
    ),
    "one-account": _row(
        "Exactly one account is wanted",
        "The command, or a flag of it (--out, PLAN, --expect, reset), is about a single account.",
        "Name one file with -c.",
    ),
    "not-approved": _row(
        "Nobody approved",
        "Something is to be sent, and there is no terminal to ask on. Nothing was sent.",
        "Pass --yes where a person or a pipeline has decided already.",
    ),
    "declined": _row(
        "The answer was no",
        "Asked on the terminal whether to send, somebody said no. Nothing was sent.",
        "Run it again to be asked again.",
    ),
    "allow-unseen": _row(
        "An override without a reviewed plan",
        "Without a prompt, --allow applies to one plan: the one of --expect DIGEST, or of a plan file.",
        "Run mmp plan and pass the digest it prints, or the command that it prints with the refusal.",
    ),
    "no-reason": _row(
        "No reason",
        "What --allow overrides, and which policy --no-policy gives up, is recorded in the history with "
        "the reason, in text that can be seen.",
        'Add --reason "…".',
    ),
    "no-policy-other": _row(
        "--no-policy names another policy",
        "The policy on record, whose file is missing, has another hash. Nothing was sent.",
        "Put the file back, or name the policy that the message shows.",
    ),
    "no-policy-found": _row(
        "There is a policy file",
        "--no-policy is for a policy whose file is missing, and a policy file was found.",
        "Leave out --no-policy, or remove the file first.",
    ),
    "no-policy-named": _row(
        "--no-policy beside --policy",
        "--policy, or MMP_POLICY, names a policy file, and --no-policy is for one that is missing.",
        "Give one of the two.",
    ),
    "no-policy-against": _row(
        "--no-policy beside --against",
        "--no-policy is about the policy that the state has on record, and --against asks no state.",
        "Leave out one of the two.",
    ),
    "pause-span": _row(
        "Not a span for a pause",
        "A pause ends by itself, after more than nothing and at most 30 days.",
        "Write --for 30m, or --until-resumed.",
    ),
    "unknown-term": _row(
        "Nothing is called that",
        "explain knows codes, fields, words of plans and results, exit statuses, and families.",
        "Codes stand in brackets in messages: error[CODE], [OKX CODE].",
    ),
    "unknown-state": _row(
        "Not a place for the state",
        "The state is a file or a database of PostgreSQL; this is of neither kind. It is not repeated, "
        "since it may be a mistyped address with a password.",
        "Give --state the path of a file (without : and @), or postgresql://user@host/database.",
    ),
    "no-postgres": _row(
        "PostgreSQL is not installed",
        "A state in PostgreSQL takes the extra of that name, which is not installed here.",
        "Install mmp-reconciler[postgres].",
    ),
    "simulator-host": _row(
        "The simulator serves loopback only",
        "Its control endpoint lets anyone change anything, so no other address is served.",
        "Use 127.0.0.1.",
    ),
    "simulator-address": _row(
        "The simulator cannot listen there", "The port is taken or not allowed.", "Choose another --port."
    ),
    "listen-address": _row(
        "The sidecar cannot listen at what was named",
        "--listen is HOST:PORT, :PORT or PORT; an IPv6 address stands in brackets. --listen-name is a host "
        "name without a port.",
        "Write it like 127.0.0.1:9464.",
    ),
    "listen-failed": _row(
        "The sidecar could not listen there",
        "The port is taken, or the address is not one of this machine. Nothing was begun.",
        "End what listens there, or name another place; port 0 is any free one.",
    ),
    # Plans, policies, revisions
    "guard-disable": _row(
        "A family would be switched off",
        "Without a policy the one guard is: an enabled family is not disabled unless that is said by "
        "name. apply sent nothing at all.",
        "If it is meant: run the command that mmp plan prints with the refusal (--allow disable:FAMILY).",
    ),
    "fail-on": _row(
        "The plan has what --fail-on names",
        "The plan was shown; the exit status says that it holds one of the kinds asked for.",
        "Look at the plan; leave the kind out of --fail-on if it may be there.",
    ),
    "plan-moved": _row(
        "Not the plan that was approved",
        "State or live changed after the plan was shown, and so did what would be sent. Nothing was.",
        "Run it again and look at the new plan.",
    ),
    "unexpected-plan": _row(
        "Not the plan that was expected",
        "The digest of the plan differs from --expect: file, state or live changed since the review. "
        "Nothing was sent.",
        "Review the new plan and pass its digest.",
    ),
    "plan-stale": _row(
        "The saved plan is stale",
        "Account, environment, host or config are not those the plan was made for, or it has expired. "
        "Nothing was sent.",
        "Make a new plan with mmp plan --out, and review it.",
    ),
    "plan-edited": _row(
        "The plan file was changed",
        "Its content does not fit its own digest, so it is not what was reviewed.",
        "Make a new plan; a plan file is never edited.",
    ),
    "plan-not-saved": _row(
        "Not a saved plan",
        "The file is not what mmp plan --out writes.",
        "Name a file written by mmp plan --out.",
    ),
    "no-such-day": _row(
        "A time that does not exist",
        "A date or time in the file is in the right form and on no calendar.",
        "Make a new plan; a plan file is never edited.",
    ),
    "out-unwritable": _row(
        "The plan cannot be written",
        "The file named with --out cannot be made.",
        "Check the folder and who may write to it.",
    ),
    "status-too-old": _row(
        "The published status is too old",
        "plan --against compares with a status snapshot, and this one is older than --max-age.",
        "Publish a fresh mmp status --output json.",
    ),
    "status-unreachable": _row(
        "The published status could not be had",
        "The file or address given with --against did not yield a document.",
        "Check the address.",
    ),
    "another-account": _row(
        "The status is of another account",
        "Account or environment of the published status are not those of the file.",
        "Publish and name the status of this account.",
    ),
    "shallow-clone": _row(
        "The clone is shallow",
        "What was named may be a revision that was not fetched: CI systems fetch only the newest commit by "
        "default.",
        "Set the checkout's depth to 0 (GitHub: fetch-depth: 0; GitLab: GIT_DEPTH: 0).",
    ),
    "ambiguous-name": _row(
        "A word may be a path and a revision",
        "A file or folder has the name of a git revision, or of one that this clone may lack. mmp diff "
        "compares neither: a branch could add such a file to hide what it changes.",
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
        "The file is there already",
        "init and import overwrite nothing.",
        "Name another file, or move that one away.",
    ),
    "file-unwritable": _row(
        "The file cannot be written",
        "The operating system refuses: no such folder, no right, no space, or a read-only file system.",
        "Check the folder, your rights and the space that is left.",
    ),
    "nothing-live": _row(
        "Nothing to import",
        "The exchange lists no family whose settings a file could hold.",
        "Write a starter file with mmp init.",
    ),
    # Keys and accounts
    "credentials-missing": _row(
        "Keys are not set",
        "The three variables OKX_API_KEY, OKX_SECRET_KEY and OKX_PASSPHRASE (another prefix: "
        "credentials.prefix) are looked up in the environment, never in the file or a flag.",
        "Set them, or name files that hold them in …_FILE.",
    ),
    "credentials-twice": _row(
        "A key is set twice",
        "Both a variable and its …_FILE are set; an empty variable counts as set.",
        "Unset one of the two.",
    ),
    "credentials-file": _row(
        "A file with a key cannot be used",
        "It cannot be read, is no regular file, or is open to every user of the machine.",
        "chmod 600 the file (in Kubernetes: defaultMode 0440).",
    ),
    "credentials-value": _row(
        "A key that cannot be one", "It is empty, too long, or has characters no key of OKX's has.", _COPY
    ),
    "wrong-account": _row(
        "The key belongs to another account",
        "expect.uid of the file, or the plan being applied, names another User ID. Nothing was written.",
        "Use the key of that account, or correct expect.uid.",
    ),
    "claimed-twice": _row(
        "Two files for one account want the same family",
        "Their keys belong to one User ID, so each would undo what the other makes. Nothing was written.",
        "Keep each family in one of the files, or use another key for one.",
    ),
    "not-portfolio-margin": _row(
        "The account is not in portfolio margin mode",
        "Set MMP works in account mode 4 only.",
        "Switch the account's mode at OKX.",
    ),
    "no-trade-permission": _row(
        "The key may not trade",
        "Set MMP and Reset MMP Status need the Trade permission; plans need Read alone.",
        "Give the key Trade permission at OKX, or use one that has it.",
    ),
    # Runs
    "timed-out": _row(
        "Not everything was settled in time",
        "apply gave up at its --timeout. What is on record is true, and nothing is in flight.",
        "Run it again, or raise --timeout; the message has the last trouble there was.",
    ),
    "stopped": _row(
        "Stopped by a signal",
        "The request in flight was settled first. What is on record is true.",
        "Run it again to go on.",
    ),
    "interrupted": _row(
        "Interrupted (SIGINT)",
        "Ctrl-C, or a pipeline that was cancelled, ended the command before it was done.",
        "Run it again.",
    ),
    "output-lost": _row(
        "The result could not be written",
        "stdout is closed or what it leads to is full. What the command did is done all the same.",
        "Free or open what stdout leads to; mmp status and mmp history say what was done.",
    ),
    "internal-error": _row(
        "A bug in mmp",
        "An assumption of the program did not hold. What is on record stays true.",
        "Report it, with the traceback MMP_TRACEBACK=1 shows.",
    ),
    "reset-refused": _row(
        "The exchange did not reset",
        "Reset MMP Status answered code 0 and result false: taken, and not done.",
        "Look at the family at OKX.",
    ),
    "reset-unconfirmed": _row(
        "Nobody knows whether the family was reset",
        "The request has no definite answer. Live is read to see what it did before it is sent again.",
        "Run mmp reset again: it looks first whether the family is still frozen.",
    ),
    # State
    "state-locked": _row(
        "Another process holds the state",
        "One pass at a time works on an account; the message names who holds it.",
        "Wait until it is done, or give more time with --lock-timeout.",
    ),
    "state-foreign-uid": _row(
        "The state belongs to another User ID",
        "It was stamped with the User ID of the first key that was used with it.",
        "Use that account's key, or give this User ID an account name of its own in its file.",
    ),
    "state-foreign-kind": _row(
        "The state is of the simulator, or of the exchange",
        "What was applied at one of them says nothing about the other.",
        "Name the state that is used with this exchange (--state), and keep the simulator's apart.",
    ),
    "state-missing": _row(
        "There is no state yet", "A command that only reads found none.", "mmp apply and mmp run make it."
    ),
    "state-unused": _row(
        "The state was never used for this account",
        "Pauses are stored by User ID, which the state knows only after mmp apply or mmp run.",
        "Run mmp apply or mmp run first. Nothing is written for the account until then.",
    ),
    "state-second": _row(
        "Another state is in use for this User ID on this machine",
        "Two states do not know each other's requests, so together they would exceed the rate. A state is "
        "in use while a process that may write with it is running.",
        "To use the new one, end what uses the other. Or use the state that the message names (--state, "
        "MMP_STATE).",
    ),
    "state-behind": _row(
        "The state does not have the newest request of this machine on record",
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
        "Others may have read or changed it, so it is not believed. A group is accepted if this process is "
        "in it, the state's folder is of that group, and the folder is closed to all others.",
        "chmod 600 the file, once it is clear that no other user changed it. In Kubernetes move the state, "
        "with the files beside it, to a folder of its own below the root of the volume.",
    ),
    "state-owner": _row(
        "The state belongs to another user",
        "What this user makes beside the state could not be used by its owner, or a file beside the state "
        "belongs to another user.",
        "Run mmp as the owner of the state, or change the owner (chown) of the state, its folder and all "
        "files beside it.",
    ),
    "state-unknown-fs": _row(
        "The state is on a file system of an unknown type",
        "Only on the usual local ones is it known that SQLite's locks and shared memory work.",
        "Move the state to a local disk; or add --allow-filesystem TYPE if only this host uses it.",
    ),
    "state-network-fs": _row(
        "The state is on a file system that several hosts can use",
        "Locks and shared memory do not work across hosts, so there would be two ledgers.",
        "Move the state to a local disk; for several hosts keep it in PostgreSQL.",
    ),
    "state-linked": _row(
        "The state has another link",
        "SQLite's log and the locks go by the file's name, so each name would be a ledger of its own.",
        "Remove the other link (find / -xdev -samefile FILE); a running mmp run continues then. To "
        "use the state from elsewhere, mount its folder.",
    ),
    "state-mounted": _row(
        "The state is mounted by itself, without its folder",
        "SQLite's log and the locks go by the file's name, so each name would be a ledger of its own.",
        "Mount the folder that the state is in, not the file; in Kubernetes no subPath that names a file.",
    ),
    "state-replaced": _row(
        "The state was removed or replaced while in use",
        "Going on would pace by a ledger of one's own.",
        "Start again: the file that is there now, or a new one, is used from then on.",
    ),
    "state-disk-full": _row(
        "No space left for the state",
        "Space, inodes or a quota are used up. Nothing is sent; what was recorded before is safe.",
        "Free some space. mmp run tries again by itself.",
    ),
    "state-io-error": _row(
        "The disk of the state failed",
        "The system could not read or write. Nothing is sent; what was recorded before is safe.",
        "See whether the disk is in order. mmp run opens the file again and continues.",
    ),
    "state-busy": _row(
        "The state was kept busy",
        "Another process's transaction did not end in time; they take milliseconds. mmp run tries again "
        "by itself.",
        "See what has the file open (fuser, lsof), or what keeps the server busy, and try again.",
    ),
    "state-failed": _row(
        "The state could not be used",
        "SQLite or the server failed in a way that is not expected; nothing that failed was recorded.",
        "See what the message says, and whether the disk is in order.",
    ),
    **dict.fromkeys(
        ("state-unreadable", "state-unwritable"),
        _row(
            "No right to use the state",
            "The file or its folder, or the schema mmp, cannot be read or written by this user. Of a file, "
            "mmp run ends with it at its start; later it waits, since a disk may be read-only for a while.",
            "Run mmp as the user who owns the state, or give this user the right.",
        ),
    ),
    **dict.fromkeys(
        ("state-damaged", "state-empty", "state-incomplete", "state-truncated"),
        _row(
            "The state is damaged",
            "It is not as this program leaves one: empty, cut off, a table changed, or a row does not fit "
            "its check. It is never repaired silently.",
            _ANEW,
        ),
    ),
    **dict.fromkeys(
        ("state-foreign-file", "state-not-a-file", "state-not-sqlite"),
        _row("Not a state of mmp", "Something else is at that place.", _OTHER_STATE),
    ),
    # State in PostgreSQL
    "bad-postgres-address": _row(
        "Not an address that PostgreSQL understands",
        "What was given is not repeated: it may hold a password. With an unescaped / ? or @ in it, a piece "
        "of the password would be taken for the port, the database or the host.",
        "Write it like postgresql://user@host:5432/database?sslmode=verify-full, with %2F for /, %3F for ? "
        "and %40 for @ in a password; or set PGPASSWORD.",
    ),
    "copy-direction": _row(
        "A state is copied from a file into PostgreSQL",
        "No other way is offered.",
        "Write it like mmp state copy .mmp/state.db postgresql://user@host/database.",
    ),
    "state-not-empty": _row(
        "The target of a copy has something of these accounts already",
        "Two histories of one account or User ID cannot be told apart again once they are mixed.",
        "Give each state that is copied accounts and User IDs of its own, or a database of its own.",
    ),
    "state-moved": _row(
        "The state was moved to another place",
        "mmp state copy is complete: all records are there, and there is one record of requests. Nothing "
        "is written to the file; it can be read.",
        "Use the state that the message names (--state, MMP_STATE).",
    ),
    "state-moving": _row(
        "A copy of the state is under way, or was interrupted",
        "mmp state copy retires the file before its records are complete in the database. Nothing is "
        "written to the file, and the database may have none of its pauses and requests.",
        "Do not use the database yet. Wait until the copy is complete. If it was interrupted, run the same "
        "mmp state copy again; with --undo the file is used again where nothing arrived.",
    ),
    "state-copy-failed": _row(
        "What was copied did not arrive as it was",
        "It is read back before it is committed; nothing was copied.",
        "See the server's log.",
    ),
    "state-unavailable": _row(
        "The state cannot be reached now",
        "A lost connection, a restart, a failover or a server that is not there; of a file: the system "
        "lacks something, such as file descriptors. Nothing was sent that is not on record.",
        "See what the message says. mmp run tries again by itself.",
    ),
    "state-refused": _row(
        "The server of the state does not let us in",
        "A wrong password, a role or database that is not there, TLS that was asked for and is not to be "
        "had, or a rule of the server's (pg_hba.conf). mmp run ends with it at its start; later it waits, "
        "since a password may be about to be replaced.",
        "See that role, password, database and TLS are those that the server takes.",
    ),
    "state-tables-missing": _row(
        "Tables of the state are missing or hidden",
        "The schema mmp, one of its tables or a column was dropped or renamed, or the role has no USAGE on "
        "the schema. mmp run ends with it at its start; later it waits until they are back.",
        "Restore the schema from a backup, or GRANT USAGE ON SCHEMA mmp to the role.",
    ),
    "state-standby": _row(
        "The server is a standby",
        "A standby cannot be written, and what it shows may be old.",
        "Name the primary, or all hosts with target_session_attrs=read-write.",
    ),
    "state-record-lost": _row(
        "The server of the state lost the record of a request",
        "A failover to a standby that had not yet got it. What may have been lost is counted against "
        "the rate and read back.",
        "Nothing. With a synchronous standby it does not happen.",
    ),
    "state-lock-lost": _row(
        "The lock of the account was lost to another process",
        "This process had not been heard of for nine seconds. It sends nothing without the lock.",
        "Nothing, unless it happens often: then see what stops the process or the connection.",
    ),
    "state-older": _row(
        "The state was written by an older mmp",
        "A command that only reads does not bring it up to date.",
        "mmp apply or mmp run of this version does.",
    ),
    "state-old-server": _row(
        "The PostgreSQL server is too old", "It has never been tried.", "Use PostgreSQL 12 or newer."
    ),
    "state-encoding": _row(
        "The database is not in UTF8",
        "Reasons and messages could not be kept as they are.",
        "Make a database for it with ENCODING 'UTF8'.",
    ),
    "state-foreign-schema": _row(
        "The schema mmp is not this program's",
        "It holds other tables and no version of ours; it is left alone.",
        "Give mmp a database of its own, or rename that schema.",
    ),
    # What is no answer of OKX's
    "timeout": _row("No whole reply in time", "Nothing complete came within 10 s.", READ_BACK),
    "broken": _row("The connection broke", "What came is no whole HTTP reply.", READ_BACK),
    "not-okx": _row("Not a reply of OKX's", "It is not OKX's own JSON envelope.", _WITHIN),
    "redirect": _row("A redirect", "OKX's API has none, and following one would pass on keys.", _WITHIN),
    "encoded": _row("A compressed reply", "Compression was refused, and came all the same.", _WITHIN),
    "too-large": _row("A reply that is too large", "Replies are read up to a bound.", _WITHIN),
    "headers-too-large": _row(
        "A reply with headers that are too large",
        "Headers are read up to 256 KiB in all; OKX's are about 2 KiB. A gateway or proxy adds the rest.",
        _WITHIN,
    ),
    "bad-status": _row("Status and code contradict each other", "Neither is believed.", READ_BACK),
    "bad-data": _row("A reply that makes no sense", "The envelope is OKX's, its data is not.", READ_BACK),
    "bad-row": _row(
        "A live row that makes no sense",
        "A family whose live row cannot be understood is not written.",
        "Look at the family at OKX; report it if the row is right.",
    ),
    "too-many": _row("More than can be asked about", "A list is longer than the rate allows to ask for."),
    "suspended": _row(
        "This machine was suspended",
        "It was suspended between signing and sending, so the signature is too old. Nothing was written.",
        "Nothing: live is read again, then the request is sent again.",
    ),
    "late": _row("Too late to send", "The slot had passed; nothing was written.", _NETWORK),
    "clock-old": _row(
        "The exchange's clock was measured too long ago",
        "Requests that change something are signed with a clock measured within the last hour. Nothing was "
        "written; reads continue.",
        "Let this machine reach GET /api/v5/public/time. A firewall, proxy or gateway may refuse it.",
    ),
    "closed-early": _row("Closed before the request", "Nothing was written.", _NETWORK),
    **dict.fromkeys(
        ("connect", "connect-timeout", "dns"),
        _row("No connection", "The host was not reached. Nothing was written.", _NETWORK),
    ),
    "tls": _row(
        "No trusted connection",
        "The host's certificate is not vouched for, and checking cannot be switched off.",
        "Check --base-url, this machine's certificates, and for a proxy that opens TLS.",
    ),
}
"""Every error code of the program's own, save the problems of files."""

FIELDS: dict[str, Explanation] = {
    "timeInterval": _row(
        "The monitoring window",
        "Fills are counted over this time. Milliseconds (5000), or a number and a unit (500ms, 5s, 2m, "
        "1h). disabled, OKX's 0, switches the family's protection off. Longer is tighter.",
        "0 here means no protection at all: write disabled if that is meant.",
    ),
    "frozenInterval": _row(
        "The freeze",
        "How long quotes stay pulled once the limit is hit. Milliseconds, or a number and a unit. "
        "until-reset, OKX's 0, is until somebody resets (mmp reset). Longer is tighter.",
        "0 here is the longest freeze there is: write until-reset if that is meant.",
    ),
    "qtyLimit": _row(
        "The quantity limit",
        "Contracts filled within the window that pull the quotes. A plain decimal greater than 0, of at "
        "most 20 digits; it has no zero. Less is tighter.",
    ),
    "version": _row("The version of the file's format", "1; a number without quotes."),
    "account": _row(
        "The desk's own name for the account",
        "Lower-case letters, digits, dots, dashes and underscores. The state is kept under it. Without "
        "it the account is called main.",
    ),
    "environment": _row(
        "Which of OKX's two environments", "live or demo; the key must have been made in the same one."
    ),
    "expect": _row(
        "The account that is expected",
        'expect: {uid: "446556540"} refuses to write to any other User ID; the digits stand in quotes.',
    ),
    "uid": _row("A User ID of OKX's", "Digits in quotes; mmp doctor shows the key's."),
    "credentials": _row(
        "Where the keys are looked up",
        "credentials: {prefix: OKX_} means OKX_API_KEY, OKX_SECRET_KEY and OKX_PASSPHRASE in the "
        "environment, each also as …_FILE. The keys never stand in the file.",
    ),
    "prefix": _row("The prefix of the keys' variables", "Capitals and underscores, ending with one."),
    "defaults": _row(
        "What every family has",
        "Any of the three fields; a family's own value goes before it. There are no built-in values.",
    ),
    "families": _row(
        "The managed families",
        "By OKX's name, such as BTC-USD or SOL-USD_UM. A family that is not listed is unmanaged: never "
        "written, never disabled. Taking one out only stops managing it.",
    ),
}
"""The keys of mmp.yaml."""

WORDS: dict[str, Explanation] = {
    # Actions
    "set": _row("To be set", "One request makes live as desired."),
    "adopt": _row("To be adopted", "Live is already as desired: it is recorded, without a request."),
    "hold": _row("Held", "It differs, and something holds it back; the plan says what."),
    # Reasons
    "new": _row("New", "The family was neither applied nor is it live."),
    "changed": _row("Changed", "The file wants something else than was last applied."),
    "drifted": _row(
        "Drifted",
        "The file wants what was last applied, and live is something else: somebody changed it.",
        "apply puts it back; run puts back what became looser, unless told otherwise with --drift.",
    ),
    "uncertain": _row(
        "Uncertain",
        "An earlier request has no definite answer, so what is in force is not known. It is never taken as "
        "equal to what is desired.",
        "It is sent again, or read back once nothing can still arrive; mmp status says when.",
    ),
    # Directions
    "enable": _row("Enable", "Protection is switched on."),
    "tighten": _row("Tighten", "At least one field protects more, none less."),
    "mixed": _row("Mixed", "One field protects more and another less."),
    "loosen": _row("Loosen", "At least one field protects less, none more."),
    "disable": _row(
        "Disable",
        "Protection is switched off (timeInterval 0). It has to be allowed by the policy or by name.",
    ),
    # Why a family is held
    "frozen": _row(
        "Frozen",
        "The exchange pulled the family's quotes. It is not written until that is over, because nobody "
        "documents what a write does to a freeze.",
        "Look into why; a freeze that lasts until a reset is ended by mmp reset FAMILY.",
    ),
    "paused": _row(
        "Paused", "Someone paused the family, or it was fought over.", "mmp resume --family FAMILY ends it."
    ),
    "policy": _row(
        "Refused by the policy",
        "A rule of mmp-policy.yaml refuses the change; rule, measured value and limit are shown. Or the "
        "policy cannot be read, or its file is missing: until it is back, changes that loosen or disable "
        "are held.",
        "If it is meant: run the command that mmp plan prints with the refusal, and give a reason.",
    ),
    "guard": _row(
        "Held by the guard",
        "The change would switch the family's protection off, or be as good as that (a timeInterval below "
        "100 ms, a factor of 1000 or more), and there is no policy that allows it.",
        "If it is meant: run the command that mmp plan prints with the refusal (--allow disable:FAMILY).",
    ),
    "drift-policy": _row(
        "Drift that is left alone",
        "The family drifted tighter (or run was told --drift warn): reported, not touched.",
        "mmp apply makes it as the file says.",
    ),
    "unreadable": _row(
        "Not readable",
        "The live setting of the family could not be read for certain, so the family is not written.",
        "mmp plan reads again; look at the row at OKX. OKX support can say why its API lists it so.",
    ),
    "stale": _row(
        "Stale",
        "The change is not one that was reviewed, so it was skipped.",
        "Make a new plan and review it.",
    ),
    # Outcomes
    "applied": _row("Applied", "Acknowledged by the exchange, with exactly the echo of what was sent."),
    "adopted": _row("Adopted", "A read showed it in force; no request was needed."),
    "rejected": _row(
        "Rejected",
        "The exchange refused this setting; the code says why. run tries it again every 10 minutes, later "
        "every hour, while live is looser; another value is tried at once.",
        "mmp explain the code, and correct the family's entry in the file.",
    ),
    "unknown": _row(
        "Unknown",
        "A request has no definite answer, so what is in force is not known for certain.",
        "Run it again: a read or an acknowledged write settles it.",
    ),
    "held": _row("Held", "Not written: frozen, paused, refused, or left alone."),
    "skipped": _row("Skipped", "Not come to before the end.", "Run it again."),
    # States, and kinds of refusal
    "in-sync": _row("In sync", "As desired, as far as is on record."),
    "pending": _row("Pending", "To be applied or recorded; mmp status says when."),
    "bounds": _row("Bounds", "A desired value is outside what the policy allows for the family."),
    "protected": _row("Protected", "The policy protects the family: not removed, disabled or paused."),
    # Rules of the policy, as refusals name them
    **{
        f"bounds.{field}.{limit}": _row(
            "A limit of the policy",
            f"{field} of a family is {told} what bounds.{field}.{limit} of mmp-policy.yaml says; a change "
            "back towards it is let pass.",
            _OVERRIDE.format("bounds"),
        )
        for field in ("timeInterval", "frozenInterval", "qtyLimit")
        for limit, told in (("min", "less than"), ("max", "more than"))
    },
    **{
        rule: _row("A word the policy denies", f"{said} is not allowed there.", _OVERRIDE.format("bounds"))
        for rule, said in (
            ("bounds.timeInterval.disabled", "disabled, which switches the family's protection off,"),
            ("bounds.frozenInterval.until-reset", "until-reset, a freeze that only a person ends,"),
        )
    },
    **{
        f"bounds.exposure.{figure}.max": _row(
            "A limit of the exposure",
            f"A family may trade more contracts {told} than bounds.exposure.{figure}.max of "
            "mmp-policy.yaml says; a change that lowers the figure is let pass.",
            _OVERRIDE.format("bounds"),
        )
        for figure, told in (
            ("perTrip", "before it trips (qtyLimit)"),
            ("perSecond", "per second within the window (qtyLimit / timeInterval)"),
            ("perMinute", "per minute at worst (it trips again after each freeze)"),
        )
    },
    "floor.timeInterval": _row(
        "As good as disabled",
        "The change sets a timeInterval that is shorter than floor.timeInterval of mmp-policy.yaml and "
        "than before. So short a window protects against next to nothing.",
        _OVERRIDE.format("disable"),
    ),
    "floor.factor": _row(
        "As good as disabled",
        "The factor of the change is floor.factor of mmp-policy.yaml or more.",
        _OVERRIDE.format("disable"),
    ),
    "loosening.maxFactor": _row(
        "Too far at once",
        "The factor of the change is larger than this. The factor is the worst of four ratios: contracts "
        "per trip, per second and per minute at worst (after/before), and frozenInterval (before/after). "
        "Leaving until-reset is unlimited.",
        _OVERRIDE.format("loosen (or mixed, disable)"),
    ),
    "loosening.maxFamilies": _row(
        "Too many at once",
        "The file makes more families looser, or disables them, than this; paused ones and those that a "
        "command leaves out count, too.",
        _OVERRIDE.format("loosen (or mixed, disable)"),
    ),
    "loosening.maxShare": _row(
        "Too large a share at once",
        "The file makes a larger share of the families looser, or disables them. The share is of those "
        "that were in force for 24 hours on record. In the first 24 hours of a state no share is proven. "
        "mmp diff has no record: it counts the families that the older file enables.",
        _OVERRIDE.format("loosen (or mixed, disable)"),
    ),
    "loosening.per": _row(
        "Too far in several steps",
        "loosening.maxFactor also applies from the setting that was accepted at the start of this time. "
        "Several changes in a row may not loosen more within it than one change may. A change that is no "
        "looser than that setting passes.",
        "Wait until the steps are older than this time. " + _OVERRIDE.format("loosen (or mixed)"),
    ),
    "loosening.unknown": _row(
        "Nothing is known of the family",
        "Live was not read (--no-live) and nothing is on record. So it is not known whether the change "
        "loosens, and the policy limits that (loosening.maxFactor).",
        "Run the command without --no-live. If the change is meant: --allow loosen:FAMILY, or for mmp run "
        "loosening: {unknown: allow} in the policy.",
    ),
    # Words of the file
    "disabled": _row("Disabled", "timeInterval: disabled, OKX's 0: no protection for the family at all."),
    "until-reset": _row(
        "Until reset",
        "frozenInterval: until-reset, OKX's 0: quotes stay pulled until someone resets the family.",
        "mmp reset FAMILY ends such a freeze.",
    ),
    "unmanaged": _row("Unmanaged", "Live at the exchange and not in the file: never touched."),
}
"""The words of plans, results and statuses."""

REPLY_CLASSES: dict[ReplyClass, str] = {
    ReplyClass.ACCEPTED: "The request was taken.",
    ReplyClass.RATE_LIMITED: "Certainly not applied: a full quiet window, then evenly spaced requests.",
    ReplyClass.BUSY: "Whether it took effect is not known; each further try costs a slot of the rate.",
    ReplyClass.AMBIGUOUS: "Whether it took effect is not known: a request to set counts as sent.",
    ReplyClass.CLOCK: "Certainly not applied: the timestamp was refused.",
    ReplyClass.WRONG_SETTINGS: "Certainly not applied: the setting is rejected. Others are written.",
    ReplyClass.NOT_OPEN: "Certainly not applied: the family is tried again at long intervals.",
    ReplyClass.ACCOUNT: "Certainly not applied: writing stops until account or key are put right.",
    ReplyClass.ENVIRONMENT: "Certainly not applied: writing stops; live and demo were mixed up.",
    ReplyClass.UNAVAILABLE: "Certainly not applied: the account or the service is down for longer.",
    ReplyClass.OUR_BUG: "Certainly not applied: the request was malformed, and writing stops.",
    ReplyClass.NO_ANSWER: "No answer of OKX's: a request to set counts as sent.",
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
