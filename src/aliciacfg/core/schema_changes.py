"""Schema evolution: what schema files that changed mean for the configurations stored under the old ones.

A changed schema serves only when every stored configuration meets it. Where its major version rose and migrations
lead there, it waits until they are carried out; the old one serves on. Where it would break a stored configuration
otherwise, it is refused.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from aliciacfg import documents
from aliciacfg.core.composer import Composer, Effective
from aliciacfg.core.state import Entry
from aliciacfg.documents import JsonObject
from aliciacfg.errors import InvalidRequest, OperationError, Problem, SourceProblem
from aliciacfg.model import versions
from aliciacfg.model.config_id import ConfigId
from aliciacfg.schemas import migrations
from aliciacfg.schemas.migrations import MigrationFile
from aliciacfg.schemas.schema_check import schema_problems
from aliciacfg.schemas.service_schema import ServiceSchema
from aliciacfg.sources.layers import Sources

Heads = Mapping[ConfigId, Entry]


@dataclass(frozen=True, slots=True)
class Move:
    """A schema that differs from the one that serves.

    Attributes:
        service: Whose.
        old: The one that serves; None for the base contract alone.
        new: The one on disk.
        steps: The migrations between them; None where none are needed, or none lead there.
    """

    service: str
    old: ServiceSchema | None
    new: ServiceSchema | None
    steps: list[MigrationFile] | None

    @property
    def from_version(self) -> str:
        """The version that serves."""
        return versions.FIRST if self.old is None else self.old.version

    @property
    def to_version(self) -> str:
        """The version on disk; the one that serves where the file is gone."""
        return self.from_version if self.new is None else self.new.version

    @property
    def raised(self) -> bool:
        """Whether it is to a higher major version."""
        return versions.major(self.to_version) > versions.major(self.from_version)

    @property
    def file(self) -> str:
        """The schema file as its operator names it."""
        return (self.new.file if self.new else "") or f"schemas/{self.service}.yaml"


@dataclass(slots=True)
class Waiting:
    """A move that needs its migrations.

    Attributes:
        move: What moves.
        overlays: The migrated overlays by environment, where they could be made.
        problems: Why it cannot be carried out.
    """

    move: Move
    overlays: dict[str, JsonObject] = field(default_factory=dict[str, JsonObject])
    problems: list[Problem] = field(default_factory=list[Problem])


@dataclass(slots=True)
class Evolution:
    """What the schemas on disk mean.

    Attributes:
        sources: What shall serve: with the old schema where a migration waits.
        problems: What stored configurations schemas would break, with the remedy.
        refused: These schemas.
        waiting: The moves that need their migrations.
    """

    sources: Sources
    problems: list[SourceProblem] = field(default_factory=list[SourceProblem])
    refused: list[Move] = field(default_factory=list[Move])
    waiting: list[Waiting] = field(default_factory=list[Waiting])

    @property
    def without_refused(self) -> Sources:
        """What serves where there are no files of before to fall back to: the old schemas for the refused ones."""
        return self.sources.with_schemas({move.service: move.old for move in self.refused})


class Evolver:
    """Looks at changed schemas; composes, and changes nothing."""

    def __init__(self, make_composer: Callable[[Sources], Composer], heads: Heads) -> None:
        """Take what it needs.

        Args:
            make_composer: Composes from some files.
            heads: Every configuration as it is stored.
        """
        self._make_composer = make_composer
        self._heads: dict[str, dict[str, Entry]] = {}
        for (environment, service), entry in sorted(heads.items(), key=lambda item: item[0]):
            self._heads.setdefault(service, {})[environment] = entry

    def evolve(self, sources: Sources, serving: Mapping[str, JsonObject | None]) -> Evolution:
        """Look at every schema that differs from the one that serves.

        Args:
            sources: What the files say.
            serving: The schemas that stored configurations were last checked against; a service that is not
                there had none.
        """
        result = Evolution(sources)
        for service in sorted({*serving, *sources.schemas}):
            move = self._move(sources, serving, service)
            if move is None:
                continue
            if move.steps is not None and self._overlays(service):
                result.waiting.append(self._tried(sources, move))
            elif problems := list(self._broken(sources, move)):
                result.problems += problems
                result.refused.append(move)
            elif move.raised and move.old is not None and self._overlays(service):
                # Its migration may be saved a moment later: taken now, the schema would leave changes behind unseen.
                result.waiting.append(Waiting(move, problems=[Problem("", self._missing(move))]))
        result.sources = sources.with_schemas({waiting.move.service: waiting.move.old for waiting in result.waiting})
        return result

    def _move(self, sources: Sources, serving: Mapping[str, JsonObject | None], service: str) -> Move | None:
        new = sources.schemas.get(service)
        old = serving.get(service)
        if documents.equal(old, remembered(new, old)):
            return None
        before = None if old is None or schema_problems(old, title=service) else ServiceSchema(old, title=service)
        move = Move(service, before, new, None)
        if not move.raised:
            return move
        known = sources.migrations.get(service, ())
        return Move(service, before, new, migrations.steps_between(known, move.from_version, move.to_version))

    def _composers(self, sources: Sources, move: Move) -> tuple[Composer, Composer]:
        """What composes with the schema that serves, and with the one on disk."""
        return self._make_composer(sources.with_schemas({move.service: move.old})), self._make_composer(sources)

    def _missing(self, move: Move) -> str:
        places = ", ".join(self._overlays(move.service))
        return (
            f"no migrations lead from version {move.from_version} to {move.to_version}. Write {_file_name(move)}; an "
            f"empty list, [], if the changes made at run time in {places} stay as they are"
        )

    def _overlays(self, service: str) -> dict[str, JsonObject]:
        return {name: entry.overlay for name, entry in self._heads.get(service, {}).items() if entry.overlay}

    def _stored(self, service: str) -> dict[str, Entry]:
        return {name: entry for name, entry in self._heads.get(service, {}).items() if entry.live is not None}

    def _tried(self, sources: Sources, move: Move) -> Waiting:
        """The migrated overlays of a move, and whether every stored configuration would be valid with them."""
        waiting = Waiting(move)
        for environment, overlay in self._overlays(move.service).items():
            problems = self._migrate(waiting, environment, overlay)
            waiting.problems += [Problem(found.pointer, f"{environment}: {found.message}") for found in problems]
        failed = self._overlays(move.service).keys() - waiting.overlays.keys()
        before, after = self._composers(sources, move)
        for environment, entry in self._stored(move.service).items():
            if environment in failed or environment not in sources.environments:
                # Without its files nothing can be composed; its overlay moves along.
                continue
            overlay = waiting.overlays.get(environment, entry.overlay)
            old = _composed(before, environment, move.service, entry.overlay)
            new = _composed(after, environment, move.service, overlay, kept_values=_secrets(old, entry))
            if isinstance(new, OperationError) and (isinstance(old, Effective) or environment in waiting.overlays):
                waiting.problems += [
                    Problem(problem.pointer, f"{environment}: {problem.message}") for problem in _problems(new)
                ]
        return waiting

    def _migrate(self, waiting: Waiting, environment: str, overlay: JsonObject) -> list[Problem]:
        """Migrate one overlay, or say why it cannot be."""
        move = waiting.move
        if self._heads[move.service][environment].undecryptable:
            message = "changes made at run time do not open; restore the key file, or set the service anew"
            return [Problem("", message)]
        try:
            waiting.overlays[environment] = migrations.migrate(overlay, move.steps or [])
        except InvalidRequest as error:
            return [Problem("", error.message)]
        return []

    def _broken(self, sources: Sources, move: Move) -> Iterable[SourceProblem]:
        """The stored configurations that the old schema takes and the new one does not."""
        before, after = self._composers(sources, move)
        for environment, entry in self._stored(move.service).items():
            old = _composed(before, environment, move.service, entry.overlay)
            new = _composed(after, environment, move.service, entry.overlay, kept_values=_secrets(old, entry))
            if isinstance(new, Effective) or not isinstance(old, Effective):
                continue
            for problem in _problems(new):
                yield SourceProblem(
                    move.file,
                    None,
                    f"would break the stored configuration of {move.service} in {environment}: "
                    f"{problem.pointer or '(document)'}: {problem.message}. {_remedy(move, entry)}; until then the old "
                    "schema serves",
                    problem.pointer,
                )


def remembered(schema: ServiceSchema | None, before: JsonObject | None) -> JsonObject | None:
    """What is kept of a schema that serves.

    Where its file is gone, a schema that asks for nothing, of the version that it had: changes made at run time are
    written for that one, and are not migrated to it once more when the file comes back.

    Args:
        schema: The one on disk.
        before: What was kept so far.
    """
    if schema is not None:
        return schema.own
    return None if before is None else {name: value for name, value in before.items() if name == "version"}


def _remedy(move: Move, entry: Entry) -> str:
    """What to do about a configuration that a schema would break."""
    if not entry.overlay:
        return "All of it comes from the environment files: mend those for the new schema"
    if move.new is None:
        return "Mend the configuration first, or put the file back"
    raised = "" if move.raised else f"raise the schema's version to {_next_major(move)}.0.0 and "
    return f"Mend the configuration first, or {raised}write {_file_name(move)}"


def _next_major(move: Move) -> int:
    return versions.major(move.to_version if move.raised else move.from_version) + (not move.raised)


def _file_name(move: Move) -> str:
    step = f"{versions.major(move.from_version)}-to-{_next_major(move)}"
    return f"schemas/{move.service}/{migrations.DIRECTORY}/{step}.yaml"


def _composed(
    composer: Composer,
    environment: str,
    service: str,
    overlay: JsonObject | None,
    *,
    kept_values: Collection[str] = frozenset(),
) -> Effective | OperationError:
    found = composer.sources.environments.get(environment)
    if found is None or found.problems:
        return InvalidRequest(f"the files of {environment} cannot be used")
    try:
        return composer.compose(environment, service, overlay, kept_values=kept_values)
    except OperationError as error:
        return error


def _secrets(old: Effective | OperationError, entry: Entry) -> Collection[str]:
    """What was secret before a schema changed, which may no longer call it so."""
    known = old if isinstance(old, Effective) else entry.effective
    return frozenset() if known is None else frozenset(known.secrets.values())


def _problems(error: Effective | OperationError) -> Sequence[Problem]:
    if isinstance(error, Effective):
        return ()
    return error.problems or (Problem("", error.message),)
