"""Whole daemons of one home on one PostgreSQL database whose machines do not all have the same files."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from commands import aliciacfg
from daemons import Daemon
from machine import wait_until
from postgres import Postgres
from replica_daemons import drift, health, listed, others, start_replicas, status, wait_for_leader
from soak import rarely

SERVICE = "sonos_service"
# Longer than an edit of all machines is waited for.
DRIFTED = 20.0


@pytest.fixture
def url(postgres: Postgres) -> str:
    return postgres.create()


@pytest.fixture
def make_replicas(make_daemon: Callable[..., Daemon], url: str) -> Callable[..., list[Daemon]]:
    """Start daemons of one home, which have the same keys and files."""

    def make(*names: str, environ: dict[str, dict[str, str]] | None = None) -> list[Daemon]:
        made = start_replicas(make_daemon, url, names, (SERVICE,), environ)
        wait_until(lambda: all(set(listed(daemon)) == set(names) for daemon in made), why="they know each other")
        return made

    return make


def edit(daemon: Daemon, volume: int | str) -> None:
    """Change a value in the daemon's files, at once as an editor does."""
    file = daemon.environments / "dev.yaml"
    edited = file.with_suffix(".new")
    value = f"services:\n  {SERVICE}:\n    settings:\n      max_volume_percent: {volume}\n"
    edited.write_text(file.read_text().partition("\nservices:\n")[0] + "\n" + value)
    edited.rename(file)


def volume(daemon: Daemon) -> int:
    return daemon.config(SERVICE)["config"]["settings"]["max_volume_percent"]


def serves(daemons: list[Daemon], expected: int) -> None:
    """Wait until all have a value, and each can change something else."""
    for daemon in daemons:
        wait_until(lambda daemon=daemon: volume(daemon) == expected, why=f"{daemon.directory.name} has {expected}")
    for limit, daemon in enumerate(daemons, start=10 + expected):
        body = {"limits": {"calls": limit}}
        answer = wait_until(
            lambda daemon=daemon, body=body: (
                (answer := daemon.http("PATCH", f"/config/{SERVICE}", body)).status != 503 and answer
            ),
            why="it can be changed",
        )
        assert answer.status == 200, (daemon.directory.name, answer.body)
        assert answer.json["config"]["settings"]["max_volume_percent"] == expected


def differing(daemon: Daemon) -> set[str]:
    """Who has other files, as a daemon lists it."""
    return {name for name, item in listed(daemon).items() if item.get("files_differ")}


def test_an_edit_comes_into_force_when_all_have_it(make_replicas: Callable[..., list[Daemon]]):
    """Until then it serves nobody, neither of the leader nor of one that follows, and drift names replica and file."""
    daemons = make_replicas("a", "b", "c")
    first = wait_for_leader(daemons)
    second, third = others(daemons, first)
    revision = first.config(SERVICE)["revision"]
    edit(first, 21)
    name = first.directory.name
    wait_until(lambda: all(differing(daemon) == {name} for daemon in daemons), why="they list who differs")
    for daemon in daemons:
        wait_until(lambda daemon=daemon: drift(daemon), seconds=DRIFTED, why="they tell of it")
        assert set(drift(daemon)) == {f"environments/dev.yaml on {name}"}
    assert health(first)["drift"] == 1
    assert first.config(SERVICE)["revision"] == revision
    edit(second, 21)
    wait_until(lambda: len(differing(first)) == 2)
    assert first.config(SERVICE)["revision"] == revision
    edit(third, 21)
    serves(daemons, 21)
    wait_until(lambda: not any(drift(daemon) for daemon in daemons), why="nothing differs any more")
    first.first_logged("files_loaded")
    assert [len(daemon.logged("files_loaded")) for daemon in daemons] == [int(daemon is first) for daemon in daemons]
    assert not any(differing(daemon) for daemon in daemons)


