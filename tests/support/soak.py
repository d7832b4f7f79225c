"""What only ``make soak`` tries."""

from collections.abc import Iterable, Sequence

import hypothesis
import pytest
from _pytest.mark.structures import ParameterSet

# How many examples random tests have: in every run, each time others, and in a soak.
SOME, MANY = 10, 100


def examples(count: int) -> hypothesis.settings:
    """Return the settings of a random test with this many examples in every run; a soak has ten times as many."""
    return hypothesis.settings(max_examples=count * hypothesis.settings().max_examples // SOME)


def rarely(*values: object) -> ParameterSet:
    """Another form of what a test tries anyway, as arguments of ``parametrize``."""
    return pytest.param(*values, marks=pytest.mark.soak)


def each_in_turn(values: Iterable[object], forms: Sequence[object]) -> list[ParameterSet]:
    """Return every value in every form, as arguments of ``parametrize``: in one, the next each time; else rarely."""
    return [
        pytest.param(value, form) if number % len(forms) == place else rarely(value, form)
        for number, value in enumerate(values)
        for place, form in enumerate(forms)
    ]
