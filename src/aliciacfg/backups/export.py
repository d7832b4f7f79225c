"""A home as plain files, for people to read and for git: what is in force, without the past.

    home.yaml                            the form, the active environment, public keys of recipients
    environments/…  schemas/…            the files as they are, each plain secret sealed
    overlays/<environment>/<service>.yaml    the changes at run time, as they are stored, secrets sealed

Exporting again into the same directory changes only what changed: a secret keeps its sealed text.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aliciacfg import documents
from aliciacfg.atomic_files import FilesTogether
from aliciacfg.backups.archive import ArchiveError
from aliciacfg.backups.files import ENVIRONMENTS, SCHEMAS, HomeFiles, collect
from aliciacfg.core.restore import ACTIVE
from aliciacfg.documents import Json, JsonObject, decode_object, yaml_reader, yaml_writer
from aliciacfg.errors import SourceError
from aliciacfg.file_errors import unreadable, unwritable
from aliciacfg.model import names
from aliciacfg.model.records import Overlay, Recipient, StoredState
from aliciacfg.settings import Settings
from aliciacfg.storage.backend import database_in
from aliciacfg.storage.hash_chain import Chain
from aliciacfg.storage.home_keys import load_keys

FORMAT = 1
HOME = "home.yaml"
OVERLAYS = "overlays"

_OVERLAY = re.compile(rf"{OVERLAYS}/({names.PATTERN})/({names.PATTERN})\.yaml", re.ASCII)
# What an export writes; a README.md that a person adds is theirs.
_SUFFIXES = {ENVIRONMENTS: {".yaml"}, SCHEMAS: {".yaml", ".json"}, OVERLAYS: {".yaml"}}
_MODE = 0o600
_ABOUT = "# A home of aliciacfg. `aliciacfg import DIR` puts it into an empty one.\n"


@dataclass(slots=True)
class Exported:
    """What an export wrote.

    Attributes:
        directory: Where it is.
        environment: The active environment.
        overlays: How many configurations have changes at run time.
        files: How many environment and schema files there are.
        written: The files that are new or differ from what was there.
        removed: The files that were there and are no longer part of the home.
        left_out: What is not in it, and why.
        in_plain_text: Secrets that are in it in plain text, as defaults of variables: ``file: pointer``.
    """

    directory: str
    environment: str = ""
    overlays: int = 0
    files: int = 0
    written: list[str] = field(default_factory=list[str])
    removed: list[str] = field(default_factory=list[str])
    left_out: list[str] = field(default_factory=list[str])
    in_plain_text: list[str] = field(default_factory=list[str])


async def export(directory: Path, snapshot: Path, settings: Settings) -> Exported:
    """Write a home as plain files into a directory, or bring an earlier export there up to date.

    Args:
        directory: The directory; made if there is none. Other files in it, such as those of git, stay.
        snapshot: A directory with a copy of the database; see ``Store.backup``.
        settings: The daemon's.

    Raises:
        ArchiveError: The directory holds something else, or cannot be written.
        KeyFileError: There are no keys.
        StoreError: The database cannot be used.
    """
    before = read_tree(directory)
    keyring = load_keys(settings).make_keyring()
    async with database_in(snapshot).open(Chain(keyring)) as store:
        state, recipients = await store.load(), await store.recipients()
    files = collect(settings, keyring, before=before)
    wanted = _tree(state, recipients, files)
    forged = [item for item in state.overlays if not item.confirmed]
    result = Exported(
        str(directory),
        environment=state.meta.get(ACTIVE, ""),
        overlays=sum(name.startswith(f"{OVERLAYS}/") for name in wanted),
        files=len(files.contents),
        left_out=[*files.left_out, *(f"{item.environment}/{item.service}: is not what was written" for item in forged)],
        in_plain_text=files.in_plain_text,
    )
    try:
        _write(directory, wanted, before, result)
    except OSError as error:
        raise ArchiveError(unwritable(Path(error.filename or directory), error)) from error
    return result


def read_tree(directory: Path) -> dict[str, bytes]:
    """Return the files of an export by name; none if the directory is empty or missing.

    Raises:
        ArchiveError: The directory holds something else, or cannot be read.
    """
    try:
        if not directory.exists() or not any(path for path in directory.iterdir() if not path.name.startswith(".")):
            return {}
        if not (directory / HOME).is_file():
            raise ArchiveError(f"{directory} has no {HOME}, so it is no export; choose an empty or a new directory")
        found = [
            directory / HOME,
            *(
                path
                for top, suffixes in _SUFFIXES.items()
                for path in sorted((directory / top).rglob("*"))
                if path.suffix in suffixes
            ),
        ]
        return {
            path.relative_to(directory).as_posix(): path.read_bytes()
            for path in found
            if path.is_file() and not path.name.startswith(".")
        }
    except OSError as error:
        raise ArchiveError(unreadable(Path(error.filename or directory), error)) from error


def _tree(state: StoredState, recipients: Iterable[Recipient], files: HomeFiles) -> dict[str, bytes]:
    about: JsonObject = {"format": FORMAT, "environment": state.meta.get(ACTIVE, "")}
    keys: JsonObject = {
        item.service: item.public_key
        for item in sorted(recipients, key=lambda item: item.service)
        if item.public_key is not None
    }
    if keys:
        about["recipients"] = keys
    overlays = {
        f"{OVERLAYS}/{item.environment}/{item.service}.yaml": _yaml(decode_object(item.patch))
        for item in state.overlays
        if item.confirmed and item.patch is not None
    }
    return {HOME: _ABOUT.encode() + _yaml(about), **files.contents, **overlays}


def _yaml(document: JsonObject) -> bytes:
    return yaml_writer.dump_blocks(document).encode()


def _write(directory: Path, wanted: Mapping[str, bytes], before: Mapping[str, bytes], result: Exported) -> None:
    """Bring the directory up to date; if that fails, it is as it was before.

    Raises:
        OSError: It cannot be written.
    """
    with FilesTogether() as files:
        files.make_directory(directory, mode=0o700)
        for name, content in sorted(wanted.items()):
            if before.get(name) != content:
                path = directory / name
                files.make_directory(path.parent)
                files.replace(path, content, mode=None if path.exists() else _MODE)
                result.written.append(name)
        for name in sorted(before.keys() - wanted.keys()):
            files.remove(directory / name)
            result.removed.append(name)


def overlays_in(tree: Mapping[str, bytes]) -> list[Overlay]:
    """Return the changes at run time in an export.

    Raises:
        ArchiveError: A file is not what an export writes.
    """
    found: list[Overlay] = []
    for name, content in tree.items():
        if not name.startswith(f"{OVERLAYS}/"):
            continue
        match = _OVERLAY.fullmatch(name)
        if match is None:
            raise ArchiveError(f"{name} is no file of an export: expected {OVERLAYS}/<environment>/<service>.yaml")
        found.append(Overlay(match[1], match[2], documents.canonical(_object(name, content))))
    return found


@dataclass(frozen=True, slots=True)
class About:
    """What ``home.yaml`` says: the active environment, and the public keys of recipients."""

    environment: str
    recipients: tuple[Recipient, ...]


def about(tree: Mapping[str, bytes]) -> About:
    """Return what an export says of its home.

    Raises:
        ArchiveError: It is not one, or one of a newer aliciacfg.
    """
    if HOME not in tree:
        raise ArchiveError(f"there is no {HOME}, so this is no export")
    found = _object(HOME, tree[HOME])
    form, environment, keys = found.get("format"), found.get("environment"), found.get("recipients", {})
    if not isinstance(form, int) or form > FORMAT:
        raise ArchiveError(f"{HOME}: found format {form!r:.20}; this aliciacfg knows {FORMAT}. Use a newer one")
    if not isinstance(environment, str) or not isinstance(keys, dict):
        raise ArchiveError(f"{HOME}: expected environment and recipients as an export writes them")
    return About(environment, tuple(Recipient(service, str(key)) for service, key in keys.items()))


def _object(name: str, content: bytes) -> JsonObject:
    try:
        value: Json = yaml_reader.load(content.decode(), file=name).value
    except (SourceError, UnicodeDecodeError) as error:
        raise ArchiveError(f"{name} is not valid: {error}") from error
    if not isinstance(value, dict):
        raise ArchiveError(f"{name}: expected a mapping")
    return value
