"""Where each value comes from: layers, lines, revisions, and what they overrode."""

from pathlib import Path
from typing import Any

import pytest

from aliciacfg.errors import NotFound
from builders import environment_file, valid_config
from inprocess import core

SECRET = "planted-secret-77c1"
SCHEMA: dict[str, Any] = {
    "version": "1.0.0",
    "properties": {
        "settings": {
            "type": "object",
            "properties": {
                "volume": {"type": "integer", "default": 5},
                "doors": {
                    "type": "array",
                    "items": {"properties": {"code": {"type": "string", "x-sensitive": True}}},
                },
            },
        }
    },
}
BASE = f"""\
defaults:
  mqtt_config: {{host: h, port: 1883, username: u, password: {SECRET}}}
  api_config:
    host: h
    port: 8000  # everybody's
  settings:
    colours: [red, green]
    lamp: &lamp
      on: true
      watts: 5
services:
  bell:
    settings:
      "a/b": {{"~": 1}}
      copy: *lamp
      lamp: {{watts: 7}}
      volume: 6
"""
DEV = """\
# nothing about everybody
services:
  bell:
    api_config:
      port: 8001

    settings:
      colours: [blue]
      lamp: {on: null}
      volume: 7
"""


def house(**more: object) -> dict[str, object]:
    return {
        "schemas/bell.yaml": SCHEMA,
        "environments/base.yaml": BASE,
        "environments/dev.yaml": DEV,
        **more,
    }


def told(item: dict[str, Any]) -> tuple[str, int | None, Any]:
    return item["layer"], item["line"], item["value"]


async def test_every_value_names_its_file_and_line_and_what_it_overrode(tmp_path: Path):
    """Block and flow mappings, quoted names, arrays and anchors: the line is the one that a reader looks for."""
    async with core(tmp_path, house()) as made:
        values = (await made.ask("explain", "bell"))["values"]
    dev, base, shared = (
        "environments/dev.yaml#services",
        "environments/base.yaml#services",
        "environments/base.yaml#defaults",
    )
    assert told(values["/settings/volume"]) == (dev, 10, 7)
    assert [told(item) for item in values["/settings/volume"]["overridden"]] == [
        (base, 17, 6),
        ("schema", None, 5),
    ]
    assert told(values["/api_config/port"]) == (dev, 5, 8001)
    assert [told(item) for item in values["/api_config/port"]["overridden"]] == [(shared, 5, 8000)]
    assert told(values["/settings/colours"]) == (dev, 8, ["blue"])
    assert [told(item) for item in values["/settings/colours"]["overridden"]] == [(shared, 7, ["red", "green"])]
    assert told(values["/settings/a~1b/~0"]) == (base, 14, 1)
    assert told(values["/settings/lamp/watts"]) == (base, 16, 7)
    assert told(values["/settings/copy/watts"]) == (base, 10, 5)
    assert told(values["/mqtt_config/host"]) == (shared, 2, "h")
    assert told(values["/mqtt_config/tls_enabled"]) == ("schema", None, False)
    assert told(values["/service_name"]) == ("schema", None, "bell")
    assert told(values["/version"]) == ("daemon", None, "1.0.0")


async def test_what_was_changed_at_run_time_names_the_revision_that_brought_it(tmp_path: Path):
    """A later revision that leaves a value alone does not take it over; a restart forgets nothing."""
    async with core(tmp_path, house()) as made:
        await made.ask("patch", "bell", patch={"settings": {"volume": 8, "new": {"x": 1, "y": 1}}})
        await made.ask("patch", "bell", patch={"settings": {"new": {"y": 2}}})
        await made.ask("patch", "bell", patch={"settings": {"colours": None}}, allow_breaking=True)
        before = await made.ask("explain", "bell")
        assert before["revision"] == 4
        overlay = {pointer: item["revision"] for pointer, item in before["values"].items() if "revision" in item}
        assert overlay == {"/settings/volume": 2, "/settings/new/x": 2, "/settings/new/y": 3}
        volume = before["values"]["/settings/volume"]
        assert told(volume) == ("overlay", None, 8)
        assert [item["value"] for item in volume["overridden"]] == [7, 6, 5]
        removed = before["removed"]["/settings/colours"]
        assert (removed["layer"], removed["revision"]) == ("overlay", 4)
        assert [item["value"] for item in removed["overridden"]] == [["blue"], ["red", "green"]]
    async with core(tmp_path, {}) as again:
        assert await again.ask("explain", "bell") == before


async def test_what_a_layer_took_away_is_told_with_its_line(tmp_path: Path):
    """``null`` in a file removes; the place, the line and what was there are shown, and only there."""
    async with core(tmp_path, house()) as made:
        removed = (await made.ask("explain", "bell"))["removed"]
    assert removed == {
        "/settings/lamp/on": {
            "layer": "environments/dev.yaml#services",
            "line": 9,
            "overridden": [{"layer": "environments/base.yaml#defaults", "line": 9, "value": True}],
        }
    }


async def test_a_place_that_a_higher_layer_replaced_is_not_told_as_removed(tmp_path: Path):
    """Only ``null`` removes; an object replaced by a number is shown as overridden by it."""
    dev = {"services": {"bell": {"settings": {"lamp": {"on": None}}}}}
    async with core(tmp_path, house(**{"environments/dev.yaml": dev})) as made:
        await made.ask("patch", "bell", patch={"settings": {"lamp": 3}}, allow_breaking=True)
        answer = await made.ask("explain", "bell")
    assert answer["removed"] == {}
    assert [item["value"] for item in answer["values"]["/settings/lamp"]["overridden"]] == [
        {"on": None},
        {"watts": 7},
        {"on": True, "watts": 5},
    ]


