"""``check``: everything that is wrong with files and store, whether or not a daemon runs; reads only."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from aliciacfg.cli import options, output
from aliciacfg.cli.exits import EXIT_CODES, EXIT_FAILED, EXIT_USAGE, fail
from aliciacfg.errors import AliciacfgError, NotFound, SettingsError, Unavailable
from aliciacfg.settings import variables
from aliciacfg.storage.data_directory import KEY_FILE

if TYPE_CHECKING:
    from aliciacfg.cli.output import Line
    from aliciacfg.core.file_check import FileFindings, FileProblem
    from aliciacfg.sealing.boxes import Keyring
    from aliciacfg.settings import Settings
    from aliciacfg.storage.verifier import Broken

_MAX_NAMED = 4


@dataclass(frozen=True, slots=True)
class _StoreReport:
    """What a comparison of the store with its chain found; ``problem`` says why there was none."""

    confirmed: int = 0
    unreadable: int = 0
    broken: "Sequence[Broken]" = ()
    problem: str | None = None

    @property
    def sound(self) -> bool:
        return not self.broken and self.problem is None


@click.command()
@click.option("-e", "--environment", metavar="NAME", help="Only this one's files; default: all.")
@options.settings("data_dir", "environments_dir", "schemas_dir")
def check(environment: str | None, **flags: str | None) -> None:
    """Check files and store, with or without a daemon.

    Composes every configuration that the files define as the daemon would; with what was changed at run time on top,
    `reload --dry-run` does. Compares every recorded row with the keyed chain that confirms it. Exit code 1 if one is
    not confirmed, else 4 if files are invalid.
    """
    try:
        settings = options.settle(flags).settings
        data = Path(settings.data_dir)
        keyring = _keyring(data)
        files = _check_files(settings, keyring, environment)
        store = _check_store(data, keyring)
    except SettingsError as error:
        fail(str(error), EXIT_USAGE)
    except NotFound as error:
        fail(error.message, EXIT_CODES["not_found"])
    except AliciacfgError as error:
        fail(str(error), EXIT_FAILED)
    except OSError as error:
        fail(f"{error.filename} cannot be read: {error.strerror}", EXIT_FAILED)
    if output.for_people():
        output.lines([*_files_lines(files), *_store_lines(store, data)])
    else:
        output.print_json({"files": msgspec.to_builtins(files), "store": msgspec.to_builtins(store)})
    if store is not None and not store.sound:
        sys.exit(EXIT_FAILED)
    if files.problems:
        sys.exit(EXIT_CODES["validation_failed"])


def _keyring(data: Path) -> "Keyring | None":
    """The keys of a data directory; None where there are none, since only a daemon makes them."""
    from aliciacfg.sealing.key_file import KeyFile  # noqa: PLC0415 - keeps the other commands quick

    path = data / KEY_FILE
    return KeyFile.load(path).keyring if path.exists() else None


def _check_store(data: Path, keyring: "Keyring | None") -> _StoreReport | None:
    """What the chain says of the rows; None where nothing was recorded yet."""
    from aliciacfg.storage.backend import database_in  # noqa: PLC0415 - keeps the other commands quick
    from aliciacfg.storage.hash_chain import Chain  # noqa: PLC0415

    database = database_in(data)
    if not database.exists():
        return None
    if keyring is None:
        return _StoreReport(problem=f"{data / KEY_FILE} is missing, and only with it can rows be confirmed; restore it")
    try:
        found = database.verify(Chain(keyring))
    except Unavailable as error:
        return _StoreReport(problem=error.message)
    return _StoreReport(found.confirmed, found.unreadable, found.broken)


def _check_files(settings: "Settings", keyring: "Keyring | None", environment: str | None) -> "FileFindings":
    from aliciacfg.core.file_check import check_files  # noqa: PLC0415
    from aliciacfg.sources import loader  # noqa: PLC0415 - keeps the other commands quick

    load = partial(
        loader.load,
        environments_dir=Path(settings.environments_dir),
        schemas_dir=Path(settings.schemas_dir),
        variables=variables(Path.cwd()),
    )
    return check_files(load, keyring, max_bytes=settings.max_config_bytes, environment=environment)


def _files_lines(files: "FileFindings") -> "list[Line]":
    found: list[Line] = []
    for problem in files.problems:
        found += _problem_lines(problem)
    if files.unopened:
        named = _named(files.unopened)
        found.append([("not checked: ", "yellow"), f"{named}: they hold sealed values, and there is no key file here"])
    if files.problems:
        found.append([(f"files: {len(files.problems)} to mend, {files.valid} configurations are valid", "bold red")])
    else:
        found.append([("files: ", "green"), f"{files.valid} configurations are valid"])
    return found


def _problem_lines(problem: "FileProblem") -> "list[Line]":
    place = problem.file if problem.line is None else f"{problem.file}:{problem.line}"
    pointer = f"{problem.pointer}: " if problem.pointer and problem.configurations else ""
    found: list[Line] = [[(place, "bold"), f": {pointer}{problem.message}"]]
    if problem.configurations:
        found.append([(f"    spoils {_named(problem.configurations)}", "dim")])
    return found


def _named(configurations: list[str]) -> str:
    more = len(configurations) - _MAX_NAMED
    return ", ".join(configurations[:_MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def _store_lines(store: _StoreReport | None, data: Path) -> "list[Line]":
    if store is None:
        return [f"store: nothing is recorded in {data} yet"]
    if store.problem is not None:
        return [[("store: ", "bold red"), store.problem]]
    found: list[Line] = [[(broken.subject, "bold"), f": {broken.message}"] for broken in store.broken]
    if store.unreadable:
        hidden = f"{store.unreadable} rows hold secrets whose key is not here, so their content was not compared"
        found.append([("not checked: ", "yellow"), hidden])
    if store.broken:
        found.append(
            [(f"store: not what was written: {len(store.broken)}; {store.confirmed} rows are confirmed", "bold red")]
        )
    else:
        found.append([("store: ", "green"), f"{store.confirmed} rows are confirmed"])
    return found
