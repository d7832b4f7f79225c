"""How a command asks the daemon over the network: what is refused, or not answered, ends the program."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from aliciacfg.cli import lookups, progress, requests
from aliciacfg.cli.answers import exit_if_refused
from aliciacfg.cli.daemon_reads import DaemonReads
from aliciacfg.cli.exits import EXIT_FAILED, EXIT_NO_ANSWER, exit_on_error, fail
from aliciacfg.cli.loop import run
from aliciacfg.cli.requests import Target
from aliciacfg.documents import JsonObject
from aliciacfg.errors import BrokerUnavailable, OperationError
from aliciacfg.model import names

__all__ = ["Target", "ask", "ask_nearest", "published_key"]


def ask(target: Target, operation: str, name: str | None, fields: dict[str, Any]) -> JsonObject:
    """Send a request and return its answer. A refusal, or no answer, ends the program with its exit code.

    Args:
        target: Where to send it.
        operation: A name of the operations table.
        name: The service or environment that it concerns.
        fields: The request's fields.
    """
    if name is not None and (problem := _name_problem(operation, name)):
        # Refused here, because the name would change the topic or the path.
        return exit_if_refused({"status": "error", "code": "invalid_request", "message": problem, "problems": []})
    with _exit_without_answer(target), progress.shown("waiting for the daemon"):
        answer = requests.send(target, operation, name, fields)
    return exit_if_refused(answer, hint=lambda code: _hint(code, target, operation, name, fields))


def ask_nearest(target: Target, operation: str, fields: dict[str, Any], data_dir: str | None) -> JsonObject:
    """Send a request the way that ``DaemonReads.nearest`` finds, as ``ask`` does otherwise."""
    with _exit_without_answer(target):
        reads = DaemonReads.nearest(target, data_dir)
        if reads.settings is not None:
            return exit_if_refused(reads.ask(operation, None, fields))
    return ask(target, operation, None, fields)


def published_key(target: Target) -> tuple[str, JsonObject]:
    """Return the daemon's address, under which its key is pinned, and the sealing key that it publishes.

    A refusal, or no answer, ends the program with its exit code.
    """
    with _exit_without_answer(target):
        if target.http is None:
            return requests.broker(target).url, run(_published_key_mqtt(target))
        from aliciacfg.http import client

        answer = run(client.published_key(target.http, timeout_seconds=target.timeout_seconds, ca=target.ca))
        return target.http, exit_if_refused(answer)


@contextmanager
def _exit_without_answer(target: Target) -> Generator[None]:
    """End the program if no answer comes, or one that is not JSON."""
    with exit_on_error():
        try:
            yield
        except BrokerUnavailable as error:
            fail(str(error), EXIT_NO_ANSWER, hint=_broker_hint(target, error))
        except OperationError as error:
            fail(f"The answer does not come from a daemon: {error}", EXIT_FAILED)


def _broker_hint(target: Target, error: BrokerUnavailable) -> str:
    """Return what to do when no answer came."""
    from aliciacfg.bus.not_connected import NotConnected
    from aliciacfg.diagnosis.broker import what_listens

    found: str | None = None
    if target.http is None and isinstance(error.__cause__, NotConnected) and error.__cause__.reason == "ended":
        # Something is there, and it does not speak MQTT.
        found = run(what_listens(requests.broker(target)))
    return found or requests.without_answer(target)


def _hint(code: str, target: Target, operation: str, name: str | None, fields: dict[str, Any]) -> str | None:
    """Return what to do about a refused request; asks the daemon only after what was not found."""
    if code == "incompatible" and operation == "set":
        return f"to change some values and keep all others: aliciacfg patch {name} …"
    return lookups.meant(target, operation, name, fields) if code == "not_found" else None


async def _published_key_mqtt(target: Target) -> JsonObject:
    async with requests.connected(target) as client:
        # What is sealed with the key of another home opens in none of this one.
        await requests.refuse_other_home(target, client)
        return await client.published_key(timeout_seconds=target.timeout_seconds)


def _name_problem(operation: str, name: str) -> str | None:
    return names.environment_problem(name) if operation == "activate" else names.service_problem(name)
