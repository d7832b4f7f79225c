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
class SchemaChange:
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
    def major_raised(self) -> bool:
        """Whether it is to a higher major version."""
        return versions.major(self.to_version) > versions.major(self.from_version)

    @property
    def file(self) -> str:
        """The schema file as its operator names it."""
        return (self.new.file if self.new else "") or f"schemas/{self.service}.yaml"


@dataclass(slots=True)
class PendingMigration:
    """A change that needs its migrations.

    Attributes:
        change: What moves.
        overlays: The migrated overlays by environment, where they could be made.
        problems: Why it cannot be carried out.
    """

    change: SchemaChange
    overlays: dict[str, JsonObject] = field(default_factory=dict[str, JsonObject])
    problems: list[Problem] = field(default_factory=list[Problem])


@dataclass(slots=True)
class SchemaChanges:
    """What the schemas on disk mean.

    Attributes:
        sources: What shall serve: with the old schema where a migration waits.
        problems: What stored configurations schemas would break, with the remedy.
        refused: These schemas.
        pending: The moves that need their migrations.
    """

    sources: Sources
    problems: list[SourceProblem] = field(default_factory=list[SourceProblem])
    refused: list[SchemaChange] = field(default_factory=list[SchemaChange])
    pending: list[PendingMigration] = field(default_factory=list[PendingMigration])

    @property
    def sources_without_refused(self) -> Sources:
        """What serves where there are no files of before to fall back to: the old schemas for the refused ones."""
        return self.sources.with_schemas({change.service: change.old for change in self.refused})


