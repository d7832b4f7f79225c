"""Reloads of the files of environments and schemas, and trials of one."""

import os
from pathlib import Path
from typing import Any

import jsonpatch
import pytest

from aliciacfg.core.file_check import check_files
from aliciacfg.core.restore import SERVED
from aliciacfg.documents import DocumentLimits
from aliciacfg.errors import NotFound, SourceError, ValidationFailed
from aliciacfg.model.records import Position, Write
from aliciacfg.sealing.boxes import Keyring, PrivateKey
from builders import environment_file
from inprocess import Home, core


async def test_the_difference_of_a_reload_is_what_the_reload_makes(tmp_path: Path):
    """The difference of a dry run equals the changes of the reload that follows."""
    services = {"bell": {"settings": {"a": 1, "token": "t"}}, "lamp": {"settings": {"a": 1}}}
    files = {"environments/base.yaml": environment_file(services), "environments/dev.yaml": ""}
    async with core(tmp_path, files) as made:
        old = {name: await made.config(name) for name in services}
        services["bell"]["settings"] = {"b": [1], "token": "u"}
        made.write("environments/base.yaml", environment_file(services))
        trial = await made.ask("reload", dry_run=True)
        assert {name: await made.config(name) for name in services} == old
        assert (trial["changed"], trial["dry_run"], list(trial["difference"])) == (["bell"], True, ["bell"])
        done = await made.ask("reload")
        assert (done["changed"], "difference" in done) == (["bell"], False)
        difference = trial["difference"]["bell"]
        assert {"op": "replace", "path": "/settings/token", "value": "***"} in difference
        assert jsonpatch.apply_patch(old["bell"], difference) == await made.config("bell")


async def test_a_trial_of_files_that_are_refused_is_refused_and_changes_nothing(tmp_path: Path):
    """A dry run of invalid files lists the problems and does not degrade the daemon."""
    files = {"environments/base.yaml": environment_file({"bell": {}}), "environments/dev.yaml": ""}
    async with core(tmp_path, files) as made:
        made.write("environments/dev.yaml", {"services": {"bell": {"limits": {"x": "many"}}}})
        with pytest.raises(ValidationFailed) as refused:
            await made.ask("reload", dry_run=True)
        assert [problem.pointer for problem in refused.value.problems] == ["/services/bell/limits/*"]
        assert (made.parts.reloads.degraded, made.heard) == (None, [])
        with pytest.raises(ValidationFailed):
            await made.ask("reload")
        assert [alert.kind for alert in made.heard] == ["validation_failed"]


ONLY_FILE = {
    "brace": ("services: {bell: {settings: {x: 1}\n", 1),
    "tab": ("services:\n  bell:\n\tsettings: {}\n", 3),
    "duplicate key": ("services:\n  bell: {}\n  bell: {}\n", 3),
    "tag": ("services:\n  bell:\n    settings: {pin: !secret door}\n", 3),
    "missing variable": ("services:\n  bell:\n    settings: {x: '${NOT_SET_ANYWHERE}'}\n", 3),
    "not UTF-8": (b"services:\n  bell: {settings: {x: caf\xe9}}\n", 2),
}


@pytest.mark.parametrize("file", ["base", "dev", "dev-secrets"])
@pytest.mark.parametrize("what", ONLY_FILE)
async def test_the_problem_of_the_only_file_that_names_services_is_what_people_see(
    tmp_path: Path, file: str, what: str
):
    """Not what follows from it, that services end or rules name none: in reload, environments, alert and check."""
    name = f"environments/{file}.yaml"
    defaults = "base" if file != "base" else "prod"
    rules = {"services": {"bell": {"read": {"allowed_services": ["bell"]}}}}
    files = {"environments/dev.yaml": "", name: environment_file({"bell": {}}), "environments/access.yaml": rules}
    files[f"environments/{defaults}.yaml"] = environment_file()
    text, line = ONLY_FILE[what]
    async with core(tmp_path, files) as made:
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(ValidationFailed) as refused:
            await made.ask("reload")
        assert [problem.message.split(": ")[0] for problem in refused.value.problems] == [f"{name}:{line}"]
        listed = {item["name"]: item["problems"] for item in (await made.ask("environments"))["environments"]}
        assert [problem["message"] for problem in listed["dev"]] == [refused.value.problems[0].message]
        assert f"{name}:{line}" in made.told("validation_failed")
        assert (await made.ask("get", "bell"))["revision"] == 1
        findings = check_files(made.parts.source_files.load, None, limits=DocumentLimits())
        assert [(problem.file, problem.line) for problem in findings.problems] == [(name, line)]
        made.write(name, environment_file({"bell": {}}))
        await made.ask("reload")
        assert all(not item["problems"] for item in (await made.ask("environments"))["environments"])
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    async with Home(tmp_path).core() as made:
        (active,) = [item for item in (await made.ask("environments"))["environments"] if item["name"] == "dev"]
        assert [problem["message"].split(": ")[0] for problem in active["problems"]] == [f"{name}:{line}"]


