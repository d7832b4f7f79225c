"""The secrets that one environment has and another one lacks, though it is valid without them."""

import asyncio
from collections.abc import Mapping

from aliciacfg.core.drafts import Drafts
from aliciacfg.core.state import Entry, State
from aliciacfg.documents import JsonObject, has, merge
from aliciacfg.model.config_id import ConfigId
from aliciacfg.sealing.sealed_documents import sealed_document, sealed_pointers
from aliciacfg.sources.layers import Sources

_AT_A_TIME = 100


async def lacking_secrets(state: State, drafts: Drafts, *, active: str, other: str) -> dict[str, list[str]]:
    """Return the places of the secrets that services have in one environment and not in another, by service.

    A service that the other one does not have is left out. Lets reads run in between.

    Args:
        state: Has the configurations.
        drafts: Compose what is not valid in the other environment.
        active: The environment that has them.
        other: The one that lacks them.
    """
    found: dict[str, list[str]] = {}
    for number, (service, entry) in enumerate(list(state.heads(active)) if active != other else ()):
        if number % _AT_A_TIME == 0:
            await asyncio.sleep(0)
        config_id = ConfigId(other, service)
        draft = drafts.of(config_id)
        theirs = state.committed(config_id) if draft is None else draft.document
        if lost := lost_secrets(entry, theirs):
            found[service] = lost
    return found


def lost_secrets(entry: Entry, other: Entry | JsonObject) -> list[str]:
    """Return the places of a configuration's secrets at which another one has nothing; none if that does not exist."""
    if entry.live is None or (isinstance(other, Entry) and other.live is None):
        return []
    document = _document(other) if isinstance(other, Entry) else other
    secrets = sealed_pointers(_document(entry)) if entry.effective is None else entry.effective.secrets
    return sorted(pointer for pointer in secrets if not has(document, pointer))


def lacking_in_files(sources: Sources, service: str, *, active: str, other: str) -> list[str]:
    """Return what ``lacking_secrets`` returns of one service, as far as the files tell; no value has to open."""
    theirs = sources.environments[other]
    if active == other or active not in sources.environments or service not in theirs.services:
        return []
    secrets = sources.schema(service).secrets(_merged(sources, active, service))
    document = _merged(sources, other, service)
    return sorted(pointer for pointer in secrets if not has(document, pointer))


def lacks_in_files(sources: Sources, service: str, pointer: str, environment: str) -> bool:
    """Return whether the files of an environment have nothing at a place of a service."""
    return not has(_merged(sources, environment, service), pointer)


def by_service(sources: Sources, *, active: str, other: str) -> Mapping[str, list[str]]:
    """Return what ``lacking_in_files`` returns of every service that lacks something."""
    services = sorted(sources.environments[other].services)
    found = {name: lacking_in_files(sources, name, active=active, other=other) for name in services}
    return {name: places for name, places in found.items() if places}


def _document(entry: Entry) -> JsonObject:
    if entry.effective is not None:
        return entry.effective.document
    return {} if entry.live is None else sealed_document(entry.live)


def _merged(sources: Sources, environment: str, service: str) -> JsonObject:
    document: JsonObject = {}
    for layer in sources.environments[environment].draft.layers(service):
        document = merge(document, layer.patch)
    return document
