"""Copies a home from one database into another one, such as a file into a server, with its whole history.

Rows are copied as they are, because their codes depend on content and key only, not on the backend. The copy is
compared with the keyed hash chain before it is complete, and is not there if anything differs.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from aliciacfg.atomic_files import sync
from aliciacfg.backups.archive import ArchiveError
from aliciacfg.backups.backup import home_of
from aliciacfg.backups.server_home import refuse_users
from aliciacfg.core.adoption import explain_foreign
from aliciacfg.errors import KeyFileError, Unavailable
from aliciacfg.file_errors import unwritable
from aliciacfg.sealing.key_file import KeyFile
from aliciacfg.sealing.key_store import FileKeyStore
from aliciacfg.settings import Settings
from aliciacfg.storage.backend import Place, database_in
from aliciacfg.storage.data_directory import KEY_FILE, DataDirectory
from aliciacfg.storage.hash_chain import Chain
from aliciacfg.storage.home_keys import put_keys, shared_keys_of
from aliciacfg.storage.rows import Row
from aliciacfg.storage.store import Database, Filling
from aliciacfg.storage.verifier import Broken, Findings
from aliciacfg.storage.witness import FILE_NAME as WITNESS

_MAX_NAMED = 3


@dataclass(slots=True)
class Migrated:
    """What was copied, or would be.

    Attributes:
        source: The database that was copied; without a password.
        target: The database that has a copy now; without a password.
        home: The name of the home: the short name of the key that all its codes are made with, in hexadecimal.
        key_file: The file of that key.
        epoch: The epoch of the home.
        sequence: The place of the last change that readers were notified of.
        configurations: How many configurations there are.
        revisions: How many revisions.
        confirmed: How many rows are as they were written; in the copy as in the source.
        unreadable: How many of these hold secrets whose key is not here.
        broken: The rows that are not what was written, which were copied as they are.
        dropped: Those of them that are not in the copy: programs, such as triggers.
        needs_keys: Whether the data directory of the copy has no key file yet.
        key_encryption_key: The file that wraps the keys in the copy; empty for a copy in a file.
    """

    source: str
    target: str
    home: str
    key_file: str
    epoch: int
    sequence: int
    configurations: int
    revisions: int
    confirmed: int = 0
    unreadable: int = 0
    broken: list[Broken] = field(default_factory=list[Broken])
    dropped: list[str] = field(default_factory=list[str])
    needs_keys: bool = False
    key_encryption_key: str = ""


@dataclass(frozen=True, slots=True)
class MigrationOptions:
    """How a home is copied.

    Attributes:
        settings: Name the key-encryption key of this machine.
        key_files: Where its keys may be, the likeliest first.
        from_server: Whether the first of these is a copy of the keys in the source, for as long as it is copied.
        force: Whether rows that are not what was written are copied as they are.
        dry_run: Whether nothing is copied.
    """

    settings: Settings
    key_files: Sequence[Path]
    from_server: bool
    force: bool
    dry_run: bool


def migrate(source: Place, target: Place, options: MigrationOptions, *, report: Callable[[str], None]) -> Migrated:
    """Copy a home into a database that holds none.

    Args:
        source: Where it is; nothing of it is changed.
        target: Where the copy will be, complete or not at all.
        options: How.
        report: Called with each step, when it begins.

    Raises:
        DataDirectoryInUse: A daemon uses one of the two.
        ArchiveError: The source cannot be copied, or the target holds a home; nothing was changed.
        AliciacfgError: Keys or databases cannot be used for another reason, which the message names; the same.
    """
    with ExitStack() as stack:
        old, new = source.database, target.database
        report(f"looking at {old.name}")
        if _are_same(source, target):
            raise ArchiveError(f"{old.name} is both, the database to copy and the one to fill; name another one")
        if source.url is None and not old.exists():
            raise ArchiveError(f"there is no database in {source.directory}")
        _lock(source, old, stack)
        if not old.exists():
            raise ArchiveError(f"{old.name} holds no home")
        key_file, chain = _keys(old, options.key_files)
        result = _described(old, new, key_file, chain)
        report(f"verifying {old.name}")
        before = _verified(old, chain, force=options.force)
        result.confirmed, result.unreadable, result.broken = before.confirmed, before.unreadable, before.broken
        report(f"looking at {new.name}")
        _check_target(target, new, chain, result, old.describe().head)
        if target.url is not None and (shared := shared_keys_of(_at(options.settings, target))) is not None:
            shared.check_key()
            result.key_encryption_key = str(shared.file)
        if options.dry_run:
            return result
        data = _lock(target, new, stack)
        with _filling(new, data) as filling:
            rows = before.confirmed + len(before.broken)
            old.copy_rows(_counting(filling, rows, report))
            report("verifying the copy")
            result.dropped = _compare(before, filling.verify(chain))
            if source.url is not None:
                # What a daemon that was started meanwhile writes would be in the source only.
                refuse_users(old)
            report("copying the keys")
            _keep_keys(filling, target, options, result)
    return result


def _are_same(source: Place, target: Place) -> bool:
    same_directory = source.directory.resolve() == target.directory.resolve()
    return source.url == target.url and (source.url is not None or same_directory)


def _lock(place: Place, database: Database, stack: ExitStack) -> DataDirectory | None:
    """Keep daemons from a database as long as the stack is open; return its locked data directory if it is a file.

    Raises:
        DataDirectoryInUse: One uses it.
    """
    if place.url is None:
        data = DataDirectory(place.directory)
        stack.callback(data.release)
        return data
    refuse_users(database)
    return None


def _keys(database: Database, files: Sequence[Path]) -> tuple[Path, Chain]:
    """Return the key file that wrote a database, and the chain of its keys.

    Raises:
        ArchiveError: It is not there.
        KeyFileError: It cannot be used.
    """
    there = [path for path in dict.fromkeys(files) if path.exists()]
    if not there:
        looked = " and ".join(map(str, dict.fromkeys(files)))
        raise ArchiveError(
            f"there is no key file, with which the rows of {database.name} are verified; looked for {looked}. Name the "
            "data directory that has it with --data-dir"
        )
    chains = [(path, Chain(KeyFile.load(path).make_keyring())) for path in there]
    for path, chain in chains:
        if explain_foreign(database, path, chain) is None:
            return path, chain
    foreign = explain_foreign(database, *chains[0])
    raise ArchiveError("" if foreign is None else f"{foreign.problem}. {foreign.remedy}")


def _described(old: Database, new: Database, key_file: Path, chain: Chain) -> Migrated:
    found = old.describe()
    return Migrated(
        source=old.name,
        target=new.name,
        home=home_of(chain),
        key_file=str(key_file),
        epoch=found.position.epoch,
        sequence=found.position.sequence,
        configurations=found.configurations,
        revisions=found.revisions,
    )


def _verified(database: Database, chain: Chain, *, force: bool) -> Findings:
    """Compare every row with the chain.

    Raises:
        ArchiveError: The database is damaged; or rows are not what was written, and that is not accepted.
        Unavailable: It cannot be read.
    """
    found = database.verify(chain)
    if found.damage:
        named = "; ".join(found.damage[:_MAX_NAMED])
        raise ArchiveError(f"{database.name} is damaged, so it is not copied: {named}. Restore a backup")
    if found.broken and not force:
        named = "; ".join(broken.message for broken in found.broken[:_MAX_NAMED])
        raise ArchiveError(
            f"{len(found.broken)} rows of {database.name} are not what was written, so it is not copied: {named}. "
            "`aliciacfg check` lists them. Restore a backup, or use --force to copy them as they are"
        )
    return found


def _check_target(place: Place, database: Database, chain: Chain, result: Migrated, head: str) -> None:
    """Check that a database can take a home.

    Args:
        place: Where it is.
        database: The same.
        chain: The chain of the home's keys.
        result: Gets whether keys are needed there.
        head: The end of the chain in the source; empty if nothing was ever recorded.

    Raises:
        ArchiveError: It holds one, or its data directory has the keys of another one.
        DataDirectoryInUse: Daemons use it.
        StoreError: It cannot be read.
    """
    if place.url is not None:
        refuse_users(database)
    left = [name for name in database.files if name != WITNESS and (place.directory / name).exists()]
    if database.exists():
        found = database.describe()
        if place.url is None or found.rows or found.meta or found.configurations:
            remedy = (
                f"move {', '.join(left)} out of {place.directory} before"
                if place.url is None
                else "name an empty database; or drop the schema aliciacfg there, if that home is not needed any more"
            )
            if found.head and found.head == head:
                # After an answer to COMMIT that did not come, for example.
                raise ArchiveError(
                    f"{database.name} holds this home already, with all that {result.source} holds: start its daemons, "
                    f"or, if this is to be another copy, {remedy}"
                )
            raise ArchiveError(
                f"{database.name} holds a home already, with {found.configurations} configurations: {remedy}"
            )
    if place.url is not None:
        return
    if left:
        raise ArchiveError(f"{place.directory} has {', '.join(left)} of an earlier database; move it away before")
    keys = place.directory / KEY_FILE
    result.needs_keys = not keys.exists()
    if not result.needs_keys and (there := home_of(Chain(KeyFile.load(keys).make_keyring()))) != result.home:
        raise ArchiveError(
            f"{keys} holds the keys of home {there}, and the rows are those of home {home_of(chain)}; name another "
            "directory, or move what is there away before"
        )


@contextmanager
def _filling(database: Database, data: DataDirectory | None) -> Generator[Filling]:
    """Yield what fills a database; a file gets its name when it is complete and on the disk."""
    if data is None:
        with database.filling() as filling:
            yield filling
        return
    directory = data.make_snapshot_directory()
    try:
        made = database_in(directory)
        with made.filling() as filling:
            yield filling
        sync(Path(made.name))
        Path(made.name).rename(database.name)
        sync(data.path)
    except OSError as error:
        raise Unavailable(f"{unwritable(Path(database.name), error)}.") from error
    finally:
        for left in directory.iterdir():
            left.unlink()
        directory.rmdir()


def _keep_keys(filling: Filling, target: Place, options: MigrationOptions, result: Migrated) -> None:
    """Put the keys where the target has them, before its rows are there: without keys they are worth nothing.

    A file keeps its keys where it is; only those of a server are brought to a file.

    Raises:
        KeyFileError: They cannot be stored, or are those of another home than the ones that are there.
        Unavailable: They cannot be stored at present.
    """
    path = Path(result.key_file)
    from_server = options.from_server and path == options.key_files[0]
    if from_server:
        result.key_file = f"the database {result.source}"
    content = FileKeyStore(path).load()
    if content is None:
        raise KeyFileError(f"{path} is gone")
    if target.url is not None:
        put_keys(_at(options.settings, target), content, source=result.key_file, table=filling.keys)
    elif from_server:
        store = FileKeyStore(target.directory / KEY_FILE)
        there = KeyFile.find(store)
        # A file that is there may be from before a rotation, or hold keys that were added to it.
        merged = None if there is None else KeyFile(store, content).with_keys_of(there)
        store.update(lambda _: merged or content)
        result.needs_keys = False


def _at(settings: Settings, place: Place) -> Settings:
    return msgspec.structs.replace(settings, database_url=place.url)


def _counting(filling: Filling, total: int, report: Callable[[str], None]) -> Callable[[str, Sequence[Row]], None]:
    """Return a function that adds rows, and reports how many there are."""
    done = 0

    def add(table: str, rows: Sequence[Row]) -> None:
        nonlocal done
        filling.add(table, rows)
        done += len(rows)
        report(f"copying: {min(done, total)} of {total} rows")

    return add


def _compare(before: Findings, after: Findings) -> list[str]:
    """Compare the findings about a copy with those about its source; return what is not in the copy: programs.

    Raises:
        ArchiveError: They differ.
    """
    known = {broken.subject: broken for broken in before.broken}
    found = {broken.subject: broken for broken in after.broken}
    same = found.items() <= known.items()
    if not same or after.damage or (before.confirmed, before.unreadable) != (after.confirmed, after.unreadable):
        raise ArchiveError(
            f"the copy is not what was copied: {after.confirmed} rows are confirmed and {len(found)} are not, in the "
            f"source {before.confirmed} and {len(known)}. Nothing was kept of it. Does anything write to the source?"
        )
    return sorted(known.keys() - found.keys())
