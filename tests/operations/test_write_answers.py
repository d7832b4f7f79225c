"""What answers say of changes that services hear of only when the broker is back."""

from pathlib import Path
from typing import Any

from builders import environment_file
from inprocess import Core, Home

FILES: dict[str, object] = {
    "environments/base.yaml": environment_file({"bell": {"settings": {"volume": 1}}, "lamp": {}}),
    "environments/dev.yaml": "",
    "environments/prod.yaml": {"services": {"bell": {"settings": {"volume": 9}}}},
}


def louder(volume: int) -> dict[str, Any]:
    return {"patch": {"settings": {"volume": volume}}}


async def waits(made: Core, operation: str, name: str = "", **fields: Any) -> bool:
    """Return what an answer says; it says nothing where nothing waits."""
    answer = await made.ask(operation, name, **fields)
    assert answer.get("waits_for_broker") in {None, True}
    return answer.get("waits_for_broker", False)


async def test_each_change_says_that_it_waits(tmp_path: Path):
    """Also one that is only tried out."""
    async with Home(tmp_path, FILES).core() as made:
        made.parts.service.health.bus_connected = False
        whole = await made.config("lamp")
        assert await waits(made, "patch", "bell", **louder(2), dry_run=True)
        assert await waits(made, "patch", "bell", **louder(2))
        assert await waits(made, "rollback", "bell", revision=1)
        assert await waits(made, "set", "new", config={**whole, "service_name": "new"})
        assert await waits(made, "delete", "new")
        batch = await made.ask("batch", updates=[{"service": "bell", **louder(3)}])
        assert [result["waits_for_broker"] for result in batch["results"]] == [True]
        assert await waits(made, "unset", "bell", pointer="")
        made.write("environments/dev.yaml", {"services": {"lamp": {"settings": {"colour": "red"}}}})
        assert await waits(made, "reload", dry_run=True)
        assert await waits(made, "reload")
        assert await waits(made, "activate", "prod", dry_run=True)
        assert await waits(made, "activate", "prod")


async def test_a_change_waits_for_a_broker_that_hangs(tmp_path: Path):
    """Though the connection is open, it acknowledges nothing."""
    async with Home(tmp_path, FILES).core() as made:
        made.parts.service.health.bus_connected = True
        assert not await waits(made, "patch", "bell", **louder(2))
        made.parts.service.health.broker_hangs = lambda: True
        assert await waits(made, "patch", "bell", **louder(3))


async def test_what_services_are_not_told_of_does_not_wait(tmp_path: Path):
    """Nothing differs, another environment is active, or the broker is there."""
    async with Home(tmp_path, FILES).core() as made:
        made.parts.service.health.bus_connected = False
        assert not await waits(made, "patch", "bell", **louder(1))
        assert not await waits(made, "patch", "bell", **louder(2), environment="prod")
        assert not await waits(made, "reload")
        assert not await waits(made, "activate", "dev")
        made.parts.service.health.bus_connected = True
        assert not await waits(made, "patch", "bell", **louder(2))
        assert not await waits(made, "activate", "prod")
