"""The command ``export``, and what ``import`` does with a directory that it wrote."""

from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from aliciacfg.cli import notices, options, output, progress
from aliciacfg.cli.backups import warn_of_plain_text
from aliciacfg.cli.exits import EXIT_ANOTHER_DAEMON, exit_on_error, fail
from aliciacfg.cli.local_client import exit_running
from aliciacfg.cli.loop import run
from aliciacfg.cli.snapshots import snapshot
from aliciacfg.counted import counted
from aliciacfg.errors import DataDirectoryInUse

if TYPE_CHECKING:
    from aliciacfg.backups.export import Exported
    from aliciacfg.backups.import_home import Imported
    from aliciacfg.cli.output import Line
    from aliciacfg.settings import Settings

_MAX_NAMED = 8


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@options.settings("data_dir", "environments_dir", "schemas_dir")
def export(directory: Path, **flags: str | None) -> None:
    """Write the whole home as plain YAML to DIR, for git, while the daemon runs or while it does not.

    DIR gets the environment and schema files, the access rules, and the run-time changes of each service; secrets are
    sealed. There is no history in it, and there are no keys. Exporting again changes only what changed, and leaves
    other files, such as .git, alone. `aliciacfg import DIR` puts it into an empty home.

    Examples:
      aliciacfg export home-in-git
      git -C home-in-git diff
    """
    from aliciacfg import logs
    from aliciacfg.backups.export import export as write_home

    settings = options.daemon_settings(flags).settings
    logs.configure(level="error", form="auto")
    beside = next(path for path in (directory, *directory.absolute().parents) if path.is_dir())
    with exit_on_error(), snapshot(settings, elsewhere=beside) as copy, progress.shown("writing the home"):
        result = run(write_home(directory, copy, settings))
    warn_of_plain_text(result.in_plain_text)
    for left in result.left_out:
        notices.print_warning(f"left out: {left}")
    changed = [*result.written, *result.removed]
    output.print_result(msgspec.to_builtins(result), lambda: _export_lines(result), names=lambda: changed)


def _export_lines(result: "Exported") -> "list[Line]":
    changed = [*(("written", name) for name in result.written), *(("removed", name) for name in result.removed)]
    lines: list[Line] = [[(f"{word}: ", "dim"), name] for word, name in changed[:_MAX_NAMED]]
    if len(changed) > _MAX_NAMED:
        lines.append(f"and {len(changed) - _MAX_NAMED} more")
    changes = f"run-time changes of {counted(result.overlays, 'configuration')}"
    counts = f"{counted(result.files, 'file')}, {changes}, secrets sealed"
    return [*lines, [("exported: ", "green"), f"{result.directory}, {counts}"]]


def import_whole(directory: Path, settings: "Settings", *, dry_run: bool) -> None:
    """Import an exported home into an empty data directory, and print what it is; errors end the program."""
    from aliciacfg import logs
    from aliciacfg.backups.import_home import import_home

    logs.configure(level="error", form="auto")
    with exit_on_error():
        try:
            with progress.shown("reading the home"):
                result = run(import_home(directory, settings, dry_run=dry_run))
        except DataDirectoryInUse as error:
            if settings.database_url is None:
                exit_running(settings)
            fail(str(error), EXIT_ANOTHER_DAEMON)
    content = {"dry_run": dry_run, **msgspec.to_builtins(result)}
    output.print_result(content, lambda: _import_lines(result, dry_run=dry_run), names=lambda: result.written)


def _import_lines(result: "Imported", *, dry_run: bool) -> "list[Line]":
    lines: list[Line] = [[("does not open: ", "yellow"), place] for place in result.undecryptable[:_MAX_NAMED]]
    if len(result.undecryptable) > _MAX_NAMED:
        lines.append(f"and {len(result.undecryptable) - _MAX_NAMED} more secrets that do not open")
    for environment, problems in result.problems.items():
        more = f", and {len(problems) - 1} more; `aliciacfg environments` lists them" if len(problems) > 1 else ""
        lines.append([("not valid: ", "yellow"), f"{environment}: {problems[0]}{more}"])
    counts = f"{counted(result.configurations, 'configuration')}, {result.overlays} with run-time changes"
    done = "would be imported" if dry_run else "imported"
    return [*lines, [(f"{done}: ", "green"), f"environment {result.environment}, {counts}"]]
