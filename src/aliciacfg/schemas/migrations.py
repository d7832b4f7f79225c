"""Migrations of run-time changes (overlays) to another major version of a service's schema.

A migration is a file ``schemas/<service>/migrations/<from>-to-<to>.yaml`` with a JSON Patch (RFC 6902). An overlay
contains only a few places of a configuration. Therefore an operation on a place that an overlay does not contain leaves
that overlay unchanged, and an operation that adds a value also adds the objects around it.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from msgspec import UNSET

from aliciacfg import documents
from aliciacfg.documents import Json, JsonObject
from aliciacfg.documents.json_patch import apply_json_patch
from aliciacfg.errors import InvalidRequest
from aliciacfg.model import versions

DIRECTORY = "migrations"

_NAME = re.compile(r"(0|[1-9][0-9]{0,5})((?:\.[0-9]+){2})?-to-([1-9][0-9]{0,5})((?:\.[0-9]+){2})?")
NAME_FORM = "files are named <from>-to-<to>.yaml here, as 1-to-2.yaml; rename it"


@dataclass(frozen=True, slots=True)
class MigrationFile:
    """A migration between two major versions.

    Attributes:
        file: The file's name relative to the home.
        from_major: The major version of the schema before.
        to_major: The major version of the schema afterwards, which is higher.
        operations: The operations of the JSON Patch.
    """

    file: str
    from_major: int
    to_major: int
    operations: tuple[JsonObject, ...]


def majors(stem: str) -> tuple[int, int] | None:
    """Return the major versions in the name of a migration file without its suffix; None for other names."""
    match = _NAME.fullmatch(stem)
    if match is None or int(match[1]) >= int(match[3]):
        return None
    return int(match[1]), int(match[3])


def steps_between(migrations: Iterable[MigrationFile], before: str, after: str) -> list[MigrationFile] | None:
    """Return the migrations from one schema version to another, in order; None if there is no such path.

    Of several migrations from the same version, the one to the highest version is preferred, if a path continues from
    there.
    """
    known = sorted(migrations, key=lambda step: step.to_major, reverse=True)
    end = versions.major(after)
    dead_ends: set[int] = set()

    def lead(at: int) -> list[MigrationFile] | None:
        if at == end:
            return []
        for step in known:
            if step.from_major == at and step.to_major <= end and step.to_major not in dead_ends:
                onwards = lead(step.to_major)
                if onwards is not None:
                    return [step, *onwards]
        dead_ends.add(at)
        return None

    return lead(versions.major(before))


def migrate(overlay: JsonObject, steps: Iterable[MigrationFile]) -> JsonObject:
    """Return an overlay with some migrations applied.

    Raises:
        InvalidRequest: An operation does not apply; the message names the file and the operation.
    """
    result: Json = overlay
    for step in steps:
        for number, operation in enumerate(step.operations):
            try:
                result = _apply(result, operation)
            except InvalidRequest as error:
                why = error.message.removeprefix("Operation 0 of the JSON Patch does not apply: ")
                raise InvalidRequest(f"{step.file}: operation {number} ({operation['op']}): {why}") from error
    if not isinstance(result, dict):
        raise InvalidRequest("The migrations result in a value that is not an object; keep the whole document.")
    return result


def _apply(overlay: Json, operation: JsonObject) -> Json:
    path = str(operation["path"])
    kind = operation["op"]
    if kind in {"remove", "replace", "test"} and documents.find(overlay, path) is UNSET:
        return overlay
    if kind in {"move", "copy"} and documents.find(overlay, str(operation["from"])) is UNSET:
        return overlay
    if kind in {"add", "move", "copy"}:
        overlay = _with_parents(overlay, documents.parse_pointer(path)[:-1])
    after = apply_json_patch(overlay, [operation])
    left = {"remove": path, "move": str(operation.get("from"))}.get(str(kind))
    return after if left is None else _without_empty(after, documents.parse_pointer(left)[:-1])


def _without_empty(value: Json, tokens: tuple[str, ...]) -> Json:
    """Return a copy without the objects on the way to a place that are empty now."""
    if not tokens or not isinstance(value, dict) or tokens[0] not in value:
        return value
    inner = _without_empty(value[tokens[0]], tokens[1:])
    if inner == {}:
        return {name: member for name, member in value.items() if name != tokens[0]}
    return {**value, tokens[0]: inner}


def _with_parents(value: Json, tokens: tuple[str, ...]) -> Json:
    """Return a copy in which missing objects on the way to a place are added."""
    if not tokens or not isinstance(value, dict):
        return value
    head, rest = tokens[0], tokens[1:]
    inner = value.get(head)
    return {**value, head: _with_parents({} if inner is None else inner, rest)}
