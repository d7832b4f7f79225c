"""The daemon's own settings: one table for environment variables, ``.env``, flags and the documentation."""

import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, cast
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from aliciacfg import dotenv_file
from aliciacfg.documents import DocumentLimits
from aliciacfg.errors import SettingsError, SourceError
from aliciacfg.model import names
from aliciacfg.model.redaction import REDACTED

Origin = Literal["flag", "environment", ".env", "default"]

_Port = Annotated[int, Meta(ge=1, le=65535)]
_ListenPort = Annotated[int, Meta(ge=0, le=65535)]
# The protocol's largest packet; the smallest lets the daemon's own messages through.
_PacketBytes = Annotated[int, Meta(ge=4096, le=268_435_460)]
_Positive = Annotated[int, Meta(ge=1)]
_NotNegative = Annotated[int, Meta(ge=0)]
# Fewer than there may be connections.
_EventStreams = Annotated[int, Meta(ge=0, le=400)]
_Days = Annotated[float, Meta(ge=0)]


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table.

    Attributes:
        name: The environment variable.
        field: The attribute of ``Settings``, and the flag: ``http_port`` is ``--http-port``.
        type: The type that the text is converted to.
        default: The value as text if nothing sets it; None for no value.
        help: A description in one line.
        secret: The value is never printed.
    """

    name: str
    field: str
    type: Any
    default: str | None
    help: str
    secret: bool = False

    @property
    def flag(self) -> str:
        """The flag of ``aliciacfg serve``."""
        return "--" + self.field.replace("_", "-")


SETTINGS: tuple[Setting, ...] = (
    Setting("MQTT_BROKER", "mqtt_broker", str, "alicia_bus_core", "Host of the broker."),
    Setting("MQTT_PORT", "mqtt_port", _Port, "1883", "TCP port of the broker."),
    Setting("MQTT_USERNAME", "mqtt_username", str, "config_service", "User name at the broker."),
    Setting("MQTT_PASSWORD", "mqtt_password", str, None, "Password at the broker.", secret=True),
    Setting(
        "MQTT_PASSWORD_FILE", "mqtt_password_file", str, None,
        "File of the password; used if MQTT_PASSWORD is not set.",
    ),
    Setting("MQTT_TLS_CA", "mqtt_tls_ca", str, None, "File of certificate authorities; turns TLS on."),
    Setting("MQTT_TLS_CERT", "mqtt_tls_cert", str, None, "File of the client's certificate."),
    Setting("MQTT_TLS_KEY", "mqtt_tls_key", str, None, "File of the certificate's key."),
    Setting(
        "ENVIRONMENT", "environment", str, "dev",
        "Activated at a start if it differs from the value at the previous start.",
    ),
    Setting("ALICIACFG_HTTP_HOST", "http_host", str, "127.0.0.1", "Address that HTTP listens on."),
    Setting("ALICIACFG_HTTP_PORT", "http_port", _ListenPort, "8026", "Port that HTTP listens on; 0 takes a free one."),
    Setting("ALICIACFG_TLS_CERT", "tls_cert", str, None, "File of the certificate for HTTPS; turns it on."),
    Setting(
        "ALICIACFG_TLS_KEY", "tls_key", str, None,
        "File of the certificate's key, if the key is not in the same file.",
    ),
    Setting(
        "ALICIACFG_HTTP_ALLOWED_HOSTS", "http_allowed_hosts", str, "",
        "Further names of this host, comma-separated.",
    ),
    Setting("ALICIACFG_DATA_DIR", "data_dir", str, "data", "Directory of the database and the keys."),
    Setting(
        "ALICIACFG_DATABASE_URL", "database_url", str, None,
        "Address of a PostgreSQL database (postgresql://user:password@host/name) that several daemons may share; "
        "without one the database is in the data directory.", secret=True,
    ),
    Setting(
        "ALICIACFG_REPLICA", "replica", str, None,
        "Name of this daemon among those that share a database; without one it is made of the host's name.",
    ),
    Setting(
        "ALICIACFG_KEY_ENCRYPTION_KEY_FILE", "key_encryption_key_file", str, None,
        "File of the key that wraps the keys in a database that several daemons share, the same on every machine; "
        "without one key-encryption.key in the data directory.",
    ),
    Setting("ALICIACFG_ENVIRONMENTS_DIR", "environments_dir", str, "environments", "Directory of environment files."),
    Setting("ALICIACFG_SCHEMAS_DIR", "schemas_dir", str, "schemas", "Directory of schema files."),
    Setting("ALICIACFG_CACHE_TTL_SECONDS", "cache_ttl_seconds", float, "300", "How long a cached answer is used."),
    Setting(
        "ALICIACFG_MAX_CONFIG_BYTES", "max_config_bytes", _Positive, "262144",
        "Largest size of a configuration as JSON.",
    ),
    Setting(
        "ALICIACFG_MAX_CONFIG_NODES", "max_config_nodes", _Positive, "5000",
        "Largest number of members and items in a configuration, at all levels together.",
    ),
    Setting("ALICIACFG_MAX_SECRETS", "max_secrets", _Positive, "250", "Largest number of secrets in a configuration."),
    Setting(
        "ALICIACFG_MAX_PACKET_BYTES", "max_packet_bytes", _PacketBytes, "2097152",
        "Largest MQTT packet that is sent or received.",
    ),
    Setting(
        "ALICIACFG_MAX_EVENT_STREAMS", "max_event_streams", _EventStreams, "100",
        "Largest number of clients that read events over HTTP at a time.",
    ),
    Setting(
        "ALICIACFG_MAX_SERVICES", "max_services", _Positive, "1000",
        "Largest number of services in an environment.",
    ),
    Setting(
        "ALICIACFG_MAX_UPDATES_PER_SECOND", "max_updates_per_second", _Positive, "5000",
        "How many configurations are published a second at most, when one edit changes very many.",
    ),
    Setting(
        "ALICIACFG_REPLY_PREFIXES", "reply_prefixes", str, "",
        "Prefixes of answer topics besides alicia/reply/, comma-separated.",
    ),
    Setting(
        "ALICIACFG_APPLY_GRACE_SECONDS", "apply_grace_seconds", float, "30",
        "How long a service may take to apply a revision before it counts as drift.",
    ),
    Setting(
        "ALICIACFG_VANISHED_FILE_SECONDS", "vanished_file_seconds", float, "10",
        "How long a file has to be missing or empty until it counts as removed.",
    ),
    Setting(
        "ALICIACFG_HISTORY_KEEP", "history_keep", _NotNegative, "1000",
        "How many revisions of each configuration are kept, the newest ones; 0: all.",
    ),
    Setting(
        "ALICIACFG_HISTORY_DAYS", "history_days", _Days, "0",
        "For how many days a revision is kept, the newest one always; 0: without end.",
    ),
    Setting(
        "ALICIACFG_AUDIT_KEEP", "audit_keep", _NotNegative, "100000",
        "How many entries of the audit log are kept, the newest ones; 0: all.",
    ),
    Setting(
        "ALICIACFG_AUDIT_DAYS", "audit_days", _Days, "0",
        "For how many days an entry of the audit log is kept; 0: without end.",
    ),
    Setting(
        "ALICIACFG_HOME_ASSISTANT", "home_assistant", Literal["on", "off"], "off",
        "on: services are devices of Home Assistant, by its MQTT discovery; off removes them.",
    ),
    Setting(
        "ALICIACFG_HOME_ASSISTANT_PREFIX", "home_assistant_prefix", str, "homeassistant",
        "Discovery prefix of Home Assistant's MQTT integration.",
    ),
    Setting(
        "ALICIACFG_HOME_ASSISTANT_STATUS_TOPIC", "home_assistant_status_topic", str, None,
        "Topic of Home Assistant's birth message; without one, the prefix and /status.",
    ),
    Setting(
        "ALICIACFG_HOME_ASSISTANT_USER", "home_assistant_user", str, "home_assistant",
        "Home Assistant's account at the broker, for the access list.",
    ),
    Setting(
        "ALICIACFG_HOME_ASSISTANT_FEATURES", "home_assistant_features", Literal["marked", "all"], "marked",
        "Which feature flags appear in Home Assistant: those that a schema marks with x-home-assistant, or all.",
    ),
    Setting(
        "ALICIACFG_HOME_ASSISTANT_ENVIRONMENTS", "home_assistant_environments", str, "",
        "Environments whose settings appear in Home Assistant, comma-separated; empty: all but protected ones.",
    ),
    Setting(
        "ALICIACFG_HOME_ASSISTANT_MAX_ENTITIES", "home_assistant_max_entities", _Positive, "1000",
        "How many entities appear in Home Assistant at most.",
    ),
    Setting(
        "ALICIACFG_HOME_ASSISTANT_CONSOLE_URL", "home_assistant_console_url", str, None,
        "Address of the console as browsers reach it, for links in Home Assistant; without one, where HTTP listens.",
    ),
    Setting(
        "ALICIACFG_ADMIN_TOKEN_FILE", "admin_token_file", str, None,
        "File of an administrator's token; created at the first start.",
    ),
    Setting(
        "ALICIACFG_PROTECTED_MODE", "protected_mode", Literal["on", "off"], "on",
        "off: answer other machines even without access rules and tokens.",
    ),
    Setting(
        "ALICIACFG_LOG_LEVEL", "log_level", Literal["debug", "info", "warning", "error"], "info",
        "Lowest severity that is logged.",
    ),
    Setting(
        "ALICIACFG_LOG_FORMAT", "log_format", Literal["auto", "console", "json"], "auto",
        "auto: console on a terminal and in the journal, JSON otherwise.",
    ),
)  # fmt: skip

# Beside each, the setting of its port.
_HOSTS = {"mqtt_broker": "MQTT_PORT", "http_host": "ALICIACFG_HTTP_PORT"}
_WITH_PORT = re.compile(r"[^:]*:[0-9]*|\[.*\]:[0-9]*")
_NO_HOST = re.compile(r"[/@\s]")
_HOST_EXPECTED = "expected a name or an IP address alone; port, user and password have settings of their own"

_BY_FIELD = {setting.field: setting for setting in SETTINGS}


class Settings(msgspec.Struct, frozen=True):
    """The values of the settings; ``SETTINGS`` describes them. Relative paths count from the working directory."""

    mqtt_broker: str
    mqtt_port: int
    mqtt_username: str
    mqtt_password: str | None
    mqtt_password_file: str | None
    mqtt_tls_ca: str | None
    mqtt_tls_cert: str | None
    mqtt_tls_key: str | None
    environment: str
    http_host: str
    http_port: int
    tls_cert: str | None
    tls_key: str | None
    http_allowed_hosts: str
    data_dir: str
    database_url: str | None
    replica: str | None
    key_encryption_key_file: str | None
    environments_dir: str
    schemas_dir: str
    cache_ttl_seconds: float
    max_config_bytes: int
    max_config_nodes: int
    max_secrets: int
    max_packet_bytes: int
    max_event_streams: int
    max_services: int
    max_updates_per_second: int
    reply_prefixes: str
    apply_grace_seconds: float
    vanished_file_seconds: float
    history_keep: int
    history_days: float
    audit_keep: int
    audit_days: float
    home_assistant: str
    home_assistant_prefix: str
    home_assistant_status_topic: str | None
    home_assistant_user: str
    home_assistant_features: Literal["marked", "all"]
    home_assistant_environments: str
    home_assistant_max_entities: int
    home_assistant_console_url: str | None
    admin_token_file: str | None
    protected_mode: str
    log_level: str
    log_format: str

    @property
    def document_limits(self) -> DocumentLimits:
        """What a configuration may hold."""
        return DocumentLimits(self.max_config_bytes, self.max_config_nodes, self.max_secrets)

    @property
    def reply_prefix_list(self) -> tuple[str, ...]:
        """The prefixes of ``reply_prefixes``."""
        return split_list(self.reply_prefixes)

    @property
    def home_assistant_status(self) -> str:
        """The topic on which Home Assistant announces that it started."""
        return self.home_assistant_status_topic or f"{self.home_assistant_prefix}/status"

    @property
    def home_assistant_environment_list(self) -> tuple[str, ...]:
        """The environments of ``home_assistant_environments``."""
        return split_list(self.home_assistant_environments)

    @property
    def allowed_host_list(self) -> tuple[str, ...]:
        """The names of ``http_allowed_hosts``."""
        return split_list(self.http_allowed_hosts)


@dataclass(frozen=True, slots=True)
class Resolved:
    """Settings, and the origin of each.

    Attributes:
        settings: The values.
        origins: Where each value comes from, by field.
    """

    settings: Settings
    origins: Mapping[str, Origin]

    def explicit(self, field: str) -> bool:
        """Return whether a field was set, by a flag, a variable or ``.env``."""
        return self.origins[field] != "default"


def read_dotenv(directory: Path) -> dict[str, str]:
    """Return the variables of the ``.env`` file of a directory; none if there is no file. ``${…}`` is not replaced.

    Raises:
        SettingsError: The file cannot be read, or lines of it; each with its line and without its value.
    """
    try:
        return dotenv_file.read(directory / dotenv_file.NAME)
    except SourceError as error:
        raise SettingsError(str(problem) for problem in error.problems) from error


def resolve(flags: Mapping[str, str], *, environ: Mapping[str, str], dotenv_values: Mapping[str, str]) -> Resolved:
    """Resolve every setting: a flag has priority over the environment, then ``.env``, then the default.

    Args:
        flags: The text of flags by field.
        environ: The environment of the process. An empty variable counts as not set.
        dotenv_values: The variables of ``.env``.

    Raises:
        SettingsError: Values are invalid; each with its name, what was found and what was expected.
    """
    values: dict[str, Any] = {}
    origins: dict[str, Origin] = {}
    messages: list[str] = []
    for setting in SETTINGS:
        text, origin = _find(setting, flags, environ, dotenv_values)
        origins[setting.field] = origin
        if text is None:
            values[setting.field] = None
            continue
        try:
            value = msgspec.convert(text, setting.type, strict=False)
            if isinstance(value, float) and not math.isfinite(value):
                raise msgspec.ValidationError("Expected a finite number")
            if setting.field in _CHECKS and (problem := _CHECKS[setting.field](text)):
                where = setting.flag if origin == "flag" else f"{setting.name} ({origin})"
                messages.append(f"{where}: {problem}")
            if setting.field in _HOSTS and (problem := _host_problem(setting, text)):
                where = setting.flag if origin == "flag" else f"{setting.name} ({origin})"
                messages.append(f"{where}: {problem}")
            values[setting.field] = value
        except msgspec.ValidationError as error:
            shown = "a secret" if setting.secret else repr(text)
            where = setting.flag if origin == "flag" else f"{setting.name} ({origin})"
            messages.append(f"{where}: found {shown}; {_expectation(setting, error)}")
    if not messages and (problem := names.environment_problem(values["environment"])):
        messages.append(f"ENVIRONMENT: {problem}")
    if messages:
        raise SettingsError(messages)
    return Resolved(Settings(**values), origins)


def describe(resolved: Resolved) -> list[dict[str, str | None]]:
    """Return a row for each setting with its value, default and origin; secrets are redacted."""
    rows: list[dict[str, str | None]] = []
    for setting in SETTINGS:
        value = getattr(resolved.settings, setting.field)
        shown = None if value is None else REDACTED if setting.secret else str(value)
        rows.append(
            {
                "name": setting.name,
                "flag": setting.flag,
                "value": shown,
                "default": setting.default,
                "from": resolved.origins[setting.field],
                "help": setting.help,
            }
        )
    return rows


def replace(resolved: Resolved, **changes: object) -> Resolved:
    """Return settings in which the program itself sets some fields, as ``--dev`` does."""
    return Resolved(msgspec.structs.replace(resolved.settings, **changes), resolved.origins)


def split_list(text: str) -> tuple[str, ...]:
    """Return the items of a comma-separated list without surrounding spaces; empty items are dropped."""
    return tuple(item.strip() for item in text.split(",") if item.strip())


def _find(
    setting: Setting, flags: Mapping[str, str], environ: Mapping[str, str], dotenv_values: Mapping[str, str]
) -> tuple[str | None, Origin]:
    if setting.field in flags:
        return flags[setting.field], "flag"
    if environ.get(setting.name):
        return environ[setting.name], "environment"
    if dotenv_values.get(setting.name):
        return dotenv_values[setting.name], ".env"
    return setting.default, "default"


def _host_problem(setting: Setting, text: str) -> str | None:
    """Return why a text is no host alone. It is not quoted: it may be an address that contains a password."""
    if _NO_HOST.search(text):
        return f"found no host; {_HOST_EXPECTED}"
    if _WITH_PORT.fullmatch(text):
        return f"found a host with a port; expected the host alone: the port is {_HOSTS[setting.field]}"
    return None


def database_url_problem(text: str) -> str | None:
    """Return why a text is no address of a database. It is not quoted: it may contain a password."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return _URL_EXPECTED
    named = bool(parts.path.strip("/")) or "dbname=" in parts.query
    hosts = parts.netloc.rpartition("@")[2].split(",")
    # An "@" behind the host: a password with a "/", "?" or "#" has ended it too early, and is taken for something else.
    whole = "@" not in parts.path and not parts.fragment
    usable = parts.scheme in {"postgresql", "postgres"} and named and whole and all(map(_is_server, hosts))
    return None if usable else _URL_EXPECTED


