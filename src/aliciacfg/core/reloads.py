"""Loads environment and schema files, at the start and after every edit, as a whole or not at all."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import structlog
from msgspec import UNSET

from aliciacfg import documents
from aliciacfg.access.authorizer import Authorizer
from aliciacfg.api.answers import Migration
from aliciacfg.core import restore
from aliciacfg.core.commits import Commits
from aliciacfg.core.file_changes import (
    FILES,
    FileChanges,
    FilePlanner,
    NothingLeft,
    SchemaRefused,
    as_problems,
    changed_schemas,
    defined_services,
    serving_schemas,
)
from aliciacfg.core.loaded_files import LoadedFiles, filled
from aliciacfg.core.plain_secrets import PlainSecrets
from aliciacfg.core.plan import ChangeContext, Plan, Problems
from aliciacfg.core.planner import Planner, PlannerFactory
from aliciacfg.core.restore import Restored, RulesMark
from aliciacfg.core.schema_changes import PendingMigration, SchemaChanges, SchemaPlanner
from aliciacfg.core.scrubbing import Scrubbing
from aliciacfg.core.state import State
from aliciacfg.core.vanished_files import FilesVanished, VanishedFiles
from aliciacfg.core.views import difference
from aliciacfg.documents import JsonObject
from aliciacfg.errors import SourceError, SourceProblem, Unavailable
from aliciacfg.model.config_id import ConfigId
from aliciacfg.monitoring.alerts import Alerts
from aliciacfg.sources.idle_nulls import idle_nulls
from aliciacfg.sources.layers import Sources
from aliciacfg.sources.source_files import VARIABLES, SourceFiles

_MAX_NAMED = 3

_log = structlog.get_logger(__name__)

_UNSTORED = "The store cannot write what the files changed."

Patience = Literal["all", "endings", "none"]
"""What is put off while a file in force is missing or empty: every change, only the end of configurations, or nothing.

