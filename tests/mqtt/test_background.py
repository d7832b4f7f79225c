"""Tasks that outlive a connection."""

import asyncio

import pytest

from aliciacfg.mqtt.background import BackgroundTasks


async def test_tasks_are_counted_until_they_end():
    """The session refuses requests while as many run as are allowed, and waits for all before it stops."""
    tasks, go, done = BackgroundTasks(limit=2), asyncio.Event(), list[int]()

    async def work(number: int) -> None:
        await go.wait()
        done.append(number)

    async with tasks.running():
        await tasks.wait_idle()
        for number in range(2):
            assert not tasks.full
            tasks.start(work(number), name="work")
        assert tasks.full
        idle = asyncio.create_task(tasks.wait_idle())
        await asyncio.sleep(0)
        assert not idle.done()
        go.set()
        await idle
        assert (sorted(done), tasks.full) == ([0, 1], False)


async def test_nothing_is_started_before_and_after():
    """What is not started is closed, so that Python does not complain that it was never awaited."""
    tasks, done, go = BackgroundTasks(), list[str](), asyncio.Event()

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


async def test_a_task_that_raises_ends_the_session():
    """Each catches what can happen to it; anything else is a fault that must not be passed over."""
    tasks = BackgroundTasks()

    async def fail() -> None:
        raise RuntimeError("a fault")

    async def session() -> None:
        async with tasks.running():
            tasks.start(fail(), name="fail")
            await asyncio.Event().wait()

    with pytest.raises(ExceptionGroup) as caught:
        await session()
    assert str(caught.value.exceptions[0]) == "a fault"
    await tasks.wait_idle()
