"""The adapters of the core to HTTP, to the bus and to Home Assistant."""

import functools
from collections.abc import Callable, Mapping

from aliciacfg import __version__, documents
from aliciacfg.bootstrap import Core
from aliciacfg.bus.address import BrokerAddress
from aliciacfg.home_assistant.discovery import Manner
from aliciacfg.home_assistant.home import Choice, Home
from aliciacfg.home_assistant.session import HomeAssistantSession, Wire
from aliciacfg.home_assistant.starting import HomeAssistantPart
from aliciacfg.home_assistant.topics import Topics
from aliciacfg.http import openapi
from aliciacfg.http.callers import is_loopback
from aliciacfg.http.pages import Page, pages
from aliciacfg.http.server import HttpServer, HttpSettings
from aliciacfg.mqtt import asyncapi
from aliciacfg.mqtt.packet_limit import PacketLimit
from aliciacfg.mqtt.replica_session import ReplicaSession
from aliciacfg.mqtt.requests import Requests
from aliciacfg.mqtt.session import LeaderPart, MqttSession
from aliciacfg.mqtt.shared_requests import SharedRequests
from aliciacfg.settings import Settings
from aliciacfg.storage.data_directory import DataDirectory
from aliciacfg.tls import ServerCertificate

# Listening on these says nothing of an address under which the machine is reached.
_ALL_ADDRESSES = ("0.0.0.0", "::", "[::]", "")  # noqa: S104 - compared with, not bound


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
        pages=api_pages(),
    )


@functools.cache
def api_pages() -> Mapping[str, Page]:
    """Return the pages of the HTTP server, both API documents of this version among them."""
    return pages(
        openapi=documents.encode(openapi.document(__version__, openapi.recorded())),
        asyncapi=documents.encode(asyncapi.document(__version__, asyncapi.recorded())),
    )


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


def home_assistant_part(
    core: Core, settings: Settings, address: BrokerAddress, *, url: str, serves: Callable[[], bool]
) -> HomeAssistantPart | None:
    """Return the part about Home Assistant; None where that is off and nothing was published before.

    Args:
        core: The parts that know no transport.
        settings: The daemon's.
        address: The broker.
        url: Where HTTP listens.
        serves: Returns whether the daemon serves its home over the bus.
    """
    on, noted = settings.home_assistant == "on", core.restored.home_assistant
    if not on and not noted:
        return None
    wire = Wire(
        address=address,
        client_id=f"config_service_{core.session}_ha",
        instance=core.service.health.instance,
        max_packet_bytes=settings.max_packet_bytes,
        limit=PacketLimit(settings.max_packet_bytes),
        supervisor=core.supervisor,
        alerts=core.alerts,
        leads=lambda: core.leadership.leading,
        serves=serves,
    )
    session: HomeAssistantSession | None = None
    if on:
        home = Home(
            state=core.state,
            files=core.files,
            authorizer=core.service.authorizer,
            drift=core.drift,
            instances=core.instances,
            alerts=core.alerts,
            choice=Choice(
                features=settings.home_assistant_features,
                environments=frozenset(settings.home_assistant_environment_list),
                max_entities=settings.home_assistant_max_entities,
            ),
            manner=Manner(__version__, settings.home_assistant_console_url or _reachable(settings.http_host, url)),
        )
        session = HomeAssistantSession(
            wire,
            at=Topics(settings.home_assistant_prefix, settings.home_assistant_status),
            home=home,
            service=core.service,
            state=core.state,
            instances=core.instances,
        )
        core.commits.listen(session.on_commit)
    return HomeAssistantPart(wire, session, prefix=settings.home_assistant_prefix, noted=noted, queue=core.queue)


def _reachable(host: str, url: str) -> str | None:
    """Return the address of HTTP if other machines can use it as it is."""
    return None if is_loopback(host) or host in _ALL_ADDRESSES else url
