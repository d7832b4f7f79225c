"""Changes of YAML files in place: one place changes, and every other byte stays."""

import json
from functools import partial
from typing import NamedTuple

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from aliciacfg.documents import Json, escape, find
from aliciacfg.documents.yaml_editor import remove, replace, replace_strings
from aliciacfg.documents.yaml_reader import load
from aliciacfg.errors import InvalidRequest, SourceError
from yaml_values import NOWHERE, OBJECTS, STRINGS, VALUES, same, value

DOCUMENT = """\
# top
a: 1 # one
b:  # bee
  # inner
  x: 'q'  # ex
  y: [1, 2] # why

# before c
c: |  # text
  some
  more

d: {k: v, l: "w"} # dee
e:
- 1 # i
- f: 1 # eff
  # gee
  g: 2
-
  h: 3
- - 1
  - 2
long: {
  p: 1, # about p
  q: 2, # about q
  r: 3  # about r
}
empty:
last: &unused
  m: 1
# end
"""


@pytest.mark.parametrize(
    ("pointer", "new", "old_text", "new_text"),
    [
        ("/a", 2, "a: 1 # one", "a: 2 # one"),
        ("/a", "x y", "a: 1 # one", "a: x y # one"),
        ("/a", "${A}", "a: 1 # one", 'a: "$${A}" # one'),
        ("/a", {"m": {"z": "no"}}, "a: 1 # one\n", 'a: # one\n  m:\n    z: "no"\n'),
        ("/a", [1, {"z": None}], "a: 1 # one", "a: [1, {z: null}] # one"),
        ("/a", {}, "a: 1 # one", "a: {} # one"),
        ("/b", 5, "b:  # bee\n  # inner\n  x: 'q'  # ex\n  y: [1, 2] # why\n", "b: 5  # bee\n  # inner\n"),
        ("/b", {"z": 1}, "  x: 'q'  # ex\n  y: [1, 2] # why\n", "  z: 1\n"),
        ("/b/x", "it's", "x: 'q'  # ex", "x: 'it''s'  # ex"),
        ("/b/x", "a\nb", "x: 'q'  # ex", 'x: "a\\nb"  # ex'),
        ("/b/x", 7, "x: 'q'  # ex", "x: 7  # ex"),
        ("/b/y/1", "z", "[1, 2]", "[1, z]"),
        ("/b/y", {"p": 1}, "  y: [1, 2] # why\n", "  y: # why\n    p: 1\n"),
        ("/b/z", "2024-01-01", "  y: [1, 2] # why\n", '  y: [1, 2] # why\n  z: "2024-01-01"\n'),
        ("/c", "short", "c: |  # text\n  some\n  more\n", "c: short  # text\n"),
        ("/c", {"p": 1}, "c: |  # text\n  some\n  more\n", "c:  # text\n  p: 1\n"),
        ("/d/k", {"s": 1}, "{k: v,", "{k: {s: 1},"),
        ("/d/l", "u", 'l: "w"', 'l: "u"'),
        ("/d/m/o", [1], 'l: "w"}', 'l: "w", m: {o: [1]}}'),
        ("/d", {"t": 1}, 'd: {k: v, l: "w"} # dee\n', "d: # dee\n  t: 1\n"),
        ("/e", {"k": 1}, "e:\n- 1 # i\n- f: 1 # eff\n  # gee\n  g: 2\n-\n  h: 3\n- - 1\n  - 2\n", "e:\n  k: 1\n"),
        ("/e/0", {"u": 1, "v": 2}, "- 1 # i\n", "- # i\n  u: 1\n  v: 2\n"),
        ("/e/1", {"w": {"z": 1}}, "- f: 1 # eff\n  # gee\n  g: 2\n", "- w:\n    z: 1\n"),
        ("/e/1/f", {"q": 1}, "- f: 1 # eff\n", "- f: # eff\n    q: 1\n"),
        ("/e/1/i", True, "  g: 2\n", "  g: 2\n  i: true\n"),
        ("/e/2", 4, "-\n  h: 3\n", "- 4\n"),
        ("/e/2", {"o": 1}, "  h: 3\n", "  o: 1\n"),
        ("/e/3/0", 9, "- - 1\n", "- - 9\n"),
        ("/e/3", {"a": 1}, "- - 1\n  - 2\n", "- a: 1\n"),
        ("/long/q", 9, "q: 2, # about q", "q: 9, # about q"),
        ("/long/s", 4, "r: 3  # about r", "r: 3, s: 4  # about r"),
        ("/empty", 1, "empty:\n", "empty: 1\n"),
        ("/empty/a/b", 1, "empty:\n", "empty:\n  a:\n    b: 1\n"),
        ("/last", 1, "last: &unused\n  m: 1\n", "last: 1\n"),
        ("/last", {"n.o": 1}, "last: &unused\n  m: 1\n", "last:\n  n.o: 1\n"),
        ("/more/a~1b", "1", "  m: 1\n", '  m: 1\nmore:\n  a/b: "1"\n'),
        ("/", 0, "  m: 1\n", '  m: 1\n"": 0\n'),
    ],
)  # fmt: skip
def test_replace_changes_one_place(pointer: str, new: Json, old_text: str, new_text: str):
    """The new value stands where the old one stood, and not one byte elsewhere differs."""
    assert DOCUMENT.count(old_text) == 1
    assert replace(DOCUMENT, pointer, new, file="dev.yaml").replace(new_text, old_text, 1) == DOCUMENT
    assert replace(DOCUMENT, pointer, new, file="dev.yaml") == DOCUMENT.replace(old_text, new_text)


