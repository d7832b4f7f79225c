"""The command line: the daemon, and its operations over MQTT or HTTP.

Exit codes, for scripts: 0 done; 1 failed; 2 wrong usage; 3 not found; 4 invalid; 5 conflict; 6 not allowed;
7 no answer (broker or daemon away, or too busy); 8 the daemon cannot start; 9 another daemon is alive.
"""

import asyncio
import getpass
import json
import os
import sys
from collections.abc import Coroutine
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from aliciacfg import __version__, documents, names
from aliciacfg.documents import Json, JsonObject
from aliciacfg.errors import (
    AliciacfgError,
    AnotherDaemon,
    BrokerUnavailable,
    DataDirectoryInUse,
    OperationError,
    SettingsError,
    SourceError,
)
from aliciacfg.settings import SETTINGS, Resolved, describe, read_dotenv, resolve

T = TypeVar("T")

_MAX_LISTED = 8

EXIT_FAILED = 1
EXIT_NO_ANSWER = 7
EXIT_CANNOT_START = 8
EXIT_ANOTHER_DAEMON = 9
EXIT_CODES = {
    "not_found": 3,
    "validation_failed": 4,
    "invalid_request": 4,
    "too_large": 4,
    "conflict": 5,
    "incompatible": 5,
    "unauthorized": 6,
    "forbidden": 6,
    "busy": EXIT_NO_ANSWER,
    "unavailable": EXIT_NO_ANSWER,
    "internal": EXIT_FAILED,
}


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go.

    Attributes:
        http: The daemon's URL; None sends over MQTT.
        broker: ``HOST`` or ``HOST:PORT``; None takes the settings.
        requester: Who asks.
        timeout_seconds: How long to wait.
    """

    http: str | None
    broker: str | None
    requester: str
    timeout_seconds: float


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="aliciacfg")
@click.option("--http", metavar="URL", help="Ask over HTTP instead of MQTT, for example http://127.0.0.1:8026.")
@click.option("--broker", metavar="HOST[:PORT]", help="The broker; default: MQTT_BROKER, else 127.0.0.1.")
@click.option("--as", "requester", metavar="NAME", help="Who asks; default: your user name.")
@click.option("--timeout", default=10.0, show_default=True, metavar="SECONDS", help="How long to wait for an answer.")
@click.pass_context
def main(context: click.Context, http: str | None, broker: str | None, requester: str | None, timeout: float) -> None:
    """Configurations for services on MQTT: the daemon, and everything it can be asked."""
    if requester is not None and not names.is_requester(requester):
        raise click.UsageError(f"--as {requester!r} cannot name a requester; use letters, digits, '_', '.' and '-'")
    context.obj = Target(http, broker, requester or _user(), timeout)


def _serve_options(command: Any) -> Any:
    for setting in reversed(SETTINGS):
        default = "" if setting.default in {None, ""} else f" [default: {setting.default}]"
        option = click.option(
            setting.flag, setting.field, metavar="TEXT", help=f"{setting.help} ({setting.name}){default}"
        )
        command = option(command)
    return command


@main.command()
@click.option("--dev", is_flag=True, help="Everything on this machine: find or start a broker on loopback.")
@_serve_options
def serve(dev: bool, **flags: str | None) -> None:
    """Run the daemon.

    Prints one line that starts with READY once store, broker and HTTP are usable. Stops on SIGTERM and SIGINT.
    """
    from aliciacfg import daemon, logs  # noqa: PLC0415 - keeps the other commands quick

    try:
        given = {field: value for field, value in flags.items() if value is not None}
        resolved = _resolve(given)
        logs.configure(level=resolved.settings.log_level, form=resolved.settings.log_format)
        daemon.check_protected(resolved.settings, broker=not dev or resolved.explicit("mqtt_broker"))
        _run(daemon.serve(resolved, dev=dev, announce=daemon.announce_line))
    except (AnotherDaemon, DataDirectoryInUse) as error:
        _fail(str(error), EXIT_ANOTHER_DAEMON)
    except SourceError as error:
        _fail(f"The files are not valid, so the daemon does not start:\n{error}", EXIT_CANNOT_START)
    except AliciacfgError as error:
        _fail(str(error), EXIT_CANNOT_START)


@main.command()
@_serve_options
def settings(**flags: str | None) -> None:
    """Print every setting of the daemon: value, default, and where the value came from."""
    try:
        rows = describe(_resolve({field: value for field, value in flags.items() if value is not None}))
    except SettingsError as error:
        _fail(str(error), EXIT_CANNOT_START)
    if not sys.stdout.isatty():
        _print_json([dict(row) for row in rows])
        return
    _table(
        ["name", "value", "default", "from"],
        [[row[k] or "" for k in ("name", "value", "default", "from")] for row in rows],
    )


_environment = click.option("-e", "--environment", metavar="NAME", help="Default: the active one.")
_expected = click.option(
    "--expected-revision", type=int, metavar="N", help="Refuse if it is at another revision; 0: must not exist."
)
_dry_run = click.option("--dry-run", is_flag=True, help="Say what would change, change nothing.")
_comment = click.option("-m", "--comment", metavar="TEXT", help="Goes into the history.")
_answer = click.option("--answer", is_flag=True, help="Print the whole answer instead of the configuration.")


def _write_options(command: Any) -> Any:
    """What every write takes."""
    for option in (_answer, _comment, _dry_run, _expected, _environment):
        command = option(command)
    return command


@main.command()
@click.argument("service")
@_environment
@click.option("--revision", type=int, metavar="N", help="An old one.")
@_answer
@click.pass_obj
def get(target: Target, service: str, environment: str | None, revision: int | None, *, answer: bool) -> None:
    """Print the configuration of SERVICE, secrets as ***.

    Edit what it prints and give it to `set`: a *** that you leave alone keeps the secret.
    """
    found = _ask(target, "get", service, {"environment": environment, "revision": revision})
    _show(found if answer else found.get("config"))


@main.command("set")
@click.argument("service")
@click.argument("file")
@_write_options
@click.pass_obj
def set_(target: Target, service: str, file: str, *, answer: bool, **options: Any) -> None:
    """Make FILE the configuration of SERVICE: JSON or YAML, - for standard input, or the JSON itself."""
    _write(target, "set", service, {"config": _read(file), **options}, answer=answer)


@main.command()
@click.argument("service")
@click.argument("file")
@_write_options
@click.pass_obj
def patch(target: Target, service: str, file: str, *, answer: bool, **options: Any) -> None:
    """Apply FILE to the configuration of SERVICE: a merge patch (RFC 7396), for example '{"limits": {"x": 5}}'."""
    _write(target, "patch", service, {"patch": _read(file), **options}, answer=answer)


@main.command()
@click.argument("service")
@click.argument("pointer")
@_write_options
@click.pass_obj
def unset(target: Target, service: str, pointer: str, *, answer: bool, **options: Any) -> None:
    """Drop what was changed at POINTER (/limits/x) of SERVICE, so that the files' value shows again."""
    _write(target, "unset", service, {"pointer": pointer, **options}, answer=answer)


