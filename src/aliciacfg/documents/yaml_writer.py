"""A writer of YAML: whole documents and members in block style, values on one line in flow style.

The text is YAML 1.2 that a reader of YAML 1.1 understands in the same way.
"""

import json
import re
from collections.abc import Iterator, Mapping

from aliciacfg.documents.values import Json
from aliciacfg.documents.yaml_reader import is_plain_string
from aliciacfg.documents.yaml_syntax import FORBIDDEN

# Strings that need no quotes; narrower than YAML: no indicators, and no first character of a number or a date.
_SAFE = re.compile(r"[A-Za-z_/](?:[A-Za-z0-9_./@+ -]*[A-Za-z0-9_./@+-])?")
# Strings in YAML 1.2, but booleans in YAML 1.1.
_YAML_1_1_BOOLEANS = frozenset({"y", "n", "yes", "no", "on", "off"})
_DUMP_INDENT = 2
_FLOW_WIDTH = 72
_NO_DOT = re.compile(r"^(-?[0-9]+)e")


def dump(value: Json) -> str:
    """Return a value as a YAML document in block style."""
    if isinstance(value, dict) and value:
        return "\n".join(block_lines(value, 0, _DUMP_INDENT)) + "\n"
    return f"{flow_text(value)}\n"


def dump_blocks(value: Json) -> str:
    """Return a value as a YAML document for people: as ``dump``, with long arrays and those of objects as blocks."""
    if isinstance(value, dict | list) and value:
        return "\n".join(_nested_lines(value, 0)) + "\n"
    return f"{flow_text(value)}\n"


def block_lines(members: Mapping[str, Json], column: int, indent: int) -> Iterator[str]:
    """Yield the lines of members in block style, each without a newline.

    Args:
        members: Names and values; an empty object or an array is written in flow style.
        column: The column of the names.
        indent: By how much a nested mapping is indented further.
    """
    for key, member in members.items():
        lead = f"{' ' * column}{scalar_text(key)}:"
        if isinstance(member, dict) and member:
            yield lead
            yield from block_lines(member, column + indent, indent)
        else:
            yield f"{lead} {flow_text(member)}"


def _nested_lines(value: dict[str, Json] | list[Json], column: int) -> Iterator[str]:
    """Yield the lines of an object or array that is not empty, at a column."""
    margin = " " * column
    if isinstance(value, dict):
        for key, member in value.items():
            lead = f"{margin}{scalar_text(key)}:"
            if isinstance(member, dict | list) and not _fits_on_line(member):
                yield lead
                yield from _nested_lines(member, column + _DUMP_INDENT)
            else:
                yield f"{lead} {flow_text(member)}"
        return
    for item in value:
        if isinstance(item, dict | list) and item and not _fits_on_line(item):
            first, *further = _nested_lines(item, column + _DUMP_INDENT)
            yield f"{margin}- {first[column + _DUMP_INDENT :]}"
            yield from further
        else:
            yield f"{margin}- {flow_text(item)}"


def _fits_on_line(value: dict[str, Json] | list[Json]) -> bool:
    """Return whether flow style is as easy to read: what is empty, and short arrays of scalars."""
    if isinstance(value, dict):
        return not value
    scalars = not any(isinstance(item, dict | list) for item in value)
    return not value or (scalars and len(flow_text(value)) <= _FLOW_WIDTH)


def flow_text(value: Json, style: str = "") -> str:
    """Return a value on one line, in flow style; for ``style`` see ``scalar_text``."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{scalar_text(key)}: {flow_text(member)}" for key, member in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(flow_text, value)) + "]"
    if isinstance(value, str):
        return scalar_text(value, style)
    # In YAML 1.1 a number with an exponent needs a dot in its mantissa; otherwise it is a string.
    return _NO_DOT.sub(r"\1.0e", json.dumps(value))


def scalar_text(text: str, style: str = "") -> str:
    """Return a string as a scalar on one line.

    Args:
        text: The string.
        style: The quote to use, ``'`` or ``"``; empty to use quotes only where a reader could misread the string. A
            string that cannot stand in single quotes gets double ones.
    """
    special = text.lower() in _YAML_1_1_BOOLEANS or not is_plain_string(text)
    if style not in {"'", '"'} and _SAFE.fullmatch(text) and not special:
        return text
    printable = not FORBIDDEN.search(text) and not re.search(r"[\t\r\n]", text)
    if style == "'" and printable:
        return "'" + text.replace("'", "''") + "'"
    # YAML has the escapes of JSON except for surrogate pairs, so characters beyond ASCII are not escaped.
    quoted = json.dumps(text, ensure_ascii=False)
    return FORBIDDEN.sub(lambda match: f"\\u{ord(match[0]):04x}", quoted)
