"""The keys that hold the secrets: the daemon's own, which are rotated, and those that services register."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import replace

from aliciacfg import documents
from aliciacfg.core.announcements import Announcements
from aliciacfg.core.cache import AnswerCache
from aliciacfg.core.commits import Commits
from aliciacfg.core.loaded_files import LoadedFiles
from aliciacfg.core.plan import ChangeContext, Plan
from aliciacfg.core.reloads import Reloads
from aliciacfg.core.restore import stored_entries
from aliciacfg.core.scrubbing import Scrubbing
from aliciacfg.core.state import Entry, State
from aliciacfg.core.views import Views
from aliciacfg.errors import NotFound, OperationError, SourceError, Superseded
from aliciacfg.model.config_id import ConfigId
from aliciacfg.model.records import Recipient
from aliciacfg.sealing.boxes import Keyring, PublicKey, key_ids
from aliciacfg.sealing.sealed_documents import open_record, reseal
from aliciacfg.storage.store import Store


class KeyRotation:
    """Changes keys, and seals again the values sealed with them."""

    def __init__(
        self,
        *,
        state: State,
        files: LoadedFiles,
        commits: Commits,
        views: Views,
        cache: AnswerCache,
        announcements: Announcements,
        reloads: Reloads,
        store: Store,
        scrubbing: Scrubbing,
        keyring: Keyring,
        clock: Callable[[], float],
    ) -> None:
        """Hold the parts.

        Args:
            state: Has the configurations in memory, which are reloaded after a change of keys.
            files: The files in force, which also contain sealed values.
            commits: Makes changes durable.
            views: Renders secrets for the services' keys.
            cache: Has answers that were rendered with the old keys.
            announcements: Replaces the retained messages that show secrets in another way.
            reloads: Loads files whose sealed values may open now.
            store: Has the sealed values.
            scrubbing: Removes the values sealed with old keys.
            keyring: Used by all parts; its keys are replaced in place.
            clock: Unix seconds.
        """
        self._state = state
        self._files = files
        self._commits = commits
        self._views = views
        self._cache = cache
        self._announcements = announcements
        self._reloads = reloads
        self._store = store
        self._scrubbing = scrubbing
        self._keyring = keyring
        self._clock = clock

    @property
    def published(self) -> dict[str, str]:
        """The public part of the key that seals now, for anyone."""
        return self._keyring.published

    async def used(self) -> set[str]:
        """Return the ids of the keys that anything in the store or the files is sealed with.

        Raises:
            Unavailable: The store cannot be read.
        """
        sources = self._files.sources
        files = [file for found in sources.environments.values() for file in found.files] if sources else []
        texts = (documents.encode([file.defaults, dict(file.services)]) for file in files)
        return await self._store.key_ids() | {key_id for text in texts for key_id in key_ids(text)}

    def apply(self, keyring: Keyring) -> None:
        """Use other keys from now on; stored values stay sealed as they are."""
        self._keyring.replace_with(keyring)

    async def rekey(self, context: ChangeContext, change: Callable[[], Keyring]) -> None:
        """Change the keys, and seal all stored values again with the new current key.

        Args:
            context: The reason.
            change: Changes the key file and returns its keys; called in a thread.

        Raises:
            KeyFileError: The file cannot be written; nothing changed.
            Unavailable: The store cannot write. The new key seals already, and the old ones open what they sealed.
        """
        before: dict[ConfigId, set[str]] | None = None

        async def make(plan: Plan) -> None:
            nonlocal before
            # If a write in front is superseded, this plan is as well; that must not delay the resealing until the plan
            # is made in a hold, whose transaction the resealing would use up.
            with contextlib.suppress(Superseded):
                await self._commits.flush()
            if before is None:
                # Once, however often this is planned.
                opened_before = await self._opened()
                self._keyring.replace_with(await asyncio.to_thread(change))
                await self._store.reseal(self._resealed)
                before = opened_before
            await self._reload_stored()
            self._views.forget()
            self._cache.clear()
            for config_id, opened in (await self._opened()).items():
                if opened != before.get(config_id):
                    self._announcements.announce_again(plan, config_id)
            await self._announcements.plan(plan)

        await self._commits.change(context, make, exclusive=True)
        await self._scrubbing.scrub()
        # Reloads already raised an alert, and the keys have changed regardless.
        with contextlib.suppress(SourceError, OperationError):
            await self._reloads.reload(own=False)

    async def set_recipient(self, service: str, key: PublicKey | None, context: ChangeContext) -> None:
        """Set or remove the key that a service's secrets are sealed to, and publish its configuration again.

        Raises:
            NotFound: The service has no configuration anywhere.
            Unavailable: The store cannot write; nothing was changed.
        """

        async def make(plan: Plan) -> None:
            heads = self._state.heads_of(service)
            if not any(entry.live for entry in heads.values()):
                raise NotFound(f"There is no configuration of {service}.")
            # The announcement that follows is of what is committed.
            await self._commits.flush()
            plan.recipients.append(Recipient(service, None if key is None else str(key)))
            detail = "none" if key is None else f"key {key.key_id}"
            plan.audit.append(context.audit_entry(self._clock(), service=service, detail=detail))
            views = self._views.with_recipient(service, key)
            for environment in heads:
                self._announcements.announce_again(plan, ConfigId(environment, service), views=views)

        # Exclusive: what is planned next is announced for the new key.
        await self._commits.change(context, make, exclusive=True)

    async def _reload_stored(self) -> None:
        """Reload the stored records after the keys changed; some sealed values may open now, others no longer.

        What another daemon changed meanwhile stays as it is in memory: nothing composes it here. Memory follows that
        change in its turn, and the plan that this is a part of is made again.

        Raises:
            Unavailable: The store cannot be read.
        """
        known = self._state.all_heads()
        shared = self._store.shared is not None
        # Another load would have memory follow only what comes after it.
        state = await (self._store.load_since(0) if shared else self._store.load())
        stored = await asyncio.to_thread(stored_entries, state, self._keyring)
        self._state.commit(
            {
                config_id: replace(entry, effective=before.effective)
                for config_id, before in known.items()
                if (entry := stored.get(config_id)) is not None
                and _is_same(entry, before)
                and self._state.head(config_id) is before
            }
        )

    async def _opened(self) -> dict[ConfigId, set[str]]:
        """Return the places of the secrets that open, of every configuration that exists."""
        return await asyncio.to_thread(_opened_pointers, self._state.all_heads(), self._keyring)

    def _resealed(self, document: bytes, environment: str, service: str) -> bytes:
        return reseal(document, self._keyring, service=service, environment=environment).document


def _is_same(stored: Entry, known: Entry) -> bool:
    """Return whether what is stored is the revision that memory knows, with the same content."""
    if stored.record is None or known.record is None:
        return stored.record is known.record
    return (stored.record.revision, stored.record.checksum) == (known.record.revision, known.record.checksum)


def _opened_pointers(heads: Mapping[ConfigId, Entry], keyring: Keyring) -> dict[ConfigId, set[str]]:
    return {
        config_id: set(open_record(entry.live, keyring).secrets)
        for config_id, entry in heads.items()
        if entry.live is not None
    }
