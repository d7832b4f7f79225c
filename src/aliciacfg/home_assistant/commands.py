"""Commands of Home Assistant: each is a write like any other, or is refused and puts the true state back."""

import asyncio
from collections.abc import Callable
from time import perf_counter

import structlog

from aliciacfg.access.caller import HOME_ASSISTANT, Caller
from aliciacfg.documents import Json, JsonObject
from aliciacfg.errors import Conflict, Forbidden, InvalidRequest, NotFound, OperationError, Unauthorized
from aliciacfg.home_assistant import discovery, topics, values
from aliciacfg.home_assistant.entities import Entity
from aliciacfg.home_assistant.events import Events
from aliciacfg.home_assistant.home import Home
from aliciacfg.mqtt.log_limit import LogLimit
from aliciacfg.mqtt.messages import Inbound
from aliciacfg.operations.service import ConfigService
from aliciacfg.operations.table import BY_NAME

_log = structlog.get_logger(__name__)

_ATTEMPTS = 5
_MAX_SHOWN = 200
# An environment that was chosen so long ago is not activated by accident.
_STAGED_SECONDS = 600.0
_GONE = "There is no such setting; Home Assistant may show devices of an earlier time."


class Commands:
    """Carries out commands, one after the other."""

    def __init__(
        self,
        service: ConfigService,
        home: Home,
        events: Events,
        *,
        proven: Callable[[], bool],
        current: Callable[[str], int | None],
        refresh: Callable[[str], None],
        show: Callable[[str], None],
    ) -> None:
        """Carry out nothing yet.

        Args:
            service: Carries out what is asked.
            home: Knows what there is.
            events: Publishes what was refused.
            proven: Returns whether the broker proves that commands are Home Assistant's.
            current: Returns the revision of a service in the active environment; None if it has no configuration.
            refresh: Has the device of a service made anew, and published if it differs.
            show: Has the state of a device published again, by its identifier.
        """
        self._service = service
        self._home = home
        self._events = events
        self._proven = proven
        self._current = current
        self._refresh = refresh
        self._show = show
        self._unknown = LogLimit()
        self._staged: asyncio.TimerHandle | None = None

    async def carry_out(self, inbound: Inbound) -> None:
        """Carry out a command."""
        found = topics.parse_command(inbound.topic)
        if found is None:
            self._note_unknown(inbound.topic)
            return
        identifier, entity = found
        started = perf_counter()
        try:
            if identifier == topics.HOME:
                await self._carry_out_home(entity, inbound.payload)
            else:
                await self._set(identifier, entity, inbound.payload)
        except OperationError as error:
            self.refuse(inbound, error)
        else:
            self._service.health.metrics.meter("patch", "mqtt").answered(perf_counter() - started)
            # Also where nothing changed: Home Assistant waits to see it.
            self._show(identifier)

    def refuse(self, inbound: Inbound, error: OperationError) -> None:
        """Put the true state back, and report why nothing was done."""
        found = topics.parse_command(inbound.topic)
        device = None if found is None else self._home.devices.get(found[0])
        if found is None or (device is None and found[0] != topics.HOME):
            self._note_unknown(inbound.topic)
            return
        identifier, entity = found
        service = None if device is None else device.service
        _log.info("refused", transport="home_assistant", service=service, entity=entity[:_MAX_SHOWN], code=error.code)
        if isinstance(error, Unauthorized | Forbidden):
            operation = "activate" if device is None else "patch"
            self._service.audit_log.record_refusal(self._caller, operation, service, error)
        self._service.health.metrics.meter("patch", "mqtt").answered(0.0, error.code)
        self._show(identifier)
        self._events.refused(identifier, entity, error)

    @property
    def _caller(self) -> Caller:
        return Caller(HOME_ASSISTANT, "mqtt", proven=self._proven())

    async def _set(self, identifier: str, name: str, payload: bytes) -> None:
        """Set a setting.

        Raises:
            OperationError: It is refused; nothing changed.
        """
        for attempt in range(_ATTEMPTS):
            entity, revision, service = self._find(identifier, name)
            value = values.from_command(entity, payload)
            fields: JsonObject = {
                "patch": _patch(entity, value),
                # Without it a setting of a service that was deleted just now would bring the service back.
                "expected_revision": revision,
                "environment": self._home.environment,
                "comment": "Home Assistant",
            }
            try:
                await BY_NAME["patch"].run(self._service, self._caller, service, fields)
            except Conflict:
                # Another change was first; the command is about this one setting, whatever the others are now.
                if attempt == _ATTEMPTS - 1:
                    raise
            else:
                return

    def _find(self, identifier: str, name: str) -> tuple[Entity, int, str]:
        """Return a setting that takes commands, the revision that it is of, and its service.

        Raises:
            NotFound: There is none.
            InvalidRequest: It takes no commands.
        """
        known = self._home.devices.get(identifier)
        if known is not None:
            # It may be of an environment that was active before, or that is protected now.
            self._refresh(known.service)
        device = self._home.devices.get(identifier)
        entity = None if device is None else device.entities.get(name)
        revision = None if device is None else self._current(device.service)
        if device is None or entity is None or revision is None:
            raise NotFound(_GONE)
        if not entity.writable:
            raise InvalidRequest(f"{entity.name} is read-only.")
        return entity, revision, device.service

    async def _carry_out_home(self, name: str, payload: bytes) -> None:
        """Choose the next environment, or activate it.

        Raises:
            OperationError: It is refused.
        """
        stages = self._home.stages
        if stages is None or name not in {discovery.STAGED, discovery.ACTIVATE}:
            raise NotFound(_GONE)
        text = payload[: values.MAX_COMMAND_BYTES].decode(errors="replace")
        if name == discovery.STAGED:
            if text not in stages:
                raise InvalidRequest(f"Next environment: expected one of {', '.join(stages)}.")
            self._stage(text)
            return
        if text != values.PRESS:
            raise InvalidRequest(f"Activate: expected {values.PRESS}.")
        staged = self._home.staged
        if staged is None or staged == self._home.environment:
            raise InvalidRequest(
                "Choose the next environment first; it is activated within ten minutes, or not at all."
            )
        if staged not in stages:
            raise NotFound(f"{staged} cannot be activated any more.")
        await BY_NAME["activate"].run(self._service, self._caller, staged, {"comment": "Home Assistant"})
        self._stage(None)

    def _stage(self, environment: str | None) -> None:
        if self._staged is not None:
            self._staged.cancel()
            self._staged = None
        self._home.staged = environment
        if environment is not None:
            self._staged = asyncio.get_running_loop().call_later(_STAGED_SECONDS, self._forget_staged)

    def _forget_staged(self) -> None:
        self._stage(None)
        self._show(topics.HOME)

    def _note_unknown(self, topic: str) -> None:
        if self._unknown.allows():
            _log.warning("command_unknown", topic=topic[:_MAX_SHOWN], remedy="none needed; nothing was done")


def _patch(entity: Entity, value: Json) -> JsonObject:
    """Return the merge patch (RFC 7396) that sets one setting."""
    *outer, last = entity.tokens
    patch: JsonObject = {last: value}
    for token in reversed(outer):
        patch = {token: patch}
    return patch
