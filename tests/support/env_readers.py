"""Readers of files of environment variables that are not the code under test.

python-dotenv and systemd's own parser are the real ones. Compose's is a Go library, so what stands here for it is
written after its rules, and was compared with compose-go's parser on thousands of random files:
https://docs.docker.com/compose/how-tos/environment-variables/variable-interpolation/
"""

import ctypes
import io
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from dotenv import dotenv_values

_SIMPLE_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", '"': '"'}
_ESCAPE = re.compile(r"\\(0[0-7]{3}|[abfnrtv\\\"$])")
_LIBRARIES = ("*/systemd/libsystemd-shared-*.so", "systemd/libsystemd-shared-*.so")


def dotenv(text: str) -> dict[str, str | None]:
    """What python-dotenv reads from a file, with the replacements that ``load_dotenv`` makes by default."""
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        return dict(dotenv_values(file.name))


def compose(text: str) -> dict[str, str]:
    """What Compose reads from an ``env_file``: quotes, escapes and replacements as its documentation has them."""
    return dict(_compose(io.StringIO(text, newline="")))


def _compose(text: io.StringIO) -> Iterator[tuple[str, str]]:
    rest = text.read()
    while rest := rest.lstrip():
        if rest.startswith("#"):
            rest = rest.partition("\n")[2]
            continue
        name, equals, rest = rest.partition("=")
        assert equals
        assert re.fullmatch(r"\w+", name), name
        rest = rest.lstrip(" \t")
        if rest[:1] not in {"'", '"'}:
            line, _, rest = rest.partition("\n")
            yield name, _interpolated(line.partition(" #")[0].rstrip())
            continue
        found = re.match(r"""(['"])((?:\\.|(?!\1)[^\\])*)\1""", rest, re.DOTALL)
        assert found is not None, "a quote without an end"
        inner = re.sub(rf"\\{found[1]}", found[1], found[2]) if found[1] == "'" else _unescaped(found[2])
        yield name, inner
        rest = rest[found.end() :]


def _unescaped(text: str) -> str:
    """Return the value of the inside of double quotes: escapes first, then variables."""
    marked = _ESCAPE.sub(lambda found: "$$" if found[1] == "$" else _character(found[1]), text)
    return _interpolated(marked)


def _character(escape: str) -> str:
    return _SIMPLE_ESCAPES[escape] if escape in _SIMPLE_ESCAPES else chr(int(escape, 8))


def _interpolated(text: str) -> str:
    """Return a text with ``$$`` as ``$``, and no variable set."""
    return re.sub(r"\$(\$|\{[^}]*\}|[A-Za-z_]\w*)", lambda found: "$" if found[1] == "$" else "", text)


def systemd_library() -> ctypes.CDLL | None:
    """Return systemd's own code, as far as this machine has it."""
    found = sorted(path for pattern in _LIBRARIES for path in Path("/usr/lib").glob(pattern))
    return ctypes.CDLL(str(found[-1])) if found else None


def systemd(library: ctypes.CDLL, text: str) -> dict[str, str]:
    """What systemd reads from an ``EnvironmentFile``, and keeps: names and values that it calls invalid are missing."""
    read = library.load_env_file
    read.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.POINTER(ctypes.POINTER(ctypes.c_char_p))]
    valid = library.env_assignment_is_valid
    valid.argtypes, valid.restype = [ctypes.c_char_p], ctypes.c_bool
    lines = ctypes.POINTER(ctypes.c_char_p)()
    with tempfile.NamedTemporaryFile("wb") as file:
        file.write(text.encode())
        file.flush()
        code = read(None, os.fsencode(file.name), ctypes.byref(lines))
    if code < 0:
        raise OSError(-code, "systemd refuses the file")
    # The list ends with a null pointer; a file without variables has no list.
    found: dict[str, str] = {}
    position = 0
    while lines and (line := lines[position]) is not None:
        if valid(line):
            name, _, value = line.decode().partition("=")
            found[name] = value
        position += 1
    return found
