"""YAML files that people edit, read strictly.

The dialect is YAML 1.2 with the core schema, cut down to what JSON can say. Refused, each with its line:
tags, directives, several documents, merge keys, duplicate keys, keys that are not strings, NaN and infinity,
integers beyond 64 bits, more than 32 levels, aliases that contain themselves or multiply beyond bounds.

Reading has two steps, events to nodes (what the text is, in ``yaml_syntax``) and nodes to values (what it means, here).

Two traps of ``${NAME}`` come from YAML, which sees the text first:

- ``{b: ${X}}`` and ``[${X}]`` are syntax errors, because braces open a mapping there. Quote: ``{b: "${X}"}``.
- ``a: ${X:- #c}`` is cut at the comment, and ``a: ${X:-b: c}`` is a syntax error. Quote those too.
"""

import math
import re
from collections.abc import Mapping

import msgspec

from aliciacfg.documents.pointers import escape
from aliciacfg.documents.values import MAX_DEPTH, Json
from aliciacfg.documents.yaml_syntax import (
    BOM,
    SURROGATE,
    TOO_DEEP,
    Alias,
    Collection,
    Node,
    Problems,
    Scalar,
    is_blank,
    read_nodes,
)

# A file's own nodes are bounded by its size; only aliases can make much out of little.
_MAX_ALIASED_NODES = 100_000

CONSTANTS: dict[str, Json] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_BASES = {"0o": 8, "0x": 16}
# Python refuses to convert more than 4,300 digits.
_MAX_DIGITS = 400

# The last alternative, "${" alone, is what no other could read.
_VARIABLE = re.compile(
    r"\$\$\{"
    r"|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>(?:(?!\$\{)[^}])*))?\}"
    r"|\$\{",
)


class YamlDocument(msgspec.Struct, frozen=True):
    """What a YAML file says.

    Attributes:
        value: The document; a file without content is ``{}``.
        lines: RFC 6901 JSON Pointer of each member and item to the 1-based line of its key or of the item.
            What an alias stands for has the lines of the anchored text.
    """

    value: Json
    lines: dict[str, int]


def load(text: str, *, file: str, variables: Mapping[str, str] | None = None) -> YamlDocument:
    """Read a YAML file.

    With ``variables``, ``${NAME}`` and ``${NAME:-default}`` in values (not in keys) are replaced once: what
    is put in is never read as YAML structure and never replaced again. As in a POSIX shell the default stands
    in for an unset or an empty variable. A plain (unquoted) scalar that is exactly one ``${…}`` takes the
    type its text has as a plain scalar, so an empty one is ``null``; any other scalar with ``${…}`` is a
    string. ``$${`` is a literal ``${``. The module's docstring names two traps.

    Args:
        text: The file, decoded; a byte order mark is skipped.
        file: Its name in problems.
        variables: Values by name, or None to leave ``${`` alone.

    Raises:
        SourceError: With every problem, in the order of lines. A syntax error ends the search. No message
            holds a value, neither of the file nor of a variable.
    """
    return parse(text.removeprefix(BOM), file, variables)[1]


def literal(text: str) -> str | None:
    """What a string of a file that was loaded without variables means; None where it holds a ``${NAME}``."""
    if any(match[0] != "$${" for match in _VARIABLE.finditer(text)):
        return None
    return _VARIABLE.sub("${", text)


def parse(text: str, file: str, variables: Mapping[str, str] | None) -> tuple[Node | None, YamlDocument]:
    """The root node, None if there is not even an empty one, and what the text says."""
    problems = Problems(file)
    root = read_nodes(text, problems)
    values = _Values(problems, variables)
    value = {} if root is None or is_blank(root) else values.build(root, "", 0)
    problems.check()
    return root, YamlDocument(value, values.lines)


def _plain(text: str) -> Json:
    """The value of a plain scalar in the core schema (YAML 1.2.2 §10.3.2).

    Raises:
        ValueError: JSON or 64 bits cannot hold it. The message tells what to do, without the text.
    """
    if text in CONSTANTS:
        return CONSTANTS[text]
    if text[0] not in "-+.0123456789":
        return text
    if _INTEGER.fullmatch(text):
        if len(text) > _MAX_DIGITS or not fits(number := int(text, _BASES.get(text[:2], 10))):
            raise ValueError("an integer beyond 64 bits; quote it to make it a string")
        return number
    if _FLOAT.fullmatch(text):
        if math.isinf(real := float(text)):
            raise ValueError("a number beyond the range of a double; quote it to make it a string")
        return real
    if _NOT_FINITE.fullmatch(text):
        raise ValueError("infinite or not a number, which JSON cannot say; quote it to make it a string")
    return text


