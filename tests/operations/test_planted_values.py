"""No value reaches anybody but its sender: not the alerts, the log, the list of environments, nor another reader."""

import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from structlog.testing import capture_logs

from aliciacfg.errors import OperationError, Problem, ValidationFailed
from builders import environment_file, valid_config
from inprocess import Core, Home, core, listening
from soak import each_in_turn

PLANTED = "planted4cb1"
NUMBER = 918273645
SCHEMA = {
    "type": "object",
    "properties": {
        "settings": {
            "type": "object",
            "properties": {
                "mode": {"enum": ["open", "planted4cb1-option"]},
                "only": {"const": "planted4cb1-constant"},
                "form": {"type": "string", "pattern": "^planted4cb1-pattern$"},
                "size": {"type": "integer", "maximum": 5},
                "flag": {"type": "string"},
                "list": {"type": "array", "uniqueItems": True, "items": {"type": "string", "maxLength": 40}},
                "closed": {"type": "object", "properties": {"a": {}}, "additionalProperties": False},
                "address": {"type": "string", "format": "ipv4"},
                "either": {"anyOf": [{"type": "boolean"}, {"type": "null"}]},
                "pin": {"type": "string", "x-sensitive": True, "minLength": 50},
            },
        }
    },
}
# Each breaks a rule; by what a wrong value is.
WRONG: dict[str, dict[str, Any]] = {
    "option": {"settings": {"mode": PLANTED}},
    "constant": {"settings": {"only": PLANTED}},
    "pattern": {"settings": {"form": PLANTED}},
    "number": {"settings": {"size": NUMBER}},
    "fraction": {"settings": {"size": NUMBER + 0.5}},
    "string for a number": {"settings": {"size": PLANTED}},
    "number for a string": {"settings": {"flag": NUMBER}},
    "repeated item": {"settings": {"list": [PLANTED, PLANTED]}},
    "item": {"settings": {"list": [PLANTED * 4]}},
    "name of a member": {"settings": {"closed": {PLANTED: 1}}},
    "name in a map": {"limits": {PLANTED: "x"}},
    "value in a map": {"features": {"x": PLANTED}},
    "format": {"settings": {"address": PLANTED}},
    "no alternative": {"settings": {"either": PLANTED}},
    "secret": {"settings": {"pin": PLANTED}},
    "port": {"mqtt_config": {"port": PLANTED}},
    "address with a password": {"mqtt_config": {"port": f"mqtt://u:{PLANTED}@broker"}},
    "level too high": {"mqtt_config": PLANTED},
    "service name": {"service_name": PLANTED},
    "environment": {"environment": PLANTED},
    "version": {"version": PLANTED},
}
# A sender does not see again what may be a secret, and it has to look for the wrong member of a container itself.
NOT_QUOTED = {"repeated item", "secret", "level too high"}


def spills(text: str) -> bool:
    return PLANTED in text or str(NUMBER) in text


def rules(core: Core) -> str:
    """Everything that a core has told to others than the sender."""
    heard = [(alert.message, alert.problems) for alert in [*core.heard, *core.parts.alerts.active_alerts]]
    return repr([heard, core.standing])


def told(error: OperationError) -> str:
    return repr((error.message, error.problems))


@pytest.mark.parametrize(("wrong", "operation"), each_in_turn(WRONG, ["patch", "set", "batch"]))
async def test_a_wrong_value_is_told_to_its_sender_alone(tmp_path: Path, wrong: str, operation: str):
    """The answer quotes it, with the names that it has; the alert names the place, type and length."""
    files = {"environments/dev.yaml": environment_file({"bell": {}}), "schemas/bell.yaml": SCHEMA}
    whole = {**valid_config(), **WRONG[wrong]}
    async with core(tmp_path, files) as made:
        with capture_logs() as logs:
            if operation == "batch":
                answer = await made.ask("batch", updates=[{"service": "bell", "patch": WRONG[wrong]}])
                answered = repr(answer)
            else:
                fields = {"patch": WRONG[wrong]} if operation == "patch" else {"config": whole}
                with pytest.raises(ValidationFailed) as refused:
                    await made.ask(operation, "bell", **fields)
                answered = told(refused.value)
        assert spills(answered) == (wrong not in NOT_QUOTED)
        assert [alert.kind for alert in made.heard] == ["validation_failed"]
        assert not spills(rules(made) + repr(logs))
        assert made.heard[0].service == "bell"
        assert all(problem.pointer and problem.message for problem in made.heard[0].problems)


