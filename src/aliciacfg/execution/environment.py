"""The environment of a command: what this process was given, and the variables of a configuration on top.

Names and values are bytes. Configurations are UTF-8 in every locale of this process.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from aliciacfg.variables.resolution import Variable

Environment = Mapping[bytes, bytes]

_COERCED = b"LC_CTYPE"
# Linux: MAX_ARG_STRLEN, and three quarters of _STK_LIM, above which no stack limit leads.
_MAX_STRING_PAGES = 32
_MAX_LINUX_BYTES = 6 * 1024 * 1024
_POINTER_BYTES = 8
# For what the kernel itself puts there, and the path of the program.
_RESERVED_BYTES = 8192


def inherited() -> dict[bytes, bytes]:
    """Return the environment that this process was started with."""
    found = {os.fsencode(name): os.fsencode(value) for name, value in os.environ.items()}
    # In the locale C, Python itself sets it for its own sake (PEP 538).
    if _COERCED in found and _was_coerced():
        del found[_COERCED]
    return found


def with_variables(environment: Environment, variables: Sequence[Variable]) -> dict[bytes, bytes]:
    """Return an environment with variables set."""
    return {**environment, **{item.name.encode(): item.text.encode() for item in variables}}


def size_problem(command: Sequence[str], environment: Environment) -> str | None:
    """Return why the system would not run a command with this environment; None if it would.

    It names the variable that is too large, and never shows a value.
    """
    page = os.sysconf("SC_PAGE_SIZE")
    strings = [os.fsencode(argument) for argument in command]
    if sys.platform == "linux":
        most = _MAX_STRING_PAGES * page - 1
        for name, value in environment.items():
            if (size := len(name) + 1 + len(value)) > most:
                return f"{os.fsdecode(name)} takes {size} bytes with its value; a variable can have {most}"
        if any(len(string) > most for string in strings):
            return f"an argument of the command is longer than {most} bytes"
    strings += [name + b"=" + value for name, value in environment.items()]
    total = sum(len(string) + 1 + _POINTER_BYTES for string in strings) + _RESERVED_BYTES
    limit = os.sysconf("SC_ARG_MAX")
    if sys.platform == "linux":
        limit = min(limit, _MAX_LINUX_BYTES)
    if total > limit:
        largest = max(environment, key=lambda name: len(environment[name]))
        return (
            f"arguments and variables take {total} bytes together; the system allows {limit} "
            f"(the largest is {os.fsdecode(largest)})"
        )
    return None


def _was_coerced() -> bool:
    try:
        started_with = Path("/proc/self/environ").read_bytes()
    except OSError:
        return False
    return not any(entry.startswith(_COERCED + b"=") for entry in started_with.split(b"\0"))
