"""The ``recipient`` commands: the public keys that services' secrets are sealed to."""

import os
from pathlib import Path
from typing import Any

import click

from aliciacfg import atomic_files
from aliciacfg.api.answers.administration import RecipientAnswer
from aliciacfg.cli import inputs, notices, options, output
from aliciacfg.cli.answers import parse, print_answer
from aliciacfg.cli.exits import EXIT_FAILED, EXIT_USAGE, exit_on_error, fail
from aliciacfg.cli.local_client import administer
from aliciacfg.cli.present_home import has_home
from aliciacfg.errors import SettingsError
from aliciacfg.file_errors import unreadable, unwritable
from aliciacfg.model import names
from aliciacfg.private_files import check_secret_file
from aliciacfg.sealing.boxes import PrivateKey, UnusableKey

_KEY_SETTING = "ALICIACFG_KEY_FILE"


@click.group()
def recipient() -> None:
    """Set the public key that a service's secrets are sealed to."""


@recipient.command("new", short_help="Make the keys of SERVICE, and seal its secrets to them.")
@click.argument("service")
@click.option("--key-file", metavar="FILE", help=f"For the private key; default: {_KEY_SETTING}, else SERVICE.key.")
@click.option(
    "--add", is_flag=True, help="Add the key to a file that has one already, to replace that one by it later."
)
@click.option("--no-register", is_flag=True, help="Only make the keys; another machine has the daemon.")
@options.data_dir
def recipient_new(service: str, key_file: str | None, *, add: bool, no_register: bool, data_dir: str | None) -> None:
    """Make a pair of keys for SERVICE, and have the daemon seal its secrets to it.

    The private key goes to a file of mode 0600, which is for the service alone: set ALICIACFG_KEY_FILE to it there. The
    public key goes to the daemon of the data directory; without one, the command that registers it is printed. In a
    home, a key file that is there already is registered as it is.

    Examples:
        aliciacfg recipient new voice_router --key-file voice_router.key
    """
    if problem := names.service_problem(service):
        fail(problem, EXIT_USAGE)
    path = Path(key_file or os.environ.get(_KEY_SETTING) or f"{service}.key")
    settings = options.daemon_settings({"data_dir": data_dir}).settings
    elsewhere = no_register or not Path(settings.data_dir).is_dir()
    # Made earlier, as where no daemon was: its key is the one that the service has.
    there = not add and not elsewhere and path.exists()
    key = _read_key(path) if there else PrivateKey.generate()
    if not there:
        _write_key(path, key, add=add)
    register = f"aliciacfg recipient set {service} {key.public}"
    result: dict[str, Any] = {
        "service": service,
        "key_id": key.public.key_id,
        "public_key": str(key.public),
        "key_file": str(path),
        "registered": False,
    }
    lines = [f"The private key of {service} is in {path}. Set {_KEY_SETTING} to it where {service} runs."]
    if elsewhere:
        result["register"] = register
        if not no_register and not has_home(settings):
            notices.print_note(
                f"there is no home here, so the key is made and not registered. Run this in the directory of yours, "
                f"with --key-file {path.absolute()}, or what is printed"
            )
        lines.append(f"Register the public key where the daemon runs: {register}")
    else:
        try:
            answer = administer("recipient", service, {"public_key": str(key.public)}, data_dir=data_dir)
        except SystemExit:
            notices.print_note(f"The keys are in {path}. Register the public key later: {register}")
            raise
        result["registered"] = True
        lines.append(f"The {parse(answer, RecipientAnswer).message.removeprefix('the ')}.")
    output.print_result(result, lambda: lines)


def _read_key(path: Path) -> PrivateKey:
    """Return the private key of a file; of several the last one, which was added to replace the others.

    A file that cannot be used ends the program.
    """
    with exit_on_error():
        try:
            check_secret_file(path, "--key-file", strict=True)
            lines = [line.strip() for line in path.read_text().splitlines()]
            keys = [PrivateKey.parse(line) for line in lines if line and not line.startswith("#")]
        except OSError as error:
            raise SettingsError([unreadable(path, error)]) from error
        except UnicodeDecodeError as error:
            raise SettingsError([f"{path} is not UTF-8: byte {error.start} is invalid"]) from error
        except UnusableKey as error:
            raise SettingsError([f"{path}: {error}"]) from error
        if not keys:
            raise SettingsError([f"{path} holds no key; name another file with --key-file"])
        return keys[-1]


def _write_key(path: Path, key: PrivateKey, *, add: bool) -> None:
    """Write a private key to a file of its own, or behind those that a file has."""
    before = ""
    with exit_on_error():
        try:
            if path.exists() or path.is_symlink():
                if not add:
                    fail(
                        f"{path} exists; add the key to it with --add, or name another file with --key-file",
                        EXIT_FAILED,
                    )
                check_secret_file(path, "--key-file", strict=True)
                before = path.read_text().rstrip() + "\n"
            atomic_files.replace_file(path, f"{before}{key.reveal()}\n".encode(), mode=0o600, follow_links=False)
        except OSError as error:
            raise SettingsError([unwritable(path, error)]) from error


@recipient.command("set")
@click.argument("service")
@click.argument("public_key")
@options.data_dir
def recipient_set(service: str, public_key: str, data_dir: str | None) -> None:
    """Seal the secrets of SERVICE to PUBLIC_KEY.

    PUBLIC_KEY is an X25519 key in base64, or - for standard input.

    Examples:
        aliciacfg recipient set voice_router jxStzGSf0Q1eLSqBi72eiGdymP1pKuPBiwVYQ6W4tjA=
        aliciacfg recipient set voice_router - < voice_router.pub
    """
    _set_key(service, inputs.read_stdin() if public_key == "-" else public_key, data_dir)


@recipient.command("unset")
@click.argument("service")
@options.data_dir
def recipient_unset(service: str, data_dir: str | None) -> None:
    """Remove the key of SERVICE; its secrets appear as *** again.

    Examples:
        aliciacfg recipient unset voice_router
    """
    _set_key(service, None, data_dir)


def _set_key(service: str, public_key: str | None, data_dir: str | None) -> None:
    answer = administer("recipient", service, {"public_key": public_key}, data_dir=data_dir)
    print_answer(answer, RecipientAnswer, lambda answer: [answer.message])
