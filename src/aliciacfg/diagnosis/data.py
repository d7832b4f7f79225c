"""The data directory: owner and modes, keys, database, what was left behind, and the disk it is on."""

import os
import shlex
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from aliciacfg.core.adoption import explain_adoption, explain_foreign
from aliciacfg.counted import counted, counted_are
from aliciacfg.diagnosis.finding import Finding, fail, ok, warn
from aliciacfg.errors import AliciacfgError, SettingsError
from aliciacfg.file_errors import remedy
from aliciacfg.private_files import check_directory, check_kept_file
from aliciacfg.sealing.key_file import KeyFile
from aliciacfg.settings import Settings
from aliciacfg.storage.backend import database_in
from aliciacfg.storage.data_directory import KEY_FILE, SNAPSHOT_PREFIX, is_in_use
from aliciacfg.storage.hash_chain import Chain
from aliciacfg.storage.home_keys import find_keys
from aliciacfg.storage.store import Database

_MEGABYTE = 1024 * 1024
_LITTLE_BYTES, _FEW_BYTES = 500 * _MEGABYTE, 50 * _MEGABYTE
# A larger one takes long to verify; `aliciacfg check` does.
_MAX_VERIFIED_BYTES = 50 * _MEGABYTE
_REPLACEMENT = ".replacement-*"
_CLOCK_SECONDS = 5.0


def look_at_data(data: Path, settings: Settings | None = None) -> list[Finding]:
    """Look at a data directory and all that is in it, and at the database on a server if the settings name one."""
    shared = None if settings is None or settings.database_url is None else settings
    if not data.exists():
        return [_look_at_parent(data)]
    try:
        return [
            _look_at_owner(data),
            *(_look_at_keys(data) if shared is None else _look_at_shared_keys(shared)),
            *_look_at_leftovers(data),
            _look_at_disk(data),
        ]
    except OSError as error:
        todo = remedy(error) or "run it as the daemon's user"
        return [fail("data", f"{error.filename} cannot be looked at: {error.strerror}", todo)]


