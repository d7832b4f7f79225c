"""The text of a YAML file as nodes: what it is, before what it means.

The only module that imports ruamel.yaml. Refused here, each with its line: syntax errors, tags, directives, several
documents, more than 32 levels, aliases without an anchor or inside their own value, and characters that an editor
would not show as they are read.
"""

import re
from collections.abc import Iterator
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

from aliciacfg.documents.values import MAX_DEPTH
from aliciacfg.errors import SourceError, SourceProblem

BOM = "\ufeff"
NEWLINE = re.compile(r"\r\n|\r|\n")
# YAML 1.2 §5.1 without U+0085, U+2028 and U+2029: libyaml still ends lines there, as YAML 1.1 did, so that a
# comment could end and hidden text begin where every editor shows one line.
FORBIDDEN = re.compile(
    r"[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff"
    r"\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]",
)
SURROGATE = re.compile(r"[\ud800-\udfff]")

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
TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels; use fewer"


class Problems:
    """Collects what is wrong with one file."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._found: list[tuple[int, SourceProblem]] = []

    def add(self, line: int, message: str, pointer: str = "") -> None:
        """Add a problem on a 1-based line."""
        self._found.append((line, SourceProblem(self._file, line, message, pointer)))

    def fail(self, line: int, message: str, pointer: str = "") -> Never:
        """Add a last problem and raise a SourceError with all of them."""
        self.add(line, message, pointer)
        raise self._error()

    def check(self) -> None:
        """Raise a SourceError if there are problems."""
        if self._found:
            raise self._error()

    def _error(self) -> SourceError:
        return SourceError(problem for _, problem in sorted(self._found, key=itemgetter(0)))


class Node(msgspec.Struct):
    """A piece of the text: ``text[start:end]``, an anchor included; ``line`` is 1-based."""

    start: int
    end: int
    line: int


class Scalar(Node):
    """A scalar; ``style`` is empty for a plain one, else its indicator: ``'``, ``"``, ``|`` or ``>``."""

    text: str
    style: str


class Alias(Node):
    """An alias; ``target`` is None after a problem."""

    target: Node | None


class Collection(Node):
    """A sequence, or a mapping, whose children are key, value, key, value and so on.

    A block collection's own ``end`` is of no use: the parser puts it at the next token, after any comments.
    """

    mapping: bool
    flow: bool
    children: list[Node]


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


def read_nodes(text: str, problems: Problems) -> Node | None:
    """The root node, None if there is not even an empty one."""
    if bad := FORBIDDEN.search(text):
        line = len(NEWLINE.findall(text[: bad.start()])) + 1
        code = f"{ord(bad[0]):04X}"
        problems.fail(line, f'the character U+{code} is not allowed; write "\\u{code}" in double quotes')
    try:
        return _Reader(problems).read(text)
    except MarkedYAMLError as error:
        _fail_syntax(text, cast("_SyntaxError", error), problems)


def is_blank(node: Node) -> bool:
    """Whether a node has no text: what ``a:`` or ``---`` leaves out."""
    return isinstance(node, Scalar) and not node.style and node.start == node.end


def _fail_syntax(text: str, error: _SyntaxError, problems: Problems) -> Never:
    mark, begin = error.problem_mark, error.context_mark
    # At the end of a file the parser stands on the line after the last one.
    rows = NEWLINE.split(text.rstrip("\r\n"))
    row = min(mark.line, len(rows) - 1)
    found = error.problem
    if begin is not None and begin.line < row:
        found = f"{error.context} that begins on line {begin.line + 1}, {found}"
    hinting = f"{rows[row][:_MAX_HINTED]}\n{error.problem}"
    hint = next(hint for pattern, hint in _HINTS if pattern.match(hinting))
    problems.fail(row + 1, f"not YAML: {found} (column {mark.column + 1}); {hint}")


class _Reader:
    """Builds nodes out of parse events, and refuses what YAML has and JSON has not."""

    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self._documents = 0
        self._root: Node | None = None
        self._open: list[Collection] = []
        self._anchors: dict[str, Node] = {}

    def read(self, text: str) -> Node | None:
        # pure=False is libyaml (ruamel.yaml.clib), many times as fast as the parser in Python.
        events = YAML(typ="safe", pure=False).parse(text)  # pyright: ignore[reportUnknownMemberType] - untyped
        for event in cast("Iterator[_Event]", events):
            if isinstance(event, ScalarEvent):
                self._add(event, Scalar(*_span(event), event.value, event.style or ""))
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
        node = Collection(*_span(event), mapping, event.flow_style, [])
        if len(self._open) >= MAX_DEPTH:
            self._problems.fail(node.line, TOO_DEEP)
        self._add(event, node)
        self._open.append(node)

    def _add(self, event: _Event, node: Node) -> None:
        if event.tag is not None:
            self._problems.add(node.line, "tags are not supported: remove it, or quote a string with a !")
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        self._place(node)

    def _alias(self, event: _Event) -> Alias:
        target = self._anchors.get(event.anchor or "")
        line = event.start_mark.line + 1
        if target is None:
            # Not by its name: it may be a password that somebody forgot to quote.
            self._problems.add(line, "an alias without an anchor above it; quote a string that begins with *")
        elif any(target is collection for collection in self._open):
            self._problems.add(line, "an alias inside the value it stands for; write the value out")
            target = None
        return Alias(*_span(event), target)

    def _place(self, node: Node) -> None:
        if self._open:
            self._open[-1].children.append(node)
        else:
            self._root = node


def _span(event: _Event) -> tuple[int, int, int]:
    return event.start_mark.index, event.end_mark.index, event.start_mark.line + 1
