"""Finds out whether what other daemons changed is what a write was planned on."""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet

from aliciacfg.model.records import Basis, StoredState, Write

# Written to see whether the database can be written; means nothing.
_MEANINGLESS = frozenset({"probe"})


def is_superseded(
    writes: Iterable[Write], change: StoredState, created: AbstractSet[str], *, epoch: int | None
) -> bool:
    """Return whether a change by others is in the basis of one of the writes.

    Args:
        writes: The writes.
        change: What others changed since memory last followed.
        created: The environments in which they created a configuration.
        epoch: The epoch of memory; None if memory follows nothing.
    """
    bases = [write.basis for write in writes if write.basis is not None]
    if not bases:
        return False
    if change.meta.keys() - _MEANINGLESS or change.position.epoch != epoch:
        return True
    changed = _changed_services(change)
    return any(_intersects(basis, changed, created) for basis in bases)


def _changed_services(change: StoredState) -> set[str]:
    rows = (*change.records, *change.overlays, *change.told, *change.schemas, *change.recipients)
    return {row.service for row in rows}


def _intersects(basis: Basis, changed: set[str], created: AbstractSet[str]) -> bool:
    if basis.everything:
        return bool(changed)
    return not basis.services.isdisjoint(changed) or not basis.creates.isdisjoint(created)
