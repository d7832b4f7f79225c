"""Atomic replacement of files: a reader sees either the old content or the new content, never a part of it."""

import contextlib
import errno
import glob
import os
import stat
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

SUFFIX = ".new"
"""The suffix of temporary files, whose names begin with a dot."""


class LinkRefused(OSError):
    """A name that is to be a file of its own is a link, or a file of another user."""


def replace_file(
    path: Path, content: bytes, *, mode: int | None = None, group: int | None = None, follow_links: bool = True
) -> None:
    """Write a file durably: temporary file beside it, fsync, rename, fsync of the directory.

    An existing file keeps its mode, and its owner if this process may set it; a new one that root writes gets the owner
    of its directory. So root, working for the daemon's user, does not lock the daemon out. If ``path`` is a symbolic
    link, its target is replaced. The temporary file is readable for its owner only until the content is complete.

    Args:
        path: The file.
        content: The whole content.
        mode: The permissions; None keeps those of the existing file (0600 if there is none).
        group: The id of the group; None keeps that of the existing file.
        follow_links: False in a directory in which another user may write, and could lead the write elsewhere.

    Raises:
        LinkRefused: ``path`` is a link, and links are not followed.
        OSError: The file cannot be written; it has its old content, unless only the fsync of the directory failed.
    """
    if follow_links:
        target = path.resolve()
    else:
        target = path.parent.resolve() / path.name
        check_own_file(target)
    before = _status(target)
    descriptor, name = _temporary_beside(target)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            if before is None:
                give_to_owner(descriptor, target.parent)
            else:
                with contextlib.suppress(PermissionError):
                    os.fchown(descriptor, before.st_uid, before.st_gid)
            if group is not None:
                os.fchown(descriptor, -1, group)
            if mode is None:
                mode = 0o600 if before is None else stat.S_IMODE(before.st_mode)
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        temporary.rename(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(target.parent)


def create_file(path: Path, content: bytes, *, mode: int) -> None:
    """Write a new file durably; of two processes that do so at once, one makes it.

    Args:
        path: The file.
        content: The whole content.
        mode: The permissions.

    Raises:
        FileExistsError: There is a file, or a link.
        OSError: The file cannot be written, and is not there.
    """
    descriptor, name = _temporary_beside(path)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            give_to_owner(descriptor, path.parent)
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        path.hardlink_to(temporary)
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)


class FilesTogether:
    """Changes of several files, in a ``with`` block; if it raises, all is as it was before.

    Where a file cannot be put back, the others are, and the error that names it is the one that is raised.
    """

    def __init__(self) -> None:
        # Backwards: what new files took of a full disk is free for those that come back.
        self._undo = contextlib.ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self._undo.pop_all()
        else:
            self._undo.__exit__(kind, error, traceback)

    def make_directory(self, path: Path, *, mode: int = 0o777) -> None:
        """Make a directory and those above it, unless they exist.

        Raises:
            OSError: It cannot be made.
        """
        made: list[Path] = []
        try:
            make_directory(path, made=made, mode=mode)
        finally:
            for directory in made:
                self._undo.callback(_remove_if_empty, directory)

    def replace(self, path: Path, content: bytes, *, mode: int | None = None) -> None:
        """Write a file, as ``replace_file`` does.

        Raises:
            OSError: It cannot be read or written.
        """
        target = path.resolve()
        # Before it is written: the sync of its directory may fail when it has its new content.
        self._undo.callback(_put_back, target, _read(target))
        replace_file(path, content, mode=mode)

    def create(self, path: Path, content: bytes) -> None:
        """Write a new file, which gets the owner of its directory; it is not durable yet.

        Raises:
            FileExistsError: There is a file, or a link.
            OSError: It cannot be written.
        """
        with path.open("xb") as file:
            self._undo.callback(_put_back, path, None)
            give_to_owner(file.fileno(), path.parent)
            file.write(content)

    def remove(self, path: Path) -> None:
        """Remove a file, or a symbolic link.

        Raises:
            OSError: It cannot be read or removed.
        """
        if path.is_symlink():
            self._undo.callback(_link_again, path, path.readlink())
        else:
            self._undo.callback(_put_back, path, _read(path))
        path.unlink()


