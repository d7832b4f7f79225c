"""The largest packet that a broker takes: announced, refused, or found out from connections that it closed."""

from aliciacfg.mqtt.packet_limit import PacketLimit

OWN = 100_000


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def limit_311() -> tuple[PacketLimit, Clock]:
    """The limit of a broker of 3.1.1, which announces none."""
    clock = Clock()
    limit = PacketLimit(OWN, clock=clock)
    limit.begin("3.1.1", None)
    return limit, clock


def test_the_smaller_one_of_both_sides_counts():
    """A broker that announces nothing, or more, leaves the daemon's own."""
    limit = PacketLimit(OWN)
    for announced, expected in ((None, OWN), (20_000, 20_000), (10**9, OWN), (None, OWN)):
        limit.begin("5", announced)
        assert limit.bytes == expected


def test_a_refused_packet_is_above_the_limit():
    """Mosquitto refuses what is over message_size_limit, and announces nothing; it may be restarted with another one.

    One that closes the connection over it would close the next one, too.
    """
    limit = PacketLimit(OWN)
    limit.begin("5", None)
    limit.refused(5_000)
    limit.refused(9_000)
    assert limit.bytes == 4_999
    limit.begin("5", None)
    assert limit.bytes == OWN
    limit.refused(5_000, closed=True)
    limit.begin("5", None)
    assert limit.bytes == 4_999


def test_a_small_packet_is_not_what_was_too_large():
    """A broker, or what stands before it, that says so with only a marker under way is used as before."""
    limit = PacketLimit(OWN)
    limit.begin("5", None)
    limit.refused(84)
    assert limit.bytes == OWN


def test_what_is_under_way_when_connections_are_closed_is_not_sent_again():
    """The third time; until then it is sent alone."""
    limit, _ = limit_311()
    for _ in range(2):
        limit.closed([300, 60_000, 8_000])
        assert (limit.bytes, limit.careful) == (OWN, True)
    limit.closed([60_000])
    assert limit.bytes == 54_000


def test_a_broker_that_is_restarted_sets_no_limit():
    """It closes connections with small packets under way, with such as it took before, now and then, or of MQTT 5."""
    limit, clock = limit_311()
    limit.accepted(9_000)
    for _ in range(10):
        limit.closed([])
        limit.closed([2_000, 9_000])
    for _ in range(10):
        clock.now += 100
        limit.closed([50_000])
        assert limit.bytes == OWN
    limit.begin("5", None)
    for _ in range(10):
        limit.closed([50_000])
    assert limit.bytes == OWN


def test_a_broker_that_was_away_may_have_other_settings():
    """So may one that has not been asked for an hour."""
    limit, clock = limit_311()
    for _ in range(3):
        limit.closed([60_000])
    clock.now += 100
    limit.begin("3.1.1", None)
    assert limit.bytes == 54_000
    limit.forget()
    assert (limit.bytes, limit.careful) == (OWN, False)
    limit.refused(60_000)
    clock.now += 4_000
    limit.begin("3.1.1", None)
    assert limit.bytes == OWN


def test_what_the_broker_took_is_within_the_limit():
    """However often it closes connections."""
    limit, _ = limit_311()
    limit.accepted(58_000)
    for _ in range(5):
        limit.closed([60_000])
    assert limit.bytes == 58_000
