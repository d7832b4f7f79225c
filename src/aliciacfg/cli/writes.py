"""The commands that change configurations: set, patch, unset, delete, rollback, batch."""

import sys
from typing import Any, NoReturn

import click
import msgspec

from aliciacfg.cli import formatting, inputs, notices, options, output
from aliciacfg.cli.answers import parse, print_answer, refusal_code
from aliciacfg.cli.client import Target, ask
from aliciacfg.cli.exits import EXIT_CODES, fail
from aliciacfg.cli.inputs import read_object
from aliciacfg.cli.output import Line
from aliciacfg.cli.plain_secrets import warn_of_plain_secrets
from aliciacfg.cli.write_results import WriteResult, effect_lines, success_lines
from aliciacfg.documents import Json, JsonObject, type_name


class _BatchResult(msgspec.Struct):
    """The results of a batch, in the order of its updates."""

    results: list[WriteResult]
    applied: int
    failed: int


@click.command("set")
@click.argument("service")
@click.argument("file")
@options.force
@options.write
@click.pass_obj
def set_(target: Target, service: str, file: str, *, answer: bool, **fields: Any) -> None:
    """Replace the configuration of SERVICE with FILE.

    FILE is JSON or YAML, - for standard input, or the JSON itself.

    Examples:
        aliciacfg set voice_router voice_router.yaml --dry-run
        aliciacfg get voice_router | jq '.limits.x = 5' | aliciacfg set voice_router -
    """
    _write(target, "set", service, {"config": read_object(file), **fields}, answer=answer)


@click.command()
@click.argument("service")
@click.argument("file")
@options.force
@options.write
@click.pass_obj
def patch(target: Target, service: str, file: str, *, answer: bool, **fields: Any) -> None:
    """Apply a merge patch (RFC 7396) to SERVICE.

    FILE is JSON or YAML, - for standard input, or the JSON itself, for example '{"limits": {"x": 5}}'.

    Examples:
        aliciacfg patch voice_router '{"limits": {"x": 5}}' -m "for the party"
        aliciacfg patch voice_router changes.yaml --dry-run
        aliciacfg patch voice_router '{"limits": {"x": null}}' --allow-breaking
    """
    _write(target, "patch", service, {"patch": read_object(file), **fields}, answer=answer)


@click.command()
@click.argument("service")
@click.argument("pointer")
@options.write
@click.pass_obj
def unset(target: Target, service: str, pointer: str, *, answer: bool, **fields: Any) -> None:
    """Remove the run-time change at POINTER of SERVICE.

    POINTER is, for example, /limits/x. The value from the files applies again.

    Examples:
        aliciacfg unset voice_router /limits/x
    """
    found = _write(target, "unset", service, {"pointer": pointer, **fields}, answer=answer)
    if found.get("unchanged") and output.for_people():
        from aliciacfg.cli import lookups

        changed = lookups.pointers(target, service, fields.get("environment"), overlay=True)
        notices.print_hint(
            lookups.meant_pointer(pointer, changed)
            or f"at run time {formatting.fitting(changed, output.width()) or 'nothing'} was changed"
        )


@click.command()
@click.argument("service")
@options.write
@click.pass_obj
def delete(target: Target, service: str, *, answer: bool, **fields: Any) -> None:
    """Remove all run-time changes of SERVICE.

    If the files define SERVICE, their configuration applies again. Otherwise SERVICE has no configuration afterwards.

    Examples:
        aliciacfg delete voice_router --dry-run
        aliciacfg delete voice_router
    """
    _write(target, "delete", service, fields, answer=answer)


@click.command()
@click.argument("service")
@click.argument("revision", type=click.IntRange(min=1))
@options.write
@click.pass_obj
def rollback(target: Target, service: str, revision: int, *, answer: bool, **fields: Any) -> None:
    """Restore an old REVISION of SERVICE.

    The restored content becomes a new revision and is validated like any write. `history` lists the revisions.

    Examples:
        aliciacfg rollback voice_router 3 --dry-run
        aliciacfg rollback voice_router 3 -m "it was louder before"
    """
    _write(target, "rollback", service, {"revision": revision, **fields}, answer=answer)


