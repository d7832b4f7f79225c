"""When what others overwrote is put right."""

from aliciacfg.mqtt.repairs import Repairs


def test_the_first_repairs_follow_at_once_and_later_ones_ever_more_slowly():
    """Two daemons that overwrite each other soon pause for a minute; after a quiet time the next repair is at once."""
    repairs = Repairs()
    now, delays = 1000.0, list[float]()
    for _ in range(2000):
        delays.append(repairs.delay(now))
        now += delays[-1]
    assert delays[:8] == [0.0] * 8
    assert delays[8:16] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    assert set(delays[16:]) == {60.0}
    assert repairs.delay(now + 121) == 0.0
