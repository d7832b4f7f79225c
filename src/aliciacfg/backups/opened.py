"""Opens a data directory that is being prepared."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from aliciacfg.bootstrap import Core, open_core
from aliciacfg.settings import Settings
from aliciacfg.storage.backend import database_in
from aliciacfg.storage.data_directory import DataDirectory


@asynccontextmanager
async def opened(directory: Path, settings: Settings) -> AsyncGenerator[Core]:
    """Open a data directory that no other process uses; errors as ``open_core``.

    What is adopted there is not kept as it was: it is a copy itself, of a backup for example.
    """
    async with AsyncExitStack() as stack:
        data = DataDirectory(directory)
        stack.callback(data.release)
        yield await stack.enter_async_context(
            open_core(settings, data, keep_adopted=False, database=database_in(directory))
        )
