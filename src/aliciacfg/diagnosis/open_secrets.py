"""Secrets that stand in the open in files which git takes, or would take."""

import fnmatch
import os
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

from aliciacfg.diagnosis.finding import Finding, warn
from aliciacfg.errors import AliciacfgError
from aliciacfg.settings import Settings
from aliciacfg.sources.layers import Sources, is_secrets_file
from aliciacfg.sources.loader import load_schemas
from aliciacfg.sources.open_secrets import OpenSecret, open_secrets
from aliciacfg.sources.seal_file import file_environment
from aliciacfg.sources.source_files import label

_IGNORES = ".gitignore"
_GIT_SECONDS = 10.0
_MAX_NAMED = 3


@dataclass(frozen=True, slots=True)
class Exposed:
    """A secret in the open in a file that git takes.

    Attributes:
        file: The file's name relative to the home.
        secret: The secret.
        remedy: What to do.
    """

    file: str
    secret: OpenSecret
    remedy: str

    @property
    def message(self) -> str:
        """What is wrong, and what to do."""
        return f"holds {self.secret.what}, and git takes this file; {self.remedy}"


def exposed_secrets(settings: Settings, environment: str | None = None) -> list[Exposed]:
    """Return the secrets in the open in the environment files that git has, or does not ignore.

    Without a repository, the file ``.gitignore`` of the home says what git would ignore; without that one too, it is
    the files of secrets. Files that cannot be read are left to others.

    Args:
        settings: Name the files.
        environment: Only the files of this environment; None for all.
    """
    directory = Path(settings.environments_dir)
    try:
        sources = Sources({}, load_schemas(Path(settings.schemas_dir)))
        paths = sorted(path for path in directory.glob("*.yaml") if _applies(path, environment))
    except (AliciacfgError, OSError):
        return []
    found = {path: secrets for path in paths if (secrets := _in_file(path, sources))}
    ignored = _ignored(found, directory) if found else frozenset[Path]()
    return [
        Exposed(label(str(path)), secret, _remedy(path, secret))
        for path, secrets in found.items()
        if path not in ignored
        for secret in secrets
    ]


def look_at_secrets(settings: Settings) -> Iterator[Finding]:
    """Look for secrets in the open."""
    found = exposed_secrets(settings)
    for exposed in found[:_MAX_NAMED]:
        place = exposed.file if exposed.secret.line is None else f"{exposed.file}:{exposed.secret.line}"
        message = f"{place} holds {exposed.secret.what}, and git takes the file: {exposed.secret.place}"
        yield warn("secrets", message, exposed.remedy)
    if len(found) > _MAX_NAMED:
        yield warn("secrets", f"{len(found) - _MAX_NAMED} more stand in the open", "see all of them: aliciacfg check")


def _applies(path: Path, environment: str | None) -> bool:
    try:
        own = file_environment(path)
    except AliciacfgError:
        return False
    return environment is None or own in {None, environment}


def _in_file(path: Path, sources: Sources) -> list[OpenSecret]:
    try:
        return open_secrets(path.read_text("utf-8-sig"), path=path, sources=sources)
    except (AliciacfgError, OSError, UnicodeDecodeError):
        return []


def _remedy(path: Path, secret: OpenSecret) -> str:
    command = f"aliciacfg seal-file {path}"
    return f"run: {command}" if secret.first is None else f"{secret.first}; then run: {command}"


def _ignored(paths: Iterable[Path], directory: Path) -> frozenset[Path]:
    """Return those of some files that git does not have and ignores."""
    listed = list(paths)
    # Settings of the repository that would run programs are not used.
    command = ["git", "-c", "core.fsmonitor=false", "check-ignore", "-z", "--stdin"]
    try:
        done = subprocess.run(  # noqa: S603 - nothing of it comes from elsewhere
            command,
            cwd=directory,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
            input=b"".join(os.fsencode(path.name) + b"\0" for path in listed),
            capture_output=True,
            timeout=_GIT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        done = None
    if done is not None and done.returncode in {0, 1}:
        names = set(os.fsdecode(done.stdout).split("\0"))
        return frozenset(path for path in listed if path.name in names)
    return frozenset(path for path in listed if _would_be_ignored(path))


def _would_be_ignored(path: Path) -> bool:
    """Return whether the file ``.gitignore`` of the home names a file; without one, whether it is one of secrets."""
    patterns = list(_patterns(path.parent)) + list(_patterns(path.parent.parent))
    if not patterns:
        return is_secrets_file(path.name)
    relative = PurePath(path.parent.name, path.name)
    return any(
        fnmatch.fnmatch(path.name if "/" not in pattern else str(relative), pattern.lstrip("/")) for pattern in patterns
    )


def _patterns(directory: Path) -> Iterator[str]:
    try:
        lines = (directory / _IGNORES).read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return
    yield from (line.strip() for line in lines if line.strip() and not line.startswith(("#", "!")))
