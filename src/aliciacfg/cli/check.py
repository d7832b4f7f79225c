"""The ``check`` command: everything that is wrong with files and store, with or without a daemon. Reads only."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from aliciacfg.cli import formatting, options, output, progress
from aliciacfg.cli.exits import EXIT_CODES, EXIT_FAILED, exit_on_error, fail
from aliciacfg.cli.present_home import require_home
from aliciacfg.errors import Unavailable
from aliciacfg.file_errors import unreadable
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
    """The result of verifying the store.

    Attributes:
        confirmed: Number of rows that the keyed hash chain confirms.
        unreadable: Number of rows whose content was not compared, because their key is missing.
        broken: Rows that the chain does not confirm.
        problem: Why the store could not be verified at all.
    """

    confirmed: int = 0
    unreadable: int = 0
    broken: "Sequence[Broken]" = ()
    problem: str | None = None

    @property
    def sound(self) -> bool:
        return not self.broken and self.problem is None


@click.command()
@click.option("-e", "--environment", metavar="NAME", help="Check only the files of this environment; default: all.")
@options.settings("data_dir", "environments_dir", "schemas_dir")
def check(environment: str | None, **flags: str | None) -> None:
    """Check files and store, with or without a daemon.

    Composes every configuration of the files as the daemon does, without run-time changes (`reload --dry-run` includes
    them). Warns of secrets in the open in files that git does not ignore. Verifies every stored row against the keyed
    hash chain. Exit code 1 if a row is not confirmed, else 4 if a file is invalid.

    Examples:
        aliciacfg check
        aliciacfg check -e prod
        aliciacfg check -o name
    """
    settings = options.daemon_settings(flags).settings
    require_home(settings)
    data = Path(settings.data_dir)
    try:
        with exit_on_error():
            keyring = _keyring(settings)
            with progress.shown("checking the files"):
                files = _check_files(settings, keyring, environment)
            with progress.shown("verifying the store"):
                store = _check_store(data, settings, keyring)
    except OSError as error:
        fail(unreadable(Path(error.filename or data), error), EXIT_FAILED)
    output.print_result(
        {"files": msgspec.to_builtins(files), "store": msgspec.to_builtins(store)},
        lambda: [*_files_lines(files), *_store_lines(store, settings)],
        names=lambda: dict.fromkeys(problem.file for problem in files.problems),
    )
    if store is not None and not store.sound:
        sys.exit(EXIT_FAILED)
    if files.problems:
        sys.exit(EXIT_CODES["validation_failed"])


def _keyring(settings: "Settings") -> "Keyring | None":
    """Return the keys of a home; None if it has none, because only the daemon makes them."""
    from aliciacfg.storage.home_keys import find_keys

    found = find_keys(settings)
    return None if found is None else found.make_keyring()


def _check_store(data: Path, settings: "Settings", keyring: "Keyring | None") -> _StoreReport | None:
    """Verify the rows of the database; return None if there is no database."""
    from aliciacfg.core.adoption import explain_foreign
    from aliciacfg.storage.backend import database_in
    from aliciacfg.storage.hash_chain import Chain

    database = database_in(data, settings.database_url)
    if not database.exists():
        return None
    if keyring is None:
        missing = f"the keys are not in {database.name}" if settings.database_url else f"{data / KEY_FILE} is missing"
        return _StoreReport(problem=f"{missing}, and rows are verified with its keys; restore it")
    chain = Chain(keyring)
    if foreign := explain_foreign(database, data / KEY_FILE, chain):
        return _StoreReport(problem=f"{foreign.problem}. {foreign.remedy}")
    try:
        found = database.verify(chain)
    except Unavailable as error:
        return _StoreReport(problem=error.message)
    problem = f"the database is damaged; restore it from a backup: {'; '.join(found.damage)}" if found.damage else None
    return _StoreReport(found.confirmed, found.unreadable, found.broken, problem)


def _check_files(settings: "Settings", keyring: "Keyring | None", environment: str | None) -> "FileFindings":
    from aliciacfg.core.file_check import FileProblem, check_files
    from aliciacfg.diagnosis.open_secrets import exposed_secrets
    from aliciacfg.sources.source_files import SourceFiles

    found = check_files(SourceFiles(settings).load, keyring, limits=settings.document_limits, environment=environment)
    exposed = [
        FileProblem(item.file, item.secret.line, item.secret.place, f"{item.secret.place} {item.message}", [])
        for item in exposed_secrets(settings, environment)
    ]
    return msgspec.structs.replace(found, warnings=[*found.warnings, *exposed])


def _files_lines(files: "FileFindings") -> "list[Line]":
    lines: list[Line] = []
    for problem in files.problems:
        lines += _problem_lines(problem)
    for warning in files.warnings:
        lines += [[("warning: ", "yellow"), *line] for line in _problem_lines(warning)]
    if files.unopened:
        named = formatting.some_of(files.unopened, _MAX_NAMED)
        lines.append([("not checked: ", "yellow"), f"{named}: sealed values, and the data directory has no key file"])
    if files.problems:
        problems = formatting.counted(len(files.problems), "problem")
        lines.append([(f"files: {problems}; {_are(files.valid, 'configuration')} valid", "bold red")])
    else:
        lines.append([("files: ", "green"), f"{_are(files.valid, 'configuration')} valid"])
    return lines


def _problem_lines(problem: "FileProblem") -> "list[Line]":
    place = problem.file if problem.line is None else f"{problem.file}:{problem.line}"
    pointer = f"{problem.pointer}: " if problem.pointer and problem.configurations else ""
    lines: list[Line] = [[(place, "bold"), f": {pointer}{problem.message}"]]
    if problem.configurations:
        lines.append([(f"    affects {formatting.some_of(problem.configurations, _MAX_NAMED)}", "dim")])
    return lines


def _store_lines(store: _StoreReport | None, settings: "Settings") -> "list[Line]":
    if store is None:
        place = settings.data_dir if settings.database_url is None else "the server"
        return [f"store: {place} has no database yet"]
    if store.problem is not None:
        return [[("store: ", "bold red"), store.problem]]
    lines: list[Line] = [[(broken.subject, "bold"), f": {broken.message}"] for broken in store.broken]
    if store.unreadable:
        hidden = f"the content of {formatting.counted(store.unreadable, 'row')} with secrets whose key is missing"
        lines.append([("not checked: ", "yellow"), hidden])
    if store.broken:
        broken = formatting.counted(len(store.broken), "row")
        lines.append([(f"store: {broken} not confirmed; {_are(store.confirmed, 'row')} confirmed", "bold red")])
    else:
        lines.append([("store: ", "green"), f"{_are(store.confirmed, 'row')} confirmed"])
    return lines


def _are(number: int, noun: str) -> str:
    return f"{formatting.counted(number, noun)} {'is' if number == 1 else 'are'}"
