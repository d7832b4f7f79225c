"""Makes the file of a backup from a copy of the database."""

import contextlib
import re
import time
from dataclasses import dataclass
from pathlib import Path

from aliciacfg import __version__
from aliciacfg.backups.archive import DATABASE, FORMAT, KEYS, Archive, ArchiveError, Manifest, write_archive
from aliciacfg.backups.files import HomeFiles, collect
from aliciacfg.core.restore import ACTIVE
from aliciacfg.file_errors import unwritable
from aliciacfg.sealing import passphrase as locking
from aliciacfg.settings import Settings
from aliciacfg.storage.backend import database_in
from aliciacfg.storage.hash_chain import Chain
from aliciacfg.storage.home_keys import load_keys

_MAX_NAMED = 3
_NAME = re.compile(r"aliciacfg-[0-9]{8}T[0-9]{6}Z\.zip", re.ASCII)


@dataclass(frozen=True, slots=True)
class BackupOptions:
    """What a backup is to hold besides the database.

    Attributes:
        passphrase: Encrypts the keys; None leaves them out.
        files: Whether it holds the environment and schema files.
        replace: Whether it may replace a file.
    """

    passphrase: str | None
    files: bool
    replace: bool


def home_of(chain: Chain) -> str:
    """Return the name of the home whose codes a chain makes."""
    return chain.key_name.hex()


def write_backup(target: Path, snapshot: Path, settings: Settings, options: BackupOptions, *, now: float) -> Manifest:
    """Write a backup of a home, and return its manifest.

    Args:
        target: The file.
        snapshot: A directory with a copy of the database; see ``Store.backup``.
        settings: The daemon's: they name the data directory with the keys, and the files.
        options: What it is to hold.
        now: The present time in Unix seconds.

    Raises:
        ArchiveError: The database is damaged, or the file cannot be written; there is no file then.
        KeyFileError: There are no keys, without which nothing can be verified.
        StoreError: The copy is not a database.
        Unavailable: The copy cannot be read.
    """
    keys = load_keys(settings)
    keyring = keys.make_keyring()
    chain = Chain(keyring)
    database = database_in(snapshot)
    unconfirmed = _verified(snapshot, chain)
    described = database.describe()
    files = collect(settings, keyring) if options.files else HomeFiles()
    members: dict[str, Path | bytes] = {DATABASE: Path(database.name)}
    if options.passphrase is not None:
        members[KEYS] = locking.lock(keys.content, options.passphrase)
    manifest = Manifest(
        format=FORMAT,
        aliciacfg=__version__,
        created=now,
        home=home_of(chain),
        environment=described.meta.get(ACTIVE, ""),
        epoch=described.position.epoch,
        sequence=described.position.sequence,
        rows=described.rows,
        head=described.head,
        database_format=described.format,
        configurations=described.configurations,
        revisions=described.revisions,
        unconfirmed=unconfirmed,
        left_out=files.left_out,
        in_plain_text=files.in_plain_text,
    )
    return write_archive(
        target,
        manifest,
        members | files.contents,
        keyring,
        data=Path(settings.data_dir),
        sources=files.codes,
        replace=options.replace,
    )


def name_of(now: float) -> str:
    """Return the name of a backup in a directory; later ones sort behind it."""
    return time.strftime("aliciacfg-%Y%m%dT%H%M%SZ.zip", time.gmtime(now))


def remove_older(newest: Path, home: str, *, keep: int) -> list[Path]:
    """Remove the oldest backups beside one, and return them.

    Only backups of the same home without keys, with names of ``name_of``, count: one with keys was made on purpose.

    Args:
        newest: The backup that was made just now.
        home: The name of its home.
        keep: How many are kept, this one included.

    Raises:
        ArchiveError: One cannot be removed.
    """
    found: list[Path] = []
    for path in sorted(newest.parent.glob("aliciacfg-*.zip"), reverse=True):
        with contextlib.suppress(ArchiveError), Archive(path) as archive:
            if _NAME.fullmatch(path.name) and archive.manifest.home == home and KEYS not in archive.manifest.members:
                found.append(path)
    # By its name it may be older than the others: not every machine has a clock of its own.
    found.sort(key=lambda path: path != newest)
    try:
        for path in found[keep:]:
            path.unlink()
    except OSError as error:
        raise ArchiveError(unwritable(Path(error.filename), error, done="removed")) from error
    return found[keep:]


def _verified(snapshot: Path, chain: Chain) -> int:
    """Verify a copy, and return how many rows are not what was written.

    Raises:
        ArchiveError: The database itself is damaged.
    """
    findings = database_in(snapshot).verify(chain)
    if findings.damage:
        named = "; ".join(findings.damage[:_MAX_NAMED])
        raise ArchiveError(
            f"the database is damaged, so nothing was backed up: {named}. Keep the earlier backups; restore one of "
            "them, or copy the whole data directory to look into it"
        )
    return len(findings.broken)
