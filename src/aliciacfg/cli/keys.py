"""The ``keys`` commands: the daemon's sealing keys, in its data directory.

A running daemon changes its keys itself, asked through its socket in the data directory; otherwise the key file is
changed under the directory's lock.
"""

import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aliciacfg.cli import inputs, options, output
from aliciacfg.cli.client import refusal_ends
from aliciacfg.cli.exits import EXIT_ANOTHER_DAEMON, EXIT_CODES, EXIT_FAILED, EXIT_USAGE, fail
from aliciacfg.cli.local_client import ask_daemon
from aliciacfg.errors import AliciacfgError, DataDirectoryInUse, SettingsError
from aliciacfg.sealing.boxes import PrivateKey, key_ids
from aliciacfg.sealing.key_file import HeldKey, KeyFile, KeyRefused
from aliciacfg.storage.data_directory import KEY_FILE, DataDirectory

if TYPE_CHECKING:
    from aliciacfg.documents import JsonObject
    from aliciacfg.settings import Settings


@click.group()
def keys() -> None:
    """Show and change the daemon's sealing keys. One seals; all of them open."""


@keys.command()
@options.data_dir
def show(data_dir: str | None) -> None:
    """Print every key's id, public key, date, and which one seals; nothing of the private keys.

    `aliciacfg seal --key-file` takes what is printed on a pipe. Works while the daemon runs.
    """
    path = Path(_settings(data_dir).data_dir) / KEY_FILE
    try:
        file = KeyFile.load(path)
    except AliciacfgError as error:
        fail(str(error), EXIT_FAILED)
    if output.for_people():
        rows = [
            [key.key_id, "seals" if key.seals else "opens", _date(key.created), str(key.public_key)]
            for key in file.keys
        ]
        output.table(["key", "", "created", "public key"], rows)
        return
    listed = [
        {"key_id": key.key_id, "public_key": str(key.public_key), "created": key.created, "seals": key.seals}
        for key in file.keys
    ]
    output.print_json({**file.keyring.published, "keys": listed})


@keys.command()
@options.data_dir
def new(data_dir: str | None) -> None:
    """Make a fresh key that seals from now on; what is sealed already stays as it is, and opens.

    In a data directory without keys, make the first one.
    """
    with _changing(_settings(data_dir), creates=True) as (file, created):
        if not created:
            file.rotate(now=time.time())
    _say(file, f"{file.keyring.current} seals from now on; the other keys open what they sealed.")


@keys.command()
@options.data_dir
def rotate(data_dir: str | None) -> None:
    """Make a fresh key, and seal everything stored anew with it, the history too.

    Old keys stay: environment files and other people's boxes may need them, until `keys remove`.
    """
    settings = _settings(data_dir)
    if _online(settings, "keys_rotate", {}):
        return
    with _changing(settings) as (file, _):
        # The key first: whatever fails after it, every key that anything is sealed with is in the file.
        file.rotate(now=time.time())
        left = _reseal_stored(settings, file)
    for place in left:
        click.echo(f"does not open, and stays as it is: {place}", err=True)
    _say(file, f"{file.keyring.current} seals from now on, and everything stored that opens is sealed with it.")


@keys.command()
@click.option("--from", "backup", metavar="FILE", type=click.Path(path_type=Path), help="All keys of another key file.")
@options.data_dir
def add(backup: Path | None, data_dir: str | None) -> None:
    """Take a private key for opening, such as one that was lost: from a key file, or base64 on standard input."""
    try:
        found = KeyFile.load(backup).held if backup is not None else [HeldKey(_read_private_key())]
    except AliciacfgError as error:
        fail(str(error), EXIT_CODES["invalid_request"])
    settings = _settings(data_dir)
    if all(_online(settings, "keys_add", {"private_key": item.key.reveal()}) for item in found):
        return
    with _changing(settings) as (file, _):
        added = file.add(found)
    _say(file, f"{', '.join(added)} opens from now on." if added else "Nothing to add: the key is here already.")


