-- The ledger. Tables are private to the functions; every key leads with `root`, the top of the subject's tree.
-- The lock of a whole tree of subjects is its root's row in _private_subject; locks are taken in the order of roots.

CREATE TABLE earmark._private_setting (
    name text PRIMARY KEY,
    value text NOT NULL
);
COMMENT ON TABLE earmark._private_setting IS
    'Settings the functions read: default_plan; reservation_retention, journal_retention (intervals; without one, kept for good)';
INSERT INTO earmark._private_setting (name, value) VALUES ('reservation_retention', '90 days');

CREATE TABLE earmark._private_plan (
    plan text PRIMARY KEY CHECK (plan ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    features jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(features) = 'object')
);

CREATE TABLE earmark._private_plan_quota (
    plan text NOT NULL REFERENCES earmark._private_plan,
    resource text NOT NULL CHECK (resource ~ '^[a-z][a-z0-9_]{0,62}$'),
    quota bigint CHECK (quota >= 0),
    period text NOT NULL DEFAULT 'lifetime' CHECK (period ~ '^(lifetime|P[1-9][0-9]{0,3}[DWMY])$'),
    refundable boolean NOT NULL DEFAULT false,
    PRIMARY KEY (plan, resource)
);
COMMENT ON COLUMN earmark._private_plan_quota.quota IS 'NULL: unlimited';

INSERT INTO earmark._private_plan (plan, features) VALUES
    ('free', '{"max_bulk_upload": 1}'),
    ('pro', '{"max_bulk_upload": 20}'),
    ('enterprise', '{"max_bulk_upload": 50}');
INSERT INTO earmark._private_plan_quota (plan, resource, quota, period, refundable) VALUES
    ('free', 'images', 10, 'P1M', false),
    ('free', 'storage_bytes', 250000000, 'lifetime', true),
    ('pro', 'images', 500, 'P1M', false),
    ('pro', 'storage_bytes', 25000000000, 'lifetime', true),
    ('enterprise', 'images', NULL, 'P1M', false),
    ('enterprise', 'storage_bytes', 1000000000000, 'lifetime', true);

