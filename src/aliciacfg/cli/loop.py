"""Running a coroutine from a command. The only module that imports uvloop."""

import asyncio
import os
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on a new event loop and return its result."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(coroutine)


def _loop_factory() -> Any:
    """Return uvloop's factory; None, for asyncio's own loop, if uvloop is missing or asyncio's debug mode is on."""
    if os.environ.get("PYTHONASYNCIODEBUG"):
        return None
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
