"""The daemon on an event loop in debug mode that logs each step which takes longer than SLOW_CALLBACK_SECONDS."""

import asyncio
import os
import runpy
import sys


class Policy(asyncio.DefaultEventLoopPolicy):
    """Makes loops that log slow steps."""

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        loop = super().new_event_loop()
        loop.slow_callback_duration = float(os.environ["SLOW_CALLBACK_SECONDS"])
        return loop


if __name__ == "__main__":
    asyncio.set_event_loop_policy(Policy())
    sys.argv = ["aliciacfg", "serve"]
    runpy.run_module("aliciacfg", run_name="__main__", alter_sys=True)
