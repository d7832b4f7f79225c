"""What becomes of a home whose key file is lost, and of one whose earlier key file turns up again."""

import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest

from aliciacfg.errors import KeyFileError, Unavailable
from aliciacfg.operations.table import BY_NAME
from aliciacfg.sealing.boxes import PrivateKey
from aliciacfg.sealing.key_file import KeyFile
from aliciacfg.storage.data_directory import DataDirectory
from aliciacfg.storage.sqlite.database import SqliteDatabase
from builders import environment_file
from inprocess import CALLER, Core, Home
from stored_rows import tamper


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path, {"environments/dev.yaml": environment_file({"one": {}, "two": {}}, settings={"size": 1})})


async def change(core: Core, service: str = "one", **settings: object) -> None:
    await core.ask("patch", service, patch={"settings": settings})


async def broken_rows(core: Core) -> list[str]:
    await core.parts.drift_checks.verify()
    return [item["subject"] for item in (await core.ask("drift"))["drift"] if item["kind"] == "row"]


async def create_token(core: Core) -> None:
    await BY_NAME["token_create"].run(core.parts.service, CALLER, "", {"name": "panel", "role": "reader"})


def kept(home: Home) -> list[Path]:
    return sorted(home.keys.parent.glob("before-adoption-*"))


async def lose_keys(home: Home) -> Path:
    """A home with changes and a secret whose key file went elsewhere, and which started without it; return where."""
    async with home.core() as core:
        await change(core, size=5)
        await change(core, "two", key="secret-one")
        await create_token(core)
        await core.ask("recipient", "two", public_key=str(PrivateKey.generate().public))
    lost = home.directory / "lost.json"
    home.keys.rename(lost)
    async with home.core():
        pass
    return lost


async def add_keys(core: Core, file: Path) -> None:
    for item in KeyFile.load(file).held:
        await core.ask("keys_add", private_key=item.key.reveal())


async def test_the_earlier_key_file_is_added_after_an_adoption(home: Home):
    """Changes, history and secrets are there, nothing differs from what was written, and the alert ends."""
    lost = await lose_keys(home)
    async with home.core() as core:
        message = core.standing["adopted"]
        assert "`aliciacfg keys add --from FILE`. Do not copy it over the new one" in message
        assert kept(home)[0].name in message
        assert await core.settings("one") == {"size": 5}
        await add_keys(core, lost)
        assert "adopted" not in core.standing
        assert (await core.settings("two"))["key"] == "***"
        assert "undecryptable" not in core.standing
    async with home.core() as core:
        assert core.standing.keys() & {"adopted", "undecryptable:dev", "undecryptable:history"} == set()
        assert await core.settings("one") == {"size": 5}
        two = await core.ask("rollback", "two", revision=2)
        assert two["config"]["settings"] == {"size": 1, "key": "***"}
        # As the alert says, tokens and recipient keys are made again; the rows of recipients are not in the way.
        (token,) = (await core.ask("token_list"))["tokens"]
        assert await broken_rows(core) == [f"tokens/{token['token_id']}"]
        await BY_NAME["token_revoke"].run(core.parts.service, CALLER, "", {"token_id": token["token_id"]})
        assert await broken_rows(core) == []


async def test_an_earlier_key_file_put_over_a_new_one_changes_nothing(home: Home):
    """The start is refused, and with the new file back everything is as before."""
    lost = await lose_keys(home)
    async with home.core() as core:
        await change(core, size=6)
    new = home.directory / "new.json"
    shutil.copy(home.keys, new)
    before = home.stored
    shutil.copy(lost, home.keys)
    for _ in range(2):
        with pytest.raises(KeyFileError, match=r"Nothing was changed.*aliciacfg keys add --from FILE"):
            async with home.core():
                pass
    assert home.stored == before
    shutil.copy(new, home.keys)
    async with home.core() as core:
        assert await core.settings("one") == {"size": 6}
        await add_keys(core, lost)
        assert (await core.settings("two"))["key"] == "***"


async def test_an_earlier_key_file_that_replaced_the_new_one_for_good(home: Home):
    """As the message says: the start without it adopts once more, and then the earlier one is added."""
    lost = await lose_keys(home)
    shutil.copy(lost, home.keys)
    home.keys.unlink()
    async with home.core() as core:
        assert len(kept(home)) == 2
        assert await core.settings("one") == {"size": 5}
        await add_keys(core, lost)
        assert (await core.settings("two"))["key"] == "***"
        assert "adopted" not in core.standing


