"""The digest of a home's files, by which its daemons compare them."""

import asyncio
from pathlib import Path

from aliciacfg.settings import resolve
from aliciacfg.sources import loader
from aliciacfg.sources.content_digest import ContentDigest
from aliciacfg.sources.source_files import SourceFiles
from inprocess import eventually


def files(home: Path) -> SourceFiles:
    """A home with an environment and a schema."""
    for name in ("environments/dev.yaml", "schemas/bell.yaml"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(name)
    given = {"environments_dir": str(home / "environments"), "schemas_dir": str(home / "schemas")}
    return SourceFiles(resolve(given, environ={}, dotenv_values={}).settings)


def test_the_same_files_have_the_same_digest_wherever_they_lie(tmp_path: Path):
    """Content and names count, and which of the two directories a file is in."""
    first, second = files(tmp_path / "a"), files(tmp_path / "srv" / "b")
    same = first.common_digest()
    assert second.common_digest() == same
    (tmp_path / "srv" / "b" / "environments" / "dev.yaml").write_text("other")
    assert second.common_digest() != same
    seen = {same, second.common_digest()}
    moved = tmp_path / "a" / "environments" / "dev.yaml"
    moved.rename(moved.with_name("prod.yaml"))
    assert first.common_digest() not in seen


async def test_an_edit_is_seen(tmp_path: Path):
    """And so is that it was taken back."""
    found = files(tmp_path)
    digest = ContentDigest(lambda: loader.stamp_files(found.paths()), found.common_digest, look_seconds=0.01)
    before = digest.value
    task = asyncio.create_task(digest.run())
    edited = tmp_path / "environments" / "dev.yaml"
    edited.write_text("edited")
    await eventually(lambda: digest.value != before)
    edited.write_text("environments/dev.yaml")
    await eventually(lambda: digest.value == before)
    task.cancel()
    await asyncio.wait({task})
