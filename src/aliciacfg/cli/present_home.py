"""Checks whether a home exists where the settings say. Imports little, because `serve` runs it before the daemon."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from aliciacfg.cli.exits import EXIT_CODES, fail

if TYPE_CHECKING:
    from aliciacfg.settings import Settings


def has_home(settings: "Settings") -> bool:
    """Return whether there are environment files, or a database that a daemon can serve without them."""
    from aliciacfg.storage.backend import database_in

    return (
        Path(settings.environments_dir).exists() or database_in(Path(settings.data_dir), settings.database_url).exists()
    )


def require_home(settings: "Settings", *, code: int = EXIT_CODES["not_found"]) -> None:
    """End the program with what to do if there is no home where the settings say."""
    if not has_home(settings):
        above = next((parent for parent in Path.cwd().parents if (parent / settings.environments_dir).is_dir()), None)
        fail(
            f"there is no home here: {settings.environments_dir}/ is missing in {Path.cwd()}. Make one with "
            "`aliciacfg init`, or change to the directory of yours",
            code,
            hint=None if above is None else f"{above} is one: cd {shlex.quote(str(above))}",
        )
