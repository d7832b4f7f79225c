"""Several daemons on one database: each follows what the others commit, and none loses a write of another."""

import asyncio
import contextlib
import random
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from nacl.public import PrivateKey

from aliciacfg.access.caller import Caller
from aliciacfg.api.bus_messages import AppliedReport
from aliciacfg.core.commits import Commits
from aliciacfg.errors import (
    Conflict,
    NotComposed,
    NotFound,
    OperationError,
    SourceError,
    SourceProblem,
    Superseded,
    Unavailable,
    Unconfirmed,
)
from aliciacfg.model.config_id import ConfigId
from aliciacfg.sealing.boxes import PublicKey
from aliciacfg.sources.file_texts import FileTexts
from aliciacfg.sources.layers import Sources
from aliciacfg.storage.backend import database_in
from aliciacfg.storage.store import Reseal
from builders import environment_file, valid_config
from inprocess import Core, Home, eventually
from postgres import Postgres
from shared_database import SharedDatabase, SharedRows, SharedStore
from soak import rarely

SERVICES = ("bell", "lamp", "siren", "guest")
FILES = {
    "environments/base.yaml": environment_file({"bell": {"settings": {"size": 1}}, "lamp": {}, "siren": {}}),
    "environments/dev.yaml": {"services": {"bell": {"settings": {"place": "dev"}}}},
    "environments/prod.yaml": {"services": {"bell": {"settings": {"place": "prod"}}}},
    "schemas/siren.yaml": {
        "version": "1.0.0",
        "properties": {"settings": {"properties": {"tone": {"type": "string", "x-sensitive": True}}}},
    },
}


@dataclass
class Replicas:
    """Daemons of one home, on the same files and keys."""

    home: Home
    rows: SharedRows
    stack: contextlib.AsyncExitStack
    cores: list[Core] = field(default_factory=list[Core])
    stores: list[SharedStore] = field(default_factory=list[SharedStore])
    url: str | None = None

    async def start(self, **settings: str) -> Core:
        """Start another daemon."""
        directory = self.home.directory / f"data{len(self.cores)}"
        shared = SharedDatabase(self.rows)
        core = await self.stack.enter_async_context(
            self.home.sharing_core(
                shared.as_database() if self.url is None else database_in(directory, self.url),
                # The same for all: only the first daemon rotates them.
                keys=self.home.directory / "data0" / "keys.json",
                data_dir=str(directory),
                **settings,
            )
        )
        self.cores.append(core)
        if self.url is None:
            self.stores.append(shared.store)
        return core

    async def catch_up(self) -> None:
        """Have every daemon follow all others."""
        for core in self.cores:
            await following(core).catch_up()


def following(core: Core) -> Any:
    assert core.parts.following is not None
    return core.parts.following


@pytest.fixture
def url(postgres: Postgres) -> str:
    return postgres.create()


@pytest.fixture
async def replicas(tmp_path: Path) -> AsyncGenerator[Replicas]:
    async with contextlib.AsyncExitStack() as stack:
        yield Replicas(Home(tmp_path, FILES), SharedRows(), stack)


def memory(core: Core) -> dict[str, Any]:
    """Everything that a daemon knows of its home."""
    parts, state = core.parts, core.parts.state
    heads = state.all_heads()
    return {
        "records": {known: entry.record for known, entry in heads.items()},
        "overlays": {known: (entry.overlay, dict(entry.origins)) for known, entry in heads.items()},
        "effective": {known: entry.effective for known, entry in heads.items()},
        "listed": {name: list(state.live(name)) for name in ("dev", "prod")},
        "active": state.active,
        # The highest place of all is higher where a change failed.
        "epoch": state.epoch,
        "schemas": parts.files.schemas,
        "defined": parts.files.defined,
        "found": list(parts.files.found),
        "tokens": dict(parts.service.authorizer.tokens),
        "recipients": {name: parts.configurations and _etag(core, name) for name in SERVICES},
        "outbox": {name: (item.sequence, item.payload) for name, item in parts.outbox.current.items()},
        "pending": sorted(item.subject for item in parts.outbox.due()),
    }


def _etag(core: Core, service: str) -> str:
    """What readers see of a service, the key that its secrets are sealed to included."""
    found = core.parts.cache.find(("dev", service))
    return "" if found is None else found.etag


