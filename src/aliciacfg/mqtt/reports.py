"""Reports of services about the configuration that they applied."""

import msgspec
import structlog

from aliciacfg.api.bus_messages import AppliedReport
from aliciacfg.errors import OperationError
from aliciacfg.mqtt import envelope, topics
from aliciacfg.mqtt.messages import Inbound
from aliciacfg.operations.registrations import Registrations

_log = structlog.get_logger(__name__)

_MAX_MESSAGE_BYTES = 64 * 1024


class Reports:
    """Stores what services report."""

    def __init__(self, registrations: Registrations) -> None:
        self._registrations = registrations

    async def receive(self, inbound: Inbound) -> None:
        """Store the report of a running copy of a service; any other message is logged and ignored."""
        if inbound.retained or len(inbound.payload) > _MAX_MESSAGE_BYTES:
            return
        service = inbound.topic.removeprefix(topics.APPLIED)
        try:
            report = msgspec.convert(envelope.open_payload(inbound.payload).content, AppliedReport)
            await self._registrations.applied(service, report)
        except (OperationError, msgspec.ValidationError) as error:
            _log.info("report_ignored", topic=inbound.topic[:200], reason=_reason(error))


def _reason(error: OperationError | msgspec.ValidationError) -> str:
    """Return why a report was not accepted, without any value in it."""
    if isinstance(error, OperationError):
        return error.logged_message or error.code
    # msgspec quotes an unknown value of an enumeration.
    return "its fields are not those of a report"
