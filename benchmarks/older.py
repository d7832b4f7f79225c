"""The daemon as it is where the broker speaks MQTT 3.1.1 only: it asks for no newer version."""

import runpy
import sys

from aliciacfg.mqtt import connecting
from aliciacfg.mqtt.messages import Protocol


async def find_protocol(_dialer: object) -> tuple[Protocol, bool]:
    return "3.1.1", True


if __name__ == "__main__":
    connecting.Dialer.find_protocol = find_protocol
    sys.argv = ["aliciacfg", "serve"]
    runpy.run_module("aliciacfg", run_name="__main__", alter_sys=True)
