"""The commands about the daemon's process: serve, settings."""

import importlib
import sys

import click

from aliciacfg.cli import options, output
from aliciacfg.cli.exits import EXIT_ANOTHER_DAEMON, EXIT_CANNOT_START, EXIT_CUT_SHORT, EXIT_FAILED, fail
from aliciacfg.cli.loop import run
from aliciacfg.cli.output import Table
from aliciacfg.cli.present_home import require_home
from aliciacfg.errors import (
    AliciacfgError,
    AnotherDaemon,
    DataDirectoryInUse,
    OtherFormat,
    SourceError,
    Unavailable,
    WentBack,
)
from aliciacfg.settings import describe

_STOP_SECONDS = 10.0
_FLUSH_SECONDS = 1.0
_COLUMNS = ["name", "value", "from", "default"]


@click.command()
@click.option("--dev", is_flag=True, help="Run everything on this machine: find or start a broker on loopback.")
@options.settings()
def serve(dev: bool, **flags: str | None) -> None:
    """Run the daemon.

    Prints one line that starts with READY when store, broker and HTTP are usable. SIGTERM and SIGINT stop it, within
    ten seconds.

    Examples:
        aliciacfg serve --dev
        aliciacfg serve --http-port 8080 --environments-dir /etc/aliciacfg/environments
    """
    _import_daemon()
    from aliciacfg import daemon, logs
    from aliciacfg.process.line_writer import LineWriter, open_missing_streams
    from aliciacfg.process.stop_deadline import StopDeadline

    open_missing_streams()
    resolved = options.daemon_settings(flags, code=EXIT_CANNOT_START)
    require_home(resolved.settings, code=EXIT_CANNOT_START)
    log = logs.configure(level=resolved.settings.log_level, form=resolved.settings.log_format)
    output = LineWriter.of(sys.stdout)
    deadline = StopDeadline(_STOP_SECONDS, exit_code=EXIT_CUT_SHORT)
    deadline.before_end(lambda: log.flush(_FLUSH_SECONDS))
    try:
        run(
            daemon.serve(resolved, dev=dev, announce=lambda line: output.write(f"{line}\n".encode()), deadline=deadline)
        )
    except (AnotherDaemon, DataDirectoryInUse) as error:
        fail(str(error), EXIT_ANOTHER_DAEMON)
    except SourceError as error:
        fail(f"The daemon does not start, because the files are not valid:\n{error}", EXIT_CANNOT_START)
    except WentBack as error:
        # Not one of the codes after which a service manager leaves the daemon stopped.
        fail(str(error), EXIT_FAILED)
    except OtherFormat as error:
        fail(str(error), EXIT_CANNOT_START)
    except Unavailable as error:
        fail(
            str(error),
            EXIT_CANNOT_START,
            hint="`aliciacfg doctor` looks at disk and database; a damaged one: aliciacfg restore FILE",
        )
    except AliciacfgError as error:
        fail(str(error), EXIT_CANNOT_START)
    finally:
        output.flush(_FLUSH_SECONDS)


def _import_daemon() -> None:
    """Import the daemon's modules without what libraries load and it does not use."""
    from aliciacfg.process.library_imports import absent, without_authorities
    from aliciacfg.process.memory import look_for_cycles_rarely

    # Nearly all objects that imports make live as long as the process.
    look_for_cycles_rarely()
    # structlog imports Rich for tracebacks, which `logs` renders itself, and greenlet. The HTTP client of aiohttp loads
    # all authorities that the system trusts. The daemon uses neither greenlet nor that client.
    with absent("rich", "greenlet"), without_authorities():
        for name in ("aliciacfg.daemon", "aliciacfg.logs"):
            importlib.import_module(name)


@click.command()
@options.settings()
def settings(**flags: str | None) -> None:
    """Print the daemon's settings.

    With value, default, and where the value comes from.

    Examples:
        aliciacfg settings
        aliciacfg settings -o json | jq -r '.[] | select(.from != "default") | .name'
    """
    rows = describe(options.daemon_settings(flags, code=EXIT_CANNOT_START))
    table = Table(_COLUMNS, [[row[name] or "" for name in _COLUMNS] for row in rows])
    output.print_result([dict(row) for row in rows], lambda: [table])
