"""The ``setup`` command: the access list and the passwords with which broker, daemon and services trust each other."""

import os
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from aliciacfg.api.answers.administration import PasswordsAnswer
from aliciacfg.api.answers.environments import EnvironmentsAnswer
from aliciacfg.atomic_files import LinkRefused, replace_file
from aliciacfg.cli import formatting, inputs, notices, options, output
from aliciacfg.cli.acl import access_list_of
from aliciacfg.cli.answers import exit_if_refused, parse
from aliciacfg.cli.exits import EXIT_CODES, EXIT_FAILED, EXIT_USAGE, exit_on_error, fail
from aliciacfg.cli.local_client import administer_with, ask_daemon, next_active_environment
from aliciacfg.errors import SettingsError, SourceError
from aliciacfg.file_errors import reason, unwritable
from aliciacfg.model import names

if TYPE_CHECKING:
    from aliciacfg.settings import Settings
    from aliciacfg.sources.layers import Environment

_MAX_NAMED = 3


@click.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@click.option("--user", metavar="NAME", help="Add a user that is not a service; the password is on standard input.")
@click.option(
    "--or-keep", is_flag=True, help="If the environment files are invalid, keep the files in DIRECTORY and succeed."
)
@options.settings(
    "mqtt_username", "mqtt_password_file", "environment", "data_dir", "environments_dir", "schemas_dir"
)  # fmt: skip
def setup(directory: Path, user: str | None, *, or_keep: bool, **flags: str | None) -> None:
    """Write Mosquitto's access list and password file.

    Both files go into DIRECTORY. A service gets a random password in environments/<environment>-secrets.yaml if it has
    none, shares one with another service, or uses a default for all services; the daemon gets one in
    MQTT_PASSWORD_FILE. Other passwords stay, and so do users added with --user or mosquitto_passwd. Run it as the
    daemon's user, again after every change of rules, services or passwords, and then send SIGHUP to Mosquitto.

    Examples:
        aliciacfg setup /etc/mosquitto/aliciacfg
        aliciacfg setup /etc/mosquitto/aliciacfg --user mario
    """
    from aliciacfg.mqtt.broker.files import is_complete

    new = not os.path.lexists(directory)
    try:
        with exit_on_error():
            _set_up(options.daemon_settings(flags).settings, directory, user)
    except SystemExit as end:
        # Without both files the broker cannot start, so there is nothing to keep.
        if not or_keep or end.code != EXIT_CODES["validation_failed"] or not is_complete(directory):
            raise
        notices.print_warning(f"the broker's files in {directory} are kept as they are until this is corrected")
    finally:
        if new:
            # Removes it only if nothing is in it.
            with suppress(OSError):
                directory.rmdir()


def _set_up(settings: "Settings", directory: Path, user: str | None) -> None:
    """Write the files; first come the steps that can fail, last those that cannot be undone: passwords."""
    from aliciacfg.mqtt.broker.files import has_account
    from aliciacfg.sources import broker_accounts

    _check_directory(directory)
    environment = _environment(settings)
    found = _files_of(settings, environment)
    access_list_of(settings)
    further = {} if user is None else _further_user(user, found)
    own = _own_password(settings)
    _make_service_passwords(settings, found, own, _recorded_passwords(settings, environment))
    passwords = _passwords(settings)
    # A recorded password may come from a line that has been removed from a file since.
    if _make_service_passwords(settings, _files_of(settings, environment), own, passwords):
        passwords = _passwords(settings)
    # A default password is known to everyone who can read the files, so no account gets it.
    outside = broker_accounts.with_default_password(found, passwords)
    passwords = {name: password for name, password in passwords.items() if name not in outside}
    passwords |= further | ({} if own is None else {settings.mqtt_username: own})
    kept = own is None and has_account(directory, settings.mqtt_username)
    if kept:
        # A running daemon logs in with a password that this shell may not know.
        passwords.pop(settings.mqtt_username, None)
    _write(directory, access_list_of(settings), passwords)
    _warn(outside, "no account, because the password is a default for all services; set another one under services")
    _warn(
        broker_accounts.without_connection(found),
        "no account, because the configuration has no mqtt_config; add it if the service connects to this broker",
    )
    left = broker_accounts.only_in_secrets(found)
    _warn(left, f"only {environment}{names.SECRETS_SUFFIX}.yaml names it; remove a service that is gone there too")
    if kept:
        _print_note(
            f"no setting here has the password of {settings.mqtt_username}, so the account of "
            f"{settings.mqtt_username} stays as it is; set MQTT_PASSWORD_FILE as the daemon has it to change it"
        )
    elif own is None:
        _print_note(
            f"no setting has the password of {settings.mqtt_username}; set MQTT_PASSWORD_FILE, unless a certificate "
            "authenticates it"
        )
    shared = broker_accounts.shared_passwords(passwords)
    for users in shared:
        _warn(users, "the same password, so each can log in as the others; give each one its own")
    output.print_result(
        {"directory": str(directory), "environment": environment, "users": sorted(passwords), "shared": shared},
        lambda: [f"{directory} has the access list and the passwords of {_users(len(passwords))} in {environment}"],
    )


def _users(count: int) -> str:
    return "1 user" if count == 1 else f"{count} users"


