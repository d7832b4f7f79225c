"""Why a file cannot be used, and what to do about it: what people read of an ``OSError``, by its number."""

import errno
import os
import pwd
import stat
from pathlib import Path
from typing import Final

_REMEDIES: Final = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space, or have the quota raised",
    errno.EROFS: "mount it for writing",
    errno.EIO: "the disk may be failing: `dmesg` says more",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "raise the limit of open files of this machine (sysctl fs.file-max)",
    errno.EFBIG: "raise the limit of the size of files (ulimit -f)",
    errno.ENOMEM: "free some memory",
    errno.ENOBUFS: "free some memory",
    errno.ENAMETOOLONG: "choose a shorter name",
}


def remedy(error: OSError) -> str:
    """Return what to do about an error; empty for one that needs to know the file, as a missing right does."""
    return "" if error.errno is None else _REMEDIES.get(error.errno, "")


def reason(error: OSError, *, denied: str = "") -> str:
    """Return why something failed, and what to do where that is known.

    Args:
        error: The error.
        denied: What to do if a right is missing.
    """
    what = error.strerror or str(error)
    todo = denied if isinstance(error, PermissionError) else remedy(error)
    return f"{what}; {todo}" if todo else what


def unwritable(path: Path, error: OSError, *, done: str = "written") -> str:
    """Return why a file cannot be written, and what to do, as a sentence.

    Args:
        path: The file, as the reader knows it.
        error: What ``atomic_files.replace_file`` raised, or another function that changes the directory of the file.
        done: What was to be done with it.
    """
    message = f"{path} cannot be {done}: "
    if isinstance(error, FileNotFoundError) and not path.parent.exists():
        return f"{message}there is no directory {path.parent}; make it first"
    # Only of a missing right: a link that leads back to itself cannot be resolved.
    return message + reason(error, denied=_right_to_write(path) if isinstance(error, PermissionError) else "")


def unreadable(path: Path, error: OSError) -> str:
    """Return why a file of one user cannot be read, and what to do, as a sentence.

    Args:
        path: The file.
        error: What reading it raised.
    """
    return f"{path} cannot be read: {reason(error, denied=right_to_read(path))}"


def _right_to_write(path: Path) -> str:
    """Return how to get the right to replace a file; empty if that is not known."""
    try:
        # The file is replaced, so the rights of its directory count.
        status = path.resolve().parent.stat()
    except OSError:
        return ""
    if status.st_uid != os.geteuid():
        return f"{path.parent} belongs to {_user(status.st_uid)}: run it as that user"
    if status.st_mode & stat.S_IWUSR:
        return f"`lsattr -d {path.parent} {path}` says whether they are immutable"
    return f"{path.parent} has mode {stat.S_IMODE(status.st_mode):04o}: chmod u+w {path.parent}"


def right_to_read(path: Path, *, shown: str | None = None) -> str:
    """Return how to get the right to read a file or directory; empty if that is not known.

    Args:
        path: The file or directory.
        shown: Its name in the text, if it is not its path.
    """
    me = os.geteuid()
    try:
        status = path.stat()
    except OSError:
        return f"{_user(me)} may not enter its directory"
    if status.st_uid != me:
        return f"it belongs to {_user(status.st_uid)}: chown {_name(me) or me} {shown or path}"
    return "" if status.st_mode & stat.S_IRUSR else f"chmod u+rX {shown or path}"


def _user(number: int) -> str:
    return _name(number) or f"the user with the id {number}"


def _name(number: int) -> str | None:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return None
