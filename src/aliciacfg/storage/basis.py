"""Whether a change of another daemon takes away what a write was planned on: one rule for the store and for memory."""

from collections.abc import Set as AbstractSet

from aliciacfg.model.records import SERVICE_SUBJECT, Basis, StoredState

PROBE = "probe"
"""A name in the store's table of names and values that is written to find out whether the store can be written."""


def conflicts(basis: Basis, change: StoredState) -> bool:
    """Return whether a write that was planned on ``basis`` does not count any more after a change of others.

    A change concerns every plan if it is one of the home: a name with a value, the active environment, the key that
    seals. Otherwise it concerns the plans that look at a service of which a configuration, schema or recipient
    changed, and those that create a configuration where there may be another one now.

    Args:
        basis: The basis.
        change: What others changed, as ``Store.load_since`` returns it.
    """
    if any(name != PROBE for name in change.meta) or any(
        not item.subject.startswith(SERVICE_SUBJECT) and item.pending for item in change.announcements
    ):
        return True
    services = touched_services(change)
    if basis.everything:
        return bool(services)
    if not basis.services.isdisjoint(services):
        return True
    return any(record.environment in basis.creates and not record.deleted for record in change.records)


def touched_services(change: StoredState) -> AbstractSet[str]:
    """Return the services of which a change of others concerns a configuration, a schema or a recipient."""
    return {
        item.service
        for items in (change.records, change.overlays, change.told, change.schemas, change.recipients)
        for item in items
    }
