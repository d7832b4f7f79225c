"""The address of the broker, its TLS settings, and the file of a password."""

import ssl
from dataclasses import dataclass, field
from pathlib import Path

from aliciacfg import tls
from aliciacfg.errors import SettingsError
from aliciacfg.file_errors import unreadable


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
    password: str | None = field(default=None, repr=False)
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


def read_password(file: str) -> str:
    """Return the password in the file that ``MQTT_PASSWORD_FILE`` names: its first line.

    Raises:
        SettingsError: The file cannot be used.
    """
    name = f"MQTT_PASSWORD_FILE: {file}"
    try:
        text = Path(file).read_bytes().decode()
    except FileNotFoundError as error:
        message = f"{name} is missing; `aliciacfg setup` makes it, beside the broker's own files"
        raise SettingsError([message]) from error
    except OSError as error:
        raise SettingsError([f"MQTT_PASSWORD_FILE: {unreadable(Path(file), error)}"]) from error
    except UnicodeDecodeError as error:
        raise SettingsError([f"{name} is not UTF-8: byte {error.start} is invalid"]) from error
    password = text.partition("\n")[0].removesuffix("\r")
    if not password:
        raise SettingsError([f"{name} holds no password in its first line"])
    return password
