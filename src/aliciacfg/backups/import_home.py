"""Puts an exported home into an empty data directory, all of it or nothing."""

import asyncio
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from aliciacfg import documents
from aliciacfg.backups import export, files
from aliciacfg.backups.archive import ArchiveError
from aliciacfg.backups.comparison import undecryptable
from aliciacfg.backups.opened import opened
from aliciacfg.backups.server_home import kept_tables, refuse_users, replacing
from aliciacfg.bootstrap import Core
from aliciacfg.core.restore import ACTIVE, REQUESTED
from aliciacfg.counted import counted
from aliciacfg.file_errors import unreadable, unwritable
from aliciacfg.model.records import START, Overlay, Position, Write
from aliciacfg.sealing.boxes import Keyring, PublicKey, UnusableKey
from aliciacfg.sealing.key_file import KeyFile
from aliciacfg.sealing.sealed_documents import open_document
from aliciacfg.settings import Settings
from aliciacfg.storage import replacement
from aliciacfg.storage.backend import database_in
from aliciacfg.storage.data_directory import KEY_FILE, DataDirectory, free_name_before
from aliciacfg.storage.hash_chain import Chain
from aliciacfg.storage.home_keys import keys_in_file
from aliciacfg.storage.store import Database

_MAX_NAMED = 5


@dataclass(slots=True)
class Imported:
    """What an import put in place, or would.

    Attributes:
        environment: The active environment.
        configurations: How many configurations there are, in all environments.
        overlays: How many of them have changes at run time.
        written: The environment and schema files that were written.
        undecryptable: The secrets that do not open, as ``service in environment: pointer``.
        problems: What is invalid, by environment; never in the active one.
    """

    environment: str = ""
    configurations: int = 0
    overlays: int = 0
    written: list[str] = field(default_factory=list[str])
    undecryptable: list[str] = field(default_factory=list[str])
    problems: dict[str, list[str]] = field(default_factory=dict[str, list[str]])


async def import_home(directory: Path, settings: Settings, *, dry_run: bool) -> Imported:
    """Put the home that ``export`` wrote into a directory in place of an empty one.

    Everything is tried out first: nothing is written if the active environment would be invalid.

    Raises:
        DataDirectoryInUse: A daemon runs.
        ArchiveError: The directory is no export, or the home is not empty.
        SourceError: The files are not valid.
        AliciacfgError: Keys or database cannot be used.
    """
    home = directory / export.HOME
    try:
        found = home.is_file()
    except OSError as error:
        raise ArchiveError(unreadable(home, error)) from error
    if not found:
        raise ArchiveError(f"{directory} has no {export.HOME}, so it is no export; name what `aliciacfg export` wrote")
    tree = await asyncio.to_thread(export.read_tree, directory)
    data = await asyncio.to_thread(DataDirectory, Path(settings.data_dir))
    try:
        database = database_in(data.path, settings.database_url)
        if settings.database_url is not None:
            await asyncio.to_thread(refuse_users, database)
        with keys_in_file(settings, data.path, dry_run=dry_run):
            return await _import(tree, settings, data, database, dry_run=dry_run)
    except OSError as error:
        raise ArchiveError(unwritable(Path(error.filename or data.path), error, done="used")) from error
    finally:
        replacement.discard(data.path)
        data.release()


async def _import(
    tree: Mapping[str, bytes], settings: Settings, data: DataDirectory, database: Database, *, dry_run: bool
) -> Imported:
    beyond = _check_empty(data, database)
    written = _new_files(tree, settings)
    prepared = replacement.prepare(data.path)
    result, plan = await _try(tree, settings, prepared, data, beyond, written)
    if not dry_run:
        kept_as = kept_tables(free_name_before(data.path, "import", now=time.time()))
        new = prepared / replacement.NEW
        with nullcontext() if settings.database_url is None else replacing(database, new, settings, kept_as=kept_as):
            replacement.decide(data.path, plan)
        _remove_if_empty(data.path / plan.kept_in)
    return result


def _check_empty(data: DataDirectory, database: Database) -> Position:
    """Return the highest position that readers may hold of a home that was here before.

    Raises:
        ArchiveError: There are configurations.
    """
    if database.exists() and (count := database.describe().configurations):
        raise ArchiveError(
            f"{database.name} is not empty: it has {counted(count, 'configuration')}. A whole home is imported into an "
            "empty one; to replace this one, move it away first, or use `aliciacfg restore` with a backup"
        )
    if not data.key_file.exists():
        return START
    witnessed = database.witnessed(Chain(KeyFile.load(data.key_file).make_keyring()))
    return START if witnessed is None else witnessed


