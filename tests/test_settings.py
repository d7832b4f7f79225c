"""The daemon's own settings: their sources, their types, and the messages about wrong values."""

from pathlib import Path

import pytest

from aliciacfg import settings
from aliciacfg.errors import SettingsError
from aliciacfg.settings import (
    SETTINGS,
    Resolved,
    Setting,
    Settings,
    describe,
    resolve,
)

SECRET = "planted-password-3d90"
# What operators rely on: the variables of the contract with their defaults.
PROMISED = {
    "MQTT_BROKER": "alicia_bus_core",
    "MQTT_PORT": 1883,
    "MQTT_USERNAME": "config_service",
    "MQTT_PASSWORD": None,
    "MQTT_TLS_CA": None,
    "MQTT_TLS_CERT": None,
    "MQTT_TLS_KEY": None,
    "ENVIRONMENT": "dev",
    "ALICIACFG_HTTP_HOST": "127.0.0.1",
    "ALICIACFG_HTTP_PORT": 8026,
    "ALICIACFG_CACHE_TTL_SECONDS": 300,
    "ALICIACFG_MAX_CONFIG_BYTES": 256 * 1024,
    "ALICIACFG_MAX_CONFIG_NODES": 5_000,
    "ALICIACFG_MAX_SECRETS": 250,
    "ALICIACFG_PROTECTED_MODE": "on",
}
NAMED = {
    "ALICIACFG_DATA_DIR", "ALICIACFG_ENVIRONMENTS_DIR", "ALICIACFG_SCHEMAS_DIR", "ALICIACFG_MAX_SERVICES",
    "ALICIACFG_REPLY_PREFIXES", "ALICIACFG_LOG_LEVEL", "ALICIACFG_LOG_FORMAT",
}  # fmt: skip
BY_NAME = {setting.name: setting for setting in SETTINGS}


def resolved(environ: dict[str, str] | None = None, **flags: str) -> Resolved:
    return resolve(flags, environ=environ or {}, dotenv_values={})


def refused(environ: dict[str, str] | None = None, **flags: str) -> str:
    with pytest.raises(SettingsError) as caught:
        resolved(environ, **flags)
    return str(caught.value)


def test_with_nothing_said_the_defaults_are_those_promised():
    """Every variable of the contract has its default, which counts as unset."""
    found = resolved()
    assert PROMISED.keys() | NAMED <= BY_NAME.keys()
    assert {name: getattr(found.settings, BY_NAME[name].field) for name in PROMISED} == PROMISED
    assert set(found.origins.values()) == {"default"}
    assert not any(found.explicit(setting.field) for setting in SETTINGS)


def test_a_flag_beats_the_environment_beats_dotenv_beats_the_default():
    """And each value says where it came from."""
    flags, environ, dotenv_values = {}, {}, {}
    seen: list[tuple[int, str]] = []
    for source, value in ((None, ""), (dotenv_values, "1001"), (environ, "1002"), (flags, "1003")):
        if source is not None:
            source["mqtt_port" if source is flags else "MQTT_PORT"] = value
        found = resolve(flags, environ=environ, dotenv_values=dotenv_values)
        seen.append((found.settings.mqtt_port, found.origins["mqtt_port"]))
        assert found.explicit("mqtt_port") is (source is not None)
    assert seen == [(1883, "default"), (1001, ".env"), (1002, "environment"), (1003, "flag")]


def test_an_empty_variable_counts_as_not_set():
    """Compose passes unset variables as empty ones: the next source decides. An empty flag is a choice."""
    found = resolve({}, environ={"MQTT_BROKER": "", "MQTT_PORT": ""}, dotenv_values={"MQTT_BROKER": "from-dotenv"})
    assert (found.settings.mqtt_broker, found.origins["mqtt_broker"]) == ("from-dotenv", ".env")
    assert (found.settings.mqtt_port, found.origins["mqtt_port"]) == (1883, "default")
    assert resolved(mqtt_password="").settings.mqtt_password == ""
    assert "--mqtt-port" in refused(mqtt_port="")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("MQTT_PORT", "65535", 65535),
        ("ALICIACFG_HTTP_PORT", "0", 0),
        ("ALICIACFG_CACHE_TTL_SECONDS", "0.5", 0.5),
        ("ALICIACFG_CACHE_TTL_SECONDS", "0", 0),
        ("MQTT_PASSWORD", "0123", "0123"),
        ("MQTT_PASSWORD", "true", "true"),
        ("MQTT_PASSWORD", "null", "null"),
        ("MQTT_BROKER", "1883", "1883"),
        ("ALICIACFG_LOG_LEVEL", "debug", "debug"),
        ("ALICIACFG_PROTECTED_MODE", "off", "off"),
    ],
)
def test_texts_become_the_types_of_their_settings(name: str, text: str, value: object):
    """Numbers where a number is meant; a password of digits stays the text that it is."""
    found = getattr(resolved({name: text}).settings, BY_NAME[name].field)
    assert (found, type(found) is str) == (value, type(value) is str)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("MQTT_PORT", "0"), ("MQTT_PORT", "65536"), ("MQTT_PORT", "-1"), ("MQTT_PORT", "mqtt"), ("MQTT_PORT", "1883.5"),
        ("MQTT_PORT", " 1883"), ("MQTT_PORT", "true"), ("ALICIACFG_HTTP_PORT", "65536"),
        ("ALICIACFG_MAX_CONFIG_BYTES", "0"), ("ALICIACFG_MAX_SERVICES", "many"), ("ALICIACFG_CACHE_TTL_SECONDS", "5m"),
        ("ALICIACFG_LOG_LEVEL", "loud"), ("ALICIACFG_LOG_FORMAT", "xml"), ("ALICIACFG_PROTECTED_MODE", "0"),
        ("ENVIRONMENT", "base"), ("ENVIRONMENT", "dev-secrets"), ("ENVIRONMENT", "a/b"), ("ENVIRONMENT", "../x"),
        ("ALICIACFG_CACHE_TTL_SECONDS", "nan"),
    ],
)  # fmt: skip
def test_what_a_setting_cannot_be_is_refused_by_its_variable(name: str, text: str):
    """The message names the variable and quotes what was found."""
    told = refused({name: text})
    assert told.startswith(name)
    assert repr(text) in told


