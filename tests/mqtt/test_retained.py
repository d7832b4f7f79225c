"""What the broker holds is kept right, and whoever follows it ends with what ``get`` says, whatever happened before."""

import asyncio
import contextlib
import json
import random
import shutil
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aliciacfg.bootstrap.offline import run_offline
from aliciacfg.errors import NotFound, OperationError, Unavailable
from aliciacfg.model.records import Announcement, StoredState, Write
from aliciacfg.mqtt import topics
from aliciacfg.mqtt.pace import Pace
from aliciacfg.sealing.boxes import PrivateKey
from aliciacfg.sealing.key_file import KeyFile
from aliciacfg.storage.hash_chain import Chain
from aliciacfg.storage.sqlite import queries
from aliciacfg.storage.sqlite.maintenance import connect
from aliciacfg.storage.sqlite.store import SqliteStore
from builders import environment_file, valid_config
from homebus import HomeBus
from inprocess import Core, Home, eventually
from soak import each_in_turn, rarely
from stored_rows import tamper, written

SERVICES = ("bell", "lamp")
GUEST = "guest"
"""A service that no file defines."""
BELL = topics.UPDATE + "bell"
MAX_NUMBER = 2**53 - 1


def home_in(directory: Path) -> Home:
    """Two environments with two services, each of which has a secret."""
    files = {
        f"environments/{name}.yaml": environment_file({service: {"settings": {"size": 1}} for service in SERVICES})
        for name in ("dev", "prod")
    }
    return Home(directory, files)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return home_in(tmp_path)


@pytest.fixture
def bus() -> HomeBus:
    return HomeBus()


class Copy:
    """A copy of a data directory while no daemon runs."""

    def __init__(self, home: Home, directory: Path) -> None:
        self._data = home.database.parent
        self._directory = directory
        shutil.copytree(self._data, directory, ignore=shutil.ignore_patterns("*.sock"))

    def restore(self, *, everything: bool = False) -> None:
        """Put it back: the database only, or all that is in the directory."""
        for path in self._data.glob("*.db*" if not everything else "*"):
            path.unlink()
        for path in self._directory.glob("*.db*" if not everything else "*"):
            shutil.copy(path, self._data)


async def change(core: Core, size: int, service: str = "bell") -> Any:
    return await core.ask("patch", service, patch={"settings": {"size": size}})


async def set_guest(core: Core, size: int) -> Any:
    return await core.ask("set", GUEST, config=valid_config(settings={"size": size}))


async def told(core: Core, service: str = "bell") -> dict[str, Any]:
    """The members of ``get`` that an update has too."""
    found = await core.ask("get", service)
    names = ("service", "environment", "version", "revision", "sequence", "epoch", "checksum", "config")
    return {name: found[name] for name in names}


async def check(core: Core, bus: HomeBus) -> None:
    """Whoever follows the bus holds what ``get`` says, and so does the broker."""
    for service in SERVICES:
        right = await told(core, service)
        for held in (bus.reader(service).held, bus.message(service)):
            assert held is not None
            assert {name: held[name] for name in right} == right
    try:
        right = await told(core, GUEST)
    except NotFound:
        assert topics.UPDATE + GUEST not in bus.kept
        assert bus.reader(GUEST).held is None
    else:
        held = bus.reader(GUEST).held
        assert held is not None
        assert {name: held[name] for name in right} == right
    for topic in (topics.ENVIRONMENT, topics.KEY):
        assert bus.readers[topic].held == json.loads(bus.kept[topic])
    assert bus.readers[topics.ENVIRONMENT].held["environment"] == core.parts.state.active  # pyright: ignore[reportOptionalSubscript]


def alerts(core: Core, kind: str) -> int:
    return sum(alert.kind == kind for alert in core.heard)


