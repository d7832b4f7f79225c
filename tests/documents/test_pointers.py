"""JSON Pointers, and walks over the strings of a document."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from aliciacfg import documents
from aliciacfg.documents import JsonObject
from aliciacfg.errors import InvalidRequest
from json_values import OBJECTS, VALUES, same, thorough


@pytest.mark.parametrize(
    ("pointer", "tokens"),
    [
        ("", ()), ("/", ("",)), ("/a", ("a",)), ("/a/b/0", ("a", "b", "0")), ("/a~1b/c~0d", ("a/b", "c~d")),
        ("//", ("", "")), ("/~01", ("~1",)), ("/~10", ("/0",)), ("/ é%", (" é%",)),
    ],
)  # fmt: skip
def test_pointers_are_split_and_joined_as_rfc_6901_says(pointer: str, tokens: tuple[str, ...]):
    """~1 is unescaped before ~0, so ~01 is the two characters ~1; joining gives the pointer back."""
    assert documents.parse_pointer(pointer) == tokens
    assert documents.format_pointer(tokens) == pointer


@pytest.mark.parametrize("pointer", ["a", "#/a", " /a", "/~", "/a~2", "/~~0", "/a/~x"])
def test_what_is_no_pointer_is_refused(pointer: str):
    """It has to begin with a slash, and a tilde is followed by 0 or 1."""
    with pytest.raises(InvalidRequest):
        documents.parse_pointer(pointer)


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("settings.melody", "write /settings/melody."),
        ("settings/melody", "write /settings/melody."),
        ("melody", "write for example /settings/log_level."),
        ("$.settings", "write for example /settings/log_level."),
    ],
)
def test_a_path_of_another_kind_is_answered_with_the_pointer(written: str, hint: str):
    """Dots and a missing first slash are what people write most; of anything else there is only an example."""
    with pytest.raises(InvalidRequest, match=re.escape(f"does not begin with '/'; {hint}")):
        documents.parse_pointer(written)


@pytest.mark.parametrize(
    ("pointer", "expected"),
    [
        ("", {"a": [10, {"b/c": None}], "0": "zero", "": 1}),
        ("/a/0", 10), ("/a/1/b~1c", None), ("/0", "zero"), ("/", 1),
        ("/a/2", UNSET), ("/a/-", UNSET), ("/a/-1", UNSET), ("/a/+0", UNSET), ("/a/00", UNSET), ("/a/01", UNSET),
        ("/a/\u0660", UNSET), ("/a/ 0", UNSET), ("/a/", UNSET), ("/a/0/x", UNSET), ("/0/0", UNSET), ("/b", UNSET),
        ("/a/" + "9" * 5000, UNSET),
    ],
)  # fmt: skip
def test_a_pointer_finds_its_place_or_none(pointer: str, expected: object):
    """Only plain decimal numbers index arrays (RFC 6901 §4); a null that is there is not the same as nothing."""
    document: JsonObject = {"a": [10, {"b/c": None}], "0": "zero", "": 1}
    assert documents.find(document, pointer) == expected


@thorough
@given(OBJECTS)
def test_every_string_is_walked_to_at_its_own_pointer(document: JsonObject):
    """What a pointer of the walk finds is the string, and replacing through it changes that string alone."""
    found = dict(documents.walk_strings(document))
    assert all(documents.find(document, pointer) == text for pointer, text in found.items())
    changed = documents.replace_strings(document, {pointer: f"<{text}>" for pointer, text in found.items()})
    assert dict(documents.walk_strings(changed)) == {pointer: f"<{text}>" for pointer, text in found.items()}
    assert same(documents.replace_strings(changed, found), document)


def test_strings_are_replaced_as_values_never_as_names():
    """A member whose name equals a secret stays as it is."""
    document: JsonObject = {"x": "x", "l": ["x", {"x": 1}]}
    assert documents.replace_strings(document, {"/x": "new", "/l/0": "item"}) == {"x": "new", "l": ["item", {"x": 1}]}


@thorough
@given(document=OBJECTS | VALUES, text=st.text(max_size=1))
def test_the_places_of_a_text_are_those_where_it_stands_alone(document: Any, text: str):
    """Of strings only, not of names."""
    places = documents.pointers_of(document, text)
    assert places == [place for place, found in documents.walk_strings(document) if found == text]
