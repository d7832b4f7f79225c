"""Environment and schema files: watched, and loaded as a whole or not at all."""

import asyncio
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aliciacfg.documents import yaml_reader
from daemons import Daemon, serving
from machine import wait_until
from mqtt_clients import client

# The services of its daemons.
HOME_SERVICES = ("tts_service", "voice_router")


def edit(path: Path, *replacements: tuple[str, str]) -> str:
    """Replace parts of a file; returns what it was."""
    before = path.read_text()
    after = before
    for old, new in replacements:
        assert old in after, old
        after = after.replace(old, new, 1)
    path.write_text(after)
    return before


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


def write_files(daemon: Daemon) -> None:
    """Three services in place of the home's."""
    daemon.prepare()
    for file in daemon.environments.iterdir():
        file.unlink()
    for file in (daemon.directory / "schemas").iterdir():
        file.unlink()
    (daemon.environments / "base.yaml").write_text(
        "# what all share\n"
        "defaults:\n"
        "  mqtt_config: {host: broker, port: 1883, password: shared-secret}\n"
        "  api_config: {host: 0.0.0.0, port: 8000}\n"
        "  settings:\n"
        "    color: red\n"
        "services:\n"
        "  one:\n"
        "    settings: {size: 1}\n"
        "  two:\n"
        "    settings: {size: 2, color: blue}\n"
        "  three: {}\n"
    )
    (daemon.environments / "dev.yaml").write_text("defaults:\n  settings:\n    level: low\n")


@pytest.fixture
def home(make_daemon: Callable[..., Daemon]) -> Daemon:
    """A daemon on these files, of the test's own."""
    daemon = make_daemon()
    write_files(daemon)
    return daemon.start()