def _check_directory(directory: Path) -> None:
    from aliciacfg.mqtt.broker.files import prepare_directory

    try:
        prepare_directory(directory)
    except LinkRefused as error:
        _refuse_link(error)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not directory.parent.exists():
            fail(f"there is no directory {directory.parent}; make it first", EXIT_FAILED)
        rights = f"let this user (id {os.geteuid()}) read and write there, and put it into the directory's group"
        place = Path(error.filename or directory)
        at = "" if place == directory else f" ({place})"
        fail(f"{directory} cannot hold the broker's files: {reason(error, denied=rights)}{at}", EXIT_FAILED)


def _environment(settings: "Settings") -> str:
    """Return the environment that is active, or that the next start activates."""
    answer = ask_daemon(settings, "environments", None, {})
    if answer is not None:
        return parse(exit_if_refused(answer), EnvironmentsAnswer).active
    return next_active_environment(settings)


def _files_of(settings: "Settings", environment: str) -> "Environment":
    from aliciacfg.sources.source_files import SourceFiles

    found = SourceFiles(settings).load().environments.get(environment)
    if found is None:
        fail(f"there is no environment {environment!r} in {settings.environments_dir}", EXIT_CODES["not_found"])
    if found.problems:
        raise SourceError(found.problems)
    return found


def _further_user(user: str, found: "Environment") -> dict[str, str]:
    if problem := names.caller_problem(user):
        fail(problem, EXIT_USAGE)
    if user in found.services:
        fail(f"{user} is a service: its password is in its configuration", EXIT_USAGE)
    return {user: inputs.read_secret(f"Password of {user}")}


def _own_password(settings: "Settings") -> str | None:
    """Return the daemon's password, made now if its file is missing; None if no setting has one."""
    from aliciacfg.mqtt.address import broker_password
    from aliciacfg.sources import broker_accounts

    file = settings.mqtt_password_file
    try:
        if settings.mqtt_password is None and file is not None and not Path(file).exists():
            password = broker_accounts.generate()
            replace_file(Path(file), f"{password}\n".encode(), mode=0o600, follow_links=False)
            _print_note(f"made a password in {file}")
            return password
    except OSError as error:
        raise SettingsError([f"MQTT_PASSWORD_FILE: {unwritable(Path(str(file)), error)}"]) from error
    return broker_password(settings)


def _make_service_passwords(
    settings: "Settings", found: "Environment", own: str | None, recorded: Mapping[str, str]
) -> bool:
    """Make a password in the environment's secrets file for each service that has none of its own.

    Args:
        settings: The daemon's.
        found: The environment's files.
        own: The daemon's password.
        recorded: The passwords in the store, by service.

    Returns:
        Whether any password was made.
    """
    from aliciacfg.sources import broker_accounts

    passwords = {service: broker_accounts.generate() for service in broker_accounts.without_password(found, recorded)}
    if own is not None and settings.mqtt_username in passwords:
        passwords[settings.mqtt_username] = own
    if not passwords:
        return False
    path = broker_accounts.secrets_file(Path(settings.environments_dir), found.name)
    text = inputs.read_text(path) if path.exists() else ""
    # The file may have been readable by everyone, because it had no passwords until now.
    mode = stat.S_IMODE(path.stat().st_mode) & ~stat.S_IRWXO if path.exists() else 0o600
    content = broker_accounts.add_passwords(text, passwords, file=str(path)).encode()
    try:
        replace_file(path, content, mode=mode)
    except OSError as error:
        rights = (
            f"let this user (id {os.geteuid()}) write {path.parent}, or give every service a password of its own in "
            f"{path.name}"
        )
        fail(f"{path} cannot be written: {reason(error, denied=rights)}", EXIT_FAILED)
    _print_note(f"made passwords in {path}")
    return True


def _recorded_passwords(settings: "Settings", environment: str) -> dict[str, str]:
    """Return the passwords in the store, run-time changes included; none before the first start.

    Files that still lack passwords cannot be loaded, so they are not asked here.
    """
    answer = parse(administer_with(settings, "broker_passwords", None, {}), PasswordsAnswer)
    return answer.passwords if answer.environment == environment else {}


def _passwords(settings: "Settings") -> dict[str, str]:
    """Load the files and return the password of every user that the broker has to know."""
    answer = ask_daemon(settings, "reload", None, {})
    if answer is not None:
        exit_if_refused(answer)
    return parse(administer_with(settings, "broker_passwords", None, {}, load_files=True), PasswordsAnswer).passwords


def _write(directory: Path, access: str, passwords: Mapping[str, str]) -> None:
    from aliciacfg.mqtt.broker.files import write_broker_files

    try:
        write_broker_files(directory, access=access, passwords=passwords)
    except LinkRefused as error:
        _refuse_link(error)
    except OSError as error:
        fail(f"the broker's files in {directory} cannot be written: {reason(error)}; then try again", EXIT_FAILED)


def _refuse_link(error: LinkRefused) -> NoReturn:
    fail(f"{error.filename} cannot be one of the broker's files: {error.strerror}", EXIT_FAILED)


def _print_note(text: str) -> None:
    # Printed at once, because a later step may fail.
    notices.print_note(text)


def _warn(users: Sequence[str], what: str) -> None:
    if users:
        notices.print_warning(f"{formatting.some_of(users, _MAX_NAMED)}: {what}")
