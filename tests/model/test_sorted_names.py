"""Names that stay sorted, compared with a plain set."""

from hypothesis import given
from hypothesis import strategies as st

from aliciacfg.model.sorted_names import SortedNames

names = st.text("abc_", min_size=1, max_size=3)


@given(
    st.lists(names), st.lists(st.tuples(st.booleans(), names)), st.text("abc_", max_size=3), st.text("ab", max_size=2)
)
def test_they_are_what_a_sorted_set_is(begun: list[str], changes: list[tuple[bool, str]], cursor: str, prefix: str):
    """Whatever is added and removed in whatever order, a page is that of the sorted set."""
    kept, plain = SortedNames(begun), set(begun)
    for added, name in changes:
        (kept.add if added else kept.discard)(name)
        (plain.add if added else plain.discard)(name)
    assert (list(kept), len(kept)) == (sorted(plain), len(plain))
    assert all((name in kept) == (name in plain) for _, name in changes)
    expected = [name for name in sorted(plain) if name > cursor and name.startswith(prefix)]
    assert list(kept.after(cursor, prefix)) == expected
