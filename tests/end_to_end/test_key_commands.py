"""``aliciacfg keys``, ``seal`` and ``seal-file``, against a real daemon, its data directory, and a terminal."""

import asyncio
import json
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aliciacfg.sealing import boxes
from aliciacfg.sealing.boxes import PrivateKey, PublicKey, is_sealed
from aliciacfg.sealing.key_file import KeyFile
from aliciacfg.sealing.sealed_documents import reseal
from aliciacfg.storage.hash_chain import Chain
from aliciacfg.storage.sqlite.maintenance import key_ids_in_file, reseal_file, verify_file
from aliciacfg.storage.store import StoreError
from brokers import Broker
from commands import aliciacfg, typed
from daemons import Daemon, files_under
from machine import free_port, wait_until
from mqtt_clients import client
from repository import ROOT

# The services of its daemons.
HOME_SERVICES = ("advanced_voice", "ai_service", "ha_bridge", "load_balancer", "service_orchestrator", "voice_router")

SECRET = "planted-by-hand-5e1f"


class Person:
    """A person at the command line, with a configuration directory of their own."""

    def __init__(self, daemon: Daemon, home: Path) -> None:
        self.daemon = daemon
        self.pins = home / "aliciacfg" / "known_keys"
        self.environ = {**daemon.environment(), "XDG_CONFIG_HOME": str(home), "TERM": "xterm", "COLUMNS": "160"}

    def run(self, *arguments: str, stdin: str | bytes = "", http: bool = False) -> subprocess.CompletedProcess[str]:
        return aliciacfg(self.daemon, *arguments, stdin=stdin, http=http, environ=self.environ)

    def type(self, *arguments: str, keys: str = "") -> str:
        """What a person sees who types ``keys``, the echo included."""
        return typed(self.daemon, *arguments, keys=keys, environ=self.environ)


@pytest.fixture
def person(shared: Daemon, tmp_path: Path) -> Person:
    return Person(shared, tmp_path / "config")


@pytest.fixture
def stopped(make_daemon: Callable[..., Daemon], tmp_path: Path) -> Person:
    """A person beside a data directory without a running daemon."""
    return Person(make_daemon(), tmp_path / "config")


def published(daemon: Daemon) -> dict[str, str]:
    return daemon.http("GET", "/keys/current").json


@pytest.mark.parametrize("http", [False, True])
def test_a_sealed_value_goes_into_a_write(person: Person, http: bool):
    """The sealed value, made over both transports, has the same effect as the value on standard input."""
    service = "advanced_voice" if http else "service_orchestrator"
    bound = ["--service", service, "-e", "dev", "--pointer", "/mqtt_config/password"]
    done = person.run("seal", *bound, stdin=f"{SECRET}\n", http=http)
    assert done.returncode == 0, done.stderr
    box = done.stdout.strip()
    assert boxes.sealed_with(box) == published(person.daemon)["key_id"]
    written = person.run("patch", service, "-", stdin=json.dumps({"mqtt_config": {"password": box}}), http=http)
    assert json.loads(written.stdout)["changed"] == ["/mqtt_config/password"]
    again = person.run("patch", service, json.dumps({"mqtt_config": {"password": SECRET}}), http=http)
    assert json.loads(again.stdout)["unchanged"] is True
    moved = person.run("patch", "load_balancer", json.dumps({"mqtt_config": {"password": box}}), http=http)
    assert moved.returncode == 4
    assert "bound to another service" in moved.stderr


def key_of(person: Person) -> tuple[PrivateKey, Path]:
    """Return a new key, and a file with its public part."""
    key = PrivateKey.generate()
    file = person.daemon.directory / "public.json"
    file.write_text(json.dumps({"key_id": key.public.key_id, "public_key": str(key.public)}))
    return key, file


def test_a_secret_is_typed_twice_and_not_shown(person: Person):
    """The terminal shows the sealed box, and nothing of the secret."""
    key, file = key_of(person)
    seen = person.type("seal", "--service", "*", "--key-file", str(file), keys=f"{SECRET}\n{SECRET}\n")
    assert SECRET not in seen
    box = next(line for line in seen.splitlines() if is_sealed(line))
    assert key.open(box, service="x", environment="any", pointer="/any", shared=True) == SECRET


