"""The parts that are made first: from the settings, the keys and what the database holds."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import structlog

from aliciacfg.access.audit_log import AuditLog
from aliciacfg.access.authorizer import Authorizer
from aliciacfg.core.cache import AnswerCache
from aliciacfg.core.change_log import ChangeLog
from aliciacfg.core.commits import Commits
from aliciacfg.core.configurations import Configurations
from aliciacfg.core.drafts import Drafts
from aliciacfg.core.key_reloads import KeyReloads
from aliciacfg.core.loaded_files import LoadedFiles
from aliciacfg.core.message_ids import MessageIds
from aliciacfg.core.outbox import Outbox
from aliciacfg.core.restore import Restored, restore
from aliciacfg.core.scrubbing import Scrubbing
from aliciacfg.core.state import State
from aliciacfg.core.views import Views
from aliciacfg.core.waiters import ChangeWaiters
from aliciacfg.errors import KeyFileError, Unavailable
from aliciacfg.model.records import Applied, Token
from aliciacfg.monitoring.alerts import Alerts
from aliciacfg.monitoring.drift import Drift
from aliciacfg.monitoring.store_condition import StoreCondition
from aliciacfg.sealing.boxes import Keyring, PublicKey
from aliciacfg.sealing.key_file import KeyFile
from aliciacfg.settings import Settings
from aliciacfg.sources.source_files import SourceFiles
from aliciacfg.storage.hash_chain import Chain
from aliciacfg.storage.shared_keys import SharedKeyStore
from aliciacfg.storage.store import Store
from aliciacfg.storage.write_queue import WriteQueue

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts that are made first, from which the others are made.

    Attributes:
        went_back: Whether a database that daemons share is of an earlier time than this one has seen, or was restored.
        applied: The revisions that services have reported as applied.
    """

    settings: Settings
    source_files: SourceFiles
    alerts: Alerts
    drift: Drift
    keys: KeyFile
    key_reloads: KeyReloads
    keyring: Keyring
    chain: Chain
    store: Store
    condition: StoreCondition
    queue: WriteQueue
    audit_log: AuditLog
    authorizer: Authorizer
    restored: Restored
    went_back: bool
    state: State
    outbox: Outbox
    files: LoadedFiles
    drafts: Drafts
    views: Views
    cache: AnswerCache
    waiters: ChangeWaiters
    change_log: ChangeLog
    commits: Commits
    configurations: Configurations
    scrubbing: Scrubbing
    applied: Sequence[Applied]


async def make_parts(
    settings: Settings,
    *,
    alerts: Alerts,
    keys: KeyFile,
    shared_keys: SharedKeyStore | None,
    keyring: Keyring,
    chain: Chain,
    store: Store,
    condition: StoreCondition,
    queue: WriteQueue,
    audit_log: AuditLog,
) -> Parts:
    """Make the first parts: read the database, and have memory hold what it says.

    Raises:
        KeyFileError: The keys are of an earlier time than the database.
        Unavailable: The database cannot be read.
    """
    restored = await restore(store, keyring, requested_environment=settings.environment)
    witnessed = None if store.shared is None else await store.witnessed()
    went_back = witnessed is not None and witnessed > restored.position
    if shared_keys is not None:
        await _check_generation(shared_keys, went_back=went_back)
    tokens = [unless_revoked(token, keys) for token in await store.tokens()]
    if tokens:
        revoked = [token.token_id for token in tokens if token.confirmed and token.revoked is not None]
        await asyncio.to_thread(_note_tokens, keys, revoked)
    state = State(
        restored.entries,
        active=restored.active,
        position=restored.position,
        used_numbers=restored.used_numbers,
        incomplete=restored.incomplete,
    )
    files = LoadedFiles(restored.defined, restored.schemas, found=restored.files)
    views = Views(
        keyring,
        state,
        await _recipients(store),
        refused_edits=lambda known: files.refused_edits(
            known.environment, sees=lambda name: name in (None, known.service)
        ),
    )
    applied = await store.applied()
    if store.unwritable is not None:
        # As found when it was opened, or when it was loaded.
        queue.begin_unwritable(store.unwritable)
    return Parts(
        applied=applied,
        settings=settings,
        source_files=SourceFiles(settings),
        alerts=alerts,
        drift=Drift(alerts, time.time),
        keys=keys,
        key_reloads=KeyReloads(keys, keyring, alerts),
        keyring=keyring,
        chain=chain,
        store=store,
        condition=condition,
        queue=queue,
        audit_log=audit_log,
        authorizer=Authorizer(tokens, had_tokens=keys.had_tokens, alerts=alerts, clock=time.time),
        restored=restored.without_contents(),
        # A restore raises the epoch, and so does the start after a failover that lost something.
        went_back=went_back or (witnessed is not None and witnessed.epoch < restored.position.epoch),
        state=state,
        outbox=Outbox(restored.announcements, message_ids=MessageIds(keyring)),
        files=files,
        drafts=Drafts(files, state, keyring),
        views=views,
        cache=AnswerCache(state, views, ttl_seconds=settings.cache_ttl_seconds),
        waiters=ChangeWaiters(),
        change_log=ChangeLog(state, shared=store.shared is not None),
        commits=Commits(state=state, queue=queue),
        configurations=Configurations(
            state=state,
            files=files,
            store=store,
            keyring=keyring,
            max_services=settings.max_services,
        ),
        scrubbing=Scrubbing(store, alerts),
    )


async def _check_generation(keys: SharedKeyStore, *, went_back: bool) -> None:
    """Refuse keys of an earlier time, unless all of the database is: then ``Order`` raises the epoch and reports it.

    Raises:
        KeyFileError: Only the keys are.
    """
    keys.takes_back = False
    if keys.went_back is None:
        return
    if not went_back:
        raise keys.went_back
    _log.warning("keys_went_back", keys=keys.name, remedy="rotate the keys and revoke tokens again, if you had done so")
    try:
        await asyncio.to_thread(keys.accept)
    except (KeyFileError, Unavailable) as error:
        _log.warning("keys_not_accepted", reason=str(error), remedy="none needed; the next start tries again")


def unless_revoked(token: Token, keys: KeyFile) -> Token:
    """Return a token; not confirmed if its row is one from before it was revoked."""
    revived = token.revoked is None and token.token_id in keys.revoked
    return msgspec.structs.replace(token, confirmed=False) if revived else token


def _note_tokens(keys: KeyFile, revoked: Sequence[str]) -> None:
    """Note in the key file what must hold of tokens, also if the database says otherwise later."""
    try:
        keys.note_tokens(revoked)
    except KeyFileError as error:
        _log.warning("key_file_not_marked", reason=str(error), remedy="none needed; the next start tries it again")


async def _recipients(store: Store) -> dict[str, PublicKey]:
    return {item.service: PublicKey.parse(item.public_key) for item in await store.recipients() if item.public_key}
