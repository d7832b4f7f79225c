"""The syntax of YAML files: from text to nodes, each of which knows its place in the text.

The only module that imports ruamel.yaml. Its problems are syntax errors, tags, directives, several documents, more than
32 levels, aliases without an anchor or inside the value they stand for, and characters that editors do not show.
"""

import re
from collections.abc import Callable, Iterator
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

from aliciacfg.documents.pointers import escape
from aliciacfg.documents.values import MAX_DEPTH, Json, JsonObject
from aliciacfg.errors import SourceError, SourceProblem

BOM = "\ufeff"
NEWLINE = re.compile(r"\r\n|\r|\n")
# All characters but those of YAML 1.2 §5.1. U+0085, U+2028 and U+2029 are forbidden too: libyaml ends a line there, as
# YAML 1.1 did, so text behind a comment could count although every editor shows it as part of the comment.
FORBIDDEN = re.compile(
    r"[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff"
    r"\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]",
)
SURROGATE = re.compile(r"[\ud800-\udfff]")

_NO_DIRECTIVES = "directives such as %YAML are not supported: remove the line"
# Only the beginning of a long line is searched for hints, because the patterns take quadratic time.
_MAX_HINTED = 500
_FREED_AT_ONCE = 100
_CONFLICT = re.compile(r"^(?:<{7}|={7}|>{7})(?: |$)", re.MULTILINE)
# Hints on syntax errors. Each pattern is matched against two lines: the line of the error, and the parser's message.
TEMPLATES = "templates such as {{ … }} are not filled in: write ${NAME}, or quote the text itself"
_YAML_TAG = "tag:yaml.org,2002:"
# What to write instead of the tags of programs that people come from, by the beginning of the tag.
_TAG_HINTS = (
    ("!secret", "write ${NAME} and set NAME in .env, or put the value into <environment>-secrets.yaml"),
    ("!env", "write ${NAME} or ${NAME:-default}"),
    ("!include", "write the content here; what services share goes under defaults: of base.yaml"),
    ("!vault", "decrypt the value, and seal it with `aliciacfg seal` or write ${NAME}"),
    ("!unsafe", "quote the text, and write $${ for a literal ${"),
    ("!reset", "write null to remove a value"),
    ("!override", "remove the tag: a list replaces the one below it"),
    (_YAML_TAG, "remove the tag; quote a value to make it a string"),
)
_HINTS = (
    (re.compile(r"%"), _NO_DIRECTIVES),
    (re.compile(r" *\t"), "indent with spaces, not tabs"),
    (re.compile(r"(?:.*[\s,:\[{])?[^\s\"'#]*\{\{"), TEMPLATES),
    (
        re.compile(r"(?:.*[\s,:\[{])?[^\s\"'#]*\$\{"),
        'inside { } and [ ], or with ": " in its default, ${NAME} must be quoted: "${NAME}"',
    ),
    (re.compile(r".*[\s,:\[{][@`%]"), "quote a value that begins with @, ` or %"),
    (re.compile(r".*\\u[dD][89abAB]"), "write the character itself, not as two \\u halves"),
    (
        re.compile(r".*\n(?:found unknown escape|did not find expected hexdecimal)"),
        "write \\\\ for \\, or use single quotes",
    ),
    (re.compile(r".*\ndid not find expected alphabetic"), "quote a value that begins with * or &"),
    (re.compile(r".*\n(?:mapping values|found unexpected ':')"), 'quote a value that holds ":"'),
    (re.compile(r""), "check quotes, brackets and indentation here and just above"),
)
_Container = JsonObject | list[Json]
TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels; use fewer"


class Problems:
    """The problems of one file; raised together, in the order of lines."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._found: list[tuple[int, SourceProblem]] = []

    def add(self, line: int, message: str, pointer: str = "", *, in_full: str = "", variable: str = "") -> None:
        """Add a problem on a 1-based line; other arguments as in ``SourceProblem``."""
        self._found.append((line, SourceProblem(self._file, line, message, pointer, in_full, variable)))

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
    """A part of the text.

    Attributes:
        start: Index of its first character; an anchor belongs to the node.
        end: Index behind its last character.
        line: The 1-based line on which it starts.
    """

    start: int
    end: int
    line: int


class Scalar(Node):
    """A scalar.

    Attributes:
        text: Its content, escapes resolved.
        style: Empty for a plain scalar, otherwise its indicator: ``'``, ``"``, ``|`` or ``>``.
    """

    text: str
    style: str


class Alias(Node):
    """An alias.

    Attributes:
        target: The anchored node; None if the alias is a problem.
    """

    target: Node | None


class Collection(Node):
    """A mapping or a sequence.

    The ``end`` of a block collection is unusable: the parser puts it at the next token, behind any comments.

    Attributes:
        mapping: Whether it is a mapping.
        flow: Whether it is in flow style, with brackets.
        children: The items of a sequence; of a mapping, each key followed by its value.
    """

    mapping: bool
    flow: bool
    children: list[Node]


class _Mark(Protocol):
    index: int
    line: int
    column: int


class _Event(Protocol):
    """The attributes of ruamel.yaml's events, which are not typed; each kind of event has some of them."""

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


