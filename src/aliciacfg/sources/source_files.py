"""The files that the settings name: environments, schemas, and ``.env`` for their variables."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path

from aliciacfg import dotenv_file
from aliciacfg.access.rules import FILE
from aliciacfg.documents.yaml_reader import variable_names
from aliciacfg.errors import SourceError, SourceProblem
from aliciacfg.file_errors import reason
from aliciacfg.schemas.migrations import DIRECTORY
from aliciacfg.settings import Settings, variables
from aliciacfg.sources import loader
from aliciacfg.sources.file_texts import ENVIRONMENTS, SCHEMAS, FileTexts
from aliciacfg.sources.layers import Sources
from aliciacfg.text_files import printable_name, read_bytes, read_text

# Relative, so that a working directory that was deleted is no error: it holds no file.
_DOTENV = Path(dotenv_file.NAME)
_RULES = f"{ENVIRONMENTS}/{Path(FILE).name}"
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

    def read_texts(self) -> FileTexts:
        """Read the text of each environment and schema file, and the variables that environments name.

        A file whose name cannot be typed is left out, as a load ignores it.

        Raises:
            SourceError: A directory or ``.env`` cannot be read.
        """
        known = variables(_DOTENV.parent)
        texts: dict[str, str] = {}
        unreadable: dict[str, tuple[int | None, str]] = {}
        for name, path in self._named_paths():
            # Of environment files links may lead anywhere, as in a load.
            inside = not name.startswith(f"{ENVIRONMENTS}/")
            try:
                texts[name] = read_text(path, name, inside=inside)
            except SourceError as error:
                problem = error.problems[0]
                unreadable[name] = problem.line, problem.message
        wanted = {
            variable
            for name, text in texts.items()
            if name.startswith(f"{ENVIRONMENTS}/") and name != _RULES
            for variable in variable_names(text)
        }
        return FileTexts(texts, unreadable, {name: _text(known.get(name)) for name in wanted})

    def ignored(self) -> tuple[SourceProblem, ...]:
        """Return the problems of the files on this machine whose names cannot be typed."""
        return loader.ignored_files(environments_dir=self._environments, schemas_dir=self._schemas)

    def parse(self, texts: FileTexts) -> Sources:
        """Parse texts as if they were the files of this machine; what is set aside is what this machine has of that.

        Raises:
            SourceError: They cannot be used; lists the problems.
        """
        only: dict[Path, str | SourceProblem] = {self._path(name): text for name, text in texts.texts.items()}
        only |= {
            self._path(name): SourceProblem(name, line, message) for name, (line, message) in texts.unreadable.items()
        }
        sources = loader.load(
            environments_dir=self._environments,
            schemas_dir=self._schemas,
            variables={name: value for name, value in texts.variables.items() if value is not None},
            only=only,
        )
        return replace(sources, texts=texts, set_aside=self.ignored())

    def _named_paths(self) -> Iterator[tuple[str, Path]]:
        """Yield the files with their names in ``FileTexts``.

        Raises:
            SourceError: A directory cannot be read.
        """
        found = self.paths()
        for place, directory in ((ENVIRONMENTS, self._environments), (SCHEMAS, self._schemas)):
            try:
                next(directory.iterdir(), None)
            except OSError as error:
                message = f"the directory {printable_name(str(directory))} cannot be read: {reason(error)}"
                raise SourceError([SourceProblem(f"{place}/", None, message)]) from error
            for path in found:
                inside = path.parent == directory or (place == SCHEMAS and _is_migration_of(path, directory))
                if not inside or path.suffix not in loader.ENDINGS or path.name.startswith("."):
                    continue
                name = str(path.relative_to(directory))
                if printable_name(name) == name:
                    yield f"{place}/{name}", path

    def _path(self, name: str) -> Path:
        place, _, rest = name.partition("/")
        return (self._environments if place == ENVIRONMENTS else self._schemas) / rest

    def has_variables(self) -> bool:
        """Return whether ``.env`` has any variable, or cannot be read."""
        try:
            return bool(dotenv_file.read(_DOTENV))
        except SourceError:
            return True

    def has_access_rules(self) -> bool:
        """Return whether there is a file of access rules, even if it is not a regular or readable file."""
        return os.path.lexists(self._environments / Path(FILE).name)


def _is_migration_of(path: Path, schemas: Path) -> bool:
    return path.parent.name == DIRECTORY and path.parent.parent.parent == schemas


def _text(value: str | None) -> str | None:
    """Return the value of a variable without bytes that are not UTF-8, which no JSON has."""
    return None if value is None else os.fsencode(value).decode("utf-8", "backslashreplace")


def label(path: str) -> str:
    """Return a short name of a file for messages: with its directory, or with the directories of a migration."""
    found = Path(path)
    names = found.parts[-4:] if found.parent.name == DIRECTORY else found.parts[-2:]
    return printable_name(found.name if found.name == dotenv_file.NAME else "/".join(names))