@pytest.fixture(scope="module")
def restored_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon on these files for tests that restore what they edit."""
    with serving(tmp_path_factory.mktemp("restored_home"), write_files) as made:
        yield made


def revisions(daemon: Daemon) -> dict[str, int]:
    return {item["service"]: item["revision"] for item in daemon.http("GET", "/configs").json["configs"]}


def wait_taken(daemon: Daemon, times: int) -> None:
    wait_until(lambda: len(daemon.logged("files_loaded")) >= times, why="the edit is taken over")


def wait_refused(daemon: Daemon, times: int) -> None:
    wait_until(lambda: len(daemon.logged("files_refused")) >= times, why="the edit is refused")


async def test_an_edit_reaches_the_services_that_inherit_the_key_and_no_other(home: Daemon):
    """A default changed in base.yaml reaches the services that do not override it, over the bus too."""
    async with client(home.broker_port) as mqtt:
        await mqtt.retained("alicia/config/update/#")
        await mqtt.subscribe("alicia/config/update/#")
        for _ in range(3):
            await mqtt.next()
        edit(home.environments / "base.yaml", ("color: red", "color: green"))
        changed = {(await mqtt.next()).json["service"]: None for _ in range(2)}
        assert set(changed) == {"one", "three"}
        assert await mqtt.silence(0.3) == []
    assert home.config("one")["config"]["settings"] == {"color": "green", "level": "low", "size": 1}
    assert home.config("two")["config"]["settings"]["color"] == "blue"
    assert revisions(home) == {"one": 2, "two": 1, "three": 2}


def test_an_edit_reaches_every_key_that_nobody_overrode_at_run_time(home: Daemon):
    """Values set at run time stay; all others follow the files."""
    document = home.config("one")["config"]
    document["settings"]["size"] = 99
    assert home.http("PUT", "/config/one", document).json["changed"] == ["/settings/size"]
    edit(home.environments / "base.yaml", ("color: red", "color: green"), ("size: 1", "size: 5"))
    wait_taken(home, 1)
    assert home.config("one")["config"]["settings"] == {"color": "green", "level": "low", "size": 99}
    back = home.http("POST", "/config/one/unset", {"pointer": "/settings/size"}).json
    assert back["config"]["settings"]["size"] == 5


@pytest.mark.parametrize(
    ("file", "text", "reported"),
    [
        ("base.yaml", "services: [", "base.yaml"),
        ("dev.yaml", "defaults:\n  mqtt_config: {host: broker, port: 70000}\n", "/mqtt_config/port"),
        ("base.yaml", "defaults:\n  a: ${NOT_SET_ANYWHERE}\n", "NOT_SET_ANYWHERE"),
        ("base.yaml", "frobs: {}\n", "base.yaml:1: this key is not known here"),
        ("base.yaml", "services:\n  one: !!python/object:os.system {}\n", "tag"),
        ("base.yaml", "services:\n  one: {}\n  one: {}\n", "base.yaml:3: duplicate key"),
        ("dev.yaml", "services:\n  'a b': {}\n", "dev.yaml:2: this key cannot name a service"),
        ("dev.yaml", "protected: maybe\n", "protected"),
        ("dev.yaml", "services:\n  one: {service_name: two}\n", "/service_name"),
        ("dev.yaml", "services:\n  one: {settings: {n: .nan}}\n", "dev.yaml:2"),
        ("dev.yaml", "services:\n  one: {version: one}\n", "/version"),
    ],
)
def test_a_broken_edit_is_refused_and_reported_whole(restored_home: Daemon, file: str, text: str, reported: str):
    """It reaches no service, names the file, and the old configuration serves on until it is restored_home."""
    before = restored_home.http("GET", "/configs?include=config").json["configs"]
    taken, refusals = (len(restored_home.logged(event)) for event in ("files_loaded", "files_refused"))
    path = restored_home.environments / file
    kept = path.read_text()
    path.write_text(text)
    try:
        wait_refused(restored_home, refusals + 1)
        refused = " ".join(restored_home.logged("files_refused")[refusals]["problems"])
        assert reported in refused
        assert file in refused or "services/" in refused
        listed = restored_home.http("GET", "/configs?include=config").json
        assert listed["configs"] == before
        assert listed["refused_edits"]
        health = restored_home.http("GET", "/health").json
        assert health["status"] == "degraded"
        assert "validation_failed" in health["alerts"]
    finally:
        path.write_text(kept)
        wait_taken(restored_home, taken + 1)
    assert restored_home.http("GET", "/health").json["status"] == "healthy"


def test_a_file_emptied_by_accident_does_not_end_every_configuration(home: Daemon):
    """When no file names a service any more the edit is refused, and says how it would have to be meant."""
    (home.environments / "base.yaml").write_text("")
    wait_refused(home, 1)
    assert "3 were defined" in home.logged("files_refused")[0]["problems"][0]
    assert revisions(home) == {"one": 1, "two": 1, "three": 1}


def test_all_problems_of_an_edit_are_listed_with_file_and_line(home: Daemon):
    """Two services made invalid by two lines give two problems that name these lines."""
    path = home.environments / "base.yaml"
    edit(path, ("settings: {size: 1}", "api_config: {port: x}"), ("three: {}", "three: {mqtt_config: {host: ''}}"))
    wait_refused(home, 1)
    reported = home.logged("files_refused")[0]["problems"]
    lines = path.read_text().splitlines()
    first = next(number for number, line in enumerate(lines, 1) if "port: x" in line)
    second = next(number for number, line in enumerate(lines, 1) if "host: ''" in line)
    assert any(f"base.yaml:{first}" in text and "/api_config/port" in text for text in reported)
    assert any(f"base.yaml:{second}" in text and "/mqtt_config/host" in text for text in reported)
    # Health has the alert about it and the drift; the log says it once.
    wait_until(lambda: home.http("GET", "/health").json["drift"] == 1)
    assert "validation_failed" in home.http("GET", "/health").json["alerts"]
    assert len([line for line in home.log.read_text().splitlines() if "base.yaml" in line]) == 1


async def test_the_alert_of_a_refused_edit_names_every_problem(home: Daemon):
    """The alert on the bus has all problems, and no secret."""
    async with client(home.broker_port) as mqtt:
        await mqtt.subscribe("alicia/config/alert/#")
        edit(home.environments / "base.yaml", ("port: 1883", "port: 0"))
        alert = await mqtt.next()
    assert alert.topic == "alicia/config/alert/validation_failed"
    assert len(alert.json["problems"]) == 3
    assert b"shared-secret" not in alert.payload


def test_a_broken_schema_is_refused_and_a_good_one_is_taken(home: Daemon):
    """A schema that would make a stored configuration invalid keeps the old one serving."""
    schemas = home.directory / "schemas"
    (schemas / "one.yaml").write_text(
        "type: object\nproperties:\n  settings:\n    properties: {size: {type: string}}\n"
    )
    wait_refused(home, 1)
    assert "/settings/size" in " ".join(home.logged("files_refused")[0]["problems"])
    (schemas / "one.yaml").write_text(
        "type: object\nproperties:\n  settings:\n    properties:\n      size: {type: integer}\n"
        "      shape: {type: string, default: round}\n"
    )
    wait_taken(home, 1)
    assert home.config("one")["config"]["settings"]["shape"] == "round"
    assert revisions(home)["two"] == 1


def test_a_service_added_to_and_removed_from_the_files_comes_and_goes(home: Daemon):
    """An added service is configured; a removed one is deleted, unless changes made at run time refuse the edit."""
    path = home.environments / "dev.yaml"
    append(path, "services:\n  four: {}\n")
    wait_taken(home, 1)
    assert revisions(home)["four"] == 1
    home.http("PATCH", "/config/four", {"settings": {"x": 1}})
    edit(path, ("services:\n  four: {}\n", ""))
    wait_refused(home, 1)
    assert "four" in " ".join(home.logged("files_refused")[0]["problems"])
    home.http("DELETE", "/config/four?allow_breaking=true")
    # The daemon tries refused files again by itself, and may be first.
    assert home.http("POST", "/reload").json["changed"] in (["four"], [])
    assert home.http("GET", "/config/four").status == 404


def test_variables_come_from_the_environment_and_dotenv(make_daemon: Callable[..., Daemon]):
    """The process environment beats .env; an edit of .env is loaded."""
    daemon = make_daemon(environ={"FROM_PROCESS": "process"})
    dotenv = daemon.directory / ".env"
    dotenv.write_text("FROM_PROCESS=dotenv\nFROM_DOTENV=41\n")
    append(
        daemon.environments / "dev.yaml",
        "",
    )
    path = daemon.environments / "base.yaml"
    path.write_text(
        path.read_text().replace(
            "\ndefaults:\n", "\ndefaults:\n  probe: ['${FROM_PROCESS}']\n  number: ${FROM_DOTENV}\n", 1
        )
    )
    daemon.start()
    config = daemon.config("voice_router")["config"]
    assert (config["probe"], config["number"]) == (["process"], 41)
    dotenv.write_text("FROM_DOTENV=42\n")
    wait_taken(daemon, 1)
    assert daemon.config("voice_router")["config"]["number"] == 42


def test_reload_answers_what_changed_or_everything_that_is_wrong(home: Daemon):
    """The operation loads the files immediately, and answers with the changes or the problems."""
    assert home.http("POST", "/reload").json["changed"] == []
    path = home.environments / "dev.yaml"
    kept = path.read_text()
    path.write_text("services:\n  one: {api_config: 5}\n  two: {api_config: 6}\n")
    refused = home.http("POST", "/reload")
    assert refused.status == 422
    assert len(refused.json["problems"]) == 2
    path.write_text(kept)
    assert home.http("POST", "/reload").status == 200


def test_an_invalid_inactive_environment_is_shown_and_hurts_nobody(home: Daemon):
    """Its problems stand in `environments`; the active one goes on changing."""
    (home.environments / "prod.yaml").write_text("services:\n  one: {api_config: 5}\n")
    wait_taken(home, 1)
    found = {item["name"]: item for item in home.http("GET", "/environments").json["environments"]}
    assert found["dev"]["problems"] == []
    assert any("/api_config" in problem["pointer"] for problem in found["prod"]["problems"])
    assert home.http("GET", "/config/one?environment=prod").status == 404
    assert home.http("GET", "/config/two?environment=prod").status == 200
    assert home.http("GET", "/health").json["status"] == "healthy"


def test_a_first_start_with_invalid_files_prints_every_problem_and_fails(make_daemon: Callable[..., Daemon]):
    """Nothing was ever recorded, so there is nothing to serve: exit code 8 and the whole list."""
    daemon = make_daemon()
    edit(daemon.environments / "base.yaml", ("port: 1883", "port: 0"))
    (daemon.environments / "dev.yaml").write_text("")
    daemon.spawn()
    assert daemon.wait_exit() == 8
    log = daemon.log.read_text()
    assert log.count("/mqtt_config/password") >= len(HOME_SERVICES)
    assert "base.yaml" in log


@pytest.mark.sqlite("the files that serve a home of several daemons are in the database: test_files_of_replicas.py")
def test_a_later_start_with_invalid_files_serves_the_last_revisions(home: Daemon):
    """The daemon is degraded: reads and retained messages as before, no writes; repairing the file ends it."""
    before = home.http("GET", "/configs?include=config").json["configs"]
    home.stop()
    path = home.environments / "base.yaml"
    kept = path.read_text()
    path.write_text("services: [")
    home.start()
    listed = home.http("GET", "/configs?include=config").json
    assert (listed["configs"], len(listed["refused_edits"])) == (before, 1)
    assert home.http("GET", "/health").json["status"] == "degraded"
    assert home.http("PATCH", "/config/one", {"settings": {"x": 1}}).status == 503
    path.write_text(kept)
    wait_taken(home, 1)
    assert home.http("PATCH", "/config/one", {"settings": {"x": 1}}).status == 200


async def test_another_environment_setting_activates_that_environment(home: Daemon):
    """An ENVIRONMENT that differs from the previous start's is activated for every service."""
    (home.environments / "staging.yaml").write_text("defaults:\n  settings: {level: high}\n")
    await asyncio.to_thread(wait_taken, home, 1)
    await asyncio.to_thread(home.stop)
    home.environ["ENVIRONMENT"] = "staging"
    await asyncio.to_thread(home.start)
    assert "environment staging" in home.ready_line
    async with client(home.broker_port) as mqtt:
        found = await mqtt.retained("alicia/config/update/#")
        assert {message.json["environment"] for message in found.values()} == {"staging"}
        assert {message.json["config"]["settings"]["level"] for message in found.values()} == {"high"}
        environment = await mqtt.retained("alicia/config/environment")
        assert environment["alicia/config/environment"].json["environment"] == "staging"


