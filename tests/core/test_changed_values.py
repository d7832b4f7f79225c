"""What the answer to a write says of the values that it changed."""

import json
from pathlib import Path
from typing import Any

import pytest

from builders import environment_file
from inprocess import Home

SECRET = {"type": "string", "x-sensitive": True}
SCHEMA = {"properties": {"settings": {"properties": {"pin": SECRET, "pins": {"items": SECRET}}}}}
OLD, NEW = "planted-old-47c1", "planted-new-9ab3"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home with one service that has secrets, one of them in an array."""
    settings = {"volume": 3, "rooms": ["hall"], "pin": OLD, "pins": [OLD]}
    return Home(
        tmp_path,
        {
            "schemas/bell.yaml": SCHEMA,
            "environments/base.yaml": environment_file({"bell": {"settings": settings}}),
            "environments/dev.yaml": "",
        },
    )


@pytest.mark.parametrize("dry_run", [False, True])
async def test_each_changed_place_has_its_old_and_new_value(home: Home, dry_run: bool):
    """A value that was not there before has no ``old``, one that is gone no ``new``; a trial answers the same."""
    patch = {"settings": {"volume": 5, "rooms": ["hall", "attic"], "tone": "low", "pins": None}}
    async with home.core() as made:
        answer = await made.ask("patch", "bell", patch=patch, allow_breaking=True, dry_run=dry_run)
        assert answer["changes"] == {
            "/settings/volume": {"old": 3, "new": 5},
            "/settings/rooms": {"old": ["hall"], "new": ["hall", "attic"]},
            "/settings/tone": {"new": "low"},
            "/settings/pins": {"old": ["***"]},
        }
        assert sorted(answer["changes"]) == sorted(answer["changed"])


async def test_no_secret_is_shown(home: Home):
    """Neither the old nor the new one, as a value or inside one."""
    async with home.core() as made:
        answer = await made.ask("patch", "bell", patch={"settings": {"pin": NEW, "pins": [NEW]}})
        assert answer["changes"] == {
            "/settings/pin": {"old": "***", "new": "***"},
            "/settings/pins": {"old": ["***"], "new": ["***"]},
        }
        text = json.dumps(answer)
        assert OLD not in text
        assert NEW not in text


async def test_a_write_without_effect_and_a_new_configuration_have_none(home: Home):
    """Where nothing differs there is nothing to show; of a new configuration, everything is in ``config``."""
    async with home.core() as made:
        assert "changes" not in await made.ask("patch", "bell", patch={"settings": {"volume": 3}})
        config = await made.config("bell")
        made_anew = await made.ask("set", "chime", config={**config, "service_name": "chime"})
        assert "changes" not in made_anew
        assert made_anew["changed"]


@pytest.mark.parametrize(
    ("patch", "left_out"),
    [({"settings": {"note": "x" * 1025}}, 1), ({"limits": {f"l{number}": number for number in range(103)}}, 3)],
    ids=["long", "many"],
)
async def test_the_answer_stays_short(home: Home, patch: dict[str, Any], left_out: int):
    """Long values are left out, and places beyond the hundredth; they are counted, and ``changed`` has all."""
    async with home.core() as made:
        answer = await made.ask("patch", "bell", patch=patch)
        assert answer["changes_left_out"] == left_out
        assert len(answer["changed"]) == len(answer.get("changes", {})) + left_out


URL = f"http://me:{OLD}@127.0.0.1/"


def schema(**settings: object) -> dict[str, Any]:
    return {"properties": {"settings": {"properties": settings}}}


@pytest.mark.parametrize("dry_run", [True, False])
async def test_a_load_has_the_old_and_new_values_by_service(home: Home, dry_run: bool):
    """Of a trial and of the load itself, secrets as ``***``; services that come or go are named instead."""
    home.write("environments/dev.yaml", {"services": {"lamp": {}}})
    async with home.core() as made:
        changed = {"bell": {"settings": {"volume": 5, "pin": NEW, "pins": [NEW, OLD]}}, "door": {}}
        home.write("environments/dev.yaml", {"services": changed})
        answer = await made.ask("reload", dry_run=dry_run)
        assert answer["changes"] == {
            "bell": {
                "/settings/volume": {"old": 3, "new": 5},
                "/settings/pin": {"old": "***", "new": "***"},
                "/settings/pins": {"old": ["***"], "new": ["***", "***"]},
            }
        }
        assert (answer["added"], answer["removed"]) == (["door"], ["lamp"])
        assert OLD not in json.dumps(answer)
        assert NEW not in json.dumps(answer)
        again = await made.ask("reload", dry_run=dry_run) if not dry_run else {}
        assert not {"changes", "changes_left_out", "added", "removed"} & again.keys()


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize(
    ("old", "new", "shown"),
    [
        (OLD, NEW, "***"),
        (URL, f"http://me:{NEW}@127.0.0.1/", "***"),
        (4071, NEW, "***"),
        ([OLD, "b"], [NEW], ["***", "***"]),
        ({"a": OLD, "b": 1}, {"a": NEW, "b": 1}, "***"),
    ],
    ids=["string", "URL", "number", "array", "object"],
)
async def test_a_place_that_becomes_secret_does_not_show_what_it_held(
    home: Home, old: object, new: object, shown: object, dry_run: bool
):
    """The load of the schema that says so finds the value in plain text, and shows it as it is from now on."""
    home.write("environments/dev.yaml", {"services": {"bell": {"settings": {"place": old}}}})
    async with home.core() as made:
        marks = {"items": SECRET} if isinstance(new, list) else {"properties": {"a": SECRET}}
        home.write(
            "schemas/bell.yaml",
            schema(pin=SECRET, pins={"items": SECRET}, place=SECRET if isinstance(new, str) else marks),
        )
        home.write("environments/dev.yaml", {"services": {"bell": {"settings": {"place": new}}}})
        answer = await made.ask("reload", dry_run=dry_run)
        (change,) = answer["changes"]["bell"].values()
        assert change["old"] == shown
        for planted in (OLD, NEW, "4071"):
            assert planted not in json.dumps(answer)


@pytest.mark.parametrize("dry_run", [True, False])
async def test_a_place_that_is_secret_no_longer_does_not_show_what_it_held(home: Home, dry_run: bool):
    """Only the new value, which everybody may read."""
    async with home.core() as made:
        home.write("schemas/bell.yaml", schema(pin={"type": "string", "x-sensitive": False}, pins={"items": SECRET}))
        home.write("environments/dev.yaml", {"services": {"bell": {"settings": {"pin": "open"}}}})
        answer = await made.ask("reload", dry_run=dry_run)
        assert answer["changes"]["bell"] == {"/settings/pin": {"old": "***", "new": "open"}}
        assert OLD not in json.dumps(answer)


@pytest.mark.parametrize("dry_run", [True, False])
async def test_environments_with_other_secrets_show_none(home: Home, dry_run: bool):
    """A secret for another one, for none, and in place of none; after a start, when all are sealed in the store."""
    home.write("environments/prod.yaml", {"services": {"bell": {"settings": {"pin": NEW, "pins": None, "token": NEW}}}})
    async with home.core() as made:
        await made.ask("patch", "bell", patch={"settings": {"door_key": OLD}})
    async with home.core() as made:
        answer = await made.ask("activate", "prod", dry_run=dry_run)
        assert answer["changes"]["bell"] == {
            "/environment": {"old": "dev", "new": "prod"},
            "/settings/pin": {"old": "***", "new": "***"},
            "/settings/pins": {"old": ["***"]},
            "/settings/token": {"new": "***"},
            "/settings/door_key": {"old": "***"},
        }
        assert OLD not in json.dumps(answer)
        assert NEW not in json.dumps(answer)
