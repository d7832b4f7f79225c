"""The life cycle of the daemon: start, serve, stop.

It starts in this order: lock, keys, database, files, HTTP, broker. At a signal it stops: HTTP ends its requests; the
bus session answers what it received and says goodbye; the background tasks end; pending writes are committed; the
database closes; the lock is released. If that takes too long, because a write hangs at the disk for example, the
``StopDeadline`` ends the process; the log then says what was not stored.
"""

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from aliciacfg import __version__
from aliciacfg.bootstrap import Core, open_core
from aliciacfg.bootstrap.adapters import bus_session, http_server
from aliciacfg.bootstrap.protection import admin_token, apply_protected_mode, check_secret_files, server_certificate
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
from aliciacfg.http.server import HttpServer
from aliciacfg.monitoring.condition import Liveness, status_line
from aliciacfg.monitoring.supervisor import Supervisor
from aliciacfg.mqtt.address import broker_address
from aliciacfg.mqtt.broker.dev_broker import dev_broker
from aliciacfg.mqtt.broker.dev_port import forget_port, noted_port
from aliciacfg.mqtt.replica_session import ReplicaSession
from aliciacfg.mqtt.session import MqttSession
from aliciacfg.process.memory import (
    give_back_forever,
    keep_large_blocks_apart,
    making_what_stays,
)
from aliciacfg.process.service_manager import ServiceManager
from aliciacfg.process.signals import Signals
from aliciacfg.process.stop_deadline import StopDeadline
from aliciacfg.replicas.edit_turn import EditTurn
from aliciacfg.settings import Resolved, Settings
from aliciacfg.sources import loader
from aliciacfg.sources.watcher import FileWatcher
from aliciacfg.storage.data_directory import DataDirectory
from aliciacfg.tls import ServerCertificate

if TYPE_CHECKING:
    from aliciacfg.home_assistant.starting import HomeAssistantPart

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
    signals = Signals(deadline)
    manager = ServiceManager.from_environment(os.environ, pid=os.getpid())
    keep_large_blocks_apart()
    sys.setswitchinterval(_SWITCH_SECONDS)
    settings = resolved.settings
    certificate = server_certificate(settings)
    check_secret_files(settings)
    async with AsyncExitStack() as stack:
        stack.callback(manager.close)
        data = DataDirectory(Path(settings.data_dir))
        stack.callback(data.release)
        forget_port(data.path)
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
        # For every way in which the daemon ends from here on, the time runs.
        stack.callback(deadline.begin)
        try:
            await _run(settings, data, address, certificate, signals, announce, deadline, manager)
        except asyncio.CancelledError:
            if not signals.stop.is_set():
                raise
        _log.info("stopped")


async def _run(
    settings: Settings,
    data: DataDirectory,
    address: BrokerAddress,
    certificate: ServerCertificate | None,
    signals: Signals,
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
        apply_protected_mode(core, settings, address)
        http = http_server(core, settings, data, certificate)
        mqtt = bus_session(core, settings, address)
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


def _home_assistant(
    core: Core, settings: Settings, address: BrokerAddress, *, url: str, serves: Callable[[], bool]
) -> "HomeAssistantPart | None":
    """Return the part about Home Assistant; None where that is off and nothing was published before."""
    if settings.home_assistant != "on" and not core.restored.home_assistant:
        return None
    # Its modules take 1.2 MB, which a daemon without it does without.
    from aliciacfg.bootstrap.home_assistant import home_assistant_part  # noqa: PLC0415

    return home_assistant_part(core, settings, address, url=url, serves=serves)


async def _start(core: Core, settings: Settings) -> bool:
    """Load the files and store the administrator's token; return False if the store cannot write at present."""
    complete = await core.start(settings.environment)
    return await _store_admin_token(core, settings) and complete


async def _store_admin_token(core: Core, settings: Settings) -> bool:
    """Store the administrator's token, if there is one; return False if the store cannot write at present."""
    if settings.admin_token_file is None:
        return True
    try:
        await core.service.admin.store_admin_token(admin_token(Path(settings.admin_token_file)))
    except Unavailable:
        return False
    return True


async def _finish_start(core: Core, settings: Settings, *, complete: bool) -> None:
    """Repeat a start that is not complete until the store can write what it changes."""
    while not complete:
        await asyncio.sleep(_RETRY_SECONDS)
        if core.queue.healthy:
            try:
                complete = await _start(core, settings)
            except SourceError:
                # It is reported where the files are refused, and they are watched.
                complete = await _store_admin_token(core, settings)


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
    except SourceError:
        # It is reported where the files are refused.
        return True
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
    home_assistant: "HomeAssistantPart | None",
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
        manager: Is notified when the daemon stops.
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