async def test_a_name_nobody_can_have_typed_is_told_while_the_rest_is_served(tmp_path: Path):
    """At the start and at a reload; the alert ends when the file is gone."""
    files = {"environments/base.yaml": environment_file({"bell": {}}), "environments/dev.yaml": ""}
    bad = tmp_path / "environments" / os.fsdecode(b"\xff.yaml")
    home = Home(tmp_path, files)
    bad.write_text("services: {}")
    async with home.core() as made:
        assert r"environments/\xff.yaml" in made.standing["validation_failed:ignored"]
        assert (await made.ask("get", "bell"))["revision"] == 1
        findings = check_files(made.parts.source_files.load, None, limits=DocumentLimits())
        assert [problem.file for problem in findings.problems] == [r"environments/\xff.yaml"]
        bad.unlink()
        await made.ask("reload")
        assert made.standing == {}


async def test_a_value_sealed_with_a_lost_key_is_told_by_its_place_key_and_remedy(tmp_path: Path):
    """At a start without a stored revision: not as a change made at run time, and as `check` says it."""
    other = Keyring.ephemeral()
    sealed = other.seal("planted", service="bell", environment="dev", pointer="/settings/pin_token")
    services = {"bell": {"settings": {"pin_token": sealed}}, "lamp": {}}
    files = {"environments/base.yaml": environment_file(), "environments/dev.yaml": {"services": services}}
    async with core(tmp_path, files) as made:
        key_id = sealed.split(":")[2]
        (finding,) = [
            found
            for found in check_files(
                made.parts.source_files.load, Keyring.ephemeral(), limits=DocumentLimits()
            ).problems
            if "bell in dev" in found.configurations
        ]
        told = made.told("undecryptable")
        for part in ("environments/dev.yaml:1", "bell /settings/*", finding.message, key_id, "keys add"):
            assert part in told
        assert "run time" not in told
        assert made.parts.configurations.not_served() == ["bell"]
        assert made.parts.service.health.now().configs_managed == 1
        with pytest.raises(NotFound, match=key_id):
            await made.ask("get", "bell")
        (dev,) = [item for item in (await made.ask("environments"))["environments"] if item["name"] == "dev"]
        assert [key_id in problem["message"] for problem in dev["problems"]] == [True]
        services["bell"]["settings"] = {}
        made.write("environments/dev.yaml", {"services": services})
        await made.ask("reload")
        assert made.parts.configurations.not_served() == []


async def test_a_service_that_is_not_there_because_its_file_is_broken_says_so(tmp_path: Path):
    """Not only that there is no such service: with file and line, and nothing else of a file about others."""
    files = {"environments/base.yaml": environment_file({"bell": {}}), "environments/dev.yaml": ""}
    async with core(tmp_path, files) as made:
        made.write("environments/dev.yaml", "services:\n  lamp: {\n")
        with pytest.raises(ValidationFailed):
            await made.ask("reload")
        with pytest.raises(NotFound, match=r"There is no configuration of lamp.*environments/dev\.yaml:2"):
            await made.ask("get", "lamp")


