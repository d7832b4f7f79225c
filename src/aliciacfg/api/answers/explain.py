"""The origin of each value of a configuration."""

from typing import Any

import msgspec

from aliciacfg.api.fields import Pointers, RevisionOrNone
from aliciacfg.errors import Problem


class Overridden(msgspec.Struct, frozen=True, kw_only=True):
    """The value of a lower layer; see ``Explained``."""

    layer: str
    line: int | None
    value: Any


class Explained(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The origin of one value.

    Attributes:
        value: The value; a secret is ``***``.
        layer: ``schema``, ``environments/<file>#defaults``, ``environments/<file>#services``, ``overlay``, or
            ``daemon`` for the ``version``, which is in no layer.
        line: 1-based line of the file; null if the layer is not a file.
        revision: For an ``overlay``, the revision that set the value.
        overridden: The values of lower layers, highest first, including values around and below this place.
    """

    value: Any
    layer: str
    line: int | None
    overridden: list[Overridden]
    revision: int | None = None


class Removed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A place that a layer removed with ``null``."""

    layer: str
    line: int | None
    overridden: list[Overridden]
    revision: int | None = None


class ExplainAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``explain``: every leaf of the configuration by JSON Pointer; put together they are the configuration.

    Attributes:
        revision: The revision that is served; 0 if there is none, because what the files say is not valid.
        missing: Of a configuration that is not valid: required members that are missing, and values whose variable is
            not set.
        problems: The reasons why what the files say is not valid, each with file and line.
        hidden: As in ``environments``.
    """

    service: str
    environment: str
    revision: RevisionOrNone
    values: dict[str, Explained]
    removed: dict[str, Removed]
    missing: Pointers = []
    problems: list[Problem] = []
    hidden: list[Problem] = []
