"""A strict reader for the YAML files that people edit.

It reads YAML 1.2 with the core schema, reduced to what JSON can express. Each of these is a problem with a line number:
tags, directives, several documents, merge keys, duplicate keys, keys that are not strings, NaN and infinity, integers
beyond 64 bits, more than 32 levels, and aliases that contain themselves or expand to too many values.

Reading has two steps: ``yaml_syntax`` turns the text into nodes, this module turns nodes into values. A file without
problems, anchors and aliases is read in one step, to the same result.

YAML is parsed before ``${NAME}`` is replaced, which leads to two pitfalls:

- ``{b: ${X}}`` and ``[${X}]`` are syntax errors, because the brace opens a mapping. Write ``{b: "${X}"}``.
- ``a: ${X:- #c}`` ends at the comment, and ``a: ${X:-b: c}`` is a syntax error. Quote these values too.
"""

import math
import re
from collections.abc import Mapping
from functools import lru_cache, partial

import msgspec

from aliciacfg.documents.pointers import escape
from aliciacfg.documents.values import MAX_DEPTH, Json
from aliciacfg.documents.yaml_syntax import (
    BOM,
    SURROGATE,
    TEMPLATES,
    TOO_DEEP,
    Alias,
    Collection,
    Node,
    Problems,
    Scalar,
    free_nodes,
    is_blank,
    read_nodes,
    read_plain,
)

# The size of a file limits its own nodes; only aliases can expand a small file to a large document.
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
# Below the 4,300 digits from which Python refuses to convert a string.
_MAX_DIGITS = 400

_MERGE = "<<"
# One escape sequence after another, so that the backslashes of `\\ud83d` are not taken for the escape `\ud83d`.
_ESCAPE = re.compile(r"\\(?:u(?P<high>d[89ab][0-9a-f]{2})\\u(?P<low>d[c-f][0-9a-f]{2})|.)", re.IGNORECASE)

# The last alternative, "${" alone, matches what the other ones do not: a malformed variable.
_VARIABLE = re.compile(
    r"\$\$\{"
    r"|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>(?:(?!\$\{)[^}])*))?\}"
    r"|\$\{",
)

# Forms that a shell and Compose files have. Neither name nor text is shown: both may be parts of a password.
_OTHER_FORMS = (
    (
        re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*:?\?"),
        "${NAME:?text} is not supported; remove :? or ? and the text, or write $${ for a literal ${",
    ),
    (
        re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*-"),
        "${NAME-default} is not supported; write ${NAME:-default}, or write $${ for a literal ${",
    ),
)


class YamlDocument(msgspec.Struct, frozen=True):
    """The content of a YAML file.

    Attributes:
        value: The document; ``{}`` for a file without content.
        lines: The 1-based line of each member's key and of each item, by JSON Pointer (RFC 6901). The content of an
            alias has the lines of the anchored text.
    """

    value: Json
    lines: dict[str, int]


def load(text: str, *, file: str, variables: Mapping[str, str] | None = None) -> YamlDocument:
    """Read a YAML file.

    With ``variables``, ``${NAME}`` and ``${NAME:-default}`` in values (not in keys) are replaced once: the
    replacement is neither parsed as YAML nor searched for variables. As in a POSIX shell, the default replaces an
    unset or empty variable. A plain (unquoted) scalar that consists of exactly one ``${…}`` gets the type that the
    replacement has as a plain scalar, so an empty replacement is ``null``; any other scalar with ``${…}`` is a
    string. ``$${`` stands for ``${``. See the module's docstring for two pitfalls.

    Args:
        text: The file, decoded; a byte order mark is skipped.
        file: The file's name in problems. If it ends in ``.json``, a character beyond U+FFFF may be written as two
            escapes, a surrogate pair (RFC 8259 §7), as many JSON encoders do.
        variables: Values by name; None to leave ``${`` as it is.

    Raises:
        SourceError: The file has problems; all of them, in the order of lines, up to the first syntax error. No
            message contains a value of the file or of a variable.
    """
    text = text.removeprefix(BOM)
    if file.endswith(".json"):
        text = _ESCAPE.sub(_join_pair, text)
    plain = read_plain(text, key=_plain_key, scalar=partial(_plain_scalar, variables))
    if plain is not None:
        return YamlDocument(*plain)
    root, document = parse(text, file, variables)
    if root is not None:
        free_nodes(root)
    return document


def _join_pair(escape_sequence: re.Match[str]) -> str:
    """Return a surrogate pair as the one escape sequence that YAML has for its character, others as they are."""
    high, low = escape_sequence["high"], escape_sequence["low"]
    if high is None:
        return escape_sequence[0]
    return f"\\U{0x10000 + ((int(high, 16) - 0xD800) << 10) + int(low, 16) - 0xDC00:08X}"


def literal(text: str) -> str | None:
    """Return the meaning of a string that was loaded without variables; None if it contains a ``${NAME}``."""
    if any(match[0] != "$${" for match in _VARIABLE.finditer(text)):
        return None
    return _VARIABLE.sub("${", text)


def without_variables(text: str) -> str:
    """Return what a string that was loaded without variables says by itself, as if no variable were set."""
    return _VARIABLE.sub(lambda match: "${" if match[0] == "$${" else match["default"] or "", text)


def variable_names(text: str) -> set[str]:
    """Return the names of the variables that a text may ask for: those of its ``${NAME}`` outside of whole comments."""
    lines = (line for line in text.splitlines() if "${" in line and not line.lstrip().startswith("#"))
    return {match["name"] for line in lines for match in _VARIABLE.finditer(line) if match["name"]}


