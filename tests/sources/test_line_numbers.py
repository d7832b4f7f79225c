"""Lines of a file, compared with a plain mapping."""

from hypothesis import given
from hypothesis import strategies as st

from aliciacfg.sources.line_numbers import LineNumbers

pointers = st.lists(st.sampled_from(["services", "defaults", "bell", "a~1b", "", "0", "settings"]), max_size=5).map(
    lambda tokens: "".join(f"/{token}" for token in tokens)
)


@given(st.dictionaries(pointers, st.integers(1, 2**40)), st.lists(pointers))
def test_every_line_is_found_and_no_other(lines: dict[str, int], asked: list[str]):
    """Whatever places there are, also empty names and services of the same and of other shapes."""
    found = LineNumbers(lines)
    for pointer in [*lines, *asked]:
        assert found.get(pointer) == lines.get(pointer), pointer
