CREATE TABLE mmp.version (
        migrations integer NOT NULL,
        usable_from integer NOT NULL,
        history text NOT NULL
    );

INSERT INTO mmp.version (migrations, usable_from, history) SELECT 0, 0, system_identifier::text || '/' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) FROM pg_control_system();

CREATE TABLE mmp.budgets (
        kind text NOT NULL,
        environment text NOT NULL,
        uid text NOT NULL,
        history text NOT NULL,
        PRIMARY KEY (kind, environment, uid)
    );

CREATE TABLE mmp.locks (
        name text PRIMARY KEY,
        generation bigint NOT NULL,
        holder text NOT NULL,
        expires_at timestamptz NOT NULL
    );

CREATE TABLE mmp.state (
    checksum text NOT NULL,
    state_id text NOT NULL,
    moved_to text NOT NULL,
    moved_to_id text NOT NULL,
    moved_wall text NOT NULL,
    copied_from text NOT NULL,
    PRIMARY KEY (state_id)
);

CREATE TABLE mmp.identity (
    checksum text NOT NULL,
    account text NOT NULL,
    environment text NOT NULL,
    kind text NOT NULL,
    uid text NOT NULL,
    host text NOT NULL,
    stamped_wall text NOT NULL,
    PRIMARY KEY (account, environment)
);

CREATE TABLE mmp.attempts (
    checksum text NOT NULL,
    id bigint NOT NULL,
    kind text NOT NULL,
    environment text NOT NULL,
    uid text NOT NULL,
    account text NOT NULL,
    family text NOT NULL,
    time_interval_ms bigint NOT NULL,
    frozen_interval_ms bigint NOT NULL,
    qty_limit text NOT NULL,
    signed_at text NOT NULL,
    boot text NOT NULL,
    reserved_at double precision NOT NULL,
    reserved_wall text NOT NULL,
    status text NOT NULL,
    definite bigint NOT NULL,
    code text NOT NULL,
    message text NOT NULL,
    answered_boot text,
    answered_at double precision,
    settled_wall text,
    limited bigint NOT NULL,
    retired bigint NOT NULL,
    resolved bigint NOT NULL,
    tries bigint NOT NULL,
    file_sha256 text NOT NULL,
    file_number bigint NOT NULL,
    plan text NOT NULL,
    PRIMARY KEY (id)
);

CREATE TABLE mmp.losses (
    checksum text NOT NULL,
    id bigint NOT NULL,
    kind text NOT NULL,
    environment text NOT NULL,
    uid text NOT NULL,
    account text NOT NULL,
    family text,
    attempt bigint NOT NULL,
    boot text NOT NULL,
    reserved_at double precision NOT NULL,
    at_wall text NOT NULL,
    PRIMARY KEY (id)
);

CREATE TABLE mmp.applied (
    checksum text NOT NULL,
    kind text NOT NULL,
    environment text NOT NULL,
    uid text NOT NULL,
    family text NOT NULL,
    account text NOT NULL,
    time_interval_ms bigint NOT NULL,
    frozen_interval_ms bigint NOT NULL,
    qty_limit text NOT NULL,
    how text NOT NULL,
    attempt bigint NOT NULL,
    boot text NOT NULL,
    at double precision NOT NULL,
    at_wall text NOT NULL,
    file_sha256 text NOT NULL,
    file_number bigint NOT NULL,
    PRIMARY KEY (kind, environment, uid, family)
);

CREATE TABLE mmp.accepted (
    checksum text NOT NULL,
    id bigint NOT NULL,
    kind text NOT NULL,
    environment text NOT NULL,
    uid text NOT NULL,
    family text NOT NULL,
    account text NOT NULL,
    time_interval_ms bigint NOT NULL,
    frozen_interval_ms bigint NOT NULL,
    qty_limit text NOT NULL,
    how text NOT NULL,
    attempt bigint NOT NULL,
    file_sha256 text NOT NULL,
    file_number bigint NOT NULL,
    digest text NOT NULL,
    override text NOT NULL,
    at_wall text NOT NULL,
    PRIMARY KEY (id)
);

CREATE TABLE mmp.plan_changes (
    checksum text NOT NULL,
    kind text NOT NULL,
    environment text NOT NULL,
    uid text NOT NULL,
    plan text NOT NULL,
    family text NOT NULL,
    account text NOT NULL,
    how text NOT NULL,
    at_wall text NOT NULL,
    PRIMARY KEY (kind, environment, uid, plan, family)
);

CREATE TABLE mmp.policies (
    checksum text NOT NULL,
    id bigint NOT NULL,
    kind text NOT NULL,
    environment text NOT NULL,
    uid text NOT NULL,
    account text NOT NULL,
    sha256 text NOT NULL,
    path text NOT NULL,
    document text NOT NULL,
    given_up text,
    at_wall text NOT NULL,
    PRIMARY KEY (id)
);

