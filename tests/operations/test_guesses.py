"""What stands for a secret, and who can find out about one: ``***``, sealed values, and callers that only read."""

import json
from pathlib import Path
from typing import Any

import pytest

from aliciacfg.access.caller import Caller
from aliciacfg.errors import OperationError, ValidationFailed
from aliciacfg.model.records import Write
from aliciacfg.sealing.boxes import PublicKey, seal_for
from builders import environment_file, valid_config
from inprocess import Core, Home
from soak import each_in_turn

SECRET = "kept-secret-51d2"
READER = Caller("reader", "test", proven=True)
WRITER = Caller("writer", "test", proven=True)
RULES = {
    "services": {"bell": {"read": {"allowed_services": ["reader"]}, "write": {"allowed_services": ["writer"]}}},
    "users": ["reader", "writer"],
}
SCHEMA = {
    "type": "object",
    "properties": {
        "settings": {
            "type": "object",
            "properties": {
                "pin": {"type": "string", "x-sensitive": True, "pattern": "^[a-z0-9-]{5,}$", "minLength": 5},
                "pins": {
                    "type": "array",
                    "uniqueItems": True,
                    "items": {"type": "string", "x-sensitive": True, "minLength": 5},
                },
                "either": {
                    "anyOf": [
                        {"properties": {"token": {"const": SECRET}}},
                        {"properties": {"token": {"maxLength": 3}}},
                    ]
                },
                "note": {"type": "string"},
            },
        }
    },
}
SETTINGS = {"pin": SECRET, "pins": [SECRET, "another-one"], "either": {"token": SECRET}}


def home(directory: Path, **files: object) -> Home:
    """A home in which a reader and a writer share a service with secrets."""
    bell = {"services": {"bell": {"settings": SETTINGS}}}
    return Home(
        directory,
        {
            "environments/base.yaml": environment_file(),
            "environments/dev.yaml": bell,
            "environments/access.yaml": RULES,
            "schemas/bell.yaml": SCHEMA,
            **files,
        },
    )


async def shown(core: Core, caller: Caller = READER) -> dict[str, Any]:
    return (await core.ask_as(caller, "get", "bell"))["config"]


async def sealed(core: Core, value: str) -> str:
    key = PublicKey.from_published(core.parts.key_rotation.published)
    return seal_for(key, value, service="bell")


async def test_a_reader_can_validate_what_it_reads(tmp_path: Path):
    """Secrets that it keeps or sends sealed meet every rule, wherever the rule stands; the others are judged."""
    async with home(tmp_path).core() as made:
        config = await shown(made)
        assert config["settings"]["pin"] == "***"
        assert await made.ask_as(READER, "validate", "bell", config=config) == {"valid": True, "problems": []}
        config["settings"]["pin"] = await sealed(made, "no")
        config["limits"] = {"x": "many"}
        answer = await made.ask_as(READER, "validate", "bell", config=config)
        assert [problem["pointer"] for problem in answer["problems"]] == ["/limits/x"]
        with_writer = await made.ask_as(WRITER, "validate", "bell", config=config)
        assert {problem["pointer"] for problem in with_writer["problems"]} == {"/limits/x", "/settings/pin"}


@pytest.mark.parametrize("form", ["plain", "sealed"])
@pytest.mark.parametrize("place", ["pins", "pin", "either", "size"])
async def test_an_answer_to_a_reader_does_not_depend_on_a_secret(tmp_path: Path, place: str, form: str):
    """The right guess gets the answer that a wrong one of the same length gets."""
    async with home(tmp_path).core(max_config_bytes="1100") as made:
        answers: list[object] = []
        for guess in (SECRET, "wrong-guess-0000"):
            config = await shown(made)
            assert len(guess) == len(SECRET)
            sent = guess if form == "plain" else await sealed(made, guess)
            match place:
                case "pins":
                    config["settings"]["pins"] = ["***", "***", sent]
                case "pin":
                    config["settings"]["pin"] = sent
                case "either":
                    config["settings"]["either"] = {"token": sent}
                case _:
                    config["settings"]["note"] = "x" * 400
                    config["settings"]["pins"] = [sent, "***"]
            try:
                answers.append(await made.ask_as(READER, "validate", "bell", config=config))
            except OperationError as error:
                answers.append((error.code, error.message))
        if place != "either" or form != "plain":
            assert answers[0] == answers[1]


@pytest.mark.parametrize("length", [1, 40, 300])
async def test_too_large_does_not_tell_a_reader_how_long_a_secret_is(tmp_path: Path, length: int):
    """The largest note that passes is the same for each length of the secret that is kept."""
    note = "n" * 480
    bell = {"services": {"bell": {"settings": {"free_token": "s" * length}}}}
    files = {"environments/dev.yaml": bell, "schemas/bell.yaml": {}}
    async with home(tmp_path, **files).core(max_config_bytes="850") as made:
        config = await shown(made)
        config["settings"]["note"] = note
        assert (await made.ask_as(READER, "validate", "bell", config=config))["valid"]
        config["settings"]["note"] = note + "n" * 100
        with pytest.raises(OperationError) as refused:
            await made.ask_as(READER, "validate", "bell", config=config)
        assert refused.value.code == "too_large"


