"""``setup``: what a broker and its daemon need to trust each other, made where it is missing."""

import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aliciacfg.api.answers import EnvironmentsAnswer, PasswordsAnswer
from aliciacfg.atomic_files import replace_file
from aliciacfg.cli import inputs, options, output
from aliciacfg.cli.acl import access_list_of
from aliciacfg.cli.client import refusal_ends, typed
from aliciacfg.cli.exits import EXIT_CODES, EXIT_FAILED, EXIT_USAGE, fail, failing
from aliciacfg.cli.local_client import administer_by, ask_daemon, daemon_is_silent
from aliciacfg.cli.loop import run
from aliciacfg.errors import DataDirectoryInUse, SettingsError, SourceError
from aliciacfg.model import names

if TYPE_CHECKING:
    from aliciacfg.settings import Settings
    from aliciacfg.sources.layers import Environment

_MAX_NAMED = 3


@click.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@click.option("--user", metavar="NAME", help="A user who is no service, with a password from standard input.")
@click.option(
    "--or-keep", is_flag=True, help="If the files are not valid, keep what DIRECTORY has; no failure, if it has both."
)
@options.settings(
    "mqtt_username", "mqtt_password_file", "environment", "data_dir", "environments_dir", "schemas_dir"
)  # fmt: skip
def setup(directory: Path, user: str | None, *, or_keep: bool, **flags: str | None) -> None:
    """Write the access list and the password file of a Mosquitto into DIRECTORY, and make the passwords for it.

    A service that has no password, one that others have too, or one that is a default for all, gets one of its own in
    environments/<environment>-secrets.yaml; the daemon gets its own in MQTT_PASSWORD_FILE. Passwords that are there
    stay, and so do users added with --user or mosquitto_passwd. Do it again when rules, services or passwords change,
    and send Mosquitto SIGHUP. Run it as the daemon's user.
    """
    from aliciacfg.mqtt.broker.files import is_complete  # noqa: PLC0415 - keeps the other commands quick

    try:
        with failing():
            _set_up(options.settle(flags).settings, directory, user)
    except SystemExit as end:
        if not or_keep or end.code != EXIT_CODES["validation_failed"] or not is_complete(directory):
            raise
        click.echo(f"aliciacfg: until that is mended, the broker's files in {directory} stay as they are", err=True)


def _set_up(settings: "Settings", directory: Path, user: str | None) -> None:
    """First everything that can fail, then what cannot be taken back: passwords."""
    from aliciacfg.sources import broker_accounts  # noqa: PLC0415 - keeps the other commands quick

    _check_directory(directory)
    environment = _environment(settings)
    found = _files_of(settings, environment)
    access_list_of(settings)
    further = {} if user is None else _further_user(user, found)
    own = _own_password(settings)
    _make_service_passwords(settings, found, own, _recorded_passwords(settings, environment))
    passwords = _passwords(settings)
    # What was recorded may have come from a line that somebody has taken out of a file since.
    if _make_service_passwords(settings, _files_of(settings, environment), own, passwords):
        passwords = _passwords(settings)
    # Whoever reads the files could log in with it, though one service alone may have it.
    outside = broker_accounts.with_default_password(found, passwords)
    passwords = {name: password for name, password in passwords.items() if name not in outside}
    passwords |= further | ({} if own is None else {settings.mqtt_username: own})
    _write(directory, access_list_of(settings), passwords)
    _warn(outside, "not let in with the password that is a default for all; name it under services in a file")
    left = broker_accounts.only_in_secrets(found)
    _warn(left, f"named in {environment}{names.SECRETS_SUFFIX}.yaml alone; if it is gone, take it out there too")
    if own is None:
        _note(
            f"nothing says with which password {settings.mqtt_username} connects; set MQTT_PASSWORD_FILE, unless a "
            "certificate proves who it is"
        )
    _say(directory, environment, passwords)


def _check_directory(directory: Path) -> None:
    from aliciacfg.mqtt.broker.files import prepare_directory  # noqa: PLC0415 - keeps the other commands quick

    try:
        prepare_directory(directory)
    except OSError as error:
        fail(
            f"the broker's files cannot be kept in {directory}: {error.strerror} ({error.filename or directory}); this "
            f"user (id {os.geteuid()}) has to be able to read and write there, and to be in the directory's group",
            EXIT_FAILED,
        )


def _environment(settings: "Settings") -> str:
    """The environment whose passwords the broker has to know."""
    from aliciacfg.offline import next_environment  # noqa: PLC0415 - keeps the other commands quick

    answer = ask_daemon(settings, "environments", None, {})
    if answer is not None:
        return typed(refusal_ends(answer), EnvironmentsAnswer).active
    try:
        return run(next_environment(settings))
    except DataDirectoryInUse:
        daemon_is_silent(settings)