@pytest.mark.parametrize("http", [False, True])
def test_a_changed_key_is_refused_until_it_is_accepted(person: Person, http: bool):
    """The first key is pinned and reported; a different pinned key simulates a replaced one."""
    current = published(person.daemon)["key_id"]
    seal = ["seal", "--service", "a"]
    first = person.run(*seal, stdin="x", http=http)
    assert f"{current}; it is pinned now" in first.stderr
    assert person.run(*seal, stdin="x", http=http).stderr == ""
    (line,) = person.pins.read_text().splitlines()
    address = person.daemon.url if http else f"mqtt://127.0.0.1:{person.daemon.broker_port}"
    assert line == f"{address} {current}"
    person.pins.write_text(line.replace(current, "0" * 16) + "\n")
    refused = person.run(*seal, stdin="x", http=http)
    assert (refused.returncode, refused.stdout) == (5, "")
    assert f"--accept-new-key {current}" in refused.stderr
    wrong = person.run(*seal, "--accept-new-key", "1" * 16, stdin="x", http=http)
    assert (wrong.returncode, wrong.stdout) == (5, "")
    accepted = person.run(*seal, "--accept-new-key", current, stdin="x", http=http)
    assert boxes.sealed_with(accepted.stdout.strip()) == current
    assert person.run(*seal, stdin="x", http=http).returncode == 0


async def test_a_replaced_retained_key_is_not_sealed_for(daemon: Daemon, tmp_path: Path):
    """An account that may write to the broker could publish its own key; a pinned key reveals that."""
    person = Person(daemon, tmp_path / "config")
    assert (await asyncio.to_thread(person.run, "seal", "--service", "a", stdin="x")).returncode == 0
    await asyncio.to_thread(daemon.kill)
    other = PrivateKey.generate().public
    async with client(daemon.broker_port) as mqtt:
        for content, code in (
            ({"key_id": other.key_id, "public_key": str(other)}, 5),
            ({"key_id": published_key_id(person), "public_key": str(other)}, 4),
            ({"nonsense": 1}, 4),
        ):
            await mqtt.publish("alicia/config/key", json.dumps(content), retain=True)
            refused = await asyncio.to_thread(person.run, "seal", "--service", "a", stdin="x")
            assert (refused.returncode, refused.stdout) == (code, ""), refused.stderr


def published_key_id(person: Person) -> str:
    return person.pins.read_text().split()[1]


def test_without_a_daemon_there_is_no_key(person: Person, broker: Broker):
    """A broker without a key and a closed port both exit with 7."""
    arguments = ["--timeout", "0.5", "--broker", f"127.0.0.1:{broker.port}", "seal", "--service", "a"]
    unreachable = person.run(*arguments, stdin="x")
    assert (unreachable.returncode, unreachable.stdout) == (7, "")
    assert "alicia/config/key" in unreachable.stderr
    away = person.run("--http", f"http://127.0.0.1:{free_port()}", "seal", "--service", "a", stdin="x")
    assert (away.returncode, away.stdout) == (7, "")


async def test_a_sealed_file_means_the_same(daemon: Daemon, tmp_path: Path):
    """The file is edited in place and keeps its mode; the daemon sees no change, and no value is printed."""
    person = Person(daemon, tmp_path / "config")
    path = daemon.environments / "dev-secrets.yaml"
    path.write_text(f"# mine\nservices:\n  ha_bridge:\n    settings: {{ha_token: {SECRET}}}  # theirs\n")
    path.chmod(0o640)
    await asyncio.to_thread(wait_until, lambda: daemon.config("ha_bridge")["revision"] == 2, why="the file is taken")
    before = daemon.config("ha_bridge")
    done = await asyncio.to_thread(person.run, "seal-file", str(path), http=True)
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert printed["sealed"] == ["/services/ha_bridge/settings/ha_token"]
    assert printed["key_id"] == published(daemon)["key_id"]
    text = path.read_text()
    assert SECRET not in text + done.stdout + done.stderr
    assert text.startswith("# mine\n")
    assert text.endswith("}  # theirs\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert daemon.http("POST", "/reload").json["changed"] == []
    assert daemon.config("ha_bridge") == before
    again = await asyncio.to_thread(person.run, "seal-file", str(path))
    assert (json.loads(again.stdout)["kept"], path.read_text()) == (printed["sealed"], text)


def test_sealing_a_file_reports_what_it_left_alone(person: Person, tmp_path: Path):
    """It prints places and notes with file and line, never a value."""
    _, file = key_of(person)
    path = tmp_path / "prod-secrets.yaml"
    path.write_text(f'services:\n  x:\n    token: "${{TOKEN}}"\n    password: {SECRET}\n')
    seen = person.type("seal-file", str(path), "--key-file", str(file), "--schemas-dir", str(ROOT / "schemas"))
    assert "sealed /services/x/password" in seen
    assert f"{path}:3: /services/x/token contains ${{…}}" in " ".join(seen.split())
    assert "1 sealed, 0 were sealed before" in seen
    assert SECRET not in seen


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("x.yaml.example", "a: b\n", "not an environment file"),
        ("prod.yaml", "services: [\n", "prod.yaml:1"),
        ("prod.yaml", f"services: {{a: {{token: &x {SECRET}}}, b: {{token: *x}}}}\n", "aliases repeat"),
    ],
)
def test_a_file_that_cannot_be_sealed_stays(person: Person, tmp_path: Path, name: str, text: str, words: str):
    """The file stays unchanged, and the message names the line."""
    _, file = key_of(person)
    path = tmp_path / name
    path.write_text(text)
    done = person.run("seal-file", str(path), "--key-file", str(file))
    assert done.returncode == 4
    assert words in done.stderr
    assert SECRET not in done.stderr
    assert path.read_text() == text