@main.command()
@click.argument("service")
@_write_options
@click.pass_obj
def delete(target: Target, service: str, *, answer: bool, **options: Any) -> None:
    """Drop all that was changed of SERVICE; without a file that defines it, its configuration ends."""
    _write(target, "delete", service, options, answer=answer)


@main.command()
@click.argument("service")
@click.argument("file")
@_environment
@click.pass_obj
def validate(target: Target, service: str, file: str, environment: str | None) -> None:
    """Check FILE as a configuration of SERVICE, and list everything that is wrong with it. Exit code 4 if invalid."""
    found = _ask(target, "validate", service, {"config": _read(file), "environment": environment})
    if not sys.stdout.isatty():
        _show(found)
    elif found.get("valid"):
        click.echo(f"{service}: valid")
    else:
        _problems(found)
    if not found.get("valid"):
        sys.exit(EXIT_CODES["validation_failed"])


@main.command()
@click.argument("service")
@click.argument("struct", required=False)
@_environment
@click.pass_obj
def schema(target: Target, service: str, struct: str | None, environment: str | None) -> None:
    """Print the JSON Schema of SERVICE, base contract included.

    `aliciacfg schema export package.module:Struct` writes one from a msgspec Struct instead.
    """
    if struct is None:
        _show(_ask(target, "schema", service, {"environment": environment}).get("schema"))
    elif service == "export":
        _show(_export(struct))
    else:
        raise click.UsageError("schema takes one SERVICE, or: schema export package.module:Struct")


