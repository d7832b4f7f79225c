"""The ``token`` commands: bearer tokens of HTTP."""

import re

import click

from aliciacfg.cli import formatting, output
from aliciacfg.cli.local_client import administer
from aliciacfg.cli.options import data_dir
from aliciacfg.documents import Json, JsonObject

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION = re.compile(r"([1-9][0-9]{0,6})([smhdw])")


@click.group()
def token() -> None:
    """Make, list and revoke the bearer tokens of HTTP. With the first one, everything needs a token or a rule."""


@token.command("create")
@click.argument("name")
@click.option(
    "--role", type=click.Choice(["service", "reader", "writer", "admin"]), default="service", show_default=True,
    help="What it adds to what access.yaml allows NAME.",
)  # fmt: skip
@click.option("--expires", metavar="DURATION", help="For example 12h or 90d; default: never.")
@data_dir
def token_create(name: str, role: str, expires: str | None, data_dir: str | None) -> None:
    """Make a token for NAME, a service or a person, and print it: this once, it is kept nowhere.

    Only the token goes to standard output: curl -H "Authorization: Bearer $(aliciacfg token create …)"
    """
    fields = {"name": name, "role": role, "expires_in_seconds": None if expires is None else _seconds(expires)}
    made = administer("token_create", None, fields, data_dir=data_dir)
    click.echo(f"token {made['token_id']} of {name}, role {role}, {_until(made.get('expires'))}", err=True)
    click.echo(str(made["token"]))


@token.command("list")
@data_dir
def token_list(data_dir: str | None) -> None:
    """List the tokens, without what proves them."""
    found = administer("token_list", None, {}, data_dir=data_dir).get("tokens")
    if not output.for_people():
        output.print_json(found)
        return
    rows = [
        [str(item["token_id"]), str(item["name"]), str(item["role"]), formatting.when(item["created"]), _state(item)]
        for item in (found if isinstance(found, list) else [])
        if isinstance(item, dict)
    ]
    output.table(["token", "name", "role", "created", ""], rows)


@token.command("revoke")
@click.argument("token_id")
@data_dir
def token_revoke(token_id: str, data_dir: str | None) -> None:
    """Take the token TOKEN_ID back, at once."""
    found = administer("token_revoke", None, {"token_id": token_id}, data_dir=data_dir)
    if output.for_people():
        click.echo(f"{token_id} is revoked")
    else:
        output.print_json(found.get("tokens"))


def _seconds(duration: str) -> int:
    match = _DURATION.fullmatch(duration)
    if match is None:
        raise click.UsageError(f"--expires {duration!r}: write a number and s, m, h, d or w, as 90d")
    return int(match[1]) * _SECONDS[match[2]]


def _until(expires: Json) -> str:
    return "for ever" if expires is None else f"until {formatting.when(expires)}"


def _state(item: JsonObject) -> str:
    if item.get("revoked") is not None:
        return f"revoked {formatting.when(item['revoked'])}"
    if item.get("confirmed") is False:
        return "not as it was written: proves nobody"
    return _until(item.get("expires"))
