"""How often a command may restart."""

from aliciacfg.execution.timing import RestartLimit, Timing


def test_the_first_restart_waits_for_nothing():
    """However soon after the start."""
    assert RestartLimit(Timing()).delay(0.0) == 0


def test_restarts_that_keep_coming_are_further_and_further_apart():
    """Ten seconds, twenty, and so on up to five minutes."""
    limit = RestartLimit(Timing())
    now, pauses = 100.0, list[float]()
    for _ in range(8):
        limit.count(now)
        pauses.append(limit.delay(now))
        now += limit.delay(now)
    assert pauses == [10, 20, 40, 80, 160, 300, 300, 300]
    assert limit.delay(now - 1) == 1


def test_a_quiet_time_is_as_good_as_none_before():
    """After twice the pause without a restart."""
    limit = RestartLimit(Timing())
    limit.count(0.0)
    limit.count(20.0)
    assert limit.delay(20.0) == 20
    limit.count(61.0)
    assert limit.delay(61.0) == 10
