"""What compare, explain and environments say of environments that are not valid yet."""

import json
from pathlib import Path
from typing import Any

import pytest

from aliciacfg.access.caller import Caller
from aliciacfg.api.encoding import encode_failure
from aliciacfg.core.drafts import Draft, Drafts
from aliciacfg.errors import Forbidden, NotFound, OperationError, Unauthorized, Unavailable
from aliciacfg.model.config_id import ConfigId
from builders import environment_file
from inprocess import Core, Home

SECRET = "planted-in-a-file-5e0b"
SCHEMA = {
    "properties": {
        "settings": {
            "properties": {
                "volume": {"type": "integer"},
                "pin": {"type": "string", "x-sensitive": True},
                "hook": {"type": "object"},
                "tone": {"type": "string"},
            },
            "required": ["pin"],
            "additionalProperties": False,
        }
    }
}
DEV = {"services": {"bell": {"settings": {"volume": 3, "pin": SECRET, "tone": "low"}}}}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home whose prod names the service of dev, without its secret."""
    return Home(
        tmp_path,
        {
            "schemas/bell.yaml": SCHEMA,
            "environments/base.yaml": environment_file({"bell": {}}),
            "environments/dev.yaml": DEV,
            "environments/prod.yaml": "services:\n  bell:\n    settings:\n      volume: 5\n      tone: high\n",
        },
    )


async def compared(core: Core, **fields: Any) -> Any:
    return await core.ask("compare", "bell", env1="dev", env2="prod", **fields)


async def test_what_is_missing_shows_beside_the_differences(home: Home):
    """With a revision of 0, the place, its problem with file and line, and the command that corrects it."""
    async with home.core() as core:
        answer = await compared(core)
        assert (answer["rev1"], answer["rev2"], answer["equal"]) == (1, 0, False)
        assert answer["changed"] == {
            "/settings/volume": {"env1": 3, "env2": 5},
            "/settings/tone": {"env1": "low", "env2": "high"},
        }
        assert answer["only_in_env1"] == {"/settings/pin": "secret"}
        assert answer["missing"] == {"prod": ["/settings/pin"]}
        (problem,) = answer["problems"]["prod"]
        assert problem["pointer"] == "/services/bell/settings/pin"
        assert "environments/prod.yaml:3" in problem["message"]
        assert answer["remedies"] == ["aliciacfg secret set bell /settings/pin -e prod"]
        listed = {item["name"]: item for item in (await core.ask("environments"))["environments"]}
        assert listed["prod"]["remedies"] == answer["remedies"]
        assert "remedies" not in listed["dev"]


async def test_the_remedy_makes_what_can_be_made(home: Home):
    """Passwords by one command for all; what others give out has to be set, one by one."""
    schema = {"properties": {"settings": {"required": ["gate_password", "weather_api_key"]}}}
    home.write("schemas/bell.yaml", schema)
    home.write(
        "environments/dev.yaml", {"services": {"bell": {"settings": {"gate_password": "1", "weather_api_key": "2"}}}}
    )
    async with home.core() as core:
        answer = await compared(core)
        assert answer["remedies"] == [
            "aliciacfg secret generate prod",
            "aliciacfg secret set bell /settings/weather_api_key -e prod",
        ]


async def test_explain_shows_the_origins_of_an_invalid_configuration(home: Home):
    """Of what its files say, with file and line, beside the problems; no value is that of a secret."""
    async with home.core() as core:
        answer = await core.ask("explain", "bell", environment="prod")
        assert answer["revision"] == 0
        volume = answer["values"]["/settings/volume"]
        assert (volume["value"], volume["layer"], volume["line"]) == (5, "environments/prod.yaml#services", 4)
        assert answer["missing"] == ["/settings/pin"]
        assert len(answer["problems"]) == 1
        with pytest.raises(NotFound):
            await core.ask("get", "bell", environment="prod")


async def test_what_is_corrected_is_compared_as_before(home: Home):
    """Once a write at run time adds the secret, the configuration is valid, and nothing says otherwise."""
    async with home.core() as core:
        await core.ask("patch", "bell", environment="prod", patch={"settings": {"pin": SECRET}})
        answer = await compared(core)
        assert answer["rev2"] == 1
        assert not answer.keys() & {"missing", "problems", "remedies"}


@pytest.mark.parametrize(
    ("line", "pointer"),
    [
        (f"hook: {SECRET}", "/settings/hook"),
        ("pin: 40714071", "/settings/pin"),
        (f"pin: {{value: {SECRET}, more: [{SECRET}]}}", "/settings/pin/value"),
        (f"pinn: {SECRET}", "/settings/pinn"),
        (f"pinn: {{deep: [{SECRET}]}}", "/settings/pinn"),
    ],
    ids=["text for an object", "number for a secret", "object for a secret", "misspelt name", "misspelt object"],
)
async def test_what_may_be_meant_as_a_secret_is_not_shown(home: Home, line: str, pointer: str):
    """A value in the wrong place or of the wrong type shows as a secret, in whatever shows drafts."""
    home.write("environments/prod.yaml", f"services:\n  bell:\n    settings:\n      volume: 5\n      {line}\n")
    async with home.core() as core:
        answer = await compared(core)
        explained = await core.ask("explain", "bell", environment="prod")
        trial = await refused(core)
        assert answer["problems"]["prod"]
        found = {**answer["only_in_env2"], **{place: sides["env2"] for place, sides in answer["changed"].items()}}
        # Where both sides have a secret, it is known only whether they are equal.
        assert found.get(pointer, "secret") == "secret"
        assert explained["values"][pointer]["value"] == "***"
        for text in map(json.dumps, (answer, explained, trial)):
            assert SECRET not in text
            assert "4071" not in text


async def test_a_variable_that_is_not_set_is_a_missing_value(home: Home):
    """It hides the value of the file below, as it will once it is set; the rest of the file is compared."""
    home.write("environments/base.yaml", environment_file({"bell": {"settings": {"tone": "plain"}}}))
    text = "services:\n  bell:\n    settings:\n      volume: 5\n      tone: ${TONE_OF_PROD}\n      pin: ${PIN:-x}\n"
    text += "  lamp:\n    settings:\n      code: ${CODE_OF_ANOTHER}\n"
    home.write("environments/prod.yaml", text)
    async with home.core() as core:
        answer = await compared(core)
        assert answer["changed"] == {"/settings/volume": {"env1": 3, "env2": 5}, "/settings/pin": answer_of_secrets()}
        assert answer["only_in_env1"] == {"/settings/tone": "low"}
        assert answer["missing"] == {"prod": ["/settings/tone"]}
        (problem,) = answer["problems"]["prod"]
        assert "environments/prod.yaml:5" in problem["message"]
        assert "TONE_OF_PROD" in problem["message"]
        assert "remedies" not in answer
        explained = await core.ask("explain", "bell", environment="prod")
        removed = explained["removed"]["/settings/tone"]
        assert (removed["layer"], removed["line"]) == ("environments/prod.yaml#services", 5)


def answer_of_secrets() -> dict[str, str]:
    return {"env1": "secret", "env2": "secret"}


async def test_a_trial_of_activate_lists_problems_and_changes(home: Home):
    """The refusal has both; the activation itself says only what is wrong, and changes nothing either."""
    async with home.core() as core:
        trial = await refused(core)
        assert trial["code"] == "validation_failed"
        assert len(trial["problems"]) == 1
        assert trial["remedies"] == ["aliciacfg secret set bell /settings/pin -e prod"]
        assert {"op": "replace", "path": "/settings/volume", "value": 5} in trial["difference"]["bell"]
        assert {"op": "remove", "path": "/settings/pin"} in trial["difference"]["bell"]
        assert trial["changes"]["bell"]["/settings/volume"] == {"old": 3, "new": 5}
        assert trial["changes"]["bell"]["/settings/pin"] == {"old": "***"}
        assert not {"difference", "changes"} & (await refused(core, dry_run=False)).keys()
        assert (await core.ask("environments"))["active"] == "dev"


async def refused(core: Core, *, dry_run: bool = True) -> Any:
    with pytest.raises(OperationError) as error:
        await core.ask("activate", "prod", dry_run=dry_run)
    return json.loads(encode_failure(error.value, None))


async def test_who_may_not_read_a_service_learns_nothing_of_it(home: Home):
    """Neither its values nor its problems."""
    home.write("environments/access.yaml", "users: [hall, attic]\n")
    async with home.core() as core:
        for operation, fields in (("compare", {"env1": "dev", "env2": "prod"}), ("explain", {"environment": "prod"})):
            for caller in (Caller("attic", "test", proven=True), Caller(None, "test")):
                with pytest.raises((Forbidden, Unauthorized)):
                    await core.ask_as(caller, operation, "bell", **fields)


async def test_a_file_that_cannot_be_read_leaves_the_stored_revision(home: Home):
    """Of a configuration that was valid before, its last revision is compared, not what other files say."""
    async with home.core() as core:
        await core.ask("patch", "bell", environment="prod", patch={"settings": {"pin": SECRET}})
        home.write("environments/prod.yaml", "services: [\n")
        await core.parts.reloads.reload()
        answer = await compared(core)
        assert answer["rev2"] == 1
        assert answer["changed"]["/settings/volume"] == {"env1": 3, "env2": 5}


async def test_what_was_a_secret_stays_one(home: Home):
    """A value that was sealed in the overlay is not shown because the schema marks it no longer."""
    async with home.core() as core:
        await core.ask("patch", "bell", environment="prod", patch={"settings": {"pin": SECRET}})
        home.write("schemas/bell.yaml", {"properties": {"settings": {"properties": {"volume": {"type": "integer"}}}}})
        home.write("environments/prod.yaml", "services:\n  bell:\n    settings:\n      volume: loud\n")
        await core.parts.reloads.reload()
        answer = await compared(core)
        assert answer["rev2"] == 0
        explained = await core.ask("explain", "bell", environment="prod")
        for text in map(json.dumps, (answer, explained, await refused(core))):
            assert SECRET not in text


async def test_only_what_may_have_changed_is_composed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Of each environment's services that are not valid: those with another state, all after an edit of the files."""
    names = ["bell", "gate", "lamp"]
    home = Home(tmp_path, {f"schemas/{name}.yaml": SCHEMA for name in names})
    home.write("environments/base.yaml", environment_file({name: {} for name in names}))
    home.write("environments/dev.yaml", {"services": {name: {"settings": {"pin": SECRET}} for name in names}})
    for other in ("prod", "test"):
        home.write(f"environments/{other}.yaml", {"services": {name: {"settings": {"volume": 5}} for name in names}})
    async with home.core() as core:
        composed: list[ConfigId] = []
        compose = Drafts.of

        def counted(drafts: Drafts, config_id: ConfigId) -> Draft | None:
            composed.append(config_id)
            return compose(drafts, config_id)

        monkeypatch.setattr(Drafts, "of", counted)

        async def read() -> tuple[dict[str, Any], list[str]]:
            """What each environment lacks, and what was composed to find it out."""
            composed.clear()
            listed = (await core.ask("environments"))["environments"]
            lacking = {item["name"]: item.get("lacking_secrets", {}) for item in listed}
            return lacking, sorted("/".join(config_id) for config_id in composed)

        everything = [f"{other}/{name}" for other in ("prod", "test") for name in names]
        pins = {name: ["/settings/pin"] for name in names}
        assert await read() == ({"dev": {}, "prod": pins, "test": pins}, everything)
        assert await read() == ({"dev": {}, "prod": pins, "test": pins}, [])

        await core.ask("patch", "bell", patch={"settings": {"hook": {}, "pin": "another"}})
        assert await read() == ({"dev": {}, "prod": pins, "test": pins}, ["prod/bell", "test/bell"])

        await core.ask("patch", "gate", environment="prod", patch={"settings": {"pin": SECRET}})
        rest = {name: pins[name] for name in ("bell", "lamp")}
        assert await read() == ({"dev": {}, "prod": rest, "test": pins}, [])

        home.write("environments/test.yaml", {"services": {"lamp": {"settings": {"pin": SECRET, "volume": "high"}}}})
        await core.ask("reload")
        corrected = {"bell": pins["bell"], "gate": pins["gate"]}
        lacking, again = await read()
        assert lacking["test"] == corrected
        assert "prod/bell" in again


async def test_nothing_can_be_activated_while_no_files_are_in_force(home: Home):
    """After a start with a broken file every environment has its problem; after one that stored nothing, the reason."""
    async with home.core() as core:
        await core.ask("patch", "bell", environment="prod", patch={"settings": {"pin": SECRET}})
    home.write("environments/dev.yaml", "services: [")
    async with home.core() as core:
        listed = {item["name"]: item["problems"] for item in (await core.ask("environments"))["environments"]}
        assert listed.keys() == {"dev", "prod"}
        for problems in listed.values():
            assert [(problem["file"], problem["line"]) for problem in problems] == [("environments/dev.yaml", 1)]
        with pytest.raises(Unavailable):
            await core.ask("activate", "prod", dry_run=True)
        core.parts.files.refuse(())
        core.parts.files.not_stored = "The disk is full."
        (_, prod) = (await core.ask("environments"))["environments"]
        assert prod["problems"] == [{"pointer": "", "message": "The disk is full."}]
