"""The command that moves a home to another database."""

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import forking
from aliciacfg.backups.migration import MigrationOptions
from aliciacfg.backups.migration import migrate as copy_home
from aliciacfg.sealing.key_encryption import KeyEncryptionKey
from aliciacfg.sealing.key_file import KeyFile
from aliciacfg.sealing.key_store import FileKeyStore
from aliciacfg.storage.backend import Place
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
    command = ["database", "migrate", *arguments]
    return forking.run(command, directory=home.directory, environ={"HOME": str(home.directory), **environ}, stdin=b"")


def test_it_says_what_is_copied_and_what_to_do_next(home: Home, postgres: Postgres):
    """By the schemes alone, from the settings; a password is not printed."""
    url = {"ALICIACFG_DATABASE_URL": postgres.create().replace("@", f":{PASSWORD}@")}
    tried = migrate(home, "-o", "table", "sqlite:", "postgresql:", **url)
    assert tried.returncode == 0, tried.stderr
    assert "copied: data/aliciacfg.db to postgresql://aliciacfg@/home" in tried.stdout
    assert "1 configuration, 1 revision\n" in tried.stdout
    assert "next: every daemon needs ALICIACFG_DATABASE_URL, the same (postgresql://aliciacfg@/home" in tried.stdout
    assert "every other machine needs data/key-encryption.key, copied with mode 0600" in tried.stdout
    again = migrate(home, "sqlite:", "postgresql:", **url)
    assert (again.returncode, "holds this home already, with all that data" in again.stderr) == (1, True)
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


@pytest.mark.parametrize("stage", ["verifying", "copying: ", "verifying the copy", "copying the keys"])
def test_a_copy_that_is_killed_is_complete_or_not_there(home: Home, postgres: Postgres, stage: str):
    """To a server and back; the next run copies the home, and its keys are where its rows are."""
    url, data = postgres.create(), home.keys.parent
    back = Place(home.directory / "back")
    shared = keys_of(home.settings(database_url=url))
    for source, target in ((Place(data), Place(data, url)), (Place(data, url), back)):
        _killed(home, source, target, stage)
        assert not target.database.exists()
        _copy(home, source, target)
        assert target.database.describe().configurations == 1
        assert KeyFile.load(shared).content == KeyFile.load(home.keys).content
    assert KeyFile.load(back.directory / "keys.json").content == KeyFile.load(home.keys).content


def _killed(home: Home, source: Place, target: Place, stage: str) -> None:
    """Copy in another process, which is killed when it says that it begins with something."""

    def told(doing: str) -> None:
        if doing.startswith(stage):
            os.kill(os.getpid(), signal.SIGKILL)

    pid = os.fork()
    if pid == 0:
        try:
            _copy(home, source, target, told)
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL


def _copy(home: Home, source: Place, target: Place, told: Callable[[str], None] = lambda _: None) -> None:
    """Copy as the command does."""
    files = [home.keys]
    if source.url is not None:
        files.insert(0, home.directory / "brought.json")
        content = keys_of(home.settings(database_url=source.url)).load()
        assert content is not None
        FileKeyStore(files[0]).update(lambda _: content)
    options = MigrationOptions(home.settings(), files, from_server=source.url is not None, force=False, dry_run=False)
    copy_home(source, target, options, report=told)


def test_nothing_is_copied_without_a_key_encryption_key(home: Home, postgres: Postgres):
    """A dry run says so already; afterwards the database is as empty as before."""
    environ = {
        "ALICIACFG_DATABASE_URL": postgres.create(),
        "ALICIACFG_KEY_ENCRYPTION_KEY_FILE": str(home.directory / "kek"),
    }
    for more in ("--dry-run", "--force"):
        done = migrate(home, "sqlite:", "postgresql:", more, **environ)
        assert (done.returncode, "make it with `aliciacfg keys kek" in done.stderr) == (1, True), done.stdout
    KeyEncryptionKey.create(home.directory / "kek")
    done = migrate(home, "sqlite:", "postgresql:", **environ)
    assert done.returncode == 0, done.stderr


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
