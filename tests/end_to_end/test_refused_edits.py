"""An edit by a command that the running daemon does not take: each command says it."""

import json

from commands import aliciacfg
from daemons import Daemon
from machine import wait_until

# The services of its daemons.
HOME_SERVICES = ("voice_router",)

_PLACE = "/services/voice_router/settings/max_sessions"


def test_file_set_says_that_the_daemon_does_not_take_an_edit(daemon: Daemon):
    """Because of what is wrong elsewhere: it is written, and counts when that is put right."""
    dev, base = daemon.environments / "dev.yaml", "environments/base.yaml"
    before = dev.read_text()
    dev.write_text(f"{before}\n  bad: [1\n")
    done = aliciacfg(daemon, "file", "set", base, _PLACE, "7")
    assert done.returncode == 4
    assert f"note: {base} is written, but the running daemon does not take it" in done.stderr
    assert "environments/dev.yaml" in done.stderr
    meant = aliciacfg(daemon, "file", "set", base, _PLACE, "8", "--force")
    assert (meant.returncode, "does not take it" in meant.stderr) == (0, True)
    added = aliciacfg(daemon, "service", "add", "lamp", "--setting", "watts=5")
    assert (added.returncode, "environments/dev.yaml" in added.stderr) == (4, True)
    dev.write_text(before)

    def sessions() -> int:
        return json.loads(aliciacfg(daemon, "get", "voice_router").stdout)["settings"]["max_sessions"]

    wait_until(lambda: sessions() == 8, why="the edit counts")
    assert aliciacfg(daemon, "file", "set", base, _PLACE, "9").returncode == 0
    assert sessions() == 9