async def test_a_restored_database_is_noticed_at_the_start_and_followed(home: Home, bus: HomeBus, tmp_path: Path):
    """Readers at revision 6 follow the database that is at 3, told once, without a tamper alert; numbers go on."""
    async with home.core() as core, bus.connected(core):
        await change(core, 2)
        await change(core, 3)
    copy = Copy(home, tmp_path / "copy")
    async with home.core() as core, bus.connected(core):
        for size in (4, 5, 6):
            await change(core, size)
    assert bus.message("bell")["revision"] == 6
    lost = bus.reader("bell").position
    copy.restore()
    async with home.core() as core:
        assert alerts(core, "restored") == 1
        async with bus.connected(core):
            pass
        await check(core, bus)
        assert (bus.message("bell")["config"]["settings"]["size"], bus.message("bell")["epoch"]) == (3, 2)
        assert bus.reader("bell").position > lost
        assert (alerts(core, "restored"), alerts(core, "tamper"), core.standing) == (1, 0, {})
        history = (await core.ask("history", "bell"))["revisions"]
        assert [(item["revision"], item["cause"]) for item in history[:2]] == [(7, "restore"), (3, "api")]
        assert [entry["detail"] for entry in (await core.ask("audit"))["entries"] if entry["operation"] == "restore"]
        assert (await change(core, 9))["revision"] == 8
    async with home.core() as core, bus.connected(core):
        assert alerts(core, "restored") == 0
        assert (await told(core))["epoch"] == 2


async def test_a_restored_data_directory_is_noticed_at_the_connect(home: Home, bus: HomeBus, tmp_path: Path):
    """The witness went back as well; what the broker holds shows it, also after writes that were made before."""
    async with home.core() as core, bus.connected(core):
        await change(core, 2)
    copy = Copy(home, tmp_path / "copy")
    for early in range(4):
        async with home.core() as core, bus.connected(core):
            for size in range(3):
                await change(core, 10 * early + size)
        before = bus.reader("bell").position[0]
        copy.restore(everything=True)
        async with home.core() as core:
            assert alerts(core, "restored") == 0
            for size in range(early):
                await change(core, 100 + size)
            async with bus.connected(core):
                pass
            await check(core, bus)
            assert bus.reader("bell").position[0] > before
            assert (alerts(core, "restored"), alerts(core, "tamper"), core.standing) == (1, 0, {})


async def test_without_the_brokers_memory_the_witness_tells(home: Home, bus: HomeBus, tmp_path: Path):
    """The broker was wiped, and the readers still hold what it had."""
    async with home.core() as core, bus.connected(core):
        pass
    copy = Copy(home, tmp_path / "copy")
    async with home.core() as core, bus.connected(core):
        await change(core, 2)
    copy.restore()
    bus.kept.clear()
    async with home.core() as core:
        async with bus.connected(core):
            pass
        await check(core, bus)
        assert alerts(core, "restored") == 1


async def test_a_command_without_a_daemon_notices_the_restore_too(home: Home, bus: HomeBus, tmp_path: Path):
    """What it writes would otherwise replace the witness."""
    async with home.core() as core, bus.connected(core):
        pass
    copy = Copy(home, tmp_path / "copy")
    async with home.core() as core, bus.connected(core):
        await change(core, 2)
    copy.restore()
    bus.kept.clear()
    for _ in range(3):
        await run_offline(home.settings(), "recipient", "bell", {"public_key": None}, user="mario")
    async with home.core() as core:
        async with bus.connected(core):
            pass
        await check(core, bus)
        assert (await told(core))["epoch"] == 2


async def test_a_service_that_the_backup_does_not_know_is_cleared_and_its_numbers_are_not_used_again(
    home: Home, bus: HomeBus, tmp_path: Path
):
    """What was published of it is ours, so it is no tampering; brought back, it goes on above its old revision."""
    async with home.core() as core, bus.connected(core):
        pass
    copy = Copy(home, tmp_path / "copy")
    async with home.core() as core, bus.connected(core):
        for size in (1, 2, 3):
            await set_guest(core, size)
    lost = bus.reader("guest").position
    copy.restore(everything=True)
    async with home.core() as core, bus.connected(core):
        await bus.settled(core)
        assert topics.UPDATE + "guest" not in bus.kept
        assert bus.reader("guest").held is None
        assert (await set_guest(core, 4))["revision"] == 5
        await bus.settled(core)
        assert bus.reader("guest").position > lost
        assert (alerts(core, "restored"), alerts(core, "tamper")) == (1, 0)


