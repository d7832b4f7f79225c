"""``aliciacfg check``: what is wrong with files and store, found without asking a daemon."""

from functools import partial
from pathlib import Path

import pytest

from aliciacfg.core.file_check import FileFindings, check_files
from aliciacfg.documents import DocumentLimits
from aliciacfg.errors import NotFound
from aliciacfg.sealing.boxes import Keyring
from aliciacfg.sources import loader

DOCUMENT = """
    mqtt_config: {host: broker, port: 1883, password: "%s"}
    api_config: {host: 127.0.0.1, port: 8000}
"""
ONE = "services:\n  one:" + DOCUMENT


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Directories for environments and schemas, empty."""
    for name in ("environments", "schemas"):
        (tmp_path / name).mkdir()
    return tmp_path


def check(home: Path, keyring: Keyring | None = None, environment: str | None = None) -> FileFindings:
    load = partial(
        loader.load,
        environments_dir=home / "environments",
        schemas_dir=home / "schemas",
        variables={},
    )
    return check_files(load, keyring, limits=DocumentLimits(), environment=environment)


def test_valid_files_are_counted(home: Path):
    """Two environments with one service each make two configurations."""
    (home / "environments/base.yaml").write_text(ONE % "p")
    for name in ("dev", "prod"):
        (home / f"environments/{name}.yaml").write_text("defaults: {}\n")
    assert check(home) == FileFindings(2, [], [])


def test_a_service_with_nothing_but_settings_is_valid(home: Path):
    """It needs no port of its own and no password; one that says how it connects needs all of that."""
    (home / "environments/dev.yaml").write_text(
        "services:\n  lamp: {settings: {watts: 5}}\n  empty: {}\n  bell: {mqtt_config: {host: h}}\n"
    )
    found = check(home)
    assert found.valid == 2
    assert {problem.pointer: problem.configurations for problem in found.problems} == {
        "/mqtt_config/password": ["bell in dev"],
        "/mqtt_config/port": ["bell in dev"],
    }


def test_a_null_that_removes_nothing_is_a_warning(home: Path):
    """It does not make a file invalid."""
    (home / "environments/base.yaml").write_text(ONE % "p" + "    limits:\n      x:\n")
    (home / "environments/dev.yaml").write_text("defaults: {}\n")
    found = check(home)
    assert (found.valid, found.problems) == (1, [])
    assert [(warning.file, warning.line) for warning in found.warnings] == [("environments/base.yaml", 6)]


def test_each_problem_is_told_once_with_its_line_and_all_that_it_spoils(home: Path):
    """A wrong value in base.yaml is one problem, however many environments it affects."""
    (home / "environments/base.yaml").write_text(ONE % "p" + "    limits:\n      x: many\n")
    for name in ("dev", "prod"):
        (home / f"environments/{name}.yaml").write_text("defaults: {}\n")
    findings = check(home)
    assert findings.valid == 0
    (problem,) = findings.problems
    assert (problem.file, problem.line, problem.pointer) == ("environments/base.yaml", 6, "/limits/x")
    assert problem.configurations == ["one in dev", "one in prod"]
    assert "expected a number" in problem.message


def test_every_environment_is_looked_at_and_one_if_asked(home: Path):
    """A broken file of one environment leaves the others checked; an environment can be picked."""
    (home / "environments/base.yaml").write_text(ONE % "p")
    (home / "environments/dev.yaml").write_text("servises: {}\n")
    (home / "environments/prod.yaml").write_text("services: {one: {limits: {x: y}}}\n")
    findings = check(home)
    assert [(problem.file, problem.line) for problem in findings.problems] == [
        ("environments/dev.yaml", 1),
        ("environments/prod.yaml", 1),
    ]
    assert [problem.file for problem in check(home, environment="prod").problems] == ["environments/prod.yaml"]
    with pytest.raises(NotFound, match="dev, prod"):
        check(home, environment="stage")


def test_schemas_that_cannot_be_used_are_all_told(home: Path):
    """A problem of shared files is listed without a configuration."""
    (home / "environments/dev.yaml").write_text(ONE % "p")
    (home / "schemas/one.yaml").write_text("properties: 5\n")
    (home / "schemas/two.yml").write_text("{}\n")
    findings = check(home)
    assert {problem.file for problem in findings.problems} == {"schemas/one.yaml", "schemas/two.yml"}
    assert all(problem.configurations == [] for problem in findings.problems)


def test_sealed_values_open_with_the_key_and_are_left_out_without_one(home: Path):
    """Sealed values are checked with the right key, are a problem with a wrong one, and are unchecked without a key."""
    right, wrong = Keyring.ephemeral(), Keyring.ephemeral()
    place = {"service": "one", "environment": "dev", "pointer": "/mqtt_config/password"}
    (home / "environments/dev.yaml").write_text(ONE % right.seal("p", **place))
    assert check(home, right) == FileFindings(1, [], [])
    (problem,) = check(home, wrong).problems
    assert problem.pointer == "/mqtt_config/password"
    assert check(home, None) == FileFindings(0, [], ["one in dev"])


@pytest.mark.parametrize(
    "damaged", ["sealed:v1:abc", "sealed:v2:0123456789abcdef:AAAA", "sealed:v1:0123456789abcdef:A+A="]
)
def test_a_damaged_sealed_value_is_found_without_the_keys(home: Path, damaged: str):
    """Whether it is well-formed needs no key; that another one of the service needs one hides nothing."""
    (home / "environments/base.yaml").write_text(ONE % "sealed:v1:0123456789abcdef:AAAA")
    (home / "environments/dev.yaml").write_text(
        f"services:\n  one:\n    api_config:\n      password: {damaged}\n      token: 'sealed:v1:0123456789abcdef:AAAA'"
    )
    found = check(home, None)
    assert [(problem.file, problem.line) for problem in found.problems] == [("environments/dev.yaml", 4)]
    assert (found.valid, found.unopened) == (0, [])
