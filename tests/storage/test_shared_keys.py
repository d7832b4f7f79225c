"""The keys of a home on several daemons: in their database, wrapped by a key that is on the machines alone."""

import asyncio
import base64
import contextlib
import json
import shutil
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any

import pytest

from aliciacfg.access.caller import Caller
from aliciacfg.core.following import Following
from aliciacfg.core.state import Entry
from aliciacfg.errors import KeyFileError, Superseded, Unconfirmed
from aliciacfg.model.config_id import ConfigId
from aliciacfg.model.records import StoredState
from aliciacfg.sealing.boxes import DIGEST_KEY_BYTES, Keyring, PrivateKey
from aliciacfg.sealing.key_encryption import FILE_NAME, KeyEncryptionKey
from aliciacfg.sealing.key_file import KeyFile
from aliciacfg.storage.data_directory import KEY_FILE
from aliciacfg.storage.home_keys import load_keys, put_keys, shared_keys_of
from aliciacfg.storage.shared_keys import MOVED
from builders import environment_file
from inprocess import Core, Home
from machine import wait_until
from postgres import Postgres

FILES = {
    "environments/dev.yaml": environment_file({"bell": {}, "lamp": {}}),
    "environments/access.yaml": {"services": {"bell": {"secrets": "plaintext"}}, "admins": ["tester"]},
}
NOW = 1_700_000_000.0


class Machines:
    """Data directories of one home, by name, and the database that they share."""

    def __init__(self, directory: Path, url: str, server: Postgres) -> None:
        self.home = Home(directory, FILES)
        self.directory = directory
        self.url = url
        self.server = server

    def data(self, name: str) -> Path:
        return self.directory / name

    def settings(self, name: str) -> dict[str, str]:
        return {"data_dir": str(self.data(name)), "database_url": self.url}

    def keys(self, name: str) -> KeyFile:
        return load_keys(self.home.settings(**self.settings(name)))

    def copy_key(self, source: str, *names: str) -> None:
        """Do what the first start says."""
        for name in names:
            self.data(name).mkdir(mode=0o700, exist_ok=True)
            shutil.copy2(self.data(source) / FILE_NAME, self.data(name) / FILE_NAME)

    @contextlib.asynccontextmanager
    async def core(self, name: str) -> AsyncGenerator[Core, None]:
        async with self.home.core(**self.settings(name)) as core:
            yield core

    @contextlib.asynccontextmanager
    async def cores(self, *names: str) -> AsyncGenerator[list[Core], None]:
        """Started daemons; the first one makes the keys."""
        async with contextlib.AsyncExitStack() as stack:
            made: list[Core] = []
            for name in names:
                if made:
                    self.copy_key(names[0], name)
                made.append(await stack.enter_async_context(self.core(name)))
            yield made

    async def sql(self, statement: str) -> list[Any]:
        return await asyncio.to_thread(self.server.execute, statement, url=self.url)


@pytest.fixture
async def machines(tmp_path: Path, postgres: Postgres) -> Machines:
    return Machines(tmp_path, await asyncio.to_thread(postgres.create), postgres)


def followed(core: Core) -> Following:
    assert core.parts.following is not None
    return core.parts.following


async def caught_up(core: Core) -> None:
    await followed(core).catch_up()


BELL = Caller("bell", "local", proven=True, private=True)


async def opened(core: Core) -> dict[str, Any]:
    """What the service itself gets."""
    return (await core.ask_as(BELL, "get", "bell"))["config"]


async def password(core: Core) -> str:
    return (await opened(core))["mqtt_config"]["password"]


async def test_the_first_start_makes_the_keys_and_other_machines_need_the_key_encryption_key(machines: Machines):
    """Without it, or with another one, they do not start, and say which file to copy where; with it they are one."""
    async with machines.core("one") as one:
        assert not (machines.data("one") / KEY_FILE).exists()
        current = one.parts.key_rotation.published["key_id"]
        with pytest.raises(KeyFileError, match=rf"two/{FILE_NAME} is missing.* Copy it, with mode 0600, from another"):
            async with machines.core("two"):
                pass
        assert not (machines.data("two") / FILE_NAME).exists()
        other = KeyEncryptionKey.create(machines.data("two") / FILE_NAME)
        with pytest.raises(KeyFileError, match=rf"is the key-encryption key {other.key_id}, .*Copy that one"):
            async with machines.core("two"):
                pass
        machines.copy_key("one", "two")
        async with machines.core("two") as two:
            assert two.parts.key_rotation.published["key_id"] == current
            assert two.parts.session == one.parts.session


