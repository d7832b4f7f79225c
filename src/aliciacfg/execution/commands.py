"""Starting the program of a command, and why it did not start, in the words and exit codes of a shell."""

import errno
import os
import shutil
import signal
from collections.abc import Sequence
from typing import NoReturn

from aliciacfg.errors import AliciacfgError
from aliciacfg.execution.environment import Environment

NOT_FOUND = 127
NOT_EXECUTABLE = 126

# Python ignores them at its start, and a program inherits that; most expect to be ended by SIGPIPE.
_IGNORED_BY_PYTHON = [
    getattr(signal, name) for name in ("SIGPIPE", "SIGXFSZ", "SIGXFZ") if hasattr(signal, name)
]  # fmt: skip


class CannotStart(AliciacfgError):
    """A program cannot be started.

    Attributes:
        exit_code: 127 if it was not found, 126 if it could not be executed, as in a shell.
    """

    def __init__(self, program: str, error: OSError) -> None:
        missing = error.errno in {errno.ENOENT, errno.ENOTDIR}
        self.exit_code = NOT_FOUND if missing else NOT_EXECUTABLE
        reason = error.strerror or str(error)
        if error.errno == errno.ENOENT:
            reason = (
                "command not found" if not _path_of(program) else f"{reason}: the interpreter that it names, perhaps"
            )
        elif error.errno == errno.ENOEXEC:
            reason = f"{reason}: a script begins with #! and its interpreter"
        super().__init__(f"{program}: {reason}")


def replace_process(command: Sequence[str], environment: Environment) -> NoReturn:
    """Replace this process by the program of a command: same process, directory, descriptors, terminal and signal mask.

    Raises:
        CannotStart: It cannot be started; this process goes on.
    """
    restored = {number: signal.signal(number, signal.SIG_DFL) for number in _IGNORED_BY_PYTHON}
    try:
        os.execvpe(command[0], list(command), dict(environment))  # noqa: S606
    except OSError as error:
        for number, handler in restored.items():
            signal.signal(number, handler)
        raise CannotStart(command[0], error) from None


def spawn(command: Sequence[str], environment: Environment) -> int:
    """Start the program of a command in a process group of its own, and return its process id.

    It has this process's directory, signal mask and descriptors, but for those that Python opened.

    Raises:
        CannotStart: It cannot be started.
    """
    try:
        return os.posix_spawnp(command[0], list(command), dict(environment), setpgroup=0, setsigdef=_IGNORED_BY_PYTHON)
    except OSError as error:
        raise CannotStart(command[0], error) from None


def missing(command: Sequence[str]) -> str | None:
    """Return why the program of a command would not start now; None if it is there and executable."""
    if shutil.which(command[0]) is not None:
        return None
    return f"{command[0]}: " + ("not executable" if _path_of(command[0]) else "command not found")


def _path_of(program: str) -> str | None:
    """Return where a program is, executable or not."""
    return shutil.which(program, mode=os.F_OK)
