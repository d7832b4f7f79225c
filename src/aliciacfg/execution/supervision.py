"""A supervisor with everything real around it: processes, terminal and signals."""

import asyncio
import signal
from collections.abc import Callable

from aliciacfg.execution.processes import Processes
from aliciacfg.execution.supervisor import RECEIVED, Source, Supervisor, Task
from aliciacfg.execution.terminal import Terminal


async def supervise(task: Task, source: Source, say: Callable[[str], None]) -> int:
    """Run a command until it ends, and return its exit code; ``say`` prints one line for a person.

    It needs an event loop in the main thread, and a process that starts no other children.

    Raises:
        AliciacfgError: As for ``Supervisor.run``.
    """
    loop = asyncio.get_running_loop()
    terminal = Terminal()
    processes = Processes(terminal, say)
    supervisor = Supervisor(task, source, processes, say)
    # What was ignored when this process started, such as SIGHUP under nohup, the command ignores too.
    taken = [number for number in RECEIVED if signal.getsignal(number) is not signal.SIG_IGN]
    processes.open()
    for number in taken:
        loop.add_signal_handler(number, supervisor.receive, number)
    try:
        return await supervisor.run()
    finally:
        for number in taken:
            loop.remove_signal_handler(number)
        processes.close()
        terminal.close()
