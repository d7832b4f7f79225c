"""Strategies of hypothesis that make settings of any shape, and how a reader may see them."""

import re
from typing import Any

from hypothesis import strategies as st

NAMES = st.sampled_from(["a", "b", "c", "a/b", "~", "", "é", "token", "keys", "yes", "1"])
LEAVES = st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, 2.0, "", "x", "yes", "1", "null", "a: b"])
ITEMS = LEAVES | st.none()
VALUES: st.SearchStrategy[Any] = st.recursive(
    LEAVES | st.lists(ITEMS, max_size=2),
    lambda inner: st.dictionaries(NAMES, inner, max_size=3) | st.lists(inner, max_size=2),
    max_leaves=6,
)
WANTED = st.dictionaries(NAMES, VALUES, max_size=4)
SENSITIVE = re.compile(r"password|secret|key|token", re.IGNORECASE)


def hidden(value: Any, mark: str, *, named: bool = False) -> Any:
    """As a reader may see it: strings under a sensitive name are replaced. By other means than the code under test."""
    if isinstance(value, dict):
        return {key: hidden(inner, mark, named=named or bool(SENSITIVE.search(key))) for key, inner in value.items()}
    if isinstance(value, list):
        return [hidden(item, mark, named=named) for item in value]
    return mark if named and isinstance(value, str) else value
