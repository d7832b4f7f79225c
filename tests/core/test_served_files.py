"""What serves a home of several daemons, beside what is on the disk of one of them."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from aliciacfg.core.plan import ChangeContext, Plan
from aliciacfg.core.restore import SERVED
from aliciacfg.core.served_files import OthersLoaded, ServedFiles
from aliciacfg.core.state import State
from aliciacfg.errors import SourceError
from aliciacfg.model.records import StoredState
from aliciacfg.sealing.boxes import Keyring, key_ids
from aliciacfg.settings import resolve
from aliciacfg.sources.source_files import SourceFiles

SECRET = "typed-in-the-open"


@dataclass
class Machine:
    """A daemon with files and a data directory, whose neighbours and clock the test sets."""

    directory: Path
    keyring: Keyring
    stored: str | None = None
    alone: bool = True
    now: float = 100.0
    went_back: bool = False
    files: ServedFiles = field(init=False)

    def __post_init__(self) -> None:
        for name in ("environments", "schemas"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        given = {f"{name}_dir": str(self.directory / name) for name in ("environments", "schemas")}

        async def alone() -> bool:
            return self.alone

        self.files = ServedFiles(
            SourceFiles(resolve(given, environ={}, dotenv_values={}).settings),
            self.keyring,
            stored=self.stored,
            note=self.directory / "files",
            alone=alone,
            went_back=self.went_back,
            clock=lambda: self.now,
        )

    async def edit(self, text: str) -> None:
        (self.directory / "environments" / "dev.yaml").write_text(text)
        await self.files.look()

    async def put_in_force(self, *, beside: str | None = None) -> str:
        """Have what is on the disk serve, and return the row of it."""
        plan = Plan(State(), ChangeContext("files", "file"))
        (await self.files.to_serve(self.files.own, beside=beside))(plan)
        for callback in plan.on_commit:
            callback()
        return plan.meta[SERVED]

    async def put_in_force_again(self) -> str | None:
        """Have what is on the disk serve, and return the row if there is another one."""
        plan = Plan(State(), ChangeContext("files", "file"))
        (await self.files.to_serve(self.files.own, beside=self.files.digest))(plan)
        for callback in plan.on_commit:
            callback()
        return plan.meta.get(SERVED)

    async def starts_with(self) -> str | None:
        """What a start loads of the disk."""
        found = await self.files.to_start_with()
        return None if found is None else found.texts["environments/dev.yaml"]

    async def follow(self, row: str) -> None:
        self.files.follow(StoredState(meta={SERVED: row}))
        changes, digest = self.files.changes, self.files.digest
        self.files.followed(await self.files.stored_texts(), digest, changes)


@pytest.fixture
def keyring() -> Keyring:
    return Keyring.ephemeral()


@pytest.fixture
def first(tmp_path: Path, keyring: Keyring) -> Machine:
    return Machine(tmp_path / "first", keyring)


@pytest.fixture
def second(tmp_path: Path, keyring: Keyring) -> Machine:
    return Machine(tmp_path / "second", keyring)


async def test_what_one_puts_in_force_the_other_composes_from(first: Machine, second: Machine):
    """Its own files are others, which is told once no edit is on its way any more; nothing is in the open."""
    await first.edit(SECRET)
    await second.edit("other")
    row = await first.put_in_force()
    assert SECRET not in row
    assert not second.files.stale
    second.files.follow(StoredState(meta={SERVED: row}))
    assert (second.files.stale, second.files.pending) == (True, True)
    await second.follow(row)
    assert (second.files.stale, second.files.digest) == (False, first.files.own_digest)
    assert (await second.files.stored_texts()).texts == {"environments/dev.yaml": SECRET}
    # Told at once by one that starts with other files.
    assert second.files.differing == ("environments/dev.yaml",)
    await second.edit(SECRET)
    assert second.files.differing == ()
    await second.edit("newer")
    assert second.files.differing == ()
    second.now += 11
    assert second.files.differing == ("environments/dev.yaml",)


async def test_files_that_were_there_when_others_came_into_force_are_no_edit(first: Machine, second: Machine):
    """An edit is what was changed since then, also if that is what served long ago."""
    for machine in (first, second):
        await machine.edit("old")
    row = await first.put_in_force()
    await second.follow(row)
    await first.edit("new")
    assert first.files.edited
    await second.follow(await first.put_in_force())
    assert not first.files.edited
    assert not second.files.edited
    await first.edit("old")
    assert first.files.edited
    await second.edit("mine")
    assert second.files.edited


async def test_what_a_start_loads(first: Machine, keyring: Keyring):
    """Files that were edited while it did not run, if no other daemon lives; otherwise what serves."""
    await first.edit("old")
    assert (await first.files.to_start_with()) == first.files.own
    row = await first.put_in_force()
    await first.edit("new")

    async def starts_with(*, alone: bool, stored: str | None = row) -> str | None:
        machine = Machine(first.directory, keyring, stored=stored, alone=alone)
        found = await machine.files.to_start_with()
        return None if found is None else found.texts["environments/dev.yaml"]

    assert await starts_with(alone=True) == "new"
    assert await starts_with(alone=False) is None
    other = Machine(first.directory.parent / "other", keyring)
    await other.edit("newest")
    second = await other.put_in_force()
    await first.follow(second)
    assert await starts_with(alone=True, stored=second) is None
    (first.directory / "environments" / "dev.yaml").write_text("newest")
    assert await starts_with(alone=True, stored=second) is None
    with pytest.raises(SourceError, match="missing in the database"):
        await starts_with(alone=False, stored=None)


async def test_a_load_that_was_begun_beside_others_is_begun_anew(first: Machine):
    """Nothing that came into force meanwhile is replaced."""
    await first.edit("old")
    await first.put_in_force(beside="")
    await first.edit("new")
    with pytest.raises(OthersLoaded):
        await first.put_in_force(beside="")


async def test_what_was_changed_or_is_of_another_home_does_not_open(first: Machine, second: Machine, tmp_path: Path):
    """Neither a digest that is not its own."""
    await first.edit("old")
    row = await first.put_in_force()
    await first.edit("new")
    digest, _, content = (await first.put_in_force()).partition(" ")
    stranger = Machine(tmp_path / "stranger", Keyring.ephemeral())
    for machine, found in [
        (second, f"{row.partition(' ')[0]} {content}"),
        (second, f"{digest} {content[:-4]}AAA="),
        (second, f"{digest} ?"),
        (second, ""),
        (stranger, row),
    ]:
        machine.files.follow(StoredState(meta={SERVED: found}))
        with pytest.raises(SourceError, match="does not open"):
            await machine.files.stored_texts()


async def test_earlier_files_that_somebody_puts_back_serve_nobody(first: Machine, second: Machine, keyring: Keyring):
    """Neither a daemon that runs nor one that starts, until the one that leads has stored again what serves."""
    await first.edit("old")
    earlier = await first.put_in_force()
    await first.edit("new")
    row = await first.put_in_force()
    await second.follow(row)
    for machine in (first, second):
        machine.files.follow(StoredState(meta={SERVED: earlier}))
        assert (machine.files.put_back, machine.files.stale) == (True, False)
        assert (await machine.files.stored_texts()).texts == {"environments/dev.yaml": "new"}
    started = Machine(second.directory, keyring, stored=earlier, alone=False)
    assert started.files.put_back
    with pytest.raises(SourceError, match="missing in the database"):
        await started.files.to_start_with()
    plan = Plan(State(), ChangeContext("files", "file"))
    first.files.plan_again(plan)
    assert plan.meta[SERVED].split(" ")[::2] == row.split(" ")[::2]
    for callback in plan.on_commit:
        callback()
    for machine, stale in [(second, False), (started, True)]:
        machine.files.follow(StoredState(meta=plan.meta))
        assert (await machine.files.stored_texts()).texts == {"environments/dev.yaml": "new"}
        assert machine.files.stale is stale
    assert not any(machine.files.put_back for machine in (first, second, started))


async def test_a_database_that_went_back_takes_its_files_with_it(first: Machine, keyring: Keyring):
    """After a failover or a restore: what is put in force then counts as later than anything before."""
    await first.edit("old")
    earlier = await first.put_in_force()
    await first.edit("new")
    await first.put_in_force()
    started = Machine(first.directory, keyring, stored=earlier, went_back=True)
    assert (await started.files.stored_texts()).texts == {"environments/dev.yaml": "old"}
    assert not started.files.put_back
    await started.edit("newer")
    await first.follow(await started.put_in_force())
    assert (await first.files.stored_texts()).texts == {"environments/dev.yaml": "newer"}


async def test_after_a_rotation_the_same_files_are_stored_anew(first: Machine, second: Machine, keyring: Keyring):
    """Sealed with the new key: whoever has the old one alone learns nothing, and it can be removed."""
    await first.edit("text")
    row = await first.put_in_force()
    assert await first.put_in_force_again() is None
    await second.follow(row)
    await second.edit("mine")
    keyring.replace_with(Keyring.ephemeral())
    again = await first.put_in_force_again()
    assert again is not None
    assert again.partition(" ")[0] == row.partition(" ")[0]
    assert key_ids(again.encode()) == {keyring.current}
    second.files.follow(StoredState(meta={SERVED: again}))
    assert (await second.files.stored_texts()).texts == {"environments/dev.yaml": "text"}
    # It composes from these already, and what was edited since still is an edit.
    assert (second.files.stale, second.files.edited) == (False, True)


async def test_what_does_not_open_at_a_start(first: Machine, keyring: Keyring):
    """With a key that was removed since, in a backup for example: a daemon that is alone has its files serve."""
    await first.edit("text")
    row = await first.put_in_force()
    keyring.replace_with(Keyring.ephemeral())
    for alone, found in [(True, "text"), (False, None)]:
        started = Machine(first.directory, keyring, stored=row, alone=alone)
        assert await started.starts_with() == found
        with pytest.raises(SourceError, match="does not open"):
            await started.files.stored_texts()


async def test_a_megabyte_of_files(first: Machine, second: Machine):
    """Is stored in a fraction of it."""
    lines = [f"  service_{number}: {{settings: {{name: service {number}, port: {number}}}}}" for number in range(20000)]
    text = "services:\n" + "\n".join(lines)
    assert len(text) > 1_000_000
    await first.edit(text)
    row = await first.put_in_force()
    assert len(row) < 300_000
    await second.follow(row)
    assert (await second.files.stored_texts()).texts["environments/dev.yaml"] == text


async def test_a_data_directory_that_cannot_be_written(first: Machine, second: Machine):
    """Only what it would remember is missing at the next start."""
    (first.directory / "files").mkdir()
    await first.edit("old")
    await second.follow(await first.put_in_force())
    assert not first.files.edited
