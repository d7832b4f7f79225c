"""The YAML dialect of the files that people edit, and the variables in them."""

import json
from collections.abc import Callable

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from aliciacfg.documents import Json
from aliciacfg.documents.yaml_reader import YamlDocument, literal, load, parse
from aliciacfg.documents.yaml_syntax import read_plain
from aliciacfg.errors import SourceError
from soak import examples
from yaml_values import NOWHERE, VALUES, same, told, value


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
        ("a: *.log\n", 1, "quote a value that begins with * or &"),
        ("a: &\n", 1, "quote a value that begins with * or &"),
        ('a: "C:\\Users"\n', 1, "write \\\\ for \\, or use single quotes"),
        ('a: "\\.local"\n', 1, "write \\\\ for \\, or use single quotes"),
        ("<<<<<<< HEAD\na: 1\n=======\na: 2\n>>>>>>> b\n", 1, "git left both sides of a conflict"),
        ("a:\n  b: 1\n<<<<<<< HEAD\n  c: 1\n=======\n  c: 2\n>>>>>>> b\n", 3, "git left both sides of a conflict"),
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
        ("a: !secret door\n", 1, "write ${NAME} and set NAME in .env"),
        ("a: !env_var DOOR\n", 1, "write ${NAME} or ${NAME:-default}"),
        ("a: !include_dir_named rooms\n", 1, "write the content here"),
        ("a: !vault |\n  $ANSIBLE_VAULT\n", 1, "aliciacfg seal"),
        ("a: !!int '5'\n", 1, "tags such as !!"),
        ("a: &x {b: 1}\nc:\n  <<: *x\n", 3, "under defaults:"),
        ("a: {{ door }}\n", 1, "write ${NAME}, or quote the text itself"),
        ("a: {{ door }}/{{ key }}\n", 1, "write ${NAME}, or quote the text itself"),
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
        (3, "a", ""),
        (3, "variable", "/2"),
        (4, "variable", "/d/0"),
        (6, "an", ""),
    ]


def test_a_problem_that_aliases_repeat_is_told_once():
    """Its place is reported, also if only an alias of a key makes a value of it."""
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
        ("${A-b}", "write ${NAME:-default}"),
        ("${A:?is needed}", "remove :? or ?"),
        ("a ${A?} b", "remove :? or ?"),
        ("${A:+b}", "neither ${NAME} nor ${NAME:-default}"),
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


@given(VALUES)
@settings(database=None)
def test_json_is_read_as_yaml(document: Json):
    """What a JSON encoder writes is read back to the same value, without variables."""
    text = json.dumps(document, ensure_ascii=False)
    assume(not any(character in text for character in "\x7f\u2028\u2029\ufeff\ufffe\uffff"))
    assume(not any("\x80" <= character <= "\x9f" for character in text))
    assert same(load(text, file="x.json").value, document)


# Pieces of files, good and bad: with a newline between them they are texts that an editor might leave.
PIECES = st.sampled_from([
    "a: 1", "b:", "  c: ${X}", "  d: [x, ${X:-y}]", "- e", "- f: 1", "  - {g: 2, h: }", "  - |\n    text", "a: 2",
    "1: x", "<<: {}", "k: &m {n: 1}", "o: *m", "p: !t 1", "q: .nan", "r: 99999999999999999999999", "---", "...", "# c",
    "s: ${}", "{t: [1, [2]], u: {}}", "[[]]", "v: 'w'", "? [x]\n: y", "a/b~c: \u2028", 'x: "${X} $${"',
    "%YAML 1.2", "\ty: 1",
])  # fmt: skip


def outcome(read: Callable[[], YamlDocument]) -> object:
    """The problems of a text, or what it holds, as a text that tells kinds of numbers apart, and in its order."""
    try:
        document = read()
    except SourceError as error:
        return error.problems
    return json.dumps(document.value), list(document.lines.items())


@given(st.lists(PIECES, max_size=6), st.sampled_from([None, {}, {"X": "5"}]))
@examples(100)
def test_reading_in_one_step_makes_no_difference(pieces: list[str], variables: dict[str, str] | None):
    """Values, lines and problems are those that nodes yield, whatever stands in a file."""
    text = "\n".join(pieces)
    in_steps = outcome(lambda: parse(text, "dev.yaml", variables)[1])
    assert outcome(lambda: load(text, file="dev.yaml", variables=variables)) == in_steps


def test_thirty_three_levels_are_as_wrong_in_one_step():
    """As many as are allowed are read so; one more is left to the way that tells the problem."""

    def read(levels: int) -> object:
        return read_plain("[" * levels + "]" * levels, key=lambda text, _: text, scalar=lambda text, _: text)

    assert read(32) is not None
    assert read(33) is None


@pytest.mark.parametrize("text", ["😀", "\\ud83d\\ude00", "\\😀", "\ue000\U0010ffff", '"\\"😀', "\\u"])
def test_a_json_file_is_read_as_json_encoders_write_it(text: str):
    """With a character beyond U+FFFF as two escapes, in keys and in values; backslashes stay what they are."""
    value = {text: [text, {"a": f"x{text}{text}"}]}
    assert load('["\\uD83D\\uDE00"]', file="one.json").value == ["😀"]
    assert load(json.dumps(value), file="schemas/one.json").value == value


@pytest.mark.parametrize("half", ["\\ud83d", "\\ude00", "\\ude00\\ud83d", "\\ud83d\\ud83d"])
def test_half_a_character_in_a_json_file_is_a_problem(half: str):
    """It is none in JSON either."""
    with pytest.raises(SourceError, match=r"one.json:1: "):
        load(f'{{"a": "{half}"}}', file="one.json")