def read_nodes(text: str, problems: Problems, *, tags_as_text: bool = False) -> Node | None:
    """Parse a text.

    Args:
        text: The file, decoded, without a byte order mark.
        problems: Receives the problems that do not prevent reading on.
        tags_as_text: Read a tagged scalar as a string that begins with the tag; otherwise it is a problem.

    Returns:
        The root node; None if the text has no node at all.

    Raises:
        SourceError: The text cannot be read to its end; with this problem and all before it.
    """
    if bad := FORBIDDEN.search(text):
        line = len(NEWLINE.findall(text[: bad.start()])) + 1
        code = f"{ord(bad[0]):04X}"
        problems.fail(line, f'the character U+{code} is not allowed; write "\\u{code}" in double quotes')
    try:
        return _Reader(problems, tags_as_text=tags_as_text).read(text)
    except MarkedYAMLError as error:
        _fail_syntax(text, cast("_SyntaxError", error), problems)


def read_plain(
    text: str, *, key: Callable[[str, str], str], scalar: Callable[[str, str], Json]
) -> tuple[Json, dict[str, int]] | None:
    """Read a text in one step, without nodes: they take half of the memory of a file with 10,000 services.

    Args:
        text: As for ``read_nodes``.
        key: Returns the name of a member, from text and style as ``Scalar`` has them; raises ValueError for a problem.
        scalar: Returns the value of a scalar, from the same; raises ValueError for a problem.

    Returns:
        Value and lines, as ``YamlDocument`` has them; None if there is a problem, an anchor or an alias, or no
        collection at all: then only ``read_nodes`` shows what is in the text.
    """
    reader = _PlainReader(key, scalar)
    try:
        if not FORBIDDEN.search(text):
            reader.read(text)
    except (MarkedYAMLError, ValueError):
        return None
    return None if reader.root is None else (reader.root, reader.lines)


class _Yaml(YAML):
    def official_plug_ins(self) -> list[str]:
        """Return none: they are looked for on the disk, which takes longer than to parse a small file."""
        return []


def _events(text: str) -> Iterator[_Event]:
    # pure=False selects libyaml (ruamel.yaml.clib), which is many times faster than the parser in Python.
    events = _Yaml(typ="safe", pure=False).parse(text)  # pyright: ignore[reportUnknownMemberType] - untyped
    return cast("Iterator[_Event]", events)


def free_nodes(root: Node) -> None:
    """Free what is in the sections of a file a little at a time; nothing may use the nodes afterwards.

    Dropping the root is one step for all: with 10,000 services, other threads wait 60 ms for its end.
    """
    for section in root.children if isinstance(root, Collection) else ():
        while isinstance(section, Collection) and section.children:
            del section.children[-_FREED_AT_ONCE:]


def is_blank(node: Node) -> bool:
    """Return whether a node has no text, as the value of ``a:`` or the content of ``---`` has none."""
    return isinstance(node, Scalar) and not node.style and node.start == node.end


def _fail_syntax(text: str, error: _SyntaxError, problems: Problems) -> Never:
    if conflict := _CONFLICT.search(text):
        line = len(NEWLINE.findall(text[: conflict.start()])) + 1
        problems.fail(line, "not YAML: git left both sides of a conflict here; keep one, without the lines of signs")
    mark, begin = error.problem_mark, error.context_mark
    # At the end of a file the parser reports the line after the last one.
    rows = NEWLINE.split(text.rstrip("\r\n"))
    row = min(mark.line, len(rows) - 1)
    found = error.problem
    if begin is not None and begin.line < row:
        found = f"{error.context} that begins on line {begin.line + 1}, {found}"
    hinting = f"{rows[row][:_MAX_HINTED]}\n{error.problem}"
    hint = next(hint for pattern, hint in _HINTS if pattern.match(hinting))
    problems.fail(row + 1, f"not YAML: {found} (column {mark.column + 1}); {hint}")


