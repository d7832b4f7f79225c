"""What commands are given: documents in files, on standard input, or as the argument itself; and files rewritten."""

import sys
from pathlib import Path

import click

from aliciacfg import documents
from aliciacfg.atomic_files import replace_file
from aliciacfg.cli.exits import EXIT_CODES, EXIT_FAILED, fail
from aliciacfg.documents import Json, JsonObject
from aliciacfg.errors import OperationError, SourceError


def read_object(file: str) -> JsonObject:
    """A JSON or YAML object, from where ``read_document`` has it; ends the program if it is none."""
    value = read_document(file)
    if not isinstance(value, dict):
        fail(
            f"{_label(file)}: found {documents.type_name(value)}; expected a JSON or YAML object",
            EXIT_CODES["invalid_request"],
        )
    return value


def read_document(file: str) -> Json:
    """JSON or YAML from a file, from standard input (``-``), or from the argument itself where it begins like JSON.

    Ends the program if it is neither.
    """
    from aliciacfg.documents import yaml_reader  # noqa: PLC0415 - keeps the other commands quick

    data = _data(file)
    try:
        # JSON first: a few things that JSON writers write, libyaml does not read.
        return documents.decode(data)
    except OperationError:
        try:
            return yaml_reader.load(data.decode(), file=_label(file)).value
        except UnicodeDecodeError as error:
            fail(f"{_label(file)} is not UTF-8: byte {error.start} is invalid", EXIT_CODES["invalid_request"])
        except SourceError as error:
            fail(str(error), EXIT_CODES["invalid_request"])


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


def read_secret(label: str, *, keep_newline: bool = False) -> str:
    """A secret, typed twice or from standard input; never an argument, which the process list would show.

    Args:
        label: What is asked for, in words for people.
        keep_newline: Do not drop the newline at the end of standard input.
    """
    if sys.stdin.isatty():
        return click.prompt(label, hide_input=True, confirmation_prompt=True, err=True)
    text = read_stdin()
    if not keep_newline:
        text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        fail(f"standard input is empty; expected there: {label}", EXIT_CODES["invalid_request"])
    return text


def rewrite_text(path: Path, text: str) -> None:
    """Give a file another text at once, with its mode as it was; ends the program if that cannot be."""
    try:
        replace_file(path, text.encode())
    except OSError as error:
        fail(f"{path} cannot be written: {error.strerror}", EXIT_FAILED)


def _is_inline(file: str) -> bool:
    return file.lstrip().startswith(("{", "["))


def _label(file: str) -> str:
    return "the argument" if _is_inline(file) else "standard input" if file == "-" else file


def _data(file: str) -> bytes:
    if _is_inline(file):
        # Arguments that are not UTF-8 reach Python as surrogates.
        return file.encode(errors="surrogateescape")
    if file == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(file).read_bytes()
    except OSError as error:
        fail(f"{file} cannot be read: {error}", EXIT_FAILED)
