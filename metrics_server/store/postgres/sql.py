"""The SQL of the shared store: tables, and one function for each thing that is done in one transaction.

A batch is committed by one call, `commit_batch`, so it takes one round trip. What it adds to sums is appended as one
row of `deltas`, so two servers never wait for each other over a popular series; `tidy` adds deltas up into `sums`.
Reading takes both (the view `all_sums`), so that changes no number. Text is kept as bytes: PostgreSQL's has no NUL.
"""

from __future__ import annotations

from metrics_server.metrics.window import COARSEST, LEVELS

SCHEMA_VERSION = 1
USABLE_FROM = 1  # the oldest version whose servers can go on with tables of this one

# Statements that bring tables to the next version, by the version that they have. Servers of both versions use them
# while servers are replaced one by one: so they only add, and what is in the way goes with a later version.
MIGRATIONS: dict[int, str] = {}

# SQLSTATEs of ours.
CONFLICT = "FM001"  # something that the change was computed from has changed since
STALE_CATALOG = "FM002"  # series or claims have changed that this writer does not know yet
FENCED = "FM003"  # the writer was given up, or another connection has taken its place

# Advisory locks, by the first of their two numbers; the second is of the schema, so that two stores in one database do
# not wait for each other. The catalog's is shared by all commits but those that claim something.
CATALOG_LOCK = 0x464D01
FOLD_LOCK = 0x464D02
SETUP_LOCK = 0x464D03

LEASE = "5 s"  # how long one server does the upkeep without renewing
KEPT_DELTAS = "60 s"  # how long a delta stays after it could be read first; who is slower reads all anew
# A writer without a heartbeat for so long is given up: it has to come back as another one, and reads all anew. Its row
# stays for as long again, so that every writer that was not given up has read its last commit.
GIVEN_UP, REMOVED = "10 min", "20 min"

_WIDTHS = ", ".join(str(width) for width in (*(width for width, _ in LEVELS), COARSEST))

SCHEMA = """
CREATE TABLE catalog (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    schema_version integer NOT NULL, usable_from integer NOT NULL, -- by servers of this version and later ones
    epoch bigint NOT NULL, deletions bigint NOT NULL
);
CREATE TABLE upkeep (
    one boolean PRIMARY KEY DEFAULT true CHECK (one), writer bigint NOT NULL, until timestamptz NOT NULL
);
CREATE TABLE writers (
    id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, record_schema integer NOT NULL, session bigint NOT NULL,
    seq bigint NOT NULL, seen_at timestamptz NOT NULL -- session -1: given up
) WITH (fillfactor = 50);
CREATE TABLE records (
    key bytea PRIMARY KEY, version bigint NOT NULL, expiry_queue smallint NOT NULL, expires_at float8 NOT NULL,
    value bytea NOT NULL
) WITH (fillfactor = 85);
CREATE INDEX records_expiry ON records (expiry_queue, expires_at, key);
CREATE TABLE series (
    id bigint PRIMARY KEY, identity bytea NOT NULL, created_at float8 NOT NULL, seen_at float8 NOT NULL,
    predicted_at float8 NOT NULL, labelled_at float8 NOT NULL, epoch bigint NOT NULL
);
CREATE TABLE parameters (
    series bigint NOT NULL, name bytea NOT NULL, value bytea NOT NULL, epoch bigint NOT NULL, PRIMARY KEY (series, name)
);
CREATE TABLE registers (
    series bigint NOT NULL, name bytea NOT NULL, at float8 NOT NULL, value float8 NOT NULL, PRIMARY KEY (series, name)
);
CREATE TABLE components (id integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY, name bytea NOT NULL UNIQUE);
CREATE TABLE sums (
    series bigint NOT NULL, width integer NOT NULL, start bigint NOT NULL,
    component integer[] NOT NULL, value float8[] NOT NULL,
    PRIMARY KEY (series, width, start)
) WITH (fillfactor = 70);
CREATE INDEX sums_time ON sums (width, start, series);
CREATE TABLE deltas (
    writer bigint NOT NULL, seq bigint NOT NULL, at timestamptz NOT NULL DEFAULT now(),
    series bigint[] NOT NULL, width integer[] NOT NULL, start bigint[] NOT NULL, component integer[] NOT NULL,
    value float8[] NOT NULL,
    register_series bigint[] NOT NULL, register_name bytea[] NOT NULL, register_at float8[] NOT NULL,
    register_value float8[] NOT NULL,
    used_series bigint[] NOT NULL, seen_at float8[] NOT NULL, predicted_at float8[] NOT NULL,
    labelled_at float8[] NOT NULL,
    PRIMARY KEY (writer, seq)
);
CREATE TABLE folded (writer bigint PRIMARY KEY, seq bigint NOT NULL) WITH (fillfactor = 50);

CREATE VIEW unfolded AS
SELECT deltas.* FROM deltas LEFT JOIN folded USING (writer) WHERE deltas.seq > coalesce(folded.seq, 0);
CREATE VIEW all_sums AS
SELECT series, width, start, part.component, part.value
FROM sums CROSS JOIN LATERAL unnest(sums.component, sums.value) AS part (component, value)
UNION ALL
SELECT part.series, part.width, part.start, part.component, part.value
FROM unfolded CROSS JOIN LATERAL unnest(
    unfolded.series, unfolded.width, unfolded.start, unfolded.component, unfolded.value
) AS part (series, width, start, component, value);
CREATE VIEW all_registers AS
SELECT series, name, at, value FROM registers
UNION ALL
SELECT part.series, part.name, part.at, part.value FROM unfolded CROSS JOIN LATERAL unnest(
    register_series, register_name, register_at, register_value
) AS part (series, name, at, value);
"""

