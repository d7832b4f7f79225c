"""What commands read: documents and secrets, from files, standard input, an argument or a terminal."""

import re
import sys
from pathlib import Path
from typing import Final, NoReturn

from aliciacfg import documents
from aliciacfg.atomic_files import replace_file
from aliciacfg.cli import prompts
from aliciacfg.cli.exits import EXIT_CODES, EXIT_FAILED, EXIT_USAGE, fail
from aliciacfg.documents import Json, JsonObject
from aliciacfg.errors import OperationError, SourceError
from aliciacfg.file_errors import unreadable, unwritable

_AS_ARGUMENT: Final = """write a JSON or YAML file, or the JSON itself: '{"settings": {"volume": 7}}'"""
# Names with dots or slashes between them, as in `settings.volume` and `/settings/volume`.
_PATH: Final = re.compile(r"/?[A-Za-z0-9_-]+(?:[./][A-Za-z0-9_-]+)*")


def read_object(source: str) -> JsonObject:
    """Return a JSON or YAML object from a source as for ``read_document``; end the program if it is not an object."""
    value = read_document(source)
    if not isinstance(value, dict):
        fail(
            f"{_label(source)}: found {documents.type_name(value)}; expected a JSON or YAML object",
            EXIT_CODES["invalid_request"],
        )
    return value


def read_document(source: str) -> Json:
    """Return a document; end the program if the source is neither JSON nor YAML.

    Args:
        source: The path of a file, ``-`` for standard input, or the document itself if it begins with ``{`` or ``[``.
    """
    from aliciacfg.documents import yaml_reader

    data = _read(source)
    if not data.strip():
        # What a failed program before a pipe leaves is not the wish for a configuration without members.
        fail(f"{_label(source)} is empty; for a document without members write {{}}", EXIT_CODES["invalid_request"])
    try:
        # JSON first: libyaml rejects some valid JSON.
        return documents.decode(data)
    except OperationError:
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            fail(f"{_label(source)} is not UTF-8: byte {error.start} is invalid", EXIT_CODES["invalid_request"])
        try:
            return yaml_reader.load(text, file=_label(source)).value
        except SourceError as error:
            _fail_unreadable(source, text, error)


def _fail_unreadable(source: str, text: str, error: SourceError) -> NoReturn:
    """End the program because a document is neither JSON nor YAML; what looks like JSON is judged as such."""
    if text.lstrip().startswith(("{", "[")):
        line, problem = documents.explain_file(text)
        place = _label(source) if line is None or _is_inline(source) else f"{_label(source)}:{line}"
        message = f"{place} {problem}" if _is_inline(source) else f"{place}: {problem}"
    else:
        message = str(error)
    fail(message, EXIT_CODES["invalid_request"], hint=_AS_ARGUMENT if _is_inline(source) else None)


def _fail_no_file(source: str) -> NoReturn:
    """End the program: a source is neither a document nor a file. One like ``limits.x=5`` may be meant as one."""
    name, equals, value = source.partition("=")
    hint = _AS_ARGUMENT
    if equals and _PATH.fullmatch(name):
        meant: Json
        try:
            meant = documents.decode(value.encode(errors="surrogateescape"))
        except OperationError:
            meant = value
        for token in reversed(name.strip("./").replace("/", ".").split(".")):
            meant = {token: meant}
        hint = f"did you mean '{documents.encode(meant).decode()}'?"
    if Path(source).suffix in {".json", ".yaml", ".yml"}:
        fail(f"there is no file {source}", EXIT_FAILED)
    fail(f"{source!r} is neither JSON nor a file", EXIT_FAILED, hint=hint)


def read_text(path: Path) -> str:
    """Return the text of a file; end the program if it cannot be read or is not UTF-8."""
    try:
        return _read_file(path).decode()
    except UnicodeDecodeError as error:
        fail(f"{path} is not UTF-8: byte {error.start} is invalid", EXIT_FAILED)


def read_stdin() -> str:
    """Return standard input unchanged; end the program, without quoting it, if it is not UTF-8."""
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        fail(f"standard input is not UTF-8: byte {error.start} is invalid", EXIT_CODES["invalid_request"])


def read_secret(label: str, *, keep_newline: bool = False) -> str:
    """Return a secret that was typed twice, or is on standard input.

    A secret is never an argument, because the process list shows arguments.

    Args:
        label: What to ask for.
        keep_newline: Keep the newline at the end of standard input.
    """
    if sys.stdin.isatty():
        return prompts.ask_secret(label, twice=True)
    text = read_stdin()
    if not keep_newline:
        text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        fail(f"standard input is empty; expected there: {label}", EXIT_CODES["invalid_request"])
    return text


def json_or_text(value: str, *, otherwise: str) -> Json:
    """Return the JSON value of a text, or the text; end the program if it is broken JSON.

    Args:
        value: The text, an argument of the program.
        otherwise: What to do to have it as the string that it is, for the message.
    """
    try:
        # Python hands over arguments that are not UTF-8 as surrogates.
        return documents.decode(value.encode(errors="surrogateescape"))
    except OperationError:
        if value.lstrip().startswith(("{", "[", '"')):
            _, problem = documents.explain_file(value)
            fail(f"VALUE {problem}", EXIT_USAGE, hint=f"to set it as the string that it is, {otherwise}")
        return value


def rewrite_text(path: Path, text: str) -> None:
    """Replace the content of a file atomically and keep its mode; end the program if that fails."""
    try:
        replace_file(path, text.encode())
    except OSError as error:
        fail(unwritable(path, error), EXIT_FAILED)


def _is_inline(source: str) -> bool:
    return source.lstrip().startswith(("{", "["))


def _label(source: str) -> str:
    return "the argument" if _is_inline(source) else "standard input" if source == "-" else source


def _read(source: str) -> bytes:
    if _is_inline(source):
        # Python hands over arguments that are not UTF-8 as surrogates.
        return source.encode(errors="surrogateescape")
    if source == "-":
        return sys.stdin.buffer.read()
    if not Path(source).exists():
        _fail_no_file(source)
    return _read_file(Path(source))


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        fail(unreadable(path, error), EXIT_FAILED)
