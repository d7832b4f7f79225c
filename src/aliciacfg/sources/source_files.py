"""The files that the settings name: environments, schemas, and ``.env`` for their variables."""

import contextlib
import os
from collections.abc import Mapping
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path

from aliciacfg import dotenv_file
from aliciacfg.access.rules import FILE
from aliciacfg.errors import SourceError
from aliciacfg.schemas.migrations import DIRECTORY
from aliciacfg.settings import Settings, variables
from aliciacfg.sources import loader
from aliciacfg.sources.layers import Sources
from aliciacfg.text_files import printable_name, read_bytes

# Relative, so that a working directory that was deleted is no error: it holds no file.
_DOTENV = Path(dotenv_file.NAME)
_COMMON_BYTES = 16
VARIABLES = dotenv_file.NAME
"""The name of the file of variables, in problems and in ``Sources.files``."""


class SourceFiles:
    """Reads the files that the settings name; keeps no state."""

    def __init__(self, settings: Settings) -> None:
        self._environments = Path(settings.environments_dir)
        self._schemas = Path(settings.schemas_dir)

    def load(self, edits: Mapping[Path, str] | None = None) -> Sources:
        """Read and parse all files, with ``.env`` and the process environment for their variables.

        Args:
            edits: Texts that count as if they were written already, by path.

        Raises:
            SourceError: A file cannot be used; lists the problems.
        """
        stamps = loader.stamp_files([_DOTENV])
        found = variables(_DOTENV.parent)
        sources = loader.load(
            environments_dir=self._environments, schemas_dir=self._schemas, variables=found, edits=edits
        )
        files = {VARIABLES: bool(dotenv_file.read(_DOTENV))} if stamps else {}
        return replace(sources, stamps={**sources.stamps, **stamps}, files={**sources.files, **files})

    def paths(self) -> list[Path]:
        """Return the files that ``load`` would read now."""
        found = loader.source_paths(environments_dir=self._environments, schemas_dir=self._schemas)
        return [*found, _DOTENV]

    def digest(self) -> bytes:
        """Return a digest of the content of these files; files that cannot be read count as empty."""
        found = blake2b()
        for path in sorted(self.paths()):
            content = b""
            with contextlib.suppress(OSError, SourceError):
                content = read_bytes(path, str(path))
            found.update(b"%d %s" % (len(content), os.fsencode(path)) + content)
        return found.digest()

    def common_digest(self) -> str:
        """Return a digest of environments and schemas, the same wherever they lie; ``.env`` belongs to one machine.

        Files that cannot be read count as empty.
        """
        found = blake2b(digest_size=_COMMON_BYTES)
        for place, directory in (("environments", self._environments), ("schemas", self._schemas)):
            for path in sorted(path for path in self.paths() if path.is_relative_to(directory)):
                content = b""
                with contextlib.suppress(OSError, SourceError):
                    content = read_bytes(path, str(path))
                name = os.fsencode(path.relative_to(directory))
                found.update(b"%s %d %d %s" % (place.encode(), len(name), len(content), name) + content)
        return found.hexdigest()

    def has_variables(self) -> bool:
        """Return whether ``.env`` has any variable, or cannot be read."""
        try:
            return bool(dotenv_file.read(_DOTENV))
        except SourceError:
            return True

    def has_access_rules(self) -> bool:
        """Return whether there is a file of access rules, even if it is not a regular or readable file."""
        return os.path.lexists(self._environments / Path(FILE).name)


def label(path: str) -> str:
    """Return a short name of a file for messages: with its directory, or with the directories of a migration."""
    found = Path(path)
    names = found.parts[-4:] if found.parent.name == DIRECTORY else found.parts[-2:]
    return printable_name(found.name if found.name == dotenv_file.NAME else "/".join(names))
