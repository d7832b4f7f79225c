"""Documents that hold sealed values: opened, redacted, sealed, and sealed again after a rotation of keys."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aliciacfg import documents
from aliciacfg.errors import InvalidRequest
from aliciacfg.model.records import Record
from aliciacfg.schemas.service_schema import ServiceSchema
from aliciacfg.sealing.boxes import Keyring, PrivateKey, is_sealed, resembles_sealed, seal_for, sealed_with
from aliciacfg.sealing.redactions import exact_redactions
from aliciacfg.sealing.sealed_documents import (
    MissingKey,
    form_problems,
    open_document,
    redact,
    redact_encoded,
    redact_record,
    reseal,
    seal_document,
    sealed_pointers,
)
from soak import examples

HERE: dict[str, Any] = {"service": "bell", "environment": "dev"}
FIRST, SECOND, LOST = PrivateKey.generate(), PrivateKey.generate(), PrivateKey.generate()
BEFORE = Keyring(current=FIRST.public.key_id, keys=[FIRST], digest_key=b"d" * 32)
AFTER = Keyring(current=SECOND.public.key_id, keys=[FIRST, SECOND], digest_key=b"d" * 32)
ELSEWHERE = Keyring(current=LOST.public.key_id, keys=[LOST], digest_key=b"d" * 32)


def sealed(document: Any, secrets: list[str], keyring: Keyring = BEFORE) -> bytes:
    """A document as it is stored."""
    values = dict(documents.walk_strings(document))
    boxes = {pointer: keyring.seal(values[pointer], **HERE, pointer=pointer) for pointer in secrets}
    return documents.canonical(documents.replace_strings(document, boxes))


def opened(document: bytes, keyring: Keyring) -> Any:
    content = documents.decode(document)
    plain = {
        pointer: keyring.open(value, **HERE, pointer=pointer)
        for pointer, value in documents.walk_strings(content)
        if is_sealed(value)
    }
    return documents.replace_strings(content, plain)


def keys_of(document: bytes) -> set[str]:
    strings = documents.walk_strings(documents.decode(document))
    return {sealed_with(value) for _, value in strings if is_sealed(value)}


scalars = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
)
values = st.recursive(
    scalars | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)


@settings(deadline=None)
@given(document=st.dictionaries(st.text(max_size=4), values, max_size=4), data=st.data())
def test_after_resealing_only_the_new_key_is_needed(document: dict[str, Any], data: st.DataObject):
    """For any document with any of its strings sealed: it says the same, and the old key can go."""
    pointers = [pointer for pointer, _ in documents.walk_strings(document)]
    secrets = data.draw(st.lists(st.sampled_from(pointers), unique=True) if pointers else st.just([]))
    stored = sealed(document, secrets)
    result = reseal(stored, AFTER, **HERE)
    assert sorted(result.pointers) == sorted(secrets)
    assert result.left == []
    assert keys_of(result.document) <= {SECOND.public.key_id}
    alone = Keyring(current=SECOND.public.key_id, keys=[SECOND], digest_key=b"d" * 32)
    assert documents.canonical(opened(result.document, alone)) == documents.canonical(document)
    again = reseal(result.document, AFTER, **HERE)
    assert (again.document, again.pointers) == (result.document, [])


def test_everything_but_the_boxes_stays_byte_for_byte():
    """Numbers, the order of members, and what is sealed by the current key already."""
    done = AFTER.seal("done", **HERE, pointer="/z/pin")
    old = BEFORE.seal("old", **HERE, pointer="/a")
    stored = json.dumps({"z": {"pin": done, "n": [1.0, 1e300, -0.0, 2**64 - 1]}, "a": old}, separators=(",", ":"))
    result = reseal(stored.encode(), AFTER, **HERE)
    assert result.pointers == ["/a"]
    new = documents.find(documents.decode(result.document), "/a")
    assert result.document.decode() == stored.replace(old, str(new)).replace("1e+300", "1e300")


@pytest.mark.parametrize("box", ["lost", "moved", "nonsense", "damaged", "damaged current"])
def test_what_does_not_open_stays_and_is_told(box: str):
    """A lost key, a box that was moved, no box at all: the others are sealed anew all the same."""
    values = {
        "lost": ELSEWHERE.seal("x", **HERE, pointer="/a"),
        "moved": BEFORE.seal("x", **HERE, pointer="/other"),
        "nonsense": "sealed:v1:nonsense",
        "damaged": BEFORE.seal("x", **HERE, pointer="/a")[:-4],
        "damaged current": AFTER.seal("x", **HERE, pointer="/a")[:-4],
    }
    stored = documents.canonical({"a": values[box], "b": BEFORE.seal("y", **HERE, pointer="/b")})
    result = reseal(stored, AFTER, **HERE)
    assert result.pointers == ["/b"]
    assert documents.find(documents.decode(result.document), "/a") == values[box]
    assert [problem.pointer for problem in result.left] == ["/a"]
    alone = documents.canonical({"a": values[box]})
    assert reseal(alone, AFTER, **HERE).document == alone


def test_a_box_of_another_service_or_environment_is_not_sealed_anew():
    """Rotation must not give a stolen box a binding that it never had."""
    stored = sealed({"a": "x"}, ["/a"])
    for elsewhere in ({"service": "lamp"}, {"environment": "prod"}):
        result = reseal(stored, AFTER, **{**HERE, **elsewhere})
        assert (result.document, result.pointers, len(result.left)) == (stored, [], 1)


@pytest.mark.parametrize("stored", [b"{", b"[]", b"null"])
def test_what_is_no_json_object_is_refused(stored: bytes):
    """Before anything is made of it."""
    with pytest.raises(InvalidRequest):
        reseal(stored, AFTER, **HERE)


@settings(deadline=None)
@given(document=st.dictionaries(st.text(max_size=4), values, max_size=4), data=st.data())
def test_a_sealed_document_opens_to_what_it_was(document: dict[str, Any], data: st.DataObject):
    """For any document with any of its strings sealed; neither step changes its argument."""
    before = documents.canonical(document)
    strings = dict(documents.walk_strings(document))
    chosen = data.draw(st.lists(st.sampled_from(sorted(strings)), unique=True) if strings else st.just([]))
    secrets = {pointer: strings[pointer] for pointer in chosen}
    stored = seal_document(document, secrets, BEFORE, **HERE)
    sealed_as = documents.canonical(stored)
    found = open_document(stored, BEFORE, **HERE)
    assert documents.canonical(found.document) == before == documents.canonical(document)
    assert (found.secrets, found.problems) == (secrets, [])
    assert found.readable == found.document
    assert documents.canonical(stored) == sealed_as
    assert redact(stored, chosen) == redact(document, chosen)


def test_values_that_do_not_open_stay_sealed_and_are_readable_as_stars():
    """A missing key is told apart from a damaged value; all that opens is open."""
    missing = ELSEWHERE.seal("x", **HERE, pointer="/missing")
    moved = BEFORE.seal("x", **HERE, pointer="/other")
    document: dict[str, Any] = {"missing": missing, "moved": moved, "here": BEFORE.seal("y", **HERE, pointer="/here")}
    found = open_document(document, BEFORE, **HERE)
    assert found.document == {"missing": missing, "moved": moved, "here": "y"}
    assert found.readable == {"missing": "***", "moved": "***", "here": "y"}
    assert found.secrets == {"/here": "y"}
    assert [(problem.pointer, isinstance(problem, MissingKey)) for problem in found.problems] == [
        ("/missing", True),
        ("/moved", False),
    ]


def test_only_a_shared_document_opens_values_bound_to_every_service():
    """As the ``defaults`` of a file are shared."""
    document: dict[str, Any] = {"pin": seal_for(FIRST.public, "x", service="*")}
    assert open_document(document, BEFORE, **HERE, shared=True).document == {"pin": "x"}
    assert open_document(document, BEFORE, **HERE).secrets == {}


NAMES = st.sampled_from(["a", "token", "sealed:b"])
SUSPECTS = st.sampled_from(
    [
        "",
        "x",
        "sealed:v1:",
        "sealed:v2:abc",
        "SEALED:v1:x",
        " \tsealed:x",
        "sealed: with wax",
        "\u017fealed:v1:x",
        "***",
    ]
)
SUSPECT_DOCUMENTS: st.SearchStrategy[Any] = st.dictionaries(
    NAMES,
    st.recursive(SUSPECTS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=2)),
    max_size=3,
)


@given(SUSPECT_DOCUMENTS)
def test_strings_that_resemble_sealed_values_are_found_wherever_they_stand(document: dict[str, Any]):
    """The same as by looking at every string."""
    schema, keyring = ServiceSchema(None, title="base"), Keyring.ephemeral()
    strings = list(documents.walk_strings(document))
    assert sealed_pointers(document) == [pointer for pointer, value in strings if is_sealed(value)]
    assert exact_redactions(document) == [pointer for pointer, value in strings if value == "***"]
    secrets = schema.secrets(document)
    expected = [place for place, value in strings if resembles_sealed(value, at_secret=place in secrets)]
    opened = open_document(document, keyring, service="bell", environment="dev")
    assert [problem.pointer for problem in form_problems(document, opened, schema)] == expected


HARD = st.sampled_from(["sealed:v1:", 'sealed:v1:"', "sealed:v1:\\", ',"sealed:v1:x"', '\\"sealed:v1:', "[", '",', "é"])


@examples(10)
@given(st.dictionaries(HARD, st.recursive(HARD, lambda inner: st.lists(inner) | st.dictionaries(HARD, inner))))
def test_a_record_is_redacted_without_decoding_it(document: dict[str, Any]):
    """To the same bytes, also where keys and other texts hold what a sealed value begins with."""
    record = Record(
        **HERE,
        revision=1,
        version="1.0.0",
        timestamp=0.0,
        author="x",
        cause="api",
        checksum="",
        digest="",
        changed=[],
        restart_required=[],
        config=documents.canonical(document),
    )
    assert redact_encoded(record) == documents.encode(redact_record(record))
