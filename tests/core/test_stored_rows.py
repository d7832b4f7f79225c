"""What the core makes of rows that somebody edited in the database, or that an older version wrote."""

import base64
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from aliciacfg.access.caller import Caller
from aliciacfg.documents import JsonObject
from aliciacfg.errors import KeyFileError, NotFound, Unauthorized, Unavailable
from aliciacfg.model.records import Write
from aliciacfg.operations.table import BY_NAME
from aliciacfg.sealing.key_file import KeyFile
from aliciacfg.sealing.key_store import FileKeyStore
from aliciacfg.storage.store import StoreError
from builders import environment_file, valid_config
from inprocess import CALLER, Core, Home
from stored_rows import OTHER, back_to_before_the_chain, opened, revision, tamper

ANONYMOUS = Caller(None, "http", address="127.0.0.1")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Two services in two environments."""
    return Home(
        tmp_path,
        {
            "environments/base.yaml": environment_file({"one": {}, "two": {}}, settings={"size": 1}),
            "environments/dev.yaml": {},
            "environments/prod.yaml": {},
        },
    )


async def change(core: Core, service: str = "one", environment: str = "dev", **settings: object) -> None:
    await core.ask("patch", service, patch={"settings": settings}, environment=environment)


async def create_token(core: Core) -> str:
    """Return the id of a new token."""
    made = await BY_NAME["token_create"].run(core.parts.service, CALLER, "", {"name": "panel", "role": "reader"})
    return json.loads(made.body)["token_id"]


async def rows(core: Core) -> list[str]:
    """Return the drift items of a verification."""
    await core.parts.drift_checks.verify()
    return [item["subject"] for item in (await core.ask("drift"))["drift"] if item["kind"] == "row"]


FORGED = "UPDATE revisions SET config = CAST(replace(CAST(config AS TEXT), '\"size\":5', '\"size\":6') AS BLOB)"


@pytest.mark.parametrize(
    "statement",
    [
        f"{FORGED} WHERE service = 'one' AND revision = 3",
        "UPDATE revisions SET config = x'ff' WHERE service = 'one' AND revision = 3",
        "UPDATE revisions SET config = CAST('[]' AS BLOB) WHERE service = 'one' AND revision = 3",
        "UPDATE revisions SET cause = 'magic' WHERE service = 'one' AND revision = 3",
        "UPDATE revisions SET version = 'banana' WHERE service = 'one' AND revision = 3",
        "UPDATE revisions SET checksum = 'x' WHERE service = 'one' AND revision = 3",
        "UPDATE revisions SET deleted = 1 WHERE service = 'one' AND revision = 3",
        "UPDATE revisions SET author = CAST(x'ff' AS TEXT) WHERE service = 'one' AND revision = 3",
    ],
)
async def test_a_newest_revision_that_was_tampered_with_is_not_served(home: Home, statement: str):
    """The configuration from files and overlay is served, from the next start as a new revision, and is drift."""
    async with home.core() as core:
        await change(core, size=4)
        await change(core, size=5)
        before = await core.ask("get", "one")
    tamper(home.database, statement)
    async with home.core() as core:
        after = await core.ask("get", "one")
        assert after["config"]["settings"] == {"size": 5}
        assert after["checksum"] == before["checksum"]
        assert after["revision"] in {3, 4}
        assert "dev/one/3" in await rows(core)
        assert any(alert.kind == "drift" and alert.service == "one" for alert in core.heard)
        await change(core, size=7)
    async with home.core() as core:
        assert (await core.settings("one"))["size"] == 7
        assert "dev/one/3" in await rows(core)


async def test_an_old_revision_that_was_tampered_with_is_neither_shown_nor_brought_back(home: Home):
    """`unavailable` says why; the others are there, and the daemon goes on."""
    async with home.core() as core:
        await change(core, size=5)
        await change(core, size=6)
        tamper(home.database, f"{FORGED} WHERE service = 'one' AND revision = 2")
        for operation in ("get", "rollback"):
            with pytest.raises(Unavailable, match="differs from what was written"):
                await core.ask(operation, "one", revision=2)
        with pytest.raises(Unavailable, match="differs from what was written"):
            await core.ask("compare", "one", env1="dev", rev1=2)
        with pytest.raises(NotFound):
            await core.ask("rollback", "one", revision=9)
        await core.ask("rollback", "one", revision=1)
        assert await core.settings("one") == {"size": 1}
        assert await rows(core) == ["dev/one/2"]


async def test_a_damaged_revision_keeps_no_schema_from_calling_more_secret(home: Home):
    """All other rows are sealed further, and the damaged row remains a finding."""
    async with home.core() as core:
        for door in ("first", "second", "third"):
            await change(core, door=f"{door} word")
        tamper(
            home.database,
            "UPDATE revisions SET config = x'ff' WHERE service = 'one' AND revision = 2",
            "UPDATE revisions SET cause = 'magic' WHERE service = 'two' AND revision = 1",
        )
        marked = {"properties": {"settings": {"properties": {"door": {"type": "string", "x-sensitive": True}}}}}
        home.write("schemas/one.yaml", marked)
        home.write("schemas/two.yaml", marked)
        await core.ask("reload")
        assert await core.settings("one") == {"size": 1, "door": "***"}
        assert (await core.ask("get", "one", revision=3))["config"]["settings"]["door"] == "***"
        assert set(await rows(core)) == {"dev/one/2", "dev/two/1", "prod/two/1"}
        for word in (b"second word", b"third word"):
            assert word not in home.stored


async def test_a_running_daemon_does_not_read_back_what_was_tampered_with(home: Home):
    """An answer that is not cached is rendered from memory, never from the store."""
    async with home.core(cache_ttl_seconds="0") as core:
        await change(core, size=5)
        tamper(home.database, f"{FORGED} WHERE service = 'one' AND revision = 2")
        assert await core.settings("one") == {"size": 5}


@pytest.mark.parametrize("statement", ["UPDATE overlays SET patch = CAST('{\"settings\":{\"size\":9}}' AS BLOB)",
                                       "UPDATE overlays SET patch = x'ff'",
                                       "UPDATE overlays SET patch = 7",
                                       "UPDATE overlays SET origins = CAST('[' AS BLOB)"])  # fmt: skip
async def test_changes_that_were_tampered_with_are_not_used(home: Home, statement: str):
    """The last revision stays in force with an alert and drift, until the service is set again."""
    async with home.core() as core:
        await change(core, size=5)
        before = await core.ask("get", "one")
    tamper(home.database, statement)
    for _ in range(2):
        async with home.core() as core:
            assert await core.ask("get", "one") == before
            assert "the rows were changed in the database" in core.told("undecryptable")
            assert "one" in core.told("undecryptable")
            assert "dev/one/overlay" in await rows(core)
            home.write("environments/dev.yaml", {"defaults": {"settings": {"color": "red"}}})
            await core.ask("reload")
            assert await core.settings("two") == {"size": 1, "color": "red"}
            assert await core.settings("one") == {"size": 5}
    async with home.core() as core:
        await core.ask("set", "one", config={**before["config"], "settings": {"size": 6, "color": "red"}})
        assert await core.settings("one") == {"size": 6, "color": "red"}
    async with home.core() as core:
        assert core.standing == {}
        assert await core.settings("one") == {"size": 6, "color": "red"}
        assert "dev/one/overlay" not in await rows(core)


async def test_changes_that_were_taken_out_of_the_database_are_found(home: Home):
    """The service falls back to its files, and drift reports the missing row permanently."""
    async with home.core() as core:
        await change(core, size=5)
        await change(core, "two", size=5)
    tamper(home.database, "DELETE FROM overlays WHERE service = 'one'")
    async with home.core() as core:
        assert await core.settings("one") == {"size": 1}
        assert await rows(core) == ["standing"]
        await change(core, size=6)
        await core.ask("unset", "two", pointer="")
        assert await rows(core) == ["standing"]


async def test_a_normal_life_raises_no_alarm(home: Home):
    """Writes, refusals, deletions, comebacks, rollbacks, migrations, activations, full disks, restarts."""
    home.write(
        "schemas/one.yaml",
        {
            "version": "1.0.0",
            "properties": {"settings": {"properties": {"key": {"x-sensitive": True, "type": "string"}}}},
        },
    )
    async with home.core() as core:
        guest = valid_config(settings={"size": 3}, mqtt_config={"username": "guest"})
        for number in range(4):
            await change(core, size=number, key=f"secret {number}")
            await core.ask("set", "guest", config={**guest, "limits": {"n": number}})
        await core.ask("delete", "guest")
        await core.ask("rollback", "guest", revision=2)
        await core.ask("delete", "one", allow_breaking=True)
        await core.ask("rollback", "one", revision=3)
        assert await rows(core) == []
        await fail_once(core)
        await core.ask("delete", "guest")
        home.write(
            "schemas/one.yaml",
            {
                "version": "2.0.0",
                "properties": {"settings": {"properties": {"door_key": {"x-sensitive": True, "type": "string"}}}},
            },
        )
        home.write(
            "schemas/one/migrations/1-to-2.yaml",
            [{"op": "move", "from": "/settings/key", "path": "/settings/door_key"}],
        )
        await core.ask("reload", migrate=True)
        await core.ask("activate", "prod")
        assert await rows(core) == []
    for environment in ("prod", "dev", "dev"):
        async with home.core(environment) as core:
            await change(core, "two", environment, size=9)
            assert await rows(core) == []
            assert core.standing == {}


async def fail_once(core: Core) -> None:
    """Refuse one write as if the disk was full, and accept the next one."""
    commit = core.parts.store.commit

    async def commit_what_is_there(writes: Sequence[Write]) -> None:
        await commit([*writes, Write(records=(revision("one", 1, {}),))])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(core.parts.store, "commit", commit_what_is_there)
        with pytest.raises(Unavailable):
            await change(core, "two", size=77)
    await change(core, "two", size=78)


async def test_a_lost_key_file_keeps_nobody_from_what_is_no_secret(home: Home):
    """The new key file adopts all rows once, says so, and from then on they are guarded as before."""
    async with home.core() as core:
        await change(core, size=5)
        await change(core, size=6)
        await change(core, "two", key="secret")
        token = await create_token(core)
    home.keys.unlink()
    for number in range(2):
        async with home.core() as core:
            assert "adopted" in core.standing
            assert await core.settings("one") == {"size": 6 + number}
            await change(core, size=7 + number)
            assert (await core.ask("get", "one", revision=2))["config"]["settings"] == {"size": 5}
            assert (await core.settings("two"))["key"] == "***"
            assert "two" in core.told("undecryptable")
            with pytest.raises(Unauthorized):
                await core.ask_as(ANONYMOUS, "get", "one")
            assert await rows(core) == [f"tokens/{token}"]
            assert [entry["operation"] for entry in (await core.ask("audit"))["entries"]].count("adopt") == 1
    (note,) = json.loads(home.keys.read_text())["adopted"]
    assert note["rows"] > 10
    assert note["kept_in"].startswith("before-adoption-")
    async with home.core() as core:
        await core.ask("keys_acknowledge")
        assert "adopted" not in core.standing
    async with home.core() as core:
        assert "adopted" not in core.standing
    tamper(home.database, "UPDATE overlays SET mac = x'00000000' WHERE service = 'one'")
    async with home.core() as core:
        assert await core.settings("one") == {"size": 8}
        assert "dev/one/overlay" in await rows(core)


async def test_a_revision_whose_key_is_gone_is_told_by_an_alert(home: Home):
    """Rows that cannot be verified are not drift, but raise an alert."""
    async with home.core() as core:
        assert await rows(core) == []
    content = json.loads(home.keys.read_text())
    lost = content["keys"][0]["private"]
    content["keys"] = [{"key_id": OTHER.public.key_id, "private": base64.b64encode(OTHER._raw).decode()}]
    home.keys.write_text(json.dumps({**content, "current": OTHER.public.key_id}))
    async with home.core() as core:
        assert await rows(core) == []
        assert "cannot be verified" in core.standing["undecryptable:history"]
        await core.ask("keys_add", private_key=lost)
        assert "undecryptable:history" not in core.standing, "the alert ends with the key, not at the next start"


async def test_a_message_that_was_tampered_with_before_it_was_published_is_made_anew(home: Home):
    """What waits for the bus in the database says what the revision is, or is replaced at the next start."""
    async with home.core() as core:
        await change(core, size=5)
        right = core.parts.outbox.current["service/one"].payload
    for content in (right.replace(b'"size":5', b'"size":6'), b"\xff", b"{}"):
        with opened(home.database) as connection:
            connection.execute("UPDATE outbox SET payload = ? WHERE subject = 'service/one'", (content,))
        async with home.core() as core:
            made = json.loads(core.parts.outbox.current["service/one"].payload)
            assert made["config"] == json.loads(right)["config"]
    async with home.core() as core:
        assert json.loads(core.parts.outbox.current["service/one"].payload) == made


async def without_places(core: Core) -> tuple[list[JsonObject], JsonObject]:
    """History and content of a configuration, without its places in the order of the home."""
    history, found = await core.ask("history", "one"), await core.ask("get", "one")
    items = [{name: value for name, value in item.items() if name != "sequence"} for item in history["revisions"]]
    return items, {name: value for name, value in found.items() if name != "sequence"}


async def test_a_home_from_before_the_chain_goes_on_where_it_was(home: Home):
    """No revision is made anew, changes stay, nothing drifts, and what comes is guarded."""
    async with home.core() as core:
        await change(core, size=5)
        await change(core, size=6)
        before = await without_places(core)
    back_to_before_the_chain(home.database)
    # Whose keys have written a chain has a database with one; otherwise every row of an older one would be believed.
    with pytest.raises(StoreError, match="the database was replaced"):
        async with home.core():
            pass
    keys = home.database.parent / "keys.json"
    keys.write_bytes(keys.read_bytes().replace(b'"chained":true', b'"chained":false'))
    for _ in range(2):
        async with home.core() as core:
            assert await without_places(core) == before
            assert await rows(core) == []
            assert core.standing == {}
    async with home.core() as core:
        await core.ask("unset", "one", pointer="/settings/size")
        assert await core.settings("one") == {"size": 1}
        assert await rows(core) == []
    assert b'"chained":true' in keys.read_bytes()
    tamper(home.database, "UPDATE revisions SET comment = 'x' WHERE service = 'one' AND revision = 2")
    async with home.core() as core:
        assert await rows(core) == ["dev/one/2"]


async def test_an_old_database_whose_keys_are_lost_is_served(home: Home):
    """New keys have not written anything, so earlier rows do not count as changed."""
    async with home.core() as core:
        await change(core, size=5)
    back_to_before_the_chain(home.database)
    (home.database.parent / "keys.json").unlink()
    for _ in range(2):
        async with home.core() as core:
            assert await core.settings("one") == {"size": 5}


async def test_a_revision_that_was_tampered_with_is_not_served_when_nothing_can_be_composed(home: Home):
    """With broken files, or changes that were tampered with as well, the revision before it is served."""
    async with home.core() as core:
        await change(core, size=4)
        await change(core, size=5)
    tamper(
        home.database,
        f"{FORGED} WHERE service = 'one' AND revision = 3",
        'UPDATE overlays SET patch = CAST(\'{"settings":{"size":9}}\' AS BLOB)',
    )
    async with home.core() as core:
        assert await core.settings("one") == {"size": 4}
        assert set(await rows(core)) == {"dev/one/3", "dev/one/overlay"}
    home.write("environments/dev.yaml", "services: [")
    async with home.core() as core:
        assert await core.settings("one") == {"size": 4}
        assert (await core.ask("get", "one"))["revision"] == 2


async def test_a_home_whose_tokens_were_deleted_stays_closed(home: Home):
    """The key file says that there have been tokens; a deleted key file says nothing, and neither do the rows."""
    async with home.core() as core:
        await core.ask_as(ANONYMOUS, "get", "one")
        await create_token(core)
        with pytest.raises(Unauthorized):
            await core.ask_as(ANONYMOUS, "get", "one")
    tamper(home.database, "DELETE FROM tokens")
    for _ in range(2):
        async with home.core() as core:
            assert "standing" in await rows(core)
            with pytest.raises(Unauthorized):
                await core.ask_as(ANONYMOUS, "get", "one")


async def test_a_revoked_token_is_not_revived_by_its_older_row(home: Home):
    """The row is one that the daemon wrote, so its code is right; the key file knows better."""
    async with home.core() as core:
        token = await create_token(core)
    with opened(home.database) as connection:
        before = connection.execute("SELECT * FROM tokens").fetchone()
    async with home.core() as core:
        await core.ask("token_revoke", token_id=token)
    with opened(home.database) as connection:
        places = ", ".join("?" * len(before))
        connection.execute(f"INSERT OR REPLACE INTO tokens VALUES ({places})", before)
    async with home.core() as core:
        (listed,) = (await core.ask("token_list"))["tokens"]
        assert (listed["revoked"], listed["confirmed"]) == (None, False)
        assert await rows(core) == ["standing"]


async def test_a_row_put_into_a_running_daemons_database_is_not_in_its_way(home: Home):
    """Somebody takes the next number of a service; the daemon writes its own revision and its own history."""
    async with home.core() as core:
        await change(core, size=5)
        tamper(
            home.database,
            "INSERT INTO revisions (environment, service, revision, version, timestamp, author, cause, checksum,"
            " config, changed, restart_required, breaking, comment, deleted, sequence, digest, mac, code)"
            " SELECT environment, service, 3, version, timestamp, 'evil', cause, checksum, config, changed,"
            " restart_required, breaking, comment, deleted, (SELECT max(sequence) FROM audit) + 1, digest, mac, code"
            " FROM revisions WHERE service = 'one' AND environment = 'dev' AND revision = 2",
        )
        await change(core, size=6)
        assert (await core.ask("get", "one"))["revision"] == 3
        listed = (await core.ask("history", "one"))["revisions"]
        assert [(head["revision"], head["author"] == "evil") for head in listed] == [(3, False), (2, False), (1, False)]
        (found,) = await rows(core)
        assert found.startswith("dev/one/3 forged ")
    async with home.core() as core:
        assert (await core.settings("one"))["size"] == 6


async def test_an_adoption_that_was_interrupted_is_repeated_and_adopts_nothing_more(
    home: Home, monkeypatch: pytest.MonkeyPatch
):
    """The rows are adopted, but the key file does not say so yet; what is forged meanwhile is not adopted."""
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
    tamper(home.database, 'UPDATE overlays SET patch = CAST(\'{"settings":{"size":9}}\' AS BLOB)')
    async with home.core() as core:
        assert await core.settings("one") == {"size": 5}
        assert await rows(core) == ["dev/one/overlay"]
    assert b'"chained":true' in home.keys.read_bytes()


async def test_a_key_file_that_cannot_be_written_adopts_nothing(home: Home, monkeypatch: pytest.MonkeyPatch):
    """Otherwise whatever is in the database later would be adopted, at any start."""
    async with home.core() as core:
        await change(core, size=5)
    home.keys.unlink()
    KeyFile.create(home.keys, now=1)

    def read_only(store: FileKeyStore, _: object) -> None:
        raise KeyFileError(f"{store.name} cannot be written")

    with monkeypatch.context() as patched:
        patched.setattr(FileKeyStore, "update", read_only)
        async with home.core() as core:
            assert await core.settings("one") == {"size": 1}
            assert "dev/one/overlay" in await rows(core)
