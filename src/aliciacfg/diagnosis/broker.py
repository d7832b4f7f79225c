"""Whether the broker is there, and if not, which of the many reasons it is."""

import asyncio
import socket
import ssl

from aliciacfg.bus.address import BrokerAddress
from aliciacfg.bus.not_connected import NOT_LET_IN, NotConnected
from aliciacfg.diagnosis.finding import Finding, fail, ok
from aliciacfg.errors import BrokerUnavailable
from aliciacfg.mqtt.connecting import connect_client

_ABOUT = "broker"
_SECONDS = 3.0
_HTTP = b"GET / HTTP/1.0\r\n\r\n"


async def look_at_broker(address: BrokerAddress) -> Finding:
    """Connect to the broker as the daemon does, and say why that fails."""
    where = address.url
    if problem := await _unreachable(address):
        return problem
    try:
        async with connect_client(address) as connection:
            return ok(_ABOUT, f"{where} lets {address.username or 'anybody'} in, MQTT {connection.protocol}")
    except BrokerUnavailable as error:
        cause = error.__cause__
        if isinstance(cause, NotConnected) and cause.code in NOT_LET_IN:
            return fail(
                _ABOUT,
                f"{where} does not let {address.username or 'a client without a name'} in: {cause}",
                "check MQTT_USERNAME, and MQTT_PASSWORD or MQTT_PASSWORD_FILE; `aliciacfg setup` writes the broker's",
            )
        why = str(error).removeprefix(f"{address.host}:{address.port}: ")
        if isinstance(cause, NotConnected) and cause.reason == "timeout":
            remedy = "see whether this is the broker's port, and whether the broker hangs: restart it"
            return fail(_ABOUT, f"{where} takes connections and says nothing", remedy)
        if not isinstance(cause, NotConnected):
            return fail(_ABOUT, why, "correct the setting")
        if found := await what_listens(address):
            return fail(_ABOUT, f"{where} is no port of a broker with these settings", found)
        return fail(_ABOUT, f"{where} does not let anybody in: {why}", "check MQTT_BROKER and MQTT_PORT, and its log")


async def what_listens(address: BrokerAddress) -> str | None:
    """Return what to do if something else than a broker with these settings listens at an address; None if unknown."""
    if not address.has_tls and await _speaks_tls(address):
        return (
            f"port {address.port} speaks TLS: set MQTT_TLS_CA to the file of the broker's authority, or MQTT_PORT to "
            "the port without TLS (1883)"
        )
    if await _speaks_http(address):
        return f"port {address.port} is one of HTTP; set MQTT_PORT to the broker's: 1883, or 8883 with TLS"
    return None


async def _unreachable(address: BrokerAddress) -> Finding | None:
    """Return why no connection to the address can be made; None if one can."""
    host, port = address.host, address.port
    try:
        async with asyncio.timeout(_SECONDS):
            _, writer = await asyncio.open_connection(host, port)
        writer.transport.abort()
    except socket.gaierror as error:
        return fail(
            _ABOUT,
            f"the name {host} is not known here ({error.strerror})",
            "correct MQTT_BROKER, or use the broker's address; inside containers, look at their network",
        )
    except TimeoutError:
        return fail(
            _ABOUT,
            f"{host}:{port} does not answer within {_SECONDS:g} s",
            "see whether the machine is on, and whether a firewall lets this port through",
        )
    except ConnectionRefusedError:
        return fail(
            _ABOUT,
            f"nothing listens on {host}:{port}",
            "start it: `aliciacfg serve --dev` brings one for this machine, `systemctl start mosquitto` starts the "
            "system's; or set MQTT_PORT: 1883, or 8883 with TLS",
        )
    except OSError as error:
        return fail(_ABOUT, f"{host}:{port} cannot be reached: {error.strerror or error}", "check MQTT_BROKER")
    return None


async def _speaks_tls(address: BrokerAddress) -> bool:
    """Return whether what listens completes a handshake of TLS, with any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        async with asyncio.timeout(_SECONDS):
            _, writer = await asyncio.open_connection(address.host, address.port, ssl=context)
    except ssl.SSLError as error:
        # It wants a certificate of the client, for example, and says so in TLS.
        return "ALERT" in str(error.reason)
    except (OSError, TimeoutError):
        return False
    writer.transport.abort()
    return True


async def _speaks_http(address: BrokerAddress) -> bool:
    try:
        async with asyncio.timeout(_SECONDS):
            reader, writer = await asyncio.open_connection(address.host, address.port)
            try:
                writer.write(_HTTP)
                return (await reader.read(5)).startswith(b"HTTP/")
            finally:
                writer.transport.abort()
    except (OSError, TimeoutError):
        return False
