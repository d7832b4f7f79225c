"""What a daemon checks before it serves: protected mode, and the files that hold its secrets."""

import contextlib
from pathlib import Path

import structlog

from aliciacfg.access import tokens
from aliciacfg.atomic_files import replace_file
from aliciacfg.bootstrap import Core
from aliciacfg.bus.address import BrokerAddress
from aliciacfg.errors import SettingsError
from aliciacfg.file_errors import unwritable
from aliciacfg.http.callers import is_loopback
from aliciacfg.private_files import check_secret_file
from aliciacfg.settings import SETTINGS, Settings
from aliciacfg.tls import ServerCertificate

_log = structlog.get_logger(__name__)


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


def check_secret_files(settings: Settings) -> None:
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


def apply_protected_mode(core: Core, settings: Settings, address: BrokerAddress) -> None:
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
        raise SettingsError([f"ALICIACFG_ADMIN_TOKEN_FILE: {unwritable(path, error, done='used')}"]) from error
    _log.info("admin_token_made", path=str(path))
    return text