def test_a_reload_puts_the_files_of_one_machine_in_force(make_replicas: Callable[..., list[Daemon]]):
    """Also of one that follows. The others serve them although they have older ones, and go on when it is lost."""
    daemons = make_replicas("a", "b", "c")
    first = wait_for_leader(daemons)
    second, third = others(daemons, first)
    edit(second, 22)
    wait_until(lambda: differing(first) == {second.directory.name})
    refused = aliciacfg(first, "reload")
    assert (refused.returncode, second.directory.name in refused.stderr) == (4, True), refused.stderr
    answer = second.http("POST", "/reload", {})
    assert answer.status == 200, answer.body
    serves([first, third], 22)
    second.kill()
    left = [first, third]
    wait_until(lambda: listed(first)[second.directory.name]["state"] == "gone", why="it is missed")
    wait_until(lambda: set(drift(first)) == {f"environments/dev.yaml on {d.directory.name}" for d in left}, seconds=30)
    serves(left, 22)
    edit(first, 23)
    edit(third, 23)
    serves(left, 23)
    second.start()
    serves(daemons, 23)
    wait_until(lambda: set(drift(second)) == {f"environments/dev.yaml on {second.directory.name}"})


@pytest.mark.parametrize("kind", ["other", rarely("empty"), rarely("broken"), "missing"])
def test_a_daemon_that_starts_with_other_files_serves_what_serves(
    make_replicas: Callable[..., list[Daemon]], kind: str
):
    """It writes nothing of its own, and tells at once."""
    daemons = make_replicas("a", "b")
    first, second = daemons
    serves(daemons, 40)
    revision = second.config(SERVICE)["revision"]
    second.stop()
    expected = {"environments/dev.yaml on b"}
    match kind:
        case "other":
            edit(second, 24)
        case "broken":
            edit(second, "[")
        case "empty":
            for file in second.environments.iterdir():
                file.unlink()
        case _:
            shutil.rmtree(second.environments)
            second.environments.touch()
            expected = {"environments/ on b"}
    second.start()
    wait_until(lambda: expected <= set(drift(second)) and expected <= set(drift(first)), why="both tell")
    assert first.config(SERVICE)["revision"] == second.config(SERVICE)["revision"] == revision
    serves(daemons, 40)
    # Also if it leads.
    first.kill()
    wait_until(lambda: health(second)["replica"]["role"] == "leader")
    wait_until(lambda: listed(second)["a"]["state"] == "gone")
    if kind != "other":
        serves([second], 40)


def test_a_daemon_that_is_alone_takes_an_edit_over_as_before(make_replicas: Callable[..., list[Daemon]]):
    """While it runs, and at its start; a broken one is refused, and what served goes on to serve.

    A file whose name cannot be typed is ignored, with an alert until it is gone.
    """
    (daemon,) = make_replicas("a")
    serves([daemon], 40)
    ignored = Path(os.fsdecode(os.fsencode(daemon.environments) + b"/caf\xe9.yaml"))
    ignored.write_text("services: {}")
    wait_until(lambda: r"environments/caf\xe9.yaml" in health(daemon)["alerts"].get("validation_failed:ignored", ""))
    ignored.unlink()
    wait_until(lambda: not health(daemon)["alerts"], why="nothing is ignored any more")
    edit(daemon, 25)
    serves([daemon], 25)
    daemon.stop()
    edit(daemon, 26)
    daemon.start()
    assert volume(daemon) == 26
    daemon.kill()
    edit(daemon, 101)
    daemon.start()
    serves([daemon], 26)
    assert "validation_failed" in health(daemon)["alerts"]
    assert status(daemon, "/configs")[1]["refused_edits"]
    edit(daemon, 26)
    wait_until(lambda: not health(daemon)["alerts"], why="the files are in force again")
    edit(daemon, 27)
    serves([daemon], 27)


