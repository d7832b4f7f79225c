"""What differs between two states of a home, and which secrets of one do not open."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from aliciacfg.bootstrap import Core
from aliciacfg.core.state import State
from aliciacfg.model.config_id import ConfigId

Kind = Literal["changed", "gone", "back"]


@dataclass(frozen=True, slots=True)
class Head:
    """The newest revision of a configuration; ``checksum`` is empty if it is a deletion."""

    revision: int
    checksum: str


Heads = dict[ConfigId, Head]


@dataclass(frozen=True, slots=True)
class Change:
    """A configuration that is another one after a restore.

    Attributes:
        environment: Its environment.
        service: Its service.
        kind: It has another content, is gone, or is back.
        before: The revision before; 0 if there was none.
        after: The revision afterwards; 0 if there is none.
    """

    environment: str
    service: str
    kind: Kind
    before: int
    after: int


def heads_of(state: State) -> Heads:
    """Return the newest revision of every configuration, deleted ones included."""
    return {
        config_id: Head(entry.record.revision, "" if entry.live is None else entry.live.checksum)
        for config_id, entry in state.all_heads().items()
        if entry.record is not None
    }


def compare(before: Mapping[ConfigId, Head], after: Mapping[ConfigId, Head]) -> list[Change]:
    """Return the configurations that differ, sorted; all of ``after`` if nothing is known of the state before."""
    return list(_compare(before, after))


def _compare(before: Mapping[ConfigId, Head], after: Mapping[ConfigId, Head]) -> Iterator[Change]:
    none = Head(0, "")
    for config_id in sorted(before.keys() | after.keys()):
        old, new = before.get(config_id, none), after.get(config_id, none)
        if old.checksum == new.checksum:
            continue
        kind: Kind = "gone" if not new.checksum else "changed" if old.checksum else "back"
        yield Change(config_id.environment, config_id.service, kind, old.revision, new.revision)


def undecryptable(core: Core) -> list[str]:
    """Return the secrets of all configurations that do not open with the keys that are here."""
    return [
        f"{config_id.service} in {config_id.environment}: {problem.pointer}"
        for config_id, entry in sorted(core.state.all_heads().items(), key=lambda item: item[0])
        if entry.live is not None
        for problem in core.configurations.open_record(entry.live).problems
    ]
