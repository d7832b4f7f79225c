"""The commands that seal for the daemon with its public key: one value, or the secrets of a file."""

import os
from pathlib import Path
from typing import Any

import click

from aliciacfg import documents
from aliciacfg.cli import inputs, options, output
from aliciacfg.cli.client import Target, published_key
from aliciacfg.cli.exits import EXIT_CODES, EXIT_FAILED, EXIT_USAGE, fail
from aliciacfg.errors import OperationError, SettingsError, SourceError
from aliciacfg.model import names
from aliciacfg.sealing.boxes import PublicKey, UnusableKey, seal_for
from aliciacfg.sealing.known_keys import KeyChanged, KeyPins, PinsUnusable, daemon_name, pin_file


def _key_options(command: Any) -> Any:
    """Which key is sealed for."""
    accept = click.option(
        "--accept-new-key", "accept", metavar="ID", help="The id that the daemon's key has, whatever was pinned before."
    )
    key_file = click.option(
        "--key-file",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="The public key, as GET /keys/current or `aliciacfg keys show` prints it, instead of asking the daemon.",
    )
    return key_file(accept(command))


@click.command()
@click.option("--service", required=True, metavar="NAME", help="Opens in this service only; *: in files' defaults.")
@click.option("-e", "--environment", metavar="NAME", help="Opens in this environment only; default: in any.")
@click.option("--pointer", metavar="POINTER", help="Opens at this place only, such as /settings/api_key; default: any.")
@click.option("--keep-newline", is_flag=True, help="Do not drop the newline at the end of standard input.")
@_key_options
@click.pass_obj
def seal(
    target: Target,
    service: str,
    environment: str | None,
    pointer: str | None,
    *,
    keep_newline: bool,
    key_file: Path | None,
    accept: str | None,
) -> None:
    """Seal a secret for the daemon, to be put into an environment file or a write.

    The secret comes from standard input, or is typed without being shown; the sealed value goes to standard output.
    The daemon's key is pinned when it is first seen, and another one is refused, as ssh does with hosts.
    """
    _check_place(service, environment, pointer)
    key = _public_key(target, key_file, accept)
    value = inputs.read_secret("Secret", keep_newline=keep_newline)
    click.echo(seal_for(key, value, service=service, environment=environment, pointer=pointer))


@click.command("seal-file")
@click.argument("path", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--schemas-dir", metavar="DIR", help="Says what is a secret; default: as for the daemon.")
@_key_options
@click.pass_obj
def seal_file(
    target: Target, path: Path, schemas_dir: str | None, *, key_file: Path | None, accept: str | None
) -> None:
    """Seal every secret of the environment file PATH in place; comments, order and everything else stay.

    What is sealed already stays, and so does what holds ${NAME}. Prints the places, never the values.
    """
    from aliciacfg.sources import layers, loader, seal_file  # noqa: PLC0415 - keeps the other commands quick

    try:
        seal_file.file_environment(path)
        directory = Path(options.settle({"schemas_dir": schemas_dir}).settings.schemas_dir)
        sources = layers.Sources({}, loader.load_schemas(directory))
        text = inputs.read_text(path)
        key = _public_key(target, key_file, accept)
        result = seal_file.seal_file(text, path=path, sources=sources, key=key)
    except SettingsError as error:
        fail(str(error), EXIT_USAGE)
    except SourceError as error:
        fail(f"Nothing was sealed:\n{error}", EXIT_CODES["invalid_request"])
    if result.sealed:
        inputs.rewrite_text(path, result.text)
    for note in result.notes:
        click.echo(f"left alone: {note}", err=True)
    if not output.for_people():
        output.print_json({"path": str(path), "key_id": key.key_id, "sealed": result.sealed, "kept": result.kept})
        return
    for place in result.sealed:
        click.echo(f"sealed {place}")
    click.echo(f"{path}: {len(result.sealed)} sealed now, {len(result.kept)} before")


def _check_place(service: str, environment: str | None, pointer: str | None) -> None:
    """Refuse a binding that nothing can meet."""
    try:
        if service != "*":
            names.check_service(service)
        if environment is not None:
            names.check_environment(environment)
        documents.parse_pointer(pointer or "")
    except OperationError as error:
        raise click.UsageError(str(error)) from error


def _public_key(target: Target, key_file: Path | None, accept: str | None) -> PublicKey:
    """The key of a file, which the user vouches for; else the daemon's, if it is the one that is pinned."""
    try:
        if key_file is not None:
            if accept is not None:
                raise click.UsageError("--key-file is believed as it is; leave --accept-new-key out")
            return PublicKey.from_published(inputs.read_object(str(key_file)))
        url, content = published_key(target)
        daemon, key = daemon_name(url), PublicKey.from_published(content)
        if KeyPins(pin_file(os.environ)).check(daemon, key, accept=accept) == "pinned":
            click.echo(f"aliciacfg: {daemon} has key {key.key_id}, which is pinned from now on", err=True)
    except UnusableKey as error:
        fail(f"The public key cannot be used: {error}", EXIT_CODES["invalid_request"])
    except KeyChanged as error:
        fail(str(error), EXIT_CODES["conflict"])
    except PinsUnusable as error:
        fail(str(error), EXIT_FAILED)
    except ValueError as error:
        fail(str(error), EXIT_USAGE)
    return key