# Plans for these are made once for arrays of any size: without the settings one made for a small table reads all of it
# for every batch when it has grown.
_BY_INDEX = "SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off"

FUNCTIONS = f"""
CREATE FUNCTION commit_batch(
    my_writer bigint, my_session bigint, my_seq bigint, known_epoch bigint,
    new_series bigint[], new_identity bytea[], new_created_at float8[], new_seen_at float8[],
    new_predicted_at float8[], new_labelled_at float8[],
    claim_series bigint[], claim_name bytea[], claim_value bytea[],
    new_key bytea[], new_queue smallint[], new_expires_at float8[], new_value bytea[],
    old_key bytea[], old_version bigint[], old_expires_at float8[], old_value bytea[],
    gone_key bytea[], gone_version bigint[],
    sum_series bigint[], sum_width integer[], sum_start bigint[], sum_component integer[], sum_value float8[],
    reg_series bigint[], reg_name bytea[], reg_at float8[], reg_value float8[],
    use_series bigint[], use_seen_at float8[], use_predicted_at float8[], use_labelled_at float8[]
) RETURNS bigint LANGUAGE plpgsql {_BY_INDEX} AS $body$
DECLARE
    has_claims boolean := cardinality(new_series) + cardinality(claim_series) > 0;
    my_version bigint := my_writer << 40 | my_seq;
    current_epoch bigint;
    touched bigint;
BEGIN
    IF has_claims THEN
        PERFORM pg_advisory_xact_lock({CATALOG_LOCK}, hashtext(current_schema()));
    ELSE
        PERFORM pg_advisory_xact_lock_shared({CATALOG_LOCK}, hashtext(current_schema()));
    END IF;
    SELECT epoch INTO current_epoch FROM catalog;
    IF current_epoch <> known_epoch THEN
        RAISE EXCEPTION 'the catalog has changed' USING ERRCODE = '{STALE_CATALOG}';
    END IF;
    UPDATE writers SET seq = my_seq, seen_at = now()
    WHERE id = my_writer AND session = my_session AND seq = my_seq - 1;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'writer % was given up', my_writer USING ERRCODE = '{FENCED}';
    END IF;

    IF has_claims THEN
        current_epoch := current_epoch + 1;
        UPDATE catalog SET epoch = current_epoch;
        INSERT INTO series (id, identity, created_at, seen_at, predicted_at, labelled_at, epoch)
        SELECT *, current_epoch FROM unnest(
            new_series, new_identity, new_created_at, new_seen_at, new_predicted_at, new_labelled_at
        );
        INSERT INTO parameters (series, name, value, epoch)
        SELECT *, current_epoch FROM unnest(claim_series, claim_name, claim_value)
        ON CONFLICT (series, name) DO UPDATE SET epoch = current_epoch WHERE parameters.value = excluded.value;
        GET DIAGNOSTICS touched = ROW_COUNT;
        IF touched <> cardinality(claim_series) THEN
            RAISE EXCEPTION 'a claim is taken' USING ERRCODE = '{CONFLICT}';
        END IF;
    END IF;

    INSERT INTO records (key, version, expiry_queue, expires_at, value)
    SELECT key, my_version, queue, expires_at, value
    FROM unnest(new_key, new_queue, new_expires_at, new_value) AS new (key, queue, expires_at, value)
    ON CONFLICT (key) DO NOTHING;
    GET DIAGNOSTICS touched = ROW_COUNT;
    IF touched <> cardinality(new_key) THEN
        RAISE EXCEPTION 'a record was made' USING ERRCODE = '{CONFLICT}';
    END IF;
    UPDATE records SET version = my_version, expires_at = new.expires_at, value = new.value
    FROM unnest(old_key, old_version, old_expires_at, old_value) AS new (key, version, expires_at, value)
    WHERE records.key = new.key AND records.version = new.version;
    GET DIAGNOSTICS touched = ROW_COUNT;
    IF touched <> cardinality(old_key) THEN
        RAISE EXCEPTION 'a record was written' USING ERRCODE = '{CONFLICT}';
    END IF;
    DELETE FROM records USING unnest(gone_key, gone_version) AS gone (key, version)
    WHERE records.key = gone.key AND records.version = gone.version;
    GET DIAGNOSTICS touched = ROW_COUNT;
    IF touched <> cardinality(gone_key) THEN
        RAISE EXCEPTION 'a record was written' USING ERRCODE = '{CONFLICT}';
    END IF;

    INSERT INTO deltas (
        writer, seq, series, width, start, component, value, register_series, register_name, register_at,
        register_value, used_series, seen_at, predicted_at, labelled_at
    ) VALUES (
        my_writer, my_seq, sum_series, sum_width, sum_start, sum_component, sum_value, reg_series, reg_name, reg_at,
        reg_value, use_series, use_seen_at, use_predicted_at, use_labelled_at
    );
    RETURN current_epoch;
END $body$;

-- Adds deltas up; returns how many, at most so many of them. The caller holds the lock.
CREATE FUNCTION fold_deltas(most integer) RETURNS integer LANGUAGE plpgsql AS $body$
DECLARE
    writer_of bigint[];
    seq_of bigint[];
    found integer;
BEGIN
    SELECT array_agg(writer), array_agg(seq), coalesce(sum(deltas_of), 0) INTO writer_of, seq_of, found FROM (
        SELECT writer, max(seq) AS seq, count(*) AS deltas_of
        FROM (SELECT writer, seq FROM unfolded ORDER BY writer, seq LIMIT most) AS taken GROUP BY writer
    ) AS by_writer;
    IF found = 0 THEN
        RETURN 0;
    END IF;
    WITH taken AS MATERIALIZED (
        SELECT unfolded.* FROM unfolded JOIN unnest(writer_of, seq_of) AS last (writer, seq)
        ON unfolded.writer = last.writer AND unfolded.seq <= last.seq
    ), fresh AS MATERIALIZED (
        SELECT part.series, part.width, part.start, part.component, sum(part.value) AS value
        FROM taken CROSS JOIN LATERAL unnest(
            taken.series, taken.width, taken.start, taken.component, taken.value
        ) AS part (series, width, start, component, value)
        GROUP BY 1, 2, 3, 4
    ), merged AS (
        SELECT series, width, start, component, sum(value) AS value FROM (
            SELECT * FROM fresh
            UNION ALL
            SELECT sums.series, sums.width, sums.start, part.component, part.value
            FROM (SELECT DISTINCT series, width, start FROM fresh) AS touched JOIN sums USING (series, width, start)
            CROSS JOIN LATERAL unnest(sums.component, sums.value) AS part (component, value)
        ) AS parts GROUP BY 1, 2, 3, 4
    ), into_sums AS (
        INSERT INTO sums (series, width, start, component, value)
        SELECT series, width, start, coalesce(array_agg(component) FILTER (WHERE value <> 0), '{{}}'),
            coalesce(array_agg(value) FILTER (WHERE value <> 0), '{{}}')
        FROM merged GROUP BY 1, 2, 3
        ON CONFLICT (series, width, start) DO UPDATE SET component = excluded.component, value = excluded.value
    ), into_registers AS (
        INSERT INTO registers (series, name, at, value)
        SELECT DISTINCT ON (part.series, part.name) part.series, part.name, part.at, part.value
        FROM taken CROSS JOIN LATERAL unnest(
            register_series, register_name, register_at, register_value
        ) AS part (series, name, at, value)
        ORDER BY part.series, part.name, part.at DESC, part.value DESC
        ON CONFLICT (series, name) DO UPDATE SET at = excluded.at, value = excluded.value
        WHERE (excluded.at, excluded.value) > (registers.at, registers.value)
    ), into_series AS (
        UPDATE series SET seen_at = greatest(series.seen_at, last.seen_at),
            predicted_at = greatest(series.predicted_at, last.predicted_at),
            labelled_at = greatest(series.labelled_at, last.labelled_at)
        FROM (
            SELECT part.id, max(part.seen_at) AS seen_at, max(part.predicted_at) AS predicted_at,
                max(part.labelled_at) AS labelled_at
            FROM taken CROSS JOIN LATERAL unnest(
                used_series, taken.seen_at, taken.predicted_at, taken.labelled_at
            ) AS part (id, seen_at, predicted_at, labelled_at) GROUP BY 1
        ) AS last WHERE series.id = last.id
    )
    INSERT INTO folded (writer, seq) SELECT * FROM unnest(writer_of, seq_of)
    ON CONFLICT (writer) DO UPDATE SET seq = excluded.seq;
    RETURN found;
END $body$;

-- The upkeep of one look: folds, and deletes what was folded long ago and writers that are gone.
CREATE FUNCTION tidy(most integer) RETURNS integer LANGUAGE plpgsql AS $body$
DECLARE
    found integer;
BEGIN
    IF NOT pg_try_advisory_xact_lock({FOLD_LOCK}, hashtext(current_schema())) THEN
        RETURN 0;
    END IF;
    found := fold_deltas(most);
    DELETE FROM deltas USING folded
    WHERE deltas.writer = folded.writer AND deltas.seq <= folded.seq AND deltas.at < now() - interval '{KEPT_DELTAS}';
    UPDATE writers SET session = -1 WHERE id IN (
        SELECT id FROM writers WHERE session > 0 AND seen_at < now() - interval '{GIVEN_UP}' FOR UPDATE SKIP LOCKED
    );
    DELETE FROM writers WHERE session < 0 AND seen_at < now() - interval '{REMOVED}';
    DELETE FROM folded WHERE writer NOT IN (SELECT id FROM writers) AND writer NOT IN (SELECT writer FROM deltas);
    RETURN found;
END $body$;

CREATE FUNCTION merge_bucket(
    fine integer, coarse integer, before bigint, split_series bigint[], split_start bigint[]
) RETURNS boolean LANGUAGE plpgsql AS $body$
DECLARE
    oldest bigint;
    multiple bigint;
BEGIN
    PERFORM pg_advisory_xact_lock({FOLD_LOCK}, hashtext(current_schema()));
    WHILE fold_deltas(1000) > 0 LOOP
    END LOOP;
    SELECT min(start) INTO oldest FROM sums WHERE width = fine AND start < before;
    IF oldest IS NULL THEN
        RETURN false;
    END IF;
    multiple := oldest - oldest % greatest(coarse, 1);
    WITH splits AS (
        SELECT series, max(start) AS start FROM unnest(split_series, split_start) AS split (series, start)
        WHERE start > multiple AND start <= oldest GROUP BY 1
    ), deleted AS (
        DELETE FROM sums WHERE width = fine AND start = oldest RETURNING series, component, value
    ), gone AS (
        SELECT deleted.series, coalesce(splits.start, multiple) AS start, component, value
        FROM deleted LEFT JOIN splits USING (series)
    ), merged AS (
        SELECT series, start, component, sum(value) AS value FROM (
            SELECT gone.series, gone.start, part.component, part.value
            FROM gone CROSS JOIN LATERAL unnest(gone.component, gone.value) AS part (component, value)
            UNION ALL
            SELECT sums.series, sums.start, part.component, part.value
            FROM gone JOIN sums ON sums.series = gone.series AND sums.width = coarse AND sums.start = gone.start
            CROSS JOIN LATERAL unnest(sums.component, sums.value) AS part (component, value)
        ) AS parts GROUP BY 1, 2, 3
    )
    INSERT INTO sums (series, width, start, component, value)
    SELECT series, coarse, start,
        coalesce(array_agg(component) FILTER (WHERE value <> 0), '{{}}'),
        coalesce(array_agg(value) FILTER (WHERE value <> 0), '{{}}')
    FROM merged WHERE coarse > 0 GROUP BY 1, 3
    ON CONFLICT (series, width, start) DO UPDATE SET component = excluded.component, value = excluded.value;
    RETURN true;
END $body$;

-- Deletes a series unless it was used since; no commit is under way that does not know it afterwards.
CREATE FUNCTION delete_series(gone bigint, used_since float8) RETURNS boolean LANGUAGE plpgsql AS $body$
BEGIN
    PERFORM pg_advisory_xact_lock({CATALOG_LOCK}, hashtext(current_schema()));
    PERFORM pg_advisory_xact_lock({FOLD_LOCK}, hashtext(current_schema()));
    WHILE fold_deltas(1000) > 0 LOOP
    END LOOP;
    IF EXISTS (SELECT FROM series WHERE id = gone AND seen_at >= used_since) THEN
        RETURN false;
    END IF;
    DELETE FROM series WHERE id = gone;
    DELETE FROM parameters WHERE parameters.series = gone;
    DELETE FROM registers WHERE registers.series = gone;
    DELETE FROM sums WHERE sums.series = gone;
    UPDATE catalog SET epoch = epoch + 1, deletions = deletions + 1;
    RETURN true;
END $body$;

-- Says that a writer is alive, and takes or keeps the upkeep if it is free; NULL for a writer that was given up.
CREATE FUNCTION heartbeat(my_writer bigint, my_session bigint) RETURNS boolean LANGUAGE plpgsql AS $body$
BEGIN
    UPDATE writers SET seen_at = clock_timestamp() WHERE id = my_writer AND session = my_session;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    UPDATE upkeep SET writer = my_writer, until = clock_timestamp() + interval '{LEASE}'
    WHERE writer = my_writer OR until < clock_timestamp();
    RETURN FOUND;
END $body$;
"""

