"""The files that the settings name: environments, schemas, and ``.env`` for their variables."""

import os
from dataclasses import replace
from pathlib import Path

from aliciacfg.access.rules import FILE
from aliciacfg.errors import SettingsError, SourceError, SourceProblem
from aliciacfg.schemas.migrations import DIRECTORY
from aliciacfg.settings import Settings, variables
from aliciacfg.sources import loader
from aliciacfg.sources.layers import Sources


class SourceFiles:
    """Reads the files that the settings name; keeps no state."""

    def __init__(self, settings: Settings) -> None:
        self._environments = Path(settings.environments_dir)
        self._schemas = Path(settings.schemas_dir)

    def load(self) -> Sources:
        """Read and parse all files, with ``.env`` and the process environment for their variables.

        Raises:
            SourceError: A file cannot be used; lists the problems.
        """
        dotenv = _dotenv()
        stamps = loader.stamp_files([dotenv])
        try:
            found = variables(dotenv.parent)
        except SettingsError as error:
            raise SourceError([SourceProblem(".env", None, str(error))]) from error
        sources = loader.load(environments_dir=self._environments, schemas_dir=self._schemas, variables=found)
        return replace(sources, stamps={**sources.stamps, **stamps})

    def paths(self) -> list[Path]:
        """Return the files that ``load`` would read now."""
        found = loader.source_paths(environments_dir=self._environments, schemas_dir=self._schemas)
        return [*found, _dotenv()]

    def has_access_rules(self) -> bool:
        """Return whether there is a file of access rules, even if it is not a regular or readable file."""
        return os.path.lexists(self._environments / Path(FILE).name)


def label(path: str) -> str:
    """Return a short name of a file for messages: with its directory, or with the directories of a migration."""
    found = Path(path)
    names = found.parts[-4:] if found.parent.name == DIRECTORY else found.parts[-2:]
    return found.name if found.name == ".env" else "/".join(names)


def _dotenv() -> Path:
    return Path.cwd() / ".env"
