"""The secrets that redactions in a written document stand for."""

from typing import Any

import pytest

from aliciacfg.sealing.redactions import redaction_sources


def items(*names: str) -> list[Any]:
    return [{"name": name, "code": "***"} for name in names]


@pytest.mark.parametrize(
    ("wanted", "shown", "sources"),
    [
        (["a", "b", "c"], ["a", "b", "c"], [0, 1, 2]),
        (["c", "a"], ["a", "b", "c"], [2, 0]),
        (["new", "a"], ["a"], [None, 0]),
        (["renamed", "b"], ["a", "b"], [0, 1]),
        (["renamed"], ["a", "b"], [None]),
        (["b", "renamed"], ["a", "b"], [1, None]),
        (["a", "a"], ["a", "a"], [0, 1]),
        (["a"], ["a", "a"], [None]),
    ],
)
def test_an_item_of_an_array_is_found_by_its_content(wanted: list[str], shown: list[str], sources: list[int | None]):
    """Moved or removed items keep their own secret; where it is unclear whose it was, none is found."""
    pointers = [f"/doors/{index}/code" for index in range(len(wanted))]
    found = redaction_sources(pointers, {"doors": items(*wanted)}, {"doors": items(*shown)})
    expected = [None if index is None else f"/doors/{index}/code" for index in sources]
    assert list(found.values()) == expected
    assert list(found) == pointers


def test_outside_of_arrays_the_place_counts():
    """Names with special characters included; whether a secret is there is for the caller to check."""
    document: dict[str, Any] = {"a/b": {"~": "***"}, "new": "***"}
    assert redaction_sources(["/a~1b/~0", "/new"], document, {}) == {"/a~1b/~0": "/a~1b/~0", "/new": "/new"}


def test_items_of_nested_arrays_are_found_on_every_level():
    """A row that moved, with an item in it that moved, too."""
    shown: dict[str, Any] = {"rows": [{"id": 1, "keys": items("a", "b")}, {"id": 2, "keys": items("c")}]}
    wanted: dict[str, Any] = {"rows": [shown["rows"][1], {"id": 1, "keys": items("a", "b")}]}
    pointers = ["/rows/0/keys/0/code", "/rows/1/keys/1/code"]
    assert redaction_sources(pointers, wanted, shown) == dict(
        zip(pointers, ["/rows/1/keys/0/code", "/rows/0/keys/1/code"], strict=True)
    )