async def trials(core: Core) -> list[tuple[str, str, int]]:
    """The audit log's entries about secrets that were sent and not stored, oldest first; the summaries are written."""
    core.parts.audit_log.flush()
    # Behind them in the queue.
    await core.parts.queue.submit(Write())
    entries = (await core.ask("audit"))["entries"]
    assert SECRET not in str(entries)
    found = [(e["operation"], e["who"], e.get("count", 1)) for e in entries if e["outcome"] == "secrets_tried"]
    return found[::-1]


async def test_the_guesses_of_a_writer_are_in_the_audit_log(tmp_path: Path):
    """Each way in which nothing is stored: the first at once, the others as a number, so that they cannot fill it."""
    async with home(tmp_path).core() as made:
        for pin in ("guess", SECRET):
            patch = {"settings": {"pin": pin}}
            config = await shown(made, WRITER)
            config["settings"] = {**config["settings"], "pin": pin}
            for _ in range(2):
                await made.ask_as(WRITER, "validate", "bell", config=config)
                await made.ask_as(WRITER, "patch", "bell", patch=patch, dry_run=True)
        await made.ask_as(WRITER, "set", "bell", config=config)
        updates = [{"service": "bell", "patch": {"settings": {"pin": await sealed(made, SECRET)}}}]
        await made.ask_as(WRITER, "batch", updates=updates)
        with pytest.raises(ValidationFailed):
            await made.ask_as(WRITER, "set", "bell", config={**config, "limits": {"x": "many"}})
        who = WRITER.author
        assert await trials(made) == [
            *[(operation, who, 1) for operation in ("validate", "patch", "set", "batch")],
            ("validate", who, 3),
            ("patch", who, 3),
            ("set", who, 1),
        ]


async def test_what_is_no_guess_is_not_in_the_audit_log(tmp_path: Path):
    """Secrets that are kept, that are stored, and those of a reader, whose answers do not depend on one."""
    async with home(tmp_path).core() as made:
        config = await shown(made, WRITER)
        await made.ask_as(WRITER, "validate", "bell", config=config)
        await made.ask_as(WRITER, "set", "bell", config=config)
        await made.ask_as(WRITER, "patch", "bell", patch={"settings": {"note": "n"}}, dry_run=True)
        await made.ask_as(WRITER, "patch", "bell", patch={"settings": {"pin": "another-pin"}})
        await made.ask_as(READER, "validate", "bell", config={**config, "settings": {"pin": "guess"}})
        assert await trials(made) == []


FILES: dict[str, dict[str, Any]] = {
    "environments/base.yaml": {"defaults": {**valid_config(), "settings": {"pin": "***"}}},
    "environments/dev.yaml": {"services": {"bell": {"mqtt_config": {"password": "***"}}}},
    "environments/dev-secrets.yaml": {"services": {"bell": {"settings": {"pins": ["first-pin", "***"]}}}},
    "environments/staging.yaml": {"defaults": {"settings": {"note": "***"}}},
}


# Each form in one of the files.
@pytest.mark.parametrize(
    ("file", "written"), each_in_turn(FILES, ['"***"', '" *** "', "${HIDDEN}", "${NOT_SET_AT_ALL:-***}"])
)
async def test_a_file_cannot_say_keep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, written: str):
    """``***`` in a file is refused with its line, in every layer, in arrays, and out of a variable."""
    monkeypatch.setenv("HIDDEN", "***")
    made_home = home(tmp_path)
    text = json.dumps(FILES[file])
    assert '"***"' in text
    text = text.replace('"***"', written if written.startswith('"') else f'"{written}"')
    async with made_home.core() as made:
        made_home.write(file, text)
        if file == "environments/staging.yaml":
            await made.ask("reload")
            (problem,) = (await made.ask("environments"))["environments"][-1]["problems"]
            told = problem["message"]
        else:
            with pytest.raises(ValidationFailed) as refused:
                await made.ask("reload")
            told = refused.value.problems[0].message
        assert told.startswith(f"{file}:1: found ***, which stands for a secret in answers")
        assert (await made.ask_as(WRITER, "validate", "bell", config=await shown(made)))["valid"]


async def test_an_overlay_can_be_dropped_whatever_the_files_say(tmp_path: Path):
    """``unset`` and ``delete`` of a secret bring back the value of the files, also one that looks like a redaction."""
    async with home(tmp_path, **{"schemas/bell.yaml": {}}).core() as made:
        for drop in ("unset", "delete"):
            await made.ask("patch", "bell", patch={"mqtt_config": {"password": "own"}})
            fields = {"pointer": "/mqtt_config/password"} if drop == "unset" else {}
            answer = await made.ask(drop, "bell", **fields)
            assert "/mqtt_config/password" in answer["changed"]
            assert not answer.get("unchanged")
            entry = made.parts.state.committed(made.configurations.config_id("bell", None))
            assert entry.effective is not None
            assert entry.effective.secrets["/mqtt_config/password"] == "from-the-files"