The file watcher puts off everything. Somebody who asks for a load means it, but hardly that services end.
"""


@dataclass(frozen=True, slots=True)
class ReloadResult:
    """What a load of the files changes in the active environment.

    Attributes:
        changed: The services whose configuration changes.
        restart_required: Those of them that apply the change only at a restart.
        difference: JSON Patch by service, of a dry run.
        migrations: The schemas that wait for their migration, or had it.
    """

    changed: list[str]
    restart_required: list[str]
    difference: dict[str, list[JsonObject]]
    migrations: list[Migration] = field(default_factory=list[Migration])


class Reloads:
    """Loads the files; register ``on_commit`` with ``Commits``.

    Attributes:
        degraded: The reason why the files on disk are not the ones in force; None if they are.
        refused_schemas: The schema files on disk in whose place older ones are in force since the start.
    """

    def __init__(
        self,
        *,
        source_files: SourceFiles,
        planners: PlannerFactory,
        files: LoadedFiles,
        state: State,
        commits: Commits,
        plain_secrets: PlainSecrets,
        scrubbing: Scrubbing,
        alerts: Alerts,
        authorizer: Authorizer,
        rules: RulesMark,
        history_sealed: bool,
        vanished: VanishedFiles,
    ) -> None:
        """Hold the parts.

        Args:
            source_files: Reads the files.
            planners: Makes composers and planners for them.
            files: The files in force; replaced when a load is durable.
            state: Has the configurations.
            commits: Makes the changes durable.
            plain_secrets: Finds what has to be sealed in the store because it is secret now.
            scrubbing: Removes what was in plain text before.
            alerts: Reports refused files.
            authorizer: Applies the access rules of the files.
            rules: Whether the store says that the home has had access rules.
            history_sealed: Whether the store says that its whole history was compared with the schemas in force.
            vanished: Puts off what would end because a file is missing.
        """
        self._source_files = source_files
        self._planners = planners
        self._files = files
        self._state = state
        self._commits = commits
        self._plain_secrets = plain_secrets
        self._scrubbing = scrubbing
        self._alerts = alerts
        self._authorizer = authorizer
        # As stored; changes only when a load is durable, never by a dry run or a refused one.
        self._rules: RulesMark = rules
        self._history_sealed = history_sealed
        # Loads run one after another: what was read first must not replace what was read later.
        self._reloading = asyncio.Lock()
        # Services whose configurations made the last load or migration fail.
        self._blocking: frozenset[str] = frozenset()
        # What the log has about them already.
        self._idle_nulls: list[str] = []
        self.degraded: str | None = None
        self.refused_schemas: list[str] = []
        self._started = False
        self._vanished = vanished
        self._unblocked = False

    @property
    def worth_retrying(self) -> bool:
        """Whether another load may succeed, because a configuration that was in the way changed, or time is over."""
        return self._unblocked or self._vanished.due

    async def start(self, restored: Restored, requested_environment: str, *, degraded: bool = True) -> bool:
        """Load the files for the first time.

        Args:
            restored: The content of the store.
            requested_environment: The ``ENVIRONMENT`` setting; if it differs from the previous start's, it becomes
                the active environment.
            degraded: If the files are not valid, or the store cannot write, serve what was recorded last.

        Returns:
            Whether the start is complete; if not, because the store cannot write what the files changed, it is to be
            repeated when the store can. Repeating a complete one changes nothing: another environment may have been
            activated since.

        Raises:
            SourceError: The active environment is not valid, and there is nothing recorded to serve instead, or
                ``ENVIRONMENT`` asks for another one than before.
            Unavailable: The store cannot write, and there is nothing recorded to serve.
        """
        async with self._reloading:
            if not self._started:
                self._started = await self._start(restored, requested_environment, degraded=degraded)
            return self._started

    async def _start(self, restored: Restored, requested_environment: str, *, degraded: bool) -> bool:
        before = self._state.active
        moved = restored.moves_to(requested_environment)
        if moved:
            self._state.active = requested_environment
        active = self._state.active
        # An environment that cannot be activated is not moved to: the bus keeps what it holds.
        falls_back = degraded and not moved and self._state.count(active) > 0
        meta = {
            restore.ACTIVE: active,
            restore.REQUESTED: requested_environment,
        }
        if meta == restored.start_marks:
            # A start that changes nothing needs no disk that can be written.
            meta = {}
        try:
            patience: Patience = "endings" if falls_back else "none"
            await self._load(await self._read_files(), meta=meta, starting=True, patience=patience)
        except Unavailable as error:
            self._state.active = before
            if not degraded or not self._state.count(before):
                raise
            self.degraded = _UNSTORED
            self._files.not_stored = error.message
            await self._close_access()
            _log.warning("start_not_stored", reason=error.message, remedy="none needed; it is tried again")
            return False
        except SourceError as error:
            self._state.active = before
            if not falls_back:
                if self.degraded is not None:
                    # This start is a repeated one: the environment before is served already, and goes on.
                    self._degrade(error)
                raise
            await self._close_access()
            self._degrade(error)
        else:
            self.degraded = None if self.degraded == _UNSTORED else self.degraded
        return True

    async def _close_access(self) -> None:
        """Refuse what needs a rule, unless it is certain that there are none: the files are not in force."""
        if self._rules != "never" or await asyncio.to_thread(self._source_files.has_access_rules):
            self._authorizer.close()
            self._alerts.raise_(
                "access_closed",
                "The access rules are not known, so every request that needs one is refused. Correct the files; if "
                "there is no access.yaml, restart the daemon afterwards.",
            )

    async def reload(
        self, *, dry_run: bool = False, migrate: ChangeContext | None = None, patience: Patience = "endings"
    ) -> ReloadResult:
        """Read the files again and put them in force, as a whole or not at all.

        Args:
            dry_run: Only return what would change.
            migrate: Carry out the migrations that schemas wait for, for this reason.
            patience: What is put off while a file is missing.

        Raises:
            FilesVanished: A file is missing and may come back; everything stays as it was.
            SourceError: The active environment would not be valid, or a schema would break a stored configuration;
                everything stays as it was.
            Unavailable: The store cannot write; everything stays as it was.
        """
        async with self._reloading:
            if dry_run:
                return await self._load(await self._read_files(), dry_run=True, migrate=migrate)
            self._unblocked = False
            try:
                result = await self._load(await self._read_files(), migrate=migrate, patience=patience)
            except SourceError as error:
                self._degrade(error)
                raise
            self.degraded = None
            self.refused_schemas = []
            self._alerts.clear("validation_failed")
            self._alerts.clear("file_vanished")
            self._vanished.settle()
            return result

    def on_commit(self, plan: Plan) -> None:
        """Note that a configuration changed that made the last load fail."""
        if self._blocking and any(config_id.service in self._blocking for config_id in plan.settled):
            self._unblocked = True

    async def _read_files(self) -> Sources:
        """Read the files.

        Raises:
            SourceError: Shared files, or files of the active environment, cannot be used. Whatever else is wrong would
                only follow from that: services and values of these files are missing.
        """
        try:
            sources = await asyncio.to_thread(self._source_files.load)
            environment = sources.environments.get(self._state.active)
            if environment is not None and environment.problems:
                raise SourceError(environment.problems)
        except SourceError as error:
            if VARIABLES in self._files.found and not await asyncio.to_thread(self._source_files.has_variables):
                message = "is missing or empty, but was in force; put it back, or set its variables elsewhere"
                raise SourceError([SourceProblem(VARIABLES, None, message), *error.problems]) from error
            raise
        return sources

    async def _load(
        self,
        sources: Sources,
        *,
        meta: dict[str, str] | None = None,
        starting: bool = False,
        dry_run: bool = False,
        migrate: ChangeContext | None = None,
        patience: Patience = "none",
    ) -> ReloadResult:
        vanished = self._vanished.look(self._files.found, sources.files, dry_run=dry_run)
        # Exclusive: whatever is planned next builds on these files.
        async with self._commits.change(FILES, dry_run=dry_run, exclusive=True) as plan:
            schema_planner = SchemaPlanner(self._planners.composer, self._state.all_heads())
            schema_changes = schema_planner.plan(sources, self._files.schemas)
            if schema_changes.problems and not starting:
                raise _refusal(schema_changes)
            file_planner, planner, migrations = await self._plan_explained(
                plan, schema_changes, vanished, migrate=migrate, dry_run=dry_run, patience=patience
            )
            if not dry_run and (patience == "all" or (patience == "endings" and _ends_any(plan))):
                self._vanished.check(vanished)
            self._plan_names(plan, planner.composer.sources, meta or {})
            plan.on_commit.append(lambda: self._loaded(file_planner, planner))
            seals = bool(plan.resealed or plan.overlays)
            if seals:
                # Also if it is known only later that the plan is durable.
                plan.on_commit.append(self._scrubbing.request)
            result = await self._result(plan, migrations, dry_run=dry_run)
        if not dry_run:
            self._report_undecryptable(file_planner.changes)
            self._report_schemas(schema_changes, migrations)
            self._report_set_aside(sources)
            await self._report_idle_nulls(sources)
            if seals:
                await self._scrubbing.scrub()
        return result

    async def _plan_explained(
        self,
        plan: Plan,
        schema_changes: SchemaChanges,
        vanished: Sequence[SourceProblem],
        *,
        migrate: ChangeContext | None,
        dry_run: bool,
        patience: Patience,
    ) -> tuple[FilePlanner, Planner, list[Migration]]:
        """Plan as ``_plan_files``; in front of what is wrong comes what it may follow from.

        Raises:
            FilesVanished: A file is missing and may come back.
            SourceError: The active environment would not be valid.
        """
        try:
            return await self._plan_files(plan, schema_changes, migrate=migrate, dry_run=dry_run)
        except NothingLeft as error:
            raise SourceError([*error.problems, *vanished]) from error
        except SourceError as error:
            problems = [*vanished, *schema_changes.problems, *error.problems, *_waiting_problems(schema_changes)]
            if patience == "all":
                # The others may be mere consequences, and be gone when the file is back.
                self._vanished.check(problems)
            raise SourceError(problems, services=error.services) from error

    async def _plan_files(
        self, plan: Plan, schema_changes: SchemaChanges, *, migrate: ChangeContext | None, dry_run: bool
    ) -> tuple[FilePlanner, Planner, list[Migration]]:
        """Plan what the files make of every environment, and the migrations that are wanted and possible."""
        ready = [item for item in schema_changes.pending if migrate is not None and not item.problems]
        sources = schema_changes.sources_without_refused.with_schemas(
            {item.change.service: item.change.new for item in ready}
        )
        planner = self._planners.planner(sources)
        file_planner = FilePlanner(planner, plan, active=self._state.active, defined=self._files.defined)
        for migration in ready:
            if migrate is not None:
                file_planner.migrate(migration, migrate)
        plan.schemas += changed_schemas(self._files.schemas, serving_schemas(sources, self._files.schemas))
        await self._plan_sealing(plan, file_planner, sources)
        await file_planner.plan_all()
        migrations = [_migration(item, plan, ready=item in ready, dry_run=dry_run) for item in schema_changes.pending]
        return file_planner, planner, migrations

    def _plan_names(self, plan: Plan, sources: Sources, meta: dict[str, str]) -> None:
        """Add what the store's table of names has to hold with these files."""
        plan.meta.update(meta)
        rules: RulesMark = self._rules_with(sources)
        if rules != self._rules:
            plan.meta[restore.RULES] = rules
        defined = defined_services(sources)
        if defined != self._files.defined:
            plan.meta[restore.DEFINED] = documents.encode(defined).decode()
        if not self._history_sealed:
            plan.meta[restore.HISTORY_SEALED] = restore.SEALED
        found = filled(sources)
        if found != list(self._files.found):
            plan.meta[restore.FILES] = documents.encode(found).decode()

    def _rules_with(self, sources: Sources) -> RulesMark:
        if sources.access is not None:
            return "since"
        if self._rules == "unknown" and not self._authorizer.had_rules:
            # The store of an older aliciacfg does not say; files that are in force without rules do.
            return "never"
        return self._rules

    async def _plan_sealing(self, plan: Plan, file_planner: FilePlanner, sources: Sources) -> None:
        """Plan the sealing of whatever is stored in plain text though it is secret under these files.

        Overlays are compared at every load, revisions where the schema changed, or no load has compared all of them.
        """
        # Pending writes were planned under the old schemas.
        await self._commits.flush()
        services = {changed.service for changed in plan.schemas}
        if not self._history_sealed:
            services |= {config_id.service for config_id in self._state.all_heads()}
        revisions = await self._plain_secrets.revisions(sources, services)
        file_planner.reseal(revisions, await self._plain_secrets.overlays(sources))

    def _loaded(self, file_planner: FilePlanner, planner: Planner) -> None:
        """Put the files in force: their plan is durable."""
        sources = planner.composer.sources
        defined = defined_services(sources)
        self._rules = self._rules_with(sources)
        self._history_sealed = True
        self._blocking = frozenset()
        self._files.replace(
            planner,
            problems=file_planner.changes.problems,
            unopened=file_planner.changes.unopened,
            defined=defined,
            schemas=serving_schemas(sources, self._files.schemas),
        )
        if sources.access is not None:
            self._alerts.clear("access_closed")
        self._authorizer.apply_rules(sources.access, {service for listed in defined.values() for service in listed})

    async def _result(self, plan: Plan, migrations: list[Migration], *, dry_run: bool) -> ReloadResult:
        active = self._state.active
        records = [record for record in plan.records if record.environment == active]
        changes: dict[str, list[JsonObject]] = {}
        for record in records if dry_run else ():
            config_id = ConfigId(active, record.service)
            before, after = self._state.head(config_id), plan.head(config_id)
            changes[record.service] = await asyncio.to_thread(difference, before, after)
        return ReloadResult(
            changed=[record.service for record in records],
            restart_required=[record.service for record in records if record.restart_required],
            difference=changes,
            migrations=migrations,
        )

    def _report_schemas(self, schema_changes: SchemaChanges, migrations: list[Migration]) -> None:
        """Raise alerts about schemas on disk that are not in force."""
        if schema_changes.problems:
            self._degrade(_refusal(schema_changes))
            self.refused_schemas = [change.file for change in schema_changes.refused]
        waiting = [item for item in migrations if not item.done]
        self._blocking |= {item.service for item in waiting if item.problems}
        if not waiting:
            self._alerts.clear("migration_pending")
            return
        named = ", ".join(f"{item.service} ({item.from_version} to {item.to_version})" for item in waiting)
        self._alerts.raise_(
            "migration_pending",
            f"The schemas of {named} wait for their migrations; the old ones serve. Look with: aliciacfg migrate "
            "--dry-run; carry out with: aliciacfg migrate.",
            problems=[problem for item in waiting for problem in item.problems],
        )

    def _report_set_aside(self, sources: Sources) -> None:
        """Raise an alert about files that are ignored."""
        if not sources.set_aside:
            self._alerts.clear("validation_failed", of="ignored")
            return
        named = "; ".join(str(problem) for problem in sources.set_aside[:_MAX_NAMED])
        self._alerts.raise_(
            "validation_failed",
            f"{len(sources.set_aside)} files are ignored, and everything else is served: {named}",
            of="ignored",
            problems=[problem.shown for problem in sources.set_aside],
        )

    async def _report_idle_nulls(self, sources: Sources) -> None:
        """Log each ``null`` of the files that removes nothing, once until it is corrected."""
        found = [str(warning) for warning in await asyncio.to_thread(idle_nulls, sources)]
        if found != self._idle_nulls:
            self._idle_nulls = found
            if found:
                _log.warning("null_removes_nothing", places=found[:_MAX_NAMED], count=len(found))

    def _report_undecryptable(self, changes: FileChanges) -> None:
        for environment, services in changes.undecryptable.items():
            said: list[str] = []
            if services:
                said.append(
                    f"Changes made at run time to {', '.join(services)} in {environment} do not open: their key is "
                    "missing, or the rows were changed in the database. The last revisions stay in force. Restore the "
                    "key file, or set these services again."
                )
            unopened = changes.unopened[environment]
            if unopened:
                said.append(self._describe_unopened(environment, unopened))
            if said:
                problems = [problem for listed in unopened.values() for problem in listed]
                self._alerts.raise_("undecryptable", " ".join(said), of=environment, problems=problems)
            else:
                self._alerts.clear("undecryptable", of=environment)

    def _describe_unopened(self, environment: str, unopened: Problems) -> str:
        heads = {service: self._state.committed(ConfigId(environment, service)) for service in unopened}
        missing = [service for service, entry in heads.items() if entry.live is None]
        first = next(iter(unopened.values()))[0].message
        served = f" There is no stored revision of {', '.join(missing)} to serve instead." if missing else ""
        return (
            f"The files of {environment} contain values for {', '.join(unopened)} that are sealed with keys that are "
            f"missing, the first one in {first}.{served} Restore the key file, add the key (`aliciacfg keys add`), or "
            "seal the values again."
        )

    def _put_off(self, error: FilesVanished) -> None:
        """Tell that a load waits for files to come back."""
        named = "; ".join(str(problem) for problem in error.problems[:_MAX_NAMED])
        self.degraded = str(error.problems[0])
        self._files.refused = error.problems
        self._alerts.raise_(
            "file_vanished",
            f"Files in force are gone; the previous configurations stay in force for now. {named}",
            problems=as_problems(error),
        )

    def _degrade(self, error: SourceError) -> None:
        if isinstance(error, FilesVanished):
            self._put_off(error)
            return
        self._alerts.clear("file_vanished")
        self._vanished.settle()
        first = str(error.problems[0]) if error.problems else "nothing is wrong"
        more = f" (and {len(error.problems) - 1} more)" if len(error.problems) > 1 else ""
        self.degraded = first
        self._blocking = error.services
        self._files.refused = error.problems
        self._alerts.raise_(
            "validation_failed",
            f"The files were refused; the previous configurations stay in force: {first}{more}",
            problems=as_problems(error),
            # Health needs no permission, and a problem may quote a value.
            shown="The files were refused; the previous configurations stay in force; `aliciacfg check` "
            f"lists what is wrong ({len(error.problems)})",
        )