async def test_the_database_alone_holds_no_key(machines: Machines):
    """Neither a private key nor the digest key is in a dump of it, in any form that it has elsewhere."""
    async with machines.core("one"):
        keys = machines.keys("one")
        named = await machines.sql("SELECT tablename FROM pg_tables WHERE schemaname = 'aliciacfg'")
        tables = [name for (name,) in named]
        assert "keys" in tables
        dump = "".join([str(await machines.sql(f"SELECT t::text FROM aliciacfg.{name} AS t")) for name in tables])
    written = json.loads(keys.content)
    for text in (written["digest_key"], *(key["private"] for key in written["keys"])):
        for form in (text, base64.b64decode(text).hex()):
            assert form not in dump
    assert (machines.data("one") / FILE_NAME).read_text().strip() not in dump


async def test_two_daemons_that_start_at_once_make_the_keys_once(machines: Machines):
    """On two machines that have the same key-encryption key."""
    machines.data("one").mkdir(mode=0o700)
    KeyEncryptionKey.create(machines.data("one") / FILE_NAME)
    machines.copy_key("one", "two", "three")
    async with contextlib.AsyncExitStack() as stack:
        names = ("one", "two", "three")
        made = await asyncio.gather(*(stack.enter_async_context(machines.core(name)) for name in names))
        assert len({core.parts.session for core in made}) == 1


async def test_a_rotation_on_one_daemon_reaches_the_others(machines: Machines):
    """The next secret that another one seals is sealed with the new key; what the old one sealed opens everywhere."""
    async with machines.cores("one", "two") as (one, two):
        await one.ask("keys_rotate")
        fresh = one.parts.key_rotation.published["key_id"]
        await caught_up(two)
        assert two.parts.key_rotation.published["key_id"] == fresh
        await two.ask("patch", "bell", patch={"mqtt_config": {"password": "from-two"}})
        await caught_up(one)
        assert [await password(core) for core in (one, two)] == ["from-two", "from-two"]
        shown = {item["key_id"]: item for item in (await two.ask("keys_show"))["keys"]}
        assert shown[fresh]["current"]
        assert shown[fresh]["in_use"]
        # And it may be removed by the other one, once nothing needs it.
        (old,) = shown.keys() - {fresh}
        await two.ask("keys_remove", key_id=old)
        await caught_up(one)
        assert [item["key_id"] for item in (await one.ask("keys_show"))["keys"]] == [fresh]
        assert await password(one) == "from-two"


async def test_rotations_on_all_daemons_under_load_lose_nothing(machines: Machines):
    """Each daemon rotates while each writes secrets: every acknowledged one opens everywhere, the chain is whole."""
    async with machines.cores("one", "two", "three") as cores:
        stop = asyncio.Event()
        acknowledged: dict[str, str] = {}

        async def write(number: int, core: Core) -> None:
            for count in range(1000):
                if stop.is_set():
                    return
                value = f"{number}-{count}"
                with contextlib.suppress(Superseded):
                    await confirmed(core, f"password_{number}", value)
                    acknowledged[f"password_{number}"] = value

        async def confirmed(core: Core, name: str, value: str) -> None:
            """Write a secret; as a program does, again with the same request id if a busy server did not confirm it."""
            while True:
                with contextlib.suppress(Unconfirmed):
                    await core.ask("patch", "bell", patch={"settings": {name: value}}, request_id=value)
                    return

        async def follow(core: Core) -> None:
            while not stop.is_set():
                await caught_up(core)
                # Leaves the processor to those who write and rotate.
                await asyncio.sleep(0.01)

        tasks = [asyncio.create_task(write(number, core)) for number, core in enumerate(cores)]
        tasks += [asyncio.create_task(follow(core)) for core in cores]
        try:
            for core in cores:
                await core.ask("keys_rotate")
        finally:
            stop.set()
            await asyncio.gather(*tasks)
        held = {item.key.public.key_id for item in machines.keys("one").held}
        assert len(held) == 4
        for core in cores:
            await caught_up(core)
            assert {item["key_id"] for item in (await core.ask("keys_show"))["keys"]} == held
            assert (await opened(core))["settings"] == acknowledged
        assert len({core.parts.key_rotation.published["key_id"] for core in cores}) == 1
        assert (await cores[0].parts.store.verify()).broken == []