@pytest.mark.parametrize(
    ("pointer", "old_text", "new_text"),
    [
        ("/a", "a: 1 # one\n", ""),
        ("/b/x", "  x: 'q'  # ex\n", ""),
        ("/b/y/0", "[1, 2]", "[2]"),
        ("/b/y/1", "[1, 2]", "[1]"),
        ("/c", "c: |  # text\n  some\n  more\n", ""),
        ("/d/k", '{k: v, l: "w"}', '{l: "w"}'),
        ("/d/l", '{k: v, l: "w"}', "{k: v}"),
        ("/e/0", "- 1 # i\n", ""),
        ("/e/1", "- f: 1 # eff\n  # gee\n  g: 2\n", ""),
        ("/e/1/f", "- f: 1 # eff\n  # gee\n", "- # gee\n"),
        ("/e/1/g", "  g: 2\n", ""),
        ("/e/2/h", "-\n  h: 3\n", "- {}\n"),
        ("/e/3/0", "- - 1\n  - 2\n", "- - 2\n"),
        ("/e/3/1", "- - 1\n  - 2\n", "- - 1\n"),
        ("/long/p", "  p: 1, # about p\n", ""),
        ("/long/q", "  q: 2, # about q\n", ""),
        ("/long/r", "  r: 3  # about r\n", ""),
        ("/empty", "empty:\n", ""),
        ("/last/m", "last: &unused\n  m: 1\n", "last: {}\n"),
        ("/last", "last: &unused\n  m: 1\n", ""),
    ],
)
def test_remove_takes_out_one_place(pointer: str, old_text: str, new_text: str):
    """The member or item goes with its lines, comment lines above it and everything else stay."""
    assert DOCUMENT.count(old_text) == 1
    assert remove(DOCUMENT, pointer, file="dev.yaml") == DOCUMENT.replace(old_text, new_text)


