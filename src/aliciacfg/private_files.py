"""Files and directories that other users of the machine must not be able to read, to change, or to put in place.

The rules are those of ssh, with room for orchestrators. Root may own anything. Kubernetes gives a volume to root and to
the group of the pod; it mounts secrets read-only, behind links, readable by all. Root itself may use a directory of
another user: in containers it is given directories of the host.
"""

import os
import stat
from pathlib import Path

from aliciacfg.errors import AliciacfgError, SettingsError

_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


class NotTrusted(AliciacfgError):
    """A file that this program may not have written; the text says why."""


def read_own_file(path: Path, *, max_bytes: int) -> bytes:
    """Return the content of a file that this program wrote, if no other user can have written it.

    Another kind of file in its place does not block. Root trusts the owner of the directory, to whom ``atomic_files``
    gives what root writes there.

    Raises:
        NotTrusted: It is not a file, another user owns it or can write it, or it is larger than ``max_bytes``.
        OSError: It cannot be read, or is a link.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise NotTrusted("it is not a file")
        trusted = {os.geteuid(), 0, *({path.parent.stat().st_uid} if os.geteuid() == 0 else ())}
        if status.st_uid not in trusted or status.st_mode & _BY_OTHERS:
            raise NotTrusted("another user owns it, or can write it")
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise NotTrusted(f"it has more than {max_bytes} bytes")
    return content


def check_directory(directory: Path, setting: str) -> None:
    """Check that only this user can put files into a directory.

    Raises:
        SettingsError: Another user owns it or can write into it; says what to do.
        OSError: It cannot be looked at.
    """
    status = directory.stat()
    mode = stat.S_IMODE(status.st_mode)
    if not _trusted(status):
        raise _refused(
            f"{setting}: {directory} belongs to user {status.st_uid}, and this is user {os.geteuid()}; run: "
            f"chown {os.geteuid()} {directory}, or run as its owner"
        )
    # A volume of Kubernetes: root's, with the group of the pod (fsGroup) and its set-group-ID bit.
    of_pod = status.st_uid == 0 and mode & stat.S_ISGID and status.st_gid in {os.getegid(), *os.getgroups()}
    by_group = mode & stat.S_IWGRP and not of_pod
    if mode & stat.S_IWOTH or by_group:
        raise _refused(
            f"{setting}: other users can write to {directory} (mode {mode:04o}) and so replace what is stored; "
            f"run: chmod go-w {directory}, and look whether its files are yours"
        )


def check_kept_file(path: Path, setting: str, *, directory_owner: int) -> None:
    """Check that a file in a directory of this program was made by it, where there is one.

    Args:
        path: The file.
        setting: The setting that names the directory.
        directory_owner: The id of the user who owns the directory.

    Raises:
        SettingsError: It is a link, or another user owns it or can write it; says what to do.
        OSError: It cannot be looked at.
    """
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISREG(status.st_mode):
        what = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "not a file"
        raise _refused(f"{setting}: {path} is {what}; put the file itself there")
    if status.st_uid not in {os.geteuid(), 0, *({directory_owner} if os.geteuid() == 0 else ())}:
        raise _refused(
            f"{setting}: {path} belongs to user {status.st_uid}, and this is user {os.geteuid()}; if you trust it, "
            f"run: chown {os.geteuid()} {path}"
        )
    if stat.S_IMODE(status.st_mode) & _BY_OTHERS:
        raise _refused(f"{setting}: other users can write {path}; if you trust it, run: chmod go-w {path}")


def check_secret_file(path: Path, setting: str, *, strict: bool) -> str | None:
    """Check that no other user has put a secret in place, or can read it.

    Args:
        path: The file; links are followed.
        setting: The setting that names it.
        strict: Refuse a file that others can read, too.

    Returns:
        What to do about a file that others can read, where that is not refused; else None.

    Raises:
        SettingsError: Another user owns the file, can write it or, if strict, read it; says what to do.
        OSError: It cannot be looked at.
    """
    status = path.stat()
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid not in {os.geteuid(), 0}:
        raise _refused(
            f"{setting}: {path} belongs to user {status.st_uid}, who knows what it holds and can change it; if you "
            f"trust it, run: chown {os.geteuid()} {path}"
        )
    if _is_mounted(path):
        return None
    if mode & stat.S_IWOTH or (mode & stat.S_IWGRP and status.st_uid != 0):
        raise _refused(f"{setting}: other users can write {path}; if you trust it, run: chmod go-w {path}")
    if mode & stat.S_IROTH or (mode & stat.S_IRGRP and status.st_uid != 0):
        remedy = f"make another one, and run: chmod 600 {path}"
        if strict:
            raise _refused(f"{setting}: other users can read {path}, so it is no secret; {remedy}")
        return remedy
    return None


def _refused(message: str) -> SettingsError:
    return SettingsError([message])


def _is_mounted(path: Path) -> bool:
    """Return whether an orchestrator has mounted a secret: read-only, for the processes of this container alone."""
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def _trusted(status: os.stat_result) -> bool:
    return status.st_uid in {os.geteuid(), 0} or os.geteuid() == 0
