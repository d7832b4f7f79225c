"""What people are told about a service whose name is misspelt in a file."""

from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from aliciacfg.core.file_check import check_files
from aliciacfg.documents import DocumentLimits
from aliciacfg.sealing.boxes import Keyring
from builders import environment_file
from inprocess import Home

BLINDS = {"speed": 3}


def files(name: str) -> dict[str, Any]:
    return environment_file({"bell": {}, name: {"settings": BLINDS}})


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home with a service that has a schema, and a secret of it in the file of dev."""
    return Home(
        tmp_path,
        {
            "schemas/blinds.yaml": {"properties": {"settings": {"properties": {"speed": {"type": "integer"}}}}},
            "environments/base.yaml": files("blinds"),
            "environments/dev.yaml": "",
            "environments/prod.yaml": "",
        },
    )


def warnings(home: Home) -> list[str]:
    """What ``check`` says, but for the port that all services of a builder have."""
    found = check_files(home.load, Keyring.ephemeral(), limits=DocumentLimits())
    assert not found.problems
    said = [f"{warning.file}: {warning.message}" for warning in found.warnings]
    return [line for line in said if "have one port" not in line]


def test_a_misspelt_service_has_a_suggestion(home: Home):
    """Check names the file with the misspelt name, and the schema that no service has."""
    assert warnings(home) == []
    home.write("environments/base.yaml", files("blnds"))
    assert warnings(home) == [
        "environments/base.yaml: no schema describes the service blnds; did you mean blinds?",
        "schemas/blinds.yaml: no environment file names the service blinds; blnds looks like it",
    ]


def test_a_misspelt_service_of_one_environment_has_a_suggestion(home: Home):
    """It would be a service of its own, beside the right one."""
    home.write("environments/prod.yaml", "services:\n  bel:\n    settings: {volume: 3}\n  bels:\n    settings: {}\n")
    home.write("environments/base.yaml", environment_file({"bells": {}, "blinds": {}}))
    assert warnings(home) == ["environments/prod.yaml: no schema describes the service bels; did you mean bells?"]


def test_a_schema_without_a_service_is_told(home: Home):
    """Also where nothing looks like it."""
    home.write("schemas/oven.yaml", {})
    assert warnings(home) == [
        "schemas/oven.yaml: no environment file names the service oven; correct its name there, or remove this schema"
    ]


async def test_a_service_that_ends_by_an_edit_is_told(home: Home):
    """In the answer to reload and to its dry run, by an alert and in the log, with the name that looks like it."""
    async with home.core() as made:
        home.write("environments/base.yaml", files("blnds"))
        trial = await made.ask("reload", dry_run=True)
        with capture_logs() as logs:
            answer = await made.ask("reload")
        ended = (
            "blinds ends in dev: environments/base.yaml does not name it any more; blnds, which is new, looks like it"
        )
        assert ended in answer["warnings"]
        assert ended.replace("dev", "prod") in answer["warnings"]
        assert trial["warnings"] == answer["warnings"]
        (alert,) = [alert for alert in made.heard if alert.kind == "service_ended"]
        assert ended in alert.message
        assert [entry["count"] for entry in logs if entry["event"] == "service_ended"] == [2]
        assert not any(" ends in " in text for text in (await made.ask("reload"))["warnings"])


async def test_a_service_that_only_a_file_of_secrets_names_is_told(home: Home):
    """It does not end, and keeps hardly anything: by an alert once, and by every check."""
    home.write("environments/dev-secrets.yaml", "services:\n  blinds:\n    settings:\n      hub_password: of-the-hub\n")
    async with home.core() as made:
        home.write("environments/base.yaml", files("blnds"))
        answer = await made.ask("reload")
        (left,) = [text for text in answer["warnings"] if text.startswith("blinds in dev keeps only")]
        assert left.endswith("environments/base.yaml does not name it any more; blnds, which is new, looks like it")
        (alert,) = [alert for alert in made.heard if alert.kind == "service_ended"]
        assert left in alert.message
    assert (
        "environments/dev-secrets.yaml: only this file of secrets names the service blinds, so it has nothing else; "
        "is it blnds elsewhere?"
    ) in warnings(home)
