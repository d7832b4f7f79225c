"""Running a coroutine to its end; the only module that imports uvloop."""

import asyncio
import os
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run it on a fresh event loop, and return what it returns."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(coroutine)


def _loop_factory() -> Any:
    """Prefer uvloop; asyncio's own loop where it is missing, or asked to watch for blocking calls."""
    if os.environ.get("PYTHONASYNCIODEBUG"):
        return None
    try:
        import uvloop  # noqa: PLC0415 - an optional dependency
    except ImportError:
        return None
    return uvloop.new_event_loop
