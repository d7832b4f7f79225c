"""The ``service`` commands: ``add`` puts a service into the files of the home."""

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aliciacfg import documents
from aliciacfg.cli import home, inputs, notices, options, output, prompts, sealing_keys
from aliciacfg.cli.client import Target
from aliciacfg.cli.exits import EXIT_CODES, EXIT_USAGE, exit_on_error, fail
from aliciacfg.cli.local_client import ask_daemon
from aliciacfg.cli.present_home import require_home
from aliciacfg.errors import OperationError
from aliciacfg.model import names
from aliciacfg.schemas.schema_tree import has_secret_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aliciacfg.cli.output import Line
    from aliciacfg.documents import Json, JsonObject
    from aliciacfg.settings import Settings
    from aliciacfg.sources.file_edits import FileEdits
    from aliciacfg.sources.layers import Layer, Sources

_MAX_PORT = 65535
_BROKER_PORT = 1883
_ADDRESS = re.compile(
    r"(?:(?P<name>[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?)|\[(?P<six>[0-9A-Fa-f:.]+)\])(?::(?P<port>[0-9]+))?"
)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What is to be added.

    Attributes:
        name: The service.
        port: The port of its own HTTP interface; None for none.
        broker: Host and port of the broker that it connects to; None to leave that to the defaults.
        settings: Its settings.
        schema: Whether it gets a schema.
    """

    name: str
    port: int | None
    broker: tuple[str, int] | None
    settings: "JsonObject"
    schema: bool


@click.group()
def service() -> None:
    """Add a service to the files of the home."""


@service.command("add")
@click.argument("name", required=False)
@click.option("--setting", "settings", metavar="NAME=VALUE", multiple=True, help="A setting; VALUE is JSON or text.")
@click.option("--port", type=click.IntRange(1, _MAX_PORT), metavar="N", help="Port of its own HTTP interface.")
@click.option("--mqtt", metavar="HOST[:PORT]", help="Broker that it connects to, with a password that is made now.")
@click.option("--schema/--no-schema", default=None, help="Write a schema to begin with: types, and what is secret.")
@click.option("-e", "--environment", metavar="NAME", help="Add it to this environment only; default: to all.")
@options.dry_run
@options.settings("data_dir", "environments_dir", "schemas_dir")
@click.pass_obj
def service_add(
    target: Target,
    name: str | None,
    settings: tuple[str, ...],
    port: int | None,
    mqtt: str | None,
    *,
    schema: bool | None,
    environment: str | None,
    dry_run: bool,
    **flags: str | None,
) -> None:
    """Add the service NAME.

    It is written into environments/base.yaml, or into the file of one environment, where comments and order stay. On a
    terminal, and without options, the command asks. A password that the service lacks in an environment is made and
    sealed. Everything is checked before a file changes.

    Examples:
      aliciacfg service add thermostat
      aliciacfg service add thermostat --setting room=hall --setting target_celsius=21 --schema
      aliciacfg service add dashboard --port 8100 --mqtt 192.168.1.10
    """
    place = options.daemon_settings(flags).settings
    require_home(place)
    with exit_on_error():
        from aliciacfg.sources.source_files import SourceFiles

        sources = SourceFiles(place).load()
        home.require_readable(place, sources, environment)
        given = bool(settings or port or mqtt) or schema is not None
        asks = sys.stdin.isatty() and output.for_people() and not given and not dry_run
        if name is None:
            if not asks:
                raise click.UsageError("Missing argument 'NAME'.")
            name = prompts.ask("Name of the service", _service_name, default=None)
        _check_free(place, sources, name)
        if asks:
            wanted = _ask(place, sources, name)
        else:
            wanted = _Wanted(name, port, _broker(mqtt), _settings(name, settings), schema is True)
        _add(place, target, sources, wanted, environment, dry_run=dry_run)


def _check_free(settings: "Settings", sources: "Sources", name: str) -> None:
    """End the program if there cannot be a new service of this name."""
    if problem := names.service_problem(name):
        fail(problem, EXIT_USAGE)
    for environment in sources.environments.values():
        if name in environment.services:
            file = next(file.file for file in environment.files if name in file.services)
            fail(
                f"{name} is there already, in {file}. Change it there, or with `aliciacfg patch {name}`",
                EXIT_CODES["conflict"],
            )
    answer = ask_daemon(settings, "get", name, {})
    if answer is not None and answer.get("status") == "success":
        fail(
            f"{name} is there already: it was made at run time. See `aliciacfg get {name}`, and change it with "
            f"`aliciacfg patch {name}`",
            EXIT_CODES["conflict"],
        )


def _ask(settings: "Settings", sources: "Sources", name: str) -> _Wanted:
    """Ask for everything that can be answered with the return key."""
    port = prompts.ask("Port of its own HTTP interface (empty: none)", _port)
    broker = None
    if not any(layer.names_broker for layer in _default_layers(sources)):
        question = "Broker that it connects to, HOST[:PORT] (empty: it needs none from here)"
        broker = prompts.ask(question, _broker_or_none)
    found: JsonObject = {}
    question = "Setting, NAME=VALUE (empty: no more)"
    while item := prompts.ask(question, _typed_setting):
        found.update([item])
    there = _schema_path(settings, name) is not None
    schema = not there and prompts.confirm("Write a schema to begin with?", default=True)
    return _Wanted(name, port, broker, found, schema)


def _service_name(text: str) -> str:
    if problem := names.service_problem(text.strip()):
        raise click.UsageError(problem)
    return text.strip()


def _port(text: str) -> int | None:
    if not text.strip():
        return None
    if text.strip().isdecimal() and 1 <= int(text) <= _MAX_PORT:
        return int(text)
    raise click.UsageError(f"found {text!r}; expected a number from 1 to {_MAX_PORT}")


def _broker_or_none(text: str) -> tuple[str, int] | None:
    return _address(text.strip()) if text.strip() else None


def _address(text: str) -> tuple[str, int]:
    parts = _ADDRESS.fullmatch(text)
    if parts is None:
        raise click.UsageError(f"{text!r}: expected HOST or HOST:PORT; the password is made here")
    try:
        return parts["name"] or parts["six"], _port(parts["port"] or "") or _BROKER_PORT
    except click.UsageError as error:
        raise click.UsageError(f"{text!r}: {error.message}") from error


def _broker(text: str | None) -> tuple[str, int] | None:
    """Return the broker that ``--mqtt`` names."""
    try:
        return None if text is None else _address(text)
    except click.UsageError as error:
        raise click.UsageError(f"--mqtt {error.message}") from error


def _settings(service: str, items: tuple[str, ...]) -> "JsonObject":
    """Return the settings that ``--setting`` gives; a secret among them ends the program."""
    found: JsonObject = {}
    for item in items:
        try:
            name, value = _name_and_value(item)
        except click.UsageError as error:
            raise click.UsageError(f"--setting {error.message}") from error
        found[name] = inputs.json_or_text(value, otherwise="quote it as JSON")
        for pointer, text in documents.walk_strings({name: found[name]}):
            if why := _secret(pointer, text):
                marked = "" if has_secret_name(pointer) else ", mark it with x-sensitive: true in its schema"
                fail(
                    f"--setting {name} {why}, and other users of this machine see command lines",
                    EXIT_USAGE,
                    hint=f"add the service without it{marked}, then: aliciacfg secret set {service} /settings{pointer}",
                )
    return found


def _typed_setting(line: str) -> "tuple[str, Json] | None":
    """Return the setting of a line that was typed, or None for an empty one; what is wrong is asked again."""
    if not line.strip():
        return None
    name, text = _name_and_value(line.strip())
    value: Json = text
    try:
        value = documents.decode(text.encode(errors="surrogateescape"))
    except OperationError:
        if text.startswith(("{", "[", '"')):
            raise click.UsageError(f"the value of {name} begins like JSON and is none") from None
    for pointer, inner in documents.walk_strings({name: value}):
        if why := _secret(pointer, inner):
            raise click.UsageError(f"{name} {why}; set it afterwards with `aliciacfg secret set`")
    return name, value


def _name_and_value(item: str) -> tuple[str, str]:
    name, equals, value = item.partition("=")
    if not equals or not name.strip():
        raise click.UsageError(f"{item!r}: expected NAME=VALUE")
    return name.strip(), value


def _secret(pointer: str, text: str) -> str | None:
    """Return why a setting must not stand in the open, or None."""
    from aliciacfg.sources.foreign_files import holds_password

    if has_secret_name(pointer):
        return "is a secret by its name"
    return "is an address with a password in it" if holds_password(text) else None


def _schema_path(settings: "Settings", name: str) -> Path | None:
    paths = (Path(settings.schemas_dir) / f"{name}{ending}" for ending in (".yaml", ".json"))
    return next((path for path in paths if path.exists()), None)


def _add(
    settings: "Settings",
    target: Target,
    sources: "Sources",
    wanted: _Wanted,
    environment: str | None,
    *,
    dry_run: bool,
) -> None:
    from aliciacfg.schemas.skeleton import schema_skeleton
    from aliciacfg.sources.same_ports import same_ports
    from aliciacfg.sources.source_files import SourceFiles

    edits = home.edits_of(settings)
    path = edits.base() if environment is None else edits.environment(environment)
    edits.set_service(path, wanted.name, _patch(sources, wanted))
    _refuse_open_secrets(sources, wanted.name, path, edits.texts[path])
    schema = edits.schema(wanted.name) if wanted.schema else None
    if schema is not None:
        if there := _schema_path(settings, wanted.name):
            fail(f"{there} is there already, and describes {wanted.name}; leave out --schema", EXIT_CODES["conflict"])
        edits.texts[schema] = schema_skeleton(
            wanted.name, sources.with_default_settings(wanted.settings), teach=not wanted.settings
        )
    passwords = add_missing_secrets(settings, target, edits, wanted.name)
    problems = home.problems_with(settings, edits, sealing_keys.keyring_of_home(settings), wanted.name)
    if problems:
        lines = ["nothing was written:", *home.problem_lines(problems, wanted.name)]
        asks = "on a terminal the command asks for the secrets that others give out"
        hint = asks if any(has_secret_name(problem.pointer) for problem in problems) else None
        fail("\n".join(lines), EXIT_CODES["validation_failed"], hint=hint)
    shared = [] if wanted.port is None else same_ports(SourceFiles(settings).load(edits.texts))
    loaded = False if dry_run else home.write(settings, edits)
    for message in dict.fromkeys(problem.message for problem in shared if wanted.name in problem.message.split()):
        notices.print_warning(f"{message}; is another one meant? aliciacfg check")
    output.print_result(
        {
            "service": wanted.name,
            "file": str(path),
            "schema": schema and str(schema),
            "passwords": [str(file) for file in passwords],
            "dry_run": dry_run,
            "loaded": loaded,
        },
        lambda: _lines(
            wanted.name,
            path,
            schema,
            passwords,
            edits if dry_run else None,
            _example_of_a_change(wanted),
            loaded=loaded,
        ),
    )


def _refuse_open_secrets(sources: "Sources", name: str, path: Path, text: str) -> None:
    """End the program if the service would have a secret in the open, as a schema that is there already says it."""
    from aliciacfg.sources.open_secrets import open_secrets

    for secret in open_secrets(text, path=path, sources=sources):
        if secret.service == name and secret.marked:
            fail(
                f"{secret.pointer} is a secret, as the schema of {name} says, and would stand in the open",
                EXIT_USAGE,
                hint=f"add the service without it, then: aliciacfg secret set {name} {secret.pointer}",
            )


def _patch(sources: "Sources", wanted: _Wanted) -> "JsonObject":
    """Return what is written for the service; what the defaults of the files say is left to them."""
    patch: JsonObject = {}
    if wanted.port is not None:
        hosts = (documents.find(layer.patch, "/api_config/host") for layer in _default_layers(sources))
        known = any(isinstance(host, str) for host in hosts)
        patch["api_config"] = {"port": wanted.port} if known else {"host": "0.0.0.0", "port": wanted.port}  # noqa: S104 - an address that the service listens on
    if wanted.broker is not None:
        host, port = wanted.broker
        patch["mqtt_config"] = {"host": host, "port": port}
    if wanted.settings or not patch:
        patch["settings"] = wanted.settings
    return patch


def _default_layers(sources: "Sources") -> "list[Layer]":
    return [layer for environment in sources.environments.values() for layer in environment.default_layers]


def add_missing_secrets(settings: "Settings", target: Target, edits: "FileEdits", service: str) -> list[Path]:
    """Make the passwords that a service lacks with these edits, in every environment; return the files.

    On a terminal, secrets that others give out are asked for.
    """
    from aliciacfg.cli.secret import sealed
    from aliciacfg.core.composer import Composer
    from aliciacfg.core.missing_secrets import find_missing
    from aliciacfg.sealing.boxes import Keyring
    from aliciacfg.sources.source_files import SourceFiles

    sources = SourceFiles(settings).load(edits.texts)
    keyring = sealing_keys.keyring_of_home(settings) or Keyring.ephemeral()
    composer = Composer(sources, keyring, limits=settings.document_limits)
    files: list[Path] = []
    for environment in sources.environments.values():
        if environment.problems or service not in environment.services:
            continue
        missing = find_missing(composer, environment, services=[service])
        for item in missing.needed:
            if sys.stdin.isatty() and output.for_people():
                value = inputs.read_secret(f"{item.pointer} of {service} in {environment.name}")
                missing.made.setdefault(service, {})[item.pointer] = value
        if missing.made:
            key = sealing_keys.of_home(settings, target)
            path = edits.secrets(environment.name)
            edits.set_services(path, sealed(missing, key, environment.name))
            files.append(path)
    return files


def _example_of_a_change(wanted: _Wanted) -> str:
    """Return a patch with another value than the one that was just given."""
    name, given = next(iter(wanted.settings.items()), ("NAME", None))
    value: Json = "VALUE"
    if isinstance(given, bool):
        value = not given
    elif isinstance(given, int | float):
        value = given + 1
    return json.dumps({"settings": {name: value}}, ensure_ascii=False).replace("'", "\\u0027")


def _lines(
    name: str,
    path: Path,
    schema: Path | None,
    passwords: list[Path],
    unwritten: "FileEdits | None",
    change: str,
    *,
    loaded: bool,
) -> "Iterable[Line]":
    yield [("would add " if unwritten else "added ", "green"), f"{name} to {path}"]
    if schema is not None:
        yield f"  {schema} describes its settings; complete it there"
    if passwords:
        yield f"  its password is made and sealed, in {', '.join(map(str, passwords))}"
    if unwritten is not None:
        return
    yield "the running daemon has loaded it" if loaded else "the daemon loads it when it starts: aliciacfg serve --dev"
    yield "next:"
    yield f"  aliciacfg get {name}"
    yield f"  aliciacfg patch {name} '{change}'"
