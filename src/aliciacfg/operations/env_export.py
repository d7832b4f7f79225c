"""A configuration as lines of variables that a shell reads."""

import shlex
from collections import Counter

from aliciacfg import documents
from aliciacfg.documents import Json
from aliciacfg.schemas.service_schema import ServiceSchema
from aliciacfg.sealing.boxes import REDACTED


def as_variables(config: Json, schema: ServiceSchema | None, pointer: str) -> str:
    """Return ``NAME=value`` lines for the leaves of a document.

    Args:
        config: The document, or a part of it, secrets redacted.
        schema: Names variables with ``x-env``; other names are made from the pointers.
        pointer: JSON Pointer of ``config`` in its document.
    """
    named: dict[str, str] = {}
    made: list[tuple[str, str]] = []
    for place, value in documents.leaves(config, pointer):
        marked = None if schema is None else schema.variable(place)
        if marked is not None:
            named.setdefault(marked, _line(marked, value))
        else:
            name = _name(place)
            made.append((name, _line(name, value)))
    uses = Counter([*named, *(name for name, _ in made)])
    lines = [
        line if uses[name] == 1 else f"# {name} could be several values; name them with x-env\n" for name, line in made
    ]
    return "".join(dict.fromkeys([*lines, *named.values()]))


def _name(pointer: str) -> str:
    text = "_".join(documents.parse_pointer(pointer)).upper()
    name = "".join(character if character.isascii() and character.isalnum() else "_" for character in text)
    return f"_{name}" if not name or name[0].isdigit() else name


def _line(name: str, value: Json) -> str:
    if any(text == REDACTED for _, text in documents.walk_strings(value)):
        return f"# {name} is a secret\n"
    if isinstance(value, list):
        value = ",".join(_text(item) for item in value)
    text = _text(value)
    if "\0" in text:
        return f"# {name} holds a NUL, which no variable can\n"
    return f"{name}={shlex.quote(text) if text else ''}\n"


def _text(value: Json) -> str:
    return value if isinstance(value, str) else documents.encode(value).decode()