@main.command("list")
@_environment
@click.option("--prefix", metavar="TEXT", help="Only services whose name begins so.")
@click.pass_obj
def list_(target: Target, environment: str | None, prefix: str | None) -> None:
    """List the configurations."""
    items: list[JsonObject] = []
    after: Json = None
    while True:
        page = _ask(target, "list", None, {"environment": environment, "prefix": prefix, "after": after, "limit": 1000})
        configs = page.get("configs")
        items += [item for item in configs if isinstance(item, dict)] if isinstance(configs, list) else []
        after = page.get("next")
        if after is None:
            break
    if not sys.stdout.isatty():
        _print_json(list(items))
        return
    columns = ["service", "environment", "revision", "version", "checksum"]
    _table(
        columns, [[str(item.get(name, ""))[: 12 if name == "checksum" else 64] for name in columns] for item in items]
    )


@main.command()
@click.pass_obj
def environments(target: Target) -> None:
    """List the environments and what is wrong with them."""
    found = _ask(target, "environments", None, {})
    items = found.get("environments")
    if not sys.stdout.isatty() or not isinstance(items, list):
        _show(found)
        return
    rows: list[list[str]] = []
    for item in items:
        if isinstance(item, dict):
            services, problems = item.get("services"), item.get("problems")
            rows.append(
                [
                    str(item.get("name")),
                    "yes" if item.get("name") == found.get("active") else "",
                    "yes" if item.get("protected") else "",
                    str(len(services) if isinstance(services, list) else 0),
                    str(len(problems) if isinstance(problems, list) else 0),
                ]
            )
    _table(["name", "active", "protected", "services", "problems"], rows)
    for item in items:
        if isinstance(item, dict):
            _problems(item)


@main.command()
@click.pass_obj
def reload(target: Target) -> None:
    """Make the daemon read its files now, and print what changed or everything that is wrong."""
    _show(_ask(target, "reload", None, {}))


@main.command()
@click.argument("service", required=False)
@click.option("--count", type=int, metavar="N", help="Stop after N messages.")
@click.pass_obj
def watch(target: Target, service: str | None, count: int | None) -> None:
    """Print the configuration of SERVICE (default: of all) and every change after it, over MQTT."""
    if target.http is not None:
        raise click.UsageError("watch listens over MQTT; leave --http out")
    if service is not None and (problem := names.service_problem(service)):
        raise click.UsageError(problem)
    try:
        _run(_watch(target, service, count))
    except BrokerUnavailable as error:
        _fail(str(error), EXIT_NO_ANSWER)
    except KeyboardInterrupt:
        sys.exit(0)


@main.group()
def file() -> None:
    """Change one value of an environment file; comments, order and everything else stay."""


