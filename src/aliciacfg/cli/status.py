"""The commands that show how the daemon is: ``status`` on one screen, ``health`` for scripts."""

import sys
import textwrap
import time
from collections.abc import Iterable, Iterator

import click
import msgspec
from msgspec import UNSET, UnsetType

from aliciacfg.api.answers.administration import AuditAnswer
from aliciacfg.api.answers.configurations import ListAnswer, ListItem
from aliciacfg.api.answers.environments import EnvironmentItem, EnvironmentsAnswer
from aliciacfg.api.answers.health import HealthAnswer
from aliciacfg.api.answers.monitoring import DriftAnswer
from aliciacfg.cli import formatting, options, output, requests
from aliciacfg.cli.answers import exit_if_refused, parse
from aliciacfg.cli.daemon_reads import DaemonReads
from aliciacfg.cli.exits import EXIT_FAILED, EXIT_NO_ANSWER, exit_on_error, fail
from aliciacfg.cli.output import Line
from aliciacfg.cli.refused_edits import edit_lines
from aliciacfg.cli.requests import Target
from aliciacfg.counted import counted
from aliciacfg.documents import JsonObject
from aliciacfg.errors import BrokerUnavailable

_LABEL_WIDTH = 15
# Columns of a terminal below which what counts would be cut.
_NARROW = 60
_INDENT = "  "
_STYLES = {"healthy": "bold green", "degraded": "bold yellow", "unhealthy": "bold red"}
# What fits on one screen of 24 lines with all else, unless much is wrong.
_MAX_LISTED = 3
# The lines of one alert or edit.
_MAX_FOLDED = 5
_MAX_CHANGES = 4
# The alert that says of a refused edit what its line says.
_OF_EDITS = "validation_failed"
_PAGE = 1000
_AUDITED = 100


class Activated(msgspec.Struct):
    """The last time that an environment was made the active one."""

    environment: str
    who: str
    timestamp: float


class Status(msgspec.Struct, omit_defaults=True):
    """What ``status`` prints for programs; what the caller may not read is missing."""

    health: HealthAnswer
    environments: EnvironmentsAnswer | UnsetType = UNSET
    drift: DriftAnswer | UnsetType = UNSET
    changes: list[ListItem] | UnsetType = UNSET
    authors: dict[str, str] = {}
    activated: Activated | UnsetType = UNSET


@click.command()
@options.data_dir
@click.pass_obj
def status(target: Target, data_dir: str | None) -> None:
    """Show how the daemon is, on one screen.

    Version, broker, environments, edits of files that are not in force, alerts, drift, the messages that wait, and the
    last changes. Asks the daemon of the data directory, else the one on the broker; --http and --broker name another.

    Examples:
        aliciacfg status
        aliciacfg status -o json
    """
    found = _status(target, _reads(target, data_dir))
    output.print_result(msgspec.to_builtins(found), lambda: _status_lines(found, time.time()))


@click.command()
@options.data_dir
@click.pass_obj
def health(target: Target, data_dir: str | None) -> None:
    """Say whether the daemon is healthy.

    Exit code 0 if it is, 1 if it is degraded or unhealthy, 7 if there is no answer.

    Examples:
        aliciacfg health
        aliciacfg health -o yaml
    """
    reads = _reads(target, data_dir)
    answer = _ask_health(target, reads)
    found = parse(answer, HealthAnswer)
    output.print_result(answer, lambda: _health_lines(found), names=lambda: [found.status])
    if found.status != "healthy":
        sys.exit(EXIT_FAILED)


def _reads(target: Target, data_dir: str | None) -> DaemonReads:
    with exit_on_error():
        return DaemonReads.nearest(target, data_dir)


def _ask_health(target: Target, reads: DaemonReads) -> JsonObject:
    """Return the answer to ``health``; end the program if there is none."""
    with exit_on_error():
        try:
            answer = reads.ask("health", None, {})
        except BrokerUnavailable as error:
            fail(str(error), EXIT_NO_ANSWER, hint=requests.without_answer(target))
    # The status in it is the daemon's, not that of a refusal.
    return exit_if_refused(answer) if answer.get("status") == "error" else answer