def _new_files(tree: Mapping[str, bytes], settings: Settings) -> dict[str, bytes]:
    """Return the environment and schema files to write.

    Raises:
        ArchiveError: Others are there, or they cannot be written.
    """
    there = files.places(settings)
    wanted = {name: found for name, found in tree.items() if name.split("/")[0] in {files.ENVIRONMENTS, files.SCHEMAS}}
    differing = [name for name, path in there.items() if path.read_bytes() != wanted.get(name)]
    if differing:
        named = ", ".join(differing[:_MAX_NAMED]) + (" and others" if len(differing) > _MAX_NAMED else "")
        raise ArchiveError(f"there are other files in the home: {named}; move them away before")
    new = {name: found for name, found in wanted.items() if name not in there}
    for name in new:
        path = files.place(name, settings)
        if not files.is_writable(path):
            raise ArchiveError(f"{path.parent} cannot be written; make it writable")
    return new


async def _try(
    tree: Mapping[str, bytes],
    settings: Settings,
    prepared: Path,
    data: DataDirectory,
    beyond: Position,
    written: Mapping[str, bytes],
) -> tuple[Imported, replacement.Plan]:
    """Make the home in the prepared directory, and return what it is, and what to put in place."""
    about = export.about(tree)
    overlays = export.overlays_in(tree)
    new = prepared / replacement.NEW
    if data.key_file.exists():
        shutil.copyfile(data.key_file, new / KEY_FILE)
        (new / KEY_FILE).chmod(0o600)
    tried = _tried_settings(settings, prepared)
    members = {f"file-{number}": name for number, name in enumerate(sorted(written))}
    for member, name in members.items():
        (prepared / member).write_bytes(written[name])
    for name, content in tree.items():
        if name.split("/")[0] in {files.ENVIRONMENTS, files.SCHEMAS}:
            place = files.place(name, tried)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
    for recipient in about.recipients:
        _check_key(recipient.service, recipient.public_key or "")
    meta = ((ACTIVE, about.environment), (REQUESTED, settings.environment)) if about.environment else ()
    async with opened(new, tried) as core:
        await core.queue.submit(Write(overlays=tuple(overlays), recipients=about.recipients, meta=meta))
    async with opened(new, tried) as core:
        if beyond != START:
            await core.order.restore(beyond, {}, detail="imported a home in place of an earlier one")
        await core.start(settings.environment, degraded=False)
        keyring = KeyFile.load(new / KEY_FILE).make_keyring()
        result = _result(core, overlays, keyring, written=sorted(written))
    for name in ("lock", "instance", "home"):
        (new / name).unlink(missing_ok=True)
    plan = replacement.Plan(
        kept_in="before-import",
        moved=list(database_in(data.path, settings.database_url).files),
        written={member: str(files.place(name, settings).absolute()) for member, name in members.items()},
    )
    return result, plan


def _tried_settings(settings: Settings, prepared: Path) -> Settings:
    """Return settings whose files are in the prepared directory, under the names that they have in messages."""
    places = {
        name: prepared / top / Path(getattr(settings, name)).resolve().name
        for top, name in (("tried-1", "environments_dir"), ("tried-2", "schemas_dir"))
    }
    for path in places.values():
        path.mkdir(parents=True)
    return msgspec.structs.replace(settings, **{name: str(path) for name, path in places.items()})


def _result(core: Core, overlays: Sequence[Overlay], keyring: Keyring, *, written: list[str]) -> Imported:
    unopened = {
        f"{service} in {environment}: {problem.pointer.removeprefix(f'/services/{service}')}"
        for environment, services in core.files.unopened.items()
        for service, problems in services.items()
        for problem in problems
    }
    return Imported(
        environment=core.state.active,
        configurations=sum(entry.live is not None for entry in core.state.all_heads().values()),
        overlays=len(overlays),
        written=written,
        undecryptable=sorted({*undecryptable(core), *unopened, *_unopened_overlays(overlays, keyring)}),
        problems={
            environment: [problem.message for problems in services.values() for problem in problems]
            for environment, services in sorted(core.files.environment_problems.items())
            if services
        },
    )


def _unopened_overlays(overlays: Iterable[Overlay], keyring: Keyring) -> Iterator[str]:
    for item in overlays:
        patch = documents.decode_object(item.patch or b"{}")
        found = open_document(patch, keyring, service=item.service, environment=item.environment)
        yield from (f"{item.service} in {item.environment}: {problem.pointer}" for problem in found.problems)


def _check_key(service: str, key: str) -> None:
    try:
        PublicKey.parse(key)
    except UnusableKey as error:
        raise ArchiveError(f"{export.HOME}: recipients: {service}: {error}") from error


def _remove_if_empty(directory: Path) -> None:
    """Remove the directory of the old files, unless there were some."""
    if directory.exists() and not any(directory.iterdir()):
        directory.rmdir()