@file.command("set")
@click.argument("path", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("pointer")
@click.argument("value")
def file_set(path: Path, pointer: str, value: str) -> None:
    """Set POINTER (/services/voice_router/limits/x) of the file PATH to VALUE: JSON, or else a string."""
    from aliciacfg import yamlfiles  # noqa: PLC0415 - keeps the other commands quick

    try:
        parsed: Json = json.loads(value)
    except ValueError:
        parsed = value
    try:
        _rewrite(path, yamlfiles.replace(_text(path), pointer, parsed, file=str(path)))
    except AliciacfgError as error:
        _fail(str(error), EXIT_FAILED)


@file.command("unset")
@click.argument("path", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("pointer")
def file_unset(path: Path, pointer: str) -> None:
    """Remove POINTER from the file PATH."""
    from aliciacfg import yamlfiles  # noqa: PLC0415 - keeps the other commands quick

    try:
        _rewrite(path, yamlfiles.remove(_text(path), pointer, file=str(path)))
    except AliciacfgError as error:
        _fail(str(error), EXIT_FAILED)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        _fail(f"{path} cannot be read: {error}", EXIT_FAILED)


def _rewrite(path: Path, text: str) -> None:
    """Replace a file at once: whoever reads it meanwhile sees the old or the new one, never half of one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, "utf-8")
    temporary.chmod(path.stat().st_mode & 0o7777)
    temporary.replace(path)


def _resolve(flags: dict[str, str]) -> Resolved:
    return resolve(flags, environ=os.environ, dotenv_values=read_dotenv(Path.cwd()))


def _user() -> str:
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = ""
    return name if names.is_requester(name) else "cli"


def _run(coroutine: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(coroutine)


def _loop_factory() -> Any:
    """Prefer uvloop; asyncio's own loop where it is missing, or asked to watch for blocking calls."""
    if os.environ.get("PYTHONASYNCIODEBUG"):
        return None
    try:
        import uvloop  # noqa: PLC0415 - an optional dependency
    except ImportError:
        return None
    return uvloop.new_event_loop


def _ask(target: Target, operation: str, name: str | None, fields: dict[str, Any]) -> JsonObject:
    """Ask, and end the program with the right exit code if the answer is a refusal."""
    try:
        if name is not None and (problem := names.service_problem(name)):
            # Asked here: such a name would lead to another topic or path.
            answer: JsonObject = {"status": "error", "code": "invalid_request", "message": problem, "problems": []}
        elif target.http is not None:
            from aliciacfg.http import requester as http  # noqa: PLC0415 - keeps the other commands quick

            answer = _run(http.ask(target.http, operation, name, fields, timeout_seconds=target.timeout_seconds))
        else:
            answer = _run(_ask_mqtt(target, operation, name, fields))
    except BrokerUnavailable as error:
        _fail(str(error), EXIT_NO_ANSWER)
    except OperationError as error:
        _fail(f"The answer is not what a daemon sends: {error}", EXIT_FAILED)
    if answer.get("status") != "error":
        return answer
    if not sys.stdout.isatty():
        _print_json(answer)
    click.echo(f"{answer.get('code')}: {answer.get('message')}", err=True)
    _problems(answer)
    sys.exit(EXIT_CODES.get(str(answer.get("code")), EXIT_FAILED))


async def _ask_mqtt(target: Target, operation: str, name: str | None, fields: dict[str, Any]) -> JsonObject:
    from aliciacfg.mqtt.requester import open_requester  # noqa: PLC0415 - keeps the other commands quick

    async with open_requester(_broker(target), target.requester) as requester:
        return await requester.ask(operation, name, fields, timeout_seconds=target.timeout_seconds)


async def _watch(target: Target, service: str | None, count: int | None) -> None:
    from aliciacfg.mqtt.requester import open_requester  # noqa: PLC0415 - keeps the other commands quick

    async with open_requester(_broker(target), target.requester) as requester:
        seen = 0
        async for update in requester.updates(service):
            click.echo(_update_line(update) if sys.stdout.isatty() else documents.encode(update).decode())
            seen += 1
            if count is not None and seen >= count:
                return


def _update_line(update: JsonObject) -> str:
    if update.get("deleted"):
        return f"{update['service']}  deleted"
    changed = update.get("changed")
    listed = ", ".join(str(pointer) for pointer in changed[:_MAX_LISTED]) if isinstance(changed, list) else ""
    more = f" and {len(changed) - _MAX_LISTED} more" if isinstance(changed, list) and len(changed) > _MAX_LISTED else ""
    restart = "  (restart required)" if update.get("restart_required") else ""
    return (
        f"{update.get('service')}  {update.get('environment')}  revision {update.get('revision')}  "
        f"version {update.get('version')}  changed {listed}{more}{restart}"
    )


def _broker(target: Target) -> Any:
    from aliciacfg.daemon import broker_address  # noqa: PLC0415 - keeps the other commands quick

    flags: dict[str, str] = {}
    if target.broker is not None:
        host, _, port = target.broker.rpartition(":") if ":" in target.broker else (target.broker, "", "")
        flags = {"mqtt_broker": host} | ({"mqtt_port": port} if port else {})
    try:
        resolved = _resolve(flags)
        if not resolved.explicit("mqtt_broker"):
            # The home's broker has its name only inside the home's network; a person sits beside the daemon.
            resolved = _resolve({"mqtt_broker": "127.0.0.1"})
    except SettingsError as error:
        _fail(str(error), 2)
    return broker_address(resolved.settings)


def _write(target: Target, operation: str, service: str, fields: dict[str, Any], *, answer: bool) -> None:
    dry_run = bool(fields.get("dry_run"))
    if not dry_run:
        fields.pop("dry_run", None)
    found = _ask(target, operation, service, fields)
    if answer or not sys.stdout.isatty():
        _show(found)
        return
    click.echo(str(found.get("message")))
    for key in ("changed", "restart_required", "warnings"):
        listed = found.get(key)
        if isinstance(listed, list) and listed:
            click.echo(f"{key.replace('_', ' ')}:")
            for item in listed:
                click.echo(f"  {item}")
    if dry_run:
        _show(found.get("difference"))


def _read(file: str) -> JsonObject:
    """A JSON object from a file, from standard input, or from the argument itself."""
    from aliciacfg import yamlfiles  # noqa: PLC0415 - keeps the other commands quick

    if file.lstrip().startswith("{"):
        text, label = file, "the argument"
    elif file == "-":
        text, label = sys.stdin.read(), "standard input"
    else:
        text, label = _text(Path(file)), file
    try:
        # JSON first: a few things that JSON writers write, libyaml does not read.
        value = documents.decode(text.encode())
    except OperationError:
        try:
            value = yamlfiles.load(text, file=label).value
        except SourceError as error:
            _fail(str(error), EXIT_CODES["invalid_request"])
    if not isinstance(value, dict):
        _fail(
            f"{label}: found {documents.type_name(value)}; expected a JSON or YAML object",
            EXIT_CODES["invalid_request"],
        )
    return value


def _export(struct: str) -> JsonObject:
    """A schema file from a msgspec Struct, named ``package.module:Struct``."""
    from aliciacfg.contract import struct_schema  # noqa: PLC0415 - keeps the other commands quick

    module, _, name = struct.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        return struct_schema(getattr(import_module(module), name))
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        _fail(f"{struct} cannot be exported: {error}; write package.module:Struct", EXIT_FAILED)


def _problems(answer: JsonObject) -> None:
    problems = answer.get("problems")
    for problem in problems if isinstance(problems, list) else []:
        if isinstance(problem, dict):
            click.echo(f"  {problem.get('pointer') or '(document)'}: {problem.get('message')}", err=True)


def _show(value: object) -> None:
    """JSON: coloured and indented for people, on one line otherwise indented the same."""
    if not sys.stdout.isatty():
        _print_json(value)
        return
    from rich.console import Console  # noqa: PLC0415 - keeps the other commands quick

    Console().print_json(data=value)


def _print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def _table(columns: list[str], rows: list[list[str]]) -> None:
    from rich.console import Console  # noqa: PLC0415 - keeps the other commands quick
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def _fail(message: str, code: int) -> NoReturn:
    click.echo(f"aliciacfg: {message}", err=True)
    sys.exit(code)