def _files_of(settings: "Settings", environment: str) -> "Environment":
    from aliciacfg.sources.source_files import SourceFiles  # noqa: PLC0415 - keeps the other commands quick

    found = SourceFiles(settings).load().environments.get(environment)
    if found is None:
        fail(f"there is no environment {environment!r} in {settings.environments_dir}", EXIT_CODES["not_found"])
    if found.problems:
        raise SourceError(found.problems)
    return found


def _further_user(user: str, found: "Environment") -> dict[str, str]:
    if problem := names.requester_problem(user):
        fail(problem, EXIT_USAGE)
    if user in found.services:
        fail(f"{user} is a service: its password is in its configuration", EXIT_USAGE)
    return {user: inputs.read_secret(f"Password of {user}")}


def _own_password(settings: "Settings") -> str | None:
    """The daemon's password, made if its file is missing; None where nothing says it."""
    from aliciacfg.mqtt.address import broker_password  # noqa: PLC0415
    from aliciacfg.sources import broker_accounts  # noqa: PLC0415 - keeps the other commands quick

    file = settings.mqtt_password_file
    try:
        if settings.mqtt_password is None and file is not None and not Path(file).exists():
            password = broker_accounts.generate()
            replace_file(Path(file), f"{password}\n".encode(), mode=0o600)
            _note(f"made a password in {file}")
            return password
    except OSError as error:
        raise SettingsError([f"MQTT_PASSWORD_FILE: {file} cannot be written: {error.strerror}"]) from error
    return broker_password(settings)


def _make_service_passwords(
    settings: "Settings", found: "Environment", own: str | None, recorded: Mapping[str, str]
) -> bool:
    """Give each service without a password of its own one, in the environment's secrets file; False for none."""
    from aliciacfg.sources import broker_accounts  # noqa: PLC0415 - keeps the other commands quick

    passwords = {service: broker_accounts.generate() for service in broker_accounts.without_password(found, recorded)}
    if own is not None and settings.mqtt_username in passwords:
        passwords[settings.mqtt_username] = own
    if not passwords:
        return False
    path = broker_accounts.secrets_file(Path(settings.environments_dir), found.name)
    text = inputs.read_text(path) if path.exists() else ""
    # Whoever could read it before had nothing to find in it.
    mode = stat.S_IMODE(path.stat().st_mode) & ~stat.S_IRWXO if path.exists() else 0o600
    content = broker_accounts.add_passwords(text, passwords, file=str(path)).encode()
    try:
        replace_file(path, content, mode=mode)
    except OSError as error:
        fail(
            f"{path} cannot be written: {error.strerror}; let this user (id {os.geteuid()}) write {path.parent}, or "
            f"give every service a password of its own in {path.name}",
            EXIT_FAILED,
        )
    _note(f"made passwords in {path}")
    return True


def _recorded_passwords(settings: "Settings", environment: str) -> dict[str, str]:
    """The passwords that were recorded last, with what was changed at run time; none before the first start.

    The files may lack what is only to be made, so that they cannot be taken over yet.
    """
    answer = typed(administer_by(settings, "broker_passwords", None, {}), PasswordsAnswer)
    return answer.passwords if answer.environment == environment else {}


def _passwords(settings: "Settings") -> dict[str, str]:
    """Every password that the broker has to know, as the files say now."""
    answer = ask_daemon(settings, "reload", None, {})
    if answer is not None:
        refusal_ends(answer)
    return typed(administer_by(settings, "broker_passwords", None, {}, starting=True), PasswordsAnswer).passwords


def _write(directory: Path, access: str, passwords: Mapping[str, str]) -> None:
    from aliciacfg.mqtt.broker.files import write_broker_files  # noqa: PLC0415 - keeps the other commands quick

    try:
        write_broker_files(directory, access=access, passwords=passwords)
    except OSError as error:
        fail(f"the broker's files in {directory} cannot be written: {error.strerror}; try again", EXIT_FAILED)


def _note(text: str) -> None:
    # At once: what comes later may fail, and then nothing else would tell of it.
    click.echo(f"aliciacfg: {text}", err=True)


def _warn(users: Sequence[str], what: str) -> None:
    if users:
        more = f" and {len(users) - _MAX_NAMED} more" if len(users) > _MAX_NAMED else ""
        _note(f"{', '.join(users[:_MAX_NAMED])}{more}: {what}")


def _say(directory: Path, environment: str, passwords: Mapping[str, str]) -> None:
    from aliciacfg.sources import broker_accounts  # noqa: PLC0415 - keeps the other commands quick

    shared = broker_accounts.shared_passwords(passwords)
    for users in shared:
        _warn(users, "one password for all of them, so that each can be any other; give each one of its own")
    if output.for_people():
        click.echo(f"{directory} holds the access list and the passwords of {len(passwords)} users in {environment}")
    else:
        output.print_json(
            {"directory": str(directory), "environment": environment, "users": sorted(passwords), "shared": shared}
        )
