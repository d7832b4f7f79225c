"""Signs of life on a connection of MQTT 5."""

import asyncio
import time

import pytest

from aliciacfg.mqtt.keep_alive import KeepAlive
from aliciacfg.mqtt.mqtt5_output import Output


@pytest.mark.parametrize(("silence", "least"), [(0.0, 0.06), (0.25, 0.25)])
async def test_a_broker_that_is_silent_has_at_least_a_time_to_answer(silence: float, least: float):
    """As long as the Keep Alive, or longer where that is short: a broker that is busy is not given up."""
    began, ended = time.monotonic(), asyncio.Event()
    keep_alive = KeepAlive(
        0.06, Output(), last_received=lambda: began - 1.0, on_silence=ended.set, silence_seconds=silence
    )
    await asyncio.wait_for(ended.wait(), 15.0)
    keep_alive.stop()
    assert time.monotonic() - began >= least
