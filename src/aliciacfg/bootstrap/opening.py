"""Opens a data directory: its keys, its database, and the core over them."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import structlog

from aliciacfg.access.audit_log import AuditLog
from aliciacfg.bootstrap.assembly import assemble
from aliciacfg.bootstrap.core import Core
from aliciacfg.bootstrap.parts import make_parts
from aliciacfg.core.adoption import adopt_rows, report_adoption
from aliciacfg.core.plan import ChangeContext
from aliciacfg.counted import counted
from aliciacfg.errors import Unavailable
from aliciacfg.model.records import Write
from aliciacfg.monitoring.alerts import Alert, Alerts
from aliciacfg.monitoring.store_condition import StoreCondition
from aliciacfg.sealing.key_file import AdoptionNote, KeyFile
from aliciacfg.sealing.key_store import FileKeyStore, KeyStore
from aliciacfg.settings import Settings
from aliciacfg.storage.backend import database_in
from aliciacfg.storage.data_directory import DataDirectory
from aliciacfg.storage.hash_chain import Chain
from aliciacfg.storage.home_keys import shared_keys_of
from aliciacfg.storage.shared_keys import SharedKeyStore
from aliciacfg.storage.store import Database
from aliciacfg.storage.write_queue import WriteQueue

_log = structlog.get_logger(__name__)

_UNREACHABLE_SECONDS = 1.0


@asynccontextmanager
async def open_core(
    settings: Settings, data: DataDirectory, *, database: Database | None = None, keep_adopted: bool = True
) -> AsyncGenerator[Core, None]:
    """Put the core together over a data directory; at the end commit pending writes and close the store.

    The files are not loaded yet: see ``Core.start``. If a commit may have left memory and database different,
    the block is cancelled and raises that error.

    Args:
        settings: The daemon's settings.
        data: The data directory.
        database: The database, whose keys are in the data directory; None for what the settings name.
        keep_adopted: Whether a database is copied before rows of a lost key file are adopted.

    Raises:
        KeyFileError: The sealing keys cannot be used, or did not write the database.
        StoreError: The database cannot be used.
        Unavailable: The database cannot be read.
    """
    alerts = Alerts(time.time)
    alerts.log_with(_log_alert)
    shared_keys = shared_keys_of(settings, serves=True) if database is None else None
    keys = await _open_keys(shared_keys or FileKeyStore(data.key_file))
    async with AsyncExitStack() as stack:
        stack.callback(alerts.report_counted)
        # One object, whose keys a rotation replaces in place: every part holds it.
        keyring = keys.make_keyring()
        chain = Chain(keyring)
        database = database or database_in(data.path, settings.database_url)
        now = time.time()
        keep = partial(data.keeping_before, "adoption", database.backup, now=now) if keep_adopted else None
        adopted = await asyncio.to_thread(adopt_rows, database, keys, chain, keep=keep, now=now)
        store = await stack.enter_async_context(database.open(chain))
        condition = StoreCondition(alerts)
        store.listen_reads(condition.on_read)
        queue = await stack.enter_async_context(WriteQueue(store, condition))
        audit_log = AuditLog(queue, time.time)
        stack.callback(audit_log.flush)
        report_adoption(keys, alerts)
        if adopted is not None:
            await _record_adoption(adopted, queue)
        parts = await make_parts(
            settings,
            alerts=alerts,
            keys=keys,
            shared_keys=shared_keys,
            keyring=keyring,
            chain=chain,
            store=store,
            condition=condition,
            queue=queue,
            audit_log=audit_log,
        )
        core = assemble(parts, data)
        stack.callback(core.announcements.store_confirmations)
        if core.following is not None:
            stack.push_async_callback(core.following.stop)
        yield core


async def _open_keys(store: KeyStore) -> KeyFile:
    """Return the keys of a home, made if there are none; wait as long as their database cannot be reached.

    Raises:
        KeyFileError: They cannot be used.
        StoreError: Their database cannot be used.
    """

    def open_keys() -> KeyFile:
        if isinstance(store, SharedKeyStore):
            store.take_file()
        return KeyFile.load_or_create(store, now=time.time())

    reported = ""
    while True:
        try:
            return await asyncio.to_thread(open_keys)
        except Unavailable as error:
            if error.message != reported:
                reported = error.message
                _log.warning("keys_unreachable", keys=store.name, reason=reported, remedy="none needed; it tries again")
        await asyncio.sleep(_UNREACHABLE_SECONDS)


async def _record_adoption(note: AdoptionNote, queue: WriteQueue) -> None:
    """Record in the audit log that rows were adopted."""
    context = ChangeContext("config_service", "restore", operation="adopt", where="local")
    detail = f"{counted(note.rows, 'row')} of key {note.key_name or 'none'}"
    await queue.submit(Write(audit=(context.audit_entry(note.at, detail=detail),)))


def _log_alert(alert: Alert) -> None:
    """Log an alert; of its problems those that its message does not name, each once."""
    texts = (
        f"{problem.pointer}: {problem.message}" if problem.pointer else problem.message
        for problem in alert.problems
        if problem.message not in alert.message
    )
    more = list(dict.fromkeys(texts))
    _log.warning("alert", kind=alert.kind, service=alert.service, message=alert.message, problems=more or None)
