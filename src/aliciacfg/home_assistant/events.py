"""Events for Home Assistant: new revisions, rejected ones, and commands that were refused."""

from collections import deque

from aliciacfg import documents
from aliciacfg.documents import Json, JsonObject
from aliciacfg.errors import OperationError
from aliciacfg.home_assistant import discovery, topics
from aliciacfg.model.records import Applied, RecordHead
from aliciacfg.mqtt.connection import Connection, DoesNotFit
from aliciacfg.mqtt.pace import Pace

# Home Assistant stores each event; a longer list of changed places has no use there.
_MAX_POINTERS = 20
_MAX_TEXT = 500
_PER_SECOND = 100
_MAX_WAITING = 1000


class Events:
    """Publishes events, at a bounded rate; the oldest of too many are dropped."""

    def __init__(self) -> None:
        self._pace = Pace(_PER_SECOND)
        self._waiting: deque[tuple[str, bytes]] = deque(maxlen=_MAX_WAITING)

    def revision(self, record: RecordHead, *, places: bool) -> None:
        """Add the event of a new revision, without any value.

        Args:
            record: The revision.
            places: Whether to name the places that changed; there settings appear.
        """
        changed: list[Json] = list(record.changed[:_MAX_POINTERS]) if places else []
        self._add(
            topics.identifier_of(record.service),
            discovery.REVISION,
            {
                "revision": record.revision,
                "version": record.version,
                "author": record.author,
                "cause": record.cause,
                "changed": changed,
                "changed_count": len(record.changed),
                "restart_required": bool(record.restart_required),
            },
        )

    def rejected(self, report: Applied) -> None:
        """Add the event that a copy of a service rejected a revision."""
        error = None if report.error is None else report.error[:_MAX_TEXT]
        fields: JsonObject = {"revision": report.revision, "instance": report.instance, "message": error}
        self._add(topics.identifier_of(report.service), discovery.REJECTED, fields)

    def refused(self, identifier: str, entity: str, error: OperationError) -> None:
        """Add the event that a command was refused.

        Args:
            identifier: Names the device.
            entity: What the command was for.
            error: The refusal.
        """
        fields: JsonObject = {"code": error.code, "message": str(error)[:_MAX_TEXT], "entity": entity[:_MAX_TEXT]}
        self._add(identifier, discovery.REFUSED, fields)

    def activated(self, environment: str) -> None:
        """Add the event that another environment is active."""
        self._add(topics.HOME, discovery.ACTIVATED, {"environment": environment})

    def publish(self, connection: Connection) -> bool:
        """Publish what waits, as far as the pace lets; return whether all of it was."""
        while self._waiting:
            if not self._pace.take_at_once(1):
                return False
            topic, payload = self._waiting.popleft()
            try:
                connection.send(topic, payload)
            except DoesNotFit:
                continue
        return True

    def clear(self) -> None:
        """Drop what waits: an event is of its moment, and the connection is gone."""
        self._waiting.clear()

    def _add(self, identifier: str, kind: str, fields: JsonObject) -> None:
        self._waiting.append((topics.event(identifier), documents.encode({"event_type": kind, **fields})))
