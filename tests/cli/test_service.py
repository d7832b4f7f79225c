"""``aliciacfg service add``: what it writes, and what it refuses before it writes anything."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from aliciacfg.cli import service
from aliciacfg.documents import find, yaml_reader
from aliciacfg.model import names
from aliciacfg.sources.new_home import lay_out
from command_runs import run


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new home, in which commands run."""
    lay_out(tmp_path, "door_bell")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files_of(home: Path) -> dict[str, str]:
    return {str(path.relative_to(home)): path.read_text() for path in home.rglob("*") if path.is_file()}


def services(home: Path, file: str) -> dict[str, Any]:
    value = find(yaml_reader.load((home / "environments" / file).read_text(), file=file).value, "/services")
    assert isinstance(value, dict)
    return value


def test_a_service_is_added_below_the_others(home: Path):
    """With its settings, and a schema that describes them; nothing else changes, and the home stays valid."""
    before = files_of(home)
    done = run("service", "add", "lamp", "--setting", "room=hall", "--setting", "watts=5", "--schema")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["schema"] == "schemas/lamp.yaml"
    after = files_of(home)
    added = "  lamp:\n    settings:\n      room: hall\n      watts: 5\n"
    assert after["environments/base.yaml"] == before["environments/base.yaml"] + added
    assert after.keys() - before.keys() == {"schemas/lamp.yaml"}
    assert json.loads(run("check").stdout)["files"]["valid"] == 4


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(("given", "shown"), [("garden", '"VALUE"'), ("21", "22"), ("2.5", "3.5"), ("true", "false")])
def test_the_example_of_a_change_changes_something(given: str, shown: str):
    """It names the first setting, with another value than the one that was just given."""
    done = run("service", "add", "lamp", "--setting", f"zone={given}", "-o", "table")
    assert f'aliciacfg patch lamp \'{{"settings": {{"zone": {shown}}}}}\'' in done.stdout, done.output


def test_a_number_that_is_whole_today_need_not_be_tomorrow(home: Path):
    """The schema that is written accepts both."""
    assert run("service", "add", "lamp", "--setting", "celsius=21", "--schema").exit_code == 0
    place = "/services/lamp/settings/celsius"
    assert run("file", "set", str(home / "environments" / "dev.yaml"), place, "21.5").exit_code == 0
    assert json.loads(run("check").stdout)["files"]["problems"] == []


def test_a_service_that_connects_has_a_password_in_every_environment(home: Path):
    """Made and sealed; one for one environment only has it there only."""
    done = run("service", "add", "lamp", "--mqtt", "broker.home:1884", "--port", "8100")
    files = ["environments/dev-secrets.yaml", "environments/prod-secrets.yaml"]
    assert json.loads(done.stdout)["passwords"] == files, done.stderr
    assert services(home, "base.yaml")["lamp"] == {
        "api_config": {"host": "0.0.0.0", "port": 8100},
        "mqtt_config": {"host": "broker.home", "port": 1884},
    }
    assert services(home, "prod-secrets.yaml")["lamp"]["mqtt_config"]["password"].startswith("sealed:v1:")
    assert run("service", "add", "fan", "--mqtt", "broker", "-e", "prod").exit_code == 0
    assert "fan" in services(home, "prod-secrets.yaml")
    assert "fan" not in services(home, "dev-secrets.yaml")
    found = json.loads(run("check").stdout)["files"]
    assert (found["valid"], found["problems"]) == (5, [])


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["get"], 2, "is an operation"), (["a b"], 2, "begins with a letter"), (["door_bell"], 5, "in environments"),
        ([], 2, "NAME"), (["x", "-e", "nowhere"], 3, "there are: dev, prod"), (["x", "--port", "0"], 2, "1 and 65535"),
        (["x", "--mqtt", "level=007"], 2, "expected HOST"), (["x", "--mqtt", "h:"], 2, "expected HOST"),
        (["x", "--mqtt", "h:0"], 2, "from 1 to 65535"), (["x", "--mqtt", "mqtt://h"], 2, "expected HOST"),
        (["x", "--setting", "a"], 2, "NAME=VALUE"), (["x", "--setting", "a={"], 2, "not JSON"),
        (["x", "--setting", "api_key=k"], 2, "secret set x /settings/api_key"),
        (["x", "--setting", "url=http://u:pw@h/"], 2, "x-sensitive: true in its schema"),
        (["x", "--setting", 'a={"b": {"password": "pw"}}'], 2, "secret set x /settings/a/b/password"),
    ],
)  # fmt: skip
def test_what_cannot_be_added_changes_nothing(home: Path, arguments: list[str], code: int, words: str):
    """Taken and reserved names, and what is no value; the message says what is expected."""
    before = files_of(home)
    done = run("service", "add", *arguments)
    assert (done.exit_code, words in done.stderr) == (code, True), done.stderr
    assert files_of(home) == before


