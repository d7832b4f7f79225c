"""Opens a data directory that is being prepared."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from aliciacfg.backups.archive import ArchiveError
from aliciacfg.bootstrap import Core, open_core
from aliciacfg.settings import Settings
from aliciacfg.storage.backend import database_in
from aliciacfg.storage.data_directory import DataDirectory


def refuse_server(settings: Settings) -> None:
    """Refuse to put a home in place of one whose database is on a server: other daemons may serve it.

    Raises:
        ArchiveError: It is on a server.
    """
    if settings.database_url is not None:
        raise ArchiveError(
            "the database of this home is on a server (ALICIACFG_DATABASE_URL), where other daemons may use it. Leave "
            "that setting out to bring the home up in a data directory"
        )


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
