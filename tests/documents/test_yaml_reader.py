"""The YAML dialect of the files that people edit, substitution in them, and changes in place."""

import json
from functools import partial
from typing import NamedTuple

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from aliciacfg.documents import Json, escape, find
from aliciacfg.documents.yaml_editor import remove, replace, replace_strings
from aliciacfg.documents.yaml_reader import literal, load
from aliciacfg.errors import InvalidRequest, SourceError

NOWHERE: dict[str, str] = {}


def value(text: str, variables: dict[str, str] | None = None) -> Json:
    return load(text, file="dev.yaml", variables=variables).value


def told(text: str, variables: dict[str, str] | None = None) -> str:
    with pytest.raises(SourceError) as refused:
        load(text, file="dev.yaml", variables=variables)
    return str(refused.value)


def same(left: Json, right: Json) -> bool:
    """Equal in JSON types, in the kinds of numbers and in the order of members."""
    return json.dumps(left) == json.dumps(right)


@pytest.mark.parametrize(
    ("scalar", "expected"),
    [
        ("", None), ("~", None), ("null", None), ("Null", None), ("NULL", None), ("nUll", "nUll"),
        ("true", True), ("True", True), ("TRUE", True), ("tRue", "tRue"), ("false", False), ("FALSE", False),
        ("yes", "yes"), ("No", "No"), ("on", "on"), ("off", "off"), ("y", "y"),
        ("0", 0), ("-0", 0), ("+12", 12), ("010", 10), ("0o17", 15), ("0x1F", 31), ("0b1", "0b1"), ("1_000", "1_000"),
        ("18446744073709551615", 2**64 - 1), ("-9223372036854775808", -(2**63)),
        ("1.5", 1.5), ("1.", 1.0), (".5", 0.5), ("+.5e-3", 0.0005), ("1e3", 1000.0), ("2.0", 2.0), (".", "."),
        ("2024-01-01", "2024-01-01"), ("2024-01-01T10:00:00Z", "2024-01-01T10:00:00Z"), ("12:30:45", "12:30:45"),
        ("'1'", "1"), ('"true"', "true"), ("'it''s'", "it's"), ('"\\u00e9\\x41\\n\\/"', "éA\n/"), ("nan", "nan"),
        ("a  # comment", "a"), ("a#b", "a#b"), ("a\n  b", "a b"), ("|\n  a\n  1\n", "a\n1\n"), (">-\n  1\n", "1"),
        ("http://x:1/", "http://x:1/"), ("=", "="), ("😀", "😀"),
    ],
)  # fmt: skip
def test_scalars_have_the_types_of_the_core_schema(scalar: str, expected: Json):
    """Plain scalars are typed as YAML 1.2 types them, quoted and block ones are strings."""
    assert same(value(f"a: {scalar}\nb: 1\n"), {"a": expected, "b": 1})


@pytest.mark.parametrize("text", ["", "\n", "# only a comment\n", "---\n", "--- # nothing\n", "\ufeff", "---\n...\n"])
def test_a_file_without_content_is_an_empty_mapping(text: str):
    """What holds no value at all reads as {}."""
    assert load(text, file="dev.yaml").value == {}


def test_lines_lead_from_pointers_to_the_text():
    """Members have the line of their key, items their own, names are escaped, aliases point at the anchored text."""
    text = "# c\na/b:\n  c~d: 1\n\n  list:\n  - x\n  -\n    y: |\n      t\n    z: {p: 1,\n      q: &q [7]}\nlast: *q\n"
    assert load(text, file="dev.yaml").lines == {
        "/a~1b": 2,
        "/a~1b/c~0d": 3,
        "/a~1b/list": 5,
        "/a~1b/list/0": 6,
        "/a~1b/list/1": 8,
        "/a~1b/list/1/y": 8,
        "/a~1b/list/1/z": 10,
        "/a~1b/list/1/z/p": 10,
        "/a~1b/list/1/z/q": 11,
        "/a~1b/list/1/z/q/0": 11,
        "/last": 12,
        "/last/0": 11,
    }


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_every_kind_of_newline_counts_as_one(newline: str):
    """Line numbers are those of an editor whatever ends the lines, with a byte order mark too."""
    document = load(f"\ufeffa: 1{newline}{newline}b: 2{newline}", file="dev.yaml")
    assert (document.value, document.lines) == ({"a": 1, "b": 2}, {"/a": 1, "/b": 3})


