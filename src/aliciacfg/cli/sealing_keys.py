"""Which public key of the daemon a command seals with."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aliciacfg.cli import inputs, notices, options
from aliciacfg.cli.client import Target, published_key
from aliciacfg.cli.exits import EXIT_CODES, EXIT_FAILED, EXIT_USAGE, exit_on_error, fail
from aliciacfg.errors import DataDirectoryInUse
from aliciacfg.sealing.boxes import Keyring, PublicKey, UnusableKey
from aliciacfg.sealing.known_keys import KeyChanged, KeyPins, PinsUnusable, daemon_name, pin_file

if TYPE_CHECKING:
    from aliciacfg.settings import Settings


def keyring_of_home(settings: "Settings") -> Keyring | None:
    """Return the keys of the home; None if no daemon has made any yet.

    Raises:
        KeyFileError: They cannot be read.
        StoreError: The database that has them cannot be used.
        Unavailable: It cannot be reached.
    """
    from aliciacfg.storage.home_keys import find_keys

    found = find_keys(settings)
    return None if found is None else found.make_keyring()


@dataclass(frozen=True, slots=True)
class SealingKey:
    """The key to seal with.

    Attributes:
        public: The key.
        keyring: Opens what is sealed with it; None if the keys are elsewhere.
    """

    public: PublicKey
    keyring: Keyring | None = None


def of_home(settings: "Settings", target: Target) -> SealingKey:
    """Return the key of the daemon that serves the files here; errors end the program.

    It is the one in the data directory; the first key is made there if no daemon has run yet. With ``--http`` or
    ``--broker``, the daemon that answers there publishes it.
    """
    from aliciacfg import logs
    from aliciacfg.sealing.key_file import KeyFile
    from aliciacfg.storage.data_directory import DataDirectory
    from aliciacfg.storage.home_keys import keys_of

    if target.http is not None or target.broker is not None:
        return SealingKey(published(target, None, None))
    with exit_on_error():
        keyring = keyring_of_home(settings)
        if keyring is None:
            try:
                data = DataDirectory(Path(settings.data_dir))
            except DataDirectoryInUse:
                fail(f"a daemon is starting on {settings.data_dir}; try again", EXIT_CODES["unavailable"])
            try:
                # Of a key that is made there may be a warning.
                logs.configure_command()
                store = keys_of(settings)
                keyring = KeyFile.load_or_create(store, now=time.time()).make_keyring()
                notices.print_note(f"made the daemon's first key in {store.name}")
            finally:
                data.release()
    return SealingKey(keyring.public_key, keyring)


def for_file(settings: "Settings", target: Target, path: Path) -> PublicKey | None:
    """Return the key of the home here if a file is one of its environment files; None if a daemon has to be asked.

    That is so with ``--http`` or ``--broker``, and where the keys are elsewhere and the settings name the broker.
    """
    if target.http is not None or target.broker is not None:
        return None
    if path.resolve().parent != Path(settings.environments_dir).resolve():
        return None
    resolved = options.daemon_settings({})
    if resolved.explicit("mqtt_broker"):
        with exit_on_error():
            if keyring_of_home(settings) is None:
                return None
    return of_home(settings, target).public


def published_key_options(command: Any) -> Any:
    """Add the options that choose the public key, for ``published``."""
    accept = click.option(
        "--accept-new-key", "accept", metavar="ID", help="Trust and pin the key with this id, in place of the old one."
    )
    key_file = click.option(
        "--key-file",
        metavar="FILE",
        # Or the key itself: as a Path it would lose one of two slashes.
        type=click.Path(),
        help="File with the public key, as GET /keys/current or `aliciacfg keys show` prints it; no daemon is asked.",
    )
    return key_file(accept(command))


def published(target: Target, key_file: str | None, accept: str | None) -> PublicKey:
    """Return the key of a file, which the user trusts, or the daemon's if it is the pinned one.

    Errors end the program.
    """
    try:
        if key_file is not None:
            if accept is not None:
                raise click.UsageError("--key-file needs no --accept-new-key: a key in a file is trusted")
            return PublicKey.from_published(inputs.read_object(key_file))
        url, content = published_key(target)
        daemon, key = daemon_name(url), PublicKey.from_published(content)
        if KeyPins(pin_file(os.environ)).check(daemon, key, accept=accept) == "pinned":
            notices.print_note(f"the key of {daemon} is {key.key_id}; it is pinned now")
    except UnusableKey as error:
        fail(f"The public key cannot be used: {error}", EXIT_CODES["invalid_request"])
    except KeyChanged as error:
        fail(str(error), EXIT_CODES["conflict"])
    except PinsUnusable as error:
        fail(str(error), EXIT_FAILED)
    except ValueError as error:
        fail(str(error), EXIT_USAGE)
    return key
