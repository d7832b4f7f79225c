"""The ``recipient`` commands: the public keys that services' secrets are sealed to."""

import click

from aliciacfg.api.answers import RecipientAnswer
from aliciacfg.cli import inputs, options
from aliciacfg.cli.answers import print_answer
from aliciacfg.cli.local_client import administer


@click.group()
def recipient() -> None:
    """Set the public key that a service's secrets are sealed to."""


@recipient.command("set")
@click.argument("service")
@click.argument("public_key")
@options.data_dir
def recipient_set(service: str, public_key: str, data_dir: str | None) -> None:
    """Seal the secrets of SERVICE to PUBLIC_KEY.

    PUBLIC_KEY is an X25519 key in base64, or - for standard input.
    """
    _set_key(service, inputs.read_stdin() if public_key == "-" else public_key, data_dir)


@recipient.command("unset")
@click.argument("service")
@options.data_dir
def recipient_unset(service: str, data_dir: str | None) -> None:
    """Remove the key of SERVICE; its secrets appear as *** again."""
    _set_key(service, None, data_dir)


def _set_key(service: str, public_key: str | None, data_dir: str | None) -> None:
    answer = administer("recipient", service, {"public_key": public_key}, data_dir=data_dir)
    print_answer(answer, RecipientAnswer, lambda answer: [answer.message])
