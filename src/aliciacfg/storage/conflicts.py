"""Finds out whether what other daemons changed is what a write was planned on."""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet

from aliciacfg.model.records import SERVICE_SUBJECT, Basis, StoredState, Write

PROBE = "probe"
"""A name in the table of names and values that is written to see whether the database can be; it means nothing."""


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
    # What was planned before a rotation is sealed with a key that may be removed.
    if change.keys or change.format or change.meta.keys() - {PROBE} or change.position.epoch != epoch:
        return True
    if any(basis.everything for basis in bases) and _announces_home(change):
        # A place in the order of messages that is higher than the one which a plan for the whole home took.
        return True
    changed = _changed_services(change)
    return any(_intersects(basis, changed, created) for basis in bases)


def may_supersede(bases: Iterable[Basis], change: StoredState) -> bool:
    """Return whether a change by others may be in one of the bases, as far as the change itself says it.

    It does not say which configurations are new, nor what the epoch was before. So where ``is_superseded`` says yes,
    this does as well, and sometimes where that says no.
    """
    bases = list(bases)
    if not bases:
        return False
    if change.keys or change.format or change.meta.keys() - {PROBE}:
        return True
    if _announces_home(change):
        # Each new epoch does.
        return True
    created = {record.environment for record in change.records if not record.deleted}
    changed = _changed_services(change)
    return any(_intersects(basis, changed, created) for basis in bases)


def _announces_home(change: StoredState) -> bool:
    """Return whether there is something new to publish that belongs to no service, such as the environment."""
    return any(item.pending and not item.subject.startswith(SERVICE_SUBJECT) for item in change.announcements)


def _changed_services(change: StoredState) -> set[str]:
    rows = (*change.records, *change.overlays, *change.renewals, *change.schemas, *change.recipients)
    return {row.service for row in rows}


def _intersects(basis: Basis, changed: set[str], created: AbstractSet[str]) -> bool:
    if basis.everything:
        return bool(changed)
    return not basis.services.isdisjoint(changed) or not basis.creates.isdisjoint(created)
