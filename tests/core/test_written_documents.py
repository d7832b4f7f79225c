"""What a writer sends: the secrets that it keeps, and those that cannot be kept."""

import json
from typing import Any

import pytest
from tests.core.test_composer import KEYRING, composer, with_settings

from aliciacfg.core.written_documents import Keepable, WrittenDocuments
from aliciacfg.documents import find, walk_strings
from aliciacfg.errors import InvalidDocument


def kept(wanted: dict[str, Any], current: dict[str, Any]) -> Any:
    whole = with_settings(wanted)
    redacted = [pointer for pointer, text in walk_strings(whole) if text == "***"]
    made, before = composer(), with_settings(current)
    keepable = Keepable(before, made.sources.schema("bell").secrets(before))
    result, _ = WrittenDocuments(made, KEYRING).restore_redacted("bell", whole, keepable, {}, redacted)
    return find(result, "/settings")


def test_a_redaction_keeps_what_is_there():
    """After get, edit and set, each ``***`` becomes the secret at its place, and all else is as sent."""
    current = {"pin": "1111", "tokens": {"a": "2222", "b": "3333"}, "count": 1}
    wanted = {"pin": "***", "tokens": {"a": "***", "b": "new"}, "count": 2, "note": "***"}
    assert kept(wanted, current) == {"pin": "1111", "tokens": {"a": "2222", "b": "new"}, "count": 2, "note": "***"}


def test_where_there_is_nothing_to_keep_every_place_is_told():
    """A ``***`` at a new place, or in place of a value that was not secret, is refused."""
    with pytest.raises(InvalidDocument) as refused:
        kept({"pin": "***", "new_token": "***", "old_key": "***"}, {"pin": 5, "old_key": "1111"})
    assert {problem.pointer for problem in refused.value.findings} == {"/settings/pin", "/settings/new_token"}
    assert "1111" not in str(refused.value)


DOORS = [{"name": "front", "code": "1111"}, {"name": "back", "code": "2222"}, {"name": "side", "code": "3333"}]
SHOWN = [{**door, "code": "***"} for door in DOORS]


@pytest.mark.parametrize(
    ("wanted", "codes"),
    [
        (SHOWN, ["1111", "2222", "3333"]),
        (SHOWN[1:], ["2222", "3333"]),
        (SHOWN[::-1], ["3333", "2222", "1111"]),
        ([{"name": "new", "code": "4444"}, *SHOWN], ["4444", "1111", "2222", "3333"]),
        ([SHOWN[2], {"name": "new", "code": "4444"}], ["3333", "4444"]),
        ([SHOWN[0], {"name": "renamed", "code": "***"}, SHOWN[2]], ["1111", "2222", "3333"]),
        ([{**SHOWN[0], "extra": 1}, {**SHOWN[1], "code": "new"}, SHOWN[2]], ["1111", "new", "3333"]),
    ],
)
def test_in_an_array_an_item_keeps_its_own_secret_wherever_it_moved(wanted: list[Any], codes: list[str]):
    """Removed, moved or added items never get the secret of a neighbour."""
    assert [door["code"] for door in kept({"doors": wanted}, {"doors": DOORS})["doors"]] == codes


@pytest.mark.parametrize(
    "wanted",
    [
        [{"name": "new", "code": "***"}, *SHOWN],
        [{"name": "renamed", "code": "***"}, *SHOWN[2:]],
        [*SHOWN, {"name": "front", "code": "***", "more": 1}],
        [{"name": "renamed", "code": "***"}, SHOWN[0], SHOWN[2]],
    ],
)
def test_in_an_array_no_secret_is_guessed(wanted: list[Any]):
    """An item that matches no current item is refused, and never gets another item's secret."""
    with pytest.raises(InvalidDocument):
        kept({"doors": wanted}, {"doors": DOORS})


def test_of_a_damaged_configuration_what_still_opens_can_be_kept():
    """Secrets of the files and of the overlay can be kept if they open; other sealed values cannot."""
    overlay: dict[str, Any] = {"settings": {"pin": "sealed:v1:lost", "token": "known"}}
    found = WrittenDocuments(composer(), KEYRING).keepable("dev", "bell", None, overlay, {})
    current = found.document
    assert find(current, "/mqtt_config/password") == "from-the-files"
    assert find(current, "/settings/token") == "known"
    assert "sealed:v1:" not in json.dumps(current)
    assert found.secrets == {"/mqtt_config/password": "from-the-files", "/settings/token": "known", "/settings/pin": ""}
