"""The ``acl`` command: the access list and the password file of Mosquitto."""

from typing import TYPE_CHECKING

import click

from aliciacfg.api.answers.administration import PasswordsAnswer
from aliciacfg.cli import options
from aliciacfg.cli.answers import parse
from aliciacfg.cli.exits import EXIT_FAILED, exit_on_error, fail
from aliciacfg.cli.local_client import administer

if TYPE_CHECKING:
    from aliciacfg.settings import Settings


@click.command()
@click.option("--passwords", is_flag=True, help="Print the password file instead: a line for each service.")
@click.option("-e", "--environment", metavar="NAME", help="Environment of the passwords; default: the active one.")
@click.option("--environments-dir", metavar="DIR", help="Directory of environment files; default: as for the daemon.")
@click.option("--schemas-dir", metavar="DIR", help="Directory of schema files; default: as for the daemon.")
@options.data_dir
def acl(
    passwords: bool, environment: str | None, environments_dir: str | None, schemas_dir: str | None,
    data_dir: str | None,
) -> None:  # fmt: skip
    """Print Mosquitto's access list or its password file.

    With the access list, made from environments/access.yaml, Mosquitto authenticates the callers of requests. The
    password file, in Mosquitto's format, has the passwords of the services' configurations; administrators and other
    users are not in it: add them with mosquitto_passwd. `aliciacfg setup` writes both files and keeps those users.

    Examples:
        aliciacfg acl > /etc/mosquitto/aliciacfg.acl
        aliciacfg acl --passwords -e prod > passwords
    """
    if passwords:
        click.echo(_password_file(environment, data_dir), nl=False)
        return
    flags = {"environments_dir": environments_dir, "schemas_dir": schemas_dir, "data_dir": data_dir}
    with exit_on_error():
        click.echo(access_list_of(options.daemon_settings(flags).settings), nl=False)


def access_list_of(settings: "Settings") -> str:
    """Return the broker's access list, from the rules in the files.

    Raises:
        SourceError: The files are not valid.
        InvalidRequest: The daemon's user name cannot be one.
    """
    from aliciacfg.access.caller import HOME_ASSISTANT
    from aliciacfg.access.rules import without_rules
    from aliciacfg.mqtt.broker.access_list import HomeAssistant, access_list
    from aliciacfg.sources.source_files import SourceFiles

    sources = SourceFiles(settings).load()
    services = {name for found in sources.environments.values() for name in found.services}
    rules = sources.access or without_rules(services, tokens=True)
    home_assistant = None
    if settings.home_assistant == "on":
        home_assistant = HomeAssistant(settings.home_assistant_user, HOME_ASSISTANT, settings.home_assistant_prefix)
    return access_list(rules, daemon=settings.mqtt_username, home_assistant=home_assistant)


def _password_file(environment: str | None, data_dir: str | None) -> str:
    from aliciacfg.mqtt.broker.passwords import password_file

    answer = administer("broker_passwords", None, {"environment": environment}, data_dir=data_dir)
    found = parse(answer, PasswordsAnswer).passwords
    if not found:
        fail(
            "the store has no configurations yet, so there are no passwords; start the daemon once, or run "
            "`aliciacfg setup` to write the broker's files",
            EXIT_FAILED,
        )
    with exit_on_error():
        return password_file(found)
