"""The commands that seal with the daemon's public key: ``seal`` for one value, ``seal-file`` for a file's secrets."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from aliciacfg import documents
from aliciacfg.cli import inputs, notices, options, output, sealing_keys
from aliciacfg.cli.client import Target
from aliciacfg.cli.exits import EXIT_CODES, EXIT_USAGE, fail
from aliciacfg.errors import OperationError, SettingsError, SourceError
from aliciacfg.model import names
from aliciacfg.sealing.boxes import seal_for

if TYPE_CHECKING:
    from aliciacfg.sources.seal_file import SealedFile


@click.command()
@click.option("--service", required=True, metavar="NAME", help="Service that may use the value; *: defaults of files.")
@click.option("-e", "--environment", metavar="NAME", help="Environment that may use the value; default: any.")
@click.option("--pointer", metavar="POINTER", help="Place that may hold the value, as /settings/api_key; default: any.")
@click.option("--keep-newline", is_flag=True, help="Keep the newline at the end of standard input.")
@sealing_keys.published_key_options
@click.pass_obj
def seal(
    target: Target,
    service: str,
    environment: str | None,
    pointer: str | None,
    *,
    keep_newline: bool,
    key_file: str | None,
    accept: str | None,
) -> None:
    """Seal a secret for an environment file or a write.

    The secret comes from standard input; on a terminal the command asks for it and does not show it. The sealed value
    goes to standard output. The daemon's key is pinned at first use; later another key is refused, as ssh does with
    host keys.

    Examples:
        aliciacfg seal --service voice_router --pointer /settings/api_key
        pass show ha-token | aliciacfg seal --service ha_bridge -e prod
    """
    _check_place(service, environment, pointer)
    key = sealing_keys.published(target, key_file, accept)
    value = inputs.read_secret("Secret", keep_newline=keep_newline)
    click.echo(seal_for(key, value, service=service, environment=environment, pointer=pointer))


@click.command("seal-file")
@click.argument("path", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--schemas-dir", metavar="DIR", help="Schemas, which say what is secret; default: as for the daemon.")
@sealing_keys.published_key_options
@click.pass_obj
def seal_file(target: Target, path: Path, schemas_dir: str | None, *, key_file: str | None, accept: str | None) -> None:
    """Seal every secret of the environment file PATH in place.

    Comments, order and everything else stay, and so do values that are sealed already or contain ${NAME}. Prints the
    places, never the values. Needs no daemon in the home whose file it is; elsewhere the daemon publishes its key.

    Examples:
        aliciacfg seal-file environments/prod-secrets.yaml
    """
    from aliciacfg.sources import layers, loader, seal_file

    try:
        seal_file.file_environment(path)
        settings = options.daemon_settings({"schemas_dir": schemas_dir}).settings
        sources = layers.Sources({}, loader.load_schemas(Path(settings.schemas_dir)))
        text = inputs.read_text(path)
        own = None if key_file or accept else sealing_keys.for_file(settings, target, path)
        key = own or sealing_keys.published(target, key_file, accept)
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
