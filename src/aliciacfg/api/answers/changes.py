"""What a change changes: the old and the new values, and which services."""

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta


class ValueChange(msgspec.Struct, frozen=True, kw_only=True):
    """The value of a place before and after a change.

    Attributes:
        old: The value before, a secret as ``***``; missing if there was none.
        new: The value after; missing if there is none.
    """

    old: Any = UNSET
    new: Any = UNSET


Changes = Annotated[
    dict[str, dict[str, ValueChange]],
    Meta(
        description="By service: the old and the new value of each changed place, by JSON Pointer. At most 100 places "
        "of a service, none with a value of more than 1 KiB, and 64 KiB of all services."
    ),
]
ChangesLeftOut = Annotated[
    dict[str, int],
    Meta(description="By service: how many changed places are not in `changes` because of its limits."),
]
AddedServices = Annotated[
    list[str], Meta(description="Services that had no configuration before; their values are not in `changes`.")
]
RemovedServices = Annotated[
    list[str], Meta(description="Services that have no configuration afterwards; their values are not in `changes`.")
]
WaitsForBroker = Annotated[
    bool,
    Meta(
        description="The broker is away: the change is stored, `get` returns it, and the daemon publishes it when the "
        "broker is back. In a dry run: that is what would happen."
    ),
]
