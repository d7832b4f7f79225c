"""``aliciacfg import``: a program's file becomes settings and sealed secrets of a service."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from aliciacfg.documents import find, yaml_reader
from aliciacfg.sources.new_home import lay_out
from command_runs import run

ENV = "BOT_TOKEN=123:planted\nCHAT_ID=-100\nDEBUG=true\nDATABASE_URL=postgres://bot:planted@db/bot\nPASSWORD=planted\n"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new home beside a program's file of variables, in which commands run."""
    lay_out(tmp_path, "door_bell")
    (tmp_path / "bot.env").write_text(ENV)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files_of(home: Path) -> dict[str, str]:
    return {str(path.relative_to(home)): path.read_text() for path in home.rglob("*") if path.is_file()}


def settings_of(path: Path, service: str) -> Any:
    return find(yaml_reader.load(path.read_text(), file=str(path)).value, f"/services/{service}/settings")


def test_a_file_of_variables_becomes_a_service(home: Path):
    """Open values typed, secrets sealed, each with its variable in a schema; the home is valid."""
    before = files_of(home)
    trial = run("import", "bot.env", "--service", "bot", "--dry-run")
    assert json.loads(trial.stdout)["dry_run"] is True
    assert files_of(home) == before
    done = run("import", "bot.env", "--service", "bot")
    told = json.loads(done.stdout)
    assert [item["from"] for item in told["secrets"]] == ["BOT_TOKEN", "DATABASE_URL", "PASSWORD"]
    assert [item["value"] for item in told["values"]] == [-100, True]
    assert told["notes"][0]["message"].endswith("taken as a secret, as a whole")
    found = settings_of(home / "environments" / "base.yaml", "bot")
    assert found == {"chat_id": -100, "debug": True}
    for environment in ("dev", "prod"):
        sealed = settings_of(home / "environments" / f"{environment}-secrets.yaml", "bot")
        assert all(sealed[name].startswith("sealed:v1:") for name in ("bot_token", "database_url", "password"))
    checked = json.loads(run("check").stdout)["files"]
    assert (checked["valid"], checked["problems"]) == (4, [])
    kept = {name: text for name, text in files_of(home).items() if "planted" in text}
    assert kept == {"bot.env": ENV}
    assert "planted" not in done.output + trial.output
    schema = yaml_reader.load((home / "schemas" / "bot.yaml").read_text(), file="bot").value
    assert find(schema, "/properties/settings/properties/database_url") == {
        "type": "string", "x-env": "DATABASE_URL", "x-sensitive": True,
    }  # fmt: skip


def test_values_that_are_there_are_replaced_only_when_that_is_asked_for(home: Path):
    """The same ones are no conflict; each other one is named."""
    assert run("import", "bot.env", "--service", "bot", "-e", "prod").exit_code == 0
    before = files_of(home)
    (home / "more.json").write_text('{"chat_id": 7, "debug": true, "extra": [1, 2]}')
    refused = run("import", "more.json", "--service", "bot", "-e", "prod")
    assert (refused.exit_code, "--replace" in refused.stderr) == (5, True)
    assert refused.stderr.count("has another value") == 1
    assert {name: text for name, text in files_of(home).items() if name != "more.json"} == before
    assert run("import", "more.json", "--service", "bot", "-e", "prod", "--replace").exit_code == 0
    found = settings_of(home / "environments" / "prod.yaml", "bot")
    assert (found["chat_id"], found["extra"]) == (7, [1, 2])
    assert settings_of(home / "environments" / "prod-secrets.yaml", "bot").keys() == {
        "bot_token", "database_url", "password",
    }  # fmt: skip


def test_the_variables_of_a_file_without_any_can_begin_as_the_program_wants_them(home: Path):
    """Also that of a secret that is not taken, which is set later; only a new schema can name them."""
    (home / "z.yaml").write_text("mqtt: {base_topic: z, password: !secret pw}\nadvanced: {channel: 15}\n")
    done = run("import", "z.yaml", "--service", "z", "--env-prefix", "Z_CONFIG_")
    assert done.exit_code == 0, done.output
    schema = yaml_reader.load((home / "schemas" / "z.yaml").read_text(), file="z").value
    assert (
        find(schema, "/properties/settings/properties/advanced/properties/channel/x-env") == "Z_CONFIG_ADVANCED_CHANNEL"
    )
    assert find(schema, "/properties/settings/properties/mqtt/properties/password") == {
        "type": "string", "x-env": "Z_CONFIG_MQTT_PASSWORD", "x-sensitive": True,
    }  # fmt: skip
    for arguments in (["z.yaml", "--service", "z"], ["bot.env", "--service", "b"]):
        assert run("import", *arguments, "--env-prefix", "Z_").exit_code == 2


