"""The ``keys`` commands: the daemon's sealing keys, in its data directory or the database that it shares.

A running daemon changes its keys itself, through its socket in the data directory. Otherwise the key file is changed
here, under the directory's lock.
"""

import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from aliciacfg import logs
from aliciacfg.api.answers.administration import KeysAnswer
from aliciacfg.cli import formatting, inputs, notices, options, output, prompts, times
from aliciacfg.cli.answers import exit_if_refused, print_answer
from aliciacfg.cli.exits import EXIT_CODES, EXIT_FAILED, exit_on_error, fail
from aliciacfg.cli.local_client import ask_daemon, exit_running
from aliciacfg.cli.output import Line, Table
from aliciacfg.errors import AliciacfgError, DataDirectoryInUse
from aliciacfg.sealing.boxes import PrivateKey, key_ids
from aliciacfg.sealing.key_encryption import FILE_NAME, SETTING, KeyEncryptionKey
from aliciacfg.sealing.key_file import HeldKey, KeyFile, KeyRefused
from aliciacfg.storage.data_directory import KEY_FILE, DataDirectory
from aliciacfg.storage.hash_chain import Chain
from aliciacfg.storage.home_keys import keys_of, load_keys, shared_keys_of
from aliciacfg.storage.shared_keys import SharedKeyStore

if TYPE_CHECKING:
    from aliciacfg.settings import Settings


@click.group()
def keys() -> None:
    """Show and change the daemon's sealing keys.

    One key seals. Every key opens what it has sealed.
    """


@keys.command("show")
@times.option
@options.data_dir
def keys_show(data_dir: str | None) -> None:
    """List the keys: id, public key, date, and which one seals; and the name of the home that they belong to.

    Prints no private key. Works while the daemon runs. `aliciacfg seal --key-file` accepts the JSON output.

    Examples:
        aliciacfg keys show
        aliciacfg keys show -o json > home.key
    """
    settings = _settings(data_dir)
    with exit_on_error():
        shared = shared_keys_of(settings)
        file = load_keys(settings)
        wrapped_by = None if shared is None else shared.key_encryption_key().key_id
    listed = [
        {"key_id": key.key_id, "public_key": str(key.public_key), "created": key.created, "seals": key.seals}
        for key in file.keys
    ]
    home = Chain(file.make_keyring()).key_name.hex()
    lines: list[Line] = [f"home {home}"]
    more: dict[str, str] = {}
    if shared is not None and wrapped_by is not None:
        lines.append(f"in {shared.name}, wrapped by key-encryption key {wrapped_by} ({shared.file})")
        more = {"key_encryption_key": wrapped_by}
    output.print_result(
        {**file.make_keyring().published, "home": home, **more, "keys": listed},
        lambda: [_table(file), *lines],
        names=lambda: [key.key_id for key in file.keys],
    )


@keys.command("new")
@options.data_dir
def keys_new(data_dir: str | None) -> None:
    """Make a new key that seals from now on.

    What is sealed already stays as it is, and the old keys open it. In a data directory without keys this makes the
    first one. Stop the daemon before.

    Examples:
        aliciacfg keys new
    """
    settings = _settings(data_dir)
    with _locked_key_file(settings, create=True) as (file, _, created):
        if not created:
            _refuse_shared(settings)
            file.rotate(now=time.time())
    _print_change(file, f"{file.make_keyring().current} seals from now on; the other keys open what they have sealed.")


@keys.command("rotate")
@options.data_dir
def keys_rotate(data_dir: str | None) -> None:
    """Make a new key and reseal everything that is stored.

    The history too. Old keys stay, because environment files or values that other people sealed may need them; `keys
    remove` removes one.

    Examples:
        aliciacfg keys rotate
    """
    settings = _settings(data_dir)
    if _asked_daemon(settings, "keys_rotate", {}):
        return
    _refuse_shared(settings)
    with _locked_key_file(settings) as (file, data, _):
        _adopt_stored(settings, file, data)
        # First the key: if a later step fails, the file still has every key that anything is sealed with.
        file.rotate(now=time.time())
        left = _reseal_stored(settings, file, data)
    for place in left:
        notices.print_warning(f"cannot be opened, left as it is: {place}")
    _print_change(
        file, f"{file.make_keyring().current} seals from now on; everything stored that opens is resealed with it."
    )


