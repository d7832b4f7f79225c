"""From the environment and schema files of one moment to what has to be written.

Files are loaded as a whole or not at all: an edit that makes a service of the active environment invalid, or a schema
that would break a stored configuration, is refused; what is wrong with another environment is reported.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from aliciacfg import documents
from aliciacfg.core.composer import Composer, Effective, Undecryptable
from aliciacfg.core.file_warnings import hidden_problems, shadowed_edits
from aliciacfg.core.plan import ChangeContext, Lacking, Plan, Problems
from aliciacfg.core.planner import Planner
from aliciacfg.core.schema_changes import PendingMigration, schema_to_store
from aliciacfg.core.state import Entry
from aliciacfg.documents import JsonObject
from aliciacfg.errors import (
    Finding,
    InvalidDocument,
    OperationError,
    Problem,
    SourceError,
    SourceProblem,
    ValidationFailed,
)
from aliciacfg.model.config_id import ConfigId
from aliciacfg.model.records import Overlay, Record, ServingSchema
from aliciacfg.sources.broker_accounts import only_in_secrets
from aliciacfg.sources.layers import Environment, Sources, is_secrets_file
from aliciacfg.sources.unclear_services import looks_like

FILES = ChangeContext("files", "file")
# A name was misspelt, or one after another; where a whole home is exchanged, comparing all with all is no use.
_MAX_COMPARED = 20


class SchemaRefused(SourceError):
    """A schema would break what is stored under the old one, which stays in force."""


class NothingLeft(SourceError):
    """The active environment would be missing or name no service; refused however long files are away."""


@dataclass(slots=True)
class FileChanges:
    """The result of planning what files change.

    Attributes:
        problems: What is wrong, by environment.
        undecryptable: Services whose overlay does not open, by environment.
        unopened: Services whose files contain values sealed with missing keys, by environment.
        shadowed: Values that were edited and that an overlay hides, as lines.
        hidden: Values of files that are not valid and that an overlay hides, by environment and service.
        ended: Services that end, or keep nothing but what a file of secrets says, as lines.
        lacking: The JSON Pointers of missing secrets, by environment and service, of services in which nothing else is
            wrong.
    """

    problems: dict[str, Problems] = field(default_factory=dict[str, Problems])
    undecryptable: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    unopened: dict[str, Problems] = field(default_factory=dict[str, Problems])
    lacking: dict[str, Lacking] = field(default_factory=dict[str, Lacking])
    shadowed: list[str] = field(default_factory=list[str])
    ended: list[str] = field(default_factory=list[str])
    hidden: dict[str, Problems] = field(default_factory=dict[str, Problems])


class FilePlanner:
    """Plans the configurations that the files define, in every environment; lets reads run in between.

    Attributes:
        changes: The result so far.
    """

    def __init__(
        self,
        planner: Planner,
        plan: Plan,
        *,
        active: str,
        defined: Mapping[str, Sequence[str]],
        before: Composer | None = None,
    ) -> None:
        """Prepare an empty result.

        Args:
            planner: Plans on these files.
            plan: Receives the changes.
            active: The environment whose services have to be valid.
            defined: The services that the files in force name, by environment.
            before: Composes from the files in force; None to look for no edits that overlays hide.
        """
        self._before = before
        self.changes = FileChanges()
        self._planner = planner
        self._plan = plan
        self._active = active
        self._defined = defined
        # Overlays after their migration, in place of the stored ones.
        self._migrated: dict[ConfigId, JsonObject] = {}
        # The reason for each service's migration.
        self._migrating: dict[str, ChangeContext] = {}

    @property
    def _sources(self) -> Sources:
        return self._planner.composer.sources

    def reseal(self, records: Iterable[Record], overlays: Iterable[Overlay]) -> None:
        """Plan revisions and overlays of which more is sealed than before, because their schema marks more as secret.

        Their retained messages are replaced too: they show in plain text a value that is now a secret.
        """
        plan = self._plan
        # Before those of ``plan_all``, which seal as much, and replace these.
        plan.overlays += overlays
        for record in records:
            config_id = ConfigId(record.environment, record.service)
            plan.resealed.append(record)
            entry = plan.head(config_id)
            if entry.live is not None and entry.live.revision == record.revision:
                plan.entries[config_id] = replace(entry, record=record, effective=None)
                self._planner.announce_again(plan, record)

    def migrate(self, migration: PendingMigration, context: ChangeContext) -> None:
        """Use the migrated overlays of a schema instead of the stored ones."""
        self._migrating[migration.change.service] = context
        for environment, overlay in migration.overlays.items():
            self._migrated[ConfigId(environment, migration.change.service)] = overlay

    async def plan_all(self) -> None:
        """Plan every environment.

        Raises:
            SourceError: The active one would not be valid.
        """
        environments = self._sources.environments
        for name, environment in environments.items():
            self.changes.problems[name] = await self.plan_environment(environment)
        for config_id, overlay in self._migrated.items():
            if config_id.environment not in environments:
                # When the environment's files come back, its overlays already fit the new schema.
                self._planner.replace_overlay(self._plan, config_id, overlay)
        self._check_active()

    async def plan_environment(self, environment: Environment) -> Problems:
        """Plan every service of one environment, and return what is wrong with which."""
        if environment.problems:
            return {"": tuple(problem.shown for problem in environment.problems)}
        problems: Problems = {}
        undecryptable = self.changes.undecryptable[environment.name] = []
        unopened = self.changes.unopened[environment.name] = {}
        lacking = self.changes.lacking[environment.name] = {}
        state = self._plan.state
        for service in sorted(environment.services.union(state.names(environment.name))):
            # Let reads run in between: planning hundreds of services takes noticeable time.
            await asyncio.sleep(0)
            entry = state.head(ConfigId(environment.name, service))
            if service not in environment.services and entry.live is None and entry.overlay is None:
                continue
            if entry.undecryptable:
                undecryptable.append(service)
                continue
            if service not in environment.services and entry.overlay is None:
                self._note_ended(environment, service)
            try:
                self._plan_service(ConfigId(environment.name, service), environment)
            except OperationError as error:
                found = unopened if isinstance(error, Undecryptable) else problems
                findings = self._findings(service, error)
                found[service] = tuple(environment.located(service, finding) for finding in findings)
                if self._lacks_only_secrets(service, findings):
                    lacking[service] = [finding.pointer for finding in findings]
        self._note_bereft(environment)
        return problems

    def _note_ended(self, environment: Environment, service: str) -> None:
        """Note that a service ends because no file names it any more: perhaps its name was only misspelt."""
        before = None if self._before is None else self._before.sources.environments.get(environment.name)
        file = next((file.file for file in before.files if service in file.services), None) if before else None
        named = f"{file} does not name it any more" if file else "no file names it any more"
        self.changes.ended.append(f"{service} ends in {environment.name}: {named}{self._meant(environment, service)}")

    def _note_bereft(self, environment: Environment) -> None:
        """Note the services that are left with their secrets alone: other files do not name them any more."""
        before = None if self._before is None else self._before.sources.environments.get(environment.name)
        if before is None or before.problems:
            return
        for service in only_in_secrets(environment):
            file = next((file.file for file in before.files if service in file.services), None)
            if file is not None and not is_secrets_file(file):
                self.changes.ended.append(
                    f"{service} in {environment.name} keeps only what a file of secrets says: {file} does not name it "
                    f"any more{self._meant(environment, service)}"
                )

    def _meant(self, environment: Environment, service: str) -> str:
        if len(self.changes.ended) >= _MAX_COMPARED:
            return ""
        fresh = environment.services.difference(self._defined.get(environment.name, ()))
        meant = looks_like(service, fresh)
        return f"; {meant}, which is new, looks like it" if meant else ""

    def _lacks_only_secrets(self, service: str, findings: Sequence[Finding]) -> bool:
        """Return whether nothing is wrong with a service's document but that secrets are missing."""
        schema = self._sources.schema(service)
        return all(finding.missing and schema.expects_secret(finding.pointer) for finding in findings)

    def _findings(self, service: str, error: OperationError) -> Sequence[Finding]:
        """Return what is wrong with a service's document, with places in it."""
        if isinstance(error, InvalidDocument):
            return error.findings
        place = self._sources.schema(service).place
        listed = error.problems or (Problem("", error.message),)
        return [Finding(found.pointer, place(found.pointer), "", found.message) for found in listed]

    def _plan_service(self, config_id: ConfigId, environment: Environment) -> None:
        planner, plan, service = self._planner, self._plan, config_id.service
        entry = plan.head(config_id)
        context = self._migrating.get(service)
        kept = self._migrated.get(config_id, entry.overlay)
        if service not in environment.services:
            if kept is None:
                planner.tombstone(plan, config_id, context=context)
                return
            if service in self._defined.get(config_id.environment, ()):
                raise ValidationFailed(
                    "was removed from the files but has changes made at run time; delete those first, or put it back"
                )
        effective = self._as_recorded(config_id, entry) or self._composed(config_id, kept, entry)
        # An empty overlay only says that a service exists that no file names.
        overlay = None if service in environment.services and not kept else kept
        if overlay:
            self._note_hidden(config_id, environment, entry)
        planner.change(plan, config_id, effective=effective, overlay=overlay, context=context)
        # No answer needs it, and 10,000 of them would be freed at once in the end.
        plan.redacted.pop(config_id, None)

    def _note_hidden(self, config_id: ConfigId, environment: Environment, entry: Entry) -> None:
        """Note what the overlay of a configuration hides: values that are not valid, and edits."""
        name, service = config_id
        composer = self._planner.composer
        if self._before is not None:
            self.changes.shadowed += shadowed_edits(config_id, environment, entry, before=self._before, after=composer)
        if hidden := hidden_problems(config_id, environment, entry, after=composer):
            self.changes.hidden.setdefault(name, {})[service] = tuple(hidden)

    def _as_recorded(self, config_id: ConfigId, entry: Entry) -> Effective | None:
        """Return the content of a configuration if files and overlay yield its revision as the store has it.

        Then the secrets of the revision need not be opened one by one, which takes a quarter of a start with 10,000
        configurations. The checksum covers what is secret, not only its value: see ``sealed_documents.checksum``.
        """
        if entry.live is None or entry.effective is not None or config_id in self._migrated:
            return None
        try:
            found = self._planner.composer.compose(*config_id, entry.overlay)
        except OperationError:
            # Perhaps of a secret that the schema does not mark any more, and that no message may quote.
            return None
        # The same text, once.
        return replace(found, checksum=entry.live.checksum) if found.checksum == entry.live.checksum else None

    def _composed(self, config_id: ConfigId, overlay: JsonObject | None, entry: Entry) -> Effective:
        """Compose a configuration; raises what ``Composer.compose`` raises."""
        # The files may have a new schema, which no longer marks as secret what was one.
        secrets = self._planner.secrets(entry)
        migrated = config_id in self._migrated
        return self._planner.composer.compose(
            *config_id,
            overlay,
            kept=None if migrated else secrets,
            # A migration moves secrets to other places.
            kept_values=set(secrets.values()) if migrated else (),
        )

    def _check_active(self) -> None:
        """Raise SourceError if the active environment is missing, empty or invalid."""
        active = self._active
        environment = self._sources.environments.get(active)
        if environment is None:
            known = ", ".join(self._sources.environments) or "none"
            message = f"is missing, but {active!r} is active; create it, or set ENVIRONMENT to one of: {known}"
            raise NothingLeft([SourceProblem(f"environments/{active}.yaml", None, message)])
        before = self._defined.get(active)
        if before and not environment.services and not environment.problems:
            # A file emptied by accident must not end every configuration of the home.
            message = (
                f"no file of {active} names a service any more, though {len(before)} were defined; bring them "
                "back. To end configurations, remove them one after another"
            )
            raise NothingLeft([SourceProblem(f"environments/{active}.yaml", None, message)])
        problems = self.changes.problems[active]
        found = environment.problems or [
            SourceProblem.of(problem) for listed in problems.values() for problem in listed
        ]
        if found:
            raise SourceError(found, services=problems.keys() - {""})


def defined_services(sources: Sources) -> dict[str, list[str]]:
    """Return the services that files name, by environment."""
    return {name: sorted(found.services) for name, found in sources.environments.items()}


def serving_schemas(sources: Sources, before: Mapping[str, JsonObject | None]) -> dict[str, JsonObject | None]:
    """Return the schema documents that are in force with these files, by service.

    Args:
        sources: The files.
        before: The documents in force before them; what is kept of a schema whose file is gone comes from there.
    """
    services = sorted({*before, *sources.schemas})
    return {service: schema_to_store(sources.schemas.get(service), before.get(service)) for service in services}


def changed_schemas(
    before: Mapping[str, JsonObject | None], after: Mapping[str, JsonObject | None]
) -> list[ServingSchema]:
    """Return the schemas that differ between two results of ``serving_schemas``."""
    return [
        ServingSchema(service, None if own is None else documents.canonical(own))
        for service, own in after.items()
        if service not in before or not documents.equal(own, before[service])
    ]


def as_problems(error: SourceError) -> list[Problem]:
    """Return all problems with files, their places in the messages."""
    return [problem.shown for problem in error.problems]