async def _overtaken_in_rotation(
    one: Core, two: Core, monkeypatch: pytest.MonkeyPatch, *, noticed: bool
) -> list[asyncio.Task[Any]]:
    """Have another daemon write while a rotation reads what is stored, and then this one.

    Returns:
        The write of this daemon, once the rotation has begun to read.
    """
    await two.ask("patch", "bell", patch={"settings": {"volume": 1}})
    await caught_up(one)
    load_since, next_ones = one.parts.store.load_since, list[asyncio.Task[Any]]()

    async def overtaken(commit: int) -> StoredState:
        if not next_ones:
            await two.ask("patch", "bell", patch={"settings": {"volume": 2}})
            if noticed:
                await caught_up(one)
            next_ones.append(asyncio.create_task(one.ask("patch", "bell", patch={"settings": {"bass": 3}})))
        return await load_since(commit)

    monkeypatch.setattr(one.parts.store, "load_since", overtaken)
    return next_ones


async def test_a_rotation_takes_no_change_of_another_daemon_back(machines: Machines, monkeypatch: pytest.MonkeyPatch):
    """One that memory learns of while the rotation reads what is stored: what is written next builds on it."""
    async with machines.cores("one", "two") as (one, two):
        next_ones = await _overtaken_in_rotation(one, two, monkeypatch, noticed=True)
        await one.ask("keys_rotate")
        await next_ones[0]
        await caught_up(two)
        for core in (one, two):
            assert (await opened(core))["settings"] == {"volume": 2, "bass": 3}


async def test_a_write_behind_a_rotation_that_another_daemon_overtakes_is_not_refused(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
):
    """The rotation reads what is newer than memory, and composed nowhere here: nothing is planned on that."""
    async with machines.cores("one", "two") as (one, two):
        next_ones = await _overtaken_in_rotation(one, two, monkeypatch, noticed=False)
        state, commit = one.parts.state, one.parts.state.commit
        composed: list[bool] = []

        def noted(entries: Mapping[ConfigId, Entry]) -> None:
            commit(entries)
            composed.append(state.committed(ConfigId("dev", "bell")).effective is not None)

        monkeypatch.setattr(state, "commit", noted)
        await one.ask("keys_rotate")
        await next_ones[0]
        assert all(composed)
        await caught_up(two)
        for core in (one, two):
            assert (await opened(core))["settings"] == {"volume": 2, "bass": 3}


async def test_a_key_that_is_added_opens_values_everywhere(machines: Machines):
    """A change at run time that opened on no daemon counts again on all of them."""
    async with machines.core("one") as one:
        await one.ask("patch", "bell", patch={"mqtt_config": {"password": "once-lost"}})
    lost = machines.keys("one")
    (key,) = lost.held
    lost.rotate(now=NOW)
    lost.remove(key.key.public.key_id, still_sealed=False)
    async with machines.cores("one", "two") as (one, two):
        for core in (one, two):
            assert core.parts.state.committed(ConfigId("dev", "bell")).undecryptable
        await one.ask("keys_add", private_key=key.key.reveal())
        await caught_up(two)
        assert [await password(core) for core in (one, two)] == ["once-lost", "once-lost"]


async def test_a_key_file_beside_is_taken_in_once_and_kept_aside(machines: Machines):
    """A home whose daemons had keys.json goes on with its keys; of several copies the later ones change nothing."""
    for name in ("one", "two"):
        machines.data(name).mkdir(mode=0o700)
    before = KeyFile.create(machines.data("one") / KEY_FILE, now=NOW)
    shutil.copy2(machines.data("one") / KEY_FILE, machines.data("two") / KEY_FILE)
    newer = KeyFile.load(machines.data("two") / KEY_FILE).rotate(now=NOW + 1)
    async with machines.core("one") as one:
        assert one.parts.key_rotation.published["key_id"] == before.current
        assert not (machines.data("one") / KEY_FILE).exists()
        assert KeyFile.load(machines.data("one") / MOVED).current == before.current
        machines.copy_key("one", "two")
        async with machines.core("two") as two:
            assert two.parts.key_rotation.published["key_id"] == before.current
            # What only the copy had, values may be sealed with.
            assert {item["key_id"] for item in (await two.ask("keys_show"))["keys"]} == {before.current, newer}