@keys.command()
@click.argument("key_id")
@options.data_dir
@click.option("--environments-dir", metavar="DIR", help="Whose files may need the key; default: as for the daemon.")
def remove(key_id: str, data_dir: str | None, environments_dir: str | None) -> None:
    """Forget the key KEY_ID for ever; refused while it seals, or while anything is sealed with it."""
    settings = _settings(data_dir, environments_dir)
    if _online(settings, "keys_remove", {"key_id": key_id}):
        return
    with _changing(settings) as (file, _):
        places = _sealed_with(settings, key_id)
        try:
            file.remove(key_id, still_sealed=bool(places))
        except KeyRefused as error:
            found = f" (found in {', '.join(places)})" if places else ""
            fail(f"{error}{found}", EXIT_CODES["conflict"])
    _say(file, f"{key_id} is gone.")


def _online(settings: "Settings", operation: str, fields: dict[str, Any]) -> bool:
    """Have the running daemon change its keys, and say what came of it; False if none listens."""
    answer = ask_daemon(settings, operation, None, fields)
    if answer is None:
        return False
    answer = refusal_ends(answer)
    if output.for_people():
        click.echo(f"{answer.get('message')}.")
    else:
        output.print_json(answer)
    return True


@contextmanager
def _changing(settings: "Settings", *, creates: bool = False) -> Generator[tuple[KeyFile, bool]]:
    """The key file under the lock, and whether it was made just now; what goes wrong ends the program."""
    directory = Path(settings.data_dir)
    try:
        if not creates and not (directory / KEY_FILE).exists():
            fail(
                f"there are no keys in {directory}; see --data-dir, or make some with `aliciacfg keys new`", EXIT_FAILED
            )
        data = DataDirectory(directory)
        try:
            created = not data.key_file.exists()
            yield KeyFile.load_or_create(data.key_file, now=time.time()), created
        finally:
            data.release()
    except DataDirectoryInUse:
        fail(
            f"a daemon runs on {directory} and has read its keys; stop it, change the keys, and start it again",
            EXIT_ANOTHER_DAEMON,
        )
    except AliciacfgError as error:
        fail(str(error), EXIT_FAILED)


def _reseal_stored(settings: "Settings", file: KeyFile) -> list[str]:
    """Seal the database anew; returns what does not open."""
    from aliciacfg.sealing.sealed_documents import reseal  # noqa: PLC0415
    from aliciacfg.storage.backend import database_in  # noqa: PLC0415 - keeps the other commands quick
    from aliciacfg.storage.hash_chain import Chain  # noqa: PLC0415

    database = database_in(Path(settings.data_dir))
    left: dict[str, None] = {}
    keyring = file.keyring

    def sealed_anew(document: bytes, environment: str, service: str) -> bytes:
        result = reseal(document, keyring, service=service, environment=environment)
        left.update(dict.fromkeys(f"{service} in {environment}: {item.pointer} {item.message}" for item in result.left))
        return result.document

    if database.exists():
        database.reseal(Chain(keyring), sealed_anew, trust_old_rows=not file.chained)
    return list(left)


def _sealed_with(settings: "Settings", key_id: str) -> list[str]:
    """Where something is sealed with a key: the database, environment files."""
    from aliciacfg.storage.backend import database_in  # noqa: PLC0415 - keeps the other commands quick

    database = database_in(Path(settings.data_dir))
    found = [database.name] if database.exists() and key_id in database.key_ids() else []
    files = sorted(Path(settings.environments_dir).glob("*.yaml"))
    return found + [str(path) for path in files if key_id in key_ids(path.read_bytes())]


def _read_private_key() -> PrivateKey:
    """A private key from standard input, or typed without being shown: an argument would show in the process list.

    Raises:
        UnusableKey: It is none.
    """
    if sys.stdin.isatty():
        return PrivateKey.parse(click.prompt("Private key in base64", hide_input=True, err=True))
    return PrivateKey.parse(inputs.read_stdin())


def _settings(data_dir: str | None, environments_dir: str | None = None) -> "Settings":
    try:
        return options.settle({"data_dir": data_dir, "environments_dir": environments_dir}).settings
    except SettingsError as error:
        fail(str(error), EXIT_USAGE)


def _say(file: KeyFile, sentence: str) -> None:
    """What a change came to: a sentence for people, the key that seals for programs."""
    if output.for_people():
        click.echo(sentence)
    else:
        published: JsonObject = {**file.keyring.published}
        output.print_json(published)


def _date(created: float | None) -> str:
    return "unknown" if created is None else datetime.fromtimestamp(created).astimezone().isoformat(" ", "minutes")
