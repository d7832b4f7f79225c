"""The adapter of the core to Home Assistant, which is imported where it is switched on."""

from collections.abc import Callable

from aliciacfg import __version__
from aliciacfg.bootstrap import Core
from aliciacfg.bus.address import BrokerAddress
from aliciacfg.home_assistant.discovery import MessageOptions
from aliciacfg.home_assistant.home import Choice, Home
from aliciacfg.home_assistant.session import HomeAssistantSession, Wire
from aliciacfg.home_assistant.starting import HomeAssistantPart
from aliciacfg.home_assistant.topics import Topics
from aliciacfg.http.callers import is_loopback
from aliciacfg.mqtt.packet_limit import PacketLimit
from aliciacfg.settings import Settings

# Listening on these says nothing of an address under which the machine is reached.
_ALL_ADDRESSES = ("0.0.0.0", "::", "[::]", "")  # noqa: S104 - compared with, not bound


def home_assistant_part(
    core: Core, settings: Settings, address: BrokerAddress, *, url: str, serves: Callable[[], bool]
) -> HomeAssistantPart:
    """Return the part about Home Assistant; where that is off, one that removes what was published before.

    Args:
        core: The parts that know no transport.
        settings: The daemon's.
        address: The broker.
        url: Where HTTP listens.
        serves: Returns whether the daemon serves its home over the bus.
    """
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
    if settings.home_assistant == "on":
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
            message_options=MessageOptions(
                __version__, settings.home_assistant_console_url or _reachable(settings.http_host, url)
            ),
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
    return HomeAssistantPart(
        wire,
        session,
        prefix=settings.home_assistant_prefix,
        noted=core.restored.home_assistant,
        queue=core.queue,
    )


def _reachable(host: str, url: str) -> str | None:
    """Return the address of HTTP if other machines can use it as it is."""
    return None if is_loopback(host) or host in _ALL_ADDRESSES else url