def test_each_alias_gets_its_own_copy():
    """Changing the value of one alias leaves the anchored value and other aliases alone."""
    document = value("a: &x {n: [1]}\nb: *x\nc: *x\n")
    assert document == {"a": {"n": [1]}, "b": {"n": [1]}, "c": {"n": [1]}}
    assert isinstance(document, dict)
    assert document["a"] is not document["b"] is not document["c"]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\nb: !!str 2\n", 2, "tags"),
        ("a: ! 2\n", 1, "tags"),
        ("a: !!python/object:os.system {}\n", 1, "tags"),
        ("!local {a: 1}\n", 1, "tags"),
        ("%YAML 1.2\n---\na: 1\n", 1, "directives"),
        ("# c\n%YAML 1.1\n---\na: 1\n", 2, "directives"),
        ("%TAG ! x:\n---\na: 1\n", 1, "directives"),
        ("%OTHER\n---\na: 1\n", 1, "directives"),
        ("a: 1\n---\nb: 1\n", 2, "second document"),
        ("a: 1\nb:\n  a: 1\n  c: 2\n  a: 3\n", 5, 'duplicate key "a", first on line 3'),
        ("{a: 1,\n 'a': 2}\n", 2, 'duplicate key "a", first on line 1'),
        ("1: x\n", 1, 'the key 1 is not a string; quote it: "1"'),
        ("true: x\n", 1, 'quote it: "true"'),
        ("null: x\n", 1, 'quote it: "null"'),
        ("~: x\n", 1, 'quote it: "~"'),
        ("1.5: x\n", 1, 'quote it: "1.5"'),
        (".nan: x\n", 1, 'quote it: ".nan"'),
        ("?\n: x\n", 1, 'the key (empty) is not a string; quote it: ""'),
        ("[a]: 1\n", 1, "a key must be a string"),
        ("? {a: 1}\n: 2\n", 1, "a key must be a string"),
        ("a: &x b\n*x : 1\n", 2, "a key must be a string"),
        ("a: 1\n<<: {b: 1}\n", 2, "merge key"),
        ("a: [.nan]\n", 1, "not a number"),
        ("a: -.Inf\n", 1, "infinite"),
        ("a: 1e999\n", 1, "beyond the range of a double"),
        ("a: 18446744073709551616\n", 1, "beyond 64 bits"),
        ("a: -9223372036854775809\n", 1, "beyond 64 bits"),
        ("a: 0xfffffffffffffffff\n", 1, "beyond 64 bits"),
        (f"a: {'9' * 5000}\n", 1, "beyond 64 bits"),
        ("a:\n\t- b\n", 2, "indent with spaces, not tabs"),
        ("a:\n  b: 1\n\tc: 2\n", 3, "indent with spaces, not tabs"),
        ("a: [1,\n\n", 1, "check quotes, brackets and indentation"),
        ("a: 1\nb: 'x\n\n", 2, "unexpected end"),
        ("a: {b: 1\nc: 2\n", 2, "that begins on line 1"),
        ("a: b: c\n", 1, 'quote a value that holds ":"'),
        ("a: [http://x]\n", 1, 'quote a value that holds ":"'),
        ("a: @x\n", 1, "quote a value that begins with @"),
        ('a: "\\ud83d\\ude00"\n', 1, "write the character itself"),
        ("a: {b: ${X}}\n", 1, 'must be quoted: "${NAME}"'),
        ("a: 1\nb: [1, ${X:-2}]\n", 2, 'must be quoted: "${NAME}"'),
        ("a: ${X:-b: c}\n", 1, 'must be quoted: "${NAME}"'),
        ("a: 1\nb: \x00\n", 2, 'U+0000 is not allowed; write "\\u0000"'),
        ("a: 1\r\nb: \x1b[0m\n", 2, "U+001B"),
        ("a: 1 # comment\u2028b: 2\n", 1, "U+2028"),
        ("a: \ud800\n", 1, "U+D800"),
        ("a: \ufeff\n", 1, "U+FEFF"),
        ("a: &x [1, *x]\n", 1, "an alias inside the value that it stands for"),
        ("a: &x\n  b:\n    c: *x\n", 3, "an alias inside the value that it stands for"),
        ("a: *nope\n", 1, "an alias without an anchor above it"),
        (f"a: {'[' * 32}{']' * 32}\n", 1, "deeper than 32"),
        ("[" * 100_000, 1, "deeper than 32"),
        (f"a: &x {'[' * 20}{']' * 20}\nb: {'[' * 20}*x{']' * 20}\n", 1, "deeper than 32"),
    ],
)  # fmt: skip
def test_what_json_has_not_is_refused_with_its_line(text: str, line: int, words: str):
    """Each refusal names file and line and says what to do."""
    message = told(text)
    assert message.startswith(f"dev.yaml:{line}: ")
    assert words in message


@pytest.mark.parametrize(
    "text", ["a: 1 # !tag %x <<\n", '"<<": 1\n"1": 2\n', "a: '!!str'\n", "yes: 1\n2024-01-01: 2\n", "--- {a: 1}\n...\n"]
)
def test_what_only_looks_like_it_is_accepted(text: str):
    """Comments, quoted text, YAML 1.1 leftovers and explicit document marks do no harm."""
    assert value(text)


