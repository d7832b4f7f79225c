"""A program that runs beside this process and ends with it, however this process ends.

Where the kernel can send a signal to a process when its parent ends (Linux), it does so at once. Everywhere a note says
which process was started, so that the next run ends it if it is still there.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from aliciacfg.atomic_files import replace_file

_STOP_SECONDS = 5.0
_POLL_SECONDS = 0.02
_PROC = Path("/proc")
_PR_SET_PDEATHSIG = 1
# A process of its own, which becomes the program: nothing may be done between fork and exec in a process with threads.
# The kernel signals the end of the thread that starts it, so that thread has to be the main one. If the parent ended
# before the request, the process has another parent already.
_FOLLOWER = f"""
import ctypes, os, sys
ctypes.CDLL(None).prctl({_PR_SET_PDEATHSIG}, {int(signal.SIGTERM)}, 0, 0, 0)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


@asynccontextmanager
async def beside(command: Sequence[str], note: Path) -> AsyncGenerator[asyncio.subprocess.Process]:
    """Run a command until the block ends; to be called in the main thread.

    It has a session of its own: Ctrl-C is for this process.

    Args:
        command: The path of a program, and its arguments. One of them has to be a path that no other program gets.
        note: The file that says which process it is.

    Raises:
        OSError: It cannot be started.
    """
    process = await asyncio.create_subprocess_exec(
        *_followed(command), stdin=asyncio.subprocess.DEVNULL, start_new_session=True
    )
    try:
        # It may be impossible on a full disk; then only the kernel ends the process if this one is killed.
        with contextlib.suppress(OSError):
            replace_file(note, f"{process.pid}\n".encode(), mode=0o600)
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), _STOP_SECONDS)
            except TimeoutError:
                process.kill()
                await process.wait()
        _forget(note)


async def end_left(command: Sequence[str], note: Path) -> bool:
    """End the process of an earlier run that was killed; return whether there was one.

    Args:
        command: The command as it would be started now. The process is ended only if its last argument is the same.
        note: The file that says which process it is.
    """
    pid, wanted = _noted(note), command[-1]
    if pid is None:
        return False
    for number in (signal.SIGTERM, signal.SIGKILL):
        if not await asyncio.to_thread(_runs, pid, wanted):
            return number != signal.SIGTERM
        with contextlib.suppress(OSError):
            os.kill(pid, number)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_SECONDS):
                while await asyncio.to_thread(_runs, pid, wanted):  # noqa: ASYNC110 - of a process that is no child
                    await asyncio.sleep(_POLL_SECONDS)
    return True


def _noted(note: Path) -> int | None:
    try:
        text = note.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return int(text) if text.isdecimal() else None


def _forget(note: Path) -> None:
    with contextlib.suppress(OSError):
        note.unlink()


def _followed(command: Sequence[str]) -> Sequence[str]:
    """Return the command that runs a command and lets the kernel end it with this process, where it can."""
    if sys.platform != "linux" or not sys.executable:
        return command
    return [sys.executable, "-I", "-S", "-c", _FOLLOWER, str(os.getpid()), *command]


def _runs(pid: int, argument: str) -> bool:
    """Return whether a process has an argument; False for one that has ended and waits for its parent."""
    with contextlib.suppress(OSError):
        return argument.encode() in (_PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
    ps = None if (_PROC / "self").exists() else shutil.which("ps")
    if ps is None:
        return False
    done = subprocess.run(  # noqa: S603 - a program from the PATH, with a number
        [ps, "-ww", "-o", "args=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return argument in done.stdout