class _Reader:
    """Builds nodes from parse events, and reports the parts of YAML that JSON does not have."""

    def __init__(self, problems: Problems, *, tags_as_text: bool) -> None:
        self._problems = problems
        self._tags_as_text = tags_as_text
        self._documents = 0
        self._root: Node | None = None
        # The collections around the next event, outermost first.
        self._open: list[Collection] = []
        # The last node with each anchor, by the anchor's name.
        self._anchors: dict[str, Node] = {}

    def read(self, text: str) -> Node | None:
        for event in _events(text):
            if isinstance(event, ScalarEvent):
                text_of_tag = self._tags_as_text and event.tag is not None
                read = f"{event.tag} {event.value}".rstrip() if text_of_tag else event.value
                self._add(event, Scalar(*_span(event), read, '"' if text_of_tag else event.style or ""))
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
        if event.tag is not None and not (self._tags_as_text and isinstance(node, Scalar)):
            self._problems.add(node.line, _tag_message(event.tag))
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        self._place(node)

    def _alias(self, event: _Event) -> Alias:
        target = self._anchors.get(event.anchor or "")
        line = event.start_mark.line + 1
        if target is None:
            # The name is not shown: it may be a password that was not quoted.
            message = (
                "an alias without an anchor above it in this file; write the value out, or quote a string that begins "
                "with *"
            )
            self._problems.add(line, message)
        elif any(target is collection for collection in self._open):
            self._problems.add(line, "an alias inside the value that it stands for; write the value out")
            target = None
        return Alias(*_span(event), target)

    def _place(self, node: Node) -> None:
        if self._open:
            self._open[-1].children.append(node)
        else:
            self._root = node


class _NeedsNodes(ValueError):
    """A text has something that only ``read_nodes`` reads, or reports."""


class _PlainReader:
    """Builds values from parse events, as long as nothing comes that JSON does not have.

    Attributes:
        root: The value of the text; None if there is no collection.
        lines: The line of each place, by JSON Pointer.
    """

    def __init__(self, key: Callable[[str, str], str], scalar: Callable[[str, str], Json]) -> None:
        self.root: _Container | None = None
        self.lines: dict[str, int] = {}
        self._key = key
        self._scalar = scalar
        # The collection that the next event is in, and its pointer; those around it, outermost first.
        self._inner: _Container | None = None
        self._pointer = ""
        self._around: list[tuple[_Container | None, str]] = []
        # The name of the member whose value comes next; None where a key or an item does.
        self._name: str | None = None
        # The pointer of the value that comes next.
        self._place = ""

    def read(self, text: str) -> None:
        """Read a text.

        Raises:
            ValueError: Something in it needs nodes.
        """
        for event in _events(text):
            if isinstance(event, ScalarEvent):
                if self._at_key(event):
                    self._begin_member(event)
                else:
                    self._put(self._scalar(event.value, event.style or ""))
            elif isinstance(event, CollectionStartEvent):
                self._begin(event, {} if isinstance(event, MappingStartEvent) else [])
            elif isinstance(event, CollectionEndEvent):
                self._inner, self._pointer = self._around.pop()
            elif isinstance(event, AliasEvent):
                raise _NeedsNodes
            elif isinstance(event, DocumentStartEvent):
                self._begin_document(event)

    def _begin_document(self, event: _Event) -> None:
        if event.version or event.tags or self.root is not None:
            raise _NeedsNodes

    def _at_key(self, event: _Event) -> bool:
        """Return whether an event is the key of a member; note the place of an item."""
        if event.anchor is not None or event.tag is not None:
            raise _NeedsNodes
        if isinstance(self._inner, list):
            self._place = f"{self._pointer}/{len(self._inner)}"
            self.lines[self._place] = event.start_mark.line + 1
            return False
        return self._name is None and self._inner is not None

    def _begin_member(self, event: _Event) -> None:
        self._name = name = self._key(event.value, event.style or "")
        self._place = place = f"{self._pointer}/{escape(name)}"
        if place in self.lines:
            raise _NeedsNodes
        self.lines[place] = event.start_mark.line + 1

    def _begin(self, event: _Event, collection: _Container) -> None:
        if self._at_key(event) or len(self._around) >= MAX_DEPTH:
            raise _NeedsNodes
        self._put(collection)
        self._around.append((self._inner, self._pointer))
        self._inner, self._pointer = collection, self._place

    def _put(self, value: Json) -> None:
        """Add a value at its place."""
        if isinstance(self._inner, list):
            self._inner.append(value)
        elif self._inner is not None and self._name is not None:
            self._inner[self._name] = value
            self._name = None
        elif isinstance(value, dict | list):
            self.root = value
        else:
            raise _NeedsNodes


def _tag_message(tag: str) -> str:
    """Return what to do about a tag; an unknown one is not shown, because it may be a password that was not quoted."""
    for begin, hint in _TAG_HINTS:
        if str(tag).lower().startswith(begin):
            return f"tags such as {begin.replace(_YAML_TAG, '!!')} are not supported: {hint}"
    return "tags are not supported: remove it, or quote a string with a !"


def _span(event: _Event) -> tuple[int, int, int]:
    return event.start_mark.index, event.end_mark.index, event.start_mark.line + 1