@pytest.mark.parametrize(
    ("text", "pointer", "new", "expected"),
    [
        ("", "/a/b", 1, "a:\n  b: 1\n"),
        ("# only\n", "/a", 1, "# only\na: 1\n"),
        ("# only", "/a", 1, "# only\na: 1\n"),
        ("---\n# x\n", "/a", 1, "---\n# x\na: 1\n"),
        ("---\n...\n", "/a", 1, "---\na: 1\n...\n"),
        ("{}\n", "/a/b", 1, "a:\n  b: 1\n"),
        ("--- {} # c\n", "/a", {"b": 1}, "--- {a: {b: 1}} # c\n"),
        ("", "", {}, ""),
        ("", "", [1], "[1]\n"),
        ("a: 1\n# c\n", "", None, "null\n# c\n"),
        ("a: 1", "/b", 2, "a: 1\nb: 2"),
        ("a: 1\r\nb:\r\n    c: 1\r\n", "/b/d", {"e": 1}, "a: 1\r\nb:\r\n    c: 1\r\n    d:\r\n        e: 1\r\n"),
        ("a:\n b: 1\n", "/a/c", {"d": 1}, "a:\n b: 1\n c:\n  d: 1\n"),
        ("a:\n  b:\n      c: 1\n", "/a/b", {"d": {"e": 1}}, "a:\n  b:\n      d:\n        e: 1\n"),
        ("\ufeffa: 1\n", "/a", 2, "\ufeffa: 2\n"),
        ("a: 1\n...\n", "/b", 2, "a: 1\nb: 2\n...\n"),
        ("a:   # c\n  1 # d\n", "/a", 2, "a:   # c\n  2 # d\n"),
        ("a: 'x\n  y' # d\n", "/a", {"b": 1}, "a: # d\n  b: 1\n"),
        ("{a, b}\n", "/a", 1, "{a: 1, b}\n"),
        ("{a , b}\n", "/a", 1, "{a : 1, b}\n"),
        ("{a: , b: 1}\n", "/a", 1, "{a: 1, b: 1}\n"),
        ('{"a":1}\n', "/a", 2, '{"a": 2}\n'),
        ("[{a: 1}, b: 2]\n", "/1/b", 3, "[{a: 1}, b: 3]\n"),
        ("? a # x\n: # y\n  1 # z\n", "/a", 2, "? a # x\n: # y\n  2 # z\n"),
        ("a: |+\n  x\n\n\nb: 1\n", "/a", "new", "a: new\nb: 1\n"),
        ("a: |\n  x\n\n\nb: 1\n", "/a", "new", "a: new\n\n\nb: 1\n"),
        ("a: |+\n  x\n\n\n", "/b", 1, "a: |+\n  x\n\n\nb: 1\n"),
        ("a: &x 1\nb: *x\n", "/b", 2, "a: &x 1\nb: 2\n"),
        ("a: ${PORT}\n", "/a", "${PORT}", 'a: "$${PORT}"\n'),
        ("a: $${PORT}\n", "/a", "${PORT}", "a: $${PORT}\n"),
        ("a: 0x10\n", "/a", 16, "a: 0x10\n"),
        ("a: 1.0\n", "/a", 1, "a: 1\n"),
        ("a: true\n", "/a", 1, "a: 1\n"),
        ("a: ~ # c\n", "/a/b", 1, "a: # c\n  b: 1\n"),
    ],
)  # fmt: skip
def test_replace_at_the_edges(text: str, pointer: str, new: Json, expected: str):
    """Empty files, other newlines, marks, anchors and odd layouts are changed in place too."""
    assert replace(text, pointer, new, file="dev.yaml") == expected


@pytest.mark.parametrize(
    ("text", "pointer", "expected"),
    [
        ("a: 1 # c\n# d\n", "/a", "{} # c\n# d\n"),
        ("a: 1\nb: 2", "/b", "a: 1\n"),
        ("a:  # keep\n  b: 1\nc: 1\n", "/a/b", "a: {}  # keep\nc: 1\n"),
        ("a: [1]\n", "/a/0", "a: []\n"),
        ("a:\n- 1\n", "/a/0", "a: []\n"),
        ("[\n  1, 2,\n  3\n]\n", "/2", "[\n  1, 2,\n]\n"),
        ("[\n  1, 2,\n  3\n]\n", "/0", "[\n  2,\n  3\n]\n"),
        ("{a: 1, # c\n b: 2}\n", "/a", "{ # c\n b: 2}\n"),
        ("[a: 1, b]\n", "/0/a", "[{}, b]\n"),
        ("a: 1\r\nb: 1\r\n", "/a", "b: 1\r\n"),
        ("a: 1\n", "/b", "a: 1\n"),
        ("a: 1\n", "/a/b", "a: 1\n"),
        ("a: [1]\n", "/a/01", "a: [1]\n"),
        ("a: [1]\n", "/a/99999999999999999999", "a: [1]\n"),
        ("# nothing\n", "/a", "# nothing\n"),
        ("\ufeffa: 1\nb: 2\n", "/a", "\ufeffb: 2\n"),
    ],
)
def test_remove_at_the_edges(text: str, pointer: str, expected: str):
    """The last member leaves an empty collection, and what is not there is not removed."""
    assert remove(text, pointer, file="dev.yaml") == expected


