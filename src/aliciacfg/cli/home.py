"""The home that a command works on: its files, edits of them, and the daemon that loads them."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aliciacfg import documents
from aliciacfg.api.answers.environments import EnvironmentsAnswer
from aliciacfg.cli import formatting, notices, options, sealing_keys
from aliciacfg.cli.answers import exit_if_refused, parse
from aliciacfg.cli.exits import EXIT_CODES, EXIT_FAILED, fail
from aliciacfg.cli.local_client import ask_daemon, next_active_environment
from aliciacfg.cli.suggestions import close_to, did_you_mean
from aliciacfg.errors import AliciacfgError, SourceError
from aliciacfg.file_errors import unwritable

if TYPE_CHECKING:
    from aliciacfg.core.file_check import FileProblem
    from aliciacfg.sealing.boxes import Keyring
    from aliciacfg.settings import Settings
    from aliciacfg.sources.file_edits import FileEdits
    from aliciacfg.sources.layers import Environment, Sources

_MAX_SHOWN = 5


def edits_of(settings: "Settings") -> "FileEdits":
    """Return edits of the files of a home, none yet."""
    from aliciacfg.sources.file_edits import FileEdits

    return FileEdits(environments_dir=Path(settings.environments_dir), schemas_dir=Path(settings.schemas_dir))


def environment_of(sources: "Sources", name: str) -> "Environment":
    """Return an environment of the files.

    There being none ends the program.

    Raises:
        SourceError: Its files cannot be read, so nothing is known of it.
    """
    found = sources.environments.get(name)
    if found is None:
        fail(
            f"there is no environment {name!r}; there are: {', '.join(sorted(sources.environments))}",
            EXIT_CODES["not_found"],
            hint=did_you_mean(close_to(name, sources.environments)),
        )
    if found.problems:
        raise SourceError(found.problems)
    return found


def require_readable(settings: "Settings", sources: "Sources", environment: str | None) -> None:
    """End the program if files cannot be read that have to be before an edit is checked, and comes into force.

    Args:
        settings: Name the home.
        sources: Its files.
        environment: The environment that is edited; None for all: then the active one has to be readable, as the daemon
            takes no edit while its files are broken.

    Raises:
        SourceError: They cannot.
    """
    name = environment or active_environment(settings)
    if environment is not None or name in sources.environments:
        environment_of(sources, name)


def active_environment(settings: "Settings") -> str:
    """Return the environment that is active, or that the next start activates."""
    from aliciacfg.storage.backend import database_in

    answer = ask_daemon(settings, "environments", None, {})
    if answer is not None:
        return parse(exit_if_refused(answer), EnvironmentsAnswer).active
    if not database_in(Path(settings.data_dir), settings.database_url).exists():
        return settings.environment
    return next_active_environment(settings)


def problems_with(
    settings: "Settings", edits: "FileEdits", keyring: "Keyring | None", service: str, *, environment: str | None = None
) -> "list[FileProblem]":
    """Return what would be wrong with a service, or with whole files, if edits were written.

    Args:
        settings: Name the files.
        edits: The edits.
        keyring: Opens sealed values; None leaves out what only they would show.
        service: The service.
        environment: Only this environment; None for all.
    """
    from aliciacfg.core.file_check import check_files
    from aliciacfg.sources.source_files import SourceFiles

    files = SourceFiles(settings)

    def found(texts: "Mapping[Path, str]") -> "list[FileProblem]":
        checked = check_files(
            lambda: files.load(texts), keyring, limits=settings.document_limits, environment=environment, only=service
        )
        return checked.problems

    problems = found(edits.texts)
    if not any(problem.configurations == [] for problem in problems):
        return problems
    # What is wrong with a file already is no reason to refuse an edit of another one.
    known = {(problem.file, problem.message) for problem in found({})}
    return [problem for problem in problems if problem.configurations or (problem.file, problem.message) not in known]


def problem_lines(problems: "Iterable[FileProblem]", service: str) -> list[str]:
    """Return a line for each problem of a service: the environments, the place, and what is wrong."""
    lines: list[str] = []
    for problem in problems:
        prefix = f"{service} in "
        where = ", ".join(name.removeprefix(prefix) for name in problem.configurations if name.startswith(prefix))
        place = f"{problem.pointer or '(document)'} in {where}" if where else f"{problem.file}:{problem.line or 1}"
        lines.append(f"  {place}: {problem.message}")
    return lines


def refuse_if_invalid(path: Path, pointer: str, before: str, after: str, *, force: bool) -> None:
    """End the program before an edit of an environment file that makes the home invalid, or has a misspelt name.

    What was not valid before may stay so, with a warning: the next edit may correct it.

    Args:
        path: The file; one of another directory is not looked at.
        pointer: JSON Pointer of the place that is edited.
        before: The text of the file.
        after: Its text with the edit.
        force: Only warn.
    """
    from aliciacfg.core.file_check import check_files
    from aliciacfg.sources.source_files import SourceFiles

    settings = options.daemon_settings({}).settings
    environments = Path(settings.environments_dir)
    if path.resolve().parent != environments.resolve():
        return
    files = SourceFiles(settings)
    section, *names = documents.parse_pointer(pointer) or ("",)
    only = names[0] if section == "services" and names else None
    try:
        keyring = sealing_keys.keyring_of_home(settings)
        found, known = (
            check_files(
                lambda text=text: files.load({environments / path.name: text}),
                keyring,
                limits=settings.document_limits,
                only=only,
            )
            for text in (after, before)
        )
    except (AliciacfgError, OSError):
        # What cannot be read cannot be judged; `aliciacfg check` says why.
        return
    earlier = {(problem.pointer, problem.message) for problem in known.problems}
    fresh = [problem for problem in found.problems if (problem.pointer, problem.message) not in earlier]
    broken = {name for problem in known.problems for name in problem.configurations or [problem.file]}
    new = [problem for problem in fresh if broken.isdisjoint(problem.configurations or [problem.file])]
    label = f"{environments.name}/{path.name}"
    misspelt = [
        warning
        for warning in found.warnings
        if warning not in known.warnings and warning.file == label and "did you mean" in warning.message
    ]
    if (new or misspelt) and not force:
        lines = [_line_of(problem) for problem in [*new, *misspelt][:_MAX_SHOWN]]
        hint = "if it is meant, or the next edit completes it, add --force"
        fail("\n".join(["nothing was written:", *lines]), EXIT_CODES["validation_failed"], hint=hint)
    if fresh:
        lines = [_line_of(problem) for problem in fresh[:_MAX_SHOWN]]
        lines += [f"and {len(fresh) - _MAX_SHOWN} more: aliciacfg check"] if len(fresh) > _MAX_SHOWN else []
        notices.print_warning("\n".join(["this is not valid, so a daemon keeps the values before it:", *lines]))


def _line_of(problem: "FileProblem") -> str:
    where = f" in {formatting.some_of(problem.configurations, 2)}" if problem.configurations else ""
    return f"{problem.pointer or problem.file}{where}: {problem.message}"


def write(settings: "Settings", edits: "FileEdits") -> bool:
    """Write edits, have the running daemon load them, and return whether one runs here.

    That a file cannot be written ends the program; so does the daemon's refusal, once the files are written.
    """
    answer = _write(settings, edits)
    if answer is not None and answer.get("status") == "error":
        _refuse(edits, answer)
    return answer is not None


def load_edit(path: Path, *, force: bool) -> None:
    """Have the running daemon load an edit of an environment file that is written; its refusal ends the program.

    Args:
        path: The file; one of another directory is not looked at.
        force: Only say it.
    """
    settings = options.daemon_settings({}).settings
    if path.resolve().parent != Path(settings.environments_dir).resolve():
        return
    _note_other_machines(settings, [path])
    answer = ask_daemon(settings, "reload", None, {})
    if answer is not None and answer.get("status") == "error":
        notices.print_note(f"{path} is written, but the running daemon does not take it")
        if not force:
            exit_if_refused(answer)


def write_secrets(
    settings: "Settings", edits: "FileEdits", keyring: "Keyring | None", service: str | None
) -> tuple[bool, list[str]]:
    """Write edits as ``write`` does, but take a refusal for secrets that are still missing elsewhere.

    A schema with a new required secret comes into force when every environment has it, and each command sets one.

    Args:
        settings: Name the files.
        edits: The edits.
        keyring: Opens sealed values.
        service: The service whose secrets are set; None for all services.

    Returns:
        Whether a running daemon has loaded the files; and the commands that set what it waits for.
    """
    answer = _write(settings, edits)
    if answer is None or answer.get("status") != "error":
        return answer is not None, []
    missing = _missing_secrets(settings, keyring, service)
    if not missing:
        _refuse(edits, answer)
    return False, missing


def _write(settings: "Settings", edits: "FileEdits") -> "dict[str, Any] | None":
    """Write edits and return what the running daemon answers to it; None if none runs here."""
    try:
        edits.write()
    except OSError as error:
        fail(unwritable(_file_of(error, edits, settings), error), EXIT_FAILED)
    _note_other_machines(settings, edits.texts)
    return ask_daemon(settings, "reload", None, {})


def _note_other_machines(settings: "Settings", files: "Iterable[Path]") -> None:
    """Say that an edit is on this machine only, if daemons on others may have the same home."""
    if settings.database_url is not None:
        names = ", ".join(sorted(map(str, files)))
        notices.print_note(f"copy {names} to the other machines of the home, unless they share the files")


def _file_of(error: OSError, edits: "FileEdits", settings: "Settings") -> Path:
    """Return the file that could not be written, by the name that the command line has for it."""
    if error.filename is None:
        return Path(settings.environments_dir)
    found = Path(os.fsdecode(error.filename))
    return next((path for path in edits.texts if path.resolve() == found), found)


def _refuse(edits: "FileEdits", answer: "dict[str, Any]") -> None:
    written = ", ".join(map(str, edits.texts))
    notices.print_note(f"{written} is written, but the running daemon does not take it")
    exit_if_refused(answer)


def _missing_secrets(settings: "Settings", keyring: "Keyring | None", service: str | None) -> list[str]:
    """Return the commands that set the missing secrets; none if anything else is wrong with the configurations."""
    from aliciacfg.core.composer import Composer
    from aliciacfg.core.file_check import check_files
    from aliciacfg.core.missing_secrets import find_missing
    from aliciacfg.sealing.boxes import Keyring
    from aliciacfg.sources.source_files import SourceFiles

    sources = SourceFiles(settings).load()
    composer = Composer(sources, keyring or Keyring.ephemeral(), limits=settings.document_limits)
    services = None if service is None else [service]
    places: dict[tuple[str, str], str] = {}
    for name, environment in sources.environments.items():
        if service is None or service in environment.services:
            missing = find_missing(composer, environment, services=services)
            found = [(item.service, item.pointer) for item in missing.needed]
            found += [(made, pointer) for made, pointers in missing.made.items() for pointer in pointers]
            command = "aliciacfg secret set {} {} -e {}"
            places |= {(f"{of} in {name}", pointer): command.format(of, pointer, name) for of, pointer in found}
    wrong = check_files(lambda: sources, keyring, limits=settings.document_limits, only=service).problems
    if any((name, item.pointer) not in places for item in wrong for name in item.configurations or [""]):
        return []
    return list(places.values())
