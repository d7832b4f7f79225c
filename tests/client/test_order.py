"""The order of messages: what counts, what does not, and when the daemon is asked."""

import pytest

from aliciacfg.client.order import Order


def holding(*numbers: tuple[int, int]) -> Order:
    order = Order()
    for number in numbers:
        order.judge(number)
    return order


@pytest.mark.parametrize(
    ("numbers", "verdict"),
    [((1, 6), "newer"), ((2, 1), "newer"), ((1, 5), "same"), ((1, 4), "older"), ((0, 9), "older")],
)
def test_a_message_counts_exactly_if_it_is_higher(numbers: tuple[int, int], verdict: str):
    """The epoch counts before the sequence: a restored home has lower sequences."""
    order = holding((1, 5))
    assert order.judge(numbers) == verdict
    assert order.held == max(numbers, (1, 5))
    assert not order.in_doubt


def test_an_empty_message_proves_nothing_until_the_daemon_has_answered():
    """Then its answer counts, even with lower numbers than a forged message had; older messages never do."""
    order = holding((1, 5), (2**40, 0))
    order.doubt()
    assert order.judge((1, 4)) == "older"
    assert order.in_doubt
    assert order.judge_answer((1, 6), order.cause) == "newer"
    assert (order.held, order.in_doubt) == ((1, 6), False)


def test_an_answer_to_an_earlier_question_does_not_settle_a_later_doubt():
    """It was under way when the message was cleared, and may tell of a configuration that is gone."""
    order = holding((1, 5))
    order.doubt()
    asked = order.cause
    order.doubt()
    assert order.judge_answer((1, 4), asked) == "older"
    assert not order.judge_absence(asked)
    assert order.in_doubt
    assert order.judge_absence(order.cause)
    assert (order.held, order.in_doubt) == (None, False)


def test_an_update_that_overtakes_the_answer_counts_more():
    """The question was asked in doubt, and a change came before its answer."""
    order = holding((1, 5))
    order.doubt()
    asked = order.cause
    assert order.judge((1, 7)) == "newer"
    assert order.judge_answer((1, 6), asked) == "older"
    assert not order.judge_absence(asked)


def test_an_older_message_than_a_snapshot_is_a_doubt_once():
    """The home may have been built anew, which begins at 1; the daemon tells."""
    order = Order()
    order.start_from((3, 900))
    assert order.judge((1, 2)) == "older"
    assert order.in_doubt
    assert order.judge_answer((1, 2), order.cause) == "newer"
    assert order.judge((1, 1)) == "older"
    assert not order.in_doubt
