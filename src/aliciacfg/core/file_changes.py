"""Taking files over: from what the files of one moment say to what has to be written.

Whole or not at all: an edit that makes a service of the active environment invalid, or a schema that would break
what is stored, is refused; what is wrong with another environment is told and hurts nobody.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from aliciacfg import documents
from aliciacfg.core.composer import Undecryptable
from aliciacfg.core.plan import ChangeContext, Plan, Problems
from aliciacfg.core.planner import Planner
from aliciacfg.core.schema_changes import Waiting, remembered
from aliciacfg.core.state import Entry, Key
from aliciacfg.documents import JsonObject
from aliciacfg.errors import OperationError, Problem, SourceError, SourceProblem, ValidationFailed
from aliciacfg.model.records import AdoptedSchema, Record
from aliciacfg.sources.layers import Environment, Sources

FILES = ChangeContext("files", "file")


class SchemaRefused(SourceError):
    """A schema would break what is stored under the old one, which serves on."""


@dataclass(slots=True)
class Adoption:
    """What taking the files over comes to.

    Attributes:
        planner: Plans on these files.
        plan: What has to be written.
        problems: What is wrong, by environment.
        undecryptable: Services whose changes at run time do not open, by environment.
    """

    planner: Planner
    plan: Plan
    problems: dict[str, Problems] = field(default_factory=dict[str, Problems])
    undecryptable: dict[str, list[str]] = field(default_factory=dict[str, list[str]])

    @property
    def sources(self) -> Sources:
        """The files."""
        return self.planner.composer.sources

    @property
    def defined(self) -> dict[str, list[str]]:
        """The services that the files name, by environment."""
        return {name: sorted(found.services) for name, found in self.sources.environments.items()}


class Adopter:
    """Plans what files make of every environment; waits now and then, so that reads go on."""

    def __init__(self, adoption: Adoption, *, active: str, defined: Mapping[str, Sequence[str]]) -> None:
        """Take what it plans on.

        Args:
            adoption: Is added to.
            active: The active environment: its services are announced, and must be valid.
            defined: The services that the files named before, by environment.
        """
        self._adoption = adoption
        self._active = active
        self._defined = defined
        self._migrated: dict[Key, JsonObject] = {}
        self._migrating: dict[str, ChangeContext] = {}
        self._remarked: set[str] = set()

    def reseal(self, records: Iterable[Record]) -> None:
        """Take revisions of which more is sealed than before, because their schema says so now.

        What the bus holds of them is replaced too; it told in the open what is a secret by now.
        """
        plan = self._adoption.plan
        for record in records:
            key = (record.environment, record.service)
            plan.resealed.append(record)
            self._remarked.add(record.service)
            entry = plan.head(key)
            if entry.live is not None and entry.live.revision == record.revision:
                plan.entries[key] = replace(entry, record=record, effective=None)
                if record.environment == self._active:
                    self._adoption.planner.tell(plan, record)

    def migrate(self, waiting: Waiting, origin: ChangeContext) -> None:
        """Take a schema's migrated overlays instead of the stored ones."""
        self._migrating[waiting.move.service] = origin
        for environment, overlay in waiting.overlays.items():
            self._migrated[environment, waiting.move.service] = overlay

    async def plan_all(self) -> None:
        """Plan every environment.

        Raises:
            SourceError: The active one would not be valid.
        """
        environments = self._adoption.sources.environments
        for name, environment in environments.items():
            self._adoption.problems[name] = await self.plan_environment(environment)
        for key, overlay in self._migrated.items():
            if key[0] not in environments:
                # Whoever brings the environment's files back finds its changes as the new schema has them.
                self._adoption.planner.replace_overlay(self._adoption.plan, key, overlay)
        self._refuse_active()

    async def plan_environment(
        self, environment: Environment, *, origin: ChangeContext = FILES, announce: bool = True
    ) -> Problems:
        """Plan every service of one environment, and say what is wrong with which.

        Args:
            environment: Which.
            origin: Why.
            announce: Tell the services what changed, if it is the active environment.
        """
        if environment.problems:
            return {"": tuple(as_problem(problem) for problem in environment.problems)}
        plan = self._adoption.plan
        problems: Problems = {}
        undecryptable = self._adoption.undecryptable[environment.name] = []
        heads = dict(plan.state.heads(environment.name))
        known = {service for service, entry in heads.items() if entry.live or entry.overlay is not None}
        for service in sorted(environment.services | known):
            # Hundreds of services take long enough to be felt by those who read.
            await asyncio.sleep(0)
            if heads.get(service, Entry()).undecryptable:
                undecryptable.append(service)
                continue
            try:
                self._plan_service((environment.name, service), environment, origin, announce=announce)
            except Undecryptable:
                undecryptable.append(service)
            except OperationError as error:
                listed = error.problems or (Problem("", error.message),)
                problems[service] = tuple(_located(environment, service, problem) for problem in listed)
        return problems

    def _plan_service(self, key: Key, environment: Environment, origin: ChangeContext, *, announce: bool) -> None:
        name, service = key
        planner, plan = self._adoption.planner, self._adoption.plan
        entry = plan.head(key)
        told = announce and name == self._active
        origin = self._migrating.get(service, origin)
        kept = self._migrated.get(key, entry.overlay)
        if service not in environment.services:
            if kept is None:
                planner.tombstone(plan, key, origin=origin, announce=told)
                return
            if service in self._defined.get(name, ()):
                raise ValidationFailed(
                    "was removed from the files but has changes made at run time; delete those first, or put it back"
                )
        merged = documents.merge(planner.composer.base(name, service), kept or {})
        # The files may have a new schema, which no longer calls secret what was.
        secrets = planner.secrets(entry)
        if key in self._migrated:
            # By value: a migration moves secrets to other places.
            values = set(secrets.values())
            secrets = {pointer: value for pointer, value in documents.walk_strings(merged) if value in values}
        effective = planner.composer.effective(name, service, merged, kept=secrets)
        # An empty overlay only says that a service exists that no file names.
        overlay = None if service in environment.services and not kept else kept
        remarked = service in self._remarked
        planner.change(plan, key, effective=effective, overlay=overlay, origin=origin, announce=told, reseal=remarked)

    def _refuse_active(self) -> None:
        sources, active = self._adoption.sources, self._active
        if active not in sources.environments:
            known = ", ".join(sources.environments) or "none"
            message = f"is missing, but {active!r} is active; create it, or set ENVIRONMENT to one of: {known}"
            raise SourceError([SourceProblem(f"environments/{active}.yaml", None, message)])
        before = self._defined.get(active)
        if before and not sources.environments[active].services:
            # A file emptied by accident must not end every configuration of the home.
            message = (
                f"no file of {active} names a service any more, though {len(before)} were defined; bring them "
                "back. To end configurations, remove them one after another"
            )
            raise SourceError([SourceProblem(f"environments/{active}.yaml", None, message)])
        found = sources.environments[active].problems or [
            SourceProblem("", None, problem.message, problem.pointer)
            for listed in self._adoption.problems[active].values()
            for problem in listed
        ]
        if found:
            raise SourceError(found, services=self._adoption.problems[active].keys() - {""})