CREATE TABLE earmark._private_subject (
    root text NOT NULL,
    subject text NOT NULL CHECK (length(subject) BETWEEN 1 AND 255),
    ancestors text[] NOT NULL CHECK (ancestors[1] = subject AND ancestors[cardinality(ancestors)] = root),
    plan text NOT NULL REFERENCES earmark._private_plan,
    anchor timestamptz NOT NULL DEFAULT '1970-01-01T00:00:00Z',
    entries bigint NOT NULL DEFAULT 0 CHECK (entries >= 0),
    head bytea NOT NULL DEFAULT '',
    pruned_seq bigint NOT NULL DEFAULT 0 CHECK (pruned_seq BETWEEN 0 AND entries),
    pruned_head bytea NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (root, subject)
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX _private_subject_name ON earmark._private_subject (subject);
COMMENT ON COLUMN earmark._private_subject.anchor IS 'Periods begin at the anchor plus whole multiples of their length, in UTC';
COMMENT ON COLUMN earmark._private_subject.ancestors IS 'From himself up to the root: a grant needs room, and holds, at every level';
COMMENT ON COLUMN earmark._private_subject.entries IS 'Journal entries written so far; the last one''s seq';
COMMENT ON COLUMN earmark._private_subject.head IS 'Hash of the last journal entry';
COMMENT ON COLUMN earmark._private_subject.pruned_seq IS 'The last entry that may be, and by the end of its pruning is, removed from the journal';
COMMENT ON COLUMN earmark._private_subject.pruned_head IS 'Its hash, from which the chain of the entries that are kept begins';

CREATE TABLE earmark._private_subject_quota (
    root text NOT NULL,
    subject text NOT NULL,
    resource text NOT NULL,
    quota bigint CHECK (quota >= 0),
    PRIMARY KEY (root, subject, resource),
    FOREIGN KEY (root, subject) REFERENCES earmark._private_subject ON UPDATE CASCADE
);
COMMENT ON TABLE earmark._private_subject_quota IS 'Overrides of the plan for one subject; NULL: unlimited';

CREATE TABLE earmark._private_balance (
    root text NOT NULL,
    subject text NOT NULL,
    resource text NOT NULL,
    period_start timestamptz NOT NULL,
    period_end timestamptz NOT NULL,
    committed bigint NOT NULL DEFAULT 0 CHECK (committed >= 0),
    held bigint NOT NULL DEFAULT 0 CHECK (held >= 0),
    ceiling bigint,
    PRIMARY KEY (root, subject, resource, period_start),
    CHECK (committed + held <= ceiling)
) WITH (fillfactor = 70);
COMMENT ON COLUMN earmark._private_balance.ceiling IS
    'The quota under which the last grant was made; NULL: unlimited. Makes "no grant passes the quota" a constraint';

CREATE TABLE earmark._private_reservation (
    root text NOT NULL,
    reservation uuid NOT NULL,
    subject text NOT NULL,
    key text CHECK (length(key) BETWEEN 1 AND 255),
    request jsonb CHECK (key IS NULL OR request IS NOT NULL),
    outcome text NOT NULL CHECK (outcome IN ('granted', 'denied')),
    detail jsonb,
    expires_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (root, reservation)
);
CREATE UNIQUE INDEX _private_reservation_id ON earmark._private_reservation (reservation);
CREATE UNIQUE INDEX _private_reservation_key ON earmark._private_reservation (root, subject, key) WHERE key IS NOT NULL;
COMMENT ON COLUMN earmark._private_reservation.request IS 'What was asked for under the key: a second request under it must equal it';

CREATE TABLE earmark._private_hold (
    root text NOT NULL,
    reservation uuid NOT NULL,
    item text NOT NULL,
    resource text NOT NULL,
    subject text NOT NULL,
    level smallint NOT NULL DEFAULT 0 CHECK (level >= 0),
    followed boolean NOT NULL DEFAULT false,
    period_start timestamptz NOT NULL,
    amount bigint NOT NULL CHECK (amount > 0),
    committed bigint NOT NULL DEFAULT 0 CHECK (committed BETWEEN 0 AND amount),
    state text NOT NULL DEFAULT 'held' CHECK (state IN ('held', 'committed', 'refunded', 'rolled_back')),
    expires_at timestamptz NOT NULL,
    cause text CHECK (cause IN ('upload_failed', 'processing_failed', 'cancelled', 'validation_failed', 'expired', 'admin')),
    settled_at timestamptz,
    settled_by text,
    PRIMARY KEY (root, reservation, item, resource, subject),
    CHECK ((state = 'held') = (settled_at IS NULL)),
    CHECK ((state = 'held') = (settled_by IS NULL)),
    CHECK ((state = 'rolled_back') = (cause IS NOT NULL)),
    CHECK (state IN ('committed', 'refunded') OR committed = 0)
) WITH (fillfactor = 80);
CREATE INDEX _private_hold_deadline ON earmark._private_hold (expires_at) WHERE state = 'held' AND expires_at IS NOT NULL;
COMMENT ON INDEX earmark._private_hold_deadline IS
    'IS NOT NULL follows from a condition on expires_at: without one the planner cannot take this index, and read all that is open';
CREATE INDEX _private_hold_open ON earmark._private_hold (root, subject) WHERE state = 'held';
COMMENT ON COLUMN earmark._private_hold.level IS '0: the subject''s own; 1: at his parent, and so on up to the root';
COMMENT ON COLUMN earmark._private_hold.followed IS 'Something else changes with it: see images_follow';

CREATE TABLE earmark._private_adjustment (
    root text NOT NULL,
    subject text NOT NULL,
    key text NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
    request jsonb NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('adjusted', 'denied')),
    detail jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (root, subject, key)
);
COMMENT ON TABLE earmark._private_adjustment IS 'What adjust answered under each key';

CREATE TABLE earmark._private_journal (
    root text NOT NULL,
    subject text NOT NULL,
    seq bigint NOT NULL,
    at timestamptz NOT NULL,
    kind text NOT NULL CHECK (kind IN ('reserve', 'commit', 'rollback', 'refund', 'adjust')),
    resource text NOT NULL,
    period_start timestamptz NOT NULL,
    reservation uuid,
    item text,
    committed bigint NOT NULL,
    held bigint NOT NULL,
    cause text,
    actor text NOT NULL,
    reason text,
    transaction xid8 NOT NULL DEFAULT
        greatest(pg_current_xact_id(), (pg_snapshot_xmax(pg_current_snapshot())::text::bigint - 1)::text::xid8),
    hash bytea NOT NULL,
    PRIMARY KEY (root, subject, seq)
);
COMMENT ON TABLE earmark._private_journal IS
    'Append-only. committed and held are what the entry added to the balance; the entries sum to the balances';
COMMENT ON COLUMN earmark._private_journal.hash IS 'sha256 of the subject''s entry before and of this one, as _private_post writes it down';

COMMENT ON COLUMN earmark._private_journal.transaction IS
    'What followers order by: the entry''s own transaction or, where that is later, the last one that was over when the entry was written, under
