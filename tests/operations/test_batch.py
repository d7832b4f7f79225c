"""Several writes in one transaction."""

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from aliciacfg.errors import BatchRefused, InvalidRequest, NotFound, TooLarge
from builders import environment_file, valid_config
from cases import case
from inprocess import Core, core

SERVICES = [f"bell_{number}" for number in range(5)]
FILES: dict[str, object] = {
    "schemas/bell_0.yaml": {"properties": {"settings": {"properties": {"pin": {"type": "string", "maxLength": 4}}}}},
    "environments/base.yaml": environment_file(
        {name: {"settings": {"volume": 1, "mood": "calm"}} for name in SERVICES}
    ),
    "environments/dev.yaml": "",
    "environments/prod.yaml": {"protected": True},
}


def louder(service: str, volume: object = 2, **more: object) -> dict[str, object]:
    return {"service": service, "patch": {"settings": {"volume": volume}}, **more}


async def revisions(made: Core, environment: str = "dev") -> dict[str, int]:
    found = await made.ask("list", environment=environment, limit=1000)
    return {item["service"]: item["revision"] for item in found["configs"]}


def codes(results: list[dict[str, Any]]) -> list[str]:
    return [result.get("code", result["status"]) for result in results]


BAD: list[dict[str, object]] = [
    louder("nobody"),
    {"service": "bell_0", "patch": {"settings": {"pin": "12345"}}},
    louder("bell_1", expected_revision=7),
    {"service": "bell_2", "patch": {"settings": {"mood": None}}},
    {"service": "bell_3"},
    {"service": "bell_3", "patch": {}, "config": {}},
    louder("no such name"),
    {"service": "bell_3", "config": valid_config(settings={"mood": "x" * 300_000})},
    {"service": "bell_3", "config": {"limits": {"x": "many"}}},
]
BAD_CODES = [
    "not_found",
    "validation_failed",
    "conflict",
    "incompatible",
    "invalid_request",
    "invalid_request",
    "invalid_request",
    "too_large",
    "validation_failed",
]


async def test_all_that_is_valid_is_applied_in_order(tmp_path: Path):
    """Each update has a complete answer at its index: that of a write, or an error object."""
    good = [louder(name, index + 10) for index, name in enumerate(SERVICES)]
    mixed = [update for pair in zip(good, BAD, strict=False) for update in pair] + BAD[5:]
    async with core(tmp_path, FILES) as made:
        answer = await made.ask("batch", updates=mixed, comment="evening")
        expected = [code for pair in zip(["success"] * 5, BAD_CODES, strict=False) for code in pair] + BAD_CODES[5:]
        assert codes(answer["results"]) == expected
        assert (answer["applied"], answer["failed"]) == (5, 9)
        assert await revisions(made) == dict.fromkeys(SERVICES, 2)
        for index, name in enumerate(SERVICES):
            result = answer["results"][2 * index]
            assert (result["service"], result["revision"], result["request_id"]) == (name, 2, None)
            got = await made.ask("get", name)
            assert got == {key: result[key] for key in got}
            assert got["config"]["settings"]["volume"] == index + 10
            newest = (await made.ask("history", name, limit=1))["revisions"][0]
            assert (newest["comment"], newest["author"], newest["cause"]) == ("evening", "tester", "api")
        conflict = answer["results"][5]
        assert (conflict["code"], conflict["revision"]) == ("conflict", 2)
        assert conflict["checksum"] == (await made.ask("get", "bell_1"))["checksum"]
        assert [problem["pointer"] for problem in answer["results"][3]["problems"]] == ["/settings/pin"]


@pytest.mark.parametrize("place", range(len(BAD)), ids=BAD_CODES)
async def test_an_atomic_batch_applies_all_or_none(tmp_path: Path, place: int):
    """One refused update refuses the batch with its code; every update has an answer, and problems name the update."""
    updates: list[dict[str, object]] = [louder(name, 20) for name in SERVICES]
    updates[2:2] = [BAD[place]]
    async with core(tmp_path, FILES) as made:
        before = tables(tmp_path)
        with pytest.raises(BatchRefused) as refused:
            await made.ask("batch", updates=updates, atomic=True)
        assert refused.value.code == BAD_CODES[place]
        assert all(problem.pointer.startswith("/updates/2") for problem in refused.value.problems)
        assert refused.value.problems
        assert len(refused.value.results) == 6
        assert tables(tmp_path) == before
        assert await revisions(made) == dict.fromkeys(SERVICES, 1)
        done = await made.ask("batch", updates=[louder(name, 20) for name in SERVICES], atomic=True)
        assert (done["applied"], done["failed"]) == (5, 0)
        assert await revisions(made) == dict.fromkeys(SERVICES, 2)


