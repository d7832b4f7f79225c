"""The commands that seal with the daemon's public key: ``seal`` for one value, ``seal-file`` for a file's secrets."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aliciacfg import documents
from aliciacfg.cli import inputs, notices, options, output
from aliciacfg.cli.client import Target, published_key
from aliciacfg.cli.exits import EXIT_CODES, EXIT_FAILED, EXIT_USAGE, fail
from aliciacfg.errors import OperationError, SettingsError, SourceError
from aliciacfg.model import names
from aliciacfg.sealing.boxes import PublicKey, UnusableKey, seal_for
from aliciacfg.sealing.known_keys import KeyChanged, KeyPins, PinsUnusable, daemon_name, pin_file

if TYPE_CHECKING:
    from aliciacfg.sources.seal_file import SealedFile


def _key_options(command: Any) -> Any:
    """Add the options that choose the public key."""
    accept = click.option(
        "--accept-new-key", "accept", metavar="ID", help="Trust and pin the key with this id, in place of the old one."
    )
    key_file = click.option(
        "--key-file",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="File with the public key, as GET /keys/current or `aliciacfg keys show` prints it; no daemon is asked.",
    )
    return key_file(accept(command))


@click.command()
@click.option("--service", required=True, metavar="NAME", help="Service that may use the value; *: defaults of files.")
@click.option("-e", "--environment", metavar="NAME", help="Environment that may use the value; default: any.")
@click.option("--pointer", metavar="POINTER", help="Place that may hold the value, as /settings/api_key; default: any.")
@click.option("--keep-newline", is_flag=True, help="Keep the newline at the end of standard input.")
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
    """Seal a secret for an environment file or a write.

    The secret comes from standard input; on a terminal the command asks for it and does not show it. The sealed value
    goes to standard output. The daemon's key is pinned at first use; later another key is refused, as ssh does with
    host keys.
    """
    _check_place(service, environment, pointer)
    key = _public_key(target, key_file, accept)
    value = inputs.read_secret("Secret", keep_newline=keep_newline)
    click.echo(seal_for(key, value, service=service, environment=environment, pointer=pointer))


@click.command("seal-file")
@click.argument("path", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--schemas-dir", metavar="DIR", help="Schemas, which say what is secret; default: as for the daemon.")
@_key_options
@click.pass_obj
def seal_file(
    target: Target, path: Path, schemas_dir: str | None, *, key_file: Path | None, accept: str | None
) -> None:
    """Seal every secret of the environment file PATH in place.

    Comments, order and everything else stay, and so do values that are sealed already or contain ${NAME}. Prints the
    places, never the values.
    """
    from aliciacfg.sources import layers, loader, seal_file

    try:
        seal_file.file_environment(path)
        directory = Path(options.daemon_settings({"schemas_dir": schemas_dir}).settings.schemas_dir)
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
        notices.print_note(f"left alone: {note}")
    output.print_result(
        {"path": str(path), "key_id": key.key_id, "sealed": result.sealed, "kept": result.kept},
        lambda: _sealed_lines(path, result),
    )


def _sealed_lines(path: Path, result: "SealedFile") -> list[str]:
    summary = f"{path}: {len(result.sealed)} sealed, {len(result.kept)} were sealed before"
    return [*(f"sealed {place}" for place in result.sealed), summary]


def _check_place(service: str, environment: str | None, pointer: str | None) -> None:
    """Raise a usage error if no configuration can have such a place."""
    try:
        if service != "*":
            names.check_service(service)
        if environment is not None:
            names.check_environment(environment)
        documents.parse_pointer(pointer or "")
    except OperationError as error:
        raise click.UsageError(str(error)) from error


def _public_key(target: Target, key_file: Path | None, accept: str | None) -> PublicKey:
    """Return the key of a file, which the user trusts, or the daemon's if it is the pinned one."""
    try:
        if key_file is not None:
            if accept is not None:
                raise click.UsageError("--key-file needs no --accept-new-key: a key in a file is trusted")
            return PublicKey.from_published(inputs.read_object(str(key_file)))
        url, content = published_key(target)
        daemon, key = daemon_name(url), PublicKey.from_published(content)
        if KeyPins(pin_file(os.environ)).check(daemon, key, accept=accept) == "pinned":
            notices.print_note(f"the key of {daemon} is {key.key_id}; it is pinned now")
    except UnusableKey as error:
        fail(f"The public key cannot be used: {error}", EXIT_CODES["invalid_request"])
    except KeyChanged as error:
        fail(str(error), EXIT_CODES["conflict"])
    except PinsUnusable as error:
        fail(str(error), EXIT_FAILED)
    except ValueError as error:
        fail(str(error), EXIT_USAGE)
    return key
