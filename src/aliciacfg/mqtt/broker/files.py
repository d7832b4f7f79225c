"""The two files by which a Mosquitto knows who asks, in a directory of their own.

Users whom somebody added with ``mosquitto_passwd``, and whom the access list does not name, keep their lines.
"""

import contextlib
import tempfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from aliciacfg.atomic_files import replace_file
from aliciacfg.mqtt.broker.passwords import password_file

ACL = "acl"
PASSWORDS = "passwords"

# Of the broker's group, which is the directory's; what a password is made of is for nobody else.
_MODE = 0o640
_DIRECTORY_MODE = 0o750
_SECTION = b"user "


def prepare_directory(directory: Path) -> None:
    """Make the directory if it is not there, and make sure that files with its group can be put into it.

    Raises:
        OSError: They cannot.
    """
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=_DIRECTORY_MODE)
    with tempfile.TemporaryDirectory(prefix=".", dir=directory) as trial:
        replace_file(Path(trial) / ACL, b"", mode=_MODE, group=directory.stat().st_gid)
    for name in (ACL, PASSWORDS):
        _read(directory / name)


def is_complete(directory: Path) -> bool:
    """Whether both files are there."""
    return all((directory / name).is_file() for name in (ACL, PASSWORDS))


def write_broker_files(directory: Path, *, access: str, passwords: Mapping[str, str]) -> None:
    """Write both files anew; a running Mosquitto takes them at SIGHUP.

    They get the group of the directory, which has to be one that the broker is in.

    Args:
        directory: Where ``prepare_directory`` went well.
        access: The access list.
        passwords: By user.

    Raises:
        InvalidRequest: There is no password file for these users.
        OSError: A file cannot be read or written; what was not written before is as it was.
    """
    group = directory.stat().st_gid
    made = password_file(passwords).encode()
    kept = b"".join(_strangers(directory, passwords.keys(), _users(access.encode())))
    # First who may come in: one of before is refused, and one who is new is not without a list for long.
    replace_file(directory / PASSWORDS, made + kept, mode=_MODE, group=group)
    replace_file(directory / ACL, access.encode(), mode=_MODE, group=group)


def _strangers(directory: Path, given: Collection[str], named: Collection[bytes]) -> Iterator[bytes]:
    """The lines of the password file of before that are not ours to change."""
    gone = _users(_read(directory / ACL)) - set(named)
    known = {user.encode() for user in given}
    # Bytes, and by newlines alone: nobody says that others write UTF-8.
    for line in _read(directory / PASSWORDS).split(b"\n"):
        user = line.partition(b":")[0].strip()
        if line and user not in known and user not in gone:
            yield line + b"\n"


def _users(access: bytes) -> set[bytes]:
    return {line.removeprefix(_SECTION).rstrip() for line in access.split(b"\n") if line.startswith(_SECTION)}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
