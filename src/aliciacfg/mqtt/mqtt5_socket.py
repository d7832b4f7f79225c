"""How the socket of a connection of MQTT 5 is opened."""

import asyncio
import os
import socket
import ssl

from aliciacfg.bus.address import BrokerAddress
from aliciacfg.bus.not_connected import NotConnected


async def open_socket(
    protocol: asyncio.Protocol, address: BrokerAddress, context: ssl.SSLContext | None, *, timeout_seconds: float
) -> asyncio.BaseTransport | None:
    """Open a socket, and make the TLS handshake; return the transport.

    Args:
        protocol: Gets what is received.
        address: The broker.
        context: TLS, if it is to be used.
        timeout_seconds: How long the broker may take to accept, and again for the handshake.

    Raises:
        NotConnected: One of them failed.
        TimeoutError: The socket was not accepted.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout_seconds):
            transport, _ = await loop.create_connection(lambda: protocol, address.host, address.port)
        if context is None:
            return transport
        # In two steps, so that either has its time, and the error says which of them failed.
        return await loop.start_tls(
            transport, protocol, context, server_hostname=address.host, ssl_handshake_timeout=timeout_seconds
        )
    except TimeoutError:
        raise
    except OSError as error:
        raise NotConnected("failed", _text(error), cause=error) from error


def _text(error: OSError) -> str:
    """Return what an error says, without the address that asyncio puts into it."""
    if error.errno is None or isinstance(error, ssl.SSLError | socket.gaierror):
        return error.strerror or str(error)
    return os.strerror(error.errno)