async def test_the_copy_from_before_an_adoption_and_the_earlier_key_file_are_the_home_as_it_was(home: Home):
    """With its tokens, too, which an adoption does not take over."""
    lost = await lose_keys(home)
    async with home.core() as core:
        await change(core, size=6)
    for file in home.database.parent.glob("aliciacfg.db*"):
        file.unlink()
    shutil.copy(kept(home)[0] / "aliciacfg.db", home.database)
    home.database.chmod(0o600)
    shutil.copy(lost, home.keys)
    async with home.core() as core:
        assert await core.settings("one") == {"size": 5}
        assert await broken_rows(core) == []
        (token,) = (await core.ask("token_list"))["tokens"]
        assert token["confirmed"]


ALL = ("revisions", "audit", "overlays", "meta", "outbox")


def tamper_with_all(tables: Iterable[str]) -> list[str]:
    code = {"revisions": "code", "audit": "code"}
    return [f"UPDATE {table} SET {code.get(table, 'mac')} = randomblob(36)" for table in tables]


@pytest.mark.parametrize("left", ALL)
async def test_a_database_of_which_one_row_is_confirmed_is_not_one_of_another_key(home: Home, left: str):
    """Its end is not confirmed, nor is any row of any other table: it is loaded, and says what differs."""
    async with home.core() as core:
        await change(core, size=5)
    tamper(home.database, "UPDATE chain SET sealed = x'00'", *tamper_with_all(table for table in ALL if table != left))
    async with home.core() as core:
        assert await broken_rows(core)


async def test_a_database_of_which_no_row_is_confirmed_is_refused(home: Home):
    async with home.core() as core:
        await change(core, size=5)
        await create_token(core)
    tamper(home.database, "UPDATE chain SET sealed = x'00'", *tamper_with_all(ALL))
    before = home.stored
    with pytest.raises(KeyFileError, match="every row"):
        async with home.core():
            pass
    assert home.stored == before


async def test_an_adoption_that_fails_leaves_no_copy(home: Home, monkeypatch: pytest.MonkeyPatch):
    """Without room for a copy nothing is adopted; a later start adopts."""
    async with home.core() as core:
        await change(core, size=5)
    home.keys.unlink()

    def full(*_: object) -> None:
        raise Unavailable("No space left on device.")

    for method in ("backup", "adopt"):
        with monkeypatch.context() as patched:
            patched.setattr(SqliteDatabase, method, full)
            with pytest.raises(Unavailable):
                async with home.core():
                    pass
        assert kept(home) == []
    async with home.core() as core:
        assert "adopted" in core.standing
        assert await core.settings("one") == {"size": 5}
        assert len(kept(home)) == 1
    assert len(KeyFile.load(home.keys).adopted) == 1


async def test_a_copy_that_is_interrupted_leaves_nothing(home: Home):
    async with home.core():
        pass
    data = DataDirectory(home.keys.parent)
    try:

        def broken(directory: Path) -> None:
            (directory / "part").touch()
            raise OSError(28, "No space left on device")

        with (
            pytest.raises(Unavailable, match="free some space"),
            data.keeping_before("adoption", broken, now=0),
        ):
            pass
        assert not [*data.path.glob("before-*"), *data.path.glob(".snapshot-*")]
        names: list[str] = []
        for _ in range(2):
            with data.keeping_before("adoption", lambda _: None, now=0) as name:
                names.append(name)
        assert names == ["before-adoption-19700101T000000Z", "before-adoption-19700101T000000Z-2"]
    finally:
        data.release()


async def test_a_start_that_ends_after_the_adoption_still_tells_of_it(home: Home, monkeypatch: pytest.MonkeyPatch):
    """The note is in the key file before the rows change."""
    async with home.core() as core:
        await change(core, size=5)
    home.keys.unlink()

    def killed(*_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(KeyFile, "mark_chained", killed)
        with pytest.raises(ZeroDivisionError):
            async with home.core():
                pass
    async with home.core() as core:
        assert kept(home)[0].name in core.standing["adopted"]