def keys(person: Person) -> list[dict[str, Any]]:
    done = person.run("keys", "show")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["keys"]


@pytest.mark.sqlite("its keys are in the database, wrapped: tests/storage/test_shared_keys.py")
def test_keys_are_shown_while_the_daemon_runs(person: Person):
    """Only public parts are printed, in the form that seal accepts."""
    shown = json.loads(person.run("keys", "show").stdout)
    assert {name: shown[name] for name in ("key_id", "public_key")} == published(person.daemon)
    private = json.loads((person.daemon.data / "keys.json").read_bytes())
    seen = person.type("keys", "show")
    assert shown["key_id"] in seen
    assert "seals" in seen
    for secret in (private["digest_key"], *(key["private"] for key in private["keys"])):
        assert secret not in seen + json.dumps(shown)
    sealed = person.run("seal", "--service", "a", "--key-file", json.dumps(shown), stdin="x")
    assert boxes.sealed_with(sealed.stdout.strip()) == shown["key_id"]


@pytest.mark.sqlite("its keys are in the database, wrapped: tests/storage/test_shared_keys.py")
def test_a_running_daemon_changes_its_keys_itself(daemon: Daemon, tmp_path: Path):
    """Everything stored is resealed with the new key; unused keys can be removed, the current one cannot."""
    person = Person(daemon, tmp_path)
    old = published(daemon)["key_id"]
    daemon.http("PATCH", "/config/voice_router", {"mqtt_config": {"password": "of-the-router"}})
    history = daemon.http("GET", "/config/voice_router/history").json["revisions"]
    rotated = json.loads(person.run("keys", "rotate").stdout)
    new = published(daemon)["key_id"]
    assert new != old
    assert [(key["key_id"], key["current"], key["in_use"]) for key in rotated["keys"]] == [
        (old, False, False), (new, True, True),
    ]  # fmt: skip
    assert daemon.http("GET", "/config/voice_router/history").json["revisions"] == history
    assert daemon.http("POST", "/config/voice_router/rollback", {"revision": 1}).status == 200
    assert key_ids_in_file(daemon.data / "aliciacfg.db") == {new}
    assert person.run("keys", "remove", new).returncode == 5
    assert person.run("keys", "remove", old).returncode == 0
    other = PrivateKey.generate()
    assert person.run("keys", "add", stdin=other.reveal()).returncode == 0
    assert other.public.key_id in {key["key_id"] for key in keys(person)}
    refused = person.run("keys", "new")
    assert (refused.returncode, "runs (pid " in refused.stderr, "stop it" in refused.stderr) == (9, True, True)


@pytest.mark.sqlite("keys that daemons share are changed by a daemon that runs")
def test_the_first_key_can_be_made_before_the_first_start(stopped: Person):
    """`new` makes the first key of a data directory, and further ones; the daemon uses them."""
    assert stopped.run("keys", "show").returncode == 1
    for arguments in (["rotate"], ["add"], ["remove", "0" * 16]):
        refused = stopped.run("keys", *arguments, stdin=PrivateKey.generate().reveal())
        assert (refused.returncode, stopped.daemon.data.exists()) == (1, False)
        assert "keys new" in refused.stderr
    first = json.loads(stopped.run("keys", "new").stdout)
    second = json.loads(stopped.run("keys", "new").stdout)
    assert [(key["key_id"], key["seals"]) for key in keys(stopped)] == [
        (first["key_id"], False),
        (second["key_id"], True),
    ]
    stopped.daemon.start()
    assert published(stopped.daemon) == second


