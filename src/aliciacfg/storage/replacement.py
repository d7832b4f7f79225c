"""Puts a new state in the place of a data directory's, so that an interruption leaves the old one or the new one.

The new state is prepared in a directory beside the old files. Renaming that directory decides: before, nothing has
changed; afterwards the next process that locks the data directory completes what is left. Each step can be repeated.

    .replacement-prepared    being prepared; a process that finds it removes it
    .replacement-decided     complete: the old files are moved away
    .replacement-moved       the old files are away: the new ones are moved in
    .replacement-done        nothing is left to do but to remove it

Each of them holds the plan, the new files, and a directory that becomes the one of the old files.
"""

import contextlib
import os
import shutil
from collections.abc import Collection
from pathlib import Path

import msgspec
import structlog

from aliciacfg.atomic_files import make_directory, replace_file, try_to_replace

_log = structlog.get_logger(__name__)

PREPARED = ".replacement-prepared"
_DECIDED = ".replacement-decided"
_MOVED = ".replacement-moved"
_DONE = ".replacement-done"
_PLAN = "plan.json"
NEW = "new"
"""The directory of the new files, in ``PREPARED``; a data directory of its own."""
OLD = "old"
"""The directory that becomes the one of the old files, in ``PREPARED``; what is in it already stays."""


class Plan(msgspec.Struct, frozen=True):
    """What is replaced.

    Attributes:
        kept_in: The name of the directory of the old files, in the data directory.
        moved: The names of the old files, in the data directory.
        written: Files elsewhere that get a new content: each name in ``PREPARED`` with the absolute path.
        removed: Absolute paths of files elsewhere that are removed.
    """

    kept_in: str
    moved: list[str]
    written: dict[str, str] = {}
    removed: list[str] = []


def prepare(directory: Path) -> Path:
    """Return the empty directory in which a new state is prepared; the caller holds the lock.

    Raises:
        OSError: It cannot be made.
    """
    prepared = directory / PREPARED
    shutil.rmtree(prepared, ignore_errors=True)
    for path in (prepared, prepared / NEW, prepared / OLD):
        path.mkdir(mode=0o700)
    return prepared


def discard(directory: Path) -> None:
    """Remove a state that is prepared, and was not decided."""
    shutil.rmtree(directory / PREPARED, ignore_errors=True)


def decide(directory: Path, plan: Plan) -> None:
    """Let the prepared state be the one of the data directory; when this returns, it is.

    Raises:
        OSError: It could not be made durable, or a file elsewhere cannot be written, and nothing was changed. Or it
            could not be completed; the next process that locks the directory does.
    """
    prepared = directory / PREPARED
    _try_out([Path(target) for target in plan.written.values()])
    replace_file(prepared / _PLAN, msgspec.json.encode(plan), mode=0o600)
    owner = directory.stat()
    for path in (*prepared.rglob("*"), prepared):
        if os.geteuid() == 0:
            # Root works for the daemon's user, who has to be able to write them.
            os.chown(path, owner.st_uid, owner.st_gid)
        _sync(path)
    prepared.rename(directory / _DECIDED)
    _sync(directory)
    _complete(directory)


def recover(directory: Path) -> None:
    """Complete a replacement that was decided, remove one that was not; the caller holds the lock.

    Raises:
        OSError: It cannot be completed.
    """
    if (directory / _DONE).exists():
        shutil.rmtree(directory / _DONE)
    if (directory / PREPARED).exists():
        shutil.rmtree(directory / PREPARED)
        _log.warning(
            "restore_abandoned",
            path=str(directory),
            reason="it was interrupted before anything was replaced; the state is the one from before",
            remedy="restore again if it is still wanted",
        )
    if (directory / _DECIDED).exists() or (directory / _MOVED).exists():
        kept_in = _complete(directory)
        _log.warning(
            "restore_completed",
            path=str(directory),
            reason="it was interrupted after it had been decided; the restored state is in place now",
            before=kept_in,
        )


def _complete(directory: Path) -> str:
    """Carry out what is left of a plan, and return where the old files are."""
    decided, moved = directory / _DECIDED, directory / _MOVED
    if decided.exists():
        plan = _plan(decided)
        kept = directory / plan.kept_in
        if not kept.exists():
            (decided / OLD).rename(kept)
        for name in plan.moved:
            if (directory / name).exists():
                (directory / name).rename(kept / name)
        _sync(kept)
        _sync(directory)
        decided.rename(moved)
        _sync(directory)
    plan = _plan(moved)
    for path in sorted((moved / NEW).iterdir()):
        path.rename(directory / path.name)
    for name, target in plan.written.items():
        path = Path(target)
        make_directory(path.parent, made=[])
        replace_file(path, (moved / name).read_bytes(), mode=None if path.exists() else 0o644)
    for target in plan.removed:
        Path(target).unlink(missing_ok=True)
    _sync(directory)
    # Without its plan a directory that is half removed could not be completed.
    moved.rename(directory / _DONE)
    shutil.rmtree(directory / _DONE)
    return plan.kept_in


def _try_out(targets: Collection[Path]) -> None:
    """Make sure that files can be written: after the decision, one that cannot would keep every process out.

    Raises:
        OSError: One cannot.
    """
    made: list[Path] = []
    try:
        for target in targets:
            make_directory(target.parent, made=made)
        for target in targets:
            try_to_replace(target)
    finally:
        for path in reversed(made):
            with contextlib.suppress(OSError):
                path.rmdir()


def _plan(directory: Path) -> Plan:
    return msgspec.json.decode((directory / _PLAN).read_bytes(), type=Plan)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
