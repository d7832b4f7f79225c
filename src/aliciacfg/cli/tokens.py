"""The commands for administrators: tokens, recipients, the audit, the broker's access list.

They go through the running daemon's socket in its data directory, or take the directory's lock while none runs:
whoever may write that directory administers.
"""

import re
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from aliciacfg.api.answers import PasswordsAnswer
from aliciacfg.cli import inputs, options, output
from aliciacfg.cli.client import Target, ask, refusal_ends, typed, user
from aliciacfg.cli.exits import (
    EXIT_ANOTHER_DAEMON,
    EXIT_CODES,
    EXIT_FAILED,
    EXIT_USAGE,
    fail,
    failing,
)
from aliciacfg.cli.loop import run
from aliciacfg.documents import Json, JsonObject, decode_object
from aliciacfg.errors import (
    AliciacfgError,
    BrokerUnavailable,
    DataDirectoryInUse,
    OperationError,
    SettingsError,
    SourceError,
)
from aliciacfg.storage.data_directory import SOCKET

if TYPE_CHECKING:
    from aliciacfg.settings import Settings

data_dir = click.option("--data-dir", metavar="DIR", help="The daemon's; default: ALICIACFG_DATA_DIR, else data.")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION = re.compile(r"([1-9][0-9]{0,6})([smhdw])")
_TIMEOUT_SECONDS = 120.0


def administer(operation: str, target: str | None, fields: dict[str, Any], *, data_dir: str | None) -> JsonObject:
    """Ask the daemon of a data directory, or do it alone if none runs; a refusal ends the program."""
    try:
        settings = options.settle({"data_dir": data_dir}).settings
    except SettingsError as error:
        fail(str(error), EXIT_USAGE)
    return administer_by(settings, operation, target, fields)


def administer_by(
    settings: "Settings", operation: str, target: str | None, fields: dict[str, Any], *, starting: bool = False
) -> JsonObject:
    """``administer`` with settings that are settled; ``starting`` takes the files over first where no daemon runs."""
    answer = ask_daemon(settings, operation, target, fields)
    return refusal_ends(_alone(settings, operation, target, fields, starting=starting) if answer is None else answer)


def ask_daemon(settings: "Settings", operation: str, target: str | None, fields: dict[str, Any]) -> JsonObject | None:
    """Ask the daemon of a data directory through its socket there; None if none listens."""
    from aliciacfg.http import client  # noqa: PLC0415 - keeps the other commands quick

    socket = Path(settings.data_dir) / SOCKET
    try:
        return run(
            client.ask("http://localhost", operation, target, fields, timeout_seconds=_TIMEOUT_SECONDS, socket=socket)
        )
    except BrokerUnavailable:
        return None


def _alone(
    settings: "Settings", operation: str, target: str | None, fields: dict[str, Any], *, starting: bool
) -> JsonObject:
    from aliciacfg import logs  # noqa: PLC0415 - keeps the other commands quick
    from aliciacfg.api.encoding import encode_failure  # noqa: PLC0415
    from aliciacfg.offline import run_offline  # noqa: PLC0415

    logs.configure(level="error", form="auto")
    try:
        body = run(run_offline(settings, operation, target or "", fields, user=user(), starting=starting))
    except DataDirectoryInUse:
        daemon_is_silent(settings)
    except OperationError as error:
        body = encode_failure(error, None)
    except SourceError as error:
        fail(f"the files are not valid:\n{error}", EXIT_CODES["validation_failed"])
    except AliciacfgError as error:
        fail(str(error), EXIT_FAILED)
    return decode_object(body)


def daemon_is_silent(settings: "Settings") -> NoReturn:
    """End the program: nothing listens on the socket, and yet the directory is locked."""
    fail(
        f"a daemon holds {settings.data_dir} and does not answer on {SOCKET} there; is it starting, or of another "
        "version?",
        EXIT_ANOTHER_DAEMON,
    )


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
        [str(item["token_id"]), str(item["name"]), str(item["role"]), _when(item["created"]), _state(item)]
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


@click.command()
@click.option("--service", metavar="NAME", help="Only what is about this service.")
@click.option("--limit", type=int, default=50, show_default=True, metavar="N", help="At most so many entries.")
@click.option("--before", type=int, metavar="N", help="Only entries below this one.")
@data_dir
@click.pass_obj
def audit(target: Target, service: str | None, limit: int, before: int | None, data_dir: str | None) -> None:
    """List what was done and refused, newest first."""
    fields = {"service": service, "limit": limit, "before": before}
    if target.http is not None:
        found = ask(target, "audit", None, fields)
    else:
        found = administer("audit", None, fields, data_dir=data_dir)
    if not output.for_people():
        output.print_json(found)
        return
    entries = found.get("entries")
    rows = [_audit_row(item) for item in (entries if isinstance(entries, list) else []) if isinstance(item, dict)]
    output.table(["entry", "when", "who", "where", "what", "about", "outcome", "revision", ""], rows)


