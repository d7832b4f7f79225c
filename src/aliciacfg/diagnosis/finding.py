"""One thing that was looked at."""

from collections.abc import Iterable
from typing import Literal

import msgspec

Level = Literal["ok", "warn", "fail"]


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was found; it holds no secret.

    Attributes:
        level: ``fail`` where something does not work, ``warn`` where it may not be meant.
        about: What was looked at, in one or two words.
        message: What was found.
        remedy: What to do; empty for ``ok``.
    """

    level: Level
    about: str
    message: str
    remedy: str = ""


def ok(about: str, message: str) -> Finding:
    """Return that all is well."""
    return Finding("ok", about, message)


def warn(about: str, message: str, remedy: str) -> Finding:
    """Return that something may not be meant."""
    return Finding("warn", about, message, remedy)


def fail(about: str, message: str, remedy: str) -> Finding:
    """Return that something does not work."""
    return Finding("fail", about, message, remedy)


def fails(findings: Iterable[Finding]) -> bool:
    """Return whether something does not work."""
    return any(finding.level == "fail" for finding in findings)