def test_thirty_two_levels_are_accepted():
    """The limit of depth is the deepest that passes, not the first that fails."""
    assert value("[" * 32 + "]" * 32)
    assert "deeper" in told("[" * 33 + "]" * 33)
    assert value("- &x [[]]\n- " + "[" * 29 + "*x" + "]" * 29)
    assert "deeper" in told("- &x [[]]\n- " + "[" * 30 + "*x" + "]" * 30)


def test_all_problems_are_told_at_once_in_the_order_of_lines():
    """One pass lists everything but what stands behind a syntax error, each with its pointer."""
    text = "a: !t ${NO}\nb: {c: .nan, d: .nan, c: 1}\n2: ${NO}\nd: &x [${NEITHER}]\ne: [*x, *x]\nf: *g\n"
    text = text.replace("[${NEITHER}]", '["${NEITHER}"]')
    with pytest.raises(SourceError) as refused:
        load(text, file="dev.yaml", variables=NOWHERE)
    found = [(problem.line, problem.message.split()[0], problem.pointer) for problem in refused.value.problems]
    assert found == [
        (1, "tags", ""),
        (1, "variable", "/a"),
        (2, "infinite", "/b/c"),
        (2, "infinite", "/b/d"),
        (2, "duplicate", "/b/c"),
        (3, "the", ""),
        (3, "variable", "/2"),
        (4, "variable", "/d/0"),
        (6, "an", ""),
    ]


def test_a_problem_that_aliases_repeat_is_told_once():
    """It is told where it stands, also if only an alias of a key makes a value of it."""
    assert told("a: &x ['${NO}']\nb: [*x, *x]\n", NOWHERE).count("\n") == 0
    assert told("&k '${NO}': 1\nb: [*k, *k]\n", NOWHERE).startswith("dev.yaml:1: variable NO is not set")


@pytest.mark.parametrize(
    "text", ["a: *hunter2\n", "a: !hunter2\n", "a: {b: 'hunter2'\n", "a: hunter2: x\n", "a: 'hunter2'\n'b\n"]
)
def test_no_message_holds_a_value(text: str):
    """A password that somebody forgot to quote does not end up in a log."""
    assert "hunter2" not in told(text)


def test_aliases_cannot_multiply_without_bounds():
    """A billion laughs is refused, while as many honest aliases as a file may need pass."""
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))
    assert "aliases expand to more than" in told(bomb)
    honest = "a: &a {b: 1, c: [2]}\n" + "".join(f"m{n}: *a\n" for n in range(2000))
    assert len(load(honest, file="dev.yaml").lines) == 4 + 2000 * 4


def test_the_size_of_a_file_is_no_bound():
    """Only aliases are counted: a long file without any is read whole."""
    text = "".join(f"m{n}: [1, 2, 3, 4, 5, 6, 7, 8, 9]\n" for n in range(12_000))
    assert len(load(text, file="dev.yaml").lines) == 120_000


VARIABLES = {
    "PORT": "1883", "EMPTY": "", "FLAG": "true", "NAN": ".nan", "MAP": "{a: 1}", "NEST": "${PORT}",
    "BIG": "99999999999999999999", "LINES": "a\nb: c", "RAW": "\udc80", "DAY": "2024-01-01", "SPACED": " 5 ",
    "NULL": "null", "_x1": "under",
}  # fmt: skip


@pytest.mark.parametrize(
    ("scalar", "expected"),
    [
        ("${PORT}", 1883), ("'${PORT}'", "1883"), ('"${PORT}"', "1883"), ("${PORT}0", "18830"), ("a${PORT}", "a1883"),
        ("${PORT}${PORT}", "18831883"), ("|\n  ${PORT}\n", "1883\n"), (">-\n  ${PORT}\n", "1883"),
        ("${FLAG}", True), ("${DAY}", "2024-01-01"), ("${SPACED}", " 5 "), ("${NULL}", None), ("${_x1}", "under"),
        ("${MAP}", "{a: 1}"), ("${LINES}", "a\nb: c"), ("${NEST}", "${PORT}"), ("'${BIG}'", "9" * 20),
        ("${EMPTY}", None), ("'${EMPTY}'", ""), ("x${EMPTY}", "x"), ("${EMPTY:-7}", 7), ("${EMPTY:-}", None),
        ("${NONE:-}", None), ('"${NONE:-}"', ""), ("${NONE:-true}", True), ("'${NONE:-true}'", "true"),
        ("${NONE:-a b}", "a b"), ("${NONE:-'q'}", "'q'"), ("${NONE:-a:-b}", "a:-b"), ("${PORT:-9}", 1883),
        ("${NONE:-$}", "$"), ("${NONE:-{}", "{"), ("'${NONE:- #c}'", " #c"), ("${NONE:-[1]}", "[1]"),
        ("$${PORT}", "${PORT}"), ("$$${PORT}", "$${PORT}"), ("$${", "${"), ("$${}", "${}"), ("${PORT}$${", "1883${"),
        ("$PORT", "$PORT"), ("$ {PORT}", "$ {PORT}"), ("$$", "$$"), ("a}", "a}"),
    ],
)  # fmt: skip
def test_variables_are_put_in(scalar: str, expected: Json):
    """Exactly one plain ${…} is typed, anything else is a string, and what was put in stays as it is."""
    assert same(value(f"a: {scalar}\n", VARIABLES), {"a": expected})


