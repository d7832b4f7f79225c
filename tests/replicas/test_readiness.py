"""Whether a daemon may take requests."""

import asyncio

from aliciacfg.replicas.readiness import Readiness, ReadinessCheck


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


async def test_what_is_wrong_decides():
    """And is told as the reason."""
    readiness, faults = Readiness(), ["", "it lags", "it lags", "", ""]
    check = ReadinessCheck(readiness, lambda: faults[0])
    while faults:
        check.look()
        assert (readiness.ready, readiness.problem) == (not faults[0], faults[0])
        del faults[0]