SET_UP = f"""
INSERT INTO catalog (schema_version, usable_from, epoch, deletions) VALUES ({SCHEMA_VERSION}, {USABLE_FROM}, 0, 0);
INSERT INTO upkeep (writer, until) VALUES (0, '-infinity');
"""

ARRAYS = (
    *("bigint[]", "bytea[]", *["float8[]"] * 4),
    *("bigint[]", "bytea[]", "bytea[]"),
    *("bytea[]", "smallint[]", "float8[]", "bytea[]"),
    *("bytea[]", "bigint[]", "float8[]", "bytea[]"),
    *("bytea[]", "bigint[]"),
    *("bigint[]", "integer[]", "bigint[]", "integer[]", "float8[]"),
    *("bigint[]", "bytea[]", "float8[]", "float8[]"),
    *("bigint[]", "float8[]", "float8[]", "float8[]"),
)
COMMIT = f"SELECT commit_batch(%s, %s, %s, %s, {', '.join(f'%s::{kind}' for kind in ARRAYS)})"
LOAD = "SELECT key, version, value FROM records WHERE key = ANY(%s::bytea[])"
LOAD_PREFIX = "SELECT key, version, value FROM records WHERE key >= %s AND key < %s"
ENROL = """INSERT INTO writers (record_schema, session, seq, seen_at) VALUES (%s, 1, 0, now())
RETURNING id, session, seq"""
TAKE_OVER = """UPDATE writers SET session = session + 1, seen_at = now() WHERE id = %s AND session > 0
RETURNING id, session, seq"""
LEAVE = """WITH mine AS (UPDATE writers SET session = -1 WHERE id = %(me)s AND session = %(session)s RETURNING id)
UPDATE upkeep SET until = '-infinity' FROM mine WHERE writer = mine.id"""
# A writer commits without gaps, so the numbers tell how much is not folded yet; counting deltas would read them.
BEAT = """SELECT heartbeat(%s, %s), extract(epoch FROM clock_timestamp())::float8, (
    SELECT coalesce(sum(writers.seq - coalesce(folded.seq, 0)), 0)::bigint
    FROM writers LEFT JOIN folded ON folded.writer = writers.id
), (SELECT min(record_schema) FROM writers WHERE session > 0)"""
# What other writers have committed beyond the numbers given, and how far each is, all of one moment.
NEWS = """
SELECT catalog.epoch, catalog.deletions, writers.id, writers.seq, deltas.seq, deltas.series, deltas.width, deltas.start,
    deltas.component, deltas.value, deltas.register_series, deltas.register_name, deltas.register_at,
    deltas.register_value, deltas.used_series, deltas.seen_at, deltas.predicted_at, deltas.labelled_at
FROM catalog CROSS JOIN writers
LEFT JOIN unnest(%(writers)s::bigint[], %(seqs)s::bigint[]) AS known (writer, seq) ON known.writer = writers.id
LEFT JOIN deltas ON deltas.writer = writers.id AND deltas.writer <> %(me)s AND deltas.seq > coalesce(known.seq, 0)
ORDER BY deltas.writer, deltas.seq
"""
SERIES = """
SELECT series.id, series.identity, series.created_at, greatest(series.seen_at, used.seen_at),
    greatest(series.predicted_at, used.predicted_at), greatest(series.labelled_at, used.labelled_at)
FROM series LEFT JOIN (
    SELECT part.id, max(part.seen_at) AS seen_at, max(part.predicted_at) AS predicted_at,
        max(part.labelled_at) AS labelled_at
    FROM unfolded CROSS JOIN LATERAL unnest(
        used_series, unfolded.seen_at, unfolded.predicted_at, unfolded.labelled_at
    ) AS part (id, seen_at, predicted_at, labelled_at) GROUP BY 1
) AS used USING (id)
WHERE %(since)s::bigint IS NULL OR epoch > %(since)s
    OR EXISTS (SELECT FROM parameters WHERE parameters.series = series.id AND parameters.epoch > %(since)s)
"""
PARAMETERS = "SELECT series, name, value FROM parameters WHERE %(ids)s::bigint[] IS NULL OR series = ANY(%(ids)s)"
REGISTERS = "SELECT DISTINCT ON (series, name) series, name, at, value FROM all_registers ORDER BY 1, 2, 3 DESC, 4 DESC"
CUMULATIVE = "SELECT series, component, sum(value) FROM all_sums WHERE width = %s AND start = %s GROUP BY 1, 2"
TOTALS = f"""SELECT series, component, sum(value) FROM all_sums
WHERE width IN ({_WIDTHS}) AND start >= %s AND start < %s GROUP BY 1, 2"""
HISTORY = f"""SELECT width, start, name, sum(value) FROM all_sums JOIN components ON components.id = component
WHERE series = %s AND width IN ({_WIDTHS}) AND start >= %s AND start < %s GROUP BY 1, 2, 3"""
STEPS = f"""SELECT start - (start %% %(step)s + %(step)s) %% %(step)s, name, sum(value), max(width)
FROM all_sums JOIN components ON components.id = component
WHERE series = %(series)s AND width IN ({_WIDTHS}) AND start >= %(since)s AND start < %(until)s
GROUP BY 1, 2 ORDER BY 1"""
MERGE_BUCKET = "SELECT merge_bucket(%s, %s, %s, %s::bigint[], %s::bigint[])"
EXPIRED = """SELECT key, version, value FROM records WHERE expiry_queue = %s AND expires_at <= %s
ORDER BY expires_at, key LIMIT %s"""
SCAN = """SELECT expiry_queue, expires_at, key, version, value FROM records
WHERE (expiry_queue, expires_at, key) > (%s::smallint, %s::float8, %s::bytea)
ORDER BY expiry_queue, expires_at, key LIMIT %s"""
OTHER_WRITERS = """SELECT count(*) FROM writers
WHERE id <> %s AND session > 0 AND seen_at > clock_timestamp() - interval '10 s'"""
NAME_COMPONENTS = "INSERT INTO components (name) SELECT unnest(%s::bytea[]) ON CONFLICT (name) DO NOTHING"
COMPONENTS_NAMED = "SELECT id, name FROM components WHERE name = ANY(%s::bytea[])"
COMPONENTS_OF = "SELECT id, name FROM components WHERE id = ANY(%s::integer[])"
SIZE = """SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_class
WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'"""
