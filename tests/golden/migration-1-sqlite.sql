CREATE TABLE state (
    checksum TEXT NOT NULL,
    state_id TEXT NOT NULL,
    moved_to TEXT NOT NULL,
    moved_to_id TEXT NOT NULL,
    moved_wall TEXT NOT NULL,
    copied_from TEXT NOT NULL,
    PRIMARY KEY (state_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE identity (
    checksum TEXT NOT NULL,
    account TEXT NOT NULL,
    environment TEXT NOT NULL,
    kind TEXT NOT NULL,
    uid TEXT NOT NULL,
    host TEXT NOT NULL,
    stamped_wall TEXT NOT NULL,
    PRIMARY KEY (account, environment)
) STRICT, WITHOUT ROWID;

CREATE TABLE attempts (
    checksum TEXT NOT NULL,
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    environment TEXT NOT NULL,
    uid TEXT NOT NULL,
    account TEXT NOT NULL,
    family TEXT NOT NULL,
    time_interval_ms INTEGER NOT NULL,
    frozen_interval_ms INTEGER NOT NULL,
    qty_limit TEXT NOT NULL,
    signed_at TEXT NOT NULL,
    boot TEXT NOT NULL,
    reserved_at REAL NOT NULL,
    reserved_wall TEXT NOT NULL,
    status TEXT NOT NULL,
    definite INTEGER NOT NULL,
    code TEXT NOT NULL,
    message TEXT NOT NULL,
    answered_boot TEXT,
    answered_at REAL,
    settled_wall TEXT,
    limited INTEGER NOT NULL,
    retired INTEGER NOT NULL,
    resolved INTEGER NOT NULL,
    tries INTEGER NOT NULL,
    file_sha256 TEXT NOT NULL,
    file_number INTEGER NOT NULL,
    plan TEXT NOT NULL
) STRICT;

CREATE TABLE losses (
    checksum TEXT NOT NULL,
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    environment TEXT NOT NULL,
    uid TEXT NOT NULL,
    account TEXT NOT NULL,
    family TEXT,
    attempt INTEGER NOT NULL,
    boot TEXT NOT NULL,
    reserved_at REAL NOT NULL,
    at_wall TEXT NOT NULL
) STRICT;

CREATE TABLE applied (
    checksum TEXT NOT NULL,
    kind TEXT NOT NULL,
    environment TEXT NOT NULL,
    uid TEXT NOT NULL,
    family TEXT NOT NULL,
    account TEXT NOT NULL,
    time_interval_ms INTEGER NOT NULL,
    frozen_interval_ms INTEGER NOT NULL,
    qty_limit TEXT NOT NULL,
    how TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    boot TEXT NOT NULL,
    at REAL NOT NULL,
    at_wall TEXT NOT NULL,
    file_sha256 TEXT NOT NULL,
    file_number INTEGER NOT NULL,
    PRIMARY KEY (kind, environment, uid, family)
) STRICT, WITHOUT ROWID;

CREATE TABLE accepted (
    checksum TEXT NOT NULL,
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    environment TEXT NOT NULL,
    uid TEXT NOT NULL,
    family TEXT NOT NULL,
    account TEXT NOT NULL,
    time_interval_ms INTEGER NOT NULL,
    frozen_interval_ms INTEGER NOT NULL,
    qty_limit TEXT NOT NULL,
    how TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    file_sha256 TEXT NOT NULL,
    file_number INTEGER NOT NULL,
    digest TEXT NOT NULL,
    override TEXT NOT NULL,
    at_wall TEXT NOT NULL
) STRICT;

CREATE TABLE plan_changes (
    checksum TEXT NOT NULL,
    kind TEXT NOT NULL,
    environment TEXT NOT NULL,
    uid TEXT NOT NULL,
    plan TEXT NOT NULL,
    family TEXT NOT NULL,
    account TEXT NOT NULL,
    how TEXT NOT NULL,
    at_wall TEXT NOT NULL,
    PRIMARY KEY (kind, environment, uid, plan, family)
) STRICT, WITHOUT ROWID;

CREATE TABLE policies (
    checksum TEXT NOT NULL,
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    environment TEXT NOT NULL,
    uid TEXT NOT NULL,
    account TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    path TEXT NOT NULL,
    document TEXT NOT NULL,
    given_up TEXT,
    at_wall TEXT NOT NULL
) STRICT;

CREATE TABLE files (
    checksum TEXT NOT NULL,
    kind TEXT NOT NULL,
    environment TEXT NOT NULL,
    uid TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    number INTEGER NOT NULL,
    account TEXT NOT NULL,
    at_wall TEXT NOT NULL,
    PRIMARY KEY (kind, environment, uid, sha256)
) STRICT, WITHOUT ROWID;

CREATE TABLE live (
    checksum TEXT NOT NULL,
    account TEXT NOT NULL,
    environment TEXT NOT NULL,
    kind TEXT NOT NULL,
    document TEXT NOT NULL,
    read_wall TEXT NOT NULL,
    PRIMARY KEY (account, environment, kind)
) STRICT;

CREATE TABLE pauses (
    checksum TEXT NOT NULL,
    kind TEXT NOT NULL,
    environment TEXT NOT NULL,
    uid TEXT NOT NULL,
    family TEXT NOT NULL,
    account TEXT NOT NULL,
    time_interval_ms INTEGER,
    frozen_interval_ms INTEGER,
    qty_limit TEXT,
    reason TEXT NOT NULL,
    since_wall TEXT NOT NULL,
    until_wall TEXT,
    PRIMARY KEY (kind, environment, uid, family)
) STRICT, WITHOUT ROWID;

CREATE TABLE overrides (
    checksum TEXT NOT NULL,
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    environment TEXT NOT NULL,
    uid TEXT NOT NULL,
    family TEXT NOT NULL,
    account TEXT NOT NULL,
    refusal TEXT NOT NULL,
    reason TEXT NOT NULL,
    at_wall TEXT NOT NULL
) STRICT;

CREATE TABLE observed_periods (
    checksum TEXT NOT NULL,
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    account TEXT NOT NULL,
    environment TEXT NOT NULL,
    kind TEXT NOT NULL,
    from_wall TEXT NOT NULL,
    until_wall TEXT NOT NULL
) STRICT;

CREATE TABLE state_changes (
    checksum TEXT NOT NULL,
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    account TEXT NOT NULL,
    environment TEXT NOT NULL,
    kind TEXT NOT NULL,
    family TEXT NOT NULL,
    state TEXT NOT NULL,
    at_wall TEXT NOT NULL
) STRICT;

CREATE TABLE row_sums (
        kind TEXT NOT NULL,
        environment TEXT NOT NULL,
        uid TEXT NOT NULL,
        number INTEGER NOT NULL,
        sum TEXT NOT NULL,
        PRIMARY KEY (kind, environment, uid)
    ) STRICT, WITHOUT ROWID;

CREATE TRIGGER identity_summed_at_insert AFTER INSERT ON identity BEGIN INSERT INTO row_sums (kind, environment, uid, number, sum) SELECT NEW.kind, NEW.environment, NEW.uid, 1, NEW.checksum WHERE true ON CONFLICT (kind, environment, uid) DO UPDATE SET number = number + 1, sum = mmp_combine(sum, excluded.sum); END;

CREATE TRIGGER identity_summed_at_delete AFTER DELETE ON identity BEGIN UPDATE row_sums SET number = number - 1, sum = mmp_combine(sum, OLD.checksum) WHERE kind = OLD.kind AND environment = OLD.environment AND uid = OLD.uid AND (true); END;

CREATE TRIGGER identity_summed_at_update AFTER UPDATE ON identity BEGIN UPDATE row_sums SET number = number - 1, sum = mmp_combine(sum, OLD.checksum) WHERE kind = OLD.kind AND environment = OLD.environment AND uid = OLD.uid AND (true); INSERT INTO row_sums (kind, environment, uid, number, sum) SELECT NEW.kind, NEW.environment, NEW.uid, 1, NEW.checksum WHERE true ON CONFLICT (kind, environment, uid) DO UPDATE SET number = number + 1, sum = mmp_combine(sum, excluded.sum); END;

CREATE TRIGGER attempts_summed_at_insert AFTER INSERT ON attempts BEGIN INSERT INTO row_sums (kind, environment, uid, number, sum) SELECT NEW.kind, NEW.environment, NEW.uid, 1, NEW.checksum WHERE NEW.retired = 0 OR NEW.resolved = 0 OR NEW.tries > 0 OR NEW.limited = 1 ON CONFLICT (kind, environment, uid) DO UPDATE SET number = number + 1, sum = mmp_combine(sum, excluded.sum); END;

CREATE TRIGGER attempts_summed_at_delete AFTER DELETE ON attempts BEGIN UPDATE row_sums SET number = number - 1, sum = mmp_combine(sum, OLD.checksum) WHERE kind = OLD.kind AND environment = OLD.environment AND uid = OLD.uid AND (OLD.retired = 0 OR OLD.resolved = 0 OR OLD.tries > 0 OR OLD.limited = 1); END;

CREATE TRIGGER attempts_summed_at_update AFTER UPDATE ON attempts BEGIN UPDATE row_sums SET number = number - 1, sum = mmp_combine(sum, OLD.checksum) WHERE kind = OLD.kind AND environment = OLD.environment AND uid = OLD.uid AND (OLD.retired = 0 OR OLD.resolved = 0 OR OLD.tries > 0 OR OLD.limited = 1); INSERT INTO row_sums (kind, environment, uid, number, sum) SELECT NEW.kind, NEW.environment, NEW.uid, 1, NEW.checksum WHERE NEW.retired = 0 OR NEW.resolved = 0 OR NEW.tries > 0 OR NEW.limited = 1 ON CONFLICT (kind, environment, uid) DO UPDATE SET number = number + 1, sum = mmp_combine(sum, excluded.sum); END;

CREATE TRIGGER losses_summed_at_insert AFTER INSERT ON losses BEGIN INSERT INTO row_sums (kind, environment, uid, number, sum) SELECT NEW.kind, NEW.environment, NEW.uid, 1, NEW.checksum WHERE true ON CONFLICT (kind, environment, uid) DO UPDATE SET number = number + 1, sum = mmp_combine(sum, excluded.sum); END;

CREATE TRIGGER losses_summed_at_delete AFTER DELETE ON losses BEGIN UPDATE row_sums SET number = number - 1, sum = mmp_combine(sum, OLD.checksum) WHERE kind = OLD.kind AND environment = OLD.environment AND uid = OLD.uid AND (true); END;

CREATE TRIGGER losses_summed_at_update AFTER UPDATE ON losses BEGIN UPDATE row_sums SET number = number - 1, sum = mmp_combine(sum, OLD.checksum) WHERE kind = OLD.kind AND environment = OLD.environment AND uid = OLD.uid AND (true); INSERT INTO row_sums (kind, environment, uid, number, sum) SELECT NEW.kind, NEW.environment, NEW.uid, 1, NEW.checksum WHERE true ON CONFLICT (kind, environment, uid) DO UPDATE SET number = number + 1, sum = mmp_combine(sum, excluded.sum); END;

CREATE TRIGGER applied_summed_at_insert AFTER INSERT ON applied BEGIN INSERT INTO row_sums (kind, environment, uid, number, sum) SELECT NEW.kind, NEW.environment, NEW.uid, 1, NEW.checksum WHERE true ON CONFLICT (kind, environment, uid) DO UPDATE SET number = number + 1, sum = mmp_combine(sum, excluded.sum); END;

CREATE TRIGGER applied_summed_at_delete AFTER DELETE ON applied BEGIN UPDATE row_sums SET number = number - 1, sum = mmp_combine(sum, OLD.checksum) WHERE kind = OLD.kind AND environment = OLD.environment AND uid = OLD.uid AND (true); END;

CREATE TRIGGER applied_summed_at_update AFTER UPDATE ON applied BEGIN UPDATE row_sums SET number = number - 1, sum = mmp_combine(sum, OLD.checksum) WHERE kind = OLD.kind AND environment = OLD.environment AND uid = OLD.uid AND (true); INSERT INTO row_sums (kind, environment, uid, number, sum) SELECT NEW.kind, NEW.environment, NEW.uid, 1, NEW.checksum WHERE true ON CONFLICT (kind, environment, uid) DO UPDATE SET number = number + 1, sum = mmp_combine(sum, excluded.sum); END;

CREATE TRIGGER accepted_summed_at_insert AFTER INSERT ON accepted BEGIN INSERT INTO row_sums (kind, environment, uid, number, sum) SELECT NEW.kind, NEW.environment, NEW.uid, 1, NEW.checksum WHERE true ON CONFLICT (kind, environment, uid) DO UPDATE SET number = number + 1, sum = mmp_combine(sum, excluded.sum); END;

CREATE TRIGGER accepted_summed_at_delete AFTER DELETE ON accepted BEGIN UPDATE row_sums SET number = number - 1, sum = mmp_combine(sum, OLD.checksum) WHERE kind = OLD.kind AND environment = OLD.environment AND uid = OLD.uid AND (true); END;

CREATE TRIGGER accepted_summed_at_update AFTER UPDATE ON accepted BEGIN UPDATE row_sums SET number = number - 1, sum = mmp_combine(sum, OLD.checksum) WHERE kind = OLD.kind AND environment = OLD.environment AND uid = OLD.uid AND (true); INSERT INTO row_sums (kind, environment, uid, number, sum) SELECT NEW.kind, NEW.environment, NEW.uid, 1, NEW.checksum WHERE true ON CONFLICT (kind, environment, uid) DO UPDATE SET number = number + 1, sum = mmp_combine(sum, excluded.sum); END;

CREATE TRIGGER plan_changes_summed_at_insert AFTER INSERT ON plan_changes BEGIN INSERT INTO row_sums (kind, environment, uid, number, sum) SELECT NEW.kind, NEW.environment, NEW.uid, 1, NEW.checksum WHERE true ON CONFLICT (kind, environment, uid) DO UPDATE SET number = number + 1, sum = mmp_combine(sum, excluded.sum); END;

CREATE TRIGGER plan_changes_summed_at_delete AFTER DELETE ON plan_changes BEGIN UPDATE row_sums SET number = number - 1, sum = mmp_combine(sum, OLD.checksum) WHERE kind = OLD.kind AND environment = OLD.environment AND uid = OLD.uid AND (true); END;

CREATE TRIGGER plan_changes_summed_at_update AFTER UPDATE ON plan_changes BEGIN UPDATE row_sums SET number = number - 1, sum = mmp_combine(sum, OLD.checksum) WHERE kind = OLD.kind AND environment = OLD.environment AND uid = OLD.uid AND (true); INSERT INTO row_sums (kind, environment, uid, number, sum) SELECT NEW.kind, NEW.environment, NEW.uid, 1, NEW.checksum WHERE true ON CONFLICT (kind, environment, uid) DO UPDATE SET number = number + 1, sum = mmp_combine(sum, excluded.sum); END;

CREATE TRIGGER policies_summed_at_insert AFTER INSERT ON policies BEGIN INSERT INTO row_sums (kind, environment, uid, number, sum) SELECT NEW.kind, NEW.environment, NEW.uid, 1, NEW.checksum WHERE true ON CONFLICT (kind, environment, uid) DO UPDATE SET number = number + 1, sum = mmp_combine(sum, excluded.sum); END;

CREATE TRIGGER policies_summed_at_delete AFTER DELETE ON policies BEGIN UPDATE row_sums SET number = number - 1, sum = mmp_combine(sum, OLD.checksum) WHERE kind = OLD.kind AND environment = OLD.environment AND uid = OLD.uid AND (true); END;

CREATE TRIGGER policies_summed_at_update AFTER UPDATE ON policies BEGIN UPDATE row_sums SET number = number - 1, sum = mmp_combine(sum, OLD.checksum) WHERE kind = OLD.kind AND environment = OLD.environment AND uid = OLD.uid AND (true); INSERT INTO row_sums (kind, environment, uid, number, sum) SELECT NEW.kind, NEW.environment, NEW.uid, 1, NEW.checksum WHERE true ON CONFLICT (kind, environment, uid) DO UPDATE SET number = number + 1, sum = mmp_combine(sum, excluded.sum); END;

CREATE TRIGGER files_summed_at_insert AFTER INSERT ON files BEGIN INSERT INTO row_sums (kind, environment, uid, number, sum) SELECT NEW.kind, NEW.environment, NEW.uid, 1, NEW.checksum WHERE true ON CONFLICT (kind, environment, uid) DO UPDATE SET number = number + 1, sum = mmp_combine(sum, excluded.sum); END;

CREATE TRIGGER files_summed_at_delete AFTER DELETE ON files BEGIN UPDATE row_sums SET number = number - 1, sum = mmp_combine(sum, OLD.checksum) WHERE kind = OLD.kind AND environment = OLD.environment AND uid = OLD.uid AND (true); END;

CREATE TRIGGER files_summed_at_update AFTER UPDATE ON files BEGIN UPDATE row_sums SET number = number - 1, sum = mmp_combine(sum, OLD.checksum) WHERE kind = OLD.kind AND environment = OLD.environment AND uid = OLD.uid AND (true); INSERT INTO row_sums (kind, environment, uid, number, sum) SELECT NEW.kind, NEW.environment, NEW.uid, 1, NEW.checksum WHERE true ON CONFLICT (kind, environment, uid) DO UPDATE SET number = number + 1, sum = mmp_combine(sum, excluded.sum); END;

CREATE TRIGGER pauses_summed_at_insert AFTER INSERT ON pauses BEGIN INSERT INTO row_sums (kind, environment, uid, number, sum) SELECT NEW.kind, NEW.environment, NEW.uid, 1, NEW.checksum WHERE true ON CONFLICT (kind, environment, uid) DO UPDATE SET number = number + 1, sum = mmp_combine(sum, excluded.sum); END;

CREATE TRIGGER pauses_summed_at_delete AFTER DELETE ON pauses BEGIN UPDATE row_sums SET number = number - 1, sum = mmp_combine(sum, OLD.checksum) WHERE kind = OLD.kind AND environment = OLD.environment AND uid = OLD.uid AND (true); END;

CREATE TRIGGER pauses_summed_at_update AFTER UPDATE ON pauses BEGIN UPDATE row_sums SET number = number - 1, sum = mmp_combine(sum, OLD.checksum) WHERE kind = OLD.kind AND environment = OLD.environment AND uid = OLD.uid AND (true); INSERT INTO row_sums (kind, environment, uid, number, sum) SELECT NEW.kind, NEW.environment, NEW.uid, 1, NEW.checksum WHERE true ON CONFLICT (kind, environment, uid) DO UPDATE SET number = number + 1, sum = mmp_combine(sum, excluded.sum); END;

CREATE TRIGGER overrides_summed_at_insert AFTER INSERT ON overrides BEGIN INSERT INTO row_sums (kind, environment, uid, number, sum) SELECT NEW.kind, NEW.environment, NEW.uid, 1, NEW.checksum WHERE true ON CONFLICT (kind, environment, uid) DO UPDATE SET number = number + 1, sum = mmp_combine(sum, excluded.sum); END;

CREATE TRIGGER overrides_summed_at_delete AFTER DELETE ON overrides BEGIN UPDATE row_sums SET number = number - 1, sum = mmp_combine(sum, OLD.checksum) WHERE kind = OLD.kind AND environment = OLD.environment AND uid = OLD.uid AND (true); END;

CREATE TRIGGER overrides_summed_at_update AFTER UPDATE ON overrides BEGIN UPDATE row_sums SET number = number - 1, sum = mmp_combine(sum, OLD.checksum) WHERE kind = OLD.kind AND environment = OLD.environment AND uid = OLD.uid AND (true); INSERT INTO row_sums (kind, environment, uid, number, sum) SELECT NEW.kind, NEW.environment, NEW.uid, 1, NEW.checksum WHERE true ON CONFLICT (kind, environment, uid) DO UPDATE SET number = number + 1, sum = mmp_combine(sum, excluded.sum); END;

CREATE INDEX attempts_counting ON attempts (kind, environment, uid) WHERE retired = 0;

CREATE INDEX attempts_sent ON attempts (kind, environment, uid, id) WHERE status <> 'not-sent';

CREATE INDEX attempts_limited ON attempts (kind, environment, uid, id) WHERE limited = 1;

CREATE INDEX attempts_open ON attempts (kind, environment, uid, family) WHERE resolved = 0;

CREATE INDEX attempts_tries ON attempts (kind, environment, uid, family) WHERE tries > 0;

CREATE INDEX attempts_of_family ON attempts (kind, environment, uid, family);

CREATE INDEX losses_of_user ON losses (kind, environment, uid);

CREATE INDEX accepted_of_family ON accepted (kind, environment, uid, family);

CREATE INDEX policies_of_user ON policies (kind, environment, uid);

CREATE INDEX files_by_number ON files (kind, environment, uid, number);

CREATE INDEX periods_of_account ON observed_periods (account, environment, kind);

CREATE INDEX state_changes_of_family ON state_changes (account, environment, kind, family);