@pytest.mark.parametrize(("wrong", "origin"), each_in_turn(WRONG, ["file", "variable", "secrets file"]))
async def test_a_wrong_value_in_a_file_is_told_to_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str, origin: str
):
    """File and line are: in the alert, the log, the answer to ``reload``, and to whoever looks at environments."""
    text = json.dumps({"services": {"bell": WRONG[wrong]}})
    if origin == "variable":
        monkeypatch.setenv("FOUND", PLANTED)
        text = text.replace(f'"{PLANTED}"', '"${FOUND}"')
    name = "-secrets" if origin == "secrets file" else ""
    home = Home(
        tmp_path,
        {
            "environments/base.yaml": environment_file({"bell": {}}),
            "environments/dev.yaml": {},
            "environments/staging.yaml": {},
            "schemas/bell.yaml": SCHEMA,
        },
    )
    with capture_logs() as logs:
        async with home.core() as made:
            for environment in ("staging", "new"):
                home.write(f"environments/{environment}{name}.yaml", text)
            await made.ask("reload")
            told_to_readers = [await made.ask("environments")]
            staging = told_to_readers[0]["environments"][-1]
            assert staging["problems"][0]["message"].startswith(f"environments/staging{name}.yaml:1: ")
            with pytest.raises(OperationError) as unknown:
                await made.ask("get", "bell", environment="new")
            with pytest.raises(OperationError) as refused:
                await made.ask("activate", "staging")
            told_to_readers += [told(unknown.value), told(refused.value)]
            home.write(f"environments/dev{name}.yaml", text)
            for dry_run in (True, False):
                with pytest.raises(ValidationFailed) as refused:
                    await made.ask("reload", dry_run=dry_run)
                told_to_readers.append(told(refused.value))
            told_to_readers += [rules(made), repr(await made.ask("health"))]
            assert f"environments/dev{name}.yaml:1: " in made.told("validation_failed")
        async with home.core() as made:
            told_to_readers += [rules(made), made.parts.reloads.degraded or ""]
    assert not spills(repr(told_to_readers) + repr(logs))


UNREADABLE = [
        "{p}: 1\n", "services: {{'{p} ': {{}}}}\n", "services: [{p}]\n",
        "defaults: {{a: !{p} x}}\n", "defaults: {{a: *{p}}}\n", "defaults: {{a: '{p}\n",
        "defaults: {{{p}: 1, {p}: 2}}\n",
        "defaults: {{918273645: 1}}\n", "defaults: {{a: 918273645918273645918273645}}\n",
        "defaults: {{a: ${{{p}-x}}}}\n",
        "defaults: {{a: '${{{p} x}}'}}\n", "a: {p}: {p}\n", 'defaults: {{a: "{p}\\uD800"}}\n', "{p}\n", "- {p}\n",
        "%{p}\n---\n", "a: @{p}\n", "a: &{p}\n\tb: {p}", "defaults: {{a: {p}\x07}}\n", "--- {p}\n--- {p}\n",
]  # fmt: skip


@pytest.mark.parametrize("file", ["environments/dev.yaml", "environments/access.yaml"])
async def test_a_file_that_cannot_be_read_is_not_quoted(tmp_path: Path, file: str):
    """Its line is named, never what stands there."""
    home = Home(tmp_path, {"environments/dev.yaml": environment_file({"bell": {}}), "schemas/bell.yaml": {}})
    async with home.core() as made:
        for text in UNREADABLE:
            made.heard.clear()
            home.write(file, text.format(p=PLANTED))
            with capture_logs() as logs, pytest.raises(ValidationFailed) as refused:
                await made.ask("reload")
            assert f"{file}:" in told(refused.value), text
            listed = repr(await made.ask("environments"))
            assert f"{file}:" in listed, text
            assert not spills(told(refused.value) + rules(made) + repr(logs) + listed), text


NO_SCHEMAS: list[dict[str, Any]] = [
        {"type": PLANTED}, {"required": PLANTED}, {"properties": {"a": {"pattern": f"({PLANTED}"}}},
        {"properties": {"a": {"type": "integer", "default": PLANTED}}}, {"properties": {"a": {"$ref": PLANTED}}},
        {"version": PLANTED}, {"compatibility": PLANTED}, {"properties": {"a": {"x-env": f"{PLANTED} x"}}},
        {"properties": {"a": {"type": "string", "x-sensitive": PLANTED}}}, {"properties": {"a": {"minimum": PLANTED}}},
        {"properties": {"mqtt_config": {"properties": {"port": {"default": PLANTED}}}}}, {"$ref": f"#/{PLANTED}"},
]  # fmt: skip


async def test_a_schema_that_is_none_is_not_quoted(tmp_path: Path):
    """The place in the schema is named, never what stands there."""
    home = Home(tmp_path, {"environments/dev.yaml": environment_file({"bell": {}})})
    async with home.core() as made:
        for schema in NO_SCHEMAS:
            made.heard.clear()
            home.write("schemas/bell.yaml", schema)
            with capture_logs() as logs, pytest.raises(ValidationFailed) as refused:
                await made.ask("reload")
            assert "schemas/bell.yaml" in told(refused.value), schema
            assert not spills(told(refused.value) + rules(made) + repr(logs)), schema