def tables(directory: Path) -> dict[str, list[Any]]:
    """Everything that is stored."""
    with contextlib.closing(sqlite3.connect(directory / "data" / "aliciacfg.db")) as found:
        names = [row[0] for row in found.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: found.execute(f"SELECT * FROM {name}").fetchall() for name in names}


async def test_later_updates_of_a_service_build_on_earlier_ones(tmp_path: Path):
    """Each is a revision of its own, conditions included; one that is refused in between changes nothing."""
    updates = [
        {"service": "bell_0", "patch": {"settings": {"a": 1}}, "expected_revision": 1},
        {"service": "bell_0", "patch": {"settings": {"b": 2}}, "expected_revision": 2},
        {"service": "bell_0", "patch": {"settings": {"pin": "12345"}}},
        {"service": "bell_0", "patch": {"settings": {"b": 2}}},
        {"service": "bell_0", "patch": {"settings": {"c": 3}}, "expected_revision": 1},
        {"service": "bell_0", "patch": {"settings": {"c": 3}}, "expected_revision": 3},
    ]
    async with core(tmp_path, FILES) as made:
        answer = await made.ask("batch", updates=updates)
        results = answer["results"]
        assert codes(results) == ["success", "success", "validation_failed", "success", "conflict", "success"]
        assert [result.get("revision") for result in results] == [2, 3, None, 3, 3, 4]
        assert results[3]["unchanged"] is True
        assert results[0]["config"]["settings"] == {"volume": 1, "mood": "calm", "a": 1}
        assert (await made.config("bell_0"))["settings"] == {"volume": 1, "mood": "calm", "a": 1, "b": 2, "c": 3}
        found = (await made.ask("history", "bell_0"))["revisions"]
        assert [item["changed"] for item in found[:3]] == [["/settings/c"], ["/settings/b"], ["/settings/a"]]
        explained = (await made.ask("explain", "bell_0"))["values"]
        assert [explained[f"/settings/{name}"]["revision"] for name in "abc"] == [2, 3, 4]


async def test_a_batch_creates_and_says_so_only_once(tmp_path: Path):
    """Later updates see a service that the batch creates; ``expected_revision`` 0 requires that it does not exist."""
    config = valid_config(settings={"x": 1})
    updates = [
        {"service": "visitor", "config": config, "expected_revision": 0},
        {"service": "visitor", "config": config, "expected_revision": 0},
        louder("visitor"),
    ]
    async with core(tmp_path, FILES) as made:
        answer = await made.ask("batch", updates=updates)
        assert codes(answer["results"]) == ["success", "conflict", "success"]
        assert (await made.config("visitor"))["settings"] == {"x": 1, "volume": 2}


async def test_room_for_new_services_is_counted_within_a_batch(tmp_path: Path):
    """The limit holds for those that are planned but not stored yet."""
    async with core(tmp_path, FILES, max_services="100") as made:
        config = valid_config(settings={})
        updates = [{"service": f"new_{number}", "config": config} for number in range(100)]
        answer = await made.ask("batch", updates=updates)
        # Five of the hundred are there.
        assert codes(answer["results"]) == ["success"] * 95 + ["too_large"] * 5


async def test_a_trial_of_a_batch_tells_each_difference_and_leaves_no_trace(tmp_path: Path):
    """Later updates build on earlier ones in the trial, too; nothing is stored, counted or alerted."""
    updates = [louder("bell_0", 5), louder("bell_0", 6), BAD[1], louder("bell_1", 5)]
    async with core(tmp_path, FILES) as made:
        before = tables(tmp_path)
        answer = await made.ask("batch", updates=updates, dry_run=True)
        assert codes(answer["results"]) == ["success", "success", "validation_failed", "success"]
        assert (answer["applied"], answer["failed"]) == (3, 1)
        assert [result.get("difference") for result in answer["results"]] == [
            {"bell_0": [{"op": "replace", "path": "/settings/volume", "value": 5}]},
            {"bell_0": [{"op": "replace", "path": "/settings/volume", "value": 6}]},
            None,
            {"bell_1": [{"op": "replace", "path": "/settings/volume", "value": 5}]},
        ]
        assert [result.get("revision") for result in answer["results"]] == [2, 3, None, 2]
        assert all(result.get("dry_run", True) for result in answer["results"])
        with pytest.raises(BatchRefused):
            await made.ask("batch", updates=updates, dry_run=True, atomic=True)
        assert tables(tmp_path) == before
        assert made.heard == []
        assert made.parts.service.health.now().validation_errors == 0
        assert await revisions(made) == dict.fromkeys(SERVICES, 1)