def test_the_result_is_checked_before_a_file_changes(home: Path):
    """Against a schema that is there already; a provider's key cannot be made, and is named."""
    schema = "properties: {settings: {required: [room, api_key], properties: {room: {enum: [hall]}}}}\n"
    (home / "schemas" / "lamp.yaml").write_text(schema)
    before = files_of(home)
    done = run("service", "add", "lamp", "--setting", "room=attic")
    assert done.exit_code == 4
    assert "/settings/room in dev, prod: found a string" in done.stderr
    assert "/settings/api_key in prod: is missing" in done.stderr
    assert "hint: on a terminal the command asks" in done.stderr
    assert files_of(home) == before
    taken = run("service", "add", "lamp", "--schema")
    assert (taken.exit_code, "leave out --schema" in taken.stderr) == (5, True)


def test_a_dry_run_writes_nothing(home: Path):
    """Nor does it make a key."""
    before = files_of(home)
    done = run("service", "add", "lamp", "--setting", "watts=5", "--schema", "--dry-run")
    assert json.loads(done.stdout)["dry_run"] is True
    assert files_of(home) == before


def test_what_is_wrong_with_a_file_already_is_no_reason_to_refuse(home: Path):
    """A variable of prod that is not set: the service is added, and nothing new is wrong."""
    (home / "environments" / "prod-secrets.yaml").write_text("services: {door_bell: {settings: {pin: '${UNSET}'}}}\n")
    done = run("service", "add", "lamp", "--setting", "watts=5")
    assert done.exit_code == 0, done.stderr
    assert "lamp" in services(home, "base.yaml")


def test_a_home_whose_files_cannot_be_read_gets_no_service(home: Path):
    """The next start would not take it: those of the active environment, or of the one that it is for."""
    dev, prod = (home / "environments" / f"{name}.yaml" for name in ("dev", "prod"))
    before = dev.read_text()
    dev.write_text(f"{before}\n  bad: [1\n")
    (home / "lamp.env").write_text("WATTS=5\n")
    commands = (["service", "add", "lamp", "--setting", "watts=5"], ["import", "lamp.env", "--service", "lamp"])
    for command in commands:
        done = run(*command)
        assert (done.exit_code, "environments/dev.yaml:" in done.stderr) == (4, True), done.output
    assert "lamp" not in (home / "environments" / "base.yaml").read_text()
    dev.write_text(before)
    prod.write_text("bad: [1\n")
    assert run("service", "add", "lamp", "--setting", "watts=5", "-e", "prod").exit_code == 4
    assert run("service", "add", "lamp", "--setting", "watts=5").exit_code == 0


def test_a_port_that_another_service_has_is_warned_of(home: Path):
    """By ``check``, too, at its line; another address of the machine is another port."""
    for name in ("one", "two"):
        done = run("service", "add", name, "--port", "8100")
        assert done.exit_code == 0
        assert ("one and two" in done.stderr or "two and one" in done.stderr) is (name == "two")
    warnings = json.loads(run("check").stdout)["files"]["warnings"]
    assert [(item["file"], item["pointer"]) for item in warnings] == [
        ("environments/base.yaml", "/services/two/api_config/port")
    ]
    base = home / "environments" / "base.yaml"
    place = "/services/one/api_config/host"
    assert run("file", "set", str(base), place, "127.0.0.2").exit_code == 0
    assert run("file", "set", str(base), place.replace("one", "two"), "127.0.0.1").exit_code == 0
    assert "warnings" not in json.loads(run("check").stdout)["files"]


def test_what_a_schema_says_to_be_secret_is_not_written_in_the_open(home: Path):
    """Whatever its name is; the command that sets it is named."""
    (home / "schemas" / "lock.yaml").write_text(
        "properties: {settings: {properties: {pin: {type: string, x-sensitive: true}}}}\n"
    )
    before = files_of(home)
    done = run("service", "add", "lock", "--setting", 'pin="1234"')
    assert (done.exit_code, "aliciacfg secret set lock /settings/pin" in done.stderr) == (2, True), done.output
    assert files_of(home) == before


def test_a_wrong_answer_is_told_without_the_option(home: Path, monkeypatch: pytest.MonkeyPatch):
    """A question asks for a broker or a setting, and not for an option."""
    monkeypatch.setattr(service, "sys", SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True)))
    answers = "kitchen lamp\nkitchen_lamp\n70000\n\na=1\n\nroom\nroom=hall\n\nmaybe\nn\n"
    done = run("-o", "table", "service", "add", stdin=answers)
    assert done.exit_code == 0, done.stderr
    said = [line.rpartition("error: ")[2] for line in done.stderr.splitlines() if "error: " in line]
    assert said == [
        names.service_problem("kitchen lamp"),
        "found '70000'; expected a number from 1 to 65535",
        "'a=1': expected HOST or HOST:PORT; the password is made here",
        "'room': expected NAME=VALUE",
        "found 'maybe'; expected y or n",
    ]
    assert services(home, "base.yaml")["kitchen_lamp"] == {"settings": {"room": "hall"}}
