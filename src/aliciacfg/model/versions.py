"""Semantic versions (semver.org 2.0.0), with which the daemon numbers configurations."""

import re
from collections.abc import Iterable

from semver import Version

from aliciacfg.documents import Bump, Change
from aliciacfg.errors import Finding

FIRST = "1.0.0"
_PLAIN = re.compile(r"(0|[1-9][0-9]{0,15})\.(0|[1-9][0-9]{0,15})\.(0|[1-9][0-9]{0,15})")


def is_version(text: str) -> bool:
    """Return whether a text is a semantic version."""
    return Version.is_valid(text)


def major(text: str) -> int:
    """Return the major number of a semantic version."""
    return Version.parse(text).major


def bump_for(changes: Iterable[Change]) -> Bump:
    """Return the highest bump of some changes; ``patch`` if there are none."""
    bumps = {change.bump for change in changes}
    if "major" in bumps:
        return "major"
    return "minor" if "minor" in bumps else "patch"


def next_version(current: str, bump: Bump, requested: str | None) -> tuple[str, Finding | None]:
    """Compute the version after a change.

    Args:
        current: The version before the change.
        bump: The bump that the change needs.
        requested: The semantic version that the writer asks for; ignored if it is not above ``current``.

    Returns:
        The version, and a problem if the requested version is too low; then the version is the one needed.
    """
    if requested is None and (numbers := _PLAIN.fullmatch(current)):
        # Each version that the daemon makes is one, and the library takes 9 µs of a write for it.
        return _raised(bump, *map(int, numbers.groups())), None
    before = Version.parse(current)
    needed = {"major": before.bump_major, "minor": before.bump_minor, "patch": before.bump_patch}[bump]()
    if requested is None:
        return str(needed), None
    wanted = Version.parse(requested)
    if wanted <= before:
        return str(needed), None
    if wanted < needed:
        expected = f"; this change needs at least {needed}: leave version out"
        return str(needed), Finding("/version", "/version", "a lower version", expected, quotable=True)
    return str(wanted), None


def _raised(bump: Bump, major: int, minor: int, patch: int) -> str:
    match bump:
        case "major":
            return f"{major + 1}.0.0"
        case "minor":
            return f"{major}.{minor + 1}.0"
        case "patch":
            return f"{major}.{minor}.{patch + 1}"
