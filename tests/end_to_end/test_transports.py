"""The same operation has the same answer over HTTP, MQTT 5 and MQTT 3.1.1, and a trial leaves no trace on any."""

import json
import re
from typing import Any

import jsonpatch
import pytest

from aliciacfg.operations.table import BY_NAME
from brokers import Broker
from builders import valid_config
from daemons import Daemon
from machine import wait_until
from mqtt_clients import client
from transports import TRANSPORTS, Ask, asking, request

NEW = valid_config(
    mqtt_config={"password": "planted-secret-5510"}, settings={"volume": 1, "mood": "calm", "list": [1, "a"]}
)
VARYING = re.compile(r'"(last_updated|timestamp|since|last_seen)":\s*[0-9.]+')

MARKER = "alicia/reply/test/no-trace"
Step = tuple[str, str, dict[str, Any]]


def script(name: str) -> list[Step]:
    """Every operation that is about one service, with what it refuses too."""
    louder = {"patch": {"settings": {"volume": 2}}}
    return [
        ("history", name, {}),
        ("set", name, {"config": NEW, "expected_revision": 1}),
        ("set", name, {"config": NEW, "expected_revision": 0, "comment": "new", "request_id": "r-1"}),
        ("set", name, {"config": {**NEW, "limits": {"x": "many"}, "service_name": "other"}}),
        ("patch", name, louder),
        ("patch", name, louder),
        ("patch", name, {"patch": {"settings": {"mood": 5, "list": None}}}),
        ("patch", name, {"patch": {"settings": {"mood": 5, "list": None}}, "allow_breaking": True}),
        ("unset", name, {"pointer": "/settings/mood", "dry_run": True}),
        ("unset", name, {"pointer": "mood"}),
        ("rollback", name, {"revision": 99}),
        ("rollback", name, {"revision": 2, "dry_run": True}),
        ("rollback", name, {"revision": 2, "comment": "back", "expected_revision": 3}),
        ("batch", "", {"updates": [{"service": name, **louder}, {"service": name}, {"service": name, **louder}]}),
        ("batch", "", {"updates": [{"service": name, **louder}, {"service": "-"}], "atomic": True}),
        ("batch", "", {"updates": [{"service": name, "patch": {"a": 1}}], "dry_run": True}),
        ("get", name, {}),
        ("get", name, {"revision": 1}),
        ("history", name, {}),
        ("history", name, {"limit": 2, "before": 4}),
        ("history", name, {"limit": 0}),
        ("explain", name, {}),
        ("explain", name, {"environment": "moon"}),
        ("compare", name, {"rev1": 1, "rev2": 3}),
        ("compare", name, {"rev1": 1, "env2": "prod"}),
        ("compare", name, {}),
        ("instances", name, {}),
        ("delete", name, {"dry_run": True}),
        ("delete", name, {"comment": "gone"}),
        ("instances", name, {}),
        ("explain", name, {}),
        ("history", name, {"limit": 1}),
        ("rollback", name, {"revision": 1, "expected_revision": 0}),
        ("delete", name, {}),
    ]


async def told(ask: Ask, steps: list[Step], name: str) -> list[Any]:
    """The answers, without names, authors and times, which differ."""
    found: list[Any] = []
    for operation, target, fields in steps:
        answer = await ask(operation, target, **fields)
        text = VARYING.sub(r'"\1": 0', json.dumps(answer)).replace(name, "bell")
        text = re.sub(r'"author": "[^"]*"', '"author": ""', text)
        found.append((operation, json.loads(text)))
    return found


async def test_every_operation_has_the_same_answer_on_every_transport(shared: Daemon):
    """Successes and refusals of one life of a configuration, members and messages alike."""
    answers: dict[str, list[Any]] = {}
    for number, transport in enumerate(TRANSPORTS):
        name = f"transport_bell_{number}"
        async with asking(shared, transport) as ask:
            steps = script(name)
            if number == 0:
                assert {step[0] for step in steps} == {
                    "set", "patch", "unset", "delete", "batch", "history", "rollback", "explain", "compare", "get",
                    "instances",
                }  # fmt: skip
            answers[transport] = [comparable(item) for item in await told(ask, steps, name)]
    first = answers["http"]
    assert sum(item[1]["status"] == "error" for item in first) == 13
    for transport in TRANSPORTS[1:]:
        for ours, theirs in zip(first, answers[transport], strict=True):
            assert theirs == ours, transport


