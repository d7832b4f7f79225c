"""The dialects of environment files: what their readers read is what went in."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import env_readers
from aliciacfg.variables.dialects import DIALECTS, CannotHold, render
from aliciacfg.variables.resolution import Variable
from yaml_readers import TEXTS

SYSTEMD = env_readers.systemd_library()
# Among any text, what quotes, escapes, comments and variables are made of.
PARTS = st.sampled_from(
    ["'", '"', "\\", "${", "$", "{A}", "}", "$$", "`", "#", " #", " ", "\n", "\r", "\t", "=", "A=b"]
)
VALUES = st.lists(PARTS | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=3)).map(
    "".join
)
FILES = st.lists(VALUES, max_size=4)
HARD = [
    *(text for text in TEXTS if "\0" not in text), "a\\", "\\", "\\\\", "\\'", "'\\", '\\"', '"\\', "${A}", "$A", "$$",
    "${A:-b}", "${:-x}", "\\${A}", "a\\\nb", "\\n", "it's $5", 'a"b$c', "x'\n'y", "#", "a#b", "a #b", "\x01\x02",
    "\x0712", "é\x7f", "export A=b",
    "'quoted'", '"quoted"', " lead", "trail ", "\u00a0", "\u0085", "\u2028", "\x0b\x0c",
]  # fmt: skip


def file_of(texts: list[str], dialect: str) -> tuple[str, dict[str, str]]:
    """A file with these values, and what its reader has to read."""
    variables = [Variable(f"V{number}", f"/v/{number}", text) for number, text in enumerate(texts)]
    return render(dialect, variables), {variable.name: variable.text for variable in variables}


@settings(max_examples=60)
@given(FILES)
def test_python_dotenv_reads_what_went_in(texts: list[str]):
    """Whatever stands in quotes, behind backslashes or in braces, and whatever follows on the next lines."""
    text, expected = file_of(texts, "dotenv")
    assert env_readers.dotenv(text) == expected


@settings(max_examples=60)
@given(FILES)
def test_compose_reads_what_went_in(texts: list[str]):
    """By a reader of the rules that Compose documents."""
    text, expected = file_of(texts, "compose")
    assert env_readers.compose(text) == expected


@pytest.mark.skipif(SYSTEMD is None, reason="this machine has no libsystemd-shared")
@settings(max_examples=60)
@given(FILES)
def test_systemd_reads_what_went_in(texts: list[str]):
    """By systemd's own parser, and as far as it accepts the values."""
    assert SYSTEMD is not None
    if any(0xFDD0 <= ord(c) <= 0xFDEF or ord(c) & 0xFFFE == 0xFFFE for text in texts for c in text):
        with pytest.raises(CannotHold):
            file_of(texts, "systemd")
        return
    text, expected = file_of(texts, "systemd")
    assert env_readers.systemd(SYSTEMD, text) == expected


@pytest.mark.parametrize("dialect", ["dotenv", "compose"])
def test_hard_values_stay_on_their_line(dialect: str):
    """Of each known trap, in one file; programs that read lines see no line that a value made up."""
    text, expected = file_of(HARD, dialect)
    assert (env_readers.dotenv if dialect == "dotenv" else env_readers.compose)(text) == expected
    assert [line.partition("=")[0] for line in text.split("\n")] == [*expected, ""]


def test_json_holds_what_went_in():
    """All values are strings."""
    text, expected = file_of(HARD, "json")
    assert json.loads(text) == expected


def test_a_value_that_systemd_refuses_is_named_and_not_shown():
    """With the variable, the pointer and the reason; one line for each."""
    variables = [Variable("GOOD", "/a", "x"), Variable("BAD", "/settings/bad", "hush\ufffe")]
    with pytest.raises(CannotHold) as refused:
        render("systemd", variables)
    assert "/settings/bad: BAD holds a noncharacter" in str(refused.value)
    assert "hush" not in str(refused.value)
    assert "GOOD" not in str(refused.value)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_no_variable_is_a_file_too(dialect: str):
    """A configuration may set none."""
    assert render(dialect, []) == ("{}\n" if dialect == "json" else "")


def test_a_variable_shows_no_value():
    """Neither in a traceback nor in a log."""
    assert "hush" not in repr(Variable("A", "/a", "hush"))