@pytest.mark.parametrize(
    ("text", "pointer", "new", "words"),
    [
        ("a: 1\nb: 2\n", "/b/c", 1, "dev.yaml:2: /b/c: a scalar is in the way"),
        ("a: ''\n", "/a/c", 1, "a scalar is in the way"),
        ("a: [1]\n", "/a/1", 1, "no such item; the sequence has 1, counted from 0"),
        ("a: [1]\n", "/a/-", 1, "no such item; the sequence has 1, counted from 0"),
        ("a: [1]\n", "/a/01", 1, "no such item; the sequence has 1, counted from 0"),
        ("a: []\n", "/a/0", 1, "no such item; the sequence has 0"),
        ("a: &x {b: 1}\nc: *x\n", "/c/b", 1, "dev.yaml:2: /c/b: an alias is in the way"),
        ("a: &x {b: 1}\nc: *x\n", "/a/b", 2, "edit the file by hand"),
        ("\na: &x {b: 1}\nc: *x\n", "/a", 2, "dev.yaml:2: /a: cannot be changed without changing more; edit"),
        ("? a\n", "/a", {"b": 1}, "edit the file by hand"),
        ("a: 1\na: 2\n", "/b", 1, "duplicate key"),
        ("a: [", "/b", 1, "not YAML"),
        ("a: 1\n", "/b", float("nan"), "NaN or infinity"),
        ("a: 1\n", "/b", [2**64], "beyond 64 bits"),
        ("a: 1\n", "/b", {"\ud800": 1}, "surrogate"),
        ("a: 1\n", "/b", ["\ud800"], "surrogate"),
        ("a: 1\n", "/" + "b/" * 32, 1, "deeper than 32"),
        ("a: 1\n", "/b", json.loads("[" * 32 + "]" * 32), "deeper than 32"),
        ("a: 1\n", "/b", json.loads("[" * 900 + "]" * 900), "deeper than 32"),
    ],
)
def test_replace_refuses_rather_than_break_a_file(text: str, pointer: str, new: Json, words: str):
    """What cannot be set alone, or cannot be written, is refused with file and pointer."""
    with pytest.raises(SourceError) as refused:
        replace(text, pointer, new, file="dev.yaml")
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("text", "pointer", "words"),
    [
        ("a: 1\n", "", "the whole document cannot be removed"),
        ("a: &x 1\nb: *x\n", "/a", "edit the file by hand"),
        ("a: &x {b: 1}\nc: *x\n", "/c/b", "an alias is in the way"),
        ("a: 1\na: 2\n", "/c", "duplicate key"),
    ],
)
def test_remove_refuses_rather_than_break_a_file(text: str, pointer: str, words: str):
    """What cannot be taken out alone is refused."""
    with pytest.raises(SourceError) as refused:
        remove(text, pointer, file="dev.yaml")
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("text", "values", "expected"),
    [
        ("a: x # c\nb: 'y'\n", {"/b": "Y:", "/a": "X"}, "a: \"X\" # c\nb: 'Y:'\n"),
        ("a: |  # c\n  x\n  y\n# d\nb: z", {"/a": "1", "/b": "2"}, 'a: "1"  # c\n# d\nb: "2"'),
        ('{"a":"x","b":[y, {"c":"z"}]}', {"/a": "1", "/b/1/c": "2"}, '{"a":"1","b":[y, {"c":"2"}]}'),
        ("\ufeffa: x\r\nb:\r\n- y\r\n", {"/a": "1", "/b/0": "2"}, '\ufeffa: "1"\r\nb:\r\n- "2"\r\n'),
        ("a: ${X}\n", {"/a": "${Y}"}, 'a: "$${Y}"\n'),
        ("a: &x y\n", {"/a": "1"}, 'a: "1"\n'),
        ("text\n", {"": "new"}, '"new"\n'),
        ("a: x\n", {}, "a: x\n"),
    ],
)
def test_many_strings_are_replaced_at_once(text: str, values: dict[str, str], expected: str):
    """Whatever their order and style, and nothing between them moves."""
    assert replace_strings(text, values, file="dev.yaml") == expected


