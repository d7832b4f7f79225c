"""What only ``make soak`` tries."""

import pytest
from _pytest.mark.structures import ParameterSet


def rarely(*values: object) -> ParameterSet:
    """Another form of what a test tries anyway, as arguments of ``parametrize``."""
    return pytest.param(*values, marks=pytest.mark.soak)