async def test_what_one_commits_the_other_serves(replicas: Replicas):
    """After it caught up, with the same tag, and a write builds on it."""
    first, second = await replicas.start(), await replicas.start()
    told = await first.ask("patch", "bell", patch={"settings": {"size": 7}})
    await replicas.catch_up()
    seen = await second.ask("get", "bell")
    assert (seen["revision"], seen["config"]["settings"]) == (told["revision"], {"size": 7, "place": "dev"})
    assert memory(second) == memory(first)
    again = await second.ask("patch", "bell", patch={"settings": {"more": 1}})
    assert (again["revision"], again["config"]["settings"]["size"]) == (told["revision"] + 1, 7)


async def test_a_write_on_a_memory_that_lags_is_planned_again(replicas: Replicas):
    """Two daemons patch the same configuration, the second one without having caught up: nothing is lost."""
    first, second = await replicas.start(), await replicas.start()
    one = await first.ask("patch", "bell", patch={"settings": {"one": 1}})
    two = await second.ask("patch", "bell", patch={"settings": {"two": 2}})
    assert two["revision"] == one["revision"] + 1
    assert two["config"]["settings"] == {"size": 1, "place": "dev", "one": 1, "two": 2}
    assert (second.parts.commits.superseded, replicas.rows.twice) == (1, [])
    # Once in the audit log, once in the count of revisions.
    audit = [entry for entry in replicas.rows.audit if entry.operation == "patch"]
    assert [(entry.before, entry.after) for entry in audit] == [(1, 2), (2, 3)]
    assert (first.parts.commits.revisions["api"], second.parts.commits.revisions["api"]) == (1, 1)


async def test_writes_on_other_configurations_do_not_conflict(replicas: Replicas):
    """However far the memory lags."""
    first, second = await replicas.start(), await replicas.start()
    await first.ask("patch", "bell", patch={"settings": {"one": 1}})
    await second.ask("patch", "lamp", patch={"settings": {"two": 2}})
    assert second.parts.commits.superseded == 0


async def test_a_refusal_is_confirmed_by_the_database(replicas: Replicas):
    """What a daemon does not know yet is no reason to refuse a write; what it knows in vain is."""
    first, second = await replicas.start(), await replicas.start()
    made = await first.ask("set", "guest", config=valid_config())
    changed = await second.ask("patch", "guest", patch={"settings": {"x": 1}}, expected_revision=made["revision"])
    assert changed["revision"] == made["revision"] + 1
    with pytest.raises(Conflict) as error:
        await first.ask("patch", "guest", patch={"settings": {"x": 2}}, expected_revision=made["revision"])
    assert error.value.revision == changed["revision"]
    with pytest.raises(NotFound):
        await first.ask("delete", "nobody")


async def test_what_memory_could_not_compose_is_no_reason_to_refuse_once_another_daemon_changed_it(replicas: Replicas):
    """Until then the refusal says that the files of others yield it."""
    first, second = await replicas.start(), await replicas.start()
    bell = ConfigId("dev", "bell")
    second.parts.state.refresh({bell: replace(second.parts.state.committed(bell), effective=None)})
    with pytest.raises(NotComposed, match="those of another one do"):
        await second.ask("patch", "bell", patch={"settings": {"two": 2}})
    await first.ask("patch", "bell", patch={"settings": {"one": 1}})
    told = await second.ask("patch", "bell", patch={"settings": {"two": 2}})
    assert told["config"]["settings"] == {"size": 1, "place": "dev", "one": 1, "two": 2}


async def test_unchanged_is_confirmed_by_the_database(replicas: Replicas):
    """What would change nothing here, and does in the database, is written."""
    first, second = await replicas.start(), await replicas.start()
    await first.ask("patch", "bell", patch={"settings": {"size": 9}})
    answer = await second.ask("patch", "bell", patch={"settings": {"size": 1}})
    assert (answer["config"]["settings"]["size"], answer["revision"], "unchanged" in answer) == (1, 3, False)


async def test_a_change_that_is_superseded_again_and_again_is_made_while_nobody_else_writes(replicas: Replicas):
    """A daemon that writes all the time does not keep another one from an activation."""
    first, second = await replicas.start(), await replicas.start()
    stop = asyncio.Event()

    async def write(service: str) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            await first.ask("patch", service, patch={"settings": {"size": number}})

    writers = [asyncio.create_task(write(service)) for service in ("bell", "lamp")]
    answer = await second.ask("activate", "prod")
    stop.set()
    await asyncio.gather(*writers)
    assert answer["environment"] == "prod"
    await replicas.catch_up()
    assert [core.parts.state.active for core in replicas.cores] == ["prod", "prod"]
    assert memory(first) == memory(second)
    assert replicas.stores[1].held == 1