@pytest.mark.parametrize("environment", [[], ["-e", "prod"]])
def test_the_same_file_again_changes_nothing(home: Path, environment: list[str]):
    """Secrets are compared opened, and stay in the boxes that they are in; another one is a conflict."""
    arguments = ("import", "bot.env", "--service", "bot", *environment)
    assert json.loads(run(*arguments).stdout)["unchanged"] is False
    before = files_of(home)
    again = run(*arguments)
    assert (again.exit_code, json.loads(again.stdout)["unchanged"]) == (0, True), again.output
    table = run(*arguments, "-o", "table").stdout
    assert "nothing to change: " in table
    assert "took" not in table
    assert files_of(home) == before
    (home / "bot.env").write_text(ENV.replace("123:planted", "456:planted"))
    names = ["prod"] if environment else ["dev", "prod"]
    texts = {path: path.read_text() for name in names if (path := home / "environments" / f"{name}-secrets.yaml")}
    for path, text in texts.items():
        path.write_text(re.sub(r'bot_token: "sealed:[^"]*"', "bot_token: '456:planted'", text))
    assert run(*arguments).exit_code == 0
    assert not any("456:planted" in path.read_text() for path in texts)
    for path, text in texts.items():
        path.write_text(text)
    other = run(*arguments)
    assert (other.exit_code, other.stderr.count("has another value")) == (5, len(names))
    changed = run(*arguments, "--replace")
    assert json.loads(changed.stdout)["unchanged"] is False


def test_what_is_sealed_for_all_environments_already_stays_there(home: Path):
    """As earlier versions imported it; in the open it is sealed where it stands, and another one is a conflict."""
    base = home / "environments" / "base.yaml"
    (home / "camera.env").write_text("CAMERA_PASSWORD=planted\n")
    arguments = ("import", "camera.env", "--service", "door_bell")
    base.write_text(base.read_text().replace("melody:", "camera_password: planted\n      melody:", 1))
    assert run(*arguments).exit_code == 0
    assert settings_of(base, "door_bell")["camera_password"].startswith("sealed:v1:")
    assert not (home / "environments" / "dev-secrets.yaml").exists()
    assert json.loads(run(*arguments).stdout)["unchanged"] is True
    (home / "camera.env").write_text("CAMERA_PASSWORD=another\n")
    other = run(*arguments)
    assert (other.exit_code, other.stderr.count("environments/base.yaml has another value")) == (5, 1)


def test_that_the_file_still_holds_the_secrets_is_said(home: Path):
    """Until it is deleted; not of a trial, which changes nothing, nor where there is no secret."""
    said = "bot.env still holds 3 secrets in the open; delete it"
    done = run("import", "bot.env", "--service", "bot", "-o", "table")
    assert said in done.stdout.splitlines()[-1]
    assert said in run("import", "bot.env", "--service", "bot", "-o", "table").stdout
    assert said not in run("import", "bot.env", "--service", "other", "--dry-run", "-o", "table").stdout
    (home / "open.env").write_text("CHAT_ID=7\n")
    assert "still holds" not in run("import", "open.env", "--service", "third", "-o", "table").stdout


@pytest.mark.parametrize("environment", [[], ["-e", "dev"]])
def test_a_file_of_secrets_alone_leaves_the_values_that_are_there(home: Path, environment: list[str]):
    """Nothing of the service is replaced by nothing."""
    (home / "environments" / "dev.yaml").write_text("services:\n  door_bell: {settings: {melody: buzzer}}  # loud\n")
    before = files_of(home)
    (home / "camera.env").write_text("CAMERA_PASSWORD=planted\n")
    assert run("import", "camera.env", "--service", "door_bell", *environment).exit_code == 0
    after = files_of(home)
    assert settings_of(home / "environments" / "base.yaml", "door_bell")["melody"] == "ding-dong"
    assert after["environments/dev.yaml"] == before["environments/dev.yaml"]
    assert after["environments/base.yaml"].startswith(before["environments/base.yaml"])


def test_the_schema_of_the_service_says_where_a_variable_belongs_and_what_is_valid(home: Path):
    """What breaks it is refused before a file changes; an address with a password needs its mark."""
    (home / "bell.env").write_text("DOOR_BELL_MELODY=westminster\nCAMERA_PASSWORD=planted\nURL=ftp://a:planted@h\n")
    done = json.loads(run("import", "bell.env", "--service", "door_bell", "-e", "dev").stdout)
    assert [item["pointer"] for item in done["values"]] == ["/settings/melody"]
    assert [item["pointer"] for item in done["secrets"]] == ["/settings/camera_password"]
    assert "x-sensitive" in done["notes"][0]["message"]
    before = files_of(home)
    (home / "bell.env").write_text("DOOR_BELL_VOLUME=900\n")
    refused = run("import", "bell.env", "--service", "door_bell", "-e", "prod", "--replace")
    assert (refused.exit_code, "/settings/volume_percent in prod" in refused.stderr) == (4, True)
    assert {name: text for name, text in files_of(home).items() if name != "bell.env"} == {
        name: text for name, text in before.items() if name != "bell.env"
    }


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["bot.env"], 2, "--service"), (["bot.env", "--service", "get"], 2, "operation"),
        (["none.env", "--service", "x"], 2, "does not exist"), (["README", "--service", "x"], 2, "--format env|json"),
        (["null.json", "--service", "x"], 4, "/settings/a: is null"),
        (["bot.env", "--service", "x", "-e", "nowhere"], 3, "there are: dev, prod"),
        (["bot.env", "--service", "x", "--format", "json"], 4, "not JSON"),
    ],
)  # fmt: skip
def test_what_cannot_be_imported_is_told(home: Path, arguments: list[str], code: int, words: str):
    """With what to do, and no file changes."""
    (home / "README").write_text("a=1\n")
    (home / "null.json").write_text('{"a": null}')
    before = files_of(home)
    done = run("import", *arguments)
    assert (done.exit_code, words in done.stderr) == (code, True), done.stderr
    assert files_of(home) == before
