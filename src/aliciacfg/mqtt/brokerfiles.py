"""The two files by which a Mosquitto knows who asks, in a directory of their own.

Users whom somebody added with ``mosquitto_passwd``, and whom the access list does not name, keep their lines.
"""

import contextlib
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from aliciacfg.atomicfiles import replace_file
from aliciacfg.mqtt.passwords import password_file

ACL = "acl"
PASSWORDS = "passwords"

# Of the broker's group, which is the directory's; what a password is made of is for nobody else.
_MODE = 0o640
_DIRECTORY_MODE = 0o750
_SECTION = "user "


def write_broker_files(directory: Path, *, access: str, passwords: Mapping[str, str]) -> None:
    """Write both files anew; a running Mosquitto takes them at SIGHUP.

    They get the group of the directory, which has to be one that the broker is in.

    Args:
        directory: Is made if it is not there, as only its parent's group.
        access: The access list.
        passwords: By user.

    Raises:
        InvalidRequest: There is no password file for these users.
        OSError: A file cannot be read or written; says which.
    """
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=_DIRECTORY_MODE)
    group = directory.stat().st_gid
    made = password_file(passwords)
    kept = list(_strangers(directory, passwords.keys(), _users(access)))
    replace_file(directory / PASSWORDS, "".join([made, *kept]).encode(), mode=_MODE, group=group)
    replace_file(directory / ACL, access.encode(), mode=_MODE, group=group)


def _strangers(directory: Path, given: Collection[str], named: Collection[str]) -> Iterator[str]:
    """The lines of the password file of before that are not ours to change."""
    gone = _users(_read(directory / ACL)) - set(named)
    for line in _read(directory / PASSWORDS).splitlines():
        user = line.partition(":")[0].strip()
        if user not in given and user not in gone:
            yield f"{line}\n"


def _users(access: str) -> set[str]:
    return {line.removeprefix(_SECTION) for line in access.splitlines() if line.startswith(_SECTION)}


def _read(path: Path) -> str:
    try:
        return os.fsdecode(path.read_bytes())
    except FileNotFoundError:
        return ""
