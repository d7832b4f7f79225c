"""Files that vanish: what only they define ends after a time, and comes to no harm when they come back before."""

from collections.abc import Callable
from pathlib import Path

import pytest

from aliciacfg.core.vanished_files import FilesVanished, VanishedFiles
from aliciacfg.errors import NotFound, SourceError, ValidationFailed
from builders import environment_file
from inprocess import Core, Home

BASE = "environments/base.yaml"
DEV = "environments/dev.yaml"
ACCESS = "environments/access.yaml"
SCHEMA = "schemas/bell.yaml"
DEFAULTS = environment_file()["defaults"]
FOREVER = {"vanished_file_seconds": "3600"}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Services in base.yaml and in dev.yaml."""
    return Home(
        tmp_path,
        {
            BASE: {"services": {"bell": {"settings": {"x": 1}}, "lamp": {}}},
            DEV: {"defaults": DEFAULTS, "services": {"door": {}}},
        },
    )


async def load(core: Core) -> None:
    """As the file watcher does."""
    await core.parts.reloads.reload(patience="all")


async def loads_when_due(core: Core) -> None:
    """Load again when the time is over; it is the clock that goes on, so that no test depends on how fast it is."""
    assert not core.parts.reloads.worth_retrying
    vanished = core.parts.reloads._vanished
    now = vanished._clock
    vanished._clock = lambda: now() + float(FOREVER["vanished_file_seconds"])
    assert core.parts.reloads.worth_retrying
    await load(core)


def test_a_file_has_to_be_away_for_the_whole_time():
    """Each file has its own time; one that came back starts anew."""
    now = [0.0]
    vanished = VanishedFiles(seconds=10, clock=lambda: now[0])

    def check(*there: str) -> bool:
        problems = vanished.look(["a", "b"], dict.fromkeys(there, True))
        assert {problem.file for problem in problems} == {"a", "b"} - set(there)
        try:
            vanished.check(problems)
        except FilesVanished:
            return False
        return True

    assert check("a", "b")
    assert not check("b")
    now[0] = 9.9
    assert not check("b")
    assert check("a", "b")
    now[0] = 10.1
    assert not check("b")
    now[0] = 20
    assert not check()
    now[0] = 20.2
    assert not check()
    assert not vanished.due
    now[0] = 30
    assert vanished.due
    vanished.look(["a", "b"], {}, dry_run=True)
    assert vanished.due
    assert check()
    vanished.settle()
    assert not vanished.due


HOW: dict[str, Callable[[Path], object]] = {
    "deleted": Path.unlink,
    "truncated": lambda path: path.write_bytes(b""),
    "comments only": lambda path: path.write_text("# soon\n---\n"),
    "moved away": lambda path: path.rename(path.with_suffix(".bak")),
}


@pytest.mark.parametrize("how", HOW)
async def test_nothing_ends_while_a_file_is_away(home: Home, how: str):
    """It is told what happens when, by name; and nothing has happened when the file is back."""
    text = (home.directory / BASE).read_text()
    async with home.core(**FOREVER) as core:
        HOW[how](home.directory / BASE)
        for _ in range(3):
            with pytest.raises(FilesVanished, match="3600 s"):
                await load(core)
        assert f"{BASE}: is " in core.standing["file_vanished"]
        assert core.parts.service.health.now().status == "degraded"
        (active,) = [item for item in (await core.ask("environments"))["environments"] if item["name"] == "dev"]
        assert [problem["message"].split(":")[0] for problem in active["problems"]] == [BASE]
        assert [(await core.ask("get", name))["revision"] for name in ("bell", "lamp", "door")] == [1, 1, 1]
        home.write(BASE, text)
        await load(core)
        assert core.standing == {}
        assert (await core.ask("get", "bell"))["revision"] == 1


async def test_what_is_away_for_the_whole_time_counts_as_removed(home: Home):
    """Its services end by themselves."""
    async with home.core(**FOREVER) as core:
        home.remove(BASE)
        with pytest.raises(FilesVanished):
            await load(core)
        await loads_when_due(core)
        assert core.standing == {}
        assert not core.parts.reloads.worth_retrying
        for name in ("bell", "lamp"):
            with pytest.raises(NotFound):
                await core.ask("get", name)
        assert (await core.ask("get", "door"))["revision"] == 1


async def test_changes_made_at_run_time_are_never_lost_with_a_file(home: Home):
    """The load is refused, once; they are there when the file is back."""
    text = (home.directory / BASE).read_text()
    async with home.core(**FOREVER) as core:
        await core.ask("patch", "bell", patch={"settings": {"x": 2}})
        home.remove(BASE)
        with pytest.raises(FilesVanished):
            await load(core)
        with pytest.raises(SourceError, match=f"^{BASE}: is missing(.|\n)*changes made at run time"):
            await loads_when_due(core)
        assert "file_vanished" not in core.standing
        assert not core.parts.reloads.worth_retrying
        home.write(BASE, text)
        await load(core)
        assert await core.settings("bell") == {"x": 2}


async def test_a_requested_reload_ends_no_service_while_its_file_is_away(home: Home):
    """It says why and for how long; a dry run shows what would end."""
    async with home.core(**FOREVER) as core:
        home.remove(BASE)
        assert set((await core.ask("reload", dry_run=True))["changed"]) == {"bell", "lamp"}
        with pytest.raises(ValidationFailed) as refused:
            await core.ask("reload")
        assert [problem.message.split(":")[0] for problem in refused.value.problems] == [BASE]
        assert (await core.ask("get", "bell"))["revision"] == 1


async def test_a_requested_reload_that_ends_nothing_is_done_at_once(home: Home):
    """A schema or an inactive environment is gone on purpose."""
    home.write("environments/prod.yaml", "")
    home.write(SCHEMA, {"properties": {"settings": {"properties": {"y": {"default": 1}}}}})
    async with home.core(**FOREVER) as core:
        home.remove("environments/prod.yaml")
        home.remove(SCHEMA)
        with pytest.raises(FilesVanished):
            await load(core)
        assert (await core.ask("reload"))["changed"] == ["bell"]
        assert core.standing == {}


@pytest.mark.parametrize("name", [ACCESS, SCHEMA, ".env", "environments/prod.yaml"])
async def test_every_kind_of_file_is_waited_for(home: Home, monkeypatch: pytest.MonkeyPatch, name: str):
    """Rules would close, defaults and variables would change, an environment would go."""
    monkeypatch.chdir(home.directory)
    home.write(name, {ACCESS: "admins: [tester]", ".env": "VARIABLE_OF_A_TEST=1"}.get(name, "{}"))
    if name == "environments/prod.yaml":
        home.write(name, "protected: true")
    async with home.core(**FOREVER) as core:
        home.remove(name)
        with pytest.raises(FilesVanished):
            await load(core)
        assert f"{name}: is missing" in core.standing["file_vanished"]
        assert (core.parts.service.authorizer.access.enforced) == (name == ACCESS)


async def test_what_follows_from_a_missing_file_comes_after_it(home: Home):
    """Services without their defaults are invalid; the first problem is the missing file."""
    home.write(BASE, {"defaults": DEFAULTS})
    home.write(DEV, {"services": {"bell": {}, "lamp": {}}})
    async with home.core(**FOREVER) as core:
        home.remove(BASE)
        with pytest.raises(SourceError) as refused:
            await load(core)
        assert refused.value.problems[0].file == BASE


async def test_a_start_without_a_file_serves_what_was_recorded(home: Home):
    """For the same time: a directory may be mounted late."""
    async with home.core():
        pass
    home.remove(BASE)
    async with home.core(**FOREVER) as core:
        assert BASE in core.standing["file_vanished"]
        assert (await core.ask("get", "bell"))["revision"] == 1
        await loads_when_due(core)
        assert core.standing == {}
        with pytest.raises(NotFound):
            await core.ask("get", "bell")


async def test_a_start_in_another_environment_does_not_wait(home: Home):
    """There is nothing recorded to serve instead."""
    home.write("environments/prod.yaml", {"defaults": DEFAULTS, "services": {"door": {}}})
    async with home.core():
        pass
    home.remove(BASE)
    async with home.core("prod", **FOREVER) as core:
        assert core.standing == {}
        assert (await core.ask("get", "door"))["environment"] == "prod"


async def test_files_that_are_replaced_are_not_away(home: Home):
    """By a rename, or through the link of a Kubernetes volume to a directory."""
    first, second = home.directory / "first", home.directory / "second"
    first.mkdir()
    (home.directory / BASE).rename(first / "base.yaml")
    second.mkdir()
    (second / "base.yaml").write_text((first / "base.yaml").read_text().replace("1", "2"))
    link = home.directory / "environments" / "..data"
    link.symlink_to(first)
    (home.directory / BASE).symlink_to("..data/base.yaml")
    async with home.core(**FOREVER) as core:
        swapped = link.with_name("..data_tmp")
        swapped.symlink_to(second)
        swapped.rename(link)
        await load(core)
        assert await core.settings("bell") == {"x": 2}
        new = home.directory / "new"
        new.write_text((second / "base.yaml").read_text().replace("2", "3"))
        new.replace(home.directory / BASE)
        await load(core)
        assert await core.settings("bell") == {"x": 3}
        assert core.standing == {}


async def test_an_environment_without_any_service_is_refused_however_long_files_are_away(home: Home):
    """The last file that names services: that is told first, with the file that is away."""
    home.write(DEV, {"defaults": DEFAULTS})
    async with home.core(**FOREVER) as core:
        home.remove(BASE)
        with pytest.raises(SourceError) as refused:
            await load(core)
        assert "2 were defined" in refused.value.problems[0].message
        assert refused.value.problems[1].file == BASE
        assert not isinstance(refused.value, FilesVanished)
        assert not core.parts.reloads.worth_retrying
        assert (await core.ask("get", "bell"))["revision"] == 1


@pytest.mark.parametrize("directory", ["environments", "schemas"])
@pytest.mark.parametrize("state", ["gone", "empty"])
async def test_a_directory_that_is_unmounted_for_a_moment_ends_nothing(home: Home, directory: str, state: str):
    """It is refused or put off, and everything is as before when it is back."""
    home.write(SCHEMA, {"properties": {"settings": {"properties": {"y": {"default": 1}}}}})
    async with home.core(**FOREVER) as core:
        place, aside = home.directory / directory, home.directory / "aside"
        place.rename(aside)
        if state == "empty":
            place.mkdir()
        for _ in range(2):
            with pytest.raises(SourceError):
                await load(core)
        assert core.standing
        assert await core.settings("bell") == {"x": 1, "y": 1}
        if state == "empty":
            place.rmdir()
        aside.rename(place)
        await load(core)
        assert core.standing == {}
        assert [(await core.ask("get", name))["revision"] for name in ("bell", "lamp", "door")] == [1, 1, 1]


async def test_a_variable_that_is_missing_with_its_file_is_no_problem_of_its_own(
    home: Home, monkeypatch: pytest.MonkeyPatch
):
    """The file is told first; a reload is refused, and everything is as before when it is back."""
    monkeypatch.chdir(home.directory)
    monkeypatch.delenv("VARIABLE_OF_A_TEST", raising=False)
    home.write(".env", "VARIABLE_OF_A_TEST=1")
    home.write(BASE, "services:\n  bell:\n    settings: {x: '${VARIABLE_OF_A_TEST}'}\n")
    async with home.core(**FOREVER) as core:
        home.remove(".env")
        with pytest.raises(SourceError) as refused:
            await load(core)
        assert [(problem.file, problem.line) for problem in refused.value.problems] == [(".env", None), (BASE, 3)]
        home.write(".env", "VARIABLE_OF_A_TEST=1")
        await load(core)
        assert core.standing == {}
        assert (await core.ask("get", "bell"))["revision"] == 1
