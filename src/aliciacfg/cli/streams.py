"""Standard streams that write all that they are given."""

import sys
from io import BufferedWriter, FileIO, RawIOBase, TextIOWrapper
from typing import TextIO


def complete() -> None:
    """Have standard output and standard error write everything, also under ``PYTHONUNBUFFERED``.

    With that variable, which is common in containers, Python's text streams stand on raw files, and drop without an
    error what a pipe or a terminal does not take at once.
    """
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