def comparable(value: Any) -> Any:
    """Return an answer without what differs between two services: digests, and their place in the home's order."""
    if isinstance(value, dict):
        return {
            key: bool(inner) if key in {"checksum", "sequence"} else comparable(inner) for key, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [comparable(item) for item in value]
    return value


ABOUT_ALL: list[Step] = [
    ("activate", "prod", {"dry_run": True}),
    ("activate", "dev", {"dry_run": True}),
    ("activate", "moon", {"dry_run": True}),
    ("activate", "dev", {}),
    ("reload", "", {"dry_run": True}),
    ("reload", "", {"dry_run": "yes"}),
    ("drift", "", {}),
    ("environments", "", {}),
    ("list", "", {"prefix": "voice"}),
    ("compare", "voice_router", {"env1": "dev", "env2": "prod"}),
    ("explain", "voice_router", {}),
    ("instances", "voice_router", {}),
    ("history", "voice_router", {}),
]


@pytest.mark.parametrize(("operation", "name", "fields"), ABOUT_ALL, ids=[f"{step[0]} {step[1]}" for step in ABOUT_ALL])
async def test_what_is_about_everything_has_the_same_answer_on_every_transport(
    shared: Daemon, operation: str, name: str, fields: dict[str, Any]
):
    """Byte for byte, status and request id included."""
    found: dict[str, Any] = {}
    for transport in TRANSPORTS:
        async with asking(shared, transport) as ask:
            found[transport] = await ask(operation, name, **fields, request_id="the same")
    assert found["http"]["request_id"] == "the same"
    assert found["mqtt 5"] == found["http"]
    assert found["mqtt 3.1.1"] == found["http"]


async def test_a_copy_that_reports_is_listed_on_every_transport(shared: Daemon):
    """What it said on the bus, and whether it is current."""
    name = "multi_language"
    current = shared.config(name)
    async with client(shared.broker_port) as mqtt:
        report = {"instance": "copy-1", "revision": current["revision"], "checksum": current["checksum"]}
        await mqtt.publish(f"alicia/config/applied/{name}", {**report, "status": "applied"})
        await mqtt.ask(f"alicia/config/get/{name}")
    found: list[Any] = []
    for transport in TRANSPORTS:
        async with asking(shared, transport) as ask:
            found.append((await ask("instances", name))["instances"])
    assert [(item["instance"], item["current"], item["status"]) for item in found[0]] == [("copy-1", True, "applied")]
    assert found[0] == found[1] == found[2]


def tables(daemon: Daemon) -> dict[str, list[Any]]:
    """Everything that is stored, but the audit log, which notes that secrets were tried, and what counts commits."""
    passing = {"audit", "chain", "home", "lease", "replicas"}
    return {name: sorted(rows, key=repr) for name, rows in daemon.stored_rows().items() if name not in passing}


TRIALS: list[Step] = [
    ("set", "bell", {"config": {**NEW, "settings": {"volume": 3, "list": []}}, "allow_breaking": True}),
    ("patch", "bell", {"patch": {"settings": {"volume": 4, "new": {"a/b": [True]}}}}),
    ("unset", "bell", {"pointer": "/settings/volume"}),
    ("delete", "bell", {}),
    ("rollback", "bell", {"revision": 1}),
    ("batch", "", {"updates": [{"service": "bell", "patch": {"settings": {"volume": 5}}}]}),
    ("activate", "staging", {}),
    ("reload", "", {}),
    ("set", "visitor", {"config": NEW}),
]
REFUSED_TRIALS: list[Step] = [
    ("patch", "bell", {"patch": {"settings": {"volume": "x"}}}),
    ("patch", "bell", {"patch": {"limits": {"x": "many"}}}),
    ("rollback", "bell", {"revision": 9}),
    ("batch", "", {"updates": [{"service": "bell", "patch": {"limits": {"x": "many"}}}], "atomic": True}),
    ("activate", "broken", {}),
]


@pytest.fixture(scope="module")
def trial_home(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A daemon with a service of its own, an environment that can be activated, and one that cannot."""
    directory = tmp_path_factory.mktemp("trials")
    broker = Broker(directory / "broker").start()
    home = Daemon(directory / "home", broker_port=broker.port).prepare()
    dev = (home.environments / "dev.yaml").read_text()
    (home.environments / "staging.yaml").write_text(dev.replace("requests_per_minute: 6000", "requests_per_day: 9"))
    (home.environments / "broken.yaml").write_text("services: {voice_router: {settings: {max_sessions: many}}}")
    home.start()
    assert request(home, "set", "bell", config=NEW).status == 201
    assert request(home, "patch", "bell", patch={"settings": {"volume": 2}}).status == 200
    # That the bus holds an update is written down a little later.
    wait_until(lambda: not any(row["pending"] for row in home.stored_rows()["outbox"]))
    yield home
    assert home.stop() == 0
    broker.stop()


def health(daemon: Daemon) -> dict[str, Any]:
    found = daemon.http("GET", "/health").json
    # Changes with time.
    found.pop("replica", None)
    for moving in ("timestamp", "uptime", "messages_processed", "errors", "cache_hit_rate"):
        del found[moving]
    return found


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_trial_leaves_no_trace(trial_home: Daemon, transport: str):
    """No row, no retained message, no alert, nothing in health; the difference turns what is into what would be."""
    home = trial_home
    async with asking(home, transport) as ask, client(home.broker_port) as watching:
        retained = await watching.retained("alicia/config/#")
        before, healthy = tables(home), health(home)
        old = home.config("bell")["config"]
        await watching.subscribe("alicia/config/alert/+", "alicia/config/update/+", "alicia/config/environment", MARKER)
        for topic in retained:
            if topic != "alicia/config/key":
                await watching.next()
        for operation, name, fields in TRIALS:
            answer = await ask(operation, name, **fields, dry_run=True)
            assert answer["status"] == "success", answer
            result = answer["results"][0] if operation == "batch" else answer
            assert result["dry_run"] is True
            if "bell" in result["difference"] and operation != "activate":
                patched = jsonpatch.apply_patch({**old, "version": ""}, result["difference"]["bell"])
                shown = result.get("config", {})
                # A deletion leaves nothing but the version, which is not part of any difference.
                assert patched == {**shown, "version": ""}
        for operation, name, fields in REFUSED_TRIALS:
            answer = await ask(operation, name, **fields, dry_run=True)
            assert answer["status"] == "error" or operation == "patch"
        await watching.publish(MARKER)
        assert (await watching.next()).topic == MARKER
        assert tables(home) == before
        assert health(home) == healthy
        assert await watching.retained("alicia/config/#") == retained


async def test_the_difference_of_an_activation_is_by_service(trial_home: Daemon):
    """The difference of each service to its present configuration; a service without one afterwards is emptied."""
    answer = request(trial_home, "activate", "staging", dry_run=True).json
    assert (answer["environment"], answer["previous"]) == ("staging", "dev")
    assert sorted(answer["changed"]) == sorted(answer["difference"])
    old = trial_home.config("bell")["config"]
    assert jsonpatch.apply_patch(old, answer["difference"]["bell"]) == {"version": old["version"]}
    for name in ("voice_router", "stt_service"):
        old = trial_home.config(name)["config"]
        patched = jsonpatch.apply_patch(old, answer["difference"][name])
        new = trial_home.config(name, "?environment=staging")["config"]
        assert "requests_per_day" in new["limits"]
        assert {**patched, "version": ""} == {**new, "version": ""}


def test_every_operation_that_changes_something_can_be_tried():
    """The table and this file agree on which these are."""
    can = {name for name, row in BY_NAME.items() if "dry_run" in row.fields}
    assert can == {step[0] for step in TRIALS}