@pytest.mark.parametrize("text", ["127.0.0.1:18840", "broker:", "[::1]:1883"])
def test_a_host_with_its_port_is_told_where_the_port_goes(text: str):
    """To the setting of the port; an address of IPv6 alone is a host."""
    assert "the port is MQTT_PORT" in refused({"MQTT_BROKER": text})
    assert resolved({"MQTT_BROKER": "::1"}).settings.mqtt_broker == "::1"


def test_a_choice_is_told_with_its_alternatives():
    """The message lists the levels that exist."""
    told = refused({"ALICIACFG_LOG_LEVEL": "INFO"})
    assert all(level in told for level in ("debug", "info", "warning", "error"))


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("MQTT_PORT", "mqtt", "expected a whole number"),
        ("MQTT_PORT", "70000", "expected a whole number <= 65535"),
        ("ALICIACFG_CACHE_TTL_SECONDS", "5m", "expected a number"),
    ],
)
def test_what_a_number_has_to_be_is_told_in_words(name: str, text: str, expected: str):
    """No type of a programming language."""
    assert refused({name: text}).endswith(expected)


def test_what_is_wrong_is_told_of_every_setting_and_where_it_was_said():
    """All in one go: by flag where a flag said it, else by variable with its source."""
    with pytest.raises(SettingsError) as caught:
        resolve(
            {"http_port": "x", "mqtt_password": SECRET},
            environ={"MQTT_PORT": "y", "MQTT_PASSWORD": SECRET},
            dotenv_values={"ALICIACFG_MAX_SERVICES": "z"},
        )
    first, second, third = sorted(caught.value.messages)
    assert first.startswith("--http-port: found 'x'")
    assert second.startswith("ALICIACFG_MAX_SERVICES (.env): found 'z'")
    assert third.startswith("MQTT_PORT (environment): found 'y'")
    assert SECRET not in str(caught.value)


def test_a_wrong_secret_is_not_quoted(monkeypatch: pytest.MonkeyPatch):
    """The message about a secret setting of any type holds only its name."""
    row = Setting("MQTT_PASSWORD", "mqtt_password", int, None, "Password at the broker.", secret=True)
    table = tuple(row if setting.name == row.name else setting for setting in SETTINGS)
    monkeypatch.setattr(settings, "SETTINGS", table)
    told = refused({"MQTT_PASSWORD": SECRET})
    assert "MQTT_PASSWORD" in told
    assert SECRET not in told


def test_the_table_shows_everything_but_secrets():
    """Names, values, defaults and origins of all settings; of the password only that there is one."""
    rows = {row["name"]: row for row in describe(resolved({"MQTT_PASSWORD": SECRET, "MQTT_PORT": "1884"}))}
    assert rows.keys() == BY_NAME.keys()
    assert (rows["MQTT_PORT"]["value"], rows["MQTT_PORT"]["default"], rows["MQTT_PORT"]["from"]) == (
        "1884",
        "1883",
        "environment",
    )
    assert (rows["MQTT_PASSWORD"]["value"], rows["MQTT_PASSWORD"]["from"]) == ("***", "environment")
    assert SECRET not in str(rows)
    assert describe(resolved())[3]["value"] is None


def test_every_row_is_documented_and_leads_to_a_field_and_a_flag():
    """One line of help each, names that are used once, and exactly the fields there are."""
    assert [setting.field for setting in SETTINGS] == list(Settings.__struct_fields__)
    assert len(BY_NAME) == len(SETTINGS)
    for setting in SETTINGS:
        assert setting.help.endswith(".")
        assert "\n" not in setting.help
        assert setting.flag == "--" + setting.field.replace("_", "-")
        assert setting.name == setting.name.upper()
        assert setting.secret == (setting.name.endswith("PASSWORD") or setting.name == "ALICIACFG_DATABASE_URL")