def fits(number: int) -> bool:
    """Return whether 64 bits, signed or unsigned, hold an integer."""
    return -(2**63) <= number < 2**64


def is_plain_string(text: str) -> bool:
    """Return whether a plain scalar with this text is a string."""
    try:
        return isinstance(_plain(text), str)
    except ValueError:
        return False


class _Values:
    """Turns nodes into values, and notes their lines. Every alias gets a copy of its own."""

    def __init__(self, problems: Problems, variables: Mapping[str, str] | None) -> None:
        self.lines: dict[str, int] = {}
        self._problems = problems
        self._told: set[tuple[int, str]] = set()
        self._variables = variables
        self._aliased = 0

    def build(self, node: Node, pointer: str, depth: int, *, aliased: bool = False) -> Json:
        """The value of ``node``, which stands in ``depth`` collections, in an alias if ``aliased``."""
        self._aliased += aliased
        if self._aliased > _MAX_ALIASED_NODES:
            message = f"aliases expand to more than {_MAX_ALIASED_NODES} values; use fewer"
            self._problems.fail(node.line, message, pointer)
        if isinstance(node, Scalar):
            return self._scalar(node, pointer)
        if isinstance(node, Collection):
            if depth >= MAX_DEPTH:
                self._problems.fail(node.line, TOO_DEEP, pointer)
            collection = self._mapping if node.mapping else self._sequence
            return collection(node, pointer, depth + 1, aliased=aliased)
        target = node.target if isinstance(node, Alias) else None
        return None if target is None else self.build(target, pointer, depth, aliased=True)

    def _wrong(self, node: Node, message: str, pointer: str) -> None:
        # What is wrong in an anchored value is met again at each of its aliases.
        if (node.start, message) not in self._told:
            self._told.add((node.start, message))
            self._problems.add(node.line, message, pointer)

    def _sequence(self, node: Collection, pointer: str, depth: int, *, aliased: bool) -> Json:
        items: list[Json] = []
        for index, item in enumerate(node.children):
            place = f"{pointer}/{index}"
            self.lines[place] = item.line
            items.append(self.build(item, place, depth, aliased=aliased))
        return items

    def _mapping(self, node: Collection, pointer: str, depth: int, *, aliased: bool) -> Json:
        members: dict[str, Json] = {}
        for key, member in zip(node.children[::2], node.children[1::2], strict=True):
            name = self._key(key, pointer)
            place = f"{pointer}/{escape(name)}"
            if name in members:
                message = f'duplicate key "{name}", first on line {self.lines[place]}; remove one of them'
                self._wrong(key, message, place)
            else:
                self.lines[place] = key.line
            members[name] = self.build(member, place, depth, aliased=aliased)
        return members

    def _key(self, key: Node, pointer: str) -> str:
        message = None
        name = key.text if isinstance(key, Scalar) else f"(line {key.line})"
        if not isinstance(key, Scalar):
            message = "a key must be a string; write it out"
        elif not key.style and name == "<<":
            message = "the merge key << is not supported: write its members out"
        elif not key.style and not is_plain_string(name):
            message = f'the key {name or "(empty)"} is not a string; quote it: "{name}"'
        if message is not None:
            self._wrong(key, message, pointer)
        return name

    def _scalar(self, node: Scalar, pointer: str) -> Json:
        text, typed = node.text, not node.style
        if self._variables is not None and "${" in text:
            whole = _VARIABLE.fullmatch(text)
            typed = typed and whole is not None and whole["name"] is not None
            text = self._substitute(node, self._variables, pointer)
        if not typed:
            return text
        try:
            return _plain(text)
        except ValueError as error:
            self._wrong(node, str(error), pointer)
            return None

    def _substitute(self, node: Scalar, variables: Mapping[str, str], pointer: str) -> str:
        def replacement(match: re.Match[str]) -> str:
            try:
                return _variable(match, variables)
            except ValueError as error:
                self._wrong(node, str(error), pointer)
                return ""

        return _VARIABLE.sub(replacement, node.text)


def _variable(match: re.Match[str], variables: Mapping[str, str]) -> str:
    """What a match of ``_VARIABLE`` stands for.

    Raises:
        ValueError: Nothing. The message tells what to do.
    """
    name, default = match["name"], match["default"]
    if match[0] == "$${":
        return "${"
    if name is None:
        raise ValueError(
            "${ begins neither ${NAME} nor ${NAME:-default}; write $${ for a literal ${,"
            ' and quote a value whose default holds " #"'
        )
    value = variables.get(name)
    if not value and default is not None:
        return default
    if value is None:
        raise ValueError(
            f"variable {name} is not set; set it in the environment or .env, or write ${{{name}:-default}}"
        )
    if SURROGATE.search(value):
        raise ValueError(f"variable {name} is not UTF-8; set it to text")
    return value
