"""Tasks that outlive a connection."""

import asyncio

from aliciacfg.mqtt.background import BackgroundTasks


def _unexpected(name: str, error: Exception) -> None:
    raise AssertionError(name) from error


async def test_tasks_are_counted_until_they_end():
    """The session waits for all before it stops."""
    tasks, go, done = BackgroundTasks(_unexpected), asyncio.Event(), list[int]()

    async def work(number: int) -> None:
        await go.wait()
        done.append(number)

    async with tasks.running():
        await tasks.wait_idle()
        for number in range(2):
            tasks.start(work(number), name="work")
        idle = asyncio.create_task(tasks.wait_idle())
        await asyncio.sleep(0)
        assert not idle.done()
        go.set()
        await idle
        assert sorted(done) == [0, 1]


async def test_nothing_is_started_before_and_after():
    """What is not started is closed, so that Python does not complain that it was never awaited."""
    tasks, done, go = BackgroundTasks(_unexpected), list[str](), asyncio.Event()

    async def work(name: str) -> None:
        await go.wait()
        done.append(name)

    tasks.start(work("before"), name="work")
    async with tasks.running():
        tasks.start(work("between"), name="work")
        tasks.close()
        tasks.start(work("after"), name="work")
        go.set()
    assert done == ["between"]


async def test_a_task_that_raises_is_reported():
    """The session and its other tasks go on."""
    reported: list[tuple[str, str]] = []
    tasks = BackgroundTasks(lambda name, error: reported.append((name, str(error))))
    done: list[str] = []

    async def fail() -> None:
        raise RuntimeError("a fault")

    async def work() -> None:
        done.append("work")

    async with tasks.running():
        tasks.start(fail(), name="fail")
        await tasks.wait_idle()
        tasks.start(work(), name="work")
    assert (reported, done) == ([("fail", "a fault")], ["work"])
