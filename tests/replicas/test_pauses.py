"""Whether a process stood still."""

from aliciacfg.replicas.pauses import Pauses


def test_a_process_that_stood_still_knows_it_before_its_next_sign_of_life():
    """Whatever runs first when it goes on."""
    now = 0.0
    pauses = Pauses(3.0, clock=lambda: now)
    assert not pauses.stood_still
    now = 3.0
    assert not pauses.stood_still
    now = 3.1
    assert pauses.stood_still
    pauses.tick()
    assert not pauses.stood_still
