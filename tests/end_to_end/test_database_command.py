"""The command that moves a home to another database."""

import json
import subprocess
from pathlib import Path

import pytest

import forking
from aliciacfg.sealing.key_file import KeyFile
from aliciacfg.storage.home_keys import keys_of
from builders import environment_file
from inprocess import Home
from postgres import Postgres

PASSWORD = "correct-horse"
FILES = {"environments/dev.yaml": environment_file({"lamp": {}})}


@pytest.fixture
async def home(tmp_path: Path) -> Home:
    """A home that has run."""
    made = Home(tmp_path / "home", FILES)
    async with made.core():
        pass
    return made


def migrate(home: Home, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command in the home's directory."""
    command = [*arguments[:-2], "database", "migrate", *arguments[-2:]]
    return forking.run(command, directory=home.directory, environ={"HOME": str(home.directory), **environ}, stdin=b"")


def test_it_says_what_is_copied_and_what_to_do_next(home: Home, postgres: Postgres):
    """By the schemes alone, from the settings; a password is not printed."""
    url = {"ALICIACFG_DATABASE_URL": postgres.create().replace("@", f":{PASSWORD}@")}
    tried = migrate(home, "-o", "table", "sqlite:", "postgresql:", **url)
    assert tried.returncode == 0, tried.stderr
    assert "copied: data/aliciacfg.db to postgresql://aliciacfg@/home" in tried.stdout
    assert "1 configuration, 1 revision\n" in tried.stdout
    assert "next: set ALICIACFG_DATABASE_URL to postgresql://aliciacfg@/home" in tried.stdout
    again = migrate(home, "sqlite:", "postgresql:", **url)
    assert (again.returncode, "holds a home already" in again.stderr) == (1, True)
    back = migrate(home, "postgresql:", "sqlite:back", **url)
    assert json.loads(back.stdout)["needs_keys"] is False
    assert KeyFile.load(home.directory / "back" / "keys.json").content == KeyFile.load(home.keys).content
    assert (home.directory / "back" / "aliciacfg.db").stat().st_mode & 0o777 == 0o600
    # A rotation since then is in the database, and not in the file that lies there.
    shared = keys_of(home.settings(database_url=url["ALICIACFG_DATABASE_URL"]))
    fresh = KeyFile.load(shared).rotate(now=1.0)
    for file in (home.directory / "back").glob("aliciacfg.*"):
        file.unlink()
    once_more = migrate(home, "postgresql:", "sqlite:back", **url)
    assert once_more.returncode == 0, once_more.stderr
    assert KeyFile.load(home.directory / "back" / "keys.json").current == fresh
    assert PASSWORD not in "".join(done.stdout + done.stderr for done in (tried, again, back))


@pytest.mark.parametrize(
    ("url", "code", "found"),
    [
        (f"mysql://mario:{PASSWORD}@db/x", 2, "expected sqlite:DIR"),
        (f"postgresql://mario:{PASSWORD}@127.0.0.1:1/x", 1, "see whether the server runs"),
    ],
)
def test_an_address_that_cannot_be_used(home: Home, url: str, code: int, found: str):
    """Wrong usage, or a failure; the password is not quoted."""
    done = migrate(home, "sqlite:", url)
    assert (done.returncode, found in done.stderr, PASSWORD in done.stderr) == (code, True, False), done.stderr


async def test_a_daemon_that_runs_has_an_exit_code(home: Home):
    """That of another daemon."""
    async with home.core():
        done = migrate(home, "sqlite:", "postgresql://db/home")
    assert (done.returncode, "uses the data directory" in done.stderr) == (9, True)