async def test_the_key_file_of_another_home_is_not_taken_in(machines: Machines):
    """The daemon does not start, and nothing changes."""
    async with machines.core("one"):
        machines.copy_key("one", "two")
        KeyFile.create(machines.data("two") / KEY_FILE, now=NOW)
        before = machines.keys("one").content
        with pytest.raises(KeyFileError, match=r"Nothing was changed\. Move the file away"):
            async with machines.core("two"):
                pass
        assert (machines.data("two") / KEY_FILE).exists()
        assert machines.keys("one").content == before


async def test_keys_are_not_made_for_rows_of_others(machines: Machines):
    """A database whose keys somebody removed gets them back from a backup, not new ones."""
    async with machines.core("one"):
        content = machines.keys("one").content
    await machines.sql("DELETE FROM aliciacfg.keys RETURNING one")
    with pytest.raises(KeyFileError, match="has rows, but not the keys that wrote them"):
        async with machines.core("one"):
            pass
    put_keys(machines.home.settings(**machines.settings("one")), content, source="keys.json")
    async with machines.core("one"):
        assert machines.keys("one").content == content


async def test_a_row_that_somebody_changed_does_not_open(machines: Machines):
    """The daemon does not start on keys that another program wrote."""
    async with machines.core("one"):
        pass
    await machines.sql("UPDATE aliciacfg.keys SET home = 'fedcba9876543210' RETURNING one")
    with pytest.raises(KeyFileError, match="were changed by another program"):
        async with machines.core("one"):
            pass


async def test_daemons_go_on_after_a_rewrap_and_read_keys_again_with_the_new_file(machines: Machines):
    """Until the new file is there, the keys before serve and an alert says so; nothing else has to be done."""
    async with machines.cores("one", "two") as (one, two):
        shared = shared_keys_of(machines.home.settings(**machines.settings("one")))
        assert shared is not None
        new = KeyEncryptionKey.create(machines.directory / "new.key")
        await asyncio.to_thread(shared.rewrap, new)
        await caught_up(two)
        assert "keys_outdated" in two.standing
        await two.ask("patch", "bell", patch={"mqtt_config": {"password": "after"}})
        assert await password(two) == "after"
        for name in ("one", "two"):
            shutil.copy2(machines.directory / "new.key", machines.data(name) / FILE_NAME)
        follows = asyncio.create_task(followed(two).follow_forever())
        await asyncio.to_thread(wait_until, lambda: "keys_outdated" not in two.standing)
        follows.cancel()
        await one.ask("keys_rotate")
        await caught_up(two)
        assert "keys_outdated" not in two.standing
        assert two.parts.key_rotation.published == one.parts.key_rotation.published


async def row(machines: Machines) -> tuple[Any, ...]:
    ((*found,),) = await machines.sql("SELECT content, home, key_id, generation FROM aliciacfg.keys")
    return tuple(found)


async def put_back(machines: Machines, earlier: tuple[Any, ...]) -> None:
    """Do what somebody does who can write to the database and has no key."""
    content, home, key_id, generation = earlier
    await machines.sql(
        f"UPDATE aliciacfg.keys SET content = decode('{content.hex()}', 'hex'), home = '{home}', key_id = '{key_id}',"
        f" generation = {generation} RETURNING 1"
    )


async def test_keys_that_somebody_put_back_are_refused(machines: Machines):
    """By a start, and by a daemon that runs, which says so and goes on with those that it has."""
    async with machines.cores("one", "two") as (one, two):
        earlier = await row(machines)
        await one.ask("keys_rotate")
        await caught_up(two)
        assert (await row(machines))[3] > earlier[3]
        await put_back(machines, earlier)
        current = two.parts.key_rotation.published["key_id"]
        assert not await followed(two)._changes._reload_keys()
        assert "are those of an earlier time" in two.parts.alerts.active["keys_outdated"]
        assert two.parts.key_rotation.published["key_id"] == current
    refused = r"those of an earlier time \(generation \d+, after \d+\): .*`aliciacfg keys accept`"
    for name in ("one", "two"):
        with pytest.raises(KeyFileError, match=refused):
            async with machines.core(name):
                pass
        with pytest.raises(KeyFileError, match=refused):
            await asyncio.to_thread(machines.keys, name)
    assert await row(machines) == earlier
    # A generation that the wrapping does not confirm is no way out.
    await put_back(machines, (*earlier[:3], earlier[3] + 1000))
    with pytest.raises(KeyFileError, match="changed by another program"):
        async with machines.core("one"):
            pass


