"""The tables, and the statements on them; every name of a table stands with its schema.

A row of a table holds, besides what ``storage.rows`` puts into it, the number of the commit that wrote it last.
"""

from functools import cache

from aliciacfg.storage.rows import (
    AUDIT_COLUMNS,
    OVERLAY_COLUMNS,
    RECORD_COLUMNS,
    RENEWED_COLUMNS,
    STANDING_COLUMNS,
    TABLES,
)

SCHEMA = "aliciacfg"
CHANNEL = "aliciacfg"
# An answered commit is on disk, and on the standbys that the server waits for.
_DURABLE = "set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') <> 'remote_apply'"
BEGIN_WRITING = f"BEGIN ISOLATION LEVEL READ COMMITTED; SELECT {_DURABLE}"
"""Begins a transaction that does not depend on what server, database or role have as defaults."""

# Room for new versions beside the old ones, which are removed early.
RENEWED_OPTIONS = {
    "fillfactor": "20",
    "autovacuum_vacuum_threshold": "50",
    "autovacuum_vacuum_scale_factor": "0",
    "autovacuum_vacuum_cost_delay": "0",
}
"""Storage parameters of tables with few rows that are replaced all the time (PostgreSQL, CREATE TABLE)."""
RENEWED_TABLES = ("home", "meta", "lease", "replicas")
"""The tables that have these."""
_RENEWED = ", ".join(f"{name} = {value}" for name, value in RENEWED_OPTIONS.items())
CREATE = f"""
    CREATE SCHEMA IF NOT EXISTS {SCHEMA};
    CREATE TABLE {SCHEMA}.home (
        one boolean PRIMARY KEY CHECK (one),
        commit bigint NOT NULL,
        sequence bigint NOT NULL,
        mac bytea NOT NULL,
        standing bytea NOT NULL,
        sealed bytea NOT NULL,
        format integer NOT NULL,
        needs text NOT NULL,
        expanded integer NOT NULL,
        residue bigint NOT NULL
    ) WITH ({_RENEWED});
    CREATE TABLE {SCHEMA}.meta (
        name text COLLATE "C" PRIMARY KEY,
        value text COLLATE "C" NOT NULL,
        mac bytea NOT NULL,
        commit bigint NOT NULL
    ) WITH ({_RENEWED});
    CREATE TABLE {SCHEMA}.revisions (
        environment text COLLATE "C" NOT NULL,
        service text COLLATE "C" NOT NULL,
        revision bigint NOT NULL,
        version text NOT NULL,
        timestamp double precision NOT NULL CHECK (timestamp <> 'NaN'),
        author text NOT NULL,
        cause text NOT NULL,
        checksum text NOT NULL,
        digest text NOT NULL,
        changed bytea NOT NULL,
        restart_required bytea NOT NULL,
        breaking boolean NOT NULL,
        comment text,
        deleted boolean NOT NULL,
        config bytea NOT NULL,
        home_sequence bigint NOT NULL,
        sequence bigint NOT NULL UNIQUE,
        mac bytea NOT NULL,
        code bytea NOT NULL,
        commit bigint NOT NULL,
        PRIMARY KEY (environment, service, revision)
    );
    CREATE INDEX revisions_commit ON {SCHEMA}.revisions (commit);
    CREATE INDEX revisions_service ON {SCHEMA}.revisions (service);
    CREATE TABLE {SCHEMA}.audit (
        timestamp double precision NOT NULL CHECK (timestamp <> 'NaN'),
        who text NOT NULL,
        "where" text NOT NULL,
        operation text NOT NULL,
        outcome text NOT NULL,
        environment text COLLATE "C",
        service text COLLATE "C",
        before bigint,
        after bigint,
        detail text,
        count bigint NOT NULL,
        sequence bigint PRIMARY KEY,
        mac bytea NOT NULL,
        code bytea NOT NULL,
        commit bigint NOT NULL
    );
    CREATE TABLE {SCHEMA}.overlays (
        environment text COLLATE "C" NOT NULL,
        service text COLLATE "C" NOT NULL,
        patch bytea,
        origins bytea NOT NULL,
        mac bytea,
        commit bigint NOT NULL,
        PRIMARY KEY (environment, service)
    );
    CREATE INDEX overlays_commit ON {SCHEMA}.overlays (commit);
    CREATE TABLE {SCHEMA}.outbox (
        subject text COLLATE "C" PRIMARY KEY,
        sequence bigint NOT NULL,
        payload bytea NOT NULL,
        pending boolean NOT NULL,
        mac bytea NOT NULL,
        commit bigint NOT NULL
    );
    CREATE INDEX outbox_commit ON {SCHEMA}.outbox (commit);
    CREATE TABLE {SCHEMA}.schemas (
        service text COLLATE "C" PRIMARY KEY,
        document bytea,
        mac bytea NOT NULL,
        commit bigint NOT NULL
    );
    CREATE INDEX schemas_commit ON {SCHEMA}.schemas (commit);
    CREATE TABLE {SCHEMA}.told (
        configuration text COLLATE "C" PRIMARY KEY,
        home_sequence bigint NOT NULL,
        mac bytea NOT NULL,
        commit bigint NOT NULL
    );
    CREATE INDEX told_commit ON {SCHEMA}.told (commit);
    CREATE TABLE {SCHEMA}.tokens (
        token_id text COLLATE "C" PRIMARY KEY,
        digest text NOT NULL,
        name text NOT NULL,
        role text NOT NULL,
        created double precision NOT NULL CHECK (created <> 'NaN'),
        expires double precision CHECK (expires <> 'NaN'),
        revoked double precision CHECK (revoked <> 'NaN'),
        mac bytea NOT NULL,
        commit bigint NOT NULL
    );
    CREATE TABLE {SCHEMA}.recipients (
        service text COLLATE "C" PRIMARY KEY,
        public_key text,
        mac bytea NOT NULL,
        commit bigint NOT NULL
    );
    CREATE INDEX recipients_commit ON {SCHEMA}.recipients (commit);
    CREATE TABLE {SCHEMA}.applied (
        service text COLLATE "C" NOT NULL,
        instance text COLLATE "C" NOT NULL,
        environment text NOT NULL,
        revision bigint NOT NULL,
        checksum text NOT NULL,
        status text NOT NULL,
        error text,
        since double precision NOT NULL CHECK (since <> 'NaN'),
        last_seen double precision NOT NULL CHECK (last_seen <> 'NaN'),
        mac bytea NOT NULL,
        commit bigint NOT NULL,
        PRIMARY KEY (service, instance)
    );
    CREATE INDEX applied_commit ON {SCHEMA}.applied (commit);
    CREATE TABLE {SCHEMA}.forgotten (
        service text COLLATE "C" NOT NULL,
        instance text COLLATE "C" NOT NULL,
        commit bigint NOT NULL,
        PRIMARY KEY (service, instance)
    );
    CREATE INDEX forgotten_commit ON {SCHEMA}.forgotten (commit);
    CREATE TABLE {SCHEMA}.answers (
        requester text COLLATE "C" NOT NULL,
        request_id text COLLATE "C" NOT NULL,
        content bytea NOT NULL,
        kept double precision NOT NULL DEFAULT extract(epoch FROM clock_timestamp()),
        commit bigint NOT NULL,
        PRIMARY KEY (requester, request_id)
    );
    CREATE INDEX answers_kept ON {SCHEMA}.answers (kept);
    CREATE TABLE {SCHEMA}.lease (
        one boolean PRIMARY KEY CHECK (one),
        replica text COLLATE "C" NOT NULL,
        until double precision NOT NULL
    ) WITH ({_RENEWED});
    CREATE TABLE {SCHEMA}.replicas (
        replica text COLLATE "C" PRIMARY KEY,
        name text NOT NULL,
        version text NOT NULL,
        url text NOT NULL,
        started double precision NOT NULL,
        format integer NOT NULL,
        files text NOT NULL,
        edited boolean NOT NULL,
        differing text NOT NULL,
        commit bigint NOT NULL,
        lag double precision NOT NULL,
        problem text NOT NULL,
        connected boolean NOT NULL,
        behind bigint NOT NULL,
        seen double precision NOT NULL
    ) WITH ({_RENEWED});
"""

