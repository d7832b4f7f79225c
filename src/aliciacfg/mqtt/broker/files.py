"""The two files from which a Mosquitto learns its users and their rights, in a directory of their own.

Users that were added with ``mosquitto_passwd``, and that the access list does not name, keep their lines. The broker's
own user may be able to write there, so no link is followed: neither to write nor to read.
"""

import contextlib
import os
import tempfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from aliciacfg.atomic_files import check_own_file, replace_file
from aliciacfg.mqtt.broker.passwords import password_file

ACL = "acl"
PASSWORDS = "passwords"

# Readable by the broker's group, which is the directory's; the digests of passwords are for no other user.
_MODE = 0o640
_DIRECTORY_MODE = 0o750
_SECTION = b"user "


def prepare_directory(directory: Path) -> None:
    """Make the directory if it is missing, and check that files with its group can be written into it.

    Raises:
        LinkRefused: A link has the name of one of them.
        OSError: They cannot.
    """
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=_DIRECTORY_MODE)
    with tempfile.NamedTemporaryFile(prefix=".", dir=directory) as trial:
        os.fchown(trial.fileno(), -1, directory.stat().st_gid)
    for name in (ACL, PASSWORDS):
        _read(directory / name)


def is_complete(directory: Path) -> bool:
    """Return whether both files exist."""
    return all((directory / name).is_file() and not (directory / name).is_symlink() for name in (ACL, PASSWORDS))


def has_account(directory: Path, user: str) -> bool:
    """Return whether the password file has a line for a user."""
    return any(line.partition(b":")[0].strip() == user.encode() for line in _read(directory / PASSWORDS).split(b"\n"))


def write_broker_files(directory: Path, *, access: str, passwords: Mapping[str, str]) -> None:
    """Write both files; a running Mosquitto reads them again at SIGHUP.

    They get the group of the directory, which has to be one of the broker's.

    Args:
        directory: A directory that ``prepare_directory`` has checked.
        access: The access list.
        passwords: By user.

    Raises:
        InvalidRequest: A user or a password cannot be in a password file.
        OSError: A file cannot be read or written; a file that was not yet replaced is unchanged.
    """
    group = directory.stat().st_gid
    made = password_file(passwords).encode()
    kept = b"".join(_lines_of_others(directory, passwords.keys(), _users(access.encode())))
    # The passwords first: a user that is gone is refused at once, and a new one is without a list for a moment only.
    replace_file(directory / PASSWORDS, made + kept, mode=_MODE, group=group, follow_links=False)
    replace_file(directory / ACL, access.encode(), mode=_MODE, group=group, follow_links=False)


def _lines_of_others(directory: Path, given: Collection[str], named: Collection[bytes]) -> Iterator[bytes]:
    """Yield the lines of the present password file that are not ours to change.

    Args:
        directory: The directory of the files.
        given: The users that get a line now.
        named: The users of the new access list; one that only the present list names is ours, and gone.
    """
    gone = _users(_read(directory / ACL)) - set(named)
    known = {user.encode() for user in given}
    # Bytes, and split at newlines alone: other programs need not write UTF-8.
    for line in _read(directory / PASSWORDS).split(b"\n"):
        user = line.partition(b":")[0].strip()
        if line and user not in known and user not in gone:
            yield line + b"\n"


def _users(access: bytes) -> set[bytes]:
    """Return the users that an access list has a section for."""
    return {line.removeprefix(_SECTION).rstrip() for line in access.split(b"\n") if line.startswith(_SECTION)}


def _read(path: Path) -> bytes:
    check_own_file(path)
    try:
        # What is there may have become a link since.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    with os.fdopen(descriptor, "rb") as file:
        return file.read()