@click.command()
@click.argument("file")
@click.option("--atomic", is_flag=True, help="Apply all updates or none; default: all valid ones.")
@options.environment
@options.dry_run
@options.comment
@options.allow_breaking
@options.force
@click.pass_obj
def batch(target: Target, file: str, *, atomic: bool, **fields: Any) -> None:
    """Apply several writes in one transaction.

    FILE is JSON or YAML, - for standard input, or the JSON itself: a list of updates, or an object with such a list
    as `updates`. An update names its `service` and has either `config`, as for `set`, or `patch`, as for `patch`; it
    may have `expected_revision`. The exit code is the highest one among the updates.

    Examples:
        aliciacfg batch changes.yaml --dry-run
        aliciacfg batch --atomic '[{"service": "tts_service", "patch": {"limits": {"x": 5}}}]'
    """
    updates, atomic_in_file = _updates(inputs.read_document(file))
    request = {"updates": updates, "atomic": atomic or atomic_in_file, **fields}
    found = ask(target, "batch", None, options.request_fields(request))
    verb = "would be applied" if fields.get("dry_run") else "applied"

    def render(batch: _BatchResult) -> list[Line]:
        lines: list[Line] = []
        for update, result in zip(updates, batch.results, strict=False):
            lines += _result_lines(str(update.get("service")), result)
        return [*lines, f"{batch.applied} {verb}, {batch.failed} refused"]

    def names_of(_: _BatchResult) -> list[str]:
        return [str(update.get("service")) for update in updates]

    results = print_answer(found, _BatchResult, render, names=names_of).results
    sys.exit(max((refusal_code(result.code) for result in results if result.status == "error"), default=0))


def _write(target: Target, operation: str, service: str, fields: dict[str, Any], *, answer: bool) -> JsonObject:
    """Send a write, print its result, and return the answer.

    People get the message and the changes, and with ``answer`` the whole answer.
    """
    found = ask(target, operation, service, options.request_fields(fields))
    if answer:
        output.print_document(found)
    else:
        output.print_result(found, lambda: success_lines(parse(found, WriteResult)))
    sent: JsonObject = fields.get("config") or fields.get("patch") or {}
    warn_of_plain_secrets(target, service, sent, found)
    return found


def _result_lines(service: str, result: WriteResult) -> list[Line]:
    """Return the lines for one update of a batch."""
    if result.status != "error":
        return [[("ok       ", "green"), result.message], *effect_lines(result, " " * 9)]
    return [
        [("refused  ", "red"), f"{service}: {result.code}: {result.message}"],
        *output.problem_lines(result.problems, " " * 11),
    ]


def _updates(document: Json) -> tuple[list[JsonObject], bool]:
    """Return the updates of a batch file, and whether it asks for all or none; end the program if it has no updates."""
    atomic: Json = False
    if isinstance(document, dict):
        unknown = sorted(document.keys() - {"updates", "atomic"})
        if unknown or "updates" not in document:
            _refuse(f"found an object with {', '.join(map(repr, unknown)) or 'no updates'}")
        atomic = document.get("atomic", False)
        document = document["updates"]
    if not isinstance(atomic, bool):
        _refuse(f"/atomic: found {type_name(atomic)}; expected true or false")
    if not isinstance(document, list):
        _refuse(f"found {type_name(document)}")
    if not document:
        _refuse("found an empty list")
    updates: list[JsonObject] = []
    for number, update in enumerate(document):
        if not isinstance(update, dict):
            _refuse(f"/{number}: found {type_name(update)}; expected an object with service and config or patch")
        updates.append(update)
    for number, update in enumerate(updates):
        if "service" not in update:
            _refuse(f"/{number}: service is missing")
    return updates, atomic


def _refuse(found: str) -> NoReturn:
    fail(
        f'the batch: {found}. Write a list of updates, [{{"service": …, "patch": …}}, …], or an object with such a '
        "list as updates",
        EXIT_CODES["invalid_request"],
    )
