"""Configurations as YAML and as variables of a shell, and parts of them."""

from pathlib import Path

from aliciacfg.documents import leaves
from builders import environment_file, valid_config
from inprocess import core
from yaml_readers import TEXTS, readers, same

FILES: dict[str, object] = {
    "schemas/bell.yaml": {
        "properties": {
            "settings": {
                "properties": {
                    "broker": {"type": "string", "x-env": "BELL_BROKER"},
                    "pin": {"type": "string", "x-sensitive": True, "x-env": "BELL_PIN"},
                }
            }
        }
    },
    "environments/base.yaml": environment_file({"bell": {}}),
    "environments/dev.yaml": "",
}


async def test_the_yaml_of_a_configuration_is_the_configuration(tmp_path: Path):
    """YAML shows the version and redacts secrets, also for a part and for an old revision."""
    config = valid_config(settings={str(number): text for number, text in enumerate(TEXTS)})
    async with core(tmp_path, FILES) as made:
        await made.ask("set", "bell", config=config, allow_breaking=True)
        whole = await made.ask("get", "bell")
        text = await made.text("bell", format="yaml")
        part = await made.text("bell", format="yaml", pointer="/mqtt_config")
        old = await made.text("bell", format="yaml", revision=1)
    for reader in readers().values():
        assert same(reader.load(text), whole["config"])
        assert same(reader.load(part), whole["config"]["mqtt_config"])
        assert reader.load(old)["version"] == "1.0.0"


async def test_a_part_is_what_stands_at_the_pointer(tmp_path: Path):
    """An object, an array, an item, a value; everything else in the answer is that of the whole."""
    settings = {"list": [{"a": 1}, 2], "a/b": {"~": 5}, "flag": False}
    async with core(tmp_path, FILES) as made:
        await made.ask("patch", "bell", patch={"settings": settings})
        whole = await made.ask("get", "bell")
        for pointer, value in {
            "": whole["config"],
            "/settings/list": [{"a": 1}, 2],
            "/settings/list/0/a": 1,
            "/settings/a~1b/~0": 5,
            "/settings/flag": False,
            "/version": whole["version"],
            "/mqtt_config/password": "***",
        }.items():
            assert await made.ask("get", "bell", pointer=pointer) == {**whole, "config": value}
        assert len(list(leaves(whole["config"]))) > len(settings)
