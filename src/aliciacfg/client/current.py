"""A configuration as the program sees it."""

import time
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from aliciacfg.client.order import Numbers

Source = Literal["live", "snapshot", "default"]

SettingsT = TypeVar("SettingsT")


@dataclass(slots=True)
class Trust:
    """Whether the newest record is what the daemon wants now; shared by all records of a client.

    Attributes:
        confirmed: The numbers of the record that the broker, or the daemon, has confirmed on the present connection;
            None for none.
    """

    confirmed: Numbers | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Current(Generic[SettingsT]):
    """A configuration; it never changes, another one takes its place. Its ``repr`` shows no value.

    Attributes:
        settings: The service's own settings, as the type that was asked for.
        config: The whole document, secrets opened where there is a key.
        environment: The environment that it belongs to; empty for a default.
        revision: Its revision there; 0 for a default.
        sequence: With ``epoch`` its place in the order of all changes of the home; 0 for a default.
        epoch: 0 for a default.
        version: Its semantic version; empty for a default.
        checksum: The same for equal configurations; empty for a default.
        source: ``live`` from the daemon, ``snapshot`` from this machine's disk, ``default`` from the program.
        redacted: Why a secret is ``***``, by JSON Pointer; empty if every secret is there.
        received_at: When it was received, in Unix seconds; of a snapshot, when that was written.
    """

    settings: SettingsT = field(repr=False)
    config: dict[str, Any] = field(repr=False)
    environment: str = ""
    revision: int = 0
    sequence: int = 0
    epoch: int = 0
    version: str = ""
    checksum: str = ""
    source: Source
    redacted: dict[str, str] = field(default_factory=dict[str, str])
    received_at: float
    trust: Trust = field(repr=False, compare=False)

    @property
    def age_seconds(self) -> float:
        """How long ago the broker or the daemon sent it last."""
        return max(0.0, time.time() - self.received_at)

    @property
    def stale(self) -> bool:
        """Whether it may no longer be what the daemon wants.

        So are a snapshot and a default until the daemon confirms them, all records while the broker cannot be reached,
        the newest one while the program rejects the one after it, and every record that another one replaced.
        """
        return self.trust.confirmed != self.numbers

    @property
    def numbers(self) -> Numbers:
        """``(epoch, sequence)``"""
        return self.epoch, self.sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Change(Current[SettingsT]):
    """A configuration, and what is different from the one that the receiver had before.

    Attributes:
        changed: JSON Pointers of what differs in ``config``, ``version`` left out.
        restart_required: Those of them that the schema marks with ``x-restart-required``; all of them if a message was
            missed, as while the broker was away, because this is not known then.
        deleted: Whether the daemon no longer has a configuration of this service. ``settings`` and ``config`` are then
            the last ones that there were.
    """

    changed: tuple[str, ...] = ()
    restart_required: tuple[str, ...] = ()
    deleted: bool = False
