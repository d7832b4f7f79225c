"""The name that is made for a value, and the text of a value, where a schema says nothing about it."""

from aliciacfg import documents
from aliciacfg.documents import Json


def derived_name(pointer: str) -> str:
    """Return the name of the variable for a place: its pointer in capitals, as in ``SETTINGS_MAX_SESSIONS``."""
    text = "_".join(documents.parse_pointer(pointer)).upper()
    name = "".join(character if character.isascii() and character.isalnum() else "_" for character in text)
    return f"_{name}" if not name or name[0].isdigit() else name


def text_of(value: Json) -> str:
    """Return the text of a value: a string as it is, the items of an array with commas between, anything else as JSON.

    An array with one comma in an item cannot be distinguished from one with two items; programs that read lists from
    variables expect this form all the same.
    """
    if isinstance(value, list):
        return ",".join(_item(item) for item in value)
    return _item(value)


def _item(value: Json) -> str:
    return value if isinstance(value, str) else documents.encode(value).decode()