async def test_no_layer_shows_a_secret(tmp_path: Path):
    """Neither the value that counts nor lower ones, in arrays too; nor what is wrongly typed in a secret's place."""
    dev: dict[str, Any] = {
        "defaults": {"mqtt_config": {"password": 4711}},
        "services": {"bell": {"mqtt_config": {"password": SECRET + "-dev"}, "settings": {"doors": [{"code": SECRET}]}}},
    }
    async with core(tmp_path, house(**{"environments/dev.yaml": dev})) as made:
        doors = [{"code": SECRET + "-new"}, {"code": SECRET, "name": "front"}]
        await made.ask(
            "patch", "bell", patch={"settings": {"doors": doors}, "mqtt_config": {"password": SECRET + "-o"}}
        )
        answer = await made.ask("explain", "bell")
    text = str(answer)
    assert SECRET not in text
    assert "4711" not in text
    assert answer["values"]["/settings/doors"]["value"] == [{"code": "***"}, {"code": "***", "name": "front"}]
    assert [item["value"] for item in answer["values"]["/mqtt_config/password"]["overridden"]] == ["***"] * 3


async def test_a_value_is_shown_as_get_shows_it(tmp_path: Path):
    """A number or a boolean is not secret by its name, as in the configuration itself."""
    settings = {"max_tokens": 4000, "keyed": True, "token": "t", "keys": [1, "k"], "tokens": {}, "empty": []}
    async with core(tmp_path, house()) as made:
        await made.ask("patch", "bell", patch={"settings": settings})
        values = (await made.ask("explain", "bell"))["values"]
        config = (await made.ask("get", "bell"))["config"]["settings"]
    assert {name: values[f"/settings/{name}"]["value"] for name in settings} == {
        name: config[name] for name in settings
    }


async def test_a_number_over_a_secret_does_not_open_it(tmp_path: Path):
    """What lower layers say is hidden by itself; a number below a number is shown."""
    base = environment_file({"bell": {"settings": {"keys": [SECRET], "token": SECRET, "max_tokens": 1}}})
    async with core(tmp_path, house(**{"environments/base.yaml": base})) as made:
        settings = {"keys": [5], "token": 5, "max_tokens": 2}
        await made.ask("patch", "bell", patch={"settings": settings}, allow_breaking=True)
        values = (await made.ask("explain", "bell"))["values"]
    assert SECRET not in str(values)
    assert [item["value"] for item in values["/settings/max_tokens"]["overridden"]] == [1]
    assert [item["value"] for item in values["/settings/token"]["overridden"]] == ["***"]
    assert [item["value"] for item in values["/settings/keys"]["overridden"]] == [["***"]]


async def test_an_object_in_the_place_of_a_secret_shows_no_text(tmp_path: Path):
    """A file below has it, and the text, or nothing at all, above it."""
    pins = {name: {"type": "string", "x-sensitive": True} for name in ("pin", "puk")}
    schema = {"version": "1.0.0", "properties": {"settings": {"properties": pins}}}
    base = environment_file(
        {"bell": {"settings": {"pin": {"value": SECRET}, "puk": {"values": [SECRET], "digits": 8}}}}
    )
    dev = {"services": {"bell": {"settings": {"pin": "7777", "puk": None}}}}
    files = {"schemas/bell.yaml": schema, "environments/base.yaml": base, "environments/dev.yaml": dev}
    async with core(tmp_path, files) as made:
        answer = await made.ask("explain", "bell")
    (below,) = answer["values"]["/settings/pin"]["overridden"]
    assert below["value"] == {"value": "***"}
    (removed,) = answer["removed"]["/settings/puk"]["overridden"]
    assert removed["value"] == {"values": ["***"], "digits": 8}


async def test_what_the_files_no_longer_make_is_said_to_be_invalid(tmp_path: Path):
    """An edit that breaks an inactive environment leaves its revision; the new lines show with what is wrong."""
    async with core(tmp_path, house(**{"environments/prod.yaml": DEV})) as made:
        before = await made.ask("explain", "bell", environment="prod")
        assert before["values"]["/settings/volume"]["value"] == 7
        made.write("environments/prod.yaml", {"services": {"bell": {"settings": {"volume": "loud"}}}})
        await made.ask("reload")
        assert (await made.config("bell", environment="prod"))["settings"]["volume"] == 7
        broken = await made.ask("explain", "bell", environment="prod")
        assert broken["revision"] == 1
        assert broken["values"]["/settings/volume"]["value"] == "loud"
        assert [problem["pointer"] for problem in broken["problems"]] == ["/services/bell/settings/volume"]
        made.write("environments/prod.yaml", DEV)
        await made.ask("reload")
        assert await made.ask("explain", "bell", environment="prod") == before


async def test_what_is_not_there_is_not_explained(tmp_path: Path):
    """An unknown service, an unknown environment, a deleted configuration."""
    async with core(tmp_path, house()) as made:
        await made.ask("set", "visitor", config=valid_config(mqtt_config={"password": "x"}))
        assert (await made.ask("explain", "visitor"))["values"]["/mqtt_config/password"]["layer"] == "overlay"
        await made.ask("delete", "visitor")
        for name, fields in (("visitor", {}), ("nobody", {}), ("bell", {"environment": "moon"})):
            with pytest.raises(NotFound):
                await made.ask("explain", name, **fields)
