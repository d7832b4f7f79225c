"""The life cycle of the daemon: start, serve, stop.

It starts in this order: lock, keys, database, files, HTTP, broker. At a signal it stops: HTTP ends its requests; the
bus session answers what it received and says goodbye; the background tasks end; pending writes are committed; the
database closes; the lock is released. If that takes too long, because a write hangs at the disk for example, the
``StopDeadline`` ends the process; the log then says what was not stored.
"""

import asyncio
import contextlib
import functools
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from types import FrameType

import structlog

from aliciacfg import __version__, documents
from aliciacfg.access import tokens
from aliciacfg.atomic_files import replace_file
from aliciacfg.bootstrap import Core, open_core
from aliciacfg.bus.address import BrokerAddress
from aliciacfg.core.adoption import ALERT as ADOPTED
from aliciacfg.core.load_planner import ReloadResult
from aliciacfg.core.reloads import Reloads
from aliciacfg.core.served_files import OthersLoaded
from aliciacfg.core.shared_edits import SharedEdits
from aliciacfg.core.vanished_files import FilesVanished
from aliciacfg.counted import counted
from aliciacfg.errors import (
    AliciacfgError,
    AnotherDaemon,
    OperationError,
    OtherFormat,
    SettingsError,
    SourceError,
    Unavailable,
    WentBack,
    leaves,
)
from aliciacfg.home_assistant.discovery import Manner
from aliciacfg.home_assistant.home import Choice, Home
from aliciacfg.home_assistant.session import HomeAssistantSession, Wire
from aliciacfg.home_assistant.starting import HomeAssistantPart
from aliciacfg.home_assistant.topics import Topics
from aliciacfg.http import openapi
from aliciacfg.http.callers import is_loopback
from aliciacfg.http.pages import Page, pages
from aliciacfg.http.server import HttpServer, HttpSettings
from aliciacfg.monitoring.condition import Liveness, status_line
from aliciacfg.monitoring.supervisor import Supervisor
from aliciacfg.mqtt import asyncapi
from aliciacfg.mqtt.address import broker_address
from aliciacfg.mqtt.broker.dev_broker import dev_broker
from aliciacfg.mqtt.broker.dev_port import noted_port
from aliciacfg.mqtt.packet_limit import PacketLimit
from aliciacfg.mqtt.replica_session import ReplicaSession
from aliciacfg.mqtt.requests import Requests
from aliciacfg.mqtt.session import LeaderPart, MqttSession
from aliciacfg.mqtt.shared_requests import SharedRequests
from aliciacfg.private_files import check_secret_file
from aliciacfg.process.memory import (
    give_back_forever,
    keep_large_blocks_apart,
    look_for_cycles_rarely,
    making_what_stays,
)
from aliciacfg.process.service_manager import ServiceManager
from aliciacfg.process.stop_deadline import StopDeadline
from aliciacfg.replicas.edit_turn import EditTurn
from aliciacfg.settings import SETTINGS, Resolved, Settings
from aliciacfg.sources import loader
from aliciacfg.sources.watcher import FileWatcher
from aliciacfg.storage.data_directory import DataDirectory
from aliciacfg.tls import ServerCertificate

_log = structlog.get_logger(__name__)

# Leaves time to commit what waits, before the deadline ends the process.
_STOP_SECONDS = 6.0
_RETRY_SECONDS = 1.0
# How long a thread waits for the interpreter while another one is busy. The thread of the database asks for it at each
# statement: with Python's own 5 ms, a write right after a change of 10,000 services took 150 ms, with this 80, and 64
# writers wrote a sixth less.
_SWITCH_SECONDS = 0.0005
# A line of the log is for people.
_MAX_NAMED = 20
# Listening on these says nothing of an address under which the machine is reached.
_ALL_ADDRESSES = ("0.0.0.0", "::", "[::]", "")  # noqa: S104 - compared with, not bound


