"""Whether a daemon may take requests."""

import asyncio

from aliciacfg.replicas.readiness import Readiness


async def test_those_who_wait_are_told_of_each_change():
    """And only of changes."""
    readiness = Readiness()
    assert readiness.ready
    for ready in (False, True):
        waiting = asyncio.create_task(readiness.turns.until(lambda ready=ready: readiness.ready is ready))
        await asyncio.sleep(0)
        readiness.set(not ready)
        await asyncio.sleep(0)
        assert not waiting.done()
        readiness.set(ready)
        await waiting
