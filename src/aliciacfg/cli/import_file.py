"""The ``import`` command: takes over the configuration file of a program."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from aliciacfg import documents
from aliciacfg.cli import formatting, home, inputs, options, output, sealing_keys
from aliciacfg.cli.client import Target
from aliciacfg.cli.exits import EXIT_CODES, EXIT_USAGE, exit_on_error, fail
from aliciacfg.cli.output import Table
from aliciacfg.cli.present_home import require_home
from aliciacfg.cli.service import add_missing_secrets
from aliciacfg.cli.shadowed import warn_if_shadowed
from aliciacfg.errors import Problem
from aliciacfg.model import names
from aliciacfg.model.redaction import REDACTED
from aliciacfg.schemas.schema_tree import has_secret_name
from aliciacfg.sources.foreign_files import Form, form_of, read_foreign

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from aliciacfg.cli.output import Block, Line
    from aliciacfg.core.taken_values import TakenValues
    from aliciacfg.documents import Json
    from aliciacfg.sealing.boxes import Keyring, PublicKey
    from aliciacfg.settings import Settings
    from aliciacfg.sources.file_edits import FileEdits

_MAX_SHOWN = 60


@click.command("import")
@click.argument("file", type=click.Path(exists=True, allow_dash=True, path_type=Path))
@click.option("--service", metavar="NAME", help="Service that gets the values; added if it is new.")
@click.option("-e", "--environment", metavar="NAME", help="Environment that gets them; default: all.")
@click.option("--format", "form", type=click.Choice(get_args(Form)), help="Form of FILE; default: by its name.")
@click.option("--replace", is_flag=True, help="Replace values that the files have already.")
@click.option("--schema/--no-schema", default=True, help="Describe a new service in a schema.  [default: schema]")
@click.option(
    "--env-prefix", metavar="TEXT", help="How the variables begin that a new schema names: the program's own."
)
@options.dry_run
@options.settings("data_dir", "environments_dir", "schemas_dir")
@click.pass_obj
def import_(
    target: Target,
    file: Path,
    service: str | None,
    environment: str | None,
    form: Form | None,
    *,
    replace: bool,
    schema: bool,
    env_prefix: str | None,
    dry_run: bool,
    **flags: str | None,
) -> None:
    """Take over the configuration file FILE of a program, or a whole home.

    FILE is a .env file, JSON, YAML, or key=value with or without [sections]. Its values become settings of the service,
    with the types that they have. Secrets are sealed, for each environment by itself, in its file of secrets. What only
    the other program understands, such as !secret and !include, is listed and not taken; addresses that hold a password
    are listed and sealed. FILE stays as it is.

    If FILE is a directory that `aliciacfg export` wrote, the whole home in it is put into an empty one; the daemon must
    not run. To have its secrets open, put the keys.json of that home into the data directory before.

    Examples:
      aliciacfg import telegram/.env --service telegram_bot --dry-run
      aliciacfg import configuration.yaml --service zigbee2mqtt --env-prefix ZIGBEE2MQTT_CONFIG_
      aliciacfg import home-in-git
    """
    settings = options.daemon_settings(flags).settings
    if file.is_dir():
        from aliciacfg.cli.exchange import import_whole

        if service is not None:
            raise click.UsageError("--service is for one file; a directory holds a whole home")
        import_whole(file, settings, dry_run=dry_run)
        return
    if service is None:
        raise click.UsageError("Missing option '--service': the service that gets the values of FILE.")
    require_home(settings)
    if problem := names.service_problem(service):
        fail(problem, EXIT_USAGE)
    form = form or form_of(file)
    if form is None:
        fail(f"the name of {file} does not say its form", EXIT_USAGE, hint=f"add --format {'|'.join(get_args(Form))}")
    if env_prefix is not None and (form == "env" or re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", env_prefix) is None):
        what = "FILE names its variables itself" if form == "env" else "expected letters a to z, digits and _"
        raise click.UsageError(f"--env-prefix: {what}")
    with exit_on_error():
        from aliciacfg.core.taken_values import take_over
        from aliciacfg.sources.source_files import SourceFiles

        text = inputs.read_stdin() if str(file) == "-" else inputs.read_text(file)
        foreign = read_foreign(text, form, file=str(file))
        sources = SourceFiles(settings).load()
        home.require_readable(settings, sources, environment)
        taken = take_over(foreign, service=service, sources=sources, with_schema=schema, prefix=env_prefix or "")
        if env_prefix is not None and taken.schema is None:
            raise click.UsageError(f"--env-prefix: no new schema is written for {service}; name its variables there")
        if not taken.values and not taken.secrets:
            fail(
                f"nothing of {file} can be taken over",
                EXIT_CODES["invalid_request"],
                problems=[Problem(pointer, message) for pointer, message in taken.notes],
            )
        _import(
            settings,
            target,
            service,
            environment,
            sources.environments,
            taken,
            file=None if str(file) == "-" else file,
            replace=replace,
            dry_run=dry_run,
        )


def _import(
    settings: "Settings",
    target: Target,
    service: str,
    environment: str | None,
    environments: "Iterable[str]",
    taken: "TakenValues",
    *,
    file: Path | None,
    replace: bool,
    dry_run: bool,
) -> None:
    from aliciacfg.core.missing_secrets import as_patch

    edits = home.edits_of(settings)
    path = edits.base() if environment is None else edits.environment(environment)
    keyring = sealing_keys.keyring_of_home(settings)
    standing = list(_standing(edits, keyring, service, environment, environments, taken.secrets))
    if not replace:
        found = [(pointer, path, edits.value(path, service, pointer)) for pointer in taken.values]
        found += [(secret.pointer, secret.file, secret.opened) for secret in standing]
        _check_new(service, found, {**taken.values, **taken.secrets})
    secrets: dict[tuple[Path, str | None], dict[str, str]] = {}
    for secret in standing:
        value = taken.secrets[secret.pointer]
        # What is sealed there with the same value stays as it is: another box would look like a change.
        if secret.opened != value or secret.raw == value:
            secrets.setdefault(secret.place(edits, value), {})[secret.pointer] = value
    if taken.schema is not None:
        edits.texts[edits.schema(service)] = taken.schema
    edits.set_service(path, service, as_patch(taken.values) if taken.values else {})
    # First in plain text, to see whether they are valid; no file ever holds them so.
    for (private, _), values in secrets.items():
        edits.set_service(private, service, as_patch(dict(values)))
    if not dry_run:
        add_missing_secrets(settings, target, edits, service)
    keyring = sealing_keys.keyring_of_home(settings)
    problems = home.problems_with(settings, edits, keyring, service, environment=environment)
    if problems:
        lines = ["nothing was written:", *home.problem_lines(problems, service)]
        fail("\n".join(lines), EXIT_CODES["validation_failed"])
    if secrets and not dry_run:
        _seal(edits, sealing_keys.of_home(settings, target).public, service, secrets)
    unchanged = not edits.changed
    loaded = False if dry_run or unchanged else home.write(settings, edits)
    files = [str(file) for file in edits.texts]
    output.print_result(
        {
            "service": service,
            "environment": environment,
            "files": files,
            "values": [{"from": taken.names[at], "pointer": at, "value": value} for at, value in taken.values.items()],
            "secrets": [{"from": taken.names[at], "pointer": at} for at in taken.secrets],
            "notes": [{"pointer": at, "message": message} for at, message in taken.notes],
            "dry_run": dry_run,
            "unchanged": unchanged,
            "loaded": loaded,
        },
        lambda: _lines(
            service, environment, taken, files, file=file, dry_run=dry_run, unchanged=unchanged, loaded=loaded
        ),
        names=lambda: [*taken.values, *taken.secrets],
    )
    if loaded:
        places = (f"/services/{documents.escape(service)}{pointer}" for pointer in (*taken.values, *taken.secrets))
        warn_if_shadowed(settings, path, places)


def _seal(
    edits: "FileEdits",
    key: "PublicKey",
    service: str,
    secrets: "Mapping[tuple[Path, str | None], Mapping[str, str]]",
) -> None:
    """Write secrets sealed, by their file and the environment that they are sealed for."""
    from aliciacfg.core.missing_secrets import as_patch
    from aliciacfg.sealing.boxes import seal_for

    for (private, environment), values in secrets.items():
        boxes: dict[str, Json] = {
            pointer: seal_for(key, value, service=service, environment=environment, pointer=pointer)
            for pointer, value in values.items()
        }
        edits.set_service(private, service, as_patch(boxes))


@dataclass(frozen=True, slots=True)
class _Standing:
    """What the files have in an environment at the place of an imported secret.

    Attributes:
        environment: The environment.
        pointer: The place.
        file: The highest file that has a value there; without one, the file that gets it.
        raw: The value in the file; None if there is none.
        opened: The value, opened if it opens.
    """

    environment: str
    pointer: str
    file: Path
    raw: "Json"
    opened: "Json"

    def place(self, edits: "FileEdits", value: str) -> tuple[Path, str | None]:
        """Return the file that gets the sealed value, and the environment that it is sealed for.

        The same value in the open is sealed where it stands.
        """
        file = self.file if self.raw == value else edits.secrets(self.environment)
        return file, None if file == edits.base() else self.environment


def _standing(
    edits: "FileEdits",
    keyring: "Keyring | None",
    service: str,
    only: str | None,
    environments: "Iterable[str]",
    pointers: "Iterable[str]",
) -> "Iterator[_Standing]":
    """Yield what stands at each place in each environment that gets the secrets.

    A secret is sealed for each environment by itself, as ``secret set`` does: it opens only there, and a new one in one
    environment leaves no old one below it.
    """
    for name in environments if only is None else [only]:
        own = edits.secrets(name)
        files = [own] if only is not None else [own, edits.environment(name), edits.base()]
        for pointer in pointers:
            values = ((file, edits.value(file, service, pointer)) for file in files)
            file, raw = next(((file, value) for file, value in values if value is not None), (own, None))
            yield _Standing(name, pointer, file, raw, _opened(keyring, raw, service, name, pointer))


def _opened(keyring: "Keyring | None", value: "Json", service: str, environment: str, pointer: str) -> "Json":
    """Return a value of a file, opened if it is sealed and opens in an environment."""
    from aliciacfg.sealing.boxes import CannotOpen, is_sealed

    if keyring is None or not isinstance(value, str) or not is_sealed(value):
        return value
    try:
        return keyring.open(value, service=service, environment=environment, pointer=pointer)
    except CannotOpen:
        return value


def _check_new(service: str, there: "Iterable[tuple[str, Path, Json]]", wanted: "Mapping[str, Json]") -> None:
    """End the program if the files have other values at the places that are imported."""
    others = {
        (pointer, path): None
        for pointer, path, value in there
        if value is not None and not documents.equal(value, wanted[pointer])
    }
    problems = [Problem(pointer, f"{path} has another value") for pointer, path in others]
    if problems:
        fail(
            f"{service} has values already, so nothing was written",
            EXIT_CODES["conflict"],
            hint="add --replace to have those of the file",
            problems=problems,
        )


def _lines(
    service: str,
    environment: str | None,
    taken: "TakenValues",
    files: list[str],
    *,
    file: Path | None,
    dry_run: bool,
    unchanged: bool,
    loaded: bool,
) -> "Iterable[Block]":
    values = formatting.counted(len(taken.values) + len(taken.secrets), "value")
    verb = "would take" if dry_run else "took"
    if unchanged:
        yield [("nothing to change: ", "green"), f"{', '.join(files)} has {values} of {service} so already"]
    else:
        yield [(f"{verb} {values}", "green"), f" into {', '.join(files)}"]
    rows: list[list[Line]] = [[taken.names[at], at, _shown(value)] for at, value in taken.values.items()]
    sealed: Line = [(f"{REDACTED} sealed", "cyan")]
    rows += [[taken.names[at], at, sealed] for at in taken.secrets]
    yield Table(["in the file", f"in {service}", "value"], rows)
    if taken.notes:
        yield [("look at these:", "bold yellow")]
        yield from (f"  {pointer} {message}" for pointer, message in taken.notes)
    left = [pointer for pointer, _ in taken.notes if pointer not in {*taken.values, *taken.secrets}]
    if secrets := [pointer for pointer in left if has_secret_name(pointer)]:
        where = "" if environment is None else f" -e {environment}"
        yield "secrets that were not taken, for you to set:"
        yield from (f"  aliciacfg secret set {service} {pointer}{where}" for pointer in secrets)
    if taken.secrets:
        yield "If one is not a secret, or a secret is not sealed, say so in the schema: x-sensitive: false, or true"
    if not dry_run and not unchanged:
        yield "the running daemon has loaded it" if loaded else "the daemon loads it when it starts"
    if not dry_run and taken.secrets and file is not None:
        held = formatting.counted(len(taken.secrets), "secret")
        yield [("note: ", "cyan"), f"{file} still holds {held} in the open; delete it when the program runs from here"]


def _shown(value: "Json") -> str:
    text = documents.encode(value).decode()
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 1]}…"
