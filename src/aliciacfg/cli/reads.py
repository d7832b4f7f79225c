"""Commands that read, check and follow configurations."""

import sys
from importlib import import_module
from pathlib import Path

import click

from aliciacfg import documents
from aliciacfg.cli import options, output
from aliciacfg.cli.client import Target, ask, connected
from aliciacfg.cli.exits import EXIT_CODES, EXIT_FAILED, EXIT_NO_ANSWER, fail
from aliciacfg.cli.inputs import read_object
from aliciacfg.cli.loop import run
from aliciacfg.documents import Json, JsonObject
from aliciacfg.errors import BrokerUnavailable
from aliciacfg.model import names

_MAX_LISTED = 8


@click.command()
@click.argument("service")
@options.environment
@click.option("--revision", type=int, metavar="N", help="An old one.")
@options.answer
@click.pass_obj
def get(target: Target, service: str, environment: str | None, revision: int | None, *, answer: bool) -> None:
    """Print the configuration of SERVICE, secrets as ***.

    Edit what it prints and give it to `set`: a *** that you leave alone keeps the secret.
    """
    found = ask(target, "get", service, {"environment": environment, "revision": revision})
    output.show(found if answer else found.get("config"))


@click.command()
@click.argument("service")
@click.argument("file")
@options.environment
@click.pass_obj
def validate(target: Target, service: str, file: str, environment: str | None) -> None:
    """Check FILE as a configuration of SERVICE.

    Lists everything that is wrong with it. Exit code 4 if it is invalid.
    """
    found = ask(target, "validate", service, {"config": read_object(file), "environment": environment})
    if not output.for_people():
        output.show(found)
    elif found.get("valid"):
        click.echo(f"{service}: valid")
    else:
        output.problems(found)
    if not found.get("valid"):
        sys.exit(EXIT_CODES["validation_failed"])


@click.command()
@click.argument("service")
@click.argument("struct", required=False)
@options.environment
@click.pass_obj
def schema(target: Target, service: str, struct: str | None, environment: str | None) -> None:
    """Print the JSON Schema of SERVICE, base contract included.

    `aliciacfg schema export package.module:Struct` writes one from a msgspec Struct instead.
    """
    if struct is None:
        output.show(ask(target, "schema", service, {"environment": environment}).get("schema"))
    elif service == "export":
        output.show(_export(struct))
    else:
        raise click.UsageError("schema takes one SERVICE, or: schema export package.module:Struct")


@click.command("list")
@options.environment
@click.option("--prefix", metavar="TEXT", help="Only services whose name begins so.")
@click.pass_obj
def list_(target: Target, environment: str | None, prefix: str | None) -> None:
    """List the configurations."""
    items: list[JsonObject] = []
    after: Json = None
    while True:
        page = ask(target, "list", None, {"environment": environment, "prefix": prefix, "after": after, "limit": 1000})
        configs = page.get("configs")
        items += [item for item in configs if isinstance(item, dict)] if isinstance(configs, list) else []
        after = page.get("next")
        if after is None:
            break
    if not output.for_people():
        output.print_json(list(items))
        return
    columns = ["service", "environment", "revision", "version", "checksum"]
    output.table(
        columns, [[str(item.get(name, ""))[: 12 if name == "checksum" else 64] for name in columns] for item in items]
    )


@click.command()
@click.argument("service", required=False)
@click.option("--count", type=int, metavar="N", help="Stop after N messages.")
@click.pass_obj
def watch(target: Target, service: str | None, count: int | None) -> None:
    """Follow the configuration of SERVICE.

    Prints the current one (default: of all services) and every change after it, over MQTT.
    """
    if target.http is not None:
        raise click.UsageError("watch listens over MQTT; leave --http out")
    if service is not None and (problem := names.service_problem(service)):
        raise click.UsageError(problem)
    try:
        run(_watch(target, service, count))
    except BrokerUnavailable as error:
        fail(str(error), EXIT_NO_ANSWER)
    except KeyboardInterrupt:
        sys.exit(0)


async def _watch(target: Target, service: str | None, count: int | None) -> None:
    async with connected(target) as client:
        seen = 0
        async for update in client.updates(service):
            if output.for_people():
                output.lines([_update_line(update)])
            else:
                output.write(documents.encode(update))
            seen += 1
            if count is not None and seen >= count:
                return


def _update_line(update: JsonObject) -> str:
    if update.get("deleted"):
        return f"{update['service']}  deleted"
    changed = update.get("changed")
    listed = ", ".join(str(pointer) for pointer in changed[:_MAX_LISTED]) if isinstance(changed, list) else ""
    more = f" and {len(changed) - _MAX_LISTED} more" if isinstance(changed, list) and len(changed) > _MAX_LISTED else ""
    restart = "  (restart required)" if update.get("restart_required") else ""
    return (
        f"{update.get('service')}  {update.get('environment')}  revision {update.get('revision')}  "
        f"version {update.get('version')}  changed {listed}{more}{restart}"
    )


def _export(struct: str) -> JsonObject:
    """A schema file from a msgspec Struct, named ``package.module:Struct``."""
    from aliciacfg.schemas.base_contract import struct_schema  # noqa: PLC0415 - keeps the other commands quick

    module, _, name = struct.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        return struct_schema(getattr(import_module(module), name))
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        fail(f"{struct} cannot be exported: {error}; write package.module:Struct", EXIT_FAILED)