def _ends_any(plan: Plan) -> bool:
    """Return whether a plan ends a configuration."""
    return any(record.deleted for record in plan.records)


def _refusal(schema_changes: SchemaChanges) -> SchemaRefused:
    return SchemaRefused(schema_changes.problems, services={change.service for change in schema_changes.refused})


def _migration(migration: PendingMigration, plan: Plan, *, ready: bool, dry_run: bool) -> Migration:
    """Return a move of a schema as callers see it."""
    change = migration.change
    ids = [ConfigId(environment, change.service) for environment in sorted(migration.overlays)]
    return Migration(
        service=change.service,
        from_version=change.from_version,
        to_version=change.to_version,
        files=[step.file for step in change.steps or ()],
        environments=[config_id.environment for config_id in ids],
        problems=migration.problems,
        done=ready and not dry_run,
        difference={
            config_id.environment: difference(plan.state.head(config_id), plan.head(config_id)) for config_id in ids
        }
        if ready and dry_run
        else UNSET,
    )


def _waiting_problems(schema_changes: SchemaChanges) -> list[SourceProblem]:
    """Return what to add to the problems of files that were written for a schema which is not in force yet."""
    return [
        SourceProblem(
            f"schemas/{item.change.service}.yaml",
            None,
            f"version {item.change.to_version} waits for its migration, so version {item.change.from_version} "
            "counts; if the files are written for the new one, run: aliciacfg migrate --dry-run",
        )
        for item in schema_changes.pending
    ]