def test_a_protected_environment_wants_the_expected_revision(home: Daemon):
    """Without it a write is a conflict that reports the revision; with it the write succeeds."""
    append(home.environments / "dev.yaml", "protected: true\n")
    wait_taken(home, 1)
    refused = home.http("PATCH", "/config/one", {"settings": {"x": 1}})
    assert (refused.status, refused.json["revision"]) == (409, 1)
    assert "expected_revision" in refused.json["message"]
    assert home.http("PATCH", "/config/one?expected_revision=1", {"settings": {"x": 1}}).status == 200


async def test_a_daemon_takes_a_refused_schema_by_itself_once_the_configuration_fits(daemon: Daemon):
    """Alerts report the problem and its end; the file need not be edited a second time."""
    file = daemon.directory / "schemas" / "tts_service.yaml"
    environment = daemon.environments / "prod.yaml"
    environment.write_text((daemon.environments / "dev.yaml").read_text())
    await asyncio.to_thread(wait_until, lambda: daemon.logged("files_loaded"))
    write = daemon.http("PATCH", "/config/tts_service?environment=prod", {"limits": {"voices": 5}})
    assert write.status == 200
    document = yaml_reader.load(file.read_text(), file="x").value
    assert isinstance(document, dict)
    properties = document["properties"]
    assert isinstance(properties, dict)
    properties["limits"] = {"properties": {"voices": {"type": "integer", "minimum": 10}}}
    async with client(daemon.broker_port) as mqtt:
        await mqtt.subscribe("alicia/config/alert/validation_failed", "alicia/config/alert/drift")
        file.write_text(json.dumps({**document, "version": "1.1.0"}))
        alert = (await mqtt.until("alicia/config/alert/validation_failed")).json
        assert "tts_service in prod: /limits/voices" in alert["message"]
        assert (await mqtt.until("alicia/config/alert/drift")).json["message"].startswith("schemas/tts_service.yaml")
    assert daemon.http("GET", "/health").json["status"] == "degraded"
    assert daemon.http("GET", "/config/schema/tts_service").json["version"] == "1.0.0"
    assert daemon.http("PATCH", "/config/tts_service?environment=prod", {"limits": {"voices": 15}}).status == 200
    await asyncio.to_thread(
        wait_until, lambda: daemon.http("GET", "/config/schema/tts_service").json["version"] == "1.1.0"
    )
    await asyncio.to_thread(wait_until, lambda: daemon.http("GET", "/health").json["status"] == "healthy")
    assert daemon.http("PATCH", "/config/tts_service", {"limits": {"voices": 5}}).status == 422