CREATE_KEYS = f"""
    CREATE TABLE {SCHEMA}.keys (
        one boolean PRIMARY KEY CHECK (one),
        content bytea NOT NULL,
        home text COLLATE "C" NOT NULL,
        key_id text COLLATE "C" NOT NULL,
        generation bigint NOT NULL,
        commit bigint NOT NULL
    );
"""
"""A table that may be there before the others: only keys can make the first row of those."""

INSERT_HOME = f"""
    INSERT INTO {SCHEMA}.home (one, commit, sequence, mac, standing, sealed, format, needs, expanded, residue)
    VALUES (true, 0, $1, $2, $3, $4, $5, $6, $5, 0)
"""
"""Its arguments are the end of the chain, the format, and the version of aliciacfg that the format needs."""

UPDATE_HOME = f"UPDATE {SCHEMA}.home SET commit = 1, sequence = $1, mac = $2, standing = $3, sealed = $4"
"""Ends the first commit of a database that is filled at once."""

_TYPES = {
    "bigint": frozenset({"revision", "sequence", "home_sequence", "before", "after", "count"}),
    "double precision": frozenset({"timestamp", "since", "last_seen", "created", "expires", "revoked"}),
    "bytea": frozenset(
        {"changed", "restart_required", "config", "mac", "code", "patch", "origins", "payload", "document", "content"}
    ),
    "boolean": frozenset({"breaking", "deleted", "pending"}),
}
_KEYS = {"overlays": 2, "applied": 2, "forgotten": 2, "answers": 2}