def test_of_many_strings_all_or_none_are_replaced():
    """Everything that prevents the edit is reported with its line."""
    text = "a: x\nb: &y z\nc: *y\nd: 5\ne: &f\n  g: h\ni: *f\n"
    values = dict.fromkeys(["/a", "/b", "/c", "/d", "/e/g", "/i/g", "/new"], "1")
    with pytest.raises(SourceError) as refused:
        replace_strings(text, values, file="dev.yaml")
    assert [(problem.line, problem.pointer) for problem in refused.value.problems] == [
        (2, "/b"), (3, "/c"), (4, "/d"), (6, "/e/g"), (7, "/i/g"), (1, "/new"),
    ]  # fmt: skip
    assert "aliases repeat the value" in str(refused.value)
    with pytest.raises(SourceError, match="surrogate"):
        replace_strings("a: x\n", {"/a": "\ud800"}, file="dev.yaml")


@pytest.mark.parametrize("pointer", ["a", "/a~", "/~2"])
def test_a_malformed_pointer_is_the_callers_mistake(pointer: str):
    """It is not blamed on the file."""
    with pytest.raises(InvalidRequest):
        replace("a: 1\n", pointer, 1, file="dev.yaml")
    with pytest.raises(InvalidRequest):
        remove("a: 1\n", pointer, file="dev.yaml")


@given(VALUES)
@example("${X}")
@example({"${X}": ["${", "$${", "$"]})
@settings(database=None)
def test_what_is_written_is_read_back(new: Json):
    """Any value set in an environment file is what the loader gives for it, with substitution on."""
    for text in ("a: 1\n", "{a: 1}\n", "b:\n- a: 1\n"):
        pointer = "/b/0/a" if text.startswith("b") else "/a"
        changed = replace(text, pointer, new, file="dev.yaml")
        assert same(find(value(changed, NOWHERE), pointer), new)  # pyright: ignore[reportArgumentType]


class Line(NamedTuple):
    """A line of a written file, and the pointers at which a change may change the line."""

    text: str
    owners: frozenset[str]


class Writer:
    """Writes a document as a person might: block and flow, quotes, comments and blank lines as drawn."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.lines: list[Line] = []
        self.comments = 0

    def write(self, document: dict[str, Json]) -> list[Line]:
        self.comment(0, "")
        self.members(document, 0, "")
        self.comment(0, "")
        return self.lines

    def maybe(self) -> bool:
        return self.draw(st.booleans())

    def trailing(self) -> str:
        self.comments += 1
        return self.draw(st.sampled_from(["", "", f" # t{self.comments}", f"   # 't{self.comments}: {{"]))

    def comment(self, column: int, owner: str) -> None:
        """Maybe a comment line or a blank one, which goes only with ``owner``."""
        self.comments += 1
        line = self.draw(st.sampled_from([None, None, None, "", f"{' ' * column}# - c{self.comments}: ["]))
        if line is not None:
            self.lines.append(Line(line, frozenset({owner})))

    def flow(self, new: Json) -> str:
        if isinstance(new, dict):
            return "{" + ", ".join(f"{json_string(key)}: {self.flow(new[key])}" for key in new) + "}"
        if isinstance(new, list):
            return "[" + ", ".join(map(self.flow, new)) + "]"
        return json_string(new) if isinstance(new, str) else json.dumps(new)

    def members(self, mapping: dict[str, Json], column: int, pointer: str) -> None:
        for number, (key, member) in enumerate(mapping.items()):
            if number:
                self.comment(column, pointer)
            place = f"{pointer}/{escape(key)}"
            self.child(f"{' ' * column}{json_string(key)}:", member, column, place)

    def child(self, lead: str, new: Json, column: int, place: str) -> None:
        inner = column + self.draw(st.sampled_from([1, 2, 4]))
        if new and isinstance(new, dict) and self.maybe():
            self.lines.append(Line(lead + self.trailing(), frozenset({place})))
            self.comment(inner, place)
            self.members(new, inner, place)
        elif new and isinstance(new, list) and self.maybe():
            self.lines.append(Line(lead + self.trailing(), frozenset({place})))
            inner = inner if lead.endswith("-") or self.maybe() else column
            for number, item in enumerate(new):
                if number:
                    self.comment(inner, place)
                self.child(f"{' ' * inner}-", item, inner, f"{place}/{number}")
        elif isinstance(new, str) and new.isalpha() and new.isascii() and self.maybe():
            indicator = self.draw(st.sampled_from(["|-", ">-"]))
            self.lines.append(Line(f"{lead} {indicator}{self.trailing()}", frozenset({place})))
            self.lines.append(Line(f"{' ' * inner}{new}", frozenset({place})))
        elif new is None and self.maybe():
            self.lines.append(Line(lead + self.trailing(), frozenset({place})))
        else:
            below = frozenset(f"{place}{rest}" for rest, _ in walk(new))
            self.lines.append(Line(f"{lead} {self.flow(new)}{self.trailing()}", below))


def json_string(text: str) -> str:
    """A double-quoted scalar; beyond the BMP JSON escapes are not YAML's."""
    return '"' + "".join(c if c > "\uffff" else json.dumps(c)[1:-1] for c in text) + '"'


