"""The ``exec`` command: runs a program with the variables of a service."""

import logging
import os
import sys
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from aliciacfg.cli import loop, options, requests, service_variables
from aliciacfg.cli.client import Target
from aliciacfg.cli.exits import EXIT_CODES, EXIT_NO_ANSWER, EXIT_USAGE, exit_on_error, fail
from aliciacfg.errors import SettingsError
from aliciacfg.execution import environment as environments
from aliciacfg.execution.commands import CannotStart, replace_process
from aliciacfg.execution.preparation import Choices, Unusable, Values, prepare
from aliciacfg.execution.timing import Timing

if TYPE_CHECKING:
    from aliciacfg.cli.exec_source import ClientSource
    from aliciacfg.client import Broker, ConfigError
    from aliciacfg.execution.supervisor import Task

_T = TypeVar("_T")

_INTERRUPTED = 130
_DEFAULTS = Timing()
_SECONDS = click.FloatRange(min=0)


class _Command(click.Command):
    """Says what to do where an option of the program is taken for one of ``exec``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments; raise ``click.UsageError``."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            raise click.UsageError(f"{error.format_message()} Write -- before the program.", ctx) from None


@click.command("exec", cls=_Command)
@click.argument("service")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND...")
@click.option("--watch", is_flag=True, help="Stay, and run COMMAND anew when a change gives a variable another value.")
@click.option("--restart", "restarts", is_flag=True, help="With --watch: also run COMMAND anew when it fails.")
@options.environment
@service_variables.derived
@service_variables.allow_redacted
@service_variables.file
@service_variables.schema
@click.option(
    "--stop-seconds",
    type=_SECONDS,
    metavar="S",
    default=_DEFAULTS.stop_seconds,
    show_default=True,
    help="With --watch: how long COMMAND has to end after SIGTERM; then SIGKILL follows.",
)
@click.option(
    "--spread-seconds",
    type=_SECONDS,
    metavar="S",
    default=_DEFAULTS.spread_seconds,
    show_default=True,
    help="With --watch: wait for a random part of it before a restart.",
)
@click.option(
    "--debounce-seconds",
    type=_SECONDS,
    metavar="S",
    default=_DEFAULTS.debounce_seconds,
    show_default=True,
    help="With --watch: restart only after no further change for so long.",
)
@click.option("--settle-seconds", type=_SECONDS, default=_DEFAULTS.settle_seconds, hidden=True)
@click.option("--limit-seconds", type=_SECONDS, default=_DEFAULTS.limit_seconds, hidden=True)
@click.pass_obj
def exec_(
    target: Target,
    service: str,
    command: tuple[str, ...],
    environment: str | None,
    file: str | None,
    schema: str | None,
    *,
    watch: bool,
    restarts: bool,
    derived: bool,
    allow_redacted: bool,
    **timing: float,
) -> None:
    """Run COMMAND with the environment variables of SERVICE.

    The service's schema names them with x-env; if it names none, all values are set under names made from their
    pointers. COMMAND takes the place of this process and inherits everything else. Exit code 127 if COMMAND was not
    found, 126 if it cannot be executed.

    With --watch, this process stays. When a change gives a variable another value, it stops COMMAND with everything
    that COMMAND started, and starts it anew. When COMMAND ends by itself, this process ends with its exit code.

    It connects to the broker as the service: MQTT_BROKER, MQTT_PASSWORD and so on. ALICIACFG_KEY_FILE names the key
    that opens the service's secrets.

    Examples:
      aliciacfg exec voice_router -- python main.py
      aliciacfg exec voice_router --watch -- python main.py
    """
    choices = Choices(derived=derived, allow_redacted=allow_redacted)
    say = partial(service_variables.say, service)
    follows = target.http is None and environment is None and file is None and schema is None
    if watch:
        if not follows:
            raise click.UsageError("--watch follows the active environment over MQTT; leave --http, -e and --file out")
        _watch(target, service, command, choices, Timing(**timing), say, restarts=restarts)
    if restarts:
        raise click.UsageError("--restart needs --watch")
    if follows:
        values = _run(_current(_source(target, service, say)))
    else:
        values = service_variables.values_of(target, service, environment=environment, file=file, schema=schema)
    _become(service, command, values, choices, say)


def _watch(
    target: Target,
    service: str,
    command: Sequence[str],
    choices: Choices,
    timing: Timing,
    say: Callable[[str], None],
    *,
    restarts: bool,
) -> NoReturn:
    """Run the command until it ends, and end with its exit code."""
    from aliciacfg.execution.supervisor import Task

    inherited = environments.inherited()
    task = Task(command=command, inherited=inherited, choices=choices, timing=timing, restarts=restarts)
    sys.exit(_started(service, lambda: _run(_supervise(task, _source(target, service, say), say))))


def _become(
    service: str, command: Sequence[str], values: Values, choices: Choices, say: Callable[[str], None]
) -> NoReturn:
    """Replace this process by the command."""
    prepared = _started(service, lambda: prepare(command, values, inherited=environments.inherited(), choices=choices))
    for line in prepared.notes:
        say(line)
    try:
        replace_process(command, prepared.environment)
    except CannotStart as error:
        fail(str(error), error.exit_code)


def _started(service: str, start: Callable[[], _T]) -> _T:
    """Return what ``start`` does; end the program if the command cannot be started."""
    try:
        return start()
    except Unusable as error:
        service_variables.fail_unusable(service, error)
    except CannotStart as error:
        fail(str(error), error.exit_code)


async def _current(source: "ClientSource") -> Values:
    async with source:
        return await source.current()


async def _supervise(task: "Task", source: "ClientSource", say: Callable[[str], None]) -> int:
    from aliciacfg.execution.supervision import supervise

    async with source:
        return await supervise(task, source, say)


def _run(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine on asyncio's own event loop; an error of the client ends the program.

    uvloop waits for the children that it started itself, and for no others.
    """
    from aliciacfg.client import ConfigError

    try:
        return loop.run(coroutine, own_loop=True)
    except (ConfigError, SettingsError) as error:
        fail(str(error), EXIT_USAGE if isinstance(error, SettingsError) else _exit_code(error))
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


