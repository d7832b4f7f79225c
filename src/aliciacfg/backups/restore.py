"""Puts the state of a backup in the place of a data directory's.

Everything is checked and prepared before anything is replaced: the new state is complete, with an epoch above both
states, in a directory beside the old one. ``storage.replacement`` then exchanges them, and keeps the old files. The
rows of a database on a server are put there in one transaction, which ends after that exchange.
"""

import asyncio
import shutil
import tempfile
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from aliciacfg.backups import files, kept_keys
from aliciacfg.backups.archive import DATABASE, Archive, ArchiveError, check_space
from aliciacfg.backups.backup import home_of
from aliciacfg.backups.comparison import Change, Heads, compare, heads_of, undecryptable
from aliciacfg.backups.kept_keys import Keys
from aliciacfg.backups.opened import opened
from aliciacfg.backups.server_home import kept_tables, refuse_users, replacing
from aliciacfg.counted import counted, counted_are
from aliciacfg.errors import AliciacfgError, Unavailable
from aliciacfg.file_errors import unwritable
from aliciacfg.model.records import START, Position
from aliciacfg.sealing.boxes import Keyring
from aliciacfg.settings import Settings
from aliciacfg.storage import replacement
from aliciacfg.storage.backend import database_in
from aliciacfg.storage.data_directory import KEY_FILE, DataDirectory, free_name_before
from aliciacfg.storage.hash_chain import Chain
from aliciacfg.storage.home_keys import keys_in_file

_MAX_NAMED = 3
# Of the new data directory; the old one keeps its own.
_OF_DIRECTORY = ("lock", "instance", "home")


@dataclass(frozen=True, slots=True)
class RestoreOptions:
    """How a backup is restored.

    Attributes:
        passphrase: Opens the keys in it; None leaves them.
        force: Whether another home may be replaced, and rows of the backup that are not what was written are accepted.
        files: Whether environment and schema files that differ are replaced; those that are missing are written anyway.
        dry_run: Whether nothing is changed.
    """

    passphrase: str | None
    force: bool
    files: bool
    dry_run: bool


@dataclass(slots=True)
class Restored:
    """What a restore did, or would do.

    Attributes:
        epoch: The epoch from now on.
        environment: The active environment.
        kept_in: Where the old files are; empty if there were none.
        kept_tables: The schema in which a database on a server has the old tables; empty if there were none.
        changes: The configurations that differ from the state before.
        keys: Which keys the home has now; a sentence.
        undecryptable: The secrets that do not open, as ``service in environment: pointer``.
        written: The environment and schema files that were written.
        removed: Those that were removed.
        left: Those that differ from the backup and were left as they are.
        notes: What else people have to know.
    """

    epoch: int = 0
    environment: str = ""
    kept_in: str = ""
    kept_tables: str = ""
    changes: list[Change] = field(default_factory=list[Change])
    keys: str = ""
    undecryptable: list[str] = field(default_factory=list[str])
    written: list[str] = field(default_factory=list[str])
    removed: list[str] = field(default_factory=list[str])
    left: list[str] = field(default_factory=list[str])
    notes: list[str] = field(default_factory=list[str])


@dataclass(frozen=True, slots=True)
class _Before:
    """The state before.

    Attributes:
        home: The name of its home; empty if there are no keys.
        position: The highest position that any reader may hold of it.
        heads: Its configurations; empty if it cannot be read, or is of another home.
    """

    home: str
    position: Position
    heads: Heads


async def restore(archive: Archive, settings: Settings, options: RestoreOptions, *, now: float) -> Restored:
    """Restore a backup into the data directory of the settings.

    Raises:
        DataDirectoryInUse: A daemon runs.
        ArchiveError: The backup is damaged, or is not one of this home; nothing was changed.
        AliciacfgError: It cannot be used for another reason, which the message names; nothing was changed.
    """
    archive.check()
    path = Path(settings.data_dir)
    if settings.database_url is not None and not options.dry_run:
        await asyncio.to_thread(refuse_users, database_in(path, settings.database_url))
    with tempfile.TemporaryDirectory(prefix="aliciacfg-") as empty:
        data = await asyncio.to_thread(_data_directory, path, Path(empty), options)
        try:
            with keys_in_file(settings, data.path, dry_run=options.dry_run):
                return await _restore(archive, settings, options, data, now)
        except OSError as error:
            raise ArchiveError(unwritable(Path(error.filename or path), error, done="used")) from error
        finally:
            replacement.discard(data.path)
            data.release()