async def test_nobody_is_busy_because_others_write(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch):
    """Two daemons with 24 writers each, all of them on a few configurations."""
    # Nothing looks whether the database answers here, and a busy machine may take longer for a write.
    monkeypatch.setattr("aliciacfg.operations.patience._PATIENCE_SECONDS", 600.0)
    async with contextlib.AsyncExitStack() as stack:
        replicas = Replicas(Home(tmp_path, FILES), SharedRows(), stack, url=url)
        cores = [await replicas.start(), await replicas.start()]

        await cores[0].ask("set", "guest", config=valid_config())

        async def write(core: Core, name: str, service: str) -> None:
            for number in range(6):
                await core.ask("patch", service, patch={"settings": {name: number}})

        async with asyncio.TaskGroup() as group:
            for core in cores:
                for number in range(24):
                    service = SERVICES[number % 3] if number < 12 else "guest"
                    group.create_task(write(core, f"writer{id(core)}-{number}", service))
        assert sum(core.parts.commits.superseded for core in cores) > 0


@pytest.mark.parametrize("backend", ["postgres", "memory"])
async def test_copies_that_one_daemon_forgot_are_forgotten_by_all(tmp_path: Path, url: str, backend: str):
    """A service that unregistered is no drift, whoever leads afterwards; one that reports again is listed again."""
    async with contextlib.AsyncExitStack() as stack:
        replicas = Replicas(Home(tmp_path, FILES), SharedRows(), stack, url=url if backend == "postgres" else None)
        first, second = await replicas.start(apply_grace_seconds="0"), await replicas.start(apply_grace_seconds="0")
        old = AppliedReport(instance="a", revision=0, checksum="", status="applied", error=None)

        async def known(core: Core) -> list[str]:
            await following(core).catch_up()
            core.parts.service.registrations._instances.check()
            return [item["instance"] for item in (await core.ask("instances", "bell"))["instances"]]

        await first.parts.service.registrations.applied("bell", old)
        assert await known(first) == await known(second) == ["a"]
        assert "bell/a" in {item.subject for item in second.parts.drift.items}
        await first.parts.service.registrations.unregister("bell")
        assert await known(first) == await known(second) == []
        assert not second.parts.drift.items
        await second.parts.service.registrations.applied("bell", old)
        assert await known(first) == await known(second) == ["a"]


async def test_values_are_never_sealed_anew_in_a_hold(replicas: Replicas, monkeypatch: Any):
    """Its transaction is that of the plan; that writes in front are superseded again and again delays nothing."""
    core = await replicas.start()
    (store,) = replicas.stores
    held: list[int] = []
    flush, reseal = Commits.flush, store.reseal
    gone = iter(range(3))

    async def flush_superseded(commits: Commits) -> None:
        await flush(commits)
        if next(gone, None) is not None:
            raise Superseded("A write in front is gone.")

    async def reseal_noted(with_keys: Reseal) -> None:
        held.append(store.held)
        await reseal(with_keys)

    monkeypatch.setattr(Commits, "flush", flush_superseded)
    monkeypatch.setattr(store, "reseal", reseal_noted)
    await core.ask("keys_rotate")
    assert held == [0]


async def test_whoever_waits_for_a_change_learns_of_that_of_another_daemon(replicas: Replicas):
    """A long poll ends."""
    first, second = await replicas.start(), await replicas.start()
    etag = second.parts.cache.find(("dev", "bell")).etag  # type: ignore[union-attr]
    waiting = asyncio.create_task(second.parts.service.reads.while_current("bell", None, etag.__eq__, 60.0))
    await first.ask("patch", "bell", patch={"settings": {"size": 3}})
    assert not waiting.done()
    await replicas.catch_up()
    async with asyncio.timeout(40):
        await waiting


async def test_a_load_of_files_on_one_daemon_reaches_the_other(replicas: Replicas):
    """Also the schemas in force and what the files name; the other loads the same files and has nothing to write."""
    first, second = await replicas.start(), await replicas.start()
    replicas.home.write("environments/dev.yaml", {"services": {"bell": {"settings": {"size": 5}}, "gate": {}}})
    replicas.home.write("schemas/gate.yaml", {"version": "2.0.0"})
    await first.ask("reload")
    await replicas.catch_up()
    assert (await second.ask("get", "bell"))["config"]["settings"] == {"size": 5}
    assert second.parts.files.schemas == first.parts.files.schemas
    commit = replicas.rows.commit
    await second.ask("reload")
    assert replicas.rows.commit == commit
    assert memory(second) == memory(first)