the subject''s lock. So it never falls from one entry of a subject to the next, even where a transaction that began earlier took the lock later';
CREATE INDEX _private_journal_followed ON earmark._private_journal (transaction);

CREATE FUNCTION earmark._private_refuse_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = earmark, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'the journal is append-only: % refused', TG_OP USING ERRCODE = 'restrict_violation';
END $$;
COMMENT ON FUNCTION earmark._private_refuse_change IS 'The journal is append-only';
CREATE TRIGGER append_only BEFORE UPDATE OR TRUNCATE ON earmark._private_journal
    FOR EACH STATEMENT EXECUTE FUNCTION earmark._private_refuse_change();

CREATE FUNCTION earmark._private_refuse_removal() RETURNS trigger
LANGUAGE plpgsql SET search_path = earmark, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM gone) OR EXISTS (
        SELECT FROM gone g LEFT JOIN _private_subject s USING (root, subject) WHERE g.seq > coalesce(s.pruned_seq, 0)
    ) THEN
        RAISE EXCEPTION 'the journal is append-only: DELETE refused' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION earmark._private_refuse_removal IS
    'Entries go only once their subject''s row accounts for them: pruned_seq is what lets a DELETE through, and no setting of a session does';
CREATE TRIGGER pruned_only AFTER DELETE ON earmark._private_journal REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION earmark._private_refuse_removal();

CREATE TABLE earmark._private_carried (
    root text NOT NULL,
    subject text NOT NULL,
    resource text NOT NULL,
    period_start timestamptz NOT NULL,
    journal_committed bigint NOT NULL DEFAULT 0,
    journal_held bigint NOT NULL DEFAULT 0,
    holds_committed bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (root, subject, resource, period_start)
);
COMMENT ON TABLE earmark._private_carried IS 'What is no longer in the tables but still counts in the balances; see verify';
COMMENT ON COLUMN earmark._private_carried.journal_committed IS 'Sum over pruned journal entries; journal_held likewise';
COMMENT ON COLUMN earmark._private_carried.holds_committed IS
    'On the side of the holds: committed use of pruned holds, pruned adjustments, and less what repair adjusted to agree with the holds';

CREATE TABLE earmark._private_set_aside (
    root text NOT NULL,
    reservation uuid NOT NULL,
    item text NOT NULL,
    error text NOT NULL,
    times int NOT NULL CHECK (times >= 1),
    at timestamptz NOT NULL,
    retry_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (root, reservation, item)
);
COMMENT ON TABLE earmark._private_set_aside IS 'Overdue items that the sweeper could not roll back; their deadline is moved to retry_at meanwhile';
COMMENT ON COLUMN earmark._private_set_aside.expires_at IS 'The deadline it had';

CREATE TYPE earmark._private_position AS (transaction xid8, root text, subject text, seq bigint);

CREATE TYPE earmark._private_figure AS (
    root text, subject text, resource text, period_start timestamptz, committed bigint, held bigint,
    holds_committed bigint, holds_held bigint, journal_committed bigint, journal_held bigint
);

CREATE TYPE earmark._private_entry AS (
    root text, subject text, kind text, resource text, period_start timestamptz, reservation uuid, item text,
    committed bigint, held bigint, cause text, actor text, reason text
);

CREATE TYPE earmark._private_request AS (
    ordinal int, root text, subject text, key text, actor text, request jsonb, followed boolean, first int,
    outcome text, reservation uuid, expires_at timestamptz, replayed boolean, detail jsonb
);
CREATE TYPE earmark._private_line AS (
    ordinal int, item text, amount bigint, balance int, root text, subject text, level smallint, resource text,
    period_start timestamptz, period_end timestamptz, quota bigint, used bigint
);

CREATE TYPE earmark._private_seen AS (
    ordinal int, owner text, mine boolean, item text, resource text, amount bigint, committed bigint, state text, cause text,
    settled_at timestamptz, settled_by text, expires_at timestamptz
);

CREATE FUNCTION earmark._private_link(state bytea, head bytea, content bytea)
RETURNS bytea LANGUAGE plpgsql IMMUTABLE SET search_path = earmark, pg_temp AS $$
BEGIN
    RETURN sha256(coalesce(state, head) || content);
END $$;
COMMENT ON FUNCTION earmark._private_link IS 'One step of _private_chain';
CREATE AGGREGATE earmark._private_chain(bytea, bytea) (sfunc = earmark._private_link, stype = bytea);
COMMENT ON AGGREGATE earmark._private_chain(bytea, bytea) IS
    'Over (head, content) in order: the hash chain that begins after head, each hash that of the one before and of the content';
