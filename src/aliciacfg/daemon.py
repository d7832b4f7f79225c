"""The composition root: makes every part, starts them in order, stops them in reverse.

Start: lock, keys, database, files, HTTP, broker. The order of the end is the reverse: stop taking requests, say
goodbye on the bus, let requests end, commit what waits, close, unlock.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import structlog

from aliciacfg import documents
from aliciacfg.access import tokens
from aliciacfg.atomic_files import replace_file
from aliciacfg.bootstrap import open_core
from aliciacfg.core.reloads import Reloads
from aliciacfg.errors import AliciacfgError, OperationError, SettingsError, SourceError, leaves
from aliciacfg.http import openapi
from aliciacfg.http.callers import is_loopback
from aliciacfg.http.pages import pages
from aliciacfg.http.server import HttpServer, HttpSettings
from aliciacfg.mqtt import asyncapi
from aliciacfg.mqtt.address import BrokerAddress, broker_address
from aliciacfg.mqtt.broker.dev_broker import dev_broker
from aliciacfg.mqtt.requests import Requests
from aliciacfg.mqtt.session import MqttSession
from aliciacfg.operations.health import VERSION
from aliciacfg.settings import Resolved, Settings
from aliciacfg.sources import loader
from aliciacfg.sources.watcher import FileWatcher
from aliciacfg.storage.data_directory import DataDirectory
from aliciacfg.tls import ServerCertificate

_log = structlog.get_logger(__name__)

_STOP_SECONDS = 10.0


def server_certificate(settings: Settings) -> ServerCertificate | None:
    """What HTTP shows; None without TLS.

    Raises:
        SettingsError: It cannot be used.
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
    """Protected mode, as in Redis: where there is neither a rule nor a token, everything is open, so on loopback only.

    Args:
        settings: What is asked for.
        address: The broker.

    Raises:
        SettingsError: Others than this machine could reach the daemon.
    """
    remedy = (
        "or say who may do what: set ALICIACFG_ADMIN_TOKEN_FILE, make a token with `aliciacfg token create`, or write "
        "environments/access.yaml; where the network around it is trusted, ALICIACFG_PROTECTED_MODE=off"
    )
    wrong: list[str] = []
    if not is_loopback(settings.http_host):
        wrong.append(
            f"ALICIACFG_HTTP_HOST is {settings.http_host}, which others than this machine reach; set it to 127.0.0.1, "
            f"{remedy}"
        )
    if not is_loopback(address.host):
        wrong.append(
            f"MQTT_BROKER is {address.host}, which others than this machine reach; set it to 127.0.0.1, "
            f"start with --dev, {remedy}"
        )
    if wrong:
        raise SettingsError(wrong)


async def serve(resolved: Resolved, *, dev: bool, announce: Callable[[str], None]) -> None:
    """Run the daemon until SIGTERM or SIGINT; SIGHUP makes it read its files again.

    Args:
        resolved: The settings.
        dev: Find a broker on this machine.
        announce: Called with the lines for people: which broker, and READY.

    Raises:
        AliciacfgError: It could not start, or another daemon is alive.
    """
    stop, hangup = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    terminals = _terminals()

    def on_hangup() -> None:
        # A terminal sends it as well when it is closed: then the daemon goes, as nobody is there to end it.
        (hangup if _terminals() == terminals else stop).set()

    loop.add_signal_handler(signal.SIGHUP, on_hangup)
    settings = resolved.settings
    certificate = server_certificate(settings)
    async with AsyncExitStack() as stack:
        data = DataDirectory(Path(settings.data_dir))
        stack.callback(data.release)
        address = broker_address(settings)
        if dev:
            found = await stack.enter_async_context(
                dev_broker(address, explicit=resolved.explicit("mqtt_broker"), data_dir=data.path)
            )
            address = found.address
            announce(f"broker: {found.description}")
        # At every connect the files are read again; what is wrong with them now is a wrong setting.
        address.tls_context()
        await _run(settings, data, address, certificate, stop, hangup, announce)


def _terminals() -> list[int]:
    """Which of the standard streams are a terminal that is still there."""
    return [number for number in range(3) if os.isatty(number)]


