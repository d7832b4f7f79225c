"""Requests that come again, to the same daemon of a home or to another one: each is carried out once."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aliciacfg.api.encoding import Answer
from aliciacfg.errors import Conflict, ValidationFailed
from aliciacfg.operations.ledger import KEPT_SECONDS
from aliciacfg.operations.table import BY_NAME
from aliciacfg.storage.backend import database_in
from builders import environment_file, valid_config
from inprocess import CALLER, Core, Home
from postgres import Postgres

FILES = {
    "environments/dev.yaml": environment_file({"bell": {}, "lamp": {}}),
    "environments/prod.yaml": environment_file({"bell": {"settings": {"place": "prod"}}, "lamp": {}}),
}
ASKING = msgspec.structs.replace(CALLER, name="voice_router")


async def ask(core: Core, operation: str, name: str = "", **fields: Any) -> Answer:
    """An answer as an adapter gets it."""
    return await BY_NAME[operation].run(core.parts.service, ASKING, name, {"request_id": "7", **fields})


async def revisions(core: Core, service: str = "bell", environment: str = "dev") -> list[int]:
    found = await core.ask("history", service, environment=environment)
    return [item["revision"] for item in found["revisions"]]


@pytest.fixture
async def home(tmp_path: Path, postgres: Postgres) -> AsyncGenerator[list[Core]]:
    """Two daemons of one home."""
    made = Home(tmp_path, FILES)
    url = await asyncio.to_thread(postgres.create)
    async with contextlib.AsyncExitStack() as stack:
        cores: list[Core] = []
        for number in range(2):
            directory = tmp_path / f"data{number}"
            core = await stack.enter_async_context(
                made.sharing_core(
                    database_in(directory, url), keys=tmp_path / "data0" / "keys.json", data_dir=str(directory)
                )
            )
            cores.append(core)
        yield cores


WRITES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "set": ("set", "bell", {"config": valid_config(settings={"volume": 3}), "allow_breaking": True}),
    "patch": ("patch", "bell", {"patch": {"settings": {"volume": 3}}}),
    "creation": ("set", "chime", {"config": valid_config()}),
    "unset": ("unset", "bell", {"pointer": "/settings/tone"}),
    "delete": ("delete", "bell", {"allow_breaking": True}),
    "removal": ("delete", "guest", {}),
    "rollback": ("rollback", "bell", {"revision": 1}),
    "batch": ("batch", "", {"updates": [{"service": "bell", "patch": {"settings": {"volume": 3}}}, {"service": "x"}]}),
    "activate": ("activate", "prod", {}),
    "nothing": ("patch", "bell", {"patch": {}}),
}


async def test_a_repeated_write_is_answered_as_the_first_time(home: list[Core]):
    """By either daemon, with the same bytes, whatever the operation; the history stays as it is."""
    first, second = home
    for kind, (operation, name, fields) in WRITES.items():
        request = {**fields, "request_id": kind}
        await first.ask("set", "bell", config=valid_config(settings={"tone": 1}), allow_breaking=True)
        await first.ask("set", "guest", config=valid_config())
        answer = await ask(first, operation, name, **request)
        before = [await revisions(first, service) for service in ("bell", "guest")]
        # What would be answered to another request by now.
        await first.ask("activate", "dev")
        for core in (second, first, second):
            assert await ask(core, operation, name, **request) == answer, kind
            # It has followed what the other one wrote when this is answered.
            await first.ask("patch", "lamp", patch={})
            assert [await revisions(first, service) for service in ("bell", "guest")] == before, kind
            assert first.parts.state.active == "dev", kind


async def test_two_daemons_that_get_the_same_request_at_once_carry_it_out_once(home: list[Core]):
    """The database decides which of them; the other one gives its answer."""
    for volume in range(5):
        patch = {"settings": {"volume": volume}}
        answers = await asyncio.gather(
            *(ask(core, "patch", "bell", patch=patch, request_id=str(volume)) for core in (*home, *home))
        )
        assert len({answer.body for answer in answers}) == 1
    assert await revisions(home[0]) == [6, 5, 4, 3, 2, 1]


async def test_a_repeated_write_with_a_condition_is_answered_though_the_condition_is_over(home: list[Core]):
    """The first one met it; what others wrote since stays."""
    fields = {"patch": {"settings": {"volume": 3}}, "expected_revision": 1}
    answer = await ask(home[0], "patch", "bell", **fields)
    await home[1].ask("patch", "bell", patch={"settings": {"volume": 4}})
    assert await ask(home[1], "patch", "bell", **fields) == answer
    assert (await home[1].settings("bell"))["volume"] == 4
    with pytest.raises(Conflict):
        await ask(home[1], "patch", "bell", **{**fields, "request_id": "8"})


async def test_a_refused_write_is_tried_again(home: list[Core]):
    """Nothing was carried out, so nothing is kept."""
    config = valid_config(limits={"calls": "many"})
    for core in home:
        with pytest.raises(ValidationFailed):
            await ask(core, "set", "bell", config=config)
    assert (await ask(home[1], "patch", "bell", patch={"settings": {"volume": 1}})).body


async def test_an_id_that_was_used_for_something_else_since_is_that_of_a_new_request(home: list[Core]):
    """A requester that gives all its requests one id switches on, off and on again; other ids do not matter."""
    on, off = ({"patch": {"settings": {"on": value}}} for value in (True, False))
    for request_id in ("7", "7 ", "70", ""):
        await ask(home[0], "patch", "lamp", patch={"settings": {"on": request_id}}, request_id=request_id)
    for core, fields in zip((home[0], home[1], home[0]), (on, off, on), strict=True):
        await ask(core, "patch", "bell", **fields)
        assert (await core.settings("bell"))["on"] == fields["patch"]["settings"]["on"]
    # The last one again.
    await ask(home[1], "patch", "bell", **on)
    assert await revisions(home[0]) == [4, 3, 2, 1]
    made = await revisions(home[0], "lamp")
    for request_id in ("7 ", "70", ""):
        await ask(home[1], "patch", "lamp", patch={"settings": {"on": request_id}}, request_id=request_id)
    assert await revisions(home[0], "lamp") == made


async def test_answers_are_removed_in_time(home: list[Core]):
    """After ten minutes a request with the same id is another one."""
    (core, _) = home
    patch = {"patch": {"settings": {"volume": 3}}}
    await ask(core, "patch", "bell", **patch)
    assert KEPT_SECONDS == 600.0
    shared = core.parts.store.shared
    assert shared is not None
    await shared.remove_answers(older_than_seconds=KEPT_SECONDS)
    await core.ask("patch", "bell", patch={"settings": {"volume": 4}})
    await ask(core, "patch", "bell", **patch)
    assert (await core.settings("bell"))["volume"] == 4
    await shared.remove_answers(older_than_seconds=0.0)
    await ask(core, "patch", "bell", **patch)
    assert (await core.settings("bell"))["volume"] == 3