def server_certificate(settings: Settings) -> ServerCertificate | None:
    """Return the certificate of the HTTP server; None without TLS.

    Raises:
        SettingsError: The certificate or its key cannot be used.
    """
    if settings.tls_cert is None:
        if settings.tls_key is not None:
            raise SettingsError(["ALICIACFG_TLS_KEY is set without ALICIACFG_TLS_CERT; set both, or none"])
        return None
    return ServerCertificate(
        cert=settings.tls_cert,
        key=settings.tls_key,
        cert_setting="ALICIACFG_TLS_CERT",
        key_setting="ALICIACFG_TLS_KEY",
    )


def check_protected(settings: Settings, address: BrokerAddress) -> None:
    """Refuse to serve other machines while there is neither an access rule nor a token (protected mode, as in Redis).

    Args:
        settings: The daemon's settings.
        address: The broker.

    Raises:
        SettingsError: Other machines could reach the daemon; lists which settings to change.
    """
    remedy = (
        "or restrict access: set ALICIACFG_ADMIN_TOKEN_FILE, make a token with `aliciacfg token create`, or write "
        "environments/access.yaml; if the network is trusted, set ALICIACFG_PROTECTED_MODE=off"
    )
    wrong: list[str] = []
    if not is_loopback(settings.http_host):
        wrong.append(
            f"ALICIACFG_HTTP_HOST is {settings.http_host}, which other machines can reach; set it to 127.0.0.1, "
            f"{remedy}"
        )
    if not is_loopback(address.host):
        wrong.append(
            f"{_said_of_broker(address.host)}, which other machines can reach; start with --dev, which uses a broker "
            f"of this machine, set it to 127.0.0.1, {remedy}"
        )
    if wrong:
        raise SettingsError(wrong)


def _said_of_broker(host: str) -> str:
    default = next(setting.default for setting in SETTINGS if setting.field == "mqtt_broker")
    return f"MQTT_BROKER is its default, {host}" if host == default else f"MQTT_BROKER is {host}"


async def serve(resolved: Resolved, *, dev: bool, announce: Callable[[str], None], deadline: StopDeadline) -> None:
    """Run the daemon until SIGTERM or SIGINT; at SIGHUP it reads its files again.

    Args:
        resolved: The settings.
        dev: Find or start a broker on this machine.
        announce: Called with the lines for people: which broker, and READY. Neither waits nor raises.
        deadline: Begins when the daemon is asked to stop, or stops for another reason.

    Raises:
        AliciacfgError: The daemon cannot start, or another daemon is alive.
    """
    # First, so that a signal during the start stops the daemon in order.
    signals = _Signals(deadline)
    manager = ServiceManager.from_environment(os.environ, pid=os.getpid())
    keep_large_blocks_apart()
    look_for_cycles_rarely()
    sys.setswitchinterval(_SWITCH_SECONDS)
    settings = resolved.settings
    certificate = server_certificate(settings)
    _check_secret_files(settings)
    async with AsyncExitStack() as stack:
        stack.callback(manager.close)
        data = DataDirectory(Path(settings.data_dir))
        stack.callback(data.release)
        address = broker_address(settings)
        if dev:
            found = await stack.enter_async_context(
                dev_broker(address, explicit=resolved.explicit("mqtt_broker"), data_dir=data.path)
            )
            address = found.address
            if not resolved.explicit("mqtt_broker"):
                stack.enter_context(noted_port(data.path, address.port))
            deadline.before_end(found.end_process)
            announce(f"broker: {found.description}")
        # The TLS files are read again at every connect; a fault that they have now is a wrong setting.
        address.tls_context()
        # Whatever ends the daemon, from here on the time runs.
        stack.callback(deadline.begin)
        try:
            await _run(settings, data, address, certificate, signals, announce, deadline, manager)
        except asyncio.CancelledError:
            if not signals.stop.is_set():
                raise
        _log.info("stopped")


def _check_secret_files(settings: Settings) -> None:
    """Check who else can read or change the files of secrets; one that cannot be read has an error of its own.

    Raises:
        SettingsError: Another user owns one, or can write it.
    """
    files = {
        "MQTT_PASSWORD_FILE": settings.mqtt_password_file if settings.mqtt_password is None else None,
        "MQTT_TLS_KEY": settings.mqtt_tls_key or settings.mqtt_tls_cert,
        "ALICIACFG_TLS_KEY": settings.tls_key or settings.tls_cert,
    }
    for setting, file in files.items():
        if file is not None:
            with contextlib.suppress(OSError):
                if remedy := check_secret_file(Path(file), setting, strict=False):
                    _log.warning("secret_readable", setting=setting, path=file, remedy=remedy)


