"""The ``token`` commands: bearer tokens for HTTP."""

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from aliciacfg.api.answers.administration import TokenAnswer, TokenItem, TokensAnswer
from aliciacfg.cli import formatting, notices, options, output, output_format, prompts, times
from aliciacfg.cli.answers import parse
from aliciacfg.cli.exits import EXIT_CODES, EXIT_FAILED, fail
from aliciacfg.cli.local_client import administer
from aliciacfg.cli.output import Line, Table
from aliciacfg.errors import AliciacfgError
from aliciacfg.model import names
from aliciacfg.model.records import Role

if TYPE_CHECKING:
    from aliciacfg.settings import Settings

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_TOKEN_ID = re.compile(r"[0-9a-f]{12}")
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
@click.option("--yes", is_flag=True, help="Do not ask before the first token closes the home.")
@options.data_dir
def token_create(name: str, role: str, expires: str | None, yes: bool, data_dir: str | None) -> None:
    """Create a token for NAME and print it.

    NAME is a service or a person. The token cannot be printed again: only its hash is stored. Nothing else goes to
    standard output: curl -H "Authorization: Bearer $(aliciacfg token create …)"

    Before the first token, which closes the home, it asks at a terminal. Without one it makes a first token for an
    administrator, and needs --yes for any other.

    Examples:
        aliciacfg token create voice_router
        aliciacfg token create mario --role admin --expires 90d
    """
    if problem := names.caller_problem(name):
        raise click.UsageError(problem)
    fields = {"name": name, "role": role, "expires_in_seconds": None if expires is None else _seconds(expires)}
    if not yes:
        _confirm_first(options.daemon_settings({"data_dir": data_dir}).settings, role)
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
    found = parse(answer, TokensAnswer).tokens
    # What `token revoke` takes: several tokens may have one name.
    output.print_result(answer.get("tokens"), lambda: [_table(found)], names=lambda: [item.token_id for item in found])


@token.command("revoke")
@click.argument("token")
@options.data_dir
def token_revoke(token: str, data_dir: str | None) -> None:
    """Revoke a token, with immediate effect.

    TOKEN is its id, as `token list` prints it, or the name that it is for, if that has only one token in force.

    Examples:
        aliciacfg token revoke 4f1d2c8a90be
        aliciacfg token revoke mario
    """
    token_id = _id_of(token, data_dir)
    answer = administer("token_revoke", None, {"token_id": token_id}, data_dir=data_dir)
    output.print_result(answer.get("tokens"), names=lambda: [token_id], render=lambda: [f"token {token_id} is revoked"])


def _confirm_first(settings: "Settings", role: str) -> None:
    """Ask before a first token is made, or end the program; do nothing if the home is closed already."""
    if not _is_open(settings):
        return
    closes = (
        "This is the first token. From then on every request for a configuration needs a token or an access rule, over "
        "MQTT too, and revoking it does not undo that."
    )
    first = "Make one that may change everything first: aliciacfg token create NAME --role admin."
    if prompts.can_ask():
        notices.print_warning(closes if role == "admin" else f"{closes} {first}")
        if not prompts.confirm("Go on?", default=False):
            fail("no token was made", EXIT_FAILED)
    elif role == "admin":
        notices.print_warning(closes)
    else:
        fail(closes, EXIT_CODES["conflict"], hint=f"{first} Or go on with --yes")


def _is_open(settings: "Settings") -> bool:
    """Return whether a home has had neither tokens nor access rules, as far as its files say."""
    from aliciacfg.access.rules import FILE
    from aliciacfg.storage.home_keys import find_keys

    if settings.admin_token_file is not None or (Path(settings.environments_dir) / Path(FILE).name).exists():
        return False
    if not Path(settings.data_dir).exists() and not Path(settings.environments_dir).is_dir():
        # There is no home here, which the operation says.
        return False
    try:
        keys = find_keys(settings)
    except (AliciacfgError, OSError):
        # What is wrong with it, the operation says.
        return False
    return keys is None or not keys.had_tokens


def _id_of(token: str, data_dir: str | None) -> str:
    """Return the id of the token that an id or a name means."""
    if _TOKEN_ID.fullmatch(token):
        return token
    known = parse(administer("token_list", None, {}, data_dir=data_dir), TokensAnswer).tokens
    found = [item.token_id for item in known if item.name == token and item.revoked is None]
    if len(found) > 1:
        fail(
            f"{token} has {len(found)} tokens: {', '.join(found)}", EXIT_CODES["conflict"], hint="name one of these ids"
        )
    return found[0] if found else token


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