def _exit_code(error: "ConfigError") -> int:
    from aliciacfg.client import NotFound, Refused, Rejected

    for kind, code in ((NotFound, "not_found"), (Rejected, "validation_failed"), (Refused, "forbidden")):
        if isinstance(error, kind):
            return EXIT_CODES[code]
    return EXIT_NO_ANSWER


def _source(target: Target, service: str, say: Callable[[str], None]) -> "ClientSource":
    """Return the source of a service's configurations; unusable settings end the program."""
    from aliciacfg.cli.exec_source import ClientSource
    from aliciacfg.client import ConfigClient
    from aliciacfg.client.options import resolve

    logging.getLogger("aliciacfg").addHandler(_Lines(say))
    broker = _broker(target)
    with exit_on_error():
        found = resolve(service, broker, key_file=None, snapshot_dir=None, instance=None)
        client = ConfigClient(service, broker=broker, report="manual", timeout_seconds=target.timeout_seconds)
    return ClientSource(client, found.snapshot_dir, say)


def _broker(target: Target) -> "Broker":
    """Return what options and the home here say about the broker; the client takes the rest from the variables.

    In a home, its ``.env`` names the broker, as for other commands; outside of one, a ``.env`` is the program's. Its
    user and password are the daemon's, not the service's. Beside a daemon that was started with ``serve --dev`` the
    broker is the one that it uses.
    """
    from aliciacfg.client import Broker

    if target.broker is None:
        requests.warn_if_served_by_another(target)
        return _broker_here(target)
    host, colon, port = target.broker.rpartition(":")
    if colon and not port.isdecimal():
        raise click.UsageError(f"--broker {target.broker!r}: expected HOST or HOST:PORT")
    return Broker(host=host if colon else port, port=int(port) if colon else None, tls_ca=target.ca)


def _broker_here(target: Target) -> "Broker":
    """Return the broker of the home in this directory; what is None, the client takes from the variables."""
    from aliciacfg.cli.other_homes import is_home
    from aliciacfg.client import Broker
    from aliciacfg.mqtt.broker.dev_port import read_port
    from aliciacfg.settings import resolve

    found = options.daemon_settings({})
    if not is_home(found.settings):
        with exit_on_error():
            found = resolve({}, environ=os.environ, dotenv_values={})
    requests.note_other_port(found)
    settings = found.settings
    port = None if found.explicit("mqtt_broker") else read_port(Path(settings.data_dir))
    if port is None and found.explicit("mqtt_port"):
        port = settings.mqtt_port
    return Broker(
        host=settings.mqtt_broker if found.explicit("mqtt_broker") else None,
        port=port,
        tls_ca=target.ca or settings.mqtt_tls_ca,
    )


class _Lines(logging.Handler):
    """Has the client's warnings printed like everything else."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        """Print the message without a traceback."""
        self._say(record.getMessage())