async def test_an_old_message_that_the_broker_brings_back_is_overwritten_quietly(home: Home, bus: HomeBus):
    """Ours is ours, however old, at a connect and live: of a service that exists, and of one that was deleted."""
    async with home.core() as core, bus.connected(core):
        await set_guest(core, 1)
        await bus.settled(core)
        old = dict(bus.kept)
        await core.ask("delete", "guest")
        await change(core, 2)
        await core.ask("activate", "prod")
        await core.ask("activate", "dev")
    for away in (True, False):
        async with home.core() as core:
            if away:
                bus.kept |= old
            async with bus.connected(core):
                await bus.settled(core)
                for topic, payload in old.items() if not away else ():
                    bus.publish(topic, payload)
                await bus.settled(core)
            await check(core, bus)
            assert topics.UPDATE + "guest" not in bus.kept
            assert (alerts(core, "restored"), alerts(core, "tamper")) == (0, 0)
            assert await core.drift("retained") == []


def forgeries(right: bytes) -> dict[str, bytes]:
    """Messages of another program in the place of a right one, by what they try."""
    message = json.loads(right)

    def changed(**members: Any) -> bytes:
        return json.dumps({**message, **members}).encode()

    return {
        "higher sequence": changed(sequence=message["sequence"] + 1),
        "far higher sequence": changed(sequence=MAX_NUMBER),
        "higher epoch": changed(epoch=message["epoch"] + 1, sequence=1),
        "far higher epoch": changed(epoch=message["epoch"] + 10**6),
        "the highest of all": changed(epoch=MAX_NUMBER, sequence=MAX_NUMBER),
        "no valid number": changed(epoch=MAX_NUMBER + 1, sequence=2**63),
        "the same place": changed(revision=99),
        "lower": changed(sequence=0),
        "a deep one": changed(config=None)[:-1] + b',"deep":' + b"[" * 2000 + b"]" * 2000 + b"}",
        "a deep one with a higher epoch": b'{"epoch":%d,"sequence":1,"a":%s}' % (
            message["epoch"] + 3, b"[" * 900 + b"]" * 900
        ),
        "twice": changed(epoch=message["epoch"] + 5)[:-1] + b',"epoch":1}',
        "bad UTF-8": right.replace(b"bell", b"b\xffll", 1) if b"bell" in right else b'{"environment":"\xff"}',
        "nothing": b"",
        "no JSON": b"\x00\xff{",
        "a number": b"7",
        "no object": b"[1,2]",
        "one byte more": right + b" ",
        "another topic's": b"%s" % right.replace(b'"message_id":"', b'"message_id": "', 1),
        "large": b'{"epoch":1,"sequence":1,"pad":"' + b"x" * 200_000 + b'"}',
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "away_first"), each_in_turn(forgeries(b'{"epoch":1,"sequence":1,"config":{}}'), [False, True])
)
async def test_a_forged_message_is_told_and_readers_are_brought_back(
    home: Home, bus: HomeBus, kind: str, away_first: bool
):
    """On every retained topic, live or while the daemon is away: readers end with the right one, drift ends."""
    async with home.core() as core, bus.connected(core):
        pass
    for number, topic in enumerate((BELL, topics.ENVIRONMENT, topics.KEY)):
        away = away_first == (number % 2 == 0)
        forged = forgeries(bus.kept[topic])[kind]
        async with home.core() as core:
            if away:
                bus.publish(topic, forged)
            async with bus.connected(core):
                if not away:
                    bus.publish(topic, forged)
                await bus.settled(core)
            await check(core, bus)
            if forged or not away:
                (alert,) = [alert for alert in core.heard if alert.kind == "tamper"]
                assert topic in alert.message
                assert any(kind == "retained" for kind, _ in core.parts.drift.found.items())
            assert alerts(core, "restored") == 0
            assert await core.drift("retained") == []


@pytest.mark.parametrize(
    ("rest", "cleared"),
    [
        ("ghost", True),
        ("no service can have this name", True),
        ("#x", True),
        ("a/b", True),
        ("", True),
        ("x" * 5000, True),
        ("/".join("x" * 150), True),
        ("/".join("x" * 2000), False),
        ("bell\x07", False),
        ("bell\ufffe", False),
    ],
)
async def test_a_message_for_no_service_is_told_and_cleared(home: Home, bus: HomeBus, rest: str, cleared: bool):
    """Retained while the daemon was away, or published live; a topic where brokers disconnect publishers is left."""
    topic = topics.UPDATE + rest
    for away in (True, False):
        async with home.core() as core:
            if away:
                bus.publish(topic, b"\xff")
            async with bus.connected(core):
                if not away:
                    bus.publish(topic, b"{}")
                await bus.settled(core)
            assert (topic in bus.kept) is not cleared
            assert alerts(core, "tamper") == 1
            assert len(await core.drift("retained")) == (not cleared)
            bus.kept.pop(topic, None)


