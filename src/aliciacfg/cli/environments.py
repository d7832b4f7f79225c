"""The commands about whole environments and their files: environments, activate, reload, migrate."""

import sys
from dataclasses import replace

import click
from msgspec import UnsetType

from aliciacfg.api.answers.environments import (
    ActivateAnswer,
    EnvironmentChange,
    EnvironmentItem,
    EnvironmentsAnswer,
    Migration,
    ReloadAnswer,
)
from aliciacfg.cli import changed_services, formatting, notices, options, output, problem_texts, prompts
from aliciacfg.cli.answers import parse, print_answer
from aliciacfg.cli.changed_services import ChangedServices
from aliciacfg.cli.client import Target, ask
from aliciacfg.cli.exits import EXIT_CODES, EXIT_FAILED, fail
from aliciacfg.cli.local_client import administer
from aliciacfg.cli.output import Block, Line, Table
from aliciacfg.cli.write_results import broker_lines

_MAX_PROBLEMS = 5


@click.command()
@click.pass_obj
def environments(target: Target) -> None:
    """List the environments and their problems.

    Examples:
        aliciacfg environments
        aliciacfg environments -o name
    """
    print_answer(
        ask(target, "environments", None, {}),
        EnvironmentsAnswer,
        _environments_blocks,
        names=lambda answer: [item.name for item in answer.environments],
    )


@click.command()
@click.argument("environment")
@click.option("-y", "--yes", is_flag=True, help="Do not ask, although one of the two environments is protected.")
@options.dry_run
@options.comment
@click.pass_obj
def activate(target: Target, environment: str, *, yes: bool, dry_run: bool, comment: str | None) -> None:
    """Make ENVIRONMENT the active one.

    Every service gets its configuration of that environment. If one of them is invalid, nothing changes.

    If the file of ENVIRONMENT, or of the active one, says `protected: true`, it shows at a terminal what would change,
    and asks for the name. Without a terminal, as in a script, it asks nothing.

    Examples:
        aliciacfg activate prod --dry-run
        aliciacfg activate prod -m "the guests are gone"
    """
    asked = not (dry_run or yes) and prompts.can_ask() and _agreed_to_protected(target, environment)
    found = ask(target, "activate", environment, options.request_fields({"dry_run": dry_run, "comment": comment}))
    # Who was asked has seen what changes.
    lines = _activated_lines if asked else _activation_lines
    print_answer(found, ActivateAnswer, lines, names=lambda answer: answer.changed)


def _agreed_to_protected(target: Target, environment: str) -> bool:
    """Ask whether an environment is to become active, if it is protected or follows one that is; else end the program.

    Returns:
        False if nothing had to be asked: neither is protected, or the environment is active already.
    """
    # What another home has is nothing to ask about: the activation there is refused.
    known = parse(ask(replace(target, changing=True), "environments", None, {}), EnvironmentsAnswer)
    protected = {item.name for item in known.environments if item.protected}
    texts = {
        environment: f"{environment} is protected",
        known.active: f"{known.active} is protected, and active until then",
    }
    about = [text for name, text in texts.items() if name in protected]
    if not about or environment == known.active:
        return False
    trial = parse(ask(target, "activate", environment, {"dry_run": True}), ActivateAnswer)
    if output.for_people():
        output.print_blocks(_activation_lines(trial))
    notices.print_warning("; ".join(about))
    try:
        is_named = prompts.ask(f"Type {environment} to make it active", str.strip) == environment
    except click.Abort:
        fail(
            f"nothing was answered; {known.active} is still active", EXIT_FAILED, hint="--yes activates without asking"
        )
    if not is_named:
        fail(f"that is not the name; {known.active} is still active", EXIT_FAILED)
    return True


@click.command()
@options.dry_run
@click.pass_obj
def reload(target: Target, *, dry_run: bool) -> None:
    """Make the daemon load its files now.

    Prints what changed, or every problem of the files.

    Examples:
        aliciacfg reload --dry-run
        aliciacfg reload
    """
    found = ask(target, "reload", None, options.request_fields({"dry_run": dry_run}))
    print_answer(found, ReloadAnswer, _reload_lines, names=lambda answer: answer.changed)


@click.command()
@options.dry_run
@click.option(
    "--data-dir",
    metavar="DIR",
    callback=options.existing_data_dir,
    help="Migrate in this data directory, with or without a running daemon.",
)
@click.pass_obj
def migrate(target: Target, *, dry_run: bool, data_dir: str | None) -> None:
    """Run the pending schema migrations.

    Run-time changes move to the new major version of their schema, all changes of a service or none. Exit code 4 if a
    service cannot be migrated.

    Examples:
        aliciacfg migrate --dry-run
        aliciacfg migrate --data-dir /var/lib/aliciacfg
    """
    fields = options.request_fields({"migrate": True, "dry_run": dry_run})
    if data_dir is None:
        found = ask(target, "reload", None, fields)
    else:
        found = administer("reload", None, fields, data_dir=data_dir)
    answer = print_answer(
        found, ReloadAnswer, _migrations_lines, names=lambda answer: [item.service for item in answer.migrations]
    )
    if any(migration.problems for migration in answer.migrations):
        sys.exit(EXIT_CODES["validation_failed"])


