"""The pace at which very many messages are published."""

import pytest

from aliciacfg.mqtt.pace import Pace


class Clock:
    """Time that passes only while somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize(("per_second", "messages", "seconds"), [(5000, 1000, 0), (5000, 6000, 1), (10, 22, 2)])
async def test_a_burst_goes_at_once_and_the_rest_at_its_pace(per_second: float, messages: int, seconds: float):
    """A small home never waits; of many messages, what exceeds the burst is spread over time."""
    clock = Clock()
    pace = Pace(per_second, clock=clock, sleep=clock.sleep)
    for _ in range(messages):
        await pace.take(1)
    assert clock.now == pytest.approx(seconds)  # pyright: ignore[reportUnknownMemberType]


async def test_a_pause_fills_the_bucket_again_but_no_further():
    """After an hour, as much goes at once as at the start."""
    clock = Clock()
    pace = Pace(100, clock=clock, sleep=clock.sleep)
    await pace.take(20)
    clock.now = 3600.0
    await pace.take(20)
    assert clock.now == 3600.0
    await pace.take(10)
    assert clock.now == pytest.approx(3600.1)  # pyright: ignore[reportUnknownMemberType]


@pytest.mark.parametrize(("per_second", "step"), [(5000, 100), (100, 2), (1, 1)])
def test_a_slow_pace_takes_small_steps(per_second: float, step: int):
    """One message that is wanted at once does not wait for a second's worth of others."""
    assert Pace(per_second).step == step
