"""The ``doctor`` command: looks for what is wrong, with the daemon running and not, and says what to do."""

import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from aliciacfg.cli import options, output, requests
from aliciacfg.cli.exits import EXIT_FAILED, exit_on_error
from aliciacfg.cli.local_client import ask_daemon
from aliciacfg.cli.loop import run
from aliciacfg.cli.requests import Target
from aliciacfg.errors import SettingsError

if TYPE_CHECKING:
    from aliciacfg.api.answers.health import HealthAnswer
    from aliciacfg.cli.output import Line
    from aliciacfg.diagnosis.finding import Finding
    from aliciacfg.settings import Resolved, Settings

_STYLES = {"ok": "green", "warn": "bold yellow", "fail": "bold red"}
_ABOUT_WIDTH = 10


@click.command()
@options.settings("data_dir", "environments_dir", "schemas_dir")
@click.option("-v", "--verbose", is_flag=True, help="Show what is well, too, with -o table.")
@click.pass_obj
def doctor(target: Target, *, verbose: bool, **flags: str | None) -> None:
    """Look for what is wrong, and say what to do.

    Broker and credentials, the daemon and its alerts, access rules, keys, database, files, ports, disk and clock; with
    the daemon running and not. Run it in the home, as the daemon's user, with the daemon's environment variables.
    Changes nothing, and prints no secret. Exit code 1 if something does not work.

    Examples:
        aliciacfg doctor
        aliciacfg doctor -o json
    """
    from aliciacfg.diagnosis.finding import fails

    resolved = options.daemon_settings(flags)
    with exit_on_error():
        found = list(_findings(target, resolved))
    output.print_result(
        msgspec.to_builtins(found),
        lambda: _lines(found, verbose=verbose),
        names=lambda: [finding.about for finding in found if finding.level != "ok"],
    )
    if fails(found):
        sys.exit(EXIT_FAILED)


def _findings(target: Target, resolved: "Resolved") -> "Iterator[Finding]":
    from aliciacfg.diagnosis import data, files, open_secrets, ports, running
    from aliciacfg.diagnosis.finding import fail, ok, warn
    from aliciacfg.storage.data_directory import is_in_use

    settings = resolved.settings
    directory = Path(settings.data_dir)
    health = _health_of(settings)
    answered = time.time()
    yield from _broker_findings(target, health, settings.data_dir)
    if health is not None:
        yield from running.look_at_health(health, now=answered)
        yield running.look_at_access(health, dev=requests.dev_port(resolved) is not None)
    elif is_in_use(directory):
        remedy = "wait if it is starting or stopping; see its log (`journalctl -u aliciacfg`)"
        yield fail("daemon", f"a process holds {directory}, but no daemon answers there", remedy)
    else:
        remedy = "start it: `aliciacfg serve --dev` on this machine alone, else `aliciacfg serve` or systemd"
        yield warn("daemon", f"none runs in {directory}", remedy)
        yield ports.look_at_http_port(settings.http_host, settings.http_port)
    if health is not None and target.http is None:
        yield ok("HTTP", "the daemon that runs holds its port")
    yield from data.look_at_data(directory, settings)
    yield from files.look_at_files(settings, settings.environment if health is None else health.environment)
    yield from open_secrets.look_at_secrets(settings)


def _health_of(settings: "Settings") -> "HealthAnswer | None":
    from aliciacfg.api.answers.health import HealthAnswer

    answer = ask_daemon(settings, "health", None, {})
    try:
        return None if answer is None else msgspec.convert(answer, HealthAnswer)
    except msgspec.ValidationError:
        return None


def _broker_findings(target: Target, health: "HealthAnswer | None", data_dir: str) -> "Iterator[Finding]":
    """Yield what is wrong with the broker, and with another daemon on it."""
    from aliciacfg.api.answers.health import HealthAnswer
    from aliciacfg.diagnosis.broker import look_at_broker
    from aliciacfg.diagnosis.finding import fail, warn

    try:
        address = requests.broker(target)
    except SettingsError as error:
        yield fail("broker", str(error), "correct the setting")
        return
    if target.broker is None and (problem := requests.other_port(options.daemon_settings({"data_dir": data_dir}))):
        yield warn(
            "broker", f"{problem}; programs beside it follow MQTT_PORT", "remove MQTT_PORT, or set it to that port"
        )
    found = run(look_at_broker(address))
    yield found
    if found.level != "ok":
        return
    # The broker is named: the findings say what is wrong with another one.
    named = replace(target, broker=target.broker or f"{address.host}:{address.port}")
    other = requests.try_ask(named, "health", None, {}, HealthAnswer)
    if other is not None and health is not None and other.instance != health.instance:
        yield warn(
            "broker",
            f"another daemon (instance {other.instance}) serves configurations on it",
            "stop one of them, or give each a broker of its own",
        )
    elif other is not None and health is None:
        yield warn(
            "broker",
            f"a daemon (instance {other.instance}) of another data directory serves configurations on it",
            "to look at it, run doctor in its home",
        )


def _lines(found: "list[Finding]", *, verbose: bool) -> "Iterator[Line]":
    for finding in found:
        if finding.level == "ok" and not verbose and not _is_short(found):
            continue
        first, *further = _folded(finding.message, _ABOUT_WIDTH + 7)
        yield [(f"{finding.level:<4}  ", _STYLES[finding.level]), f"{finding.about:<{_ABOUT_WIDTH}} {first}"]
        yield from further
        if finding.remedy:
            first, *further = _folded(finding.remedy, _ABOUT_WIDTH + 9)
            yield [" " * (_ABOUT_WIDTH + 7), ("→ ", "dim"), first]
            yield from further
    levels = [finding.level for finding in found]
    failed, warned = levels.count("fail"), levels.count("warn")
    if failed or warned:
        yield f"{_count(failed, 'failure')}, {_count(warned, 'warning')}, {levels.count('ok')} ok"
    else:
        yield [("all is well", "bold green"), f": {len(levels)} looked at"]


def _folded(text: str, indent: int) -> list[str]:
    """Return the lines of a text beside a margin, which those behind the first have; without a terminal it is one."""
    room = max(output.width() - indent, _NARROWEST)
    lines = textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False)
    return [line if number == 0 else " " * indent + line for number, line in enumerate(lines or [text])]


def _is_short(found: "list[Finding]") -> bool:
    """Return whether everything fits on one screen."""
    return sum(1 + bool(finding.remedy) for finding in found) <= _SCREEN


_SCREEN = 22
_NARROWEST = 30


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
