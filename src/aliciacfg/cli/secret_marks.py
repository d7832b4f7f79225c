"""What to add to a service's schema, so that a place of its configuration is a secret."""

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aliciacfg import documents
from aliciacfg.documents import Json, escape
from aliciacfg.errors import SourceError

if TYPE_CHECKING:
    from aliciacfg.settings import Settings


@dataclass(frozen=True, slots=True)
class Mark:
    """Lines that make a place a secret.

    Attributes:
        path: The file that they are for.
        above: The keys that they belong under, from the outermost; empty for the top of the file.
        lines: The lines, indented as the file has to have them.
    """

    path: Path
    above: tuple[str, ...]
    lines: list[str]

    def __str__(self) -> str:
        """Return what to do, with the lines."""
        where = f", under {': '.join(self.above)}:" if self.above else ":"
        return "\n".join([f"Add this to {self.path}{where}", *self.lines])


def mark_of(settings: "Settings", service: str, pointer: str) -> Mark | None:
    """Return the lines that make a place of a service a secret; None where added lines alone do not.

    Args:
        settings: Where the files of the home are.
        service: The service; it may have no schema yet.
        pointer: JSON Pointer of the place.
    """
    from aliciacfg.core.missing_secrets import as_patch
    from aliciacfg.documents import yaml_editor, yaml_reader
    from aliciacfg.sources.source_files import SourceFiles

    path = Path(settings.schemas_dir) / f"{service}.yaml"
    names = documents.parse_pointer(pointer)
    # `properties` holds the members of an object in a JSON Schema.
    node = "".join(f"/properties/{escape(name)}" for name in names)
    try:
        before = path.read_text() if path.exists() else ""
        schema = yaml_reader.load(before, file=str(path)).value if before else {}
        known = documents.has(schema, node)
        place = f"{node}/x-sensitive" if known else node
        mark: Json = True if known else {"type": "string", "x-sensitive": True}
        if known and documents.find(schema, f"{node}/type") not in ("string", ["string", "null"]):
            return None
        after = yaml_editor.replace(before, place, mark, file=str(path))
        marked = SourceFiles(settings).load({path: after}).schema(service)
    except (OSError, UnicodeDecodeError, SourceError):
        return None
    added = _added(before, after)
    if added is None or pointer not in marked.secrets(as_patch({pointer: "x"})):
        return None
    above = _there(schema, place)
    if above:
        return Mark(path, above, added)
    # Messages are indented; so all lines of a new file are, and it is the same YAML.
    return None if before else Mark(path, (), [f"  {line}" for line in added])


def _there(schema: Json, pointer: str) -> tuple[str, ...]:
    """Return the keys on the way to a place, as far as the schema has them."""
    keys = documents.parse_pointer(pointer)
    count = len(keys)
    while count and not documents.has(schema, documents.format_pointer(keys[:count])):
        count -= 1
    return tuple(keys[:count])


def _added(before: str, after: str) -> list[str] | None:
    """Return the lines that a text has more than another one; None if others changed."""
    compared = difflib.ndiff(before.splitlines(), after.splitlines())
    changed = [line for line in compared if line[:1] in {"+", "-"}]
    return None if any(line.startswith("-") for line in changed) else [line[2:] for line in changed]