async def _run(
    settings: Settings,
    data: DataDirectory,
    address: BrokerAddress,
    certificate: ServerCertificate | None,
    stop: asyncio.Event,
    hangup: asyncio.Event,
    announce: Callable[[str], None],
) -> None:
    started = time.monotonic()
    async with open_core(settings, data) as core:
        # Looks before the first load, so that an edit in between is seen.
        watcher = FileWatcher(
            lambda: loader.stamp_files(core.source_files.paths()),
            lambda: _reload(core.reloads),
            on_settled=core.drift_checks.compare_files,
            again=lambda: core.reloads.worth_retrying,
        )
        await core.start(settings.environment)
        if settings.admin_token_file is not None:
            await core.service.admin.admit(admin_token(Path(settings.admin_token_file)))
        if not core.service.authorizer.access.enforced:
            if settings.protected_mode != "off":
                check_protected(settings, address)
            else:
                core.alerts.stand(
                    "open_access",
                    "ALICIACFG_PROTECTED_MODE is off and there are no access rules: whoever reaches the broker or the "
                    "HTTP port may read and change every configuration.",
                )
        http = HttpServer(
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
            pages=pages(
                openapi=documents.encode(openapi.document(VERSION, openapi.recorded())),
                asyncapi=documents.encode(asyncapi.document(VERSION, asyncapi.recorded())),
            ),
        )
        mqtt = MqttSession(
            address=address,
            session_id=core.session,
            service=core.service,
            requests=Requests(
                core.service, reply_prefixes=settings.reply_prefix_list, max_config_bytes=settings.max_config_bytes
            ),
            outbox=core.outbox,
            alerts=core.alerts,
            drift=core.drift,
            write_confirmations=core.announcements.store_confirmations,
        )
        url = await http.start()
        _log.info("listening", url=url, version=VERSION)

        async def say_ready() -> None:
            await mqtt.ready.wait()
            health = core.service.health.now()
            announce(
                f"READY aliciacfg {VERSION}: {url} and {address.url}, "
                f"environment {health.environment}, {health.configs_managed} configurations, "
                f"{time.monotonic() - started:.2f} s"
            )

        others = [
            watcher.run(),
            core.drift_checks.run(),
            core.audit_log.run(),
            say_ready(),
            _reload_forever(hangup, certificate, core.reloads),
        ]
        await _serve_until(stop, http, mqtt, others)
    _log.info("stopped")


def admin_token(path: Path) -> str:
    """The token in a file; where there is no file, a fresh one, for its owner's eyes only.

    Raises:
        SettingsError: The file cannot be read or written.
    """
    try:
        if path.exists():
            return path.read_text("ascii", "replace").strip()
        text = tokens.generate()
        replace_file(path, f"{text}\n".encode(), mode=0o600)
    except OSError as error:
        raise SettingsError([f"ALICIACFG_ADMIN_TOKEN_FILE: {path} cannot be used: {error.strerror}"]) from error
    _log.info("admin_token_made", path=str(path))
    return text


async def _reload(reloads: Reloads) -> bool:
    """After an edit: take the files over, or say everything that is wrong with them; False to try again."""
    try:
        result = await reloads.reload()
    except SourceError as error:
        _log.error("files_refused", problems=[str(problem) for problem in error.problems])
    except OperationError as error:
        _log.error("files_not_loaded", reason=error.message, remedy="none needed; it is tried again")
        return False
    except Exception:  # noqa: BLE001 - the supervisor of the watching: no file may end the daemon
        _log.exception("files_failed")
    else:
        _log.info("files_loaded", changed=result.changed)
    return True


async def _reload_forever(hangup: asyncio.Event, certificate: ServerCertificate | None, reloads: Reloads) -> None:
    """At each SIGHUP read again what is read from files: the certificate, environments, schemas."""
    while True:
        await hangup.wait()
        hangup.clear()
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
            remedy="mend it and send SIGHUP again; the certificate of before is still shown",
        )
    else:
        _log.info("certificate_taken")


async def _serve_until(
    stop: asyncio.Event,
    http: HttpServer,
    mqtt: MqttSession,
    others: Sequence[Coroutine[None, None, None]],
) -> None:
    """Serve; at ``stop`` end in order while the connections still stand."""

    async def stop_in_order() -> None:
        await stop.wait()
        _log.info("stopping")
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await http.stop()
                await mqtt.stop()
        except TimeoutError:
            _log.warning("stop_cut_short", after_seconds=_STOP_SECONDS)
        raise _Stopped

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(mqtt.run(), name="mqtt")
            for other in others:
                group.create_task(other, name=other.__qualname__)
            group.create_task(stop_in_order(), name="stop")
    except BaseExceptionGroup as errors:
        _reraise_own(errors)
    finally:
        await http.stop()


class _Stopped(Exception):
    """A signal asked the daemon to stop."""


def _reraise_own(errors: BaseExceptionGroup[BaseException]) -> None:
    """Swallow a stop that was asked for; raise what else ended the daemon, alone if it is one of ours."""
    _, rest = errors.split(_Stopped)
    if rest is None:
        return
    found = list(leaves(rest))
    if len(found) == 1 and isinstance(found[0], AliciacfgError):
        raise found[0] from None
    raise rest


def announce_line(line: str) -> None:
    """Print one line on standard output at once: scripts wait for READY."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