@click.command()
@click.option("--passwords", is_flag=True, help="Print the password file instead: a line for each service.")
@click.option("-e", "--environment", metavar="NAME", help="Whose passwords; default: the active one's.")
@click.option("--environments-dir", metavar="DIR", help="Default: as for the daemon.")
@click.option("--schemas-dir", metavar="DIR", help="Default: as for the daemon.")
@data_dir
def acl(
    passwords: bool, environment: str | None, environments_dir: str | None, schemas_dir: str | None,
    data_dir: str | None,
) -> None:  # fmt: skip
    """Print the access list that makes Mosquitto prove who asks, from environments/access.yaml.

    With --passwords: a password file in Mosquitto's own format, from the passwords in the services' configurations.
    Administrators and other users get theirs with mosquitto_passwd. `aliciacfg setup` writes both files, and keeps
    those users.
    """
    if passwords:
        click.echo(_password_file(environment, data_dir), nl=False)
        return
    flags = {"environments_dir": environments_dir, "schemas_dir": schemas_dir, "data_dir": data_dir}
    with failing():
        click.echo(access_list_of(options.settle(flags).settings), nl=False)


def access_list_of(settings: "Settings") -> str:
    """The broker's access list, from the rules as the files have them now.

    Raises:
        SourceError: The files are not valid.
        InvalidRequest: The daemon's user name cannot be one.
    """
    from aliciacfg.access.rules import without_rules  # noqa: PLC0415 - keeps the other commands quick
    from aliciacfg.mqtt.broker.access_list import access_list  # noqa: PLC0415
    from aliciacfg.sources.source_files import SourceFiles  # noqa: PLC0415

    sources = SourceFiles(settings).load()
    services = {name for found in sources.environments.values() for name in found.services}
    rules = sources.access or without_rules(services, tokens=True)
    return access_list(rules, daemon=settings.mqtt_username)


def _password_file(environment: str | None, data_dir: str | None) -> str:
    from aliciacfg.mqtt.broker.passwords import password_file  # noqa: PLC0415 - keeps the other commands quick

    answer = administer("broker_passwords", None, {"environment": environment}, data_dir=data_dir)
    found = typed(answer, PasswordsAnswer).passwords
    if not found:
        fail(
            "nothing is recorded yet, so there are no passwords; start the daemon once, or let `aliciacfg setup` write "
            "the broker's files",
            EXIT_FAILED,
        )
    try:
        return password_file(found)
    except OperationError as error:
        fail(str(error), EXIT_CODES["invalid_request"])


def _when(timestamp: Json) -> str:
    if not isinstance(timestamp, int | float):
        return "unknown"
    return datetime.fromtimestamp(timestamp).astimezone().isoformat(" ", "seconds")


def _seconds(duration: str) -> int:
    match = _DURATION.fullmatch(duration)
    if match is None:
        raise click.UsageError(f"--expires {duration!r}: write a number and s, m, h, d or w, as 90d")
    return int(match[1]) * _SECONDS[match[2]]


def _until(expires: Json) -> str:
    return "for ever" if expires is None else f"until {_when(expires)}"


def _state(item: JsonObject) -> str:
    if item.get("revoked") is not None:
        return f"revoked {_when(item['revoked'])}"
    if item.get("confirmed") is False:
        return "not as it was written: proves nobody"
    return _until(item.get("expires"))


def _audit_row(item: JsonObject) -> list[str]:
    about = "/".join(str(item[key]) for key in ("environment", "service") if item.get(key))
    after = item.get("after")
    count = item.get("count")
    more = f" ({count} times)" if isinstance(count, int) and count > 1 else ""
    return [
        str(item.get("sequence")),
        _when(item.get("timestamp")),
        str(item.get("who")),
        str(item.get("where")),
        str(item.get("operation")),
        about,
        f"{item.get('outcome')}{more}",
        "" if after is None else f"{item.get('before') or '-'} → {after}",
        str(item.get("detail") or ""),
    ]


def _show_recipient(answer: JsonObject) -> None:
    if output.for_people():
        click.echo(str(answer.get("message")))
    else:
        output.print_json(answer)
