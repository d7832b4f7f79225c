"""The client for services among brokers and programs that do everything wrong; the test plays the daemon."""

import asyncio
import contextlib
import json
import os
import re
import signal
import time
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aliciacfg.client import BlockingConfigClient, Broker, Change, Closed, ConfigClient, Rejected, Unavailable
from aliciacfg.sealing.boxes import PrivateKey, seal_for
from broker_proxies import older_broker
from brokers import Broker as Mosquitto
from cutting_proxy import CuttingProxy
from inprocess import eventually
from machine import SECONDS
from mqtt_clients import Client, client

TOPIC = "alicia/config/update/bell"


class Bell(msgspec.Struct, frozen=True):
    volume: int


class Roomy(Mosquitto):
    """A broker that takes messages of any size."""

    def settings(self) -> str:
        return re.sub(r"(?m)^(max_packet_size|message_size_limit) .*", r"\1 20000000", super().settings())


@pytest.fixture(scope="module")
def mosquitto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    made = Roomy(tmp_path_factory.mktemp("broker")).start()
    yield made
    made.stop()


@contextlib.asynccontextmanager
async def played(broker: Mosquitto) -> AsyncGenerator[Client, None]:
    """A client in place of the daemon, and a broker that retains nothing."""
    async with client(broker.port) as daemon:
        await daemon.publish(TOPIC, b"", retain=True)
        await daemon.subscribe("alicia/config/get/#", "alicia/config/applied/#")
        yield daemon


def update(number: int, volume: object = ..., **members: Any) -> dict[str, Any]:
    return {
        "message_id": "m",
        "timestamp": 1.0,
        "source": "config_service",
        "service": "bell",
        "environment": "dev",
        "version": "1.0.0",
        "revision": number,
        "sequence": number,
        "epoch": 1,
        "checksum": f"c{number}",
        "config": {"settings": {"volume": number if volume is ... else volume}},
        "changed": [],
        "restart_required": [],
        **members,
    }


async def publish(daemon: Client, content: dict[str, Any] | bytes) -> None:
    await daemon.publish(TOPIC, content, retain=True)


async def answer(daemon: Client, content: dict[str, Any]) -> None:
    """Answer the next question of the client."""
    question = await daemon.until("alicia/config/get/bell/bell")
    await daemon.publish(question.json["reply_to"], {"status": "success", **content})


def bell(port: int, **options: Any) -> ConfigClient[Bell]:
    options = {"snapshots": False, "instance": "copy-1", **options}
    return ConfigClient("bell", Bell, broker=Broker(host="127.0.0.1", port=port), **options)


NOT_FOUND = {"status": "error", "code": "not_found", "message": "no"}
DEEP = b'{"config":' * 3000 + b"{}" + b"}" * 3000
HOSTILE: list[bytes] = [
    b"hello",
    b'{"epoch": NaN}',
    DEEP,
    json.dumps(update(900, service="lamp")).encode(),
    json.dumps(update(900, epoch=2**60)).encode(),
    json.dumps(update(1)).encode(),
    json.dumps(update(900, padding="x" * 3_000_000)).encode(),
]


@pytest.mark.parametrize("protocol", ["5", "3.1.1", "3.1.1, silent"])
async def test_what_is_not_the_daemons_changes_nothing(
    mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch, protocol: str
):
    """Neither at the start, where the daemon is asked, nor later; nor does an older message."""
    async with played(mosquitto) as daemon, contextlib.AsyncExitStack() as stack:
        port = mosquitto.port
        if protocol == "3.1.1, silent":
            # It ends a connection of MQTT 5 without a word.
            monkeypatch.setattr("broker_proxies.REFUSAL", b"")
        if protocol != "5":
            port = (await stack.enter_async_context(older_broker(port))).port
        await publish(daemon, HOSTILE[0])
        answering = asyncio.ensure_future(answer(daemon, update(5)))
        async with bell(port) as config:
            await answering
            assert config._link.protocol == protocol.partition(",")[0]
            assert (config.current.settings.volume, config.current.stale) == (5, False)
            changes = config.changes()
            for payload in HOSTILE:
                await publish(daemon, payload)
            await publish(daemon, update(6))
            change = await anext(changes)
            assert (change.revision, change.changed) == (6, ("/settings/volume",))
            report = await daemon.until("alicia/config/applied/bell")
            assert report.json == {"instance": "copy-1", "revision": 5, "checksum": "c5", "status": "applied"}