async def test_a_protected_environment_wants_a_revision_of_every_update(tmp_path: Path):
    """Those without one are refused, the others applied."""
    updates = [louder("bell_0", expected_revision=1), louder("bell_1"), louder("bell_0", 3, expected_revision=2)]
    async with core(tmp_path, FILES) as made:
        answer = await made.ask("batch", updates=updates, environment="prod")
        assert codes(answer["results"]) == ["success", "conflict", "success"]
        assert "protected" in answer["results"][1]["message"]
        assert (await revisions(made, "prod"))["bell_0"] == 3
        assert await revisions(made) == dict.fromkeys(SERVICES, 1)


async def test_breaking_updates_need_leave(tmp_path: Path):
    """``allow_breaking`` applies to the whole batch."""
    breaking = {"service": "bell_0", "patch": {"settings": {"mood": 5}}}
    async with core(tmp_path, FILES) as made:
        answer = await made.ask("batch", updates=[breaking])
        assert codes(answer["results"]) == ["incompatible"]
        assert [problem["pointer"] for problem in answer["results"][0]["problems"]] == ["/settings/mood"]
        allowed = await made.ask("batch", updates=[breaking], allow_breaking=True)
        assert (allowed["applied"], allowed["results"][0]["version"]) == (1, "2.0.0")


async def test_a_batch_has_limits(tmp_path: Path):
    """At least one and at most 100 updates, of 4 MiB together; an environment that exists."""
    long = "x" * 200_000
    async with core(tmp_path, FILES) as made:
        before = tables(tmp_path)
        with pytest.raises(InvalidRequest):
            await made.ask("batch", updates=[])
        with pytest.raises(InvalidRequest):
            await made.ask("batch")
        with pytest.raises(TooLarge, match="101"):
            await made.ask("batch", updates=[louder("bell_0")] * 101)
        with pytest.raises(TooLarge, match="4194304"):
            await made.ask("batch", updates=[louder("bell_0", long)] * 21)
        with pytest.raises(NotFound, match="moon"):
            await made.ask("batch", updates=[louder("bell_0")], environment="moon")
        assert tables(tmp_path) == before
        assert (await made.ask("batch", updates=[louder("bell_0", n) for n in range(100)]))["applied"] == 100


async def test_a_malformed_batch_is_refused_whole(tmp_path: Path):
    """A malformed update makes the request invalid, and the problem has its place."""
    async with core(tmp_path, FILES) as made:
        for updates, pointer in [
            ([louder("bell_0"), 5], "/updates/1"),
            ([{"patch": {}}], "/updates/0"),
            ([{"service": 5, "patch": {}}], "/updates/0/service"),
            ([{"service": "bell_0", "config": []}], "/updates/0/config"),
            ([{"service": "bell_0", "patch": None}], "/updates/0/patch"),
            ([louder("bell_0", expected_revision=-1)], "/updates/0/expected_revision"),
            ({"0": louder("bell_0")}, "/updates"),
        ]:
            with case(updates, pointer):
                with pytest.raises(InvalidRequest) as refused:
                    await made.ask("batch", updates=updates)
                assert [problem.pointer for problem in refused.value.problems] == [pointer]
                assert await revisions(made) == dict.fromkeys(SERVICES, 1)


async def test_what_stands_already_is_unchanged(tmp_path: Path):
    """A batch sent twice is carried out once: no revision, nothing announced."""
    updates = [louder(name, 9) for name in SERVICES]
    async with core(tmp_path, FILES) as made:
        await made.ask("batch", updates=updates)
        before = tables(tmp_path)
        again = await made.ask("batch", updates=updates)
        assert [result["unchanged"] for result in again["results"]] == [True] * 5
        assert (again["applied"], again["failed"]) == (5, 0)
        assert tables(tmp_path) == before
