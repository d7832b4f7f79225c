"""Which of the many reasons it is that there is no broker; with servers of the test's own."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aliciacfg.bus.address import BrokerAddress
from aliciacfg.diagnosis.broker import look_at_broker
from aliciacfg.diagnosis.finding import Finding
from certificates import Authority
from machine import free_port

# A CONNACK of MQTT 5 that says: not authorized.
NOT_AUTHORIZED = bytes([0x20, 3, 0, 135, 0])
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def server(talk: Talk, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Serve on a port of its own."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with listening:
        yield listening.sockets[0].getsockname()[1]


async def look(port: int, host: str = "127.0.0.1") -> Finding:
    found = await look_at_broker(BrokerAddress(host, port, username="config_service", password="planted-4f1c"))
    assert "planted-4f1c" not in repr(found)
    return found


async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer as an HTTP server does: requests with a page, anything else with 400."""
    await reader.read(64)
    writer.write(b"HTTP/1.0 400 Bad Request\r\n\r\n")
    await writer.drain()


async def nobody(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Let nobody in."""
    await reader.read(64)
    writer.write(NOT_AUTHORIZED)
    await writer.drain()


async def test_a_closed_port():
    """Nothing listens there: start the broker, or correct the port."""
    port = free_port()
    found = await look(port)
    assert (found.level, found.message) == ("fail", f"nothing listens on 127.0.0.1:{port}")
    assert "MQTT_PORT" in found.remedy


async def test_an_unknown_name():
    """The resolver does not know it."""
    found = await look(1883, host="nowhere.invalid")
    assert found.message.startswith("the name nowhere.invalid is not known here")
    assert "MQTT_BROKER" in found.remedy


async def test_a_port_of_http():
    """A web server listens there, such as the daemon's own."""
    async with server(http) as port:
        found = await look(port)
    assert found.remedy.startswith(f"port {port} is one of HTTP")


async def test_a_port_of_tls(authority: Authority):
    """The broker wants TLS there, and the settings have none."""

    async def wait(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read(64)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pair = authority.issue("broker", "127.0.0.1")
    context.load_cert_chain(pair.cert, pair.key)
    async with server(wait, context) as port:
        found = await look(port)
    assert found.remedy.startswith(f"port {port} speaks TLS: set MQTT_TLS_CA")


async def test_a_wrong_password():
    """The broker is there, and lets this user not in."""
    async with server(nobody) as port:
        found = await look(port)
    assert "does not let config_service in" in found.message
    assert "MQTT_PASSWORD" in found.remedy


async def test_tls_that_cannot_be_used(authority: Authority):
    """A file that is missing, and a port without TLS: said, not raised."""
    async with server(nobody) as port:
        missing = await look_at_broker(BrokerAddress("127.0.0.1", port, tls_ca="/nowhere/ca.pem"))
        plain = await look_at_broker(BrokerAddress("127.0.0.1", port, tls_ca=str(authority.file)))
    assert {missing.level, plain.level} == {"fail"}
    assert "/nowhere/ca.pem" in missing.message
    assert "TLS" in plain.message