COLUMNS = TABLES | {"answers": ("requester", "request_id", "content")}
"""The columns of each table that a commit adds to, in the order in which its rows have values."""

CONFIRMED = "confirmed"
"""Stands for announcements that the broker has, in ``write``: subject, sequence and the code that the row then has."""
FORGOTTEN = "forgotten"
"""A table of reports that were deleted, so that the other daemons learn of it; ``write`` deletes those that it adds."""
_PSEUDO = {CONFIRMED: ("subject", "sequence", "mac"), FORGOTTEN: ("service", "instance")}


def is_flag(column: str) -> bool:
    """Return whether a column holds a boolean, for which the rows of ``storage.rows`` may have a number."""
    return column in _TYPES["boolean"]


def is_binary(column: str) -> bool:
    """Return whether a column holds bytes, for which a file of an earlier version may have a text."""
    return column in _TYPES["bytea"]


def _type(column: str) -> str:
    return next((name for name, columns in _TYPES.items() if column.strip('"') in columns), "text")


@cache
def insert(table: str) -> str:
    """Return the statement that adds a row to a table in the first commit."""
    columns = COLUMNS[table]
    places = ", ".join(f"${number + 1}" for number in range(len(columns)))
    return f"INSERT INTO {SCHEMA}.{table} ({', '.join(columns)}, commit) VALUES ({places}, 1)"


# Of requests for which a requester used the same id before: the id is what precedes a digest of 32 digits.
_OTHER_ANSWERS = (
    f"DELETE FROM {SCHEMA}.answers AS a USING {{}} AS r (requester, request_id, content)"
    " WHERE a.requester = r.requester AND a.request_id <> r.request_id"
    " AND a.request_id >= left(r.request_id, -32) AND a.request_id < left(r.request_id, -32) || 'g'"
    " AND length(a.request_id) = length(r.request_id) AND length(r.request_id) > 32"
)


# A daemon that has not followed for so many commits may go on to know a report for a day.
_TOLD_COMMITS = 10_000


def _besides(table: str, rows: str) -> dict[str, str]:
    """Return the statements that belong to adding rows to a table, by name.

    Args:
        table: The table.
        rows: A set of the rows.
    """
    if table == "answers":
        return {"other_answers_": _OTHER_ANSWERS.format(rows)}
    if table != FORGOTTEN:
        return {}
    return {
        "deleted_": f"DELETE FROM {SCHEMA}.applied AS a USING {rows} AS r (service, instance)"
        " WHERE a.service = r.service AND a.instance = r.instance",
        "old_": f"DELETE FROM {SCHEMA}.forgotten WHERE commit < $1 - {_TOLD_COMMITS}"
        f" AND (service, instance) NOT IN (SELECT * FROM {rows})",
    }


