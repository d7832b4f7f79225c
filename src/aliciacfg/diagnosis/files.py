"""The files that people edit: environments, schemas, access rules, and ``.env``."""

import stat
from collections.abc import Iterator
from pathlib import Path, PurePath

from aliciacfg import dotenv_file
from aliciacfg.core.file_check import FileFindings, FileProblem, check_files
from aliciacfg.counted import counted, counted_are
from aliciacfg.diagnosis.finding import Finding, fail, ok, warn
from aliciacfg.errors import AliciacfgError
from aliciacfg.file_errors import unreadable
from aliciacfg.model.names import SECRETS_SUFFIX
from aliciacfg.sealing.boxes import Keyring
from aliciacfg.settings import Settings
from aliciacfg.sources.layers import ACCESS, BASE
from aliciacfg.sources.source_files import SourceFiles
from aliciacfg.storage.data_directory import KEY_FILE
from aliciacfg.storage.home_keys import find_keys

_MAX_NAMED = 3


def look_at_files(settings: Settings, active: str) -> list[Finding]:
    """Look at all files as the daemon reads them; what is wrong only with an inactive environment is a warning."""
    environments = Path(settings.environments_dir)
    if not environments.is_dir():
        return [
            fail(
                "files",
                f"there is no directory {environments} in {Path.cwd()}",
                "change to the directory of the home, or make one with `aliciacfg init`",
            )
        ]
    try:
        found = check_files(SourceFiles(settings).load, _keyring(settings), limits=settings.document_limits)
    except OSError as error:
        return [fail("files", unreadable(Path(error.filename or environments), error), "see `aliciacfg check`")]
    except AliciacfgError as error:
        return [fail("files", f"they cannot be read: {error}", "see `aliciacfg check`")]
    return [*_by_environment(found, active), *_look_at_unopened(found, settings), *_look_at_variables()]


def _keyring(settings: Settings) -> Keyring | None:
    try:
        found = find_keys(settings)
        return None if found is None else found.make_keyring()
    except AliciacfgError:
        return None


def _by_environment(found: FileFindings, active: str) -> Iterator[Finding]:
    in_the_way = [problem for problem in found.problems if _concerns(problem, active)]
    for problem in in_the_way[:_MAX_NAMED]:
        yield fail("files", _line(problem), "correct the file; until then the configurations before it stay in force")
    if len(in_the_way) > _MAX_NAMED:
        yield fail("files", f"{len(in_the_way) - _MAX_NAMED} more problems", "see all of them: aliciacfg check")
    others = [problem for problem in found.problems if problem not in in_the_way]
    if others:
        yield warn(
            "files",
            f"{counted(len(others), 'problem')} in other environments than {active}, the first: {_line(others[0])}",
            "they cannot be activated before; see `aliciacfg environments`",
        )
    for warning in found.warnings[:_MAX_NAMED]:
        yield warn("files", _line(warning), "correct the line, or leave it if it is meant")
    if not in_the_way:
        yield ok("files", f"{counted_are(found.valid, 'configuration')} valid")


def _look_at_unopened(found: FileFindings, settings: Settings) -> Iterator[Finding]:
    values = f"sealed values of {counted(len(found.unopened), 'configuration')}"
    if found.unopened and settings.database_url is not None:
        yield warn(
            "files", f"{values} were not looked at, without the keys in the database", "first put the keys right"
        )
    elif found.unopened:
        yield warn(
            "files",
            f"{KEY_FILE} is missing, with the keys to {values}",
            "restore a backup before the next start (`aliciacfg restore FILE`); without one set the secrets anew "
            "(`aliciacfg secret set`)",
        )


def _concerns(problem: FileProblem, active: str) -> bool:
    """Return whether a problem keeps the files of the active environment from being loaded."""
    if problem.configurations:
        return any(name.endswith(f" in {active}") for name in problem.configurations)
    path = PurePath(problem.file)
    own = path.stem.removesuffix(SECRETS_SUFFIX)
    return path.parent.name != "environments" or own in {BASE, ACCESS, active}


def _line(problem: FileProblem) -> str:
    place = problem.file if problem.line is None else f"{problem.file}:{problem.line}"
    pointer = f"{problem.pointer}: " if problem.pointer and problem.configurations else ""
    return f"{place}: {pointer}{problem.message}"


def _look_at_variables() -> Iterator[Finding]:
    path = Path(dotenv_file.NAME)
    if not path.exists():
        return
    try:
        names = dotenv_file.read(path)
    except (AliciacfgError, OSError) as error:
        yield fail(".env", str(error), "correct it; nothing of it is used")
        return
    status = path.stat()
    mode = stat.S_IMODE(status.st_mode)
    # Root may let the group of the daemon read it, as with /etc/default/aliciacfg.
    if mode & stat.S_IROTH or (mode & stat.S_IRGRP and status.st_uid != 0):
        yield warn(".env", f"other users can read it (mode {mode:04o})", "run: chmod 600 .env")
    else:
        yield ok(".env", f"{len(names)} variables")
