"""What holds for any files and any wanted configurations, from the files to the answers."""

import asyncio
import copy
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonpatch
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET
from ruamel.yaml import YAML

from aliciacfg.access.caller import Caller
from aliciacfg.documents import (
    JsonObject,
    escape,
    find,
    merge,
    normalise,
    parse_pointer,
    yaml_writer,
)
from aliciacfg.model.config_id import ConfigId
from any_configuration import ITEMS, LEAVES, NAMES, SENSITIVE, WANTED, hidden
from builders import valid_config
from inprocess import Core, core
from soak import examples
from yaml_readers import same

PATCHES: st.SearchStrategy[Any] = st.recursive(
    LEAVES | st.none() | st.lists(ITEMS, max_size=2),
    lambda inner: st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
SAID = st.dictionaries(NAMES, PATCHES, max_size=3)
FILES = ("base", "dev", "dev-secrets")
SECTIONS = ("defaults", "services")
BELL = Caller("bell", "test")
LAYERS = st.lists(SAID, min_size=6, max_size=6)


def masked(value: Any, *, named: bool = False) -> Any:
    """Without what a lower layer may hide beyond need: a number in the place of a secret may be one."""
    if isinstance(value, dict):
        return {key: masked(inner, named=named or bool(SENSITIVE.search(key))) for key, inner in value.items()}
    if isinstance(value, list):
        return [masked(item, named=named) for item in value]
    return "" if named else value


def files(layers: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What the environment files say; ``defaults`` of the first makes the service whole."""
    contents: dict[str, dict[str, Any]] = {}
    for number, name in enumerate(FILES):
        shared, own = layers[number], layers[number + 3]
        whole = valid_config() if number == 0 else {}
        contents[f"environments/{name}.yaml"] = {
            "defaults": {**whole, "settings": shared},
            "services": {"bell": {"settings": own}},
        }
    contents["environments/prod.yaml"] = {"services": {"bell": {"settings": layers[5]}}}
    return contents


class Said:
    """The layers as the test reads them, highest first, with lines that another parser found."""

    def __init__(self, contents: dict[str, dict[str, Any]], texts: dict[str, str]) -> None:
        self.layers: list[tuple[str, str, str]] = [
            (f"environments/{name}.yaml#{section}", f"environments/{name}.yaml", prefix)
            for section, prefix in zip(SECTIONS, ("/defaults", "/services/bell"), strict=True)
            for name in FILES
        ][::-1]
        self._contents = contents
        self._read = {name: YAML().load(text) for name, text in texts.items()}

    def line(self, file: str, pointer: str) -> int:
        *above, last = parse_pointer(pointer)
        node = self._read[file]
        for token in above:
            node = node[token]
        return node.lc.key(last)[0] + 1

    def about(self, pointer: str) -> Iterator[tuple[str, int | None, Any]]:
        """Each layer that says something at a place or, with what is no object, around it."""
        tokens = parse_pointer(pointer)
        for layer, file, prefix in self.layers:
            for length in range(1, len(tokens) + 1):
                place = prefix + "".join(f"/{escape(token)}" for token in tokens[:length])
                value = find(self._contents[file], place)
                if value is UNSET:
                    break
                if length == len(tokens) or not isinstance(value, dict):
                    yield layer, self.line(file, place), normalise(value)  # pyright: ignore[reportArgumentType]
                    break


def hidden_texts(value: Any) -> Any:
    """A value with every text hidden, and what is a secret by its name."""
    if isinstance(value, dict):
        return masked({key: hidden_texts(inner) for key, inner in value.items()})
    if isinstance(value, list):
        return [hidden_texts(item) for item in value]
    return "***" if isinstance(value, str) else value


def put(document: Any, pointer: str, value: Any) -> None:
    *above, last = parse_pointer(pointer)
    for token in above:
        document = document[token]
    document[last] = value


def together(values: dict[str, Any]) -> JsonObject:
    """A document out of its leaves."""
    result: JsonObject = {}
    for pointer, item in values.items():
        here: Any = result
        *above, last = parse_pointer(pointer)
        for token in above:
            here = here.setdefault(token, {})
        here[last] = item["value"]
    return result


def compared(first: JsonObject, answer: dict[str, Any]) -> JsonObject:
    """What the answer of ``compare`` makes of its first side."""
    result: Any = copy.deepcopy(first)
    for pointer in answer["only_in_env1"]:
        *above, last = parse_pointer(pointer)
        here = result
        for token in above:
            here = here[token]
        del here[last]
    for pointer, sides in answer["changed"].items():
        assert same(find(result, pointer), sides["env1"])
        put(result, pointer, sides["env2"])
    for pointer, value in answer["only_in_env2"].items():
        assert find(result, pointer) is UNSET
        put(result, pointer, value)
    return result


def one_less(patch: JsonObject) -> Iterator[JsonObject]:
    """Every overlay that says one thing less, at any depth."""
    for key, value in patch.items():
        rest = {other: kept for other, kept in patch.items() if other != key}
        yield rest
        if isinstance(value, dict):
            yield from ({**rest, key: smaller} for smaller in one_less(value))


def check_overlay(made: Core) -> None:
    """The overlay makes the configuration, and nothing could be left out of it."""
    entry = made.parts.state.committed(ConfigId("dev", "bell"))
    assert entry.effective is not None
    base = dict(made.parts.files.planner("dev").composer.base("dev", "bell").items())
    document = entry.effective.document
    assert same(normalise(merge(base, entry.overlay or {})), document)
    for smaller in one_less(entry.overlay or {}):
        assert not same(normalise(merge(base, smaller)), document)


async def check_explained(made: Core, said: Said) -> None:
    """The values are the configuration, and what is said of each is what stands in the files."""
    answer = await made.ask("explain", "bell")
    config = (await made.ask("get", "bell"))["config"]
    assert same(together(answer["values"]), config)
    overlay = made.parts.state.committed(ConfigId("dev", "bell")).overlay or {}
    for pointer, item in answer["values"].items():
        if not pointer.startswith("/settings/"):
            continue
        told = [(item["layer"], item["line"], item["value"])]
        told += [(lower["layer"], lower["line"], lower["value"]) for lower in item["overridden"]]
        if told[0][0] == "overlay":
            assert not isinstance(find(overlay, pointer), type(UNSET))
            assert 1 <= item["revision"] <= answer["revision"]
            told = told[1:]
        else:
            assert find(overlay, pointer) is UNSET
        about = list(said.about(pointer))
        shown = len(about) - len(item["overridden"])
        expected = [
            # Of a file of secrets no text is told that is not in force.
            (layer, line, masked(value) if place < shown or "-secrets" not in layer else hidden_texts(value))
            for place, (layer, line, value) in enumerate(about)
        ]
        assert [entry[:2] for entry in told] == [entry[:2] for entry in expected]
        # An empty object is what is left of what the layers say about its members.
        if not SENSITIVE.search(pointer) and not isinstance(item["value"], dict):
            assert same([masked(entry[2]) for entry in told], [entry[2] for entry in expected])


async def check_life(directory: Path, layers: list[dict[str, Any]], wishes: list[dict[str, Any]]) -> None:
    contents = files(layers)
    texts = {name: yaml_writer.dump(content) for name, content in contents.items()}
    async with core(directory, texts) as made:
        said = Said(contents, texts)
        await check_explained(made, said)
        for wish in wishes:
            before = await made.config("bell")
            config = valid_config(settings=wish)
            trial = await made.ask("set", "bell", config=config, allow_breaking=True, dry_run=True)
            assert await made.config("bell") == before
            answer = await made.ask("set", "bell", config=config, allow_breaking=True)
            got = await made.config("bell")
            assert same(got["settings"], hidden(normalise(wish), "***"))
            assert {**got, "version": answer["version"]} == answer["config"]
            assert same(jsonpatch.apply_patch(before, trial["difference"]["bell"]), got)
            check_overlay(made)
            await check_explained(made, said)
        await check_history(made)


async def check_history(made: Core) -> None:
    """Every revision can be compared with every other, with another environment, and gone back to."""
    newest = (await made.ask("get", "bell"))["revision"]
    old: dict[int, JsonObject] = {}
    for number in range(1, newest + 1):
        record = await made.configurations.revision(ConfigId("dev", "bell"), number)
        old[number] = hidden(made.configurations.open_record(record).document, "secret")
    for first, before in old.items():
        for second, after in old.items():
            answer = await made.ask_as(BELL, "compare", "bell", rev1=first, rev2=second)
            assert same(compared(before, answer), after)
            assert answer["equal"] == same(before, after)
    prod = made.configurations.open_record(made.configurations.live(ConfigId("prod", "bell"))).document
    answer = await made.ask_as(BELL, "compare", "bell", env1="dev", env2="prod")
    assert same({**compared(old[newest], answer), "environment": "prod"}, hidden(prod, "secret"))
    checksums = {number: (await made.ask("get", "bell", revision=number))["checksum"] for number in old}
    for number in old:
        await made.ask("rollback", "bell", revision=number)
        now = await made.ask("get", "bell")
        assert now["checksum"] == checksums[number]
        assert same(await made.config("bell"), await made.config("bell", revision=number))
        check_overlay(made)


@examples(8)
@given(LAYERS, st.lists(WANTED, min_size=1, max_size=3))
def test_a_configuration_keeps_its_promises_for_any_files_and_wishes(
    layers: list[dict[str, Any]], wishes: list[dict[str, Any]]
):
    """Set then get, the smallest overlay, the trial's difference, explain, compare and rollback, all on one life."""
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(check_life(Path(directory), layers, wishes))