async def test_a_daemon_that_cannot_use_the_files_that_serve_is_not_ready(replicas: Replicas, monkeypatch: Any):
    """Nothing can be written through it, so that requests had better go to the others; until it can use them."""
    first, second = await replicas.start(), await replicas.start()
    served, parse = second.parts.served, second.parts.source_files.parse
    assert served is not None

    def refuse(_texts: FileTexts) -> Sources:
        raise SourceError([SourceProblem("environments/dev.yaml", None, "is of a later version")])

    async def put_in_force(size: int) -> None:
        replicas.home.write("environments/dev.yaml", {"services": {"bell": {"settings": {"size": size}}}})
        await first.ask("reload")
        await replicas.catch_up()

    monkeypatch.setattr(second.parts.source_files, "parse", refuse)
    await put_in_force(5)
    await eventually(lambda: served.refused)
    with pytest.raises(Unavailable):
        await second.ask("patch", "bell", patch={"settings": {"size": 7}})
    await replicas.catch_up()
    assert first.parts.presence.fault == ""
    assert "cannot use the files that serve the home" in second.parts.presence.fault
    monkeypatch.setattr(second.parts.source_files, "parse", parse)
    await put_in_force(6)
    await eventually(lambda: not served.refused)
    await second.ask("patch", "bell", patch={"settings": {"size": 7}})
    await replicas.catch_up()
    assert second.parts.presence.fault == ""


async def test_what_new_files_bring_is_not_missing_while_they_are_loaded(replicas: Replicas, monkeypatch: Any):
    """An environment that another daemon put in force exists, also for a daemon that does not compose from it yet."""
    first, second = await replicas.start(), await replicas.start()
    parse, goes_on = second.parts.source_files.parse, threading.Event()

    def slow(texts: FileTexts) -> Sources:
        goes_on.wait(15)
        return parse(texts)

    monkeypatch.setattr(second.parts.source_files, "parse", slow)
    replicas.home.write("environments/lab.yaml", {"services": {"bell": {"settings": {"place": "lab"}}}})
    await first.ask("reload")
    await replicas.catch_up()
    asked = [asyncio.create_task(second.ask("get", "bell", environment="lab", at_least=rest)) for rest in (None, 1)]
    await asyncio.wait(asked, timeout=0.5)
    goes_on.set()
    for answer in asked:
        assert (await answer)["config"]["settings"] == {"place": "lab", "size": 1}
    with pytest.raises(NotFound):
        await second.ask("get", "bell", environment="cellar", at_least=1)


