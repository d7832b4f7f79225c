"""What the daemon is measured beside: the least that its libraries need to give the very same answer.

Each prints READY, with its port where it chose one, and runs until it is ended.

    responders.py mqtt --port BROKER_PORT --topic TOPIC --document FILE
    responders.py http --document FILE
"""

import argparse
import asyncio
import socket
from pathlib import Path

import aiomqtt
import uvloop
from aiohttp import web
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

MAX_INFLIGHT = 1000


async def answer_mqtt(port: int, topic: str, document: bytes) -> None:
    """Answer every request on ``topic`` with ``document``, in aiomqtt's documented way."""
    async with aiomqtt.Client(
        "127.0.0.1",
        port,
        protocol=aiomqtt.ProtocolVersion.V5,
        max_inflight_messages=MAX_INFLIGHT,
        socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
    ) as client:
        client.pending_calls_threshold = MAX_INFLIGHT
        await client.subscribe(topic, qos=1)
        print("READY", flush=True)
        waiting: set[asyncio.Task[None]] = set()
        async for message in client.messages:
            properties = Properties(PacketTypes.PUBLISH)
            properties.CorrelationData = getattr(message.properties, "CorrelationData", b"")
            answer = client.publish(
                getattr(message.properties, "ResponseTopic", ""), document, qos=message.qos, properties=properties
            )
            if message.qos == 0:
                await answer
                continue
            # At QoS 1 the call returns at the acknowledgement; the next request must not wait for it.
            task = asyncio.create_task(answer)
            waiting.add(task)
            task.add_done_callback(waiting.discard)


async def answer_http(document: bytes) -> None:
    """Answer ``GET /config/{service}`` with ``document``."""

    async def get(_request: web.Request) -> web.Response:
        return web.Response(body=document, content_type="application/json")

    app = web.Application()
    app.router.add_get("/config/{service}", get)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print("READY", runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["mqtt", "http"])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--topic", default="")
    parser.add_argument("--document", type=Path, required=True)
    options = parser.parse_args()
    document = options.document.read_bytes()
    if options.kind == "mqtt":
        uvloop.run(answer_mqtt(options.port, options.topic, document))
    else:
        uvloop.run(answer_http(document))


if __name__ == "__main__":
    main()
