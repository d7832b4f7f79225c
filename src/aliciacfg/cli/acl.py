"""The ``acl`` command: what makes a broker prove who asks."""

from typing import TYPE_CHECKING

import click

from aliciacfg.api.answers import PasswordsAnswer
from aliciacfg.cli import options
from aliciacfg.cli.client import typed
from aliciacfg.cli.exits import EXIT_CODES, EXIT_FAILED, fail, failing
from aliciacfg.cli.local_client import administer
from aliciacfg.cli.options import data_dir
from aliciacfg.errors import OperationError

if TYPE_CHECKING:
    from aliciacfg.settings import Settings


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
    from aliciacfg.sources.source_files import SourceFiles  # noqa: PLC0415 - keeps the other commands quick

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
