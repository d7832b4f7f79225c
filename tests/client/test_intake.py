"""What comes from the bus: delayed where changes are spread, and asked about where it is in doubt."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aliciacfg.client.current import Trust
from aliciacfg.client.errors import NotFound, Refused, Rejected, Unavailable
from aliciacfg.client.hub import Hub
from aliciacfg.client.intake import Intake
from aliciacfg.client.keys import KeyFile
from aliciacfg.client.snapshot import Snapshot
from aliciacfg.client.values import Reader
from aliciacfg.sealing.boxes import PrivateKey, seal_for
from inprocess import eventually


class Bell(msgspec.Struct):
    volume: int


class Fixture:
    def __init__(
        self, spread_seconds: float = 0.0, *, key_file: Path | None = None, require_secrets: bool = False
    ) -> None:
        self.told: list[tuple[int, str]] = []
        trust = Trust()
        self.hub: Hub[Bell] = Hub(trust, lambda update, status, _error: self.told.append((update.revision, status)))
        reader = Reader(Bell, KeyFile(key_file), trust, require_secrets=require_secrets)
        self.intake: Intake[Bell] = Intake(
            "bell", reader, self.hub, Snapshot(None, "bell"), spread_seconds=spread_seconds
        )

    @property
    def volume(self) -> int:
        return self.hub.state.record.settings.volume

    def message(self, number: int, volume: object = ..., epoch: int = 1) -> None:
        self.intake.message(encoded(number, volume, epoch))

    def answer(self, payload: bytes, **options: Any) -> None:
        self.intake.answer(payload, self.intake.order.cause, **options)


def encoded(number: int, volume: object = ..., epoch: int = 1, **settings: object) -> bytes:
    return json.dumps(
        {
            "service": "bell",
            "environment": "dev",
            "version": "1.0.0",
            "revision": number,
            "sequence": number,
            "epoch": epoch,
            "checksum": f"c{number}",
            "config": {"settings": {"volume": number if volume is ... else volume, **settings}},
        }
    ).encode()


NOT_FOUND = b'{"status":"error","code":"not_found","message":"no"}'


async def test_changes_are_spread_and_the_newest_wins(monkeypatch: pytest.MonkeyPatch):
    """The first one takes effect at once; those of one delay become one; what is not in effect is not current."""
    asked: list[tuple[float, float]] = []
    delays = iter([0.05, 3600.0, 3600.0])
    monkeypatch.setattr("random.uniform", lambda *bounds: asked.append(bounds) or next(delays))
    found = Fixture(spread_seconds=9.0)
    found.message(1)
    assert (found.volume, asked) == (1, [])
    found.message(2)
    found.message(3)
    assert (found.volume, asked) == (1, [(0, 9.0)])
    assert found.hub.state.record.stale
    await eventually(lambda: found.volume == 3)
    assert not found.hub.state.record.stale
    assert found.told == [(1, "applied"), (3, "applied")]
    # Whoever asks has it at once.
    found.message(4)
    found.answer(encoded(4), at_once=True)
    assert (found.volume, found.hub.state.record.stale) == (4, False)
    # One that takes effect after the connection was lost may be out of date.
    found.message(5)
    found.intake.lose()
    found.intake._fire()
    assert (found.volume, found.hub.state.record.stale) == (5, True)
    found.intake.close()


async def test_a_deletion_waits_like_a_change(monkeypatch: pytest.MonkeyPatch):
    """And what comes back in time was never away."""
    monkeypatch.setattr("random.uniform", lambda *_bounds: 3600.0)
    found = Fixture(spread_seconds=9.0)
    found.message(1)
    found.intake.message(b"")
    with pytest.raises(NotFound):
        found.answer(NOT_FOUND)
    assert not found.hub.state.deleted
    found.message(2)
    found.answer(encoded(2), at_once=True)
    assert (found.volume, found.hub.state.deleted) == (2, False)
    found.intake.close()


def told(number: int, environment: str = "dev", restart_required: Sequence[str] = ()) -> bytes:
    """A message that changes two settings."""
    content = {**json.loads(encoded(number, number, tone=number)), "restart_required": restart_required}
    return json.dumps({**content, "environment": environment}).encode()


async def test_a_restart_is_due_for_what_messages_name_or_for_everything_if_one_was_missed():
    """Also before the program asks for changes; a ``get`` names nothing."""
    both = ("/settings/volume", "/settings/tone")
    found = Fixture()
    found.intake.message(told(1))
    found.intake.message(told(2, restart_required=["/settings/tone"]))
    found.intake.message(told(3))
    changes = found.hub.watch()
    assert (await anext(changes)).restart_required == ("/settings/tone",)
    found.intake.message(told(4, restart_required=["/settings/volume"]))
    assert (await anext(changes)).restart_required == ("/settings/volume",)
    found.intake.message(told(6))
    assert (await anext(changes)).restart_required == both
    found.intake.message(told(9, "prod"))
    assert (await anext(changes)).restart_required == ()
    found.intake.lose()
    found.intake.message(told(12))
    change = await anext(changes)
    assert change.restart_required == change.changed == both
    found.intake.nothing_retained()
    found.answer(encoded(13, 13, tone=13))
    assert (await anext(changes)).restart_required == both
    found.intake.message(told(14))
    assert (await anext(changes)).restart_required == ()


async def test_an_empty_message_is_verified():
    """Another program may have cleared it: the daemon's answer decides."""
    found = Fixture()
    found.message(5)
    found.intake.message(b"")
    assert found.intake.wanted.is_set()
    assert found.intake.needs_answer
    assert (found.volume, found.hub.state.deleted, found.hub.state.record.stale) == (5, False, True)
    # A replay behind it counts as little as before.
    found.message(4)
    assert found.volume == 5
    found.answer(encoded(5))
    assert (found.volume, found.hub.state.record.stale, found.intake.needs_answer) == (5, False, False)
    # The daemon overwrites forged numbers with lower ones of its own.
    found.message(2**50)
    found.intake.message(b"")
    found.answer(encoded(6))
    assert found.volume == 6
    found.intake.message(b"")
    with pytest.raises(NotFound, match="aliciacfg service add bell"):
        found.answer(NOT_FOUND)
    assert found.hub.state.deleted
    found.message(1)
    assert (found.volume, found.hub.state.deleted) == (1, False)
    found.intake.close()


