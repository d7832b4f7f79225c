"""Makes another environment the active one: every service of it is checked first, and all switch at once."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from aliciacfg import documents
from aliciacfg.core import restore
from aliciacfg.core.announcements import Announcements
from aliciacfg.core.changed_values import Content, EnvironmentResult
from aliciacfg.core.commits import Commits
from aliciacfg.core.configurations import Configurations
from aliciacfg.core.drafts import Drafts
from aliciacfg.core.file_changes import FilePlanner
from aliciacfg.core.lacking_secrets import lost_secrets
from aliciacfg.core.loaded_files import LoadedFiles
from aliciacfg.core.outbox import Outbox, service_subject
from aliciacfg.core.plan import ChangeContext, Plan
from aliciacfg.core.planner import Planner
from aliciacfg.core.state import NOTHING, State
from aliciacfg.core.views import difference, difference_to
from aliciacfg.errors import ActivationRefused, Trial, ValidationFailed
from aliciacfg.model.config_id import ConfigId
from aliciacfg.sealing.sealed_documents import redact


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationResult(EnvironmentResult):
    """What an activation changes.

    Attributes:
        previous: The environment that was active before.
        lacking: The places of secrets that services have no more, by service.
    """

    previous: str
    lacking: dict[str, list[str]] = field(default_factory=dict[str, list[str]])


class Activation:
    """Switches between environments."""

    def __init__(
        self,
        *,
        state: State,
        files: LoadedFiles,
        drafts: Drafts,
        configurations: Configurations,
        commits: Commits,
        outbox: Outbox,
        announcements: Announcements,
        clock: Callable[[], float],
    ) -> None:
        self._state = state
        self._files = files
        self._drafts = drafts
        self._configurations = configurations
        self._commits = commits
        self._outbox = outbox
        self._announcements = announcements
        self._clock = clock

    async def activate(
        self,
        name: str,
        context: ChangeContext,
        *,
        dry_run: bool = False,
        on_planned: Callable[[Plan, ActivationResult], None] = lambda _plan, _result: None,
    ) -> ActivationResult:
        """Make an environment the active one.

        Args:
            name: The environment.
            context: The reason for it.
            dry_run: Change nothing.
            on_planned: Called with the complete plan before it is committed.

        Raises:
            NotFound: There is no such environment.
            Unavailable: Files or store cannot be used; nothing changed.
            ActivationRefused: A service of it would be invalid; nothing changed.
            ValidationFailed: It has no service; nothing changed.
        """

        async def make(plan: Plan) -> ActivationResult:
            self._configurations.environment(name)
            result = ActivationResult(previous=self._state.active)
            if name != self._state.active:
                planner = self._files.any_planner()
                await self._plan_services(plan, planner, name, dry_run=dry_run)
                await self._plan_switch(plan, planner, name, result, dry_run=dry_run)
            on_planned(plan, result)
            return result

        # Exclusive: a write planned during the switch would be announced for the old environment.
        return await self._commits.change(context, make, dry_run=dry_run, exclusive=True)

    async def _plan_services(self, plan: Plan, planner: Planner, name: str, *, dry_run: bool) -> None:
        """Bring the services of the environment up to its files.

        Raises:
            ActivationRefused: One would be invalid; for a dry run, with what would change apart from that.
        """
        file_planner = FilePlanner(planner, plan, active=name, defined=self._files.defined)
        problems = await file_planner.plan_environment(planner.composer.sources.environments[name])
        if problems:
            listed = [problem for service in problems.values() for problem in service]
            raise ActivationRefused(
                f"{name} cannot be activated; {self._state.active} stays active",
                listed,
                remedies=self._files.remedies(name),
                trial=await self._draft_differences(plan, planner, name) if dry_run else None,
            )

    async def _draft_differences(self, plan: Plan, planner: Planner, name: str) -> Trial:
        """Return what services would get another configuration, with that which is not valid as its files say it."""
        named = planner.composer.sources.environments[name].draft.services
        found = EnvironmentResult()
        for service in sorted({*named, *self._state.names(name), *self._state.names(self._state.active)}):
            # Let reads run in between.
            await asyncio.sleep(0)
            before = self._state.head(ConfigId(self._state.active, service))
            draft = self._drafts.of(ConfigId(name, service))
            after = plan.head(ConfigId(name, service))
            if draft is None:
                operations = await asyncio.to_thread(difference, before, after)
                content, document = after, planner.document(after)
            else:
                shown = redact(draft.document, draft.secrets)
                operations = await asyncio.to_thread(difference_to, before, shown, draft.secrets)
                content = Content(draft.document, draft.secrets, planner.composer.sources.schema(service))
                document = draft.document
            if operations:
                found.difference[service] = operations
                changes = documents.changes(planner.document(before), document)
                found.values.add(service, before, content, [change.pointer for change in changes])
        return Trial(
            difference=found.difference,
            changes=found.values.values,
            changes_left_out=found.values.left_out,
            added=found.values.added,
            removed=found.values.removed,
        )

    async def _plan_switch(
        self, plan: Plan, planner: Planner, name: str, result: ActivationResult, *, dry_run: bool
    ) -> None:
        """Plan what the bus holds when another environment is the active one."""
        before = {service: entry for service, entry in self._state.heads(self._state.active) if entry.live}
        services = {service for service, _ in self._state.heads(name)} | {known.service for known in plan.entries}
        after = {service: entry for service in sorted(services) if (entry := plan.head(ConfigId(name, service))).live}
        if not after:
            raise ValidationFailed(f"{name} has no configuration of any service, so it cannot be activated")
        for service, entry in after.items():
            # Let reads run in between: planning hundreds of services takes noticeable time.
            await asyncio.sleep(0)
            old = before.get(service, NOTHING)
            if entry.live is None:
                continue
            if lost := lost_secrets(old, entry):
                result.lacking[service] = lost
            pointers = planner.announce_switch(plan, entry.live, before=planner.document(old))
            if pointers.changed:
                result.changed.append(service)
                result.values.add(service, old, entry, pointers.changed)
                if dry_run:
                    result.difference[service] = await asyncio.to_thread(difference, old, entry)
                if pointers.restart_required:
                    result.restart_required.append(service)
        for service in sorted(before.keys() - after.keys()):
            plan.announcements.append(self._outbox.remove(service_subject(service), plan.next_sequence()))
            result.changed.append(service)
            result.values.removed.append(service)
            if dry_run:
                result.difference[service] = difference(before[service], NOTHING)
        plan.announcements.append(self._announcements.environment(plan, name))
        plan.meta[restore.ACTIVE] = name
        plan.activates = name
        detail = f"was {self._state.active}"
        plan.audit.append(plan.context.audit_entry(self._clock(), environment=name, detail=detail))
