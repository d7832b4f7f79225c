"""The commands that read and check configurations: get, validate, schema, list, watch."""

import asyncio
import sys
import time
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click
import msgspec

from aliciacfg import documents
from aliciacfg.api.answers.configurations import ListAnswer, ListItem, ValidateAnswer
from aliciacfg.cli import formatting, notices, options, output, output_format, times
from aliciacfg.cli.answers import parse, print_answer
from aliciacfg.cli.client import Target, ask
from aliciacfg.cli.exits import EXIT_CODES, EXIT_FAILED, exit_on_error, fail
from aliciacfg.cli.inputs import read_object
from aliciacfg.cli.loop import run
from aliciacfg.cli.masking import without_boxes_anywhere
from aliciacfg.cli.output import Line, Table
from aliciacfg.cli.refused_edits import warn_of_refused_edits
from aliciacfg.cli.requests import connected, note_home, warn_of_other_home
from aliciacfg.cli.suggestions import close_to, did_you_mean
from aliciacfg.documents import Json, JsonObject
from aliciacfg.errors import AliciacfgError
from aliciacfg.model import names

if TYPE_CHECKING:
    from aliciacfg.mqtt.client import MqttClient

_MAX_LISTED = 8
_PAGE = 1000
_CHECKSUM_WIDTH = 12


class _Page(msgspec.Struct):
    """A page of ``list``; the items stay as they are, for the output to programs."""

    configs: list[dict[str, Any]]
    next: str | None


@click.command()
@click.argument("service")
@options.environment
@click.option("--revision", type=int, metavar="N", help="An old revision; default: the current one.")
@options.answer
@click.pass_obj
def get(target: Target, service: str, environment: str | None, revision: int | None, *, answer: bool) -> None:
    """Print the configuration of SERVICE, with secrets as ***.

    Edit the output and pass it to `set`: a *** that stays in its place keeps the secret. If SERVICE has a key of its
    own, programs (-o json, a pipe) get each secret sealed to it, which keeps the secret as well.

    Examples:
        aliciacfg get voice_router
        aliciacfg get voice_router -e prod -o yaml
        aliciacfg get voice_router --revision 3 -o table
    """
    found = ask(target, "get", service, {"environment": environment, "revision": revision})
    shown = found if answer else found.get("config")
    output.print_document(without_boxes_anywhere(shown) if output.document_is_for_people() else shown)
    warn_of_refused_edits(found)


@click.command()
@click.argument("service")
@click.argument("file")
@options.environment
@click.pass_obj
def validate(target: Target, service: str, file: str, environment: str | None) -> None:
    """Check whether FILE is a valid configuration of SERVICE.

    FILE is JSON or YAML, - for standard input, or the JSON itself. Lists every problem. Exit code 4 if it is invalid.

    Examples:
        aliciacfg validate voice_router voice_router.yaml
        aliciacfg get voice_router -e dev | aliciacfg validate voice_router - -e prod
    """
    found = ask(target, "validate", service, {"config": read_object(file), "environment": environment})

    def render(answer: ValidateAnswer) -> list[str]:
        warnings = [f"warning: {warning}" for warning in answer.warnings]
        state = f"{service}: {'valid' if answer.valid else 'invalid'}"
        return [state, *output.problem_lines(answer.problems), *warnings]

    def names_of(answer: ValidateAnswer) -> list[str]:
        return [problem.pointer or "(document)" for problem in answer.problems]

    if not print_answer(found, ValidateAnswer, render, names=names_of).valid:
        sys.exit(EXIT_CODES["validation_failed"])


@click.command()
@click.argument("service")
@click.argument("struct", required=False)
@options.environment
@click.pass_obj
def schema(target: Target, service: str, struct: str | None, environment: str | None) -> None:
    """Print the JSON Schema of SERVICE, base contract included.

    `aliciacfg schema export package.module:Struct` prints one for a msgspec Struct instead.

    Examples:
        aliciacfg schema voice_router
        aliciacfg schema export my_service.settings:Settings > schemas/my_service.json
    """
    if struct is None:
        output.print_document(ask(target, "schema", service, {"environment": environment}).get("schema"))
    elif service == "export":
        output.print_document(_export(struct))
    else:
        raise click.UsageError("schema takes one SERVICE, or: schema export package.module:Struct")


