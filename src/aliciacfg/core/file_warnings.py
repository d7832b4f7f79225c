"""What a load of the files takes without complaint, and people have to know all the same."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
from msgspec import UnsetType

from aliciacfg import documents
from aliciacfg.core.composer import Composer
from aliciacfg.core.plan import Problems
from aliciacfg.core.state import Entry
from aliciacfg.documents import Json, JsonObject
from aliciacfg.errors import InvalidDocument, OperationError, Problem
from aliciacfg.model.config_id import ConfigId
from aliciacfg.sources.idle_nulls import idle_nulls
from aliciacfg.sources.layers import Environment, Sources
from aliciacfg.sources.misspelt_names import misspelt_names
from aliciacfg.sources.unclear_services import unclear_services

_MAX_NAMED = 100


@dataclass(frozen=True, slots=True)
class FileWarnings:
    """The warnings about one load, each with file and line.

    Attributes:
        nulls: Members that are null and remove nothing.
        misspelt: Names that are nearly those of the schema.
        shadowed: Values that were edited and do not come into force, because the overlay hides them.
        hidden: Values that are not valid, which is no problem as long as the overlay hides them.
        ended: Services that end, because no file names them any more.
        unclear: Services that are probably not meant as the files name them, and schemas of no service.
    """

    nulls: list[str]
    misspelt: list[str]
    shadowed: list[str] = field(default_factory=list[str])
    hidden: list[str] = field(default_factory=list[str])
    ended: list[str] = field(default_factory=list[str])
    unclear: list[str] = field(default_factory=list[str])

    @property
    def listed(self) -> list[str]:
        """All, the most important first; of very many the rest is only counted."""
        found = [*self.ended, *self.shadowed, *self.hidden, *self.unclear, *self.misspelt, *self.nulls]
        more = len(found) - _MAX_NAMED
        return found if more <= 0 else [*found[:_MAX_NAMED], f"{more} more; `aliciacfg check` lists those of files"]


async def look_at_files(
    sources: Sources,
    *,
    shadowed: Sequence[str],
    hidden: Mapping[str, Problems],
    ended: Sequence[str],
    serves: Callable[[str], bool],
) -> FileWarnings:
    """Return the warnings about files, with what was found while they were planned.

    Args:
        sources: The files.
        shadowed: As in ``FileWarnings``.
        hidden: The values that are not valid, by environment and service.
        ended: As in ``FileWarnings``.
        serves: Whether a service is there, though perhaps no file names it.
    """
    nulls, misspelt, unclear = await asyncio.to_thread(
        lambda: (idle_nulls(sources), misspelt_names(sources), unclear_services(sources, serves=serves))
    )
    listed = [problem.message for found in hidden.values() for problems in found.values() for problem in problems]
    return FileWarnings(
        [*map(str, nulls)], [*map(str, misspelt)], list(shadowed), listed, list(ended), [*map(str, unclear)]
    )


def shadowed_edits(
    config_id: ConfigId, environment: Environment, entry: Entry, *, before: Composer, after: Composer
) -> Iterator[str]:
    """Yield a line for each value that differs between two loads and that the overlay of a configuration hides.

    Args:
        config_id: The configuration.
        environment: Its environment, with the new files.
        entry: Its head.
        before: Composes from the files in force.
        after: Composes from the new files.
    """
    try:
        old, new = before.base(*config_id), after.base(*config_id)
    except OperationError:
        return
    schema = after.sources.schema(config_id.service)
    for pointer, value in documents.leaves(entry.overlay or {}):
        was, becomes = documents.find(old, pointer), documents.find(new, pointer)
        # Of a secret, that the file has the same one as the overlay must not be shown.
        if _same(was, becomes) or (_same(becomes, value) and not schema.expects_secret(pointer)):
            continue
        file, line = environment.locate(config_id.service, pointer)
        where = file if line is None else f"{file}:{line}"
        yield f"{where}: {config_id.service} {schema.place(pointer)}: {shadowed_by(entry, pointer)}"


def hidden_problems(config_id: ConfigId, environment: Environment, entry: Entry, *, after: Composer) -> list[Problem]:
    """Return the values of files that are not valid, which is no problem as long as an overlay hides them.

    Args:
        config_id: The configuration, which is valid with its overlay.
        environment: Its environment, with the new files.
        entry: Its head.
        after: Composes from the new files.
    """
    overlay = entry.overlay or {}
    try:
        after.compose(*config_id)
    except InvalidDocument as error:
        # What is missing in files and stands in the overlay is as it should be.
        found = [finding for finding in error.findings if not finding.missing and _covers(overlay, finding.pointer)]
        located = ((environment.located(config_id.service, finding), finding.pointer) for finding in found)
        return [
            msgspec.structs.replace(problem, message=f"{problem.message} ({shadowed_by(entry, pointer)})")
            for problem, pointer in located
        ]
    except OperationError:
        return []
    return []


@dataclass(frozen=True, slots=True)
class Shadowed:
    """A value of a file that an overlay hides.

    Attributes:
        pointer: Its place in the configuration.
        file: The file, relative to the home.
        line: 1-based.
        revision: The revision that set the value of the overlay; None if it is not known.
    """

    pointer: str
    file: str
    line: int
    revision: int | None

    def __str__(self) -> str:
        return f"{self.pointer}: the value of {self.file}:{self.line} is {_by_overlay(self.revision)}"


def newly_shadowed(config_id: ConfigId, environment: Environment, before: Entry, after: Entry) -> list[Shadowed]:
    """Return each value of the files that the overlay of a write hides, and the one before it did not.

    Args:
        config_id: The configuration.
        environment: Its environment.
        before: The entry before the write.
        after: The entry after it; its record has the places that changed.
    """
    if after.record is None or not after.overlay:
        return []
    hidden, found = before.overlay or {}, list[Shadowed]()
    for pointer in after.record.changed:
        # Most writes change again what was changed before.
        if _covers(hidden, pointer) or not _covers(after.overlay, pointer):
            continue
        for layer in reversed(environment.layers(config_id.service)):
            line = layer.line(pointer)
            if line is not None:
                found.append(Shadowed(pointer, layer.file, line, _revision_of(after, pointer)))
                break
    return found


def shadowed_by(entry: Entry, pointer: str) -> str:
    """Return the words for a value of a file that the overlay of a configuration hides."""
    return _by_overlay(_revision_of(entry, pointer))


def _by_overlay(revision: int | None) -> str:
    return "shadowed by overlay" if revision is None else f"shadowed by overlay, revision {revision}"


def _revision_of(entry: Entry, pointer: str) -> int | None:
    """Return the newest revision that set a place of the overlay, or what is around or else inside of it."""
    inside = [revision for place, revision in entry.origins.items() if place.startswith(f"{pointer}/")]
    around = [revision for place, revision in entry.origins.items() if f"{pointer}/".startswith(f"{place}/")]
    return max(around or inside, default=None)


def _same(one: Json | UnsetType, two: Json | UnsetType) -> bool:
    if isinstance(one, UnsetType) or isinstance(two, UnsetType):
        return one is two
    return documents.equal(one, two)


def _covers(overlay: JsonObject, pointer: str) -> bool:
    """Return whether an overlay sets a place, or replaces or removes what is around it."""
    here: Json = overlay
    for token in documents.parse_pointer(pointer):
        if not isinstance(here, dict):
            return True
        if token not in here:
            return False
        here = here[token]
    return True