@keys.command("add")
@click.option("--from", "backup", metavar="FILE", type=click.Path(path_type=Path), help="Add all keys of a key file.")
@options.data_dir
def keys_add(backup: Path | None, data_dir: str | None) -> None:
    """Add a private key that opens, such as one that was lost.

    From another key file, or in base64 on standard input. This is how a keys.json that turned up again comes back: do
    not copy it over the one that is there.

    Examples:
        aliciacfg keys add --from old/keys.json
        aliciacfg keys add < key.txt
    """
    try:
        found = KeyFile.load(backup).held if backup is not None else [HeldKey(_read_private_key())]
    except AliciacfgError as error:
        fail(str(error), EXIT_CODES["invalid_request"])
    settings = _settings(data_dir)
    if all(_asked_daemon(settings, "keys_add", {"private_key": item.key.reveal()}) for item in found):
        return
    with _locked_key_file(settings) as (file, data, _):
        added = file.add(found)
        used = _used(settings, data)
        if used & {item.key.public.key_id for item in found} or used <= {key.key_id for key in file.keys}:
            file.settle_adoptions()
    listed = ", ".join(added)
    _print_change(file, f"{listed} opens from now on." if added else "Nothing to add: the key is there already.")


@keys.command("remove")
@click.argument("key_id")
@options.data_dir
@click.option("--environments-dir", metavar="DIR", help="Directory of environment files; default: as for the daemon.")
def keys_remove(key_id: str, data_dir: str | None, environments_dir: str | None) -> None:
    """Remove the key KEY_ID; this cannot be undone.

    Refused while the key seals, and while the store or an environment file needs it.

    Examples:
        aliciacfg keys remove 7cf8892faf907118
    """
    settings = _settings(data_dir, environments_dir)
    if _asked_daemon(settings, "keys_remove", {"key_id": key_id}):
        return
    _refuse_shared(settings)
    with _locked_key_file(settings) as (file, _, _):
        places = _sealed_with(settings, key_id)
        try:
            file.remove(key_id, still_sealed=bool(places))
        except KeyRefused as error:
            found = f" (found in {', '.join(places)})" if places else ""
            fail(f"{error}{found}", EXIT_CODES["conflict"])
    _print_change(file, f"{key_id} is removed.")


@keys.command("acknowledge")
@options.data_dir
def keys_acknowledge(data_dir: str | None) -> None:
    """Acknowledge that an earlier keys.json is lost.

    Ends the alert `adopted`, which every start raises after a new keys.json took over a database. If you still have
    the earlier file, use `keys add --from` instead.

    Examples:
        aliciacfg keys acknowledge
    """
    settings = _settings(data_dir)
    if _asked_daemon(settings, "keys_acknowledge", {}):
        return
    with _locked_key_file(settings) as (file, _, _):
        was_pending = file.pending_adoption is not None
        file.settle_adoptions()
    done = "The loss of the earlier keys.json is acknowledged."
    _print_change(file, done if was_pending else "Nothing to acknowledge: no key file was lost.")


@keys.command("kek")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@options.data_dir
def keys_kek(file: Path | None, data_dir: str | None) -> None:
    """Make a key-encryption key in FILE.

    It wraps the keys of a home that several daemons share, in their database, and each machine needs it. The default is
    the file that ALICIACFG_KEY_ENCRYPTION_KEY_FILE names, or that in the data directory. A file that is there is only
    named. Keep a copy apart from the database: without it no secret opens.

    Examples:
        aliciacfg keys kek /etc/aliciacfg/key-encryption.key
    """
    settings = _settings(data_dir)
    path = file or Path(settings.key_encryption_key_file or Path(settings.data_dir) / FILE_NAME)
    with exit_on_error():
        is_new = not path.exists()
        key = KeyEncryptionKey.create(path) if is_new else KeyEncryptionKey.load(path)
    said = "is a new key-encryption key" if is_new else "is there already: key-encryption key"
    lines: list[Line] = [f"{path} {said}, {key.key_id}." if is_new else f"{path} {said} {key.key_id}."]
    lines.append(f"Copy it to every machine of the home with mode 0600 (scp -p), and name it in {SETTING}.")
    output.print_result({"key_id": key.key_id, "file": str(path), "is_new": is_new}, lambda: lines)


