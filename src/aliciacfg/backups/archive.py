"""The file of a backup: a ZIP archive with a manifest, which any unpacker opens.

    manifest.json     what the backup is of, and size and SHA-256 of every other member
    database          the database, complete in one file
    keys              the key file, encrypted with a passphrase (``sealing.passphrase``); only if it was asked for
    environments/…    the environment files, each plain secret sealed
    schemas/…         the schema files and migrations

The manifest has a code that only the holder of the home's keys can make, so that a tampered backup is noticed, as
are one that is cut short and one on a failing disk.
"""

import contextlib
import errno
import hashlib
import os
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, Self

import msgspec

from aliciacfg.backups.work_directory import work_directory
from aliciacfg.errors import AliciacfgError
from aliciacfg.file_errors import reason, unreadable
from aliciacfg.sealing.boxes import Keyring
from aliciacfg.sealing.keyed_hash import KeyedHash

FORMAT = 1
MANIFEST = "manifest.json"
DATABASE = "database"
KEYS = "keys"

_PURPOSE = b"aliciacfg backup v1"
_PIECE_BYTES = 2**20
_MAX_MANIFEST_BYTES = 2**24
# What zipfile raises for an archive that is damaged.
_UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError)


class ArchiveError(AliciacfgError):
    """A backup cannot be written or used; the message says why and what to do."""