async def test_an_empty_message_is_a_deletion_only_if_the_daemon_says_so(
    mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch
):
    """Anybody may clear a topic, and a broker may forget it."""
    monkeypatch.setattr("aliciacfg.client.link._FIRST_DELAY_SECONDS", 0.01)
    async with played(mosquitto) as daemon:
        await publish(daemon, update(5))
        async with bell(mosquitto.port) as config:
            changes = config.changes()
            await publish(daemon, b"")
            await answer(daemon, update(5))
            await eventually(lambda: not config.current.stale)
            assert not config.deleted
            await publish(daemon, b"")
            await answer(daemon, NOT_FOUND)
            assert (await anext(changes)).deleted


async def test_an_answer_that_comes_late_counts(mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch):
    """The daemon takes longer than the client waits for any question, and answers the first behind the second."""
    monkeypatch.setattr("aliciacfg.client.link.ANSWER_SECONDS", 0.1)
    async with played(mosquitto) as daemon:

        async def be_slow() -> None:
            first, _ = [await daemon.until("alicia/config/get/bell/bell") for _ in range(2)]
            await daemon.publish(first.json["reply_to"], {"status": "success", **update(5)})

        answering = asyncio.ensure_future(be_slow())
        async with bell(mosquitto.port) as config:
            await answering
            assert (config.current.settings.volume, config.current.stale) == (5, False)


async def test_a_question_that_gets_lost_is_repeated(mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch):
    """As when one of several daemons dies with it: long before the client gives it up, and as it was."""
    monkeypatch.setattr("aliciacfg.client.link.ANSWER_SECONDS", 60.0)
    async with played(mosquitto) as daemon:

        async def lose() -> None:
            first, second, third = [await daemon.until("alicia/config/get/bell/bell") for _ in range(3)]
            assert first.payload == second.payload == third.payload
            for _ in range(2):
                await daemon.publish(first.json["reply_to"], {"status": "success", **update(5)})

        losing = asyncio.ensure_future(lose())
        began = time.monotonic()
        async with bell(mosquitto.port) as config:
            await losing
            assert (config.current.settings.volume, config.current.stale) == (5, False)
            assert time.monotonic() - began < 50


async def test_a_value_that_does_not_fit_is_rejected_and_the_old_one_stays(mosquitto: Mosquitto):
    """The bus is told why; so is whoever asks, and whoever starts with it."""
    async with played(mosquitto) as daemon:
        await publish(daemon, update(5))
        async with bell(mosquitto.port) as config:
            await daemon.until("alicia/config/applied/bell")
            await publish(daemon, update(6, "loud"))
            report = (await daemon.until("alicia/config/applied/bell")).json
            assert (report["revision"], report["status"]) == (6, "rejected")
            assert "Expected `int`, got `str` - at `settings.volume`" in report["error"]
            assert (config.current.settings.volume, str(config.rejection)) == (5, report["error"])
            asking = asyncio.ensure_future(config.refresh())
            await answer(daemon, update(6, "loud"))
            with pytest.raises(Rejected):
                await asking
        with pytest.raises(Rejected, match="settings do not fit Bell"):
            async with bell(mosquitto.port):
                pass
        # Told before the client ended.
        assert (await daemon.until("alicia/config/applied/bell")).json["status"] == "rejected"