CREATE TABLE mmp.files (
    checksum text NOT NULL,
    kind text NOT NULL,
    environment text NOT NULL,
    uid text NOT NULL,
    sha256 text NOT NULL,
    number bigint NOT NULL,
    account text NOT NULL,
    at_wall text NOT NULL,
    PRIMARY KEY (kind, environment, uid, sha256)
);

CREATE TABLE mmp.live (
    checksum text NOT NULL,
    account text NOT NULL,
    environment text NOT NULL,
    kind text NOT NULL,
    document text NOT NULL,
    read_wall text NOT NULL,
    PRIMARY KEY (account, environment, kind)
);

CREATE TABLE mmp.pauses (
    checksum text NOT NULL,
    kind text NOT NULL,
    environment text NOT NULL,
    uid text NOT NULL,
    family text NOT NULL,
    account text NOT NULL,
    time_interval_ms bigint,
    frozen_interval_ms bigint,
    qty_limit text,
    reason text NOT NULL,
    since_wall text NOT NULL,
    until_wall text,
    PRIMARY KEY (kind, environment, uid, family)
);

CREATE TABLE mmp.overrides (
    checksum text NOT NULL,
    id bigint NOT NULL,
    kind text NOT NULL,
    environment text NOT NULL,
    uid text NOT NULL,
    family text NOT NULL,
    account text NOT NULL,
    refusal text NOT NULL,
    reason text NOT NULL,
    at_wall text NOT NULL,
    PRIMARY KEY (id)
);

CREATE TABLE mmp.observed_periods (
    checksum text NOT NULL,
    id bigint NOT NULL,
    account text NOT NULL,
    environment text NOT NULL,
    kind text NOT NULL,
    from_wall text NOT NULL,
    until_wall text NOT NULL,
    PRIMARY KEY (id)
);

CREATE TABLE mmp.state_changes (
    checksum text NOT NULL,
    id bigint NOT NULL,
    account text NOT NULL,
    environment text NOT NULL,
    kind text NOT NULL,
    family text NOT NULL,
    state text NOT NULL,
    at_wall text NOT NULL,
    PRIMARY KEY (id)
);

CREATE SEQUENCE mmp.attempts_id AS bigint MINVALUE 1 CACHE 1;

CREATE SEQUENCE mmp.losses_id AS bigint MINVALUE 1 CACHE 1;

CREATE SEQUENCE mmp.accepted_id AS bigint MINVALUE 1 CACHE 1;

CREATE SEQUENCE mmp.policies_id AS bigint MINVALUE 1 CACHE 1;

CREATE SEQUENCE mmp.overrides_id AS bigint MINVALUE 1 CACHE 1;

CREATE SEQUENCE mmp.observed_periods_id AS bigint MINVALUE 1 CACHE 1;

CREATE SEQUENCE mmp.state_changes_id AS bigint MINVALUE 1 CACHE 1;

CREATE INDEX attempts_counting ON mmp.attempts (kind, environment, uid) WHERE retired = 0;

CREATE INDEX attempts_sent ON mmp.attempts (kind, environment, uid, id) WHERE status <> 'not-sent';

CREATE INDEX attempts_limited ON mmp.attempts (kind, environment, uid, id) WHERE limited = 1;

CREATE INDEX attempts_open ON mmp.attempts (kind, environment, uid, family) WHERE resolved = 0;

CREATE INDEX attempts_tries ON mmp.attempts (kind, environment, uid, family) WHERE tries > 0;

CREATE INDEX attempts_of_family ON mmp.attempts (kind, environment, uid, family, id);

CREATE INDEX losses_of_user ON mmp.losses (kind, environment, uid);

CREATE INDEX accepted_of_family ON mmp.accepted (kind, environment, uid, family, id);

CREATE INDEX policies_of_user ON mmp.policies (kind, environment, uid, id);

CREATE INDEX files_by_number ON mmp.files (kind, environment, uid, number);

CREATE INDEX periods_of_account ON mmp.observed_periods (account, environment, kind, id);

CREATE INDEX state_changes_of_family ON mmp.state_changes (account, environment, kind, family);

CREATE INDEX overrides_of_user ON mmp.overrides (kind, environment, uid, id);

CREATE TABLE mmp.replicas (
        id text PRIMARY KEY,
        host text NOT NULL,
        pid bigint NOT NULL,
        keeps text[] NOT NULL,
        unable jsonb NOT NULL,
        read_age_s double precision,
        resting jsonb NOT NULL,
        expires_at timestamptz NOT NULL
    );

CREATE TABLE mmp.leases (
        name text PRIMARY KEY,
        replica text REFERENCES mmp.replicas (id) ON DELETE SET NULL,
        generation bigint NOT NULL,
        uid text NOT NULL,
        families text[] NOT NULL,
        claimed bigint NOT NULL
    );

CREATE SEQUENCE mmp.leases_claimed AS bigint MINVALUE 1 CACHE 1;

CREATE INDEX leases_of_replica ON mmp.leases (replica);
