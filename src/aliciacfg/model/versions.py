"""Semantic versions of configurations, which belong to the daemon (semver.org 2.0.0)."""

from collections.abc import Iterable

from semver import Version

from aliciacfg.documents import Bump, Change
from aliciacfg.errors import Problem

FIRST = "1.0.0"


def is_version(text: str) -> bool:
    """Whether a text is a semantic version."""
    return Version.is_valid(text)


def major(text: str) -> int:
    """The major version of a semantic version."""
    return Version.parse(text).major


def bump_for(changes: Iterable[Change]) -> Bump:
    """The bump that a set of changes needs: the highest one of them."""
    bumps = {change.bump for change in changes}
    if "major" in bumps:
        return "major"
    return "minor" if "minor" in bumps else "patch"


def next_version(current: str, bump: Bump, requested: str | None) -> tuple[str, Problem | None]:
    """The version after a change.

    Args:
        current: The version before it.
        bump: What the change needs.
        requested: What the writer asks for, a semantic version; at or below ``current`` it means "left alone".

    Returns:
        The version, and what is wrong with the request, if anything: then the version is what was needed.
    """
    before = Version.parse(current)
    needed = {"major": before.bump_major, "minor": before.bump_minor, "patch": before.bump_patch}[bump]()
    if requested is None:
        return str(needed), None
    wanted = Version.parse(requested)
    if wanted <= before:
        return str(needed), None
    if wanted < needed:
        return str(needed), Problem(
            "/version", f"found {wanted}; this change needs at least {needed}: leave version out"
        )
    return str(wanted), None
