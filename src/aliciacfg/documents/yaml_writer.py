"""Values as YAML text: on lines of their own in block style, or on one line in flow style."""

import json
import re
from collections.abc import Iterator, Mapping

from aliciacfg.documents.values import Json
from aliciacfg.documents.yaml_reader import is_plain_string
from aliciacfg.documents.yaml_syntax import FORBIDDEN

# Narrower than YAML: no indicators, and nothing that starts like a number or a date.
_SAFE = re.compile(r"[A-Za-z_/](?:[A-Za-z0-9_./@+ -]*[A-Za-z0-9_./@+-])?")
# Strings here, but booleans to programs that still read YAML 1.1.
_YAML_1_1_BOOLEANS = frozenset({"y", "n", "yes", "no", "on", "off"})
_DUMP_INDENT = 2
_NO_DOT = re.compile(r"^(-?[0-9]+)e")


def dump(value: Json) -> str:
    """A value as YAML 1.2 in block style, which readers of YAML 1.1 take for the same."""
    if isinstance(value, dict) and value:
        return "\n".join(block_lines(value, 0, _DUMP_INDENT)) + "\n"
    return f"{flow_text(value)}\n"


def block_lines(members: Mapping[str, Json], column: int, indent: int) -> Iterator[str]:
    """The lines of members in block style."""
    for key, member in members.items():
        lead = f"{' ' * column}{scalar_text(key)}:"
        if isinstance(member, dict) and member:
            yield lead
            yield from block_lines(member, column + indent, indent)
        else:
            yield f"{lead} {flow_text(member)}"


def flow_text(value: Json, style: str = "") -> str:
    """A value on one line, in flow style; ``style`` is the quote to use for a string if it can be."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{scalar_text(key)}: {flow_text(member)}" for key, member in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(flow_text, value)) + "]"
    if isinstance(value, str):
        return scalar_text(value, style)
    # Without a dot in its mantissa a number with an exponent is a string in YAML 1.1.
    return _NO_DOT.sub(r"\1.0e", json.dumps(value))


def scalar_text(text: str, style: str = "") -> str:
    """A string as a scalar on one line, plain only where nobody could read it differently."""
    special = text.lower() in _YAML_1_1_BOOLEANS or not is_plain_string(text)
    if style not in {"'", '"'} and _SAFE.fullmatch(text) and not special:
        return text
    printable = not FORBIDDEN.search(text) and not re.search(r"[\t\r\n]", text)
    if style == "'" and printable:
        return "'" + text.replace("'", "''") + "'"
    # JSON escapes are YAML escapes but for surrogate pairs, so characters beyond ASCII stay as they are.
    quoted = json.dumps(text, ensure_ascii=False)
    return FORBIDDEN.sub(lambda match: f"\\u{ord(match[0]):04x}", quoted)
