"""The commands about the daemon's process: serve, settings."""

import click

from aliciacfg.cli import options, output
from aliciacfg.cli.exits import EXIT_ANOTHER_DAEMON, EXIT_CANNOT_START, fail
from aliciacfg.cli.loop import run
from aliciacfg.cli.output import Table
from aliciacfg.errors import AliciacfgError, AnotherDaemon, DataDirectoryInUse, SourceError
from aliciacfg.settings import describe

_COLUMNS = ["name", "value", "default", "from"]


@click.command()
@click.option("--dev", is_flag=True, help="Run everything on this machine: find or start a broker on loopback.")
@options.settings()
def serve(dev: bool, **flags: str | None) -> None:
    """Run the daemon.

    Prints one line that starts with READY when store, broker and HTTP are usable. SIGTERM and SIGINT stop it.
    """
    from aliciacfg import daemon, logs

    resolved = options.daemon_settings(flags, code=EXIT_CANNOT_START)
    logs.configure(level=resolved.settings.log_level, form=resolved.settings.log_format)
    try:
        run(daemon.serve(resolved, dev=dev, announce=daemon.announce_line))
    except (AnotherDaemon, DataDirectoryInUse) as error:
        fail(str(error), EXIT_ANOTHER_DAEMON)
    except SourceError as error:
        fail(f"The daemon does not start, because the files are not valid:\n{error}", EXIT_CANNOT_START)
    except AliciacfgError as error:
        fail(str(error), EXIT_CANNOT_START)


@click.command()
@options.settings()
def settings(**flags: str | None) -> None:
    """Print the daemon's settings.

    With value, default, and where the value comes from.
    """
    rows = describe(options.daemon_settings(flags, code=EXIT_CANNOT_START))
    table = Table(_COLUMNS, [[row[name] or "" for name in _COLUMNS] for row in rows])
    output.print_result([dict(row) for row in rows], lambda: [table])