def _environments_blocks(answer: EnvironmentsAnswer) -> list[Block]:
    rows: list[list[Line]] = [
        [
            item.name,
            "yes" if item.name == answer.active else "",
            "yes" if item.protected else "",
            str(len(item.services)),
            [(str(len(item.problems)), "red" if item.problems else "")],
        ]
        for item in answer.environments
    ]
    blocks: list[Block] = [Table(["name", "active", "protected", "services", "problems"], rows)]
    for item in answer.environments:
        blocks += _problems_lines(item, active=item.name == answer.active)
        # Those that are required are named with the problems, with the commands that make or set them.
        named = problem_texts.missing_in(item.problems if item.remedies else ())
        others = {
            service: [at for at in places if at not in named.get(service, ())]
            for service, places in item.lacking_secrets.items()
        }
        blocks += formatting.lacking_lines(item.name, others, than=answer.active)
    return blocks


def _problems_lines(item: EnvironmentItem, *, active: bool) -> list[Line]:
    hidden: list[Line] = [[("hidden: ", "yellow"), problem.message] for problem in item.hidden]
    if not item.problems:
        return hidden
    # Each message names file, line and place itself.
    found = problem_texts.lines(item.problems)
    shown = [f"  {line}" for line in found[:_MAX_PROBLEMS]]
    state = ": its files are refused, what was in force before serves:" if active else " cannot be activated:"
    lines: list[Line] = [[(f"{item.name}{state}", "bold")], *shown]
    if len(found) > _MAX_PROBLEMS:
        more = len(found) - _MAX_PROBLEMS
        lines.append([(f"  and {more} more; all of them: aliciacfg check -e {item.name}", "dim")])
    return [*lines, *formatting.remedy_lines(item.remedies), *hidden]


def _activation_lines(answer: ActivateAnswer) -> list[Line]:
    lacking = formatting.lacking_lines(answer.environment, answer.lacking_secrets, than=answer.previous)
    return [*_services_lines(answer), *lacking]


def _activated_lines(answer: ActivateAnswer) -> list[Line]:
    return [answer.message, *broker_lines(waits=answer.waits_for_broker)]


def _services_lines(answer: EnvironmentChange) -> list[Line]:
    """Return what happens, or would happen, to the services of an environment."""
    lines: list[Line] = [answer.message]
    lines += changed_services.lines(
        ChangedServices(
            changes=answer.changes,
            left_out=answer.changes_left_out,
            added=answer.added,
            removed=answer.removed,
            complete=not isinstance(answer.difference, UnsetType),
        )
    )
    if answer.restart_required:
        lines.append([("restart required: ", "yellow"), ", ".join(answer.restart_required)])
    return [*lines, *broker_lines(waits=answer.waits_for_broker)]


def _reload_lines(answer: ReloadAnswer) -> list[Line]:
    lines = _services_lines(answer)
    lines += [[("warning: ", "yellow"), warning] for warning in answer.warnings]
    if answer.migrations:
        pending = ", ".join(migration.service for migration in answer.migrations)
        lines.append([("Migrations pending", "yellow"), f" for {pending}; run: aliciacfg migrate --dry-run"])
    return lines


def _migrations_lines(answer: ReloadAnswer) -> list[Line]:
    lines: list[Line] = []
    for migration in answer.migrations:
        lines += _migration_lines(migration, dry_run=answer.dry_run)
    return lines or ["No migrations are pending."]


def _migration_lines(migration: Migration, *, dry_run: bool) -> list[Line]:
    if migration.problems:
        state, style = "cannot be migrated", "red"
    elif migration.done:
        state, style = "migrated", "green"
    else:
        state, style = "would be migrated" if dry_run else "not migrated", "yellow"
    versions = f"{migration.from_version} → {migration.to_version}"
    lines: list[Line] = [[(migration.service, "bold"), f"  {versions}  ", (state, style)]]
    if migration.files:
        lines.append(f"  by {', '.join(migration.files)}")
    if migration.environments:
        lines.append(f"  run-time changes in {', '.join(migration.environments)}")
    lines += [[("  ✗ ", "red"), line] for line in output.problem_lines(migration.problems, "")]
    complete = not isinstance(migration.difference, UnsetType)
    found = ChangedServices(migration.changes, migration.changes_left_out, complete=complete)
    return [*lines, *changed_services.lines(found, noun="environment")]