def _look_at_parent(data: Path) -> Finding:
    parent = next(found for found in (data.absolute(), *data.absolute().parents) if found.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        return fail("data", f"{data} does not exist and cannot be made in {parent}", "set ALICIACFG_DATA_DIR")
    return ok("data", f"{data} does not exist yet; the first start makes it")


def _look_at_owner(data: Path) -> Finding:
    if not data.is_dir():
        return fail("data", f"{data} is not a directory", "move it away, or set ALICIACFG_DATA_DIR")
    try:
        check_directory(data, "ALICIACFG_DATA_DIR")
        for path in sorted(data.iterdir()):
            if path.is_file() or path.is_symlink():
                check_kept_file(path, "ALICIACFG_DATA_DIR", directory_owner=data.stat().st_uid)
    except SettingsError as error:
        found, _, remedy = str(error).removeprefix("ALICIACFG_DATA_DIR: ").partition("; ")
        return fail("data", found, remedy)
    if not os.access(data, os.W_OK):
        return fail("data", f"{data} cannot be written by this user", "mount it for writing, or run as its owner")
    mode = stat.S_IMODE(data.stat().st_mode)
    if mode & (stat.S_IROTH | stat.S_IXOTH):
        return warn("data", f"other users can look into {data} (mode {mode:04o})", f"run: chmod 700 {data}")
    return ok("data", f"{data} is this user's alone")


def _look_at_shared_keys(settings: Settings) -> Iterator[Finding]:
    try:
        database = database_in(Path(settings.data_dir), settings.database_url)
        stored = database.exists()
    except AliciacfgError as error:
        found, _, remedy = str(error).partition("; ")
        yield fail("database", found, remedy or "see whether its server runs, and ALICIACFG_DATABASE_URL")
        return
    try:
        keys = find_keys(settings)
    except AliciacfgError as error:
        found, _, remedy = str(error).partition(". Nothing was changed. ")
        yield fail("keys", found, remedy.rstrip(".") or "see `aliciacfg keys kek --help`")
        return
    if keys is None:
        yield ok("keys", "none in the database yet; the first start makes them, or takes keys.json in")
    else:
        yield ok("keys", f"those in {keys.store.name} open with the key-encryption key of this machine")
    if stored:
        yield _look_at_server(database)


def _look_at_keys(data: Path) -> Iterator[Finding]:
    path = data / KEY_FILE
    try:
        stored = database_in(data).exists()
    except AliciacfgError as error:
        found, _, remedy = str(error).partition("; ")
        yield fail("database", found, remedy or "see whether its server runs, and ALICIACFG_DATABASE_URL")
        return
    if not path.exists():
        if stored:
            yield fail(
                "keys",
                f"{path} is missing; the next start makes a new one, with which stored secrets do not open and tokens "
                "do not count",
                "put it back before the next start, or restore a backup with keys (`aliciacfg restore`)",
            )
        else:
            yield ok("keys", "none yet; the first start makes them")
        return
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        yield fail(
            "keys",
            f"other users can read {path} (mode {mode:04o}), so the daemon does not start",
            f"run: chmod 600 {path}; if one of them may have read it, make new keys: aliciacfg keys rotate",
        )
        return
    try:
        file = KeyFile.load(path)
    except AliciacfgError as error:
        found, _, remedy = str(error).partition("; ")
        yield fail("keys", found, remedy or "restore it from a backup (`aliciacfg restore`)")
        return
    if (note := file.pending_adoption) is None:
        yield ok("keys", f"{path} can be used and is this user's alone")
    else:
        yield warn("keys", *explain_adoption(note))
    if stored:
        yield _look_at_database(data, file)


def _look_at_server(database: Database) -> Finding:
    try:
        found = database.describe()
    except AliciacfgError as error:
        return fail("database", str(error), "see whether its server runs, and ALICIACFG_DATABASE_URL")
    revisions = counted(found.revisions, "revision")
    return ok("database", f"{database.name} has {revisions}; `aliciacfg check` verifies them")


def _look_at_database(data: Path, file: KeyFile) -> Finding:
    size = sum(path.stat().st_size for path in data.glob("aliciacfg.*"))
    if size > _MAX_VERIFIED_BYTES:
        return ok("database", f"{size // _MEGABYTE} MB, not verified here; `aliciacfg check` does")
    chain = Chain(file.make_keyring())
    try:
        if foreign := explain_foreign(database_in(data), file.store.name, chain):
            return fail("database", *foreign)
        found = database_in(data).verify(chain)
    except AliciacfgError as error:
        return fail("database", str(error), "look at its files, and restore a backup if they are damaged")
    if found.damage:
        return fail("database", f"it is damaged: {found.damage[0]}", "restore a backup: aliciacfg restore FILE")
    if found.broken:
        rows = f"{counted_are(len(found.broken), 'row')} not what the daemon wrote"
        return fail("database", rows, "see which: aliciacfg check")
    return ok("database", f"{counted_are(found.confirmed, 'row')} confirmed")


def _look_at_leftovers(data: Path) -> Iterator[Finding]:
    if replaced := sorted(path.name for path in data.glob(_REPLACEMENT)):
        yield warn(
            "leftovers",
            f"a restore was interrupted ({', '.join(replaced)})",
            "the next start completes or undoes it; start the daemon",
        )
    snapshots = sorted(path.name for path in data.glob(f"{SNAPSHOT_PREFIX}*"))
    if snapshots and not is_in_use(data):
        yield warn("leftovers", f"a backup was interrupted ({', '.join(snapshots)})", "the next start removes them")
    # Before an import or a restore.
    if kept := sorted(path.name for path in data.glob("before-*")):
        yield warn(
            "leftovers",
            f"an earlier state of this home is kept ({', '.join(kept)})",
            f"it holds secrets; if all is well: rm -r {' '.join(shlex.quote(str(data / name)) for name in kept)}",
        )
    future = [path.name for path in data.iterdir() if path.stat().st_mtime > time.time() + _CLOCK_SECONDS]
    if future:
        yield fail("clock", f"it is behind: {future[0]} was written in its future", "set the clock (NTP)")


def _look_at_disk(data: Path) -> Finding:
    usage = shutil.disk_usage(data)
    status = os.statvfs(data)
    free = f"{usage.free // _MEGABYTE} MB free of {usage.total // _MEGABYTE} MB"
    if usage.free < _FEW_BYTES:
        return fail("disk", f"{free} where {data} is", "free some space: a write that does not fit is refused")
    if status.f_files and not status.f_favail:
        return fail("disk", f"no file can be made where {data} is: all inodes are used", "remove files there")
    if usage.free < _LITTLE_BYTES:
        return warn("disk", f"{free} where {data} is", "free some space soon")
    return ok("disk", free)