def walk(document: Json, pointer: str = "") -> list[tuple[str, Json]]:
    """Every pointer with its value, the whole document first."""
    found = [(pointer, document)]
    if isinstance(document, dict):
        for key, member in document.items():
            found += walk(member, f"{pointer}/{escape(key)}")
    if isinstance(document, list):
        for index, item in enumerate(document):
            found += walk(item, f"{pointer}/{index}")
    return found


def escaped(new: Json) -> Json:
    """What is in the file for a value that was set."""
    if isinstance(new, dict):
        return {key: escaped(member) for key, member in new.items()}
    if isinstance(new, list):
        return [escaped(item) for item in new]
    return new.replace("${", "$${") if isinstance(new, str) else new


def changed(document: Json, pointer: str, *new: Json) -> Json:
    """A copy of a document with a value set, or taken out if none is given."""
    copy = json.loads(json.dumps(document))
    parent, _, token = pointer.rpartition("/")
    container, key = find(copy, parent), token.replace("~1", "/").replace("~0", "~")
    if isinstance(container, list):
        container[int(key) : int(key) + 1] = new
    elif isinstance(container, dict) and new:
        container[key] = new[0]
    elif isinstance(container, dict):
        del container[key]
    return copy


def assert_kept(lines: list[Line], touched: str, after: str) -> None:
    """All lines but those of what was touched are there, unchanged and in order."""
    rest = iter(after.split("\n"))
    for line in lines:
        if not any(f"{owner}/".startswith(f"{touched}/") for owner in line.owners):
            assert line.text in rest, f"{line.text!r} is gone or out of order in {after!r}"


def comments(lines: list[Line], pointer: str) -> list[str]:
    """The comment behind the first line of what is at a pointer."""
    first = next(line.text for line in lines if pointer in line.owners and not line.text.lstrip().startswith("#"))
    return [word for word in first.split() if word.startswith(("t", "'t")) and word.strip("t':").isdigit()]


@given(OBJECTS, VALUES, st.data())
@settings(database=None, deadline=None)
def test_replace_keeps_what_it_does_not_replace(document: dict[str, Json], new: Json, data: st.DataObject):
    """In any layout the document has the new value and nothing else new, and all other lines stay."""
    lines = data.draw(st.composite(lambda draw: Writer(draw).write(document))())
    text = "\n".join(line.text for line in lines) + "\n"
    assert same(value(text), document)
    places = walk(document)
    pointer = data.draw(st.sampled_from([place for place, _ in places[1:]] or ["/first"]))
    after = replace(text, pointer, new, file="dev.yaml")
    assert same(value(after), changed(document, pointer, escaped(new)))
    assert_kept(lines, pointer, after)
    if document:
        assert all(word in after for word in comments(lines, pointer))


