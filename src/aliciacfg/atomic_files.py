"""Files replaced whole: whoever reads one meanwhile sees the old content or the new, never half of it."""

import contextlib
import glob
import os
import stat
import tempfile
from pathlib import Path

SUFFIX = ".new"
"""How the names of temporary files end; they begin with a dot."""


def replace_file(path: Path, content: bytes, *, mode: int | None = None, group: int | None = None) -> None:
    """Write a file durably: temporary file beside it, fsync, rename, fsync of the directory.

    A file that is there keeps its mode, and its owner as far as this process may say so (root writing for
    the daemon's user must not lock it out). Where ``path`` is a symbolic link, the file behind it is replaced.
    Until the rename nobody but the owner can read what is written, whatever the mode becomes.

    Args:
        path: The file.
        content: All of it.
        mode: Its permissions; None keeps those of the file that is there (0600 if there is none).
        group: The id of the group that it gets; None keeps that of the file that is there.

    Raises:
        OSError: It cannot be written; the file is as it was.
    """
    target = path.resolve()
    before = _status(target)
    # A name of its own: two writers must not rename each other's half.
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=SUFFIX, dir=target.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            if before is not None:
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
    _sync_directory(target.parent)


def remove_leftovers(path: Path) -> None:
    """Remove what a crash left beside a file that nobody else writes now; it may hold secrets.

    Raises:
        OSError: It cannot be removed.
    """
    target = path.resolve()
    for left in target.parent.glob(f".{glob.escape(target.name)}.*{SUFFIX}"):
        left.unlink(missing_ok=True)


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
