"""The highest position that this daemon has seen, and the witness file that keeps it for the next start."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from aliciacfg.model.records import START, Position
from aliciacfg.storage.witness import Witness

_NOTED_SECONDS = 0.02


class Reached:
    """Remembers the highest position, and writes it to the witness file in a thread, soon after it rose.

    Attributes:
        position: The highest position seen.
    """

    def __init__(self, witness: Witness) -> None:
        self.position = START
        self._witness = witness
        # Writes the file, so that an older position never replaces a newer one.
        self._writer = ThreadPoolExecutor(1, "witness")
        # The position that the file is to have soon.
        self._waiting: Position | None = None
        self._timer: asyncio.TimerHandle | None = None

    def raise_to(self, position: Position) -> None:
        """Remember a position without writing it to the file."""
        self.position = max(position, self.position)

    def note_soon(self, position: Position) -> None:
        """Remember a position, and write the highest one to the file within milliseconds."""
        self.raise_to(position)
        self._waiting = self.position
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_NOTED_SECONDS, self.note)

    def note_lost(self, stored: Position) -> None:
        """Have the next start find that the database lacks transactions.

        Args:
            stored: The position in the database. The file gets a higher one, also where other daemons wrote new
                transactions in place of the lost ones.
        """
        epoch, sequence = max(stored.epoch, self.position.epoch), max(stored.sequence, self.position.sequence)
        self.position = self._waiting = Position(epoch, sequence + 1)
        self.note()

    def note(self) -> None:
        """Have the position written to the file now, if it is not there yet."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting is not None:
            self._writer.submit(self._witness.write, self._waiting)
            self._waiting = None

    async def read(self) -> Position | None:
        """Return the position in the file."""
        self.note()
        # Behind what was submitted.
        return await asyncio.get_running_loop().run_in_executor(self._writer, self._witness.read)

    async def close(self) -> None:
        """Write what is left, and end the thread."""
        self.note()
        # Behind what was submitted.
        await asyncio.wrap_future(self._writer.submit(self._writer.shutdown, wait=False))
