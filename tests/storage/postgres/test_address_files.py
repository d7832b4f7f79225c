"""The files that an address names: passwords as libpq reads them, and what is wrong with a file is said."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from aliciacfg.storage.backend import database_in
from aliciacfg.storage.postgres import address_files
from aliciacfg.storage.store import StoreError
from postgres import Postgres

PASSWORD = r"a:b\c @/#%ä"


@pytest.fixture
def server(postgres: Postgres) -> Iterator[Postgres]:
    """A server that asks mario for a password."""
    rules = postgres.data / "pg_hba.conf"
    before = rules.read_text()
    rules.write_text(f"local all mario scram-sha-256\n{before}")
    postgres.execute(f"CREATE ROLE mario LOGIN PASSWORD '{PASSWORD}'", "SELECT pg_reload_conf()")
    yield postgres
    rules.write_text(before)
    postgres.execute("DROP ROLE mario", "SELECT pg_reload_conf()")


@pytest.fixture
def passfile(tmp_path: Path) -> Path:
    """A file for the password, whose name an address has to encode."""
    path = tmp_path / "pg pass&"
    path.touch(mode=0o600)
    return path


def address(server: Postgres, passfile: Path) -> str:
    return f"postgresql://mario@/postgres?host={server.directory}&passfile={quote(str(passfile))}"


@pytest.mark.parametrize(
    "line",
    [
        r"localhost:5432:postgres:mario:a\:b\\c @/#%ä",
        r"*:*:*:*:a:b\\c @/#%ä",
    ],
)
def test_a_password_may_hold_anything(server: Postgres, passfile: Path, tmp_path: Path, line: str):
    """Colons and backslashes with a backslash before them; a line that is cut short is passed over."""
    passfile.write_text(f"# nothing\n\ncut:short\n*:*:*:luigi:wrong\n{line}\n*:*:*:*:later\n")
    assert not database_in(tmp_path, address(server, passfile)).exists()


def test_the_error_says_what_is_wrong_with_the_file(server: Postgres, passfile: Path, tmp_path: Path):
    """Missing, open to others, without a line for this server: a wrong password alone would not tell."""
    database = database_in(tmp_path, address(server, passfile))

    def error() -> str:
        with pytest.raises(StoreError) as raised:
            database.exists()
        return str(raised.value)

    assert f"{passfile} has no line for localhost:5432:postgres:mario" in error()
    passfile.chmod(0o640)
    assert f"{passfile} can be read by others, so it is not used; run: chmod 600 {passfile}" in error()
    passfile.unlink()
    assert f"the password file {passfile} is missing" in error()
    # That of the server's answer: the file is used.
    passfile.touch(mode=0o600)
    passfile.write_text("*:*:*:*:secret\n")
    assert "names the right user and password" in error()
    assert "secret" not in error()


def test_a_file_for_tls_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The system's error names none."""
    monkeypatch.setenv("HOME", str(tmp_path))
    url = f"postgresql://mario@127.0.0.1:1/x?sslmode=verify-full&sslrootcert={tmp_path}/ca.pem"
    with pytest.raises(StoreError, match=rf"names is missing: {tmp_path}/ca.pem \(sslrootcert\)"):
        database_in(tmp_path, url).exists()
    # The driver looks for one in the home directory of the user.
    with pytest.raises(StoreError, match="sslrootcert=FILE in the address names") as raised:
        database_in(tmp_path, url.partition("&")[0]).exists()
    assert "HINT" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "places"),
    [
        ("postgresql://u@db1,db2:5433/n?passfile=F", ["db1:5432:n:u", "db2:5433:n:u"]),
        ("postgresql://u@[::1]:5433/n?passfile=F", ["::1:5433:n:u"]),
        ("postgresql://u@%2Frun%2Fpg:5433/?passfile=F", ["localhost:5433:u:u"]),
        ("postgresql:///n?host=a,b&port=1,2&user=u&passfile=F", ["a:1:n:u", "b:2:n:u"]),
    ],
)
def test_each_server_of_an_address_may_have_a_line(url: str, places: list[str], tmp_path: Path):
    """The first that has one is taken, as the driver does."""
    file = tmp_path / "pgpass"
    for place in places:
        file.touch(mode=0o600)
        file.write_text(place.replace("::1", r"\:\:1") + ":found\n")
        prepared = address_files.prepare(url.replace("=F", f"={file}"))
        assert (prepared.password, "passfile" in prepared.url) == ("found", False)


def test_an_address_that_has_a_password_needs_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Nor does one for which the environment has it."""
    file = f"passfile={tmp_path}/missing"
    assert address_files.prepare(f"postgresql://u:p@h/n?{file}").lacking == ""
    assert address_files.prepare(f"postgresql://u@h/n?{file}").lacking != ""
    monkeypatch.setenv("PGPASSWORD", "p")
    assert address_files.prepare(f"postgresql://u@h/n?{file}").lacking == ""
