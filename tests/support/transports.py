"""Asking for an operation of the table over each transport, so that answers can be compared."""

import asyncio
import json
import os
import urllib.parse
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aliciacfg.operations.table import BY_NAME
from daemons import Daemon, HttpAnswer
from mqtt_clients import Client, client

TRANSPORTS = ("http", "mqtt 5", "mqtt 3.1.1")

Ask = Callable[..., Awaitable[dict[str, Any]]]
"""``await ask(operation, name, **fields)`` is the answer, a success or an error object."""


def request(
    daemon: Daemon, operation: str, name: str = "", headers: dict[str, str] | None = None, **fields: Any
) -> HttpAnswer:
    """Send an operation over HTTP as the table says: its path, its body and its query."""
    row = BY_NAME[operation]
    body: Any = None
    if row.body in {"config", "patch"}:
        body = fields.pop(row.body)
    elif row.body == "fields":
        body, fields = (fields if "{target}" in row.path or not name else {**fields, "service": name}), {}
    query = {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in fields.items()}
    path = row.path.replace("{target}", urllib.parse.quote(name, safe=""))
    return daemon.http(row.method, path + (f"?{urllib.parse.urlencode(query)}" if query else ""), body, headers)


async def over_bus(mqtt: Client, operation: str, name: str = "", **fields: Any) -> dict[str, Any]:
    """An operation over MQTT: with a Response Topic, or ``reply_to`` where there are no properties."""
    topic = f"alicia/config/{operation}" + (f"/{name}" if name else "")
    if mqtt.protocol == 5:
        return (await mqtt.ask(topic, json.dumps(fields))).json
    named = f"alicia/reply/test/{os.urandom(6).hex()}"
    # Of a payload that is not read nobody knows what it names.
    default = topic.replace("alicia/config/", "alicia/reply/", 1)
    await mqtt.subscribe(named, default)
    await mqtt.publish(topic, {**fields, "reply_to": named})
    while True:
        message = await mqtt.next()
        if message.topic in {named, default}:
            return message.json


@asynccontextmanager
async def asking(daemon: Daemon, transport: str) -> AsyncGenerator[Ask, None]:
    """Ask over one transport."""
    if transport == "http":

        async def ask(operation: str, name: str = "", **fields: Any) -> dict[str, Any]:
            return (await asyncio.to_thread(request, daemon, operation, name, **fields)).json

        yield ask
        return
    async with client(daemon.broker_port, protocol=5 if transport == "mqtt 5" else 4) as mqtt:

        async def ask_bus(operation: str, name: str = "", **fields: Any) -> dict[str, Any]:
            return await over_bus(mqtt, operation, name, **fields)

        yield ask_bus