async def test_a_value_that_does_not_fit_is_raised_to_whoever_asks():
    """The old one stays; the same message again is rejected again; a newer one that fits is taken."""
    found = Fixture()
    found.message(1)
    found.message(2, "loud")
    assert (found.volume, str(found.hub.rejection)[:20]) == (1, "settings do not fit ")
    for _ in range(2):
        with pytest.raises(Rejected, match="Expected `int`"):
            found.answer(encoded(2, "loud"))
    assert found.told[-1] == (2, "rejected")
    found.message(3)
    assert (found.volume, found.hub.rejection) == (3, None)


async def test_a_configuration_that_waits_is_not_rejected_for_the_one_before(monkeypatch: pytest.MonkeyPatch):
    """It comes a second time, as at a new connection."""
    monkeypatch.setattr("random.uniform", lambda *_bounds: 3600.0)
    found = Fixture(spread_seconds=9.0)
    found.message(1)
    found.message(2, "loud")
    found.message(3)
    found.message(3)
    assert found.told == [(1, "applied"), (2, "rejected")]
    found.answer(encoded(3), at_once=True)
    assert (found.volume, found.hub.rejection) == (3, None)
    found.intake.close()


@pytest.mark.parametrize("strict", [False, True])
async def test_a_key_that_comes_after_the_message_opens_it(tmp_path: Path, strict: bool):
    """When the message comes again: after ``refresh``, or at a new connection. Before that nothing is told anew."""
    key, path = PrivateKey.generate(), tmp_path / "key"
    sealed = seal_for(key.public, "hush", service="bell", environment="dev", pointer="/settings/token")
    found = Fixture(key_file=path, require_secrets=strict)
    found.message(1)
    message = encoded(2, token=sealed)
    found.intake.message(message)
    place = found.hub.state.place
    found.intake.message(message)
    assert (found.hub.state.place, found.volume) == (place, 1 if strict else 2)
    path.touch(mode=0o600)
    path.write_text(key.reveal())
    found.intake.message(message)
    record = found.hub.state.record
    assert (record.config["settings"]["token"], record.redacted, record.stale) == ("hush", {}, False)
    assert found.hub.rejection is None


async def test_a_snapshot_counts_until_the_daemon_says_otherwise():
    """An older message on the broker is asked about; the answer of a home that was built anew counts."""
    found = Fixture()
    found.intake.order.start_from((3, 900))
    found.message(2)
    assert not found.hub.has_state
    assert found.intake.wanted.is_set()
    found.answer(encoded(2))
    assert found.volume == 2


@pytest.mark.parametrize(
    ("payload", "error"),
    [
        (b'{"status":"error","code":"busy","message":"later"}', Unavailable),
        (b'{"status":"error","code":"forbidden","message":"no"}', Refused),
        (b"hello", Unavailable),
        (b"", Unavailable),
    ],
)
async def test_an_answer_that_tells_nothing_changes_nothing(payload: bytes, error: type[Exception]):
    """It is not "not found"."""
    found = Fixture()
    found.message(1)
    with pytest.raises(error) as caught:
        found.answer(payload)
    assert not isinstance(caught.value, NotFound)
    assert found.volume == 1


async def test_messages_of_others_are_passed_over(caplog: pytest.LogCaptureFixture):
    """And asked about only while there is nothing; an older one is silent."""
    found = Fixture()
    for _ in range(100):
        found.intake.message(b"hello")
    assert found.intake.wanted.is_set()
    found.message(5)
    found.intake.wanted.clear()
    found.intake.message(b'{"service":"lamp"}')
    found.message(4)
    await asyncio.sleep(0)
    assert (found.volume, found.intake.wanted.is_set()) == (5, False)
    assert ["not the daemon's" in record.getMessage() for record in caplog.records] == [True, True]
