"""The files that the address of a database names: the password file, and those for TLS.

The password file has the format of libpq (PostgreSQL, chapter 34.16): lines of ``host:port:database:user:password``, in
which ``*`` stands for anything, and a backslash stands before a colon or backslash that is meant as such. It is read
here, because the driver takes no backslash back from passwords, fails at a line that is cut short, and says of a file
that it does not use no more than that the password is wrong.
"""

import itertools
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

from aliciacfg.file_errors import unreadable

_PORT = "5432"
_FIELDS = 5
_TLS_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
_FIELD = re.compile(r"((?:\\.|[^:\\])*)(?::|$)")
_ESCAPED = re.compile(r"\\(.)")
_HOST = re.compile(r"(\[[^\]]*\]|[^:]*)(?::(.*))?")


@dataclass(frozen=True, slots=True)
class Prepared:
    """An address, and what its files hold.

    Attributes:
        url: The address without its password file.
        password: The password in it; empty if it has none, None if the address names no such file, or none is needed.
        lacking: Why there is no password; empty if there is one.
    """

    url: str
    password: str | None = None
    lacking: str = ""


def missing_files(url: str) -> list[str]:
    """Return the files for TLS that an address names and that are missing, each with the name of its option."""
    query = dict(parse_qsl(urlsplit(url).query))
    return [f"{query[name]} ({name})" for name in _TLS_FILES if name in query and not Path(query[name]).exists()]


def prepare(url: str) -> Prepared:
    """Return an address with the password in the file that it names.

    Args:
        url: ``postgresql://…``
    """
    parts = urlsplit(url)
    query = parse_qsl(parts.query, keep_blank_values=True)
    named = dict(query)
    if "passfile" not in named:
        return Prepared(url)
    others = [(name, value) for name, value in query if name != "passfile"]
    bare = parts._replace(query=urlencode(others)).geturl()
    if ":" in parts.netloc.rpartition("@")[0] or "password" in named or "PGPASSWORD" in os.environ:
        return Prepared(bare)
    password, lacking = _look_up(Path(named["passfile"]), _places(parts, named))
    return Prepared(bare, password, lacking)


def _look_up(file: Path, places: list[tuple[str, ...]]) -> tuple[str, str]:
    """Return the password for the first place that has a line, and why there is none."""
    try:
        with file.open("rb") as opened:
            if stat.S_IMODE(os.fstat(opened.fileno()).st_mode) & 0o077:
                return "", f"the password file {file} can be read by others, so it is not used; run: chmod 600 {file}"
            lines = opened.read().decode(errors="surrogateescape").splitlines()
    except FileNotFoundError:
        return "", f"the password file {file} is missing"
    except OSError as error:
        return "", f"the password file {unreadable(file, error)}"
    parsed = [_parse(line) for line in lines if line.strip() and not line.startswith("#")]
    for place, fields in itertools.product(places, parsed):
        if len(fields) == _FIELDS and all(field in {"*", part} for field, part in zip(fields, place, strict=False)):
            return _ESCAPED.sub(r"\1", fields[-1]), ""
    return "", f"the password file {file} has no line for {' or '.join(':'.join(place) for place in places)}"


def _parse(line: str) -> list[str]:
    """Return the fields of a line; the password as it stands there, with everything after the fourth colon."""
    fields: list[str] = []
    end = 0
    while len(fields) < _FIELDS - 1 and (found := _FIELD.match(line, end)) and found.end() < len(line):
        fields.append(_ESCAPED.sub(r"\1", found[1]))
        end = found.end()
    return [*fields, line[end:]]


def _places(parts: SplitResult, query: dict[str, str]) -> list[tuple[str, ...]]:
    """Return host, port, database and user of every server that an address names, as lines of the file name them."""
    hosts = [_HOST.match(item) for item in parts.netloc.rpartition("@")[2].split(",")]
    named = [(unquote(found[1]).strip("[]"), found[2] or "") for found in hosts if found is not None]
    if "host" in query:
        named = [(host, "") for host in query["host"].split(",")]
    ports = query.get("port", "").split(",")
    user = query.get("user") or unquote(parts.netloc.rpartition("@")[0])
    database = query.get("dbname") or query.get("database") or unquote(parts.path.removeprefix("/")) or user
    return [
        # A socket counts as this machine.
        ("localhost" if not host or host.startswith("/") else host, port or ports[number % len(ports)] or _PORT,
         database, user)
        for number, (host, port) in enumerate(named)
    ]  # fmt: skip
