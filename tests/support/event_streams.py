"""Clients of ``GET /events``, which parse what they are sent."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

import aiohttp


@dataclass
class Event:
    kind: str
    id: str | None
    data: Any


@dataclass
class Stream:
    """One client that listens, and what it has heard."""

    response: aiohttp.ClientResponse
    heard: list[Event] = field(default_factory=list[Event])
    comments: int = 0
    ids: list[str] = field(default_factory=list[str])

    async def next(self, *kinds: str) -> Event:
        """The next event, of one of these kinds if any are given."""
        async with asyncio.timeout(40):
            while True:
                event = await self._read()
                assert event is not None, "the stream has ended"
                if not kinds or event.kind in kinds:
                    return event

    async def rest(self) -> list[Event]:
        """Everything until the daemon ends the stream."""
        found: list[Event] = []
        async with asyncio.timeout(40):
            while (event := await self._read()) is not None:
                found.append(event)
        return found

    async def _read(self) -> Event | None:
        fields: dict[str, str] = {}
        while True:
            line = (await self.response.content.readline()).decode()
            if not line:
                return None
            assert line.endswith("\n")
            name, _, value = line[:-1].partition(": ")
            if name == "id":
                self.ids.append(value)
            if line == ":\n":
                self.comments += 1
            elif line == "\n" and "data" in fields:
                event = Event(fields["event"], fields.get("id"), json.loads(fields["data"]))
                self.heard.append(event)
                return event
            elif line == "\n":
                fields = {}
            else:
                fields[name] = value


@contextlib.asynccontextmanager
async def listen(
    session: aiohttp.ClientSession, url: str, query: str = "", *, last: str | None = None, token: str | None = None
) -> AsyncGenerator[Stream, None]:
    """A client that listens to the daemon at a URL, after the last event that it knows."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    headers |= {} if last is None else {"Last-Event-ID": last}
    async with session.get(f"{url}/events{query}", headers=headers) as response:
        assert response.status == 200, await response.text()
        yield Stream(response)
