"""Commands about whole environments and their files."""

import sys

import click
from msgspec import UnsetType

from aliciacfg.api.answers import ActivateAnswer, EnvironmentsAnswer, Migration, ReloadAnswer
from aliciacfg.api.fields import Difference
from aliciacfg.cli import formatting, options, output
from aliciacfg.cli.client import Target, ask, typed
from aliciacfg.cli.exits import EXIT_CODES
from aliciacfg.cli.local_client import administer
from aliciacfg.cli.output import Line


@click.command()
@click.pass_obj
def environments(target: Target) -> None:
    """List the environments and what is wrong with them."""
    found = ask(target, "environments", None, {})
    if not output.for_people():
        output.print_json(found)
        return
    answer = typed(found, EnvironmentsAnswer)
    output.table(
        ["name", "active", "protected", "services", "problems"],
        [
            [
                item.name,
                "yes" if item.name == answer.active else "",
                "yes" if item.protected else "",
                str(len(item.services)),
                [(str(len(item.problems)), "red" if item.problems else "")],
            ]
            for item in answer.environments
        ],
    )
    for item in answer.environments:
        for problem in item.problems:
            output.complain(f"  {problem.pointer or '(document)'}: {problem.message}")


@click.command()
@click.argument("environment")
@options.dry_run
@options.comment
@click.pass_obj
def activate(target: Target, environment: str, *, dry_run: bool, comment: str | None) -> None:
    """Make ENVIRONMENT the active one.

    Every service gets the configuration that it has there; nothing changes if one of them would be invalid.
    """
    found = ask(target, "activate", environment, options.given({"dry_run": dry_run, "comment": comment}))
    if not output.for_people():
        output.print_json(found)
        return
    answer = typed(found, ActivateAnswer)
    output.lines([answer.message, *_services_lines(answer.changed, answer.restart_required, answer.difference)])


@click.command()
@options.dry_run
@click.pass_obj
def reload(target: Target, *, dry_run: bool) -> None:
    """Make the daemon read its files now.

    Prints what changed, or everything that is wrong.
    """
    found = ask(target, "reload", None, options.given({"dry_run": dry_run}))
    if not output.for_people():
        output.print_json(found)
        return
    answer = typed(found, ReloadAnswer)
    output.lines([answer.message, *_services_lines(answer.changed, answer.restart_required, answer.difference)])
    if answer.migrations:
        waiting = ", ".join(migration.service for migration in answer.migrations)
        output.lines([[("Migrations wait", "yellow"), f" for {waiting}; see: aliciacfg migrate --dry-run"]])


@click.command()
@options.dry_run
@click.option("--data-dir", metavar="DIR", help="Migrate here, through the daemon of DIR or alone if none runs.")
@click.pass_obj
def migrate(target: Target, *, dry_run: bool, data_dir: str | None) -> None:
    """Carry out the schema migrations that wait.

    What was changed at run time follows its schema to a new major version, each service all or nothing. Exit code 4
    if one cannot be migrated.
    """
    fields = options.given({"migrate": True, "dry_run": dry_run})
    if data_dir is None:
        found = ask(target, "reload", None, fields)
    else:
        found = administer("reload", None, fields, data_dir=data_dir)
    answer = typed(found, ReloadAnswer)
    if not output.for_people():
        output.print_json(found)
    elif answer.migrations:
        for migration in answer.migrations:
            output.lines(_migration_lines(migration, dry_run=answer.dry_run))
    else:
        output.lines(["There is nothing to migrate."])
    if any(migration.problems for migration in answer.migrations):
        sys.exit(EXIT_CODES["validation_failed"])


def _services_lines(changed: list[str], restart_required: list[str], difference: Difference | UnsetType) -> list[Line]:
    """What happens, or would happen, to the services of an environment."""
    found: list[Line] = []
    if isinstance(difference, UnsetType):
        found += [["  ", (service, "bold")] for service in changed]
    else:
        found += formatting.difference_lines(difference, "  ")
    if restart_required:
        found.append([("restart required: ", "yellow"), ", ".join(restart_required)])
    return found


def _migration_lines(migration: Migration, *, dry_run: bool) -> list[Line]:
    if migration.problems:
        fate, style = "cannot be migrated", "red"
    elif migration.done:
        fate, style = "migrated", "green"
    else:
        fate, style = "would be migrated" if dry_run else "not migrated", "yellow"
    versions = f"{migration.from_version} → {migration.to_version}"
    found: list[Line] = [[(migration.service, "bold"), f"  {versions}  ", (fate, style)]]
    if migration.files:
        found.append(f"  by {', '.join(migration.files)}")
    if migration.environments:
        found.append(f"  run-time changes in {', '.join(migration.environments)}")
    found += [
        [("  ✗ ", "red"), f"{problem.pointer or '(document)'}: {problem.message}"] for problem in migration.problems
    ]
    if not isinstance(migration.difference, UnsetType):
        found += formatting.difference_lines(migration.difference, "  ")
    return found
