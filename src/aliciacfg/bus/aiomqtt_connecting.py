"""Connecting and disconnecting a client of aiomqtt, so that a failure is reported at once and nothing stays open.

Uses what aiomqtt and paho do not document; all were last tried with aiomqtt 2.5.1 and paho-mqtt 2.2.0 on Python 3.11:

``aiomqtt.Client._connected``, the future that waits for CONNACK, together with paho's ``on_disconnect`` and ``on_log``:
    When a broker ends the connection instead of answering, as one does that wants another client certificate, aiomqtt
    waits for its timeout, and the reason is only logged. Can go when ``aiomqtt.Client.__aenter__`` raises at once.
The text ``Operation timed out`` and the ``__context__`` of ``aiomqtt.MqttError``:
    aiomqtt has no type for a timeout, and keeps of an OSError only its text. Can go when it chains its errors.
``paho.mqtt.client.Client._sock_close`` and ``aiomqtt.Client._misc_task``:
    When a broker does not answer CONNECT or DISCONNECT, aiomqtt leaves the socket open, with a task that keeps it
    alive. And only a connection that ends without a DISCONNECT has the broker publish the last will. Can go when
    aiomqtt closes it, with or without one.
``paho.mqtt.client.Client._sock_recv`` and ``_in_packet``:
    With MQTT 3.1.1 nothing keeps a client from getting 256 MB at once, which paho would collect in memory. Can go when
    paho refuses large packets by itself.
"""

import asyncio
import contextlib
from typing import Any

import aiomqtt
from paho.mqtt.enums import LogLevel
from paho.mqtt.reasoncodes import ReasonCode

from aliciacfg.bus.not_connected import NotConnected

_KEPT_BYTES = 4096
_CHUNK_BYTES = 64 * 1024


class _EndedEarly(aiomqtt.MqttError):
    """The broker ended the connection before it answered CONNECT; the text is what paho logged."""


async def connect(client: aiomqtt.Client, *, timeout_seconds: float) -> None:
    """Connect a new client.

    paho connects in a thread, which cannot be interrupted: a cancellation waits until the socket is connected or not.

    Args:
        client: Its own ``timeout`` is how long the broker may take to answer CONNECT.
        timeout_seconds: How long the broker may take to accept the connection.

    Raises:
        NotConnected: There is no connection.
    """
    paho: Any = client._client  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    paho.connect_timeout = timeout_seconds
    connected: asyncio.Future[None] = client._connected  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    aiomqtt_on_disconnect = paho.on_disconnect
    loop = asyncio.get_running_loop()
    logged: list[str] = []

    def give_up() -> None:
        if not connected.done():
            connected.set_exception(_EndedEarly(logged[-1] if logged else ""))

    def on_disconnect(*_arguments: object) -> None:
        # Called from another thread when CONNECT cannot be sent. aiomqtt is not notified: it would forget an end that
        # comes with the CONNACK, and asyncio would log that its exception was never retrieved.
        loop.call_soon_threadsafe(give_up)

    def on_log(_client: object, _userdata: object, level: int, text: str) -> None:
        if level == LogLevel.MQTT_LOG_ERR:
            logged.append(text)

    paho.on_disconnect = on_disconnect
    paho.on_log = on_log
    entering = asyncio.ensure_future(client.__aenter__())
    try:
        await asyncio.shield(entering)
    except aiomqtt.MqttError as error:
        close(client)
        raise _not_connected(error) from error
    except asyncio.CancelledError:
        give_up()
        entering.add_done_callback(lambda task: _abandon(client, task))
        await asyncio.wait({entering})
        raise
    if paho.socket() is None:
        raise _not_connected(_EndedEarly(logged[-1] if logged else ""))
    paho.on_disconnect = aiomqtt_on_disconnect
    # paho would format every packet for it.
    paho.on_log = None


def _abandon(client: aiomqtt.Client, task: "asyncio.Future[Any]") -> None:
    close(client)
    if not task.cancelled():
        # Retrieved, so that asyncio does not log it.
        task.exception()


def drop_large_packets(client: aiomqtt.Client, max_bytes: int) -> None:
    """Have packets that are larger dropped as they come, as a broker of MQTT 5 does that knows the Maximum Packet Size.

    Args:
        client: A client that is not connected yet.
        max_bytes: The largest packet whose message is received.
    """
    paho: Any = client._client  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    receive = paho._sock_recv  # noqa: SLF001

    def received(size: int) -> bytes:
        packet = paho._in_packet  # noqa: SLF001
        if packet["have_remaining"] and packet["remaining_length"] > max_bytes:
            del packet["packet"][_KEPT_BYTES:]
            size = min(size, _CHUNK_BYTES)
        return receive(size)

    forward = paho.on_message

    def on_message(*arguments: Any) -> None:
        # Its beginning and its end would be left of a larger one.
        if paho._in_packet["remaining_length"] <= max_bytes:  # noqa: SLF001
            forward(*arguments)

    paho._sock_recv = received  # noqa: SLF001
    paho.on_message = on_message


def close(client: aiomqtt.Client) -> None:
    """Close the connection without a DISCONNECT, if it is open."""
    client._client._sock_close()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


async def disconnect(client: aiomqtt.Client) -> None:
    """Disconnect, if the broker has not gone first; nothing is open, and no task runs, behind it."""
    try:
        with contextlib.suppress(aiomqtt.MqttError):
            await client.__aexit__(None, None, None)
    finally:
        close(client)
        task = client._misc_task  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        if task is not None:
            task.cancel()
            await asyncio.wait({task})


def reason_code(code: object) -> int:
    """Return a reason code as a number, of whichever type the library has it; 0 for none."""
    if isinstance(code, ReasonCode):
        return code.value
    return code if isinstance(code, int) else 0


def _not_connected(error: aiomqtt.MqttError) -> NotConnected:
    """Return what ``aiomqtt.Client.__aenter__`` raised, as our own."""
    cause = error.__context__ if isinstance(error.__context__, OSError) else str(error)
    if isinstance(error, aiomqtt.MqttCodeError):
        return NotConnected("refused", str(error), code=reason_code(error.rc), cause=cause)
    if isinstance(error, _EndedEarly):
        return NotConnected("ended", str(error), cause=cause)
    timed_out = str(error).startswith("Operation timed out")
    return NotConnected("timeout" if timed_out else "failed", str(error), cause=cause)
