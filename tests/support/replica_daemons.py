"""Whole daemons of one home on one PostgreSQL database: how each is, and which one leads."""

import shutil
from collections.abc import Callable
from typing import Any

from aliciacfg.sealing.key_encryption import FILE_NAME
from daemons import Daemon
from machine import wait_until


def start_replicas(
    make_daemon: Callable[..., Daemon],
    url: str,
    names: tuple[str, ...],
    services: tuple[str, ...],
    environ: dict[str, dict[str, str]] | None = None,
) -> list[Daemon]:
    """Start daemons of one home, which have the same keys and files; ``environ`` has settings of each by its name."""
    made: list[Daemon] = []
    for name in names:
        own = {"ALICIACFG_DATABASE_URL": url, "ALICIACFG_REPLICA": name, **(environ or {}).get(name, {})}
        daemon = make_daemon(name, environ=own).keep_services(*services)
        if made:
            daemon.data.mkdir(mode=0o700)
            shutil.copy(made[0].data / FILE_NAME, daemon.data / FILE_NAME)
            daemon.spawn()
        else:
            daemon.start()
        made.append(daemon)
    for daemon in made[1:]:
        daemon.wait_ready()
    return made


def status(daemon: Daemon, path: str) -> tuple[int, dict[str, Any]]:
    """What a path answers."""
    answer = daemon.http("GET", path)
    return answer.status, answer.json


def health(daemon: Daemon) -> dict[str, Any]:
    return status(daemon, "/health")[1]


def role(daemon: Daemon) -> str:
    return health(daemon)["replica"]["role"]


def leader(daemons: list[Daemon]) -> Daemon | None:
    found = [daemon for daemon in daemons if role(daemon) == "leader"]
    assert len(found) < 2, [health(daemon)["replica"] for daemon in daemons]
    return found[0] if found else None


def others(daemons: list[Daemon], daemon: Daemon) -> list[Daemon]:
    return [other for other in daemons if other is not daemon]


def wait_for_leader(daemons: list[Daemon]) -> Daemon:
    found = wait_until(lambda: leader(daemons), why="one of them leads")
    assert isinstance(found, Daemon)
    return found


def listed(daemon: Daemon) -> dict[str, dict[str, Any]]:
    """What the daemon answers of all, by name."""
    code, answer = status(daemon, "/replicas")
    assert code == 200, answer
    return {item["name"]: item for item in answer["replicas"]}


def drift(daemon: Daemon) -> dict[str, str]:
    """What differs from the files that serve, as a daemon tells it: message by subject."""
    found = status(daemon, "/drift")[1]["drift"]
    return {item["subject"]: item["message"] for item in found if item["kind"] == "file"}
