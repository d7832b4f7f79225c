"""The address of the broker, its TLS settings, and the settings of the daemon that they come from."""

import ssl
from dataclasses import dataclass
from pathlib import Path

from aliciacfg import tls
from aliciacfg.errors import SettingsError
from aliciacfg.settings import Settings


class _Socket(ssl.SSLSocket):
    """A socket that is closed when the TLS handshake fails; paho leaves that to the garbage collector."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Where the broker is, and what proves to it who connects.

    Attributes:
        host: A name or an IP address.
        tls_ca: A file of certificate authorities; turns TLS on.
        tls_cert: The client's certificate file.
        tls_key: Its key file.
    """

    host: str
    port: int
    username: str | None = None
    password: str | None = None
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None

    @property
    def url(self) -> str:
        """The address as people read it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.has_tls else 'mqtt'}://{host}:{self.port}"

    @property
    def has_tls(self) -> bool:
        """Whether the connection uses TLS."""
        return self.tls_ca is not None

    def tls_context(self) -> ssl.SSLContext | None:
        """Return the TLS settings, or None without TLS. The files are read each time, as they may have been renewed.

        Raises:
            SettingsError: A file cannot be used.
        """
        if self.tls_ca is None:
            if self.tls_cert is not None or self.tls_key is not None:
                raise SettingsError(["MQTT_TLS_CERT needs MQTT_TLS_CA: set it to the file of the broker's authority"])
            return None
        context = tls.client_context(
            ca=self.tls_ca,
            cert=self.tls_cert,
            key=self.tls_key,
            ca_setting="MQTT_TLS_CA",
            cert_setting="MQTT_TLS_CERT",
            key_setting="MQTT_TLS_KEY",
        )
        context.sslsocket_class = _Socket
        return context


def broker_address(settings: Settings) -> BrokerAddress:
    """Return the broker that the settings name.

    Raises:
        SettingsError: The file that holds the password cannot be used.
    """
    return BrokerAddress(
        host=settings.mqtt_broker,
        port=settings.mqtt_port,
        username=settings.mqtt_username,
        password=broker_password(settings),
        tls_ca=settings.mqtt_tls_ca,
        tls_cert=settings.mqtt_tls_cert,
        tls_key=settings.mqtt_tls_key,
    )


def broker_password(settings: Settings) -> str | None:
    """Return the daemon's own password: ``MQTT_PASSWORD``, or the first line of ``MQTT_PASSWORD_FILE``.

    Raises:
        SettingsError: The file cannot be used.
    """
    if settings.mqtt_password is not None or settings.mqtt_password_file is None:
        return settings.mqtt_password
    name = f"MQTT_PASSWORD_FILE: {settings.mqtt_password_file}"
    try:
        text = Path(settings.mqtt_password_file).read_bytes().decode()
    except OSError as error:
        raise SettingsError(
            [f"{name} cannot be read ({error.strerror}); `aliciacfg setup` makes it, beside the broker's own files"]
        ) from error
    except UnicodeDecodeError as error:
        raise SettingsError([f"{name} is not UTF-8: byte {error.start} is invalid"]) from error
    password = text.partition("\n")[0].removesuffix("\r")
    if not password:
        raise SettingsError([f"{name} holds no password in its first line"])
    return password