class SchemaPlanner:
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

    def plan(self, sources: Sources, serving: Mapping[str, JsonObject | None]) -> SchemaChanges:
        """Look at every schema that differs from the one that serves.

        Args:
            sources: What the files say.
            serving: The schemas that stored configurations were last checked against; a service that is not
                there had none.
        """
        result = SchemaChanges(sources)
        for service in sorted({*serving, *sources.schemas}):
            change = self._change(sources, serving, service)
            if change is None:
                continue
            if change.steps is not None and self._stored_overlays(service):
                result.pending.append(self._try_migration(sources, change))
            elif problems := list(self._broken_configurations(sources, change)):
                result.problems += problems
                result.refused.append(change)
            elif change.major_raised and change.old is not None and self._stored_overlays(service):
                # Its migration may be saved a moment later: taken now, the schema would leave changes behind unseen.
                missing = Problem("", self._missing_migrations_message(change))
                result.pending.append(PendingMigration(change, problems=[missing]))
        result.sources = sources.with_schemas({item.change.service: item.change.old for item in result.pending})
        return result

    def _change(self, sources: Sources, serving: Mapping[str, JsonObject | None], service: str) -> SchemaChange | None:
        new = sources.schemas.get(service)
        old = serving.get(service)
        if documents.equal(old, schema_to_store(new, old)):
            return None
        before = None if old is None or schema_problems(old, title=service) else ServiceSchema(old, title=service)
        change = SchemaChange(service, before, new, None)
        if not change.major_raised:
            return change
        files = sources.migrations.get(service, ())
        steps = migrations.steps_between(files, change.from_version, change.to_version)
        return SchemaChange(service, before, new, steps)

    def _composers(self, sources: Sources, change: SchemaChange) -> tuple[Composer, Composer]:
        """What composes with the schema that serves, and with the one on disk."""
        return self._make_composer(sources.with_schemas({change.service: change.old})), self._make_composer(sources)

    def _missing_migrations_message(self, change: SchemaChange) -> str:
        places = ", ".join(self._stored_overlays(change.service))
        return (
            f"no migrations lead from version {change.from_version} to {change.to_version}. Write "
            f"{_migration_file_name(change)}; an empty list, [], if the changes made at run time in {places} stay as "
            "they are"
        )

    def _stored_overlays(self, service: str) -> dict[str, JsonObject]:
        return {name: entry.overlay for name, entry in self._heads.get(service, {}).items() if entry.overlay}

    def _live_entries(self, service: str) -> dict[str, Entry]:
        return {name: entry for name, entry in self._heads.get(service, {}).items() if entry.live is not None}

    def _try_migration(self, sources: Sources, change: SchemaChange) -> PendingMigration:
        """The migrated overlays of a change, and whether every stored configuration would be valid with them."""
        migration = PendingMigration(change)
        for environment, overlay in self._stored_overlays(change.service).items():
            problems = self._migrate_overlay(migration, environment, overlay)
            migration.problems += [Problem(found.pointer, f"{environment}: {found.message}") for found in problems]
        failed = self._stored_overlays(change.service).keys() - migration.overlays.keys()
        before, after = self._composers(sources, change)
        for environment, entry in self._live_entries(change.service).items():
            if environment in failed or environment not in sources.environments:
                # Without its files nothing can be composed; its overlay moves along.
                continue
            overlay = migration.overlays.get(environment, entry.overlay)
            old = _try_compose(before, environment, change.service, entry.overlay)
            new = _try_compose(after, environment, change.service, overlay, kept_values=_known_secrets(old, entry))
            if isinstance(new, OperationError) and (isinstance(old, Effective) or environment in migration.overlays):
                migration.problems += [
                    Problem(problem.pointer, f"{environment}: {problem.message}") for problem in _problems_of(new)
                ]
        return migration

    def _migrate_overlay(self, migration: PendingMigration, environment: str, overlay: JsonObject) -> list[Problem]:
        """Migrate one overlay, or say why it cannot be."""
        change = migration.change
        if self._heads[change.service][environment].undecryptable:
            message = "changes made at run time do not open; restore the key file, or set the service anew"
            return [Problem("", message)]
        try:
            migration.overlays[environment] = migrations.migrate(overlay, change.steps or [])
        except InvalidRequest as error:
            return [Problem("", error.message)]
        return []

    def _broken_configurations(self, sources: Sources, change: SchemaChange) -> Iterable[SourceProblem]:
        """The stored configurations that the old schema takes and the new one does not."""
        before, after = self._composers(sources, change)
        for environment, entry in self._live_entries(change.service).items():
            old = _try_compose(before, environment, change.service, entry.overlay)
            new = _try_compose(
                after, environment, change.service, entry.overlay, kept_values=_known_secrets(old, entry)
            )
            if isinstance(new, Effective) or not isinstance(old, Effective):
                continue
            for problem in _problems_of(new):
                yield SourceProblem(
                    change.file,
                    None,
                    f"would break the stored configuration of {change.service} in {environment}: "
                    f"{problem.pointer or '(document)'}: {problem.message}. {_remedy_message(change, entry)}; "
                    "until then the old schema serves",
                    problem.pointer,
                )


def schema_to_store(schema: ServiceSchema | None, before: JsonObject | None) -> JsonObject | None:
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


def _remedy_message(change: SchemaChange, entry: Entry) -> str:
    """What to do about a configuration that a schema would break."""
    if not entry.overlay:
        return "All of it comes from the environment files: mend those for the new schema"
    if change.new is None:
        return "Mend the configuration first, or put the file back"
    raised = "" if change.major_raised else f"raise the schema's version to {_next_major(change)}.0.0 and "
    return f"Mend the configuration first, or {raised}write {_migration_file_name(change)}"


def _next_major(change: SchemaChange) -> int:
    return versions.major(change.to_version if change.major_raised else change.from_version) + (not change.major_raised)


def _migration_file_name(change: SchemaChange) -> str:
    step = f"{versions.major(change.from_version)}-to-{_next_major(change)}"
    return f"schemas/{change.service}/{migrations.DIRECTORY}/{step}.yaml"


def _try_compose(
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


def _known_secrets(old: Effective | OperationError, entry: Entry) -> Collection[str]:
    """What was secret before a schema changed, which may no longer call it so."""
    known = old if isinstance(old, Effective) else entry.effective
    return frozenset() if known is None else frozenset(known.secrets.values())


def _problems_of(error: Effective | OperationError) -> Sequence[Problem]:
    if isinstance(error, Effective):
        return ()
    return error.problems or (Problem("", error.message),)
