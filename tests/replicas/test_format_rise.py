"""When the format of the database rises, by what the daemons report."""

import pytest

from aliciacfg.errors import OtherFormat, Unavailable
from aliciacfg.model.records import AuditEntry, Replica
from aliciacfg.replicas.format_rise import SETTLED_SECONDS, FormatRise


class Home:
    """A database with reports, and the clock of the daemon that looks at it."""

    def __init__(self) -> None:
        self.home_format = 1
        self.live: list[Replica] = []
        self.leads = True
        self.now = 100.0
        self.raised: list[int] = []
        self.error: Exception | None = None
        self.rise = FormatRise(
            self,  # pyright: ignore[reportArgumentType]
            self,  # pyright: ignore[reportArgumentType]
            leading=lambda: self.leads,
            clock=lambda: self.now,
            unix_clock=lambda: 1.0,
        )

    def reported(self, **formats: int) -> None:
        self.live = [
            Replica(replica=name, name=name, version=f"{known}.0", url="", started=1.0, format=known, files="")
            for name, known in formats.items()
        ]

    async def raise_format(self, to: int, audit: AuditEntry) -> bool:
        if self.error is not None:
            raise self.error
        assert audit.detail == f"format {to} instead of {self.home_format}: all daemons work with it"
        self.raised.append(to)
        self.home_format = to
        return True

    async def look(self, *, after: float = 0.0) -> list[int]:
        self.now += after
        await self.rise.look()
        return self.raised


@pytest.fixture
def home() -> Home:
    return Home()


async def test_it_rises_when_all_have_known_it_for_a_while(home: Home):
    """Not as long as one does not, nor right after that."""
    home.reported(a=1, b=2)
    assert await home.look() == await home.look(after=100) == []
    assert home.rise.waits == "it rises to 2 when these run a version that works with it, or have ended: a (1.0)"
    home.reported(a=2, b=2)
    assert await home.look() == await home.look(after=SETTLED_SECONDS - 1) == []
    assert home.rise.waits == "it rises to 2 within 10 s, unless a daemon of an older version starts"
    assert await home.look(after=1) == [2]
    assert home.rise.waits is None
    assert await home.look(after=100) == [2]


async def test_who_comes_back_in_time_holds_it_up(home: Home):
    """One that hung for a moment, or was started again."""
    home.reported(b=2)
    await home.look()
    home.reported(a=1, b=2)
    assert await home.look(after=SETTLED_SECONDS) == []
    home.reported(b=2)
    assert await home.look(after=1) == await home.look(after=SETTLED_SECONDS - 1) == []
    assert await home.look(after=1) == [2]


async def test_it_rises_to_what_the_oldest_knows(home: Home):
    """And later to the next one."""
    home.reported(a=2, b=3)
    await home.look()
    assert await home.look(after=SETTLED_SECONDS) == [2]
    assert home.rise.waits == "it rises to 3 when these run a version that works with it, or have ended: a (2.0)"


async def test_only_the_leader_raises_it(home: Home):
    """Whoever takes over does at once what is due."""
    home.leads = False
    home.reported(a=2)
    assert await home.look() == await home.look(after=SETTLED_SECONDS) == []
    home.leads = True
    assert await home.look() == [2]


async def test_a_database_that_cannot_be_changed_is_tried_again_later(home: Home):
    """Ten seconds later; an error that only another version can mend ends the daemon."""
    home.reported(a=2)
    await home.look()
    home.error = Unavailable("The database is busy.")
    assert await home.look(after=SETTLED_SECONDS) == []
    home.error = None
    assert await home.look(after=9) == []
    assert await home.look(after=1) == [2]
    home.reported(a=3)
    await home.look()
    home.error = OtherFormat("Too old.")
    with pytest.raises(OtherFormat):
        await home.look(after=SETTLED_SECONDS)