class _Signals:
    """Turns the process's signals into events.

    Attributes:
        stop: The daemon is asked to stop.
        hangup: The daemon is asked to read its files again.
    """

    def __init__(self, deadline: StopDeadline) -> None:
        self.stop, self.hangup = asyncio.Event(), asyncio.Event()
        self._starting: asyncio.Task[object] | None = None
        self._deadline = deadline
        self._terminals = _terminals()
        self._loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            # Not a handler of the event loop: the deadline has to begin while the loop is held up, too.
            signal.signal(number, self._on_stop)
        self._loop.add_signal_handler(signal.SIGHUP, self._on_hangup)

    def _on_stop(self, _number: int, _frame: FrameType | None) -> None:
        self._deadline.begin()
        with contextlib.suppress(RuntimeError):
            # Raised if the loop is closed already, at the very end.
            self._loop.call_soon_threadsafe(self._stop)

    def _on_hangup(self) -> None:
        # A closing terminal sends SIGHUP too; then the daemon stops, because the terminal could no longer stop it.
        if _terminals() == self._terminals:
            self.hangup.set()
        else:
            self._deadline.begin()
            self._stop()

    def _stop(self) -> None:
        self.stop.set()
        if self._starting is not None:
            self._starting.cancel()
            self._starting = None

    @contextlib.contextmanager
    def starting(self) -> Generator[None]:
        """End the block with a cancellation at a signal to stop: the start may wait for a lock, or for files."""
        self._starting = asyncio.current_task()
        try:
            yield
        finally:
            self._starting = None


def _terminals() -> list[int]:
    """Return which of the standard streams are a terminal that is still there."""
    return [number for number in range(3) if os.isatty(number)]


