"""Reports of what a service applied, on ``alicia/config/applied/<service>``; only the newest one counts."""

import asyncio

import msgspec

from aliciacfg.bus import topic_names
from aliciacfg.client.connection import Connection
from aliciacfg.client.messages import Report, Update
from aliciacfg.model.records import AppliedStatus

_MAX_ERROR = 1024


class Reports:
    """The newest report, and its way to the broker."""

    def __init__(self, service: str, instance: str) -> None:
        self._topic = topic_names.APPLIED + service
        self._instance = instance
        self._newest: Report | None = None
        self._changed = asyncio.Event()
        self._sent = asyncio.Event()
        self._sent.set()

    def note(self, update: Update, status: AppliedStatus, error: str | None = None) -> None:
        """Report what became of a configuration, when there is a connection."""
        self._newest = Report(
            instance=self._instance,
            revision=update.revision,
            checksum=update.checksum,
            status=status,
            error=None if error is None else error[:_MAX_ERROR],
        )
        self._sent.clear()
        self._changed.set()

    def renew(self, update: Update) -> None:
        """Report again what was reported last, if this is an equal configuration; it may have another revision."""
        report = self._newest
        if report is not None and report.checksum == update.checksum:
            self.note(update, report.status, report.error)

    async def send(self, connection: Connection) -> None:
        """Send the newest report if that was not sent, and every one after it.

        Raises:
            BrokerUnavailable: The broker is gone.
        """
        while True:
            self._changed.clear()
            report = self._newest
            if report is not None and not self._sent.is_set():
                await connection.publish(self._topic, msgspec.json.encode(report))
                if report is self._newest:
                    self._sent.set()
            await self._changed.wait()

    async def flush(self) -> None:
        """Wait until the newest report is sent."""
        await self._sent.wait()
