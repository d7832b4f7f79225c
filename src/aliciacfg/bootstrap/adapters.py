"""The adapters of the core to HTTP and to the bus."""

from aliciacfg import __version__, documents
from aliciacfg.bootstrap import Core
from aliciacfg.bus.address import BrokerAddress
from aliciacfg.http.pages import pages
from aliciacfg.http.server import HttpServer, HttpSettings
from aliciacfg.mqtt.packet_limit import PacketLimit
from aliciacfg.mqtt.replica_session import ReplicaSession
from aliciacfg.mqtt.requests import Requests
from aliciacfg.mqtt.session import LeaderPart, MqttSession
from aliciacfg.mqtt.shared_requests import SharedRequests
from aliciacfg.settings import Settings
from aliciacfg.storage.data_directory import DataDirectory
from aliciacfg.tls import ServerCertificate


def http_server(
    core: Core, settings: Settings, data: DataDirectory, certificate: ServerCertificate | None
) -> HttpServer:
    """Return the HTTP server, which does not listen yet.

    Args:
        core: The parts that know no transport.
        settings: The daemon's.
        data: The data directory, in which the socket for administrators is.
        certificate: The certificate for HTTPS; None for plain HTTP.
    """
    return HttpServer(
        core.service,
        HttpSettings(
            host=settings.http_host,
            port=settings.http_port,
            allowed_hosts=settings.allowed_host_list,
            max_config_bytes=settings.max_config_bytes,
            socket=data.socket,
            tls=None if certificate is None else certificate.context,
        ),
        published_key=lambda: core.key_rotation.published,
        pages=pages(openapi=_openapi, asyncapi=_asyncapi),
    )


def _openapi() -> bytes:
    # The documents are rarely read. Making them takes 100 ms and 1 MB, so it waits for the first request.
    from aliciacfg.http import openapi  # noqa: PLC0415

    return documents.encode(openapi.document(__version__, openapi.recorded()))


def _asyncapi() -> bytes:
    from aliciacfg.mqtt import asyncapi  # noqa: PLC0415

    return documents.encode(asyncapi.document(__version__, asyncapi.recorded()))


def bus_session(core: Core, settings: Settings, address: BrokerAddress) -> MqttSession | ReplicaSession:
    """Return the session on the bus: of a daemon that serves its home alone, or of one of several."""
    requests = Requests(
        core.service, reply_prefixes=settings.reply_prefix_list, max_config_bytes=settings.max_config_bytes
    )
    limit = PacketLimit(settings.max_packet_bytes)

    def session(leader_part: LeaderPart | None = None) -> MqttSession:
        return MqttSession(
            address=address,
            session_id=core.session,
            service=core.service,
            requests=requests,
            outbox=core.outbox,
            alerts=core.alerts,
            drift=core.drift,
            supervisor=core.supervisor,
            order=core.order,
            on_drained=core.announcements.note_drained,
            max_packet_bytes=settings.max_packet_bytes,
            limit=limit,
            updates_per_second=settings.max_updates_per_second,
            leader_part=leader_part,
        )

    if core.store.shared is None:
        return session()
    shared = SharedRequests(
        address=address,
        service=core.service,
        requests=requests,
        alerts=core.alerts,
        supervisor=core.supervisor,
        readiness=core.readiness,
        serves_home=lambda: home.serving,
        home_key=core.home_key,
        max_packet_bytes=settings.max_packet_bytes,
        limit=limit,
    )
    part = LeaderPart(leadership=core.leadership, takes_requests=lambda: not shared.sharing, prepare=core.take_over)
    home = session(part)
    return ReplicaSession(
        home=home,
        requests=shared,
        leadership=core.leadership,
        another_leads=lambda: core.presence.another_leads,
    )
