"""What the error codes of the program mean, and what to do about them: the texts of ``mmp explain``."""

from __future__ import annotations

from reconciler.core.problems import Explanation
from reconciler.core.reply import READ_BACK
from reconciler.render.state_errors import STATE_ERRORS

_FLAGS = Explanation(
    "Flags that cannot be combined",
    "The message names the flags. An invalid command line exits 64, never 2.",
    "Leave one out. See mmp COMMAND --help.",
)
_GIT = Explanation(
    "git could not show the revision",
    "mmp diff reads files of revisions with the git command. The message has git's output.",
    "Check the revision, the path and the repository. In CI fetch the full history.",
)
_COPY = "Copy the value again from OKX, without quotes or blanks around it."
_NETWORK = "Check the network and its firewalls. mmp continues by itself."
_WITHIN = "Check the proxies and gateways between this machine and OKX."

ERRORS: dict[str, Explanation] = {
    # Command line
    "usage": Explanation(
        "Invalid command line",
        "A flag or argument is unknown, missing or malformed. Nothing was done.",
        "See mmp COMMAND --help.",
    ),
    "base-url": Explanation(
        "The address of the exchange is not allowed",
        "Keys are sent only over https and only to hosts that OKX documents. Plain http is for "
        "loopback addresses only.",
        "Correct --base-url. Another https host needs --allow-host NAME.",
    ),
    "no-family": Explanation(
        "No family matches",
        "No pattern of --family matches a family of the file (or of the saved plan). For mmp "
        "reset: neither the file nor the exchange knows the family.",
        "Put the pattern in quotes, and compare it with the families of the file.",
    ),
    "one-account": Explanation(
        "Exactly one account is required",
        "The command or its flag (--out, PLAN, --expect, reset) works for a single account.",
        "Name one file with -c.",
    ),
    "not-approved": Explanation(
        "Not approved",
        "There is something to send, and no terminal for the question. Nothing was sent.",
        "Add --yes if the plan is approved.",
    ),
    "declined": Explanation(
        "Declined", "The answer to the question on the terminal was no. Nothing was sent.", "Run it again."
    ),
    "allow-unseen": Explanation(
        "An override without a reviewed plan",
        "Without a prompt, --allow applies to one plan: the one of --expect DIGEST, or of a plan file.",
        "Run mmp plan, and use its digest or the command that it prints with the refusal.",
    ),
    "no-reason": Explanation(
        "No reason given",
        "The history records each override and each policy that was given up, with a reason in "
        "visible text.",
        'Add --reason "…".',
    ),
    "no-policy-other": Explanation(
        "--no-policy names another policy",
        "The policy on record, whose file is missing, has another hash. Nothing was sent.",
        "Restore the file, or name the policy that the message shows.",
    ),
    "no-policy-found": Explanation(
        "A policy file exists",
        "--no-policy is for a policy whose file is missing, and a policy file was found.",
        "Leave out --no-policy, or remove the file first.",
    ),
    "no-policy-named": Explanation(
        "--no-policy with --policy",
        "--policy or MMP_POLICY names a policy file, but --no-policy is for a missing file.",
        "Use one of the two.",
    ),
    "no-policy-against": Explanation(
        "--no-policy with --against",
        "--no-policy needs the policy on record in the state, but --against does not use the state.",
        "Leave out one of the two.",
    ),
    "pause-span": Explanation(
        "Invalid length of a pause",
        "A pause is longer than 0 and at most 30 days.",
        "Write --for 30m, or --until-resumed.",
    ),
    "unknown-term": Explanation(
        "Unknown word",
        "mmp explain knows codes, fields, words of plans and results, exit statuses and families.",
        "In messages, codes are in brackets: error[CODE], [OKX CODE].",
    ),
    "unknown-state": Explanation(
        "Invalid --state",
        "The state is a file or a PostgreSQL database. The value is neither. It is not printed, "
        "because it may contain a password.",
        "Use the path of a file (without : and @), or postgresql://user@host/database.",
    ),
    "no-postgres": Explanation(
        "PostgreSQL support is not installed",
        "A state in PostgreSQL needs the extra postgres.",
        "Install mmp-reconciler[postgres].",
    ),
    "simulator-host": Explanation(
        "The simulator serves loopback only",
        "Its control endpoint can change everything, so no other address is allowed.",
        "Use 127.0.0.1.",
    ),
    "simulator-address": Explanation(
        "The simulator cannot listen there", "The port is in use or not allowed.", "Choose another --port."
    ),
    "listen-address": Explanation(
        "Invalid --listen or --listen-name",
        "--listen is HOST:PORT, :PORT or PORT, with an IPv6 address in brackets. --listen-name is "
        "a host name without a port.",
        "Example: 127.0.0.1:9464.",
    ),
    "listen-failed": Explanation(
        "Cannot listen at the address",
        "The port is in use, or the address is not one of this machine. Nothing was started.",
        "Stop the other program or choose another address. Port 0 is any free port.",
    ),
    # Plans, policies, revisions
    "guard-disable": Explanation(
        "A family would be switched off",
        "Without a policy there is one guard: disabling an enabled family needs an explicit "
        "override. apply sent nothing at all.",
        "If the change is intended: run the command that mmp plan prints with the refusal (--allow "
        "disable:FAMILY).",
    ),
    "fail-on": Explanation(
        "The plan has a kind of --fail-on",
        "The plan was printed. It contains one of the kinds.",
        "Review the plan, or remove the kind from --fail-on.",
    ),
    "plan-moved": Explanation(
        "Not the plan that was approved",
        "State or live changed after the plan was shown, so other requests would be sent. Nothing "
        "was sent.",
        "Run it again and review the new plan.",
    ),
    "unexpected-plan": Explanation(
        "Not the plan that was expected",
        "The digest of the plan differs from --expect: file, state or live changed since the review. "
        "Nothing was sent.",
        "Review the new plan and pass its digest.",
    ),
    "plan-stale": Explanation(
        "The saved plan is stale",
        "Account, environment, host or config differ from those of the plan, or the plan has "
        "expired. Nothing was sent.",
        "Make a new plan with mmp plan --out, and review it.",
    ),
    "plan-edited": Explanation(
        "The plan file was changed",
        "Its content does not match its digest, so it is not the reviewed plan.",
        "Make a new plan. Do not edit plan files.",
    ),
    "plan-not-saved": Explanation(
        "Not a saved plan",
        "The file was not written by mmp plan --out.",
        "Name a file written by mmp plan --out.",
    ),
    "no-such-day": Explanation(
        "A time that does not exist",
        "A date or time in the file has the right form but does not exist.",
        "Make a new plan. Do not edit plan files.",
    ),
    "out-unwritable": Explanation(
        "The plan cannot be written",
        "The file of --out cannot be created.",
        "Check the folder and its permissions.",
    ),
    "status-too-old": Explanation(
        "The published status is too old",
        "The live read of the status is older than --max-age.",
        "Publish a fresh mmp status --output json.",
    ),
    "status-unreachable": Explanation(
        "The published status could not be read",
        "The file or address of --against gave no document.",
        "Check the address.",
    ),
    "another-account": Explanation(
        "The status belongs to another account",
        "Account or environment of the published status differ from those of the file.",
        "Publish and name the status of this account.",
    ),
    "shallow-clone": Explanation(
        "The clone is shallow",
        "The revision may not have been fetched: by default CI systems fetch only the newest commit.",
        "Set the checkout's depth to 0 (GitHub: fetch-depth: 0; GitLab: GIT_DEPTH: 0).",
    ),
    "ambiguous-name": Explanation(
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
    "file-exists": Explanation(
        "The file already exists",
        "init and import never overwrite a file.",
        "Choose another file, or move that one away.",
    ),
    "file-unwritable": Explanation(
        "The file cannot be written",
        "The operating system refuses it: no such folder, no permission, no space, or a read-only "
        "file system.",
        "Check the folder, its permissions and the free space.",
    ),
    "nothing-live": Explanation(
        "Nothing to import",
        "The exchange lists no family with settings that a file can express.",
        "Write a starter file with mmp init.",
    ),
    # Keys and accounts
    "credentials-missing": Explanation(
        "Keys are not set",
        "mmp reads OKX_API_KEY, OKX_SECRET_KEY and OKX_PASSPHRASE (or another prefix: "
        "credentials.prefix) from the environment, never from the file or a flag.",
        "Set them, or set …_FILE to the paths of files.",
    ),
    "credentials-twice": Explanation(
        "A key is set twice",
        "Both a variable and its …_FILE are set; an empty variable counts as set.",
        "Unset one of the two.",
    ),
    "credentials-file": Explanation(
        "A key file cannot be used",
        "It cannot be read, is not a regular file, or every user of the machine can read it.",
        "chmod 600 the file (in Kubernetes: defaultMode 0440).",
    ),
    "credentials-value": Explanation(
        "Invalid key", "It is empty, too long, or has characters that OKX's keys never have.", _COPY
    ),
    "wrong-account": Explanation(
        "The key belongs to another account",
        "expect.uid of the file, or the saved plan, has another User ID. Nothing was written.",
        "Use the key of that account, or correct expect.uid.",
    ),
    "claimed-twice": Explanation(
        "Two files for one User ID have the same family",
        "Their keys belong to one User ID, so each would undo the other's changes. Nothing was written.",
        "List each family in one of the files only, or use another key for one.",
    ),
    "not-portfolio-margin": Explanation(
        "The account is not in portfolio margin mode",
        "Set MMP requires account mode 4.",
        "Change the account's mode at OKX.",
    ),
    "no-trade-permission": Explanation(
        "The key has no Trade permission",
        "Set MMP and Reset MMP Status need the Trade permission. Plans need Read only.",
        "Give the key Trade permission at OKX, or use another key.",
    ),
    # Runs
    "timed-out": Explanation(
        "Not everything was settled in time",
        "apply ended at its --timeout. The records are correct, and no request is in flight.",
        "Run it again, or use a longer --timeout. The message has the last error.",
    ),
    "stopped": Explanation(
        "Stopped by a signal",
        "The request in flight was settled first. The records are correct.",
        "Run it again to continue.",
    ),
    "interrupted": Explanation(
        "Interrupted (SIGINT)", "Ctrl-C or a cancelled pipeline ended the command early.", "Run it again."
    ),
    "output-lost": Explanation(
        "The result could not be written",
        "stdout is closed, or its disk is full. The command itself did its work.",
        "Correct stdout. mmp status and mmp history show what was done.",
    ),
    "not-started": Explanation(
        "No account runs yet",
        "A settings file is missing, or it is invalid and has no earlier valid version.",
        "Create or correct the file. mmp reads it again by itself.",
    ),
    "internal-error": Explanation(
        "A bug in mmp",
        "The program failed unexpectedly. The records stay correct.",
        "Report it, with the traceback that MMP_TRACEBACK=1 prints.",
    ),
    "reset-refused": Explanation(
        "The exchange did not reset",
        "Reset MMP Status answered code 0 and result false: OKX accepted the request but did not reset.",
        "Look at the family at OKX.",
    ),
    "reset-unconfirmed": Explanation(
        "It is not known whether the family was reset",
        "The request has no definite answer. mmp reads live before it sends again.",
        "Run mmp reset again: it first reads whether the family is still frozen.",
    ),
    **STATE_ERRORS,
    # Failures without an answer from OKX
    "timeout": Explanation("No complete reply in time", "No complete reply within 10 s.", READ_BACK),
    "broken": Explanation("The connection broke", "The HTTP reply is not complete.", READ_BACK),
    "not-okx": Explanation("Not a reply from OKX", "The reply is not in OKX's JSON format.", _WITHIN),
    "redirect": Explanation(
        "A redirect", "OKX's API has no redirects. Following one would disclose keys.", _WITHIN
    ),
    "encoded": Explanation(
        "A compressed reply", "The reply is compressed, although mmp does not accept that.", _WITHIN
    ),
    "too-large": Explanation("A reply that is too large", "The reply is longer than the limit.", _WITHIN),
    "headers-too-large": Explanation(
        "A reply with headers that are too large",
        "Headers are read up to 256 KiB; OKX's are about 2 KiB. A gateway or proxy adds the rest.",
        _WITHIN,
    ),
    "bad-status": Explanation("Status and code contradict each other", "Neither is used.", READ_BACK),
    "bad-data": Explanation(
        "A reply that cannot be understood", "The reply is in OKX's format, but its data is not.", READ_BACK
    ),
    "bad-row": Explanation(
        "A live row that cannot be understood",
        "The family is not written.",
        "Look at the family at OKX. Report it if the row is correct.",
    ),
    "too-many": Explanation("Too many items", "A list has more items than the rate allows to read."),
    "suspended": Explanation(
        "This machine was suspended",
        "It was suspended between signing and sending, so the signature is too old. Nothing was sent.",
        "Nothing to do: mmp reads live and sends again.",
    ),
    "late": Explanation("Too late to send", "The time of the slot had passed. Nothing was sent.", _NETWORK),
    "clock-old": Explanation(
        "The exchange's clock was measured too long ago",
        "Requests that change something are signed with a clock measured within the last hour. Nothing was "
        "written; reads continue.",
        "Allow this machine to reach GET /api/v5/public/time. A firewall, proxy or gateway may block it.",
    ),
    "closed-early": Explanation("Closed before the request", "Nothing was written.", _NETWORK),
    **dict.fromkeys(
        ("connect", "connect-timeout", "dns"),
        Explanation("No connection", "The host was not reached. Nothing was written.", _NETWORK),
    ),
    "tls": Explanation(
        "No trusted connection",
        "The host's certificate is not trusted. The check cannot be switched off.",
        "Check --base-url, this machine's certificates, and whether a proxy opens TLS.",
    ),
}
"""Every error code of the program itself, except the problems of files."""
