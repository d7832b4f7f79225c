"""The operations that change every configuration of an environment: activate, reload."""

from collections.abc import Callable

import msgspec
from msgspec import UNSET

from aliciacfg.access.caller import BUS, Caller
from aliciacfg.api.answers.environments import ActivateAnswer, EnvironmentChange, ReloadAnswer
from aliciacfg.api.encoding import Answer
from aliciacfg.api.requests import ActivateRequest, ReloadRequest
from aliciacfg.core.activation import Activation, ActivationResult
from aliciacfg.core.changed_values import EnvironmentResult
from aliciacfg.core.file_changes import as_problems
from aliciacfg.core.plan import ChangeContext, Plan
from aliciacfg.core.reloads import Reloads
from aliciacfg.core.state import State
from aliciacfg.counted import counted
from aliciacfg.errors import InvalidRequest, SourceError, ValidationFailed
from aliciacfg.model import names
from aliciacfg.operations.ledger import closed
from aliciacfg.replicas.presence import Presence


class EnvironmentOperations:
    """The operations that change every configuration of an environment."""

    def __init__(
        self,
        *,
        state: State,
        activation: Activation,
        reloads: Reloads,
        presence: Presence,
        broker_away: Callable[[], bool],
    ) -> None:
        self._broker_away = broker_away
        self._presence = presence
        self._state = state
        self._activation = activation
        self._reloads = reloads

    async def activate(self, caller: Caller, environment: str, request: ActivateRequest) -> Answer:
        """Make an environment the active one, unless a service would be invalid in it."""
        names.check_environment(environment)
        context = ChangeContext.of_request(caller, "activate", cause="activation", comment=request.comment)

        def keep(plan: Plan, result: ActivationResult) -> None:
            if context.answer_key is not None:
                plan.keep_answer(closed(self._activated(environment, request, result)))

        result = await self._activation.activate(environment, context, dry_run=request.dry_run, on_planned=keep)
        return self._activated(environment, request, result)

    async def reload(self, caller: Caller, request: ReloadRequest) -> Answer:
        """Read the files and put them in force; with ``migrate``, carry out the pending schema migrations.

        Where several daemons serve the home, those on the disk of the one that carries this out come into force.

        Raises:
            InvalidRequest: It came over the bus, which gives it to any of them, and they have different files.
        """
        others = self._presence.with_other_files
        if others and caller.transport == BUS:
            names = ", ".join(row.name for row in others)
            raise InvalidRequest(
                f"The machines of this home have different files ({names}), and whose daemon gets a request over the "
                "bus is chance; name one: aliciacfg --http URL reload. `aliciacfg replicas` lists their URLs."
            )
        context = ChangeContext.of_request(caller, "reload", cause="migration")
        try:
            result = await self._reloads.reload(dry_run=request.dry_run, migrate=context if request.migrate else None)
        except SourceError as error:
            raise ValidationFailed(
                "The files were refused; the previous configurations stay in force", as_problems(error)
            ) from error
        active = self._state.active
        verb = "would change" if request.dry_run else "changed"
        change = self._change(
            active,
            f"{counted(len(result.changed), 'configuration')} of {active} {verb}",
            result,
            published=bool(result.changed),
            dry_run=request.dry_run,
        )
        return Answer.of(
            ReloadAnswer(**msgspec.structs.asdict(change), migrations=result.migrations, warnings=result.warnings)
        )

    def _activated(self, environment: str, request: ActivateRequest, result: ActivationResult) -> Answer:
        message = f"{environment} is active already"
        switches = environment != result.previous
        if switches:
            verb = "would be" if request.dry_run else "is"
            number = len(result.changed)
            get = f"{counted(number, 'service')} {'gets' if number == 1 else 'get'} another configuration"
            message = f"{environment} {verb} active (was {result.previous}); {get}"
        change = self._change(environment, message, result, published=switches, dry_run=request.dry_run)
        return Answer.of(
            ActivateAnswer(**msgspec.structs.asdict(change), previous=result.previous, lacking_secrets=result.lacking)
        )

    def _change(
        self, environment: str, message: str, result: EnvironmentResult, *, published: bool, dry_run: bool
    ) -> EnvironmentChange:
        """Return the members that both answers have.

        Args:
            environment: The environment that is active afterwards.
            message: What happened, or would happen.
            result: What changes.
            published: Whether there is something to publish.
            dry_run: Whether nothing was changed.
        """
        return EnvironmentChange(
            environment=environment,
            changed=result.changed,
            restart_required=result.restart_required,
            message=message,
            waits_for_broker=published and self._broker_away(),
            dry_run=dry_run,
            changes=result.values.values,
            changes_left_out=result.values.left_out,
            added=result.values.added,
            removed=result.values.removed,
            difference=result.difference if dry_run else UNSET,
        )