def test_variables_of_files_are_those_of_the_daemon_that_took_them_over(make_replicas: Callable[..., list[Daemon]]):
    """Another machine may have others, or none: it composes with those, and drift names the variable, not its value."""
    daemons = make_replicas("a", "b", environ={"a": {"VOLUME": "31"}, "b": {"VOLUME": "32"}})
    first, second = daemons
    wait_for_leader(daemons)
    for daemon in daemons:
        edit(daemon, "${VOLUME}")
    wait_until(lambda: len(differing(first)) == 2)
    assert first.http("POST", "/reload", {}).status == 200
    serves(daemons, 31)
    wait_until(lambda: set(drift(second)) == {"${VOLUME} on b"}, seconds=DRIFTED)
    # Not a part of an address or a time.
    assert not re.search(r"(?<![\d.])32(?!\d)", str(status(second, "/drift")))
    second.kill()
    second.start()
    serves(daemons, 31)


def test_the_leader_is_killed_while_an_edit_reaches_all(make_replicas: Callable[..., list[Daemon]]):
    """Another one takes the edit over, once; nobody composes from half of it."""
    daemons = make_replicas("a", "b", "c")
    first = wait_for_leader(daemons)
    for daemon in daemons:
        edit(daemon, 33)
    first.kill()
    left = others(daemons, first)
    serves(left, 33)
    first.start()
    serves(daemons, 33)
    assert drift(first) == {}


def same_files(row: str, other: str) -> bool:
    """Whether two rows hold the same, whatever their generation."""
    return row.split(" ")[::2] == other.split(" ")[::2]


def test_what_serves_is_stored_again_if_somebody_changed_it(
    make_replicas: Callable[..., list[Daemon]], postgres: Postgres, url: str
):
    """A daemon that starts meanwhile does not put its own files in force instead."""
    daemons = make_replicas("a", "b")
    first, second = daemons
    serves(daemons, 40)
    assert wait_for_leader(daemons) is first
    second.stop()
    edit(second, 34)
    stored = "SELECT value FROM aliciacfg.meta WHERE name = 'served_files'"
    ((before,),) = postgres.execute(stored, url=url)
    assert "max_volume_percent" not in before
    tampered = before[:-8] + ("AAAAAAAA" if before[-8:] != "AAAAAAAA" else "BBBBBBBB")
    postgres.execute(f"UPDATE aliciacfg.meta SET value = '{tampered}' WHERE name = 'served_files'", url=url)
    second.start()
    serves(daemons, 40)
    wait_until(lambda: same_files(postgres.execute(stored, url=url)[0][0], before), why="it is stored again")
    wait_until(lambda: set(drift(second)) == {"environments/dev.yaml on b"}, why="only its files differ")
    assert aliciacfg(first, "replicas").returncode == 0


def test_earlier_files_that_somebody_puts_back_serve_nobody(
    make_replicas: Callable[..., list[Daemon]], postgres: Postgres, url: str
):
    """Their row is one that a daemon wrote, so only its generation shows it; what serves is stored again."""
    daemons = make_replicas("a", "b")
    wait_for_leader(daemons)
    stored = "SELECT value, encode(mac, 'hex') FROM aliciacfg.meta WHERE name = 'served_files'"
    ((value, mac),) = postgres.execute(stored, url=url)
    for daemon in daemons:
        edit(daemon, 35)
    serves(daemons, 35)
    ((later, _),) = postgres.execute(stored, url=url)
    assert not same_files(later, value)
    postgres.execute(
        f"UPDATE aliciacfg.meta SET value = '{value}', mac = decode('{mac}', 'hex'),"
        " commit = (SELECT commit + 1 FROM aliciacfg.home) WHERE name = 'served_files'",
        "UPDATE aliciacfg.home SET commit = commit + 1",
        url=url,
    )
    wait_until(lambda: all(daemon.logged("served_files_put_back") for daemon in daemons), why="they notice it")
    wait_until(lambda: same_files(postgres.execute(stored, url=url)[0][0], later), why="it is stored again")
    serves(daemons, 35)