async def test_a_write_waits_until_what_changed_while_files_were_loaded_is_composed(
    replicas: Replicas, monkeypatch: Any
):
    """The files before did not yield it; those that serve are in force a moment before it is composed from them."""
    first, second = await replicas.start(), await replicas.start()
    reloads, load_files = second.parts.reloads, following(second).load_files
    plan, waits = reloads._planner.plan, asyncio.Event()
    asked: list[asyncio.Task[Any]] = []

    async def overtaken(*args: Any, **options: Any) -> Any:
        planned = await plan(*args, **options)
        await first.ask("patch", "bell", patch={"settings": {"one": 1}})
        await following(second).catch_up()
        return planned

    async def wait() -> None:
        waits.set()
        await load_files()

    async def in_force_and_not_composed(_held: list[object]) -> None:
        if following(second)._loading is not None and not asked:
            asked.append(asyncio.create_task(second.ask("patch", "bell", patch={"settings": {"two": 2}})))
            waiting = asyncio.create_task(waits.wait())
            await asyncio.wait({asked[0], waiting}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()

    replicas.home.write("environments/dev.yaml", {"services": {"bell": {"settings": {"size": 5}}}})
    await first.ask("reload")
    monkeypatch.setattr(reloads._planner, "plan", overtaken)
    monkeypatch.setattr(following(second), "load_files", wait)
    monkeypatch.setattr("aliciacfg.core.reloads._MANY_SERVICES", 0)
    monkeypatch.setattr("aliciacfg.core.reloads.free_slowly", in_force_and_not_composed)
    await replicas.catch_up()
    await eventually(lambda: asked)
    assert (await asked[0])["config"]["settings"] == {"size": 5, "one": 1, "two": 2}


async def test_both_may_load_the_same_edit_at_the_same_time(replicas: Replicas):
    """Each revision is made once."""
    first, second = await replicas.start(), await replicas.start()
    replicas.home.write("environments/dev.yaml", {"services": {"bell": {"settings": {"size": 5}}}})
    await asyncio.gather(first.ask("reload"), second.ask("reload"))
    await replicas.catch_up()
    assert memory(second) == memory(first)
    assert replicas.rows.twice == []
    assert (await first.ask("get", "bell"))["revision"] == 2


async def test_a_database_that_is_away_makes_writes_unavailable_and_reads_go_on(replicas: Replicas):
    """What another daemon may have changed meanwhile cannot be confirmed either."""
    first, _ = await replicas.start(), await replicas.start()
    replicas.rows.broken = Unavailable("The database cannot be reached.")
    assert (await first.ask("get", "bell"))["revision"] == 1
    with pytest.raises(Unavailable):
        await first.ask("patch", "bell", patch={"settings": {"size": 2}})
    replicas.rows.broken = None
    assert (await first.ask("patch", "bell", patch={"settings": {"size": 2}}))["revision"] == 2


async def test_a_read_waits_for_a_revision_of_another_daemon(replicas: Replicas):
    """For one's own write, made through another daemon; and a moment for one that is being made."""
    first, second = await replicas.start(), await replicas.start()
    made = await first.ask("patch", "bell", patch={"settings": {"size": 3}})
    assert (await second.ask("get", "bell", at_least=made["revision"]))["revision"] == made["revision"]
    for operation in ("history", "explain", "instances"):
        await second.ask(operation, "bell", at_least=made["revision"])
    later = asyncio.create_task(second.ask("get", "bell", at_least=made["revision"] + 1))
    await first.ask("patch", "bell", patch={"settings": {"size": 4}})
    assert (await later)["config"]["settings"]["size"] == 4


async def test_a_read_that_waits_finds_what_another_daemon_made_in_its_place(replicas: Replicas):
    """A deletion has a revision, too: whether nothing came after it is looked up."""
    first, second = await replicas.start(), await replicas.start()
    await first.ask("set", "guest", config=valid_config())
    gone = await first.ask("delete", "guest")
    await replicas.catch_up()
    again = await first.ask("set", "guest", config=valid_config())
    found = await second.ask("get", "guest", at_least=gone["revision"])
    assert found["revision"] == again["revision"]


async def test_a_refusal_is_not_confirmed_for_ever(tmp_path: Path, url: str, monkeypatch: Any):
    """By a database that stands still, as when its tables are locked: the requester may ask again."""
    async with contextlib.AsyncExitStack() as stack:
        core = await Replicas(Home(tmp_path, FILES), SharedRows(), stack, url=url).start()
        monkeypatch.setattr("aliciacfg.core.following._CONFIRMED_SECONDS", 0.2)
        other = await asyncpg.connect(url)
        await other.execute("BEGIN; LOCK TABLE aliciacfg.revisions IN ACCESS EXCLUSIVE MODE")
        for ask in (
            lambda: core.ask("get", "nobody"),
            lambda: core.ask("get", "bell", at_least=9),
            lambda: core.ask("patch", "nobody", patch={}),
            lambda: core.ask("patch", "bell", patch={}),
        ):
            with pytest.raises(Unavailable, match="did not answer within"):
                async with asyncio.timeout(40):
                    await ask()
        await other.execute("ROLLBACK")
        await other.close()
        # What is free now may be slow nevertheless.
        monkeypatch.undo()
        with pytest.raises(NotFound):
            await core.ask("patch", "nobody", patch={})


async def test_a_write_is_not_waited_for_without_end(tmp_path: Path, url: str, monkeypatch: Any):
    """While the database stands still: it is not known then whether it will be made, and it is made once."""
    async with contextlib.AsyncExitStack() as stack:
        core = await Replicas(Home(tmp_path, FILES), SharedRows(), stack, url=url).start()
        monkeypatch.setattr("aliciacfg.operations.patience._PATIENCE_SECONDS", 0.2)
        other = await asyncpg.connect(url)
        await other.execute("BEGIN; LOCK TABLE aliciacfg.revisions IN ACCESS EXCLUSIVE MODE")
        following(core)._complete_until -= 10
        for _ in range(2):
            with pytest.raises(Unconfirmed, match="has not answered"):
                await core.ask("patch", "bell", patch={"settings": {"size": 5}}, request_id="1")
        await other.execute("ROLLBACK")
        await other.close()
        monkeypatch.undo()
        found = await core.ask("patch", "bell", patch={"settings": {"size": 5}}, request_id="1")
        assert found["revision"] == (await core.ask("get", "bell"))["revision"] == 2


async def test_one_that_is_cut_off_says_so_soon(tmp_path: Path, url: str, monkeypatch: Any):
    """Once the database has not answered for a while, what needs it waits a short time only; all else goes on."""
    async with contextlib.AsyncExitStack() as stack:
        core = await Replicas(Home(tmp_path, FILES), SharedRows(), stack, url=url).start()
        other = await asyncpg.connect(url)
        await other.execute("BEGIN; LOCK TABLE aliciacfg.revisions IN ACCESS EXCLUSIVE MODE")
        with monkeypatch.context() as shortened:
            shortened.setattr("aliciacfg.core.following._CUT_OFF_SECONDS", 0.05)
            following(core)._complete_until -= 3
            with pytest.raises(Unavailable, match=r"within 0\.05 seconds"):
                await core.ask("get", "nobody")
            assert (await core.ask("get", "bell"))["revision"] == 1
            assert (await core.ask("get", "bell", at_least=1))["revision"] == 1
            # What is only in the database is waited for as long as that answers.
            shortened.setattr("aliciacfg.core.following._CONFIRMED_SECONDS", 0.05)
            for operation, fields in (("get", {"revision": 9}), ("history", {})):
                with pytest.raises(Unavailable, match="cannot be reached"):
                    async with asyncio.timeout(5):
                        await core.ask(operation, "bell", **fields)
        await other.execute("ROLLBACK")
        await other.close()
        await following(core).catch_up()
        with pytest.raises(NotFound):
            await core.ask("get", "nobody")


async def test_a_revision_that_the_database_does_not_have_is_not_waited_for_long(replicas: Replicas):
    """One look at the database is the truth about every write that was answered."""
    core = await replicas.start()
    began = time.monotonic()
    with pytest.raises(NotFound, match="Revision 9 of bell is not here after 1 s"):
        await core.ask("get", "bell", at_least=9)
    assert time.monotonic() - began < 15
    for operation in ("get", "history", "explain", "instances"):
        # Known already: nothing is waited for, not even the database.
        replicas.rows.broken = Unavailable("The database cannot be reached.")
        assert (await core.ask("get", "bell", at_least=1))["revision"] == 1
        with pytest.raises(Unavailable):
            await core.ask(operation, "bell", at_least=2)
        replicas.rows.broken = None


async def test_a_revision_that_nobody_makes_is_not_waited_for_without_end(tmp_path: Path, monkeypatch: Any):
    """On a daemon that serves its home alone, too."""
    monkeypatch.setattr("aliciacfg.operations.reads._REVISION_SECONDS", 0.05)
    async with Home(tmp_path, FILES).core() as core:
        with pytest.raises(NotFound, match="Revision 9 of bell is not here after"):
            await core.ask("get", "bell", at_least=9)
        assert (await core.ask("get", "bell", at_least=1))["revision"] == 1


async def test_what_is_not_found_is_looked_for_in_the_database(replicas: Replicas):
    """A daemon does not say that there is no configuration which another one has just made."""
    first, second = await replicas.start(), await replicas.start()
    await first.ask("set", "guest", config=valid_config())
    assert (await second.ask("get", "guest"))["revision"] == 1
    with pytest.raises(NotFound):
        await second.ask("get", "nobody")
    replicas.rows.broken = Unavailable("The database cannot be reached.")
    with pytest.raises(Unavailable):
        await second.ask("get", "nobody")


async def test_a_memory_that_cannot_be_confirmed_gives_out_no_secrets(tmp_path: Path):
    """The rule that allows it may have been taken away by another daemon; redacted reads go on."""
    access = {"services": {"bell": {"secrets": "plaintext"}}, "admins": ["tester"]}
    async with contextlib.AsyncExitStack() as stack:
        replicas = Replicas(Home(tmp_path, {**FILES, "environments/access.yaml": access}), SharedRows(), stack)
        core = await replicas.start()
        bell = Caller("bell", "local", proven=True, private=True)
        assert "from-the-files" in str(await core.ask_as(bell, "get", "bell"))
        following(core)._clock = lambda: time.monotonic() + 2.5
        with pytest.raises(Unavailable, match="cannot be reached"):
            await core.ask_as(bell, "get", "bell")
        assert "from-the-files" not in str(await core.ask("get", "bell"))


async def test_a_daemon_knows_how_far_its_memory_may_be_behind(replicas: Replicas):
    """Since it began to catch up for the last time; the task that follows does it at each hint."""
    first, second = await replicas.start(), await replicas.start()
    task = asyncio.create_task(following(second).follow_forever())
    await first.ask("patch", "bell", patch={"settings": {"size": 3}})
    replicas.stores[1].shared.hints().set()
    await eventually(lambda: second.parts.state.committed(ConfigId("dev", "bell")).revision == 2)
    assert following(second).commit == replicas.rows.commit
    assert following(second).behind_seconds < 2.0
    task.cancel()
    await asyncio.wait({task})
    replicas.rows.broken = Unavailable("The database cannot be reached.")
    before = following(second).behind_seconds
    with pytest.raises(Unavailable):
        await following(second).catch_up()
    assert following(second).behind_seconds > before


async def test_whoever_waits_for_memory_may_be_cancelled(replicas: Replicas):
    """What it waited for goes on, once."""
    first, second = await replicas.start(), await replicas.start()
    await first.ask("patch", "bell", patch={"settings": {"size": 3}})
    for _ in range(20):
        write = asyncio.create_task(second.ask("patch", "lamp", patch={"settings": {"size": 3}}))
        reader = asyncio.create_task(following(second).catch_up())
        for _ in range(replicas.rows.turns.randrange(12)):
            await asyncio.sleep(0)
        reader.cancel()
        await asyncio.gather(write, reader, return_exceptions=True)
        await first.ask("patch", "bell", patch={"settings": {"size": replicas.rows.commit}})
    await replicas.catch_up()
    assert memory(first) == memory(second)


class Trial:
    """Random operations on two daemons, and what of them was acknowledged."""

    def __init__(self, replicas: Replicas, seed: int) -> None:
        self.replicas = replicas
        self.random = random.Random(seed)
        self.numbers = iter(range(1, 10_000))
        self.acknowledged: list[tuple[str, str, int]] = []
        self.increments = 0
        self.ledger: set[str] = set()
        self.refusals: list[str] = []

    async def one(self, core: Core) -> None:
        """One operation, which may be refused."""
        operations: list[tuple[int, Callable[[Core], Awaitable[object]]]] = [
            (6, self.patch), (2, self.set), (2, self.delete), (3, self.batch), (1, self.activate), (2, self.register),
            (1, self.token), (1, self.recipient), (2, self.reload), (6, self.increment), (6, self.note),
            (1, self.rotate), (2, self.report),
        ]  # fmt: skip
        weights, calls = zip(*operations, strict=True)
        (call,) = self.random.choices(calls, weights)
        try:
            await call(core)
        except (OperationError, SourceError) as error:
            self.refusals.append(f"{getattr(call, '__name__', '')}: {error}")

    def service(self) -> str:
        return self.random.choice(SERVICES)

    def environment(self) -> str:
        return self.random.choice(("dev", "prod"))

    async def patch(self, core: Core) -> None:
        service, environment = self.service(), self.environment()
        patch = {"settings": {self.random.choice("abc"): next(self.numbers), "token": str(next(self.numbers))}}
        answer = await core.ask("patch", service, patch=patch, environment=environment, allow_breaking=True)
        self.acknowledged.append((environment, service, answer["revision"]))

    async def set(self, core: Core) -> None:
        service, environment = self.service(), self.environment()
        config = valid_config(settings={"a": next(self.numbers), "password": "secret"})
        answer = await core.ask("set", service, config=config, environment=environment, allow_breaking=True)
        self.acknowledged.append((environment, service, answer["revision"]))

    async def delete(self, core: Core) -> None:
        await core.ask("delete", self.service(), environment=self.environment(), allow_breaking=True)

    async def batch(self, core: Core) -> None:
        updates = [
            {"service": self.service(), "patch": {"settings": {"b": next(self.numbers)}}}
            for _ in range(self.random.randrange(1, 4))
        ]
        await core.ask("batch", updates=updates, atomic=self.random.random() < 0.5, environment=self.environment())

    async def activate(self, core: Core) -> None:
        await core.ask("activate", self.environment())

    async def register(self, core: Core) -> None:
        await core.parts.service.registrations.register(self.random.choice((*SERVICES, "stranger")))

    async def token(self, core: Core) -> None:
        if self.random.random() < 0.5:
            await core.ask("token_create", name="someone", role="reader")
            return
        for token_id in list(core.parts.service.authorizer.tokens)[:1]:
            await core.ask("token_revoke", token_id=token_id)

    async def recipient(self, core: Core) -> None:
        key = str(PublicKey(bytes(PrivateKey.generate().public_key))) if self.random.random() < 0.7 else None
        await core.ask("recipient", self.service(), public_key=key)

    async def reload(self, core: Core) -> None:
        if self.random.random() < 0.5:
            size = next(self.numbers)
            services = {"bell": {"settings": {"size": size}}, "lamp": {"settings": {"size": size}}}
            self.replicas.home.write("environments/dev.yaml", {"services": services})
        await core.ask("reload")

    async def rotate(self, _core: Core) -> None:
        await self.replicas.cores[0].ask("keys_rotate")

    async def report(self, core: Core) -> None:
        report = AppliedReport(instance="a", revision=1, checksum="", status="applied", error=None)
        await core.parts.service.registrations.applied(self.service(), report)

    async def increment(self, core: Core) -> None:
        """Read, add one, and write only if nobody else did meanwhile."""
        seen = await core.ask("get", "counter", environment="dev")
        number = seen["config"]["settings"]["number"] + 1
        patch = {"settings": {"number": number}}
        await core.ask("patch", "counter", patch=patch, environment="dev", expected_revision=seen["revision"])
        self.increments += 1

    async def note(self, core: Core) -> None:
        name = f"n{next(self.numbers)}"
        await core.ask("patch", "ledger", patch={"settings": {name: 1}}, environment="dev")
        self.ledger.add(name)


async def trial(replicas: Replicas, seed: int, rounds: int) -> Trial:
    """Run operations on both daemons at the same time, and compare what they know with what a fresh start finds."""
    replicas.rows.turns.seed(seed)
    first, second = await replicas.start(), await replicas.start()
    made = Trial(replicas, seed)
    await first.ask("set", "counter", config=valid_config(settings={"number": 0}), environment="dev")
    await first.ask("set", "ledger", config=valid_config(settings={}), environment="dev")
    for _ in range(rounds):
        await asyncio.gather(
            *(made.one(made.random.choice((first, second))) for _ in range(made.random.randrange(1, 9)))
        )
        if made.random.random() < 0.3:
            await following(made.random.choice((first, second))).catch_up()
    for _ in range(2):
        for core in (first, second):
            with contextlib.suppress(OperationError, SourceError):
                await core.ask("reload")
        await replicas.catch_up()
    return made


async def check(made: Trial) -> None:
    """Both memories are what a fresh start finds, and hold every write that was acknowledged."""
    replicas = made.replicas
    first, second = replicas.cores
    for environment, service, revision in made.acknowledged:
        assert await second.parts.store.record(environment, service, revision) is not None
    assert set((await first.config("ledger", environment="dev"))["settings"]) == made.ledger
    assert (await second.config("counter", environment="dev"))["settings"] == {"number": made.increments}
    assert memory(first) == memory(second)
    third = await replicas.start(environment=first.parts.state.active)
    await replicas.catch_up()
    assert memory(third) == memory(first)
    composed = {known for known, entry in third.parts.state.all_heads().items() if entry.live and entry.effective}
    assert {ConfigId("dev", "ledger"), ConfigId("dev", "counter")} <= composed


@pytest.mark.parametrize("seed", [0, *(rarely(seed) for seed in range(1, 100))])
async def test_random_operations_on_two_daemons_with_postgresql(tmp_path: Path, postgres: Postgres, seed: int):
    """The same on a real database, where the two wait for each other's locks."""
    url = await asyncio.to_thread(postgres.create)
    async with contextlib.AsyncExitStack() as stack:
        await check(await trial(Replicas(Home(tmp_path, FILES), SharedRows(), stack, url=url), seed, 15))


@pytest.mark.parametrize("seed", [0, 1, *(rarely(seed) for seed in range(2, 300))])
async def test_random_operations_on_two_daemons(replicas: Replicas, seed: int):
    """Both memories are what a fresh start finds; no acknowledged write is lost; no number is given twice."""
    await check(await trial(replicas, seed, 25))
    assert replicas.rows.twice == []
    assert min(core.parts.state.sequence for core in replicas.cores) >= replicas.rows.position.sequence
