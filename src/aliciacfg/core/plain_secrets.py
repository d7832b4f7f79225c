"""Finds what the store holds in plain text although the schemas in force mark it as secret.

It composes nothing: the values of a configuration that is invalid, inactive, deleted, or in no file are found too.
"""

import asyncio
from collections.abc import Iterable

from aliciacfg.model.records import Overlay, Record
from aliciacfg.sealing.boxes import Keyring
from aliciacfg.sealing.sealed_documents import seal_further, seal_overlay_further
from aliciacfg.sources.layers import Sources
from aliciacfg.storage.store import Store


class PlainSecrets:
    """Returns stored documents with everything sealed that is secret now; changes nothing, lets reads run in between.

    To be called while no write waits that was planned under another schema.
    """

    def __init__(self, store: Store, keyring: Keyring) -> None:
        self._store = store
        self._keyring = keyring

    async def revisions(self, sources: Sources, services: Iterable[str]) -> list[Record]:
        """Return the revisions of some services, in every environment, of which more is secret than is sealed.

        Raises:
            Unavailable: The store cannot be read.
        """
        found: list[Record] = []
        for service in sorted(services):
            async for record in self._store.revisions(service):
                more = seal_further(record, sources.schema(service), self._keyring)
                if more is not None:
                    found.append(more)
        return found

    async def overlays(self, sources: Sources) -> list[Overlay]:
        """Return the overlays of which more is secret than is sealed.

        Raises:
            Unavailable: The store cannot be read.
        """
        found: list[Overlay] = []
        for overlay in await self._store.overlays():
            await asyncio.sleep(0)
            more = seal_overlay_further(overlay, sources.schema(overlay.service), self._keyring)
            if more is not None:
                found.append(more)
        return found
