"""What the trials share."""

from collections.abc import Callable

import pytest

from brokers import Broker
from daemons import Daemon
from trials import SERVICES, Trial


@pytest.fixture
def trial(make_daemon: Callable[..., Daemon], broker: Broker) -> Trial:
    """A daemon and its broker; the first round starts the daemon."""
    return Trial(make_daemon(asyncio_debug=False).keep_services(*SERVICES), broker)