async def test_a_forged_message_moves_the_numbers_by_a_bounded_step(home: Home, bus: HomeBus):
    """No forger exhausts the epoch: 2^20 at a time at most, and beyond that readers are made to forget."""
    async with home.core() as core, bus.connected(core):
        await bus.settled(core)
        for epoch in (2**20, 2**21, 2**40, MAX_NUMBER, MAX_NUMBER):
            message = json.loads(bus.kept[BELL])
            bus.publish(BELL, json.dumps({**message, "epoch": epoch, "config": {}}).encode())
            assert bus.reader("bell").position[0] == epoch
            await bus.settled(core)
            await check(core, bus)
        assert (await told(core))["epoch"] == 2**21 + 1


async def test_a_recipients_key_that_is_set_later_reaches_whoever_follows(home: Home, bus: HomeBus):
    """A subscriber that held ``***`` applies the sealed secret of the same revision, in either environment."""
    async with home.core() as core, bus.connected(core):
        await bus.settled(core)
        before, other = await told(core), await core.ask("get", "bell", environment="prod")
        assert before["config"]["mqtt_config"]["password"] == "***"
        await core.ask("recipient", "bell", public_key=str(PrivateKey.generate().public))
        await bus.settled(core)
        await check(core, bus)
        after = await told(core)
        assert after["config"]["mqtt_config"]["password"].startswith("sealed:")
        assert (after["revision"], after["epoch"]) == (before["revision"], before["epoch"])
        assert after["sequence"] > before["sequence"]
        assert (await core.ask("get", "bell", environment="prod"))["sequence"] > other["sequence"]
        await core.ask("recipient", "bell", public_key=None)
        await bus.settled(core)
        await check(core, bus)
        kept = await told(core)
    async with home.core() as core, bus.connected(core):
        await bus.settled(core)
        assert await told(core) == kept


async def test_a_key_that_is_added_later_reaches_whoever_follows(home: Home, bus: HomeBus):
    """Secrets that did not open are ``***``; when they open again, that is told with a new sequence."""
    recipient = str(PrivateKey.generate().public)
    async with home.core() as core, bus.connected(core):
        await core.ask("recipient", "bell", public_key=recipient)
        for environment in ("dev", "prod"):
            patch = {"mqtt_config": {"password": "set-at-run-time"}}
            await core.ask("patch", "bell", patch=patch, environment=environment)
    file = KeyFile.load(home.keys)
    (lost,) = file.held
    file.rotate(now=1.0)
    file.remove(lost.key.public.key_id, still_sealed=False)
    async with home.core() as core, bus.connected(core):
        await bus.settled(core)
        await check(core, bus)
        closed, other = await told(core), await core.ask("get", "bell", environment="prod")
        assert closed["config"]["mqtt_config"]["password"] == "***"
        await core.ask("keys_add", private_key=lost.key.reveal())
        await bus.settled(core)
        await check(core, bus)
        opened, other_opened = await told(core), await core.ask("get", "bell", environment="prod")
        assert opened["config"]["mqtt_config"]["password"].startswith("sealed:")
        assert opened["sequence"] > closed["sequence"]
        assert other_opened["sequence"] > other["sequence"]


async def test_a_value_that_becomes_a_secret_is_told_with_a_new_sequence(home: Home, bus: HomeBus):
    """A reader that holds it in plain text applies the message that shows ``***``, at the same revision."""
    async with home.core() as core, bus.connected(core):
        await core.ask("patch", "bell", patch={"settings": {"pin": "1234"}})
        await bus.settled(core)
        before = await told(core)
        sensitive = {"properties": {"pin": {"type": "string", "x-sensitive": True}}}
        core.write("schemas/bell.yaml", {"properties": {"settings": sensitive}})
        await core.ask("reload")
        await bus.settled(core)
        await check(core, bus)
        after = await told(core)
        assert after["config"]["settings"]["pin"] == "***"
        assert after["sequence"] > before["sequence"]


