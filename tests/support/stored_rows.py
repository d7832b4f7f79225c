"""Rows as the daemon writes them, and SQLite files as somebody edits them behind its back."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aliciacfg import documents
from aliciacfg.documents import JsonObject
from aliciacfg.model.records import AuditEntry, Overlay, Recipient, Record, ServingSchema, Token, Write
from aliciacfg.sealing.boxes import Keyring, PrivateKey
from aliciacfg.sealing.sealed_documents import checksum
from aliciacfg.storage.hash_chain import Chain
from aliciacfg.storage.sqlite.maintenance import connect, verify_file
from aliciacfg.storage.sqlite.schema import MIGRATIONS, migrate
from aliciacfg.storage.sqlite.transaction import apply

KEY = PrivateKey.generate()
KEYRING = Keyring(current=KEY.public.key_id, keys=[KEY], digest_key=b"d" * 32)
CHAIN = Chain(KEYRING)
OTHER = PrivateKey.generate()


def revision(
    service: str,
    number: int,
    document: JsonObject,
    *,
    secret: str | None = None,
    keyring: Keyring = KEYRING,
    **fields: Any,
) -> Record:
    """A revision as the daemon writes it; ``secret`` stands sealed at ``/secret``."""
    secrets = {} if secret is None else {"/secret": secret}
    plain: JsonObject = {**document, **({} if secret is None else {"secret": secret})}
    boxes = {p: keyring.seal(v, service=service, environment="dev", pointer=p) for p, v in secrets.items()}
    sealed = documents.replace_strings({**plain, "version": "1.0.0"}, boxes)
    made: dict[str, Any] = {
        "environment": "dev", "service": service, "revision": number, "version": "1.0.0", "timestamp": 1.5 + number,
        "author": "mario", "cause": "api", "checksum": checksum(keyring, service, dict(plain), secrets),
        "digest": Chain(keyring).digest({**plain, "version": "1.0.0"}, service=service, environment="dev"),
        "changed": ["/a", "/b"], "restart_required": ["/a"], "config": documents.canonical(sealed),
        "home_sequence": number, **fields,
    }  # fmt: skip
    return Record(**made)


def tombstone(service: str, number: int) -> Record:
    """A revision with which a configuration is deleted."""
    return revision(service, number, {}, deleted=True, config=b"{}", checksum="",
                    digest=CHAIN.digest({}, service=service, environment="dev"))  # fmt: skip


def entry(service: str, after: int | None = None) -> AuditEntry:
    """An entry about a change that was made."""
    return AuditEntry(
        timestamp=2.5, who="mario", where="mqtt", operation="set", outcome="done", environment="dev", service=service,
        before=None, after=after, detail="x", count=1,
    )  # fmt: skip


def three_revisions() -> list[Write]:
    """Three revisions of one service with a secret, its overlay, the audit of all, and one row of every other table.

    Times are whole seconds as well as fractions.
    """
    writes = [
        Write(
            records=(revision("one", number, {"size": number}, secret="open-sesame"),),
            audit=(entry("one", number),),
            overlays=(Overlay("dev", "one", documents.canonical({"size": number}), {"/size": number}),),
        )
        for number in range(1, 4)
    ]
    token = Token(token_id="0" * 12, digest="d", name="panel", role="reader", created=1, expires=2.5)
    others = Write(
        tokens=(token,),
        recipients=(Recipient("one", "a" * 43),),
        schemas=(ServingSchema("one", b"{}"), ServingSchema("two", None)),
        meta=(("active_environment", "dev"),),
    )
    return [*writes, others]


@contextlib.contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that knows nothing of the daemon."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def written(path: Path, writes: list[Write], chain: Chain = CHAIN) -> Path:
    """A database as the daemon leaves it."""
    with contextlib.closing(connect(path)) as connection:
        migrate(connection, chain)
        for write in writes:
            apply(connection, chain, [write])
    return path


def tamper(path: Path, *statements: str) -> None:
    """Edit a database file."""
    with opened(path) as connection:
        for statement in statements:
            connection.execute(statement)


def subjects(path: Path, chain: Chain = CHAIN) -> list[str]:
    """The rows of a database file that its chain does not confirm."""
    return [broken.subject for broken in verify_file(path, chain).broken]


def before_the_codes(path: Path) -> None:
    """The same rows in a database of the version before every row had a code."""
    tamper(
        path,
        "ALTER TABLE revisions DROP COLUMN code",
        "ALTER TABLE revisions DROP COLUMN home_sequence",
        "ALTER TABLE audit DROP COLUMN code",
        "ALTER TABLE outbox DROP COLUMN mac",
        "ALTER TABLE applied DROP COLUMN mac",
        "DROP TABLE told",
        "PRAGMA user_version = 4",
    )


def before_this_version(path: Path) -> None:
    """The same rows in a database of the version before."""
    tamper(
        path,
        "CREATE TABLE before (subject TEXT PRIMARY KEY, sequence INTEGER NOT NULL, payload BLOB NOT NULL,"
        " pending INTEGER NOT NULL, mac BLOB NOT NULL DEFAULT x'') WITHOUT ROWID",
        "INSERT INTO before SELECT * FROM outbox",
        "DROP TABLE outbox",
        "ALTER TABLE before RENAME TO outbox",
        "PRAGMA user_version = 6",
    )


def schema_version(path: Path) -> int:
    """The number of migrations that were applied to a database file."""
    with opened(path) as connection:
        (found,) = connection.execute("PRAGMA user_version").fetchone()
        return found


# The first schema of the database, from before there was a chain.
BEFORE_THE_CHAIN = MIGRATIONS[0] + "PRAGMA user_version = 1;"
OLD_COLUMNS = [
    "environment", "service", "revision", "version", "timestamp", "author", "cause", "checksum", "config", "changed",
    "restart_required", "breaking", "comment", "deleted",
]  # fmt: skip


def back_to_before_the_chain(path: Path) -> None:
    """The same rows in a database of the first schema."""
    with opened(path) as connection:
        tables = {
            "meta": connection.execute("SELECT name, value FROM meta").fetchall(),
            "outbox": connection.execute("SELECT subject, sequence, payload, pending FROM outbox").fetchall(),
        }
        revisions = connection.execute(f"SELECT {', '.join(OLD_COLUMNS)} FROM revisions ORDER BY sequence").fetchall()
        overlays = connection.execute("SELECT environment, service, patch FROM overlays").fetchall()
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()
    with opened(path) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.executescript(BEFORE_THE_CHAIN)
        for name, rows_of_it in (*tables.items(), ("revisions", revisions), ("overlays", overlays)):
            connection.executemany(f"INSERT INTO {name} VALUES ({', '.join('?' * len(rows_of_it[0]))})", rows_of_it)