WRONG_FORMS = [
    "sealed:v2:0123456789abcdef:AAAA", "sealed:v1:nonsense", "sealed:v1", "sealed:", "SEALED:v1:0123456789abcdef:AAAA",
    " sealed:v1:0123456789abcdef:AAAA", "sealed:v10:x", "sealed:v1:0123456789abcdef:AAAA",
]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "operation"),
    # The last one in a file is another matter, see below.
    [*each_in_turn(WRONG_FORMS, ["set", "patch", "batch", "validate", "file"]), (WRONG_FORMS[-1], "file")],
)
async def test_a_damaged_box_is_no_secret(tmp_path: Path, operation: str, value: str):
    """Of another version, cut, or mistyped: it is refused with its place, not stored as a password."""
    made_home = home(tmp_path, **{"schemas/bell.yaml": {}})
    async with made_home.core() as made:
        patch = {"mqtt_config": {"password": value}}
        whole = {**await shown(made), "mqtt_config": {**valid_config()["mqtt_config"], "password": value}}
        match operation:
            case "batch":
                answer = await made.ask("batch", updates=[{"service": "bell", "patch": patch}])
                problems = answer["results"][0]["problems"]
            case "validate":
                problems = (await made.ask_as(READER, "validate", "bell", config=whole))["problems"]
            case "file" if value == WRONG_FORMS[-1]:
                # A key that is missing is another matter: the last stored value serves on.
                return
            case "file":
                made_home.write("environments/dev.yaml", {"services": {"bell": patch}})
                with pytest.raises(ValidationFailed) as refused:
                    await made.ask("reload")
                assert refused.value.problems[0].message.startswith("environments/dev.yaml:1: bell /mqtt_config/pass")
                return
            case _:
                fields = {"config": whole} if operation == "set" else {"patch": patch}
                with pytest.raises(ValidationFailed) as refused:
                    await made.ask(operation, "bell", **fields)
                problems = [{"pointer": problem.pointer} for problem in refused.value.problems]
        assert [problem["pointer"] for problem in problems] == ["/mqtt_config/password"]


@pytest.mark.parametrize("inside", ["***", "sealed:v1:0123456789abcdef:AAAA", "sealed:v2:x"])
async def test_a_box_around_no_secret_is_refused(tmp_path: Path, inside: str):
    """A redaction or a sealed value that was sealed once more is no secret."""
    async with home(tmp_path).core() as made:
        box = await sealed(made, inside)
        with pytest.raises(ValidationFailed) as refused:
            await made.ask("patch", "bell", patch={"mqtt_config": {"password": box}})
        assert refused.value.problems[0].message.startswith("is sealed, but what is inside is")


async def test_a_text_about_sealing_is_a_text(tmp_path: Path):
    """Where the schema has no secret, only what begins with ``sealed:v`` and a number was meant as a sealed value."""
    async with home(tmp_path).core() as made:
        for text in ("sealed: with wax", "sealed:", "SEALED:v1:x"):
            await made.ask("patch", "bell", patch={"settings": {"note": text}})
            assert (await made.settings("bell"))["note"] == text
        with pytest.raises(ValidationFailed) as refused:
            await made.ask("patch", "bell", patch={"settings": {"note": "sealed:v2:x"}})
        assert refused.value.problems[0].pointer == "/settings/note"


@pytest.mark.parametrize("default", ["***", "sealed:v1:0123456789abcdef:AAAA"])
async def test_a_schema_has_no_hidden_default(tmp_path: Path, default: str):
    """A default that is a redaction or sealed would be delivered as the secret."""
    made_home = home(tmp_path)
    async with made_home.core() as made:
        pin = {"type": "string", "x-sensitive": True, "default": default}
        schema = {"properties": {"settings": {"properties": {"pin": pin}}}}
        made_home.write("schemas/bell.yaml", schema)
        with pytest.raises(ValidationFailed) as refused:
            await made.ask("reload")
        assert "a default cannot be a secret that is hidden or sealed" in refused.value.problems[0].message


@pytest.mark.parametrize("value", ["***", "sealed:v1:0123456789abcdef:AAAA", "sealed:v2:x", ["a", "***"]])
async def test_a_migration_adds_no_stand_in(tmp_path: Path, value: object):
    """What a migration adds is taken as it stands, so it would be the secret itself."""
    made_home = home(tmp_path)
    async with made_home.core() as made:
        await made.ask("patch", "bell", patch={"settings": {"note": "x"}})
        operations = [{"op": "add", "path": "/settings/pin", "value": value}]
        made_home.write("schemas/bell/migrations/1-to-2.yaml", operations)
        with pytest.raises(ValidationFailed) as refused:
            await made.ask("reload")
        assert "bell/migrations/1-to-2.yaml:1: found *** or a sealed value" in refused.value.problems[0].message
