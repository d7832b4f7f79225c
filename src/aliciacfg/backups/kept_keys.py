"""Which keys a restored home has: those of the backup, those that are there, both, or new ones."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from aliciacfg.backups.archive import KEYS, Archive, ArchiveError
from aliciacfg.errors import KeyFileError
from aliciacfg.sealing import passphrase as locking
from aliciacfg.sealing.boxes import Keyring
from aliciacfg.sealing.key_file import KeyFile
from aliciacfg.storage.hash_chain import Chain


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of a restored home.

    Attributes:
        keyring: The keys; those that nothing was written with yet, if ``is_new``.
        is_new: Whether the backup's rows are adopted by new keys, because its own are not here.
        sentence: The text for people.
    """

    keyring: Keyring
    is_new: bool
    sentence: str


def load_present(path: Path, *, replaceable: bool) -> KeyFile | None:
    """Return the key file that is there, or None if there is none.

    Args:
        path: The file.
        replaceable: Whether a file that cannot be used counts as none, because the backup has the keys.

    Raises:
        KeyFileError: It cannot be used.
    """
    try:
        return KeyFile.load(path) if path.exists() else None
    except KeyFileError:
        if not replaceable:
            raise
        return None


def choose(archive: Archive, present: Path, target: Path, passphrase: str | None) -> Keys:
    """Write the key file of a restored home, unless it needs a new one, which its first start makes.

    Keys of the same home that are there already stay: they may be newer than those of the backup, and know which tokens
    were revoked.

    Args:
        archive: The backup.
        present: The key file that is there, if there is one.
        target: The key file to write.
        passphrase: Opens the keys in the backup; None leaves them.

    Raises:
        ArchiveError: The keys in the backup do not open, or there are none though there is a passphrase.
        KeyFileError: The key file that is there cannot be used.
        OSError: The file cannot be written.
    """
    home = archive.manifest.home
    there = load_present(present, replaceable=passphrase is not None)
    is_here = there is not None and _home(there) == home
    if passphrase is not None:
        found = _unlocked(archive, target, passphrase)
        if there is not None and is_here:
            shutil.copyfile(present, target)
            target.chmod(0o600)
            merged = KeyFile.load(target)
            added = merged.add(found.held)
            more = f", and {', '.join(added)} of the backup" if added else ""
            return Keys(merged.make_keyring(), False, f"the keys that were here{more}")
        return Keys(found.make_keyring(), False, "the keys of the backup")
    if there is not None and is_here:
        shutil.copyfile(present, target)
        target.chmod(0o600)
        return Keys(there.make_keyring(), False, "the keys that were here")
    hint = (
        "the backup holds the keys: restore it with their passphrase"
        if KEYS in archive.manifest.members
        else "the backup holds none; put their file in place before, or add them later with `aliciacfg keys add --from`"
    )
    return Keys(Keyring.ephemeral(), True, f"new keys: those of home {home} are not here ({hint})")


def _unlocked(archive: Archive, target: Path, passphrase: str) -> KeyFile:
    if KEYS not in archive.manifest.members:
        raise ArchiveError(f"{archive.path} holds no keys, so there is nothing to open with a passphrase")
    try:
        content = locking.unlock(archive.read(KEYS), passphrase)
    except locking.WrongPassphrase as error:
        raise ArchiveError(f"the keys in {archive.path} do not open: {error}") from error
    target.touch(mode=0o600)
    target.write_bytes(content)
    try:
        found = KeyFile.load(target)
    except KeyFileError as error:
        raise ArchiveError(f"the keys in {archive.path} are no key file of aliciacfg") from error
    if _home(found) != archive.manifest.home:
        raise ArchiveError(f"{archive.path} was changed: the keys in it are not those of its home")
    return found


def _home(file: KeyFile) -> str:
    return Chain(file.make_keyring()).key_name.hex()