def _status(target: Target, reads: DaemonReads) -> Status:
    found = Status(parse(_ask_health(target, reads), HealthAnswer))
    if environments := reads.try_ask("environments", None, {}, EnvironmentsAnswer):
        found.environments = environments
    if drift := reads.try_ask("drift", None, {}, DriftAnswer):
        found.drift = drift
    if listed := reads.try_ask("list", None, {"limit": _PAGE}, ListAnswer):
        newest = sorted(listed.configs, key=lambda item: item.last_updated, reverse=True)
        found.changes = newest[:_MAX_CHANGES]
        entries = reads.try_ask("audit", None, {"limit": _AUDITED}, AuditAnswer)
        if entries is not None:
            found.authors = _authors(entries, found.changes)
            found.activated = _activated(entries)
    return found


def _activated(entries: AuditAnswer) -> Activated | UnsetType:
    done = (entry for entry in entries.entries if entry.operation == "activate" and entry.outcome == "done")
    last = next((entry for entry in done if entry.environment is not None), None)
    return UNSET if last is None else Activated(last.environment or "", last.who, last.timestamp)


def _authors(entries: AuditAnswer, changes: list[ListItem]) -> dict[str, str]:
    """Return who made the last changes, by service, as far as the audit log goes back."""
    known = {(entry.service, entry.environment, entry.after): entry for entry in entries.entries if entry.after}
    found = ((item.service, known.get((item.service, item.environment, item.revision))) for item in changes)
    return {service: f"{entry.operation} by {entry.who}" for service, entry in found if entry is not None}


def _health_lines(found: HealthAnswer) -> Iterator[Line]:
    broker = "broker connected" if found.mqtt_connected else "no broker"
    managed = counted(found.configs_managed, "configuration")
    yield [
        (found.status, _STYLES[found.status]),
        f": {managed} of {found.environment}, {broker}, up {_span(found.uptime)}",
    ]
    yield from _problem_lines(found)


def _problem_lines(found: HealthAnswer) -> Iterator[Line]:
    """Yield a line for each active alert and each edit that is not in force."""
    yield from ([("  not in force: ", "yellow"), line] for line in edit_lines(found.refused_edits))
    yield from ([(f"  {kind}: ", "yellow"), message] for kind, message in found.alerts.items())


def _status_lines(found: Status, now: float) -> Iterator[Line]:
    health = found.health
    yield from _labelled(
        "Config service", [(health.status, _STYLES[health.status])],
        f"  {health.version}, up {_span(health.uptime)}, instance {health.instance}",
    )  # fmt: skip
    broker: tuple[str, str] = ("connected", "green") if health.mqtt_connected else ("not connected", "bold red")
    pending = health.outbox_pending
    waiting = f"  {pending} {'message waits' if pending == 1 else 'messages wait'}" if pending else "  nothing waits"
    yield from _labelled("Broker", [broker], waiting)
    yield from _labelled("Environment", [(health.environment, "bold")], _others(found.environments))
    yield from _replica_lines(health)
    online = f", {health.services_online} online" if health.services_online else ""
    yield from _labelled("Services", [f"{health.configs_managed} configured{online}"])
    yield from _environment_lines(found.environments)
    edits = found.environments.refused_edits if isinstance(found.environments, EnvironmentsAnswer) else []
    edits = edits or health.refused_edits
    yield from _listed("Refused edits", list(edit_lines(edits)), "red")
    shown = {kind: text for kind, text in health.alerts.items() if not (edits and kind.startswith(_OF_EDITS))}
    yield from _listed("Alerts", [f"{kind}: {text}" for kind, text in shown.items()], "yellow")
    yield from _drift_lines(found)
    yield from _change_lines(found, now)


def _replica_lines(health: HealthAnswer) -> Iterator[Line]:
    """Yield a line about the daemons that serve the home, if there can be several."""
    if isinstance(health.replica, UnsetType):
        return
    wrong = [f"{item.name} {item.state.replace('_', ' ')}" for item in health.replicas if item.state != "ready"]
    leads = f"{health.replica.leader} leads" if health.replica.leader is not None else "none leads"
    parts: list[Line] = [[(leads, "" if health.replica.leader is not None else "bold red")]]
    if wrong:
        parts.append([("; ", ""), (formatting.some_of(wrong, _MAX_LISTED), "yellow")])
    yield from _labelled("Daemons", f"{len(health.replicas)}, ", *parts)