def serving_schemas(sources: Sources, before: Mapping[str, JsonObject | None]) -> dict[str, JsonObject | None]:
    """The schemas that serve from now on, by service, and what is kept of those that did."""
    services = sorted({*before, *sources.schemas})
    return {service: remembered(sources.schemas.get(service), before.get(service)) for service in services}


def changed_schemas(
    before: Mapping[str, JsonObject | None], after: Mapping[str, JsonObject | None]
) -> list[AdoptedSchema]:
    """What differs between two results of ``serving_schemas``."""
    return [
        AdoptedSchema(service, None if own is None else documents.canonical(own))
        for service, own in after.items()
        if service not in before or not documents.equal(own, before[service])
    ]


def as_problem(problem: SourceProblem) -> Problem:
    """A problem with a file, its place put into the message."""
    return Problem(problem.pointer, str(problem))


def as_problems(error: SourceError) -> list[Problem]:
    """All problems with files, their places put into the messages."""
    return [as_problem(problem) for problem in error.problems]


def _located(environment: Environment, service: str, problem: Problem) -> Problem:
    file, line = environment.locate(service, problem.pointer)
    where = file if line is None else f"{file}:{line}"
    return Problem(
        f"/services/{documents.escape(service)}{problem.pointer}",
        f"{where}: {service} {problem.pointer or '(document)'}: {problem.message}",
    )