@pytest.mark.parametrize(
    ("text", "items"),
    [("", ()), (" , ,", ()), ("a", ("a",)), (" a/, b/ ,,c ", ("a/", "b/", "c")), ("a b", ("a b",))],
)
def test_lists_are_separated_by_commas(text: str, items: tuple[str, ...]):
    """Blanks around items and empty items do not count: an empty prefix would allow every topic."""
    found = resolved({"ALICIACFG_REPLY_PREFIXES": text, "ALICIACFG_HTTP_ALLOWED_HOSTS": text}).settings
    assert found.reply_prefix_list == items
    assert found.allowed_host_list == items


def test_the_program_may_decide_itself_without_pretending_that_somebody_did():
    """As --dev does: the value changes, its origin does not."""
    changed = settings.replace(resolved(), mqtt_broker="127.0.0.1")
    assert changed.settings.mqtt_broker == "127.0.0.1"
    assert not changed.explicit("mqtt_broker")


def test_a_dotenv_file_is_read_literally(tmp_path: Path):
    """Quotes and export are syntax, ${…} is not."""
    (tmp_path / ".env").write_text("# c\nA=1\nexport B='x y'\nC=${A}\nD=\nF=\"$A\"\n", "utf-8")
    assert settings.read_dotenv(tmp_path) == {"A": "1", "B": "x y", "C": "${A}", "D": "", "F": "$A"}


def test_without_a_dotenv_file_there_is_nothing(tmp_path: Path):
    """Missing, or a directory of that name."""
    assert settings.read_dotenv(tmp_path) == {}
    (tmp_path / ".env").mkdir()
    assert settings.read_dotenv(tmp_path) == {}


def test_a_dotenv_file_that_cannot_be_read_is_refused_without_its_content(tmp_path: Path):
    """Not UTF-8: the message names the file and holds nothing of what is in it."""
    (tmp_path / ".env").write_bytes(f"MQTT_PASSWORD={SECRET}\xe9\n".encode("latin-1"))
    with pytest.raises(SettingsError, match=r"^\.env") as caught:
        settings.read_dotenv(tmp_path)
    assert SECRET not in str(caught.value)


def test_variables_in_files_come_from_the_process_before_dotenv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Both are there, the process environment above."""
    (tmp_path / ".env").write_text("TEST_ALICIACFG_A=dotenv\nTEST_ALICIACFG_B=dotenv\n")
    monkeypatch.setenv("TEST_ALICIACFG_A", "process")
    monkeypatch.delenv("TEST_ALICIACFG_B", raising=False)
    found = settings.variables(tmp_path)
    assert (found["TEST_ALICIACFG_A"], found["TEST_ALICIACFG_B"]) == ("process", "dotenv")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://cfg:hunter2@db/alicia", "postgres://db:5432/alicia", "postgresql:///alicia?host=/run/postgresql",
        "postgresql://db?dbname=alicia", "postgresql://cfg:hunter2@h1:5432,h2:5433/db", "postgresql://h1,[::1]:5432/db",
        "postgresql://cfg:hun%2Fter%402@h1/db", "postgresql://%2Frun%2Fpostgresql/db",
    ],
)  # fmt: skip
def test_the_address_of_a_database_is_taken_and_never_shown(url: str):
    """It may contain a password."""
    found = resolved({"ALICIACFG_DATABASE_URL": url})
    assert found.settings.database_url == url
    (row,) = [row for row in describe(found) if row["name"] == "ALICIACFG_DATABASE_URL"]
    assert row["value"] == "***"


@pytest.mark.parametrize(
    "url",
    [
        "mysql://cfg:hunter2@db/alicia", "hunter2@db", "postgresql://cfg:hunter2@db", "postgresql://hunter2:x/y",
        "postgresql://cfg:1/hunter2@db/alicia", "postgresql://cfg:1/x#hunter2@db/alicia", "postgresql://h1:0/hunter2",
        "postgresql://h1:5432,h2:65536/hunter2", "postgresql://[hunter2@db/alicia",
    ],
)  # fmt: skip
def test_what_is_no_address_of_a_database_is_refused_without_quoting_it(url: str):
    """The message says what is expected."""
    with pytest.raises(SettingsError) as error:
        resolved({"ALICIACFG_DATABASE_URL": url})
    assert "ALICIACFG_DATABASE_URL (environment): found a secret; expected postgresql://" in str(error.value)
    assert "percent-encode" in str(error.value)
    assert "hunter2" not in str(error.value)


def test_the_name_of_a_replica_is_one_word():
    """As names of services are."""
    assert resolved({"ALICIACFG_REPLICA": "rack-2.a"}).settings.replica == "rack-2.a"
    with pytest.raises(SettingsError, match=r"ALICIACFG_REPLICA .*found 'rack 2'; expected"):
        resolved({"ALICIACFG_REPLICA": "rack 2"})