@pytest.mark.parametrize(
    ("scalar", "words"),
    [
        ("${NONE}", "variable NONE is not set; set it in the environment or .env, or write ${NONE:-default}"),
        ("'a ${NONE} b'", "variable NONE is not set"),
        ("${", "write $${ for a literal ${"),
        ("${PORT", "write $${ for a literal ${"),
        ("${}", "write $${ for a literal ${"),
        ("${1A}", "write $${ for a literal ${"),
        ("${A-b}", "write $${ for a literal ${"),
        ("${A:b}", "write $${ for a literal ${"),
        ("${ PORT }", "write $${ for a literal ${"),
        ("${É}", "write $${ for a literal ${"),
        ("${PORT:-${PORT}}", "write $${ for a literal ${"),
        ("${PORT:- #c}", 'quote a value whose default holds " #"'),
        ("${BIG}", "beyond 64 bits"),
        ("${NAN}", "not a number"),
        ("${NONE:-1e999}", "beyond the range"),
        ("${RAW}", "variable RAW is not UTF-8"),
    ],
)
def test_a_variable_that_cannot_be_put_in_is_refused(scalar: str, words: str):
    """The message names file and line, says what to do, and never holds the variable's value."""
    message = told(f"first: 1\na: {scalar}\n", VARIABLES)
    assert message.startswith("dev.yaml:2: ")
    assert words in message
    assert not any(secret in message for secret in ("1883", "999999", ".nan"))


def test_variables_stay_out_of_keys():
    """Keys are literal text."""
    assert value("${PORT}: ${PORT}\n", VARIABLES) == {"${PORT}": 1883}


def test_without_variables_all_is_literal():
    """A file that is no environment file, a schema say, keeps every ${ and $${."""
    assert value("a: ${PORT}\nb: $${x}\nc: ${\n") == {"a": "${PORT}", "b": "$${x}", "c": "${"}


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
    """Everything that stands in the way is told, with its line."""
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


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("x", "x"), ("", ""), ("$${X}", "${X}"), ("$$$${X", "$$${X"), ("$X", "$X"),
        ("${X}", None), ("a$${b${C:-d}", None), ("${", None), ("${no name}", None),
    ],
)  # fmt: skip
def test_a_literal_is_what_needs_no_variable(text: str, meaning: str | None):
    """Escapes are undone as the loader does; anything that it would fill in or refuse is no literal."""
    assert literal(text) == meaning
    if meaning is not None:
        assert value(f"a: '{text}'", NOWHERE) == {"a": meaning}


@pytest.mark.parametrize("pointer", ["a", "/a~", "/~2"])
def test_a_malformed_pointer_is_the_callers_mistake(pointer: str):
    """It is not blamed on the file."""
    with pytest.raises(InvalidRequest):
        replace("a: 1\n", pointer, 1, file="dev.yaml")
    with pytest.raises(InvalidRequest):
        remove("a: 1\n", pointer, file="dev.yaml")


# Every BMP character, and some beyond; half surrogates cannot be in UTF-8.
STRINGS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    st.sampled_from(["", " ", "null", "1", "1.5", "yes", "<<", "a: b", "a #b", "- x", "${X}", "$${X}", "${", "\x85"]),
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    STRINGS,
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(STRINGS, inner, max_size=4), max_leaves=12
)
OBJECTS = st.dictionaries(STRINGS, VALUES, max_size=5)


@given(VALUES)
@settings(database=None)
def test_json_is_read_as_yaml(document: Json):
    """What a JSON encoder writes is read back to the same value, without variables."""
    text = json.dumps(document, ensure_ascii=False)
    assume(not any(character in text for character in "\x7f\u2028\u2029\ufeff\ufffe\uffff"))
    assume(not any("\x80" <= character <= "\x9f" for character in text))
    assert same(load(text, file="x.json").value, document)


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
@settings(database=None, deadline=None, max_examples=400)
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
