"""The variables of a service, as the commands ``env`` and ``exec`` get them from its configuration."""

from collections.abc import Collection
from typing import NoReturn

import click

from aliciacfg.cli import formatting, notices
from aliciacfg.cli.client import Target, ask
from aliciacfg.cli.exits import EXIT_CODES, fail
from aliciacfg.documents import JsonObject
from aliciacfg.errors import Problem
from aliciacfg.variables.resolution import NameOf, Resolution, Variable, names_in, resolve

_MAX_NAMED = 6

derived = click.option(
    "--all",
    "derived",
    is_flag=True,
    help="Also values without x-env, under names made from their pointers, such as SETTINGS_MAX_SESSIONS.",
)
allow_redacted = click.option(
    "--allow-redacted", is_flag=True, help="Leave out secrets that cannot be read here, instead of failing."
)


def fetch(target: Target, service: str, environment: str | None) -> tuple[JsonObject, NameOf]:
    """Return a configuration, and what finds the variables that its schema names; no answer ends the program."""
    config = ask(target, "get", service, {"environment": environment})["config"]
    schema = ask(target, "schema", service, {"environment": environment})["schema"]
    if not isinstance(config, dict) or not isinstance(schema, dict):
        fail("The answer has another form than expected; does the daemon have this version?", EXIT_CODES["internal"])
    return config, names_in(schema)


def variables_of(
    service: str,
    config: JsonObject,
    name_of: NameOf,
    *,
    derived: bool,
    allow_redacted: bool,
    kept: Collection[str] = (),
) -> list[Variable]:
    """Return the variables of a configuration; one that cannot be set ends the program.

    Args:
        service: The service.
        config: Its configuration.
        name_of: Finds the variables that the schema names.
        derived: Whether values without such a name become variables too.
        allow_redacted: Leave out secrets that cannot be read.
        kept: Variables that are set already; a secret that cannot be read keeps what it has.
    """
    found = resolve(config, name_of, derived=derived or None)
    if found.problems:
        _fail(f"the configuration of {service} cannot be set as variables:", found.problems)
    if missing := hidden_problem(service, found, kept=kept, allow_redacted=allow_redacted):
        fail(missing, EXIT_CODES["forbidden"])
    for note in notes(found, kept=kept):
        notices.print_note(note)
    return found.variables


def hidden_problem(service: str, found: Resolution, *, kept: Collection[str], allow_redacted: bool) -> str | None:
    """Return what to say if secrets cannot be read that nothing else sets; None without such."""
    missing = [f"{name} ({pointer})" for name, pointer in found.hidden if name not in kept]
    if not missing or allow_redacted:
        return None
    return (
        f"secrets of {service} that cannot be read here: {formatting.some_of(missing, _MAX_NAMED)}. "
        "Give the service a key (`aliciacfg recipient`) and name its file in ALICIACFG_KEY_FILE; or set these "
        "variables yourself; or leave them out with --allow-redacted"
    )


def notes(found: Resolution, *, kept: Collection[str]) -> list[str]:
    """Return what a person should know of variables that are not set."""
    lines = [
        f"{name} keeps the value that it has: {pointer} is a secret that cannot be read here"
        if name in kept
        else f"{name} is left out: {pointer} is a secret that cannot be read here"
        for name, pointer in found.hidden
    ]
    return [*lines, *(f"left out {problem.pointer}: {problem.message}" for problem in found.left_out)]


def _fail(head: str, problems: list[Problem]) -> NoReturn:
    fail(head, EXIT_CODES["validation_failed"], problems=problems)
