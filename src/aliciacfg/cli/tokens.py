"""The ``token`` commands: bearer tokens for HTTP."""

import re
import time
from typing import get_args

import click

from aliciacfg.api.answers import TokenAnswer, TokenItem, TokensAnswer
from aliciacfg.cli import formatting, notices, options, output, output_format, times
from aliciacfg.cli.answers import parse
from aliciacfg.cli.local_client import administer
from aliciacfg.cli.output import Line, Table
from aliciacfg.model.records import Role

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION = re.compile(r"([1-9][0-9]{0,6})([smhdw])")


@click.group()
def token() -> None:
    """Create, list and revoke bearer tokens for HTTP.

    From the first token on, every request for a configuration needs a token or an access rule, over MQTT too; revoking
    all tokens does not open the home again.
    """


@token.command("create")
@click.argument("name")
@click.option(
    "--role", type=click.Choice(get_args(Role)), default="service", show_default=True,
    help="Permissions beyond what access.yaml grants NAME.",
)  # fmt: skip
@click.option("--expires", metavar="DURATION", help="For example 12h or 90d; default: never.")
@options.data_dir
def token_create(name: str, role: str, expires: str | None, data_dir: str | None) -> None:
    """Create a token for NAME and print it.

    NAME is a service or a person. The token cannot be printed again: only its hash is stored. Nothing else goes to
    standard output: curl -H "Authorization: Bearer $(aliciacfg token create …)"

    Examples:
        aliciacfg token create voice_router
        aliciacfg token create mario --role admin --expires 90d
    """
    fields = {"name": name, "role": role, "expires_in_seconds": None if expires is None else _seconds(expires)}
    answer = administer("token_create", None, fields, data_dir=data_dir)
    made = parse(answer, TokenAnswer)
    if output_format.chosen() is None:
        notices.print_note(f"token {made.token_id} of {name}, role {role}, {_expiry(made.expires)}")
        click.echo(made.token)
    else:
        output.print_result(answer, lambda: [made.token], names=lambda: [made.token_id])


@token.command("list")
@times.option
@options.data_dir
def token_list(data_dir: str | None) -> None:
    """List the tokens, without their secret part.

    Examples:
        aliciacfg token list
    """
    answer = administer("token_list", None, {}, data_dir=data_dir)
    output.print_result(answer.get("tokens"), lambda: [_table(parse(answer, TokensAnswer).tokens)])


@token.command("revoke")
@click.argument("token_id")
@options.data_dir
def token_revoke(token_id: str, data_dir: str | None) -> None:
    """Revoke the token TOKEN_ID, with immediate effect.

    Examples:
        aliciacfg token revoke 4f1d2c
    """
    answer = administer("token_revoke", None, {"token_id": token_id}, data_dir=data_dir)
    output.print_result(answer.get("tokens"), names=lambda: [token_id], render=lambda: [f"token {token_id} is revoked"])


def _table(tokens: list[TokenItem]) -> Table:
    now = time.time()
    rows: list[list[Line]] = [
        [item.token_id, item.name, item.role, formatting.when(item.created, now=now), _state(item)] for item in tokens
    ]
    return Table(["token", "name", "role", "created", "state"], rows, empty="No tokens.")


def _seconds(duration: str) -> int:
    match = _DURATION.fullmatch(duration)
    if match is None:
        raise click.UsageError(f"--expires {duration!r}: write a number and s, m, h, d or w, for example 90d")
    return int(match[1]) * _SECONDS[match[2]]


def _expiry(expires: float | None) -> str:
    return "never expires" if expires is None else f"expires {formatting.moment(expires)}"


def _state(item: TokenItem) -> str:
    if item.revoked is not None:
        return f"revoked {formatting.moment(item.revoked)}"
    if not item.confirmed:
        return "invalid: changed in the database"
    return _expiry(item.expires)
