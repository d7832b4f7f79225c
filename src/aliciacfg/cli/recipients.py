"""The ``recipient`` commands: to whose key the secrets of a service are sealed."""

import click

from aliciacfg.cli import inputs, output
from aliciacfg.cli.local_client import administer
from aliciacfg.cli.options import data_dir
from aliciacfg.documents import JsonObject


@click.group()
def recipient() -> None:
    """Say to whose key the secrets of a service are sealed."""


@recipient.command("set")
@click.argument("service")
@click.argument("public_key")
@data_dir
def recipient_set(service: str, public_key: str, data_dir: str | None) -> None:
    """Seal the secrets of SERVICE to PUBLIC_KEY: X25519 in base64, - for standard input."""
    key = inputs.read_stdin() if public_key == "-" else public_key
    _show_recipient(administer("recipient", service, {"public_key": key}, data_dir=data_dir))


@recipient.command("unset")
@click.argument("service")
@data_dir
def recipient_unset(service: str, data_dir: str | None) -> None:
    """Show the secrets of SERVICE as *** again."""
    _show_recipient(administer("recipient", service, {"public_key": None}, data_dir=data_dir))


def _show_recipient(answer: JsonObject) -> None:
    if output.for_people():
        click.echo(str(answer.get("message")))
    else:
        output.print_json(answer)