def test_a_private_key_is_added_from_standard_input_a_terminal_or_a_backup(stopped: Person, tmp_path: Path):
    """The key opens and does not seal; an invalid key is refused and not quoted."""
    stopped.run("keys", "new")
    current = keys(stopped)[0]["key_id"]
    piped, typed = PrivateKey.generate(), PrivateKey.generate()
    assert stopped.run("keys", "add", stdin=f"{piped.reveal()}\n").returncode == 0
    seen = stopped.type("keys", "add", keys=f"{typed.reveal()}\n")
    assert f"{typed.public.key_id} opens from now on" in seen
    assert typed.reveal() not in seen
    path = tmp_path / "backup.json"
    backup = KeyFile.create(path, now=5.0)
    assert stopped.run("keys", "add", "--from", str(path)).returncode == 0
    assert "there already" in stopped.type("keys", "add", "--from", str(path))
    expected = [current, piped.public.key_id, typed.public.key_id, backup.make_keyring().current]
    assert [key["key_id"] for key in keys(stopped)] == expected
    assert [key["seals"] for key in keys(stopped)] == [True, False, False, False]
    assert keys(stopped)[3]["created"] == 5.0
    mistyped = piped.reveal()[:-5]
    refused = stopped.run("keys", "add", stdin=mistyped)
    assert refused.returncode == 4
    assert mistyped not in refused.stderr
    path.chmod(0o644)
    assert "chmod 600" in stopped.run("keys", "add", "--from", str(path)).stderr


@pytest.mark.sqlite("keys that daemons share are changed by a daemon that runs")
async def test_after_a_rotation_the_old_key_can_be_removed(daemon: Daemon, tmp_path: Path):
    """Overlay and history are resealed, also after a crash of the daemon, and nothing else changes."""
    person = Person(daemon, tmp_path / "config")
    for value in (SECRET, f"{SECRET}-2"):
        daemon.http("PATCH", "/config/ai_service", {"mqtt_config": {"password": value}})
    before, history = daemon.config("ai_service"), daemon.http("GET", "/config/ai_service/history").json
    old = published(daemon)["key_id"]
    await asyncio.to_thread(daemon.kill)
    refused = await asyncio.to_thread(person.run, "keys", "remove", old)
    assert refused.returncode == 5
    assert "keys rotate" in refused.stderr
    rotated = await asyncio.to_thread(person.run, "keys", "rotate")
    assert rotated.returncode == 0, rotated.stderr
    new = json.loads(rotated.stdout)["key_id"]
    assert new != old
    removed = await asyncio.to_thread(person.run, "keys", "remove", old)
    assert removed.returncode == 0, removed.stderr
    assert [key["key_id"] for key in await asyncio.to_thread(keys, person)] == [new]
    await asyncio.to_thread(daemon.start)
    assert published(daemon)["key_id"] == new
    assert daemon.config("ai_service") == before
    assert daemon.http("GET", "/config/ai_service/history").json == history
    assert daemon.http("GET", "/health").json["alerts"] == {}
    assert daemon.http("GET", "/drift").json["drift"] == []
    back = daemon.http("POST", "/config/ai_service/rollback", {"revision": 2})
    assert (back.status, back.json["changed"]) == (200, ["/mqtt_config/password"])
    same = daemon.http("PATCH", "/config/ai_service", {"mqtt_config": {"password": SECRET}})
    assert same.json["unchanged"] is True


@pytest.mark.sqlite("its keys are in the database, wrapped: tests/storage/test_shared_keys.py")
async def test_a_rotation_of_the_store_is_all_or_none(daemon: Daemon, tmp_path: Path):
    """Interrupted, it reseals no row; run again, it reseals all, and the chain still confirms them."""
    for value in ("1", "2", "3"):
        daemon.http("PATCH", "/config/ai_service", {"mqtt_config": {"password": value}})
    await asyncio.to_thread(daemon.stop)
    file = KeyFile.load(daemon.data / "keys.json")
    old, new = file.make_keyring().current, file.rotate(now=1.0)
    database, chain = daemon.data / "aliciacfg.db", Chain(file.make_keyring())
    done = 0

    def ends_in_the_middle(document: bytes, environment: str, service: str) -> bytes:
        nonlocal done
        done += 1
        if done > 5:
            raise KeyboardInterrupt
        return reseal(document, file.make_keyring(), service=service, environment=environment).document

    with pytest.raises(KeyboardInterrupt):
        reseal_file(database, chain, ends_in_the_middle)
    assert key_ids_in_file(database) == {old}
    done = -100
    reseal_file(database, chain, ends_in_the_middle)
    assert key_ids_in_file(database) == {new}
    findings = verify_file(database, chain)
    assert (findings.broken, findings.unreadable) == ([], 0)
    (tmp_path / "none.db").write_text("no database, but long enough to be taken for one" * 100)
    with pytest.raises(StoreError, match=r"none\.db"):
        key_ids_in_file(tmp_path / "none.db")