async def test_an_error_of_a_callback_tells_no_secret(
    mosquitto: Mosquitto, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """Neither in the log nor in the report, although the error quotes it."""
    key, key_file = PrivateKey.generate(), tmp_path / "key"
    key_file.touch(0o600)
    key_file.write_text(key.reveal())
    token = seal_for(key.public, "hush\nhush", service="bell", environment="dev", pointer="/settings/token")

    async def fail(change: Change[Bell]) -> None:
        raise OSError(f"no device at {change.config['settings']!r}")

    async with played(mosquitto) as daemon:
        await publish(daemon, update(5))
        async with bell(mosquitto.port, key_file=key_file) as config:
            config.on_change(fail)
            await daemon.until("alicia/config/applied/bell")
            await publish(daemon, update(6, config={"settings": {"volume": 6, "token": token}}))
            report = (await daemon.until("alicia/config/applied/bell")).json
            assert (report["status"], report["error"]) == (
                "rejected",
                "OSError: no device at {'volume': 6, 'token': '***'}",
            )
    assert "a callback of bell failed at revision 6" in caplog.text
    assert "in fail" in caplog.text
    assert "hush" not in caplog.text


async def test_a_program_that_ends_in_a_change_did_not_apply_it(mosquitto: Mosquitto):
    """The report names the type of the error only; its text may hold anything."""
    async with played(mosquitto) as daemon:
        await publish(daemon, update(5))

        async def run() -> None:
            async with bell(mosquitto.port) as config:
                changes = config.changes()
                await publish(daemon, update(6))
                async for change in changes:
                    raise OSError(f"volume {change.settings.volume}")

        with pytest.raises(OSError, match="volume 6"):
            await run()
        reports = [(await daemon.until("alicia/config/applied/bell")).json for _ in range(2)]
        assert [report["status"] for report in reports] == ["applied", "rejected"]
        assert reports[1]["error"] == "the program ended while it applied it: OSError"


async def test_a_restart_that_is_due_is_reported(mosquitto: Mosquitto):
    """As the program says so, by a callback or by hand."""
    async with played(mosquitto) as daemon:
        await publish(daemon, update(5))
        async with bell(mosquitto.port) as config:

            async def postpone(change: Change[Bell]) -> None:
                await config.report("restart_pending", of=change)

            config.on_change(postpone)
            await daemon.until("alicia/config/applied/bell")
            await publish(daemon, update(6))
            assert (await daemon.until("alicia/config/applied/bell")).json["status"] == "restart_pending"
        async with bell(mosquitto.port, report="manual") as config:
            await config.report("rejected", "no such device")
            report = (await daemon.until("alicia/config/applied/bell")).json
            assert (report["status"], report["error"]) == ("rejected", "no such device")


async def test_what_a_program_said_by_hand_counts_for_an_equal_configuration(mosquitto: Mosquitto):
    """One that comes back is no change for it; what comes again may mean that the report was lost."""
    async with played(mosquitto) as daemon:
        await publish(daemon, update(5))
        async with bell(mosquitto.port, report="manual") as config:
            await config.report("applied")
            for revision in (5, 7, 7):
                report = (await daemon.until("alicia/config/applied/bell")).json
                assert (report["revision"], report["status"]) == (revision, "applied")
                await publish(daemon, update(7, 5, checksum="c5"))


async def test_a_connection_that_is_cut_anywhere_is_made_anew(mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch):
    """In CONNECT, in the subscription, in the middle of a message."""
    for name in ("_FIRST_DELAY_SECONDS", "_LONGEST_DELAY_SECONDS"):
        monkeypatch.setattr(f"aliciacfg.client.link.{name}", 0.01)
    proxy = CuttingProxy(mosquitto.port)
    try:
        async with played(mosquitto) as daemon:
            await publish(daemon, update(1))
            async with bell(proxy.port) as config:
                for number, size in enumerate((1, 20, 60, 100, 160, 240, 400, 600), 2):
                    cutting = asyncio.ensure_future(asyncio.to_thread(proxy.cut_after, size))
                    while not cutting.done():
                        await publish(daemon, update(number))
                    await cutting
                    await eventually(lambda: config.current.revision == number)  # noqa: B023
                    await eventually(lambda: not config.current.stale)
    finally:
        proxy.close()


async def test_a_message_that_breaks_the_program_breaks_no_connection(
    mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """It is logged, and the next one is taken."""
    async with played(mosquitto) as daemon:
        await publish(daemon, update(1))
        async with bell(mosquitto.port) as config:
            with monkeypatch.context() as broken:
                broken.setattr(config._intake, "message", lambda _payload: 1 / 0)
                await publish(daemon, update(2))
                await eventually(lambda: "was not understood" in caplog.text)
            await publish(daemon, update(3))
            assert (await anext(config.changes())).revision == 3
            assert config._link.failures == 0


async def test_a_broker_that_ends_every_connection_is_asked_less_and_less(monkeypatch: pytest.MonkeyPatch):
    """Each delay is longer than the one before, and of a random length."""
    asked: list[tuple[float, float]] = []
    monkeypatch.setattr("random.uniform", lambda *bounds: asked.append(bounds) or 0.0)

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        # CONNACK of MQTT 5: success; then the end.
        writer.write(b"\x20\x03\x00\x00\x00")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    async with server, bell(server.sockets[0].getsockname()[1], default=Bell(3)):
        await eventually(lambda: len(asked) >= 9)
    longest = [bounds[1] for bounds in asked[:9]]
    assert longest == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    assert all(bounds[0] == bounds[1] / 2 for bounds in asked)


async def test_a_message_as_large_as_mqtt_allows_fills_no_memory(mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch):
    """It is dropped as it comes on MQTT 3.1.1, where a client cannot refuse it; then everything goes on."""
    async with played(mosquitto) as daemon, older_broker(mosquitto.port) as older:
        await publish(daemon, update(1))
        async with bell(older.port) as config:
            held: list[int] = []
            paho = config._link._connection._client._client  # pyright: ignore[reportOptionalMemberAccess]
            receive = paho._sock_recv
            monkeypatch.setattr(
                paho, "_sock_recv", lambda size: held.append(len(paho._in_packet["packet"])) or receive(size)
            )
            await publish(daemon, json.dumps(update(2, padding="x" * 15_000_000)).encode())
            await publish(daemon, update(3))
            assert (await anext(config.changes())).revision == 3
            assert len(held) > 100
            assert max(held) < 1_000_000
            assert config._link.failures == 0


async def test_two_copies_of_a_service_follow_and_report_apart(mosquitto: Mosquitto):
    """Neither takes the other's place at the broker."""
    async with played(mosquitto) as daemon:
        await publish(daemon, update(1))
        async with bell(mosquitto.port) as one, bell(mosquitto.port, instance="copy-2") as other:
            both = one.changes(), other.changes()
            await publish(daemon, update(2))
            for changes in both:
                assert (await anext(changes)).revision == 2
            reports = [(await daemon.until("alicia/config/applied/bell")).json for _ in range(2)]
            assert {report["instance"] for report in reports} == {"copy-1", "copy-2"}


async def test_a_program_that_blocks_the_loop_has_the_latest_afterwards(mosquitto: Mosquitto):
    """What came meanwhile is one change."""
    async with played(mosquitto) as daemon:
        await publish(daemon, update(1))
        async with bell(mosquitto.port) as config:
            seen: list[int] = []

            async def block(change: Change[Bell]) -> None:
                seen.append(change.revision)
                if change.revision == 2:
                    time.sleep(0.2)  # noqa: ASYNC251

            config.on_change(block)
            for number in range(2, 200):
                await publish(daemon, update(number))
            await eventually(lambda: seen[-1:] == [199])
            assert seen == sorted(set(seen))


async def test_a_broker_that_says_nothing_holds_up_no_start(tmp_path: Path):
    """It accepts connections and never answers: the snapshot, the default, or an error in time."""

    async def ignore(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(ignore, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        begun = time.monotonic()
        with pytest.raises(Unavailable, match=f"from mqtt://127.0.0.1:{port} within 0.1 s"):
            async with bell(port, timeout_seconds=0.1):
                pass
        async with bell(port, timeout_seconds=0.1, default=Bell(3), snapshot_dir=tmp_path) as config:
            assert config.current.source == "default"
        assert time.monotonic() - begun < SECONDS


async def test_a_user_that_is_not_let_in_is_told(tmp_path: Path):
    """With the settings to check."""
    broker = Mosquitto(tmp_path / "closed", config="allow_anonymous false\n").start()
    try:
        async with bell(broker.port, default=Bell(1)) as config:
            assert "check MQTT_USERNAME and MQTT_PASSWORD" in str(config.problem)
    finally:
        broker.stop()


@pytest.mark.parametrize("moment", ["start", "end"])
async def test_a_cancellation_at_any_moment_leaves_nothing_open(mosquitto: Mosquitto, moment: str):
    """No task, no warning; the client is cancelled at every turn of the event loop."""
    async with played(mosquitto) as daemon:
        await publish(daemon, update(1))

    async def run(ending: asyncio.Event) -> None:
        async with bell(mosquitto.port) as config:
            if moment == "start":
                async for _change in config.changes():
                    pass
        ending.set()

    async def opened(task: asyncio.Task[None]) -> None:
        """Wait until the client is about to end."""
        while not any(other.get_name() == "reports of bell" for other in asyncio.all_tasks() - {task}):  # noqa: ASYNC110
            await asyncio.sleep(0)

    for turns in range(0, 60, 2):
        task = asyncio.create_task(run(ended := asyncio.Event()))
        if moment == "end":
            await opened(task)
        for _ in range(turns):
            # Longer ones reach further: connecting takes a thread.
            await asyncio.sleep(0 if turns < 30 else 0.0005)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled() or (ended.is_set() and task.exception() is None)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, (turns, left)


def test_threads_follow_too(mosquitto: Mosquitto):
    """The blocking form over a real connection."""

    async def prepare(number: int) -> None:
        async with client(mosquitto.port) as daemon:
            await publish(daemon, update(number))

    asyncio.run(prepare(1000))
    with BlockingConfigClient(bell(mosquitto.port)) as config:
        assert (config.current.settings.volume, config.connected) == (1000, True)
        asyncio.run(prepare(1001))
        change = config.wait_for_change(SECONDS)
        assert change is not None
        assert change.revision == 1001
    assert not config.connected


@pytest.mark.parametrize("use", ["refresh", "wait_for_change", "close"])
def test_a_forked_process_is_told_that_the_client_is_its_parents(mosquitto: Mosquitto, use: str):
    """It would wait for a thread that does not exist there; the client itself goes on."""

    async def prepare() -> None:
        async with client(mosquitto.port) as daemon:
            await publish(daemon, update(2000))

    asyncio.run(prepare())
    with BlockingConfigClient(bell(mosquitto.port)) as config:
        child = os.fork()
        if child == 0:
            signal.alarm(10)
            try:
                getattr(config, use)()
                os._exit(0)
            except Closed as error:
                os._exit(3 if "forked" in str(error) else 4)
            finally:
                os._exit(5)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code == (0 if use == "close" else 3)
        assert config.connected