@pytest.mark.parametrize("line", ["PIN: 1234", "PIN", 'PIN="1234'])
async def test_a_line_of_dotenv_that_cannot_be_read_is_no_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
):
    """At a reload and at a start; the value that it has is not shown."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PIN", raising=False)
    services = {"bell": {"settings": {"x": "${PIN:-none}"}}}
    files = {"environments/base.yaml": environment_file(services), "environments/dev.yaml": "", ".env": "PIN=5678\n"}
    async with core(tmp_path, files) as made:
        made.write(".env", f"# a comment\n{line}\n")
        with pytest.raises(ValidationFailed) as refused:
            await made.ask("reload")
        (problem,) = refused.value.problems
        assert problem.message.startswith(".env:2: ")
        assert "1234" not in made.told("validation_failed")
        assert await made.settings("bell") == {"x": "5678"}
    async with Home(tmp_path).core() as made:
        assert ".env:2: " in made.told("validation_failed")
        assert await made.settings("bell") == {"x": "5678"}
    with pytest.raises(SourceError, match=r"^\.env:2: "):
        async with core(tmp_path / "first", {**files, ".env": ""}):
            pass


@pytest.mark.parametrize("told", ["recipient", "epoch"])
async def test_a_configuration_that_is_told_again_keeps_its_problems(tmp_path: Path, told: str):
    """Another key or place of a configuration mends nothing that is wrong with its files."""
    base = environment_file({"bell": {}})
    home = Home(tmp_path, {"environments/base.yaml": base, "environments/dev.yaml": {}})
    async with home.core() as core:
        home.write("environments/prod.yaml", {})
        await core.ask("reload")
        home.write("environments/prod.yaml", {"services": {"bell": {"mqtt_config": {"port": "x"}}}})
        await core.ask("reload")

        async def problems() -> Any:
            listed = (await core.ask("environments"))["environments"]
            return next(found["problems"] for found in listed if found["name"] == "prod")

        before = await problems()
        assert before
        if told == "recipient":
            await core.ask("recipient", "bell", public_key=str(PrivateKey.generate().public))
        else:
            await core.parts.order.start(Position(7, 1))
        assert await problems() == before


async def test_a_start_opens_no_secret_of_what_the_files_yield(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With very many configurations that would take a quarter of the start; they are secret all the same."""
    home = Home(tmp_path, {"environments/dev.yaml": environment_file({"bell": {}})})
    async with home.core() as first:
        before = await first.ask("get", "bell")
    opened: list[str] = []
    unseal = Keyring.open

    def count(keyring: Keyring, sealed: str, **place: Any) -> str:
        opened.append(place["pointer"])
        return unseal(keyring, sealed, **place)

    monkeypatch.setattr(Keyring, "open", count)
    async with home.core() as again:
        assert opened == []
        assert await again.ask("get", "bell") == before
        assert before["config"]["mqtt_config"]["password"] == "***"
        await again.ask("patch", "bell", patch={"mqtt_config": {"keepalive": 5}})
    assert b"from-the-files" not in home.stored


async def test_a_secret_that_the_schema_marks_no_longer_stays_one_over_a_start(tmp_path: Path):
    """The start composes it without the mark, sees that this is not what is stored, and opens it."""
    files = {"environments/dev.yaml": environment_file({"bell": {"settings": {"code": "planted-secret-1"}}})}
    marked = {"properties": {"settings": {"properties": {"code": {"type": "string", "x-sensitive": True}}}}}
    unmarked = {"properties": {"settings": {"properties": {"code": {"type": "string", "x-sensitive": False}}}}}
    home = Home(tmp_path, {**files, "schemas/bell.yaml": {"version": "1.0.0", **marked}})
    async with home.core() as core_then:
        before = await core_then.ask("get", "bell")
    home.write("schemas/bell.yaml", {"version": "1.1.0", **unmarked})
    for _ in range(2):
        async with home.core() as core_now:
            assert await core_now.ask("get", "bell") == before
            assert before["config"]["settings"]["code"] == "***"
    assert b"planted-secret-1" not in home.stored


async def test_what_served_several_daemons_is_dropped_by_one_that_is_alone(tmp_path: Path):
    """A home that came back from PostgreSQL: its files on the disk serve, and keys that sealed the others can go."""
    home = Home(tmp_path, {"environments/dev.yaml": environment_file({"bell": {}})})
    async with home.core() as made:
        await made.parts.store.commit([Write(meta=((SERVED, "digest 1 sealed:v1:0123456789abcdef:x y"),))])
        assert "0123456789abcdef" in await made.parts.store.key_ids()
    for _ in range(2):
        async with home.core() as made:
            assert (await made.parts.store.load()).meta[SERVED] == ""
            assert "0123456789abcdef" not in await made.parts.store.key_ids()
