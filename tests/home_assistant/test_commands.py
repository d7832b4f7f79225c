"""Commands of Home Assistant that meet a home which has changed since its devices were made."""

from pathlib import Path
from typing import Any

from aliciacfg.home_assistant import topics
from aliciacfg.home_assistant.commands import Commands
from aliciacfg.home_assistant.discovery import MessageOptions
from aliciacfg.home_assistant.events import Events
from aliciacfg.home_assistant.home import Choice, Home
from aliciacfg.model.config_id import ConfigId
from aliciacfg.mqtt.messages import Inbound
from builders import environment_file
from fakebus import FakeConnection
from inprocess import Core, core

FILES: dict[str, Any] = {
    "environments/dev.yaml": environment_file({"bell": {}}),
    "environments/prod.yaml": {**environment_file({"bell": {}}), "protected": True},
    "schemas/bell.yaml": {
        "x-alicia-version": "1.0.0",
        "type": "object",
        "properties": {
            "settings": {
                "type": "object",
                "properties": {"ring": {"type": "boolean", "default": True, "x-home-assistant": True}},
            }
        },
    },
}


class Seen:
    """The devices of a core as they were made last, and its commands."""

    def __init__(self, made: Core) -> None:
        parts = made.parts
        self.state = parts.state
        self.shown: list[str] = []
        self.events = Events()
        self.home = Home(
            state=parts.state,
            files=parts.files,
            authorizer=parts.service.authorizer,
            drift=parts.drift,
            instances=parts.instances,
            alerts=parts.alerts,
            choice=Choice(),
            message_options=MessageOptions("1.0.0"),
        )
        self.commands = Commands(
            parts.service,
            self.home,
            self.events,
            proven=lambda: True,
            current=self.revision,
            refresh=self.refresh,
            show=self.shown.append,
        )

    def refresh(self, service: str) -> None:
        self.home.refresh(service)

    def revision(self, service: str) -> int | None:
        record = self.state.committed(ConfigId(self.state.active, service)).live
        return None if record is None else record.revision

    async def send(self, payload: bytes) -> None:
        topic = topics.command(topics.identifier_of("bell"), "settings--ring")
        await self.commands.carry_out(Inbound(topic, payload, 1, retained=False))

    def told(self) -> list[bytes]:
        """The events so far."""
        connection = FakeConnection()
        self.events.publish(connection)
        return [payload for _, payload in connection.sent]


async def test_a_command_just_after_an_activation_changes_nothing_in_a_protected_environment(tmp_path: Path):
    """The devices are still those of the environment before; a protected one has none that takes commands."""
    async with core(tmp_path, FILES) as made:
        seen = Seen(made)
        await seen.home.renew()
        await seen.send(b"OFF")
        assert (await made.settings("bell"))["ring"] is False
        await made.ask("activate", "prod")
        before = seen.revision("bell")
        await seen.send(b"OFF")
        assert (await made.settings("bell"))["ring"] is True
        assert seen.revision("bell") == before
        assert seen.shown == ["bell", "bell"]
        (refusal,) = seen.told()
        assert b"not_found" in refusal


async def test_a_command_is_carried_out_though_another_setting_changed_just_now(tmp_path: Path):
    """It is about its setting alone, so a newer revision is no conflict."""
    async with core(tmp_path, FILES) as made:
        seen = Seen(made)
        await seen.home.renew()
        await made.ask("patch", "bell", patch={"settings": {"note": "other"}})
        await seen.send(b"OFF")
        assert await made.settings("bell") == {"note": "other", "ring": False}
