"""What a program starts with, where that is decided in one moment."""

import asyncio
from collections.abc import Callable

import pytest

from aliciacfg.bus.address import BrokerAddress
from aliciacfg.client.current import Trust
from aliciacfg.client.hub import Hub
from aliciacfg.client.intake import Intake
from aliciacfg.client.keys import KeyFile
from aliciacfg.client.snapshot import Snapshot
from aliciacfg.client.start import Start, default_record
from aliciacfg.client.values import Reader
from inprocess import eventually

MESSAGE = (
    b'{"service":"bell","environment":"dev","version":"1.0.0","revision":5,"sequence":5,"epoch":1,"checksum":"c",'
    b'"config":{"settings":{"volume":5}}}'
)


@pytest.mark.parametrize("turns", range(4))
async def test_a_configuration_that_comes_as_the_time_ends_counts(turns: int):
    """Whichever is first, the default never takes the place of what the daemon sent."""
    trust = Trust()
    hub: Hub[dict[str, int]] = Hub(trust, lambda *_settled: None)
    reader, snapshot = Reader[dict[str, int]](dict, KeyFile(None), trust), Snapshot(None, "bell")
    intake = Intake("bell", reader, hub, snapshot, spread_seconds=0)
    start = Start(
        "bell",
        BrokerAddress("127.0.0.1", 1),
        reader=reader,
        snapshot=snapshot,
        intake=intake,
        hub=hub,
        default=default_record({"volume": 1}, trust),
        timeout_seconds=0,
    )
    loop = asyncio.get_running_loop()

    def after(turns: int, what: Callable[[], None]) -> None:
        loop.call_soon(after, turns - 1, what) if turns else what()

    after(turns, lambda: intake.message(MESSAGE))
    await start.wait()
    await eventually(lambda: intake.live)
    assert (hub.state.record.settings["volume"], hub.state.record.stale) == (5, False)
