"""Commands about the daemon's process: running it, and what it would run with."""

import click

from aliciacfg.cli import options, output
from aliciacfg.cli.exits import EXIT_ANOTHER_DAEMON, EXIT_CANNOT_START, fail
from aliciacfg.cli.loop import run
from aliciacfg.errors import AliciacfgError, AnotherDaemon, DataDirectoryInUse, SettingsError, SourceError
from aliciacfg.settings import describe


@click.command()
@click.option("--dev", is_flag=True, help="Everything on this machine: find or start a broker on loopback.")
@options.settings()
def serve(dev: bool, **flags: str | None) -> None:
    """Run the daemon.

    Prints one line that starts with READY once store, broker and HTTP are usable. Stops on SIGTERM and SIGINT.
    """
    from aliciacfg import daemon, logs  # noqa: PLC0415 - keeps the other commands quick

    try:
        resolved = options.settle(flags)
        logs.configure(level=resolved.settings.log_level, form=resolved.settings.log_format)
        run(daemon.serve(resolved, dev=dev, announce=daemon.announce_line))
    except (AnotherDaemon, DataDirectoryInUse) as error:
        fail(str(error), EXIT_ANOTHER_DAEMON)
    except SourceError as error:
        fail(f"The files are not valid, so the daemon does not start:\n{error}", EXIT_CANNOT_START)
    except AliciacfgError as error:
        fail(str(error), EXIT_CANNOT_START)


@click.command()
@options.settings()
def settings(**flags: str | None) -> None:
    """Print every setting of the daemon.

    With its value, its default, and where the value came from.
    """
    try:
        rows = describe(options.settle(flags))
    except SettingsError as error:
        fail(str(error), EXIT_CANNOT_START)
    if not output.for_people():
        output.print_json([dict(row) for row in rows])
        return
    columns = ["name", "value", "default", "from"]
    output.table(columns, [[row[name] or "" for name in columns] for row in rows])