async def _run(
    settings: Settings,
    data: DataDirectory,
    address: BrokerAddress,
    certificate: ServerCertificate | None,
    signals: _Signals,
    announce: Callable[[str], None],
    deadline: StopDeadline,
    manager: ServiceManager,
) -> None:
    started = time.monotonic()
    async with AsyncExitStack() as stack:
        async with manager.starting():
            with signals.starting(), making_what_stays():
                core = await stack.enter_async_context(open_core(settings, data))
                deadline.before_end(lambda: _log_unfinished(core))
                # Before the files are loaded: an edit during the load counts as a change.
                watcher = _file_watcher(core)
                complete = await _start(core, settings)
        _apply_protected_mode(core, settings, address)
        http = _http_server(core, settings, data, certificate)
        mqtt = _bus_session(core, settings, address)
        liveness = Liveness(core.condition, data.path)
        url = core.presence.url = await http.start()
        home_assistant = _home_assistant(core, settings, address, url=url, serves=lambda: mqtt.serving)
        _log.info("listening", url=url, version=__version__)

        async def announce_ready() -> None:
            await mqtt.ready.wait()
            health = core.service.health.now()
            managed = counted(health.configs_managed, "configuration")
            missing = len(core.configurations.not_served())
            not_served = f"{missing} not served, " if missing else ""
            adopted = "keys.json was lost (see `aliciacfg status`), " if ADOPTED in core.alerts.active else ""
            announce(
                f"READY aliciacfg {__version__}: {url} and {address.url}, "
                f"environment {health.environment}, {managed}, {not_served}{adopted}"
                f"{time.monotonic() - started:.2f} s"
            )
            manager.ready()

        def once(work: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
            """Return what runs a task only while this daemon leads its home."""
            return lambda: core.leadership.while_leading(work)

        tasks: dict[str, Callable[[], Awaitable[None]]] = {
            "file watcher": watcher.run,
            "check of instances": once(core.drift_checks.check_instances_forever),
            "probe of the store": core.drift_checks.probe_forever,
            **({} if core.following is None else {"following of other daemons": core.following.follow_forever}),
            "verification of the store": once(core.drift_checks.verify_forever),
            "scrubbing of the store": core.scrubbing.run,
            "retention": once(core.retention.run),
            "audit log": core.audit_log.run,
            "note of what the broker holds": once(core.announcements.store_confirmations_forever),
            "freed memory": give_back_forever,
            "READY line": announce_ready,
            "rest of the start": lambda: _finish_start(core, settings, complete=complete),
            "reload at SIGHUP": lambda: _reload_at_hangup(signals.hangup, certificate, core.reloads, manager),
            "reports to the service manager": lambda: manager.report_forever(
                lambda: status_line(core.service.health.now(), address.url), liveness.alive
            ),
        }
        if home_assistant is not None:
            tasks["Home Assistant"] = once(home_assistant.run)
        if core.service.ledger is not None:
            tasks["removal of old answers"] = once(core.service.ledger.remove_forever)
        if core.membership is None:
            await _serve_until(signals.stop, http, mqtt, home_assistant, core.supervisor, tasks, manager)
            return
        tasks |= core.membership.tasks
        try:
            await _serve_until(signals.stop, http, mqtt, home_assistant, core.supervisor, tasks, manager)
        finally:
            # Not before the connection of the home has ended: the next leader takes it over.
            await core.membership.leave()


async def _start(core: Core, settings: Settings) -> bool:
    """Load the files and store the administrator's token; return False if the store cannot write at present."""
    complete = await core.start(settings.environment)
    if settings.admin_token_file is not None:
        try:
            await core.service.admin.store_admin_token(admin_token(Path(settings.admin_token_file)))
        except Unavailable:
            return False
    return complete


async def _finish_start(core: Core, settings: Settings, *, complete: bool) -> None:
    """Repeat a start that is not complete until the store can write what it changes."""
    while not complete:
        await asyncio.sleep(_RETRY_SECONDS)
        if core.queue.healthy:
            try:
                complete = await _start(core, settings)
            except SourceError as error:
                _log.error("files_refused", problems=[str(problem) for problem in error.problems])
                return


def _file_watcher(core: Core) -> FileWatcher:
    edits = None if core.served is None else SharedEdits(core.served, core.reloads, EditTurn(core.presence))

    async def load() -> bool:
        return await _reload(core.reloads) if edits is None else await edits.look(_taken_over)

    return FileWatcher(
        lambda: loader.stamp_files(core.source_files.paths()),
        load,
        take_digest=core.source_files.digest,
        on_settled=core.drift_checks.compare_files,
        again=lambda: core.reloads.worth_retrying if edits is None else edits.due,
    )


def _apply_protected_mode(core: Core, settings: Settings, address: BrokerAddress) -> None:
    """Refuse to serve other machines without access rules, or raise an alert if the settings allow it.

    Raises:
        SettingsError: As ``check_protected``.
    """
    if core.service.authorizer.access.enforced:
        return
    if settings.protected_mode != "off":
        check_protected(settings, address)
        return
    core.alerts.raise_(
        "open_access",
        "ALICIACFG_PROTECTED_MODE is off and there are no access rules: everyone who reaches the broker or the HTTP "
        "port may read and change every configuration.",
    )


def _http_server(
    core: Core, settings: Settings, data: DataDirectory, certificate: ServerCertificate | None
) -> HttpServer:
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


def _bus_session(core: Core, settings: Settings, address: BrokerAddress) -> MqttSession | ReplicaSession:
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


def _home_assistant(
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


def admin_token(path: Path) -> str:
    """Return the token in a file; make the file, readable by its owner only, with a new token if there is none.

    Raises:
        SettingsError: The file cannot be read or written; or another user made it, or can read or write it.
    """
    try:
        if path.exists():
            check_secret_file(path, "ALICIACFG_ADMIN_TOKEN_FILE", strict=True)
            return path.read_text("ascii", "replace").strip()
        text = tokens.generate()
        replace_file(path, f"{text}\n".encode(), mode=0o600, follow_links=False)
    except OSError as error:
        raise SettingsError([f"ALICIACFG_ADMIN_TOKEN_FILE: {path} cannot be used: {error.strerror}"]) from error
    _log.info("admin_token_made", path=str(path))
    return text


async def _reload(reloads: Reloads) -> bool:
    """Load the files after an edit and log the result; return False if the load is to be tried again."""
    return await _taken_over(reloads.reload(patience="all"))


async def _taken_over(load: Awaitable[ReloadResult]) -> bool:
    """Await a load and log its result; return False if it is to be tried again."""
    try:
        result = await load
    except OthersLoaded:
        # Whether this daemon's are still to be loaded is decided anew.
        return True
    except FilesVanished as error:
        _log.warning("files_vanished", problems=[str(problem) for problem in error.problems])
    except SourceError as error:
        _log.error("files_refused", problems=[str(problem) for problem in error.problems])
    except OperationError as error:
        _log.error("files_not_loaded", reason=error.message, remedy="none needed; it is tried again")
        return False
    else:
        _log.info("files_loaded", changed=result.changed[:_MAX_NAMED], count=len(result.changed))
    return True


async def _reload_at_hangup(
    hangup: asyncio.Event, certificate: ServerCertificate | None, reloads: Reloads, manager: ServiceManager
) -> None:
    """Read certificate, environments and schemas again at each SIGHUP."""
    while True:
        await hangup.wait()
        hangup.clear()
        with manager.reloading():
            if certificate is not None:
                _renew(certificate)
            await _reload(reloads)


def _renew(certificate: ServerCertificate) -> None:
    try:
        certificate.renew()
    except SettingsError as error:
        _log.error(
            "certificate_refused",
            reason=str(error),
            remedy="correct it and send SIGHUP again; the previous certificate stays in use",
        )
    else:
        _log.info("certificate_loaded")


async def _serve_until(
    stop: asyncio.Event,
    http: HttpServer,
    mqtt: MqttSession | ReplicaSession,
    home_assistant: HomeAssistantPart | None,
    supervisor: Supervisor,
    tasks: Mapping[str, Callable[[], Awaitable[None]]],
    manager: ServiceManager,
) -> None:
    """Serve until ``stop`` is set; then stop in order: HTTP requests end, the bus session says goodbye.

    Args:
        stop: Set to stop.
        http: Serves HTTP, and was started.
        mqtt: Serves MQTT.
        home_assistant: Serves Home Assistant, if anything does.
        supervisor: Keeps the tasks running.
        tasks: What else runs, by name.
        manager: Is told that the daemon stops.
    """

    async def stop_in_order() -> None:
        await stop.wait()
        _log.info("stopping")
        manager.stopping()
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await http.stop()
                if home_assistant is not None:
                    await home_assistant.stop()
                await mqtt.stop()
        except TimeoutError:
            _log.warning("stop_cut_short", after_seconds=_STOP_SECONDS)
            mqtt.abort()
        raise _Stopped

    try:
        async with asyncio.TaskGroup() as group:
            bus = supervisor.keep_running("MQTT session", mqtt.run, fatal=(AnotherDaemon,))
            group.create_task(bus, name="MQTT session")
            for name, work in tasks.items():
                group.create_task(supervisor.keep_running(name, work, fatal=(WentBack, OtherFormat)), name=name)
            group.create_task(stop_in_order(), name="stop")
    except BaseExceptionGroup as errors:
        _reraise_own(errors)
    finally:
        await http.stop()


class _Stopped(Exception):
    """A signal asked the daemon to stop."""


def _reraise_own(errors: BaseExceptionGroup[BaseException]) -> None:
    """Ignore a requested stop; raise any other error, and one of the project's own without the group around it."""
    _, rest = errors.split(_Stopped)
    if rest is None:
        return
    found = list(leaves(rest))
    if len(found) == 1 and isinstance(found[0], AliciacfgError):
        raise found[0] from None
    raise rest


def _log_unfinished(core: Core) -> None:
    """Log what is not stored when the deadline ends the process."""
    unfinished = core.queue.unfinished
    _log.error(
        "stop_forced",
        writes_unknown=unfinished.unknown,
        writes_lost=unfinished.lost,
        reason="the daemon could not stop in order within its deadline; a write may hang at the disk",
        remedy="writes_lost were not answered and are not stored; whether writes_unknown are, the next start shows",
    )
