"""What commands are given: documents in files, on standard input, or as the argument itself; and files rewritten."""

import sys
from pathlib import Path

from aliciacfg import documents
from aliciacfg.atomicfiles import replace_file
from aliciacfg.cli.exits import EXIT_CODES, EXIT_FAILED, fail
from aliciacfg.documents import JsonObject
from aliciacfg.errors import OperationError, SourceError


def read_object(file: str) -> JsonObject:
    """A JSON or YAML object from a file, from standard input (``-``), or from the argument itself."""
    from aliciacfg import yamlfiles  # noqa: PLC0415 - keeps the other commands quick

    if file.lstrip().startswith("{"):
        text, label = file, "the argument"
    elif file == "-":
        text, label = sys.stdin.read(), "standard input"
    else:
        text, label = read_text(Path(file)), file
    try:
        # JSON first: a few things that JSON writers write, libyaml does not read.
        value = documents.decode(text.encode())
    except OperationError:
        try:
            value = yamlfiles.load(text, file=label).value
        except SourceError as error:
            fail(str(error), EXIT_CODES["invalid_request"])
    if not isinstance(value, dict):
        fail(
            f"{label}: found {documents.type_name(value)}; expected a JSON or YAML object",
            EXIT_CODES["invalid_request"],
        )
    return value


def read_text(path: Path) -> str:
    """The text of a file; ends the program if there is none."""
    try:
        return path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        fail(f"{path} cannot be read: {error}", EXIT_FAILED)


def read_stdin() -> str:
    """All of standard input, exactly; ends the program if it is no text. What is read may be a secret."""
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError:
        fail("standard input is not UTF-8", EXIT_CODES["invalid_request"])


def rewrite_text(path: Path, text: str) -> None:
    """Give a file another text at once, with its mode as it was; ends the program if that cannot be."""
    try:
        replace_file(path, text.encode())
    except OSError as error:
        fail(f"{path} cannot be written: {error.strerror}", EXIT_FAILED)
