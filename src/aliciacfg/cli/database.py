"""The ``database`` commands: a home moves from a file to a database server, and back."""

import contextlib
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec
from click.shell_completion import CompletionItem

from aliciacfg.cli import formatting, notices, options, output, progress
from aliciacfg.cli.exits import EXIT_ANOTHER_DAEMON, EXIT_FAILED, exit_on_error, fail
from aliciacfg.errors import DataDirectoryInUse
from aliciacfg.file_errors import unwritable

if TYPE_CHECKING:
    from aliciacfg.backups.migration import Migrated, MigrationOptions
    from aliciacfg.cli.output import Line
    from aliciacfg.settings import Settings
    from aliciacfg.storage.backend import Place

_MAX_NAMED = 4


class _Address(click.types.StringParamType):
    """``sqlite:DIR`` or ``postgresql://…``; a shell completes the beginning."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str  # noqa: ARG002
    ) -> list[CompletionItem[str]]:  # fmt: skip
        """Return the beginnings of addresses."""
        from aliciacfg.storage.backend import SCHEMES

        return [CompletionItem(scheme) for scheme in SCHEMES if scheme.startswith(incomplete)]


@click.group()
def database() -> None:
    """Move a home between a file and a database server."""


@database.command("migrate")
@click.argument("source", metavar="FROM", type=_Address())
@click.argument("target", metavar="TO", type=_Address())
@click.option("--dry-run", is_flag=True, help="Verify FROM and look at TO; copy nothing.")
@click.option("--force", is_flag=True, help="Copy rows that are not what was written as they are, too.")
@options.settings("data_dir")
def migrate(source: str, target: str, *, dry_run: bool, force: bool, **flags: str | None) -> None:
    """Copy a home from the database FROM to the empty database TO. Stop all its daemons before.

    Each is sqlite:DIR, a data directory, or postgresql://user@host/name. `sqlite:` alone is this home's data directory,
    `postgresql:` alone the database in ALICIACFG_DATABASE_URL. A password belongs there, or into a password file
    (?passfile=FILE): other users of a machine see the arguments of commands.

    Everything is copied as it is: history, audit log, tokens, run-time changes, and the order of
    all changes. Every row is verified in FROM and in the copy, which is complete or not there. FROM stays as it
    was; start no daemon on it any more. The files are not in a database, and stay where they are. The keys go to where
    TO has them: into the server's database, wrapped by this machine's key-encryption key (`keys kek`), or to keys.json.

    Examples:
        aliciacfg database migrate sqlite: postgresql:
        aliciacfg database migrate postgresql://aliciacfg@db1,db2/home sqlite:/var/lib/aliciacfg --dry-run
    """
    from aliciacfg import logs
    from aliciacfg.backups.migration import MigrationOptions
    from aliciacfg.sealing.key_store import FileKeyStore
    from aliciacfg.storage.backend import parse_address
    from aliciacfg.storage.data_directory import KEY_FILE

    settings = options.daemon_settings(flags).settings
    logs.configure(level="error", form="auto")
    data = Path(settings.data_dir)
    with exit_on_error():
        old, new = (parse_address(text, directory=data, url=settings.database_url) for text in (source, target))
    directories = [old.directory, data, new.directory]
    stack = contextlib.ExitStack()
    with exit_on_error(), stack:
        # From the database that daemons share, for the time of the command.
        shared = _keys_of(old, settings)
        if shared is not None:
            directories.insert(0, Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aliciacfg-"))))
            FileKeyStore(directories[0] / KEY_FILE).update(lambda _: shared)
        files = [directory / KEY_FILE for directory in directories]
        _migrate(
            old, new, MigrationOptions(settings, files, from_server=shared is not None, force=force, dry_run=dry_run)
        )


def _migrate(old: "Place", new: "Place", wanted: "MigrationOptions") -> None:
    """Copy a home and its keys, and print what was copied.

    Args:
        old: Where it is.
        new: Where it goes.
        wanted: How.

    Raises:
        AliciacfgError: The home cannot be copied.
    """
    from aliciacfg.backups.migration import migrate as copy_home

    dry_run = wanted.dry_run
    step = "looking at the databases"

    def note(doing: str) -> None:
        nonlocal step
        step = doing

    begun = time.monotonic()
    with exit_on_error(), progress.shown(lambda: step):
        try:
            result = copy_home(old, new, wanted, report=note)
        except DataDirectoryInUse as error:
            fail(str(error), EXIT_ANOTHER_DAEMON)
        except OSError as error:
            fail(unwritable(Path(error.filename or new.directory), error, done="used"), EXIT_FAILED)
    if result.broken:
        named = formatting.some_of([broken.subject for broken in result.broken], _MAX_NAMED)
        left = f"; not in the copy: {formatting.some_of(result.dropped, _MAX_NAMED)}" if result.dropped else ""
        notices.print_warning(f"rows that are not what was written were copied as they are: {named}{left}")
    content = {"dry_run": dry_run, "seconds": round(time.monotonic() - begun, 1), **msgspec.to_builtins(result)}
    output.print_result(content, lambda: _lines(result, new, wanted), names=lambda: [result.target])


def _keys_of(place: "Place", settings: "Settings") -> bytes | None:
    """Return the content of the keys in a database that daemons share; None if they are not there."""
    from aliciacfg.storage.home_keys import keys_of

    if place.url is None:
        return None
    return keys_of(msgspec.structs.replace(settings, database_url=place.url)).load()


def _lines(result: "Migrated", place: "Place", wanted: "MigrationOptions") -> "list[Line]":
    counts = f"{formatting.counted(result.configurations, 'configuration')}, "
    counts += formatting.counted(result.revisions, "revision")
    state = f"home {result.home}, epoch {result.epoch}, change {result.sequence}: {counts}"
    rows = formatting.counted(result.confirmed, "row")
    if wanted.dry_run:
        return [
            [("would be copied: ", "green"), f"{result.source} to {result.target}"],
            state,
            f"{rows} {'is' if result.confirmed == 1 else 'are'} confirmed",
        ]
    return [
        [("copied: ", "green"), f"{result.source} to {result.target}"],
        state,
        f"verified: {rows} confirmed, as in the source",
        *_next_steps(result, place, wanted.settings),
    ]


def _next_steps(result: "Migrated", place: "Place", settings: "Settings") -> "list[Line]":
    keys = result.key_file
    if place.url is not None:
        # The address is not shown whole: it may hold a password.
        address = "its address, as it was given here" if place.url != settings.database_url else "the same"
        return [
            [("next: ", "bold"), f"every daemon needs ALICIACFG_DATABASE_URL, {address} ({result.target})"],
            f"the keys are in it, too; every other machine needs {result.key_encryption_key}, copied with mode 0600",
            f"start no daemon on {result.source} any more: what it writes would not be in {result.target}",
        ]
    copied = f"copy {keys} to {place.directory}, with mode 0600; " if result.needs_keys else ""
    return [
        [("next: ", "bold"), f"{copied}start one daemon without ALICIACFG_DATABASE_URL, on {place.directory}"],
        f"start no daemon on {result.source} any more: what it writes would not be in {result.target}",
    ]
