"""Whether the daemon that answers is the one of the home here."""

import pytest

from aliciacfg.bus.address import BrokerAddress
from aliciacfg.cli.other_homes import LocalHome
from aliciacfg.cli.requests import WRITES
from aliciacfg.documents import JsonObject
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
