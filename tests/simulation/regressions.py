"""Seeds of past failures, by kind of failure: every ``make test`` replays each of them.

Each names the mutant that brings its failure back. So a seed that no longer shows that failure (because
the world now draws other histories) is noticed and replaced.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.simulation.scenario import Feature, WorldKind


@dataclass(frozen=True, slots=True)
class Regression:
    """One past failure: what happened, its seed, and the mutant that is the program of that time."""

    fault: str
    seed: int
    mutant: str
    kind: WorldKind = WorldKind.SQLITE
    feature: Feature | None = None
    """Of the history: with this feature only; None: with those of the seed."""


REGRESSIONS = (
    Regression(
        fault="suspended between its read and its slot, it sent on what it had read 37 s before",
        seed=611,
        mutant="decided long ago, sent all the same",
    ),
    Regression(
        fault="a failover forgot a lock's newest generation, the next holder got it again, and both had it",
        seed=64,
        mutant="generations counted by one",
        kind=WorldKind.POSTGRES,
    ),
    Regression(
        fault="the tables were made anew, and a process that had not used the User ID yet sent at once",
        seed=13,
        mutant="other tables have every request of a User ID that was not seen",
        kind=WorldKind.POSTGRES,
        feature=Feature.TABLES_MADE_ANEW,
    ),
    Regression(
        fault="the server's clock was set back an hour, and a dead holder's lock lasted for it",
        seed=19,
        mutant="locks of the far future kept",
        kind=WorldKind.POSTGRES,
    ),
    Regression(
        fault="a failover forgot the first requests of a User ID and that it had any, so none was counted",
        seed=4,
        mutant="first requests cannot be lost",
        kind=WorldKind.POSTGRES,
    ),
    Regression(
        fault="suspended until another had its lock, it adopted what it had read before the other wrote",
        seed=81,
        mutant="adoptions without the lock",
        kind=WorldKind.POSTGRES,
    ),
    Regression(
        fault="the state took long to record an override, and it sent on what it had read before",
        seed=732,
        mutant="overrides take no time",
        kind=WorldKind.POSTGRES,
    ),
    Regression(
        fault="it reported a family in sync by a read from before another process wrote it",
        seed=51,
        mutant="no read after others' proofs",
        kind=WorldKind.POSTGRES,
    ),
    Regression(
        fault="a request could land until 35 s after its reservation, and a read that began later, but not "
        "by as long as a read may lag, ended its doubt",
        seed=145,
        mutant="reads that lag end doubts",
        kind=WorldKind.POSTGRES,
    ),
    Regression(
        fault="every read took 2.5 s and was too old when it was there, so nothing was ever sent",
        seed=0,
        mutant="a read is as old as its beginning",
        feature=Feature.SLOW,
    ),
    Regression(
        fault="the file changed while the connection was opened, and what it had said before was sent",
        seed=2_730,
        mutant="decided once only",
        feature=Feature.EDITS_WHILE_OPENING,
    ),
    Regression(
        fault="a person paused a family just before its reservation, and it was written all the same",
        seed=0,
        mutant="pauses not seen in reserving",
        feature=Feature.PAUSES,
    ),
    Regression(
        fault="a family drifted after the plan was shown and approved, and was written without review",
        seed=1,
        mutant="an answer is no review",
        feature=Feature.REVIEWS,
    ),
    Regression(
        fault="the policy file could not be read, which counted as none, and a family was loosened",
        seed=7,
        mutant="an unreadable policy is none",
        feature=Feature.POLICIES,
    ),
    Regression(
        fault="a list left a family out, and that undid what the desk had tightened",
        seed=36,
        mutant="a missing row is gone at once",
        feature=Feature.ODD_LISTS,
    ),
    Regression(
        fault="a run began with an older file, took it for new, and loosened what a newer one had set",
        seed=7_077,
        mutant="a restart is a change of the file",
        feature=Feature.LAGGING_FILES,
    ),
    Regression(
        fault="a family's requests were never written, the account waited for it, and no other family went",
        seed=22_933,
        mutant="what was not sent holds the account",
    ),
    Regression(
        fault="a list left out what was in force, and --drift warn wrote it all the same",
        seed=6_150,
        mutant="an unconfirmed row is no drift",
    ),
    Regression(
        fault="suspended before a family's own read, which then had no list to belong to: apply crashed",
        seed=3_965,
        mutant="one family read after a suspension",
        kind=WorldKind.POSTGRES,
    ),
    Regression(
        fault="an account got another name, and what was on record of it counted no more",
        seed=0,
        mutant="proofs of an account name",
        feature=Feature.RENAMES,
    ),
)
