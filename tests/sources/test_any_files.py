"""Directories with anything in them: reading ends with the files or with problems that can be shown."""

import contextlib
import os
import random
from pathlib import Path

import pytest

from aliciacfg.errors import SourceError
from aliciacfg.settings import resolve
from aliciacfg.sources.loader import stamp_files
from aliciacfg.sources.source_files import SourceFiles, label

NAMES = [
    b"base.yaml", b"dev.yaml", b"prod-secrets.yaml", b"access.yaml", b"\xff.yaml", b"a\nb.yaml", b"\x1b[0m.json",
    b"x.yml", b".hidden.yaml", b"bell.json", b"bell.yaml", b"1-to-2.yaml", b"migrations", b"bell", b"\xe9", b"..data",
    b"a" * 250 + b".yaml", b"base.yaml\n",
]  # fmt: skip
TEXTS = [
    b"", b"services: {bell: {}}", b"{", b"\xff", b"a: !secret x", b"- 1", b"null", b"\0", b"defaults: {x: '${X}'}",
    b"%YAML 1.1\n---\na: 1", b"\xfe\xff\0a", b"&a [*a]", b"a: " * 50, b"[" * 5000, b"{}\n---\n{}", b"A=1\nB",
]  # fmt: skip
TARGETS = [b"nowhere", b"base.yaml", b".", b"..", b"/dev/zero", b"/dev/null"]


def fill(path: Path, chance: random.Random, depth: int = 0) -> None:
    """Make something of this name: a file, a pipe, a link, a directory with more of it, or a very large file.

    Nothing that exists is written: it may be reached through a link that was made before.
    """
    with contextlib.suppress(OSError):
        match chance.randrange(8):
            case 0 | 1 | 2 | 3:
                with path.open("xb") as file:
                    file.write(chance.choice(TEXTS))
            case 4:
                os.mkfifo(path)
            case 5:
                path.symlink_to(os.fsdecode(chance.choice([*TARGETS, os.fsencode(path.name)])))
            case 6 if depth < 3:
                path.mkdir()
                for name in chance.sample(NAMES, 4):
                    fill(path / os.fsdecode(name), chance, depth + 1)
            case _:
                with path.open("xb") as file:
                    file.truncate(20 * 1024 * 1024)


@pytest.mark.parametrize("seed", range(60))
def test_anything_may_be_in_the_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int):
    """No other error, no waiting, nothing without a limit; every problem is one line of text that can be printed."""
    monkeypatch.chdir(tmp_path)
    chance = random.Random(seed)
    for place in (Path("environments"), Path("schemas"), Path("schemas/bell/migrations")):
        if chance.random() < 0.1:
            fill(place, chance)
        with contextlib.suppress(OSError):
            place.mkdir(parents=True, exist_ok=True)
            for name in chance.sample(NAMES, chance.randrange(6)):
                fill(place / os.fsdecode(name), chance)
    fill(Path(".env"), chance)
    files = SourceFiles(resolve({}, environ={}, dotenv_values={}).settings)
    try:
        sources = files.load()
        own = [problem for environment in sources.environments.values() for problem in environment.problems]
        problems = [*sources.set_aside, *own]
    except SourceError as error:
        problems = [*error.problems]
    assert all(str(problem).isprintable() for problem in problems)
    assert files.digest()
    assert all(label(path).isprintable() for path in stamp_files(files.paths()))
