"""A ``null`` in an environment file that removes nothing is told with file and line."""

from pathlib import Path

from structlog.testing import capture_logs

from aliciacfg.sources.idle_nulls import idle_nulls
from builders import environment_file
from inprocess import Home
from repository import ROOT

BELL = "services:\n  bell:\n    limits:\n      x: null\n      y:\n    features: null\n"


def places(home: Home, only: str | None = None) -> list[str]:
    return [f"{found.file}:{found.line} {found.pointer}" for found in idle_nulls(home.load(), only=only)]


def test_a_null_that_removes_nothing_is_found(tmp_path: Path):
    """Also one that nobody wrote; ``features`` removes a default of the base contract."""
    home = Home(tmp_path, {"environments/base.yaml": environment_file(), "environments/dev.yaml": BELL})
    assert places(home) == [
        "environments/dev.yaml:4 /services/bell/limits/x",
        "environments/dev.yaml:5 /services/bell/limits/y",
    ]
    home.write("environments/base.yaml", environment_file(limits={"x": 1}))
    assert places(home) == ["environments/dev.yaml:5 /services/bell/limits/y"]


def test_a_null_that_removes_something_somewhere_is_none(tmp_path: Path):
    """From one service, or in one environment; looked at alone, the other environment has a warning."""
    home = Home(
        tmp_path,
        {
            "environments/base.yaml": "defaults: {limits: {x: 1}}\nservices: {bell: {limits: {x: null, y: null}}}\n",
            "environments/dev.yaml": "defaults: {limits: {y: 1}}\n",
            "environments/prod.yaml": "services: {one: {limits: {z: 1}}, two: {}}\n",
            "environments/prod-secrets.yaml": "services: {one: {limits: {z: null}}}\n",
        },
    )
    assert places(home) == []
    assert places(home, "prod") == ["environments/base.yaml:2 /services/bell/limits/y"]


def test_the_shipped_files_have_none():
    """The example home has no such line."""
    home = Home.__new__(Home)
    home.directory = ROOT
    assert places(home) == []


async def test_the_log_has_it_once(tmp_path: Path):
    """At the start, and again only when it changes; the name of the key is not in it."""
    home = Home(tmp_path, {"environments/base.yaml": environment_file(), "environments/dev.yaml": BELL})
    with capture_logs() as logs:
        async with home.core() as made:
            await made.ask("reload")
            home.write("environments/dev.yaml", BELL.replace("      y:\n", ""))
            await made.ask("reload", dry_run=True)
            await made.ask("reload")
    told = [entry["places"] for entry in logs if entry["event"] == "null_removes_nothing"]
    assert [[place.partition(": ")[0] for place in each] for each in told] == [
        ["environments/dev.yaml:4", "environments/dev.yaml:5"],
        ["environments/dev.yaml:4"],
    ]
    assert "limits" not in repr(told)