def _is_server(text: str) -> bool:
    """Return whether a text is a host, with or without a port."""
    found = _SERVER.fullmatch(text)
    return found is not None and (not found["port"] or 0 < int(found["port"]) <= _MAX_PORT)


def _replica_problem(text: str) -> str | None:
    if _REPLICA.fullmatch(text):
        return None
    return f"found {text[:80]!r}; expected 1 to 64 letters, digits, '_', '.' and '-', the first a letter or digit"


def _topic_problem(text: str) -> str | None:
    """Return why a text cannot be a topic, or the beginning of one, that is not one of the daemon's own."""
    levels = text.split("/")
    usable = all(levels) and not set("+#") & set(text) and text.isascii() and text.isprintable() and " " not in text
    if not usable or len(text) > _MAX_TOPIC or levels[0].startswith("$"):
        expected = f"expected a topic of at most {_MAX_TOPIC} characters without spaces, wildcards and empty levels"
        return f"found {text[:_MAX_TOPIC]!r}; {expected}, such as homeassistant"
    if levels[0] == "alicia":
        return f"found {text!r}; below alicia/ are the topics of the home itself; expected one such as homeassistant"
    return None


def _web_address_problem(text: str) -> str | None:
    try:
        parts = urlsplit(text)
    except ValueError:
        return _WEB_ADDRESS_EXPECTED
    usable = parts.scheme in {"http", "https"} and parts.hostname and "@" not in parts.netloc
    usable = usable and not (parts.query or parts.fragment)
    return None if usable and text.isprintable() and " " not in text else _WEB_ADDRESS_EXPECTED


