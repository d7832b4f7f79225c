"""Any sequence of operations, file edits and restarts leaves what a simple model of configurations says."""

import asyncio
import base64
import contextlib
import copy
import json
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from nacl.public import PrivateKey

from aliciacfg.errors import Conflict, Incompatible, NotFound, OperationError
from aliciacfg.model.config_id import ConfigId
from builders import environment_file, valid_config
from inprocess import Core, Home

FROM_FILES = ("bell", "lamp")
SERVICES = (*FROM_FILES, "guest")
ENVIRONMENTS = ("dev", "prod")
HIDDEN = "***"
RECIPIENT = PrivateKey.generate()

KEYS = st.sampled_from(["a", "b", "c", "token"])
VALUES = st.integers(0, 2) | st.sampled_from(["x", "y"])
SETTINGS = st.dictionaries(KEYS, VALUES, max_size=3)
PATCHES = st.dictionaries(KEYS, VALUES | st.none(), min_size=1, max_size=2)
SERVICE = st.sampled_from(SERVICES)
ENVIRONMENT = st.sampled_from(ENVIRONMENTS)

Settings = dict[str, Any]


def whole(content: Settings) -> dict[str, Any]:
    """Return a configuration with these settings, in which every default of the base contract is written out."""
    defaults = {"tls_enabled": False, "keepalive": 60}
    return valid_config(settings=content, mqtt_config=defaults, features={}, limits={})


def merged(base: Settings, patch: Settings) -> Settings:
    """Return ``base`` with a flat merge patch applied."""
    result = {**base, **patch}
    return {key: value for key, value in result.items() if value is not None}


def smallest_patch(base: Settings, wanted: Settings) -> Settings:
    """Return the flat merge patch that turns ``base`` into ``wanted`` and says nothing more."""
    removed = {key: None for key in base if key not in wanted}
    return {**removed, **{key: value for key, value in wanted.items() if base.get(key) != value}}


def bumped(version: str, before: Settings | None, after: Settings) -> str:
    """Return the version after a change: major, minor or patch; all of a configuration is new after a deletion."""
    major, minor, patch = (int(part) for part in version.split("."))
    if before is not None and is_breaking(before, after):
        return f"{major + 1}.0.0"
    if before is None or after.keys() - before.keys():
        return f"{major}.{minor + 1}.0"
    return f"{major}.{minor}.{patch + 1}"


def is_breaking(before: Settings, after: Settings) -> bool:
    """Return whether a key is gone or has another type."""
    return any(key not in after or type(after[key]) is not type(value) for key, value in before.items())


def visible(content: Settings) -> Settings:
    """Return settings as a reader sees them."""
    return {key: HIDDEN if key == "token" and isinstance(value, str) else value for key, value in content.items()}


@dataclass
class Configuration:
    """What the model knows of one configuration; ``content`` is None while it does not exist."""

    overlay: Settings = field(default_factory=dict)
    content: Settings | None = None
    version: str = "1.0.0"
    # The content of each revision, None for a deletion.
    revisions: list[Settings | None] = field(default_factory=list)

    def record(self, content: Settings | None) -> bool:
        """Append a revision if the content differs; return whether it did."""
        if content == self.content and self.revisions:
            return False
        if content is not None and self.revisions:
            self.version = bumped(self.version, self.content, content)
        self.content = content
        self.revisions.append(copy.deepcopy(content))
        return True


class Model:
    """The files, and every configuration of every environment."""

    def __init__(self) -> None:
        self.active = "dev"
        self.files: dict[ConfigId, Settings] = {
            ConfigId(environment, service): {} for environment in ENVIRONMENTS for service in FROM_FILES
        }
        self.configurations = {
            ConfigId(environment, service): Configuration() for environment in ENVIRONMENTS for service in SERVICES
        }
        self.load_files()

    def base(self, config_id: ConfigId) -> Settings:
        return self.files.get(config_id, {})

    def load_files(self) -> None:
        for config_id in self.files:
            found = self.configurations[config_id]
            found.record(merged(self.base(config_id), found.overlay))

    def write(self, config_id: ConfigId, wanted: Settings) -> bool:
        """Store what ``set`` would; return whether the configuration changed."""
        found = self.configurations[config_id]
        found.overlay = smallest_patch(self.base(config_id), wanted)
        return found.record(wanted)