@cache
def write(tables: tuple[str, ...]) -> str:
    """Return the one statement that adds rows to tables, or replaces them, and ends the commit.

    Its arguments are the number of the commit, the end of the chain, and of each table in turn its columns, each as an
    array. It notifies the other daemons of the number of the commit.
    """
    parts: list[str] = []
    place = 6
    for table in tables:
        columns = _PSEUDO.get(table) or COLUMNS[table]
        arrays = ", ".join(f"${place + number}::{_type(column)}[]" for number, column in enumerate(columns))
        place += len(columns)
        parts.append(f"{table}_ AS ({_modify(table, columns, f'unnest({arrays})')})")
        parts += [f"{name} AS ({statement})" for name, statement in _besides(table, f"unnest({arrays})").items()]
    beginning = f"WITH {', '.join(parts)} " if parts else ""
    return (
        f"{beginning}UPDATE {SCHEMA}.home SET commit = $1, sequence = $2, mac = $3, standing = $4, sealed = $5"
        f" RETURNING pg_notify('{CHANNEL}', commit::text)"
    )


@cache
def add(table: str) -> str:
    """Return the statement that adds rows to a table, or replaces them, ahead of the one that ends the commit.

    Its arguments are the number of the commit and the columns of the table, each as an array.
    """
    columns = _PSEUDO.get(table) or COLUMNS[table]
    arrays = ", ".join(f"${2 + number}::{_type(column)}[]" for number, column in enumerate(columns))
    rows = f"unnest({arrays})"
    # One of them does not need the number, and would not know its type.
    besides = {"number_": "SELECT $1::bigint", **_besides(table, rows)}
    beginning = ", ".join(f"{name} AS ({statement})" for name, statement in besides.items())
    return f"WITH {beginning} {_modify(table, columns, rows)}"


def _modify(table: str, columns: tuple[str, ...], rows: str) -> str:
    if table == CONFIRMED:
        return (
            f"UPDATE {SCHEMA}.outbox AS o SET pending = false, mac = r.mac, commit = $1"
            f" FROM {rows} AS r (subject, sequence, mac) WHERE o.subject = r.subject AND o.sequence = r.sequence"
        )
    insert = f"INSERT INTO {SCHEMA}.{table} ({', '.join(columns)}, commit) SELECT r.*, $1 FROM {rows} AS r"
    if table in {"revisions", "audit", "answers"}:
        return insert
    keys = columns[: _KEYS.get(table, 1)]
    changes = ", ".join(f"{name} = excluded.{name}" for name in (*columns, "commit") if name not in keys)
    return f"{insert} ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {changes}"


@cache
def read_held(tables: tuple[str, ...]) -> str:
    """Return the statement that reads, under the lock, what a commit needs: rows of a name and a row each.

    ``home``: the row of the home. ``behind``: sequence and MAC of forged rows behind the end of the chain.
    For each table its rows that are replaced: key and code, of ``meta`` also the value. Its arguments are of each table
    the keys in arrays.
    """
    parts = [
        f"SELECT 'home', ROW(commit, sequence, mac, standing, sealed, format, needs) FROM {SCHEMA}.home",
        *(
            f"SELECT 'behind', ROW(sequence, mac) FROM {SCHEMA}.{table}"
            f" WHERE sequence > (SELECT sequence FROM {SCHEMA}.home)"
            for table in ("revisions", "audit")
        ),
    ]
    place = 1
    for table in tables:
        keys = COLUMNS[table][: _KEYS.get(table, 1)]
        names = ", ".join(f"t.{name}" for name in keys)
        what = {"meta": f"{names}, t.mac, t.value", "answers": names}.get(table, f"{names}, t.mac")
        arrays = ", ".join(f"${place + number}::text[]" for number in range(len(keys)))
        place += len(keys)
        matches = " AND ".join(f"t.{name} = k.{name}" for name in keys)
        parts.append(
            f"SELECT '{table}', ROW({what}) FROM {SCHEMA}.{table} AS t"
            f" JOIN unnest({arrays}) AS k ({', '.join(keys)}) ON {matches}"
        )
    return " UNION ALL ".join(parts)


def read_keys(table: str) -> int:
    """Return of how many columns the key of a table consists."""
    return _KEYS.get(table, 1)


