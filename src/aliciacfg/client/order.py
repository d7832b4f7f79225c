"""Which messages count: the order of ``(epoch, sequence)``, and when the daemon has to be asked.

A message counts exactly if its ``(epoch, sequence)`` is higher than the one that is held, for any environment or
revision. In three cases the daemon is asked (``get``), and its answer counts with any numbers:

- The retained message is empty, or gone. The daemon clears it when it deletes a configuration, and before it publishes
  lower numbers than a forged message had; but a broker may also have lost it, and another program may have cleared it.
- What is held comes from a snapshot, and the broker has an older message. The broker may have been set back; or the
  home was built anew, and its numbers begin at 1 again.

An answer counts only if the question was sent behind the cause: one that was under way may be older.
"""

from typing import Literal, TypeAlias

Numbers: TypeAlias = tuple[int, int]
"""Epoch and sequence."""

Verdict = Literal["newer", "same", "older"]


class Order:
    """What is held, and whether it is in doubt.

    Attributes:
        held: The numbers of the message that counts; None if there is none.
        cause: Counts the causes to ask the daemon.
        in_doubt: Whether the daemon's answer counts with any numbers.
    """

    def __init__(self) -> None:
        self.held: Numbers | None = None
        self.cause = 0
        self.in_doubt = False
        self._unconfirmed = False

    def start_from(self, numbers: Numbers) -> None:
        """Hold the numbers of a snapshot."""
        self.held = numbers
        self._unconfirmed = True

    def doubt(self) -> None:
        """Note that the retained message is empty or gone."""
        self.cause += 1
        self.in_doubt = True

    def judge(self, numbers: Numbers) -> Verdict:
        """Return what a message on the bus is, and hold its numbers if it is newer."""
        if self.held is None or numbers > self.held:
            return self._hold(numbers, "newer")
        if numbers == self.held:
            return self._hold(numbers, "same")
        if self._unconfirmed:
            self.doubt()
        return "older"

    def judge_answer(self, numbers: Numbers, cause: int) -> Verdict:
        """Return what an answer of the daemon is, and hold its numbers if it counts.

        Args:
            numbers: Those of the answer.
            cause: ``cause`` when the question was sent.
        """
        if self.in_doubt and cause == self.cause:
            return self._hold(numbers, "same" if numbers == self.held else "newer")
        return self.judge(numbers)

    def judge_absence(self, cause: int) -> bool:
        """Return whether the answer that there is no configuration counts; hold nothing if it does.

        Args:
            cause: ``cause`` when the question was sent.
        """
        if self.held is not None and not (self.in_doubt and cause == self.cause):
            return False
        self.held = None
        self.in_doubt = self._unconfirmed = False
        return True

    def _hold(self, numbers: Numbers, verdict: Verdict) -> Verdict:
        self.held = numbers
        self.in_doubt = self._unconfirmed = False
        return verdict
