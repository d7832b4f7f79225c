"""The Keep Alive of a connection of MQTT 5 (§3.1.2.10)."""

import asyncio
import time
from collections.abc import Callable

from aliciacfg.mqtt import mqtt5_packets
from aliciacfg.mqtt.mqtt5_output import Output

# How often in the time of the Keep Alive it is looked whether anything was sent: at most two such pauses are silent.
_LOOKS = 3


class KeepAlive:
    """Sends a PINGREQ where nothing else is sent, and notices that none is answered."""

    def __init__(
        self,
        seconds: float,
        output: Output,
        *,
        last_received: Callable[[], float],
        on_silence: Callable[[], None],
        silence_seconds: float = 0.0,
    ) -> None:
        """Begin.

        Args:
            seconds: The Keep Alive.
            output: Where a PINGREQ goes.
            last_received: When anything was received, on the monotonic clock.
            on_silence: Called when a PINGREQ was not answered within the Keep Alive.
            silence_seconds: How long an answer may take at least, if the Keep Alive is shorter.
        """
        self._seconds = seconds
        self._silence_seconds = max(seconds, silence_seconds)
        self._output = output
        self._last_received = last_received
        self._on_silence = on_silence
        self._pinged_at: float | None = None
        self._timer = self._look_later()

    def stop(self) -> None:
        """Stop checking."""
        self._timer.cancel()

    def _look_later(self) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(self._seconds / _LOOKS, self._look)

    def _look(self) -> None:
        now = time.monotonic()
        if self._pinged_at is not None and self._last_received() > self._pinged_at:
            self._pinged_at = None
        if self._pinged_at is not None and now - self._pinged_at >= self._silence_seconds:
            self._on_silence()
            return
        if not self._output.was_busy:
            self._pinged_at = self._pinged_at or now
            self._output.send(mqtt5_packets.PINGREQ)
        self._output.was_busy = False
        self._timer = self._look_later()