@given(OBJECTS, VALUES, STRINGS, st.data())
@settings(database=None, deadline=None)
def test_replace_adds_a_member_last(document: dict[str, Json], new: Json, name: str, data: st.DataObject):
    """A new member of any mapping, or of none yet, comes last in it, and no line but its parent's changes."""
    lines = data.draw(st.composite(lambda draw: Writer(draw).write(document))())
    text = "\n".join(line.text for line in lines) + "\n"
    parents = [place for place, found in walk(document) if isinstance(found, dict) and name not in found]
    assume(parents)
    parent = data.draw(st.sampled_from(parents))
    pointer = f"{parent}/{escape(name)}"
    after = replace(text, f"{pointer}/a/b", new, file="dev.yaml")
    assert same(value(after), changed(document, pointer, {"a": {"b": escaped(new)}}))
    assert_kept([line for line in lines if parent not in line.owners], pointer, after)


@given(OBJECTS, st.data())
@settings(database=None, deadline=None)
def test_remove_keeps_what_it_does_not_remove(document: dict[str, Json], data: st.DataObject):
    """In any layout only the one member or item is gone, and all lines but its own stay."""
    assume(document)
    lines = data.draw(st.composite(lambda draw: Writer(draw).write(document))())
    text = "\n".join(line.text for line in lines) + "\n"
    pointer = data.draw(st.sampled_from([place for place, _ in walk(document)[1:]]))
    after = remove(text, pointer, file="dev.yaml")
    wanted = changed(document, pointer)
    assert same(value(after), wanted)
    parent = pointer.rpartition("/")[0]
    assert_kept(lines, pointer if find(wanted, parent) else parent, after)


@given(OBJECTS, STRINGS, st.data())
@settings(database=None, deadline=None)
def test_replacing_strings_touches_their_lines_only(document: dict[str, Json], new: str, data: st.DataObject):
    """In any layout, any of the strings at once: the document has them, and every other line stays."""
    lines = data.draw(st.composite(lambda draw: Writer(draw).write(document))())
    text = "\n".join(line.text for line in lines) + "\n"
    strings = [place for place, found in walk(document) if isinstance(found, str)]
    chosen = data.draw(st.lists(st.sampled_from(strings), unique=True) if strings else st.just([]))
    after = replace_strings(text, {place: f"{new}{number}" for number, place in enumerate(chosen)}, file="dev.yaml")
    wanted: Json = document
    for number, place in enumerate(chosen):
        wanted = changed(wanted, place, escaped(f"{new}{number}"))
    assert same(value(after), wanted)
    assert_kept([line for line in lines if not line.owners & set(chosen)], "/nothing/", after)
    for place in chosen:
        assert all(word in after for word in comments(lines, place))


# Pieces that come together to YAML often enough, and to nonsense as often.
PIECES = (
    "a·b: ·c:\n·- ·\n·\n  ·\n    ·{·}·[·]·, ·&x ·*x·? ·: ·|\n·>+\n·# c\n·'·\"·1·~·!t ·---\n·...\n·%·\t·<<: ·"
    "${A}·${·$${A}·\ufeff·\r\n·é·😀·\x00·\\"
)


@given(st.lists(st.sampled_from(PIECES.split("·")), max_size=20).map("".join))
@settings(database=None, deadline=None, max_examples=80)
def test_any_text_is_read_changed_or_refused(text: str):
    """Whatever a file holds, nothing but SourceError leaves, with lines that the file has."""
    places, problems, numbers = ["/new", "/a/b"], [], []
    try:
        document = load(text, file="dev.yaml", variables={"A": "1"})
        places += document.lines
        numbers += document.lines.values()
    except SourceError as error:
        problems += error.problems
    for pointer in places:
        for change in (partial(replace, value={"k": [1]}), remove):
            try:
                load(change(text, pointer, file="dev.yaml"), file="dev.yaml")
            except SourceError as error:
                problems += error.problems
    last = text.count("\n") + 1
    assert all(1 <= line <= last for line in numbers)
    assert all(problem.line is not None and 1 <= problem.line <= last for problem in problems)