@pytest.mark.sqlite("keys that daemons share are changed by a daemon that runs")
async def test_a_key_that_a_file_is_sealed_with_is_kept(daemon: Daemon, tmp_path: Path):
    """A rotation does not change files, so their key stays until they are resealed; the refusal names the file."""
    person = Person(daemon, tmp_path / "config")
    path = daemon.environments / "dev-secrets.yaml"
    path.write_text(f"services: {{ha_bridge: {{settings: {{ha_token: {SECRET}}}}}}}\n")
    assert (await asyncio.to_thread(person.run, "seal-file", str(path), http=True)).returncode == 0
    old = published(daemon)["key_id"]
    await asyncio.to_thread(daemon.stop)
    assert (await asyncio.to_thread(person.run, "keys", "rotate")).returncode == 0
    refused = await asyncio.to_thread(person.run, "keys", "remove", old)
    assert refused.returncode == 5
    assert "dev-secrets.yaml" in refused.stderr
    await asyncio.to_thread(daemon.start)
    assert daemon.http("GET", "/health").json["alerts"] == {}
    assert daemon.config("ha_bridge")["config"]["settings"]["ha_token"] == "***"


@pytest.mark.sqlite("its keys are in the database, wrapped: tests/storage/test_shared_keys.py")
async def test_what_a_rotation_cannot_open_stays_and_is_reported(daemon: Daemon, tmp_path: Path):
    """After a key is lost, everything else is resealed; the lost key can be added later."""
    person = Person(daemon, tmp_path / "config")
    daemon.http("PATCH", "/config/ai_service", {"mqtt_config": {"password": SECRET}})
    await asyncio.to_thread(daemon.stop)
    lost = daemon.data / "keys.json"
    lost.rename(tmp_path / "lost.json")
    await asyncio.to_thread(person.run, "keys", "new")
    rotated = await asyncio.to_thread(person.run, "keys", "rotate")
    assert rotated.returncode == 0
    assert "cannot be opened, left as it is: ai_service in dev: /mqtt_config/password" in rotated.stderr
    await asyncio.to_thread(person.run, "keys", "add", "--from", str(tmp_path / "lost.json"))
    again = await asyncio.to_thread(person.run, "keys", "rotate")
    assert (again.returncode, again.stderr) == (0, "")
    await asyncio.to_thread(daemon.start)
    assert "undecryptable:dev" not in daemon.http("GET", "/health").json["alerts"]
    same = daemon.http("PATCH", "/config/ai_service", {"mqtt_config": {"password": SECRET}})
    assert same.json["unchanged"] is True


async def test_secrets_of_the_command_line_are_in_no_file(daemon: Daemon, tmp_path: Path):
    """No file contains a secret that was sealed, typed or resealed."""
    person = Person(daemon, tmp_path / "config")
    box = (await asyncio.to_thread(person.run, "seal", "--service", "ai_service", stdin=SECRET)).stdout.strip()
    daemon.http("PATCH", "/config/ai_service", {"settings": {"openai_api_key": box}})
    await asyncio.to_thread(daemon.stop)
    await asyncio.to_thread(person.run, "keys", "rotate")
    for path in [*files_under(daemon.directory), *files_under(tmp_path / "config")]:
        assert SECRET.encode() not in path.read_bytes(), path
    assert PublicKey.from_published(json.loads((await asyncio.to_thread(person.run, "keys", "show")).stdout))


def test_a_key_that_was_made_before_is_registered_and_not_made_anew(daemon: Daemon, tmp_path: Path):
    """The same command takes the file that is there, as it is; one without a key is refused."""
    file = tmp_path / "voice_router.key"
    made = aliciacfg(daemon, "recipient", "new", "voice_router", "--no-register", "--key-file", str(file))
    text = file.read_text()
    told = aliciacfg(daemon, "recipient", "new", "voice_router", "--key-file", str(file))
    assert told.returncode == 0, told.stderr
    registered = json.loads(told.stdout)
    assert (registered["registered"], registered["key_id"]) == (True, json.loads(made.stdout)["key_id"])
    assert file.read_text() == text
    assert registered["key_id"] in json.dumps(daemon.config("voice_router"))
    file.write_text("# nothing\n")
    empty = aliciacfg(daemon, "recipient", "new", "voice_router", "--key-file", str(file))
    assert (empty.returncode, "holds no key" in empty.stderr) == (2, True)