@keys.command("rewrap")
@click.argument("new", type=click.Path(path_type=Path))
@click.option("--from", "old", metavar="FILE", help="The present key-encryption key; default: as for the daemon.")
@options.data_dir
def keys_rewrap(new: Path, old: str | None, data_dir: str | None) -> None:
    """Wrap the keys of a shared home with the key-encryption key in the file NEW.

    Sealing keys and secrets stay as they are. Daemons that run go on; each needs the new file, in the place of the old
    one, before the keys change next and before it starts next.

    Examples:
        aliciacfg keys kek new.key
        aliciacfg keys rewrap new.key
    """
    settings = _settings(data_dir)
    with exit_on_error():
        shared = _shared(msgspec.structs.replace(settings, key_encryption_key_file=old) if old else settings)
        key = KeyEncryptionKey.load(new)
        before = shared.rewrap(key)
    output.print_result(
        {"key_encryption_key": key.key_id, "before": before},
        lambda: [
            f"The keys in {shared.name} are wrapped by {key.key_id} "
            + ("already." if before == key.key_id else f"now, by {before} before."),
            f"Put {new} in the place of {shared.file} on every machine of the home, with mode 0600.",
        ],
    )


@keys.command("accept")
@options.data_dir
def keys_accept(data_dir: str | None) -> None:
    """Take the keys in the database of a shared home, although they are those of an earlier time.

    A daemon does not start on them: somebody may have put them back, so that removed keys are there again and revoked
    tokens work. Afterwards rotate the keys, and revoke the tokens again. Needed only where the keys alone were put
    back: of a database that was restored as a whole the daemons take them.

    Examples:
        aliciacfg keys accept
    """
    with exit_on_error():
        shared = _shared(_settings(data_dir))
        accepted = shared.accept()
    output.print_result(
        {"accepted": accepted},
        lambda: [
            f"The keys in {shared.name} count from now on; start the daemons that did not start."
            if accepted
            else f"The keys in {shared.name} are no older than those that this machine has seen. Nothing was changed."
        ],
    )


def _shared(settings: "Settings") -> SharedKeyStore:
    """Return where the keys of a shared home are; end the program if the home is none."""
    shared = shared_keys_of(settings)
    if shared is None:
        fail(
            "only keys in a database that several daemons share are wrapped; those of this home are in "
            f"{Path(settings.data_dir) / KEY_FILE}",
            EXIT_CODES["conflict"],
            hint="ALICIACFG_DATABASE_URL names such a database",
        )
    return shared


def _refuse_shared(settings: "Settings") -> None:
    """End the program if other daemons may seal with these keys at present."""
    if settings.database_url is not None:
        fail(
            "other daemons may share the database (ALICIACFG_DATABASE_URL), and seal with the present keys; start the "
            "daemon of this data directory, and run this again: it changes its keys itself",
            EXIT_FAILED,
        )


def _asked_daemon(settings: "Settings", operation: str, fields: dict[str, Any]) -> bool:
    """Let the running daemon change its keys and print its answer; return False if no daemon runs."""
    answer = ask_daemon(settings, operation, None, fields)
    if answer is None:
        return False
    print_answer(exit_if_refused(answer), KeysAnswer, lambda answer: [f"{answer.message}."])
    return True


