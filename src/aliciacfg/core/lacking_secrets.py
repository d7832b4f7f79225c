"""The secrets that one environment has and another one lacks, though it is valid without them."""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple
from weakref import ref

from aliciacfg.core.drafts import Drafts
from aliciacfg.core.loaded_files import LoadedFiles
from aliciacfg.core.state import Entry, State
from aliciacfg.documents import JsonObject, has, merge
from aliciacfg.model.config_id import ConfigId
from aliciacfg.sealing.sealed_documents import sealed_document, sealed_pointers
from aliciacfg.sources.layers import Sources

if TYPE_CHECKING:
    from aliciacfg.core.planner import Planner

_AT_A_TIME = 100


class _Known(NamedTuple):
    """What was found of a service, as long as both entries are the same; they are not kept for it.

    Attributes:
        active: Its entry in the environment that has the secrets.
        other: Its entry in the one that lacks them.
        lost: What it lacks there.
    """

    active: ref[Entry]
    other: ref[Entry]
    lost: list[str]


class LackingSecrets:
    """The secrets that one environment has and another one lacks, though it is valid without them."""

    def __init__(self, state: State, files: LoadedFiles, drafts: Drafts) -> None:
        """Hold the parts.

        Args:
            state: Has the configurations.
            files: The files in force.
            drafts: Compose what is not valid in the other environment.
        """
        self._state = state
        self._files = files
        self._drafts = drafts
        # Of what is not valid: to compose a draft takes 0.2 ms, and a console reads this after every change.
        self._known: dict[ConfigId, _Known] = {}
        self._files_of_known: ref[Planner] | None = None

    async def of(self, other: str, *, active: str) -> dict[str, list[str]]:
        """Return the places of the secrets that services have in one environment and not in another, by service.

        A service that the other one does not have is left out. Lets reads run in between.

        Args:
            other: The environment that lacks them.
            active: The one that has them.
        """
        found: dict[str, list[str]] = {}
        for number, (service, entry) in enumerate(list(self._state.heads(active)) if active != other else ()):
            if number % _AT_A_TIME == 0:
                await asyncio.sleep(0)
            if lost := self._of_service(ConfigId(other, service), entry):
                found[service] = lost
        return found

    def _of_service(self, config_id: ConfigId, entry: Entry) -> list[str]:
        theirs = self._state.committed(config_id)
        if self._files.problem_of(config_id) is None:
            return lost_secrets(entry, theirs)
        self._forget_other_files()
        known = self._known.get(config_id)
        if known is None or known.active() is not entry or known.other() is not theirs:
            draft = self._drafts.of(config_id)
            lost = lost_secrets(entry, theirs if draft is None else draft.document)
            known = self._known[config_id] = _Known(ref(entry), ref(theirs), lost)
        return known.lost

    def _forget_other_files(self) -> None:
        """Forget what was found with files that are no longer in force."""
        planner = self._files.current_planner
        if self._files_of_known is None or self._files_of_known() is not planner:
            self._known.clear()
            self._files_of_known = None if planner is None else ref(planner)


def lost_secrets(entry: Entry, other: Entry | JsonObject) -> list[str]:
    """Return the places of a configuration's secrets at which another one has nothing; none if that does not exist."""
    if entry.live is None or (isinstance(other, Entry) and other.live is None):
        return []
    document = _document(other) if isinstance(other, Entry) else other
    secrets = sealed_pointers(_document(entry)) if entry.effective is None else entry.effective.secrets
    return sorted(pointer for pointer in secrets if not has(document, pointer))


def lacking_in_files(sources: Sources, service: str, *, active: str, other: str) -> list[str]:
    """Return what ``LackingSecrets`` finds of one service, as far as the files say; no value has to open."""
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
