"""Schema evolution: the effect of changed schema files on the stored configurations.

A changed schema comes into force only if every stored configuration is valid under it. If its major version is higher
and there are migrations to it, it is pending until they are carried out, and the old schema stays in force. Any other
schema that would break a stored configuration is refused.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from aliciacfg import documents
from aliciacfg.core.composer import Composer, Effective
from aliciacfg.core.state import Entry
from aliciacfg.documents import JsonObject
from aliciacfg.errors import InvalidRequest, OperationError, Problem, SourceProblem
from aliciacfg.model import versions
from aliciacfg.schemas import migrations
from aliciacfg.schemas.migrations import MigrationFile
from aliciacfg.schemas.schema_check import schema_problems
from aliciacfg.schemas.service_schema import ServiceSchema
from aliciacfg.sources.layers import Sources


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """A schema on disk that differs from the schema in force.

    Attributes:
        service: The service that the schema belongs to.
        old: The schema in force; None for the base contract alone.
        new: The schema on disk; None if its file was removed.
        steps: The migrations from old to new, in order; None if none are needed, or if some are missing.
    """

    service: str
    old: ServiceSchema | None
    new: ServiceSchema | None
    steps: list[MigrationFile] | None

    @property
    def from_version(self) -> str:
        """The version in force."""
        return versions.FIRST if self.old is None else self.old.version

    @property
    def to_version(self) -> str:
        """The version on disk; the version in force if the file was removed."""
        return self.from_version if self.new is None else self.new.version

    @property
    def major_raised(self) -> bool:
        """Whether the new major version is higher."""
        return versions.major(self.to_version) > versions.major(self.from_version)

    @property
    def file(self) -> str:
        """The schema file's name relative to the home."""
        return (self.new.file if self.new else "") or f"schemas/{self.service}.yaml"


@dataclass(slots=True)
class PendingMigration:
    """A schema change that needs migrations.

    Attributes:
        change: The schema change.
        overlays: The migrated overlays by environment, without those that cannot be migrated.
        problems: The reasons why the migration cannot be carried out.
    """

    change: SchemaChange
    overlays: dict[str, JsonObject] = field(default_factory=dict[str, JsonObject])
    problems: list[Problem] = field(default_factory=list[Problem])


@dataclass(slots=True)
class SchemaChanges:
    """The changed schemas on disk, and what is to become of each.

    Attributes:
        sources: The files to put in force: with the old schema wherever a migration is pending.
        problems: The stored configurations that refused schemas would break, each with what to do.
        refused: The refused changes.
        pending: The changes that need migrations.
    """

    sources: Sources
    problems: list[SourceProblem] = field(default_factory=list[SourceProblem])
    refused: list[SchemaChange] = field(default_factory=list[SchemaChange])
    pending: list[PendingMigration] = field(default_factory=list[PendingMigration])

    @property
    def sources_without_refused(self) -> Sources:
        """The sources with the old schemas instead of the refused ones, for a start without earlier files."""
        return self.sources.with_schemas({change.service: change.old for change in self.refused})


class SchemaPlanner:
    """Finds the changed schemas and tries them on the stored configurations; changes nothing."""

    def __init__(
        self, make_composer: Callable[[Sources], Composer], heads_of: Callable[[str], Mapping[str, Entry]]
    ) -> None:
        """Hold what is tried.

        Args:
            make_composer: Returns a composer of the given files.
            heads_of: Returns the stored configurations of a service by environment.
        """
        self._make_composer = make_composer
        self._heads_of = heads_of

    def plan(self, sources: Sources, serving: Mapping[str, JsonObject | None]) -> SchemaChanges:
        """Decide about every schema that differs from the one in force.

        Args:
            sources: The files on disk.
            serving: The schemas in force by service, as ``schema_to_store`` returns them; a service without a schema
                is absent.
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
                # The migration file may be saved a moment after the schema. If the schema came into force at once,
                # the stored overlays would never be migrated.
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
        """Return composers with the old and with the new schema."""
        return self._make_composer(sources.with_schemas({change.service: change.old})), self._make_composer(sources)

    def _missing_migrations_message(self, change: SchemaChange) -> str:
        places = ", ".join(self._stored_overlays(change.service))
        return (
            f"no migrations lead from version {change.from_version} to {change.to_version}. Write "
            f"{_migration_file_name(change)}; an empty list, [], if the changes made at run time in {places} stay as "
            "they are"
        )

    def _stored_overlays(self, service: str) -> dict[str, JsonObject]:
        return {name: entry.overlay for name, entry in self._heads_of(service).items() if entry.overlay}

    def _live_entries(self, service: str) -> dict[str, Entry]:
        return {name: entry for name, entry in self._heads_of(service).items() if entry.live is not None}

    def _try_migration(self, sources: Sources, change: SchemaChange) -> PendingMigration:
        """Migrate the overlays of a service, and check every stored configuration with the result."""
        migration = PendingMigration(change)
        for environment, overlay in self._stored_overlays(change.service).items():
            problems = self._migrate_overlay(migration, environment, overlay)
            migration.problems += [Problem(found.pointer, f"{environment}: {found.message}") for found in problems]
        failed = self._stored_overlays(change.service).keys() - migration.overlays.keys()
        before, after = self._composers(sources, change)
        for environment, entry in self._live_entries(change.service).items():
            if environment in failed or environment not in sources.environments:
                # Nothing can be composed without the environment's files; its overlay is migrated all the same.
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
        """Add one migrated overlay, or return the reasons why it cannot be migrated."""
        change = migration.change
        if self._heads_of(change.service)[environment].undecryptable:
            message = "changes made at run time cannot be decrypted; restore the key file, or set the service again"
            return [Problem("", message)]
        try:
            migration.overlays[environment] = migrations.migrate(overlay, change.steps or [])
        except InvalidRequest as error:
            return [Problem("", error.message)]
        return []

    def _broken_configurations(self, sources: Sources, change: SchemaChange) -> Iterable[SourceProblem]:
        """Yield a problem for each place where a stored configuration is valid only under the old schema."""
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
                    "until then the old schema stays in force",
                    problem.pointer,
                )


def schema_to_store(schema: ServiceSchema | None, before: JsonObject | None) -> JsonObject | None:
    """Return the form of a schema that is stored when it comes into force; None if there is none.

    After its file was removed, only the ``version`` is kept: the overlays were written for that version, and must not
    be migrated to it again when the file is restored.

    Args:
        schema: The schema on disk.
        before: The form stored so far.
    """
    if schema is not None:
        return schema.own
    return None if before is None else {name: value for name, value in before.items() if name == "version"}


def _remedy_message(change: SchemaChange, entry: Entry) -> str:
    """Return what to do about a configuration that a schema would break."""
    if not entry.overlay:
        return "The whole configuration comes from the environment files: adapt those to the new schema"
    if change.new is None:
        return "Correct the configuration first, or restore the schema file"
    raised = "" if change.major_raised else f"raise the schema's version to {_next_major(change)}.0.0 and "
    return f"Correct the configuration first, or {raised}write {_migration_file_name(change)}"


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
    """Return the values that were secret under the old schema; the new one may no longer mark them."""
    effective = old if isinstance(old, Effective) else entry.effective
    return frozenset() if effective is None else frozenset(effective.secrets.values())


def _problems_of(error: Effective | OperationError) -> Sequence[Problem]:
    if isinstance(error, Effective):
        return ()
    return error.problems or (Problem("", error.message),)
