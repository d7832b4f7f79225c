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
