"""The differences between two configurations of a service."""

from typing import Any

import msgspec

from aliciacfg.api.fields import Pointers, Remedies, RevisionOrNone
from aliciacfg.errors import Problem


class Sides(msgspec.Struct, frozen=True, kw_only=True):
    """The values of both sides at one place."""

    env1: Any
    env2: Any


class CompareAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``compare``: the differences between two sides.

    Attributes:
        equal: Whether nothing differs; secrets count only for administrators.
        changed: The places with different values on both sides, by JSON Pointer.
        only_in_env1: Members that only the first side has, by JSON Pointer; an object as a whole.
        only_in_env2: Members that only the second side has.
        rev1: The revision of the first side; 0 if its environment yields nothing valid: then it is what its files say.
        rev2: The revision of the second side, or 0.
        secrets: Secrets of both sides that were not compared.
        hidden: The places of differences at which ``secret`` stands for one.
        missing: By environment that yields nothing valid: required members that are missing, and values whose variable
            is not set.
        problems: By environment, the reasons why what its files say of the service is not valid.
        remedies: Commands that correct all of it, where there are any.
        lacking_secrets: Of two environments, the secrets that only the first one has.
    """

    service: str
    env1: str
    env2: str
    rev1: RevisionOrNone
    rev2: RevisionOrNone
    equal: bool
    changed: dict[str, Sides]
    only_in_env1: dict[str, Any]
    only_in_env2: dict[str, Any]
    secrets: Pointers
    missing: dict[str, Pointers] = {}
    problems: dict[str, list[Problem]] = {}
    remedies: Remedies = []
    lacking_secrets: Pointers = []
    hidden: Pointers = []