def test_sighup_reads_the_environment_files_again(daemon: Daemon):
    """Without a certificate too; a failed reload is reported."""
    daemon.hang_up("files_loaded")
    (daemon.environments / "dev.yaml").write_text("services: [\n")
    daemon.hang_up("files_refused")
    assert daemon.config("voice_router")["revision"] == 1


def test_no_schema_shows_what_is_elsewhere(daemon: Daemon):
    """A link to the keys, a FIFO and a huge file are refused; the other schemas are served."""

    def large(path: Path) -> None:
        with path.open("wb") as file:
            file.truncate(300 * 1024 * 1024)

    path = daemon.directory / "schemas" / "leak.yaml"
    kept = daemon.key_file.read_bytes()
    private = json.loads(kept)["keys"][0]["private"].encode() if kept.startswith(b"{") else kept.strip()
    for make in (lambda path: path.symlink_to(daemon.key_file), os.mkfifo, large):
        make(path)
        refused = daemon.http("POST", "/reload")
        assert refused.status == 422
        assert "schemas/leak.yaml" in refused.json["problems"][0]["message"]
        assert daemon.http("GET", "/config/tts_service").status == 200
        for place in ("/config/schema/leak", "/health", "/environments"):
            assert private not in daemon.http("GET", place).body
        path.unlink()
    assert daemon.http("POST", "/reload").status == 200


