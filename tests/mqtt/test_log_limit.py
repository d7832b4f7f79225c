"""A limit on log entries that others can cause."""

from aliciacfg.mqtt.log_limit import LogLimit


def test_one_entry_a_minute():
    """The first at once."""
    times = iter((5.0, 6.0, 64.9, 65.0, 66.0))
    limit = LogLimit(clock=lambda: next(times))
    assert [limit.allows() for _ in range(5)] == [True, False, False, True, False]