def _labelled(label: str, *parts: Line) -> Iterator[Line]:
    """Yield a line with a label in front; it is cut at the width of the terminal, or folded on a narrow one."""
    if output.width() < _NARROW:
        yield from _below(label, *parts)
        return
    line: list[str | tuple[str, str]] = [(f"{label:<{_LABEL_WIDTH}} ", "dim")]
    room = max(output.width() - _LABEL_WIDTH - 1, 20)
    for text, style in _pieces(parts):
        shown = text if len(text) <= room else f"{text[: max(room - 1, 0)]}…"
        room -= len(shown)
        if shown.strip("…") or text == "…":
            line.append((shown, style))
    yield line


def _below(label: str, *parts: Line) -> Iterator[Line]:
    """Yield a label and below it, each on lines of its own, what would be cut beside it."""
    if label:
        yield [(label, "dim")]
    for text, style in _pieces(parts):
        for folded in textwrap.wrap(" ".join(text.split()), output.width() - 1 - len(_INDENT)):
            yield [_INDENT, (folded, style)]


def _pieces(parts: Iterable[Line]) -> Iterator[tuple[str, str]]:
    """Yield the texts of lines with their styles."""
    for part in (piece for found in parts for piece in ([found] if isinstance(found, str) else found)):
        yield (part, "") if isinstance(part, str) else part


def _folded(label: str, text: str, style: str) -> Iterator[Line]:
    """Yield the lines of a text of which every word counts, such as an alert; beyond a few it is cut."""
    if output.width() < _NARROW:
        yield from _below(label, [(text, style)])
        return
    width = output.width() - _LABEL_WIDTH - 1
    for number, line in enumerate(textwrap.wrap(text, width, max_lines=_MAX_FOLDED, placeholder=" …")):
        yield from _labelled("" if number else label, [(line, style)])


def _listed(label: str, lines: list[str], style: str) -> Iterator[Line]:
    """Yield the first of some lines under a label, with how many more there are; ``none`` if there are none."""
    if not lines:
        yield from _labelled(label, [("none", "green")])
    for number, text in enumerate(lines[:_MAX_LISTED]):
        yield from _folded("" if number else label, text, style)
    if len(lines) > _MAX_LISTED:
        yield from _labelled("", f"and {len(lines) - _MAX_LISTED} more; all of them: aliciacfg health")


def _others(answer: EnvironmentsAnswer | UnsetType) -> str:
    if isinstance(answer, UnsetType):
        return ""
    others = [item.name for item in answer.environments if item.name != answer.active]
    return f"  beside {formatting.some_of(others, 5)}" if others else ""


def _environment_lines(answer: EnvironmentsAnswer | UnsetType) -> Iterator[Line]:
    """Yield a line for each other environment that is not valid, and for what overlays hide."""
    if isinstance(answer, UnsetType):
        return
    invalid = [item for item in answer.environments if item.problems and item.name != answer.active]
    for item in invalid[:_MAX_LISTED]:
        yield from _labelled("", [(f"{item.name} not valid yet", "yellow")], f": {_what_to_do(item)}")
    hidden = [(item.name, problem.message) for item in answer.environments for problem in item.hidden]
    for name, message in hidden[:1]:
        yield from _folded("", f"{name}: {message}", "yellow")


def _what_to_do(item: EnvironmentItem) -> str:
    return item.remedies[0] if item.remedies else f"aliciacfg check -e {item.name}"


def _drift_lines(found: Status) -> Iterator[Line]:
    if isinstance(found.drift, DriftAnswer):
        yield from _listed("Drift", [f"{item.kind} {item.subject}" for item in found.drift.drift], "yellow")
    else:
        yield from _labelled("Drift", str(found.health.drift) if found.health.drift else [("none", "green")])


def _change_lines(found: Status, now: float) -> Iterator[Line]:
    if isinstance(found.changes, UnsetType):
        return
    changes = [
        (item.last_updated, f"{item.service} revision {item.revision}  {found.authors.get(item.service, '')}")
        for item in found.changes
    ]
    if isinstance(found.activated, Activated):
        # An activation may leave the revisions of its environment as they are.
        changes.append((found.activated.timestamp, f"{found.activated.environment} activated by {found.activated.who}"))
    changes.sort(key=lambda change: change[0], reverse=True)
    for number, (timestamp, what) in enumerate(changes[:_MAX_CHANGES]):
        when = formatting.ago(timestamp, now=now)
        yield from _labelled("" if number else "Last changes", f"{when:<11} {what}")


def _span(seconds: float) -> str:
    """Return a span of time in its two largest units."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    first = next((index for index, (count, _) in enumerate(parts) if count), len(parts) - 1)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2] if count) or "0 s"