SELECT_RECORDS = f"SELECT {RECORD_COLUMNS}, sequence, code FROM {SCHEMA}.revisions"
SELECT_NEWEST_FIRST = f"{SELECT_RECORDS} WHERE environment = $1 AND service = $2 ORDER BY revision DESC"
SELECT_OVERLAYS = f"SELECT {OVERLAY_COLUMNS} FROM {SCHEMA}.overlays WHERE mac IS NOT NULL OR patch IS NOT NULL"
SELECT_AUDIT = f"SELECT {AUDIT_COLUMNS}, sequence, code FROM {SCHEMA}.audit"
SELECT_END = f"SELECT sequence, mac, standing, sealed FROM {SCHEMA}.home"
NOTE_RESIDUE = f"UPDATE {SCHEMA}.home SET residue = $1"
"""Notes that a commit left what should not be there any more in the files of tables, until they are written anew."""
SELECT_COMMIT = f"SELECT commit FROM {SCHEMA}.home"
SELECT_HOME = f"SELECT commit, sequence, mac, standing, sealed, format, needs FROM {SCHEMA}.home"
SELECT_FORMAT = f"SELECT format, needs FROM {SCHEMA}.home"


def select_coded(table: str) -> str:
    """Return the query of the rows of a table of ``STANDING_COLUMNS`` or ``RENEWED_COLUMNS``, each with its code."""
    return f"SELECT {', '.join((STANDING_COLUMNS | RENEWED_COLUMNS)[table])}, mac FROM {SCHEMA}.{table}"


_NEWEST = f"""
    SELECT r.* FROM (SELECT DISTINCT environment, service FROM {SCHEMA}.revisions {{}}) AS c CROSS JOIN LATERAL (
        SELECT * FROM {SCHEMA}.revisions AS n WHERE n.environment = c.environment AND n.service = c.service
        ORDER BY n.revision DESC LIMIT 1
    ) AS r
"""
SELECT_NEWEST = f"SELECT {RECORD_COLUMNS}, sequence, code FROM ({_NEWEST.format('')}) AS n"
# Whether there is a configuration that was not there before; a revision that was sealed anew counts as one, which costs
# a plan at most.
_CREATED = f"""
    NOT n.deleted AND NOT coalesce((
        SELECT NOT p.deleted FROM {SCHEMA}.revisions AS p WHERE p.environment = n.environment AND p.service = n.service
        AND p.commit <= $1 ORDER BY p.revision DESC LIMIT 1
    ), false)
"""
_CHANGED_ROWS = " UNION ALL ".join(
    f"SELECT '{table}', ROW({', '.join(columns)}, mac) FROM {SCHEMA}.{table} WHERE commit > $1"
    for table, columns in (STANDING_COLUMNS | RENEWED_COLUMNS).items()
    if table != "meta"
)
SELECT_CHANGED = f"""
    SELECT 'home', ROW(commit, sequence, mac, standing, sealed, format, needs) FROM {SCHEMA}.home
    UNION ALL SELECT 'seen', ROW(mac) FROM {SCHEMA}.revisions WHERE sequence = $2
    UNION ALL SELECT 'seen', ROW(mac) FROM {SCHEMA}.audit WHERE sequence = $2
    UNION ALL SELECT 'revisions', ROW({RECORD_COLUMNS}, sequence, code, {_CREATED})
        FROM ({_NEWEST.format("WHERE commit > $1")}) AS n
    UNION ALL SELECT 'overlays', ROW({OVERLAY_COLUMNS}) FROM {SCHEMA}.overlays WHERE commit > $1
    UNION ALL SELECT 'meta', ROW(name, value, mac) FROM {SCHEMA}.meta
        WHERE commit > $1 OR name IN ('epoch', 'sequence')
    UNION ALL SELECT 'forgotten', ROW(service, instance) FROM {SCHEMA}.forgotten WHERE commit > $1
    UNION ALL SELECT 'keys', ROW(key_id) FROM {SCHEMA}.keys WHERE commit > $1
    UNION ALL {_CHANGED_ROWS}
"""
"""Rows of a name and a row each: what commits after one changed. Of revisions the newest of each configuration.

``seen`` are the MACs of the rows at a place of the chain, the second argument.
"""
