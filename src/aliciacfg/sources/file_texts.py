"""The texts of all environment and schema files at one moment, from which any daemon of a home composes the same."""

from collections.abc import Mapping
from typing import TypeVar

import msgspec

T = TypeVar("T")

ENVIRONMENTS = "environments"
SCHEMAS = "schemas"


class FileTexts(msgspec.Struct, frozen=True):
    """What is read of the disk, before it is parsed.

    Names are relative to a home whose directories are called ``environments`` and ``schemas``, whichever the settings
    call them on one machine.

    Attributes:
        texts: The text of each file by name.
        unreadable: Of each file that cannot be read: line, if there is one, and reason, by name.
        variables: The value of each variable that environment files name; None for one that is not set. Machines may
            have others.
    """

    texts: dict[str, str]
    unreadable: dict[str, tuple[int | None, str]] = {}
    variables: dict[str, str | None] = {}

    def encoded(self) -> bytes:
        """Return the same bytes for the same content."""
        return msgspec.json.encode(self, order="deterministic")

    def differing(self, other: "FileTexts") -> list[str]:
        """Return the names of the files and, as ``${NAME}``, of the variables that differ, sorted."""
        files = {*_differing(self.texts, other.texts), *_differing(self.unreadable, other.unreadable)}
        variables = _differing(self.variables, other.variables)
        if files:
            # Which variables are named depends on the files.
            variables = [name for name in variables if name in self.variables and name in other.variables]
        return [*sorted(files), *(f"${{{name}}}" for name in sorted(variables))]


def _differing(first: Mapping[str, T], second: Mapping[str, T]) -> list[str]:
    return [
        name
        for name in first.keys() | second.keys()
        if name not in first or name not in second or first[name] != second[name]
    ]
