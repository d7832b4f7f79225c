r"""Files of environment variables, each in the dialect of its one reader.

The dialects look alike and differ in quotes, escapes and what a ``$`` does; a file for one reader is wrong for another.
For each value, the reader gets exactly the text that went in, or there is an error that names the variable.

    dotenv    python-dotenv: escapes in quotes, and ``${…}`` is replaced everywhere, also in single quotes
    export    ``sh``, for ``eval`` and ``.``: single quotes hold anything
    json      an object of strings
    compose   ``env_file`` of Docker Compose (compose-go): ``$`` in double quotes is replaced, in single quotes is not
    systemd   ``EnvironmentFile``: Unicode's noncharacters are refused
"""

import json
import re
import shlex
from collections.abc import Callable, Iterable

from aliciacfg.errors import AliciacfgError, Problem
from aliciacfg.variables.resolution import Variable

# What no reader takes for a quote, an escape, a comment, a variable, a space or the end of a line.
_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+,-]+", re.ASCII)
# Line breaks and everything else that an editor or a terminal does not show as itself.
_CONTROL = re.compile(r"[\x01-\x1f\x7f-\x9f\u2028\u2029]")
_NONCHARACTER = re.compile(
    r"[\ufdd0-\ufdef]|[" + "".join(chr(p << 16 | e) for p in range(17) for e in (0xFFFE, 0xFFFF)) + "]"
)
_DOTENV_ESCAPES = {
    "\\": r"\\", '"': r"\"", "\a": r"\a", "\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\v": r"\v",
}  # fmt: skip
# systemd's SHELL_NEED_ESCAPE: these, and no other, are read without the backslash before them.
_SYSTEMD_ESCAPES = re.compile(r'(["\\`$])')


class CannotHold(AliciacfgError):
    """A dialect cannot hold some of the values.

    Attributes:
        problems: Each with the pointer, and in its message the variable and the reason, never the value.
    """

    def __init__(self, dialect: str, problems: list[Problem]) -> None:
        self.problems = problems
        lines = "\n".join(f"  {problem.pointer}: {problem.message}" for problem in problems)
        super().__init__(f"the format {dialect} cannot hold these values; change them or use another format:\n{lines}")


class _Refused(Exception):
    """Why a dialect cannot hold a text."""


def render(dialect: str, variables: Iterable[Variable]) -> str:
    """Return the file with some variables, in their order.

    Args:
        dialect: A name of ``DIALECTS``.
        variables: Their names are ASCII letters, digits and ``_``; no text holds a NUL.

    Raises:
        CannotHold: The dialect cannot hold the text of some of them.
    """
    if dialect == "json":
        return json.dumps({item.name: item.text for item in variables}, indent=2, ensure_ascii=False) + "\n"
    line = _LINES[dialect]
    lines: list[str] = []
    problems: list[Problem] = []
    for item in variables:
        try:
            lines.append(line(item.name, item.text))
        except _Refused as reason:
            problems.append(Problem(item.pointer, f"{item.name} {reason}"))
    if problems:
        raise CannotHold(dialect, problems)
    return "".join(lines)


def _dotenv(name: str, text: str) -> str:
    if _PLAIN.fullmatch(text):
        return f"{name}={text}\n"
    # "${" would begin a variable. The variable without a name is never set, so its default is what is read.
    literal = text.replace("${", "${:-$}{")
    if literal.endswith("\\"):
        # Before 1.2.2, a backslash before the closing quote escaped the quote, although a backslash escaped it.
        literal = literal[:-1] + "${:-\\}"
    if _CONTROL.search(text):
        return f'{name}="{"".join(_DOTENV_ESCAPES.get(character, character) for character in literal)}"\n'
    escaped = literal.replace("\\", r"\\").replace("'", r"\'")
    return f"{name}='{escaped}'\n"


def _export(name: str, text: str) -> str:
    return f"export {name}={shlex.quote(text)}\n"


def _compose(name: str, text: str) -> str:
    if _PLAIN.fullmatch(text):
        return f"{name}={text}\n"
    if not _CONTROL.search(text) and "'" not in text and "\\" not in text:
        return f"{name}='{text}'\n"
    return f'{name}="{"".join(_compose_character(character) for character in text)}"\n'


def _compose_character(character: str) -> str:
    if character in '\\"$':
        return f"\\{character}"
    # Octal digits after \0.
    return f"\\0{ord(character):03o}" if character.isascii() and not character.isprintable() else character


def _systemd(name: str, text: str) -> str:
    if _NONCHARACTER.search(text):
        raise _Refused("holds a noncharacter of Unicode, such as U+FFFE, which systemd refuses")
    if _PLAIN.fullmatch(text):
        return f"{name}={text}\n"
    escaped = _SYSTEMD_ESCAPES.sub(r"\\\1", text)
    return f'{name}="{escaped}"\n'


_LINES: dict[str, Callable[[str, str], str]] = {
    "dotenv": _dotenv,
    "export": _export,
    "compose": _compose,
    "systemd": _systemd,
}

DIALECTS = ("dotenv", "export", "json", "compose", "systemd")
"""The names of the dialects."""
