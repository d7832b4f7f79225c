"""Work on the data directory while no daemon runs."""

from pathlib import Path

from aliciacfg.access.caller import Caller
from aliciacfg.bootstrap.opening import open_core
from aliciacfg.documents import JsonObject
from aliciacfg.operations.table import BY_NAME, encode_answer
from aliciacfg.settings import Settings
from aliciacfg.storage.data_directory import DataDirectory


async def next_environment(settings: Settings) -> str:
    """Return the environment that is active after the next start.

    Raises:
        DataDirectoryInUse: A daemon runs.
        AliciacfgError: Keys or database cannot be used.
    """
    data = DataDirectory(Path(settings.data_dir))
    try:
        async with open_core(settings, data) as core:
            moves = core.restored.moves_to(settings.environment)
            return settings.environment if moves else core.state.active
    finally:
        data.release()


async def run_offline(
    settings: Settings, operation: str, target: str, fields: JsonObject, *, user: str, starting: bool = False
) -> bytes:
    """Carry out one operation on the data directory while no daemon runs.

    Args:
        settings: The settings of the daemon.
        operation: A name of the operations table.
        target: The service or environment that it concerns; empty for none.
        fields: The request's fields.
        user: The name of the caller, an administrator because write access to the data directory allows everything.
        starting: Load the files first, as the daemon does at its start; otherwise the recorded revisions count.

    Returns:
        The encoded answer.

    Raises:
        DataDirectoryInUse: A daemon runs.
        OperationError: The operation is refused.
        SourceError: The files cannot be loaded.
        AliciacfgError: Keys or database cannot be used.
    """
    data = DataDirectory(Path(settings.data_dir))
    try:
        async with open_core(settings, data) as core:
            if starting:
                await core.start(settings.environment, degraded=False)
            else:
                # Before anything is written: what shows that the database went back is replaced by the next write.
                await core.order.start(await core.store.witnessed())
            row = BY_NAME[operation]
            caller = Caller(user, "local", proven=True, role="admin", private=True)
            # A null counts as absent, except for a required field that may be null.
            given = {name: value for name, value in fields.items() if value is not None or name in row.required}
            answer = await row.run(core.service, caller, target, given)
            return encode_answer(row, answer, None)
    finally:
        data.release()
