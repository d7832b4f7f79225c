r"""The ``.env`` file: which forms of a line count, and what is wrong with the others.

These forms count, as most tools read them: ``NAME=value``, also with ``export`` before the name and with spaces around
``=``; a value in single or double quotes, which may hold line breaks; a comment after a space. In double quotes
``\n``, ``\t``, ``\"`` and ``\\`` are replaced; ``${NAME}`` in a value is not. Everything else is a problem with its
line, for a line that is passed over would silently become the default of ``${NAME:-default}``.
"""

import contextlib
import io
import os
import re
from pathlib import Path

from dotenv.parser import Binding, parse_stream

from aliciacfg.errors import SourceError, SourceProblem
from aliciacfg.text_files import read_text

NAME = ".env"

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# A quoted value with such a line has probably lost its closing quote. Base64, as in certificates, does not match.
_ASSIGNMENT = re.compile(r"^[ \t]*(?:export[ \t]+)?[A-Za-z_][A-Za-z0-9_]*[ \t]*=(?!=?[ \t]*$)", re.MULTILINE)
_BOM = "\ufeff"


def read(path: Path) -> dict[str, str]:
    """Return the variables of a ``.env`` file; none if there is no file, or a directory (a virtual environment).

    Raises:
        SourceError: The file cannot be read, or lines of it; with each line, and without any value.
    """
    # Where that cannot be found out, reading says why.
    with contextlib.suppress(OSError):
        if path.is_dir() or not os.path.lexists(path):
            return {}
    return parse(read_text(path, NAME))


def parse(text: str) -> dict[str, str]:
    """Return the variables in the text of a ``.env`` file.

    Raises:
        SourceError: As for ``read``.
    """
    values: dict[str, str] = {}
    lines: dict[str, int] = {}
    problems: list[SourceProblem] = []
    for binding in parse_stream(io.StringIO(text.removeprefix(_BOM), newline="")):
        line = _line(binding)
        name, value = binding.key, binding.value
        if name is None and not binding.error:
            # A comment, or the end of the file.
            continue
        message = _problem(binding)
        if message is None and name in lines:
            message = f"{name} was already set on line {lines[name]}; remove one of them"
        if message is not None:
            problems.append(SourceProblem(NAME, line, message))
        elif name is not None and value is not None:
            values[name], lines[name] = value, line
    if problems:
        raise SourceError(problems)
    return values


def _problem(binding: Binding) -> str | None:
    """Return what is wrong with a line, without its content: it may be a secret without a name."""
    name, value = binding.key, binding.value
    if binding.error or name is None:
        return "cannot be read; write NAME=value, and close each quote on its line"
    if _VARIABLE.fullmatch(name) is None:
        return (
            "does not begin with the name of a variable; write NAME=value, the name in letters a to z, digits and _, "
            "beginning with no digit"
        )
    if value is None:
        # Without the name: it may be a line of a secret.
        return "has no value; write NAME=value, or NAME= for an empty one"
    if _ASSIGNMENT.search(value) and "\n" in binding.original.string.strip():
        return f"the quote of {name} is closed only after lines that set variables; close it on its line"
    if "\0" in value:
        return f"the value of {name} contains a zero byte; remove it"
    return None


def _line(binding: Binding) -> int:
    """Return the 1-based line on which a binding begins; the parser counts the empty lines before it as its own."""
    text = binding.original.string
    blank = text[: len(text) - len(text.lstrip())]
    return binding.original.line + len(re.findall(r"\r\n|\r|\n", blank))
