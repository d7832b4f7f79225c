"""What is wrong with the files of a home."""

import os
from pathlib import Path

import msgspec
import pytest

from aliciacfg.diagnosis.files import look_at_files
from aliciacfg.diagnosis.finding import Finding
from aliciacfg.sealing.key_file import KeyFile
from aliciacfg.sealing.key_store import FileKeyStore
from aliciacfg.settings import Settings, resolve
from builders import environment_file
from inprocess import Home


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home in the working directory."""
    made = Home(
        tmp_path,
        {
            "environments/base.yaml": environment_file({"bell": {}}),
            "environments/dev.yaml": "",
            "environments/prod.yaml": "",
        },
    )
    monkeypatch.chdir(made.directory)
    return made


def settings() -> Settings:
    return resolve({}, environ={}, dotenv_values={}).settings


def look(*, only: str = "") -> list[Finding]:
    return [finding for finding in look_at_files(settings(), "dev") if only in (finding.level, "")]


def test_valid_files_are_well(home: Home):
    """With the number of configurations."""
    (finding,) = look()
    assert (finding.level, finding.message) == ("ok", "2 configurations are valid")
    assert home.directory == Path.cwd()


@pytest.mark.parametrize(("file", "level"), [("dev", "fail"), ("prod", "warn"), ("base", "fail")])
def test_a_broken_file_is_named_with_its_line(home: Home, file: str, level: str):
    """It stops the active environment, or is in the way of another one's activation only."""
    home.write(f"environments/{file}.yaml", "services:\n  bell: {settings: [\n")
    (finding,) = look(only=level)
    assert f"environments/{file}.yaml:" in finding.message


def test_no_home_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With what makes one."""
    monkeypatch.chdir(tmp_path)
    (finding,) = look()
    assert finding.level == "fail"
    assert "aliciacfg init" in finding.remedy


def test_variables_that_others_can_read(home: Home):
    """A .env holds passwords; none of it is shown."""
    path = home.directory / ".env"
    path.write_text("MQTT_PASSWORD=planted-93aa\n")
    path.chmod(0o644)
    (finding,) = look(only="warn")
    assert finding.remedy == "run: chmod 600 .env"
    # A group may read what belongs to root, as /etc/default/aliciacfg does.
    for mode in (0o600, *([0o640] if os.geteuid() == 0 else [])):
        path.chmod(mode)
        assert not look(only="warn")
    assert "planted" not in repr(look())


@pytest.mark.parametrize(("url", "said"), [(None, "keys.json is missing"), ("postgresql://127.0.0.1:1/x", "were not")])
def test_sealed_values_without_keys_are_told(home: Home, tmp_path: Path, url: str | None, said: str):
    """Of a home on a database server, nothing is said of a key file that it has not."""
    keyring = KeyFile.create(FileKeyStore(tmp_path / "elsewhere.json"), now=0.0).make_keyring()
    sealed = keyring.seal("s", service="bell", environment="dev", pointer="/mqtt_config/password")
    home.write("environments/dev.yaml", environment_file({"bell": {"mqtt_config": {"password": sealed}}}))
    found = look_at_files(msgspec.structs.replace(settings(), database_url=url), "dev")
    (warning,) = (item for item in found if item.level == "warn" and "sealed values of" in item.message)
    assert said in warning.message
    assert ("keys.json" in warning.message) == (url is None)