def _data_directory(path: Path, empty: Path, options: RestoreOptions) -> DataDirectory:
    """Return the data directory; an empty one instead if a dry run would have to make it."""
    return DataDirectory(empty if options.dry_run and not path.exists() else path)


async def _restore(
    archive: Archive, settings: Settings, options: RestoreOptions, data: DataDirectory, now: float
) -> Restored:
    check_space(data.path, archive.manifest)
    prepared = replacement.prepare(data.path)
    new = prepared / replacement.NEW
    keys = kept_keys.choose(archive, data.key_file, new / KEY_FILE, options.passphrase)
    before = await _examine(data, prepared, settings, replaceable=options.passphrase is not None)
    result = Restored(keys=keys.sentence)
    _check_home(archive, before, keys, options, result)
    archive.extract(DATABASE, Path(database_in(new).name))
    _check_rows(archive, new, keys.keyring, options, result)
    restored = await _bring_up(archive, new, settings, before, result)
    result.changes = compare(before.heads, restored)
    plan = _plan_files(archive, settings, options, prepared, keys.keyring, result)
    if keys.is_new:
        result.notes.append("tokens and recipients' keys are not taken over without the keys: make them again")
    if options.dry_run:
        return result
    database = database_in(data.path, settings.database_url)
    names = [*database.files, KEY_FILE]
    kept_in = free_name_before(data.path, "restore", now=now)
    plan = replacement.Plan(kept_in=kept_in, moved=names, written=plan.written, removed=plan.removed)
    had_files = any((data.path / name).exists() for name in names) or any((prepared / replacement.OLD).iterdir())
    kept_as = kept_tables(kept_in)
    if settings.database_url is not None and database.exists():
        result.kept_tables = kept_as
    with nullcontext() if settings.database_url is None else replacing(database, new, settings, kept_as=kept_as):
        replacement.decide(data.path, plan)
    if had_files:
        result.kept_in = str(data.path / kept_in)
    else:
        (data.path / kept_in).rmdir()
    return result


async def _examine(data: DataDirectory, prepared: Path, settings: Settings, *, replaceable: bool) -> _Before:
    """Look at the state before, in a copy: a database that cannot be used any more is often why one restores.

    Args:
        data: The data directory.
        prepared: Where the copy is made.
        settings: The daemon's.
        replaceable: As for ``kept_keys.load_present``.
    """
    keys = kept_keys.load_present(data.key_file, replaceable=replaceable)
    chain = None if keys is None else Chain(keys.make_keyring())
    home = "" if chain is None else home_of(chain)
    database = database_in(data.path, settings.database_url)
    position = (None if chain is None else database.witnessed(chain)) or START
    if not database.exists():
        return _Before(home, position, {})
    copy = prepared / "before"
    copy.mkdir(mode=0o700)
    heads = Heads()
    try:
        database.backup(copy)
        position = max(position, database_in(copy).describe().position)
        if keys is not None and keys.chained:
            shutil.copyfile(data.key_file, copy / KEY_FILE)
            (copy / KEY_FILE).chmod(0o600)
            async with opened(copy, settings) as core:
                heads = heads_of(core.state)
    except AliciacfgError:
        # What it knew cannot be read; the broker and the witness say the rest at the next start.
        heads = Heads()
    finally:
        shutil.rmtree(copy)
    return _Before(home, position, heads)


def _check_home(archive: Archive, before: _Before, keys: Keys, options: RestoreOptions, result: Restored) -> None:
    """Check that the backup is one of the home that is there, or of any if there is none, and was not changed.

    Raises:
        ArchiveError: It is not.
    """
    home = archive.manifest.home
    if before.home and before.home != home:
        what = f"{before.home}, with {counted(len(before.heads), 'configuration')}" if before.heads else before.home
        if not options.force:
            raise ArchiveError(
                f"the backup is of home {home}, and here is home {what}. If the backup is to take its place, use "
                "--force: what is here is kept aside. If the keys of the backup's home are in a file, put it here as "
                f"{KEY_FILE} first"
            )
        result.notes.append(f"home {before.home} is replaced by home {home}; `aliciacfg keys add --from` adds its keys")
    if keys.is_new:
        result.notes.append("without the keys nothing shows that the backup was not changed")
    elif not archive.manifest.is_confirmed(keys.keyring):
        raise ArchiveError(f"{archive.path} was changed after it was made: its code is another one. Use another backup")


