"""Supervised tasks: an unexpected error is told, and ends neither the daemon nor the task."""

import asyncio

import pytest

from aliciacfg.monitoring.alerts import Alert, Alerts
from aliciacfg.monitoring.supervisor import Supervisor
from inprocess import eventually

SECRET = "value-of-a-secret"


class _Expected(Exception):
    """An error that ends the daemon on purpose."""


@pytest.fixture
def alerts() -> Alerts:
    return Alerts(lambda: 1.0)


def supervisor(alerts: Alerts) -> Supervisor:
    return Supervisor(alerts, first_pause_seconds=0, recovered_seconds=0.01)


async def test_a_task_that_fails_runs_again_and_is_told(alerts: Alerts):
    """The alert names the task and the type of the error, not its text; it ends when the task goes on."""
    heard: list[Alert] = []
    alerts.listen(heard.append)
    runs: list[int] = []

    async def work() -> None:
        runs.append(1)
        if len(runs) < 3:
            raise UnicodeError(SECRET)

    await supervisor(alerts).keep_running("file watcher", work)
    assert len(runs) == 3
    assert [alert.kind for alert in heard] == ["internal"]
    assert "file watcher" in heard[0].message
    assert "UnicodeError" in heard[0].message
    assert SECRET not in heard[0].message
    await eventually(lambda: not alerts.active)


async def test_an_error_in_a_group_is_told_by_its_own_type(alerts: Alerts):
    """A task group inside the task is no reason to be less clear."""

    async def work() -> None:
        if not alerts.active:
            raise ExceptionGroup("group", [ExceptionGroup("inner", [ZeroDivisionError()]), KeyError("x")])

    await supervisor(alerts).keep_running("patrol", work)
    assert "KeyError, ZeroDivisionError" in alerts.active["internal:patrol"]


@pytest.mark.parametrize("error", [_Expected(), ExceptionGroup("group", [_Expected()])])
async def test_an_error_that_ends_the_daemon_is_raised(alerts: Alerts, error: Exception):
    """Also out of a group."""

    async def work() -> None:
        raise error

    with pytest.raises(type(error)):
        await supervisor(alerts).keep_running("mqtt", work, fatal=(_Expected,))
    assert not alerts.active


async def test_a_cancelled_task_ends(alerts: Alerts):
    """The daemon stops."""
    task = asyncio.create_task(supervisor(alerts).keep_running("mqtt", asyncio.Event().wait))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not alerts.active