_Before = tuple[bytes, int] | None
"""The content and the mode of a file; None if there was none."""


def _read(path: Path) -> _Before:
    return (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) if path.exists() else None


def _put_back(path: Path, before: _Before) -> None:
    """Give a file its content and mode from before, if they changed; None removes it."""
    if before is None:
        path.unlink(missing_ok=True)
    elif _read(path) != before:
        content, mode = before
        replace_file(path, content, mode=mode)


def _link_again(path: Path, target: Path) -> None:
    if not path.is_symlink():
        path.symlink_to(target)


def _remove_if_empty(directory: Path) -> None:
    with contextlib.suppress(OSError):
        directory.rmdir()


def make_directory(path: Path, *, made: list[Path], mode: int = 0o777) -> None:
    """Make a directory and those above it, unless they exist; they belong to the owner of the one that does.

    Args:
        path: The directory.
        made: Gets the directories that are made, outer ones first.
        mode: The permissions of the directory, of which the umask takes some.

    Raises:
        OSError: One cannot be made.
    """
    if path.exists():
        return
    make_directory(path.parent, made=made)
    path.mkdir(mode=mode)
    made.append(path)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        give_to_owner(descriptor, path.parent)
    finally:
        os.close(descriptor)


def try_to_replace(path: Path) -> None:
    """Do what ``replace_file`` does first, and nothing else.

    Raises:
        OSError: The file cannot be written.
    """
    target = path.resolve()
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    descriptor, name = _temporary_beside(target)
    os.close(descriptor)
    Path(name).unlink()


def open_or_create(path: Path, flags: int, mode: int) -> int:
    """Open a file and return its descriptor; one that root makes in another user's directory is given to that user.

    Links are not followed.

    Args:
        path: The file.
        flags: As for ``os.open``.
        mode: The permissions of a new file.

    Raises:
        OSError: It cannot be opened or created, or is a link.
    """
    flags |= os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path, flags)
    except FileNotFoundError:
        try:
            descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, mode)
        except FileExistsError:
            # Another process was faster.
            return os.open(path, flags)
    try:
        give_to_owner(descriptor, path.parent)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def give_to_owner(descriptor: int, directory: Path) -> None:
    """Give a file that root has just made to the owner of its directory, who could not read it else."""
    if os.geteuid() == 0:
        owner = directory.stat()
        if owner.st_uid != 0:
            os.fchown(descriptor, owner.st_uid, owner.st_gid)


def check_own_file(path: Path) -> None:
    """Check that a name in a directory in which another user may write does not lead out of it.

    Raises:
        LinkRefused: It is a symbolic link, a further name of a file elsewhere, or no file.
    """
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
        return
    what = "a link" if stat.S_ISLNK(status.st_mode) or stat.S_ISREG(status.st_mode) else "not a file"
    raise LinkRefused(errno.ELOOP, f"it is {what}; remove it", str(path))


def remove_leftovers(path: Path) -> None:
    """Remove temporary files that a crash left beside a file; they may contain secrets.

    Call it only while no other process writes the file.

    Raises:
        OSError: A temporary file cannot be removed.
    """
    target = path.resolve()
    for left in target.parent.glob(f".{glob.escape(target.name)}.*{SUFFIX}"):
        left.unlink(missing_ok=True)


def _temporary_beside(target: Path) -> tuple[int, str]:
    # The name is unique, so that two writers never rename each other's unfinished file.
    try:
        return tempfile.mkstemp(prefix=f".{target.name}.", suffix=SUFFIX, dir=target.parent)
    except OSError as error:
        # A reader of the error knows the file, and not the temporary one.
        error.filename = str(target)
        raise


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def sync(path: Path) -> None:
    """Write a file, or the names in a directory, to the disk.

    Raises:
        OSError: That failed.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