@contextmanager
def _locked_key_file(settings: "Settings", *, create: bool = False) -> Generator[tuple[KeyFile, DataDirectory, bool]]:
    """Lock the data directory and yield its key file, the directory, and whether the file was made now.

    Errors, also inside, end the program.

    Args:
        settings: Name the data directory.
        create: Make a key file if there is none.
    """
    logs.configure_command()
    directory = Path(settings.data_dir)
    try:
        store = keys_of(settings)
        found = None if create else KeyFile.find(store)
    except AliciacfgError as error:
        fail(str(error), EXIT_FAILED)
    if not create and found is None:
        place = directory if settings.database_url is None else store.name
        fail(f"{place} has no keys; see --data-dir, or make the first key with `aliciacfg keys new`", EXIT_FAILED)
    try:
        data = DataDirectory(directory)
        try:
            present = KeyFile.find(store)
            yield present or KeyFile.create(store, now=time.time()), data, present is None
        finally:
            data.release()
    except DataDirectoryInUse:
        exit_running(settings)
    except AliciacfgError as error:
        fail(str(error), EXIT_FAILED)


def _adopt_stored(settings: "Settings", file: KeyFile, data: DataDirectory) -> None:
    """Let a key file that was made anew adopt the database; errors as for ``adopt_rows``."""
    from aliciacfg.core.adoption import adopt_rows
    from aliciacfg.storage.backend import database_in

    database = database_in(data.path, settings.database_url)
    if database.exists():
        now = time.time()
        keep = partial(data.keeping_before, "adoption", database.backup, now=now)
        adopt_rows(database, file, Chain(file.make_keyring()), keep=keep, now=now)


def _reseal_stored(settings: "Settings", file: KeyFile, data: DataDirectory) -> list[str]:
    """Seal every secret in the database with the current key; return the places that do not open."""
    from aliciacfg.sealing.sealed_documents import reseal
    from aliciacfg.storage.backend import database_in

    database = database_in(data.path, settings.database_url)
    left: dict[str, None] = {}
    keyring = file.make_keyring()

    def resealed(document: bytes, environment: str, service: str) -> bytes:
        result = reseal(document, keyring, service=service, environment=environment)
        left.update(dict.fromkeys(f"{service} in {environment}: {item.pointer} {item.message}" for item in result.left))
        return result.document

    if database.exists():
        database.reseal(Chain(keyring), resealed)
    return list(left)


def _used(settings: "Settings", data: DataDirectory) -> set[str]:
    """Return the ids of the keys that any value in the database or an environment file is sealed with."""
    from aliciacfg.storage.backend import database_in

    database = database_in(data.path, settings.database_url)
    used = database.key_ids() if database.exists() else set[str]()
    for path in Path(settings.environments_dir).glob("*.yaml"):
        used |= key_ids(path.read_bytes())
    return used


def _sealed_with(settings: "Settings", key_id: str) -> list[str]:
    """Return the files in which a value is sealed with a key: the database, environment files."""
    from aliciacfg.storage.backend import database_in

    database = database_in(Path(settings.data_dir), settings.database_url)
    found = [database.name] if database.exists() and key_id in database.key_ids() else []
    files = sorted(Path(settings.environments_dir).glob("*.yaml"))
    return found + [str(path) for path in files if key_id in key_ids(path.read_bytes())]


def _read_private_key() -> PrivateKey:
    """Return a private key that was typed without being shown, or is on standard input.

    Raises:
        UnusableKey: It is not a private key.
    """
    if sys.stdin.isatty():
        return PrivateKey.parse(prompts.ask_secret("Private key in base64", twice=False))
    return PrivateKey.parse(inputs.read_stdin())


def _settings(data_dir: str | None, environments_dir: str | None = None) -> "Settings":
    return options.daemon_settings({"data_dir": data_dir, "environments_dir": environments_dir}).settings


def _print_change(file: KeyFile, sentence: str) -> None:
    """Print a change of the key file: a sentence for people, the key that seals for programs."""
    output.print_result({**file.make_keyring().published}, lambda: [sentence])


def _table(file: KeyFile) -> Table:
    now = time.time()
    rows: list[list[Line]] = [
        [key.key_id, "seals" if key.seals else "opens", formatting.when(key.created, now=now), str(key.public_key)]
        for key in file.keys
    ]
    return Table(["key", "use", "created", "public key"], rows)
