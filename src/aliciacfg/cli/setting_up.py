"""``setup``: what a broker and its daemon need to trust each other, made where it is missing."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aliciacfg.atomicfiles import replace_file
from aliciacfg.cli import inputs, options, output
from aliciacfg.cli.administering import access_list_of, administer_by, ask_daemon, daemon_is_silent
from aliciacfg.cli.asking import refusal_ends, typed
from aliciacfg.cli.exits import EXIT_CODES, EXIT_FAILED, EXIT_USAGE, fail
from aliciacfg.cli.loop import run
from aliciacfg.errors import AliciacfgError, DataDirectoryInUse, OperationError, SettingsError, SourceError
from aliciacfg.messages import EnvironmentsAnswer, PasswordsAnswer

if TYPE_CHECKING:
    from aliciacfg.settings import Settings

_MAX_NAMED = 3


@click.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@click.option("--user", metavar="NAME", help="A user who is no service, with a password from standard input.")
@options.settings(
    "mqtt_username", "mqtt_password_file", "environment", "data_dir", "environments_dir", "schemas_dir"
)  # fmt: skip
def setup(directory: Path, user: str | None, **flags: str | None) -> None:
    """Write the access list and the password file of a Mosquitto into DIRECTORY, and make the passwords for it.

    A service that shares its password with others, or has none, gets one of its own in
    environments/<environment>-secrets.yaml; the daemon gets its own in MQTT_PASSWORD_FILE. What is there stays, users
    added with --user or mosquitto_passwd too. Do it again when rules, services or passwords change, and send Mosquitto
    SIGHUP.
    """
    try:
        settings = options.settle(flags).settings
        # First, since it makes the data directory, where the daemon's password mostly is.
        environment = _environment(settings)
        own = _own_password(settings)
        _make_service_passwords(settings, environment, own)
        passwords = _passwords(settings, own)
        passwords |= _further_user(user, passwords)
        _write(directory, access_list_of(settings), passwords)
    except SettingsError as error:
        fail(str(error), EXIT_USAGE)
    except SourceError as error:
        fail(f"the files are not valid:\n{error}", EXIT_CODES["validation_failed"])
    except OperationError as error:
        fail(str(error), EXIT_CODES["invalid_request"])
    except AliciacfgError as error:
        fail(str(error), EXIT_FAILED)
    except OSError as error:
        fail(
            f"the broker's files in {directory} cannot be written: {error.strerror}; this user (id {os.geteuid()}) has "
            "to be able to write there, and to be in the directory's group",
            EXIT_FAILED,
        )
    if own is None:
        click.echo(
            f"aliciacfg: nothing says with which password {settings.mqtt_username} connects; set MQTT_PASSWORD_FILE, "
            "unless a certificate proves who it is",
            err=True,
        )
    _say(directory, environment, passwords)


def _own_password(settings: "Settings") -> str | None:
    """The daemon's password, made if its file is missing; None where nothing says it."""
    from aliciacfg import accounts  # noqa: PLC0415 - keeps the other commands quick
    from aliciacfg.mqtt.addresses import broker_password  # noqa: PLC0415

    file = settings.mqtt_password_file
    if settings.mqtt_password is None and file is not None and not Path(file).exists():
        password = accounts.generate()
        try:
            replace_file(Path(file), f"{password}\n".encode(), mode=0o600)
        except OSError as error:
            raise SettingsError([f"MQTT_PASSWORD_FILE: {file} cannot be written: {error.strerror}"]) from error
        _say_made(file)
        return password
    return broker_password(settings)


def _environment(settings: "Settings") -> str:
    """The environment whose passwords the broker has to know."""
    from aliciacfg.assembly import next_environment  # noqa: PLC0415 - keeps the other commands quick

    answer = ask_daemon(settings, "environments", None, {})
    if answer is not None:
        return typed(refusal_ends(answer), EnvironmentsAnswer).active
    try:
        return run(next_environment(settings))
    except DataDirectoryInUse:
        daemon_is_silent(settings)


def _make_service_passwords(settings: "Settings", environment: str, own: str | None) -> None:
    """Give each service without a password of its own one, in the environment's secrets file."""
    from aliciacfg import accounts  # noqa: PLC0415 - keeps the other commands quick
    from aliciacfg.assembly import load_sources  # noqa: PLC0415

    found = load_sources(settings).environments.get(environment)
    if found is None:
        fail(f"there is no environment {environment!r} in {settings.environments_dir}", EXIT_CODES["not_found"])
    if found.problems:
        raise SourceError(found.problems)
    passwords = {service: accounts.generate() for service in accounts.without_password(found)}
    if own is not None and settings.mqtt_username in passwords:
        passwords[settings.mqtt_username] = own
    if not passwords:
        return
    path = accounts.secrets_file(Path(settings.environments_dir), environment)
    text = inputs.read_text(path) if path.exists() else ""
    # Whoever could read it before had nothing to find in it.
    mode = stat.S_IMODE(path.stat().st_mode) & ~stat.S_IRWXO if path.exists() else 0o600
    content = accounts.add_passwords(text, passwords, file=str(path)).encode()
    try:
        replace_file(path, content, mode=mode)
    except OSError as error:
        fail(
            f"{path} cannot be written: {error.strerror}; let this user (id {os.geteuid()}) write {path.parent}, or "
            f"give every service a password of its own in {path.name}",
            EXIT_FAILED,
        )
    _say_made(path)


def _passwords(settings: "Settings", own: str | None) -> dict[str, str]:
    """Every password that the broker has to know, as the files say now."""
    answer = ask_daemon(settings, "reload", None, {})
    if answer is not None:
        refusal_ends(answer)
    answer = administer_by(settings, "broker_passwords", None, {}, starting=True)
    return typed(answer, PasswordsAnswer).passwords | ({} if own is None else {settings.mqtt_username: own})


def _further_user(user: str | None, passwords: Mapping[str, str]) -> dict[str, str]:
    if user is None:
        return {}
    if user in passwords:
        fail(f"{user} is a service: its password stands in its configuration", EXIT_USAGE)
    return {user: inputs.read_secret(f"Password of {user}")}


def _write(directory: Path, access: str, passwords: Mapping[str, str]) -> None:
    from aliciacfg.mqtt.brokerfiles import write_broker_files  # noqa: PLC0415 - keeps the other commands quick

    write_broker_files(directory, access=access, passwords=passwords)


def _say_made(file: str | Path) -> None:
    # At once: what comes later may fail, and then nothing else would tell of it.
    click.echo(f"aliciacfg: made passwords in {file}", err=True)


def _say(directory: Path, environment: str, passwords: Mapping[str, str]) -> None:
    from aliciacfg import accounts  # noqa: PLC0415 - keeps the other commands quick

    shared = accounts.shared_passwords(passwords)
    for users in shared:
        more = f" and {len(users) - _MAX_NAMED} more" if len(users) > _MAX_NAMED else ""
        click.echo(
            f"aliciacfg: {', '.join(users[:_MAX_NAMED])}{more} have the same password, so each can be any of them",
            err=True,
        )
    if output.for_people():
        click.echo(f"{directory} holds the access list and the passwords of {len(passwords)} users in {environment}")
    else:
        output.print_json(
            {"directory": str(directory), "environment": environment, "users": sorted(passwords), "shared": shared}
        )
