"""The texts of files, from which any daemon composes the same as the one that read them."""

import os
import shutil
from pathlib import Path

import msgspec
import pytest

from aliciacfg.errors import SourceError
from aliciacfg.settings import resolve
from aliciacfg.sources.file_texts import FileTexts
from aliciacfg.sources.source_files import SourceFiles
from repository import ROOT


def files(directory: Path, prefix: str = "") -> SourceFiles:
    given = {
        "environments_dir": str(directory / f"{prefix}environments"),
        "schemas_dir": str(directory / f"{prefix}schemas"),
    }
    return SourceFiles(resolve(given, environ={}, dotenv_values={}).settings)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The example with a migration."""
    for name in ("environments", "schemas"):
        shutil.copytree(ROOT / name, tmp_path / name)
    migrations = tmp_path / "schemas" / "sonos_service" / "migrations"
    migrations.mkdir(parents=True)
    (migrations / "1-to-2.yaml").write_text("[]\n")
    return tmp_path


def test_what_is_parsed_from_texts_is_what_is_loaded(home: Path):
    """Also after they were stored; of a file whose name cannot be typed no other machine learns."""
    for place in ("environments", "schemas", "schemas/sonos_service/migrations"):
        Path(os.fsdecode(os.fsencode(home / place) + b"/caf\xe9.yaml")).write_text("services: {}")
    loaded = files(home).load()
    texts = msgspec.json.decode(files(home).read_texts().encoded(), type=FileTexts)
    parsed = files(home).parse(texts)
    for part in ("migrations", "access", "set_aside"):
        assert getattr(parsed, part) == getattr(loaded, part)
    assert len(parsed.set_aside) == 3
    assert list(parsed.environments) == list(loaded.environments)
    for name, environment in loaded.environments.items():
        assert environment.services
        for service in environment.services:
            assert [(layer.file, layer.patch) for layer in parsed.environments[name].layers(service)] == [
                (layer.file, layer.patch) for layer in environment.layers(service)
            ]
    assert {name: schema.own for name, schema in parsed.schemas.items()} == {
        name: schema.own for name, schema in loaded.schemas.items()
    }
    assert parsed.files == {name: contains for name, contains in loaded.files.items() if name != ".env"}
    assert parsed.texts == texts


def test_names_are_the_same_wherever_the_directories_lie(home: Path, tmp_path: Path):
    """And what differs is named."""
    other = tmp_path / "other"
    for name in ("environments", "schemas"):
        shutil.copytree(home / name, other / f"my-{name}")
    found = files(other, "my-")
    first = files(home).read_texts()
    assert found.read_texts().encoded() == first.encoded()
    (other / "my-environments" / "dev.yaml").write_text("{}\n")
    (other / "my-environments" / ".dev.yaml.swp.yaml").write_text("{}\n")
    (other / "my-schemas" / "sonos_service" / "migrations" / "1-to-2.yaml").unlink()
    assert found.read_texts().differing(first) == [
        "environments/dev.yaml",
        "schemas/sonos_service/migrations/1-to-2.yaml",
    ]
    assert first.differing(first) == []


def test_a_file_that_cannot_be_read_is_a_problem_of_the_texts(home: Path):
    """The same as of a load."""
    (home / "schemas" / "sonos_service.yaml").write_bytes(b"a: \xff\n")
    with pytest.raises(SourceError) as loaded:
        files(home).load()
    texts = files(home).read_texts()
    with pytest.raises(SourceError) as parsed:
        files(home).parse(texts)
    assert parsed.value.problems == loaded.value.problems
    shutil.rmtree(home / "environments")
    with pytest.raises(SourceError, match=r"environments/: the directory"):
        files(home).read_texts()


def test_variables_are_those_that_environments_name(home: Path, monkeypatch: pytest.MonkeyPatch):
    """Of another machine, what the texts hold counts, and not what is set there."""
    text = (
        "services:\n  sonos_service:\n    # ${IN_A_COMMENT}\n"
        "    settings: {a: '${FIRST}', b: '${SECOND:-x}', c: '$${NO}'}\n"
    )
    (home / "environments" / "dev.yaml").write_text(text)
    for file in home.glob("environments/*-secrets.yaml"):
        file.unlink()
    monkeypatch.setenv("FIRST", "1")
    monkeypatch.delenv("SECOND", raising=False)
    os.environb[b"FOURTH"] = b"\xff"
    texts = files(home).read_texts()
    assert {name: texts.variables[name] for name in ("FIRST", "SECOND")} == {"FIRST": "1", "SECOND": None}
    assert not {"IN_A_COMMENT", "NO"} & texts.variables.keys()
    monkeypatch.setenv("FIRST", "2")
    monkeypatch.setenv("SECOND", "y")
    layer = files(home).parse(texts).environments["dev"].files[-1]
    assert layer.services["sonos_service"]["settings"] == {"a": "1", "b": "x", "c": "${NO}"}
    other = files(home).read_texts()
    assert other.differing(texts) == ["${FIRST}", "${SECOND}"]
    (home / "environments" / "dev.yaml").write_text(text.replace("FIRST", "FOURTH"))
    assert files(home).read_texts().variables["FOURTH"] == r"\xff"
    files(home).read_texts().encoded()
    del os.environb[b"FOURTH"]
