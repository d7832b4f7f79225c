"""A configuration as lines of variables, for ``sh`` and what reads the same quotes, as systemd's ``EnvironmentFile``.

A value never reaches beyond its line, also for programs that read lines and know no quotes, such as ``docker run
--env-file``. Variables with which a writer of the configuration would take over the reading process are left out.
"""

import re
import shlex
from collections import Counter

from aliciacfg import documents
from aliciacfg.documents import Json
from aliciacfg.model import variables
from aliciacfg.model.redaction import REDACTED
from aliciacfg.schemas.service_schema import ServiceSchema
from aliciacfg.variables.texts import derived_name, text_of

# All but the tab; what Unicode counts as a line break as well.
_CONTROL = re.compile(r"[\x01-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")


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
            name = derived_name(place)
            made.append((name, _derived_line(name, value)))
    uses = Counter([*named, *(name for name, _ in made)])
    lines = [
        line if uses[name] == 1 else f"# {name} could be several values; name them with x-env\n" for name, line in made
    ]
    return "".join(dict.fromkeys([*lines, *named.values()]))


def _derived_line(name: str, value: Json) -> str:
    """Return the line of a variable whose name the schema does not give: it comes from the configuration's writer."""
    if variables.takes_over(name) or variables.redirects(name):
        return f"# {name} would change more than this value; give it another name with x-env\n"
    return _line(name, value)


def _line(name: str, value: Json) -> str:
    if any(text == REDACTED for _, text in documents.walk_strings(value)):
        return f"# {name} is a secret\n"
    if variables.takes_over(name):
        # A schema that names it is refused; this one was stored before.
        return f"# {name} would take over the process; give it another name with x-env\n"
    text = text_of(value)
    if "\0" in text:
        return f"# {name} holds a NUL, which no variable can\n"
    if _CONTROL.search(text):
        return _printed_line(name, text)
    return f"{name}={shlex.quote(text) if text else ''}\n"


def _printed_line(name: str, text: str) -> str:
    """Return one line for a text with line breaks or other control characters; only a shell restores them.

    In quotes they would begin another line, which a program that reads lines takes for a variable of its own.
    """
    written = _CONTROL.sub(lambda found: "".join(f"\\{byte:03o}" for byte in found[0].encode()), _escaped(text))
    # A command substitution drops line breaks at the end.
    return f"{name}=$(printf {shlex.quote(f'{written}.')}); {name}=${{{name}%.}}\n"


def _escaped(text: str) -> str:
    """Return a text as a format of ``printf``."""
    return text.replace("\\", "\\\\").replace("%", "%%")
