"""Semantic versions of configurations."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from semver import Version

from aliciacfg.documents import Bump, Change
from aliciacfg.errors import Problem
from aliciacfg.model import versions
from soak import examples

NUMBERS = st.integers(0, 30)
VERSIONS = st.builds(
    lambda core, pre, build: ".".join(map(str, core)) + pre + build,
    st.tuples(NUMBERS, NUMBERS, NUMBERS),
    st.sampled_from(["", "-rc.1", "-alpha"]),
    st.sampled_from(["", "+build.5"]),
)
BUMPS = st.sampled_from(["major", "minor", "patch"])


@pytest.mark.parametrize("text", ["0.0.0", "1.0.0", "10.20.30", "1.0.0-rc.1", "1.0.0+build", "1.0.0-a-b.0+x.01"])
def test_semantic_versions_are_recognised(text: str):
    """As semver.org 2.0.0 has them."""
    assert versions.is_version(text)


@pytest.mark.parametrize(
    "text",
    [
        "", "1", "1.0", "v1.0.0", "1.0.0.0", "01.0.0", "1.0.0-01", "1.0.0-", "1.0.0\n", " 1.0.0", "1.\u0660.0", "1.0.x",
        "1.0." + "9" * 5000,
    ],
)  # fmt: skip
def test_everything_else_is_no_version(text: str):
    """Missing parts, leading zeros, blanks, other digits, and numbers too long to be read."""
    assert not versions.is_version(text)


@pytest.mark.parametrize(
    ("bumps", "expected"),
    [
        ([], "patch"), (["patch"], "patch"), (["patch", "minor"], "minor"), (["minor"], "minor"),
        (["minor", "major", "patch"], "major"), (["major"], "major"),
    ],
)  # fmt: skip
def test_a_set_of_changes_needs_its_highest_bump(bumps: list[Bump], expected: Bump):
    """One lost key among many changed values makes the whole change a major one."""
    assert versions.bump_for(Change(f"/{bump}", bump) for bump in bumps) == expected


@pytest.mark.parametrize(
    ("current", "bump", "requested", "expected"),
    [
        ("1.2.3", "patch", None, "1.2.4"),
        ("1.2.3", "minor", None, "1.3.0"),
        ("1.2.3", "major", None, "2.0.0"),
        ("1.2.3", "patch", "1.2.3", "1.2.4"),
        ("1.2.3", "minor", "0.9.0", "1.3.0"),
        ("1.2.3", "minor", "1.2.3+build", "1.3.0"),
        ("1.2.3", "minor", "1.3.0", "1.3.0"),
        ("1.2.3", "patch", "4.0.0", "4.0.0"),
        ("1.2.3", "patch", "1.3.0-rc.1", "1.3.0-rc.1"),
    ],
)
def test_the_version_after_a_change(current: str, bump: Bump, requested: str | None, expected: str):
    """Raised by what the change needs; at or below the current one means left alone, a higher one is a request."""
    assert versions.next_version(current, bump, requested) == (expected, None)


@pytest.mark.parametrize(
    ("bump", "requested", "needed"),
    [("minor", "1.2.4", "1.3.0"), ("major", "1.9.9", "2.0.0"), ("major", "2.0.0-rc.1", "2.0.0")],
)
def test_a_request_below_what_the_change_needs_is_a_problem(bump: Bump, requested: str, needed: str):
    """It is reported at /version, with what was asked for and what is needed."""
    version, problem = versions.next_version("1.2.3", bump, requested)
    assert version == needed
    assert problem is not None
    assert problem.with_found(f"'{requested}'") == Problem(
        "/version", f"found '{requested}'; this change needs at least {needed}: leave version out"
    )


@examples(60)
@given(VERSIONS, BUMPS, st.none() | VERSIONS)
def test_versions_only_rise_and_say_what_the_change_means(current: str, bump: Bump, requested: str | None):
    """Whatever is asked for, the next version is higher, and at least as much higher as the change needs."""
    version, _ = versions.next_version(current, bump, requested)
    before, after = Version.parse(current), Version.parse(version)
    assert after > before
    if bump == "major":
        assert after.major > before.major
    elif bump == "minor":
        assert (after.major, after.minor) > (before.major, before.minor)