class Member(msgspec.Struct, frozen=True, omit_defaults=True):
    """A member as it is in the archive.

    Attributes:
        size: Its size in bytes.
        sha256: Its SHA-256, in hexadecimal.
        source: A code of the file that it was made from, whose secrets may be in plain text; made with the home's keys.
    """

    size: int
    sha256: str
    source: str = ""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup is of.

    Attributes:
        format: The version of the archive's form.
        aliciacfg: The version of the program that made it.
        created: The time in Unix seconds.
        home: The name of the home: the short name of the key that all its codes are made with, in hexadecimal.
        environment: The active environment.
        epoch: The epoch of the home.
        sequence: The place of the last change that readers were notified of.
        rows: How many revisions and audit entries were ever added.
        head: The code of the last one, in hexadecimal.
        database_format: The version of the database's tables.
        configurations: How many configurations it holds, deleted ones included.
        revisions: How many revisions it holds.
        unconfirmed: How many rows were not what was written when it was made.
        left_out: Files that are not in it, and why.
        in_plain_text: Secrets that are in its files in plain text, as defaults of variables: ``file: pointer``.
        members: The other members.
        code: A code of everything above, made with the home's keys; in hexadecimal.
    """

    format: int
    aliciacfg: str
    created: float
    home: str
    environment: str
    epoch: int
    sequence: int
    rows: int
    head: str
    database_format: int
    configurations: int
    revisions: int
    unconfirmed: int = 0
    left_out: list[str] = []
    in_plain_text: list[str] = []
    members: dict[str, Member] = {}
    code: str = ""

    @property
    def files(self) -> list[str]:
        """The members that are files of people, sorted."""
        return sorted(name for name in self.members if "/" in name)

    def signed(self, keyring: Keyring) -> "Manifest":
        """Return a copy with its code."""
        return msgspec.structs.replace(self, code=self._code(keyring))

    def is_confirmed(self, keyring: Keyring) -> bool:
        """Return whether the manifest is what was written with the keys of its home."""
        return self.code == self._code(keyring)

    def _code(self, keyring: Keyring) -> str:
        # What is empty is left out: a member that a later version adds does not change the code of an earlier backup.
        members = {name: value for name, value in msgspec.structs.asdict(self).items() if value and name != "code"}
        content = msgspec.json.encode(members, order="sorted")
        return KeyedHash(keyring.derive(_PURPOSE)).digest(content).hex()


def write_archive(
    target: Path,
    manifest: Manifest,
    members: Mapping[str, Path | bytes],
    keyring: Keyring,
    *,
    data: Path,
    sources: Mapping[str, str],
    replace: bool,
) -> Manifest:
    """Write a backup atomically, with mode 0600, and read it back before it has its name.

    Args:
        target: The archive.
        manifest: The manifest, without its members and its code.
        members: The content of each member, or a file with it.
        keyring: The home's keys.
        data: The home's data directory.
        sources: The ``source`` of members that have one.
        replace: Whether it may replace a file.

    Returns:
        The manifest as it was written.

    Raises:
        ArchiveError: It cannot be written, or it is there already; nothing is left of it.
    """
    try:
        with work_directory(target.parent, data) as directory:
            temporary = directory / "archive"
            descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                manifest = _write(file, manifest, members, keyring, sources)
                file.flush()
                os.fsync(descriptor)
            with Archive(temporary) as written:
                written.check()
            # Where there are no modes and no hard links, on a USB stick for example, this still works.
            _give_name(temporary, target, replace=replace)
    except OSError as error:
        raise ArchiveError(f"{target} cannot be written: {_reason(error, target.parent)}") from error
    return manifest


def _write(
    file: BinaryIO,
    manifest: Manifest,
    members: Mapping[str, Path | bytes],
    keyring: Keyring,
    sources: Mapping[str, str],
) -> Manifest:
    written: dict[str, Member] = {}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name, content in members.items():
            digest, size = hashlib.sha256(), 0
            with archive.open(_info(name), "w", force_zip64=True) as member:
                for piece in _pieces(content):
                    digest.update(piece)
                    size += len(piece)
                    member.write(piece)
            written[name] = Member(size, digest.hexdigest(), sources.get(name, ""))
        manifest = msgspec.structs.replace(manifest, members=written).signed(keyring)
        archive.writestr(_info(MANIFEST), msgspec.json.format(msgspec.json.encode(manifest), indent=2))
    return manifest


def _info(name: str) -> zipfile.ZipInfo:
    # With a fixed time: the manifest has the right one.
    info = zipfile.ZipInfo(name)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = 0o600 << 16
    return info


def _pieces(content: Path | bytes) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield content
        return
    with content.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            yield piece


def _give_name(temporary: Path, target: Path, *, replace: bool) -> None:
    """Give a complete file its name; raise if the name is taken meanwhile, unless it is to be replaced.

    Raises:
        OSError: The file has no name then.
    """
    if replace:
        temporary.replace(target)
    else:
        try:
            target.hardlink_to(temporary)
        except FileExistsError:
            raise
        except OSError as error:
            if error.errno not in {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}:
                raise
            if target.exists():
                raise FileExistsError(errno.EEXIST, "it exists already", str(target)) from error
            temporary.replace(target)
    descriptor = os.open(target.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # Not every file system of a stick or a network can.
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reason(error: OSError, directory: Path) -> str:
    if isinstance(error, FileExistsError):
        return "it exists already; choose another name, or replace it with --force"
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return f"{reason(error)}, or write it to another disk"
    if error.errno == errno.ENOENT:
        return f"there is no directory {directory}; is the stick or the disk mounted?"
    return reason(error, denied=f"let this user write in {directory}, or choose another directory")


class Archive:
    """A backup that is read; a context manager.

    Attributes:
        path: The file.
        manifest: Its manifest.
    """

    def __init__(self, path: Path) -> None:
        """Open the archive and read its manifest; nothing else is checked yet.

        Raises:
            ArchiveError: It cannot be read, is not a backup, or one of a newer aliciacfg.
        """
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except OSError as error:
            raise ArchiveError(unreadable(path, error)) from error
        except _UNREADABLE as error:
            raise ArchiveError(f"{path} is not a backup, or its end is missing: {error}") from error
        try:
            self.manifest = self._manifest()
        except BaseException:
            self._zip.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def check(self) -> None:
        """Compare every member with the manifest.

        Raises:
            ArchiveError: One is missing, or is not what was written.
        """
        unknown = set(self._zip.namelist()) - {MANIFEST, *self.manifest.members}
        if unknown:
            raise ArchiveError(f"{self.path} was changed: it has {min(unknown)!r:.80}, of which it says nothing")
        for name in self.manifest.members:
            for _ in self._content(name):
                pass

    def extract(self, name: str, target: Path) -> None:
        """Write a member to a new file with mode 0600, durably.

        Raises:
            ArchiveError: It is missing, or is not what was written; there may be a part of the file.
            OSError: The file cannot be written.
        """
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            for piece in self._content(name):
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())

    def read(self, name: str) -> bytes:
        """Return a member; errors as for ``extract``."""
        return b"".join(self._content(name))

    def _content(self, name: str) -> Iterator[bytes]:
        """Yield a member in pieces, and compare it with the manifest at its end."""
        expected = self.manifest.members[name]
        digest, size = hashlib.sha256(), 0
        try:
            with self._open(name) as member:
                while piece := member.read(_PIECE_BYTES):
                    digest.update(piece)
                    size += len(piece)
                    if size > expected.size:
                        break
                    yield piece
        except (KeyError, *_UNREADABLE) as error:
            raise self._damaged(name) from error
        if (size, digest.hexdigest()) != (expected.size, expected.sha256):
            raise self._damaged(name)

    def _open(self, name: str) -> IO[bytes]:
        """Open a member; one that is compressed as no backup is counts as damaged.

        Raises:
            KeyError: It is missing.
            OSError, RuntimeError, ValueError, BadZipFile: It cannot be opened.
        """
        if self._zip.getinfo(name).compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
            raise zipfile.BadZipFile(name)
        return self._zip.open(name)

    def _damaged(self, name: str) -> ArchiveError:
        return ArchiveError(f"{self.path} is damaged: {name} in it is not what was written; use another backup")

    def _manifest(self) -> Manifest:
        try:
            if self._zip.getinfo(MANIFEST).file_size > _MAX_MANIFEST_BYTES:
                raise ArchiveError(f"{self.path} is not a backup of aliciacfg: its {MANIFEST} is too large")
            with self._open(MANIFEST) as member:
                content = member.read()
            form = msgspec.json.decode(content, type=_Form)
            if form.format > FORMAT:
                raise ArchiveError(
                    f"{self.path} was made by aliciacfg {form.aliciacfg:.40} in a newer form than this one knows; "
                    "use that version or a later one"
                )
            manifest = msgspec.json.decode(content, type=Manifest)
        except KeyError as error:
            raise ArchiveError(f"{self.path} is not a backup of aliciacfg: it has no {MANIFEST}") from error
        except (msgspec.MsgspecError, *_UNREADABLE) as error:
            raise ArchiveError(f"{self.path} is damaged: its {MANIFEST} cannot be read") from error
        if DATABASE not in manifest.members or not all(map(_is_safe, manifest.members)):
            raise ArchiveError(f"{self.path} is damaged: its {MANIFEST} names what no backup holds")
        return manifest


class _Form(msgspec.Struct, frozen=True):
    format: int
    aliciacfg: str = ""


def _is_safe(name: str) -> bool:
    """Return whether a member may be written below a directory: its name leads nowhere else."""
    if name in {DATABASE, KEYS}:
        return True
    parts = PurePosixPath(name).parts
    return (
        len(parts) > 1
        and parts[0] in {"environments", "schemas"}
        and "/".join(parts) == name
        and not {"..", "."} & set(parts)
        and "\\" not in name
        and "\0" not in name
    )


def check_space(directory: Path, manifest: Manifest) -> None:
    """Check that a directory has room for what is in a backup, and some more.

    Raises:
        ArchiveError: It has not.
        OSError: It cannot be asked.
    """
    needed = 2 * sum(member.size for member in manifest.members.values()) + _PIECE_BYTES
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise ArchiveError(f"{directory} has {free} bytes free, and {needed} are needed: free some space")