async def test_a_daemon_that_runs_writes_its_keys_back(machines: Machines):
    """With its next change of them; then all others start, and nothing of the earlier ones is left."""
    async with machines.cores("one", "two") as (one, two):
        earlier = await row(machines)
        await one.ask("keys_rotate")
        await put_back(machines, earlier)
        await one.ask("keys_rotate")
        await caught_up(two)
        assert two.parts.key_rotation.published["key_id"] == one.parts.key_rotation.published["key_id"]
    async with machines.core("two") as again:
        assert again.parts.key_rotation.published["key_id"] == one.parts.key_rotation.published["key_id"]


async def test_keys_that_were_put_back_on_purpose_are_accepted(machines: Machines):
    """One command for all machines; without need it changes nothing."""
    async with machines.cores("one", "two") as (one, _):
        earlier = await row(machines)
        before = one.parts.key_rotation.published["key_id"]
        await one.ask("keys_rotate")
    await put_back(machines, earlier)
    shared = shared_keys_of(machines.home.settings(**machines.settings("one")))
    assert shared is not None
    assert await asyncio.to_thread(shared.accept)
    assert not await asyncio.to_thread(shared.accept)
    for name in ("one", "two"):
        async with machines.core(name) as core:
            assert core.parts.key_rotation.published["key_id"] == before


async def test_keys_of_a_database_that_went_back_as_a_whole_are_taken(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
):
    """The raised epoch and its alert tell that; the other machines take them as well."""
    async with machines.cores("one", "two") as (one, two):
        earlier, before = await row(machines), one.parts.key_rotation.published["key_id"]
        tables = ("home", "meta", "revisions", "audit", "outbox", "overlays", "told")
        for table in tables:
            await machines.sql(f"CREATE TABLE {table}_before AS SELECT * FROM aliciacfg.{table}")
        await one.ask("keys_rotate")
        await one.ask("patch", "bell", patch={"settings": {"volume": 5}})
        await caught_up(two)
    await put_back(machines, earlier)
    for table in tables:
        await machines.sql(f"WITH gone AS (DELETE FROM aliciacfg.{table} RETURNING 1) SELECT count(*) FROM gone")
        await machines.sql(
            f"WITH put AS (INSERT INTO aliciacfg.{table} SELECT * FROM {table}_before RETURNING 1) SELECT 1 FROM put"
        )
    monkeypatch.setattr("time.time", lambda: NOW)
    for name in ("one", "two"):
        async with machines.core(name) as core:
            assert core.parts.key_rotation.published["key_id"] == before
            assert core.parts.state.epoch > 1
    assert (await row(machines))[3] > earlier[3]


async def test_secrets_of_files_open_everywhere_when_one_daemon_gets_their_key(machines: Machines):
    """Also those of the daemons that learn of it, within seconds; and the alert about them ends there, too."""
    lost = PrivateKey.generate()
    keyring = Keyring(current=lost.public.key_id, keys=[lost], digest_key=bytes(DIGEST_KEY_BYTES))
    sealed = keyring.seal("planted", service="bell", environment="dev", pointer="/mqtt_config/password")
    services = {"bell": {"mqtt_config": {"password": sealed}}, "lamp": {}}
    machines.home.write("environments/dev.yaml", environment_file(services))
    async with machines.cores("one", "two") as cores:
        assert all("undecryptable:dev" in core.standing for core in cores)
        one, two = cores
        follows = asyncio.create_task(followed(two).follow_forever())
        await one.ask("keys_add", private_key=lost.reveal())
        await asyncio.to_thread(wait_until, lambda: "undecryptable:dev" not in two.standing)
        follows.cancel()
        assert [await password(core) for core in cores] == ["planted", "planted"]
        assert not one.standing