_MAX_TOPIC = 100
_WEB_ADDRESS_EXPECTED = "expected an address such as http://alicia.local:8026, without user, query and fragment"
_URL_EXPECTED = (
    "found a secret; expected postgresql://user:password@host:port/name; percent-encode '/', '@', '?' and '#' in the "
    "password, '/' as %2F for example"
)
_SERVER = re.compile(r"(?:\[[^\[\]]*\]|[^\[\]:]*)(?::(?P<port>[0-9]{0,5}))?")
_MAX_PORT = 65535
_REPLICA = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_CHECKS: Mapping[str, Callable[[str], str | None]] = {
    "database_url": database_url_problem,
    "replica": _replica_problem,
    "home_assistant_prefix": _topic_problem,
    "home_assistant_status_topic": _topic_problem,
    "home_assistant_console_url": _web_address_problem,
}


def _expectation(setting: Setting, error: msgspec.ValidationError) -> str:
    if getattr(setting.type, "__origin__", None) is Literal:
        choices = cast("tuple[str, ...]", setting.type.__args__)
        return f"expected one of {', '.join(choices)}"
    text = str(error).replace(", got `str`", "").replace("`int`", "a whole number").replace("`float`", "a number")
    return text[:1].lower() + text[1:]


def variables(directory: Path) -> dict[str, str]:
    """Return the values of ``${NAME}`` in environment files: ``.env``, overridden by the process environment.

    Raises:
        SourceError: ``.env`` cannot be read, or lines of it.
    """
    return {**dotenv_file.read(directory / dotenv_file.NAME), **os.environ}
