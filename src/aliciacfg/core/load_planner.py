"""Plans one load of the files: which schemas serve, what has to be sealed, and what every service becomes."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from msgspec import UNSET

from aliciacfg.api.answers.environments import Migration
from aliciacfg.core.changed_values import ChangesByName, EnvironmentResult
from aliciacfg.core.commits import Commits
from aliciacfg.core.file_changes import (
    FileChanges,
    FilePlanner,
    NothingLeft,
    SchemaRefused,
    changed_schemas,
    defined_services,
    serving_schemas,
)
from aliciacfg.core.loaded_files import LoadedFiles
from aliciacfg.core.plain_secrets import PlainSecrets
from aliciacfg.core.plan import ChangeContext, Plan
from aliciacfg.core.planner import Planner, PlannerFactory
from aliciacfg.core.schema_changes import PendingMigration, SchemaChange, SchemaChanges, SchemaPlanner
from aliciacfg.core.state import State
from aliciacfg.core.views import difference
from aliciacfg.errors import SourceError, SourceProblem
from aliciacfg.model.config_id import ConfigId
from aliciacfg.sources.layers import Sources


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadResult(EnvironmentResult):
    """What a load of the files changes in the active environment.

    Attributes:
        migrations: The schemas that wait for their migration, or had it.
        warnings: What the files say and probably do not mean, or what overlays hide of it.
    """

    migrations: list[Migration] = field(default_factory=list[Migration])
    warnings: list[str] = field(default_factory=list[str])


@dataclass(frozen=True, slots=True)
class PlannedLoad:
    """A planned load.

    Attributes:
        planner: Plans on the files that come into force.
        defined: The services that they name, by environment.
        changes: What is wrong with them.
        migrations: The schemas that wait for their migration, or have it with this load.
        refused: Why schemas on disk are not among them; None if all are.
        refused_schemas: The files of these.
    """

    planner: Planner
    defined: Mapping[str, list[str]]
    changes: FileChanges
    migrations: list[Migration]
    refused: SchemaRefused | None
    refused_schemas: list[str]

    @property
    def sources(self) -> Sources:
        """The files that come into force."""
        return self.planner.composer.sources


class LoadPlanner:
    """Plans loads; has no effect but on the plan."""

    def __init__(
        self,
        *,
        planners: PlannerFactory,
        files: LoadedFiles,
        state: State,
        commits: Commits,
        plain_secrets: PlainSecrets,
    ) -> None:
        """Hold the parts.

        Args:
            planners: Makes composers and planners for files.
            files: The files in force.
            state: Has the configurations.
            commits: Makes durable what was planned before.
            plain_secrets: Finds what has to be sealed in the store because it is secret now.
        """
        self._planners = planners
        self._files = files
        self._state = state
        self._commits = commits
        self._plain_secrets = plain_secrets

    async def plan(
        self,
        plan: Plan,
        sources: Sources,
        vanished: Sequence[SourceProblem],
        *,
        starting: bool,
        history_sealed: bool,
        migrate: ChangeContext | None,
        dry_run: bool,
    ) -> PlannedLoad:
        """Add to a plan what files change; lets reads run in between.

        Args:
            plan: The plan, of an exclusive change.
            sources: The files.
            vanished: The files that are away; in front of what is wrong comes what it may follow from.
            starting: Leave refused schemas out, instead of refusing the load.
            history_sealed: Whether the whole history was compared with the schemas in force.
            migrate: Carry out the migrations that schemas wait for, for this reason.
            dry_run: The plan is dropped.

        Raises:
            SchemaRefused: A schema would break a stored configuration.
            NothingLeft: The active environment would be missing, or name no service.
            SourceError: The active environment would not be valid.
            Unavailable: The store cannot be read.
        """
        schema_planner = SchemaPlanner(self._planners.composer, self._state.heads_of)
        changes = schema_planner.plan(sources, self._files.schemas)
        refused = _refusal(changes.problems, changes.refused)
        if refused is not None and not starting:
            raise refused
        try:
            file_planner, planner, migrations = await self._plan_files(
                plan, changes, history_sealed=history_sealed, migrate=migrate, dry_run=dry_run
            )
        except NothingLeft as error:
            raise NothingLeft([*error.problems, *vanished]) from error
        except SourceError as error:
            problems = [*vanished, *changes.problems, *error.problems, *_waiting_problems(changes)]
            raise SourceError(problems, services=error.services) from error
        schemas = [change.file for change in changes.refused]
        defined = defined_services(planner.composer.sources)
        return PlannedLoad(planner, defined, file_planner.changes, migrations, refused, schemas)

    async def _plan_files(
        self,
        plan: Plan,
        changes: SchemaChanges,
        *,
        history_sealed: bool,
        migrate: ChangeContext | None,
        dry_run: bool,
    ) -> tuple[FilePlanner, Planner, list[Migration]]:
        """Plan what the files make of every environment, and the migrations that are wanted and possible."""
        ready = [item for item in changes.pending if migrate is not None and not item.problems]
        sources = changes.sources_without_refused.with_schemas({item.change.service: item.change.new for item in ready})
        planner = self._planners.planner(sources)
        serving = self._files.current_planner
        file_planner = FilePlanner(
            planner,
            plan,
            active=self._state.active,
            defined=self._files.defined,
            before=None if serving is None else serving.composer,
        )
        for migration in ready:
            if migrate is not None:
                file_planner.migrate(migration, migrate)
        plan.schemas += changed_schemas(self._files.schemas, serving_schemas(sources, self._files.schemas))
        await self._plan_sealing(plan, file_planner, sources, history_sealed=history_sealed)
        await file_planner.plan_all()
        migrations = [_migration(item, plan, ready=item in ready, dry_run=dry_run) for item in changes.pending]
        return file_planner, planner, migrations

    async def _plan_sealing(
        self, plan: Plan, file_planner: FilePlanner, sources: Sources, *, history_sealed: bool
    ) -> None:
        """Plan the sealing of what is stored in plain text though it is secret under these files.

        Overlays are compared at every load, revisions where the schema changed, or no load has compared all of them.
        """
        # Pending writes were planned under the old schemas.
        await self._commits.flush()
        services = {changed.service for changed in plan.schemas}
        if not history_sealed:
            services |= {config_id.service for config_id in self._state.all_heads()}
        revisions = await self._plain_secrets.revisions(sources, services)
        file_planner.reseal(revisions, await self._plain_secrets.overlays(sources))

    async def result(self, plan: Plan, load: PlannedLoad, *, dry_run: bool) -> ReloadResult:
        """Return what a planned load changes in the active environment."""
        active = self._state.active
        records = [record for record in plan.records if record.environment == active]
        result = ReloadResult(
            changed=[record.service for record in records],
            restart_required=[record.service for record in records if record.restart_required],
            migrations=load.migrations,
        )
        for record in records:
            config_id = ConfigId(active, record.service)
            before, after = self._state.head(config_id), plan.head(config_id)
            if before.live is not None:
                # Let reads run in between.
                await asyncio.sleep(0)
            result.values.add(record.service, before, after, record.changed)
            if dry_run:
                result.difference[record.service] = await asyncio.to_thread(difference, before, after)
        return result


def _refusal(problems: Sequence[SourceProblem], refused: Sequence[SchemaChange]) -> SchemaRefused | None:
    """Return the error that refuses schemas; None if there is nothing wrong with any."""
    return SchemaRefused(problems, services={change.service for change in refused}) if problems else None


def _migration(migration: PendingMigration, plan: Plan, *, ready: bool, dry_run: bool) -> Migration:
    """Return a move of a schema as callers see it."""
    change = migration.change
    ids = [ConfigId(environment, change.service) for environment in sorted(migration.overlays)]
    values = ChangesByName()
    for config_id in ids if ready else ():
        before, after = plan.state.head(config_id), plan.head(config_id)
        if after.record is not None and after.record is not before.record:
            values.add(config_id.environment, before, after, after.record.changed)
    return Migration(
        service=change.service,
        from_version=change.from_version,
        to_version=change.to_version,
        files=[step.file for step in change.steps or ()],
        environments=[config_id.environment for config_id in ids],
        problems=migration.problems,
        done=ready and not dry_run,
        changes=values.values,
        changes_left_out=values.left_out,
        difference={
            config_id.environment: difference(plan.state.head(config_id), plan.head(config_id)) for config_id in ids
        }
        if ready and dry_run
        else UNSET,
    )


def _waiting_problems(changes: SchemaChanges) -> list[SourceProblem]:
    """Return what to add to the problems of files that were written for a schema which is not in force yet."""
    return [
        SourceProblem(
            f"schemas/{item.change.service}.yaml",
            None,
            f"version {item.change.to_version} waits for its migration, so version {item.change.from_version} "
            "counts; if the files are written for the new one, run: aliciacfg migrate --dry-run",
        )
        for item in changes.pending
    ]
