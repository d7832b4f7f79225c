"""Random JSON values, and comparisons of them that do not use the code under test."""

import copy
import json
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from aliciacfg.documents import Json

# Few and awkward names, so that random documents share some.
KEYS = st.text(alphabet='ab/~0"é', max_size=2)
SCALARS = (
    st.booleans()
    | st.integers(-2, 2)
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=3)
)
VALUES = st.recursive(
    SCALARS | st.lists(SCALARS | st.none(), max_size=3),
    lambda inner: st.dictionaries(KEYS, inner, max_size=3) | st.lists(inner, max_size=3),
    max_leaves=8,
)
OBJECTS: st.SearchStrategy[Any] = st.dictionaries(KEYS, VALUES, max_size=4)
PAIRS = st.tuples(OBJECTS, OBJECTS) | OBJECTS.map(lambda one: (one, copy.deepcopy(one)))

thorough = settings(deadline=None)


def same(left: object, right: object) -> bool:
    """Equal as JSON, integers apart from other numbers; by other means than the code under test."""
    return json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)


def nested(levels: int, innermost: Json) -> Json:
    """``innermost`` inside so many objects."""
    for _ in range(levels):
        innermost = {"a": innermost}
    return innermost
