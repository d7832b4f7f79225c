"""Edits of a home's files that are made together: first in memory, then checked, then written."""

import stat
from collections.abc import Mapping
from pathlib import Path

from msgspec import UnsetType

from aliciacfg.atomic_files import FilesTogether
from aliciacfg.documents import Json, JsonObject, escape, find, has, yaml_editor, yaml_reader
from aliciacfg.errors import SourceError, SourceProblem
from aliciacfg.model import names
from aliciacfg.sources.layers import BASE, is_secrets_file
from aliciacfg.text_files import read_text

_SECRETS_HEAD = """\
# Secrets of the environment {environment}. A sealed value opens only in the daemon, and only in this place.
# To replace one: aliciacfg secret set SERVICE POINTER -e {environment}

"""
_PRIVATE_MODE, _SHARED_MODE = 0o600, 0o644


class FileEdits:
    """Edits of the files of a home; comments, order and everything else in them stay.

    Attributes:
        texts: The new texts of the files that change, by path.
    """

    def __init__(self, *, environments_dir: Path, schemas_dir: Path) -> None:
        self._environments = environments_dir
        self._schemas = schemas_dir
        self.texts: dict[Path, str] = {}
        # The texts that the edits were made in; None where there was no file.
        self._before: dict[Path, str | None] = {}

    def base(self) -> Path:
        """Return the path of the file that applies to all environments."""
        return self._environments / f"{BASE}.yaml"

    def environment(self, name: str) -> Path:
        """Return the path of an environment's file."""
        return self._environments / f"{name}.yaml"

    def secrets(self, environment: str) -> Path:
        """Return the path of an environment's file of secrets."""
        return self._environments / f"{environment}{names.SECRETS_SUFFIX}.yaml"

    def schema(self, service: str) -> Path:
        """Return the path of a service's schema."""
        return self._schemas / f"{service}.yaml"

    def set_service(self, path: Path, service: str, patch: JsonObject) -> None:
        """Set members of a service in an environment file.

        Args:
            path: The file; it begins empty if it does not exist.
            service: The service.
            patch: The members. Objects merge with what is there, an empty one too; everything else replaces it.

        Raises:
            SourceError: The file is not valid, or YAML cannot express the result.
        """
        text = self._text(path)
        prefix = f"/services/{escape(service)}"
        value: Json = patch
        if not has(_document(text, path), prefix):
            self.texts[path] = yaml_editor.replace(text, prefix, value, file=str(path))
            return
        for pointer, value in _branches(text, path, prefix, patch):
            text = yaml_editor.replace(text, pointer, value, file=str(path))
        self.texts[path] = text

    def set_services(self, path: Path, patches: Mapping[str, JsonObject]) -> None:
        """Set members of several services in an environment file, as ``set_service`` does."""
        text = self._text(path)
        if not has(_document(text, path), "/services"):
            # All at once: a home may have thousands of services, and each edit reads the whole file.
            self.texts[path] = yaml_editor.replace(text, "/services", dict(patches), file=str(path))
            return
        for service, patch in patches.items():
            self.set_service(path, service, patch)

    @property
    def changed(self) -> bool:
        """Whether any text is another one than before."""
        return any(text != self._before.get(path) for path, text in self.texts.items())

    def value(self, path: Path, service: str, pointer: str) -> Json:
        """Return the value of a service's place in an environment file; None if there is none."""
        there = find(_document(self._text(path), path), f"/services/{escape(service)}{pointer}")
        if isinstance(there, UnsetType):
            return None
        meant = yaml_reader.literal(there) if isinstance(there, str) else None
        return there if meant is None else meant

    def write(self) -> None:
        """Write every file that changes, each atomically.

        Raises:
            SourceError: A file was changed since the edit was made; nothing is written.
            OSError: A file cannot be written; those before it have their old content again, but for the file that the
                error names, if it is one of them.
        """
        changed = [path for path, before in self._before.items() if path in self.texts and _read(path) != before]
        if changed:
            message = "was changed by somebody else meanwhile, so nothing was written; run this again"
            raise SourceError(SourceProblem(str(path), None, message) for path in changed)
        with FilesTogether() as files:
            for path, text in self.texts.items():
                files.replace(path, text.encode(), mode=_mode(path))

    def _text(self, path: Path) -> str:
        if path in self.texts:
            return self.texts[path]
        text = self._before.setdefault(path, _read(path))
        if text is not None:
            return text
        if is_secrets_file(path.name):
            return _SECRETS_HEAD.format(environment=path.stem.removesuffix(names.SECRETS_SUFFIX))
        return ""


def _read(path: Path) -> str | None:
    return read_text(path, str(path)) if path.exists() else None


def _document(text: str, path: Path) -> Json:
    return yaml_reader.load(text, file=str(path)).value


def _branches(text: str, path: Path, prefix: str, patch: JsonObject) -> list[tuple[str, Json]]:
    """Return the highest places of a patch at which the file has no object that it could be merged into."""
    there = _document(text, path)
    found: list[tuple[str, Json]] = []

    def walk(pointer: str, value: Json, below: Json) -> None:
        if isinstance(value, dict) and isinstance(below, dict):
            for key, member in value.items():
                walk(f"{pointer}/{escape(key)}", member, below.get(key))
        else:
            found.append((pointer, value))

    below = there
    for token in ("services", prefix.rpartition("/")[2].replace("~1", "/").replace("~0", "~")):
        below = below.get(token) if isinstance(below, dict) else None
    walk(prefix, patch, below)
    return found


def _mode(path: Path) -> int:
    """Return the mode of a file after an edit; a file of secrets becomes private for its owner and group."""
    private = is_secrets_file(path.name)
    if not path.exists():
        return _PRIVATE_MODE if private else _SHARED_MODE
    mode = stat.S_IMODE(path.stat().st_mode)
    return mode & ~stat.S_IRWXO if private else mode