async def test_no_sequence_is_given_twice(home: Home):
    """Over restarts, dry runs, refused writes and failed commits; each change of the home has one of its own."""
    seen: list[int] = []
    for _ in range(2):
        async with home.core() as core:
            for size in (4, 5, 6):
                present = (await told(core))["sequence"]
                dry = await core.ask("patch", "bell", patch={"settings": {"size": 77}}, dry_run=True)
                assert dry["sequence"] == present
                answers = [await change(core, size), await change(core, size, "lamp")]
                batch = [{"service": "bell", "patch": {"settings": {"n": size * n}}} for n in (10, 20)]
                answers += (await core.ask("batch", updates=batch))["results"]
                answers += [await core.ask("rollback", "bell", revision=1), await set_guest(core, size)]
                answers.append(await core.ask("delete", GUEST))
                numbers = [answer["sequence"] for answer in answers if not answer.get("unchanged")]
                assert all(one < two for one, two in pairwise([present, *numbers]))
                assert (await told(core))["sequence"] == answers[4]["sequence"]
                seen += numbers
    assert len(set(seen)) == len(seen)


async def test_every_service_of_an_environment_that_becomes_active_gets_a_new_sequence(home: Home, bus: HomeBus):
    """There and back again: whoever follows a topic follows the home, with the revisions of either environment."""
    async with home.core() as core, bus.connected(core):
        await change(core, 7)
        for name in ("prod", "dev", "prod"):
            before = {service: await told(core, service) for service in SERVICES}
            await core.ask("activate", name)
            await bus.settled(core)
            await check(core, bus)
            for service in SERVICES:
                assert (await told(core, service))["sequence"] > before[service]["sequence"]


async def test_readers_are_not_disturbed_when_the_keys_are_lost(home: Home, bus: HomeBus):
    """What the daemon published with the lost keys is known by its bytes, and is signed again in its place."""
    async with home.core() as core, bus.connected(core):
        # So that it cannot be composed, and its revision stays, without its key.
        await core.ask("patch", "bell", patch={"mqtt_config": {"password": "of-the-lost-key"}})
        before, kept = await told(core), bus.kept[BELL]
    applied = bus.reader("bell").applied
    home.keys.unlink()
    for _ in range(2):
        async with home.core() as core:
            async with bus.connected(core):
                pass
            assert (alerts(core, "tamper"), alerts(core, "restored")) == (0, 0)
            assert await told(core) == before
            assert bus.kept[BELL] != kept
    assert bus.reader("bell").applied == applied