def load_tagged(text: str, *, file: str) -> YamlDocument:
    """Read a YAML file of another program: as ``load``, but a tagged scalar is a string that begins with the tag.

    Raises:
        SourceError: As for ``load``; a tagged mapping or sequence is a problem here, too.
    """
    return parse(text.removeprefix(BOM), file, None, tags_as_text=True)[1]


def parse(
    text: str, file: str, variables: Mapping[str, str] | None, *, tags_as_text: bool = False
) -> tuple[Node | None, YamlDocument]:
    """Read a YAML file for an editor; as ``load``, with the root node (None if the text has no node)."""
    problems = Problems(file)
    root = read_nodes(text, problems, tags_as_text=tags_as_text)
    values = _Values(problems, variables)
    value = {} if root is None or is_blank(root) else values.build(root, "", 0)
    problems.check()
    return root, YamlDocument(value, values.lines)


def _plain(text: str) -> Json:
    """Return the value of a plain scalar in the core schema (YAML 1.2.2 §10.3.2).

    Raises:
        ValueError: JSON cannot express the value, or 64 bits cannot hold it. The message says what to do and does
            not contain the text.
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
        raise ValueError("infinite or not a number, which JSON cannot express; quote it to make it a string")
    return text


@lru_cache(maxsize=1024)
def _plain_key(text: str, style: str) -> str:
    """Return a key that is a string, one object for those that are equal: services have the same few keys.

    Raises:
        ValueError: It is another value, or ``<<``.
    """
    if not style and (text == _MERGE or not is_plain_string(text)):
        raise ValueError("not a string")
    return text


def _plain_scalar(variables: Mapping[str, str] | None, text: str, style: str) -> Json:
    """Return the value of a scalar, variables replaced.

    Raises:
        ValueError: JSON cannot express it, or a variable cannot be replaced.
    """
    typed = not style
    if variables is not None and "${" in text:
        typed = typed and _is_variable(text)
        text = _VARIABLE.sub(lambda match: _variable(match, variables), text)
    return _plain(text) if typed else text


def _is_variable(text: str) -> bool:
    """Return whether a text consists of exactly one variable."""
    whole = _VARIABLE.fullmatch(text)
    return whole is not None and whole["name"] is not None


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
    """Builds values from nodes and records their lines; every alias becomes a copy.

    Attributes:
        lines: As ``YamlDocument`` has them.
    """

    def __init__(self, problems: Problems, variables: Mapping[str, str] | None) -> None:
        self.lines: dict[str, int] = {}
        self._problems = problems
        # Start of the node and message of each problem.
        self._reported: set[tuple[int, str]] = set()
        self._variables = variables
        # The number of values reached through aliases.
        self._aliased = 0

    def build(self, node: Node, pointer: str, depth: int, *, aliased: bool = False) -> Json:
        """Return the value of a node.

        Args:
            node: The node.
            pointer: Its JSON Pointer.
            depth: The number of collections around it.
            aliased: Whether it is reached through an alias.
        """
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

    def _wrong(self, node: Node, message: str, pointer: str, *, in_full: str = "", variable: str = "") -> None:
        # A problem in an anchored value is found again at each of its aliases.
        if (node.start, message) not in self._reported:
            self._reported.add((node.start, message))
            self._problems.add(node.line, message, pointer, in_full=in_full, variable=variable)

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
                first = f"first on line {self.lines[place]}; remove one of them"
                self._wrong(key, f"duplicate key, {first}", place, in_full=f'duplicate key "{name}", {first}')
            else:
                self.lines[place] = key.line
            members[name] = self.build(member, place, depth, aliased=aliased)
        return members

    def _key(self, key: Node, pointer: str) -> str:
        message = in_full = ""
        name = key.text if isinstance(key, Scalar) else f"(line {key.line})"
        if isinstance(key, Collection) and key.flow and key.mapping:
            message = f"a key must be a string; {TEMPLATES}"
        elif not isinstance(key, Scalar):
            message = "a key must be a string; write it out"
        elif not key.style and name == _MERGE:
            message = (
                "the merge key << is not supported: write its members out, or put what services share under defaults:"
            )
        elif not key.style and not is_plain_string(name):
            message = "a key is not a string; quote it"
            in_full = f'the key {name or "(empty)"} is not a string; quote it: "{name}"'
        if message:
            self._wrong(key, message, pointer, in_full=in_full)
        return name

    def _scalar(self, node: Scalar, pointer: str) -> Json:
        text, typed = node.text, not node.style
        if self._variables is not None and "${" in text:
            typed = typed and _is_variable(text)
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
            except _UnsetVariable as error:
                self._wrong(node, str(error), pointer, variable=error.name)
                return ""
            except ValueError as error:
                self._wrong(node, str(error), pointer)
                return ""

        return _VARIABLE.sub(replacement, node.text)


class _UnsetVariable(ValueError):
    """A variable without a value and a default.

    Attributes:
        name: Its name.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f"variable {name} is not set; set it in the environment or .env, or write ${{{name}:-default}}, or "
            f"$${{{name}}} if the text itself is meant"
        )


def _variable(match: re.Match[str], variables: Mapping[str, str]) -> str:
    """Return the replacement of a match of ``_VARIABLE``.

    Raises:
        ValueError: There is none; the message says what to do.
    """
    name, default = match["name"], match["default"]
    if match[0] == "$${":
        return "${"
    if name is None:
        for form, hint in _OTHER_FORMS:
            if form.match(match.string, match.start()):
                raise ValueError(hint)
        raise ValueError(
            "${ begins neither ${NAME} nor ${NAME:-default}; write $${ for a literal ${,"
            ' and quote a value whose default holds " #"'
        )
    value = variables.get(name)
    if not value and default is not None:
        return default
    if value is None:
        raise _UnsetVariable(name)
    if SURROGATE.search(value):
        raise ValueError(f"variable {name} is not UTF-8; set it to text")
    return value