@click.command("list")
@options.environment
@click.option("--prefix", metavar="TEXT", help="Only services whose names begin with TEXT.")
@times.option
@click.pass_obj
def list_(target: Target, environment: str | None, prefix: str | None) -> None:
    """List the configurations.

    Examples:
        aliciacfg list
        aliciacfg list -e prod --prefix voice
        aliciacfg list -o name | xargs -n1 aliciacfg get
    """
    fields: dict[str, Json] = {"environment": environment, "prefix": prefix, "limit": _PAGE}
    first = ask(target, "list", None, fields)
    page = parse(first, _Page)
    configs = page.configs
    while page.next is not None:
        page = parse(ask(target, "list", None, {**fields, "after": page.next}), _Page)
        configs += page.configs
    output.print_result(configs, lambda: [_table(parse(configs, list[ListItem]))])
    warn_of_refused_edits(first)


@click.command()
@click.argument("service", required=False)
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="Stop after N messages.")
@click.pass_obj
def watch(target: Target, service: str | None, count: int | None) -> None:
    """Print the configuration of SERVICE and follow its changes.

    Without SERVICE, those of all services. Works over MQTT only.

    Examples:
        aliciacfg watch
        aliciacfg watch voice_router | jq .config.limits
    """
    if target.http is not None:
        raise click.UsageError("watch works over MQTT only; leave --http out")
    if service is not None and (problem := names.service_problem(service)):
        raise click.UsageError(problem)
    try:
        with exit_on_error():
            run(_watch(target, service, count))
    except KeyboardInterrupt:
        sys.exit(0)


async def _watch(target: Target, service: str | None, count: int | None) -> None:
    async with connected(target) as client:
        seen = 0
        asking = None if service is None else asyncio.create_task(_note_if_missing(target, client, service))
        try:
            async for update in client.updates(service):
                await warn_of_other_home(target, client)
                await note_home(target, client)
                _print_update(update)
                seen += 1
                if count is not None and seen >= count:
                    return
        finally:
            if asking is not None:
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)


async def _note_if_missing(target: Target, client: "MqttClient", service: str) -> None:
    """Say that there is nothing to follow yet, which may come or be a mistyped name; without an answer say nothing."""
    ask = partial(client.ask, timeout_seconds=target.timeout_seconds)
    try:
        if (await ask("get", service, {})).get("code") != "not_found":
            return
        await warn_of_other_home(target, client)
        await note_home(target, client)
        listed = await ask("list", None, {"limit": _PAGE})
        known = [item.service for item in msgspec.convert(listed, ListAnswer).configs]
    except (AliciacfgError, msgspec.ValidationError):
        return
    notices.print_note(f"{service} has no configuration; waiting for its first one")
    if meant := did_you_mean(close_to(service, known)):
        notices.print_hint(meant)


def _print_update(update: JsonObject) -> None:
    """Print a message in a form of which many can follow each other: a line, or a document of YAML."""
    match output_format.current():
        case "table":
            output.print_blocks([_update_line(update)])
        case "name":
            output.write(str(update.get("service")).encode())
        case "yaml":
            output.write(b"---")
            output.print_yaml(update)
        case "json":
            output.write(documents.encode(update))


def _table(items: list[ListItem]) -> Table:
    now = time.time()
    rows: list[list[Line]] = [
        [
            item.service,
            item.environment,
            str(item.revision),
            item.version,
            formatting.when(item.last_updated, now=now),
            [(item.checksum[:_CHECKSUM_WIDTH], "dim")],
        ]
        for item in items
    ]
    return Table(
        ["service", "environment", "revision", "version", "changed", "checksum"], rows, empty="No configurations."
    )


def _update_line(update: JsonObject) -> str:
    if update.get("deleted"):
        return f"{update['service']}  deleted"
    changed = update.get("changed")
    listed = formatting.some_of([str(pointer) for pointer in changed], _MAX_LISTED) if isinstance(changed, list) else ""
    restart = "  (restart required)" if update.get("restart_required") else ""
    return (
        f"{update.get('service')}  {update.get('environment')}  revision {update.get('revision')}  "
        f"version {update.get('version')}  changed {listed}{restart}"
    )


def _export(struct: str) -> JsonObject:
    """Return the schema file for a msgspec Struct, named ``package.module:Struct``."""
    from aliciacfg.schemas.base_contract import struct_schema

    module, _, name = struct.partition(":")
    sys.path.insert(0, "")
    try:
        return struct_schema(getattr(import_module(module), name))
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        fail(f"{struct} cannot be exported: {error}; write package.module:Struct", EXIT_FAILED)
