"""The commands ``backup`` and ``restore``."""

import shlex
import shutil
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from aliciacfg.cli import formatting, notices, options, output, progress, prompts
from aliciacfg.cli.exits import EXIT_ANOTHER_DAEMON, EXIT_CODES, exit_on_error, fail
from aliciacfg.cli.local_client import exit_running
from aliciacfg.cli.loop import run
from aliciacfg.cli.snapshots import snapshot
from aliciacfg.counted import counted, counted_are
from aliciacfg.errors import DataDirectoryInUse
from aliciacfg.file_errors import unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from aliciacfg.backups.archive import Manifest
    from aliciacfg.backups.restore import Restored
    from aliciacfg.cli.output import Line, Table
    from aliciacfg.settings import Settings

_MAX_NAMED = 12
_MAX_FILES = 4
_PASSPHRASE_FILE = click.option(
    "--passphrase-file",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Read the passphrase from the first line of FILE instead of asking.",
)


@click.command()
@click.argument("target", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--with-keys", is_flag=True, help="Include the sealing keys, encrypted with a passphrase.")
@_PASSPHRASE_FILE
@click.option("--no-files", is_flag=True, help="Leave the environment and schema files out.")
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@click.option(
    "--keep",
    metavar="N",
    type=click.IntRange(min=1),
    help="If FILE is a directory, keep the newest N backups without keys there, and remove older ones.",
)
@options.settings("data_dir", "environments_dir", "schemas_dir")
def backup(
    target: Path,
    *,
    with_keys: bool,
    passphrase_file: Path | None,
    no_files: bool,
    force: bool,
    keep: int | None,
    **flags: str | None,
) -> None:
    """Write everything to FILE, while the daemon runs or while it does not.

    FILE gets the database as it is at one moment, with history and audit log, and the environment and schema files,
    their secrets sealed. It is verified before it has its name. If FILE is a directory, the file gets a name of its own
    there; `-` writes to standard output.

    Without --with-keys the secrets in it open only where the keys still are: keep a copy of data/keys.json, or make one
    backup with keys and keep its passphrase elsewhere.

    Examples:
        aliciacfg backup home.zip --with-keys
        aliciacfg backup /media/stick/
    """
    from aliciacfg.backups.backup import BackupOptions, remove_older, write_backup

    settings = options.daemon_settings(flags).settings
    if passphrase_file is not None and not with_keys:
        raise click.UsageError("--passphrase-file is for --with-keys")
    if keep is not None and not target.is_dir():
        raise click.UsageError("--keep is for a directory in place of FILE")
    passphrase = _new_passphrase(passphrase_file) if with_keys else None
    now = time.time()
    beside = None if str(target) == "-" else target if target.is_dir() else target.parent
    with exit_on_error(), snapshot(settings, elsewhere=beside) as copy, _written(target, copy, now) as path:
        wanted = BackupOptions(passphrase, files=not no_files, replace=force)
        with progress.shown("writing the backup"):
            manifest = write_backup(path, copy, settings, wanted, now=now)
        size = path.stat().st_size
        removed = [] if keep is None else remove_older(path, manifest.home, keep=keep)
    _warn(manifest)
    if str(target) == "-":
        return
    content = {
        "file": str(path),
        "bytes": size,
        "removed": [str(old) for old in removed],
        **msgspec.to_builtins(manifest),
    }
    output.print_result(content, lambda: _backup_lines(path, size, manifest, removed), names=lambda: [str(path)])


@contextmanager
def _written(target: Path, free: Path, now: float) -> Generator[Path]:
    """Yield the file to write, and copy it to standard output afterwards if that was asked for."""
    if str(target) == "-":
        if sys.stdout.isatty():
            raise click.UsageError("standard output is a terminal; send it to a file or a program")
        path = free / "archive"
        yield path
        with path.open("rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    from aliciacfg.backups.backup import name_of

    yield target / name_of(now) if target.is_dir() else target


def _warn(manifest: "Manifest") -> None:
    for left in manifest.left_out:
        notices.print_warning(f"left out: {left}")
    warn_of_plain_text(manifest.in_plain_text)
    if manifest.unconfirmed:
        notices.print_warning(
            f"{counted_are(manifest.unconfirmed, 'row')} in the database not as written, and in the backup likewise; "
            "`aliciacfg check` lists them"
        )


def warn_of_plain_text(places: "Sequence[str]") -> None:
    """Print a warning about the secrets that leave the home in plain text, if there are some."""
    if places:
        notices.print_warning(
            f"{formatting.some_of(places, _MAX_FILES)}: the text beside the variable, such as its default, is in plain "
            "text, as in the home; where that is a real secret, remove it and use `aliciacfg secret set`"
        )


def _backup_lines(path: Path, size: int, manifest: "Manifest", removed: list[Path]) -> "list[Line]":
    keys = "with keys" if "keys" in manifest.members else "without keys"
    return [
        [("backup: ", "green"), f"{path}, {_size(size)}, {keys}, verified"],
        f"home {manifest.home}, environment {manifest.environment}, epoch {manifest.epoch}, change {manifest.sequence}",
        [
            f"{counted(manifest.configurations, 'configuration')}, {counted(manifest.revisions, 'revision')}, ",
            counted(len(manifest.files), "file"),
        ],
        *([("removed: ", "dim"), str(old)] for old in removed),
    ]


def _size(count: int) -> str:
    """Return a number of bytes as people say it."""
    return f"{count / 2**20:.1f} MiB" if count >= 2**20 else f"{count / 2**10:.1f} KiB"


@click.command()
@click.argument("source", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Check the backup and print what would change; change nothing.")
@click.option("--files", is_flag=True, help="Replace environment and schema files that differ, too.")
@click.option("--force", is_flag=True, help="Replace another home, or use a backup with rows that are not confirmed.")
@click.option("--without-keys", is_flag=True, help="Leave the keys in the backup, and do not ask for their passphrase.")
@_PASSPHRASE_FILE
@options.settings("data_dir", "environments_dir", "schemas_dir")
def restore(
    source: Path,
    *,
    dry_run: bool,
    files: bool,
    force: bool,
    without_keys: bool,
    passphrase_file: Path | None,
    **flags: str | None,
) -> None:
    """Put the state of the backup FILE in place. Stop the daemon before; --dry-run needs no stop.

    Everything is checked before anything is replaced, and the state before is kept in the data directory as
    before-restore-<time>. The epoch is raised above both states, so that services follow what is published next; no
    number of a revision is used twice. An empty data directory needs no option, on another machine too.

    A home on a database server (ALICIACFG_DATABASE_URL) is replaced there: stop all its daemons before. The tables
    before stay there in a schema of their own.

    Environment and schema files are written where there are none; those that differ stay, unless --files is given.

    Examples:
        aliciacfg restore home.zip --dry-run
        aliciacfg restore home.zip
    """
    from aliciacfg import logs
    from aliciacfg.backups.archive import KEYS, Archive
    from aliciacfg.backups.restore import RestoreOptions
    from aliciacfg.backups.restore import restore as put_in_place
    from aliciacfg.storage.data_directory import is_in_use

    settings = options.daemon_settings(flags).settings
    logs.configure(level="error", form="auto")
    if without_keys and passphrase_file is not None:
        raise click.UsageError("--without-keys leaves the keys; --passphrase-file opens them")
    with exit_on_error(), Archive(source) as archive:
        running = is_in_use(Path(settings.data_dir))
        if running and not dry_run:
            exit_running(settings)
        passphrase = None
        if passphrase_file is not None or (KEYS in archive.manifest.members and not without_keys):
            passphrase = _passphrase(passphrase_file)
        wanted = RestoreOptions(passphrase, force=force, files=files, dry_run=dry_run)
        try:
            with (
                _copied(settings) if running else nullcontext(settings) as place,
                progress.shown("checking the backup" if dry_run else "putting the backup in place"),
            ):
                result = run(put_in_place(archive, place, wanted, now=time.time()))
        except DataDirectoryInUse as error:
            if settings.database_url is None:
                exit_running(settings)
            fail(str(error), EXIT_ANOTHER_DAEMON)
    for note in result.notes:
        notices.print_note(note)
    content = {"dry_run": dry_run, **msgspec.to_builtins(result)}
    output.print_result(
        content,
        lambda: _restore_lines(result, dry_run=dry_run),
        names=lambda: [f"{change.environment}/{change.service}" for change in result.changes],
    )


@contextmanager
def _copied(settings: "Settings") -> Generator["Settings"]:
    """Yield settings that name a copy of the data directory of a running daemon, for a dry run."""
    from aliciacfg.sealing.key_store import FileKeyStore
    from aliciacfg.storage.data_directory import KEY_FILE
    from aliciacfg.storage.home_keys import keys_of

    with snapshot(settings) as copy:
        keys = keys_of(settings).load()
        if keys is not None:
            FileKeyStore(copy / KEY_FILE).update(lambda _: keys)
        yield msgspec.structs.replace(settings, data_dir=str(copy), database_url=None)


def _restore_lines(result: "Restored", *, dry_run: bool) -> "list[Line | Table]":
    lines: list[Line | Table] = []
    known = [change for change in result.changes if change.before]
    if known:
        rows: list[list[Line]] = [
            [change.environment, change.service, change.kind, str(change.before), str(change.after or "-")]
            for change in known[:_MAX_NAMED]
        ]
        lines.append(output.Table(["environment", "service", "is", "revision before", "revision now"], rows))
        if len(known) > _MAX_NAMED:
            lines.append(f"and {len(known) - _MAX_NAMED} more")
    for done, planned, names in (
        ("written", "would be written", result.written),
        ("removed", "would be removed", result.removed),
        ("left as it is", "would be left as it is", result.left),
    ):
        word = planned if dry_run else done
        if names:
            lines.append([(f"{word}: ", "dim"), formatting.some_of(names, _MAX_FILES)])
    lines += [[("does not open: ", "yellow"), place] for place in result.undecryptable[:_MAX_NAMED]]
    if len(result.undecryptable) > _MAX_NAMED:
        lines.append(f"and {len(result.undecryptable) - _MAX_NAMED} more secrets that do not open")
    lines.append([("keys: ", "dim"), result.keys])
    tables = f"schema {result.kept_tables} in the database" if result.kept_tables else ""
    lines += [[("the state before: ", "dim"), kept] for kept in (result.kept_in, tables) if kept]
    done = "would be restored" if dry_run else "restored"
    count = counted(len(result.changes), "configuration")
    if not result.changes:
        what = "all configurations are as before"
    elif known:
        what = f"{count} changed"
    else:
        what = f"{count} put back"
    lines.append(
        [
            (f"{done}: ", "green"),
            f"environment {result.environment}, epoch {result.epoch}, {what}",
        ]
    )
    if not dry_run:
        lines.append("start the daemon again; it publishes everything")
        lines += _removal_lines(result)
    return lines


def _removal_lines(result: "Restored") -> "Iterator[Line]":
    """Yield how to remove what is kept of earlier states, which nothing removes by itself."""
    commands = [f"rm -r {shlex.quote(result.kept_in)}"] if result.kept_in else []
    if result.kept_tables:
        commands.append(f"DROP SCHEMA {result.kept_tables} CASCADE, in psql")
    if commands:
        yield f"the state before holds secrets; when all is well, remove it: {'; '.join(commands)}"
    earlier = len(list(Path(result.kept_in).parent.glob("before-*"))) - 1 if result.kept_in else 0
    if earlier > 0:
        yield f"`aliciacfg doctor` names {counted(earlier, 'earlier state')} that {_is(earlier)} kept as well"


def _is(count: int) -> str:
    return "is" if count == 1 else "are"


def _new_passphrase(file: Path | None) -> str:
    """Return a passphrase to encrypt with: from a file, or asked twice; end the program if it is too short."""
    from aliciacfg.sealing.passphrase import MIN_LENGTH

    found = _passphrase(file, twice=True)
    if len(found) < MIN_LENGTH:
        fail(
            f"the passphrase has {counted(len(found), 'character')}; it needs at least {MIN_LENGTH}, because a finder "
            "of the backup can try as many as they like",
            EXIT_CODES["invalid_request"],
        )
    return found


def _passphrase(file: Path | None, *, twice: bool = False) -> str:
    if file is None:
        if not sys.stdin.isatty():
            fail("there is no terminal to ask for the passphrase; use --passphrase-file", EXIT_CODES["invalid_request"])
        return prompts.ask_secret("Passphrase of the keys", twice=twice)
    try:
        lines = file.read_text("utf-8").splitlines()
    except OSError as error:
        fail(unreadable(file, error), EXIT_CODES["invalid_request"])
    except UnicodeDecodeError as error:
        fail(f"{file} is not UTF-8: byte {error.start} is invalid", EXIT_CODES["invalid_request"])
    if not lines or not lines[0]:
        fail(f"{file} is empty; its first line is the passphrase", EXIT_CODES["invalid_request"])
    return lines[0]
