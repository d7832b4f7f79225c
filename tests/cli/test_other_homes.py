"""Whether the daemon that answers is the one of the home here."""

from pathlib import Path
from typing import Any

import click
import pytest

from aliciacfg.bus.address import BrokerAddress
from aliciacfg.cli import notices
from aliciacfg.cli.other_homes import LocalHome
from aliciacfg.cli.requests import WRITES, note_home, target_of
from aliciacfg.documents import JsonObject
from aliciacfg.errors import BrokerUnavailable
from aliciacfg.operations.table import OPERATIONS

_ADDRESS = BrokerAddress("127.0.0.1", 1883)


@pytest.mark.parametrize(
    "health",
    [None, {}, {"status": "healthy"}, {"instance": "a", "status": "healthy"}, {"instance": "b", "status": "offline"}],
)
def test_only_a_daemon_that_says_so_serves_another_home(health: JsonObject | None):
    """Not the own one, one that does not say which it serves, as an older one, or one that ended."""
    assert LocalHome("a", served=False).mistake(health, _ADDRESS) is None


@pytest.mark.parametrize("served", [False, True])
def test_the_error_names_the_other_daemon_and_how_to_mean_it(served: bool):
    """Whether the daemon of this home runs or not, and for a home that never had one."""
    for name in ("a", None):
        found = LocalHome(name, served=served).mistake({"instance": "b", "status": "healthy"}, _ADDRESS)
        assert found is not None
        assert "127.0.0.1:1883" in str(found)
        assert "(instance b)" in str(found)
        assert found.hint.endswith("or name that one: --broker 127.0.0.1") or served
        assert ("no daemon runs in this home" in str(found)) is not served


def test_the_operations_that_write_are_those_of_the_table():
    """A new one is refused as well."""
    assert {operation.name for operation in OPERATIONS if operation.writes} == WRITES


async def test_a_broker_that_goes_after_the_answer_makes_no_failure_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """What was changed is changed; the note about the daemon names only the broker."""

    class Gone:
        async def health(self) -> None:
            raise BrokerUnavailable("gone")

    notes: list[str] = []
    gone: Any = Gone()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(notices, "for_people", lambda: True)
    monkeypatch.setattr(notices, "print_note", notes.append)
    for name in ("MQTT_BROKER", "MQTT_PORT"):
        monkeypatch.delenv(name, raising=False)
    with click.Context(click.Command("set")):
        await note_home(target_of({}), gone)
    assert notes[0].startswith("answered by the daemon on 127.0.0.1:1883: this directory is no home")
