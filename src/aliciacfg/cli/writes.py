"""Commands that change configurations, and what they tell of the change."""

import sys
from typing import Any, NoReturn

import click

from aliciacfg.cli import formatting, inputs, options, output
from aliciacfg.cli.client import Target, ask, refusal_code, typed
from aliciacfg.cli.exits import EXIT_CODES, fail
from aliciacfg.cli.inputs import read_object
from aliciacfg.documents import Json, JsonObject, type_name
from aliciacfg.errors import Problem


@click.command("set")
@click.argument("service")
@click.argument("file")
@options.write
@click.pass_obj
def set_(target: Target, service: str, file: str, *, answer: bool, **fields: Any) -> None:
    """Make FILE the configuration of SERVICE.

    FILE is JSON or YAML, - for standard input, or the JSON itself.
    """
    write(target, "set", service, {"config": read_object(file), **fields}, answer=answer)


@click.command()
@click.argument("service")
@click.argument("file")
@options.write
@click.pass_obj
def patch(target: Target, service: str, file: str, *, answer: bool, **fields: Any) -> None:
    """Apply a merge patch (RFC 7396) to SERVICE.

    FILE is JSON or YAML, - for standard input, or the JSON itself, for example '{"limits": {"x": 5}}'.
    """
    write(target, "patch", service, {"patch": read_object(file), **fields}, answer=answer)


@click.command()
@click.argument("service")
@click.argument("pointer")
@options.write
@click.pass_obj
def unset(target: Target, service: str, pointer: str, *, answer: bool, **fields: Any) -> None:
    """Drop what was changed at POINTER of SERVICE.

    POINTER is, for example, /limits/x; the files' value shows again.
    """
    write(target, "unset", service, {"pointer": pointer, **fields}, answer=answer)


@click.command()
@click.argument("service")
@options.write
@click.pass_obj
def delete(target: Target, service: str, *, answer: bool, **fields: Any) -> None:
    """Drop all that was changed of SERVICE.

    Without a file that defines SERVICE, its configuration ends.
    """
    write(target, "delete", service, fields, answer=answer)


@click.command()
@click.argument("service")
@click.argument("revision", type=click.IntRange(min=1))
@options.write
@click.pass_obj
def rollback(target: Target, service: str, revision: int, *, answer: bool, **fields: Any) -> None:
    """Bring an old REVISION of SERVICE back.

    A new revision with the content of the old one, checked like any write; `history` lists them.
    """
    write(target, "rollback", service, {"revision": revision, **fields}, answer=answer)


@click.command()
@click.argument("file")
@click.option("--atomic", is_flag=True, help="All or none; otherwise all that is valid.")
@options.environment
@options.dry_run
@options.comment
@options.allow_breaking
@click.pass_obj
def batch(target: Target, file: str, *, atomic: bool, **fields: Any) -> None:
    """Carry out several writes in one transaction.

    FILE is JSON or YAML, - for standard input, or the JSON itself: a list of updates, each with `service` and either
    `config` as for `set` or `patch` as for `patch`, and `expected_revision` if it matters; or an object with such a
    list as `updates`. The exit code is the highest of those that the updates have by themselves.
    """
    updates, atomic_in_file = _updates(inputs.read_document(file))
    request = {"updates": updates, "atomic": atomic or atomic_in_file, **fields}
    found = ask(target, "batch", None, options.given(request))
    listed = found.get("results")
    results = [result for result in listed if isinstance(result, dict)] if isinstance(listed, list) else []
    if output.for_people():
        for update, result in zip(updates, results, strict=False):
            output.lines(_result_lines(str(update.get("service")), result))
        verb = "would be applied" if fields.get("dry_run") else "applied"
        output.lines([f"{found.get('applied')} {verb}, {found.get('failed')} refused"])
    else:
        output.show(found)
    sys.exit(max((refusal_code(result) for result in results if result.get("status") == "error"), default=0))


def write(target: Target, operation: str, service: str, fields: dict[str, Any], *, answer: bool) -> None:
    """Ask for a write, and print what it did; for people a sentence and what changed."""
    found = ask(target, operation, service, options.given(fields))
    if answer or not output.for_people():
        output.show(found)
    else:
        output.lines([str(found.get("message")), *_effect_lines(found)])


def _effect_lines(answer: JsonObject, indent: str = "") -> list[output.Line]:
    """What a write changed, or what it would change."""
    if answer.get("unchanged"):
        found: list[output.Line] = []
    elif "difference" in answer:
        difference = typed(answer["difference"], dict[str, list[dict[str, Any]]])
        found = [f"{indent}would change:", *formatting.difference_lines(difference, f"{indent}  ")]
    else:
        found = _listed_lines(answer, "changed", indent)
    return [*found, *_listed_lines(answer, "restart_required", indent), *_listed_lines(answer, "warnings", indent)]


def _listed_lines(answer: JsonObject, key: str, indent: str) -> list[output.Line]:
    listed = answer.get(key)
    if not isinstance(listed, list) or not listed:
        return []
    return [f"{indent}{key.replace('_', ' ')}:", *(f"{indent}  {item or '(document)'}" for item in listed)]


def _result_lines(service: str, result: JsonObject) -> list[output.Line]:
    """One update of a batch."""
    if result.get("status") != "error":
        return [[("ok       ", "green"), str(result.get("message"))], *_effect_lines(result, " " * 11)]
    problems = typed(result.get("problems") or [], list[Problem])
    return [
        [("refused  ", "red"), f"{service}: {result.get('code')}: {result.get('message')}"],
        *(f"{' ' * 11}{problem.pointer or '(document)'}: {problem.message}" for problem in problems),
    ]


def _updates(document: Json) -> tuple[list[JsonObject], bool]:
    """The updates of a batch file, and whether it asks for all or none."""
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
    updates: list[JsonObject] = []
    for number, update in enumerate(document):
        if not isinstance(update, dict):
            _refuse(f"/{number}: found {type_name(update)}; expected an object with service and config or patch")
        updates.append(update)
    return updates, atomic


def _refuse(what: str) -> NoReturn:
    fail(
        f'the batch: {what}. Write a list of updates, [{{"service": …, "patch": …}}, …], or an object with it as '
        "updates",
        EXIT_CODES["invalid_request"],
    )
