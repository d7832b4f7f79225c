"""Standard streams: all three are there, and write all that they are given, or the command says why not."""

import errno
import os
import sys
from contextlib import suppress
from io import BufferedWriter, FileIO, RawIOBase, TextIOWrapper
from pathlib import Path
from typing import Final, NoReturn, TextIO

from aliciacfg.cli import notices
from aliciacfg.file_errors import reason, remedy

_OF_OUTPUT: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


def complete() -> None:
    """Have standard output and standard error write everything, also under ``PYTHONUNBUFFERED``.

    One that was closed before the start is the null device: there is nothing to read, and what is printed is dropped.
    With that variable, which is common in containers, Python's text streams stand on raw files, and drop without an
    error what a pipe or a terminal does not take at once.
    """
    if None in (sys.stdin, sys.stdout, sys.stderr):
        _open_missing()
    sys.stdout = completed(sys.stdout)
    sys.stderr = completed(sys.stderr)


def completed(stream: TextIO) -> TextIO:
    """Return a stream that writes each line completely, to the same file; the stream itself if it does."""
    # None if it was closed; in tests it may be anything.
    raw: object = getattr(stream, "buffer", None)
    if not isinstance(raw, RawIOBase):
        return stream
    file = FileIO(raw.fileno(), "w", closefd=False)
    return TextIOWrapper(BufferedWriter(file), encoding=stream.encoding, errors=stream.errors, line_buffering=True)


def end_with(error: OSError, *, code: int) -> NoReturn:
    """End the program because of an error that no command expects, such as a full disk behind standard output.

    Raises:
        OSError: Nothing is known to do about it, so it may be a fault of this program.
    """
    if isinstance(error, FileNotFoundError) and _is_nowhere():
        notices.print_error("the current directory was removed; change to another one")
        sys.exit(code)
    if not remedy(error):
        raise error
    place = error.filename or ("standard output" if error.errno in _OF_OUTPUT else None)
    with suppress(OSError):
        notices.print_error(reason(error) if place is None else f"{place} cannot be written: {reason(error)}")
    # What is left in the buffer would fail once more.
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), 1)
    sys.exit(code)


def _is_nowhere() -> bool:
    try:
        Path.cwd()
    except FileNotFoundError:
        return True
    return False


def _open_missing() -> None:
    """Have the null device in place of each standard stream that was closed before the start.

    Otherwise the next file or socket gets its number, and what is printed gets into it.
    """
    from aliciacfg.process.line_writer import open_missing_streams

    open_missing_streams()
    for descriptor, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(descriptor, mode, encoding="utf-8", closefd=False))