def _check_rows(archive: Archive, new: Path, keyring: Keyring, options: RestoreOptions, result: Restored) -> None:
    """Verify the database of the backup, as far as its keys are here.

    Raises:
        ArchiveError: It is damaged, or rows in it are not what was written and that is not accepted.
        StoreError: It is of a newer version.
        Unavailable: It cannot be read.
    """
    database = database_in(new)
    described = database.describe()
    chain = Chain(keyring)
    if home_of(chain) != archive.manifest.home:
        return
    try:
        findings = database.verify(chain)
    except Unavailable:
        if described.format == archive.manifest.database_format:
            # Of an older version: it is verified when it was upgraded.
            return
        raise
    if findings.damage:
        raise ArchiveError(f"the database in {archive.path} is damaged: {findings.damage[0]}. Use another backup")
    if findings.broken:
        named = "; ".join(broken.message for broken in findings.broken[:_MAX_NAMED])
        if not options.force:
            raise ArchiveError(
                f"{counted(len(findings.broken), 'row')} in {archive.path} differ from what was written: {named}. Use "
                "another backup, or --force to restore what is confirmed"
            )
        result.notes.append(f"{counted_are(len(findings.broken), 'row')} not confirmed and not used")


async def _bring_up(archive: Archive, new: Path, settings: Settings, before: _Before, result: Restored) -> Heads:
    """Let the restored home know what was there before: a higher epoch, and no revision number twice."""
    manifest = archive.manifest
    made = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(manifest.created))
    same_home = before.home == manifest.home
    async with opened(new, settings) as core:
        numbers = {config_id: head.revision for config_id, head in before.heads.items() if same_home}
        result.epoch = await core.order.restore(before.position, numbers, detail=f"restored the backup of {made}")
        result.environment = core.state.active
        result.undecryptable = undecryptable(core)
        restored = heads_of(core.state)
    for name in _OF_DIRECTORY:
        (new / name).unlink(missing_ok=True)
    return restored


def _plan_files(
    archive: Archive, settings: Settings, options: RestoreOptions, prepared: Path, keyring: Keyring, result: Restored
) -> replacement.Plan:
    """Prepare the environment and schema files that are written, and copies of those that they replace."""
    members = archive.manifest.members
    present = files.places(settings)
    written: dict[str, str] = {}
    for name in archive.manifest.files:
        place = files.place(name, settings)
        there = place if place.exists() else None
        if there is not None:
            content = there.read_bytes()
            if members[name].source == files.code(content, keyring) or content == archive.read(name):
                continue
        if (there is not None and not options.files) or not _can_change(place, options, result):
            result.left.append(name)
            continue
        if there is not None:
            _keep(there, prepared / replacement.OLD / name)
        member = f"file-{len(written)}"
        archive.extract(name, prepared / member)
        written[member] = str(place.absolute())
        result.written.append(name)
    removed: list[str] = []
    # A backup without any says nothing about them.
    for name in sorted(present.keys() - members.keys()) if archive.manifest.files else ():
        if any(line.startswith(f"{name}:") for line in archive.manifest.left_out):
            continue
        if not options.files or not _can_change(present[name], options, result):
            result.left.append(name)
            continue
        _keep(present[name], prepared / replacement.OLD / name)
        removed.append(str(present[name].absolute()))
        result.removed.append(name)
    return replacement.Plan(kept_in="", moved=[], written=written, removed=removed)


def _can_change(path: Path, options: RestoreOptions, result: Restored) -> bool:
    """Return whether a file can be written or removed; after the decision it would be too late to find out.

    Raises:
        ArchiveError: It cannot, and it was asked for.
    """
    if files.is_writable(path):
        return True
    message = f"{path.parent} cannot be written"
    if options.files:
        raise ArchiveError(f"{message}; make it writable, or restore without --files")
    note = f"{message}: what is missing there has to be copied from the backup by hand"
    if note not in result.notes:
        result.notes.append(note)
    return False


def _keep(file: Path, target: Path) -> None:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.copyfile(file, target)
    target.chmod(0o600)