class Subscriber:
    """A service that follows the rule: a message counts exactly if its position is higher than the one held."""

    def __init__(self) -> None:
        self.position = (0, 0)
        self.config: Any = None

    def receive(self, payload: bytes) -> None:
        if not payload:
            self.config = None
            return
        message = json.loads(payload)
        position = message["epoch"], message["sequence"]
        if position > self.position:
            self.position, self.config = position, message["config"]


class Operations(RuleBasedStateMachine):
    """The operations as an adapter calls them, on real files and a real database."""

    def __init__(self) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        self._directory = Path(tempfile.mkdtemp())
        self._home = Home(self._directory)
        self._model = Model()
        self._subscribers = {service: Subscriber() for service in SERVICES}
        # A copy of the database, and what the model knew when it was made.
        self._backup: tuple[bytes, Model] | None = None
        self._exit: contextlib.AsyncExitStack | None = None
        self._core: Core

    @initialize()
    def start(self) -> None:
        self._write_files()
        self._open()

    def teardown(self) -> None:
        try:
            self._close()
        finally:
            self._runner.close()
            shutil.rmtree(self._directory, ignore_errors=True)

    # What the machine does.

    @rule(service=SERVICE, environment=ENVIRONMENT, wanted=SETTINGS, keep=st.booleans(), allow=st.booleans())
    def set(self, service: str, environment: str, wanted: Settings, keep: bool, allow: bool) -> None:
        """Replace a configuration, sometimes with the secret as it is shown."""
        config_id = ConfigId(environment, service)
        known = (self._model.configurations[config_id].content or {}).get("token")
        sent = wanted
        if keep and isinstance(known, str):
            wanted, sent = {**wanted, "token": known}, {**wanted, "token": HIDDEN}
        self._write(config_id, "set", wanted, allow=allow, config=whole(sent))

    @rule(service=SERVICE, environment=ENVIRONMENT, patch=PATCHES, allow=st.booleans())
    def patch(self, service: str, environment: str, patch: Settings, allow: bool) -> None:
        config_id = ConfigId(environment, service)
        content = self._model.configurations[config_id].content
        if content is None:
            self._refused(NotFound, "patch", config_id, patch={"settings": patch})
            return
        self._write(config_id, "patch", merged(content, patch), allow=allow, patch={"settings": patch})

    @rule(service=SERVICE, environment=ENVIRONMENT, key=KEYS | st.none())
    def unset(self, service: str, environment: str, key: str | None) -> None:
        """Drop one member of the overlay, or all of it."""
        config_id = ConfigId(environment, service)
        pointer = "" if key is None else f"/settings/{key}"
        found = self._model.configurations[config_id]
        if found.content is None:
            self._refused(NotFound, "unset", config_id, pointer=pointer)
            return
        rest = {} if key is None else {name: value for name, value in found.overlay.items() if name != key}
        self._write(config_id, "unset", merged(self._model.base(config_id), rest), allow=True, pointer=pointer)

    @rule(service=SERVICE, environment=ENVIRONMENT)
    def delete(self, service: str, environment: str) -> None:
        config_id = ConfigId(environment, service)
        found = self._model.configurations[config_id]
        if found.content is None:
            self._refused(NotFound, "delete", config_id)
        elif config_id in self._model.files:
            self._write(config_id, "delete", self._model.base(config_id), allow=True)
        else:
            self._ask("delete", config_id, allow_breaking=True)
            found.overlay = {}
            found.record(None)

    @rule(service=SERVICE, environment=ENVIRONMENT, back=st.integers(1, 6))
    def roll_back(self, service: str, environment: str, back: int) -> None:
        config_id = ConfigId(environment, service)
        revisions = self._model.configurations[config_id].revisions
        number = max(len(revisions) - back, 0) + 1
        content = revisions[number - 1] if revisions else None
        if content is None:
            self._refused(OperationError, "rollback", config_id, revision=number)
            return
        self._write(config_id, "rollback", content, allow=True, revision=number)

    @rule(service=SERVICE, environment=ENVIRONMENT, wanted=SETTINGS, off=st.integers(1, 3))
    def expect_another_revision(self, service: str, environment: str, wanted: Settings, off: int) -> None:
        """A write that expects another revision than the current one changes nothing."""
        config_id = ConfigId(environment, service)
        found = self._model.configurations[config_id]
        expected = (len(found.revisions) if found.content is not None else 0) + off
        self._refused(Conflict, "set", config_id, config=whole(wanted), expected_revision=expected)

    @rule(service=SERVICE, environment=ENVIRONMENT, wanted=SETTINGS)
    def try_out(self, service: str, environment: str, wanted: Settings) -> None:
        """A dry run changes nothing."""
        self._ask(
            "set",
            ConfigId(environment, service),
            config=whole(wanted),
            dry_run=True,
            allow_breaking=True,
        )

    @rule(environment=ENVIRONMENT, updates=st.lists(st.tuples(SERVICE, SETTINGS), min_size=1, max_size=4))
    def batch(self, environment: str, updates: list[tuple[str, Settings]]) -> None:
        """Later updates of a batch build on the earlier ones; each that changes something is a revision."""
        sent = [{"service": service, "config": whole(wanted)} for service, wanted in updates]
        answer = self._run(
            self._core.ask("batch", environment=environment, updates=sent, atomic=True, allow_breaking=True)
        )
        changed = [self._model.write(ConfigId(environment, service), wanted) for service, wanted in updates]
        assert [not result.get("unchanged", False) for result in answer["results"]] == changed

    @rule(environment=ENVIRONMENT, updates=st.lists(st.tuples(SERVICE, SETTINGS), max_size=3))
    def refuse_batch(self, environment: str, updates: list[tuple[str, Settings]]) -> None:
        """An atomic batch with one wrong update changes nothing."""
        sent: list[dict[str, Any]] = [{"service": service, "config": whole(wanted)} for service, wanted in updates]
        sent.append({"service": "bell", "config": valid_config(features={"fast": "yes"})})
        with pytest.raises(OperationError):
            self._run(self._core.ask("batch", environment=environment, updates=sent, atomic=True, allow_breaking=True))

    @rule(service=SERVICE, environment=ENVIRONMENT, numbers=st.lists(st.integers(0, 2), min_size=2, max_size=6))
    def write_at_once(self, service: str, environment: str, numbers: list[int]) -> None:
        """Writes that are sent together are carried out in the order in which they were sent."""
        config_id = ConfigId(environment, service)

        async def all_at_once() -> None:
            await asyncio.gather(
                *(
                    self._core.ask(
                        "set",
                        service,
                        environment=environment,
                        config=whole({"a": number}),
                        allow_breaking=True,
                    )
                    for number in numbers
                )
            )

        self._run(all_at_once())
        for number in numbers:
            self._model.write(config_id, {"a": number})

    @rule(environment=ENVIRONMENT)
    def activate(self, environment: str) -> None:
        answer = self._run(self._core.ask("activate", environment))
        assert answer["previous"] == self._model.active
        self._model.active = environment

    @rule(service=st.sampled_from(FROM_FILES), environment=ENVIRONMENT, content=SETTINGS)
    def edit_file(self, service: str, environment: str, content: Settings) -> None:
        """An edit reaches every member that no write has overridden."""
        self._model.files[ConfigId(environment, service)] = content
        self._write_files()
        self._run(self._core.ask("reload"))
        self._model.load_files()

    @rule()
    def restart(self) -> None:
        self._close()
        self._open()

    @rule()
    def back_up(self) -> None:
        self._close()
        self._backup = self._home.database.read_bytes(), copy.deepcopy(self._model)
        self._open()

    @precondition(lambda self: self._backup is not None)
    @rule()
    def restore(self) -> None:
        """Put the copy in place of the database; the files stay as they are."""
        assert self._backup is not None
        content, known = self._backup
        self._close()
        self._home.database.write_bytes(content)
        files = self._model.files
        self._model = copy.deepcopy(known)
        self._model.files = files
        self._open()
        self._model.load_files()

    @rule(service=SERVICE, has_key=st.booleans())
    def set_recipient(self, service: str, has_key: bool) -> None:
        """Seal the secrets of a service to a key of its own, or redact them again."""
        key = base64.b64encode(bytes(RECIPIENT.public_key)).decode() if has_key else None
        if any(self._model.configurations[ConfigId(known, service)].content is not None for known in ENVIRONMENTS):
            self._run(self._core.ask("recipient", service, public_key=key))

    # What always holds.

    @invariant()
    def answers_are_as_the_model_says(self) -> None:
        for config_id, found in self._model.configurations.items():
            if found.content is None:
                self._refused(NotFound, "get", config_id)
                continue
            answer = self._ask("get", config_id)
            assert visible(answer["config"]["settings"]) == visible(found.content)
            assert (answer["revision"], answer["version"]) == (len(found.revisions), found.version)
            effective = self._core.parts.state.committed(config_id).effective
            assert effective is not None
            assert effective.document["settings"] == found.content

    @invariant()
    def the_bus_is_told_what_get_answers(self) -> None:
        announced = self._core.parts.outbox.current
        for service in SERVICES:
            config_id = ConfigId(self._model.active, service)
            item = announced.get(f"service/{service}")
            if self._model.configurations[config_id].content is None:
                assert item is None or item.payload == b""
                continue
            assert item is not None
            answer, message = self._ask("get", config_id), json.loads(item.payload)
            shared = message.keys() & answer.keys()
            assert shared >= {"epoch", "sequence", "revision", "checksum", "config", "environment", "version"}
            assert {key: message[key] for key in shared} == {key: answer[key] for key in shared}

    @invariant()
    def subscribers_hold_what_get_answers(self) -> None:
        """A subscriber that connects now and then ends with what ``get`` answers, whatever happened in between."""
        for service, subscriber in self._subscribers.items():
            config_id = ConfigId(self._model.active, service)
            item = self._core.parts.outbox.current.get(f"service/{service}")
            subscriber.receive(b"" if item is None else item.payload)
            exists = self._model.configurations[config_id].content is not None
            assert subscriber.config == (self._ask("get", config_id)["config"] if exists else None)

    @rule()
    def read_history(self) -> None:
        """The history has every revision."""
        for config_id, found in self._model.configurations.items():
            if not found.revisions:
                continue
            items = self._ask("history", config_id)["revisions"]
            assert [item["revision"] for item in items] == list(range(len(found.revisions), 0, -1))
            assert [item.get("deleted", False) for item in items] == [
                content is None for content in reversed(found.revisions)
            ]

    # How.

    def _write(self, config_id: ConfigId, operation: str, wanted: Settings, *, allow: bool, **fields: Any) -> None:
        """Carry out a write in both worlds: refused as breaking, unchanged, or a new revision."""
        found = self._model.configurations[config_id]
        if not allow and found.content is not None and is_breaking(found.content, wanted):
            self._refused(Incompatible, operation, config_id, **fields)
            return
        if operation in {"set", "patch", "delete"}:
            fields["allow_breaking"] = allow
        answer = self._ask(operation, config_id, **fields)
        assert answer.get("unchanged", False) is not self._model.write(config_id, wanted)

    def _refused(self, error: type[OperationError], operation: str, config_id: ConfigId, **fields: Any) -> None:
        with pytest.raises(error):
            self._ask(operation, config_id, **fields)

    def _ask(self, operation: str, config_id: ConfigId, **fields: Any) -> Any:
        return self._run(self._core.ask(operation, config_id.service, environment=config_id.environment, **fields))

    def _run(self, work: Any) -> Any:
        return self._runner.run(work)

    def _write_files(self) -> None:
        self._home.write("environments/base.yaml", environment_file(settings={}))
        for environment in ENVIRONMENTS:
            services = {
                service: {"settings": content}
                for (known, service), content in self._model.files.items()
                if known == environment
            }
            self._home.write(f"environments/{environment}.yaml", {"services": services})

    def _open(self) -> None:
        async def enter() -> None:
            self._exit = contextlib.AsyncExitStack()
            self._core = await self._exit.enter_async_context(self._home.core("dev"))

        self._run(enter())

    def _close(self) -> None:
        if self._exit is not None:
            self._run(self._exit.aclose())
            self._exit = None


def test_any_sequence_of_operations_is_as_the_model_says():
    """Six random sequences end as the model says, after every step."""
    run_state_machine_as_test(Operations, settings=settings(max_examples=6, stateful_step_count=20, deadline=None))


@pytest.mark.soak
def test_any_sequence_of_operations_is_as_the_model_says_for_long():
    """The same with 25,000 steps."""
    run_state_machine_as_test(Operations, settings=settings(max_examples=500, stateful_step_count=50, deadline=None))
