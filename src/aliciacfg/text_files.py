"""Text files that people edit: reading any kind of them, and names as they may be shown."""

import errno
import os
import stat
from pathlib import Path

from aliciacfg.errors import SourceError, SourceProblem
from aliciacfg.file_errors import reason, right_to_read
from aliciacfg.terminal_text import printable

MAX_BYTES = 16 * 1024 * 1024


def printable_name(name: str) -> str:
    r"""Return the name of a file as it may be shown: bytes that are not UTF-8 as ``\x…``."""
    return printable(os.fsencode(name).decode("utf-8", "backslashreplace"))


def read_text(path: Path, label: str, *, inside: bool = False) -> str:
    """Read the text of a file.

    Anything may be there in place of a file, and may change between two calls: a directory, a pipe, a socket, a link
    to nothing or to itself, a file without end. None of these blocks or is read without a limit.

    Args:
        path: The file.
        label: The file's name in problems.
        inside: Whether a link must not lead out of the directory. It is set for files whose content is shown to
            callers, since the daemon may be able to read files that the callers are not.

    Raises:
        SourceError: The file cannot be used; says why and what to do.
    """
    try:
        content = read_bytes(path, label, inside=inside)
    except OSError as error:
        raise _unusable(label, _reason(error, path, label)) from error
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        message = f"is not UTF-8: byte {error.start} is invalid; save it as UTF-8"
        raise SourceError([SourceProblem(label, line, message)]) from error


def read_bytes(path: Path, label: str, *, inside: bool = False) -> bytes:
    """Read the content of a file; arguments as for ``read_text``.

    Raises:
        OSError: It cannot be read.
        SourceError: It is not a regular file, leads out of its directory, or is too large.
    """
    # Before it is opened: opening a device may have an effect.
    if not stat.S_ISREG(path.stat().st_mode):
        raise _unusable(label, "is not a regular file; replace it by one")
    if inside and not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(path.parent)):
        raise _unusable(label, "is a link that leads out of its directory; replace it by the file itself")
    # What was a file may be a pipe by now, on which a blocking call would wait for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise _unusable(label, "is not a regular file; replace it by one")
        # Not by its size alone: a file may grow while it is read.
        content = b"" if status.st_size > MAX_BYTES else file.read(MAX_BYTES + 1)
    size = max(status.st_size, len(content))
    if size > MAX_BYTES:
        raise _unusable(label, f"has {size} bytes; at most {MAX_BYTES} are allowed")
    return content


def _reason(error: OSError, path: Path, label: str) -> str:
    if error.errno == errno.ENOENT:
        return "is a link to a file that does not exist, or was removed just now; replace or remove it"
    if error.errno == errno.ELOOP:
        return "is a link that leads back to itself; replace it by the file itself"
    return f"cannot be read: {reason(error, denied=right_to_read(path, shown=label))}"


def _unusable(label: str, message: str) -> SourceError:
    return SourceError([SourceProblem(label, None, message)])