def test_a_schema_may_be_a_link_inside_its_directory(daemon: Daemon):
    """As Kubernetes mounts files: to a directory beside them that is replaced as a whole."""
    schemas = daemon.directory / "schemas"
    (schemas / "..2026").mkdir()
    (schemas / "tts_service.yaml").rename(schemas / "..2026" / "tts_service.yaml")
    (schemas / "..data").symlink_to("..2026")
    (schemas / "tts_service.yaml").symlink_to("..data/tts_service.yaml")
    assert daemon.http("POST", "/reload").status == 200


def test_an_edit_that_keeps_size_and_time_is_loaded(restored_home: Daemon):
    """As rsync, git and some editors leave it; also with a time in the past, and through a link."""
    path = restored_home.environments / "base.yaml"
    before = path.read_text()
    status = path.stat()

    def size() -> int:
        return restored_home.config("one")["config"]["settings"]["size"]

    path.write_text(before.replace("size: 1", "size: 7"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    wait_until(lambda: size() == 7)
    path.write_text(before.replace("size: 1", "size: 8"))
    os.utime(path, ns=(1, 1))
    wait_until(lambda: size() == 8)
    other = path.with_name("base.other")
    other.write_text(before.replace("size: 1", "size: 9"))
    os.utime(other, ns=(1, 1))
    link = path.with_name("base.link")
    link.symlink_to(other.name)
    link.rename(path)
    wait_until(lambda: size() == 9)
    other.rename(path)
    path.write_text(before)
    wait_until(lambda: size() == 1)


async def test_a_file_that_is_away_for_a_moment_ends_no_service(make_daemon: Callable[..., Daemon]):
    """It is told at once; replaced files are not away; what stays away counts as removed after its time."""
    home = make_daemon(environ={"ALICIACFG_VANISHED_FILE_SECONDS": "3600"})
    write_files(home)
    shared = "defaults:" + (home.environments / "base.yaml").read_text().split("defaults:")[1].split("services:")[0]
    (home.environments / "dev.yaml").write_text(shared + "services: {four: {}}\n")
    await asyncio.to_thread(home.start)
    base = home.environments / "base.yaml"
    text = base.read_text()

    def alerts() -> dict[str, str]:
        return home.http("GET", "/health").json["alerts"]

    for empty in (False, True):
        base.write_text("") if empty else base.unlink()
        await asyncio.to_thread(wait_until, lambda: "file_vanished" in alerts())
        assert "environments/base.yaml" in alerts()["file_vanished"]
        assert home.http("POST", "/reload").status == 422
        assert home.config("one")["revision"] == 1
        base.write_text(text)
        await asyncio.to_thread(wait_until, lambda: not alerts())
    new = base.with_suffix(".new")
    new.write_text(text.replace("size: 1", "size: 5"))
    new.replace(base)
    await asyncio.to_thread(wait_until, lambda: home.config("one")["config"]["settings"]["size"] == 5)
    assert home.config("two")["revision"] == 1
    assert home.stop() == 0
    assert not [event for event in home.logged("alert") if event["kind"] not in {"file_vanished", "drift"}]
    home.environ["ALICIACFG_VANISHED_FILE_SECONDS"] = "1"
    await asyncio.to_thread(home.start)
    base.unlink()
    await asyncio.to_thread(wait_until, lambda: home.http("GET", "/config/one").status == 404)
    assert home.config("four")["revision"] == 1
    await asyncio.to_thread(wait_until, lambda: alerts() == {})
