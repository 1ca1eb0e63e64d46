"""The meaning of the state's error codes, in a file and in PostgreSQL, and what to do about them."""

from __future__ import annotations

from reconciler.core.problems import Explanation

_ANEW = (
    "Run mmp state check to see what is still readable: pauses are lost with the file. Then move the file "
    "away and find out what happened. Let mmp create a new one, a minute after the last request: it waits "
    "10 s and adopts what is live. Pause again the families that must stay paused before you apply."
)
_OTHER_STATE = "Correct --state. The present content is not changed."

STATE_ERRORS: dict[str, Explanation] = {
    # State
    "state-locked": Explanation(
        "Another process has locked the state",
        "Only one process at a time works on an account. The message names the process.",
        "Wait, or use a longer --lock-timeout.",
    ),
    "state-foreign-uid": Explanation(
        "The state belongs to another User ID",
        "It belongs to the User ID of the first key that was used with it.",
        "Use the key of that account, or give this User ID its own account name in its file.",
    ),
    "state-foreign-kind": Explanation(
        "The state belongs to the simulator, or to OKX",
        "It cannot be used with the other one.",
        "Name the state that is used with this exchange (--state).",
    ),
    "state-missing": Explanation(
        "There is no state yet",
        "A command that only reads found no state.",
        "mmp apply and mmp run create it.",
    ),
    "state-unused": Explanation(
        "The state was never used for this account",
        "Pauses are stored by User ID, which the state knows only after mmp apply or mmp run.",
        "Run mmp apply or mmp run first. Nothing is written for the account until then.",
    ),
    "state-second": Explanation(
        "Another state is in use for this User ID on this machine",
        "Two states do not know each other's requests, so together they would exceed the rate. A "
        "state is in use while a process that can write with it runs.",
        "Use the state that the message names (--state, MMP_STATE). Or stop the process that uses it.",
    ),
    "state-behind": Explanation(
        "The state does not have the newest request of this machine",
        "A request for the User ID was reserved in another state, or in this one before it was restored, "
        "moved or copied. It may count against the rate for 45 s, and this state does not know it.",
        "Wait as long as the message says, then try again; mmp run does so by itself.",
    ),
    "state-newer": Explanation(
        "The state is used by a newer mmp",
        "Its tables are of a version that this program cannot use. A command ends with it at its start; a "
        "run that used the state before waits, is not ready and sends nothing.",
        "Use that newer version.",
    ),
    "state-exposed": Explanation(
        "The state is open to other users",
        "Others may have read or changed it. A group is accepted if this process is in it, the "
        "state's folder belongs to that group, and the folder is closed to all others.",
        "Make sure that no other user changed the file, then chmod 600. In Kubernetes move the "
        "state, with the files beside it, to its own folder below the root of the volume.",
    ),
    "state-owner": Explanation(
        "The state belongs to another user",
        "The owner could not use the files that this user creates beside the state, or a file "
        "beside the state belongs to another user.",
        "Run mmp as the owner of the state, or change the owner (chown) of the state, its folder and all "
        "files beside it.",
    ),
    "state-unknown-fs": Explanation(
        "The state is on a file system of an unknown type",
        "SQLite's locks and shared memory are known to work on the usual local file systems only.",
        "Move the state to a local disk; or add --allow-filesystem TYPE if only this host uses it.",
    ),
    "state-network-fs": Explanation(
        "The state is on a file system that several hosts can use",
        "Locks and shared memory do not work across hosts, so there would be two records of requests.",
        "Move the state to a local disk. For several hosts use PostgreSQL.",
    ),
    "state-linked": Explanation(
        "The state has another link",
        "The state, its -wal or -shm file or a lock file has a second hard link, or one of the files "
        "beside the state is a symbolic link. SQLite's log and the locks use the file's name, so each name "
        "would be a separate record of requests.",
        "Remove the other link (find / -xdev -samefile FILE). A running mmp run then continues. "
        "To use the state in another place, mount its folder.",
    ),
    "state-mounted": Explanation(
        "The state is mounted by itself, without its folder",
        "SQLite's log and the locks use the file's name, so each name would be a separate record "
        "of requests.",
        "Mount the folder of the state, not the file. In Kubernetes do not use a subPath that "
        "names a file.",
    ),
    "state-replaced": Explanation(
        "The state was removed or replaced while in use",
        "To continue would mean a second record of requests.",
        "Start again: the present file, or a new one, is then used.",
    ),
    "state-disk-full": Explanation(
        "No space left for the state",
        "Space, inodes or a quota are used up. Nothing is sent. Earlier records are safe.",
        "Free some space. mmp run tries again by itself.",
    ),
    "state-io-error": Explanation(
        "The disk of the state failed",
        "The system could not read or write. Nothing is sent. Earlier records are safe.",
        "Check the disk. mmp run opens the file again and continues.",
    ),
    "state-busy": Explanation(
        "The state is busy",
        "A transaction of another process did not end in time. mmp run tries again by itself.",
        "Find out which process has the file open (fuser, lsof) or why the server is busy, and try again.",
    ),
    "state-failed": Explanation(
        "The state could not be used",
        "SQLite or the server failed unexpectedly. What failed was not recorded.",
        "Read the message, and check the disk.",
    ),
    **dict.fromkeys(
        ("state-unreadable", "state-unwritable"),
        Explanation(
            "No permission for the state",
            "This user cannot read or write the file, its folder or the schema mmp. With a file, mmp run "
            "ends at its start; later it waits, because a disk may be read-only for a time.",
            "Run mmp as the owner of the state, or give this user the permission.",
        ),
    ),
    **dict.fromkeys(
        ("state-damaged", "state-empty", "state-incomplete", "state-truncated"),
        Explanation(
            "The state is damaged",
            "It is empty or truncated, a table was changed, or a row does not match its checksum. "
            "mmp never repairs it silently.",
            _ANEW,
        ),
    ),
    **dict.fromkeys(
        ("state-foreign-file", "state-not-a-file", "state-not-sqlite"),
        Explanation("Not a state of mmp", "The path has something else.", _OTHER_STATE),
    ),
    # State in PostgreSQL
    "bad-postgres-address": Explanation(
        "Not an address that PostgreSQL understands",
        "The value is not printed, because it may contain a password. With an unescaped / ? or @, "
        "a part of the password would be read as port, database or host.",
        "Example: postgresql://user@host:5432/database?sslmode=verify-full. In a password write "
        "%2F for /, %3F for ? and %40 for @; or set PGPASSWORD.",
    ),
    "copy-direction": Explanation(
        "A state is copied from a file into PostgreSQL",
        "Other directions are not supported.",
        "Example: mmp state copy .mmp/state.db postgresql://user@host/database.",
    ),
    "state-not-empty": Explanation(
        "The target of the copy already has records of these accounts",
        "Two histories of one account or User ID must not be mixed.",
        "Copy into another database.",
    ),
    "state-moved": Explanation(
        "The state was moved to another place",
        "mmp state copy is complete: all records are there, and there is one record of requests. Nothing "
        "is written to the file; it can be read.",
        "Use the state that the message names (--state, MMP_STATE).",
    ),
    "state-moving": Explanation(
        "A copy of the state is under way, or was interrupted",
        "mmp state copy retires the file before its records are complete in the database. Nothing "
        "is written to the file, and the database may not have its pauses and requests yet.",
        "Do not use the database yet. Wait until the copy is complete. If it was interrupted, run the same "
        "mmp state copy again; with --undo the file is used again if the copy is not complete.",
    ),
    "state-copy-failed": Explanation(
        "The copy differs from the source",
        "The copy was verified before the commit. Nothing was copied.",
        "Read the server's log.",
    ),
    "state-unavailable": Explanation(
        "The state cannot be reached now",
        "The connection was lost, or the server is restarting, failing over or not running. For a "
        "file: the system has too few resources, such as file descriptors. Every request that "
        "was sent is on record.",
        "Read the message. mmp run tries again by itself.",
    ),
    "state-refused": Explanation(
        "The database refused the connection",
        "Wrong password, missing role or database, TLS not available, or an access rule (pg_hba.conf). mmp "
        "run ends at its start; later it waits, because a password may be being replaced.",
        "Check role, password, database, TLS and access rules.",
    ),
    "state-tables-missing": Explanation(
        "Tables of the state are missing or hidden",
        "The schema mmp, one of its tables or a column was dropped or renamed, or the role has no "
        "USAGE on the schema. mmp run ends at its start; later it waits until they are back.",
        "Restore the schema from a backup, or GRANT USAGE ON SCHEMA mmp to the role.",
    ),
    "state-standby": Explanation(
        "The server is a standby",
        "A standby cannot be written, and its data may be old.",
        "Name the primary, or all hosts with target_session_attrs=read-write.",
    ),
    "state-record-lost": Explanation(
        "The server lost the record of a request",
        "The server failed over to a standby without the newest records. Requests that may have "
        "been lost count against the rate, and mmp reads the result.",
        "Nothing to do. A synchronous standby prevents it.",
    ),
    "state-lock-lost": Explanation(
        "The lock of the account was lost to another process",
        "This process did not renew its lock for nine seconds. It sends nothing without the lock.",
        "If it happens often, find out what stops the process or the connection.",
    ),
    "state-older": Explanation(
        "The state was written by an older mmp",
        "A command that only reads does not update it.",
        "Run mmp apply or mmp run of this version.",
    ),
    "state-old-server": Explanation(
        "The PostgreSQL server is too old", "It is not supported.", "Use PostgreSQL 12 or newer."
    ),
    "state-encoding": Explanation(
        "The database is not in UTF8",
        "Reasons and messages could not be stored.",
        "Create a database with ENCODING 'UTF8'.",
    ),
    "state-foreign-schema": Explanation(
        "The schema mmp belongs to another program",
        "It has other tables and no version of mmp. mmp does not change it.",
        "Use another database, or rename that schema.",
    ),
}
