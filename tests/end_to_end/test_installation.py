"""The wheel, installed elsewhere."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from daemons import files_under
from repository import ROOT

BASE = ROOT / "environments" / "base.yaml"


def build_wheel(directory: Path) -> Path:
    """A wheel as the Dockerfile builds it; skips where the build backend is neither installed nor to be had."""
    isolation = [] if find_spec("hatchling") is None else ["--no-build-isolation"]
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--retries", "1", "--no-deps", *isolation]
    done = subprocess.run(
        [*command, "--wheel-dir", str(directory), str(ROOT)], capture_output=True, text=True, timeout=50, check=False
    )
    if done.returncode and "No matching distribution found for hatchling" in done.stderr:
        pytest.skip("hatchling is not installed, and there is no package index to get it from")
    assert done.returncode == 0, done.stderr
    (wheel,) = directory.glob("aliciacfg-*.whl")
    return wheel


def test_the_wheel_holds_all_that_runs(tmp_path: Path):
    """Every file of the package; installed elsewhere, the console script starts and mosquitto.conf is there."""
    wheel = build_wheel(tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    sources = {path.relative_to(ROOT / "src").as_posix() for path in files_under(ROOT / "src" / "aliciacfg")}
    assert {name for name in sources if "__pycache__" not in name} <= names
    assert not [name for name in names if "__pycache__" in name]
    target = tmp_path / "installed"
    # A third of what pip takes.
    install = [sys.executable, "-m", "uv", "pip", "install", "--offline", "--no-cache", "--no-deps", "--target"]
    subprocess.run([*install, str(target), str(wheel)], check=True, timeout=50, capture_output=True)
    script = shutil.which("aliciacfg", path=str(target / "bin"))
    assert script is not None
    environment = {**os.environ, "PYTHONPATH": str(target)}
    version = subprocess.run(
        [script, "--version"], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=True
    )
    assert re.fullmatch(r"aliciacfg, version \d+\.\d+\.\d+\n", version.stdout)
    where = "import aliciacfg.mqtt.broker.dev_broker as d; print(d.__file__); print(d.dev_config(1883, '/data'))"
    config = subprocess.run(
        [sys.executable, "-c", where],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    made = subprocess.run(
        [script, "init", "home", "--example", "alicia"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert len(json.loads(made.stdout)["created"]) == 30
    assert (tmp_path / "home" / "environments" / "base.yaml").read_bytes() == BASE.read_bytes()
    assert config.stdout.startswith(str(target))
    assert "set_tcp_nodelay true" in config.stdout
