"""YAML files that people edit: read strictly, changed in place without touching anything else.

The dialect is YAML 1.2 with the core schema, cut down to what JSON can say. Refused, each with its line:
tags, directives, several documents, merge keys, duplicate keys, keys that are not strings, NaN and infinity,
integers beyond 64 bits, more than 32 levels, aliases that contain themselves or multiply beyond bounds.

Reading has two steps, events to nodes (what the text is) and nodes to values (what it means); editing splices
the text at the marks of the same nodes and proves the result by reading it again. The three share the nodes,
which is why they share this module.

Two traps of ``${NAME}`` come from YAML, which sees the text first:

- ``{b: ${X}}`` and ``[${X}]`` are syntax errors, because braces open a mapping there. Quote: ``{b: "${X}"}``.
- ``a: ${X:- #c}`` is cut at the comment, and ``a: ${X:-b: c}`` is a syntax error. Quote those too.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Never, Protocol, cast

import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    MappingStartEvent,
    ScalarEvent,
)

from aliciacfg.documents import pointers
from aliciacfg.documents.pointers import escape, parse_pointer
from aliciacfg.documents.values import MAX_DEPTH, Json, encode, equal
from aliciacfg.errors import SourceError, SourceProblem

# A file's own nodes are bounded by its size; only aliases can make much out of little.
_MAX_ALIASED_NODES = 100_000

_BOM = "\ufeff"
_NEWLINE = re.compile(r"\r\n|\r|\n")
# YAML 1.2 §5.1 without U+0085, U+2028 and U+2029: libyaml still ends lines there, as YAML 1.1 did, so that a
# comment could end and hidden text begin where every editor shows one line.
_FORBIDDEN = re.compile(
    r"[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff"
    r"\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]",
)
_SURROGATE = re.compile(r"[\ud800-\udfff]")

_CONSTANTS: dict[str, Json] = {
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

_NO_DIRECTIVES = "directives such as %YAML are not supported: remove the line"
# Beyond it a line is not searched for hints: the patterns take quadratic time.
_MAX_HINTED = 500
# What to do about a syntax error, by the line it is on and the parser's words on the next.
_HINTS = (
    (re.compile(r"%"), _NO_DIRECTIVES),
    (re.compile(r" *\t"), "indent with spaces, not tabs"),
    (
        re.compile(r"(?:.*[\s,:\[{])?[^\s\"'#]*\$\{"),
        'inside { } and [ ], or with ": " in its default, ${NAME} must be quoted: "${NAME}"',
    ),
    (re.compile(r".*[\s,:\[{][@`%]"), "quote a value that begins with @, ` or %"),
    (re.compile(r".*\\u[dD][89abAB]"), "write the character itself, not as two \\u halves"),
    (re.compile(r".*\n(?:mapping values|found unexpected ':')"), 'quote a value that holds ":"'),
    (re.compile(r""), "check quotes, brackets and indentation here and just above"),
)
_TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels; use fewer"


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
    return _parse(text.removeprefix(_BOM), file, variables)[1]


def replace(text: str, pointer: str, value: Json, *, file: str) -> str:
    """Set the value at ``pointer`` in an environment file and keep every byte outside the old value.

    Comments inside the old value go with it; a comment behind it, or between a key and the lines of its
    value, stays. A missing member is added as the last of its mapping, with the mappings above it where they
    are missing or ``null``. In ``value``, ``${`` is escaped, so that ``load`` with variables gives exactly
    ``value``. If that is there already, the text stays as it is.

    Raises:
        SourceError: The text does not parse; the pointer leads through a scalar, an alias or past the end of
            a sequence; YAML cannot say the value; or the change would show elsewhere, as with an anchored
            value that aliases repeat.
        InvalidRequest: The pointer is malformed.
    """
    return _Edit(text, pointer, file).replace(value)


def replace_strings(text: str, values: Mapping[str, str], *, file: str) -> str:
    """Put other strings in the place of many strings at once, and keep every byte outside of them.

    As ``replace`` for each pointer of ``values``, in the time of one, and all or none.

    Raises:
        SourceError: As for ``replace``, with every problem; or there is no string at a pointer.
        InvalidRequest: A pointer is malformed.
    """
    return _Edit(text, "", file).replace_strings(values)


def literal(text: str) -> str | None:
    """What a string of a file that was loaded without variables means; None where it holds a ``${NAME}``."""
    if any(match[0] != "$${" for match in _VARIABLE.finditer(text)):
        return None
    return _VARIABLE.sub("${", text)


def remove(text: str, pointer: str, *, file: str) -> str:
    """Remove the member or item at ``pointer`` and keep every byte outside its lines.

    A comment on a removed line goes with it, comment lines above it stay. A mapping left empty becomes
    ``{}``, a sequence ``[]``. Where nothing is at ``pointer``, the text stays as it is.

    Raises:
        SourceError: As for ``replace``, or the pointer is the whole document.
        InvalidRequest: The pointer is malformed.
    """
    return _Edit(text, pointer, file).remove()


def dump(value: Json) -> str:
    """A value as YAML 1.2 in block style, which readers of YAML 1.1 take for the same."""
    if isinstance(value, dict) and value:
        return "\n".join(_lines(value, 0, _DUMP_INDENT)) + "\n"
    return f"{_flow(value)}\n"


class _Problems:
    """Collects what is wrong with one file."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._found: list[tuple[int, SourceProblem]] = []

    def add(self, line: int, message: str, pointer: str = "") -> None:
        self._found.append((line, SourceProblem(self._file, line, message, pointer)))

    def fail(self, line: int, message: str, pointer: str = "") -> Never:
        self.add(line, message, pointer)
        raise self._error()

    def check(self) -> None:
        if self._found:
            raise self._error()

    def _error(self) -> SourceError:
        return SourceError(problem for _, problem in sorted(self._found, key=itemgetter(0)))


class _Node(msgspec.Struct):
    """A piece of the text: ``text[start:end]``, an anchor included; ``line`` is 1-based."""

    start: int
    end: int
    line: int


class _Scalar(_Node):
    text: str
    style: str  # "" for plain, else the indicator: ' " | >


class _Alias(_Node):
    target: _Node | None  # None after a problem


class _Collection(_Node):
    """A sequence, or a mapping, whose children are key, value, key, value and so on.

    A block collection's own ``end`` is of no use: the parser puts it at the next token, after any comments.
    """

    mapping: bool
    flow: bool
    children: list[_Node]


class _Mark(Protocol):
    index: int
    line: int
    column: int


class _Event(Protocol):
    """What ruamel.yaml's untyped events carry; each kind has its part of it."""

    start_mark: _Mark
    end_mark: _Mark
    anchor: str | None
    tag: str | None
    value: str
    style: str | None
    flow_style: bool
    version: object
    tags: object


class _SyntaxError(Protocol):
    context: str | None
    context_mark: _Mark | None
    problem: str
    problem_mark: _Mark


def _parse(text: str, file: str, variables: Mapping[str, str] | None) -> tuple[_Node | None, YamlDocument]:
    """The root node, None if there is not even an empty one, and what the text says."""
    problems = _Problems(file)
    if bad := _FORBIDDEN.search(text):
        line = len(_NEWLINE.findall(text[: bad.start()])) + 1
        code = f"{ord(bad[0]):04X}"
        problems.fail(line, f'the character U+{code} is not allowed; write "\\u{code}" in double quotes')
    try:
        root = _Reader(problems).read(text)
    except MarkedYAMLError as error:
        _fail_syntax(text, cast("_SyntaxError", error), problems)
    values = _Values(problems, variables)
    value = {} if root is None or _is_blank(root) else values.build(root, "", 0)
    problems.check()
    return root, YamlDocument(value, values.lines)


def _is_blank(node: _Node) -> bool:
    """Whether a node has no text: what ``a:`` or ``---`` leaves out."""
    return isinstance(node, _Scalar) and not node.style and node.start == node.end


def _fail_syntax(text: str, error: _SyntaxError, problems: _Problems) -> Never:
    mark, begin = error.problem_mark, error.context_mark
    # At the end of a file the parser stands on the line after the last one.
    rows = _NEWLINE.split(text.rstrip("\r\n"))
    row = min(mark.line, len(rows) - 1)
    found = error.problem
    if begin is not None and begin.line < row:
        found = f"{error.context} that begins on line {begin.line + 1}, {found}"
    hinting = f"{rows[row][:_MAX_HINTED]}\n{error.problem}"
    hint = next(hint for pattern, hint in _HINTS if pattern.match(hinting))
    problems.fail(row + 1, f"not YAML: {found} (column {mark.column + 1}); {hint}")


class _Reader:
    """Builds nodes out of parse events, and refuses what YAML has and JSON has not."""

    def __init__(self, problems: _Problems) -> None:
        self._problems = problems
        self._documents = 0
        self._root: _Node | None = None
        self._open: list[_Collection] = []
        self._anchors: dict[str, _Node] = {}

    def read(self, text: str) -> _Node | None:
        # pure=False is libyaml (ruamel.yaml.clib), many times as fast as the parser in Python.
        events = YAML(typ="safe", pure=False).parse(text)  # pyright: ignore[reportUnknownMemberType] - untyped
        for event in cast("Iterator[_Event]", events):
            if isinstance(event, ScalarEvent):
                self._add(event, _Scalar(*_span(event), event.value, event.style or ""))
            elif isinstance(event, CollectionStartEvent):
                self._begin(event, mapping=isinstance(event, MappingStartEvent))
            elif isinstance(event, CollectionEndEvent):
                self._open.pop().end = event.end_mark.index
            elif isinstance(event, AliasEvent):
                self._place(self._alias(event))
            elif isinstance(event, DocumentStartEvent):
                self._begin_document(event)
        return self._root

    def _begin_document(self, event: _Event) -> None:
        line = event.start_mark.line + 1
        if event.version or event.tags:
            self._problems.add(line, _NO_DIRECTIVES)
        self._documents += 1
        if self._documents > 1:
            self._problems.fail(line, "a second document begins here; one file holds one document")

    def _begin(self, event: _Event, *, mapping: bool) -> None:
        node = _Collection(*_span(event), mapping, event.flow_style, [])
        if len(self._open) >= MAX_DEPTH:
            self._problems.fail(node.line, _TOO_DEEP)
        self._add(event, node)
        self._open.append(node)

    def _add(self, event: _Event, node: _Node) -> None:
        if event.tag is not None:
            self._problems.add(node.line, "tags are not supported: remove it, or quote a string with a !")
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        self._place(node)

    def _alias(self, event: _Event) -> _Alias:
        target = self._anchors.get(event.anchor or "")
        line = event.start_mark.line + 1
        if target is None:
            # Not by its name: it may be a password that somebody forgot to quote.
            self._problems.add(line, "an alias without an anchor above it; quote a string that begins with *")
        elif any(target is collection for collection in self._open):
            self._problems.add(line, "an alias inside the value it stands for; write the value out")
            target = None
        return _Alias(*_span(event), target)

    def _place(self, node: _Node) -> None:
        if self._open:
            self._open[-1].children.append(node)
        else:
            self._root = node


def _span(event: _Event) -> tuple[int, int, int]:
    return event.start_mark.index, event.end_mark.index, event.start_mark.line + 1


def _plain(text: str) -> Json:
    """The value of a plain scalar in the core schema (YAML 1.2.2 §10.3.2).

    Raises:
        ValueError: JSON or 64 bits cannot hold it. The message tells what to do, without the text.
    """
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if text[0] not in "-+.0123456789":
        return text
    if _INTEGER.fullmatch(text):
        if len(text) > _MAX_DIGITS or not _fits(number := int(text, _BASES.get(text[:2], 10))):
            raise ValueError("an integer beyond 64 bits; quote it to make it a string")
        return number
    if _FLOAT.fullmatch(text):
        if math.isinf(real := float(text)):
            raise ValueError("a number beyond the range of a double; quote it to make it a string")
        return real
    if _NOT_FINITE.fullmatch(text):
        raise ValueError("infinite or not a number, which JSON cannot say; quote it to make it a string")
    return text


def _fits(number: int) -> bool:
    return -(2**63) <= number < 2**64


def _is_plain_string(text: str) -> bool:
    try:
        return isinstance(_plain(text), str)
    except ValueError:
        return False


class _Values:
    """Turns nodes into values, and notes their lines. Every alias gets a copy of its own."""

    def __init__(self, problems: _Problems, variables: Mapping[str, str] | None) -> None:
        self.lines: dict[str, int] = {}
        self._problems = problems
        self._told: set[tuple[int, str]] = set()
        self._variables = variables
        self._aliased = 0

    def build(self, node: _Node, pointer: str, depth: int, *, aliased: bool = False) -> Json:
        """The value of ``node``, which stands in ``depth`` collections, in an alias if ``aliased``."""
        self._aliased += aliased
        if self._aliased > _MAX_ALIASED_NODES:
            message = f"aliases expand to more than {_MAX_ALIASED_NODES} values; use fewer"
            self._problems.fail(node.line, message, pointer)
        if isinstance(node, _Scalar):
            return self._scalar(node, pointer)
        if isinstance(node, _Collection):
            if depth >= MAX_DEPTH:
                self._problems.fail(node.line, _TOO_DEEP, pointer)
            collection = self._mapping if node.mapping else self._sequence
            return collection(node, pointer, depth + 1, aliased=aliased)
        target = node.target if isinstance(node, _Alias) else None
        return None if target is None else self.build(target, pointer, depth, aliased=True)

    def _wrong(self, node: _Node, message: str, pointer: str) -> None:
        # What is wrong in an anchored value is met again at each of its aliases.
        if (node.start, message) not in self._told:
            self._told.add((node.start, message))
            self._problems.add(node.line, message, pointer)

    def _sequence(self, node: _Collection, pointer: str, depth: int, *, aliased: bool) -> Json:
        items: list[Json] = []
        for index, item in enumerate(node.children):
            place = f"{pointer}/{index}"
            self.lines[place] = item.line
            items.append(self.build(item, place, depth, aliased=aliased))
        return items

    def _mapping(self, node: _Collection, pointer: str, depth: int, *, aliased: bool) -> Json:
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

    def _key(self, key: _Node, pointer: str) -> str:
        message = None
        name = key.text if isinstance(key, _Scalar) else f"(line {key.line})"
        if not isinstance(key, _Scalar):
            message = "a key must be a string; write it out"
        elif not key.style and name == "<<":
            message = "the merge key << is not supported: write its members out"
        elif not key.style and not _is_plain_string(name):
            message = f'the key {name or "(empty)"} is not a string; quote it: "{name}"'
        if message is not None:
            self._wrong(key, message, pointer)
        return name

    def _scalar(self, node: _Scalar, pointer: str) -> Json:
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

    def _substitute(self, node: _Scalar, variables: Mapping[str, str], pointer: str) -> str:
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
    if _SURROGATE.search(value):
        raise ValueError(f"variable {name} is not UTF-8; set it to text")
    return value


# Editing

_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")
# Between a key and its value, or a dash and the one before it, may stand white space and comments.
_COLON = re.compile(r"(?:\s++|#[^\r\n]*+)*+:")
_DASH = re.compile(r"(?:&\S++)?(?:\s++|#[^\r\n]*+)*+-")
_COMMA = re.compile(r"[ \t]*,(?:[ \t]*+(?!#))?")
_KEEP = re.compile(r"(?:&\S+\s+)?[|>][0-9]?\+")
_HEADER_COMMENT = re.compile(r"[^\r\n#]*?([ \t]+#[^\r\n]*)")
_COMMENT_OR_NOTHING = re.compile(r"[ \t]*(?:#.*)?")

# Narrower than YAML: no indicators, and nothing that starts like a number or a date.
_SAFE = re.compile(r"[A-Za-z_/](?:[A-Za-z0-9_./@+ -]*[A-Za-z0-9_./@+-])?")
_HALF_A_PAIR = "found half a surrogate pair; expected text that UTF-8 can encode"
# Strings here, but booleans to programs that still read YAML 1.1.
_YAML_1_1_BOOLEANS = frozenset({"y", "n", "yes", "no", "on", "off"})


class _Slot(msgspec.Struct, frozen=True):
    """Where a value stands.

    Attributes:
        node: The value.
        after: Index just behind the colon or dash that introduces it, or of the value itself.
        lead: What separates a new value from what is before ``after``.
        column: Of its key or dash; what is nested in the value stands further right.
        flow: Whether block style is impossible here.
    """

    node: _Node
    after: int
    lead: str
    column: int
    flow: bool


class _Edit:
    """One change of one text at one pointer."""

    def __init__(self, text: str, pointer: str, file: str) -> None:
        self._tokens = parse_pointer(pointer)
        self._bom = _BOM if text.startswith(_BOM) else ""
        self._text = text.removeprefix(_BOM)
        self._file, self._pointer = file, pointer
        self._root, document = _parse(self._text, file, None)
        self._value, self._lines = document.value, document.lines
        newline = _NEWLINE.search(text)
        self._newline = newline[0] if newline else "\n"
        self._indent = self._usual_indent()

    def replace(self, value: Json) -> str:
        if len(self._tokens) > MAX_DEPTH:
            self._fail(_TOO_DEEP)
        try:
            value = _escaped(value, len(self._tokens) + 1)
        except ValueError as error:
            self._fail(str(error))
        path, missing = self._walk()
        node = path[-1][0].children[path[-1][1]] if path else self._root
        if missing:
            self._check_can_nest(node)
        elif equal(_at(self._value, self._tokens), value):
            return self._bom + self._text
        wanted = _with(self._value, self._tokens, value)
        for token in reversed(missing[1:]):
            value = {token: value}
        if missing and isinstance(node, _Collection) and node.children:
            return self._proven(self._append(node, missing[0], value), wanted)
        if missing:
            value = {missing[0]: value}
        if node is None or (not path and _is_blank(node)):
            return self._proven(self._put_first(node, value), wanted)
        return self._proven(self._put(self._slot(path), value), wanted)

    def remove(self) -> str:
        if not self._tokens:
            self._fail("the whole document cannot be removed; name a member")
        path, missing = self._walk()
        if missing:
            return self._bom + self._text
        container = _at(self._value, self._tokens[:-1])
        rest = _without(container, self._tokens[-1])
        wanted = _with(self._value, self._tokens[:-1], rest)
        if not rest:
            text = self._put(self._slot(path[:-1]), rest)
        elif path[-1][0].flow:
            text = self._cut_flow(*path[-1])
        else:
            text = self._cut_lines(*path[-1])
        return self._proven(text, wanted)

    def replace_strings(self, values: Mapping[str, str]) -> str:
        shared = {id(target) for target in _alias_targets(self._root)}
        wanted: dict[str, str] = {}
        pieces: list[tuple[int, int, str]] = []
        problems: list[SourceProblem] = []
        for pointer, value in values.items():
            self._pointer, self._tokens = pointer, parse_pointer(pointer)
            wanted[pointer] = value.replace("${", "$${")
            try:
                pieces.append(self._string_piece(wanted[pointer], shared))
            except SourceError as error:
                problems += error.problems
        if problems:
            raise SourceError(problems)
        self._pointer, self._tokens = "", ()
        text = self._text
        for start, end, new in sorted(pieces, reverse=True):
            text = text[:start] + new + text[end:]
        return self._proven(text, pointers.replace_strings(self._value, wanted))

    def _string_piece(self, value: str, shared: set[int]) -> tuple[int, int, str]:
        """Where the scalar at the pointer stands in the text, and what is to stand there instead."""
        if _SURROGATE.search(value):
            self._fail(_HALF_A_PAIR)
        path, missing = self._walk()
        nodes = [parent.children[index] for parent, index in path]
        node = nodes[-1] if nodes else self._root
        if missing or not isinstance(_at(self._value, self._tokens), str):
            self._fail("no string stands there")
        if isinstance(node, _Alias):
            self._fail("an alias stands there; write its value out first", node)
        if not isinstance(node, _Scalar) or any(id(part) in shared for part in [self._root, *nodes]):
            self._fail("aliases repeat the value elsewhere; write it out there first", node)
        style = node.style if node.style in {"'", '"'} else '"'
        return node.start, self._end(node), _string(value, style) + self._header_comment(node)

    def _walk(self) -> tuple[list[tuple[_Collection, int]], tuple[str, ...]]:
        """The way to the pointer, as far as there is one: collections with the index of the child to take."""
        path: list[tuple[_Collection, int]] = []
        node = self._root
        for depth, token in enumerate(self._tokens):
            if isinstance(node, _Alias):
                self._fail("an alias stands in the way; write its value out first", node)
            index = _child(node, token) if isinstance(node, _Collection) else None
            if not isinstance(node, _Collection) or index is None:
                return path, self._tokens[depth:]
            path.append((node, index))
            node = node.children[index]
        return path, ()

    def _check_can_nest(self, node: _Node | None) -> None:
        if isinstance(node, _Collection) and not node.mapping:
            self._fail(f"no such item; the sequence has {len(node.children)}, counted from 0")
        if isinstance(node, _Scalar) and (node.style or _CONSTANTS.get(node.text, "") is not None):
            self._fail("a scalar stands in the way; replace it by a mapping first")

    def _slot(self, path: list[tuple[_Collection, int]]) -> _Slot:
        text, root = self._text, self._root
        if not path:
            start = root.start if root else 0
            alone = not text[self._line_start(start) : start].strip()
            return _Slot(root or _Scalar(0, 0, 1, "", ""), start, "", -self._indent, flow=not alone)
        parent, index = path[-1]
        node = parent.children[index]
        if parent.mapping:
            key = parent.children[index - 1]
            colon = _COLON.match(text, key.end)
            # `{a, b}` has members without a colon.
            after, lead = (colon.end(), " ") if colon else (key.end, ": ")
            return _Slot(node, after, lead, self._column(key.start), parent.flow)
        if parent.flow:
            return _Slot(node, node.start, "", 0, flow=True)
        dash = self._dash(parent, index)
        return _Slot(node, dash + 1, " ", self._column(dash), flow=False)

    def _put(self, slot: _Slot, value: Json) -> str:
        """The text with another value in a slot."""
        text, node, start, end = self._text, slot.node, slot.node.start, self._end(slot.node)
        gap = text[slot.after : start]
        # A block collection begins behind a dash (or at the root), or below its key, with comments between.
        block = isinstance(node, _Collection) and not node.flow
        below = block and _NEWLINE.search(gap) is not None
        behind = self._line_end(end)
        if isinstance(value, dict) and value and not slot.flow:
            # A mapping in block style takes the place of another, or goes below the line of its key.
            if not slot.lead or (block and not below and text[start] != "&"):
                return text[:start] + self._block(value, self._column(start)).lstrip(" ") + text[end:]
            comment = "" if block else self._header_comment(node) + text[end:behind]
            column = slot.column + self._indent
            if isinstance(node, _Collection) and _is_block_mapping(node):
                column = self._column(node.children[0].start)
            lines = self._block(value, column)
            return text[: slot.after] + gap.rstrip() + comment + self._newline + lines + text[behind:]
        new = _flow(value, node.style if isinstance(node, _Scalar) else "")
        if below:
            return text[: slot.after] + slot.lead + new + gap.rstrip() + text[behind:]
        lead = "" if gap and slot.lead != ": " else slot.lead
        return text[:start] + lead + new + self._header_comment(node) + text[end:]

    def _put_first(self, blank: _Node | None, value: Json) -> str:
        """The text with a value where the document was empty."""
        at = blank.start if blank else len(self._text)
        before, behind = self._text[:at], self._text[at:]
        if before and not before.endswith(("\n", "\r")):
            before += self._newline
        body = self._block(value, 0) if isinstance(value, dict) and value else _flow(value)
        return before + body + self._newline + behind

    def _append(self, mapping: _Collection, key: str, value: Json) -> str:
        """The text with one more member in a mapping that has some."""
        end = self._end(mapping.children[-1])
        if mapping.flow:
            return f"{self._text[:end]}, {_string(key)}: {_flow(value)}{self._text[end:]}"
        lines = self._block({key: value}, self._column(mapping.children[0].start))
        at = self._line_end(end)
        return self._text[:at] + self._newline + lines + self._text[at:]

    def _cut_lines(self, parent: _Collection, index: int) -> str:
        """The text without a child of a block collection that has others."""
        text, child = self._text, parent.children[index]
        start = parent.children[index - 1].start if parent.mapping else self._dash(parent, index)
        behind = self._line_end(self._end(child))
        if text[self._line_start(start) : start].strip():
            # The first member in `- a: 1`: the next one moves up behind the dash, where the columns agree.
            return text[:start] + text[behind:].lstrip()
        return text[: self._line_start(start)] + _NEWLINE.sub("", text[behind:], count=1)

    def _cut_flow(self, parent: _Collection, index: int) -> str:
        """The text without a child of a flow collection that has others."""
        text, end = self._text, self._end(parent.children[index])
        first = index - 1 if parent.mapping else index
        start = parent.children[first].start
        before = self._end(parent.children[first - 1]) if first else start
        if first and not _NEWLINE.search(text[before:start]):
            return text[:before] + text[end:]
        comma = _COMMA.match(text, end)
        end = comma.end() if comma else end
        line, behind = self._line_start(start), self._line_end(end)
        if text[line:start].strip() or not _COMMENT_OR_NOTHING.fullmatch(text[end:behind]):
            return text[:start] + text[end:]
        return text[:line] + _NEWLINE.sub("", text[behind:], count=1)

    def _proven(self, text: str, wanted: Json) -> str:
        """The new text, if it says what was wanted and nothing else changed."""
        try:
            proven = encode(load(text, file=self._file).value) == encode(wanted)
        except SourceError:
            proven = False
        if not proven:
            self._fail("cannot be changed without changing more; edit the file by hand")
        return self._bom + text

    def _fail(self, message: str, node: _Node | None = None) -> Never:
        """Refuse the change at ``node``, else at as much of the pointer as there is."""
        place = self._pointer
        while place and place not in self._lines:
            place = place.rpartition("/")[0]
        line = node.line if node else self._lines.get(place, 1)
        name = self._pointer or "(the document)"
        raise SourceError([SourceProblem(self._file, line, f"{name}: {message}", self._pointer)])

    def _block(self, members: Mapping[str, Json], column: int) -> str:
        """Members in block style, without a newline at the end."""
        return self._newline.join(_lines(members, column, self._indent))

    def _usual_indent(self) -> int:
        """By how much the file indents, told by the first mapping in its root."""
        if isinstance(self._root, _Collection) and _is_block_mapping(self._root):
            for member in self._root.children[1::2]:
                if isinstance(member, _Collection) and _is_block_mapping(member):
                    first = self._column(member.children[0].start)
                    return max(1, first - self._column(self._root.children[0].start))
        return 2

    def _end(self, node: _Node) -> int:
        """Index behind the last character of a node, before any comment behind it."""
        if isinstance(node, _Collection) and not node.flow:
            return self._end(node.children[-1])
        if _KEEP.match(self._text, node.start, node.end):
            # The empty lines below it belong to the value.
            return self._without_newline(node.end)
        if isinstance(node, _Scalar) and node.style in {"|", ">"}:
            return node.start + len(self._text[node.start : node.end].rstrip("\r\n"))
        return node.end

    def _without_newline(self, index: int) -> int:
        newlines = ("\r\n", "\n", "\r")
        return index - next((len(end) for end in newlines if self._text.endswith(end, 0, index)), 0)

    def _header_comment(self, node: _Node) -> str:
        """The comment in the first line of a block scalar, which is inside its marks."""
        if isinstance(node, _Scalar) and node.style in {"|", ">"}:
            comment = _HEADER_COMMENT.match(self._text, node.start)
            return comment[1] if comment else ""
        return ""

    def _dash(self, sequence: _Collection, index: int) -> int:
        begin = self._end(sequence.children[index - 1]) if index else sequence.start
        dash = _DASH.match(self._text, begin)
        return dash.end() - 1 if dash else begin

    def _line_start(self, index: int) -> int:
        return max(self._text.rfind("\n", 0, index), self._text.rfind("\r", 0, index)) + 1

    def _line_end(self, index: int) -> int:
        newline = _NEWLINE.search(self._text, index)
        return newline.start() if newline else len(self._text)

    def _column(self, index: int) -> int:
        return index - self._line_start(index)


def _alias_targets(node: _Node | None) -> Iterator[_Node]:
    """What the aliases below a node stand for."""
    if isinstance(node, _Alias) and node.target is not None:
        yield node.target
    elif isinstance(node, _Collection):
        for child in node.children:
            yield from _alias_targets(child)


def _is_block_mapping(node: _Collection) -> bool:
    return node.mapping and not node.flow


def _child(node: _Collection, token: str) -> int | None:
    """The index in ``children`` of what a reference token names."""
    if not node.mapping:
        return int(token) if _INDEX.fullmatch(token) and int(token) < len(node.children) else None
    for index, key in enumerate(node.children[::2]):
        if isinstance(key, _Scalar) and key.text == token:
            return 2 * index + 1
    return None


def _at(value: Json, tokens: Sequence[str]) -> Json:
    """The value at tokens that are known to lead somewhere."""
    for token in tokens:
        if isinstance(value, list):
            value = value[int(token)]
        elif isinstance(value, dict):
            value = value[token]
    return value


def _with(document: Json, tokens: Sequence[str], value: Json) -> Json:
    """A copy of a document with a value set, and mappings made where they are missing."""
    if not tokens:
        return value
    token, *rest = tokens
    if isinstance(document, list):
        index = int(token)
        return [*document[:index], _with(document[index], rest, value), *document[index + 1 :]]
    members = document if isinstance(document, dict) else {}
    return {**members, token: _with(members.get(token), rest, value)}


def _without(container: Json, token: str) -> Json:
    """A copy of an object without a member, or of an array without an item."""
    if isinstance(container, list):
        return [*container[: int(token)], *container[int(token) + 1 :]]
    members = container if isinstance(container, dict) else {}
    return {key: member for key, member in members.items() if key != token}


def _escaped(value: Json, level: int) -> Json:
    """A copy of a value, at a level of the document, whose strings are safe from substitution.

    Raises:
        ValueError: A YAML file cannot hold it. The message says why, without the value.
    """
    if isinstance(value, dict | list) and level > MAX_DEPTH:
        raise ValueError(_TOO_DEEP)
    if isinstance(value, dict):
        return {_encodable(key): _escaped(member, level + 1) for key, member in value.items()}
    if isinstance(value, list):
        return [_escaped(item, level + 1) for item in value]
    if isinstance(value, str):
        return _encodable(value).replace("${", "$${")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("found NaN or infinity; expected a number")
    if isinstance(value, int) and not _fits(value):
        raise ValueError("found an integer beyond 64 bits; write it as a string")
    return value


def _encodable(text: str) -> str:
    if _SURROGATE.search(text):
        raise ValueError(_HALF_A_PAIR)
    return text


def _lines(members: Mapping[str, Json], column: int, indent: int) -> Iterator[str]:
    """The lines of members in block style."""
    for key, member in members.items():
        lead = f"{' ' * column}{_string(key)}:"
        if isinstance(member, dict) and member:
            yield lead
            yield from _lines(member, column + indent, indent)
        else:
            yield f"{lead} {_flow(member)}"


_DUMP_INDENT = 2
_NO_DOT = re.compile(r"^(-?[0-9]+)e")


def _flow(value: Json, style: str = "") -> str:
    """A value on one line, in flow style; ``style`` is the quote to use for a string if it can be."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_string(key)}: {_flow(member)}" for key, member in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if isinstance(value, str):
        return _string(value, style)
    # Without a dot in its mantissa a number with an exponent is a string in YAML 1.1.
    return _NO_DOT.sub(r"\1.0e", json.dumps(value))


def _string(text: str, style: str = "") -> str:
    """A string as a scalar on one line, plain only where nobody could read it differently."""
    special = text.lower() in _YAML_1_1_BOOLEANS or not _is_plain_string(text)
    if style not in {"'", '"'} and _SAFE.fullmatch(text) and not special:
        return text
    printable = not _FORBIDDEN.search(text) and not re.search(r"[\t\r\n]", text)
    if style == "'" and printable:
        return "'" + text.replace("'", "''") + "'"
    # JSON escapes are YAML escapes but for surrogate pairs, so characters beyond ASCII stay as they are.
    quoted = json.dumps(text, ensure_ascii=False)
    return _FORBIDDEN.sub(lambda match: f"\\u{ord(match[0]):04x}", quoted)