@pytest.mark.parametrize(
    ("migration", "overlay"),
    [
        ([{"op": "test", "path": "/settings/flag", "value": PLANTED}], {"settings": {"flag": "x"}}),
        ([{"op": "add", "path": "/settings/size", "value": PLANTED}], {"settings": {"flag": "x"}}),
        ([{"op": "replace", "path": "/settings/flag", "value": NUMBER}], {"settings": {"flag": "x"}}),
        ([{"op": "add", "path": "/settings/flag/x", "value": 1}], {"settings": {"flag": PLANTED}}),
        ([{"op": "remove", "path": "/settings/list/7"}], {"settings": {"list": [PLANTED]}}),
        ([{"op": PLANTED, "path": "/settings/flag"}], {"settings": {"flag": "x"}}),
        ([{"op": "add", "path": PLANTED, "value": 1}], {"settings": {"flag": "x"}}),
        ([PLANTED], {"settings": {"flag": "x"}}),
    ],
)
async def test_a_migration_does_not_quote_what_it_moves(tmp_path: Path, migration: Any, overlay: dict[str, Any]):
    """Neither what its file has nor what is stored."""
    home = Home(tmp_path, {"environments/dev.yaml": environment_file({"bell": {}}), "schemas/bell.yaml": SCHEMA})
    async with home.core() as made:
        await made.ask("patch", "bell", patch=overlay)
        home.write("schemas/bell.yaml", {**SCHEMA, "version": "2.0.0"})
        home.write("schemas/bell/migrations/1-to-2.yaml", migration)
        with capture_logs() as logs:
            try:
                answered = repr((await made.ask("reload"))["migrations"])
            except OperationError as error:
                answered = told(error)
        assert answered != "[]"
        assert not spills(answered + rules(made) + repr(logs))


REQUESTS: list[tuple[str, str, Any]] = [
    ("PATCH", "/config/bell", {"limits": {"x": PLANTED}}),
    ("PATCH", "/config/bell", {"version": "0.0.1", "limits": {PLANTED: PLANTED}}),
    ("POST", "/config/validate", {"service": "bell", "config": {"version": PLANTED}}),
    ("POST", "/config/validate", {"service": f"{PLANTED}/", "config": {}}),
    ("POST", "/config/bell/unset", {"pointer": PLANTED}),
    ("POST", "/config/bell/unset", {"pointer": "/x", "environment": PLANTED}),
    ("POST", "/config/bell/unset", {PLANTED: 1}),
    ("POST", "/config/bell/rollback", {"revision": PLANTED}),
    ("POST", "/configs/batch", {"updates": [{"service": f"{PLANTED} ", "patch": {}}]}),
    ("POST", "/configs/batch", {"atomic": True, "updates": [{"service": "bell", "patch": {"limits": {"x": PLANTED}}}]}),
    ("POST", "/configs/batch", {"updates": PLANTED}),
    ("PUT", "/config/bell/recipient", {"public_key": PLANTED}),
    ("GET", f"/config/bell?pointer=/{PLANTED}", None),
    ("GET", f"/config/bell?environment={PLANTED}", None),
    ("GET", f"/config/bell?format={PLANTED}", None),
    ("GET", f"/configs?limit={PLANTED}", None),
    ("GET", f"/config/bell?{PLANTED}=1", None),
]


async def test_the_log_of_refused_requests_quotes_none(tmp_path: Path):
    """It has code and path; the answer alone says more."""
    files = {"environments/dev.yaml": environment_file({"bell": {}})}
    async with core(tmp_path, files) as made, listening(made) as url, aiohttp.ClientSession() as session:
        for method, path, body in REQUESTS:
            with capture_logs() as logs:
                async with session.request(method, url + path, json=body) as response:
                    assert response.status < 500, (method, path)
                    await response.read()
            assert not spills(repr(logs) + rules(made)), (method, path)


async def test_the_requested_version_is_told_to_its_sender_alone(tmp_path: Path):
    """A version below what the change needs; from a file it is told to nobody."""
    home = Home(tmp_path, {"environments/dev.yaml": environment_file({"bell": {}})})
    async with home.core() as made:
        patch = {"limits": {"x": 1}, "version": "1.0.918273645"}
        with pytest.raises(ValidationFailed) as refused:
            await made.ask("patch", "bell", patch=patch)
        expected = "found '1.0.918273645'; this change needs at least 1.1.0: leave version out"
        assert refused.value.problems == (Problem("/version", expected),)
        home.write("environments/dev.yaml", environment_file({"bell": patch}))
        with pytest.raises(ValidationFailed) as refused:
            await made.ask("reload")
        assert "found a lower version; this change needs at least 1.1.0" in told(refused.value)
        assert not spills(told(refused.value) + rules(made))
