"""The daemon on an event loop in debug mode that tells of each step which takes longer than SLOW_CALLBACK_SECONDS.

asyncio logs those that take so long by the clock; those that take so long of the processor go to standard error,
too, because a busy machine makes every step long by the clock.
"""

import asyncio
import os
import runpy
import sys
from time import thread_time

LIMIT_SECONDS = float(os.environ["SLOW_CALLBACK_SECONDS"])


class Policy(asyncio.DefaultEventLoopPolicy):
    """Makes loops that log slow steps."""

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        loop = super().new_event_loop()
        loop.slow_callback_duration = LIMIT_SECONDS
        return loop


def measure_steps() -> None:
    """Have asyncio measure the processor time of each step."""
    run = asyncio.Handle._run  # noqa: SLF001 - nothing public is called for each step

    def measured(self: asyncio.Handle) -> None:
        begun = thread_time()
        run(self)
        used = thread_time() - begun
        if used > LIMIT_SECONDS:
            print(f"a step used {used:.3f} seconds of the processor: {self!r}", file=sys.stderr, flush=True)

    asyncio.Handle._run = measured  # noqa: SLF001


if __name__ == "__main__":
    asyncio.set_event_loop_policy(Policy())
    measure_steps()
    sys.argv = ["aliciacfg", "serve"]
    runpy.run_module("aliciacfg", run_name="__main__", alter_sys=True)