async def test_a_store_that_cannot_write_keeps_the_brokers_memory_until_it_can(
    home: Home, bus: HomeBus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """What shows that the database went back is not overwritten before the new epoch is durable."""
    async with home.core() as core, bus.connected(core):
        pass
    copy = Copy(home, tmp_path / "copy")
    async with home.core() as core, bus.connected(core):
        await change(core, 2)
    kept = dict(bus.kept)
    copy.restore(everything=True)
    monkeypatch.setattr("aliciacfg.mqtt.retained._ORDER_RETRY_SECONDS", 0.01)
    async with home.core() as core:
        catch_up = core.parts.order.catch_up
        refused = 0

        async def full_disk() -> None:
            nonlocal refused
            refused += 1
            assert bus.kept == kept
            if refused < 4:
                raise Unavailable("The disk is full.")
            await catch_up()

        monkeypatch.setattr(core.parts.order, "catch_up", full_disk)
        async with bus.connected(core):
            await eventually(lambda: refused >= 4)
        await check(core, bus)


@pytest.mark.parametrize("damaged", [False, True])
async def test_a_store_that_lacks_announcements_and_cannot_be_written_takes_no_message_from_services(
    home: Home, bus: HomeBus, monkeypatch: pytest.MonkeyPatch, *, damaged: bool
):
    """The messages of configurations that exist, or may exist behind a damaged page, stay with the broker."""
    async with home.core() as core, bus.connected(core):
        pass
    kept = dict(bus.kept)
    load = SqliteStore.load

    async def load_in_part(store: SqliteStore) -> StoredState:
        state = await load(store)
        found = [record for record in state.records if not damaged or record.service != "lamp"]
        return msgspec.structs.replace(state, announcements=[], records=found, incomplete=damaged)

    async def full_disk(*_: object) -> None:
        raise Unavailable("The disk is full.")

    monkeypatch.setattr(SqliteStore, "load", load_in_part)
    monkeypatch.setattr(SqliteStore, "commit", full_disk)
    async with home.core() as core, bus.connected(core):
        pass
    assert bus.kept == kept


def as_before_positions(home: Home, kept: dict[str, bytes]) -> dict[str, bytes]:
    """Give a database the form that it had before there were positions; return what its daemon left at the broker."""
    chain = Chain(KeyFile.load(home.keys).make_keyring())
    with contextlib.closing(connect(home.database)) as connection:
        state = queries.load(connection, chain)
        rows = [row for service in SERVICES for row in queries.revision_rows(connection, service)]
        found = [queries.revision_in(connection, chain=chain, row=row) for row in rows]
    records = [record for record in found if record is not None]
    messages: dict[str, bytes] = {}
    for topic, payload in kept.items():
        fields = {name: value for name, value in json.loads(payload).items() if name not in {"message_id", "sequence"}}
        if topic == topics.KEY:
            del fields["epoch"]
        messages[topic] = json.dumps(fields if topic != BELL else {"message_id": "b1", **fields}).encode()
    for path in home.database.parent.glob("*.db*"):
        path.unlink()
    subjects = {topic: topics.topic_subject(topic) or "" for topic in messages}
    write = Write(
        records=tuple(msgspec.structs.replace(record, home_sequence=0) for record in records),
        overlays=tuple(state.overlays),
        announcements=tuple(
            Announcement(subjects[topic], number, payload, pending=False)
            for number, (topic, payload) in enumerate(messages.items(), start=40)
        ),
        schemas=tuple(state.schemas),
        meta=(*state.meta.items(), ("epoch", "1")),
    )
    written(home.database, [write], chain)
    tamper(home.database, "DROP TABLE told", "ALTER TABLE revisions DROP COLUMN home_sequence",
           "PRAGMA user_version = 5")  # fmt: skip
    (home.database.parent / "witness").unlink()
    return messages


async def test_a_home_of_the_version_before_goes_on(home: Home, bus: HomeBus):
    """Everything gets a place and is published anew once; what the old daemon left is no tampering."""
    async with home.core() as core, bus.connected(core):
        await change(core, 2)
        await core.ask("recipient", "lamp", public_key=None)
        before = {service: await told(core, service) for service in SERVICES}
    old = as_before_positions(home, bus.kept)
    bus.kept = dict(old)
    published = old
    for life in range(3):
        async with home.core() as core:
            async with bus.connected(core):
                pass
            await check(core, bus)
            assert (alerts(core, "tamper"), alerts(core, "restored"), core.standing) == (0, 0, {})
            assert await core.drift("row") == await core.drift("retained") == []
            for service in SERVICES:
                now = await told(core, service)
                assert now["revision"] == before[service]["revision"]
                assert now["config"] == before[service]["config"]
                assert now["sequence"] > 43
            sequences = [item["sequence"] for item in (await core.ask("history", "bell"))["revisions"]]
            assert sequences == sorted(sequences, reverse=True)
            assert 0 not in sequences
        assert (bus.kept == published) == (life > 0)
        published = dict(bus.kept)


def random_change(core: Core, dice: random.Random) -> Awaitable[Any]:
    """Something that a caller or an operator does; it may be refused."""
    service = dice.choice((*SERVICES, GUEST))
    size = dice.randrange(4)
    environment = dice.choice(("dev", "prod"))
    key = str(PrivateKey.generate().public)

    def edit() -> Awaitable[Any]:
        core.write(
            f"environments/{environment}.yaml",
            environment_file({name: {"settings": {"size": size}} for name in SERVICES}),
        )
        return core.ask("reload")

    choices: list[Callable[[], Awaitable[Any]]] = [
        lambda: change(core, size, service),
        lambda: core.ask("patch", service, patch={"settings": {"size": size}}, environment=environment),
        lambda: core.ask("patch", service, patch={"mqtt_config": {"password": f"{size}"}}),
        lambda: core.ask("batch", updates=[{"service": service, "patch": {"settings": {"n": n}}} for n in (1, size)]),
        lambda: core.ask("activate", environment),
        lambda: core.ask("recipient", service, public_key=dice.choice((key, None))),
        lambda: core.ask("rollback", service, revision=1 + size),
        lambda: core.ask("delete", service, allow_breaking=True),
        lambda: core.ask("patch", service, patch={"settings": {"size": 9}}, dry_run=True),
        lambda: set_guest(core, size),
        lambda: core.parts.service.registrations.register(service),
        edit,
    ]
    return dice.choice(choices)()


class World:
    """A home, its bus, copies of its data and of the broker's memory; what happens to them is left to chance."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.home, self.bus = home_in(directory / "home"), HomeBus()
        self._directory = directory
        self._dice = random.Random(seed)
        self._copies: list[Copy] = []
        self._memories: list[dict[str, bytes]] = []
        # After all of a data directory went back, only the broker knows it.
        self._unnoticed = False

    async def live(self) -> None:
        """A life of the daemon, mostly with a broker."""
        async with self.home.core() as core:
            await self._change(core, self._dice.randrange(4))
            if self._dice.random() < 0.2:
                return
            async with self.bus.connected(core):
                for _ in range(self._dice.randrange(4)):
                    await self._change(core, self._dice.randrange(3))
                    self._happen_on_the_bus()
            await check(core, self.bus)
            self._unnoticed = False
            assert core.parts.drift.items == []

    async def _change(self, core: Core, count: int) -> None:
        for _ in range(count):
            with contextlib.suppress(OperationError):
                await random_change(core, self._dice)

    def _happen_on_the_bus(self) -> None:
        topic = self._dice.choice(list(self.bus.kept) or [BELL])
        match self._dice.randrange(4):
            case 0 if topic in self.bus.kept:
                self.bus.publish(topic, self._dice.choice(list(forgeries(self.bus.kept[topic]).values())))
            case 1 if self._memories:
                self.bus.publish(topic, self._dice.choice(self._memories).get(topic, b""))
            case 2:
                self.bus.join(topic)
            case _:
                pass

    def happen_meanwhile(self) -> None:
        """What happens while no daemon runs."""
        match self._dice.randrange(7):
            case 0 | 1:
                self._copies.append(Copy(self.home, self._directory / f"copy{len(self._copies)}"))
                self._memories.append(dict(self.bus.kept))
            case 2 if self._copies:
                self._dice.choice(self._copies).restore()
            case 3 if self._copies:
                self._dice.choice(self._copies).restore(everything=True)
                self._unnoticed = True
            case 4 if not self._unnoticed:
                self.bus.kept.clear()
            case 5 if self._memories and not self._unnoticed:
                self.bus.kept = dict(self._dice.choice(self._memories))
            case 6 if not self._unnoticed:
                self._happen_on_the_bus()
            case _:
                pass


@pytest.mark.parametrize("seed", [0, 1, *(rarely(seed) for seed in range(2, 20))])
async def test_whatever_happens_readers_end_with_what_get_says(tmp_path: Path, seed: int):
    """Writes, activations, keys, deletions, forgeries, restarts, restored copies, brokers that forget or remember."""
    world = World(tmp_path, seed)
    for _ in range(10):
        await world.live()
        world.happen_meanwhile()


MANY = [f"lamp_{number:02}" for number in range(30)]


class Slow(Pace):
    """A pace of one message at a time, which does what a test wants before the tenth message of a change of all."""

    def __init__(self) -> None:
        self.before_tenth: Callable[[], Awaitable[object]] | None = None
        self._taken = 0
        super().__init__(50)

    async def take(self, messages: int) -> None:
        assert messages == 1
        if self.before_tenth is None:
            return
        self._taken += 1
        if self._taken == 10:
            await self.before_tenth()


async def change_all(home: Home, core: Core, bus: HomeBus, meanwhile: Callable[[], Awaitable[object]]) -> list[str]:
    """Change every service with one edit, and return which updates are published, in order."""
    assert isinstance(bus.pace, Slow)
    await bus.settled(core)
    bus.pace.before_tenth = meanwhile
    bus.order.clear()
    home.write("environments/dev.yaml", environment_file({name: {"settings": {"size": 2}} for name in MANY}))
    await core.ask("reload")
    await bus.settled(core)
    return [topic.removeprefix(topics.UPDATE) for topic in bus.order]


@pytest.fixture
def large_home(tmp_path: Path) -> Home:
    return Home(tmp_path, {"environments/dev.yaml": environment_file({name: {} for name in MANY})})


async def test_one_change_does_not_wait_for_a_change_of_all_to_be_published(large_home: Home):
    """It is told next, in front of those that wait, and once; each of the others is told once, too."""
    bus = HomeBus(Slow())
    async with large_home.core() as core, bus.connected(core):
        told = await change_all(large_home, core, bus, lambda: change(core, 7, MANY[-1]))
        assert told == [*MANY[:10], MANY[-1], *MANY[10:-1]]
        assert bus.message(MANY[-1])["config"]["settings"] == {"size": 7}
        for name in MANY:
            assert bus.reader(name).held == bus.message(name)


class Counting(Pace):
    """Has everything published at once, and counts it."""

    taken = 0

    async def take(self, messages: int) -> None:
        self.taken += messages

    def take_at_once(self, messages: int) -> bool:
        self.taken += messages
        return True


async def test_a_start_publishes_without_a_pace(large_home: Home):
    """READY waits for the last message; a change of all after it is published at the pace."""
    bus = HomeBus(pace := Counting(5000))
    async with large_home.core() as core, bus.connected(core):
        await bus.settled(core)
        assert pace.taken == 0
        large_home.write("environments/dev.yaml", environment_file({name: {"settings": {"size": 2}} for name in MANY}))
        await core.ask("reload")
        await bus.settled(core)
        assert pace.taken == len(MANY)


async def test_what_the_broker_refuses_does_not_prolong_the_start(large_home: Home):
    """One topic that may not be published is pending for ever; what changes later is published at the pace."""

    class Large(Counting):
        def take_at_once(self, messages: int) -> bool:
            return messages < 0

    bus = HomeBus(pace := Large(5000), denied=[topics.UPDATE + MANY[0]])
    async with large_home.core() as core, bus.connected(core):
        await eventually(lambda: bus.kept.keys() >= {topics.UPDATE + name for name in MANY[1:]})
        large_home.write("environments/dev.yaml", environment_file({name: {"settings": {"size": 2}} for name in MANY}))
        await core.ask("reload")
        await eventually(lambda: bus.message(MANY[-1])["config"]["settings"] == {"size": 2})
        assert pace.taken >= len(MANY) - 1


async def test_a_repair_does_not_wait_for_a_change_of_all_to_be_published(large_home: Home):
    """What another program publishes meanwhile on a topic that was told already is overwritten before the rest."""
    bus = HomeBus(Slow())

    async def forge() -> None:
        bus.publish(topics.UPDATE + MANY[0], b'{"epoch": 1, "sequence": 1000, "config": {"forged": true}}')
        for _ in range(3):
            # The daemon begins its repair in the next turn of the event loop.
            await asyncio.sleep(0)

    async with large_home.core() as core, bus.connected(core):
        told = await change_all(large_home, core, bus, forge)
        assert told.index(MANY[0], 1) < told.index(MANY[-1])
        assert sorted(told) == sorted([*MANY, MANY[0]])
        assert "forged" not in json.dumps(bus.message(MANY[0]))
        assert bus.reader(MANY[0]).held == bus.message(MANY[0])


async def test_a_connection_lost_during_a_change_of_all_loses_no_update(large_home: Home):
    """The next connection publishes what is left; readers end with what ``get`` says."""
    bus = HomeBus(Slow())
    async with large_home.core() as core:
        lost = asyncio.Event()

        async def lose() -> None:
            lost.set()
            await asyncio.Event().wait()

        with contextlib.suppress(TimeoutError):
            async with bus.connected(core), asyncio.timeout(40):
                await bus.settled(core)
                assert isinstance(bus.pace, Slow)
                bus.pace.before_tenth = lose
                large_home.write(
                    "environments/dev.yaml", environment_file({name: {"settings": {"size": 2}} for name in MANY})
                )
                await core.ask("reload")
                await lost.wait()
                raise TimeoutError
        assert 0 < core.parts.outbox.pending < len(MANY)
        bus.pace = Pace(5000)
        async with bus.connected(core):
            await bus.settled(core)
        for name in MANY:
            assert bus.message(name)["config"]["settings"] == {"size": 2}
            assert bus.reader(name).held == bus.message(name)
